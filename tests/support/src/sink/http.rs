//! HTTP/1.1 from the server's side: a connection in, heads and bodies out, and answers back.
//!
//! Concurrency: one thread owns a connection; the sink keeps a second handle only to shut it down.
//!
//! The last byte of a body is looked at (`peek`) and left in the kernel until the answer is decided. Closing a socket
//! with unread bytes makes Linux send RST instead of FIN, which is how the sink resets a connection without `unsafe`:
//! std's `set_linger` is unstable (2026-10).

use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

/// Longest request line and headers, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of an over-long body that are read only to be thrown away, so that the client gets to read its 413.
const DISCARD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One client's connection.
pub(super) struct Connection {
    stream: Arc<TcpStream>,
    /// The last byte of the current body is known and still unread; see the module doc.
    held_back: bool,
}

/// Request line and headers.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    pub(super) method: String,
    /// Without the query.
    pub(super) path: String,
    /// Behind the `?`, empty if there is none.
    pub(super) query: String,
    /// Names in lower case, in the order they came.
    pub(super) headers: Vec<(String, String)>,
}

/// A body as it came over the wire.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    /// Its length as sent, without the sizes of chunks.
    pub(super) wire_len: usize,
    /// Longer than the limit; `bytes` is then empty.
    pub(super) over_limit: bool,
    /// Sent in chunks, without a `Content-Length`.
    pub(super) chunked: bool,
}

impl Connection {
    pub(super) fn new(stream: Arc<TcpStream>) -> Self {
        Self { stream, held_back: false }
    }

    /// The next request's head; `None` when the client closed instead.
    ///
    /// # Errors
    ///
    /// What the socket says, and `InvalidData` for what is not HTTP/1.1.
    pub(super) fn read_head(&mut self) -> io::Result<Option<Head>> {
        let Some(bytes) = self.take_until(b"\r\n\r\n", HEAD_BYTES_MAX)? else { return Ok(None) };
        let head = parse_head(&bytes).ok_or_else(|| invalid("the head is not HTTP/1.1"))?;
        Ok(Some(head))
    }

    /// The body that belongs to `head`, all but its last byte consumed. A body above `limit` is skipped.
    pub(super) fn read_body(&mut self, head: &Head, limit: usize) -> io::Result<Body> {
        if head.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if head.is_chunked() {
            return self.read_chunks(limit);
        }
        let length = head.content_length()?.unwrap_or(0);
        if length > limit {
            self.discard(length.min(DISCARD_BYTES_MAX))?;
            return Ok(Body { wire_len: length, over_limit: true, ..Body::default() });
        }
        let mut bytes = vec![0; length.saturating_sub(1)];
        (&*self.stream).read_exact(&mut bytes)?;
        if length > 0 {
            bytes.push(self.peek_one()?);
        }
        Ok(Body { bytes, wire_len: length, over_limit: false, chunked: false })
    }

    /// Reads about half of the body and makes sure that something unread is there when the connection is dropped.
    pub(super) fn read_half_a_body(&mut self, head: &Head, limit: usize) -> io::Result<Body> {
        if head.is_chunked() {
            self.peek_one()?;
            return Ok(Body { chunked: true, ..Body::default() });
        }
        let length = head.content_length()?.unwrap_or(0).min(limit);
        let mut bytes = vec![0; length.saturating_sub(1) / 2];
        (&*self.stream).read_exact(&mut bytes)?;
        if length > 0 {
            self.peek_one()?;
        }
        Ok(Body { wire_len: bytes.len(), bytes, over_limit: false, chunked: false })
    }

    /// Consumes the byte that [`Connection::read_body`] left, so that a close is an orderly one.
    pub(super) fn finish_body(&mut self) -> io::Result<()> {
        if self.held_back {
            self.held_back = false;
            self.discard(1)?;
        }
        Ok(())
    }

