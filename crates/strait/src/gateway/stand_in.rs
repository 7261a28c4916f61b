//! An echo server on loopback for every pod.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, mpsc},
    thread,
};

use anyhow::Context as _;
use ipnet::IpNet;
use strait_api::{EndpointSlice, Object, Objects, Pod};
use strait_base::Protocol;
use strait_cluster::{Options, expand};
use strait_echo::{Authority, Certificate, Config, Context, Limits, Port, Server};
use tokio::task::{AbortHandle, LocalSet};

use super::trust::{self, Names};

/// The echo servers, on a thread of their own.
pub(super) struct StandIns {
    orders: tokio::sync::mpsc::UnboundedSender<Order>,
    /// The last expansion: pods keep their addresses.
    expanded: Option<Objects>,
    addresses: BTreeMap<IpAddr, IpAddr>,
    running: BTreeMap<Arc<str>, What>,
    pool: IpNet,
    /// Signs what stand-ins without a certificate of their own show.
    authority: Authority,
    /// What the gate shows to those of a mesh.
    gate: Option<Certificate>,
}

/// What a pod serves.
#[derive(Clone, PartialEq, Eq, Debug)]
struct What {
    address: IpAddr,
    ports: BTreeSet<(Protocol, u16)>,
    namespace: Arc<str>,
    pod: Arc<str>,
    /// The certificate that the pod mounts.
    mounted: Option<Certificate>,
    /// The names that policies ask for, where it mounts none, or those of its workload in the mesh.
    names: Option<Names>,
}

enum Order {
    /// Serve in place of what was served under that name; what came of it.
    Start(Arc<str>, Box<Config>, mpsc::Sender<Result<(), String>>),
    Stop(Arc<str>),
}

impl StandIns {
    pub(super) fn start(pool: IpNet) -> anyhow::Result<Self> {
        let (orders, mut received) = tokio::sync::mpsc::unbounded_channel();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
        let run = async move {
            let mut servers: BTreeMap<Arc<str>, AbortHandle> = BTreeMap::new();
            while let Some(order) = received.recv().await {
                match order {
                    Order::Start(name, config, done) => {
                        if let Some(before) = servers.remove(&name) {
                            before.abort();
                            tokio::task::yield_now().await;
                        }
                        let result = Server::bind(*config).map_err(|error| error.to_string());
                        let result = result.map(|server| {
                            let task = tokio::task::spawn_local(async move { server.run().await });
                            servers.insert(name, task.abort_handle());
                        });
                        let _ = done.send(result);
                    }
                    Order::Stop(name) => {
                        if let Some(before) = servers.remove(&name) {
                            before.abort();
                        }
                    }
                }
            }
        };
        thread::Builder::new().name("echo".into()).spawn(move || LocalSet::new().block_on(&runtime, run))?;
        let authority = Authority::new().context("cannot make an authority for stand-ins")?;
        let gate = authority.issue(std::iter::empty(), [trust::GATE].into_iter()).ok();
        Ok(Self { orders, expanded: None, addresses: BTreeMap::new(), running: BTreeMap::new(), pool, authority, gate })
    }

    /// The objects with a pod on loopback for each that they describe, and endpoints accordingly; and what could not be done.
    pub(super) fn stand_in(&mut self, objects: &Objects) -> (Objects, Vec<String>) {
        let options = Options { node_names: vec!["loopback".into()], ipv6: false };
        let expansion = expand(objects, &options, self.expanded.as_ref());
        let (mut expanded, mut notes) = (expansion.objects.clone(), expansion.notes);
        self.expanded = Some(expansion.objects);
        let pods: Vec<Arc<Pod>> = expanded.pods().cloned().collect();
        for address in pods.iter().flat_map(|pod| &pod.pod_ips) {
            if !self.addresses.contains_key(address) {
                let Some(next) = self.pool.hosts().nth(self.addresses.len()) else {
                    notes.push(format!("{} has no address left for {address}", self.pool));
                    continue;
                };
                self.addresses.insert(*address, next);
            }
        }
        let slices: Vec<Arc<EndpointSlice>> = expanded.endpoint_slices().cloned().collect();
        let wanted = self.wanted(&expanded, &pods, &slices);
        trust::believe(&mut expanded, &self.authority);
        if let Some(gate) = &self.gate
            && trust::is_mesh(&expanded)
        {
            expanded.replace(trust::identity(gate, &self.authority));
        }
        for mut slice in slices {
            let of = Arc::make_mut(&mut slice);
            let endpoints = of.endpoints.iter_mut();
            endpoints.flat_map(|endpoint| &mut endpoint.addresses).for_each(|address| {
                *address = self.addresses.get(address).copied().unwrap_or(*address);
            });
            expanded.replace(Object::EndpointSlice(slice));
        }
        self.reconcile(wanted, &mut notes);
        (expanded, notes)
    }

