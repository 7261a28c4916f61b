//! The way past the host's stack: it is taken by what both ends have judged, leaves the trace that the long way leaves, and
//! makes of the frame what a router would.

use super::{IFINDEX, SECOND, maps, open};
use crate::abi::{CtEntry, Endpoint, Hook, IpcacheKey, IpcacheValue, Metric, ipcache_flags};
use crate::hooks::Verdict;
use crate::host::tcp_flags::{ACK, FIN, PSH, RST, SYN};
use crate::host::vectors::{POD_MAC, SUBJECT};
use crate::host::{Bytes, MemoryMaps, Wire};

const SERVER_AT: u32 = IFINDEX + 1;
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 6];
const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// The vectors' pod as client, and a server beside it; nobody is isolated.
fn two_pods(shortcut: bool) -> MemoryMaps {
    let mut maps = maps(&open());
    let mut server = Endpoint { id: 9, identity: SUBJECT, mac: SERVER_MAC, addr_count: 2, ..maps.endpoints[&IFINDEX] };
    for (v6, slot) in [false, true].into_iter().zip(&mut server.addrs) {
        let [_, server] = addresses(v6);
        *slot = server.into();
        let value = IpcacheValue { identity: SUBJECT, flags: ipcache_flags::LOCAL_ENDPOINT, ..IpcacheValue::default() };
        maps.ipcache.insert(IpcacheKey::exact(server.into()), value);
    }
    maps.endpoints.insert(SERVER_AT, server);
    maps.config.as_mut().expect("loaded").shortcut = u32::from(shortcut);
    maps
}

/// The client's and the server's.
fn addresses(v6: bool) -> [std::net::IpAddr; 2] {
    if v6 {
        ["fd00:1::5", "fd00:1::6"].map(|text| text.parse().expect(text))
    } else {
        ["10.0.1.5", "10.0.1.6"].map(|text| text.parse().expect(text))
    }
}

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum From {
    Client,
    Server,
}

impl From {
    fn wire(self, v6: bool) -> Wire {
        let [client, server] = addresses(v6);
        match self {
            Self::Client => Wire::new(POD_MAC, NODE_MAC, client, server),
            Self::Server => Wire::new(SERVER_MAC, NODE_MAC, server, client),
        }
    }

    fn interface(self) -> u32 {
        if self == Self::Client { IFINDEX } else { SERVER_AT }
    }

    fn peer_interface(self) -> u32 {
        if self == Self::Client { SERVER_AT } else { IFINDEX }
    }

    fn tcp(self, v6: bool, flags: u8) -> Vec<u8> {
        let (from, to) = if self == Self::Client { (4000, 80) } else { (80, 4000) };
        self.wire(v6).tcp(from, to, flags)
    }
}

/// Sends a frame as the host would carry it: by the hook of the sender, then, unless it was delivered, by that of the receiver.
fn carry(maps: &mut MemoryMaps, from: From, frame: &[u8]) -> (Verdict, Vec<u8>) {
    let sent = Bytes::new(from.interface(), frame);
    let verdict = maps.run_frame(Hook::FromPod, &sent);
    if verdict == Verdict::Pass {
        assert_eq!(sent.after(), frame, "the host's stack gets it as it was");
        assert_eq!(maps.run(Hook::ToPod, from.peer_interface(), frame), Verdict::Pass);
    }
    (verdict, sent.after())
}

const TALK: [(From, u8); 9] = [
    (From::Client, SYN),
    (From::Server, SYN | ACK),
    (From::Client, ACK),
    (From::Client, ACK | PSH),
    (From::Server, ACK | PSH),
    (From::Client, FIN | ACK),
    (From::Server, FIN | ACK),
    (From::Client, ACK),
    (From::Server, RST),
];

