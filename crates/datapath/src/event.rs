//! What the programs report, in words.

use std::net::{IpAddr, SocketAddr};

use strait_base::IdentityId;
use strait_model::{Direction, OriginId};
use strait_packet::abi::{
    self, CloseReason, CtEntry, CtKey, DropKey, DropReason, DropSeen, EventKind, Hook, event_flags,
};

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Happening {
    /// A connection was let through.
    Opened,
    /// A long-lived connection goes on; counters so far.
    Active,
    /// A connection is over; counters of its whole life.
    Closed(CloseReason),
    /// Packets were dropped; counters since the last event alike.
    Dropped(DropReason),
}

/// Packets and bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// Packets as the kernel hands them over; an offloaded (GSO) packet counts once.
    pub packets: u64,
    /// Bytes including the Ethernet header.
    pub bytes: u64,
}

/// One report, from the view of a local endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// When, nanoseconds of the monotonic clock ([`crate::monotonic_ns`]).
    pub time_ns: u64,
    /// When the connection was first seen, same clock; zero for a drop without one.
    pub created_ns: u64,
    /// What happened.
    pub happening: Happening,
    /// Which program saw it.
    pub hook: Hook,
    /// Interface the packet was seen at.
    pub ifindex: u32,
    /// Endpoint id, which is the index of its host-side veth; zero on the uplink.
    pub endpoint: u32,
    /// The endpoint's identity.
    pub subject: IdentityId,
    /// The other side's identity; unknown if it was not looked up.
    pub peer: IdentityId,
    /// The rules that decided, or the default deny.
    pub origin: OriginId,
    /// Policy revision of the verdict.
    pub revision: u32,
    /// Who opened the connection, from the endpoint's view; without a connection: which way the packet went.
    pub direction: Direction,
    /// The endpoint's address and port (0 where there is none; ICMP identifier).
    pub local: SocketAddr,
    /// The other side's.
    pub remote: SocketAddr,
    /// IP protocol number; zero below IP.
    pub protocol: u8,
    /// TCP flags: of the packet, or for `Closed` and `Active` all that were seen.
    pub tcp_flags: u8,
    /// Type and code, for ICMP and ICMPv6.
    pub icmp: Option<(u8, u8)>,
    /// From the endpoint.
    pub tx: Count,
    /// Towards the endpoint.
    pub rx: Count,
    /// See [`event_flags`].
    pub flags: u8,
}

impl Event {
    /// From a record of the ring; `None` for a kind or reason that this version does not know.
    pub fn from_record(record: &abi::Event) -> Option<Self> {
        let happening = match EventKind::from_number(record.kind)? {
            EventKind::Opened => Happening::Opened,
            EventKind::Active => Happening::Active,
            EventKind::Closed => Happening::Closed(CloseReason::from_number(record.reason)?),
            EventKind::Dropped => Happening::Dropped(DropReason::from_number(record.reason)?),
        };
        Some(Self {
            time_ns: record.time_ns,
            created_ns: record.created_ns,
            happening,
            hook: Hook::from_number(record.hook)?,
            ifindex: record.ifindex,
            endpoint: record.endpoint,
            subject: IdentityId(record.subject),
            peer: IdentityId(record.peer),
            origin: OriginId(record.origin),
            revision: record.revision,
            direction: direction(abi::Direction::from_number(record.direction)),
            local: SocketAddr::new(record.local.into(), record.local_port.get()),
            remote: SocketAddr::new(record.remote.into(), remote_port(record.protocol, record.remote_port)),
            protocol: record.protocol,
            tcp_flags: record.tcp_flags,
            icmp: is_icmp(record.protocol).then_some((record.icmp_type, record.icmp_code)),
            tx: Count { packets: record.tx_packets, bytes: record.tx_bytes },
            rx: Count { packets: record.rx_packets, bytes: record.rx_bytes },
            flags: record.flags,
        })
    }

    /// A connection that nobody spoke on for its lifetime, as the collector finds it.
    pub(crate) fn timed_out(key: &CtKey, entry: &CtEntry, now_ns: u64) -> Self {
        Self {
            time_ns: now_ns,
            created_ns: entry.created_ns,
            happening: Happening::Closed(CloseReason::Timeout),
            hook: Hook::FromPod,
            ifindex: entry.endpoint,
            endpoint: entry.endpoint,
            subject: IdentityId(entry.subject),
            peer: IdentityId(entry.peer),
            origin: OriginId(entry.origin),
            revision: entry.revision,
            direction: direction(abi::Direction::from_number(entry.direction)),
            local: SocketAddr::new(key.local.into(), key.local_port.get()),
            remote: SocketAddr::new(key.remote.into(), remote_port(key.protocol, key.remote_port)),
            protocol: key.protocol,
            tcp_flags: entry.tx_tcp_flags | entry.rx_tcp_flags,
            icmp: is_icmp(key.protocol).then_some((entry.policy_port.get().to_be_bytes()[1], 0)),
            tx: Count { packets: entry.tx_packets, bytes: entry.tx_bytes },
            rx: Count { packets: entry.rx_packets, bytes: entry.rx_bytes },
            flags: ct_flags(entry.flags),
        }
    }

