//! What the node itself sends and receives, where host policies select it.

use std::net::IpAddr;

use super::super::Wire;
use super::world::{Content, FAMILIES, NODE_MAC, node, outside, peer, pod, rx, tx};
use super::{PEER, SUBJECT, Vector};
use crate::abi::{Direction, DropReason, Hook};
use crate::hooks::Verdict;
use crate::host::tcp_flags::{ACK, PSH, SYN};
use crate::parse::protocol::{TCP, UDP};

use Direction::{Egress, Ingress};

const DENIED: Verdict = Verdict::Drop(DropReason::PolicyDenied);
const WORLD: u32 = super::world::WORLD;
const IN: Hook = Hook::FromUplink;
const OUT: Hook = Hook::ToUplink;

pub(super) fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    for (v6, family) in FAMILIES {
        all.extend(at_the_uplink(v6, family));
        all.extend(at_the_pod(v6, family));
        all.extend(messages(v6, family));
    }
    all.extend(of_the_link());
    all
}

/// From outside to the node.
fn arriving(v6: bool) -> Wire {
    rx(v6).src(outside(v6)).dst(node(v6))
}

/// From the node to outside.
fn leaving(v6: bool) -> Wire {
    tx(v6).src(node(v6)).dst(outside(v6))
}

/// A node that speaks with nobody, and a pod that speaks with everybody.
fn closed(revision: u32) -> Content {
    Content::open(revision).with_host().host_isolated(Ingress).host_isolated(Egress)
}

fn at_the_uplink(v6: bool, family: &str) -> Vec<Vector> {
    let ssh = |revision| closed(revision).host_allow(Ingress, WORLD, TCP, 22);
    vec![
        Vector::new(format!("{family}: the node lets in what a rule allows, and the replies out"), ssh(1))
            .send(IN, arriving(v6).tcp(4000, 22, SYN), Verdict::Pass)
            .send(OUT, leaving(v6).tcp(22, 4000, SYN | ACK), Verdict::Pass)
            .send(IN, arriving(v6).tcp(4000, 22, PSH | ACK), Verdict::Pass)
            .send(IN, arriving(v6).tcp(4000, 23, SYN), DENIED)
            .send(IN, arriving(v6).udp(4000, 22), DENIED)
            .send(OUT, leaving(v6).tcp(4001, 443, SYN), DENIED)
            .send(IN, arriving(v6).src(peer(v6)).tcp(4000, 22, SYN), DENIED)
            .load(closed(2))
            .send(IN, arriving(v6).tcp(4000, 22, PSH | ACK), DENIED)
            .send(OUT, leaving(v6).tcp(22, 4000, PSH | ACK), DENIED)
            .load(ssh(3))
            .send(IN, arriving(v6).tcp(4000, 22, PSH | ACK), Verdict::Pass),
        Vector::new(
            format!("{family}: the node sends what a rule allows, and lets the replies in"),
            closed(1).host_allow(Egress, PEER, UDP, 53),
        )
        .send(OUT, leaving(v6).dst(peer(v6)).udp(4000, 53), Verdict::Pass)
        .send(IN, arriving(v6).src(peer(v6)).udp(53, 4000), Verdict::Pass)
        .send(OUT, leaving(v6).udp(4000, 53), DENIED)
        .send(IN, arriving(v6).src(peer(v6)).udp(53, 4001), DENIED),
        Vector::new(format!("{family}: what the node forwards is not its own"), closed(1))
            .send(IN, arriving(v6).dst(pod(v6)).tcp(4000, 80, SYN), Verdict::Pass)
            .send(OUT, leaving(v6).src(pod(v6)).tcp(80, 4000, SYN | ACK), Verdict::Pass)
            .send(OUT, leaving(v6).src(pod(v6)).tcp(4000, 443, SYN), Verdict::Pass),
        Vector::new(format!("{family}: fragments to the node"), closed(1).host_allow(Ingress, WORLD, UDP, 53))
            .send(IN, arriving(v6).fragment(1, 0, true).ip(UDP, &crate::host::build::udp(4000, 53, 16)), Verdict::Pass)
            .send(IN, arriving(v6).fragment(1, 24, false).ip(UDP, &[1; 16]), Verdict::Pass)
            .send(
                IN,
                arriving(v6).fragment(2, 24, false).ip(UDP, &[1; 16]),
                Verdict::Drop(DropReason::FragmentNotFound),
            ),
        Vector::new(
            format!("{family}: a node whose policies are not loaded is closed"),
            Content { host: crate::abi::Config::HOST_CLOSED, ..Content::open(1) },
        )
        .send(IN, arriving(v6).tcp(4000, 22, SYN), Verdict::Drop(DropReason::NoPolicy))
        .send(OUT, leaving(v6).udp(4000, 53), Verdict::Drop(DropReason::NoPolicy)),
        Vector::new(format!("{family}: without host policies nothing of the node is judged"), Content::open(1))
            .send(IN, arriving(v6).tcp(4000, 22, SYN), Verdict::Pass)
            .send(IN, arriving(v6).tcp(4000, 22, ACK), Verdict::Pass),
    ]
}

