//! What outlives an agent.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use strait_datapath::{Datapath, Happening, Kernel, netlink::Netlink, table::Conntrack};
use strait_packet::abi::Hook;

use crate::{
    bed::{self, Bed, DEADLINE, SILENCE},
    kernel,
    packets::{isolated_server, open},
};

fn exchange(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"x").unwrap();
    to.read_exact(&mut [0]).unwrap();
}

#[test]
fn traffic_and_policy_survive_and_a_successor_takes_over() {
    if !kernel("traffic_and_policy_survive_and_a_successor_takes_over") {
        return;
    }
    let bed = Bed::new("restart");
    let mut datapath = bed.open();
    datapath.apply(&isolated_server(), &bed.attachments()).unwrap();
    let [web, other] = [80, 81].map(|port| SocketAddr::new(bed.addresses()[0], port));
    let listener = bed::listen(bed.server(), web);
    let _other = bed::listen(bed.server(), other);
    let mut client = bed::connect(bed.client(), web, DEADLINE).unwrap();
    let mut server = bed::accept(&listener);
    exchange(&mut client, &mut server);
    let before = datapath.kernel().entries::<Conntrack>().unwrap();
    drop(datapath);

    // Nobody is there: what runs, runs on, and what is closed, is closed.
    exchange(&mut client, &mut server);
    bed::connect(bed.client(), web, DEADLINE).unwrap();
    bed::connect(bed.client(), other, SILENCE).unwrap_err();

    let mut successor = bed.open();
    let mut events = successor.events().unwrap();
    // A pod that has just come up has sent other things that are dropped, such as its IPv6 group membership.
    bed::wait_for(&mut events, |event| matches!(event.happening, Happening::Dropped(_)) && event.local == other);
    exchange(&mut server, &mut client);
    let after = successor.kernel().entries::<Conntrack>().unwrap();
    for (key, entry) in before {
        assert_eq!(after[&key].created_ns, entry.created_ns, "{key:?}");
    }
    let applied = successor.apply(&isolated_server(), &bed.attachments()).unwrap();
    assert!(!applied.changed(), "{applied:?}");
    assert_eq!(applied.revision, 2);
    exchange(&mut client, &mut server);
    bed::connect(bed.client(), other, SILENCE).unwrap_err();
}

#[test]
fn links_of_vanished_interfaces_are_unpinned() {
    if !kernel("links_of_vanished_interfaces_are_unpinned") {
        return;
    }
    let bed = Bed::new("vanish");
    let mut datapath = bed.open();
    datapath.apply(&open(), &bed.attachments()).unwrap();
    assert_eq!(datapath.attached().unwrap().len(), 4);
    drop(datapath);
    let gone = &bed.bed.pods[1].interface;
    Netlink::open(&bed.bed.router).unwrap().delete_link(&gone.name).unwrap();

    let options = strait_datapath::Options::new(&bed.instance);
    let mut successor = bed.at_router(|| Datapath::open(&options).unwrap());
    let kept = bed.bed.pods[0].interface.index;
    assert_eq!(successor.attached().unwrap(), [(kept, Hook::FromPod), (kept, Hook::ToPod)]);
    assert!(successor.detach_pod(kept).unwrap());
    assert!(!successor.detach_pod(kept).unwrap());
    assert_eq!(successor.attached().unwrap(), []);
}

#[test]
fn attaching_again_replaces_and_detaching_opens() {
    if !kernel("attaching_again_replaces_and_detaching_opens") {
        return;
    }
    let bed = Bed::new("again");
    let mut datapath = bed.open();
    datapath.apply(&isolated_server(), &bed.attachments()).unwrap();
    let other = SocketAddr::new(bed.addresses()[0], 81);
    let listener = bed::listen(bed.server(), other);
    for pod in &bed.bed.pods {
        bed.at_router(|| datapath.attach_pod(&pod.interface).unwrap());
    }
    assert_eq!(datapath.attached().unwrap().len(), 4);
    bed::connect(bed.client(), other, SILENCE).unwrap_err();
    for pod in &bed.bed.pods {
        datapath.detach_pod(pod.interface.index).unwrap();
    }
    bed::connect(bed.client(), other, DEADLINE).unwrap();
    bed::accept(&listener);
}

#[test]
fn an_index_that_belongs_to_another_interface_now_is_not_mistaken() {
    if !kernel("an_index_that_belongs_to_another_interface_now_is_not_mistaken") {
        return;
    }
    let old = Bed::new("index");
    let new = Bed { bed: strait_datapath::testbed::Testbed::new(2).unwrap(), instance: old.instance.clone() };
    assert_eq!(old.bed.pods[1].interface, new.bed.pods[1].interface);
    drop(old.open());
    let mut datapath = new.open();
    datapath.apply(&isolated_server(), &new.attachments()).unwrap();
    let other = SocketAddr::new(new.addresses()[0], 81);
    let _listener = bed::listen(new.server(), other);
    bed::connect(new.client(), other, SILENCE).unwrap_err();
}

#[test]
fn maps_of_another_layout_enforce_until_new_ones_are_filled() {
    if !kernel("maps_of_another_layout_enforce_until_new_ones_are_filled") {
        return;
    }
    let bed = Bed::new("layout");
    let mut datapath = bed.open();
    datapath.apply(&open(), &bed.attachments()).unwrap();
    let mut config = *datapath.config();
    config.abi_version += 1;
    datapath.kernel_mut().set_config(&config).unwrap();
    drop(datapath);

    let mut successor = bed.open();
    assert_eq!(successor.endpoints().len(), 0);
    let web = SocketAddr::new(bed.addresses()[0], 80);
    let listener = bed::listen(bed.server(), web);
    // The old programs drop everything under a layout that is not theirs: closed, and still attached.
    bed::connect(bed.client(), web, SILENCE).unwrap_err();
    assert!(successor.apply(&isolated_server(), &bed.attachments()).unwrap().changed());
    bed::connect(bed.client(), web, DEADLINE).unwrap();
    bed::accept(&listener);
    drop(successor);

    let mut third = bed.open();
    assert!(!third.apply(&isolated_server(), &bed.attachments()).unwrap().changed());
    bed::connect(bed.client(), web, DEADLINE).unwrap();
}
