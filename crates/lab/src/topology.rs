//! What is to be on the host, worked out from expanded objects alone: nodes, pods, the outside, and every address and
//! route.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;
use strait_api::{Objects, Pod, PodPhase};
use strait_base::{LabelSelector, Protocol};

use crate::{
    names::{Place, PodName, link_name, mac},
    outside::{CLIENT_V4, CLIENT_V6, Outside},
};

/// Annotation of a pod that the lab adds for its own sake; matrices leave such pods out.
pub const SYSTEM: &str = "lab.strait.dev/system";
/// Annotation of a pod: `host` runs its containers' commands from the host's file system in place of echo servers.
pub const RUN: &str = "lab.strait.dev/run";
/// Label and value of pods that answer DNS.
pub const DNS_LABEL: (&str, &str) = ("k8s-app", "kube-dns");

/// The name of every node's and pod's link to the rest.
pub const UPLINK: &str = "eth0";
/// What pods take for their router. No interface has it: a permanent neighbour entry names the node's end of the veth.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// As [`GATEWAY_V4`].
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The outside's address on the fabric, which nodes send to what no other node has.
pub const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
/// As [`ROUTER_V4`].
pub const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x172, 0x30, 0, 0, 0, 0, 1);

/// A cluster as the host is to hold it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Topology {
    /// Its nodes.
    pub nodes: BTreeMap<Arc<str>, Node>,
    /// Its pods, those of the host network included. A pod without a node or an address is not among them.
    pub pods: BTreeMap<PodName, PodPlace>,
    /// The world outside.
    pub outside: Outside,
}

/// A node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Its addresses, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// The ranges its pods have their addresses from.
    pub pod_cidrs: Vec<IpNet>,
}

/// A pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodPlace {
    /// Where it runs.
    pub node: Arc<str>,
    /// Its addresses, at most one of each family; the node's for a pod of the host network.
    pub addresses: Vec<IpAddr>,
    /// It has no network namespace of its own.
    pub host_network: bool,
    /// Name servers' addresses.
    pub name_servers: Vec<IpAddr>,
    /// What `hostname` says inside.
    pub hostname: String,
    /// What runs in it.
    pub programs: Vec<Program>,
}

/// A process of a pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Program {
    /// `strait echo` on all declared ports.
    Echo {
        /// Protocol and number.
        ports: BTreeSet<(Protocol, u16)>,
        /// The addresses to listen on; empty for all.
        listen: BTreeSet<IpAddr>,
        /// The first service that selects the pod.
        service: String,
    },
    /// The lab's name server.
    Dns,
    /// A container's command, from the host's file system.
    Host {
        /// Its name.
        container: Arc<str>,
        /// `command` then `args`.
        command: Vec<Arc<str>>,
        /// `env`.
        environment: BTreeMap<Arc<str>, Arc<str>>,
        /// The ports it declares.
        ports: BTreeSet<(Protocol, u16)>,
    },
}

impl Program {
    /// The ports that something listens on once the program is ready.
    pub fn ports(&self) -> BTreeSet<(Protocol, u16)> {
        match self {
            Self::Echo { ports, .. } | Self::Host { ports, .. } => ports.clone(),
            Self::Dns => BTreeSet::from([(Protocol::Udp, 53), (Protocol::Tcp, 53)]),
        }
    }
}

/// What one network namespace is to be configured with, besides its links.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Configuration {
    /// Interface and address.
    pub addresses: BTreeSet<(String, IpNet)>,
    /// Routes.
    pub routes: BTreeSet<Route>,
    /// Interface and address to hardware address.
    pub neighbours: BTreeMap<(String, IpAddr), [u8; 6]>,
}

/// A route.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// The next hop; `None` where the destination is on the link.
    pub via: Option<IpAddr>,
    /// The interface.
    pub device: String,
    /// The preferred source address.
    pub source: Option<IpAddr>,
}

impl PodPlace {
    /// The node's end of the veth pair of `pod`.
    pub fn link(pod: &PodName) -> String {
        link_name("lxc", &pod.to_string())
    }

