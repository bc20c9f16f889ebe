//! As much of an HTTP/1.1 server as the harness needs: one request per connection, one thread per connection.
//!
//! In: connections. Out: a [`Request`] for each, and its [`Response`] back to whoever sent it, always JSON, errors too: the
//! harness fails a test over any other content type.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// Longest request line and headers, in bytes.
const HEAD_BYTES_MAX: u64 = 64 * 1024;

/// Longest request body, in bytes. Far beyond what fits into an event.
const BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Longest wait for a request's next byte, or for room for an answer's. A forgotten connection keeps its thread this long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait before accepting again when the system is out of something.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// What the harness asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    /// The query's `test_id`.
    pub(crate) test_id: Option<String>,
    /// Whatever its type; empty if there is none.
    pub(crate) body: Vec<u8>,
}

/// What it is told.
#[derive(Debug)]
pub(crate) struct Response {
    status: u16,
    body: Value,
}

impl Response {
    pub(crate) fn ok(body: Value) -> Self {
        Self { status: 200, body }
    }

    /// The harness fails the running test for any of these, so they are for calls that make no sense.
    pub(crate) fn error(status: u16, message: impl Into<String>) -> Self {
        Self { status, body: json!({ "error": message.into() }) }
    }
}

/// Serves connections for as long as the process lives, whatever they do.
pub(crate) fn serve(listener: &TcpListener, answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> ! {
    let answer = Arc::new(answer);
    loop {
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(ACCEPT_RETRY);
            continue;
        };
        let answer = Arc::clone(&answer);
        // Without a thread the connection is closed unanswered, and the harness says so.
        let _ = thread::Builder::new().name("connection".to_owned()).spawn(move || converse(&stream, &*answer));
    }
}

/// One request, one answer. A connection that breaks meanwhile is its own affair.
fn converse(stream: &TcpStream, answer: &impl Fn(&Request) -> Response) {
    let _ = stream.set_read_timeout(Some(IDLE_TIMEOUT));
    let _ = stream.set_write_timeout(Some(IDLE_TIMEOUT));
    let response = match read_request(stream, stream) {
        Ok(request) => answer(&request),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Response::error(400, error.to_string()),
        Err(_) => return,
    };
    let _ = write_response(stream, &response);
}

/// Reads a request from `stream`; a client that wants to be asked for its body is, on `back`.
fn read_request(stream: impl Read, mut back: impl Write) -> io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut head = (&mut reader).take(HEAD_BYTES_MAX);
    let line = read_line(&mut head)?;
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(malformed("no HTTP/1.1 request line"));
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path.strip_suffix('/').unwrap_or(path);
    let test_id = query.split('&').find_map(|pair| pair.strip_prefix("test_id=")).map(percent_decoded);

    let (mut length, mut is_chunked, mut is_asked_for) = (0, false, true);
    loop {
        let line = read_line(&mut head)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("a header without a colon"))?;
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(|_| malformed("a Content-Length that is no number"))?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            is_chunked = value.trim().eq_ignore_ascii_case("chunked");
            if !is_chunked {
                return Err(malformed("a Transfer-Encoding other than chunked"));
            }
        } else if name.eq_ignore_ascii_case("expect") {
            is_asked_for = false;
        }
    }
    if !is_asked_for {
        back.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        back.flush()?;
    }
    let mut body = Vec::new();
    if is_chunked {
        read_chunks(&mut reader, &mut body)?;
    } else {
        read_exactly(&mut reader, length, &mut body)?;
    }
    Ok(Request { method: method.to_owned(), path: path.to_owned(), test_id, body })
}

/// Chunks up to the empty one, with the trailer behind it.
fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let line = read_line(&mut reader.take(HEAD_BYTES_MAX))?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| malformed("a chunk without a size"))?;
        if size == 0 {
            let mut trailer = reader.take(HEAD_BYTES_MAX);
            while !read_line(&mut trailer)?.is_empty() {}
            return Ok(());
        }
        read_exactly(reader, size, body)?;
        if !read_line(&mut reader.take(2))?.is_empty() {
            return Err(malformed("a chunk longer than it says"));
        }
    }
}

/// Appends `length` bytes to the body.
fn read_exactly(reader: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    if length > BODY_BYTES_MAX.saturating_sub(body.len() as u64) {
        return Err(malformed("the body is too long"));
    }
    if reader.take(length).read_to_end(body)? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// A query's value without its escapes. What is no escape stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.filter(|_| first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A line without its end.
fn read_line(head: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    head.read_line(&mut line)?;
    match line.strip_suffix("\r\n").or_else(|| line.strip_suffix('\n')) {
        Some(line) => Ok(line.to_owned()),
        None if line.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
        None => Err(malformed("the head is cut off or too long")),
    }
}

fn malformed(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

fn write_response(mut stream: impl Write, response: &Response) -> io::Result<()> {
    let reason = match response.status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        _ => "Error",
    };
    let body = response.body.to_string();
    let head = format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        response.status,
        body.len()
    );
    stream.write_all((head + &body).as_bytes())?;
    stream.flush()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]
    use super::*;

    #[test]
    fn a_request_is_taken_apart() {
        let text = "POST /flush/?a=b&test_id=t-%31%zz&c HTTP/1.1\r\nHost: x\r\ncontent-LENGTH:  2 \r\n\r\n{}more";
        let request = read_request(text.as_bytes(), io::sink()).unwrap();
        let expected = Request {
            method: "POST".to_owned(),
            path: "/flush".to_owned(),
            test_id: Some("t-1%zz".to_owned()),
            body: b"{}".to_vec(),
        };
        assert_eq!(request, expected);
        let bare = read_request("GET /health HTTP/1.0\n\n".as_bytes(), io::sink()).unwrap();
        assert_eq!((bare.path.as_str(), bare.test_id, bare.body.len()), ("/health", None, 0));
    }

    #[test]
    fn a_body_may_come_in_chunks_and_after_a_question() {
        let text = "POST /init HTTP/1.1\r\nTransfer-Encoding: Chunked\r\nExpect: 100-continue\r\n\r\n\
            2;x=y\r\n{\"\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n";
        let mut back = Vec::new();
        let request = read_request(text.as_bytes(), &mut back).unwrap();
        assert_eq!(
            (request.body.as_slice(), back.as_slice()),
            (&b"{\"0123456789"[..], &b"HTTP/1.1 100 Continue\r\n\r\n"[..])
        );
    }

    #[test]
    fn what_is_no_request_is_refused_and_what_is_half_a_request_is_not_answered() {
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(70_000));
        let refused = [
            "GET /\r\n\r\n",
            "GET / HTTP/2\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\na",
            &long,
        ];
        for text in refused {
            assert_eq!(
                read_request(text.as_bytes(), io::sink()).unwrap_err().kind(),
                io::ErrorKind::InvalidData,
                "{text:.60?}"
            );
        }
        for text in [
            "",
            "GET / HTTP/1.1\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n{}",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}",
        ] {
            assert_eq!(
                read_request(text.as_bytes(), io::sink()).unwrap_err().kind(),
                io::ErrorKind::UnexpectedEof,
                "{text:?}"
            );
        }
    }
}
