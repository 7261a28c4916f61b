//! Envoy in front of the gate and behind it, over HTTP/2 with certificates of both sides.

use std::{fs, path::Path, process::Command};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use serde_json::{Value, json};

use super::{Server, envoy_program, noise, place, ran};
use crate::{
    bed::{Gate, curl},
    h2::{outside, route, to},
    h2_server,
};

const EXTENSIONS: &str = "type.googleapis.com/envoy.extensions";

/// An authority, and certificates that it signed: the gate's as a server and as a client, Envoy's as both.
fn certificates(folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // What has its issuer's name is self-signed to BoringSSL.
    params.distinguished_name.push(DnType::CommonName, "authority");
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    for name in ["gate", "gate-client", "envoy"] {
        let own = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![
            SanType::DnsName(format!("{name}.example").try_into().unwrap()),
            SanType::URI(format!("spiffe://cluster.local/ns/default/sa/{name}").try_into().unwrap()),
        ];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        fs::write(folder.join(format!("{name}.pem")), params.signed_by(&own, &issuer).unwrap().pem()).unwrap();
        fs::write(folder.join(format!("{name}.key")), own.serialize_pem()).unwrap();
    }
}

/// TLS that offers HTTP/2 alone, believes the authority, and whom it believes by name.
fn tls(folder: &Path, context: &str, name: &str) -> Value {
    let file = |name: &str| json!({ "filename": folder.join(name) });
    let mut tls = json!({
        "@type": format!("{EXTENSIONS}.transport_sockets.tls.v3.{context}"),
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_certificates": [{ "certificate_chain": file("envoy.pem"), "private_key": file("envoy.key") }],
            "validation_context": {
                "trusted_ca": file("ca.pem"),
                "match_typed_subject_alt_names": [{ "san_type": "DNS", "matcher": { "exact": name } }],
            },
        },
    });
    if context == "UpstreamTlsContext" {
        tls["sni"] = json!(name);
    } else {
        tls["require_client_certificate"] = json!(true);
    }
    json!({ "name": "tls", "typed_config": tls })
}

fn address(at: std::net::SocketAddr) -> Value {
    json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } })
}

/// Passes everything on to a cluster, and says in the answer what it was spoken to in, and by whom.
fn listener(name: &str, at: std::net::SocketAddr, tls: Option<Value>) -> Value {
    let field = |field: &str, value: &str| json!({ "header": { "key": format!("x-{name}-{field}"), "value": value } });
    let manager = json!({
        "@type": format!("{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name,
        "route_config": {
            "response_headers_to_add": [
                field("protocol", "%PROTOCOL%"), field("peer", "%DOWNSTREAM_PEER_URI_SAN%"), field("host", "%REQ(:AUTHORITY)%"),
            ],
            "virtual_hosts": [{
                "name": name, "domains": ["*"],
                "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": name, "timeout": "20s" } }],
            }],
        },
        "http_filters": [{
            "name": "router", "typed_config": { "@type": format!("{EXTENSIONS}.filters.http.router.v3.Router") },
        }],
    });
    let mut chain = json!({ "filters": [{ "name": "http", "typed_config": manager }] });
    if let Some(tls) = tls {
        chain["transport_socket"] = tls;
    }
    json!({ "name": name, "address": address(at), "filter_chains": [chain] })
}

fn cluster(name: &str, at: std::net::SocketAddr, tls: Option<Value>) -> Value {
    let mut cluster = json!({
        "name": name, "type": "STATIC", "connect_timeout": "10s",
        "load_assignment": {
            "cluster_name": name, "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(at) } }] }],
        },
        "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": format!("{EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": { "http2_protocol_options": {} },
        }},
    });
    if let Some(tls) = tls {
        cluster["transport_socket"] = tls;
    }
    cluster
}

