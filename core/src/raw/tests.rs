//! What is JSON, what is not, and what of it reaches a frame; serde_json is the judge.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

use proptest::prelude::*;

use super::*;
use crate::limits::DEPTH_MAX;

fn minified(text: &str) -> String {
    let raw = RawJson::parse(text).unwrap();
    let mut written = Vec::new();
    raw.write_minified(&mut |run| written.extend_from_slice(run));
    assert_eq!(written.len(), raw.minified_len(), "{text}");
    assert!(written.iter().all(|&byte| byte >= 0x20), "{text}");
    let written = String::from_utf8(written).unwrap();
    assert!(has_only_needed_escapes(&written), "{text} became {written}");
    written
}

/// Whether every escape is one that JSON asks for.
fn has_only_needed_escapes(json: &str) -> bool {
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let escape = &rest[at..];
        let len = match escape.as_bytes() {
            [_, b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [_, b'u', b'0', b'0', b'0' | b'1', _, ..] => 6,
            _ => return false,
        };
        rest = &escape[len..];
    }
    true
}

#[test]
fn every_kind_of_value_is_accepted() {
    for text in [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "1",
        "-12",
        "0.5",
        "-0.0",
        "1e5",
        "1E+5",
        "1.5e-05",
        "\"\"",
        "[]",
        "{}",
        "[1]",
        "[1,[2,[3]],{}]",
        "{\"a\":{\"b\":[]},\"\":null}",
        "\"\\\"\\\\\\b\\f\\n\\r\\t\"",
        "\"\\u0000\\u001f\"",
        "\"\u{7f}\u{2028}é😀\"",
        "{\"a\":1,\"a\":2}",
        "1e-999",
        "0e999999999999999999999",
        "123456789012345678901234567890",
    ] {
        let raw = RawJson::parse(text).unwrap();
        assert_eq!((raw.as_str(), raw.minified_len()), (text, text.len()));
        assert_eq!(minified(text), text);
    }
}

#[test]
fn what_is_wrong_is_said_and_where() {
    use RawJsonErrorKind::*;
    for (text, kind, offset) in [
        ("", Incomplete, 0),
        ("  ", Incomplete, 2),
        ("[1", Incomplete, 2),
        ("[1,", Incomplete, 3),
        ("{\"a\"", Incomplete, 4),
        ("{\"a\":", Incomplete, 5),
        ("\"a", Incomplete, 2),
        ("\"a\\", Incomplete, 2),
        ("\"\\u12", Incomplete, 1),
        ("tru", Incomplete, 3),
        ("-", Incomplete, 1),
        ("1.", Incomplete, 2),
        ("1e", Incomplete, 2),
        ("1e+", Incomplete, 3),
        ("\u{feff}1", UnexpectedByte, 0),
        ("trve", UnexpectedByte, 2),
        ("nulll", UnexpectedByte, 4),
        ("1 2", UnexpectedByte, 2),
        ("01", UnexpectedByte, 1),
        ("+1", UnexpectedByte, 0),
        (".5", UnexpectedByte, 0),
        ("1.e5", UnexpectedByte, 2),
        ("0x10", UnexpectedByte, 1),
        ("--1", UnexpectedByte, 1),
        ("NaN", UnexpectedByte, 0),
        ("-Infinity", UnexpectedByte, 1),
        ("[1,]", UnexpectedByte, 3),
        ("[,1]", UnexpectedByte, 1),
        ("[1 2]", UnexpectedByte, 3),
        ("[1}", UnexpectedByte, 2),
        ("{]", UnexpectedByte, 1),
        ("]", UnexpectedByte, 0),
        ("{\"a\"1}", UnexpectedByte, 4),
        ("{\"a\":}", UnexpectedByte, 5),
        ("{\"a\":1,}", UnexpectedByte, 7),
        ("{a:1}", UnexpectedByte, 1),
        ("{1:1}", UnexpectedByte, 1),
        ("'a'", UnexpectedByte, 0),
        ("\u{a0}1", UnexpectedByte, 0),
        ("\"a\nb\"", ControlByte, 2),
        ("\"\u{0}\"", ControlByte, 1),
        ("\"\u{1f}\"", ControlByte, 1),
        ("\"\\x41\"", InvalidEscape, 1),
        ("\"\\u12g4\"", InvalidEscape, 1),
        ("\"\\u+123\"", InvalidEscape, 1),
        ("\"\\U0041\"", InvalidEscape, 1),
        ("\"\\ud83d\"", LoneSurrogate, 1),
        ("\"\\ud83dx\"", LoneSurrogate, 1),
        ("\"\\ud83d\\n\"", LoneSurrogate, 1),
        ("\"\\ude00\"", LoneSurrogate, 1),
        ("\"\\ud83d\\ud83d\\ude00\"", LoneSurrogate, 1),
        ("[1e309]", NumberTooLarge, 1),
        ("-1e999999999999999999999999", NumberTooLarge, 0),
        ("/* */1", UnexpectedByte, 0),
    ] {
        assert_eq!(RawJson::parse(text), Err(RawJsonError { kind, offset }), "{text:?}");
    }
    let error = RawJson::parse("[1,]").unwrap_err();
    assert_eq!(error.to_string(), "unexpected byte in JSON at byte 3");
}

