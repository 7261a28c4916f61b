//! The rules in force on a node, and what they can tell peers apart by.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use strait_base::{LabelSelector, Labels};

use super::{Update, groups::matches, table::Table};
use crate::{
    blocks::{BlockIndex, BlockList},
    connection::Direction,
    identity,
    rule::{Block, Class, EndpointSelector, Entity, L4Match, Peer, PeerSelector, Peers, Policy, Ports, Rule},
    snapshot::Owner,
};

/// A rule of a policy in force: the policy's serial number, and which of its rules.
pub(super) type RuleId = (u32, usize);

/// Policies that select an endpoint of the node. Those of other nodes' endpoints alone play no part.
#[derive(Debug, Default)]
pub(super) struct InForce {
    policies: BTreeMap<u32, Loaded>,
    selectors: Table<EndpointSelector>,
    /// What is known of each selector.
    matching: BTreeMap<u32, Matching>,
    nodes: Table<LabelSelector>,
    lists: Table<BlockList>,
    blocks: BlockIndex,
    /// Lists that came and went since the index was made.
    unsettled: Vec<Arc<BlockList>>,
    /// Port names that egress rules look up at whatever destination (any peer, or blocks), and how many do.
    names_of_any: BTreeMap<Arc<str>, usize>,
}

/// A policy in force.
#[derive(Debug)]
pub(super) struct Loaded {
    pub policy: Arc<Policy>,
    /// How many profiles it is in.
    profiles: usize,
    /// Of each rule.
    peers: Vec<RulePeers>,
}

/// The peers that a rule names, by number.
#[derive(Debug, Default)]
pub(super) struct RulePeers {
    pub selectors: Vec<u32>,
    pub nodes: Vec<u32>,
    pub entities: Vec<Entity>,
    pub list: Option<u32>,
}

/// Whom a selector selects.
#[derive(Debug)]
pub(super) struct Matching {
    /// It looks at labels that are no part of the base identity.
    pub refines: bool,
    /// Bases of which it selects all pods; some, where it refines.
    pub bases: BTreeSet<u32>,
    /// Port names that egress rules look up at those whom it selects, and how many do.
    names: BTreeMap<Arc<str>, usize>,
}

impl InForce {
    pub(super) fn given(&self) -> u32 {
        self.selectors.given().max(self.nodes.given()).max(self.lists.given())
    }

    pub(super) fn policy(&self, serial: u32) -> Option<&Loaded> {
        self.policies.get(&serial)
    }

    pub(super) fn rule(&self, (serial, at): RuleId) -> Option<&Rule> {
        self.policies.get(&serial)?.policy.rules.get(at)
    }

    /// The rules of these policies in one direction, each with its peers.
    pub(super) fn rules(
        &self,
        policies: &[u32],
        direction: Direction,
    ) -> impl Iterator<Item = (RuleId, &Rule, &RulePeers)> {
        let loaded = policies.iter().filter_map(|serial| Some((*serial, self.policies.get(serial)?)));
        let rules = loaded.flat_map(|(serial, loaded)| {
            let rules = loaded.policy.rules.iter().zip(&loaded.peers).enumerate();
            rules.map(move |(at, (rule, peers))| ((serial, at), rule, peers))
        });
        rules.filter(move |(_, rule, _)| rule.direction == direction)
    }

    pub(super) fn selector(&self, id: u32) -> Option<&EndpointSelector> {
        self.selectors.get(id)
    }

    pub(super) fn matching(&self, selector: u32) -> Option<&Matching> {
        self.matching.get(&selector)
    }

    pub(super) fn matching_mut(&mut self) -> impl Iterator<Item = (&EndpointSelector, u32, &mut Matching)> {
        let Self { selectors, matching, .. } = self;
        matching.iter_mut().filter_map(|(id, matching)| Some((selectors.get(*id)?, *id, matching)))
    }

    pub(super) fn node_selector(&self, id: u32) -> Option<&LabelSelector> {
        self.nodes.get(id)
    }

    /// The selectors that select a node with these labels.
    pub(super) fn nodes_selecting(&self, labels: &Labels) -> Vec<u32> {
        self.nodes.iter().filter(|(_, selector)| selector.matches(labels)).map(|(id, _)| id).collect()
    }

