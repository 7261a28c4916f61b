//! From the pair of identities to the port.

use super::world::{Content, FAMILIES, WORLD, node, other, outside, rx, tx};
use super::{HOST, OTHER, PEER, SUBJECT, Vector};
use crate::abi::{ANY_PEER, Direction, DropReason, PolicyKey, PortSetKey, RuleVerdict, port_prefixes};
use crate::host::tcp_flags::SYN;
use crate::parse::protocol::{SCTP, TCP, UDP};

use Direction::{Egress, Ingress};

const DENIED: DropReason = DropReason::PolicyDenied;

pub(super) fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    for (v6, family) in FAMILIES {
        all.extend([
            Vector::new(format!("{family}: nothing loaded is closed"), Content::unloaded(1))
                .out_dropped(tx(v6).tcp(4000, 80, SYN), DropReason::NoPolicy)
                .into_dropped(rx(v6).tcp(4000, 80, SYN), DropReason::NoPolicy),
            Vector::new(
                format!("{family}: one direction isolated"),
                Content::open(1).isolated(Ingress).isolated(Ingress),
            )
            .out(tx(v6).tcp(4000, 80, SYN)),
            peers(v6, family),
            ports(v6, family),
            verdicts(v6, family),
            isolation(v6, family),
        ]);
    }
    all
}

fn peers(v6: bool, family: &str) -> Vector {
    let content = Content::closed(1)
        .allow(Ingress, PEER, TCP, 80)
        .allow(Ingress, HOST, TCP, 8080)
        .allow(Egress, WORLD, TCP, 443)
        .allow(Egress, ANY_PEER, UDP, 53)
        .allow(Egress, OTHER, TCP, 5432);
    Vector::new(format!("{family}: the peer's own entry decides, else that for any"), content)
        .into(rx(v6).tcp(4000, 80, SYN))
        .into_dropped(rx(v6).tcp(4000, 8080, SYN), DENIED)
        .into_dropped(rx(v6).src(other(v6)).tcp(4000, 80, SYN), DENIED)
        .into(rx(v6).src(node(v6)).tcp(4000, 8080, SYN))
        .out(tx(v6).dst(outside(v6)).tcp(4000, 443, SYN))
        .out_dropped(tx(v6).dst(outside(v6)).udp(4000, 53), DENIED)
        .out(tx(v6).udp(4000, 53))
        .out(tx(v6).dst(other(v6)).tcp(4001, 5432, SYN))
        .out_dropped(tx(v6).dst(other(v6)).udp(4000, 53), DENIED)
}

fn ports(v6: bool, family: &str) -> Vector {
    let mut content = Content::closed(1).allow(Ingress, PEER, SCTP, 9);
    for (port, bits) in port_prefixes(8000, 8999) {
        content = content.rule(Ingress, PEER, RuleVerdict::Allow, |set| PortSetKey::port_prefix(set, TCP, port, bits));
    }
    content = content.rule(Ingress, PEER, RuleVerdict::Deny, |set| PortSetKey::port_prefix(set, TCP, 8500, 16));
    content = content.rule(Ingress, PEER, RuleVerdict::Allow, |set| PortSetKey::protocol(set, UDP));
    let mut vector = Vector::new(format!("{family}: ranges, whole protocols, and the longest match"), content);
    for (port, allowed) in [(7999, false), (8000, true), (8191, true), (8192, true), (8999, true), (9000, false)] {
        let frame = rx(v6).tcp(4000, port, SYN);
        vector = if allowed { vector.into(frame) } else { vector.into_dropped(frame, DENIED) };
    }
    vector
        .into_dropped(rx(v6).tcp(4000, 8500, SYN), DropReason::PolicyDeny)
        .into(rx(v6).udp(4000, 1))
        .into(rx(v6).udp(4000, 65535))
        .into(rx(v6).sctp(4000, 9, 1))
        .into_dropped(rx(v6).sctp(4000, 10, 1), DENIED)
}

fn verdicts(v6: bool, family: &str) -> Vector {
    let content = Content::closed(1)
        .rule(Egress, PEER, RuleVerdict::Audit, PortSetKey::any)
        .rule(Egress, PEER, RuleVerdict::Redirect, |set| PortSetKey::port_prefix(set, TCP, 80, 16))
        .rule(Egress, PEER, RuleVerdict::Deny, |set| PortSetKey::port_prefix(set, TCP, 81, 16));
    Vector::new(format!("{family}: audit passes, a proxy that is not there closes"), content)
        .out(tx(v6).tcp(4000, 82, SYN))
        .out_dropped(tx(v6).tcp(4000, 80, SYN), DropReason::ProxyUnavailable)
        .out_dropped(tx(v6).tcp(4000, 81, SYN), DropReason::PolicyDeny)
}

/// Ports that only isolation denies, within a wider rule's.
fn isolation(v6: bool, family: &str) -> Vector {
    let mut content = Content::closed(1).rule(Ingress, PEER, RuleVerdict::Deny, |set| PortSetKey::protocol(set, TCP));
    content = content.rule(Ingress, PEER, RuleVerdict::Deny, |set| PortSetKey::port_prefix(set, TCP, 80, 16));
    let isolates = content.policy.iter().find(|(key, _)| *key == PolicyKey::new(SUBJECT, Ingress, PEER));
    if let (Some((_, pair)), Some((_, entry))) = (isolates, content.port_sets.last_mut()) {
        entry.origin = pair.default_origin;
    }
    Vector::new(format!("{family}: an entry due to isolation is no rule"), content)
        .into_dropped(rx(v6).tcp(4000, 80, SYN), DENIED)
        .into_dropped(rx(v6).tcp(4000, 81, SYN), DropReason::PolicyDeny)
}
