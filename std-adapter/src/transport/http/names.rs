//! Names to addresses, within a time limit, and without a thread for every request.
//!
//! Input: one host name and port, fixed when the transport is made. Output: its addresses, from memory where they were
//! looked up less than a minute ago. `getaddrinfo` can neither be given a deadline nor be interrupted, so a lookup runs
//! on a thread of its own and is abandoned when it takes too long; the next request then waits for the same thread
//! instead of starting another. There is never more than one lookup of a name under way.
//!
//! A name that cannot be looked up any more keeps its last addresses: a resolver that is down is no reason to leave a
//! server that is up.

use core::time::Duration;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use crate::config::ResolveFn;

/// How long an answer is used without asking again.
const FRESH: Duration = Duration::from_secs(60);

/// Most addresses kept for a name.
const ADDRESSES_MAX: usize = 16;

/// One name, and what is known about it. Clones share it.
#[derive(Clone)]
pub(super) struct Name(Arc<Inner>);

struct Inner {
    name: String,
    port: u16,
    /// The caller's own way; `None` asks the operating system.
    resolve: Option<ResolveFn>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    addresses: Vec<SocketAddr>,
    looked_up: Option<Instant>,
    /// The process in which a lookup is under way. A child made by `fork` has the flag, but not the thread.
    running_in: Option<u32>,
    /// Lookups that ended. Whoever waits sees it change.
    ended: u64,
    /// How the last one failed, if it did.
    failed: Option<io::ErrorKind>,
    closed: bool,
}

impl Name {
    pub(super) fn new(name: &str, port: u16, resolve: Option<ResolveFn>) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Inner { name: name.to_owned(), port, resolve, state, changed }))
    }

    /// The addresses, in the order in which they should be tried; at least one, at most 16. Waits no longer than
    /// `timeout`.
    pub(super) fn addresses(&self, timeout: Duration) -> io::Result<Vec<SocketAddr>> {
        let inner = &*self.0;
        if let (None, Ok(address)) = (&inner.resolve, inner.name.parse::<IpAddr>()) {
            return Ok(vec![SocketAddr::new(address, inner.port)]);
        }
        let deadline = Instant::now() + timeout;
        let mut state = inner.lock();
        if state.looked_up.is_some_and(|then| then.elapsed() < FRESH) {
            return Ok(state.addresses.clone());
        }
        let seen = state.ended;
        if state.running_in != Some(std::process::id()) {
            self.start(&mut state)?;
        }
        while state.ended == seen && !state.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = inner.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.answer(seen)
    }

    /// Ends every wait for a lookup, now and from now on.
    pub(super) fn close(&self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }

    /// Starts the thread of one lookup. `thread::spawn` would panic where the system has no thread left.
    fn start(&self, state: &mut State) -> io::Result<()> {
        let inner = Arc::clone(&self.0);
        match thread::Builder::new().name("quillet-dns".to_owned()).spawn(move || inner.look_up()) {
            Ok(_) => {
                state.running_in = Some(std::process::id());
                Ok(())
            }
            // Old addresses are better than none.
            Err(_) if !state.addresses.is_empty() => {
                state.ended = state.ended.wrapping_add(1);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

impl Inner {
    fn look_up(&self) {
        let found = catch_unwind(AssertUnwindSafe(|| match &self.resolve {
            Some(resolve) => resolve(&self.name, self.port),
            None => (self.name.as_str(), self.port).to_socket_addrs().map(Iterator::collect),
        }));
        let found = found.unwrap_or_else(|_| Err(io::Error::other("the resolver panicked")));
        let mut state = self.lock();
        match found {
            Ok(addresses) if addresses.is_empty() => state.failed = Some(io::ErrorKind::NotFound),
            Ok(mut addresses) => {
                addresses.truncate(ADDRESSES_MAX);
                state.addresses = addresses;
                state.looked_up = Some(Instant::now());
                state.failed = None;
            }
            Err(error) => state.failed = Some(error.kind()),
        }
        state.running_in = None;
        state.ended = state.ended.wrapping_add(1);
        drop(state);
        self.changed.notify_all();
    }

    /// Nothing that runs under the lock can leave the state half changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What to answer somebody who began to wait when `seen` lookups had ended.
    fn answer(&self, seen: u64) -> io::Result<Vec<SocketAddr>> {
        if self.closed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if !self.addresses.is_empty() {
            return Ok(self.addresses.clone());
        }
        let kind =
            if self.ended == seen { io::ErrorKind::TimedOut } else { self.failed.unwrap_or(io::ErrorKind::NotFound) };
        Err(kind.into())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({}:{})", self.0.name, self.0.port)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn counting(
        answer: impl Fn(usize) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> (Name, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&calls);
        let resolve: ResolveFn = Arc::new(move |_: &str, _: u16| answer(counter.fetch_add(1, Ordering::SeqCst)));
        (Name::new("a.example", 80, Some(resolve)), calls)
    }

    #[test]
    fn an_address_needs_no_lookup() {
        for (name, address) in [("127.0.0.1", "127.0.0.1:8000"), ("::1", "[::1]:8000")] {
            let addresses = Name::new(name, 8000, None).addresses(Duration::ZERO).unwrap();
            assert_eq!(addresses, [address.parse().unwrap()]);
        }
    }

    #[test]
    fn an_answer_is_remembered() {
        let address: SocketAddr = "10.0.0.1:80".parse().unwrap();
        let (name, calls) = counting(move |_| Ok(vec![address; 40]));
        for _ in 0..3 {
            assert_eq!(name.addresses(LONG).unwrap(), [address; ADDRESSES_MAX]);
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn failures_are_told_and_not_remembered() {
        let (name, calls) = counting(|call| match call {
            0 => Err(io::ErrorKind::PermissionDenied.into()),
            1 => Ok(Vec::new()),
            _ => panic_in_resolver(),
        });
        assert_eq!(name.addresses(LONG).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(name.addresses(LONG).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(name.addresses(LONG).unwrap_err().kind(), io::ErrorKind::Other);
        assert_eq!(calls.load(Ordering::SeqCst), 3);
    }

    #[allow(clippy::panic, reason = "the point of the test")]
    fn panic_in_resolver() -> io::Result<Vec<SocketAddr>> {
        panic!("a resolver that panics")
    }

    #[test]
    fn a_lookup_that_hangs_is_waited_for_once_more_and_not_started_again() {
        let (release, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let (name, calls) = counting(move |_| {
            wait.lock().unwrap().recv().unwrap();
            Ok(vec!["10.0.0.1:80".parse().unwrap()])
        });
        for _ in 0..3 {
            assert_eq!(name.addresses(Duration::from_millis(5)).unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
        release.send(()).unwrap();
        assert_eq!(name.addresses(LONG).unwrap().len(), 1);
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn old_addresses_outlive_a_resolver_that_fails() {
        let (name, calls) = counting(|call| match call {
            0 => Ok(vec!["10.0.0.1:80".parse().unwrap()]),
            _ => Err(io::ErrorKind::NotFound.into()),
        });
        assert_eq!(name.addresses(LONG).unwrap().len(), 1);
        name.0.lock().looked_up = None;
        assert_eq!(name.addresses(LONG).unwrap().len(), 1);
        assert_eq!(calls.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn closing_ends_a_wait() {
        let (_release, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let (name, _) = counting(move |_| {
            let _ = wait.lock().unwrap().recv();
            Ok(Vec::new())
        });
        let closer = name.clone();
        let waiting = thread::spawn(move || name.addresses(LONG));
        closer.close();
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), io::ErrorKind::NotConnected);
    }
}
