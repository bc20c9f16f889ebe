//! The device's program: readings from the main loop, ticks from the timer's interrupt, delivery in between.

use crate::crash::CRASHES;
use crate::retained::Retained;
use crate::uptime::{Uptime, idle, now, set_event_clock, timestamp};
use crate::{console, say};
use core::cell::Cell;
use core::time::Duration;
use critical_section::Mutex;
use quillet_core::http::{Http, Link};
use quillet_core::{
    Action, CaptureError, Common, Decimal, Envelope, Flusher, Instant, JsonSink, Lane, Policy, SerializeError,
    SharedLane, Stamper, Transport, Uuid, Value, WriteJson, event,
};

/// The device's name, in place of a person's.
pub const DEVICE: &str = "device-7f3a";

/// Longest event, in bytes of JSON.
const EVENT_BYTES_MAX: usize = 400;
/// Longest `$exception`: a quarter of its ring, which is the most there can be.
const CRASH_BYTES_MAX: usize = 512;
/// Events that may wait; the ring's bytes are the tighter limit.
const EVENTS_MAX: usize = 64;

/// The lane of the main loop and of every interrupt handler.
static EVENTS: SharedLane = SharedLane::new();

/// What the timer's interrupt still has to capture, and what it made of it.
static TICKS: Mutex<Cell<Ticks>> =
    Mutex::new(Cell::new(Ticks { wanted: 0, every_ms: 0, boot: 0, tried: 0, refused: 0 }));

#[derive(Clone, Copy)]
struct Ticks {
    wanted: u32,
    every_ms: u32,
    boot: u8,
    tried: u32,
    refused: u32,
}

/// What whoever started the device wants of it, with what is done unless it says otherwise.
struct Plan {
    readings: u32,
    ticks: u32,
    every_ms: u32,
}

impl Plan {
    fn from_arguments() -> Self {
        let argument = |name, usual| console::argument(name).unwrap_or(usual);
        Self {
            readings: argument("readings", 30),
            ticks: argument("ticks", 30),
            every_ms: argument("every_ms", 10).max(1),
        }
    }
}

/// To be called from the board's timer interrupt every millisecond.
pub fn on_timer() {
    crate::uptime::tick();
    let mut ticks = critical_section::with(|token| TICKS.borrow(token).get());
    if ticks.tried < ticks.wanted && (now().as_micros() / 1000).is_multiple_of(u64::from(ticks.every_ms)) {
        // Counts what was accepted, so that whoever receives it sees if one is missing.
        let n = ticks.tried - ticks.refused;
        let told =
            EVENTS.capture(&event!("tick", DEVICE, { "n": n, "boot": ticks.boot }), &Common::default(), timestamp());
        ticks.tried += 1;
        ticks.refused += u32::from(told.is_err());
        critical_section::with(|token| TICKS.borrow(token).set(ticks));
    }
}

/// Boots, captures what is planned, delivers everything, says what became of it, and ends.
///
/// `serial` is a number no other device has.
pub fn run(memory: &'static mut [u8], link: impl Link, host: &str, serial: u64) -> ! {
    let Some(retained) = Retained::attach(memory) else { fail("the retained memory is too small") };
    let Ok(http) = Http::new(link, Uptime, host) else { fail("the host is none") };
    let Ok(envelope) = Envelope::new("phc_firmware", false) else { fail("the key is none") };
    let plan = Plan::from_arguments();
    let mut device = Device::boot(retained, http, envelope, serial);
    critical_section::with(|token| {
        let (wanted, every_ms, boot) = (plan.ticks, plan.every_ms, device.boot);
        TICKS.borrow(token).set(Ticks { wanted, every_ms, boot, tried: 0, refused: 0 });
    });
    device.live(&plan);
    device.report();
    console::exit(true)
}

/// Captures what is planned and fails in the middle of one more capture, while nothing could be delivered yet; in the boot
/// after that, delivers all of it. With the argument `fault=1` it is the processor that cannot go on.
pub fn fail_once(memory: &'static mut [u8], link: impl Link, host: &str, serial: u64) -> ! {
    let Some(retained) = Retained::attach(memory) else { fail("the retained memory is too small") };
    let Ok(http) = Http::new(link, Uptime, host) else { fail("the host is none") };
    let Ok(envelope) = Envelope::new("phc_firmware", false) else { fail("the key is none") };
    let plan = Plan::from_arguments();
    let mut device = Device::boot(retained, http, envelope, serial);
    if device.recovered == 0 {
        let accepted = (0..plan.readings).filter(|&n| reading(n, device.boot).is_ok()).count();
        say!("accepted={accepted}");
        let fails = Fails { by_fault: console::argument("fault") == Some(1) };
        let told = EVENTS.capture(
            &event!("never captured", DEVICE, { "value": Value::Typed(&fails) }),
            &Common::default(),
            timestamp(),
        );
        say!("error: went on with {}", u8::from(told.is_ok()));
        console::exit(false)
    }
    device.live(&Plan { readings: 0, ticks: 0, every_ms: 1 });
    device.report();
    console::exit(true)
}

/// A value that ends the program while it is written: half of an event is in the ring then, and the lane is in use.
struct Fails {
    by_fault: bool,
}

impl WriteJson for Fails {
    fn write_json(&self, sink: &mut dyn JsonSink) -> Result<(), SerializeError> {
        sink.write(b"\"half a val")?;
        if self.by_fault {
            crate::crash::fault();
        }
        panic!("reading {} failed", 42)
    }
}

