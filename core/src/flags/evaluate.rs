//! Local evaluation: what a flag is for somebody, without asking anybody.
//!
//! In: [`Definitions`], and a [`FlagSubject`] with the properties the caller knows. Out: a [`LocalFlag`], or
//! [`Inconclusive`] with the reason why only the server can tell. Allocates nothing, reads no clock, never panics; how deep
//! cohorts and flags may lie within each other and how many filters are looked at have limits.
//!
//! The order of the steps is that of PostHog's servers: conditions in the order of the document, the first that matches
//! wins. A condition that cannot be decided does not end the search, but what follows it can then only say yes.

use core::fmt;

use super::definitions::{Condition, Definitions, Flag, Group, Item, Obstacle, Str, Target, Variant};
use super::filter::{Around, Test, Verdict, Wanted, matches};
use super::hash::{VARIANT_SALT, bucket_of};
use super::json::{Json, Text};
use super::value::{FlagValue, payload_for};
use crate::property::{Property, Value};
use crate::wire::key;
use crate::wire::timestamp::Timestamp;

/// Most levels of cohorts and flags within each other.
pub const NESTING_MAX: usize = 24;

/// Most filters that one evaluation looks at, those of cohorts and of other flags included.
pub const FILTERS_MAX: u32 = 20_000;

/// Other flags whose value one evaluation remembers; further ones are evaluated each time they are asked for.
const REMEMBERED_MAX: usize = 16;

/// Whom a flag is evaluated for: ids, and the properties that the caller knows.
///
/// ```
/// use quillet_core::flags::{FlagGroup, FlagSubject};
/// use quillet_core::props;
///
/// let (plan, seats) = (props! { "plan": "pro" }, props! { "seats": 40 });
/// let groups = [FlagGroup::new("company", "acme").properties(seats)];
/// let subject = FlagSubject::new("customer-7").person_properties(plan).groups(&groups);
/// # let _ = subject;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FlagSubject<'a> {
    pub(super) distinct_id: &'a str,
    pub(super) device_id: Option<&'a str>,
    pub(super) properties: &'a [Property<'a>],
    pub(super) groups: &'a [FlagGroup<'a>],
}

impl<'a> FlagSubject<'a> {
    /// The person `distinct_id`, of whom nothing else is known.
    pub const fn new(distinct_id: &'a str) -> Self {
        Self { distinct_id, device_id: None, properties: &[], groups: &[] }
    }

    /// The person's properties. Of equal keys the last one counts.
    #[must_use]
    pub const fn person_properties(self, properties: &'a [Property<'a>]) -> Self {
        Self { properties, ..self }
    }

    /// The groups the person belongs to, one of each type.
    #[must_use]
    pub const fn groups(self, groups: &'a [FlagGroup<'a>]) -> Self {
        Self { groups, ..self }
    }

    /// The device, for flags that are rolled out by device. Without it the person's `$device_id` counts.
    #[must_use]
    pub const fn device_id(self, device_id: &'a str) -> Self {
        Self { device_id: Some(device_id), ..self }
    }

    /// The person's distinct id.
    pub const fn given_distinct_id(&self) -> &'a str {
        self.distinct_id
    }

    /// The device given, or the one among the person's properties.
    pub fn given_device_id(&self) -> Option<&'a str> {
        let of_person = || match property(self.properties, Text::from_parts(key::DEVICE_ID, true)) {
            Some(Value::Str(id)) => Some(*id),
            _ => None,
        };
        self.device_id.or_else(of_person).filter(|id| !id.is_empty())
    }

    /// The person's properties.
    pub const fn given_properties(&self) -> &'a [Property<'a>] {
        self.properties
    }

    /// The groups.
    pub const fn given_groups(&self) -> &'a [FlagGroup<'a>] {
        self.groups
    }
}

/// A group that somebody belongs to.
#[derive(Clone, Copy, Debug)]
pub struct FlagGroup<'a> {
    kind: &'a str,
    key: &'a str,
    properties: &'a [Property<'a>],
}

impl<'a> FlagGroup<'a> {
    /// The group `group_key` of the type `group_type`.
    pub const fn new(group_type: &'a str, group_key: &'a str) -> Self {
        Self { kind: group_type, key: group_key, properties: &[] }
    }