    /// What each pod serves: the ports of its containers, and those that endpoints name at its address.
    fn wanted(&self, objects: &Objects, pods: &[Arc<Pod>], slices: &[Arc<EndpointSlice>]) -> BTreeMap<Arc<str>, What> {
        let names = trust::wanted(objects, pods, slices);
        let mut by_address: BTreeMap<IpAddr, BTreeSet<(Protocol, u16)>> = BTreeMap::new();
        for slice in slices {
            let ports = || slice.ports.iter().filter_map(|port| Some((port.protocol, port.port?)));
            for address in slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses) {
                by_address.entry(*address).or_default().extend(ports());
            }
        }
        let mut wanted = BTreeMap::new();
        for pod in pods {
            let Some((own, address)) = pod.pod_ips.iter().find_map(|own| Some((own, self.addresses.get(own)?))) else {
                continue;
            };
            let declared = pod.spec.containers.iter().flat_map(|container| &container.ports);
            let mut ports: BTreeSet<_> = declared.map(|port| (port.protocol, port.container_port)).collect();
            ports.extend(by_address.get(own).into_iter().flatten());
            ports.retain(|(protocol, _)| *protocol != Protocol::Sctp);
            let (namespace, name) = (Arc::clone(&pod.meta.namespace), Arc::clone(&pod.meta.name));
            let key = format!("{namespace}/{name}").into();
            let mounted = trust::mounted(pod, objects);
            let names = names.get(own).filter(|names| mounted.is_none() || names.mesh).cloned();
            wanted.insert(key, What { address: *address, ports, namespace, pod: name, mounted, names });
        }
        wanted
    }

    fn reconcile(&mut self, wanted: BTreeMap<Arc<str>, What>, notes: &mut Vec<String>) {
        for gone in self.running.keys().filter(|name| !wanted.contains_key(*name)) {
            let _ = self.orders.send(Order::Stop(Arc::clone(gone)));
        }
        for (name, what) in
            wanted.iter().filter(|(name, what)| self.running.get(*name) != Some(what) && !what.ports.is_empty())
        {
            let (done, result) = mpsc::channel();
            let config = Box::new(config(what, &self.authority));
            let _ = self.orders.send(Order::Start(Arc::clone(name), config, done));
            if let Ok(Err(error)) = result.recv() {
                notes.push(format!("pod {name} has no stand-in: {error}"));
            }
        }
        self.running = wanted;
    }
}

fn config(what: &What, authority: &Authority) -> Config {
    let issued = what.names.as_ref().and_then(|names| {
        let (hosts, uris) = (names.hosts.iter(), names.uris.iter());
        authority.issue(hosts.map(|host| &**host), uris.map(|uri| &**uri)).ok()
    });
    Config {
        certificate: issued.or_else(|| what.mounted.clone()),
        clients: what.names.as_ref().filter(|names| names.needs_clients()).map(|_| authority.pem().to_owned()),
        ports: what.ports.iter().map(|(protocol, number)| Port { number: *number, protocol: *protocol }).collect(),
        listen: vec![what.address],
        context: Context { namespace: what.namespace.to_string(), pod: what.pod.to_string(), ..Context::default() },
        limits: Limits::default(),
    }
}
