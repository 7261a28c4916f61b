//! Cases for a running lab: the pods stay, so that one lab can be given one case after the other; labels, port names and policies change.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use strait_api::{Namespace, Object, Objects, Pod};
use strait_base::{Labels, Protocol};

use crate::{
    Connection, End, Traffic,
    draw::Draw,
    generate::{self, Universe},
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
    let expand = |given: &Objects| strait_cluster::expand(given, &strait_cluster::Options::default(), None).objects;
    let universe = Universe::of(&expand(&given));
    for number in 0..draw.weighted(&[(2, 1), (4, 2), (4, 3), (3, 4), (2, 5), (1, 6)]) {
        let namespace = *draw.pick(&["alpha", "alpha", "beta", "gamma"]);
        let policy = generate::network_policy(&mut draw, &universe, namespace, &format!("policy-{number}"));
        given.replace(Object::NetworkPolicy(policy.into()));
    }
    LiveCase { seed, expanded: expand(&given), given }
}

impl LiveCase {
    /// The manifests: file name, content. The names are the same for every seed, so that writing them replaces the last case.
    pub fn files(&self) -> [(&'static str, String); 2] {
        let mut style = Draw::new(self.seed ^ 0x7961_6d6c);
        let (policies, rest): (Vec<Object>, Vec<Object>) =
            self.given.iter().cloned().partition(|object| matches!(object, Object::NetworkPolicy(_)));
        [
            ("cluster.yaml", render::manifests(&rest.into_iter().collect(), &mut style)),
            ("policies.yaml", render::manifests(&policies.into_iter().collect(), &mut style)),
        ]
    }

    /// What to try, by who tries it: between all pods, between pods and `outside` (addresses that the lab serves there, and connects from) and
    /// nodes; TCP, UDP and ICMP. At most `most` in all, a fair draw of the seed. SCTP is left to the other judges: kernels often
    /// lack it.
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
        let traffic: Vec<Traffic> = probes::traffic(&self.expanded)
            .into_iter()
            .filter(|traffic| !matches!(traffic, Traffic::Port(Protocol::Sctp, _)))
            .collect();
        let mut all: Vec<(&(End, IpAddr), Traffic)> =
            pairs.iter().flat_map(|pair| traffic.iter().map(move |traffic| (pair, *traffic))).collect();
        Draw::new(self.seed).shuffle(&mut all);
        all.truncate(most);
        let mut out: BTreeMap<End, Vec<LiveProbe>> = BTreeMap::new();
        for ((from, to), traffic) in all {
            let connection = Connection { from: from.clone(), to: End::Address(*to), traffic, v6: to.is_ipv6() };
            if let Some(answer) = reference::judge(&self.expanded, &connection) {
                let probe = LiveProbe { from: from.clone(), to: *to, traffic, expected: answer.allowed() };
                out.entry(from.clone()).or_default().push(probe);
            }
        }
        for probes in out.values_mut() {
            probes.sort();
        }
        out
    }
}
