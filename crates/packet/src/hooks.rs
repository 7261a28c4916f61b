//! The walk of a packet at each hook.
//!
//! ```text
//!  from_pod    endpoint ─ own MAC ─ ARP/ND ─ IP ─ own source ─┐
//!                                                             ├─ fragment ─ transport ─ ICMP error? ─ conntrack ─ policy
//!  to_pod      endpoint ─ ARP/ND ─ IP ─ pod's destination ────┘
//!  from_uplink IP ─ source is nobody's here
//! ```
//!
//! Multicast and broadcast end at the pod's link, in both directions: neighbour discovery about the pod itself passes, group
//! membership is dropped quietly, everything else as [`DropReason::Multicast`].

use crate::abi::{ABI_VERSION, Config, DropReason, Endpoint, Hook, action, event_flags, ipcache_flags};
use crate::flow::Flow;
use crate::frame::Frame;
use crate::maps::Maps;
use crate::neighbour::{self, LinkMessage};
use crate::parse::{self, ETHERNET, EtherType, Ip, Part, protocol};
use crate::related::Quoted;
use crate::{fragment, related, report, track};

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It ends here.
    Drop(DropReason),
}

impl Verdict {
    /// What the program returns.
    #[inline(always)]
    pub const fn action(self) -> i32 {
        match self {
            Self::Pass => action::PASS,
            Self::Drop(_) => action::DROP,
        }
    }
}

/// How far the checks of the link lead.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Admission {
    /// Traffic of the link itself: it passes without a connection.
    Link,
    /// Neighbour discovery of a pod with an address beyond the link for destination: it passes if that is the node's own.
    LinkToNode,
    /// A packet of a flow.
    Flow,
}

/// Working memory for one packet. In BPF it is a map value, not stack: there is room, and the verifier, which forgets what goes
/// through a map, does not follow every combination of header lengths apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scratch {
    flow: Flow,
    ip: Ip,
    config: Config,
    quoted: Quoted,
}

/// A packet that a pod sends, at its host-side veth.
#[inline(always)]
pub fn from_pod<F: Frame, M: Maps>(frame: &F, maps: &mut M, scratch: &mut Scratch) -> Verdict {
    if !configured(maps, scratch) {
        return unconfigured(frame, maps, Hook::FromPod);
    }
    scratch.flow = Flow::new(Hook::FromPod, frame.ifindex(), frame.len());
    let Scratch { flow, ip, .. } = scratch;
    let admission = maps.endpoint(flow.ifindex, |endpoint| {
        flow.endpoint = endpoint.id;
        flow.subject = endpoint.identity;
        admit_from_pod(frame, endpoint, flow, ip)
    });
    let result = admitted(frame, maps, scratch, admission);
    settle(maps, scratch, result)
}

/// A packet that a pod is about to receive, at its host-side veth.
#[inline(always)]
pub fn to_pod<F: Frame, M: Maps>(frame: &F, maps: &mut M, scratch: &mut Scratch) -> Verdict {
    if !configured(maps, scratch) {
        return unconfigured(frame, maps, Hook::ToPod);
    }
    scratch.flow = Flow::new(Hook::ToPod, frame.ifindex(), frame.len());
    let Scratch { flow, ip, .. } = scratch;
    let admission = maps.endpoint(flow.ifindex, |endpoint| {
        flow.endpoint = endpoint.id;
        flow.subject = endpoint.identity;
        admit_to_pod(frame, endpoint, flow, ip)
    });
    let result = admitted(frame, maps, scratch, admission);
    settle(maps, scratch, result)
}

/// A packet that arrives at the node: it may not claim to come from the node or its pods. Without configuration it passes; pods
/// are closed by the other hooks then, and the node must stay within reach.
#[inline(always)]
pub fn from_uplink<F: Frame, M: Maps>(frame: &F, maps: &mut M, scratch: &mut Scratch) -> Verdict {
    if !configured(maps, scratch) {
        maps.count(Hook::FromUplink, None, frame.len());
        return Verdict::Pass;
    }
    scratch.flow = Flow::new(Hook::FromUplink, frame.ifindex(), frame.len());
    let result = uplink_source(frame, maps, scratch);
    settle(maps, scratch, result)
}

