//! Policies as they are written beside what they mean, whatever their kind.

use std::collections::BTreeMap;

use strait_api::{
    CiliumNetworkPolicy, CiliumPeers, CiliumRule, CiliumSelector, CiliumSubject, CiliumTrafficRule,
    ClusterNetworkPolicy, ClusterPeerSelector, ClusterPort, ClusterRule, ClusterSubject, Kind, NetworkPolicy,
    NetworkPolicyRule, Objects, PeerSelector as WrittenPeer, PortRef,
};
use strait_base::{Location, PortRange, Protocol};
use strait_model::{
    Direction, Snapshot,
    rule::{Effect, EndpointSelector, Peer, PeerSelector, Peers, Policy, Ports, Rule},
};

use crate::{finding::ObjectRef, place::At};

/// One policy, or one `spec` of it.
pub(crate) struct PolicyView<'a> {
    pub object: ObjectRef,
    /// What it means; `None` where it can be about nobody.
    pub policy: Option<&'a Policy>,
    /// Its `spec`.
    pub at: At,
    pub subject: SelectorAt,
    pub written: Written<'a>,
    pub rules: Vec<RuleView<'a>>,
}

/// A policy as it is written.
#[derive(Clone, Copy)]
pub(crate) enum Written<'a> {
    Kubernetes(&'a NetworkPolicy),
    Cilium(&'a CiliumNetworkPolicy, &'a CiliumRule),
    Cluster(&'a ClusterNetworkPolicy),
}

/// Where a selector of pods is written.
#[derive(Clone)]
pub(crate) struct SelectorAt {
    /// What selects the namespaces; for Cilium's kinds the same as `pods`.
    pub namespaces: At,
    pub pods: At,
}

/// One rule of a policy.
pub(crate) struct RuleView<'a> {
    pub at: At,
    pub direction: Direction,
    /// What it means, a rule for each effect; none where it matches nothing.
    pub lowered: Vec<&'a Rule>,
    pub written: WrittenRule<'a>,
    /// The list of peers.
    pub peers_at: At,
    /// `None`: everyone.
    pub peers: Option<Vec<PeerView<'a>>>,
    /// None: everything.
    pub ports: Vec<PortView>,
}

/// A rule as it is written.
#[derive(Clone, Copy)]
pub(crate) enum WrittenRule<'a> {
    Kubernetes(&'a NetworkPolicyRule),
    Cilium(&'a CiliumTrafficRule),
    Cluster(&'a ClusterRule),
}

/// One entry of a list of peers.
pub(crate) struct PeerView<'a> {
    pub at: At,
    /// Where its selector of pods is, where it is one.
    pub selector: Option<SelectorAt>,
    /// Whom it means; nobody where empty.
    pub means: Vec<&'a PeerSelector>,
    /// Cilium's selector, where it is one.
    pub cilium: Option<&'a CiliumSelector>,
}

/// One entry of a list of ports.
pub(crate) struct PortView {
    /// The port in it.
    pub at: At,
    /// Any of these protocols.
    pub protocols: Vec<Protocol>,
    pub ports: Ports,
}

impl PolicyView<'_> {
    /// The endpoints that it is about.
    pub(crate) fn endpoints(&self) -> Option<&EndpointSelector> {
        self.policy?.subject.endpoints()
    }

    pub(crate) fn audit(&self) -> bool {
        self.policy.is_some_and(|policy| policy.audit)
    }
}

impl RuleView<'_> {
    /// Whether it has a part with this effect.
    pub(crate) fn has(&self, effect: Effect) -> bool {
        self.lowered.iter().any(|rule| rule.effect == effect)
    }

    /// Whether it says who may connect, as far as that is enforced.
    pub(crate) fn opens(&self) -> bool {
        self.has(Effect::Allow) || self.has(Effect::Closed)
    }
}

/// Views of all policies.
pub(crate) fn views<'a>(objects: &'a Objects, snapshot: &'a Snapshot) -> Vec<PolicyView<'a>> {
    let mut lowered: BTreeMap<(&str, &Location), &'a Policy> = BTreeMap::new();
    for policy in snapshot.policies() {
        lowered.insert((&policy.kind, &policy.location), policy);
    }
    let find = |kind: Kind, location: &Location| lowered.get(&(kind.as_str(), location)).copied();
    let mut views = Vec::new();
    for object in objects.network_policies() {
        views.push(kubernetes(object, find(Kind::NetworkPolicy, &object.meta.location)));
    }
    for object in objects.cilium_policies() {
        let kind = if object.clusterwide { Kind::CiliumClusterwideNetworkPolicy } else { Kind::CiliumNetworkPolicy };
        views.extend(object.rules.iter().map(|spec| cilium(object, kind, spec, find(kind, &spec.location))));
    }
    for object in objects.cluster_policies() {
        views.push(cluster(object, find(object.kind.kind(), &object.meta.location)));
    }
    views
}