    /// The group's properties. Of equal keys the last one counts.
    #[must_use]
    pub const fn properties(self, properties: &'a [Property<'a>]) -> Self {
        Self { properties, ..self }
    }

    /// The group's type.
    pub const fn group_type(&self) -> &'a str {
        self.kind
    }

    /// Which group of its type.
    pub const fn group_key(&self) -> &'a str {
        self.key
    }

    /// The group's properties.
    pub const fn given_properties(&self) -> &'a [Property<'a>] {
        self.properties
    }
}

/// Decides `regex` filters. The core has no engine for patterns; without one they are inconclusive.
pub trait Patterns: Sync {
    /// Whether `pattern` is found anywhere in `text`, case-sensitively. `None` if that cannot be said: the pattern uses
    /// what the engine lacks, or means something else elsewhere.
    ///
    /// `number` is that of [`Definitions::patterns`], for an implementation that compiled all of them in advance.
    fn is_match(&self, number: u32, pattern: &str, text: &str) -> Option<bool>;
}

/// What a flag is, found out locally.
#[derive(Clone, Copy, Debug)]
pub struct LocalFlag<'a> {
    key: Text<'a>,
    value: FlagValue<'a>,
    id: Option<u32>,
    version: Option<u32>,
    has_experiment: Option<bool>,
    condition_index: Option<u32>,
    payloads: Json<'a>,
}

impl<'a> LocalFlag<'a> {
    /// The flag's key.
    pub const fn key(&self) -> Text<'a> {
        self.key
    }

    /// The flag's value.
    pub const fn value(&self) -> FlagValue<'a> {
        self.value
    }

    /// The payload of this value: usually a string with JSON in it. Never `null`.
    pub fn payload(&self) -> Option<Json<'a>> {
        payload_for(self.payloads, self.value)
    }

    /// The flag's number, if the document says so.
    pub const fn id(&self) -> Option<u32> {
        self.id
    }

    /// The flag's version, if the document says so.
    pub const fn version(&self) -> Option<u32> {
        self.version
    }

    /// Whether an experiment uses the flag, if the document says so.
    pub const fn has_experiment(&self) -> Option<bool> {
        self.has_experiment
    }

    /// Which condition matched, from 0; `None` if none did.
    pub const fn condition_index(&self) -> Option<u32> {
        self.condition_index
    }
}

/// Why a flag cannot be evaluated here. Ask the server, or take a default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Inconclusive {
    /// There is no such flag in the document.
    UnknownFlag,
    /// The flag keeps its value over a login, which only the server can know.
    Continuity,
    /// The flag has early access, a holdout or an enrolment, which are evaluated on the server.
    ServerOnly,
    /// The flag or a part of it is not what the document should contain.
    Malformed,
    /// A group type that the document does not name.
    GroupType,
    /// The flag is rolled out by device, and no device was given.
    DeviceMissing,
    /// A property the caller did not give; the server may know it.
    PropertyMissing,
    /// A property's value for which the operator has no certain answer.
    PropertyValue,
    /// A property of an event or of the person's record, which only the server has.
    PropertyKind,
    /// An operator that this version does not know.
    Operator,
    /// A `regex` filter, and no engine for patterns.
    NoPatterns,
    /// A pattern that the engine cannot decide.
    Pattern,
    /// A cohort that the document does not contain: a static one.
    CohortMissing,
    /// Another flag on which this one depends is unknown or inconclusive, or depends on this one.
    Dependency,
    /// More levels than [`NESTING_MAX`].
    TooDeep,
    /// More filters than [`FILTERS_MAX`].
    TooMuch,
}

impl Inconclusive {
    /// A short description, in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownFlag => "no definition of this flag",
            Self::Continuity => "the flag keeps its value over a login",
            Self::ServerOnly => "the flag has conditions that only the server evaluates",
            Self::Malformed => "the flag's definition is malformed",
            Self::GroupType => "unknown group type",
            Self::DeviceMissing => "no device id was given",
            Self::PropertyMissing => "a property was not given",
            Self::PropertyValue => "a property's value allows no certain answer",
            Self::PropertyKind => "a property that only the server has",
            Self::Operator => "unknown operator",
            Self::NoPatterns => "no engine for regular expressions",
            Self::Pattern => "a regular expression that cannot be decided here",
            Self::CohortMissing => "a cohort without a definition",
            Self::Dependency => "another flag could not be evaluated",
            Self::TooDeep => "cohorts and flags lie too deep within each other",
            Self::TooMuch => "too many filters",
        }
    }
}

impl fmt::Display for Inconclusive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for Inconclusive {}

