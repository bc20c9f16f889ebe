//! The adapter as a process of its own, and calls to it.
//!
//! In: calls. Out: status and JSON, whose content type is checked each time, as the harness does.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::http::Message;

/// More than the adapter's longest flush, and less than for ever.
const CALL_TIMEOUT: Duration = Duration::from_secs(150);

/// A running adapter. Dropping it kills the process.
pub(crate) struct Adapter {
    process: Child,
    address: SocketAddr,
}

/// What a call came back with.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn expect_ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }
}

impl Adapter {
    pub(crate) fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_compliance-adapter"))
            .env("PORT", "0")
            .env_remove("HOST")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().rsplit(' ').next().and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("no address in {line:?}"));
        Self { process, address }
    }

    /// A call on a connection of its own; `None` for an empty body, of the type the harness gives those.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let content_type = if body.is_some() { "application/json" } else { "application/octet-stream" };
        let body = body.map(Value::to_string).unwrap_or_default();
        self.send(&format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        ))
    }

    /// Whatever text, as a request.
    pub(crate) fn send(&self, request: &str) -> Reply {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(CALL_TIMEOUT)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let message = Message::read(&stream).unwrap_or_else(|| panic!("no answer to {request}"));
        assert_eq!(message.header("content-type"), Some("application/json"));
        let status = message.first_line.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, body: serde_json::from_slice(&message.body).unwrap() }
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
