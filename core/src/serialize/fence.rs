//! The serializer itself; only this file knows serde.
//!
//! Two devices keep foreign code honest. [`Written`], the `Ok` of every method, can only be had by writing a value, so
//! a `Serialize` that leaves an array open has nothing to return but an error. And the first error stays: from then on
//! nothing is written and every call fails, so that ignoring an element's error does not lead to half a value.

use core::fmt::{self, Write};

use serde::ser::{self, Impossible, Serialize};

use super::{JsonSink, SerializeError, WriteJson};
use crate::wire::{escape, float};

/// Any serialisable value as a property.
///
/// Structs and maps become objects, sequences, tuples and bytes arrays; enums are tagged as serde_json tags them.
/// Floats that are no number become `null`, as everywhere in this crate. Map keys may be strings, characters, integers,
/// booleans and unit variants. Integers of 128 bits are taken when they fit into 64, or are keys. Duplicate keys, which
/// `flatten` can make, are the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Typed<T>(pub T);

impl<T: Serialize> WriteJson for Typed<T> {
    fn write_json(&self, sink: &mut dyn JsonSink) -> Result<(), SerializeError> {
        to_sink(&self.0, sink)
    }
}

/// Writes `value` to `sink` as JSON, without whitespace.
///
/// Allocates nothing and does not panic, unless the value's own code does. Calls nest as deep as the value does, for
/// arrays and objects at most [`JsonSink::depth_max`] times.
///
/// # Errors
///
/// Those of the sink, and see [`SerializeError`]. Then part of the value may have been written.
///
/// ```
/// # use quillet_core::{SerializeError, to_sink};
/// let mut json = heapless::Vec::<u8, 32>::new();
/// to_sink(&("a\"b", 1.5, 'c', [None, Some(true)]), &mut json)?;
/// assert_eq!(json, br#"["a\"b",1.5,"c",[null,true]]"#);
/// # Ok::<(), SerializeError>(())
/// ```
pub fn to_sink<T: Serialize + ?Sized, S: JsonSink + ?Sized>(value: &T, sink: &mut S) -> Result<(), SerializeError> {
    let mut json = Json { depth_left: sink.depth_max(), sink, failed: None };
    let outcome = value.serialize(&mut json);
    match json.failed {
        Some(error) => Err(error),
        None => outcome.map(|Written(())| ()),
    }
}

impl ser::Error for SerializeError {
    fn custom<T: fmt::Display>(_message: T) -> Self {
        // The message is not kept: nothing here allocates, and it could hold what the caller must not log.
        Self::Custom
    }
}

/// Proof that one complete value was written.
struct Written(());

type Outcome = Result<Written, SerializeError>;

/// The sink, and what keeps its content JSON.
struct Json<'s, S: ?Sized> {
    sink: &'s mut S,
    depth_left: usize,
    /// The first error; nothing is written after it.
    failed: Option<SerializeError>,
}

impl<S: JsonSink + ?Sized> Json<'_, S> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), SerializeError> {
        match self.failed {
            Some(error) => Err(error),
            None => self.sink.write(bytes).map_err(|error| self.fail(error)),
        }
    }

    fn put_all(&mut self, bytes: &[u8]) -> Outcome {
        self.put(bytes).map(Written)
    }

    /// Remembers the first error, and gives it.
    fn fail(&mut self, error: SerializeError) -> SerializeError {
        *self.failed.get_or_insert(error)
    }

    /// A nested value. Its error need not be one of ours, so it is remembered here, where it cannot be ignored.
    fn nested<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerializeError> {
        match value.serialize(&mut *self) {
            Ok(Written(())) => Ok(()),
            Err(error) => Err(self.fail(error)),
        }
    }

    fn open(&mut self, bracket: &[u8]) -> Result<(), SerializeError> {
        let Some(left) = self.depth_left.checked_sub(1) else {
            return Err(self.fail(SerializeError::TooDeep));
        };
        self.depth_left = left;
        self.put(bracket)
    }

    /// Closes one level a bracket.
    fn close(&mut self, brackets: &[u8]) -> Outcome {
        self.depth_left += brackets.len();
        self.put_all(brackets)
    }

    /// `{"variant":`
    fn open_variant(&mut self, variant: &str) -> Result<(), SerializeError> {
        self.open(b"{")?;
        self.string(variant)?;
        self.put(b":")
    }

    fn string(&mut self, text: &str) -> Outcome {
        self.put(b"\"")?;
        self.escaped(text)?;
        self.put_all(b"\"")
    }

    /// What a `Display` makes, as a string, without holding it anywhere.
    fn display<T: fmt::Display + ?Sized>(&mut self, value: &T) -> Outcome {
        self.put(b"\"")?;
        if write!(Escaped(self), "{value}").is_err() {
            // The sink's error, if there was one before: the first stays.
            return Err(self.fail(SerializeError::Custom));
        }
        self.put_all(b"\"")
    }

    fn escaped(&mut self, text: &str) -> Result<(), SerializeError> {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let (run, escape) = escape::next_run(rest);
            let (plain, after) = rest.split_at_checked(run).unwrap_or((rest, &[]));
            self.put(plain)?;
            if let Some(escape) = escape {
                self.put(escape.as_bytes())?;
            }
            rest = after.get(1..).unwrap_or_default();
        }
        Ok(())
    }
}

