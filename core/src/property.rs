//! What a property may be: a key and a value, both borrowed. The first thing on the data's path.
//!
//! In: the caller's own variables. Out: a [`Property`] slice on the caller's stack, which the encoder reads once.

use core::fmt;

use crate::limits::KEY_BYTES_MAX;
use crate::raw::RawJson;
use crate::serialize::WriteJson;
use crate::wire::key;
use crate::wire::writer::SlotLen;

/// A property's value. Borrowed: building one copies nothing and allocates nothing.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Value<'a> {
    /// JSON `null`.
    Null,
    /// JSON `true` or `false`.
    Bool(bool),
    /// A whole number. Beyond ±2⁵³ later stages of PostHog may round it; send a string where that matters.
    Int(i64),
    /// A whole number too large for `i64`; the same remark.
    Uint(u64),
    /// A number. NaN and the infinities, which JSON cannot say, become `null`.
    Float(f64),
    /// A number of single precision: written with as few digits as tell it from its neighbours, as `0.1` and not as the
    /// `f64` nearest to it.
    Float32(f32),
    /// Text. Any UTF-8, escaped on the way.
    Str(&'a str),
    /// Values in order.
    Array(&'a [Value<'a>]),
    /// Keys and values. Keys should differ; where they do not, the server keeps the last.
    Object(&'a [Property<'a>]),
    /// JSON text, already checked.
    Raw(RawJson<'a>),
    /// Something that writes itself, for example a `serde::Serialize` type in `Typed` (feature `serde`).
    Typed(&'a dyn WriteJson),
}

const _: () = assert!(size_of::<Value<'_>>() <= 8 + 2 * size_of::<usize>(), "the hot path stores and loads every word");

/// One property: a key and its value.
///
/// ```
/// use quillet_core::{Property, Value};
///
/// let plan = Property::new("plan", "pro");
/// let seats = Property::new("seats", 3);
/// let nested = [Property::new("seats", 3)];
/// let team = Property::new("team", Value::Object(&nested));
/// # let _ = (plan, seats, team);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Property<'a> {
    #[doc(hidden)]
    pub key: Key<'a>,
    #[doc(hidden)]
    pub value: Value<'a>,
}

impl<'a> Property<'a> {
    /// A property whose key is known when the program runs.
    ///
    /// Nothing is checked here; `capture` refuses a key that is empty, longer than
    /// [`KEY_BYTES_MAX`] or one the client writes itself.
    #[inline]
    pub fn new(key: &'a str, value: impl Into<Value<'a>>) -> Self {
        Self { key: Key::Text(key), value: value.into() }
    }

    /// A property whose key was rendered when the program was compiled. [`props!`](crate::props) does the same.
    #[inline]
    pub fn literal(key: &'static LiteralKey, value: impl Into<Value<'a>>) -> Self {
        Self { key: Key::literal(key), value: value.into() }
    }

    /// The key.
    pub fn key(&self) -> &'a str {
        self.key.text()
    }

    /// The value.
    pub fn value(&self) -> Value<'a> {
        self.value
    }
}

/// A property's key: text, or its rendering where that was made at compile time. Two words.
#[derive(Clone, Copy)]
#[doc(hidden)]
pub enum Key<'a> {
    /// Rendered; always short enough for its slot, and not [special](is_special).
    Literal(RenderedKey),
    /// To be escaped on the way.
    Text(&'a str),
}

/// A literal key that may be copied as it was rendered. Only [`Key::literal`] makes one, so none is too long for its slot,
/// and none is [special](is_special).
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct RenderedKey(&'static LiteralKey);

impl core::ops::Deref for RenderedKey {
    type Target = LiteralKey;

    #[inline(always)]
    fn deref(&self) -> &LiteralKey {
        self.0
    }
}

const _: () = assert!(size_of::<Key<'_>>() == 2 * size_of::<usize>(), "the hot path stores and loads every word");

impl Key<'static> {
    /// A key rendered at compile time.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub const fn literal(key: &'static LiteralKey) -> Self {
        if key.len.get() == 0 { Self::Text(key.text) } else { Self::Literal(RenderedKey(key)) }
    }
}

impl<'a> Key<'a> {
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) const fn text(&self) -> &'a str {
        match self {
            Self::Literal(literal) => literal.0.text,
            Self::Text(text) => text,
        }
    }
}

