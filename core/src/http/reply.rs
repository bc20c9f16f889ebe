//! A server's reply, read byte by byte: bounded, without a copy of the head, and in doubt on the careful side.
//!
//! In: whatever the stream gives, in pieces of any size. Out: an [`Answer`], whether the connection can carry another
//! request, and the server's time. Only one line is held at a time, and of a line only its beginning: no header that
//! matters here is longer. What a server may send before it is taken for broken is bounded too.
//!
//! ```text
//!  status line ─▶ headers ─▶ empty line ─┬─▶ no body ───────────────────────▶ complete
//!       ▲            1xx: from the start │   Content-Length: so many bytes ─▶
//!       └────────────────────────────────┤   chunks, then trailers ─────────▶
//!                                        └─▶ until the connection closes: complete at once, and not to be used again
//! ```

use crate::retry::parse_retry_after;
use crate::{Answer, Timestamp};
use core::time::Duration;

/// Bytes of a line that are looked at; the rest of a longer one is skipped.
const LINE_BYTES: usize = 80;
/// Bytes of head, chunk headers and trailers together, after which a reply is no reply.
const HEAD_BYTES_MAX: u32 = 16 * 1024;
/// Bytes of a body that are read to keep the connection; closing it is cheaper than reading more.
const BODY_BYTES_MAX: u32 = 64 * 1024;

/// The reply is not HTTP, or longer than any sensible one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotHttp;

/// What was read of a reply so far.
#[derive(Debug)]
pub(crate) struct Reply {
    state: State,
    /// The request was a HEAD: whatever the headers say, there is no body.
    bodiless: bool,
    line: [u8; LINE_BYTES],
    line_len: usize,
    /// Bytes of head that may still come.
    head_left: u32,
    /// Bytes of body that may still come.
    body_left: u32,
    status: u16,
    retry_after: RetryAfter,
    html: bool,
    date: Option<Timestamp>,
    /// From `Content-Length`; `Err` if there were several that differ, or none that is a number.
    length: Option<Result<u32, ()>>,
    chunked: bool,
    /// The connection can carry another request behind this reply.
    reusable: bool,
    /// Something other than white space was seen of the body.
    body_began: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Status,
    Headers,
    /// So many bytes are left.
    Body(u32),
    ChunkSize,
    /// So many bytes are left of the chunk.
    Chunk(u32),
    ChunkEnd,
    Trailers,
    Complete,
}

/// `Retry-After`, which may be a date that only a later `Date` header gives a meaning.
#[derive(Clone, Copy, Debug)]
enum RetryAfter {
    Unsaid,
    Wait(Duration),
    Until([u8; DATE_BYTES], usize),
}

/// The longest of HTTP's three forms of a date: `Wednesday, 06-Nov-94 08:49:37 GMT`.
const DATE_BYTES: usize = 33;

