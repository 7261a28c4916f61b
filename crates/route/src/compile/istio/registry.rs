//! Services by host name, Kubernetes' own and those of service entries, and the rules for what goes to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::Bound,
    sync::Arc,
};

use strait_api::{
    Kind, Object, ObjectKey, Pod, Service, ServicePort, ServiceType,
    istio::{
        ClientTls, DestinationRule, EntryPort, H2UpgradePolicy, MeshLocation, PortProtocol, Resolution, ServiceEntry,
        Subset, TrafficPolicy, WorkloadAddress, WorkloadEntry,
    },
};
use strait_base::{Labels, Protocol};

use super::{Age, NAMESPACE, Resolved, age};
use crate::{
    compile::{
        backends,
        world::{self, ByName, Name, World},
    },
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
    /// Whether it speaks the TLS of a mesh, as its labels say.
    pub(super) fn is_of_mesh(&self) -> bool {
        self.labels.and_then(|own| own.get("security.istio.io/tlsMode")) == Some("istio")
    }

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
    pub(super) fn subsets(&self) -> impl Iterator<Item = &'a Subset> {
        self.subsets.values().copied()
    }

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

/// All of them, by what leads to them; brought up to date object by object.
#[derive(Default)]
pub(super) struct Registry {
    /// Service entries that the gate may see, by host, the older first.
    entries: BTreeMap<Arc<str>, BTreeMap<Age, Arc<ServiceEntry>>>,
    entry_of: BTreeMap<Name, Arc<ServiceEntry>>,
    /// Destination rules that the gate may see, by namespace, then by the full name of their host, the older first.
    rules: ByName<BTreeMap<Age, Arc<DestinationRule>>>,
    rule_of: BTreeMap<Name, Arc<DestinationRule>>,
    pods: ByName<Arc<Pod>>,
    addresses: BTreeMap<IpAddr, BTreeSet<Name>>,
    machines: ByName<Arc<WorkloadEntry>>,
}

/// What of the registry is another: destinations that depend on it are looked at again.
#[derive(Default)]
pub(super) struct Touched {
    /// Of services and rules.
    pub(super) hosts: BTreeSet<Arc<str>>,
    /// Of rules, with `*`.
    pub(super) wildcards: BTreeSet<Arc<str>>,
    /// Namespaces of pods, and their addresses.
    pub(super) pods: BTreeSet<Arc<str>>,
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Namespaces of workload entries.
    pub(super) machines: BTreeSet<Arc<str>>,
    /// Names of secrets and config maps.
    pub(super) credentials: BTreeSet<Arc<str>>,
    /// Names that have other addresses.
    pub(super) names: BTreeSet<Arc<str>>,
}

impl Touched {
    /// Whether something is another that only a look at every destination can tell the users of.
    pub(super) fn is_wide(&self) -> bool {
        !(self.wildcards.is_empty()
            && self.pods.is_empty()
            && self.machines.is_empty()
            && self.credentials.is_empty()
            && self.names.is_empty())
    }

    /// Whether a secret or config map is another that a credential may be in.
    pub(super) fn has_credential(&self, name: &str) -> bool {
        let name = name.strip_prefix("kubernetes://").unwrap_or(name);
        !self.credentials.is_empty()
            && (self.credentials.contains(name) || self.credentials.contains(&*format!("{name}-cacert")))
    }
}

/// Takes the value of a name out, and tidies up.
fn take_out<T>(map: &mut ByName<T>, name: &Name) -> Option<T> {
    let of = map.get_mut(&name.0)?;
    let out = of.remove(&name.1);
    if of.is_empty() {
        map.remove(&name.0);
    }
    out
}

