//! Standard output: one line, one `write(1, …)`, nothing in between that a death could lose.
//!
//! | line | meaning |
//! | --- | --- |
//! | `R` | ready: the client is up and the producers start now |
//! | `C <seq>` | `capture` returned, and the event was accepted |
//! | `D <seq>` | `capture` refused the event |
//! | `U <name>` | this way to crash is not supported |
//! | `S` | shutdown finished |

#![allow(unsafe_code, reason = "one write, and not what a library makes of it")]

use std::io::{self, Write};

/// Longer than any line.
const LINE_BYTES: usize = 128;

pub fn ready() {
    line(format_args!("R"));
}

pub fn accepted(seq: u64) {
    line(format_args!("C {seq}"));
}

pub fn refused(seq: u64) {
    line(format_args!("D {seq}"));
}

pub fn unsupported(name: &str) {
    line(format_args!("U {name:.100}"));
}

pub fn shut_down() {
    line(format_args!("S"));
}

/// Shorter than a pipe's atomic size, so a line is there as a whole or not at all. A driver that went away is no reason to
/// stop; a signal is one to try again.
fn line(text: std::fmt::Arguments<'_>) {
    let mut bytes = [0; LINE_BYTES];
    let mut rest = &mut bytes[..];
    let _ = writeln!(rest, "{text}");
    let left = rest.len();
    let line = bytes.get(..LINE_BYTES - left).unwrap_or_default();
    // SAFETY: the pointer and the length are of one slice that lives until the call returns.
    while unsafe { libc::write(1, line.as_ptr().cast(), line.len()) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}
