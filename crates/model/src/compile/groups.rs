//! Groups: addresses of pods of one base identity that no rule in force tells apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use strait_base::{IdentityId, Labels};

use super::{
    State, Update,
    atoms::{Atom, NamedPorts, declared, ports_text},
    group,
    in_force::{InForce, Matching},
    node_address,
};
use crate::{
    blocks::BlockSet,
    connection::Family,
    identity::BaseIdentity,
    plan::{IpcacheEntry, IpcacheKind},
    rule::{Class, EndpointSelector, NamespaceSelector},
    snapshot::{Pod, Snapshot},
};

/// Base identities, by the snapshot's numbers.
#[derive(Debug, Default)]
pub(super) struct Bases {
    all: BTreeMap<u32, Base>,
    by_namespace: BTreeMap<Arc<str>, BTreeSet<u32>>,
    numbers: BTreeSet<IdentityId>,
}

#[derive(Debug)]
struct Base {
    identity: Arc<BaseIdentity>,
    number: IdentityId,
    /// Selectors in force that select all of its pods.
    whole: BTreeSet<u32>,
    /// Those that have to look at each.
    each: BTreeSet<u32>,
    /// In order of their keys. Most bases have one: a map's node would take as much as eleven.
    groups: Box<[(GroupKey, Group)]>,
}

/// What sets a group apart from others of its base.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct GroupKey {
    /// Those of the base's `each` that select it; in order.
    own: Vec<u32>,
    /// What its pods declare under the names that are asked for.
    ports: NamedPorts,
    /// Lists of blocks that its addresses are in.
    blocks: BlockSet,
}

#[derive(Debug)]
struct Group {
    identity: IdentityId,
    /// How many.
    addresses: usize,
}

impl Bases {
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.all.keys().copied()
    }

    /// A base identity and its number.
    pub(super) fn number(&self, id: u32) -> Option<(&Arc<BaseIdentity>, IdentityId)> {
        self.all.get(&id).map(|base| (&base.identity, base.number))
    }

    /// Whether this is the number of a base identity.
    pub(super) fn is_number(&self, identity: IdentityId) -> bool {
        self.numbers.contains(&identity)
    }

    /// Bases in the namespaces that are selected.
    pub(super) fn candidates(&self, namespaces: &NamespaceSelector, snapshot: &Snapshot) -> Vec<u32> {
        match namespaces {
            NamespaceSelector::Named(name) => self.by_namespace.get(name).into_iter().flatten().copied().collect(),
            NamespaceSelector::Labelled(labels) => {
                let selects =
                    |name: &Arc<str>| snapshot.namespace(name).is_some_and(|namespace| labels.matches(namespace));
                let selected = self.by_namespace.iter().filter(|(name, _)| selects(name));
                selected.flat_map(|(_, bases)| bases).copied().collect()
            }
        }
    }

    pub(super) fn learn_selector(&mut self, id: u32, matching: &Matching) {
        for base in &matching.bases {
            if let Some(base) = self.all.get_mut(base) {
                base.selectors(matching.refines).insert(id);
            }
        }
    }

    pub(super) fn forget_selector(&mut self, id: u32, matching: &Matching) {
        for base in &matching.bases {
            if let Some(base) = self.all.get_mut(base) {
                base.selectors(matching.refines).remove(&id);
            }
        }
    }

    /// The identities of those of a base that a selector selects, which is one of its own.
    pub(super) fn selected(&self, base: u32, selector: u32, refines: bool) -> impl Iterator<Item = IdentityId> {
        let groups = self.all.get(&base).into_iter().flat_map(|base| base.groups.iter());
        let selected = groups.filter(move |(key, _)| !refines || key.own.contains(&selector));
        selected.map(|(_, group)| group.identity)
    }
}

impl Base {
    fn selectors(&mut self, refines: bool) -> &mut BTreeSet<u32> {
        if refines { &mut self.each } else { &mut self.whole }
    }

    fn group_mut(&mut self, key: &GroupKey) -> Option<&mut Group> {
        let at = self.groups.binary_search_by(|(known, _)| known.cmp(key)).ok()?;
        self.groups.get_mut(at).map(|(_, group)| group)
    }

    /// Those of `each` that select `pod`; in order.
    fn own(&self, in_force: &InForce, pod: &Pod) -> Vec<u32> {
        let selects = |id: &&u32| in_force.selector(**id).is_some_and(|selector| selector.pods.matches(pod.labels()));
        self.each.iter().filter(selects).copied().collect()
    }

    /// The group of each of a pod's addresses.
    fn keys(&self, in_force: &InForce, pod: &Pod) -> Vec<(GroupKey, IpAddr)> {
        let own = self.own(in_force, pod);
        let ports = if pod.named_ports.is_empty() {
            NamedPorts::new()
        } else {
            declared(pod, in_force.names_asked_of(self.whole.iter().chain(&own)))
        };
        let key = |address: &IpAddr| {
            let blocks = in_force.blocks().of_address(*address, Class::Pod).to_vec();
            (GroupKey { own: own.clone(), ports: ports.clone(), blocks }, *address)
        };
        pod.addresses().iter().map(key).collect()
    }
}

