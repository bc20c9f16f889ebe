//! What dead processes left: find it, replay it, delete it.
//!
//! In: a directory in which files of living and of dead processes lie. Out: batches of the dead ones' events, sent by the
//! worker like any others, and files that are gone once the server has answered for all of them.
//!
//! ```text
//!  scan ──▶ adopt ──▶ load a lane ──▶ send ──▶ write the tail back ──▶ next lane ──▶ delete ──▶ adopt the next
//!   ▲        locked?   strictly parsed          one batch at a time                              │
//!   └─────── 0, 1, 5, 30 s, then every minute ◀──────────────────────────────────────────────────┘
//! ```
//!
//! The file is read, never mapped: somebody who shortens it must not take this process down. One lane of one file is in
//! memory at a time. Its positions are those of the file, so a release in memory is written back as it is; a death in
//! between costs one batch sent twice.
//!
//! Scanning goes on for as long as the process lives: siblings die later, and a dying process keeps its lock until its
//! core is dumped.

use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use quillet_core::{Action, Counters, DropReason, Envelope, Flusher, Gauge, Instant, Outcome, Policy, Report};
use quillet_core::{Ring, RingError, Timestamp, Trust};

use super::Ledger;
use super::directory::{Directory, Entry, Kind};
use super::layout::{self, ATTEMPTS_AT, HEADER_BYTES, Header, PAGE_BYTES, STATE_AT, STATE_CLEAN, Unreadable};
use super::map::{Claim, Mapping};
use super::retain::{Limits, lane_pending, make_room, pending};
use crate::arena::{self, Held};

/// When the directory is looked at again, from the start on; the last one repeats.
const SCANS: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(25), Duration::from_secs(60)];

/// Recoveries that may begin to read a file and not come to the end of it. The next one puts it aside.
const ATTEMPTS_MAX: u32 = 3;

/// How old a file must be before its lack of a header means that it will never get one.
const UNFINISHED_AGE: Duration = Duration::from_secs(60);

/// What is needed to send what is found: the client's own envelope and patience.
pub(crate) struct Sending {
    pub(crate) envelope: Envelope,
    pub(crate) policy: Policy,
    pub(crate) seed: [u64; 2],
}

/// Looks for files whose owners are gone, and turns them into batches.
pub(crate) struct Recovery {
    directory: Directory,
    limits: Limits,
    owner: u128,
    boot_id: [u8; 16],
    /// This process's own file.
    live: Option<Arc<Mapping>>,
    #[allow(dead_code, reason = "TODO-SPOOL")]
    report_unclean_end: bool,
    scans: usize,
    next_scan: Instant,
    /// Found by the last scan, the oldest last.
    waiting: Vec<Entry>,
    adopted: Option<Adopted>,
    /// Segments of this client's own, and what was left in each.
    own: BTreeMap<PathBuf, u64>,
    ledger: Ledger,
    deadline: Option<Instant>,
}

/// A file that is being read.
struct Adopted {
    claim: Claim,
    header: Header,
    next_lane: usize,
    /// Nothing in it was wrong so far.
    is_sound: bool,
    replay: Option<Replay>,
}

/// One lane of it, in memory.
struct Replay {
    flusher: Held<Flusher<'static, 1>>,
    gauge: Held<Gauge<'static>>,
    /// Where the lane is in the file.
    at: usize,
    counted: Counters,
}

/// Why a lane was not loaded.
enum LoadError {
    Io,
    Ring(RingError),
}

impl From<RingError> for LoadError {
    fn from(error: RingError) -> Self {
        Self::Ring(error)
    }
}

impl From<io::Error> for LoadError {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

impl Recovery {
    pub(super) fn new(
        directory: Directory,
        limits: Limits,
        owner: u128,
        boot_id: [u8; 16],
        live: Option<Arc<Mapping>>,
        report_unclean_end: bool,
        ledger: Ledger,
    ) -> Self {
        Self {
            directory,
            limits,
            owner,
            boot_id,
            live,
            report_unclean_end,
            scans: 0,
            next_scan: Instant::ZERO,
            waiting: Vec::new(),
            adopted: None,
            own: BTreeMap::new(),
            ledger,
            deadline: None,
        }
    }

