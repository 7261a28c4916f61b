//! What a cluster would make of its manifests: the objects that controllers, scheduler and address management add.
//!
//! ```text
//! Namespace ← (implied)      Deployment, StatefulSet, DaemonSet, Job … → Pod → node → addresses
//! Node      ← (default)      Service → clusterIPs, EndpointSlice ← Pod
//! ```
//!
//! Pure and deterministic: the same manifests give the same pods, names and addresses; [`expand`] given its last result
//! moves nothing that may stay. It judges no traffic, reads no clock and knows nothing of how pods are run.

pub mod addresses;
mod ipam;
mod labels;
mod namespaces;
mod nodes;
mod placement;
mod pods;
mod services;

use strait_api::{Object, Objects};

pub use labels::{MANAGED_BY, SERVICE_NAME, SLICES_MANAGED_BY, WORKLOAD, workload};

/// Most pods that workloads may make in all; what is asked for beyond it is left out with a note, so that a slip in `replicas` does not eat
/// the memory.
pub const MAX_PODS: u32 = 50_000;

/// What manifests do not say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The nodes, where manifests declare none.
    pub node_names: Vec<String>,
    /// Whether nodes, pods and services have IPv6 addresses too.
    pub ipv6: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { node_names: vec!["node-1".into(), "node-2".into()], ipv6: true }
    }
}

/// What [`expand`] made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Expansion {
    /// The objects given and those that follow from them.
    pub objects: Objects,
    /// What could not be made as asked, each a sentence for people that names the object and its place.
    pub notes: Vec<String>,
}

/// Adds to `objects` what a cluster would:
///
/// - a Namespace for each that is used, a `default` ServiceAccount in each, and each account that a pod names;
/// - Nodes (those of `options` where none is declared, and each that a `nodeName` names) with an `InternalIP` and a pod CIDR of
///   each family, and the labels a kubelet sets;
/// - the Pods of every workload, named `NAME-0`, `NAME-1` … (`NAME-<node>` for a DaemonSet), labelled as its controller labels
///   them and annotated with [`WORKLOAD`]. A CronJob's pods are those of its current job, which is taken to be running and to bear
///   the CronJob's name, as the schedule's time that Kubernetes appends is not known here;
/// - for each Pod a node (`nodeName`, the node whose pod CIDR has its `status.podIP`, the node it had in `previous`, else among those that its
///   `nodeSelector` allows the one with the fewest pods of its workload, then the fewest pods), addresses and phase `Running`. A
///   completed Pod (`Succeeded`, `Failed`) has no address; a Pod that no node can take, or that finds no free address, stays `Pending`;
/// - a cluster address of each family and an EndpointSlice or more for each Service that lacks them.
///
/// A pod's address is its `status.podIP` where that can be, else the one it had in `previous` on the same node, else the next free
/// of the node's pod CIDR. Pods with `hostNetwork` have the node's. Expanding an expansion changes nothing.
pub fn expand(objects: &Objects, options: &Options, previous: Option<&Objects>) -> Expansion {
    let mut remarks = Vec::new();
    let mut out = objects.clone();
    let nothing = Objects::default();
    let previous = previous.unwrap_or(&nothing);

    let nodes = nodes::settle(&mut out, options, previous, &mut remarks);
    let mut pods = pods::draft(&mut out, &nodes, &mut remarks);
    placement::place(&mut pods, &nodes, previous, &mut remarks);
    ipam::assign(&mut pods, &nodes, options, previous, &mut remarks);
    for pod in pods {
        out.replace(Object::Pod(pod.into()));
    }
    services::settle(&mut out, options, previous, &mut remarks);
    namespaces::settle(&mut out, &mut remarks);
    Expansion { objects: out, notes: remarks }
}
