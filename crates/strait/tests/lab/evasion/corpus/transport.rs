//! TCP, UDP, SCTP and ICMP that do not mean what they say.

use strait_packet::abi::DropReason;

use super::{
    ACK, Attempt, DENIED, FIN, IN, OUT, PSH, RST, SYN, TCP, UDP, URG, allowed, arrives, drops, l4, patched, tcp, udp,
};
use crate::evasion::{Case, Step};

const FLAGS: DropReason = DropReason::InvalidTcpFlags;
const HEADER: DropReason = DropReason::InvalidHeader;
const UNRELATED: DropReason = DropReason::UnrelatedIcmpError;

pub(super) fn attempts() -> Vec<Attempt> {
    [flags(), segments(), datagrams(), errors(), messages(), egress()].into_iter().flatten().collect()
}

fn flags() -> Vec<Attempt> {
    fn odd(c: &Case, flags: u8) -> Vec<Step> {
        [80, 22].map(|port| drops(OUT, FLAGS, c.tx().tcp(4080, port, flags))).into()
    }
    fn stray(c: &Case, flags: u8) -> Vec<Step> {
        vec![drops(IN, DENIED, c.tx().tcp(4022, 22, flags)), drops(IN, DENIED, c.tx().tcp(80, 22, flags))]
    }
    vec![
        Attempt::red("TCP without flags", |c| odd(c, 0)),
        Attempt::red("TCP with all flags", |c| odd(c, 0x3f)),
        Attempt::red("TCP FIN, PSH, URG", |c| odd(c, FIN | PSH | URG)),
        Attempt::red("TCP FIN alone", |c| odd(c, FIN)),
        Attempt::red("TCP PSH alone", |c| odd(c, PSH)),
        Attempt::red("TCP URG alone", |c| odd(c, URG)),
        Attempt::red("TCP SYN and FIN", |c| odd(c, SYN | FIN)),
        Attempt::red("TCP SYN and RST", |c| odd(c, SYN | RST)),
        Attempt::red("TCP FIN and RST", |c| odd(c, FIN | RST)),
        Attempt::red("TCP SYN, FIN and ACK", |c| odd(c, SYN | FIN | ACK)),
        Attempt::red("TCP SYN, RST and ACK", |c| odd(c, SYN | RST | ACK)),
        Attempt::red("TCP congestion flags alone", |c| odd(c, 0xc0)),
        Attempt::red("TCP SYN with congestion flags", |c| {
            vec![arrives(c.tx().tcp(4081, 80, SYN | 0xc0)), drops(IN, DENIED, c.tx().tcp(4081, 22, SYN | 0xc0))]
        }),
        Attempt::red("TCP ACK to a denied port", |c| stray(c, ACK)),
        Attempt::red("TCP SYN and ACK to a denied port", |c| stray(c, SYN | ACK)),
        Attempt::red("TCP FIN and ACK to a denied port", |c| stray(c, FIN | ACK)),
        Attempt::red("TCP PSH and ACK to a denied port", |c| stray(c, PSH | ACK)),
        Attempt::red("TCP RST to a denied port", |c| stray(c, RST)),
        Attempt::red("TCP RST and ACK to a denied port", |c| stray(c, RST | ACK)),
    ]
}

