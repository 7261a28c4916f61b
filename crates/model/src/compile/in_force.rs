//! The rules in force on a node, and what they can tell peers apart by.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use strait_base::{LabelSelector, Labels};

use crate::{
    blocks::{BlockIndex, BlockList},
    connection::Direction,
    identity::{self, BaseIdentity},
    rule::{EndpointSelector, L4Match, NamespaceSelector, Peer, PeerSelector, Peers, Ports, Rule},
    snapshot::{Pod, Snapshot},
};

/// A port name.
pub(super) type PortName<'a> = &'a Arc<str>;

/// The rules of the policies that select an endpoint of the node. Policies of other nodes' endpoints alone play no part.
pub(super) struct InForce<'a> {
    /// In order of their policies.
    pub rules: Vec<&'a Rule>,
    /// Where the rules of each policy begin and end in `rules`; empty for policies that are not in force.
    rules_of: BTreeMap<usize, std::ops::Range<usize>>,
    /// Distinct peer selectors, in order.
    pub selectors: Vec<&'a EndpointSelector>,
    /// Distinct selectors of nodes, in order.
    pub nodes: Vec<&'a LabelSelector>,
    /// Distinct lists of blocks, indexed.
    pub blocks: BlockIndex<'a>,
    selector_index: BTreeMap<&'a EndpointSelector, usize>,
    list_index: BTreeMap<BlockList<'a>, usize>,
    /// Port names that egress rules look up at whatever destination (any peer, or blocks).
    names_of_any: BTreeSet<PortName<'a>>,
    /// Port names that egress rules look up at destinations of a selector.
    names_of_selector: BTreeMap<usize, BTreeSet<PortName<'a>>>,
}

impl<'a> InForce<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, node: &str) -> Self {
        let local = snapshot.pods().filter(|pod| pod.is_endpoint() && pod.node().is_some_and(|name| **name == *node));
        let profiles: BTreeSet<_> = local.map(Pod::profile).collect();
        let policies: BTreeSet<_> =
            profiles.into_iter().flat_map(|profile| snapshot.profile(profile)).copied().collect();
        let mut rules = Vec::new();
        let mut rules_of = BTreeMap::new();
        for index in policies {
            let first = rules.len();
            rules.extend(snapshot.policies().get(index).into_iter().flat_map(|policy| &policy.rules));
            rules_of.insert(index, first..rules.len());
        }
        let peers = || rules.iter().flat_map(|rule| peers_of(rule));
        let selectors = peers().filter_map(|peer| match &peer.selects {
            PeerSelector::Endpoints(selector) => Some(selector),
            PeerSelector::Block(_) | PeerSelector::Nodes(_) | PeerSelector::Entity(_) => None,
        });
        let nodes = peers().filter_map(|peer| match &peer.selects {
            PeerSelector::Nodes(labels) => Some(labels),
            PeerSelector::Endpoints(_) | PeerSelector::Block(_) | PeerSelector::Entity(_) => None,
        });
        let nodes: Vec<_> = nodes.collect::<BTreeSet<_>>().into_iter().collect();
        let selectors: Vec<_> = selectors.collect::<BTreeSet<_>>().into_iter().collect();
        let selector_index = selectors.iter().enumerate().map(|(at, selector)| (*selector, at)).collect();
        let lists: BTreeSet<_> = rules.iter().map(|rule| blocks_of(rule)).filter(|list| !list.is_empty()).collect();
        let lists: Vec<_> = lists.into_iter().collect();
        let list_index = lists.iter().enumerate().map(|(at, list)| (list.clone(), at)).collect();
        let mut in_force = Self {
            rules,
            rules_of,
            selectors,
            nodes,
            blocks: BlockIndex::new(lists),
            selector_index,
            list_index,
            names_of_any: BTreeSet::new(),
            names_of_selector: BTreeMap::new(),
        };
        in_force.find_names();
        in_force
    }

    fn find_names(&mut self) {
        for rule in self.rules.iter().filter(|rule| rule.direction == Direction::Egress) {
            let names: Vec<_> = names_of(rule).collect();
            if names.is_empty() {
                continue;
            }
            if matches!(rule.peers, Peers::Any) {
                self.names_of_any.extend(&names);
            }
            for peer in peers_of(rule) {
                match &peer.selects {
                    PeerSelector::Block(_) | PeerSelector::Entity(_) => self.names_of_any.extend(&names),
                    PeerSelector::Nodes(_) => {}
                    PeerSelector::Endpoints(selector) => {
                        if let Some(at) = self.selector_index.get(selector) {
                            self.names_of_selector.entry(*at).or_default().extend(&names);
                        }
                    }
                }
            }
        }
    }

    /// Indices of the rules of these policies in one direction.
    pub(super) fn rules_about(
        &self,
        policies: impl Iterator<Item = usize>,
        direction: Direction,
    ) -> impl Iterator<Item = usize> {
        let ranges = policies.filter_map(|policy| self.rules_of.get(&policy)).cloned();
        ranges.flatten().filter(move |index| self.rules.get(*index).is_some_and(|rule| rule.direction == direction))
    }

    /// The index of a rule's peer among `selectors`.
    pub(super) fn selector(&self, selector: &EndpointSelector) -> Option<usize> {
        self.selector_index.get(selector).copied()
    }

    /// The index of a selector of nodes among `nodes`.
    pub(super) fn node_selector(&self, labels: &LabelSelector) -> Option<usize> {
        self.nodes.binary_search(&labels).ok()
    }

    /// Indices of the selectors that select a node with these labels.
    pub(super) fn nodes_selecting(&self, labels: &Labels) -> Vec<usize> {
        (0..).zip(&self.nodes).filter(|(_, selector)| selector.matches(labels)).map(|(at, _)| at).collect()
    }

    /// The index of the blocks of a rule, as [`BlockIndex::members`] has it.
    pub(super) fn list(&self, rule: &Rule) -> Option<usize> {
        self.list_index.get(&blocks_of(rule)).copied()
    }

    /// Port names that egress rules look up at pods which these selectors select.
    pub(super) fn names_asked_of(&self, selectors: &[usize]) -> BTreeSet<PortName<'a>> {
        let of_selectors = selectors.iter().filter_map(|at| self.names_of_selector.get(at)).flatten();
        self.names_of_any.iter().chain(of_selectors).copied().collect()
    }
}