fn manifests(folder: &Path, behind: std::net::SocketAddr) -> String {
    let read = |name: &str| {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        text.lines().fold(String::new(), |out, line| out + "\n    " + line)
    };
    let secret = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |{}\n  tls.key: |{}\n---\n",
            read(&format!("{name}.pem")),
            read(&format!("{name}.key"))
        )
    };
    let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec:\n  gatewayClassName: strait\n  \
         tls:\n    frontend: {default: {validation: {caCertificateRefs: [{group: \"\", kind: ConfigMap, name: ca}]}}}\n    \
         backend: {clientCertificateRef: {name: gate-client}}\n  listeners:\n  \
         - {name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: gate}]}}\n---\n";
    let policy = "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: envoy}\nspec:\n  \
         targetRefs: [{group: \"\", kind: Service, name: envoy}]\n  \
         validation: {hostname: envoy.example, caCertificateRefs: [{group: \"\", kind: ConfigMap, name: ca}]}\n---\n";
    let authority =
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ca}}\ndata:\n  ca.crt: |{}\n---\n", read("ca.pem"));
    let route = route("HTTPRoute", "route", &to("/", "envoy", 80));
    [gateway, policy, &authority, &secret("gate"), &secret("gate-client"), &outside("envoy", behind, ""), &route]
        .concat()
}

/// curl ─ Envoy ═ gate ═ Envoy ─ back end: both doubled lines are HTTP/2 with certificates of both sides.
#[test]
fn client_and_server() {
    let Some(program) = envoy_program() else { return };
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let (front, behind) = (place(18_100), place(18_101));
    let gate = Gate::of(&[("all.yaml", &manifests(folder.path(), behind))]);
    let configuration = json!({ "static_resources": {
        "listeners": [
            listener("front", front, None),
            listener("behind", behind, Some(tls(folder.path(), "DownstreamTlsContext", "gate-client.example"))),
        ],
        "clusters": [
            cluster("front", gate.at("edge", 443), Some(tls(folder.path(), "UpstreamTlsContext", "gate.example"))),
            cluster("behind", h2_server::http2(None), None),
        ],
    }});
    let file = folder.path().join("envoy.json");
    fs::write(&file, configuration.to_string()).unwrap();
    let mut envoy = Command::new(program);
    envoy.args(["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"]).arg(&file);
    let _envoy = Server::start(envoy, front);

    let body = noise(1_000_000);
    let (sent, got) = (folder.path().join("sent"), folder.path().join("got"));
    fs::write(&sent, &body).unwrap();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let answer = curl(&[version, "-H", "Host: a.example", "-d", "sent back"], &format!("http://{front}/x?a=b"));
        assert_eq!((answer.status, answer.body.as_str()), (200, "sent back"), "{version}: {answer:?}");
        assert_eq!(answer.header("x-behind-protocol"), Some("HTTP/2"), "{answer:?}");
        assert_eq!(
            answer.header("x-behind-peer"),
            Some("spiffe://cluster.local/ns/default/sa/gate-client"),
            "{answer:?}"
        );
        assert_eq!(answer.header("x-behind-host"), Some("a.example"), "{answer:?}");
        let mut large = Command::new("curl");
        large.args(["-s", "-S", "--fail", "--max-time", "20", version, "--data-binary"]);
        ran(large.arg(format!("@{}", sent.display())).arg("-o").arg(&got).arg(format!("http://{front}/large")));
        assert!(fs::read(&got).unwrap() == body, "{version}");
    }
    // Many at once, on few connections of HTTP/2 behind the first Envoy.
    let mut many = Command::new("curl");
    many.args([
        "-s",
        "--max-time",
        "20",
        "-Z",
        "--parallel-max",
        "20",
        "--http1.1",
        "-w",
        "%{http_code}\n",
        "-o",
        "/dev/null",
    ]);
    let text = ran(many.args(["-d", "many"]).arg(format!("http://{front}/[1-100]")));
    assert_eq!(text.lines().filter(|line| line.ends_with("200")).count(), 100, "{text}");
    // Who shows no certificate, or another's, gets nothing through the gate.
    let at = gate.at("edge", 443);
    assert_eq!(curl(&["--connect-to", &format!("::{at}")], "https://gate.example/").status, 0);
    let own: Vec<String> =
        ["--cert", "envoy.pem", "--key", "envoy.key"]
            .iter()
            .map(|word| {
                if word.starts_with('-') { (*word).to_owned() } else { folder.path().join(word).display().to_string() }
            })
            .collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let answer = curl(&[&["--connect-to", &format!("::{at}")], &own[..]].concat(), "https://gate.example/");
    assert_eq!(answer.status, 200, "{answer:?}");
}
