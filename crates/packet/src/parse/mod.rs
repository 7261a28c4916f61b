//! Headers: Ethernet, IPv4, IPv6 with its chain, and what stands above them.

mod ipv4;
mod ipv6;
mod transport;

pub use ipv4::ipv4;
pub(crate) use ipv4::quoted as quoted_ipv4;
pub(crate) use ipv6::quoted as quoted_ipv6;
pub use ipv6::{ipv6, ipv6_base};
pub use transport::{Transport, transport};

use crate::abi::Addr;
use crate::frame::{Frame, halves, join};

/// Bytes of an Ethernet header.
pub const ETHERNET: u32 = 14;

/// IP protocol numbers that the engine knows.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// Group membership for IPv4.
    pub const IGMP: u8 = 2;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtherType {
    /// ARP.
    Arp,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// Anything else.
    Other,
}

/// An Ethernet header.
#[derive(Clone, Copy, Debug)]
pub struct Ethernet {
    /// Hardware address of the sender.
    pub source: [u8; 6],
    /// What follows.
    pub ethertype: EtherType,
}

/// Reads the Ethernet header; `None` if the frame is shorter than one and two more bytes.
#[inline(always)]
pub fn ethernet<F: Frame>(frame: &F) -> Option<Ethernet> {
    let [_, second, third, last]: [u32; 4] = frame.words(0)?;
    let ethertype = match u16::from_be(halves(last).0) {
        0x0800 => EtherType::Ipv4,
        0x86dd => EtherType::Ipv6,
        0x0806 => EtherType::Arp,
        _ => EtherType::Other,
    };
    let source = join(halves(second).1, halves(third).0, halves(third).1);
    Some(Ethernet { source, ethertype })
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// All of it.
    #[default]
    Whole,
    /// The first fragment, with more to come.
    First,
    /// A later fragment, without transport header.
    Later,
}

/// An IP header, both versions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ip {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Identification of the datagram, if fragmented.
    pub id: u32,
    /// Offset of the transport header, or of a later fragment's bytes, in the frame.
    pub transport: u32,
    /// Offset of the IPv4 options, if any, in the frame.
    pub options: u32,
    /// Where the datagram ends in the frame; bytes behind are padding.
    pub end: u32,
    /// Where the fragmented part starts in the frame.
    pub fragmented: u32,
    /// Bytes of the fragmented part before a later fragment.
    pub offset: u32,
    /// Protocol of the transport header.
    pub protocol: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Which part of the datagram.
    pub part: Part,
    /// True for IPv6.
    pub v6: bool,
}
