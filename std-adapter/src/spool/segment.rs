//! Events that had to make room in an outage: files of frames, written front to back.
//!
//! In: the oldest frames of a lane that is filling up while nothing can be delivered. Out: the same bytes in a file, so that
//! the lane can forget them. A segment has the layout of a spool file with a single lane that is never read from while it
//! is written, so whoever recovers one need not know the difference.
//!
//! Nothing here is mapped: a full disk is an error of `write`, and the frames stay where they are.

use std::io;
use std::path::Path;

use quillet_core::{Checkpoint, Ring};

use super::layout::{self, Header, Plan};
use super::map::Claim;

/// Bytes of frames in a segment.
pub(crate) const SEGMENT_BYTES: usize = 1024 * 1024;

/// A segment that is being written.
pub(super) struct Segment {
    claim: Claim,
    plan: Plan,
    /// Bytes of frames, and how many frames.
    bytes: usize,
    events: usize,
    /// Slots of checkpoints that are taken.
    checkpoints: usize,
}

impl Segment {
    /// A plan for segments, the same for all.
    pub(super) fn plan() -> Option<Plan> {
        Plan::new(1, SEGMENT_BYTES, false)
    }

    /// A new and empty segment. Leaves no file behind if that fails.
    pub(super) fn create(path: &Path, header: Header) -> io::Result<Self> {
        let claim = Claim::create(path)?;
        let segment = Self { claim, plan: header.plan, bytes: 0, events: 0, checkpoints: 0 };
        let written = segment
            .claim
            .set_len(header.plan.file_bytes())
            .and_then(|()| segment.write_counts())
            .and_then(|()| segment.claim.write(&header.to_bytes(), 0))
            .and_then(|()| segment.claim.write(layout::magic(), 0));
        written.inspect_err(|_| segment.claim.unlink()).map(|()| segment)
    }

    pub(super) fn path(&self) -> &Path {
        self.claim.path()
    }

    /// Whether so many bytes more fit.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.bytes.saturating_add(bytes) <= SEGMENT_BYTES && self.checkpoints + 2 <= layout::CHECKPOINTS
    }

    /// Adds frames at the end. They count from the moment the counts are written; until then they are nothing.
    pub(super) fn append(&mut self, frames: (&[u8], &[u8]), events: usize) -> io::Result<()> {
        let start = self.bytes;
        for part in [frames.0, frames.1].into_iter().filter(|part| !part.is_empty()) {
            let at = self.plan.lane_at(0) + Ring::HEADER_BYTES + self.bytes;
            self.claim.write(part, at)?;
            let checkpoint = layout::checkpoint_to_bytes(Checkpoint::of(self.bytes, part));
            self.claim.write(&checkpoint, self.plan.checkpoints_at(0) + self.checkpoints * layout::CHECKPOINT_BYTES)?;
            self.bytes += part.len();
            self.checkpoints += 1;
        }
        self.events += events;
        self.write_counts().inspect_err(|_| {
            self.bytes = start;
            self.events -= events;
        })
    }

    /// Has everything on the disk when it returns.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.claim.sync()
    }

    fn write_counts(&self) -> io::Result<()> {
        let header = Ring::header_of(SEGMENT_BYTES, self.bytes, self.events);
        self.claim.write(&header, self.plan.lane_at(0))
    }
}
