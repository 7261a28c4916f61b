//! Resets that policy sends in a destination's name.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::OwnedFd,
    path::Path,
};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use strait_packet::respond::RESET_WINDOW;

use super::wire;

/// Hears the resets that policy sends into the network namespace, of all TCP segments.
pub(super) struct Prohibited {
    v4: UdpSocket,
    v6: Option<UdpSocket>,
    /// From which address and port, to which of ours.
    heard: RefCell<BTreeSet<(SocketAddr, u16)>>,
}

impl Prohibited {
    /// Needs root.
    pub(super) fn open() -> io::Result<Self> {
        let v6 = Path::new("/proc/net/if_inet6").exists().then(|| ear(Domain::IPV6)).transpose()?;
        Ok(Self { v4: ear(Domain::IPV4)?, v6, heard: RefCell::default() })
    }

    /// Whether the refusal of a connection from our `port` to `peer` came from policy: the kernel hands a segment to raw
    /// sockets before it gives it to the connection.
    pub(super) fn refused(&self, peer: SocketAddr, port: u16) -> bool {
        let mut buffer = [0; 256];
        while let Ok((length, from)) = self.v4.recv_from(&mut buffer) {
            self.hear(from.ip(), wire::after_ipv4(&buffer[..length]));
        }
        while let Some(Ok((length, from))) = self.v6.as_ref().map(|ear| ear.recv_from(&mut buffer)) {
            self.hear(from.ip(), Some(&buffer[..length]));
        }
        self.heard.borrow_mut().remove(&(peer, port))
    }

    fn hear(&self, from: IpAddr, segment: Option<&[u8]>) {
        if let Some((source, destination)) = segment.and_then(wire::read_prohibition) {
            self.heard.borrow_mut().insert((SocketAddr::new(from.to_canonical(), source), destination));
        }
    }
}

/// A socket that is given such resets and nothing else, so that other segments never take their room. To the standard library a
/// raw socket is a datagram socket.
fn ear(domain: Domain) -> io::Result<UdpSocket> {
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.attach_filter(&filter(domain == Domain::IPV4))?;
    Ok(UdpSocket::from(OwnedFd::from(socket)))
}

/// Classic BPF over what a raw socket is given: the IP header first in IPv4, the segment alone in IPv6.
fn filter(v4: bool) -> [SockFilter; 7] {
    const SKIP_IPV4_HEADER: u16 = 0xb1;
    const SKIP_NOTHING: u16 = 0x01;
    const BYTE_AT: u16 = 0x50;
    const HALF_AT: u16 = 0x48;
    const HAS_BITS: u16 = 0x45;
    const EQUALS: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let skip = if v4 { SKIP_IPV4_HEADER } else { SKIP_NOTHING };
    [
        SockFilter::new(skip, 0, 0, 0),
        SockFilter::new(BYTE_AT, 0, 0, 13),
        SockFilter::new(HAS_BITS, 0, 3, wire::RST.into()),
        SockFilter::new(HALF_AT, 0, 0, 14),
        SockFilter::new(EQUALS, 0, 1, RESET_WINDOW.into()),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
