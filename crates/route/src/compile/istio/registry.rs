//! Services by host name, Kubernetes' own and those of service entries, and the rules for what goes to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use strait_api::{
    Pod, Service, ServicePort,
    istio::{
        ClientTls, DestinationRule, EntryPort, H2UpgradePolicy, PortProtocol, Resolution, ServiceEntry, Subset,
        TrafficPolicy, Workload, WorkloadAddress, WorkloadEntry,
    },
};
use strait_base::{Labels, Protocol};

use super::{NAMESPACE, Resolved, age};
use crate::{
    compile::{backends, world::World},
    hosts::covers,
    plan::{BackendProtocol, Endpoint},
};

/// What follows the name and namespace of a service of Kubernetes'.
const DOMAIN: &str = ".svc.cluster.local";

/// A short name in full, as the namespace `home` means it; others are full already.
pub(super) fn full_name(host: &Arc<str>, home: &str) -> Arc<str> {
    if host.contains('.') || host.starts_with('*') || host.parse::<IpAddr>().is_ok() {
        Arc::clone(host)
    } else {
        format!("{host}.{home}{DOMAIN}").into()
    }
}

/// A service.
#[derive(Clone, Copy)]
pub(super) enum Found<'a> {
    Kubernetes(&'a Service),
    Entry(&'a ServiceEntry),
}

/// A port of a service.
#[derive(Clone, Copy)]
pub(super) enum Port<'a> {
    Kubernetes(&'a ServicePort),
    Entry(&'a EntryPort),
}

/// An endpoint, and what subsets and certificates go by.
pub(super) struct Instance<'a> {
    pub(super) endpoint: Endpoint,
    labels: Option<&'a Labels>,
    /// Namespace and name of its service account.
    pub(super) account: Option<(&'a str, &'a str)>,
}

impl Instance<'_> {
    pub(super) fn has(&self, labels: &Labels) -> bool {
        labels.iter().all(|(key, value)| self.labels.and_then(|own| own.get(key)) == Some(value))
    }
}

/// What is done to traffic for a host, put together from the rules for it.
#[derive(Default)]
pub(super) struct Rules<'a> {
    policy: Option<&'a TrafficPolicy>,
    subsets: BTreeMap<&'a str, &'a Subset>,
}

impl<'a> Rules<'a> {
    pub(super) fn subset(&self, name: &str) -> Option<&'a Subset> {
        self.subsets.get(name).copied()
    }

    /// The TLS settings for a port, and whether connections are to be HTTP/2: a subset's come before the rule's, and in either those of
    /// the port take the place of the others as a whole.
    pub(super) fn settings(&self, subset: Option<&'a Subset>, port: u16) -> (Option<&'a ClientTls>, bool) {
        let (mut tls, mut pool) = (None, None);
        for policy in [self.policy, subset.and_then(|subset| subset.traffic_policy.as_ref())].into_iter().flatten() {
            tls = policy.tls.as_ref().or(tls);
            pool = policy.connection_pool.as_ref().or(pool);
            if let Some(level) = policy.port_level_settings.iter().find(|level| level.port == Some(port)) {
                (tls, pool) = (level.tls.as_ref(), level.connection_pool.as_ref());
            }
        }
        let upgrade = pool.and_then(|pool| pool.http.as_ref()).map(|http| http.h2_upgrade_policy);
        (tls, upgrade == Some(H2UpgradePolicy::Upgrade))
    }

    /// Whether connections to a port would have to go through a tunnel, or begin with a header of the PROXY protocol.
    pub(super) fn needs_more(&self, subset: Option<&'a Subset>) -> bool {
        let of_subset = subset.and_then(|subset| subset.traffic_policy.as_ref());
        let mut policies = [self.policy, of_subset].into_iter().flatten();
        policies.any(|policy| policy.tunnel.is_some() || policy.proxy_protocol.is_some())
    }
}

