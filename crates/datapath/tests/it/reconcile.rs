//! What is written, and in which order.

use strait_datapath::{
    ApplyError, Closed, Datapath, Fake, Kernel, Write,
    table::{Conntrack, Endpoints, Ipcache, Policy, PortSets, Table},
};
use strait_model::{Direction, NodePlan, PodKey};
use strait_packet::{
    abi::{CtEntry, CtKey, DropReason, Hook, Port},
    hooks::Verdict,
    host::{Wire, tcp_flags},
};

use crate::plan;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const HTTP: (Option<u8>, u16, u8) = (Some(6), 80, 16);

/// `web` takes port 80 from `client` alone; `client` is not isolated.
fn shop() -> NodePlan {
    let mut plan = plan::empty();
    plan::pod(&mut plan, "client", 300, &["10.0.0.2", "fd00::2"]);
    plan::pod(&mut plan, "web", 301, &["10.0.0.3", "fd00::3"]);
    plan::port_set(&mut plan, 2, &[HTTP]);
    plan::policy(&mut plan, 301, Direction::Ingress, 0, 0, 7);
    plan::policy(&mut plan, 301, Direction::Ingress, 300, 2, 7);
    plan
}

fn attachments() -> Vec<strait_datapath::Attachment> {
    vec![plan::attachment("client", 12, MAC), plan::attachment("web", 13, MAC)]
}

fn datapath(fake: Fake) -> Datapath<Fake> {
    let mut datapath = Datapath::over(fake).unwrap();
    datapath.kernel_mut().take_writes();
    datapath
}

/// Consecutive equal writes as one.
fn steps(datapath: &mut Datapath<Fake>) -> Vec<Write> {
    let mut writes = datapath.kernel_mut().take_writes();
    writes.dedup();
    writes
}

#[test]
fn writes_what_is_referred_to_first_and_nothing_twice() {
    let mut datapath = datapath(Fake::new());
    let applied = datapath.apply(&shop(), &attachments()).unwrap();
    assert!(applied.closed.is_empty());
    assert_eq!((applied.port_sets.written, applied.policy.written), (2, 5));
    assert_eq!((applied.ipcache.written, applied.endpoints.written), (6, 2));
    let expected = [
        Write::Upsert(PortSets::NAME),
        Write::Upsert(Policy::NAME),
        Write::Upsert(Ipcache::NAME),
        Write::Upsert(Endpoints::NAME),
        Write::Revision(2),
    ];
    assert_eq!(steps(&mut datapath), expected);

    // The same plan again, by this datapath and by one that takes the tables over.
    let applied = datapath.apply(&shop(), &attachments()).unwrap();
    assert_eq!((applied.changed(), applied.revision), (false, 2));
    assert_eq!(steps(&mut datapath), []);
    let mut successor = Datapath::over(datapath.into_kernel()).unwrap();
    let applied = successor.apply(&shop(), &attachments()).unwrap();
    assert_eq!((applied.changed(), applied.revision), (false, 2));
    assert_eq!(steps(&mut successor), []);
}

#[test]
fn a_change_is_a_small_diff_in_the_safe_order() {
    let mut datapath = datapath(Fake::new());
    datapath.apply(&shop(), &attachments()).unwrap();
    steps(&mut datapath);

    let mut changed = plan::empty();
    plan::pod(&mut changed, "client", 300, &["10.0.0.2", "fd00::2"]);
    plan::port_set(&mut changed, 3, &[HTTP, (Some(6), 443, 16)]);
    plan::policy(&mut changed, 300, Direction::Egress, 0, 3, 8);
    let applied = datapath.apply(&changed, &attachments()).unwrap();
    let expected = [
        Write::Upsert(PortSets::NAME),
        Write::Upsert(Policy::NAME),
        Write::Delete(Endpoints::NAME),
        Write::Delete(Ipcache::NAME),
        Write::Delete(Policy::NAME),
        Write::Delete(PortSets::NAME),
        Write::Revision(3),
    ];
    assert_eq!(steps(&mut datapath), expected);
    assert_eq!((applied.policy.written, applied.policy.deleted), (1, 3));
    assert_eq!((applied.ipcache.written, applied.ipcache.deleted), (0, 2));
    assert_eq!(applied.closed.into_iter().collect::<Vec<_>>(), [(PodKey::new("default", "web"), Closed::NotPlanned)]);
}

