//! HTTP/3 on HTTPS listeners, with clients that others wrote: aioquic, and Envoy as a proxy before the gate.

mod client;
mod ends;
mod envoy;
mod limits;
mod rules;
mod websocket;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::SocketAddr,
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};

use self::client::{Client, get, of, post};
use crate::{
    backend::{self, service},
    bed::{Gate, app, curl, until},
    h2::{self, H2C, outside, route, to},
    h2_server,
};

/// A Secret with a certificate for a host.
fn secret(name: &str, host: &str) -> String {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([host.to_owned()]).unwrap();
    let indent = |pem: &str| pem.lines().fold(String::new(), |out, line| out + "\n    " + line);
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |{}\n  tls.key: |{}\n---\n",
        indent(&cert.pem()),
        indent(&signing_key.serialize_pem()),
    )
}

/// A gate with HTTP/3 over these manifests, beside the gateway `edge`, and a client of it.
fn gate(text: &str, arguments: &[&str]) -> Option<(Gate, Client)> {
    let client = Client::start()?;
    let gate = Gate::with(&[("all.yaml", &(h2::gateway() + text))], &[&["--http3"], arguments].concat());
    Some((gate, client))
}

/// A server whose answers are what their paths say.
fn answers() -> SocketAddr {
    backend::serve(|mut stream| {
        let mut read = Vec::new();
        while let Some((head, _)) = backend::request(&mut stream, &mut read) {
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default();
            let answer: &[u8] = match path {
                "/a/unchanged" => b"HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n\r\n",
                "/a/early" => b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                "/a/trailers" => {
                    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n"
                }
                "/a/cut" => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc",
                _ => b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            };
            // Of answers to HEAD aioquic believes no length.
            let head: &[u8] = if head.starts_with("HEAD") {
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            } else {
                answer
            };
            if stream.write_all(head).is_err() || path == "/a/cut" {
                return;
            }
        }
    })
}

