//! How much the spool may take: bytes, files, age.
//!
//! In: a look into the directory. Out: fewer files, the oldest gone first, and what that cost in events. Files of living
//! processes are never touched; what of a dead process's file holds no event is given back before any event is dropped.

use core::ops::Range;
use core::time::Duration;
use std::io;
use std::path::Path;

use quillet_core::{Checkpoint, DropReason, Ring, Timestamp};

use super::SpoolOptions;
use super::directory::{Directory, Entry, Kind, disk_bytes};
use super::layout::{self, HEADER_BYTES, Header, LAST_SEEN_AT, PAGE_BYTES, Unreadable};
use super::map::Claim;
use super::platform;

/// Files kept that could not be read, for whoever wants to look into it.
const BAD_FILES_MAX: usize = 3;

/// What a directory may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) bytes: u64,
    pub(crate) files: usize,
    pub(crate) age: Duration,
}

impl Limits {
    pub(crate) fn new(options: &SpoolOptions) -> Self {
        Self { bytes: options.bytes_max, files: options.files_max, age: options.age_max }
    }
}

/// Removes what is too old, and then the oldest, until `needed` bytes more in one more file keep within the limits. `told`
/// hears of each file that went with events in it.
///
/// # Errors
///
/// There is no room even so: living processes have it.
pub(crate) fn make_room(
    directory: &Directory,
    limits: &Limits,
    needed: u64,
    now: Timestamp,
    told: &mut impl FnMut(&Path, u64, DropReason),
) -> io::Result<()> {
    let mut entries = directory.entries()?;
    let mut bad = entries.iter().filter(|entry| entry.kind == Kind::Bad).count();
    entries.retain(|entry| {
        let excess = entry.kind == Kind::Bad && bad > BAD_FILES_MAX;
        let goes = (excess || is_expired(entry, limits, now)) && remove(entry, DropReason::Expired, told);
        bad -= usize::from(goes && entry.kind == Kind::Bad);
        !goes
    });
    let bytes = |entries: &[Entry]| entries.iter().fold(needed, |sum, entry| sum.saturating_add(entry.disk_bytes));
    let extra_files = usize::from(needed > 0);
    if bytes(&entries) > limits.bytes {
        let boot_id = platform::boot_id();
        for entry in &mut entries {
            shrink(entry, boot_id);
        }
    }
    let mut at = 0;
    while bytes(&entries) > limits.bytes || entries.len() + extra_files > limits.files {
        let Some(oldest) = entries.get(at) else { return Err(io::ErrorKind::StorageFull.into()) };
        if remove(oldest, DropReason::SpoolFull, told) {
            entries.remove(at);
        } else {
            at += 1;
        }
    }
    Ok(())
}

/// Whether nothing was added to a file for too long. The name of a ring's says when its process started, which may have
/// been long before it died.
fn is_expired(entry: &Entry, limits: &Limits, now: Timestamp) -> bool {
    let is_old = |then: Timestamp| {
        let age = now.as_unix_micros().saturating_sub(then.as_unix_micros());
        Duration::from_micros(age) > limits.age
    };
    is_old(entry.made)
        && match entry.kind {
            Kind::Ring => {
                // Kept up to date while events come.
                let claim = Claim::adopt(&entry.path).ok().flatten();
                claim.and_then(|claim| last_seen(&claim)).is_none_or(|seen| seen > now || is_old(seen))
            }
            Kind::Segment => is_old(entry.changed),
            Kind::Bad => true,
        }
}

/// Removes a file that no living process has, and tells what was in it. Whether it is gone.
fn remove(entry: &Entry, reason: DropReason, told: &mut impl FnMut(&Path, u64, DropReason)) -> bool {
    if entry.kind == Kind::Bad {
        return std::fs::remove_file(&entry.path).is_ok();
    }
    let Ok(Some(claim)) = Claim::adopt(&entry.path) else { return false };
    let events = pending(&claim);
    claim.unlink();
    told(&entry.path, events, reason);
    true
}

