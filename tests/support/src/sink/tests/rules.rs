//! Every rule has a case that it accepts and one that it does not.

use super::*;

#[test]
fn events_in_order() {
    let table: [(&str, Change); 21] = [
        ("as it is", |_| {}),
        ("200 bytes", |e| e["event"] = json!("x".repeat(200))),
        ("200 characters", |e| e["distinct_id"] = json!("é".repeat(200))),
        ("escapes that are needed", |e| e["event"] = json!("\"\\\n\t\u{0}\u{1f}")),
        ("all of Unicode", |e| e["event"] = json!("é😀\u{2028}\u{7f}")),
        ("no fraction", |e| e["timestamp"] = json!("2026-03-01T12:00:01Z")),
        ("any uuid", |e| e["uuid"] = json!("123e4567-e89b-42d3-a456-426614174000")),
        ("own properties", |e| e["properties"]["x"] = json!({"a": [null, true, -1, 1e300, {"b": "c"}]})),
        ("personless", |e| e["properties"]["$process_person_profile"] = json!(false)),
        ("groups", |e| e["properties"]["$groups"] = json!({"company": "acme"})),
        ("flags", |e| e["properties"]["$feature/x"] = json!("variant")),
        ("flag list", |e| e["properties"]["$active_feature_flags"] = json!(["x"])),
        ("geoip", |e| e["properties"]["$geoip_disable"] = json!(true)),
        ("identify", |e| {
            e["event"] = json!("$identify");
            e["properties"]["$set"] = json!({"plan": "pro"});
            e["properties"]["$process_person_profile"] = json!(true);
        }),
        ("set", |e| {
            e["event"] = json!("$set");
            e["properties"]["$set_once"] = json!({});
        }),
        ("unset", |e| {
            e["event"] = json!("$set");
            e["properties"]["$unset"] = json!(["plan"]);
        }),
        ("alias", |e| {
            e["event"] = json!("$create_alias");
            e["properties"]["alias"] = json!("crm-1");
            e["properties"]["distinct_id"] = json!("customer-7");
        }),
        ("group", |e| {
            e["event"] = json!("$groupidentify");
            e["properties"]["$group_type"] = json!("company");
            e["properties"]["$group_key"] = json!("acme");
            e["properties"]["$group_set"] = json!({});
        }),
        ("exposure", |e| {
            e["event"] = json!("$feature_flag_called");
            e["properties"]["$feature_flag"] = json!("x");
            e["properties"]["$feature_flag_response"] = json!(null);
        }),
        ("cookieless", |e| e["properties"]["$cookieless_mode"] = json!(true)),
        ("just below the largest", |e| e["properties"]["x"] = json!("x".repeat(999_000))),
    ];
    for (what, change) in table {
        assert_accepted(batch(&[changed(change)]), what);
    }
}

#[test]
fn events_that_take_their_batch_along() {
    let table: [(&str, Change); 20] = [
        ("an event that is no object", |e| *e = json!(1)),
        ("event is missing", |e| remove(e, "event")),
        ("event is empty", |e| e["event"] = json!("")),
        ("event is no string", |e| e["event"] = json!(7)),
        ("distinct_id is missing", |e| remove(e, "distinct_id")),
        ("distinct_id is missing", |e| e["distinct_id"] = json!(null)),
        ("distinct_id is blank", |e| e["distinct_id"] = json!("")),
        ("distinct_id is blank", |e| e["distinct_id"] = json!(" \t\u{a0}\u{3000}")),
        ("uuid is \"x\"", |e| e["uuid"] = json!("x")),
        ("uuid is 1", |e| e["uuid"] = json!(1)),
        ("uuid is null", |e| e["uuid"] = json!(null)),
        ("uuid is", |e| e["uuid"] = json!("0195506e1f007c3a9a556d2c8f0b1e42")),
        ("uuid is", |e| e["uuid"] = json!("00000000-0000-0000-0000-000000000000")),
        ("timestamp is 1", |e| e["timestamp"] = json!(1)),
        ("timestamp is null", |e| e["timestamp"] = json!(null)),
        ("$cookieless_mode", |e| e["properties"]["$cookieless_mode"] = json!("yes")),
        ("properties is no object", |e| e["properties"] = json!([])),
        ("properties is no object", |e| e["properties"] = json!(null)),
        ("properties is no object", |e| e["properties"] = json!("")),
        ("properties is no object", |e| e["properties"] = json!(1)),
    ];
    for (text, change) in table {
        let sink = Sink::start();
        let reply = Client::of(&sink).post(batch(&[event(2), changed(change), event(3)])).unwrap();
        assert_eq!(reply.status, 400, "{text}");
        assert!(reply.body.contains(text), "{text}: {reply:?}");
        assert!(sink.stored().is_empty(), "{text}");
        assert!(sink.violations()[0].contains(text), "{text}: {:?}", sink.violations());
    }
    assert_violation(
        batch(&[changed(|e| e["properties"]["x"] = json!("x".repeat(1_000_000)))]),
        413,
        "an event of 1000",
    );
}

