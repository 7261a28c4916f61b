//! Fragments.

use strait_packet::{abi::DropReason, host::Wire};

use super::{Attempt, DENIED, IN, OUT, SYN, TCP, UDP, all_drop, allowed, arrives, denied, drops, tcp, udp};
use crate::evasion::{Case, wire};

const LOST: DropReason = DropReason::FragmentNotFound;
const OVERLAP: DropReason = DropReason::FragmentOverlap;
const CHAIN: DropReason = DropReason::InvalidExtensionHeader;

/// More first fragments than are remembered.
const FLOOD: u16 = 9_000;

fn part(c: &Case, number: u16, offset: u16, more: bool) -> Wire {
    c.tx().fragment(u32::from(wire::id(c.mark, number)), offset, more)
}

/// The first fragment of a UDP datagram to a port; 24 bytes.
fn first(c: &Case, number: u16, port: u16) -> Vec<u8> {
    part(c, number, 0, true).ip(UDP, &udp(4009, port, 40, 16))
}

/// Its last.
fn last(c: &Case, number: u16) -> Vec<u8> {
    part(c, number, 24, false).ip(UDP, &[1; 16])
}

fn syn(port: u16) -> Vec<u8> {
    [&tcp(4080, port, SYN)[..], &[0; 4]].concat()
}

pub(super) fn attempts() -> Vec<Attempt> {
    [orphans(), overlaps(), wrapped()].into_iter().flatten().collect()
}

fn orphans() -> Vec<Attempt> {
    vec![
        Attempt::red("a datagram in fragments", |c| vec![arrives(first(c, 0, 9)), arrives(last(c, 0))]),
        Attempt::red("a later fragment alone", |c| vec![drops(OUT, LOST, last(c, 0))]),
        Attempt::red("the last fragment first", |c| vec![drops(OUT, LOST, last(c, 0)), arrives(first(c, 0, 9))]),
        Attempt::red("fragments of a denied datagram", |c| {
            vec![drops(IN, DENIED, first(c, 0, 53)), drops(IN, LOST, last(c, 0))]
        }),
        Attempt::mute("fragments past a closed egress", |c| {
            let away = |wire: Wire| wire.dst(c.outside);
            vec![
                drops(OUT, DENIED, away(part(c, 0, 0, true)).ip(UDP, &udp(4009, 9, 40, 16))),
                drops(OUT, LOST, away(part(c, 0, 24, false)).ip(UDP, &[1; 16])),
                drops(OUT, LOST, away(part(c, 1, 24, true)).ip(UDP, &[1; 16])),
                arrives(first(c, 2, 9)),
                // The identification of a datagram that may pass, on the way to someone else.
                drops(OUT, LOST, away(part(c, 2, 24, false)).ip(UDP, &[1; 16])),
            ]
        }),
        Attempt::red("an identification used for another destination", |c| {
            vec![arrives(first(c, 0, 9)), drops(OUT, LOST, part(c, 0, 24, false).dst(c.outside).ip(UDP, &[1; 16]))]
        }),
        Attempt::red("an identification used for another protocol", |c| {
            vec![arrives(first(c, 0, 9)), drops(OUT, LOST, part(c, 0, 24, false).ip(TCP, &[1; 16]))]
        })
        .v4(),
        Attempt::red("another next header in a later fragment", |c| {
            vec![arrives(first(c, 0, 9)), arrives(part(c, 0, 24, false).ip(TCP, &[1; 16]))]
        })
        .v6(),
        Attempt::red("a fragment from someone else's address", |c| {
            vec![
                arrives(first(c, 0, 9)),
                drops(OUT, DropReason::InvalidSourceIp, part(c, 0, 24, false).src(c.blue.ip).ip(UDP, &[1; 16])),
                drops(OUT, DropReason::InvalidSourceIp, part(c, 0, 0, true).src(c.blue.ip).ip(TCP, &syn(22))),
            ]
        }),
        Attempt::red("a flood of first fragments", |c| {
            let flood = (0..FLOOD)
                .map(|number| c.tx().fragment(0x8000_0000 | u32::from(number), 0, true).ip(UDP, &udp(4009, 53, 40, 16)))
                .collect();
            vec![
                all_drop(IN, DENIED, flood),
                arrives(first(c, 0, 9)),
                arrives(last(c, 0)),
                drops(OUT, LOST, last(c, 1)),
            ]
        })
        .v6()
        .on_link(),
        Attempt::red("the same first fragment twice", |c| {
            vec![arrives(first(c, 0, 9)), arrives(first(c, 0, 9)), arrives(last(c, 0))]
        }),
        Attempt::red("an empty later fragment", |c| {
            vec![arrives(first(c, 0, 9)), drops(OUT, DropReason::InvalidPacket, part(c, 0, 24, false).ip(UDP, &[]))]
        })
        .v4(),
    ]
}

