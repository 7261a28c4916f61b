//! Judging one connection, rule by rule.

use std::{net::IpAddr, sync::Arc};

use serde::Serialize;

use crate::{
    connection::{Connection, Direction, Family, L4, Party},
    miss::Miss,
    plan::PortVerdict,
    rule::{Class, Effect, IcmpMatch, L4Match, Origin, Peer, PeerSelector, Peers, Policy, PortMatch, Ports, Rule},
    snapshot::{Node, Owner, Pod, Snapshot},
    tiers::{self, Background, By, Isolation, Voice},
};

/// Whether a connection may be opened. Both ends have to agree.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Both directions allow it.
    pub allowed: bool,
    /// The family that was judged; `None` where the sides have no address of a common one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// What the policies of the side that opens it say.
    pub egress: Decision,
    /// What the policies of the other side say.
    pub ingress: Decision,
}

/// What the policies of one side say.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Whether they let it pass.
    pub allowed: bool,
    /// Whether a policy isolates this side in this direction.
    pub isolated: bool,
    /// Why.
    pub reason: Reason,
    /// The rules that decided; where no rule matched, the policies that isolate.
    pub origins: Vec<Origin>,
    /// Rules of tiers before that left it to the one that decided, in order of their tiers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub passed: Vec<Origin>,
    /// For a deny, the rule that came closest to allowing it; only explanations look for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest_miss: Option<Miss>,
}

/// Why one side decided as it did.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// Policies do not apply to this side: it is outside the cluster, or a node that no host policy selects.
    NotPolicySubject,
    /// No policy isolates the pod or node in this direction.
    NotIsolated,
    /// A pod always reaches itself.
    OwnPod,
    /// A node always reaches itself: over loopback, where nothing is judged.
    Loopback,
    /// A node reaches its own pods, but for what rules deny; pods reach it where nothing isolates them from it.
    OwnNode,
    /// Rules decided.
    Rule,
    /// The pod is isolated and no rule allows it.
    NoRule,
    /// Rules are about it that ask for more than is enforced yet: they are closed.
    Closed,
    /// Allowed: what would deny it, the origins, only reports.
    Audited,
    /// The sides have no addresses of a common family, or one has none at all.
    NoAddress,
}

/// One side of a connection, found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side<'a> {
    Pod(&'a Pod, IpAddr),
    Node(&'a Node, IpAddr),
    /// Nobody known has it.
    Address(IpAddr),
}

impl<'a> Side<'a> {
    pub(crate) fn address(self) -> IpAddr {
        match self {
            Self::Pod(_, address) | Self::Node(_, address) | Self::Address(address) => address,
        }
    }

    pub(crate) fn pod(self) -> Option<&'a Pod> {
        match self {
            Self::Pod(pod, _) => Some(pod),
            Self::Node(..) | Self::Address(_) => None,
        }
    }

    /// The node that it is or, a pod, runs on.
    pub(crate) fn node(self) -> Option<&'a Arc<str>> {
        match self {
            Self::Pod(pod, _) => pod.node(),
            Self::Node(node, _) => Some(&node.name),
            Self::Address(_) => None,
        }
    }
}

/// The two sides as one direction sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub direction: Direction,
    pub subject: Side<'a>,
    pub peer: Side<'a>,
    pub l4: L4,
}

impl<'a> View<'a> {
    /// The pod whose port names count.
    fn destination(&self) -> Option<&'a Pod> {
        match self.direction {
            Direction::Ingress => self.subject.pod(),
            Direction::Egress => self.peer.pod(),
        }
    }

    /// What the peer is to the subject.
    fn peer_class(&self, snapshot: &Snapshot) -> Class {
        match self.peer {
            Side::Pod(..) => Class::Pod,
            Side::Node(node, _) if self.is_own_node(node) => Class::OwnNode,
            Side::Node(..) => Class::OtherNode,
            Side::Address(address) if snapshot.pod_cidr_over(address.into()).is_some() => Class::Unmanaged,
            Side::Address(address) => Class::World(Family::of(address)),
        }
    }

    fn is_own_node(&self, node: &Node) -> bool {
        self.subject.node() == Some(&node.name)
    }

    /// Whether a rule about these protocols and ports is about what is spoken.
    pub(crate) fn speaks(&self, l4: &L4Match) -> bool {
        match l4 {
            L4Match::Any => true,
            L4Match::Of(ports) => self.speaks_one_of(ports),
            L4Match::Icmp(types) => {
                let family = Family::of(self.peer.address());
                let echo = |icmp: &IcmpMatch| icmp.family == family && icmp.icmp_type == family.echo_request();
                self.l4 == L4::Icmp && types.iter().any(echo)
            }
        }
    }

    /// Whether what is spoken is among `ports`, names resolved at the destination.
    pub(crate) fn speaks_one_of(&self, ports: &[PortMatch]) -> bool {
        let L4::Port { protocol, port } = self.l4 else { return false };
        ports.iter().filter(|candidate| candidate.protocol == protocol).any(|candidate| match &candidate.ports {
            Ports::Range(range) => range.contains(port),
            Ports::Named(name) => self
                .destination()
                .and_then(|pod| pod.named_ports.get(name))
                .is_some_and(|declared| declared.contains(&(protocol, port))),
        })
    }
}

