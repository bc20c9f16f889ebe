//! A client's own rules for what must not leave the program, applied to whole events.
//!
//! In: an event as the hooks left it. Out: the same event without denied properties and with long texts cut, for its
//! encoder. Without rules nothing comes by here; with them it allocates only for events of many properties.

use quillet_core::{Event, Property, Redacted, Redaction, Value};

/// Properties for which there is room on the stack, per list.
const INLINE_MAX: usize = 48;

/// The rules of one client.
#[derive(Clone, Debug)]
pub(crate) struct Redactor {
    pub(crate) denied: Vec<String>,
    pub(crate) text_bytes_max: usize,
}

impl Default for Redactor {
    fn default() -> Self {
        Self { denied: Vec::new(), text_bytes_max: usize::MAX }
    }
}

impl Redactor {
    /// Whether there is anything to do at all.
    pub(crate) fn is_needed(&self) -> bool {
        !self.denied.is_empty() || self.text_bytes_max != usize::MAX
    }

    pub(crate) fn redaction(&self) -> Redaction<'_, String> {
        Redaction::new(&self.denied, self.text_bytes_max)
    }

    /// Hands on the event without what is denied: in its properties and in what it says of persons and groups.
    pub(crate) fn apply<T>(&self, event: &Event<'_>, then: impl FnOnce(&Event<'_>) -> T) -> T {
        self.list(event.given_properties(), |properties| {
            let event = event.properties(properties);
            if event.given_set().is_empty() && event.given_set_once().is_empty() {
                return then(&event);
            }
            self.list(event.given_set(), |set| {
                self.list(event.given_set_once(), |set_once| then(&event.set(set).set_once(set_once)))
            })
        })
    }

    /// Hands on the properties that may be written.
    pub(crate) fn list<T>(&self, given: &[Property<'_>], then: impl FnOnce(&[Property<'_>]) -> T) -> T {
        if !self.is_needed() {
            return then(given);
        }
        let redaction = self.redaction();
        let allowed = || given.iter().filter(|property| !redaction.denies(property.key()));
        let nested = || allowed().filter(|property| is_nested(&property.value()));
        let nested = nested().map(|property| Redacted::new(property.value(), redaction));
        if given.len() <= INLINE_MAX {
            let mut filters = heapless::Vec::<_, INLINE_MAX>::new();
            nested.for_each(|filter| {
                let _ = filters.push(filter);
            });
            let mut kept = heapless::Vec::<_, INLINE_MAX>::new();
            written(allowed(), redaction, &filters).for_each(|property| {
                let _ = kept.push(property);
            });
            then(&kept)
        } else {
            let filters: Vec<_> = nested.collect();
            let kept: Vec<_> = written(allowed(), redaction, &filters).collect();
            then(&kept)
        }
    }
}

/// The properties as they may be written: texts cut, nested values behind their filters, which come in the same order.
fn written<'given: 'p, 'of: 'given, 'p>(
    allowed: impl Iterator<Item = &'given Property<'of>>,
    redaction: Redaction<'p, String>,
    filters: &'p [Redacted<'p, String>],
) -> impl Iterator<Item = Property<'p>> {
    let mut filters = filters.iter();
    allowed.map(move |property| match property.value() {
        Value::Str(text) => Property::new(property.key(), redaction.cut(text)),
        ref value if is_nested(value) => match filters.next() {
            Some(filter) => Property::new(property.key(), Value::Typed(filter)),
            None => Property::new(property.key(), Value::Null),
        },
        _ => *property,
    })
}

fn is_nested(value: &Value<'_>) -> bool {
    matches!(value, Value::Array(_) | Value::Object(_) | Value::Raw(_) | Value::Typed(_))
}
