//! `policy.networking.k8s.io`: the tiers around the namespaced kinds.
//!
//! Within a tier the lower priority goes first; of equal ones, whose order upstream leaves open, the name that sorts first, then the
//! kind. Within a policy the first rule that matches decides.

use std::sync::Arc;

use strait_api::{
    ClusterAction, ClusterNetworkPolicy, ClusterPeerSelector, ClusterPort, ClusterRule, ClusterSubject, ClusterTier,
    Objects,
};
use strait_base::{LabelSelector, PortRange, Protocol};

use crate::{
    connection::Direction,
    problem::{Lack, Problem},
    rule::{
        Block, Effect, EndpointSelector, L4Match, NamespaceSelector, Origin, Peer, PeerSelector, Peers, Policy,
        PortMatch, Ports, Precedence, Reach, Rule, Subject, Tier,
    },
};

/// Levels for each policy: more than a list of rules may have.
const RULES: u32 = 1 << 7;
/// Policies of one priority that are told apart.
const EQUALS: u32 = 1 << 5;

/// Lowers all of them.
pub(super) fn lower(objects: &Objects, problems: &mut Vec<Problem>) -> Vec<Policy> {
    let mut all: Vec<_> = objects.cluster_policies().collect();
    all.sort_by(|a, b| {
        let key = |policy: &ClusterNetworkPolicy| (policy.tier, policy.priority);
        key(a).cmp(&key(b)).then_with(|| (&a.meta.name, a.kind).cmp(&(&b.meta.name, b.kind)))
    });
    let mut policies = Vec::new();
    let mut equals = 0;
    for (index, policy) in all.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| all.get(before));
        let same = before.is_some_and(|before| (before.tier, before.priority) == (policy.tier, policy.priority));
        equals = if same { (equals + 1).min(EQUALS - 1) } else { 0 };
        let level = (u32::from(policy.priority) * EQUALS + equals) * RULES;
        policies.push(lower_policy(policy, level, problems));
    }
    policies
}

fn lower_policy(object: &ClusterNetworkPolicy, level: u32, problems: &mut Vec<Problem>) -> Policy {
    let kind: Arc<str> = Arc::from(object.kind.kind().as_str());
    let subject = match &object.subject {
        ClusterSubject::Namespaces(namespaces) => selector(namespaces, &LabelSelector::default()),
        ClusterSubject::Pods { namespaces, pods } => selector(namespaces, pods),
    };
    let directions = [(Direction::Ingress, &object.ingress), (Direction::Egress, &object.egress)];
    let mut rules = Vec::new();
    for (direction, list) in directions {
        for (index, rule) in (0..).zip(list) {
            let named = rule.peers.iter().any(|peer| matches!(peer.selects, ClusterPeerSelector::DomainNames(_)));
            if named {
                problems.push(super::problem(Lack::DomainNames, &kind, &object.meta, &rule.location));
            }
            rules.push(lower_rule(object, &kind, (direction, index), level, rule));
        }
    }
    Policy {
        namespace: Arc::clone(&object.meta.namespace),
        name: Arc::clone(&object.meta.name),
        location: object.meta.location.clone(),
        subject: Subject::Endpoints(subject),
        isolates: Vec::new(),
        isolates_from_own_node: true,
        audit: super::audits(&object.meta),
        rules,
        kind,
    }
}

fn lower_rule(
    object: &ClusterNetworkPolicy,
    kind: &Arc<str>,
    (direction, index): (Direction, u32),
    level: u32,
    rule: &ClusterRule,
) -> Rule {
    let effect = match rule.action {
        ClusterAction::Accept => Effect::Allow,
        ClusterAction::Deny => Effect::Deny,
        ClusterAction::Pass => Effect::Pass,
    };
    let tier = match object.tier {
        ClusterTier::Admin => Tier::Admin,
        ClusterTier::Baseline => Tier::Baseline,
    };
    let peers = rule.peers.iter().enumerate().flat_map(|(entry, peer)| {
        let located = move |selects| Peer { selects, entry, location: peer.location.clone() };
        lower_peer(&peer.selects).into_iter().map(located)
    });
    let ports = rule.ports.iter().flat_map(lower_port);
    let ports = ports.map(|(protocol, ports)| PortMatch { protocol, ports, location: rule.location.clone() });
    Rule {
        direction,
        peers: Peers::Of(peers.collect()),
        l4: if rule.ports.is_empty() { L4Match::Any } else { L4Match::Of(ports.collect()) },
        effect,
        precedence: Precedence::at(tier, level + index.min(RULES - 1), effect),
        audit: super::audits(&object.meta),
        origin: Origin {
            kind: Arc::clone(kind),
            namespace: Arc::clone(&object.meta.namespace),
            name: Arc::clone(&object.meta.name),
            direction,
            rule: Some(index),
            section: None,
            location: rule.location.clone(),
        },
    }
}

fn selector(namespaces: &LabelSelector, pods: &LabelSelector) -> EndpointSelector {
    EndpointSelector::new(NamespaceSelector::Labelled(namespaces.clone()), pods.clone())
}

/// Domain names stand for nobody: they are in allowing rules only, so that less is allowed than is written.
fn lower_peer(peer: &ClusterPeerSelector) -> Vec<PeerSelector> {
    match peer {
        ClusterPeerSelector::Namespaces(namespaces) => vec![super::pods(namespaces, &LabelSelector::default())],
        ClusterPeerSelector::Pods { namespaces, pods } => vec![super::pods(namespaces, pods)],
        ClusterPeerSelector::Nodes(labels) => vec![PeerSelector::Nodes(labels.clone())],
        ClusterPeerSelector::Networks(cidrs) => {
            cidrs.iter().map(|cidr| PeerSelector::Block(Block::new(*cidr, &[], Reach::All))).collect()
        }
        ClusterPeerSelector::DomainNames(_) => Vec::new(),
    }
}

fn lower_port(port: &ClusterPort) -> Vec<(Protocol, Ports)> {
    match port {
        ClusterPort::Protocol(protocol) => vec![(*protocol, Ports::Range(PortRange::ALL))],
        ClusterPort::Range { protocol, first, last } => {
            vec![(*protocol, Ports::Range(PortRange::new(*first, *last).unwrap_or(PortRange::single(*first))))]
        }
        ClusterPort::Named(name) => {
            Protocol::ALL.into_iter().map(|protocol| (protocol, Ports::Named(Arc::clone(name)))).collect()
        }
    }
}
