//! Devices that do what no device should, and others that notice nothing of it.

use crate::gateway::{Folder, Gateway, PATIENCE, PROGRAM, answer, ask};
use quillet_support::Sink;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_babbling_device_waits_and_the_others_do_not() {
    let sink = Sink::start();
    let gateway =
        Gateway::start(&sink, &["--tcp", "127.0.0.1:0", "--rate", "50", "--burst", "50", "--line-bytes", "256"]);
    let mut babbling = gateway.connect();
    let started = Instant::now();
    // Far more than its rate, in one breath.
    babbling.get_mut().write_all("babble\n".repeat(100).as_bytes()).unwrap();
    let mut quiet = gateway.connect();
    let mut answer = String::new();
    for line in ["quiet device-1 n=1\n".to_owned(), format!("{}\n", "x".repeat(5000)), "quiet - n=2\n".to_owned()] {
        quiet.get_mut().write_all(line.as_bytes()).unwrap();
        quiet.read_line(&mut answer).unwrap();
    }
    let words: Vec<_> = answer.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(words, ["ok", "no", "ok"]);
    let quiet_took = started.elapsed();
    for _ in 0..100 {
        answer.clear();
        babbling.read_line(&mut answer).unwrap();
        assert!(answer.starts_with("ok "), "{answer}");
    }
    // Fifty at once, fifty at fifty a second.
    assert!(started.elapsed() > Duration::from_millis(900), "{:?}", started.elapsed());
    assert!(quiet_took < started.elapsed());
    assert!(gateway.stop(libc::SIGTERM).success());
    assert_eq!(sink.stored().len(), 102);
    sink.assert_clean();
}

/// Bytes without end, and no line among them: there is always more to read, and others have their turn all the same.
#[test]
fn a_line_without_an_end_is_nobody_elses_business() {
    const MANY: usize = 20;
    let sink = Sink::start();
    let gateway = Gateway::start(&sink, &["--tcp", "127.0.0.1:0"]);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let endless = gateway.connect().into_inner();
        let writer = endless.try_clone().unwrap();
        let is_over = &is_over;
        scope.spawn(move || {
            let mut writer = writer;
            while !is_over.load(Ordering::Relaxed) && writer.write_all(&[b'x'; 64 * 1024]).is_ok() {}
        });
        let mut told = BufReader::new(endless);
        assert_eq!(answer(&mut told), "no too_long", "once, for however much of it there is");
        let mut quiet = gateway.connect();
        for n in 0..MANY {
            assert!(ask(&mut quiet, &format!("quiet - n={n}\n")).starts_with("ok "));
        }
        is_over.store(true, Ordering::Relaxed);
        // Its end, then a line: heard.
        told.get_mut().write_all(b"\n").unwrap();
    });
    assert!(gateway.peak_kib() < 64 * 1024, "{} KiB", gateway.peak_kib());
    assert!(gateway.stop(libc::SIGTERM).success());
    assert_eq!(sink.stored().len(), MANY);
    sink.assert_clean();
}

/// `n=12` may have been going to be `n=123`. The device says all of it again, with the same uuid.
#[test]
fn half_a_line_is_no_line() {
    let sink = Sink::start();
    let gateway = Gateway::start(&sink, &["--tcp", "127.0.0.1:0"]);
    let id = "0198c0de-0000-7000-8000-000000000001";
    let mut first = gateway.connect();
    first.get_mut().write_all(format!("reading d #{id} n=12").as_bytes()).unwrap();
    first.get_mut().shutdown(Shutdown::Write).unwrap();
    assert_eq!((answer(&mut first), answer(&mut first)), ("no cut_off".to_owned(), String::new()));
    let mut again = gateway.connect();
    assert_eq!(ask(&mut again, &format!("reading d #{id} n=123\n")), format!("ok {id}"));
    assert_eq!(ask(&mut again, &format!("reading d #{id} n=123\n")), format!("ok {id}"));
    assert!(gateway.stop(libc::SIGTERM).success());
    let stored = sink.stored();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].property("n"), 123);
    sink.assert_clean();
}

