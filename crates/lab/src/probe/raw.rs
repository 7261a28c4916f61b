//! ICMP and SCTP: raw sockets, shared by all probes of a process, and one ear on each that tells who was answered.
//!
//! SCTP is sent through `IPPROTO_RAW`. A raw socket for SCTP itself would take other probers' packets to this host in
//! place of the kernel's "protocol unreachable", which is their answer; so one is only opened where the kernel speaks
//! SCTP and answers by itself.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    path::Path,
    rc::Rc,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    Answer,
    wire::{self, News},
};

type Waiting = Rc<RefCell<BTreeMap<(IpAddr, News), oneshot::Sender<()>>>>;

/// Raw sockets and the probes that wait for news from them.
pub(super) struct Raw {
    waiting: Waiting,
    id: u16,
    ears: Vec<JoinHandle<()>>,
}

impl Drop for Raw {
    fn drop(&mut self) {
        for ear in &self.ears {
            ear.abort();
        }
    }
}

impl Raw {
    /// Opens the ears. Needs root, and a `LocalSet`.
    pub(super) fn open() -> io::Result<Self> {
        let waiting = Waiting::default();
        let mut ears = vec![listen(Domain::IPV4, wire::ICMP, wire::read_icmp, &waiting)?];
        if Path::new("/proc/net/if_inet6").exists() {
            ears.push(listen(Domain::IPV6, wire::ICMPV6, wire::read_icmpv6, &waiting)?);
        }
        if Path::new("/proc/net/sctp").exists() {
            let v4 = |packet: &[u8]| wire::after_ipv4(packet).and_then(wire::read_sctp);
            ears.push(listen(Domain::IPV4, wire::SCTP, v4, &waiting)?);
            ears.push(listen(Domain::IPV6, wire::SCTP, wire::read_sctp, &waiting)?);
        }
        let id = u16::try_from(std::process::id() & 0xffff).unwrap_or(1);
        Ok(Self { waiting, id, ears })
    }

    /// Sends an echo request; pending until the reply comes. `number` tells probes apart.
    pub(super) async fn ping(&self, source: Option<IpAddr>, to: IpAddr, number: u16) -> io::Result<Answer> {
        let (domain, protocol) =
            if to.is_ipv4() { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
        let news = self.expect(to, News::Reply { id: self.id, sequence: number });
        let socket = raw(domain, protocol)?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.send_to(&wire::echo_request(to.is_ipv4(), self.id, number), &SocketAddr::new(to, 0).into())?;
        wait(news).await?;
        Ok(Answer::Accepted)
    }

    /// Sends an SCTP INIT; pending until the host answers or refuses it.
    pub(super) async fn sctp(&self, source: Option<IpAddr>, to: SocketAddr, number: u16) -> io::Result<Answer> {
        let source = source.map_or_else(|| preferred_source(to.ip()), Ok)?;
        let from = 0xc000 | (self.id.wrapping_mul(31).wrapping_add(number) & 0x3fff);
        let news = self.expect(to.ip(), News::SctpRefused { from, to: to.port() });
        let domain = if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = raw(domain, Protocol::from(i32::from(u8::MAX)))?;
        let packet = wire::sctp_init(source, to.ip(), (from, to.port()));
        // The port of a raw IPv6 destination is a protocol number, and must be 0 or the socket's.
        socket.send_to(&packet, &SocketAddr::new(to.ip(), 0).into())?;
        wait(news).await?;
        Ok(Answer::Refused)
    }

    fn expect(&self, from: IpAddr, news: News) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().insert((from, news), sender);
        receiver
    }
}

/// A retransmission takes the place of the earlier one among those that wait, which then waits for ever, as it should:
/// the later one hears whatever comes.
async fn wait(news: oneshot::Receiver<()>) -> io::Result<()> {
    match news.await {
        Ok(()) => Ok(()),
        Err(_) => std::future::pending().await,
    }
}

fn raw(domain: Domain, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn listen(
    domain: Domain,
    protocol: u8,
    read: impl Fn(&[u8]) -> Option<News> + 'static,
    waiting: &Waiting,
) -> io::Result<JoinHandle<()>> {
    let socket = raw(domain, Protocol::from(i32::from(protocol)))?;
    // Every ICMP message of the place comes here, other probers' too.
    socket.set_recv_buffer_size(1 << 20)?;
    // To tokio a datagram socket is a datagram socket: what it does with one fits a raw one as well.
    let socket = tokio::net::UdpSocket::from_std(std::net::UdpSocket::from(OwnedFd::from(socket)))?;
    let waiting = Rc::clone(waiting);
    Ok(tokio::task::spawn_local(async move {
        let mut buffer = [0; 2048];
        loop {
            let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { return };
            if let Some(news) = read(&buffer[..length]) {
                let asker = waiting.borrow_mut().remove(&(peer.ip().to_canonical(), news));
                if let Some(asker) = asker {
                    let _ = asker.send(());
                }
            }
        }
    }))
}

/// The address that this host would send from.
pub(super) fn preferred_source(to: IpAddr) -> io::Result<IpAddr> {
    let any = if to.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.connect((to, 9))?;
    Ok(socket.local_addr()?.ip())
}