impl<'a> Definitions<'a> {
    /// What the flag `key` is for `subject`, at the time `now`. Filters with regular expressions are inconclusive.
    ///
    /// # Errors
    ///
    /// [`Inconclusive`]: it cannot be known here.
    pub fn evaluate(
        &self,
        key: &str,
        subject: &FlagSubject<'_>,
        now: Timestamp,
    ) -> Result<LocalFlag<'a>, Inconclusive> {
        self.evaluate_with(key, subject, now, None)
    }

    /// The same with an engine for patterns.
    ///
    /// # Errors
    ///
    /// [`Inconclusive`]: it cannot be known here.
    pub fn evaluate_with<'p>(
        &self,
        key: &str,
        subject: &FlagSubject<'_>,
        now: Timestamp,
        patterns: Option<&'p dyn Patterns>,
    ) -> Result<LocalFlag<'a>, Inconclusive>
    where
        'a: 'p,
    {
        let flag = self.flag(Text::from_parts(key, true)).ok_or(Inconclusive::UnknownFlag)?;
        let around = Around { definitions: *self, now, patterns };
        let mut evaluator = Evaluator { around, subject, filters: 0, remembered: [const { None }; REMEMBERED_MAX] };
        let (value, condition_index) = evaluator.flag(flag, 0)?;
        Ok(LocalFlag {
            key: flag.key.text(self.text),
            value: value.resolve(self),
            id: flag.id,
            version: flag.version,
            has_experiment: flag.has_experiment,
            condition_index,
            payloads: Json::of_checked(flag.payloads.get(self.text)),
        })
    }
}

/// A value as the evaluator passes it around: a variant by its place in the document.
#[derive(Clone, Copy)]
enum Found<'d> {
    Bool(bool),
    Variant(&'d Variant),
}

impl Found<'_> {
    fn resolve<'a>(self, definitions: &Definitions<'a>) -> FlagValue<'a> {
        match self {
            Self::Bool(value) => FlagValue::Bool(value),
            Self::Variant(variant) => FlagValue::Variant(variant.key.text(definitions.text)),
        }
    }
}

type Answer<'d> = Result<(Found<'d>, Option<u32>), Inconclusive>;

/// One evaluation, with the flags and cohorts it comes by.
struct Evaluator<'d, 's> {
    around: Around<'d>,
    subject: &'s FlagSubject<'s>,
    filters: u32,
    /// Other flags: those being evaluated, which must not be met again, and the values of those that were.
    remembered: [Option<(&'d Flag, Option<Answer<'d>>)>; REMEMBERED_MAX],
}

/// Whose properties and id count.
#[derive(Clone, Copy)]
struct Who<'s> {
    id: &'s str,
    properties: &'s [Property<'s>],
    /// A property that is there even if nobody gave it.
    seed: (&'static str, &'s str),
    is_group: bool,
}

impl<'s> Who<'s> {
    fn property(&self, name: Text<'_>) -> Option<Value<'s>> {
        let given = property(self.properties, name).copied();
        given.or_else(|| if name == self.seed.0 { Some(Value::Str(self.seed.1)) } else { None })
    }
}

#[inline]
fn property<'p, 's>(properties: &'p [Property<'s>], name: Text<'_>) -> Option<&'p Value<'s>> {
    properties.iter().rev().find(|property| name == *property.key()).map(|property| &property.value)
}

