//! What the world outside must hold so that policies about addresses can be seen to work: a host in each block they
//! name, and in each hole of it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use strait_api::{NetworkPolicyRule, Objects, PeerSelector, PortRef};
use strait_base::Protocol;
use strait_cluster::addresses;

/// Most addresses that policies add to the outside, the first in order of the policies.
pub const MOST_ADDRESSES: usize = 64;
/// Most ports that policies add to the outside servers, the lowest.
pub const MOST_PORTS: usize = 64;

/// The client outside.
pub const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The client outside.
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10);

/// The hosts outside, all in one network namespace, and the ports each of them serves.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outside {
    /// The client's and those that policies name.
    pub addresses: BTreeSet<IpAddr>,
    /// Served on every address.
    pub ports: BTreeSet<(Protocol, u16)>,
}

impl Outside {
    /// What the policies in `objects` (expanded) ask for.
    ///
    /// For every `ipBlock`: the first address of `cidr` that no `except` covers, and the first of every `except`. The
    /// first address of a block wider than one is its network's plus one. An address that nodes, pods or services may
    /// have is not outside, and is left out; so is one that no interface can have. Ports are those that the policies
    /// write as numbers, the ends of ranges, and 80, 443 and 8080.
    pub fn of(objects: &Objects, ipv6: bool) -> Self {
        let mut outside = Self { addresses: BTreeSet::from([CLIENT_V4.into()]), ports: BTreeSet::new() };
        if ipv6 {
            outside.addresses.insert(CLIENT_V6.into());
        }
        let cluster = cluster_ranges(objects);
        let rules = || objects.network_policies().flat_map(|policy| policy.ingress.iter().chain(&policy.egress));
        let own = outside.addresses.len();
        for address in rules().flat_map(blocks).filter(|address| ipv6 || address.is_ipv4()) {
            if outside.addresses.len() - own < MOST_ADDRESSES
                && usable(address)
                && !cluster.iter().any(|range| range.contains(&address))
            {
                outside.addresses.insert(address);
            }
        }
        outside.ports = rules().flat_map(ports).collect::<BTreeSet<_>>().into_iter().take(MOST_PORTS).collect();
        for port in [80, 443, 8080] {
            outside.ports.extend([(Protocol::Tcp, port), (Protocol::Udp, port)]);
        }
        outside
    }
}

fn cluster_ranges(objects: &Objects) -> Vec<IpNet> {
    let mut ranges: Vec<IpNet> = vec![
        addresses::NODES_V4.into(),
        addresses::NODES_V6.into(),
        addresses::PODS_V4.into(),
        addresses::PODS_V6.into(),
        addresses::SERVICES_V4.into(),
        addresses::SERVICES_V6.into(),
    ];
    for node in objects.nodes() {
        ranges.extend(&node.pod_cidrs);
        ranges.extend(node.addresses.iter().copied().map(IpNet::from));
    }
    ranges.extend(objects.pods().flat_map(|pod| pod.pod_ips.iter().copied().map(IpNet::from)));
    ranges
}

fn blocks(rule: &NetworkPolicyRule) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for peer in &rule.peers {
        if let PeerSelector::IpBlock { cidr, except } = &peer.selects {
            found.extend(first_outside_of(*cidr, except));
            found.extend(except.iter().map(|hole| first(*hole)));
        }
    }
    found
}

fn ports(rule: &NetworkPolicyRule) -> Vec<(Protocol, u16)> {
    let mut found = Vec::new();
    for port in &rule.ports {
        if let Some(PortRef::Number(number)) = port.port {
            found.push((port.protocol, number));
            found.extend(port.end_port.map(|end| (port.protocol, end)));
        }
    }
    found
}

/// The first address of a block that a host would have.
fn first(block: IpNet) -> IpAddr {
    let wide = block.max_prefix_len() - block.prefix_len() >= 2;
    if wide { next(block.network()).unwrap_or(block.network()) } else { block.network() }
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => u32::from(v4).checked_add(1).map(|bits| Ipv4Addr::from(bits).into()),
        IpAddr::V6(v6) => u128::from(v6).checked_add(1).map(|bits| Ipv6Addr::from(bits).into()),
    }
}

/// The first address of `block` behind which no hole lies.
fn first_outside_of(block: IpNet, holes: &[IpNet]) -> Option<IpAddr> {
    let mut address = first(block);
    // Each round leaves a hole for good, upwards.
    for _ in 0..=holes.len() {
        match holes.iter().find(|hole| hole.contains(&address)) {
            None => return block.contains(&address).then_some(address),
            Some(hole) => address = next(hole.broadcast())?,
        }
    }
    None
}

fn usable(address: IpAddr) -> bool {
    addresses::is_routable(address)
        && match address {
            // The kernel has no host in 0.0.0.0/8 and none in 240.0.0.0/4.
            IpAddr::V4(v4) => v4.octets()[0] != 0 && v4.octets()[0] < 240,
            IpAddr::V6(_) => true,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn representatives_of_blocks() {
        for (block, holes, expected) in [
            ("198.51.100.0/24", &[][..], Some("198.51.100.1")),
            ("198.51.100.7/32", &[], Some("198.51.100.7")),
            ("198.51.100.6/31", &[], Some("198.51.100.6")),
            ("198.51.100.0/24", &["198.51.100.0/25"], Some("198.51.100.128")),
            ("198.51.100.0/24", &["198.51.100.0/25", "198.51.100.128/25"], None),
            ("198.51.100.0/24", &["198.51.100.128/26", "198.51.100.0/25"], Some("198.51.100.192")),
            ("2001:db8::/32", &[], Some("2001:db8::1")),
        ] {
            let holes: Vec<IpNet> = holes.iter().map(|hole| hole.parse().unwrap()).collect();
            let found = first_outside_of(block.parse().unwrap(), &holes).map(|address| address.to_string());
            assert_eq!(found.as_deref(), expected, "{block} without {holes:?}");
        }
    }

    #[test]
    fn what_no_host_can_have() {
        for (address, expected) in
            [("0.0.0.1", false), ("240.0.0.1", false), ("::1", false), ("1.0.0.1", true), ("2001:db8::1", true)]
        {
            assert_eq!(usable(address.parse().unwrap()), expected, "{address}");
        }
    }
}
