//! The end of a client: by its deadline, whatever the network is doing; from any place; with nothing unaccounted for.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should stop")]

mod common;

use common::{PATIENCE, capture, check, conserved, fates, quick, stored, texts, within};
use quillet::{
    Batch, CaptureError, Client, ClientBuilder, DropReason, Event, FlushError, HookVerdict, Outcome, Poll, Transport,
};
use quillet_support::sink::{NeverAccepts, never_accepts, refuses};
use quillet_support::{Answer, Rule, Sink};
use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

/// What a shutdown is given, and what it may take: the rest is for a machine that is busy.
const DEADLINE: Duration = Duration::from_millis(300);
const LIMIT: Duration = Duration::from_millis(1500);

/// A network in trouble: where a client is pointed to, what it waits for before the shutdown, and what has to live.
struct Trouble {
    name: &'static str,
    builder: ClientBuilder,
    started: Box<dyn Fn()>,
    _alive: Box<dyn Any>,
}

impl Trouble {
    /// A sink that answers everything with `answer`, and a request that is under way.
    fn answered(name: &'static str, answer: Answer) -> Self {
        let sink = Arc::new(Sink::start());
        sink.rule(Rule::Always(answer));
        let long = Duration::from_secs(60);
        let builder = quick(sink.host()).flush_at(1).backoff(long, long).request_timeout(long);
        let watched = Arc::clone(&sink);
        Self {
            name,
            builder,
            started: Box::new(move || assert!(watched.wait_for_requests(1, PATIENCE), "{name}")),
            _alive: Box::new(sink),
        }
    }

    /// An address, and an attempt that has begun or is about to; there is no sign of it.
    fn address(name: &'static str, builder: ClientBuilder, alive: impl Any) -> Self {
        let long = Duration::from_secs(60);
        let builder = builder.backoff(long, long).request_timeout(long);
        Self { name, builder, started: Box::new(|| ()), _alive: Box::new(alive) }
    }

    /// A name that is looked up for ever. `asked` hears of it.
    fn unresolved() -> Self {
        let (asked, was_asked) = channel();
        let (keep, hang) = channel::<()>();
        let hang = Mutex::new(hang);
        let builder = quick("http://posthog.invalid").flush_at(1).resolver(move |_, _| {
            let _ = asked.send(());
            let _ = hang.lock().unwrap().recv();
            Err(std::io::ErrorKind::TimedOut.into())
        });
        let started = Box::new(move || was_asked.recv_timeout(PATIENCE).unwrap());
        Self { started, ..Self::address("a resolver that never answers", builder, keep) }
    }

    /// A transport of the caller's, which nobody can interrupt.
    fn stuck_transport() -> Self {
        let (stuck, entered) = Stuck::new();
        let builder = quick("http://127.0.0.1:9").flush_at(1).transport(stuck.clone());
        let started = Box::new(move || entered.recv_timeout(PATIENCE).unwrap());
        Self { started, ..Self::address("a transport that never returns", builder, stuck) }
    }

    fn all() -> Vec<Self> {
        let nowhere: NeverAccepts = never_accepts().unwrap();
        let mut all = vec![
            Self::answered("a server that never answers", Answer::NoAnswer),
            Self::answered("a server that drips", Answer::SlowDrip(Duration::from_secs(1))),
            Self::answered("a back-off", Answer::status(503)),
            Self::answered("a wait that the server asked for", Answer::status_after(429, "60")),
            Self::address("a port that refuses", quick(refuses().unwrap()).flush_at(1), ()),
            Self::address("a listener that never accepts", quick(nowhere.host()).flush_at(1), nowhere),
            Self::unresolved(),
            Self::stuck_transport(),
        ];
        // And the same before anything was tried: the shutdown itself begins the request.
        let nowhere: NeverAccepts = never_accepts().unwrap();
        all.push(Self::address("a first request to nobody", quick(nowhere.host()), nowhere));
        let pumped = Self::answered("a server that never answers a pumped client", Answer::NoAnswer);
        all.push(Self { builder: pumped.builder.without_thread(), started: Box::new(|| ()), ..pumped });
        all
    }
}

