//! A node's plan as the tables that the programs read.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use strait_base::IdentityId;
use strait_model::{
    Direction, IpcacheEntry, IpcacheKind, NodePlan, PodKey, PolicyEntry, PortSet, PortSetId, PortVerdict,
};
use strait_packet::abi::{
    self, Config, ENDPOINT_ADDRS, Endpoint, IpcacheKey, IpcacheValue, PolicyKey, PolicyValue, PortRule, PortSetKey,
    RuleVerdict, ipcache_flags,
};

/// A pod's place on the node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Attachment {
    /// Whose it is.
    pub pod: PodKey,
    /// Index of the host-side veth; also the endpoint id in events.
    pub ifindex: u32,
    /// Hardware address of the pod's end.
    pub mac: [u8; 6],
}

/// What the tables shall hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Desired {
    /// `PORT_SETS`.
    pub port_sets: BTreeMap<PortSetKey, PortRule>,
    /// `POLICY`.
    pub policy: BTreeMap<PolicyKey, PolicyValue>,
    /// `IPCACHE`.
    pub ipcache: BTreeMap<IpcacheKey, IpcacheValue>,
    /// `ENDPOINTS`.
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// Whose endpoint has which index.
    pub pods: BTreeMap<u32, PodKey>,
    /// Endpoints that stay closed whatever their policy, and why.
    pub closed: BTreeMap<PodKey, Closed>,
    /// The node as a subject: [`Config::host`].
    pub host: u32,
    /// There is no room for what host policies need: the node is closed.
    pub host_closed: bool,
}

/// Why an endpoint gets no traffic although its policy may allow some.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Closed {
    /// The plan does not know the pod.
    NotPlanned,
    /// It has more addresses than an entry holds.
    TooManyAddresses(usize),
    /// Its policy, or what its policy depends on, did not fit into this map.
    NoRoom(&'static str),
}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotPlanned => f.write_str("no manifest places this pod on this node"),
            Self::TooManyAddresses(found) => {
                write!(f, "it has {found} addresses, at most {ENDPOINT_ADDRS} are allowed")
            }
            Self::NoRoom(map) => write!(f, "what its policy needs does not fit into map {map}"),
        }
    }
}

impl Desired {
    /// The tables for `plan` with pods where `attachments` say. An attachment that the plan does not know gets no entry: the
    /// programs drop its traffic.
    pub(crate) fn new(plan: &NodePlan, attachments: &[Attachment]) -> Self {
        let mut desired = Self::of_endpoints(plan, attachments);
        desired.port_sets = plan.port_sets.iter().flat_map(|(id, set)| port_set_entries(*id, set)).collect();
        desired.policy = plan.policy.iter().map(|(key, entry)| (policy_key(*key), policy_entry(*entry))).collect();
        desired.ipcache =
            plan.ipcache.iter().map(|(prefix, entry)| (ipcache_key(*prefix), ipcache_entry(entry))).collect();
        desired
    }

    /// The endpoints, and whether the node is one; nothing of what they are judged by.
    pub(crate) fn of_endpoints(plan: &NodePlan, attachments: &[Attachment]) -> Self {
        let mut desired = Self::default();
        for attachment in attachments {
            desired.add_endpoint(plan, attachment);
        }
        if plan.judges_host() {
            desired.host = IdentityId::HOST.0;
        }
        desired
    }

    fn add_endpoint(&mut self, plan: &NodePlan, attachment: &Attachment) {
        let Attachment { pod, ifindex, mac } = attachment;
        let closed = match plan.endpoints.get(pod) {
            None => Closed::NotPlanned,
            Some(planned) => match endpoint(*ifindex, planned.identity, *mac, &planned.addresses) {
                None => Closed::TooManyAddresses(planned.addresses.len()),
                Some(endpoint) => {
                    self.endpoints.insert(*ifindex, endpoint);
                    self.pods.insert(*ifindex, pod.clone());
                    return;
                }
            },
        };
        self.closed.insert(pod.clone(), closed);
    }

    /// Closes the endpoints of these identities, and the node: they become a subject that has no policy.
    pub(crate) fn close(&mut self, subjects: &BTreeMap<u32, &'static str>) {
        if self.host != 0 && subjects.contains_key(&IdentityId::HOST.0) {
            self.host = Config::HOST_CLOSED;
            self.host_closed = true;
        }
        for (ifindex, endpoint) in &mut self.endpoints {
            if let Some(map) = subjects.get(&endpoint.identity) {
                endpoint.identity = IdentityId::UNKNOWN.0;
                if let Some(pod) = self.pods.get(ifindex) {
                    self.closed.insert(pod.clone(), Closed::NoRoom(map));
                }
            }
        }
    }

