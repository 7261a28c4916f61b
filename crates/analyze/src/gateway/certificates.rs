//! Certificates of listeners: whether they are valid now, and for the listener's hostname.

use strait_api::{Kind, Listener, Object, ObjectMeta, TlsMode};
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::{FromDer as _, Pem},
};

use super::Gateways;
use crate::{Report, codes, finding::ObjectRef, place::At};

pub(super) fn check(gateways: &Gateways<'_>, report: &mut Report<'_>) {
    for gateway in gateways.objects.gateways() {
        for listener in &gateway.listeners {
            self::listener(gateways, Kind::Gateway, &gateway.meta, listener, report);
        }
    }
    for set in gateways.objects.listener_sets() {
        for listener in &set.listeners {
            self::listener(gateways, Kind::ListenerSet, &set.meta, listener, report);
        }
    }
}

fn listener(gateways: &Gateways<'_>, kind: Kind, meta: &ObjectMeta, listener: &Listener, report: &mut Report<'_>) {
    let Some(tls) = listener.tls.as_ref().filter(|tls| tls.mode == TlsMode::Terminate) else { return };
    let object = ObjectRef::new(kind, meta);
    let mut names = Vec::new();
    let mut read = 0;
    for reference in &tls.certificates {
        let namespace = reference.namespace.as_ref().unwrap_or(&meta.namespace);
        let secret = format!("{namespace}/{}", reference.name);
        let Some(Object::Secret(found)) = gateways.object(Kind::Secret, namespace, &reference.name) else { continue };
        let Some(pem) = found.data.get("tls.crt").and_then(|bytes| Pem::iter_from_buffer(bytes).flatten().next())
        else {
            continue;
        };
        let Ok((_, certificate)) = X509Certificate::from_der(&pem.contents) else { continue };
        read += 1;
        names.extend(self::names(&certificate));
        let validity = certificate.validity();
        let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        let (when, verb) = if until < gateways.now {
            (&validity.not_after, "expired on")
        } else if from > gateways.now {
            (&validity.not_before, "is not valid before")
        } else {
            continue;
        };
        let message = format!("the certificate in Secret {secret} {verb} {when}: clients refuse it");
        let at = At::new(&reference.location);
        report.add(&codes::CERTIFICATE_EXPIRED, &object, &at, message, "renew the certificate");
    }
    // Where one could not be read, it may be the one for the hostname.
    let Some(hostname) = listener.hostname.as_deref().filter(|_| read > 0 && read == tls.certificates.len()) else {
        return;
    };
    if !names.iter().any(|name| covers(name, hostname)) {
        let listed = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
        let message =
            format!("no certificate of the listener is for {hostname} (they have {listed}): clients refuse them");
        let at = At::new(&listener.location).field("hostname");
        report.add(
            &codes::CERTIFICATE_HOSTNAME,
            &object,
            &at,
            message,
            "issue one for that name, or correct the hostname",
        );
    }
}

/// The DNS names that a certificate is for.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.into_iter().flat_map(|names| &names.value.general_names);
    names
        .filter_map(|name| if let GeneralName::DNSName(name) = name { Some(name.to_ascii_lowercase()) } else { None })
        .collect()
}

/// Whether a certificate's name is for a listener's hostname, or for a part of what it covers.
fn covers(name: &str, hostname: &str) -> bool {
    match (name.strip_prefix("*."), hostname.strip_prefix("*.")) {
        (None, None) => name == hostname,
        // A wildcard stands for one label.
        (Some(parent), None) => hostname.split_once('.').is_some_and(|(_, rest)| rest == parent),
        (None, Some(parent)) => name.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.')),
        (Some(of), Some(parent)) => of == parent || of.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.')),
    }
}
