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
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quillet_core::{Action, Counters, DropReason, Envelope, Flusher, Gauge, Instant, Outcome, Policy, Report};
use quillet_core::{Recovered, Ring, RingError, Timestamp, Trust, is_frame};

use super::Ledger;
use super::checkpoint::Checkpoints;
use super::directory::{Directory, Entry, Kind};
use super::layout::{
    self, ATTEMPTS_AT, HEADER_BYTES, Header, LAST_SEEN_AT, PAGE_BYTES, STATE_AT, STATE_CLEAN, Unreadable,
};
use super::map::{Claim, Mapping};
use super::report::Dead;
use super::retain::{Limits, checkpoints, lane_pending, make_room, pending};
use super::segment::Segment;
use crate::arena::{self, Ends, Held};
use crate::crash::{Leftovers as CrashFiles, crash_frame};

/// When the directory is looked at again, from the start on; the last one repeats.
const SCANS: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(25), Duration::from_secs(60)];

/// Recoveries that may begin to read a file and not come to the end of it. The next one puts it aside.
const ATTEMPTS_MAX: u32 = 3;

/// How old a file without an owner must be before its lack of a header means that it will never get one. It has an owner
/// from the moment after it is made, and its room is set aside only then: in a crash loop that room would add up.
const UNFINISHED_AGE: Duration = Duration::from_secs(2);

/// What is needed to send what is found: the client's own envelope and patience.
pub(crate) struct Sending {
    pub(crate) envelope: Envelope,
    pub(crate) policy: Policy,
    pub(crate) seed: [u64; 2],
}

/// Called when every event of what was found elsewhere is answered for.
pub(crate) type Answered = Box<dyn FnOnce() + Send>;

/// Looks for files whose owners are gone, and turns them into batches. Also looks after this process's own file.
pub(crate) struct Recovery {
    /// `None`: there is no spool, and only crash files are looked for.
    directory: Option<Directory>,
    limits: Limits,
    live: Option<Live>,
    /// What new files say about where they come from.
    origin: Header,
    report_unclean_end: bool,
    scans: usize,
    next_scan: Instant,
    /// Found by the last scan, the oldest last.
    waiting: Vec<Entry>,
    adopted: Option<Adopted>,
    /// Where files of processes without a spool are looked for.
    crash_files: Option<CrashFiles>,
    pushed: VecDeque<(Vec<u8>, Answered)>,
    /// To be called when what is in `replay` is answered for, which is no lane's of the adopted file then.
    pushed_now: Option<Answered>,
    /// What is being sent, of what was found. `None` also while it is [out](Recovery::take_out).
    replay: Option<Replay>,
    /// The segment that is being written.
    segment: Option<Segment>,
    /// Segments of this client's own, and how many events were left in each.
    own: BTreeMap<PathBuf, u64>,
    ledger: Ledger,
    deadline: Option<Instant>,
}

/// This process's own file.
pub(super) struct Live {
    pub(super) mapping: Arc<Mapping>,
    pub(super) checkpoints: Checkpoints,
    /// How often the checkpoints are brought up to date; `None` where no power cut leaves anything.
    pub(super) interval: Option<Duration>,
    /// Whether everything is written to the disk then.
    pub(super) is_synced: bool,
    pub(super) next: Instant,
}

/// A file that is being read.
struct Adopted {
    claim: Claim,
    header: Header,
    is_reported: bool,
    next_lane: usize,
    /// Nothing in it was wrong so far.
    is_sound: bool,
}

