//! The nearest miss: for a connection that is denied, the rule that came closest to allowing it, and what it lacked.

use std::{cmp::Reverse, fmt, net::IpAddr};

use ipnet::IpNet;
use serde::Serialize;
use strait_base::{LabelSelector, Labels, Location};

use crate::{
    connection::{Direction, L4},
    rule::{EndpointSelector, L4Match, NamespaceSelector, Origin, Peer, PeerSelector, Peers, PortMatch, Ports, Rule},
    snapshot::{Pod, Snapshot},
    verdict::{Side, View},
};

/// A rule that would have allowed the connection but for some conditions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Miss {
    /// The rule.
    pub origin: Origin,
    /// Where the part of it that came closest is written.
    pub location: Location,
    /// What did not hold; never empty.
    pub conditions: Vec<Condition>,
}

/// Something that a rule asks and that did not hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Condition {
    /// It names pods, and the peer is none.
    NotAPod {
        /// What it selects.
        selector: String,
        /// What the peer is.
        found: String,
    },
    /// It names pods of another namespace.
    Namespace {
        /// The namespace it names.
        wanted: String,
        /// The peer's.
        found: String,
    },
    /// The labels of the peer's namespace.
    NamespaceLabel {
        /// The requirement, as in a selector.
        wanted: String,
        /// The label as it is; absent where the key is.
        found: Option<String>,
    },
    /// The labels of the peer.
    PodLabel {
        /// The requirement, as in a selector.
        wanted: String,
        /// The label as it is; absent where the key is.
        found: Option<String>,
    },
    /// The peer's address is outside the block.
    IpBlock {
        /// The block.
        cidr: IpNet,
        /// The address.
        found: IpAddr,
    },
    /// The peer's address is in a hole of the block.
    Except {
        /// The hole.
        except: IpNet,
        /// The address.
        found: IpAddr,
    },
    /// The labels of the peer, which is a node.
    NodeLabel {
        /// The requirement, as in a selector.
        wanted: String,
        /// The label as it is; absent where the key is.
        found: Option<String>,
    },
    /// The name of the peer's service account.
    ServiceAccount {
        /// The peer's.
        found: String,
    },
    /// It names a class of peers.
    Entity {
        /// Which.
        wanted: String,
        /// Who the peer is.
        found: String,
    },
    /// Nobody is behind its peers: something they refer to does not exist, or nothing resolves it yet.
    Nobody,
    /// The port or protocol.
    Port {
        /// What the rule allows: `80/TCP`, or several with commas.
        wanted: String,
        /// What is spoken.
        found: String,
        /// Why a named port does not match, where one is meant.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let absent = |found: &Option<String>| found.clone().unwrap_or_else(|| "none".to_owned());
        match self {
            Self::NotAPod { selector, found } => write!(f, "podSelector {selector} (found {found}, which is no pod)"),
            Self::Namespace { wanted, found } => write!(f, "namespace {wanted} (found {found})"),
            Self::NamespaceLabel { wanted, found } => {
                write!(f, "namespace label {wanted} (found {})", absent(found))
            }
            Self::PodLabel { wanted, found } => write!(f, "podSelector {wanted} (found {})", absent(found)),
            Self::IpBlock { cidr, found } => write!(f, "ipBlock {cidr} (found {found})"),
            Self::Except { except, found } => write!(f, "except {except} (found {found})"),
            Self::NodeLabel { wanted, found } => write!(f, "node label {wanted} (found {})", absent(found)),
            Self::ServiceAccount { found } => write!(f, "service account (found {found})"),
            Self::Entity { wanted, found } => write!(f, "entity {wanted} (found {found})"),
            Self::Nobody => write!(f, "peers (it names nobody)"),
            Self::Port { wanted, found, name } => {
                let what = if found.contains('/') { "port " } else { "" };
                write!(f, "{what}{found} (rule allows {wanted}")?;
                if let Some(name) = name {
                    write!(f, "; {name}")?;
                }
                f.write_str(")")
            }
        }
    }
}

/// `would be allowed by shop.yaml:14 but for …`
impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "would be allowed by {}:{} but for ", self.location.file, self.location.line)?;
        for (index, condition) in self.conditions.iter().enumerate() {
            write!(f, "{}{condition}", if index == 0 { "" } else { " and " })?;
        }
        Ok(())
    }
}

