//! The four pages that a fatal signal is written into: where what is, and who may touch it.
//!
//! ```text
//!  page 0      state u32 │ armed u32 │ identity 16 bytes │ … │ record
//!  page 1..3   count u32, zero u32 │ images: start u64, bytes u64, flags u8, id length u8, file length u16, id, file
//! ```
//!
//! In: at installation, an identity for the event that may come, and the images that addresses can lie in; in the handler,
//! numbers. Out, in another process: [`Slots::read`], which believes none of it. The pages belong to a spool file's mapping
//! or to anonymous memory; one owner at a time writes to them, chosen by the handler.

#![allow(unsafe_code, reason = "memory that a signal handler and, later, another process look at")]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use std::any::Any;
use std::sync::Arc;

use quillet_core::{CRASH_RECORD_BYTES, CrashRecord, CrashWriter, Image, Uuid};

use crate::spool::Mapping;

/// Bytes of all pages.
pub(crate) const SLOTS_BYTES: usize = 4 * PAGE_BYTES;
const PAGE_BYTES: usize = 4096;

const IDENTITY_AT: usize = 8;
const RECORD_AT: usize = 64;
const IMAGES_AT: usize = PAGE_BYTES;
/// An image without its two texts.
const IMAGE_BYTES: usize = 20;

/// Says that pages were prepared by this version of the layout.
const ARMED: u32 = u32::from_le_bytes(*b"ARM1");

const _: () = assert!(RECORD_AT + CRASH_RECORD_BYTES <= PAGE_BYTES, "a record fits into its page");

/// How far a signal has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum State {
    /// Nothing happened, or somebody dealt with it.
    Empty = 0,
    /// Written down, while the handlers of others decide what becomes of it.
    Provisional = 1,
    /// Nobody dealt with it.
    Committed = 2,
}

/// The writing side: pages that stay where they are as long as this lives.
pub(crate) struct Slots {
    start: NonNull<u8>,
    /// Whatever keeps the memory.
    _owner: Box<dyn Any + Send + Sync>,
}

// SAFETY: the pages are plain memory without an owner thread; who may write is decided by the signal handler's owner word,
// and the state is an atomic.
unsafe impl Send for Slots {}
// SAFETY: as above.
unsafe impl Sync for Slots {}

