//! Every operator: what it says to a property, and where it would rather say nothing.

use std::string::String;
use std::{format, vec::Vec};

use super::*;

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);
/// Inconclusive.
const UNKNOWN: Option<bool> = None;

/// What the filter `{"key": "p", …}` says to a person with these properties.
fn ask(filter: &str, person: &'static str) -> Option<bool> {
    let document = document(&format!(r#"{{"properties":[{{"key":"p",{filter}}}]}}"#), "", "");
    let properties = properties(person);
    match evaluate(&document, &FlagSubject::new("someone").person_properties(&properties)) {
        Ok(value) => Some(value == "true"),
        Err(_) => None,
    }
}

/// One line: operator, filter value, property value, what comes out.
fn check(table: &[(&str, &str, &'static str, Option<bool>)]) {
    for (operator, wanted, property, expected) in table {
        let person: &'static str = std::boxed::Box::leak(format!(r#"{{"q":1,"p":{property}}}"#).into_boxed_str());
        let filter = format!(r#""type":"person","operator":"{operator}","value":{wanted}"#);
        assert_eq!(ask(&filter, person), *expected, "{property} {operator} {wanted}");
    }
}

#[test]
fn exact_compares_texts_without_case() {
    check(&[
        ("exact", r#""pro""#, r#""PRO""#, YES),
        ("exact", r#""pro""#, r#""team""#, NO),
        ("exact", r#"["pro","team"]"#, r#""Team""#, YES),
        ("exact", r#"["pro","team"]"#, r#""free""#, NO),
        ("exact", "[]", r#""free""#, NO),
        ("exact", "3", "3", YES),
        ("exact", r#""3""#, "3", YES),
        ("exact", "3", r#""3""#, YES),
        ("exact", "3", "3.5", NO),
        ("exact", "1.5", "1.5", YES),
        ("exact", r#""\u0050ro""#, r#""pro""#, YES),
        ("exact", r#""a\"b""#, r#""A\"B""#, YES),
        ("exact", r#""[1,2]""#, "[1,2]", YES),
        ("exact", r#""été""#, r#""ÉTÉ""#, YES),
        ("exact", r#"{"a":1}"#, r#""x""#, UNKNOWN),
        ("exact", r#"["x",null]"#, r#""x""#, YES),
        ("exact", r#"["x",null]"#, r#""y""#, UNKNOWN),
        ("exact", r#""x""#, "null", NO),
    ]);
}

/// Servers compare truth values where a filter lists nothing but booleans. Where both ways agree, so do we.
#[test]
fn booleans_are_compared_where_clients_and_servers_agree() {
    check(&[
        ("exact", "true", "true", YES),
        ("exact", "true", r#""True""#, YES),
        ("exact", "true", "false", NO),
        ("exact", "true", r#""banana""#, NO),
        ("exact", "false", "false", YES),
        ("exact", "false", r#""banana""#, UNKNOWN),
        ("exact", r#"["true"]"#, "true", YES),
        ("exact", r#"["true","false"]"#, "false", YES),
        ("exact", r#"["true","false"]"#, "true", UNKNOWN),
        ("exact", r#"["true","x"]"#, r#""x""#, YES),
        ("is_not", "true", "false", YES),
        ("is_not", "false", "false", NO),
        ("is_not", "false", r#""banana""#, UNKNOWN),
    ]);
}

#[test]
fn is_not_is_the_opposite_of_exact() {
    check(&[
        ("is_not", r#""pro""#, r#""PRO""#, NO),
        ("is_not", r#""pro""#, r#""team""#, YES),
        ("is_not", r#"["pro","team"]"#, r#""team""#, NO),
        ("is_not", "3", "4", YES),
        ("is_not", r#""pro""#, "null", YES),
        ("is_not", r#""None""#, "null", UNKNOWN),
        ("is_not", r#""null""#, "null", UNKNOWN),
    ]);
}

#[test]
fn presence_is_certain_only_of_what_is_there() {
    check(&[
        ("is_set", r#""is_set""#, r#""x""#, YES),
        ("is_set", r#""is_set""#, "0", YES),
        ("is_set", r#""is_set""#, "null", NO),
        ("is_not_set", r#""is_not_set""#, r#""x""#, NO),
        ("is_not_set", r#""is_not_set""#, "null", NO),
    ]);
    for operator in ["is_set", "is_not_set"] {
        assert_eq!(ask(&format!(r#""operator":"{operator}""#), r#"{"q":1}"#), UNKNOWN, "{operator} without a value");
    }
}

#[test]
fn a_property_that_was_not_given_decides_nothing() {
    for operator in OPERATORS {
        let value = if operator.contains("between") { "[1,2]" } else { r#""1""# };
        let filter = format!(r#""operator":"{operator}","value":{value}"#);
        assert_eq!(ask(&filter, r#"{"q":1}"#), UNKNOWN, "{operator}");
    }
}

#[test]
fn nothing_but_is_not_is_true_of_null() {
    for operator in OPERATORS.iter().filter(|operator| **operator != "is_not" && !operator.contains("wildcard")) {
        let value = match *operator {
            operator if operator.contains("between") => "[1,2]",
            operator if operator.contains("multi") => r#"["1"]"#,
            operator if operator.contains("date") => r#""2026-01-01""#,
            _ => r#""1""#,
        };
        assert_eq!(ask(&format!(r#""operator":"{operator}","value":{value}"#), r#"{"p":null}"#), NO, "{operator}");
    }
}

#[test]
fn parts_of_texts() {
    check(&[
        ("icontains", r#""ELL""#, r#""hello""#, YES),
        ("icontains", r#""x""#, r#""hello""#, NO),
        ("icontains", r#""""#, r#""hello""#, YES),
        ("icontains", "2", "123", YES),
        ("icontains", r#""É""#, r#""été""#, NO),
        ("icontains", r#"["a"]"#, r#""a""#, UNKNOWN),
        ("icontains", r#""x""#, "null", NO),
        ("not_icontains", r#""ELL""#, r#""hello""#, NO),
        ("not_icontains", r#""x""#, r#""hello""#, YES),
        ("not_icontains", r#""x""#, "null", NO),
        ("icontains_multi", r#"["x","ELL"]"#, r#""hello""#, YES),
        ("icontains_multi", r#"["x","y"]"#, r#""hello""#, NO),
        ("icontains_multi", r#""ell""#, r#""hello""#, UNKNOWN),
        ("not_icontains_multi", r#"["x","ELL"]"#, r#""hello""#, NO),
        ("not_icontains_multi", r#"["x","y"]"#, r#""hello""#, YES),
        ("starts_with", r#""HE""#, r#""hello""#, YES),
        ("starts_with", r#""lo""#, r#""hello""#, NO),
        ("not_starts_with", r#""HE""#, r#""hello""#, NO),
        ("not_starts_with", r#""lo""#, r#""hello""#, YES),
        ("ends_with", r#""@EXAMPLE.com""#, r#""ada@example.com""#, YES),
        ("ends_with", r#""@example.com""#, r#""ada@example.org""#, NO),
        ("not_ends_with", r#""lo""#, r#""hello""#, NO),
        ("not_ends_with", r#""he""#, r#""hello""#, YES),
        ("ends_with", "5", "15", YES),
    ]);
}

#[test]
fn numbers_are_compared_as_numbers_or_not_at_all() {
    check(&[
        ("gt", "9", "10", YES),
        ("gt", r#""9""#, r#""10""#, YES),
        ("gt", "10", "10", NO),
        ("gte", "10", "10.0", YES),
        ("lt", "10", "-1e3", YES),
        ("lt", "10", "10", NO),
        ("lte", "10", r#""10""#, YES),
        ("gt", "9", r#""ten""#, UNKNOWN),
        ("gt", r#""nine""#, "10", UNKNOWN),
        ("gt", "9", "true", UNKNOWN),
        ("gt", "9", r#""inf""#, UNKNOWN),
        ("gt", "9", "[10]", UNKNOWN),
        ("between", "[1,3]", "1", YES),
        ("between", "[1,3]", r#""3""#, YES),
        ("between", "[1,3]", "3.01", NO),
        ("between", "[3,1]", "2", UNKNOWN),
        ("between", "[1]", "2", UNKNOWN),
        ("between", "[1,2,3]", "2", UNKNOWN),
        ("between", r#"["1","3"]"#, "2", YES),
        ("between", "2", "2", UNKNOWN),
        ("between", "[1,3]", r#""x""#, UNKNOWN),
        ("not_between", "[1,3]", "2", NO),
        ("not_between", "[1,3]", "4", YES),
        ("not_between", "[3,1]", "2", UNKNOWN),
    ]);
}

/// Now is 2026-03-01T12:00:05Z.
#[test]
fn dates_are_compared_as_instants() {
    check(&[
        ("is_date_before", r#""2026-01-01T00:00:00Z""#, r#""2025-12-31T23:59:59Z""#, YES),
        ("is_date_before", r#""2026-01-01T00:00:00Z""#, r#""2026-01-01T00:00:00Z""#, NO),
        ("is_date_after", r#""2026-01-01T00:00:00Z""#, r#""2026-01-01T02:00:00+01:00""#, YES),
        ("is_date_after", r#""2026-01-01T00:00:00Z""#, r#""2026-01-01T01:00:00+01:00""#, NO),
        ("is_date_exact", r#""2026-01-01T00:00:00Z""#, r#""2026-01-01T01:00:00+01:00""#, YES),
        ("is_date_exact", r#""2026-01-01T00:00:00Z""#, r#""2026-01-01T01:00:00Z""#, NO),
        ("is_date_before", r#""-7d""#, r#""2026-02-22T12:00:04Z""#, YES),
        ("is_date_before", r#""-7d""#, r#""2026-02-22T12:00:06Z""#, NO),
        ("is_date_after", r#""7d""#, r#""2026-02-22T12:00:06Z""#, YES),
        ("is_date_after", r#""-1m""#, r#""2026-02-01T12:00:06Z""#, YES),
        ("is_date_after", r#""-1m""#, r#""2026-02-01T12:00:04Z""#, NO),
        ("is_date_before", r#""-1y""#, r#""2025-03-01T12:00:04Z""#, YES),
        ("is_date_before", r#""-2h""#, r#""2026-03-01T10:00:04Z""#, YES),
        ("is_date_before", r#""-2w""#, r#""2026-02-15T12:00:04Z""#, YES),
        ("is_date_before", r#""2026-01-01""#, r#""2025-12-31""#, YES),
        ("is_date_before", r#""2026-01-01""#, r#""2026-01-01 00:00""#, NO),
        ("is_date_after", r#""2026-01-01""#, r#""2026-01-02T15:00:00Z""#, YES),
        // Which midnight? Within a day that depends on the project's time zone.
        ("is_date_after", r#""2026-01-01""#, r#""2026-01-01T05:00:00Z""#, UNKNOWN),
        ("is_date_before", r#""tomorrow""#, r#""2026-01-01T00:00:00Z""#, UNKNOWN),
        ("is_date_before", r#""2026-01-01""#, r#""yesterday""#, UNKNOWN),
        ("is_date_before", r#""-7x""#, r#""2026-01-01""#, UNKNOWN),
        ("is_date_before", r#""-10000d""#, r#""2026-01-01""#, UNKNOWN),
        ("is_date_before", r#""2026-01-01""#, "1767225600", UNKNOWN),
    ]);
}

#[test]
fn versions_are_compared_by_their_numbers() {
    check(&[
        ("semver_eq", r#""1.2.3""#, r#""v1.2.3""#, YES),
        ("semver_eq", r#""1.2""#, r#""1.2.0+build""#, YES),
        ("semver_eq", r#""3""#, "3", YES),
        ("semver_eq", "3", r#""3.0.0""#, YES),
        ("semver_neq", r#""1.2.3""#, r#""1.2.4""#, YES),
        ("semver_gt", r#""1.9.0""#, r#""1.10.0""#, YES),
        ("semver_gte", r#""1.10.0""#, r#""1.10""#, YES),
        ("semver_lt", r#""2.0.0""#, r#""1.99.99""#, YES),
        ("semver_lte", r#""1.0.0""#, r#""1.0.1""#, NO),
        ("semver_tilde", r#""1.2.3""#, r#""1.2.9""#, YES),
        ("semver_tilde", r#""1.2.3""#, r#""1.3.0""#, NO),
        ("semver_caret", r#""1.2.3""#, r#""1.9.0""#, YES),
        ("semver_caret", r#""1.2.3""#, r#""2.0.0""#, NO),
        ("semver_caret", r#""0.2.3""#, r#""0.3.0""#, NO),
        ("semver_caret", r#""0.0.3""#, r#""0.0.4""#, NO),
        ("semver_wildcard", r#""1.*""#, r#""1.9.9""#, YES),
        ("semver_wildcard", r#""1.2.*""#, r#""1.3.0""#, NO),
        ("semver_wildcard", r#""1.*.*""#, r#""1.3.0""#, YES),
        ("semver_wildcard", r#""*""#, r#""1.3.0""#, UNKNOWN),
        ("semver_gt", r#""1.0.0""#, r#""1.0.1-beta""#, UNKNOWN),
        ("semver_gt", r#""1.0.0-rc.1""#, r#""1.0.1""#, UNKNOWN),
        ("semver_gt", r#""1.0.0""#, r#""3.08""#, UNKNOWN),
        ("semver_gt", r#""1.0.0""#, r#""latest""#, UNKNOWN),
    ]);
}

#[test]
fn what_is_unknown_or_not_a_persons_own_decides_nothing() {
    check(&[
        ("sounds_like", r#""x""#, r#""x""#, UNKNOWN),
        ("in", "1", "1", UNKNOWN),
        ("not_in", "1", "1", UNKNOWN),
        ("flag_evaluates_to", "true", "true", UNKNOWN),
        ("not_exact", r#""x""#, r#""y""#, UNKNOWN),
    ]);
    for filter in [
        r#""type":"person_metadata","operator":"exact","value":"x""#,
        r#""type":"event","operator":"exact","value":"x""#,
        r#""type":"group","operator":"exact","value":"x""#,
        r#""operator":"exact""#,
        r#""operator":"exact","value":null"#,
        r#""operator":7,"value":"x""#,
    ] {
        assert_eq!(ask(filter, r#"{"p":"x"}"#), UNKNOWN, "{filter}");
    }
    assert_eq!(ask(r#""value":"x""#, r#"{"p":"x"}"#), YES, "neither type nor operator: exact, of the person");
}

/// A core without an engine for patterns says so, and with one it believes it.
#[test]
fn patterns_are_left_to_whoever_has_an_engine() {
    /// Knows one pattern.
    struct Digits;
    impl Patterns for Digits {
        fn is_match(&self, number: u32, pattern: &str, text: &str) -> Option<bool> {
            assert_eq!(number, 0);
            (pattern == r"^\d+$").then(|| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        }
    }
    let ask = |operator: &str, pattern: &str, patterns: Option<&dyn Patterns>| {
        let filter = format!(r#"{{"key":"p","operator":"{operator}","value":"{pattern}"}}"#);
        let document = document(&format!(r#"{{"properties":[{filter}]}}"#), "", "");
        let person = properties(r#"{"p":42}"#);
        evaluate_with(&document, &FlagSubject::new("someone").person_properties(&person), patterns)
    };
    assert_eq!(ask("regex", r"^\\d+$", None), Err(Inconclusive::NoPatterns));
    assert_eq!(ask("regex", r"^\\d+$", Some(&Digits)), Ok(String::from("true")));
    assert_eq!(ask("not_regex", r"^\\d+$", Some(&Digits)), Ok(String::from("false")));
    assert_eq!(ask("regex", "(?=x)", Some(&Digits)), Err(Inconclusive::Pattern));

    let text = document(r#"{"properties":[{"key":"p","operator":"regex","value":"a\\.b"}]}"#, "", "");
    let mut slots = [Slot::EMPTY; 20];
    let definitions = Definitions::index(&text, &mut slots).unwrap();
    let patterns: Vec<_> = definitions.patterns().map(|(number, pattern)| (number, format!("{pattern}"))).collect();
    assert_eq!(patterns, [(0, String::from(r"a\.b"))]);
}

/// Every operator on properties there is.
const OPERATORS: [&str; 31] = [
    "exact",
    "is_not",
    "is_set",
    "is_not_set",
    "icontains",
    "not_icontains",
    "icontains_multi",
    "not_icontains_multi",
    "starts_with",
    "not_starts_with",
    "ends_with",
    "not_ends_with",
    "regex",
    "not_regex",
    "gt",
    "gte",
    "lt",
    "lte",
    "between",
    "not_between",
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
];