/// Bytes of a rendered key: `,"` + key + `":`, padded. One or two 16-byte stores put it into the ring.
pub(crate) const KEY_SLOT_BYTES: usize = 32;

/// A key escaped and quoted at compile time, in a slot of fixed size.
///
/// Made by [`props!`](crate::props), which refuses to compile a key that is empty, too long, reserved, or in need of
/// escapes.
#[derive(Debug)]
pub struct LiteralKey {
    text: &'static str,
    pub(crate) slot: [u8; KEY_SLOT_BYTES],
    /// Bytes of the slot in use; 0 if the key is too long for one, or [special](is_special).
    pub(crate) len: SlotLen<KEY_SLOT_BYTES>,
    pub(crate) mask: u64,
}

impl LiteralKey {
    /// Renders `key`.
    ///
    /// # Panics
    ///
    /// At compile time only (use it in a `const`), if the key is empty, longer than
    /// [`KEY_BYTES_MAX`], holds a byte that JSON wants escaped, or is
    /// `$lib` or `$lib_version`, which the client writes itself.
    #[allow(clippy::indexing_slicing, clippy::panic, reason = "evaluated by the compiler; a mistake is its error")]
    pub const fn new(key: &'static str) -> Self {
        let bytes = key.as_bytes();
        assert!(!bytes.is_empty(), "a property key must not be empty");
        assert!(bytes.len() <= KEY_BYTES_MAX, "a property key must not be longer than KEY_BYTES_MAX");
        assert!(!is_always_reserved(bytes), "the client writes $lib and $lib_version itself");
        // What follows the colon is not in use, but stored: the quote that text begins with.
        let mut slot = [b'"'; KEY_SLOT_BYTES];
        let fits = bytes.len() + 5 <= KEY_SLOT_BYTES && !is_special(bytes);
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            assert!(byte >= 0x20 && byte != b'"' && byte != b'\\', "this key needs escapes: use Property::new");
            if fits {
                slot[at + 2] = byte;
            }
            at += 1;
        }
        slot[0] = b',';
        slot[1] = b'"';
        if fits {
            slot[at + 2] = b'"';
            slot[at + 3] = b':';
        }
        Self {
            text: key,
            slot,
            len: if fits { SlotLen::new(bytes.len() + 4) } else { SlotLen::EMPTY },
            mask: key_mask(bytes),
        }
    }
}

/// The bit that every key has which begins with `$`, beside its own: some of them mean something to PostHog.
pub(crate) const DOLLAR_MASK: u64 = 1 << 63;

/// One bit that depends on a key. Keys without a common bit differ, so that most events need no comparison with the super
/// properties at all.
#[inline]
#[allow(clippy::indexing_slicing, reason = "both indices are below the length; const fn has no get().copied()")]
pub(crate) const fn key_mask(key: &[u8]) -> u64 {
    if key.is_empty() {
        return 0;
    }
    let mix = key[0] as usize ^ (key[key.len() - 1] as usize).wrapping_mul(5) ^ key.len().wrapping_mul(11);
    // 63 is taken: it shares a bit with 62.
    let dollar = if key[0] == b'$' { DOLLAR_MASK } else { 0 };
    let bit = if mix & 63 == 63 { 62 } else { mix & 63 };
    if cfg!(target_pointer_width = "64") {
        return dollar | 1 << bit;
    }
    // In registers of 32 bits a shift by so much would be a call.
    let half = (1u32 << (bit & 31)) as u64;
    dollar | if bit < 32 { half } else { half << 32 }
}

/// Whether the client writes this key into every event.
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
pub(crate) const fn is_always_reserved(key: &[u8]) -> bool {
    is_same(key, LIB) || is_same(key, LIB_VERSION)
}

/// Whether two texts are the same; without the compiler's `memcmp`, which is larger than this.
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
pub(crate) const fn is_same(mut a: &[u8], mut b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    while let (Some((x, others)), Some((y, rest))) = (a.split_first(), b.split_first()) {
        if *x != *y {
            return false;
        }
        (a, b) = (others, rest);
    }
    true
}

/// Whether this is a key that a client's events say by default or may be told to say, or one that has to be looked at for
/// another reason.
pub(crate) const fn is_special(key: &[u8]) -> bool {
    is_always_reserved(key) || is_same(key, IS_SERVER) || is_same(key, GEOIP_DISABLE) || is_same(key, COOKIELESS_MODE)
}

