//! A pod sends only from its own addresses.

use std::net::IpAddr;

use super::Vector;
use super::world::{Content, FAMILIES, NODE_MAC, node, other, outside, peer, rx, tx};
use crate::abi::DropReason;
use crate::host::tcp_flags::SYN;

pub(super) fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    for (v6, family) in FAMILIES {
        let open = || Content::open(1);
        let any: IpAddr = if v6 { "::".parse().unwrap_or(peer(v6)) } else { IpAddr::from([0, 0, 0, 0]) };
        all.push(
            Vector::new(format!("{family}: own address and hardware address"), open()).out(tx(v6).tcp(4000, 80, SYN)),
        );
        let forged = DropReason::InvalidSourceIp;
        for (who, address) in
            [("another pod", other(v6)), ("the node", node(v6)), ("the internet", outside(v6)), ("no address", any)]
        {
            let vector = Vector::new(format!("{family}: source address of {who}"), open());
            all.push(vector.out_dropped(tx(v6).src(address).udp(4000, 53), forged));
        }
        all.push(
            Vector::new(format!("{family}: hardware address of the node"), open())
                .out_dropped(tx(v6).src_mac(NODE_MAC).tcp(4000, 80, SYN), DropReason::InvalidSourceMac),
        );
        all.push(
            Vector::new(format!("{family}: delivered to an address that is not the pod's"), open())
                .into_dropped(rx(v6).dst(other(v6)).tcp(4000, 80, SYN), DropReason::NotThisPod),
        );
        let group: IpAddr = if v6 { [0xff0e, 0, 0, 0, 0, 0, 0, 0x100].into() } else { [239, 1, 1, 1].into() };
        all.push(
            Vector::new(format!("{family}: multicast ends at the link"), open())
                .out_dropped(tx(v6).dst(group).udp(5353, 5353), DropReason::Multicast)
                .into_dropped(rx(v6).dst(group).udp(5353, 5353), DropReason::Multicast),
        );
    }
    let link_local: IpAddr = [0xfe80, 0, 0, 0, 0, 0, 0, 5].into();
    all.push(
        Vector::new("IPv6: link-local source outside of neighbour discovery", Content::open(1))
            .out_dropped(tx(true).src(link_local).udp(4000, 53), DropReason::InvalidSourceIp),
    );
    let mapped: IpAddr = [0, 0, 0, 0, 0, 0xffff, 0x0a00, 0x0105].into();
    all.push(
        Vector::new("IPv6: IPv4-mapped addresses on the wire", Content::open(1))
            .out_dropped(tx(true).src(mapped).tcp(4000, 80, SYN), DropReason::MappedAddress)
            .out_dropped(tx(true).dst(mapped).tcp(4000, 80, SYN), DropReason::MappedAddress)
            .into_dropped(rx(true).dst(mapped).tcp(4000, 80, SYN), DropReason::MappedAddress),
    );
    all.push(
        Vector::new("IPv4: broadcast ends at the link", Content::open(1))
            .out_dropped(tx(false).dst([255, 255, 255, 255].into()).udp(68, 67), DropReason::Multicast),
    );
    all.push(
        Vector::new("VLAN tags and foreign protocols", Content::open(1))
            .out_dropped(tx(false).ethernet(0x8100, &[0; 46]), DropReason::UnsupportedL3)
            .out_dropped(tx(false).ethernet(0x8847, &[0; 46]), DropReason::UnsupportedL3),
    );
    all
}
