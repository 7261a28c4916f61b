//! Echo, and errors about connections.

use super::world::{Content, FAMILIES, node, other, outside, pod, rx, tx};
use super::{PEER, Vector};
use crate::abi::{Direction, DropReason, PortSetKey, RuleVerdict};
use crate::host::tcp_flags::{ACK, SYN};
use crate::parse::protocol::{ICMP, ICMPV6, TCP, UDP};

use Direction::{Egress, Ingress};

const DENIED: DropReason = DropReason::PolicyDenied;
const UNRELATED: DropReason = DropReason::UnrelatedIcmpError;

pub(super) fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    for (v6, family) in FAMILIES {
        all.extend(echo(v6, family));
        all.extend(errors(v6, family));
        all.extend(forged(v6, family));
    }
    all.push(
        Vector::new("IPv4: redirect and source quench", Content::open(1))
            .out_dropped(tx(false).icmp(5, 1, &[0; 32]), DropReason::ForbiddenIcmpv4)
            .into_dropped(rx(false).icmp(4, 0, &[0; 32]), DropReason::ForbiddenIcmpv4),
    );
    all.push(
        Vector::new("IPv4: a timestamp request allows no timestamp request back", Content::closed(1).all(Egress))
            .out(tx(false).icmp(13, 0, &[0; 16]))
            .into_dropped(rx(false).icmp(13, 0, &[0; 16]), DENIED),
    );
    all
}

fn echo(v6: bool, family: &str) -> Vec<Vector> {
    let (protocol, request) = if v6 { (ICMPV6, 128) } else { (ICMP, 8) };
    vec![
        Vector::new(format!("{family}: echo by type"), Content::closed(1).allow(Egress, PEER, protocol, request))
            .out(tx(v6).ping(1))
            .into(rx(v6).pong(1))
            .into_dropped(rx(v6).pong(2), DENIED)
            .into_dropped(rx(v6).ping(1), DENIED)
            .out_dropped(tx(v6).pong(1), DENIED)
            .out_dropped(tx(v6).dst(other(v6)).ping(1), DENIED),
        Vector::new(format!("{family}: an answer nobody asked for opens nothing"), Content::closed(1).all(Egress))
            .out(tx(v6).pong(7))
            .into_dropped(rx(v6).ping(7), DENIED)
            .into_dropped(rx(v6).pong(7), DENIED),
        Vector::new(
            format!("{family}: echo that policy now denies"),
            Content::closed(1).allow(Ingress, PEER, protocol, request),
        )
        .into(rx(v6).ping(3))
        .out(tx(v6).pong(3))
        .load(Content::closed(2))
        .out_dropped(tx(v6).pong(3), DENIED)
        .into_dropped(rx(v6).ping(3), DENIED),
    ]
}

fn errors(v6: bool, family: &str) -> Vec<Vector> {
    let egress = |revision| Content::closed(revision).allow(Egress, PEER, TCP, 80).allow(Egress, PEER, UDP, 53);
    let syn = || tx(v6).tcp(4000, 80, SYN);
    let router = outside(v6);
    let echo_allowed = Content::closed(1).all(Egress);
    vec![
        Vector::new(format!("{family}: errors about what the pod sent"), egress(1))
            .out(syn())
            .out(tx(v6).udp(4000, 53))
            .into(rx(v6).unreachable(&syn()))
            .into(rx(v6).src(router).unreachable(&syn()))
            .into(rx(v6).unreachable(&tx(v6).udp(4000, 53)))
            .into(rx(v6).unreachable(&syn()[..if v6 { 62 } else { 42 }])),
        Vector::new(format!("{family}: errors about an echo"), echo_allowed)
            .out(tx(v6).ping(9))
            .into(rx(v6).src(router).unreachable(&tx(v6).ping(9)))
            .into_dropped(rx(v6).src(router).unreachable(&tx(v6).ping(10)), UNRELATED),
        Vector::new(
            format!("{family}: errors about what the pod received"),
            Content::closed(1).allow(Ingress, PEER, UDP, 53),
        )
        .into(rx(v6).udp(4000, 53))
        .out(tx(v6).unreachable(&rx(v6).udp(4000, 53)))
        .out_dropped(tx(v6).unreachable(&rx(v6).udp(4001, 53)), UNRELATED),
        Vector::new(format!("{family}: errors about what policy now denies"), egress(1))
            .out(syn())
            .into(rx(v6).tcp(80, 4000, SYN | ACK))
            .load(Content::closed(2))
            .into_dropped(rx(v6).src(router).unreachable(&syn()), DENIED)
            .into_dropped(rx(v6).src(router).unreachable(&syn()), UNRELATED),
    ]
}

fn forged(v6: bool, family: &str) -> Vec<Vector> {
    let open = || Content::open(1);
    let syn = || tx(v6).tcp(4000, 80, SYN);
    let header = if v6 { 54 } else { 34 };
    vec![
        Vector::new(format!("{family}: errors about no connection"), open())
            .into_dropped(rx(v6).unreachable(&syn()), UNRELATED)
            .out_dropped(tx(v6).unreachable(&rx(v6).tcp(4000, 80, SYN)), UNRELATED)
            .out(syn())
            .into_dropped(rx(v6).unreachable(&tx(v6).tcp(4001, 80, SYN)), UNRELATED)
            .into_dropped(rx(v6).unreachable(&tx(v6).udp(4000, 80)), UNRELATED),
        // A packet that never went cannot have caused an error.
        Vector::new(format!("{family}: errors about the direction nothing went"), open())
            .out(syn())
            .out_dropped(tx(v6).unreachable(&rx(v6).tcp(80, 4000, ACK)), UNRELATED)
            .into_dropped(rx(v6).unreachable(&rx(v6).tcp(80, 4000, ACK)), UNRELATED),
        Vector::new(format!("{family}: errors that go to someone else than the sender"), open())
            .into(rx(v6).udp(4000, 53))
            .out_dropped(tx(v6).dst(other(v6)).unreachable(&rx(v6).udp(4000, 53)), UNRELATED)
            .out_dropped(tx(v6).unreachable(&rx(v6).dst(other(v6)).udp(4000, 53)), UNRELATED)
            .out_dropped(tx(v6).dst(node(v6)).unreachable(&syn().clone()), UNRELATED),
        Vector::new(format!("{family}: errors that quote too little, or a later fragment"), open())
            .out(syn())
            .into_dropped(rx(v6).unreachable(&syn()[..header]), UNRELATED)
            .into_dropped(rx(v6).unreachable(&syn()[..header + 7]), UNRELATED)
            .into_dropped([rx(v6).unreachable(&syn()[..header]), syn()[header..].to_vec()].concat(), UNRELATED)
            .into_dropped(rx(v6).unreachable(&[]), UNRELATED)
            .into_dropped(rx(v6).unreachable(&tx(v6).fragment(1, 8, false).tcp(4000, 80, SYN)), UNRELATED)
            .into_dropped(rx(v6).src(pod(v6)).dst(pod(v6)).unreachable(&rx(v6).tcp(80, 4000, SYN)), UNRELATED),
        Vector::new(
            format!("{family}: errors are judged as such, whatever policy allows"),
            Content::closed(1).rule(Egress, PEER, RuleVerdict::Allow, |set| {
                PortSetKey::protocol(set, if v6 { ICMPV6 } else { ICMP })
            }),
        )
        .out_dropped(tx(v6).unreachable(&rx(v6).udp(4000, 53)), UNRELATED),
    ]
}
