//! The device's only clock: milliseconds since its reset, counted by the board's timer interrupt.

use core::cell::Cell;
use critical_section::Mutex;
use quillet_core::uptime::EventClock;
use quillet_core::{Clock, Instant, Timestamp};

/// 64 bits, which these processors cannot read at once: hence the mutex.
static MILLIS: Mutex<Cell<u64>> = Mutex::new(Cell::new(0));

static EVENT_CLOCK: Mutex<Cell<EventClock>> = Mutex::new(Cell::new(EventClock::UNSET));

/// To be called every millisecond.
pub fn tick() {
    critical_section::with(|token| {
        let millis = MILLIS.borrow(token);
        millis.set(millis.get().wrapping_add(1));
    });
}

/// Time since the reset.
pub fn now() -> Instant {
    Instant::from_micros(critical_section::with(|token| MILLIS.borrow(token).get()).saturating_mul(1000))
}

/// What an event captured now is stamped with: the time, or as long as that is unknown, the uptime.
pub fn timestamp() -> Timestamp {
    critical_section::with(|token| EVENT_CLOCK.borrow(token).get()).timestamp(now())
}

/// What [`timestamp`] goes by from now on.
pub fn set_event_clock(clock: EventClock) {
    critical_section::with(|token| EVENT_CLOCK.borrow(token).set(clock));
}

/// [`now`] as quillet asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Uptime;

impl Clock for Uptime {
    fn now(&self) -> Instant {
        now()
    }
}

/// Sleeps until the next interrupt, which is at most a millisecond away.
pub fn idle() {
    #[cfg(target_arch = "arm")]
    cortex_m::asm::wfi();
    #[cfg(target_arch = "riscv32")]
    riscv::asm::wfi();
}