    /// Reads, removes and adopts files until there is something to send, or nothing more to be found. Blocks on the disk.
    /// Says when to look again.
    pub(crate) fn work(&mut self, now: Instant, wall: Timestamp, sending: &Sending) -> Instant {
        if now >= self.next_scan {
            self.scan(now, wall);
        }
        loop {
            if self.adopted.as_ref().is_some_and(|adopted| adopted.replay.is_some()) {
                if !self.is_drained() {
                    return self.next_scan;
                }
                self.end_replay();
            }
            let Some(mut adopted) = self.adopted.take() else {
                let Some(entry) = self.waiting.pop() else { return self.next_scan };
                self.adopted = self.adopt(&entry, wall);
                continue;
            };
            if adopted.next_lane < adopted.header.plan.lanes {
                self.load(&mut adopted, sending);
                self.adopted = Some(adopted);
            } else {
                self.finish(adopted);
            }
        }
    }

    /// What to send of what was found; `Wait` for ever if there is nothing.
    pub(crate) fn poll(&mut self, now: Instant) -> Action<'_> {
        match self.adopted.as_mut().and_then(|adopted| adopted.replay.as_mut()) {
            Some(replay) => replay.flusher.poll(now),
            None => Action::Wait(Instant::NEVER),
        }
    }

    /// Takes note of what came of the batch that [`poll`](Self::poll) gave.
    pub(crate) fn handle_outcome(&mut self, now: Instant, outcome: Outcome) -> Report {
        match self.adopted.as_mut().and_then(|adopted| adopted.replay.as_mut()) {
            Some(replay) => replay.flusher.handle_outcome(now, outcome),
            None => Report::default(),
        }
    }

    /// Writes into the file what the last outcome released. Only after the server's answer: the other order could lose a
    /// batch, this one can only send it again.
    pub(crate) fn acknowledge(&mut self) {
        let Some(adopted) = &mut self.adopted else { return };
        if let Some(replay) = &adopted.replay {
            let written = adopted.claim.write(&replay.gauge.released_words(), replay.at + Ring::RELEASED_AT);
            adopted.is_sound &= written.is_ok();
        }
    }

    /// What to count, since the last call; and events that are loaded and not decided about.
    pub(crate) fn settle(&mut self) -> (Ledger, u64) {
        let mut ledger = core::mem::take(&mut self.ledger);
        let mut pending = 0;
        if let Some(replay) = self.adopted.as_mut().and_then(|adopted| adopted.replay.as_mut()) {
            ledger.counters.add(&replay.take_counters());
            pending = replay.flusher.pending() as u64;
        }
        (ledger, pending)
    }

    /// From now on, nothing is waited for.
    pub(crate) fn shutdown(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
        if let Some(replay) = self.adopted.as_mut().and_then(|adopted| adopted.replay.as_mut()) {
            replay.flusher.shutdown(deadline);
        }
    }

    /// Leaves what is not answered for the next start. `live` is what is pending in this process's own file, which goes if
    /// that is nothing.
    pub(crate) fn close(&mut self, live: u64) {
        self.adopted = None;
        self.waiting.clear();
        if let Some(mapping) = &self.live {
            let _ = mapping.claim().write(&STATE_CLEAN.to_le_bytes(), STATE_AT);
            if live == 0 {
                mapping.claim().unlink();
            }
        }
    }

    /// Removes every file that no other living process has. Says how many events were in those that were not loaded.
    pub(crate) fn erase(&mut self) {
        if let Some(adopted) = self.adopted.take() {
            wipe(&adopted.claim, &adopted.header);
        }
        self.waiting.clear();
        if let Some(mapping) = &self.live {
            wipe_lanes(mapping);
            mapping.claim().unlink();
        }
        for entry in self.directory.entries().unwrap_or_default() {
            if let Ok(Some(claim)) = Claim::adopt(&entry.path) {
                if let Ok(header) = read_header(&claim) {
                    wipe(&claim, &header);
                }
                claim.unlink();
            }
        }
    }

