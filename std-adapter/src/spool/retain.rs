//! How much the spool may take: bytes, files, age.
//!
//! In: a look into the directory. Out: fewer files, the oldest gone first, and what that cost in events. Files of living
//! processes are never touched; what of a dead process's file holds no event is given back before any event is dropped.

use core::time::Duration;
use std::io;
use std::path::Path;

use quillet_core::{DropReason, Ring, Timestamp};

use super::SpoolOptions;
use super::directory::{Directory, Entry, Kind, disk_bytes};
use super::layout::{HEADER_BYTES, Header, PAGE_BYTES};
use super::map::Claim;

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
        for entry in &mut entries {
            shrink(entry);
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

/// Whether a file has waited for too long.
pub(crate) fn is_expired(entry: &Entry, limits: &Limits, now: Timestamp) -> bool {
    let age = now.as_unix_micros().saturating_sub(entry.made.as_unix_micros());
    Duration::from_micros(age) > limits.age
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
    let Some(header) = header(claim) else { return 0 };
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
fn header(claim: &Claim) -> Option<Header> {
    let mut bytes = [0; HEADER_BYTES];
    claim.read(&mut bytes, 0).ok()?;
    Header::parse(&bytes, claim.metadata().ok()?.len()).ok()
}

/// Gives back the room of lanes in which nothing is pending. A dead process's file is mostly that.
fn shrink(entry: &mut Entry) {
    let Ok(Some(claim)) = Claim::adopt(&entry.path) else { return };
    let Some(header) = header(&claim) else { return };
    for lane in 0..header.plan.lanes {
        if lane_pending(&claim, &header, lane) == Some(0) {
            // But for the page with the counts, which say that nothing is there.
            let at = header.plan.lane_at(lane).saturating_add(PAGE_BYTES);
            claim.punch(at, header.plan.lane_bytes.saturating_sub(PAGE_BYTES));
        }
    }
    if let Ok(metadata) = claim.metadata() {
        entry.disk_bytes = disk_bytes(&metadata);
    }
}
