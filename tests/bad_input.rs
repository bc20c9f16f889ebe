//! Bad input never reaches a batch, and good input is never refused by the server, however odd it looks.
//!
//! In: events that are wrong in one way each, among good neighbours; values from the odd corners of Unicode, JSON and
//! numbers. Out: a reason and a counter for each of the first; for each of the second, the same value at the strict sink.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should stop")]

mod common;

use common::{PATIENCE, accepted, check, conserved, fates, quick};
use quillet::transport::memory::MemoryTransport;
use quillet::{
    BuildError, CaptureError, Captured, Client, Event, Exception, HookVerdict, Level, Outcome, OwnedValue, Prng,
    Property, RawJson, Timestamp, Typed, Uuid, Value, props,
};
use quillet_support::Sink;
use serde_json::json;
use std::collections::BTreeMap;
use std::panic::{catch_unwind, panic_any};

type Make = fn(&Client) -> Captured;

/// Wrong events, at least one for each reason that lies in the event itself.
fn wrong_events() -> Vec<(CaptureError, &'static str, Make)> {
    use CaptureError::*;
    let mut all: Vec<(CaptureError, &'static str, Make)> = Vec::new();
    let mut wrong = |error, name, make: Make| all.push((error, name, make));
    fn one<'a>(client: &Client, key: &'a str, value: impl Into<Value<'a>>) -> Captured {
        client.capture(Event::new("x", "customer-7").properties(&[Property::new(key, value)]))
    }
    wrong(EmptyEventName, "no name", |client| client.capture(Event::new("", "customer-7")));
    wrong(EventNameTooLong, "a name of 201 bytes", |client| client.capture(Event::new(&"n".repeat(201), "customer-7")));
    wrong(EventNameTooLong, "201 bytes, fewer letters", |client| client.capture(Event::new(&"€".repeat(67), "x")));
    wrong(EmptyDistinctId, "no id", |client| client.capture(Event::new("x", "")));
    wrong(EmptyDistinctId, "a blank id", |client| client.capture(Event::new("x", " \t\n\u{3000}")));
    wrong(EmptyDistinctId, "an identified nobody", |client| client.identify("", props! { "a": 1 }));
    wrong(EmptyDistinctId, "an alias for nobody", |client| client.alias(" ", "cookie-1"));
    wrong(DistinctIdTooLong, "an id of 300 letters", |client| client.capture(Event::new("x", &"i".repeat(300))));
    wrong(DistinctIdTooLong, "an id of 201 umlauts", |client| client.capture(Event::new("x", &"ü".repeat(201))));
    wrong(DistinctIdTooLong, "an alias of 201 letters", |client| client.alias("x", &"a".repeat(201)));
    wrong(DistinctIdTooLong, "a group that makes a long id", |client| {
        client.group_identify(&"t".repeat(100), &"k".repeat(99), &[])
    });
    wrong(EmptyKey, "an empty key", |client| one(client, "", 1));
    wrong(EmptyKey, "an empty key in $set", |client| client.identify("x", &[Property::new("", 1)]));
    wrong(KeyTooLong, "a key of 1025 bytes", |client| one(client, &"k".repeat(1025), 1));
    wrong(KeyTooLong, "the same in $set_once", |client| {
        client.capture(Event::person("x").set_once(&[Property::new(&"k".repeat(1025), 1)]))
    });
    wrong(ReservedKey, "$lib", |client| one(client, "$lib", "mine"));
    wrong(ReservedKey, "$lib_version", |client| one(client, "$lib_version", 1));
    wrong(ReservedKey, "$set, twice", |client| {
        let set = [Property::new("$set", 1)];
        client.capture(Event::identify("x").set(props! { "a": 1 }).properties(&set))
    });
    wrong(ReservedKey, "$groups, twice", |client| {
        let groups = [Property::new("$groups", 1)];
        client.capture(Event::new("x", "y").groups(&[("company", "acme")]).properties(&groups))
    });
    wrong(ReservedKey, "an alias in an alias", |client| {
        client.capture(Event::alias("x", "y").properties(&[Property::new("alias", "z")]))
    });
    wrong(ReservedKey, "a list in an exception", |client| {
        client
            .capture(Event::exception("x", &Exception::new("E", "")).properties(&[Property::new("$exception_list", 1)]))
    });
    wrong(ReservedKey, "a person for a personless event", |client| {
        client.capture(Event::personless("x").properties(&[Property::new("$process_person_profile", true)]))
    });
    wrong(TooDeep, "65 arrays", |client| nest(client, Value::Null, 65));
    wrong(TooDeep, "60 arrays around 5 of somebody else's", |client| {
        nest(client, Value::Raw(RawJson::parse("[[[[[]]]]]").unwrap()), 60)
    });
    wrong(TooDeep, "a serialised value of 65 levels", |client| {
        let deep = (0..64).fold(json!([]), |inner, _| json!([inner]));
        one(client, "deep", Value::Typed(&Typed(&deep)))
    });
    wrong(TooLarge, "64 KiB", |client| one(client, "text", "x".repeat(64 * 1024).as_str()));
    wrong(TooLarge, "64 KiB of 33 thousand quotes", |client| one(client, "text", "\"".repeat(33_000).as_str()));
    wrong(TooLarge, "many properties", |client| {
        client.capture(Event::new("x", "y").properties(&vec![Property::new("key", "a value"); 5000]))
    });
    wrong(InvalidValue, "more than 64 bits", |client| one(client, "n", Value::Typed(&Typed(u128::MAX))));
    wrong(InvalidValue, "a key that is no string", |client| {
        let map = BTreeMap::from([(vec![1], 2)]);
        one(client, "map", Value::Typed(&Typed(&map)))
    });
    wrong(InvalidValue, "an error of its own", |client| one(client, "bad", Value::Typed(&Typed(Failing))));
    wrong(InvalidValue, "a panic of its own", |client| one(client, "bad", Value::Typed(&Typed(Panicking))));
    wrong(InvalidValue, "a mode that the server would refuse", |client| one(client, "$cookieless_mode", "on"));
    wrong(MissingField, "an alias of nothing", |client| client.alias("x", " "));
    wrong(MissingField, "a group without a type", |client| client.group_identify("", "acme", &[]));
    wrong(MissingField, "a group without a key", |client| client.group_identify("company", "", &[]));
    wrong(MissingField, "a nameless group on an event", |client| {
        client.capture(Event::new("x", "y").groups(&[("company", "")]))
    });
    wrong(Personless, "identify without a person", |client| {
        client.capture(Event::identify("x").set(props! { "a": 1 }).person_profile(false))
    });
    wrong(Personless, "an alias without a person", |client| {
        client.capture(Event::alias("x", "y").person_profile(false))
    });
    wrong(Personless, "a group without persons", |client| {
        client.capture(Event::group_identify("company", "acme").person_profile(false))
    });
    all
}

