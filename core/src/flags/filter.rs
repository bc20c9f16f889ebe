//! One filter of a condition: what it asks, compiled once, and what a property answers to it.
//!
//! In: a filter of the document, and later a property's value. Out: a [`Test`], and a [`Verdict`].
//!
//! The semantics are those of PostHog's clients. Where its clients and its servers are known to give different answers, the
//! verdict is [`Verdict::Unknown`]: then the server is asked, or the caller's default counts. A wrong answer would put
//! people into the wrong half of a test.

use core::cmp::Ordering;

use super::date::{Date, FilterDate};
use super::definitions::{Builder, Definitions, DefinitionsError, Filter, Item, List, Span, Str};
use super::evaluate::{Inconclusive, Patterns};
use super::json::{Json, Text};
use super::text::{self, contains_folded, equal_folded};
use super::version::{Version, VersionRange};
use crate::property::Value;
use crate::wire::timestamp::Timestamp;

/// What a filter asks, with its own side of the comparison read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Test {
    /// `exact`, `is_not`
    Equal { operands: List, negated: bool },
    /// `is_set`
    Set,
    /// `is_not_set`
    NotSet,
    /// `icontains`, `icontains_multi` and their negations
    Contains { operands: List, negated: bool },
    /// `starts_with`, `not_starts_with`
    Starts { operand: Str, negated: bool },
    /// `ends_with`, `not_ends_with`
    Ends { operand: Str, negated: bool },
    /// `regex`, `not_regex`
    Regex { pattern: Str, number: u32, negated: bool },
    /// `gt`, `gte`, `lt`, `lte`
    Number { order: Order, than: f64 },
    /// `between`, `not_between`
    Between { min: f64, max: f64, negated: bool },
    /// `is_date_before`, `is_date_after`, `is_date_exact`
    Date { order: Order, than: FilterDate },
    /// `semver_eq` to `semver_lte`
    Version { order: Order, than: Version },
    /// `semver_tilde`, `semver_caret`, `semver_wildcard`
    VersionRange(VersionRange),
    /// Membership of a cohort.
    Cohort { id: Str, negated: bool },
    /// Another flag's value.
    Flag { wanted: Wanted, chain: Option<Span> },
    /// Always false.
    Never,
    /// Nothing that can be decided here.
    Unknown(Inconclusive),
}

/// Which results of a comparison are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
}

/// What a flag is expected to be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    Bool(bool),
    Variant(Str),
    /// Something no flag can be.
    Nothing,
}

/// What came of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Yes,
    No,
    /// It cannot be decided here.
    Unknown(Inconclusive),
    /// It cannot be decided here, and neither can the whole flag.
    Abort(Inconclusive),
}

impl Verdict {
    pub(super) const fn of(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    pub(super) const fn inverted(self, inverted: bool) -> Self {
        match (self, inverted) {
            (Self::Yes, true) => Self::No,
            (Self::No, true) => Self::Yes,
            (same, _) => same,
        }
    }
}

impl Order {
    const fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::GreaterOrEqual => ordering.is_ge(),
            Self::Greater => ordering.is_gt(),
        }
    }
}

/// Reads a filter of the document, and puts its operands into slots.
pub(super) fn compile<'t>(builder: &mut Builder<'t, '_>, json: Json<'t>) -> Result<Filter, DefinitionsError> {
    let text = builder.text;
    let name = |key: &str| json.given(key).and_then(Json::as_text);
    let key = name("key").map_or(Str::default(), |key| Str::of(text, key));
    let inverted = json.member("negation").and_then(Json::as_bool) == Some(true);
    let kind = name("type").and_then(Text::as_plain).unwrap_or("person");
    let has_operator = json.given("operator").is_some();
    let operator = name("operator").and_then(Text::as_plain).unwrap_or(if has_operator { "" } else { "exact" });
    let value = json.given("value");
    let test = match kind {
        _ if !json.is_object() => Test::Unknown(Inconclusive::Malformed),
        "cohort" => cohort(text, operator, value),
        "flag" => dependency(text, name("key"), operator, value, json.given("dependency_chain")),
        "person" | "group" if name("key").is_none() => Test::Unknown(Inconclusive::Malformed),
        "person" | "group" => property(builder, operator, value)?,
        _ => Test::Unknown(Inconclusive::PropertyKind),
    };
    Ok(Filter { key, test, inverted, of_group: kind == "group" })
}

