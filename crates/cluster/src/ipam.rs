//! Addresses of pods.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use strait_api::{Node, Objects, Pod, PodPhase};

use crate::{Options, addresses, placement::before};

/// Gives every pod with a node its addresses, and lets it run: first what manifests ask for, then what pods had, then what is free.
pub(crate) fn assign(
    pods: &mut [Pod],
    nodes: &[Arc<Node>],
    options: &Options,
    previous: &Objects,
    remarks: &mut Vec<String>,
) {
    let by_name: BTreeMap<Arc<str>, &Arc<Node>> =
        nodes.iter().map(|node| (Arc::clone(&node.meta.name), node)).collect();
    let node_of = |pod: &Pod| pod.spec.node_name.as_ref().and_then(|name| by_name.get(name)).copied();
    let mut used: BTreeSet<IpAddr> = nodes.iter().flat_map(|node| node.addresses.iter().copied()).collect();

    for pod in pods.iter_mut() {
        let Some(node) = node_of(pod) else {
            pod.pod_ips.clear();
            continue;
        };
        if pod.spec.host_network {
            pod.pod_ips = one_of_each_family(&node.addresses);
            continue;
        }
        for address in std::mem::take(&mut pod.pod_ips) {
            match refusal(address, node, nodes, &used, options) {
                None => {
                    used.insert(address);
                    pod.pod_ips.push(address);
                }
                Some(why) => remarks.push(format!(
                    "{}: Pod {}/{} cannot have status.podIP {address}: {why}; it gets the next free address of {}",
                    pod.meta.location, pod.meta.namespace, pod.meta.name, node.meta.name
                )),
            }
        }
    }
    for pod in pods.iter_mut().filter(|pod| !pod.spec.host_network) {
        let (Some(node), Some(before)) = (node_of(pod), before(pod, previous)) else { continue };
        for address in &before.pod_ips {
            let wanted = !pod.pod_ips.iter().any(|own| addresses::same_family(*own, *address))
                && node.pod_cidrs.iter().any(|cidr| cidr.contains(address))
                && refusal(*address, node, nodes, &used, options).is_none();
            if wanted {
                used.insert(*address);
                pod.pod_ips.push(*address);
            }
        }
    }
    let mut free = Free { cursors: BTreeMap::new(), used };
    let mut full: BTreeMap<IpNet, usize> = BTreeMap::new();
    for pod in pods.iter_mut() {
        let node = node_of(pod).filter(|_| !pod.spec.host_network);
        if let Some(node) = node {
            let has: Vec<IpAddr> = pod.pod_ips.clone();
            for cidr in &node.pod_cidrs {
                if has.iter().any(|own| addresses::same_family(*own, cidr.addr())) {
                    continue;
                }
                match free.next(*cidr) {
                    Some(address) => pod.pod_ips.push(address),
                    None => *full.entry(*cidr).or_default() += 1,
                }
            }
            pod.pod_ips = one_of_each_family(&pod.pod_ips);
        }
        pod.phase = match (pod.pod_ips.is_empty(), pod.phase) {
            (true, _) => PodPhase::Pending,
            (false, PodPhase::Unknown) => PodPhase::Unknown,
            (false, _) => PodPhase::Running,
        };
    }
    for (cidr, count) in full {
        remarks.push(format!("pod CIDR {cidr} is full: {count} pods get no address of it; declare the Node with a larger podCIDR, or more nodes"));
    }
}

/// Why a pod of `node` cannot have `address`.
fn refusal(
    address: IpAddr,
    node: &Node,
    nodes: &[Arc<Node>],
    used: &BTreeSet<IpAddr>,
    options: &Options,
) -> Option<String> {
    if address.is_ipv6() && !options.ipv6 {
        return Some("IPv6 is off".to_owned());
    }
    if used.contains(&address) {
        return Some("it is in use".to_owned());
    }
    if !addresses::is_routable(address) {
        return Some("it is no address to reach a pod at".to_owned());
    }
    let of_node = |node: &Node| node.pod_cidrs.iter().any(|cidr| cidr.contains(&address));
    if of_node(node) {
        return None;
    }
    if let Some(other) = nodes.iter().find(|other| of_node(other)) {
        return Some(format!("it is in the pod CIDR of {}, but the pod is on {}", other.meta.name, node.meta.name));
    }
    addresses::reserved_range(address).map(|range| format!("its range is for {range}"))
}

/// The first address of each family, IPv4 first.
fn one_of_each_family(all: &[IpAddr]) -> Vec<IpAddr> {
    let v4 = all.iter().find(|address| address.is_ipv4());
    let v6 = all.iter().find(|address| address.is_ipv6());
    v4.into_iter().chain(v6).copied().collect()
}

/// What is left of the pod CIDRs.
struct Free {
    cursors: BTreeMap<IpNet, Box<dyn Iterator<Item = IpAddr>>>,
    used: BTreeSet<IpAddr>,
}

impl Free {
    fn next(&mut self, cidr: IpNet) -> Option<IpAddr> {
        let cursor = self.cursors.entry(cidr).or_insert_with(|| Box::new(addresses::pods_of(cidr)));
        let address = cursor.find(|address| !self.used.contains(address))?;
        self.used.insert(address);
        Some(address)
    }
}
