//! What stand-ins show to a gate that checks certificates.
//!
//! A pod that mounts a TLS secret of the manifests shows that certificate, and is believed or not as the policies say. Others show one
//! of an authority that is made for the run, with the names that policies for their services ask for; the gate believes it beside the
//! authorities that those policies refer to. So names and references are tried as they are, and only who signed is stood in for. A policy
//! that trusts the system's authorities is never met by a stand-in.
//!
//! To Istio's rules of mode `ISTIO_MUTUAL` the authority is the mesh's: pods behind them show the identity of their service account,
//! `spiffe://cluster.local/ns/NAMESPACE/sa/ACCOUNT`, and let no TLS client in without a certificate of the mesh, unless other rules or policies
//! speak TLS to them as well. The gate has the secret that it would have of Istio's authority.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use strait_api::{
    BackendTlsPolicy, ConfigMap, EndpointSlice, Kind, Object, ObjectKey, ObjectMeta, Objects, Pod, Secret,
    SubjectAltName,
    istio::{ClientTlsMode, DestinationRule},
};
use strait_base::{Labels, Location, Shared};
use strait_echo::{Authority, Certificate};

/// The names that a pod without a certificate of its own is to show.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Names {
    pub(super) hosts: BTreeSet<Arc<str>>,
    pub(super) uris: BTreeSet<Arc<str>>,
    /// Whether it is a workload of a mesh to some client, and whether it is reached over TLS otherwise.
    pub(super) mesh: bool,
    otherwise: bool,
}

impl Names {
    /// Whether clients have to show a certificate of the mesh.
    pub(super) const fn needs_clients(&self) -> bool {
        self.mesh && !self.otherwise
    }
}

/// The gate's identity in a mesh.
pub(super) const GATE: &str = "spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account";

/// The certificate of a TLS secret that a pod mounts.
pub(super) fn mounted(pod: &Pod, objects: &Objects) -> Option<Certificate> {
    pod.spec.secrets.iter().find_map(|name| {
        let key = ObjectKey { kind: Kind::Secret, namespace: Arc::clone(&pod.meta.namespace), name: Arc::clone(name) };
        let Some(Object::Secret(secret)) = objects.get(&key) else { return None };
        let text = |key: &str| String::from_utf8(secret.data.get(key)?.clone()).ok();
        Some(Certificate { chain: text("tls.crt")?, key: text("tls.key")? })
    })
}

/// What each address that policies and Istio's rules are about is to show.
pub(super) fn wanted(objects: &Objects, pods: &[Arc<Pod>], slices: &[Arc<EndpointSlice>]) -> BTreeMap<IpAddr, Names> {
    let mut wanted: BTreeMap<IpAddr, Names> = BTreeMap::new();
    of_mesh(objects, pods, slices, &mut wanted);
    for policy in objects.backend_tls_policies() {
        for target in &policy.targets {
            let of_service = slices.iter().filter(|slice| {
                slice.meta.namespace == policy.meta.namespace
                    && slice.meta.labels.get("kubernetes.io/service-name") == Some(&*target.name)
            });
            let (service, namespace) = (&target.name, &policy.meta.namespace);
            for address in of_service.flat_map(|slice| &slice.endpoints).flat_map(|endpoint| &endpoint.addresses) {
                let names = wanted.entry(*address).or_default();
                names.otherwise = true;
                names.hosts.insert(Arc::clone(&policy.hostname));
                names.hosts.extend([
                    Arc::clone(service),
                    format!("{service}.{namespace}.svc").into(),
                    format!("{service}.{namespace}.svc.cluster.local").into(),
                ]);
                for name in &policy.subject_alt_names {
                    match name {
                        SubjectAltName::Hostname(host) => names.hosts.insert(Arc::clone(host)),
                        SubjectAltName::Uri(uri) => names.uris.insert(Arc::clone(uri)),
                    };
                }
            }
        }
    }
    wanted
}

/// The ways of TLS that a rule asks for.
fn modes(rule: &DestinationRule) -> impl Iterator<Item = ClientTlsMode> {
    let policies = rule.traffic_policy.iter().chain(rule.subsets.iter().filter_map(|of| of.traffic_policy.as_ref()));
    let all =
        policies.flat_map(|of| of.tls.iter().chain(of.port_level_settings.iter().filter_map(|of| of.tls.as_ref())));
    all.map(|tls| tls.mode).filter(|mode| *mode != ClientTlsMode::Disable)
}

/// Whether some rule asks for the mesh's certificates.
pub(super) fn is_mesh(objects: &Objects) -> bool {
    objects.destination_rules().any(|rule| modes(rule).any(|mode| mode == ClientTlsMode::IstioMutual))
}