/// Enters `send` and stays there until the last clone outside of a client is gone.
#[derive(Clone)]
struct Stuck {
    entered: Sender<()>,
    leave: Arc<Mutex<Receiver<()>>>,
    _keep: Arc<OnceLock<Sender<()>>>,
}

impl Stuck {
    fn new() -> (Self, Receiver<()>) {
        let (entered, was_entered) = channel();
        let (keep, leave) = channel();
        let kept = OnceLock::new();
        kept.set(keep).unwrap();
        (Self { entered, leave: Arc::new(Mutex::new(leave)), _keep: Arc::new(kept) }, was_entered)
    }
}

impl Transport for Stuck {
    fn send(&mut self, _: &Batch<'_>) -> Outcome {
        let _ = self.entered.send(());
        // Long after every limit of these tests.
        let _ = self.leave.lock().unwrap().recv_timeout(Duration::from_secs(20));
        Outcome::NoAnswer
    }
}

#[test]
fn a_shutdown_ends_by_its_deadline_whatever_the_network_does() {
    for trouble in Trouble::all() {
        let name = trouble.name;
        let client = trouble.builder.build().unwrap();
        capture(&client, "stuck", 3);
        (trouble.started)();
        let (_, report) = within(LIMIT, || client.shutdown_within(DEADLINE));
        assert!(!report.is_complete, "{name}");
        let stats = conserved(&client);
        assert_eq!(fates(&stats), (0, 0, 3, 0), "{name}");
        assert_eq!(stats.dropped_for(DropReason::Shutdown), 3, "{name}");
        assert_eq!(fates(&report.stats), fates(&stats), "{name}");

        let (again, repeated) = within(LIMIT, || client.shutdown_within(PATIENCE));
        assert!(again < DEADLINE, "{name}: a second shutdown took {again:?}");
        assert_eq!(fates(&repeated.stats), fates(&stats), "{name}");
        let (dropped, ()) = within(LIMIT, || drop(client));
        assert!(dropped < DEADLINE, "{name}: the drop after it took {dropped:?}");
    }
}

#[test]
fn a_drop_ends_by_the_configured_timeout_whatever_the_network_does() {
    for trouble in Trouble::all() {
        let name = trouble.name;
        let client = trouble.builder.shutdown_timeout(DEADLINE).build().unwrap();
        capture(&client, "stuck", 3);
        (trouble.started)();
        let (elapsed, ()) = within(LIMIT, || drop(client));
        // Nothing could be delivered, so a drop that did not wait has given up too soon.
        assert!(elapsed >= DEADLINE - Duration::from_millis(50), "{name}: {elapsed:?}");
    }
}

#[test]
fn a_shutdown_in_a_pause_does_not_wait_for_its_deadline() {
    let sink = Sink::start();
    sink.rule(Rule::Always(Answer::status(401)));
    let client = quick(sink.host()).build().unwrap();
    capture(&client, "refused", 2);
    client.flush(PATIENCE).unwrap();
    capture(&client, "too late", 3);
    let (_, report) = within(LIMIT, || client.shutdown_within(PATIENCE));
    assert!(!report.is_complete);
    let stats = check(&client, &sink);
    assert_eq!(fates(&stats), (0, 2, 3, 0));
    assert_eq!(sink.requests().len(), 1);
}

#[test]
fn a_shutdown_delivers_what_is_queued_and_waits_for_a_retry() {
    let sink = Sink::start();
    sink.script([Answer::status(503), Answer::NoAnswer]);
    let client = quick(sink.host()).request_timeout(Duration::from_secs(1)).build().unwrap();
    let uuids = texts(&capture(&client, "in time", 100));
    let report = client.shutdown();
    assert!(report.is_complete, "{report:?}");
    assert_eq!(fates(&check(&client, &sink)), (100, 0, 0, 0));
    assert_eq!(stored(&sink), uuids);
    assert_eq!(report.stats, client.stats());
}

#[test]
fn a_shutdown_of_no_time_at_all_drops_what_is_queued() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    capture(&client, "never", 4);
    let (_, report) = within(LIMIT, || client.shutdown_within(Duration::ZERO));
    assert!(!report.is_complete);
    assert_eq!(fates(&conserved(&client)), (0, 0, 4, 0));
}

