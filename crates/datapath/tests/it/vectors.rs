//! The packet engine in the kernel: the vectors of `strait-packet`, frame by frame, must end as they do on the host.

use std::collections::BTreeMap;

use strait_datapath::{
    Datapath, Kernel, Options,
    netlink::{Mac, Netlink, Veth, VethEnd},
    table::{Conntrack, DropsSeen, Endpoints, Fragments, Ipcache, Policy, PortSets, Table},
};
use strait_packet::{
    abi::{Config, Hook, MetricKey, action},
    hooks::Verdict,
    host::{
        MemoryMaps,
        vectors::{self, Content, Step},
    },
};

use crate::{
    bed::{Bed, clear},
    kernel,
};

/// Shorter frames cannot be given to `BPF_PROG_TEST_RUN`; the host runs them.
const ETHERNET: usize = 14;

fn replace<T: Table>(kernel: &mut impl Kernel, wanted: impl IntoIterator<Item = (T::Key, T::Value)>) {
    clear::<T>(kernel);
    for (key, value) in wanted {
        kernel.upsert::<T>(&key, &value).unwrap();
    }
}

fn load(kernel: &mut impl Kernel, content: &Content, ifindex: u32) {
    replace::<Endpoints>(kernel, [(ifindex, content.endpoint)]);
    replace::<Ipcache>(kernel, content.ipcache.iter().copied());
    replace::<Policy>(kernel, content.policy.iter().copied());
    replace::<PortSets>(kernel, content.port_sets.iter().copied());
    kernel.set_config(&content.config()).unwrap();
}

fn counts(kernel: &impl Kernel) -> BTreeMap<u32, u64> {
    kernel.metrics().unwrap().into_iter().map(|(key, metric)| (key.index(), metric.packets)).collect()
}

#[test]
fn the_kernel_judges_every_vector_as_the_host_does() {
    if !kernel("the_kernel_judges_every_vector_as_the_host_does") {
        return;
    }
    let bed = Bed::new("vectors");
    let (mut frames, mut too_short, mut wrong) = (0, 0, Vec::new());
    bed.at_router(|| {
        let mut netlink = Netlink::current().unwrap();
        let end = |name, mac| VethEnd { name, mac, netns: None };
        netlink
            .create_veth(&Veth { ends: [end("vectors", Some(Mac(vectors::NODE_MAC))), end("beyond", None)], mtu: None })
            .unwrap();
        let ifindex = netlink.index("vectors").unwrap();
        let mut datapath = Datapath::open(&Options::new(&bed.instance)).unwrap();
        let bpf = datapath.kernel_mut();
        for vector in vectors::all() {
            replace::<Conntrack>(bpf, []);
            replace::<Fragments>(bpf, []);
            replace::<DropsSeen>(bpf, []);
            let mut host = MemoryMaps { now_ns: strait_datapath::monotonic_ns(), ..MemoryMaps::default() };
            for (number, step) in vector.steps.iter().enumerate() {
                match step {
                    Step::Load(content) => {
                        load(bpf, content, ifindex);
                        host.load(content, ifindex);
                    }
                    Step::Send { frame, .. } if frame.len() < ETHERNET => too_short += 1,
                    Step::Send { hook, frame, expect } => {
                        frames += 1;
                        let judged = host.run(*hook, ifindex, frame);
                        let before = counts(bpf);
                        let (action, _) = bpf.test_run(*hook, frame, ifindex, 1).unwrap();
                        let after = counts(bpf);
                        let counted: Vec<u32> = after
                            .iter()
                            .filter(|(key, count)| before.get(key) != Some(count))
                            .map(|(key, _)| *key)
                            .collect();
                        let expect = expect.at(ifindex);
                        let keys = match expect {
                            Verdict::Pass => vec![MetricKey::forwarded(*hook)],
                            Verdict::Deliver { .. } => {
                                vec![MetricKey::forwarded(Hook::ToPod), MetricKey::forwarded(*hook)]
                            }
                            Verdict::Drop(reason) => vec![MetricKey::dropped(*hook, reason)],
                        };
                        let keys: Vec<u32> = keys.into_iter().map(MetricKey::index).collect();
                        if judged != expect || action != expect.action() || counted != keys {
                            wrong.push(format!(
                                "{} step {number}: expected {expect:?}, host {judged:?}, kernel {action}, counted {:?}",
                                vector.name,
                                counted.iter().map(|index| MetricKey::from_index(*index)).collect::<Vec<_>>(),
                            ));
                        }
                    }
                }
            }
            // What is remembered decides the next packet, so it must agree too.
            let remembered = |entries: BTreeMap<_, _>| -> Vec<_> { entries.into_keys().collect() };
            let kernel_keys = remembered(bpf.entries::<Conntrack>().unwrap());
            if kernel_keys != host.conntrack.keys().copied().collect::<Vec<_>>() {
                wrong.push(format!("{}: connections {kernel_keys:?} are not those of the host", vector.name));
            }
        }
    });
    assert!(wrong.is_empty(), "{} of {frames} frames:\n{}", wrong.len(), wrong.join("\n"));
    assert!(frames > 100, "{frames} frames, {too_short} too short for the kernel's test run");
}

#[test]
fn the_kernel_answers_denials_as_the_host_does() {
    if !kernel("the_kernel_answers_denials_as_the_host_does") {
        return;
    }
    let bed = Bed::new("denials");
    let ifindex = bed.bed.pods[0].interface.index;
    let (mut answers, mut wrong) = (0, Vec::new());
    bed.at_router(|| {
        let mut datapath = Datapath::open(&Options::new(&bed.instance)).unwrap();
        let bpf = datapath.kernel_mut();
        for denial in vectors::denials().into_iter().filter(|denial| denial.frame.len() >= ETHERNET) {
            replace::<Conntrack>(bpf, []);
            load(bpf, &denial.content, ifindex);
            let config = Config { deny_response: denial.mode as u32, ..Config::default() };
            bpf.set_config(&config).unwrap();
            let mut host = MemoryMaps { now_ns: strait_datapath::monotonic_ns(), ..MemoryMaps::default() };
            host.load(&denial.content, ifindex);
            host.config = Some(config);
            let judged = host.run(denial.hook, ifindex, &denial.frame);
            let mut after = [0; 2048];
            let (did, _, length) = bpf.test_run_into(denial.hook, &denial.frame, ifindex, 1, &mut after).unwrap();
            let expected = if host.response.is_empty() { judged.action() } else { action::REDIRECT };
            if did != expected || (did == action::REDIRECT && after[..length] != host.response) {
                wrong.push(format!(
                    "{}: {did}, expected {expected}: {:02x?}, expected {:02x?}",
                    denial.name,
                    &after[..length],
                    host.response
                ));
            }
            answers += u32::from(did == action::REDIRECT);
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(answers > 40, "{answers}");
}