/// Events in memory, to be sent.
pub(crate) struct Replay {
    flusher: Held<Flusher<'static, 1>>,
    gauge: Held<Gauge<'static>>,
    /// Where their lane is in the file; `None` if they are no lane's.
    at: Option<usize>,
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
        directory: Option<Directory>,
        limits: Limits,
        origin: Header,
        live: Option<Live>,
        report_unclean_end: bool,
        ledger: Ledger,
    ) -> Self {
        Self {
            directory,
            limits,
            live,
            origin,
            report_unclean_end,
            scans: 0,
            next_scan: Instant::ZERO,
            waiting: Vec::new(),
            adopted: None,
            crash_files: None,
            pushed: VecDeque::new(),
            pushed_now: None,
            replay: None,
            segment: None,
            own: BTreeMap::new(),
            ledger,
            deadline: None,
        }
    }

    /// The same, or if there is no spool one without, that also looks for crash files. `None` if there is neither.
    pub(crate) fn with_crash_files(spool: Option<Self>, crash_files: Option<CrashFiles>) -> Option<Self> {
        let Some(files) = crash_files else { return spool };
        let nothing = Header {
            plan: Segment::plan()?,
            owner: 0,
            boot_id: [0; 16],
            started: Timestamp::from_unix_micros(0),
            pid: 0,
            epoch: 0,
        };
        let limits = Limits { bytes: 0, files: 0, age: Duration::ZERO };
        let without = || Self::new(None, limits, nothing, None, false, Ledger::default());
        Some(Self { crash_files: Some(files), ..spool.unwrap_or_else(without) })
    }

    /// Reads, removes and adopts files until there is something to send, or nothing more to be found. Blocks on the disk.
    /// Says when to look again. Not to be called while live events cannot be delivered.
    pub(crate) fn work(&mut self, now: Instant, wall: Timestamp, sending: &Sending) -> Instant {
        if self.segment.take().is_some() {
            // Delivery works again. What had to make room is like any other file now.
            self.next_scan = now;
        }
        if now >= self.next_scan {
            self.scan(now, wall);
        }
        loop {
            if let Some(replay) = &self.replay {
                if !replay.flusher.is_idle() {
                    return self.next_scan;
                }
                self.end_replay();
            } else if let Some((frames, answered)) = self.pushed.pop_front() {
                self.replay = self.replay_of(&frames, sending);
                self.pushed_now = self.replay.is_some().then_some(answered);
            } else if let Some(mut adopted) = self.adopted.take() {
                if !adopted.is_reported {
                    adopted.is_reported = true;
                    self.replay = self.report(&adopted, sending);
                } else if adopted.next_lane < adopted.header.plan.lanes {
                    self.load(&mut adopted, sending);
                } else {
                    self.finish(adopted);
                    continue;
                }
                if self.replay.is_some() {
                    // Nothing more of the file is interpreted for now: an end from here on is not this file's doing.
                    let _ = adopted.claim.write(&0_u32.to_le_bytes(), ATTEMPTS_AT);
                }
                self.adopted = Some(adopted);
            } else if let Some(entry) = self.waiting.pop() {
                self.adopted = self.adopt(&entry, wall);
            } else {
                return self.next_scan;
            }
        }
    }

    /// What to send of what was found, if there is anything. It is a copy, so that everything on the disk can be erased
    /// while a request with it is out. To be [put back](Self::put_back).
    pub(crate) fn take_out(&mut self) -> Option<Replay> {
        self.replay.take()
    }

    /// Goes on with what was taken out, now that a part of it may be answered for.
    pub(crate) fn put_back(&mut self, replay: Replay) {
        self.replay = Some(replay);
    }

    /// Writes into the file what the last outcome released. Only after the server's answer: the other order could lose a
    /// batch, this one can only send it again.
    pub(crate) fn acknowledge(&mut self) {
        let Some(adopted) = self.adopted.as_mut().filter(|_| self.pushed_now.is_none()) else { return };
        let Some(replay) = &self.replay else { return };
        let written = match replay.at {
            Some(at) => adopted.claim.write(&replay.gauge.released_words(), at + Ring::RELEASED_AT),
            None if replay.flusher.is_idle() => Dead::forget(&adopted.claim, &adopted.header),
            None => Ok(()),
        };
        adopted.is_sound &= written.is_ok();
    }

    /// What to count, since the last call; and events that are loaded and not decided about.
    pub(crate) fn settle(&mut self) -> (Ledger, u64) {
        let mut ledger = core::mem::take(&mut self.ledger);
        let mut pending = 0;
        if let Some(replay) = &mut self.replay {
            ledger.counters.add(&replay.take_counters());
            pending = replay.flusher.pending() as u64;
        }
        (ledger, pending)
    }

    /// From now on, nothing is waited for.
    pub(crate) fn shutdown(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
        if let Some(replay) = &mut self.replay {
            replay.flusher.shutdown(deadline);
        }
    }

    /// Whether events that are left in the lanes outlive the process: there is a file, and it can still be found.
    pub(crate) fn is_keeping(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.mapping.claim().is_linked() && live.mapping.is_whole())
    }

    /// Brings the checkpoints up to date, if it is time or `at_once`. Says when it is time again, if that cannot wait for
    /// the next event: somebody wants to know what a power cut costs.
    pub(crate) fn cover<const LANES: usize>(
        &mut self,
        now: Instant,
        wall: Timestamp,
        flusher: &Flusher<'_, LANES>,
        at_once: bool,
    ) -> Instant {
        let Some(live) = &mut self.live else { return Instant::NEVER };
        if now < live.next && !at_once {
            return if live.is_synced { live.next } else { Instant::NEVER };
        }
        let claim = live.mapping.claim();
        let _ = claim.write(&wall.as_unix_micros().to_le_bytes(), LAST_SEEN_AT);
        let Some(interval) = live.interval else {
            live.next = now.after(Duration::from_secs(1));
            return Instant::NEVER;
        };
        live.next = now.after(interval);
        let is_news = live.checkpoints.cover(flusher, live.mapping.plan(), claim).unwrap_or(true);
        if !live.is_synced {
            return Instant::NEVER;
        }
        if is_news {
            let _ = live.mapping.sync();
        }
        live.next
    }

    /// Puts frames that have to make room into a segment. Whether they are there now.
    pub(crate) fn keep(&mut self, frames: (&[u8], &[u8]), events: usize, wall: Timestamp, random: u64) -> bool {
        let bytes = frames.0.len() + frames.1.len();
        if self.segment.as_ref().is_some_and(|segment| !segment.has_room(bytes)) {
            self.segment = None;
        }
        if self.segment.is_none() {
            self.segment = self.new_segment(wall, random);
        }
        let is_synced = self.live.as_ref().is_some_and(|live| live.is_synced);
        let Some(segment) = &mut self.segment else { return false };
        if segment.append(frames, events).is_err() {
            return false;
        }
        if is_synced {
            let _ = segment.sync();
        }
        *self.own.entry(segment.path().to_owned()).or_default() += events as u64;
        true
    }

    /// Leaves what is not answered for the next start. This process's own file goes, if nothing `is_left` in it.
    pub(crate) fn close(&mut self, is_left: bool) {
        if self.pushed_now.is_some() && self.replay.as_ref().is_some_and(|replay| replay.flusher.is_idle()) {
            self.end_replay();
        }
        self.forget();
        if let Some(own) = &self.live {
            let _ = own.mapping.claim().write(&STATE_CLEAN.to_le_bytes(), STATE_AT);
            if !is_left {
                own.mapping.claim().unlink();
            }
        }
    }

    /// Lets go of everything that was found.
    fn forget(&mut self) {
        self.pushed.clear();
        self.pushed_now = None;
        self.replay = None;
        self.adopted = None;
        self.segment = None;
        self.waiting.clear();
    }

    /// Removes every file that no other living process has, its bytes overwritten; this process's own too, which keeps
    /// nothing from then on. What a request that is out was made of is a copy, and stays whole.
    pub(crate) fn erase(&mut self) {
        if let Some(adopted) = self.adopted.take() {
            wipe(&adopted.claim, &adopted.header);
        }
        self.forget();
        if let Some(files) = &self.crash_files {
            files.erase();
        }
        if let Some(own) = self.live.take() {
            wipe_lanes(&own.mapping);
            own.mapping.claim().unlink();
        }
        let entries = self.directory.as_ref().and_then(|directory| directory.entries().ok());
        for entry in entries.unwrap_or_default() {
            if let Ok(Some(claim)) = Claim::adopt(&entry.path) {
                match read_header(&claim) {
                    Ok(header) => wipe(&claim, &header),
                    Err(_) => claim.unlink(),
                }
            }
        }
    }

    /// This process has no file of its own after all, or none any more.
    pub(crate) fn give_up(&mut self) {
        if let Some(live) = self.live.take() {
            live.mapping.claim().unlink();
        }
    }

    fn new_segment(&mut self, wall: Timestamp, random: u64) -> Option<Segment> {
        let plan = Segment::plan()?;
        self.make_room(plan.file_bytes() as u64, wall).ok()?;
        let header = Header { plan, started: wall, epoch: random, ..self.origin };
        let directory = self.directory.as_ref()?;
        let segment = Segment::create(&directory.name(wall, random, Kind::Segment), header).ok()?;
        if self.live.as_ref().is_some_and(|live| live.is_synced) {
            // Or after a power cut the file might not be there, and its events are nowhere else.
            let _ = directory.sync();
        }
        Some(segment)
    }

    fn make_room(&mut self, needed: u64, wall: Timestamp) -> io::Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let (own, ledger) = (&mut self.own, &mut self.ledger);
        make_room(directory, &self.limits, needed, wall, &mut |path, events, reason| {
            count_found(own, ledger, path, events);
            own.remove(path);
            ledger.drop_found(reason, events);
        })
    }

    fn scan(&mut self, now: Instant, wall: Timestamp) {
        let wait = SCANS.get(self.scans).or(SCANS.last()).copied().unwrap_or_default();
        self.scans = self.scans.saturating_add(1);
        self.next_scan = now.after(wait);
        // What this cannot make room for belongs to living processes.
        let _ = self.make_room(0, wall);
        let entries = self.directory.as_ref().and_then(|directory| directory.entries().ok());
        let mut entries = entries.unwrap_or_default();
        entries.retain(|entry| entry.kind != Kind::Bad);
        entries.reverse();
        self.waiting = entries;
        let (crash_files, removed) = self.crash_files.as_ref().map(CrashFiles::take).unwrap_or_default();
        self.ledger.recovered = self.ledger.recovered.wrapping_add(removed);
        self.ledger.drop_found(DropReason::SpoolFull, removed);
        self.pushed.extend(crash_files);
    }

    fn end_replay(&mut self) {
        self.acknowledge();
        if let Some(mut replay) = self.replay.take() {
            self.ledger.counters.add(&replay.take_counters());
        }
        if let Some(answered) = self.pushed_now.take() {
            answered();
        }
    }

    fn adopt(&mut self, entry: &Entry, wall: Timestamp) -> Option<Adopted> {
        let mut claim = Claim::adopt(&entry.path).ok().flatten()?;
        let header = match read_header(&claim) {
            Ok(header) if header.owner == self.origin.owner => header,
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
        // Whoever read it before may have been killed by chance: in a crash loop, three times by chance. So it is read again
        // only by a process that has lived for a while, at the second look, or the third.
        if attempts as usize >= self.scans {
            return None;
        }
        claim.write(&attempts.saturating_add(1).to_le_bytes(), ATTEMPTS_AT).ok()?;
        Some(Adopted { claim, header, is_reported: false, next_lane: 0, is_sound: true })
    }

    /// Quarantine: out of the way of every later recovery, and there for whoever wants to know.
    fn put_aside(&mut self, claim: &mut Claim) {
        let events = pending(claim);
        count_found(&mut self.own, &mut self.ledger, claim.path(), events);
        self.ledger.drop_found(DropReason::Damaged, events);
        if claim.rename(claim.path().with_extension(Kind::Bad.extension())).is_err() {
            claim.unlink();
        }
    }

    fn load(&mut self, adopted: &mut Adopted, sending: &Sending) {
        let lane = adopted.next_lane;
        adopted.next_lane += 1;
        let (plan, at) = (adopted.header.plan, adopted.header.plan.lane_at(lane));
        if adopted.header.is_of_boot(self.origin.boot_id)
            && lane_pending(&adopted.claim, &adopted.header, lane) == Some(0)
        {
            return;
        }
        let checkpoints = checkpoints(&adopted.claim, &adopted.header, lane);
        let trust = adopted.header.trust_in(self.origin.boot_id, &checkpoints);
        let (ends, found) = match read_lane(&adopted.claim, at, plan.lane_bytes, trust) {
            Ok(loaded) => loaded,
            // Never formatted, or formatting was cut short: nothing was ever in it.
            Err(LoadError::Ring(RingError::NotARing)) => return,
            Err(LoadError::Io | LoadError::Ring(_)) => {
                adopted.is_sound = false;
                return;
            }
        };
        let (events, damaged) = (found.events as u64, found.damaged as u64);
        count_found(&mut self.own, &mut self.ledger, adopted.claim.path(), events.wrapping_add(damaged));
        self.ledger.drop_found(DropReason::Damaged, damaged);
        if events == 0 {
            return;
        }
        self.replay = Some(self.replay(ends, Some(at), sending));
    }

    /// What there is to say about the process itself.
    fn report(&mut self, adopted: &Adopted, sending: &Sending) -> Option<Replay> {
        let dead = Dead::of(&adopted.claim, &adopted.header)?;
        let mut pages = [0; layout::CRASH_SLOTS * layout::CRASH_BYTES];
        adopted.claim.read(&mut pages, adopted.header.plan.crash_at()?).ok()?;
        let frame = crash_frame(&pages, (&dead.common, &dead.person), dead.is_clean)
            .or_else(|| if self.report_unclean_end { dead.unclean_end() } else { None });
        self.replay_of(&frame?, sending)
    }

    /// Frames as something to send, if there are any among these bytes.
    fn replay_of(&mut self, frames: &[u8], sending: &Sending) -> Option<Replay> {
        // Half of a ring is the longest grant, and no frame is longer than all of them.
        let [mut ends] = arena::lanes::<1>(frames.len().saturating_mul(2))?;
        let mut events = 0;
        for frame in frames.split_inclusive(|&byte| byte == b'\n').filter(|frame| is_frame(frame)) {
            let Ok(mut grant) = ends.producer.grant(frame.len()) else { continue };
            grant.bytes_mut().copy_from_slice(frame);
            grant.commit(frame.len());
            events += 1;
        }
        self.ledger.recovered = self.ledger.recovered.wrapping_add(events);
        (events > 0).then(|| self.replay(ends, None, sending))
    }

    fn replay(&self, ends: Ends, at: Option<usize>, sending: &Sending) -> Replay {
        let (envelope, policy, seed) = (sending.envelope.clone(), sending.policy, sending.seed);
        let mut flusher = ends.consumer.map(|consumer| Flusher::new([consumer], envelope, policy, seed));
        // Has waited long enough.
        let _ = flusher.flush();
        if let Some(deadline) = self.deadline {
            flusher.shutdown(deadline);
        }
        Replay { flusher, gauge: ends.gauge, at, counted: Counters::default() }
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
    /// What to send of it now.
    pub(crate) fn poll(&mut self, now: Instant) -> Action<'_> {
        self.flusher.poll(now)
    }

    /// Takes note of what came of the batch that [`poll`](Self::poll) gave.
    pub(crate) fn handle_outcome(&mut self, now: Instant, outcome: Outcome) -> Report {
        self.flusher.handle_outcome(now, outcome)
    }

    /// What was decided since the last call.
    fn take_counters(&mut self) -> Counters {
        let now = *self.flusher.counters();
        let new = now.since(&self.counted);
        self.counted = now;
        new
    }
}