#[test]
fn a_shutdown_of_all_time_ends_when_the_work_does() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    capture(&client, "patient", 4);
    assert_eq!(within(LIMIT, || client.flush(Duration::MAX)).1, Ok(()));
    capture(&client, "patient", 4);
    assert!(within(LIMIT, || client.shutdown_within(Duration::MAX)).1.is_complete);
    assert_eq!(fates(&check(&client, &sink)), (8, 0, 0, 0));
}

#[test]
fn after_a_shutdown_captures_are_refused_and_counted() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    let other = client.clone();
    capture(&client, "before", 2);
    assert!(client.is_enabled());
    assert!(client.shutdown().is_complete);
    assert!(!client.is_enabled() && !other.is_enabled());
    for handle in [&client, &other] {
        assert_eq!(handle.capture(Event::new("after", "customer-7")).ok(), Err(CaptureError::Closed));
        assert_eq!(handle.flush(PATIENCE), Err(FlushError::Closed));
    }
    let immediate = client.capture_immediate(Event::new("after", "customer-7"), PATIENCE);
    assert_eq!(immediate, Err(quillet::ImmediateError::Refused(CaptureError::Closed)));
    client.set_enabled(true);
    assert!(!client.is_enabled(), "closed is closed");
    let stats = check(&client, &sink);
    assert_eq!((stats.accepted, stats.refused_for(CaptureError::Closed)), (2, 3));
    assert_eq!(sink.requests().len(), 1);
}

#[test]
fn the_last_handle_dropped_delivers_everything_and_an_earlier_one_nothing() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    let clones: Vec<_> = (0..5).map(|_| client.clone()).collect();
    let uuids = texts(&capture(&client, "shared", 3));
    drop(client);
    for clone in &clones {
        assert!(clone.is_enabled());
    }
    let more = texts(&capture(&clones[0], "shared", 2));
    let mut clones = clones.into_iter();
    let last = clones.next_back().unwrap();
    drop(clones);
    assert_eq!((sink.requests().len(), last.stats().pending), (0, 5));
    drop(last);
    assert_eq!(stored(&sink), [uuids, more].concat());
    assert_eq!(sink.requests().len(), 1);
    sink.assert_clean();
}

#[cfg(target_os = "linux")]
#[test]
fn the_flush_thread_ends_with_its_client() {
    let thread = Arc::new(OnceLock::new());
    let seen = Arc::clone(&thread);
    let sink = Sink::start();
    let client = quick(sink.host())
        .on_request(move |_| {
            seen.get_or_init(|| std::path::Path::new("/proc").join(std::fs::read_link("/proc/thread-self").unwrap()));
        })
        .build()
        .unwrap();
    capture(&client, "last", 1);
    drop(client);
    let thread = thread.wait();
    let started = std::time::Instant::now();
    while thread.exists() {
        assert!(started.elapsed() < PATIENCE, "the thread lives on");
        thread::yield_now();
    }
}

#[test]
fn a_discard_breaks_off_the_request_and_makes_no_other() {
    let sink = Sink::start();
    sink.rule(Rule::Always(Answer::NoAnswer));
    let told = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&told);
    let client = quick(sink.host())
        .flush_at(1)
        .request_timeout(PATIENCE)
        .on_deliver(move |delivery| {
            counter.fetch_add(delivery.events(), Ordering::SeqCst);
        })
        .build()
        .unwrap();
    capture(&client, "discarded", 5);
    assert!(sink.wait_for_requests(1, PATIENCE));
    within(LIMIT, || client.discard());
    let requests = sink.requests().len();
    let stats = check(&client, &sink);
    assert_eq!(fates(&stats), (0, 0, 5, 0));
    assert_eq!(stats.dropped_for(DropReason::Discarded), 5);
    assert_eq!(client.capture(Event::new("after", "customer-7")).ok(), Err(CaptureError::Closed));
    within(LIMIT, || client.discard());
    within(LIMIT, || assert!(!client.shutdown().is_complete));
    assert!(!sink.wait_for_requests(requests + 1, Duration::from_millis(200)), "a request after discard() returned");
    assert_eq!(told.load(Ordering::SeqCst), 5, "on_deliver is told of what a discard drops");
    assert_eq!(fates(&check(&client, &sink)), (0, 0, 5, 0));
}

