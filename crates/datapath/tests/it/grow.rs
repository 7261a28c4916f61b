//! Tables that become larger while packets flow, and agents that die while they do.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener},
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use strait_base::IdentityId;
use strait_datapath::{
    EventReader, Happening, Kernel, Options, PIN_ROOT, Step,
    netns::Netns,
    table::{Conntrack, Endpoints, Ipcache, Policy, PortSets, Table},
};
use strait_model::{Direction, IpcacheEntry, IpcacheKind, NodePlan};
use strait_packet::abi::ct_flags;

use Step::{Away, Carried, Filled, InPlace, Made, Moved};

use crate::{
    bed::{self, Bed, DEADLINE, SILENCE},
    kernel,
    packets::isolated_server,
    plan,
};

/// Room for very little.
fn small(bed: &Bed) -> Options {
    let mut options = Options::new(&bed.instance);
    for (name, entries) in [(Policy::NAME, 2), (PortSets::NAME, 1), (Ipcache::NAME, 2), (Endpoints::NAME, 1)] {
        options.capacities.insert(name, entries);
    }
    options
}

/// The plan of an isolated server, and as many peers with port sets of their own as said.
fn with_peers(peers: u8) -> NodePlan {
    let mut plan = isolated_server();
    for peer in 0..peers {
        let identity = 1_000 + u32::from(peer);
        plan.ipcache.insert(
            format!("10.1.0.{peer}/32").parse().unwrap(),
            IpcacheEntry { identity: IdentityId(identity), kind: IpcacheKind::RemotePod, node: None },
        );
        plan::port_set(&mut plan, identity, &[(Some(6), 1 + u16::from(peer), 16)]);
        plan::policy(&mut plan, 301, Direction::Ingress, identity, identity, 7);
    }
    plan
}

fn capacities(kernel: &impl Kernel) -> [u32; 4] {
    [
        kernel.capacity::<Policy>(),
        kernel.capacity::<PortSets>(),
        kernel.capacity::<Ipcache>(),
        kernel.capacity::<Endpoints>(),
    ]
}

/// A transfer and one connection after another, until told to stop.
pub(crate) struct Load {
    stop: AtomicBool,
    connected: AtomicUsize,
}

/// What flowed.
#[derive(Debug)]
pub(crate) struct Flowed {
    pub(crate) bytes: usize,
    pub(crate) connections: usize,
}

impl Load {
    /// Runs `work` under load from the client to these ports of the server; every connect must succeed and every byte arrive.
    pub(crate) fn during(bed: &Bed, transfer: SocketAddr, connects: SocketAddr, work: impl FnOnce(&Self)) -> Flowed {
        let load = Self { stop: AtomicBool::new(false), connected: AtomicUsize::new(0) };
        let listeners = [transfer, connects].map(|at| bed::listen(bed.server(), at));
        let bytes = std::thread::scope(|scope| {
            let sent = scope.spawn(|| load.send(bed.client(), transfer));
            let received = scope.spawn(|| receive(&listeners[0]));
            let accepting = scope.spawn(|| accept_all(&listeners[1]));
            let connecting = scope.spawn(|| load.connect_all(bed.client(), connects));
            work(&load);
            load.stop.store(true, Ordering::Relaxed);
            connecting.join().unwrap();
            // The last one says that there are no more.
            bed::connect(bed.client(), connects, DEADLINE).unwrap().write_all(b".").unwrap();
            let (sent, received) = (sent.join().unwrap(), received.join().unwrap());
            assert_eq!(sent, received);
            assert_eq!(accepting.join().unwrap(), load.connected.load(Ordering::Relaxed));
            sent
        });
        Flowed { bytes, connections: load.connected.into_inner() }
    }

    /// Waits until this many more connections were made.
    pub(crate) fn wait_for(&self, more: usize) {
        let until = self.connected.load(Ordering::Relaxed) + more;
        while self.connected.load(Ordering::Relaxed) < until {
            std::thread::yield_now();
        }
    }