impl Registry {
    /// Takes an object in that is new, another or gone; adds what depends on it.
    pub(super) fn take(&mut self, key: &ObjectKey, now: Option<&Object>, touched: &mut Touched) {
        let own = (Arc::clone(&key.namespace), Arc::clone(&key.name));
        match (key.kind, now) {
            (Kind::Service, _) => _ = touched.hosts.insert(host_of(&own)),
            (Kind::Secret | Kind::ConfigMap, _) => _ = touched.credentials.insert(own.1),
            (Kind::ServiceEntry, Some(Object::ServiceEntry(now))) => self.entry(own, Some(now), touched),
            (Kind::ServiceEntry, _) => self.entry(own, None, touched),
            (Kind::DestinationRule, Some(Object::DestinationRule(now))) => self.rule(own, Some(now), touched),
            (Kind::DestinationRule, _) => self.rule(own, None, touched),
            (Kind::Pod, Some(Object::Pod(now))) => self.pod(&own, Some(now), touched),
            (Kind::Pod, _) => self.pod(&own, None, touched),
            (Kind::WorkloadEntry, now) => {
                take_out(&mut self.machines, &own);
                if let Some(Object::WorkloadEntry(now)) = now {
                    self.machines.entry(Arc::clone(&own.0)).or_default().insert(own.1, Arc::clone(now));
                }
                touched.machines.insert(own.0);
            }
            _ => {}
        }
    }

    fn entry(&mut self, own: Name, now: Option<&Arc<ServiceEntry>>, touched: &mut Touched) {
        if let Some(before) = self.entry_of.remove(&own) {
            for host in &before.hosts {
                if let Some(all) = self.entries.get_mut(host) {
                    all.remove(&age(&before.meta));
                    if all.is_empty() {
                        self.entries.remove(host);
                    }
                }
                touched.hosts.insert(Arc::clone(host));
            }
        }
        if let Some(now) = now.filter(|now| now.export_to.reaches(&own.0, NAMESPACE)) {
            for host in &now.hosts {
                self.entries.entry(Arc::clone(host)).or_default().insert(age(&now.meta), Arc::clone(now));
                touched.hosts.insert(Arc::clone(host));
            }
            self.entry_of.insert(own, Arc::clone(now));
        }
    }

    fn rule(&mut self, own: Name, now: Option<&Arc<DestinationRule>>, touched: &mut Touched) {
        let mut touch = |host: Arc<str>| {
            let of = if host.starts_with('*') { &mut touched.wildcards } else { &mut touched.hosts };
            of.insert(host);
        };
        if let Some(before) = self.rule_of.remove(&own) {
            let of = (Arc::clone(&own.0), full_name(&before.host, &own.0));
            if let Some(all) = self.rules.get_mut(&of.0).and_then(|all| all.get_mut(&of.1)) {
                all.remove(&age(&before.meta));
                if all.is_empty() {
                    take_out(&mut self.rules, &of);
                }
            }
            touch(of.1);
        }
        // One for workloads is for none of the gate's.
        let is_seen = |rule: &&Arc<DestinationRule>| {
            rule.export_to.reaches(&own.0, NAMESPACE) && rule.workload_selector.is_none()
        };
        if let Some(now) = now.filter(is_seen) {
            let host = full_name(&now.host, &own.0);
            let of = self.rules.entry(Arc::clone(&own.0)).or_default().entry(Arc::clone(&host)).or_default();
            of.insert(age(&now.meta), Arc::clone(now));
            touch(host);
            self.rule_of.insert(own, Arc::clone(now));
        }
    }

    fn pod(&mut self, own: &Name, now: Option<&Arc<Pod>>, touched: &mut Touched) {
        let before = take_out(&mut self.pods, own);
        let of =
            |pod: &Arc<Pod>| (pod.meta.labels.clone(), Arc::clone(&pod.spec.service_account_name), pod.pod_ips.clone());
        if before.as_ref().map(of) != now.map(of) {
            touched.pods.insert(Arc::clone(&own.0));
            touched.addresses.extend(before.iter().chain(now).flat_map(|pod| &pod.pod_ips).copied());
        }
        for address in before.iter().flat_map(|pod| &pod.pod_ips) {
            if let Some(pods) = self.addresses.get_mut(address) {
                pods.remove(own);
                if pods.is_empty() {
                    self.addresses.remove(address);
                }
            }
        }
        if let Some(now) = now {
            for address in &now.pod_ips {
                self.addresses.entry(*address).or_default().insert(own.clone());
            }
            self.pods.entry(Arc::clone(&own.0)).or_default().insert(Arc::clone(&own.1), Arc::clone(now));
        }
    }