fn parts<'a>(policy: Option<&'a Policy>, location: &Location) -> Vec<&'a Rule> {
    let rules = policy.map_or(&[][..], |policy| &policy.rules);
    rules.iter().filter(|rule| rule.origin.location == *location).collect()
}

/// Whom entry `entry` of the list of peers means.
fn means<'a>(lowered: &[&'a Rule], entry: usize) -> Vec<&'a PeerSelector> {
    let Some(Peers::Of(peers)) = lowered.first().map(|rule| &rule.peers) else { return Vec::new() };
    peers.iter().filter(|peer: &&Peer| peer.entry == entry).map(|peer| &peer.selects).collect()
}

fn kubernetes<'a>(object: &'a NetworkPolicy, policy: Option<&'a Policy>) -> PolicyView<'a> {
    let at = At::new(&object.meta.location).field("spec");
    let directions = [(Direction::Ingress, "from", &object.ingress), (Direction::Egress, "to", &object.egress)];
    let rules = directions.into_iter().flat_map(|(direction, name, rules)| {
        rules.iter().map(move |rule| {
            let (at, lowered) = (At::new(&rule.location), parts(policy, &rule.location));
            let peers = rule.peers.iter().enumerate().map(|(entry, peer)| {
                let at = At::new(&peer.location);
                let namespaces = match &peer.selects {
                    WrittenPeer::Pods(_) => at.field("podSelector"),
                    WrittenPeer::Namespaces(_) | WrittenPeer::NamespacedPods { .. } | WrittenPeer::IpBlock { .. } => {
                        at.field("namespaceSelector")
                    }
                };
                let selector = match &peer.selects {
                    WrittenPeer::IpBlock { .. } => None,
                    WrittenPeer::Pods(_) | WrittenPeer::Namespaces(_) | WrittenPeer::NamespacedPods { .. } => {
                        Some(SelectorAt { namespaces, pods: at.field("podSelector") })
                    }
                };
                PeerView { at, selector, means: means(&lowered, entry), cilium: None }
            });
            let ports = rule.ports.iter().map(|port| PortView {
                at: At::new(&port.location).field("port"),
                protocols: vec![port.protocol],
                ports: ports(port.port.as_ref(), port.end_port),
            });
            let peers: Vec<_> = peers.collect();
            RuleView {
                direction,
                peers_at: at.field(name),
                at,
                written: WrittenRule::Kubernetes(rule),
                peers: (!peers.is_empty()).then_some(peers),
                ports: ports.collect(),
                lowered,
            }
        })
    });
    let subject = SelectorAt { namespaces: at.field("podSelector"), pods: at.field("podSelector") };
    PolicyView {
        object: ObjectRef::new(Kind::NetworkPolicy, &object.meta),
        policy,
        rules: rules.collect(),
        subject,
        at,
        written: Written::Kubernetes(object),
    }
}

fn ports(port: Option<&PortRef>, end: Option<u16>) -> Ports {
    match port {
        None => Ports::Range(PortRange::ALL),
        Some(PortRef::Name(name)) => Ports::Named(name.clone()),
        Some(PortRef::Number(first)) => {
            Ports::Range(PortRange::new(*first, end.unwrap_or(*first)).unwrap_or(PortRange::single(*first)))
        }
    }
}

fn cilium<'a>(
    object: &'a CiliumNetworkPolicy,
    kind: Kind,
    spec: &'a CiliumRule,
    policy: Option<&'a Policy>,
) -> PolicyView<'a> {
    let at = At::new(&spec.location);
    let sections = [
        (Direction::Ingress, &spec.ingress),
        (Direction::Ingress, &spec.ingress_deny),
        (Direction::Egress, &spec.egress),
        (Direction::Egress, &spec.egress_deny),
    ];
    let rules = sections
        .into_iter()
        .flat_map(|(direction, rules)| rules.iter().map(move |rule| cilium_rule(rule, direction, policy)));
    let subject = match &spec.subject {
        CiliumSubject::Endpoints(_) => at.field("endpointSelector"),
        CiliumSubject::Nodes(_) => at.field("nodeSelector"),
    };
    PolicyView {
        object: ObjectRef::new(kind, &object.meta),
        policy,
        rules: rules.collect(),
        subject: SelectorAt { namespaces: subject.clone(), pods: subject },
        at,
        written: Written::Cilium(object, spec),
    }
}

