//! What stands where in a spool file.
//!
//! In: the number of lanes and their size. Out: a [`Plan`], the bytes of its header, and the way back from bytes that
//! nobody vouches for. No files, no memory of others, no `unsafe`.
//!
//! ```text
//!  page 0       header, written once, magic last: version, sizes, whose file it is, in which boot it was made
//!  page 1       control: state, attempts at recovery
//!  page 2..17   context: two slots of 32 KiB, what every event of this process says, for whoever describes its death
//!  page 18..21  crash slots: 4 × 4 KiB, for the handlers of fatal signals
//!  page 22..    checkpoints: one page for each lane
//!  then         lanes: rings of the core, each with its own header, each a whole number of pages
//! ```
//!
//! A segment is the same without context and crash slots: one lane that was written front to back.
//!
//! Little-endian, except for the rings' own words and the tag that says so: a machine of the other kind leaves the file
//! alone. Another major version does so too.

use quillet_core::{Checkpoint, Ring, Timestamp, Trust, crc32c};

/// Everything begins at a multiple of this.
pub(crate) const PAGE_BYTES: usize = 4096;

const MAGIC: &[u8; 8] = b"PHSPOOL1";
const MAJOR: u16 = 1;
const MINOR: u16 = 0;
/// Stored in the machine's own order.
const ENDIAN_TAG: u32 = 0x0a0b_0c0d;
/// Bytes of the header, its checksum the last four.
pub(crate) const HEADER_BYTES: usize = 256;

/// Where the state of the process is: [`STATE_RUNNING`] until it shuts down in order.
pub(crate) const STATE_AT: usize = PAGE_BYTES;
pub(crate) const STATE_RUNNING: u32 = 1;
pub(crate) const STATE_CLEAN: u32 = 2;
/// Where the number of recoveries is that began to read this file and did not come to the end of it.
pub(crate) const ATTEMPTS_AT: usize = PAGE_BYTES + 4;

/// When the process last looked after its queue, in microseconds since 1970.
pub(crate) const LAST_SEEN_AT: usize = PAGE_BYTES + 8;

const CONTEXT_AT: usize = 2 * PAGE_BYTES;
/// Slots of context; the one with the higher number is the newer.
pub(crate) const CONTEXT_SLOTS: usize = 2;
pub(crate) const CONTEXT_BYTES: usize = 32 * 1024;

const CRASH_AT: usize = CONTEXT_AT + CONTEXT_SLOTS * CONTEXT_BYTES;
/// Slots for crash records.
pub(crate) const CRASH_SLOTS: usize = 4;
pub(crate) const CRASH_BYTES: usize = PAGE_BYTES;

/// Checkpoints of a lane: as many as fit a page.
pub(crate) const CHECKPOINTS: usize = PAGE_BYTES / CHECKPOINT_BYTES;
pub(crate) const CHECKPOINT_BYTES: usize = 32;

/// Most lanes a file may have.
const LANES_MAX: usize = 256;
/// Longest lane: a gigabyte of ring and a page.
const LANE_BYTES_MAX: usize = (1 << 30) + PAGE_BYTES;

/// The sizes of a file, from which all offsets follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) lanes: usize,
    /// Bytes of one lane, whole pages.
    pub(crate) lane_bytes: usize,
    /// Whether there are context and crash slots: the file is a process's, not a segment.
    pub(crate) is_whole: bool,
}

impl Plan {
    /// The plan of a file whose lanes are rings of `capacity`. `None` for sizes that no file may have.
    pub(crate) fn new(lanes: usize, capacity: usize, is_whole: bool) -> Option<Self> {
        let lane_bytes = Ring::bytes_for(capacity).checked_next_multiple_of(PAGE_BYTES)?;
        let plan = Self { lanes, lane_bytes, is_whole };
        plan.is_sane().then_some(plan)
    }

    /// Whether these are sizes that a file may have, and all offsets in it are numbers of this machine: no sum below can
    /// overflow then.
    fn is_sane(&self) -> bool {
        // Less than half of all numbers, as anything that is mapped must be.
        self.is_sane_within(isize::MAX as usize)
    }

    fn is_sane_within(&self, file_bytes_max: usize) -> bool {
        let is_size = (1..=LANES_MAX).contains(&self.lanes)
            && (PAGE_BYTES..=LANE_BYTES_MAX).contains(&self.lane_bytes)
            && self.lane_bytes.is_multiple_of(PAGE_BYTES);
        // Room for the pages ahead of the lanes, which are fewer than 300.
        let lanes_max = file_bytes_max.saturating_sub(self.checkpoints_at(LANES_MAX));
        is_size && self.lanes.checked_mul(self.lane_bytes).is_some_and(|bytes| bytes <= lanes_max)
    }

