//! Against real sockets on loopback whose other end each test scripts, down to the byte and the reset.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use core::time::Duration;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use quillet_core::{Answer, Outcome, Transport};

use super::{HttpTransport, INPUT_BYTES, wall_time};
use crate::config::ClientBuilder;
use crate::transport::testing::{body_of, with_batch};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"status\":1}";

/// Long enough to mean that something hangs.
const LONG: Duration = Duration::from_secs(30);

/// Far more than a loopback exchange takes, and far less than [`LONG`].
const SOON: Duration = Duration::from_secs(5);

/// One request as a server saw it.
struct Received {
    /// Request line and headers as sent.
    head: String,
    body: Vec<u8>,
    /// Which connection of the server it came over, from 0.
    connection: usize,
}

impl Received {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (known, value) = line.split_once(": ")?;
            known.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// The server's end of a connection.
struct Peer {
    stream: TcpStream,
    connection: usize,
}

impl Peer {
    fn write(&mut self, bytes: &[u8]) {
        // The client may have gone, which is what some tests are about.
        let _ = self.stream.write_all(bytes);
    }

    /// Reads to the end of the head, and returns it with what came behind.
    fn head(&mut self) -> Option<(String, Vec<u8>)> {
        let mut bytes = Vec::new();
        let mut buf = [0; 65_536];
        loop {
            let read = self.stream.read(&mut buf).ok().filter(|&read| read > 0)?;
            bytes.extend_from_slice(&buf[..read]);
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                let body = bytes.split_off(end + 4);
                return Some((String::from_utf8(bytes).unwrap(), body));
            }
        }
    }

    fn request(&mut self) -> Option<Received> {
        let (head, body) = self.head()?;
        let mut received = Received { head, body, connection: self.connection };
        let length: usize = received.header("content-length").unwrap().parse().unwrap();
        let rest = u64::try_from(length - received.body.len()).unwrap();
        (&self.stream).take(rest).read_to_end(&mut received.body).ok()?;
        assert_eq!(received.body.len(), length);
        Some(received)
    }
}

/// Accepts `connections` connections, one after the other, and lets `script` have each; the receiver gets what it
/// returns. Then the port is closed.
fn serve<T: Send + 'static>(
    connections: usize,
    mut script: impl FnMut(&mut Peer, &mut dyn FnMut(T)) + Send + 'static,
) -> (SocketAddr, Receiver<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for connection in 0..connections {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(LONG)).unwrap();
            script(&mut Peer { stream, connection }, &mut |value| drop(sender.send(value)));
        }
    });
    (address, receiver)
}

/// Answers every request on `connections` connections with the next of `answers`, and leaves the connection open.
fn serve_answers(connections: usize, answers: Vec<Vec<u8>>) -> (SocketAddr, Receiver<Received>) {
    let mut answers = answers.into_iter();
    serve(connections, move |peer, tell| {
        while let Some(request) = peer.request() {
            tell(request);
            match answers.next() {
                Some(answer) => peer.write(&answer),
                None => return,
            }
        }
    })
}

fn builder(address: SocketAddr) -> ClientBuilder {
    ClientBuilder::new("phc_test").host(format!("http://{address}")).proxy(None).request_timeout(LONG)
}

fn transport(address: SocketAddr) -> HttpTransport {
    builder(address).http_transport().unwrap()
}

fn send(transport: &mut HttpTransport) -> Outcome {
    with_batch(2, 300, None, |batch| transport.send(batch))
}

fn send_events(transport: &mut HttpTransport, events: usize, bytes: usize) -> Outcome {
    with_batch(events, bytes, None, |batch| transport.send(batch))
}

/// Runs `what` and asserts that it did not take long.
#[track_caller]
fn soon<T>(what: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = what();
    assert!(started.elapsed() < SOON, "took {:?}", started.elapsed());
    result
}

