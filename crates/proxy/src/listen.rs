//! Listening sockets: one of each address and port for every worker.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

/// Ports of listeners, and those that are listened on in their place.
pub type PortMap = BTreeMap<u16, u16>;

/// Where a port of a plan is listened on.
pub(crate) fn place(address: IpAddr, port: u16, map: &PortMap) -> SocketAddr {
    SocketAddr::new(address, map.get(&port).copied().unwrap_or(port))
}

/// Opens a socket beside those of the other workers; the kernel spreads connections over all of them.
pub(crate) fn open(at: SocketAddr, kind: Type) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(at), kind.nonblocking().cloexec(), Some(protocol))?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Only for streams: connections that are in their last wait must not keep a new process from starting.
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.set_reuse_port(true)?;
    socket.bind(&at.into())?;
    if kind == Type::STREAM {
        socket.listen(4096)?;
    }
    Ok(socket)
}

/// A stream listener in the worker's runtime.
pub(crate) fn stream(socket: Socket) -> io::Result<TcpListener> {
    TcpListener::from_std(socket.into())
}

/// A datagram socket in the worker's runtime.
pub(crate) fn datagram(socket: Socket) -> io::Result<UdpSocket> {
    UdpSocket::from_std(socket.into())
}
