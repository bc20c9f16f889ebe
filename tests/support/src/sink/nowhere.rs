//! Addresses at which nobody answers.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// An address whose connections are neither accepted nor refused: a client waits in vain for its SYN to be answered.
///
/// Dropping it refuses those that wait.
#[derive(Debug)]
pub struct NeverAccepts {
    listener: TcpListener,
    /// They fill the listener's backlog, which is 128 on Linux.
    _waiting: Vec<TcpStream>,
}

impl NeverAccepts {
    /// Where nobody accepts.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The address as a client's host.
    pub fn host(&self) -> String {
        self.addr().map(|addr| format!("http://{addr}")).unwrap_or_default()
    }
}

/// Listens, fills the backlog and never accepts.
///
/// # Errors
///
/// What the socket says, or `Unsupported` where the backlog has no end within 8192 connections.
pub fn never_accepts() -> io::Result<NeverAccepts> {
    const CONNECTIONS_MAX: usize = 8192;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let addr = listener.local_addr()?;
    let mut waiting = Vec::new();
    // An unanswered SYN is sent again after a second, so this is long enough to know, and short enough not to see that.
    while waiting.len() < CONNECTIONS_MAX {
        match TcpStream::connect_timeout(&addr, Duration::from_millis(200)) {
            Ok(stream) => waiting.push(stream),
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                return Ok(NeverAccepts { listener, _waiting: waiting });
            }
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::Unsupported.into())
}

/// The host of a port on which nobody listens: connections are refused at once.
///
/// The port was free a moment ago; nothing keeps the system from giving it to somebody else later.
///
/// # Errors
///
/// What the socket says.
pub fn refuses() -> io::Result<String> {
    let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    Ok(format!("http://{addr}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn nobody_accepts() {
        let nowhere = never_accepts().unwrap();
        let error = TcpStream::connect_timeout(&nowhere.addr().unwrap(), Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn a_closed_port_refuses() {
        let host = refuses().unwrap();
        let error = TcpStream::connect(host.trim_start_matches("http://")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
}