    /// Drops that were counted and not yet reported. `None` for a reason that this version does not know.
    pub(crate) fn summed_up(key: &DropKey, seen: &DropSeen, now_ns: u64) -> Option<Self> {
        let hook = Hook::from_number(key.hook)?;
        // At a pod's link the node judges as well, seen from itself.
        let of_node = seen.subject == IdentityId::HOST.0;
        let sent = match hook {
            Hook::FromPod => !of_node,
            Hook::ToPod => of_node,
            Hook::FromUplink => false,
            Hook::ToUplink => true,
        };
        let count = Count { packets: seen.packets, bytes: seen.bytes };
        Some(Self {
            time_ns: now_ns,
            created_ns: 0,
            happening: Happening::Dropped(DropReason::from_number(key.reason)?),
            hook,
            ifindex: key.ifindex,
            endpoint: seen.endpoint,
            subject: IdentityId(seen.subject),
            peer: IdentityId(seen.peer),
            origin: OriginId(seen.origin),
            revision: 0,
            direction: if sent { Direction::Egress } else { Direction::Ingress },
            local: SocketAddr::new(key.local.into(), if sent { 0 } else { judged_port(key) }),
            remote: SocketAddr::new(key.remote.into(), if sent { judged_port(key) } else { 0 }),
            protocol: key.protocol,
            tcp_flags: 0,
            icmp: is_icmp(key.protocol).then_some((key.policy_port.get().to_be_bytes()[1], 0)),
            tx: if sent { count } else { Count::default() },
            rx: if sent { Count::default() } else { count },
            flags: 0,
        })
    }

    /// The packet went against the initiating direction.
    pub const fn is_reply(&self) -> bool {
        self.flags & event_flags::REPLY != 0
    }

    /// An auditing rule let it through; enforcement would have dropped it.
    pub const fn is_audit(&self) -> bool {
        self.flags & event_flags::AUDIT != 0
    }

    /// Who opened the connection (who sent the packet, where there is none), and to whom.
    pub const fn ends(&self) -> (SocketAddr, SocketAddr) {
        match self.direction {
            Direction::Egress => (self.local, self.remote),
            Direction::Ingress => (self.remote, self.local),
        }
    }

    /// The addresses alone, in the order of [`ends`](Self::ends).
    pub const fn addresses(&self) -> (IpAddr, IpAddr) {
        let (from, to) = self.ends();
        (from.ip(), to.ip())
    }
}

fn judged_port(key: &DropKey) -> u16 {
    if is_icmp(key.protocol) { 0 } else { key.policy_port.get() }
}

/// ICMP has no second port; conntrack keeps who asked, or the type, in its place.
const fn remote_port(protocol: u8, port: abi::Port) -> u16 {
    if is_icmp(protocol) { 0 } else { port.get() }
}

const fn is_icmp(protocol: u8) -> bool {
    protocol == 1 || protocol == 58
}

const fn ct_flags(flags: u8) -> u8 {
    let mut out = 0;
    if flags & abi::ct_flags::AUDITED != 0 {
        out |= event_flags::AUDIT;
    }
    if flags & abi::ct_flags::PICKED_UP != 0 {
        out |= event_flags::PICKED_UP;
    }
    out
}

pub(crate) const fn direction(direction: abi::Direction) -> Direction {
    match direction {
        abi::Direction::Ingress => Direction::Ingress,
        abi::Direction::Egress => Direction::Egress,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, reason: u8, protocol: u8) -> abi::Event {
        abi::Event {
            kind,
            reason,
            protocol,
            local: IpAddr::from([10, 0, 0, 3]).into(),
            remote: IpAddr::from([10, 0, 0, 2]).into(),
            local_port: abi::Port::new(80),
            remote_port: abi::Port::new(4000),
            icmp_type: 8,
            ..abi::Event::default()
        }
    }

    #[test]
    fn records_become_events_or_are_refused() {
        for (kind, reason, expected) in [
            (1, 0, Some(Happening::Opened)),
            (4, 0, Some(Happening::Active)),
            (3, CloseReason::Reset as u8, Some(Happening::Closed(CloseReason::Reset))),
            (2, DropReason::PolicyDenied as u8, Some(Happening::Dropped(DropReason::PolicyDenied))),
            (2, 0, None),
            (3, 99, None),
            (9, 0, None),
        ] {
            let event = Event::from_record(&record(kind, reason, 6));
            assert_eq!(event.map(|event| event.happening), expected, "{kind} {reason}");
        }
    }

    #[test]
    fn ends_are_those_of_who_opened_it() {
        let tcp = Event::from_record(&record(1, 0, 6)).unwrap();
        assert_eq!(tcp.ends(), ("10.0.0.2:4000".parse().unwrap(), "10.0.0.3:80".parse().unwrap()));
        assert_eq!(tcp.icmp, None);
        let ping = Event::from_record(&record(1, 0, 1)).unwrap();
        assert_eq!(ping.ends(), ("10.0.0.2:0".parse().unwrap(), "10.0.0.3:80".parse().unwrap()));
        assert_eq!(ping.icmp, Some((8, 0)));
    }
}
