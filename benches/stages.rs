//! What each stage of an event's way costs, on its own.
//!
//! ```text
//! cargo bench --bench stages                      # some minutes
//! cargo bench --bench stages -- --quick           # less than a minute, coarser
//! cargo bench --bench stages -- encode/           # one stage
//! ```
//!
//! | group | measured | left out |
//! |---|---|---|
//! | `clock` | one reading of the monotonic clock, and of the wall clock | the carrying on between readings |
//! | `stamp` | a uuid, a timestamp, and their texts | reading a clock |
//! | `encode` | one event to JSON, in a slice: checks, stamp, escapes | the ring, the clock |
//! | `escape` | the same for 4 KiB of text with more and more to escape | the ring, the clock |
//! | `ring` | grant, copy of one finished frame, commit; release | making the frame |
//! | `capture` | `Client::capture`: clock, lane, encode, commit | delivery: the ring is drained while no time is taken |
//! | `batch` | 1000 frames: poll, body, outcome | capturing them, and the network |
//! | `deliver` | 1000 frames: `Client::flush` through the memory transport | capturing them, and the network |
//!
//! Inputs vary over a few values and go through `black_box`, so that nothing can be computed in advance. Nobody reads what
//! is written: a consumer on another core costs both sides cache misses, which are not in these figures.

#![allow(missing_docs, reason = "criterion_group! makes a public function")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a bench that fails should stop")]

#[path = "cases/mod.rs"]
mod cases;

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use cases::Nowhere;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use quillet::transport::memory::MemoryTransport;
use quillet::{
    Action, Captured, Client, ClientBuilder, Clock, Common, Consumer, Envelope, Event, Flusher, HookVerdict, Lane,
    Outcome, Policy, Prng, Property, RawJson, Ring, Stamper, SystemClock, Timestamp, Typed, Uuid, Value, event, props,
};
use serde::Serialize;

criterion_group! {
    name = stages;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    targets = clock, stamp, encode, escape, ring, capture, batch, deliver
}
criterion_main!(stages);

/// 2026-11-23T09:00:00.250000Z, in microseconds.
const NOW: u64 = 1_795_424_400_250_000;

/// Bytes of the rings: what a client's lane has by default.
const RING_BYTES: usize = 1024 * 1024;

/// Captures between two drainings. Their frames fit the ring.
const BURST: u64 = 2_000;

/// Distinct ids of 22 bytes, paths of 30: the reference event is `checkout_completed` with plan, amount and path.
const IDS: [&str; 4] =
    ["customer-0193a7c2-8841", "customer-0193b11e-02f7", "customer-0193c9d5-7ab3", "customer-0193d004-e6c8"];
const PATHS: [&str; 4] = [
    "/shop/checkout/payment/confirm",
    "/shop/checkout/address/confirm",
    "/shop/checkout/parcels/confirm",
    "/shop/checkout/voucher/confirm",
];
const PLANS: [&str; 4] = ["pro", "free", "team", "enterprise"];

/// What differs from one reference event to the next.
struct Checkout {
    id: &'static str,
    plan: &'static str,
    amount_cents: i64,
    path: &'static str,
}

/// Makes checkouts, another one each time.
struct Checkouts {
    turn: usize,
}

impl Checkouts {
    fn new() -> Self {
        Self { turn: 0 }
    }

    #[inline]
    fn next(&mut self) -> Checkout {
        self.turn = self.turn.wrapping_add(1);
        let at = self.turn % 4;
        let amount_cents = 4_900 + (self.turn % 10_000) as i64;
        black_box(Checkout { id: IDS[at], plan: PLANS[at], amount_cents, path: PATHS[at] })
    }
}

impl Checkout {
    /// As a caller writes it who knows the keys only when the program runs.
    #[inline]
    fn properties(&self, keys: &[&'static str; 3]) -> [Property<'_>; 3] {
        [
            Property::new(keys[0], self.plan),
            Property::new(keys[1], self.amount_cents),
            Property::new(keys[2], self.path),
        ]
    }
}

const KEYS: [&str; 3] = ["plan", "amount_cents", "path"];

fn clock(c: &mut Criterion) {
    let mut group = c.benchmark_group("clock");
    let clock = SystemClock::new();
    group.bench_function("monotonic", |b| b.iter(|| clock.now()));
    group.bench_function("wall", |b| b.iter(SystemTime::now));
    group.finish();
}

fn stamp(c: &mut Criterion) {
    let mut group = c.benchmark_group("stamp");
    group.bench_function("uuid_v7", |b| {
        let (mut prng, mut ms) = (Prng::new([1, 2]), NOW / 1_000);
        b.iter(|| {
            ms += 1;
            Uuid::v7(black_box(ms), [prng.next(), prng.next()])
        });
    });
    group.bench_function("uuid_text", |b| {
        let mut prng = Prng::new([1, 2]);
        b.iter(|| Uuid::v7(NOW / 1_000, [prng.next(), prng.next()]).hyphenated());
    });
    group.bench_function("timestamp_text", |b| {
        let mut micros = NOW;
        b.iter(|| {
            micros += 17;
            Timestamp::from_unix_micros(black_box(micros)).text()
        });
    });
    group.finish();
}

/// Encodes events one behind the other into the same buffer; time goes on by 10 µs from one to the next.
struct Encoder<'a> {
    stamper: Stamper,
    common: Common<'a>,
    micros: u64,
    out: Vec<u8>,
}

