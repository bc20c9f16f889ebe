//! What a server is asked about flags: the body of `POST /flags/?v=2`, and of the older `/decide/?v=3`.
//!
//! In: whom it is about, and which flags. Out: JSON in memory of the caller's. Measured first, or written at once.

use super::evaluate::FlagSubject;
use crate::limits::DEPTH_MAX;
use crate::property::Property;
use crate::stats::CaptureError;
use crate::wire::event::{write_strings, write_value};
use crate::wire::writer::{Out, Writer};

/// A request for the values of flags.
///
/// ```
/// use quillet_core::flags::{FlagSubject, FlagsRequest};
///
/// let subject = FlagSubject::new("customer-7");
/// let mut body = [0; 256];
/// let len = FlagsRequest::new("phc_example", &subject).keys(&["new-checkout"]).encode(&mut body)?;
/// assert!(body[..len].starts_with(br#"{"token":"phc_example","distinct_id":"customer-7","#));
/// # Ok::<(), quillet_core::CaptureError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FlagsRequest<'a> {
    token: &'a str,
    subject: &'a FlagSubject<'a>,
    keys: &'a [&'a str],
    disable_geoip: bool,
    older: bool,
}

impl<'a> FlagsRequest<'a> {
    /// Asks for all flags of `subject`, in the project of this token.
    pub const fn new(token: &'a str, subject: &'a FlagSubject<'a>) -> Self {
        Self { token, subject, keys: &[], disable_geoip: false, older: false }
    }

    /// Asks for these flags only; none are all.
    #[must_use]
    pub const fn keys(self, keys: &'a [&'a str]) -> Self {
        Self { keys, ..self }
    }

    /// Whether the server must not derive a place from the sender's address.
    #[must_use]
    pub const fn disable_geoip(self, disable: bool) -> Self {
        Self { disable_geoip: disable, ..self }
    }

    /// Whether it goes to `/decide/`, whose oldest servers know the token by another name.
    #[must_use]
    pub const fn for_decide(self, older: bool) -> Self {
        Self { older, ..self }
    }

    /// Bytes of the body.
    ///
    /// # Errors
    ///
    /// [`CaptureError::TooDeep`] and [`CaptureError::InvalidValue`], of a property's value.
    pub fn bytes(&self) -> Result<usize, CaptureError> {
        let mut counter = Writer::new(&mut []);
        self.write(&mut counter)?;
        Ok(counter.wanted())
    }

    /// Writes the body and returns its length.
    ///
    /// # Errors
    ///
    /// [`CaptureError::TooLarge`] if `memory` is too small; otherwise as [`bytes`](Self::bytes).
    pub fn encode(&self, memory: &mut [u8]) -> Result<usize, CaptureError> {
        let mut writer = Writer::new(memory);
        self.write(&mut writer)?;
        writer.finish().ok_or(CaptureError::TooLarge)
    }

    fn write(&self, out: &mut impl Out) -> Result<(), CaptureError> {
        out.bytes(if self.older { b"{\"api_key\":" } else { b"{\"token\":" });
        out.string(self.token);
        out.bytes(b",\"distinct_id\":");
        out.string(self.subject.given_distinct_id());
        if let Some(device) = self.subject.device_id {
            out.bytes(b",\"device_id\":");
            out.string(device);
        }
        if !self.subject.given_properties().is_empty() {
            out.bytes(b",\"person_properties\":");
            object(out, self.subject.given_properties())?;
        }
        // Both are always there: servers take neither null nor a missing one everywhere.
        let groups = self.subject.given_groups();
        out.bytes(b",\"groups\":");
        let mut before: &[u8] = b"{";
        for group in groups {
            out.bytes(before);
            out.string(group.group_type());
            out.bytes(b":");
            out.string(group.group_key());
            before = b",";
        }
        out.bytes(if groups.is_empty() { b"{}" } else { b"}" });
        out.bytes(b",\"group_properties\":{");
        let mut before: &[u8] = b"";
        for group in groups.iter().filter(|group| !group.given_properties().is_empty()) {
            out.bytes(before);
            out.string(group.group_type());
            out.bytes(b":");
            object(out, group.given_properties())?;
            before = b",";
        }
        // NB: `disable_geoip`, as events have it, is ignored here.
        out.bytes(if self.disable_geoip { b"},\"geoip_disable\":true" } else { b"},\"geoip_disable\":false" });
        if !self.keys.is_empty() {
            out.bytes(b",\"flag_keys_to_evaluate\":");
            write_strings(out, self.keys);
        }
        out.bytes(b"}");
        Ok(())
    }
}

fn object(out: &mut impl Out, properties: &[Property<'_>]) -> Result<(), CaptureError> {
    let mut before: &[u8] = b"{";
    for property in properties {
        out.bytes(before);
        out.string(property.key());
        out.bytes(b":");
        write_value(out, &property.value(), DEPTH_MAX - 2)?;
        before = b",";
    }
    out.bytes(if properties.is_empty() { b"{}" } else { b"}" });
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]

    use std::vec;

    use super::super::FlagGroup;
    use super::*;

    fn body(request: &FlagsRequest<'_>) -> serde_json::Value {
        let mut memory = vec![0; request.bytes().unwrap()];
        let len = request.encode(&mut memory).unwrap();
        assert_eq!(len, memory.len(), "measured as long as it is");
        assert_eq!(request.encode(&mut memory[..len - 1]), Err(CaptureError::TooLarge));
        serde_json::from_slice(&memory).unwrap()
    }

    #[test]
    fn what_nobody_said_is_sent_as_the_server_wants_it() {
        let subject = FlagSubject::new("customer-7");
        let expected = serde_json::json!({
            "token": "phc_x", "distinct_id": "customer-7", "groups": {}, "group_properties": {}, "geoip_disable": false,
        });
        assert_eq!(body(&FlagsRequest::new("phc_x", &subject)), expected);
    }

    #[test]
    fn everything_that_was_said_is_sent() {
        let (person, seats) = (crate::props! { "plan": "p\"ro", "n": [1, null] }, crate::props! { "seats": 40 });
        let groups = [FlagGroup::new("company", "acme").properties(seats), FlagGroup::new("project", "x")];
        let subject = FlagSubject::new("ü").person_properties(person).groups(&groups).device_id("d");
        let request = FlagsRequest::new("phc_x", &subject).keys(&["a", "b"]).disable_geoip(true).for_decide(true);
        let expected = serde_json::json!({
            "api_key": "phc_x", "distinct_id": "ü", "device_id": "d", "person_properties": { "plan": "p\"ro", "n": [1, null] },
            "groups": { "company": "acme", "project": "x" }, "group_properties": { "company": { "seats": 40 } },
            "geoip_disable": true, "flag_keys_to_evaluate": ["a", "b"],
        });
        assert_eq!(body(&request), expected);
    }
}
