//! Any event at all through the encoder: what is let through parses, says what the caller said, and says it once.
//!
//! In: a [`Said`], owned, made of the fuzzer's bytes. It is lent to an [`Event`], encoded, read back with serde_json and
//! compared with what it would be had serde_json written it.

#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use bumpalo::Bump;
use libfuzzer_sys::fuzz_target;
use quillet_core::limits::{DEPTH_MAX, DISTINCT_ID_CHARS_MAX, EVENT_NAME_BYTES_MAX, KEY_BYTES_MAX};
use quillet_core::{
    CaptureError, Common, Encoded, Event, Exception, Level, Property, RawJson, Stamper, Timestamp, Typed, Uuid, Value,
};
use serde_json::Value as Json;

#[path = "encoder/read_back.rs"]
mod read_back;

use read_back::{Frame, Pairs};

/// What a caller says, owned.
#[derive(Arbitrary, Debug)]
struct Said {
    kind: Kind,
    distinct_id: Option<String>,
    properties: Vec<(String, Datum)>,
    set: Vec<(String, Datum)>,
    set_once: Vec<(String, Datum)>,
    unset: Vec<String>,
    groups: Vec<(String, String)>,
    person_profile: Option<bool>,
    disable_geoip: Option<bool>,
    uuid: Option<[u8; 16]>,
    timestamp_us: Option<u64>,
    now_us: u64,
    super_properties: Vec<(String, Datum)>,
}

#[derive(Arbitrary, Debug)]
enum Kind {
    Capture { name: String },
    Personless { name: String },
    Identify,
    Person,
    Alias { alias: String },
    Group { group_type: String, group_key: String },
    Exception { type_name: String, message: String, fingerprint: Option<String>, stack_text: Option<String>, level: u8 },
}

/// A property's value, owned.
#[derive(Arbitrary, Debug)]
enum Datum {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Str(String),
    Array(Vec<Datum>),
    Object(Vec<(String, Datum)>),
    /// JSON text, used if it is some.
    Raw(String),
    /// The value inside, by way of serde.
    Typed(Box<Datum>),
}

/// Every event that the fuzzer can say fits: its input is at most a few KiB, and no byte of it takes more than six.
const ROOM: usize = 256 * 1024;
const SEED: [u64; 2] = [17, 4];

fuzz_target!(|said: Said| {
    let bump = Bump::new();
    let exception = said.exception();
    let event = said.event(&bump, &exception);

    let mut common_memory = vec![0; ROOM];
    let super_properties = lend_all(&bump, &said.super_properties);
    let common = Common::render(&mut common_memory, super_properties);
    let super_properties = if common.is_ok() { said.super_properties.as_slice() } else { &[] };
    let common = common.unwrap_or_else(|_| Common::default());

    let mut bytes = vec![0; ROOM];
    match encode(&event, &said, &common, &mut bytes) {
        Ok(encoded) => {
            let (bytes, _) = bytes.split_at(encoded.len);
            said.check_frame(&event, super_properties, encoded, bytes);
            said.check_exact_room(&event, &common, bytes);
        }
        Err(error) => said.check_refusal(&event, error),
    }
});

fn encode(event: &Event<'_>, said: &Said, common: &Common<'_>, out: &mut [u8]) -> Result<Encoded, CaptureError> {
    event.encode(&mut Stamper::new(SEED), common, Timestamp::from_unix_micros(said.now_us), out)
}

