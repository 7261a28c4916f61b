//! The node itself as an endpoint, where host policies select it.
//!
//! ```text
//!  outside ── from_uplink ──→ node: ingress          node ── to_uplink ──→ outside: egress
//!  own pod ── from_pod ─────→ node: ingress, after the pod's egress
//!  node ───── to_pod ───────→ own pod: egress, before the pod's ingress
//! ```
//!
//! As with Cilium's host firewall: what the node merely forwards is no business of host policies, nor is loopback. ARP and neighbour
//! discovery always pass, as does what arrives for groups and broadcast. ICMP errors that the node sends pass; those it receives pass about
//! connections of its own.

use crate::abi::{Addr, Config, DropReason, ipcache_flags};
use crate::flow::Flow;
use crate::frame::Frame;
use crate::hooks::{self, Scratch};
use crate::maps::Maps;
use crate::neighbour::LinkMessage;
use crate::parse::{self, ETHERNET};
use crate::related::{self, Quoted};
use crate::{fragment, track};

/// The endpoint id of the node.
const ENDPOINT: u32 = 0;

/// Hop limit of what was not routed.
const ON_LINK: u8 = 255;

/// Judges a packet at an uplink, whose addresses were read, if it is the node's. Generic, so that each hook gets code of its own.
#[inline(always)]
pub(crate) fn at_uplink<F: Frame, M: Maps, const SENT: bool>(
    frame: &F,
    maps: &mut M,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    let Scratch { flow, ip, config, quoted, .. } = scratch;
    if !is_node(maps, flow.key.local) {
        return Ok(());
    }
    if ip.v6 {
        parse::ipv6(frame, ETHERNET, ip)?;
        match hooks::link_message(frame, ip) {
            Some(LinkMessage::GroupMembership) => return Ok(()),
            Some(_) if ip.hop_limit == ON_LINK => return Ok(()),
            Some(_) | None => {}
        }
    }
    flow.endpoint = ENDPOINT;
    flow.subject = config.host;
    let transport = hooks::transport(frame, maps, flow, ip)?;
    if related::is_error(flow) {
        return if SENT { Ok(()) } else { related::error(frame, maps, flow, ip, config, quoted) };
    }
    track::track::<M, SENT>(maps, flow, config)?;
    fragment::remember(maps, flow, ip, &transport);
    Ok(())
}

/// Judges a packet at the link of one of the node's own pods, if it is from or to the node, as the node sees it. `flow` is the pod's; if the
/// node's is denied, it takes that place. `other` is room for the node's. `SENT`: by the pod.
#[inline(never)]
pub(crate) fn at_pod<M: Maps, const SENT: bool>(
    maps: &mut M,
    flow: &mut Flow,
    other: &mut Quoted,
    config: &Config,
) -> Result<(), DropReason> {
    if !is_node(maps, flow.key.remote) {
        return Ok(());
    }
    let node = &mut other.flow;
    *node = *flow;
    node.turn();
    node.endpoint = ENDPOINT;
    node.subject = config.host;
    let judged = track::track::<M, SENT>(maps, node, config);
    if judged.is_err() {
        *flow = *node;
    }
    judged.map(|_| ())
}

/// Whether the node has the address. Every node has link-local ones, which nobody routes to others.
#[inline(always)]
fn is_node<M: Maps>(maps: &M, addr: Addr) -> bool {
    addr.is_link_local_v6() || maps.ipcache(addr).is_some_and(|value| value.flags & ipcache_flags::HOST != 0)
}