impl Reply {
    /// Nothing read yet. `bodiless` for the reply to a HEAD.
    pub(crate) const fn new(bodiless: bool) -> Self {
        Self {
            state: State::Status,
            bodiless,
            line: [0; LINE_BYTES],
            line_len: 0,
            head_left: HEAD_BYTES_MAX,
            body_left: BODY_BYTES_MAX,
            status: 0,
            retry_after: RetryAfter::Unsaid,
            html: false,
            date: None,
            length: None,
            chunked: false,
            reusable: true,
            body_began: false,
        }
    }

    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    ///
    /// [`NotHttp`]: nothing sensible can be said about the request, and the connection is of no more use.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), NotHttp> {
        for &byte in bytes {
            self.take(byte)?;
        }
        Ok(())
    }

    /// Whether all of it was read, or all that will be.
    pub(crate) fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Whether anything was read.
    pub(crate) fn has_begun(&self) -> bool {
        self.head_left < HEAD_BYTES_MAX
    }

    /// Whether the connection can carry another request.
    pub(crate) fn is_reusable(&self) -> bool {
        self.reusable && self.is_complete()
    }

    /// The answer, once the head is complete. `now` is the wall time, where the device knows it better than the server.
    pub(crate) fn answer(&self, now: Option<Timestamp>) -> Option<Answer> {
        if matches!(self.state, State::Status | State::Headers) {
            return None;
        }
        let retry_after = match &self.retry_after {
            RetryAfter::Unsaid => None,
            RetryAfter::Wait(wait) => Some(*wait),
            // A server's dates agree with its own clock first.
            RetryAfter::Until(text, len) => {
                text.get(..*len).and_then(|text| parse_retry_after(text, self.date.or(now)))
            }
        };
        Some(Answer { retry_after, html: self.html, ..Answer::new(self.status) })
    }

    /// The server's clock when it answered, to the second.
    pub(crate) fn date(&self) -> Option<Timestamp> {
        self.date
    }

    fn take(&mut self, byte: u8) -> Result<(), NotHttp> {
        match self.state {
            State::Body(left) => self.body(byte, if left > 1 { State::Body(left - 1) } else { State::Complete }),
            State::Chunk(left) => self.body(byte, if left > 1 { State::Chunk(left - 1) } else { State::ChunkEnd }),
            // Nobody asked for more: whatever it is, it is not the answer to the next request.
            State::Complete => self.reusable = false,
            State::Status | State::Headers | State::ChunkSize | State::ChunkEnd | State::Trailers => {
                self.head_left = self.head_left.checked_sub(1).ok_or(NotHttp)?;
                if byte == b'\n' {
                    self.line_ends()?;
                } else if let Some(slot) = self.line.get_mut(self.line_len) {
                    *slot = byte;
                    self.line_len += 1;
                }
            }
        }
        Ok(())
    }

    fn body(&mut self, byte: u8, next: State) {
        // A byte order mark and white space may stand before a page.
        if !self.body_began && !matches!(byte, 0xef | 0xbb | 0xbf | b' ' | b'\t' | b'\r' | b'\n') {
            self.body_began = true;
            self.html |= byte == b'<';
        }
        match self.body_left.checked_sub(1) {
            Some(left) => (self.body_left, self.state) = (left, next),
            // Enough of it: the answer is known, and a new connection is cheaper than the rest.
            None => (self.reusable, self.state) = (false, State::Complete),
        }
    }

    fn line_ends(&mut self) -> Result<(), NotHttp> {
        let held = self.line;
        let line = held.get(..self.line_len).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.line_len = 0;
        match self.state {
            // A reply may be preceded by what an earlier one left over.
            State::Status if line.is_empty() => {}
            State::Status => self.status_line(line)?,
            State::Headers if line.is_empty() => self.head_ends(),
            State::Headers => self.header(line),
            State::ChunkSize => match chunk_size(line).ok_or(NotHttp)? {
                0 => self.state = State::Trailers,
                bytes => self.state = State::Chunk(bytes),
            },
            State::ChunkEnd => self.state = State::ChunkSize,
            State::Trailers if line.is_empty() => self.state = State::Complete,
            State::Trailers | State::Body(_) | State::Chunk(_) | State::Complete => {}
        }
        Ok(())
    }

    /// `HTTP/1.1 200 OK`, of which the last word is for people.
    fn status_line(&mut self, line: &[u8]) -> Result<(), NotHttp> {
        let rest = line.strip_prefix(b"HTTP/1.").ok_or(NotHttp)?;
        let (&[minor, b' ', hundreds @ b'1'..=b'9', tens, ones], reason) = rest.split_first_chunk().ok_or(NotHttp)?
        else {
            return Err(NotHttp);
        };
        let digit = |byte: u8| if byte.is_ascii_digit() { Ok(u16::from(byte - b'0')) } else { Err(NotHttp) };
        digit(minor)?;
        if reason.first().is_some_and(|&byte| byte != b' ') {
            return Err(NotHttp);
        }
        self.status = digit(hundreds)? * 100 + digit(tens)? * 10 + digit(ones)?;
        // HTTP/1.0 closes unless it says otherwise.
        self.reusable = minor != b'0';
        self.state = State::Headers;
        Ok(())
    }

    /// One header that fits the line, or the beginning of one that does not matter. Anything else is skipped.
    fn header(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { return };
        let (name, value) = line.split_at_checked(colon).unwrap_or_default();
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = number(value, 10).ok_or(());
            // Two lengths that differ are an attack or a mistake: nothing behind this reply can be trusted.
            self.length = Some(if self.length.is_some_and(|earlier| earlier != length) { Err(()) } else { length });
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let last = value.rsplit(|&byte| byte == b',').next().unwrap_or_default().trim_ascii();
            self.chunked = last.eq_ignore_ascii_case(b"chunked");
            // Any other coding ends with the connection.
            self.reusable &= self.chunked;
        } else if name.eq_ignore_ascii_case(b"connection") {
            for token in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                self.reusable |= token.eq_ignore_ascii_case(b"keep-alive");
                self.reusable &= !token.eq_ignore_ascii_case(b"close");
            }
        } else if name.eq_ignore_ascii_case(b"retry-after") {
            self.retry_after = retry_after(value);
        } else if name.eq_ignore_ascii_case(b"date") {
            self.date = crate::retry::parse_date(value);
        } else if name.eq_ignore_ascii_case(b"content-type") {
            self.html = is_html(value);
        }
    }

    /// The empty line: what follows depends on what was said.
    fn head_ends(&mut self) {
        if matches!(self.status, 100..=199) {
            // An interim answer; the final one follows. Switching protocols was not asked for.
            let (head_left, bodiless) = (self.head_left, self.bodiless);
            *self = Self { head_left, ..Self::new(bodiless) };
            return;
        }
        self.state = match (self.chunked, self.length) {
            _ if self.bodiless || matches!(self.status, 204 | 304) => State::Complete,
            (true, length) => {
                self.reusable &= length.is_none();
                State::ChunkSize
            }
            (false, Some(Ok(0))) => State::Complete,
            (false, Some(Ok(bytes))) => State::Body(bytes),
            (false, Some(Err(())) | None) => {
                self.reusable = false;
                State::Complete
            }
        };
    }
}

