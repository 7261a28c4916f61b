//! ICMP errors: they pass when they quote a packet of a tracked connection that could have caused them, and never else.

use crate::abi::{Config, CtState, Direction, DropReason};
use crate::conntrack::Opener;
use crate::flow::Flow;
use crate::frame::{Frame, bytes, halves};
use crate::maps::Maps;
use crate::parse::{self, Ip, Part, Transport, protocol};
use crate::{abi, track};

/// Bytes of an ICMP header before the quoted packet.
const ICMP_HEADER: u32 = 8;

/// True for an ICMP error of either version: unreachable, too big, time exceeded, parameter problem.
#[inline(always)]
pub(crate) fn is_error(flow: &Flow) -> bool {
    match flow.key.protocol {
        protocol::ICMP => matches!(flow.icmp_type, 3 | 11 | 12),
        protocol::ICMPV6 => matches!(flow.icmp_type, 1..=4),
        _ => false,
    }
}

/// The packet that an error quotes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quoted {
    pub(crate) flow: Flow,
    ip: Ip,
}

/// Lets the error through if the packet it quotes went the other way on a connection that still stands.
#[inline(always)]
pub(crate) fn error<M: Maps, F: Frame>(
    frame: &F,
    maps: &mut M,
    flow: &mut Flow,
    ip: &Ip,
    config: &Config,
    quoted: &mut Quoted,
) -> Result<(), DropReason> {
    // No stack fragments an error: it quotes no more than fits.
    if ip.part != Part::Whole {
        return Err(DropReason::FragmentOverlap);
    }
    quoted.flow = *flow;
    quote(frame, ip, quoted)?;
    let about = &mut quoted.flow;
    // The error goes to who sent the quoted packet: the addresses at that end are the same.
    let sender = if flow.is_tx() { about.key.remote == flow.key.remote } else { about.key.local == flow.key.local };
    if !sender {
        return Err(DropReason::UnrelatedIcmpError);
    }
    let now = maps.tick_ns();
    let towards_endpoint = !flow.is_tx();
    let endpoint = flow.endpoint;
    let found = maps.connection(&about.key, |entry| {
        let went = if towards_endpoint { entry.tx_packets } else { entry.rx_packets };
        if went == 0
            || entry.endpoint != endpoint
            || entry.expired(now)
            || CtState::from_number(entry.state) == CtState::Denied
        {
            return None;
        }
        let stale = entry.revision != config.revision;
        let opener = Opener {
            direction: Direction::from_number(entry.direction),
            port: entry.policy_port,
            picked_up: entry.flags & abi::ct_flags::PICKED_UP != 0,
        };
        Some((stale, opener))
    });
    match found.flatten() {
        None => Err(DropReason::UnrelatedIcmpError),
        Some((false, _)) => Ok(()),
        Some((true, opener)) => {
            let verdict = track::rejudge(maps, about, config, opener);
            flow.peer = about.peer;
            flow.origin = about.origin;
            verdict
        }
    }
}

/// Reads the quoted packet, as the packet of the endpoint's flow that it was.
#[inline(always)]
fn quote<F: Frame>(frame: &F, outer: &Ip, quoted: &mut Quoted) -> Result<(), DropReason> {
    let Quoted { flow: about, ip } = quoted;
    let at = outer.transport + ICMP_HEADER;
    let read = if outer.v6 { parse::quoted_ipv6(frame, at, ip) } else { parse::quoted_ipv4(frame, at, ip) };
    read.map_err(|_| DropReason::UnrelatedIcmpError)?;
    if ip.part == Part::Later || ip.transport + 8 > outer.end {
        return Err(DropReason::UnrelatedIcmpError);
    }
    // Eight bytes of the transport header are all that RFC 792 promises.
    let Some([first, second]) = frame.words::<2>(ip.transport) else {
        return Err(DropReason::UnrelatedIcmpError);
    };
    let mut t = Transport::default();
    if matches!(ip.protocol, protocol::ICMP | protocol::ICMPV6) {
        let [kind, code, ..] = bytes(first);
        t.icmp_type = kind;
        t.icmp_code = code;
        t.src_port = abi::Port::from_wire(halves(second).0);
    } else if matches!(ip.protocol, protocol::TCP | protocol::UDP | protocol::SCTP) {
        let (src, dst) = halves(first);
        t.src_port = abi::Port::from_wire(src);
        t.dst_port = abi::Port::from_wire(dst);
    }
    about.direction = match about.direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    };
    about.set_addresses(ip);
    about.set_transport(ip.protocol, &t);
    Ok(())
}
