//! Spool files as bytes: what stands where, said once more and independently, so that a change of the layout is noticed.

use std::fs;
use std::path::Path;

pub const PAGE: usize = 4096;
pub const HEADER: usize = 256;
pub const MAJOR_AT: usize = 8;
pub const LANE_BYTES_AT: usize = 32;
pub const FILE_BYTES_AT: usize = 40;
pub const BOOT_ID_AT: usize = 56;
pub const ATTEMPTS_AT: usize = PAGE + 4;
pub const CHECKPOINTS_AT: usize = 22 * PAGE;
/// Rings of a client: eight lanes, and one for crashes.
pub const RINGS: usize = 9;
pub const LANES_AT: usize = CHECKPOINTS_AT + RINGS * PAGE;
/// Words of a ring: its capacity, where its head is, and its first byte.
pub const CAPACITY_WORD: usize = 2 * 8;
pub const HEAD_WORD: usize = 3 * 8;
pub const RING_HEADER: usize = 256;

/// A spool file in memory.
pub struct Image(pub Vec<u8>);

impl Image {
    pub fn read(path: &Path) -> Self {
        Self(fs::read(path).unwrap())
    }

    pub fn write(&self, path: &Path) {
        fs::write(path, &self.0).unwrap();
    }

    fn word(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    pub fn set(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Makes the header's checksum right again.
    pub fn seal(&mut self) {
        let crc = quillet::crc32c(0, &self.0[8..HEADER - 4]);
        self.set(HEADER - 4, &crc.to_le_bytes());
    }

    /// As a machine finds it after it has started again.
    pub fn after_a_reboot(mut self) -> Self {
        self.set(BOOT_ID_AT, &[7; 16]);
        self.seal();
        self
    }

    /// Whether checkpoints cover everything in the first lane.
    pub fn is_covered(&self) -> bool {
        let records = self.0[CHECKPOINTS_AT..][..PAGE].chunks(32).map(|record| {
            let word = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().unwrap());
            word(0) + word(8)
        });
        records.max() == Some(self.word(LANES_AT + HEAD_WORD))
    }

    /// Where the frames of the first lane begin, and what they are. The lane must not have wrapped.
    pub fn frames(&self) -> (usize, &[u8]) {
        let at = LANES_AT + RING_HEADER;
        (at, &self.0[at..][..self.word(LANES_AT + HEAD_WORD) as usize])
    }
}
