//! Values and operands as text: how a property reads, and how two texts are compared when case does not count.
//!
//! In: a property's value, or a string of the document. Out: what a closure makes of its text, without an allocation: a
//! number is printed into a buffer on the stack, and so is what is nested, if it is short.

use super::json::Text;
use crate::limits::DEPTH_MAX;
use crate::property::Value;
use crate::wire::event::write_value;
use crate::wire::float;
use crate::wire::writer::Writer;

/// Longest text form of a nested value, and longest operand with escapes, in bytes. Beyond it, nothing is decided.
const FORM_BYTES_MAX: usize = 512;

/// Calls `use_it` with the text form of `value`: strings as they are, everything else as JSON. `None` if that is too long.
#[inline]
pub(super) fn with_form<T>(value: &Value<'_>, use_it: impl FnOnce(&str) -> T) -> Option<T> {
    match value {
        Value::Str(text) => Some(use_it(text)),
        Value::Bool(value) => Some(use_it(if *value { "true" } else { "false" })),
        Value::Int(value) => Some(use_it(itoa::Buffer::new().format(*value))),
        Value::Uint(value) => Some(use_it(itoa::Buffer::new().format(*value))),
        Value::Float(value) if value.is_finite() => Some(use_it(float::Buffer::new().format_finite(*value))),
        Value::Float32(value) if value.is_finite() => Some(use_it(float::Buffer::new().format_finite(*value))),
        Value::Null | Value::Float(_) | Value::Float32(_) => None,
        Value::Array(_) | Value::Object(_) | Value::Raw(_) | Value::Typed(_) => with_rendered(value, use_it),
    }
}

/// Whether a value is `null`, or will be written as it.
#[inline]
pub(super) fn is_null(value: &Value<'_>) -> bool {
    match value {
        Value::Null => true,
        Value::Float(value) => !value.is_finite(),
        Value::Float32(value) => !value.is_finite(),
        Value::Raw(_) | Value::Typed(_) => with_json(value, |json| json == "null").unwrap_or(false),
        _ => false,
    }
}

fn with_rendered<T>(value: &Value<'_>, use_it: impl FnOnce(&str) -> T) -> Option<T> {
    let text = |json: &str| match json.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        // Something typed that is a string after all.
        Some(escaped) => with_plain(Text::from_escaped(escaped), use_it),
        None if json == "null" => None,
        None => Some(use_it(json)),
    };
    with_json(value, text).flatten()
}

/// Calls `use_it` with the value as JSON. `None` if that is too long.
#[cold]
#[inline(never)]
fn with_json<T>(value: &Value<'_>, use_it: impl FnOnce(&str) -> T) -> Option<T> {
    let mut memory = [0; FORM_BYTES_MAX];
    let mut writer = Writer::new(&mut memory);
    write_value(&mut writer, value, DEPTH_MAX).ok()?;
    let len = writer.finish()?;
    core::str::from_utf8(memory.get(..len)?).ok().map(use_it)
}

/// Calls `use_it` with a text without escapes. `None` if it has some and is too long.
#[inline]
pub(super) fn with_plain<T>(text: Text<'_>, use_it: impl FnOnce(&str) -> T) -> Option<T> {
    match text.as_plain() {
        Some(plain) => Some(use_it(plain)),
        None => with_decoded(text, use_it),
    }
}

#[cold]
#[inline(never)]
fn with_decoded<T>(text: Text<'_>, use_it: impl FnOnce(&str) -> T) -> Option<T> {
    text.decode(&mut [0; FORM_BYTES_MAX]).map(use_it)
}

/// A finite number, as text. What other languages also call numbers (`inf`, `nan`, white space around) is none.
pub(super) fn number(text: &str) -> Option<f64> {
    let begins = text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '-' | '+' | '.'));
    let letters = text.bytes().any(|byte| byte.is_ascii_alphabetic() && !matches!(byte, b'e' | b'E'));
    if begins && !letters { text.parse().ok().filter(|number: &f64| number.is_finite()) } else { None }
}

