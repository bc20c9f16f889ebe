//! The rules for one event: its own fields, the properties that mean something to PostHog, and what the special events
//! must carry.

use super::{Expectations, Findings, exception};
use crate::sink::record::Event;
use serde_json::{Map, Value};

/// Longest event name, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// Longest distinct id, in characters.
const DISTINCT_ID_CHARS_MAX: usize = 200;

/// Events that PostHog drops when person processing is off.
const PERSON_EVENTS: [&str; 4] = ["$identify", "$create_alias", "$groupidentify", "$merge_dangerously"];

pub(super) fn judge(expectations: &Expectations, event: &Event, findings: &mut Findings) {
    let Value::Object(fields) = &event.value else {
        return findings.refuse(400, "an event that is no object");
    };
    for key in fields.keys() {
        let known = matches!(key.as_str(), "event" | "distinct_id" | "properties" | "timestamp" | "uuid");
        findings.note_unless(known, format!("unknown key {key:?} in an event"));
    }
    judge_name(fields.get("event"), findings);
    judge_uuid(fields.get("uuid"), findings);
    judge_timestamp(fields.get("timestamp"), findings);
    let none = Map::new();
    let properties = match fields.get("properties") {
        Some(Value::Object(properties)) => properties,
        Some(_) => {
            findings.refuse(400, "properties is no object");
            &none
        }
        None => &none,
    };
    judge_distinct_id(fields.get("distinct_id"), properties, findings);
    judge_library(expectations, properties, findings);
    judge_special_properties(event.name(), properties, findings);
    judge_carriers(event, properties, findings);
    if event.name() == "$exception" {
        exception::judge(properties, findings);
    }
}

fn judge_name(name: Option<&Value>, findings: &mut Findings) {
    match name {
        Some(Value::String(name)) if name.is_empty() => findings.refuse(400, "event is empty"),
        Some(Value::String(name)) => {
            let bytes = name.len();
            findings.note_unless(bytes <= NAME_BYTES_MAX, format!("an event name of {bytes} bytes"));
        }
        Some(_) => findings.refuse(400, "event is no string"),
        None => findings.refuse(400, "event is missing"),
    }
}

fn judge_uuid(uuid: Option<&Value>, findings: &mut Findings) {
    match uuid {
        Some(Value::String(uuid)) if is_uuid(uuid) => {}
        Some(Value::String(uuid)) if uuid.is_empty() => findings.note("uuid is empty, which counts as missing"),
        Some(Value::String(uuid)) if is_uuid(&uuid.to_ascii_lowercase()) => findings.note("uuid is not in lower case"),
        Some(uuid) => findings.refuse(400, format!("uuid is {uuid}")),
        None => findings.note("uuid is missing: a repeated event could not be recognised"),
    }
}

fn judge_timestamp(timestamp: Option<&Value>, findings: &mut Findings) {
    match timestamp {
        Some(Value::String(text)) => {
            findings.note_unless(is_utc_timestamp(text), format!("timestamp {text:?} is not RFC 3339 with Z"));
        }
        Some(other) => findings.refuse(400, format!("timestamp is {other}")),
        None => findings.note("timestamp is missing"),
    }
}

/// The server takes an id of any type, here or in the properties; we send a string, here.
fn judge_distinct_id(id: Option<&Value>, properties: &Map<String, Value>, findings: &mut Findings) {
    let id = match id.filter(|id| !id.is_null()) {
        Some(id) => id,
        None if properties.get("distinct_id").is_some_and(|id| !is_blank(id)) => {
            return findings.note("distinct_id is in the properties only");
        }
        None => return findings.refuse(400, "distinct_id is missing"),
    };
    if is_blank(id) {
        return findings.refuse(400, "distinct_id is blank");
    }
    let Value::String(id) = id else {
        return findings.note("distinct_id is no string");
    };
    let chars = id.chars().count();
    findings.note_unless(chars <= DISTINCT_ID_CHARS_MAX, format!("a distinct_id of {chars} characters"));
}

fn judge_library(expectations: &Expectations, properties: &Map<String, Value>, findings: &mut Findings) {
    let library = properties.get("$lib").and_then(Value::as_str).unwrap_or_default();
    findings.note_unless(library == expectations.library, format!("$lib is {library:?}"));
    let version = properties.get("$lib_version").and_then(Value::as_str).unwrap_or_default();
    let right = if expectations.any_lib_version { !version.is_empty() } else { version == expectations.version };
    findings.note_unless(right, format!("$lib_version is {version:?}"));
}

/// Types of the properties that PostHog itself reads.
fn judge_special_properties(name: &str, properties: &Map<String, Value>, findings: &mut Findings) {
    if properties.get("$cookieless_mode").is_some_and(|mode| !mode.is_boolean()) {
        findings.refuse(400, "$cookieless_mode is no boolean");
    }
    for (key, value) in properties {
        let right = match key.as_str() {
            "$process_person_profile" | "$is_server" | "$geoip_disable" | "$ignore_sent_at" => value.is_boolean(),
            "$os" | "$os_version" | "$ip" | "$session_id" | "$window_id" | "$device_id" => value.is_string(),
            "$set" | "$set_once" => value.is_object(),
            "$unset" => is_array_of_strings(value),
            "$groups" => {
                value.as_object().is_some_and(|groups| groups.values().all(|key| key.is_string() || key.is_number()))
            }
            "$active_feature_flags" => is_array_of_strings(value),
            // The event that reports a flag which does not exist says null.
            _ if key.starts_with("$feature/") => {
                value.is_boolean() || value.is_string() || value.is_null() && name == "$feature_flag_called"
            }
            _ => true,
        };
        findings.note_unless(right, format!("{key} is {value}"));
    }
    let personless = properties.get("$process_person_profile") == Some(&Value::Bool(false));
    if personless && PERSON_EVENTS.contains(&name) {
        findings.note("person processing is off, so the server drops it");
    }
    if personless && properties.contains_key("$groups") {
        findings.note("groups need person processing");
    }
}

