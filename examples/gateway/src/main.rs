//! A gateway: devices that cannot speak HTTPS send a line an event; it keeps them, and forwards them in batches.
//!
//! ```text
//! POSTHOG_API_KEY=phc_… cargo run --release -p gateway -- --tcp 127.0.0.1:7777 --spool /tmp/gateway
//! printf 'door_opened door-7 battery=3.71\n' | nc 127.0.0.1 7777
//! ```
//!
//! | file | what it is about |
//! |---|---|
//! | `args` | the command line, and what a device may say |
//! | `frame` | what a line may say |
//! | `intake` | a line becomes an event and an acknowledgement |
//! | `net`, `connection` | TCP and UDP on one thread |
//! | `stream` | serial lines and standard input on a thread each |
//! | `status` | the statistics |
//!
//! What an acknowledgement promises: the event is in the queue, and with `--spool` in a file that survives the process. A
//! device that hears nothing, or `later`, sends the line again with the same uuid; if the first one had arrived after all,
//! it is one event to PostHog as long as the device sends its own time, and otherwise as long as this process remembers
//! the uuid.
//!
//! Memory, whatever arrives, in bytes; some 110 MB with the defaults:
//!
//! ```text
//! 9 × (4 MiB + 4 KiB)                        the client's rings; with --spool a file
//! + 2 MiB                                    a request and its connection
//! + --devices × (2 × --line-bytes + 9 KiB)   TCP
//! + --devices × 256                          UDP
//! + --remember × 96                          uuids
//! + 8 MiB                                    the program
//! ```

mod args;
mod connection;
mod frame;
mod intake;
mod net;
mod status;
mod stream;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use args::{Args, HELP};
use intake::Intake;
use net::{Ended, Net};
use quillet::{Client, Durability};
use rustix::process::{Resource, getrlimit, setrlimit};
use status::Status;
use stream::Source;

/// Between two looks at the statistics, and at the spool.
const GLANCE: Duration = Duration::from_secs(1);

/// Files besides devices' connections: the client's, the spool's, listeners, streams.
const FILES: u64 = 64;

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
    let limited = files_for(args.places.devices);
    let intake = Arc::new(Intake::new(client, args.limits, args.remember));
    let mut net = Net::bind(args.tcp, args.udp, Arc::clone(&intake), args.places)?;
    let [tcp, udp] = net.bound();
    for (kind, address) in [("tcp", tcp), ("udp", udp)] {
        if let Some(address) = address {
            println!("listening on {kind} {address}");
        }
    }
    io::stdout().flush()?;
    if let Some(files) = limited {
        eprintln!("gateway: the system allows {files} open files, which is less than --devices needs");
    }
    let input_ended = serve_streams(args, &intake)?;
    let is_all_input = tcp.or(udp).is_none() && args.serial.is_none();

    let mut status = Status::new();
    let is_lost = loop {
        let ended = net.serve(Instant::now() + GLANCE)?;
        // Somebody took the file away. The events in it are delivered, or lost; no further promise is made.
        let is_lost = args.spool.is_some() && intake.client().durability() == Durability::Memory;
        let is_over = ended == Ended::Asked || is_lost || (input_ended.load(Ordering::Relaxed) && is_all_input);
        status.show(&intake, net.devices(), is_over);
        if is_over {
            break is_lost;
        }
    };
    if is_lost {
        intake.close();
    }
    let report = intake.client().shutdown_within(SHUTDOWN_TIMEOUT);
    status.show(&intake, 0, true);
    if is_lost {
        return Err("the spool was taken away, so nothing can be promised to the devices any more".into());
    }
    if report.is_complete || args.spool.is_some() { Ok(()) } else { Err("not everything could be delivered".into()) }
}

/// Has the system allow a file for each device and ours; if it does not, how many it allows. What cannot be opened then
/// waits at the door.
fn files_for(devices: usize) -> Option<u64> {
    let wanted = (devices as u64).saturating_add(FILES);
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        let _ = setrlimit(Resource::Nofile, limit);
    }
    getrlimit(Resource::Nofile).current.filter(|current| *current < wanted)
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
        let line = stream::open(path).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
        let (intake, path) = (Arc::clone(intake), path.clone());
        thread::Builder::new()
            .name("serial".to_owned())
            .spawn(move || stream::serve_serial(&path, Some(line), &intake))?;
    }
    if args.stdin {
        let (intake, ended) = (Arc::clone(intake), Arc::clone(&ended));
        thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            stream::serve("stdin", Source::Pipe, io::stdin(), io::stdout(), &intake);
            ended.store(true, Ordering::Relaxed);
        })?;
    }
    Ok(ended)
}
