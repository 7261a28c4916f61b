//! From a snapshot to what one node enforces.
//!
//! ```text
//! local endpoints → profiles → rules in force ─┬→ selectors, blocks, port names they tell peers apart by
//!                                              │       ↓
//! all addresses → bases → groups ──────────────┼→ atoms: peers that no rule in force tells apart → ipcache
//!                                              └→ rows: (subjects, direction) × atoms → port sets → policy
//! ```
//!
//! Work is done once for each class: a thousand replicas cost what one costs, but for their ipcache entries.
//!
//! A change takes the same steps. What it touches at one of them (a profile, a base, an atom, a row) is worked out anew, what it does not
//! touch stays: a pod of a group that is known is an entry of the ipcache; a policy is the rows of the profiles that it is in.

mod around;
mod atoms;
mod fixed;
mod groups;
mod in_force;
mod profiles;
mod rows;
mod subjects;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use strait_base::{IdentityId, Labels};

use self::{
    atoms::{Atoms, Dirty},
    fixed::Fixed,
    groups::Bases,
    in_force::InForce,
    profiles::Profiles,
    rows::Rows,
    subjects::Subjects,
    table::Users,
};
use crate::{
    allocator::{Allocator, AllocatorState},
    blocks::BlockSet,
    connection::{Family, PodKey},
    identity::BaseIdentity,
    plan::{IdentityInfo, IpcacheEntry, NodePlan, OriginId, PolicyEntry, PolicyKey, PortSetId},
    rule::Origin,
    snapshot::{Delta, Node, Pod, Snapshot},
};

/// When so many numbers were given out, a plan is compiled from nothing.
const NUMBERS: u32 = 1 << 31;

/// Compiles snapshots for one node, and remembers the numbers it gave: as long as it lives, and through
/// [`AllocatorState`] beyond, the same content has the same number.
#[derive(Debug)]
pub struct Compiler {
    allocator: Allocator,
    state: State,
}

/// Which entries of a plan a change wrote or took out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PlanDelta {
    /// More than what is listed.
    pub everything: bool,
    /// Of [`NodePlan::ipcache`].
    pub ipcache: BTreeSet<IpNet>,
    /// Of [`NodePlan::endpoints`].
    pub endpoints: BTreeSet<PodKey>,
    /// Of [`NodePlan::policy`].
    pub policy: BTreeSet<PolicyKey>,
    /// Of [`NodePlan::port_sets`].
    pub port_sets: BTreeSet<PortSetId>,
    /// Of [`NodePlan::identities`].
    pub identities: BTreeSet<IdentityId>,
    /// Of [`NodePlan::origins`], as they were; empty where they were not there.
    pub origins: BTreeMap<OriginId, Vec<Origin>>,
}

impl PlanDelta {
    /// Whether the plan is as it was.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Compiler {
    /// Goes on from `seed`; a default one starts anew. What a seed cannot have given is ignored.
    pub fn new(seed: AllocatorState) -> Self {
        Self { allocator: Allocator::new(seed), state: State::default() }
    }

    /// Every number given so far that is still remembered.
    pub fn state(&self) -> AllocatorState {
        self.allocator.state()
    }

    /// Counts up with every number that is given or forgotten: as long as it stays, so does what is worth keeping of [`Self::state`].
    pub fn numbers_given(&self) -> u64 {
        self.allocator.edits()
    }

    /// What `node` enforces. A node that the snapshot does not know has no endpoints and no host entries.
    pub fn compile(&mut self, snapshot: &Snapshot, node: &str) -> NodePlan {
        self.allocator.begin();
        self.state = State { node: Some(node.into()), ..State::default() };
        let mut plan = NodePlan::default();
        let mut update = Update::new(self, snapshot, &mut plan);
        update.start();
        update.settle();
        let entries = update.fresh.take().unwrap_or_default();
        plan.ipcache = entries.into_iter().filter_map(|(prefix, entry)| Some((prefix, entry?))).collect();
        self.allocator.finish();
        plan
    }

    /// Makes of `plan`, which this compiler made for `node` last, what `node` enforces after `delta` has led to `snapshot`: what
    /// [`compile`](Self::compile) makes of it. Costs what the change touches.
    pub fn advance(&mut self, snapshot: &Snapshot, delta: &Delta, node: &str, plan: &mut NodePlan) -> PlanDelta {
        if delta.everything || self.state.node.as_deref() != Some(node) || self.state.given() >= NUMBERS {
            *plan = self.compile(snapshot, node);
            return PlanDelta { everything: true, ..PlanDelta::default() };
        }
        self.allocator.go_on();
        let mut update = Update::new(self, snapshot, plan);
        update.take(delta);
        update.settle();
        let delta = update.delta;
        self.allocator.finish();
        delta
    }
}