#[test]
fn a_discard_of_an_idle_or_pumped_client_is_as_final() {
    for pumped in [false, true] {
        let sink = Sink::start();
        let builder = quick(sink.host());
        let client = if pumped { builder.without_thread() } else { builder }.build().unwrap();
        capture(&client, "discarded", 5);
        within(LIMIT, || client.discard());
        assert_eq!(client.poll(), if pumped { Poll::Done } else { Poll::Busy });
        assert_eq!(fates(&check(&client, &sink)), (0, 0, 5, 0));
        drop(client);
        assert_eq!(sink.requests().len(), 0);
    }
}

#[test]
fn a_flush_that_waits_is_told_of_a_shutdown() {
    let sink = Sink::start();
    sink.rule(Rule::Always(Answer::NoAnswer));
    let client = quick(sink.host()).request_timeout(PATIENCE).build().unwrap();
    capture(&client, "stuck", 1);
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            thread::spawn(move || client.flush(PATIENCE))
        })
        .collect();
    assert!(sink.wait_for_requests(1, PATIENCE));
    within(LIMIT, || client.shutdown_within(DEADLINE));
    for flush in waiting {
        assert_eq!(within(LIMIT, || flush.join().unwrap()).1, Err(FlushError::Closed));
    }
}

#[test]
fn a_flush_ends_by_its_timeout_and_delivery_goes_on() {
    let sink = Sink::start();
    sink.script([Answer::NoAnswer]);
    let client = quick(sink.host()).request_timeout(Duration::from_millis(1000)).build().unwrap();
    capture(&client, "slow", 1);
    assert_eq!(within(Duration::from_millis(900), || client.flush(DEADLINE)).1, Err(FlushError::TimedOut));
    assert_eq!(client.flush(Duration::ZERO), Err(FlushError::TimedOut));
    assert!(sink.wait_for_events(1, PATIENCE));
    client.flush(PATIENCE).unwrap();
    assert_eq!(fates(&check(&client, &sink)), (1, 0, 0, 0));
}

/// Whoever pumps makes the request itself; it has no more time for it than it said.
#[test]
fn a_flush_that_makes_the_request_itself_ends_by_its_timeout() {
    let sink = Sink::start();
    sink.script([Answer::NoAnswer]);
    let client = quick(sink.host()).request_timeout(PATIENCE).without_thread().build().unwrap();
    capture(&client, "slow", 1);
    assert_eq!(within(LIMIT, || client.flush(DEADLINE)).1, Err(FlushError::TimedOut));
    client.flush(PATIENCE).unwrap();
    assert_eq!(fates(&check(&client, &sink)), (1, 0, 0, 0));
    assert_eq!(sink.requests().len(), 2);
}

/// Everything a hook might call. None of it may wait for the thread that it runs on.
fn call_everything(client: &Client) {
    assert_eq!(client.flush(PATIENCE), Err(FlushError::FromHook));
    assert!(matches!(client.poll(), Poll::Busy));
    assert!(client.stats().is_conserved());
    client.set_super_property("from", "hook");
    client.remove_super_property("from");
    let _ = client.capture(Event::new("from a hook", "customer-7"));
    let _ = client.is_enabled();
}

/// A client that its own hooks know.
type Known = Arc<OnceLock<Client>>;

