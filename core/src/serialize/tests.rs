//! The fence against serde_json, which it must agree with, and against code that wants it to write what is not JSON.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]

use core::fmt;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::string::{String, ToString};
use std::time::{Duration, SystemTime};
use std::vec::Vec;
use std::{format, vec};

use proptest::prelude::*;
use serde::Serialize;
use serde::ser::{Error as _, SerializeMap, SerializeSeq, SerializeStruct, Serializer};

use super::{JsonSink, SerializeError, Typed, WriteJson, to_sink};
use crate::limits::DEPTH_MAX;
use crate::raw::RawJson;

/// Room without end.
#[derive(Default)]
struct Paper(Vec<u8>);

impl JsonSink for Paper {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SerializeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, SerializeError> {
    let mut paper = Paper::default();
    to_sink(value, &mut paper)?;
    let text = String::from_utf8(paper.0).unwrap();
    assert!(text.bytes().all(|byte| byte >= 0x20), "{text:?} has a control byte");
    Ok(text)
}

#[track_caller]
fn agrees<T: Serialize + ?Sized>(value: &T) {
    assert_eq!(json(value).unwrap(), serde_json::to_string(value).unwrap());
}

#[derive(Serialize)]
struct Unit;

#[derive(Serialize)]
struct Wrapped<T>(T);

#[derive(Serialize)]
struct Pair(i8, &'static str);

#[derive(Serialize)]
enum Shape {
    Dot,
    Circle(f32),
    Line(i32, i32),
    Box {
        #[serde(rename = "wi\"d\\th\n")]
        width: u16,
        #[serde(skip_serializing_if = "Option::is_none")]
        depth: Option<u16>,
    },
    #[serde(rename = "quo\"ted")]
    Quoted(()),
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum InternallyTagged {
    FirstKind { a: u8 },
    Other,
}

#[derive(Serialize)]
#[serde(tag = "t", content = "c")]
enum AdjacentlyTagged {
    One(u8, u8),
    Two { b: bool },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Text(&'static str),
}

#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
enum Color {
    Red,
    #[serde(rename = "\"green\"")]
    Green,
}

#[derive(Serialize)]
struct Everything {
    bools: [bool; 2],
    small: (i8, u8, i16, u16, i32, u32),
    big: (i64, u64, i64, u64),
    wide: (i128, u128, i128),
    floats: Vec<f64>,
    singles: Vec<f32>,
    chars: Vec<char>,
    text: &'static str,
    nested: Option<Option<Option<u8>>>,
    missing: Option<u8>,
    unit: (),
    unit_struct: Unit,
    wrapped: Wrapped<Wrapped<Option<Pair>>>,
    shapes: Vec<Shape>,
    internal: Vec<InternallyTagged>,
    adjacent: Vec<AdjacentlyTagged>,
    untagged: Vec<Untagged>,
    by_text: BTreeMap<String, Vec<u8>>,
    by_number: BTreeMap<i64, ()>,
    by_wide: BTreeMap<u128, i8>,
    by_bool: BTreeMap<bool, u8>,
    by_char: BTreeMap<char, u8>,
    by_color: BTreeMap<Color, u8>,
    by_wrapped: BTreeMap<u8, Wrapped<u8>>,
    empty: (Vec<u8>, BTreeMap<u8, u8>),
    address: Ipv6Addr,
    time: SystemTime,
    elapsed: Duration,
    path: PathBuf,
    #[serde(skip)]
    _skipped: u8,
    #[serde(flatten)]
    flat: Flat,
    #[serde(flatten)]
    rest: BTreeMap<String, u32>,
}

#[derive(Serialize)]
struct Flat {
    x: u8,
    #[serde(rename = "y\"")]
    y: Option<Color>,
}

fn everything() -> Everything {
    let controls: String = (0..0x21_u8).map(char::from).collect();
    Everything {
        bools: [true, false],
        small: (i8::MIN, u8::MAX, i16::MIN, u16::MAX, i32::MIN, u32::MAX),
        big: (i64::MIN, u64::MAX, i64::MAX, 0),
        wide: (i64::MIN.into(), u64::MAX.into(), u64::MAX.into()),
        floats: vec![0.0, -0.0, 1.0, 0.1, 1e21, 1e-7, f64::MAX, f64::MIN_POSITIVE, 5e-324, f64::NAN, -f64::INFINITY],
        singles: vec![0.1, 1e10, f32::MAX, f32::INFINITY],
        chars: vec!['a', '"', '\\', '\n', '\u{0}', '\u{7f}', 'é', '😀', '\u{2028}'],
        text: "quote \" backslash \\ slash / tab \t é 😀",
        nested: Some(Some(Some(3))),
        missing: None,
        unit: (),
        unit_struct: Unit,
        wrapped: Wrapped(Wrapped(Some(Pair(-1, "two")))),
        shapes: vec![
            Shape::Dot,
            Shape::Circle(0.5),
            Shape::Line(1, -1),
            Shape::Box { width: 3, depth: None },
            Shape::Box { width: 3, depth: Some(4) },
            Shape::Quoted(()),
        ],
        internal: vec![InternallyTagged::FirstKind { a: 1 }, InternallyTagged::Other],
        adjacent: vec![AdjacentlyTagged::One(1, 2), AdjacentlyTagged::Two { b: true }],
        untagged: vec![Untagged::Number(-7), Untagged::Text("seven")],
        by_text: [(controls, vec![1, 2]), (String::new(), vec![])].into(),
        by_number: [(-1, ()), (i64::MAX, ())].into(),
        by_wide: [(u128::MAX, 1)].into(),
        by_bool: [(true, 1), (false, 0)].into(),
        by_char: [('"', 1), ('x', 2)].into(),
        by_color: [(Color::Red, 1), (Color::Green, 2)].into(),
        by_wrapped: [(9, Wrapped(9))].into(),
        empty: (vec![], BTreeMap::new()),
        address: Ipv6Addr::LOCALHOST,
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_772_366_405_250),
        elapsed: Duration::from_micros(1_500_000),
        path: PathBuf::from("/a/\"b\""),
        _skipped: 0,
        flat: Flat { x: 1, y: Some(Color::Green) },
        rest: [("z\u{1}".into(), 7)].into(),
    }
}

#[test]
fn everything_serde_has_comes_out_as_from_serde_json() {
    agrees(&everything());
    let value = serde_json::to_value(everything()).unwrap();
    agrees(&value);
    assert!(RawJson::parse(&json(&everything()).unwrap()).is_ok());
}

struct Bytes<'b>(&'b [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

struct Shown<D>(D);

impl<D: fmt::Display> Serialize for Shown<D> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[test]
fn bytes_are_an_array_of_numbers() {
    agrees(&Bytes(&[0, 1, 255]));
    agrees(&Bytes(&[]));
}

#[test]
fn a_display_is_escaped_piece_by_piece() {
    agrees(&Shown(format_args!("{}\"{}\n{:?}", 1, "\\", "\t")));
    let by_address: BTreeMap<Ipv6Addr, u8> = [(Ipv6Addr::LOCALHOST, 1)].into();
    agrees(&by_address);
}

/// What serde-json-core 0.7 panics on or gets wrong; here each is right or an error.
#[test]
fn no_value_panics() {
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(S::Error::custom("no"))
        }
    }
    struct BadDisplay;
    impl fmt::Display for BadDisplay {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("begun")?;
            Err(fmt::Error)
        }
    }
    assert_eq!(json(&'"'), Ok("\"\\\"\"".into()));
    assert_eq!(json(&Shape::Line(1, 2)), Ok("{\"Line\":[1,2]}".into()));
    assert_eq!(json(&BTreeMap::from([(1, 2)])), Ok("{\"1\":2}".into()));
    assert_eq!(json(&u128::MAX), Err(SerializeError::NotJson));
    assert_eq!(json(&(u128::from(u64::MAX) + 1)), Err(SerializeError::NotJson));
    assert_eq!(json(&(i128::from(i64::MIN) - 1)), Err(SerializeError::NotJson));
    assert_eq!(json(&(i128::from(u64::MAX) + 1)), Err(SerializeError::NotJson));
    assert_eq!(json(&Refuses), Err(SerializeError::Custom));
    assert_eq!(json(&[Refuses]), Err(SerializeError::Custom));
    assert_eq!(json(&Shown(BadDisplay)), Err(SerializeError::Custom));
    assert_eq!(json(&(SystemTime::UNIX_EPOCH - Duration::from_secs(1))), Err(SerializeError::Custom));
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;
        let path = PathBuf::from(std::ffi::OsString::from_vec(vec![0xff]));
        assert_eq!(json(&path), Err(SerializeError::Custom));
    }
}

