//! The command line.
//!
//! In: arguments. Out: a [`Command`]. Options of the client that are not given keep the client's own defaults.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;
use quillet_support::sink::Count;

pub(crate) const HELP: &str = "\
firehose: sends events at a rate and says what became of them

  cargo run --release -p firehose -- [options]

How much
  --rate R           events a second over all threads; 0 is as fast as they can be made (default 10000)
  --threads T        capturing threads (default 1)
  --seconds S        for how long (default 10)
  --pace burst|spin  how a thread waits: sleeps a millisecond and catches up, or spins until each event is due, which
                     spends its core but keeps it warm (default spin up to 1 M/s where each thread can have a core and
                     one is left, and burst otherwise, as in a search: the first event after a sleep is as slow as
                     whatever a program does first after one)
  --sample N         takes the time of every Nth capture (default 1; 16 above 1 M/s)
  --search           looks for the highest rate without loss, in runs of --seconds; --rate is where it begins
  --bursts           captures into a large queue instead, without delivering: how many a second, by one thread and by
                     --threads of them (two at least)
  --lossless         fails if an event was lost
  --row NAME         prints one row of a Markdown table, whose first cell is NAME, instead of a report

Where to
  --host URL         a PostHog server; without it, a sink of its own in another process
  --api-key KEY      the project's key (default phc_firehose)

The client's options, with its own defaults
  --batch N          events in a request at most
  --batch-bytes N    bytes in a request at most
  --queue N          events queued at most
  --queue-bytes N    bytes of a lane
  --flush-at N       events that make a request due
  --large            short for --queue 4000000 --queue-bytes 67108864 --batch 100000
  --gzip             compressed requests
  --spool DIR        the queue in a mapped file there, which outlives the process
";

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    /// Be the sink of another firehose.
    Sink(Count),
    Run(Args),
}

/// How a thread waits for its next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Burst,
    Spin,
}

#[derive(Clone, Debug)]
pub(crate) struct Args {
    /// Events a second over all threads; 0 for no limit.
    pub(crate) rate: u64,
    pub(crate) threads: usize,
    pub(crate) seconds: f64,
    pub(crate) pace: Option<Pace>,
    pub(crate) sample: Option<u64>,
    pub(crate) search: bool,
    pub(crate) bursts: bool,
    pub(crate) lossless: bool,
    pub(crate) row: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) api_key: String,
    pub(crate) batch: Option<usize>,
    pub(crate) batch_bytes: Option<usize>,
    pub(crate) queue: Option<usize>,
    pub(crate) queue_bytes: Option<usize>,
    pub(crate) flush_at: Option<usize>,
    pub(crate) gzip: bool,
    pub(crate) spool: Option<PathBuf>,
}

impl Args {
    /// Of how many captures one has its time taken.
    pub(crate) fn sample(&self) -> u64 {
        self.sample.unwrap_or(if self.is_slow() { 1 } else { 16 }).max(1)
    }

    /// How threads wait on a machine of so many cores.
    pub(crate) fn pace(&self, cores: usize) -> Pace {
        let is_roomy = self.is_slow() && self.threads < cores && !self.search;
        self.pace.unwrap_or(if is_roomy { Pace::Spin } else { Pace::Burst })
    }

    fn is_slow(&self) -> bool {
        (1..=1_000_000).contains(&self.rate)
    }
}

impl Default for Args {
    fn default() -> Self {
        Self {
            rate: 10_000,
            threads: 1,
            seconds: 10.0,
            pace: None,
            sample: None,
            search: false,
            bursts: false,
            lossless: false,
            row: None,
            host: None,
            api_key: "phc_firehose".to_owned(),
            batch: None,
            batch_bytes: None,
            queue: None,
            queue_bytes: None,
            flush_at: None,
            gzip: false,
            spool: None,
        }
    }
}

pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, lexopt::Error> {
    let mut parser = lexopt::Parser::from_iter(arguments);
    let mut args = Args::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Help),
            Long("sink") => return Ok(Command::Sink(Count::Lines)),
            Long("sink-of-packed") => return Ok(Command::Sink(Count::Nothing)),
            Long("rate") => args.rate = parser.value()?.parse_with(number)?,
            Long("threads") => args.threads = parser.value()?.parse::<usize>()?.max(1),
            Long("seconds") => args.seconds = parser.value()?.parse::<f64>()?.clamp(0.01, 86_400.0),
            Long("pace") => {
                args.pace = Some(parser.value()?.parse_with(|word| match word {
                    "burst" => Ok(Pace::Burst),
                    "spin" => Ok(Pace::Spin),
                    _ => Err("burst or spin"),
                })?);
            }
            Long("sample") => args.sample = Some(parser.value()?.parse_with(number)?),
            Long("search") => args.search = true,
            Long("bursts") => args.bursts = true,
            Long("lossless") => args.lossless = true,
            Long("row") => args.row = Some(parser.value()?.string()?),
            Long("host") => args.host = Some(parser.value()?.string()?),
            Long("api-key") => args.api_key = parser.value()?.string()?,
            Long("batch") => args.batch = Some(size(&mut parser)?),
            Long("batch-bytes") => args.batch_bytes = Some(size(&mut parser)?),
            Long("queue") => args.queue = Some(size(&mut parser)?),
            Long("queue-bytes") => args.queue_bytes = Some(size(&mut parser)?),
            Long("flush-at") => args.flush_at = Some(size(&mut parser)?),
            Long("large") => {
                args.queue = Some(4_000_000);
                args.queue_bytes = Some(64 << 20);
                args.batch = Some(100_000);
            }
            Long("gzip") => args.gzip = true,
            Long("spool") => args.spool = Some(parser.value()?.into()),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Command::Run(args))
}

fn size(parser: &mut lexopt::Parser) -> Result<usize, lexopt::Error> {
    let number = parser.value()?.parse_with(number)?;
    Ok(usize::try_from(number).unwrap_or(usize::MAX))
}

/// A number, with `_` for the eye and `k` or `M` behind it if one likes.
fn number(text: &str) -> Result<u64, String> {
    let text = text.replace('_', "");
    let (digits, unit) = match text.strip_suffix('k') {
        Some(digits) => (digits, 1e3),
        None => text.strip_suffix('M').map_or((text.as_str(), 1.0), |digits| (digits, 1e6)),
    };
    let number: f64 = digits.parse().map_err(|_| format!("{text:?} is no number"))?;
    if (0.0..=1e15).contains(&number) { Ok((number * unit) as u64) } else { Err(format!("{text:?} is out of bounds")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should stop")]

    use super::*;

    fn parsed(line: &str) -> Result<Command, lexopt::Error> {
        parse(["firehose"].into_iter().chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn options_are_read_as_the_help_says() {
        let Command::Run(args) = parsed("--rate 1.5M --threads 2 --batch 3_000 --pace spin --gzip").unwrap() else {
            panic!("not a run")
        };
        assert_eq!((args.rate, args.threads, args.batch, args.gzip), (1_500_000, 2, Some(3_000), true));
        assert_eq!((args.pace(1), args.sample(), args.queue), (Pace::Spin, 16, None));
        assert!(matches!(parsed("--sink").unwrap(), Command::Sink(Count::Lines)));
    }

    #[test]
    fn threads_spin_where_each_has_a_core_and_one_is_left() {
        let pace = |line: &str| match parsed(line).unwrap() {
            Command::Run(args) => args.pace(2),
            _ => panic!("not a run"),
        };
        for line in ["", "--rate 1M", "--rate 10k --threads 1"] {
            assert_eq!(pace(line), Pace::Spin, "{line}");
        }
        for line in ["--rate 0", "--rate 1_000_001", "--threads 2", "--search", "--pace burst"] {
            assert_eq!(pace(line), Pace::Burst, "{line}");
        }
    }

    #[test]
    fn what_is_not_an_option_is_an_error() {
        for line in ["--rate fast", "--rate -1", "--rates 1", "--pace slow", "--batch", "now"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_help_names_every_option() {
        let lines = HELP.lines().filter_map(|line| line.strip_prefix("  --"));
        let mut options = 0;
        for option in lines.map(|line| line.split_whitespace().next().unwrap_or_default()) {
            let with = |value: &str| parsed(&format!("--{option} {value}")).is_ok();
            assert!(with("") || with("1") || with("spin"), "--{option}");
            options += 1;
        }
        assert!(options > 10, "the help has another form than this test believes");
    }
}
