//! The examples of PostHog's protocol, said with this client: each request as the description of the wire writes it down, and
//! each answer and document as it says they come.
//!
//! In: the same calls as anybody would make, against the strict sink. Out: what arrived, compared field by field with the
//! example. Exact bytes are in `tests/golden.rs`; here it is the meaning that must not differ.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should stop")]

mod common;

use common::{PATIENCE, accepted, check, quick};
use quillet::flags::FlagGroup;
use quillet::transport::memory::MemoryTransport;
use quillet::{
    Captured, Cause, Client, Event, Exception, FlagQuery, Frame, Image, Level, Mechanism, Timestamp, Uuid, event, props,
};
use quillet_support::Sink;
use serde_json::{Value, json};

/// The library's own name and version stand where the examples have another's.
fn with_our_name(mut example: Value) -> Value {
    if let Some(properties) = example["properties"].as_object_mut() {
        properties.insert("$lib".to_owned(), "quillet".into());
        properties.insert("$lib_version".to_owned(), env!("CARGO_PKG_VERSION").into());
        properties.insert("$is_server".to_owned(), true.into());
    }
    example
}

/// What the sink got of one event, less what the example leaves open.
fn arrived(send: impl FnOnce(&Client) -> Captured, example: &Value) -> Value {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    accepted(send(&client));
    client.flush(PATIENCE).unwrap();
    check(&client, &sink);
    let mut event = sink.requests()[0].json()["batch"][0].clone();
    for field in ["uuid", "timestamp", "distinct_id"] {
        let absent = example.get(field).is_none();
        assert!(event[field].is_string(), "{field}");
        if absent {
            event.as_object_mut().unwrap().remove(field);
        }
    }
    if let Some(timestamp) = example.get("timestamp").and_then(Value::as_str) {
        let same = Timestamp::parse(event["timestamp"].as_str().unwrap()) == Timestamp::parse(timestamp);
        assert!(same, "{} for {timestamp}", event["timestamp"]);
        event["timestamp"] = timestamp.into();
    }
    event
}

#[track_caller]
fn assert_arrives(example: Value, send: impl FnOnce(&Client) -> Captured) {
    let event = arrived(send, &example);
    assert_eq!(event, with_our_name(example));
}

#[test]
fn the_smallest_correct_request() {
    let sink = Sink::builder().sent_at().start().unwrap();
    let client = quick(sink.host()).sent_at(true).build().unwrap();
    let uuid = Uuid::parse("0195506e-1f00-7c3a-9a55-6d2c8f0b1e42").unwrap();
    let time = Timestamp::parse("2026-03-01T12:00:01.000Z").unwrap();
    accepted(client.capture(event!("order placed", "customer-7", { "total": 12.5 }).uuid(uuid).timestamp(time)));
    client.flush(PATIENCE).unwrap();
    check(&client, &sink);
    let request = &sink.requests()[0];
    let mut body = request.json();
    let sent_at = body["sent_at"].as_str().and_then(Timestamp::parse).unwrap();
    assert!(sent_at > time, "the clock at the attempt");
    body["sent_at"] = "2026-03-01T12:00:05.250Z".into();
    let expected = json!({
        "api_key": common::API_KEY,
        "sent_at": "2026-03-01T12:00:05.250Z",
        "batch": [{
            "event": "order placed",
            "distinct_id": "customer-7",
            "uuid": "0195506e-1f00-7c3a-9a55-6d2c8f0b1e42",
            "timestamp": "2026-03-01T12:00:01.000000Z",
            "properties": {
                "$lib": "quillet", "$lib_version": env!("CARGO_PKG_VERSION"), "$is_server": true, "total": 12.5,
            },
        }],
    });
    assert_eq!((request.path.as_str(), body), ("/batch/", expected));
}

#[test]
fn person_properties_aliases_and_groups() {
    assert_arrives(
        json!({"event": "$set", "distinct_id": "customer-7", "properties": {
            "$set": {"plan": "pro"}, "$set_once": {"first_plan": "free"}, "$unset": ["trial_ends"]}}),
        |client| {
            let (set, once) = (props! { "plan": "pro" }, props! { "first_plan": "free" });
            client.capture(Event::person("customer-7").set(set).set_once(once).unset(&["trial_ends"]))
        },
    );
    assert_arrives(
        json!({"event": "$create_alias", "distinct_id": "customer-7",
            "properties": {"alias": "crm-4411", "distinct_id": "customer-7"}}),
        |client| client.alias("customer-7", "crm-4411"),
    );
    assert_arrives(
        json!({"event": "$groupidentify", "distinct_id": "$company_acme", "properties": {
            "$group_type": "company", "$group_key": "acme", "$group_set": {"seats": 40}}}),
        |client| client.group_identify("company", "acme", props! { "seats": 40 }),
    );
}