    fn send(&self, client: &Netns, to: SocketAddr) -> usize {
        let mut stream = bed::connect(client, to, DEADLINE).unwrap();
        let mut sent = 0;
        while !self.stop.load(Ordering::Relaxed) {
            stream.write_all(&[7; 16_384]).unwrap();
            sent += 16_384;
        }
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        sent
    }

    fn connect_all(&self, client: &Netns, to: SocketAddr) {
        client
            .run(|| {
                while !self.stop.load(Ordering::Relaxed) {
                    let mut stream = std::net::TcpStream::connect_timeout(&to, DEADLINE).unwrap();
                    stream.write_all(b"x").unwrap();
                    // Answered, and closed by the other side: no port of the client is kept.
                    assert_eq!(stream.read(&mut [0; 2]).unwrap(), 1);
                    self.connected.fetch_add(1, Ordering::Relaxed);
                }
            })
            .unwrap();
    }
}

fn receive(listener: &TcpListener) -> usize {
    let mut stream = bed::accept(listener);
    let (mut buffer, mut received) = (vec![0; 65_536], 0);
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => return received,
            bytes => received += bytes,
        }
    }
}

fn accept_all(listener: &TcpListener) -> usize {
    for count in 0.. {
        let mut stream = bed::accept(listener);
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        if byte == *b"." {
            return count;
        }
        stream.write_all(&byte).unwrap();
    }
    0
}

/// Reads events until `done`; how many ends told of a connection to this port.
fn opened_at(events: &mut EventReader, port: SocketAddr, done: &AtomicBool) -> usize {
    let mut opened = 0;
    loop {
        let last = done.load(Ordering::Relaxed);
        while let Some(event) = events.next() {
            opened += usize::from(event.ends().1 == port && event.happening == Happening::Opened);
        }
        if last {
            return opened;
        }
        std::thread::yield_now();
    }
}

#[test]
fn tables_grow_under_load() {
    if !kernel("tables_grow_under_load") {
        return;
    }
    let bed = Bed::new("grow");
    let mut datapath = bed.open_with(&small(&bed));
    let mut events = datapath.events().unwrap();
    datapath.apply(&isolated_server(), &bed.attachments()).unwrap();
    let first = capacities(datapath.kernel());
    let [address, _] = bed.addresses();
    let [transfer, connects, other] = [80, 81, 82].map(|port| SocketAddr::new(address, port));
    let open_too = |peers| {
        let mut plan = with_peers(peers);
        plan::port_set(&mut plan, 2, &[(Some(6), 80, 15)]);
        plan
    };
    datapath.apply(&open_too(0), &bed.attachments()).unwrap();
    let _refused = bed::listen(bed.server(), other);

    let done = AtomicBool::new(false);
    let (flowed, opened) = std::thread::scope(|scope| {
        let opened = scope.spawn(|| opened_at(&mut events, connects, &done));
        let flowed = Load::during(&bed, transfer, connects, |load| {
            for peers in [4, 16, 60, 250] {
                datapath.apply(&open_too(peers), &bed.attachments()).unwrap();
                bed::connect(bed.client(), other, SILENCE).unwrap_err();
                load.wait_for(20);
            }
        });
        done.store(true, Ordering::Relaxed);
        (flowed, opened.join().unwrap())
    });
    // Either end tells of each connection, and of the one that told the server that it was the last.
    let told = 2 * (flowed.connections + 1);
    let lost: usize =
        datapath.kernel().events_lost().unwrap().iter().map(|(_, lost)| usize::try_from(*lost).unwrap()).sum();
    assert!(opened <= told && opened + lost >= told, "{opened} of {told}, {lost} lost");
    let now = capacities(datapath.kernel());
    assert_eq!((first[0], first[1], first[2], first[3]), (8, 4, 8, 2));
    assert!(now[..3].iter().zip([256, 256, 256]).all(|(seen, least)| *seen >= least), "{now:?}");
    assert!(datapath.kernel().room::<Policy>().growths >= 4);
    assert!(datapath.kernel().bytes::<Policy>().is_some_and(|bytes| bytes > 256 * 20));
    assert!(flowed.bytes > 1 << 20, "{flowed:?}");
    drop(datapath);

    // The next agent takes over what has grown.
    let mut successor = bed.open_with(&small(&bed));
    assert_eq!(capacities(successor.kernel()), now);
    assert!(!successor.apply(&open_too(250), &bed.attachments()).unwrap().changed());
    println!("{flowed:?} while tables grew from {first:?} to {now:?}");
}