#[test]
fn events_that_the_server_would_take() {
    let table: [(&str, Change); 35] = [
        ("unknown key \"$set\"", |e| e["$set"] = json!({})),
        ("unknown key \"offset\"", |e| e["offset"] = json!(1)),
        ("an event name of 201 bytes", |e| e["event"] = json!("x".repeat(201))),
        ("a distinct_id of 201 characters", |e| e["distinct_id"] = json!("é".repeat(201))),
        ("distinct_id is no string", |e| e["distinct_id"] = json!(7)),
        ("distinct_id is in the properties only", |e| {
            remove(e, "distinct_id");
            e["properties"]["distinct_id"] = json!("a");
        }),
        ("uuid is missing", |e| remove(e, "uuid")),
        ("uuid is empty", |e| e["uuid"] = json!("")),
        ("uuid is not in lower case", |e| e["uuid"] = json!("0195506E-1F00-7C3A-9A55-6D2C8F0B1E42")),
        ("timestamp is missing", |e| remove(e, "timestamp")),
        ("not RFC 3339 with Z", |e| e["timestamp"] = json!("2026-03-01T12:00:01")),
        ("not RFC 3339 with Z", |e| e["timestamp"] = json!("2026-03-01T12:00:01+00:00")),
        ("not RFC 3339 with Z", |e| e["timestamp"] = json!("2026-03-01T17:30:01+05:30")),
        ("not RFC 3339 with Z", |e| e["timestamp"] = json!("")),
        ("$lib is \"\"", |e| remove(&mut e["properties"], "$lib")),
        ("$lib is \"posthog-rs\"", |e| e["properties"]["$lib"] = json!("posthog-rs")),
        ("$lib_version is \"\"", |e| remove(&mut e["properties"], "$lib_version")),
        ("$lib_version is \"0\"", |e| e["properties"]["$lib_version"] = json!("0")),
        ("$process_person_profile is", |e| e["properties"]["$process_person_profile"] = json!("false")),
        ("$is_server is", |e| e["properties"]["$is_server"] = json!(1)),
        ("$geoip_disable is", |e| e["properties"]["$geoip_disable"] = json!(null)),
        ("$ip is", |e| e["properties"]["$ip"] = json!(127)),
        ("$set is", |e| e["properties"]["$set"] = json!([])),
        ("$set_once is", |e| e["properties"]["$set_once"] = json!(null)),
        ("$unset is", |e| e["properties"]["$unset"] = json!([1])),
        ("$groups is", |e| e["properties"]["$groups"] = json!({"company": null})),
        ("$active_feature_flags is", |e| e["properties"]["$active_feature_flags"] = json!("x")),
        ("$feature/x is", |e| e["properties"]["$feature/x"] = json!(null)),
        ("groups need person processing", |e| {
            e["properties"]["$process_person_profile"] = json!(false);
            e["properties"]["$groups"] = json!({"company": "acme"});
        }),
        ("the server drops it", |e| {
            e["event"] = json!("$identify");
            e["properties"]["$process_person_profile"] = json!(false);
        }),
        ("$anon_distinct_id", |e| {
            e["event"] = json!("$identify");
            e["properties"]["$anon_distinct_id"] = json!("x");
        }),
        ("nothing to set", |e| e["event"] = json!("$set")),
        ("properties.distinct_id is not", |e| {
            e["event"] = json!("$create_alias");
            e["properties"]["alias"] = json!("crm-1");
        }),
        ("$group_set is no object", |e| {
            e["event"] = json!("$groupidentify");
            e["properties"]["$group_type"] = json!("company");
            e["properties"]["$group_key"] = json!("acme");
        }),
        ("the server drops $performance_event", |e| e["event"] = json!("$performance_event")),
    ];
    for (text, change) in table {
        assert_violation(batch(&[changed(change)]), 200, text);
    }
}

#[test]
fn personless_events_never_touch_persons() {
    for name in ["$identify", "$create_alias", "$groupidentify"] {
        let mut event = event(1);
        event["event"] = json!(name);
        event["properties"]["$process_person_profile"] = json!(false);
        event["properties"]["alias"] = json!("b");
        event["properties"]["distinct_id"] = json!("customer-7");
        event["properties"]["$group_type"] = json!("company");
        event["properties"]["$group_key"] = json!("acme");
        event["properties"]["$group_set"] = json!({});
        assert_violation(batch(&[event.clone()]), 200, "person processing is off");
        event["properties"]["$process_person_profile"] = json!(true);
        assert_accepted(batch(&[event]), name);
    }
}

