//! Checksums over what is committed, for the day the power fails.
//!
//! In: what lanes hold, from time to time, on the flush thread. Out: records in the pages of checkpoints. The death of a
//! process needs none of this. But a kernel that dies has written some pages and not others, in no order, and then only
//! bytes that a checksum vouches for can be told from what was in their place a lap ago.
//!
//! A stretch grows until it is a small part of the lane, then the next one begins. While it grows, its record alternates
//! between two slots: one that is torn leaves the one before, which says less but no less true.

use std::io;

use quillet_core::{Checkpoint, Flusher};

use super::layout::{CHECKPOINT_BYTES, CHECKPOINTS, Plan, checkpoint_to_bytes};
use super::map::Claim;

/// Stretches of a lane: a few more than can be between its tail and its head.
const PAIRS: usize = CHECKPOINTS / 2;
/// What part of a lane a stretch is at most, unless a single frame is larger.
const STRETCHES_PER_LANE: usize = 24;

/// How far one lane is covered.
#[derive(Clone, Copy, Debug, Default)]
struct Covered {
    /// The stretch that grows.
    last: Option<Checkpoint>,
    /// Where the next one begins.
    to: usize,
    /// Counts records and stretches, to know the slot.
    records: usize,
    stretches: usize,
}

/// Keeps the checkpoints of one file.
pub(super) struct Checkpoints {
    lanes: Vec<Covered>,
}

impl Checkpoints {
    pub(super) fn new(lanes: usize) -> Self {
        Self { lanes: vec![Covered::default(); lanes] }
    }

    /// Covers everything committed by now. Whether there was anything that was not.
    pub(super) fn cover<const LANES: usize>(
        &mut self,
        flusher: &Flusher<'_, LANES>,
        plan: &Plan,
        claim: &Claim,
    ) -> io::Result<bool> {
        let mut is_news = false;
        for (at, covered) in self.lanes.iter_mut().enumerate() {
            let Some(lane) = flusher.lane(at) else { continue };
            let stretch_max = lane.capacity() / STRETCHES_PER_LANE;
            for (from, bytes) in lane.stretches_since(covered.to) {
                let (mut from, mut rest) = (from, bytes);
                while !rest.is_empty() {
                    let (piece, behind) = rest.split_at(piece_len(rest, stretch_max));
                    let record = covered.extend(from, piece, stretch_max, from & (lane.capacity() - 1) == 0);
                    let slot = 2 * (covered.stretches % PAIRS) + covered.records % 2;
                    claim.write(&checkpoint_to_bytes(record), plan.checkpoints_at(at) + slot * CHECKPOINT_BYTES)?;
                    is_news = true;
                    (from, rest) = (from.wrapping_add(piece.len()), behind);
                    covered.to = from;
                }
            }
        }
        Ok(is_news)
    }
}

impl Covered {
    /// The record for a piece: of the growing stretch and it, or of it alone.
    fn extend(&mut self, from: usize, piece: &[u8], stretch_max: usize, begins_lap: bool) -> Checkpoint {
        let grows = self.last.filter(|last| {
            !begins_lap && last.from.wrapping_add(last.bytes) == from && last.bytes + piece.len() <= stretch_max
        });
        self.records = self.records.wrapping_add(1);
        let record = match grows {
            Some(last) => last.extended(piece),
            None => {
                self.stretches = self.stretches.wrapping_add(1);
                Checkpoint::of(from, piece)
            }
        };
        self.last = Some(record);
        record
    }
}

/// As many whole frames as fit into `max` bytes; one at least.
fn piece_len(frames: &[u8], max: usize) -> usize {
    let Some(fitting) = frames.get(..max) else { return frames.len() };
    let end = |bytes: &[u8]| bytes.iter().rposition(|&byte| byte == b'\n').map(|newline| newline + 1);
    let first = || frames.iter().position(|&byte| byte == b'\n').map_or(frames.len(), |newline| newline + 1);
    end(fitting).unwrap_or_else(first)
}
