//! Certificates and authorities, as secrets and config maps hold them.

use std::sync::Arc;

use strait_api::{GATEWAY_GROUP, ListenerTls, ObjectReference};

use super::{certificates::Certificates, world::World};
use crate::{
    plan::{Certificate, CertificateId},
    status::Condition,
};

/// The certificates of a listener, those that can be had, and what is wrong with the others.
pub(super) fn listener_certificates(
    tls: &ListenerTls,
    (kind, home): (&str, &str),
    world: &World<'_>,
    certificates: &mut Certificates,
) -> (Vec<CertificateId>, Option<Condition>) {
    let (mut found, mut wrong) = (Vec::new(), None);
    for reference in &tls.certificates {
        match certificate(reference, (GATEWAY_GROUP, kind, home), world) {
            Ok(certificate) => found.push(certificates.add(certificate)),
            Err(condition) => wrong = Some(condition),
        }
    }
    (found, wrong)
}

/// The certificate that `reference` leads to, for an object of group, kind and namespace.
pub(super) fn certificate(
    reference: &ObjectReference,
    from: (&str, &str, &str),
    world: &World<'_>,
) -> Result<Certificate, Condition> {
    let invalid = |why: String| Condition::no("InvalidCertificateRef", why);
    let namespace = reference.namespace.as_deref().unwrap_or(from.2);
    if !reference.group.is_empty() || &*reference.kind != "Secret" {
        return Err(invalid(format!("{} {} is no Secret", reference.kind, reference.name)));
    }
    let name: Arc<str> = format!("{namespace}/{}", reference.name).into();
    if !world.permits(from, reference, namespace) {
        return Err(Condition::no(
            "RefNotPermitted",
            format!("no ReferenceGrant in {namespace} permits Secret {name}"),
        ));
    }
    let secret =
        world.secret(namespace, &reference.name).ok_or_else(|| invalid(format!("there is no Secret {name}")))?;
    let part = |key: &str, allowed: &[&str]| -> Result<Arc<[u8]>, Condition> {
        let bytes = secret.data.get(key).ok_or_else(|| invalid(format!("Secret {name} has no {key}")))?;
        let blocks = pem::parse_many(bytes).unwrap_or_default();
        let valid = blocks.iter().any(|block| allowed.contains(&block.tag()) && !block.contents().is_empty());
        if valid {
            Ok(bytes.as_slice().into())
        } else {
            Err(invalid(format!("{key} of Secret {name} is no PEM of {}", allowed[0])))
        }
    };
    let chain = part("tls.crt", &["CERTIFICATE"])?;
    let key = part("tls.key", &["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"])?;
    Ok(Certificate { name, chain, key })
}

/// The authorities that references lead to, as one PEM, and what is wrong with those that lead nowhere.
pub(super) fn authorities(
    references: &[ObjectReference],
    from: (&str, &str, &str),
    world: &World<'_>,
) -> (Vec<u8>, Option<Condition>) {
    let (mut all, mut wrong) = (Vec::new(), None);
    for reference in references {
        match authority(reference, from, world) {
            Ok(bytes) => {
                all.extend_from_slice(&bytes);
                all.push(b'\n');
            }
            Err(condition) => wrong = Some(condition),
        }
    }
    (all, wrong)
}

fn authority(reference: &ObjectReference, from: (&str, &str, &str), world: &World<'_>) -> Result<Vec<u8>, Condition> {
    let namespace = reference.namespace.as_deref().unwrap_or(from.2);
    let (kind, name) = (&*reference.kind, &*reference.name);
    if !reference.group.is_empty() || !matches!(kind, "ConfigMap" | "Secret") {
        return Err(Condition::no("InvalidKind", format!("{kind} {name} is neither a ConfigMap nor a Secret")));
    }
    if !world.permits(from, reference, namespace) {
        let message = format!("no ReferenceGrant in {namespace} permits {kind} {namespace}/{name}");
        return Err(Condition::no("RefNotPermitted", message));
    }
    let invalid = |why: String| Condition::no("InvalidCACertificateRef", why);
    let bytes = if kind == "ConfigMap" {
        world.config_map(namespace, name).and_then(|map| map.data.get("ca.crt")).map(|text| text.as_bytes().to_vec())
    } else {
        world.secret(namespace, name).and_then(|secret| secret.data.get("ca.crt")).cloned()
    };
    let bytes = bytes.ok_or_else(|| invalid(format!("there is no {kind} {namespace}/{name} with ca.crt")))?;
    let valid = pem::parse_many(&bytes).unwrap_or_default().iter().any(|block| block.tag() == "CERTIFICATE");
    if valid {
        Ok(bytes)
    } else {
        Err(invalid(format!("ca.crt of {kind} {namespace}/{name} is no PEM of a CERTIFICATE")))
    }
}
