//! Requests about flags over the same HTTP as batches: the same names, proxies, TLS and headers; another path.
//!
//! Input: a [`FlagRequest`]. Output: status, `ETag` and a body of bounded length, or why there is none.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use ureq::SendBody;
use ureq::http::{HeaderValue, Method, Request, Response, Uri, header};

use super::{HttpTransport, STALE_MAX, is_stale};
use crate::transport::flags::{FlagFailure, FlagRequest, FlagResponse, FlagTransport};

/// Memory that a body is read into at first; it grows with what arrives.
const BODY_BYTES: usize = 16 * 1024;

impl FlagTransport for HttpTransport {
    fn ask(&self, request: &FlagRequest<'_>) -> Result<FlagResponse, FlagFailure> {
        let shared = &self.shared;
        if request.timeout.is_zero() {
            return Err(FlagFailure::Timeout);
        }
        let deadline = Instant::now() + request.timeout;
        let uri: Uri = shared.endpoint.url(request.target).parse().map_err(|_| FlagFailure::Connection)?;
        let agent = shared.agent();
        for _ in 0..=STALE_MAX {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(FlagFailure::Timeout);
            }
            let head = self.head(request, &uri)?;
            let answer = match request.body {
                Some(mut body) => {
                    let request = head.map(|()| SendBody::from_reader(&mut body));
                    agent.run(agent.configure_request(request).timeout_global(Some(left)).build())
                }
                None => agent.run(agent.configure_request(head).timeout_global(Some(left)).build()),
            };
            match answer {
                Ok(answer) => return read(answer, request.answer_bytes_max),
                Err(error) if is_stale(&error) => {}
                Err(ureq::Error::Timeout(_)) => return Err(FlagFailure::Timeout),
                Err(ureq::Error::Io(error)) if is_timeout(&error) => return Err(FlagFailure::Timeout),
                // Where a connection is made, a timeout is wrapped into what says that there is none.
                Err(_) if deadline.saturating_duration_since(Instant::now()) < CLOSE_TO_TIMEOUT => {
                    return Err(FlagFailure::Timeout);
                }
                Err(_) => return Err(FlagFailure::Connection),
            }
        }
        Err(FlagFailure::Connection)
    }
}

/// A failure so close to the deadline is the deadline's.
const CLOSE_TO_TIMEOUT: Duration = Duration::from_millis(2);

impl HttpTransport {
    fn head(&self, request: &FlagRequest<'_>, uri: &Uri) -> Result<Request<()>, FlagFailure> {
        let mut head = Request::new(());
        *head.uri_mut() = uri.clone();
        *head.headers_mut() = self.shared.headers.clone();
        let headers = head.headers_mut();
        match request.body {
            Some(body) => {
                headers.insert(header::CONTENT_LENGTH, body.len().into());
            }
            None => {
                headers.remove(header::CONTENT_TYPE);
            }
        }
        if let Some(secret) = request.secret {
            let bearer = HeaderValue::try_from(format!("Bearer {secret}"));
            let mut bearer = bearer.map_err(|_| FlagFailure::Connection)?;
            bearer.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, bearer);
        }
        if let Some(etag) = request.etag.and_then(|etag| HeaderValue::from_str(etag).ok()) {
            headers.insert(header::IF_NONE_MATCH, etag);
        }
        *head.method_mut() = if request.body.is_some() { Method::POST } else { Method::GET };
        Ok(head)
    }
}

fn read(answer: Response<ureq::Body>, bytes_max: usize) -> Result<FlagResponse, FlagFailure> {
    let (head, mut body) = answer.into_parts();
    let etag = head.headers.get(header::ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
    let mut bytes = Vec::with_capacity(BODY_BYTES.min(bytes_max));
    // One byte more than allowed tells a body that is too long from one that just fits.
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    match body.as_reader().take(limit).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() > bytes_max => Err(FlagFailure::TooLong),
        Ok(_) => Ok(FlagResponse { status: head.status.as_u16(), etag, body: bytes }),
        // Of a refusal, the status says it all.
        Err(_) if !head.status.is_success() => {
            Ok(FlagResponse { status: head.status.as_u16(), etag, body: Vec::new() })
        }
        Err(error) if is_timeout(&error) => Err(FlagFailure::Timeout),
        Err(_) => Err(FlagFailure::Connection),
    }
}

fn is_timeout(error: &io::Error) -> bool {
    let inner = || error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
        || matches!(inner(), Some(ureq::Error::Timeout(_)))
}