    /// Where the context slots begin; only in a whole file.
    pub(crate) fn context_at(&self) -> Option<usize> {
        self.is_whole.then_some(CONTEXT_AT)
    }

    /// Where the crash slots begin; only in a whole file.
    pub(crate) fn crash_at(&self) -> Option<usize> {
        self.is_whole.then_some(CRASH_AT)
    }

    /// Where the checkpoints of a lane begin.
    pub(crate) fn checkpoints_at(&self, lane: usize) -> usize {
        let first = if self.is_whole { CRASH_AT + CRASH_SLOTS * CRASH_BYTES } else { CONTEXT_AT };
        first + lane * PAGE_BYTES
    }

    /// Where a lane begins.
    pub(crate) fn lane_at(&self, lane: usize) -> usize {
        self.checkpoints_at(self.lanes) + lane * self.lane_bytes
    }

    /// Bytes of the whole file.
    pub(crate) fn file_bytes(&self) -> usize {
        self.lane_at(self.lanes)
    }
}

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) plan: Plan,
    /// Hash of host and project token: events go to no other project.
    pub(crate) owner: u128,
    /// The boot the file was made in; zero if that is not known.
    pub(crate) boot_id: [u8; 16],
    /// When the file was made.
    pub(crate) started: Timestamp,
    /// For people who look; process ids are used again.
    pub(crate) pid: u32,
    /// Different for every file.
    pub(crate) epoch: u64,
}

/// Why a file cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Its creation was cut short, before anything was in it.
    Unfinished,
    /// Of another version or another kind of machine. Somebody else may come for it.
    Foreign,
    /// What it says about itself is wrong.
    Damaged,
}

impl Header {
    /// The header's bytes, complete but for the magic word, which [`magic`] gives and which is written last.
    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut fields = Fields { bytes: &mut bytes, at: 8 };
        fields.put(&MAJOR.to_le_bytes());
        fields.put(&MINOR.to_le_bytes());
        fields.put(&ENDIAN_TAG.to_ne_bytes());
        fields.put(&usize::BITS.to_le_bytes());
        fields.put(&u32::from(self.plan.is_whole).to_le_bytes());
        fields.put(&(self.plan.lanes as u64).to_le_bytes());
        fields.put(&(self.plan.lane_bytes as u64).to_le_bytes());
        fields.put(&(self.plan.file_bytes() as u64).to_le_bytes());
        fields.put(&self.epoch.to_le_bytes());
        fields.put(&self.boot_id);
        fields.put(&self.started.as_unix_micros().to_le_bytes());
        fields.put(&u64::from(self.pid).to_le_bytes());
        fields.put(&self.owner.to_le_bytes());
        let crc = checksum(&bytes);
        let mut fields = Fields { bytes: &mut bytes, at: HEADER_BYTES - 4 };
        fields.put(&crc.to_le_bytes());
        bytes
    }

    /// Whether the file was made since the machine started, so that its pages are as its process left them.
    pub(crate) fn is_of_boot(&self, boot_id: [u8; 16]) -> bool {
        self.boot_id == boot_id && boot_id != [0; 16]
    }

    /// How far the lanes of the file are to be believed in this boot.
    pub(crate) fn trust_in<'c>(&self, boot_id: [u8; 16], checkpoints: &'c [Checkpoint]) -> Trust<'c> {
        if self.is_of_boot(boot_id) { Trust::Positions } else { Trust::Checkpoints(checkpoints) }
    }

    /// Reads a header that may be anything.
    ///
    /// # Errors
    ///
    /// [`Unreadable`]; no size in it is believed unless all of them agree with `file_bytes`.
    pub(crate) fn parse(bytes: &[u8; HEADER_BYTES], file_bytes: u64) -> Result<Self, Unreadable> {
        let mut fields = Reader { bytes, at: 0 };
        let found: [u8; 8] = fields.take();
        if found == [0; 8] {
            return Err(Unreadable::Unfinished);
        }
        if found != *MAGIC {
            return Err(Unreadable::Damaged);
        }
        let (major, _minor) = (u16::from_le_bytes(fields.take()), u16::from_le_bytes(fields.take()));
        if major != MAJOR {
            return Err(Unreadable::Foreign);
        }
        if u32::from_ne_bytes(fields.take()) != ENDIAN_TAG || u32::from_le_bytes(fields.take()) != usize::BITS {
            return Err(Unreadable::Foreign);
        }
        let mut crc = Reader { bytes, at: HEADER_BYTES - 4 };
        if u32::from_le_bytes(crc.take()) != checksum(bytes) {
            return Err(Unreadable::Damaged);
        }
        let is_whole = u32::from_le_bytes(fields.take()) == 1;
        let lanes = usize::try_from(u64::from_le_bytes(fields.take())).unwrap_or(usize::MAX);
        let lane_bytes = usize::try_from(u64::from_le_bytes(fields.take())).unwrap_or(usize::MAX);
        let plan = Plan { lanes, lane_bytes, is_whole };
        let claimed = u64::from_le_bytes(fields.take());
        if !plan.is_sane() || claimed != plan.file_bytes() as u64 || claimed != file_bytes {
            return Err(Unreadable::Damaged);
        }
        Ok(Self {
            plan,
            epoch: u64::from_le_bytes(fields.take()),
            boot_id: fields.take(),
            started: Timestamp::from_unix_micros(u64::from_le_bytes(fields.take())),
            pid: u64::from_le_bytes(fields.take()) as u32,
            owner: u128::from_le_bytes(fields.take()),
        })
    }
}