/// Read before every lookup: a verdict is stamped with a revision that is no newer than the maps it came from.
#[inline(always)]
fn configured<M: Maps>(maps: &M, scratch: &mut Scratch) -> bool {
    maps.config(&mut scratch.config) && scratch.config.abi_version == ABI_VERSION
}

#[inline(always)]
fn unconfigured<F: Frame, M: Maps>(frame: &F, maps: &mut M, hook: Hook) -> Verdict {
    maps.count(hook, Some(DropReason::AbiMismatch), frame.len());
    Verdict::Drop(DropReason::AbiMismatch)
}

#[inline(always)]
fn settle<M: Maps>(maps: &mut M, scratch: &Scratch, result: Result<(), DropReason>) -> Verdict {
    let Scratch { flow, config, .. } = scratch;
    maps.count(flow.hook, result.err(), flow.len);
    match result {
        Ok(()) => Verdict::Pass,
        Err(reason) => {
            report::dropped(maps, flow, reason, config);
            Verdict::Drop(reason)
        }
    }
}

/// From the transport header on, which is the same both ways.
#[inline(always)]
fn admitted<F: Frame, M: Maps>(
    frame: &F,
    maps: &mut M,
    scratch: &mut Scratch,
    admission: Option<Result<Admission, DropReason>>,
) -> Result<(), DropReason> {
    match admission {
        None => return Err(DropReason::UnknownEndpoint),
        Some(Err(reason)) => return Err(reason),
        Some(Ok(Admission::Link)) => return Ok(()),
        Some(Ok(Admission::LinkToNode)) => return ends_at_node(maps, &scratch.ip),
        Some(Ok(Admission::Flow)) => {}
    }
    let Scratch { flow, ip, config, quoted } = scratch;
    let transport = match ip.part {
        Part::Later => fragment::later(maps, flow, ip)?,
        Part::Whole => parse::transport(frame, ip)?,
        Part::First => {
            flow.event_flags |= event_flags::FRAGMENT;
            parse::transport(frame, ip).map_err(|_| DropReason::FragmentOverlap)?
        }
    };
    flow.set_transport(ip.protocol, &transport);
    if related::is_error(flow) {
        return related::error(frame, maps, flow, ip, config, quoted);
    }
    if ip.protocol == protocol::ICMP && matches!(transport.icmp_type, 4 | 5) {
        return Err(DropReason::ForbiddenIcmpv4);
    }
    track::track(maps, flow, config)?;
    fragment::remember(maps, flow, ip, &transport);
    Ok(())
}

/// Checks of what a pod sends, up to whose it is.
#[inline(always)]
fn admit_from_pod<F: Frame>(
    frame: &F,
    endpoint: &Endpoint,
    flow: &mut Flow,
    ip: &mut Ip,
) -> Result<Admission, DropReason> {
    let ethernet = plain_ethernet(frame)?;
    if ethernet.source != endpoint.mac {
        return Err(DropReason::InvalidSourceMac);
    }
    match ethernet.ethertype {
        EtherType::Arp => return neighbour::arp(frame, endpoint).map(|()| Admission::Link),
        EtherType::Ipv4 => parse::ipv4(frame, ETHERNET, ip)?,
        EtherType::Ipv6 => parse::ipv6(frame, ETHERNET, ip)?,
        EtherType::Other => return Err(DropReason::UnsupportedL3),
    }
    flow.set_addresses(ip);
    flow.key.protocol = ip.protocol;
    if let Some(message) = link_message(frame, ip) {
        neighbour::from_pod(frame, endpoint, ip, message)?;
        let on_link = ip.dst.is_link_scope_multicast() || ip.dst.is_link_local_v6();
        return Ok(if on_link { Admission::Link } else { Admission::LinkToNode });
    }
    if !endpoint.owns(ip.src) {
        return Err(DropReason::InvalidSourceIp);
    }
    ends_at_link(ip)?;
    no_loopback(ip)?;
    Ok(Admission::Flow)
}

