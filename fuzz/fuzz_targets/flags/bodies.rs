//! What the fuzz targets of feature flags assert; a unit test of the core asserts the same of texts made by proptest.

use quillet_core::flags::{Definitions, FlagGroup, FlagSubject, FlagsReply, Inconclusive, Slot};
use quillet_core::{Property, RawJson, Timestamp, Value};
use serde_json::Value as Json;

/// An answer about flags, against serde_json: what we read of it is in it, and what is in it we read.
pub fn reply(text: &str) {
    let Ok(reply) = FlagsReply::parse(text) else { return };
    let root: Json = serde_json::from_str(text).expect("let through, though serde_json refuses it");
    assert_eq!(reply.errors_while_computing(), root["errorsWhileComputingFlags"] == true);
    assert_eq!(reply.request_id().map(|id| id.to_string()).as_deref(), root["requestId"].as_str());
    let detailed = root["flags"].as_object();
    let older = root["featureFlags"].as_object();
    for flag in reply.flags() {
        let key = flag.key().to_string();
        // Of equal keys serde_json keeps the last, and so does `find`.
        let found = reply.find(&key).expect("listed, so found");
        let variant = found.value().as_variant().map(|variant| variant.to_string());
        if let Some(flags) = detailed {
            let theirs = &flags[&key];
            let expected = theirs["variant"].as_str().filter(|_| theirs["enabled"] == true);
            // Equal keys of which the last says nothing: ours is the one before.
            if theirs["enabled"].is_boolean() {
                assert_eq!((variant.as_deref(), found.value().is_enabled()), (expected, theirs["enabled"] == true));
            }
        } else if let Some(flags) = older {
            let theirs = &flags[&key];
            if theirs.is_boolean() || theirs.is_string() {
                assert_eq!((variant.as_deref(), found.value().is_enabled()), (theirs.as_str(), *theirs != false));
            }
        }
        if let Some(payload) = found.payload() {
            assert!(serde_json::from_str::<Json>(payload.as_str()).is_ok(), "a payload is a value");
        }
    }
}