/// Whether a selector selects pods of a base identity, which is in a namespace that it selects; where it refines, whether it may.
pub(super) fn matches(selector: &EndpointSelector, refines: bool, base: &BaseIdentity) -> bool {
    selector.matches_account(&base.service_account) && (refines || selector.pods.matches(&base.labels))
}

impl State {
    /// Finds anew which selectors select the bases of a namespace, which has these labels now: those that select others than before, with
    /// the bases in question.
    pub(super) fn match_anew(&mut self, namespace: &Arc<str>, labels: &Labels) -> BTreeMap<u32, Vec<u32>> {
        let Self { bases, in_force, .. } = self;
        let mut others: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for id in bases.by_namespace.get(namespace).into_iter().flatten() {
            let Some(base) = bases.all.get_mut(id) else { continue };
            for (selector, at, matching) in in_force.matching_mut() {
                let now = selector.namespaces.matches(namespace, labels)
                    && matches(selector, matching.refines, &base.identity);
                if now == matching.bases.contains(id) {
                    continue;
                }
                if now {
                    matching.bases.insert(*id);
                    base.selectors(matching.refines).insert(at);
                } else {
                    matching.bases.remove(id);
                    base.selectors(matching.refines).remove(&at);
                }
                others.entry(at).or_default().push(*id);
            }
        }
        others
    }
}

