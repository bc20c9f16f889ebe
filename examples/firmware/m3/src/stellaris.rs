//! The Stellaris Ethernet controller: one frame in, one frame out, through a window of a word.
//!
//! Offsets and bits are those of the LM3S6965's data sheet, chapter "Ethernet Controller".

#![allow(unsafe_code, reason = "a device's registers are memory that only its manual knows of")]

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

const BASE: usize = 0x4004_8000;
/// Receive control: 1 on, 2 all groups, 4 everything, which saves the filter.
const RCTL: usize = 0x08;
/// Transmit control: 1 on, 2 pad short frames, 4 append the checksum, 0x10 both ways at once.
const TCTL: usize = 0x0c;
/// Both queues.
const DATA: usize = 0x10;
/// The own address, four bytes and two.
const IA0: usize = 0x14;
const IA1: usize = 0x18;
/// Frames received and not read.
const NP: usize = 0x34;
/// Transmission of what is in the queue.
const TR: usize = 0x38;

/// Longest frame without its checksum.
const FRAME_BYTES: usize = 1514;
const HEADER_BYTES: usize = 14;
const CHECKSUM_BYTES: usize = 4;

/// The controller, and one frame for each direction.
pub struct Mac {
    received: [u8; FRAME_BYTES],
    to_send: [u8; FRAME_BYTES],
}

impl Mac {
    /// Switches it on.
    pub fn start(address: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = address;
        write(IA0, u32::from_le_bytes([a, b, c, d]));
        write(IA1, u32::from_le_bytes([e, f, 0, 0]));
        write(TCTL, 0x17);
        write(RCTL, 0x07);
        Self { received: [0; FRAME_BYTES], to_send: [0; FRAME_BYTES] }
    }

    /// Reads the next frame; its length, which is 0 for one that is too long or too short to be one.
    fn read_frame(&mut self) -> usize {
        // The first two bytes say how many there are, themselves and the checksum included.
        let [low, high, first, second] = read(DATA).to_le_bytes();
        let total = usize::from(u16::from_le_bytes([low, high]));
        let len = total.saturating_sub(2 + CHECKSUM_BYTES);
        let mut at = 0;
        let mut put = |byte| {
            if let Some(slot) = self.received.get_mut(at) {
                *slot = byte;
            }
            at += 1;
        };
        put(first);
        put(second);
        for _ in 1..total.div_ceil(4) {
            read(DATA).to_le_bytes().into_iter().for_each(&mut put);
        }
        if len <= FRAME_BYTES { len } else { 0 }
    }
}

impl Device for Mac {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = ToSend<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, ToSend<'_>)> {
        if read(NP) == 0 {
            return None;
        }
        let len = self.read_frame();
        Some((Received(self.received.get(..len).unwrap_or_default()), ToSend(&mut self.to_send)))
    }

    fn transmit(&mut self, _: Instant) -> Option<ToSend<'_>> {
        // Bit 0 stays set for as long as a frame is being sent.
        if read(TR) & 1 == 0 { Some(ToSend(&mut self.to_send)) } else { None }
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_BYTES;
        capabilities.max_burst_size = Some(1);
        capabilities
    }
}

/// A frame that came.
pub struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

/// Room for a frame that goes.
pub struct ToSend<'a>(&'a mut [u8; FRAME_BYTES]);

impl TxToken for ToSend<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let frame = &mut self.0[..len.min(FRAME_BYTES)];
        let result = fill(frame);
        // The length of what follows the header comes first, in the frame's own words.
        let [low, high] = (frame.len().saturating_sub(HEADER_BYTES) as u16).to_le_bytes();
        let mut bytes = [low, high].into_iter().chain(frame.iter().copied());
        while let Some(first) = bytes.next() {
            let mut next = || bytes.next().unwrap_or(0);
            write(DATA, u32::from_le_bytes([first, next(), next(), next()]));
        }
        write(TR, 1);
        result
    }
}

fn read(register: usize) -> u32 {
    // SAFETY: a register of the controller, which is there after a reset.
    unsafe { ((BASE + register) as *const u32).read_volatile() }
}

fn write(register: usize, value: u32) {
    // SAFETY: as above.
    unsafe { ((BASE + register) as *mut u32).write_volatile(value) }
}