fn cohort(text: &str, operator: &str, value: Option<Json<'_>>) -> Test {
    let negated = match operator {
        "in" | "exact" => false,
        "not_in" => true,
        _ => return Test::Unknown(Inconclusive::Operator),
    };
    match value.and_then(|value| Str::of_scalar(text, value)) {
        Some(id) => Test::Cohort { id, negated },
        None => Test::Unknown(Inconclusive::Malformed),
    }
}

fn dependency(
    text: &str,
    key: Option<Text<'_>>,
    operator: &str,
    value: Option<Json<'_>>,
    chain: Option<Json<'_>>,
) -> Test {
    let Some(value) = value else { return Test::Never };
    if operator != "flag_evaluates_to" || key.is_none_or(Text::is_empty) {
        return Test::Never;
    }
    let wanted = match (value.as_bool(), value.as_text()) {
        (Some(value), _) => Wanted::Bool(value),
        (None, Some(variant)) => Wanted::Variant(Str::of(text, variant)),
        (None, None) => Wanted::Nothing,
    };
    let chain = chain.filter(|chain| chain.is_array()).map(|chain| Span::of(text, chain.as_str()));
    Test::Flag { wanted, chain }
}

fn property<'t>(
    builder: &mut Builder<'t, '_>,
    operator: &str,
    value: Option<Json<'t>>,
) -> Result<Test, DefinitionsError> {
    match operator {
        "is_set" => return Ok(Test::Set),
        "is_not_set" => return Ok(Test::NotSet),
        _ => {}
    }
    let Some(value) = value else { return Ok(Test::Unknown(Inconclusive::Malformed)) };
    let text = builder.text;
    let scalar = Str::of_scalar(text, value);
    let (plain_operator, negated) = match operator {
        "is_not" => ("exact", true),
        _ => operator.strip_prefix("not_").map_or((operator, false), |operator| (operator, true)),
    };
    let test = match plain_operator {
        "exact" if negated == (operator == "is_not") => {
            if value.is_object() {
                None
            } else {
                Some(Test::Equal { operands: builder.append_operands(value)?, negated })
            }
        }
        "icontains" if scalar.is_some() => Some(Test::Contains { operands: builder.append_operands(value)?, negated }),
        "icontains_multi" if value.is_array() => {
            Some(Test::Contains { operands: builder.append_operands(value)?, negated })
        }
        "starts_with" => scalar.map(|operand| Test::Starts { operand, negated }),
        "ends_with" => scalar.map(|operand| Test::Ends { operand, negated }),
        "regex" => scalar.map(|pattern| Test::Regex { pattern, number: builder.next_pattern(), negated }),
        "between" => between(value).map(|(min, max)| Test::Between { min, max, negated }),
        "icontains" | "icontains_multi" => None,
        _ if negated => return Ok(Test::Unknown(Inconclusive::Operator)),
        _ => {
            let Some(compare) = comparison(plain_operator) else {
                return Ok(Test::Unknown(Inconclusive::Operator));
            };
            scalar.and_then(|operand| compare(operand.text(text)))
        }
    };
    Ok(test.unwrap_or(Test::Unknown(Inconclusive::Malformed)))
}

