//! What happened before an error: a few hundred words that are kept in case they are wanted.
//!
//! In: messages with properties, whenever something is worth remembering. Out: the newest of them as JSON, for an
//! [`Exception`](crate::Exception) to carry (`$exception_steps`). Written once, in memory given in advance; the oldest make
//! room for the newest.

use crate::limits::{DEPTH_MAX, KEY_BYTES_MAX, STEPS_BYTES_MAX};
use crate::property::{Property, is_always_reserved};
use crate::stats::CaptureError;
use crate::wire::event::{write_key, write_value};
use crate::wire::exception::hex_digit;
use crate::wire::key;
use crate::wire::timestamp::Timestamp;
use crate::wire::writer::{Out, Writer};

/// What stands behind each step. JSON escapes control characters, so it occurs nowhere else.
const STEP_END: u8 = b'\n';

/// What stands before each step: whose it is, in as many hexadecimal digits.
const OWNER_BYTES: usize = 8;

/// The newest steps, in memory of `M`: an array, a boxed slice, a borrowed one.
///
/// Half of the memory, and at most [`STEPS_BYTES_MAX`] bytes, holds steps; the other half is what lets them move to the
/// front seldom: adding a step copies each byte twice at most, on average. Nothing allocates.
///
/// ```
/// use quillet_core::{Event, Exception, Steps, Timestamp, props};
///
/// let mut steps = Steps::new([0; 2048]);
/// let now = Timestamp::from_unix_ms(1_795_000_000_000);
/// steps.add("card entered", props! { "brand": "visa" }, now)?;
/// let error = Exception::new("billing::ChargeError", "card refused").steps(steps.read());
/// # let _ = Event::exception("customer-7", &error);
/// # Ok::<(), quillet_core::CaptureError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Steps<M> {
    memory: M,
    /// The steps lie in `start..end` of the memory. Invariant: `start ≤ end ≤` its length.
    start: usize,
    end: usize,
}

impl<M: AsRef<[u8]> + AsMut<[u8]>> Steps<M> {
    /// No steps yet.
    pub const fn new(memory: M) -> Self {
        Self { memory, start: 0, end: 0 }
    }

    /// Remembers that something happened, for every exception after it. The oldest steps are forgotten for it, if need be.
    ///
    /// # Errors
    ///
    /// [`CaptureError::TooLarge`] if it does not fit by itself, [`CaptureError::MissingField`] without a message, and what
    /// concerns the properties: keys that are empty, too long, or written here; values that are not JSON or nested too
    /// deeply. What was remembered before stays then.
    pub fn add(&mut self, message: &str, properties: &[Property<'_>], now: Timestamp) -> Result<(), CaptureError> {
        self.add_for(0, message, properties, now)
    }

    /// The same for the exceptions of one `owner`, a number for whom a program is working; 0 stands for everybody. What
    /// was done for one customer does not belong into the errors of another.
    ///
    /// # Errors
    ///
    /// As for [`add`](Self::add).
    pub fn add_for(
        &mut self,
        owner: u32,
        message: &str,
        properties: &[Property<'_>],
        now: Timestamp,
    ) -> Result<(), CaptureError> {
        check(message, properties)?;
        let most = self.most();
        if self.end > most {
            self.move_to_front();
        }
        // Never more than a whole half: `end ≤ most` by now.
        let room = self.memory.as_mut().get_mut(self.end..).unwrap_or_default();
        let room_len = room.len().min(most);
        let mut out = Writer::new(room.get_mut(..room_len).unwrap_or_default());
        out.bytes(&core::array::from_fn::<u8, OWNER_BYTES, _>(|at| hex_digit((owner >> (28 - 4 * at)) as u8)));
        out.bytes(b"{");
        out.string(key::STEP_MESSAGE);
        out.bytes(b":");
        out.string(message);
        write_key(&mut out, key::STEP_TIMESTAMP);
        out.bytes(b"\"");
        out.bytes(&now.text());
        out.bytes(b"\"");
        for property in properties {
            write_key(&mut out, property.key());
            write_value(&mut out, &property.value(), DEPTH_MAX)?;
        }
        out.bytes(b"}");
        out.bytes(&[STEP_END]);
        let len = out.finish().filter(|len| *len < most).ok_or(CaptureError::TooLarge)?;
        self.end += len;
        // The brackets take one byte more than the commas save.
        while self.end - self.start >= most {
            self.forget_oldest();
        }
        Ok(())
    }

    /// The steps so far, oldest first, whosever they are.
    pub fn read(&self) -> StepsRead<'_> {
        StepsRead { text: self.memory.as_ref().get(self.start..self.end).unwrap_or_default(), owner: None }
    }

    /// The steps of everybody and of `owner`, oldest first.
    pub fn read_for(&self, owner: u32) -> StepsRead<'_> {
        StepsRead { owner: Some(owner), ..self.read() }
    }