    fn scan(&mut self, now: Instant, wall: Timestamp) {
        let wait = SCANS.get(self.scans).or(SCANS.last()).copied().unwrap_or_default();
        self.scans = self.scans.saturating_add(1);
        self.next_scan = now.after(wait);
        // What this cannot make room for belongs to living processes.
        let _ = make_room(&self.directory, &self.limits, 0, wall, &mut self.ledger);
        let mut entries = self.directory.entries().unwrap_or_default();
        entries.retain(|entry| entry.kind != Kind::Bad);
        entries.reverse();
        self.waiting = entries;
    }

    fn is_drained(&self) -> bool {
        let replay = self.adopted.as_ref().and_then(|adopted| adopted.replay.as_ref());
        replay.is_none_or(|replay| replay.flusher.is_idle())
    }

    fn end_replay(&mut self) {
        self.acknowledge();
        if let Some(mut replay) = self.adopted.as_mut().and_then(|adopted| adopted.replay.take()) {
            self.ledger.counters.add(&replay.take_counters());
        }
    }

    fn adopt(&mut self, entry: &Entry, wall: Timestamp) -> Option<Adopted> {
        let mut claim = Claim::adopt(&entry.path).ok().flatten()?;
        let header = match read_header(&claim) {
            Ok(header) if header.owner == self.owner => header,
            // Another project's, another version's: whoever wrote it may come for it. Its age decides.
            Ok(_) | Err(Unreadable::Foreign) => return None,
            Err(Unreadable::Unfinished) => {
                let age = wall.as_unix_micros().saturating_sub(entry.made.as_unix_micros());
                if Duration::from_micros(age) > UNFINISHED_AGE {
                    claim.unlink();
                }
                return None;
            }
            Err(Unreadable::Damaged) => {
                self.put_aside(&mut claim);
                return None;
            }
        };
        let mut attempts = [0; 4];
        claim.read(&mut attempts, ATTEMPTS_AT).ok()?;
        let attempts = u32::from_le_bytes(attempts);
        if attempts >= ATTEMPTS_MAX {
            self.put_aside(&mut claim);
            return None;
        }
        claim.write(&attempts.saturating_add(1).to_le_bytes(), ATTEMPTS_AT).ok()?;
        Some(Adopted { claim, header, next_lane: 0, is_sound: true, replay: None })
    }

    /// Quarantine: out of the way of every later recovery, and there for whoever wants to know.
    fn put_aside(&mut self, claim: &mut Claim) {
        let events = pending(claim);
        self.ledger.recovered = self.ledger.recovered.wrapping_add(events);
        self.ledger.drop_found(DropReason::Damaged, events);
        if claim.rename(claim.path().with_extension(Kind::Bad.extension())).is_err() {
            claim.unlink();
        }
    }

    fn load(&mut self, adopted: &mut Adopted, sending: &Sending) {
        let lane = adopted.next_lane;
        adopted.next_lane += 1;
        let (plan, at) = (adopted.header.plan, adopted.header.plan.lane_at(lane));
        let is_same_boot = adopted.header.boot_id == self.boot_id && self.boot_id != [0; 16];
        if is_same_boot && lane_pending(&adopted.claim, &adopted.header, lane) == Some(0) {
            return;
        }
        let mut page = [0; PAGE_BYTES];
        let checkpoints = match adopted.claim.read(&mut page, plan.checkpoints_at(lane)) {
            Ok(()) => layout::checkpoints_from(&page),
            Err(_) => Vec::new(),
        };
        let trust = if is_same_boot { Trust::Positions } else { Trust::Checkpoints(&checkpoints) };
        let loaded = arena::adopt::<LoadError>(plan.lane_bytes, trust, |bytes| Ok(adopted.claim.read(bytes, at)?));
        let (ends, found) = match loaded {
            Ok(loaded) => loaded,
            // Never formatted, or formatting was cut short: nothing was ever in it.
            Err(LoadError::Ring(RingError::NotARing)) => return,
            Err(LoadError::Io | LoadError::Ring(_)) => {
                adopted.is_sound = false;
                return;
            }
        };
        self.count_found(&adopted.claim, found.events as u64, found.damaged as u64);
        if found.events == 0 {
            return;
        }
        let (envelope, policy, seed) = (sending.envelope.clone(), sending.policy, sending.seed);
        let mut flusher = ends.consumer.map(|consumer| Flusher::new([consumer], envelope, policy, seed));
        // Has waited long enough.
        let _ = flusher.flush();
        if let Some(deadline) = self.deadline {
            flusher.shutdown(deadline);
        }
        // From here on nothing of the file is interpreted any more: an end now is not this file's doing.
        let _ = adopted.claim.write(&0_u32.to_le_bytes(), ATTEMPTS_AT);
        adopted.replay = Some(Replay { flusher, gauge: ends.gauge, at, counted: Counters::default() });
    }

