use std::net::IpAddr;

use super::super::Wire;
use crate::abi::{
    ANY_PEER, Addr, Config, Direction, Endpoint, IpcacheKey, IpcacheValue, PORT_SET_NONE, PolicyKey, PolicyValue,
    PortRule, PortSetKey, RuleVerdict, ipcache_flags,
};

/// Identity of the endpoint.
pub const SUBJECT: u32 = 1000;
/// Identity of the peer, a pod elsewhere.
pub const PEER: u32 = 2000;
/// Identity of another pod elsewhere.
pub const OTHER: u32 = 3000;
/// Identity of the node itself.
pub const HOST: u32 = 1;
/// Identity of everything without an entry of its own.
pub(super) const WORLD: u32 = 2;
/// Endpoint id.
pub const POD: u32 = 7;
/// Hardware address of the endpoint.
pub const POD_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x05];
/// Hardware address of the node's end of the link, which is also taken for its uplink.
pub const NODE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];

/// The endpoint's address.
pub(super) fn pod(v6: bool) -> IpAddr {
    either(v6, [10, 0, 1, 5], [0xfd00, 1, 0, 0, 0, 0, 0, 5])
}

/// The address of a pod elsewhere.
pub(super) fn peer(v6: bool) -> IpAddr {
    either(v6, [10, 0, 2, 7], [0xfd00, 2, 0, 0, 0, 0, 0, 7])
}

/// The address of another pod elsewhere.
pub(super) fn other(v6: bool) -> IpAddr {
    either(v6, [10, 0, 2, 8], [0xfd00, 2, 0, 0, 0, 0, 0, 8])
}

/// The node's address.
pub(super) fn node(v6: bool) -> IpAddr {
    either(v6, [192, 168, 0, 1], [0xfd00, 0xffff, 0, 0, 0, 0, 0, 1])
}

/// An address on the internet.
pub(super) fn outside(v6: bool) -> IpAddr {
    either(v6, [203, 0, 113, 9], [0x2001, 0xdb8, 0, 0, 0, 0, 0, 9])
}

fn either(v6: bool, v4: [u8; 4], segments: [u16; 8]) -> IpAddr {
    if v6 { IpAddr::from(segments) } else { IpAddr::from(v4) }
}

/// From the pod to the peer.
pub(super) fn tx(v6: bool) -> Wire {
    Wire::new(POD_MAC, NODE_MAC, pod(v6), peer(v6))
}

/// From the peer to the pod.
pub(super) fn rx(v6: bool) -> Wire {
    Wire::new(NODE_MAC, POD_MAC, peer(v6), pod(v6))
}

/// From the peer to the pod, as it arrives at the node.
pub(super) fn arriving(v6: bool) -> Wire {
    Wire::new([0x02, 0, 0, 0, 0, 0x02], NODE_MAC, peer(v6), pod(v6))
}

/// Both families, with a name for each.
pub(super) const FAMILIES: [(bool, &str); 2] = [(false, "IPv4"), (true, "IPv6")];

/// What policy depends on.
#[derive(Clone, Debug)]
pub struct Content {
    /// Policy revision.
    pub revision: u32,
    /// The node as a subject; 0: none.
    pub host: u32,
    /// The endpoint.
    pub endpoint: Endpoint,
    /// `IPCACHE`.
    pub ipcache: Vec<(IpcacheKey, IpcacheValue)>,
    /// `POLICY`.
    pub policy: Vec<(PolicyKey, PolicyValue)>,
    /// `PORT_SETS`.
    pub port_sets: Vec<(PortSetKey, PortRule)>,
}

