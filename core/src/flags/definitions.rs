//! The document that local evaluation works on: walked once, then an index that evaluation only looks things up in.
//!
//! In: the text of `/flags/definitions` and memory for [`Slot`]s, both the caller's. Out: [`Definitions`] over them.
//!
//! ```text
//!  slots: [ cohorts, by hash of the id | flags, by hash of the key | what these consist of, in order of discovery ]
//! ```
//!
//! The index is built without recursion: a slot begins as a stretch of text to be looked at, and looking at it turns it
//! into a flag, a condition, a filter …, and appends a slot for each of its parts. The slots are their own work list.
//! What a filter says is compiled on the way: numbers, dates and versions are read here, once, and not at each evaluation.
//!
//! What is malformed or unknown is no error of the document: it makes the one flag that has it inconclusive.

use core::fmt;

use super::filter::{self, Test};
use super::json::{Json, Text};
use crate::raw::RawJsonError;

/// Longest document, in bytes.
pub const DEFINITIONS_BYTES_MAX: usize = 64 * 1024 * 1024;

const _: () = assert!(DEFINITIONS_BYTES_MAX < Str::ESCAPED as usize, "lengths and a mark share a word");

/// Flag definitions, ready to be evaluated.
///
/// ```
/// use quillet_core::flags::{Definitions, FlagSubject, Slot};
/// use quillet_core::{Timestamp, props};
///
/// let text = r#"{"flags": [{"key": "beta", "active": true, "filters": {"groups": [
///     {"properties": [{"key": "plan", "operator": "exact", "value": ["pro", "team"]}], "rollout_percentage": 100}]}}]}"#;
/// let mut slots = [Slot::EMPTY; 16];
/// let definitions = Definitions::index(text, &mut slots)?;
///
/// let plan = props! { "plan": "pro" };
/// let ada = FlagSubject::new("customer-7").person_properties(plan);
/// let beta = definitions.evaluate("beta", &ada, Timestamp::from_unix_ms(1_795_000_000_000));
/// assert!(beta.is_ok_and(|flag| flag.value().is_enabled()));
/// # Ok::<(), quillet_core::flags::DefinitionsError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Definitions<'a> {
    pub(super) text: &'a str,
    pub(super) slots: &'a [Slot],
    layout: Layout,
}

/// Where things are in the slots.
#[derive(Clone, Copy, Debug, Default)]
struct Layout {
    used: u32,
    cohorts: u32,
    flags: u32,
    group_types: Span,
    minimal_called_events: bool,
}

impl<'a> Definitions<'a> {
    /// How many slots [`index`](Self::index) needs for `text`, at most. One pass.
    pub fn slots_for(text: &str) -> usize {
        // What gets a slot is an object or an element of an array, and one for the single value of a filter, which is both.
        let (mut slots, mut in_string, mut escaped) = (0_usize, false, false);
        // The lowest bit is the innermost open level, 1 for an array. Deeper documents are refused later.
        let mut levels = 0_u64;
        for byte in text.bytes() {
            if in_string {
                in_string = byte != b'"' || escaped;
                escaped = byte == b'\\' && !escaped;
                continue;
            }
            let counts = match byte {
                b'{' | b'[' => {
                    levels = levels << 1 | u64::from(byte == b'[');
                    true
                }
                b'}' | b']' => {
                    levels >>= 1;
                    false
                }
                b',' => levels & 1 == 1,
                _ => {
                    in_string = byte == b'"';
                    false
                }
            };
            slots = slots.saturating_add(usize::from(counts));
        }
        slots
    }

