//! Telling the caller's hooks what became of requests and events.
//!
//! In: what the worker or an immediate capture has learned. Out: calls of `on_request` and `on_deliver`, outside of every
//! lock, each under `catch_unwind`. One set per client, shared by whoever sends for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::SystemTime;

use quillet_core::{Answer, Batch, Clock, Counters, DropReason, Outcome, Transport};

use crate::clock::SystemClock;
use crate::hooks::{Delivery, Hooks, RequestReport};
use crate::inside::{ClientId, Inside};
use crate::log::{Log, Topic};
use crate::transport::Sender;

/// Hooks of one client that may run inside each other: one that captures at once, whose requests are observed too.
const NESTED_MAX: usize = 2;

/// What a client's hooks are called through.
pub(crate) struct Observers {
    pub(crate) client: ClientId,
    pub(crate) hooks: Arc<Hooks>,
    pub(crate) log: Log,
}

impl Observers {
    /// Makes one request and tells `on_request` about it. Returns the outcome, and the status if there was one.
    pub(crate) fn send(&self, clock: &SystemClock, sender: &mut Sender, batch: &Batch<'_>) -> (Outcome, Option<u16>) {
        let (started, before) = (SystemTime::now(), clock.now());
        let outcome = sender.send(batch);
        let elapsed = clock.now().since(before);
        let status = if let Outcome::Answered(Answer { status, .. }) = outcome { Some(status) } else { None };
        if !self.hooks.on_request.is_empty() {
            let error = sender.last_error().filter(|_| status.is_none());
            let report = RequestReport::new(batch, started, elapsed, status, error);
            self.call_all(&self.hooks.on_request, |hook| hook(&report));
        }
        (outcome, status)
    }

    /// Calls `on_deliver` for what was decided.
    pub(crate) fn tell(&self, decided: &Counters, status: Option<u16>) {
        if self.hooks.on_deliver.is_empty() {
            return;
        }
        let news = |delivery: Delivery| {
            if delivery.events() > 0 {
                self.call_all(&self.hooks.on_deliver, |hook| hook(&delivery));
            }
        };
        news(Delivery::Delivered { events: decided.delivered });
        news(Delivery::Rejected { events: decided.rejected, status });
        for reason in DropReason::ALL {
            let events = decided.dropped.get(reason.index()).copied().unwrap_or(0);
            news(Delivery::Dropped { events, reason });
        }
    }

    /// Calls every hook; a panic in one is its own affair.
    fn call_all<H>(&self, hooks: &[H], call: impl Fn(&H)) {
        let Some(_inside) = Inside::enter(self.client, NESTED_MAX) else { return };
        for hook in hooks {
            if catch_unwind(AssertUnwindSafe(|| call(hook))).is_err() {
                self.log.warn(Topic::Panic, format_args!("a hook panicked"));
            }
        }
    }
}