#[test]
fn an_endpoint_with_more_addresses_than_fit_is_closed_by_name() {
    let mut plan = plan::empty();
    plan::pod(&mut plan, "web", 301, &["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7"]);
    let applied = datapath(Fake::new()).apply(&plan, &[plan::attachment("web", 13, MAC)]).unwrap();
    assert_eq!(applied.endpoints.written, 0);
    assert_eq!(applied.closed[&PodKey::new("default", "web")].to_string(), "it has 5 addresses, at most 4 are allowed");
}

#[test]
fn what_does_not_fit_closes_who_depends_on_it_and_no_one_else() {
    let all = ["default/client", "default/web"];
    for (map, fake, closed, allowed) in [
        // Both look at the port set for all ports.
        (PortSets::NAME, Fake::new().with_capacity::<PortSets>(0), &all[..], 0),
        // The set for all ports is the first; that of `web` the second.
        (PortSets::NAME, Fake::new().with_capacity::<PortSets>(1), &all[1..], 1),
        // Only the verdicts of `web` depend on who asks.
        (Ipcache::NAME, Fake::new().with_capacity::<Ipcache>(3), &all[1..], 3),
        (Policy::NAME, Fake::new().with_capacity::<Policy>(0), &all[..], 0),
        (Endpoints::NAME, Fake::new().with_capacity::<Endpoints>(1), &all[1..], 1),
    ] {
        let mut datapath = datapath(fake);
        let error = datapath.apply(&shop(), &attachments()).unwrap_err();
        let text = error.to_string();
        let ApplyError::Incomplete(incomplete) = error else { panic!("{text}") };
        let pods: Vec<String> = incomplete.applied.closed.keys().map(ToString::to_string).collect();
        assert_eq!(pods, closed, "{map}");
        assert_eq!((incomplete.shortfalls[0].map, incomplete.shortfalls[0].allowed), (map, allowed), "{map}");
        let needed = incomplete.shortfalls[0].needed;
        assert!(text.contains(&format!("map {map}: {needed} entries are needed, {allowed} are allowed")), "{text}");
        for (ifindex, endpoint) in datapath.kernel().entries::<Endpoints>().unwrap() {
            let name = if ifindex == 12 { all[0] } else { all[1] };
            assert_eq!(endpoint.identity == 0, closed.contains(&name), "{map} {name}");
        }
        if map == Policy::NAME {
            // A wider entry never stands alone where a narrower one is missing.
            assert!(datapath.policy().is_empty());
        }

        // Once there is room, the same call opens them.
        let kernel = datapath.kernel_mut();
        kernel.set_capacity::<PortSets>(100);
        kernel.set_capacity::<Ipcache>(100);
        kernel.set_capacity::<Policy>(100);
        kernel.set_capacity::<Endpoints>(100);
        let applied = datapath.apply(&shop(), &attachments()).unwrap();
        assert!(applied.closed.is_empty() && applied.changed(), "{map}");
        let identities: Vec<u32> = datapath.endpoints().values().map(|endpoint| endpoint.identity).collect();
        assert_eq!(identities, [300, 301], "{map}");
        assert!(!datapath.apply(&shop(), &attachments()).unwrap().changed(), "{map}");
    }
}

#[test]
fn stale_entries_make_room_for_new_ones() {
    let mut datapath = datapath(Fake::new().with_capacity::<Ipcache>(6));
    datapath.apply(&shop(), &attachments()).unwrap();
    let mut moved = shop();
    moved.ipcache.retain(|prefix, _| prefix.to_string() != "10.0.0.3/32" && prefix.to_string() != "fd00::3/128");
    plan::pod(&mut moved, "web", 301, &["10.0.0.4", "fd00::4"]);
    plan::policy(&mut moved, 301, Direction::Ingress, 0, 0, 7);
    let applied = datapath.apply(&moved, &attachments()).unwrap();
    assert!(applied.closed.is_empty());
    assert_eq!(datapath.endpoints()[&13].identity, 301);
    assert_eq!(datapath.ipcache().len(), 6);
}

#[test]
fn foreign_writes_are_found_and_put_right() {
    let mut datapath = datapath(Fake::new());
    datapath.apply(&shop(), &attachments()).unwrap();
    assert_eq!(datapath.reread().unwrap(), 0);
    let (key, _) = datapath.kernel().entries::<Policy>().unwrap().pop_first().unwrap();
    assert!(datapath.kernel_mut().delete::<Policy>(&key).unwrap());
    assert_eq!(datapath.reread().unwrap(), 1);
    assert_eq!(datapath.apply(&shop(), &attachments()).unwrap().policy.written, 1);
}