#[test]
fn a_request_is_exactly_what_the_protocol_asks_for() {
    let (address, requests) = serve_answers(1, vec![OK.to_vec()]);
    let builder = builder(address).host(format!(" http://{address}/ingest// ")).header("X-Test-Id", "a b");
    assert_eq!(send(&mut builder.http_transport().unwrap()), Outcome::status(200));

    let request = requests.recv_timeout(LONG).unwrap();
    assert_eq!(request.head.lines().next(), Some("POST /ingest/batch/ HTTP/1.1"));
    assert_eq!(request.header("host"), Some(address.to_string().as_str()));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("user-agent"), Some(concat!("quillet/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(request.header("x-test-id"), Some("a b"));
    for absent in ["transfer-encoding", "content-encoding", "accept-encoding", "expect", "authorization", "cookie"] {
        assert_eq!(request.header(absent), None, "{absent}");
    }
    assert_eq!(request.body, body_of(2, 300));
}

#[test]
fn a_large_body_arrives_as_it_was_in_the_ring() {
    let (address, requests) = serve_answers(1, vec![OK.to_vec()]);
    assert_eq!(send_events(&mut transport(address), 4000, 500), Outcome::status(200));
    assert!(requests.recv_timeout(LONG).unwrap().body == body_of(4000, 500));
}

#[test]
fn sent_at_is_written_only_when_asked_for_and_is_now() {
    let (address, requests) = serve_answers(1, vec![OK.to_vec()]);
    let before = wall_time().unwrap();
    assert_eq!(send(&mut builder(address).sent_at(true).http_transport().unwrap()), Outcome::status(200));
    let body = String::from_utf8(requests.recv_timeout(LONG).unwrap().body).unwrap();
    let text = body.split("\"sent_at\":\"").nth(1).unwrap().trim_end_matches("\"}");
    let sent_at = quillet_core::Timestamp::parse(text).unwrap();
    assert!(before <= sent_at && sent_at <= wall_time().unwrap(), "{text}");
}

#[test]
fn every_status_comes_back_over_one_connection_and_no_redirect_is_followed() {
    let statuses = [200, 204, 301, 302, 307, 308, 400, 401, 402, 403, 404, 413, 429, 500, 502, 503, 504, 599];
    let answer = |status| match status {
        204 => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        _ => {
            format!("HTTP/1.1 {status} X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 2\r\n\r\nok").into_bytes()
        }
    };
    let (address, requests) = serve_answers(1, statuses.map(answer).to_vec());
    let mut transport = transport(address);
    for status in statuses {
        assert_eq!(send(&mut transport), Outcome::status(status));
        assert_eq!(requests.recv_timeout(LONG).unwrap().connection, 0, "{status}");
        assert_eq!(transport.last_error(), None);
    }
}

#[test]
fn retry_after_is_read_in_its_forms() {
    for (value, seconds) in [
        ("3", Some(3)),
        (" 120 ", Some(120)),
        ("0", None),
        ("-1", None),
        ("soon", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT", None),
    ] {
        let answer = format!("HTTP/1.1 429 X\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n");
        let (address, _requests) = serve_answers(1, vec![answer.into_bytes()]);
        let mut expected = Answer::new(429);
        expected.retry_after = seconds.map(Duration::from_secs);
        assert_eq!(send(&mut transport(address)), Outcome::Answered(expected), "{value:?}");
    }
}

#[test]
fn retry_after_as_a_date_is_a_wait_from_now() {
    let answer = b"HTTP/1.1 503 X\r\nRetry-After: Fri, 31 Dec 2049 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n";
    let (address, _requests) = serve_answers(1, vec![answer.to_vec()]);
    match send(&mut transport(address)) {
        Outcome::Answered(Answer { status: 503, retry_after: Some(wait), .. }) => assert!(wait > LONG),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_page_is_told_apart_from_an_answer() {
    for (kind, body, html) in [
        ("application/json", "{\"status\":1}", false),
        ("text/plain", "ok", false),
        ("text/plain", "", false),
        ("text/html", "hello", true),
        ("TEXT/HTML; charset=utf-8", "", true),
        ("application/xhtml+xml", "x", true),
        ("text/htmlx", "x", false),
        ("application/json", "<!doctype html>", true),
        ("application/json", "\u{feff}\r\n\t <html>", true),
        ("application/json", "{\"a\":\"<html>\"}", false),
    ] {
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}");
        let (address, _requests) = serve_answers(1, vec![answer.into_bytes()]);
        let mut expected = Answer::new(200);
        expected.html = html;
        assert_eq!(send(&mut transport(address)), Outcome::Answered(expected), "{kind} {body:?}");
    }
}

#[test]
fn half_an_answer_is_none_unless_it_is_a_refusal() {
    for (answer, outcome) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"stat", Outcome::NoAnswer),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", Outcome::NoAnswer),
        ("HTTP/1.1 200 OK\r\nContent-Le", Outcome::NoAnswer),
        ("HTTP/1.1 503 X\r\nContent-Length: 100\r\n\r\nbusy", Outcome::status(503)),
        ("HTTP/1.1 413 X\r\nContent-Length: 100\r\n\r\n", Outcome::status(413)),
        ("SSH-2.0-OpenSSH_9.6\r\n", Outcome::NoAnswer),
        ("", Outcome::NoAnswer),
        // Without a length, the end of the connection is the end of the body.
        ("HTTP/1.1 200 OK\r\n\r\n{\"status\":1}", Outcome::status(200)),
        ("HTTP/1.0 200 OK\r\n\r\n", Outcome::status(200)),
    ] {
        let (address, requests) = serve(1, move |peer, tell| {
            tell(peer.request().unwrap());
            peer.write(answer.as_bytes());
        });
        let mut transport = transport(address);
        assert_eq!(soon(|| send(&mut transport)), outcome, "{answer:?}");
        assert_eq!(transport.last_error().is_some(), outcome == Outcome::NoAnswer, "{answer:?}");
        assert_eq!(requests.iter().count(), 1, "{answer:?}: a new connection is used once");
    }
}

#[test]
fn a_reset_in_the_middle_of_an_answer_is_no_answer() {
    let (address, _requests) = serve(1, |peer, tell: &mut dyn FnMut(())| {
        // Closing with bytes unread makes the kernel send a reset.
        peer.head().unwrap();
        peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{");
        tell(());
    });
    assert_eq!(soon(|| send_events(&mut transport(address), 1000, 1000)), Outcome::NoAnswer);
}

#[test]
fn a_refusal_that_comes_before_the_body_was_read_is_heard() {
    let (address, _requests) = serve(1, |peer, tell: &mut dyn FnMut(())| {
        peer.head().unwrap();
        peer.write(b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 0\r\n\r\n");
        tell(());
    });
    assert_eq!(soon(|| send_events(&mut transport(address), 4000, 1000)), Outcome::status(413));
}

#[test]
fn a_connection_closed_between_two_requests_costs_no_attempt() {
    // As the compliance harness does: an answer, no word about closing, and then closed.
    let (address, requests) = serve(5, |peer, tell| {
        tell(peer.request().unwrap());
        peer.write(OK);
    });
    let mut transport = transport(address);
    for connection in 0..5 {
        assert_eq!(soon(|| send(&mut transport)), Outcome::status(200));
        assert_eq!(requests.recv_timeout(LONG).unwrap().connection, connection);
    }
}

#[test]
fn a_pooled_connection_that_dies_under_a_request_costs_no_attempt() {
    for swallow_body in [true, false] {
        let (address, requests) = serve(2, move |peer, tell| {
            tell(peer.request().unwrap());
            peer.write(OK);
            if peer.connection == 0 {
                // The next request is on its way when the connection ends: with a reset unless all of it was read.
                if swallow_body { drop(peer.request()) } else { drop(peer.head()) }
            }
        });
        let mut transport = transport(address);
        for connection in 0..2 {
            assert_eq!(soon(|| send_events(&mut transport, 1000, 1000)), Outcome::status(200), "{swallow_body}");
            assert_eq!(requests.recv_timeout(LONG).unwrap().connection, connection);
        }
    }
}

#[test]
fn an_answer_that_drips_is_cut_by_the_timeout() {
    let (address, _requests) = serve(1, |peer, tell: &mut dyn FnMut(())| {
        peer.request().unwrap();
        for byte in OK.iter().chain([b' '; 1000].iter()) {
            if peer.stream.write_all(&[*byte]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        tell(());
    });
    let mut transport = builder(address).request_timeout(Duration::from_millis(300)).http_transport().unwrap();
    assert_eq!(soon(|| send(&mut transport)), Outcome::NoAnswer);
    assert!(transport.last_error().unwrap().contains("timeout"), "{:?}", transport.last_error());
}

#[test]
fn a_server_that_reads_a_byte_now_and_then_is_cut_by_the_timeout() {
    let (stop, stopped) = mpsc::channel::<()>();
    let (address, _requests) = serve(1, move |peer, tell: &mut dyn FnMut(())| {
        let mut buf = [0; 4096];
        while stopped.recv_timeout(Duration::from_millis(5)) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = peer.stream.read(&mut buf);
        }
        tell(());
    });
    let mut transport = builder(address).request_timeout(Duration::from_millis(300)).http_transport().unwrap();
    assert_eq!(soon(|| send_events(&mut transport, 16_000, 1000)), Outcome::NoAnswer);
    drop(stop);
}

#[test]
fn the_deadline_of_a_batch_is_earlier_than_the_timeout() {
    let (address, _requests) = serve(1, |peer, tell: &mut dyn FnMut(())| {
        peer.request().unwrap();
        let _ = peer.stream.read(&mut [0]);
        tell(());
    });
    let mut transport = transport(address);
    let until = |transport: &HttpTransport, more| {
        let now = quillet_core::Clock::now(&transport.shared.clock);
        Some(Duration::from_micros(now.as_micros()) + more)
    };
    let deadline = until(&transport, Duration::from_millis(200));
    assert_eq!(soon(|| with_batch(1, 300, deadline, |batch| transport.send(batch))), Outcome::NoAnswer);

    thread::sleep(Duration::from_millis(2));
    let past = until(&transport, Duration::ZERO);
    thread::sleep(Duration::from_millis(2));
    assert_eq!(with_batch(1, 300, past, |batch| transport.send(batch)), Outcome::Unreachable);
}

#[test]
fn nobody_listening_is_unreachable() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut transport = transport(address);
    assert_eq!(soon(|| send(&mut transport)), Outcome::Unreachable);
    assert!(transport.last_error().unwrap().contains("not connected"), "{:?}", transport.last_error());
}

#[test]
fn a_resolver_decides_where_a_name_leads() {
    let (address, requests) = serve_answers(1, vec![OK.to_vec(), OK.to_vec()]);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let builder = builder(address).host("http://events.example:8000").resolver(move |name, port| {
        assert_eq!((name, port), ("events.example", 8000));
        Ok(vec![closed, address])
    });
    let mut transport = builder.http_transport().unwrap();
    for _ in 0..2 {
        assert_eq!(soon(|| send(&mut transport)), Outcome::status(200));
        assert_eq!(requests.recv_timeout(LONG).unwrap().header("host"), Some("events.example:8000"));
    }
}

#[test]
fn a_name_that_is_none_is_unreachable() {
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let builder = builder(nowhere).host("http://events.example").resolver(|_, _| Ok(Vec::new()));
    assert_eq!(send(&mut builder.http_transport().unwrap()), Outcome::Unreachable);
}

#[test]
fn a_resolver_that_hangs_is_cut_by_the_timeout() {
    let (_hang, hung) = mpsc::channel::<()>();
    let hung = std::sync::Mutex::new(hung);
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let builder = builder(nowhere).host("http://events.example").request_timeout(Duration::from_millis(200));
    let mut transport = builder
        .resolver(move |_, _| {
            let _ = hung.lock().unwrap().recv();
            Ok(Vec::new())
        })
        .http_transport()
        .unwrap();
    for _ in 0..2 {
        assert_eq!(soon(|| send(&mut transport)), Outcome::Unreachable);
    }
}

#[test]
fn an_abort_ends_what_is_under_way_and_what_comes_after() {
    let (address, requests) = serve(1, |peer, tell| {
        tell(peer.request().unwrap());
        // Ends when the client closes.
        let _ = peer.stream.read(&mut [0]);
    });
    let transport = transport(address);
    let mut clone = transport.clone();
    let sending = thread::spawn(move || (send(&mut clone), send(&mut clone)));
    requests.recv_timeout(LONG).unwrap();
    transport.abort();
    assert_eq!(soon(|| sending.join().unwrap()), (Outcome::NoAnswer, Outcome::Unreachable));
}

#[test]
fn an_abort_ends_a_lookup() {
    let (_hang, hung) = mpsc::channel::<()>();
    let hung = std::sync::Mutex::new(hung);
    let (begun, begins) = mpsc::channel();
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let builder = builder(nowhere).host("http://events.example").resolver(move |_, _| {
        begun.send(()).unwrap();
        let _ = hung.lock().unwrap().recv();
        Ok(Vec::new())
    });
    let transport = builder.http_transport().unwrap();
    let mut clone = transport.clone();
    let sending = thread::spawn(move || send(&mut clone));
    begins.recv_timeout(LONG).unwrap();
    transport.abort();
    assert_eq!(soon(|| sending.join().unwrap()), Outcome::Unreachable);
}

#[test]
fn an_answer_without_end_is_not_read_to_its_end() {
    let (address, requests) = serve(2, |peer, tell| {
        tell(peer.request().unwrap());
        if peer.connection == 0 {
            peer.write(b"HTTP/1.1 200 OK\r\n\r\n");
            while peer.stream.write_all(&[b' '; 4096]).is_ok() {}
        } else {
            peer.write(OK);
        }
    });
    let mut transport = transport(address);
    for connection in 0..2 {
        assert_eq!(soon(|| send(&mut transport)), Outcome::status(200));
        assert_eq!(requests.recv_timeout(LONG).unwrap().connection, connection);
    }
}

#[test]
fn a_head_that_is_too_long_is_no_answer() {
    let answer = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(INPUT_BYTES));
    let (address, _requests) = serve_answers(1, vec![answer.into_bytes()]);
    assert_eq!(soon(|| send(&mut transport(address))), Outcome::NoAnswer);
}

#[test]
fn early_hints_are_not_the_answer() {
    let answer = [b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", OK].concat();
    let (address, _requests) = serve_answers(1, vec![answer]);
    assert_eq!(soon(|| send(&mut transport(address))), Outcome::status(200));
}

#[test]
fn a_child_of_a_fork_makes_its_own_connection() {
    let (address, requests) = serve(2, |peer, tell| {
        tell(peer.request().unwrap());
        peer.write(OK);
        if peer.connection == 1 {
            let _ = peer.stream.read(&mut [0]);
        }
    });
    let mut transport = transport(address);
    assert_eq!(send(&mut transport), Outcome::status(200));
    assert_eq!(requests.recv_timeout(LONG).unwrap().connection, 0);
    // What a child would find: somebody else's process id.
    transport.shared.live.lock().unwrap().pid ^= 1;
    assert_eq!(send(&mut transport), Outcome::status(200));
    assert_eq!(requests.recv_timeout(LONG).unwrap().connection, 1);
}

#[test]
fn a_proxy_is_asked_for_a_tunnel_and_its_refusal_is_unreachable() {
    let nowhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
    for (answer, outcome) in [
        ("HTTP/1.1 200 Connection established\r\n\r\n", Outcome::status(200)),
        ("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", Outcome::Unreachable),
    ] {
        let (proxy, heads) = serve(1, move |peer, tell| {
            tell(peer.head().unwrap().0);
            peer.write(answer.as_bytes());
            if let Some(request) = peer.request() {
                tell(request.head);
                peer.write(OK);
            }
        });
        let builder = builder(nowhere).host("http://events.example").proxy(Some(&format!("http://{proxy}")));
        // The proxy looks the name up, so this resolver is asked for the proxy's at most.
        let builder =
            builder.resolver(move |name, _| if name == "127.0.0.1" { Ok(vec![proxy]) } else { Ok(Vec::new()) });
        assert_eq!(soon(|| send(&mut builder.http_transport().unwrap())), outcome);
        assert!(heads.recv_timeout(LONG).unwrap().starts_with("CONNECT events.example:80 HTTP/1.1\r\n"));
        if outcome == Outcome::status(200) {
            assert!(heads.recv_timeout(LONG).unwrap().starts_with("POST /batch/ HTTP/1.1\r\n"));
        }
    }
}

#[test]
fn a_tls_handshake_that_fails_is_unreachable() {
    if !cfg!(any(feature = "rustls", feature = "native-tls")) {
        return;
    }
    let (address, _hello) = serve(1, |peer, tell: &mut dyn FnMut(())| {
        let _ = peer.stream.read(&mut [0; 4096]);
        peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\nplain HTTP was sent to ... no, the other way round");
        tell(());
    });
    let mut transport = builder(address).host(format!("https://{address}")).http_transport().unwrap();
    assert_eq!(soon(|| send(&mut transport)), Outcome::Unreachable);
}

#[cfg(feature = "gzip")]
#[test]
fn a_compressed_body_says_so_and_unpacks_to_the_same() {
    let (address, requests) = serve_answers(1, vec![OK.to_vec(); 3]);
    let mut transport = builder(address).gzip(true).http_transport().unwrap();
    for (events, bytes) in [(10, 300), (2000, 500), (1, 200)] {
        assert_eq!(send_events(&mut transport, events, bytes), Outcome::status(200));
        let request = requests.recv_timeout(LONG).unwrap();
        assert_eq!(request.header("content-encoding"), Some("gzip"));
        let mut body = Vec::new();
        flate2::read::GzDecoder::new(&request.body[..]).read_to_end(&mut body).unwrap();
        assert!(body == body_of(events, bytes));
        assert!(request.body.len() < body.len() / 4 || events == 1);
    }
}

#[test]
fn debug_output_shows_no_header_value() {
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let transport = builder(nowhere).header("Authorization", "Basic c2VjcmV0").http_transport().unwrap();
    assert!(!format!("{transport:?} {:?}", transport.shared.headers).contains("c2VjcmV0"));
}