fn segments() -> Vec<Attempt> {
    vec![
        Attempt::red("data to another port than the SYN's", |c| {
            vec![
                arrives(allowed(&c.tx())),
                drops(IN, DENIED, c.tx().tcp(4080, 22, ACK)),
                drops(IN, DENIED, c.tx().tcp(4080, 81, PSH | ACK)),
                drops(IN, DENIED, c.tx().udp(4080, 80)),
            ]
        }),
        Attempt::red("source port of what is allowed", |c| {
            vec![
                drops(IN, DENIED, c.tx().tcp(80, 22, SYN)),
                drops(IN, DENIED, c.tx().udp(9, 53)),
                drops(IN, DENIED, c.tx().udp(53, 53)),
                drops(IN, DENIED, c.tx().tcp(443, 4000, SYN | ACK)),
            ]
        }),
        Attempt::red("ports with their bytes the other way", |c| {
            vec![
                drops(IN, DENIED, c.tx().tcp(4022, 80_u16.swap_bytes(), SYN)),
                drops(IN, DENIED, c.tx().udp(1, 9_u16.swap_bytes())),
            ]
        }),
        Attempt::red("port 0", |c| {
            vec![
                drops(IN, DENIED, c.tx().tcp(4000, 0, SYN)),
                drops(IN, DENIED, c.tx().udp(4000, 0)),
                drops(IN, DENIED, c.tx().tcp(0, 0, SYN)),
            ]
        }),
        Attempt::red("neighbours of allowed ports", |c| {
            [79, 81, 65535 - 80].map(|port| drops(IN, DENIED, c.tx().tcp(4022, port, SYN))).into()
        }),
        Attempt::red("TCP header length that lies", |c| {
            let at = l4(c) + 12;
            [0, 1, 4, 6, 15].map(|words| drops(OUT, HEADER, patched(allowed(&c.tx()), at, &[words << 4]))).into()
        }),
        Attempt::red("TCP header cut short", |c| {
            [1, 4, 12, 19].map(|length| drops(OUT, HEADER, c.tx().ip(TCP, &tcp(4080, 80, SYN)[..length]))).into()
        }),
        Attempt::red("data in a SYN", |c| {
            let syn = |port| c.tx().ip(TCP, &[tcp(4082, port, SYN), vec![b'x'; 64]].concat());
            vec![arrives(syn(80)), drops(IN, DENIED, syn(22))]
        }),
        Attempt::red("SCTP to an allowed TCP port", |c| {
            [0, 1, 2, 6, 7, 10].map(|chunk| drops(IN, DENIED, c.tx().sctp(4080, 80, chunk))).into()
        }),
        Attempt::red("SCTP cut short", |c| vec![drops(OUT, HEADER, c.tx().ip(132, &tcp(4080, 80, 0)[..12]))]),
        Attempt::red("a port that is reused", |c| {
            vec![
                arrives(c.tx().tcp(4083, 80, SYN)),
                arrives(c.tx().tcp(4083, 80, RST)),
                drops(IN, DENIED, c.tx().tcp(4083, 22, SYN)),
                arrives(c.tx().tcp(4083, 80, SYN)),
                drops(IN, DENIED, c.tx().tcp(4083, 22, ACK)),
            ]
        }),
        Attempt::red("both sides open", |c| {
            // The attacker's SYN from the port that the victim would answer.
            vec![drops(IN, DENIED, c.tx().tcp(80, 4080, SYN)), drops(IN, DENIED, c.tx().tcp(80, 4080, SYN | ACK))]
        }),
        Attempt::outside("segments from outside", |c| {
            [ACK, SYN | ACK, FIN | ACK, RST, PSH | ACK]
                .map(|flags| drops(IN, DENIED, c.tx().tcp(4022, 22, flags)))
                .into()
        }),
    ]
}

fn datagrams() -> Vec<Attempt> {
    vec![
        Attempt::red("UDP length shorter than its header", |c| {
            (1..8).map(|length| drops(OUT, HEADER, c.tx().ip(UDP, &udp(4009, 9, length, 8)))).collect()
        }),
        Attempt::red("UDP length of nothing", |c| {
            vec![arrives(c.tx().ip(UDP, &udp(4009, 9, 0, 8))), drops(IN, DENIED, c.tx().ip(UDP, &udp(4009, 53, 0, 8)))]
        }),
        Attempt::red("UDP length beyond the datagram", |c| {
            vec![
                arrives(c.tx().ip(UDP, &udp(4009, 9, 900, 8))),
                drops(IN, DENIED, c.tx().ip(UDP, &udp(4009, 53, 900, 8))),
            ]
        }),
        Attempt::red("UDP header cut short", |c| {
            [0, 3, 7].map(|length| drops(OUT, HEADER, c.tx().ip(UDP, &udp(4009, 9, 8, 0)[..length]))).into()
        }),
        Attempt::red("UDP without data", |c| {
            vec![arrives(c.tx().ip(UDP, &udp(4009, 9, 8, 0))), drops(IN, DENIED, c.tx().ip(UDP, &udp(4009, 53, 8, 0)))]
        }),
        Attempt::red("UDP-Lite to an allowed port", |c| vec![drops(IN, DENIED, c.tx().ip(136, &udp(4009, 9, 8, 8)))]),
        Attempt::red("UDP to an allowed TCP port and the other way round", |c| {
            vec![drops(IN, DENIED, c.tx().udp(4080, 80)), drops(IN, DENIED, c.tx().tcp(4009, 9, SYN))]
        }),
    ]
}