impl Encoder<'_> {
    #[inline]
    fn encode(&mut self, event: &Event<'_>) -> usize {
        self.micros += 10;
        let now = Timestamp::from_unix_micros(self.micros);
        let encoded = event.encode(&mut self.stamper, &self.common, now, &mut self.out).unwrap();
        black_box(self.out.as_slice());
        encoded.len
    }
}

#[derive(Serialize)]
struct Parcel<'a> {
    weight_kg: f64,
    stops: [u32; 4],
    to: &'a str,
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    // What a client with default options says in every event.
    let everywhere = props! { "$is_server": true };
    let mut memory = vec![0; Common::bytes_for(everywhere)];
    let common = Common::render(&mut memory, everywhere).unwrap();
    let mut checkouts = Checkouts::new();

    encode_one(&mut group, "no_properties", common, |encoder| encoder.encode(&event!("checkout_completed", IDS[0])));
    encode_one(&mut group, "literal_keys", common, |encoder| {
        let Checkout { id, plan, amount_cents, path } = checkouts.next();
        let properties = props! { "plan": plan, "amount_cents": amount_cents, "path": path };
        encoder.encode(&event!("checkout_completed", id).properties(properties))
    });
    encode_one(&mut group, "run_time_keys", common, |encoder| {
        let checkout = checkouts.next();
        let (name, keys) = black_box(("checkout_completed", KEYS));
        encoder.encode(&Event::new(name, checkout.id).properties(&checkout.properties(&keys)))
    });
    encode_one(&mut group, "numbers", common, |encoder| {
        let checkout = checkouts.next();
        let (whole, ratio) = (checkout.amount_cents, checkout.amount_cents as f64 / 977.0);
        encoder.encode(&event!("measured", checkout.id).properties(props! { "a": whole, "b": -whole, "c": ratio }))
    });
    let quoted = "He said: \"no\\yes\"\n\t".repeat(13);
    encode_one(&mut group, "escapes_260_bytes", common, |encoder| {
        let text = black_box(quoted.as_str());
        encoder.encode(&event!("review written", IDS[1]).properties(props! { "text": text }))
    });
    let long = "a page of plain text, without anything in it that needs an escape. ".repeat(979);
    encode_one(&mut group, "text_64_kib", common, |encoder| {
        let text = black_box(&long[..64 * 1024]);
        encoder.encode(&event!("page archived", IDS[2]).properties(props! { "text": text }))
    });
    let names: Vec<String> = (0..100).map(|at| format!("counter_{at}")).collect();
    encode_one(&mut group, "properties_100", common, |encoder| {
        let value = checkouts.next().amount_cents;
        let properties: [Property<'_>; 100] = std::array::from_fn(|at| Property::new(&names[at], value));
        encoder.encode(&Event::new("counted", IDS[3]).properties(&properties))
    });
    encode_one(&mut group, "nested", common, |encoder| {
        let Checkout { id, plan, amount_cents, path } = checkouts.next();
        encoder.encode(&event!("search done", id).properties(props! {
            "filters": { "tags": ["new", plan], "price": { "max": amount_cents, "min": null } },
            "page": { "path": path, "steps": [1, 2, { "of": [3, 4] }] },
        }))
    });
    let json = r#"{ "theme": "dark", "panes": [1, 2, 3], "title": "a window" }"#;
    encode_one(&mut group, "raw_json_checked", common, |encoder| {
        let raw = RawJson::parse(black_box(json)).unwrap();
        encoder.encode(&event!("layout saved", IDS[0]).properties(props! { "layout": raw }))
    });
    encode_one(&mut group, "serde", common, |encoder| {
        let checkout = checkouts.next();
        let parcel = Typed(Parcel { weight_kg: 2.5, stops: [1, 2, 3, 4], to: checkout.path });
        encoder.encode(&event!("parcel sent", checkout.id).properties(props! { "parcel": Value::Typed(&parcel) }))
    });
    group.finish();
}

