//! What the sink answers when it does not simply judge: scripted answers and standing rules, and how they are played.

use super::http::Connection;
use super::record::{Event, Request};
use std::fmt;
use std::io;
use std::time::{Duration, SystemTime};

/// How one request is answered.
///
/// "Stored" below means that the sink counts the events as accepted, as a server would whose answer got lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// What PostHog would say: 200 for a request in order, else what the first broken rule asks for.
    #[default]
    AsJudged,
    /// This status, whatever the request is like. Stored if it is a 2xx.
    Status {
        /// The status, 200 to 599.
        status: u16,
        /// The value of a `Retry-After` header, as it is.
        retry_after: Option<String>,
        /// The body; without one, a short text that fits the status.
        body: Option<String>,
    },
    /// A proxy's login page: 200 and HTML. Not stored.
    Html200,
    /// About half of the body is read, then the connection is reset. Not stored.
    ///
    /// As the answer of a [`Rule::Custom`], which is asked when the body is there, the reset comes one byte before
    /// the end of the body.
    ResetMidBody,
    /// The request is read and stored; the connection is reset instead of an answer. A request without a body sees an
    /// orderly close.
    ResetAfterStoring,
    /// The request is read; nothing is said for [`SILENCE`] or until the sink is dropped. Not stored.
    NoAnswer,
    /// The answer as judged, one byte at a time, with this pause before each. About 90 bytes.
    SlowDrip(Duration),
    /// Stored; the answer promises 1000 bytes of body, sends a few and closes.
    HalfAnswer,
    /// Bytes that are not HTTP, then a close. Not stored.
    Garbage,
    /// The request is read and the connection closed in good order, without a word. Not stored.
    CloseBeforeAnswer,
    /// The answer as judged, which promises to keep the connection; then it is closed.
    CloseWithoutSayingSo,
}

impl Answer {
    /// A status and a short body.
    pub fn status(status: u16) -> Self {
        Self::Status { status, retry_after: None, body: None }
    }

    /// A status with a `Retry-After`: seconds or a date, written as it shall arrive.
    pub fn status_after(status: u16, retry_after: impl Into<String>) -> Self {
        Self::Status { status, retry_after: Some(retry_after.into()), body: None }
    }

    /// A status with a body of your own.
    pub fn status_with_body(status: u16, body: impl Into<String>) -> Self {
        Self::Status { status, retry_after: None, body: Some(body.into()) }
    }

    /// What the client will see as status, given what the rules of the protocol ask for; `None` if it sees no answer.
    pub(super) fn seen_status(&self, judged: u16) -> Option<u16> {
        match self {
            Self::AsJudged | Self::SlowDrip(_) | Self::CloseWithoutSayingSo => Some(judged),
            Self::Status { status, .. } => Some(*status),
            Self::Html200 => Some(200),
            Self::ResetMidBody
            | Self::ResetAfterStoring
            | Self::NoAnswer
            | Self::HalfAnswer
            | Self::Garbage
            | Self::CloseBeforeAnswer => None,
        }
    }

    /// Whether the events count as accepted.
    pub(super) fn stores(&self, judged: u16) -> bool {
        match self {
            Self::AsJudged
            | Self::SlowDrip(_)
            | Self::CloseWithoutSayingSo
            | Self::ResetAfterStoring
            | Self::HalfAnswer => is_success(judged),
            Self::Status { status, .. } => is_success(*status),
            Self::Html200 | Self::ResetMidBody | Self::NoAnswer | Self::Garbage | Self::CloseBeforeAnswer => false,
        }
    }
}

/// How long [`Answer::NoAnswer`] says nothing before it closes.
pub const SILENCE: Duration = Duration::from_secs(60);

/// A standing order, asked for every request that no script answers. The first that has an answer wins.
///
/// Rules run inside the sink's lock: they must not ask the sink anything.
#[non_exhaustive]
pub enum Rule {
    /// 413 for a body of more than so many bytes, as sent.
    RefuseOver(usize),
    /// 400 for a batch with an event for which this says yes.
    PoisonedBy(Box<IsPoison>),
    /// This answer to everything.
    Always(Answer),
    /// Asked with the request as recorded so far: its status is not decided yet.
    Custom(Box<Decide>),
}

/// Whether this event makes the server refuse its batch.
pub type IsPoison = dyn Fn(&Event) -> bool + Send;

/// What to answer, or `None` to leave it to the next rule.
pub type Decide = dyn FnMut(&Request) -> Option<Answer> + Send;

impl Rule {
    /// 400 for a batch with an event of this name.
    pub fn poisoned_by(name: impl Into<String>) -> Self {
        let name = name.into();
        Self::PoisonedBy(Box::new(move |event| event.name() == name))
    }

