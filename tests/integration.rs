//! Against a real project: runs only where `POSTHOG_API_KEY` is in the environment (`POSTHOG_HOST` names another host
//! than the default), and says so where it does not.
//!
//! The server takes any token of the right shape, so what is shown here is that it takes everything this client sends:
//! each kind of event, plain and compressed, queued and immediate. Whether the events can be found is for a person to see.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should stop")]

use quillet::{Client, ClientBuilder, Event, Exception, Level, Property, RawJson, event, props};
use std::env;
use std::time::Duration;

/// A real network may take its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who all these events are about.
const SOMEBODY: &str = "quillet-integration-test";

fn project() -> Option<ClientBuilder> {
    let Some(key) = env::var("POSTHOG_API_KEY").ok().filter(|key| !key.trim().is_empty()) else {
        println!("skipped: POSTHOG_API_KEY is not set");
        return None;
    };
    let host = env::var("POSTHOG_HOST").unwrap_or_default();
    Some(Client::builder(key).host(host).super_property("run", "integration test").shutdown_timeout(PATIENCE))
}

#[test]
fn a_real_server_takes_every_kind_of_event() {
    for gzip in [false, true] {
        let Some(builder) = project() else { return };
        let client = builder.gzip(gzip).build().unwrap();
        let error =
            Exception::new("quillet::Test", "not an error").handled(true).level(Level::Info).fingerprint("test");
        let raw = [Property::new("raw", RawJson::parse(r#"{"a": [1, 2.5, "é\n"]}"#).unwrap())];
        for captured in [
            client.capture(event!("quillet literal", SOMEBODY, { "n": 1, "nested": { "a": [true, null] } })),
            client.capture(Event::new("quillet \"odd\" \u{2028}", SOMEBODY).properties(&raw)),
            client.identify(SOMEBODY, props! { "tests": "quillet" }),
            client.capture(Event::person(SOMEBODY).set_once(props! { "first": "test" }).unset(&["last"])),
            client.alias(SOMEBODY, "quillet-integration-test-alias"),
            client.group_identify("test group", "quillet", props! { "size": 1 }),
            client.capture(Event::new("quillet grouped", SOMEBODY).groups(&[("test group", "quillet")])),
            client.capture(Event::personless("quillet personless").disable_geoip(true)),
            client.capture(Event::exception(SOMEBODY, &error)),
        ] {
            assert!(captured.is_accepted(), "{:?}", captured.ok());
        }
        client.flush(PATIENCE).unwrap();
        client.capture_immediate(Event::new("quillet immediate", SOMEBODY), PATIENCE).unwrap();
        let report = client.shutdown();
        assert!(report.is_complete, "{report:?}");
        assert_eq!((report.stats.delivered, report.stats.rejected), (10, 0), "{report:?}");
        assert!(report.stats.is_conserved());
    }
}