impl Update<'_> {
    /// The snapshot knows a base identity that is new.
    pub(super) fn add_base(&mut self, id: u32) {
        let Some(identity) = self.snapshot.bases().get(id).map(|base| Arc::clone(&base.identity)) else { return };
        let number = self.allocator.workload(&identity);
        let none = Labels::default();
        let labels = self.snapshot.namespace(&identity.namespace).unwrap_or(&none);
        let (mut whole, mut each) = (BTreeSet::new(), BTreeSet::new());
        for (selector, at, matching) in self.state.in_force.matching_mut() {
            if selector.namespaces.matches(&identity.namespace, labels)
                && matches(selector, matching.refines, &identity)
            {
                matching.bases.insert(id);
                if matching.refines { &mut each } else { &mut whole }.insert(at);
            }
        }
        let bases = &mut self.state.bases;
        bases.by_namespace.entry(Arc::clone(&identity.namespace)).or_default().insert(id);
        bases.numbers.insert(number);
        bases.all.insert(id, Base { identity, number, whole, each, groups: Box::default() });
        self.touched.insert(id);
    }

    /// Takes in that the snapshot has got a base identity, or has it no more.
    pub(super) fn settle_base(&mut self, id: u32) {
        match (self.snapshot.bases().get(id), self.state.bases.all.contains_key(&id)) {
            (Some(_), false) => self.add_base(id),
            (None, true) => self.remove_base(id),
            (Some(_), true) | (None, false) => {}
        }
    }

    fn remove_base(&mut self, id: u32) {
        self.put_groups(id, Box::default());
        let Some(base) = self.state.bases.all.remove(&id) else { return };
        for (_, _, matching) in self.state.in_force.matching_mut() {
            matching.bases.remove(&id);
        }
        let bases = &mut self.state.bases;
        bases.numbers.remove(&base.number);
        if let Some(others) = bases.by_namespace.get_mut(&base.identity.namespace) {
            others.remove(&id);
            if others.is_empty() {
                bases.by_namespace.remove(&base.identity.namespace);
            }
        }
        self.state.identities.touch(base.number);
        self.touched.remove(&id);
    }

    /// A pod as it was is there no more; `pod` is judged by what was in force when it was.
    pub(super) fn leave(&mut self, pod: &Pod) {
        for address in pod.addresses() {
            let prefix = IpNet::from(*address);
            let region = self.state.fixed.region(prefix);
            self.set_ipcache(prefix, region);
        }
        let State { bases, in_force, .. } = &mut *self.state;
        if let Some(base) = bases.all.get_mut(&pod.base()) {
            for (key, _) in base.keys(in_force, pod) {
                match base.group_mut(&key) {
                    Some(group) if group.addresses > 1 => group.addresses -= 1,
                    Some(_) | None => {
                        self.touched.insert(pod.base());
                    }
                }
            }
        }
        self.leave_subjects(pod);
    }

    /// An endpoint, where it is the node's, is no subject any more.
    pub(super) fn leave_subjects(&mut self, pod: &Pod) {
        if self.is_own(pod.node()) {
            self.leave_subject(pod);
            self.leave_profile(pod);
        }
    }

    /// Puts pods that are new or others into their groups.
    pub(super) fn settle_groups(&mut self) {
        let snapshot = self.snapshot;
        for key in std::mem::take(&mut self.joining) {
            let Some(pod) = snapshot.pod(&key) else { continue };
            if self.touched.contains(&pod.base()) {
                continue;
            }
            let State { bases, in_force, .. } = &mut *self.state;
            let Some(base) = bases.all.get_mut(&pod.base()) else { continue };
            let keys = base.keys(in_force, pod);
            let mut cached = Vec::new();
            for (key, address) in keys {
                if let Some(group) = base.group_mut(&key) {
                    group.addresses += 1;
                    cached.push((address, group.identity));
                } else {
                    self.touched.insert(pod.base());
                }
            }
            for (address, identity) in cached {
                self.cache_pod(pod, address, identity);
            }
        }
        for id in std::mem::take(&mut self.touched) {
            self.regroup(id);
        }
    }

    /// Works out the groups of a base anew.
    fn regroup(&mut self, id: u32) {
        let snapshot = self.snapshot;
        let State { bases, in_force, .. } = &*self.state;
        let (Some(base), Some(known)) = (bases.all.get(&id), snapshot.bases().get(id)) else { return };
        let mut asked = BTreeMap::new();
        let mut members: BTreeMap<GroupKey, Vec<(&Pod, IpAddr)>> = BTreeMap::new();
        for pod in known.pods.iter().filter_map(|key| snapshot.pod(key)) {
            let own = base.own(in_force, pod);
            let asked =
                asked.entry(own.clone()).or_insert_with(|| in_force.names_asked_of(base.whole.iter().chain(&own)));
            let ports = declared(pod, asked.iter().copied());
            for address in pod.addresses() {
                let blocks = in_force.blocks().of_address(*address, Class::Pod).to_vec();
                let key = GroupKey { own: own.clone(), ports: ports.clone(), blocks };
                members.entry(key).or_default().push((pod, *address));
            }
        }
        let by_own: BTreeMap<Vec<u32>, BTreeSet<NamedPorts>> =
            group(members.keys().map(|key| (key.own.clone(), key.ports.clone())))
                .into_iter()
                .map(|(own, ports)| (own, ports.into_iter().collect()))
                .collect();
        let mut groups = Vec::new();
        for (key, members) in members {
            let texts = key.own.iter().filter_map(|id| self.state.in_force.selector(*id));
            let mut by: Vec<_> = texts.map(|selector| format!("selected as peer by {}", selector.pods)).collect();
            by.sort_unstable();
            by.dedup();
            if by_own.get(&key.own).is_some_and(|ports| ports.len() > 1) {
                by.push(format!("as destination {}", ports_text(&key.ports)));
            }
            let identity = self.refine(id, by, &key.blocks);
            for (pod, address) in &members {
                self.cache_pod(pod, *address, identity);
            }
            groups.push((key, Group { identity, addresses: members.len() }));
        }
        self.put_groups(id, groups.into());
    }

    /// A base has these groups, whose identities are in use already.
    fn put_groups(&mut self, id: u32, groups: Box<[(GroupKey, Group)]>) {
        let Some(base) = self.state.bases.all.get_mut(&id) else { return };
        let atoms: BTreeMap<IdentityId, Atom> =
            groups.iter().map(|(key, group)| (group.identity, key.atom())).collect();
        let own: BTreeSet<u32> = base.groups.iter().chain(&groups).flat_map(|(key, _)| &key.own).copied().collect();
        let before: BTreeSet<IdentityId> = base.groups.iter().map(|(_, group)| group.identity).collect();
        let same_owners = base
            .groups
            .iter()
            .map(|(key, group)| (&key.own, group.identity))
            .eq(groups.iter().map(|(key, group)| (&key.own, group.identity)));
        base.groups = groups;
        let whole: Vec<u32> = base.whole.iter().copied().collect();
        for identity in &before {
            self.state.identities.remove(*identity);
        }
        let mut changed = !same_owners;
        for identity in before.into_iter().filter(|identity| !atoms.contains_key(identity)) {
            changed = true;
            self.set_atom(identity, None);
        }
        for (identity, atom) in atoms {
            changed |= self.state.atoms.get(identity) != Some(&atom);
            self.set_atom(identity, Some(atom));
        }
        if changed {
            self.dirty.selectors.extend(whole.into_iter().chain(own));
        }
    }

    fn cache_pod(&mut self, pod: &Pod, address: IpAddr, identity: IdentityId) {
        let kind = if self.is_own(pod.node()) { IpcacheKind::LocalPod } else { IpcacheKind::RemotePod };
        let node = pod.node().and_then(|name| self.snapshot.node(name));
        let node = node.and_then(|node| node_address(node, Family::of(address)));
        self.set_ipcache(IpNet::from(address), Some(IpcacheEntry { identity, kind, node }));
    }
}

impl GroupKey {
    fn atom(&self) -> Atom {
        Atom { class: Class::Pod, nodes: Vec::new(), blocks: self.blocks.clone(), ports: self.ports.clone() }
    }
}
