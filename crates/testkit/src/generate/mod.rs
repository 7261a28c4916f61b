//! Random clusters and policies: every legal value can come up, no illegal one does, and the universe of values is so small that rules
//! meet pods, and each other, all the time.

mod cluster;
mod policy;
mod words;

use std::{fmt, net::IpAddr, sync::Arc};

use proptest::strategy::Strategy;
use strait_api::{Object, Objects};
use strait_base::Location;

use crate::{draw::Draw, render};

pub(crate) use cluster::{namespace_meta, pod_with_ports};
pub use policy::{block, label_selector, network_policy};
pub use words::{OUTSIDE_V4, OUTSIDE_V6};

/// What addresses and namespaces a generator may refer to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Universe {
    /// Addresses of pods, nodes and the outside.
    pub addresses: Vec<IpAddr>,
}

/// A cluster with policies, expanded: pods have nodes and addresses.
#[derive(Clone, PartialEq)]
pub struct Case {
    /// What it was drawn from.
    pub seed: u64,
    /// Everything in it.
    pub objects: Objects,
}

impl Case {
    /// The case as manifests. The seed also chooses among the ways to write the same thing.
    pub fn yaml(&self) -> String {
        render::manifests(&self.objects, &mut Draw::new(self.seed ^ 0x7961_6d6c))
    }
}

/// Seed and manifests.
impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "case({}):\n{}", self.seed, self.yaml())
    }
}

/// The case of `seed`.
///
/// Two nodes; two declared namespaces and one that is only used; pods with labels and named ports, among them replicas that differ only in
/// ports, pods with `hostNetwork`, completed pods whose address another has, pods of one family, pods with addresses outside the pod CIDRs;
/// up to six policies.
pub fn case(seed: u64) -> Case {
    let mut draw = Draw::new(seed);
    let mut objects = cluster::cluster(&mut draw);
    let universe = Universe::of(&objects);
    for number in 0..draw.weighted(&[(1, 0), (6, 1), (8, 2), (8, 3), (6, 4), (4, 5), (3, 6)]) {
        let namespace = cluster::namespace(&mut draw);
        let policy = network_policy(&mut draw, &universe, namespace, &format!("policy-{number}"));
        objects.replace(Object::NetworkPolicy(policy.into()));
    }
    Case { seed, objects }
}

/// Cases for `proptest!`. They shrink through [`crate::minimize()`], not through proptest, as a smaller seed is no smaller case.
pub fn cases() -> impl Strategy<Value = Case> {
    proptest::num::u64::ANY.prop_map(case).no_shrink()
}

impl Universe {
    /// The addresses of pods and nodes, their neighbours, and some outside.
    pub fn of(objects: &Objects) -> Self {
        let pods = objects.pods().flat_map(|pod| pod.pod_ips.iter());
        let nodes = objects.nodes().flat_map(|node| node.addresses.iter());
        let mut addresses: Vec<IpAddr> = pods.chain(nodes).copied().collect();
        addresses.extend(words::outside());
        addresses.sort_unstable();
        addresses.dedup();
        Self { addresses }
    }
}

/// Generated objects were written nowhere.
fn nowhere() -> Location {
    let file: Arc<str> = "(generated)".into();
    Location::new(&file, 1, 1)
}
