//! HTTP/2 on either side, and gRPC.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use rcgen::{CertifiedKey, generate_simple_self_signed};

use crate::{
    bed::{Gate, app, curl, raw},
    h2_server::{self, ask, connect, run},
};

/// A service that is known to speak `protocol`, with an endpoint of its own.
pub(crate) fn outside(name: &str, at: std::net::SocketAddr, protocol: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80{protocol}}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}\n\
         addressType: IPv4\nports: [{{port: {}}}]\nendpoints: [{{addresses: [{}]}}]\n---\n",
        at.port(),
        at.ip(),
    )
}

pub(crate) const H2C: &str = ", appProtocol: kubernetes.io/h2c";

pub(crate) fn route(kind: &str, name: &str, rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  parentRefs: [{{name: edge}}]\n  rules:\n{rules}---\n"
    )
}

pub(crate) fn gateway() -> String {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let indent = |pem: &str| pem.lines().fold(String::new(), |out, line| out + "\n    " + line);
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: own}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |{}\n  tls.key: |{}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec:\n  gatewayClassName: strait\n  listeners:\n  \
         - {{name: http, port: 80, protocol: HTTP}}\n  - {{name: https, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{name: own}}]}}}}\n---\n",
        indent(&cert.pem()),
        indent(&signing_key.serialize_pem()),
    )
}

pub(crate) fn h2c(name: &str) -> String {
    app(name).replace("targetPort: 3000", "targetPort: 3000, appProtocol: kubernetes.io/h2c")
}

pub(crate) fn to(path: &str, service: &str, port: u16) -> String {
    format!("  - matches: [{{path: {{value: {path}}}}}]\n    backendRefs: [{{name: {service}, port: {port}}}]\n")
}

/// Each version that curl speaks, to back ends of each version: both sides see the one that was meant for them.
#[test]
fn versions() {
    let rules = to("/one", "one", 8080) + &to("/two", "two", 8080);
    let text = [gateway(), app("one"), h2c("two"), route("HTTPRoute", "route", &rules)].concat();
    let gate = Gate::of(&[("all.yaml", &text)]);
    let (plain, tls) = (gate.at("edge", 80), gate.at("edge", 443));
    let connect = format!("::{tls}");
    let clients: [(&str, &[&str], String); 4] = [
        ("HTTP/1.1", &["--http1.1"], format!("http://{plain}")),
        ("HTTP/2", &["--http2-prior-knowledge"], format!("http://{plain}")),
        ("HTTP/1.1", &["--http1.1", "--connect-to", &connect], "https://a.example".into()),
        ("HTTP/2", &["--http2", "--connect-to", &connect], "https://a.example".into()),
    ];
    for (version, arguments, origin) in &clients {
        for (path, pod, spoken) in [("/one/x?a=b", "one-0", "HTTP/1.1"), ("/two/x?a=b", "two-0", "HTTP/2.0")] {
            let arguments = [*arguments, &["-w", "version:%{http_version}", "-b", "a=b; c=d"]].concat();
            let answer = curl(&arguments, &format!("{origin}{path}"));
            let (json, shown) = answer.body.split_once("version:").unwrap_or_default();
            let echo: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
            assert_eq!(answer.status, 200, "{origin} {path}: {answer:?}");
            assert_eq!(echo["pod"], pod, "{origin} {path}: {echo}");
            assert_eq!((echo["path"].as_str(), echo["proto"].as_str()), (Some(path), Some(spoken)), "{echo}");
            assert_eq!(echo["headers"]["Cookie"][0], "a=b; c=d", "{echo}");
            assert_eq!(shown, version.trim_start_matches("HTTP/").trim_end_matches(".0"), "{origin} {path}");
        }
        let none = curl(arguments, &format!("{origin}/none"));
        assert_eq!(none.status, 404, "{origin}");
    }
}

