//! The 17 tests of the harness's suite `feature_flags`, under their official names; in parallel, and each once more in the
//! sequential mode, in one row.
//!
//! In: the official steps. Out: the official assertions, on what the mock server recorded and on what the call returned.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::mock::{Answer, Recorded};
use crate::harness::parallel::cases;
use crate::harness::{API_KEY, Test};

cases! {
    // What is asked.

    fn request_with_person_properties_device_id(test) {
        test.init(json!({}));
        let person = json!({ "$device_id": "device-123" });
        test.feature_flag("test-flag", json!({ "person_properties": person, "disable_geoip": true }));
        let body = only_flags_request(test).body;
        assert_eq!((&body["token"], &body["distinct_id"]), (&json!(API_KEY), &json!("test_user")));
        assert_eq!(body["person_properties"]["$device_id"], "device-123");
        assert_eq!((&body["groups"], &body["group_properties"]), (&json!({}), &json!({})));
        assert_eq!((&body["geoip_disable"], &body["flag_keys_to_evaluate"]), (&json!(true), &json!(["test-flag"])));
    }

    fn flags_request_uses_v2_query_param(test) {
        test.init(json!({}));
        test.feature_flag("test-flag", json!({}));
        assert_eq!(only_flags_request(test).query, "v=2");
    }

    fn flags_request_hits_flags_path_not_decide(test) {
        test.init(json!({}));
        test.feature_flag("test-flag", json!({}));
        assert!(matches!(only_flags_request(test).path.as_str(), "/flags" | "/flags/"));
    }

    fn flags_request_omits_authorization_header(test) {
        test.init(json!({}));
        test.feature_flag("test-flag", json!({}));
        assert_eq!(only_flags_request(test).authorization, None);
    }

    fn token_in_flags_body_matches_init(test) {
        test.init(json!({ "api_key": "phc_another_key" }));
        test.feature_flag("test-flag", json!({}));
        assert_eq!(only_flags_request(test).body["token"], "phc_another_key");
    }

    fn groups_round_trip(test) {
        test.init(json!({}));
        let of_company = json!({ "company": { "plan": "enterprise", "seats": 40 } });
        test.feature_flag("test-flag", json!({ "groups": { "company": "acme" }, "group_properties": of_company }));
        let body = only_flags_request(test).body;
        assert_eq!((&body["groups"], &body["group_properties"]), (&json!({ "company": "acme" }), &of_company));
    }

    fn groups_default_to_empty_object(test) {
        test.init(json!({}));
        test.feature_flag("test-flag", json!({}));
        let body = only_flags_request(test).body;
        assert_eq!((&body["groups"], &body["group_properties"]), (&json!({}), &json!({})));
    }

    fn disable_geoip_false_propagates_as_geoip_disable_false(test) {
        test.init(json!({}));
        test.feature_flag("test-flag", json!({ "disable_geoip": false }));
        assert_eq!(only_flags_request(test).body["geoip_disable"], false);
    }

    fn disable_geoip_omitted_defaults_to_false(test) {
        test.init(json!({}));
        test.feature_flag("test-flag", json!({}));
        assert_eq!(only_flags_request(test).body["geoip_disable"], false);
    }

    fn flag_keys_to_evaluate_contains_only_requested_key(test) {
        test.init(json!({}));
        test.feature_flag("one-of-many", json!({}));
        assert_eq!(only_flags_request(test).body["flag_keys_to_evaluate"], json!(["one-of-many"]));
    }

    // When it is asked.

    fn no_flags_request_on_init_alone(test) {
        test.init(json!({}));
        thread::sleep(QUIET);
        assert_eq!(test.requests().len(), 0);
    }

    fn no_flags_request_on_normal_capture(test) {
        test.init(json!({}));
        test.capture("test_event");
        test.flush();
        let requests = test.exactly(1);
        assert!(!requests[0].is_flags());
    }

    fn two_flag_calls_produce_two_remote_requests(test) {
        test.init(json!({}));
        test.feature_flag("test-flag", json!({}));
        test.feature_flag("test-flag", json!({}));
        assert_eq!(flags_requests(test).len(), 2);
    }

    fn mock_response_value_is_returned_to_caller(test) {
        test.script([Answer::with_body(r#"{"featureFlags":{"signup-aa-test":"variant-a"}}"#)]);
        test.init(json!({}));
        assert_eq!(test.feature_flag("signup-aa-test", json!({})), "variant-a");
    }

    // What happens when it goes wrong.

    fn retries_flags_on_502(test) {
        retried(test, 502);
    }

    fn retries_flags_on_504(test) {
        retried(test, 504);
    }

    // What else it does.

    fn get_feature_flag_captures_feature_flag_called_event(test) {
        test.script([Answer::with_body(r#"{"featureFlags":{"test-flag":true}}"#)]);
        test.init(json!({}));
        assert_eq!(test.feature_flag("test-flag", json!({})), true);
        test.flush();
        let requests = test.requests();
        let events: Vec<&Value> =
            requests.iter().filter(|request| !request.is_flags()).flat_map(Recorded::events).collect();
        assert_eq!(events.len(), 1);
        assert_eq!((&events[0]["event"], &events[0]["distinct_id"]), (&json!("$feature_flag_called"), &json!("test_user")));
        let properties = &events[0]["properties"];
        assert_eq!(properties["$feature_flag"], "test-flag");
        assert_eq!(properties["$feature_flag_response"], true);
    }
}

/// How long nothing may happen.
const QUIET: Duration = Duration::from_millis(500);

/// One after the other on one adapter, so that what one leaves behind falls into the next.
#[test]
fn the_suite_passes_in_the_sequential_mode_too() {
    let test = Test::alone();
    for (name, case) in CASES {
        println!("{name}");
        test.forget();
        test.reset();
        case(&test);
    }
}

/// An unknown flag and a server that refuses are values, not failed calls.
#[test]
fn what_is_not_known_is_null() {
    let test = Test::parallel("unknown-flag");
    test.script([200, 500]);
    test.init(json!({}));
    assert_eq!(test.feature_flag("unknown", json!({})), Value::Null);
    assert_eq!(test.feature_flag("unknown", json!({})), Value::Null);
    assert_eq!(flags_requests(&test).len(), 2, "500 is not tried again");
}

#[test]
fn null_is_what_was_not_said() {
    let test = Test::parallel("null-flag-options");
    test.init(json!({}));
    let nothing = json!({
        "person_properties": null, "groups": null, "group_properties": null, "disable_geoip": null, "force_remote": null,
    });
    test.feature_flag("test-flag", nothing);
    let body = only_flags_request(&test).body;
    assert_eq!((&body["groups"], &body["group_properties"]), (&json!({}), &json!({})));
    assert_eq!((&body["geoip_disable"], body.get("person_properties")), (&json!(false), None));
}

fn flags_requests(test: &Test) -> Vec<Recorded> {
    test.requests().into_iter().filter(Recorded::is_flags).collect()
}

fn only_flags_request(test: &Test) -> Recorded {
    let mut requests = flags_requests(test);
    assert_eq!(requests.len(), 1);
    requests.remove(0)
}

fn retried(test: &Test, status: u16) {
    test.script([Answer::from(status), Answer::with_body(r#"{"featureFlags":{"test-flag":"second"}}"#)]);
    test.init(json!({}));
    assert_eq!(test.feature_flag("test-flag", json!({})), "second");
    let requests = flags_requests(test);
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].body, requests[1].body);
    assert!(requests[1].at.duration_since(requests[0].at) >= Duration::from_millis(290));
}
