//! The walk of a packet at each hook.
//!
//! ```text
//!  from_pod    endpoint ─ own MAC ─ ARP/ND ─ IP ─ own source ─┐
//!                                                             ├─ fragment ─ transport ─ ICMP error? ─ conntrack ─ policy
//!  to_pod      endpoint ─ ARP/ND ─ IP ─ pod's destination ────┘
//!  from_uplink IP ─ source is nobody's here ─┐
//!                                            ├─ where host policies select the node, and it is the node's: as above
//!  to_uplink   IP ───────────────────────────┘
//! ```
//!
//! Packets of connections that both ends know take a [shortcut](self::Verdict::Deliver) from `from_pod` and `from_uplink` to the
//! receiving pod.
//!
//! Multicast and broadcast end at the pod's link, in both directions: neighbour discovery about the pod itself passes, group
//! membership is dropped quietly, everything else as [`DropReason::Multicast`].

use crate::abi::{ABI_VERSION, Config, DropReason, Endpoint, Hook, PeerPlace, action, event_flags, ipcache_flags};
use crate::flow::Flow;
use crate::frame::Frame;
use crate::maps::Maps;
use crate::neighbour::{self, LinkMessage};
use crate::parse::{self, ETHERNET, EtherType, Ip, Part, Transport, protocol};
use crate::related::Quoted;
use crate::respond::{self, Response};
use crate::shortcut::Arrival;
use crate::{fragment, node, related, report, shortcut, track};

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It goes to the pod behind this interface, past the host's stack: judged for it as well, and made what a router would.
    Deliver {
        /// Index of the host-side veth.
        ifindex: u32,
    },
    /// It ends here.
    Drop(DropReason),
}