fn cilium_rule<'a>(rule: &'a CiliumTrafficRule, direction: Direction, policy: Option<&'a Policy>) -> RuleView<'a> {
    let (at, lowered) = (At::new(&rule.location), parts(policy, &rule.location));
    let ingress = direction == Direction::Ingress;
    let (name, count) = match &rule.peers {
        CiliumPeers::Any => ("", 0),
        CiliumPeers::Endpoints(list) => (if ingress { "fromEndpoints" } else { "toEndpoints" }, list.len()),
        CiliumPeers::Cidrs(list) => (if ingress { "fromCIDR" } else { "toCIDR" }, list.len()),
        CiliumPeers::CidrSets(list) => (if ingress { "fromCIDRSet" } else { "toCIDRSet" }, list.len()),
        CiliumPeers::Entities(list) => (if ingress { "fromEntities" } else { "toEntities" }, list.len()),
        CiliumPeers::Services(list) => ("toServices", list.len()),
        CiliumPeers::Nodes(list) => (if ingress { "fromNodes" } else { "toNodes" }, list.len()),
        CiliumPeers::Fqdns(list) => ("toFQDNs", list.len()),
        CiliumPeers::Groups(list) => (if ingress { "fromGroups" } else { "toGroups" }, list.len()),
    };
    let peers_at = if name.is_empty() { at.clone() } else { at.field(name) };
    let everyone =
        matches!(rule.peers, CiliumPeers::Any) || lowered.first().is_some_and(|rule| matches!(rule.peers, Peers::Any));
    let peers = (0..count).map(|entry| {
        let at = peers_at.item(entry);
        let cilium = if let CiliumPeers::Endpoints(list) = &rule.peers { list.get(entry) } else { None };
        let selector = cilium.map(|_| SelectorAt { namespaces: at.clone(), pods: at.clone() });
        PeerView { at, selector, means: means(&lowered, entry), cilium }
    });
    let ports = rule.ports.iter().flat_map(|entry| &entry.ports).map(|port| PortView {
        at: At::new(&port.location).field("port"),
        protocols: port.protocol.map_or(Protocol::ALL.to_vec(), |protocol| vec![protocol]),
        ports: ports(port.port.as_ref(), port.end_port),
    });
    RuleView {
        direction,
        peers: (!everyone).then(|| peers.collect()),
        peers_at,
        at,
        written: WrittenRule::Cilium(rule),
        ports: ports.collect(),
        lowered,
    }
}

fn cluster<'a>(object: &'a ClusterNetworkPolicy, policy: Option<&'a Policy>) -> PolicyView<'a> {
    let at = At::new(&object.meta.location).field("spec");
    let directions = [(Direction::Ingress, "from", &object.ingress), (Direction::Egress, "to", &object.egress)];
    let rules = directions.into_iter().flat_map(|(direction, name, rules)| {
        rules.iter().map(move |rule| {
            let (at, lowered) = (At::new(&rule.location), parts(policy, &rule.location));
            let peers = rule.peers.iter().enumerate().map(|(entry, peer)| {
                let at = At::new(&peer.location);
                let selector = match &peer.selects {
                    ClusterPeerSelector::Namespaces(_) => {
                        Some(SelectorAt { namespaces: at.field("namespaces"), pods: at.field("namespaces") })
                    }
                    ClusterPeerSelector::Pods { .. } => Some(SelectorAt {
                        namespaces: at.field("pods.namespaceSelector"),
                        pods: at.field("pods.podSelector"),
                    }),
                    ClusterPeerSelector::Nodes(_)
                    | ClusterPeerSelector::Networks(_)
                    | ClusterPeerSelector::DomainNames(_) => None,
                };
                PeerView { at, selector, means: means(&lowered, entry), cilium: None }
            });
            let list = if matches!(object.kind, strait_api::ClusterPolicyKind::ClusterNetworkPolicy) {
                "protocols"
            } else {
                "ports"
            };
            let ports = rule.ports.iter().enumerate().map(|(index, port)| {
                let (protocols, ports) = match port {
                    ClusterPort::Protocol(protocol) => (vec![*protocol], Ports::Range(PortRange::ALL)),
                    ClusterPort::Range { protocol, first, last } => {
                        let range = PortRange::new(*first, *last).unwrap_or(PortRange::single(*first));
                        (vec![*protocol], Ports::Range(range))
                    }
                    ClusterPort::Named(name) => (Protocol::ALL.to_vec(), Ports::Named(name.clone())),
                };
                PortView { at: At::new(&rule.location).field(list).item(index), protocols, ports }
            });
            RuleView {
                direction,
                peers: Some(peers.collect()),
                peers_at: at.field(name),
                written: WrittenRule::Cluster(rule),
                ports: ports.collect(),
                lowered,
                at,
            }
        })
    });
    let subject = match &object.subject {
        ClusterSubject::Namespaces(_) => {
            SelectorAt { namespaces: at.field("subject.namespaces"), pods: at.field("subject.namespaces") }
        }
        ClusterSubject::Pods { .. } => SelectorAt {
            namespaces: at.field("subject.pods.namespaceSelector"),
            pods: at.field("subject.pods.podSelector"),
        },
    };
    PolicyView {
        object: ObjectRef::new(object.kind.kind(), &object.meta),
        policy,
        rules: rules.collect(),
        subject,
        at,
        written: Written::Cluster(object),
    }
}