impl Said {
    fn exception(&self) -> Exception<'_> {
        let Kind::Exception { type_name, message, fingerprint, stack_text, level } = &self.kind else {
            return Exception::new("", "");
        };
        let mut exception = Exception::new(type_name, message).level(LEVELS[usize::from(*level) % LEVELS.len()]);
        if let Some(fingerprint) = fingerprint {
            exception = exception.fingerprint(fingerprint);
        }
        if let Some(text) = stack_text {
            exception = exception.stack_text(text).handled(level % 2 == 0);
        }
        exception
    }

    fn event<'a>(&'a self, bump: &'a Bump, exception: &'a Exception<'a>) -> Event<'a> {
        let id = self.distinct_id.as_deref().unwrap_or_default();
        let mut event = match &self.kind {
            Kind::Capture { name } => Event::new(name, id),
            Kind::Personless { name } => Event::personless(name),
            Kind::Identify => Event::identify(id),
            Kind::Person => Event::person(id),
            Kind::Alias { alias } => Event::alias(id, alias),
            Kind::Group { group_type, group_key } => Event::group_identify(group_type, group_key),
            Kind::Exception { .. } => Event::exception(id, exception),
        };
        if let (Kind::Group { .. }, Some(id)) = (&self.kind, &self.distinct_id) {
            event = event.distinct_id(id);
        }
        event = event.properties(lend_all(bump, &self.properties));
        // Not called at all is another path than called with nothing.
        if !self.set.is_empty() {
            event = event.set(lend_all(bump, &self.set));
        }
        if !self.set_once.is_empty() {
            event = event.set_once(lend_all(bump, &self.set_once));
        }
        if !self.unset.is_empty() {
            event = event.unset(bump.alloc_slice_fill_iter(self.unset.iter().map(String::as_str)));
        }
        if !self.groups.is_empty() {
            let groups = self.groups.iter().map(|(kind, key)| (kind.as_str(), key.as_str()));
            event = event.groups(bump.alloc_slice_fill_iter(groups));
        }
        if let Some(process) = self.person_profile {
            event = event.person_profile(process);
        }
        if let Some(disable) = self.disable_geoip {
            event = event.disable_geoip(disable);
        }
        if let Some(uuid) = self.uuid {
            event = event.uuid(Uuid::from_bytes(uuid));
        }
        if let Some(micros) = self.timestamp_us {
            event = event.timestamp(Timestamp::from_unix_micros(micros));
        }
        event
    }

    fn check_frame(&self, event: &Event<'_>, super_properties: &[(String, Datum)], encoded: Encoded, bytes: &[u8]) {
        assert!(bytes.iter().all(|&byte| byte >= 0x20), "a raw control byte tears the frame");
        let frame: Frame = serde_json::from_slice(bytes)
            .unwrap_or_else(|error| panic!("not the JSON of an event: {error}\n{}", String::from_utf8_lossy(bytes)));

        let uuid = Uuid::parse(&frame.uuid).expect("no uuid");
        assert_eq!(uuid, encoded.uuid);
        assert!(self.uuid.is_none_or(|given| Uuid::from_bytes(given) == uuid));
        let timestamp = Timestamp::parse(&frame.timestamp).expect("no timestamp");
        assert!(self.timestamp_us.is_none_or(|given| Timestamp::from_unix_micros(given) == timestamp));

        assert_eq!(frame.event, event.name());
        assert!((1..=EVENT_NAME_BYTES_MAX).contains(&frame.event.len()));
        let given = event.given_distinct_id();
        assert!(given.is_empty() || frame.distinct_id == given);
        assert!((1..=DISTINCT_ID_CHARS_MAX).contains(&frame.distinct_id.chars().count()));

        let Pairs(properties) = &frame.properties;
        let own = self.properties.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>();
        for (key, _) in properties {
            let count = properties.iter().filter(|(other, _)| other == key).count();
            let said = own.iter().filter(|own| *own == key).count();
            assert_eq!(count, said.max(1), "`{key}` is written {count} times and said {said} times");
        }
        let find = |name: &str| properties.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value);
        assert_eq!(find("$lib"), Some(&Json::from("quillet")));
        for (key, value) in last_of_each(&self.properties) {
            assert!(find(key).is_some_and(|read| value.is_read_as(read)), "`{key}` is not what was said");
        }
        for (key, value) in last_of_each(super_properties) {
            let Some(read) = find(key) else {
                // The one that would make the server drop an event which is there to change a person or a group.
                let changes_person =
                    !matches!(self.kind, Kind::Capture { .. } | Kind::Personless { .. } | Kind::Exception { .. });
                assert!(key == "$process_person_profile" && changes_person, "super property `{key}` is missing");
                continue;
            };
            // The event's own properties and its kind win.
            let own_wins = own.contains(&key) || !self.is_plain();
            assert!(own_wins || value.is_read_as(read), "super property `{key}` is not what was said");
        }
        let set = if matches!(self.kind, Kind::Group { .. }) { "$group_set" } else { "$set" };
        for (name, said) in [(set, &self.set), ("$set_once", &self.set_once)] {
            assert!(said.is_empty() || find(name).is_some_and(|read| is_object_of(said, read)), "`{name}`");
        }
        let groups: BTreeMap<_, _> = self.groups.iter().cloned().collect();
        assert!(groups.is_empty() || find("$groups") == Some(&serde_json::to_value(&groups).unwrap()));
        assert!(self.unset.is_empty() || find("$unset") == Some(&Json::from(self.unset.clone())));
    }

    /// The exact length is enough room, and one byte less is not.
    fn check_exact_room(&self, event: &Event<'_>, common: &Common<'_>, bytes: &[u8]) {
        let mut exact = vec![0; bytes.len()];
        assert!(encode(event, self, common, &mut exact).is_ok(), "does not fit where it fits");
        assert_eq!(exact, bytes, "room changes what is written");
        exact.pop();
        assert_eq!(encode(event, self, common, &mut exact).unwrap_err(), CaptureError::TooLarge);
    }

    /// Nothing is refused for a reason it did not give.
    fn check_refusal(&self, event: &Event<'_>, error: CaptureError) {
        let chars = |text: &str| text.chars().count();
        let all = || [&self.properties, &self.set, &self.set_once].into_iter().flatten();
        let justified = match error {
            CaptureError::EmptyEventName => event.name().trim().is_empty(),
            CaptureError::EventNameTooLong => event.name().len() > EVENT_NAME_BYTES_MAX,
            CaptureError::EmptyDistinctId => event.given_distinct_id().trim().is_empty(),
            CaptureError::DistinctIdTooLong => {
                let other = match &self.kind {
                    Kind::Alias { alias } => chars(alias),
                    Kind::Group { group_type, group_key } => chars(group_type) + chars(group_key) + 2,
                    _ => 0,
                };
                chars(event.given_distinct_id()).max(other) > DISTINCT_ID_CHARS_MAX
            }
            CaptureError::EmptyKey => all().any(|(key, _)| key.is_empty()),
            CaptureError::KeyTooLong => all().any(|(key, _)| key.len() > KEY_BYTES_MAX),
            CaptureError::ReservedKey => {
                all().any(|(key, _)| key.starts_with('$') || key == "alias" || key == "distinct_id")
            }
            CaptureError::TooDeep => all().any(|(_, value)| value.depth() >= DEPTH_MAX),
            CaptureError::MissingField => {
                !self.groups.is_empty() || matches!(self.kind, Kind::Alias { .. } | Kind::Group { .. })
            }
            CaptureError::InvalidValue => self.properties.iter().any(|(key, _)| key == "$cookieless_mode"),
            CaptureError::Personless => self.person_profile == Some(false),
            // A `Datum` says nothing that JSON cannot, and there is room for all of it.
            _ => false,
        };
        assert!(justified, "refused for no reason: {error:?}");
    }

    /// Whether nothing but its properties can touch a super property.
    fn is_plain(&self) -> bool {
        matches!(self.kind, Kind::Capture { .. })
            && self.set.is_empty()
            && self.set_once.is_empty()
            && self.unset.is_empty()
            && self.groups.is_empty()
            && self.person_profile.is_none()
            && self.disable_geoip.is_none()
    }
}

