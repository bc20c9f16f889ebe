//! Local evaluation once more, as one would write it with all the memory in the world: on `serde_json` values, with
//! `String`s, recursion and somebody else's SHA-1. It follows the text of the protocol, not the code it judges.

use serde_json::{Map, Value};

/// `true`, `false` or the name of a variant; `None` is inconclusive.
pub type Answer = Option<Value>;

/// Whom a flag is evaluated for.
#[derive(Debug)]
pub struct Person {
    pub distinct_id: String,
    pub properties: Map<String, Value>,
    /// Type, key and properties.
    pub groups: Vec<(String, String, Map<String, Value>)>,
}

/// 2026-03-01T12:00:05Z, in seconds.
pub const NOW: i64 = 1_772_366_405;

/// What a filter says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Says {
    Yes,
    No,
    Unclear,
    /// Unclear for the whole flag.
    Hopeless,
}

struct Evaluation<'a> {
    document: &'a Value,
    person: &'a Person,
    /// Flags that are being evaluated.
    path: Vec<String>,
}

/// What the flag `key` is for `person`.
pub fn evaluate(document: &Value, key: &str, person: &Person) -> Answer {
    Evaluation { document, person, path: Vec::new() }.flag(key)
}

impl Evaluation<'_> {
    fn flag(&mut self, key: &str) -> Answer {
        let flags = self.document["flags"].as_array()?;
        let flag = flags.iter().find(|flag| flag["key"] == key)?;
        if flag["ensure_experience_continuity"] == true {
            return None;
        }
        if flag["active"] != true {
            return Some(Value::Bool(false));
        }
        let filters = &flag["filters"];
        let group_index = filters["aggregation_group_type_index"].as_u64();
        let (id, properties, is_group) = match group_index {
            None => self.as_person(),
            Some(index) => {
                let kind = self.document["group_type_mapping"][index.to_string()].as_str()?.to_owned();
                match self.as_group(&kind) {
                    Some(group) => group,
                    None => return Some(Value::Bool(false)),
                }
            }
        };
        let mut unclear = false;
        for condition in filters["groups"].as_array().into_iter().flatten() {
            let own_index = condition.get("aggregation_group_type_index").map(Value::as_u64);
            let (id, properties, is_group) = match own_index {
                None => (id.clone(), properties.clone(), is_group),
                Some(own) if own == group_index => (id.clone(), properties.clone(), is_group),
                Some(None) => self.as_person(),
                Some(Some(index)) => {
                    let kind = self.document["group_type_mapping"][index.to_string()].as_str().unwrap_or_default();
                    match self.as_group(&kind.to_owned()) {
                        Some(group) => group,
                        None => continue,
                    }
                }
            };
            let mut says = Says::Yes;
            for filter in condition["properties"].as_array().into_iter().flatten() {
                says = self.filter(filter, &properties, is_group);
                if says != Says::Yes {
                    break;
                }
            }
            match says {
                Says::Hopeless => return None,
                Says::Unclear => unclear = true,
                Says::No => {}
                Says::Yes => {
                    let within = match condition["rollout_percentage"].as_f64() {
                        Some(percent) => hash(key, &id, "") <= percent / 100.0,
                        None => true,
                    };
                    if within {
                        return Some(variant(filters, condition, key, &id).unwrap_or(Value::Bool(true)));
                    }
                    if filters["early_exit"] == true && !unclear {
                        return Some(Value::Bool(false));
                    }
                }
            }
        }
        if unclear { None } else { Some(Value::Bool(false)) }
    }

    fn as_person(&self) -> (String, Map<String, Value>, bool) {
        let mut properties = self.person.properties.clone();
        properties.entry("distinct_id").or_insert_with(|| self.person.distinct_id.clone().into());
        (self.person.distinct_id.clone(), properties, false)
    }

    fn as_group(&self, kind: &String) -> Option<(String, Map<String, Value>, bool)> {
        let (_, key, properties) = self.person.groups.iter().find(|(known, ..)| known == kind)?;
        let mut properties = properties.clone();
        properties.entry("$group_key").or_insert_with(|| key.clone().into());
        Some((key.clone(), properties, true))
    }

    fn filter(&mut self, filter: &Value, properties: &Map<String, Value>, is_group: bool) -> Says {
        let says = match filter["type"].as_str() {
            Some("cohort") => self.cohort(filter, properties, is_group),
            Some("flag") => self.dependency(filter),
            Some("group") if !is_group && known_operator(filter) => Says::Unclear,
            None | Some("person" | "group") => {
                let key = filter["key"].as_str().unwrap_or_default();
                property(filter, properties.get(key))
            }
            Some(_) => Says::Unclear,
        };
        match says {
            Says::Yes if filter["negation"] == true => Says::No,
            Says::No if filter["negation"] == true => Says::Yes,
            says => says,
        }
    }

    fn cohort(&mut self, filter: &Value, properties: &Map<String, Value>, is_group: bool) -> Says {
        let negated = match filter["operator"].as_str() {
            None | Some("in" | "exact") => false,
            Some("not_in") => true,
            Some(_) => return Says::Unclear,
        };
        let id = match &filter["value"] {
            Value::String(id) => id.clone(),
            number => number.to_string(),
        };
        let Some(cohort) = self.document["cohorts"].get(&id) else { return Says::Hopeless };
        match self.group(&cohort.clone(), properties, is_group) {
            Says::Yes if negated => Says::No,
            Says::No if negated => Says::Yes,
            says => says,
        }
    }

    fn group(&mut self, group: &Value, properties: &Map<String, Value>, is_group: bool) -> Says {
        let empty = Vec::new();
        let values = group["values"].as_array().unwrap_or(&empty);
        if values.is_empty() {
            return Says::Yes;
        }
        let all: Vec<Says> = values
            .iter()
            .map(|entry| {
                let combines = matches!(entry["type"].as_str(), Some("AND" | "OR"));
                if combines || entry.get("values").is_some() {
                    self.group(entry, properties, is_group)
                } else {
                    self.filter(entry, properties, is_group)
                }
            })
            .collect();
        let decides = if group["type"] == "OR" { Says::Yes } else { Says::No };
        if all.contains(&Says::Hopeless) {
            Says::Hopeless
        } else if all.contains(&decides) {
            decides
        } else if all.contains(&Says::Unclear) {
            Says::Unclear
        } else if decides == Says::Yes {
            Says::No
        } else {
            Says::Yes
        }
    }

    fn dependency(&mut self, filter: &Value) -> Says {
        let (key, wanted) = (filter["key"].as_str().unwrap_or_default(), &filter["value"]);
        if filter["operator"] != "flag_evaluates_to" || key.is_empty() || wanted.is_null() {
            return Says::No;
        }
        let Some(chain) = filter["dependency_chain"].as_array().filter(|chain| !chain.is_empty()) else {
            return Says::Unclear;
        };
        let mut chain: Vec<&str> = chain.iter().filter_map(Value::as_str).collect();
        chain.push(key);
        let mut value = None;
        for link in chain {
            if self.path.iter().any(|known| known == link) {
                return Says::Unclear;
            }
            self.path.push(link.to_owned());
            value = self.flag(link);
            self.path.pop();
            if value.is_none() {
                return Says::Unclear;
            }
        }
        let matches = match (&value, wanted) {
            (Some(Value::Bool(value)), Value::Bool(wanted)) => value == wanted,
            (Some(Value::String(_)), Value::Bool(wanted)) => *wanted,
            (Some(Value::String(value)), Value::String(wanted)) => value == wanted,
            _ => false,
        };
        if matches { Says::Yes } else { Says::No }
    }
}