impl Verdict {
    /// What the program returns.
    #[inline(always)]
    pub const fn action(self) -> i32 {
        match self {
            Self::Pass => action::PASS,
            Self::Deliver { .. } => action::REDIRECT,
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
    pub(crate) flow: Flow,
    pub(crate) ip: Ip,
    pub(crate) config: Config,
    pub(crate) quoted: Quoted,
    arrival: Arrival,
    response: Response,
}

impl Scratch {
    /// What goes back to the sender of the packet that was just dropped.
    #[inline(always)]
    pub fn response(&self) -> Option<&Response> {
        if self.response.len == 0 { None } else { Some(&self.response) }
    }
}

/// A packet that a pod sends, at its host-side veth.
#[inline(always)]
pub fn from_pod<F: Frame, M: Maps>(frame: &F, maps: &mut M, scratch: &mut Scratch) -> Verdict {
    if !configured(maps, scratch) {
        return unconfigured(frame, maps, scratch, Hook::FromPod);
    }
    let mut result = at_pod::<F, M, true>(frame, maps, scratch);
    if let Err(reason) = result {
        if frame.mark() == respond::MARK && is_own_answer(reason) {
            result = Ok(PeerPlace::Unknown);
        } else {
            answer(frame, maps, scratch, reason);
        }
    }
    let verdict = settle(maps, scratch, result.err());
    let Scratch { flow, ip, config, arrival, .. } = scratch;
    if result == Ok(PeerPlace::Endpoint) && shortcut::is_plain(frame, ip, config) {
        arrival.turn(flow);
        return onward(shortcut::deliver(frame, maps, arrival, ip.v6, config, PeerPlace::Endpoint));
    }
    verdict
}

/// A packet that a pod is about to receive, at its host-side veth.
#[inline(always)]
pub fn to_pod<F: Frame, M: Maps>(frame: &F, maps: &mut M, scratch: &mut Scratch) -> Verdict {
    if !configured(maps, scratch) {
        return unconfigured(frame, maps, scratch, Hook::ToPod);
    }
    let result = at_pod::<F, M, false>(frame, maps, scratch);
    if let Err(reason) = result {
        answer(frame, maps, scratch, reason);
    }
    settle(maps, scratch, result.err())
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
    match uplink(frame, maps, scratch) {
        Ok(delivered) => {
            settle(maps, scratch, None);
            onward(delivered)
        }
        Err(reason) => settle(maps, scratch, Some(reason)),
    }
}

/// A packet that leaves the node. Where no host policy selects the node, and without configuration, it passes unseen: what pods send
/// was judged at their links.
#[inline(always)]
pub fn to_uplink<F: Frame, M: Maps>(frame: &F, maps: &mut M, scratch: &mut Scratch) -> Verdict {
    if !maps.judges_host() || !configured(maps, scratch) {
        return Verdict::Pass;
    }
    scratch.flow = Flow::new(Hook::ToUplink, frame.ifindex(), frame.len());
    let result = match uplink_addresses(frame, &mut scratch.flow, &mut scratch.ip) {
        Ok(true) => node::at_uplink::<F, M, true>(frame, maps, scratch),
        Ok(false) => Ok(()),
        Err(reason) => Err(reason),
    };
    settle(maps, scratch, result.err())
}

#[inline(always)]
fn onward(delivered: Option<u32>) -> Verdict {
    delivered.map_or(Verdict::Pass, |ifindex| Verdict::Deliver { ifindex })
}

/// Prepares what the sender of a denied packet hears.
#[inline(always)]
fn answer<F: Frame, M: Maps>(frame: &F, maps: &mut M, scratch: &mut Scratch, reason: DropReason) {
    let Scratch { flow, ip, config, response, .. } = scratch;
    response.len = 0;
    if config.deny_response != 0 && respond::is_answered(reason) {
        respond::respond(frame, maps, flow, ip, config.deny_response, response);
    }
}

/// Why an answer that `to_pod` gave in the pod's name would be dropped: the pod may not speak to who asked, or knows of no
/// connection, which was denied after all.
#[inline(always)]
fn is_own_answer(reason: DropReason) -> bool {
    reason.is_policy() || matches!(reason, DropReason::UnrelatedIcmpError)
}

/// Read before every lookup: a verdict is stamped with a revision that is no newer than the maps it came from.
#[inline(always)]
fn configured<M: Maps>(maps: &M, scratch: &mut Scratch) -> bool {
    maps.config(&mut scratch.config) && scratch.config.abi_version == ABI_VERSION
}

#[inline(always)]
fn unconfigured<F: Frame, M: Maps>(frame: &F, maps: &mut M, scratch: &mut Scratch, hook: Hook) -> Verdict {
    scratch.response.len = 0;
    maps.count(hook, Some(DropReason::AbiMismatch), frame.len());
    Verdict::Drop(DropReason::AbiMismatch)
}

#[inline(always)]
fn settle<M: Maps>(maps: &mut M, scratch: &Scratch, dropped: Option<DropReason>) -> Verdict {
    let Scratch { flow, config, .. } = scratch;
    maps.count(flow.hook, dropped, flow.len);
    match dropped {
        None => Verdict::Pass,
        Some(reason) => {
            report::dropped(maps, flow, reason, config);
            Verdict::Drop(reason)
        }
    }
}

/// All checks at a pod's link, of what it sends or of what it is about to receive. Where the peer of a connection that stands
/// is. Generic, so that each hook gets code of its own.
#[inline(always)]
fn at_pod<F: Frame, M: Maps, const SENT: bool>(
    frame: &F,
    maps: &mut M,
    scratch: &mut Scratch,
) -> Result<PeerPlace, DropReason> {
    let hook = if SENT { Hook::FromPod } else { Hook::ToPod };
    scratch.flow = Flow::new(hook, frame.ifindex(), frame.len());
    let Scratch { flow, ip, config, quoted, .. } = scratch;
    let admission = maps.endpoint(flow.ifindex, |endpoint| {
        flow.endpoint = endpoint.id;
        flow.subject = endpoint.identity;
        if SENT { admit_from_pod(frame, endpoint, flow, ip) } else { admit_to_pod(frame, endpoint, flow, ip) }
    });
    match admission {
        None => return Err(DropReason::UnknownEndpoint),
        Some(Err(reason)) => return Err(reason),
        Some(Ok(Admission::Link)) => return Ok(PeerPlace::Unknown),
        Some(Ok(Admission::LinkToNode)) => return ends_at_node(maps, ip).map(|()| PeerPlace::Unknown),
        Some(Ok(Admission::Flow)) => {}
    }
    let transport = transport(frame, maps, flow, ip)?;
    if related::is_error(flow) {
        return related::error(frame, maps, flow, ip, config, quoted).map(|()| PeerPlace::Unknown);
    }
    if ip.protocol == protocol::ICMP && matches!(transport.icmp_type, 4 | 5) {
        return Err(DropReason::ForbiddenIcmpv4);
    }
    // What the node sends leaves it before it reaches the pod, and the other way round.
    if !SENT && config.judges_host() {
        node::at_pod::<M, SENT>(maps, flow, quoted, config)?;
    }
    let place = track::track::<M, SENT>(maps, flow, config)?;
    fragment::remember(maps, flow, ip, &transport);
    if SENT && config.judges_host() && (place == PeerPlace::Unknown || ip.dst.is_link_local_v6()) {
        node::at_pod::<M, SENT>(maps, flow, quoted, config)?;
    }
    Ok(place)
}

/// Reads the transport header into `flow`; of a later fragment that of the first.
#[inline(always)]
pub(crate) fn transport<F: Frame, M: Maps>(
    frame: &F,
    maps: &M,
    flow: &mut Flow,
    ip: &mut Ip,
) -> Result<Transport, DropReason> {
    let transport = match ip.part {
        Part::Later => fragment::later(maps, flow, ip)?,
        Part::Whole => parse::transport(frame, ip)?,
        Part::First => {
            flow.event_flags |= event_flags::FRAGMENT;
            parse::transport(frame, ip).map_err(|_| DropReason::FragmentOverlap)?
        }
    };
    flow.set_transport(ip.protocol, &transport);
    Ok(transport)
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
pub(crate) fn link_message<F: Frame>(frame: &F, ip: &Ip) -> Option<LinkMessage> {
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

/// Reads who sends to whom. False for what is not IP.
#[inline(always)]
fn uplink_addresses<F: Frame>(frame: &F, flow: &mut Flow, ip: &mut Ip) -> Result<bool, DropReason> {
    let Some(ethernet) = parse::ethernet(frame) else {
        return Err(DropReason::UnsupportedL2);
    };
    match ethernet.ethertype {
        EtherType::Ipv4 => parse::ipv4(frame, ETHERNET, ip)?,
        EtherType::Ipv6 => parse::ipv6_base(frame, ETHERNET, ip)?,
        EtherType::Arp | EtherType::Other => return Ok(false),
    }
    flow.set_addresses(ip);
    flow.key.protocol = ip.protocol;
    Ok(true)
}

/// Where the packet may go at once; `None` for the host's stack.
#[inline(always)]
fn uplink<F: Frame, M: Maps>(frame: &F, maps: &mut M, scratch: &mut Scratch) -> Result<Option<u32>, DropReason> {
    let Scratch { flow, ip, config, arrival, .. } = scratch;
    if !uplink_addresses(frame, flow, ip)? {
        return Ok(None);
    }
    no_loopback(ip)?;
    if shortcut::is_plain(frame, ip, config)
        && let Ok(transport) = parse::transport(frame, ip)
    {
        arrival.follow(flow, ip.protocol, &transport);
        // A connection to somewhere beyond the uplinks: its judgement has looked up what is asked below.
        let delivered = shortcut::deliver(frame, maps, arrival, ip.v6, config, PeerPlace::Beyond);
        if delivered.is_some() {
            return Ok(delivered);
        }
    }
    if let Some(source) = maps.ipcache(ip.src) {
        flow.peer = source.identity;
        if source.flags & (ipcache_flags::LOCAL_ENDPOINT | ipcache_flags::HOST) != 0 {
            return Err(DropReason::InvalidSourceIp);
        }
    }
    if scratch.config.judges_host() {
        node::at_uplink::<F, M, false>(frame, maps, scratch)?;
    }
    Ok(None)
}