impl<'d, 's> Evaluator<'d, 's> {
    fn flag(&mut self, flag: &'d Flag, depth: usize) -> Answer<'d> {
        match flag.obstacle {
            Some(Obstacle::Continuity) => return Err(Inconclusive::Continuity),
            _ if !flag.active => return Ok((Found::Bool(false), None)),
            Some(Obstacle::ServerOnly) => return Err(Inconclusive::ServerOnly),
            Some(Obstacle::Malformed) => return Err(Inconclusive::Malformed),
            None => {}
        }
        let who = match flag.group_type {
            Some(number) => {
                let group_type = self.around.definitions.group_type(number).ok_or(Inconclusive::GroupType)?;
                match self.group_of(group_type) {
                    Some(group) => group,
                    None => return Ok((Found::Bool(false), None)),
                }
            }
            None => self.person(flag)?,
        };
        self.conditions(flag, who, depth)
    }

    fn conditions(&mut self, flag: &'d Flag, who: Who<'s>, depth: usize) -> Answer<'d> {
        let mut doubt = None;
        let mut hash = None;
        for (index, slot) in self.around.definitions.list(flag.conditions).iter().enumerate() {
            let Item::Condition(condition) = &slot.0 else { continue };
            if condition.malformed {
                return Err(Inconclusive::Malformed);
            }
            let own = match self.target(flag, condition)? {
                Aim::Same => None,
                Aim::Other(own) => Some(own),
                Aim::Skip => continue,
            };
            let asked = own.unwrap_or(who);
            match self.all(condition, &asked, depth) {
                Verdict::Yes => {}
                Verdict::No => continue,
                Verdict::Unknown(reason) => {
                    doubt.get_or_insert(reason);
                    continue;
                }
                Verdict::Abort(reason) => return Err(reason),
            }
            // Nobody is beyond a hundred percent; most conditions say just that.
            if let Some(percent) = condition.rollout.filter(|percent| *percent < 100.0) {
                let key = flag.key.text(self.around.definitions.text);
                let place = match own {
                    Some(own) => bucket_of(key, own.id, ""),
                    None => *hash.get_or_insert_with(|| bucket_of(key, who.id, "")),
                };
                if place > percent / 100.0 {
                    if flag.early_exit && doubt.is_none() {
                        return Ok((Found::Bool(false), None));
                    }
                    continue;
                }
            }
            return Ok((self.value(flag, condition, asked.id), u32::try_from(index).ok()));
        }
        doubt.map_or(Ok((Found::Bool(false), None)), Err)
    }

