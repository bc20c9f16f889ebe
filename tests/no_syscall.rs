//! Capturing makes no system call, except that one capture may wake a flush thread that sleeps deeply.
//!
//! The kernel is the judge: a child process, which is this binary started again, puts its capturing threads under a
//! seccomp filter that kills the process at the first call that is not listed. A filter that never kills would prove
//! nothing, so one child makes a harmless call and has to die of it.
//!
//! The time is read without entering the kernel where the kernel offers that (the vDSO). Where it does not, one child
//! finds out, the test says so, and reading the clock is let through.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(unsafe_code, reason = "prctl and sigaction; there is no safe way to confine a thread")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should stop")]

mod common;

use common::{API_KEY, PATIENCE, Sleeper, capture, conserved, quick};
use quillet::transport::memory::MemoryTransport;
use quillet::{
    Batch, Client, ClientBuilder, Durability, Event, Exception, Outcome, Property, RawJson, Transport, event, props,
};
use std::env;
use std::hint::spin_loop;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, exit};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Set in a child: what it shall do.
const ROLE: &str = "QUILLET_TEST_NO_SYSCALL";

/// Events that all threads of a child capture together under the filter.
const EVENTS: usize = 100_000;

/// The same with a spool, several laps of it.
const MILLION: usize = 1_000_000;

#[test]
fn the_filter_kills_at_the_first_call() {
    play_a_role_if_asked();
    let status = child("the_filter_kills_at_the_first_call", "getpid", Clock::Vdso);
    assert_eq!(status.signal(), Some(libc::SIGSYS), "{status}: getpid() went through, the filter is worth nothing");
}

#[test]
fn a_hundred_thousand_captures_without_a_thread_to_wake_make_no_system_call() {
    play_a_role_if_asked();
    let name = "a_hundred_thousand_captures_without_a_thread_to_wake_make_no_system_call";
    let clock = Clock::find(name);
    for threads in ["pumped 1", "pumped 2", "pumped 4"] {
        let status = child(name, threads, clock);
        assert!(status.success(), "{threads}: {status}");
    }
}

#[test]
fn a_million_captures_into_a_mapped_file_make_no_system_call() {
    play_a_role_if_asked();
    let name = "a_million_captures_into_a_mapped_file_make_no_system_call";
    let status = child(name, "spooled 2", Clock::find(name));
    assert!(status.success(), "{status}");
}

#[test]
fn a_hundred_thousand_captures_wake_a_sleeping_thread_once_and_do_nothing_else() {
    play_a_role_if_asked();
    let name = "a_hundred_thousand_captures_wake_a_sleeping_thread_once_and_do_nothing_else";
    let clock = Clock::find(name);
    for threads in ["asleep 1", "asleep 2", "asleep 4"] {
        let status = child(name, threads, clock);
        assert!(status.success(), "{threads}: {status}");
    }
}

/// How the wall clock is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clock {
    /// Without the kernel.
    Vdso,
    /// By a system call.
    Kernel,
}

impl Clock {
    fn find(test: &str) -> Self {
        if child(test, "clock", Self::Vdso).success() {
            return Self::Vdso;
        }
        println!("NB: this system reads the clock by a system call (no vDSO); clock_gettime is let through.");
        Self::Kernel
    }
}

/// Starts this binary again for one test, to play `role`. What it says is shown if the test fails.
fn child(test: &str, role: &str, clock: Clock) -> ExitStatus {
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ROLE, format!("{role} {clock:?}"))
        .output()
        .unwrap();
    println!("{role}: {}\n{}", child.status, String::from_utf8_lossy(&child.stderr));
    child.status
}

