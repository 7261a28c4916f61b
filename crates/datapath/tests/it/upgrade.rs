//! Versions that follow each other on the same links, upwards and downwards, while packets flow.
//!
//! `version-1.o` is the object of layout version 1 (`llvm-objcopy --strip-debug`, without `.BTF` and `.BTF.ext`); `Other` keeps its
//! tables as the agent of that version did. Neither ever changes.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, LpmTrie, MapData, lpm_trie::Key},
    programs::{LinkOrder, SchedClassifier, TcAttachType, links::FdLink, tc::TcAttachOptions},
};
use strait_datapath::{
    Datapath, Happening, Kernel, PIN_ROOT,
    Step::{Away, Carried, Filled, InPlace, Moved},
    table::Conntrack,
};
use strait_model::{Direction, NodePlan};
use strait_packet::abi::{
    ct_flags,
    layout::{self, Field},
};
use zerocopy::IntoBytes;

use crate::{
    bed::{self, Bed, DEADLINE, SILENCE},
    grow::Load,
    kernel, plan,
};

const VERSION_1: &[u8] = include_bytes!("version-1.o");
const CLIENT: u32 = 300;
const SERVER: u32 = 301;
/// Neither pod may open anything but the client ports 80 and 81 of the server: a connection that is forgotten is over.
const WEB: u32 = 2;

fn strict() -> NodePlan {
    let mut plan = plan::empty();
    plan::pod(&mut plan, "client", CLIENT, &["10.0.0.2", "fd00::2"]);
    plan::pod(&mut plan, "server", SERVER, &["10.0.0.3", "fd00::3"]);
    plan::port_set(&mut plan, WEB, &[(Some(6), 80, 15)]);
    for subject in [CLIENT, SERVER] {
        for direction in [Direction::Ingress, Direction::Egress] {
            plan::policy(&mut plan, subject, direction, 0, 0, 7);
        }
    }
    plan::policy(&mut plan, CLIENT, Direction::Egress, SERVER, WEB, 7);
    plan::policy(&mut plan, SERVER, Direction::Ingress, CLIENT, WEB, 7);
    plan
}

/// Another version at work: tables and links pinned, programs running, nobody there.
struct Other;

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn words<const N: usize>(words: &[u32]) -> [u8; N] {
    words.as_bytes().try_into().unwrap()
}