    /// Forgets all of them, and overwrites what they said.
    pub fn erase(&mut self) {
        self.memory.as_mut().fill(0);
        (self.start, self.end) = (0, 0);
    }

    /// Bytes that steps may take.
    fn most(&self) -> usize {
        (self.memory.as_ref().len() / 2).min(STEPS_BYTES_MAX)
    }

    fn move_to_front(&mut self) {
        let (start, end) = (self.start, self.end);
        // In range by the invariant; asked for all the same, because `copy_within` would panic.
        if self.memory.as_ref().get(start..end).is_some() {
            self.memory.as_mut().copy_within(start..end, 0);
        }
        (self.start, self.end) = (0, end - start);
    }

    fn forget_oldest(&mut self) {
        let oldest = self.read().text.split(|byte| *byte == STEP_END).next().map_or(0, <[u8]>::len);
        self.start = self.end.min(self.start + oldest + 1);
    }
}

/// Steps as they were read, for one exception.
#[derive(Clone, Copy, Default)]
pub struct StepsRead<'a> {
    /// One JSON object after the other, each with its owner before and [`STEP_END`] behind it.
    text: &'a [u8],
    /// Whose are wanted besides everybody's; `None` for all.
    owner: Option<u32>,
}

impl<'a> StepsRead<'a> {
    /// Nothing was remembered.
    pub const NONE: Self = Self { text: &[], owner: None };

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The JSON of each, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let wanted = self.owner;
        self.text.split(|byte| *byte == STEP_END).filter_map(move |line| {
            let (owner, step) = line.split_at_checked(OWNER_BYTES)?;
            let is_owner = |wanted| number(owner).is_none_or(|owner| owner == 0 || owner == wanted);
            wanted.is_none_or(is_owner).then_some(step)
        })
    }
}

impl core::fmt::Debug for StepsRead<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("StepsRead").field("bytes", &self.text.len()).finish()
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| Some(number << 4 | char::from(*digit).to_digit(16)?))
}

