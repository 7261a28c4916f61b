//! Where references to back ends lead.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::json;
use strait_api::{
    BackendReference, BackendTlsPolicy, GATEWAY_GROUP, Kind, ObjectKey, Service, ServicePort, ServiceType,
    SubjectAltName,
};
use strait_base::Protocol;

use super::{
    GATEWAY_VERSION,
    certificates::Certificates,
    tls, traffic,
    world::{self, Name, World},
};
use crate::{
    plan::{Authorities, Backend, BackendId, BackendProtocol, BackendTls, CertificateId, Endpoint},
    slots::{Filled, Slots},
    status::{Condition, Status, conditions},
};

/// What a back end is known by: namespace, service, port, what is spoken, and the certificate that is shown to it.
type Key = (Arc<str>, Arc<str>, u16, Protocol, BackendProtocol, Option<CertificateId>);

/// The back ends and certificates that are in use, each once.
#[derive(Default)]
pub(super) struct Backends {
    all: Filled<Backend>,
    by_key: BTreeMap<Key, BackendId>,
    /// By number: what it is known by, and how many references lead to it.
    known: BTreeMap<BackendId, (Key, u32)>,
    pub(super) certificates: Certificates,
    /// Gateways by policy that they reach back ends under, and how many references do.
    ancestors: BTreeMap<Name, BTreeMap<Name, u32>>,
    /// The same of policies of traffic.
    traffic_ancestors: BTreeMap<Name, BTreeMap<Name, u32>>,
    /// What the route at hand led to so far.
    uses: Uses,
    /// Whether some policy has other gateways than before.
    pub(super) other_ancestors: bool,
}

/// What the references of a route led to: to be given back when the route is another.
#[derive(Default)]
pub(super) struct Uses {
    backends: Vec<BackendId>,
    /// Services that are named, whether they are there or not.
    pub(super) services: BTreeSet<Name>,
    /// Other namespaces that something is referred to in.
    pub(super) namespaces: BTreeSet<Arc<str>>,
    /// Policies and the gateways that they are reached from.
    policies: Vec<(Name, Name)>,
    traffic_policies: Vec<(Name, Name)>,
}

/// Who refers: the kind and namespace of a route, over which protocol, for which gateway.
#[derive(Clone, Copy)]
pub(super) struct Referrer<'a> {
    pub(super) kind: &'a str,
    pub(super) namespace: &'a str,
    pub(super) protocol: Protocol,
    pub(super) gateway: (&'a Arc<str>, &'a Arc<str>),
    pub(super) client_certificate: Option<CertificateId>,
}

impl Backends {
    pub(super) const fn slots(&self) -> &Slots<Backend> {
        self.all.slots()
    }

    pub(super) fn get(&self, id: BackendId) -> Option<&Backend> {
        self.all.get(id)
    }

    /// What was led to since the last call.
    pub(super) fn take_uses(&mut self) -> Uses {
        std::mem::take(&mut self.uses)
    }

    /// Gives back what a route led to. Back ends that nothing leads to any more are gone.
    pub(super) fn release(&mut self, uses: Uses) {
        for id in uses.backends {
            let Some((key, count)) = self.known.get_mut(&id) else { continue };
            *count -= 1;
            if *count == 0 {
                self.by_key.remove(key);
                self.known.remove(&id);
                self.all.free(id);
            }
        }
        for (all, of) in [(&mut self.ancestors, uses.policies), (&mut self.traffic_ancestors, uses.traffic_policies)] {
            for (policy, gateway) in of {
                let Some(gateways) = all.get_mut(&policy) else { continue };
                if let Some(count) = gateways.get_mut(&gateway) {
                    *count -= 1;
                    if *count == 0 {
                        gateways.remove(&gateway);
                        self.other_ancestors = true;
                    }
                }
                if gateways.is_empty() {
                    all.remove(&policy);
                }
            }
        }
    }

