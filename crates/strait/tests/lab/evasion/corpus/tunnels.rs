//! Packets in packets.

use strait_packet::host::Wire;

use super::{Attempt, DENIED, IN, OUT, UDP, denied, drops, ends};
use crate::evasion::{Case, Step, wire::stamp};

/// What a pod that may would send to the victim, without its Ethernet header.
fn inner(c: &Case) -> Vec<u8> {
    let mut frame = denied(&c.tx().src(c.blue.ip));
    stamp(&mut frame, c.mark);
    frame[14..].to_vec()
}

/// The same as a frame.
fn inner_frame(c: &Case) -> Vec<u8> {
    let mut wire = c.tx().src(c.blue.ip).src_mac(c.blue.mac);
    wire.dst_mac = c.victim.mac;
    let mut frame = denied(&wire);
    stamp(&mut frame, c.mark);
    frame
}

fn datagram(wire: &Wire, port: u16, head: &[u8], cargo: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + head.len() + cargo.len()).unwrap();
    let header = [4789_u16, port, length, 0].map(u16::to_be_bytes).concat();
    wire.ip(UDP, &[&header, head, cargo].concat())
}

/// Every kind of tunnel in `wire`.
fn tunnels(c: &Case, wire: &Wire) -> Vec<Vec<u8>> {
    let ip_in_ip = if c.v6 { 41 } else { 4 };
    let ethertype: [u8; 2] = if c.v6 { [0x86, 0xdd] } else { [8, 0] };
    vec![
        wire.ip(ip_in_ip, &inner(c)),
        wire.ip(if c.v6 { 4 } else { 41 }, &inner(c)),
        wire.ip(47, &[&[0, 0][..], &ethertype, &inner(c)].concat()),
        wire.ip(47, &[&[0x20, 0, 0x65, 0x58, 0, 0, 0, 1][..], &inner_frame(c)].concat()),
        wire.ip(97, &[&[0x30, 0][..], &inner_frame(c)].concat()),
        wire.ip(115, &[&[0, 0, 0, 1][..], &inner_frame(c)].concat()),
        wire.ip(137, &[&[0, 0, 0x11, 0xff][..], &inner(c)].concat()),
        datagram(wire, 4789, &[8, 0, 0, 0, 0, 0, 1, 0], &inner_frame(c)),
        datagram(wire, 8472, &[8, 0, 0, 0, 0, 0, 1, 0], &inner_frame(c)),
        datagram(wire, 6081, &[0, 0, 0x65, 0x58, 0, 0, 1, 0], &inner_frame(c)),
        datagram(wire, 4754, &[0, 0, ethertype[0], ethertype[1]], &inner(c)),
        datagram(wire, 5555, &[], &inner(c)),
        datagram(wire, 2152, &[0x30, 0xff, 0, 0, 0, 0, 0, 1], &inner(c)),
        datagram(wire, 3544, &[], &inner(c)),
    ]
}

pub(super) fn attempts() -> Vec<Attempt> {
    fn each(c: &Case, wire: &Wire, step: impl Fn(Vec<u8>) -> Step) -> Vec<Step> {
        tunnels(c, wire).into_iter().map(step).collect()
    }
    vec![
        Attempt::red("tunnels to the victim", |c| each(c, &c.tx(), |frame| drops(IN, DENIED, frame))),
        Attempt::red("tunnels to the own node", |c| each(c, &c.tx().dst(c.nodes[0]), ends)),
        Attempt::red("tunnels to the other node", |c| each(c, &c.tx().dst(c.nodes[1]), ends)),
        Attempt::mute("tunnels past a closed egress", |c| {
            [c.outside, c.nodes[1], c.blue.ip]
                .into_iter()
                .flat_map(|to| each(c, &c.tx().dst(to), |frame| drops(OUT, DENIED, frame)))
                .collect()
        }),
        Attempt::outside("tunnels from outside", |c| each(c, &c.tx(), |frame| drops(IN, DENIED, frame))),
        Attempt::outside("tunnels to the victim's node, from outside", |c| {
            each(c, &c.tx().dst(c.nodes[usize::from(!c.near)]), ends)
        }),
    ]
}