fn fail(why: &str) -> ! {
    say!("error: {why}");
    console::exit(false)
}

struct Device<'h, L> {
    http: Http<'h, L, Uptime>,
    flusher: Flusher<'static, 2>,
    boots: quillet_core::uptime::Boots<'static>,
    boot: u8,
    recovered: usize,
    /// Events committed to both rings before this boot.
    committed_before: usize,
    refused: u32,
    /// When the server's time may be asked for again.
    ask_at: Instant,
}

impl<'h, L: Link> Device<'h, L> {
    fn boot(retained: Retained, http: Http<'h, L, Uptime>, envelope: Envelope, serial: u64) -> Self {
        let Retained { events: (events, events_out), crashes: (crashes, crashes_out), boots, recovered } = retained;
        let committed_before = events.committed() + crashes.committed();
        say!("boot={} recovered={recovered} committed={committed_before}", boots.number());
        set_event_clock(boots.clock());
        // A device has no entropy, but no two boots have both this number and have captured something.
        let seed = [serial, committed_before as u64];
        let crash_seed = [serial ^ u64::MAX, committed_before as u64];
        EVENTS.put(Lane::new(events, Stamper::new(seed), EVENTS_MAX, EVENT_BYTES_MAX));
        CRASHES.put(Lane::new(crashes, Stamper::new(crash_seed), EVENTS_MAX, CRASH_BYTES_MAX));
        let policy = Policy {
            flush_at: 8,
            flush_interval: Duration::from_millis(200),
            max_batch_bytes: 2048,
            queue_events_max: EVENTS_MAX,
            backoff_base: Duration::from_millis(200),
            backoff_max: Duration::from_secs(1),
            ..Policy::default()
        };
        Self {
            http: http.with_timeout(Duration::from_secs(2)),
            flusher: Flusher::new([events_out, crashes_out], envelope, policy, seed),
            boot: boots.number(),
            boots,
            recovered,
            committed_before,
            refused: 0,
            ask_at: Instant::ZERO,
        }
    }

    /// Captures and delivers until both is done.
    fn live(&mut self, plan: &Plan) {
        let (mut readings, mut next_at) = (0, now());
        loop {
            if readings < plan.readings && next_at <= now() {
                // As for the ticks.
                self.refused += u32::from(reading(readings - self.refused, self.boot).is_err());
                readings += 1;
                next_at = next_at.after(Duration::from_millis(plan.every_ms.into()));
            }
            let all_captured = readings == plan.readings && ticks().tried == plan.ticks;
            if all_captured {
                self.flusher.flush();
            }
            if !self.boots.is_time_known() {
                self.ask_for_the_time();
            } else if !self.deliver_one() {
                if all_captured && self.flusher.is_idle() {
                    return;
                }
                idle();
            }
        }
    }

    /// The server says the time with every answer, so the first question is that. What waits is put right before it leaves.
    fn ask_for_the_time(&mut self) {
        if now() < self.ask_at {
            return idle();
        }
        self.ask_at = now().after(Duration::from_millis(300));
        if let Some(time) = self.http.learn_time() {
            self.boots.set_wall_time(time, now());
            // From here on nothing is captured with the uptime any more; then what was is put right.
            set_event_clock(self.boots.clock());
            let settled = self.flusher.settle_times(&self.boots);
            say!(
                "time={} exact={} reset={} unset={}",
                time.as_unix_ms() / 1000,
                settled.exact,
                settled.reset,
                settled.unset
            );
        }
    }

    /// Sends what is due; whether anything was.
    fn deliver_one(&mut self) -> bool {
        let Action::Send(batch) = self.flusher.poll(now()) else { return false };
        let outcome = self.http.send(&batch);
        let report = self.flusher.handle_outcome(now(), outcome);
        if report.delivered == 0 {
            say!("attempt={} status={} events={}", report.attempt, report.status.unwrap_or(0), report.events);
        }
        true
    }

    /// What became of every event, for whoever wants to add it up.
    fn report(&self) {
        let counters = self.flusher.counters();
        let accepted = EVENTS.committed() + CRASHES.committed() - self.committed_before;
        let dropped: u64 = counters.dropped.iter().sum();
        let (delivered, rejected, pending) = (counters.delivered, counters.rejected, self.flusher.pending());
        let conserved = (accepted + self.recovered) as u64 == delivered + rejected + dropped + pending as u64;
        let refused = self.refused + ticks().refused;
        say!("accepted={accepted} recovered={} refused={refused}", self.recovered);
        say!(
            "delivered={delivered} rejected={rejected} dropped={dropped} pending={pending} conserved={}",
            u8::from(conserved)
        );
        say!("requests={} retries={}", counters.requests, counters.retries);
    }
}

fn ticks() -> Ticks {
    critical_section::with(|token| TICKS.borrow(token).get())
}

/// One reading of a sensor. It has no float, and needs none.
pub fn reading(n: u32, boot: u8) -> Result<Uuid, CaptureError> {
    let celsius = Decimal::new(2150 + i64::from(n % 40), 2);
    EVENTS.capture(
        &event!("reading", DEVICE, { "n": n, "boot": boot, "celsius": &celsius }),
        &Common::default(),
        timestamp(),
    )
}
