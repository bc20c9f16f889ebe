//! What a flag can be: on, off, or one of its variants.

use core::fmt;

use super::json::{Json, Text};

/// A flag's value. Borrows its variant's name from the text it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagValue<'a> {
    /// On or off.
    Bool(bool),
    /// On, with this variant.
    Variant(Text<'a>),
}

impl<'a> FlagValue<'a> {
    /// The variant called `name`.
    pub const fn variant(name: &'a str) -> Self {
        // Not text of a JSON document, so nothing in it is an escape.
        Self::Variant(Text::from_parts(name, true))
    }

    /// Whether it is on: `true`, or any variant.
    pub const fn is_enabled(self) -> bool {
        matches!(self, Self::Bool(true) | Self::Variant(_))
    }

    /// The variant's name.
    pub const fn as_variant(self) -> Option<Text<'a>> {
        if let Self::Variant(name) = self { Some(name) } else { None }
    }
}

impl fmt::Display for FlagValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Variant(name) => write!(f, "{name}"),
        }
    }
}

/// The payload that belongs to `value`, from an object by the name of the value. Never `null`.
pub(super) fn payload_for<'a>(payloads: Json<'a>, value: FlagValue<'_>) -> Option<Json<'a>> {
    match value {
        FlagValue::Bool(value) => payloads.given(if value { "true" } else { "false" }),
        FlagValue::Variant(name) => {
            let (_, payload) = payloads.members().filter(|(key, _)| *key == name).last()?;
            Some(payload).filter(|payload| !payload.is_null())
        }
    }
}
