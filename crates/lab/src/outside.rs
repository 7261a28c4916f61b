//! What the world outside must hold so that policies about addresses can be seen to work: a host in each block they
//! name, and in each hole of it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use strait_api::{CiliumCidrSource, CiliumPeers, ClusterPeerSelector, ClusterPort, Objects, PeerSelector, PortRef};
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
    /// For every block of addresses that a rule names: the first address of `cidr` that no `except` covers, and the first of every `except`. The
    /// first address of a block wider than one is its network's plus one. An address that nodes, pods or services may
    /// have is not outside, and is left out; so is one that no interface can have. Ports are those that the policies
    /// write as numbers, the ends of ranges, and 80, 443 and 8080.
    pub fn of(objects: &Objects, ipv6: bool) -> Self {
        let mut outside = Self { addresses: BTreeSet::from([CLIENT_V4.into()]), ports: BTreeSet::new() };
        if ipv6 {
            outside.addresses.insert(CLIENT_V6.into());
        }
        let cluster = cluster_ranges(objects);
        let (blocks, ports) = asked(objects);
        let own = outside.addresses.len();
        let addresses = blocks.iter().flat_map(|(block, holes)| {
            first_outside_of(*block, holes).into_iter().chain(holes.iter().map(|hole| first(*hole)))
        });
        for address in addresses.filter(|address| ipv6 || address.is_ipv4()) {
            if outside.addresses.len() - own < MOST_ADDRESSES
                && usable(address)
                && !cluster.iter().any(|range| range.contains(&address))
            {
                outside.addresses.insert(address);
            }
        }
        outside.ports = ports.into_iter().take(MOST_PORTS).collect();
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

/// A block of addresses, and what is left out of it.
type Block = (IpNet, Vec<IpNet>);

/// The blocks and the ports that rules name.
fn asked(objects: &Objects) -> (Vec<Block>, BTreeSet<(Protocol, u16)>) {
    let (mut blocks, mut ports) = (Vec::new(), BTreeSet::new());
    for rule in objects.network_policies().flat_map(|policy| policy.ingress.iter().chain(&policy.egress)) {
        for peer in &rule.peers {
            if let PeerSelector::IpBlock { cidr, except } = &peer.selects {
                blocks.push((*cidr, except.clone()));
            }
        }
        for port in &rule.ports {
            if let Some(PortRef::Number(number)) = port.port {
                ports.extend([number, port.end_port.unwrap_or(number)].map(|end| (port.protocol, end)));
            }
        }
    }
    for spec in objects.cilium_policies().flat_map(|policy| &policy.rules) {
        for rule in [&spec.ingress, &spec.ingress_deny, &spec.egress, &spec.egress_deny].into_iter().flatten() {
            if let CiliumPeers::Cidrs(cidrs) = &rule.peers {
                blocks.extend(cidrs.iter().map(|cidr| (*cidr, Vec::new())));
            } else if let CiliumPeers::CidrSets(sets) = &rule.peers {
                for set in sets {
                    if let CiliumCidrSource::Cidr(cidr) = &set.source {
                        blocks.push((*cidr, set.except.clone()));
                    }
                }
            }
            for port in rule.ports.iter().flat_map(|entry| &entry.ports) {
                if let Some(PortRef::Number(number)) = port.port {
                    let protocols = port.protocol.map_or(vec![Protocol::Tcp, Protocol::Udp], |protocol| vec![protocol]);
                    let ends = [number, port.end_port.unwrap_or(number)];
                    ports.extend(protocols.into_iter().flat_map(|protocol| ends.map(|end| (protocol, end))));
                }
            }
        }
    }
    blocks.extend(objects.cilium_cidr_groups().flat_map(|group| &group.external_cidrs).map(|cidr| (*cidr, Vec::new())));
    for rule in objects.cluster_policies().flat_map(|policy| policy.ingress.iter().chain(&policy.egress)) {
        for peer in &rule.peers {
            if let ClusterPeerSelector::Networks(networks) = &peer.selects {
                blocks.extend(networks.iter().map(|network| (*network, Vec::new())));
            }
        }
        for port in &rule.ports {
            if let ClusterPort::Range { protocol, first, last } = port {
                ports.extend([(*protocol, *first), (*protocol, *last)]);
            }
        }
    }
    (blocks, ports)
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
    fn every_kind_of_policy_is_asked() {
        let manifests = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: a}
spec:
  endpointSelector: {}
  egress:
  - {toCIDR: [198.51.100.7], toPorts: [{ports: [{port: "7", protocol: TCP}]}]}
  - toCIDRSet: [{cidr: 192.0.2.0/24, except: [192.0.2.128/25]}]
---
apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: {name: a}
spec: {externalCIDRs: [198.51.100.8/32]}
---
apiVersion: policy.networking.k8s.io/v1alpha1
kind: AdminNetworkPolicy
metadata: {name: a}
spec:
  priority: 0
  subject: {namespaces: {}}
  egress: [{action: Deny, to: [{networks: [198.51.100.9/32]}], ports: [{portNumber: {port: 9, protocol: UDP}}]}]
"#;
        let parsed = strait_api::parse(&"a.yaml".into(), manifests.as_bytes());
        assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
        let outside = Outside::of(&parsed.objects.into_iter().collect(), false);
        let addresses: Vec<String> = outside.addresses.iter().map(ToString::to_string).collect();
        let expected = ["192.0.2.1", "192.0.2.129", "198.51.100.7", "198.51.100.8", "198.51.100.9", "203.0.113.10"];
        assert_eq!(addresses, expected);
        assert!(outside.ports.contains(&(Protocol::Tcp, 7)) && outside.ports.contains(&(Protocol::Udp, 9)));
    }

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
