//! `NetworkPolicy`, as the field documentation of networking.k8s.io/v1 and the concept page "Network Policies" say.

use strait_api::{
    NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicyRule, Objects, PeerSelector, Pod, PortRef,
};
use strait_base::Protocol;

use super::{
    Cause, Direction, Host, Normal, Party, Question, RuleAt, Traffic, audits, declares, namespace_labels, select,
};

/// What network policies that select `pod` say of traffic with `peer`.
///
/// "By default, a pod is non-isolated ... A pod is isolated for egress if there is any `NetworkPolicy` that both selects the pod and has
/// "Egress" in its policyTypes"; likewise for ingress. Policies do not conflict; they are additive.
pub(super) fn say(question: Question<'_>, pod: &Pod, normal: &mut Normal) {
    let Question { objects, direction, peer, traffic, .. } = question;
    for policy in objects.network_policies() {
        let (has_type, rules) = match direction {
            Direction::Ingress => (policy.isolates_ingress, &policy.ingress),
            Direction::Egress => (policy.isolates_egress, &policy.egress),
        };
        if !has_type || !question.asks(&policy.meta) || !applies_to(policy, pod) {
            continue;
        }
        let cause = |rule| Cause::new("NetworkPolicy", &policy.meta, rule);
        // "Traffic to and from the node where a Pod is running is always allowed, regardless of the IP address of the Pod or the node".
        let own_node = question.peer_is_my_node();
        if own_node {
            normal.sparing.push((cause(None), audits(&policy.meta)));
        } else {
            normal.isolating.push((cause(None), audits(&policy.meta)));
        }
        for (index, rule) in rules.iter().enumerate() {
            // "This rule matches traffic if the traffic matches both ports AND from/to". A named port is one of the destination pod.
            // So there is nothing to allow, unless policies of other kinds isolate the pod from its node; blocks are not about it even then.
            let has_say = !own_node || (question.others_isolate && rule.peers.is_empty());
            if has_say && ports_match(rule, question.destination(), traffic) && peers_match(objects, policy, rule, peer)
            {
                normal.allowing.push(cause(Some(RuleAt { index, ..RuleAt::default() })));
            }
        }
    }
}

/// `podSelector` "selects the pods to which this NetworkPolicy object applies", in the policy's namespace.
fn applies_to(policy: &NetworkPolicy, pod: &Pod) -> bool {
    policy.meta.namespace == pod.meta.namespace && select::selects(&policy.pod_selector, &pod.meta.labels)
}

/// `ports`: "Each item in this list is combined using a logical OR. If this field is empty or missing, this rule matches all ports".
fn ports_match(rule: &NetworkPolicyRule, destination: Host<'_>, traffic: Traffic) -> bool {
    if rule.ports.is_empty() {
        return true;
    }
    let Traffic::Port(protocol, number) = traffic else { return false };
    rule.ports.iter().any(|port| port_matches(port, destination, protocol, number))
}

fn port_matches(port: &NetworkPolicyPort, destination: Host<'_>, protocol: Protocol, number: u16) -> bool {
    if port.protocol != protocol {
        return false;
    }
    match (&port.port, port.end_port) {
        // "If this field is not provided, this matches all port names and numbers."
        (None, _) => true,
        (Some(PortRef::Number(only)), None) => *only == number,
        // "endPort indicates that the range of ports from port to endPort if set, inclusive, should be allowed by the policy."
        (Some(PortRef::Number(first)), Some(last)) => *first <= number && number <= last,
        // "This can either be a numerical or named port on a pod."
        (Some(PortRef::Name(name)), _) => declares(destination, name, protocol, number),
    }
}

/// `from`/`to`: "Items in this list are combined using a logical OR operation. If this field is empty or missing, this rule matches all
/// sources (traffic not restricted by source)."
fn peers_match(objects: &Objects, policy: &NetworkPolicy, rule: &NetworkPolicyRule, peer: Party<'_>) -> bool {
    rule.peers.is_empty() || rule.peers.iter().any(|candidate| peer_matches(objects, policy, candidate, peer))
}

fn peer_matches(objects: &Objects, policy: &NetworkPolicy, candidate: &NetworkPolicyPeer, peer: Party<'_>) -> bool {
    match (&candidate.selects, peer.host) {
        // "cidr is a string representing the IPBlock", "except is a slice of CIDRs that should not be included within an IPBlock".
        (PeerSelector::IpBlock { cidr, except }, _) => {
            select::inside(cidr, peer.address) && !except.iter().any(|hole| select::inside(hole, peer.address))
        }
        // "podSelector ... selects the pods matching podSelector in the policy's own namespace."
        (PeerSelector::Pods(pods), Host::Pod(pod)) => {
            pod.meta.namespace == policy.meta.namespace && select::selects(pods, &pod.meta.labels)
        }
        // "Otherwise it selects all pods in the namespaces selected by namespaceSelector."
        (PeerSelector::Namespaces(namespaces), Host::Pod(pod)) => {
            select::selects(namespaces, &namespace_labels(objects, pod))
        }
        // "If podSelector is also set, then the NetworkPolicyPeer as a whole selects the pods matching podSelector in the namespaces
        // selected by namespaceSelector."
        (PeerSelector::NamespacedPods { namespaces, pods }, Host::Pod(pod)) => {
            select::selects(namespaces, &namespace_labels(objects, pod)) && select::selects(pods, &pod.meta.labels)
        }
        (
            PeerSelector::Pods(_) | PeerSelector::Namespaces(_) | PeerSelector::NamespacedPods { .. },
            Host::Node(_) | Host::Other,
        ) => false,
    }
}
