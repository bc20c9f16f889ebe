//! What every event of a process says, kept where the process that describes its death finds it.
//!
//! In: the super properties as they were rendered, and the distinct id of crash events. Out: two slots in the file, of which
//! the newer whole one counts, so that a death while one is written leaves the other.

use quillet_core::crc32c;

use super::layout::{CONTEXT_BYTES, CONTEXT_SLOTS};
use super::map::Claim;

/// Number, two lengths, checksum.
const HEAD_BYTES: usize = 8 + 4 + 4 + 4;

/// What a slot says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Context {
    /// Grows with each change.
    number: u64,
    /// The super properties as JSON without the braces around them. Not checked.
    pub(crate) common: String,
    /// The distinct id of crash events, or nothing.
    pub(crate) person: String,
}

impl Context {
    /// The next one after this. What does not fit into a slot is left out.
    pub(crate) fn next(&self, common: &str, person: &str) -> Self {
        let fits = |len: usize| HEAD_BYTES + len <= CONTEXT_BYTES;
        let person = if fits(person.len()) { person } else { "" };
        let common = if fits(person.len() + common.len()) { common } else { "" };
        Self { number: self.number.wrapping_add(1), common: common.to_owned(), person: person.to_owned() }
    }

    /// Writes it over the older of the slots that begin at `at`.
    pub(crate) fn write(&self, claim: &Claim, at: usize) {
        let slot = (self.number % CONTEXT_SLOTS as u64) as usize;
        // A context that cannot be written leaves the one before, which is what crashes are described by then.
        let _ = claim.write(&self.to_bytes(), at + slot * CONTEXT_BYTES);
    }

    /// The newest whole one of the slots that begin at `at`.
    pub(crate) fn read(claim: &Claim, at: usize) -> Option<Self> {
        let slots = (0..CONTEXT_SLOTS).filter_map(|slot| {
            let mut bytes = vec![0; CONTEXT_BYTES];
            claim.read(&mut bytes, at + slot * CONTEXT_BYTES).ok()?;
            Self::parse(&bytes)
        });
        slots.max_by_key(|context| context.number)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.common.len() + self.person.len());
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&(self.common.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.person.len() as u32).to_le_bytes());
        let crc = crc32c(crc32c(crc32c(0, &bytes), self.common.as_bytes()), self.person.as_bytes());
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(self.common.as_bytes());
        bytes.extend_from_slice(self.person.as_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = bytes.split_first_chunk()?;
        let (common_len, rest) = rest.split_first_chunk()?;
        let (person_len, rest) = rest.split_first_chunk()?;
        let (crc, rest) = rest.split_first_chunk()?;
        let (common, rest) = rest.split_at_checked(u32::from_le_bytes(*common_len) as usize)?;
        let person = rest.get(..u32::from_le_bytes(*person_len) as usize)?;
        let context = Self {
            number: u64::from_le_bytes(*number),
            common: String::from_utf8(common.to_vec()).ok()?,
            person: String::from_utf8(person.to_vec()).ok()?,
        };
        let expected = context.to_bytes().get(HEAD_BYTES - 4..HEAD_BYTES)?.first_chunk().copied()?;
        (u32::from_le_bytes(*crc) == u32::from_le_bytes(expected)).then_some(context)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let context = Context::default().next("\"a\":1", "person");
        let mut bytes = context.to_bytes();
        assert_eq!(Context::parse(&bytes), Some(context.clone()));
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert_eq!(Context::parse(&bytes), None, "{at}");
            bytes[at] ^= 1;
            assert_eq!(Context::parse(&bytes[..at]), None);
        }
    }

    #[test]
    fn a_context_without_room_says_less() {
        let large = "x".repeat(CONTEXT_BYTES);
        let context = Context::default().next(&large, "person");
        assert_eq!((context.common.len(), context.person.as_str()), (0, "person"));
        let context = context.next("{}", &"p".repeat(CONTEXT_BYTES));
        assert_eq!((context.common.as_str(), context.person.as_str()), ("{}", ""));
    }
}
