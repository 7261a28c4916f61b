//! What a denied connection hears, where it is not to be silence: a TCP reset or an ICMP error, made from the packet itself.
//!
//! ```text
//!  from_pod denies   the answer goes back over the link, past every hook
//!  to_pod denies     the answer enters the node as if the pod had sent it, and is routed to whoever asked;
//!                    from_pod knows it by the mark, which no packet brings along from another network namespace
//! ```
//!
//! Only what policy denies a packet that would open a connection is answered, and only to one unicast address: no error, no
//! reset, no later fragment, nothing with IPv4 options or IPv6 extension headers, nothing forged. What a CPU sends is bounded
//! ([`RESPONSES_PER_WINDOW`]). A reset is as long as the shortest SYN; an error quotes the IP header and eight bytes, so that it
//! is at most 28 bytes longer than what it answers (48 in IPv6).

use crate::abi::{Addr, DenyResponse, DropReason};
use crate::flow::{Flow, Signal};
use crate::frame::{Frame, bytes, halves};
use crate::maps::Maps;
use crate::parse::{ETHERNET, Ip, Part, protocol};

/// Answers of one CPU in one [`WINDOW_NS`]; the rest is silence.
pub const RESPONSES_PER_WINDOW: u32 = 100;
/// 100 ms.
pub const WINDOW_NS: u64 = 100_000_000;
/// Mark of an answer on its way back through the node: `skb->mark`.
pub const MARK: u32 = 0x5354_0d0d;
/// Window of a reset that policy sends, where a stack that refuses sends 0: receivers do not look at it, people and probes may.
pub const RESET_WINDOW: u16 = 13;

const HOP_LIMIT: u8 = 64;
const RST_ACK: u8 = 0x14;
/// Words of the longest answer: IPv6 header, ICMPv6 header, the quoted header and eight bytes.
const WORDS: usize = 24;

/// An answer: the Ethernet addresses and the IP packet.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Response {
    /// Destination and source hardware address.
    pub macs: [u32; 3],
    /// The IP packet in wire order.
    pub packet: [u32; WORDS],
    /// Its bytes; 0 for silence.
    pub len: u32,
}

/// How many answers this CPU has sent lately.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Bucket {
    started_ns: u64,
    sent: u64,
}

impl Bucket {
    /// Whether one more may go.
    #[inline(always)]
    pub fn take(&mut self, now_ns: u64) -> bool {
        if now_ns.saturating_sub(self.started_ns) >= WINDOW_NS {
            self.started_ns = now_ns;
            self.sent = 0;
        }
        self.sent += 1;
        self.sent <= u64::from(RESPONSES_PER_WINDOW)
    }
}

/// Makes the answer to a packet that is being dropped, or none. Deciding and writing are calls beside each other, not in each
/// other: together with the hook's they would take more stack than a program has.
#[inline(always)]
pub(crate) fn respond<F: Frame, M: Maps>(
    frame: &F,
    maps: &mut M,
    flow: &Flow,
    ip: &Ip,
    mode: u32,
    response: &mut Response,
) {
    let mode = DenyResponse::from_number(mode);
    if mode == DenyResponse::Silent || !may_answer(frame, maps, flow, ip, &mut response.macs) {
        return;
    }
    let reset = mode == DenyResponse::Reset && ip.protocol == protocol::TCP;
    response.len = if ip.v6 { answer_v6(frame, ip, reset, response) } else { answer_v4(frame, ip, reset, response) };
}

/// Whether the packet is one that is answered, and one more answer may go; `link` becomes the hardware addresses of the answer.
#[inline(never)]
fn may_answer<F: Frame, M: Maps>(frame: &F, maps: &mut M, flow: &Flow, ip: &Ip, link: &mut [u32; 3]) -> bool {
    if !asks(flow, ip) || !single(ip.src) || !single(ip.dst) {
        return false;
    }
    let Some([a, b, c]) = frame.words::<3>(0) else {
        return false;
    };
    let [first, ..] = bytes(a);
    if first & 1 != 0 {
        return false;
    }
    *link = swapped(a, b, c);
    let now = maps.tick_ns();
    maps.response_bucket(|bucket| bucket.take(now)) == Some(true)
}

/// True for denials by policy, as opposed to packets that are wrong or that nothing is known about.
#[inline(always)]
pub(crate) fn is_answered(reason: DropReason) -> bool {
    matches!(reason, DropReason::PolicyDenied | DropReason::PolicyDeny)
}

/// Whether the packet would open a connection, and can be quoted as it is.
#[inline(always)]
fn asks(flow: &Flow, ip: &Ip) -> bool {
    let opens = flow.fresh && matches!(flow.signal, Signal::Open | Signal::Datagram);
    let plain = ip.transport == ETHERNET + if ip.v6 { 40 } else { 20 };
    let question = match ip.protocol {
        protocol::ICMP => matches!(flow.icmp_type, 8 | 13 | 15 | 17),
        protocol::ICMPV6 => flow.icmp_type == 128,
        _ => true,
    };
    opens && plain && question && ip.part != Part::Later
}

/// An address that one host has.
#[inline(always)]
fn single(addr: Addr) -> bool {
    let unspecified_v4 = addr.is_v4_mapped() && u32::from_be(addr.0[3]) >> 24 == 0;
    !addr.is_multicast() && !addr.is_unspecified() && !unspecified_v4 && !addr.is_loopback()
}

/// Destination and source change places.
#[inline(always)]
fn swapped(a: u32, b: u32, c: u32) -> [u32; 3] {
    let ((d0, d1), (d2, s0), (s1, s2)) = (halves(a), halves(b), halves(c));
    [word(s0, s1), word(s2, d0), word(d1, d2)]
}

