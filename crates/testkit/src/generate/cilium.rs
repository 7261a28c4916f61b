//! Random Cilium policies and CIDR groups.

use ipnet::IpNet;
use strait_api::{
    CiliumAuthentication, CiliumCidrGroup, CiliumCidrRule, CiliumCidrSource, CiliumCloudGroup, CiliumDefaultDeny,
    CiliumEntity, CiliumIcmpField, CiliumNetworkPolicy, CiliumPeers, CiliumRule, CiliumService, CiliumSubject,
    CiliumTrafficRule,
};
use strait_base::Labels;

use super::{
    Universe,
    cilium_ports::{fqdn, port_rules},
    cilium_select::{group_selector, node_selector, peer_selector, service_selector, subject_selector},
    cluster::{labels, meta},
    nowhere, policy,
    words::{CIDR_GROUPS, GROUP_LABELS, NAMESPACES, NO_SUCH, SERVICES},
};
use crate::draw::Draw;

/// Which rules of a policy: peers and ports differ.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) egress: bool,
    pub(super) deny: bool,
    pub(super) of_nodes: bool,
}

/// A policy; of no namespace: a clusterwide one.
pub fn cilium_policy(draw: &mut Draw, universe: &Universe, namespace: Option<&str>, name: &str) -> CiliumNetworkPolicy {
    let mut meta = meta(namespace.unwrap_or_default(), name, Labels::default());
    policy::audit(draw, &mut meta);
    let count = draw.weighted(&[(5, 1), (1, 2)]);
    CiliumNetworkPolicy {
        meta,
        clusterwide: namespace.is_none(),
        rules: (0..count).map(|_| rule(draw, universe, namespace)).collect(),
    }
}

fn rule(draw: &mut Draw, universe: &Universe, namespace: Option<&str>) -> CiliumRule {
    let of_nodes = namespace.is_none() && draw.chance(25);
    let subject = if of_nodes {
        CiliumSubject::Nodes(node_selector(draw))
    } else {
        CiliumSubject::Endpoints(subject_selector(draw, namespace.is_none()))
    };
    let (ingress, egress) = draw.weighted(&[(3, (true, false)), (3, (false, true)), (3, (true, true))]);
    let (allow, deny) = draw.weighted(&[(5, (true, false)), (2, (false, true)), (3, (true, true))]);
    let enable_default_deny = CiliumDefaultDeny { ingress: default_deny(draw), egress: default_deny(draw) };
    let mut rules = |wanted: bool, section: Section| -> Vec<CiliumTrafficRule> {
        let count = if wanted { draw.weighted(&[(5, 1), (3, 2), (1, 3)]) } else { 0 };
        (0..count).map(|_| traffic_rule(draw, universe, section)).collect()
    };
    CiliumRule {
        subject,
        ingress: rules(ingress && allow, Section { egress: false, deny: false, of_nodes }),
        ingress_deny: rules(ingress && deny, Section { egress: false, deny: true, of_nodes }),
        egress: rules(egress && allow, Section { egress: true, deny: false, of_nodes }),
        egress_deny: rules(egress && deny, Section { egress: true, deny: true, of_nodes }),
        enable_default_deny,
        labels: Vec::new(),
        description: None,
        log: None,
        location: nowhere(),
    }
}

fn default_deny(draw: &mut Draw) -> Option<bool> {
    draw.weighted(&[(6, None), (1, Some(true)), (3, Some(false))])
}

fn traffic_rule(draw: &mut Draw, universe: &Universe, section: Section) -> CiliumTrafficRule {
    let peers = peers(draw, universe, section);
    let (mut ports, mut icmps) = (Vec::new(), Vec::new());
    let no_ports = matches!(peers, CiliumPeers::Services(_));
    match draw.below(10) {
        0..=3 => {}
        4 => icmps = (0..draw.between(1, 2)).map(|_| icmp_fields(draw)).collect(),
        _ if no_ports => {}
        _ => ports = port_rules(draw, section),
    }
    let authentication = draw.weighted(&[
        (30, None),
        (1, Some(CiliumAuthentication::Disabled)),
        (1, Some(CiliumAuthentication::Required)),
        (1, Some(CiliumAuthentication::TestAlwaysFail)),
    ]);
    CiliumTrafficRule {
        peers,
        ports,
        icmps,
        authentication: authentication.filter(|_| !section.deny),
        location: nowhere(),
    }
}

