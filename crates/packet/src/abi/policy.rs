use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Direction, Port};

/// [`PolicyKey::peer`] of the entry that stands for every peer without an entry of its own.
pub const ANY_PEER: u32 = 0;

/// [`PolicyValue::port_set`] without a single rule: everything falls to the default deny.
pub const PORT_SET_NONE: u32 = 0;

/// Key of `POLICY`. The exact peer is looked up first, then [`ANY_PEER`]; the first hit alone decides.
///
/// A subject without any entry in a direction has no policy loaded and is closed in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PolicyKey {
    /// Identity of the endpoint that the policy selects.
    pub subject: u32,
    /// Identity of the other side, or [`ANY_PEER`].
    pub peer: u32,
    /// [`Direction`] from the subject's view.
    pub direction: u8,
    /// Zero.
    pub pad: [u8; 3],
}

impl PolicyKey {
    /// The key of one pair in one direction.
    #[inline(always)]
    pub const fn new(subject: u32, direction: Direction, peer: u32) -> Self {
        Self { subject, peer, direction: direction as u8, pad: [0; 3] }
    }
}

/// Value of `POLICY`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PolicyValue {
    /// Which port set judges this pair.
    pub port_set: u32,
    /// Origin reported when no rule of the port set matches: the policies that isolate the subject.
    pub default_origin: u32,
}

/// Key of `PORT_SETS`: `(port set, protocol, port)`, the longest prefix decides. Protocol is the IP protocol number; ICMP and
/// ICMPv6 have their type as port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PortSetKey {
    /// 32: any protocol; 40: the protocol, any port; 40 + n: the first n bits of the port.
    pub prefix_len: u32,
    /// The port set, matched whole.
    pub port_set: u32,
    /// IP protocol number; zero if not counted.
    pub protocol: u8,
    /// Port in network order; bits behind the prefix are zero.
    pub port: [u8; 2],
    /// Zero.
    pub pad: u8,
}

impl PortSetKey {
    /// The rule for every protocol.
    pub const fn any(port_set: u32) -> Self {
        Self { prefix_len: 32, port_set, protocol: 0, port: [0; 2], pad: 0 }
    }

    /// The rule for every port of a protocol.
    pub const fn protocol(port_set: u32, protocol: u8) -> Self {
        Self { prefix_len: 40, port_set, protocol, port: [0; 2], pad: 0 }
    }

    /// The rule for the ports that share the first `bits` (0..=16) of `port`.
    pub const fn port_prefix(port_set: u32, protocol: u8, port: u16, bits: u8) -> Self {
        let mask = if bits == 0 { 0 } else { u16::MAX << (16 - bits) };
        Self { prefix_len: 40 + bits as u32, port_set, protocol, port: (port & mask).to_be_bytes(), pad: 0 }
    }

    /// The key that finds the longest prefix over one port.
    #[inline(always)]
    pub const fn exact(port_set: u32, protocol: u8, port: Port) -> Self {
        Self { prefix_len: 56, port_set, protocol, port: port.bytes(), pad: 0 }
    }
}

/// Splits `first..=last` into the fewest `(port, bits)` prefixes; at most 30.
pub fn port_prefixes(first: u16, last: u16) -> impl Iterator<Item = (u16, u8)> {
    let mut next = u32::from(first);
    let end = u32::from(last) + 1;
    core::iter::from_fn(move || {
        if next >= end {
            return None;
        }
        let aligned = if next == 0 { 16 } else { next.trailing_zeros().min(16) };
        let fits = (end - next).ilog2();
        let size = aligned.min(fits);
        let port = u16::try_from(next).unwrap_or(u16::MAX);
        next += 1 << size;
        Some((port, 16 - u8::try_from(size).unwrap_or(16)))
    })
}

/// What a rule does with a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RuleVerdict {
    /// Drop, by an explicit rule.
    Deny = 0,
    /// Pass.
    Allow = 1,
    /// Hand to the proxy at [`PortRule::proxy_port`]. The kernel has no proxy to hand to yet, so this drops
    /// ([`DropReason::ProxyUnavailable`](super::DropReason::ProxyUnavailable)).
    Redirect = 2,
    /// Pass, and report that enforcement would have dropped it.
    Audit = 3,
}

impl RuleVerdict {
    /// From its number; an unknown one denies.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Allow,
            2 => Self::Redirect,
            3 => Self::Audit,
            _ => Self::Deny,
        }
    }
}

/// Value of `PORT_SETS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PortRule {
    /// [`RuleVerdict`]; any other number denies.
    pub verdict: u8,
    /// Zero.
    pub pad: u8,
    /// Port of the proxy listener for [`RuleVerdict::Redirect`], host order.
    pub proxy_port: u16,
    /// Rank among the rules that user space resolved into this one. The kernel does not read it.
    pub precedence: u32,
    /// Origin id of the deciding rule, for events.
    pub origin: u32,
}

impl PortRule {
    /// A rule without proxy.
    pub const fn new(verdict: RuleVerdict, precedence: u32, origin: u32) -> Self {
        Self { verdict: verdict as u8, pad: 0, proxy_port: 0, precedence, origin }
    }
}
