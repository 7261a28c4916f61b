//! What Istio's routes do to requests and connections, seen by clients and back ends.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::bed::{Gate, PATIENCE, app, curl};

/// A gateway for all hosts on port 80, and TCP on port 3306.
const GATEWAY: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}
  - {port: {number: 3306, name: tcp, protocol: TCP}, hosts: ['*']}
---
";

fn service(http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs}}\nspec:\n  hosts: ['*']\n  gateways: [edge]\n  http:\n{http}"
    )
}

const ROUTES: &str = "
  - match: [{uri: {prefix: /redirect}}]
    redirect: {prefixRewrite: /new, redirectCode: 308}
  - match: [{uri: {exact: /secure}}]
    redirect: {scheme: https}
  - match: [{uri: {exact: /elsewhere}}]
    redirect: {authority: other.example, uri: '/a?b=c'}
  - match: [{uri: {exact: /port}}]
    redirect: {uri: /p, derivePort: FROM_REQUEST_PORT}
  - match: [{uri: {exact: /teapot}}]
    directResponse: {status: 418, body: {string: short and stout}}
    headers: {response: {set: {x-pot: tea}}}
  - match: [{uri: {exact: /json}}]
    directResponse: {status: 200, body: {string: '{}'}}
    headers: {response: {set: {content-type: application/json}}}
  - match: [{uri: {prefix: /rewrite/}}]
    rewrite: {uri: /, authority: inner.example}
    route: [{destination: {host: one}}]
  - match: [{uri: {prefix: /regex}}]
    rewrite: {uriRegexRewrite: {match: '^/regex/([^/]+)(/.*)$', rewrite: '\\2/of/\\1'}}
    route: [{destination: {host: one}}]
  - match: [{uri: {prefix: /headers}}]
    headers: {request: {set: {x-set: route}, add: {x-add: more}, remove: [x-gone]}, response: {set: {x-answer: 'yes'}}}
    route: [{destination: {host: one}, headers: {request: {set: {x-only: here, ':authority': set.example}}}}]
  - match: [{uri: {exact: /abort}}]
    fault: {abort: {httpStatus: 555, percentage: {value: 100}}}
    route: [{destination: {host: one}}]
  - match: [{uri: {exact: /never}}]
    fault: {abort: {httpStatus: 555, percentage: {value: 0}}}
    route: [{destination: {host: one}}]
  - match: [{uri: {exact: /grpc}}]
    fault: {abort: {grpcStatus: RESOURCE_EXHAUSTED, percentage: {value: 100}}}
    route: [{destination: {host: one}}]
  - match: [{uri: {exact: /cors}}]
    corsPolicy: {allowOrigins: [{regex: 'https://.*[.]example'}], allowMethods: [GET, PUT], allowHeaders: [x-a], exposeHeaders: [x-b], maxAge: 1h, allowCredentials: true, unmatchedPreflights: IGNORE}
    route: [{destination: {host: one}}]
  - match: [{uri: {exact: /nowhere}}]
    route: [{destination: {host: nobody}}]
  - match: [{uri: {exact: /claims}, headers: {'@request.auth.claims.group': {exact: admin}}}]
    route: [{destination: {host: one}}]
  - match: [{uri: {exact: /claims}}]
    directResponse: {status: 403}
  tcp:
  - match: [{port: 3306}]
    route: [{destination: {host: one}}]
";

#[test]
fn routes() {
    let gate = Gate::of(&[("all.yaml", &format!("{}{GATEWAY}{}", app("one"), service(ROUTES)))]);
    let at = gate.at("edge", 80);
    let ask = |arguments: &[&str], path: &str| {
        curl(&[arguments, &["-H", "Host: a.example:81"]].concat(), &format!("http://{at}{path}"))
    };
    // Redirects and answers of the gate's own: status, and a header.
    for (path, status, name, value) in [
        ("/redirect/a?b", 308, "location", "http://a.example:81/new/a?b"),
        ("/redirected", 308, "location", "http://a.example:81/newed"),
        ("/secure?q", 301, "location", "https://a.example:81/secure?q"),
        ("/elsewhere?q", 301, "location", "http://other.example/a?b=c"),
        ("/port", 301, "location", "http://a.example:81/p"),
        ("/teapot", 418, "x-pot", "tea"),
        ("/json", 200, "content-type", "application/json"),
        ("/headers/a", 200, "x-answer", "yes"),
        ("/nowhere", 503, "content-type", "text/plain"),
        ("/claims", 403, "content-length", "0"),
        ("/other", 404, "content-type", "text/plain"),
    ] {
        let answer = ask(&[], path);
        assert_eq!((answer.status, answer.header(name)), (status, Some(value)), "{path} {answer:?}");
    }
    assert_eq!(ask(&[], "/teapot").body, "short and stout");
    assert_eq!(ask(&["-H", "@request.auth.claims.group: admin"], "/claims").status, 403);
    // What arrives.
    for (path, arrived, host) in [
        ("/rewrite/a/b?c", "/a/b?c", "inner.example"),
        ("/regex/one/two/three?c", "/two/three/of/one?c", "a.example:81"),
        ("/headers/x", "/headers/x", "set.example"),
        ("/never", "/never", "a.example:81"),
    ] {
        let echo = ask(&[], path).echo();
        assert_eq!((echo["path"].as_str(), echo["host"].as_str()), (Some(arrived), Some(host)), "{path}");
    }
    let echo = ask(&["-H", "x-gone: a", "-H", "x-set: client", "-H", "x-add: client"], "/headers/a").echo();
    let headers = &echo["headers"];
    assert_eq!(
        (&headers["X-Set"], &headers["X-Only"], &headers["X-Gone"], headers["X-Add"].as_array().map(Vec::len)),
        (&serde_json::json!(["route"]), &serde_json::json!(["here"]), &serde_json::Value::Null, Some(2)),
        "{headers}"
    );
    // Faults.
    let aborted = ask(&[], "/abort");
    assert_eq!((aborted.status, aborted.body.as_str()), (555, "fault filter abort"));
    let call = ask(&["-H", "content-type: application/grpc"], "/grpc");
    assert_eq!((call.status, call.header("grpc-status")), (200, Some("8")), "{call:?}");
    assert_eq!(ask(&[], "/grpc").status, 429);
}

