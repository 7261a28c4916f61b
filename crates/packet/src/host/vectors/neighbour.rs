//! ARP and neighbour discovery: about oneself only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Vector;
use super::world::{Content, NODE_MAC, POD_MAC, node, other, peer, pod, rx, tx};
use crate::abi::DropReason;
use crate::host::Wire;

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_MAC: u8 = 1;
const TARGET_MAC: u8 = 2;

fn arp(wire: &Wire, operation: u8, mac: [u8; 6], sender: IpAddr, target: IpAddr) -> Vec<u8> {
    let v4 = |ip| if let IpAddr::V4(ip) = ip { ip } else { Ipv4Addr::UNSPECIFIED }.octets();
    let body = [&[0, 1, 8, 0, 6, 4, 0, operation], &mac[..], &v4(sender), &[0; 6], &v4(target)].concat();
    wire.ethernet(0x0806, &body)
}

fn nd(wire: &Wire, icmp_type: u8, target: IpAddr, option: u8, mac: [u8; 6]) -> Vec<u8> {
    let IpAddr::V6(target) = target else { unreachable!("neighbour discovery is IPv6") };
    let rest = [&[0; 4], &target.octets()[..], &[option, 1], &mac].concat();
    wire.clone().hop_limit(255).icmp(icmp_type, 0, &rest)
}

fn link_local(last: u16) -> IpAddr {
    [0xfe80, 0, 0, 0, 0, 0, 0, last].into()
}