fn known_operator(filter: &Value) -> bool {
    // Whether a value of the right kind would be decided on; with an unknown operator it is unclear anyway.
    filter.is_object()
}

fn property(filter: &Value, value: Option<&Value>) -> Says {
    let operator = filter["operator"].as_str().unwrap_or("exact");
    let wanted = &filter["value"];
    let Some(value) = value else { return Says::Unclear };
    let decided = decide(operator, wanted, value);
    match decided {
        Some(true) => Says::Yes,
        Some(false) => Says::No,
        None => Says::Unclear,
    }
}

fn decide(operator: &str, wanted: &Value, value: &Value) -> Option<bool> {
    if operator == "is_set" {
        return Some(!value.is_null());
    }
    if operator == "is_not_set" {
        return Some(false);
    }
    let readable = readable(operator, wanted);
    if value.is_null() {
        // Nothing holds of null; but a filter that nobody can read stays unreadable.
        return match operator {
            "is_not" => {
                let doubtful = |operand: &Value| match text(operand) {
                    Some(text) => ["none", "null", ""].contains(&text.to_lowercase().as_str()),
                    None => true,
                };
                if operands(wanted).iter().any(doubtful) { None } else { Some(true) }
            }
            _ if readable => Some(false),
            _ => None,
        };
    }
    if !readable {
        return None;
    }
    let form = text(value).unwrap_or_else(|| value.to_string());
    let lower = form.to_lowercase();
    let ascii = form.to_ascii_lowercase();
    let part = || text(wanted).map(|part| part.to_ascii_lowercase());
    match operator {
        "exact" => equal(&lower, wanted),
        "is_not" => equal(&lower, wanted).map(|equal| !equal),
        "icontains" => part().map(|part| ascii.contains(&part)),
        "not_icontains" => part().map(|part| !ascii.contains(&part)),
        "starts_with" => part().map(|part| ascii.starts_with(&part)),
        "not_starts_with" => part().map(|part| !ascii.starts_with(&part)),
        "ends_with" => part().map(|part| ascii.ends_with(&part)),
        "not_ends_with" => part().map(|part| !ascii.ends_with(&part)),
        "icontains_multi" | "not_icontains_multi" => {
            let parts: Vec<_> = wanted.as_array()?.iter().map(|part| Some(text(part)?.to_ascii_lowercase())).collect();
            let found = parts.iter().flatten().any(|part| ascii.contains(part));
            if !found && parts.contains(&None) {
                return None;
            }
            Some(found == (operator == "icontains_multi"))
        }
        "gt" => Some(number(value)? > number(wanted)?),
        "gte" => Some(number(value)? >= number(wanted)?),
        "lt" => Some(number(value)? < number(wanted)?),
        "lte" => Some(number(value)? <= number(wanted)?),
        "between" | "not_between" => {
            let (value, min, max) = (number(value)?, number(&wanted[0])?, number(&wanted[1])?);
            Some((min <= value && value <= max) == (operator == "between"))
        }
        "is_date_before" => Some(date(value.as_str()?)? < filter_date(wanted.as_str()?)?),
        "is_date_after" => Some(date(value.as_str()?)? > filter_date(wanted.as_str()?)?),
        "is_date_exact" => Some(date(value.as_str()?)? == filter_date(wanted.as_str()?)?),
        "semver_eq" => Some(version(&form)? == version(&text(wanted)?)?),
        "semver_neq" => Some(version(&form)? != version(&text(wanted)?)?),
        "semver_gt" => Some(version(&form)? > version(&text(wanted)?)?),
        "semver_gte" => Some(version(&form)? >= version(&text(wanted)?)?),
        "semver_lt" => Some(version(&form)? < version(&text(wanted)?)?),
        "semver_lte" => Some(version(&form)? <= version(&text(wanted)?)?),
        "semver_tilde" | "semver_caret" => {
            let from = version(&text(wanted)?)?;
            let end = match from {
                _ if operator == "semver_tilde" => (from.0, from.1 + 1, 0),
                (1.., ..) => (from.0 + 1, 0, 0),
                (0, 1.., _) => (0, from.1 + 1, 0),
                (0, 0, patch) => (0, 0, patch + 1),
            };
            let version = version(&form)?;
            Some(from <= version && version < end)
        }
        _ => None,
    }
}

