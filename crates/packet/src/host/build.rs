use std::net::IpAddr;

use crate::parse::protocol;

/// TCP flags by name.
pub mod tcp_flags {
    /// FIN
    pub const FIN: u8 = 0x01;
    /// SYN
    pub const SYN: u8 = 0x02;
    /// RST
    pub const RST: u8 = 0x04;
    /// PSH
    pub const PSH: u8 = 0x08;
    /// ACK
    pub const ACK: u8 = 0x10;
    /// URG
    pub const URG: u8 = 0x20;
}

/// An IPv6 extension header of `bytes` (its first two are the next header, set when it is chained, and its length).
pub fn extension(number: u8, bytes: &[u8]) -> (u8, Vec<u8>) {
    (number, bytes.to_vec())
}

/// A frame in the making: addresses and whatever stands between them and the payload. Checksums are zero; no hook reads them.
#[derive(Clone, Debug)]
pub struct Wire {
    /// Hardware address it claims to come from.
    pub src_mac: [u8; 6],
    /// Hardware address it goes to.
    pub dst_mac: [u8; 6],
    /// Source address.
    pub src: IpAddr,
    /// Destination address, of the same family.
    pub dst: IpAddr,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// IPv4 options; a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers: number and bytes.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// Identification, offset in bytes and whether more follow.
    pub fragment: Option<(u32, u16, bool)>,
}

impl Wire {
    /// A frame between two addresses with hop limit 64.
    pub fn new(src_mac: [u8; 6], dst_mac: [u8; 6], src: IpAddr, dst: IpAddr) -> Self {
        Self { src_mac, dst_mac, src, dst, hop_limit: 64, options: Vec::new(), extensions: Vec::new(), fragment: None }
    }

    /// The same from another source address.
    #[must_use]
    pub fn src(mut self, src: IpAddr) -> Self {
        self.src = src;
        self
    }

    /// The same to another destination address.
    #[must_use]
    pub fn dst(mut self, dst: IpAddr) -> Self {
        self.dst = dst;
        self
    }

    /// The same from another hardware address.
    #[must_use]
    pub fn src_mac(mut self, mac: [u8; 6]) -> Self {
        self.src_mac = mac;
        self
    }

    /// The same with another TTL or hop limit.
    #[must_use]
    pub fn hop_limit(mut self, hop_limit: u8) -> Self {
        self.hop_limit = hop_limit;
        self
    }

