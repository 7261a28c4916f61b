//! Headers that lie, options, extension headers.

use super::Vector;
use super::world::{Content, FAMILIES, rx, tx};
use crate::abi::{Direction, DropReason, PortSetKey, RuleVerdict};
use crate::host::build::{tcp, udp};
use crate::host::tcp_flags::{ACK, FIN, PSH, RST, SYN, URG};
use crate::parse::protocol;

fn patched(mut frame: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    if let Some(old) = frame.get_mut(at) {
        *old = byte;
    }
    frame
}

fn cut(mut frame: Vec<u8>, len: usize) -> Vec<u8> {
    frame.truncate(len);
    frame
}

pub(super) fn vectors() -> Vec<Vector> {
    let mut all = vec![lying_ipv4(), options(), extensions(), chain_too_long(), source_routing()];
    for (v6, family) in FAMILIES {
        all.extend([truncated(v6, family), odd_tcp_flags(v6, family), other_protocols(v6, family)]);
    }
    all
}

fn lying_ipv4() -> Vector {
    let syn = || tx(false).tcp(4000, 80, SYN);
    let invalid = DropReason::InvalidPacket;
    Vector::new("IPv4: headers that contradict themselves", Content::open(1))
        .out_dropped(patched(syn(), 14, 0x55), invalid)
        .out_dropped(patched(syn(), 14, 0x44), invalid)
        .out_dropped(patched(syn(), 14, 0x4f), invalid)
        .out_dropped(patched(syn(), 17, 19), invalid)
        .out_dropped(patched(syn(), 16, 1), invalid)
}

fn truncated(v6: bool, family: &str) -> Vector {
    let header = DropReason::InvalidHeader;
    let l4 = if v6 { 54 } else { 34 };
    let padded = |payload: &[u8], protocol| [tx(v6).ip(protocol, payload), vec![0; 40]].concat();
    Vector::new(format!("{family}: cut short"), Content::open(1))
        .out_dropped(cut(tx(v6).tcp(4000, 80, SYN), l4 + 19), DropReason::InvalidPacket)
        .out_dropped(tx(v6).ip(protocol::TCP, &tcp(4000, 80, SYN)[..19]), header)
        .out_dropped(tx(v6).ip(protocol::TCP, &tcp(4000, 80, SYN)[..4]), header)
        .out_dropped(tx(v6).ip(protocol::UDP, &udp(4000, 53, 0)[..7]), header)
        .out_dropped(tx(v6).ip(protocol::SCTP, &[0; 15]), header)
        .out_dropped(tx(v6).ip(protocol::ICMP, &[8, 0, 0]), header)
        // Bytes behind the datagram are no header.
        .out_dropped(padded(&tcp(4000, 80, SYN)[..8], protocol::TCP), header)
        .out_dropped(padded(&[], protocol::UDP), header)
        .out_dropped(patched(tx(v6).tcp(4000, 80, SYN), l4 + 12, 4 << 4), header)
        .out_dropped(patched(tx(v6).tcp(4000, 80, SYN), l4 + 12, 6 << 4), header)
        .out_dropped(patched(tx(v6).udp(4000, 53), l4 + 5, 7), header)
        .out(padded(&tcp(4000, 80, SYN), protocol::TCP))
}

fn odd_tcp_flags(v6: bool, family: &str) -> Vector {
    let mut vector = Vector::new(format!("{family}: flags that no TCP sends together"), Content::open(1));
    for flags in
        [0, FIN, PSH, URG, FIN | PSH | URG, SYN | FIN, SYN | RST, SYN | FIN | ACK, SYN | RST | ACK, FIN | RST, 0x3f]
    {
        vector = vector.out_dropped(tx(v6).tcp(4000, 80, flags), DropReason::InvalidTcpFlags);
        vector = vector.into_dropped(rx(v6).tcp(4000, 80, flags), DropReason::InvalidTcpFlags);
    }
    // Congestion notification is set up with SYN, ECE and CWR.
    vector.out(tx(v6).tcp(4000, 80, SYN | 0xc0))
}