const LIB: &[u8] = key::LIB.as_bytes();
const LIB_VERSION: &[u8] = key::LIB_VERSION.as_bytes();
const IS_SERVER: &[u8] = key::IS_SERVER.as_bytes();
const GEOIP_DISABLE: &[u8] = key::GEOIP_DISABLE.as_bytes();
const COOKIELESS_MODE: &[u8] = key::COOKIELESS_MODE.as_bytes();

impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.text(), f)
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("Null"),
            Value::Bool(value) => f.debug_tuple("Bool").field(value).finish(),
            Value::Int(value) => f.debug_tuple("Int").field(value).finish(),
            Value::Uint(value) => f.debug_tuple("Uint").field(value).finish(),
            Value::Float(value) => f.debug_tuple("Float").field(value).finish(),
            Value::Float32(value) => f.debug_tuple("Float32").field(value).finish(),
            Value::Str(value) => f.debug_tuple("Str").field(value).finish(),
            Value::Array(value) => f.debug_tuple("Array").field(value).finish(),
            Value::Object(value) => f.debug_tuple("Object").field(value).finish(),
            Value::Raw(value) => f.debug_tuple("Raw").field(&value.as_str()).finish(),
            Value::Typed(_) => f.write_str("Typed(..)"),
        }
    }
}

macro_rules! from {
    ($($type:ty => $variant:ident as $as:ty),* $(,)?) => {$(
        impl From<$type> for Value<'_> {
            #[inline]
            fn from(value: $type) -> Self {
                Value::$variant(value as $as)
            }
        }
    )*};
}

from! {
    i8 => Int as i64, i16 => Int as i64, i32 => Int as i64, i64 => Int as i64, isize => Int as i64,
    u8 => Uint as u64, u16 => Uint as u64, u32 => Uint as u64, u64 => Uint as u64, usize => Uint as u64,
    f32 => Float32 as f32, f64 => Float as f64, bool => Bool as bool,
}

impl<'a> From<&'a str> for Value<'a> {
    #[inline]
    fn from(value: &'a str) -> Self {
        Value::Str(value)
    }
}

/// For `&String` and the like, which deref to `str`, write `value.as_str()`; for two references, as in iterators, this.
impl<'a> From<&&'a str> for Value<'a> {
    #[inline]
    fn from(value: &&'a str) -> Self {
        Value::Str(value)
    }
}

impl<'a> From<&'a [Value<'a>]> for Value<'a> {
    fn from(value: &'a [Value<'a>]) -> Self {
        Value::Array(value)
    }
}

impl<'a, const N: usize> From<&'a [Value<'a>; N]> for Value<'a> {
    fn from(value: &'a [Value<'a>; N]) -> Self {
        Value::Array(value)
    }
}

impl<'a> From<&'a [Property<'a>]> for Value<'a> {
    fn from(value: &'a [Property<'a>]) -> Self {
        Value::Object(value)
    }
}

impl<'a, const N: usize> From<&'a [Property<'a>; N]> for Value<'a> {
    fn from(value: &'a [Property<'a>; N]) -> Self {
        Value::Object(value)
    }
}

impl<'a> From<RawJson<'a>> for Value<'a> {
    fn from(value: RawJson<'a>) -> Self {
        Value::Raw(value)
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    #[inline]
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

impl<'a, const N: usize> From<&'a heapless::String<N>> for Value<'a> {
    fn from(value: &'a heapless::String<N>) -> Self {
        Value::Str(value)
    }
}

/// Properties from literal keys, on the stack, with the keys rendered at compile time.
///
/// Values are anything that converts into a [`Value`]; `{ … }` and `[ … ]` nest; `null` is itself. The result is a
/// reference to an array: pass it on in the same expression or bind it with `let`.
///
/// ```
/// use quillet_core::{Event, props};
/// # fn capture(_: Event<'_>) {}
///
/// let name = "Acme";
/// capture(Event::new("signed_up", "user-1").properties(props! {
///     "plan": "pro",
///     "seats": 3,
///     "team": { "name": name, "tags": ["a", "b", null] },
/// }));
/// ```
///
/// A key that is empty, needs escapes, or is written by the client itself does not compile:
///
/// ```compile_fail
/// let bad = quillet_core::props! { "$lib": "mine" };
/// ```
#[macro_export]
macro_rules! props {
    ($($body:tt)*) => { &$crate::__properties!([] $($body)*) };
}

