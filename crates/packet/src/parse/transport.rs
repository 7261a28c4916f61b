use super::{Ip, protocol};
use crate::abi::{DropReason, Port};
use crate::flow::Signal;
use crate::frame::{Frame, bytes, halves};

/// TCP flag bits.
mod tcp {
    pub(super) const FIN: u8 = 0x01;
    pub(super) const SYN: u8 = 0x02;
    pub(super) const RST: u8 = 0x04;
    pub(super) const ACK: u8 = 0x10;
}

/// SCTP chunk types (RFC 9260 §3.2).
mod sctp {
    pub(super) const INIT: u8 = 1;
    pub(super) const ABORT: u8 = 6;
    pub(super) const SHUTDOWN: u8 = 7;
    pub(super) const SHUTDOWN_ACK: u8 = 8;
}

/// What a transport header says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transport {
    /// Source port; the identifier of an ICMP echo.
    pub src_port: Port,
    /// Destination port.
    pub dst_port: Port,
    /// Bytes of the header, with what decides about the connection.
    pub header_len: u16,
    /// TCP flags.
    pub tcp_flags: u8,
    /// ICMP type.
    pub icmp_type: u8,
    /// ICMP code.
    pub icmp_code: u8,
    /// What it does to its connection.
    pub signal: Signal,
}

/// Reads the transport header of a whole datagram or first fragment.
///
/// # Errors
/// [`DropReason::InvalidHeader`] if it is cut short or contradicts itself, [`DropReason::InvalidTcpFlags`].
#[inline(always)]
pub fn transport<F: Frame>(frame: &F, ip: &Ip) -> Result<Transport, DropReason> {
    let mut t = Transport::default();
    match ip.protocol {
        protocol::TCP => {
            let [ports, _, _, control]: [u32; 4] = head(frame, ip)?;
            let [offset, flags, ..] = bytes(control);
            t.header_len = u16::from(offset >> 4) * 4;
            if t.header_len < 20 || ip.transport + u32::from(t.header_len) > ip.end {
                return Err(DropReason::InvalidHeader);
            }
            t.tcp_flags = flags;
            t.signal = tcp_signal(flags).ok_or(DropReason::InvalidTcpFlags)?;
            set_ports(&mut t, ports);
        }
        protocol::UDP => {
            let [ports, len_checksum]: [u32; 2] = head(frame, ip)?;
            t.header_len = 8;
            // Zero is a jumbogram's.
            if matches!(u16::from_be(halves(len_checksum).0), 1..8) {
                return Err(DropReason::InvalidHeader);
            }
            set_ports(&mut t, ports);
        }
        protocol::SCTP => {
            let [ports, _, _, chunk]: [u32; 4] = head(frame, ip)?;
            t.header_len = 16;
            let [kind, ..] = bytes(chunk);
            t.signal = match kind {
                sctp::INIT => Signal::Open,
                sctp::SHUTDOWN | sctp::SHUTDOWN_ACK => Signal::Finish,
                sctp::ABORT => Signal::Reset,
                _ => Signal::Segment,
            };
            set_ports(&mut t, ports);
        }
        protocol::ICMP | protocol::ICMPV6 => {
            let [first, id_sequence]: [u32; 2] = head(frame, ip)?;
            t.header_len = 8;
            let [kind, code, ..] = bytes(first);
            t.icmp_type = kind;
            t.icmp_code = code;
            t.src_port = Port::from_wire(halves(id_sequence).0);
        }
        _ => {}
    }
    Ok(t)
}

#[inline(always)]
fn head<F: Frame, const N: usize>(frame: &F, ip: &Ip) -> Result<[u32; N], DropReason> {
    // Bytes behind the datagram's end are padding of the frame and belong to no header.
    if ip.transport + const { words_len(N) } > ip.end {
        return Err(DropReason::InvalidHeader);
    }
    frame.words(ip.transport).ok_or(DropReason::InvalidHeader)
}

/// Bytes of `words` words.
#[expect(clippy::cast_possible_truncation, reason = "headers have a few words")]
const fn words_len(words: usize) -> u32 {
    4 * words as u32
}

#[inline(always)]
fn set_ports(t: &mut Transport, word: u32) {
    let (src, dst) = halves(word);
    t.src_port = Port::from_wire(src);
    t.dst_port = Port::from_wire(dst);
}

/// The combinations of SYN, FIN, RST and ACK that a TCP sends; the other flags go with any.
#[inline(always)]
fn tcp_signal(flags: u8) -> Option<Signal> {
    const SYN_ACK: u8 = tcp::SYN | tcp::ACK;
    const FIN_ACK: u8 = tcp::FIN | tcp::ACK;
    const RST_ACK: u8 = tcp::RST | tcp::ACK;
    match flags & (tcp::FIN | tcp::SYN | tcp::RST | tcp::ACK) {
        tcp::SYN => Some(Signal::Open),
        tcp::ACK | SYN_ACK => Some(Signal::Segment),
        FIN_ACK => Some(Signal::Finish),
        tcp::RST | RST_ACK => Some(Signal::Reset),
        _ => None,
    }
}