/// What the events of the catalogue must carry.
fn judge_carriers(event: &Event, properties: &Map<String, Value>, findings: &mut Findings) {
    let text = |key: &str| properties.get(key).and_then(Value::as_str).unwrap_or_default();
    match event.name() {
        "$identify" => {
            let merges = properties.contains_key("$anon_distinct_id");
            findings.note_unless(!merges, "$anon_distinct_id is the browser's business");
        }
        "$set" => {
            let carries = ["$set", "$set_once", "$unset"].iter().any(|key| properties.contains_key(*key));
            findings.note_unless(carries, "nothing to set");
        }
        "$set_once" => findings.note_unless(properties.contains_key("$set_once"), "nothing to set"),
        "$create_alias" => {
            findings.note_unless(!text("alias").trim().is_empty(), "alias is blank");
            let same = text("distinct_id") == event.distinct_id();
            findings.note_unless(same, "properties.distinct_id is not the event's distinct_id");
        }
        "$groupidentify" => {
            findings.note_unless(!text("$group_type").trim().is_empty(), "$group_type is blank");
            findings.note_unless(!text("$group_key").trim().is_empty(), "$group_key is blank");
            let set = properties.get("$group_set").is_some_and(Value::is_object);
            findings.note_unless(set, "$group_set is no object");
        }
        "$feature_flag_called" => {
            findings.note_unless(!text("$feature_flag").is_empty(), "$feature_flag is empty");
            let answered = properties.contains_key("$feature_flag_response");
            findings.note_unless(answered, "$feature_flag_response is missing");
        }
        "$performance_event" => findings.note("the server drops $performance_event"),
        _ => {}
    }
}

/// `YYYY-MM-DDTHH:MM:SS[.f]Z` with fields in range; `f` has 1 to 9 digits.
pub(super) fn is_utc_timestamp(text: &str) -> bool {
    let Some((whole, rest)) = text.split_at_checked(19) else { return false };
    let shape = b"0000-00-00T00:00:00";
    let fits = |(byte, shape): (u8, &u8)| if *shape == b'0' { byte.is_ascii_digit() } else { byte == *shape };
    if !whole.bytes().zip(shape).all(fits) {
        return false;
    }
    let number = |from: usize, to: usize| whole.get(from..to).and_then(|digits| digits.parse::<u32>().ok());
    let (Some(year), Some(month), Some(day)) = (number(0, 4), number(5, 7), number(8, 10)) else { return false };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    let in_range = (1..=days).contains(&day)
        && number(11, 13).is_some_and(|hour| hour < 24)
        && number(14, 16).is_some_and(|minute| minute < 60)
        && number(17, 19).is_some_and(|second| second < 60);
    let fraction = match rest.strip_suffix('Z') {
        Some("") => true,
        Some(fraction) => fraction
            .strip_prefix('.')
            .is_some_and(|digits| (1..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())),
        None => false,
    };
    in_range && fraction
}

/// Lower case, with hyphens, a version from 1 to 8 and the RFC's variant.
fn is_uuid(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            14 => (b'1'..=b'8').contains(&byte),
            19 => matches!(byte, b'8' | b'9' | b'a' | b'b'),
            _ => hex(byte),
        })
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        _ => false,
    }
}

fn is_array_of_strings(value: &Value) -> bool {
    value.as_array().is_some_and(|items| items.iter().all(Value::is_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_strict() {
        for right in ["2026-03-01T12:00:05Z", "2024-02-29T00:00:00.1Z", "2026-12-31T23:59:59.123456789Z"] {
            assert!(is_utc_timestamp(right), "{right}");
        }
        let wrong = [
            "",
            "2026-03-01",
            "2026-03-01T12:00:05",
            "2026-03-01T12:00:05+00:00",
            "2026-03-01 12:00:05Z",
            "2026-03-01t12:00:05z",
            "2026-03-01T12:00:05.Z",
            "2026-03-01T12:00:05.1234567890Z",
            "2026-03-01T12:00:05,5Z",
            "2026-02-29T12:00:05Z",
            "2026-13-01T12:00:05Z",
            "2026-00-01T12:00:05Z",
            "2026-03-00T12:00:05Z",
            "2026-03-01T24:00:05Z",
            "2026-03-01T12:60:05Z",
            "2026-03-01T12:00:60Z",
            "2026-03-01T12:00:0\u{e9}Z",
        ];
        for wrong in wrong {
            assert!(!is_utc_timestamp(wrong), "{wrong}");
        }
    }

    #[test]
    fn uuids_are_strict() {
        assert!(is_uuid("0195506e-1f00-7c3a-9a55-6d2c8f0b1e42"));
        let wrong = [
            "",
            "0195506e1f007c3a9a556d2c8f0b1e42",
            "0195506E-1f00-7c3a-9a55-6d2c8f0b1e42",
            "0195506e-1f00-0c3a-9a55-6d2c8f0b1e42",
            "0195506e-1f00-7c3a-ca55-6d2c8f0b1e42",
            "0195506e-1f00-7c3a-9a55-6d2c8f0b1e4g",
            "00000000-0000-0000-0000-000000000000",
        ];
        for wrong in wrong {
            assert!(!is_uuid(wrong), "{wrong}");
        }
    }
}