const LEVELS: [Level; 6] = [Level::Fatal, Level::Error, Level::Warning, Level::Log, Level::Info, Level::Debug];

impl Datum {
    fn lend<'a>(&'a self, bump: &'a Bump) -> Value<'a> {
        match self {
            Datum::Null => Value::Null,
            Datum::Bool(value) => Value::Bool(*value),
            Datum::Int(value) => Value::Int(*value),
            Datum::Uint(value) => Value::Uint(*value),
            Datum::Float(value) => Value::Float(*value),
            Datum::Str(text) => Value::Str(text),
            Datum::Array(values) => {
                Value::Array(bump.alloc_slice_fill_iter(values.iter().map(|value| value.lend(bump))))
            }
            Datum::Object(properties) => Value::Object(lend_all(bump, properties)),
            Datum::Raw(text) => RawJson::parse(text).map_or(Value::Null, Value::Raw),
            Datum::Typed(value) => Value::Typed(bump.alloc(Typed(&**value))),
        }
    }

    /// Levels of arrays and objects.
    fn depth(&self) -> usize {
        match self {
            Datum::Array(values) => 1 + values.iter().map(Datum::depth).max().unwrap_or(0),
            Datum::Object(properties) => 1 + properties.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            Datum::Raw(text) => RawJson::parse(text).map_or(0, |raw| raw.depth()),
            Datum::Typed(value) => value.depth(),
            _ => 0,
        }
    }