    /// Checks `text` and builds an index of it in `slots`. Linear in the length of the text.
    ///
    /// # Errors
    ///
    /// [`DefinitionsError`]: it is not a document of definitions at all, or there are too few slots.
    pub fn index(text: &'a str, slots: &'a mut [Slot]) -> Result<Self, DefinitionsError> {
        if text.len() > DEFINITIONS_BYTES_MAX {
            return Err(DefinitionsError::TooLong);
        }
        let root = Json::parse(text).map_err(DefinitionsError::Json)?;
        let flags = root.member("flags").filter(|flags| flags.is_array()).ok_or(DefinitionsError::NoFlags)?;
        let mut builder = Builder { text, slots, used: 0, patterns: 0 };
        let cohorts = root.member("cohorts").into_iter().flat_map(Json::members).filter(|(_, group)| group.is_object());
        let cohorts = builder.append(cohorts.map(|(id, group)| Slot::cohort(text, id, group)))?;
        let flags = builder.append(flags.elements().map(|flag| Slot::unread(text, Part::Flag, flag)))?;
        let mut at = 0;
        while at < builder.used {
            builder.look_at(at)?;
            at += 1;
        }
        let (used, slots) = (builder.used, builder.slots);
        sort(slots, cohorts);
        sort(slots, flags);
        let group_types = root.member("group_type_mapping").filter(|types| types.is_object());
        let layout = Layout {
            used: used as u32,
            cohorts: cohorts.len,
            flags: flags.len,
            group_types: group_types.map_or(Span::default(), |types| Span::of(text, types.as_str())),
            minimal_called_events: root.member("minimal_flag_called_events").and_then(Json::as_bool) == Some(true),
        };
        Ok(Self { text, slots, layout })
    }

    /// The same definitions over another copy of their text and slots, for owners that keep all three.
    ///
    /// With anything else than copies evaluation answers nonsense; it still does not panic.
    #[must_use]
    pub const fn over<'b>(&self, text: &'b str, slots: &'b [Slot]) -> Definitions<'b> {
        Definitions { text, slots, layout: self.layout }
    }

    /// The document.
    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    /// Slots in use; an owner need not keep more.
    pub const fn slots_used(&self) -> usize {
        self.layout.used as usize
    }

    /// How many flags there are, those that are off included.
    pub const fn len(&self) -> usize {
        self.layout.flags as usize
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.layout.flags == 0
    }

    /// Whether the server wants the minimal form of `$feature_flag_called` for flags without an experiment.
    pub const fn minimal_called_events(&self) -> bool {
        self.layout.minimal_called_events
    }

    /// Whether there is a flag with this key.
    pub fn contains(&self, key: &str) -> bool {
        self.flag(Text::from_parts(key, true)).is_some()
    }

    /// The keys of all flags that have one, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = Text<'a>> + use<'a> {
        let this = *self;
        let keys = this.flag_slots().iter().filter_map(move |slot| match &slot.0 {
            Item::Flag(flag) => Some(flag.key.text(this.text)),
            _ => None,
        });
        keys.filter(|key| !key.is_empty())
    }

    /// The patterns of all `regex` filters, with the number under which evaluation asks for each.
    pub fn patterns(&self) -> impl Iterator<Item = (u32, Text<'a>)> + use<'a> {
        let this = *self;
        let used = this.slots.get(..this.slots_used()).unwrap_or_default();
        used.iter().filter_map(move |slot| match &slot.0 {
            Item::Filter(Filter { test: Test::Regex { pattern, number, .. }, .. }) => {
                Some((*number, pattern.text(this.text)))
            }
            _ => None,
        })
    }

    pub(super) fn flag(&self, key: Text<'_>) -> Option<&'a Flag> {
        let found = find(self.flag_slots(), hash_of(key), |slot| match &slot.0 {
            Item::Flag(flag) => flag.key.text(self.text) == key,
            _ => false,
        });
        found.and_then(|slot| if let Item::Flag(flag) = &slot.0 { Some(flag) } else { None })
    }

    pub(super) fn cohort(&self, id: Text<'_>) -> Option<&'a Group> {
        let cohorts = self.slots.get(..self.layout.cohorts as usize).unwrap_or_default();
        let found = find(cohorts, hash_of(id), |slot| match &slot.0 {
            Item::Group(group) => group.id.text(self.text) == id,
            _ => false,
        });
        found.and_then(|slot| if let Item::Group(group) = &slot.0 { Some(group) } else { None })
    }

    /// The group type with this number.
    pub(super) fn group_type(&self, number: u32) -> Option<Text<'a>> {
        let types = Json::of_checked(self.layout.group_types.get(self.text));
        let is_it = |key: Text<'_>| key.as_plain().and_then(|key| key.parse().ok()) == Some(number);
        types.members().filter(|(key, _)| is_it(*key)).last().and_then(|(_, name)| name.as_text())
    }

    pub(super) fn list(&self, list: List) -> &'a [Slot] {
        self.slots.get(list.range()).unwrap_or_default()
    }

    fn flag_slots(&self) -> &'a [Slot] {
        self.list(List { first: self.layout.cohorts, len: self.layout.flags })
    }
}