struct Failing;

impl serde::Serialize for Failing {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("an error of its own"))
    }
}

struct Panicking;

impl serde::Serialize for Panicking {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic_any("a panic of its own")
    }
}

/// `value` inside of so many arrays.
fn nest(client: &Client, value: Value<'_>, levels: usize) -> Captured {
    if levels > 0 {
        nest(client, Value::Array(&[value]), levels - 1)
    } else {
        client.capture(Event::new("nested", "customer-7").properties(&[Property::new("deep", value)]))
    }
}

#[test]
fn what_is_wrong_is_refused_with_its_reason_and_its_neighbours_arrive() {
    let sink = Sink::start();
    let client = quick(sink.host()).without_thread().build().unwrap();
    let wrong = wrong_events();
    let mut expected = [0; CaptureError::COUNT];
    for (error, name, make) in &wrong {
        accepted(client.capture(Event::new("good neighbour", "customer-7").properties(props! { "before": *name })));
        assert_eq!(make(&client).ok(), Err(*error), "{name}");
        expected[error.index()] += 1;
        assert_eq!(conserved(&client).refused, expected, "{name}");
    }
    accepted(client.capture(Event::new("good neighbour", "customer-7")));
    client.flush(PATIENCE).unwrap();
    let stats = check(&client, &sink);
    assert_eq!(fates(&stats), (wrong.len() as u64 + 1, 0, 0, 0));
    assert!(sink.stored().iter().all(|event| event.name() == "good neighbour"));
    assert_eq!(sink.requests().len(), 1, "no batch was refused");
}

