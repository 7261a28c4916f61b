//! Judging one connection, rule by rule.

use std::net::IpAddr;

use serde::Serialize;

use crate::{
    connection::{Connection, Direction, Family, L4, Party},
    miss::Miss,
    rule::{L4Match, Origin, Peer, PeerSelector, Peers, Policy, PortMatch, Ports, Rule},
    snapshot::{Node, Owner, Pod, Snapshot},
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
    /// For a deny, the rule that came closest to allowing it; only explanations look for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest_miss: Option<Miss>,
}

/// Why one side decided as it did.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// Policies do not apply to this side: it is a node or outside the cluster.
    NotPolicySubject,
    /// No policy isolates the pod in this direction.
    NotIsolated,
    /// A pod always reaches itself.
    OwnPod,
    /// A node and its own pods always reach each other.
    OwnNode,
    /// Rules decided.
    Rule,
    /// The pod is isolated and no rule allows it.
    NoRule,
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

    /// What the policies of the subject say.
    pub(crate) fn decide(&self, view: &View<'_>) -> Decision {
        let Side::Pod(subject, _) = view.subject else {
            return Decision::plain(true, Reason::NotPolicySubject);
        };
        let isolating: Vec<_> =
            self.policies_of(subject).filter(|policy| policy.isolates.contains(&view.direction)).collect();
        let isolated = !isolating.is_empty();
        match view.peer {
            Side::Pod(peer, _) if peer.key == subject.key => {
                return Decision { isolated, ..Decision::plain(true, Reason::OwnPod) };
            }
            Side::Node(node, _) if subject.node() == Some(&node.name) => {
                return Decision { isolated, ..Decision::plain(true, Reason::OwnNode) };
            }
            Side::Pod(..) | Side::Node(..) | Side::Address(_) => {}
        }
        let mut winner: Option<&Rule> = None;
        let mut matching = Vec::new();
        for rule in self.rules_of(subject, view.direction).filter(|rule| self.matches(rule, view)) {
            let rank = |rule: &Rule| (rule.precedence, rule.effect);
            if winner.is_none_or(|winner| rank(winner) < rank(rule)) {
                winner = Some(rule);
                matching.clear();
            }
            if winner.is_none_or(|winner| rank(winner) == rank(rule)) {
                matching.push(rule.origin.clone());
            }
        }
        match winner {
            Some(rule) => {
                Decision { isolated, origins: matching, ..Decision::plain(rule.effect.passes(), Reason::Rule) }
            }
            None if !isolated => Decision::plain(true, Reason::NotIsolated),
            None => {
                let origins = isolating.iter().map(|policy| isolation(policy, view.direction)).collect();
                Decision { isolated, origins, ..Decision::plain(false, Reason::NoRule) }
            }
        }
    }

    fn matches(&self, rule: &Rule, view: &View<'_>) -> bool {
        let peers = match &rule.peers {
            Peers::Any => true,
            Peers::Of(peers) => peers.iter().any(|peer| self.is_peer(peer, view.peer)),
        };
        let l4 = match &rule.l4 {
            L4Match::Any => true,
            L4Match::Of(matches) => view.speaks_one_of(matches),
        };
        peers && l4
    }

    fn is_peer(&self, peer: &Peer, side: Side<'_>) -> bool {
        match &peer.selects {
            PeerSelector::Endpoints(selector) => side.pod().is_some_and(|pod| self.selects(selector, pod)),
            PeerSelector::Block(block) => block.contains(side.address()),
        }
    }
}

/// The origin that names `policy` as isolating.
pub(crate) fn isolation(policy: &Policy, direction: Direction) -> Origin {
    Origin {
        kind: std::sync::Arc::clone(&policy.kind),
        namespace: std::sync::Arc::clone(&policy.namespace),
        name: std::sync::Arc::clone(&policy.name),
        direction,
        rule: None,
        location: policy.location.clone(),
    }
}

impl Decision {
    fn plain(allowed: bool, reason: Reason) -> Self {
        Self { allowed, isolated: false, reason, origins: Vec::new(), nearest_miss: None }
    }
}
