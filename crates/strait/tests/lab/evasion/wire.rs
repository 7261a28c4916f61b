//! Raw sockets in the lab's places: what a process with `CAP_NET_RAW` sends and sees.

use std::{
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvfrom, sendto, setsockopt, socket,
        sockopt,
    },
};
use strait_datapath::netns::Netns;
use strait_lab::{Lab, Place};

/// Room for the frames of a flood.
const EAR: usize = 8 << 20;
/// `sll_pkttype` of frames that are for someone else on the link, and of the place's own.
const OTHER_HOST: u8 = 3;
const OUTGOING: u8 = 4;

/// A packet socket in a place: sends frames as they are, hears what arrives.
pub(super) struct Raw {
    socket: OwnedFd,
    link: LinkAddr,
    /// Hear frames that are for someone else too.
    pub(super) promiscuous: bool,
}

impl Raw {
    /// On the interface `eth0` of `place`.
    pub(super) fn open(lab: &Lab, place: &Place) -> Self {
        let netns = Netns::open(&lab.paths().namespace(place)).unwrap();
        netns
            .run(|| {
                let socket =
                    socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_NONBLOCK, SockProtocol::EthAll)
                        .unwrap();
                setsockopt(&socket, sockopt::RcvBufForce, &EAR).unwrap();
                let mut links = getifaddrs().unwrap().filter(|address| address.interface_name == "eth0");
                let link = links.find_map(|address| address.address?.as_link_addr().copied()).unwrap();
                Self { socket, link, promiscuous: true }
            })
            .unwrap()
    }

    pub(super) fn send(&self, frame: &[u8]) {
        match sendto(self.socket.as_raw_fd(), frame, &self.link, MsgFlags::empty()) {
            Ok(sent) => assert_eq!(sent, frame.len()),
            // The queue of a flood; the frame is not on its way.
            Err(Errno::ENOBUFS) => panic!("no room to send"),
            Err(error) => panic!("sending {frame:02x?}: {error}"),
        }
    }

    /// What has arrived since the last time.
    pub(super) fn heard(&self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((_, Some(from))) if from.ifindex() != self.link.ifindex() || from.pkttype() == OUTGOING => {}
                Ok((_, Some(from))) if from.pkttype() == OTHER_HOST && !self.promiscuous => {}
                Ok((length, _)) => frames.push(buffer[..length].to_vec()),
                Err(Errno::EAGAIN) => return frames,
                Err(error) => panic!("listening: {error}"),
            }
        }
    }
}

/// Marks a frame as the packet of an attempt and gives it the checksum that routers look at. The mark survives the way:
/// IPv4 identification, IPv6 flow label.
pub(super) fn stamp(frame: &mut [u8], mark: u16) {
    match frame.get(12..14) {
        Some([0x08, 0x00]) if frame.len() >= 34 => {
            if frame[18..20] == [0, 0] {
                frame[18..20].copy_from_slice(&id(mark, 0).to_be_bytes());
            }
            checksum_ipv4(frame);
        }
        Some([0x86, 0xdd]) if frame.len() >= 18 => {
            let [a, b] = mark.to_be_bytes();
            frame[14] &= 0xf0;
            frame[15..18].copy_from_slice(&[0x0e, a, b]);
        }
        _ => {}
    }
}

/// The header checksum of an IPv4 packet, unless someone has set one.
fn checksum_ipv4(frame: &mut [u8]) {
    let end = 14 + usize::from(frame[14] & 0xf) * 4;
    if frame[24..26] == [0, 0] && (34..=frame.len()).contains(&end) {
        let sum: u32 = frame[14..end].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let folded = (folded & 0xffff) + (folded >> 16);
        frame[24..26].copy_from_slice(&(!u16::try_from(folded).unwrap()).to_be_bytes());
    }
}

/// An IPv4 identification that marks an attempt; one has four of them.
pub(super) fn id(mark: u16, number: u16) -> u16 {
    assert!(mark < 1 << 13 && number < 4);
    0x8000 | number << 13 | mark
}

/// Whether `frame`, or something it carries, is of the attempt.
pub(super) fn is_stamped(frame: &[u8], mark: u16) -> bool {
    let [a, b] = mark.to_be_bytes();
    let marked = match frame.get(12..14) {
        Some([0x08, 0x00]) => {
            frame.get(18..20).is_some_and(|id| u16::from_be_bytes([id[0], id[1]]) & 0x9fff == 0x8000 | mark)
        }
        Some([0x86, 0xdd]) => frame.get(15..18).is_some_and(|label| label[0] & 0xf == 0xe && label[1..] == [a, b]),
        _ => false,
    };
    let tag = tag(mark);
    marked || frame.windows(tag.len()).any(|bytes| bytes == tag)
}

/// A mark for payloads of frames that are not IP.
pub(super) fn tag(mark: u16) -> [u8; 8] {
    let [a, b] = mark.to_be_bytes();
    [b'e', b'v', b'a', b'd', b'e', 0xa5, a, b]
}

/// Address bytes.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