/// Reasons that lie in the client: with those above, all there are.
#[test]
fn every_reason_is_met_and_counted() {
    let mut met: Vec<_> = wrong_events().into_iter().map(|(error, _, _)| error).collect();
    let event = || Event::new("x", "customer-7");
    let mut meet = |client: &Client, error: CaptureError| {
        let before = client.stats().refused_for(error);
        assert_eq!(client.capture(event()).ok(), Err(error));
        assert_eq!(client.stats().refused_for(error), before + 1);
        met.push(error);
    };
    let memory = || quick("http://127.0.0.1:9").transport(MemoryTransport::new()).without_thread();

    let client = memory().max_queue_size(1).build().unwrap();
    accepted(client.capture(event()));
    meet(&client, CaptureError::Full);
    client.set_enabled(false);
    meet(&client, CaptureError::Disabled);
    client.set_enabled(true);
    client.shutdown();
    meet(&client, CaptureError::Closed);
    let client = memory().before_send(|_| HookVerdict::Drop).build().unwrap();
    meet(&client, CaptureError::DroppedByHook);
    let client = memory().before_send(|_| panic_any("in a hook")).build().unwrap();
    meet(&client, CaptureError::HookPanicked);

    // More panics in a minute than are reported.
    let client = memory().build().unwrap();
    assert!(client.install_panic_hook());
    for _ in 0..21 {
        assert!(catch_unwind(|| panic_any("again and again")).is_err());
    }
    assert!(client.stats().refused_for(CaptureError::RateLimited) >= 1);
    met.push(CaptureError::RateLimited);

    // Busy: every lane is in use, here by captures inside of captures. A value that captures while it is written holds
    // one lane after the other.
    struct Greedy<'a>(&'a Client, std::cell::Cell<Option<CaptureError>>);
    impl serde::Serialize for Greedy<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let again = Greedy(self.0, self.1.clone());
            let typed = Typed(&again);
            let properties = [Property::new("again", Value::Typed(&typed))];
            if let Err(error) = self.0.capture(Event::new("inner", "customer-7").properties(&properties)).ok() {
                self.1.set(Some(error));
            } else {
                self.1.set(again.1.get());
            }
            serializer.serialize_unit()
        }
    }
    let client = memory().build().unwrap();
    let greedy = Greedy(&client, std::cell::Cell::new(None));
    let typed = Typed(&greedy);
    let captured = client.capture(event().properties(&[Property::new("greedy", Value::Typed(&typed))]));
    assert!(captured.is_accepted());
    assert_eq!(greedy.1.get(), Some(CaptureError::Busy));
    assert!(client.stats().refused_for(CaptureError::Busy) >= 1);
    met.push(CaptureError::Busy);
    client.flush(PATIENCE).unwrap();
    conserved(&client);

    let missed: Vec<_> = CaptureError::ALL.into_iter().filter(|error| !met.contains(error)).collect();
    assert!(missed.is_empty(), "{missed:?}");
}

/// Strings that have broken serialisers, databases and terminals.
fn nasty_texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "\"",
        "\\",
        "\\\"",
        "\\u0041 is not A",
        "\\ud800",
        "\u{2028}\u{2029}",
        "\u{feff}bom",
        "\u{fffd}\u{fffe}\u{ffff}",
        "\u{1f600}\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
        "e\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}",
        "\u{202e}right to left\u{202c}",
        "\u{10ffff}\u{10000}\u{ffff}\u{d7ff}\u{e000}",
        "\u{7f}\u{80}\u{9f}\u{a0}\u{ad}",
        "},\n{\"event\":\"injected\"}],\"api_key\":\"other\",\"batch\":[",
        ",\n",
        "</script><!-- ]]> ${jndi:ldap://x} '; DROP TABLE events; --",
        "null",
        "2026-03-01T12:00:00+02:00",
    ]
    .map(str::to_owned)
    .into();
    texts.push((0..=0xff_u8).map(char::from).collect());
    // Every length around the width of a block copy, with something to escape at its end.
    texts.extend((0..70).map(|len| format!("{}\u{1f}", "a".repeat(len))));
    texts.extend((0..40).map(|len| format!("{}\"", "ü".repeat(len))));
    texts
}