#[test]
fn the_shortcut_leaves_what_the_long_way_leaves() {
    for v6 in [false, true] {
        let [mut short, mut long] = [true, false].map(two_pods);
        for (number, (from, flags)) in TALK.into_iter().enumerate() {
            for maps in [&mut short, &mut long] {
                // So that the report of an old connection comes by as well.
                maps.now_ns += if number == 3 { 31 * SECOND } else { SECOND };
            }
            let frame = from.tcp(v6, flags);
            let (verdict, _) = carry(&mut short, from, &frame);
            let expected =
                if number == 0 { Verdict::Pass } else { Verdict::Deliver { ifindex: from.peer_interface() } };
            assert_eq!(verdict, expected, "packet {number}");
            assert_eq!(carry(&mut long, from, &frame).0, Verdict::Pass, "packet {number}");
        }
        let trace = |maps: &MemoryMaps| {
            let entries: Vec<CtEntry> = maps.conntrack.values().copied().collect();
            let metrics: Vec<(u32, Metric)> = maps.metrics.iter().map(|(key, value)| (*key, *value)).collect();
            (entries, maps.events.clone(), metrics)
        };
        assert_eq!(trace(&short), trace(&long));
        assert_eq!(short.conntrack.len(), 2);
    }
}

/// The frame with the checksum of its IPv4 header, if it has one (RFC 1071).
fn summed(mut frame: Vec<u8>) -> Vec<u8> {
    if frame[12..14] == [8, 0] {
        let sum: u32 = frame[14..34].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let [_, _, high, low] = (!((sum & 0xffff) + (sum >> 16))).to_be_bytes();
        frame[24..26].copy_from_slice(&[high, low]);
    }
    frame
}

#[test]
fn a_delivered_frame_is_one_hop_on_and_nothing_else_changes() {
    for v6 in [false, true] {
        for hops in 1..=255 {
            let mut maps = two_pods(true);
            for (from, flags) in &TALK[..3] {
                carry(&mut maps, *from, &from.tcp(v6, *flags));
            }
            let wire = From::Client.wire(v6).hop_limit(hops);
            let frame = summed(wire.tcp(4000, 80, ACK));
            let (verdict, after) = carry(&mut maps, From::Client, &frame);
            if hops == 1 {
                assert_eq!(verdict, Verdict::Pass, "the host tells who sent it");
                continue;
            }
            assert_eq!(verdict, Verdict::Deliver { ifindex: SERVER_AT });
            let mut routed = Wire { src_mac: NODE_MAC, dst_mac: SERVER_MAC, ..wire };
            routed = routed.hop_limit(hops - 1);
            assert_eq!(after, summed(routed.tcp(4000, 80, ACK)), "{hops} hops");
        }
    }
}

/// What has to hold beyond a connection that stands.
#[test]
fn whatever_is_out_of_the_ordinary_takes_the_long_way() {
    type Change = fn(&mut MemoryMaps);
    let changes: [(&str, Change); 6] = [
        ("turned off", |maps| maps.config.as_mut().expect("loaded").shortcut = 0),
        ("the receiver's entry is gone", |maps| maps.conntrack.retain(|key, _| key.local_port.get() != 80)),
        ("the receiver's entry was judged under another policy", |maps| {
            maps.conntrack.values_mut().for_each(|entry| entry.revision += u32::from(entry.endpoint == 9));
        }),
        ("the receiver's link is gone", |maps| {
            maps.endpoints.remove(&SERVER_AT);
        }),
        ("another pod has the receiver's link", |maps| {
            maps.endpoints.get_mut(&SERVER_AT).expect("there").id += 1;
        }),
        ("the receiver's address is another", |maps| {
            maps.endpoints.get_mut(&SERVER_AT).expect("there").addr_count = 0;
        }),
    ];
    for (what, change) in changes {
        let mut maps = two_pods(true);
        for (from, flags) in &TALK[..3] {
            carry(&mut maps, *from, &from.tcp(false, *flags));
        }
        change(&mut maps);
        let before = maps.conntrack.clone();
        let frame = From::Client.tcp(false, ACK);
        assert_eq!(maps.run(Hook::FromPod, IFINDEX, &frame), Verdict::Pass, "{what}");
        for (key, entry) in maps.conntrack.iter().filter(|(key, _)| key.local_port.get() == 80) {
            assert_eq!(before[key], *entry, "{what}: the receiver's entry is left to its own hook");
        }
    }
    let mut maps = two_pods(true);
    for (from, flags) in &TALK[..3] {
        carry(&mut maps, *from, &from.tcp(false, *flags));
    }
    let bytes = From::Client.tcp(false, ACK);
    let elsewhere = Bytes { for_host: false, ..Bytes::new(IFINDEX, &bytes) };
    assert_eq!(maps.run_frame(Hook::FromPod, &elsewhere), Verdict::Pass, "the host's stack drops it");
}