#[test]
fn hooks_may_call_the_client_and_nobody_waits_for_himself() {
    let sink = Sink::start();
    let known: Known = Arc::default();
    let calls = Arc::new(AtomicUsize::new(0));
    let hook = || {
        let (known, calls, inside) = (Arc::clone(&known), Arc::clone(&calls), AtomicBool::new(false));
        move || {
            // The events of the hook are delivered too; one round is enough.
            if !inside.swap(true, Ordering::SeqCst) {
                within(LIMIT, || call_everything(known.get().unwrap()));
                calls.fetch_add(1, Ordering::SeqCst);
            }
        }
    };
    let (before, deliver, request) = (hook(), hook(), hook());
    let builder = quick(sink.host())
        .before_send(move |_| {
            before();
            HookVerdict::Send
        })
        .on_deliver(move |_| deliver())
        .on_request(move |_| request());
    let client = builder.build().unwrap();
    known.set(client.clone()).unwrap();
    capture(&client, "first", 1);
    client.flush(PATIENCE).unwrap();
    client.flush(PATIENCE).unwrap();
    assert!(within(LIMIT, || client.shutdown()).1.is_complete);
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    assert_eq!(fates(&check(&client, &sink)), (4, 0, 0, 0));
}

#[test]
fn a_hook_may_end_its_own_client() {
    for way in ["shutdown", "discard"] {
        for place in ["before_send", "on_request", "on_deliver"] {
            let sink = Sink::start();
            let known: Known = Arc::default();
            let knows = Arc::clone(&known);
            let end = move |here: &str| {
                if here == place {
                    let client = knows.get().unwrap();
                    match way {
                        "shutdown" => assert!(!within(LIMIT, || client.shutdown()).1.is_complete),
                        _ => within(LIMIT, || client.discard()).1,
                    }
                }
            };
            let (before, request, deliver) = (end.clone(), end.clone(), end);
            let client = quick(sink.host())
                .before_send(move |_| {
                    before("before_send");
                    HookVerdict::Send
                })
                .on_request(move |_| request("on_request"))
                .on_deliver(move |_| deliver("on_deliver"))
                .build()
                .unwrap();
            known.set(client.clone()).unwrap();
            let first = client.capture(Event::new("first", "customer-7"));
            let _ = client.flush(PATIENCE);
            let (_, report) = within(LIMIT, || client.shutdown());
            let stats = conserved(&client);
            assert_eq!(stats.accepted, u64::from(first.is_accepted()), "{way} in {place}");
            assert!(report.stats.pending <= 1, "{way} in {place}: {stats:?}");
            assert_eq!(client.capture(Event::new("late", "customer-7")).ok(), Err(CaptureError::Closed));
            sink.assert_clean();
        }
    }
}

#[test]
fn the_last_handle_may_be_dropped_by_a_hook() {
    let sink = Sink::start();
    let held: Arc<Mutex<Option<Client>>> = Arc::default();
    let holds = Arc::clone(&held);
    let (told, dropped) = channel();
    let client = quick(sink.host())
        .flush_at(1)
        .max_batch_events(1)
        .on_deliver(move |_| {
            if let Some(client) = holds.lock().unwrap().take() {
                let (elapsed, ()) = within(LIMIT, || drop(client));
                told.send(elapsed).unwrap();
            }
        })
        .build()
        .unwrap();
    let mut held = held.lock().unwrap();
    capture(&client, "one by one", 3);
    *held = Some(client);
    drop(held);
    dropped.recv_timeout(PATIENCE).unwrap();
    assert!(sink.wait_for_events(3, PATIENCE), "what was queued is delivered by the thread that lives on");
    sink.assert_clean();
}

#[test]
fn captures_during_a_shutdown_are_delivered_or_refused() {
    for round in 0..10 {
        let sink = Sink::start();
        let client = quick(sink.host()).flush_at(1).max_queue_size(50).build().unwrap();
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let client = client.clone();
                thread::spawn(move || {
                    let (mut accepted, mut refused) = (0, 0);
                    while client.is_enabled() {
                        match client.capture(Event::new("racing", "customer-7")).ok() {
                            Ok(_) => accepted += 1,
                            Err(CaptureError::Closed | CaptureError::Full | CaptureError::Busy) => refused += 1,
                            Err(other) => panic!("{other}"),
                        }
                    }
                    (accepted, refused)
                })
            })
            .collect();
        assert!(sink.wait_for_requests(1 + round % 3, PATIENCE));
        let report = client.shutdown();
        let counts: Vec<(u64, u64)> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let stats = check(&client, &sink);
        assert_eq!(stats.accepted, counts.iter().map(|(accepted, _)| accepted).sum::<u64>());
        assert_eq!(stats.refused_total(), counts.iter().map(|(_, refused)| refused).sum::<u64>());
        // What passed the gate a moment before is waited for: none finds the queue emptied for the last time.
        assert_eq!((stats.pending, stats.dropped_total()), (0, 0), "{stats:?}");
        assert_eq!(stats.delivered, sink.stored().len() as u64);
        assert_eq!(report.stats.accepted, stats.accepted, "nothing is accepted after the report");
        assert!(report.is_complete && report.stats.is_conserved());
    }
}