#[test]
fn every_text_arrives_as_it_was_wherever_text_may_stand() {
    let sink = Sink::start();
    let client = quick(sink.host()).queue_bytes(4 << 20).build().unwrap();
    let texts = nasty_texts();
    for text in &texts {
        let value = [Property::new("text", text.as_str())];
        accepted(client.capture(Event::new("value", "customer-7").properties(&value)));
        let (nested, typed) = ([Value::Str(text), Value::Object(&value)], Typed(text));
        let properties = [Property::new("nested", &nested), Property::new("typed", Value::Typed(&typed))];
        accepted(client.capture(Event::new("nested", "customer-7").properties(&properties)));
        let id = format!("id {text}").chars().take(200).collect::<String>();
        accepted(client.capture(Event::new("id", &id)));
        if (1..=200).contains(&text.len()) {
            accepted(client.capture(Event::new(text, "named")));
        }
        if !text.is_empty() && !text.starts_with('$') {
            let (pair, key) = ([(text.as_str(), text.as_str())], [Property::new(text, true)]);
            accepted(client.capture(Event::new("key", "customer-7").properties(&key)));
            accepted(client.capture(Event::person("customer-7").set(&key).set_once(&key).unset(&[text])));
            accepted(client.capture(Event::new("group", "customer-7").groups(&pair)));
        }
        let error = Exception::new(text, text).stack_text(text).fingerprint(text).level(Level::Info).handled(true);
        accepted(client.capture(Event::exception("customer-7", &error)));
        client.flush(PATIENCE).unwrap();
    }
    let stats = check(&client, &sink);
    assert_eq!((stats.rejected, stats.dropped_total(), stats.refused_total()), (0, 0, 0));
    let stored = sink.stored();
    let named = |name: &str| stored.iter().filter(|event| event.name() == name).collect::<Vec<_>>();
    for (at, text) in texts.iter().enumerate() {
        assert_eq!(named("value")[at].property("text"), text);
        assert_eq!(named("nested")[at].property("nested"), &json!([text, { "text": text }]));
        assert_eq!(named("nested")[at].property("typed"), text);
        let id: String = format!("id {text}").chars().take(200).collect();
        assert_eq!(named("id")[at].distinct_id(), id);
        let exception = &named("$exception")[at].property("$exception_list")[0];
        assert_eq!(exception["value"], text.as_str());
    }
    let keys: Vec<_> = texts.iter().filter(|text| !text.is_empty()).collect();
    for (at, key) in keys.iter().enumerate() {
        assert_eq!(named("key")[at].property(key), true, "{key:?}");
        assert_eq!(named("$set")[at].property("$set")[key.as_str()], true, "{key:?}");
        assert_eq!(named("group")[at].property("$groups")[key.as_str()], key.as_str());
    }
}

#[test]
fn every_number_arrives_as_itself_or_as_null() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    let floats = [
        0.0,
        -0.0,
        0.1,
        1.0,
        1e21,
        1e-7,
        123_456_789.123_456_79,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        5e-324,
        f64::EPSILON,
        9_007_199_254_740_993.0,
    ];
    for float in floats {
        accepted(client.capture(Event::new("float", "x").properties(props! { "n": float })));
    }
    let integers = [0, -1, i64::MIN, i64::MAX, 9_007_199_254_740_993, 10, -10, 99, 100, 1_000_000_007];
    for integer in integers {
        accepted(client.capture(Event::new("int", "x").properties(props! { "n": integer })));
    }
    accepted(client.capture(Event::new("uint", "x").properties(props! { "n": u64::MAX })));
    for float in [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        accepted(client.capture(Event::new("none", "x").properties(props! { "n": float, "f32": float as f32 })));
    }
    client.flush(PATIENCE).unwrap();
    check(&client, &sink);
    let stored = sink.stored();
    let numbers =
        |name: &'static str| stored.iter().filter(move |event| event.name() == name).map(|event| event.property("n"));
    // From the text: serde_json reads the last digit less exactly than it was written.
    let texts = stored.iter().map(|event| event.text.rsplit("\"n\":").next().unwrap().trim_end_matches('}'));
    for (text, float) in texts.zip(floats) {
        assert_eq!(text.parse::<f64>().unwrap(), float, "{text}");
    }
    assert!(numbers("int").map(|number| number.as_i64().unwrap()).eq(integers));
    assert!(numbers("uint").map(|number| number.as_u64().unwrap()).eq([u64::MAX]));
    assert!(numbers("none").all(serde_json::Value::is_null) && numbers("none").count() == 4);
}