fn errors() -> Vec<Attempt> {
    /// All errors of the family that quote `frame`.
    fn about(c: &Case, frame: &[u8]) -> Vec<Step> {
        let kinds: &[(u8, u8)] = if c.v6 {
            &[(1, 0), (1, 1), (1, 4), (2, 0), (3, 0), (4, 1)]
        } else {
            &[(3, 0), (3, 1), (3, 3), (3, 4), (3, 13), (11, 0), (11, 1), (12, 0)]
        };
        let rest = [&[0, 0, 5, 0][..], &frame[14..]].concat();
        kinds.iter().map(|(kind, code)| drops(OUT, UNRELATED, c.tx().icmp(*kind, *code, &rest))).collect()
    }
    vec![
        Attempt::red("errors about a connection that is not", |c| about(c, &c.rx().tcp(80, 4099, ACK))),
        Attempt::red("errors about a datagram that is not", |c| about(c, &c.rx().udp(53, 4099))),
        Attempt::red("errors about the victim's connection with another", |c| {
            about(c, &c.rx().dst(c.blue.ip).tcp(22, 4022, ACK))
        }),
        Attempt::red("errors about the victim's connection with the outside", |c| {
            about(c, &c.rx().dst(c.outside).tcp(4443, 443, ACK))
        }),
        Attempt::red("errors about another's connection with the victim", |c| {
            about(c, &c.tx().src(c.blue.ip).tcp(4022, 22, ACK))
        }),
        Attempt::red("errors about the attacker's own packet", |c| {
            let sent = c.tx().tcp(4084, 80, SYN);
            std::iter::once(arrives(sent.clone())).chain(about(c, &sent)).collect()
        }),
        Attempt::red("errors that quote nothing", |c| {
            vec![drops(OUT, UNRELATED, c.tx().unreachable(&[])), drops(OUT, UNRELATED, c.tx().unreachable(&[0; 20]))]
        }),
        Attempt::red("errors that quote too little", |c| {
            let frame = c.rx().tcp(80, 4080, ACK);
            vec![
                drops(OUT, UNRELATED, c.tx().unreachable(&frame[..l4(c)])),
                drops(OUT, UNRELATED, c.tx().unreachable(&frame[..l4(c) + 7])),
            ]
        }),
        Attempt::red("errors that quote errors", |c| about(c, &c.rx().unreachable(&c.tx().udp(4009, 9)))),
        Attempt::red("errors that quote a later fragment", |c| {
            about(c, &c.rx().fragment(9, 24, false).ip(UDP, &[0; 16]))
        }),
        Attempt::mute("errors past a closed egress", |c| {
            let to = |frame: &[u8]| c.tx().dst(c.outside).unreachable(frame);
            let rx = c.rx().src(c.outside);
            vec![
                drops(OUT, UNRELATED, to(&rx.udp(53, 4053))),
                drops(OUT, UNRELATED, to(&rx.tcp(443, 4443, ACK))),
                drops(OUT, UNRELATED, to(&rx.ping(1))),
            ]
        }),
        Attempt::outside("errors about nothing, from outside", |c| {
            vec![
                drops(IN, UNRELATED, c.tx().unreachable(&c.rx().tcp(4443, 443, ACK))),
                drops(IN, UNRELATED, c.tx().unreachable(&c.rx().dst(c.blue.ip).udp(53, 4053))),
                drops(IN, UNRELATED, c.tx().unreachable(&c.rx().ping(5))),
            ]
        }),
        Attempt::red("ICMP redirect and source quench", |c| {
            let quoted = [&crate::evasion::wire::octets(c.attacker.ip)[..], &c.rx().udp(53, 4053)[14..]].concat();
            [(5, 0), (5, 1), (5, 3), (4, 0)]
                .map(|(kind, code)| drops(OUT, DropReason::ForbiddenIcmpv4, c.tx().icmp(kind, code, &quoted)))
                .into()
        })
        .v4(),
    ]
}

