//! The questions worth asking of a case.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;
use strait_api::{
    CiliumCidrSource, CiliumPeers, CiliumRule, CiliumTrafficRule, ClusterPeerSelector, ClusterPort, Objects,
    PeerSelector, PortRef,
};
use strait_base::Protocol;

use crate::{
    Connection, End, Traffic,
    generate::{OUTSIDE_V4, OUTSIDE_V6},
};

/// A port that nothing mentions.
const ELSEWHERE: u16 = 31_999;

/// Pairs of ends worth asking about, each with a family that both have: every pod with every pod (also itself), by name and now and then by
/// address, with every node, with addresses outside, with both sides of every edge of a block, and with addresses of the pod CIDRs that nobody
/// has; every node with all of these but pods; both ways.
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
    // Nodes with what is no pod, and with each other (also itself).
    for (from, families) in others.iter().filter(|(end, _)| matches!(end, End::Node(_))) {
        for (other, theirs) in &others {
            pairs.extend(families.intersection(theirs).map(|v6| (from.clone(), other.clone(), *v6)));
            if !matches!(other, End::Node(_)) {
                pairs.extend(families.intersection(theirs).map(|v6| (other.clone(), from.clone(), *v6)));
            }
        }
    }
    pairs
}

/// Every block that policies and groups write, and what they leave out of it; addresses of slices.
fn blocks(objects: &Objects) -> BTreeSet<IpNet> {
    let mut out = BTreeSet::new();
    let rules = objects.network_policies().flat_map(|policy| policy.ingress.iter().chain(&policy.egress));
    for peer in rules.flat_map(|rule| &rule.peers) {
        if let PeerSelector::IpBlock { cidr, except } = &peer.selects {
            out.extend(except.iter().chain([cidr]));
        }
    }
    for rule in cilium_rules(objects) {
        match &rule.peers {
            CiliumPeers::Cidrs(cidrs) => out.extend(cidrs),
            CiliumPeers::CidrSets(sets) => {
                for set in sets {
                    out.extend(&set.except);
                    if let CiliumCidrSource::Cidr(cidr) = &set.source {
                        out.insert(*cidr);
                    }
                }
            }
            CiliumPeers::Any
            | CiliumPeers::Endpoints(_)
            | CiliumPeers::Entities(_)
            | CiliumPeers::Services(_)
            | CiliumPeers::Nodes(_)
            | CiliumPeers::Fqdns(_)
            | CiliumPeers::Groups(_) => {}
        }
    }
    out.extend(objects.cilium_cidr_groups().flat_map(|group| &group.external_cidrs));
    let peers = objects.cluster_policies().flat_map(|policy| &policy.egress).flat_map(|rule| &rule.peers);
    for peer in peers {
        if let ClusterPeerSelector::Networks(networks) = &peer.selects {
            out.extend(networks);
        }
    }
    let endpoints = objects.endpoint_slices().flat_map(|slice| &slice.endpoints);
    out.extend(endpoints.flat_map(|endpoint| &endpoint.addresses).copied().map(IpNet::from));
    out
}

/// All rules of Cilium's policies.
fn cilium_rules(objects: &Objects) -> impl Iterator<Item = &CiliumTrafficRule> {
    objects.cilium_policies().flat_map(|policy| &policy.rules).flat_map(sections)
}

fn sections(rule: &CiliumRule) -> impl Iterator<Item = &CiliumTrafficRule> {
    [&rule.ingress, &rule.ingress_deny, &rule.egress, &rule.egress_deny].into_iter().flatten()
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
    for (first, last) in ranges(objects) {
        ports.extend([first.saturating_sub(1), first, last, last.saturating_add(1)]);
    }
    for pod in objects.pods() {
        ports.extend(pod.spec.containers.iter().flat_map(|c| &c.ports).map(|port| port.container_port));
    }
    ports.remove(&0);
    let each = |protocol| ports.iter().map(move |port| Traffic::Port(protocol, *port));
    Protocol::ALL.into_iter().flat_map(each).chain([Traffic::Icmp]).collect()
}

/// First and last of every range of ports that policies write.
fn ranges(objects: &Objects) -> Vec<(u16, u16)> {
    let of = |port: &Option<PortRef>, end: Option<u16>| match port {
        Some(PortRef::Number(first)) => Some((*first, end.unwrap_or(*first))),
        Some(PortRef::Name(_)) | None => None,
    };
    let rules = objects.network_policies().flat_map(|policy| policy.ingress.iter().chain(&policy.egress));
    let mut out: Vec<_> = rules.flat_map(|rule| &rule.ports).filter_map(|port| of(&port.port, port.end_port)).collect();
    let cilium = cilium_rules(objects).flat_map(|rule| &rule.ports).flat_map(|entry| &entry.ports);
    out.extend(cilium.filter_map(|port| of(&port.port, port.end_port)));
    let tiers = objects.cluster_policies().flat_map(|policy| policy.ingress.iter().chain(&policy.egress));
    out.extend(tiers.flat_map(|rule| &rule.ports).filter_map(|port| match port {
        ClusterPort::Range { first, last, .. } => Some((*first, *last)),
        ClusterPort::Protocol(_) | ClusterPort::Named(_) => None,
    }));
    out
}

/// Every pair with every traffic: all there is to know of the case.
pub fn probes(objects: &Objects) -> impl Iterator<Item = Connection> {
    let traffic = traffic(objects);
    pairs(objects).into_iter().flat_map(move |(from, to, v6)| {
        let of_pair = move |traffic: Traffic| Connection { from: from.clone(), to: to.clone(), traffic, v6 };
        traffic.clone().into_iter().map(of_pair)
    })
}