/// The peers that a rule names.
pub(super) fn peers_of(rule: &Rule) -> impl Iterator<Item = &Peer> {
    match &rule.peers {
        Peers::Any => [].iter(),
        Peers::Of(peers) => peers.iter(),
    }
}

/// The blocks that a rule names, sorted.
fn blocks_of(rule: &Rule) -> BlockList<'_> {
    let blocks: BTreeSet<_> = peers_of(rule)
        .filter_map(|peer| match &peer.selects {
            PeerSelector::Block(block) => Some(block),
            PeerSelector::Endpoints(_) | PeerSelector::Nodes(_) | PeerSelector::Entity(_) => None,
        })
        .collect();
    blocks.into_iter().collect()
}

/// The port names that a rule names.
pub(super) fn names_of(rule: &Rule) -> impl Iterator<Item = PortName<'_>> {
    let ports = match &rule.l4 {
        L4Match::Any | L4Match::Icmp(_) => [].iter(),
        L4Match::Of(ports) => ports.iter(),
    };
    ports.filter_map(|port| match &port.ports {
        Ports::Named(name) => Some(name),
        Ports::Range(_) => None,
    })
}

/// Which selectors select the pods of each base identity.
pub(super) struct SelectorMatches<'a> {
    selectors: &'a [&'a EndpointSelector],
    /// By namespace: selectors that may select in it, split into those that see a base as one and those that look at each pod.
    by_namespace: BTreeMap<&'a str, (Vec<usize>, Vec<usize>)>,
}

impl<'a> SelectorMatches<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, selectors: &'a [&'a EndpointSelector]) -> Self {
        let mut by_namespace: BTreeMap<&str, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        // Many rules share few namespace selectors.
        let mut selected: BTreeMap<&NamespaceSelector, Vec<&str>> = BTreeMap::new();
        for (at, selector) in selectors.iter().enumerate() {
            let namespaces = selected.entry(&selector.namespaces).or_insert_with(|| match &selector.namespaces {
                NamespaceSelector::Named(name) => vec![name],
                NamespaceSelector::Labelled(labels) => {
                    let matching = snapshot.namespaces().filter(|(_, found)| labels.matches(found));
                    matching.map(|(name, _)| &**name).collect()
                }
            });
            let refines = identity::refines(&selector.pods);
            for namespace in namespaces {
                let (whole, each) = by_namespace.entry(namespace).or_default();
                if refines { each.push(at) } else { whole.push(at) }
            }
        }
        Self { selectors, by_namespace }
    }

    /// The selectors that select every pod of a base identity; in order.
    pub(super) fn of_base(&self, base: &BaseIdentity) -> Vec<usize> {
        let candidates = self.by_namespace.get(&*base.namespace).map(|(whole, _)| whole);
        self.matching(candidates, &base.service_account, &base.labels)
    }

    /// The selectors that tell pods of one base apart and select this one; in order.
    pub(super) fn of_pod(&self, pod: &Pod) -> Vec<usize> {
        let candidates = self.by_namespace.get(&*pod.key.namespace).map(|(_, each)| each);
        self.matching(candidates, pod.service_account(), pod.labels())
    }

    fn matching(&self, candidates: Option<&Vec<usize>>, account: &str, labels: &Labels) -> Vec<usize> {
        let selects = |at: &&usize| {
            let selector = self.selectors.get(**at);
            selector.is_some_and(|selector| selector.pods.matches(labels) && selector.matches_account(account))
        };
        candidates.into_iter().flatten().filter(selects).copied().collect()
    }
}