/// What is known of the last compilation, by the steps that made it.
#[derive(Debug, Default)]
struct State {
    node: Option<Arc<str>>,
    profiles: Profiles,
    /// The profile of the node itself, where host policies select it.
    host: Option<u32>,
    in_force: InForce,
    bases: Bases,
    atoms: Atoms,
    fixed: Fixed,
    subjects: Subjects,
    rows: Rows,
    /// Who refers to identities, port sets and origins of the plan.
    identities: Users<IdentityId>,
    port_sets: Users<PortSetId>,
    origins: Users<OriginId>,
}

impl State {
    fn given(&self) -> u32 {
        self.in_force.given()
    }
}

/// A compilation in progress.
struct Update<'a> {
    snapshot: &'a Snapshot,
    allocator: &'a mut Allocator,
    state: &'a mut State,
    plan: &'a mut NodePlan,
    delta: PlanDelta,
    /// The ipcache of a plan that is made from nothing, the last entry of a prefix counts. Made at once of these its map is full; one that
    /// grows in order of its keys is half empty, and 100,000 entries are most of what an agent holds.
    fresh: Option<Vec<(IpNet, Option<IpcacheEntry>)>>,
    /// Pods that are new or others now.
    joining: Vec<PodKey>,
    /// Those of them that are the node's.
    joining_subjects: Vec<PodKey>,
    /// The profile that the node itself had.
    host_before: Option<u32>,
    /// What is to be worked out anew: bases; subjects by base and profile; rows that name certain atoms.
    touched: BTreeSet<u32>,
    touched_subjects: BTreeSet<(u32, u32)>,
    dirty: Dirty,
    /// Whether blocks, or selectors of nodes, in force are others.
    lists_changed: bool,
    nodes_changed: bool,
    /// Nodes behind which pods are under other addresses now.
    moved_nodes: BTreeSet<Arc<str>>,
}

impl<'a> Update<'a> {
    fn new(compiler: &'a mut Compiler, snapshot: &'a Snapshot, plan: &'a mut NodePlan) -> Self {
        let Compiler { allocator, state } = compiler;
        let host_before = state.host;
        Self {
            snapshot,
            allocator,
            state,
            plan,
            delta: PlanDelta::default(),
            fresh: None,
            joining: Vec::new(),
            joining_subjects: Vec::new(),
            host_before,
            touched: BTreeSet::new(),
            touched_subjects: BTreeSet::new(),
            dirty: Dirty::default(),
            lists_changed: false,
            nodes_changed: false,
            moved_nodes: BTreeSet::new(),
        }
    }

    /// Everything is new.
    fn start(&mut self) {
        self.fresh = Some(Vec::new());
        for (id, _) in self.snapshot.bases().in_order() {
            self.add_base(id);
        }
        for pod in self.snapshot.pods().filter(|pod| pod.is_endpoint()) {
            self.join_profile(pod);
        }
        self.join_host();
        (self.lists_changed, self.nodes_changed) = (true, true);
    }

    /// Pods, and what they are in and on, are others.
    fn take(&mut self, delta: &Delta) {
        let snapshot = self.snapshot;
        let pods = || delta.pods.iter().map(|(key, old)| (old.as_ref(), snapshot.pod(key)));
        let same_peer =
            |(old, new): &(Option<&Pod>, Option<&Pod>)| old.zip(*new).is_some_and(|(a, b)| a.is_same_peer(b));
        for (old, _) in pods().filter(|pods| !same_peer(pods)) {
            old.filter(|pod| pod.is_endpoint()).into_iter().for_each(|pod| self.leave(pod));
        }
        self.settle_namespaces(&delta.namespaces);
        self.take_nodes(&delta.nodes);
        for (old, new) in pods().filter(|pods| !same_peer(pods)) {
            for base in old.into_iter().chain(new).map(Pod::base) {
                self.settle_base(base);
            }
            if let Some(pod) = new.filter(|pod| pod.is_endpoint()) {
                self.joining.push(pod.key.clone());
                self.join_profile(pod);
            }
        }
        // Others are selected by other policies at most.
        for (old, new) in pods().filter(same_peer) {
            if let (Some(old), Some(new)) = (old, new)
                && old.is_endpoint()
                && old.profile() != new.profile()
            {
                self.leave_subjects(old);
                self.join_profile(new);
            }
        }
        self.join_host();
    }

    fn settle(&mut self) {
        self.settle_profiles();
        self.settle_blocks();
        self.settle_groups();
        self.settle_nodes();
        if self.lists_changed || self.nodes_changed {
            self.settle_fixed();
        }
        let links = self.settle_subjects();
        self.settle_rows(links);
        self.sweep();
    }

