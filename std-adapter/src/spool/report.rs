//! What is said about a process that is gone, by one that is well.
//!
//! In: a dead process's file. Out: frames, to be sent before what the process itself had to say. The same file gives the
//! same frames, to the byte, however often it is read: a death in between sends the same events again, not others.

use quillet_core::{Common, Event, Stamper, Timestamp, Uuid, props};

use super::context::Context;
use super::layout::{self, Header, STATE_AT, STATE_CLEAN};
use super::map::Claim;
use super::retain;

/// The event for a process that ended without shutting its client down, and left no record of why.
const UNCLEAN_END: &str = "process ended without shutdown";

/// What is known about a process that is gone.
#[derive(Debug)]
pub(crate) struct Dead {
    /// Its super properties: JSON without braces, not checked. Empty if it had no time to write them.
    pub(crate) common: String,
    /// The distinct id of its crash events; empty for none.
    pub(crate) person: String,
    /// When its client was built.
    pub(crate) started: Timestamp,
    /// When it last looked after its queue.
    pub(crate) last_seen: Timestamp,
    pub(crate) pid: u32,
    /// Whether it shut its client down.
    pub(crate) is_clean: bool,
    epoch: u64,
}

impl Dead {
    /// What the file says about its process; `None` if it is a segment, which is no process's.
    pub(crate) fn of(claim: &Claim, header: &Header) -> Option<Self> {
        let context = Context::read(claim, header.plan.context_at()?).unwrap_or_default();
        let mut state = [0; 4];
        claim.read(&mut state, STATE_AT).ok()?;
        let last_seen = retain::last_seen(claim)?;
        Some(Self {
            common: context.common,
            person: context.person,
            started: header.started,
            last_seen: if last_seen.as_unix_micros() < header.started.as_unix_micros() {
                header.started
            } else {
                last_seen
            },
            pid: header.pid,
            is_clean: u32::from_le_bytes(state) == STATE_CLEAN,
            epoch: header.epoch,
        })
    }

    /// Writes down that all of this was said.
    pub(super) fn forget(claim: &Claim, header: &Header) -> std::io::Result<()> {
        claim.write(&STATE_CLEAN.to_le_bytes(), STATE_AT)?;
        let Some(at) = header.plan.crash_at() else { return Ok(()) };
        (0..layout::CRASH_SLOTS).try_for_each(|slot| claim.write(&[0; 4], at + slot * layout::CRASH_BYTES))
    }

    /// The event that says no more than that the process ended. `None` if it ended in order.
    pub(super) fn unclean_end(&self) -> Option<Vec<u8>> {
        if self.is_clean {
            return None;
        }
        let mut memory = vec![0; self.common.len() + 96];
        let nothing = Common::default();
        let common = Common::adopt(&mut memory, &self.common).unwrap_or(nothing);
        let started = self.started.text();
        let properties = props! { "pid": u64::from(self.pid), "started": str_of(&started) };
        let event = match self.person.as_str() {
            "" => Event::personless(UNCLEAN_END),
            person => Event::new(UNCLEAN_END, person),
        };
        let random = [self.epoch, self.epoch.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15];
        let event = event.uuid(Uuid::v7(self.last_seen.as_unix_ms(), random)).timestamp(self.last_seen);
        let mut frame = vec![0; self.common.len() + 1024 + self.person.len() * 6];
        let encoded =
            event.properties(properties).encode(&mut Stamper::new(random), &common, self.last_seen, &mut frame);
        frame.truncate(encoded.ok()?.len);
        frame.extend_from_slice(b",\n");
        Some(frame)
    }
}

fn str_of(text: &[u8]) -> &str {
    core::str::from_utf8(text).unwrap_or_default()
}
