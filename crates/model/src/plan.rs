//! What one node enforces: the compiled form of a snapshot, as a datapath loads it.
//!
//! ```text
//! address ── ipcache (longest prefix) ──→ peer identity ┐
//! endpoint ─────────────────────────────→ subject       ┴→ policy[(subject, direction, peer)], else policy[(subject, direction, 0)]
//!                                                           └→ port set (longest prefix) ──→ verdict, origin
//!                                                              └ miss: deny, default_origin
//! ```

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use strait_base::{IdentityId, Labels};

use crate::{
    connection::{Direction, Family, L4, PodKey},
    rule::Origin,
};

/// Names the content of a port set. An id's content never changes; new content gets a new id. 0 is the empty set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct PortSetId(pub u32);

impl PortSetId {
    /// The set without an entry: everything is denied with the default origin.
    pub const EMPTY: Self = Self(0);
}

/// Names a set of origins. Stable while the set names the same rules of the same policies, wherever they move in their files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct OriginId(pub u32);

impl OriginId {
    /// No rule decides: not isolated, or allowed whatever policies say.
    pub const NONE: Self = Self(0);
}

/// Everything a node needs to judge the connections of its pods, and its own where host policies select it. Equal snapshots give equal plans.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodePlan {
    /// Who is behind an address: the longest prefix decides. Always has both default routes.
    pub ipcache: BTreeMap<IpNet, IpcacheEntry>,
    /// The pods of this node that have addresses of their own.
    pub endpoints: BTreeMap<PodKey, EndpointPlan>,
    /// Which port set judges a pair. Every subject has an any-peer entry in both directions.
    pub policy: BTreeMap<PolicyKey, PolicyEntry>,
    /// The port sets that `policy` refers to; [`PortSetId::EMPTY`] is left out.
    pub port_sets: BTreeMap<PortSetId, PortSet>,
    /// The origin sets that `policy` and `port_sets` refer to; [`OriginId::NONE`] is left out.
    pub origins: BTreeMap<OriginId, Vec<Origin>>,
    /// Every identity that `ipcache` and `endpoints` refer to.
    pub identities: BTreeMap<IdentityId, IdentityInfo>,
}

/// Who is behind a prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IpcacheEntry {
    /// The peer's identity.
    pub identity: IdentityId,
    /// What kind of peer it is.
    pub kind: IpcacheKind,
    /// An address of the node behind which it is, of the prefix's family where the node has one.
    pub node: Option<IpAddr>,
}

/// What is behind a prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IpcacheKind {
    /// A pod of this node.
    LocalPod,
    /// A pod of another node.
    RemotePod,
    /// This node.
    Host,
    /// Another node.
    RemoteNode,
    /// Pod addresses that no known pod has.
    Unmanaged,
    /// Outside the cluster, where no policy in force names a block.
    World,
    /// Outside the cluster, in blocks that policies in force name.
    Cidr,
}

/// A pod of this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointPlan {
    /// The subject of its own policies. `ipcache` may hold refinements of the same base identity for its addresses.
    pub identity: IdentityId,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
}

/// A subject, a direction and a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PolicyKey {
    /// Identity of the endpoint that policies select; [`IdentityId::HOST`] for the node itself.
    pub subject: IdentityId,
    /// From the subject's view.
    pub direction: Direction,
    /// Identity of the other side; [`IdentityId::UNKNOWN`] stands for every peer without an entry of its own.
    pub peer: IdentityId,
}

/// How a pair is judged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PolicyEntry {
    /// The rules by port.
    pub port_set: PortSetId,
    /// What a deny by default is blamed on: the policies that isolate the subject.
    pub default_origin: OriginId,
}

/// Verdicts by protocol and port; the longest prefix decides, a miss denies.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct PortSet {
    /// The entries.
    pub entries: BTreeMap<PortKey, PortEntry>,
}

/// A prefix over protocol and port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PortKey {
    /// IP protocol number; `None` is every protocol, and then `prefix_len` is 0.
    pub protocol: Option<u8>,
    /// The port, of ICMP and ICMPv6 the type; bits behind the prefix are zero.
    pub port: u16,
    /// How many leading bits of the port count, 0-16.
    pub prefix_len: u8,
}

/// What a prefix does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PortEntry {
    /// The verdict.
    pub verdict: PortVerdict,
    /// The rules that give it.
    pub origin: OriginId,
    /// Rank of those rules.
    pub precedence: u32,
}

/// What a rule does with a new connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortVerdict {
    /// Drop, by an explicit rule.
    Deny,
    /// Pass.
    Allow,
    /// Hand to the L7 proxy.
    Redirect,
    /// Pass, and report that enforcement would have dropped it.
    Audit,
}

impl PortVerdict {
    /// Whether the connection goes on.
    pub const fn passes(self) -> bool {
        !matches!(self, Self::Deny)
    }
}

