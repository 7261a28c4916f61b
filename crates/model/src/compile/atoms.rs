//! Atoms: peers that no rule in force tells apart. Each has one identity on this node.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use strait_base::{IdentityId, Protocol};

use super::{Update, in_force::RulePeers};
use crate::{
    blocks::BlockSet,
    connection::{Direction, L4},
    rule::{Class, Entity, Peers, Rule},
    snapshot::Pod,
};

/// Numbers that pods give to port names.
pub(super) type NamedPorts = BTreeMap<Arc<str>, BTreeSet<(Protocol, u16)>>;

/// Peers with one identity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Atom {
    pub class: Class,
    /// Selectors of nodes that select it; in order.
    pub nodes: Vec<u32>,
    /// Lists of blocks that it is in.
    pub blocks: BlockSet,
    /// What its pods declare under the names that rules in force ask for.
    pub ports: NamedPorts,
}

/// Atoms by identity, and by what rules name them by. Selectors of endpoints are not here: bases know those.
#[derive(Debug, Default)]
pub(super) struct Atoms {
    all: BTreeMap<IdentityId, Atom>,
    by_class: BTreeMap<Class, BTreeSet<IdentityId>>,
    by_list: BTreeMap<u32, BTreeSet<IdentityId>>,
    by_nodes: BTreeMap<u32, BTreeSet<IdentityId>>,
    by_name: BTreeMap<Arc<str>, BTreeSet<IdentityId>>,
}

/// What rules name atoms by that came, went or are others now.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    classes: BTreeSet<Class>,
    lists: BTreeSet<u32>,
    nodes: BTreeSet<u32>,
    names: BTreeSet<Arc<str>>,
    pub selectors: BTreeSet<u32>,
}

impl Dirty {
    pub(super) fn is_empty(&self) -> bool {
        self.classes.is_empty() && self.selectors.is_empty()
    }

    fn add(&mut self, atom: &Atom) {
        self.classes.insert(atom.class);
        self.lists.extend(&atom.blocks);
        self.nodes.extend(&atom.nodes);
        self.names.extend(atom.ports.keys().cloned());
    }

    /// Whether a rule may name other atoms now, or the same otherwise.
    pub(super) fn concerns(&self, rule: &Rule, peers: &RulePeers) -> bool {
        let entities = || peers.entities.iter().any(|entity| self.classes.iter().any(|class| entity.includes(*class)));
        let by_name = || {
            let any_peer = matches!(rule.peers, Peers::Any) && rule.direction == Direction::Egress;
            any_peer && super::in_force::names_of(rule).any(|name| self.names.contains(name))
        };
        peers.selectors.iter().any(|id| self.selectors.contains(id))
            || peers.list.is_some_and(|id| self.lists.contains(&id))
            || peers.nodes.iter().any(|id| self.nodes.contains(id))
            || entities()
            || by_name()
    }

    /// Whether the own node is another now: it is judged in every row.
    pub(super) fn own_node(&self) -> bool {
        self.classes.contains(&Class::OwnNode)
    }
}

impl Atoms {
    pub(super) fn get(&self, identity: IdentityId) -> Option<&Atom> {
        self.all.get(&identity)
    }

    pub(super) fn of_class(&self, class: Class) -> impl Iterator<Item = IdentityId> {
        self.by_class.get(&class).into_iter().flatten().copied()
    }

    /// Those of an entity.
    pub(super) fn of_entity(&self, entity: Entity) -> impl Iterator<Item = IdentityId> {
        let of_class = move |(class, atoms): (&Class, _)| entity.includes(*class).then_some(atoms);
        self.by_class.iter().filter_map(of_class).flatten().copied()
    }

    pub(super) fn of_list(&self, list: u32) -> impl Iterator<Item = IdentityId> {
        self.by_list.get(&list).into_iter().flatten().copied()
    }

    pub(super) fn of_nodes(&self, selector: u32) -> impl Iterator<Item = IdentityId> {
        self.by_nodes.get(&selector).into_iter().flatten().copied()
    }

    /// Those whose pods declare a port of this name.
    pub(super) fn declaring(&self, name: &str) -> impl Iterator<Item = IdentityId> {
        self.by_name.get(name).into_iter().flatten().copied()
    }
}

impl Update<'_> {
    /// There is such an atom, or none of this identity.
    pub(super) fn set_atom(&mut self, identity: IdentityId, atom: Option<Atom>) {
        let atoms = &mut self.state.atoms;
        if atoms.all.get(&identity) == atom.as_ref() {
            return;
        }
        if let Some(old) = atoms.all.remove(&identity) {
            self.dirty.add(&old);
            remove(&mut atoms.by_class, &old.class, identity);
            old.blocks.iter().for_each(|id| remove(&mut atoms.by_list, id, identity));
            old.nodes.iter().for_each(|id| remove(&mut atoms.by_nodes, id, identity));
            old.ports.keys().for_each(|name| remove(&mut atoms.by_name, name, identity));
        }
        if let Some(new) = atom {
            self.dirty.add(&new);
            atoms.by_class.entry(new.class).or_default().insert(identity);
            for id in &new.blocks {
                atoms.by_list.entry(*id).or_default().insert(identity);
            }
            for id in &new.nodes {
                atoms.by_nodes.entry(*id).or_default().insert(identity);
            }
            for name in new.ports.keys() {
                atoms.by_name.entry(Arc::clone(name)).or_default().insert(identity);
            }
            atoms.all.insert(identity, new);
        }
    }
}

fn remove<K: Ord>(index: &mut BTreeMap<K, BTreeSet<IdentityId>>, key: &K, identity: IdentityId) {
    if let Some(identities) = index.get_mut(key) {
        identities.remove(&identity);
        if identities.is_empty() {
            index.remove(key);
        }
    }
}

/// What `pod` declares under the names that are asked for.
pub(super) fn declared<'n>(pod: &Pod, asked: impl IntoIterator<Item = &'n Arc<str>>) -> NamedPorts {
    if pod.named_ports.is_empty() {
        return NamedPorts::new();
    }
    let known = |name: &'n Arc<str>| Some((Arc::clone(name), pod.named_ports.get(name)?.clone()));
    asked.into_iter().filter_map(known).collect()
}

/// `http=80/TCP,dns=53/TCP+53/UDP`, or that there is none.
pub(super) fn ports_text(ports: &NamedPorts) -> String {
    if ports.is_empty() {
        return "without named ports".to_owned();
    }
    let number = |(protocol, port): &(Protocol, u16)| L4::Port { protocol: *protocol, port: *port }.to_string();
    let text = |(name, numbers): (&Arc<str>, &BTreeSet<_>)| {
        format!("{name}={}", numbers.iter().map(number).collect::<Vec<_>>().join("+"))
    };
    ports.iter().map(text).collect::<Vec<_>>().join(",")
}