impl Content {
    /// The pod, its surroundings, and no policy at all, not even an open one.
    pub(super) fn unloaded(revision: u32) -> Self {
        let mut endpoint = Endpoint { id: POD, identity: SUBJECT, mac: POD_MAC, addr_count: 2, ..Endpoint::default() };
        endpoint.addrs[0] = pod(false).into();
        endpoint.addrs[1] = pod(true).into();
        let mut ipcache = Vec::new();
        for (v6, _) in FAMILIES {
            let mut add = |addr: IpAddr, identity, flags| {
                let value = IpcacheValue { identity, flags, node: Addr::UNSPECIFIED };
                ipcache.push((IpcacheKey::exact(addr.into()), value));
            };
            add(pod(v6), SUBJECT, ipcache_flags::LOCAL_ENDPOINT);
            add(peer(v6), PEER, 0);
            add(other(v6), OTHER, 0);
            add(node(v6), HOST, ipcache_flags::HOST);
        }
        ipcache.push((IpcacheKey::default(), IpcacheValue { identity: WORLD, ..IpcacheValue::default() }));
        Self { revision, host: 0, endpoint, ipcache, policy: Vec::new(), port_sets: Vec::new() }
    }

    /// No rules: both directions closed.
    pub(super) fn closed(revision: u32) -> Self {
        Self::unloaded(revision).isolated(Direction::Ingress).isolated(Direction::Egress)
    }

    /// No isolation: both directions open.
    pub(super) fn open(revision: u32) -> Self {
        Self::closed(revision).all(Direction::Ingress).all(Direction::Egress)
    }

    /// Host policies select the node. Both directions are open to and from it, as far as the pod is concerned.
    pub(super) fn with_host(self) -> Self {
        Self { host: HOST, ..self }
    }

    /// `CONFIG`.
    pub fn config(&self) -> Config {
        Config { revision: self.revision, host: self.host, ..Config::default() }
    }

    /// Closes a direction of the node.
    pub(super) fn host_isolated(self, direction: Direction) -> Self {
        self.closes(HOST, direction)
    }

    /// Opens a direction of the node to everyone without an entry of its own.
    pub(super) fn host_all(self, direction: Direction) -> Self {
        self.rule_of(HOST, direction, ANY_PEER, RuleVerdict::Allow, PortSetKey::any)
    }

    /// Lets the node speak with a peer on one port of a protocol.
    pub(super) fn host_allow(self, direction: Direction, peer: u32, protocol: u8, port: u16) -> Self {
        let exact = |set| PortSetKey::port_prefix(set, protocol, port, 16);
        self.rule_of(HOST, direction, peer, RuleVerdict::Allow, exact)
    }

    /// Closes a direction.
    pub(super) fn isolated(self, direction: Direction) -> Self {
        self.closes(SUBJECT, direction)
    }

    fn closes(mut self, subject: u32, direction: Direction) -> Self {
        let key = PolicyKey::new(subject, direction, ANY_PEER);
        self.policy.push((key, PolicyValue { port_set: PORT_SET_NONE, default_origin: 90 + direction as u32 }));
        self
    }

    /// Opens a direction to everyone without an entry of its own.
    pub(super) fn all(self, direction: Direction) -> Self {
        self.rule(direction, ANY_PEER, RuleVerdict::Allow, PortSetKey::any)
    }

    /// Allows one port of a protocol.
    pub(super) fn allow(self, direction: Direction, peer: u32, protocol: u8, port: u16) -> Self {
        self.rule(direction, peer, RuleVerdict::Allow, |set| PortSetKey::port_prefix(set, protocol, port, 16))
    }

    /// Adds a rule to the pair's port set.
    pub(super) fn rule(
        self,
        direction: Direction,
        peer: u32,
        verdict: RuleVerdict,
        key: impl FnOnce(u32) -> PortSetKey,
    ) -> Self {
        self.rule_of(SUBJECT, direction, peer, verdict, key)
    }

    fn rule_of(
        mut self,
        subject: u32,
        direction: Direction,
        peer: u32,
        verdict: RuleVerdict,
        key: impl FnOnce(u32) -> PortSetKey,
    ) -> Self {
        let pair = PolicyKey::new(subject, direction, peer);
        let set = 1 + (subject << 16) + (peer << 1) + direction as u32;
        self.policy.retain(|(key, _)| *key != pair);
        self.policy.push((pair, PolicyValue { port_set: set, default_origin: 90 + direction as u32 }));
        let origin = u32::try_from(self.port_sets.len()).unwrap_or(0) + 1;
        self.port_sets.push((key(set), PortRule::new(verdict, 0, origin)));
        self
    }
}