    /// Sends bytes as they are.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&*self.stream).write_all(bytes)
    }

    fn read_chunks(&mut self, limit: usize) -> io::Result<Body> {
        let mut body = Body { chunked: true, ..Body::default() };
        loop {
            let line = self.take_until(b"\r\n", HEAD_BYTES_MAX)?.ok_or(ErrorKind::UnexpectedEof)?;
            let size = parse_chunk_size(&line).ok_or_else(|| invalid("not a chunk size"))?;
            if size == 0 {
                break;
            }
            body.wire_len = body.wire_len.saturating_add(size);
            if body.wire_len > DISCARD_BYTES_MAX {
                return Err(invalid("a body without end"));
            }
            body.over_limit = body.wire_len > limit;
            if body.over_limit {
                body.bytes = Vec::new();
                self.discard(size)?;
            } else {
                let filled = body.bytes.len();
                body.bytes.resize(filled.saturating_add(size), 0);
                let (_, room) = body.bytes.split_at_mut(filled);
                (&*self.stream).read_exact(room)?;
            }
            self.take_until(b"\r\n", 2)?.ok_or(ErrorKind::UnexpectedEof)?;
        }
        // The last byte of the body is the line feed behind the last chunk; nobody we know sends trailers.
        if self.take_until(b"\r", HEAD_BYTES_MAX)?.is_none_or(|trailer| trailer != b"\r") {
            return Err(invalid("trailers are not supported"));
        }
        self.peek_one()?;
        Ok(body)
    }

    /// Everything up to and including `end`, and not a byte more; `None` if the client closed before the first one.
    fn take_until(&mut self, end: &[u8], limit: usize) -> io::Result<Option<Vec<u8>>> {
        let mut taken = Vec::new();
        let mut ahead = [0; 4096];
        loop {
            let seen = self.stream.peek(&mut ahead)?;
            if seen == 0 {
                return if taken.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
            let before = taken.len();
            taken.extend_from_slice(ahead.get(..seen).unwrap_or_default());
            // `end` may have begun in the bytes of an earlier round.
            let from = before.saturating_sub(end.len().saturating_sub(1));
            let found = taken.get(from..).and_then(|new| new.windows(end.len()).position(|window| window == end));
            if let Some(at) = found {
                taken.truncate(from.saturating_add(at).saturating_add(end.len()));
            }
            self.discard(taken.len().saturating_sub(before))?;
            if taken.len() > limit {
                return Err(invalid("longer than the sink allows"));
            }
            if found.is_some() {
                return Ok(Some(taken));
            }
        }
    }

    fn peek_one(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        if self.stream.peek(&mut byte)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.held_back = true;
        Ok(byte[0])
    }

    fn discard(&mut self, bytes: usize) -> io::Result<()> {
        let copied = io::copy(&mut (&*self.stream).take(bytes as u64), &mut io::sink())?;
        if copied < bytes as u64 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

impl Head {
    /// The value of a header, by its lower-case name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether the client said that this is its last request.
    pub(super) fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    }

    fn content_length(&self) -> io::Result<Option<usize>> {
        let Some(value) = self.header("content-length") else { return Ok(None) };
        value.parse().map(Some).map_err(|_| invalid("Content-Length is not a number"))
    }
}

fn parse_head(bytes: &[u8]) -> Option<Head> {
    let text = str::from_utf8(bytes).ok()?.strip_suffix("\r\n\r\n")?;
    let mut lines = text.split("\r\n");
    let mut request = lines.next()?.split(' ');
    let (method, target, version) = (request.next()?, request.next()?, request.next()?);
    if version != "HTTP/1.1" || request.next().is_some() || !target.starts_with('/') {
        return None;
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if name.is_empty() || name.contains(|c: char| c.is_ascii_whitespace() || c.is_control()) {
            return None;
        }
        headers.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
    }
    Some(Head { method: method.to_owned(), path: path.to_owned(), query: query.to_owned(), headers })
}

fn parse_chunk_size(line: &[u8]) -> Option<usize> {
    let line = str::from_utf8(line).ok()?.trim_end();
    let digits = line.split(';').next()?.trim();
    usize::from_str_radix(digits, 16).ok()
}

fn invalid(why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}