fn messages() -> Vec<Attempt> {
    vec![
        Attempt::red("echo", |c| vec![drops(IN, DENIED, c.tx().ping(7)), drops(IN, DENIED, c.tx().ping(0))]),
        Attempt::red("an echo reply that nobody asked for", |c| vec![drops(IN, DENIED, c.tx().pong(7))]),
        Attempt::red("an identification as a port", |c| {
            vec![arrives(c.tx().udp(80, 9)), drops(IN, DENIED, c.tx().pong(80)), drops(IN, DENIED, c.tx().ping(9))]
        }),
        Attempt::red("timestamp, information, address mask, router messages", |c| {
            [9, 10, 13, 14, 15, 16, 17, 18, 30, 40].map(|kind| drops(IN, DENIED, c.tx().icmp(kind, 0, &[0; 16]))).into()
        })
        .v4(),
        Attempt::red("unassigned messages", |c| {
            let kinds: &[u8] = if c.v6 { &[0, 5, 100, 101, 127, 200, 255] } else { &[1, 2, 7, 42, 253, 255] };
            kinds.iter().map(|kind| drops(IN, DENIED, c.tx().icmp(*kind, 0, &[0; 16]))).collect()
        }),
        Attempt::red("ICMP of the other family", |c| {
            vec![drops(IN, DENIED, c.tx().ip(if c.v6 { 1 } else { 58 }, &[8, 0, 0, 0, 0, 1, 0, 1]))]
        }),
        Attempt::red("ICMP cut short", |c| {
            let protocol = if c.v6 { 58 } else { 1 };
            vec![drops(OUT, HEADER, c.tx().ip(protocol, &[8, 0, 0, 0])), drops(OUT, HEADER, c.tx().ip(protocol, &[]))]
        }),
    ]
}

/// From a pod that may send UDP 9 to the victim and nothing else.
fn egress() -> Vec<Attempt> {
    fn away(c: &Case) -> Vec<Step> {
        let wire = || c.tx().dst(c.outside);
        let mut frames =
            vec![wire().udp(4053, 53), wire().udp(9, 9), wire().ping(1), wire().pong(1), wire().sctp(1, 9, 1)];
        frames.extend([SYN, ACK, SYN | ACK, FIN | ACK, RST, RST | ACK].map(|flags| wire().tcp(4443, 443, flags)));
        frames.extend([41, 47, 50, 132, 136, 253].map(|protocol| wire().ip(protocol, &[0; 24])));
        frames.into_iter().map(|frame| drops(OUT, DENIED, frame)).collect()
    }
    vec![
        Attempt::mute("what a closed egress permits and denies", |c| {
            vec![
                arrives(c.tx().udp(4009, 9)),
                drops(OUT, DENIED, allowed(&c.tx())),
                drops(OUT, DENIED, c.tx().udp(4053, 53)),
            ]
        }),
        Attempt::mute("to the outside past a closed egress", away).on_link(),
        Attempt::mute("segments past a closed egress", |c| {
            [SYN | ACK, ACK, FIN | ACK, RST, RST | ACK, PSH | ACK]
                .map(|flags| drops(OUT, DENIED, c.tx().tcp(80, 4080, flags)))
                .into()
        }),
        Attempt::mute("to a pod that is closed to nobody", |c| {
            let wire = || c.tx().dst(c.blue.ip);
            vec![
                drops(OUT, DENIED, wire().udp(4009, 9)),
                drops(OUT, DENIED, wire().tcp(1, 80, SYN)),
                drops(OUT, DENIED, wire().ping(1)),
            ]
        })
        .on_link(),
        Attempt::mute("to the other node", |c| {
            let wire = || c.tx().dst(c.nodes[1]);
            vec![
                drops(OUT, DENIED, wire().udp(4009, 9)),
                drops(OUT, DENIED, wire().tcp(1, 22, SYN)),
                drops(OUT, DENIED, wire().ping(1)),
            ]
        })
        .on_link(),
    ]
}
