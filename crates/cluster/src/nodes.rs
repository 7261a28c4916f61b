//! Nodes: which there are, their addresses, pod CIDRs and labels.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use strait_api::{Kind, Node, Object, ObjectKey, Objects, WorkloadKind};
use strait_base::{Labels, Location};

use crate::{Options, addresses, namespaces::implied};

/// Puts every node into `objects`, whole, and gives them back in order.
pub(crate) fn settle(
    objects: &mut Objects,
    options: &Options,
    previous: &Objects,
    remarks: &mut Vec<String>,
) -> Vec<Arc<Node>> {
    let mut nodes = known(objects, options, remarks);
    let mut taken = keep_what_is_given(&mut nodes, options, remarks);
    for (position, index) in indices(&nodes, options, previous, &taken) {
        let node = &mut nodes[position];
        let Some(index) = index else {
            remarks.push(format!(
                "{}: Node/{} gets no addresses: all {} are in use",
                node.meta.location,
                node.meta.name,
                addresses::MAX_NODES
            ));
            continue;
        };
        let defaults = Defaults::of(index, options);
        node.addresses.extend(defaults.addresses_missing_in(node).inspect(|address| taken.push(IpNet::from(*address))));
        node.pod_cidrs.extend(defaults.cidrs_missing_in(node).inspect(|cidr| taken.push(*cidr)));
    }
    let nodes: Vec<_> = nodes.into_iter().map(Arc::new).collect();
    for node in &nodes {
        objects.replace(Object::Node(Arc::clone(node)));
    }
    nodes
}

/// Declared nodes, else those of the options; and those that a `nodeName` names.
fn known(objects: &Objects, options: &Options, remarks: &mut Vec<String>) -> Vec<Node> {
    let mut nodes: Vec<Node> = objects.nodes().map(|node| Node::clone(node)).collect();
    if nodes.is_empty() {
        let file: Arc<str> = "(default)".into();
        let mut seen = BTreeSet::new();
        for name in options.node_names.iter().filter(|name| seen.insert(*name)) {
            nodes.push(bare(name, Location::new(&file, 1, 1)));
        }
    }
    let mut names: BTreeSet<Arc<str>> = nodes.iter().map(|node| Arc::clone(&node.meta.name)).collect();
    let pods = objects.pods().map(|pod| (&pod.spec, &pod.meta.location));
    let templates = objects
        .workloads()
        .filter(|workload| workload.kind != WorkloadKind::DaemonSet)
        .map(|workload| (&workload.template.spec, &workload.meta.location));
    for (spec, location) in pods.chain(templates) {
        if let Some(name) = spec.node_name.as_ref().filter(|name| names.insert(Arc::clone(name))) {
            remarks.push(format!("{location}: nodeName {name} names a node that no manifest declares; it is added"));
            nodes.push(bare(name, location.clone()));
        }
    }
    for node in &mut nodes {
        let name = Arc::clone(&node.meta.name);
        // What a kubelet sets. No image is run, so the architecture is the one that manifests most often ask for.
        for (key, value) in
            [("kubernetes.io/hostname", &*name), ("kubernetes.io/os", "linux"), ("kubernetes.io/arch", "amd64")]
        {
            if node.meta.labels.get(key).is_none() {
                node.meta.labels.insert(key, value);
            }
        }
    }
    nodes
}

fn bare(name: &str, location: Location) -> Node {
    Node { meta: implied("", name, Labels::default(), location), pod_cidrs: Vec::new(), addresses: Vec::new() }
}

/// Leaves of addresses and pod CIDRs that manifests give those that can be; gives what is taken.
fn keep_what_is_given(nodes: &mut [Node], options: &Options, remarks: &mut Vec<String>) -> Vec<IpNet> {
    let mut taken: Vec<IpNet> = Vec::new();
    for node in nodes {
        let Node { meta, pod_cidrs, addresses } = node;
        let mut refuse = |what: String, why: &str| {
            remarks.push(format!("{}: Node/{}: {what} {why}; another is taken", meta.location, meta.name));
        };
        let mut keep = |net: IpNet, what: &dyn Fn() -> String| {
            if net.addr().is_ipv6() && !options.ipv6 {
                return false;
            }
            if taken.iter().any(|other| other.contains(&net) || net.contains(other)) {
                refuse(what(), "is in use by a node already");
                return false;
            }
            taken.push(net);
            true
        };
        addresses.retain(|address| keep(IpNet::from(*address), &|| format!("address {address}")));
        pod_cidrs.retain(|cidr| keep(cidr.trunc(), &|| format!("pod CIDR {cidr}")));
    }
    taken
}

