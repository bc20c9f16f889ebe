//! The event of a process that a signal ended, written by a healthy one.
//!
//! In: the pages of a dead process, which anybody may have written to, and what is known of it otherwise. Out: a whole
//! frame, byte for byte the same whenever it is made from the same pages, so that a death in the middle of recovery
//! costs no second event.

use core::fmt::Write as _;

use quillet_core::limits::EVENT_BYTES_MAX;
use quillet_core::{Common, Event, Exception, Level, Mechanism, Stamper};

use super::signal::is_sent;
use super::slots::{Found, State};

/// What is known of a dead process besides its pages.
#[derive(Clone, Copy)]
pub(crate) struct Dead<'a> {
    /// Its super properties.
    pub(crate) common: Common<'a>,
    /// Distinct id of its crash events; empty for none.
    pub(crate) person: &'a str,
    /// It came to an end in order: a signal that nobody is sure about was then dealt with.
    pub(crate) is_clean: bool,
}

/// The frame of the `$exception` that the pages speak of; `None` if they speak of none.
pub(crate) fn frame(pages: &[u8], dead: &Dead<'_>) -> Option<Vec<u8>> {
    let found = Found::read(pages)?;
    if dead.is_clean && found.state == State::Provisional {
        return None;
    }
    let record = &found.record;
    let signal = Signal::of(record.signal);
    let message = explain(signal, record.code, record.address, record.registers[1]);
    let exception = Exception::new(signal.map_or("Signal", |signal| signal.name), &message)
        .mechanism(Mechanism::Signal)
        .handled(false)
        .level(Level::Fatal)
        .source("os.signal")
        .thread(Some(record.thread_id).filter(|id| *id != 0), record.thread_name())
        .stack(record.addresses(), &found.images);
    let encode = |person| {
        let event = Event::exception(person, &exception).uuid(found.uuid).timestamp(record.time);
        let mut frame = vec![0; EVENT_BYTES_MAX];
        let written = event.encode(&mut Stamper::new([0, 0]), &dead.common, record.time, &mut frame)?;
        frame.truncate(written.len);
        frame.extend_from_slice(b",\n");
        Ok::<_, quillet_core::CaptureError>(frame)
    };
    // A person that the server would not take must not cost the report.
    encode(dead.person).or_else(|_| encode("")).ok()
}

/// A signal that handlers are installed for.
#[derive(Clone, Copy)]
struct Signal {
    number: i32,
    name: &'static str,
    what: &'static str,
    /// Kinds of it, by the system's code.
    kinds: &'static [(i32, &'static str)],
}

impl Signal {
    fn of(number: u32) -> Option<Self> {
        SIGNALS.into_iter().find(|signal| u32::try_from(signal.number) == Ok(number))
    }
}

/// Codes beyond zero are the kernel's and belong to one signal each. Those of the first two signals are the same everywhere,
/// of the others Linux's.
const SIGNALS: [Signal; 6] = [
    Signal {
        number: libc::SIGSEGV,
        name: "SIGSEGV",
        what: "invalid memory reference",
        kinds: &[(1, "address not mapped"), (2, "access not permitted"), (0x80, "address not canonical")],
    },
    Signal {
        number: libc::SIGBUS,
        name: "SIGBUS",
        what: "memory that cannot be reached",
        kinds: &[(1, "address not aligned"), (2, "nothing behind the mapping"), (3, "hardware error")],
    },
    Signal { number: libc::SIGILL, name: "SIGILL", what: "illegal instruction", kinds: &[] },
    Signal {
        number: libc::SIGFPE,
        name: "SIGFPE",
        what: "arithmetic error",
        kinds: if cfg!(any(target_os = "linux", target_os = "android")) {
            &[(1, "division by zero"), (2, "overflow"), (3, "floating-point division by zero")]
        } else {
            &[]
        },
    },
    Signal { number: libc::SIGABRT, name: "SIGABRT", what: "aborted", kinds: &[] },
    Signal { number: libc::SIGTRAP, name: "SIGTRAP", what: "trap", kinds: &[] },
];

