//! Calls against scripted transports, on a clock that moves when told: how long answers count, who asks, how often, and
//! that it ends.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails should stop")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant as RealInstant;

use quillet_core::{Instant, Property, props};

use super::*;
use crate::config::ClientBuilder;
use crate::transport::fault::{Fault, FaultTransport};
use crate::transport::flags::{FlagFailure, FlagRequest, FlagResponse, FlagTransport};
use crate::transport::memory::MemoryTransport;

/// Time by hand, from one hour on.
#[derive(Clone)]
struct Hands(Arc<AtomicU64>);

impl Hands {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(3_600_000_000)))
    }

    fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_micros()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn now(&self) -> Instant {
        Instant::from_micros(self.0.load(Ordering::SeqCst))
    }
}

const BLUE: &str = r#"{"flags":{"a":{"enabled":true,"variant":"blue"}},"requestId":"r"}"#;
const SECOND: Duration = Duration::from_secs(1);

fn builder() -> ClientBuilder {
    ClientBuilder::new("phc_test").host("http://127.0.0.1:1").proxy(None)
}

/// Flags by these options, asking `transport`, at the time of `hands`.
fn flags(options: ClientBuilder, transport: impl FlagTransport + 'static, hands: &Hands) -> Arc<Flags> {
    let config = options.flag_transport(transport).into_config().unwrap();
    let sender = FlagSender::new(config.flags.transport.clone(), None);
    let clock = Box::new(hands.clone());
    Arc::new(Flags::new(config.flags, "phc_test".to_owned(), sender, clock, Log::new(false)))
}

fn value(flags: &Flags, query: impl Into<FlagQuery<'static>>, key: &str) -> Result<Option<OwnedFlagValue>, FlagError> {
    let answer = flags.remote(&query.into(), &[key])?;
    Ok(answer.flags.get(key).map(|detail| detail.value.clone()))
}

#[test]
fn an_answer_counts_for_its_time_and_so_does_one_without_the_flag() {
    let (memory, hands) = (MemoryTransport::new(), Hands::new());
    let flags = flags(builder(), memory.clone(), &hands);
    memory.answer_flags(BLUE);
    for _ in 0..3 {
        assert_eq!(value(&flags, "x", "a"), Ok(Some("blue".into())));
        assert_eq!(value(&flags, "x", "missing"), Ok(None));
    }
    assert_eq!(memory.flag_requests().len(), 2);
    hands.advance(59 * SECOND);
    assert_eq!(value(&flags, "x", "missing"), Ok(None));
    assert_eq!(memory.flag_requests().len(), 2);
    hands.advance(SECOND);
    assert_eq!(value(&flags, "x", "missing"), Ok(None));
    assert_eq!(memory.flag_requests().len(), 3);
}

#[test]
fn what_is_said_about_a_person_is_part_of_the_question() {
    let (memory, hands) = (MemoryTransport::new(), Hands::new());
    let flags = flags(builder(), memory.clone(), &hands);
    let pro: &[Property<'_>] = props! { "plan": "pro" };
    let groups = [FlagGroup::new("company", "acme")];
    let ask = |query: FlagQuery<'_>| {
        let before = memory.flag_requests().len();
        flags.remote(&query, &["a"]).unwrap();
        memory.flag_requests().len() - before
    };
    let query = FlagQuery::new("x");
    for query in [
        query,
        FlagQuery::new("y"),
        query.person_properties(pro),
        query.groups(&groups),
        query.disable_geoip(true),
        query.device_id("d"),
    ] {
        assert_eq!((ask(query), ask(query)), (1, 0), "{query:?}");
    }
}