impl fmt::Debug for Definitions<'_> {
    /// Not the document, which says who is in which test.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Definitions").field("flags", &self.len()).finish_non_exhaustive()
    }
}

/// Why a text is no document of definitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DefinitionsError {
    /// Longer than [`DEFINITIONS_BYTES_MAX`].
    TooLong,
    /// Not JSON, or nested too deep.
    Json(RawJsonError),
    /// There is no array `flags` in it.
    NoFlags,
    /// Fewer slots than [`Definitions::slots_for`] says.
    NoRoom,
}

impl fmt::Display for DefinitionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("flag definitions are too long"),
            Self::Json(error) => write!(f, "flag definitions: {error}"),
            Self::NoFlags => f.write_str("flag definitions have no array `flags`"),
            Self::NoRoom => f.write_str("too few slots for the flag definitions"),
        }
    }
}

impl core::error::Error for DefinitionsError {}

/// A cell of the index. What is in it is the index's own business.
#[derive(Clone, Copy, Debug)]
pub struct Slot(pub(super) Item);

impl Slot {
    /// A cell with nothing in it, to make memory of.
    pub const EMPTY: Self = Self(Item::Empty);

    pub(super) fn unread(text: &str, part: Part, json: Json<'_>) -> Self {
        Self(Item::Unread(part, Span::of(text, json.as_str())))
    }

    fn cohort(text: &str, id: Text<'_>, group: Json<'_>) -> Self {
        Self(Item::UnreadCohort(Str::of(text, id), Span::of(text, group.as_str())))
    }