    /// Looks at the endpoints of a service again.
    pub(super) fn endpoints_changed(&mut self, service: &Name, world: &World<'_>) {
        let from = (Arc::clone(&service.0), Arc::clone(&service.1), 0, Protocol::Tcp, BackendProtocol::Http1, None);
        let of_service = self.by_key.range(from..).take_while(|(key, _)| (&key.0, &key.1) == (&service.0, &service.1));
        for (key, id) in of_service {
            let (Some(backend), Some(of)) = (self.all.get(*id), world.service(&service.0, &service.1)) else {
                continue;
            };
            let Some(port) = of.ports.iter().find(|port| port.port == key.2 && port.protocol == key.3) else {
                continue;
            };
            let endpoints = endpoints(of, port, world);
            if endpoints != backend.endpoints {
                let backend = Backend { endpoints, ..backend.clone() };
                self.all.replace(*id, backend);
            }
        }
    }

    /// The back end that a reference leads to.
    ///
    /// # Errors
    /// The `ResolvedRefs` condition of the route.
    pub(super) fn resolve(
        &mut self,
        reference: &BackendReference,
        by: Referrer<'_>,
        world: &World<'_>,
    ) -> Result<BackendId, Condition> {
        let target = &reference.target;
        let namespace = target.namespace.as_deref().unwrap_or(by.namespace);
        if namespace != by.namespace {
            self.uses.namespaces.insert(namespace.into());
        }
        self.uses.services.insert((namespace.into(), Arc::clone(&target.name)));
        if !target.group.is_empty() || &*target.kind != "Service" {
            let message = format!("{} {} is no Service", target.kind, target.name);
            return Err(Condition::no("InvalidKind", message));
        }
        if !world.permits((GATEWAY_GROUP, by.kind, by.namespace), target, namespace) {
            let message = format!("no ReferenceGrant in {namespace} permits Service {namespace}/{}", target.name);
            return Err(Condition::no("RefNotPermitted", message));
        }
        let missing = |what: String| Condition::no("BackendNotFound", what);
        let Some(service) = world.service(namespace, &target.name) else {
            return Err(missing(format!("there is no Service {namespace}/{}", target.name)));
        };
        if service.service_type == ServiceType::ExternalName {
            return Err(missing(format!(
                "Service {namespace}/{} is of type ExternalName, which is not followed",
                target.name
            )));
        }
        let number = reference.port.unwrap_or_default();
        let of_protocol = |port: &&ServicePort| port.port == number && port.protocol == by.protocol;
        let Some(port) = service.ports.iter().find(of_protocol) else {
            return Err(missing(format!("Service {namespace}/{} has no port {number}/{}", target.name, by.protocol)));
        };
        let protocol = protocol(port).ok_or_else(|| {
            let spoken = port.app_protocol.as_deref().unwrap_or_default();
            Condition::no(
                "UnsupportedProtocol",
                format!("the appProtocol {spoken} of Service {namespace}/{} is not spoken", target.name),
            )
        })?;
        // Calls are HTTP/2, whatever the service says of others.
        let protocol = if by.kind == Kind::GrpcRoute.as_str() { BackendProtocol::Http2 } else { protocol };
        Ok(self.backend(service, port, protocol, by, world))
    }

    /// Adds a back end that nothing else leads to.
    pub(super) fn add(&mut self, backend: Backend) -> BackendId {
        self.all.add(backend)
    }

    /// Puts another back end in the place of one that was added.
    pub(super) fn replace(&mut self, id: BackendId, backend: Backend) {
        self.all.replace(id, backend);
    }

    /// Takes one out that was added.
    pub(super) fn remove(&mut self, id: BackendId) {
        self.all.free(id);
    }

