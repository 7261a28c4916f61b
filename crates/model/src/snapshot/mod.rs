//! Indexed facts about a cluster, and the policies in it.

mod around;
mod bases;
mod policies;
mod profiles;
mod update;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use ipnet::IpNet;
use strait_api::{Pod as PodObject, PodPhase};
use strait_base::{IdentityId, Labels, Location, Protocol};

pub(crate) use self::bases::Bases;
pub use self::update::Delta;
use self::{policies::Policies, profiles::Profiles};
use crate::{
    allocator::Allocator,
    connection::{Family, PodKey},
    problem::Problem,
    rule::{EndpointSelector, Policy},
};

/// The label of a namespace that is its name.
pub(crate) const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
const WORKLOAD_ANNOTATION: &str = "strait.dev/workload";

/// What is known of a cluster at one moment. Immutable and cheap to clone.
#[derive(Clone, Debug)]
pub struct Snapshot {
    facts: Arc<Facts>,
}

/// Parts that change are changed in place where no other snapshot shares them.
#[derive(Clone, Debug)]
struct Facts {
    namespaces: BTreeMap<Arc<str>, Labels>,
    /// Namespaces that exist only as long as something is in them.
    implied: BTreeSet<Arc<str>>,
    nodes: BTreeMap<Arc<str>, Node>,
    local: LocalNode,
    /// The profile of each node: the host policies that select it.
    hosts: BTreeMap<Arc<str>, u32>,
    pods: BTreeMap<PodKey, Pod>,
    owners: BTreeMap<IpAddr, Owner>,
    /// Pods that list an address that another has.
    passed_over: BTreeMap<IpAddr, BTreeSet<PodKey>>,
    policies: Policies,
    bases: Bases,
    profiles: Profiles,
    base_numbers: OnceLock<BTreeMap<u32, IdentityId>>,
}

/// Who has an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    Pod(PodKey),
    Node(Arc<str>),
}

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

/// What a node knows of itself and no object says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LocalNode {
    /// Which node.
    pub name: Arc<str>,
    /// Addresses that its interfaces have. Those of pods and services, and of other nodes, are not its own all the same.
    pub addresses: Vec<IpAddr>,
}

/// A pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pod {
    /// Its name.
    pub key: PodKey,
    /// What its containers declare, by port name.
    pub named_ports: NamedPorts,
    object: Arc<PodObject>,
    /// The addresses that it alone has, where those are not just what its object lists.
    addresses: Option<Box<[IpAddr]>>,
    base: u32,
    profile: u32,
}

/// Numbers that a pod gives to port names.
pub type NamedPorts = Arc<BTreeMap<Arc<str>, BTreeSet<(Protocol, u16)>>>;

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

    /// The addresses that it alone has; none where it is no endpoint: with `hostNetwork`, finished, or not addressed yet.
    pub fn addresses(&self) -> &[IpAddr] {
        self.addresses.as_deref().unwrap_or(&self.object.pod_ips)
    }

    /// Whether it has addresses of its own, so that policies can select it.
    pub fn is_endpoint(&self) -> bool {
        !self.addresses().is_empty()
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
        self.addresses().iter().copied().find(|address| Family::of(*address) == family)
    }

    /// The number of the base identity that it belongs to.
    pub(crate) fn base(&self) -> u32 {
        self.base
    }

    pub(crate) fn profile(&self) -> u32 {
        self.profile
    }

    /// Whether others see no difference: to them, and apart from the policies that select it, it is the same.
    pub(crate) fn is_same_peer(&self, other: &Self) -> bool {
        self.base == other.base
            && self.addresses() == other.addresses()
            && self.node() == other.node()
            && self.named_ports == other.named_ports
            && (Arc::ptr_eq(&self.object, &other.object) || self.labels() == other.labels())
    }
}

impl Node {
    /// Its first address of this family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| Family::of(*address) == family)
    }
}

impl Snapshot {
    /// What the node that looks knows of itself.
    pub fn local(&self) -> &LocalNode {
        &self.facts.local
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
    pub fn policies(&self) -> &[Arc<Policy>] {
        self.facts.policies.all()
    }

    /// Parts of policies that are not enforced as they are written, in order.
    pub fn problems(&self) -> &[Problem] {
        self.facts.policies.problems()
    }

    /// The policies that select `pod`; none where it is no endpoint.
    pub fn policies_of<'a>(&'a self, pod: &Pod) -> impl Iterator<Item = &'a Policy> + use<'a> {
        let profile = if pod.is_endpoint() { self.profile(pod.profile) } else { &[] };
        profile.iter().filter_map(|index| self.policies().get(*index)).map(|policy| &**policy)
    }

    /// The host policies that select `node`.
    pub fn host_policies_of<'a>(&'a self, node: &Node) -> impl Iterator<Item = &'a Policy> + use<'a> {
        let profile = self.host_profile(&node.name).map_or(&[][..], |id| self.profile(id));
        profile.iter().filter_map(|index| self.policies().get(*index)).map(|policy| &**policy)
    }

    /// The profile of a node, where it has policies.
    pub(crate) fn host_profile(&self, node: &str) -> Option<u32> {
        self.facts.hosts.get(node).copied().filter(|id| !self.profile(*id).is_empty())
    }

    /// Indices into [`policies`](Self::policies), in order: which of them select the pods, or nodes, of this profile.
    pub(crate) fn profile(&self, id: u32) -> &[usize] {
        self.facts.profiles.get(id)
    }

    /// The policies of a profile, each with a number that no other policy gets.
    pub(crate) fn profile_policies(&self, id: u32) -> impl Iterator<Item = (u32, &Arc<Policy>)> {
        self.profile(id).iter().filter_map(|at| self.facts.policies.get(*at))
    }

    pub(crate) fn bases(&self) -> &Bases {
        &self.facts.bases
    }

    /// The number that `pod`'s base identity has where nothing else was numbered before.
    pub fn identity(&self, pod: &Pod) -> IdentityId {
        let numbers = self.facts.base_numbers.get_or_init(|| {
            let mut allocator = Allocator::default();
            self.facts.bases.in_order().map(|(id, base)| (id, allocator.workload(&base.identity))).collect()
        });
        numbers.get(&pod.base).copied().unwrap_or(IdentityId::UNKNOWN)
    }

    /// The pod that has this address of its own.
    pub fn pod_at(&self, address: IpAddr) -> Option<&PodKey> {
        match self.owner(address)? {
            Owner::Pod(pod) => Some(pod),
            Owner::Node(_) => None,
        }
    }

    pub(crate) fn owner(&self, address: IpAddr) -> Option<&Owner> {
        self.facts.owners.get(&address)
    }

    /// The addresses in `block` that a pod or node has, in order.
    pub(crate) fn owners_in(&self, block: IpNet) -> impl Iterator<Item = (&IpAddr, &Owner)> {
        self.facts.owners.range(block.network()..=block.broadcast())
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

fn finished(object: &PodObject) -> bool {
    match object.phase {
        PodPhase::Succeeded | PodPhase::Failed => true,
        PodPhase::Pending | PodPhase::Running | PodPhase::Unknown => false,
    }
}

fn named_ports(object: &PodObject) -> NamedPorts {
    let mut named: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for port in object.spec.containers.iter().flat_map(|container| &container.ports) {
        if let Some(name) = &port.name {
            named.entry(Arc::clone(name)).or_default().insert((port.protocol, port.container_port));
        }
    }
    named.into()
}
