//! Instructions of one case, counted by valgrind's callgrind in a child process.
//!
//! In: the name of a case, of this program or of another that knows [`PROBE`]. Out: instructions a time. Counting is on
//! only inside of [`measured_section`], which callgrind finds by its name; what came before, a warm-up included, is not
//! in the figure.

use std::path::Path;
use std::process::{Command, Stdio};
use std::{fmt, fs, io};

use super::Case;

/// The option by which a program is told to run one case, whose name follows, and nothing else.
pub const PROBE: &str = "--probe";

/// How often a case runs to be counted, and in each round of its warm-up: valgrind is slow, and counts repeat.
const TIMES: u64 = 100;

/// Of the function below, as callgrind sees it.
const SECTION: &str = "*measured_section*";

/// Why there is no count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Instructions a time, rounded.
    Instructions(u64),
    /// valgrind is not installed.
    NoValgrind,
    /// It ran, and this is what is wrong.
    Failed(String),
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instructions(count) => write!(f, "{count}"),
            Self::NoValgrind => f.write_str("valgrind is not installed"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// Runs the case called `name` once more for callgrind to count. Says whether there is one.
pub fn probe(cases: &mut [Case<'_>], name: &str) -> bool {
    let Some(case) = cases.iter_mut().find(|case| case.name() == name) else { return false };
    for round in 0..case.warm_up {
        if round > 0 {
            (case.rest)();
        }
        (case.work)(TIMES);
    }
    measured_section(&mut case.work);
    (case.rest)();
    true
}

/// Counts the instructions of one time of the case called `name` of `program`, which must call [`probe`] when told to.
pub fn count(program: &Path, name: &str) -> Counted {
    let output = std::env::temp_dir().join(format!("quillet-callgrind-{}", std::process::id()));
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--quiet", "--vgdb=no", &format!("--toggle-collect={SECTION}")]);
    command.arg(format!("--callgrind-out-file={}", output.display())).arg(program).args(["--bench", PROBE, name]);
    let ran = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output();
    let counted = fs::read_to_string(&output);
    let _ = fs::remove_file(&output);
    match ran {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Counted::NoValgrind,
        Err(error) => Counted::Failed(error.to_string()),
        Ok(ran) if !ran.status.success() => Counted::Failed(String::from_utf8_lossy(&ran.stderr).into_owned()),
        Ok(_) => match counted.ok().and_then(|text| total(&text)) {
            Some(total) if total > 0 => Counted::Instructions((total + TIMES / 2) / TIMES),
            _ => Counted::Failed("callgrind counted nothing".to_owned()),
        },
    }
}

/// The sum at the end of callgrind's file.
fn total(text: &str) -> Option<u64> {
    text.lines().rev().find_map(|line| line.strip_prefix("totals:"))?.trim().parse().ok()
}

#[inline(never)]
fn measured_section(work: &mut dyn FnMut(u64)) {
    work(std::hint::black_box(TIMES));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_last_line_that_says_so() {
        assert_eq!(total("events: Ir\nsummary: 12\n\nfn=(1)\n1 12\n\ntotals: 4711\n"), Some(4711));
        assert_eq!(total("events: Ir\n"), None);
    }

    #[test]
    fn a_probe_runs_the_case_it_names() {
        let mut calls = 0;
        let mut cases =
            [Case::new("one", 1, |_| unreachable!("not asked for")), Case::new("two", 1, |count| calls += count)];
        assert!(probe(&mut cases, "two"));
        assert!(!probe(&mut cases, "three"));
        drop(cases);
        assert_eq!(calls, 2 * TIMES, "a warm-up, then what is counted");
    }
}