impl Other {
    /// Starts version 1 with the plan of [`strict`], as revision 5.
    fn start(bed: &Bed) {
        let folder = PathBuf::from(PIN_ROOT).join(&bed.instance);
        for part in ["maps", "links"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        let mut loader = EbpfLoader::new();
        for name in [
            "IPCACHE",
            "ENDPOINTS",
            "POLICY",
            "PORT_SETS",
            "CONNTRACK",
            "FRAGMENTS",
            "DROP_SEEN",
            "CONFIG",
            "METRICS",
            "EVENTS",
            "EVENTS_LOST",
        ] {
            loader.map_pin_path(name, folder.join("maps").join(name));
        }
        let mut object = loader.load(VERSION_1).unwrap();
        Self::fill(&mut object, bed);
        bed.at_router(|| {
            for (program, at) in [("from_pod", TcAttachType::Ingress), ("to_pod", TcAttachType::Egress)] {
                let classifier: &mut SchedClassifier = object.program_mut(program).unwrap().try_into().unwrap();
                classifier.load().unwrap();
                for pod in &bed.bed.pods {
                    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
                    let id = classifier.attach_with_options(&pod.interface.name, at, options).unwrap();
                    let link: FdLink = classifier.take_link(id).unwrap().try_into().unwrap();
                    link.pin(folder.join("links").join(format!("{}_{program}", pod.interface.index))).unwrap();
                }
            }
        });
    }

    /// The tables, byte by byte as in version 1.
    fn fill(object: &mut Ebpf, bed: &Bed) {
        let mut policy: HashMap<_, [u8; 12], [u8; 8]> = object.map_mut("POLICY").unwrap().try_into().unwrap();
        for subject in [CLIENT, SERVER] {
            for direction in [0, 1] {
                policy.insert(words(&[subject, 0, direction]), words(&[0, 7]), 0).unwrap();
            }
        }
        policy.insert(words::<12>(&[CLIENT, SERVER, 1]), words::<8>(&[WEB, 7]), 0).unwrap();
        policy.insert(words::<12>(&[SERVER, CLIENT, 0]), words::<8>(&[WEB, 7]), 0).unwrap();

        let mut sets: LpmTrie<_, [u8; 8], [u8; 12]> = object.map_mut("PORT_SETS").unwrap().try_into().unwrap();
        let set = [WEB.to_ne_bytes(), [6, 0, 80, 0]].concat();
        sets.insert(&Key::new(55, set.try_into().unwrap()), words::<12>(&[1, 0, 102]), 0).unwrap();

        let mut ipcache: LpmTrie<_, [u8; 16], [u8; 24]> = object.map_mut("IPCACHE").unwrap().try_into().unwrap();
        ipcache.insert(&Key::new(0, [0; 16]), words::<24>(&[2, 0, 0, 0, 0, 0]), 0).unwrap();
        for (pod, identity) in bed.bed.pods.iter().zip([CLIENT, SERVER]) {
            for address in [pod.v4, pod.v6] {
                ipcache.insert(&Key::new(128, mapped(address)), words::<24>(&[identity, 1, 0, 0, 0, 0]), 0).unwrap();
            }
        }

        let mut endpoints: HashMap<_, u32, [u8; 80]> = object.map_mut("ENDPOINTS").unwrap().try_into().unwrap();
        for (pod, identity) in bed.bed.pods.iter().zip([CLIENT, SERVER]) {
            let index = pod.interface.index;
            let mut endpoint = [index.to_ne_bytes(), identity.to_ne_bytes()].concat();
            endpoint.extend(pod.mac);
            endpoint.extend([2, 0]);
            endpoint.extend(mapped(pod.v4));
            endpoint.extend(mapped(pod.v6));
            endpoint.resize(80, 0);
            endpoints.insert(index, <[u8; 80]>::try_from(endpoint).unwrap(), 0).unwrap();
        }

        let second = 1_000_000_000;
        let mut config: Array<_, [u8; 64]> = object.map_mut("CONFIG").unwrap().try_into().unwrap();
        let times: [u64; 7] =
            [30 * second, 5 * second, 60 * second, 8_000 * second, 10 * second, 30 * second, 60 * second];
        let value = [words::<8>(&[1, 5]).as_slice(), times.as_bytes()].concat();
        config.set(0, <[u8; 64]>::try_from(value).unwrap(), 0).unwrap();
    }

    /// Makes the same programs and tables those of a version to come, which tells what lies where: with a field that nobody here
    /// knows, and without one that everybody does.
    fn pretend_to_be_newer(bed: &Bed) {
        let maps = PathBuf::from(PIN_ROOT).join(&bed.instance).join("maps");
        let known =
            layout::version_1().filter(|field| (field.table, field.part, field.number) != (1, layout::VALUE, 1));
        let unknown = Field { table: 1, part: layout::VALUE, number: 999, offset: 91, width: 4 };
        let fields: Vec<Field> = known.chain([unknown]).collect();
        let mut array: Array<MapData, [u8; 8]> = Array::create(fields.len().try_into().unwrap(), 0).unwrap();
        for (index, field) in (0..).zip(fields) {
            array.set(index, <[u8; 8]>::try_from(field.as_bytes()).unwrap(), 0).unwrap();
        }
        array.pin(maps.join(layout::LAYOUT)).unwrap();
    }
}

fn folders(bed: &Bed) -> Vec<String> {
    let folder = PathBuf::from(PIN_ROOT).join(&bed.instance);
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// When each connection was first seen, and how many were joined in the middle.
fn connections(datapath: &Datapath<strait_datapath::Bpf>) -> (Vec<u64>, usize) {
    let entries = datapath.kernel().entries::<Conntrack>().unwrap();
    let joined = entries.values().filter(|entry| entry.flags & ct_flags::PICKED_UP != 0).count();
    (entries.into_values().map(|entry| entry.created_ns).collect(), joined)
}

#[test]
fn an_upgrade_to_another_layout_under_load_loses_no_connection_and_no_event() {
    if !kernel("an_upgrade_to_another_layout_under_load_loses_no_connection_and_no_event") {
        return;
    }
    let bed = Bed::new("upgrade");
    Other::start(&bed);
    let [transfer, connects, other] = [80, 81, 82].map(|port| SocketAddr::new(bed.addresses()[0], port));
    let _refused = bed::listen(bed.server(), other);
    bed::connect(bed.client(), other, SILENCE).unwrap_err();
    let started = strait_datapath::monotonic_ns();
    let mut opened = 0;
    let flowed = Load::during(&bed, transfer, connects, |load| {
        load.wait_for(50);
        let mut datapath = bed.open();
        let mut events = datapath.events().unwrap();
        // What the other version's programs told is read, and so is what they still tell.
        bed::wait_for(&mut events, |event| event.local == other || event.remote == other);
        bed::wait_for(&mut events, |event| event.ends().1 == connects && event.happening == Happening::Opened);
        load.wait_for(50);
        datapath.apply(&strict(), &bed.attachments()).unwrap();
        load.wait_for(50);
        assert_eq!(folders(&bed), ["links", "maps"]);
        bed::connect(bed.client(), other, SILENCE).unwrap_err();
        let (created, _) = connections(&datapath);
        assert!(created.iter().min().is_some_and(|oldest| *oldest > started), "the transfer was opened by version 1");
        bed::wait_for(&mut events, |event| event.ends().1 == connects && event.happening == Happening::Opened);
        opened += 1;

        // And again, to the same layout.
        drop(datapath);
        let mut successor = bed.open();
        assert!(!successor.apply(&strict(), &bed.attachments()).unwrap().changed());
        load.wait_for(50);
    });
    assert_eq!(opened, 1);
    println!("{flowed:?} over an upgrade from version 1");
}

#[test]
fn connections_go_on_whichever_version_follows_and_wherever_it_dies() {
    if !kernel("connections_go_on_whichever_version_follows_and_wherever_it_dies") {
        return;
    }
    for (newer, step) in [
        (false, None),
        (true, None),
        (false, Some(Filled)),
        (false, Some(Moved(1))),
        (true, Some(Moved(3))),
        (false, Some(Carried)),
        (false, Some(Away)),
        (true, Some(InPlace)),
    ] {
        let bed = Bed::new("versions");
        Other::start(&bed);
        if newer {
            Other::pretend_to_be_newer(&bed);
        }
        let [web, other] = [80, 82].map(|port| SocketAddr::new(bed.addresses()[0], port));
        let listener = bed::listen(bed.server(), web);
        let _refused = bed::listen(bed.server(), other);
        let mut pairs = Vec::new();
        let connect = |pairs: &mut Vec<_>| {
            let client = bed::connect(bed.client(), web, DEADLINE).unwrap();
            pairs.push((client, bed::accept(&listener)));
        };
        connect(&mut pairs);
        let mut datapath = bed.open();
        assert_eq!(folders(&bed), ["links", "maps", "maps_next"]);
        connect(&mut pairs);
        talk(&mut pairs);
        if let Some(step) = step {
            datapath.kernel_mut().stop_at(step);
            let error = datapath.apply(&strict(), &bed.attachments()).unwrap_err().to_string();
            assert!(error.contains("stopped at"), "{error}");
            drop(datapath);
            talk(&mut pairs);
            bed::connect(bed.client(), other, SILENCE).unwrap_err();
            if step != Moved(1) && step != Moved(3) {
                connect(&mut pairs);
            }
            datapath = bed.open();
        }
        datapath.apply(&strict(), &bed.attachments()).unwrap();
        connect(&mut pairs);
        talk(&mut pairs);
        bed::connect(bed.client(), other, SILENCE).unwrap_err();
        assert_eq!(folders(&bed), ["links", "maps"], "{newer} {step:?}");
        let (created, joined) = connections(&datapath);
        assert_eq!((created.len(), joined), (2 * pairs.len(), 0), "{newer} {step:?}");
        // The version to come did not tell when its connections began.
        let unknown = created.iter().filter(|created| **created == 0).count();
        assert_eq!(unknown > 0, newer, "{newer} {step:?}: {created:?}");
    }
}

/// Every pair says something both ways.
fn talk(pairs: &mut [(std::net::TcpStream, std::net::TcpStream)]) {
    use std::io::{Read, Write};
    for (client, server) in pairs {
        server.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        client.write_all(b"y").unwrap();
        server.read_exact(&mut [0]).unwrap();
    }
}