#[test]
fn envelopes() {
    let events = format!("[{}]", event(1));
    let accepted = [
        format!(r#"{{"api_key":"phc_x","batch":{events}}}"#),
        format!(r#"{{"batch":{events},"api_key":"phc_x","historical_migration":true}}"#),
        format!(r#"{{"api_key":"{}","batch":{events}}}"#, "x".repeat(64)),
    ];
    for body in accepted {
        assert_accepted(&body, &body);
    }
    let refused = [
        (400, "no object", "[]".to_owned()),
        (400, "not JSON", String::new()),
        (400, "not JSON", "{}}".to_owned()),
        (400, "batch is no array", r#"{"api_key":"x"}"#.to_owned()),
        (400, "batch is no array", r#"{"api_key":"x","batch":{}}"#.to_owned()),
        (400, "request holds no event", r#"{"api_key":"x","batch":[]}"#.to_owned()),
        (
            400,
            "historical_migration is no boolean",
            format!(r#"{{"api_key":"x","batch":{events},"historical_migration":1}}"#),
        ),
        (400, "api_key is no string", format!(r#"{{"api_key":1,"batch":{events}}}"#)),
        (401, "api_key is missing", format!(r#"{{"batch":{events}}}"#)),
        (401, "api_key is empty", format!(r#"{{"api_key":"","batch":{events}}}"#)),
        (401, "api_key has 65 bytes", format!(r#"{{"api_key":"{}","batch":{events}}}"#, "x".repeat(65))),
        (401, "ASCII", format!(r#"{{"api_key":"é","batch":{events}}}"#)),
        (401, "ASCII", format!(r#"{{"api_key":"a\u0000b","batch":{events}}}"#)),
        (401, "personal", format!(r#"{{"api_key":"phx_1","batch":{events}}}"#)),
        (200, "white space around it", format!(r#"{{"api_key":" x","batch":{events}}}"#)),
        (
            200,
            "sent although it is false",
            format!(r#"{{"api_key":"x","batch":{events},"historical_migration":false}}"#),
        ),
        (200, "unknown key \"x\"", format!(r#"{{"api_key":"x","x":1,"batch":{events}}}"#)),
        (
            200,
            "sent_at is sent although",
            format!(r#"{{"api_key":"x","batch":{events},"sent_at":"2026-03-01T12:00:01Z"}}"#),
        ),
        (200, "uuid 0195506e-1f00-7c3a-9a55-000000000001 twice", batch(&[event(1), event(1)])),
    ];
    for (status, text, body) in refused {
        assert_violation(body, status, text);
    }
}

#[test]
fn text_that_a_parser_would_hide() {
    let with = |properties: &str| {
        let text = event(1).to_string().replace(r#""total":12.5"#, properties);
        format!(r#"{{"api_key":"x","batch":[{text}]}}"#)
    };
    for fine in [r#""a":"\n\"\\\u0001""#, r#""a":{"b":1},"b":{"b":1}"#, r#""a":"é😀""#, r#""a":{"b":1,"b":2}"#] {
        assert_accepted(with(fine), fine);
    }
    let table = [
        (400, "not JSON", r#""a":NaN"#),
        (400, "not JSON", r#""a":Infinity"#),
        (400, "not JSON", r#""a":1e999"#),
        (400, "not JSON", r#""a":01"#),
        (400, "not JSON", "\"a\":\"\n\""),
        (400, "not JSON", "\"a\":\"\u{1}\""),
        (400, "not JSON", r#""a":"\ud800""#),
        (400, "not JSON", r#""a":"\udc00x""#),
        (400, "not JSON", r#""a":1,"#),
        (200, r#"key "a" twice"#, r#""a":1,"a":2"#),
        (200, r#"key "$lib" twice"#, r#""$lib":"quillet""#),
        (200, r"\u00e9 is escaped needlessly", r#""a":"\u00e9""#),
        (200, r"\/ is escaped needlessly", r#""a":"\/""#),
        (200, "a raw newline", "\"a\":\n1"),
    ];
    for (status, text, properties) in table {
        assert_violation(with(properties), status, text);
    }
    let one = event(1).to_string();
    let twice = one.replacen('{', r#"{"event":"order placed","#, 1);
    assert_violation(format!(r#"{{"api_key":"x","batch":[{twice}]}}"#), 400, r#"batch[0]: key "event" twice"#);
    assert_violation(format!(r#"{{"api_key":"x","api_key":"x","batch":[{one}]}}"#), 400, "envelope: key \"api_key\"");
    let mut invalid = batch(&[event(1)]).into_bytes();
    let at = invalid.iter().position(|byte| *byte == b'7').unwrap();
    invalid[at] = 0xff;
    assert_violation(&invalid, 400, "not UTF-8");
}

#[test]
fn sent_at_is_there_when_expected() {
    let sink = Sink::builder().sent_at().start().unwrap();
    let mut client = Client::of(&sink);
    let with = |sent_at: &str| format!(r#"{{"api_key":"x","batch":[{}]{sent_at}}}"#, event(1));
    client.post(with(r#","sent_at":"2026-03-01T12:00:05.250Z""#)).unwrap();
    sink.assert_clean();
    client.post(with("")).unwrap();
    client.post(with(r#","sent_at":"now""#)).unwrap();
    client.post(with(r#","sent_at":null"#)).unwrap();
    assert_eq!(sink.violations().len(), 3);
}

#[test]
fn an_event_that_comes_again_comes_unchanged() {
    let sink = Sink::start();
    let mut client = Client::of(&sink);
    client.post(batch(&[event(1), event(2)])).unwrap();
    client.post(batch(&[event(2), event(1)])).unwrap();
    sink.assert_clean();
    assert_eq!(sink.view(Journal::duplicates), 2);
    let table: [(&str, Change); 4] = [
        ("event name", |e| e["event"] = json!("x")),
        ("distinct_id", |e| e["distinct_id"] = json!("x")),
        ("timestamp", |e| e["timestamp"] = json!("2026-03-01T12:00:02Z")),
        ("JSON text", |e| e["properties"]["total"] = json!(13)),
    ];
    for (what, change) in table {
        client.post(batch(&[changed(change)])).unwrap();
        let violations = sink.violations();
        assert!(violations.last().unwrap().ends_with(&format!("another {what}")), "{violations:?}");
    }
}

#[test]
fn headers() {
    let body = batch(&[event(1)]);
    let right = |headers: &[(&str, &str)]| {
        let sink = Sink::start();
        assert_eq!(Client::of(&sink).post_with("/batch/", headers, &body).unwrap().status, 200);
        sink.assert_clean();
    };
    right(&[]);
    right(&[("Content-Type", "application/json; charset=utf-8")]);
    right(&[("X-Test-Id", "t-1"), ("Accept", "*/*")]);
    let table = [
        (200, "/batch/", "Content-Type", "text/plain", "Content-Type is"),
        (200, "/batch/", "Content-Type", "", "Content-Type is"),
        (200, "/batch/", "User-Agent", "posthog-rs/1", "User-Agent is"),
        (200, "/batch/", "User-Agent", "", "User-Agent is"),
        (200, "/batch/", "Host", "", "no Host"),
        (200, "/batch/", "Authorization", "Bearer x", "Authorization"),
        (200, "/batch/", "Content-Encoding", "identity", "Content-Encoding is"),
        (400, "/batch/", "Content-Encoding", "gzip", "corrupt gzip"),
        (200, "/batch", "Accept", "*/*", "no slash at the end"),
        (200, "/batch/?compression=gzip", "Accept", "*/*", "query"),
        (404, "/e/", "Accept", "*/*", "nothing is served"),
        (404, "/", "Accept", "*/*", "nothing is served"),
    ];
    for (status, target, name, value, text) in table {
        let sink = Sink::start();
        assert_eq!(Client::of(&sink).post_with(target, &[(name, value)], &body).unwrap().status, status, "{text}");
        let violations = sink.violations();
        assert!(violations.len() == 1 && violations[0].contains(text), "{text}: {violations:?}");
    }
    let sink = Sink::builder().library("other", "2").any_lib_version().api_key("phc_other").start().unwrap();
    Client::of(&sink).post(&body).unwrap();
    let violations = sink.violations();
    assert_eq!(violations.len(), 3, "{violations:?}");
}

#[test]
fn bodies_over_the_limit() {
    let sink = Sink::start();
    let mut client = Client::of(&sink);
    let reply = client.post(vec![b' '; 20 * 1024 * 1024 + 1]).unwrap();
    assert_eq!(reply.status, 413);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&vec![b' '; 20 * 1024 * 1024 + 1]).unwrap();
    let bomb = encoder.finish().unwrap();
    assert_eq!(client.post_with("/batch/", &[("Content-Encoding", "gzip")], bomb).unwrap().status, 413);
    assert_eq!(sink.violations().len(), 2);
    // The largest one is read, and is no JSON.
    assert_eq!(client.post(vec![b' '; 20 * 1024 * 1024]).unwrap().status, 400);
}