/// Whether the filter's own side makes sense, whatever the property is.
fn readable(operator: &str, wanted: &Value) -> bool {
    let scalar = || text(wanted).is_some();
    match operator {
        "exact" | "is_not" => !wanted.is_object() && !wanted.is_null(),
        "icontains" | "not_icontains" | "starts_with" | "not_starts_with" | "ends_with" | "not_ends_with" => scalar(),
        "icontains_multi" | "not_icontains_multi" => wanted.is_array(),
        "gt" | "gte" | "lt" | "lte" => scalar() && !wanted.is_boolean() && number(wanted).is_some(),
        "between" | "not_between" => {
            let bounds = wanted.as_array().filter(|bounds| bounds.len() == 2);
            bounds.and_then(|bounds| Some(number(&bounds[0])? <= number(&bounds[1])?)) == Some(true)
        }
        "is_date_before" | "is_date_after" | "is_date_exact" => wanted.as_str().and_then(filter_date).is_some(),
        "semver_eq" | "semver_neq" | "semver_gt" | "semver_gte" | "semver_lt" | "semver_lte" | "semver_tilde"
        | "semver_caret" => text(wanted).and_then(|text| version(&text)).is_some(),
        _ => false,
    }
}

fn operands(wanted: &Value) -> Vec<Value> {
    wanted.as_array().cloned().unwrap_or_else(|| vec![wanted.clone()])
}

