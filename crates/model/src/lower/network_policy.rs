//! `networking.k8s.io/v1` `NetworkPolicy`, by its API reference.

use std::sync::Arc;

use strait_api::{NetworkPolicy, NetworkPolicyPort, NetworkPolicyRule, PeerSelector as ApiPeer, PortRef};
use strait_base::PortRange;

use crate::{
    connection::Direction,
    rule::{
        Block, Effect, EndpointSelector, L4Match, NamespaceSelector, Origin, Peer, PeerSelector, Peers, Policy,
        PortMatch, Ports, Precedence, Reach, Rule, Subject,
    },
};

const KIND: &str = "NetworkPolicy";

/// Lowers one policy. Rules of a direction that `policyTypes` leaves out have no effect and are left out.
pub(crate) fn lower(object: &NetworkPolicy) -> Policy {
    let kind = Arc::from(KIND);
    let directions = [
        (Direction::Ingress, object.isolates_ingress, &object.ingress),
        (Direction::Egress, object.isolates_egress, &object.egress),
    ];
    let in_force = directions.into_iter().filter(|(_, isolates, _)| *isolates);
    let rules = in_force
        .clone()
        .flat_map(|(direction, _, rules)| (0_u32..).zip(rules).map(move |(index, rule)| (direction, index, rule)));
    Policy {
        kind: Arc::clone(&kind),
        namespace: Arc::clone(&object.meta.namespace),
        name: Arc::clone(&object.meta.name),
        location: object.meta.location.clone(),
        subject: Subject::Endpoints(EndpointSelector::new(
            NamespaceSelector::Named(Arc::clone(&object.meta.namespace)),
            object.pod_selector.clone(),
        )),
        isolates: in_force.map(|(direction, ..)| direction).collect(),
        isolates_from_own_node: false,
        audit: super::audits(&object.meta),
        rules: rules.map(|(direction, index, rule)| lower_rule(object, &kind, direction, index, rule)).collect(),
    }
}

fn lower_rule(
    object: &NetworkPolicy,
    kind: &Arc<str>,
    direction: Direction,
    index: u32,
    rule: &NetworkPolicyRule,
) -> Rule {
    let peers = if rule.peers.is_empty() {
        Peers::Any
    } else {
        let lower = |(entry, peer): (usize, &strait_api::NetworkPolicyPeer)| Peer {
            selects: lower_peer(&object.meta.namespace, &peer.selects),
            entry,
            location: peer.location.clone(),
        };
        Peers::Of(rule.peers.iter().enumerate().map(lower).collect())
    };
    let l4 =
        if rule.ports.is_empty() { L4Match::Any } else { L4Match::Of(rule.ports.iter().map(lower_port).collect()) };
    Rule {
        direction,
        peers,
        l4,
        effect: Effect::Allow,
        precedence: Precedence::normal(Effect::Allow),
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

fn lower_peer(namespace: &Arc<str>, peer: &ApiPeer) -> PeerSelector {
    match peer {
        ApiPeer::Pods(pods) => PeerSelector::Endpoints(EndpointSelector::new(
            NamespaceSelector::Named(Arc::clone(namespace)),
            pods.clone(),
        )),
        ApiPeer::Namespaces(namespaces) => super::pods(namespaces, &strait_base::LabelSelector::default()),
        ApiPeer::NamespacedPods { namespaces, pods } => super::pods(namespaces, pods),
        ApiPeer::IpBlock { cidr, except } => PeerSelector::Block(Block::new(*cidr, except, Reach::Others)),
    }
}

fn lower_port(port: &NetworkPolicyPort) -> PortMatch {
    let ports = match &port.port {
        None => Ports::Range(PortRange::ALL),
        Some(PortRef::Name(name)) => Ports::Named(Arc::clone(name)),
        Some(PortRef::Number(first)) => {
            let last = port.end_port.unwrap_or(*first);
            Ports::Range(PortRange::new(*first, last).unwrap_or(PortRange::single(*first)))
        }
    };
    PortMatch { protocol: port.protocol, ports, location: port.location.clone() }
}
