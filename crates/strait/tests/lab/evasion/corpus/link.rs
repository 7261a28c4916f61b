//! Below IP: ARP, neighbour discovery, tags, other protocols, multicast.

use std::net::IpAddr;

use strait_packet::{abi::DropReason, host::Wire};

use super::{Attempt, DENIED, IN, OUT, UDP, allowed, cut, denied, drops, ends, udp};
use crate::evasion::{
    Case, Step,
    wire::{octets, tag},
};

const ARP: DropReason = DropReason::ArpSpoofed;
const ND: DropReason = DropReason::NeighbourSpoofed;
const FORBIDDEN: DropReason = DropReason::ForbiddenIcmpv6;
const L2: DropReason = DropReason::UnsupportedL2;
const L3: DropReason = DropReason::UnsupportedL3;
const EVERYONE: [u8; 6] = [0xff; 6];

pub(super) fn attempts() -> Vec<Attempt> {
    [arp(), discovery(), tags(), groups()].into_iter().flatten().collect()
}

fn speak(c: &Case, operation: u8, mac: [u8; 6], sender: IpAddr, target: IpAddr) -> Vec<u8> {
    let mut wire = c.tx();
    wire.dst_mac = EVERYONE;
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    wire.ethernet(0x0806, &[&head[..], &mac, &octets(sender), &[0; 6], &octets(target), &tag(c.mark)].concat())
}

fn arp() -> Vec<Attempt> {
    fn claim(c: &Case, address: IpAddr) -> Vec<Step> {
        let mac = c.attacker.mac;
        vec![
            drops(OUT, ARP, speak(c, 2, mac, address, address)),
            drops(OUT, ARP, speak(c, 2, mac, address, c.nodes[0])),
            drops(OUT, ARP, speak(c, 1, mac, address, c.nodes[0])),
            drops(OUT, ARP, speak(c, 1, mac, address, address)),
        ]
    }
    vec![
        Attempt::red("ARP that claims the victim", |c| claim(c, c.victim.ip)).v4(),
        Attempt::red("ARP that claims a pod that may", |c| claim(c, c.blue.ip)).v4().on_link(),
        Attempt::red("ARP that claims the node", |c| claim(c, c.nodes[0])).v4().on_link(),
        Attempt::red("ARP that claims the next hop", |c| claim(c, [169, 254, 1, 1].into())).v4().on_link(),
        Attempt::red("ARP that claims the router", |c| claim(c, [172, 30, 0, 1].into())).v4().on_link(),
        Attempt::red("ARP that names another's hardware", |c| {
            [c.blue.mac, c.victim.mac, c.hop_mac, EVERYONE]
                .map(|mac| drops(OUT, ARP, speak(c, 2, mac, c.attacker.ip, c.nodes[0])))
                .into()
        })
        .v4(),
        Attempt::red("ARP from another's hardware", |c| {
            let frame = speak(c, 2, c.blue.mac, c.blue.ip, c.nodes[0]);
            vec![drops(OUT, DropReason::InvalidSourceMac, super::patched(frame, 6, &c.blue.mac))]
        })
        .v4()
        .on_link(),
        Attempt::red("ARP of another shape", |c| {
            let frame = || speak(c, 2, c.attacker.mac, c.attacker.ip, c.nodes[0]);
            let invalid = DropReason::InvalidPacket;
            vec![
                drops(OUT, invalid, super::patched(frame(), 18, &[6, 16])),
                drops(OUT, invalid, super::patched(frame(), 18, &[8, 4])),
                drops(OUT, invalid, super::patched(frame(), 16, &[0x86, 0xdd])),
                drops(OUT, invalid, super::patched(frame(), 14, &[0, 6])),
                drops(OUT, invalid, cut(frame(), 40)),
            ]
        })
        .v4()
        .on_link(),
        Attempt::red("ARP about oneself", |c| {
            vec![
                ends(speak(c, 1, c.attacker.mac, c.attacker.ip, c.nodes[0])),
                ends(speak(c, 3, c.attacker.mac, c.attacker.ip, c.victim.ip)),
            ]
        })
        .v4(),
    ]
}

/// An ICMPv6 message about `target` with an option that names `mac`, from `wire`.
fn nd(wire: &Wire, kind: u8, target: IpAddr, option: u8, mac: [u8; 6]) -> Vec<u8> {
    let rest = [&[0x20, 0, 0, 0], &octets(target)[..], &[option, 1], &mac].concat();
    wire.clone().hop_limit(255).icmp(kind, 0, &rest)
}

fn on_link(c: &Case) -> Wire {
    c.tx().dst("ff02::1".parse().unwrap())
}

