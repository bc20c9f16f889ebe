//! A connection of a device, as QEMU hands it over: standard input and output, here joined to the server's socket.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::process::ExitCode;
use std::thread;

/// Copies both ways until either side ends.
pub fn run(port: &str) -> ExitCode {
    let Some(stream) = port.parse().ok().and_then(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()) else {
        return ExitCode::FAILURE;
    };
    let Ok(mut from_server) = stream.try_clone() else { return ExitCode::FAILURE };
    let mut to_server = stream;
    thread::spawn(move || {
        let _ = copy(&mut io::stdin().lock(), &mut to_server);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    let _ = copy(&mut from_server, &mut io::stdout().lock());
    ExitCode::SUCCESS
}

/// As `io::copy`, but what has come is passed on at once.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        let len = from.read(&mut bytes)?;
        if len == 0 {
            return Ok(());
        }
        to.write_all(bytes.get(..len).unwrap_or_default())?;
        to.flush()?;
    }
}