/// Programs that speak something else, and devices whose memory has gone bad.
#[test]
fn what_is_no_frame_is_refused_with_a_reason() {
    let sink = Sink::start();
    let gateway = Gateway::start(&sink, &["--tcp", "127.0.0.1:0"]);
    let mut device = gateway.connect();
    let deep = format!("{{\"event\":\"x\",\"properties\":{{\"a\":{}{}}}}}", "[".repeat(3000), "]".repeat(3000));
    for line in [
        "GET / HTTP/1.1",
        "Host: localhost",
        "[1,2,3]",
        "\0\0\0",
        "a\0b",
        "\u{2028}",
        &deep,
        &"x".repeat(8000),
        &"x".repeat(9000),
        "x - #00000000-0000-0000-0000-000000000000",
        &format!("x {}", "d".repeat(300)),
        &format!("x - {}=1", "k".repeat(2000)),
        "x - =1",
    ] {
        let answer = ask(&mut device, &format!("{line}\r\n"));
        assert!(answer.starts_with("no "), "{answer} to {line:.40}");
    }
    device.get_mut().write_all(b"\xff\xfe\n").unwrap();
    assert_eq!(answer(&mut device), "no not_utf8");
    // What can be said in JSON is an event, and one that a server takes.
    for line in [r#"{"event":"a\u0000b","properties":{"\u0000":"\u0000"}}"#, "x - @18446744073709551615 a=nan b=1e400"]
    {
        let answer = ask(&mut device, &format!("{line}\n"));
        assert!(answer.starts_with("ok "), "{answer} to {line}");
    }
    assert!(gateway.stop(libc::SIGTERM).success());
    assert_eq!(sink.stored().len(), 2);
    sink.assert_clean();
}

/// More connections than there are places, each with as much of a line as is kept; more senders of datagrams than that.
#[test]
fn memory_is_bounded_whoever_comes() {
    const PLACES: usize = 300;
    let sink = Sink::start();
    let devices = PLACES.to_string();
    let options = ["--tcp", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--line-bytes", "65536", "--devices", &devices];
    let gateway = Gateway::start(&sink, &options);
    let before = gateway.peak_kib();
    let mut connections: Vec<_> = (0..PLACES).map(|_| gateway.connect()).collect();
    for connection in &mut connections {
        connection.get_mut().write_all(&[b'x'; 65_000]).unwrap();
    }
    assert_eq!(answer(&mut gateway.connect()), "later 10000 too_many_devices");
    // One after the other: datagrams that nobody has read yet are the system's to drop.
    let senders: Vec<_> = (0..=PLACES).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    for at in (0..=PLACES).chain([0]) {
        let mut bytes = [0; 100];
        senders[at].set_read_timeout(Some(PATIENCE)).unwrap();
        senders[at].send_to(b"x", gateway.udp.unwrap()).unwrap();
        let (len, _) = senders[at].recv_from(&mut bytes).unwrap();
        let is_in = bytes[..len].starts_with(b"ok ");
        assert_eq!(is_in, at < PLACES, "whoever was there stays, and one came too many: {at}");
    }
    for connection in &mut connections {
        assert_eq!(ask(connection, "\n"), "no event_name_too_long");
    }
    // The formula in `main.rs`, for these options; the rings are there before.
    let bound = PLACES * (2 * 65_536 + 9 * 1024 + 256) / 1024 + 8 * 1024;
    let took = gateway.peak_kib() - before;
    assert!(took < bound as u64, "{took} KiB of {bound}");
    assert!(gateway.stop(libc::SIGTERM).success());
}

#[test]
fn one_address_cannot_have_all_places_and_silent_ones_are_closed() {
    let sink = Sink::start();
    let options = ["--tcp", "127.0.0.1:0", "--devices", "10", "--per-address", "3", "--idle", "1"];
    let gateway = Gateway::start(&sink, &options);
    let mut connections: Vec<_> = (0..3).map(|_| gateway.connect()).collect();
    for connection in &mut connections {
        assert!(ask(connection, "x\n").starts_with("ok "));
    }
    assert_eq!(answer(&mut gateway.connect()), "later 10000 too_many_devices");
    // A second later they are gone, without a word, and there is place again.
    for connection in &mut connections {
        assert_eq!(answer(connection), "");
    }
    assert!(ask(&mut gateway.connect(), "x\n").starts_with("ok "));
    assert!(gateway.stop(libc::SIGTERM).success());
    assert_eq!(sink.stored().len(), 4);
}

/// Whoever finds no descriptor waits at the door, and comes in when others have gone.
#[test]
fn a_limit_on_open_files_is_no_end() {
    const LIMIT: usize = 64;
    let sink = Sink::start();
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit -n {LIMIT}; exec '{PROGRAM}' \"$@\""), "gateway"]);
    let gateway = Gateway::start_by(&mut limited, &sink, &["--tcp", "127.0.0.1:0"]);
    let mut connections: Vec<_> = (0..2 * LIMIT).map(|_| gateway.connect()).collect();
    assert!(ask(&mut connections[0], "first\n").starts_with("ok "));
    let mut last = connections.pop().unwrap();
    last.get_mut().write_all(b"last\n").unwrap();
    drop(connections);
    assert!(answer(&mut last).starts_with("ok "), "it was let in");
    assert!(gateway.stop(libc::SIGTERM).success());
    assert_eq!(sink.stored().len(), 2);
}

/// The file is gone, and with it what an acknowledgement would promise.
#[test]
fn a_spool_that_is_taken_away_ends_the_gateway() {
    let (folder, sink) = (Folder::new("gateway-taken"), Sink::start());
    let gateway = Gateway::start(&sink, &["--tcp", "127.0.0.1:0", "--spool", folder.path()]);
    let mut device = gateway.connect();
    assert!(ask(&mut device, "before\n").starts_with("ok "));
    std::fs::remove_dir_all(folder.path()).unwrap();
    assert_eq!(gateway.wait().code(), Some(1));
    assert_eq!(sink.stored().len(), 1, "what was acknowledged is delivered all the same");
}
