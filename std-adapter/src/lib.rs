//! An unofficial PostHog client that never blocks, allocates or panics where you capture.
//!
//! ```no_run
//! use quillet::{Client, event};
//!
//! let client = Client::new(std::env::var("POSTHOG_API_KEY").ok())?;
//! client.capture(event!("order placed", "customer-7", { "total": 12.5, "currency": "EUR" }));
//! client.shutdown();
//! # Ok::<(), quillet::BuildError>(())
//! ```
//!
//! A [`Client`] owns nine rings, a flush thread and an HTTP connection. [`Client::capture`] writes the event's JSON into a
//! ring that no other thread is in; the thread sends what has come together. Without a key the client is disabled and
//! every call does nothing.
//!
//! # Delivery
//!
//! An event is delivered, rejected by the server, dropped for a [`DropReason`], left in the spool, or pending;
//! [`Client::stats`] adds up at any moment ([`Stats::is_conserved`]). [`Client::shutdown`] and dropping the last handle
//! deliver what is queued, by a deadline.
//!
//! With [`ClientBuilder::spool_dir`] the queue is a file: whatever ends the process, what was accepted is in there, and the
//! next client on the directory delivers it, or a living one within about a minute. What is sent
//! twice, with the same uuids and timestamps, is one batch per death at most, or a megabyte that was just being moved. In an
//! outage the queue overflows into further files, up to a quota. What a file survives besides its process,
//! [`Client::durability`] says. Without a spool, what is queued dies with its process.
//!
//! [`Client::install_panic_hook`] and [`Client::install_signal_handlers`] have the end itself reported. Without a spool,
//! [`ClientBuilder::crash_dir`] has them write what is queued into a file, which the next start delivers.
//!
//! # Errors
//!
//! [`Client::capture_error`] sends an error with its causes and the caller's stack; an [`ErrorReport`] says more about it.
//! [`Client::install_panic_hook`] reports panics. Both are of the person of the [`Scope`] that the thread is in.
//!
//! # Feature flags
//!
//! [`Client::is_feature_enabled`], [`feature_flag`](Client::feature_flag),
//! [`feature_flag_payload`](Client::feature_flag_payload) and [`feature_flags`](Client::feature_flags) ask the server and
//! remember its answers, or evaluate definitions without it ([`ClientBuilder::personal_api_key`],
//! [`flag_definitions`](ClientBuilder::flag_definitions)). They block their caller, by a deadline, and never a capture.
//! Operators, and what each leaves to the server:
//!
//! | operator | what it compares | left to the server |
//! |---|---|---|
//! | `exact`, `is_not` | texts without case, or a list of them | booleans where clients and servers differ |
//! | `is_set`, `is_not_set` | whether it was given and is not null | what was not given |
//! | `icontains`, `not_icontains` | a part of the text, without ASCII case | |
//! | `icontains_multi`, `not_icontains_multi` | any of a list of parts | |
//! | `starts_with`, `not_starts_with`, `ends_with`, `not_ends_with` | beginning and end, without ASCII case | |
//! | `regex`, `not_regex` | anywhere in the text, with case | without the feature `regex`; beyond ASCII |
//! | `gt`, `gte`, `lt`, `lte`, `between`, `not_between` | numbers | texts that are none |
//! | `is_date_before`, `is_date_after`, `is_date_exact` | instants; `-7d`, `24h`, `6m` ago | 14 hours, if one has no offset |
//! | `semver_eq`, `semver_neq`, `semver_gt`, `semver_gte` | three numbers | pre-releases, leading zeros |
//! | `semver_lt`, `semver_lte` | the same | the same |
//! | `semver_tilde`, `semver_caret`, `semver_wildcard` | ranges of them | the same |
//! | `in`, `not_in` | cohorts of the document | static cohorts |
//! | `flag_evaluates_to` | another flag | circles, and what that one leaves open |
//!
//! A property that was not given decides nothing. What is left to the server is asked there, or is an error that says why
//! ([`FlagQuery::only_local`]).
//!
//! # Memory
//!
//! In address space, before the first event: 9 × (`queue_bytes` + 383, rounded up to pages) + one page, about 9 MiB with the
//! defaults; 2 × `exception_steps_bytes`, 16 KiB with the defaults; 2 KiB for what is remembered of errors. Of that a program
//! touches the lanes its threads enter, usually one. Sending adds the HTTP client's buffers, and with gzip one compressed
//! body. Feature flags add what they remember, within bounds that the options name.
//!
//! With a spool all of it is a file's, there from the beginning, with 31 pages more. Delivering what another process left
//! takes as much as one of its lanes, for as long as that lasts.
//!
//! # Features
//!
//! `rustls` (default), `rustls-no-provider`, `platform-verifier`, `native-tls`: how https is spoken; without any, an https
//! host is an error when the client is built. `gzip`: compressed bodies. `serde`: `Serialize` types as values, payloads of
//! flags as `Deserialize` types. `regex`: flags with regular expressions are evaluated locally too. `anyhow`, `eyre`: their
//! reports as exceptions. `tracing`: a layer that makes exceptions and steps of events. `test-util`: typed assertions on a
//! [`MemoryTransport`](transport::memory::MemoryTransport).
//!
//! The README is part of these docs' tests. Why it is built this way: [`design`].

mod arena;
mod capture;
mod client;
mod clock;
mod config;
mod crash;
mod draft;
mod error;
mod exception;
pub mod flags;
mod fork;
mod hooks;
mod host;
mod immediate;
mod inner;
mod inside;
mod lanes;
mod log;
mod observers;
mod redactor;
mod scope;
mod shared;
mod spool;
mod sys;
#[cfg(feature = "tracing")]
mod tracing;
pub mod transport;
mod worker;

pub use client::{Captured, Client, Poll, ShutdownReport};
pub use clock::SystemClock;
pub use config::ClientBuilder;
pub use draft::{DRAFT_ADDITIONS_MAX, Draft};
pub use error::{BuildError, FlushError, ImmediateError};
pub use exception::ErrorReport;
pub use flags::{FeatureFlags, FlagError, FlagQuery, FlagsEndpoint, OwnedFlagValue};
pub use hooks::{Delivery, HookVerdict, OwnedJson, OwnedValue, RequestReport};
pub use host::{ApiKey, HostProblem, KeyProblem};
pub use quillet_core::*;
pub use scope::{SCOPE_PROPERTIES_MAX, Scope, ScopeGuard};
pub use spool::Durability;
#[cfg(feature = "tracing")]
pub use tracing::TracingLayer;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
