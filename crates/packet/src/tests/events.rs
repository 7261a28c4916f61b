//! Few events, and what they say.

use super::{IFINDEX, SECOND, content, maps, open, rx, tx};
use crate::abi::{CloseReason, Direction, DropReason, Event, EventKind, Hook, MetricKey, event_flags};
use crate::host::tcp_flags::{ACK, FIN, PSH, RST, SYN};
use crate::host::vectors::{OTHER, PEER, POD, SUBJECT};
use crate::host::{MemoryMaps, vectors};

const OUT: Hook = Hook::FromPod;
const IN: Hook = Hook::ToPod;

fn kinds(maps: &MemoryMaps) -> Vec<(EventKind, u8)> {
    let kind = |event: &Event| EventKind::from_number(event.kind).expect("a known kind");
    maps.events.iter().map(|event| (kind(event), event.reason)).collect()
}

fn handshake(maps: &mut MemoryMaps) {
    maps.run(OUT, IFINDEX, &tx().tcp(4000, 80, SYN));
    maps.run(IN, IFINDEX, &rx().tcp(80, 4000, SYN | ACK));
    maps.run(OUT, IFINDEX, &tx().tcp(4000, 80, ACK));
}

#[test]
fn a_connection_is_told_when_it_opens_and_when_it_closes() {
    let mut maps = maps(&open());
    handshake(&mut maps);
    for _ in 0..1000 {
        maps.now_ns += 1_000_000;
        maps.run(OUT, IFINDEX, &tx().tcp(4000, 80, PSH | ACK));
        maps.run(IN, IFINDEX, &rx().tcp(80, 4000, ACK));
    }
    maps.run(OUT, IFINDEX, &tx().tcp(4000, 80, FIN | ACK));
    maps.run(IN, IFINDEX, &rx().tcp(80, 4000, FIN | ACK));
    maps.run(OUT, IFINDEX, &tx().tcp(4000, 80, ACK));
    maps.run(IN, IFINDEX, &rx().tcp(80, 4000, ACK));
    assert_eq!(kinds(&maps), [(EventKind::Opened, 0), (EventKind::Closed, CloseReason::Fin as u8)]);
    let [opened, closed] = maps.events[..] else { panic!("two events") };
    assert_eq!((opened.subject, opened.peer, opened.endpoint), (SUBJECT, PEER, POD));
    assert_eq!((opened.local_port.get(), opened.remote_port.get(), opened.protocol), (4000, 80, 6));
    assert_eq!((opened.direction, opened.hook, opened.tx_packets), (Direction::Egress as u8, OUT as u8, 1));
    assert!(opened.origin != 0);
    assert_eq!((closed.tx_packets, closed.rx_packets), (1004, 1002));
    assert_eq!(closed.tx_bytes, 1004 * 54);
    assert_eq!(closed.tcp_flags, SYN | ACK | PSH | FIN);
    assert_eq!(closed.created_ns, opened.time_ns);
}

#[test]
fn a_long_connection_is_told_of_now_and_then() {
    let mut maps = maps(&open());
    handshake(&mut maps);
    for _ in 0..100 {
        maps.now_ns += SECOND;
        maps.run(OUT, IFINDEX, &tx().tcp(4000, 80, PSH | ACK));
    }
    let expected = [(EventKind::Opened, 0), (EventKind::Active, 0), (EventKind::Active, 0), (EventKind::Active, 0)];
    assert_eq!(kinds(&maps), expected);
    assert_eq!(maps.events[3].tx_packets, 2 + 90);
}

#[test]
fn a_reset_closes_at_once_and_once() {
    let mut maps = maps(&open());
    handshake(&mut maps);
    maps.run(IN, IFINDEX, &rx().tcp(80, 4000, RST));
    maps.run(IN, IFINDEX, &rx().tcp(80, 4000, RST));
    assert_eq!(kinds(&maps), [(EventKind::Opened, 0), (EventKind::Closed, CloseReason::Reset as u8)]);
    assert_eq!(maps.events[1].flags & event_flags::REPLY, event_flags::REPLY);
    // The same ports again are another connection.
    maps.run(OUT, IFINDEX, &tx().tcp(4000, 80, SYN));
    assert_eq!(kinds(&maps)[2], (EventKind::Opened, 0));
}

