//! One event, borrowed: what a caller says, before a byte of it is written.
//!
//! In: names, ids and property slices of the caller's. Out: an [`Event`], which the encoder turns into one JSON object.

use crate::exception::Exception;
use crate::property::Property;
use crate::uuid::Uuid;
use crate::wire::{
    event::{RARE_ENCODING, RareEncoding, Shape},
    key,
    timestamp::Timestamp,
    writer::SlotLen,
};

/// Something that happened, ready to be captured.
///
/// Every part is borrowed, so building one costs nothing. Limits are checked when it is captured or
/// [encoded](Event::encode); each one broken has its own [`CaptureError`](crate::CaptureError).
///
/// ```
/// use quillet_core::{Event, props};
/// # fn capture(_: Event<'_>) {}
///
/// capture(
///     Event::new("order placed", "customer-7")
///         .properties(props! { "total": 12.5, "currency": "EUR" })
///         .groups(&[("company", "acme")]),
/// );
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "an event says nothing until it is captured"]
pub struct Event<'a> {
    pub(crate) name: Name<'a>,
    pub(crate) distinct_id: &'a str,
    pub(crate) properties: &'a [Property<'a>],
    /// What few events say. Most skip all of it, also its initialisation, by one word.
    pub(crate) rare: Option<Rare<'a>>,
}

impl<'a> Event<'a> {
    /// An event called `name` (1 to 200 bytes) by the person `distinct_id` (1 to 200 characters, not only white space).
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub const fn new(name: &'a str, distinct_id: &'a str) -> Self {
        Self { name: Name::Text(name), distinct_id, properties: &[], rare: None }
    }

