//! The nRF51's UART as a byte stream to a server: whatever sits at the other end of the wire carries it on.
//!
//! Offsets are those of the nRF51 reference manual, chapter "UART".

#![allow(unsafe_code, reason = "a device's registers are memory that only its manual knows of")]

use core::fmt;
use core::time::Duration;
use device::uptime::now;
use embedded_io::{ErrorKind, ErrorType, Read, Write};
use quillet_core::Instant;
use quillet_core::http::Link;

const BASE: usize = 0x4000_2000;
const START_RX: usize = 0x000;
const START_TX: usize = 0x008;
const RX_READY: usize = 0x108;
const TX_READY: usize = 0x11c;
const ENABLE: usize = 0x500;
const RXD: usize = 0x518;
const TXD: usize = 0x51c;

/// How long a read or write waits before it lets its caller look at the clock.
const PATIENCE: Duration = Duration::from_millis(10);

/// The UART, switched on.
pub struct Uart(());

impl Uart {
    /// Switches it on.
    pub fn start() -> Self {
        write(ENABLE, 4);
        write(START_TX, 1);
        write(START_RX, 1);
        Self(())
    }
}

/// The wire was silent; it may not be.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing on the wire yet")
    }
}

impl core::error::Error for Silent {}

impl embedded_io::Error for Silent {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Interrupted
    }
}

impl ErrorType for Uart {
    type Error = Silent;
}

impl Read for Uart {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Silent> {
        let Some(slot) = bytes.first_mut() else { return Ok(0) };
        wait_for(RX_READY)?;
        *slot = read(RXD) as u8;
        Ok(1)
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Silent> {
        let Some(&byte) = bytes.first() else { return Ok(0) };
        write(TXD, byte.into());
        // Once it is in the register it is on its way, so this must not end as if nothing was taken.
        while wait_for(TX_READY).is_err() {}
        Ok(1)
    }

    fn flush(&mut self) -> Result<(), Silent> {
        Ok(())
    }
}

impl Link for Uart {
    fn open(&mut self, _: Instant) -> Result<(), Silent> {
        // A wire is always connected. What is left of an earlier answer must not be taken for the next.
        while wait_for(RX_READY).is_ok() {
            read(RXD);
        }
        Ok(())
    }

    fn close(&mut self) {}
}

fn wait_for(event: usize) -> Result<(), Silent> {
    let until = now().after(PATIENCE);
    while read(event) == 0 {
        if now() >= until {
            return Err(Silent);
        }
    }
    write(event, 0);
    Ok(())
}

fn read(register: usize) -> u32 {
    // SAFETY: a register of the UART, which is there after a reset.
    unsafe { ((BASE + register) as *const u32).read_volatile() }
}

fn write(register: usize, value: u32) {
    // SAFETY: as above.
    unsafe { ((BASE + register) as *mut u32).write_volatile(value) }
}
