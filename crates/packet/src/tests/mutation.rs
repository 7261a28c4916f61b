//! Frames of the vectors with bytes changed at random: nothing panics, and what passes is still true to the rules.

use super::{IFINDEX, content, maps, open};
use crate::abi::{Addr, Hook};
use crate::hooks::Verdict;
use crate::host::vectors::{self, POD_MAC, Step};

/// Mutations of every frame.
const ROUNDS: usize = 60;

/// Xorshift: the same frames in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound.max(1) as u64).expect("smaller than a usize")
    }

    /// A few bytes changed, some at the places that matter, and now and then the end cut off.
    fn mutate(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut frame = frame.to_vec();
        for _ in 0..=self.below(4) {
            let reach = if self.below(2) == 0 { frame.len() } else { frame.len().min(64) };
            let at = self.below(reach);
            if let Some(byte) = frame.get_mut(at) {
                *byte =
                    [0, 1, 4, 6, 43, 44, 58, 60, 0x7f, 0x80, 0xff][self.below(11)] ^ u8::from(self.0.is_multiple_of(3));
            }
        }
        if self.below(8) == 0 {
            frame.truncate(self.below(frame.len()));
        }
        frame
    }
}

fn frames() -> Vec<Vec<u8>> {
    let steps = vectors::all().into_iter().flat_map(|vector| vector.steps);
    steps.filter_map(|step| if let Step::Send { frame, .. } = step { Some(frame) } else { None }).collect()
}

/// Whether the frame is ARP, or ICMPv6 as far as its fixed header says.
fn of_the_link(frame: &[u8]) -> bool {
    frame[12..14] == [0x08, 0x06] || frame[12..14] == [0x86, 0xdd]
}

fn source(frame: &[u8]) -> Option<Addr> {
    match frame.get(12..14)? {
        [0x08, 0x00] => frame.get(26..30).map(|b| Addr::from_v4_word(u32::from_ne_bytes(b.try_into().expect("four")))),
        [0x86, 0xdd] => frame.get(22..38).map(|b| Addr::from_bytes(b.try_into().expect("sixteen"))),
        _ => None,
    }
}

#[test]
fn what_a_pod_sends_is_its_own() {
    let mut random = Random(0x5eed);
    let open = open();
    let own = open.endpoint;
    for frame in frames() {
        for _ in 0..ROUNDS {
            let frame = random.mutate(&frame);
            let mut maps = maps(&open);
            if maps.run(Hook::FromPod, IFINDEX, &frame) != Verdict::Pass {
                continue;
            }
            assert_eq!(frame[6..12], POD_MAC, "{frame:02x?}");
            if let Some(source) = source(&frame) {
                let link = source.is_link_local_v6() || source.is_unspecified();
                assert!(own.owns(source) || link, "{frame:02x?}");
                assert!(maps.conntrack.is_empty() || own.owns(source), "{frame:02x?}");
            }
        }
    }
}

#[test]
fn closed_is_closed() {
    let mut random = Random(0xc105_ed00);
    let closed = content("IPv4: echo that policy now denies");
    for frame in frames() {
        for _ in 0..ROUNDS {
            let frame = random.mutate(&frame);
            for hook in [Hook::FromPod, Hook::ToPod] {
                let mut maps = maps(&closed);
                maps.policy.values_mut().for_each(|value| value.port_set = 0);
                if maps.run(hook, IFINDEX, &frame) == Verdict::Pass {
                    assert!(of_the_link(&frame), "{frame:02x?}");
                    assert!(maps.conntrack.is_empty(), "{frame:02x?}");
                }
            }
        }
    }
}

#[test]
fn the_uplink_survives_anything() {
    let mut random = Random(0x1111);
    let open = open();
    for frame in frames() {
        for _ in 0..ROUNDS {
            let frame = random.mutate(&frame);
            let verdict = maps(&open).run(Hook::FromUplink, IFINDEX, &frame);
            let at_home = source(&frame).is_some_and(|source| open.endpoint.owns(source));
            assert!(!(at_home && verdict == Verdict::Pass), "{frame:02x?}");
        }
    }
}
