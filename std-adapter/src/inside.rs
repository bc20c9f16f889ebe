//! Which clients' hooks are running on this thread.
//!
//! In: a client's number, for as long as one of its hooks runs. Out: how often it stands there. That is what keeps a hook
//! that captures from calling itself without end, and a hook that flushes from waiting for itself. It is kept per client:
//! inside a hook of one client the hooks of another run as ever, so nothing passes by a `before_send`.

use core::num::NonZeroU32;
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

/// Hooks that may run inside each other on one thread, over all clients.
const NESTED_MAX: usize = 8;

thread_local! {
    /// The clients whose hooks run on this thread, the outermost first.
    static RUNNING: Cell<[Option<ClientId>; NESTED_MAX]> = const { Cell::new([None; NESTED_MAX]) };
}

/// A number that no other client of this process has, as long as fewer than 2³² were built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientId(NonZeroU32);

impl ClientId {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Self(NonZeroU32::new(NEXT.fetch_add(1, Ordering::Relaxed)).unwrap_or(NonZeroU32::MIN))
    }
}

/// Says, as long as it lives, that a hook of a client runs on this thread.
pub(crate) struct Inside {
    before: [Option<ClientId>; NESTED_MAX],
}

impl Inside {
    /// `None` if hooks of this client run here `most` times already, or if hooks are nested too deep altogether.
    pub(crate) fn enter(client: ClientId, most: usize) -> Option<Self> {
        let before = RUNNING.get();
        if count(&before, client) >= most {
            return None;
        }
        let mut running = before;
        *running.iter_mut().find(|place| place.is_none())? = Some(client);
        RUNNING.set(running);
        Some(Self { before })
    }

    /// Whether a hook of this client runs on this thread.
    pub(crate) fn is_inside(client: ClientId) -> bool {
        count(&RUNNING.get(), client) > 0
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        RUNNING.set(self.before);
    }
}

fn count(running: &[Option<ClientId>], client: ClientId) -> usize {
    running.iter().filter(|&&other| other == Some(client)).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]
    use super::*;

    #[test]
    fn clients_do_not_stand_in_each_others_way() {
        let (one, other) = (ClientId::new(), ClientId::new());
        let outer = Inside::enter(one, 1).unwrap();
        assert!(Inside::is_inside(one) && !Inside::is_inside(other));
        assert!(Inside::enter(one, 1).is_none());
        drop(Inside::enter(one, 2).unwrap());
        drop(Inside::enter(other, 1).unwrap());
        assert!(Inside::is_inside(one) && !Inside::is_inside(other));
        drop(outer);
        assert!(!Inside::is_inside(one));
    }

    #[test]
    fn nesting_has_an_end_whoever_nests() {
        let running: Vec<_> = (0..NESTED_MAX).map(|_| Inside::enter(ClientId::new(), 1).unwrap()).collect();
        assert!(Inside::enter(ClientId::new(), 1).is_none());
        for guard in running.into_iter().rev() {
            drop(guard);
        }
        assert!(Inside::enter(ClientId::new(), 1).is_some());
    }
}