/// The word that makes a header one.
pub(crate) const fn magic() -> &'static [u8; 8] {
    MAGIC
}

/// Of everything behind the magic word and before the checksum itself.
fn checksum(header: &[u8; HEADER_BYTES]) -> u32 {
    crc32c(0, header.get(8..HEADER_BYTES - 4).unwrap_or_default())
}

/// A checkpoint as it lies in its page.
pub(crate) fn checkpoint_to_bytes(checkpoint: Checkpoint) -> [u8; CHECKPOINT_BYTES] {
    let mut bytes = [0; CHECKPOINT_BYTES];
    let mut fields = Fields { bytes: &mut bytes, at: 0 };
    fields.put(&(checkpoint.from as u64).to_le_bytes());
    fields.put(&(checkpoint.bytes as u64).to_le_bytes());
    fields.put(&checkpoint.crc.to_le_bytes());
    bytes
}

/// The checkpoints in a page. One that is torn verifies nothing, so it needs no checksum of its own.
pub(crate) fn checkpoints_from(page: &[u8]) -> Vec<Checkpoint> {
    let read = |bytes: &[u8; CHECKPOINT_BYTES]| {
        let mut fields = Reader { bytes, at: 0 };
        let from = usize::try_from(u64::from_le_bytes(fields.take())).ok()?;
        let bytes = usize::try_from(u64::from_le_bytes(fields.take())).ok().filter(|&bytes| bytes > 0)?;
        Some(Checkpoint { from, bytes, crc: u32::from_le_bytes(fields.take()) })
    };
    page.as_chunks().0.iter().take(CHECKPOINTS).filter_map(read).collect()
}

/// Writes one field behind the other.
struct Fields<'b> {
    bytes: &'b mut [u8],
    at: usize,
}

impl Fields<'_> {
    fn put(&mut self, field: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.at..).and_then(|rest| rest.get_mut(..field.len())) {
            place.copy_from_slice(field);
        }
        self.at += field.len();
    }
}

/// Reads them again; zeros behind the end.
struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let field = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N]);
        self.at += N;
        field
    }
}