/// Large bodies go both ways at once, with trailers at their ends, whatever each side speaks.
#[test]
fn bodies_and_trailers() {
    let rules = to("/one", "one", 80) + &to("/two", "two", 80);
    let services = outside("one", h2_server::http1(), "") + &outside("two", h2_server::http2(None), H2C);
    let gate = Gate::of(&[("all.yaml", &[gateway(), services, route("HTTPRoute", "route", &rules)].concat())]);
    let at = gate.at("edge", 80);
    let body: Bytes = (0..3_000_000_u32).map(|index| b'a' + u8::try_from(index % 23).unwrap()).collect();
    let trailers: HeaderMap =
        [(http::HeaderName::from_static("x-sum"), HeaderValue::from_static("42"))].into_iter().collect();
    for (path, spoken) in [("/one", "HTTP/1.1"), ("/two", "HTTP/2")] {
        let answer = run(async {
            let (send, _connection) = connect(at).await;
            let request = Request::post(format!("http://a.example{path}")).body(()).unwrap();
            ask(&send, request, body.clone(), trailers.clone()).await.unwrap()
        });
        assert_eq!((answer.status, &answer.headers["x-spoken"]), (200, &HeaderValue::from_static(spoken)));
        assert!(answer.body == body, "{path}: {} bytes came back", answer.body.len());
        assert_eq!(answer.trailers.get("x-sum"), trailers.get("x-sum"), "{path}: {:?}", answer.trailers);
    }
    // The same from a client of HTTP/1.
    let text = std::str::from_utf8(&body[..200_000]).unwrap();
    let request = format!(
        "POST /two HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{text}\r\n0\r\nx-sum: 42\r\n\r\n",
        text.len()
    );
    let answer = raw(at, &request);
    let (head, chunks) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("x-spoken: HTTP/2"), "{head}");
    assert!(chunks.ends_with("\r\n0\r\nx-sum: 42\r\n\r\n"), "{}", &chunks[chunks.len() - 60..]);
    assert!(chunks.len() > text.len() && chunks.len() < text.len() + 20_000, "{}", chunks.len());
}

const ECHO: &str = "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho";

