//! Indexed facts about a cluster, and the policies in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use ipnet::IpNet;
use strait_api::{Objects, Pod as PodObject, PodPhase};
use strait_base::{IdentityId, Labels, Location, Protocol};

use crate::{
    allocator::Allocator,
    connection::{Direction, Family, PodKey},
    identity::{self, BaseIdentity},
    lower,
    problem::Problem,
    rule::{EndpointSelector, NamespaceSelector, Policy, Rule},
};

/// The label of a namespace that is its name.
pub(crate) const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
const WORKLOAD_ANNOTATION: &str = "strait.dev/workload";

/// What is known of a cluster at one moment. Immutable and cheap to clone.
#[derive(Clone, Debug)]
pub struct Snapshot {
    facts: Arc<Facts>,
}

#[derive(Debug)]
struct Facts {
    namespaces: BTreeMap<Arc<str>, Labels>,
    nodes: BTreeMap<Arc<str>, Node>,
    pods: BTreeMap<PodKey, Pod>,
    owners: BTreeMap<IpAddr, Owner>,
    policies: Vec<Policy>,
    problems: Vec<Problem>,
    bases: Vec<BaseIdentity>,
    profiles: Vec<Profile>,
    base_numbers: OnceLock<Vec<IdentityId>>,
}

/// Who has an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    Pod(PodKey),
    Node(Arc<str>),
}

/// Which policies select a pod: indices into [`Snapshot::policies`], in order.
pub(crate) type Profile = Vec<usize>;

/// A node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Its name.
    pub name: Arc<str>,
    /// Its labels.
    pub labels: Labels,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// Where the addresses of its pods come from.
    pub pod_cidrs: Vec<IpNet>,
}

/// A pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pod {
    /// Its name.
    pub key: PodKey,
    /// The addresses that it alone has; none where it is no endpoint: with `hostNetwork`, finished, or not addressed yet.
    pub addresses: Vec<IpAddr>,
    /// What its containers declare, by port name.
    pub named_ports: BTreeMap<Arc<str>, BTreeSet<(Protocol, u16)>>,
    object: Arc<PodObject>,
    base: usize,
    profile: usize,
}

impl Pod {
    /// Its labels.
    pub fn labels(&self) -> &Labels {
        &self.object.meta.labels
    }

    /// Its service account.
    pub fn service_account(&self) -> &Arc<str> {
        &self.object.spec.service_account_name
    }

    /// The node it runs on.
    pub fn node(&self) -> Option<&Arc<str>> {
        self.object.spec.node_name.as_ref()
    }

    /// Whether it shares its node's network: policies treat it as the node.
    pub fn host_network(&self) -> bool {
        self.object.spec.host_network
    }

    /// Whether it ran to its end: it is nowhere any more.
    pub fn finished(&self) -> bool {
        finished(&self.object)
    }

    /// Whether it has addresses of its own, so that policies can select it.
    pub fn is_endpoint(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// The workload that made it, as `Deployment/web`.
    pub fn workload(&self) -> Option<&str> {
        self.object.meta.annotations.get(WORKLOAD_ANNOTATION).map(|workload| &**workload)
    }

    /// The object it was read from.
    pub fn object(&self) -> &Arc<PodObject> {
        &self.object
    }

    /// Where it is written.
    pub fn location(&self) -> &Location {
        &self.object.meta.location
    }

    /// Its address of this family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| Family::of(*address) == family)
    }

    pub(crate) fn base(&self) -> usize {
        self.base
    }

    pub(crate) fn profile(&self) -> usize {
        self.profile
    }
}

impl Node {
    /// Its first address of this family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| Family::of(*address) == family)
    }
}

impl Snapshot {
    /// Indexes `objects`, in which workloads are already expanded to pods with nodes and addresses.
    pub fn new(objects: &Objects) -> Self {
        let (policies, problems) = lower::lower(objects);
        let namespaces = namespaces(objects);
        let nodes = nodes(objects);
        let mut owners: BTreeMap<_, _> = BTreeMap::new();
        for node in nodes.values() {
            for address in &node.addresses {
                owners.entry(*address).or_insert_with(|| Owner::Node(Arc::clone(&node.name)));
            }
        }
        let (bases, base_of) = bases(objects);
        let mut selection = Selection::new(&policies, &namespaces, &bases);
        let mut pods = BTreeMap::new();
        for (object, base) in objects.pods().zip(base_of) {
            let key = PodKey { namespace: Arc::clone(&object.meta.namespace), name: Arc::clone(&object.meta.name) };
            let mut addresses = Vec::new();
            if !object.spec.host_network && !finished(object) {
                for address in &object.pod_ips {
                    owners.entry(*address).or_insert_with(|| {
                        addresses.push(*address);
                        Owner::Pod(key.clone())
                    });
                }
            }
            let named_ports = named_ports(object);
            let profile = selection.profile(base, &object.meta.labels);
            pods.insert(key.clone(), Pod { key, addresses, named_ports, object: Arc::clone(object), base, profile });
        }
        let profiles = selection.into_profiles();
        let base_numbers = OnceLock::new();
        let facts = Facts { namespaces, nodes, pods, owners, policies, problems, bases, profiles, base_numbers };
        Self { facts: Arc::new(facts) }
    }

