//! Destinations to back ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use strait_api::{
    ObjectKey,
    istio::{ClientTls, ClientTlsMode, Destination},
};
use strait_base::Location;

use super::{
    Trouble, TroubleKind,
    registry::{Found, Instance, Mesh, Touched, full_name},
    secrets,
    troubles::Troubles,
};
use crate::{
    compile::{backends::Backends, world::World},
    hosts::covers,
    plan::{Authorities, Backend, BackendId, BackendProtocol, BackendTls, CertificateId},
};

/// The gate's identity in a mesh, as Citadel named the secret of a service account.
const IDENTITY: &str = "istio.istio-ingressgateway-service-account";

/// What destinations are told apart by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// In full.
    host: Arc<str>,
    port: Option<u16>,
    /// The listener's port where none is given.
    listener: u16,
    subset: Option<Arc<str>>,
    /// Connections of a mesh that are passed on as they are: rules do not say how TLS is spoken, as it is already, and endpoints must speak it.
    is_passed_on: bool,
}

/// The object that names a destination, and where.
type User = (ObjectKey, Location);

/// A reference to a destination, to be given back.
pub(super) type Use = (Key, User);

/// Back ends by what leads to them.
#[derive(Default)]
pub(super) struct Destinations {
    known: BTreeMap<Key, Known>,
    /// How many destinations need the addresses of a name.
    by_name: BTreeMap<Arc<str>, u32>,
    /// These names.
    names: BTreeSet<Arc<str>>,
}

/// A destination that something leads to.
struct Known {
    backend: BackendId,
    needs: Needs,
    /// Why nothing is sent, for people.
    missing: Option<String>,
    /// With how often each names it.
    users: BTreeMap<User, u32>,
}

/// What a destination depends on, beside its host's service and rules.
#[derive(Default)]
struct Needs {
    /// The namespace of the service.
    home: Arc<str>,
    /// Workload entries of that namespace.
    machines: bool,
    /// Labels or accounts of pods of that namespace, and of those at these addresses.
    pods: Option<BTreeSet<IpAddr>>,
    /// Secrets.
    credential: Option<Arc<str>>,
    /// Names that endpoints are behind.
    names: BTreeSet<Arc<str>>,
    /// The gate's own, that it shows.
    certificate: Option<CertificateId>,
}

impl Needs {
    fn are_touched(&self, host: &str, by: &Touched) -> bool {
        let pods = |addresses: &BTreeSet<IpAddr>| {
            by.pods.contains(&self.home) || by.addresses.iter().any(|address| addresses.contains(address))
        };
        by.hosts.contains(host)
            || by.wildcards.iter().any(|wide| covers(wide, host))
            || (self.machines && by.machines.contains(&self.home))
            || self.pods.as_ref().is_some_and(pods)
            || self.credential.as_ref().is_some_and(|name| by.has_credential(name))
            || self.names.iter().any(|name| by.names.contains(name))
    }
}

/// What a destination comes to, before it is a back end.
struct Cluster<'a> {
    namespace: Arc<str>,
    service: Arc<str>,
    port: u16,
    protocol: BackendProtocol,
    tls: Option<Result<BackendTls, String>>,
    instances: Vec<Instance<'a>>,
    /// Why nothing is sent, if that is so.
    closed: Option<String>,
}

fn troubles<'k>(known: &'k Known) -> impl Iterator<Item = Trouble> + 'k {
    let of = |message: &'k String| known.users.keys().map(move |user| trouble(user, message));
    known.missing.iter().flat_map(of)
}

fn trouble((object, location): &User, message: &str) -> Trouble {
    let (object, location, message) = (object.clone(), location.clone(), message.to_owned());
    Trouble { kind: TroubleKind::Missing, object, location, message }
}

impl Destinations {
    /// Names whose addresses back ends need.
    pub(super) const fn names(&self) -> &BTreeSet<Arc<str>> {
        &self.names
    }

