//! Listening sockets: one of each address and port for every worker.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    sync::{Arc, atomic::AtomicUsize},
};

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

/// Ports of listeners, and those that are listened on in their place.
pub type PortMap = BTreeMap<u16, u16>;

/// Where a socket listens, and whether for datagrams.
pub(crate) type Place = (SocketAddr, bool);

/// All places, each with its sockets.
pub(crate) type Sockets = BTreeMap<Place, Arc<Listening>>;

/// The sockets of a place: the kernel spreads connections and datagrams over all of them.
///
/// The gate keeps them, workers hold duplicates: so that they can be handed to another process whatever the workers do, and what waits in
/// the backlog of one is never lost while another one is opened or closed.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    sockets: Vec<Socket>,
    /// Open connections that came from here.
    connections: Count,
    /// The half that this process reads, of those for HTTP/3.
    #[cfg(feature = "http3")]
    half: Option<usize>,
}

/// A number of connections.
pub(crate) type Count = Arc<AtomicUsize>;

impl Listening {
    /// Opens one socket for every worker, beside those that are there already. Inherited ones for datagrams stay as many as they are: by
    /// their number the kernel tells clients apart.
    pub(crate) fn open(place: Place, workers: usize, sockets: Vec<Socket>) -> io::Result<Self> {
        let count = if place.1 && !sockets.is_empty() { sockets.len() } else { workers };
        Self::opened(place, count, sockets)
    }

    fn opened(place: Place, count: usize, mut sockets: Vec<Socket>) -> io::Result<Self> {
        while sockets.len() < count {
            sockets.push(open(place.0, if place.1 { Type::DGRAM } else { Type::STREAM })?);
        }
        Ok(Self { sockets, ..Self::default() })
    }

    /// Duplicates of the sockets that one of so many workers listens on, with their numbers among all: every socket is some worker's.
    pub(crate) fn of_worker(&self, index: usize, workers: usize) -> io::Result<Vec<(usize, Socket)>> {
        let all = self.sockets.iter().enumerate().skip(index).step_by(workers.max(1));
        all.map(|(number, socket)| Ok((number, socket.try_clone()?))).collect()
    }

    /// The same for HTTP/3: twice as many, for this process and the one after it. Connections count as those of the listener do.
    #[cfg(feature = "http3")]
    pub(crate) fn open_halves(
        place: Place,
        workers: usize,
        sockets: Vec<Socket>,
        half: usize,
        connections: Count,
    ) -> io::Result<Self> {
        // Inherited ones stay as many as they are: by their number in turn the kernel tells them apart.
        let count = if sockets.len() < 2 { 2 * workers } else { sockets.len() };
        let opened = Self { half: Some(half), connections, ..Self::opened(place, count, sockets)? };
        opened.steer()?;
        Ok(opened)
    }

    /// Has new connections of HTTP/3 come to the half that this process reads.
    #[cfg(feature = "http3")]
    pub(crate) fn steer(&self) -> io::Result<()> {
        self.half.map_or(Ok(()), |half| crate::http3::attach(&self.sockets, half))
    }

    /// Whether these are for HTTP/3.
    #[cfg(feature = "http3")]
    pub(crate) const fn is_quic(&self) -> bool {
        self.half.is_some()
    }

    /// Duplicates of the sockets that one of so many workers reads of a half, with their numbers among all.
    #[cfg(feature = "http3")]
    pub(crate) fn of_half(&self, index: usize, workers: usize) -> io::Result<Vec<(usize, Socket)>> {
        let all = crate::http3::of_worker(self.sockets.len(), self.half.unwrap_or(0), index, workers);
        all.filter_map(|at| Some((at, self.sockets.get(at)?))).map(|(at, of)| Ok((at, of.try_clone()?))).collect()
    }

    /// Duplicates of all.
    pub(crate) fn all(&self) -> io::Result<Vec<OwnedFd>> {
        self.sockets.iter().map(|socket| Ok(socket.try_clone()?.into())).collect()
    }

    /// The number of its connections. They hold this alone: a socket that is no longer listened on must go before its last connection does.
    pub(crate) fn connections(&self) -> &Count {
        &self.connections
    }
}

/// Where a port of a plan is listened on.
pub(crate) fn place(address: IpAddr, port: u16, map: &PortMap) -> SocketAddr {
    SocketAddr::new(address, map.get(&port).copied().unwrap_or(port))
}

/// Whether a place could be listened on. Nobody gets to see that it was tried.
pub(crate) fn can_bind((at, udp): Place) -> bool {
    bind(at, if udp { Type::DGRAM } else { Type::STREAM }).is_ok()
}

/// Opens a socket beside those of the other workers; the kernel spreads connections over all of them.
fn open(at: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = bind(at, kind)?;
    if kind == Type::STREAM {
        socket.listen(4096)?;
    }
    Ok(socket)
}

fn bind(at: SocketAddr, kind: Type) -> io::Result<Socket> {
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
    if kind == Type::STREAM {
        // Connections have it from the listener: one call fewer for each.
        socket.set_tcp_nodelay(true)?;
    }
    socket.bind(&at.into())?;
    Ok(socket)
}

/// Sorts sockets of another process by where they listen. Those that listen nowhere are left out.
pub(crate) fn sorted(sockets: Vec<OwnedFd>) -> BTreeMap<Place, Vec<Socket>> {
    let mut all: BTreeMap<Place, Vec<Socket>> = BTreeMap::new();
    for socket in sockets.into_iter().map(Socket::from) {
        let Some(place) = listens_at(&socket) else { continue };
        if socket.set_nonblocking(true).is_ok() && socket.set_cloexec(true).is_ok() {
            all.entry(place).or_default().push(socket);
        }
    }
    all
}

fn listens_at(socket: &Socket) -> Option<Place> {
    let at = socket.local_addr().ok()?.as_socket()?;
    let udp = match socket.r#type().ok()? {
        Type::STREAM if socket.is_listener().ok()? => false,
        Type::DGRAM => true,
        _ => return None,
    };
    Some((at, udp))
}

/// A stream listener in the worker's runtime.
pub(crate) fn stream(socket: Socket) -> io::Result<TcpListener> {
    TcpListener::from_std(socket.into())
}

/// A datagram socket in the worker's runtime.
pub(crate) fn datagram(socket: Socket) -> io::Result<UdpSocket> {
    UdpSocket::from_std(socket.into())
}

/// Drops what would open further connections; the handshakes that have begun go on. Who asks once more finds the port closed, or another
/// process behind it.
pub(crate) fn close_door(listener: &TcpListener) -> io::Result<()> {
    // Classic BPF over the TCP header: SYN without ACK is dropped.
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(0x30, 0, 0, 13),
        SockFilter::new(0x54, 0, 0, 0x12),
        SockFilter::new(0x15, 0, 1, 0x02),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ])
}