    /// Forgets what nothing refers to any more.
    fn sweep(&mut self) {
        let port_sets = self.state.port_sets.sweep();
        for id in port_sets {
            let origins = self.state.rows.origins.remove(&id).unwrap_or_default();
            for origin in origins {
                self.state.origins.remove(origin);
            }
            self.plan.port_sets.remove(&id);
            self.allocator.release_port_set(id);
            self.delta.port_sets.insert(id);
        }
        for id in self.state.origins.sweep() {
            if let Some(origins) = self.plan.origins.remove(&id) {
                self.delta.origins.entry(id).or_insert(origins);
            }
            self.allocator.release_origins(id);
        }
        for id in self.state.identities.sweep() {
            self.plan.identities.remove(&id);
            self.delta.identities.insert(id);
            if !self.state.bases.is_number(id) {
                self.allocator.release_identity(id);
            }
        }
    }

    /// Whether `node` is the one compiled for.
    fn is_own(&self, node: Option<&Arc<str>>) -> bool {
        node.is_some() && self.state.node.as_ref() == node
    }

    fn set_ipcache(&mut self, prefix: IpNet, entry: Option<IpcacheEntry>) {
        if let Some(fresh) = &mut self.fresh {
            fresh.push((prefix, entry));
            return;
        }
        let changed = match entry {
            Some(entry) => self.plan.ipcache.insert(prefix, entry) != Some(entry),
            None => self.plan.ipcache.remove(&prefix).is_some(),
        };
        if changed {
            self.delta.ipcache.insert(prefix);
        }
    }

    fn set_policy(&mut self, key: PolicyKey, entry: Option<PolicyEntry>) {
        let changed = match entry {
            Some(entry) => self.plan.policy.insert(key, entry) != Some(entry),
            None => self.plan.policy.remove(&key).is_some(),
        };
        if changed {
            self.delta.policy.insert(key);
        }
    }

    /// Something of the plan is `identity`, from now on until [`Users::remove`].
    fn use_identity(&mut self, identity: IdentityId, info: impl FnOnce(&Self) -> IdentityInfo) {
        self.state.identities.add(identity);
        if !self.plan.identities.contains_key(&identity) {
            let info = info(self);
            self.plan.identities.insert(identity, info);
            self.delta.identities.insert(identity);
        }
    }

    /// The labels of a workload, as Cilium writes them.
    fn labels_of(&self, base: &BaseIdentity) -> Vec<Arc<str>> {
        let pods = base.labels.iter().map(|(key, value)| format!("k8s:{key}={value}"));
        let namespace = self.snapshot.namespace(&base.namespace).into_iter().flat_map(Labels::iter);
        let namespace = namespace.map(|(key, value)| format!("k8s:io.cilium.k8s.namespace.labels.{key}={value}"));
        let implied = [
            format!("k8s:io.cilium.k8s.policy.serviceaccount={}", base.service_account),
            format!("k8s:io.kubernetes.pod.namespace={}", base.namespace),
        ];
        let mut labels: Vec<Arc<str>> = pods.chain(namespace).chain(implied).map(Arc::from).collect();
        labels.sort_unstable();
        labels
    }

    fn describe_workload(&self, base: &BaseIdentity, refinement: Refinement) -> IdentityInfo {
        IdentityInfo {
            labels: self.labels_of(base),
            reserved: None,
            namespace: Some(Arc::clone(&base.namespace)),
            service_account: Some(Arc::clone(&base.service_account)),
            pod_labels: base.labels.clone(),
            cidrs: refinement.cidrs,
            refined_from: refinement.from,
            refined_by: refinement.by,
        }
    }

    /// The identity of those of a base identity that something sets apart; the base's own number where nothing does.
    fn refine(&mut self, base: u32, by: Vec<String>, blocks: &BlockSet) -> IdentityId {
        let Some((base, number)) = self.state.bases.number(base) else { return IdentityId::UNKNOWN };
        let base = Arc::clone(base);
        if by.is_empty() && blocks.is_empty() {
            self.use_identity(number, |update| update.describe_workload(&base, Refinement::default()));
            return number;
        }
        let content = format!("{base};{};{}", by.join("&"), self.state.in_force.content(blocks));
        let identity = self.allocator.refined_workload(&content);
        let cidrs = self.state.in_force.texts(blocks);
        let refinement = Refinement { from: Some(number), by, cidrs };
        self.use_identity(identity, |update| update.describe_workload(&base, refinement));
        identity
    }
}

/// What sets a refined identity apart.
#[derive(Default)]
struct Refinement {
    from: Option<IdentityId>,
    by: Vec<String>,
    cidrs: Vec<String>,
}

/// An address of `node`, of this family where it has one.
fn node_address(node: &Node, family: Family) -> Option<IpAddr> {
    node.address(family).or_else(|| node.addresses.first().copied())
}

/// Groups items by key, in order of both.
fn group<K: Ord, V>(items: impl Iterator<Item = (K, V)>) -> BTreeMap<K, Vec<V>> {
    let mut groups: BTreeMap<K, Vec<V>> = BTreeMap::new();
    for (key, value) in items {
        groups.entry(key).or_default().push(value);
    }
    groups
}