/// What would make a step that the server finds malformed.
fn check(message: &str, properties: &[Property<'_>]) -> Result<(), CaptureError> {
    if message.is_empty() {
        return Err(CaptureError::MissingField);
    }
    for property in properties {
        let name = property.key();
        if name.is_empty() {
            return Err(CaptureError::EmptyKey);
        }
        if name.len() > KEY_BYTES_MAX {
            return Err(CaptureError::KeyTooLong);
        }
        if matches!(name, key::STEP_MESSAGE | key::STEP_TIMESTAMP) || is_always_reserved(name.as_bytes()) {
            return Err(CaptureError::ReservedKey);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;
    use crate::{Value, props};
    use serde_json::json;
    use std::format;
    use std::string::ToString as _;
    use std::vec::Vec;

    const NOW: Timestamp = Timestamp::from_unix_ms(1_795_000_000_000);

    fn parsed<M: AsRef<[u8]> + AsMut<[u8]>>(steps: &Steps<M>) -> Vec<serde_json::Value> {
        steps.read().iter().map(|step| serde_json::from_slice(step).unwrap()).collect()
    }

    #[test]
    fn a_step_says_what_and_when() {
        let mut steps = Steps::new([0; 1024]);
        assert!(steps.read().is_empty());
        steps.add("card \"entered\"\n", props! { "brand": "visa", "n": [1, { "a": null }] }, NOW).unwrap();
        let text = core::str::from_utf8(&NOW.text()).map(std::string::ToString::to_string).unwrap();
        let expected =
            json!({"$message": "card \"entered\"\n", "$timestamp": text, "brand": "visa", "n": [1, {"a": null}]});
        assert_eq!(parsed(&steps), [expected]);
        steps.erase();
        assert!(steps.read().is_empty() && steps.memory == [0; 1024]);
    }

    #[test]
    fn the_newest_stay_whatever_the_memory() {
        for bytes in [200, 511, 512, 1000, 4096, 100_000] {
            let mut steps = Steps::new(std::vec![0; bytes]);
            let most = steps.most();
            let mut added = Vec::new();
            for n in 0..3000 {
                let message = format!("step {n} {}", "x".repeat(n * 7 % 50));
                match steps.add(&message, &[], NOW) {
                    Ok(()) => added.push(message),
                    Err(error) => assert_eq!(error, CaptureError::TooLarge),
                }
                let kept = parsed(&steps);
                let commas_and_brackets = kept.len() + 1;
                let taken: usize = steps.read().iter().map(<[u8]>::len).sum();
                assert!(taken + commas_and_brackets <= most, "{taken} and {commas_and_brackets} in {most}");
                let kept: Vec<_> = kept.iter().map(|step| step["$message"].as_str().unwrap()).collect();
                assert_eq!(kept, added[added.len() - kept.len()..]);
            }
            assert!(!parsed(&steps).is_empty());
        }
    }

    #[test]
    fn an_owner_reads_what_is_everybodys_and_its_own() {
        let mut steps = Steps::new([0; 2048]);
        for (owner, message) in [(0, "start"), (7, "seven"), (u32::MAX, "last"), (0, "go on")] {
            steps.add_for(owner, message, &[], NOW).unwrap();
        }
        let messages = |read: StepsRead<'_>| {
            let parsed = read.iter().map(|step| serde_json::from_slice::<serde_json::Value>(step).unwrap());
            parsed.map(|step| step["$message"].as_str().unwrap().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(messages(steps.read()), ["start", "seven", "last", "go on"]);
        assert_eq!(messages(steps.read_for(7)), ["start", "seven", "go on"]);
        assert_eq!(messages(steps.read_for(u32::MAX)), ["start", "last", "go on"]);
        assert_eq!(messages(steps.read_for(0)), ["start", "go on"]);
        let mut own = Steps::new([0; 400]);
        own.add_for(3, "mine", &[], NOW).unwrap();
        assert!(own.read_for(0).is_empty() && !own.read_for(3).is_empty());
    }

    #[test]
    fn what_is_refused_leaves_no_trace() {
        let mut steps = Steps::new([0; 600]);
        steps.add("first", &[], NOW).unwrap();
        let before = parsed(&steps);
        let long = "x".repeat(300);
        let mut deep = Value::Null;
        for _ in 0..70 {
            deep = Value::Array(std::vec![deep].leak());
        }
        for (message, key, value, error) in [
            ("", "a", Value::Null, CaptureError::MissingField),
            ("x", "", Value::Null, CaptureError::EmptyKey),
            ("x", "$message", Value::Null, CaptureError::ReservedKey),
            ("x", "$timestamp", Value::Null, CaptureError::ReservedKey),
            ("x", "a", deep, CaptureError::TooDeep),
            ("x", "a", Value::Str(&long), CaptureError::TooLarge),
            (&long, "a", Value::Null, CaptureError::TooLarge),
        ] {
            assert_eq!(steps.add(message, &[Property::new(key, value)], NOW), Err(error));
            assert_eq!(parsed(&steps), before);
        }
        let mut none = Steps::new([]);
        assert_eq!(none.add("x", &[], NOW), Err(CaptureError::TooLarge));
    }
}