    fn hash(&self) -> u32 {
        match &self.0 {
            Item::Flag(flag) => flag.hash,
            Item::Group(group) => group.hash,
            _ => 0,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Item {
    Empty,
    Unread(Part, Span),
    UnreadCohort(Str, Span),
    Flag(Flag),
    Condition(Condition),
    Variant(Variant),
    Filter(Filter),
    Group(Group),
    Operand(Str),
}

/// What a stretch of text is expected to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Flag,
    Condition,
    Variant,
    /// A filter of a condition.
    Filter,
    /// A filter or a group inside of a cohort.
    Entry,
    Operand,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Flag {
    pub(super) key: Str,
    hash: u32,
    pub(super) id: Option<u32>,
    pub(super) version: Option<u32>,
    pub(super) active: bool,
    pub(super) has_experiment: Option<bool>,
    /// Why nobody but the server can evaluate it.
    pub(super) obstacle: Option<Obstacle>,
    pub(super) by_device: bool,
    pub(super) early_exit: bool,
    pub(super) group_type: Option<u32>,
    pub(super) conditions: List,
    pub(super) variants: List,
    pub(super) payloads: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    Continuity,
    ServerOnly,
    Malformed,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Condition {
    pub(super) filters: List,
    /// In percent; `None` is everybody.
    pub(super) rollout: Option<f64>,
    pub(super) variant: Option<Str>,
    pub(super) target: Target,
    pub(super) malformed: bool,
}

/// Whose properties and id a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Those that the flag is about.
    Same,
    Person,
    GroupType(u32),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Variant {
    pub(super) key: Str,
    /// In percent.
    pub(super) rollout: f64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Filter {
    /// The property; for a flag dependency the other flag.
    pub(super) key: Str,
    pub(super) test: Test,
    /// `negation`, inside of cohorts.
    pub(super) inverted: bool,
    /// Whether it names a property of a group.
    pub(super) of_group: bool,
}

/// A cohort, or a part of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// Of a cohort; else empty.
    id: Str,
    hash: u32,
    pub(super) any: bool,
    pub(super) entries: List,
    pub(super) malformed: bool,
}

/// Slots in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct List {
    first: u32,
    len: u32,
}

impl List {
    fn range(self) -> core::ops::Range<usize> {
        self.first as usize..self.first.saturating_add(self.len) as usize
    }

    pub(super) const fn len(self) -> usize {
        self.len as usize
    }
}

/// A stretch of the document.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    at: u32,
    len: u32,
}

impl Span {
    /// Where `part`, a slice of `text`, lies in it.
    pub(super) fn of(text: &str, part: &str) -> Self {
        // Addresses are compared, not followed: a slice that is not of this text becomes a place outside of it.
        let at = (part.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
        Self { at: u32::try_from(at).unwrap_or(u32::MAX), len: u32::try_from(part.len()).unwrap_or(0) }
    }

    pub(super) fn get(self, text: &str) -> &str {
        text.get(self.at as usize..(self.at as usize).saturating_add(self.len as usize)).unwrap_or_default()
    }
}

/// A string of the document, without its quotes; or a number's or boolean's text, which reads the same.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Str {
    at: u32,
    /// The length, and in the highest bit whether there are escapes in it.
    len: u32,
}

impl Str {
    const ESCAPED: u32 = 1 << 31;

    pub(super) fn of(text: &str, part: Text<'_>) -> Self {
        let span = Span::of(text, part.escaped());
        Self { at: span.at, len: span.len | if part.as_plain().is_some() { 0 } else { Self::ESCAPED } }
    }

    /// The text form of a scalar: what is in a string, or a number or boolean as it is written.
    pub(super) fn of_scalar(text: &str, json: Json<'_>) -> Option<Self> {
        match json.as_text() {
            Some(string) => Some(Self::of(text, string)),
            None if json.is_object() || json.is_array() || json.is_null() => None,
            None => Some(Self::of(text, Text::from_parts(json.as_str(), true))),
        }
    }

    #[inline]
    pub(super) fn text(self, text: &str) -> Text<'_> {
        let span = Span { at: self.at, len: self.len & !Self::ESCAPED };
        Text::from_parts(span.get(text), self.len & Self::ESCAPED == 0)
    }
}

/// Slots being filled.
pub(super) struct Builder<'t, 's> {
    pub(super) text: &'t str,
    slots: &'s mut [Slot],
    used: usize,
    patterns: u32,
}

impl<'t> Builder<'t, '_> {
    /// Appends slots in a row.
    pub(super) fn append(&mut self, slots: impl Iterator<Item = Slot>) -> Result<List, DefinitionsError> {
        let first = self.used;
        for slot in slots {
            *self.slots.get_mut(self.used).ok_or(DefinitionsError::NoRoom)? = slot;
            self.used += 1;
        }
        Ok(List { first: first as u32, len: (self.used - first) as u32 })
    }

    fn append_unread(&mut self, part: Part, array: Option<Json<'t>>) -> Result<List, DefinitionsError> {
        let text = self.text;
        self.append(array.into_iter().flat_map(Json::elements).map(|json| Slot::unread(text, part, json)))
    }

    /// The operands of a filter: its value, or each of its values.
    pub(super) fn append_operands(&mut self, value: Json<'t>) -> Result<List, DefinitionsError> {
        if value.is_array() {
            return self.append_unread(Part::Operand, Some(value));
        }
        let text = self.text;
        self.append(core::iter::once(Slot::unread(text, Part::Operand, value)))
    }

    pub(super) fn next_pattern(&mut self) -> u32 {
        self.patterns = self.patterns.saturating_add(1);
        self.patterns - 1
    }

    /// Turns the slot at `at` from a stretch of text into what it says.
    fn look_at(&mut self, at: usize) -> Result<(), DefinitionsError> {
        let text = self.text;
        let item = match self.slots.get(at).map(|slot| slot.0) {
            Some(Item::Unread(part, span)) => {
                let json = Json::of_checked(span.get(text));
                match part {
                    Part::Flag => Item::Flag(self.flag(json)?),
                    Part::Condition => Item::Condition(self.condition(json)?),
                    Part::Variant => Item::Variant(variant(text, json)),
                    Part::Filter => Item::Filter(filter::compile(self, json)?),
                    Part::Entry if is_group(json) => Item::Group(self.group(None, json)?),
                    Part::Entry => Item::Filter(filter::compile(self, json)?),
                    Part::Operand => Str::of_scalar(text, json).map_or(Item::Empty, Item::Operand),
                }
            }
            Some(Item::UnreadCohort(id, span)) => {
                let json = Json::of_checked(span.get(text));
                Item::Group(self.group(Some(id), json)?)
            }
            _ => return Ok(()),
        };
        if let Some(slot) = self.slots.get_mut(at) {
            slot.0 = item;
        }
        Ok(())
    }

