//! IP headers that lie, and extension headers.

use strait_packet::{abi::DropReason, host::Wire};

use super::{
    ACK, Attempt, DENIED, IN, OUT, SYN, TCP, UDP, allowed, arrives, cut, denied, drops, ends, patched, tcp, udp,
};
use crate::evasion::{Case, Step};

const INVALID: DropReason = DropReason::InvalidPacket;
const CHAIN: DropReason = DropReason::InvalidExtensionHeader;
const ROUTED: DropReason = DropReason::SourceRouted;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
/// Options that say nothing (`PadN`).
const PADDING: [u8; 8] = [0, 0, 1, 4, 0, 0, 0, 0];
const AH: [u8; 16] = [0, 2, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0];

pub(super) fn attempts() -> Vec<Attempt> {
    [lies(), chains(), routing()].into_iter().flatten().collect()
}

fn both(wire: &Wire) -> Vec<Step> {
    vec![arrives(allowed(wire)), drops(IN, DENIED, denied(wire)), drops(IN, DENIED, wire.udp(4053, 53))]
}

fn lies() -> Vec<Attempt> {
    fn refused(frames: Vec<Vec<u8>>) -> Vec<Step> {
        frames.into_iter().map(|frame| drops(OUT, INVALID, frame)).collect()
    }
    vec![
        Attempt::red("IPv4 header length too short", |c| {
            refused((0..5).map(|words| patched(denied(&c.tx()), 14, &[0x40 | words])).collect())
        })
        .v4(),
        Attempt::red("IPv4 header length beyond the packet", |c| refused(vec![patched(denied(&c.tx()), 14, &[0x4f])]))
            .v4(),
        Attempt::red("other versions in the header", |c| {
            let low = if c.v6 { 0 } else { 5 };
            let versions = (0..16).filter(|version| *version != if c.v6 { 6 } else { 4 });
            refused(versions.map(|version| patched(denied(&c.tx()), 14, &[version << 4 | low])).collect())
        })
        .on_link(),
        Attempt::red("length beyond the frame", |c| {
            let at = if c.v6 { 18 } else { 16 };
            refused([[0, 200], [0x7f, 0xff], [0xff, 0xff]].map(|length| patched(denied(&c.tx()), at, &length)).into())
        }),
        Attempt::red("IPv4 length shorter than the header", |c| {
            refused([1_u8, 4, 19].map(|length| patched(denied(&c.tx()), 16, &[0, length])).into())
        })
        .v4(),
        Attempt::red("cut inside the header", |c| {
            let header = if c.v6 { 40 } else { 20 };
            refused([2, 8, header - 1].map(|length| cut(denied(&c.tx()), 14 + length)).into())
        }),
        Attempt::red("transport header behind the end", |c| {
            // A SYN to a denied port that the length leaves out.
            let length: [u8; 2] = if c.v6 { [0, 8] } else { [0, 28] };
            let at = if c.v6 { 18 } else { 16 };
            vec![
                drops(OUT, DropReason::InvalidHeader, patched(denied(&c.tx()), at, &length)),
                drops(OUT, DropReason::InvalidHeader, patched(allowed(&c.tx()), at, &length)),
            ]
        }),
        Attempt::red("padding behind the end", |c| {
            let pad = |frame: Vec<u8>| [frame, vec![0xee; 20]].concat();
            vec![arrives(pad(allowed(&c.tx()))), drops(IN, DENIED, pad(denied(&c.tx())))]
        }),
        Attempt::red("IPv4 without a length", |c| vec![ends(patched(denied(&c.tx()), 16, &[0, 0]))]).v4(),
        Attempt::red("IPv4 with a wrong checksum", |c| {
            [allowed(&c.tx()), denied(&c.tx())].map(|frame| ends(patched(frame, 24, &[0xba, 0xd1]))).into()
        })
        .v4(),
        Attempt::red("IPv4 with the reserved flag", |c| {
            let evil = |frame| patched(frame, 20, &[0x80]);
            vec![arrives(evil(allowed(&c.tx()))), drops(IN, DENIED, evil(denied(&c.tx())))]
        })
        .v4(),
        Attempt::red("type of service, flow label", |c| {
            let wire = c.tx();
            let odd = |frame: Vec<u8>| if c.v6 { patched(frame, 14, &[0x6f]) } else { patched(frame, 15, &[0xff]) };
            vec![arrives(odd(allowed(&wire))), drops(IN, DENIED, odd(denied(&wire)))]
        }),
        Attempt::red("hop limit that ends on the way", |c| {
            [0, 1]
                .into_iter()
                .flat_map(|hops| [ends(allowed(&c.tx().hop_limit(hops))), ends(denied(&c.tx().hop_limit(hops)))])
                .collect()
        }),
        Attempt::red("IPv6 without a length, before hop-by-hop options", |c| {
            let frame = denied(&c.tx().extension(HOP_BY_HOP, &PADDING));
            vec![ends(patched(frame, 18, &[0, 0]))]
        })
        .v6(),
        Attempt::outside("headers that lie, from outside", |c| {
            // A switch that looks at lengths stops them before the node's hook does.
            let at = if c.v6 { 18 } else { 16 };
            vec![ends(patched(denied(&c.tx()), at, &[0x7f, 0xff])), ends(cut(denied(&c.tx()), 24))]
        }),
        Attempt::red("protocols without ports", |c| {
            let body = tcp(4080, 80, SYN);
            [2_u8, 33, 46, 50, 89, 103, 112, 115, 136, 253, 254, 255]
                .into_iter()
                .filter(|protocol| *protocol != 2)
                .map(|protocol| drops(IN, DENIED, c.tx().ip(protocol, &body)))
                .collect()
        }),
        Attempt::red("authentication header", |c| {
            let body = [&[TCP, 4][..], &AH[2..], &[0; 8], &tcp(4022, 22, SYN)].concat();
            vec![drops(IN, DENIED, c.tx().ip(AUTHENTICATION, &body))]
        }),
    ]
}