impl Slots {
    /// Prepares [`SLOTS_BYTES`] bytes at `start`.
    ///
    /// # Safety
    ///
    /// The bytes are aligned to a page, may be written, are used by nobody else in this process, and stay as long as
    /// `owner` lives.
    pub(crate) unsafe fn arm(
        start: NonNull<u8>,
        owner: Box<dyn Any + Send + Sync>,
        identity: [u64; 2],
        images: &[Image<'_>],
    ) -> Self {
        // SAFETY: the caller's promise; this reference ends before anybody else can know of the memory.
        let bytes = unsafe { core::slice::from_raw_parts_mut(start.as_ptr(), SLOTS_BYTES) };
        bytes.fill(0);
        write_images(bytes.get_mut(IMAGES_AT..).unwrap_or_default(), images);
        put(bytes, IDENTITY_AT, identity[0].to_le_bytes());
        put(bytes, IDENTITY_AT + 8, identity[1].to_le_bytes());
        put(bytes, 4, ARMED.to_le_bytes());
        Self { start, _owner: owner }
    }

    /// The same in the pages that a spool's file has for it.
    pub(crate) fn in_spool(mapping: &Arc<Mapping>, identity: [u64; 2], images: &[Image<'_>]) -> Option<Self> {
        let (start, bytes) = mapping.crash_slots()?;
        // SAFETY: pages of the mapping that it keeps for this purpose, gives out once, and that last as long as it does.
        (bytes >= SLOTS_BYTES).then(|| unsafe { Self::arm(start, Box::new(Arc::clone(mapping)), identity, images) })
    }

    /// The same over memory of their own, which no other process ever sees: for the crash file.
    pub(crate) fn anonymous(identity: [u64; 2], images: &[Image<'_>]) -> Option<Self> {
        let mut pages = vec![Page([0; PAGE_BYTES]); SLOTS_BYTES / PAGE_BYTES].into_boxed_slice();
        let start = NonNull::from(&mut *pages).cast();
        // SAFETY: four aligned pages that the box keeps in place; nothing else uses them.
        Some(unsafe { Self::arm(start, Box::new(Kept(pages)), identity, images) })
    }

    /// Where the pages begin.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl core::fmt::Debug for Slots {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Slots").finish_non_exhaustive()
    }
}

#[derive(Clone)]
#[repr(C, align(4096))]
struct Page([u8; PAGE_BYTES]);

/// Keeps pages without ever looking at them again.
struct Kept(#[allow(dead_code, reason = "kept, not used")] Box<[Page]>);

/// The state word of armed pages.
///
/// # Safety
///
/// `start` is that of living [`Slots`].
pub(crate) unsafe fn state<'a>(start: NonNull<u8>) -> &'a AtomicU32 {
    // SAFETY: the first word of a page, aligned, only ever used as an atomic once the pages are armed.
    unsafe { start.cast().as_ref() }
}

/// The place of the record.
///
/// # Safety
///
/// As for [`state`]; and the caller is the one that may write, until the result is dropped.
pub(crate) unsafe fn record<'a>(start: NonNull<u8>) -> Option<CrashWriter<'a>> {
    // SAFETY: inside the first page, which no other reference covers.
    let bytes = unsafe { core::slice::from_raw_parts_mut(start.as_ptr().add(RECORD_AT), CRASH_RECORD_BYTES) };
    CrashWriter::begin(bytes)
}

/// Says how far the signal has come. What was stored before is there when this is seen.
///
/// # Safety
///
/// As for [`state`].
pub(crate) unsafe fn set_state(start: NonNull<u8>, new: State) {
    // SAFETY: the caller's promise. Release: whoever reads the pages of a dead process finds the record that belongs to it.
    unsafe { state(start) }.store((new as u32).to_le(), Ordering::Release);
}

/// What a dead process's pages say.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) state: State,
    pub(crate) record: CrashRecord,
    /// The uuid that its event has, however often it is made.
    pub(crate) uuid: Uuid,
    pub(crate) images: Vec<Image<'a>>,
}

impl<'a> Found<'a> {
    /// Reads pages that anybody may have written to. `None` if they hold no record.
    pub(crate) fn read(pages: &'a [u8]) -> Option<Self> {
        let word = |at: usize| pages.get(at..)?.first_chunk().copied().map(u32::from_le_bytes);
        let long = |at: usize| pages.get(at..)?.first_chunk().copied().map(u64::from_le_bytes);
        let state = match word(0)? {
            1 => State::Provisional,
            2 => State::Committed,
            _ => return None,
        };
        if word(4)? != ARMED {
            return None;
        }
        let record = CrashRecord::read(pages.get(RECORD_AT..)?)?;
        let uuid = Uuid::v7(record.time.as_unix_micros() / 1_000, [long(IDENTITY_AT)?, long(IDENTITY_AT + 8)?]);
        Some(Self { state, record, uuid, images: read_images(pages.get(IMAGES_AT..SLOTS_BYTES)?) })
    }
}

/// Writes as many images as fit whole.
fn write_images(bytes: &mut [u8], images: &[Image<'_>]) {
    let (mut at, mut count) = (8, 0u32);
    for image in images {
        let (id, file) = (image.build_id_bytes(), image.file_name().as_bytes());
        let (Ok(id_len), Ok(file_len)) = (u8::try_from(id.len()), u16::try_from(file.len())) else { continue };
        let Some(room) = bytes.get_mut(at..at + IMAGE_BYTES + id.len() + file.len()) else { continue };
        put(room, 0, image.range().start.to_le_bytes());
        put(room, 8, (image.range().end.wrapping_sub(image.range().start)).to_le_bytes());
        put(room, 16, [u8::from(image.is_in_app()), id_len]);
        put(room, 18, file_len.to_le_bytes());
        for (to, from) in room.iter_mut().skip(IMAGE_BYTES).zip(id.iter().chain(file)) {
            *to = *from;
        }
        at += room.len();
        count += 1;
    }
    put(bytes, 0, count.to_le_bytes());
}

fn read_images(bytes: &[u8]) -> Vec<Image<'_>> {
    fn next<'a>(rest: &mut &'a [u8]) -> Option<Image<'a>> {
        let (head, behind) = rest.split_first_chunk::<IMAGE_BYTES>()?;
        let long = |at: usize| head.get(at..)?.first_chunk().copied().map(u64::from_le_bytes);
        let (id, behind) = behind.split_at_checked(usize::from(*head.get(17)?))?;
        let file_len = head.get(18..)?.first_chunk().copied().map(u16::from_le_bytes)?;
        let (file, behind) = behind.split_at_checked(usize::from(file_len))?;
        *rest = behind;
        let file = core::str::from_utf8(file).unwrap_or_default();
        Some(Image::new(long(0)?, long(8)?).build_id(id).file(file).in_app(*head.get(16)? == 1))
    }

