//! curl ─ Envoy ═ gate: the doubled line is HTTP/3.

use std::{fs, process::Command};

use serde_json::json;

use super::gate;
use crate::{
    bed::curl,
    h2::{H2C, outside, route, to},
    h2_server,
    peers::{Server, envoy_program, place},
};

const EXTENSIONS: &str = "type.googleapis.com/envoy.extensions";

#[test]
fn before_the_gate() {
    let Some(program) = envoy_program() else { return };
    let text = outside("back", h2_server::http2(None), H2C) + &route("HTTPRoute", "route", &to("/", "back", 80));
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let logged = ["--access-log-file", log.to_str().unwrap(), "--access-log-format", "%PROTOCOL% %RESPONSE_CODE%"];
    let Some((gate, _)) = gate(&text, &logged) else { return };
    let front = place(18_102);
    let address = |at: std::net::SocketAddr| json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } });
    let quic = |at: std::net::SocketAddr| {
        let mut address = address(at);
        address["socket_address"]["protocol"] = json!("TCP");
        address
    };
    let manager = json!({
        "@type": format!("{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "front",
        "route_config": { "virtual_hosts": [{
            "name": "all", "domains": ["*"], "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "gate", "timeout": "20s" } }],
        }]},
        "http_filters": [{ "name": "router", "typed_config": { "@type": format!("{EXTENSIONS}.filters.http.router.v3.Router") } }],
    });
    let configuration = json!({ "static_resources": {
        "listeners": [{ "name": "front", "address": address(front), "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }] }],
        "clusters": [{
            "name": "gate", "type": "STATIC", "connect_timeout": "10s",
            "load_assignment": { "cluster_name": "gate", "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": quic(gate.at("edge", 443)) } }] }] },
            "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": format!("{EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": { "http3_protocol_options": {} },
            }},
            "transport_socket": { "name": "envoy.transport_sockets.quic", "typed_config": {
                "@type": format!("{EXTENSIONS}.transport_sockets.quic.v3.QuicUpstreamTransport"),
                "upstream_tls_context": { "sni": "a.example", "common_tls_context": { "validation_context": { "trust_chain_verification": "ACCEPT_UNTRUSTED" } } },
            }},
        }],
    }});
    let file = folder.path().join("envoy.json");
    fs::write(&file, configuration.to_string()).unwrap();
    let mut envoy = Command::new(program);
    envoy.args(["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"]).arg(&file);
    let _envoy = Server::start(envoy, front);
    let url = format!("http://{front}/x?a=b");
    let answer = curl(&["-H", "Host: a.example", "-d", "sent back"], &url);
    assert_eq!((answer.status, answer.body.as_str()), (200, "sent back"), "{answer:?}");
    assert_eq!(answer.header("x-spoken"), Some("HTTP/2"));
    let body = "x".repeat(1_000_000);
    let sent = folder.path().join("sent");
    fs::write(&sent, &body).unwrap();
    let answer =
        curl(&["-H", "Host: a.example", "-H", "Expect:", "--data-binary", &format!("@{}", sent.display())], &url);
    assert!(answer.status == 200 && answer.body == body, "{} with {} bytes", answer.status, answer.body.len());
    let many: Vec<String> = (0..50).map(|index| format!("http://{front}/{index}")).collect();
    let mut all = Command::new("curl");
    all.args([
        "-s",
        "--max-time",
        "20",
        "-Z",
        "--parallel-max",
        "20",
        "-H",
        "Host: a.example",
        "-w",
        "%{http_code}\n",
        "-d",
        "many",
    ]);
    let output = all.args(&many).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.matches("200\n").count(), 50, "{text}");
    crate::bed::until("lines", || fs::read_to_string(&log).unwrap_or_default().lines().count() >= 52);
    let lines = fs::read_to_string(&log).unwrap();
    assert!(lines.lines().all(|line| line == "HTTP/3 200"), "{lines}");
}
