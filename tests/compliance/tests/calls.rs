//! The adapter's own manners: each call, its options, and what is said to a call that makes no sense.
//!
//! In: calls. Out: their answers, and what the client then did differently.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::Test;

#[test]
fn health_names_the_client_and_what_it_can_do() {
    let health = Test::parallel("health").servers.adapter.call("GET", "/health", None).expect_ok();
    assert_eq!(health["sdk_name"], "quillet");
    assert!(health["sdk_version"].is_string() && health["adapter_version"].is_string());
    assert_eq!(health["supports_parallel"], true);
    assert_eq!(health["capabilities"], json!(["capture_v0", "encoding_gzip"]));
}

#[test]
fn state_tells_requests_retries_and_errors() {
    let test = Test::parallel("state");
    test.script([502]);
    test.init(json!({ "flush_at": 10 }));
    let uuids = test.capture_many(2);
    let before = test.state();
    assert_eq!((&before["pending_events"], &before["total_events_captured"]), (&json!(2), &json!(2)));
    assert_eq!(test.flush(), 2);

    let state = test.state();
    assert_eq!((&state["pending_events"], &state["total_events_sent"]), (&json!(0), &json!(2)));
    assert_eq!((&state["total_events_captured"], &state["total_retries"]), (&json!(2), &json!(1)));
    assert!(state["last_error"].as_str().unwrap().starts_with("HTTP 502: "), "{state}");
    let requests = state["requests_made"].as_array().unwrap();
    let of_all = |field| requests.iter().map(|request: &Value| request[field].clone()).collect::<Vec<_>>();
    assert_eq!(of_all("status_code"), [502, 200]);
    assert_eq!(of_all("retry_attempt"), [0, 1]);
    assert_eq!(of_all("event_count"), [2, 2]);
    assert_eq!(of_all("uuid_list"), [json!(uuids), json!(uuids)]);
    let times: Vec<_> = requests.iter().map(|request| request["timestamp_ms"].as_u64().unwrap()).collect();
    assert!(times[0] > 1_700_000_000_000 && times[1] >= times[0] + 950, "{times:?}");
}

#[test]
fn a_server_that_is_not_there_is_an_error_of_the_state_and_of_nothing_else() {
    let test = Test::parallel("unreachable");
    test.init(json!({ "host": "http://127.0.0.1:1", "max_retries": 0 }));
    test.capture("test_event");
    assert_eq!(test.flush(), 0);
    let state = test.state();
    assert!(state["last_error"].is_string(), "{state}");
    assert_eq!(state["requests_made"][0]["status_code"], 0);
    test.reset();
}

#[test]
fn instances_share_nothing() {
    let (one, other) = (Test::parallel("one"), Test::parallel("other"));
    one.script([400]);
    for test in [&one, &other] {
        test.init(json!({}));
        test.capture("test_event");
    }
    assert_eq!((other.flush(), one.flush()), (1, 0), "each takes its own answers");
    assert_eq!((one.requests().len(), other.requests().len()), (1, 1));
    one.reset();
    assert_eq!(other.state()["total_events_sent"], 1);
}

#[test]
fn reaching_flush_at_sends_without_a_flush() {
    let test = Test::parallel("flush-at");
    test.init(json!({ "flush_at": 3 }));
    // Long enough for the client's thread to have gone to sleep.
    std::thread::sleep(Duration::from_millis(1500));
    test.capture_many(3);
    test.wait_for_requests(1, Duration::from_secs(5));
    assert_eq!(test.requests()[0].events().len(), 3);
}

#[test]
fn the_interval_sends_without_a_flush() {
    let test = Test::parallel("interval");
    test.init(json!({ "flush_interval_ms": 200 }));
    test.capture("test_event");
    test.wait_for_requests(1, Duration::from_secs(5));
}

#[test]
fn properties_arrive_as_they_were_given_however_deep() {
    let given = json!({
        "null": null, "large": u64::MAX, "negative": -7, "half": 0.5, "text": "“quoted” \"\\\n\u{1}",
        "list": [1, [true, null], {}], "$set": { "plan": "pro" }, "$groups": { "company": "acme" },
    });
    let test = Test::parallel("properties");
    test.init(json!({}));
    test.capture_with("test_event", given.clone(), Value::Null);
    assert_eq!(test.flush(), 1);
    let sent = &test.requests()[0].body["batch"][0]["properties"];
    for (key, value) in given.as_object().unwrap() {
        assert_eq!(&sent[key], value, "{key}");
    }
    assert!(sent["$geoip_disable"].is_null(), "only where it was asked for");
    assert!(test.requests()[0].body["historical_migration"].is_null(), "only where it was asked for");
}

#[test]
fn client_wide_options_reach_the_wire() {
    let test = Test::parallel("options");
    test.init(json!({ "disable_geoip": true, "historical_migration": true, "unknown": [1] }));
    test.capture("test_event");
    assert_eq!(test.flush(), 1);
    let body = &test.requests()[0].body;
    assert_eq!(body["historical_migration"], true);
    assert_eq!(body["batch"][0]["properties"]["$geoip_disable"], true);
}

#[test]
fn calls_that_make_no_sense_are_told_so_in_json() {
    let test = Test::parallel("misuse");
    let event = json!({ "distinct_id": "test_user", "event": "test_event", "properties": null });
    let refused = |method: &str, path: &str, body: Option<&Value>, status: u16| {
        let reply = test.servers.adapter.call(method, &test.path(path), body);
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.body);
        assert!(reply.body["error"].is_string(), "{method} {path}: {}", reply.body);
    };
    refused("POST", "/capture", Some(&event), 400);
    refused("POST", "/flush", None, 400);
    refused("POST", "/init", None, 400);
    refused("POST", "/init", Some(&json!({ "api_key": "phc_x" })), 400);
    refused("POST", "/init", Some(&json!({ "api_key": "phc_x", "host": "no address at all" })), 400);
    refused("POST", "/get_feature_flag", Some(&json!({ "key": "x", "distinct_id": "y" })), 400);
    refused("GET", "/flush", None, 404);

    test.init(json!({}));
    refused("POST", "/capture", None, 400);
    refused("POST", "/capture", Some(&json!({ "event": "x" })), 400);
    refused("POST", "/capture", Some(&json!({ "event": "", "distinct_id": "y" })), 400);
    refused("POST", "/capture", Some(&json!({ "event": "x", "distinct_id": "y", "timestamp": "yesterday" })), 400);
    assert_eq!(test.flush(), 0);

    let reply = test.servers.adapter.send("nonsense\r\n\r\n");
    assert!(reply.status == 400 && reply.body["error"].is_string(), "{reply:?}");
}