pub(super) fn vectors() -> Vec<Vector> {
    let open = || Content::open(1);
    let v4 = tx(false);
    let v6 = tx(true).dst(node(true));
    let solicited: IpAddr = [0xff02, 0, 0, 0, 0, 1, 0xff00, 7].into();
    let unspecified = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    let spoofed = DropReason::NeighbourSpoofed;
    let forbidden = DropReason::ForbiddenIcmpv6;
    vec![
        Vector::new("ARP about oneself", open())
            .out(arp(&v4, 1, POD_MAC, pod(false), node(false)))
            .out(arp(&v4, 2, POD_MAC, pod(false), node(false)))
            .out(arp(&v4, 1, POD_MAC, Ipv4Addr::UNSPECIFIED.into(), pod(false)))
            .into(arp(&rx(false), 1, NODE_MAC, node(false), pod(false))),
        Vector::new("ARP that claims another's address", open())
            .out_dropped(arp(&v4, 2, POD_MAC, other(false), node(false)), DropReason::ArpSpoofed)
            .out_dropped(arp(&v4, 1, POD_MAC, node(false), node(false)), DropReason::ArpSpoofed)
            .out_dropped(arp(&v4, 2, NODE_MAC, pod(false), node(false)), DropReason::ArpSpoofed),
        Vector::new("ARP of another shape", open())
            .out_dropped(v4.ethernet(0x0806, &[0, 1, 8, 0, 6, 4, 0, 1]), DropReason::InvalidPacket)
            .out_dropped(
                v4.ethernet(0x0806, &[[0, 1, 8, 0, 6, 16, 0, 1], [0; 8], [0; 8], [0; 8]].concat()),
                DropReason::InvalidPacket,
            ),
        Vector::new("neighbour discovery about oneself", open())
            .out(nd(&v6.clone().dst(solicited), SOLICITATION, peer(true), SOURCE_MAC, POD_MAC))
            .out(nd(&v6.clone().src(link_local(5)).dst(solicited), SOLICITATION, node(true), SOURCE_MAC, POD_MAC))
            .out(nd(&v6, ADVERTISEMENT, pod(true), TARGET_MAC, POD_MAC))
            .out(nd(&v6.clone().src(link_local(5)), ADVERTISEMENT, link_local(5), TARGET_MAC, POD_MAC))
            .into(nd(&rx(true).src(link_local(1)).dst(solicited), SOLICITATION, pod(true), SOURCE_MAC, NODE_MAC)),
        Vector::new("duplicate address detection", open()).out(
            v6.clone().src(unspecified).dst(solicited).hop_limit(255).icmp(SOLICITATION, 0, &{
                let IpAddr::V6(own) = pod(true) else { unreachable!("an IPv6 address") };
                [&[0; 4], &own.octets()[..]].concat()
            }),
        ),
        Vector::new("neighbour discovery that claims another's address", open())
            .out_dropped(nd(&v6, ADVERTISEMENT, other(true), TARGET_MAC, POD_MAC), spoofed)
            .out_dropped(nd(&v6, ADVERTISEMENT, node(true), TARGET_MAC, POD_MAC), spoofed)
            .out_dropped(nd(&v6.clone().src(other(true)), ADVERTISEMENT, pod(true), TARGET_MAC, POD_MAC), spoofed)
            .out_dropped(nd(&v6.clone().src(other(true)), SOLICITATION, node(true), SOURCE_MAC, POD_MAC), spoofed)
            .out_dropped(nd(&v6.clone().src(unspecified), ADVERTISEMENT, pod(true), TARGET_MAC, POD_MAC), spoofed),
        Vector::new("neighbour discovery that claims another hardware address", open())
            .out_dropped(nd(&v6, ADVERTISEMENT, pod(true), TARGET_MAC, NODE_MAC), spoofed)
            .out_dropped(nd(&v6, SOLICITATION, peer(true), SOURCE_MAC, NODE_MAC), spoofed),
        Vector::new("neighbour discovery that was routed", open()).into_dropped(
            {
                let IpAddr::V6(own) = pod(true) else { unreachable!("an IPv6 address") };
                rx(true).hop_limit(254).icmp(ADVERTISEMENT, 0, &[&[0; 4], &own.octets()[..]].concat())
            },
            forbidden,
        ),
        Vector::new("options that do not end", open())
            .out_dropped(
                v6.clone().hop_limit(255).icmp(SOLICITATION, 0, &[[0; 10], [0; 10], [0; 10]].concat()),
                DropReason::InvalidHeader,
            )
            .out_dropped(v6.clone().hop_limit(255).icmp(SOLICITATION, 0, &[0; 4]), DropReason::InvalidHeader),
        Vector::new("router advertisement and redirect", open())
            .out_dropped(v6.clone().hop_limit(255).icmp(134, 0, &[0; 12]), forbidden)
            .out_dropped(v6.clone().hop_limit(255).icmp(137, 0, &[0; 36]), forbidden)
            .into_dropped(rx(true).hop_limit(255).icmp(134, 0, &[0; 12]), forbidden)
            .into_dropped(rx(true).hop_limit(255).icmp(137, 0, &[0; 36]), forbidden),
        Vector::new("router solicitation", open())
            .out(v6.clone().src(link_local(5)).hop_limit(255).icmp(
                133,
                0,
                &[&[0, 0, 0, 0, SOURCE_MAC, 1], &POD_MAC[..]].concat(),
            ))
            .out_dropped(
                v6.clone().src(link_local(5)).hop_limit(255).icmp(
                    133,
                    0,
                    &[&[0, 0, 0, 0, SOURCE_MAC, 1], &NODE_MAC[..]].concat(),
                ),
                spoofed,
            ),
        Vector::new("group membership ends at the link", open())
            .out_dropped(
                v6.clone()
                    .src(link_local(5))
                    .hop_limit(1)
                    .extension(0, &[0, 0, 5, 2, 0, 0, 1, 0])
                    .icmp(143, 0, &[0; 24]),
                DropReason::GroupMembership,
            )
            .out_dropped(
                v4.clone().dst([224, 0, 0, 22].into()).options(&[0x94, 4, 0, 0]).ip(2, &[0x22, 0, 0, 0, 0, 0, 0, 0]),
                DropReason::GroupMembership,
            ),
    ]
}
