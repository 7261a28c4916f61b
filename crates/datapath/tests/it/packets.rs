//! Real packets through real programs.

use std::{
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
};

use strait_base::IdentityId;
use strait_datapath::{
    Happening, Kernel, Options, monotonic_ns,
    table::{Conntrack, Ipcache, Policy, PortSets, Table},
};
use strait_model::{Direction, NodePlan, OriginId};
use strait_packet::abi::{CloseReason, DropReason, Hook, MetricKey};

use crate::{
    bed::{self, Bed, DEADLINE, SILENCE},
    kernel, plan,
};

const CLIENT: u32 = 300;
const SERVER: u32 = 301;
const WEB: u32 = 2;
const ISOLATED_BY: u32 = 7;

/// The server takes TCP 80 and UDP 53 from the client, nothing else from nobody.
pub(crate) fn isolated_server() -> NodePlan {
    let mut plan = open();
    plan::port_set(&mut plan, WEB, &[(Some(6), 80, 16), (Some(17), 53, 16)]);
    plan::policy(&mut plan, SERVER, Direction::Ingress, 0, 0, ISOLATED_BY);
    plan::policy(&mut plan, SERVER, Direction::Ingress, CLIENT, WEB, ISOLATED_BY);
    plan
}

/// Nobody is isolated.
pub(crate) fn open() -> NodePlan {
    let mut plan = plan::empty();
    plan::pod(&mut plan, "client", CLIENT, &["10.0.0.2", "fd00::2"]);
    plan::pod(&mut plan, "server", SERVER, &["10.0.0.3", "fd00::3"]);
    plan
}

#[test]
fn pods_are_closed_until_a_plan_knows_them() {
    if !kernel("pods_are_closed_until_a_plan_knows_them") {
        return;
    }
    let bed = Bed::new("closed");
    let mut datapath = bed.open();
    let mut events = datapath.events().unwrap();
    let to = SocketAddr::new(bed.addresses()[0], 53);
    let server = bed::udp(bed.server(), to);
    let client = bed::udp(bed.client(), "0.0.0.0:0".parse().unwrap());
    client.send_to(b"a", to).unwrap();
    let event = bed::wait_for(&mut events, |event| event.hook == Hook::FromPod);
    assert_eq!(event.happening, Happening::Dropped(DropReason::UnknownEndpoint));

    datapath.apply(&open(), &bed.attachments()).unwrap();
    client.send_to(b"b", to).unwrap();
    let mut buffer = [0; 4];
    assert_eq!(server.recv(&mut buffer).unwrap(), 1);
    assert_eq!(&buffer[..1], b"b");
}

#[test]
fn policy_decides_and_every_drop_says_why() {
    if !kernel("policy_decides_and_every_drop_says_why") {
        return;
    }
    let bed = Bed::new("policy");
    let mut datapath = bed.open();
    let mut events = datapath.events().unwrap();
    datapath.apply(&isolated_server(), &bed.attachments()).unwrap();

    for address in bed.addresses() {
        let [web, other] = [80, 81].map(|port| SocketAddr::new(address, port));
        let listener = bed::listen(bed.server(), web);
        let _refused = bed::listen(bed.server(), other);
        let mut client = bed::connect(bed.client(), web, DEADLINE).unwrap();
        let mut server = bed::accept(&listener);
        client.write_all(b"ping").unwrap();
        let mut buffer = [0; 4];
        server.read_exact(&mut buffer).unwrap();
        server.write_all(b"pong").unwrap();
        client.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"pong");

        let opened = bed::wait_for(&mut events, |event| {
            event.happening == Happening::Opened && event.local == web && event.direction == Direction::Ingress
        });
        assert_eq!((opened.subject, opened.peer), (IdentityId(SERVER), IdentityId(CLIENT)));
        assert_eq!((opened.origin, opened.protocol), (OriginId(100 + WEB), 6));
        assert_eq!(opened.ends(), (client.local_addr().unwrap(), web));
        assert_eq!(opened.endpoint, bed.bed.pods[1].interface.index);

        let denied = bed::connect(bed.client(), other, SILENCE).unwrap_err();
        assert_eq!(denied.kind(), ErrorKind::TimedOut);
        let dropped = bed::wait_for(&mut events, |event| event.local == other);
        assert_eq!(dropped.happening, Happening::Dropped(DropReason::PolicyDenied));
        assert_eq!((dropped.origin, dropped.hook), (OriginId(ISOLATED_BY), Hook::ToPod));
        assert_eq!((dropped.subject, dropped.peer), (IdentityId(SERVER), IdentityId(CLIENT)));

        drop((client, server));
        let closed =
            bed::wait_for(&mut events, |event| matches!(event.happening, Happening::Closed(_)) && event.local == web);
        assert_eq!(closed.happening, Happening::Closed(CloseReason::Fin));
        assert!(closed.tx.packets >= 3 && closed.rx.packets >= 3 && closed.tx.bytes > 4 * 54, "{closed:?}");
    }

    let metrics = datapath.kernel().metrics().unwrap();
    let of = |key| metrics.iter().find(|(found, _)| *found == key).map_or(0, |(_, metric)| metric.packets);
    assert!(of(MetricKey::forwarded(Hook::ToPod)) > 8);
    assert!(of(MetricKey::dropped(Hook::ToPod, DropReason::PolicyDenied)) >= 2);
    assert!(datapath.kernel().events_lost().unwrap().iter().all(|(_, lost)| *lost == 0));
}

