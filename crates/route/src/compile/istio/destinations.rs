//! Destinations to back ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use strait_api::{
    ObjectKey,
    istio::{ClientTls, ClientTlsMode, Destination},
};

use super::{
    Trouble, TroubleKind,
    registry::{Found, Instance, Port, Registry, full_name},
    secrets,
};
use crate::{
    compile::backends::Backends,
    plan::{Authorities, Backend, BackendId, BackendProtocol, BackendTls},
};

/// The gate's identity in a mesh, as Citadel named the secret of a service account.
const IDENTITY: &str = "istio.istio-ingressgateway-service-account";

/// A host, a port and a subset.
type Key = (Arc<str>, u16, Option<Arc<str>>);

/// Back ends by what leads to them.
pub(super) struct Destinations<'a> {
    pub(super) registry: Registry<'a>,
    known: BTreeMap<Key, (BackendId, Option<String>)>,
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

impl<'a> Destinations<'a> {
    pub(super) fn new(registry: Registry<'a>) -> Self {
        Self { registry, known: BTreeMap::new() }
    }

    /// The back end of a destination that the namespace `home` names; one that leads nowhere has no endpoints, which is a 503. Without a
    /// port it is the service's only one, or the listener's.
    pub(super) fn backend(
        &mut self,
        to: &Destination,
        (home, listener): (&str, u16),
        backends: &mut Backends,
        (object, troubles): (&ObjectKey, &mut Vec<Trouble>),
    ) -> BackendId {
        let host = full_name(&to.host, home);
        let key = (Arc::clone(&host), to.port.unwrap_or(listener), to.subset.clone());
        let (id, missing) = if let Some(known) = self.known.get(&key) {
            known.clone()
        } else {
            let (backend, missing) = self.cluster(&host, to, listener, backends);
            let made = (backends.add(backend), missing);
            self.known.insert(key, made.clone());
            made
        };
        if let Some(message) = missing {
            let (object, location) = (object.clone(), to.location.clone());
            troubles.push(Trouble { kind: TroubleKind::Missing, object, location, message });
        }
        id
    }

    fn cluster(
        &mut self,
        host: &Arc<str>,
        to: &Destination,
        listener: u16,
        backends: &mut Backends,
    ) -> (Backend, Option<String>) {
        let number = to.port.unwrap_or(listener);
        let subset = to.subset.as_deref().unwrap_or_default();
        let nowhere = |(namespace, service): (Arc<str>, Arc<str>), why: String| {
            let backend = Backend {
                name: format!("outbound|{number}|{subset}|{host}").into(),
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
        let Some(found) = self.registry.find(host) else {
            let why = format!("there is no service {host}: requests get a 503");
            return nowhere(("".into(), Arc::clone(host)), why);
        };
        let named = match found {
            Found::Kubernetes(service) => (Arc::clone(&service.meta.namespace), Arc::clone(&service.meta.name)),
            Found::Entry(entry) => (Arc::clone(&entry.meta.namespace), Arc::clone(host)),
        };
        let Some(port) = found.port(to.port, listener) else {
            return nowhere(named, format!("{host} has no port {number}: requests get a 503"));
        };
        let rules = self.registry.rules(host, found);
        let of_subset = to.subset.as_ref().map(|name| (name, rules.subset(name)));
        if let Some((name, None)) = of_subset {
            let why = format!("no DestinationRule for {host} has a subset {name}: requests get a 503");
            return nowhere(named, why);
        }
        let name = subset;
        let subset = of_subset.and_then(|(_, subset)| subset);
        let mut instances = self.registry.instances(found, port);
        if let Some(subset) = subset {
            instances.retain(|instance| instance.has(&subset.labels));
        }
        let (settings, upgrade) = rules.settings(subset, port.number());
        let spoken = port.protocol();
        let protocol = if upgrade && spoken == BackendProtocol::Http1 { BackendProtocol::Http2 } else { spoken };
        let tls = settings.and_then(|tls| self.tls(tls, host, (found, port), &instances, backends));
        let closed = rules
            .needs_more(subset)
            .then(|| format!("connections to {host} would need a tunnel or the PROXY protocol: requests get a 503"));
        let (namespace, service) = named;
        backend(Cluster { namespace, service, port: port.number(), protocol, tls, instances, closed }, name, host)
    }

    /// How TLS is spoken; none where it is not.
    fn tls(
        &self,
        of: &ClientTls,
        host: &Arc<str>,
        (found, _): (Found<'a>, Port<'a>),
        instances: &[Instance<'_>],
        backends: &mut Backends,
    ) -> Option<Result<BackendTls, String>> {
        let home = match found {
            Found::Kubernetes(service) => &*service.meta.namespace,
            Found::Entry(entry) => &*entry.meta.namespace,
        };
        let world = self.registry.world;
        let files = [&of.client_certificate, &of.private_key, &of.ca_certificates, &of.ca_crl];
        let (credential, own) = match of.mode {
            ClientTlsMode::Disable => return None,
            ClientTlsMode::Simple => (of.credential_name.as_deref(), false),
            ClientTlsMode::Mutual => (of.credential_name.as_deref(), true),
            ClientTlsMode::IstioMutual => (Some(IDENTITY), true),
        };
        if files.iter().any(|file| file.is_some()) {
            return Some(Err(format!("certificates for {host} are in files, which are not read")));
        }
        let client_certificate = match credential.filter(|_| own).map(|name| secrets::certificate(name, home, world)) {
            Some(Err(why)) => return Some(Err(format!("{why}, for connections to {host}"))),
            Some(Ok(certificate)) => Some(backends.certificates.add(certificate)),
            None => None,
        };
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
        let hostname = of.sni.clone().unwrap_or_else(|| Arc::clone(host));
        Some(Ok(BackendTls { hostname, authorities: Some(authorities), host_names, uris, client_certificate }))
    }
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
