//! The questions worth asking of a case.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;
use strait_api::{NetworkPolicyRule, Objects, PeerSelector, PortRef};
use strait_base::Protocol;

use crate::{
    Connection, End, Traffic,
    generate::{OUTSIDE_V4, OUTSIDE_V6},
};

/// A port that nothing mentions.
const ELSEWHERE: u16 = 31_999;

/// Pairs of ends worth asking about, each with a family that both have: every pod with every pod (also itself), by name and now and then by
/// address, with every node, with addresses outside, with both sides of every edge of a block, and with addresses of the pod CIDRs that nobody
/// has; both ways.
pub fn pairs(objects: &Objects) -> Vec<(End, End, bool)> {
    let mut pods = Vec::new();
    for pod in objects.pods().filter(|pod| !pod.pod_ips.is_empty()) {
        let families: BTreeSet<bool> = pod.pod_ips.iter().map(IpAddr::is_ipv6).collect();
        pods.push((End::Pod(Arc::clone(&pod.meta.namespace), Arc::clone(&pod.meta.name)), families));
    }
    let mut others = Vec::new();
    for node in objects.nodes() {
        let families = node.addresses.iter().map(IpAddr::is_ipv6).collect();
        others.push((End::Node(Arc::clone(&node.meta.name)), families));
    }
    let mut addresses: BTreeSet<IpAddr> = OUTSIDE_V4.into_iter().map(IpAddr::V4).collect();
    addresses.extend(OUTSIDE_V6.into_iter().map(IpAddr::V6));
    addresses.extend(objects.nodes().flat_map(|node| node.pod_cidrs.iter().map(IpNet::broadcast)));
    // By address, as packets name each other: it must make no difference.
    addresses.extend(objects.pods().filter_map(|pod| pod.pod_ips.first().copied()));
    addresses.extend(blocks(objects).into_iter().flat_map(edges));
    for address in addresses {
        others.push((End::Address(address), BTreeSet::from([address.is_ipv6()])));
    }
    let mut pairs = Vec::new();
    for (from, families) in &pods {
        for (to, theirs) in pods.iter().chain(&others) {
            pairs.extend(families.intersection(theirs).map(|v6| (from.clone(), to.clone(), *v6)));
        }
        for (other, theirs) in &others {
            pairs.extend(families.intersection(theirs).map(|v6| (other.clone(), from.clone(), *v6)));
        }
    }
    pairs
}

/// Every block that policies write, and what they leave out of it.
fn blocks(objects: &Objects) -> BTreeSet<IpNet> {
    let rules = objects.network_policies().flat_map(|policy| policy.ingress.iter().chain(&policy.egress));
    let selectors = rules.flat_map(|rule| &rule.peers).map(|peer| &peer.selects);
    let blocks = selectors.filter_map(|selects| match selects {
        PeerSelector::IpBlock { cidr, except } => Some(except.iter().chain([cidr])),
        PeerSelector::Pods(_) | PeerSelector::Namespaces(_) | PeerSelector::NamespacedPods { .. } => None,
    });
    blocks.flatten().copied().collect()
}

/// The first and the last address of a block, and their neighbours outside it.
fn edges(block: IpNet) -> impl Iterator<Item = IpAddr> {
    let step = |address: IpAddr, up: bool| -> Option<IpAddr> {
        match address {
            IpAddr::V4(v4) => {
                let bits = u32::from(v4);
                let next = if up { bits.checked_add(1) } else { bits.checked_sub(1) };
                next.map(|bits| Ipv4Addr::from(bits).into())
            }
            IpAddr::V6(v6) => {
                let bits = u128::from(v6);
                let next = if up { bits.checked_add(1) } else { bits.checked_sub(1) };
                next.map(|bits| Ipv6Addr::from(bits).into())
            }
        }
    };
    let (first, last) = (block.network(), block.broadcast());
    [step(first, false), Some(first), Some(last), step(last, true)].into_iter().flatten()
}

/// What to send: every protocol to both sides of every boundary that a policy draws and to every port that a pod declares; ICMP.
pub fn traffic(objects: &Objects) -> Vec<Traffic> {
    let mut ports = BTreeSet::from([ELSEWHERE]);
    for policy in objects.network_policies() {
        policy.ingress.iter().chain(&policy.egress).for_each(|rule| boundaries(rule, &mut ports));
    }
    for pod in objects.pods() {
        ports.extend(pod.spec.containers.iter().flat_map(|c| &c.ports).map(|port| port.container_port));
    }
    ports.remove(&0);
    let each = |protocol| ports.iter().map(move |port| Traffic::Port(protocol, *port));
    Protocol::ALL.into_iter().flat_map(each).chain([Traffic::Icmp]).collect()
}

fn boundaries(rule: &NetworkPolicyRule, ports: &mut BTreeSet<u16>) {
    for port in &rule.ports {
        let Some(PortRef::Number(first)) = port.port else { continue };
        let last = port.end_port.unwrap_or(first);
        ports.extend([first - 1, first, last, last.saturating_add(1)]);
    }
}

/// Every pair with every traffic: all there is to know of the case.
pub fn probes(objects: &Objects) -> impl Iterator<Item = Connection> {
    let traffic = traffic(objects);
    pairs(objects).into_iter().flat_map(move |(from, to, v6)| {
        let of_pair = move |traffic: Traffic| Connection { from: from.clone(), to: to.clone(), traffic, v6 };
        traffic.clone().into_iter().map(of_pair)
    })
}