/// What the address plan has for a node.
struct Defaults {
    addresses: Vec<IpAddr>,
    cidrs: Vec<IpNet>,
}

impl Defaults {
    fn of(index: u32, options: &Options) -> Self {
        let ((node_v4, node_v6), (pods_v4, pods_v6)) = (addresses::node(index), addresses::pod_cidrs(index));
        let (mut addresses, mut cidrs) = (vec![IpAddr::V4(node_v4)], vec![IpNet::V4(pods_v4)]);
        if options.ipv6 {
            addresses.push(node_v6.into());
            cidrs.push(pods_v6.into());
        }
        Self { addresses, cidrs }
    }

    fn addresses_missing_in(&self, node: &Node) -> impl Iterator<Item = IpAddr> + use<> {
        let has: Vec<IpAddr> = node.addresses.clone();
        let all = self.addresses.clone();
        all.into_iter().filter(move |mine| !has.iter().any(|other| addresses::same_family(*other, *mine)))
    }

    fn cidrs_missing_in(&self, node: &Node) -> impl Iterator<Item = IpNet> + use<> {
        let has = node.pod_cidrs.clone();
        let all = self.cidrs.clone();
        all.into_iter().filter(move |mine| !has.iter().any(|other| addresses::same_family(other.addr(), mine.addr())))
    }

    fn missing_in(&self, node: &Node) -> Vec<IpNet> {
        self.addresses_missing_in(node).map(IpNet::from).chain(self.cidrs_missing_in(node)).collect()
    }
}

/// For each node (by position) that lacks something, the index that gives it: the one it had, else the lowest free.
fn indices(nodes: &[Node], options: &Options, previous: &Objects, taken: &[IpNet]) -> Vec<(usize, Option<u32>)> {
    let mut chosen: BTreeMap<usize, u32> = BTreeMap::new();
    let mut used: BTreeSet<u32> = BTreeSet::new();
    let free = |index: &u32, node: &Node| {
        let overlaps = |mine: &IpNet| taken.iter().any(|other| other.contains(mine) || mine.contains(other));
        !Defaults::of(*index, options).missing_in(node).iter().any(overlaps)
    };
    let wanting: Vec<usize> = nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| !Defaults::of(1, options).missing_in(node).is_empty())
        .map(|(position, _)| position)
        .collect();
    for &position in &wanting {
        let node = &nodes[position];
        let had = index_of_previous(node, options, previous);
        if let Some(index) = had.filter(|index| free(index, node) && !used.contains(index)) {
            used.insert(index);
            chosen.insert(position, index);
        }
    }
    for &position in &wanting {
        if chosen.contains_key(&position) {
            continue;
        }
        let node = &nodes[position];
        let next = (1..=addresses::MAX_NODES).find(|index| !used.contains(index) && free(index, node));
        if let Some(index) = next {
            used.insert(index);
            chosen.insert(position, index);
        }
    }
    wanting.into_iter().map(|position| (position, chosen.get(&position).copied())).collect()
}

fn index_of_previous(node: &Node, options: &Options, previous: &Objects) -> Option<u32> {
    let key = ObjectKey { kind: Kind::Node, namespace: "".into(), name: Arc::clone(&node.meta.name) };
    let Some(Object::Node(before)) = previous.get(&key) else { return None };
    (1..=addresses::MAX_NODES).find(|index| {
        let defaults = Defaults::of(*index, options);
        defaults.cidrs.iter().any(|cidr| before.pod_cidrs.contains(cidr))
            || defaults.addresses.iter().any(|address| before.addresses.contains(address))
    })
}