    pub(super) const fn blocks(&self) -> &BlockIndex {
        &self.blocks
    }

    /// Lists as text, in order; it tells sets of them apart whatever else is in force.
    pub(super) fn content(&self, set: &[u32]) -> String {
        let text = |list: &BlockList| list.iter().map(ToString::to_string).collect::<Vec<_>>().join("|");
        let texts: BTreeSet<String> = set.iter().filter_map(|id| self.lists.get(*id)).map(text).collect();
        texts.into_iter().collect::<Vec<_>>().join("&")
    }

    /// The blocks of lists as text, in order.
    pub(super) fn texts(&self, set: &[u32]) -> Vec<String> {
        let blocks: BTreeSet<&Block> = set.iter().filter_map(|id| self.lists.get(*id)).flatten().collect();
        let mut texts: Vec<String> = blocks.into_iter().map(ToString::to_string).collect();
        // Blocks that reach other hosts read the same.
        texts.dedup();
        texts
    }

    /// Port names that egress rules look up at pods which these selectors select.
    pub(super) fn names_asked_of<'s>(&self, selectors: impl Iterator<Item = &'s u32>) -> BTreeSet<&Arc<str>> {
        let of_selectors = selectors.filter_map(|id| self.matching.get(id)).flat_map(|matching| matching.names.keys());
        self.names_of_any.keys().chain(of_selectors).collect()
    }
}

