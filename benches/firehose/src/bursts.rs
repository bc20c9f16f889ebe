//! Captures a second, when nothing but capturing happens: one thread, then as many as asked for.
//!
//! In: options. Out: a line for each number of threads. The threads fill a large queue in bursts, all at the same time;
//! between two bursts the queue is emptied, off the clock. Memory and flush thread are as in any client, the transport
//! says yes and looks at nothing.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use quillet::{Batch, Client, Outcome, Transport};
use quillet_support::reference::Checkouts;

use crate::args::Args;
use crate::{Failure, report, run, usage};

/// Captures of each thread in a burst. Their frames fit a lane.
const BURST: u64 = 20_000;

/// Bytes of a lane, and more than twice a burst: a thread that meets another one changes lanes.
const LANE_BYTES: usize = 16 << 20;

/// Bursts whose time is taken; the median counts.
const ROUNDS: usize = 101;

/// Bursts before that, in which memory is found and threads find their lanes.
const WARM_UP: usize = 8;

#[derive(Clone)]
struct Nowhere;

impl Transport for Nowhere {
    fn send(&mut self, _: &Batch<'_>) -> Outcome {
        Outcome::status(200)
    }
}

/// Prints captures a second for one thread and for `args.threads` of them, at least two.
pub(crate) fn compare(args: &Args) -> Result<(), Failure> {
    println!("captures only, drained off the clock; load {}", usage::load());
    let several = args.threads.max(2);
    let one = burst(1)?;
    let more = burst(several)?;
    println!("1 thread     {}/s, {:.1} ns on a core each", report::millions(one.per_second), one.cpu_ns);
    println!(
        "{several} threads    {}/s, {:.1} ns on a core each; {:.2} times as many",
        report::millions(more.per_second),
        more.cpu_ns,
        more.per_second / one.per_second,
    );
    Ok(())
}

struct Speed {
    per_second: f64,
    /// Processor time of one capture, which other programs on the machine disturb less than they do the rate.
    cpu_ns: f64,
}

fn burst(threads: usize) -> Result<Speed, Failure> {
    let builder = Client::builder("phc_firehose").transport(Nowhere).without_thread().queue_bytes(LANE_BYTES);
    let client = builder.max_queue_size(1_000_000).max_batch_events(100_000).max_batch_bytes(LANE_BYTES).build()?;
    let (start, end) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
    let produce = || {
        let mut checkouts = Checkouts::new();
        let mut bursts = Vec::with_capacity(WARM_UP + ROUNDS);
        let before = usage::of_this_thread();
        for _ in 0..WARM_UP + ROUNDS {
            start.wait();
            let began = Instant::now();
            (0..BURST).for_each(|_| run::capture(&client, checkouts.next()));
            bursts.push((began, Instant::now()));
            end.wait();
        }
        (usage::of_this_thread().saturating_sub(before), bursts)
    };
    let produced: Vec<_> = thread::scope(|scope| {
        let producers: Vec<_> = (0..threads).map(|_| scope.spawn(produce)).collect();
        for _ in 0..WARM_UP + ROUNDS {
            start.wait();
            end.wait();
            // An error here must not leave the threads at their barriers, so it is looked at below.
            let _ = client.flush(Duration::from_secs(10));
        }
        producers.into_iter().filter_map(|producer| producer.join().ok()).collect()
    });
    let used: Duration = produced.iter().map(|(used, _)| *used).sum();
    // From when the first began to when the last ended, by their own clocks: this thread may get a core later than they.
    let time = |round: usize| {
        let bursts = || produced.iter().filter_map(|(_, bursts)| bursts.get(round));
        let began = bursts().map(|burst| burst.0).min();
        bursts().map(|burst| burst.1).max().zip(began).map_or(Duration::MAX, |(ended, began)| ended - began)
    };
    let mut times: Vec<Duration> = (WARM_UP..WARM_UP + ROUNDS).map(time).collect();
    if client.stats().refused_total() > 0 {
        return Err("a burst did not fit the queue: a refused event costs less than a captured one".into());
    }
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or(Duration::MAX);
    let captures = BURST as f64 * threads as f64;
    let cpu_ns = used.as_nanos() as f64 / (captures * (WARM_UP + ROUNDS) as f64);
    Ok(Speed { per_second: captures / median.as_secs_f64(), cpu_ns })
}