    /// The back end of a destination that the namespace `home` names; one that leads nowhere has no endpoints, which is a 503. Without a
    /// port it is the service's only one, or the listener's.
    pub(super) fn backend(
        &mut self,
        to: &Destination,
        (home, listener): (&str, u16),
        object: &ObjectKey,
        shared: (Mesh<'_>, &mut Backends, &mut Troubles),
    ) -> (BackendId, Use) {
        let listener = if to.port.is_some() { 0 } else { listener };
        let (host, subset) = (full_name(&to.host, home), to.subset.clone());
        self.of_key(Key { host, port: to.port, listener, subset, is_passed_on: false }, to, object, shared)
    }

    /// The back end that connections of a mesh are passed on to.
    pub(super) fn passed_on(
        &mut self,
        to: &Destination,
        object: &ObjectKey,
        shared: (Mesh<'_>, &mut Backends, &mut Troubles),
    ) -> (BackendId, Use) {
        let (host, subset) = (Arc::clone(&to.host), to.subset.clone());
        self.of_key(Key { host, port: to.port, listener: 0, subset, is_passed_on: true }, to, object, shared)
    }

    fn of_key(
        &mut self,
        key: Key,
        to: &Destination,
        object: &ObjectKey,
        (mesh, backends, told): (Mesh<'_>, &mut Backends, &mut Troubles),
    ) -> (BackendId, Use) {
        let user = (object.clone(), to.location.clone());
        if !self.known.contains_key(&key) {
            let mut needs = Needs::default();
            let (backend, missing) = cluster(&key, mesh, backends, &mut needs);
            self.count_names(&needs.names, true);
            let known = Known { backend: backends.add(backend), needs, missing, users: BTreeMap::new() };
            self.known.insert(key.clone(), known);
        }
        let Some(known) = self.known.get_mut(&key) else { return (BackendId::MAX, (key, user)) };
        let count = known.users.entry(user.clone()).or_default();
        *count += 1;
        if *count == 1
            && let Some(message) = &known.missing
        {
            told.add([&trouble(&user, message)]);
        }
        (known.backend, (key, user))
    }

    /// Gives back references. Back ends that nothing leads to any more are gone.
    pub(super) fn release(&mut self, uses: &[Use], backends: &mut Backends, told: &mut Troubles) {
        for (key, user) in uses {
            let Some(known) = self.known.get_mut(key) else { continue };
            let Some(count) = known.users.get_mut(user) else { continue };
            *count -= 1;
            if *count > 0 {
                continue;
            }
            known.users.remove(user);
            if let Some(message) = &known.missing {
                told.remove([&trouble(user, message)]);
            }
            if known.users.is_empty()
                && let Some(known) = self.known.remove(key)
            {
                backends.remove(known.backend);
                known.needs.certificate.into_iter().for_each(|id| backends.certificates.release(id));
                self.count_names(&known.needs.names, false);
            }
        }
    }

    /// Looks again at what depends on something that is another. Gives how many.
    pub(super) fn refresh(
        &mut self,
        by: &Touched,
        mesh: Mesh<'_>,
        backends: &mut Backends,
        told: &mut Troubles,
    ) -> usize {
        let keys: Vec<Key> = if by.is_wide() {
            let all = self.known.iter().filter(|(key, known)| known.needs.are_touched(&key.host, by));
            all.map(|(key, _)| key.clone()).collect()
        } else {
            let of_host = |host: &Arc<str>| {
                let host = Arc::clone(host);
                let first = Key { host: Arc::clone(&host), port: None, listener: 0, subset: None, is_passed_on: false };
                self.known.range(first..).map(|(key, _)| key.clone()).take_while(move |key| key.host == host)
            };
            by.hosts.iter().flat_map(of_host).collect()
        };
        for key in &keys {
            let Some(known) = self.known.get_mut(key) else { continue };
            let mut needs = Needs::default();
            let (backend, missing) = cluster(key, mesh, backends, &mut needs);
            if backends.get(known.backend) != Some(&backend) {
                backends.replace(known.backend, backend);
            }
            if known.missing != missing {
                told.remove(&troubles(known).collect::<Vec<_>>());
                known.missing = missing;
                told.add(&troubles(known).collect::<Vec<_>>());
            }
            let before = std::mem::replace(&mut known.needs, needs);
            before.certificate.into_iter().for_each(|id| backends.certificates.release(id));
            let now = known.needs.names.clone();
            self.count_names(&now, true);
            self.count_names(&before.names, false);
        }
        keys.len()
    }

    fn count_names(&mut self, names: &BTreeSet<Arc<str>>, more: bool) {
        for name in names {
            let count = self.by_name.entry(Arc::clone(name)).or_default();
            *count = if more { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                self.by_name.remove(name);
                self.names.remove(name);
            } else {
                self.names.insert(Arc::clone(name));
            }
        }
    }
}

/// What a destination comes to, and why nothing is sent where that is so.
fn cluster(key: &Key, mesh: Mesh<'_>, backends: &mut Backends, needs: &mut Needs) -> (Backend, Option<String>) {
    let Key { host, port: given, listener, subset: of_subset, is_passed_on } = key;
    let number = given.unwrap_or(*listener);
    let name = of_subset.as_deref().unwrap_or_default();
    let nowhere = |(namespace, service): (Arc<str>, Arc<str>), why: String| {
        let backend = Backend {
            name: format!("outbound|{number}|{name}|{host}").into(),
            namespace,
            service,
            endpoints: Vec::new(),
            protocol: BackendProtocol::Http1,
            tls: None,
            retry_budget: None,
            session: None,
        };
        (backend, Some(why))
    };
    let Some(found) = mesh.find(host) else {
        let why = format!("there is no service {host}: requests get a 503");
        return nowhere(("".into(), Arc::clone(host)), why);
    };
    needs.home = Arc::clone(found.namespace());
    let named = match found {
        Found::Kubernetes(service) => (Arc::clone(&service.meta.namespace), Arc::clone(&service.meta.name)),
        Found::Entry(entry) => (Arc::clone(&entry.meta.namespace), Arc::clone(host)),
    };
    let Some(port) = found.port(*given, *listener) else {
        return nowhere(named, format!("{host} has no port {number}: requests get a 503"));
    };
    let rules = mesh.rules(host, found);
    let of_subset = of_subset.as_ref().map(|name| (name, rules.subset(name)));
    if let Some((name, None)) = of_subset {
        let why = format!("no DestinationRule for {host} has a subset {name}: requests get a 503");
        return nowhere(named, why);
    }
    let subset = of_subset.and_then(|(_, subset)| subset);
    let mut instances = mesh.instances(found, port, &mut needs.names);
    let (machines, pods) = found.selects();
    needs.machines = machines;
    let (settings, upgrade) = rules.settings(subset, port.number());
    // By labels or by accounts.
    let by_identity =
        subset.is_some() || *is_passed_on || settings.is_some_and(|tls| tls.mode == ClientTlsMode::IstioMutual);
    if pods || by_identity {
        needs.pods = Some(instances.iter().map(|instance| instance.endpoint.address).collect());
    }
    if *is_passed_on {
        instances.retain(Instance::is_of_mesh);
    }
    if let Some(subset) = subset {
        instances.retain(|instance| instance.has(&subset.labels));
    }
    let spoken = port.protocol();
    let protocol = if upgrade && spoken == BackendProtocol::Http1 { BackendProtocol::Http2 } else { spoken };
    let to = (host, port.number(), name);
    let settings = settings.filter(|_| !is_passed_on);
    let tls = settings.and_then(|of| tls(of, to, found, &instances, (&mesh.world, backends, needs)));
    let closed = rules
        .needs_more(subset)
        .then(|| format!("connections to {host} would need a tunnel or the PROXY protocol: requests get a 503"));
    let (namespace, service) = named;
    backend(Cluster { namespace, service, port: port.number(), protocol, tls, instances, closed }, name, host)
}

/// How TLS is spoken; none where it is not.
fn tls(
    of: &ClientTls,
    (host, port, subset): (&Arc<str>, u16, &str),
    found: Found<'_>,
    instances: &[Instance<'_>],
    (world, backends, needs): (&World<'_>, &mut Backends, &mut Needs),
) -> Option<Result<BackendTls, String>> {
    let home = &**found.namespace();
    let files = [&of.client_certificate, &of.private_key, &of.ca_certificates, &of.ca_crl];
    let (credential, own) = match of.mode {
        ClientTlsMode::Disable => return None,
        ClientTlsMode::Simple => (of.credential_name.as_deref(), false),
        ClientTlsMode::Mutual => (of.credential_name.as_deref(), true),
        ClientTlsMode::IstioMutual => (Some(IDENTITY), true),
    };
    needs.credential = credential.map(Arc::from);
    if files.iter().any(|file| file.is_some()) {
        return Some(Err(format!("certificates for {host} are in files, which are not read")));
    }
    let client_certificate = match credential.filter(|_| own).map(|name| secrets::certificate(name, home, world)) {
        Some(Err(why)) => return Some(Err(format!("{why}, for connections to {host}"))),
        Some(Ok(certificate)) => Some(backends.certificates.add(certificate)),
        None => None,
    };
    needs.certificate = client_certificate;
    let authorities = match credential {
        _ if of.insecure_skip_verify => Authorities::Anyone,
        None => Authorities::System,
        Some(name) => match secrets::authorities(name, home, world) {
            Some(pem) => Authorities::Pem(pem),
            // A client certificate of its own says nothing of servers: they are believed as the system does.
            None if own && of.mode == ClientTlsMode::Mutual => Authorities::System,
            None => return Some(Err(format!("there are no authorities in Secret {name} for {host}"))),
        },
    };
    let mut names: Vec<Arc<str>> = of.subject_alt_names.clone();
    if names.is_empty()
        && let Found::Entry(entry) = found
    {
        names.clone_from(&entry.subject_alt_names);
    }
    if of.mode == ClientTlsMode::IstioMutual && names.is_empty() {
        names = spiffe(instances);
    }
    let (uris, host_names) = names.into_iter().partition(|name: &Arc<str>| name.contains("://"));
    // Within a mesh the server name says all that leads there: gateways that pass connections on go by it.
    let hostname = match &of.sni {
        Some(sni) => Arc::clone(sni),
        None if of.mode == ClientTlsMode::IstioMutual => sni(host, port, subset),
        None => Arc::clone(host),
    };
    Some(Ok(BackendTls { hostname, authorities: Some(authorities), host_names, uris, client_certificate }))
}

/// A destination as a server name (istiod's `BuildDNSSrvSubsetKey`).
pub(super) fn sni(host: &str, port: u16, subset: &str) -> Arc<str> {
    format!("outbound_.{port}_.{subset}_.{host}").into()
}

/// The identities of endpoints, of which a certificate must have one.
fn spiffe(instances: &[Instance<'_>]) -> Vec<Arc<str>> {
    let accounts: BTreeSet<(&str, &str)> = instances.iter().filter_map(|instance| instance.account).collect();
    let id = |(namespace, account)| format!("spiffe://cluster.local/ns/{namespace}/sa/{account}").into();
    accounts.into_iter().map(id).collect()
}

fn backend(of: Cluster<'_>, subset: &str, host: &Arc<str>) -> (Backend, Option<String>) {
    let mut missing = of.closed;
    let tls = match of.tls {
        Some(Ok(tls)) => Some(tls),
        Some(Err(why)) => {
            missing = Some(format!("{why}: requests get a 503"));
            None
        }
        None => None,
    };
    // What cannot be spoken to as its rule says is not spoken to at all.
    let instances = if missing.is_some() { Vec::new() } else { of.instances };
    let endpoints: BTreeSet<_> = instances.into_iter().map(|instance| instance.endpoint).collect();
    let backend = Backend {
        name: format!("outbound|{}|{subset}|{host}", of.port).into(),
        namespace: of.namespace,
        service: of.service,
        endpoints: endpoints.into_iter().collect(),
        protocol: of.protocol,
        tls,
        retry_budget: None,
        session: None,
    };
    (backend, missing)
}