    /// The hardware address of the pod's end.
    pub fn mac(pod: &PodName) -> [u8; 6] {
        mac(&format!("pod {pod}"))
    }

    /// The hardware address of the node's end.
    pub fn node_mac(pod: &PodName) -> [u8; 6] {
        mac(&format!("lxc {pod}"))
    }
}

/// The port of the switch that `place` (a node, or the outside) is plugged into.
pub fn switch_port(place: &Place) -> String {
    link_name("sw", &place.to_string())
}

/// The hardware address of the uplink of `place` (a node, or the outside).
pub fn uplink_mac(place: &Place) -> [u8; 6] {
    mac(&format!("uplink {place}"))
}

impl Topology {
    /// What `objects` (expanded) ask for. Sentences for people about what cannot be are added to `notes`.
    pub fn of(objects: &Objects, ipv6: bool, notes: &mut Vec<String>) -> Self {
        let mut topology = Self { outside: Outside::of(objects, ipv6), ..Self::default() };
        for node in objects.nodes() {
            let family = |v4: bool| node.addresses.iter().copied().find(|address| address.is_ipv4() == v4);
            topology.nodes.insert(
                Arc::clone(&node.meta.name),
                Node {
                    addresses: [family(true), family(false)].into_iter().flatten().collect(),
                    pod_cidrs: node.pod_cidrs.clone(),
                },
            );
        }
        let dns = LabelSelector { match_labels: [DNS_LABEL].into_iter().collect(), match_expressions: Vec::new() };
        let mut name_servers: Vec<IpAddr> =
            objects.pods().filter(|pod| dns.matches(&pod.meta.labels)).flat_map(|pod| pod.pod_ips.clone()).collect();
        // resolv.conf has room for three; both families of one pod come first.
        name_servers.truncate(3);
        for pod in objects.pods() {
            let Some(node) = pod.spec.node_name.as_ref().filter(|node| topology.nodes.contains_key(*node)) else {
                continue;
            };
            if pod.pod_ips.is_empty() || matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed) {
                continue;
            }
            let name = PodName { namespace: Arc::clone(&pod.meta.namespace), name: Arc::clone(&pod.meta.name) };
            let place = PodPlace {
                node: Arc::clone(node),
                addresses: pod.pod_ips.clone(),
                host_network: pod.spec.host_network,
                name_servers: name_servers.clone(),
                hostname: pod.spec.hostname.as_ref().unwrap_or(&pod.meta.name).to_string(),
                programs: programs(pod, objects, notes),
            };
            topology.pods.insert(name, place);
        }
        topology
    }

    /// Pods that have a network namespace of their own.
    pub fn own_network(&self) -> impl Iterator<Item = (&PodName, &PodPlace)> {
        self.pods.iter().filter(|(_, pod)| !pod.host_network)
    }

    /// What the namespace of the node called `name` holds.
    pub fn node_configuration(&self, name: &str) -> Configuration {
        let mut out = Configuration::default();
        let Some(node) = self.nodes.get(name) else { return out };
        let source = |v4: bool| node.addresses.iter().copied().find(|address| address.is_ipv4() == v4);
        out.addresses.extend(node.addresses.iter().map(|address| (UPLINK.to_owned(), IpNet::from(*address))));
        for cidr in &node.pod_cidrs {
            // Addresses of the range that no pod has end here; the default route would send them out and back.
            out.routes.insert(Route { destination: *cidr, via: None, device: "lo".to_owned(), source: None });
        }
        for (pod, place) in self.own_network().filter(|(_, place)| &*place.node == name) {
            let device = PodPlace::link(pod);
            for address in &place.addresses {
                out.neighbours.insert((device.clone(), *address), PodPlace::mac(pod));
                out.routes.insert(Route {
                    destination: IpNet::from(*address),
                    via: None,
                    device: device.clone(),
                    source: source(address.is_ipv4()),
                });
            }
        }
        self.fabric_configuration(Some(name), source, &mut out);
        let router = Place::Outside;
        for (destination, address) in
            [("0.0.0.0/0", IpAddr::from(ROUTER_V4)), ("::/0", IpAddr::from(ROUTER_V6))].map(|(d, a)| (d.parse(), a))
        {
            if let (Ok(destination), Some(source)) = (destination, source(address.is_ipv4())) {
                let device = UPLINK.to_owned();
                out.neighbours.insert((device.clone(), address), uplink_mac(&router));
                out.routes.insert(Route { destination, via: Some(address), device, source: Some(source) });
            }
        }
        out
    }

    /// What the outside's namespace holds.
    pub fn outside_configuration(&self) -> Configuration {
        let mut out = Configuration::default();
        out.addresses.extend(self.outside.addresses.iter().map(|address| ("lo".to_owned(), IpNet::from(*address))));
        let client = |v4: bool| {
            let clients = [IpAddr::from(CLIENT_V4), IpAddr::from(CLIENT_V6)];
            clients.into_iter().find(|address| address.is_ipv4() == v4 && self.outside.addresses.contains(address))
        };
        for router in [IpAddr::from(ROUTER_V4), IpAddr::from(ROUTER_V6)] {
            if client(router.is_ipv4()).is_some() {
                out.addresses.insert((UPLINK.to_owned(), IpNet::from(router)));
            }
        }
        self.fabric_configuration(None, client, &mut out);
        out
    }

    /// Routes to all nodes but `but` and to their pods, from something on the fabric whose own addresses `source` gives
    /// by family (`true` for IPv4).
    fn fabric_configuration(
        &self,
        but: Option<&str>,
        source: impl Fn(bool) -> Option<IpAddr>,
        out: &mut Configuration,
    ) {
        for (name, node) in self.nodes.iter().filter(|(name, _)| but != Some(&***name)) {
            let mac = uplink_mac(&Place::Node(Arc::clone(name)));
            let hop = |v4: bool| node.addresses.iter().copied().find(|address| address.is_ipv4() == v4);
            for address in &node.addresses {
                let Some(source) = source(address.is_ipv4()) else { continue };
                out.neighbours.insert((UPLINK.to_owned(), *address), mac);
                out.routes.insert(Route {
                    destination: IpNet::from(*address),
                    via: None,
                    device: UPLINK.to_owned(),
                    source: Some(source),
                });
            }
            let strays = self
                .own_network()
                .filter(|(_, pod)| pod.node == *name)
                .flat_map(|(_, pod)| &pod.addresses)
                .filter(|address| !node.pod_cidrs.iter().any(|cidr| cidr.contains(*address)))
                .map(|address| IpNet::from(*address));
            for destination in node.pod_cidrs.iter().copied().chain(strays) {
                let v4 = destination.addr().is_ipv4();
                if let (Some(via), Some(source)) = (hop(v4), source(v4)) {
                    let device = UPLINK.to_owned();
                    out.routes.insert(Route { destination, via: Some(via), device, source: Some(source) });
                }
            }
        }
    }
}