#[test]
fn origins() {
    let gate = Gate::of(&[("all.yaml", &format!("{}{GATEWAY}{}", app("one"), service(ROUTES)))]);
    let url = format!("http://{}/cors", gate.at("edge", 80));
    let preflight = |origin: &str| {
        let origin = format!("Origin: {origin}");
        curl(&["-X", "OPTIONS", "-H", &origin, "-H", "Access-Control-Request-Method: PUT"], &url)
    };
    let allowed = preflight("https://a.example");
    for (name, value) in [
        ("access-control-allow-origin", Some("https://a.example")),
        ("access-control-allow-methods", Some("GET,PUT")),
        ("access-control-allow-headers", Some("x-a")),
        ("access-control-max-age", Some("3600")),
        ("access-control-allow-credentials", Some("true")),
        ("access-control-expose-headers", None),
    ] {
        assert_eq!(allowed.header(name), value, "{name}");
    }
    let other = preflight("https://a.example.evil");
    assert_eq!((other.status, other.header("access-control-allow-origin")), (200, None));
    let simple = curl(&["-H", "Origin: https://a.example"], &url);
    assert_eq!(simple.header("access-control-allow-origin"), Some("https://a.example"));
    assert_eq!(simple.header("access-control-expose-headers"), Some("x-b"));
    assert!(simple.pod().starts_with("one"));
    assert_eq!(curl(&["-H", "Origin: https://b"], &url).header("access-control-allow-origin"), None);
}

#[test]
fn connections() {
    let gate = Gate::of(&[("all.yaml", &format!("{}{GATEWAY}{}", app("one"), service(ROUTES)))]);
    let mut stream = TcpStream::connect(gate.at("edge", 3306)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"\x01hello").unwrap();
    let mut back = [0; 6];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"\x01hello");
}

/// A host outside whose name is looked up, and the copy of a request, whose host tells that it is one.
#[test]
fn names_and_copies() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (send, received) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut text = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while !text.ends_with("\r\n\r\n") && reader.read_line(&mut text).is_ok_and(|length| length > 0) {}
            let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\nx-who: outside\r\ncontent-length: 2\r\n\r\nok");
            let _ = send.send(text);
        }
    });
    let entry = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: out}}\nspec:\n  hosts: [out.example]\n  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}]\n  \
         resolution: DNS\n  endpoints: [{{address: localhost}}]\n---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: unknown}}\nspec:\n  hosts: [unknown.invalid]\n  \
         ports: [{{number: 80, name: http, protocol: HTTP}}]\n  resolution: DNS\n"
    );
    let routes = "  - match: [{uri: {exact: /out}}]\n    route: [{destination: {host: out.example}}]\n  - match: [{uri: {exact: /unknown}}]\n    route: [{destination: {host: unknown.invalid}}]\n  \
                  - mirror: {host: out.example}\n    route: [{destination: {host: one}}]\n";
    let gate = Gate::of(&[("all.yaml", &format!("{}{GATEWAY}{}{entry}", app("one"), service(routes)))]);
    let at = gate.at("edge", 80);
    assert_eq!(curl(&[], &format!("http://{at}/out")).header("x-who"), Some("outside"));
    assert!(received.recv_timeout(PATIENCE).unwrap().starts_with("GET /out "));
    assert_eq!(curl(&[], &format!("http://{at}/unknown")).status, 503);
    assert!(curl(&["-H", "Host: a.example:81"], &format!("http://{at}/copied")).pod().starts_with("one"));
    let copy = received.recv_timeout(PATIENCE).unwrap().to_lowercase();
    assert!(copy.starts_with("get /copied ") && copy.contains("\r\nhost: a.example-shadow:81\r\n"), "{copy}");
}
