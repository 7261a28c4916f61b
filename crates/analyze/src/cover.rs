//! What follows from what, whatever pods there are: whether all that one selector, peer or port means another means too, and whether
//! two can mean something in common. Where that cannot be told from what is written, the answer is that it does not follow, and that
//! they can.

use std::collections::BTreeSet;

use ipnet::IpNet;
use strait_base::{LabelSelector, Operator, PortRange, Protocol};
use strait_model::{
    Snapshot,
    rule::{
        Block, EndpointSelector, Entity, IcmpMatch, L4Match, NamespaceSelector, Peer, PeerSelector, Peers, Ports,
        Reach, Rule, Subject,
    },
};

const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// What a selector asks of a key.
fn asked<'a>(selector: &'a LabelSelector, key: &'a str) -> impl Iterator<Item = Asked<'a>> {
    let label = selector.match_labels.get(key).map(|value| Asked::In(BTreeSet::from([value])));
    let expressions = selector.match_expressions.iter().filter(move |requirement| *requirement.key == *key);
    label.into_iter().chain(expressions.map(|requirement| Asked::of(&requirement.operator)))
}

enum Asked<'a> {
    In(BTreeSet<&'a str>),
    NotIn(BTreeSet<&'a str>),
    Exists,
    DoesNotExist,
}

impl<'a> Asked<'a> {
    fn of(operator: &'a Operator) -> Self {
        match operator {
            Operator::In(values) => Self::In(values.iter().map(|value| &**value).collect()),
            Operator::NotIn(values) => Self::NotIn(values.iter().map(|value| &**value).collect()),
            Operator::Exists => Self::Exists,
            Operator::DoesNotExist => Self::DoesNotExist,
        }
    }

    fn implies(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::In(a), Self::In(b)) => a.is_subset(b),
            (Self::In(a), Self::NotIn(b)) => a.is_disjoint(b),
            (Self::NotIn(a), Self::NotIn(b)) => a.is_superset(b),
            (Self::In(_) | Self::Exists, Self::Exists) | (Self::DoesNotExist, Self::NotIn(_) | Self::DoesNotExist) => {
                true
            }
            _ => false,
        }
    }

    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::In(a), Self::In(b)) => a.is_disjoint(b),
            (Self::In(a), Self::NotIn(b)) | (Self::NotIn(b), Self::In(a)) => a.is_subset(b),
            (Self::In(_) | Self::Exists, Self::DoesNotExist) | (Self::DoesNotExist, Self::In(_) | Self::Exists) => true,
            _ => false,
        }
    }
}

/// Every requirement with its key.
fn requirements(selector: &LabelSelector) -> impl Iterator<Item = (&str, Asked<'_>)> {
    let labels = selector.match_labels.iter().map(|(key, value)| (key, Asked::In(BTreeSet::from([value]))));
    labels.chain(selector.match_expressions.iter().map(|one| (&*one.key, Asked::of(&one.operator))))
}

/// Whether all that `a` selects `b` selects.
pub(crate) fn labels(a: &LabelSelector, b: &LabelSelector) -> bool {
    // Most selectors are a few labels, and most differ in the first.
    if a.match_expressions.is_empty() && b.match_expressions.is_empty() {
        return b.match_labels.iter().all(|(key, value)| a.match_labels.get(key) == Some(value));
    }
    requirements(b).all(|(key, wanted)| asked(a, key).any(|known| known.implies(&wanted)))
}

fn labels_meet(a: &LabelSelector, b: &LabelSelector) -> bool {
    if b.match_labels.iter().any(|(key, value)| a.match_labels.get(key).is_some_and(|known| known != value)) {
        return false;
    }
    !requirements(b).any(|(key, wanted)| asked(a, key).any(|known| known.excludes(&wanted)))
}

/// Containment and overlap in a cluster whose namespaces are known.
pub(crate) struct Covers<'a> {
    pub snapshot: &'a Snapshot,
}