/// All of them.
pub(super) struct Registry<'a> {
    pub(super) world: &'a World<'a>,
    resolved: &'a Resolved,
    entries: BTreeMap<&'a str, &'a ServiceEntry>,
    rules: BTreeMap<&'a str, Vec<(Arc<str>, &'a DestinationRule)>>,
    pods: BTreeMap<(&'a str, &'a str), &'a Pod>,
    addresses: BTreeMap<IpAddr, &'a Pod>,
    workloads: BTreeMap<&'a str, Vec<&'a WorkloadEntry>>,
    /// Names whose addresses are needed.
    pub(super) names: BTreeSet<Arc<str>>,
}

impl<'a> Registry<'a> {
    pub(super) fn new(world: &'a World<'a>, resolved: &'a Resolved) -> Self {
        let objects = world.objects;
        let mut of_age: Vec<_> = objects.service_entries().collect();
        of_age.sort_by_cached_key(|entry| age(&entry.meta));
        let mut entries = BTreeMap::new();
        for entry in of_age.into_iter().filter(|of| of.export_to.reaches(&of.meta.namespace, NAMESPACE)) {
            for host in &entry.hosts {
                entries.entry(&**host).or_insert(&**entry);
            }
        }
        let mut of_age: Vec<_> = objects.destination_rules().collect();
        of_age.sort_by_cached_key(|rule| age(&rule.meta));
        let mut rules: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for rule in of_age {
            let home = &*rule.meta.namespace;
            // One for workloads is for none of the gate's.
            if rule.export_to.reaches(home, NAMESPACE) && rule.workload_selector.is_none() {
                rules.entry(home).or_default().push((full_name(&rule.host, home), &**rule));
            }
        }
        let (mut pods, mut addresses) = (BTreeMap::new(), BTreeMap::new());
        for pod in objects.pods() {
            pods.insert((&*pod.meta.namespace, &*pod.meta.name), &**pod);
            addresses.extend(pod.pod_ips.iter().map(|address| (*address, &**pod)));
        }
        let mut workloads: BTreeMap<&str, Vec<&WorkloadEntry>> = BTreeMap::new();
        for entry in objects.workload_entries() {
            workloads.entry(&entry.meta.namespace).or_default().push(entry);
        }
        Self { world, resolved, entries, rules, pods, addresses, workloads, names: BTreeSet::new() }
    }

