//! The ways to end.

use std::panic::{self, AssertUnwindSafe};

use std::time::Duration;

use quillet::{Client, ErrorReport, Level, Scope, event, props};

use crate::{Request, SOMEBODY, handlers, rows, signals};

/// For things that take milliseconds on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Ends as asked. Returns where a program survives it.
pub(crate) fn end(request: &Request, client: &Client) {
    match request.end.as_str() {
        "return" => {}
        "panic" => panic!("the {} broke", "bank"),
        "panic_static" => panic!("broke"),
        "panic_payload" => panic::panic_any(7u8),
        "panic_long" => panic!("{}", "ä".repeat(50_000)),
        "panic_in_drop" => drop(PanicsInDrop("in drop")),
        "double_panic" => double_panic(),
        "extern_c" => panics_in_c(),
        "caught" => caught(30),
        "caught_once" => caught(1),
        "truncated" => truncated(request, client),
        "durability" => println!("durability.{}", u8::from(client.durability() != quillet::Durability::Memory)),
        "forked_capture" | "forked" => {
            let captures = request.end == "forked_capture";
            let ended = signals::in_child(|| {
                if captures {
                    assert!(client.capture(event!("in the child", SOMEBODY)).is_accepted());
                }
                signals::end("segv");
            });
            println!("child_signal.{ended}");
            std::process::exit(7);
        }
        "forked_in_handler" => {
            std::thread::scope(|scope| {
                scope.spawn(|| signals::end("raise_segv"));
                handlers::wait_until_entered();
                let ended = signals::in_child(|| {
                    assert!(client.capture(event!("in the child", SOMEBODY)).is_accepted());
                    signals::end("ill");
                });
                println!("child_signal.{ended}");
                handlers::let_go();
            });
            std::process::exit(7);
        }
        "parked_handler" => {
            std::thread::spawn(|| signals::end("raise_segv"));
            handlers::wait_until_entered();
            signals::end("ill");
        }
        "unwound_handler" => {
            // Unwinding needs more than the standard library's 8 KiB.
            handlers::measure();
            for _ in 0..3 {
                let unwound = panic::catch_unwind(signals::raise_and_unwind);
                assert_eq!(unwound.unwrap_err().downcast_ref(), Some(&libc::SIGSEGV));
            }
            if request.has("then_ill") {
                signals::end("ill");
            }
        }
        "scoped" => {
            client.add_exception_step("before", props! { "n": 1, "password": "hunter2" });
            let scope = Scope::new().distinct_id("ada").property("route", "/checkout").property("password", "hunter2");
            let _inside = scope.enter();
            client.add_exception_step("card entered", &[]);
            Scope::new().distinct_id("bob").run(|| client.add_exception_step("of the same scope", &[]));
            caught(1);
        }
        "full_queue" => {
            while client.capture(event!("filler", SOMEBODY)).is_accepted() {}
            caught(1);
        }
        "exit" => std::process::exit(7),
        "abort" => std::process::abort(),
        "fatal" => {
            let report =
                ErrorReport::new(&std::fmt::Error).distinct_id(SOMEBODY).type_name("Fatal").level(Level::Fatal);
            assert!(client.capture_exception(&report).is_accepted());
            std::process::exit(7);
        }
        "write" => {
            assert!(client.write_crash_file());
            std::process::exit(7);
        }
        "opt_out" => client.opt_out(),
        "write_twice" => {
            assert!(client.write_crash_file());
            assert!(client.flush(PATIENCE).is_ok());
            assert!(client.capture(event!("after the flush", SOMEBODY)).is_accepted());
            assert!(client.write_crash_file());
            std::process::exit(7);
        }
        "write_and_flush" => {
            assert!(client.write_crash_file());
            assert!(client.flush(PATIENCE).is_ok());
            std::process::exit(7);
        }
        "write_while_working" => write_while_working(client),
        other if rows::end(other, request, client) || signals::end(other) => {}
        other => panic!("no end called {other}"),
    }
}

/// So many panics, each of which somebody deals with.
pub(crate) fn caught(count: usize) {
    for n in 0..count {
        let result = panic::catch_unwind(AssertUnwindSafe(|| panic!("caught {n}")));
        assert!(result.is_err());
    }
}

/// Captures, delivers and writes the crash file again and again, on three threads; then the end, in the midst of it.
fn write_while_working(client: &Client) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0u64.. {
                client.capture(event!("filler", SOMEBODY, { "n": n, "text": "x".repeat((n % 300) as usize).as_str() }));
            }
        });
        scope.spawn(|| {
            loop {
                let _ = client.flush(PATIENCE);
            }
        });
        for _ in 0..50 {
            client.write_crash_file();
        }
        std::process::abort();
    });
}

/// Somebody cuts the spool's files off, and the program goes on, however many clients it has.
fn truncated(request: &Request, client: &Client) {
    let others = if request.has("many_clients") { 20 } else { 0 };
    let others: Vec<_> = (0..others).map(|_| crate::builder(request).build().unwrap()).collect();
    for client in others.iter().chain([client]) {
        assert_ne!(client.durability(), quillet::Durability::Memory);
    }
    let mut folders = vec![std::path::PathBuf::from(std::env::var_os("CRASHER_DIR").unwrap())];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
            }
        }
    }
    for client in others.iter().chain([client]) {
        for _ in 0..2000 {
            client.capture(event!("after the cut", SOMEBODY));
        }
    }
    assert!(others.iter().all(|other| other.durability() == quillet::Durability::Memory));
    let _ = client.flush(Duration::from_secs(2));
    println!("alive.1");
    println!("durability.{}", u8::from(client.durability() != quillet::Durability::Memory));
    // From here on it is a client like any other, panic hook included.
    caught(1);
    assert!(client.capture(event!("long after the cut", SOMEBODY)).is_accepted());
    client.flush(PATIENCE).unwrap();
    let stats = client.stats();
    println!("conserved.{}", u8::from(stats.is_conserved() && stats.pending == 0));
    println!("damaged.{}", stats.dropped_for(quillet::DropReason::Damaged));
    let of_others: u64 = others.iter().map(|other| other.shutdown().stats.delivered).sum();
    println!("delivered.{}", stats.delivered + of_others);
}

struct PanicsInDrop(&'static str);

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("{}", self.0);
    }
}

/// A panic, and while that unwinds another one.
pub(crate) fn double_panic() {
    let _second = PanicsInDrop("second");
    panic!("first");
}

/// A panic that reaches a frame of C's, which it may not cross.
pub(crate) extern "C" fn panics_in_c() {
    panic!("into C");
}
