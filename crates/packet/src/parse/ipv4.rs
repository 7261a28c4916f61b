use super::{Ip, Part};
use crate::abi::{Addr, DropReason};
use crate::frame::{Frame, bytes, halves};

const HEADER: u32 = 20;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_LSRR: u8 = 131;
const OPTION_SSRR: u8 = 137;
/// Bytes of options a header can hold.
const OPTIONS_MAX: u32 = 40;

/// Reads the IPv4 header at `at` into `ip`.
///
/// # Errors
/// [`DropReason::InvalidPacket`] if it contradicts itself or the frame, [`DropReason::SourceRouted`] if an option asks for it.
#[inline(always)]
pub fn ipv4<F: Frame>(frame: &F, at: u32, ip: &mut Ip) -> Result<(), DropReason> {
    let header_len = fixed(frame, at, ip)?;
    let total = u32::from(total_len(frame, at)?);
    // An offloaded packet over 64 KiB (BIG TCP) has no length in its header; the stack drops it if it is no such packet.
    ip.end = if total == 0 { frame.len() } else { at + total };
    if ip.end > frame.len() || ip.transport > ip.end {
        return Err(DropReason::InvalidPacket);
    }
    if ip.part == Part::Later && ip.transport == ip.end {
        return Err(DropReason::InvalidPacket);
    }
    if header_len > HEADER { options(frame, ip) } else { Ok(()) }
}

/// Reads an IPv4 header that an ICMP error quotes: cut short behind it, its length field means nothing here.
#[inline(always)]
pub(crate) fn quoted<F: Frame>(frame: &F, at: u32, ip: &mut Ip) -> Result<(), DropReason> {
    fixed(frame, at, ip)?;
    ip.end = frame.len();
    Ok(())
}

#[inline(always)]
fn fixed<F: Frame>(frame: &F, at: u32, ip: &mut Ip) -> Result<u32, DropReason> {
    let Some([first, id_offset, ttl_protocol, src, dst]) = frame.words::<5>(at) else {
        return Err(DropReason::InvalidPacket);
    };
    let [version_ihl, ..] = bytes(first);
    let header_len = u32::from(version_ihl & 0xf) * 4;
    if version_ihl >> 4 != 4 || header_len < HEADER {
        return Err(DropReason::InvalidPacket);
    }
    let [ttl, protocol, ..] = bytes(ttl_protocol);
    let (id, flags_offset) = halves(id_offset);
    let flags_offset = u16::from_be(flags_offset);
    ip.src = Addr::from_v4_word(src);
    ip.dst = Addr::from_v4_word(dst);
    ip.id = u32::from(u16::from_be(id));
    ip.protocol = protocol;
    ip.hop_limit = ttl;
    ip.v6 = false;
    ip.transport = at + header_len;
    ip.options = at + HEADER;
    ip.fragmented = ip.transport;
    ip.offset = u32::from(flags_offset & OFFSET_MASK) * 8;
    ip.part = match (ip.offset, flags_offset & MORE_FRAGMENTS) {
        (0, 0) => Part::Whole,
        (0, _) => Part::First,
        _ => Part::Later,
    };
    Ok(header_len)
}

#[inline(always)]
fn total_len<F: Frame>(frame: &F, at: u32) -> Result<u16, DropReason> {
    let Some([first]) = frame.words::<1>(at) else {
        return Err(DropReason::InvalidPacket);
    };
    Ok(u16::from_be(halves(first).1))
}

/// Walks the options before `ip.transport`.
#[inline(never)]
fn options<F: Frame>(frame: &F, ip: &Ip) -> Result<(), DropReason> {
    let end = ip.transport;
    let mut at = ip.options;
    for _ in 0..OPTIONS_MAX {
        if at >= end {
            return Ok(());
        }
        let kind = frame.byte(at).ok_or(DropReason::InvalidPacket)?;
        match kind {
            OPTION_END => return Ok(()),
            OPTION_NOP => at += 1,
            OPTION_LSRR | OPTION_SSRR => return Err(DropReason::SourceRouted),
            _ => {
                let len = u32::from(frame.byte(at + 1).ok_or(DropReason::InvalidPacket)?);
                if len < 2 || at + len > end {
                    return Err(DropReason::InvalidPacket);
                }
                at += len;
            }
        }
    }
    Ok(())
}
