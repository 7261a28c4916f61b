//! The address plan: every range that is given out, and the one way to count in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Nodes' `InternalIP`s: the node of index `i` (from 1) has `172.30.0.<10+i>`.
pub const NODES_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(172, 30, 0, 0), 24);
/// Nodes' `InternalIP`s: the node of index `i` has `fd00:172:30::<10+i>`, digits as written.
pub const NODES_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x172, 0x30, 0, 0, 0, 0, 0), 64);
/// All pods: the node of index `i` has `10.244.<i>.0/24`.
pub const PODS_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16);
/// All pods: the node of index `i` has `fd00:10:244:<i>::/64`, digits as written.
pub const PODS_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 0), 48);
/// Services' cluster addresses.
pub const SERVICES_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16);
/// Services' cluster addresses.
pub const SERVICES_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0), 112);
/// Outside the cluster (RFC 5737, TEST-NET-3).
pub const OUTSIDE_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(203, 0, 113, 0), 24);
/// Outside the cluster (in RFC 3849's documentation prefix).
pub const OUTSIDE_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0), 64);

/// The highest index of a node that the ranges have addresses for.
pub const MAX_NODES: u32 = 244;

/// The first host number given out in a pod CIDR of at least 32 addresses; the lower ones are left to people.
const FIRST_POD: u32 = 10;
/// The first host number given out to services; lower ones are conventional (1 the API server, 10 DNS).
const FIRST_SERVICE: u32 = 11;

/// The `InternalIP`s of the node of index `index` (from 1 to [`MAX_NODES`]).
pub fn node(index: u32) -> (Ipv4Addr, Ipv6Addr) {
    (host_v4(NODES_V4, 10 + index), host_v6(NODES_V6, 10 + index))
}

/// The pod CIDRs of the node of index `index` (from 1 to [`MAX_NODES`]).
pub fn pod_cidrs(index: u32) -> (Ipv4Net, Ipv6Net) {
    let v4 = Ipv4Addr::from(u32::from(PODS_V4.network()) + (index << 8));
    let v6 = Ipv6Addr::from(u128::from(PODS_V6.network()) + (u128::from(as_written(index)) << 64));
    (Ipv4Net::new_assert(v4, 24), Ipv6Net::new_assert(v6, 64))
}

/// The addresses of `cidr` that pods may be given, lowest first; 99,999 at most.
pub fn pods_of(cidr: IpNet) -> impl Iterator<Item = IpAddr> {
    let roomy = cidr.max_prefix_len() - cidr.prefix_len() >= 5;
    hosts(cidr, if roomy { FIRST_POD } else { 1 })
}

/// The addresses of `range` that services may be given, lowest first.
pub fn services_of(range: IpNet) -> impl Iterator<Item = IpAddr> {
    hosts(range, FIRST_SERVICE)
}

/// Whether both are of one family.
pub fn same_family(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}

/// Whether `address` belongs to a range that no pod can have an address of, and which.
pub fn reserved_range(address: IpAddr) -> Option<&'static str> {
    let within = |nets: [IpNet; 2]| nets.iter().any(|net| net.contains(&address));
    if within([OUTSIDE_V4.into(), OUTSIDE_V6.into()]) {
        Some("the outside of the cluster")
    } else if within([SERVICES_V4.into(), SERVICES_V6.into()]) {
        Some("services")
    } else if within([NODES_V4.into(), NODES_V6.into()]) {
        Some("nodes")
    } else {
        None
    }
}

/// Whether an interface could have `address` and others reach it there.
pub fn is_routable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_unspecified() || v4.is_loopback() || v4.is_multicast() || v4.is_broadcast() || v4.is_link_local())
        }
        IpAddr::V6(v6) => {
            !(v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
                || v6.to_ipv4_mapped().is_some())
        }
    }
}

fn hosts(cidr: IpNet, first: u32) -> impl Iterator<Item = IpAddr> {
    (first..100_000).map_while(move |number| match cidr {
        IpNet::V4(net) => {
            let address = u32::from(net.network()).checked_add(number).map(Ipv4Addr::from)?;
            let usable = net.contains(&address) && (address != net.broadcast() || net.prefix_len() >= 31);
            usable.then_some(address.into())
        }
        IpNet::V6(net) => {
            let address = host_v6(net, number);
            net.contains(&address).then_some(address.into())
        }
    })
}

fn host_v4(net: Ipv4Net, number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()).wrapping_add(number))
}

fn host_v6(net: Ipv6Net, number: u32) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(net.network()).wrapping_add(u128::from(as_written(number))))
}

/// The number that reads the same in hexadecimal, so that `10.244.1.10` and `fd00:10:244:1::10` are seen to be one pod's.
fn as_written(mut number: u32) -> u64 {
    let (mut out, mut shift) = (0, 0);
    while number > 0 {
        out |= u64::from(number % 10) << shift;
        number /= 10;
        shift += 4;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan() {
        let show = |index| {
            let ((a, b), (c, d)) = (node(index), pod_cidrs(index));
            format!("{a} {b} {c} {d}")
        };
        assert_eq!(show(1), "172.30.0.11 fd00:172:30::11 10.244.1.0/24 fd00:10:244:1::/64");
        assert_eq!(show(MAX_NODES), "172.30.0.254 fd00:172:30::254 10.244.244.0/24 fd00:10:244:244::/64");
    }

    #[test]
    fn addresses_to_give_out() {
        let cases = [
            ("10.244.1.0/24", 245, "10.244.1.10", "10.244.1.254"),
            ("10.0.0.0/30", 2, "10.0.0.1", "10.0.0.2"),
            ("255.255.255.0/24", 245, "255.255.255.10", "255.255.255.254"),
            ("fd00:10:244:1::/64", 99_990, "fd00:10:244:1::10", "fd00:10:244:1::9:9999"),
            ("fd00::/124", 9, "fd00::1", "fd00::9"),
            ("fd00::/120", 90, "fd00::10", "fd00::99"),
        ];
        for (cidr, count, first, last) in cases {
            let all: Vec<_> = pods_of(cidr.parse().unwrap()).map(|address| address.to_string()).collect();
            assert_eq!((all.len(), &*all[0], &**all.last().unwrap()), (count, first, last), "{cidr}");
        }
        assert_eq!(services_of(SERVICES_V4.into()).next().unwrap().to_string(), "10.96.0.11");
        assert_eq!(services_of(SERVICES_V6.into()).next().unwrap().to_string(), "fd00:10:96::11");
        assert_eq!(services_of(SERVICES_V6.into()).count(), 9_989);
    }

    #[test]
    fn only_single_hosts_of_tiny_ranges() {
        assert_eq!(pods_of("10.0.0.5/32".parse().unwrap()).count(), 0);
        assert_eq!(pods_of("255.255.255.255/32".parse().unwrap()).count(), 0);
    }
}