#[test]
fn an_exception_with_a_stack_and_a_cause() {
    // Beyond the example, each frame says that its symbols are known.
    let example = json!({"event": "$exception", "distinct_id": "customer-7", "properties": {
        "$exception_level": "error",
        "$exception_list": [
            {"type": "billing::ChargeError", "value": "card refused",
             "mechanism": {"type": "generic", "handled": true, "synthetic": false, "exception_id": 0},
             "stacktrace": {"type": "raw", "frames": [
                {"platform": "native", "lang": "rust", "function": "shop::main", "filename": "src/main.rs", "lineno": 12,
                    "in_app": true, "client_resolved": true},
                {"platform": "native", "lang": "rust", "function": "billing::charge", "filename": "src/billing.rs",
                    "lineno": 88, "in_app": true, "client_resolved": true}]}},
            {"type": "std::io::Error", "value": "connection reset",
             "mechanism": {"type": "chained", "source": "cause", "exception_id": 1, "parent_id": 0}}]}});
    assert_arrives(example, |client| {
        // Innermost first, as whoever walks a stack meets them; the wire wants them the other way round.
        let frames = [
            Frame::new("billing::charge").location("src/billing.rs", 88, 0),
            Frame::new("shop::main").location("src/main.rs", 12, 0),
        ];
        let causes = [Cause::new("std::io::Error", "connection reset")];
        let error = Exception::new("billing::ChargeError", "card refused").level(Level::Error).handled(true);
        client.capture(Event::exception("customer-7", &error.synthetic(false).frames(&frames).causes(&causes)))
    });
}

#[test]
fn a_panic_with_an_address() {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { std::env::consts::ARCH };
    let example = json!({"event": "$exception", "properties": {
        "$process_person_profile": false, "$exception_level": "fatal",
        "$exception_list": [{"type": "Panic", "value": "index out of bounds",
            "mechanism": {"type": "panic", "handled": false, "exception_id": 0},
            "stacktrace": {"type": "raw", "frames": [
                {"platform": "native", "lang": "rust", "instruction_addr": "0x55d0c0a01a3f",
                    "image_addr": "0x55d0c0a00000", "in_app": true}]}}],
        "$debug_images": [{"debug_id": "67452301-ab89-efcd-0123-456789abcdef", "image_addr": "0x55d0c0a00000",
            "image_size": 1_048_576, "type": "elf", "arch": arch}]}});
    let event = arrived(
        |client| {
            let build_id = [
                0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01,
                0x23, 0x45, 0x67,
            ];
            let images = [Image::new(0x55d0_c0a0_0000, 1_048_576).build_id(&build_id).in_app(true)];
            let error = Exception::new("Panic", "index out of bounds").level(Level::Fatal).handled(false);
            let error = error.mechanism(Mechanism::Panic).stack(&[0x55d0_c0a0_1a3f], &images);
            client.capture(Event::exception("", &error))
        },
        &example,
    );
    let mut expected = with_our_name(example);
    // The linker's whole build id comes along under a name of its own.
    let code_id = event["properties"]["$debug_images"][0]["code_id"].clone();
    if !code_id.is_null() {
        expected["properties"]["$debug_images"][0]["code_id"] = "0123456789abcdef0123456789abcdef01234567".into();
    }
    assert_eq!(event, expected);
}

