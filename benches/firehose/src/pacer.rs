//! When a thread's next event is due.
//!
//! In: a rate and the time. Out: how many events are due by now. A thread that was held up catches up: events are due by
//! the schedule, not by when the last one was sent.

use std::thread;
use std::time::Duration;

use crate::args::Pace;
use crate::ticks::{Scale, ticks};

/// How long a thread sleeps between two bursts; the system adds some fifty microseconds.
const NAP: Duration = Duration::from_millis(1);

/// Without a rate, how many events are sent between two looks at the time.
const UNPACED: u64 = 256;

pub(crate) struct Pacer {
    pace: Pace,
    start: u64,
    end: u64,
    /// Events per tick of the clock; zero for no limit.
    rate: f64,
    sent: u64,
}

impl Pacer {
    /// `rate` in events a second, zero for as fast as it goes.
    pub(crate) fn start(rate: f64, seconds: f64, pace: Pace, scale: Scale) -> Self {
        let start = ticks();
        let end = start.wrapping_add((seconds * scale.per_second()) as u64);
        Self { pace, start, end, rate: rate / scale.per_second(), sent: 0 }
    }

    /// Waits until events are due and says how many; `None` once the time is over and all are sent.
    pub(crate) fn due(&mut self) -> Option<u64> {
        loop {
            let now = ticks();
            let is_over = now >= self.end;
            if self.rate == 0.0 {
                return if is_over { None } else { Some(UNPACED) };
            }
            let due = (now.min(self.end).wrapping_sub(self.start) as f64 * self.rate) as u64;
            if due > self.sent {
                let more = due - self.sent;
                self.sent = due;
                return Some(more);
            }
            if is_over {
                return None;
            }
            match self.pace {
                Pace::Burst => thread::sleep(NAP),
                Pace::Spin => std::hint::spin_loop(),
            }
        }
    }
}
