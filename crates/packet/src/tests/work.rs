//! How often a packet asks the maps and the clock: what it costs, in counts that no busy machine changes.

use std::cell::Cell;
use std::net::IpAddr;

use super::{IFINDEX, maps, open, rx, tx};
use crate::abi::{
    Addr, Config, CtEntry, CtKey, DropKey, DropReason, DropSeen, Endpoint, Event, EventKind, FragmentKey,
    FragmentPorts, Hook, IpcacheKey, IpcacheValue, PolicyKey, PolicyValue, PortRule, PortSetKey, ipcache_flags,
};
use crate::hooks::{self, Scratch, Verdict};
use crate::host::tcp_flags::{ACK, SYN};
use crate::host::vectors::{NODE_MAC, POD_MAC, SUBJECT};
use crate::host::{Bytes, MemoryMaps, Wire};
use crate::maps::Maps;
use crate::respond::Bucket;

/// Calls by kind. A lookup in an array is inlined and not counted; the rest is a call of the kernel each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Work {
    /// Lookups in hashes: endpoints, connections, policy, fragments.
    hashes: u32,
    /// Lookups in tries: ipcache, port sets.
    tries: u32,
    /// Insertions.
    inserts: u32,
    /// The clock, exact: reads the counter of the CPU.
    clocks: u32,
    /// The clock at the resolution of a tick.
    ticks: u32,
    /// Events.
    events: u32,
}

/// Maps that count what they are asked.
struct Counting<'a> {
    maps: &'a mut MemoryMaps,
    work: Cell<Work>,
}

impl Counting<'_> {
    fn note(&self, change: impl FnOnce(&mut Work)) {
        let mut work = self.work.get();
        change(&mut work);
        self.work.set(work);
    }
}

impl Maps for Counting<'_> {
    fn tick_ns(&self) -> u64 {
        self.note(|work| work.ticks += 1);
        self.maps.tick_ns()
    }

    fn clock_ns(&self) -> u64 {
        self.note(|work| work.clocks += 1);
        self.maps.clock_ns()
    }

    fn config(&self, into: &mut Config) -> bool {
        self.maps.config(into)
    }

    fn judges_host(&self) -> bool {
        self.maps.judges_host()
    }

    fn endpoint<R>(&self, ifindex: u32, read: impl FnOnce(&Endpoint) -> R) -> Option<R> {
        self.note(|work| work.hashes += 1);
        self.maps.endpoint(ifindex, read)
    }

    fn ipcache(&self, addr: Addr) -> Option<IpcacheValue> {
        self.note(|work| work.tries += 1);
        self.maps.ipcache(addr)
    }

    fn policy(&self, key: &PolicyKey) -> Option<PolicyValue> {
        self.note(|work| work.hashes += 1);
        self.maps.policy(key)
    }

    fn port_rule(&self, key: &PortSetKey) -> Option<PortRule> {
        self.note(|work| work.tries += 1);
        self.maps.port_rule(key)
    }

    fn connection<R>(&mut self, key: &CtKey, visit: impl FnOnce(&mut CtEntry) -> R) -> Option<R> {
        self.note(|work| work.hashes += 1);
        self.maps.connection(key, visit)
    }

    fn connection_at<R>(&mut self, key: &CtKey, visit: impl FnOnce(&mut CtEntry, &Endpoint) -> R) -> Option<R> {
        let found = self.maps.conntrack.contains_key(key);
        self.note(|work| work.hashes += 1 + u32::from(found));
        self.maps.connection_at(key, visit)
    }

    fn insert_connection(&mut self, key: &CtKey, fill: impl FnOnce(&mut CtEntry)) -> bool {
        self.note(|work| work.inserts += 1);
        self.maps.insert_connection(key, fill)
    }

    fn fragment(&self, key: &FragmentKey) -> Option<FragmentPorts> {
        self.note(|work| work.hashes += 1);
        self.maps.fragment(key)
    }

    fn insert_fragment(&mut self, key: &FragmentKey, ports: &FragmentPorts) -> bool {
        self.note(|work| work.inserts += 1);
        self.maps.insert_fragment(key, ports)
    }

    fn drop_seen<R>(&mut self, key: &DropKey, visit: impl FnOnce(&mut DropSeen) -> R) -> Option<R> {
        self.note(|work| work.hashes += 1);
        self.maps.drop_seen(key, visit)
    }

    fn insert_drop_seen(&mut self, key: &DropKey, seen: &DropSeen) {
        self.note(|work| work.inserts += 1);
        self.maps.insert_drop_seen(key, seen);
    }

    fn response_bucket<R>(&mut self, visit: impl FnOnce(&mut Bucket) -> R) -> Option<R> {
        self.maps.response_bucket(visit)
    }

    fn emit(&mut self, kind: EventKind, fill: impl FnOnce(&mut Event)) {
        self.note(|work| work.events += 1);
        self.maps.emit(kind, fill);
    }

    fn count(&mut self, hook: Hook, reason: Option<DropReason>, bytes: u32) {
        self.maps.count(hook, reason, bytes);
    }
}