    fn backend(
        &mut self,
        service: &Service,
        port: &ServicePort,
        protocol: BackendProtocol,
        by: Referrer<'_>,
        world: &World<'_>,
    ) -> BackendId {
        let (namespace, name) = (&service.meta.namespace, &service.meta.name);
        let policy = if port.protocol == Protocol::Tcp { policy(service, port, world) } else { None };
        let gateway = || (Arc::clone(by.gateway.0), Arc::clone(by.gateway.1));
        // Those that another one wins over, and those for a port that there is not, have something to say as well.
        for policy in world.tls_policies(namespace, name).iter().filter(|policy| concerns(policy, service, port)) {
            let (policy, gateway) = (world::name(&policy.meta), gateway());
            self.other_ancestors |= count(&mut self.ancestors, &policy, &gateway);
            self.uses.policies.push((policy, gateway));
        }
        for policy in world.traffic_policies(namespace, name) {
            let (policy, gateway) = (world::name(&policy.meta), gateway());
            self.other_ancestors |= count(&mut self.traffic_ancestors, &policy, &gateway);
            self.uses.traffic_policies.push((policy, gateway));
        }
        let client_certificate = by.client_certificate.filter(|_| policy.is_some());
        let key = (Arc::clone(namespace), Arc::clone(name), port.port, port.protocol, protocol, client_certificate);
        if let Some(known) = self.by_key.get(&key).copied() {
            if let Some((_, count)) = self.known.get_mut(&known) {
                *count += 1;
            }
            self.uses.backends.push(known);
            return known;
        }
        let traffic = traffic::policy(service, world);
        let index = self.all.add(Backend {
            name: format!("{namespace}/{name}:{}", port.port).into(),
            namespace: Arc::clone(namespace),
            service: Arc::clone(name),
            endpoints: endpoints(service, port, world),
            protocol,
            tls: policy.map(|policy| backend_tls(policy, client_certificate, world)),
            retry_budget: traffic.and_then(|policy| policy.retry_constraint),
            session: traffic.and_then(|policy| traffic::session(policy).ok().flatten()),
        });
        self.by_key.insert(key.clone(), index);
        self.known.insert(index, (key, 1));
        self.uses.backends.push(index);
        index
    }

    /// The statuses of policies that some gateway goes by, or that are wrong.
    pub(super) fn policy_statuses(&self, world: &World<'_>, now: &str) -> Vec<Status> {
        let statuses = world.index.tls_policies.values().filter_map(|policy| {
            let key = world::name(&policy.meta);
            let conflict = conflicts_with(policy, world);
            let ancestors = self.ancestors.get(&key)?;
            let (authorities, wrong) = policy_authorities(policy, world);
            let accepted = match (conflict, &wrong) {
                (Some(other), _) => Condition::no("Conflicted", format!("{} was there first", other.meta.name)),
                (None, _) if !policy.options.is_empty() => {
                    let option = policy.options.keys().next().map_or("", |option| option);
                    Condition::no("Invalid", format!("the option {option} is not known"))
                }
                (None, Some(wrong)) if authorities.is_none() => {
                    Condition::no("NoValidCACertificate", Arc::clone(&wrong.message))
                }
                (None, _) if !attaches(policy, world) => {
                    Condition::no("TargetNotFound", "its targets have no port of that name")
                }
                (None, _) => Condition::yes("Accepted"),
            };
            let resolved = wrong.unwrap_or_else(|| Condition::yes("ResolvedRefs"));
            let conditions =
                conditions(&[("Accepted", &accepted), ("ResolvedRefs", &resolved)], policy.meta.generation, now);
            let ancestors = traffic::of_gateways(ancestors, &conditions);
            let object = ObjectKey { kind: Kind::BackendTlsPolicy, namespace: key.0, name: key.1 };
            Some(Status { object, api_version: GATEWAY_VERSION, status: json!({"ancestors": ancestors}) })
        });
        statuses.chain(traffic::statuses(world, &self.traffic_ancestors, now)).collect()
    }
}

/// Counts a reference by which a gateway reaches what is under a policy; whether it is the first.
fn count(all: &mut BTreeMap<Name, BTreeMap<Name, u32>>, policy: &Name, gateway: &Name) -> bool {
    let count = all.entry(policy.clone()).or_default().entry(gateway.clone()).or_default();
    *count += 1;
    *count == 1
}

/// What the port speaks, by `appProtocol` (GEP-1911).
pub(super) fn protocol(port: &ServicePort) -> Option<BackendProtocol> {
    match port.app_protocol.as_deref() {
        Some("kubernetes.io/ws" | "kubernetes.io/wss" | "ws" | "wss") => Some(BackendProtocol::WebSocket),
        Some("kubernetes.io/h2c" | "h2c" | "http2" | "grpc") => Some(BackendProtocol::Http2),
        Some(other) if other.starts_with("kubernetes.io/") => None,
        // Names of IANA and of others that say nothing about how a gate should speak.
        _ => Some(BackendProtocol::Http1),
    }
}