/// One sentence about it. The server groups by type and stack, so addresses in here do no harm.
fn explain(signal: Option<Signal>, code: i32, address: u64, stack: u64) -> String {
    let Some(signal) = signal else { return format!("signal with code {code}") };
    let mut text = signal.what.to_owned();
    // Then there is no address.
    if is_sent(code) {
        if signal.name != "SIGABRT" {
            text.push_str(" (sent by a process)");
        }
        return text;
    }
    if matches!(signal.name, "SIGSEGV" | "SIGBUS") && code != 0x80 {
        let _ = write!(text, " at {address:#x}");
    }
    if let Some((_, kind)) = signal.kinds.iter().find(|(known, _)| *known == code) {
        let _ = write!(text, " ({kind})");
    }
    // Below the stack pointer, or in the guard page a large frame reaches into.
    if signal.name == "SIGSEGV" && stack != 0 && address.wrapping_sub(stack.wrapping_sub(STACK_REACH)) < 2 * STACK_REACH
    {
        text.push_str(": probably a stack overflow");
    }
    text
}

/// How far from the stack pointer an address may be that overflowing the stack touches.
const STACK_REACH: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::super::slots::tests::pages_of;
    use super::*;
    use quillet_core::RawJson;

    fn dead(is_clean: bool) -> Dead<'static> {
        Dead { common: Common::default(), person: "somebody", is_clean }
    }

    #[test]
    fn a_record_becomes_one_exception_the_same_each_time() {
        let pages = pages_of(libc::SIGSEGV as u32, 1, 0x10, State::Committed);
        let frame = super::frame(&pages, &dead(false)).unwrap();
        assert_eq!(super::frame(&pages, &dead(true)).unwrap(), frame);
        let text = std::str::from_utf8(&frame).unwrap();
        let json = text.strip_suffix(",\n").unwrap();
        assert!(RawJson::parse(json).is_ok());
        for expected in [
            "\"type\":\"SIGSEGV\"",
            "invalid memory reference at 0x10 (address not mapped)",
            "\"handled\":false",
            "\"thread_id\":12",
            "\"distinct_id\":\"somebody\"",
            "\"timestamp\":\"2026-11-18T",
            "/bin/dead",
        ] {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }
        assert!(!text.contains("/lib/other"), "an image without a build id is of no use to the server");
    }

    #[test]
    fn a_signal_that_nobody_is_sure_about_counts_if_the_process_ended_badly() {
        let pages = pages_of(libc::SIGABRT as u32, -6, 0, State::Provisional);
        assert!(frame(&pages, &dead(false)).is_some());
        assert!(frame(&pages, &dead(true)).is_none());
    }

    #[test]
    fn messages_say_what_is_known() {
        for (number, code, address, stack, expected) in [
            (
                libc::SIGSEGV,
                1,
                0x7ff0,
                0x8000,
                "invalid memory reference at 0x7ff0 (address not mapped): probably a stack overflow",
            ),
            (libc::SIGSEGV, 0, 0, 0x8000, "invalid memory reference (sent by a process)"),
            (libc::SIGSEGV, 0x1_0001, 0, 0x8000, "invalid memory reference (sent by a process)"),
            (libc::SIGFPE, 1, 0x1, 0, "arithmetic error (division by zero)"),
            (libc::SIGABRT, -6, 0, 0, "aborted"),
            (libc::SIGTRAP, 0x80, 0, 0, "trap"),
        ] {
            assert_eq!(explain(Signal::of(number as u32), code, address, stack), expected);
        }
        assert_eq!(explain(Signal::of(99), 3, 0, 0), "signal with code 3");
    }

    #[test]
    fn whatever_the_pages_hold_what_comes_out_is_a_frame() {
        let good = pages_of(libc::SIGSEGV as u32, 1, 0x10, State::Committed);
        for at in 0..4096 + 200 {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            if let Some(frame) = frame(&bad, &dead(false)) {
                let json = frame.strip_suffix(b",\n").and_then(|json| std::str::from_utf8(json).ok()).unwrap();
                assert!(RawJson::parse(json).is_ok());
            }
        }
    }
}