fn chains() -> Vec<Attempt> {
    fn with(wire: Wire, chain: &[(u8, &[u8])]) -> Wire {
        chain.iter().fold(wire, |wire, (number, bytes)| wire.extension(*number, bytes))
    }
    fn broken(c: &Case, chain: &[(u8, &[u8])]) -> Vec<Step> {
        let wire = with(c.tx(), chain);
        vec![drops(OUT, CHAIN, allowed(&wire)), drops(OUT, CHAIN, denied(&wire))]
    }
    vec![
        Attempt::red("hop-by-hop options", |c| both(&with(c.tx(), &[(HOP_BY_HOP, &PADDING)]))).v6(),
        Attempt::red("destination options", |c| both(&with(c.tx(), &[(DESTINATION, &PADDING)]))).v6(),
        Attempt::red("long destination options", |c| {
            let long = [&[0, 31, 1, 250][..], &[0; 250], &[0, 0]].concat();
            both(&with(c.tx(), &[(DESTINATION, &long)]))
        })
        .v6(),
        Attempt::red("authentication header in the chain", |c| both(&with(c.tx(), &[(AUTHENTICATION, &AH)]))).v6(),
        Attempt::red("all headers in order", |c| {
            let chain: [(u8, &[u8]); 4] =
                [(HOP_BY_HOP, &PADDING), (DESTINATION, &PADDING), (AUTHENTICATION, &AH), (DESTINATION, &PADDING)];
            both(&with(c.tx(), &chain))
        })
        .v6(),
        Attempt::red("eight headers", |c| both(&with(c.tx(), &[(DESTINATION, &PADDING[..]); 8]))).v6(),
        Attempt::red("nine headers", |c| broken(c, &[(DESTINATION, &PADDING[..]); 9])).v6(),
        Attempt::red("a hundred headers", |c| broken(c, &[(DESTINATION, &PADDING[..]); 100])).v6(),
        Attempt::red("hop-by-hop options in the middle", |c| {
            broken(c, &[(DESTINATION, &PADDING), (HOP_BY_HOP, &PADDING)])
        })
        .v6(),
        Attempt::red("hop-by-hop options twice", |c| broken(c, &[(HOP_BY_HOP, &PADDING), (HOP_BY_HOP, &PADDING)])).v6(),
        Attempt::red("a header longer than the packet", |c| broken(c, &[(DESTINATION, &[0, 255, 1, 4, 0, 0, 0, 0])]))
            .v6(),
        Attempt::red("a header cut short", |c| {
            vec![
                drops(OUT, CHAIN, c.tx().ip(DESTINATION, &[TCP, 0, 1, 4])),
                drops(OUT, CHAIN, c.tx().ip(HOP_BY_HOP, &[])),
                drops(OUT, CHAIN, c.tx().ip(FRAGMENT, &[TCP, 0, 0, 0, 0, 0, 0])),
            ]
        })
        .v6(),
        Attempt::red("a chain to nothing", |c| {
            let wire = || with(c.tx(), &[(DESTINATION, &PADDING)]);
            vec![
                drops(OUT, DropReason::InvalidHeader, wire().ip(TCP, &[])),
                drops(OUT, DropReason::InvalidHeader, wire().ip(UDP, &[])),
                drops(IN, DENIED, wire().ip(59, &[])),
                drops(IN, DENIED, c.tx().ip(59, &tcp(4080, 80, SYN))),
            ]
        })
        .v6(),
        Attempt::red("unknown headers in the chain", |c| {
            let mut body = PADDING.to_vec();
            body[0] = TCP;
            body.extend(tcp(4022, 22, SYN));
            // Mobility, HIP, Shim6, experiments: no stack looks for TCP behind what it does not know.
            [135, 139, 140, 253, 254].map(|next| drops(IN, DENIED, c.tx().ip(next, &body))).into()
        })
        .v6(),
        Attempt::red("a home address", |c| {
            let crate::evasion::End { ip, .. } = c.blue;
            let home = [&[0, 2, 1, 2, 0, 0, 201, 16][..], &crate::evasion::wire::octets(ip)].concat();
            vec![drops(IN, DENIED, denied(&with(c.tx(), &[(DESTINATION, &home)])))]
        })
        .v6(),
        Attempt::red("a second fragment header", |c| {
            let atomic: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 9];
            broken(c, &[(FRAGMENT, atomic), (FRAGMENT, atomic)])
        })
        .v6(),
        Attempt::mute("chains past a closed egress", |c| {
            let out = |wire: Wire| drops(OUT, DENIED, wire.dst(c.outside).tcp(4443, 443, SYN));
            vec![
                out(with(c.tx(), &[(HOP_BY_HOP, &PADDING)])),
                out(with(c.tx(), &[(DESTINATION, &PADDING)])),
                out(with(c.tx(), &[(AUTHENTICATION, &AH)])),
                drops(OUT, DENIED, c.tx().dst(c.outside).ip(59, &[])),
                drops(OUT, DENIED, c.tx().dst(c.outside).ip(50, &udp(1, 9, 16, 8))),
                drops(OUT, DENIED, with(c.tx(), &[(DESTINATION, &PADDING)]).tcp(4009, 9, ACK)),
            ]
        })
        .v6(),
    ]
}

