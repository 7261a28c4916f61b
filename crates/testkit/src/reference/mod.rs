//! The reference evaluator of all policy kinds, written from their documentation and nothing else:
//!
//! - `NetworkPolicy`: the field documentation of networking.k8s.io/v1 and the concept page
//!   <https://kubernetes.io/docs/concepts/services-networking/network-policies/>;
//! - `ClusterNetworkPolicy`, `AdminNetworkPolicy`, `BaselineAdminNetworkPolicy`: the field documentation of policy.networking.k8s.io;
//! - `CiliumNetworkPolicy`, `CiliumClusterwideNetworkPolicy`, `CiliumCIDRGroup`: the pages "Layer 3 Policies", "Layer 4 Policies", "Deny
//!   Policies" and "Policy Rule Basics" of Cilium's documentation, and how its parser reads selectors.
//!
//! Every question reads all objects again. Where the documentation leaves a choice, this is what Strait chose:
//!
//! - pods with `hostNetwork` are "ignored for podSelector and namespaceSelector matching" and are their node (the page's second, more
//!   common behaviour);
//! - a protocol without ports (ICMP) passes only rules that do not restrict ports (undefined by the page);
//! - `ipBlock` matches the addresses of pods and nodes too (as the conformance tests expect).
//!
//! What only a proxy or a resolver can tell is closed: a rule with L7, TLS, listener or authentication denies what it is about unless another
//! rule allows it; one about names allows nothing.

mod cilium;
mod cilium_select;
mod cluster_network_policy;
mod network_policy;
mod select;

use std::{fmt, net::IpAddr, sync::Arc};

use strait_api::{ClusterTier, Node, ObjectMeta, Objects, Pod, PodPhase};
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
    /// Allowed: this end is nobody that policies apply to.
    NotASubject,
    /// Allowed: the pod talks to itself.
    Itself,
    /// Allowed: the node talks to itself.
    Loopback,
    /// Allowed: a pod and the node it is on, from which policies that isolate the pod do not.
    OwnNode,
    /// Allowed: no policy has anything against it.
    NotIsolated,
    /// Allowed by these rules.
    Rules(Vec<Cause>),
    /// Denied by these rules.
    Denied(Vec<Cause>),
    /// Denied: these rules ask for more than an address and a port, and no other rule allows.
    Closed(Vec<Cause>),
    /// Denied: these policies isolate the pod, and no rule of theirs allows.
    NoRule(Vec<Cause>),
    /// Allowed; it would be denied, and so, if audited policies were enforced.
    Audited(Box<Side>),
}

impl Side {
    /// Whether it allows.
    pub fn allowed(&self) -> bool {
        !matches!(self, Self::NoRule(_) | Self::Denied(_) | Self::Closed(_))
    }
}

/// What a side is due to: a rule of a policy, or the policy as a whole.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Cause {
    /// The policy's kind.
    pub kind: &'static str,
    /// Its namespace; empty for cluster-wide kinds.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Which rule.
    pub rule: Option<RuleAt>,
}

/// Where a rule is in its policy, for the direction concerned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct RuleAt {
    /// In which `spec` of a Cilium policy, from 0.
    pub spec: usize,
    /// Among the deny rules (`ingressDeny`, `egressDeny`).
    pub deny: bool,
    /// Place in its list, from 0.
    pub index: usize,
}

impl Cause {
    fn new(kind: &'static str, meta: &ObjectMeta, rule: Option<RuleAt>) -> Self {
        Self { kind, namespace: Arc::clone(&meta.namespace), name: Arc::clone(&meta.name), rule }
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
struct Party<'a> {
    host: Host<'a>,
    address: IpAddr,
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Ingress,
    Egress,
}

/// One side of a connection, as policies are asked about it.
#[derive(Clone, Copy)]
struct Question<'a> {
    objects: &'a Objects,
    direction: Direction,
    /// Whose policies are asked.
    me: Party<'a>,
    peer: Party<'a>,
    traffic: Traffic,
    /// Audited policies are asked as well.
    audits: bool,
    /// Policies of Cilium's kinds, enforced or audited, isolate me: from my node as well.
    others_isolate: bool,
}

