//! Random `toPorts`, with and without what only a proxy can judge.

use strait_api::{
    CiliumFqdn, CiliumHttpRule, CiliumL7Rules, CiliumListener, CiliumPort, CiliumPortRule, CiliumSecret,
    CiliumTlsContext, PortRef,
};
use strait_base::Protocol;

use super::{
    cilium::Section,
    nowhere,
    words::{PORT_NAMES, port},
};
use crate::draw::Draw;

pub(super) fn port_rules(draw: &mut Draw, section: Section) -> Vec<CiliumPortRule> {
    (0..draw.weighted(&[(5, 1), (1, 2)])).map(|_| port_rule(draw, section)).collect()
}

fn port_rule(draw: &mut Draw, section: Section) -> CiliumPortRule {
    let mut rule = CiliumPortRule {
        ports: (0..draw.weighted(&[(1, 0), (12, 1), (6, 2), (3, 3)])).map(|_| cilium_port(draw)).collect(),
        l7: None,
        server_names: Vec::new(),
        terminating_tls: None,
        originating_tls: None,
        listener: None,
        location: nowhere(),
    };
    if section.deny || section.of_nodes || draw.chance(75) {
        return rule;
    }
    match draw.below(5) {
        0 | 1 => {
            rule.ports = vec![tcp(port(draw))];
            let http = CiliumHttpRule { path: Some("/public/.*".into()), ..CiliumHttpRule::default() };
            rule.l7 = Some(CiliumL7Rules::Http(vec![http]));
            if draw.chance(20) {
                rule.terminating_tls = Some(tls());
                rule.server_names = vec!["www.example.com".into()];
            }
        }
        2 if section.egress => {
            rule.ports =
                vec![CiliumPort { protocol: draw.weighted(&[(1, None), (1, Some(Protocol::Udp))]), ..tcp(53) }];
            rule.l7 = Some(CiliumL7Rules::Dns(vec![fqdn(draw)]));
        }
        3 if section.egress => {
            rule.ports = vec![tcp(port(draw))];
            rule.listener = Some(CiliumListener {
                config_kind: None,
                config_name: "envoy".into(),
                name: "listener".into(),
                priority: None,
            });
        }
        _ => {
            rule.ports = vec![tcp(port(draw))];
            rule.server_names = vec!["www.example.com".into()];
        }
    }
    rule
}

fn tcp(number: u16) -> CiliumPort {
    CiliumPort {
        port: Some(PortRef::Number(number)),
        end_port: None,
        protocol: Some(Protocol::Tcp),
        location: nowhere(),
    }
}

fn tls() -> CiliumTlsContext {
    CiliumTlsContext {
        secret: CiliumSecret { namespace: Some("alpha".into()), name: "tls".into() },
        trusted_ca: None,
        certificate: None,
        private_key: None,
    }
}

fn cilium_port(draw: &mut Draw) -> CiliumPort {
    let protocol =
        draw.weighted(&[(5, Some(Protocol::Tcp)), (2, Some(Protocol::Udp)), (1, Some(Protocol::Sctp)), (4, None)]);
    let (port, end_port) = match draw.below(10) {
        0 => (None, None),
        1 | 2 => (Some(PortRef::Name((*draw.pick(&PORT_NAMES)).into())), None),
        3..=6 => (Some(PortRef::Number(port(draw))), None),
        _ => {
            let (one, other) = (port(draw), port(draw));
            let end = (one != other).then_some(one.max(other));
            (Some(PortRef::Number(one.min(other))), end)
        }
    };
    CiliumPort { port, end_port, protocol, location: nowhere() }
}

pub(super) fn fqdn(draw: &mut Draw) -> CiliumFqdn {
    if draw.chance(50) {
        CiliumFqdn::Name("www.example.com".into())
    } else {
        CiliumFqdn::Pattern("*.example.com".into())
    }
}
