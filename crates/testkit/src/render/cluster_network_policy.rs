//! Policies of the tiers as manifests.

use strait_api::{
    ClusterAction, ClusterNetworkPolicy, ClusterPeerSelector, ClusterPolicyKind, ClusterPort, ClusterRule,
    ClusterSubject, ClusterTier,
};
use strait_base::{LabelSelector, Protocol};

use super::{Value, head, list, optional, plain, selector, text};
use crate::draw::Draw;

type Fields = Vec<(&'static str, Value)>;

pub(super) fn manifest(policy: &ClusterNetworkPolicy, style: &mut Draw) -> Fields {
    let v1alpha2 = policy.kind == ClusterPolicyKind::ClusterNetworkPolicy;
    let version = if v1alpha2 { "policy.networking.k8s.io/v1alpha2" } else { "policy.networking.k8s.io/v1alpha1" };
    let mut document = head(version, policy.kind.kind().as_str(), &policy.meta);
    let mut spec = Vec::new();
    if v1alpha2 {
        spec.push((
            "tier",
            plain(match policy.tier {
                ClusterTier::Admin => "Admin",
                ClusterTier::Baseline => "Baseline",
            }),
        ));
    }
    if policy.kind != ClusterPolicyKind::BaselineAdminNetworkPolicy {
        spec.push(("priority", plain(&policy.priority)));
    }
    let subject = match &policy.subject {
        ClusterSubject::Namespaces(namespaces) => ("namespaces", selector(namespaces, style)),
        ClusterSubject::Pods { namespaces, pods } => ("pods", namespaced(namespaces, pods, style)),
    };
    spec.push(("subject", Value::Map(vec![subject])));
    optional(&mut spec, "ingress", &policy.ingress, style, |rule, style| rule_manifest(rule, v1alpha2, "from", style));
    optional(&mut spec, "egress", &policy.egress, style, |rule, style| rule_manifest(rule, v1alpha2, "to", style));
    document.push(("spec", Value::Map(spec)));
    document
}

fn namespaced(namespaces: &LabelSelector, pods: &LabelSelector, style: &mut Draw) -> Value {
    Value::Map(vec![("namespaceSelector", selector(namespaces, style)), ("podSelector", selector(pods, style))])
}

fn rule_manifest(rule: &ClusterRule, v1alpha2: bool, peers: &'static str, style: &mut Draw) -> Value {
    let action = match rule.action {
        ClusterAction::Accept if v1alpha2 => "Accept",
        ClusterAction::Accept => "Allow",
        ClusterAction::Deny => "Deny",
        ClusterAction::Pass => "Pass",
    };
    let mut fields = vec![("action", plain(action))];
    fields.extend(rule.name.as_ref().map(|name| ("name", text(name))));
    fields.push((peers, list(&rule.peers, |peer| peer_manifest(&peer.selects, style))));
    if !rule.ports.is_empty() {
        let (name, port): (_, fn(&ClusterPort) -> Value) =
            if v1alpha2 { ("protocols", protocol_match) } else { ("ports", port_match) };
        fields.push((name, list(&rule.ports, port)));
    }
    Value::Map(fields)
}

fn peer_manifest(peer: &ClusterPeerSelector, style: &mut Draw) -> Value {
    let field = match peer {
        ClusterPeerSelector::Namespaces(namespaces) => ("namespaces", selector(namespaces, style)),
        ClusterPeerSelector::Pods { namespaces, pods } => ("pods", namespaced(namespaces, pods, style)),
        ClusterPeerSelector::Nodes(nodes) => ("nodes", selector(nodes, style)),
        ClusterPeerSelector::Networks(networks) => ("networks", list(networks, text)),
        ClusterPeerSelector::DomainNames(names) => ("domainNames", list(names, text)),
    };
    Value::Map(vec![field])
}

/// v1alpha2.
fn protocol_match(port: &ClusterPort) -> Value {
    let key = |protocol: Protocol| match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    Value::Map(vec![match port {
        ClusterPort::Protocol(protocol) => (key(*protocol), Value::Map(Vec::new())),
        ClusterPort::Range { protocol, first, last } => {
            let port = if first == last {
                ("number", plain(first))
            } else {
                ("range", Value::Map(vec![("start", plain(first)), ("end", plain(last))]))
            };
            (key(*protocol), Value::Map(vec![("destinationPort", Value::Map(vec![port]))]))
        }
        ClusterPort::Named(name) => ("destinationNamedPort", text(name)),
    }])
}

/// v1alpha1.
fn port_match(port: &ClusterPort) -> Value {
    Value::Map(vec![match port {
        ClusterPort::Range { protocol, first, last } if first == last => {
            ("portNumber", Value::Map(vec![("protocol", plain(protocol)), ("port", plain(first))]))
        }
        ClusterPort::Range { protocol, first, last } => {
            let fields = vec![("protocol", plain(protocol)), ("start", plain(first)), ("end", plain(last))];
            ("portRange", Value::Map(fields))
        }
        ClusterPort::Protocol(protocol) => {
            let fields = vec![("protocol", plain(protocol)), ("start", plain("1")), ("end", plain("65535"))];
            ("portRange", Value::Map(fields))
        }
        ClusterPort::Named(name) => ("namedPort", text(name)),
    }])
}