    /// The service of a full host name.
    pub(super) fn find(&self, host: &str) -> Option<Found<'a>> {
        if let Some((name, namespace)) = host.strip_suffix(DOMAIN).and_then(|host| host.split_once('.'))
            && let Some(service) = self.world.service(namespace, name)
        {
            return Some(Found::Kubernetes(service));
        }
        self.entries.get(host).copied().map(Found::Entry)
    }

    /// The rules for a host: those of the gate's namespace, else those of the service's.
    pub(super) fn rules(&self, host: &str, found: Found<'a>) -> Rules<'a> {
        let home = match found {
            Found::Kubernetes(service) => &*service.meta.namespace,
            Found::Entry(entry) => &*entry.meta.namespace,
        };
        for namespace in [NAMESPACE, home] {
            let all = self.rules.get(namespace).map_or(&[][..], Vec::as_slice);
            let exact = all.iter().any(|(of, _)| &**of == host);
            let covering = all.iter().map(|(of, _)| of).filter(|of| covers(of, host)).max_by_key(|of| of.len());
            let best = if exact { Some(host) } else { covering.map(|of| &**of) };
            let Some(best) = best else { continue };
            let mut rules = Rules::default();
            for (_, rule) in all.iter().filter(|(of, _)| &**of == best) {
                rules.policy = rules.policy.or(rule.traffic_policy.as_ref());
                for subset in &rule.subsets {
                    rules.subsets.entry(&subset.name).or_insert(subset);
                }
            }
            return rules;
        }
        Rules::default()
    }

    /// The endpoints of a service's port.
    pub(super) fn instances(&mut self, found: Found<'a>, port: Port<'a>) -> Vec<Instance<'a>> {
        match (found, port) {
            (Found::Kubernetes(service), Port::Kubernetes(port)) => self.of_kubernetes(service, port),
            (Found::Entry(entry), Port::Entry(port)) => self.of_entry(entry, port),
            (Found::Kubernetes(_) | Found::Entry(_), _) => Vec::new(),
        }
    }

    fn of_kubernetes(&self, service: &'a Service, port: &ServicePort) -> Vec<Instance<'a>> {
        let namespace = &*service.meta.namespace;
        let mut out = BTreeMap::new();
        for slice in self.world.slices(namespace, &service.meta.name) {
            let named = |of: &&strait_api::SlicePort| {
                *of.name == *port.name.as_deref().unwrap_or_default() && of.protocol == Protocol::Tcp
            };
            let Some(number) = slice.ports.iter().find(named).and_then(|port| port.port) else { continue };
            for of in slice.endpoints.iter().filter(|of| of.ready) {
                let Some(address) = of.addresses.first() else { continue };
                let named = of.target_pod.as_deref().and_then(|name| self.pods.get(&(namespace, name)));
                let pod = named.or_else(|| self.addresses.get(address)).copied();
                let endpoint = Endpoint { address: *address, port: number };
                out.insert(endpoint.clone(), of_pod(endpoint, pod));
            }
        }
        // Machines that a service selects are its endpoints as pods are.
        if !service.selector.0.is_empty() {
            for entry in self.workloads.get(namespace).into_iter().flatten() {
                let Some(WorkloadAddress::Ip(address)) = entry.workload.address else { continue };
                if selects(&service.selector, entry) {
                    let by_name = port.name.as_ref().and_then(|name| entry.workload.ports.get(name)).copied();
                    let number = match &port.target_port {
                        strait_api::PortRef::Number(number) => *number,
                        strait_api::PortRef::Name(_) => port.port,
                    };
                    let endpoint = Endpoint { address, port: by_name.unwrap_or(number) };
                    out.insert(endpoint.clone(), of_machine(endpoint, entry));
                }
            }
        }
        out.into_values().collect()
    }

    fn of_entry(&mut self, entry: &'a ServiceEntry, port: &'a EntryPort) -> Vec<Instance<'a>> {
        let target = port.target_port.unwrap_or(port.number);
        let namespace = &*entry.meta.namespace;
        if let Some(selector) = &entry.workload_selector {
            let mut out = Vec::new();
            for of in self.workloads.get(namespace).into_iter().flatten().filter(|of| selects(selector, of)) {
                if let Some(WorkloadAddress::Ip(address)) = of.workload.address {
                    let number = of.workload.ports.get(&port.name).copied().unwrap_or(target);
                    out.push(of_machine(Endpoint { address, port: number }, of));
                }
            }
            let pods = self.pods.values().filter(|pod| &*pod.meta.namespace == namespace);
            for pod in pods.filter(|pod| selector.iter().all(|(key, value)| pod.meta.labels.get(key) == Some(value))) {
                if let Some(address) = pod.pod_ips.first() {
                    out.push(of_pod(Endpoint { address: *address, port: target }, Some(pod)));
                }
            }
            return out;
        }
        let mut out = Vec::new();
        match entry.resolution {
            // Where a client wanted to go is not known, and is the gate itself.
            Resolution::None | Resolution::DynamicDns => {}
            Resolution::Static | Resolution::Dns | Resolution::DnsRoundRobin => {
                for workload in &entry.endpoints {
                    let number = workload.ports.get(&port.name).copied().unwrap_or(target);
                    self.of_workload(workload, number, entry.resolution, namespace, &mut out);
                }
                if entry.endpoints.is_empty() && entry.resolution != Resolution::Static {
                    for host in entry.hosts.iter().filter(|host| !host.starts_with('*')) {
                        let all = self.resolve(host, entry.resolution);
                        let instance = |address| Instance {
                            endpoint: Endpoint { address, port: target },
                            labels: None,
                            account: None,
                        };
                        out.extend(all.into_iter().map(instance));
                    }
                }
            }
        }
        out
    }

    fn of_workload(
        &mut self,
        workload: &'a Workload,
        port: u16,
        by: Resolution,
        namespace: &'a str,
        out: &mut Vec<Instance<'a>>,
    ) {
        let addresses = match &workload.address {
            Some(WorkloadAddress::Ip(address)) => vec![*address],
            Some(WorkloadAddress::Name(name)) => self.resolve(name, by),
            Some(WorkloadAddress::Unix(_)) | None => Vec::new(),
        };
        let account = workload.service_account.as_deref().map(|account| (namespace, account));
        let labels = Some(&workload.labels);
        out.extend(addresses.into_iter().map(|address| Instance {
            endpoint: Endpoint { address, port },
            labels,
            account,
        }));
    }

    fn resolve(&mut self, name: &Arc<str>, by: Resolution) -> Vec<IpAddr> {
        self.names.insert(Arc::clone(name));
        let all = self.resolved.get(name).cloned().unwrap_or_default();
        let most = if by == Resolution::DnsRoundRobin { 1 } else { all.len() };
        all.into_iter().take(most).collect()
    }
}

