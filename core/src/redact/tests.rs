//! The filter against a second one that works on parsed values.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should stop")]

use super::*;
use crate::{RawJson, props};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::string::{String, ToString};
use std::vec::Vec;

const DENIED: &[&str] = &["password", "E-Mail", "naïve"];

struct Collected(Vec<u8>);

impl JsonSink for Collected {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SerializeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// JSON text that arrives in pieces of `piece` bytes, as a foreign serialiser may cut it.
struct InPieces<'a>(&'a str, usize);

impl WriteJson for InPieces<'_> {
    fn write_json(&self, sink: &mut dyn JsonSink) -> Result<(), SerializeError> {
        self.0.as_bytes().chunks(self.1).try_for_each(|piece| sink.write(piece))
    }
}

fn written(value: Value<'_>, text_bytes_max: usize) -> String {
    let mut sink = Collected(Vec::new());
    Redacted::new(value, Redaction::new(DENIED, text_bytes_max)).write_json(&mut sink).unwrap();
    String::from_utf8(sink.0).unwrap()
}

/// The same by another way.
fn without_denied(json: &Json) -> Json {
    match json {
        Json::Object(members) => members
            .iter()
            .filter(|(key, _)| !DENIED.iter().any(|denied| denied.eq_ignore_ascii_case(key)))
            .map(|(key, value)| (key.clone(), without_denied(value)))
            .collect(),
        Json::Array(values) => values.iter().map(without_denied).collect(),
        other => other.clone(),
    }
}

#[test]
fn denied_members_go_at_every_depth_whatever_they_hold() {
    let nested = props! {
        "user": { "name": "Ada", "PASSWORD": { "a": [1, { "b": "}" }] }, "tags": ["x", { "e-mail": "a@b", "n": 1 }] },
        "password": [1, 2],
        "none": {},
    };
    let expected = json!({"user": {"name": "Ada", "tags": ["x", {"n": 1}]}, "none": {}});
    assert_eq!(serde_json::from_str::<Json>(&written(Value::Object(nested), 99)).unwrap(), expected);
    for (text, expected) in [
        (r#"{"password":"a\"}b","n":1}"#, r#"{"n":1}"#),
        (r#"{"n":1,"password":{"password":["]"]}}"#, r#"{"n":1}"#),
        (r#"{"password":1}"#, "{}"),
        (r#"[{"e-mail":1,"a":{}},{"a":[],"E-MAIL":null,"b":true}]"#, r#"[{"a":{}},{"a":[],"b":true}]"#),
        (r#"{"p\u0061ssword":1,"password2":2,"na\u00efve":3,"xpassword":4}"#, r#"{"password2":2,"xpassword":4}"#),
        (r#""password""#, r#""password""#),
        (r#"{ "password" : [ 1 ], "a" : "b c" }"#, r#"{"a":"b c"}"#),
        ("-1.5e3", "-1.5e3"),
        ("{}", "{}"),
    ] {
        assert_eq!(written(Value::Raw(RawJson::parse(text).unwrap()), 99), expected);
        for piece in 1..9 {
            let typed = written(Value::Typed(&InPieces(text, piece)), 99);
            assert_eq!(serde_json::from_str::<Json>(&typed).unwrap(), serde_json::from_str::<Json>(expected).unwrap());
        }
    }
}

#[test]
fn long_keys_are_no_denied_ones() {
    let long = std::format!(r#"{{"a":1,"{}\"":"x","password":2}}"#, "k".repeat(5000));
    let expected = std::format!(r#"{{"a":1,"{}\"":"x"}}"#, "k".repeat(5000));
    assert_eq!(written(Value::Raw(RawJson::parse(&long).unwrap()), 99), expected);
}

#[test]
fn long_texts_are_cut_between_characters() {
    let redaction: Redaction<'_> = Redaction::new(&[], 4);
    assert_eq!((redaction.cut("abcd"), redaction.cut("abcde"), redaction.cut("abcé")), ("abcd", "abcd", "abc"));
    assert_eq!(written(Value::Str("äöü\n"), 4), r#""äö""#);
    assert_eq!(written(Value::Array(&[Value::Str("abcdef"), Value::Float(0.5)]), 3), r#"["abc",0.5]"#);
    for (text, most, expected) in [
        (r#"{"k":"abcdef","longkeylongkey":[]}"#, 3, r#"{"k":"abc","longkeylongkey":[]}"#),
        (r#""a\ud83d\ude00b""#, 4, r#""a""#),
        (r#""a\ud83d\ude00b""#, 5, r#""a😀""#),
        (r#""\u00e9\\\"x""#, 5, r#""é\\""#),
        (r#""aé""#, 2, r#""a""#),
        (r#""abc""#, 0, r#""""#),
    ] {
        assert_eq!(written(Value::Raw(RawJson::parse(text).unwrap()), most), expected);
    }
    // A value that writes itself may escape what it likes.
    for (text, most, expected) in [
        (r#""a\ud83d\ude00b""#, 12, r#""a""#),
        (r#""a\ud83d\ude00b""#, 13, r#""a\ud83d\ude00""#),
        (r#""\u00e9\\\"x""#, 8, r#""\u00e9\\""#),
    ] {
        assert_eq!(written(Value::Typed(&InPieces(text, 1)), most), expected);
    }
}

#[test]
fn nesting_has_its_end_here_too() {
    let deep = "[".repeat(65) + &"]".repeat(65);
    let mut sink = Collected(Vec::new());
    let typed = InPieces(&deep, 7);
    let redacted = Redacted::new(Value::Typed(&typed), Redaction::new(DENIED, 9));
    assert_eq!(redacted.write_json(&mut sink), Err(SerializeError::TooDeep));
}

fn any_json() -> impl Strategy<Value = Json> {
    let key = prop_oneof![Just("password".to_string()), Just("e-mail".to_string()), "[a-z\"\\\\é😀]{0,9}"];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        "[a-z\"\\\\\n,{}\\[\\]é😀]{0,12}".prop_map(Json::from),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #[test]
    fn the_filter_does_what_filtering_parsed_values_does(json in any_json(), piece in 1usize..40) {
        let text = json.to_string();
        let filtered = written(Value::Typed(&InPieces(&text, piece)), usize::MAX);
        prop_assert_eq!(serde_json::from_str::<Json>(&filtered).unwrap(), without_denied(&json));
    }

    #[test]
    fn a_cut_text_is_still_json(json in any_json(), piece in 1usize..40, most in 0usize..10) {
        let text = json.to_string();
        let cut = written(Value::Typed(&InPieces(&text, piece)), most);
        let parsed: Json = serde_json::from_str(&cut).unwrap();
        if let (Json::String(whole), Json::String(cut)) = (&json, &parsed) {
            prop_assert!(whole.starts_with(cut.as_str()));
        }
    }
}
