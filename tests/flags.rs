//! Feature flags over real HTTP: what is asked, what is made of the answers, what is told about it, and that every call ends.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails should stop")]

mod common;

use common::{PATIENCE, check, quick, within};
use quillet::flags::{FlagGroup, Inconclusive};
use quillet::{
    Client, ClientBuilder, Event, FlagError, FlagQuery, FlagsEndpoint, HookVerdict, OwnedFlagValue, event, props,
};
use quillet_support::sink::{Event as Stored, Request, never_accepts, refuses};
use quillet_support::{Answer, Rule, Sink};
use serde_json::{Value, json};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

const V2: &str = r#"{"flags":{
    "new-checkout":{"key":"new-checkout","enabled":true,"variant":"blue",
      "reason":{"code":"condition_match","condition_index":0,"description":"Matched condition set 1"},
      "metadata":{"id":42,"version":7,"description":null,"payload":"{\"copy\":\"Hi\",\"n\":3}","has_experiment":true}},
    "old-ui":{"key":"old-ui","enabled":false,"variant":null,
      "reason":{"code":"no_condition_match","condition_index":null,"description":"No matching condition set"},
      "metadata":{"id":43,"version":1,"description":null,"payload":null,"has_experiment":false}},
    "broken":{"key":"broken","enabled":false,"failed":true}},
  "errorsWhileComputingFlags":false,
  "requestId":"7d1c1f6e-53a5-4f65-8f43-2f2f1b3c0e11","evaluatedAt":1772366405250,"minimalFlagCalledEvents":true}"#;

/// `everyone` is on for all, `pro` for a plan, `half` for a part, `server` only the server can tell.
const DEFINITIONS: &str = r#"{"flags":[
    {"id":1,"key":"everyone","active":true,"has_experiment":false,"filters":{"groups":[{}],"payloads":{"true":"{\"n\":1}"}}},
    {"id":2,"key":"pro","active":true,"filters":{"groups":[{"properties":[{"key":"plan","value":"pro"}]}]}},
    {"id":3,"key":"mail","active":true,"filters":{"groups":[
        {"properties":[{"key":"email","operator":"regex","value":"@example\\.com$"}]}]}},
    {"id":4,"key":"server","active":true,"ensure_experience_continuity":true,"filters":{"groups":[{}]}}],
  "minimal_flag_called_events":true}"#;

fn flag_requests(sink: &Sink) -> Vec<Arc<Request>> {
    sink.requests().into_iter().filter(|request| request.is_flags()).collect()
}

/// The `$feature_flag_called` events that arrived, after a flush.
fn called(client: &Client, sink: &Sink) -> Vec<Arc<Stored>> {
    client.flush(PATIENCE).unwrap();
    sink.stored().into_iter().filter(|event| event.name() == "$feature_flag_called").collect()
}

/// What the event says beyond what every event says.
fn said(event: &Stored) -> Value {
    let mut properties = event.value["properties"].as_object().unwrap().clone();
    properties.retain(|key, _| !matches!(key.as_str(), "$lib" | "$lib_version" | "$is_server"));
    properties.into()
}

/// Answers flags alone by this; batches as ever.
fn for_flags(answer: Answer) -> Rule {
    Rule::custom(move |request| request.is_flags().then(|| answer.clone()))
}