/// Every kind of message, on one connection: what the client sends and gets.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of messages on one connection")]
fn messages() {
    let rules = "  - matches: [{path: {value: /moved}}]\n    filters: [{type: RequestRedirect, requestRedirect: {hostname: b.example, statusCode: 301}}]\n\
                 \x20 - matches: [{path: {value: /h}, headers: [{name: x-version, value: two}]}]\n    backendRefs: [{name: two, port: 8080}]\n";
    let rules = [
        rules,
        &to("/h", "one", 8080),
        &to("/one", "one", 8080),
        &to("/a", "answers", 8080),
        &to("/large", "large", 80),
    ]
    .concat();
    let text = [
        &app("one"),
        &h2::h2c("two"),
        &service("answers", answers()),
        &outside("large", h2_server::http2(None), H2C),
        &outside("large1", h2_server::http1(), ""),
        &route("HTTPRoute", "route", &(rules + &to("/chunked", "large1", 80))),
    ]
    .map(String::as_str)
    .concat();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let (log, status) = (log.to_str().unwrap(), ["--status-address", "127.0.0.1:0"]);
    let logged =
        ["--access-log-file", log, "--access-log-format", "%PROTOCOL% %REQ(:METHOD)% %RESPONSE_CODE% %RESPONSE_FLAGS%"];
    let Some((gate, mut client)) = gate(&text, &[&logged[..], &status].concat()) else { return };
    let at = gate.at("edge", 443);
    client.connect("a", at, "a.example");

    let echo = client.ask("a", get("/one/x?a=b"));
    assert_eq!((echo["status"].as_u64(), of(&echo, "content-type")), (Some(200), Some("application/json")), "{echo}");
    let said: Value = serde_json::from_str(echo["body"].as_str().unwrap()).unwrap();
    assert_eq!((&said["path"], &said["host"]), (&json!("/one/x?a=b"), &json!("a.example")), "{said}");
    assert_eq!(said["headers"]["X-Forwarded-Proto"][0], "https");
    assert!(of(&echo, "date").is_some() && of(&echo, "alt-svc").is_none(), "{echo}");
    // By path and header, to back ends of either version.
    for (version, pod) in [("one", "one-0"), ("two", "two-0")] {
        let answer = client.ask("a", get("/h").field("x-version", version));
        let said: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        assert_eq!(said["pod"], pod, "{answer}");
    }
    let cases = [
        (get("/a/plain"), 200),
        (get("/nowhere"), 404),
        (get("/moved/x"), 301),
        (get("/a/unchanged"), 304),
        (get("/a/early"), 200),
        (get("/a/plain").method("HEAD"), 200),
        (get("/a/plain").method("OPTIONS"), 200),
        (get("/one").host("a.example:1"), 200),
        (get("/one").field("x-large", &"x".repeat(61 << 10)), 431),
        ((0..101).fold(get("/one"), |request, _| request.field("x", "y")), 431),
        (get(&format!("/{}", "x".repeat(9 << 10))), 414),
        (get("/one").field("expect", "something"), 417),
        (get("/one").host("a b"), 400),
    ];
    for (request, status) in cases {
        let answer = client.ask("a", request.clone());
        assert_eq!(answer["status"], status, "{request:?}\n{answer}");
        let body = answer["bytes"].as_u64().unwrap();
        assert!(body == 0 || (!request.is("HEAD") && status != 304), "{answer}");
    }
    assert_eq!(client.ask("a", get("/a/early"))["interim"], json!([103]));
    let moved = client.ask("a", get("/moved/x"));
    assert_eq!(of(&moved, "location"), Some("https://b.example/moved/x"), "{moved}");
    // Trailers either way, whoever speaks what behind the gate.
    let answer = client.ask("a", get("/a/trailers"));
    assert_eq!((&answer["body"], &answer["trailers"]), (&json!("abc"), &json!([["x-sum", "6"]])), "{answer}");
    for path in ["/large", "/chunked"] {
        let sent = post(path).body("some text").field("trailer", "x-sum").trailer("x-sum", "9");
        let answer = client.ask("a", sent);
        assert_eq!(
            (&answer["body"], &answer["trailers"]),
            (&json!("some text"), &json!([["x-sum", "9"]])),
            "{path}: {answer}"
        );
    }
    // An answer that is cut off is not taken for a whole one.
    let answer = client.ask("a", get("/a/cut"));
    assert!(answer["error"].is_string(), "{answer}");
    // Large bodies both ways, one after the other and at once.
    for path in ["/large", "/chunked"] {
        let answer = client.ask("a", post(path).size(5_000_000));
        assert_eq!((&answer["bytes"], &answer["same"]), (&json!(5_000_000), &json!(true)), "{path}");
    }
    let many = client.all("a", (0..20).map(|_| post("/large").size(300_000)));
    assert!(
        many.iter().all(|answer| answer["same"] == true),
        "{:?}",
        many.iter().map(|answer| &answer["bytes"]).collect::<Vec<_>>()
    );
    let many = client.all("a", (0..100).map(|index| get(&format!("/one/{index}"))));
    for (index, answer) in many.iter().enumerate() {
        assert!(answer["body"].as_str().unwrap().contains(&format!("\"/one/{index}\"")), "{answer}");
    }

    until("lines", || fs::read_to_string(log).unwrap_or_default().lines().count() > 140);
    let lines = fs::read_to_string(log).unwrap();
    for line in [
        "HTTP/3 GET 200 -",
        "HTTP/3 HEAD 200 -",
        "HTTP/3 POST 200 -",
        "HTTP/3 GET 404 NR",
        "HTTP/3 - 431 DPE",
        "HTTP/3 GET 200 UC",
    ] {
        assert!(lines.lines().any(|other| other == line), "{line} of\n{lines}");
    }
    let place = gate.lines.iter().find_map(|line| line.strip_prefix("status: ")).unwrap();
    let metrics = curl(&[], &format!("{place}/metrics")).body;
    let counted =
        |line: &&str| line.starts_with("istio_requests_total") && line.contains("destination_service_name=\"large\"");
    let count: f64 =
        metrics.lines().filter(counted).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    assert!((count - 22.).abs() < 0.1, "{metrics}");
}

/// gRPC's clients get its trailers, and its statuses.
#[test]
fn calls() {
    const ECHO: &str = "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho";
    let rules =
        format!("  - matches: [{{method: {{service: {ECHO}}}}}]\n    backendRefs: [{{name: two, port: 8080}}]\n");
    let Some((gate, mut client)) = gate(&(h2::h2c("two") + &route("GRPCRoute", "calls", &rules)), &[]) else { return };
    client.connect("a", gate.at("edge", 443), "a.example");
    let call =
        |path: String| post(&path).field("content-type", "application/grpc").field("te", "trailers").body("\0\0\0\0\0");
    let answer = client.ask("a", call(format!("/{ECHO}/Echo")));
    assert_eq!(answer["status"], 200, "{answer}");
    assert!(answer["trailers"].as_array().unwrap().contains(&json!(["grpc-status", "0"])), "{answer}");
    assert!(answer["bytes"].as_u64().unwrap() > 5, "{answer}");
    // What nobody takes is unimplemented.
    let answer = client.ask("a", call("/other.Service/Echo".into()));
    assert_eq!((answer["status"].as_u64(), of(&answer, "grpc-status")), (Some(200), Some("12")), "{answer}");
}