fn play_a_role_if_asked() {
    let Ok(role) = env::var(ROLE) else { return };
    let mut words = role.split(' ');
    let filter = |extra: &[Rule]| {
        let mut rules = extra.to_vec();
        if role.ends_with("Kernel") {
            rules.push((libc::SYS_clock_gettime, libc::SECCOMP_RET_ALLOW));
        }
        rules
    };
    match words.next().unwrap() {
        "getpid" => {
            confine(&filter(&[]));
            // SAFETY: getpid() has no conditions. It does not return, or the filter is worth nothing.
            unsafe { libc::getpid() };
        }
        "clock" => {
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            confine(&filter(&[]));
            // SAFETY: `time` is a valid place for a timespec.
            unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut time) };
        }
        "pumped" => {
            let threads = words.next().unwrap().parse().unwrap();
            let client = large(MemoryTransport::new()).without_thread().build().unwrap();
            capture_confined(&client, threads, &filter(&[]));
            assert_eq!(conserved(&client).pending, EVENTS as u64 + threads as u64);
        }
        "spooled" => {
            let threads = words.next().unwrap().parse().unwrap();
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("no-syscall-{}", std::process::id()));
            let builder = large(Nowhere).queue_bytes(32 << 20).spool_dir(&folder).spool_bytes_max(u64::MAX);
            let client = builder.without_thread().build().unwrap();
            assert_ne!(client.durability(), Durability::Memory);
            let sent = Confined::start(&client, threads, MILLION, &filter(&[]));
            // The main thread, which is not confined, makes room: the file is written over again and again.
            sent.wait(|| {
                let _ = client.flush(PATIENCE);
            });
            assert_eq!(conserved(&client).accepted, MILLION as u64 + threads as u64);
            assert_ne!(client.durability(), Durability::Memory);
            std::fs::remove_dir_all(&folder).unwrap();
        }
        "asleep" => {
            let threads = words.next().unwrap().parse().unwrap();
            let memory = MemoryTransport::new();
            let (builder, sleeper) = Sleeper::watch(large(memory.clone()).flush_at(20));
            let client = builder.build().unwrap();
            capture(&client, "before", 20);
            assert!(memory.wait_for_events(20, PATIENCE));
            sleeper.wait();
            count_traps();
            // NB: a trapped call does not happen: the thread sleeps on, and must not be woken a second time all the same.
            let rules = [(libc::SYS_futex, libc::SECCOMP_RET_TRAP), (libc::SYS_rt_sigreturn, libc::SECCOMP_RET_ALLOW)];
            capture_confined(&client, threads, &filter(&rules));
            assert_eq!(TRAPS.load(Ordering::SeqCst), 1, "calls to wake the thread");
            assert_eq!(conserved(&client).accepted, 20 + EVENTS as u64 + threads as u64);
        }
        other => panic!("no such role: {other}"),
    }
    exit(0);
}

/// A client with room for everything, in whichever lanes it ends up.
fn large(transport: impl Transport + Clone + Send + 'static) -> ClientBuilder {
    quick("http://127.0.0.1:9").api_key(API_KEY).max_queue_size(2 * EVENTS).queue_bytes(64 << 20).transport(transport)
}

/// Has so many confined threads capture [`EVENTS`] events together, all of which find room.
fn capture_confined(client: &Client, threads: usize, rules: &[Rule]) {
    Confined::start(client, threads, EVENTS, rules).wait(|| ());
    assert_eq!(client.stats().refused_total(), 0);
}

/// Threads that capture under the filter.
///
/// They cannot end: that takes system calls. So they spin until the process exits, and what they did is left in counters.
struct Confined {
    events: usize,
    done: Arc<AtomicUsize>,
}