impl<'a> Question<'a> {
    /// Who listens: ports are this one's.
    fn destination(&self) -> Host<'a> {
        match self.direction {
            Direction::Ingress => self.me.host,
            Direction::Egress => self.peer.host,
        }
    }

    /// The name of the node that I am or am on.
    fn my_node(&self) -> Option<&'a str> {
        match self.me.host {
            Host::Pod(pod) => pod.spec.node_name.as_deref(),
            Host::Node(node) => Some(&node.meta.name),
            Host::Other => None,
        }
    }

    /// Whether the policy has a say.
    fn asks(&self, meta: &ObjectMeta) -> bool {
        self.audits || !audits(meta)
    }

    /// Whether the peer is the node that I am or am on.
    fn peer_is_my_node(&self) -> bool {
        matches!(self.peer.host, Host::Node(node) if self.my_node() == Some(&*node.meta.name))
    }
}

/// What the policies between the tiers, which are additive, say of one question.
#[derive(Default)]
struct Normal {
    /// These isolate the pod; whether they are only audited.
    isolating: Vec<(Cause, bool)>,
    /// The same, but not from the pod's own node, which is the peer.
    sparing: Vec<(Cause, bool)>,
    allowing: Vec<Cause>,
    denying: Vec<Cause>,
    /// Rules that only a proxy, or a handshake, could tell whether they allow.
    closed: Vec<Cause>,
}

/// Answers `question` in the cluster of `objects` (expanded: pods have their addresses). `None` where an end does not exist or has no
/// address of the family.
pub fn judge(objects: &Objects, question: &Connection) -> Option<Answer> {
    let from = find(objects, &question.from, question.v6)?;
    let to = find(objects, &question.to, question.v6)?;
    let (traffic, audits, others_isolate) = (question.traffic, false, false);
    Some(Answer {
        egress: side(Question {
            objects,
            direction: Direction::Egress,
            me: from,
            peer: to,
            traffic,
            audits,
            others_isolate,
        }),
        ingress: side(Question {
            objects,
            direction: Direction::Ingress,
            me: to,
            peer: from,
            traffic,
            audits,
            others_isolate,
        }),
    })
}

fn find<'a>(objects: &'a Objects, end: &End, v6: bool) -> Option<Party<'a>> {
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
            Some(Party { host: Host::Pod(pod), address: family(&pod.pod_ips)? })
        }
        End::Node(name) => {
            let node = objects.nodes().find(|node| node.meta.name == *name)?;
            Some(Party { host: Host::Node(node), address: family(&node.addresses)? })
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
            Some(Party { host, address: *address })
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

/// What policies say of one side.
fn side(question: Question<'_>) -> Side {
    let of_cilium = |question: Question<'_>| {
        let mut cilium = Normal::default();
        cilium::say(question, &mut cilium);
        cilium
    };
    let cilium = of_cilium(Question { audits: true, ..question });
    let pod = match question.me.host {
        // "NetworkPolicies apply to a connection with a pod on one or both ends".
        Host::Pod(pod) => pod,
        // "Host policies apply to all the nodes selected by their Node Selector" (Cilium's page on them), and are of no other kind.
        Host::Node(_) if cilium::selects_node(question) => {
            // No packet to itself reaches a place where it would be judged.
            return if question.peer_is_my_node() {
                Side::Loopback
            } else {
                audited(question, |question| additive(&of_cilium(question)).unwrap_or(Side::NotIsolated))
            };
        }
        Host::Node(_) | Host::Other => return Side::NotASubject,
    };
    // "A Pod cannot block access to itself".
    if matches!(question.peer.host, Host::Pod(other) if same_pod(pod, other)) {
        return Side::Itself;
    }
    // "Kubernetes will automatically allow all communication from the local host of all local endpoints" (Cilium's page on entities): as an
    // allow rule of the same rank as others, before which deny rules go; no peer of an ingress rule of the tiers can be a node.
    if question.direction == Direction::Ingress && question.peer_is_my_node() {
        return audited(question, |question| match of_cilium(question).denying {
            denying if denying.is_empty() => Side::OwnNode,
            denying => Side::Denied(denying),
        });
    }
    let question = Question { others_isolate: !cilium.isolating.is_empty(), ..question };
    audited(question, |question| settle(question, pod))
}