#[test]
fn one_answer_about_all_flags_serves_each() {
    let (memory, hands) = (MemoryTransport::new(), Hands::new());
    let flags = flags(builder(), memory.clone(), &hands);
    memory.answer_flags(BLUE);
    flags.remote(&FlagQuery::new("x"), &[]).unwrap();
    assert_eq!(value(&flags, "x", "a"), Ok(Some("blue".into())));
    assert_eq!(value(&flags, "x", "missing"), Ok(None));
    assert_eq!(memory.flag_requests().len(), 1);
    assert!(!memory.flag_requests()[0].body.as_ref().unwrap().contains("flag_keys"));
    value(&flags, "y", "a").unwrap();
    assert!(memory.flag_requests()[1].body.as_ref().unwrap().contains(r#""flag_keys_to_evaluate":["a"]"#));
}

#[test]
fn force_remote_asks_every_time_and_its_answer_counts() {
    let (memory, hands) = (MemoryTransport::new(), Hands::new());
    let flags = flags(builder(), memory.clone(), &hands);
    let forced = FlagQuery::new("x").force_remote(true);
    assert_eq!(value(&flags, forced, "a"), Ok(None));
    memory.answer_flags(BLUE);
    assert_eq!(value(&flags, forced, "a"), Ok(Some("blue".into())));
    assert_eq!(value(&flags, "x", "a"), Ok(Some("blue".into())));
    assert_eq!(memory.flag_requests().len(), 2);
}

/// Holds every request until it is let go.
struct Gate {
    inner: MemoryTransport,
    entered: Mutex<mpsc::Sender<()>>,
    open: Arc<(Mutex<bool>, Condvar)>,
}

impl FlagTransport for Gate {
    fn ask(&self, request: &FlagRequest<'_>) -> Result<FlagResponse, FlagFailure> {
        self.entered.lock().unwrap().send(()).unwrap();
        let open = self.open.0.lock().unwrap();
        drop(self.open.1.wait_while(open, |open| !*open).unwrap());
        self.inner.ask(request)
    }
}

#[test]
fn many_threads_that_miss_the_same_answer_make_one_request() {
    let (memory, hands) = (MemoryTransport::new(), Hands::new());
    memory.answer_flags(BLUE);
    let (entered, arrived) = mpsc::channel();
    let open = Arc::new((Mutex::new(false), Condvar::new()));
    let gate = Gate { inner: memory.clone(), entered: Mutex::new(entered), open: Arc::clone(&open) };
    let flags = flags(builder(), gate, &hands);
    let started = Arc::new(std::sync::Barrier::new(33));
    let threads: Vec<_> = (0..32)
        .map(|_| {
            let (flags, started) = (Arc::clone(&flags), Arc::clone(&started));
            thread::spawn(move || {
                started.wait();
                value(&flags, "x", "a")
            })
        })
        .collect();
    started.wait();
    arrived.recv().unwrap();
    *open.0.lock().unwrap() = true;
    open.1.notify_all();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), Ok(Some("blue".into())));
    }
    assert_eq!(memory.flag_requests().len(), 1);
    assert!(arrived.try_recv().is_err());
}

#[test]
fn whoever_waits_for_another_gives_up_at_his_own_deadline() {
    let (entered, arrived) = mpsc::channel();
    let open = Arc::new((Mutex::new(false), Condvar::new()));
    let gate = Gate { inner: MemoryTransport::new(), entered: Mutex::new(entered), open: Arc::clone(&open) };
    // A real clock: the wait has to end by itself.
    let config = builder().flag_transport(gate).into_config().unwrap();
    let sender = FlagSender::new(config.flags.transport.clone(), None);
    let clock = Box::new(SystemClock::new());
    let flags = Arc::new(Flags::new(config.flags, "phc_test".to_owned(), sender, clock, Log::new(false)));
    let leader = {
        let flags = Arc::clone(&flags);
        thread::spawn(move || value(&flags, "x", "a"))
    };
    arrived.recv().unwrap();
    let hurried = FlagQuery::new("x").timeout(Duration::from_millis(20));
    assert_eq!(value(&flags, hurried, "a"), Err(FlagError::Timeout));
    *open.0.lock().unwrap() = true;
    open.1.notify_all();
    assert_eq!(leader.join().unwrap(), Ok(None));
}