fn escape(c: &mut Criterion) {
    let mut group = c.benchmark_group("escape");
    let pieces = [
        ("nothing", "a page of plain "),
        ("1_in_16", "a page of \"text "),
        ("all_quotes", "\""),
        ("all_controls", "\u{1}"),
    ];
    for (name, piece) in pieces {
        let text = piece.repeat(4096 / piece.len());
        encode_one(&mut group, name, Common::default(), |encoder| {
            encoder
                .encode(&event!("page archived", "customer-7").properties(props! { "text": black_box(text.as_str()) }))
        });
    }
    group.finish();
}

fn encode_one<'a>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    common: Common<'a>,
    mut run: impl FnMut(&mut Encoder<'a>) -> usize,
) {
    let mut encoder = Encoder { stamper: Stamper::new([1, 2]), common, micros: NOW, out: vec![0; 128 * 1024] };
    group.throughput(Throughput::Bytes(run(&mut encoder) as u64));
    group.bench_function(name, |b| b.iter(|| run(&mut encoder)));
}

fn ring(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    let frame = reference_frame();
    group.throughput(Throughput::Bytes(frame.len() as u64));

    let mut memory = vec![0; Ring::bytes_for(RING_BYTES)];
    let (mut producer, mut consumer) = Ring::format(&mut memory).unwrap().split();
    let mut commit = || {
        let frame = black_box(frame.as_slice());
        // More than is needed, as a capture does, which does not know the length before it has written.
        let mut grant = producer.grant(frame.len() + 96).unwrap();
        grant.bytes_mut()[..frame.len()].copy_from_slice(frame);
        grant.commit(frame.len());
    };
    group.bench_function("grant_commit", |b| {
        b.iter_custom(|iterations| {
            in_bursts(
                iterations,
                |burst| (0..burst).for_each(|_| commit()),
                || {
                    let events = consumer.pending();
                    consumer.release(consumer.head(), events);
                },
            )
        });
    });
    group.bench_function("grant_commit_release", |b| {
        b.iter(|| {
            commit();
            consumer.release(black_box(consumer.head()), 1);
        });
    });
    group.finish();
}

/// Takes the time of `work`, in bursts, between which `rest` runs off the clock.
fn in_bursts(iterations: u64, mut work: impl FnMut(u64), mut rest: impl FnMut()) -> Duration {
    let (mut left, mut taken) = (iterations, Duration::ZERO);
    while left > 0 {
        let burst = left.min(BURST);
        let start = Instant::now();
        work(burst);
        taken += start.elapsed();
        rest();
        left -= burst;
    }
    taken
}

fn capture(c: &mut Criterion) {
    let mut group = c.benchmark_group("capture");
    let as_it_is = |builder: ClientBuilder| builder;
    let literal_keys = |client: &Client, checkout: Checkout| {
        let Checkout { id, plan, amount_cents, path } = checkout;
        let properties = props! { "plan": plan, "amount_cents": amount_cents, "path": path };
        client.capture(event!("checkout_completed", id).properties(properties))
    };
    let run_time_keys = |client: &Client, checkout: Checkout| {
        let (name, keys) = black_box(("checkout_completed", KEYS));
        client.capture(Event::new(name, checkout.id).properties(&checkout.properties(&keys)))
    };
    capture_one(&mut group, "no_properties", as_it_is, |client, checkout| {
        client.capture(event!("checkout_completed", checkout.id))
    });
    capture_one(&mut group, "literal_keys", as_it_is, literal_keys);
    capture_one(&mut group, "run_time_keys", as_it_is, run_time_keys);
    let super_properties = |builder: ClientBuilder| {
        let builder = builder.super_property("service", "checkout").super_property("release", "1.4.2");
        builder.super_property("region", "eu-central-1").super_property("shard", 7)
    };
    capture_one(&mut group, "super_properties_4", super_properties, literal_keys);
    let hook = |builder: ClientBuilder| builder.before_send(|_| HookVerdict::Send);
    capture_one(&mut group, "before_send", hook, literal_keys);
    group.finish();
}

fn capture_one(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    options: impl Fn(ClientBuilder) -> ClientBuilder,
    capture: impl Fn(&Client, Checkout) -> Captured,
) {
    let nowhere = Nowhere::default();
    // No thread of its own: it drains when told, which is when no time is taken.
    let builder = Client::builder("phc_bench").transport(nowhere.clone()).without_thread().queue_bytes(RING_BYTES);
    let client = options(builder.max_queue_size(1_000_000).max_batch_events(100_000)).build().unwrap();
    let drain = || client.flush(Duration::from_secs(10)).unwrap();
    let mut checkouts = Checkouts::new();
    assert!(capture(&client, checkouts.next()).is_accepted());
    drain();
    group.throughput(Throughput::Bytes(nowhere.frame_bytes() as u64));
    group.bench_function(name, |b| {
        b.iter_custom(|iterations| {
            let work = |burst| {
                for _ in 0..burst {
                    black_box(capture(&client, checkouts.next()));
                }
            };
            in_bursts(iterations, work, drain)
        });
    });
    assert_eq!(client.stats().refused_total(), 0, "a refused event costs less than a captured one");
}

