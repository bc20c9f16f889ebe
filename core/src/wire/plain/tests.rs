//! The short way writes what the long way writes, or nothing, in whatever room.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
use std::boxed::Box;
use std::string::String;
use std::sync::LazyLock;
use std::vec::Vec;
use std::{format, vec};

use proptest::prelude::*;

use super::*;
use crate::capture::Lane;
use crate::event::LiteralName;
use crate::property::LiteralKey;
use crate::raw::RawJson;
use crate::ring::Ring;
use crate::stamp::Stamper;
use crate::wire::event as encoder;
use crate::wire::timestamp::Timestamp;
use crate::wire::writer::{Out, Writer, put_head};
use crate::{event, props};

const NOW: Timestamp = Timestamp::from_unix_ms(1_795_424_400_250);

/// What this module makes of an event in so much room, after a check that it stayed inside.
fn plain(event: &Event<'_>, common: &Common<'_>, room: usize) -> Option<Vec<u8>> {
    let mut stamper = Stamper::new([1, 2]);
    let mut memory = vec![0xee; room + 256];
    let stamp = stamper.stamp(NOW);
    let start = memory.as_ptr().addr();
    let usual = event.usual()?;
    let len = write_body(usual, &common.short(), || *common, &mut memory[..room]).map(|end| end.addr() - start);
    assert!(memory[room..].iter().all(|byte| *byte == 0xee), "written beyond the room");
    let long = write_body(usual, &ShortCommon::NONE, || *common, &mut memory[..room]).map(|end| end.addr() - start);
    assert_eq!(len, long, "a short block is a block");
    put_head(stamper.head(), &stamp, memory.first_chunk_mut().unwrap());
    memory.truncate(len?);
    Some(memory)
}

/// What the encoder for everything makes of it.
fn general(event: &Event<'_>, common: &Common<'_>) -> Option<Vec<u8>> {
    let may_hide = encoder::survey(event, common).ok()?;
    let mut stamper = Stamper::new([1, 2]);
    let stamp = stamper.stamp(NOW);
    let mut memory = vec![0; 1 << 20];
    let mut writer = Writer::new(&mut memory);
    encoder::write(event, may_hide, &stamper, &stamp, common, &mut writer).ok()?;
    writer.bytes(FRAME_TAIL);
    let len = writer.finish()?;
    memory.truncate(len);
    Some(memory)
}

#[test]
fn usual_events_are_taken() {
    let common = Common::default();
    let long = "x".repeat(20_000);
    let all_lengths: Vec<String> = (0..70).map(|len| "é".repeat(len / 2) + &"a".repeat(len % 2)).collect();
    for text in &all_lengths {
        let properties = props! { "text": text.as_str(), "after": 1 };
        let event = event!("name", "customer-7").properties(properties);
        assert_eq!(plain(&event, &common, 4096), general(&event, &common));
        assert!(plain(&event, &common, 4096).is_some(), "{text}");
    }
    let properties = props! {
        "text": long.as_str(), "yes": true, "no": false, "null": null, "f": 0.1, "f32": 0.1f32, "int": -5,
        "max": u64::MAX, "min": i64::MIN, "a_key_that_is_longer_than_the_slot_of_a_literal_key": 1,
    };
    let event = Event::new("a name at run time", "customer-7").properties(properties);
    assert_eq!(plain(&event, &common, 1 << 16).unwrap(), general(&event, &common).unwrap());
}

/// One of each length, as compilers make them.
fn literal_key(len: usize) -> &'static LiteralKey {
    static KEYS: LazyLock<Vec<LiteralKey>> =
        LazyLock::new(|| (1..=NAME_SLOT_BYTES).map(|len| LiteralKey::new("x".repeat(len).leak())).collect());
    &KEYS[len - 1]
}

#[test]
fn literal_keys_and_names_of_every_length_are_written() {
    let common = Common::default();
    for len in 1..=NAME_SLOT_BYTES {
        let name: &'static LiteralName = Box::leak(Box::new(LiteralName::new("x".repeat(len).leak())));
        let values = [Value::Str("text"), Value::Str(""), Value::Int(1), Value::Null, Value::Object(&[])];
        let properties = values.map(|value| Property::literal(literal_key(len), value));
        let event = Event::literal(name, "customer-7").properties(&properties);
        assert_eq!(plain(&event, &common, 8192).unwrap(), general(&event, &common).unwrap(), "{len}");
    }
}

