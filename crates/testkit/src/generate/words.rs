//! The small universe that values are drawn from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::draw::Draw;

/// Namespaces: two that are declared, one that is only used.
pub(super) const NAMESPACES: [&str; 3] = ["alpha", "beta", "gamma"];

/// Label keys of pods, with their values. An empty value is legal and not the same as none.
pub(super) const POD_LABELS: [(&str, &[&str]); 3] =
    [("app", &["web", "db", "api"]), ("tier", &["front", "back", ""]), ("example.com/version", &["1", "2"])];

/// Label keys of namespaces, with their values.
pub(super) const NAMESPACE_LABELS: [(&str, &[&str]); 2] = [("team", &["x", "y"]), ("env", &["prod", "dev", ""])];

/// Label keys of nodes, with their values.
pub(super) const NODE_LABELS: [(&str, &[&str]); 2] =
    [("topology.kubernetes.io/zone", &["east", "west"]), ("node-role.kubernetes.io/control-plane", &[""])];

/// Label keys of services, with their values.
pub(super) const SERVICE_LABELS: [(&str, &[&str]); 1] = [("kind", &["inside", "outside"])];

/// Label keys of CIDR groups, with their values.
pub(super) const GROUP_LABELS: [(&str, &[&str]); 1] = [("owner", &["us", "them"])];

/// Service accounts that pods have.
pub(super) const ACCOUNTS: [&str; 2] = ["default", "robot"];

/// Services that policies mention; now and then one is not there.
pub(super) const SERVICES: [&str; 2] = ["inner", "outer"];

/// CIDR groups that policies mention; now and then one is not there.
pub(super) const CIDR_GROUPS: [&str; 2] = ["group-0", "group-1"];

/// A value that no label has.
pub(super) const NO_SUCH: &str = "other";

/// Names of ports; the last one is declared by no pod.
pub(super) const PORT_NAMES: [&str; 4] = ["http", "dns", "metrics", "absent"];

/// Ports that pods declare and policies mention: neighbours, and both ends of the range.
pub(super) const PORTS: [u16; 9] = [1, 53, 80, 81, 443, 8080, 8081, 9090, 65_535];

/// Addresses outside the cluster, on both sides of prefixes that policies use; the first is the lab's client.
pub const OUTSIDE_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(203, 0, 113, 10), Ipv4Addr::new(203, 0, 113, 130), Ipv4Addr::new(203, 0, 113, 131)];
/// As [`OUTSIDE_V4`].
pub const OUTSIDE_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10),
    Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0x8000, 0, 0, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0x8000, 0, 0, 2),
];

/// Blocks around pods, nodes and the outside, wide and narrow.
pub(super) const BLOCKS: [&str; 22] = [
    "0.0.0.0/0",
    "0.0.0.0/1",
    "10.0.0.0/8",
    "10.244.0.0/16",
    "10.244.1.0/24",
    "10.244.1.8/29",
    "10.244.1.10/32",
    "10.244.2.0/24",
    "172.30.0.0/24",
    "172.30.0.11/32",
    "203.0.113.0/24",
    "203.0.113.128/25",
    "203.0.113.10/32",
    "::/0",
    "fc00::/7",
    "fd00:10:244::/48",
    "fd00:10:244:1::/64",
    "fd00:10:244:1::10/128",
    "fd00:10:244:2::/64",
    "fd00:172:30::/64",
    "2001:db8:113::/64",
    "2001:db8:113:0:8000::/65",
];

/// All addresses outside.
pub(super) fn outside() -> impl Iterator<Item = IpAddr> {
    OUTSIDE_V4.into_iter().map(IpAddr::V4).chain(OUTSIDE_V6.into_iter().map(IpAddr::V6))
}

/// A port: of the universe, now and then any.
pub(super) fn port(draw: &mut Draw) -> u16 {
    if draw.chance(92) { *draw.pick(&PORTS) } else { u16::try_from(draw.between(1, 65_535)).unwrap_or(1) }
}