    /// Whether `read` is this value, numbers compared as what they were said as.
    fn is_read_as(&self, read: &Json) -> bool {
        match (self, read) {
            (Datum::Null, Json::Null) => true,
            (Datum::Bool(said), Json::Bool(read)) => said == read,
            (Datum::Int(said), Json::Number(read)) => read.as_i64() == Some(*said),
            (Datum::Uint(said), Json::Number(read)) => read.as_u64() == Some(*said),
            (Datum::Float(said), Json::Number(read)) => {
                read.as_f64().is_some_and(|read| read.to_bits() == said.to_bits())
            }
            (Datum::Float(said), Json::Null) => !said.is_finite(),
            (Datum::Str(said), Json::String(read)) => said == read,
            (Datum::Array(said), Json::Array(read)) => {
                said.len() == read.len() && said.iter().zip(read).all(|(said, read)| said.is_read_as(read))
            }
            (Datum::Object(said), read) => is_object_of(said, read),
            (Datum::Raw(text), read) => match RawJson::parse(text) {
                Ok(_) => serde_json::from_str::<Json>(text).is_ok_and(|said| said == *read),
                Err(_) => read.is_null(),
            },
            (Datum::Typed(said), read) => said.is_read_as(read),
            _ => false,
        }
    }
}

/// Serialises as its own JSON; what JSON text says, as that text.
impl serde::Serialize for Datum {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        match self {
            Datum::Null => serializer.serialize_none(),
            Datum::Bool(value) => serializer.serialize_bool(*value),
            Datum::Int(value) => serializer.serialize_i64(*value),
            Datum::Uint(value) => serializer.serialize_u64(*value),
            Datum::Float(value) => serializer.serialize_f64(*value),
            Datum::Str(text) => serializer.serialize_str(text),
            Datum::Array(values) => values.serialize(serializer),
            Datum::Object(properties) => {
                let mut map = serializer.serialize_map(None)?;
                for (key, value) in properties {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
            Datum::Raw(text) => match RawJson::parse(text) {
                Ok(_) => serde_json::from_str::<Json>(text).unwrap().serialize(serializer),
                Err(_) => serializer.serialize_unit(),
            },
            Datum::Typed(value) => value.serialize(serializer),
        }
    }
}

fn lend_all<'a>(bump: &'a Bump, properties: &'a [(String, Datum)]) -> &'a [Property<'a>] {
    bump.alloc_slice_fill_iter(properties.iter().map(|(key, value)| Property::new(key, value.lend(bump))))
}

/// Of equal keys the last one counts, here as on the server.
fn last_of_each(properties: &[(String, Datum)]) -> BTreeMap<&str, &Datum> {
    properties.iter().map(|(key, value)| (key.as_str(), value)).collect()
}

fn is_object_of(said: &[(String, Datum)], read: &Json) -> bool {
    let said = last_of_each(said);
    read.as_object().is_some_and(|read| {
        read.len() == said.len()
            && said.iter().all(|(key, said)| read.get(*key).is_some_and(|read| said.is_read_as(read)))
    })
}
