//! Lines from a stream that blocks: standard input, or a serial line.
//!
//! In: bytes, on a thread of the stream's own. Out: lines for the [`Intake`], answers in their order. The stream is not read
//! faster than its device's rate, so what is on its other end waits by itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::thread;
use std::time::Instant;

use crate::intake::{Device, Intake};

/// Reads `input` to its end.
pub fn serve(name: &str, input: impl Read, mut output: impl Write, intake: &Intake) {
    let mut device = Device::new(name.to_owned(), &intake.limits, Instant::now());
    let mut input = BufReader::new(input);
    let mut line = Vec::new();
    loop {
        line.clear();
        let whole = read_line(&mut input, &mut line, intake.limits.line_bytes);
        let reply = match whole {
            Line::End => return,
            _ if line.trim_ascii().is_empty() => continue,
            Line::TooLong => intake.too_long(),
            Line::Whole => {
                while let Err(wait) = device.admit(&intake.limits, Instant::now()) {
                    thread::sleep(wait);
                }
                intake.take(&device.name, &line)
            }
        };
        if output.write_all(reply.to_string().as_bytes()).and_then(|()| output.flush()).is_err() {
            return; // nobody is there to hear what became of further lines
        }
    }
}

enum Line {
    Whole,
    TooLong,
    End,
}

/// Reads one line into `line`, at most `max` bytes of it, and past the rest.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>, max: usize) -> Line {
    let mut is_long = false;
    loop {
        let Ok(bytes) = input.fill_buf() else { return Line::End };
        if bytes.is_empty() {
            return if line.is_empty() { Line::End } else { Line::Whole };
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        let room = max.saturating_sub(line.len());
        is_long |= part.len() > room;
        line.extend_from_slice(part.get(..part.len().min(room)).unwrap_or_default());
        let used = end.map_or(bytes.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            return if is_long { Line::TooLong } else { Line::Whole };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;
    use crate::intake::Limits;
    use quillet::Client;
    use quillet::transport::memory::MemoryTransport;

    #[test]
    fn lines_are_answered_in_order_and_a_long_one_costs_only_itself() {
        let memory = MemoryTransport::new();
        let client =
            Client::builder("phc_gateway").host("http://127.0.0.1:9").transport(memory.clone()).without_thread();
        let limits = Limits { rate: 1e6, burst: 1e6, line_bytes: 64 };
        let intake = Intake::new(client.build().unwrap(), limits, 10);
        let input = format!("first\n\n{}\nsecond - a=1\r\n{{\nlast", "x".repeat(70_000));
        let mut output = Vec::new();
        serve("stdin", input.as_bytes(), &mut output, &intake);
        let answers: Vec<_> = String::from_utf8(output).unwrap().lines().map(|line| line[..2].to_owned()).collect();
        assert_eq!(answers, ["ok", "no", "ok", "no", "ok"]);
        intake.client().shutdown();
        assert_eq!(memory.events().len(), 3);
    }
}