#[test]
fn a_policy_change_judges_established_connections_again() {
    if !kernel("a_policy_change_judges_established_connections_again") {
        return;
    }
    let bed = Bed::new("change");
    let mut datapath = bed.open();
    let mut events = datapath.events().unwrap();
    datapath.apply(&open(), &bed.attachments()).unwrap();
    let [kept, cut] = [80, 8080].map(|port| SocketAddr::new(bed.addresses()[0], port));
    let streams = [kept, cut].map(|at| {
        let listener = bed::listen(bed.server(), at);
        let client = bed::connect(bed.client(), at, DEADLINE).unwrap();
        (client, bed::accept(&listener))
    });
    datapath.apply(&isolated_server(), &bed.attachments()).unwrap();
    for (client, _) in &streams {
        (&mut &*client).write_all(b"x").unwrap();
    }
    (&mut &streams[0].1).read_exact(&mut [0]).unwrap();
    let closed = bed::wait_for(&mut events, |event| matches!(event.happening, Happening::Closed(_)));
    assert_eq!((closed.happening, closed.local), (Happening::Closed(CloseReason::Denied), cut));
    assert_eq!(closed.origin, OriginId(100 + plan::ALLOW_ALL), "the rule that had let it through");
    let dropped = bed::wait_for(&mut events, |event| event.local == cut);
    assert_eq!(dropped.happening, Happening::Dropped(DropReason::PolicyDenied));
    assert_eq!(dropped.origin, OriginId(ISOLATED_BY), "the policy that stopped it");
}

#[test]
fn silent_connections_are_collected_and_reported_once() {
    if !kernel("silent_connections_are_collected_and_reported_once") {
        return;
    }
    let bed = Bed::new("collect");
    let mut datapath = bed.open();
    datapath.apply(&isolated_server(), &bed.attachments()).unwrap();
    let to = SocketAddr::new(bed.addresses()[0], 53);
    let server = bed::udp(bed.server(), to);
    let client = bed::udp(bed.client(), "0.0.0.0:0".parse().unwrap());
    for _ in 0..3 {
        client.send_to(b"question", to).unwrap();
        let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
        server.send_to(b"answer", from).unwrap();
        client.recv(&mut [0; 16]).unwrap();
    }
    let now = monotonic_ns();
    assert!(datapath.conntrack_gc(now).unwrap().is_empty());
    assert_eq!(datapath.kernel().entries::<Conntrack>().unwrap().len(), 2);

    let later = now + 2 * datapath.config().timeouts.datagram;
    let closed = datapath.conntrack_gc(later).unwrap();
    assert_eq!(closed.len(), 2);
    for event in &closed {
        assert_eq!(event.happening, Happening::Closed(CloseReason::Timeout));
        assert_eq!((event.tx.packets, event.rx.packets), (3, 3), "{event:?}");
        assert_eq!(event.ends().1, to);
    }
    assert!(datapath.conntrack_gc(later).unwrap().is_empty());
}

#[test]
fn a_full_map_closes_who_needs_it_and_says_how_much_is_missing() {
    if !kernel("a_full_map_closes_who_needs_it_and_says_how_much_is_missing") {
        return;
    }
    for (map, room, closed) in [
        (Policy::NAME, 2, "default/client, default/server"),
        (PortSets::NAME, 1, "default/server"),
        (Ipcache::NAME, 4, "default/server"),
    ] {
        let bed = Bed::new("full");
        let mut options = Options::new(&bed.instance);
        options.capacities.insert(map, room);
        options.limits.insert(map, room);
        let mut datapath = bed.open_with(&options);
        let error = datapath.apply(&isolated_server(), &bed.attachments()).unwrap_err().to_string();
        assert!(error.contains(&format!("map {map}: ")) && error.contains(&format!("{room} are allowed")), "{error}");
        assert!(error.ends_with(&format!("closed until it is: {closed}")), "{error}");
        assert_eq!(datapath.endpoints()[&bed.bed.pods[1].interface.index].identity, 0, "{map}");

        let mut events = datapath.events().unwrap();
        let web = SocketAddr::new(bed.addresses()[0], 80);
        bed::connect(bed.client(), web, SILENCE).unwrap_err();
        bed::wait_for(&mut events, |event| event.happening == Happening::Dropped(DropReason::NoPolicy));
    }
}

#[test]
fn repeated_drops_are_summed_up() {
    if !kernel("repeated_drops_are_summed_up") {
        return;
    }
    let bed = Bed::new("drops");
    let mut datapath = bed.open();
    let mut events = datapath.events().unwrap();
    datapath.apply(&isolated_server(), &bed.attachments()).unwrap();
    let to = SocketAddr::new(bed.addresses()[0], 5353);
    let client = bed::udp(bed.client(), "0.0.0.0:0".parse().unwrap());
    for _ in 0..10 {
        client.send_to(b"x", to).unwrap();
    }
    let first = bed::wait_for(&mut events, |event| event.local == to);
    assert_eq!((first.happening, first.rx.packets), (Happening::Dropped(DropReason::PolicyDenied), 1));
    assert!(datapath.drop_gc(monotonic_ns()).unwrap().is_empty());
    let later = monotonic_ns() + 2 * datapath.config().drop_interval_ns;
    let rest = datapath.drop_gc(later).unwrap();
    let [rest] = &rest[..] else { panic!("{rest:#?}") };
    assert_eq!((rest.happening, rest.rx.packets, rest.local), (first.happening, 9, to));
    assert_eq!((rest.origin, rest.subject, rest.peer), (first.origin, first.subject, first.peer));
    assert!(datapath.drop_gc(later).unwrap().is_empty());
}