    /// Asked with the request as recorded so far.
    pub fn custom(rule: impl FnMut(&Request) -> Option<Answer> + Send + 'static) -> Self {
        Self::Custom(Box::new(rule))
    }

    pub(super) fn answer(&mut self, request: &Request) -> Option<Answer> {
        match self {
            Self::RefuseOver(bytes) => (request.wire_len > *bytes).then(|| Answer::status(413)),
            Self::PoisonedBy(is_poison) => {
                request.events.iter().any(|event| is_poison(event)).then(|| Answer::status(400))
            }
            Self::Always(answer) => Some(answer.clone()),
            Self::Custom(rule) => rule(request),
        }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RefuseOver(bytes) => f.debug_tuple("RefuseOver").field(bytes).finish(),
            Self::PoisonedBy(_) => f.write_str("PoisonedBy(..)"),
            Self::Always(answer) => f.debug_tuple("Always").field(answer).finish(),
            Self::Custom(_) => f.write_str("Custom(..)"),
        }
    }
}

/// What the protocol asks for: a status and its body.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) status: u16,
    pub(super) body: String,
    pub(super) etag: Option<String>,
}

/// Whether the connection can serve another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Keep,
    Close,
}

/// Plays `answer` to a client whose body has been read but for its last byte. `wait` pauses, and answers `false` when
/// the sink is going away.
pub(super) fn play(
    connection: &mut Connection,
    answer: &Answer,
    judged: &Judged,
    wait: &dyn Fn(Duration) -> bool,
) -> io::Result<After> {
    if matches!(answer, Answer::ResetMidBody | Answer::ResetAfterStoring) {
        // The unread byte turns the close into a reset.
        return Ok(After::Close);
    }
    connection.finish_body()?;
    match answer {
        Answer::AsJudged => connection.write(&judged.to_bytes())?,
        Answer::Status { status, retry_after, body } => {
            let body = match body {
                Some(body) => body.as_str(),
                None if is_success(*status) && is_success(judged.status) => judged.body.as_str(),
                None if is_success(*status) => r#"{"status":1}"#,
                None => r#"{"error":"Server error"}"#,
            };
            let retry_after = retry_after.as_ref().map(|value| format!("Retry-After: {value}\r\n")).unwrap_or_default();
            connection.write(&response(*status, "application/json", &retry_after, body))?;
        }
        Answer::Html200 => {
            let page = "<!DOCTYPE html><html><body>Please log in to the network.</body></html>";
            connection.write(&response(200, "text/html; charset=utf-8", "", page))?;
        }
        Answer::SlowDrip(pause) => {
            for byte in judged.to_bytes() {
                if !wait(*pause) {
                    return Ok(After::Close);
                }
                connection.write(&[byte])?;
            }
        }
        Answer::CloseWithoutSayingSo => {
            connection.write(&judged.to_bytes())?;
            return Ok(After::Close);
        }
        Answer::HalfAnswer => {
            connection
                .write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"st")?;
            return Ok(After::Close);
        }
        Answer::Garbage => {
            connection.write(b"\x16\x03\x01\x00\xff\0\0 this is not HTTP \r\n\r\n\xff\xfe")?;
            return Ok(After::Close);
        }
        Answer::NoAnswer => {
            wait(SILENCE);
            return Ok(After::Close);
        }
        Answer::CloseBeforeAnswer | Answer::ResetMidBody | Answer::ResetAfterStoring => return Ok(After::Close),
    }
    Ok(After::Keep)
}

impl Judged {
    pub(super) fn new(status: u16, body: String) -> Self {
        Self { status, body, etag: None }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let content_type = if self.body.starts_with('{') { "application/json" } else { "text/plain; charset=utf-8" };
        let etag = self.etag.as_ref().map(|etag| format!("ETag: {etag}\r\n")).unwrap_or_default();
        response(self.status, content_type, &etag, &self.body)
    }
}

/// `more` is a whole header line, or nothing.
fn response(status: u16, content_type: &str, more: &str, body: &str) -> Vec<u8> {
    let reason = reason(status);
    // A 204 or 304 must not carry a body, or the client would read it as the next answer.
    let (length, body) = if matches!(status, 204 | 304) {
        (String::new(), "")
    } else {
        (format!("Content-Type: {content_type}\r\nContent-Length: {}\r\n", body.len()), body)
    };
    format!("HTTP/1.1 {status} {reason}\r\n{more}{length}\r\n{body}").into_bytes()
}

/// The answer to a HEAD, with the time on this server's clock.
pub(super) fn time() -> Vec<u8> {
    let date = httpdate::fmt_http_date(SystemTime::now());
    format!("HTTP/1.1 405 Method Not Allowed\r\nDate: {date}\r\nContent-Length: 18\r\n\r\n").into_bytes()
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Payload Too Large",
        415 => "Unsupported Media Type",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Scripted",
    }
}