#[test]
fn the_request_is_the_one_of_the_protocol() {
    for (endpoint, path, token) in
        [(FlagsEndpoint::Flags, "/flags/", "token"), (FlagsEndpoint::Decide, "/decide/", "api_key")]
    {
        let sink = Sink::builder().api_key(common::API_KEY).start().unwrap();
        let client = quick(sink.host()).flags_endpoint(endpoint).build().unwrap();
        sink.flags_answer(r#"{"featureFlags":{"signup-aa-test":"variant-a"}}"#);
        assert_eq!(client.feature_flag("signup-aa-test", "customer-7"), Ok("variant-a".into()));

        let (seats, plan) = (props! { "seats": 40 }, props! { "plan": "pro" });
        let groups = [FlagGroup::new("company", "acme").properties(seats)];
        let query = FlagQuery::new("customer-7").person_properties(plan).groups(&groups);
        client.is_feature_enabled("signup-aa-test", query.disable_geoip(true).device_id("d-1"), false);
        client.feature_flags("customer-8");

        let bodies: Vec<Value> = flag_requests(&sink).iter().map(|request| request.json()).collect();
        let none = json!({ token: common::API_KEY, "distinct_id": "customer-7", "groups": {}, "group_properties": {},
            "geoip_disable": false, "flag_keys_to_evaluate": ["signup-aa-test"] });
        let all = json!({ token: common::API_KEY, "distinct_id": "customer-7", "device_id": "d-1",
            "person_properties": { "plan": "pro" }, "groups": { "company": "acme" },
            "group_properties": { "company": { "seats": 40 } }, "geoip_disable": true,
            "flag_keys_to_evaluate": ["signup-aa-test"] });
        assert_eq!(bodies[..2], [none, all]);
        assert!(bodies[2].get("flag_keys_to_evaluate").is_none());
        assert!(flag_requests(&sink).iter().all(|request| request.path == path));
        check(&client, &sink);
    }
}

#[test]
fn what_is_denied_leaves_in_no_request_either() {
    let sink = Sink::start();
    let builder = quick(sink.host()).deny_keys(["email"]).flag_definitions(DEFINITIONS);
    let client = builder.build().unwrap();
    let known = props! { "email": "ada@example.com", "plan": "pro", "nested": { "email": "x", "n": 1 } };
    let (acme, other) = (props! { "email": "a@b", "seats": 40 }, props! { "email": "a@b" });
    let groups = [FlagGroup::new("company", "acme").properties(acme), FlagGroup::new("project", "p").properties(other)];
    let query = FlagQuery::new("x").person_properties(known).groups(&groups).device_id("d-1");
    client.feature_flag("server", query).unwrap_err();
    let body = flag_requests(&sink)[0].json();
    assert_eq!(body["person_properties"], json!({ "plan": "pro", "nested": { "n": 1 } }));
    assert_eq!(
        (&body["group_properties"], &body["device_id"]),
        (&json!({ "company": { "seats": 40 } }), &json!("d-1"))
    );
    assert_eq!(client.feature_flag("mail", query), Ok(true.into()), "here it may be looked at");
    check(&client, &sink);
}

#[test]
fn values_payloads_and_errors_come_out_as_they_were_sent() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Copy {
        copy: String,
        n: u8,
    }
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    sink.flags_answer(V2);
    assert_eq!(client.feature_flag("new-checkout", "x"), Ok("blue".into()));
    assert_eq!(client.feature_flag("old-ui", "x"), Ok(false.into()));
    assert_eq!(client.feature_flag("broken", "x"), Err(FlagError::Failed));
    assert_eq!(client.feature_flag("none", "x"), Err(FlagError::Missing));
    assert!(client.is_feature_enabled("new-checkout", "x", false) && !client.is_feature_enabled("old-ui", "x", true));
    assert!(client.is_feature_enabled("none", "x", true) && !client.is_feature_enabled("none", "x", false));
    assert_eq!(client.feature_flag_or("none", "x", "green"), OwnedFlagValue::from("green"));
    assert_eq!(client.feature_flag_payload("new-checkout", "x"), Ok(Some(r#"{"copy":"Hi","n":3}"#.to_owned())));
    assert_eq!(client.feature_flag_payload("old-ui", "x"), Ok(None));
    let copy = client.feature_flag_payload_as::<Copy>("new-checkout", "x");
    assert_eq!(copy, Ok(Some(Copy { copy: "Hi".to_owned(), n: 3 })));
    assert_eq!(client.feature_flag_payload_as::<u8>("new-checkout", "x"), Ok(None), "no such type");
    check(&client, &sink);
}

#[test]
fn reading_a_flag_is_told_once_for_each_value_and_person() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    sink.flags_answer(V2);
    for _ in 0..3 {
        client.is_feature_enabled("new-checkout", "x", false);
        client.feature_flag("new-checkout", "x").unwrap();
        client.feature_flag("none", "x").unwrap_err();
        client.feature_flag_payload("old-ui", "x").unwrap();
    }
    let events = called(&client, &sink);
    let said: Vec<Value> = events.iter().map(|event| said(event)).collect();
    assert_eq!(
        said,
        [
            json!({ "$feature_flag": "new-checkout", "$feature_flag_response": "blue", "$feature/new-checkout": "blue",
            "locally_evaluated": false, "$feature_flag_payload": { "copy": "Hi", "n": 3 },
            "$feature_flag_has_experiment": true, "$feature_flag_id": 42, "$feature_flag_version": 7,
            "$feature_flag_reason": "Matched condition set 1", "$feature_flag_evaluated_at": 1_772_366_405_250_u64,
            "$feature_flag_request_id": "7d1c1f6e-53a5-4f65-8f43-2f2f1b3c0e11" }),
            json!({ "$feature_flag": "none", "$feature_flag_response": null, "$feature/none": null,
            "locally_evaluated": false, "$feature_flag_error": "flag_missing",
            "$feature_flag_evaluated_at": 1_772_366_405_250_u64,
            "$feature_flag_request_id": "7d1c1f6e-53a5-4f65-8f43-2f2f1b3c0e11" }),
        ]
    );
    assert!(events.iter().all(|event| event.distinct_id() == "x"));

    // Another person, other groups, another value: each is news.
    let groups = [FlagGroup::new("company", "acme")];
    client.feature_flag("new-checkout", "y").unwrap();
    client.feature_flag("new-checkout", FlagQuery::new("x").groups(&groups)).unwrap();
    sink.flags_answer(V2.replace("blue", "green"));
    client.feature_flag("new-checkout", FlagQuery::new("x").force_remote(true)).unwrap();
    let news = &called(&client, &sink)[2..];
    assert_eq!(news.len(), 3);
    assert_eq!(*news[1].property("$groups"), json!({ "company": "acme" }));
    assert_eq!(*news[2].property("$feature_flag_response"), "green");
    check(&client, &sink);

    let silent = quick(sink.host()).feature_flag_called_events(false).build().unwrap();
    silent.feature_flag("new-checkout", "z").unwrap();
    assert_eq!(called(&silent, &sink).len(), 5);
}

#[test]
fn the_minimal_event_says_no_more_than_it_must() {
    let sink = Sink::start();
    let client = quick(sink.host())
        .super_property("service", "checkout")
        .super_property("$os", "Linux")
        .disable_geoip(true)
        .before_send(|draft| {
            draft.set("from a hook", 1);
            HookVerdict::Send
        })
        .build()
        .unwrap();
    sink.flags_answer(V2);
    let groups = [FlagGroup::new("company", "acme")];
    client.feature_flag("old-ui", FlagQuery::new("x").groups(&groups)).unwrap();
    client.feature_flag("new-checkout", "x").unwrap();
    let events = called(&client, &sink);
    assert_eq!(
        said(&events[0]),
        json!({ "$feature_flag": "old-ui", "$feature_flag_response": false, "locally_evaluated": false,
            "$feature_flag_has_experiment": false, "$feature_flag_id": 43, "$feature_flag_version": 1,
            "$feature_flag_reason": "No matching condition set", "$feature_flag_evaluated_at": 1_772_366_405_250_u64,
            "$feature_flag_request_id": "7d1c1f6e-53a5-4f65-8f43-2f2f1b3c0e11", "$groups": { "company": "acme" },
            "$os": "Linux", "$geoip_disable": true })
    );
    // An experiment needs it all.
    assert_eq!((events[1].property("from a hook"), events[1].property("service")), (&json!(1), &json!("checkout")));
    check(&client, &sink);
}

#[test]
fn whatever_the_server_does_the_call_ends_with_a_default() {
    let long = format!(r#"{{"flags":{{"{}":{{}}}}}}"#, "k".repeat(5 << 20));
    let quick_to_end = |sink: &Sink| {
        quick(sink.host()).feature_flag_timeout(Duration::from_millis(300)).feature_flag_retries(0).build().unwrap()
    };
    for (answer, expected) in [
        (Answer::Html200, FlagError::BadAnswer),
        (Answer::status_with_body(200, "[]"), FlagError::BadAnswer),
        (Answer::status_with_body(200, long), FlagError::BadAnswer),
        (Answer::status_with_body(200, r#"{"flags":{},"quotaLimited":["feature_flags"]}"#), FlagError::QuotaLimited),
        (Answer::status(401), FlagError::Status(401)),
        (Answer::status_after(429, "7"), FlagError::Status(429)),
        (Answer::status(503), FlagError::Status(503)),
        (Answer::status(302), FlagError::Status(302)),
        (Answer::ResetAfterStoring, FlagError::Connection),
        (Answer::Garbage, FlagError::Connection),
        (Answer::HalfAnswer, FlagError::Connection),
        (Answer::NoAnswer, FlagError::Timeout),
        (Answer::SlowDrip(Duration::from_millis(100)), FlagError::Timeout),
    ] {
        let sink = Sink::start();
        let client = quick_to_end(&sink);
        sink.rule(for_flags(answer.clone()));
        let (_, result) = within(PATIENCE, || client.feature_flag("a", "x"));
        assert_eq!(result, Err(expected), "{answer:?}");
        assert!(client.is_feature_enabled("a", "x", true), "{answer:?}");
        assert_eq!(flag_requests(&sink).len(), 1, "{answer:?}: a failure counts for a moment");
        let events = called(&client, &sink);
        assert_eq!(events.len(), 1);
        assert_eq!(*events[0].property("$feature_flag_response"), Value::Null);
        assert!(events[0].property("$feature_flag_error").is_string(), "{answer:?}");
    }
    let client = quick(refuses().unwrap()).feature_flag_retries(0).build().unwrap();
    assert_eq!(client.feature_flag("a", "x"), Err(FlagError::Connection));
    client.discard();
    let nowhere = never_accepts().unwrap();
    let client = quick(nowhere.host()).feature_flag_retries(0).build().unwrap();
    let hurried = FlagQuery::new("x").timeout(Duration::from_millis(200));
    let (_, result) = within(PATIENCE, || client.feature_flag("a", hurried));
    assert_eq!(result, Err(FlagError::Timeout));
    client.discard();
}

#[test]
fn a_gateway_that_fails_once_is_asked_twice() {
    for status in [502, 504] {
        let sink = Sink::start();
        let client = quick(sink.host()).build().unwrap();
        sink.script([Answer::status(status)]);
        sink.flags_answer(r#"{"featureFlags":{"a":true}}"#);
        assert_eq!(client.feature_flag("a", "x"), Ok(true.into()));
        let requests = flag_requests(&sink);
        assert_eq!(requests.len(), 2);
        assert!(requests[1].arrived.duration_since(requests[0].arrived) >= Duration::from_millis(300));
        assert_eq!(requests[0].body, requests[1].body);
        check(&client, &sink);
    }
}

#[test]
fn threads_that_ask_the_same_share_one_request() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    sink.flags_answer(V2);
    let together = Arc::new(Barrier::new(16));
    let threads: Vec<_> = (0..16)
        .map(|_| {
            let (client, together) = (client.clone(), Arc::clone(&together));
            thread::spawn(move || {
                together.wait();
                client.feature_flag("new-checkout", "x")
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), Ok("blue".into()));
    }
    assert_eq!(flag_requests(&sink).len(), 1);
    assert_eq!(called(&client, &sink).len(), 1);
    check(&client, &sink);
}

#[test]
fn events_go_their_way_while_a_flag_is_waited_for_and_a_shutdown_ends_the_wait() {
    let sink = Sink::start();
    let client = quick(sink.host()).feature_flag_timeout(Duration::from_secs(60)).build().unwrap();
    sink.rule(for_flags(Answer::NoAnswer));
    let waiting = {
        let client = client.clone();
        thread::spawn(move || client.feature_flag("a", "x"))
    };
    assert!(sink.wait_for(|journal| journal.requests().iter().any(|request| request.is_flags()), PATIENCE));
    common::capture(&client, "meanwhile", 3);
    client.flush(PATIENCE).unwrap();
    assert_eq!(sink.stored().len(), 3);
    let (_, report) = within(PATIENCE, || client.shutdown());
    assert!(report.is_complete);
    assert_eq!(waiting.join().unwrap(), Err(FlagError::Closed));
    assert_eq!(client.feature_flag("a", "x"), Err(FlagError::Closed));
    assert!(client.is_feature_enabled("a", "x", true));
    check(&client, &sink);
}

fn with_definitions(sink: &Sink) -> ClientBuilder {
    sink.definitions(DEFINITIONS, "W/\"1\"");
    quick(sink.host()).personal_api_key("phs_secret")
}

#[test]
fn with_definitions_the_server_is_asked_only_what_it_alone_knows() {
    let sink = Sink::builder().api_key(common::API_KEY).start().unwrap();
    let client = with_definitions(&sink).build().unwrap();
    sink.flags_answer(r#"{"flags":{"server":{"enabled":true,"variant":"theirs"},"pro":{"enabled":false}}}"#);
    client.reload_feature_flags(PATIENCE).unwrap();

    assert_eq!(client.feature_flag("everyone", "x"), Ok(true.into()));
    assert_eq!(client.feature_flag_payload("everyone", "x"), Ok(Some(r#"{"n":1}"#.to_owned())));
    let known = props! { "plan": "pro", "email": "ada@example.com" };
    let pro = FlagQuery::new("x").person_properties(known);
    assert_eq!(client.feature_flag("pro", pro), Ok(true.into()));
    assert_eq!(client.feature_flag("mail", pro), Ok(true.into()));
    assert!(flag_requests(&sink).is_empty());

    let alone = FlagQuery::new("x").only_local(true);
    let missing = Err(FlagError::Inconclusive(Inconclusive::PropertyMissing));
    assert_eq!(client.feature_flag("pro", alone), missing);
    assert_eq!(client.feature_flag("none", alone), Err(FlagError::Inconclusive(Inconclusive::UnknownFlag)));
    assert!(flag_requests(&sink).is_empty());

    assert_eq!(client.feature_flag("server", "x"), Ok("theirs".into()));
    assert_eq!(client.feature_flag("pro", "x"), Ok(false.into()), "nobody said which plan: the server knows");
    assert_eq!(client.feature_flag("pro", pro.force_remote(true)), Ok(false.into()));
    assert_eq!(flag_requests(&sink).len(), 3);

    let events = called(&client, &sink);
    assert_eq!(
        said(&events[0]),
        json!({ "$feature_flag": "everyone", "$feature_flag_response": true, "locally_evaluated": true,
            "$feature_flag_has_experiment": false, "$feature_flag_id": 1,
            "$feature_flag_reason": "Evaluated locally" }),
        "the document asks for the minimal form"
    );
    assert_eq!(*events[1].property("locally_evaluated"), true);
    assert_eq!(*events[1].property("$feature/pro"), true);
    check(&client, &sink);
}

#[test]
fn definitions_are_asked_for_again_with_their_etag() {
    let sink = Sink::builder().api_key(common::API_KEY).start().unwrap();
    let client = with_definitions(&sink).flag_poll_interval(Duration::from_secs(1)).build().unwrap();
    // Without being told to: when the client starts, and a second later.
    let twice = |journal: &quillet_support::sink::Journal| {
        journal.requests().iter().filter(|request| request.is_definitions()).count() >= 2
    };
    assert!(sink.wait_for(twice, PATIENCE));
    let requests = sink.requests();
    assert_eq!((requests[0].status, requests[0].header("if-none-match")), (Some(200), None));
    assert_eq!((requests[1].status, requests[1].header("if-none-match")), (Some(304), Some("W/\"1\"")));
    assert_eq!(client.feature_flag("everyone", "x"), Ok(true.into()));

    sink.definitions(DEFINITIONS.replace("everyone", "nobody"), "W/\"2\"");
    client.reload_feature_flags(PATIENCE).unwrap();
    let alone = FlagQuery::new("x").only_local(true);
    assert!(client.feature_flag("nobody", alone).is_ok() && client.feature_flag("everyone", alone).is_err());
    check(&client, &sink);
    client.shutdown();
    let after = sink.requests().len();
    assert_eq!(client.reload_feature_flags(PATIENCE), Err(FlagError::Closed));
    assert_eq!(sink.requests().len(), after);
}

#[test]
fn a_snapshot_is_one_request_and_stays_what_it_was() {
    let sink = Sink::start();
    let client = with_definitions(&sink).build().unwrap();
    client.reload_feature_flags(PATIENCE).unwrap();
    sink.flags_answer(
        r#"{"flags":{"everyone":{"enabled":false},"server":{"enabled":true,"variant":"theirs",
        "metadata":{"payload":"[1]"}},"off":{"enabled":false}}}"#,
    );
    let flags = client.feature_flags("x");
    assert_eq!(flag_requests(&sink).len(), 1);
    let all: Vec<_> = flags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(all, ["everyone=true", "off=false", "server=theirs"], "what was found out locally is not overwritten");
    assert_eq!((flags.payload("server"), flags.payload("off"), flags.error()), (Some("[1]"), None, None));
    assert!(called(&client, &sink).is_empty(), "looking at all of them reads none");

    assert!(flags.is_enabled("server", false) && !flags.is_enabled("off", true) && flags.flag("none").is_none());
    flags.is_enabled("server", false);
    assert_eq!(called(&client, &sink).len(), 3);
    assert_eq!(flags.only_accessed().keys().collect::<Vec<_>>(), ["off", "server"]);

    sink.forget();
    flags.capture(event!("paid", "x", { "$feature/off": "mine" }));
    flags.only(&["everyone"]).capture(Event::new("seen", "x"));
    client.flush(PATIENCE).unwrap();
    let stored = sink.stored();
    assert_eq!(
        said(&stored[0]),
        json!({ "$feature/off": "mine", "$feature/everyone": true, "$feature/server": "theirs",
            "$active_feature_flags": ["everyone", "server"] })
    );
    assert_eq!(said(&stored[1]), json!({ "$feature/everyone": true, "$active_feature_flags": ["everyone"] }));
    check(&client, &sink);
    drop(client);
    assert!(flags.is_enabled("server", false), "the values are there without their client");
    assert!(!flags.capture(Event::new("late", "x")).is_accepted());
}

#[test]
fn a_snapshot_keeps_what_resolved_when_the_server_fails() {
    let sink = Sink::start();
    let client = with_definitions(&sink).build().unwrap();
    client.reload_feature_flags(PATIENCE).unwrap();
    sink.rule(for_flags(Answer::status(500)));
    let flags = client.feature_flags("x");
    assert_eq!((flags.keys().collect::<Vec<_>>(), flags.error()), (vec!["everyone"], Some(FlagError::Status(500))));
    let named = client.feature_flags(FlagQuery::new("x").keys(&["everyone"]));
    assert_eq!((named.len(), named.error()), (1, None));
    assert_eq!(flag_requests(&sink).len(), 1, "nothing was left to ask");
    let alone = client.feature_flags(FlagQuery::new("y").only_local(true));
    assert_eq!(alone.len(), 1);
    assert!(matches!(alone.error(), Some(FlagError::Inconclusive(_))));
    check(&client, &sink);
}

#[test]
fn by_option_every_event_says_which_flags_its_person_has() {
    let sink = Sink::start();
    let client = quick(sink.host()).send_feature_flags(true).build().unwrap();
    sink.flags_answer(r#"{"featureFlags":{"a":"blue","b":false,"c":true}}"#);
    client.capture(event!("before", "x"));
    client.feature_flag("a", "x").unwrap();
    client.capture(event!("after", "x", { "$feature/c": "mine" }));
    client.capture(event!("other", "y"));
    client.capture(Event::personless("nobody"));
    client.flush(PATIENCE).unwrap();
    let stored = sink.stored();
    let of = |name: &str| said(stored.iter().find(|event| event.name() == name).unwrap());
    assert_eq!(of("before"), json!({}));
    assert_eq!(
        of("after"),
        json!({ "$feature/a": "blue", "$feature/b": false, "$feature/c": "mine", "$active_feature_flags": ["a", "c"] })
    );
    assert_eq!(of("other"), json!({}));
    assert_eq!(flag_requests(&sink).len(), 1, "capturing asks nobody");
    check(&client, &sink);
}

#[test]
fn nobody_is_asked_about_nobody() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    for id in ["", " \t", &"x".repeat(201)] {
        assert_eq!(client.feature_flag("a", id), Err(FlagError::DistinctId));
        assert_eq!(client.feature_flags(id).error(), Some(FlagError::DistinctId));
    }
    client.set_enabled(false);
    assert_eq!(client.feature_flag("a", "x"), Err(FlagError::Disabled));
    client.set_enabled(true);
    assert!(called(&client, &sink).is_empty() && sink.requests().is_empty());

    for client in [Client::disabled(), Client::new(None::<String>).unwrap()] {
        assert_eq!(client.feature_flag("a", "x"), Err(FlagError::Disabled));
        assert!(client.is_feature_enabled("a", "x", true));
        assert!(client.feature_flags("x").is_empty());
        assert_eq!(client.reload_feature_flags(PATIENCE), Err(FlagError::Disabled));
    }
    let own = quick("").transport(quillet::transport::memory::MemoryTransport::new()).build().unwrap();
    assert_eq!(own.feature_flag("a", "x"), Err(FlagError::NoTransport));
    assert_eq!(own.reload_feature_flags(PATIENCE), Err(FlagError::NoTransport));
}
