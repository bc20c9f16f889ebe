//! What quillet does with the reference event, as cases to measure: used by `versus` and by `instructions`.
//!
//! In: nothing. Out: [`Case`]s. Captures go through the public `Client::capture`, lanes, checks and counters included.
//! Their rings are emptied between two bursts, so that no time or instruction of delivery is in the figures.

#![allow(dead_code, reason = "each bench uses a part of it")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quillet::{
    Batch, Captured, Client, Common, Durability, Event, Lane, Outcome, Property, Ring, Stamper, Timestamp, Transport,
    Value, event, props,
};
use quillet_support::measure::Case;
use quillet_support::reference::{Checkout, Checkouts, KEYS, NAME};

/// The names that others look for in the figures.
pub const LITERAL_KEYS: &str = "quillet capture, literal keys";
pub const RUN_TIME_KEYS: &str = "quillet capture, run-time keys";
pub const WITH_SPOOL: &str = "quillet capture, literal keys, spool";

/// 2026-11-23T09:00:00.250000Z, in microseconds.
pub const NOW: u64 = 1_795_424_400_250_000;

/// Bytes of every queue and of the memory that is copied to: the least that a client's lane can have. A burst fits, and so
/// does all of it into a second-level cache, as it would in a program that captures now and then.
pub const RING_BYTES: usize = 256 * 1024;

/// Room that a capture asks for beyond what it turns out to need, because it cannot know the length before it has
/// written: what the copies that are compared with it have to pay too.
pub const MARGIN: usize = 64;

/// Memory for as long as the program runs.
pub fn leaked(bytes: usize) -> &'static mut [u8] {
    Box::leak(vec![0; bytes].into_boxed_slice())
}

/// Says yes to everything, and keeps the length of the first frame.
#[derive(Clone, Default)]
pub struct Nowhere {
    frame_bytes: Arc<AtomicUsize>,
}

impl Nowhere {
    pub fn frame_bytes(&self) -> usize {
        self.frame_bytes.load(Ordering::Relaxed)
    }
}

impl Transport for Nowhere {
    fn send(&mut self, batch: &Batch<'_>) -> Outcome {
        self.frame_bytes.store(batch.frames().next().unwrap_or_default().len(), Ordering::Relaxed);
        Outcome::status(200)
    }
}

/// `Client::capture` of the reference event, its name and keys written in the source.
pub fn capture_literal_keys() -> Case<'static> {
    capture(LITERAL_KEYS, None, with_literal_keys)
}

/// The same into a queue that is a mapped file.
pub fn capture_with_spool() -> Case<'static> {
    capture(
        WITH_SPOOL,
        Some(&std::env::temp_dir().join(format!("quillet-bench-{}", std::process::id()))),
        with_literal_keys,
    )
}

/// The same with a name and keys that are known only when the program runs.
pub fn capture_run_time_keys() -> Case<'static> {
    capture(RUN_TIME_KEYS, None, |client, checkout| {
        let (name, keys) = black_box((NAME, KEYS));
        client.capture(Event::new(name, checkout.id).properties(&with_keys(checkout, &keys)))
    })
}

#[inline(always)]
fn with_literal_keys(client: &Client, &Checkout { id, plan, amount_cents, path }: &Checkout) -> Captured {
    let properties = props! { "plan": plan, "amount_cents": amount_cents, "path": path };
    client.capture(event!("checkout_completed", id).properties(properties))
}

/// The same with a quote in the last value: what the short way leaves to the long one when all is written.
pub fn capture_escaped() -> Case<'static> {
    capture("quillet capture, one escape", None, |client, &Checkout { id, plan, amount_cents, .. }| {
        let properties = props! { "plan": plan, "amount_cents": amount_cents, "path": "/basket/\"gift\"" };
        client.capture(event!("checkout_completed", id).properties(properties))
    })
}

/// The same with an object for a value.
pub fn capture_nested() -> Case<'static> {
    capture("quillet capture, one object", None, |client, &Checkout { id, plan, amount_cents, path }| {
        let item = props! { "amount_cents": amount_cents, "path": path };
        let properties = props! { "plan": plan, "item": Value::Object(item) };
        client.capture(event!("checkout_completed", id).properties(properties))
    })
}

/// The same with a property of PostHog's own.
pub fn capture_dollar_key() -> Case<'static> {
    capture("quillet capture, one $ key", None, |client, &Checkout { id, plan, amount_cents, path }| {
        let properties = props! { "plan": plan, "amount_cents": amount_cents, "$current_url": path };
        client.capture(event!("checkout_completed", id).properties(properties))
    })
}