/// What is enforced; policies that are only audited change nothing, and what they would deny is reported.
fn audited(question: Question<'_>, settle: impl Fn(Question<'_>) -> Side) -> Side {
    let enforced = settle(question);
    if !enforced.allowed() {
        return enforced;
    }
    let all = settle(Question { audits: true, ..question });
    if all.allowed() { enforced } else { Side::Audited(all.into()) }
}

/// "Policy tiers are evaluated in the following order: Admin tier, `NetworkPolicy` tier, Baseline tier" (`ClusterNetworkPolicySpec.tier`).
fn settle(question: Question<'_>, pod: &Pod) -> Side {
    if let Some(side) = cluster_network_policy::decide(question, pod, ClusterTier::Admin) {
        return side;
    }
    let mut normal = Normal::default();
    network_policy::say(question, pod, &mut normal);
    cilium::say(question, &mut normal);
    if let Some(side) = additive(&normal) {
        return side;
    }
    if !normal.sparing.is_empty() {
        return Side::OwnNode;
    }
    // "If a given connection wasn't allowed or denied by any of the tiers, the default kubernetes policy is applied".
    let default = if question.peer_is_my_node() { Side::OwnNode } else { Side::NotIsolated };
    cluster_network_policy::decide(question, pod, ClusterTier::Baseline).unwrap_or(default)
}

/// What additive policies come to, if they decide.
fn additive(normal: &Normal) -> Option<Side> {
    // "Deny policies take precedence over allow policies, regardless of whether they are a Cilium Network Policy, a Clusterwide Cilium
    // Network Policy or even a Kubernetes Network Policy."
    if !normal.denying.is_empty() {
        return Some(Side::Denied(normal.denying.clone()));
    }
    if !normal.allowing.is_empty() {
        return Some(Side::Rules(normal.allowing.clone()));
    }
    if !normal.closed.is_empty() {
        return Some(Side::Closed(normal.closed.clone()));
    }
    if !normal.isolating.is_empty() {
        // All that isolate are named, be it from this peer or from others.
        let mut causes = Vec::new();
        for audited in [false, true] {
            if normal.isolating.iter().any(|(_, of)| *of == audited) {
                let named = normal.isolating.iter().chain(&normal.sparing).filter(|(_, of)| *of == audited);
                causes.extend(named.map(|(cause, _)| cause.clone()));
            }
        }
        return Some(Side::NoRule(causes));
    }
    None
}

fn same_pod(a: &Pod, b: &Pod) -> bool {
    a.meta.namespace == b.meta.namespace && a.meta.name == b.meta.name
}

/// Strait's own annotation: the policy reports and does not enforce.
fn audits(meta: &ObjectMeta) -> bool {
    meta.annotations.get("strait.dev/audit").is_some_and(|value| **value == *"true")
}

/// Whether a container of the destination has a port of this name, protocol and number.
fn declares(destination: Host<'_>, name: &str, protocol: Protocol, number: u16) -> bool {
    let Host::Pod(pod) = destination else { return false };
    pod.spec.containers.iter().flat_map(|container| &container.ports).any(|declared| {
        declared.name.as_deref() == Some(name) && declared.protocol == protocol && declared.container_port == number
    })
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
