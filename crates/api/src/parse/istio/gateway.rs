//! `Gateway`.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    super::{
        decode::{Decoder, Fields},
        gateway_values::{bounded, lower, twice},
        report::ErrorKind,
        text::Fault,
        tree::Node,
        values as names,
    },
    values::{choice, flag, is_wildcard_host, label_strings, maybe, not_enforced, protocol, text, texts, unenforced},
};
use crate::types::{
    Object, ObjectMeta,
    istio::{
        CertificateFiles, Gateway, GatewayPort, PortProtocol, Server, ServerHost, ServerTls, ServerTlsMode, TlsVersion,
    },
};

/// Files of a proxy mean nothing to a gate that has none.
const FILES: &str = "files of the gate are not read: name a secret with credentialName";

pub(in super::super) fn gateway(
    d: &mut Decoder<'_>,
    root: &mut Fields<'_>,
    meta: Option<ObjectMeta>,
) -> Option<Object> {
    let spec = d.required(root, "spec", "an object with servers", |d, node| {
        let mut fields = d.fields(node)?;
        let selector = label_strings(d, &mut fields, "selector");
        let mut ports = BTreeSet::new();
        let servers = bounded(d, &mut fields, "servers", (1, 256), |d, node| {
            let server = server(d, node)?;
            if !ports.insert(Arc::clone(&server.port.name)) {
                twice(d, node, &server.port.name, "each name of a port once in a gateway");
            }
            Some(server)
        });
        d.close(&fields, &[]);
        Some((selector, servers))
    });
    let (selector, servers) = spec?;
    Some(Object::IstioGateway(Arc::new(Gateway { meta: meta?, selector, servers })))
}

fn server(d: &mut Decoder<'_>, node: &Node) -> Option<Server> {
    let location = d.location(node.at);
    let before = d.errors.len();
    let mut fields = d.fields(node)?;
    let name = maybe(d, &mut fields, "name");
    let port = d.required(&mut fields, "port", "an object with number, protocol and name", port);
    let bind = maybe(d, &mut fields, "bind");
    not_enforced(d, &mut fields, "bind", "the gate listens on its gateway's address of the pool, not on this one");
    let hosts = bounded(d, &mut fields, "hosts", (1, 1024), host);
    let tls = d.optional(&mut fields, "tls", server_tls);
    let default_endpoint = maybe(d, &mut fields, "defaultEndpoint");
    not_enforced(d, &mut fields, "defaultEndpoint", "nothing is forwarded to it");
    d.close(&fields, &[]);
    let port = port?;
    if d.errors.len() > before {
        return None;
    }
    match &tls {
        None if port.protocol.is_tls() => {
            d.missing(node.at, "tls", &format!("an object: the port's protocol is {}", port.protocol));
        }
        Some(tls) if tls.https_redirect && !port.protocol.is_http() => {
            let fault = Fault::new(node.at, ErrorKind::Value, "tls.httpsRedirect", "httpsRedirect on a port for HTTP");
            d.fault(fault.remedy("redirect on the port that is plain, or remove it"));
        }
        Some(tls) if !tls.https_redirect && !port.protocol.is_tls() && *tls != ServerTls::default() => {
            let found = format!("tls on a port for {}", port.protocol);
            d.fault(Fault::new(node.at, ErrorKind::Value, found, "tls where the protocol is HTTPS or TLS"));
        }
        None | Some(_) => {}
    }
    Some(Server { name, port, bind, hosts, tls, default_endpoint, location })
}

fn port(d: &mut Decoder<'_>, node: &Node) -> Option<GatewayPort> {
    let mut fields = d.fields(node)?;
    let number = d.required(&mut fields, "number", "a port, 1-65535", Decoder::port);
    let spoken = d.required(&mut fields, "protocol", "a protocol, as HTTP", protocol);
    let name = d.required(&mut fields, "name", "a name", text);
    // Of before, and without effect upstream.
    d.close(&fields, &["targetPort"]);
    let protocol: PortProtocol = spoken?;
    Some(GatewayPort { number: number?, protocol, name: name? })
}

fn host(d: &mut Decoder<'_>, node: &Node) -> Option<ServerHost> {
    let text = d.string(node)?;
    let (namespace, host) = match text.split_once('/') {
        Some((namespace, host)) => (Some(namespace), host),
        None => (None, &*text),
    };
    let named = namespace.is_none_or(|name| matches!(name, "*" | ".") || names::label_1123(name).is_ok());
    if !named || !is_wildcard_host(host) {
        d.refuse(node, "a host, perhaps with \"*.\" before it, or NAMESPACE/HOST, ./HOST or */HOST");
        return None;
    }
    let namespace = namespace.filter(|name| *name != "*").map(Arc::from);
    Some(ServerHost { namespace, host: lower(host.into()) })
}

const MODES: [(&str, ServerTlsMode); 6] = [
    ("PASSTHROUGH", ServerTlsMode::Passthrough),
    ("SIMPLE", ServerTlsMode::Simple),
    ("MUTUAL", ServerTlsMode::Mutual),
    ("AUTO_PASSTHROUGH", ServerTlsMode::AutoPassthrough),
    ("ISTIO_MUTUAL", ServerTlsMode::IstioMutual),
    ("OPTIONAL_MUTUAL", ServerTlsMode::OptionalMutual),
];

