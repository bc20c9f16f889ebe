//! placeholder
mod arena;
mod client;
mod clock;
mod config;
mod draft;
mod error;
mod hooks;
mod host;
mod lanes;
mod log;
mod sys;
pub mod transport;
mod worker;

pub use client::{Captured, Client, Poll, ShutdownReport};
pub use clock::SystemClock;
pub use config::{ApiKey, ClientBuilder};
pub use draft::Draft;
pub use error::{BuildError, FlushError, ImmediateError};
pub use hooks::{Delivery, HookVerdict, OwnedJson, OwnedValue, RequestReport};
pub use host::{HostProblem, KeyProblem};
pub use quillet_core::*;