fn discovery() -> Vec<Attempt> {
    fn claim(c: &Case, target: IpAddr) -> Vec<Step> {
        let mac = c.attacker.mac;
        vec![
            drops(OUT, ND, nd(&on_link(c), 136, target, 2, mac)),
            drops(OUT, ND, nd(&c.tx().dst(c.nodes[0]), 136, target, 2, mac)),
            drops(OUT, ND, nd(&on_link(c).src(target), 136, target, 2, mac)),
            drops(OUT, ND, nd(&on_link(c).src(target), 135, c.nodes[0], 1, mac)),
        ]
    }
    /// The ones that a payload could travel in, to someone who is not on the link.
    fn tunnel(c: &Case, to: IpAddr) -> Vec<Step> {
        let mac = c.attacker.mac;
        let wire = c.tx().dst(to);
        vec![
            drops(OUT, FORBIDDEN, nd(&wire, 135, c.victim.ip, 14, mac)),
            drops(OUT, FORBIDDEN, nd(&wire, 136, c.attacker.ip, 14, mac)),
            drops(OUT, FORBIDDEN, wire.hop_limit(255).icmp(133, 0, &[&[0; 4][..], &[14, 1], &mac].concat())),
        ]
    }
    vec![
        Attempt::red("advertisement that claims the victim", |c| claim(c, c.victim.ip)).v6(),
        Attempt::red("advertisement that claims a pod that may", |c| claim(c, c.blue.ip)).v6().on_link(),
        Attempt::red("advertisement that claims the node", |c| claim(c, c.nodes[0])).v6().on_link(),
        Attempt::red("advertisement that claims the router", |c| claim(c, "fd00:172:30::1".parse().unwrap()))
            .v6()
            .on_link(),
        Attempt::red("advertisement that names another's hardware", |c| {
            [c.blue.mac, c.victim.mac, c.hop_mac, EVERYONE]
                .map(|mac| drops(OUT, ND, nd(&on_link(c), 136, c.attacker.ip, 2, mac)))
                .into()
        })
        .v6(),
        Attempt::red("advertisement that was routed", |c| {
            let frame = nd(&on_link(c), 136, c.attacker.ip, 2, c.attacker.mac);
            vec![drops(OUT, FORBIDDEN, super::patched(frame, 21, &[254]))]
        })
        .v6()
        .on_link(),
        Attempt::red("router advertisement", |c| {
            let message = [&[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1][..], &c.attacker.mac].concat();
            let own = on_link(c).hop_limit(255);
            vec![
                drops(OUT, FORBIDDEN, own.clone().icmp(134, 0, &message)),
                drops(OUT, FORBIDDEN, own.src("fe80::1".parse().unwrap()).icmp(134, 0, &message)),
                drops(OUT, FORBIDDEN, c.tx().hop_limit(255).icmp(134, 0, &message)),
            ]
        })
        .v6(),
        Attempt::red("redirect", |c| {
            let message = [&[0; 4][..], &octets(c.attacker.ip), &octets(c.blue.ip)].concat();
            vec![
                drops(OUT, FORBIDDEN, c.tx().hop_limit(255).icmp(137, 0, &message)),
                drops(OUT, FORBIDDEN, c.tx().src("fe80::1".parse().unwrap()).hop_limit(255).icmp(137, 0, &message)),
            ]
        })
        .v6(),
        Attempt::red("discovery to the victim", |c| tunnel(c, c.victim.ip)).v6(),
        Attempt::red("discovery to the outside", |c| tunnel(c, c.outside)).v6().on_link(),
        Attempt::mute("discovery past a closed egress", |c| {
            [c.outside, c.victim.ip, c.nodes[1], "ff05::2".parse().unwrap()]
                .into_iter()
                .flat_map(|to| tunnel(c, to))
                .collect()
        })
        .v6(),
        Attempt::mute("discovery within the link", |c| {
            vec![
                ends(nd(&on_link(c), 136, c.attacker.ip, 2, c.attacker.mac)),
                ends(nd(&c.tx().dst(c.nodes[0]), 135, c.nodes[0], 1, c.attacker.mac)),
            ]
        })
        .v6()
        .on_link(),
        Attempt::red("inverse discovery, renumbering, node information", |c| {
            [141, 142, 138, 139, 140]
                .map(|kind| drops(IN, DENIED, c.tx().hop_limit(255).icmp(kind, 0, &[0; 20])))
                .into()
        })
        .v6(),
    ]
}