/// Counts events that were in a file and are in memory now, or are nothing any more. Those of this client's own segments
/// were not found, but are taken up again.
fn count_found(own: &mut BTreeMap<PathBuf, u64>, ledger: &mut Ledger, path: &Path, events: u64) {
    let resumed = own.get_mut(path).map_or(0, |left| {
        let resumed = events.min(*left);
        *left -= resumed;
        resumed
    });
    ledger.resumed = ledger.resumed.wrapping_add(resumed);
    ledger.recovered = ledger.recovered.wrapping_add(events - resumed);
}

/// The ring of a lane and what is left in it. Its header is looked at before there is memory for the rest, and of the rest
/// is read, and so takes memory, only what may hold events: a file can say that it is large without taking any disk.
fn read_lane(claim: &Claim, at: usize, bytes: usize, trust: Trust<'_>) -> Result<(Ends, Recovered), LoadError> {
    let (mut words, mut ranges) = ([0; Ring::HEADER_BYTES], Vec::new());
    claim.read(&mut words, at)?;
    Ring::pending_ranges(&words, trust, |range| ranges.push(range))?;
    arena::adopt(bytes, trust, |copy| {
        let header = copy.get_mut(..words.len()).ok_or(RingError::Damaged)?;
        header.copy_from_slice(&words);
        for range in ranges {
            let offset = at.checked_add(range.start).ok_or(RingError::Damaged)?;
            claim.read(copy.get_mut(range).ok_or(RingError::Damaged)?, offset)?;
        }
        Ok(())
    })
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
    // What every event says, and records of signals.
    zero(mapping.claim(), 2 * PAGE_BYTES, plan.lane_at(0).saturating_sub(2 * PAGE_BYTES));
    for lane in 0..plan.lanes {
        let at = plan.lane_at(lane).saturating_add(Ring::HEADER_BYTES);
        zero(mapping.claim(), at, plan.lane_bytes.saturating_sub(Ring::HEADER_BYTES));
    }
}

/// What is zero already, in a file that is mostly holes, takes no room on the disk and shall not begin to.
fn zero(claim: &Claim, at: usize, len: usize) {
    const ZEROS: &[u8] = &[0; 64 * 1024];
    let mut found = vec![0; ZEROS.len()];
    for done in (0..len).step_by(ZEROS.len()) {
        let zeros = ZEROS.get(..len - done).unwrap_or(ZEROS);
        let found = found.get_mut(..zeros.len()).unwrap_or_default();
        if claim.read(found, at + done).is_err() || found != zeros {
            let _ = claim.write(zeros, at + done);
        }
    }
}
