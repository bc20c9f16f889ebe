//! Bring your own transport: here one that writes each request body to a file.
//!
//! ```text
//! cargo run --release --example custom_transport [FILE]
//! ```
//!
//! A transport makes one request and says what came of it. Retrying, splitting and giving up are the client's business,
//! which the rest shows: between client and file stands a [`FaultTransport`] that spoils the first request and loses the
//! answer to the third. So every event is in the file, and some are there twice, with the same uuid both times: that is
//! how PostHog tells.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quillet::transport::fault::{Fault, FaultTransport};
use quillet::{Batch, Client, Outcome, Transport, event};
use serde_json::{Deserializer, Value};

/// Writes bodies one behind the other. Clones write to the same place, one whole body at a time.
#[derive(Clone)]
struct BodyWriter {
    out: Arc<Mutex<File>>,
}

impl BodyWriter {
    fn new(out: File) -> Self {
        Self { out: Arc::new(Mutex::new(out)) }
    }

    /// The body comes in a few chunks: the envelope, stretches of the queue, the end. None of them is copied here.
    fn write(&self, batch: &Batch<'_>) -> io::Result<()> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in batch.body(None).chunks() {
            out.write_all(chunk)?;
        }
        out.write_all(b"\n")?;
        out.flush()
    }
}

impl Transport for BodyWriter {
    fn send(&mut self, batch: &Batch<'_>) -> Outcome {
        match self.write(batch) {
            Ok(()) => Outcome::status(200),
            // Perhaps half of it is there: the client will send it all again.
            Err(_) => Outcome::NoAnswer,
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let file = env::args_os().nth(1).map_or_else(|| env::temp_dir().join("quillet-bodies.jsonl"), PathBuf::from);
    let faults = [Fault::Instead(Outcome::status(503)), Fault::None, Fault::AnswerLost];
    let transport = FaultTransport::scripted(BodyWriter::new(File::create(&file)?), faults);

    let client = Client::builder("phc_file")
        .transport(transport)
        .backoff(Duration::from_millis(50), Duration::from_secs(1))
        .on_request(|request| {
            let status = request.status.map_or("no answer".to_owned(), |status| format!("HTTP {status}"));
            println!("attempt {}: {} events: {status}", request.attempt, request.events);
        })
        .build()?;
    for turn in 0..2 {
        for step in 0..3 {
            client.capture(event!("step taken", "walker", { "turn": turn, "step": step }));
        }
        client.flush(Duration::from_secs(10))?;
    }
    let stats = client.shutdown().stats;

    let times_written = read_back(&fs::read_to_string(&file)?)?;
    let twice = times_written.values().filter(|times| **times == 2).count();
    println!("{} has {} events, {twice} of them twice", file.display(), times_written.len());
    println!("{} accepted, {} delivered, {} retries", stats.accepted, stats.delivered, stats.retries);
    if times_written.len() as u64 == stats.delivered && stats.delivered == stats.accepted {
        Ok(())
    } else {
        Err("an event is missing".into())
    }
}

/// How often each uuid was written.
fn read_back(text: &str) -> Result<BTreeMap<String, usize>, Box<dyn Error>> {
    let mut times_written = BTreeMap::new();
    for body in Deserializer::from_str(text).into_iter::<Value>() {
        let body = body?;
        let events = body.get("batch").and_then(Value::as_array).ok_or("a body without a batch")?;
        for event in events {
            let uuid = event.get("uuid").and_then(Value::as_str).ok_or("an event without a uuid")?;
            *times_written.entry(uuid.to_owned()).or_insert(0) += 1;
        }
    }
    Ok(times_written)
}
