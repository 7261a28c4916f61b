//! What arrives at the node.

use std::net::IpAddr;

use super::Vector;
use super::world::{Content, FAMILIES, node, outside, pod, rx};
use crate::abi::{DropReason, Hook};
use crate::hooks::Verdict;
use crate::host::tcp_flags::SYN;

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
