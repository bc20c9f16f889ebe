//! Sends events at a rate, to a PostHog server or to a sink of its own, and says what became of them.
//!
//! In: options, see `--help`. Out: how many events were accepted, delivered and lost; how long each capture took; what
//! they cost in processor time and memory. With `--search`: the highest rate at which nothing is lost.
//!
//! ```text
//!  this process                                              another one, `firehose --sink`
//!  producer threads ─ capture ─▶ client ─ flush thread ─▶ HTTP on the loopback ─▶ counts lines, says 200
//!   pacer · ticks · histogram     usage: processor time by thread
//! ```
//!
//! The sink is a process of its own, so that its processor time is not counted as the client's.

mod args;
mod bursts;
mod histogram;
mod pacer;
mod report;
mod run;
mod search;
mod sink;
mod ticks;
mod usage;

use std::process::ExitCode;

use args::{Args, Command};

/// What can go wrong in an instrument: told, and the end of it.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let done = match args::parse(std::env::args_os()) {
        Ok(Command::Help) => {
            print!("{}", args::HELP);
            Ok(())
        }
        Ok(Command::Sink(count)) => sink::serve(count),
        Ok(Command::Run(args)) => fire(&args),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("firehose: {error}");
            ExitCode::FAILURE
        }
    }
}

fn fire(args: &Args) -> Result<(), Failure> {
    if args.bursts {
        return bursts::compare(args);
    }
    let scale = ticks::Scale::measure();
    if args.search {
        return search::highest(args, scale);
    }
    let shot = run::once(args, scale)?;
    report::print(args, scale, &shot);
    if args.lossless && !shot.is_lossless() {
        return Err("events were lost".into());
    }
    Ok(())
}
