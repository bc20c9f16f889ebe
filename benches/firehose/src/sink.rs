//! The sink in another process: this program again, with another task.
//!
//! In: nothing. Out: an address; at the end, what arrived. The two processes speak by pipes: the child says where it
//! listens, and what it counted when its standard input ends.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use quillet_support::FastSink;
use quillet_support::sink::{Count, Totals};

use crate::Failure;

/// The child's whole life.
pub(crate) fn serve(count: Count) -> Result<(), Failure> {
    let sink = FastSink::start(count)?;
    println!("{}", sink.host());
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    let Totals { requests, events, bytes } = sink.totals();
    println!("{requests} {events} {bytes}");
    Ok(())
}

/// A sink in a child process.
pub(crate) struct OtherSink {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    host: String,
}

impl OtherSink {
    /// Starts it. Compressed bodies are taken, but not counted: that would cost more than making them.
    pub(crate) fn start(packed: bool) -> Result<Self, Failure> {
        let task = if packed { "--sink-of-packed" } else { "--sink" };
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg(task).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().ok_or("the sink has no output")?);
        let mut host = String::new();
        output.read_line(&mut host)?;
        Ok(Self { child, input, output, host: host.trim().to_owned() })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Ends it and says what arrived.
    pub(crate) fn end(mut self) -> Result<Totals, Failure> {
        drop(self.input.take());
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let numbers: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let &[requests, events, bytes] = numbers.as_slice() else {
            return Err("the sink did not say its totals".into());
        };
        Ok(Totals { requests, events, bytes })
    }
}

impl Drop for OtherSink {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
