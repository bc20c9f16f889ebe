//! Every kind of event, captured, delivered and accounted for.
//!
//! ```text
//! cargo run --release --example quickstart                        # into a small PostHog inside this process
//! POSTHOG_API_KEY=phc_… cargo run --release --example quickstart  # into your project
//! ```
//!
//! `POSTHOG_HOST` names another host than PostHog's in the United States. Without a key the batches go over real HTTP to
//! a sink on the loopback, which judges them by PostHog's rules; it is told to answer one of them with 503. The program
//! ends with status 0 only if everything arrived once, unchanged, and the books balance.
//!
//! `story` holds the captures, `arrivals` what the sink saw, `show` the paint.

mod arrivals;
mod show;
mod story;

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrivals::Arrivals;
use quillet::{BuildError, CaptureError, Client, FlushError, Stats, event};
use quillet_support::{Answer, Sink};
use show::{Screen, Style, fit};
use story::Told;

/// Longest wait for a flush. Only reached by a host that does not answer.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(20);

/// The super property of every event.
const SERVICE: (&str, &str) = ("service", "quickstart");

fn main() -> ExitCode {
    let screen = Screen::new();
    match run(&screen) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            screen.gap();
            screen.check(false, &format!("quickstart could not go on: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(screen: &Screen) -> Result<bool, Box<dyn Error>> {
    // An empty key counts as none, as it does for the client.
    match env::var("POSTHOG_API_KEY").ok().filter(|key| !key.trim().is_empty()) {
        Some(key) => into_a_project(screen, key),
        None => into_the_sink(screen),
    }
}

/// The whole tour, against a sink that can be asked what it saw.
fn into_the_sink(screen: &Screen) -> Result<bool, Box<dyn Error>> {
    screen.title("quillet", "every kind of event, over HTTP, into a small PostHog inside this process");
    let sink = Sink::start();
    let client = Client::builder("phc_quickstart")
        .host(sink.host())
        .proxy(None)
        // A person is watching: a retry after 150 ms instead of a second.
        .backoff(Duration::from_millis(150), Duration::from_secs(1))
        .gzip(true)
        .super_property(SERVICE.0, SERVICE.1)
        .before_send(story::scrub)
        .build()?;
    screen.section("start", "");
    screen.fact("sink", format_args!("{}  judges by PostHog's rules, records everything", sink.host()));
    screen.fact("client", "sends at 20 events or after 10 s; 3 retries, the first after 150 ms; gzip");
    screen.fact("everywhere", format_args!("super property {:?}: {:?}; hook before_send", SERVICE.0, SERVICE.1));
    let mut arrivals = Arrivals::new(&sink);
    let mut told = Vec::new();

    screen.section("capture", "a call returns when the event is in the queue; no request has been made");
    told.extend(show_told(screen, story::shop(&client)?));
    show_law(screen, &client.stats());
    screen.section("flush", "sends without waiting for company, and waits for the answer");
    client.flush(FLUSH_TIMEOUT)?;
    arrivals.show(screen);

    screen.section("capture", "people and groups");
    told.extend(show_told(screen, story::people(&client)));
    sink.script([Answer::status(503)]);
    screen.section("flush", "the sink is told to answer 503 once: the same bytes come again");
    client.flush(FLUSH_TIMEOUT)?;
    arrivals.show(screen);

    screen.section("at once", "capture_immediate sends one event past the queue and confirms it");
    let confirmed =
        client.capture_immediate(event!("payment taken", story::ADA, { "amount_cents": 4900 }), FLUSH_TIMEOUT)?;
    arrivals.show(screen);

    screen.section("refuse", "what PostHog would refuse a whole batch for never gets into one");
    let mistakes_are_refused = show_mistakes(screen, &client);

    screen.section("capture", "errors; nobody flushes them");
    told.extend(show_told(screen, story::errors(&client)));
    screen.section("shutdown", "delivers what is queued, by a deadline, and ends the flush thread");
    let report = client.shutdown();
    arrivals.show(screen);
    let late = client.capture(event!("too late", story::ADA)).ok();

    screen.section("account", "every accepted event, and what became of it");
    let stats = client.stats();
    show_law(screen, &stats);
    show_counters(screen, &stats);

    screen.section("checks", "");
    let accepted: Vec<_> = told.iter().filter_map(|told| told.captured.uuid()).chain([confirmed]).collect();
    let all_accepted = told.iter().all(|told| told.captured.is_accepted());
    let mut holds = screen.check(all_accepted, "every event of the tour was accepted");
    holds &= screen.check(mistakes_are_refused, "every mistake was refused, for its own reason");
    holds &= screen.check(late == Err(CaptureError::Closed), "after the shutdown, a capture says so");
    holds &= screen.check(report.is_complete, "the shutdown left nothing behind");
    holds &= arrivals.check(screen, &accepted);
    holds &= screen.check(
        stats.is_conserved() && stats.delivered == accepted.len() as u64,
        "accepted + recovered = delivered + rejected + dropped + spooled + pending",
    );
    screen.gap();
    Ok(holds)
}

/// The same captures, into a project: what arrived shows there.
fn into_a_project(screen: &Screen, key: String) -> Result<bool, Box<dyn Error>> {
    let host = env::var("POSTHOG_HOST").unwrap_or_default();
    let shown_host = if host.trim().is_empty() { "https://us.i.posthog.com" } else { host.trim() };
    screen.title("quillet", &format!("every kind of event, to {shown_host}"));
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    let client = Client::builder(key)
        .host(host.as_str())
        .gzip(true)
        .super_property(SERVICE.0, SERVICE.1)
        .before_send(story::scrub)
        .on_request(move |request| {
            let said = match (request.status, request.error) {
                (Some(status), _) => format!("HTTP {status}"),
                (None, error) => error.unwrap_or("no answer").to_owned(),
            };
            let line = format!(
                "attempt {}, {} events, {} ms: {said}",
                request.attempt,
                request.events,
                request.elapsed.as_millis()
            );
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        })
        .build()
        .map_err(explain)?;

    screen.section("capture", "a call returns when the event is in the queue");
    let mut told = show_told(screen, story::shop(&client)?);
    told.extend(show_told(screen, story::people(&client)));
    screen.section("flush", "sends without waiting for company, and waits for the answer");
    let flushed = client.flush(FLUSH_TIMEOUT);
    screen.section("refuse", "what PostHog would refuse a whole batch for never gets into one");
    let mistakes_are_refused = show_mistakes(screen, &client);
    screen.section("capture", "errors; the shutdown delivers them");
    told.extend(show_told(screen, story::errors(&client)));
    let report = client.shutdown();

    screen.section("requests", "");
    for request in requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        screen.fact("request", show::cut(request, 84));
    }
    screen.section("account", "every accepted event, and what became of it");
    show_law(screen, &report.stats);
    show_counters(screen, &report.stats);
    screen.section("checks", "");
    let mut holds = screen.check(flushed.is_ok(), &describe_flush(flushed));
    holds &= screen.check(told.iter().all(|told| told.captured.is_accepted()), "every event of the tour was accepted");
    holds &= screen.check(mistakes_are_refused, "every mistake was refused, for its own reason");
    holds &= screen.check(report.stats.delivered == told.len() as u64, "the host took all of them");
    holds &= screen.check(report.stats.is_conserved(), "the account balances");
    screen.gap();
    if holds {
        screen.line("Look in your project under Activity for the distinct ids quickstart-ada and quickstart-grace.");
        screen.line("PostHog answers 200 to any key of the right shape: if they do not show up, check the key.");
    }
    Ok(holds)
}

/// One line a capture.
fn show_told(screen: &Screen, told: Vec<Told>) -> Vec<Told> {
    for Told { call, about, captured } in &told {
        let (mark, uuid) = match captured.ok() {
            Ok(uuid) => (screen.paint(Style::Good, "✓"), uuid.to_string()),
            Err(reason) => (screen.paint(Style::Bad, "✗"), reason.to_string()),
        };
        let call = screen.paint(Style::Name, &fit(call, 16));
        screen.line(format_args!("  {mark} {call} {} {}", fit(about, 58), screen.paint(Style::Aside, tail(&uuid))));
    }
    told
}

/// The end of a uuid: the beginning is the time, the same for all.
fn tail(uuid: &str) -> &str {
    uuid.rsplit('-').next().unwrap_or(uuid)
}

/// One line a refusal. Returns whether each had the reason it should have.
fn show_mistakes(screen: &Screen, client: &Client) -> bool {
    let mut all_as_expected = true;
    for mistake in story::mistakes(client) {
        let reason = mistake.captured.ok().err();
        let as_expected = reason == Some(mistake.expected);
        all_as_expected &= as_expected;
        let mark = if as_expected { screen.paint(Style::Good, "✓") } else { screen.paint(Style::Bad, "✗") };
        let name = screen.paint(Style::Warning, &fit(reason.map_or("accepted", CaptureError::as_str), 21));
        screen.line(format_args!("  {mark} {name} {}", mistake.about));
    }
    all_as_expected
}

/// The conservation law with its numbers.
fn show_law(screen: &Screen, stats: &Stats) {
    let terms = [
        ("accepted", " + ", stats.accepted),
        ("recovered", " = ", stats.recovered),
        ("delivered", " + ", stats.delivered),
        ("rejected", " + ", stats.rejected),
        ("dropped", " + ", stats.dropped_total()),
        ("spooled", " + ", stats.spooled),
        ("pending", "", stats.pending),
    ];
    let (mut names, mut numbers) = (String::new(), String::new());
    for (name, sign, number) in terms {
        names += &format!("{name}   ");
        numbers += &format!("{number:>width$}{sign}", width = name.len());
    }
    let verdict = match stats.is_conserved() {
        true => screen.paint(Style::Good, "  ✓ balanced"),
        false => screen.paint(Style::Bad, "  ✗ an event is missing"),
    };
    screen.gap();
    screen.line(format_args!("    {}", screen.paint(Style::Aside, names.trim_end())));
    screen.line(format_args!("    {}{verdict}", screen.paint(Style::Heading, &numbers)));
}

/// What is counted besides the terms of the law.
fn show_counters(screen: &Screen, stats: &Stats) {
    screen.gap();
    screen.fact("requests", format_args!("{}, of which {} repeated an earlier one", stats.requests, stats.retries));
    let reasons = CaptureError::ALL.iter().filter(|reason| stats.refused_for(**reason) > 0).count();
    screen.fact("refused", format_args!("{} captures for {reasons} reasons; never accepted", stats.refused_total()));
}

fn describe_flush(flushed: Result<(), FlushError>) -> String {
    match flushed {
        Ok(()) => "the flush ended with every event decided".to_owned(),
        Err(error) => format!("flush: {error}"),
    }
}

/// The builder's errors with the variable that they are about.
fn explain(error: BuildError) -> String {
    match error {
        BuildError::ApiKey(_) => format!("POSTHOG_API_KEY: {error}"),
        BuildError::Host(_) => format!("POSTHOG_HOST: {error}"),
        other => other.to_string(),
    }
}