/// The ready endpoints of a service's port, each once.
fn endpoints(service: &Service, port: &ServicePort, world: &World<'_>) -> Vec<Endpoint> {
    let slices = world.slices(&service.meta.namespace, &service.meta.name);
    let mut all = BTreeSet::new();
    for slice in slices {
        let named = |of: &&strait_api::SlicePort| {
            *of.name == *port.name.as_deref().unwrap_or_default() && of.protocol == port.protocol
        };
        let Some(number) = slice.ports.iter().find(named).and_then(|port| port.port) else { continue };
        for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.ready) {
            // The addresses of one endpoint are fungible.
            all.extend(endpoint.addresses.first().map(|address| Endpoint { address: *address, port: number }));
        }
    }
    all.into_iter().collect()
}

/// The policy for a service's port: one that names the port before one that does not, the older before the younger.
fn policy<'a>(service: &Service, port: &ServicePort, world: &World<'a>) -> Option<&'a Arc<BackendTlsPolicy>> {
    let all = world.tls_policies(&service.meta.namespace, &service.meta.name);
    let names = |policy: &&Arc<BackendTlsPolicy>, section: Option<&str>| {
        let name = &service.meta.name;
        policy.targets.iter().any(|target| target.name == *name && target.section_name.as_deref() == section)
    };
    let by_port = all.iter().filter(|policy| port.name.is_some() && names(policy, port.name.as_deref()));
    by_port
        .min_by_key(|policy| age(policy))
        .or_else(|| all.iter().filter(|policy| names(policy, None)).min_by_key(|policy| age(policy)))
}

/// Whether a policy names the port, the service as a whole, or a port that the service does not have.
fn concerns(policy: &BackendTlsPolicy, service: &Service, port: &ServicePort) -> bool {
    port.protocol == Protocol::Tcp
        && policy.targets.iter().filter(|target| target.name == service.meta.name).any(|target| {
            let section = target.section_name.as_deref();
            section.is_none() || section == port.name.as_deref() || !has_port(service, section)
        })
}

fn has_port(service: &Service, name: Option<&str>) -> bool {
    name.is_none() || service.ports.iter().any(|port| port.name.as_deref() == name)
}

/// Whether a policy has a target that exists.
fn attaches(policy: &BackendTlsPolicy, world: &World<'_>) -> bool {
    policy.targets.iter().any(|target| {
        let service = world.service(&policy.meta.namespace, &target.name);
        service.is_some_and(|service| has_port(service, target.section_name.as_deref()))
    })
}

fn age(policy: &BackendTlsPolicy) -> (i64, Arc<str>, Arc<str>) {
    let meta = &policy.meta;
    (meta.created.unwrap_or(i64::MAX), Arc::clone(&meta.namespace), Arc::clone(&meta.name))
}

/// The older policy that has the same target.
fn conflicts_with<'a>(policy: &Arc<BackendTlsPolicy>, world: &World<'a>) -> Option<&'a Arc<BackendTlsPolicy>> {
    policy.targets.iter().find_map(|target| {
        let others = world.tls_policies(&policy.meta.namespace, &target.name).iter();
        let same = |other: &&Arc<BackendTlsPolicy>| {
            !Arc::ptr_eq(other, policy)
                && age(other) < age(policy)
                && other.targets.iter().any(|of| of.name == target.name && of.section_name == target.section_name)
        };
        others.filter(same).min_by_key(|other| age(other))
    })
}

fn policy_authorities(policy: &BackendTlsPolicy, world: &World<'_>) -> (Option<Authorities>, Option<Condition>) {
    if policy.system_ca_certificates {
        return (Some(Authorities::System), None);
    }
    let from = (GATEWAY_GROUP, "BackendTLSPolicy", &*policy.meta.namespace);
    let (pem, wrong) = tls::authorities(&policy.ca_certificates, from, world);
    ((!pem.is_empty()).then(|| Authorities::Pem(pem.into())), wrong)
}

fn backend_tls(policy: &BackendTlsPolicy, client_certificate: Option<CertificateId>, world: &World<'_>) -> BackendTls {
    let (mut host_names, mut uris) = (Vec::new(), Vec::new());
    for name in &policy.subject_alt_names {
        match name {
            SubjectAltName::Hostname(host) => host_names.push(Arc::clone(host)),
            SubjectAltName::Uri(uri) => uris.push(Arc::clone(uri)),
        }
    }
    // What an option asks for that is not known cannot be kept: nothing is sent.
    let authorities = if policy.options.is_empty() { policy_authorities(policy, world).0 } else { None };
    BackendTls { hostname: Arc::clone(&policy.hostname), authorities, host_names, uris, client_certificate }
}
