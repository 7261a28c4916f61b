//! The questions worth asking of a case.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use strait_api::{NetworkPolicyRule, Objects, PortRef};
use strait_base::Protocol;

use crate::{
    Connection, End, Traffic,
    generate::{OUTSIDE_V4, OUTSIDE_V6},
};

/// A port that nothing mentions.
const ELSEWHERE: u16 = 31_999;

/// Pairs of ends worth asking about, each with a family that both have: every pod with every pod (also itself), by name and now and then by
/// address, with every node and with addresses outside, both ways.
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
    let outside = OUTSIDE_V4.into_iter().map(IpAddr::V4).chain(OUTSIDE_V6.into_iter().map(IpAddr::V6));
    // By address, as packets name each other: it must make no difference.
    let by_address = objects.pods().filter_map(|pod| pod.pod_ips.first().copied());
    for address in outside.chain(by_address) {
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
