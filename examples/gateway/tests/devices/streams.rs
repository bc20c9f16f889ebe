//! Devices that are not at the other end of a connection: datagrams, standard input, a serial line.

use crate::gateway::{Folder, Gateway, PATIENCE, answer};
use quillet_support::Sink;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn datagrams_and_standard_input_are_heard_too() {
    let sink = Sink::start();
    let mut gateway = Gateway::start(&sink, &["--udp", "127.0.0.1:0", "--stdin", "--rate", "5", "--burst", "5"]);
    let device = UdpSocket::bind("127.0.0.1:0").unwrap();
    device.set_read_timeout(Some(PATIENCE)).unwrap();
    device.send_to("tick - n=1\n\n{\ntick - n=2".as_bytes(), gateway.udp.unwrap()).unwrap();
    let mut bytes = [0; 1024];
    let (len, _) = device.recv_from(&mut bytes).unwrap();
    let answers = String::from_utf8_lossy(&bytes[..len]).into_owned();
    let words: Vec<_> = answers.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(words, ["ok", "no", "ok"]);
    device.send_to(b"tick\ntick\ntick\ntick", gateway.udp.unwrap()).unwrap();
    let (len, _) = device.recv_from(&mut bytes).unwrap();
    assert!(String::from_utf8_lossy(&bytes[..len]).contains("too_fast"));
    gateway.child.stdin.take().unwrap().write_all(b"from stdin").unwrap();
    assert!(sink.wait_for(|journal| journal.stored().iter().any(|event| event.name() == "from"), PATIENCE));
    assert!(gateway.stop(libc::SIGTERM).success());
    sink.assert_clean();
}

/// A pipe says everything once: where there is no room, it waits.
#[test]
fn nothing_of_standard_input_is_put_off() {
    let sink = Sink::start();
    let mut gateway = Gateway::start(&sink, &["--stdin", "--queue", "1", "--rate", "1000", "--burst", "1000"]);
    gateway.child.stdin.take().unwrap().write_all(b"x\nx\nx").unwrap();
    for _ in 0..3 {
        assert!(answer(&mut gateway.stdout).starts_with("ok "));
    }
    assert!(gateway.wait().success(), "its end is the gateway's");
    assert_eq!(sink.stored().len(), 3);
    sink.assert_clean();
}

/// The two ends of a serial line: what the device has, and where the other one lies.
fn serial_line() -> (File, PathBuf) {
    let device = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&device).unwrap();
    unlockpt(&device).unwrap();
    let path = PathBuf::from(ptsname(&device, Vec::new()).unwrap().into_string().unwrap());
    // As `stty raw -echo` does.
    let mut settings = tcgetattr(&device).unwrap();
    settings.make_raw();
    tcsetattr(&device, OptionalActions::Now, &settings).unwrap();
    (device.into(), path)
}

/// One line, without its end.
#[track_caller]
fn read_line(device: &mut File) -> String {
    let (started, mut line, mut byte) = (Instant::now(), Vec::new(), [0]);
    fcntl_setfl(&*device, OFlags::NONBLOCK).unwrap();
    loop {
        match device.read(&mut byte) {
            Ok(1) if byte == *b"\n" => return String::from_utf8(line).unwrap(),
            Ok(1) => line.push(byte[0]),
            _ => thread::sleep(Duration::from_millis(5)),
        }
        assert!(started.elapsed() < PATIENCE, "no answer on the serial line");
    }
}

#[test]
fn a_serial_line_is_answered_and_survives_being_unplugged() {
    let (folder, sink) = (Folder::new("gateway-serial"), Sink::start());
    std::fs::create_dir_all(folder.path()).unwrap();
    let path = format!("{}/tty", folder.path());
    let (mut device, end) = serial_line();
    symlink(&end, &path).unwrap();
    let gateway = Gateway::start(&sink, &["--serial", &path]);
    device.write_all(b"reading - n=1\r\nnonsense: yes\nreading sensor-2 n=2\n").unwrap();
    let answers: Vec<_> = (0..3).map(|_| read_line(&mut device)).collect();
    assert!(answers[0].starts_with("ok ") && answers[2].starts_with("ok "), "{answers:?}");
    assert_eq!(answers[1], "no bad_event");

    // Half a line, and the plug is pulled; then there is another one in the same place.
    device.write_all(b"reading - n=3").unwrap();
    drop(device);
    let (mut device, end) = serial_line();
    std::fs::remove_file(&path).unwrap();
    symlink(&end, &path).unwrap();
    device.write_all(b"reading - n=34\n").unwrap();
    assert!(read_line(&mut device).starts_with("ok "));
    assert!(gateway.stop(libc::SIGTERM).success());
    let stored = sink.stored();
    let numbers: Vec<_> = stored.iter().map(|event| event.property("n").as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 34]);
    assert_eq!((stored[0].distinct_id(), stored[1].distinct_id()), (path.as_str(), "sensor-2"));
    sink.assert_clean();
}

/// It would be read from its beginning again and again.
#[test]
fn a_file_is_no_serial_line() {
    let (folder, sink) = (Folder::new("gateway-file"), Sink::start());
    std::fs::create_dir_all(folder.path()).unwrap();
    let path = format!("{}/file", folder.path());
    std::fs::write(&path, "x\n").unwrap();
    assert_eq!(Gateway::start(&sink, &["--serial", &path]).wait().code(), Some(1));
    assert_eq!(sink.stored().len(), 0);
}
