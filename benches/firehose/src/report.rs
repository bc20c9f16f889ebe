//! What a run has to say, for people.
//!
//! In: a [`Shot`]. Out: lines on the terminal.

use std::time::Duration;

use crate::args::{Args, Pace};
use crate::run::Shot;
use crate::ticks::Scale;
use crate::usage;
use quillet_support::measure::grouped;

pub(crate) fn print(args: &Args, scale: Scale, shot: &Shot) {
    match &args.row {
        Some(name) => print_row(name, scale, shot),
        None => print_all(args, scale, shot),
    }
}

/// The cells: what it is, delivered a second, lost, p50, p99, p99.9 of a capture, processor time of producers and client.
fn print_row(name: &str, scale: Scale, shot: &Shot) {
    let percentile = |share| nanoseconds(scale.ns(shot.latency.percentile(share)));
    let per_event = |time: Duration| time.as_secs_f64() * 1e6 / shot.stats.delivered.max(1) as f64;
    println!(
        "| {name} | {} | {} | {} | {} | {} | {:.2} us | {:.2} us |",
        millions(shot.delivered_per_second()),
        grouped(shot.offered.saturating_sub(shot.stats.delivered)),
        percentile(0.5),
        percentile(0.99),
        percentile(0.999),
        per_event(shot.producers),
        per_event(shot.client),
    );
}

fn print_all(args: &Args, scale: Scale, shot: &Shot) {
    let stats = &shot.stats;
    let rate = match args.rate {
        0 => "as fast as possible".to_owned(),
        rate => format!("{} events/s", grouped(rate)),
    };
    let pace = if args.pace(usage::cores()) == Pace::Spin { "spinning" } else { "in bursts" };
    let compressed = if args.gzip { ", gzip" } else { "" };
    println!(
        "asked for    {rate}, {} producing {pace}, {} s{compressed}; load {}",
        args.threads,
        args.seconds,
        usage::load()
    );
    println!("offered      {}", grouped(shot.offered));
    println!("accepted     {} ({}/s)", grouped(stats.accepted), millions(shot.accepted_per_second()));
    let requests = stats.requests.max(1);
    println!(
        "delivered    {} ({}/s), in {} requests of {} events",
        grouped(stats.delivered),
        millions(shot.delivered_per_second()),
        grouped(stats.requests),
        grouped(stats.delivered / requests),
    );
    if let Some(totals) = shot.arrived {
        let bytes = totals.bytes / totals.requests.max(1);
        println!("arrived      {}, in bodies of {} bytes", grouped(totals.events), grouped(bytes));
    }
    println!(
        "dropped      {} refused, {} dropped, {} rejected, {} pending",
        grouped(stats.refused_total()),
        grouped(stats.dropped_total()),
        grouped(stats.rejected),
        grouped(stats.pending),
    );
    println!("drained in   {:.1} ms", shot.draining.as_secs_f64() * 1e3);
    let percentile = |share| nanoseconds(scale.ns(shot.latency.percentile(share)));
    println!(
        "a capture    p50 {}  p99 {}  p99.9 {}  max {}  ({} of them, {} for the clock in each)",
        percentile(0.5),
        percentile(0.99),
        percentile(0.999),
        nanoseconds(scale.ns(shot.latency.max())),
        grouped(shot.latency.len()),
        nanoseconds(scale.cost_ns()),
    );
    let per_event = |time: Duration| time.as_secs_f64() * 1e6 / stats.delivered.max(1) as f64;
    println!(
        "CPU/event    {:.3} us = {:.3} in the producers + {:.3} in the client's threads",
        per_event(shot.producers + shot.client),
        per_event(shot.producers),
        per_event(shot.client),
    );
    println!("memory       {:.1} MiB at most", shot.peak_memory as f64 / f64::from(1 << 20));
    println!("{}", if shot.is_lossless() { "nothing was lost" } else { "EVENTS WERE LOST" });
}

pub(crate) fn millions(number: f64) -> String {
    if number >= 1e6 { format!("{:.2} M", number / 1e6) } else { format!("{:.1} k", number / 1e3) }
}

fn nanoseconds(ns: f64) -> String {
    if ns < 10_000.0 { format!("{ns:.0} ns") } else { format!("{:.1} us", ns / 1e3) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([9_999.0, 12_345.0].map(nanoseconds), ["9999 ns", "12.3 us"]);
        assert_eq!([1e3, 2.5e6].map(millions), ["1.0 k", "2.50 M"]);
    }
}