impl Condition {
    /// In which order a rule is read: who the peer is comes before what it speaks.
    fn stage(&self) -> u8 {
        match self {
            Self::NotAPod { .. } | Self::Entity { .. } | Self::Nobody => 0,
            Self::Namespace { .. } | Self::NamespaceLabel { .. } | Self::IpBlock { .. } => 1,
            Self::PodLabel { .. } | Self::NodeLabel { .. } | Self::ServiceAccount { .. } | Self::Except { .. } => 2,
            Self::Port { .. } => 3,
        }
    }
}

/// How far a rule is from matching: fewer conditions first, then those that fail later. A peer of another kind is further off than
/// one with a wrong label: no edit of it makes it match.
fn distance(conditions: &[Condition], peer: Side<'_>) -> (usize, Reverse<u8>) {
    let weight = |condition: &Condition| match condition {
        Condition::NotAPod { .. } | Condition::Nobody => 3,
        Condition::IpBlock { .. } if peer.pod().is_some() => 2,
        Condition::Entity { .. } => 2,
        Condition::IpBlock { .. }
        | Condition::NodeLabel { .. }
        | Condition::ServiceAccount { .. }
        | Condition::Namespace { .. }
        | Condition::NamespaceLabel { .. }
        | Condition::PodLabel { .. }
        | Condition::Except { .. }
        | Condition::Port { .. } => 1,
    };
    let stage = conditions.iter().map(Condition::stage).min().unwrap_or(u8::MAX);
    (conditions.iter().map(weight).sum(), Reverse(stage))
}

impl Snapshot {
    /// The rule about the subject that came closest to allowing what `view` asks; `None` where there is none, or nothing lacks.
    pub(crate) fn nearest_miss(&self, view: &View<'_>) -> Option<Miss> {
        let rules = self.policies_about(view.subject).into_iter().flat_map(|policy| &policy.rules);
        let rules = rules.filter(|rule| rule.direction == view.direction && rule.effect.passes());
        let misses = rules.map(|rule| self.miss(rule, view)).filter(|miss| !miss.conditions.is_empty());
        misses.min_by_key(|miss| distance(&miss.conditions, view.peer))
    }

    fn miss(&self, rule: &Rule, view: &View<'_>) -> Miss {
        let closest_peer = match &rule.peers {
            Peers::Any => None,
            Peers::Of(peers) => peers
                .iter()
                .map(|peer| (self.lacks_peer(peer, view), &peer.location))
                .min_by_key(|(conditions, _)| distance(conditions, view.peer))
                .or(Some((vec![Condition::Nobody], &rule.origin.location))),
        };
        let (mut conditions, mut location) = match closest_peer {
            Some((conditions, location)) if !conditions.is_empty() => (conditions, location),
            _ => (Vec::new(), &rule.origin.location),
        };
        if let Some((condition, at)) = lacks_port(&rule.l4, view) {
            if conditions.is_empty() {
                location = at.unwrap_or(&rule.origin.location);
            }
            conditions.push(condition);
        }
        Miss { origin: rule.origin.clone(), location: location.clone(), conditions }
    }

    fn lacks_peer(&self, peer: &Peer, view: &View<'_>) -> Vec<Condition> {
        if self.is_peer(peer, view) {
            return Vec::new();
        }
        let side = view.peer;
        let who = || match side {
            Side::Pod(pod, _) => pod.key.to_string(),
            Side::Node(node, _) => format!("node {}", node.name),
            Side::Address(address) => address.to_string(),
        };
        match &peer.selects {
            PeerSelector::Endpoints(selector) => match side {
                Side::Pod(pod, _) => self.lacks_endpoint(selector, pod),
                Side::Node(..) | Side::Address(_) => {
                    vec![Condition::NotAPod { selector: text(selector), found: who() }]
                }
            },
            PeerSelector::Block(block) => {
                let found = side.address();
                if !block.cidr.contains(&found) {
                    return vec![Condition::IpBlock { cidr: block.cidr, found }];
                }
                match block.except.iter().find(|hole| hole.contains(&found)) {
                    Some(except) => vec![Condition::Except { except: *except, found }],
                    None => vec![Condition::Entity { wanted: "outside the cluster".to_owned(), found: who() }],
                }
            }
            PeerSelector::Nodes(labels) => match side {
                Side::Node(node, _) => {
                    let lacking = lacks_labels(labels, &node.labels).into_iter();
                    lacking.map(|(wanted, found)| Condition::NodeLabel { wanted, found }).collect()
                }
                Side::Pod(..) | Side::Address(_) => {
                    vec![Condition::Entity { wanted: "node".to_owned(), found: who() }]
                }
            },
            PeerSelector::Entity(entity) => vec![Condition::Entity { wanted: entity.to_string(), found: who() }],
        }
    }