    /// All pods, in order of namespace and name.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.facts.pods.values()
    }

    /// The pod of this name.
    pub fn pod(&self, key: &PodKey) -> Option<&Pod> {
        self.facts.pods.get(key)
    }

    /// All nodes, in order of their names.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.facts.nodes.values()
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.facts.nodes.get(name)
    }

    /// All namespaces that are declared or used, with their labels.
    pub fn namespaces(&self) -> impl Iterator<Item = (&Arc<str>, &Labels)> {
        self.facts.namespaces.iter()
    }

    /// The labels of a namespace.
    pub fn namespace(&self, name: &str) -> Option<&Labels> {
        self.facts.namespaces.get(name)
    }

    /// All policies, lowered.
    pub fn policies(&self) -> &[Policy] {
        &self.facts.policies
    }

    /// Parts of policies that are not enforced as they are written, in order.
    pub fn problems(&self) -> &[Problem] {
        &self.facts.problems
    }

    /// The policies that select `pod`; none where it is no endpoint.
    pub fn policies_of<'a>(&'a self, pod: &Pod) -> impl Iterator<Item = &'a Policy> + use<'a> {
        let profile = if pod.is_endpoint() { self.profile(pod.profile) } else { &[] };
        profile.iter().filter_map(|index| self.facts.policies.get(*index))
    }

    /// The rules about `pod` in one direction.
    pub(crate) fn rules_of<'a>(&'a self, pod: &Pod, direction: Direction) -> impl Iterator<Item = &'a Rule> + use<'a> {
        self.policies_of(pod).flat_map(|policy| &policy.rules).filter(move |rule| rule.direction == direction)
    }

    pub(crate) fn profile(&self, index: usize) -> &[usize] {
        self.facts.profiles.get(index).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn bases(&self) -> &[BaseIdentity] {
        &self.facts.bases
    }

    /// The number that `pod`'s base identity has where nothing else was numbered before.
    pub fn identity(&self, pod: &Pod) -> IdentityId {
        let numbers = self.facts.base_numbers.get_or_init(|| {
            let mut allocator = Allocator::default();
            self.facts.bases.iter().map(|base| allocator.workload(base)).collect()
        });
        numbers.get(pod.base).copied().unwrap_or(IdentityId::UNKNOWN)
    }

    pub(crate) fn owner(&self, address: IpAddr) -> Option<&Owner> {
        self.facts.owners.get(&address)
    }

    /// Every address that a pod or node has, in order.
    pub(crate) fn owners(&self) -> impl Iterator<Item = (&IpAddr, &Owner)> {
        self.facts.owners.iter()
    }

    /// The node whose pod addresses include `prefix`; that of the longest prefix where several do.
    pub(crate) fn pod_cidr_over(&self, prefix: IpNet) -> Option<&Node> {
        let matching = self.nodes().flat_map(|node| node.pod_cidrs.iter().map(move |cidr| (cidr, node)));
        matching
            .filter(|(cidr, _)| cidr.contains(&prefix))
            .max_by_key(|(cidr, _)| cidr.prefix_len())
            .map(|(_, node)| node)
    }

    /// Whether `selector` selects `pod`.
    pub(crate) fn selects(&self, selector: &EndpointSelector, pod: &Pod) -> bool {
        let namespace = &pod.key.namespace;
        let none = Labels::default();
        selector.namespaces.matches(namespace, self.namespace(namespace).unwrap_or(&none))
            && selector.pods.matches(pod.labels())
            && selector.matches_account(pod.service_account())
    }
}

/// Declared namespaces and those that objects are in, each with the label that the API server gives it.
fn namespaces(objects: &Objects) -> BTreeMap<Arc<str>, Labels> {
    let declared =
        objects.namespaces().map(|namespace| (Arc::clone(&namespace.meta.name), namespace.meta.labels.clone()));
    let mut all: BTreeMap<_, _> = declared.collect();
    let pods = objects.pods().map(|pod| &pod.meta.namespace);
    let cilium = objects.cilium_policies().map(|policy| &policy.meta.namespace);
    for used in pods.chain(objects.network_policies().map(|policy| &policy.meta.namespace)).chain(cilium) {
        if !used.is_empty() && !all.contains_key(used) {
            all.insert(Arc::clone(used), Labels::default());
        }
    }
    for (name, labels) in &mut all {
        labels.0.entry(NAMESPACE_NAME.into()).or_insert_with(|| Arc::clone(name));
    }
    all
}