/// How an operator that orders reads the filter's value.
fn comparison(operator: &str) -> Option<fn(Text<'_>) -> Option<Test>> {
    fn number(order: Order, operand: Text<'_>) -> Option<Test> {
        text::number(operand.as_plain()?).map(|than| Test::Number { order, than })
    }
    fn date(order: Order, operand: Text<'_>) -> Option<Test> {
        FilterDate::parse(operand.as_plain()?).map(|than| Test::Date { order, than })
    }
    fn version(order: Order, operand: Text<'_>) -> Option<Test> {
        Version::parse(operand.as_plain()?).map(|than| Test::Version { order, than })
    }
    Some(match operator {
        "gt" => |operand| number(Order::Greater, operand),
        "gte" => |operand| number(Order::GreaterOrEqual, operand),
        "lt" => |operand| number(Order::Less, operand),
        "lte" => |operand| number(Order::LessOrEqual, operand),
        "is_date_before" => |operand| date(Order::Less, operand),
        "is_date_after" => |operand| date(Order::Greater, operand),
        "is_date_exact" => |operand| date(Order::Equal, operand),
        "semver_eq" => |operand| version(Order::Equal, operand),
        "semver_neq" => |operand| version(Order::NotEqual, operand),
        "semver_gt" => |operand| version(Order::Greater, operand),
        "semver_gte" => |operand| version(Order::GreaterOrEqual, operand),
        "semver_lt" => |operand| version(Order::Less, operand),
        "semver_lte" => |operand| version(Order::LessOrEqual, operand),
        "semver_tilde" => |operand| VersionRange::tilde(operand.as_plain()?).map(Test::VersionRange),
        "semver_caret" => |operand| VersionRange::caret(operand.as_plain()?).map(Test::VersionRange),
        "semver_wildcard" => |operand| VersionRange::wildcard(operand.as_plain()?).map(Test::VersionRange),
        _ => return None,
    })
}

/// Two numbers, the smaller one first.
fn between(value: Json<'_>) -> Option<(f64, f64)> {
    let mut bounds = value.elements().map(|bound| match bound.as_text() {
        Some(text) => text::number(text.as_plain()?),
        None => bound.as_f64(),
    });
    let (min, max) = (bounds.next()??, bounds.next()??);
    (bounds.next().is_none() && min <= max).then_some((min, max))
}

/// What the world contributes to a comparison.
pub(super) struct Around<'a> {
    pub(super) definitions: Definitions<'a>,
    pub(super) now: Timestamp,
    pub(super) patterns: Option<&'a dyn Patterns>,
}

/// What a property says to a test. Neither cohorts nor flags are properties; they are not for here.
pub(super) fn matches(test: &Test, value: Option<&Value<'_>>, around: &Around<'_>) -> Verdict {
    let Some(value) = value else { return Verdict::Unknown(Inconclusive::PropertyMissing) };
    if text::is_null(value) {
        return null_matches(test, around);
    }
    let doubt = Verdict::Unknown(Inconclusive::PropertyValue);
    let decided = |holds: Option<bool>, negated: bool| holds.map_or(doubt, |holds| Verdict::of(holds != negated));
    match *test {
        Test::Set => Verdict::Yes,
        Test::NotSet | Test::Never => Verdict::No,
        Test::Unknown(reason) => Verdict::Unknown(reason),
        Test::Equal { operands, negated } => {
            let equal = text::with_form(value, |form| is_any(form, operands, around)).flatten();
            decided(equal, negated)
        }
        Test::Contains { operands, negated } => {
            let contains = text::with_form(value, |form| contains_any(form, operands, around)).flatten();
            decided(contains, negated)
        }
        Test::Starts { operand, negated } => decided(with_both(value, operand, around, text::starts_folded), negated),
        Test::Ends { operand, negated } => decided(with_both(value, operand, around, text::ends_folded), negated),
        Test::Regex { pattern, number, negated } => {
            let Some(patterns) = around.patterns else { return Verdict::Unknown(Inconclusive::NoPatterns) };
            let matched = with_both(value, pattern, around, |form, pattern| patterns.is_match(number, pattern, form));
            matched.flatten().map_or(Verdict::Unknown(Inconclusive::Pattern), |found| Verdict::of(found != negated))
        }
        Test::Number { order, than } => {
            let ordering = text::number_of(value).and_then(|number| number.partial_cmp(&than));
            decided(ordering.map(|ordering| order.holds(ordering)), false)
        }
        Test::Between { min, max, negated } => {
            decided(text::number_of(value).map(|number| min <= number && number <= max), negated)
        }
        Test::Date { order, than } => decided(date_holds(order, value, than, around.now), false),
        Test::Version { order, than } => {
            let version = text::with_form(value, Version::parse).flatten();
            decided(version.map(|version| order.holds(version.cmp(&than))), false)
        }
        Test::VersionRange(range) => {
            let version = text::with_form(value, Version::parse).flatten();
            decided(version.map(|version| range.contains(version)), false)
        }
        Test::Cohort { .. } | Test::Flag { .. } => Verdict::Unknown(Inconclusive::Malformed),
    }
}

