//! Random nodes, namespaces and pods.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use strait_api::{Container, ContainerPort, Namespace, Node, Object, ObjectMeta, Objects, Pod, PodPhase, PodSpec};
use strait_base::{Labels, Protocol};

use super::{
    nowhere,
    words::{NAMESPACE_LABELS, NAMESPACES, NODE_LABELS, POD_LABELS, PORT_NAMES, port},
};
use crate::draw::Draw;

/// Nodes by name; where they are is for `cluster` to say.
const NODES: [&str; 2] = ["node-1", "node-2"];

/// A namespace, declared or not.
pub(super) fn namespace(draw: &mut Draw) -> &'static str {
    draw.weighted(&[(7, NAMESPACES[0]), (2, NAMESPACES[1]), (1, NAMESPACES[2])])
}

/// Nodes, namespaces and pods, expanded.
pub(super) fn cluster(draw: &mut Draw) -> Objects {
    let mut objects = Objects::default();
    for name in &NAMESPACES[..2] {
        objects.replace(Object::Namespace(Namespace { meta: namespace_meta(draw, name) }.into()));
    }
    let mut pods: Vec<Pod> = Vec::new();
    for number in 0..draw.between(2, 7) {
        let pod = match pods.last() {
            Some(sibling) if draw.chance(35) => replica(draw, sibling, number),
            _ => pod(draw, number),
        };
        pods.push(pod);
    }
    for pod in pods {
        objects.replace(Object::Pod(pod.into()));
    }
    let mut objects = strait_cluster::expand(&objects, &strait_cluster::Options::default(), None).objects;
    let all: Vec<Arc<Pod>> = objects.pods().cloned().collect();
    for mut pod in all.iter().cloned() {
        let inner = Arc::make_mut(&mut pod);
        if inner.phase == PodPhase::Succeeded {
            // A completed pod may still show an address that another has been given since.
            inner.pod_ips.clone_from(&draw.pick(&all).pod_ips);
        } else if !inner.spec.host_network && draw.chance(8) {
            let v6 = draw.chance(50);
            inner.pod_ips.retain(|address| address.is_ipv6() == v6);
        }
        objects.replace(Object::Pod(pod));
    }
    objects
}

/// Gives nodes labels.
pub(super) fn label_nodes(draw: &mut Draw, objects: &mut Objects) {
    let nodes: Vec<_> = objects.nodes().cloned().collect();
    for mut node in nodes {
        for (key, value) in labels(draw, &NODE_LABELS, 60).iter() {
            Arc::make_mut(&mut node).meta.labels.insert(key, value);
        }
        objects.replace(Object::Node(node));
    }
}

/// A node with labels; the rest is for `cluster` to say.
pub(crate) fn labelled_node(draw: &mut Draw, name: &str) -> Node {
    Node { meta: meta("", name, labels(draw, &NODE_LABELS, 60)), pod_cidrs: Vec::new(), addresses: Vec::new() }
}

/// Name and random labels of a declared namespace.
pub(crate) fn namespace_meta(draw: &mut Draw, name: &str) -> ObjectMeta {
    let mut labels = labels(draw, &NAMESPACE_LABELS, 60);
    labels.insert("kubernetes.io/metadata.name", name);
    meta("", name, labels)
}

/// A pod that runs where it is told and declares these ports; labels and names of ports are random.
pub(crate) fn pod_with_ports(
    draw: &mut Draw,
    namespace: &str,
    name: &str,
    node: &str,
    ports: &[(Protocol, u16)],
) -> Pod {
    let mut names: Vec<&str> = PORT_NAMES[..3].to_vec();
    draw.shuffle(&mut names);
    let declare = |(protocol, container_port): &(Protocol, u16)| ContainerPort {
        name: names.pop().filter(|_| draw.chance(75)).map(Into::into),
        container_port: *container_port,
        host_port: None,
        protocol: *protocol,
    };
    let ports = ports.iter().map(declare).collect();
    Pod {
        meta: meta(namespace, name, labels(draw, &POD_LABELS, 65)),
        spec: spec(node, account(draw), false, vec![container(0, ports)]),
        phase: PodPhase::Pending,
        pod_ips: Vec::new(),
    }
}

fn account(draw: &mut Draw) -> &'static str {
    draw.weighted(&[(4, "default"), (1, "robot")])
}

