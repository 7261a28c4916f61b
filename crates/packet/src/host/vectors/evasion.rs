//! Ways around a policy that once were open, or are worth trying again.

use std::net::IpAddr;

use super::world::{Content, FAMILIES, node, other, outside, peer, pod, rx, tx};
use super::{PEER, Vector};
use crate::abi::{Direction, DropReason, PortSetKey, RuleVerdict};
use crate::host::tcp_flags::SYN;
use crate::parse::protocol::TCP;

use Direction::{Egress, Ingress};

pub(super) fn vectors() -> Vec<Vector> {
    let mut all = vec![discovery_as_a_tunnel(), fragment_in_fragment()];
    for (v6, family) in FAMILIES {
        all.extend([loopback(v6, family), uplink_loopback(v6, family), errors_about_portless(v6, family)]);
    }
    all
}

/// Neighbour discovery with anything in an option, to someone beyond the link: what egress denies would travel in it.
fn discovery_as_a_tunnel() -> Vector {
    const NONCE: u8 = 14;
    let forbidden = DropReason::ForbiddenIcmpv6;
    let target = |ip: IpAddr| if let IpAddr::V6(ip) = ip { ip.octets() } else { [0; 16] };
    let cargo = || [&[NONCE, 2][..], b"anything at all"].concat()[..16].to_vec();
    let solicitation = || [&[0; 4], &target(peer(true))[..], &cargo()].concat();
    let advertisement = || [&[0x40, 0, 0, 0], &target(pod(true))[..], &cargo()].concat();
    let to = |dst: IpAddr| tx(true).dst(dst).hop_limit(255);
    let group = |first: u16| IpAddr::from([first, 0, 0, 0, 0, 1, 0xff00, 7]);
    let link_local = IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]);
    let mut vector = Vector::new("neighbour discovery beyond the link", Content::closed(1));
    for dst in [outside(true), peer(true), other(true), pod(true), group(0xff05), group(0xff0e)] {
        vector = vector
            .out_dropped(to(dst).icmp(135, 0, &solicitation()), forbidden)
            .out_dropped(to(dst).icmp(136, 0, &advertisement()), forbidden)
            .out_dropped(to(dst).icmp(133, 0, &[&[0; 4], &cargo()[..]].concat()), forbidden);
    }
    for dst in [node(true), link_local, group(0xff02)] {
        vector = vector.out(to(dst).icmp(135, 0, &solicitation())).out(to(dst).icmp(136, 0, &advertisement()));
    }
    vector
}

/// A whole datagram may say that it is a fragment, once.
fn fragment_in_fragment() -> Vector {
    let invalid = DropReason::InvalidExtensionHeader;
    let atomic = [0, 0, 0, 0, 0, 0, 0, 9];
    let first = [0, 0, 0, 1, 0, 0, 0, 9];
    let wire = || tx(true).extension(44, &atomic);
    Vector::new("IPv6: a fragment header behind a fragment header", Content::closed(1).allow(Egress, PEER, TCP, 80))
        .out(wire().tcp(4000, 80, SYN))
        .out_dropped(wire().extension(44, &atomic).tcp(4000, 80, SYN), invalid)
        .out_dropped(wire().extension(44, &first).tcp(4000, 80, SYN), invalid)
        .out_dropped(wire().fragment(9, 24, false).ip(TCP, &[1; 16]), invalid)
        .out_dropped(tx(true).extension(44, &first).extension(44, &atomic).tcp(4000, 80, SYN), invalid)
}

/// What a node serves on its loopback is nobody else's, even where its routing lets such packets in.
fn loopback(v6: bool, family: &str) -> Vector {
    let addresses: &[IpAddr] = if v6 {
        &[IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)]
    } else {
        &[[127, 0, 0, 1].into(), [127, 255, 1, 2].into()]
    };
    let mut vector = Vector::new(format!("{family}: loopback addresses on the wire"), Content::open(1));
    for address in addresses {
        vector = vector
            .out_dropped(tx(v6).dst(*address).tcp(4000, 10250, SYN), DropReason::LoopbackAddress)
            .out_dropped(tx(v6).src(*address).tcp(4000, 80, SYN), DropReason::InvalidSourceIp);
    }
    vector
}

fn uplink_loopback(v6: bool, family: &str) -> Vector {
    let own: IpAddr = if v6 { IpAddr::V6(std::net::Ipv6Addr::LOCALHOST) } else { [127, 0, 0, 1].into() };
    let uplink = crate::abi::Hook::FromUplink;
    let dropped = crate::hooks::Verdict::Drop(DropReason::LoopbackAddress);
    Vector::new(format!("{family}: loopback addresses at the uplink"), Content::open(1))
        .send(uplink, rx(v6).dst(own).tcp(4000, 10250, SYN), dropped)
        .send(uplink, rx(v6).src(own).tcp(4000, 80, SYN), dropped)
}

/// ESP and GRE have no ports to be found under.
fn errors_about_portless(v6: bool, family: &str) -> Vector {
    let esp = |set| PortSetKey::protocol(set, 50);
    let content = Content::closed(1).rule(Egress, PEER, RuleVerdict::Allow, esp).all(Ingress);
    let sent = || tx(v6).ip(50, &[7; 24]);
    Vector::new(format!("{family}: errors about a protocol without ports"), content)
        .out(sent())
        .into(rx(v6).src(outside(v6)).unreachable(&sent()))
        .into_dropped(rx(v6).unreachable(&tx(v6).ip(47, &[7; 24])), DropReason::UnrelatedIcmpError)
        .into_dropped(rx(v6).unreachable(&tx(v6).dst(other(v6)).ip(50, &[7; 24])), DropReason::UnrelatedIcmpError)
}
