//! The ways to end.

use std::panic::{self, AssertUnwindSafe};

use std::time::Duration;

use quillet::{Client, Exception, Level, event};

use crate::{Request, SOMEBODY, signals};

/// For things that take milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends as asked. Returns where a program survives it.
pub(crate) fn end(request: &Request, client: &Client) {
    match request.end.as_str() {
        "return" => {}
        "panic" => panic!("the {} broke", "bank"),
        "panic_static" => panic!("broke"),
        "panic_payload" => panic::panic_any(7u8),
        "panic_long" => panic!("{}", "ä".repeat(50_000)),
        "panic_in_drop" => drop(PanicsInDrop("in drop")),
        "double_panic" => {
            let _second = PanicsInDrop("second");
            panic!("first");
        }
        "extern_c" => panics_in_c(),
        "caught" => caught(30),
        "full_queue" => {
            while client.capture(event!("filler", SOMEBODY)).is_accepted() {}
            caught(1);
        }
        "exit" => std::process::exit(7),
        "abort" => std::process::abort(),
        "fatal" => {
            let error = Exception::new("Fatal", "cannot go on").level(Level::Fatal);
            assert!(client.capture_exception(SOMEBODY, &error, &[]).is_accepted());
            std::process::exit(7);
        }
        "write" => {
            assert!(client.write_crash_file());
            std::process::exit(7);
        }
        "write_and_live" => {
            assert!(client.write_crash_file());
            client.flush(PATIENCE).unwrap();
            // The worker empties the file when it looks the next time.
            std::thread::sleep(Duration::from_millis(200));
            std::process::exit(7);
        }
        other if signals::end(other) => {}
        other => panic!("no end called {other}"),
    }
}

/// So many panics, each of which somebody deals with.
fn caught(count: usize) {
    for n in 0..count {
        let result = panic::catch_unwind(AssertUnwindSafe(|| panic!("caught {n}")));
        assert!(result.is_err());
    }
}

struct PanicsInDrop(&'static str);

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("{}", self.0);
    }
}

/// A panic that reaches a frame of C's, which it may not cross.
extern "C" fn panics_in_c() {
    panic!("into C");
}
