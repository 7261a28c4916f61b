//! What denied packets hear.

use super::Content;
use super::world::{FAMILIES, other, rx, tx};
use crate::abi::{DenyResponse, Direction, Hook};
use crate::host::build::{tcp, udp};
use crate::host::tcp_flags::{ACK, RST, SYN};
use crate::host::{Wire, tcp_flags};
use crate::parse::protocol::{ICMP, ICMPV6, TCP, UDP};

use DenyResponse::{Icmp, Reset, Silent};

/// What a denied packet must hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing.
    Silence,
    /// A TCP reset that acknowledges this number.
    Reset(u32),
    /// An ICMP error: administratively prohibited.
    Prohibited,
}

/// A packet that policy denies, and what it hears.
#[derive(Clone, Debug)]
pub struct Denial {
    /// What it shows.
    pub name: String,
    /// What policy depends on: nothing is allowed.
    pub content: Content,
    /// How denials are answered.
    pub mode: DenyResponse,
    /// Where.
    pub hook: Hook,
    /// From the Ethernet header on.
    pub frame: Vec<u8>,
    /// What must come back.
    pub heard: Heard,
}

/// All of them.
pub fn denials() -> Vec<Denial> {
    let mut all = Vec::new();
    for (v6, family) in FAMILIES {
        for (hook, wire, way) in [
            (Hook::FromPod, tx as fn(bool) -> Wire, "from the pod"),
            (Hook::ToPod, rx as fn(bool) -> Wire, "to the pod"),
        ] {
            for (name, frame, icmp, reset) in cases(v6, &wire(v6)) {
                for (mode, heard) in [(Silent, Heard::Silence), (Icmp, icmp), (Reset, reset)] {
                    let name = format!("{family}: {name} {way}, {}", mode.name());
                    all.push(Denial { name, content: Content::closed(1), mode, hook, frame: frame.clone(), heard });
                }
            }
        }
        let forged = [
            ("another pod's source", Hook::FromPod, tx(v6).src(other(v6)).tcp(1, 80, SYN)),
            ("another's destination", Hook::ToPod, rx(v6).dst(other(v6)).tcp(1, 80, SYN)),
            ("a source that is a group", Hook::ToPod, rx(v6).src(group(v6)).udp(1, 53)),
            ("a source that is none", Hook::ToPod, rx(v6).src(none(v6)).udp(1, 53)),
            ("a source on the node's loopback", Hook::ToPod, rx(v6).src(loopback(v6)).udp(1, 53)),
        ];
        for (name, hook, frame) in forged {
            let (content, heard) = (Content::closed(1), Heard::Silence);
            all.push(Denial { name: format!("{family}: {name}"), content, mode: Reset, hook, frame, heard });
        }
        all.push(Denial {
            name: format!("{family}: an endpoint without policy"),
            content: Content::unloaded(1),
            mode: Reset,
            hook: Hook::FromPod,
            frame: tx(v6).tcp(1, 80, SYN),
            heard: Heard::Silence,
        });
        all.push(Denial {
            name: format!("{family}: what policy allows"),
            content: Content::closed(1).all(Direction::Egress),
            mode: Reset,
            hook: Hook::FromPod,
            frame: tx(v6).tcp(1, 80, SYN),
            heard: Heard::Silence,
        });
    }
    all
}

/// Name, frame, and what it hears with ICMP and with resets.
fn cases(v6: bool, wire: &Wire) -> Vec<(&'static str, Vec<u8>, Heard, Heard)> {
    let (silence, prohibited) = (Heard::Silence, Heard::Prohibited);
    let mut numbered = tcp(4000, 80, SYN);
    numbered[4..8].copy_from_slice(&0xffff_fff0_u32.to_be_bytes());
    let with_data = [&numbered[..], &[7; 33]].concat();
    let icmp = if v6 { ICMPV6 } else { ICMP };
    let mut group_mac = wire.clone();
    group_mac.dst_mac = [0x33, 0x33, 0, 0, 0, 1];
    vec![
        ("SYN", wire.ip(TCP, &numbered), prohibited, Heard::Reset(0xffff_fff1)),
        ("SYN with data", wire.ip(TCP, &with_data), prohibited, Heard::Reset(18)),
        ("SYN with padding", [wire.ip(TCP, &numbered), vec![0; 9]].concat(), prohibited, Heard::Reset(0xffff_fff1)),
        ("UDP", wire.udp(4000, 53), prohibited, prohibited),
        ("a large datagram", wire.ip(UDP, &udp(4000, 53, 1200)), prohibited, prohibited),
        ("SCTP INIT", wire.sctp(4000, 9, 1), prohibited, prohibited),
        ("GRE", wire.ip(47, &[0; 24]), prohibited, prohibited),
        ("echo", wire.ping(7), prohibited, prohibited),
        ("echo reply", wire.pong(7), silence, silence),
        ("an error", wire.unreachable(&wire.udp(1, 2)), silence, silence),
        ("an unknown ICMP message", wire.icmp(if v6 { 100 } else { 42 }, 0, &[0; 16]), silence, silence),
        ("ICMP cut short", wire.ip(icmp, &[8, 0]), silence, silence),
        ("reset", wire.tcp(4000, 80, RST), silence, silence),
        ("reset with ACK", wire.tcp(4000, 80, RST | ACK), silence, silence),
        ("ACK", wire.tcp(4000, 80, ACK), silence, silence),
        ("SYN and ACK", wire.tcp(4000, 80, SYN | ACK), silence, silence),
        ("impossible flags", wire.tcp(4000, 80, SYN | tcp_flags::FIN), silence, silence),
        ("a later fragment", wire.clone().fragment(1, 64, false).ip(UDP, &[0; 16]), silence, silence),
        ("a group's hardware address", group_mac.udp(4000, 53), silence, silence),
    ]
}