/// Events in a file that nobody has answered for, as its own counts say.
pub(crate) fn pending(claim: &Claim) -> u64 {
    let Ok(header) = header(claim) else { return 0 };
    let lanes = (0..header.plan.lanes).map(|lane| lane_pending(claim, &header, lane).unwrap_or_default());
    lanes.fold(0, u64::wrapping_add)
}

/// The same for one lane; `None` if there is no ring in it.
pub(crate) fn lane_pending(claim: &Claim, header: &Header, lane: usize) -> Option<u64> {
    let mut words = [0; Ring::HEADER_BYTES];
    claim.read(&mut words, header.plan.lane_at(lane)).ok()?;
    Ring::pending_in(&words).map(|pending| pending as u64)
}

/// A file's header, if it has one that is right.
fn header(claim: &Claim) -> Result<Header, Unreadable> {
    let mut bytes = [0; HEADER_BYTES];
    let len = claim.metadata().map_err(|_| Unreadable::Foreign)?.len();
    claim.read(&mut bytes, 0).map_err(|_| Unreadable::Foreign)?;
    Header::parse(&bytes, len)
}

/// Gives back the room of everything that holds no event. A dead process's file is mostly that.
fn shrink(entry: &mut Entry, boot_id: [u8; 16]) {
    let Ok(Some(claim)) = Claim::adopt(&entry.path) else { return };
    match header(&claim) {
        Ok(header) => {
            for lane in 0..header.plan.lanes {
                for unused in unused(&claim, &header, lane, boot_id) {
                    claim.punch(header.plan.lane_at(lane).saturating_add(unused.start), unused.len());
                }
            }
        }
        // Its process was killed while it made it: all room and no event. Or is about to lock it, and sets room aside then.
        Err(Unreadable::Unfinished) => {
            let len = claim.metadata().map_or(0, |metadata| metadata.len());
            claim.punch(0, usize::try_from(len).unwrap_or(0));
        }
        Err(_) => return,
    }
    if let Ok(metadata) = claim.metadata() {
        entry.disk_bytes = disk_bytes(&metadata);
    }
}

/// The pages of a lane that no recovery would look at, counted from the lane's first byte. None if there is no ring in it.
fn unused(claim: &Claim, header: &Header, lane: usize, boot_id: [u8; 16]) -> Vec<Range<usize>> {
    let mut words = [0; Ring::HEADER_BYTES];
    let checkpoints = checkpoints(claim, header, lane);
    let trust = header.trust_in(boot_id, &checkpoints);
    // The first page has the positions, without which the rest is nothing.
    let mut used: Vec<_> = core::iter::once(0..PAGE_BYTES).collect();
    let is_read = claim.read(&mut words, header.plan.lane_at(lane)).is_ok();
    if !is_read || Ring::pending_ranges(&words, trust, |range| used.push(range)).is_err() {
        return Vec::new();
    }
    used.sort_by_key(|range| range.start);
    let (mut unused, mut end) = (Vec::new(), 0);
    for range in used {
        let start = range.start - range.start % PAGE_BYTES;
        if start > end {
            unused.push(end..start.min(header.plan.lane_bytes));
        }
        end = end.max(range.end.checked_next_multiple_of(PAGE_BYTES).unwrap_or(usize::MAX));
    }
    if end < header.plan.lane_bytes {
        unused.push(end..header.plan.lane_bytes);
    }
    unused
}

/// When the process of a ring last looked after it.
pub(crate) fn last_seen(claim: &Claim) -> Option<Timestamp> {
    let mut micros = [0; 8];
    claim.read(&mut micros, LAST_SEEN_AT).ok()?;
    Some(Timestamp::from_unix_micros(u64::from_le_bytes(micros)))
}

/// The records over a lane's stretches.
pub(crate) fn checkpoints(claim: &Claim, header: &Header, lane: usize) -> Vec<Checkpoint> {
    let mut page = [0; PAGE_BYTES];
    match claim.read(&mut page, header.plan.checkpoints_at(lane)) {
        Ok(()) => layout::checkpoints_from(&page),
        Err(_) => Vec::new(),
    }
}
