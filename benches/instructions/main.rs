//! The gate that keeps the hot path what it is: instructions of each operation, compared with a budget in the repository.
//!
//! ```text
//! cargo bench --bench instructions              # counts, prints, and fails if one is over its budget
//! cargo bench --bench instructions -- --update  # writes today's figures into benches/instructions/budgets.toml
//! ```
//!
//! Instructions repeat, so the gate can be tight where one of time would have to be wide: budgets are at most 5 % over
//! what was counted when they were written. They move by a commit that says why, down as well as up.
//!
//! It also holds cost to be linear: where a case is there twice, with twice the input, it may cost 2.2 times as much.
//!
//! Counted by valgrind, which has to be installed; what it leaves out says `quillet_support::measure`.

#![allow(missing_docs, reason = "a bench has no API")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a bench that fails should stop")]

mod budgets;
#[path = "../cases/mod.rs"]
mod cases;

use std::env;
use std::hint::black_box;
use std::process::ExitCode;

use quillet::{Event, Prng, Property, Timestamp, Uuid, Value, event, props};
use quillet_support::measure::{self, Case, Counted, PROBE};
use quillet_support::reference::{Checkout, Checkouts};

/// How much more twice the input may cost.
const LINEAR: f64 = 2.2;

/// Cases of which the second has twice the input of the first.
const DOUBLED: &[(&str, &str)] = &[
    ("encode, text of 64 KiB", "encode, text of 128 KiB"),
    ("encode, 32 KiB of quotes", "encode, 64 KiB of quotes"),
    ("encode, 100 properties", "encode, 200 properties"),
    ("encode, nested 8 deep", "encode, nested 16 deep"),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    let mut cases = all_cases();
    if let Some(at) = arguments.iter().position(|argument| argument == PROBE) {
        let name = arguments.get(at + 1).map_or("", String::as_str);
        return if measure::probe(&mut cases, name) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let program = env::current_exe().unwrap();
    let mut counts = Vec::new();
    for case in &cases {
        match measure::count(&program, case.name()) {
            Counted::Instructions(count) => counts.push((case.name(), count)),
            other => {
                eprintln!("{}: {other}", case.name());
                return ExitCode::FAILURE;
            }
        }
    }
    if arguments.iter().any(|argument| argument == "--update") {
        budgets::write(&counts);
        println!("written: {}", budgets::FILE);
    }
    let in_budget = budgets::check(&counts);
    let linear = DOUBLED.iter().fold(true, |all, &(one, two)| is_linear(&counts, one, two) && all);
    if in_budget && linear { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_linear(counts: &[(&str, u64)], one: &str, two: &str) -> bool {
    let count = |name| counts.iter().find(|(other, _)| *other == name).unwrap().1 as f64;
    let ratio = count(two) / count(one);
    let is_linear = ratio <= LINEAR;
    println!("twice {one}: {ratio:.2} times as much{}", if is_linear { "" } else { "  TOO MUCH" });
    is_linear
}

fn all_cases() -> Vec<Case<'static>> {
    vec![
        cases::capture_literal_keys(),
        cases::capture_run_time_keys(),
        cases::capture_with_spool(),
        cases::capture_escaped(),
        cases::capture_nested(),
        cases::capture_dollar_key(),
        encode_reference(),
        stamp(),
        cases::ring("ring, grant and commit"),
        encode_text("encode, text of 64 KiB", "a page of plain text; ", 64 * 1024),
        encode_text("encode, text of 128 KiB", "a page of plain text; ", 128 * 1024),
        encode_text("encode, 32 KiB of quotes", "\"", 32 * 1024),
        encode_text("encode, 64 KiB of quotes", "\"", 64 * 1024),
        encode_properties("encode, 100 properties", 100),
        encode_properties("encode, 200 properties", 200),
        encode_nested("encode, nested 8 deep", 8),
        encode_nested("encode, nested 16 deep", 16),
    ]
}

fn encode_reference() -> Case<'static> {
    let mut checkouts = Checkouts::new();
    cases::encode("encode, literal keys", move |encoder| {
        let &Checkout { id, plan, amount_cents, path } = checkouts.next();
        let properties = props! { "plan": plan, "amount_cents": amount_cents, "path": path };
        encoder.encode(&event!("checkout_completed", id).properties(properties))
    })
}

/// What makes an event that event: 128 bits and a time, and their texts.
fn stamp() -> Case<'static> {
    let (mut prng, mut micros) = (Prng::new([1, 2]), cases::NOW);
    Case::new("uuid and timestamp, as text", 36 + 27, move |count| {
        for _ in 0..count {
            micros += 17;
            let now = Timestamp::from_unix_micros(black_box(micros));
            black_box(Uuid::v7(micros / 1_000, [prng.next(), prng.next()]).hyphenated());
            black_box(now.text());
        }
    })
}

fn encode_text(name: &'static str, piece: &str, bytes: usize) -> Case<'static> {
    let text = piece.repeat(bytes / piece.len() + 1)[..bytes].to_owned();
    cases::encode(name, move |encoder| {
        encoder.encode(&event!("page archived", "customer-7").properties(props! { "text": black_box(text.as_str()) }))
    })
}

fn encode_properties(name: &'static str, count: usize) -> Case<'static> {
    let keys: &'static [String] = (0..count).map(|at| format!("counter_{at:03}")).collect::<Vec<_>>().leak();
    // Made once: moving them about is the caller's affair.
    let properties: Vec<Property<'static>> = keys.iter().map(|key| Property::new(key, 4_711)).collect();
    cases::encode(name, move |encoder| {
        encoder.encode(&Event::new("counted", "customer-7").properties(black_box(&properties)))
    })
}

fn encode_nested(name: &'static str, depth: usize) -> Case<'static> {
    fn nested(depth: usize, encode: &mut dyn FnMut(Value<'_>) -> usize) -> usize {
        match depth {
            0 => encode(Value::from("at the bottom")),
            depth => nested(depth - 1, &mut |inner| encode(Value::Object(&[Property::new("inside", inner)]))),
        }
    }
    cases::encode(name, move |encoder| {
        nested(black_box(depth), &mut |value| {
            encoder.encode(&event!("drawer opened", "customer-7").properties(props! { "outside": value }))
        })
    })
}