fn group(v6: bool) -> std::net::IpAddr {
    if v6 { [0xff0e, 0, 0, 0, 0, 0, 0, 1].into() } else { [239, 1, 1, 1].into() }
}

fn none(v6: bool) -> std::net::IpAddr {
    if v6 { [0_u16; 8].into() } else { [0, 0, 0, 7].into() }
}

fn loopback(v6: bool) -> std::net::IpAddr {
    if v6 { std::net::Ipv6Addr::LOCALHOST.into() } else { [127, 0, 0, 1].into() }
}

/// Whether `response` to `frame` is what must be heard: addresses, ports, numbers and checksums.
///
/// # Errors
/// What is wrong with it.
pub fn check(frame: &[u8], response: &[u8], heard: Heard) -> Result<(), String> {
    if heard == Heard::Silence {
        return if response.is_empty() { Ok(()) } else { Err(format!("heard {response:02x?}")) };
    }
    let wrong = |what: &str| Err(format!("{what}: {response:02x?}"));
    let v6 = frame[12] == 0x86;
    let (header, protocol_at) = if v6 { (54, 20) } else { (34, 23) };
    let addresses = |bytes: &[u8]| {
        let (src, dst, end) = if v6 { (22, 38, 54) } else { (26, 30, 34) };
        (bytes[src..dst].to_vec(), bytes[dst..end].to_vec())
    };
    if response.len() < header + 20 {
        return wrong("too short");
    }
    let ((asked_src, asked_dst), (src, dst)) = (addresses(frame), addresses(response));
    if (src, dst) != (asked_dst.clone(), asked_src.clone()) || response[12..14] != frame[12..14] {
        return wrong("other addresses");
    }
    if response[..6] != frame[6..12] || response[6..12] != frame[..6] {
        return wrong("other hardware addresses");
    }
    let body = &response[header..];
    let length = u16::try_from(body.len()).unwrap_or(0);
    let said = u16::from_be_bytes(if v6 { [response[18], response[19]] } else { [response[16], response[17]] });
    if said != if v6 { length } else { length + 20 } {
        return wrong("another length");
    }
    if !v6 && folded(&response[14..34]) != 0xffff {
        return wrong("header checksum");
    }
    let pseudo = [&asked_src[..], &asked_dst, &[0, response[protocol_at]], &length.to_be_bytes()].concat();
    match heard {
        Heard::Reset(acknowledged) => {
            let ports = [&frame[header + 2..header + 4], &frame[header..header + 2]].concat();
            let numbers = [&[0; 4][..], &acknowledged.to_be_bytes()].concat();
            if response[protocol_at] != TCP
                || body[..4] != ports
                || body[4..12] != numbers
                || body[12..14] != [0x50, 0x14]
            {
                return wrong("not the reset");
            }
            if body.len() != 20 || folded(&[&pseudo[..], body].concat()) != 0xffff {
                return wrong("checksum");
            }
        }
        Heard::Prohibited => {
            let (protocol, kind) = if v6 { (ICMPV6, [1, 1]) } else { (ICMP, [3, 13]) };
            if response[protocol_at] != protocol || body[..2] != kind {
                return wrong("not the error");
            }
            if body[8..] != frame[14..14 + body.len() - 8] || body.len() != header - 14 + 16 {
                return wrong("another quote");
            }
            let summed = if v6 { [&pseudo[..], body].concat() } else { body.to_vec() };
            if folded(&summed) != 0xffff {
                return wrong("checksum");
            }
        }
        Heard::Silence => {}
    }
    Ok(())
}

/// The one's complement sum of bytes.
fn folded(bytes: &[u8]) -> u32 {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}