fn of_pod(endpoint: Endpoint, pod: Option<&Pod>) -> Instance<'_> {
    let account = pod.map(|pod| (&*pod.meta.namespace, &*pod.spec.service_account_name));
    Instance { endpoint, labels: pod.map(|pod| &pod.meta.labels), account }
}

fn of_machine(endpoint: Endpoint, entry: &WorkloadEntry) -> Instance<'_> {
    let account = entry.workload.service_account.as_deref().map(|account| (&*entry.meta.namespace, account));
    Instance { endpoint, labels: Some(&entry.workload.labels), account }
}

/// Whether a selector selects a machine, by the labels of its spec or of the object.
fn selects(selector: &Labels, entry: &WorkloadEntry) -> bool {
    let has = |(key, value): (&str, &str)| {
        entry.workload.labels.get(key).or_else(|| entry.meta.labels.get(key)) == Some(value)
    };
    selector.iter().all(has)
}

impl<'a> Found<'a> {
    /// The port of a number; without one the only port, or the one of the listener's number.
    pub(super) fn port(self, number: Option<u16>, listener: u16) -> Option<Port<'a>> {
        match self {
            Self::Kubernetes(service) => {
                let tcp = || service.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
                let only = tcp().next().filter(|_| number.is_none() && tcp().count() == 1);
                let wanted = number.unwrap_or(listener);
                only.or_else(|| tcp().find(|port| port.port == wanted)).map(Port::Kubernetes)
            }
            Self::Entry(entry) => {
                let only = entry.ports.first().filter(|_| number.is_none() && entry.ports.len() == 1);
                let wanted = number.unwrap_or(listener);
                only.or_else(|| entry.ports.iter().find(|port| port.number == wanted)).map(Port::Entry)
            }
        }
    }
}

impl Port<'_> {
    pub(super) fn number(self) -> u16 {
        match self {
            Self::Kubernetes(port) => port.port,
            Self::Entry(port) => port.number,
        }
    }

    /// What is spoken, by `appProtocol` or else the name.
    pub(super) fn protocol(self) -> BackendProtocol {
        match self {
            Self::Kubernetes(port) if port.app_protocol.is_some() => backends::protocol(port).unwrap_or_default(),
            Self::Kubernetes(port) => {
                let name = port.name.as_deref().unwrap_or_default();
                let protocol = name.split_once('-').map_or(name, |(protocol, _)| protocol);
                if matches!(protocol, "http2" | "grpc") { BackendProtocol::Http2 } else { BackendProtocol::Http1 }
            }
            Self::Entry(port) => match port.protocol {
                PortProtocol::Http2 | PortProtocol::Grpc => BackendProtocol::Http2,
                PortProtocol::Http
                | PortProtocol::Https
                | PortProtocol::GrpcWeb
                | PortProtocol::Mongo
                | PortProtocol::Redis
                | PortProtocol::Mysql
                | PortProtocol::Tcp
                | PortProtocol::Tls => BackendProtocol::Http1,
            },
        }
    }
}