impl Snapshot {
    /// Whether policies allow `connection`.
    pub fn verdict(&self, connection: &Connection) -> Verdict {
        let Some([egress, ingress]) = self.views(connection) else {
            let none = Decision::plain(false, Reason::NoAddress);
            return Verdict { allowed: false, family: None, egress: none.clone(), ingress: none };
        };
        let family = Some(Family::of(egress.peer.address()));
        let (egress, ingress) = (self.decide(&egress), self.decide(&ingress));
        Verdict { allowed: egress.allowed && ingress.allowed, family, egress, ingress }
    }

    /// How each side sees the connection, the opening side first; `None` where they have no addresses of a common family.
    pub(crate) fn views(&self, connection: &Connection) -> Option<[View<'_>; 2]> {
        let families = match connection.family {
            Some(family) => vec![family],
            None => vec![Family::V4, Family::V6],
        };
        let (from, to) = families
            .into_iter()
            .find_map(|family| self.side(&connection.from, family).zip(self.side(&connection.to, family)))?;
        let l4 = connection.l4;
        Some([
            View { direction: Direction::Egress, subject: from, peer: to, l4 },
            View { direction: Direction::Ingress, subject: to, peer: from, l4 },
        ])
    }

    /// Who `party` is over `family`.
    fn side(&self, party: &Party, family: Family) -> Option<Side<'_>> {
        let node = |name: &str| {
            let node = self.node(name)?;
            Some(Side::Node(node, node.address(family)?))
        };
        match party {
            Party::Pod(key) => {
                let pod = self.pod(key)?;
                match pod.address(family) {
                    Some(address) => Some(Side::Pod(pod, address)),
                    None if pod.host_network() && !pod.finished() => node(pod.node()?),
                    None => None,
                }
            }
            Party::Node(name) => node(name),
            Party::Address(address) if Family::of(*address) != family => None,
            Party::Address(address) => match self.owner(*address) {
                Some(Owner::Pod(key)) => Some(Side::Pod(self.pod(key)?, *address)),
                Some(Owner::Node(name)) => Some(Side::Node(self.node(name)?, *address)),
                None => Some(Side::Address(*address)),
            },
        }
    }

    /// The policies that select `subject`; none where it is nobody that policies can be about.
    pub(crate) fn policies_about(&self, subject: Side<'_>) -> Vec<&Policy> {
        match subject {
            Side::Pod(pod, _) => self.policies_of(pod).collect(),
            Side::Node(node, _) => self.host_policies_of(node).collect(),
            Side::Address(_) => Vec::new(),
        }
    }

    /// What the policies of the subject say.
    pub(crate) fn decide(&self, view: &View<'_>) -> Decision {
        let policies = self.policies_about(view.subject);
        if policies.is_empty() && view.subject.pod().is_none() {
            return Decision::plain(true, Reason::NotPolicySubject);
        }
        let isolating: Vec<_> =
            policies.iter().copied().filter(|policy| policy.isolates.contains(&view.direction)).collect();
        let isolated = isolating.iter().any(|policy| !policy.audit);
        let own_node = match (view.subject, view.peer) {
            (Side::Pod(subject, _), Side::Pod(peer, _)) if peer.key == subject.key => {
                return Decision { isolated, ..Decision::plain(true, Reason::OwnPod) };
            }
            (Side::Node(..), Side::Node(peer, _)) if view.is_own_node(peer) => {
                return Decision { isolated, ..Decision::plain(true, Reason::Loopback) };
            }
            (_, Side::Node(peer, _)) => view.is_own_node(peer),
            (_, Side::Pod(..) | Side::Address(_)) => false,
        };
        let from_own_node = own_node && view.direction == Direction::Ingress;
        let background = if from_own_node { Background::default() } else { background(&isolating, own_node) };
        let policies = policies.iter().filter(|policy| background.asks_all() || policy.isolates_from_own_node);
        let rules = policies.flat_map(|policy| &policy.rules).filter(|rule| rule.direction == view.direction);
        let rules = rules.filter(|rule| !from_own_node || rule.effect.binds_own_node());
        let of_rules = rules.filter(|rule| self.matches(rule, view));
        let voice = |rule: &'_ Rule| Voice {
            precedence: rule.precedence,
            effect: rule.effect,
            audit: rule.audit,
            by: By::Rule(rule.origin.clone()),
        };
        let voices: Vec<_> = of_rules.map(voice).chain(background.voices()).collect();
        let Some(outcome) = tiers::decide(&voices.iter()) else { return Decision::plain(false, Reason::NoRule) };
        let reason = match (outcome.verdict, outcome.effect, outcome.by.first()) {
            (PortVerdict::Audit, ..) => Reason::Audited,
            (_, Effect::Closed, _) => Reason::Closed,
            (_, _, Some(By::Rule(_)) | None) => Reason::Rule,
            (_, _, Some(By::Isolation | By::AuditedIsolation)) => Reason::NoRule,
            (_, _, Some(By::OwnNode)) => Reason::OwnNode,
            (_, _, Some(By::Open)) if own_node => Reason::OwnNode,
            (_, _, Some(By::Open)) => Reason::NotIsolated,
        };
        let mut origins = Vec::new();
        for by in outcome.by {
            let named = |audit: bool| isolating.iter().filter(move |policy| policy.audit == audit);
            match by {
                By::Rule(origin) => origins.push(origin),
                By::Isolation => origins.extend(named(false).map(|policy| isolation(policy, view.direction))),
                By::AuditedIsolation => origins.extend(named(true).map(|policy| isolation(policy, view.direction))),
                By::OwnNode | By::Open => {}
            }
        }
        let passed = outcome.passed;
        Decision { isolated, origins, passed, ..Decision::plain(outcome.verdict.passes(), reason) }
    }

    fn matches(&self, rule: &Rule, view: &View<'_>) -> bool {
        let peers = match &rule.peers {
            Peers::Any => true,
            Peers::Of(peers) => peers.iter().any(|peer| self.is_peer(peer, view)),
        };
        peers && view.speaks(&rule.l4)
    }

    pub(crate) fn is_peer(&self, peer: &Peer, view: &View<'_>) -> bool {
        match &peer.selects {
            PeerSelector::Endpoints(selector) => view.peer.pod().is_some_and(|pod| self.selects(selector, pod)),
            PeerSelector::Block(block) => {
                block.contains(view.peer.address()) && block.reach.includes(view.peer_class(self))
            }
            PeerSelector::Nodes(labels) => match view.peer {
                Side::Node(node, _) => labels.matches(&node.labels),
                Side::Pod(..) | Side::Address(_) => false,
            },
            PeerSelector::Entity(entity) => entity.includes(view.peer_class(self)),
        }
    }
}

/// What holds without a rule where these policies isolate a subject.
pub(crate) fn background(isolating: &[&Policy], to_own_node: bool) -> Background {
    let strongest = |audit: bool| {
        let isolations = isolating.iter().filter(|policy| policy.audit == audit).map(|policy| {
            if to_own_node && !policy.isolates_from_own_node { Isolation::ButOwnNode } else { Isolation::Isolated }
        });
        isolations.max().unwrap_or_default()
    };
    Background { enforced: strongest(false), audited: strongest(true) }
}

/// The origin that names `policy` as isolating.
pub(crate) fn isolation(policy: &Policy, direction: Direction) -> Origin {
    Origin {
        kind: Arc::clone(&policy.kind),
        namespace: Arc::clone(&policy.namespace),
        name: Arc::clone(&policy.name),
        direction,
        rule: None,
        section: None,
        location: policy.location.clone(),
    }
}

impl Decision {
    fn plain(allowed: bool, reason: Reason) -> Self {
        Self { allowed, isolated: false, reason, origins: Vec::new(), passed: Vec::new(), nearest_miss: None }
    }
}
