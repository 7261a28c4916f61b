use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Addr, Port};

/// What an [`Event`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventKind {
    /// A connection was let through; counters are those of its first packet.
    Opened = 1,
    /// Packets were dropped: the counters are the packets and bytes since the last event alike, in the direction they went.
    Dropped = 2,
    /// A connection is over; `reason` is a [`CloseReason`].
    Closed = 3,
    /// A long-lived connection goes on; counters so far.
    Active = 4,
}

impl EventKind {
    /// Entries of `EVENTS_LOST`.
    pub const COUNT: u32 = 5;

    /// From its number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Opened),
            2 => Some(Self::Dropped),
            3 => Some(Self::Closed),
            4 => Some(Self::Active),
            _ => None,
        }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CloseReason {
    /// Both sides closed.
    Fin = 1,
    /// One side reset or aborted.
    Reset = 2,
    /// Silent for its lifetime; found by a collector, or by the kernel when a new connection comes with the same ports.
    Timeout = 3,
    /// A later policy denies it.
    Denied = 4,
    /// A new connection took its ports.
    Replaced = 5,
}

impl CloseReason {
    /// From its number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Fin),
            2 => Some(Self::Reset),
            3 => Some(Self::Timeout),
            4 => Some(Self::Denied),
            5 => Some(Self::Replaced),
            _ => None,
        }
    }
}

/// Bits of [`Event::flags`].
pub mod event_flags {
    /// The packet went against the initiating direction.
    pub const REPLY: u8 = 1;
    /// An auditing rule let it through; enforcement would have dropped it.
    pub const AUDIT: u8 = 1 << 1;
    /// The connection was joined in the middle.
    pub const PICKED_UP: u8 = 1 << 2;
    /// The packet was a fragment.
    pub const FRAGMENT: u8 = 1 << 3;
}

/// One record of `EVENTS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Event {
    /// Nanoseconds of the monotonic clock.
    pub time_ns: u64,
    /// When the connection was first seen, same clock; zero for a drop without one.
    pub created_ns: u64,
    /// Packets from the endpoint.
    pub tx_packets: u64,
    /// Bytes from the endpoint, with Ethernet header.
    pub tx_bytes: u64,
    /// Packets towards the endpoint.
    pub rx_packets: u64,
    /// Bytes towards the endpoint, with Ethernet header.
    pub rx_bytes: u64,
    /// The endpoint's address, or the node's own; on `from_uplink` the packet's destination.
    pub local: Addr,
    /// The other side's address.
    pub remote: Addr,
    /// Interface the packet was seen at.
    pub ifindex: u32,
    /// Endpoint id; zero for the node itself, and on `from_uplink`.
    pub endpoint: u32,
    /// The endpoint's identity.
    pub subject: u32,
    /// The other side's identity; zero if it was not looked up.
    pub peer: u32,
    /// Origin of the deciding rule, or of the default deny.
    pub origin: u32,
    /// Policy revision.
    pub revision: u32,
    /// Port at the endpoint, or ICMP identifier.
    pub local_port: Port,
    /// Port at the other side.
    pub remote_port: Port,
    /// [`EventKind`].
    pub kind: u8,
    /// [`DropReason`](super::DropReason) of a drop, [`CloseReason`] of a close, else zero.
    pub reason: u8,
    /// [`Direction`](super::Direction) that initiated the connection; of the packet where there is none.
    pub direction: u8,
    /// IP protocol number; zero below IP.
    pub protocol: u8,
    /// TCP flags of the packet; for `Closed` and `Active` all that were seen.
    pub tcp_flags: u8,
    /// ICMP type, if `protocol` is ICMP or ICMPv6.
    pub icmp_type: u8,
    /// ICMP code.
    pub icmp_code: u8,
    /// [`Hook`](super::Hook) number.
    pub hook: u8,
    /// See [`event_flags`].
    pub flags: u8,
    /// Zero.
    pub pad: [u8; 3],
}

const _: () = assert!(size_of::<Event>() == 120);