fn equal(lower: &str, wanted: &Value) -> Option<bool> {
    let operands = operands(wanted);
    let texts: Vec<Option<String>> = operands.iter().map(|operand| Some(text(operand)?.to_lowercase())).collect();
    let equal = texts.iter().flatten().any(|text| text == lower);
    let booleans = !texts.is_empty() && texts.iter().all(|text| matches!(text.as_deref(), Some("true" | "false")));
    if booleans {
        let wants_true = texts.iter().all(|text| text.as_deref() == Some("true"));
        if ((lower == "true") == wants_true) != equal {
            return None;
        }
    }
    if !equal && texts.iter().any(Option::is_none) { None } else { Some(equal) }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
        scalar => Some(scalar.to_string()),
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) if text.bytes().all(|byte| b"0123456789+-.eE".contains(&byte)) => text.parse().ok(),
        _ => None,
    }
}

/// The dates that this test writes: `YYYY-MM-DDTHH:MM:SSZ`.
fn date(text: &str) -> Option<i64> {
    let fields: Vec<i64> =
        text.strip_suffix('Z')?.split(['-', 'T', ':']).map(|field| field.parse().ok()).collect::<Option<_>>()?;
    let [year, month, day, hour, minute, second] = fields[..] else { return None };
    let days_before = |year: i64| 365 * (year - 1970) + (1970..year).filter(|year| year % 4 == 0).count() as i64;
    let months = [31, if year % 4 == 0 { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let days = days_before(year) + months[..month as usize - 1].iter().sum::<i64>() + day - 1;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn filter_date(text: &str) -> Option<i64> {
    if let Some(date) = date(text) {
        return Some(date);
    }
    let text = text.trim_start_matches('-');
    let (number, seconds) = [("h", 3600), ("d", 86_400), ("w", 7 * 86_400)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    let number: i64 = number.parse().ok().filter(|number| (0..10_000).contains(number))?;
    Some(NOW - number * seconds)
}

fn version(text: &str) -> Option<(u64, u64, u64)> {
    let text = text.trim().trim_start_matches('v');
    let text = text.split('+').next()?;
    let parts: Vec<u64> = text
        .split('.')
        .map(|part| {
            let plain = part.bytes().all(|byte| byte.is_ascii_digit()) && (part == "0" || !part.starts_with('0'));
            part.parse().ok().filter(|_| plain)
        })
        .collect::<Option<_>>()?;
    let part = |at: usize| parts.get(at).copied().unwrap_or(0);
    Some((part(0), part(1), part(2)))
}

fn hash(key: &str, id: &str, salt: &str) -> f64 {
    let digest = sha1_smol::Sha1::from(format!("{key}.{id}{salt}")).digest().to_string();
    u64::from_str_radix(&digest[..15], 16).unwrap() as f64 / 0xfff_ffff_ffff_ffff_u64 as f64
}

fn variant(filters: &Value, condition: &Value, key: &str, id: &str) -> Option<Value> {
    let variants = filters["multivariate"]["variants"].as_array().filter(|variants| !variants.is_empty())?;
    if let Some(named) =
        variants.iter().find(|variant| condition["variant"].is_string() && variant["key"] == condition["variant"])
    {
        return Some(named["key"].clone());
    }
    let place = hash(key, id, "variant");
    let mut low = 0.0;
    for variant in variants {
        let high = low + variant["rollout_percentage"].as_f64().unwrap_or(0.0) / 100.0;
        if low <= place && place < high {
            return Some(variant["key"].clone());
        }
        low = high;
    }
    None
}
