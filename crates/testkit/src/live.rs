//! Cases for a running lab: the pods stay, so that one lab can be given one case after the other; labels, port names, services and policies
//! of all kinds change.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use strait_api::{Namespace, Object, Objects, Pod};
use strait_base::{Labels, Protocol};

use crate::{
    Connection, End, Traffic,
    draw::Draw,
    generate::{self, Universe},
    minimize::minimize,
    probes, reference, render,
};

/// A pod that every live case has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LivePod {
    /// Its namespace.
    pub namespace: &'static str,
    /// Its name.
    pub name: &'static str,
    /// The node it runs on.
    pub node: &'static str,
    /// The ports it serves.
    pub ports: [(Protocol, u16); 3],
}

const fn pod(namespace: &'static str, name: &'static str, node: &'static str, ports: [(Protocol, u16); 3]) -> LivePod {
    LivePod { namespace, name, node, ports }
}

/// The pods that every live case has.
pub const PODS: [LivePod; 8] = [
    pod("alpha", "one", "node-1", [(Protocol::Tcp, 80), (Protocol::Tcp, 8080), (Protocol::Udp, 53)]),
    pod("alpha", "two", "node-1", [(Protocol::Tcp, 81), (Protocol::Tcp, 8080), (Protocol::Udp, 9090)]),
    pod("alpha", "three", "node-2", [(Protocol::Tcp, 80), (Protocol::Tcp, 8081), (Protocol::Udp, 53)]),
    pod("alpha", "four", "node-2", [(Protocol::Tcp, 443), (Protocol::Tcp, 9090), (Protocol::Udp, 53)]),
    pod("beta", "five", "node-1", [(Protocol::Tcp, 80), (Protocol::Tcp, 8080), (Protocol::Udp, 9090)]),
    pod("beta", "six", "node-2", [(Protocol::Tcp, 81), (Protocol::Tcp, 8080), (Protocol::Udp, 53)]),
    pod("gamma", "seven", "node-1", [(Protocol::Tcp, 80), (Protocol::Tcp, 8080), (Protocol::Udp, 8081)]),
    pod("gamma", "eight", "node-2", [(Protocol::Tcp, 80), (Protocol::Tcp, 9090), (Protocol::Udp, 53)]),
];

/// The nodes, which a lab makes.
const NODES: [&str; 2] = ["node-1", "node-2"];

/// A case for a running lab.
#[derive(Clone, PartialEq, Debug)]
pub struct LiveCase {
    /// What it was drawn from.
    pub seed: u64,
    /// As a user would write it: without nodes and addresses.
    pub given: Objects,
    /// As `strait_cluster::expand` completes it, and so the lab.
    pub expanded: Objects,
}

/// One connection to try, and what should come of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LiveProbe {
    /// Who tries: a pod, a node, or an address outside.
    pub from: End,
    /// The address it connects to.
    pub to: IpAddr,
    /// What it sends.
    pub traffic: Traffic,
    /// Whether the destination itself is reached: it answers or refuses.
    pub expected: bool,
}

/// The case of `seed`. The address that each pod gets is the same for every seed.
pub fn live_case(seed: u64) -> LiveCase {
    let mut draw = Draw::new(seed ^ 0x6c69_7665);
    let mut given = Objects::default();
    for name in ["alpha", "beta"] {
        given.replace(Object::Namespace(Namespace { meta: generate::namespace_meta(&mut draw, name) }.into()));
    }
    let mut labels: Option<Labels> = None;
    for LivePod { namespace, name, node, ports } in PODS {
        let mut pod = generate::pod_with_ports(&mut draw, namespace, name, node, &ports);
        // Replicas: what selectors see is the same, names and numbers of ports are not.
        match &labels {
            Some(of_last) if draw.chance(35) => pod.meta.labels.clone_from(of_last),
            _ => labels = Some(pod.meta.labels.clone()),
        }
        given.replace(Object::Pod(pod.into()));
    }
    for name in NODES {
        given.replace(Object::Node(generate::labelled_node(&mut draw, name).into()));
    }
    let pods = expand(&given);
    generate::services(&mut draw, &pods, &mut given);
    generate::mixed_policies(&mut draw, &Universe::of(&pods), &mut given);
    LiveCase::new(seed, given)
}

