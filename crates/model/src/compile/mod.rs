//! From a snapshot to what one node enforces.
//!
//! ```text
//! local endpoints → policies that select them → rules in force ─┬→ selectors, blocks, port names they tell peers apart by
//!                                                               │       ↓
//! all addresses ────────────────────────────────────────────────┼→ atoms: peers that no rule in force tells apart → ipcache
//!                                                               └→ rows: (subjects, direction) × atoms → port sets → policy
//! ```
//!
//! Work is done once for each class: a thousand replicas cost what one costs, but for their ipcache entries.

mod atoms;
mod in_force;
mod rows;
mod subjects;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use strait_base::{IdentityId, Labels};

use crate::{
    allocator::{Allocator, AllocatorState},
    connection::Family,
    identity::BaseIdentity,
    plan::{IdentityInfo, NodePlan},
    snapshot::{Node, Snapshot},
};

/// Compiles snapshots for one node, and remembers the numbers it gave: as long as it lives, and through
/// [`AllocatorState`] beyond, the same content has the same number.
#[derive(Debug)]
pub struct Compiler {
    allocator: Allocator,
}

impl Compiler {
    /// Goes on from `seed`; a default one starts anew. What a seed cannot have given is ignored.
    pub fn new(seed: AllocatorState) -> Self {
        Self { allocator: Allocator::new(seed) }
    }

    /// Every number given so far that is still remembered.
    pub fn state(&self) -> AllocatorState {
        self.allocator.state()
    }

    /// What `node` enforces. A node that the snapshot does not know has no endpoints and no host entries.
    pub fn compile(&mut self, snapshot: &Snapshot, node: &str) -> NodePlan {
        self.allocator.begin();
        let compilation = Compilation { snapshot, node, allocator: &mut self.allocator, plan: NodePlan::default() };
        let plan = compilation.run();
        self.allocator.finish();
        plan
    }
}

struct Compilation<'a> {
    snapshot: &'a Snapshot,
    node: &'a str,
    allocator: &'a mut Allocator,
    plan: NodePlan,
}

impl Compilation<'_> {
    fn run(mut self) -> NodePlan {
        let bases: Vec<_> = self.snapshot.bases().iter().map(|base| (base, self.allocator.workload(base))).collect();
        let in_force = in_force::InForce::new(self.snapshot, self.node);
        let atoms = self.atoms(&in_force, &bases);
        let subjects = self.subjects(&bases);
        self.rows(&in_force, &atoms, &subjects);
        self.plan
    }

    /// Whether `node` is the one compiled for.
    fn is_own(&self, node: Option<&Arc<str>>) -> bool {
        node.is_some_and(|name| **name == *self.node)
    }

    fn describe_workload(&mut self, identity: IdentityId, base: &BaseIdentity, refinement: Refinement) {
        let snapshot = self.snapshot;
        self.plan.identities.entry(identity).or_insert_with(|| {
            let pods = base.labels.iter().map(|(key, value)| format!("k8s:{key}={value}"));
            let namespace = snapshot.namespace(&base.namespace).into_iter().flat_map(Labels::iter);
            let namespace = namespace.map(|(key, value)| format!("k8s:io.cilium.k8s.namespace.labels.{key}={value}"));
            let implied = [
                format!("k8s:io.cilium.k8s.policy.serviceaccount={}", base.service_account),
                format!("k8s:io.kubernetes.pod.namespace={}", base.namespace),
            ];
            let mut labels: Vec<_> = pods.chain(namespace).chain(implied).collect();
            labels.sort_unstable();
            IdentityInfo {
                labels,
                reserved: None,
                namespace: Some(Arc::clone(&base.namespace)),
                service_account: Some(Arc::clone(&base.service_account)),
                pod_labels: base.labels.clone(),
                cidrs: refinement.cidrs,
                refined_from: refinement.from,
                refined_by: refinement.by,
            }
        });
    }

    fn describe_reserved(
        &mut self,
        identity: IdentityId,
        reserved: IdentityId,
        refined_by: Vec<String>,
        cidrs: Vec<String>,
    ) {
        let refined_from = (identity != reserved).then_some(reserved);
        let labels = cidrs.iter().map(|cidr| format!("cidr:{cidr}"));
        let name = reserved.reserved_name();
        let labels = labels.chain(name.map(|name| format!("reserved:{name}"))).collect();
        let reserved = if refined_from.is_some() { None } else { name };
        let info = IdentityInfo { labels, reserved, cidrs, refined_from, refined_by, ..IdentityInfo::default() };
        self.plan.identities.entry(identity).or_insert(info);
    }
}

/// What sets a refined identity apart.
#[derive(Default)]
struct Refinement {
    from: Option<IdentityId>,
    by: Vec<String>,
    cidrs: Vec<String>,
}

/// The numbered base identities of a snapshot, in order.
type Bases<'a> = [(&'a BaseIdentity, IdentityId)];

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