fn is_html(value: &[u8]) -> bool {
    let kind = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(b"text/html") || kind.eq_ignore_ascii_case(b"application/xhtml+xml")
}

fn retry_after(value: &[u8]) -> RetryAfter {
    if let Some(wait) = parse_retry_after(value, None) {
        return RetryAfter::Wait(wait);
    }
    let mut text = [0; DATE_BYTES];
    if value.len() > DATE_BYTES {
        return RetryAfter::Unsaid;
    }
    for (to, from) in text.iter_mut().zip(value) {
        *to = *from;
    }
    RetryAfter::Until(text, value.len())
}

/// The size of a chunk, without what may follow it behind a semicolon.
fn chunk_size(line: &[u8]) -> Option<u32> {
    number(line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii(), 16)
}

/// Digits, at least one. Beyond 32 bits it is as good as no number.
fn number(digits: &[u8], radix: u32) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits
        .iter()
        .try_fold(0_u32, |number, &byte| number.checked_mul(radix)?.checked_add(char::from(byte).to_digit(radix)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;
    use proptest::prelude::*;
    use std::format;
    use std::string::String;

    /// The reply in one piece, and the same in single bytes: they must not differ.
    fn read(text: &[u8]) -> Result<Reply, NotHttp> {
        let (mut whole, mut pieces) = (Reply::new(false), Reply::new(false));
        let told = whole.feed(text);
        assert_eq!(text.iter().try_for_each(|&byte| pieces.feed(&[byte])), told);
        assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
        told.map(|()| whole)
    }

    fn answer(text: &str) -> (Option<Answer>, bool, bool) {
        let reply = read(text.as_bytes()).unwrap();
        (reply.answer(None), reply.is_complete(), reply.is_reusable())
    }

    #[test]
    fn a_plain_reply_keeps_the_connection() {
        let text = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"status\":1}";
        assert_eq!(answer(text), (Some(Answer::new(200)), true, true));
        for cut in 0..text.len() {
            let (told, complete, reusable) = answer(&text[..cut]);
            assert!(!complete && !reusable, "{cut}");
            assert_eq!(told.is_some(), cut >= text.find("\r\n\r\n").unwrap() + 4);
        }
    }

    #[test]
    fn what_servers_and_proxies_really_send_is_understood() {
        // Text, status, complete, reusable.
        for (text, status, complete, reusable) in [
            ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, true, true),
            ("HTTP/1.1 200 OK\ncontent-length:2\n\nok", 200, true, true),
            ("\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", 204, true, true),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", 304, true, true),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 200, true, false),
            ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n", 200, true, true),
            ("HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 0\r\n\r\n", 200, true, false),
            ("HTTP/1.1 503 \r\n\r\n", 503, true, false),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, true, true),
            ("HTTP/1.1 103 x\r\nRetry-After: 9\r\n\r\nHTTP/1.1 200 y\r\nContent-Length: 0\r\n\r\n", 200, true, true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n", 200, true, true),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\nA\r\n0123456789\r\n00\r\n\r\n",
                200,
                true,
                true,
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 200, false, false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", 200, true, false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, true, false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 200, true, false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 200, true, true),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 200, true, false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", 200, true, false),
            ("HTTP/1.1 200 OK\r\nno colon\r\n : odd\r\nContent-Length: 0\r\n\r\n", 200, true, true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore", 200, true, false),
        ] {
            let (told, was_complete, was_reusable) = answer(text);
            assert_eq!(told.unwrap().status, status, "{text}");
            assert_eq!((was_complete, was_reusable), (complete, reusable), "{text}");
            assert_eq!(told.unwrap().retry_after, None, "{text}");
        }
    }

    #[test]
    fn what_is_not_http_is_no_answer() {
        for text in [
            "<html>\n",
            "HTTP/2 200 OK\r\n",
            "HTTP/1.1 20 OK\r\n",
            "HTTP/1.1 2000\r\n",
            "HTTP/1.1 abc\r\n",
            "SSH-2.0-x\r\n",
            "HTTP/1.1  200\r\n",
            "HTTP/1.1 099 x\r\n",
            "HTTP/1.x 200\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1ffffffff\r\n",
        ] {
            assert_eq!(read(text.as_bytes()).unwrap_err(), NotHttp, "{text}");
        }
    }

    #[test]
    fn a_head_without_end_is_given_up() {
        let endless = format!("HTTP/1.1 200 OK\r\n{}", "X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(1000));
        assert_eq!(read(endless.as_bytes()).unwrap_err(), NotHttp);
        let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(2000);
        assert_eq!(read(interim.as_bytes()).unwrap_err(), NotHttp);
        let one_line = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "y".repeat(5000));
        assert_eq!(answer(&one_line), (Some(Answer::new(200)), true, true));
    }

    #[test]
    fn a_body_without_end_is_an_answer_and_costs_the_connection() {
        let mut text = String::from("HTTP/1.1 200 OK\r\nContent-Length: 4000000000\r\n\r\n");
        text.push_str(&"x".repeat(BODY_BYTES_MAX as usize + 1));
        assert_eq!(answer(&text), (Some(Answer::new(200)), true, false));
    }

    #[test]
    fn waits_are_read_as_seconds_or_against_the_servers_own_clock() {
        for (headers, expected) in [
            ("Retry-After: 7", Some(7)),
            ("retry-after:  7 ", Some(7)),
            ("Retry-After: 0", None),
            ("Retry-After: soon", None),
            ("Retry-After: Sun, 06 Nov 1994 08:49:37 GMT", None),
            ("Date: Sun, 06 Nov 1994 08:49:07 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Retry-After: Sunday, 06-Nov-94 08:49:37 GMT\r\nDate: Sun Nov  6 08:49:07 1994", Some(30)),
        ] {
            let (told, ..) = answer(&format!("HTTP/1.1 429 x\r\n{headers}\r\nContent-Length: 0\r\n\r\n"));
            assert_eq!(told.unwrap().retry_after, expected.map(Duration::from_secs), "{headers}");
        }
        let reply = read(b"HTTP/1.1 503 x\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n").unwrap();
        let now = Timestamp::from_civil(1994, 11, 6, 8, 49, 35).unwrap();
        assert_eq!(reply.answer(Some(now)).unwrap().retry_after, Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_page_is_told_from_posthog() {
        for (headers, body, html) in [
            ("Content-Type: text/html", "", true),
            ("Content-Type: Text/HTML; charset=utf-8", "x", true),
            ("Content-Type: application/xhtml+xml", "x", true),
            ("Content-Type: text/htmlx", "x", false),
            ("Content-Type: application/json", "\u{feff}\r\n <html>", true),
            ("Content-Type: application/json", "{\"a\":\"<html>\"}", false),
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{headers}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            assert_eq!(answer(&text).0.unwrap().html, html, "{text}");
        }
    }

    #[test]
    fn the_servers_time_is_read() {
        let reply = read(b"HTTP/1.1 200 OK\r\nDate: Fri, 13 Nov 2026 12:30:01 GMT\r\n\r\n").unwrap();
        assert_eq!(reply.date(), Timestamp::from_civil(2026, 11, 13, 12, 30, 1));
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&bytes);
        }

        #[test]
        fn any_damage_to_a_reply_is_read_or_refused(at in 0..120_usize, byte: u8, cut in 0..160_usize) {
            let mut text = b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nRetry-After: 3\r\nTransfer-Encoding: chunked\r\n\
                             Connection: keep-alive\r\n\r\n5\r\nabcde\r\n0\r\n\r\n".to_vec();
            let len = text.len();
            text[at % len] = byte;
            text.truncate(cut.max(1));
            if let Ok(reply) = read(&text) {
                prop_assert!(reply.is_complete() || !reply.is_reusable());
            }
        }
    }
}
