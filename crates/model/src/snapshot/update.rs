//! Building a snapshot, and bringing it up to date object by object: both by the same steps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use strait_api::{Kind, Object, ObjectKey, Objects, Pod as PodObject};
use strait_base::Labels;

use super::{
    Facts, LocalNode, NAMESPACE_NAME, Node, Owner, Pod, Snapshot, finished, named_ports,
    policies::{Moves, Selects, selects},
};
use crate::{connection::PodKey, identity::BaseIdentity};

/// When so many numbers were given out, a snapshot is built anew.
const NUMBERS: u32 = 1 << 31;

/// How a snapshot differs from the one before it.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// More differs than what is listed.
    pub(crate) everything: bool,
    /// Pods that differ, as they were.
    pub(crate) pods: BTreeMap<PodKey, Option<Pod>>,
    /// Nodes that other host policies select.
    pub(crate) hosts: BTreeSet<Arc<str>>,
    /// Namespaces that are new or have other labels.
    pub(crate) namespaces: BTreeSet<Arc<str>>,
    /// Nodes that differ, as they were.
    pub(crate) nodes: BTreeMap<Arc<str>, Option<Node>>,
}

impl Delta {
    /// Whether nothing that connections are judged by differs.
    pub fn is_empty(&self) -> bool {
        let Self { everything, pods, hosts, namespaces, nodes } = self;
        !everything && pods.is_empty() && hosts.is_empty() && namespaces.is_empty() && nodes.is_empty()
    }

    /// Whether all may differ.
    pub const fn is_everything(&self) -> bool {
        self.everything
    }

    fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }
}

impl Snapshot {
    /// Indexes `objects`, in which workloads are already expanded to pods with nodes and addresses.
    pub fn new(objects: &Objects) -> Self {
        Self::seen_from(objects, LocalNode::default())
    }

    /// As [`new`](Self::new), by a node that knows more of itself than objects say.
    pub fn seen_from(objects: &Objects, local: LocalNode) -> Self {
        Self { facts: Arc::new(Facts::new(objects, local)) }
    }

    /// As [`update`](Self::update), where what the node knows of itself may be other than before.
    pub fn update_from(&mut self, objects: &Objects, keys: &[ObjectKey], local: &LocalNode) -> Delta {
        if self.facts.local == *local {
            return self.update(objects, keys);
        }
        *self = Self::seen_from(objects, local.clone());
        Delta::everything()
    }

    /// Brings the snapshot up to date with `objects`, which differ from those it was made of in no other objects than `keys`. What it
    /// is afterwards, [`Snapshot::new`] makes of `objects`. Costs what the change touches where this is the only owner of the snapshot.
    pub fn update(&mut self, objects: &Objects, keys: &[ObjectKey]) -> Delta {
        if !self.facts.can_follow() {
            *self = Self::seen_from(objects, self.facts.local.clone());
            return Delta::everything();
        }
        let mut delta = Delta::default();
        let facts = Arc::make_mut(&mut self.facts);
        facts.base_numbers.take();
        facts.put_namespaces(objects, keys, &mut delta);
        if let Some(moves) = facts.policies.update(objects, keys) {
            facts.select_anew(&moves, &mut delta);
        }
        facts.select_in_namespaces(&mut delta);
        facts.put_nodes(objects, keys, &mut delta);
        for key in keys.iter().filter(|key| key.kind == Kind::Pod) {
            let object = match objects.get(key) {
                Some(Object::Pod(pod)) => Some(pod),
                _ => None,
            };
            facts.put_pod(
                &PodKey { namespace: Arc::clone(&key.namespace), name: Arc::clone(&key.name) },
                object,
                &mut delta,
            );
        }
        facts.forget_emptied(keys);
        delta
    }
}

