//! What arrives at the node.

use std::net::IpAddr;

use super::world::{Content, FAMILIES, arriving, node, other, outside, pod, rx, tx};
use super::{PEER, Vector};
use crate::abi::{Direction, DropReason, Hook};
use crate::hooks::Verdict;
use crate::host::tcp_flags::{ACK, FIN, SYN};
use crate::parse::protocol::{TCP, UDP};

pub(super) fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    let at = Hook::FromUplink;
    let dropped = Verdict::Drop;
    for (v6, family) in FAMILIES {
        let content = || Content::unloaded(1);
        all.push(
            Vector::new(format!("{family}: the uplink lets the network in"), content())
                .send(at, rx(v6).tcp(4000, 80, SYN), Verdict::Pass)
                .send(at, rx(v6).src(outside(v6)).dst(node(v6)).tcp(4000, 22, SYN), Verdict::Pass)
                .send(at, rx(v6).fragment(1, 24, false).udp(1, 2), Verdict::Pass),
        );
        all.push(
            Vector::new(format!("{family}: the uplink knows who is at home"), content())
                .send(at, rx(v6).src(pod(v6)).tcp(4000, 80, SYN), dropped(DropReason::InvalidSourceIp))
                .send(at, rx(v6).src(node(v6)).tcp(4000, 80, SYN), dropped(DropReason::InvalidSourceIp)),
        );
    }
    for (v6, family) in FAMILIES {
        all.extend(shortcuts(v6, family));
    }
    let mapped: IpAddr = [0, 0, 0, 0, 0, 0xffff, 0x0a00, 0x0105].into();
    all.push(
        Vector::new("the uplink and what is not routed", Content::unloaded(1))
            .send(at, rx(false).ethernet(0x0806, &[0; 28]), Verdict::Pass)
            .send(at, rx(false).ethernet(0x88cc, &[0; 28]), Verdict::Pass)
            .send(at, rx(true).src(mapped).tcp(4000, 80, SYN), dropped(DropReason::MappedAddress))
            .send(
                at,
                rx(false).options(&[131, 7, 4, 10, 0, 2, 8, 0]).tcp(4000, 80, SYN),
                dropped(DropReason::SourceRouted),
            ),
    );
    all
}

/// Which packets go from the uplink to the pod past the host's stack, and what keeps them from it.
fn shortcuts(v6: bool, family: &str) -> Vec<Vector> {
    let content = |revision| Content::closed(revision).allow(Direction::Egress, PEER, TCP, 80);
    let answered = |name: &str| {
        Vector::new(format!("{family}: {name}"), content(1))
            .arrives(arriving(v6).tcp(80, 4000, SYN | ACK))
            .out(tx(v6).tcp(4000, 80, SYN))
            .delivered(arriving(v6).tcp(80, 4000, SYN | ACK))
            .out(tx(v6).tcp(4000, 80, ACK))
    };
    vec![
        answered("what a pod has asked for takes the shortcut, nothing else does")
            .delivered(arriving(v6).tcp(80, 4000, ACK))
            .arrives(arriving(v6).tcp(80, 4001, ACK))
            .arrives(arriving(v6).src(other(v6)).tcp(80, 4000, ACK))
            .arrives(arriving(v6).udp(80, 4000))
            .send(
                Hook::FromUplink,
                arriving(v6).src(node(v6)).tcp(80, 4000, ACK),
                Verdict::Drop(DropReason::InvalidSourceIp),
            ),
        answered("the shortcut is for plain packets")
            .arrives(arriving(v6).hop_limit(1).tcp(80, 4000, ACK))
            .arrives(arriving(v6).fragment(1, 0, true).tcp(80, 4000, ACK))
            .arrives(arriving(v6).tcp(80, 4000, SYN | FIN))
            .delivered(arriving(v6).hop_limit(2).tcp(80, 4000, ACK)),
        answered("a new connection on the same ports takes the long way")
            .arrives(arriving(v6).tcp(80, 4000, SYN))
            .into_dropped(rx(v6).tcp(80, 4000, SYN), DropReason::PolicyDenied)
            .delivered(arriving(v6).tcp(80, 4000, ACK)),
        answered("after a policy change the long way comes first")
            .load(content(2))
            .arrives(arriving(v6).tcp(80, 4000, ACK))
            .into(rx(v6).tcp(80, 4000, ACK))
            .delivered(arriving(v6).tcp(80, 4000, ACK))
            .load(Content::closed(3))
            .arrives(arriving(v6).tcp(80, 4000, ACK))
            .into_dropped(rx(v6).tcp(80, 4000, ACK), DropReason::PolicyDenied)
            .arrives(arriving(v6).tcp(80, 4000, ACK)),
        Vector::new(
            format!("{family}: before the pod has answered there is no shortcut"),
            Content::closed(1).allow(Direction::Ingress, PEER, UDP, 53),
        )
        .into(rx(v6).udp(4000, 53))
        .arrives(arriving(v6).udp(4000, 53))
        .out(tx(v6).udp(53, 4000))
        .delivered(arriving(v6).udp(4000, 53)),
    ]
}
