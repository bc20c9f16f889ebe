//! What a dying program leaves in a few hundred bytes, for the next one to tell.
//!
//! In: numbers that a signal handler or a fault handler has at hand, stored one by one into memory that outlives the
//! program: a page of a mapped file, RAM that a reset does not clear. Out, in the next life: a [`CrashRecord`]. The writer
//! only stores: no call out, no formatting, next to no stack. The reader believes nothing: a record has a checksum, and
//! what does not fit its bounds is none.

use crate::limits::FRAMES_MAX;
use crate::wire::timestamp::Timestamp;

/// Bytes that a record takes.
pub const CRASH_RECORD_BYTES: usize = CHECKSUM_AT + 4;

/// Bytes of a thread's name that are kept.
const NAME_BYTES: usize = 16;
/// Bytes of a message that are kept.
const MESSAGE_BYTES: usize = 256;

/// Read as bytes: "QCR" and the version of this layout.
const MAGIC: u32 = u32::from_le_bytes(*b"QCR1");

// Where everything is. All numbers are little-endian.
const SIGNAL_AT: usize = 4;
const CODE_AT: usize = 8;
const THREAD_AT: usize = 12;
const TIME_AT: usize = 16;
const ADDRESS_AT: usize = 24;
const PC_AT: usize = 32;
const SP_AT: usize = 40;
const FP_AT: usize = 48;
const NAME_AT: usize = 56;
const FRAMES_AT: usize = NAME_AT + NAME_BYTES;
const MESSAGE_LEN_AT: usize = FRAMES_AT + 4;
const ADDRESSES_AT: usize = MESSAGE_LEN_AT + 4;
const MESSAGE_AT: usize = ADDRESSES_AT + 8 * FRAMES_MAX;
const CHECKSUM_AT: usize = MESSAGE_AT + MESSAGE_BYTES;

/// Writes a record, store by store.
///
/// Async-signal-safe: it touches the memory given, and nothing else. Until [`finish`](CrashWriter::finish) the memory
/// holds no record; it may be finished early and again later, with more frames.
///
/// ```
/// use quillet_core::{CRASH_RECORD_BYTES, CrashRecord, CrashWriter, Timestamp};
///
/// let mut memory = [0; CRASH_RECORD_BYTES];
/// let mut crash = CrashWriter::begin(&mut memory).unwrap();
/// crash.signal(11, 1);
/// crash.registers(0x8000_1234, 0x2000_0ff0, 0);
/// crash.frame(0x8000_0100);
/// crash.finish();
///
/// let record = CrashRecord::read(&memory).unwrap();
/// assert_eq!(record.signal, 11);
/// assert_eq!(record.addresses(), [0x8000_1234, 0x8000_0100]);
/// ```
pub struct CrashWriter<'a> {
    bytes: &'a mut [u8; CRASH_RECORD_BYTES],
    frames: usize,
}

impl<'a> CrashWriter<'a> {
    /// An empty record in the first [`CRASH_RECORD_BYTES`] bytes of `memory`; `None` if there are fewer.
    pub fn begin(memory: &'a mut [u8]) -> Option<Self> {
        let bytes: &mut [u8; CRASH_RECORD_BYTES] = memory.first_chunk_mut()?;
        bytes.fill(0);
        Some(Self { bytes, frames: 0 })
    }

    /// The signal or fault, and what the system calls its kind.
    pub fn signal(&mut self, signal: u32, code: i32) {
        self.put(SIGNAL_AT, signal.to_le_bytes());
        self.put(CODE_AT, code.to_le_bytes());
    }

    /// The address that could not be used, if there is one.
    pub fn address(&mut self, address: u64) {
        self.put(ADDRESS_AT, address.to_le_bytes());
    }

    /// When it happened.
    pub fn time(&mut self, time: Timestamp) {
        self.put(TIME_AT, time.as_unix_micros().to_le_bytes());
    }