/// Muncher behind [`props!`]: collects `key: value` pairs into one array expression.
///
/// It ends in struct literals rather than calls, so that `let` extends the life of nested arrays.
#[doc(hidden)]
#[macro_export]
macro_rules! __properties {
    ([]) => { ([] as [$crate::Property<'_>; 0]) };
    ([$($done:expr,)+]) => { [$($done),+] };
    ([$($done:expr,)*] $key:literal : { $($inner:tt)* } $(, $($rest:tt)*)?) => {
        $crate::__properties!(
            [$($done,)* $crate::__property!($key, $crate::Value::Object(&$crate::__properties!([] $($inner)*))),]
            $($($rest)*)?
        )
    };
    ([$($done:expr,)*] $key:literal : [ $($inner:tt)* ] $(, $($rest:tt)*)?) => {
        $crate::__properties!(
            [$($done,)* $crate::__property!($key, $crate::Value::Array(&$crate::__values!([] $($inner)*))),]
            $($($rest)*)?
        )
    };
    ([$($done:expr,)*] $key:literal : null $(, $($rest:tt)*)?) => {
        $crate::__properties!([$($done,)* $crate::__property!($key, $crate::Value::Null),] $($($rest)*)?)
    };
    ([$($done:expr,)*] $key:literal : $value:expr $(, $($rest:tt)*)?) => {
        $crate::__properties!(
            [$($done,)* $crate::__property!($key, $crate::Value::from($value)),]
            $($($rest)*)?
        )
    };
}

/// Muncher behind [`props!`] for arrays.
#[doc(hidden)]
#[macro_export]
macro_rules! __values {
    ([]) => { ([] as [$crate::Value<'_>; 0]) };
    ([$($done:expr,)+]) => { [$($done),+] };
    ([$($done:expr,)*] { $($inner:tt)* } $(, $($rest:tt)*)?) => {
        $crate::__values!(
            [$($done,)* $crate::Value::Object(&$crate::__properties!([] $($inner)*)),]
            $($($rest)*)?
        )
    };
    ([$($done:expr,)*] [ $($inner:tt)* ] $(, $($rest:tt)*)?) => {
        $crate::__values!(
            [$($done,)* $crate::Value::Array(&$crate::__values!([] $($inner)*)),]
            $($($rest)*)?
        )
    };
    ([$($done:expr,)*] null $(, $($rest:tt)*)?) => {
        $crate::__values!([$($done,)* $crate::Value::Null,] $($($rest)*)?)
    };
    ([$($done:expr,)*] $value:expr $(, $($rest:tt)*)?) => {
        $crate::__values!([$($done,)* $crate::Value::from($value),] $($($rest)*)?)
    };
}

/// One property with a literal key.
#[doc(hidden)]
#[macro_export]
macro_rules! __property {
    ($key:literal, $value:expr) => {
        $crate::Property {
            key: {
                const KEY: &$crate::LiteralKey = &$crate::LiteralKey::new($key);
                $crate::Key::literal(KEY)
            },
            value: $value,
        }
    };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should stop")]
    use super::*;

    #[test]
    fn props_nest_and_outlive_their_statement_when_bound() {
        let name = std::string::String::from("Acme");
        let properties = props! {
            "plan": "pro",
            "team": { "name": name.as_str(), "tags": ["a", { "deep": [1, 2.5, null] }, null], "none": {} },
            "empty": [],
            "absent": None::<i32>,
        };
        assert_eq!(properties.len(), 4);
        assert_eq!(properties[1].key(), "team");
        let Value::Object(team) = properties[1].value() else { panic!("an object") };
        assert_eq!(team.len(), 3);
        let Value::Array(tags) = team[1].value() else { panic!("an array") };
        assert_eq!(tags.len(), 3);
        assert!(matches!(properties[3].value(), Value::Null));
        let none: &[Property<'_>] = props! {};
        assert!(none.is_empty());
    }

    #[test]
    fn a_literal_key_is_rendered_into_its_slot() {
        const SHORT: LiteralKey = LiteralKey::new("plan");
        assert_eq!(&SHORT.slot[..SHORT.len.get()], b",\"plan\":");
        const LONGEST: LiteralKey = LiteralKey::new("a_key_of_exactly_27_bytes__");
        assert_eq!(LONGEST.len.get(), 31);
        const TOO_LONG: LiteralKey = LiteralKey::new("a_key_of_thirty_bytes_or_more_");
        assert_eq!(TOO_LONG.len.get(), 0, "written from its text instead");
    }
}
