//! Events that outlive their process: the queue in a file, and the way back from such files.
//!
//! In: a directory. Out: memory for the lanes that is a shared file mapping ([`Mapping`]), and what dead processes left in
//! theirs, as batches ([`Recovery`]).
//!
//! ```text
//!  config.rs     what can be set                     directory.rs  names, rights, what is there
//!  layout.rs     what stands where in a file         map.rs        create, lock, map; platform.rs: per system
//!  live.rs       this process's file                 checkpoint.rs checksums, for power cuts
//!  recover.rs    find, adopt, replay, delete         context.rs    what a process says of itself
//!  report.rs     what is said about its death        segment.rs    what had to make room in an outage
//!  retain.rs     how much, how many, how long
//! ```
//!
//! # What is promised
//!
//! A capture that returned *accepted* has stored its event in pages that belong to the file, not to the process: return,
//! exit, panic, abort, a fatal signal, `SIGKILL` and the out-of-memory killer leave them there. Nothing happens at death,
//! so nothing can go wrong then. The next client on the directory, or a living one within a minute, delivers them: the
//! same bytes, so the same uuid, event, distinct id and timestamp. What is sent twice is at most one batch per death, or in
//! an outage the megabyte that was just being moved out of the queue.
//!
//! The file is removed when the server has answered for everything in it, and not before.
//!
//! A file that is cut off while it is in use is left behind, and the queue goes on in memory: see `worker/refuge.rs`.
//!
//! Whatever is found in the directory is read as if an enemy had written it; and nothing that goes wrong here stops the
//! program: without a file the queue is in memory.

#[cfg(not(unix))]
mod absent;
#[cfg(unix)]
mod checkpoint;
mod config;
#[cfg(unix)]
mod context;
#[cfg(unix)]
mod directory;
#[cfg(all(unix, test))]
pub(crate) mod faults;
#[cfg(unix)]
mod layout;
#[cfg(unix)]
mod live;
#[cfg(unix)]
mod map;
#[cfg(unix)]
mod platform;
#[cfg(unix)]
mod recover;
#[cfg(unix)]
mod report;
#[cfg(unix)]
mod retain;
#[cfg(unix)]
mod segment;

use core::time::Duration;

#[cfg(not(unix))]
pub(crate) use absent::{Mapping, Recovery, Replay, SEGMENT_BYTES, Sending, Spool};
pub(crate) use config::SpoolOptions;
#[cfg(unix)]
pub(crate) use layout::fnv;
#[cfg(unix)]
pub(crate) use live::Spool;
#[cfg(unix)]
pub(crate) use map::{Claim, Mapping};
#[cfg(unix)]
pub(crate) use recover::{Answered, Recovery, Replay, Sending};
#[cfg(unix)]
pub(crate) use segment::SEGMENT_BYTES;

use quillet_core::{Counters, DropReason};

/// What accepted events survive: what was reached, not what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Nothing: the queue is memory of the process. No spool was asked for, or none could be had.
    Memory,
    /// The process, however it ends; not the machine. The spool is in a file system in memory.
    Process,
    /// The process, an orderly restart of the machine, and most of a crash of it: what the system has not written to the
    /// disk by then is lost, about the last 30 seconds.
    Reboot,
    /// The same, and a power cut loses no more than the events of this interval, and of a request that is out meanwhile.
    PowerCut(Duration),
}

/// What the spool has to say to the client's counters. Applied all at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ledger {
    /// Events found in files of processes that are gone.
    pub(crate) recovered: u64,
    /// Events of this client that were left in a file and taken up again.
    pub(crate) resumed: u64,
    /// What became of them without a request.
    pub(crate) dropped: [u64; DropReason::COUNT],
    /// What became of them in requests.
    pub(crate) counters: Counters,
}

#[cfg(unix)]
impl Ledger {
    pub(crate) fn drop_found(&mut self, reason: DropReason, events: u64) {
        if let Some(counter) = self.dropped.get_mut(reason.index()) {
            *counter = counter.wrapping_add(events);
        }
    }
}
