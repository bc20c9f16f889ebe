//! The 30 server tests of the harness's suite `capture`, under their official names.
//!
//! In: the official steps. Out: the official assertions, on what the mock server recorded. Where the harness waits for five
//! to fifteen seconds after a flush and then counts, these count at once (a flush ends when every event is decided) and, for
//! exact numbers, once more after two seconds, having seen that nothing is pending.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::API_KEY;
use crate::harness::mock::{Answer, Recorded};
use crate::harness::parallel::cases;

cases! {
    // Format.

    fn event_has_required_fields(test) {
        test.init(json!({ "flush_at": 1 }));
        test.capture("test_event");
        test.flush();
        let requests = test.exactly(1);
        let event = first_event(&requests);
        assert_eq!((&event["event"], &event["distinct_id"]), (&json!("test_event"), &json!("test_user")));
    }

    fn event_has_uuid(test) {
        test.init(json!({}));
        let uuid = test.capture("test_event");
        test.flush();
        let requests = test.requests();
        assert_eq!(first_event(&requests)["uuid"], uuid.as_str(), "the adapter returns what is sent");
        assert_uuid(&uuid);
    }

    fn event_has_lib_properties(test) {
        test.init(json!({}));
        test.capture("test_event");
        test.flush();
        let requests = test.requests();
        let properties = &first_event(&requests)["properties"];
        assert!(properties["$lib"].is_string() && properties["$lib_version"].is_string(), "{properties}");
    }

    fn distinct_id_is_string(test) {
        test.init(json!({}));
        test.capture("test_event");
        test.flush();
        assert_eq!(first_event(&test.requests())["distinct_id"], "test_user");
    }

    fn token_is_present(test) {
        test.init(json!({ "api_key": "phc_another_key" }));
        test.capture("test_event");
        test.flush();
        assert_eq!(test.requests()[0].body["api_key"], "phc_another_key");
    }

    fn custom_properties_preserved(test) {
        let given = json!({ "custom_string": "hello", "custom_number": 42, "custom_bool": true });
        test.init(json!({}));
        test.capture_with("test_event", given.clone(), Value::Null);
        test.flush();
        let requests = test.requests();
        let properties = &first_event(&requests)["properties"];
        for (key, value) in given.as_object().unwrap() {
            assert_eq!(&properties[key], value, "{key}");
        }
    }

    fn event_has_timestamp(test) {
        test.init(json!({}));
        test.capture("test_event");
        test.flush();
        let requests = test.requests();
        assert_utc(first_event(&requests)["timestamp"].as_str().unwrap());
    }

    fn non_utc_event_timestamp_is_converted_to_utc(test) {
        let given = "2025-01-02T08:34:05+05:30";
        test.init(json!({ "flush_at": 1 }));
        test.capture_with("test_event", json!({ "timestamp_like": given }), json!(given));
        test.flush();
        let requests = test.requests();
        let event = first_event(&requests);
        let timestamp = event["timestamp"].as_str().unwrap();
        assert_utc(timestamp);
        assert!(timestamp.starts_with("2025-01-02T03:04:05"), "{timestamp}");
        assert!(timestamp[19..].bytes().all(|byte| b".0Z".contains(&byte)), "{timestamp}");
        assert_eq!(event["properties"]["timestamp_like"], given);
    }

    // Retries.

    fn retries_on_503(test) {
        assert_eq!(send_against(test, &[503, 503, 200]), [503, 503, 200]);
    }

    fn does_not_retry_on_400(test) {
        assert_eq!(send_against(test, &[400]), [400]);
        test.exactly(1);
    }

    fn does_not_retry_on_401(test) {
        assert_eq!(send_against(test, &[401]), [401]);
        test.exactly(1);
    }

    fn respects_retry_after_header(test) {
        test.script([Answer::with_retry_after(429, "3"), Answer::from(200)]);
        test.init(json!({}));
        test.capture("test_event");
        test.flush();
        let requests = test.requests();
        assert_eq!(statuses(&requests), [429, 200]);
        assert!(first_delay(&requests) >= Duration::from_millis(2500), "{:?}", first_delay(&requests));
    }

    fn implements_backoff(test) {
        assert_eq!(send_against(test, &[503, 503, 503, 200]), [503, 503, 503, 200]);
        let requests = test.requests();
        let delays: Vec<_> = requests.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
        assert!(delays[0] >= Duration::from_millis(100), "{delays:?}");
        assert!(delays[1] > delays[0] && delays[2] > delays[1], "{delays:?}");
    }

    fn retries_on_500(test) {
        assert_eq!(send_against(test, &[500, 200]), [500, 200]);
    }

    fn retries_on_502(test) {
        assert_eq!(send_against(test, &[502, 200]), [502, 200]);
    }

    fn retries_on_504(test) {
        assert_eq!(send_against(test, &[504, 200]), [504, 200]);
    }

    fn max_retries_respected(test) {
        test.script([503; 5]);
        test.init(json!({ "max_retries": 3 }));
        test.capture("test_event");
        assert_eq!(test.flush(), 0);
        assert_eq!(statuses(&test.exactly(4)), [503; 4]);
    }

    // Deduplication.

    fn generates_unique_uuids(test) {
        test.init(json!({}));
        let uuids = test.capture_many(5);
        test.flush();
        let requests = test.requests();
        let sent: Vec<_> = requests.iter().flat_map(|request| request.all("uuid")).collect();
        assert_eq!(sent, uuids);
        assert_all_differ(&sent);
    }

    fn preserves_uuid_on_retry(test) {
        assert_eq!(send_against(test, &[503, 200]), [503, 200]);
        assert_repeated(&test.requests());
    }

    fn preserves_uuid_and_timestamp_on_retry(test) {
        assert_eq!(send_against(test, &[503, 503, 200]), [503, 503, 200]);
        assert_repeated(&test.requests());
    }

    fn preserves_uuid_and_timestamp_on_batch_retry(test) {
        test.script([503, 200]);
        test.init(json!({ "flush_at": 10 }));
        let uuids = test.capture_many(3);
        assert_eq!(test.flush(), 3);
        let requests = test.requests();
        assert_eq!(statuses(&requests), [503, 200]);
        assert_eq!(requests[0].all("uuid"), uuids);
        assert_repeated(&requests);
        assert_all_differ(&requests[1].all("uuid"));
    }

    fn no_duplicate_events_in_batch(test) {
        test.init(json!({ "flush_at": 10 }));
        test.capture_many(5);
        assert_eq!(test.flush(), 5);
        assert_all_differ(&test.requests()[0].all("uuid"));
    }

    fn different_events_have_different_uuids(test) {
        test.init(json!({}));
        for _ in 0..2 {
            test.capture_with("test_event", json!({ "key": "value" }), Value::Null);
        }
        assert_eq!(test.flush(), 2);
        let requests = test.requests();
        let uuids: Vec<_> = requests.iter().flat_map(|request| request.all("uuid")).collect();
        assert_eq!(uuids.len(), 2);
        assert_all_differ(&uuids);
    }

    // Compression, batches, errors.

    fn sends_gzip_when_enabled(test) {
        test.init(json!({ "enable_compression": true }));
        test.capture("test_event");
        assert_eq!(test.flush(), 1);
        let requests = test.requests();
        assert_eq!(requests[0].content_encoding.as_deref(), Some("gzip"));
        assert_eq!(first_event(&requests)["event"], "test_event");
    }

    fn uses_proper_batch_structure(test) {
        test.init(json!({}));
        test.capture("test_event");
        test.flush();
        let request = &test.requests()[0];
        assert_eq!(request.body["api_key"], API_KEY);
        assert!(request.body["batch"].is_array());
        assert_eq!((request.content_type.as_deref(), &request.content_encoding), (Some("application/json"), &None));
    }

    fn flush_with_no_events_sends_nothing(test) {
        test.init(json!({}));
        assert_eq!(test.flush(), 0);
        test.exactly(0);
    }

    fn multiple_events_batched_together(test) {
        test.init(json!({ "flush_at": 10 }));
        test.capture_many(5);
        assert_eq!(test.flush(), 5);
        assert_eq!(test.exactly(1)[0].events().len(), 5);
    }

    fn does_not_retry_on_403(test) {
        assert_eq!(send_against(test, &[403]), [403]);
        test.exactly(1);
    }

    fn does_not_retry_on_413(test) {
        assert_eq!(send_against(test, &[413]), [413]);
        test.exactly(1);
    }

    fn retries_on_408(test) {
        assert_eq!(send_against(test, &[408, 200]), [408, 200]);
    }
}

