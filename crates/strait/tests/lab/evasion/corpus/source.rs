//! Addresses that are someone else's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use strait_packet::abi::DropReason;

use super::{Attempt, IN, OUT, SYN, UP, allowed, arrives, denied, drops, ends};
use crate::evasion::{Case, Step};

const FORGED: DropReason = DropReason::InvalidSourceIp;
const FORGED_MAC: DropReason = DropReason::InvalidSourceMac;
const LOOPBACK: DropReason = DropReason::LoopbackAddress;

pub(super) fn attempts() -> Vec<Attempt> {
    let mut all = vec![
        Attempt::red("what policy permits and what it denies", |c| {
            vec![
                arrives(allowed(&c.tx())),
                arrives(c.tx().udp(4009, 9)),
                drops(IN, DropReason::PolicyDenied, denied(&c.tx())),
            ]
        }),
        Attempt::outside("what policy permits and denies from outside", |c| {
            vec![arrives(c.tx().udp(4009, 9)), drops(IN, DropReason::PolicyDenied, denied(&c.tx()))]
        }),
    ];
    all.extend(addresses());
    all.extend(hardware());
    all.extend(from_outside());
    all
}

fn forged(c: &Case, source: IpAddr) -> Vec<Step> {
    let wire = || c.tx().src(source);
    [denied(&wire()), wire().udp(4053, 53), wire().ping(7)].map(|frame| drops(OUT, FORGED, frame)).into()
}

fn addresses() -> Vec<Attempt> {
    vec![
        Attempt::red("source of a pod that may", |c| forged(c, c.blue.ip)),
        Attempt::red("source of the victim itself", |c| forged(c, c.victim.ip)),
        Attempt::red("source of the own node", |c| forged(c, c.nodes[0])),
        Attempt::red("source of the other node", |c| forged(c, c.nodes[1])),
        Attempt::red("source outside", |c| forged(c, c.outside)),
        Attempt::red("source in the pods' range that nobody has", |c| {
            forged(c, if c.v6 { "fd00:10:244:1::99".parse() } else { "10.244.1.99".parse() }.unwrap())
        }),
        Attempt::red("loopback source", |c| {
            forged(c, if c.v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() })
        }),
        Attempt::red("unspecified source", |c| {
            forged(c, if c.v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() })
        }),
        Attempt::red("multicast source", |c| {
            forged(c, if c.v6 { "ff02::1".parse() } else { "224.0.0.1".parse() }.unwrap())
        }),
        Attempt::red("broadcast source", |c| forged(c, Ipv4Addr::BROADCAST.into())).v4(),
        Attempt::red("link-local source", |c| {
            forged(c, if c.v6 { "fe80::1".parse() } else { "169.254.1.1".parse() }.unwrap())
        }),
        Attempt::red("source that is IPv4 in the old form", |c| forged(c, "::10.244.1.10".parse().unwrap())).v6(),
        Attempt::red("source that is IPv4 in IPv6", |c| {
            ["::ffff:10.244.1.10", "::ffff:172.30.0.11", "::ffff:127.0.0.1"]
                .map(|source| drops(OUT, DropReason::MappedAddress, denied(&c.tx().src(source.parse().unwrap()))))
                .into()
        })
        .v6(),
        Attempt::red("destination that is IPv4 in IPv6", |c| {
            ["::ffff:10.244.1.13", "::ffff:10.244.2.10", "::ffff:172.30.0.12"]
                .map(|to| drops(OUT, DropReason::MappedAddress, allowed(&c.tx().dst(to.parse().unwrap()))))
                .into()
        })
        .v6(),
        Attempt::red("loopback destination", |c| {
            let to: &[&str] = if c.v6 { &["::1"] } else { &["127.0.0.1", "127.0.0.53", "127.255.255.254"] };
            to.iter().map(|to| drops(OUT, LOOPBACK, allowed(&c.tx().dst(to.parse().unwrap())))).collect()
        })
        .on_link(),
        Attempt::red("to itself", |c| vec![ends(denied(&c.tx().dst(c.attacker.ip)))]).on_link(),
        Attempt::red("to nobody's address", |c| {
            let to: &[&str] = if c.v6 { &["fd00:10:244:1::99"] } else { &["0.0.0.0", "10.244.1.99"] };
            to.iter().map(|to| ends(denied(&c.tx().dst(to.parse().unwrap())))).collect()
        })
        .on_link(),
    ]
}

fn hardware() -> Vec<Attempt> {
    fn from(c: &Case, mac: [u8; 6]) -> Vec<Step> {
        vec![
            drops(OUT, FORGED_MAC, allowed(&c.tx().src_mac(mac))),
            drops(OUT, FORGED_MAC, denied(&c.tx().src(c.blue.ip).src_mac(mac))),
        ]
    }
    fn to(c: &Case, mac: [u8; 6]) -> Vec<Step> {
        let mut wire = c.tx();
        wire.dst_mac = mac;
        vec![ends(denied(&wire)), drops(OUT, FORGED, denied(&wire.src(c.blue.ip)))]
    }
    vec![
        Attempt::red("hardware source of a pod that may", |c| from(c, c.blue.mac)),
        Attempt::red("hardware source of the victim", |c| from(c, c.victim.mac)),
        Attempt::red("hardware source of the node", |c| from(c, c.hop_mac)),
        Attempt::red("hardware source that is none", |c| from(c, [0; 6])),
        Attempt::red("hardware source that is a group", |c| from(c, [0x01, 0, 0x5e, 0, 0, 1])),
        Attempt::red("hardware source that is everyone", |c| from(c, [0xff; 6])),
        Attempt::red("hardware destination of the victim", |c| to(c, c.victim.mac)),
        Attempt::red("hardware destination of a bridge", |c| to(c, [0x01, 0x80, 0xc2, 0, 0, 0])),
        Attempt::red("hardware destination that is everyone", |c| to(c, [0xff; 6])),
        Attempt::red("hardware destination that is a group", |c| {
            to(c, if c.v6 { [0x33, 0x33, 0, 0, 0, 1] } else { [0x01, 0, 0x5e, 0, 0, 1] })
        }),
    ]
}

fn from_outside() -> Vec<Attempt> {
    vec![
        Attempt::outside("source of the victim, from outside", |c| {
            vec![
                drops(UP, FORGED, denied(&c.tx().src(c.victim.ip))),
                drops(UP, FORGED, c.tx().src(c.victim.ip).ping(3)),
            ]
        }),
        Attempt::outside("source of the victim's node, from outside", |c| {
            let node = c.nodes[usize::from(!c.near)];
            vec![drops(UP, FORGED, denied(&c.tx().src(node))), drops(UP, FORGED, c.tx().src(node).udp(1, 53))]
        }),
        Attempt::outside("source of a pod of the node, from outside", |c| {
            if c.near { vec![drops(UP, FORGED, denied(&c.tx().src(c.blue.ip)))] } else { Vec::new() }
        }),
        Attempt::outside("loopback, from outside", |c| {
            let own: IpAddr = if c.v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
            vec![drops(UP, LOOPBACK, allowed(&c.tx().dst(own))), drops(UP, LOOPBACK, c.tx().src(own).tcp(1, 22, SYN))]
        }),
    ]
}
