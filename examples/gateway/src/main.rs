//! A gateway: devices that cannot speak HTTPS send a line an event; it keeps them, and forwards them in batches.
//!
//! ```text
//! POSTHOG_API_KEY=phc_… cargo run --release -p gateway -- --tcp 127.0.0.1:7777 --spool /tmp/gateway
//! printf 'door_opened door-7 battery=3.71\n' | nc 127.0.0.1 7777
//! ```
//!
//! | file | what it is about |
//! |---|---|
//! | `args` | the command line |
//! | `frame` | what a line may say |
//! | `intake` | a line becomes an event and an acknowledgement |
//! | `net`, `stream` | TCP and UDP on one thread; serial lines and standard input on one each |
//!
//! What an acknowledgement promises: the event is in the queue, and with `--spool` in a file that survives the process. A
//! device that hears nothing, or `later`, sends the line again with the same uuid; if the first one had arrived after all,
//! it is one event to PostHog as long as the device sends its own time, and otherwise as long as this process remembers
//! the uuid.

mod args;
mod frame;
mod intake;
mod net;
mod stream;

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use args::{Args, HELP};
use intake::Intake;
use net::{Ended, Net};
use quillet::{Client, Durability};

/// Between two looks at the statistics, on a terminal.
const GLANCE: Duration = Duration::from_secs(1);

/// Between two lines of statistics in a log.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Longest end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of ring in each lane, enough for 20,000 events of 200 bytes. A spool file holds nine of them.
const QUEUE_BYTES: usize = 4 * 1024 * 1024;

fn main() -> ExitCode {
    let args = match args::parse(lexopt::Parser::from_env()) {
        Ok(Some(args)) => args,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("gateway: {error}\nTry --help.");
            return ExitCode::from(2);
        }
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let client = client(args)?;
    if args.spool.is_some() && client.durability() == Durability::Memory {
        return Err("the spool directory cannot be used, so nothing could be promised to the devices".into());
    }
    let intake = Arc::new(Intake::new(client, args.limits, args.remember));
    let mut net = Net::bind(args.tcp, args.udp, Arc::clone(&intake), args.devices)?;
    let [tcp, udp] = net.bound();
    for (kind, address) in [("tcp", tcp), ("udp", udp)] {
        if let Some(address) = address {
            println!("listening on {kind} {address}");
        }
    }
    io::stdout().flush()?;
    let input_ended = serve_streams(args, &intake)?;

    let (on_terminal, mut last) = (io::stderr().is_terminal(), Instant::now());
    loop {
        let ended = net.serve(Instant::now() + GLANCE)?;
        let is_over = ended == Ended::Asked || (input_ended.load(Ordering::Relaxed) && tcp.or(udp).is_none());
        if on_terminal {
            eprint!("\r\x1b[2K{}", line(&intake, net.devices()));
        } else if is_over || last.elapsed() >= LOG_INTERVAL {
            eprintln!("{}", line(&intake, net.devices()));
            last = Instant::now();
        }
        if is_over {
            break;
        }
    }
    let report = intake.client().shutdown_within(SHUTDOWN_TIMEOUT);
    if on_terminal {
        eprintln!();
    }
    eprintln!("end: {}", line(&intake, 0));
    if report.is_complete || args.spool.is_some() { Ok(()) } else { Err("not everything could be delivered".into()) }
}

fn client(args: &Args) -> Result<Client, quillet::BuildError> {
    let mut builder = Client::builder(args.key.as_str())
        .super_property("gateway", args.name.as_str())
        .max_queue_size(args.queue)
        .queue_bytes(QUEUE_BYTES)
        .flush_at(1000)
        .flush_interval(Duration::from_secs(2))
        .gzip(args.gzip);
    if let Some(host) = &args.host {
        builder = builder.host(host.as_str());
    }
    if let Some(directory) = &args.spool {
        builder = builder.spool_dir(directory).spool_bytes_max(args.spool_bytes);
    }
    builder.build()
}

/// Starts a thread for each stream that blocks. The flag returned says that standard input is at its end.
fn serve_streams(args: &Args, intake: &Arc<Intake>) -> io::Result<Arc<AtomicBool>> {
    let ended = Arc::new(AtomicBool::new(false));
    if let Some(path) = &args.serial {
        let line = OpenOptions::new().read(true).write(true).open(path)?;
        let (intake, name, answers) = (Arc::clone(intake), path.display().to_string(), line.try_clone()?);
        thread::Builder::new().name("serial".to_owned()).spawn(move || stream::serve(&name, line, answers, &intake))?;
    }
    if args.stdin {
        let (intake, ended) = (Arc::clone(intake), Arc::clone(&ended));
        thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            stream::serve("stdin", io::stdin(), io::stdout(), &intake);
            ended.store(true, Ordering::Relaxed);
        })?;
    }
    Ok(ended)
}

/// Everything in one line.
fn line(intake: &Intake, devices: usize) -> String {
    let (stats, tally) = (intake.client().stats(), &intake.tally);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    format!(
        "{devices} devices | accepted {} repeated {} malformed {} refused {} later {} | delivered {} rejected {} dropped {} \
         pending {} spooled {} recovered {}",
        count(&tally.accepted),
        count(&tally.repeated),
        count(&tally.malformed),
        count(&tally.refused),
        count(&tally.later),
        stats.delivered,
        stats.rejected,
        stats.dropped_total(),
        stats.pending,
        stats.spooled,
        stats.recovered,
    )
}
