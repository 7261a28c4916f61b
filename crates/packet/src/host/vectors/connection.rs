//! Replies, states, and policy that changes under a connection.

use super::world::{Content, FAMILIES, rx, tx};
use super::{PEER, Vector};
use crate::abi::{Direction, DropReason};
use crate::host::tcp_flags::{ACK, FIN, PSH, RST, SYN};
use crate::parse::protocol::{SCTP, TCP, UDP};

use Direction::{Egress, Ingress};

const DENIED: DropReason = DropReason::PolicyDenied;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const DATA: u8 = 0;

pub(super) fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    for (v6, family) in FAMILIES {
        all.extend(replies(v6, family));
        all.extend(tcp_ends(v6, family));
        all.extend(strangers(v6, family));
        all.extend(policy_changes(v6, family));
    }
    all
}

fn only_in(port: u16, revision: u32) -> Content {
    Content::closed(revision).allow(Ingress, PEER, TCP, port)
}

fn replies(v6: bool, family: &str) -> Vec<Vector> {
    let sctp = Content::closed(1).allow(Egress, PEER, SCTP, 9);
    vec![
        Vector::new(format!("{family}: TCP replies pass without a rule, new connections back do not"), only_in(80, 1))
            .into(rx(v6).tcp(4000, 80, SYN))
            .out(tx(v6).tcp(80, 4000, SYN | ACK))
            .into(rx(v6).tcp(4000, 80, ACK))
            .out(tx(v6).tcp(80, 4000, PSH | ACK))
            .out_dropped(tx(v6).tcp(80, 4001, SYN | ACK), DENIED)
            .out_dropped(tx(v6).tcp(80, 4000, SYN), DENIED)
            .out(tx(v6).tcp(80, 4000, ACK)),
        Vector::new(format!("{family}: UDP replies"), Content::closed(1).allow(Egress, PEER, UDP, 53))
            .into_dropped(rx(v6).udp(53, 4000), DENIED)
            .out(tx(v6).udp(4000, 53))
            .into(rx(v6).udp(53, 4000))
            .into_dropped(rx(v6).udp(53, 4001), DENIED)
            .into_dropped(rx(v6).udp(54, 4000), DENIED)
            .into_dropped(rx(v6).tcp(53, 4000, SYN | ACK), DENIED),
        Vector::new(format!("{family}: SCTP"), sctp)
            .out(tx(v6).sctp(4000, 9, INIT))
            .into(rx(v6).sctp(9, 4000, INIT_ACK))
            .out(tx(v6).sctp(4000, 9, DATA))
            .into(rx(v6).sctp(9, 4000, DATA))
            .into_dropped(rx(v6).sctp(9, 4000, INIT), DENIED)
            .into_dropped(rx(v6).sctp(9, 4001, INIT_ACK), DENIED),
    ]
}

fn tcp_ends(v6: bool, family: &str) -> Vec<Vector> {
    let opened = |name: &str| {
        Vector::new(format!("{family}: {name}"), Content::closed(1).allow(Egress, PEER, TCP, 80))
            .out(tx(v6).tcp(4000, 80, SYN))
            .into(rx(v6).tcp(80, 4000, SYN | ACK))
            .out(tx(v6).tcp(4000, 80, ACK))
    };
    vec![
        opened("TCP from SYN to the last ACK, and the same ports again")
            .out(tx(v6).tcp(4000, 80, FIN | ACK))
            .into(rx(v6).tcp(80, 4000, FIN | ACK))
            .out(tx(v6).tcp(4000, 80, ACK))
            .into(rx(v6).tcp(80, 4000, ACK))
            .into_dropped(rx(v6).tcp(80, 4000, SYN), DENIED)
            .out(tx(v6).tcp(4000, 80, SYN))
            .into(rx(v6).tcp(80, 4000, SYN | ACK)),
        opened("TCP reset, after which only a permitted SYN opens again")
            .into(rx(v6).tcp(80, 4000, RST | ACK))
            .into_dropped(rx(v6).tcp(80, 4000, SYN), DENIED)
            .out(tx(v6).tcp(4000, 80, SYN)),
    ]
}