fn expand(given: &Objects) -> Objects {
    strait_cluster::expand(given, &strait_cluster::Options::default(), None).objects
}

impl LiveCase {
    fn new(seed: u64, given: Objects) -> Self {
        Self { seed, expanded: expand(&given), given }
    }

    /// The smallest case with the same pods for which `fails` still holds; in words, see [`fn@minimize`].
    #[must_use]
    pub fn minimized(&self, mut fails: impl FnMut(&Self) -> bool) -> Self {
        let pods = |objects: &Objects| objects.pods().count();
        let small = minimize(&self.given, |given| {
            pods(given) == pods(&self.given) && fails(&Self::new(self.seed, given.clone()))
        });
        Self::new(self.seed, small)
    }

    /// `probe` with what this case expects of it; `None` where an end is not there.
    pub fn expected(&self, probe: &LiveProbe) -> Option<LiveProbe> {
        let connection = Connection {
            from: probe.from.clone(),
            to: End::Address(probe.to),
            traffic: probe.traffic,
            v6: probe.to.is_ipv6(),
        };
        let expected = reference::judge(&self.expanded, &connection)?.allowed();
        Some(LiveProbe { expected, ..probe.clone() })
    }

    /// The manifests: file name, content. The names are the same for every seed, so that writing them replaces the last case.
    pub fn files(&self) -> [(&'static str, String); 2] {
        let mut style = Draw::new(self.seed ^ 0x7961_6d6c);
        let (policies, rest): (Vec<Object>, Vec<Object>) =
            self.given.iter().cloned().partition(|object| object.kind().is_policy());
        [
            ("cluster.yaml", render::manifests(&rest.into_iter().collect(), &mut style)),
            ("policies.yaml", render::manifests(&policies.into_iter().collect(), &mut style)),
        ]
    }

    /// What to try, by who tries it: between all pods, between pods and `outside` (addresses that the lab serves there, and connects from) and
    /// nodes; TCP, UDP, SCTP and ICMP. At most `most` in all, a fair draw of the seed.
    pub fn probes(&self, outside: &[IpAddr], most: usize) -> BTreeMap<End, Vec<LiveProbe>> {
        let addresses = |pod: &Pod| pod.pod_ips.clone();
        let name = |pod: &Pod| End::Pod(Arc::clone(&pod.meta.namespace), Arc::clone(&pod.meta.name));
        let mut pairs: Vec<(End, IpAddr)> = Vec::new();
        for from in self.expanded.pods() {
            let pods = self.expanded.pods().filter(|to| !Arc::ptr_eq(to, from)).flat_map(|to| addresses(to));
            let nodes = self.expanded.nodes().flat_map(|node| node.addresses.clone());
            pairs.extend(pods.chain(nodes).chain(outside.iter().copied()).map(|to| (name(from), to)));
            for node in self.expanded.nodes() {
                pairs.extend(addresses(from).into_iter().map(|to| (End::Node(Arc::clone(&node.meta.name)), to)));
            }
            for client in outside {
                let same_family = addresses(from).into_iter().filter(|to| to.is_ipv4() == client.is_ipv4());
                pairs.extend(same_family.map(|to| (End::Address(*client), to)));
            }
        }
        let traffic = probes::traffic(&self.expanded);
        let mut all: Vec<(&(End, IpAddr), Traffic)> =
            pairs.iter().flat_map(|pair| traffic.iter().map(move |traffic| (pair, *traffic))).collect();
        Draw::new(self.seed).shuffle(&mut all);
        all.truncate(most);
        let mut out: BTreeMap<End, Vec<LiveProbe>> = BTreeMap::new();
        for ((from, to), traffic) in all {
            let probe = LiveProbe { from: from.clone(), to: *to, traffic, expected: false };
            if let Some(probe) = self.expected(&probe) {
                out.entry(from.clone()).or_default().push(probe);
            }
        }
        for probes in out.values_mut() {
            probes.sort();
        }
        out
    }
}