/// The call is compiled into the loop, as it is into the code of a program that captures.
fn capture(
    name: &'static str,
    spool: Option<&Path>,
    capture: impl Fn(&Client, &Checkout) -> Captured + 'static,
) -> Case<'static> {
    let nowhere = Nowhere::default();
    // No thread of its own: it delivers when told to.
    let builder = Client::builder("phc_bench").transport(nowhere.clone()).without_thread().queue_bytes(RING_BYTES);
    let mut builder = builder.max_queue_size(1_000_000).max_batch_events(100_000);
    if let Some(folder) = spool {
        builder = builder.spool_dir(folder);
    }
    let client = builder.build().unwrap();
    assert_eq!(spool.is_some(), client.durability() != Durability::Memory, "{:?}", client.durability());
    if let Some(folder) = spool {
        // The mapping needs no name, and nothing is to stay behind.
        std::fs::remove_dir_all(folder).unwrap();
    }
    let mut checkouts = Checkouts::new();
    assert!(capture(&client, checkouts.next()).is_accepted());
    client.flush(Duration::from_secs(10)).unwrap();
    let bytes = nowhere.frame_bytes();
    let drained = client.clone();
    let work = move |count| {
        for _ in 0..count {
            // Looked at where it is: most callers drop it.
            black_box(&capture(&client, checkouts.next()));
        }
    };
    // So many that what is counted does not meet the end of a lap, which is where one in a thousand takes longer.
    Case::new(name, bytes, work).with_warm_up(25).with_rest(move || {
        drained.flush(Duration::from_secs(10)).unwrap();
        assert_eq!(drained.stats().refused_total(), 0, "a refused event costs less than a captured one");
    })
}

#[inline]
fn with_keys<'a>(checkout: &Checkout, keys: &[&'a str; 3]) -> [Property<'a>; 3] {
    [
        Property::new(keys[0], checkout.plan),
        Property::new(keys[1], checkout.amount_cents),
        Property::new(keys[2], checkout.path),
    ]
}

/// Encodes events one over the other into the same memory; time goes on by 10 µs from one to the next.
pub struct Encoder {
    stamper: Stamper,
    common: Common<'static>,
    micros: u64,
    out: Vec<u8>,
}

impl Encoder {
    pub fn new(bytes_max: usize) -> Self {
        // What a client with default options says in every event.
        let everywhere = props! { "$is_server": true };
        let common = Common::render(leaked(Common::bytes_for(everywhere)), everywhere).unwrap();
        Self { stamper: Stamper::new([1, 2]), common, micros: NOW, out: vec![0; bytes_max] }
    }

    /// The event's JSON is `len` bytes long.
    #[inline]
    pub fn encode(&mut self, event: &Event<'_>) -> usize {
        self.micros += 10;
        let now = Timestamp::from_unix_micros(self.micros);
        let encoded = event.encode(&mut self.stamper, &self.common, now, &mut self.out).unwrap();
        black_box(self.out.as_slice());
        encoded.len
    }
}

/// An event to JSON in a slice: checks, stamp, escapes, and no ring.
pub fn encode(name: &'static str, mut event: impl FnMut(&mut Encoder) -> usize + 'static) -> Case<'static> {
    let mut encoder = Encoder::new(512 * 1024);
    let bytes = event(&mut encoder);
    Case::new(name, bytes, move |count| {
        for _ in 0..count {
            black_box(event(&mut encoder));
        }
    })
}

/// The ring alone: room is granted, the bytes of a finished frame are copied into it, and committed.
pub fn ring(name: &'static str) -> Case<'static> {
    let frame = reference_frame();
    let (mut producer, mut consumer) = Ring::format(leaked(Ring::bytes_for(RING_BYTES))).unwrap().split();
    let bytes = frame.len();
    let work = move |count| {
        for _ in 0..count {
            let frame = black_box(frame);
            let mut grant = producer.grant(frame.len() + MARGIN).unwrap();
            grant.bytes_mut()[..frame.len()].copy_from_slice(frame);
            grant.commit(frame.len());
        }
    };
    Case::new(name, bytes, work).with_rest(move || {
        let events = consumer.pending();
        consumer.release(consumer.head(), events);
    })
}

/// The reference event as it stands in a ring, `,\n` included.
pub fn reference_frame() -> &'static [u8] {
    let (producer, consumer) = Ring::format(leaked(Ring::bytes_for(RING_BYTES))).unwrap().split();
    let mut lane = Lane::new(producer, Stamper::new([1, 2]), 1, 64 * 1024);
    let everywhere = props! { "$is_server": true };
    let common = Common::render(leaked(Common::bytes_for(everywhere)), everywhere).unwrap();
    let checkout = *Checkouts::new().next();
    let event = Event::new(NAME, checkout.id);
    let now = Timestamp::from_unix_micros(NOW);
    lane.capture(&event.properties(&with_keys(&checkout, &KEYS)), &common, now).unwrap();
    consumer.slices(consumer.tail(), consumer.head()).0.to_vec().leak()
}