/// The number that a value is, or that its text is.
#[inline]
pub(super) fn number_of(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Int(value) => Some(*value as f64),
        Value::Uint(value) => Some(*value as f64),
        Value::Float(value) => Some(*value).filter(|value| value.is_finite()),
        // By its digits, as the server reads it: 0.1 is 0.1, and not what 32 bits make of it.
        Value::Float32(_) => with_form(value, number).flatten(),
        Value::Str(text) => number(text),
        Value::Raw(_) | Value::Typed(_) => with_rendered(value, number).flatten(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Whether two texts are equal when case does not count. `None` where Unicode leaves room for two opinions.
pub(super) fn equal_folded(one: &str, two: &str) -> Option<bool> {
    if one.eq_ignore_ascii_case(two) {
        return Some(true);
    }
    if one.is_ascii() && two.is_ascii() {
        return Some(false);
    }
    let equal_with = |end_sigma: char| {
        let fold = move |char: char| if char == 'ς' { end_sigma } else { char };
        lowered(one).map(fold).eq(lowered(two).map(fold))
    };
    // At the end of a word a capital sigma becomes another letter than elsewhere, for those who look at words.
    match (equal_with('ς'), equal_with('σ')) {
        (true, _) => Some(true),
        (false, true) => None,
        (false, false) => Some(false),
    }
}

fn lowered(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_lowercase)
}

/// Whether `text` contains `part` when the case of ASCII letters does not count.
pub(super) fn contains_folded(text: &str, part: &str) -> bool {
    let (text, part) = (text.as_bytes(), part.as_bytes());
    let Some((first, rest)) = part.split_first() else { return true };
    let last_start = text.len().checked_sub(part.len());
    let is_here = |at: usize| {
        let begins = text.get(at).is_some_and(|byte| byte.eq_ignore_ascii_case(first));
        begins && text.get(at + 1..at + part.len()).is_some_and(|here| here.eq_ignore_ascii_case(rest))
    };
    last_start.is_some_and(|last| (0..=last).any(is_here))
}

/// Whether `text` begins with `part`; ASCII case does not count.
pub(super) fn starts_folded(text: &str, part: &str) -> bool {
    text.as_bytes().get(..part.len()).is_some_and(|start| start.eq_ignore_ascii_case(part.as_bytes()))
}

/// Whether `text` ends with `part`; ASCII case does not count.
pub(super) fn ends_folded(text: &str, part: &str) -> bool {
    let start = text.len().checked_sub(part.len());
    let end = start.and_then(|start| text.as_bytes().get(start..));
    end.is_some_and(|end| end.eq_ignore_ascii_case(part.as_bytes()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

    use std::string::{String, ToString};

    use super::*;
    use crate::property::Property;
    use crate::raw::RawJson;

    #[test]
    fn every_value_has_the_text_that_json_gives_it() {
        let nested = [Property::new("a", 1)];
        let array = [Value::Int(1), Value::Str("x")];
        let long = "x".repeat(600);
        let too_long = [Value::Str(&long)];
        for (value, form) in [
            (Value::Str("Ä\"b"), Some("Ä\"b")),
            (Value::Bool(true), Some("true")),
            (Value::Int(-3), Some("-3")),
            (Value::Uint(u64::MAX), Some("18446744073709551615")),
            (Value::Float(1.5), Some("1.5")),
            (Value::Float(f64::NAN), None),
            // Nine digits are one more than tell it from its neighbours.
            (Value::Float32(0.1), Some(if cfg!(feature = "float") { "0.1" } else { "0.100000001" })),
            (Value::Float32(f32::INFINITY), None),
            (Value::Null, None),
            (Value::Array(&array), Some(r#"[1,"x"]"#)),
            (Value::Object(&nested), Some(r#"{"a":1}"#)),
            (Value::Raw(RawJson::parse(r#" "a\u0062" "#).unwrap()), Some("ab")),
            (Value::Raw(RawJson::parse("null").unwrap()), None),
            (Value::Str(&long), Some(long.as_str())),
            (Value::Array(&too_long), None),
        ] {
            assert_eq!(with_form(&value, ToString::to_string), form.map(String::from), "{value:?}");
        }
    }

    #[test]
    fn numbers_are_those_that_everybody_reads_alike() {
        for (text, expected) in [("10", 10.0), ("-1.5", -1.5), ("1e3", 1000.0), (".5", 0.5), ("+2", 2.0)] {
            assert_eq!(number(text), Some(expected));
            assert_eq!(number_of(&Value::Str(text)), Some(expected));
        }
        for text in ["", "inf", "-inf", "NaN", " 1", "1 ", "0x10", "1e999", "ten", "-", "1,5"] {
            assert_eq!(number(text), None, "{text:?}");
        }
        assert_eq!(number_of(&Value::Bool(true)), None);
        assert_eq!(number_of(&Value::Float32(0.1)), Some(if cfg!(feature = "float") { 0.1 } else { 0.100_000_001 }));
    }

    #[test]
    fn case_is_folded_for_all_of_unicode_or_doubted() {
        for (one, two, equal) in [
            ("Ada@Example.com", "ada@example.COM", Some(true)),
            ("Straße", "STRAẞE", Some(true)),
            ("ÉTÉ", "été", Some(true)),
            ("a", "b", Some(false)),
            ("é", "e", Some(false)),
            ("ΟΔΟΣ", "οδος", None),
            ("Ο", "σ", Some(false)),
        ] {
            assert_eq!(equal_folded(one, two), equal, "{one} {two}");
            assert_eq!(equal_folded(two, one), equal, "{two} {one}");
        }
    }

    #[test]
    fn parts_are_found_whatever_the_case_of_ascii() {
        for (text, part, contains, starts, ends) in [
            ("Hello", "hello", true, true, true),
            ("Hello", "ELL", true, false, false),
            ("Hello", "", true, true, true),
            ("", "", true, true, true),
            ("", "a", false, false, false),
            ("Hello", "lo", true, false, true),
            ("Hello", "Hello!", false, false, false),
            ("aaab", "aab", true, false, true),
            ("É", "é", false, false, false),
            ("xÉ", "É", true, false, true),
        ] {
            assert_eq!(contains_folded(text, part), contains, "{text:?} {part:?}");
            assert_eq!((starts_folded(text, part), ends_folded(text, part)), (starts, ends), "{text:?} {part:?}");
        }
    }
}