#[test]
fn depth_counts_levels_up_to_the_limit() {
    for (text, depth) in [("1", 0), ("[]", 1), ("[[],[[1]],[]]", 3), ("{\"a\":[{}]}", 3)] {
        assert_eq!(RawJson::parse(text).unwrap().depth(), depth);
    }
    let mixed = |levels: usize| -> String {
        let half = levels / 2;
        "[{\"a\":".repeat(half)
            + &"[]".repeat(levels % 2)
            + if levels.is_multiple_of(2) { "0" } else { "" }
            + &"}]".repeat(half)
    };
    for levels in [DEPTH_MAX - 1, DEPTH_MAX] {
        assert_eq!(RawJson::parse(&mixed(levels)).unwrap().depth(), levels);
    }
    assert_eq!(RawJson::parse(&mixed(DEPTH_MAX + 1)).unwrap_err().kind, RawJsonErrorKind::TooDeep);
    assert_eq!(RawJson::parse(&"[".repeat(1_000_000)).unwrap_err().offset, DEPTH_MAX);
}

#[test]
fn minifying_keeps_what_strings_contain() {
    for (text, expected) in [
        (" [ 1 ,\t2 ,\r\n3 ] ", "[1,2,3]"),
        ("{ \"a b\" : \" c \\\" d \" }", "{\"a b\":\" c \\\" d \"}"),
        ("[ \"\\\\\" , \" \" ]", "[\"\\\\\",\" \"]"),
        ("  null\n", "null"),
        ("[\n\n]", "[]"),
    ] {
        assert_eq!(minified(text), expected);
    }
}