    /// The same with a name rendered at compile time. [`event!`](crate::event) writes this.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub const fn literal(name: &'static LiteralName, distinct_id: &'a str) -> Self {
        let name = if name.len.get() == 0 { Name::Text(name.text) } else { Name::Literal(RenderedName(name)) };
        Self { name, distinct_id, properties: &[], rare: None }
    }

    /// What the event says, if that is nothing but a name, an id and properties.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub fn usual(&self) -> Option<Usual<'a>> {
        let &Self { name, distinct_id, properties, ref rare } = self;
        if rare.is_some() { None } else { Some(Usual { name, distinct_id, properties }) }
    }

    /// An event of nobody in particular: the distinct id is the event's own uuid, and no person is made of it.
    pub const fn personless(name: &'a str) -> Self {
        Self::new(name, "").with_rare(Rare { anonymous: true, ..Rare::ODD })
    }

    /// Sets person properties of `distinct_id`; say which with [`set`](Event::set) and [`set_once`](Event::set_once).
    pub const fn identify(distinct_id: &'a str) -> Self {
        Self::shaped(Shape::Identify, key::IDENTIFY, distinct_id)
    }

    /// Changes person properties outside of any login: the event `$set`.
    pub const fn person(distinct_id: &'a str) -> Self {
        Self::shaped(Shape::Person, key::SET_EVENT, distinct_id)
    }

    /// Makes `alias` another id of the person `distinct_id`.
    pub const fn alias(distinct_id: &'a str, alias: &'a str) -> Self {
        Self::shaped(Shape::Alias { alias }, key::CREATE_ALIAS, distinct_id)
    }

    /// Sets properties of a group; say which with [`set`](Event::set).
    ///
    /// The event's distinct id is `$<type>_<key>` unless [`distinct_id`](Event::distinct_id) sets another.
    pub const fn group_identify(group_type: &'a str, group_key: &'a str) -> Self {
        Self::shaped(Shape::Group { group_type, group_key }, key::GROUP_IDENTIFY, "")
    }

    /// An error, for error tracking. An empty `distinct_id` makes it personless.
    pub const fn exception(distinct_id: &'a str, exception: &'a Exception<'a>) -> Self {
        let shape = Shape::Exception(exception);
        let rare = Rare { shape, anonymous: distinct_id.is_empty(), ..Rare::ODD };
        Self::new(key::EXCEPTION, distinct_id).with_rare(rare)
    }

    /// The event's properties. They win over super properties of the same name.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub const fn properties(mut self, properties: &'a [Property<'a>]) -> Self {
        self.properties = properties;
        self
    }

    /// Another distinct id.
    pub const fn distinct_id(mut self, distinct_id: &'a str) -> Self {
        self.distinct_id = distinct_id;
        if let Some(rare) = &mut self.rare {
            rare.anonymous = false;
        }
        self
    }

    /// Person properties to overwrite (`$set`); for [`group_identify`](Event::group_identify) the group's.
    pub const fn set(self, properties: &'a [Property<'a>]) -> Self {
        self.with_rare(Rare { set: properties, ..self.said_oddly() })
    }

    /// Person properties to set where the person lacks them (`$set_once`).
    pub const fn set_once(self, properties: &'a [Property<'a>]) -> Self {
        self.with_rare(Rare { set_once: properties, ..self.said_oddly() })
    }

    /// Person properties to remove (`$unset`).
    pub const fn unset(self, keys: &'a [&'a str]) -> Self {
        self.with_rare(Rare { unset: keys, ..self.said_oddly() })
    }

    /// Groups the event belongs to, as pairs of type and key (`$groups`).
    pub const fn groups(self, groups: &'a [(&'a str, &'a str)]) -> Self {
        self.with_rare(Rare { groups, ..self.said_oddly() })
    }

    /// Whether the server keeps a person for the distinct id; `false` makes the event personless.
    pub const fn person_profile(self, process: bool) -> Self {
        self.with_rare(Rare { person_profile: Some(process), ..self.said_oddly() })
    }

    /// Whether the server must not derive a place from the sender's address, for this event.
    pub const fn disable_geoip(self, disable: bool) -> Self {
        self.with_rare(Rare { disable_geoip: Some(disable), ..self.said_oddly() })
    }

    /// When it happened. Taken as given; otherwise the time of the capture.
    pub const fn timestamp(self, timestamp: Timestamp) -> Self {
        self.with_rare(Rare { timestamp: Some(timestamp), ..*self.rare() })
    }

    /// The event's uuid. Taken as given; two events with the same uuid, name, id and time are one to PostHog.
    pub const fn uuid(self, uuid: Uuid) -> Self {
        self.with_rare(Rare { uuid: Some(uuid), ..*self.rare() })
    }

    /// The event's name.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub const fn name(&self) -> &'a str {
        match self.name {
            Name::Literal(literal) => literal.0.text,
            Name::Text(text) => text,
        }
    }

    /// The distinct id given; empty if the event has none of its own.
    pub const fn given_distinct_id(&self) -> &'a str {
        self.distinct_id
    }

    /// The properties given.
    pub const fn given_properties(&self) -> &'a [Property<'a>] {
        self.properties
    }

    /// What few events say, if it is more than time and uuid.
    #[inline]
    pub(crate) const fn odd(&self) -> Option<&Rare<'a>> {
        match &self.rare {
            Some(rare) if rare.is_odd => Some(rare),
            _ => None,
        }
    }

    /// What few events say, said or not. NB: whoever calls it links the code that encodes such events.
    pub(crate) const fn rare(&self) -> &Rare<'a> {
        match &self.rare {
            Some(rare) => rare,
            None => const { &Rare::NONE },
        }
    }

    const fn shaped(shape: Shape<'a>, name: &'static str, distinct_id: &'a str) -> Self {
        Self::new(name, distinct_id).with_rare(Rare { shape, ..Rare::ODD })
    }

    const fn with_rare(mut self, rare: Rare<'a>) -> Self {
        self.rare = Some(rare);
        self
    }

    const fn said_oddly(&self) -> Rare<'a> {
        Rare { is_odd: true, ..*self.rare() }
    }
}

/// What few events say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rare<'a> {
    pub(crate) shape: Shape<'a>,
    pub(crate) set: &'a [Property<'a>],
    pub(crate) set_once: &'a [Property<'a>],
    pub(crate) unset: &'a [&'a str],
    pub(crate) groups: &'a [(&'a str, &'a str)],
    pub(crate) person_profile: Option<bool>,
    pub(crate) disable_geoip: Option<bool>,
    pub(crate) uuid: Option<Uuid>,
    pub(crate) timestamp: Option<Timestamp>,
    /// The event's own uuid serves as distinct id, and no person is made of it.
    pub(crate) anonymous: bool,
    /// Whether anything but `uuid` and `timestamp` was said.
    pub(crate) is_odd: bool,
    pub(crate) encoding: &'static RareEncoding,
}

impl Rare<'_> {
    pub(crate) const NONE: Self = Self {
        shape: Shape::Capture,
        set: &[],
        set_once: &[],
        unset: &[],
        groups: &[],
        person_profile: None,
        disable_geoip: None,
        uuid: None,
        timestamp: None,
        anonymous: false,
        is_odd: false,
        encoding: &RARE_ENCODING,
    };

    const ODD: Self = Self { is_odd: true, ..Self::NONE };
}