    fn flag(&mut self, json: Json<'t>) -> Result<Flag, DefinitionsError> {
        let source = FlagSource::read(json);
        let key = source.key.and_then(Json::as_text);
        let number = |json: Option<Json<'_>>| json.and_then(Json::as_u64).and_then(|id| u32::try_from(id).ok());
        let is_true = |json: Option<Json<'_>>| json.and_then(Json::as_bool) == Some(true);
        let group_number = number(source.group_type);
        let by = |name: &str| source.bucketing.and_then(Json::as_text).is_some_and(|text| text == name);
        let malformed = source.group_type.is_some() != group_number.is_some()
            || source.bucketing.is_some() && !by("device_id") && !by("distinct_id")
            || source.conditions.is_some_and(|groups| !groups.is_array());
        let obstacle = if is_true(source.continuity) {
            Some(Obstacle::Continuity)
        } else if malformed {
            Some(Obstacle::Malformed)
        } else if source.is_server_only {
            Some(Obstacle::ServerOnly)
        } else {
            None
        };
        let variants = source.multivariate.and_then(|multivariate| multivariate.given("variants"));
        let payloads = source.payloads.filter(|payloads| payloads.is_object());
        Ok(Flag {
            key: key.map_or(Str::default(), |key| Str::of(self.text, key)),
            hash: key.map_or(0, hash_of),
            id: number(source.id),
            version: number(source.version).filter(|version| *version > 0),
            active: is_true(source.active),
            has_experiment: source.has_experiment.and_then(Json::as_bool),
            obstacle,
            by_device: by("device_id"),
            early_exit: is_true(source.early_exit),
            group_type: group_number,
            conditions: self.append_unread(Part::Condition, source.conditions)?,
            variants: self.append_unread(Part::Variant, variants)?,
            payloads: payloads.map_or(Span::default(), |payloads| Span::of(self.text, payloads.as_str())),
        })
    }

    fn condition(&mut self, json: Json<'t>) -> Result<Condition, DefinitionsError> {
        let properties = json.given("properties");
        let rollout = json.given("rollout_percentage");
        let variant = json.given("variant");
        let target = match json.member("aggregation_group_type_index") {
            None => Some(Target::Same),
            Some(index) if index.is_null() => Some(Target::Person),
            Some(index) => index.as_u64().and_then(|index| u32::try_from(index).ok()).map(Target::GroupType),
        };
        let malformed = !json.is_object()
            || properties.is_some_and(|properties| !properties.is_array())
            || rollout.is_some_and(|rollout| rollout.as_f64().is_none())
            || target.is_none();
        Ok(Condition {
            filters: self.append_unread(Part::Filter, properties)?,
            rollout: rollout.and_then(Json::as_f64),
            variant: variant.and_then(Json::as_text).map(|variant| Str::of(self.text, variant)),
            target: target.unwrap_or(Target::Same),
            malformed,
        })
    }

    fn group(&mut self, id: Option<Str>, json: Json<'t>) -> Result<Group, DefinitionsError> {
        let values = json.given("values");
        let any = json.member("type").and_then(Json::as_text).is_some_and(|kind| kind == "OR");
        let all = json.member("type").and_then(Json::as_text).is_some_and(|kind| kind == "AND");
        let has_values = values.is_some_and(|values| values.elements().next().is_some());
        // Nothing to fulfil is fulfilled; with values it must say how they combine.
        let malformed =
            !json.is_object() || values.is_some_and(|values| !values.is_array()) || has_values && !any && !all;
        Ok(Group {
            id: id.unwrap_or_default(),
            hash: id.map_or(0, |id| hash_of(id.text(self.text))),
            any,
            entries: self.append_unread(Part::Entry, values)?,
            malformed,
        })
    }
}

