//! Random network policies.

use ipnet::IpNet;
use strait_api::{
    NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicyRule, ObjectMeta, PeerSelector, PortRef,
};
use strait_base::{LabelSelector, Labels, Operator, Protocol, Requirement};

use super::{
    Universe,
    cluster::meta,
    nowhere,
    words::{BLOCKS, NAMESPACE_LABELS, NAMESPACES, NO_SUCH, POD_LABELS, PORT_NAMES, port},
};
use crate::draw::Draw;

/// A policy. Every combination of types and rules comes up, also rules of a direction that the policy does not isolate.
pub fn network_policy(draw: &mut Draw, universe: &Universe, namespace: &str, name: &str) -> NetworkPolicy {
    let (isolates_ingress, isolates_egress) =
        draw.weighted(&[(3, (true, false)), (3, (false, true)), (4, (true, true))]);
    NetworkPolicy {
        meta: meta(namespace, name, Labels::default()),
        pod_selector: pod_selector(draw),
        isolates_ingress,
        isolates_egress,
        ingress: rules(draw, universe, isolates_ingress),
        egress: rules(draw, universe, isolates_egress),
    }
}

/// Now and then the policy is only audited.
pub(super) fn audit(draw: &mut Draw, meta: &mut ObjectMeta) {
    if draw.chance(8) {
        let value = if draw.chance(80) { "true" } else { "false" };
        meta.annotations.insert("strait.dev/audit".into(), value.into());
    }
}

fn rules(draw: &mut Draw, universe: &Universe, in_force: bool) -> Vec<NetworkPolicyRule> {
    let count = if in_force || draw.chance(10) { draw.weighted(&[(1, 0), (5, 1), (3, 2), (1, 3)]) } else { 0 };
    (0..count).map(|_| rule(draw, universe)).collect()
}

fn rule(draw: &mut Draw, universe: &Universe) -> NetworkPolicyRule {
    let peers = draw.weighted(&[(2, 0), (4, 1), (3, 2), (1, 3)]);
    let ports = draw.weighted(&[(5, 0), (4, 1), (2, 2), (1, 3)]);
    NetworkPolicyRule {
        peers: (0..peers).map(|_| NetworkPolicyPeer { selects: peer(draw, universe), location: nowhere() }).collect(),
        ports: (0..ports).map(|_| policy_port(draw)).collect(),
        location: nowhere(),
    }
}

fn peer(draw: &mut Draw, universe: &Universe) -> PeerSelector {
    match draw.below(10) {
        0..=2 => PeerSelector::Pods(pod_selector(draw)),
        3 | 4 => PeerSelector::Namespaces(namespace_selector(draw)),
        5 | 6 => PeerSelector::NamespacedPods { namespaces: namespace_selector(draw), pods: pod_selector(draw) },
        _ => {
            let (cidr, except) = block(draw, universe);
            PeerSelector::IpBlock { cidr, except }
        }
    }
}

fn policy_port(draw: &mut Draw) -> NetworkPolicyPort {
    let protocol = draw.weighted(&[(5, Protocol::Tcp), (2, Protocol::Udp), (1, Protocol::Sctp)]);
    let (port, end_port) = match draw.below(10) {
        0 => (None, None),
        1..=3 => (Some(PortRef::Name((*draw.pick(&PORT_NAMES)).into())), None),
        4..=6 => (Some(PortRef::Number(port(draw))), None),
        _ => {
            let (one, other) = (port(draw), port(draw));
            (Some(PortRef::Number(one.min(other))), Some(one.max(other)))
        }
    };
    NetworkPolicyPort { protocol, port, end_port, location: nowhere() }
}

/// A block around an address in play or of the universe, and what is left out of it: prefixes strictly inside, which may overlap.
pub fn block(draw: &mut Draw, universe: &Universe) -> (IpNet, Vec<IpNet>) {
    let cidr = if draw.chance(70) || universe.addresses.is_empty() {
        (*draw.pick(&BLOCKS)).parse().unwrap_or_default()
    } else {
        let address = *draw.pick(&universe.addresses);
        around(draw, address, 0)
    };
    let mut inside: Vec<IpNet> = BLOCKS.iter().filter_map(|text| text.parse().ok()).collect();
    inside.retain(|net: &IpNet| cidr.contains(net) && *net != cidr);
    let within: Vec<_> = universe.addresses.iter().copied().filter(|address| cidr.contains(address)).collect();
    if !within.is_empty() && cidr.prefix_len() < cidr.max_prefix_len() {
        for _ in 0..3 {
            let address = *draw.pick(&within);
            inside.push(around(draw, address, cidr.prefix_len() + 1));
        }
    }
    let count = if inside.is_empty() { 0 } else { draw.weighted(&[(5, 0), (3, 1), (2, 2)]) };
    let except = (0..count).map(|_| *draw.pick(&inside)).collect();
    (cidr, except)
}

/// A prefix of at least `shortest` bits that has `address`.
fn around(draw: &mut Draw, address: std::net::IpAddr, shortest: u8) -> IpNet {
    let host = IpNet::from(address);
    let longest = host.prefix_len();
    // Long prefixes tell neighbours apart, short ones tell everything apart from everything else.
    let shortest = if draw.chance(60) { shortest.max(longest - 8) } else { shortest };
    let length = u8::try_from(draw.between(shortest.into(), longest.into())).unwrap_or(longest);
    IpNet::new(address, length).map_or(host, |net| net.trunc())
}

pub(super) fn pod_selector(draw: &mut Draw) -> LabelSelector {
    label_selector(draw, &POD_LABELS)
}

pub(super) fn namespace_selector(draw: &mut Draw) -> LabelSelector {
    if draw.chance(25) {
        let by_name = [("kubernetes.io/metadata.name", &NAMESPACES[..])];
        label_selector(draw, &by_name)
    } else {
        label_selector(draw, &NAMESPACE_LABELS)
    }
}

/// A selector over these keys and values: empty, by labels, by expressions of all four operators, or by both.
pub fn label_selector(draw: &mut Draw, universe: &[(&str, &[&str])]) -> LabelSelector {
    let mut selector = LabelSelector::default();
    if draw.chance(35) {
        return selector;
    }
    for _ in 0..draw.weighted(&[(3, 0), (5, 1), (1, 2)]) {
        let (key, values) = *draw.pick(universe);
        selector.match_labels.insert(key, value(draw, values));
    }
    for _ in 0..draw.weighted(&[(5, 0), (4, 1), (1, 2)]) {
        let (key, values) = *draw.pick(universe);
        let key = if draw.chance(95) { key } else { "unknown" };
        let some = |draw: &mut Draw| (0..draw.between(1, 3)).map(|_| value(draw, values).into()).collect();
        let operator = match draw.below(4) {
            0 => Operator::In(some(draw)),
            1 => Operator::NotIn(some(draw)),
            2 => Operator::Exists,
            _ => Operator::DoesNotExist,
        };
        selector.match_expressions.push(Requirement { key: key.into(), operator });
    }
    selector
}

fn value<'a>(draw: &mut Draw, values: &[&'a str]) -> &'a str {
    if draw.chance(93) { values[draw.below(values.len())] } else { NO_SUCH }
}
