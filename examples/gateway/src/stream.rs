//! Lines from a stream that blocks: standard input, or a serial line.
//!
//! In: bytes, on a thread of the stream's own. Out: lines for the [`Intake`], answers in their order. The stream is not read
//! faster than its device's rate, so what is on its other end waits by itself.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::intake::{Device, Intake, Reply};

/// How long to wait before a serial line that went away is looked for again.
const REOPEN: Duration = Duration::from_secs(1);

/// What is on the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A device, which sends a line again that was put off; half a line at the end is half a line.
    Device,
    /// A pipe or a file, which says everything once: a line is put off by waiting, and the last one may have no end.
    Pipe,
}

/// Serves a serial line for ever. Unplugged, it is looked for until it is back.
pub fn serve_serial(path: &Path, mut line: Option<(File, File)>, intake: &Intake) -> ! {
    let name = path.display().to_string();
    loop {
        if let Some((input, answers)) = line.take() {
            serve(&name, Source::Device, input, answers, intake);
        }
        thread::sleep(REOPEN);
        line = open(path).ok();
    }
}

/// Opens a serial line for both directions.
///
/// # Errors
///
/// It is not there, or no device: a file would be read from its beginning again and again.
pub fn open(path: &Path) -> io::Result<(File, File)> {
    // Or the end of the line would be the end of a gateway that is the first of its session, as services are.
    let no_terminal = i32::try_from(OFlags::NOCTTY.bits()).unwrap_or_default();
    let line = OpenOptions::new().read(true).write(true).custom_flags(no_terminal).open(path)?;
    if !line.metadata()?.file_type().is_char_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a serial line"));
    }
    let answers = line.try_clone()?;
    Ok((line, answers))
}

/// Reads `input` to its end.
pub fn serve(name: &str, source: Source, input: impl Read, mut output: impl Write, intake: &Intake) {
    let mut device = Device::new(name.to_owned(), &intake.limits, Instant::now());
    let mut input = BufReader::new(input);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = read_line(&mut input, &mut line, intake.limits.line_bytes);
        let reply = match read {
            Line::End => return,
            _ if line.trim_ascii().is_empty() => continue,
            Line::TooLong => intake.too_long(),
            Line::CutOff if source == Source::Device => intake.cut_off(),
            Line::Whole | Line::CutOff => {
                while let Err(wait) = device.admit(&intake.limits, Instant::now()) {
                    thread::sleep(wait);
                }
                take(&device, source, &line, intake)
            }
        };
        if output.write_all(reply.to_string().as_bytes()).and_then(|()| output.flush()).is_err() {
            return; // nobody is there to hear what became of further lines
        }
    }
}

/// Takes a line. A pipe's is taken again until there is room for it.
fn take(device: &Device, source: Source, line: &[u8], intake: &Intake) -> Reply {
    loop {
        match intake.take(&device.name, line) {
            Reply::Later(wait, _) if source == Source::Pipe && !intake.is_closed() => thread::sleep(wait),
            reply => return reply,
        }
    }
}

enum Line {
    Whole,
    TooLong,
    /// The stream ended before the line did.
    CutOff,
    End,
}

/// Reads one line into `line`, at most `max` bytes of it, and past the rest.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>, max: usize) -> Line {
    let mut is_long = false;
    loop {
        let bytes = match input.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => &[],
        };
        if bytes.is_empty() {
            return match (line.is_empty(), is_long) {
                (true, _) => Line::End,
                (false, true) => Line::TooLong,
                (false, false) => Line::CutOff,
            };
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

    fn answers(source: Source, input: &str) -> (Vec<String>, usize) {
        let memory = MemoryTransport::new();
        let client =
            Client::builder("phc_gateway").host("http://127.0.0.1:9").transport(memory.clone()).without_thread();
        let limits = Limits { rate: 1e6, burst: 1e6, line_bytes: 64 };
        let intake = Intake::new(client.build().unwrap(), limits, 10);
        let mut output = Vec::new();
        serve("stdin", source, input.as_bytes(), &mut output, &intake);
        intake.client().shutdown();
        let words = String::from_utf8(output).unwrap().lines().map(|line| line[..2].to_owned()).collect();
        (words, memory.events().len())
    }

    #[test]
    fn lines_are_answered_in_order_and_a_long_one_costs_only_itself() {
        let long = "x".repeat(70_000);
        let input = format!("first\n\n{long}\nsecond - a=1\r\n{{\nlast");
        assert_eq!(answers(Source::Pipe, &input), (["ok", "no", "ok", "no", "ok"].map(str::to_owned).to_vec(), 3));
        let (words, events) = answers(Source::Device, &input);
        assert_eq!((words.last().map(String::as_str), events), (Some("no"), 2), "a device may have been cut off");
        assert_eq!(answers(Source::Pipe, &long).1, 0, "a part of a line is no line");
    }
}
