//! Every shape of an answer about flags.

use std::string::{String, ToString};
use std::vec::Vec;

use super::*;

/// Key, value and payload of every flag, in a line each.
fn flags(text: &str) -> Vec<String> {
    let reply = FlagsReply::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let line = |flag: ReplyFlag<'_>| {
        let failed = if flag.failed() { " failed" } else { "" };
        let payload = flag.payload().map(|payload| format!(" {}", payload.as_str())).unwrap_or_default();
        format!("{}={}{failed}{payload}", flag.key(), flag.value())
    };
    reply.flags().map(line).collect()
}

#[test]
fn each_shape_is_read_whoever_sent_it() {
    for (text, expected) in [
        (
            r#"{"flags":{"a":{"enabled":true,"variant":"blue"},"b":{"enabled":false,"variant":null},"c":{"enabled":true}}}"#,
            &["a=blue", "b=false", "c=true"][..],
        ),
        // A variant counts only for what is on.
        (r#"{"flags":{"a":{"enabled":false,"variant":"blue"}}}"#, &["a=false"]),
        (r#"{"flags":{"a":{"enabled":true,"metadata":{"payload":"{\"x\":1}"}}}}"#, &[r#"a=true "{\"x\":1}""#]),
        (
            r#"{"flags":{"a":{"enabled":true,"metadata":{"payload":null}},"b":{"enabled":true,"metadata":null}}}"#,
            &["a=true", "b=true"],
        ),
        (r#"{"flags":{"a":{"enabled":true,"failed":true},"b":{"failed":true}}}"#, &["a=true failed", "b=false failed"]),
        // What says neither on nor off is not there.
        (r#"{"flags":{"a":{},"b":null,"c":{"enabled":"yes"},"d":{"enabled":true}}}"#, &["d=true"]),
        (
            r#"{"featureFlags":{"a":"blue","b":false,"c":true},"featureFlagPayloads":{"a":"1","c":{"x":2},"b":null}}"#,
            &[r#"a=blue "1""#, "b=false", r#"c=true {"x":2}"#],
        ),
        (r#"{"featureFlags":{"a":7,"b":null,"c":true}}"#, &["c=true"]),
        (r#"{"featureFlags":["a","b",7]}"#, &["a=true", "b=true"]),
        // The newer shape counts where both are there, as long as it is an object.
        (r#"{"featureFlags":{"a":true},"flags":{"b":{"enabled":true}}}"#, &["b=true"]),
        (r#"{"featureFlags":{"a":true},"flags":["b"]}"#, &["a=true"]),
        (r#"{"featureFlags":"a"}"#, &[]),
        ("{}", &[]),
        (r#"{"flags":{}}"#, &[]),
    ] {
        assert_eq!(flags(text), expected, "{text}");
    }
}

#[test]
fn the_protocols_example_is_read_completely() {
    let reply = FlagsReply::parse(
        r#"{"flags":{
            "new-checkout":{"key":"new-checkout","enabled":true,"variant":"blue",
              "reason":{"code":"condition_match","condition_index":0,"description":"Matched condition set 1"},
              "metadata":{"id":42,"version":7,"description":null,"payload":"{\"copy\":\"Hi\"}","has_experiment":false}},
            "old-ui":{"key":"old-ui","enabled":false,"variant":null,
              "reason":{"code":"no_condition_match","condition_index":null,"description":""},
              "metadata":{"id":43,"version":0,"description":null,"payload":null}}},
          "errorsWhileComputingFlags":false,
          "requestId":"7d1c1f6e-53a5-4f65-8f43-2f2f1b3c0e11",
          "evaluatedAt":1772366405250,
          "minimalFlagCalledEvents":true}"#,
    )
    .unwrap();
    assert!(!reply.errors_while_computing() && !reply.is_quota_limited() && reply.minimal_called_events());
    assert_eq!(reply.request_id().unwrap(), "7d1c1f6e-53a5-4f65-8f43-2f2f1b3c0e11");
    assert_eq!(reply.evaluated_at_ms(), Some(1_772_366_405_250));

    let flag = reply.find("new-checkout").unwrap();
    assert_eq!((flag.id(), flag.version(), flag.has_experiment()), (Some(42), Some(7), Some(false)));
    assert_eq!(flag.value().as_variant().unwrap(), "blue");
    assert_eq!(flag.payload().unwrap().as_text().unwrap().to_string(), r#"{"copy":"Hi"}"#);
    assert_eq!(
        (flag.reason().unwrap().to_string().as_str(), flag.condition_index()),
        ("Matched condition set 1", Some(0))
    );
    assert_eq!(flag.reason_code().unwrap(), "condition_match");

    let flag = reply.find("old-ui").unwrap();
    assert_eq!((flag.version(), flag.has_experiment(), flag.condition_index()), (None, None, None));
    assert_eq!(flag.reason().unwrap(), "no_condition_match");
    assert!(reply.find("new").is_none() && reply.find("").is_none());
}

#[test]
fn an_answer_without_flags_says_why() {
    for (text, limited) in [
        (r#"{"flags":{},"quotaLimited":["feature_flags"]}"#, true),
        (r#"{"flags":{},"quotaLimited":["recordings","feature_flags"]}"#, true),
        (r#"{"flags":{},"quotaLimited":true}"#, true),
        (r#"{"flags":{},"quotaLimited":["recordings"]}"#, false),
        (r#"{"flags":{},"quotaLimited":false}"#, false),
        (r#"{"flags":{},"quotaLimited":null}"#, false),
    ] {
        assert_eq!(FlagsReply::parse(text).unwrap().is_quota_limited(), limited, "{text}");
    }
    assert!(FlagsReply::parse(r#"{"errorsWhileComputingFlags":true}"#).unwrap().errors_while_computing());
}

#[test]
fn keys_and_variants_may_be_anything() {
    let text = r#"{"featureFlags":{"a\"b":"\ud83d\ude00","\u65e5":true,"twice":true,"twice":"last"}}"#;
    let reply = FlagsReply::parse(text).unwrap();
    assert_eq!(reply.find("a\"b").unwrap().value(), FlagValue::variant("😀"));
    assert_eq!(reply.find("日").unwrap().value(), FlagValue::Bool(true));
    assert_eq!(reply.find("twice").unwrap().value(), FlagValue::variant("last"));
}

#[test]
fn what_is_no_answer_is_an_error() {
    for text in ["", "<html>", "null", "[]", "\"flags\"", "{\"flags\":", r#"{"flags":"\ud83d"}"#, "{\"a\":1e999}"] {
        assert!(FlagsReply::parse(text).is_err(), "{text}");
    }
    let deep = format!("{{\"flags\":{}{}}}", "[".repeat(100), "]".repeat(100));
    assert!(matches!(FlagsReply::parse(&deep), Err(ReplyError::Json(_))));
    let long = format!("{{\"flags\":{{\"{}\":{{}}}}}}", "k".repeat(REPLY_BYTES_MAX));
    assert_eq!(FlagsReply::parse(&long).unwrap_err(), ReplyError::TooLong);
}
