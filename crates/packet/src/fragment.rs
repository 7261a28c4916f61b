//! Fragments: later ones follow the first, and none may touch the header the first was judged by.

use crate::abi::{DropReason, FragmentKey, FragmentPorts, event_flags};
use crate::flow::{Flow, Signal};
use crate::maps::Maps;
use crate::parse::{Ip, Part, Transport, protocol};

/// How long a stack waits for the rest of a datagram at most (RFC 8200 §4.5), nanoseconds.
const REASSEMBLY_NS: u64 = 60_000_000_000;

/// What stands in for the transport header of a later fragment; `ip.protocol` becomes the first fragment's.
#[inline(always)]
pub(crate) fn later<M: Maps>(maps: &M, flow: &mut Flow, ip: &mut Ip) -> Result<Transport, DropReason> {
    flow.event_flags |= event_flags::FRAGMENT;
    let ports = maps.fragment(&key(flow, ip)).ok_or(DropReason::FragmentNotFound)?;
    if maps.tick_ns().saturating_sub(ports.seen_ns) > REASSEMBLY_NS {
        return Err(DropReason::FragmentNotFound);
    }
    if ip.offset < u32::from(ports.header_len) {
        return Err(DropReason::FragmentOverlap);
    }
    ip.protocol = ports.protocol;
    let stream = matches!(ports.protocol, protocol::TCP | protocol::SCTP);
    Ok(Transport {
        src_port: ports.src_port,
        dst_port: ports.dst_port,
        icmp_type: ports.icmp_type,
        signal: if stream { Signal::Segment } else { Signal::Datagram },
        ..Transport::default()
    })
}

/// Remembers a first fragment that may pass. If the map is full the later ones are dropped.
#[inline(always)]
pub(crate) fn remember<M: Maps>(maps: &mut M, flow: &mut Flow, ip: &Ip, t: &Transport) {
    if ip.part != Part::First {
        return;
    }
    let before = u16::try_from(ip.transport - ip.fragmented).unwrap_or(u16::MAX);
    let ports = FragmentPorts {
        seen_ns: maps.tick_ns(),
        src_port: t.src_port,
        dst_port: t.dst_port,
        header_len: before.saturating_add(t.header_len),
        protocol: ip.protocol,
        icmp_type: t.icmp_type,
    };
    maps.insert_fragment(&key(flow, ip), &ports);
}

#[inline(always)]
fn key(flow: &Flow, ip: &Ip) -> FragmentKey {
    FragmentKey {
        src: ip.src,
        dst: ip.dst,
        id: ip.id,
        ifindex: flow.ifindex,
        protocol: if ip.v6 { 0 } else { ip.protocol },
        pad: [0; 3],
    }
}
