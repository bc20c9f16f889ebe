//! The exact bytes of every kind of event and of the envelope: what leaves a client changes only on purpose.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should stop")]

use quillet::{
    Batch, CaptureError, Client, Common, Event, Exception, Level, Outcome, Property, RawJson, Stamper, Timestamp,
    Transport, Typed, Uuid, Value, event, props,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// 2026-11-23T09:00:00.250000Z.
const NOW: u64 = 1_795_424_400_250;

/// What stands in front of the name in every golden line below.
const HEAD: &str =
    r#"{"uuid":"0195506e-1f00-7c3a-9a55-6d2c8f0b1e42","timestamp":"2026-11-23T09:00:00.250000Z","event":"#;

fn try_encode(event: Event<'_>) -> Result<String, CaptureError> {
    let mut out = vec![0; 256 * 1024];
    let uuid = Uuid::parse("0195506e-1f00-7c3a-9a55-6d2c8f0b1e42").unwrap();
    let event = event.uuid(uuid);
    let encoded =
        event.encode(&mut Stamper::new([1, 2]), &Common::default(), Timestamp::from_unix_ms(NOW), &mut out)?;
    assert_eq!(encoded.uuid, uuid);
    out.truncate(encoded.len);
    let text = String::from_utf8(out).unwrap();
    let _: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(!text.bytes().any(|byte| byte < 0x20), "a raw control byte would be taken for the end of a frame");
    Ok(text)
}

fn encode(event: Event<'_>) -> String {
    try_encode(event).unwrap()
}

/// The line `HEAD` + name, id and properties begin, with `$lib` and its version put in.
fn golden(name: &str, id: &str, properties: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let own = format!(r#""$lib":"quillet","$lib_version":"{version}""#);
    format!(r#"{HEAD}"{name}","distinct_id":"{id}","properties":{{{own}{properties}}}}}"#)
}

#[test]
fn capture() {
    let expected = golden("order placed", "customer-7", r#","total":12.5,"currency":"EUR","n":3,"gift":false"#);
    let properties = props! { "total": 12.5, "currency": "EUR", "n": 3, "gift": false };
    assert_eq!(encode(Event::new("order placed", "customer-7").properties(properties)), expected);
    assert_eq!(
        encode(event!("order placed", "customer-7", { "total": 12.5, "currency": "EUR", "n": 3, "gift": false })),
        expected,
        "literal names and keys give the same bytes"
    );
    let run_time = [
        Property::new("total", 12.5),
        Property::new("currency", "EUR"),
        Property::new("n", 3),
        Property::new("gift", false),
    ];
    assert_eq!(encode(Event::new("order placed", "customer-7").properties(&run_time)), expected);
}

#[test]
fn a_number_of_single_precision_has_the_digits_of_one() {
    let properties = props! { "tenth": 0.1f32, "same": 0.1, "whole": 3.0f32, "not": f32::NAN, "in": [16777216.0f32] };
    assert_eq!(
        encode(Event::new("measured", "sensor-1").properties(properties)),
        golden("measured", "sensor-1", r#","tenth":0.1,"same":0.1,"whole":3.0,"not":null,"in":[16777216.0]"#)
    );
}

#[test]
fn an_event_without_properties() {
    assert_eq!(encode(event!("heartbeat", "customer-7")), golden("heartbeat", "customer-7", ""));
}

#[test]
fn identify() {
    let (set, set_once) = (props! { "plan": "pro" }, props! { "first_plan": "free" });
    let event = Event::identify("customer-7").set(set).set_once(set_once);
    assert_eq!(
        encode(event),
        golden("$identify", "customer-7", r#","$set":{"plan":"pro"},"$set_once":{"first_plan":"free"}"#)
    );
    assert_eq!(encode(Event::identify("customer-7")), golden("$identify", "customer-7", r#","$set":{}"#));
}

#[test]
fn person() {
    let set = props! { "plan": "pro" };
    let event = Event::person("customer-7").set(set).unset(&["trial_ends", "a\"b"]);
    assert_eq!(encode(event), golden("$set", "customer-7", r#","$set":{"plan":"pro"},"$unset":["trial_ends","a\"b"]"#));
}

#[test]
fn alias() {
    assert_eq!(
        encode(Event::alias("customer-7", "crm-4411")),
        golden("$create_alias", "customer-7", r#","alias":"crm-4411","distinct_id":"customer-7""#)
    );
}

#[test]
fn group_identify() {
    let expected = r#","$group_type":"company","$group_key":"acme","$group_set":{"seats":40}"#;
    let seats = props! { "seats": 40 };
    let event = Event::group_identify("company", "acme").set(seats);
    assert_eq!(encode(event), golden("$groupidentify", "$company_acme", expected));
    assert_eq!(encode(event.distinct_id("customer-7")), golden("$groupidentify", "customer-7", expected));
    assert_eq!(
        encode(Event::group_identify("company", "acme")),
        golden("$groupidentify", "$company_acme", r#","$group_type":"company","$group_key":"acme","$group_set":{}"#)
    );
}

#[test]
fn exception() {
    let error = Exception::new("billing::ChargeError", "card \"refused\"").handled(true).level(Level::Error);
    assert_eq!(
        encode(Event::exception("customer-7", &error).properties(props! { "order": 7 })),
        golden(
            "$exception",
            "customer-7",
            concat!(
                r#","$exception_level":"error","$exception_list":[{"type":"billing::ChargeError","#,
                r#""value":"card \"refused\"","mechanism":{"type":"generic","handled":true,"exception_id":0}}],"order":7"#
            )
        )
    );
    let bare = Exception::new("", "").fingerprint("same").stack_text("at main\nat f");
    assert_eq!(
        encode(Event::exception("", &bare)),
        golden(
            "$exception",
            "0195506e-1f00-7c3a-9a55-6d2c8f0b1e42",
            concat!(
                r#","$process_person_profile":false,"$exception_list":[{"type":"Error","value":"","#,
                r#""mechanism":{"type":"generic","exception_id":0}}],"$exception_fingerprint":"same","#,
                r#""$exception_stack_trace_raw":"at main\nat f""#
            )
        )
    );
}

#[test]
fn personless() {
    let own = "0195506e-1f00-7c3a-9a55-6d2c8f0b1e42";
    assert_eq!(encode(Event::personless("ping")), golden("ping", own, r#","$process_person_profile":false"#));
    assert_eq!(
        encode(Event::new("ping", "customer-7").person_profile(false)),
        golden("ping", "customer-7", r#","$process_person_profile":false"#)
    );
    assert_eq!(
        encode(Event::personless("ping").groups(&[("company", "acme")])),
        golden("ping", own, r#","$process_person_profile":true,"$groups":{"company":"acme"}"#),
        "groups need person processing"
    );
}

#[test]
fn groups_geoip_and_session() {
    let session = props! { "$session_id": "s-1" };
    let event = Event::new("seen", "customer-7")
        .groups(&[("company", "acme"), ("team", "a\\b")])
        .disable_geoip(true)
        .properties(session);
    assert_eq!(
        encode(event),
        golden(
            "seen",
            "customer-7",
            r#","$geoip_disable":true,"$groups":{"company":"acme","team":"a\\b"},"$session_id":"s-1""#
        )
    );
}

#[test]
fn every_kind_of_value() {
    #[derive(serde::Serialize)]
    struct Order<'a> {
        id: u32,
        tags: &'a [&'a str],
    }
    let order = Typed(Order { id: 7, tags: &["a", "b\n"] });
    let raw = RawJson::parse(r#" { "k" : [ 1 , 2.5e3, "\u00e9\/\u0022\u000a\ud83d\ude00" ] } "#).unwrap();
    let nested = props! { "in": { "deep": [1, [2, { "x": null }]], "none": {} } };
    let values = [
        Property::new("null", Value::Null),
        Property::new("min", i64::MIN),
        Property::new("max", u64::MAX),
        Property::new("zero", 0),
        Property::new("nan", f64::NAN),
        Property::new("inf", f64::NEG_INFINITY),
        Property::new("tiny", 1e-300),
        Property::new("text", "\u{0}\t\"\\/é\u{2028}😀\u{7f}"),
        Property::new("raw", raw),
        Property::new("typed", Value::Typed(&order)),
        Property::new("none", None::<&str>),
        nested[0],
    ];
    assert_eq!(
        encode(Event::new("v", "id").properties(&values)),
        golden(
            "v",
            "id",
            concat!(
                r#","null":null,"min":-9223372036854775808,"max":18446744073709551615,"zero":0,"nan":null,"inf":null,"#,
                r#""tiny":1e-300,"text":"\u0000\t\"\\/é"#,
                "\u{2028}😀\u{7f}",
                r#"","raw":{"k":[1,2.5e3,"é/\"\u000a😀"]},"typed":{"id":7,"tags":["a","b\n"]},"none":null,"#,
                r#""in":{"deep":[1,[2,{"x":null}]],"none":{}}"#
            )
        )
    );
}

#[test]
fn names_and_ids_are_escaped() {
    assert_eq!(encode(Event::new("a\"b\\c\nd", "é\"😀")), golden(r#"a\"b\\c\nd"#, r#"é\"😀"#, ""));
}

#[test]
fn integers_of_every_length() {
    let mut value: u64 = 1;
    for _ in 0..20 {
        for near in [value - 1, value, value + 1, value.wrapping_mul(9)] {
            let text = encode(event!("n", "id", { "n": near }));
            assert!(text.ends_with(&format!("\"n\":{near}}}}}")), "{text}");
            if let Ok(negative) = i64::try_from(near).map(|near| -near) {
                let text = encode(event!("n", "id", { "n": negative }));
                assert!(text.ends_with(&format!("\"n\":{negative}}}}}")), "{text}");
            }
        }
        value = value.saturating_mul(10).min(u64::MAX - 1);
    }
}

#[test]
fn strings_of_every_length_with_an_escape_in_every_place() {
    for len in 0..70 {
        let plain = "x".repeat(len);
        assert!(encode(event!("s", "id", { "s": plain.as_str() })).ends_with(&format!("\"s\":\"{plain}\"}}}}")));
        for at in 0..len {
            for (bad, escape) in [('"', "\\\""), ('\\', "\\\\"), ('\u{1f}', "\\u001f"), ('\u{0}', "\\u0000")] {
                let mut text = plain.clone();
                text.replace_range(at..=at, &bad.to_string());
                let expected = text.replace(bad, escape);
                let got = encode(event!("s", "id", { "s": text.as_str() }));
                assert!(got.ends_with(&format!("\"s\":\"{expected}\"}}}}")), "{got}");
            }
        }
    }
}

#[test]
fn an_output_too_small_is_an_error_at_every_size() {
    let properties = props! { "text": "a \"b\" c", "n": 12345, "long": "0123456789abcdef0" };
    let event = event!("order placed", "customer-7").properties(properties);
    let (common, now) = (Common::default(), Timestamp::from_unix_ms(NOW));
    let mut out = [0u8; 512];
    let whole = event.encode(&mut Stamper::new([1, 2]), &common, now, &mut out).unwrap().len;
    let expected = out[..whole].to_vec();
    for size in 0..whole {
        let mut out = vec![0u8; size];
        let result = event.encode(&mut Stamper::new([1, 2]), &common, now, &mut out);
        assert_eq!(result.unwrap_err(), CaptureError::TooLarge, "{size} of {whole}");
    }
    let mut exact = vec![0u8; whole];
    event.encode(&mut Stamper::new([1, 2]), &common, now, &mut exact).unwrap();
    assert_eq!(exact, expected, "an exact fit takes the careful path and gives the same bytes");

    let mut vec = heapless::Vec::<u8, 600>::new();
    vec.extend_from_slice(b"before ").unwrap();
    event.encode_into(&mut Stamper::new([1, 2]), &common, now, &mut vec).unwrap();
    assert_eq!(&vec[..7], b"before ");
    assert_eq!(&vec[7..], expected);
}

#[test]
fn what_the_server_would_refuse_a_batch_for_is_refused_first() {
    let long_name = "n".repeat(201);
    let long_id = "é".repeat(201);
    let long_key = "k".repeat(1025);
    let key = |key| [Property::new(key, 1)];
    let mut deep = Value::Null;
    let mut storage = Vec::new();
    for _ in 0..65 {
        let boxed: &'static [Value<'static>] = Box::leak(Box::new([deep]));
        storage.push(boxed);
        deep = Value::Array(boxed);
    }
    let too_deep = [Property::new("deep", deep)];
    let just_deep = [Property::new("deep", storage[64][0])];
    let (empty, long, lib, version) = (key(""), key(&long_key), key("$lib"), key("$lib_version"));
    let (set, alias, groups) = (key("$set"), key("alias"), key("$groups"));
    let cookieless = [Property::new("$cookieless_mode", "yes")];
    let big = "x".repeat(300 * 1024);
    let too_large = [Property::new("big", big.as_str())];
    let cases = [
        (Event::new("", "id"), CaptureError::EmptyEventName),
        (Event::new(&long_name, "id"), CaptureError::EventNameTooLong),
        (Event::new("e", ""), CaptureError::EmptyDistinctId),
        (Event::new("e", " \t\u{a0}"), CaptureError::EmptyDistinctId),
        (Event::new("e", &long_id), CaptureError::DistinctIdTooLong),
        (Event::new("e", "id").properties(&empty), CaptureError::EmptyKey),
        (Event::new("e", "id").properties(&long), CaptureError::KeyTooLong),
        (Event::new("e", "id").properties(&lib), CaptureError::ReservedKey),
        (Event::new("e", "id").properties(&version), CaptureError::ReservedKey),
        (Event::new("e", "id").properties(&too_deep), CaptureError::TooDeep),
        (Event::new("e", "id").properties(&cookieless), CaptureError::InvalidValue),
        (Event::new("e", "id").properties(&too_large), CaptureError::TooLarge),
        (Event::identify("id").properties(&set), CaptureError::ReservedKey),
        (Event::alias("id", "x").properties(&alias), CaptureError::ReservedKey),
        (Event::new("e", "id").groups(&[("a", "b")]).properties(&groups), CaptureError::ReservedKey),
        (Event::alias("id", " "), CaptureError::MissingField),
        (Event::alias("", "x"), CaptureError::EmptyDistinctId),
        (Event::alias("id", &long_id), CaptureError::DistinctIdTooLong),
        (Event::group_identify("", "k"), CaptureError::MissingField),
        (Event::group_identify("t", ""), CaptureError::MissingField),
        (Event::new("e", "id").groups(&[("", "b")]), CaptureError::MissingField),
        (Event::identify("id").person_profile(false), CaptureError::Personless),
        (Event::alias("id", "x").person_profile(false), CaptureError::Personless),
        (Event::group_identify("t", "k").person_profile(false), CaptureError::Personless),
    ];
    for (event, expected) in cases {
        assert_eq!(try_encode(event).unwrap_err(), expected, "{event:.60?}");
    }
    assert!(try_encode(Event::new("e", "id").properties(&just_deep)).is_ok());
    assert!(try_encode(Event::new("e", "id").properties(&groups)).is_ok(), "as a plain property it is the caller's");
    assert!(try_encode(Event::new(&"n".repeat(200), &"é".repeat(200))).is_ok());
}

#[test]
fn an_events_own_property_wins_over_a_super_property() {
    let team = props! { "a": "},{" };
    let supers = [
        Property::new("$is_server", true),
        Property::new("region", "eu"),
        Property::new("team", Value::Object(team)),
        Property::new("$geoip_disable", true),
    ];
    let mut memory = [0; 512];
    let common = Common::render(&mut memory, &supers).unwrap();
    let now = Timestamp::from_unix_ms(NOW);
    let properties = |event: Event<'_>| {
        let mut out = [0; 1024];
        let len = event.encode(&mut Stamper::new([1, 2]), &common, now, &mut out).unwrap().len;
        let value: serde_json::Value = serde_json::from_slice(&out[..len]).unwrap();
        let keys = out[..len].windows(9).filter(|window| window == b"\"region\":").count();
        assert_eq!(keys, 1, "no key is written twice");
        value["properties"].clone()
    };
    let all = properties(event!("e", "id", { "n": 1 }));
    assert_eq!(all["region"], "eu");
    assert_eq!(all["$is_server"], true);
    assert_eq!(all["team"]["a"], "},{");
    let own = properties(event!("e", "id", { "region": "us", "$is_server": false }));
    assert_eq!((own["region"].as_str(), own["$is_server"].as_bool()), (Some("us"), Some(false)));
    assert_eq!(own["team"]["a"], "},{");
    let geoip = properties(event!("e", "id").disable_geoip(false));
    assert_eq!(geoip["$geoip_disable"], false);
}

#[test]
fn a_client_wide_personless_switch_holds_for_what_changes_nobody() {
    let supers = [Property::new("$process_person_profile", false)];
    let mut memory = [0; 256];
    let common = Common::render(&mut memory, &supers).unwrap();
    let profile = |event: Event<'_>| {
        let mut out = [0; 1024];
        let now = Timestamp::from_unix_ms(NOW);
        let len = event.encode(&mut Stamper::new([1, 2]), &common, now, &mut out).unwrap().len;
        let value: serde_json::Value = serde_json::from_slice(&out[..len]).unwrap();
        value["properties"].get("$process_person_profile").cloned()
    };
    let error = Exception::new("E", "m");
    assert_eq!(profile(Event::new("e", "id")), Some(false.into()));
    assert_eq!(profile(Event::exception("id", &error)), Some(false.into()), "an error changes no person");
    for event in [Event::identify("id"), Event::person("id"), Event::alias("id", "x"), Event::group_identify("t", "k")]
    {
        assert_eq!(profile(event), None, "the server would drop it");
    }
}

#[test]
fn a_given_time_is_kept_and_written_in_utc() {
    let time = Timestamp::parse("2025-01-02T08:34:05+05:30").unwrap();
    let text = encode(event!("e", "id").timestamp(time));
    assert!(text.contains(r#""timestamp":"2025-01-02T03:04:05.000000Z""#), "{text}");
}

/// What a request carries, put together from its chunks.
#[derive(Clone, Default)]
struct Bodies(Arc<Mutex<Vec<String>>>);

impl Transport for Bodies {
    fn send(&mut self, batch: &Batch<'_>) -> Outcome {
        let at = Timestamp::from_unix_ms(NOW + 5000);
        for sent_at in [None, Some(at)] {
            let body = batch.body(sent_at);
            let bytes: Vec<u8> = body.chunks().flatten().copied().collect();
            assert_eq!(bytes.len(), body.len(), "the length is known beforehand");
            self.0.lock().unwrap().push(String::from_utf8(bytes).unwrap());
        }
        Outcome::status(200)
    }
}

#[test]
fn the_envelope() {
    for (historical, marked) in [(false, ""), (true, r#","historical_migration":true"#)] {
        let bodies = Bodies::default();
        let builder = Client::builder(" phc_example\n").transport(bodies.clone()).without_thread();
        let client = builder.historical_migration(historical).build().unwrap();
        let uuid = Uuid::parse("0195506e-1f00-7c3a-9a55-6d2c8f0b1e42").unwrap();
        let mut events = Vec::new();
        for name in ["one", "two"] {
            let event = Event::new(name, "customer-7").uuid(uuid).timestamp(Timestamp::from_unix_ms(NOW));
            assert!(client.capture(event).is_accepted());
            events.push(golden(name, "customer-7", r#","$is_server":true"#));
        }
        client.flush(Duration::from_secs(30)).unwrap();
        let (first, second) = (&events[0], &events[1]);
        let open = format!(r#"{{"api_key":"phc_example"{marked},"batch":[{first},"#) + "\n" + second;
        let plain = format!("{open}]}}");
        let with_time = format!(r#"{open}],"sent_at":"2026-11-23T09:00:05.250000Z"}}"#);
        assert_eq!(*bodies.0.lock().unwrap(), [plain, with_time]);
    }
}