#[test]
fn a_question_about_a_flag_and_its_answer() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    let answers = [
        r#"{"flags":{
            "new-checkout":{"key":"new-checkout","enabled":true,"variant":"blue",
                "reason":{"code":"condition_match","condition_index":0,"description":"Matched condition set 1"},
                "metadata":{"id":42,"version":7,"description":null,"payload":"{\"copy\":\"Hi\"}","has_experiment":false}},
            "old-ui":{"key":"old-ui","enabled":false,"variant":null,
                "reason":{"code":"no_condition_match","condition_index":null,"description":"No matching condition set"},
                "metadata":{"id":43,"version":1,"description":null,"payload":null,"has_experiment":false}}},
            "errorsWhileComputingFlags":false,
            "requestId":"7d1c1f6e-53a5-4f65-8f43-2f2f1b3c0e11",
            "evaluatedAt":1772366405250,
            "minimalFlagCalledEvents":true}"#,
        r#"{"featureFlags":{"new-checkout":"blue","old-ui":false},
            "featureFlagPayloads":{"new-checkout":"{\"copy\":\"Hi\"}"},
            "errorsWhileComputingFlags":false}"#,
    ];
    let (plan, seats) = (props! { "plan": "pro" }, props! { "seats": 40 });
    let company = [FlagGroup::new("company", "acme").properties(seats)];
    let who = FlagQuery::new("customer-7").person_properties(plan).groups(&company).force_remote(true);
    for answer in answers {
        sink.flags_answer(answer);
        assert_eq!(client.feature_flag("new-checkout", who), Ok("blue".into()));
        assert_eq!(client.feature_flag_payload("new-checkout", who), Ok(Some(r#"{"copy":"Hi"}"#.to_owned())));
        assert_eq!(client.feature_flag("old-ui", who), Ok(false.into()));
        assert_eq!(client.feature_flag_payload("old-ui", who), Ok(None));
    }
    let question = json!({"token": common::API_KEY, "distinct_id": "customer-7", "person_properties": {"plan": "pro"},
        "groups": {"company": "acme"}, "group_properties": {"company": {"seats": 40}},
        "geoip_disable": false, "flag_keys_to_evaluate": ["new-checkout"]});
    assert_eq!(sink.requests()[0].json(), question);
    check(&client, &sink);
}

/// The document with every part that a definition can have. What it leaves open needs a flag that is not in it.
#[test]
fn the_document_of_definitions() {
    let document = r#"{
        "flags": [{
            "id": 42, "name": "New checkout", "key": "new-checkout", "active": true,
            "ensure_experience_continuity": false, "bucketing_identifier": "distinct_id", "has_experiment": false,
            "filters": {
                "groups": [
                    {"properties": [
                        {"key": "email", "type": "person", "operator": "ends_with", "value": "@example.com"},
                        {"key": "id", "type": "cohort", "operator": "in", "value": 98},
                        {"key": "beta-gate", "type": "flag", "operator": "flag_evaluates_to", "value": true,
                            "dependency_chain": ["base-gate", "beta-gate"]}],
                     "rollout_percentage": 50, "variant": null, "aggregation_group_type_index": null},
                    {"properties": [], "rollout_percentage": 0.1, "variant": "blue"}],
                "multivariate": {"variants": [
                    {"key": "control", "rollout_percentage": 50}, {"key": "blue", "rollout_percentage": 50}]},
                "payloads": {"control": "{\"copy\":\"A\"}", "blue": "{\"copy\":\"B\"}"},
                "aggregation_group_type_index": null,
                "early_exit": false}}],
        "group_type_mapping": {"0": "company", "1": "project"},
        "cohorts": {"98": {"type": "OR", "values": [
            {"type": "AND", "values": [
                {"key": "plan", "type": "person", "operator": "exact", "value": ["pro", "team"]},
                {"key": "churned", "type": "person", "operator": "is_set", "value": "is_set", "negation": true}]}]}},
        "minimal_flag_called_events": false}"#;
    let mut with_gates: Value = serde_json::from_str(document).unwrap();
    with_gates["flags"].as_array_mut().unwrap().extend([
        json!({"key": "base-gate", "active": true, "filters": {"groups": [{}]}}),
        json!({"key": "beta-gate", "active": true, "filters": {"groups": [{"properties": [
            {"key": "base-gate", "type": "flag", "operator": "flag_evaluates_to", "value": true,
                "dependency_chain": ["base-gate"]}]}]}}),
    ]);
    let with_gates = with_gates.to_string();

    let evaluate = |document: &str, email: &str, plan: &str| {
        let builder = Client::builder("phc_test").transport(MemoryTransport::new()).flag_definitions(document);
        let client = builder.build().unwrap();
        let known = props! { "email": email, "plan": plan, "churned": null };
        let who = FlagQuery::new("user-123").person_properties(known).only_local(true);
        client.feature_flag("new-checkout", who).map_err(|error| error.to_string())
    };
    // Nobody's mail: the second condition remains, which takes one of a thousand.
    assert_eq!(evaluate(document, "ada@example.org", "pro"), Ok(false.into()));
    assert_eq!(evaluate(document, "ada@example.com", "free"), Ok(false.into()));
    let open = evaluate(document, "ada@example.com", "pro").unwrap_err();
    assert!(open.contains("another flag"), "{open}");
    let decided = evaluate(&with_gates, "ada@example.com", "pro").unwrap();
    assert!(decided == false || decided == "control" || decided == "blue", "{decided}");
    let place = quillet::flags::bucket("new-checkout", "user-123", "");
    assert_eq!(decided.is_enabled(), place <= 0.5);
}