#[test]
fn the_table_is_complete() {
    assert_eq!(CASES.len(), 30);
}

/// One event with default options against these answers; what was answered in the end.
fn send_against(test: &crate::harness::Test, answers: &[u16]) -> Vec<u16> {
    test.script(answers.iter().copied());
    test.init(json!({}));
    test.capture("test_event");
    let delivered = u64::from(answers.ends_with(&[200]));
    assert_eq!(test.flush(), delivered);
    statuses(&test.requests())
}

fn statuses(requests: &[Recorded]) -> Vec<u16> {
    requests.iter().map(|request| request.status).collect()
}

fn first_event(requests: &[Recorded]) -> &Value {
    &requests.first().expect("a request").events()[0]
}

/// Between the arrivals of the first two requests.
fn first_delay(requests: &[Recorded]) -> Duration {
    requests[1].at - requests[0].at
}

/// Every request has the same events with the same times, in the same order.
fn assert_repeated(requests: &[Recorded]) {
    for request in &requests[1..] {
        assert_eq!(request.all("uuid"), requests[0].all("uuid"));
        assert_eq!(request.all("timestamp"), requests[0].all("timestamp"));
    }
}

fn assert_all_differ(uuids: &[&str]) {
    for (at, uuid) in uuids.iter().enumerate() {
        assert_uuid(uuid);
        assert!(!uuids[..at].contains(uuid), "{uuid} twice");
    }
}

fn assert_uuid(text: &str) {
    assert!(has_shape(text, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"), "{text}");
}

/// `YYYY-MM-DDTHH:MM:SS[.fraction]` and `Z` or `+00:00`.
fn assert_utc(text: &str) {
    let local = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00")).unwrap_or_else(|| panic!("{text}"));
    let (seconds, fraction) = local.split_once('.').unwrap_or((local, "0"));
    assert!(has_shape(seconds, "dddd-dd-ddTdd:dd:dd"), "{text}");
    assert!(!fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
}

/// `x` stands for a hexadecimal digit, `d` for a decimal one, anything else for itself.
fn has_shape(text: &str, shape: &str) -> bool {
    let fits = |(byte, shape): (u8, u8)| match shape {
        b'x' => byte.is_ascii_hexdigit(),
        b'd' => byte.is_ascii_digit(),
        _ => byte == shape,
    };
    text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(fits)
}
