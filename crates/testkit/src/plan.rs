//! A node's plan, read entry by entry as its documentation says a datapath reads it; no lookup of `model` is used.

use std::net::IpAddr;

use ipnet::IpNet;
use strait_base::IdentityId;
pub use strait_model::Direction;
use strait_model::{IdentityInfo, IpcacheEntry, NodePlan, Origin, OriginId, PodKey, PolicyKey, PortSetId, PortVerdict};

use crate::Traffic;

/// How a plan judges one side of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reading {
    /// The pod is no endpoint of the node.
    NoEndpoint,
    /// No host policy selects the node: what it sends and receives is not judged.
    NotJudged,
    /// No prefix has the peer's address.
    NoPeer,
    /// There is no entry for subject and peer, nor for subject and any peer.
    NoEntry(IdentityId, IdentityId),
    /// No port matches: denied, on account of the isolating policies.
    NoPort(IdentityId, IdentityId, OriginId),
    /// A port does, on account of rules.
    Port(IdentityId, IdentityId, PortVerdict, OriginId),
}

impl Reading {
    /// Whether the packet goes on.
    pub fn allowed(&self) -> bool {
        match self {
            Self::Port(_, _, verdict, _) => *verdict != PortVerdict::Deny,
            Self::NotJudged => true,
            Self::NoEndpoint | Self::NoPeer | Self::NoEntry(..) | Self::NoPort(..) => false,
        }
    }

    /// What it is due to.
    pub fn origins<'a>(&self, plan: &'a NodePlan) -> &'a [Origin] {
        match self {
            Self::Port(_, _, _, origin) | Self::NoPort(_, _, origin) => {
                plan.origins.get(origin).map_or(&[], |origins| origins)
            }
            Self::NoEndpoint | Self::NotJudged | Self::NoPeer | Self::NoEntry(..) => &[],
        }
    }
}

/// Whose side of a connection a plan judges.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    /// A pod of the node.
    Pod(PodKey),
    /// The node itself.
    Host,
}

/// Judges what `subject` sends to, or receives from, `peer`.
pub fn judge(plan: &NodePlan, subject: &Subject, direction: Direction, peer: IpAddr, traffic: Traffic) -> Reading {
    let subject = match subject {
        Subject::Host if plan.policy.keys().any(|key| key.subject == IdentityId::HOST) => IdentityId::HOST,
        Subject::Host => return Reading::NotJudged,
        Subject::Pod(pod) => match plan.endpoints.get(pod) {
            Some(endpoint) => endpoint.identity,
            None => return Reading::NoEndpoint,
        },
    };
    let Some(entry) = peer_of(plan, peer) else { return Reading::NoPeer };
    let peer_id = entry.identity;
    let key = |peer| PolicyKey { subject, direction, peer };
    let exact = plan.policy.get(&key(peer_id));
    let Some(policy) = exact.or_else(|| plan.policy.get(&key(IdentityId::UNKNOWN))) else {
        return Reading::NoEntry(subject, peer_id);
    };
    let (protocol, port) = match traffic {
        Traffic::Port(protocol, port) => (protocol.number(), port),
        // Where other protocols have a port, ICMP has its type.
        Traffic::Icmp if peer.is_ipv6() => (58, 128),
        Traffic::Icmp => (1, 8),
    };
    let fitting = plan.port_sets.get(&policy.port_set).into_iter().flat_map(|set| &set.entries).filter(|(key, _)| {
        let bits = u32::from(key.prefix_len);
        key.protocol.is_none_or(|only| only == protocol)
            && (bits == 0 || (u32::from(key.port ^ port) >> (16 - bits)) == 0)
    });
    match fitting.max_by_key(|(key, _)| (key.protocol.is_some(), key.prefix_len)) {
        Some((_, entry)) => Reading::Port(subject, peer_id, entry.verdict, entry.origin),
        None => Reading::NoPort(subject, peer_id, policy.default_origin),
    }
}

fn peer_of(plan: &NodePlan, address: IpAddr) -> Option<IpcacheEntry> {
    let fitting = plan.ipcache.iter().filter(|(prefix, _)| prefix.contains(&address));
    fitting.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, entry)| *entry)
}

/// What of a plan's own promises it breaks.
pub fn broken(plan: &NodePlan) -> Option<String> {
    let defaults = ["0.0.0.0/0", "::/0"].iter().filter_map(|text| text.parse::<IpNet>().ok());
    for default in defaults {
        if !plan.ipcache.contains_key(&default) {
            return Some(format!("ipcache has no entry for {default}"));
        }
    }
    for (pod, endpoint) in &plan.endpoints {
        for direction in Direction::BOTH {
            let key = PolicyKey { subject: endpoint.identity, direction, peer: IdentityId::UNKNOWN };
            if !plan.policy.contains_key(&key) {
                return Some(format!("{pod} ({}) has no any-peer entry for {direction}", endpoint.identity));
            }
        }
    }
    let host = |direction| PolicyKey { subject: IdentityId::HOST, direction, peer: IdentityId::UNKNOWN };
    if Direction::BOTH.iter().filter(|direction| plan.policy.contains_key(&host(**direction))).count() == 1 {
        return Some("the node is judged in one direction only".to_owned());
    }
    for (key, entry) in &plan.policy {
        let known = key.subject == IdentityId::HOST || plan.endpoints.values().any(|one| one.identity == key.subject);
        if !known {
            return Some(format!("{key:?} is about nobody of the node"));
        }
        if entry.port_set != PortSetId::EMPTY && !plan.port_sets.contains_key(&entry.port_set) {
            return Some(format!("{key:?} refers to port set {:?}, which is not there", entry.port_set));
        }
    }
    let origins = plan.policy.values().map(|entry| entry.default_origin);
    let origins = origins.chain(plan.port_sets.values().flat_map(|set| set.entries.values().map(|entry| entry.origin)));
    for origin in origins {
        if origin != OriginId::NONE && !plan.origins.contains_key(&origin) {
            return Some(format!("origin {origin:?} is not there"));
        }
    }
    let identities = plan.ipcache.values().map(|entry| entry.identity);
    for identity in identities.chain(plan.endpoints.values().map(|endpoint| endpoint.identity)) {
        if !plan.identities.contains_key(&identity) {
            return Some(format!("identity {identity} is not described"));
        }
    }
    None
}

/// What `after`, compiled where `before` was, gives another meaning: a datapath that goes from one to the other changes entries one by one, so
/// a number that both use must mean the same.
pub fn contradicts(before: &NodePlan, after: &NodePlan) -> Option<String> {
    for (id, set) in &after.port_sets {
        if before.port_sets.get(id).is_some_and(|other| other != set) {
            return Some(format!("port set {id:?} has other entries than before"));
        }
    }
    let rules = |origins: &[Origin]| -> Vec<_> {
        let rule = |origin: &Origin| {
            (origin.kind.clone(), origin.namespace.clone(), origin.name.clone(), origin.direction, origin.rule)
        };
        origins.iter().map(rule).collect()
    };
    for (id, origins) in &after.origins {
        if before.origins.get(id).is_some_and(|others| rules(others) != rules(origins)) {
            return Some(format!("origin {id:?} names other rules than before"));
        }
    }
    for (id, identity) in &after.identities {
        let other = |other: &IdentityInfo| {
            other.namespace != identity.namespace
                || other.service_account != identity.service_account
                || other.pod_labels != identity.pod_labels
                || other.refined_from != identity.refined_from
        };
        if before.identities.get(id).is_some_and(other) {
            return Some(format!("identity {id} stands for others than before"));
        }
    }
    None
}