fn at_the_pod(v6: bool, family: &str) -> Vec<Vector> {
    let to_node = || tx(v6).dst(node(v6));
    let to_pod = || rx(v6).src(node(v6));
    vec![
        Vector::new(
            format!("{family}: own pods reach the node by its rules"),
            closed(1).host_allow(Ingress, SUBJECT, TCP, 22),
        )
        .out(to_node().tcp(4000, 22, SYN))
        .into(to_pod().tcp(22, 4000, SYN | ACK))
        .out(to_node().tcp(4000, 22, ACK))
        .out_dropped(to_node().tcp(4000, 23, SYN), DropReason::PolicyDenied)
        .out_dropped(to_node().ping(1), DropReason::PolicyDenied)
        .out(tx(v6).tcp(4000, 23, SYN)),
        Vector::new(
            format!("{family}: the node reaches own pods by its rules"),
            closed(1).host_allow(Egress, SUBJECT, TCP, 80),
        )
        .into(to_pod().tcp(4000, 80, SYN))
        .out(to_node().tcp(80, 4000, SYN | ACK))
        .into(to_pod().tcp(4000, 80, ACK))
        .into_dropped(to_pod().tcp(4000, 81, SYN), DropReason::PolicyDenied)
        .into(rx(v6).tcp(4000, 81, SYN)),
        Vector::new(
            format!("{family}: both the pod and the node have to agree"),
            Content::closed(1).all(Ingress).with_host().host_all(Ingress).host_all(Egress),
        )
        .out_dropped(to_node().tcp(4000, 22, SYN), DropReason::PolicyDenied)
        .into(to_pod().tcp(4000, 80, SYN))
        .out(to_node().tcp(80, 4000, SYN | ACK)),
        Vector::new(format!("{family}: pings between the node and a pod have a side each"), closed(1).host_all(Egress))
            .into(to_pod().ping(7))
            .out(to_node().pong(7))
            .out_dropped(to_node().ping(7), DropReason::PolicyDenied)
            .out_dropped(to_node().pong(8), DropReason::PolicyDenied),
    ]
}

fn messages(v6: bool, family: &str) -> Vec<Vector> {
    let unrelated = Verdict::Drop(DropReason::UnrelatedIcmpError);
    vec![
        Vector::new(format!("{family}: pings to the node"), closed(1).host_all(Egress))
            .send(IN, arriving(v6).ping(1), DENIED)
            .send(OUT, leaving(v6).ping(1), Verdict::Pass)
            .send(IN, arriving(v6).pong(1), Verdict::Pass),
        Vector::new(
            format!("{family}: ICMP errors about what the node sent, and those it sends"),
            closed(1).host_allow(Egress, WORLD, UDP, 53),
        )
        .send(OUT, leaving(v6).udp(4000, 53), Verdict::Pass)
        .send(IN, arriving(v6).unreachable(&leaving(v6).udp(4000, 53)), Verdict::Pass)
        .send(IN, arriving(v6).unreachable(&leaving(v6).udp(4001, 53)), unrelated)
        .send(OUT, leaving(v6).unreachable(&arriving(v6).udp(4000, 99)), Verdict::Pass),
    ]
}

/// ARP and neighbour discovery always pass; link-local addresses are the node's as others are.
fn of_the_link() -> Vec<Vector> {
    let local: IpAddr = [0xfe80, 0, 0, 0, 0, 0, 0, 1].into();
    let neighbour: IpAddr = [0xfe80, 0, 0, 0, 0, 0, 0, 2].into();
    let group: IpAddr = [0xff02, 0, 0, 0, 0, 0, 0, 1].into();
    let from_link = || Wire::new([2, 0, 0, 0, 0, 9], NODE_MAC, neighbour, local);
    let to_link = || Wire::new(NODE_MAC, [2, 0, 0, 0, 0, 9], local, neighbour);
    let solicitation = [135, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    vec![
        Vector::new("a closed node speaks ARP and neighbour discovery", closed(1))
            .send(IN, rx(false).ethernet(0x0806, &[0; 28]), Verdict::Pass)
            .send(OUT, tx(false).ethernet(0x0806, &[0; 28]), Verdict::Pass)
            .send(IN, from_link().hop_limit(255).ip(58, &solicitation), Verdict::Pass)
            .send(OUT, to_link().hop_limit(255).ip(58, &solicitation), Verdict::Pass)
            .send(IN, arriving(true).hop_limit(64).ip(58, &solicitation), DENIED)
            .send(IN, from_link().dst(group).udp(4000, 5353), Verdict::Pass),
        Vector::new("link-local addresses are no way around host policies", closed(1))
            .send(IN, from_link().tcp(4000, 22, SYN), DENIED)
            .send(OUT, to_link().tcp(4000, 22, SYN), DENIED),
    ]
}