    /// The thread's number and name; of the name the first 16 bytes up to a zero.
    pub fn thread(&mut self, id: i32, name: &[u8]) {
        self.put(THREAD_AT, id.to_le_bytes());
        let until = NAME_AT + NAME_BYTES;
        for (to, from) in
            self.bytes.iter_mut().take(until).skip(NAME_AT).zip(name.iter().take_while(|byte| **byte != 0))
        {
            *to = *from;
        }
    }

    /// Program counter, stack pointer and frame pointer. The program counter, unless it is 0, is also the innermost frame;
    /// so this comes before any other.
    pub fn registers(&mut self, pc: u64, sp: u64, fp: u64) {
        self.put(PC_AT, pc.to_le_bytes());
        self.put(SP_AT, sp.to_le_bytes());
        self.put(FP_AT, fp.to_le_bytes());
        if pc != 0 {
            self.frame(pc);
        }
    }

    /// A return address, innermost first. Those beyond [`FRAMES_MAX`] are left out.
    pub fn frame(&mut self, address: u64) {
        if self.frames < FRAMES_MAX {
            self.put(ADDRESSES_AT + 8 * self.frames, address.to_le_bytes());
            self.frames += 1;
        }
    }

    /// What the program had to say about it; cut after 256 bytes.
    pub fn message(&mut self, message: &str) {
        let end = (0..=message.len().min(MESSAGE_BYTES)).rev().find(|end| message.is_char_boundary(*end));
        let message = message.get(..end.unwrap_or(0)).unwrap_or_default().as_bytes();
        for (to, from) in self.bytes.iter_mut().skip(MESSAGE_AT).zip(message) {
            *to = *from;
        }
        self.put(MESSAGE_LEN_AT, (message.len() as u32).to_le_bytes());
    }

    /// Makes it a record, with the frames there are.
    pub fn finish(&mut self) {
        self.put(FRAMES_AT, (self.frames as u32).to_le_bytes());
        self.put(0, MAGIC.to_le_bytes());
        let sum = checksum(self.bytes.get(..CHECKSUM_AT).unwrap_or_default());
        self.put(CHECKSUM_AT, sum.to_le_bytes());
    }

    fn put<const N: usize>(&mut self, at: usize, value: [u8; N]) {
        if let Some(place) = self.bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
            *place = value;
        }
    }
}

impl core::fmt::Debug for CrashWriter<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("CrashWriter").field("frames", &self.frames).finish_non_exhaustive()
    }
}

/// What a dead program left.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrashRecord {
    /// The signal or fault.
    pub signal: u32,
    /// What the system calls its kind.
    pub code: i32,
    /// The address that could not be used, or 0.
    pub address: u64,
    /// When it happened.
    pub time: Timestamp,
    /// Program counter, stack pointer, frame pointer.
    pub registers: [u64; 3],
    /// The system's number for the thread.
    pub thread_id: i32,
    thread_name: heapless::String<NAME_BYTES>,
    message: heapless::String<MESSAGE_BYTES>,
    addresses: heapless::Vec<u64, FRAMES_MAX>,
}

impl CrashRecord {
    /// Reads a record from the start of `memory`; `None` if there is none, or it is damaged. Whatever the bytes are, nothing
    /// panics, and text that is no UTF-8 is cut where it stops to be.
    pub fn read(memory: &[u8]) -> Option<Self> {
        let bytes: &[u8; CRASH_RECORD_BYTES] = memory.first_chunk()?;
        let word = |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().map(u32::from_le_bytes);
        let long = |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().map(u64::from_le_bytes);
        if word(0)? != MAGIC || word(CHECKSUM_AT)? != checksum(bytes.get(..CHECKSUM_AT)?) {
            return None;
        }
        let frames = word(FRAMES_AT)? as usize;
        let message_len = word(MESSAGE_LEN_AT)? as usize;
        if frames > FRAMES_MAX || message_len > MESSAGE_BYTES {
            return None;
        }
        let name = bytes.get(NAME_AT..NAME_AT + NAME_BYTES)?.split(|byte| *byte == 0).next()?;
        Some(Self {
            signal: word(SIGNAL_AT)?,
            code: word(CODE_AT)? as i32,
            address: long(ADDRESS_AT)?,
            time: Timestamp::from_unix_micros(long(TIME_AT)?),
            registers: [long(PC_AT)?, long(SP_AT)?, long(FP_AT)?],
            thread_id: word(THREAD_AT)? as i32,
            thread_name: text(name)?,
            message: text(bytes.get(MESSAGE_AT..MESSAGE_AT + message_len)?)?,
            addresses: (0..frames).filter_map(|at| long(ADDRESSES_AT + 8 * at)).collect(),
        })
    }