fn batch(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch");
    batch_one::<1>(&mut group, "events_1000_in_1_lane", |chunk, _| {
        black_box(chunk);
    });
    batch_one::<8>(&mut group, "events_1000_in_8_lanes", |chunk, _| {
        black_box(chunk);
    });
    // For comparison: what joining the chunks would add, or the copy into a socket does.
    batch_one::<1>(&mut group, "events_1000_joined", |chunk, joined| joined.extend_from_slice(chunk));
    group.finish();
}

fn batch_one<const LANES: usize>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut write: impl FnMut(&[u8], &mut Vec<u8>),
) {
    const EVENTS: usize = 1_000;
    let mut memory: [Vec<u8>; LANES] = std::array::from_fn(|_| vec![0; Ring::bytes_for(RING_BYTES)]);
    let common = Common::default();
    let mut lanes: Vec<Lane<'_>> = Vec::new();
    let mut consumers: Vec<Consumer<'_>> = Vec::new();
    for memory in &mut memory {
        let (producer, consumer) = Ring::format(memory).unwrap().split();
        lanes.push(Lane::new(producer, Stamper::new([lanes.len() as u64, 2]), EVENTS, 64 * 1024));
        consumers.push(consumer);
    }
    let consumers: [Consumer<'_>; LANES] = consumers.try_into().unwrap();
    let envelope = Envelope::new("phc_bench", false).unwrap();
    let mut flusher = Flusher::new(consumers, envelope, Policy::default(), [1, 2]);
    let clock = SystemClock::new();
    let (mut checkouts, mut micros) = (Checkouts::new(), NOW);
    let mut joined = Vec::with_capacity(RING_BYTES);

    let mut round = || {
        for at in 0..EVENTS {
            micros += 10;
            let checkout = checkouts.next();
            let event = Event::new("checkout_completed", checkout.id);
            let now = Timestamp::from_unix_micros(micros);
            lanes[at % LANES].capture(&event.properties(&checkout.properties(&KEYS)), &common, now).unwrap();
        }
        joined.clear();
        let now = clock.now();
        let start = Instant::now();
        let Action::Send(batch) = flusher.poll(now) else { panic!("1000 events are no reason to wait") };
        let body = batch.body(None);
        let (events, len) = (batch.events(), black_box(body.len()));
        body.chunks().for_each(|chunk| write(chunk, &mut joined));
        let report = flusher.handle_outcome(now, Outcome::status(200));
        let taken = start.elapsed();
        assert_eq!((events, report.delivered), (EVENTS, EVENTS));
        (taken, len)
    };
    let (_, len) = round();
    group.throughput(Throughput::Bytes(len as u64));
    group.bench_function(name, |b| b.iter_custom(|iterations| (0..iterations).map(|_| round().0).sum()));
}

fn deliver(c: &mut Criterion) {
    const EVENTS: usize = 1_000;
    let mut group = c.benchmark_group("deliver");
    let transport = MemoryTransport::new();
    let builder = Client::builder("phc_bench").transport(transport.clone()).without_thread().queue_bytes(RING_BYTES);
    let client = builder.max_queue_size(10 * EVENTS).max_batch_events(EVENTS).build().unwrap();
    let mut checkouts = Checkouts::new();
    let mut round = || {
        for _ in 0..EVENTS {
            let checkout = checkouts.next();
            let event = Event::new("checkout_completed", checkout.id);
            assert!(client.capture(event.properties(&checkout.properties(&KEYS))).is_accepted());
        }
        let start = Instant::now();
        client.flush(Duration::from_secs(10)).unwrap();
        let taken = start.elapsed();
        transport.clear();
        taken
    };
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("events_1000_in_memory", |b| {
        b.iter_custom(|iterations| (0..iterations).map(|_| round()).sum())
    });
    group.finish();
}

/// The reference event as it stands in a ring.
fn reference_frame() -> Vec<u8> {
    let mut memory = vec![0; Ring::bytes_for(RING_BYTES)];
    let (producer, consumer) = Ring::format(&mut memory).unwrap().split();
    let mut lane = Lane::new(producer, Stamper::new([1, 2]), 1, 64 * 1024);
    let checkout = Checkouts::new().next();
    let event = Event::new("checkout_completed", checkout.id);
    let now = Timestamp::from_unix_micros(NOW);
    lane.capture(&event.properties(&checkout.properties(&KEYS)), &Common::default(), now).unwrap();
    consumer.slices(consumer.tail(), consumer.head()).0.to_vec()
}