impl Covers<'_> {
    fn namespaces(&self, a: &NamespaceSelector, b: &NamespaceSelector) -> bool {
        match (a, b) {
            (NamespaceSelector::Named(a), NamespaceSelector::Named(b)) => a == b,
            (NamespaceSelector::Named(a), NamespaceSelector::Labelled(b)) => match self.snapshot.namespace(a) {
                Some(labels) => b.matches(labels),
                None => b.is_empty(),
            },
            (NamespaceSelector::Labelled(a), NamespaceSelector::Named(b)) => {
                a.match_labels.get(NAMESPACE_NAME) == Some(b)
            }
            (NamespaceSelector::Labelled(a), NamespaceSelector::Labelled(b)) => {
                let named = a.match_labels.get(NAMESPACE_NAME).and_then(|name| self.snapshot.namespace(name));
                labels(a, b) || named.is_some_and(|labels| b.matches(labels))
            }
        }
    }

    fn namespaces_meet(&self, a: &NamespaceSelector, b: &NamespaceSelector) -> bool {
        match (a, b) {
            (NamespaceSelector::Named(a), NamespaceSelector::Named(b)) => a == b,
            (NamespaceSelector::Named(name), NamespaceSelector::Labelled(selector))
            | (NamespaceSelector::Labelled(selector), NamespaceSelector::Named(name)) => {
                self.snapshot.namespace(name).is_none_or(|labels| selector.matches(labels))
            }
            (NamespaceSelector::Labelled(a), NamespaceSelector::Labelled(b)) => labels_meet(a, b),
        }
    }

    /// Whether all pods that `a` selects `b` selects.
    pub(crate) fn endpoints(&self, a: &EndpointSelector, b: &EndpointSelector) -> bool {
        self.namespaces(&a.namespaces, &b.namespaces)
            && labels(&a.pods, &b.pods)
            && b.accounts
                .iter()
                .all(|wanted| a.accounts.iter().any(|known| Asked::of(known).implies(&Asked::of(wanted))))
    }

    fn endpoints_meet(&self, a: &EndpointSelector, b: &EndpointSelector) -> bool {
        let excluded = a.accounts.iter().any(|a| b.accounts.iter().any(|b| Asked::of(a).excludes(&Asked::of(b))));
        !excluded && labels_meet(&a.pods, &b.pods) && self.namespaces_meet(&a.namespaces, &b.namespaces)
    }

    /// Whether all endpoints that `a` is about `b` is about.
    pub(crate) fn subject(&self, a: &Subject, b: &Subject) -> bool {
        match (a, b) {
            (Subject::Endpoints(a), Subject::Endpoints(b)) => self.endpoints(a, b),
            (Subject::Nodes(a), Subject::Nodes(b)) => labels(a, b),
            (Subject::Endpoints(_), Subject::Nodes(_)) | (Subject::Nodes(_), Subject::Endpoints(_)) => false,
        }
    }

    /// Whether both can be about one endpoint.
    pub(crate) fn subjects_meet(&self, a: &Subject, b: &Subject) -> bool {
        match (a, b) {
            (Subject::Endpoints(a), Subject::Endpoints(b)) => self.endpoints_meet(a, b),
            (Subject::Nodes(a), Subject::Nodes(b)) => labels_meet(a, b),
            (Subject::Endpoints(_), Subject::Nodes(_)) | (Subject::Nodes(_), Subject::Endpoints(_)) => false,
        }
    }

    /// Whether all that peer `a` is peer `b` is.
    pub(crate) fn peer(&self, a: &PeerSelector, b: &PeerSelector) -> bool {
        use PeerSelector::{Block, Endpoints, Entity as Class, Nodes};
        match (a, b) {
            (Endpoints(a), Endpoints(b)) => self.endpoints(a, b),
            (Nodes(a), Nodes(b)) => labels(a, b),
            (Block(a), Block(b)) => block(a, b),
            (Endpoints(_) | Nodes(_), Class(Entity::Cluster)) => true,
            (Class(a), Class(b)) => {
                a == b
                    || *b == Entity::World && matches!(a, Entity::WorldIpv4 | Entity::WorldIpv6)
                    || *b == Entity::Cluster && matches!(a, Entity::Host | Entity::RemoteNode | Entity::Unmanaged)
            }
            _ => false,
        }
    }

    /// Whether all peers that `a` is about (`None`: everyone) the rule `b` is about.
    pub(crate) fn peer_in(&self, a: Option<&PeerSelector>, b: &Rule) -> bool {
        match (&b.peers, a) {
            (Peers::Any, _) => true,
            (Peers::Of(_), None) => false,
            (Peers::Of(peers), Some(a)) => peers.iter().any(|peer| self.peer(a, &peer.selects)),
        }
    }

    fn peers_meet(&self, a: &PeerSelector, b: &PeerSelector) -> bool {
        use PeerSelector::{Block, Endpoints, Entity as Class, Nodes};
        match (a, b) {
            (Endpoints(a), Endpoints(b)) => self.endpoints_meet(a, b),
            (Nodes(a), Nodes(b)) => labels_meet(a, b),
            (Block(a), Block(b)) => a.cidr.contains(&b.cidr) || b.cidr.contains(&a.cidr),
            (Endpoints(_) | Nodes(_), Block(block)) | (Block(block), Endpoints(_) | Nodes(_)) => {
                block.reach != Reach::Outside
            }
            (Endpoints(_), Nodes(_)) | (Nodes(_), Endpoints(_)) => false,
            (Endpoints(_), Class(class)) | (Class(class), Endpoints(_)) => *class == Entity::Cluster,
            _ => true,
        }
    }

    /// Whether one connection can be about both: the peer (`None`: everyone) on these ports, and the rule `b`.
    pub(crate) fn item_meets(&self, item: Item<'_>, b: &Rule) -> bool {
        let peers = match (&b.peers, item.peer) {
            (Peers::Any, _) | (_, None) => true,
            (Peers::Of(peers), Some(a)) => peers.iter().any(|peer| self.peers_meet(a, &peer.selects)),
        };
        peers && ports_meet(item.ports, &b.l4)
    }

    /// Whether `b` is about all of `item`.
    pub(crate) fn item(&self, item: Item<'_>, b: &Rule) -> bool {
        self.peer_in(item.peer, b) && ports_in(item.ports, &b.l4)
    }
}