#[test]
fn keys_that_are_no_text_are_refused() {
    struct Keyed<K>(K);
    impl<K: Serialize> Serialize for Keyed<K> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(None)?;
            map.serialize_entry(&self.0, &1)?;
            map.end()
        }
    }
    assert_eq!(json(&Keyed("k")), Ok("{\"k\":1}".into()));
    assert_eq!(json(&Keyed(Wrapped(Wrapped(-5_i8)))), Ok("{\"-5\":1}".into()));
    for refused in [
        json(&Keyed(1.5_f64)),
        json(&Keyed(1.5_f32)),
        json(&Keyed(())),
        json(&Keyed(Unit)),
        json(&Keyed(None::<u8>)),
        json(&Keyed(Some("k"))),
        json(&Keyed([1])),
        json(&Keyed((1, 2))),
        json(&Keyed(vec![1])),
        json(&Keyed(Pair(1, ""))),
        json(&Keyed(BTreeMap::from([(1, 1)]))),
        json(&Keyed(Bytes(b"k"))),
        json(&Keyed(Shape::Circle(1.0))),
        json(&Keyed(Shape::Line(1, 1))),
        json(&Keyed(Shape::Box { width: 1, depth: None })),
        json(&Keyed(Flat { x: 1, y: None })),
    ] {
        assert_eq!(refused, Err(SerializeError::NotJson));
    }
}