impl Facts {
    fn new(objects: &Objects, local: LocalNode) -> Self {
        let (namespaces, implied) = namespaces(objects);
        let mut nodes: BTreeMap<_, _> =
            objects.nodes().map(|object| (Arc::clone(&object.meta.name), Node::of(object))).collect();
        if let Some(node) = nodes.get_mut(&local.name) {
            node.addresses.extend(unclaimed(objects, &local));
        }
        let (owners, passed_over) = owners(&nodes, objects);
        let mut facts = Self {
            namespaces,
            implied,
            nodes,
            local,
            hosts: BTreeMap::new(),
            pods: BTreeMap::new(),
            owners,
            passed_over,
            policies: super::Policies::default(),
            bases: super::Bases::default(),
            profiles: super::Profiles::default(),
            base_numbers: std::sync::OnceLock::new(),
        };
        let keys: Vec<_> = objects.iter().filter(|object| object.kind() != Kind::Pod).map(Object::key).collect();
        facts.policies.update(objects, &keys);
        facts.select_hosts(&mut Delta::default());
        // What replicas declare, by their bases.
        let mut declared: BTreeMap<u32, super::NamedPorts> = BTreeMap::new();
        let pods: Vec<_> = objects
            .pods()
            .map(|object| {
                let pod = facts.pod(key_of(object), object, |_, base| {
                    let named = named_ports(object);
                    match declared.get(&base) {
                        Some(known) if *known == named => Arc::clone(known),
                        _ => {
                            declared.insert(base, Arc::clone(&named));
                            named
                        }
                    }
                });
                (pod.key.clone(), pod)
            })
            .collect();
        // Made at once, a map is full; one that grows in order of its keys is half empty.
        facts.pods = pods.into_iter().collect();
        facts
    }

    /// Whether there are numbers left for the steps of an update.
    fn can_follow(&self) -> bool {
        [self.policies.given(), self.bases.given(), self.profiles.given()].iter().all(|given| *given < NUMBERS)
    }

    /// Policies are others: finds which pods they select.
    fn select_anew(&mut self, moves: &Moves, delta: &mut Delta) {
        let now_at = |at: usize| moves.to.get(at).copied().flatten();
        self.profiles.renumber(now_at);
        self.select_hosts(delta);
        let none = Labels::default();
        let mut touched = Vec::new();
        for (id, base) in self.bases.values_mut() {
            let before = base.all.len() + base.each.len();
            for list in [&mut base.all, &mut base.each] {
                *list = list.iter().filter_map(|at| now_at(*at)).collect();
            }
            let mut concerned = base.all.len() + base.each.len() < before;
            let labels = self.namespaces.get(&base.identity.namespace).unwrap_or(&none);
            for at in &moves.new {
                let policy = self.policies.get(*at).map(|(_, policy)| policy);
                match policy.and_then(|policy| selects(policy, &base.identity, labels)) {
                    Some(Selects::All) => base.all.push(*at),
                    Some(Selects::Some) => base.each.push(*at),
                    None => continue,
                }
                concerned = true;
            }
            if concerned {
                base.all.sort_unstable();
                base.each.sort_unstable();
                touched.push(id);
            }
        }
        self.select_for_pods(&touched, delta);
    }

    /// Gives the pods of these bases, which other policies may select, their profiles.
    pub(super) fn select_for_pods(&mut self, bases: &[u32], delta: &mut Delta) {
        for id in bases.iter().copied() {
            let pods = self.bases.get(id).map(|base| base.pods.clone()).unwrap_or_default();
            for key in pods {
                let Some(pod) = self.pods.get(&key) else { continue };
                let (old, before) = (pod.profile, pod.clone());
                let profile = self.profile(id, &before.object.meta.labels);
                let new = self.profiles.take(profile);
                self.profiles.give_back(old);
                if new != old {
                    delta.pods.entry(key.clone()).or_insert(Some(before));
                    if let Some(pod) = self.pods.get_mut(&key) {
                        pod.profile = new;
                    }
                }
            }
        }
    }

    /// Finds which host policies select which node.
    fn select_hosts(&mut self, delta: &mut Delta) {
        for node in self.nodes.values() {
            let new = self.profiles.take(self.policies.selecting_node(&node.labels));
            let old = self.hosts.insert(Arc::clone(&node.name), new);
            if let Some(old) = old {
                self.profiles.give_back(old);
            }
            if old != Some(new) {
                delta.hosts.insert(Arc::clone(&node.name));
            }
        }
    }

    /// The policies that select a pod with this base identity and these labels.
    fn profile(&self, base: u32, labels: &Labels) -> Vec<usize> {
        let Some(base) = self.bases.get(base) else { return Vec::new() };
        let matches = |at: &&usize| {
            let policy = self.policies.get(**at).and_then(|(_, policy)| policy.subject.endpoints());
            policy.is_some_and(|selector| selector.pods.matches(labels))
        };
        let mut profile: Vec<_> = base.all.iter().chain(base.each.iter().filter(matches)).copied().collect();
        profile.sort_unstable();
        profile
    }

