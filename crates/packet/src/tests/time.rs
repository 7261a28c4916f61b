//! What happens when time passes.

use super::{IFINDEX, SECOND, content, maps, open, rx, tx};
use crate::abi::{DropReason, Hook};
use crate::hooks::Verdict;
use crate::host::tcp_flags::{ACK, FIN, RST, SYN};
use crate::host::{MemoryMaps, Wire};

const OUT: Hook = Hook::FromPod;
const IN: Hook = Hook::ToPod;

fn run(maps: &mut MemoryMaps, hook: Hook, frame: &[u8]) -> Verdict {
    maps.run(hook, IFINDEX, frame)
}

/// Egress to UDP 53 and nothing else.
fn only_udp_out() -> MemoryMaps {
    maps(&content("IPv4: UDP replies"))
}

#[test]
fn a_silent_connection_is_forgotten_after_its_lifetime() {
    // Seconds of silence after which a datagram from the other side is still a reply.
    for (answered, silence, remembered) in [(false, 29, true), (false, 31, false), (true, 59, true), (true, 61, false)]
    {
        let mut maps = only_udp_out();
        assert_eq!(run(&mut maps, OUT, &tx().udp(4000, 53)), Verdict::Pass);
        if answered {
            assert_eq!(run(&mut maps, IN, &rx().udp(53, 4000)), Verdict::Pass);
        }
        maps.now_ns += silence * SECOND;
        let seen = run(&mut maps, IN, &rx().udp(53, 4000));
        let expected = if remembered { Verdict::Pass } else { Verdict::Drop(DropReason::PolicyDenied) };
        assert_eq!(seen, expected, "answered {answered}, silent for {silence} s");
    }
}

#[test]
fn tcp_lives_long_once_established_and_not_before() {
    let handshake: [(Hook, Wire, u16, u16, u8); 3] =
        [(OUT, tx(), 4000, 80, SYN), (IN, rx(), 80, 4000, SYN | ACK), (OUT, tx(), 4000, 80, ACK)];
    for (steps, lifetime) in [(1, 60), (2, 60), (3, 8_000)] {
        let mut maps = maps(&open());
        for (hook, wire, from, to, flags) in &handshake[..steps] {
            run(&mut maps, *hook, &wire.tcp(*from, *to, *flags));
        }
        let entry = maps.conntrack.values().next().expect("an entry");
        assert_eq!(entry.lifetime_ns, lifetime * SECOND, "after {steps} segments");
    }
}

#[test]
fn an_ending_connection_is_forgotten_soon() {
    for flags in [FIN | ACK, RST] {
        let mut maps = maps(&open());
        run(&mut maps, OUT, &tx().tcp(4000, 80, SYN));
        run(&mut maps, IN, &rx().tcp(80, 4000, SYN | ACK));
        run(&mut maps, OUT, &tx().tcp(4000, 80, ACK));
        run(&mut maps, OUT, &tx().tcp(4000, 80, flags));
        assert_eq!(maps.conntrack.values().next().expect("an entry").lifetime_ns, 10 * SECOND);
    }
}

#[test]
fn later_fragments_follow_within_reassembly_time() {
    let first = tx().fragment(1, 0, true).ip(17, &[0, 1, 0, 53, 0, 24, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let later = tx().fragment(1, 16, false).ip(17, &[1; 8]);
    for (silence, expected) in [(59, Verdict::Pass), (61, Verdict::Drop(DropReason::FragmentNotFound))] {
        let mut maps = maps(&open());
        assert_eq!(run(&mut maps, OUT, &first), Verdict::Pass);
        maps.now_ns += silence * SECOND;
        assert_eq!(run(&mut maps, OUT, &later), expected, "after {silence} s");
    }
}

#[test]
fn an_address_that_changes_hands_brings_no_connections_along() {
    let mut maps = only_udp_out();
    assert_eq!(run(&mut maps, OUT, &tx().udp(4000, 53)), Verdict::Pass);
    maps.endpoints.get_mut(&IFINDEX).expect("the endpoint").id += 1;
    assert_eq!(run(&mut maps, IN, &rx().udp(53, 4000)), Verdict::Drop(DropReason::PolicyDenied));
}