fn icmp_fields(draw: &mut Draw) -> Vec<CiliumIcmpField> {
    let field = |draw: &mut Draw| {
        let ipv6 = draw.chance(40);
        let icmp_type = if ipv6 { *draw.pick(&[128, 128, 129, 1, 8]) } else { *draw.pick(&[8, 8, 0, 3, 128]) };
        CiliumIcmpField { ipv6, icmp_type }
    };
    (0..draw.between(1, 3)).map(|_| field(draw)).collect()
}

fn peers(draw: &mut Draw, universe: &Universe, section: Section) -> CiliumPeers {
    let some = |draw: &mut Draw| draw.weighted(&[(1, 0), (9, 1), (4, 2)]);
    match draw.below(25) {
        0 | 1 => CiliumPeers::Any,
        2..=8 => CiliumPeers::Endpoints((0..some(draw)).map(|_| peer_selector(draw)).collect()),
        9 | 10 => CiliumPeers::Cidrs((0..some(draw)).map(|_| policy::block(draw, universe).0).collect()),
        11..=14 => CiliumPeers::CidrSets((0..some(draw)).map(|_| cidr_rule(draw, universe)).collect()),
        15..=19 => CiliumPeers::Entities((0..some(draw)).map(|_| *draw.pick(&CiliumEntity::ALL)).collect()),
        20 => CiliumPeers::Nodes((0..some(draw)).map(|_| node_selector(draw)).collect()),
        21 | 22 if section.egress => CiliumPeers::Services((0..draw.between(1, 2)).map(|_| service(draw)).collect()),
        23 if section.egress && !section.deny => {
            CiliumPeers::Fqdns((0..draw.between(1, 2)).map(|_| fqdn(draw)).collect())
        }
        24 => {
            let group = CiliumCloudGroup { security_group_ids: vec!["sg-0123".into()], ..CiliumCloudGroup::default() };
            CiliumPeers::Groups(vec![group])
        }
        _ => CiliumPeers::Endpoints(vec![peer_selector(draw)]),
    }
}

fn cidr_rule(draw: &mut Draw, universe: &Universe) -> CiliumCidrRule {
    let (cidr, except) = policy::block(draw, universe);
    let source = match draw.below(10) {
        0..=5 => CiliumCidrSource::Cidr(cidr),
        6 | 7 => {
            let name = if draw.chance(90) { *draw.pick(&CIDR_GROUPS) } else { NO_SUCH };
            CiliumCidrSource::Group(name.into())
        }
        _ => CiliumCidrSource::GroupSelector(group_selector(draw)),
    };
    CiliumCidrRule { source, except, location: nowhere() }
}

fn service(draw: &mut Draw) -> CiliumService {
    let namespace = draw.chance(60).then(|| (*draw.pick(&NAMESPACES)).into());
    if draw.chance(60) {
        CiliumService::Named { name: (*draw.pick(&SERVICES)).into(), namespace }
    } else {
        CiliumService::Selected { selector: service_selector(draw), namespace }
    }
}

/// A CIDR group.
pub fn cidr_group(draw: &mut Draw, universe: &Universe, name: &str) -> CiliumCidrGroup {
    let labels = labels(draw, &GROUP_LABELS, 60);
    let external_cidrs: Vec<IpNet> = (0..draw.between(1, 3)).map(|_| policy::block(draw, universe).0).collect();
    CiliumCidrGroup { meta: meta("", name, labels), external_cidrs }
}