const VERSIONS: [(&str, TlsVersion); 5] = [
    ("TLS_AUTO", TlsVersion::Auto),
    ("TLSV1_0", TlsVersion::V1_0),
    ("TLSV1_1", TlsVersion::V1_1),
    ("TLSV1_2", TlsVersion::V1_2),
    ("TLSV1_3", TlsVersion::V1_3),
];

fn server_tls(d: &mut Decoder<'_>, node: &Node) -> Option<ServerTls> {
    let before = d.errors.len();
    let mut fields = d.fields(node)?;
    let tls = ServerTls {
        https_redirect: flag(d, &mut fields, "httpsRedirect"),
        mode: choice(d, &mut fields, "mode", &MODES).unwrap_or_default(),
        server_certificate: maybe(d, &mut fields, "serverCertificate"),
        private_key: maybe(d, &mut fields, "privateKey"),
        ca_certificates: maybe(d, &mut fields, "caCertificates"),
        ca_crl: maybe(d, &mut fields, "caCrl"),
        credential_name: maybe(d, &mut fields, "credentialName"),
        credential_names: bounded(d, &mut fields, "credentialNames", (0, 2), text),
        ca_cert_credential_name: maybe(d, &mut fields, "caCertCredentialName"),
        tls_certificates: bounded(d, &mut fields, "tlsCertificates", (0, 2), files),
        subject_alt_names: texts(d, &mut fields, "subjectAltNames"),
        verify_certificate_spki: texts(d, &mut fields, "verifyCertificateSpki"),
        verify_certificate_hash: texts(d, &mut fields, "verifyCertificateHash"),
        min_protocol_version: choice(d, &mut fields, "minProtocolVersion", &VERSIONS).unwrap_or_default(),
        max_protocol_version: choice(d, &mut fields, "maxProtocolVersion", &VERSIONS).unwrap_or_default(),
        cipher_suites: texts(d, &mut fields, "cipherSuites"),
        insecure_skip_verify: flag(d, &mut fields, "insecureSkipVerify"),
    };
    for name in ["serverCertificate", "privateKey", "caCertificates", "tlsCertificates"] {
        not_enforced(d, &mut fields, name, FILES);
    }
    for name in ["caCrl", "verifyCertificateSpki", "verifyCertificateHash"] {
        not_enforced(d, &mut fields, name, "clients' certificates are not checked against it: no client is let in");
    }
    not_enforced(d, &mut fields, "cipherSuites", "the suites are those of rustls, whatever is named here");
    d.close(&fields, &[]);
    if d.errors.len() == before {
        check(d, node, &tls);
    }
    Some(tls)
}

fn files(d: &mut Decoder<'_>, node: &Node) -> Option<CertificateFiles> {
    let mut fields = d.fields(node)?;
    let server_certificate = maybe(d, &mut fields, "serverCertificate");
    let private_key = maybe(d, &mut fields, "privateKey");
    let ca_certificates = maybe(d, &mut fields, "caCertificates");
    d.close(&fields, &[]);
    if server_certificate.is_none() || private_key.is_none() {
        d.fault(Fault::new(node.at, ErrorKind::Missing, node.found(), "serverCertificate and privateKey"));
    }
    Some(CertificateFiles { server_certificate, private_key, ca_certificates })
}

/// What goes together, and what a mode needs.
fn check(d: &mut Decoder<'_>, node: &Node, tls: &ServerTls) {
    let mut refuse = |found: &str, allowed: &str| {
        d.fault(Fault::new(node.at, ErrorKind::Value, found, allowed));
    };
    let files = tls.server_certificate.is_some() || tls.private_key.is_some();
    let ways =
        [files, tls.credential_name.is_some(), !tls.credential_names.is_empty(), !tls.tls_certificates.is_empty()];
    let given = ways.iter().filter(|given| **given).count();
    if given > 1 {
        refuse(
            "certificates named in several ways",
            "one of credentialName, credentialNames, tlsCertificates or files",
        );
    }
    let (min, max) = (tls.min_protocol_version, tls.max_protocol_version);
    if max != TlsVersion::Auto && max < min {
        refuse("maxProtocolVersion below minProtocolVersion", "a maximum that is not below the minimum");
    }
    let secret = tls.credential_name.is_some() || !tls.credential_names.is_empty();
    let whole = tls.server_certificate.is_some() && tls.private_key.is_some() || !tls.tls_certificates.is_empty();
    match tls.mode {
        ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual
            if !secret && !whole && !tls.https_redirect =>
        {
            refuse("no certificate", "credentialName, credentialNames, tlsCertificates, or certificate and key");
        }
        ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual if !secret => {
            let authorities = tls.ca_certificates.is_some()
                || tls.ca_cert_credential_name.is_some()
                || tls.tls_certificates.iter().any(|of| of.ca_certificates.is_some());
            if !authorities {
                refuse("no authority for clients' certificates", "caCertificates, or a secret that has ca.crt");
            }
        }
        ServerTlsMode::IstioMutual if given > 0 => {
            refuse("certificates beside ISTIO_MUTUAL", "none: the mesh's are used");
        }
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough if given > 0 => {
            refuse("certificates beside a mode that passes connections through", "none: the back end has them");
        }
        ServerTlsMode::Passthrough
        | ServerTlsMode::Simple
        | ServerTlsMode::Mutual
        | ServerTlsMode::AutoPassthrough
        | ServerTlsMode::IstioMutual
        | ServerTlsMode::OptionalMutual => {}
    }
    if tls.mode == ServerTlsMode::IstioMutual {
        unenforced(d, node, "the gate has no certificates of a mesh yet: connections of this server are closed");
    }
}