#[test]
fn every_number_of_digits_is_written() {
    let common = Common::default();
    let numbers = (0..=20).flat_map(|power| {
        let ten = 10u64.checked_pow(power).unwrap_or(u64::MAX);
        [ten - 1, ten, ten.saturating_add(1), ten.saturating_mul(7).saturating_add(3)]
    });
    for number in numbers.chain([u64::MAX]) {
        let properties = [
            Property::new("u", number),
            Property::new("i", number as i64),
            Property::new("n", (number as i64).wrapping_neg()),
        ];
        let event = Event::new("n", "i").properties(&properties);
        let written = String::from_utf8(plain(&event, &common, 4096).unwrap()).unwrap();
        let (i, n) = (number as i64, (number as i64).wrapping_neg());
        assert!(written.ends_with(&format!(",\"u\":{number},\"i\":{i},\"n\":{n}}}}},\n")), "{written}");
    }
}

#[test]
fn what_is_unusual_is_left_alone() {
    let common = Common::default();
    let mut memory = [0; 512];
    let region = "a rather long one, ".repeat(4);
    let super_properties = [Property::new("plan", "pro"), Property::new("region", region.as_str())];
    let named = Common::render(&mut memory, &super_properties).unwrap();
    let mut deep: &[Value<'_>] = &[];
    for _ in 0..DEPTH_MAX {
        deep = vec![Value::Array(deep)].leak();
    }
    for (event, common) in [
        (Event::new("", "i"), common),
        (Event::new("n", ""), common),
        (Event::new("n", " "), common),
        (Event::new("n", "é"), common),
        (event!("n", "i", { "$is_server": false }), common),
        (event!("n", "i", { "$cookieless_mode": "on" }), common),
        (event!("n", "i", { "plan": 1 }), named),
        (Event::new("n", "i").properties(&[Property::new("", 1)]), common),
        (Event::new("n", "i").properties(&[Property::new("$lib", 1)]), common),
        (Event::new("n", "i").properties(&[Property::new("plan", 1)]), named),
        (Event::new("n", "i").properties(&[Property::new("$geoip_disable", true)]), common),
        (Event::new("n", "i").properties(&[Property::new("$is_server", true)]), common),
        (Event::new("n", "i").properties(&[Property::new("k", deep)]), common),
        (Event::new("n", "i").properties(&[Property::new("k", f64::NAN)]), common),
    ] {
        assert_eq!(plain(&event, &common, 1 << 16), None, "{event:?}");
    }
    // Nothing hidden, and a block longer than most.
    let properties = props! { "flat": 1 };
    let event = event!("n", "i").properties(properties);
    assert_eq!(plain(&event, &named, 1 << 16).unwrap(), general(&event, &named).unwrap());
}

#[test]
fn escapes_dollars_and_values_of_many_are_taken() {
    let common = Common::default();
    let (list, object) = ([Value::Int(1), Value::Str("\"")], [Property::new("a\n", "b"), Property::new("c", 0.5)]);
    let raw = RawJson::parse("{\"a\": [1, 2]}").unwrap();
    for event in [
        Event::new("n\n", "i"),
        Event::new("n", "i\""),
        event!("n", "i\\", { "k": 1 }),
        event!("n", "i", { "k": "\\" }),
        event!("n", "i", { "k": "twenty bytes and a \u{1f} control", "l": "\"", "m": 3 }),
        event!("n", "i", { "$ip": 1, "$current_url": "https://example.com/\"" }),
        Event::new("n", "i").properties(&[Property::new("$ip", 1), Property::new("$feature/\"", true)]),
        Event::new("n", "i").properties(&[Property::new("k", &list), Property::new("\t", &object)]),
        Event::new("n", "i").properties(&[Property::new("k", raw), Property::new("l", &[] as &[Value<'_>])]),
    ] {
        assert_eq!(plain(&event, &common, 4096).unwrap(), general(&event, &common).unwrap(), "{event:?}");
    }
}

/// Rare is also what is so in name only, whose encoding another module decides about.
#[test]
fn what_is_rare_is_not_usual_and_the_rest_is_taken_by_the_lane() {
    let memory = vec![0; Ring::bytes_for(16_384)].leak();
    let (producer, consumer) = Ring::format(memory).unwrap().split();
    let mut lane = Lane::new(producer, Stamper::new([1, 2]), 8, 4096);
    let event = Event::new("n", "i");
    // The first ones of a lane go the long way, which is where the number of events and the room are looked up.
    for _ in 0..2 {
        lane.capture(&event, &Common::default(), NOW).unwrap();
    }
    for rare in [event.set(&[]), event.groups(&[]), Event::personless("n"), Event::identify("i")] {
        assert!(rare.usual().is_none());
    }
    let usual = event.usual().unwrap();
    assert!(lane.capture_plain(usual, &ShortCommon::NONE, Common::default, NOW).is_some());
    assert_eq!(consumer.pending(), 3);
}

/// Room that the short way could use is not left out at the end of a lap for frames that never take that way.
#[test]
fn a_lane_of_small_events_holds_as_many_wherever_it_begins() {
    let event = Event::new("n", "i");
    for before in 0..50 {
        let [short, long] = [true, false].map(|is_short| {
            let mut memory = vec![0; Ring::bytes_for(8192)];
            let (producer, mut consumer) = Ring::format(&mut memory).unwrap().split();
            let mut lane = Lane::new(producer, Stamper::new([1, 2]), 1000, ROOM_BYTES_MIN / 2);
            let mut capture = || match is_short {
                true => lane.capture(&event, &Common::default(), NOW).is_ok(),
                false => lane.capture_any(&event, &Common::default(), NOW).is_ok(),
            };
            for _ in 0..before {
                assert!(capture());
                consumer.read().release();
            }
            (0..1000).take_while(|_| capture()).count()
        });
        assert_eq!(short, long, "{before} before");
    }
}

fn value() -> impl Strategy<Value = Datum> {
    prop_oneof![
        "[a-z \\\\\"é\u{0}-\u{1f}]{0,40}".prop_map(Datum::Text),
        "[ -~]{0,80}".prop_map(Datum::Text),
        prop::collection::vec("[a-z\"]{0,20}", 0..30).prop_map(Datum::List),
        clean_value(),
    ]
}

fn clean_value() -> impl Strategy<Value = Datum> {
    prop_oneof![
        "[a-zé]{0,80}".prop_map(Datum::Text),
        "[a-z]{0,20}".prop_map(Datum::Text),
        any::<i64>().prop_map(Datum::Int),
        (-100_000..100_000i64).prop_map(Datum::Int),
        any::<u64>().prop_map(Datum::Uint),
        any::<f64>().prop_map(Datum::Float),
        any::<f32>().prop_map(Datum::Float32),
        any::<Option<bool>>().prop_map(Datum::Bool),
    ]
}

#[derive(Clone, Debug)]
enum Datum {
    Text(String),
    Int(i64),
    Uint(u64),
    Float(f64),
    Float32(f32),
    Bool(Option<bool>),
    List(Vec<String>),
}

impl Datum {
    fn as_value(&self) -> Value<'_> {
        match self {
            Self::Text(text) => Value::Str(text),
            Self::Int(value) => Value::Int(*value),
            Self::Uint(value) => Value::Uint(*value),
            Self::Float(value) => Value::Float(*value),
            Self::Float32(value) => Value::Float32(*value),
            Self::Bool(value) => Value::from(*value),
            Self::List(texts) => Value::Array(texts.iter().map(|text| Value::Str(text)).collect::<Vec<_>>().leak()),
        }
    }
}

proptest! {
    /// In any room, also too little, the short way writes nothing or what the long way writes.
    #[test]
    fn both_ways_write_the_same(
        // One text with an escape has all of them written the other way, so some events have none.
        (name, id, data) in prop_oneof![
            ("[ -~é]{0,210}", "[ -~é]{0,210}", prop::collection::vec(("[$a-z\"é]{0,40}", value()), 0..20)),
            ("[a-zé]{1,99}", "[a-zé]{1,99}", prop::collection::vec(("[$a-zé]{1,40}", clean_value()), 0..20)),
        ],
        room in prop_oneof![0..4000usize, Just(1 << 16)],
        with_names: bool,
        is_literal: bool,
    ) {
        let common_data = [Property::new("region", "eu"), Property::new("aé", 1)];
        let mut memory = [0; 256];
        let common = if with_names { Common::render(&mut memory, &common_data).unwrap() } else { Common::default() };
        let key = |text| if is_literal { Key::literal(literal_key(1 + str::len(text) % 40)) } else { Key::Text(text) };
        let given = data.iter().map(|(text, value)| Property { key: key(text), value: value.as_value() });
        let properties: Vec<_> = given.collect();
        let named = if is_literal { event!("literal", &id) } else { Event::new(&name, &id) };
        let event = named.properties(&properties);
        if let Some(written) = plain(&event, &common, room) {
            prop_assert!(written.len() <= room);
            prop_assert_eq!(Some(written), general(&event, &common));
        }
    }
}