fn block(a: &Block, b: &Block) -> bool {
    let reaches = a.reach == b.reach || b.reach == Reach::All || a.reach == Reach::Outside;
    let holes = || b.except.iter().filter(|hole| meets(**hole, a.cidr));
    reaches && b.cidr.contains(&a.cidr) && holes().all(|hole| a.except.iter().any(|own| own.contains(hole)))
}

fn meets(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// One peer of a rule (`None`: everyone) on one of its ports.
#[derive(Clone, Copy)]
pub(crate) struct Item<'a> {
    pub peer: Option<&'a PeerSelector>,
    pub ports: PortItem<'a>,
}

/// One part of what a rule says of protocols and ports.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum PortItem<'a> {
    Any,
    Port(Protocol, &'a Ports),
    Icmp(IcmpMatch),
}

/// The items of a rule; none where it matches nothing.
pub(crate) fn items(rule: &Rule) -> Vec<Item<'_>> {
    let peers: Vec<Option<&PeerSelector>> = match &rule.peers {
        Peers::Any => vec![None],
        Peers::Of(peers) => peers.iter().map(|peer: &Peer| Some(&peer.selects)).collect(),
    };
    let ports = port_items(&rule.l4);
    peers.iter().flat_map(|peer| ports.iter().map(|ports| Item { peer: *peer, ports: *ports })).collect()
}

pub(crate) fn port_items(l4: &L4Match) -> Vec<PortItem<'_>> {
    match l4 {
        L4Match::Any => vec![PortItem::Any],
        L4Match::Of(ports) => ports.iter().map(|port| PortItem::Port(port.protocol, &port.ports)).collect(),
        L4Match::Icmp(types) => types.iter().map(|one| PortItem::Icmp(*one)).collect(),
    }
}

/// Whether all that `a` is about `b` is about.
pub(crate) fn port_in_port(a: (Protocol, &Ports), b: (Protocol, &Ports)) -> bool {
    a.0 == b.0
        && match (a.1, b.1) {
            (_, Ports::Range(range)) if *range == PortRange::ALL => true,
            (Ports::Range(a), Ports::Range(b)) => b.first() <= a.first() && a.last() <= b.last(),
            (Ports::Named(a), Ports::Named(b)) => a == b,
            _ => false,
        }
}

fn ports_in(a: PortItem<'_>, b: &L4Match) -> bool {
    match (a, b) {
        (_, L4Match::Any) => true,
        (PortItem::Port(protocol, ports), L4Match::Of(list)) => {
            list.iter().any(|one| port_in_port((protocol, ports), (one.protocol, &one.ports)))
        }
        (PortItem::Icmp(one), L4Match::Icmp(list)) => list.contains(&one),
        _ => false,
    }
}

fn ports_meet(a: PortItem<'_>, b: &L4Match) -> bool {
    match (a, b) {
        (PortItem::Any, _) | (_, L4Match::Any) => true,
        (PortItem::Port(protocol, ports), L4Match::Of(list)) => list.iter().any(|one| {
            one.protocol == protocol
                && match (ports, &one.ports) {
                    (Ports::Range(a), Ports::Range(b)) => a.first() <= b.last() && b.first() <= a.last(),
                    // A name may be any number.
                    _ => true,
                }
        }),
        (PortItem::Icmp(one), L4Match::Icmp(list)) => list.contains(&one),
        _ => false,
    }
}
