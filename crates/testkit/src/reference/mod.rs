//! The reference evaluator of `NetworkPolicy`, written from the Kubernetes documentation and nothing else:
//!
//! - the field documentation of `NetworkPolicySpec`, `NetworkPolicyIngressRule`, `NetworkPolicyEgressRule`, `NetworkPolicyPeer`,
//!   `NetworkPolicyPort` and `IPBlock` (networking.k8s.io/v1),
//! - the concept page <https://kubernetes.io/docs/concepts/services-networking/network-policies/>.
//!
//! Every question reads all objects again. Where the documentation leaves a choice, this is what Strait chose:
//!
//! - pods with `hostNetwork` are "ignored for podSelector and namespaceSelector matching" and are their node (the page's second, more
//!   common behaviour);
//! - a protocol without ports (ICMP) passes only rules that do not restrict ports (undefined by the page);
//! - `ipBlock` matches the addresses of pods and nodes too (as the conformance tests expect).

mod select;

use std::{fmt, net::IpAddr, sync::Arc};

use strait_api::{
    NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicyRule, Node, Objects, PeerSelector, Pod, PodPhase,
    PortRef,
};
use strait_base::{Labels, Protocol};

/// One end of a connection, as a question names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum End {
    /// A pod: namespace, name.
    Pod(Arc<str>, Arc<str>),
    /// A node.
    Node(Arc<str>),
    /// Whoever has the address.
    Address(IpAddr),
}

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Traffic {
    /// To a port.
    Port(Protocol, u16),
    /// An ICMP echo request.
    Icmp,
}

/// A question.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Connection {
    /// Who opens it.
    pub from: End,
    /// To whom.
    pub to: End,
    /// What is sent.
    pub traffic: Traffic,
    /// Over IPv6 rather than IPv4.
    pub v6: bool,
}

/// The answer: each side must allow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// What the policies of the sender say.
    pub egress: Side,
    /// What the policies of the receiver say.
    pub ingress: Side,
}

impl Answer {
    /// Whether the connection is allowed.
    pub fn allowed(&self) -> bool {
        self.egress.allowed() && self.ingress.allowed()
    }
}

/// Why one side allows or denies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Side {
    /// Allowed: this end is no pod that policies apply to.
    NotAPod,
    /// Allowed: the pod talks to itself.
    Itself,
    /// Allowed: a pod and the node it is on.
    OwnNode,
    /// Allowed: no policy selects the pod for this direction.
    NotIsolated,
    /// Allowed by these rules: policy (of the pod's namespace) and place among its rules of the direction, from 0.
    Rules(Vec<(Arc<str>, usize)>),
    /// Denied: these policies select the pod, no rule of theirs matches.
    NoRule(Vec<Arc<str>>),
}

impl Side {
    /// Whether it allows.
    pub fn allowed(&self) -> bool {
        !matches!(self, Self::NoRule(_))
    }
}

/// An end, found.
#[derive(Clone, Copy)]
enum Host<'a> {
    Pod(&'a Pod),
    Node(&'a Node),
    Other,
}

/// Host and the address it uses.
#[derive(Clone, Copy)]
struct Peer<'a> {
    host: Host<'a>,
    address: IpAddr,
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Ingress,
    Egress,
}

/// Answers `question` in the cluster of `objects` (expanded: pods have their addresses). `None` where an end does not exist or has no
/// address of the family.
pub fn judge(objects: &Objects, question: &Connection) -> Option<Answer> {
    let from = find(objects, &question.from, question.v6)?;
    let to = find(objects, &question.to, question.v6)?;
    let traffic = question.traffic;
    Some(Answer {
        egress: side(objects, Direction::Egress, from, to, traffic),
        ingress: side(objects, Direction::Ingress, to, from, traffic),
    })
}

fn find<'a>(objects: &'a Objects, end: &End, v6: bool) -> Option<Peer<'a>> {
    let family = |addresses: &[IpAddr]| addresses.iter().copied().find(|address| address.is_ipv6() == v6);
    match end {
        End::Pod(namespace, name) => {
            let pod = objects.pods().find(|pod| pod.meta.namespace == *namespace && pod.meta.name == *name)?;
            if ended(pod) {
                return None;
            }
            if pod.spec.host_network {
                return find(objects, &End::Node(Arc::clone(pod.spec.node_name.as_ref()?)), v6);
            }
            Some(Peer { host: Host::Pod(pod), address: family(&pod.pod_ips)? })
        }
        End::Node(name) => {
            let node = objects.nodes().find(|node| node.meta.name == *name)?;
            Some(Peer { host: Host::Node(node), address: family(&node.addresses)? })
        }
        End::Address(address) => {
            if address.is_ipv6() != v6 {
                return None;
            }
            let mut pods = objects.pods().filter(|pod| !pod.spec.host_network && !ended(pod));
            let host = if let Some(pod) = pods.find(|pod| pod.pod_ips.contains(address)) {
                Host::Pod(pod)
            } else if let Some(node) = objects.nodes().find(|node| node.addresses.contains(address)) {
                Host::Node(node)
            } else {
                Host::Other
            };
            Some(Peer { host, address: *address })
        }
    }
}