/// Checks of what a pod is about to receive.
#[inline(always)]
fn admit_to_pod<F: Frame>(
    frame: &F,
    endpoint: &Endpoint,
    flow: &mut Flow,
    ip: &mut Ip,
) -> Result<Admission, DropReason> {
    match plain_ethernet(frame)?.ethertype {
        EtherType::Arp => return Ok(Admission::Link),
        EtherType::Ipv4 => parse::ipv4(frame, ETHERNET, ip)?,
        EtherType::Ipv6 => parse::ipv6(frame, ETHERNET, ip)?,
        EtherType::Other => return Err(DropReason::UnsupportedL3),
    }
    flow.set_addresses(ip);
    flow.key.protocol = ip.protocol;
    if let Some(message) = link_message(frame, ip) {
        return neighbour::to_pod(ip, message).map(|()| Admission::Link);
    }
    ends_at_link(ip)?;
    if endpoint.owns(ip.dst) { Ok(Admission::Flow) } else { Err(DropReason::NotThisPod) }
}

#[inline(always)]
fn plain_ethernet<F: Frame>(frame: &F) -> Result<parse::Ethernet, DropReason> {
    if frame.has_vlan_tag() {
        return Err(DropReason::UnsupportedL2);
    }
    parse::ethernet(frame).ok_or(DropReason::UnsupportedL2)
}

#[inline(always)]
fn link_message<F: Frame>(frame: &F, ip: &Ip) -> Option<LinkMessage> {
    if ip.protocol == protocol::ICMPV6 && ip.part != Part::Later { neighbour::link_message(frame, ip) } else { None }
}

#[inline(always)]
fn ends_at_link(ip: &Ip) -> Result<(), DropReason> {
    if ip.protocol == protocol::IGMP {
        return Err(DropReason::GroupMembership);
    }
    if ip.dst.is_multicast() { Err(DropReason::Multicast) } else { Ok(()) }
}

/// Neighbour discovery is judged by no policy. Were it routed, its options would carry anything to anyone.
#[inline(always)]
fn ends_at_node<M: Maps>(maps: &M, ip: &Ip) -> Result<(), DropReason> {
    match maps.ipcache(ip.dst) {
        Some(value) if value.flags & ipcache_flags::HOST != 0 => Ok(()),
        _ => Err(DropReason::ForbiddenIcmpv6),
    }
}

/// Nodes that let packets to their loopback in (`route_localnet`, which kube-proxy sets) would serve what is meant for
/// themselves alone.
#[inline(always)]
fn no_loopback(ip: &Ip) -> Result<(), DropReason> {
    if ip.src.is_loopback() || ip.dst.is_loopback() { Err(DropReason::LoopbackAddress) } else { Ok(()) }
}

#[inline(always)]
fn uplink_source<F: Frame, M: Maps>(frame: &F, maps: &M, scratch: &mut Scratch) -> Result<(), DropReason> {
    let Scratch { flow, ip, .. } = scratch;
    let Some(ethernet) = parse::ethernet(frame) else {
        return Err(DropReason::UnsupportedL2);
    };
    match ethernet.ethertype {
        EtherType::Ipv4 => parse::ipv4(frame, ETHERNET, ip)?,
        EtherType::Ipv6 => parse::ipv6_base(frame, ETHERNET, ip)?,
        EtherType::Arp | EtherType::Other => return Ok(()),
    }
    flow.set_addresses(ip);
    flow.key.protocol = ip.protocol;
    no_loopback(ip)?;
    if let Some(source) = maps.ipcache(ip.src) {
        flow.peer = source.identity;
        if source.flags & (ipcache_flags::LOCAL_ENDPOINT | ipcache_flags::HOST) != 0 {
            return Err(DropReason::InvalidSourceIp);
        }
    }
    Ok(())
}