impl<'j, 's, S: JsonSink + ?Sized> ser::Serializer for &'j mut Json<'s, S> {
    type Ok = Written;
    type Error = SerializeError;
    type SerializeSeq = Compound<'j, 's, S>;
    type SerializeTuple = Compound<'j, 's, S>;
    type SerializeTupleStruct = Compound<'j, 's, S>;
    type SerializeTupleVariant = Compound<'j, 's, S>;
    type SerializeMap = Compound<'j, 's, S>;
    type SerializeStruct = Compound<'j, 's, S>;
    type SerializeStructVariant = Compound<'j, 's, S>;

    fn serialize_bool(self, value: bool) -> Outcome {
        self.put_all(if value { b"true" } else { b"false" })
    }

    fn serialize_i8(self, value: i8) -> Outcome {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Outcome {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Outcome {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Outcome {
        self.put_all(itoa::Buffer::new().format(value).as_bytes())
    }

    fn serialize_i128(self, value: i128) -> Outcome {
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => self.serialize_i64(value),
            (_, Ok(value)) => self.serialize_u64(value),
            _ => Err(self.fail(SerializeError::NotJson)),
        }
    }

    fn serialize_u8(self, value: u8) -> Outcome {
        self.serialize_u64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Outcome {
        self.serialize_u64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Outcome {
        self.serialize_u64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Outcome {
        self.put_all(itoa::Buffer::new().format(value).as_bytes())
    }

    fn serialize_u128(self, value: u128) -> Outcome {
        match u64::try_from(value) {
            Ok(value) => self.serialize_u64(value),
            Err(_) => Err(self.fail(SerializeError::NotJson)),
        }
    }

    fn serialize_f32(self, value: f32) -> Outcome {
        // Not by way of f64, which would turn 0.1 into 0.10000000149011612.
        if value.is_finite() {
            self.put_all(float::Buffer::new().format_finite(value).as_bytes())
        } else {
            self.serialize_unit()
        }
    }

    fn serialize_f64(self, value: f64) -> Outcome {
        if value.is_finite() {
            self.put_all(float::Buffer::new().format_finite(value).as_bytes())
        } else {
            self.serialize_unit()
        }
    }

    fn serialize_char(self, value: char) -> Outcome {
        self.string(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Outcome {
        self.string(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Outcome {
        self.collect_seq(value)
    }

    fn serialize_none(self) -> Outcome {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Outcome {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Outcome {
        self.put_all(b"null")
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Outcome {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _name: &'static str, _index: u32, variant: &'static str) -> Outcome {
        self.string(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _name: &'static str, value: &T) -> Outcome {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Outcome {
        self.open_variant(variant)?;
        self.nested(value)?;
        self.close(b"}")
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Self::SerializeSeq, SerializeError> {
        self.open(b"[")?;
        Ok(Compound::new(self, b"]"))
    }

    fn serialize_tuple(self, _len: usize) -> Result<Self::SerializeTuple, SerializeError> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeTupleStruct, SerializeError> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeTupleVariant, SerializeError> {
        self.open_variant(variant)?;
        self.open(b"[")?;
        Ok(Compound::new(self, b"]}"))
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Self::SerializeMap, SerializeError> {
        self.open(b"{")?;
        Ok(Compound::new(self, b"}"))
    }

    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Self::SerializeStruct, SerializeError> {
        self.serialize_map(None)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeStructVariant, SerializeError> {
        self.open_variant(variant)?;
        self.open(b"{")?;
        Ok(Compound::new(self, b"}}"))
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Outcome {
        self.display(value)
    }
}

/// An open array or object, the one inside a variant's object included.
struct Compound<'j, 's, S: ?Sized> {
    json: &'j mut Json<'s, S>,
    /// What closes it, a byte a level.
    close: &'static [u8],
    /// No element, entry or key so far.
    empty: bool,
    /// A map's key was written and its value not yet.
    value_due: bool,
}

impl<'j, 's, S: JsonSink + ?Sized> Compound<'j, 's, S> {
    fn new(json: &'j mut Json<'s, S>, close: &'static [u8]) -> Self {
        Self { json, close, empty: true, value_due: false }
    }

    fn separate(&mut self) -> Result<(), SerializeError> {
        if core::mem::replace(&mut self.empty, false) { Ok(()) } else { self.json.put(b",") }
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerializeError> {
        self.separate()?;
        self.json.nested(value)
    }

    fn field<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), SerializeError> {
        self.separate()?;
        self.json.string(key)?;
        self.json.put(b":")?;
        self.json.nested(value)
    }

    /// Keys and values of a map come by separate calls, in an order nobody checked: `value_due` must be what it is.
    fn take_turn(&mut self, value_due: bool) -> Result<(), SerializeError> {
        if self.value_due == value_due { Ok(()) } else { Err(self.json.fail(SerializeError::NotJson)) }
    }

    fn finish(mut self) -> Outcome {
        self.take_turn(false)?;
        self.json.close(self.close)
    }
}

impl<S: JsonSink + ?Sized> ser::SerializeSeq for Compound<'_, '_, S> {
    type Ok = Written;
    type Error = SerializeError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerializeError> {
        self.element(value)
    }

    fn end(self) -> Outcome {
        self.finish()
    }
}

impl<S: JsonSink + ?Sized> ser::SerializeTuple for Compound<'_, '_, S> {
    type Ok = Written;
    type Error = SerializeError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerializeError> {
        self.element(value)
    }

    fn end(self) -> Outcome {
        self.finish()
    }
}

impl<S: JsonSink + ?Sized> ser::SerializeTupleStruct for Compound<'_, '_, S> {
    type Ok = Written;
    type Error = SerializeError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerializeError> {
        self.element(value)
    }

    fn end(self) -> Outcome {
        self.finish()
    }
}

impl<S: JsonSink + ?Sized> ser::SerializeTupleVariant for Compound<'_, '_, S> {
    type Ok = Written;
    type Error = SerializeError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerializeError> {
        self.element(value)
    }

    fn end(self) -> Outcome {
        self.finish()
    }
}

impl<S: JsonSink + ?Sized> ser::SerializeMap for Compound<'_, '_, S> {
    type Ok = Written;
    type Error = SerializeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), SerializeError> {
        self.take_turn(false)?;
        self.separate()?;
        match key.serialize(Key(&mut *self.json)) {
            Ok(Written(())) => {}
            Err(error) => return Err(self.json.fail(error)),
        }
        self.value_due = true;
        self.json.put(b":")
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerializeError> {
        self.take_turn(true)?;
        self.value_due = false;
        self.json.nested(value)
    }

    fn end(self) -> Outcome {
        self.finish()
    }
}

impl<S: JsonSink + ?Sized> ser::SerializeStruct for Compound<'_, '_, S> {
    type Ok = Written;
    type Error = SerializeError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), SerializeError> {
        self.field(key, value)
    }

    fn end(self) -> Outcome {
        self.finish()
    }
}

impl<S: JsonSink + ?Sized> ser::SerializeStructVariant for Compound<'_, '_, S> {
    type Ok = Written;
    type Error = SerializeError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), SerializeError> {
        self.field(key, value)
    }

    fn end(self) -> Outcome {
        self.finish()
    }
}

/// The same sink where only a string may stand: what is no text but has an obvious one is quoted.
struct Key<'j, 's, S: ?Sized>(&'j mut Json<'s, S>);

impl<'s, S: JsonSink + ?Sized> Key<'_, 's, S> {
    /// For all that no key can be.
    fn refuse<T>(self) -> Result<T, SerializeError> {
        Err(self.0.fail(SerializeError::NotJson))
    }

    /// Writes a number or boolean between quotes.
    fn quoted(self, write: impl FnOnce(&mut Json<'s, S>) -> Outcome) -> Outcome {
        self.0.put(b"\"")?;
        let Written(()) = write(self.0)?;
        self.0.put_all(b"\"")
    }
}

impl<'s, S: JsonSink + ?Sized> ser::Serializer for Key<'_, 's, S> {
    type Ok = Written;
    type Error = SerializeError;
    type SerializeSeq = Impossible<Written, SerializeError>;
    type SerializeTuple = Impossible<Written, SerializeError>;
    type SerializeTupleStruct = Impossible<Written, SerializeError>;
    type SerializeTupleVariant = Impossible<Written, SerializeError>;
    type SerializeMap = Impossible<Written, SerializeError>;
    type SerializeStruct = Impossible<Written, SerializeError>;
    type SerializeStructVariant = Impossible<Written, SerializeError>;

    fn serialize_bool(self, value: bool) -> Outcome {
        self.quoted(|json| json.serialize_bool(value))
    }

    fn serialize_i8(self, value: i8) -> Outcome {
        self.quoted(|json| json.serialize_i8(value))
    }

    fn serialize_i16(self, value: i16) -> Outcome {
        self.quoted(|json| json.serialize_i16(value))
    }

    fn serialize_i32(self, value: i32) -> Outcome {
        self.quoted(|json| json.serialize_i32(value))
    }

    fn serialize_i64(self, value: i64) -> Outcome {
        self.quoted(|json| json.serialize_i64(value))
    }

    fn serialize_i128(self, value: i128) -> Outcome {
        // All its digits: as text it loses none.
        self.quoted(|json| json.put_all(itoa::Buffer::new().format(value).as_bytes()))
    }

    fn serialize_u8(self, value: u8) -> Outcome {
        self.quoted(|json| json.serialize_u8(value))
    }

    fn serialize_u16(self, value: u16) -> Outcome {
        self.quoted(|json| json.serialize_u16(value))
    }

    fn serialize_u32(self, value: u32) -> Outcome {
        self.quoted(|json| json.serialize_u32(value))
    }

    fn serialize_u64(self, value: u64) -> Outcome {
        self.quoted(|json| json.serialize_u64(value))
    }

    fn serialize_u128(self, value: u128) -> Outcome {
        self.quoted(|json| json.put_all(itoa::Buffer::new().format(value).as_bytes()))
    }

    fn serialize_char(self, value: char) -> Outcome {
        self.0.serialize_char(value)
    }

    fn serialize_str(self, value: &str) -> Outcome {
        self.0.string(value)
    }

    fn serialize_unit_variant(self, _name: &'static str, _index: u32, variant: &'static str) -> Outcome {
        self.0.string(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _name: &'static str, value: &T) -> Outcome {
        value.serialize(self)
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Outcome {
        self.0.display(value)
    }

    fn serialize_f32(self, _value: f32) -> Outcome {
        self.refuse()
    }

    fn serialize_f64(self, _value: f64) -> Outcome {
        self.refuse()
    }

    fn serialize_bytes(self, _value: &[u8]) -> Outcome {
        self.refuse()
    }

    fn serialize_none(self) -> Outcome {
        self.refuse()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _value: &T) -> Outcome {
        self.refuse()
    }

    fn serialize_unit(self) -> Outcome {
        self.refuse()
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Outcome {
        self.refuse()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _value: &T,
    ) -> Outcome {
        self.refuse()
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Self::SerializeSeq, SerializeError> {
        self.refuse()
    }

    fn serialize_tuple(self, _len: usize) -> Result<Self::SerializeTuple, SerializeError> {
        self.refuse()
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeTupleStruct, SerializeError> {
        self.refuse()
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeTupleVariant, SerializeError> {
        self.refuse()
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Self::SerializeMap, SerializeError> {
        self.refuse()
    }

    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Self::SerializeStruct, SerializeError> {
        self.refuse()
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeStructVariant, SerializeError> {
        self.refuse()
    }
}

/// Text on its way into an open string.
struct Escaped<'j, 's, S: ?Sized>(&'j mut Json<'s, S>);

impl<S: JsonSink + ?Sized> fmt::Write for Escaped<'_, '_, S> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.escaped(text).map_err(|_| fmt::Error)
    }
}
