//! TLS to back ends: whom a policy believes, and whom it does not.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::aws_lc_rs, pki_types::PrivateKeyDer};

use crate::{
    bed::{Gate, curl, http},
    h2_server,
};

/// A server that answers one line over TLS, with a certificate of a new authority for these names; and the authority.
fn server(names: &[SanType]) -> (SocketAddr, String) {
    let (config, authority) = certified(names);
    (serve(Arc::new(config)), authority)
}

fn certified(names: &[SanType]) -> (ServerConfig, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = names.to_vec();
    let certificate = params.signed_by(&own, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(own.serialize_der()).unwrap())
        .unwrap();
    (config, authority.pem())
}

fn serve(config: Arc<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
            let mut request = [0; 4096];
            if matches!(tls.read(&mut request), Ok(length) if length > 0) {
                let _ = tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nsafe");
                let _ = tls.flush();
            }
        }
    });
    at
}

fn manifests(at: SocketAddr, authority: &str, validation: &str) -> String {
    let pem = authority.lines().fold(String::new(), |out, line| out + "\n    " + line);
    let route = http("  - backendRefs: [{name: safe, port: 443}]\n");
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: safe}}\nspec: {{ports: [{{port: 443}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: safe-1, labels: {{kubernetes.io/service-name: safe}}}}\n\
         addressType: IPv4\nports: [{{port: {}}}]\nendpoints: [{{addresses: [{}]}}]\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ca}}\ndata:\n  ca.crt: |{pem}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{name: safe}}\nspec:\n  \
         targetRefs: [{{group: \"\", kind: Service, name: safe}}]\n  validation: {validation}\n---\n{route}",
        at.port(),
        at.ip(),
    )
}

#[test]
fn believed_by_name_and_authority() {
    const CA: &str = "caCertificateRefs: [{group: \"\", kind: ConfigMap, name: ca}]";
    let names = [
        SanType::DnsName("safe.internal".try_into().unwrap()),
        SanType::URI("spiffe://a/ns/b/sa/c".try_into().unwrap()),
    ];
    let (at, authority) = server(&names);
    let (_, other) = server(&names);
    let cases = [
        ("its name", &authority, format!("{{hostname: safe.internal, {CA}}}"), 200),
        ("another name", &authority, format!("{{hostname: other.internal, {CA}}}"), 503),
        ("another authority", &other, format!("{{hostname: safe.internal, {CA}}}"), 503),
        (
            "another of its names",
            &authority,
            format!(
                "{{hostname: other.internal, {CA}, subjectAltNames: [{{type: Hostname, hostname: safe.internal}}]}}"
            ),
            200,
        ),
        (
            "its SPIFFE id",
            &authority,
            format!(
                "{{hostname: other.internal, {CA}, subjectAltNames: [{{type: URI, uri: \"spiffe://a/ns/b/sa/c\"}}]}}"
            ),
            200,
        ),
        (
            "another SPIFFE id",
            &authority,
            format!(
                "{{hostname: safe.internal, {CA}, subjectAltNames: [{{type: URI, uri: \"spiffe://a/ns/b/sa/d\"}}]}}"
            ),
            503,
        ),
        (
            "an authority that is missing",
            &authority,
            "{hostname: safe.internal, caCertificateRefs: [{group: \"\", kind: ConfigMap, name: none}]}".into(),
            500,
        ),
    ];
    for (name, authority, validation, status) in cases {
        let gate = Gate::of(&[("all.yaml", &manifests(at, authority, &validation))]);
        let answer = curl(&[], &format!("http://{}/", gate.at("edge", 80)));
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        let text = std::fs::read_to_string(&gate.status).unwrap();
        let reason = if status == 500 { "reason: NoValidCACertificate" } else { "kind: BackendTLSPolicy" };
        assert!(text.contains(reason), "{name}: {text}");
    }
}

/// A back end chooses by ALPN what it is spoken to in.
#[test]
fn http2_where_it_is_chosen() {
    const VALIDATION: &str = "{hostname: safe.internal, caCertificateRefs: [{group: \"\", kind: ConfigMap, name: ca}]}";
    let names = [SanType::DnsName("safe.internal".try_into().unwrap())];
    let (mut config, authority) = certified(&names);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let at = h2_server::http2(Some(Arc::new(config)));
    let gate = Gate::of(&[("all.yaml", &manifests(at, &authority, VALIDATION))]);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let answer = curl(&[version, "-d", "sent back"], &format!("http://{}/", gate.at("edge", 80)));
        assert_eq!((answer.status, answer.header("x-spoken")), (200, Some("HTTP/2")), "{version}: {answer:?}");
        assert_eq!(answer.body, "sent back", "{version}");
    }
}
