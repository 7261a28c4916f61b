//! `policy.networking.k8s.io` back to manifests.

use serde_json::{Value, json};
use strait_base::LabelSelector;

use super::{label_selector, list, some};
use crate::types::{
    ClusterAction, ClusterNetworkPolicy, ClusterPeer, ClusterPeerSelector, ClusterPolicyKind, ClusterPort, ClusterRule,
    ClusterSubject, ClusterTier,
};

/// The version of each kind that is read.
pub(super) const fn api_version(kind: ClusterPolicyKind) -> &'static str {
    match kind {
        ClusterPolicyKind::ClusterNetworkPolicy => "policy.networking.k8s.io/v1alpha2",
        ClusterPolicyKind::AdminNetworkPolicy | ClusterPolicyKind::BaselineAdminNetworkPolicy => {
            "policy.networking.k8s.io/v1alpha1"
        }
    }
}

pub(super) fn spec(policy: &ClusterNetworkPolicy) -> Value {
    let tier = match policy.tier {
        ClusterTier::Admin => "Admin",
        ClusterTier::Baseline => "Baseline",
    };
    let second = policy.kind == ClusterPolicyKind::ClusterNetworkPolicy;
    let has_priority = policy.kind != ClusterPolicyKind::BaselineAdminNetworkPolicy;
    let subject = match &policy.subject {
        ClusterSubject::Namespaces(namespaces) => json!({"namespaces": label_selector(namespaces)}),
        ClusterSubject::Pods { namespaces, pods } => json!({"pods": namespaced_pods(namespaces, pods)}),
    };
    some([
        ("tier", if second { tier.into() } else { Value::Null }),
        ("priority", if has_priority { policy.priority.into() } else { Value::Null }),
        ("subject", subject),
        ("ingress", list(&policy.ingress, |of| rule(of, "from", second))),
        ("egress", list(&policy.egress, |of| rule(of, "to", second))),
    ])
}

fn namespaced_pods(namespaces: &LabelSelector, pods: &LabelSelector) -> Value {
    json!({"namespaceSelector": label_selector(namespaces), "podSelector": label_selector(pods)})
}

fn rule(rule: &ClusterRule, peers: &'static str, second: bool) -> Value {
    let action = match rule.action {
        ClusterAction::Accept if second => "Accept",
        ClusterAction::Accept => "Allow",
        ClusterAction::Deny => "Deny",
        ClusterAction::Pass => "Pass",
    };
    let ports = if second { ("protocols", list(&rule.ports, protocol)) } else { ("ports", list(&rule.ports, port)) };
    some([("name", json!(rule.name)), ("action", action.into()), (peers, list(&rule.peers, peer)), ports])
}

fn peer(peer: &ClusterPeer) -> Value {
    match &peer.selects {
        ClusterPeerSelector::Namespaces(namespaces) => json!({"namespaces": label_selector(namespaces)}),
        ClusterPeerSelector::Pods { namespaces, pods } => json!({"pods": namespaced_pods(namespaces, pods)}),
        ClusterPeerSelector::Nodes(nodes) => json!({"nodes": label_selector(nodes)}),
        ClusterPeerSelector::Networks(networks) => json!({"networks": list(networks, |net| net.to_string().into())}),
        ClusterPeerSelector::DomainNames(names) => json!({"domainNames": names}),
    }
}

/// One of `protocols` (v1alpha2).
fn protocol(port: &ClusterPort) -> Value {
    match port {
        ClusterPort::Protocol(protocol) => json!({(protocol.to_string().to_lowercase()): {}}),
        ClusterPort::Range { protocol, first, last } if first == last => {
            json!({(protocol.to_string().to_lowercase()): {"destinationPort": {"number": first}}})
        }
        ClusterPort::Range { protocol, first, last } => {
            let range = json!({"start": first, "end": last});
            json!({(protocol.to_string().to_lowercase()): {"destinationPort": {"range": range}}})
        }
        ClusterPort::Named(name) => json!({"destinationNamedPort": name}),
    }
}

/// One of `ports` (v1alpha1).
fn port(port: &ClusterPort) -> Value {
    match port {
        ClusterPort::Protocol(protocol) => json!({"portRange": {"protocol": protocol, "start": 1, "end": u16::MAX}}),
        ClusterPort::Range { protocol, first, last } if first == last => {
            json!({"portNumber": {"protocol": protocol, "port": first}})
        }
        ClusterPort::Range { protocol, first, last } => {
            json!({"portRange": {"protocol": protocol, "start": first, "end": last}})
        }
        ClusterPort::Named(name) => json!({"namedPort": name}),
    }
}