fn routing() -> Vec<Attempt> {
    fn header(c: &Case, kind: u8, left: u8) -> Vec<u8> {
        [&[0, 2, kind, left, 0, 0, 0, 0][..], &crate::evasion::wire::octets(c.blue.ip)].concat()
    }
    fn by(c: &Case, kind: u8) -> Vec<Step> {
        let wire = c.tx().extension(ROUTING, &header(c, kind, 1));
        let last = c.tx().extension(ROUTING, &header(c, kind, 0));
        let done = if kind == 0 { drops(OUT, ROUTED, denied(&last)) } else { drops(IN, DENIED, denied(&last)) };
        vec![drops(OUT, ROUTED, allowed(&wire)), drops(OUT, ROUTED, denied(&wire)), done]
    }
    vec![
        Attempt::red("routing header type 0", |c| by(c, 0)).v6(),
        Attempt::red("routing header type 2", |c| by(c, 2)).v6(),
        Attempt::red("routing header type 3", |c| by(c, 3)).v6(),
        Attempt::red("routing header type 4", |c| by(c, 4)).v6(),
        Attempt::red("routing header of an unknown type", |c| by(c, 200)).v6(),
        Attempt::red("routing header behind others", |c| {
            let wire = c.tx().extension(HOP_BY_HOP, &PADDING).extension(DESTINATION, &PADDING);
            vec![drops(OUT, ROUTED, allowed(&wire.extension(ROUTING, &header(c, 4, 1))))]
        })
        .v6(),
        Attempt::red("routing header by way of a pod that may", |c| {
            let wire = c.tx().dst(c.blue.ip).extension(
                ROUTING,
                &[&[0, 2, 4, 1, 0, 0, 0, 0][..], &crate::evasion::wire::octets(c.victim.ip)].concat(),
            );
            vec![drops(OUT, ROUTED, denied(&wire))]
        })
        .v6(),
    ]
}