/// What a [usual](Event::usual) event says. Six words that need not be in memory: where the event is made in the call that
/// captures it, they go from the caller to the ring in registers.
#[derive(Clone, Copy, Debug)]
pub struct Usual<'a> {
    /// The event's name.
    #[doc(hidden)]
    pub name: Name<'a>,
    /// Who it is about.
    pub distinct_id: &'a str,
    /// What it says.
    pub properties: &'a [Property<'a>],
}

impl<'a> From<Usual<'a>> for Event<'a> {
    fn from(Usual { name, distinct_id, properties }: Usual<'a>) -> Self {
        Self { name, distinct_id, properties, rare: None }
    }
}

/// An event's name: text, or its rendering where that was made at compile time. Two words.
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub enum Name<'a> {
    /// Rendered; always short enough for its slot.
    Literal(RenderedName),
    /// To be escaped on the way.
    Text(&'a str),
}

/// A literal name that may be copied as it was rendered. Only [`Event::literal`] makes one, so none is too long for its slot.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct RenderedName(&'static LiteralName);

impl core::ops::Deref for RenderedName {
    type Target = LiteralName;

    #[inline(always)]
    fn deref(&self) -> &LiteralName {
        self.0
    }
}

/// Bytes of a rendered name: `","event":"` + name + `","distinct_id":"`, padded.
pub(crate) const NAME_SLOT_BYTES: usize = 64;

/// An event name escaped and framed at compile time, in a slot of fixed size.
///
/// Made by [`event!`](crate::event), which refuses to compile a name that is empty, longer than 200 bytes, or in need of
/// escapes.
#[derive(Debug)]
pub struct LiteralName {
    text: &'static str,
    pub(crate) slot: [u8; NAME_SLOT_BYTES],
    /// Bytes of the slot in use; 0 if the name is too long for one.
    pub(crate) len: SlotLen<NAME_SLOT_BYTES>,
}

impl LiteralName {
    /// Renders `name`.
    ///
    /// # Panics
    ///
    /// At compile time only (use it in a `const`), if the name is empty, longer than 200 bytes, or needs escapes.
    #[allow(clippy::indexing_slicing, clippy::panic, reason = "evaluated by the compiler; a mistake is its error")]
    pub const fn new(name: &'static str) -> Self {
        const BEFORE: &[u8] = EVENT_KEY;
        const AFTER: &[u8] = ID_KEY;
        let bytes = name.as_bytes();
        assert!(!bytes.is_empty(), "an event name must not be empty");
        assert!(bytes.len() <= crate::limits::EVENT_NAME_BYTES_MAX, "an event name takes at most 200 bytes");
        let mut slot = [b' '; NAME_SLOT_BYTES];
        let len = BEFORE.len() + bytes.len() + AFTER.len();
        let fits = len < NAME_SLOT_BYTES;
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            assert!(byte >= 0x20 && byte != b'"' && byte != b'\\', "this name needs escapes: use Event::new");
            if fits {
                slot[BEFORE.len() + at] = byte;
            }
            at += 1;
        }
        let mut at = 0;
        while fits && at < BEFORE.len() {
            slot[at] = BEFORE[at];
            at += 1;
        }
        let mut at = 0;
        while fits && at < AFTER.len() {
            slot[BEFORE.len() + bytes.len() + at] = AFTER[at];
            at += 1;
        }
        Self { text: name, slot, len: if fits { SlotLen::new(len) } else { SlotLen::EMPTY } }
    }
}

/// What stands between the timestamp and the name.
pub(crate) const EVENT_KEY: &[u8; 11] = b"\",\"event\":\"";
/// What stands between the name and the distinct id.
pub(crate) const ID_KEY: &[u8; 17] = b"\",\"distinct_id\":\"";

/// An event whose name and keys are literals, rendered at compile time: the cheapest capture there is.
///
/// ```
/// use quillet_core::event;
/// # fn capture(_: quillet_core::Event<'_>) {}
///
/// let customer = "customer-7";
/// capture(event!("heartbeat", customer));
/// capture(event!("order placed", customer, { "total": 12.5, "currency": "EUR" }));
/// ```
#[macro_export]
macro_rules! event {
    ($name:literal, $distinct_id:expr $(,)?) => {
        // An inline constant rather than a block: a temporary in `$distinct_id` lives to the end of the statement.
        $crate::Event::literal(const { &$crate::LiteralName::new($name) }, $distinct_id)
    };
    ($name:literal, $distinct_id:expr, { $($properties:tt)* } $(,)?) => {
        $crate::event!($name, $distinct_id).properties($crate::props! { $($properties)* })
    };
}
