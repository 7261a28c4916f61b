//! Random policies of the tiers around the namespaced ones.

use strait_api::{
    ClusterAction, ClusterNetworkPolicy, ClusterPeer, ClusterPeerSelector, ClusterPolicyKind, ClusterPort, ClusterRule,
    ClusterSubject, ClusterTier,
};
use strait_base::{Labels, Protocol};

use super::{
    Universe,
    cluster::meta,
    nowhere, policy,
    words::{NODE_LABELS, PORT_NAMES, port},
};
use crate::draw::Draw;

/// A policy. A baseline admin network policy has no priority, and the only name there can be.
pub fn cluster_policy(
    draw: &mut Draw,
    universe: &Universe,
    kind: ClusterPolicyKind,
    name: &str,
    priority: u16,
) -> ClusterNetworkPolicy {
    let tier = match kind {
        ClusterPolicyKind::ClusterNetworkPolicy => {
            draw.weighted(&[(3, ClusterTier::Admin), (2, ClusterTier::Baseline)])
        }
        ClusterPolicyKind::AdminNetworkPolicy => ClusterTier::Admin,
        ClusterPolicyKind::BaselineAdminNetworkPolicy => ClusterTier::Baseline,
    };
    let baseline_admin = kind == ClusterPolicyKind::BaselineAdminNetworkPolicy;
    let mut meta = meta("", if baseline_admin { "default" } else { name }, Labels::default());
    policy::audit(draw, &mut meta);
    let (ingress, egress) = draw.weighted(&[(3, (true, false)), (3, (false, true)), (4, (true, true))]);
    let mut rules = |wanted: bool, egress: bool| -> Vec<ClusterRule> {
        let count = if wanted { draw.weighted(&[(4, 1), (3, 2), (2, 3), (1, 5)]) } else { 0 };
        (0..count).map(|_| rule(draw, universe, kind, egress)).collect()
    };
    let (ingress, egress) = (rules(ingress, false), rules(egress, true));
    ClusterNetworkPolicy {
        meta,
        kind,
        tier,
        priority: if baseline_admin { 0 } else { priority },
        subject: subject(draw),
        ingress,
        egress,
    }
}

fn subject(draw: &mut Draw) -> ClusterSubject {
    if draw.chance(50) {
        ClusterSubject::Namespaces(policy::namespace_selector(draw))
    } else {
        ClusterSubject::Pods { namespaces: policy::namespace_selector(draw), pods: policy::pod_selector(draw) }
    }
}

fn rule(draw: &mut Draw, universe: &Universe, kind: ClusterPolicyKind, egress: bool) -> ClusterRule {
    let mut action = draw.weighted(&[(3, ClusterAction::Accept), (3, ClusterAction::Deny), (2, ClusterAction::Pass)]);
    if kind == ClusterPolicyKind::BaselineAdminNetworkPolicy && action == ClusterAction::Pass {
        action = ClusterAction::Deny;
    }
    // Names only where they allow, and not in the baseline of v1alpha1.
    let names = action == ClusterAction::Accept && kind != ClusterPolicyKind::BaselineAdminNetworkPolicy;
    let peers: Vec<ClusterPeer> = (0..draw.weighted(&[(5, 1), (3, 2), (1, 3)]))
        .map(|_| ClusterPeer { selects: peer(draw, universe, egress, names), location: nowhere() })
        .collect();
    // "networks/nodes/domainNames peer cannot be set with namedPorts"
    let named_ports = peers
        .iter()
        .all(|peer| matches!(peer.selects, ClusterPeerSelector::Namespaces(_) | ClusterPeerSelector::Pods { .. }));
    let ports = draw.weighted(&[(5, 0), (4, 1), (2, 2), (1, 3)]);
    ClusterRule {
        name: draw.chance(20).then(|| "a rule".into()),
        action,
        ports: (0..ports).map(|_| cluster_port(draw, kind, named_ports)).collect(),
        peers,
        location: nowhere(),
    }
}

fn peer(draw: &mut Draw, universe: &Universe, egress: bool, names: bool) -> ClusterPeerSelector {
    match draw.below(12) {
        0..=3 => ClusterPeerSelector::Namespaces(policy::namespace_selector(draw)),
        8 if egress => ClusterPeerSelector::Nodes(policy::label_selector(draw, &NODE_LABELS)),
        9 | 10 if egress => {
            let mut networks: Vec<_> = (0..draw.between(1, 2)).map(|_| policy::block(draw, universe).0).collect();
            networks.dedup();
            ClusterPeerSelector::Networks(networks)
        }
        11 if egress && names => ClusterPeerSelector::DomainNames(vec!["*.example.com".into(), "example.org".into()]),
        _ => {
            ClusterPeerSelector::Pods { namespaces: policy::namespace_selector(draw), pods: policy::pod_selector(draw) }
        }
    }
}

fn cluster_port(draw: &mut Draw, kind: ClusterPolicyKind, names: bool) -> ClusterPort {
    let protocol = draw.weighted(&[(5, Protocol::Tcp), (2, Protocol::Udp), (1, Protocol::Sctp)]);
    match draw.below(10) {
        // v1alpha1 has no way to say it.
        0 if kind == ClusterPolicyKind::ClusterNetworkPolicy => ClusterPort::Protocol(protocol),
        1 | 2 if names => ClusterPort::Named((*draw.pick(&PORT_NAMES)).into()),
        3..=6 => {
            let only = port(draw);
            ClusterPort::Range { protocol, first: only, last: only }
        }
        _ => {
            let (one, other) = (port(draw), port(draw));
            ClusterPort::Range { protocol, first: one.min(other), last: one.max(other) }
        }
    }
}