impl Update<'_> {
    /// A profile has this policy.
    pub(super) fn load(&mut self, serial: u32, policy: &Arc<Policy>) {
        if let Some(loaded) = self.state.in_force.policies.get_mut(&serial) {
            loaded.profiles += 1;
            return;
        }
        let peers = policy.rules.iter().map(|rule| {
            let peers = self.take_peers(rule);
            self.count_names(rule, &peers, |count| *count += 1);
            peers
        });
        let peers = peers.collect();
        self.state.in_force.policies.insert(serial, Loaded { policy: Arc::clone(policy), profiles: 1, peers });
    }

    /// A profile is gone that had this policy.
    pub(super) fn unload(&mut self, serial: u32) {
        let Some(loaded) = self.state.in_force.policies.get_mut(&serial) else { return };
        loaded.profiles -= 1;
        if loaded.profiles > 0 {
            return;
        }
        let Some(loaded) = self.state.in_force.policies.remove(&serial) else { return };
        for (rule, peers) in loaded.policy.rules.iter().zip(&loaded.peers) {
            self.count_names(rule, peers, |count| *count -= 1);
            self.give_back_peers(peers);
        }
    }

    fn take_peers(&mut self, rule: &Rule) -> RulePeers {
        let mut taken = RulePeers::default();
        for peer in peers_of(rule) {
            match &peer.selects {
                PeerSelector::Endpoints(selector) => {
                    let (id, new) = self.state.in_force.selectors.take(selector);
                    if new {
                        self.find_matching(id, selector);
                    }
                    taken.selectors.push(id);
                }
                PeerSelector::Nodes(labels) => {
                    let (id, new) = self.state.in_force.nodes.take(labels);
                    self.nodes_changed |= new;
                    taken.nodes.push(id);
                }
                PeerSelector::Entity(entity) => taken.entities.push(*entity),
                PeerSelector::Block(_) => {}
            }
        }
        let list = blocks_of(rule);
        if !list.is_empty() {
            let (id, new) = self.state.in_force.lists.take(&list);
            if new {
                self.lists_changed = true;
                self.state.in_force.unsettled.push(Arc::new(list));
            }
            taken.list = Some(id);
        }
        taken
    }

    fn give_back_peers(&mut self, peers: &RulePeers) {
        let in_force = &mut self.state.in_force;
        for id in &peers.selectors {
            if in_force.selectors.give_back(*id).is_some()
                && let Some(matching) = in_force.matching.remove(id)
            {
                self.state.bases.forget_selector(*id, &matching);
                if matching.refines {
                    self.touched.extend(&matching.bases);
                }
            }
        }
        for id in &peers.nodes {
            self.nodes_changed |= in_force.nodes.give_back(*id).is_some();
        }
        if let Some(list) = peers.list.and_then(|id| in_force.lists.give_back(id)) {
            self.lists_changed = true;
            in_force.unsettled.push(list);
        }
    }

    /// Finds whom a selector selects that is new.
    fn find_matching(&mut self, id: u32, selector: &EndpointSelector) {
        let refines = identity::refines(&selector.pods);
        let candidates = self.state.bases.candidates(&selector.namespaces, self.snapshot);
        let selects = |base: &u32| {
            let identity = self.state.bases.number(*base).map(|(identity, _)| identity);
            identity.is_some_and(|identity| matches(selector, refines, identity))
        };
        let bases: BTreeSet<u32> = candidates.into_iter().filter(selects).collect();
        if refines {
            self.touched.extend(&bases);
        }
        let matching = Matching { refines, bases, names: BTreeMap::new() };
        self.state.bases.learn_selector(id, &matching);
        self.state.in_force.matching.insert(id, matching);
    }

    /// Counts who asks for port names; where a name is asked for that was not, or no more, ports are looked at anew.
    fn count_names(&mut self, rule: &Rule, peers: &RulePeers, change: impl Fn(&mut usize)) {
        if rule.direction != Direction::Egress {
            return;
        }
        let counted = |counts: &mut BTreeMap<Arc<str>, usize>, name: &Arc<str>| {
            let count = counts.entry(Arc::clone(name)).or_default();
            let before = *count;
            change(count);
            let now = *count;
            if now == 0 {
                counts.remove(name);
            }
            (before == 0) != (now == 0)
        };
        for name in names_of(rule) {
            let in_force = &mut self.state.in_force;
            let anywhere = matches!(rule.peers, Peers::Any) || peers.list.is_some() || !peers.entities.is_empty();
            if anywhere && counted(&mut in_force.names_of_any, name) {
                self.touched.extend(self.state.bases.ids());
            }
            for selector in &peers.selectors {
                if let Some(matching) = in_force.matching.get_mut(selector)
                    && counted(&mut matching.names, name)
                {
                    self.touched.extend(&matching.bases);
                }
            }
        }
    }

    /// Indexes the blocks in force; pods that are in one that came or went are looked at anew.
    pub(super) fn settle_blocks(&mut self) {
        let in_force = &mut self.state.in_force;
        if !self.lists_changed {
            return;
        }
        in_force.blocks = BlockIndex::new(in_force.lists.iter());
        let unsettled = std::mem::take(&mut in_force.unsettled);
        let reaching = unsettled.iter().flat_map(|list| list.iter()).filter(|block| block.reach.includes(Class::Pod));
        for (_, owner) in reaching.flat_map(|block| self.snapshot.owners_in(block.cidr)) {
            if let Owner::Pod(key) = owner
                && let Some(pod) = self.snapshot.pod(key)
            {
                self.touched.insert(pod.base());
            }
        }
    }
}

/// The peers that a rule names.
fn peers_of(rule: &Rule) -> impl Iterator<Item = &Peer> {
    match &rule.peers {
        Peers::Any => [].iter(),
        Peers::Of(peers) => peers.iter(),
    }
}

/// The blocks that a rule names, sorted.
fn blocks_of(rule: &Rule) -> BlockList {
    let blocks: BTreeSet<_> = peers_of(rule)
        .filter_map(|peer| match &peer.selects {
            PeerSelector::Block(block) => Some(block.clone()),
            PeerSelector::Endpoints(_) | PeerSelector::Nodes(_) | PeerSelector::Entity(_) => None,
        })
        .collect();
    blocks.into_iter().collect()
}

/// The port names that a rule names.
pub(super) fn names_of(rule: &Rule) -> impl Iterator<Item = &Arc<str>> {
    let ports = match &rule.l4 {
        L4Match::Any | L4Match::Icmp(_) => [].iter(),
        L4Match::Of(ports) => ports.iter(),
    };
    ports.filter_map(|port| match &port.ports {
        Ports::Named(name) => Some(name),
        Ports::Range(_) => None,
    })
}