fn spec(node: &str, account: &str, host_network: bool, containers: Vec<Container>) -> PodSpec {
    PodSpec {
        node_name: Some(node.into()),
        node_selector: Labels::default(),
        service_account_name: account.into(),
        host_network,
        hostname: None,
        subdomain: None,
        containers: containers.into(),
        secrets: Vec::new(),
    }
}

fn container(number: usize, ports: Vec<ContainerPort>) -> Container {
    Container {
        name: format!("container-{number}").into(),
        image: None,
        command: Vec::new(),
        args: Vec::new(),
        env: BTreeMap::new(),
        ports,
    }
}

fn pod(draw: &mut Draw, number: usize) -> Pod {
    let labels = labels(draw, &POD_LABELS, 65);
    let node = *draw.pick(&NODES);
    let host_network = draw.chance(10);
    Pod {
        meta: meta(namespace(draw), &format!("pod-{number}"), labels),
        spec: spec(node, account(draw), host_network, containers(draw)),
        phase: if draw.chance(8) { PodPhase::Succeeded } else { PodPhase::Running },
        pod_ips: if draw.chance(25) && !host_network { asked_for(draw, node, number) } else { Vec::new() },
    }
}

/// A pod like `sibling` in all that selectors see; on any node, and one time in two with other ports.
fn replica(draw: &mut Draw, sibling: &Pod, number: usize) -> Pod {
    let mut pod = sibling.clone();
    pod.meta.name = format!("pod-{number}").into();
    pod.spec.node_name = Some((*draw.pick(&NODES)).into());
    pod.phase = PodPhase::Running;
    pod.pod_ips.clear();
    if draw.chance(50) {
        pod.spec.containers = containers(draw).into();
    }
    pod
}

/// Addresses that a manifest asks for: in the node's pod CIDRs, or in none.
fn asked_for(draw: &mut Draw, node: &str, number: usize) -> Vec<IpAddr> {
    let index = if node == NODES[0] { 1 } else { 2 };
    let host = 11 + number;
    let (v4, v6) = if draw.chance(70) {
        (format!("10.244.{index}.{host}"), format!("fd00:10:244:{index}::{host}"))
    } else {
        (format!("192.168.7.{host}"), format!("fd00:9::{host}"))
    };
    [v4, v6].iter().filter_map(|text| text.parse().ok()).collect()
}

/// One or two containers. A name is used once in a pod, a number once for each protocol.
fn containers(draw: &mut Draw) -> Vec<Container> {
    let mut names: BTreeSet<&'static str> = BTreeSet::new();
    let mut numbers: BTreeSet<(Protocol, u16)> = BTreeSet::new();
    (0..draw.weighted(&[(4, 1), (1, 2)]))
        .map(|number| {
            let ports = (0..draw.between(0, 3)).filter_map(|_| container_port(draw, &mut names, &mut numbers));
            container(number, ports.collect())
        })
        .collect()
}

fn container_port(
    draw: &mut Draw,
    names: &mut BTreeSet<&'static str>,
    numbers: &mut BTreeSet<(Protocol, u16)>,
) -> Option<ContainerPort> {
    let protocol = draw.weighted(&[(4, Protocol::Tcp), (2, Protocol::Udp), (1, Protocol::Sctp)]);
    let container_port = port(draw);
    if !numbers.insert((protocol, container_port)) {
        return None;
    }
    let name = *draw.pick(&PORT_NAMES[..3]);
    let name = (draw.chance(80) && names.insert(name)).then(|| name.into());
    Some(ContainerPort { name, container_port, host_port: None, protocol })
}

/// Each key with one of its values, `percent` times in a hundred.
pub(super) fn labels(draw: &mut Draw, universe: &[(&str, &[&str])], percent: usize) -> Labels {
    let mut labels = Labels::default();
    for (key, values) in universe {
        if draw.chance(percent) {
            labels.insert(key, values[draw.below(values.len())]);
        }
    }
    labels
}

pub(super) fn meta(namespace: &str, name: &str, labels: Labels) -> ObjectMeta {
    ObjectMeta {
        name: name.into(),
        namespace: namespace.into(),
        labels,
        annotations: BTreeMap::new().into(),
        generation: 1,
        created: None,
        location: nowhere(),
    }
}