/// A list that nests, with as many levels as it says.
enum Nested {
    Arrays(usize),
    Objects(usize),
    Variants(usize),
}

impl Serialize for Nested {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Nested::Arrays(0) | Nested::Objects(0) | Nested::Variants(0) => serializer.serialize_unit(),
            Nested::Arrays(levels) => [Nested::Arrays(levels - 1)].serialize(serializer),
            Nested::Objects(levels) => BTreeMap::from([("k", Nested::Objects(levels - 1))]).serialize(serializer),
            Nested::Variants(levels) => serializer.serialize_newtype_variant("", 0, "V", &Nested::Variants(levels - 1)),
        }
    }
}

#[test]
fn depth_is_counted_and_given_back() {
    for nested in [Nested::Arrays, Nested::Objects, Nested::Variants] {
        agrees(&nested(DEPTH_MAX));
        // Twice side by side: closing a level gives it back.
        agrees(&[nested(DEPTH_MAX - 1), nested(DEPTH_MAX - 1)]);
        assert_eq!(json(&nested(DEPTH_MAX + 1)), Err(SerializeError::TooDeep));
        assert_eq!(json(&nested(10_000)), Err(SerializeError::TooDeep));
    }
    agrees(&(0..100).map(|_| [Shape::Line(1, 2), Shape::Box { width: 1, depth: None }]).collect::<Vec<_>>());
    // A variant with several fields is two levels: its name's object and what is inside.
    let fits = |shape: fn() -> Shape| {
        let mut outer: Box<dyn FnMut() -> serde_json::Value> = Box::new(move || serde_json::to_value(shape()).unwrap());
        for _ in 2..DEPTH_MAX {
            outer = Box::new(move || serde_json::Value::Array(vec![outer()]));
        }
        let value = outer();
        assert!(json(&value).is_ok());
        assert_eq!(json(&[value]), Err(SerializeError::TooDeep));
    };
    fits(|| Shape::Line(1, 2));
    fits(|| Shape::Box { width: 1, depth: None });
}

#[test]
fn what_encloses_the_value_counts_against_its_depth() {
    struct Inner(Paper);
    impl JsonSink for Inner {
        fn write(&mut self, bytes: &[u8]) -> Result<(), SerializeError> {
            self.0.write(bytes)
        }

        fn depth_max(&self) -> usize {
            2
        }
    }
    let mut sink = Inner(Paper::default());
    assert_eq!(Typed(Nested::Arrays(2)).write_json(&mut sink), Ok(()));
    assert_eq!(Typed(Nested::Arrays(3)).write_json(&mut sink), Err(SerializeError::TooDeep));
}

