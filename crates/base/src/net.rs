//! Protocols, port ranges and address prefixes.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A transport protocol that Kubernetes objects can name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// Its number in the IP header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol with this number in the IP header.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }
}

/// `TCP`, `UDP`, `SCTP`.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// Case-insensitive, as people type it; manifests are stricter and checked by `api`.
impl FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|protocol| protocol.to_string().eq_ignore_ascii_case(text)).ok_or(UnknownProtocol)
    }
}

/// The text names no protocol; allowed are TCP, UDP and SCTP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownProtocol;

impl fmt::Display for UnknownProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown protocol (allowed: TCP, UDP, SCTP)")
    }
}

impl std::error::Error for UnknownProtocol {}

/// Ports from `first` to `last`, both included; `first <= last`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// The range, or `None` where `last < first`.
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first <= last { Some(Self { first, last }) } else { None }
    }

    /// One port.
    pub const fn single(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// The first port.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The last port.
    pub const fn last(self) -> u16 {
        self.last
    }

    /// Whether `port` is in it.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// The fewest `(port, prefix length)` pairs, in order, whose prefixes cover exactly this range.
    pub fn prefixes(self) -> Vec<(u16, u8)> {
        let mut out = Vec::new();
        let mut next = u32::from(self.first);
        let end = u32::from(self.last) + 1;
        while next < end {
            let aligned = if next == 0 { 16 } else { next.trailing_zeros().min(16) };
            let bits = aligned.min((end - next).ilog2());
            out.push((u16::try_from(next).unwrap_or(u16::MAX), u8::try_from(16 - bits).unwrap_or(16)));
            next += 1 << bits;
        }
        out
    }
}

/// `80` or `8000-8080`.
impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// `address` as the prefix that holds it alone.
pub fn host_prefix(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

/// `address` in 16 bytes; IPv4 as `::ffff:a.b.c.d`.
pub fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address that [`mapped`] turned into these bytes.
pub fn unmapped(bytes: [u8; 16]) -> IpAddr {
    std::net::Ipv6Addr::from(bytes).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_cover_exactly_the_range() {
        for (first, last) in
            [(80, 80), (0, 65535), (1, 65535), (8000, 8080), (1024, 65535), (5, 6), (65535, 65535), (0, 0)]
        {
            let range = PortRange::new(first, last).unwrap();
            let prefixes = range.prefixes();
            for port in 0..=u16::MAX {
                let hits = prefixes
                    .iter()
                    .filter(|(value, len)| *len == 0 || (port ^ value) >> (16 - u32::from(*len)) == 0)
                    .count();
                assert_eq!(hits, usize::from(range.contains(port)), "{range} {port}");
            }
        }
        assert_eq!(PortRange::ALL.prefixes(), [(0, 0)]);
        assert_eq!(PortRange::new(2, 1), None);
    }

    #[test]
    fn mapped_round_trips() {
        for text in ["10.0.0.1", "2001:db8::1", "0.0.0.0", "::"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(unmapped(mapped(address)), address);
        }
    }
}