/// What pods behind rules of `ISTIO_MUTUAL` show.
fn of_mesh(objects: &Objects, pods: &[Arc<Pod>], slices: &[Arc<EndpointSlice>], wanted: &mut BTreeMap<IpAddr, Names>) {
    let accounts: BTreeMap<IpAddr, String> = pods
        .iter()
        .flat_map(|pod| {
            let (namespace, account) = (&pod.meta.namespace, &pod.spec.service_account_name);
            let id = format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
            pod.pod_ips.iter().map(move |address| (*address, id.clone()))
        })
        .collect();
    for rule in objects.destination_rules() {
        let modes: Vec<ClientTlsMode> = modes(rule).collect();
        if modes.is_empty() {
            continue;
        }
        for slice in slices.iter().filter(|slice| is_for(rule, slice)) {
            for address in slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses) {
                let Some(id) = accounts.get(address) else { continue };
                let names = wanted.entry(*address).or_default();
                for mode in &modes {
                    let is_mesh = *mode == ClientTlsMode::IstioMutual;
                    names.mesh |= is_mesh;
                    names.otherwise |= !is_mesh;
                }
                names.uris.insert(id.as_str().into());
            }
        }
    }
    wanted.retain(|_, names| names.mesh);
}

/// Whether a rule is for the service of a slice.
fn is_for(rule: &DestinationRule, slice: &EndpointSlice) -> bool {
    let Some(service) = slice.meta.labels.get("kubernetes.io/service-name") else { return false };
    let (namespace, host) = (&slice.meta.namespace, &*rule.host);
    let full = format!("{service}.{namespace}.svc.cluster.local");
    match host.strip_prefix('*') {
        Some(suffix) => full.ends_with(suffix),
        None if host.contains('.') => host == full,
        None => host == service && *namespace == rule.meta.namespace,
    }
}

/// The secret with the gate's certificate of the mesh, as Istio's authority would give it.
pub(super) fn identity(gate: &Certificate, authority: &Authority) -> Object {
    let data = [("cert-chain.pem", &*gate.chain), ("key.pem", &*gate.key), ("root-cert.pem", authority.pem())];
    let name = "istio.istio-ingressgateway-service-account".into();
    let meta = ObjectMeta {
        name,
        namespace: "istio-system".into(),
        labels: Labels::default(),
        annotations: Shared::default(),
        generation: 1,
        created: None,
        location: Location::new(&"strait try".into(), 1, 1),
    };
    let data = data.into_iter().map(|(name, text)| (name.into(), text.as_bytes().to_vec())).collect();
    Object::Secret(Arc::new(Secret { meta, secret_type: "istio.io/key-and-cert".into(), data }))
}

/// Makes the gate believe `authority` wherever policies refer to authorities of their own.
pub(super) fn believe(objects: &mut Objects, authority: &Authority) {
    let policies: Vec<Arc<BackendTlsPolicy>> = objects.backend_tls_policies().cloned().collect();
    let mut done = BTreeSet::new();
    for policy in policies {
        for reference in &policy.ca_certificates {
            let kind = match (&*reference.group, &*reference.kind) {
                ("", "ConfigMap") => Kind::ConfigMap,
                ("", "Secret") => Kind::Secret,
                _ => continue,
            };
            let namespace = Arc::clone(&policy.meta.namespace);
            let key = ObjectKey { kind, namespace, name: Arc::clone(&reference.name) };
            if !done.insert(key.clone()) {
                continue;
            }
            // What is no certificate stays none: the policy's status says so.
            let more = match objects.get(&key) {
                Some(Object::ConfigMap(map)) => in_map(map, authority),
                Some(Object::Secret(secret)) => in_secret(secret, authority),
                _ => None,
            };
            objects_replace(objects, more);
        }
    }
}

fn objects_replace(objects: &mut Objects, object: Option<Object>) {
    if let Some(object) = object {
        objects.replace(object);
    }
}

const KEY: &str = "ca.crt";

fn is_certificate(bytes: &[u8]) -> bool {
    pem::parse_many(bytes).is_ok_and(|blocks| blocks.iter().any(|block| block.tag() == "CERTIFICATE"))
}

fn in_map(map: &Arc<ConfigMap>, authority: &Authority) -> Option<Object> {
    let text = map.data.get(KEY).filter(|text| is_certificate(text.as_bytes()))?;
    let more = format!("{text}\n{}", authority.pem());
    let mut map = ConfigMap::clone(map);
    map.data.insert(KEY.into(), more.into());
    Some(Object::ConfigMap(Arc::new(map)))
}

fn in_secret(secret: &Arc<Secret>, authority: &Authority) -> Option<Object> {
    let bytes = secret.data.get(KEY).filter(|bytes| is_certificate(bytes))?;
    let more = [bytes.as_slice(), b"\n", authority.pem().as_bytes()].concat();
    let mut secret = Secret::clone(secret);
    secret.data.insert(KEY.into(), more);
    Some(Object::Secret(Arc::new(secret)))
}
