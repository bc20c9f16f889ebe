//! A program that ends in every way a program can end, and what the next start delivers.
//!
//! ```text
//! cargo run --release --example crash_recovery
//! ```
//!
//! For each way, this program runs itself once more. That process captures three events, which nobody has sent yet, and
//! ends. Then a client on the same spool directory, as the next start of a service would have it, delivers what it finds: the
//! three events with their uuids and times, and for a crash an `$exception` that says what happened.
//!
//! Everything stays in this process: the events go to a sink on the loopback, the spool is a folder that is removed again.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::hint::black_box;
use std::mem;
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};

use quillet::{BuildError, Client, event};
use quillet_support::Sink;

/// Tells the process that ends how it shall end.
const WAY: &str = "CRASH_RECOVERY_WAY";
const HOST: &str = "CRASH_RECOVERY_HOST";
const SPOOL: &str = "CRASH_RECOVERY_SPOOL";

/// Longest wait for anything here.
const PATIENCE: Duration = Duration::from_secs(30);

/// Events captured before each end.
const EVENTS: usize = 3;

/// Every way, what it looks like in code, and whether the next start has something to tell about it: one event, then.
const WAYS: [(&str, &str, bool); 9] = [
    ("return", "main returns, the client is forgotten", false),
    ("exit", "std::process::exit(1)", false),
    ("panic", "panic! on a thread, then exit", true),
    ("double_panic", "panic! in a destructor while unwinding", true),
    ("abort", "std::process::abort()", true),
    ("alloc_error", "an allocation fails", true),
    ("stack_overflow", "a recursion without end", true),
    ("segv", "SIGSEGV", true),
    ("kill", "SIGKILL, as from the out-of-memory killer", false),
];

fn main() -> Result<(), Box<dyn Error>> {
    if let (Ok(way), Ok(host), Ok(spool)) = (env::var(WAY), env::var(HOST), env::var(SPOOL)) {
        return live_and_end(&way, &host, Path::new(&spool));
    }
    let mut lost = 0;
    for (way, what, is_told) in WAYS {
        let told = run(way, what)?;
        if told.is_some() != is_told {
            lost += 1;
        }
    }
    if lost == 0 { Ok(()) } else { Err(format!("{lost} ends were not told as expected").into()) }
}

/// One end and the start after it. Answers what was told about it, if anything was.
fn run(way: &str, what: &str) -> Result<Option<String>, Box<dyn Error>> {
    let sink = Sink::start();
    let spool = env::temp_dir().join(format!("quillet-crash-recovery-{}-{way}", process::id()));
    let ended = Command::new(env::current_exe()?)
        .env(WAY, way)
        .env(HOST, sink.host())
        .env(SPOOL, &spool)
        .stderr(Stdio::null())
        .status()?;
    println!("{way}: {what}\n  it ended with {ended}; {} requests were made", sink.requests().len());

    let client = client(&sink.host(), &spool)?;
    let started = Instant::now();
    while sink.stored().len() < EVENTS && started.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    let report = client.shutdown();
    let told = describe(&sink);
    println!("  the next start recovered {} events: {}", report.stats.recovered, names(&sink));
    if let Some(told) = &told {
        println!("  {told}");
    }
    std::fs::remove_dir_all(&spool)?;
    let count = |name: &str| sink.stored().iter().filter(|event| event.name() == name).count();
    if count("$exception") > 1 {
        return Err(format!("{} exceptions after {way}", count("$exception")).into());
    }
    let kept = count("work done");
    if kept == EVENTS { Ok(told) } else { Err(format!("{kept} of {EVENTS} events after {way}").into()) }
}

/// The whole life of the process that ends.
fn live_and_end(way: &str, host: &str, spool: &Path) -> Result<(), Box<dyn Error>> {
    let client = client(host, spool)?;
    client.install_panic_hook();
    client.install_signal_handlers();
    for n in 0..EVENTS {
        client.capture(event!("work done", "crash-recovery", { "n": n, "way": way }));
    }
    match way {
        "return" => mem::forget(client),
        "panic" => {
            let worker = std::thread::Builder::new().name("worker".to_owned());
            let worker = worker.spawn(|| assert_eq!(black_box(1) + 1, 3, "arithmetic is broken"))?;
            let _ = worker.join();
            process::exit(1);
        }
        "double_panic" => {
            struct Guard;
            impl Drop for Guard {
                fn drop(&mut self) {
                    assert!(black_box(false), "and the clean-up failed");
                }
            }
            let _guard = Guard;
            assert!(black_box(false), "something failed");
        }
        "abort" => process::abort(),
        "alloc_error" => std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u8; 1 << 30]>()),
        "stack_overflow" => {
            black_box(recurse(black_box(1)));
        }
        // A shell has `kill` built in, and no unsafe code is needed for it.
        "segv" => signal("SEGV")?,
        "kill" => signal("KILL")?,
        _ => process::exit(1),
    }
    Ok(())
}

fn client(host: &str, spool: &Path) -> Result<Client, BuildError> {
    Client::builder("phc_crash_recovery")
        .host(host)
        .proxy(None)
        .spool_dir(spool)
        .super_property("release", "1.0.0")
        .crash_distinct_id("crash-recovery")
        .build()
}

fn recurse(depth: u64) -> u64 {
    let room = black_box([depth; 32]);
    if depth == 0 { 0 } else { recurse(depth + 1) + room[1] }
}

/// Sends this process a signal, and waits for it.
fn signal(name: &str) -> Result<(), Box<dyn Error>> {
    Command::new("sh").args(["-c", &format!("kill -{name} {}", process::id())]).status()?;
    std::thread::sleep(PATIENCE);
    Ok(())
}

/// The names of what arrived.
fn names(sink: &Sink) -> String {
    let mut names = String::new();
    for event in sink.stored() {
        let _ = write!(names, "{}{}", if names.is_empty() { "" } else { ", " }, event.name());
    }
    names
}

/// What the exception says, if there is one.
fn describe(sink: &Sink) -> Option<String> {
    let stored = sink.stored();
    let event = stored.iter().find(|event| event.name() == "$exception")?;
    let entry = event.property("$exception_list").get(0)?;
    let frames = entry.get("stacktrace").and_then(|stack| stack.get("frames")).and_then(|frames| frames.as_array());
    Some(format!(
        "{}: {} (thread {}, {} frames, at {})",
        entry.get("type")?.as_str()?,
        entry.get("value")?.as_str()?.lines().next().unwrap_or_default(),
        event.property("$exception_thread_name").as_str().unwrap_or("?"),
        frames.map_or(0, Vec::len),
        event.timestamp(),
    ))
}
