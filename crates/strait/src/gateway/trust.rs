//! What stand-ins show to a gate that checks certificates.
//!
//! A pod that mounts a TLS secret of the manifests shows that certificate, and is believed or not as the policies say. Others show one
//! of an authority that is made for the run, with the names that policies for their services ask for; the gate believes it beside the
//! authorities that those policies refer to. So names and references are tried as they are, and only who signed is stood in for. A policy
//! that trusts the system's authorities is never met by a stand-in.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use strait_api::{
    BackendTlsPolicy, ConfigMap, EndpointSlice, Kind, Object, ObjectKey, Objects, Pod, Secret, SubjectAltName,
};
use strait_echo::{Authority, Certificate};

/// The names that a pod without a certificate of its own is to show.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Names {
    pub(super) hosts: BTreeSet<Arc<str>>,
    pub(super) uris: BTreeSet<Arc<str>>,
}

/// The certificate of a TLS secret that a pod mounts.
pub(super) fn mounted(pod: &Pod, objects: &Objects) -> Option<Certificate> {
    pod.spec.secrets.iter().find_map(|name| {
        let key = ObjectKey { kind: Kind::Secret, namespace: Arc::clone(&pod.meta.namespace), name: Arc::clone(name) };
        let Some(Object::Secret(secret)) = objects.get(&key) else { return None };
        let text = |key: &str| String::from_utf8(secret.data.get(key)?.clone()).ok();
        Some(Certificate { chain: text("tls.crt")?, key: text("tls.key")? })
    })
}

/// What each address that policies are about is to show.
pub(super) fn wanted(objects: &Objects, slices: &[Arc<EndpointSlice>]) -> BTreeMap<IpAddr, Names> {
    let mut wanted: BTreeMap<IpAddr, Names> = BTreeMap::new();
    for policy in objects.backend_tls_policies() {
        for target in &policy.targets {
            let of_service = slices.iter().filter(|slice| {
                slice.meta.namespace == policy.meta.namespace
                    && slice.meta.labels.get("kubernetes.io/service-name") == Some(&*target.name)
            });
            let (service, namespace) = (&target.name, &policy.meta.namespace);
            for address in of_service.flat_map(|slice| &slice.endpoints).flat_map(|endpoint| &endpoint.addresses) {
                let names = wanted.entry(*address).or_default();
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