    let count = bytes.first_chunk().copied().map_or(0, u32::from_le_bytes);
    let mut rest = bytes.get(8..).unwrap_or_default();
    (0..count).map_while(|_| next(&mut rest)).collect()
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = value;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;
    use quillet_core::Timestamp;

    /// Pages as a handler leaves them.
    pub(crate) fn pages_of(signal: u32, code: i32, address: u64, left: State) -> Vec<u8> {
        let images = [
            Image::new(0x1000, 0x1000).build_id(&[7; 20]).file("/bin/dead").in_app(true),
            Image::new(0x9000, 0x1000).file("/lib/other"),
        ];
        let slots = Slots::anonymous([1, 2], &images).unwrap();
        // SAFETY: nobody else knows of these pages.
        unsafe {
            let mut record = record(slots.start()).unwrap();
            record.signal(signal, code);
            record.address(address);
            record.time(Timestamp::from_unix_ms(1_795_000_000_000));
            record.thread(12, b"worker");
            record.registers(0x1234, 0x7000, 0);
            record.frame(0x9100);
            record.finish();
            set_state(slots.start(), left);
            core::slice::from_raw_parts(slots.start().as_ptr(), SLOTS_BYTES).to_vec()
        }
    }

    #[test]
    fn what_a_handler_left_is_found() {
        let pages = pages_of(11, 1, 0, State::Committed);
        let found = Found::read(&pages).unwrap();
        assert_eq!((found.state, found.record.signal), (State::Committed, 11));
        assert_eq!(found.images[0], Image::new(0x1000, 0x1000).build_id(&[7; 20]).file("/bin/dead").in_app(true));
        assert_eq!(found.images[1], Image::new(0x9000, 0x1000).file("/lib/other"));
        assert_eq!(found.uuid, Found::read(&pages).unwrap().uuid);
        assert!(Found::read(&pages_of(11, 1, 0, State::Empty)).is_none());
        assert!(Found::read(&[0; SLOTS_BYTES]).is_none());
    }

    #[test]
    fn damaged_pages_are_bounded_and_do_no_harm() {
        let good = pages_of(11, 1, 0, State::Committed);
        for at in (0..RECORD_AT).chain(IMAGES_AT..IMAGES_AT + 120) {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                if let Some(found) = Found::read(&bad) {
                    assert!(found.images.len() <= SLOTS_BYTES / IMAGE_BYTES);
                }
            }
        }
        for end in (0..SLOTS_BYTES).step_by(97) {
            let _ = Found::read(&good[..end]);
        }
    }

    #[test]
    fn more_images_than_fit_are_left_out_whole() {
        let file = "x".repeat(1000);
        let images: Vec<_> = (0..100).map(|at| Image::new(at << 20, 1 << 20).file(&file)).collect();
        let slots = Slots::anonymous([1, 2], &images).unwrap();
        // SAFETY: as above.
        let pages = unsafe { core::slice::from_raw_parts(slots.start().as_ptr(), SLOTS_BYTES) };
        let kept = read_images(&pages[IMAGES_AT..]);
        assert_eq!(kept, images[..kept.len()]);
        assert!(kept.len() >= 10);
    }
}
