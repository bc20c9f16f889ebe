//! Kill loops by the thousand.
//!
//! ```text
//! scripts/torture [kills [seed]]                # by default 2000 kills, and a seed of the day's
//! scripts/torture --round <seed> [starts]       # one round once more
//! scripts/torture [kills [seed]] --until-found  # not more than it takes to find something
//! ```
//!
//! Out: a line for each round that found something, with its seed, and the sum. The exit status says whether it is clean.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a driver that cannot go on should stop")]

use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use torture::{Outcome, Plan};

/// Starts of a round.
const STARTS: usize = 25;

/// Rounds that run at the same time.
const JOBS: usize = 2;

fn main() -> ExitCode {
    let victim = env::current_exe().unwrap().with_file_name("victim");
    assert!(victim.exists(), "{} is not built", victim.display());
    let mut words: Vec<String> = env::args().skip(1).collect();
    let until_found = words.last().is_some_and(|word| word == "--until-found") && words.pop().is_some();
    let number = |at: usize| words.get(at).map(|word| word.parse::<u64>().unwrap_or_else(|_| panic!("{word}?")));
    let usize_of = |number: u64| usize::try_from(number).unwrap();
    let outcome = if words.first().is_some_and(|word| word == "--round") {
        let plan = Plan::random(number(1).unwrap(), number(2).map_or(STARTS, usize_of));
        println!("{plan}");
        report(&plan, plan.run(&victim))
    } else {
        let kills = number(0).map_or(2000, usize_of);
        let day = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400 * 1_000_000;
        loops(&victim, kills, number(1).unwrap_or_else(day), until_found)
    };
    println!(
        "{} kills, {} of them of recoveries, and {} other ends\n{}",
        outcome.kills, outcome.recoveries_killed, outcome.other_ends, outcome.findings
    );
    if outcome.findings.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn loops(victim: &Path, kills: usize, seed: u64, until_found: bool) -> Outcome {
    let state = Mutex::new((seed, Outcome::default()));
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..JOBS {
            scope.spawn(|| {
                // NB: not `while let`, which would hold the lock for as long as the round lasts.
                loop {
                    let plan = next(&mut state.lock().unwrap(), kills, until_found);
                    let Some(plan) = plan else { break };
                    let outcome = report(&plan, plan.run(victim));
                    add(&mut state.lock().unwrap().1, &outcome);
                }
            });
        }
    });
    println!("{} rounds in {} s", state.lock().unwrap().0 - seed, started.elapsed().as_secs());
    state.into_inner().unwrap().1
}

/// The next round, while there were too few kills, and nothing found that was looked for.
fn next(state: &mut (u64, Outcome), kills: usize, until_found: bool) -> Option<Plan> {
    let (seed, outcome) = state;
    let plan = Plan::random(*seed, STARTS);
    let is_found = until_found && !outcome.findings.is_clean();
    let is_next = outcome.kills < kills && !is_found;
    *seed += u64::from(is_next);
    is_next.then_some(plan)
}

/// Says what a round found, if that is something.
fn report(plan: &Plan, outcome: Outcome) -> Outcome {
    if !outcome.findings.is_clean() {
        println!("{plan}\n  {}\n  {}", outcome.findings, outcome.findings.examples.join("\n  "));
    }
    outcome
}

fn add(sum: &mut Outcome, outcome: &Outcome) {
    sum.kills += outcome.kills;
    sum.recoveries_killed += outcome.recoveries_killed;
    sum.other_ends += outcome.other_ends;
    sum.findings.add(&outcome.findings);
}