/// The members of a flag that matter, gathered in one pass over it and one over its filters. None of them is `null`.
#[derive(Default)]
struct FlagSource<'t> {
    key: Option<Json<'t>>,
    id: Option<Json<'t>>,
    version: Option<Json<'t>>,
    active: Option<Json<'t>>,
    continuity: Option<Json<'t>>,
    has_experiment: Option<Json<'t>>,
    bucketing: Option<Json<'t>>,
    conditions: Option<Json<'t>>,
    multivariate: Option<Json<'t>>,
    payloads: Option<Json<'t>>,
    group_type: Option<Json<'t>>,
    early_exit: Option<Json<'t>>,
    is_server_only: bool,
}

impl<'t> FlagSource<'t> {
    fn read(json: Json<'t>) -> Self {
        let (mut source, mut filters) = (Self::default(), None);
        for (name, value) in json.members() {
            let value = Some(value).filter(|value| !value.is_null());
            match name.as_plain() {
                Some("key") => source.key = value,
                Some("id") => source.id = value,
                Some("version") => source.version = value,
                Some("active") => source.active = value,
                Some("ensure_experience_continuity") => source.continuity = value,
                Some("has_experiment") => source.has_experiment = value,
                Some("bucketing_identifier") => source.bucketing = value,
                Some("filters") => filters = value,
                _ => {}
            }
        }
        for (name, value) in filters.into_iter().flat_map(Json::members) {
            let value = Some(value).filter(|value| !value.is_null());
            match name.as_plain() {
                Some("groups") => source.conditions = value,
                Some("multivariate") => source.multivariate = value,
                Some("payloads") => source.payloads = value,
                Some("aggregation_group_type_index") => source.group_type = value,
                Some("early_exit") => source.early_exit = value,
                Some("bucketing_identifier") => source.bucketing = source.bucketing.or(value),
                Some("super_groups" | "holdout" | "holdout_groups" | "feature_enrollment") => {
                    source.is_server_only |= value.is_some_and(says_something);
                }
                _ => {}
            }
        }
        source
    }
}

fn variant(text: &str, json: Json<'_>) -> Variant {
    Variant {
        key: json.member("key").and_then(Json::as_text).map_or(Str::default(), |key| Str::of(text, key)),
        rollout: json.member("rollout_percentage").and_then(Json::as_f64).unwrap_or(0.0),
    }
}

/// Groups have `values`, or say how they combine.
fn is_group(json: Json<'_>) -> bool {
    let combines = |kind: Text<'_>| kind == "AND" || kind == "OR";
    json.member("values").is_some() || json.member("type").and_then(Json::as_text).is_some_and(combines)
}

/// Neither `{}`, `[]`, `false` nor an empty string.
fn says_something(json: Json<'_>) -> bool {
    json.members().next().is_some()
        || json.elements().next().is_some()
        || json.as_bool() == Some(true)
        || json.as_f64().is_some()
        || json.as_text().is_some_and(|text| !text.is_empty())
}

fn sort(slots: &mut [Slot], list: List) {
    if let Some(slots) = slots.get_mut(list.range()) {
        slots.sort_unstable_by_key(Slot::hash);
    }
}

/// The one slot with this hash that is the right one.
fn find(slots: &[Slot], hash: u32, is_it: impl Fn(&Slot) -> bool) -> Option<&Slot> {
    let first = slots.partition_point(|slot| slot.hash() < hash);
    let rest = slots.get(first..).unwrap_or_default();
    rest.iter().take_while(|slot| slot.hash() == hash).find(|slot| is_it(slot))
}

/// FNV-1a over the text's characters, for the order of the directory only: equal hashes cost a comparison.
fn hash_of(text: Text<'_>) -> u32 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    match text.as_plain() {
        Some(plain) => plain.bytes().fold(0x811c_9dc5, step),
        None => text.chars().fold(0x811c_9dc5, |hash, char| char.encode_utf8(&mut [0; 4]).bytes().fold(hash, step)),
    }
}