fn nodes(objects: &Objects) -> BTreeMap<Arc<str>, Node> {
    let node = |object: &Arc<strait_api::Node>| Node {
        name: Arc::clone(&object.meta.name),
        labels: object.meta.labels.clone(),
        addresses: object.addresses.clone(),
        pod_cidrs: object.pod_cidrs.iter().map(IpNet::trunc).collect(),
    };
    objects.nodes().map(node).map(|node| (Arc::clone(&node.name), node)).collect()
}

fn finished(object: &PodObject) -> bool {
    match object.phase {
        PodPhase::Succeeded | PodPhase::Failed => true,
        PodPhase::Pending | PodPhase::Running | PodPhase::Unknown => false,
    }
}

fn named_ports(object: &PodObject) -> BTreeMap<Arc<str>, BTreeSet<(Protocol, u16)>> {
    let mut named: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for port in object.spec.containers.iter().flat_map(|container| &container.ports) {
        if let Some(name) = &port.name {
            named.entry(Arc::clone(name)).or_default().insert((port.protocol, port.container_port));
        }
    }
    named
}

/// The distinct base identities in order, and for each pod in order the index of its own.
fn bases(objects: &Objects) -> (Vec<BaseIdentity>, Vec<usize>) {
    let base = |pod: &Arc<PodObject>| BaseIdentity {
        namespace: Arc::clone(&pod.meta.namespace),
        service_account: Arc::clone(&pod.spec.service_account_name),
        labels: identity::relevant(&pod.meta.labels),
    };
    let of_pods: Vec<_> = objects.pods().map(base).collect();
    let mut index: BTreeMap<&BaseIdentity, usize> = of_pods.iter().map(|base| (base, 0)).collect();
    for (position, slot) in index.values_mut().enumerate() {
        *slot = position;
    }
    let base_of = of_pods.iter().map(|base| index.get(base).copied().unwrap_or_default()).collect();
    let bases = index.into_keys().cloned().collect();
    (bases, base_of)
}

/// Finds which policies select a pod: once for each base identity, and again for each pod only where a policy asks for labels that
/// are no part of it.
struct Selection<'a> {
    policies: &'a [Policy],
    /// Per base: policies that select all of its pods, and those that have to look at each.
    by_base: Vec<(Vec<usize>, Vec<usize>)>,
    profiles: BTreeMap<Profile, usize>,
}

impl<'a> Selection<'a> {
    fn new(policies: &'a [Policy], namespaces: &BTreeMap<Arc<str>, Labels>, bases: &[BaseIdentity]) -> Self {
        let mut named: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut labelled = Vec::new();
        for (index, policy) in policies.iter().enumerate() {
            match policy.subject.endpoints().map(|selector| &selector.namespaces) {
                Some(NamespaceSelector::Named(name)) => named.entry(name).or_default().push(index),
                Some(NamespaceSelector::Labelled(_)) => labelled.push(index),
                None => {}
            }
        }
        let none = Labels::default();
        let by_base = bases.iter().map(|base| {
            let namespace_labels = namespaces.get(&base.namespace).unwrap_or(&none);
            let mut all = Vec::new();
            let mut each = Vec::new();
            for &index in named.get(&*base.namespace).into_iter().flatten().chain(&labelled) {
                let Some(selector) = policies.get(index).and_then(|policy| policy.subject.endpoints()) else {
                    continue;
                };
                let possible = selector.namespaces.matches(&base.namespace, namespace_labels)
                    && selector.matches_account(&base.service_account);
                if !possible {
                } else if identity::refines(&selector.pods) {
                    each.push(index);
                } else if selector.pods.matches(&base.labels) {
                    all.push(index);
                }
            }
            (all, each)
        });
        Self { policies, by_base: by_base.collect(), profiles: BTreeMap::new() }
    }

    /// The profile of a pod with this base identity and these labels.
    fn profile(&mut self, base: usize, labels: &Labels) -> usize {
        let Some((all, each)) = self.by_base.get(base) else { return 0 };
        let subject = |index: usize| self.policies.get(index).and_then(|policy| policy.subject.endpoints());
        let matches = |index: &&usize| subject(**index).is_some_and(|selector| selector.pods.matches(labels));
        let mut profile: Vec<_> = all.iter().chain(each.iter().filter(matches)).copied().collect();
        profile.sort_unstable();
        let next = self.profiles.len();
        *self.profiles.entry(profile).or_insert(next)
    }

    fn into_profiles(self) -> Vec<Profile> {
        let mut by_index: Vec<_> = self.profiles.into_iter().map(|(profile, index)| (index, profile)).collect();
        by_index.sort_unstable();
        by_index.into_iter().map(|(_, profile)| profile).collect()
    }
}
