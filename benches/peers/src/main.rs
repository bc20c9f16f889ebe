//! Two other clients, capturing the reference event: posthog-rs and sentry.
//!
//! In: `--probe NAME`, from callgrind, or nothing. Out: figures as JSON on the standard output; `versus` runs this program
//! and puts them into its table.
//!
//! Both are as their documentation sets them up, but for limits that keep them from working while they are measured:
//! batches leave when told to, which is between two bursts. What is measured is the call that a program makes.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use quillet_support::FastSink;
use quillet_support::measure::{BURST, Case, Counted, PROBE, count, measure, probe, to_json};
use quillet_support::reference::{Checkout, Checkouts, NAME};
use quillet_support::sink::Count;

#[global_allocator]
static ALLOCATOR: quillet_support::CountingAllocator = quillet_support::CountingAllocator::new();

const POSTHOG: &str = "posthog-rs 0.30 capture";
const SENTRY: &str = "sentry 0.49 capture_event";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let sink = FastSink::start(Count::Nothing).expect("a socket on the loopback");
    let mut cases = [posthog(&sink.host()), sentry()];
    if let Some(at) = arguments.iter().position(|argument| argument == PROBE) {
        let name = arguments.get(at + 1).map_or("", String::as_str);
        return if probe(&mut cases, name) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let mut rows = measure(&mut cases);
    let program = std::env::current_exe().expect("a program knows where it is");
    for row in &mut rows {
        row.instructions = match count(Path::new(&program), &row.name) {
            Counted::Instructions(count) => Some(count),
            other => {
                eprintln!("{}: {other}", row.name);
                None
            }
        };
    }
    print!("{}", to_json(&rows));
    ExitCode::SUCCESS
}

fn posthog(host: &str) -> Case<'static> {
    let burst = usize::try_from(BURST).expect("a small number");
    let options = posthog_rs::ClientOptionsBuilder::default()
        .api_key("phc_bench".to_owned())
        .host(host)
        .max_queue_size(burst * 4)
        .flush_at(burst * 2)
        .build()
        .expect("options");
    let client = Arc::new(posthog_rs::client(options));
    let (mut checkouts, flushing) = (Checkouts::new(), Arc::clone(&client));
    let work = move |count| {
        for _ in 0..count {
            let &Checkout { id, plan, amount_cents, path } = checkouts.next();
            let mut event = posthog_rs::Event::new(NAME, id);
            event.insert_prop("plan", plan).expect("a string");
            event.insert_prop("amount_cents", amount_cents).expect("a number");
            event.insert_prop("path", path).expect("a string");
            client.capture(event);
        }
    };
    Case::new(POSTHOG, 0, work).with_rest(move || flushing.flush())
}

/// Takes envelopes as sentry's own transport does: through a channel, to a thread, which here only throws them away.
struct Elsewhere(SyncSender<sentry::Envelope>);

impl sentry::Transport for Elsewhere {
    fn send_envelope(&self, envelope: sentry::Envelope) {
        let _ = self.0.try_send(envelope);
    }
}

fn sentry() -> Case<'static> {
    let (sender, receiver) = sync_channel::<sentry::Envelope>(BURST as usize * 2);
    std::thread::spawn(move || receiver.into_iter().for_each(drop));
    let mut options = sentry::ClientOptions::default();
    options.dsn = Some("https://key@sentry.invalid/42".parse().expect("an address"));
    options.transport = Some(Arc::new(Arc::new(Elsewhere(sender))));
    let guard = sentry::init(options);
    let mut checkouts = Checkouts::new();
    Case::new(SENTRY, 0, move |count| {
        let _guard = &guard;
        for _ in 0..count {
            let &Checkout { id, plan, amount_cents, path } = checkouts.next();
            let mut event = sentry::protocol::Event {
                message: Some(NAME.to_owned()),
                user: Some(sentry::User { id: Some(id.to_owned()), ..sentry::User::default() }),
                ..sentry::protocol::Event::default()
            };
            event.extra.insert("plan".to_owned(), plan.into());
            event.extra.insert("amount_cents".to_owned(), amount_cents.into());
            event.extra.insert("path".to_owned(), path.into());
            sentry::capture_event(event);
        }
    })
}