/// An escape that JSON does not ask for is damaged by some servers; see the protocol of `/batch/`.
#[test]
fn characters_are_escaped_only_where_they_must_be() {
    for (text, expected) in [
        (r#""\u00e9\/""#, "\"é/\""),
        (r#""\u00e9""#, "\"é\""),
        (r#""a\u007fb""#, "\"a\u{7f}b\""),
        (r#""\ud83d\ude00\uD83D\uDE00x""#, "\"😀😀x\""),
        (r#""\ud800\udc00\udbff\udfff""#, "\"\u{10000}\u{10ffff}\""),
        (r#""\ud7ff\ue000\uffff\u2028""#, "\"\u{d7ff}\u{e000}\u{ffff}\u{2028}\""),
        // What has to be escaped still is: what is no control character the short way.
        (r#""\u0022\u005c\u005C""#, r#""\"\\\\""#),
        (r#""\u0000\u000A\u001F\u0009""#, r#""\u0000\u000A\u001F\u0009""#),
        (r#""\b\f\n\r\t\"\\""#, r#""\b\f\n\r\t\"\\""#),
        // What looks like an escape behind an escaped backslash is none.
        (r#""\\u00e9\\\u00e9\\/""#, r#""\\u00e9\\é\\/""#),
        // Keys too, with white space between the tokens, and values that have none.
        (r#" { "\u0061\"" : [ "\/" , 1 ] , "b" : "c d" } "#, r#"{"a\"":["/",1],"b":"c d"}"#),
    ] {
        assert_eq!(minified(text), expected, "{text}");
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(expected).unwrap(), value);
    }
}

/// Every character but those of control, from units of sixteen bits.
#[test]
fn every_escaped_character_is_written_as_the_encoder_writes_it() {
    for character in (0x20..=0x10_ffff).filter_map(char::from_u32) {
        let mut units = [0; 2];
        let escaped: String = character.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04X}")).collect();
        let expected = serde_json::to_string(&character).unwrap();
        assert_eq!(minified(&format!("\"{escaped}\"")), expected);
    }
}

/// Numbers around the largest `f64`, in many spellings.
#[test]
fn a_number_is_refused_from_where_it_would_be_infinite() {
    let digits = [
        "1.7976931348623157",
        "1.7976931348623158",
        "1.7976931348623158078",
        "1.7976931348623158080",
        "1.7976931348623159",
    ];
    for digits in
        digits.into_iter().chain(["1", "9.99999999999999999999999999", "1.8", "17", "0.1", "0.017976931348623157"])
    {
        let plain = digits.replace('.', "");
        let plain = plain.trim_start_matches('0');
        for exponent in 285..=320 {
            for text in [
                format!("{digits}e{exponent}"),
                format!("-{digits}E+{exponent}"),
                format!("{plain}e{exponent}"),
                format!("{plain}{}", "0".repeat(exponent)),
                format!("{plain}{}.0", "0".repeat(exponent)),
                format!("0.{}{plain}e{}", "0".repeat(400), exponent + 400),
                format!("{plain}{}e-{}", "0".repeat(400), 400 - exponent),
                format!("{plain}{}.{}e-5", "0".repeat(exponent), "9".repeat(50)),
            ] {
                let finite = text.parse::<f64>().unwrap().is_finite();
                assert_eq!(RawJson::parse(&text).is_ok(), finite, "{text}");
            }
        }
    }
}

/// Accepts and refuses as serde_json does, except that its depth limit is 127 levels.
fn agrees_with_serde_json(text: &str) -> Result<(), TestCaseError> {
    let theirs = serde_json::from_str::<serde_json::Value>(text);
    match RawJson::parse(text) {
        Ok(raw) => {
            let value = theirs.map_err(|error| TestCaseError::fail(format!("{text:?}: {error}")))?;
            let minified = minified(text);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&minified).unwrap(), value);
            prop_assert!(minified.len() <= text.len());
            let again = RawJson::parse(&minified).unwrap();
            prop_assert_eq!((again.depth(), again.minified_len()), (raw.depth(), minified.len()));
        }
        Err(error) => {
            prop_assert!(error.offset <= text.len());
            prop_assert!(theirs.is_err() || error.kind == RawJsonErrorKind::TooDeep, "{:?}: {}", text, error);
        }
    }
    Ok(())
}

/// What JSON is made of, and what it is often damaged with.
const PIECES: [&str; 48] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    " ",
    "\n",
    "\"a\"",
    "\"b\":",
    "{\"k\":",
    "[[",
    "]]",
    "null",
    "true",
    "false",
    "nul",
    "0",
    "-",
    "1",
    "12",
    "00",
    ".",
    ".5",
    "1.5",
    "e",
    "E+",
    "e-3",
    "e308",
    "e309",
    "1e400",
    "\\u0041",
    "\\u000a",
    "\\u0022",
    "\\u005C",
    "\\/",
    "\\ud800",
    "\\ude00",
    "\"\\ud83d\\ude00\"",
    "\\n",
    "\\x",
    "\u{0}",
    "\u{1f}",
    "\u{7f}",
    "é",
    "😀",
];

fn value() -> impl Strategy<Value = String> {
    let space = prop::sample::select(vec!["", "", " ", "\n", "\t ", "\r\n"]);
    let scalar = prop::sample::select(vec![
        "null",
        "true",
        "false",
        "0",
        "-0",
        "17",
        "-1.25",
        "1e3",
        "2E-7",
        "1e308",
        "\"\"",
        "\" a \"",
        "\"\\\\\"",
        "\"\\\" \"",
        "\"\\u00e9\\ud83d\\ude00\"",
        "\"\\\\u00e9\\/\\u001f\"",
        "\"é\"",
    ]);
    scalar.prop_map(String::from).prop_recursive(8, 64, 5, move |inner| {
        let spaced = (space.clone(), inner, space.clone()).prop_map(|(a, value, b)| format!("{a}{value}{b}"));
        let key = (space.clone(), space.clone()).prop_map(|(a, b)| format!("{a}\"k y\"{b}:"));
        prop_oneof![
            prop::collection::vec(spaced.clone(), 0..5).prop_map(|all| format!("[{}]", all.join(","))),
            prop::collection::vec((key, spaced).prop_map(|(key, value)| key + &value), 0..5)
                .prop_map(|all| format!("{{{}}}", all.join(","))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn pieces_of_json_are_judged_as_serde_json_judges(
        pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..12),
    ) {
        agrees_with_serde_json(&pieces.concat())?;
    }

    #[test]
    fn random_text_is_judged_as_serde_json_judges(text in "[\\[\\]{}:,\"\\\\u0-9eE.+\\- tfnrd\u{0}-\u{20}]{0,16}") {
        agrees_with_serde_json(&text)?;
    }

    #[test]
    fn valid_json_is_accepted(text in value()) {
        prop_assert!(RawJson::parse(&text).is_ok(), "{}", text);
        agrees_with_serde_json(&text)?;
    }

    #[test]
    fn damaged_json_is_judged_as_serde_json_judges(
        text in value(),
        at: prop::sample::Index,
        piece in prop::sample::select(&PIECES[..]),
        cut in 0..3_usize,
    ) {
        let mut chars: Vec<char> = text.chars().collect();
        let at = at.index(chars.len() + 1);
        chars.splice(at..(at + cut).min(chars.len()), piece.chars());
        agrees_with_serde_json(&chars.into_iter().collect::<String>())?;
    }
}
