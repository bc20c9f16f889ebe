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
    ///
    /// # Errors
    ///
    /// Whatever the disk says. Then the segment is what it was before; nothing of what had been written of the frames is
    /// ever taken for an event, also after a power cut.
    pub(super) fn append(&mut self, frames: (&[u8], &[u8]), events: usize) -> io::Result<()> {
        let before = (self.bytes, self.events, self.checkpoints);
        self.try_append(frames, events).inspect_err(|_| {
            let written = before.2..self.checkpoints;
            (self.bytes, self.events, self.checkpoints) = before;
            // Best effort, in blocks that the file has had before. What cannot be taken back could at worst be sent twice.
            for slot in written {
                let _ = self.write_checkpoint(slot, &[0; layout::CHECKPOINT_BYTES]);
            }
            let _ = self.write_counts();
        })
    }

    fn try_append(&mut self, frames: (&[u8], &[u8]), events: usize) -> io::Result<()> {
        for part in [frames.0, frames.1].into_iter().filter(|part| !part.is_empty()) {
            let at = self.plan.lane_at(0) + Ring::HEADER_BYTES + self.bytes;
            self.claim.write(part, at)?;
            let checkpoint = layout::checkpoint_to_bytes(Checkpoint::of(self.bytes, part));
            // Taken before it is written: a write that fails may have happened.
            self.checkpoints += 1;
            self.write_checkpoint(self.checkpoints - 1, &checkpoint)?;
            self.bytes += part.len();
        }
        self.events += events;
        self.write_counts()
    }

    fn write_checkpoint(&self, slot: usize, bytes: &[u8]) -> io::Result<()> {
        self.claim.write(bytes, self.plan.checkpoints_at(0) + slot * layout::CHECKPOINT_BYTES)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use quillet_core::{Common, Event, Stamper, Timestamp, Trust};

    use super::super::{faults, retain};
    use super::*;

    fn frame(n: u64) -> Vec<u8> {
        let (mut out, now) = (vec![0; 512], Timestamp::from_unix_ms(1_795_000_000_000 + n));
        let written = Event::new("e", "somebody").encode(&mut Stamper::new([n, 7]), &Common::default(), now, &mut out);
        out.truncate(written.unwrap().len);
        out.extend_from_slice(b",\n");
        out
    }

    /// The events that somebody finds who believes the positions, and those that one finds who believes checkpoints only.
    fn found(segment: &Segment, header: &Header) -> [(usize, Vec<u8>); 2] {
        let checkpoints = retain::checkpoints(&segment.claim, header, 0);
        [Trust::Positions, Trust::Checkpoints(&checkpoints)].map(|trust| {
            let read = |bytes: &mut [u8]| segment.claim.read(bytes, header.plan.lane_at(0)).map_err(|_| Failed);
            let (ends, found) = crate::arena::adopt::<Failed>(header.plan.lane_bytes, trust, read).unwrap();
            let (first, _) = ends.consumer.slices(ends.consumer.tail(), ends.consumer.head());
            assert_eq!(found.damaged, 0);
            (found.events, first.iter().copied().filter(|byte| *byte != b' ').collect())
        })
    }

    #[derive(Debug)]
    struct Failed;

    impl From<quillet_core::RingError> for Failed {
        fn from(_: quillet_core::RingError) -> Self {
            Self
        }
    }

    /// Whichever write it is that fails, and however far it came: the frames are in the segment once or not at all.
    #[test]
    fn an_append_that_fails_leaves_the_segment_as_it_was() {
        let dir = std::env::temp_dir().join(format!("quillet-segment-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let disk = faults::command(&dir);
        let plan = Segment::plan().unwrap();
        let started = Timestamp::from_unix_ms(1);
        let header = Header { plan, owner: 1, boot_id: [1; 16], started, pid: 1, epoch: 1 };
        // Two parts with a checkpoint each, and the counts.
        for failing in 0..5 {
            let mut segment = Segment::create(&dir.join(format!("{failing}.seg")), header).unwrap();
            let [first, second, third, fourth] = [frame(1), frame(2), frame(3), frame(4)];
            segment.append((&first, &[]), 1).unwrap();
            disk.fail_after_writes(failing);
            assert!(segment.append((&second, &third), 2).is_err(), "write {failing}");
            assert_eq!(found(&segment, &header), [(1, first.clone()), (1, first.clone())], "write {failing}");
            // The same once more, behind what was lost of a shorter one.
            segment.append((&fourth, &[]), 1).unwrap();
            segment.append((&second, &third), 2).unwrap();
            let all = [first, fourth, second, third].concat();
            assert_eq!(found(&segment, &header), [(4, all.clone()), (4, all)], "write {failing}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