/// FNV-1a over 128 bits: names a directory after host and token without showing them, the same on every machine and for
/// ever. Nobody gains anything by a collision.
pub(crate) fn fnv(parts: &[&[u8]]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mut hash = OFFSET;
    for part in parts {
        // A byte that occurs in neither keeps ("a", "bc") and ("ab", "c") apart.
        for &byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u128::from(byte)).wrapping_mul(PRIME);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;
    use quillet_core::Prng;

    fn header() -> Header {
        Header {
            plan: Plan::new(9, 1 << 18, true).unwrap(),
            owner: 0x0123_4567_89ab_cdef,
            boot_id: [3; 16],
            started: Timestamp::from_unix_ms(1_795_000_000_000),
            pid: 4711,
            epoch: 99,
        }
    }

    fn published(header: Header) -> [u8; HEADER_BYTES] {
        let mut bytes = header.to_bytes();
        bytes[..8].copy_from_slice(magic());
        bytes
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header = header();
        let len = header.plan.file_bytes() as u64;
        assert_eq!(Header::parse(&published(header), len), Ok(header));
        assert_eq!(Header::parse(&header.to_bytes(), len), Err(Unreadable::Unfinished), "without its magic word");
        for other in [0, len - 1, len + 1, u64::MAX] {
            assert_eq!(Header::parse(&published(header), other), Err(Unreadable::Damaged), "{other} bytes");
        }
    }

    #[test]
    fn no_changed_byte_goes_unnoticed() {
        let header = header();
        let len = header.plan.file_bytes() as u64;
        for at in 0..HEADER_BYTES {
            let mut bytes = published(header);
            bytes[at] ^= 0x40;
            assert!(Header::parse(&bytes, len).is_err(), "byte {at}");
        }
    }

    #[test]
    fn nothing_is_believed_of_bytes_with_a_right_checksum_either() {
        let (mut prng, mut read) = (Prng::new([1, 2]), 0);
        for _ in 0..20_000 {
            let mut bytes = published(header());
            for _ in 0..1 + prng.next() % 3 {
                bytes[8 + prng.next() as usize % 48] = [0, 1, 0xff, prng.next() as u8][prng.next() as usize % 4];
            }
            let crc = checksum(&bytes);
            bytes[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
            let len = header().plan.file_bytes() as u64;
            if let Ok(header) = Header::parse(&bytes, len) {
                // Then its offsets are inside of the file.
                assert_eq!(header.plan.lane_at(header.plan.lanes) as u64, len);
                read += 1;
            }
        }
        assert!(read > 0);
    }

    #[test]
    fn no_offset_overflows_on_a_machine_with_smaller_numbers() {
        const MAX: usize = i32::MAX as usize;
        let (lane, largest) = (LANE_BYTES_MAX, (MAX - 300 * PAGE_BYTES) / PAGE_BYTES * PAGE_BYTES);
        for (lanes, lane_bytes, is_sane) in [
            (1, lane, true),
            (2, lane, false),
            (LANES_MAX, lane, false),
            (4, lane, false),
            (LANES_MAX, largest / LANES_MAX / PAGE_BYTES * PAGE_BYTES, true),
            (LANES_MAX, largest / LANES_MAX / PAGE_BYTES * PAGE_BYTES + 2 * PAGE_BYTES, false),
            (1, usize::MAX & !(PAGE_BYTES - 1), false),
            (usize::MAX, PAGE_BYTES, false),
        ] {
            for is_whole in [false, true] {
                let plan = Plan { lanes, lane_bytes, is_whole };
                assert_eq!(plan.is_sane_within(MAX), is_sane, "{plan:?}");
                assert!(!is_sane || plan.file_bytes() <= MAX, "{plan:?}");
            }
        }
    }

    #[test]
    fn the_parts_of_a_file_follow_each_other() {
        for plan in [Plan::new(9, 1 << 20, true).unwrap(), Plan::new(1, 1 << 20, false).unwrap()] {
            let context = plan.context_at().map_or(2 * PAGE_BYTES, |at| at + CONTEXT_SLOTS * CONTEXT_BYTES);
            let crash = plan.crash_at().map_or(context, |at| at + CRASH_SLOTS * CRASH_BYTES);
            assert_eq!(plan.crash_at().unwrap_or(context), context);
            assert_eq!(plan.checkpoints_at(0), crash);
            assert_eq!(plan.lane_at(0), crash + plan.lanes * PAGE_BYTES);
            assert!((0..plan.lanes).all(|lane| plan.lane_at(lane).is_multiple_of(PAGE_BYTES)));
        }
        assert_eq!(Plan::new(0, 1 << 20, true), None);
        assert_eq!(Plan::new(257, 1 << 20, true), None);
        assert_eq!(Plan::new(1, usize::MAX, true), None);
    }

    #[test]
    fn checkpoints_are_read_as_they_were_written() {
        let checkpoint = Checkpoint { from: 77, bytes: 1000, crc: 0xdead_beef };
        let mut page = vec![0; PAGE_BYTES];
        page[CHECKPOINT_BYTES..2 * CHECKPOINT_BYTES].copy_from_slice(&checkpoint_to_bytes(checkpoint));
        assert_eq!(checkpoints_from(&page), [checkpoint], "empty slots are none");
    }

    #[test]
    fn a_name_stays_what_it_is() {
        // Directories of earlier versions are found by it.
        assert_eq!(
            fnv(&[b"http://spool.golden.test/batch/", b"phc_integration_tests"]),
            0xb592_2742_eb82_5504_f965_5b3e_b6bd_82af
        );
        assert_eq!(fnv(&[]), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_ne!(fnv(&[b"a", b"bc"]), fnv(&[b"ab", b"c"]));
    }
}