#[test]
fn the_tables_judge_packets_on_the_host() {
    let mut datapath = datapath(Fake::new());
    datapath.apply(&shop(), &attachments()).unwrap();
    for (from, to) in [("10.0.0.2", "10.0.0.3"), ("fd00::2", "fd00::3")] {
        let wire = Wire::new(MAC, MAC, from.parse().unwrap(), to.parse().unwrap());
        for (hook, ifindex, port, expected) in [
            (Hook::FromPod, 12, 80, Verdict::Pass),
            (Hook::ToPod, 13, 80, Verdict::Pass),
            (Hook::FromPod, 12, 81, Verdict::Pass),
            (Hook::ToPod, 13, 81, Verdict::Drop(DropReason::PolicyDenied)),
            (Hook::ToPod, 14, 80, Verdict::Drop(DropReason::UnknownEndpoint)),
        ] {
            let verdict = datapath.kernel().maps().run(hook, ifindex, &wire.tcp(40_000, port, tcp_flags::SYN));
            assert_eq!(verdict, expected, "{from} {hook:?} {port}");
        }
    }
}

#[test]
fn tables_grow_before_anything_is_written_and_no_one_is_closed() {
    let fake = Fake::new().with_room::<PortSets>(1, 100).with_room::<Policy>(4, 100).with_room::<Ipcache>(2, 100);
    let mut datapath = datapath(fake.with_room::<Endpoints>(1, 2));
    let applied = datapath.apply(&shop(), &attachments()).unwrap();
    assert!(applied.closed.is_empty());
    let grown = [Endpoints::NAME, Ipcache::NAME, Policy::NAME, PortSets::NAME].map(Write::Grow);
    assert_eq!(steps(&mut datapath)[..4], grown);
    let kernel = datapath.kernel();
    assert_eq!([kernel.capacity::<Ipcache>(), kernel.capacity::<Policy>()], [8, 8]);
    assert_eq!((kernel.room::<Policy>().growths, kernel.room::<PortSets>().capacity), (1, 2));

    // What is new stands beside what is stale for a moment: room for both, so that nothing goes first.
    let mut moved = shop();
    moved.ipcache.retain(|prefix, _| prefix.prefix_len() < 32);
    plan::pod(&mut moved, "web", 301, &["10.0.0.4", "fd00::4", "10.0.0.5"]);
    plan::policy(&mut moved, 301, Direction::Ingress, 0, 0, 7);
    datapath.apply(&moved, &attachments()).unwrap();
    let steps = steps(&mut datapath);
    assert_eq!(steps[0], Write::Grow(Ipcache::NAME), "{steps:?}");
    assert!(!datapath.apply(&moved, &attachments()).unwrap().changed());
}

#[test]
fn at_the_limit_stale_entries_go_first_and_what_still_does_not_fit_is_closed() {
    let mut datapath = datapath(Fake::new().with_room::<Policy>(2, 4));
    let error = datapath.apply(&shop(), &attachments()).unwrap_err().to_string();
    assert!(error.contains("map POLICY: 5 entries are needed, 4 are allowed"), "{error}");
    assert_eq!(datapath.kernel().room::<Policy>().growths, 1);
    let mut fewer = shop();
    fewer.policy.retain(|key, _| key.subject.0 == 301);
    let applied = datapath.apply(&fewer, &attachments()[1..]).unwrap();
    assert!(applied.closed.is_empty());
}

#[test]
fn connections_that_make_room_for_others_are_counted() {
    let mut datapath = datapath(Fake::new().with_capacity::<Conntrack>(8));
    let key = |number| CtKey { local_port: Port::new(number), ..CtKey::default() };
    let entry = |lifetime_ns| CtEntry { lifetime_ns, ..CtEntry::default() };
    for number in 1..=5 {
        datapath.kernel_mut().upsert::<Conntrack>(&key(number), &entry(100)).unwrap();
    }
    // Far from full, whatever goes was removed by somebody.
    datapath.conntrack_gc(1).unwrap();
    datapath.kernel_mut().delete::<Conntrack>(&key(1)).unwrap();
    for number in 6..=8 {
        datapath.kernel_mut().upsert::<Conntrack>(&key(number), &entry(2)).unwrap();
    }
    datapath.conntrack_gc(2).unwrap();
    assert_eq!(datapath.connections_forgotten(), 0);
    datapath.kernel_mut().delete::<Conntrack>(&key(2)).unwrap();
    datapath.kernel_mut().upsert::<Conntrack>(&key(9), &entry(100)).unwrap();
    assert_eq!(datapath.conntrack_gc(3).unwrap().len(), 3, "those that were silent");
    assert_eq!(datapath.connections_forgotten(), 1);
    datapath.conntrack_gc(3).unwrap();
    assert_eq!(datapath.connections_forgotten(), 1, "the collected are not forgotten");
}
