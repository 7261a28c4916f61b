//! Certificates and authorities by the names that Istio's objects give them.

use std::sync::Arc;

use strait_api::Secret;

use super::NAMESPACE;
use crate::{compile::world::World, plan::Certificate};

const KEYS: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];

/// The secret of a name: in the gate's namespace, as upstream has it, else in that of who names it.
fn secret<'a>(name: &str, home: &str, world: &World<'a>) -> Option<&'a Arc<Secret>> {
    let name = name.strip_prefix("kubernetes://").unwrap_or(name);
    world.secret(NAMESPACE, name).or_else(|| world.secret(home, name))
}

fn part(secret: &Secret, names: &[&str], tags: &[&str]) -> Option<Arc<[u8]>> {
    let bytes = names.iter().find_map(|name| secret.data.get(*name))?;
    let blocks = pem::parse_many(bytes).unwrap_or_default();
    let valid = blocks.iter().any(|block| tags.contains(&block.tag()) && !block.contents().is_empty());
    valid.then(|| bytes.as_slice().into())
}

/// The certificate of a credential.
///
/// # Errors
/// What is missing, for people.
pub(super) fn certificate(name: &str, home: &str, world: &World<'_>) -> Result<Certificate, String> {
    let secret =
        secret(name, home, world).ok_or_else(|| format!("there is no Secret {name} in {NAMESPACE} or {home}"))?;
    let full: Arc<str> = format!("{}/{}", secret.meta.namespace, secret.meta.name).into();
    let chain = part(secret, &["tls.crt", "cert", "cert-chain.pem"], &["CERTIFICATE"])
        .ok_or_else(|| format!("Secret {full} has no certificate in tls.crt or cert"))?;
    let key = part(secret, &["tls.key", "key", "key.pem"], &KEYS)
        .ok_or_else(|| format!("Secret {full} has no private key in tls.key or key"))?;
    Ok(Certificate { name: full, chain, key })
}

/// The authorities of a credential: in the secret itself, or in one of the same name with `-cacert` behind it.
pub(super) fn authorities(name: &str, home: &str, world: &World<'_>) -> Option<Arc<[u8]>> {
    let of = |secret: &Arc<Secret>| part(secret, &["ca.crt", "cacert", "root-cert.pem"], &["CERTIFICATE"]);
    let beside = || secret(&format!("{name}-cacert"), home, world).and_then(of);
    let in_map = || {
        let map = world.config_map(NAMESPACE, name).or_else(|| world.config_map(home, name))?;
        map.data.get("ca.crt").map(|text| text.as_bytes().into())
    };
    secret(name, home, world).and_then(of).or_else(beside).or_else(in_map)
}