#[test]
fn values_up_to_every_limit_arrive() {
    let sink = Sink::start();
    let client = quick(sink.host()).queue_bytes(4 << 20).build().unwrap();
    accepted(nest(&client, Value::Int(7), 64));
    accepted(nest(&client, Value::Raw(RawJson::parse(&format!("{}{}", "[".repeat(60), "]".repeat(60))).unwrap()), 4));
    accepted(client.capture(Event::new(&"n".repeat(200), &"ü".repeat(200))));
    accepted(client.alias(&"i".repeat(200), &"ö".repeat(200)));
    accepted(client.group_identify(&"t".repeat(99), &"k".repeat(99), &[]));
    let (key, letters, quotes) = ("k".repeat(1024), "x".repeat(65_000), "\"".repeat(32_000));
    for (key, value) in [(key.as_str(), "long key"), ("letters", &letters), ("quotes", &quotes)] {
        accepted(client.capture(Event::new("long", "customer-7").properties(&[Property::new(key, value)])));
    }
    let many: Vec<_> = (0..3000).map(|n| (format!("key {n}"), n)).collect();
    let many: Vec<_> = many.iter().map(|(key, n)| Property::new(key, *n)).collect();
    accepted(client.capture(Event::new("many", "customer-7").properties(&many)));
    let twice = [Property::new("n", 1), Property::new("n", 1)];
    let inner = [Property::new("object", Value::Object(&twice))];
    accepted(client.capture(Event::new("an object of the caller's own", "customer-7").properties(&inner)));
    client.flush(PATIENCE).unwrap();
    let stats = check(&client, &sink);
    assert_eq!((stats.rejected, stats.refused_total()), (0, 0));
    let long: Vec<_> = sink.stored().iter().filter(|event| event.name() == "long").cloned().collect();
    assert_eq!(long[0].property(&key), "long key");
    assert_eq!((long[1].property("letters"), long[2].property("quotes")), (&json!(letters), &json!(quotes)));
}

#[test]
fn raw_json_and_serialised_values_arrive_as_what_they_mean() {
    #[derive(serde::Serialize)]
    enum Odd<'a> {
        Unit,
        Newtype(f32),
        Tuple(i8, char),
        Struct { quo: &'a str, none: Option<()>, map: BTreeMap<i32, bool>, bytes: &'a [u8], big: i128 },
    }
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    let raws = [
        "null",
        " { \"a\" : [ 1 , 2.50e+3 , \"é\\n\" ] ,\n\t\"b\" : { } } ",
        "\"\u{2028}\\u0000\\b\\\\\"",
        "[1e308,-0,0.1e-9,true,false]",
        "{\"same\":1,\"same\":2}",
    ];
    for raw in raws {
        accepted(client.capture(
            Event::new("raw", "customer-7").properties(&[Property::new("raw", RawJson::parse(raw).unwrap())]),
        ));
    }
    let map = BTreeMap::from([(-1, true)]);
    let odd = Odd::Struct { quo: "a\"\n", none: None, map, bytes: b"\0\xff", big: -9 };
    for value in [Odd::Unit, Odd::Newtype(0.5), Odd::Tuple(-1, '"'), odd] {
        let typed = Typed(&value);
        accepted(client.capture(Event::new("typed", "x").properties(&[Property::new("typed", Value::Typed(&typed))])));
    }
    client.flush(PATIENCE).unwrap();
    check(&client, &sink);
    let stored = sink.stored();
    for (event, raw) in stored.iter().zip(raws) {
        assert_eq!(event.property("raw"), &serde_json::from_str::<serde_json::Value>(raw).unwrap());
    }
    let typed: Vec<_> = stored[raws.len()..].iter().map(|event| event.property("typed").clone()).collect();
    let odd =
        json!({ "Struct": { "quo": "a\"\n", "none": null, "map": { "-1": true }, "bytes": [0, 255], "big": -9 } });
    assert_eq!(typed, [json!("Unit"), json!({ "Newtype": 0.5 }), json!({ "Tuple": [-1, "\""] }), odd]);
}

