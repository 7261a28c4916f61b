use super::{Ip, Part};
use crate::abi::{Addr, DropReason};
use crate::frame::{Frame, bytes, halves};

const HEADER: u32 = 40;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// Extension headers followed before a packet is given up. RFC 8200 orders seven.
const CHAIN_MAX: u32 = 8;

/// Reads the IPv6 header at `at` and its extension headers into `ip`.
///
/// # Errors
/// [`DropReason::InvalidPacket`], [`DropReason::InvalidExtensionHeader`], [`DropReason::SourceRouted`] for a routing header
/// that still has segments or is of type 0, [`DropReason::MappedAddress`].
#[inline(always)]
pub fn ipv6<F: Frame>(frame: &F, at: u32, ip: &mut Ip) -> Result<(), DropReason> {
    ipv6_base(frame, at, ip)?;
    if is_extension(ip.protocol) { chain(frame, ip.protocol, ip) } else { Ok(()) }
}

/// Reads the IPv6 header at `at` into `ip`, and no extension header: `ip.protocol` may be one.
///
/// # Errors
/// [`DropReason::InvalidPacket`], [`DropReason::MappedAddress`].
#[inline(always)]
pub fn ipv6_base<F: Frame>(frame: &F, at: u32, ip: &mut Ip) -> Result<(), DropReason> {
    let (next, payload) = fixed(frame, at, ip)?;
    // A payload length of zero before hop-by-hop options is a jumbogram, which is how offloaded packets over 64 KiB look.
    ip.end = if payload == 0 && next == HOP_BY_HOP { frame.len() } else { ip.transport + payload };
    if ip.end > frame.len() {
        return Err(DropReason::InvalidPacket);
    }
    // One code path serves both versions because no IPv6 packet can pretend to be IPv4.
    if ip.src.is_v4_mapped() || ip.dst.is_v4_mapped() {
        return Err(DropReason::MappedAddress);
    }
    Ok(())
}

/// Reads an IPv6 header that an ICMP error quotes.
#[inline(always)]
pub(crate) fn quoted<F: Frame>(frame: &F, at: u32, ip: &mut Ip) -> Result<(), DropReason> {
    let (next, _) = fixed(frame, at, ip)?;
    ip.end = frame.len();
    if is_extension(next) { chain(frame, next, ip) } else { Ok(()) }
}

/// Next header and payload length.
#[inline(always)]
fn fixed<F: Frame>(frame: &F, at: u32, ip: &mut Ip) -> Result<(u8, u32), DropReason> {
    let Some([first, payload_next_hop, s0, s1, s2, s3, d0, d1, d2, d3]) = frame.words::<10>(at) else {
        return Err(DropReason::InvalidPacket);
    };
    let [version, ..] = bytes(first);
    if version >> 4 != 6 {
        return Err(DropReason::InvalidPacket);
    }
    let [_, _, next, hop_limit] = bytes(payload_next_hop);
    ip.src = Addr([s0, s1, s2, s3]);
    ip.dst = Addr([d0, d1, d2, d3]);
    ip.id = 0;
    ip.offset = 0;
    ip.protocol = next;
    ip.hop_limit = hop_limit;
    ip.part = Part::Whole;
    ip.v6 = true;
    ip.transport = at + HEADER;
    ip.fragmented = ip.transport;
    Ok((next, u32::from(u16::from_be(halves(payload_next_hop).0))))
}

#[inline(always)]
fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS)
}

/// Follows extension headers from `ip.transport` on.
#[inline(never)]
fn chain<F: Frame>(frame: &F, first: u8, ip: &mut Ip) -> Result<(), DropReason> {
    let mut next = first;
    let mut at = ip.transport;
    let mut fragment_seen = false;
    for position in 0..CHAIN_MAX {
        if !is_extension(next) {
            break;
        }
        // Every extension header has at least eight bytes.
        if at + 8 > ip.end {
            return Err(DropReason::InvalidExtensionHeader);
        }
        let Some([head, second]) = frame.words::<2>(at) else {
            return Err(DropReason::InvalidExtensionHeader);
        };
        let [following, len, kind, segments_left] = bytes(head);
        match next {
            HOP_BY_HOP if position != 0 => return Err(DropReason::InvalidExtensionHeader),
            ROUTING if kind == 0 || segments_left != 0 => return Err(DropReason::SourceRouted),
            FRAGMENT => {
                // Also behind an atomic one: what follows would be a fragment to who takes the first header off and no other.
                if fragment_seen {
                    return Err(DropReason::InvalidExtensionHeader);
                }
                fragment_seen = true;
                let offset_more = u16::from_be(halves(head).1);
                ip.id = u32::from_be(second);
                ip.offset = u32::from(offset_more & 0xfff8);
                ip.part = match (ip.offset, offset_more & 1) {
                    // An atomic fragment (RFC 6946) is a whole datagram.
                    (0, 0) => Part::Whole,
                    (0, _) => Part::First,
                    _ => Part::Later,
                };
                at += 8;
                ip.fragmented = at;
            }
            AUTHENTICATION => at += (u32::from(len) + 2) * 4,
            _ => at += (u32::from(len) + 1) * 8,
        }
        next = following;
        if ip.part == Part::Later {
            break;
        }
    }
    if at > ip.end || (is_extension(next) && ip.part != Part::Later) {
        return Err(DropReason::InvalidExtensionHeader);
    }
    ip.protocol = next;
    ip.transport = at;
    Ok(())
}