fn options() -> Vector {
    let wire = |options: &[u8]| tx(false).options(options).tcp(4000, 80, SYN);
    let mut longest = [1; 40];
    longest[39] = 0;
    Vector::new("IPv4: options", Content::closed(1).allow(Direction::Egress, super::PEER, protocol::TCP, 80))
        .out(wire(&[1, 1, 1, 0]))
        .out(wire(&[0x94, 4, 0, 0]))
        .out(wire(&[7, 7, 4, 0, 0, 0, 0, 0]))
        .out(wire(&longest))
        .out_dropped(wire(&[7, 1, 0, 0]), DropReason::InvalidPacket)
        .out_dropped(wire(&[7, 200, 0, 0]), DropReason::InvalidPacket)
        .out_dropped(wire(&[1, 1, 1, 7]), DropReason::InvalidPacket)
        // The port is read behind the options, wherever they end.
        .out_dropped(tx(false).options(&[1; 20]).tcp(4000, 81, SYN), DropReason::PolicyDenied)
}

fn source_routing() -> Vector {
    let routed = DropReason::SourceRouted;
    let v4 = |options: &[u8]| tx(false).options(options).tcp(4000, 80, SYN);
    let v6 = |kind, left| {
        tx(true).extension(43, &[0, 2, kind, left, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    };
    Vector::new("source routing", Content::open(1))
        .out_dropped(v4(&[131, 7, 4, 10, 0, 2, 8, 0]), routed)
        .out_dropped(v4(&[137, 7, 4, 10, 0, 2, 8, 0]), routed)
        .out_dropped(v4(&[1, 1, 1, 1, 131, 7, 4, 10, 0, 2, 8, 0]), routed)
        .out_dropped(v6(0, 1).tcp(4000, 80, SYN), routed)
        .out_dropped(v6(0, 0).tcp(4000, 80, SYN), routed)
        .out_dropped(v6(4, 1).tcp(4000, 80, SYN), routed)
        .into_dropped(rx(false).options(&[131, 7, 4, 10, 0, 2, 8, 0]).tcp(4000, 80, SYN), routed)
        .out(v6(2, 0).tcp(4000, 80, SYN))
}

fn extensions() -> Vector {
    let content = || Content::closed(1).allow(Direction::Egress, super::PEER, protocol::TCP, 80);
    let hop_by_hop = [0, 0, 1, 4, 0, 0, 0, 0];
    let destination = [0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let authentication = [0, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let invalid = DropReason::InvalidExtensionHeader;
    let chained = || tx(true).extension(0, &hop_by_hop).extension(60, &destination).extension(51, &authentication);
    Vector::new("IPv6: ports behind extension headers", content())
        .out(chained().tcp(4000, 80, SYN))
        .out_dropped(chained().tcp(4000, 81, SYN), DropReason::PolicyDenied)
        .out_dropped(chained().udp(4000, 80), DropReason::PolicyDenied)
        .out_dropped(tx(true).extension(60, &destination).extension(0, &hop_by_hop).tcp(4000, 80, SYN), invalid)
        .out_dropped(tx(true).extension(60, &[0, 200, 0, 0, 0, 0, 0, 0]).tcp(4000, 80, SYN), invalid)
        .out_dropped(tx(true).extension(60, &[0, 0, 0, 0]).ip(59, &[]), invalid)
        .out_dropped(
            tx(true).extension(60, &[0, 0, 1, 4, 0, 0, 0, 0]).ip(protocol::TCP, &[]),
            DropReason::InvalidHeader,
        )
}

fn chain_too_long() -> Vector {
    let with = |count| (0..count).fold(tx(true), |wire, _| wire.extension(60, &[0, 0, 1, 4, 0, 0, 0, 0]));
    Vector::new("IPv6: a chain of extension headers", Content::open(1))
        .out(with(8).tcp(4000, 80, SYN))
        .out_dropped(with(9).tcp(4000, 80, SYN), DropReason::InvalidExtensionHeader)
        .out_dropped(with(40).tcp(4000, 80, SYN), DropReason::InvalidExtensionHeader)
}

fn other_protocols(v6: bool, family: &str) -> Vector {
    let any = PortSetKey::any;
    let esp = |set| PortSetKey::protocol(set, 50);
    Vector::new(
        format!("{family}: protocols without ports go by protocol and address"),
        Content::closed(1).rule(Direction::Egress, super::PEER, RuleVerdict::Allow, esp).rule(
            Direction::Ingress,
            super::OTHER,
            RuleVerdict::Allow,
            any,
        ),
    )
    .out(tx(v6).ip(50, &[1; 24]))
    .out_dropped(tx(v6).ip(47, &[1; 24]), DropReason::PolicyDenied)
    .into(rx(v6).ip(50, &[1; 24]))
    .into(rx(v6).src(super::world::other(v6)).ip(47, &[1; 24]))
}