    /// Subjects whose verdicts depend on who the peer is.
    pub(crate) fn peer_dependent(&self) -> BTreeSet<u32> {
        self.policy.keys().filter(|key| key.peer != abi::ANY_PEER).map(|key| key.subject).collect()
    }
}

fn endpoint(id: u32, identity: IdentityId, mac: [u8; 6], addresses: &[IpAddr]) -> Option<Endpoint> {
    let mut endpoint = Endpoint { id, identity: identity.0, mac, ..Endpoint::default() };
    endpoint.addr_count = u8::try_from(addresses.len()).ok()?;
    for (index, address) in addresses.iter().enumerate() {
        *endpoint.addrs.get_mut(index)? = (*address).into();
    }
    Some(endpoint)
}

/// The entries of a port set.
pub(crate) fn port_set_entries(id: PortSetId, set: &PortSet) -> impl Iterator<Item = (PortSetKey, PortRule)> {
    set.entries.iter().map(move |(key, entry)| {
        let key = match key.protocol {
            None => PortSetKey::any(id.0),
            Some(protocol) if key.prefix_len == 0 => PortSetKey::protocol(id.0, protocol),
            Some(protocol) => PortSetKey::port_prefix(id.0, protocol, key.port, key.prefix_len.min(16)),
        };
        (key, PortRule::new(rule_verdict(entry.verdict), entry.precedence, entry.origin.0))
    })
}

/// How a pair is judged.
pub(crate) const fn policy_entry(entry: PolicyEntry) -> PolicyValue {
    PolicyValue { port_set: entry.port_set.0, default_origin: entry.default_origin.0 }
}

/// The key of a pair.
pub(crate) const fn policy_key(key: strait_model::PolicyKey) -> PolicyKey {
    PolicyKey::new(key.subject.0, direction(key.direction), key.peer.0)
}

/// Who is behind a prefix.
pub(crate) fn ipcache_entry(entry: &IpcacheEntry) -> IpcacheValue {
    IpcacheValue {
        identity: entry.identity.0,
        flags: flags(entry.kind),
        node: entry.node.map_or(abi::Addr::UNSPECIFIED, abi::Addr::from),
    }
}

/// The key of a prefix; IPv4 `/n` is `96 + n` of the mapped address.
pub fn ipcache_key(prefix: IpNet) -> IpcacheKey {
    let shift = if prefix.addr().is_ipv4() { 96 } else { 0 };
    IpcacheKey { prefix_len: u32::from(prefix.prefix_len()) + shift, addr: prefix.network().into() }
}

/// The prefix of a key; `None` for a prefix length that no address has.
pub fn ipcache_prefix(key: &IpcacheKey) -> Option<IpNet> {
    let address = IpAddr::from(key.addr);
    let shift = if address.is_ipv4() { 96 } else { 0 };
    match key.prefix_len.checked_sub(shift) {
        Some(len) => IpNet::new(address, u8::try_from(len).ok()?).ok(),
        // Shorter than the mapping prefix: an IPv6 prefix that covers it.
        None => IpNet::new(IpAddr::V6(key.addr.bytes().into()), u8::try_from(key.prefix_len).ok()?).ok(),
    }
}

const fn flags(kind: IpcacheKind) -> u32 {
    match kind {
        IpcacheKind::LocalPod => ipcache_flags::LOCAL_ENDPOINT,
        IpcacheKind::Host => ipcache_flags::HOST,
        IpcacheKind::RemoteNode => ipcache_flags::REMOTE_NODE,
        IpcacheKind::RemotePod | IpcacheKind::Unmanaged | IpcacheKind::World | IpcacheKind::Cidr => 0,
    }
}

const fn direction(direction: Direction) -> abi::Direction {
    match direction {
        Direction::Ingress => abi::Direction::Ingress,
        Direction::Egress => abi::Direction::Egress,
    }
}

const fn rule_verdict(verdict: PortVerdict) -> RuleVerdict {
    match verdict {
        PortVerdict::Deny => RuleVerdict::Deny,
        PortVerdict::Allow => RuleVerdict::Allow,
        PortVerdict::Redirect => RuleVerdict::Redirect,
        PortVerdict::Audit => RuleVerdict::Audit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_round_trip() {
        for (text, prefix_len) in [
            ("10.1.0.0/16", 112),
            ("0.0.0.0/0", 96),
            ("10.1.2.3/32", 128),
            ("::/0", 0),
            ("fd00::/8", 8),
            ("fd00::1/128", 128),
        ] {
            let prefix: IpNet = text.parse().unwrap();
            let key = ipcache_key(prefix);
            assert_eq!(key.prefix_len, prefix_len, "{text}");
            assert_eq!(ipcache_prefix(&key), Some(prefix), "{text}");
        }
    }
}