fn tags() -> Vec<Attempt> {
    /// `frame` behind these tags: type and number.
    fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
        let middle = tags.iter().flat_map(|(kind, number)| [kind.to_be_bytes(), number.to_be_bytes()].concat());
        frame[..12].iter().copied().chain(middle).chain(frame[12..].iter().copied()).collect()
    }
    fn each(c: &Case, tags: &[(u16, u16)]) -> Vec<Step> {
        let forged = c.tx().src(c.blue.ip);
        [allowed(&c.tx()), denied(&c.tx()), denied(&forged)].map(|frame| drops(OUT, L2, tagged(&frame, tags))).into()
    }
    vec![
        Attempt::red("802.1Q tag", |c| each(c, &[(0x8100, 5)])),
        Attempt::red("802.1Q priority tag", |c| each(c, &[(0x8100, 0xe000)])),
        Attempt::red("802.1ad tag", |c| each(c, &[(0x88a8, 5)])),
        Attempt::red("QinQ", |c| each(c, &[(0x88a8, 5), (0x8100, 6)])),
        Attempt::red("three tags", |c| each(c, &[(0x8100, 1), (0x8100, 2), (0x8100, 3)])),
        Attempt::red("IP in LLC and SNAP", |c| {
            let ip = denied(&c.tx())[14..].to_vec();
            let llc = [&[0x06, 0x06, 0x03][..], &ip].concat();
            let snap = [&[0xaa, 0xaa, 0x03, 0, 0, 0, 8, 0][..], &ip].concat();
            [llc, snap].map(|body| drops(OUT, L3, c.tx().ethernet(u16::try_from(body.len()).unwrap(), &body))).into()
        }),
        Attempt::red("other protocols", |c| {
            let body = [&tag(c.mark)[..], &denied(&c.tx())[14..]].concat();
            let kinds = [
                0x0000, 0x0842, 0x8035, 0x8137, 0x8847, 0x8848, 0x8863, 0x8864, 0x888e, 0x88cc, 0x88e5, 0x88f7, 0x8906,
                0x894f, 0x9000, 0xffff,
            ];
            kinds.map(|kind| drops(OUT, L3, c.tx().ethernet(kind, &body))).into()
        }),
        Attempt::red("spanning tree", |c| {
            let mut wire = c.tx();
            wire.dst_mac = [0x01, 0x80, 0xc2, 0, 0, 0];
            vec![drops(OUT, L3, wire.ethernet(38, &[&[0x42, 0x42, 3][..], &[0; 27], &tag(c.mark)].concat()))]
        })
        .on_link(),
        Attempt::red("one family under the other's type", |c| {
            let (kind, other) = if c.v6 { (0x0800, 0x60) } else { (0x86dd, 0x45) };
            let body = denied(&c.tx())[14..].to_vec();
            assert_eq!(body[0], other);
            vec![drops(OUT, DropReason::InvalidPacket, c.tx().ethernet(kind, &[&body[..], &tag(c.mark)].concat()))]
        }),
        Attempt::red("nothing behind the Ethernet header", |c| {
            [0x0800, 0x86dd, 0x0806].map(|kind| drops(OUT, L2, c.tx().ethernet(kind, &[]))).into()
        })
        .on_link(),
    ]
}

fn groups() -> Vec<Attempt> {
    fn multicast(c: &Case, to: &[&str]) -> Vec<Step> {
        let to = to.iter().map(|to| c.tx().dst(to.parse().unwrap()));
        to.flat_map(|wire| [wire.udp(5353, 5353), denied(&wire), wire.ping(1)])
            .map(|frame| drops(OUT, DropReason::Multicast, frame))
            .collect()
    }
    vec![
        Attempt::red("multicast", |c| {
            multicast(
                c,
                if c.v6 {
                    &["ff02::1", "ff02::fb", "ff05::1:3", "ff0e::99"]
                } else {
                    &["224.0.0.1", "224.0.0.251", "239.255.255.250"]
                },
            )
        })
        .on_link(),
        Attempt::red("broadcast", |c| multicast(c, &["255.255.255.255"])).v4().on_link(),
        Attempt::red("DHCP server", |c| {
            let (from, to, group) = if c.v6 { (547, 546, "ff02::1") } else { (67, 68, "255.255.255.255") };
            let offer = |wire: Wire| wire.ip(UDP, &udp(from, to, 48, 40));
            vec![
                drops(OUT, DropReason::Multicast, offer(c.tx().dst(group.parse().unwrap()))),
                drops(IN, DENIED, offer(c.tx())),
                drops(OUT, DropReason::InvalidSourceIp, offer(c.tx().src(c.nodes[0]))),
            ]
        }),
        Attempt::red("group membership", |c| {
            let quiet = DropReason::GroupMembership;
            if c.v6 {
                let alert = [0, 0, 5, 2, 0, 0, 1, 0];
                [130, 131, 132, 143]
                    .map(|kind| drops(OUT, quiet, c.tx().hop_limit(1).extension(0, &alert).icmp(kind, 0, &[0; 20])))
                    .into()
            } else {
                ["224.0.0.22", "224.0.0.1"]
                    .map(|to| drops(OUT, quiet, c.tx().dst(to.parse().unwrap()).ip(2, &[0x22, 0, 0, 0, 0, 0, 0, 0])))
                    .into()
            }
        })
        .on_link(),
        Attempt::red("group membership to the victim", |c| {
            let quiet = DropReason::GroupMembership;
            vec![if c.v6 {
                drops(OUT, quiet, c.tx().icmp(131, 0, &[0; 20]))
            } else {
                drops(OUT, quiet, c.tx().ip(2, &[0x11; 8]))
            }]
        }),
    ]
}
