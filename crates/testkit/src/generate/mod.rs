//! Random clusters and policies: every legal value can come up, no illegal one does, and the universe of values is so small that rules
//! meet pods, and each other, all the time.

mod cilium;
mod cilium_ports;
mod cilium_select;
mod cluster;
mod cluster_network_policy;
mod policy;
mod services;
mod words;

use std::{fmt, net::IpAddr, sync::Arc};

use proptest::strategy::Strategy;
use strait_api::{ClusterPolicyKind, Object, Objects};
use strait_base::Location;

use crate::{draw::Draw, render};

pub use cilium::{cidr_group, cilium_policy};
pub(crate) use cluster::{labelled_node, namespace_meta, pod_with_ports};
pub use cluster_network_policy::cluster_policy;
pub use policy::{block, label_selector, network_policy};
pub(crate) use services::services;
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
    /// Whether it has policies of all kinds, or network policies alone.
    pub mixed: bool,
    /// Everything in it.
    pub objects: Objects,
}

impl Case {
    /// Another of its like.
    #[must_use]
    pub fn of_seed(&self, seed: u64) -> Self {
        if self.mixed { mixed_case(seed) } else { case(seed) }
    }

    /// The case as manifests. The seed also chooses among the ways to write the same thing.
    pub fn yaml(&self) -> String {
        render::manifests(&self.objects, &mut Draw::new(self.seed ^ 0x7961_6d6c))
    }
}

/// Seed and manifests.
impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}):\n{}", if self.mixed { "mixed_case" } else { "case" }, self.seed, self.yaml())
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
    Case { seed, mixed: false, objects }
}

/// The case of `seed` with policies of all kinds.
///
/// The clusters of [`case`], with labels on nodes, services with and without selector, CIDR groups, and up to seven policies of any kinds, now
/// and then audited only.
pub fn mixed_case(seed: u64) -> Case {
    Case { seed, mixed: true, objects: mixed_objects(&mut Draw::new(seed ^ 0x006d_6978_6564)) }
}

/// What is in a case with policies of all kinds.
pub fn mixed_objects(draw: &mut Draw) -> Objects {
    let mut objects = cluster::cluster(draw);
    let universe = Universe::of(&objects);
    cluster::label_nodes(draw, &mut objects);
    services(draw, &objects.clone(), &mut objects);
    mixed_policies(draw, &universe, &mut objects);
    objects
}

/// Adds CIDR groups and one to seven policies of any kinds.
pub(crate) fn mixed_policies(draw: &mut Draw, universe: &Universe, objects: &mut Objects) {
    for name in words::CIDR_GROUPS {
        if draw.chance(85) {
            objects.replace(Object::CiliumCidrGroup(cilium::cidr_group(draw, universe, name).into()));
        }
    }
    for number in 0..draw.weighted(&[(2, 1), (5, 2), (6, 3), (6, 4), (4, 5), (2, 6), (1, 7)]) {
        let name = format!("policy-{number}");
        let namespace = cluster::namespace(draw);
        let priority = *draw.pick(&PRIORITIES);
        let tiered = |draw: &mut Draw, kind| {
            let policy = cluster_policy(draw, universe, kind, &name, priority);
            Object::ClusterNetworkPolicy(policy.into())
        };
        let policy = match draw.below(12) {
            0..=2 => {
                let mut policy = network_policy(draw, universe, namespace, &name);
                policy::audit(draw, &mut policy.meta);
                Object::NetworkPolicy(policy.into())
            }
            3..=5 => Object::CiliumNetworkPolicy(cilium_policy(draw, universe, Some(namespace), &name).into()),
            6 | 7 => Object::CiliumNetworkPolicy(cilium_policy(draw, universe, None, &name).into()),
            8 | 9 => tiered(draw, ClusterPolicyKind::ClusterNetworkPolicy),
            10 => tiered(draw, ClusterPolicyKind::AdminNetworkPolicy),
            _ => tiered(draw, ClusterPolicyKind::BaselineAdminNetworkPolicy),
        };
        objects.replace(policy);
    }
}

/// Few, so that some are equal.
const PRIORITIES: [u16; 6] = [0, 1, 10, 255, 256, 1000];

/// Cases for `proptest!`. They shrink through [`crate::minimize()`], not through proptest, as a smaller seed is no smaller case.
pub fn cases() -> impl Strategy<Value = Case> {
    proptest::num::u64::ANY.prop_map(case).no_shrink()
}

/// As [`cases`], of all kinds of policies.
pub fn mixed_cases() -> impl Strategy<Value = Case> {
    proptest::num::u64::ANY.prop_map(mixed_case).no_shrink()
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