impl Confined {
    fn start(client: &Client, threads: usize, events: usize, rules: &[Rule]) -> Self {
        let (ready, go, done) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..threads {
            let (client, rules) = (client.clone(), rules.to_vec());
            let (ready, go, done) = (Arc::clone(&ready), Arc::clone(&go), Arc::clone(&done));
            thread::spawn(move || {
                // The first capture of a thread is no different, but the first call of a function may be: lazy binding.
                assert!(capture_one(&client, 0));
                confine(&rules);
                ready.fetch_add(1, Ordering::SeqCst);
                while go.load(Ordering::SeqCst) == 0 {
                    spin_loop();
                }
                for n in 0..events / threads {
                    // Full: whoever has to make room does so meanwhile.
                    while !capture_one(&client, n) {
                        spin_loop();
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
                loop {
                    spin_loop();
                }
            });
        }
        wait_for(&ready, threads);
        go.store(1, Ordering::SeqCst);
        Self { events, done }
    }

    /// Waits until everything is captured, and does `meanwhile` again and again.
    fn wait(&self, meanwhile: impl Fn()) {
        let started = Instant::now();
        while self.done.load(Ordering::SeqCst) != self.events {
            let done = self.done.load(Ordering::SeqCst);
            assert!(started.elapsed() < 2 * PATIENCE, "{done} of {}", self.events);
            meanwhile();
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn wait_for(counter: &AtomicUsize, value: usize) {
    let started = Instant::now();
    while counter.load(Ordering::SeqCst) != value {
        assert!(started.elapsed() < PATIENCE, "{} of {value}", counter.load(Ordering::SeqCst));
        thread::sleep(Duration::from_millis(1));
    }
}

/// Takes everything and keeps nothing: a million events are too many to look at.
#[derive(Clone)]
struct Nowhere;

impl Transport for Nowhere {
    fn send(&mut self, _: &Batch<'_>) -> Outcome {
        Outcome::status(200)
    }
}

/// One event of a kind that depends on `n`.
fn capture_one(client: &Client, n: usize) -> bool {
    let captured = match n % 8 {
        0 => client.capture(Event::personless("nobody")),
        1 => client.identify("customer-7", props! { "plan": "pro", "n": n }),
        2 => client.alias("customer-7", "cookie-1"),
        3 => client.group_identify("company", "acme", props! { "n": n }),
        4 => client.capture(Event::exception("customer-7", &Exception::new("Error", "no\nreason"))),
        5 => {
            let raw = RawJson::parse("{\"a\": [1, 2.5e3]}").unwrap();
            client.capture(Event::new("raw", "customer-7").properties(&[Property::new("raw", raw)]))
        }
        6 => client.capture(Event::new("run time", "customer-7").properties(&[Property::new("k\"ey", f64::NAN)])),
        _ => {
            client.capture(event!("literal", "customer-7", { "n": n, "text": "a \"b\" c", "deep": { "x": [1, null] } }))
        }
    };
    captured.is_accepted()
}

/// A system call's number and what the kernel does about it.
type Rule = (libc::c_long, u32);

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xC000_00B7;

/// Puts the calling thread under a filter: `rules`, ending the process, and writing to a descriptor, by which a panic is
/// heard of. Anything else kills.
fn confine(rules: &[Rule]) {
    // Fields of `struct seccomp_data`, in bytes.
    const NR: u32 = 0;
    const OF_ARCH: u32 = 4;
    let op = |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let (load, equal, answer) =
        (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::BPF_RET);
    let own = [(libc::SYS_exit_group, libc::SECCOMP_RET_ALLOW), (libc::SYS_write, libc::SECCOMP_RET_ALLOW)];
    let kill = op(answer, libc::SECCOMP_RET_KILL_PROCESS, 0);
    let skip_one = op(libc::BPF_JMP | libc::BPF_JA, 1, 0);
    // Each test falls through where it holds, and jumps over what follows where it does not.
    let mut program = vec![op(load, OF_ARCH, 0), op(equal, ARCH, 1), skip_one, kill, op(load, NR, 0)];
    for (number, what) in own.iter().chain(rules) {
        program.extend([op(equal, *number as u32, 1), op(answer, *what, 0)]);
    }
    program.push(kill);
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the first call takes numbers only. The second is given a program that lives until it returns, of the length
    // stated; the kernel checks the program itself.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    assert!(installed, "this system gives no seccomp filter, so nothing can be shown here");
}

/// Calls that were trapped.
static TRAPS: AtomicUsize = AtomicUsize::new(0);

/// Counts trapped calls from now on. They return whatever was in the register; who wakes a thread does not look at it.
fn count_traps() {
    extern "C" fn count(_: libc::c_int) {
        TRAPS.fetch_add(1, Ordering::SeqCst);
    }
    // SAFETY: all-zero is a valid sigaction; the handler touches one atomic and nothing else, as a signal handler may.
    let installed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count as extern "C" fn(libc::c_int) as usize;
        libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) == 0
    };
    assert!(installed);
}