/// An explicit `null`: nothing is true of it, except that it is not something else.
fn null_matches(test: &Test, around: &Around<'_>) -> Verdict {
    match *test {
        Test::Unknown(reason) => Verdict::Unknown(reason),
        Test::Equal { operands, negated: true } => {
            // How `null` reads as text is a matter of whom one asks.
            let reads_as_null = |operand: Option<Text<'_>>| {
                operand.is_none_or(|text| {
                    text.as_plain()
                        .is_some_and(|text| ["none", "null", ""].iter().any(|null| text.eq_ignore_ascii_case(null)))
                })
            };
            if operand_texts(operands, around).any(reads_as_null) {
                Verdict::Unknown(Inconclusive::PropertyValue)
            } else {
                Verdict::Yes
            }
        }
        _ => Verdict::No,
    }
}

/// The texts of the operands; `None` for one that has no text form.
fn operand_texts<'a>(operands: List, around: &Around<'a>) -> impl Iterator<Item = Option<Text<'a>>> {
    let text = around.definitions.text;
    around.definitions.list(operands).iter().map(move |slot| match slot.0 {
        Item::Operand(operand) => Some(operand.text(text)),
        _ => None,
    })
}

/// Whether `form` equals one of the operands. `None` in doubt.
fn is_any(form: &str, operands: List, around: &Around<'_>) -> Option<bool> {
    let mut doubtful = false;
    let mut equal = false;
    for operand in operand_texts(operands, around) {
        match operand.and_then(|operand| text::with_plain(operand, |operand| equal_folded(form, operand)).flatten()) {
            Some(true) => {
                equal = true;
                break;
            }
            Some(false) => {}
            None => doubtful = true,
        }
    }
    // Servers compare truth values where a filter lists nothing but booleans; clients compare texts.
    let is = |operand: &Text<'_>, word: &str| operand.as_plain().is_some_and(|text| text.eq_ignore_ascii_case(word));
    let is_truth = |operand: Option<Text<'_>>| operand.is_some_and(|text| is(&text, "true") || is(&text, "false"));
    if operands.len() > 0 && operand_texts(operands, around).all(is_truth) {
        let wanted = operand_texts(operands, around).all(|operand| operand.is_some_and(|text| is(&text, "true")));
        if (form.eq_ignore_ascii_case("true") == wanted) != equal {
            return None;
        }
    }
    if doubtful && !equal { None } else { Some(equal) }
}

fn contains_any(form: &str, operands: List, around: &Around<'_>) -> Option<bool> {
    let mut doubtful = false;
    for operand in operand_texts(operands, around) {
        match operand.and_then(|operand| text::with_plain(operand, |operand| contains_folded(form, operand))) {
            Some(true) => return Some(true),
            Some(false) => {}
            None => doubtful = true,
        }
    }
    if doubtful { None } else { Some(false) }
}

/// Calls `compare` with the property's text form and the operand.
fn with_both<T>(
    value: &Value<'_>,
    operand: Str,
    around: &Around<'_>,
    compare: impl FnOnce(&str, &str) -> T,
) -> Option<T> {
    let operand = operand.text(around.definitions.text);
    text::with_form(value, |form| text::with_plain(operand, |operand| compare(form, operand))).flatten()
}

/// How far a date without an offset may be from what it says, whatever the project's time zone: UTC+14 to UTC-12.
const ZONE_MICROS: i64 = 14 * 3600 * 1_000_000;

fn date_holds(order: Order, value: &Value<'_>, than: FilterDate, now: Timestamp) -> Option<bool> {
    let Value::Str(text) = value else { return None };
    let (date, than) = (Date::parse(text)?, than.resolve(now)?);
    let apart = date.micros.checked_sub(than.micros)?;
    // With one offset unknown, only what holds in every time zone is certain.
    if date.zoned != than.zoned && apart.unsigned_abs() <= ZONE_MICROS.unsigned_abs() {
        return None;
    }
    Some(order.holds(apart.cmp(&0)))
}