    /// A pod is there, is another now, or is gone.
    fn put_pod(&mut self, key: &PodKey, object: Option<&Arc<PodObject>>, delta: &mut Delta) {
        let old = self.pods.get(key).cloned();
        delta.pods.entry(key.clone()).or_insert_with(|| old.clone());
        let old_claims = old.as_ref().map(|pod| claims(&pod.object)).unwrap_or_default();
        let new_claims = object.map(|object| claims(object)).unwrap_or_default();
        for address in old_claims.iter().filter(|address| !new_claims.contains(address)) {
            self.release(*address, key, delta);
        }
        for address in new_claims {
            self.claim(*address, key, delta);
        }
        if let Some(object) = object {
            let pod = self.pod(key.clone(), object, |facts, base| facts.named_ports(base, object));
            self.pods.insert(key.clone(), pod);
        } else {
            self.pods.remove(key);
        }
        if let Some(old) = old {
            self.profiles.give_back(old.profile);
            if self.pods.get(key).is_none_or(|pod| pod.base != old.base) {
                self.bases.remove(old.base, key);
            }
        }
    }

    /// The pod of an object whose claims are known.
    fn pod(
        &mut self,
        key: PodKey,
        object: &Arc<PodObject>,
        named_ports: impl FnOnce(&Self, u32) -> super::NamedPorts,
    ) -> Pod {
        let (policies, namespaces) = (&self.policies, &self.namespaces);
        let none = Labels::default();
        let selecting =
            |base: &BaseIdentity| policies.selecting(base, namespaces.get(&base.namespace).unwrap_or(&none));
        let base = self.bases.add(&key, object, selecting);
        let profile = self.profile(base, &object.meta.labels);
        Pod {
            addresses: self.addresses(&key, claims(object), object),
            named_ports: named_ports(self, base),
            object: Arc::clone(object),
            base,
            profile: self.profiles.take(profile),
            key,
        }
    }

    /// Shared by replicas that declare the same.
    fn named_ports(&self, base: u32, object: &PodObject) -> super::NamedPorts {
        let named = named_ports(object);
        let siblings = self.bases.get(base).into_iter().flat_map(|base| &base.pods);
        let mut known = siblings.take(2).filter_map(|key| self.pods.get(key)).map(|pod| &pod.named_ports);
        known.find(|known| **known == named).map_or(named, Arc::clone)
    }

    /// Those of `claims` that the pod has, each once, where they are not just what `object` lists.
    fn addresses(&self, key: &PodKey, claims: &[IpAddr], object: &PodObject) -> Option<Box<[IpAddr]>> {
        let mut addresses = Vec::with_capacity(claims.len());
        for address in claims {
            let own = matches!(self.owners.get(address), Some(Owner::Pod(owner)) if owner == key);
            if own && !addresses.contains(address) {
                addresses.push(*address);
            }
        }
        (addresses != object.pod_ips).then(|| addresses.into())
    }

    /// Of those who claim an address a node has it, else the pod that is first.
    fn claim(&mut self, address: IpAddr, key: &PodKey, delta: &mut Delta) {
        let passed_over = match self.owners.get(&address) {
            None => None,
            Some(Owner::Pod(owner)) if owner == key => return,
            Some(Owner::Pod(owner)) if owner > key => Some(owner.clone()),
            Some(Owner::Pod(_) | Owner::Node(_)) => {
                self.passed_over.entry(address).or_default().insert(key.clone());
                return;
            }
        };
        self.owners.insert(address, Owner::Pod(key.clone()));
        if let Some(other) = passed_over {
            self.passed_over.entry(address).or_default().insert(other.clone());
            self.readdress(&other, delta);
        }
    }

    fn release(&mut self, address: IpAddr, key: &PodKey, delta: &mut Delta) {
        if !matches!(self.owners.get(&address), Some(Owner::Pod(owner)) if owner == key) {
            if let Some(waiting) = self.passed_over.get_mut(&address) {
                waiting.remove(key);
                if waiting.is_empty() {
                    self.passed_over.remove(&address);
                }
            }
            return;
        }
        self.pass_on(address, delta);
    }

    /// Who had the address has it no more: the first pod that lists it gets it.
    pub(super) fn pass_on(&mut self, address: IpAddr, delta: &mut Delta) {
        let next = self.passed_over.get_mut(&address).and_then(BTreeSet::pop_first);
        if self.passed_over.get(&address).is_some_and(BTreeSet::is_empty) {
            self.passed_over.remove(&address);
        }
        match next {
            None => {
                self.owners.remove(&address);
            }
            Some(next) => {
                self.owners.insert(address, Owner::Pod(next.clone()));
                self.readdress(&next, delta);
            }
        }
    }