    /// The thread's name; may be empty.
    pub fn thread_name(&self) -> &str {
        &self.thread_name
    }

    /// What the program had to say; may be empty.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The stack, innermost first.
    pub fn addresses(&self) -> &[u64] {
        &self.addresses
    }
}

/// The beginning of `bytes` that is text.
fn text<const N: usize>(bytes: &[u8]) -> Option<heapless::String<N>> {
    let text = match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => core::str::from_utf8(bytes.get(..error.valid_up_to())?).ok()?,
    };
    text.try_into().ok()
}

/// CRC-32C, bit by bit: a few microseconds once in a life, and no table.
fn checksum(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0x82f6_3b78 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;
    use crate::uuid::Prng;

    fn written() -> [u8; CRASH_RECORD_BYTES] {
        let mut memory = [0xaa; CRASH_RECORD_BYTES];
        let mut crash = CrashWriter::begin(&mut memory).unwrap();
        crash.signal(7, -6);
        crash.address(0xdead);
        crash.time(Timestamp::from_unix_ms(1_795_000_000_123));
        crash.thread(4711, b"worker-with-a-long-name");
        crash.registers(1, 2, 3);
        crash.message("a message");
        crash.finish();
        for address in 10..200 {
            crash.frame(address);
        }
        crash.finish();
        memory
    }

    #[test]
    fn what_was_written_is_read() {
        let record = CrashRecord::read(&written()).unwrap();
        assert_eq!((record.signal, record.code, record.address), (7, -6, 0xdead));
        assert_eq!((record.registers, record.thread_id), ([1, 2, 3], 4711));
        assert_eq!((record.thread_name(), record.message()), ("worker-with-a-lo", "a message"));
        assert_eq!(record.time, Timestamp::from_unix_ms(1_795_000_000_123));
        assert_eq!(record.addresses().len(), FRAMES_MAX);
        assert_eq!(record.addresses()[..3], [1, 10, 11]);
    }

    #[test]
    fn every_damaged_bit_is_noticed() {
        let good = written();
        for bit in 0..8 * CRASH_RECORD_BYTES {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(CrashRecord::read(&bad), None, "bit {bit}");
        }
        assert_eq!(CrashRecord::read(&good[1..]), None);
        assert_eq!(CrashRecord::read(&[0; CRASH_RECORD_BYTES]), None);
    }

    #[test]
    fn a_record_that_was_not_finished_is_none() {
        let mut memory = [0; CRASH_RECORD_BYTES];
        CrashWriter::begin(&mut memory).unwrap().signal(11, 1);
        assert_eq!(CrashRecord::read(&memory), None);
        assert!(CrashWriter::begin(&mut memory[1..]).is_none());
    }

    #[test]
    fn bounds_are_believed_no_more_than_bytes() {
        let mut prng = Prng::new([7, 8]);
        for _ in 0..20_000 {
            let mut memory = written();
            for _ in 0..1 + prng.next() % 8 {
                memory[(prng.next() % CHECKSUM_AT as u64) as usize] = prng.next() as u8;
            }
            // With a checksum that is right, as a hostile hand would write it.
            let sum = checksum(&memory[..CHECKSUM_AT]);
            memory[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
            if let Some(record) = CrashRecord::read(&memory) {
                assert!(record.addresses().len() <= FRAMES_MAX && record.message().len() <= MESSAGE_BYTES);
            }
        }
    }

    #[test]
    fn the_checksum_is_the_one_everybody_knows() {
        assert_eq!(checksum(b"123456789"), 0xe306_9283);
    }
}