/// JSON allows any character to be escaped, and serialisers of other languages make use of that. A clean-up pass of some
/// servers takes such an escape for damage, so none leaves: not in values, nor where a rule about keys looks at them.
#[test]
fn escapes_in_raw_json_leave_as_the_characters_they_mean() {
    let sink = Sink::start();
    let text = r#"{ "caf\u00e9": ["\u00e9", "\ud83d\ude00", "\/", "\u0022\u005c\u000a"] }"#;
    let raw = RawJson::parse(text).unwrap();
    for builder in [quick(sink.host()), quick(sink.host()).deny_keys(["password"])] {
        let client = builder.super_property("super", OwnedValue::json(text).unwrap()).build().unwrap();
        accepted(client.capture(Event::new("raw", "customer-7").properties(&[Property::new("raw", raw)])));
        accepted(client.capture(Event::person("customer-7").set(props! { "raw": raw, "in": { "raw": [raw] } })));
        client.flush(PATIENCE).unwrap();
        assert_eq!(fates(&check(&client, &sink)), (2, 0, 0, 0));
    }
    let expected = json!({ "café": ["é", "😀", "/", "\"\\\n"] });
    for event in sink.stored() {
        let given = if event.name() == "raw" { event.property("raw") } else { &event.property("$set")["in"]["raw"][0] };
        assert_eq!((given, event.property("super")), (&expected, &expected));
    }
}

#[test]
fn a_serialised_value_may_be_as_large_as_any_other() {
    let sink = Sink::start();
    let client = quick(sink.host()).without_thread().build().unwrap();
    for len in [100, 255, 256, 257, 300, 400, 500, 1000, 10_000, 64_000] {
        let typed = Typed("s".repeat(len));
        let captured = client.capture(Event::new("typed", "x").properties(&[Property::new("s", Value::Typed(&typed))]));
        assert_eq!(captured.ok().map(|_| ()), Ok(()), "{len} bytes");
    }
    client.flush(PATIENCE).unwrap();
    assert_eq!(fates(&check(&client, &sink)), (10, 0, 0, 0));
}

#[test]
fn times_and_ids_of_the_callers_own_arrive_as_given() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    let times = [0, 1, 951_782_400_000_000, 1_709_210_096_789_012, u64::MAX].map(Timestamp::from_unix_micros);
    for (at, time) in times.into_iter().enumerate() {
        let uuid = Uuid::v4([at as u64, 7]);
        assert_eq!(accepted(client.capture(Event::new("given", "x").uuid(uuid).timestamp(time))), uuid);
    }
    client.flush(PATIENCE).unwrap();
    check(&client, &sink);
    let arrived: Vec<_> = sink.stored().iter().map(|event| event.timestamp().to_owned()).collect();
    assert_eq!(arrived, times.map(|time| time.to_string()));
    assert_eq!(arrived[2], "2000-02-29T00:00:00.000000Z");
}

