//! Many tests at the same time, whatever the number of cores.
//!
//! In: cases. Out: their verdicts, one for each `#[test]`.
//!
//! The harness's tests mostly wait, and libtest runs as many at once as there are cores. So the first `#[test]` that asks
//! for a verdict starts every case of its table on a thread of its own; the others find theirs under way or done. The
//! price: running one of them by name runs its siblings too.

use std::cell::Cell;
use std::collections::HashMap;
use std::panic;
use std::sync::{Mutex, Once, PoisonError};
use std::thread::{self, JoinHandle};

use super::Test;

/// A name and what to do. A panic is a failure.
pub(crate) type Case = (&'static str, fn(&Test));

/// A `#[test]` for each case, and all of them in one table. Once in a module.
macro_rules! cases {
    ($(fn $name:ident($test:ident) $body:block)*) => {
        const CASES: &[$crate::harness::parallel::Case] = &[$((stringify!($name), |$test| $body)),*];
        static RUNNING: std::sync::LazyLock<$crate::harness::parallel::Running> =
            std::sync::LazyLock::new(|| $crate::harness::parallel::Running::start(CASES));
        $(
            #[test]
            fn $name() {
                RUNNING.verdict(stringify!($name));
            }
        )*
    };
}
pub(crate) use cases;

type Verdict = Result<(), String>;

thread_local! {
    /// What a panic on this thread said, and where. libtest would show it to whichever test started the threads.
    static LAST_WORDS: Cell<Option<String>> = const { Cell::new(None) };
}

/// Cases under way.
pub(crate) struct Running(Mutex<HashMap<&'static str, JoinHandle<Verdict>>>);

impl Running {
    /// Starts all of them.
    pub(crate) fn start(cases: &[Case]) -> Self {
        listen_to_last_words();
        let start = |&(name, case): &Case| {
            let run = move || {
                let ended = panic::catch_unwind(|| case(&Test::parallel(name)));
                ended.map_err(|_| LAST_WORDS.take().unwrap_or_default())
            };
            (name, thread::Builder::new().name(name.to_owned()).spawn(run).unwrap())
        };
        Self(Mutex::new(cases.iter().map(start).collect()))
    }

    /// Waits for a case; panics if it did.
    pub(crate) fn verdict(&self, name: &str) {
        let case = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name).expect("asked once");
        if let Err(words) = case.join().unwrap() {
            panic!("{words}");
        }
    }
}

fn listen_to_last_words() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            LAST_WORDS.set(Some(panic.to_string()));
            usual(panic);
        }));
    });
}
