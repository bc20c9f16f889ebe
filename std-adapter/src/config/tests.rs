//! Options at their defaults, at their limits and beyond them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use super::*;

fn builder() -> ClientBuilder {
    // Plain http and no proxy, so that the tests mean the same with every feature and in every environment.
    ClientBuilder::new("phc_test").host("http://127.0.0.1:1").proxy(None)
}

fn refused(builder: ClientBuilder) -> BuildError {
    match builder.into_config() {
        Ok(_) => panic!("these options should be refused"),
        Err(error) => error,
    }
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let config = builder().into_config().unwrap();
    assert_eq!(config.policy.flush_interval, Duration::from_secs(10));
    assert_eq!(config.policy.flush_at, 20);
    assert_eq!(config.policy.max_retries, 3);
    assert_eq!(config.policy.backoff_base, Duration::from_secs(1));
    assert_eq!(config.policy.backoff_max, Duration::from_secs(30));
    assert_eq!((config.policy.max_batch_events, config.policy.max_batch_bytes), (1000, 1024 * 1024));
    assert_eq!((config.max_queue_size, config.queue_bytes), (1000, 1024 * 1024));
    assert_eq!(config.shutdown_timeout, Duration::from_secs(5));
    assert_eq!(builder().request_timeout, Duration::from_secs(15));
    assert!(config.enable_logging && config.is_server && config.thread);
    assert!(!config.disable_geoip && !config.historical_migration);
}

#[test]
fn a_missing_or_empty_key_disables_the_client() {
    for key in [ApiKey::from(None::<String>), ApiKey::from(""), ApiKey::from(" \n".to_owned())] {
        let config = ClientBuilder::new(key).into_config().unwrap();
        assert!(config.api_key.is_none() && config.sender.is_none());
    }
}

#[test]
fn a_key_is_trimmed_and_never_shown() {
    let builder = builder().api_key(Some(" phc_hidden\n"));
    assert!(!format!("{builder:?}").contains("phc_hidden"));
    assert_eq!(builder.into_config().unwrap().api_key.as_deref(), Some("phc_hidden"));
    assert!(matches!(refused(ClientBuilder::new("phx_secret")), BuildError::ApiKey(_)));
}

#[test]
fn impossible_values_are_refused_by_name() {
    let none = Duration::ZERO;
    let long = Duration::MAX;
    let second = Duration::from_secs(1);
    for (option, builder) in [
        ("flush_at", builder().flush_at(0)),
        ("flush_interval", builder().flush_interval(none)),
        ("flush_interval", builder().flush_interval(long)),
        ("max_queue_size", builder().max_queue_size(0)),
        ("max_queue_size", builder().max_queue_size(usize::MAX)),
        ("queue_bytes", builder().queue_bytes(usize::MAX)),
        ("max_batch_events", builder().max_batch_events(0)),
        ("max_batch_events", builder().max_batch_events(usize::MAX)),
        ("max_batch_bytes", builder().max_batch_bytes(0)),
        ("max_batch_bytes", builder().max_batch_bytes(BATCH_BYTES_MIN - 1)),
        ("max_batch_bytes", builder().max_batch_bytes(usize::MAX)),
        ("backoff", builder().backoff(none, second)),
        ("backoff", builder().backoff(second, none)),
        ("backoff", builder().backoff(2 * second, second)),
        ("backoff", builder().backoff(second, long)),
        ("request_timeout", builder().request_timeout(none)),
        ("request_timeout", builder().request_timeout(long)),
        ("shutdown_timeout", builder().shutdown_timeout(none)),
        ("shutdown_timeout", builder().shutdown_timeout(long)),
    ] {
        match refused(builder) {
            BuildError::OutOfRange { option: named, .. } => assert_eq!(named, option),
            other => panic!("{option}: {other}"),
        }
    }
}