    /// The same with IPv4 options.
    #[must_use]
    pub fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }

    /// The same with one more IPv6 extension header.
    #[must_use]
    pub fn extension(mut self, number: u8, bytes: &[u8]) -> Self {
        self.extensions.push(extension(number, bytes));
        self
    }

    /// The same as a fragment.
    #[must_use]
    pub fn fragment(mut self, id: u32, offset: u16, more: bool) -> Self {
        self.fragment = Some((id, offset, more));
        self
    }

    /// A frame with another Ethernet type.
    pub fn ethernet(&self, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        [&self.dst_mac[..], &self.src_mac, &ethertype.to_be_bytes(), payload].concat()
    }

    /// An IP packet.
    pub fn ip(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header_len = 20 + self.options.len();
                let total = low16(header_len + payload.len());
                let (id, offset, more) = self.fragment.unwrap_or_default();
                let offset = (offset / 8) | if more { 0x2000 } else { 0 };
                let version_ihl = 0x40 | u8::try_from(header_len / 4).unwrap_or(u8::MAX);
                let mut bytes = vec![version_ihl, 0];
                bytes.extend(total.to_be_bytes());
                bytes.extend(low16(id as usize).to_be_bytes());
                bytes.extend(offset.to_be_bytes());
                bytes.extend([self.hop_limit, protocol, 0, 0]);
                bytes.extend(src.octets());
                bytes.extend(dst.octets());
                bytes.extend(&self.options);
                bytes.extend(payload);
                self.ethernet(0x0800, &bytes)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let (first, chain) = self.chain(protocol);
                let mut bytes = vec![0x60, 0, 0, 0];
                bytes.extend(low16(chain.len() + payload.len()).to_be_bytes());
                bytes.extend([first, self.hop_limit]);
                bytes.extend(src.octets());
                bytes.extend(dst.octets());
                bytes.extend(chain);
                bytes.extend(payload);
                self.ethernet(0x86dd, &bytes)
            }
            (src, dst) => unreachable!("{src} and {dst} are of two families"),
        }
    }

    /// The first next-header number, and the extension headers up to `protocol`; the fragment header is the last.
    fn chain(&self, protocol: u8) -> (u8, Vec<u8>) {
        let mut headers = self.extensions.clone();
        if let Some((id, offset, more)) = self.fragment {
            let field = offset & 0xfff8 | u16::from(more);
            let mut bytes = vec![0, 0];
            bytes.extend(field.to_be_bytes());
            bytes.extend(id.to_be_bytes());
            headers.push((44, bytes));
        }
        let mut next = protocol;
        let mut chain = Vec::new();
        for (number, mut bytes) in headers.into_iter().rev() {
            if let Some(first) = bytes.first_mut() {
                *first = next;
            }
            bytes.extend(chain);
            chain = bytes;
            next = number;
        }
        (next, chain)
    }

    /// A TCP segment without data.
    pub fn tcp(&self, src_port: u16, dst_port: u16, flags: u8) -> Vec<u8> {
        self.ip(protocol::TCP, &tcp(src_port, dst_port, flags))
    }

    /// A UDP datagram of 12 bytes.
    pub fn udp(&self, src_port: u16, dst_port: u16) -> Vec<u8> {
        self.ip(protocol::UDP, &udp(src_port, dst_port, 12))
    }

    /// An SCTP packet of one chunk.
    pub fn sctp(&self, src_port: u16, dst_port: u16, chunk: u8) -> Vec<u8> {
        let mut bytes = ports(src_port, dst_port);
        bytes.extend([0; 8]);
        bytes.extend([chunk, 0, 0, 4]);
        self.ip(protocol::SCTP, &bytes)
    }

    /// ICMP of the family's version: type, code, and what follows the checksum.
    pub fn icmp(&self, icmp_type: u8, code: u8, rest: &[u8]) -> Vec<u8> {
        let protocol = if self.src.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 };
        self.ip(protocol, &[&[icmp_type, code, 0, 0], rest].concat())
    }

    /// An echo request.
    pub fn ping(&self, id: u16) -> Vec<u8> {
        self.icmp(if self.src.is_ipv4() { 8 } else { 128 }, 0, &echo(id))
    }

    /// An echo reply.
    pub fn pong(&self, id: u16) -> Vec<u8> {
        self.icmp(if self.src.is_ipv4() { 0 } else { 129 }, 0, &echo(id))
    }

    /// An ICMP error that says "unreachable" and quotes `frame`.
    pub fn unreachable(&self, frame: &[u8]) -> Vec<u8> {
        let quoted = frame.get(14..).unwrap_or_default();
        let icmp_type = if self.src.is_ipv4() { 3 } else { 1 };
        self.icmp(icmp_type, 1, &[&[0; 4], quoted].concat())
    }
}

/// A TCP header.
pub(crate) fn tcp(src_port: u16, dst_port: u16, flags: u8) -> Vec<u8> {
    let mut bytes = ports(src_port, dst_port);
    bytes.extend([0; 8]);
    bytes.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes
}

/// A UDP header whose length field covers `data` bytes, which follow.
pub(crate) fn udp(src_port: u16, dst_port: u16, data: usize) -> Vec<u8> {
    let mut bytes = ports(src_port, dst_port);
    bytes.extend(low16(8 + data).to_be_bytes());
    bytes.extend([0; 2]);
    bytes.resize(8 + data, 0x55);
    bytes
}

fn echo(id: u16) -> Vec<u8> {
    [&id.to_be_bytes()[..], &[0, 1], b"strait"].concat()
}

fn ports(src: u16, dst: u16) -> Vec<u8> {
    [src.to_be_bytes(), dst.to_be_bytes()].concat()
}

fn low16(number: usize) -> u16 {
    u16::try_from(number & 0xffff).unwrap_or(u16::MAX)
}