#[test]
fn a_full_sink_ends_it_whatever_its_size() {
    let whole = json(&everything()).unwrap();
    let mut fitted = heapless::Vec::<u8, 4096>::new();
    assert_eq!(Typed(everything()).write_json(&mut fitted), Ok(()));
    assert_eq!(fitted, whole.as_bytes());
    struct Limited(Vec<u8>, usize);
    impl JsonSink for Limited {
        fn write(&mut self, bytes: &[u8]) -> Result<(), SerializeError> {
            if self.0.len() + bytes.len() > self.1 {
                // Room from now on: whatever still came would be seen.
                self.1 = usize::MAX;
                return Err(SerializeError::Full);
            }
            self.0.extend_from_slice(bytes);
            Ok(())
        }
    }
    for room in 0..whole.len() {
        let mut sink = Limited(Vec::new(), room);
        assert_eq!(to_sink(&everything(), &mut sink), Err(SerializeError::Full), "{room}");
        assert!(sink.0.len() <= room && whole.as_bytes().starts_with(&sink.0), "{room}");
    }
}

/// Ways to misuse a serializer that compile.
enum Hostile {
    IgnoresAnElementsError,
    IgnoresAFieldsError,
    IgnoresAKeysError,
    LeavesAnArrayOpen,
    KeyAfterKey,
    ValueWithoutKey,
    EndsAfterKey,
    DisplayIgnoresTheSink,
}

impl Serialize for Hostile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::IgnoresAnElementsError => {
                let mut seq = serializer.serialize_seq(Some(2))?;
                let _ = seq.serialize_element(&(1, u128::MAX));
                let _ = seq.serialize_element(&2);
                seq.end()
            }
            Self::IgnoresAFieldsError => {
                let mut object = serializer.serialize_struct("", 1)?;
                let _ = object.serialize_field("k", &Nested::Arrays(1000));
                object.end()
            }
            Self::IgnoresAKeysError => {
                let mut map = serializer.serialize_map(None)?;
                let _ = map.serialize_key(&1.5);
                let _ = map.serialize_value(&1);
                map.end()
            }
            Self::LeavesAnArrayOpen => {
                let mut seq = serializer.serialize_seq(None)?;
                seq.serialize_element(&1)?;
                drop(seq);
                Err(S::Error::custom("there is no other way to return"))
            }
            Self::KeyAfterKey => {
                let mut map = serializer.serialize_map(None)?;
                map.serialize_key("a")?;
                map.serialize_key("b")?;
                map.serialize_value("c")?;
                map.end()
            }
            Self::ValueWithoutKey => {
                let mut map = serializer.serialize_map(None)?;
                map.serialize_value(&1)?;
                map.end()
            }
            Self::EndsAfterKey => {
                let mut map = serializer.serialize_map(None)?;
                map.serialize_key("a")?;
                map.end()
            }
            Self::DisplayIgnoresTheSink => serializer.collect_str(&Careless),
        }
    }
}

struct Careless;

impl fmt::Display for Careless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for _ in 0..10 {
            let _ = f.write_str("\"\"\"\"");
        }
        Ok(())
    }
}

#[test]
fn a_hostile_serialize_gets_an_error_and_never_half_a_value() {
    use SerializeError::{Custom, NotJson, TooDeep};
    for (hostile, error) in [
        (Hostile::IgnoresAnElementsError, NotJson),
        (Hostile::IgnoresAFieldsError, TooDeep),
        (Hostile::IgnoresAKeysError, NotJson),
        (Hostile::LeavesAnArrayOpen, Custom),
        (Hostile::KeyAfterKey, NotJson),
        (Hostile::ValueWithoutKey, NotJson),
        (Hostile::EndsAfterKey, NotJson),
    ] {
        assert_eq!(json(&hostile), Err(error));
        assert_eq!(json(&BTreeMap::from([("k", [hostile])])), Err(error));
    }
    agrees(&Hostile::DisplayIgnoresTheSink);
    let mut sink = heapless::Vec::<u8, 8>::new();
    assert_eq!(to_sink(&Hostile::DisplayIgnoresTheSink, &mut sink), Err(SerializeError::Full));
}

#[test]
fn errors_can_be_shown() {
    assert_eq!(SerializeError::custom("secret").to_string(), "value refused to be serialised");
    let error: &dyn core::error::Error = &SerializeError::Full;
    assert_eq!(format!("{error}"), "no room for the serialised value");
}

fn any_value() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    scalar.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_tree_of_values_comes_out_as_from_serde_json(value in any_value()) {
        let text = json(&value).unwrap();
        prop_assert_eq!(&text, &serde_json::to_string(&value).unwrap());
        let raw = RawJson::parse(&text).unwrap();
        prop_assert_eq!(raw.minified_len(), text.len());
    }

    #[test]
    fn any_float_comes_out_as_from_serde_json(double: f64, single: f32) {
        agrees(&(double, single));
    }
}
