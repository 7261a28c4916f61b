//! Packets to send and to recognise, as bytes. SCTP as in RFC 9260, ICMP as in RFC 792 and RFC 4443.

use std::net::IpAddr;

use strait_packet::respond::RESET_WINDOW;

pub(super) const SCTP: u8 = 132;
pub(super) const ICMP: u8 = 1;
pub(super) const ICMPV6: u8 = 58;
/// TCP flag.
pub(super) const RST: u8 = 0x04;

/// What a received ICMP message says about a probe.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum News {
    /// Answer to the echo request with this identifier and sequence number.
    Reply { id: u16, sequence: u16 },
    /// The host refuses the SCTP packet from this port to that.
    SctpRefused { from: u16, to: u16 },
}

/// A DNS query for the root's addresses: an echo server sends it back, a name server answers it.
pub(super) const DATAGRAM: [u8; 17] = [0x53, 0x54, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1];

/// An echo request; its checksum is right for IPv4 and left to the kernel for IPv6.
pub(super) fn echo_request(v4: bool, id: u16, sequence: u16) -> Vec<u8> {
    let mut packet = vec![if v4 { 8 } else { 128 }, 0, 0, 0];
    packet.extend(id.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend(*b"strait");
    if v4 {
        let sum = internet_checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// An IP packet with an SCTP INIT. The kernel fills in IPv4's length, identification and checksum.
pub(super) fn sctp_init(source: IpAddr, destination: IpAddr, ports: (u16, u16)) -> Vec<u8> {
    let mut sctp = Vec::with_capacity(32);
    sctp.extend(ports.0.to_be_bytes());
    sctp.extend(ports.1.to_be_bytes());
    sctp.extend([0; 8]); // Verification tag 0, as INIT must have; checksum, below.
    sctp.extend([1, 0, 0, 20]); // INIT, no flags, length.
    sctp.extend(0x5354_5241_u32.to_be_bytes()); // Initiate tag, not 0.
    sctp.extend(65_536_u32.to_be_bytes()); // Receiver window.
    sctp.extend([0, 1, 0, 1]); // One stream each way.
    sctp.extend(1_u32.to_be_bytes()); // First TSN.
    let sum = crc32c(&sctp);
    sctp[8..12].copy_from_slice(&sum.to_le_bytes());

    let length = u16::try_from(sctp.len()).unwrap_or(u16::MAX);
    let mut packet = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, SCTP, 0, 0];
            header[2..4].copy_from_slice(&(length + 20).to_be_bytes());
            header.extend(source.octets());
            header.extend(destination.octets());
            header
        }
        (source, destination) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(length.to_be_bytes());
            header.extend([SCTP, 64]);
            header.extend(strait_base::net::mapped(source));
            header.extend(strait_base::net::mapped(destination));
            header
        }
    };
    packet.extend(sctp);
    packet
}

/// Reads an ICMP message as a raw IPv4 socket gives it, IP header first.
pub(super) fn read_icmp(packet: &[u8]) -> Option<News> {
    let message = after_ipv4(packet)?;
    match (message.first()?, message.get(1)?) {
        (0, 0) => Some(News::Reply { id: word(message, 4)?, sequence: word(message, 6)? }),
        // Protocol or port unreachable.
        (3, 2 | 3) => {
            let inner = message.get(8..)?;
            (*inner.get(9)? == SCTP).then_some(())?;
            refused(after_ipv4(inner)?)
        }
        _ => None,
    }
}

/// Reads an ICMPv6 message as a raw IPv6 socket gives it, without the IP header.
pub(super) fn read_icmpv6(message: &[u8]) -> Option<News> {
    match (message.first()?, message.get(1)?) {
        (129, 0) => Some(News::Reply { id: word(message, 4)?, sequence: word(message, 6)? }),
        // Port unreachable; unrecognised next header.
        (1, 4) | (4, 1) => {
            let inner = message.get(8..)?;
            (*inner.get(6)? == SCTP).then_some(())?;
            refused(inner.get(40..)?)
        }
        _ => None,
    }
}

/// Reads an SCTP packet that answers a probe: the ports are the other way round.
pub(super) fn read_sctp(packet: &[u8]) -> Option<News> {
    // INIT ACK or ABORT.
    matches!(packet.get(12)?, 2 | 6).then_some(())?;
    Some(News::SctpRefused { from: word(packet, 2)?, to: word(packet, 0)? })
}

/// The ports of a TCP reset that policy sent: one with the window that tells it from a stack's.
pub(super) fn read_prohibition(segment: &[u8]) -> Option<(u16, u16)> {
    let prohibited = segment.get(13)? & RST != 0 && word(segment, 14)? == RESET_WINDOW;
    prohibited.then_some(())?;
    Some((word(segment, 0)?, word(segment, 2)?))
}

/// What follows the header of an IPv4 packet.
pub(super) fn after_ipv4(packet: &[u8]) -> Option<&[u8]> {
    packet.get(usize::from(packet.first()? & 0x0f) * 4..)
}

fn refused(sctp: &[u8]) -> Option<News> {
    Some(News::SctpRefused { from: word(sctp, 0)?, to: word(sctp, 2)? })
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums() {
        // RFC 3720, B.4, and RFC 1071's example.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(internet_checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(internet_checksum(&echo_request(true, 7, 9)), 0);
    }

    #[test]
    fn refusals_name_the_probe() {
        let v4 = sctp_init("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap(), (50_000, 3868));
        let mut error = vec![0x45; 1];
        error.extend([0; 19]);
        error.extend([3, 2, 0, 0, 0, 0, 0, 0]);
        error.extend(&v4[..28]);
        assert_eq!(read_icmp(&error), Some(News::SctpRefused { from: 50_000, to: 3868 }));
        error[21] = 1; // Host unreachable is no word of the destination.
        assert_eq!(read_icmp(&error), None);

        let v6 = sctp_init("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap(), (50_000, 3868));
        let mut error = vec![4, 1, 0, 0, 0, 0, 0, 6];
        error.extend(&v6);
        assert_eq!(read_icmpv6(&error), Some(News::SctpRefused { from: 50_000, to: 3868 }));
    }

    #[test]
    fn policy_resets_with_a_window_of_its_own() {
        let mut segment = [0, 80, 0xd0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x50, 0x14, 0, 13, 0, 0, 0, 0];
        assert_eq!(read_prohibition(&segment), Some((80, 0xd000)));
        for (at, byte) in [(13, 0x10), (15, 0), (14, 1)] {
            let kept = std::mem::replace(&mut segment[at], byte);
            assert_eq!(read_prohibition(&segment), None, "{at}");
            segment[at] = kept;
        }
        assert_eq!(read_prohibition(&segment[..15]), None);
    }

    #[test]
    fn short_packets_say_nothing() {
        let v6 = sctp_init("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap(), (1, 2));
        let mut error = vec![1, 4, 0, 0, 0, 0, 0, 0];
        error.extend(&v6[..42]);
        for length in 0..error.len() {
            assert_eq!(read_icmpv6(&error[..length]), None);
            assert_eq!(read_sctp(&error[..length.min(12)]), None);
        }
        let v4 = sctp_init("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap(), (1, 2));
        let mut error = v4[..20].to_vec();
        error.extend([3, 3, 0, 0, 0, 0, 0, 0]);
        error.extend(&v4[..24]);
        for length in 0..error.len() {
            assert_eq!(read_icmp(&error[..length]), None);
        }
    }
}