/// What `capture` lets through is never refused: random events from odd parts, judged by the strict sink.
#[test]
fn what_capture_lets_through_is_never_refused() {
    let given = std::env::var("QUILLET_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64);
    println!("QUILLET_TEST_SEED={seed}");
    let mut prng = Prng::new([seed, 11]);
    let mut below = |sides: usize| ((prng.next() >> 33) as usize) % sides;
    let texts = nasty_texts();
    let keys = [
        "plan",
        "",
        "$lib",
        "$set",
        "$set_once",
        "$unset",
        "$groups",
        "$geoip_disable",
        "$process_person_profile",
        "alias",
        "distinct_id",
        "$group_type",
        "$exception_list",
        "$cookieless_mode",
        "n\"",
        "$is_server",
        "token",
        "uuid",
    ];
    let sink = Sink::start();
    let client = quick(sink.host()).super_property("plan", "super").build().unwrap();
    assert!(client.set_super_property("alias", OwnedValue::json(r#"{"a": [1, 2]}"#).unwrap()));
    let mut accepted = 0;
    for _ in 0..3000 {
        let text = |below: &mut dyn FnMut(usize) -> usize| texts[below(texts.len())].as_str();
        let (first, second) = (text(&mut below), text(&mut below));
        let list = [Value::Str(first), Value::Float(f64::NAN), Value::Uint(u64::MAX), Value::Bool(true)];
        let inner = [Property::new(second, first), Property::new("list", Value::Array(&list))];
        let value = |which: usize| match which {
            0 => Value::Null,
            1 => Value::Str(second),
            2 => Value::Array(&list),
            3 => Value::Object(&inner),
            4 => Value::Bool(false),
            _ => Value::Float(1e300),
        };
        let mut used = Vec::new();
        for _ in 0..below(5) {
            let key = if below(3) == 0 { text(&mut below) } else { keys[below(keys.len())] };
            // A key that the caller writes twice is the caller's own doing.
            if !used.iter().any(|(known, _)| *known == key) {
                used.push((key, value(below(6))));
            }
        }
        // Types that PostHog's own properties must have are the caller's business too; the server takes any.
        let typed =
            ["$set", "$set_once", "$unset", "$groups", "$geoip_disable", "$process_person_profile", "$is_server"];
        used.retain(|(key, _)| !typed.contains(key));
        let properties: Vec<_> = used.iter().map(|(key, value)| Property::new(key, *value)).collect();
        let groups = [("company", second)];
        let exception = Exception::new(first, second);
        let id = if below(4) == 0 { first } else { "customer-7" };
        let event = match below(7) {
            0 => Event::identify(id).set(&inner),
            1 => Event::alias(id, second),
            2 => Event::group_identify(first, second).set(&inner),
            3 => Event::exception(id, &exception),
            4 => Event::personless(first),
            5 => Event::new(first, id).groups(&groups),
            _ => Event::new(second, id).set_once(&inner).disable_geoip(true),
        };
        if client.capture(event.properties(&properties)).is_accepted() {
            accepted += 1;
            if accepted % 200 == 0 {
                client.flush(PATIENCE).unwrap();
            }
        }
    }
    client.flush(PATIENCE).unwrap();
    let stats = check(&client, &sink);
    assert_eq!((stats.delivered, stats.rejected), (accepted, 0));
    assert!(accepted > 1000, "{accepted} of 3000 were accepted: {stats:?}");
}

#[test]
fn super_properties_that_no_event_could_carry_are_refused() {
    for (key, problem) in
        [("", CaptureError::EmptyKey), ("$lib", CaptureError::ReservedKey), ("$lib_version", CaptureError::ReservedKey)]
    {
        let error = quick("http://127.0.0.1:9").super_property(key, 1).build().unwrap_err();
        assert_eq!(error, BuildError::SuperProperty { key: key.to_owned(), problem });
    }
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    for key in ["", "$lib", "quo\"te", "new\nline"] {
        assert!(!client.set_super_property(key, 1), "{key:?}");
    }
    assert!(!client.set_super_property("$cookieless_mode", "on"), "the server would refuse every batch");
    assert!(client.set_super_property("$cookieless_mode", true));
    accepted(client.capture(Event::new("carried", "customer-7")));
    client.flush(PATIENCE).unwrap();
    check(&client, &sink);
}

/// Nothing of the sort may be delivered by another way.
#[test]
fn an_immediate_capture_refuses_the_same() {
    let memory = MemoryTransport::new();
    memory.answer_otherwise(Outcome::status(500));
    let client = quick("http://127.0.0.1:9").transport(memory.clone()).build().unwrap();
    let result = client.capture_immediate(Event::new("", "customer-7"), PATIENCE);
    assert_eq!(result, Err(quillet::ImmediateError::Refused(CaptureError::EmptyEventName)));
    assert_eq!(conserved(&client).refused_for(CaptureError::EmptyEventName), 1);
    assert!(memory.requests().is_empty());
}