    /// The value of a condition that matched.
    fn value(&self, flag: &Flag, condition: &Condition, id: &str) -> Found<'d> {
        let text = self.around.definitions.text;
        let variants = self.around.definitions.list(flag.variants).iter().filter_map(|slot| match &slot.0 {
            Item::Variant(variant) => Some(variant),
            _ => None,
        });
        let is_wanted = |wanted: Str| variants.clone().find(|variant| variant.key.text(text) == wanted.text(text));
        if let Some(variant) = condition.variant.and_then(is_wanted) {
            return Found::Variant(variant);
        }
        if flag.variants.len() == 0 {
            return Found::Bool(true);
        }
        let place = bucket_of(flag.key.text(text), id, VARIANT_SALT);
        // The sums are rounded in this order everywhere; computed otherwise they differ in the last bit.
        let mut low = 0.0;
        for variant in variants {
            let high = low + variant.rollout / 100.0;
            if low <= place && place < high {
                return Found::Variant(variant);
            }
            low = high;
        }
        Found::Bool(true)
    }

    fn person(&self, flag: &Flag) -> Result<Who<'s>, Inconclusive> {
        let id = if flag.by_device {
            self.subject.given_device_id().ok_or(Inconclusive::DeviceMissing)?
        } else {
            self.subject.distinct_id
        };
        let seed = (key::DISTINCT_ID, self.subject.distinct_id);
        Ok(Who { id, properties: self.subject.properties, seed, is_group: false })
    }

    fn group_of(&self, group_type: Text<'_>) -> Option<Who<'s>> {
        let group = self.subject.groups.iter().rev().find(|group| group_type == *group.kind)?;
        let seed = (key::GROUP_KEY, group.key);
        Some(Who { id: group.key, properties: group.properties, seed, is_group: true })
    }

    /// Whom a condition is about, if it is not about whom its flag is about.
    fn target(&self, flag: &Flag, condition: &Condition) -> Result<Aim<'s>, Inconclusive> {
        Ok(match (condition.target, flag.group_type) {
            (Target::Same, _) | (Target::Person, None) => Aim::Same,
            (Target::GroupType(own), Some(flags)) if own == flags => Aim::Same,
            (Target::Person, Some(_)) => Aim::Other(self.person(flag)?),
            (Target::GroupType(own), _) => {
                let group_type = self.around.definitions.group_type(own);
                group_type.and_then(|group_type| self.group_of(group_type)).map_or(Aim::Skip, Aim::Other)
            }
        })
    }

    /// All filters of a condition, up to the first that does not hold.
    fn all(&mut self, condition: &Condition, who: &Who<'s>, depth: usize) -> Verdict {
        for slot in self.around.definitions.list(condition.filters) {
            match self.entry(&slot.0, who, depth) {
                Verdict::Yes => {}
                other => return other,
            }
        }
        Verdict::Yes
    }

    /// A filter, or a group of them.
    fn entry(&mut self, item: &'d Item, who: &Who<'s>, depth: usize) -> Verdict {
        self.filters = self.filters.saturating_add(1);
        if self.filters > FILTERS_MAX {
            return Verdict::Abort(Inconclusive::TooMuch);
        }
        let filter = match item {
            Item::Group(group) => return self.group(group, who, depth + 1),
            Item::Filter(filter) => filter,
            _ => return Verdict::Unknown(Inconclusive::Malformed),
        };
        let text = self.around.definitions.text;
        let verdict = match filter.test {
            Test::Cohort { id, negated } => match self.around.definitions.cohort(id.text(text)) {
                Some(cohort) => self.group(cohort, who, depth + 1).inverted(negated),
                None => Verdict::Abort(Inconclusive::CohortMissing),
            },
            Test::Flag { wanted, chain } => {
                let chain = chain.map(|chain| Json::of_checked(chain.get(text)));
                self.dependency(filter.key.text(text), wanted, chain, depth + 1)
            }
            Test::Never => Verdict::No,
            Test::Unknown(reason) => Verdict::Unknown(reason),
            // A person has no properties of a group.
            _ if filter.of_group && !who.is_group => Verdict::Unknown(Inconclusive::PropertyMissing),
            ref test => matches(test, who.property(filter.key.text(text)).as_ref(), &self.around),
        };
        verdict.inverted(filter.inverted)
    }

    /// A cohort, or a part of one. Every entry is looked at: one that is missing makes the whole flag undecidable, also
    /// where the others have decided.
    fn group(&mut self, group: &'d Group, who: &Who<'s>, depth: usize) -> Verdict {
        if depth > NESTING_MAX {
            return Verdict::Abort(Inconclusive::TooDeep);
        }
        if group.malformed {
            return Verdict::Abort(Inconclusive::Malformed);
        }
        let entries = self.around.definitions.list(group.entries);
        let (mut doubt, mut decided) = (None, false);
        for slot in entries {
            match self.entry(&slot.0, who, depth) {
                Verdict::Abort(reason) => return Verdict::Abort(reason),
                Verdict::Unknown(reason) => _ = doubt.get_or_insert(reason),
                Verdict::Yes => decided |= group.any,
                Verdict::No => decided |= !group.any,
            }
        }
        match doubt {
            _ if decided => Verdict::of(group.any),
            Some(reason) => Verdict::Unknown(reason),
            None => Verdict::of(!group.any || entries.is_empty()),
        }
    }

    /// Whether another flag has the value wanted.
    fn dependency(&mut self, key: Text<'_>, wanted: Wanted, chain: Option<Json<'_>>, depth: usize) -> Verdict {
        let inconclusive = Verdict::Unknown(Inconclusive::Dependency);
        if depth > NESTING_MAX {
            return Verdict::Abort(Inconclusive::TooDeep);
        }
        // Without a chain the document is older than dependencies; an empty one says that they go round in a circle.
        let Some(chain) = chain.filter(|chain| chain.elements().next().is_some()) else { return inconclusive };
        for link in chain.elements() {
            let value = link.as_text().map(|key| self.other_flag(key, depth));
            if !matches!(value, Some(Ok(_))) {
                return inconclusive;
            }
        }
        let Ok((value, _)) = self.other_flag(key, depth) else { return inconclusive };
        let text = self.around.definitions.text;
        Verdict::of(match (value, wanted) {
            (Found::Bool(value), Wanted::Bool(wanted)) => value == wanted,
            (Found::Variant(_), Wanted::Bool(wanted)) => wanted,
            (Found::Variant(variant), Wanted::Variant(wanted)) => variant.key.text(text) == wanted.text(text),
            _ => false,
        })
    }

    /// Another flag's value; once evaluated it is remembered.
    fn other_flag(&mut self, key: Text<'_>, depth: usize) -> Answer<'d> {
        let flag = self.around.definitions.flag(key).ok_or(Inconclusive::Dependency)?;
        let known = self.remembered.iter().flatten().find(|(other, _)| core::ptr::eq(*other, flag));
        if let Some((_, answer)) = known {
            return answer.unwrap_or(Err(Inconclusive::Dependency));
        }
        let place = self.remembered.iter().position(Option::is_none);
        let remember = |this: &mut Self, answer| {
            if let Some(slot) = place.and_then(|place| this.remembered.get_mut(place)) {
                *slot = Some((flag, answer));
            }
        };
        remember(self, None);
        let answer = self.flag(flag, depth);
        remember(self, Some(answer));
        answer
    }
}

/// Whom a condition is about.
enum Aim<'s> {
    /// Whom its flag is about.
    Same,
    /// Somebody else.
    Other(Who<'s>),
    /// A group that was not given: the condition does not count.
    Skip,
}