fn work(maps: &mut MemoryMaps, hook: Hook, ifindex: u32, frame: &[u8]) -> (Verdict, Work) {
    let frame = Bytes::new(ifindex, frame);
    let mut counting = Counting { maps, work: Cell::default() };
    let mut scratch = Scratch::default();
    let verdict = match hook {
        Hook::FromPod => hooks::from_pod(&frame, &mut counting, &mut scratch),
        Hook::ToPod => hooks::to_pod(&frame, &mut counting, &mut scratch),
        Hook::FromUplink => hooks::from_uplink(&frame, &mut counting, &mut scratch),
        Hook::ToUplink => hooks::to_uplink(&frame, &mut counting, &mut scratch),
    };
    (verdict, counting.work.get())
}

#[test]
fn a_packet_asks_the_maps_so_often_whatever_they_hold() {
    let new = Work { hashes: 3, tries: 2, inserts: 1, clocks: 1, ticks: 1, events: 1 };
    let known = Work { hashes: 2, ticks: 1, ..Work::default() };
    let arriving = Wire::new([2, 0, 0, 0, 0, 2], NODE_MAC, rx().src, rx().dst);
    for entries in [0, 16_000] {
        let mut maps = maps(&open());
        let some = *maps.policy.values().next().expect("some policy");
        for peer in 0..entries {
            maps.policy.insert(PolicyKey::new(SUBJECT, crate::abi::Direction::Egress, 100_000 + peer), some);
        }
        for (hook, frame, expected) in [
            // Every peer is allowed alike: the entry of its own is asked for first.
            (Hook::FromPod, tx().tcp(4000, 80, SYN), Work { hashes: new.hashes + 1, ..new }),
            (Hook::ToPod, rx().tcp(80, 4000, SYN | ACK), known),
            (Hook::FromPod, tx().tcp(4000, 80, ACK), known),
            (Hook::ToPod, rx().tcp(80, 4000, ACK), known),
            (Hook::FromUplink, arriving.tcp(80, 4000, ACK), known),
            (Hook::FromUplink, arriving.tcp(80, 4001, ACK), Work { hashes: 1, tries: 1, ticks: 1, ..Work::default() }),
        ] {
            let (verdict, work) = work(&mut maps, hook, IFINDEX, &frame);
            assert!(!matches!(verdict, Verdict::Drop(_)), "{hook:?}: {verdict:?}");
            assert_eq!(work, expected, "{hook:?} with {entries} entries: {verdict:?}");
        }
    }
}

/// Both ends of a connection on one node in one run: as often as the two hooks of the long way together, but for the clock.
#[test]
fn the_shortcut_asks_no_more_than_the_long_way() {
    const SERVER_AT: u32 = IFINDEX + 1;
    let server: IpAddr = [10, 0, 1, 6].into();
    let mut maps = maps(&open());
    let endpoint = Endpoint { id: 9, mac: [2, 0, 0, 0, 0, 6], addr_count: 1, ..maps.endpoints[&IFINDEX] };
    maps.endpoints.insert(SERVER_AT, Endpoint { addrs: [server.into(); 4], ..endpoint });
    let local = IpcacheValue { identity: SUBJECT, flags: ipcache_flags::LOCAL_ENDPOINT, ..IpcacheValue::default() };
    maps.ipcache.insert(IpcacheKey::exact(server.into()), local);
    let there = Wire::new(POD_MAC, NODE_MAC, tx().src, server);
    let back = Wire::new(endpoint.mac, NODE_MAC, server, tx().src);
    for (hook, ifindex, frame) in [
        (Hook::FromPod, IFINDEX, there.tcp(4000, 80, SYN)),
        (Hook::ToPod, SERVER_AT, there.tcp(4000, 80, SYN)),
        (Hook::FromPod, SERVER_AT, back.tcp(80, 4000, SYN | ACK)),
    ] {
        assert!(!matches!(work(&mut maps, hook, ifindex, &frame).0, Verdict::Drop(_)));
    }
    let (verdict, work) = work(&mut maps, Hook::FromPod, IFINDEX, &there.tcp(4000, 80, ACK));
    assert_eq!(verdict, Verdict::Deliver { ifindex: SERVER_AT });
    assert_eq!(work, Work { hashes: 4, ticks: 2, ..Work::default() });
}

#[test]
fn where_no_host_policy_is_what_leaves_the_node_asks_nothing() {
    let (verdict, asked) = work(&mut maps(&open()), Hook::ToUplink, IFINDEX, &tx().tcp(4000, 80, SYN));
    assert_eq!((verdict, asked), (Verdict::Pass, Work::default()));
}