#[test]
fn the_text_about_batch_bytes_names_the_true_limit() {
    let text = refused(builder().max_batch_bytes(0)).to_string();
    assert!(text.contains(&BATCH_BYTES_MIN.to_string()), "{text}");
    assert!(builder().max_batch_bytes(BATCH_BYTES_MIN).into_config().is_ok());
    assert!(builder().max_batch_bytes(BATCH_BYTES_LIMIT).into_config().is_ok());
}

#[test]
fn sizes_are_rounded_and_clamped_as_documented() {
    for (asked, given) in [
        (0, QUEUE_BYTES_MIN),
        (QUEUE_BYTES_MIN + 1, 2 * QUEUE_BYTES_MIN),
        (3 * 1024 * 1024, 4 * 1024 * 1024),
        (QUEUE_BYTES_MAX, QUEUE_BYTES_MAX),
    ] {
        assert_eq!(builder().queue_bytes(asked).into_config().unwrap().queue_bytes, given);
    }
    assert_eq!(builder().max_queue_size(7).into_config().unwrap().policy.flush_at, 7);
}

#[test]
fn super_properties_are_set_once_per_key_and_bounded() {
    let config = builder().super_property("a", 1).super_property("b", "x").super_property("a", 2.5);
    let config = config.into_config().unwrap();
    let expected = [("a".to_owned(), OwnedValue::Float(2.5)), ("b".to_owned(), OwnedValue::Text("x".to_owned()))];
    assert_eq!(config.super_properties, expected);

    assert!(matches!(refused(builder().super_property("", 1)), BuildError::SuperProperty { .. }));
    assert!(matches!(refused(builder().super_property("k".repeat(2000), 1)), BuildError::SuperProperty { .. }));
    let many = (0..=limits::SUPER_PROPERTIES_MAX).fold(builder(), |b, i| b.super_property(i.to_string(), true));
    assert!(matches!(refused(many), BuildError::OutOfRange { option: "super_property", .. }));
}

#[test]
fn headers_of_ours_and_broken_ones_are_refused() {
    for (name, value) in [
        ("Content-Length", "1"),
        ("content-encoding", "gzip"),
        ("HOST", "x"),
        ("", "x"),
        ("X Y", "x"),
        ("X-A", "a\r\nX-B: c"),
        ("X-A", "ü"),
    ] {
        assert!(matches!(refused(builder().header(name, value)), BuildError::Header { .. }), "{name:?}: {value:?}");
    }
    assert!(builder().header("Authorization", "Basic eA==").header("X-Tab", "a\tb").into_config().is_ok());
    let many = (0..40).fold(builder(), |builder, i| builder.header(format!("X-{i}"), "1"));
    assert!(matches!(refused(many), BuildError::OutOfRange { option: "header", .. }));
}

#[cfg(any(feature = "rustls-no-provider", feature = "native-tls"))]
#[test]
fn root_certificates_are_read_when_the_client_is_built() {
    let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(builder().root_certs_pem(certificate).into_config().is_ok());
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for pem in ["", "nonsense", key, "-----BEGIN CERTIFICATE-----\n\u{1}\n-----END CERTIFICATE-----\n"] {
        assert!(matches!(refused(builder().root_certs_pem(pem)), BuildError::RootCerts), "{pem:?}");
    }
}

#[test]
fn a_host_without_a_way_to_reach_it_is_refused() {
    assert!(matches!(refused(builder().host("a.example")), BuildError::Host(_)));
    assert!(matches!(refused(builder().proxy(Some("gopher://p"))), BuildError::Proxy));
    let expected = if cfg!(any(feature = "rustls", feature = "native-tls")) {
        None
    } else if cfg!(feature = "rustls-no-provider") {
        Some(BuildError::NoCryptoProvider)
    } else {
        Some(BuildError::TlsNotCompiledIn)
    };
    assert_eq!(builder().host("https://127.0.0.1:1").into_config().err(), expected);
    let https_proxy = builder().proxy(Some("https://127.0.0.1:1"));
    assert_eq!(https_proxy.into_config().err(), expected);
}
