//! One run: a client, its producers, and what there is to say about them afterwards.
//!
//! In: options. Out: a [`Shot`].

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use quillet::{Client, Durability, Stats, event, props};
use quillet_support::reference::{Checkout, Checkouts};
use quillet_support::sink::Totals;

use crate::Failure;
use crate::args::Args;
use crate::histogram::Histogram;
use crate::pacer::Pacer;
use crate::sink::OtherSink;
use crate::ticks::{Scale, ticks};
use crate::usage;

/// How long what is queued at the end may take to leave.
const DRAIN: Duration = Duration::from_secs(60);

/// What came of a run.
pub(crate) struct Shot {
    /// Captures called.
    pub(crate) offered: u64,
    pub(crate) stats: Stats,
    /// What the sink counted, if it was ours.
    pub(crate) arrived: Option<Totals>,
    /// From the first capture to the last.
    pub(crate) firing: Duration,
    /// From then until everything was delivered.
    pub(crate) draining: Duration,
    pub(crate) latency: Histogram,
    /// Processor time of the producers, of which the captures are a part.
    pub(crate) producers: Duration,
    /// Processor time of all other threads of the process: the client's own.
    pub(crate) client: Duration,
    pub(crate) peak_memory: u64,
}

impl Shot {
    /// Whether every event that was offered arrived, the sink's count included where there is one.
    pub(crate) fn is_lossless(&self) -> bool {
        let counted = self.arrived.is_none_or(|totals| totals.events == self.stats.delivered);
        self.stats.delivered == self.offered && counted
    }

    /// Events delivered a second, the draining included.
    pub(crate) fn delivered_per_second(&self) -> f64 {
        self.stats.delivered as f64 / (self.firing + self.draining).as_secs_f64().max(1e-9)
    }

    /// Events captured a second, refused ones not counted.
    pub(crate) fn accepted_per_second(&self) -> f64 {
        self.stats.accepted as f64 / self.firing.as_secs_f64().max(1e-9)
    }
}

pub(crate) fn once(args: &Args, scale: Scale) -> Result<Shot, Failure> {
    let sink = if args.host.is_some() { None } else { Some(OtherSink::start(args.gzip)?) };
    let host = sink.as_ref().map(OtherSink::host).or(args.host.as_deref()).unwrap_or_default();
    let client = client(args, host)?;
    let before = usage::of_other_threads();
    let fired = fire(args, scale, &client);
    let drained = Instant::now();
    let flushed = client.flush(DRAIN);
    let draining = drained.elapsed();
    // The producers have ended. Before the shutdown, with which the client's thread ends and its time is no longer told.
    let client_time = usage::of_other_threads().saturating_sub(before);
    let stats = client.shutdown_within(DRAIN).stats;
    if let Err(error) = flushed {
        eprintln!("firehose: flush: {error}");
    }
    Ok(Shot {
        offered: fired.offered,
        stats,
        arrived: sink.map(OtherSink::end).transpose()?.filter(|_| !args.gzip),
        firing: fired.firing,
        draining,
        latency: fired.latency,
        producers: fired.producers,
        client: client_time,
        peak_memory: usage::peak_memory(),
    })
}

fn client(args: &Args, host: &str) -> Result<Client, Failure> {
    let mut builder = Client::builder(args.api_key.as_str()).host(host).gzip(args.gzip);
    if let Some(events) = args.batch {
        builder = builder.max_batch_events(events);
    }
    if let Some(bytes) = args.batch_bytes {
        builder = builder.max_batch_bytes(bytes);
    }
    if let Some(events) = args.queue {
        builder = builder.max_queue_size(events);
    }
    if let Some(bytes) = args.queue_bytes {
        builder = builder.queue_bytes(bytes);
    }
    if let Some(events) = args.flush_at {
        builder = builder.flush_at(events);
    }
    if let Some(directory) = &args.spool {
        builder = builder.spool_dir(directory).spool_bytes_max(u64::MAX);
    }
    let client = builder.build()?;
    if args.spool.is_some() && client.durability() == Durability::Memory {
        return Err("no spool could be had there".into());
    }
    Ok(client)
}

/// What the producers have to tell, all together.
struct Fired {
    offered: u64,
    firing: Duration,
    latency: Histogram,
    producers: Duration,
}

fn fire(args: &Args, scale: Scale, client: &Client) -> Fired {
    let together = Barrier::new(args.threads + 1);
    let (mut offered, mut latency, mut producers) = (0, Histogram::new(), Duration::ZERO);
    let firing = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..args.threads).map(|_| scope.spawn(|| produce(args, scale, client, &together))).collect();
        together.wait();
        let started = Instant::now();
        for thread in threads {
            // A panic of theirs is a bug of this program, and is on the terminal already.
            let Ok((sent, taken, used)) = thread.join() else { continue };
            offered += sent;
            latency.merge(&taken);
            producers += used;
        }
        started.elapsed()
    });
    Fired { offered, firing, latency, producers }
}

fn produce(args: &Args, scale: Scale, client: &Client, together: &Barrier) -> (u64, Histogram, Duration) {
    let (mut checkouts, mut latency) = (Checkouts::new(), Histogram::new());
    let (sample, mut until_sample) = (args.sample(), args.sample());
    let mut offered = 0;
    together.wait();
    let before = usage::of_this_thread();
    let mut pacer =
        Pacer::start(args.rate as f64 / args.threads as f64, args.seconds, args.pace(usage::cores()), scale);
    while let Some(due) = pacer.due() {
        for _ in 0..due {
            let checkout = checkouts.next();
            until_sample -= 1;
            if until_sample == 0 {
                until_sample = sample;
                let before = ticks();
                capture(client, checkout);
                latency.record(ticks().wrapping_sub(before));
            } else {
                capture(client, checkout);
            }
        }
        offered += due;
    }
    (offered, latency, usage::of_this_thread().saturating_sub(before))
}

/// The reference event, as a program writes it.
#[inline]
pub(crate) fn capture(client: &Client, &Checkout { id, plan, amount_cents, path }: &Checkout) {
    let properties = props! { "plan": plan, "amount_cents": amount_cents, "path": path };
    client.capture(event!("checkout_completed", id).properties(properties));
}
