//! The adapter that PostHog's SDK compliance harness drives: a small HTTP server around the client.
//!
//! In: the harness's calls (`/init`, `/capture`, `/flush`, `/get_feature_flag`, …). Out: calls of the client's public API, and
//! nothing else; what the client then sends, the harness's mock server receives and judges.
//!
//! ```text
//!  harness ── HTTP, JSON ──▶ server ─▶ api ─▶ instance ─▶ quillet ── HTTP ──▶ the harness's mock server
//!     └────────────────────────── reads what the mock server recorded ─────────────────────┘
//! ```
//!
//! ```sh
//! PORT=8080 cargo run --release -p compliance-adapter
//! ```
//!
//! | variable | default | |
//! |---|---|---|
//! | `PORT` | 8080 | 0 lets the system choose; the line on standard output names the port |
//! | `HOST` | 127.0.0.1 | the address or name to listen on; in a container, `0.0.0.0` |
//!
//! It declares `capture_v0` and `encoding_gzip`, and runs tests in parallel: each `?test_id=` has a client of its own. The
//! harness's flag suite asks for no capability; it runs too.

mod api;
mod instance;
mod registry;
mod server;

use std::convert::Infallible;
use std::env;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::ExitCode;
use std::str::FromStr;

use registry::Registry;

/// Where the harness looks when nobody tells it otherwise.
const PORT: u16 = 8080;
const HOST: &str = "127.0.0.1";

fn main() -> ExitCode {
    let Err(problem) = run();
    eprintln!("compliance-adapter: {problem}");
    ExitCode::FAILURE
}

fn run() -> Result<Infallible, String> {
    let (host, port) = (variable("HOST", HOST.to_owned())?, variable("PORT", PORT)?);
    let listener = TcpListener::bind((host.as_str(), port)).map_err(|error| format!("{host}:{port}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    // Whoever started this with port 0 reads the line; whoever closed the pipe does not care.
    let _ = writeln!(std::io::stdout(), "compliance-adapter: listening on {address}");
    let registry = Registry::default();
    server::serve(&listener, move |request| api::answer(&registry, request))
}

/// An environment variable's value, or `default` if it is not set or empty.
fn variable<T: FromStr>(name: &str, default: T) -> Result<T, String> {
    match env::var(name) {
        Ok(text) if !text.is_empty() => text.parse().map_err(|_| format!("{name}={text:?} makes no sense")),
        _ => Ok(default),
    }
}
