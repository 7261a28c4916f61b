//! What a pod may say below IP: ARP and neighbour discovery about itself, and nothing else.

use crate::abi::{Addr, DropReason, Endpoint};
use crate::frame::{Frame, bytes, halves, join};
use crate::parse::{ETHERNET, Ip, Part};

/// ICMPv6 types of neighbour discovery and of group membership.
mod icmpv6 {
    pub(super) const ROUTER_SOLICITATION: u8 = 133;
    pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;
    pub(super) const NEIGHBOUR_SOLICITATION: u8 = 135;
    pub(super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    pub(super) const REDIRECT: u8 = 137;
    pub(super) const MLD_QUERY: u8 = 130;
    pub(super) const MLD_DONE: u8 = 132;
    pub(super) const MLD2_REPORT: u8 = 143;
}

const OPTION_SOURCE_MAC: u8 = 1;
const OPTION_TARGET_MAC: u8 = 2;
/// Options read before a message is given up; stacks send one or two (address, nonce).
const OPTIONS_MAX: u32 = 4;

/// ICMPv6 messages that stay on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkMessage {
    /// Router solicitation.
    RouterSolicitation,
    /// Neighbour solicitation.
    Solicitation,
    /// Neighbour advertisement.
    Advertisement,
    /// Router advertisement or redirect.
    Router,
    /// Multicast listener discovery.
    GroupMembership,
}

impl LinkMessage {
    /// From an ICMPv6 type; `None` for one that is routed.
    #[inline(always)]
    pub const fn from_type(icmp_type: u8) -> Option<Self> {
        match icmp_type {
            icmpv6::ROUTER_SOLICITATION => Some(Self::RouterSolicitation),
            icmpv6::NEIGHBOUR_SOLICITATION => Some(Self::Solicitation),
            icmpv6::NEIGHBOUR_ADVERTISEMENT => Some(Self::Advertisement),
            icmpv6::ROUTER_ADVERTISEMENT | icmpv6::REDIRECT => Some(Self::Router),
            icmpv6::MLD_QUERY..=icmpv6::MLD_DONE | icmpv6::MLD2_REPORT => Some(Self::GroupMembership),
            _ => None,
        }
    }
}

/// Lets a pod's ARP through if it speaks of the pod's own addresses; an all-zero sender is a probe and claims nothing.
///
/// # Errors
/// [`DropReason::InvalidPacket`], [`DropReason::ArpSpoofed`].
#[inline(always)]
pub fn arp<F: Frame>(frame: &F, endpoint: &Endpoint) -> Result<(), DropReason> {
    /// Ethernet and IPv4.
    const TYPES: u32 = u32::from_ne_bytes([0, 1, 8, 0]);
    let Some([types, lengths, mac_start, mac_end, address_end, _, _]) = frame.words::<7>(ETHERNET) else {
        return Err(DropReason::InvalidPacket);
    };
    let [hardware_len, protocol_len, ..] = bytes(lengths);
    if types != TYPES || hardware_len != 6 || protocol_len != 4 {
        return Err(DropReason::InvalidPacket);
    }
    let mac = join(halves(mac_start).0, halves(mac_start).1, halves(mac_end).0);
    let [a, b] = halves(mac_end).1.to_ne_bytes();
    let [c, d] = halves(address_end).0.to_ne_bytes();
    let sender = u32::from_ne_bytes([a, b, c, d]);
    let own = sender == 0 || endpoint.owns(Addr::from_v4_word(sender));
    if mac == endpoint.mac && own { Ok(()) } else { Err(DropReason::ArpSpoofed) }
}

/// Judges an ICMPv6 message of the link that a pod sends.
///
/// # Errors
/// [`DropReason::ForbiddenIcmpv6`] for what only routers send, [`DropReason::GroupMembership`],
/// [`DropReason::NeighbourSpoofed`] for a claim on an address or hardware address that is not the pod's.
#[inline(always)]
pub fn from_pod<F: Frame>(frame: &F, endpoint: &Endpoint, ip: &Ip, message: LinkMessage) -> Result<(), DropReason> {
    let options = match message {
        LinkMessage::GroupMembership => return Err(DropReason::GroupMembership),
        LinkMessage::Router => return Err(DropReason::ForbiddenIcmpv6),
        LinkMessage::RouterSolicitation => ip.transport + 8,
        LinkMessage::Solicitation | LinkMessage::Advertisement => ip.transport + 24,
    };
    on_link(ip)?;
    let own_source = endpoint.owns(ip.src) || ip.src.is_link_local_v6();
    // Who has no address yet asks whether it may have one; it announces none.
    let asks_unnamed = ip.src.is_unspecified() && message != LinkMessage::Advertisement;
    if !own_source && !asks_unnamed {
        return Err(DropReason::NeighbourSpoofed);
    }
    if message == LinkMessage::Advertisement {
        let target = Addr(frame.words(ip.transport + 8).ok_or(DropReason::InvalidHeader)?);
        if !endpoint.owns(target) && !target.is_link_local_v6() {
            return Err(DropReason::NeighbourSpoofed);
        }
    }
    own_hardware_address(frame, endpoint, options, ip.end)
}

/// Judges an ICMPv6 message of the link that a pod is about to receive. The node speaks to it; nothing routed has hop limit 255.
///
/// # Errors
/// As [`from_pod`], without what concerns the pod's claims.
#[inline(always)]
pub fn to_pod(ip: &Ip, message: LinkMessage) -> Result<(), DropReason> {
    match message {
        LinkMessage::GroupMembership => Err(DropReason::GroupMembership),
        LinkMessage::Router | LinkMessage::RouterSolicitation => Err(DropReason::ForbiddenIcmpv6),
        LinkMessage::Solicitation | LinkMessage::Advertisement => on_link(ip),
    }
}

/// RFC 4861 §7.1: hop limit 255; RFC 6980: never fragmented.
#[inline(always)]
fn on_link(ip: &Ip) -> Result<(), DropReason> {
    if ip.hop_limit == 255 && ip.part == Part::Whole { Ok(()) } else { Err(DropReason::ForbiddenIcmpv6) }
}

/// Any hardware address option from `at` to `end` must name the pod's own.
#[inline(never)]
fn own_hardware_address<F: Frame>(frame: &F, endpoint: &Endpoint, mut at: u32, end: u32) -> Result<(), DropReason> {
    if at > end {
        return Err(DropReason::InvalidHeader);
    }
    for _ in 0..OPTIONS_MAX {
        if at == end {
            return Ok(());
        }
        if at + 8 > end {
            return Err(DropReason::InvalidHeader);
        }
        let Some([first, second]) = frame.words::<2>(at) else {
            return Err(DropReason::InvalidHeader);
        };
        let [kind, units, ..] = bytes(first);
        let mac = join(halves(first).1, halves(second).0, halves(second).1);
        if matches!(kind, OPTION_SOURCE_MAC | OPTION_TARGET_MAC) && mac != endpoint.mac {
            return Err(DropReason::NeighbourSpoofed);
        }
        // An option of no length stays in place until the walk ends.
        at += u32::from(units) * 8;
    }
    if at == end { Ok(()) } else { Err(DropReason::InvalidHeader) }
}

/// True if the first bytes of ICMPv6 at `ip.transport` are a message of the link; `None` if there are none.
#[inline(always)]
pub(crate) fn link_message<F: Frame>(frame: &F, ip: &Ip) -> Option<LinkMessage> {
    let [first] = frame.words::<1>(ip.transport)?;
    let (type_code, _) = halves(first);
    let [icmp_type, _] = type_code.to_ne_bytes();
    LinkMessage::from_type(icmp_type)
}