/// What the namespace of a pod holds.
pub fn pod_configuration(name: &PodName, pod: &PodPlace) -> Configuration {
    let mut out = Configuration::default();
    for address in &pod.addresses {
        let (gateway, everywhere) = match address {
            IpAddr::V4(_) => (IpAddr::from(GATEWAY_V4), IpNet::from(IpAddr::from(Ipv4Addr::UNSPECIFIED))),
            IpAddr::V6(_) => (IpAddr::from(GATEWAY_V6), IpNet::from(IpAddr::from(Ipv6Addr::UNSPECIFIED))),
        };
        let everywhere = IpNet::new_assert(everywhere.addr(), 0);
        let device = UPLINK.to_owned();
        out.addresses.insert((device.clone(), IpNet::from(*address)));
        out.neighbours.insert((device.clone(), gateway), PodPlace::node_mac(name));
        out.routes.insert(Route { destination: everywhere, via: Some(gateway), device, source: Some(*address) });
    }
    out
}

fn programs(pod: &Pod, objects: &Objects, notes: &mut Vec<String>) -> Vec<Program> {
    let declared = |container: &strait_api::Container| -> BTreeSet<(Protocol, u16)> {
        container.ports.iter().map(|port| (port.protocol, port.container_port)).collect()
    };
    let run = pod.meta.annotations.get(RUN).map(|value| &**value);
    if run == Some("host") {
        let mut programs = Vec::new();
        for container in &pod.spec.containers {
            let command: Vec<_> = container.command.iter().chain(&container.args).cloned().collect();
            if command.is_empty() {
                let mut note = String::new();
                let _ = write!(
                    note,
                    "{}: container `{}` of pod {}/{} has neither command nor args, so there is nothing to run from the host",
                    pod.meta.location, container.name, pod.meta.namespace, pod.meta.name
                );
                notes.push(note);
                continue;
            }
            programs.push(Program::Host {
                container: Arc::clone(&container.name),
                command,
                environment: container.env.clone(),
                ports: declared(container),
            });
        }
        return programs;
    }
    if let Some(other) = run {
        notes.push(format!(
            "{}: annotation {RUN} of pod {}/{} is `{other}`; only `host` is known, so the pod is served by echo",
            pod.meta.location, pod.meta.namespace, pod.meta.name
        ));
    }
    let mut ports: BTreeSet<_> = pod.spec.containers.iter().flat_map(declared).collect();
    let mut programs = Vec::new();
    if pod.meta.labels.get(DNS_LABEL.0) == Some(DNS_LABEL.1) {
        programs.push(Program::Dns);
        ports.retain(|(_, port)| *port != 53);
    }
    if !ports.is_empty() {
        let service = objects.services().find(|service| {
            service.meta.namespace == pod.meta.namespace
                && !service.selector.0.is_empty()
                && service.selector.iter().all(|(key, value)| pod.meta.labels.get(key) == Some(value))
        });
        let service = service.map(|service| service.meta.name.to_string()).unwrap_or_default();
        programs.push(Program::Echo { ports, listen: BTreeSet::new(), service });
    }
    programs
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use expect_test::{Expect, expect};

    use super::*;

    const CLUSTER: &str = "
kind: Pod
apiVersion: v1
metadata: {name: one}
spec: {nodeName: node-1, containers: [{name: c, ports: [{containerPort: 80}, {containerPort: 9, protocol: SCTP}]}]}
---
kind: Pod
apiVersion: v1
metadata: {name: stray, labels: {k8s-app: kube-dns}}
spec: {nodeName: node-2, containers: [{name: c, ports: [{containerPort: 53, protocol: UDP}, {containerPort: 80}]}]}
status: {podIP: 10.99.0.7}
---
kind: Pod
apiVersion: v1
metadata: {name: on-host}
spec: {nodeName: node-2, hostNetwork: true, containers: [{name: c}]}
---
kind: Pod
apiVersion: v1
metadata: {name: done}
spec: {nodeName: node-2, containers: [{name: c}]}
status: {phase: Succeeded}
---
kind: Pod
apiVersion: v1
metadata: {name: real, annotations: {lab.strait.dev/run: host}}
spec: {nodeName: node-1, containers: [{name: a, command: [sleep], args: ['9']}, {name: b}]}
";

    fn topology(ipv6: bool) -> (Topology, Vec<String>) {
        let parsed = strait_api::parse(&Arc::from("in.yaml"), CLUSTER.as_bytes());
        assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
        let options = strait_cluster::Options { ipv6, ..strait_cluster::Options::default() };
        let objects = strait_cluster::expand(&parsed.objects.into_iter().collect(), &options, None).objects;
        let mut notes = Vec::new();
        (Topology::of(&objects, ipv6, &mut notes), notes)
    }

    fn check(configuration: &Configuration, expected: &Expect) {
        let mut text = String::new();
        for (interface, address) in &configuration.addresses {
            writeln!(text, "{address} on {interface}").unwrap();
        }
        for Route { destination, via, device, source } in &configuration.routes {
            let via = via.map(|via| format!(" via {via}")).unwrap_or_default();
            let source = source.map(|source| format!(" from {source}")).unwrap_or_default();
            let device = if device.starts_with("lxc") { "lxc…" } else { device };
            writeln!(text, "{destination}{via} dev {device}{source}").unwrap();
        }
        for (interface, address) in configuration.neighbours.keys() {
            let interface = if interface.starts_with("lxc") { "lxc…" } else { interface };
            writeln!(text, "{address} is known on {interface}").unwrap();
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn a_node_knows_its_pods_the_other_nodes_and_the_way_out() {
        check(
            &topology(false).0.node_configuration("node-1"),
            &expect![[r#"
            172.30.0.11/32 on eth0
            0.0.0.0/0 via 172.30.0.1 dev eth0 from 172.30.0.11
            10.99.0.7/32 via 172.30.0.12 dev eth0 from 172.30.0.11
            10.244.1.0/24 dev lo
            10.244.1.10/32 dev lxc… from 172.30.0.11
            10.244.1.11/32 dev lxc… from 172.30.0.11
            10.244.2.0/24 via 172.30.0.12 dev eth0 from 172.30.0.11
            172.30.0.12/32 dev eth0 from 172.30.0.11
            172.30.0.1 is known on eth0
            172.30.0.12 is known on eth0
            10.244.1.11 is known on lxc…
            10.244.1.10 is known on lxc…
        "#]],
        );
    }

    #[test]
    fn the_outside_knows_every_pod_by_its_node() {
        check(
            &topology(true).0.outside_configuration(),
            &expect![[r#"
            172.30.0.1/32 on eth0
            fd00:172:30::1/128 on eth0
            203.0.113.10/32 on lo
            2001:db8:113::10/128 on lo
            10.99.0.7/32 via 172.30.0.12 dev eth0 from 203.0.113.10
            10.244.1.0/24 via 172.30.0.11 dev eth0 from 203.0.113.10
            10.244.2.0/24 via 172.30.0.12 dev eth0 from 203.0.113.10
            172.30.0.11/32 dev eth0 from 203.0.113.10
            172.30.0.12/32 dev eth0 from 203.0.113.10
            fd00:10:244:1::/64 via fd00:172:30::11 dev eth0 from 2001:db8:113::10
            fd00:10:244:2::/64 via fd00:172:30::12 dev eth0 from 2001:db8:113::10
            fd00:172:30::11/128 dev eth0 from 2001:db8:113::10
            fd00:172:30::12/128 dev eth0 from 2001:db8:113::10
            172.30.0.11 is known on eth0
            172.30.0.12 is known on eth0
            fd00:172:30::11 is known on eth0
            fd00:172:30::12 is known on eth0
        "#]],
        );
    }

    #[test]
    fn pods_and_what_runs_in_them() {
        let (topology, notes) = topology(false);
        let mut text = String::new();
        for (name, pod) in &topology.pods {
            let host = if pod.host_network { ", host network" } else { "" };
            writeln!(text, "{name} on {}{host}, asks {:?}", pod.node, pod.name_servers).unwrap();
            for program in &pod.programs {
                writeln!(text, "  {program:?}").unwrap();
            }
        }
        expect![[r#"
            default/on-host on node-2, host network, asks [10.99.0.7]
            default/one on node-1, asks [10.99.0.7]
              Echo { ports: {(Tcp, 80), (Sctp, 9)}, listen: {}, service: "" }
            default/real on node-1, asks [10.99.0.7]
              Host { container: "a", command: ["sleep", "9"], environment: {}, ports: {} }
            default/stray on node-2, asks [10.99.0.7]
              Dns
              Echo { ports: {(Tcp, 80)}, listen: {}, service: "" }
        "#]]
        .assert_eq(&text);
        expect!["in.yaml:24:1: container `b` of pod default/real has neither command nor args, so there is nothing to run from the host"].assert_eq(&notes.join("\n"));
    }
}