/// Writes itself when it is let.
struct Slow {
    entered: Sender<()>,
    leave: Mutex<Receiver<()>>,
}

impl serde::Serialize for Slow {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let _ = self.entered.send(());
        let _ = self.leave.lock().unwrap().recv_timeout(PATIENCE);
        serializer.serialize_u8(1)
    }
}

/// A capture in the middle of its event when the shutdown begins. `end` is called meanwhile; it says when the event may go on.
fn capture_across(client: &Client, end: impl FnOnce(Sender<()>)) -> Result<quillet::Uuid, CaptureError> {
    let ((entered, was_entered), (leave, left)) = (channel(), channel());
    let slow = Slow { entered, leave: Mutex::new(left) };
    thread::scope(|scope| {
        let capture = scope.spawn(|| {
            let slow = quillet::Typed(&slow);
            let property = quillet::Property::new("slow", quillet::Value::Typed(&slow));
            client.capture(Event::new("under way", "customer-7").properties(&[property])).ok()
        });
        was_entered.recv_timeout(PATIENCE).unwrap();
        end(leave);
        capture.join().unwrap()
    })
}

#[test]
fn an_event_that_was_under_way_when_the_shutdown_began_is_delivered() {
    for pumped in [false, true] {
        let sink = Sink::start();
        let builder = quick(sink.host());
        let client = if pumped { builder.without_thread() } else { builder }.build().unwrap();
        let uuid = capture_across(&client, |leave| {
            thread::scope(|scope| {
                let shutdown = scope.spawn(|| client.shutdown());
                while client.is_enabled() {
                    thread::yield_now();
                }
                leave.send(()).unwrap();
                assert!(shutdown.join().unwrap().is_complete);
            });
        });
        assert_eq!(fates(&check(&client, &sink)), (1, 0, 0, 0), "pumped: {pumped}");
        assert_eq!(stored(&sink), [uuid.unwrap().to_string()]);
    }
}

/// There is an end to waiting for it. It is not delivered then, and the counts say so.
#[test]
fn a_shutdown_waits_for_an_event_under_way_until_its_deadline() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    capture(&client, "before", 2);
    let uuid = capture_across(&client, |leave| {
        let (_, report) = within(LIMIT, || client.shutdown_within(DEADLINE));
        assert_eq!(fates(&report.stats), (2, 0, 0, 0), "what was there before was sent at once");
        leave.send(()).unwrap();
    });
    assert!(uuid.is_ok());
    // Dropped if the flush thread came to its end after it, pending for ever if before.
    let (delivered, rejected, dropped, pending) = fates(&check(&client, &sink));
    assert_eq!((delivered, rejected, dropped + pending), (2, 0, 1));
}

#[test]
fn several_shutdowns_at_once_all_return() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    capture(&client, "shared", 10);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            thread::spawn(move || client.shutdown_within(PATIENCE).is_complete)
        })
        .collect();
    within(LIMIT, || assert!(threads.into_iter().all(|thread| thread.join().unwrap())));
    assert_eq!(fates(&check(&client, &sink)), (10, 0, 0, 0));
    assert_eq!(sink.requests().len(), 1);
}

#[test]
fn a_disabled_client_ends_like_any_other() {
    let client = Client::disabled();
    assert_eq!(client.capture(Event::new("no", "body")).ok(), Err(CaptureError::Disabled));
    assert_eq!(client.flush(PATIENCE), Ok(()));
    assert_eq!(client.poll(), Poll::Done);
    client.discard();
    assert!(client.shutdown().is_complete);
    assert!(Client::new("  ").unwrap().shutdown_within(Duration::ZERO).is_complete);
}