    fn lacks_endpoint(&self, selector: &EndpointSelector, pod: &Pod) -> Vec<Condition> {
        let namespace = &pod.key.namespace;
        let mut conditions = match &selector.namespaces {
            NamespaceSelector::Named(name) if name == namespace => Vec::new(),
            NamespaceSelector::Named(name) => {
                vec![Condition::Namespace { wanted: name.to_string(), found: namespace.to_string() }]
            }
            NamespaceSelector::Labelled(selector) => {
                let none = Labels::default();
                let labels = self.namespace(namespace).unwrap_or(&none);
                let lacking = lacks_labels(selector, labels).into_iter();
                lacking.map(|(wanted, found)| Condition::NamespaceLabel { wanted, found }).collect()
            }
        };
        let lacking = lacks_labels(&selector.pods, pod.labels()).into_iter();
        conditions.extend(lacking.map(|(wanted, found)| Condition::PodLabel { wanted, found }));
        if !selector.matches_account(pod.service_account()) {
            conditions.push(Condition::ServiceAccount { found: pod.service_account().to_string() });
        }
        conditions
    }
}

fn text(selector: &EndpointSelector) -> String {
    match &selector.namespaces {
        NamespaceSelector::Named(_) => selector.pods.to_string(),
        NamespaceSelector::Labelled(namespaces) if selector.pods.is_empty() => {
            format!("<all> in namespaces {namespaces}")
        }
        NamespaceSelector::Labelled(namespaces) => format!("{} in namespaces {namespaces}", selector.pods),
    }
}

/// The requirements of `selector` that `labels` do not meet, each with the label as it is.
fn lacks_labels(selector: &LabelSelector, labels: &Labels) -> Vec<(String, Option<String>)> {
    let found = |key: &str| labels.get(key).map(|value| format!("{key}={value}"));
    let exact = selector.match_labels.iter().filter(|(key, value)| labels.get(key) != Some(value));
    let expressions = selector.match_expressions.iter().filter(|requirement| !requirement.matches(labels));
    let alone = |requirement: &strait_base::Requirement| {
        LabelSelector { match_labels: Labels::default(), match_expressions: vec![requirement.clone()] }.to_string()
    };
    exact
        .map(|(key, value)| (format!("{key}={value}"), found(key)))
        .chain(expressions.map(|requirement| (alone(requirement), found(&requirement.key))))
        .collect()
}

/// What the ports of a rule lack, and where the closest of them is written where there is only one.
fn lacks_port<'a>(l4: &'a L4Match, view: &View<'_>) -> Option<(Condition, Option<&'a Location>)> {
    if view.speaks(l4) {
        return None;
    }
    let matches = match l4 {
        L4Match::Any => return None,
        L4Match::Of(matches) => matches,
        L4Match::Icmp(types) => {
            let wanted = types.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            return Some((Condition::Port { wanted, found: view.l4.to_string(), name: None }, None));
        }
    };
    let wanted = matches.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let name = match view.l4 {
        L4::Port { protocol, .. } => {
            matches.iter().filter(|port| port.protocol == protocol).find_map(|port| explain_name(port, view))
        }
        L4::Icmp | L4::Other(_) => None,
    };
    let location = match matches.as_slice() {
        [only] => Some(&only.location),
        _ => None,
    };
    Some((Condition::Port { wanted, found: view.l4.to_string(), name }, location))
}

/// What the name of a port stands for at the destination.
fn explain_name(port: &PortMatch, view: &View<'_>) -> Option<String> {
    let Ports::Named(name) = &port.ports else { return None };
    let to = match view.direction {
        Direction::Ingress => view.subject,
        Direction::Egress => view.peer,
    };
    let Some(pod) = to.pod() else {
        return Some(format!("{name} is a name that only pods have, not {}", to.address()));
    };
    Some(match pod.named_ports.get(name) {
        None => format!("{} declares no port {name}", pod.key),
        Some(declared) => {
            let declared: Vec<_> = declared
                .iter()
                .map(|(protocol, port)| L4::Port { protocol: *protocol, port: *port }.to_string())
                .collect();
            format!("{name} of {} is {}", pod.key, declared.join(","))
        }
    })
}