    fn pod_of(&self, namespace: &str, name: &str) -> Option<&Arc<Pod>> {
        self.pods.get(namespace)?.get(name)
    }

    fn pod_at(&self, address: IpAddr) -> Option<&Arc<Pod>> {
        let (namespace, name) = self.addresses.get(&address)?.last()?;
        self.pod_of(namespace, name)
    }
}

/// The host name of a service of Kubernetes'.
pub(super) fn host_of((namespace, name): &Name) -> Arc<str> {
    format!("{name}.{namespace}{DOMAIN}").into()
}

/// Whether a service of Kubernetes' is visible to the gate: its annotation says so as `exportTo` of Istio's own objects does.
fn is_exported(service: &Service) -> bool {
    let Some(namespaces) = service.meta.annotations.get("networking.istio.io/exportTo") else { return true };
    let mut names = namespaces.split(',').map(str::trim);
    names.any(|name| matches!(name, "*" | NAMESPACE) || (name == "." && &*service.meta.namespace == NAMESPACE))
}

/// What destinations are looked up in.
#[derive(Clone, Copy)]
pub(super) struct Mesh<'a> {
    pub(super) world: World<'a>,
    pub(super) registry: &'a Registry,
    pub(super) resolved: &'a Resolved,
}

impl<'a> Mesh<'a> {
    /// The service of a full host name.
    pub(super) fn find(&self, host: &str) -> Option<Found<'a>> {
        if let Some((name, namespace)) = host.strip_suffix(DOMAIN).and_then(|host| host.split_once('.'))
            && let Some(service) = self.world.service(namespace, name)
            && is_exported(service)
        {
            return Some(Found::Kubernetes(service));
        }
        let oldest = self.registry.entries.get(host).and_then(|all| all.values().next());
        oldest.map(|entry| Found::Entry(entry))
    }

    /// The hosts of all services, those that are not visible to the gate included.
    pub(super) fn hosts(&self) -> impl Iterator<Item = Arc<str>> {
        let of = |service: &Arc<Service>| host_of(&world::name(&service.meta));
        self.world.objects.services().map(of).chain(self.registry.entries.keys().cloned())
    }

    /// The rules for a host: those of the gate's namespace, else those of the service's.
    pub(super) fn rules(&self, host: &str, found: Found<'a>) -> Rules<'a> {
        for namespace in [NAMESPACE, found.namespace()] {
            let Some(all) = self.registry.rules.get(namespace) else { continue };
            let wildcards =
                all.range::<str, _>((Bound::Included("*"), Bound::Unbounded)).take_while(|(of, _)| of.starts_with('*'));
            let covering = || wildcards.filter(|(of, _)| covers(of, host)).max_by_key(|(of, _)| of.len());
            let Some(best) = all.get(host).or_else(|| covering().map(|(_, rules)| rules)) else { continue };
            let mut rules = Rules::default();
            for rule in best.values() {
                rules.policy = rules.policy.or(rule.traffic_policy.as_ref());
                for subset in &rule.subsets {
                    rules.subsets.entry(&subset.name).or_insert(subset);
                }
            }
            return rules;
        }
        Rules::default()
    }

    /// The endpoints of a service's port. Adds the names that they are behind.
    pub(super) fn instances(
        self,
        found: Found<'a>,
        port: Port<'a>,
        names: &mut BTreeSet<Arc<str>>,
    ) -> Vec<Instance<'a>> {
        match (found, port) {
            (Found::Kubernetes(service), Port::Kubernetes(port)) => self.of_kubernetes(service, port),
            (Found::Entry(entry), Port::Entry(port)) => self.of_entry(entry, port, names),
            (Found::Kubernetes(_) | Found::Entry(_), _) => Vec::new(),
        }
    }

    fn machines(&self, namespace: &str) -> impl Iterator<Item = &'a Arc<WorkloadEntry>> {
        self.registry.machines.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    fn of_kubernetes(self, service: &'a Service, port: &ServicePort) -> Vec<Instance<'a>> {
        let namespace = &*service.meta.namespace;
        let mut out = BTreeMap::new();
        for slice in self.world.slices(namespace, &service.meta.name) {
            let named = |of: &&strait_api::SlicePort| {
                *of.name == *port.name.as_deref().unwrap_or_default() && of.protocol == Protocol::Tcp
            };
            let Some(number) = slice.ports.iter().find(named).and_then(|port| port.port) else { continue };
            for of in slice.endpoints.iter().filter(|of| of.ready) {
                let Some(address) = of.addresses.first() else { continue };
                let named = of.target_pod.as_deref().and_then(|name| self.registry.pod_of(namespace, name));
                let pod = named.or_else(|| self.registry.pod_at(*address)).map(|pod| &**pod);
                let endpoint = Endpoint { address: *address, port: number };
                out.insert(endpoint.clone(), of_pod(endpoint, pod));
            }
        }
        // Machines that a service selects are its endpoints as pods are.
        if !service.selector.0.is_empty() {
            for entry in self.machines(namespace) {
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

    fn of_entry(
        self,
        entry: &'a ServiceEntry,
        port: &'a EntryPort,
        names: &mut BTreeSet<Arc<str>>,
    ) -> Vec<Instance<'a>> {
        let target = port.target_port.unwrap_or(port.number);
        let namespace = &*entry.meta.namespace;
        if let Some(selector) = &entry.workload_selector {
            let mut out = Vec::new();
            for of in self.machines(namespace).filter(|of| selects(selector, of)) {
                if let Some(WorkloadAddress::Ip(address)) = of.workload.address {
                    let number = of.workload.ports.get(&port.name).copied().unwrap_or(target);
                    out.push(of_machine(Endpoint { address, port: number }, of));
                }
            }
            let pods = self.registry.pods.get(namespace).into_iter().flat_map(BTreeMap::values);
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
                    let addresses = match &workload.address {
                        Some(WorkloadAddress::Ip(address)) => vec![*address],
                        Some(WorkloadAddress::Name(name)) => self.resolve(name, entry.resolution, names),
                        Some(WorkloadAddress::Unix(_)) | None => Vec::new(),
                    };
                    let account = workload.service_account.as_deref().map(|account| (namespace, account));
                    let labels = Some(&workload.labels);
                    let instance = |address| Instance { endpoint: Endpoint { address, port: number }, labels, account };
                    out.extend(addresses.into_iter().map(instance));
                }
                if entry.endpoints.is_empty() && entry.resolution != Resolution::Static {
                    for host in entry.hosts.iter().filter(|host| !host.starts_with('*')) {
                        let all = self.resolve(host, entry.resolution, names);
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

    fn resolve(self, name: &Arc<str>, by: Resolution, names: &mut BTreeSet<Arc<str>>) -> Vec<IpAddr> {
        names.insert(Arc::clone(name));
        let all = self.resolved.get(name).map_or(&[][..], Vec::as_slice);
        let most = if by == Resolution::DnsRoundRobin { 1 } else { all.len() };
        all.iter().take(most).copied().collect()
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
    /// That of the service.
    pub(super) fn namespace(self) -> &'a Arc<str> {
        match self {
            Self::Kubernetes(service) => &service.meta.namespace,
            Self::Entry(entry) => &entry.meta.namespace,
        }
    }

    /// Whether it is part of the mesh, and not merely known to it.
    pub(super) fn is_of_the_mesh(&self) -> bool {
        match self {
            Self::Kubernetes(service) => service.service_type != ServiceType::ExternalName,
            Self::Entry(entry) => entry.mesh == MeshLocation::MeshInternal,
        }
    }

    /// The numbers of its ports for connections.
    pub(super) fn ports(self) -> Vec<u16> {
        match self {
            Self::Kubernetes(service) => {
                let tcp = service.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
                tcp.map(|port| port.port).collect()
            }
            Self::Entry(entry) => entry.ports.iter().map(|port| port.number).collect(),
        }
    }

    /// Whether workload entries can be among its endpoints, and whether pods are selected as such.
    pub(super) fn selects(self) -> (bool, bool) {
        match self {
            Self::Kubernetes(service) => (!service.selector.0.is_empty(), false),
            Self::Entry(entry) => (entry.workload_selector.is_some(), entry.workload_selector.is_some()),
        }
    }

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