#[test]
fn ports_used_again_end_the_connection_before() {
    let mut maps = maps(&open());
    handshake(&mut maps);
    maps.run(OUT, IFINDEX, &tx().tcp(4000, 80, FIN | ACK));
    maps.run(OUT, IFINDEX, &tx().tcp(4000, 80, SYN));
    let replaced = (EventKind::Closed, CloseReason::Replaced as u8);
    assert_eq!(kinds(&maps), [(EventKind::Opened, 0), replaced, (EventKind::Opened, 0)]);
    maps.now_ns += 61 * SECOND;
    maps.run(OUT, IFINDEX, &tx().tcp(4000, 80, SYN));
    assert_eq!(kinds(&maps)[3], (EventKind::Closed, CloseReason::Timeout as u8));
}

#[test]
fn a_connection_cut_by_policy_is_told_as_closed_then_as_dropped() {
    let name = "IPv4: an established connection that policy now denies stops, both ways";
    let vector = vectors::all().into_iter().find(|vector| vector.name == name).expect(name);
    let mut maps = MemoryMaps { now_ns: SECOND, ..MemoryMaps::default() };
    for step in &vector.steps {
        match step {
            vectors::Step::Load(content) => maps.load(content, IFINDEX),
            vectors::Step::Send { hook, frame, .. } => {
                maps.run(*hook, IFINDEX, frame);
            }
        }
    }
    let denied = DropReason::PolicyDenied as u8;
    let expected = [
        (EventKind::Opened, 0),
        (EventKind::Closed, CloseReason::Denied as u8),
        (EventKind::Dropped, denied),
        (EventKind::Dropped, denied),
        (EventKind::Opened, 0),
    ];
    // The drop of the reply and the drop of the segment towards the pod are told apart; the SYN joins the latter.
    assert_eq!(kinds(&maps), expected);
    assert!(maps.events[2].origin != 0);
}

#[test]
fn a_flood_of_drops_costs_a_few_events() {
    let mut maps = maps(&content("IPv4: TCP replies pass without a rule, new connections back do not"));
    for port in 0..10_000 {
        maps.now_ns += 1_000_000;
        maps.run(OUT, IFINDEX, &tx().tcp(1024 + port, 443, SYN));
    }
    // Ten seconds: the first at once, then one at five.
    let dropped = (EventKind::Dropped, DropReason::PolicyDenied as u8);
    assert_eq!(kinds(&maps), [dropped; 2]);
    assert_eq!((maps.events[0].tx_packets, maps.events[1].tx_packets), (1, 5000));
    let pending: u64 = maps.drop_seen.values().map(|seen| seen.packets).sum();
    assert_eq!(1 + 5000 + pending, 10_000);
    let key = MetricKey::dropped(OUT, DropReason::PolicyDenied);
    assert_eq!(maps.metrics[&key.index()].packets, 10_000);
}

#[test]
fn made_up_sources_make_no_events() {
    let mut maps = maps(&open());
    for host in 0..=255 {
        maps.run(OUT, IFINDEX, &tx().src([10, 9, 9, host].into()).udp(4000, 53));
    }
    assert_eq!(kinds(&maps), [(EventKind::Dropped, DropReason::InvalidSourceIp as u8)]);
    assert_eq!(maps.drop_seen.len(), 1);
}

#[test]
fn group_membership_is_counted_and_not_told() {
    let mut maps = maps(&open());
    maps.run(OUT, IFINDEX, &tx().dst([224, 0, 0, 22].into()).ip(2, &[0x22, 0, 0, 0, 0, 0, 0, 0]));
    assert!(maps.events.is_empty());
    assert_eq!(maps.metrics[&MetricKey::dropped(OUT, DropReason::GroupMembership).index()].packets, 1);
}

#[test]
fn an_audited_connection_says_so() {
    let mut maps = maps(&content("IPv4: audit passes, a proxy that is not there closes"));
    maps.run(OUT, IFINDEX, &tx().tcp(4000, 82, SYN));
    assert_eq!(maps.events[0].flags & event_flags::AUDIT, event_flags::AUDIT);
}

#[test]
fn a_ping_is_told_by_type_and_identifier() {
    let mut maps = maps(&open());
    maps.run(OUT, IFINDEX, &tx().dst([10, 0, 2, 8].into()).ping(77));
    let event = maps.events[0];
    assert_eq!((event.protocol, event.icmp_type, event.peer), (1, 8, OTHER));
    assert_eq!((event.local_port.get(), event.remote_port.get()), (77, 0));
}