    /// Another pod has taken an address of this one, or left it one.
    pub(super) fn readdress(&mut self, key: &PodKey, delta: &mut Delta) {
        let Some(pod) = self.pods.get(key) else { return };
        delta.pods.entry(key.clone()).or_insert_with(|| Some(pod.clone()));
        let addresses = self.addresses(key, &pod.object.pod_ips, &pod.object);
        if let Some(pod) = self.pods.get_mut(key) {
            pod.addresses = addresses;
        }
    }
}

impl Node {
    pub(super) fn of(object: &strait_api::Node) -> Self {
        Self {
            name: Arc::clone(&object.meta.name),
            labels: object.meta.labels.clone(),
            addresses: object.addresses.clone(),
            pod_cidrs: object.pod_cidrs.iter().map(IpNet::trunc).collect(),
        }
    }
}

/// Addresses of the local node's interfaces that no object gives to anybody.
pub(super) fn unclaimed(objects: &Objects, local: &LocalNode) -> Vec<IpAddr> {
    if local.addresses.is_empty() {
        return Vec::new();
    }
    let of_pods = objects.pods().filter(|pod| !pod.spec.host_network).flat_map(|pod| &pod.pod_ips);
    let of_nodes = objects.nodes().flat_map(|node| &node.addresses);
    let of_services = objects.services().flat_map(|service| &service.cluster_ips);
    let claimed: BTreeSet<_> =
        of_pods.chain(of_nodes).chain(of_services).filter(|address| local.addresses.contains(address)).collect();
    local.addresses.iter().filter(|address| !claimed.contains(address)).copied().collect()
}

/// The addresses that a pod claims for itself.
fn claims(object: &PodObject) -> &[IpAddr] {
    if object.spec.host_network || finished(object) { &[] } else { &object.pod_ips }
}

/// Who has each address, and which pods claim it besides. Nodes come before pods, each in order of their names.
fn owners(
    nodes: &BTreeMap<Arc<str>, Node>,
    objects: &Objects,
) -> (BTreeMap<IpAddr, Owner>, BTreeMap<IpAddr, BTreeSet<PodKey>>) {
    let of_nodes = nodes.values().flat_map(|node| node.addresses.iter().map(move |address| (address, node)));
    let of_nodes = of_nodes.map(|(address, node)| (*address, Owner::Node(Arc::clone(&node.name))));
    let of_pods = objects.pods().flat_map(|object| claims(object).iter().map(move |address| (address, object)));
    let of_pods = of_pods.map(|(address, object)| (*address, Owner::Pod(key_of(object))));
    let mut owners: Vec<_> = of_nodes.chain(of_pods).collect();
    owners.sort_by_key(|(address, _)| *address);
    let mut passed_over: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    owners.dedup_by(|(later, other), (address, owner)| {
        let same = later == address;
        if let Owner::Pod(other) = other
            && same
            && !matches!(owner, Owner::Pod(owner) if owner == other)
        {
            passed_over.entry(*address).or_default().insert(other.clone());
        }
        same
    });
    (owners.into_iter().collect(), passed_over)
}

fn key_of(object: &PodObject) -> PodKey {
    PodKey { namespace: Arc::clone(&object.meta.namespace), name: Arc::clone(&object.meta.name) }
}

/// Whether a namespace is one because such an object is in it.
pub(super) fn implies_namespace(kind: Kind) -> bool {
    matches!(kind, Kind::Pod | Kind::NetworkPolicy | Kind::CiliumNetworkPolicy | Kind::CiliumClusterwideNetworkPolicy)
}

/// Declared namespaces and those that objects are in, each with the label that the API server gives it; and which of them are not declared.
fn namespaces(objects: &Objects) -> (BTreeMap<Arc<str>, Labels>, BTreeSet<Arc<str>>) {
    let mut all: BTreeMap<Arc<str>, Labels> = BTreeMap::new();
    for namespace in objects.namespaces() {
        let name = &namespace.meta.name;
        all.insert(Arc::clone(name), with_name(namespace.meta.labels.clone(), name));
    }
    let mut implied = BTreeSet::new();
    let pods = objects.pods().map(|pod| &pod.meta.namespace);
    let cilium = objects.cilium_policies().map(|policy| &policy.meta.namespace);
    for used in pods.chain(objects.network_policies().map(|policy| &policy.meta.namespace)).chain(cilium) {
        if !used.is_empty() && !all.contains_key(used) {
            all.insert(Arc::clone(used), with_name(Labels::default(), used));
            implied.insert(Arc::clone(used));
        }
    }
    (all, implied)
}

pub(super) fn with_name(mut labels: Labels, name: &Arc<str>) -> Labels {
    labels.0.entry(NAMESPACE_NAME.into()).or_insert_with(|| Arc::clone(name));
    labels
}
