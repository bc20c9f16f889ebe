//! Tables of what flags are, written down from PostHog's protocol: operators, conditions, groups, cohorts, dependencies.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should stop")]

mod conditions;
mod hostile;
mod operators;
mod replies;

use std::string::String;
use std::vec::Vec;
use std::{format, vec};

use super::*;
use crate::property::{Property, Value};
use crate::raw::RawJson;
use crate::wire::timestamp::Timestamp;

/// 2026-03-01T12:00:05Z
pub(super) const NOW: Timestamp = Timestamp::from_unix_ms(1_772_366_405_000);

/// `Ok("true")`, `Ok("false")`, `Ok("<variant>")`, or why not.
pub(super) type Outcome = Result<String, Inconclusive>;

/// Evaluates the flag `f` of a document for a subject.
pub(super) fn evaluate(document: &str, subject: &FlagSubject<'_>) -> Outcome {
    evaluate_with(document, subject, None)
}

pub(super) fn evaluate_with(document: &str, subject: &FlagSubject<'_>, patterns: Option<&dyn Patterns>) -> Outcome {
    let mut slots = vec![Slot::EMPTY; Definitions::slots_for(document)];
    let definitions = Definitions::index(document, &mut slots).unwrap_or_else(|error| panic!("{error}: {document}"));
    let flag = definitions.evaluate_with("f", subject, NOW, patterns)?;
    Ok(format!("{}", flag.value()))
}

/// A document whose flag `f` has these conditions, and these further members.
pub(super) fn document(conditions: &str, of_filters: &str, of_document: &str) -> String {
    format!(
        r#"{{"flags":[{{"key":"f","active":true,"filters":{{"groups":[{conditions}]{of_filters}}}}}]{of_document}}}"#
    )
}

/// Properties from a JSON object; nested values stay text.
pub(super) fn properties(json: &'static str) -> Vec<Property<'static>> {
    let value: &'static serde_json::Value =
        std::boxed::Box::leak(std::boxed::Box::new(serde_json::from_str(json).unwrap()));
    let value_of = |value: &'static serde_json::Value| match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::Int(value),
            (None, Some(value)) => Value::Uint(value),
            (None, None) => Value::Float(number.as_f64().unwrap()),
        },
        serde_json::Value::String(text) => Value::Str(text),
        nested => {
            let text = std::boxed::Box::leak(serde_json::to_string(nested).unwrap().into_boxed_str());
            Value::Raw(RawJson::parse(text).unwrap())
        }
    };
    value.as_object().unwrap().iter().map(|(key, value)| Property::new(key, value_of(value))).collect()
}