#[inline(always)]
fn word(first: u16, second: u16) -> u32 {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

/// What a TCP segment of these ports and number is refused with (RFC 9293 §3.10.7.1): sequence 0, and the segment acknowledged
/// as if it had been taken. Ports, acknowledgement and control; the sequence before the second is 0, the checksum missing.
#[inline(always)]
fn reset<F: Frame>(frame: &F, ip: &Ip, ports: u32, sequence: u32) -> Option<[u32; 3]> {
    let [control] = frame.words::<1>(ip.transport + 12)?;
    let [offset, ..] = bytes(control);
    let (source, destination) = halves(ports);
    let data = ip.end.wrapping_sub(ip.transport).wrapping_sub(u32::from(offset >> 4) * 4);
    let acknowledged = u32::from_be(sequence).wrapping_add(data).wrapping_add(1);
    let [high, low] = RESET_WINDOW.to_be_bytes();
    Some([word(destination, source), acknowledged.to_be(), u32::from_ne_bytes([5 << 4, RST_ACK, high, low])])
}

/// Writes the answer over the quoted packet, which is read to where an error has it, in place: there is no room on the stack.
/// The length, 0 for none.
///
/// An error is "communication administratively prohibited" (RFC 1812 §5.2.7.1).
#[inline(never)]
fn answer_v4<F: Frame>(frame: &F, ip: &Ip, resets: bool, response: &mut Response) -> u32 {
    let out = &mut response.packet;
    if !(read::<F, 4, 7>(frame, ETHERNET, out) && read::<F, 3, 11>(frame, ETHERNET + 16, out)) {
        return 0;
    }
    let (protocol, total) = if resets { (protocol::TCP, 40) } else { (protocol::ICMP, 56) };
    out[0] = u32::from_ne_bytes([0x45, 0, 0, total]);
    // Don't fragment.
    out[1] = u32::from_ne_bytes([0, 0, 0x40, 0]);
    out[2] = u32::from_ne_bytes([HOP_LIMIT, protocol, 0, 0]);
    out[3] = out[11];
    out[4] = out[10];
    out[2] = word(halves(out[2]).0, checksum(sum::<0, 5>(out)));
    if resets {
        let Some([ports, acknowledged, control]) = reset(frame, ip, out[12], out[13]) else {
            return 0;
        };
        out[5] = ports;
        out[6] = 0;
        out[7] = acknowledged;
        out[8] = control;
        out[9] = 0;
        out[9] = word(checksum(sum::<3, 10>(out) + length_and(protocol::TCP, 20)), 0);
    } else {
        out[5] = u32::from_ne_bytes([3, 13, 0, 0]);
        out[6] = 0;
        out[5] = word(halves(out[5]).0, checksum(sum::<5, 14>(out)));
    }
    u32::from(total)
}

/// As [`answer_v4`]; an error is "communication with destination administratively prohibited" (RFC 4443 §3.1).
#[inline(never)]
fn answer_v6<F: Frame>(frame: &F, ip: &Ip, resets: bool, response: &mut Response) -> u32 {
    let out = &mut response.packet;
    let quoted = read::<F, 4, 12>(frame, ETHERNET, out)
        && read::<F, 4, 16>(frame, ETHERNET + 16, out)
        && read::<F, 4, 20>(frame, ETHERNET + 32, out);
    if !quoted {
        return 0;
    }
    let (protocol, payload) = if resets { (protocol::TCP, 20) } else { (protocol::ICMPV6, 56) };
    out[0] = u32::from_ne_bytes([0x60, 0, 0, 0]);
    out[1] = u32::from_ne_bytes([0, payload, protocol, HOP_LIMIT]);
    for i in 0..4 {
        out[2 + i] = out[18 + i];
        out[6 + i] = out[14 + i];
    }
    if resets {
        let Some([ports, acknowledged, control]) = reset(frame, ip, out[22], out[23]) else {
            return 0;
        };
        out[10] = ports;
        out[11] = 0;
        out[12] = acknowledged;
        out[13] = control;
        out[14] = 0;
        out[14] = word(checksum(sum::<2, 15>(out) + length_and(protocol::TCP, 20)), 0);
    } else {
        out[10] = u32::from_ne_bytes([1, 1, 0, 0]);
        out[11] = 0;
        let sum = sum::<2, 24>(out) + length_and(protocol::ICMPV6, 56);
        out[10] = word(halves(out[10]).0, checksum(sum));
    }
    40 + u32::from(payload)
}

/// Reads `N` words of the frame to `out` from `TO` on.
#[inline(always)]
fn read<F: Frame, const N: usize, const TO: usize>(frame: &F, at: u32, out: &mut [u32; WORDS]) -> bool {
    let Some(words) = frame.words::<N>(at) else {
        return false;
    };
    out[TO..TO + N].copy_from_slice(&words);
    true
}

/// The end of a pseudo header: length and protocol.
#[inline(always)]
fn length_and(protocol: u8, length: u8) -> u32 {
    let word = u32::from_ne_bytes([0, protocol, 0, length]);
    (word & 0xffff) + (word >> 16)
}

/// Half words from one word to before another added up, whose order on the wire the one's complement does not mind (RFC 1071
/// §2).
#[inline(always)]
fn sum<const FROM: usize, const TO: usize>(words: &[u32; WORDS]) -> u32 {
    let mut sum = 0;
    for word in &words[FROM..TO] {
        sum += (word & 0xffff) + (word >> 16);
    }
    sum
}

#[inline(always)]
fn checksum(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    let twice = (once & 0xffff) + (once >> 16);
    #[expect(clippy::cast_possible_truncation, reason = "folded into sixteen bits")]
    let folded = twice as u16;
    !folded
}