#[test]
fn only_gateways_and_silence_are_asked_again() {
    let status = |status: u16| Ok(FlagResponse::new(status, "{}"));
    for (first, requests, expected) in [
        (status(502), 2, Ok(Some("blue".into()))),
        (status(504), 2, Ok(Some("blue".into()))),
        (Err(FlagFailure::Connection), 2, Ok(Some("blue".into()))),
        (Err(FlagFailure::Timeout), 2, Ok(Some("blue".into()))),
        (status(400), 1, Err(FlagError::Status(400))),
        (status(401), 1, Err(FlagError::Status(401))),
        (status(402), 1, Err(FlagError::Status(402))),
        (status(429), 1, Err(FlagError::Status(429))),
        (status(500), 1, Err(FlagError::Status(500))),
        (status(503), 1, Err(FlagError::Status(503))),
        (status(302), 1, Err(FlagError::Status(302))),
        (Err(FlagFailure::TooLong), 1, Err(FlagError::BadAnswer)),
        (Ok(FlagResponse::new(200, "<html>")), 1, Err(FlagError::BadAnswer)),
        (
            Ok(FlagResponse::new(200, r#"{"flags":{},"quotaLimited":["feature_flags"]}"#)),
            1,
            Err(FlagError::QuotaLimited),
        ),
    ] {
        let (memory, hands) = (MemoryTransport::new(), Hands::new());
        memory.answer_flags(BLUE);
        memory.answer_flags_once(first.clone());
        let flags = flags(builder(), memory.clone(), &hands);
        assert_eq!(value(&flags, "x", "a"), expected, "{first:?}");
        assert_eq!(memory.flag_requests().len(), requests, "{first:?}");
    }
}

#[test]
fn retries_are_bounded_by_number_and_by_time() {
    let memory = MemoryTransport::new();
    for _ in 0..10 {
        memory.answer_flags_once(Ok(FlagResponse::new(502, "")));
    }
    let (hands, started) = (Hands::new(), RealInstant::now());
    let patient = flags(builder().feature_flag_retries(2), memory.clone(), &hands);
    assert_eq!(value(&patient, "x", "a"), Err(FlagError::Status(502)));
    assert_eq!(memory.flag_requests().len(), 3);
    assert!(started.elapsed() >= Duration::from_millis(900), "300 ms, then 600 ms");
    let hurried = FlagQuery::new("y").timeout(Duration::from_millis(200));
    assert_eq!(value(&patient, hurried, "a"), Err(FlagError::Status(502)), "no time for a second try");
    assert_eq!(memory.flag_requests().len(), 4);
    let once = flags(builder().feature_flag_retries(0), memory.clone(), &hands);
    assert_eq!(value(&once, "x", "a"), Err(FlagError::Status(502)));
    assert_eq!(memory.flag_requests().len(), 5);
}

#[test]
fn a_failure_counts_for_a_moment_and_a_good_value_survives_one() {
    let (memory, hands) = (MemoryTransport::new(), Hands::new());
    let flags = flags(builder(), memory.clone(), &hands);
    memory.answer_flags(BLUE);
    value(&flags, "x", "a").unwrap();
    hands.advance(60 * SECOND);
    memory.answer_flags_once(Ok(FlagResponse::new(500, "")));
    for _ in 0..3 {
        assert_eq!(value(&flags, "x", "a"), Err(FlagError::Status(500)));
    }
    assert_eq!(memory.flag_requests().len(), 2, "nobody asks again at once");
    hands.advance(SECOND);
    memory.answer_flags(r#"{"flags":{"a":{"failed":true,"enabled":false}}}"#);
    assert_eq!(value(&flags, "x", "a"), Ok(Some("blue".into())), "the server failed at it; the earlier value counts");
    assert_eq!(memory.flag_requests().len(), 3);
}

#[test]
fn a_panic_in_a_transport_is_no_answer() {
    let (memory, hands) = (MemoryTransport::new(), Hands::new());
    memory.answer_flags(BLUE);
    let faults = FaultTransport::scripted(memory, [Fault::Panic]);
    assert_eq!(value(&flags(builder(), faults, &hands), "x", "a"), Ok(Some("blue".into())));
}

#[test]
fn closing_ends_what_waits() {
    let (memory, hands) = (MemoryTransport::new(), Hands::new());
    for _ in 0..20 {
        memory.answer_flags_once(Err(FlagFailure::Connection));
    }
    let flags = flags(builder().feature_flag_retries(10), memory.clone(), &hands);
    let waiting = {
        let flags = Arc::clone(&flags);
        thread::spawn(move || value(&flags, "x", "a"))
    };
    while memory.flag_requests().is_empty() {
        thread::yield_now();
    }
    let started = RealInstant::now();
    flags.close();
    assert_eq!(waiting.join().unwrap(), Err(FlagError::Closed));
    assert!(started.elapsed() < 10 * SECOND);
    assert_eq!(value(&flags, "y", "a"), Err(FlagError::Closed));
}

const DEFINITIONS: &str = r#"{"flags":[{"key":"a","active":true,"filters":{"groups":[{}]}}]}"#;

fn is_local(flags: &Flags) -> bool {
    flags.definitions().is_some_and(|set| set.as_definitions().contains("a"))
}

#[test]
fn definitions_are_fetched_with_their_etag_and_only_payment_takes_them_away() {
    let (memory, hands) = (MemoryTransport::new(), Hands::new());
    let flags = flags(builder().personal_api_key(" phs_secret\n"), memory.clone(), &hands);
    let round = |answer: Result<FlagResponse, FlagFailure>| {
        memory.answer_flags_once(answer);
        let result = flags.round(hands.now().after(SECOND), false);
        let request = memory.flag_requests().pop().unwrap();
        assert_eq!(request.target, "/flags/definitions?token=phc_test&send_cohorts");
        assert_eq!((request.secret.as_deref(), request.body), (Some("phs_secret"), None));
        (result, request.etag, is_local(&flags))
    };
    let etag = || Some("W/\"1\"".to_owned());
    assert_eq!(round(Err(FlagFailure::Connection)), (Err(FlagError::Connection), None, false));
    assert_eq!(round(Ok(FlagResponse::new(200, "{}").with_etag("W/\"0\""))), (Err(FlagError::BadAnswer), None, false));
    let first = FlagResponse::new(200, DEFINITIONS).with_etag("W/\"1\"");
    assert_eq!(round(Ok(first)), (Ok(()), None, true));
    for status in [304, 401, 403, 429, 503] {
        let expected = if status == 304 { Ok(()) } else { Err(FlagError::Status(status)) };
        assert_eq!(round(Ok(FlagResponse::new(status, ""))), (expected, etag(), true), "{status}");
    }
    assert_eq!(round(Ok(FlagResponse::new(200, "<html>"))), (Err(FlagError::BadAnswer), etag(), true));
    assert_eq!(round(Ok(FlagResponse::new(402, ""))), (Ok(()), etag(), false));
    assert_eq!(round(Ok(FlagResponse::new(200, DEFINITIONS))), (Ok(()), None, true), "all of it, without an etag");
}

#[test]
fn processes_share_what_one_of_them_fetched() {
    let folder = std::env::temp_dir().join(format!("quillet-flags-shared-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let hands = Hands::new();
    let process = |secret: &str| {
        let memory = MemoryTransport::new();
        memory.answer_flags(DEFINITIONS);
        let options = builder().flag_definitions_dir(&folder).personal_api_key(secret);
        (flags(options, memory.clone(), &hands), memory)
    };
    let (one, one_asked) = process("phs_secret");
    let (two, two_asked) = process("phs_secret");
    let (three, three_asked) = process("");
    let deadline = || hands.now().after(SECOND);
    assert_eq!(three.round(deadline(), false), Err(FlagError::Missing), "nobody has fetched yet");
    one.round(deadline(), false).unwrap();
    two.round(deadline(), false).unwrap();
    three.round(deadline(), false).unwrap();
    assert!(is_local(&one) && is_local(&two) && is_local(&three));
    let requests = [&one_asked, &two_asked, &three_asked].map(|memory| memory.flag_requests().len());
    assert_eq!(requests, [1, 0, 0]);
    two.round(deadline(), true).unwrap();
    assert_eq!(two_asked.flag_requests().len(), 1, "a forced reload asks all the same");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_file_is_read_again_when_it_changes() {
    let path = std::env::temp_dir().join(format!("quillet-flags-file-{}.json", std::process::id()));
    std::fs::write(&path, r#"{"flags":[]}"#).unwrap();
    let hands = Hands::new();
    let flags = flags(builder().flag_definitions_file(&path), MemoryTransport::new(), &hands);
    assert!(flags.definitions().is_some() && !is_local(&flags));
    std::fs::write(&path, DEFINITIONS).unwrap();
    flags.round(hands.now().after(SECOND), false).unwrap();
    assert!(is_local(&flags));
    std::fs::write(&path, "broken").unwrap();
    assert_eq!(flags.round(hands.now().after(SECOND), false), Err(FlagError::BadAnswer));
    assert!(is_local(&flags), "a broken file changes nothing");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(flags.round(hands.now().after(SECOND), false), Err(FlagError::Missing));
    assert!(matches!(builder().flag_definitions_file(&path).into_config(), Err(BuildError::FlagDefinitionsFile(_))));
}

#[test]
fn options_that_cannot_work_are_refused_by_name() {
    let day = Duration::from_secs(24 * 3600);
    for (named, builder) in [
        ("feature_flag_ttl", builder().feature_flag_ttl(2 * day)),
        ("feature_flag_timeout", builder().feature_flag_timeout(Duration::ZERO)),
        ("feature_flag_retries", builder().feature_flag_retries(11)),
        ("feature_flag_entries", builder().feature_flag_entries(usize::MAX)),
        ("flag_poll_interval", builder().flag_poll_interval(Duration::ZERO)),
    ] {
        match builder.into_config().err() {
            Some(BuildError::OutOfRange { option, .. }) => assert_eq!(option, named),
            other => panic!("{named}: {other:?}"),
        }
    }
    for secret in ["phc_token", "phs_ü", &"x".repeat(300)] {
        assert!(matches!(builder().personal_api_key(secret).into_config(), Err(BuildError::SecretKey)), "{secret}");
    }
    assert!(matches!(builder().flag_definitions("{}").into_config(), Err(BuildError::FlagDefinitions(_))));
    assert!(builder().personal_api_key(" ").flag_definitions(DEFINITIONS).into_config().is_ok());
}

#[test]
fn tokens_are_encoded_for_a_query() {
    assert_eq!(percent_encoded("phc_a-B.9~"), "phc_a-B.9~");
    assert_eq!(percent_encoded("a b&c=%/?"), "a%20b%26c%3D%25%2F%3F");
}
