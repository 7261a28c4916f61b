//! Sockets and the server that owns them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use socket2::{Domain, SockAddr, Socket, Type};
use strait_base::Protocol;
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::Semaphore,
    task::LocalSet,
};

use crate::{Config, Context, Limits, Port, http::Failures, tcp, tls::Tls, udp};

/// Connections the kernel queues before they are accepted.
const BACKLOG: i32 = 1024;

/// A port could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {port} at {address}: {source}{}", hint(source))]
pub struct BindError {
    port: Port,
    address: IpAddr,
    source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    let hints = [
        (io::ErrorKind::AddrInUse, " (another process has it; choose another port or stop that process)"),
        (io::ErrorKind::PermissionDenied, " (ports below 1024 need CAP_NET_BIND_SERVICE)"),
        (io::ErrorKind::AddrNotAvailable, " (no interface here has that address)"),
    ];
    hints.into_iter().find(|(kind, _)| *kind == error.kind()).map_or("", |(_, hint)| hint)
}

/// What every connection of a server shares.
pub(crate) struct Shared {
    pub(crate) context: Context,
    pub(crate) limits: Limits,
    pub(crate) tls: Tls,
    pub(crate) failures: Failures,
    pub(crate) connections: Arc<Semaphore>,
}

/// Open sockets, not yet served.
pub struct Server {
    shared: Rc<Shared>,
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
    unserved: Vec<Port>,
}

impl Server {
    /// Opens every port of `config`, inside a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// The first port that cannot be opened.
    pub fn bind(config: Config) -> Result<Self, BindError> {
        let (mut tcp, mut udp, mut unserved) = (Vec::new(), Vec::new(), Vec::new());
        for port in config.ports {
            let error = |(address, source)| BindError { port, address, source };
            match port.protocol {
                Protocol::Tcp => tcp.extend(open(&config.listen, port.number, tcp_listener).map_err(error)?),
                Protocol::Udp => udp.extend(open(&config.listen, port.number, udp_socket).map_err(error)?),
                Protocol::Sctp => unserved.push(port),
            }
        }
        let shared = Rc::new(Shared {
            tls: Tls::new(&config.context, config.certificate, config.clients),
            context: config.context,
            failures: Failures::default(),
            connections: Arc::new(Semaphore::new(config.limits.connections)),
            limits: config.limits,
        });
        Ok(Self { shared, tcp, udp, unserved })
    }

    /// The ports that are open, with the numbers the kernel chose for port 0.
    pub fn ports(&self) -> Vec<Port> {
        let numbered = |address: io::Result<SocketAddr>, protocol| {
            address.ok().map(|address| Port { number: address.port(), protocol })
        };
        let tcp = self.tcp.iter().filter_map(|socket| numbered(socket.local_addr(), Protocol::Tcp));
        tcp.chain(self.udp.iter().filter_map(|socket| numbered(socket.local_addr(), Protocol::Udp))).collect()
    }

    /// The ports that were asked for and are not served: SCTP, which tokio has no sockets for.
    pub fn unserved(&self) -> &[Port] {
        &self.unserved
    }

    /// Serves until dropped, on the thread that polls it.
    pub async fn run(self) {
        let tasks = LocalSet::new();
        for listener in self.tcp {
            tasks.spawn_local(tcp::serve(listener, Rc::clone(&self.shared)));
        }
        for socket in self.udp {
            tasks.spawn_local(udp::serve(socket));
        }
        tasks.run_until(std::future::pending::<()>()).await;
    }
}

/// Opens a socket for each address of `listen`; where it is empty one for both families, or for IPv4 where the host has no IPv6.
fn open<S>(listen: &[IpAddr], port: u16, make: fn(SocketAddr) -> io::Result<S>) -> Result<Vec<S>, (IpAddr, io::Error)> {
    if !listen.is_empty() {
        let at = |address: &IpAddr| make(SocketAddr::new(*address, port)).map_err(|error| (*address, error));
        return listen.iter().map(at).collect();
    }
    let (v6, v4) = (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let opened = match make(SocketAddr::new(v6, port)) {
        Err(error) if no_ipv6(&error) => make(SocketAddr::new(v4, port)).map_err(|error| (v4, error)),
        opened => opened.map_err(|error| (v6, error)),
    };
    opened.map(|socket| vec![socket])
}

/// Without the IPv6 module the family is unknown; with `disable_ipv6` its addresses cannot be bound.
fn no_ipv6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

fn tcp_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(address, Type::STREAM)?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn udp_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::from_std(bound(address, Type::DGRAM)?.into())
}

fn bound(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    if kind == Type::STREAM {
        // A restarted server takes its port back while old connections linger in TIME_WAIT.
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}
