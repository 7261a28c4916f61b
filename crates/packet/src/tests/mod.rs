//! The vectors on the host, and what they cannot show: time, events, frames that no kernel hands over.

mod events;
mod layout;
mod mutation;
mod response;
mod shortcut;
mod time;
mod work;

use crate::abi::{DropReason, Hook};
use crate::hooks::Verdict;
use crate::host::vectors::{self, Content, Step};
use crate::host::{Bytes, MemoryMaps, Wire, tcp_flags};

const IFINDEX: u32 = 3;
const SECOND: u64 = 1_000_000_000;

fn maps(content: &Content) -> MemoryMaps {
    let mut maps = MemoryMaps { now_ns: 1000 * SECOND, ..MemoryMaps::default() };
    maps.load(content, IFINDEX);
    maps
}

/// The maps of the named vector's first step.
fn content(name: &str) -> Content {
    let vector = vectors::all().into_iter().find(|vector| vector.name == name).expect(name);
    match vector.steps.into_iter().next() {
        Some(Step::Load(content)) => content,
        _ => panic!("{name} loads nothing"),
    }
}

fn open() -> Content {
    content("IPv4: own address and hardware address")
}

/// From the pod to the peer of the vectors' world, IPv4.
fn tx() -> Wire {
    Wire::new(vectors::POD_MAC, [2, 0, 0, 0, 0, 1], [10, 0, 1, 5].into(), [10, 0, 2, 7].into())
}

/// The way back.
fn rx() -> Wire {
    let there = tx();
    Wire { src: there.dst, dst: there.src, src_mac: there.dst_mac, dst_mac: there.src_mac, ..there }
}

#[test]
fn every_vector_holds() {
    let mut failures = Vec::new();
    for vector in vectors::all() {
        let mut maps = MemoryMaps { now_ns: SECOND, ..MemoryMaps::default() };
        for (position, step) in vector.steps.iter().enumerate() {
            match step {
                Step::Load(content) => maps.load(content, IFINDEX),
                Step::Send { hook, frame, expect } => {
                    let (seen, expect) = (maps.run(*hook, IFINDEX, frame), expect.at(IFINDEX));
                    if seen != expect {
                        failures.push(format!("{} step {position}: {seen:?}, expected {expect:?}", vector.name));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

/// Whatever length a frame is cut to, it is judged, and never passes as what it is not any more.
#[test]
fn frames_cut_anywhere() {
    let whole = [
        tx().tcp(4000, 80, tcp_flags::SYN),
        tx().udp(4000, 53),
        tx().options(&[7, 7, 4, 0, 0, 0, 0, 0]).tcp(4000, 80, tcp_flags::SYN),
        tx().unreachable(&rx().udp(1, 2)),
    ];
    for frame in &whole {
        for len in 0..frame.len() {
            let seen = maps(&open()).run(Hook::FromPod, IFINDEX, &frame[..len]);
            assert!(matches!(seen, Verdict::Drop(_)), "{len} of {} bytes: {seen:?}", frame.len());
        }
    }
    assert_eq!(maps(&open()).run(Hook::FromPod, IFINDEX, &[0; 14]), Verdict::Drop(DropReason::UnsupportedL2));
}

#[test]
fn a_tagged_frame_does_not_pass() {
    let bytes = tx().udp(4000, 53);
    let frame = Bytes { vlan_tag: true, ..Bytes::new(IFINDEX, &bytes) };
    for hook in [Hook::FromPod, Hook::ToPod] {
        assert_eq!(maps(&open()).run_frame(hook, &frame), Verdict::Drop(DropReason::UnsupportedL2));
    }
}

#[test]
fn without_configuration_pods_are_closed_and_the_node_is_reachable() {
    for abi_version in [None, Some(0), Some(crate::abi::ABI_VERSION + 1)] {
        let mut maps = maps(&open());
        maps.config =
            abi_version.map(|abi_version| crate::abi::Config { abi_version, ..crate::abi::Config::default() });
        let closed = Verdict::Drop(DropReason::AbiMismatch);
        assert_eq!(maps.run(Hook::FromPod, IFINDEX, &tx().udp(4000, 53)), closed);
        assert_eq!(maps.run(Hook::ToPod, IFINDEX, &rx().udp(53, 4000)), closed);
        assert_eq!(maps.run(Hook::FromUplink, IFINDEX, &rx().udp(53, 4000)), Verdict::Pass);
    }
}

#[test]
fn an_interface_without_endpoint_is_closed() {
    let mut maps = maps(&open());
    let closed = Verdict::Drop(DropReason::UnknownEndpoint);
    assert_eq!(maps.run(Hook::FromPod, IFINDEX + 1, &tx().udp(4000, 53)), closed);
    assert_eq!(maps.run(Hook::ToPod, IFINDEX + 1, &rx().udp(53, 4000)), closed);
}