fn overlaps() -> Vec<Attempt> {
    vec![
        Attempt::red("a first fragment that ends in the header", |c| {
            [8, 12, 16].map(|length| drops(OUT, OVERLAP, part(c, 0, 0, true).ip(TCP, &syn(80)[..length]))).into()
        }),
        Attempt::red("half a header, then the other half", |c| {
            vec![
                drops(OUT, OVERLAP, part(c, 0, 0, true).ip(TCP, &syn(80)[..8])),
                drops(OUT, LOST, part(c, 0, 8, false).ip(TCP, &syn(22)[8..])),
            ]
        }),
        Attempt::red("ports rewritten by an overlap", |c| {
            vec![
                arrives(part(c, 0, 0, true).ip(TCP, &syn(80))),
                drops(IN, DENIED, part(c, 0, 0, true).ip(TCP, &syn(22))),
                drops(OUT, OVERLAP, part(c, 0, 8, true).ip(TCP, &[0; 16])),
                drops(OUT, OVERLAP, part(c, 0, 16, false).ip(TCP, &[0; 16])),
                arrives(part(c, 0, 24, false).ip(TCP, &[0; 16])),
            ]
        }),
        Attempt::red("flags rewritten by an overlap", |c| {
            vec![
                arrives(part(c, 0, 0, true).ip(TCP, &syn(80))),
                drops(OUT, OVERLAP, part(c, 0, 8, false).ip(TCP, &[0, 0, 0, 0, 5 << 4, SYN, 0, 0])),
            ]
        }),
        Attempt::red("a UDP header in pieces", |c| {
            vec![
                drops(OUT, OVERLAP, part(c, 0, 0, true).ip(UDP, &udp(4009, 9, 16, 8)[..4])),
                drops(OUT, LOST, part(c, 0, 8, false).ip(UDP, &[0; 8])),
            ]
        }),
        Attempt::red("a header that says it is longer than the fragment", |c| {
            let mut long = syn(80);
            long[12] = 15 << 4;
            vec![drops(OUT, OVERLAP, part(c, 0, 0, true).ip(TCP, &long))]
        }),
        Attempt::red("an error in fragments", |c| {
            let error = c.tx().unreachable(&c.rx().udp(53, 4053));
            let from = super::l4(c);
            let protocol = if c.v6 { 58 } else { 1 };
            let whole = (error.len() - from) & !7;
            vec![drops(OUT, OVERLAP, part(c, 0, 0, true).ip(protocol, &error[from..from + whole]))]
        }),
    ]
}

fn wrapped() -> Vec<Attempt> {
    vec![
        Attempt::red("an atomic fragment", |c| {
            let wire = part(c, 0, 0, false);
            vec![arrives(allowed(&wire)), drops(IN, DENIED, denied(&wire))]
        })
        .v6(),
        Attempt::red("a fragment in an atomic fragment", |c| {
            let wire = |offset, more| part(c, 0, offset, more).extension(44, &[0, 0, 0, 0, 0, 0, 0, 1]);
            vec![
                drops(OUT, CHAIN, wire(0, true).ip(TCP, &syn(80))),
                drops(OUT, CHAIN, wire(24, false).ip(TCP, &[0; 16])),
            ]
        })
        .v6(),
        Attempt::red("a fragment in a fragment", |c| {
            let inner: &[u8] = &[0, 0, 0, 1, 0, 0, 0, 1];
            vec![drops(OUT, CHAIN, part(c, 0, 0, true).extension(44, inner).ip(TCP, &syn(80)))]
        })
        .v6(),
        Attempt::red("a first fragment with options alone", |c| {
            // Next header TCP, eight bytes of options, and the TCP header left to the second fragment.
            let mut options = vec![TCP, 0, 1, 4, 0, 0, 0, 0];
            let second = part(c, 0, 8, false).ip(60, &syn(22));
            let one = part(c, 0, 0, true).ip(60, &options);
            options[1] = 1;
            let long = part(c, 1, 0, true).ip(60, &options);
            vec![drops(OUT, OVERLAP, one), drops(OUT, LOST, second), drops(OUT, CHAIN, long)]
        })
        .v6(),
        Attempt::red("options between the fragment header and the port", |c| {
            let options = |next: u8, port| [&[next, 0, 1, 4, 0, 0, 0, 0][..], &syn(port)].concat();
            vec![
                arrives(part(c, 0, 0, true).ip(60, &options(TCP, 80))),
                drops(OUT, OVERLAP, part(c, 0, 24, true).ip(60, &[0; 16])),
                drops(IN, DENIED, part(c, 1, 0, true).ip(60, &options(TCP, 22))),
            ]
        })
        .v6(),
        Attempt::red("a source route in a later fragment", |c| {
            if c.v6 {
                let route = [0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                let wire = c.tx().extension(43, &route).fragment(u32::from(wire::id(c.mark, 0)), 24, false);
                vec![arrives(first(c, 0, 9)), drops(OUT, DropReason::SourceRouted, wire.ip(UDP, &[0; 16]))]
            } else {
                let wire = part(c, 0, 24, false).options(&[131, 7, 4, 0, 0, 0, 0, 0]);
                vec![arrives(first(c, 0, 9)), drops(OUT, DropReason::SourceRouted, wire.ip(UDP, &[0; 16]))]
            }
        }),
        Attempt::red("neighbour discovery in fragments", |c| {
            let message = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &wire::octets(c.attacker.ip)].concat();
            let wire = part(c, 0, 0, true).dst("ff02::1".parse().unwrap()).hop_limit(255);
            vec![drops(OUT, DropReason::ForbiddenIcmpv6, wire.ip(58, &message))]
        })
        .v6()
        .on_link(),
    ]
}
