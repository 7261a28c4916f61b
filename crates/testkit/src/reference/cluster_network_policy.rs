//! `ClusterNetworkPolicy` v1alpha2, `AdminNetworkPolicy` and `BaselineAdminNetworkPolicy` v1alpha1, as the field documentation of
//! policy.networking.k8s.io says.

use strait_api::{
    ClusterAction, ClusterNetworkPolicy, ClusterPeer, ClusterPeerSelector, ClusterPort, ClusterRule, ClusterSubject,
    ClusterTier, Pod,
};

use super::{Cause, Direction, Host, Question, RuleAt, Side, Traffic, declares, namespace_labels, select};

/// What a tier decides about `pod`; `None` where it passes, or says nothing.
///
/// "Policies with lower priority values have higher precedence, and are checked before policies with higher priority values in the same
/// tier"; "a rule that appears at the top of the ingress rules would take the highest precedence".
pub(super) fn decide(question: Question<'_>, pod: &Pod, tier: ClusterTier) -> Option<Side> {
    let mut policies: Vec<&ClusterNetworkPolicy> =
        question.objects.cluster_policies().map(|policy| &**policy).filter(|policy| policy.tier == tier).collect();
    policies.retain(|policy| question.asks(&policy.meta) && is_for(question, policy, pod));
    // Of equal priorities "the implementation can apply any of the matching policies": here the name that sorts first, then the kind.
    policies.sort_by_key(|policy| (policy.priority, policy.meta.name.clone(), policy.kind));
    for policy in policies {
        let rules = match question.direction {
            Direction::Ingress => &policy.ingress,
            Direction::Egress => &policy.egress,
        };
        for (index, rule) in rules.iter().enumerate() {
            if !matches(question, rule) {
                continue;
            }
            let at = RuleAt { index, ..RuleAt::default() };
            let cause = vec![Cause::new(policy.kind.kind().as_str(), &policy.meta, Some(at))];
            return match rule.action {
                ClusterAction::Accept => Some(Side::Rules(cause)),
                ClusterAction::Deny => Some(Side::Denied(cause)),
                // "Skips all further ClusterNetworkPolicy rules in the current tier for the selected traffic, and passes evaluation to the
                // next tier."
                ClusterAction::Pass => None,
            };
        }
    }
    None
}

/// "Subject defines the pods to which this `ClusterNetworkPolicy` applies"; "host-networked pods are not included in subject selection".
fn is_for(question: Question<'_>, policy: &ClusterNetworkPolicy, pod: &Pod) -> bool {
    let of = namespace_labels(question.objects, pod);
    match &policy.subject {
        ClusterSubject::Namespaces(namespaces) => select::selects(namespaces, &of),
        ClusterSubject::Pods { namespaces, pods } => {
            select::selects(namespaces, &of) && select::selects(pods, &pod.meta.labels)
        }
    }
}

/// "If any element matches the source of incoming traffic then the specified action is applied"; protocols, "if unspecified ... will not be
/// used to match traffic".
fn matches(question: Question<'_>, rule: &ClusterRule) -> bool {
    let ports = rule.ports.is_empty() || rule.ports.iter().any(|port| port_matches(question, port));
    ports && rule.peers.iter().any(|peer| peer_matches(question, peer))
}

fn peer_matches(question: Question<'_>, peer: &ClusterPeer) -> bool {
    match (&peer.selects, question.peer.host) {
        // "all pods within a set of Namespaces. Note that host-networked pods are not included in this type of peer."
        (ClusterPeerSelector::Namespaces(namespaces), Host::Pod(pod)) => {
            select::selects(namespaces, &namespace_labels(question.objects, pod))
        }
        (ClusterPeerSelector::Pods { namespaces, pods }, Host::Pod(pod)) => {
            select::selects(namespaces, &namespace_labels(question.objects, pod))
                && select::selects(pods, &pod.meta.labels)
        }
        // "selects the nodeIPs as the peer type by matching on the IPs present in the node.Status.Addresses field of the node".
        (ClusterPeerSelector::Nodes(nodes), Host::Node(node)) => select::selects(nodes, &node.meta.labels),
        // "cluster-internal traffic will be checked against the rule as well. So if you Accept or Deny traffic to "0.0.0.0/0", that will
        // allow or deny all IPv4 pod-to-pod traffic as well."
        (ClusterPeerSelector::Networks(networks), _) => {
            networks.iter().any(|network| select::inside(network, question.peer.address))
        }
        // Only for Accept rules, of which ""fail closed" means: "treat the rule as matching no traffic"".
        (ClusterPeerSelector::DomainNames(_), _)
        | (
            ClusterPeerSelector::Namespaces(_) | ClusterPeerSelector::Pods { .. } | ClusterPeerSelector::Nodes(_),
            Host::Pod(_) | Host::Node(_) | Host::Other,
        ) => false,
    }
}

fn port_matches(question: Question<'_>, port: &ClusterPort) -> bool {
    let Traffic::Port(protocol, number) = question.traffic else { return false };
    match port {
        ClusterPort::Protocol(only) => *only == protocol,
        ClusterPort::Range { protocol: only, first, last } => *only == protocol && *first <= number && number <= *last,
        // "selects a destination port on a pod based on the ContainerPort name".
        ClusterPort::Named(name) => declares(question.destination(), name, protocol, number),
    }
}