/// Any document: it is indexed within the slots that were promised, and evaluating all of it ends.
pub fn definitions(text: &str) {
    let mut slots = vec![Slot::EMPTY; Definitions::slots_for(text)];
    let Ok(definitions) = Definitions::index(text, &mut slots) else {
        // Too few slots would be a broken promise; everything else is the text's fault.
        let root = serde_json::from_str::<Json>(text);
        let is_document = root.is_ok_and(|root| root["flags"].is_array());
        assert!(!is_document || depth(text) > 64, "a document that was not indexed");
        return;
    };
    let nested = RawJson::parse(r#"{"a":[1,"x"]}"#).expect("valid");
    let person = [
        Property::new("plan", "pro"),
        Property::new("n", 3),
        Property::new("value", nested),
        Property::new("key", Value::Null),
        Property::new("", true),
    ];
    let groups = [FlagGroup::new("company", "acme").properties(&person)];
    let subject = FlagSubject::new("someone").person_properties(&person).groups(&groups).device_id("d");
    for key in definitions.keys() {
        let key = key.to_string();
        match definitions.evaluate(&key, &subject, Timestamp::from_unix_ms(1_795_000_000_000)) {
            Ok(flag) => _ = flag.payload(),
            Err(reason) => assert!(reason != Inconclusive::UnknownFlag && !reason.as_str().is_empty()),
        }
    }
    let view = definitions.over("{}", &[]);
    assert!(view.evaluate("f", &subject, Timestamp::from_unix_ms(0)).is_err());
}

fn depth(text: &str) -> usize {
    text.matches(['[', '{']).count()
}

/// Every operator that takes one operand.
const OPERATORS: [&str; 26] = [
    "exact",
    "is_not",
    "is_set",
    "is_not_set",
    "icontains",
    "not_icontains",
    "starts_with",
    "not_starts_with",
    "ends_with",
    "not_ends_with",
    "gt",
    "gte",
    "lt",
    "lte",
    "is_date_before",
    "is_date_after",
    "is_date_exact",
    "semver_eq",
    "semver_neq",
    "semver_gt",
    "semver_gte",
    "semver_lt",
    "semver_lte",
    "semver_tilde",
    "semver_caret",
    "semver_wildcard",
];

/// One property against one operand, by every operator: opposites are opposite, and what follows follows.
pub fn matching(property: &str, operand: &str) {
    // A flag for each operator, called like it.
    let json = serde_json::to_string(operand).expect("a string");
    let flag = |operator: &&str| {
        format!(
            r#"{{"key":"{operator}","active":true,"filters":{{"groups":[{{"properties":[
            {{"key":"p","operator":"{operator}","value":{json}}}]}}]}}}}"#
        )
    };
    let flags: Vec<String> = OPERATORS.iter().map(flag).collect();
    let text = format!(r#"{{"flags":[{}]}}"#, flags.join(","));
    let mut slots = vec![Slot::EMPTY; Definitions::slots_for(&text)];
    let definitions = Definitions::index(&text, &mut slots).expect("a document");
    let ask = |operator: &str, value: Value<'_>| {
        let person = [Property::new("p", value)];
        let subject = FlagSubject::new("x").person_properties(&person);
        let flag = definitions.evaluate(operator, &subject, Timestamp::from_unix_ms(1_795_000_000_000));
        flag.ok().map(|flag| flag.value().is_enabled())
    };

    let number = property.parse::<f64>().ok().filter(|number| number.is_finite());
    // In whichever way somebody says it, of null nothing holds.
    let json = RawJson::parse(property).ok().filter(|json| json.as_str().trim() != "null");
    let even = property.len().is_multiple_of(2);
    let mut values = vec![Value::Str(property), Value::Bool(even), Value::Int(property.len() as i64)];
    values.extend(number.map(Value::Float));
    values.extend(json.map(Value::Raw));
    for value in values {
        let ask = |operator: &str| ask(operator, value);
        for (one, other) in [
            ("exact", "is_not"),
            ("icontains", "not_icontains"),
            ("starts_with", "not_starts_with"),
            ("ends_with", "not_ends_with"),
            ("gt", "lte"),
            ("lt", "gte"),
            ("semver_eq", "semver_neq"),
            ("semver_gt", "semver_lte"),
            ("semver_lt", "semver_gte"),
        ] {
            let (yes, no) = (ask(one), ask(other));
            assert_eq!(yes.map(|yes| !yes), no, "{one} {yes:?}, {other} {no:?}: {value:?} {operand:?}");
        }
        for (narrow, wide) in
            [("starts_with", "icontains"), ("ends_with", "icontains"), ("gt", "gte"), ("semver_eq", "semver_lte")]
        {
            if ask(narrow) == Some(true) {
                assert_eq!(ask(wide), Some(true), "{narrow} without {wide}: {value:?} {operand:?}");
            }
        }
        for range in ["semver_tilde", "semver_caret"] {
            if ask(range) == Some(true) {
                assert_eq!(ask("semver_gte"), Some(true), "{range} begins at {operand:?}: {value:?}");
            }
        }
        let _ = ask("semver_wildcard");
        let date = ["is_date_before", "is_date_after", "is_date_exact"].map(ask);
        assert!(date.iter().filter(|said| **said == Some(true)).count() <= 1, "{date:?}: {value:?} {operand:?}");
        assert_eq!((ask("is_set"), ask("is_not_set")), (Some(true), Some(false)));
    }
    let null = RawJson::parse(" null").map_or(Value::Null, Value::Raw);
    for null in [Value::Null, null, Value::Float(f64::NAN)] {
        assert_eq!((ask("is_set", null), ask("icontains", null)), (Some(false), Some(false)));
    }
    let itself = Value::Str(operand);
    assert!(ask("exact", itself) != Some(false) || operand.eq_ignore_ascii_case("false"), "{operand:?} is itself");
}