    /// Events that were in a file and are in memory now, or are nothing any more.
    fn count_found(&mut self, claim: &Claim, events: u64, damaged: u64) {
        let found = events.wrapping_add(damaged);
        // Of this client's own segments: not found, but taken up again.
        let own = self.own.get_mut(claim.path()).map_or(0, |left| {
            let resumed = found.min(*left);
            *left -= resumed;
            resumed
        });
        self.ledger.resumed = self.ledger.resumed.wrapping_add(own);
        self.ledger.recovered = self.ledger.recovered.wrapping_add(found - own);
        self.ledger.drop_found(DropReason::Damaged, damaged);
    }

    /// Everything in the file was answered for.
    fn finish(&mut self, mut adopted: Adopted) {
        self.own.remove(adopted.claim.path());
        if adopted.is_sound {
            adopted.claim.unlink();
        } else if attempts(&adopted.claim) >= ATTEMPTS_MAX {
            self.put_aside(&mut adopted.claim);
        }
    }
}

impl Replay {
    /// What was decided since the last call.
    fn take_counters(&mut self) -> Counters {
        let now = *self.flusher.counters();
        let new = now.since(&self.counted);
        self.counted = now;
        new
    }
}

/// The header, or why it is none. A file that cannot be read counts as one that is not finished.
fn read_header(claim: &Claim) -> Result<Header, Unreadable> {
    let len = claim.metadata().map_err(|_| Unreadable::Unfinished)?.len();
    let mut bytes = [0; HEADER_BYTES];
    if len < HEADER_BYTES as u64 {
        return Err(Unreadable::Unfinished);
    }
    claim.read(&mut bytes, 0).map_err(|_| Unreadable::Unfinished)?;
    Header::parse(&bytes, len)
}

fn attempts(claim: &Claim) -> u32 {
    let mut attempts = [0; 4];
    claim.read(&mut attempts, ATTEMPTS_AT).map_or(0, |()| u32::from_le_bytes(attempts))
}

/// Overwrites everything in a dead process's file but the words that say what it was, and removes it.
fn wipe(claim: &Claim, header: &Header) {
    let end = header.plan.file_bytes();
    zero(claim, PAGE_BYTES, end.saturating_sub(PAGE_BYTES));
    claim.unlink();
}

/// Overwrites the frames of this process's file, but not the positions: captures that are under way still use them.
fn wipe_lanes(mapping: &Mapping) {
    let plan = mapping.plan();
    for lane in 0..plan.lanes {
        let at = plan.lane_at(lane).saturating_add(Ring::HEADER_BYTES);
        zero(mapping.claim(), at, plan.lane_bytes.saturating_sub(Ring::HEADER_BYTES));
    }
}

fn zero(claim: &Claim, at: usize, len: usize) {
    const ZEROS: &[u8] = &[0; 64 * 1024];
    for done in (0..len).step_by(ZEROS.len()) {
        let zeros = ZEROS.get(..len - done).unwrap_or(ZEROS);
        let _ = claim.write(zeros, at + done);
    }
}