/// What an identity stands for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityInfo {
    /// Security-relevant labels as Cilium writes them: `k8s:app=web`, `k8s:io.kubernetes.pod.namespace=shop`, `reserved:host`.
    pub labels: Vec<Arc<str>>,
    /// The name of a reserved identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved: Option<&'static str>,
    /// The namespace of a workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Arc<str>>,
    /// The service account of a workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<Arc<str>>,
    /// The pod labels of a workload that count.
    #[serde(skip_serializing_if = "labels_empty")]
    pub pod_labels: Labels,
    /// The blocks that its addresses are in, as policies in force name them: `10.0.0.0/8 except 10.1.0.0/16`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
    /// The identity that this one refines because policies in force on this node tell its members apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refined_from: Option<IdentityId>,
    /// What sets a refinement apart, for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refined_by: Vec<String>,
}

fn labels_empty(labels: &Labels) -> bool {
    labels.0.is_empty()
}

/// How a plan judges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Judgement {
    /// Whether the connection goes on.
    pub allowed: bool,
    /// The rules or policies that it is due to.
    pub origin: OriginId,
}

impl PortSet {
    /// The entry that decides for this protocol number and port (of ICMP and ICMPv6: the type): that of the longest prefix.
    pub fn lookup(&self, protocol: u8, port: u16) -> Option<&PortEntry> {
        (0..=16_u8)
            .rev()
            .find_map(|prefix_len| {
                let mask = u16::MAX.checked_shl(16 - u32::from(prefix_len)).unwrap_or(0);
                self.entries.get(&PortKey { protocol: Some(protocol), port: port & mask, prefix_len })
            })
            .or_else(|| self.entries.get(&PortKey { protocol: None, port: 0, prefix_len: 0 }))
    }
}

impl NodePlan {
    /// Whether host policies select the node: it is a subject then, with identity `host`, and else is not judged at all.
    pub fn judges_host(&self) -> bool {
        let key = |direction| PolicyKey { subject: IdentityId::HOST, direction, peer: IdentityId::UNKNOWN };
        Direction::BOTH.into_iter().any(|direction| self.policy.contains_key(&key(direction)))
    }

    /// The ipcache entry that decides for `address`.
    pub fn peer(&self, address: IpAddr) -> Option<&IpcacheEntry> {
        longest(&self.ipcache, IpNet::from(address))
    }

    /// How the plan judges a connection between `subject` and `peer`, as the datapath does: no entry, no passage.
    pub fn judge(
        &self,
        subject: IdentityId,
        direction: Direction,
        peer: IdentityId,
        protocol: u8,
        port: u16,
    ) -> Judgement {
        let entry = |peer| self.policy.get(&PolicyKey { subject, direction, peer });
        let Some(entry) = entry(peer).or_else(|| entry(IdentityId::UNKNOWN)) else {
            return Judgement { allowed: false, origin: OriginId::NONE };
        };
        match self.port_sets.get(&entry.port_set).and_then(|set| set.lookup(protocol, port)) {
            Some(hit) => Judgement { allowed: hit.verdict.passes(), origin: hit.origin },
            None => Judgement { allowed: false, origin: entry.default_origin },
        }
    }

    /// As [`judge`](Self::judge), from a pod of this node and the address of its peer; a pod always reaches itself. `None` where
    /// the pod is no endpoint of this node.
    pub fn judge_address(&self, subject: &PodKey, direction: Direction, peer: IpAddr, l4: L4) -> Option<Judgement> {
        let endpoint = self.endpoints.get(subject)?;
        if endpoint.addresses.contains(&peer) {
            return Some(Judgement { allowed: true, origin: OriginId::NONE });
        }
        Some(self.judge_subject(endpoint.identity, direction, peer, l4))
    }

    /// As [`judge_address`](Self::judge_address), from this node itself: `own` is its address. `None` where it is not, or nothing of it is
    /// judged.
    pub fn judge_host_address(&self, own: IpAddr, direction: Direction, peer: IpAddr, l4: L4) -> Option<Judgement> {
        let is_host = self.peer(own).is_some_and(|entry| entry.kind == IpcacheKind::Host);
        (is_host && self.judges_host()).then(|| self.judge_subject(IdentityId::HOST, direction, peer, l4))
    }

    fn judge_subject(&self, subject: IdentityId, direction: Direction, peer: IpAddr, l4: L4) -> Judgement {
        let identity = self.peer(peer).map_or(IdentityId::UNKNOWN, |entry| entry.identity);
        let (protocol, port) = match l4 {
            L4::Port { protocol, port } => (protocol.number(), port),
            L4::Icmp => {
                let family = Family::of(peer);
                (family.icmp(), u16::from(family.echo_request()))
            }
            L4::Other(number) => (number, 0),
        };
        self.judge(subject, direction, identity, protocol, port)
    }
}

/// What stands under the longest prefix over `prefix`, itself included.
pub(crate) fn longest<T>(entries: &BTreeMap<IpNet, T>, prefix: IpNet) -> Option<&T> {
    (0..=prefix.prefix_len()).rev().find_map(|len| entries.get(&IpNet::new(prefix.addr(), len).ok()?.trunc()))
}
