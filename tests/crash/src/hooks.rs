//! Panic hooks of the program's own, in front of the client's and behind it, to see that each is called and what the one
//! between them costs.

use std::panic;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use quillet::{CaptureError, Client};
use quillet_support::alloc::thread_counts;

use crate::Request;

/// Calls of the hook that was there before the client's.
static BEHIND: AtomicUsize = AtomicUsize::new(0);
/// Allocations of the panicking thread when the client's hook was entered, and those made until it was left.
static AT_ENTRY: AtomicU64 = AtomicU64::new(0);
static INSIDE: AtomicU64 = AtomicU64::new(0);

/// What the client's hook finds and has to call.
pub(crate) fn before(request: &Request) {
    if request.has("own_hook") {
        panic::set_hook(Box::new(|_| {
            BEHIND.fetch_add(1, Ordering::SeqCst);
            let allocations = thread_counts().allocations;
            INSIDE.fetch_add(allocations - AT_ENTRY.load(Ordering::SeqCst), Ordering::SeqCst);
        }));
    }
}

/// What calls the client's hook.
pub(crate) fn after(request: &Request) {
    if request.has("own_hook") {
        let clients = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            AT_ENTRY.store(thread_counts().allocations, Ordering::SeqCst);
            clients(info);
        }));
    }
}

/// Says what the hooks saw, in lines of a name and a number.
pub(crate) fn report(request: &Request, client: &Client) {
    if request.has("own_hook") {
        println!("hook_calls.{}", BEHIND.load(Ordering::SeqCst));
        println!("allocations.{}", INSIDE.load(Ordering::SeqCst));
    }
    println!("rate_limited.{}", client.stats().refused_for(CaptureError::RateLimited));
}