#[test]
fn an_agent_that_dies_at_any_step_of_growing_leaves_everything_in_force() {
    if !kernel("an_agent_that_dies_at_any_step_of_growing_leaves_everything_in_force") {
        return;
    }
    // One link of a pod has moved; both have, and one of the other.
    for step in [Made, Filled, Moved(1), Moved(3), Carried, Away, InPlace] {
        let bed = Bed::new("killed");
        let options = small(&bed);
        let [web, other] = [80, 81].map(|port| SocketAddr::new(bed.addresses()[0], port));
        let listener = bed::listen(bed.server(), web);
        let _other = bed::listen(bed.server(), other);
        let mut datapath = bed.open_with(&options);
        datapath.apply(&isolated_server(), &bed.attachments()).unwrap();
        let mut before = bed::connect(bed.client(), web, DEADLINE).unwrap();
        let mut before = (bed::accept(&listener), {
            before.write_all(b"x").unwrap();
            before
        });
        before.0.read_exact(&mut [0]).unwrap();
        let known = datapath.kernel().entries::<Conntrack>().unwrap();
        drop(datapath);

        let mut dying = bed.open_with(&options);
        dying.kernel_mut().stop_at(step);
        let grown = BTreeMap::from([(Policy::NAME, 64), (Ipcache::NAME, 64), (Conntrack::NAME, 262_144)]);
        let error = dying.kernel_mut().grow(&grown).unwrap_err().to_string();
        assert!(error.contains("stopped at"), "{error}");
        drop(dying);

        // Nobody is there.
        before.1.write_all(b"y").unwrap();
        before.0.read_exact(&mut [0]).unwrap();
        let mut meanwhile = bed::connect(bed.client(), web, DEADLINE).unwrap();
        let mut at_server = bed::accept(&listener);
        meanwhile.write_all(b"x").unwrap();
        at_server.read_exact(&mut [0]).unwrap();
        bed::connect(bed.client(), other, SILENCE).unwrap_err();

        let mut successor = bed.open_with(&options);
        let applied = successor.apply(&isolated_server(), &bed.attachments()).unwrap();
        assert!(!applied.changed(), "{step:?}: {applied:?}");
        for (from, to) in [(&mut before.1, &mut before.0), (&mut meanwhile, &mut at_server)] {
            from.write_all(b"z").unwrap();
            to.read_exact(&mut [0]).unwrap();
            to.write_all(b"z").unwrap();
            from.read_exact(&mut [0]).unwrap();
        }
        bed::connect(bed.client(), other, SILENCE).unwrap_err();
        let after = successor.kernel().entries::<Conntrack>().unwrap();
        for (key, entry) in known {
            assert_eq!(after[&key].created_ns, entry.created_ns, "{step:?} {key:?}");
        }
        let joined = after.values().filter(|entry| entry.flags & ct_flags::PICKED_UP != 0).count();
        assert_eq!(joined, 0, "{step:?}: {after:#?}");
        let mut pinned: Vec<_> = fs::read_dir(Path::new(PIN_ROOT).join(&bed.instance))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        pinned.sort();
        assert_eq!(pinned, ["links", "maps"], "{step:?}");
        // And it grows where the other could not.
        successor.kernel_mut().grow(&grown).unwrap();
        assert_eq!(successor.kernel().capacity::<Policy>(), 64, "{step:?}");
        before.1.write_all(b"z").unwrap();
        before.0.read_exact(&mut [0]).unwrap();
    }
}