fn strangers(v6: bool, family: &str) -> Vec<Vector> {
    vec![
        Vector::new(format!("{family}: TCP that was never seen to open, both readings allowed"), Content::open(1))
            .out(tx(v6).tcp(4000, 80, ACK))
            .into(rx(v6).tcp(80, 4000, PSH | ACK)),
        Vector::new(format!("{family}: TCP that was never seen to open, one reading denied later"), Content::open(1))
            .out(tx(v6).tcp(4000, 80, ACK))
            .load(Content::closed(2).all(Egress))
            .out_dropped(tx(v6).tcp(4000, 80, ACK), DENIED)
            .into_dropped(rx(v6).tcp(80, 4000, ACK), DENIED),
        Vector::new(
            format!("{family}: TCP that was never seen to open, one reading denied"),
            Content::closed(1).all(Egress).allow(Ingress, PEER, TCP, 80),
        )
        .out_dropped(tx(v6).tcp(4000, 80, ACK), DropReason::UnknownConnection)
        .out_dropped(tx(v6).tcp(4000, 80, SYN | ACK), DropReason::UnknownConnection)
        .out_dropped(tx(v6).tcp(4000, 80, FIN | ACK), DropReason::UnknownConnection)
        .into_dropped(rx(v6).tcp(4000, 81, ACK), DENIED)
        .into(rx(v6).tcp(4000, 80, ACK)),
        Vector::new(format!("{family}: a reset alone opens nothing"), Content::closed(1).all(Egress))
            .out(tx(v6).tcp(4000, 80, RST))
            .into_dropped(rx(v6).tcp(80, 4000, ACK), DENIED),
        Vector::new(format!("{family}: SCTP in the middle of an association"), Content::closed(1).all(Egress))
            .out_dropped(tx(v6).sctp(4000, 9, DATA), DropReason::UnknownConnection),
    ]
}

fn policy_changes(v6: bool, family: &str) -> Vec<Vector> {
    let udp = |revision| Content::closed(revision).all(Egress).allow(Ingress, PEER, UDP, 53);
    vec![
        Vector::new(
            format!("{family}: an established connection that policy now denies stops, both ways"),
            only_in(80, 1),
        )
        .into(rx(v6).tcp(4000, 80, SYN))
        .out(tx(v6).tcp(80, 4000, SYN | ACK))
        .into(rx(v6).tcp(4000, 80, ACK))
        .load(only_in(81, 2))
        .out_dropped(tx(v6).tcp(80, 4000, PSH | ACK), DENIED)
        .into_dropped(rx(v6).tcp(4000, 80, ACK), DENIED)
        .into_dropped(rx(v6).tcp(4000, 80, SYN), DENIED)
        .load(only_in(80, 3))
        .into(rx(v6).tcp(4000, 80, ACK))
        .out(tx(v6).tcp(80, 4000, ACK)),
        Vector::new(format!("{family}: a change that leaves it allowed leaves it alone"), only_in(80, 1))
            .into(rx(v6).tcp(4000, 80, SYN))
            .out(tx(v6).tcp(80, 4000, SYN | ACK))
            .load(only_in(80, 2).allow(Ingress, PEER, TCP, 81))
            .out(tx(v6).tcp(80, 4000, PSH | ACK))
            .into(rx(v6).tcp(4000, 80, ACK)),
        Vector::new(
            format!("{family}: a server that may speak out does not revive what ingress denies"),
            Content::closed(1).all(Egress).allow(Ingress, PEER, TCP, 80),
        )
        .into(rx(v6).tcp(4000, 80, SYN))
        .out(tx(v6).tcp(80, 4000, SYN | ACK))
        .load(Content::closed(2).all(Egress))
        .out_dropped(tx(v6).tcp(80, 4000, PSH | ACK), DENIED)
        .out_dropped(tx(v6).tcp(80, 4000, PSH | ACK), DENIED)
        .into_dropped(rx(v6).tcp(4000, 80, ACK), DENIED),
        Vector::new(format!("{family}: UDP that policy now denies stops, both ways"), udp(1))
            .into(rx(v6).udp(4000, 53))
            .out(tx(v6).udp(53, 4000))
            .load(Content::closed(2).all(Egress))
            .out_dropped(tx(v6).udp(53, 4000), DENIED)
            .into_dropped(rx(v6).udp(4000, 53), DENIED),
        Vector::new(format!("{family}: a policy that is gone closes"), only_in(80, 1))
            .into(rx(v6).tcp(4000, 80, SYN))
            .load(Content::unloaded(2))
            .into_dropped(rx(v6).tcp(4000, 80, ACK), DropReason::NoPolicy),
    ]
}