/// Listeners by server name, with certificates of their own; requests for another one; a certificate that is replaced.
#[test]
fn names() {
    let Some(mut client) = Client::start() else { return };
    let listeners = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec:\n  gatewayClassName: strait\n  listeners:\n  \
        - {name: a, port: 443, protocol: HTTPS, hostname: a.example, tls: {certificateRefs: [{name: a}]}}\n  \
        - {name: b, port: 443, protocol: HTTPS, hostname: \"*.b.example\", tls: {certificateRefs: [{name: b}]}}\n  \
        - {name: missing, port: 443, protocol: HTTPS, hostname: c.example, tls: {certificateRefs: [{name: c}]}}\n---\n";
    let text =
        |a: &str, b: &str| [listeners, &app("one"), a, b, &route("HTTPRoute", "route", &to("/", "one", 8080))].concat();
    let (a, b) = (secret("a", "a.example"), secret("b", "*.b.example"));
    let gate = Gate::with(&[("all.yaml", &text(&a, &b))], &["--http3"]);
    let at = gate.at("edge", 443);
    let of_a = client.connect("a", at, "a.example");
    let of_b = client.connect("b", at, "x.b.example");
    assert_ne!(of_a, of_b);
    for name in ["c.example", "d.example"] {
        assert!(client.refused("other", at, name).contains("ConnectionError"), "{name}");
    }
    assert_eq!(client.ask("a", get("/"))["status"], 200);
    assert_eq!(client.ask("b", get("/").host("y.b.example"))["status"], 200);
    assert_eq!(client.ask("a", get("/").host("x.b.example"))["status"], 421);
    assert_eq!(client.ask("a", get("/").host("nobody.example"))["status"], 404);
    // Another certificate is shown to whoever comes next; connections go on.
    let other = secret("a", "a.example");
    gate.save("all.yaml", &text(&other, &b));
    until("another certificate", || client.connect("next", at, "a.example") != of_a);
    assert_eq!(client.ask("a", get("/"))["status"], 200);
    assert_eq!(client.connect("again", at, "x.b.example"), of_b);
    // What listens no longer says so, and lets go.
    gate.save(
        "all.yaml",
        &listeners.replace("protocol: HTTPS, hostname: a.example", "protocol: HTTPS, hostname: e.example"),
    );
    until("no listener", || !client.refused("none", at, "a.example").is_empty());
}

/// Clients over TCP are told of it, where it is so.
#[test]
fn told() {
    let beside = backend::serve(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nAlt-Svc: h2=\":1\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    });
    let rules = to("/one", "one", 8080)
        + &to("/own", "own", 8080)
        + "  - matches: [{path: {value: /set}}]\n    filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: alt-svc, value: clear}]}}]\n    backendRefs: [{name: one, port: 8080}]\n";
    let text = [h2::gateway(), app("one"), service("own", beside), route("HTTPRoute", "route", &rules)].concat();
    for with in [true, false] {
        let arguments: &[&str] = if with { &["--http3"] } else { &[] };
        let gate = Gate::with(&[("all.yaml", &text)], arguments);
        let (plain, tls) = (gate.at("edge", 80), gate.at("edge", 443));
        let connect = format!("::{tls}");
        let own = format!("h3=\":{}\"; ma=86400", tls.port());
        for version in ["--http1.1", "--http2"] {
            let cases = [
                ("/one", with.then_some(&*own)),
                ("/own", Some(if with { &own } else { "h2=\":1\"" })),
                ("/nowhere", with.then_some(&*own)),
                ("/set", Some("clear")),
            ];
            for (path, expected) in cases {
                let answer = curl(&[version, "--connect-to", &connect], &format!("https://a.example{path}"));
                assert_eq!(answer.header("alt-svc"), expected, "{version} {path}: {answer:?}");
            }
        }
        assert_eq!(curl(&[], &format!("http://{plain}/one")).header("alt-svc"), None);
    }
}