/// Calls go by service and method; what cannot be called is told as gRPC tells it.
#[test]
fn calls() {
    let backend = |name: &str| format!("    backendRefs: [{{name: {name}, port: 8080}}]\n");
    let rule = |of: &str, name: &str| format!("  - matches: [{of}]\n{}", backend(name));
    let rules = [
        rule(&format!("{{method: {{service: {ECHO}, method: Echo}}}}"), "one"),
        rule("{method: {type: RegularExpression, method: \"EchoT.o\"}}", "two"),
        rule("{method: {method: Nowhere}}", "none"),
        rule("{method: {service: missing.Service}}", "missing"),
        rule("{method: {service: other.Service}, headers: [{name: x-to, value: two}]}", "two"),
    ];
    let none = "apiVersion: v1\nkind: Service\nmetadata: {name: none}\nspec: {ports: [{port: 8080}]}\n---\n";
    let text = [gateway(), app("one"), app("two"), none.to_owned(), route("GRPCRoute", "calls", &rules.concat())];
    let gate = Gate::of(&[("all.yaml", &text.concat())]);
    let at = gate.at("edge", 80);
    // Path, field `x-to`; status of gRPC, and who answered.
    let cases = [
        (format!("{ECHO}/Echo"), "", "0", "one-0"),
        (format!("{ECHO}/EchoTwo"), "", "0", "two-0"),
        (format!("{ECHO}/EchoThree"), "", "12", ""),
        ("any.Service/Nowhere".into(), "", "14", ""),
        ("missing.Service/Any".into(), "", "14", ""),
        ("other.Service/Any".into(), "two", "12", ""),
        ("other.Service/Any".into(), "one", "12", ""),
    ];
    for (path, field, status, pod) in cases {
        let answer = run(async {
            let (send, _connection) = connect(at).await;
            let request = Request::post(format!("http://a.example/{path}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .header("x-to", field)
                .body(())
                .unwrap();
            ask(&send, request, Bytes::from_static(&[0; 5]), HeaderMap::new()).await.unwrap()
        });
        assert_eq!(answer.status, 200, "{path}");
        let of = answer.trailers.get("grpc-status").or(answer.headers.get("grpc-status"));
        assert_eq!(of, Some(&HeaderValue::from_static(status)), "{path}: {answer:?}");
        assert!(String::from_utf8_lossy(&answer.body).contains(pod), "{path}: {answer:?}");
    }
    let status = std::fs::read_to_string(&gate.status).unwrap();
    assert!(status.contains("kind: GRPCRoute") && status.contains("attachedRoutes: 1"), "{status}");
}

/// What must not be in a request of HTTP/2 resets its stream, or gets a 400; the connection and others go on.
#[test]
fn malformed_requests() {
    let text = [gateway(), app("one"), route("HTTPRoute", "route", &to("/", "one", 8080))].concat();
    let gate = Gate::of(&[("all.yaml", &text)]);
    run(async {
        let (send, _connection) = connect(gate.at("edge", 80)).await;
        let get = |uri: &str| Request::get(uri.to_owned());
        let refused = [
            ("another host", get("http://a.example/").header("host", "b.example")),
            ("two hosts", get("http://a.example/").header("host", "a.example").header("host", "a.example")),
            ("user information", get("http://me@a.example/")),
            ("a path above the root", get("http://a.example/../../x")),
        ];
        for (name, request) in refused {
            let answer = ask(&send, request.body(()).unwrap(), Bytes::new(), HeaderMap::new()).await;
            match answer {
                Ok(answer) => assert_eq!(answer.status, 400, "{name}"),
                Err(error) => assert_eq!(error.reason(), Some(h2::Reason::PROTOCOL_ERROR), "{name}: {error}"),
            }
            let good = ask(&send, get("http://a.example/").body(()).unwrap(), Bytes::new(), HeaderMap::new()).await;
            assert_eq!(good.unwrap().status, 200, "after {name}");
        }
    });
}

/// Who resets what it asks for, again and again, is cut off; others are served meanwhile (CVE-2023-44487).
#[test]
fn reset_flood() {
    let text = [gateway(), app("one"), route("HTTPRoute", "route", &to("/", "one", 8080))].concat();
    let gate = Gate::of(&[("all.yaml", &text)]);
    let at = gate.at("edge", 80);
    let request = || Request::get("http://a.example/?delay=20s").body(()).unwrap();
    let (floods, error) = run(async {
        let (send, connection) = connect(at).await;
        let mut floods = 0;
        while !connection.is_finished() && floods < 100_000 {
            let Ok(mut ready) = send.clone().ready().await else { break };
            let Ok((_response, mut stream)) = ready.send_request(request(), true) else { break };
            stream.send_reset(h2::Reason::CANCEL);
            floods += 1;
            tokio::task::yield_now().await;
            if floods % 50 == 0 {
                let (other, _connection) = connect(at).await;
                let good = Request::get("http://a.example/").body(()).unwrap();
                assert_eq!(ask(&other, good, Bytes::new(), HeaderMap::new()).await.unwrap().status, 200);
            }
        }
        (floods, connection.await.unwrap().unwrap_err())
    });
    // What says why is lost where the connection closes while more is being written.
    let calm = error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM) || error.is_io();
    assert!(calm, "after {floods}: {error}");
    assert!(floods < 2_000, "cut off after {floods} only");
}

/// A gate that ends says so (GOAWAY), and answers what was asked before.
#[test]
fn drain() {
    let rules = to("/", "two", 80);
    let services = outside("two", h2_server::http2(None), H2C);
    let gate = Gate::of(&[("all.yaml", &[gateway(), services, route("HTTPRoute", "route", &rules)].concat())]);
    run(async {
        let (send, connection) = connect(gate.at("edge", 80)).await;
        let request = || Request::post("http://a.example/").body(()).unwrap();
        let (response, mut stream) = send.clone().ready().await.unwrap().send_request(request(), false).unwrap();
        let mut body = response.await.unwrap().into_body();
        gate.terminate();
        // From when it has said so nothing new is begun.
        loop {
            let Ok(mut ready) = send.clone().ready().await else { break };
            let Ok((response, _)) = ready.send_request(request(), true) else { break };
            if response.await.is_err() {
                break;
            }
        }
        stream.send_data(Bytes::from_static(b"late"), true).unwrap();
        let mut all = Vec::new();
        while let Some(data) = body.data().await {
            all.extend_from_slice(&data.unwrap());
        }
        assert_eq!(all, b"late");
        drop((send, stream, body));
        connection.await.unwrap().unwrap();
    });
}
