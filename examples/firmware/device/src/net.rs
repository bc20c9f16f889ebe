//! One TCP connection at a time over Ethernet, as the byte stream that the HTTP client wants.

use crate::uptime::{idle, now};
use core::fmt;
use core::time::Duration;
use embedded_io::{ErrorKind, ErrorType, Read, Write};
use quillet_core::Instant;
use quillet_core::http::Link;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::Device;
use smoltcp::socket::tcp;
use smoltcp::time::Instant as NetInstant;
use smoltcp::wire::{EthernetAddress, IpCidr, IpEndpoint, Ipv4Address};

/// How long a read or write waits before it lets its caller look at the clock.
const PATIENCE: Duration = Duration::from_millis(10);

/// Memory of the one socket.
pub struct Buffers {
    sockets: [SocketStorage<'static>; 1],
    received: [u8; 1024],
    to_send: [u8; 2048],
}

impl Buffers {
    /// Empty ones, for a `static`.
    pub const fn new() -> Self {
        Self { sockets: [SocketStorage::EMPTY], received: [0; 1024], to_send: [0; 2048] }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}

/// The network stack of a board, connected to one server.
pub struct Net<D: Device> {
    device: D,
    interface: Interface,
    sockets: SocketSet<'static>,
    tcp: SocketHandle,
    server: IpEndpoint,
    /// A new one for each connection: the server may still be busy with the last.
    local_port: u16,
}

impl<D: Device> Net<D> {
    /// The addresses are those of QEMU's user network.
    pub fn new(mut device: D, mac: [u8; 6], server: ([u8; 4], u16), buffers: &'static mut Buffers) -> Self {
        let mut interface = Interface::new(Config::new(EthernetAddress(mac).into()), &mut device, clock());
        interface.update_ip_addrs(|addresses| {
            // There is room for one: the list is empty.
            let _ = addresses.push(IpCidr::new(Ipv4Address::new(10, 0, 2, 15).into(), 24));
        });
        let _ = interface.routes_mut().add_default_ipv4_route(Ipv4Address::new(10, 0, 2, 2));
        let mut sockets = SocketSet::new(&mut buffers.sockets[..]);
        let received = tcp::SocketBuffer::new(&mut buffers.received[..]);
        let to_send = tcp::SocketBuffer::new(&mut buffers.to_send[..]);
        let tcp = sockets.add(tcp::Socket::new(received, to_send));
        let server = IpEndpoint::new(Ipv4Address::from(server.0).into(), server.1);
        Self { device, interface, sockets, tcp, server, local_port: 49_152 }
    }

    fn poll(&mut self) -> &mut tcp::Socket<'static> {
        self.interface.poll(clock(), &mut self.device, &mut self.sockets);
        self.sockets.get_mut(self.tcp)
    }

    /// Polls until something comes of it, or `PATIENCE` is over.
    fn wait_for<T>(
        &mut self,
        mut something: impl FnMut(&mut tcp::Socket<'static>) -> Option<Result<T, NetError>>,
    ) -> Result<T, NetError> {
        let until = now().after(PATIENCE);
        loop {
            if let Some(result) = something(self.poll()) {
                return result;
            }
            if now() >= until {
                return Err(NetError(ErrorKind::Interrupted));
            }
            idle();
        }
    }
}

fn clock() -> NetInstant {
    NetInstant::from_micros(i64::try_from(now().as_micros()).unwrap_or(i64::MAX))
}

/// Why the stream is of no use, or, if interrupted, for now.
#[derive(Clone, Copy, Debug)]
pub struct NetError(ErrorKind);

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl core::error::Error for NetError {}

impl embedded_io::Error for NetError {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

impl<D: Device> ErrorType for Net<D> {
    type Error = NetError;
}

impl<D: Device> Read for Net<D> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, NetError> {
        self.wait_for(|socket| {
            if socket.can_recv() {
                Some(socket.recv_slice(bytes).map_err(|_| NetError(ErrorKind::ConnectionReset)))
            } else if socket.may_recv() {
                None
            } else {
                Some(Ok(0))
            }
        })
    }
}

impl<D: Device> Write for Net<D> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, NetError> {
        self.wait_for(|socket| {
            if socket.can_send() {
                Some(socket.send_slice(bytes).map_err(|_| NetError(ErrorKind::ConnectionReset)))
            } else if socket.may_send() {
                None
            } else {
                Some(Err(NetError(ErrorKind::BrokenPipe)))
            }
        })
    }

    fn flush(&mut self) -> Result<(), NetError> {
        self.poll();
        Ok(())
    }
}

impl<D: Device> Link for Net<D> {
    fn open(&mut self, by: Instant) -> Result<(), NetError> {
        self.close();
        self.local_port = self.local_port.checked_add(1).unwrap_or(49_152);
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.tcp);
        let told = socket.connect(self.interface.context(), self.server, self.local_port);
        told.map_err(|_| NetError(ErrorKind::InvalidInput))?;
        loop {
            let connected = self.wait_for(|socket| {
                if socket.may_send() {
                    Some(Ok(()))
                } else if socket.is_open() {
                    None
                } else {
                    Some(Err(NetError(ErrorKind::ConnectionRefused)))
                }
            });
            match connected {
                Err(NetError(ErrorKind::Interrupted)) if now() < by => {}
                ended => return ended,
            }
        }
    }

    fn close(&mut self) {
        self.sockets.get_mut::<tcp::Socket<'_>>(self.tcp).abort();
        self.poll();
    }
}
