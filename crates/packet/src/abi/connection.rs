use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Addr, Port};

/// A direction from the endpoint's view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Direction {
    /// Towards the endpoint.
    #[default]
    Ingress = 0,
    /// From the endpoint.
    Egress = 1,
}

impl Direction {
    /// From its number; anything but 0 is egress.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        if number == 0 { Self::Ingress } else { Self::Egress }
    }
}

/// Key of `CONNTRACK`, from the local endpoint's view: both directions of a connection share one entry, and each of two local
/// endpoints that speak to each other has its own.
///
/// | protocol | `local_port` | `remote_port` |
/// |---|---|---|
/// | TCP, UDP, SCTP | port | port |
/// | ICMP echo | identifier | 1 if the endpoint asks, 2 if it is asked |
/// | other ICMP | 0 | `0x8000` + type, `0xc000` + type from the endpoint |
/// | everything else | 0 | 0 |
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct CtKey {
    /// The endpoint's address.
    pub local: Addr,
    /// The other side's address.
    pub remote: Addr,
    /// See the table.
    pub local_port: Port,
    /// See the table.
    pub remote_port: Port,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CtState {
    /// Only the initiating side was seen.
    New = 1,
    /// Both sides were seen.
    Established = 2,
    /// One side said it is done.
    Closing = 3,
    /// Both sides said so; the last acknowledgement is missing.
    LastAck = 4,
    /// Over.
    Closed = 5,
    /// Was let through once; a later policy denies it. Kept so that neither side revives it as a new connection.
    Denied = 6,
}

impl CtState {
    /// From its number; an unknown one is `Denied`.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::New,
            2 => Self::Established,
            3 => Self::Closing,
            4 => Self::LastAck,
            5 => Self::Closed,
            _ => Self::Denied,
        }
    }
}

/// Where the other side of a connection is, seen from this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum PeerPlace {
    /// Not known, or an address of the node itself.
    #[default]
    Unknown = 0,
    /// An endpoint of this node.
    Endpoint = 1,
    /// Beyond the uplinks.
    Beyond = 2,
}

impl PeerPlace {
    /// From its number; any other is `Unknown`.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Endpoint,
            2 => Self::Beyond,
            _ => Self::Unknown,
        }
    }
}

/// Bits of [`CtEntry::flags`].
pub mod ct_flags {
    /// A [`Closed`](super::super::EventKind::Closed) event was sent: a collector that removes the entry stays silent.
    pub const CLOSE_REPORTED: u8 = 1;
    /// Let through by an auditing rule.
    pub const AUDITED: u8 = 1 << 1;
    /// Joined in the middle: who opened it is not known, so policy must allow both readings.
    pub const PICKED_UP: u8 = 1 << 2;
    /// The other side answered.
    pub const REPLIED: u8 = 1 << 3;
    /// The endpoint said it is done.
    pub const FINISHED_TX: u8 = 1 << 4;
    /// The other side said it is done.
    pub const FINISHED_RX: u8 = 1 << 5;
    /// Of two that are done, the endpoint was the second.
    pub const FINISHED_LAST_TX: u8 = 1 << 6;
}

/// Value of `CONNTRACK`: first what every packet of a connection reads or writes.
///
/// `tx` is from the endpoint, `rx` towards it. Counters are plain words: two CPUs that carry packets of the same direction of
/// the same connection at the same instant may lose one count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CtEntry {
    /// Latest packet, nanoseconds of the monotonic clock.
    pub last_seen_ns: u64,
    /// Silence after which the entry counts as gone; follows the state.
    pub lifetime_ns: u64,
    /// Latest event about it, same clock.
    pub last_report_ns: u64,
    /// Policy revision of the verdict.
    pub revision: u32,
    /// Endpoint id.
    pub endpoint: u32,
    /// Port the policy judges: the destination port of the first packet, or the ICMP type.
    pub policy_port: Port,
    /// [`CtState`].
    pub state: u8,
    /// [`Direction`] of the first packet.
    pub direction: u8,
    /// See [`ct_flags`].
    pub flags: u8,
    /// TCP flags the endpoint ever sent.
    pub tx_tcp_flags: u8,
    /// TCP flags it ever received.
    pub rx_tcp_flags: u8,
    /// [`PeerPlace`] when judged.
    pub peer_place: u8,
    /// Packets from the endpoint.
    pub tx_packets: u64,
    /// Bytes from the endpoint, with Ethernet header.
    pub tx_bytes: u64,
    /// Packets towards the endpoint.
    pub rx_packets: u64,
    /// Bytes towards the endpoint, with Ethernet header.
    pub rx_bytes: u64,
    /// First packet, same clock.
    pub created_ns: u64,
    /// Origin of the rule that decided.
    pub origin: u32,
    /// The endpoint's identity when judged.
    pub subject: u32,
    /// The peer's identity when judged.
    pub peer: u32,
    /// Index of the endpoint's host-side veth; zero until judged.
    pub ifindex: u32,
}

impl CtEntry {
    /// True once it was silent for its lifetime: the datapath treats it as absent, a collector may remove it.
    #[inline(always)]
    pub const fn expired(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.last_seen_ns) > self.lifetime_ns
    }
}

/// Key of `FRAGMENTS`: which datagram a fragment belongs to.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FragmentKey {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Identification, 16 bits in IPv4, 32 in IPv6.
    pub id: u32,
    /// Interface it was seen at.
    pub ifindex: u32,
    /// IP protocol number. Zero in IPv6, where only the first fragment's counts (RFC 8200 §4.5).
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// What the first fragment said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FragmentPorts {
    /// When the first fragment passed, nanoseconds of the monotonic clock.
    pub seen_ns: u64,
    /// Source port, or what stands for it.
    pub src_port: Port,
    /// Destination port, or what stands for it.
    pub dst_port: Port,
    /// Bytes of the fragmented part up to the end of the transport header; no later fragment may start before.
    pub header_len: u16,
    /// IP protocol number of the transport.
    pub protocol: u8,
    /// ICMP type.
    pub icmp_type: u8,
}

/// Key of `DROP_SEEN`: drops that are told as one. Addresses and port are zero where the packet made them up.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct DropKey {
    /// The endpoint's address.
    pub local: Addr,
    /// The other side's address.
    pub remote: Addr,
    /// Interface the packet was seen at.
    pub ifindex: u32,
    /// Port the policy judged.
    pub policy_port: Port,
    /// IP protocol number.
    pub protocol: u8,
    /// [`DropReason`](super::DropReason) number.
    pub reason: u8,
    /// [`Hook`](super::Hook) number.
    pub hook: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// Value of `DROP_SEEN`: drops since the last event. A collector reports what is left once `last_event_ns` is older than
/// [`Config::drop_interval_ns`](super::Config::drop_interval_ns) and removes the entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DropSeen {
    /// When the last event was sent, nanoseconds of the monotonic clock.
    pub last_event_ns: u64,
    /// Dropped since, not yet reported.
    pub packets: u64,
    /// Their bytes, with Ethernet header.
    pub bytes: u64,
    /// Endpoint id.
    pub endpoint: u32,
    /// The endpoint's identity.
    pub subject: u32,
    /// The other side's identity; zero if it was not looked up.
    pub peer: u32,
    /// Origin of the deciding rule, or of the default deny.
    pub origin: u32,
}