/// A pod that has ended has no address; another may have it.
fn ended(pod: &Pod) -> bool {
    match pod.phase {
        PodPhase::Succeeded | PodPhase::Failed => true,
        PodPhase::Pending | PodPhase::Running | PodPhase::Unknown => false,
    }
}

/// What policies that select `me` say of traffic with `peer`.
fn side(objects: &Objects, direction: Direction, me: Peer<'_>, peer: Peer<'_>, traffic: Traffic) -> Side {
    // "NetworkPolicies apply to a connection with a pod on one or both ends".
    let Host::Pod(pod) = me.host else { return Side::NotAPod };
    match peer.host {
        // "A Pod cannot block access to itself".
        Host::Pod(other) if same_pod(pod, other) => return Side::Itself,
        // "Traffic to and from the node where a Pod is running is always allowed, regardless of the IP address of the Pod or the node".
        Host::Node(node) if pod.spec.node_name.as_deref() == Some(&*node.meta.name) => return Side::OwnNode,
        Host::Pod(_) | Host::Node(_) | Host::Other => {}
    }
    // "By default, a pod is non-isolated ... A pod is isolated for egress if there is any NetworkPolicy that both selects the pod and has
    // "Egress" in its policyTypes"; likewise for ingress. Policies do not conflict; they are additive.
    let (mut isolating, mut allowing) = (Vec::new(), Vec::new());
    for policy in objects.network_policies() {
        let (has_type, rules) = match direction {
            Direction::Ingress => (policy.isolates_ingress, &policy.ingress),
            Direction::Egress => (policy.isolates_egress, &policy.egress),
        };
        if !has_type || !applies_to(policy, pod) {
            continue;
        }
        isolating.push(Arc::clone(&policy.meta.name));
        // The named port is one of the destination pod.
        let destination = match direction {
            Direction::Ingress => me.host,
            Direction::Egress => peer.host,
        };
        for (index, rule) in rules.iter().enumerate() {
            // "This rule matches traffic if the traffic matches both ports AND from/to".
            if ports_match(rule, destination, traffic) && peers_match(objects, policy, rule, peer) {
                allowing.push((Arc::clone(&policy.meta.name), index));
            }
        }
    }
    if isolating.is_empty() {
        Side::NotIsolated
    } else if allowing.is_empty() {
        Side::NoRule(isolating)
    } else {
        Side::Rules(allowing)
    }
}

fn same_pod(a: &Pod, b: &Pod) -> bool {
    a.meta.namespace == b.meta.namespace && a.meta.name == b.meta.name
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
        (Some(PortRef::Name(name)), _) => {
            let Host::Pod(pod) = destination else { return false };
            pod.spec.containers.iter().any(|container| {
                container.ports.iter().any(|declared| {
                    declared.name.as_ref() == Some(name)
                        && declared.protocol == protocol
                        && declared.container_port == number
                })
            })
        }
    }
}

/// `from`/`to`: "Items in this list are combined using a logical OR operation. If this field is empty or missing, this rule matches all
/// sources (traffic not restricted by source)."
fn peers_match(objects: &Objects, policy: &NetworkPolicy, rule: &NetworkPolicyRule, peer: Peer<'_>) -> bool {
    rule.peers.is_empty() || rule.peers.iter().any(|candidate| peer_matches(objects, policy, candidate, peer))
}

fn peer_matches(objects: &Objects, policy: &NetworkPolicy, candidate: &NetworkPolicyPeer, peer: Peer<'_>) -> bool {
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

/// "The Kubernetes control plane sets an immutable label kubernetes.io/metadata.name on all namespaces, the value of the label is the
/// namespace name."
fn namespace_labels(objects: &Objects, pod: &Pod) -> Labels {
    let declared = objects.namespaces().find(|namespace| namespace.meta.name == pod.meta.namespace);
    let mut labels = declared.map(|namespace| namespace.meta.labels.clone()).unwrap_or_default();
    labels.insert("kubernetes.io/metadata.name", &pod.meta.namespace);
    labels
}

/// `a/web`, `node/node-1`, or the address.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(namespace, name) => write!(f, "{namespace}/{name}"),
            Self::Node(name) => write!(f, "node/{name}"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// `80/TCP`, `icmp`.
impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(protocol, number) => write!(f, "{number}/{protocol}"),
            Self::Icmp => f.write_str("icmp"),
        }
    }
}

/// `a/web → b/db 80/TCP over IPv4`.
impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {} {} over {}", self.from, self.to, self.traffic, if self.v6 { "IPv6" } else { "IPv4" })
    }
}
