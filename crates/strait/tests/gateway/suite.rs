//! Cases of the conformance suite beside those with listed requests: what each of its tests does, asked with real clients.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{TcpStream, UdpSocket},
};

use bytes::Bytes;
use http::{HeaderMap, Request};

use crate::{
    bed::{Gate, app, curl, until},
    h2_server::{ask, connect, run},
};

const V1: &str = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: ";

fn gateway(listeners: &str) -> String {
    format!(
        "{V1}Gateway\nmetadata: {{name: edge}}\nspec: {{gatewayClassName: strait, allowedListeners: {{namespaces: {{from: Same}}}}, listeners: [{listeners}]}}\n"
    )
}

fn route(kind: &str, name: &str, spec: &str) -> String {
    format!("{V1}{kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

/// What is asked for at `edge`, by the port of the listener, and what comes of it: the back end, or a status and `Location`.
type Asked = (&'static str, u16, &'static [&'static str], &'static str, &'static str);

const REQUESTS: &[Asked] = &[
    ("HTTPRouteMethodMatching", 80, &["-X", "POST"], "/method", "one"),
    ("HTTPRouteMethodMatching", 80, &["-X", "GET"], "/method", "two"),
    ("HTTPRouteMethodMatching", 80, &["-X", "PATCH"], "/method", "404"),
    ("HTTPRouteMethodMatching: with a header", 80, &["-X", "PATCH", "-H", "Version: four"], "/method", "one"),
    ("HTTPRouteQueryParamMatching", 80, &[], "/query?animal=whale", "one"),
    ("HTTPRouteQueryParamMatching", 80, &[], "/query?animal=dolphin&color=blue", "two"),
    ("HTTPRouteQueryParamMatching: more before fewer", 80, &[], "/query?animal=whale&color=blue", "two"),
    ("HTTPRouteQueryParamMatching: exactly", 80, &[], "/query?animal=Whale", "404"),
    ("HTTPRouteQueryParamMatching: the first of a name", 80, &[], "/query?animal=whale&animal=x", "one"),
    ("HTTPRouteListenerPortMatching: of all ports", 80, &["-H", "Host: ports.example"], "/", "one"),
    ("HTTPRouteListenerPortMatching: of all ports", 8080, &["-H", "Host: ports.example"], "/", "one"),
    ("HTTPRouteListenerPortMatching: of one port", 8080, &["-H", "Host: ports.example"], "/port", "two"),
    ("HTTPRouteListenerPortMatching: of the other port", 80, &["-H", "Host: ports.example"], "/port", "one"),
    ("ListenerSetHTTPRouting: of the set", 8081, &["-H", "Host: ports.example"], "/", "two"),
    ("ListenerSetHTTPRouting: not of the gateway", 8081, &["-H", "Host: ports.example"], "/port", "two"),
    ("HTTPRouteRedirectPath", 80, &[], "/prefix/lemon", "302 http://edge.example/replaced/lemon"),
    ("HTTPRouteRedirectPath", 80, &[], "/full/path/original", "302 http://edge.example/whole"),
    ("HTTPRouteRedirectPath: with a host", 80, &[], "/prefix-and-host/lemon", "302 http://example.org/replaced/lemon"),
    ("HTTPRouteRedirectPath: with a status", 80, &[], "/prefix-and-status/x", "301 http://edge.example/replaced/x"),
    ("HTTPRouteRedirectPort", 80, &[], "/port-8083", "302 http://edge.example:8083/port-8083"),
    ("HTTPRouteRedirectPort: with a host", 80, &[], "/port-and-host", "302 http://example.org:8083/port-and-host"),
    ("HTTPRouteRedirectScheme", 80, &[], "/scheme", "302 https://edge.example/scheme"),
    ("HTTPRouteRedirectScheme: with a host", 80, &[], "/scheme-and-host", "302 https://example.org/scheme-and-host"),
    (
        "HTTPRouteRedirectPortAndScheme: a port that is the scheme's",
        80,
        &[],
        "/https-443",
        "302 https://edge.example/https-443",
    ),
    (
        "HTTPRouteRedirectPortAndScheme: the listener's",
        8080,
        &[],
        "/http-none",
        "302 http://edge.example:8080/http-none",
    ),
    ("HTTPRouteRedirectPortAndScheme: none with a scheme", 8080, &[], "/scheme", "302 https://edge.example/scheme"),
    ("HTTPRoute303Redirect", 80, &[], "/see-other", "303 http://edge.example/see-other"),
    ("HTTPRoute307Redirect", 80, &[], "/temporary", "307 http://edge.example/temporary"),
    ("HTTPRoute308Redirect", 80, &[], "/permanent", "308 http://edge.example/permanent"),
    ("HTTPRouteServiceTypes: headless", 80, &[], "/headless", "one"),
    ("HTTPRouteNamedRule", 80, &[], "/named", "two"),
    ("HTTPRouteBackendRequestHeaderModifier", 80, &["-H", "X-Gone: 1"], "/edited", "one x-set=by-backend"),
    ("HTTPRouteResponseHeaderModifier", 80, &[], "/answered", "one answer x-set=by-route"),
];

fn requests_manifests() -> String {
    let rule = |path: &str, filter: &str| {
        format!(
            "  - matches: [{{path: {{value: {path}}}}}]\n    filters: [{{type: RequestRedirect, requestRedirect: {{{filter}}}}}]\n"
        )
    };
    let prefix = "path: {type: ReplacePrefixMatch, replacePrefixMatch: /replaced}";
    let to = |path: &str, rest: &str| format!("  - matches: [{{path: {{value: {path}}}}}]\n    {rest}\n");
    let rules = [
        "  - matches: [{path: {value: /method}, method: POST}, {path: {value: /method}, method: PATCH, headers: [{name: version, value: four}]}]\n    backendRefs: [{name: one, port: 8080}]\n".to_owned(),
        "  - matches: [{path: {value: /method}, method: GET}]\n    backendRefs: [{name: two, port: 8080}]\n".to_owned(),
        "  - matches: [{path: {value: /query}, queryParams: [{name: animal, value: whale}]}]\n    backendRefs: [{name: one, port: 8080}]\n".to_owned(),
        "  - matches: [{path: {value: /query}, queryParams: [{name: animal, value: dolphin}]}, {path: {value: /query}, queryParams: [{name: animal, value: whale}, {name: color, value: blue}]}]\n    backendRefs: [{name: two, port: 8080}]\n".to_owned(),
        rule("/prefix", prefix),
        rule("/full", "path: {type: ReplaceFullPath, replaceFullPath: /whole}"),
        rule("/prefix-and-host", &format!("hostname: example.org, {prefix}")),
        rule("/prefix-and-status", &format!("statusCode: 301, {prefix}")),
        rule("/port-8083", "port: 8083"),
        rule("/port-and-host", "port: 8083, hostname: example.org"),
        rule("/scheme", "scheme: https"),
        rule("/scheme-and-host", "scheme: https, hostname: example.org"),
        rule("/https-443", "scheme: https, port: 443"),
        rule("/http-none", ""),
        rule("/see-other", "statusCode: 303"),
        rule("/temporary", "statusCode: 307"),
        rule("/permanent", "statusCode: 308"),
        to("/headless", "backendRefs: [{name: headless, port: 3000}]"),
        to("/named", "name: by-name\n    backendRefs: [{name: two, port: 8080}]"),
        to("/edited", "backendRefs: [{name: one, port: 8080, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: by-backend}], remove: [X-Gone]}}]}]"),
        to("/answered", "filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Set, value: by-route}]}}]\n    backendRefs: [{name: one, port: 8080}]"),
    ];
    // Of three files' worth of rules: a route has sixteen at most.
    let part = |name: &str, rules: &[String]| {
        format!(
            "{V1}HTTPRoute\nmetadata: {{name: {name}}}\nspec:\n  parentRefs: [{{name: edge}}]\n  hostnames: [edge.example]\n  rules:\n{}",
            rules.concat()
        )
    };
    let headless = "---\napiVersion: v1\nkind: Service\nmetadata: {name: headless}\nspec: {clusterIP: None, selector: {app: one}, ports: [{port: 3000}]}\n";
    let set = format!(
        "{V1}ListenerSet\nmetadata: {{name: more}}\nspec: {{parentRef: {{name: edge}}, listeners: [{{name: more, port: 8081, protocol: HTTP}}]}}\n"
    );
    [
        app("one"),
        app("two"),
        headless.to_owned(),
        gateway("{name: web, port: 80, protocol: HTTP}, {name: alt, port: 8080, protocol: HTTP}"),
        set,
        part("first", &rules[..11]),
        part("second", &rules[11..]),
        route("HTTPRoute", "all", "parentRefs: [{name: edge}], rules: [{backendRefs: [{name: one, port: 8080}]}]"),
        route("HTTPRoute", "port", "parentRefs: [{name: edge, port: 8080}], rules: [{matches: [{path: {value: /port}}], backendRefs: [{name: two, port: 8080}]}]"),
        route("HTTPRoute", "set", "parentRefs: [{kind: ListenerSet, name: more}], rules: [{backendRefs: [{name: two, port: 8080}]}]"),
    ]
    .concat()
}

#[test]
fn requests() {
    let gate = Gate::of(&[("all.yaml", &requests_manifests())]);
    let mut wrong = Vec::new();
    for (title, port, arguments, path, expected) in REQUESTS {
        let at = gate.at("edge", *port);
        let other = arguments.iter().any(|argument| argument.starts_with("Host: "));
        let host: &[&str] = if other { &[] } else { &["-H", "Host: edge.example"] };
        let answer = curl(&[host, *arguments].concat(), &format!("http://{at}{path}"));
        let pod = answer.pod();
        let is = match (answer.status, answer.header("location")) {
            (200, _) => pod.trim_end_matches("-0").to_owned(),
            (status, Some(location)) => format!("{status} {location}"),
            (status, None) => status.to_string(),
        };
        let (wanted, rest) = match expected.split_once(' ') {
            Some((pod, rest)) if rest.contains('=') => (pod, Some(rest)),
            _ => (*expected, None),
        };
        let seen = rest.is_none_or(|rest| {
            if let Some(field) = rest.strip_prefix("answer ") {
                return field.split_once('=').is_some_and(|(name, value)| answer.header(name) == Some(value));
            }
            let headers = answer.echo()["headers"].to_string().to_lowercase();
            rest.split_once('=').is_some_and(|(name, value)| headers.contains(&format!("\"{name}\":[\"{value}\"]")))
                && !headers.contains("x-gone")
        });
        if is != wanted || !seen {
            wrong.push(format!("{title}: {path} at {port}: expected {expected}, found {is}: {answer:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// GRPCExactMethodMatching, GRPCRouteHeaderMatching, GRPCRouteListenerHostnameMatching, GRPCRouteNamedRule
/// The host, method and field of a call, and who answers.
const CALLS: &[(&str, &str, &str, &str)] = &[
    ("a.example", "Echo", "", "one"),
    ("a.example", "EchoTwo", "", "two"),
    ("a.example", "Echo", "two", "two"),
    ("a.example", "Echo", "three", "one"),
    ("a.example", "EchoThree", "two", ""),
    ("sub.b.example", "Echo", "", "two"),
    ("nobody.example", "Echo", "", ""),
];

#[test]
fn calls() {
    const ECHO: &str = "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho";
    let of = |method: &str| format!("matches: [{{method: {{service: {ECHO}, method: {method}}}}}]");
    let manifests = [
        app("one"),
        app("two"),
        gateway(
            "{name: a, port: 80, protocol: HTTP, hostname: a.example}, {name: b, port: 80, protocol: HTTP, hostname: '*.b.example'}",
        ),
        route(
            "GRPCRoute",
            "a",
            &format!(
                "parentRefs: [{{name: edge, sectionName: a}}], rules: [{{name: first, {}, backendRefs: [{{name: one, port: 8080}}]}}, {{{}, backendRefs: [{{name: two, port: 8080}}]}}, {{matches: [{{method: {{service: {ECHO}, method: Echo}}, headers: [{{name: version, value: two}}]}}], backendRefs: [{{name: two, port: 8080}}]}}]",
                of("Echo"),
                of("EchoTwo")
            ),
        ),
        route(
            "GRPCRoute",
            "b",
            "parentRefs: [{name: edge, sectionName: b}], rules: [{backendRefs: [{name: two, port: 8080}]}]",
        ),
    ];
    let gate = Gate::of(&[("all.yaml", &manifests.concat())]);
    for (host, method, version, expected) in CALLS {
        let answer = run(async {
            let (send, _connection) = connect(gate.at("edge", 80)).await;
            let request = Request::post(format!("http://{host}/{ECHO}/{method}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .header("version", *version)
                .body(())
                .unwrap();
            ask(&send, request, Bytes::from_static(&[0; 5]), HeaderMap::new()).await.unwrap()
        });
        let status = answer.trailers.get("grpc-status").or_else(|| answer.headers.get("grpc-status"));
        let status = status.and_then(|status| status.to_str().ok()).unwrap_or_default();
        let body = String::from_utf8_lossy(&answer.body);
        if expected.is_empty() {
            assert_eq!(status, "12", "{host} {method} {version}: nobody takes it");
        } else {
            assert!(body.contains(&format!("{expected}-0")), "{host} {method} {version}: {status} {body:?}");
        }
    }
}

/// Listeners come and go, and statuses are of the last generation.
#[test]
fn modified_listeners() {
    // GatewayModifyListeners, GatewayObservedGenerationBump, HTTPRouteObservedGenerationBump, GatewayWithAttachedRoutes
    let manifests = |generation: u32, listeners: &str| {
        let of = |text: String| {
            text.replace("metadata: {name: edge}", &format!("metadata: {{name: edge, generation: {generation}}}"))
        };
        app("one")
            + &of(gateway(listeners))
            + &route(
                "HTTPRoute",
                "all",
                "parentRefs: [{name: edge}], rules: [{backendRefs: [{name: one, port: 8080}]}]",
            )
            .replace("metadata: {name: all}", &format!("metadata: {{name: all, generation: {generation}}}"))
    };
    let web = "{name: web, port: 80, protocol: HTTP}";
    let gate = Gate::of(&[("all.yaml", &manifests(1, web))]);
    let at = gate.at("edge", 80);
    let more = std::net::SocketAddr::new(at.ip(), 8080);
    assert!(TcpStream::connect(more).is_err());
    for (generation, listeners, open, host) in [
        (2, format!("{web}, {{name: more, port: 8080, protocol: HTTP}}"), true, 200),
        (3, "{name: web, port: 80, protocol: HTTP, hostname: other.example}".to_owned(), false, 404),
        (4, format!("{web}, {{name: more, port: 8080, protocol: HTTP}}"), true, 200),
    ] {
        gate.save("all.yaml", &manifests(generation, &listeners));
        let wanted = format!("observedGeneration: {generation}");
        let before = format!("observedGeneration: {}", generation - 1);
        gate.until_status(&wanted, |text| text.contains(&wanted) && !text.contains(&before));
        until("port", || TcpStream::connect(more).is_ok() == open);
        assert_eq!(curl(&["-H", "Host: a.example"], &format!("http://{at}/")).status, host, "{listeners}");
        let status = gate.until_status("routes", |text| text.contains("attachedRoutes: 1"));
        assert_eq!(status.matches("attachedRoutes: 1").count(), if open { 2 } else { 1 }, "{status}");
    }
}

/// Seven of ten connections, and none to the back end without weight.
#[test]
fn weighted_connections() {
    // TCPRouteWeightedRouting
    let manifests = [
        app("one"),
        app("two"),
        app("three"),
        gateway("{name: tcp, port: 5432, protocol: TCP}"),
        route(
            "TCPRoute",
            "all",
            "parentRefs: [{name: edge}], rules: [{backendRefs: [{name: one, port: 8080, weight: 7}, {name: two, port: 8080, weight: 3}, {name: three, port: 8080, weight: 0}]}]",
        ),
    ];
    let gate = Gate::with(&[("all.yaml", &manifests.concat())], &["--workers", "1"]);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(gate.at("edge", 5432)).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        *counts.entry(crate::bed::parse(&text).pod()).or_default() += 1;
    }
    assert_eq!(counts, BTreeMap::from([("one-0".to_owned(), 35), ("two-0".to_owned(), 15)]));
}

/// The same for clients, each of which stays where it is.
#[test]
fn weighted_clients() {
    // UDPRouteWeightedRouting
    let server = |answer: &'static [u8]| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(answer, from);
            }
        });
        at
    };
    let service = |name: &str, at: std::net::SocketAddr| {
        crate::backend::service(name, at)
            .replace("name: p, port: 8080,", "name: p, port: 8080, protocol: UDP,")
            .replace("ports: [{name: p, port: ", "ports: [{name: p, protocol: UDP, port: ")
            .replace("{name: p, protocol: UDP, port: 8080, protocol: UDP,", "{name: p, port: 8080, protocol: UDP,")
    };
    let manifests = [
        service("one", server(b"one")),
        service("two", server(b"two")),
        gateway("{name: udp, port: 53, protocol: UDP}"),
        route(
            "UDPRoute",
            "all",
            "parentRefs: [{name: edge}], rules: [{backendRefs: [{name: one, port: 8080, weight: 7}, {name: two, port: 8080, weight: 3}]}]",
        ),
    ];
    let gate = Gate::alone(&[("all.yaml", &manifests.concat())], &["--workers", "1"]);
    let mut counts: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for _ in 0..50 {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(crate::bed::PATIENCE)).unwrap();
        let mut buffer = [0; 64];
        for _ in 0..2 {
            socket.send_to(b"x", gate.at("edge", 53)).unwrap();
            let length = socket.recv(&mut buffer).unwrap();
            *counts.entry(buffer[..length].to_vec()).or_default() += 1;
        }
    }
    assert_eq!(counts, BTreeMap::from([(b"one".to_vec(), 70), (b"two".to_vec(), 30)]));
}

/// One port asks for certificates of an authority, another one takes whoever comes.
#[test]
fn client_certificates() {
    // GatewayFrontendClientCertificateValidation, GatewayFrontendClientCertificateValidationInsecureFallback
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    let folder = tempfile::tempdir().unwrap();
    let file = |name: String, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    // An authority, and arguments for curl with a certificate of its.
    let authority = |name: &str| {
        let (key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::new(Vec::new()).unwrap());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap().pem();
        let (own, issuer) = (KeyPair::generate().unwrap(), Issuer::new(params, key));
        let shown = CertificateParams::new(vec![format!("{name}.example")]).unwrap().signed_by(&own, &issuer).unwrap();
        let arguments = [file(format!("{name}.pem"), shown.pem()), file(format!("{name}.key"), own.serialize_pem())];
        (authority, arguments)
    };
    let ((known, ours), (_, others)) = (authority("ours"), authority("others"));
    let pem = known.lines().fold(String::new(), |out, line| out + "\n    " + line);
    let own = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let indented = |pem: &str| pem.lines().fold(String::new(), |out, line| out + "\n    " + line);
    let secret = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: own}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |{}\n  tls.key: |{}\n",
        indented(&own.cert.pem()),
        indented(&own.signing_key.serialize_pem())
    );
    let refs = "caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]";
    let tls = format!(
        "spec: {{tls: {{frontend: {{default: {{validation: {{{refs}}}}}, perPort: [{{port: 8443, tls: {{validation: {{{refs}, mode: AllowInsecureFallback}}}}}}]}}}}, "
    );
    let manifests = [
        app("one"),
        format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ca}}\ndata:\n  ca.crt: |{pem}\n"),
        secret,
        gateway("{name: asked, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: own}]}}, {name: anyone, port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: own}]}}")
            .replace("spec: {", &tls),
        route("HTTPRoute", "all", "parentRefs: [{name: edge}], rules: [{backendRefs: [{name: one, port: 8080}]}]"),
    ];
    let gate = Gate::of(&[("all.yaml", &manifests.concat())]);
    for (port, shown, expected) in [
        (443, Some(&ours), 200),
        (443, Some(&others), 0),
        (443, None, 0),
        (8443, Some(&ours), 200),
        (8443, Some(&others), 200),
        (8443, None, 200),
    ] {
        let to = format!("::{}", gate.at("edge", port));
        let mut arguments = vec!["--connect-to", &to];
        if let Some([certificate, key]) = shown {
            arguments.extend(["--cert", certificate, "--key", key]);
        }
        assert_eq!(curl(&arguments, "https://a.example/").status, expected, "{port} {shown:?}");
    }
    gate.until_status("the insecure mode", |text| text.contains("type: InsecureFrontendValidationMode"));
}

/// Each copy by itself, of all, some or none of the requests.
#[test]
fn mirrors() {
    // HTTPRouteRequestMultipleMirrors, HTTPRouteRequestPercentageMirror
    const REQUESTS: usize = 200;
    let copies: Vec<_> = (0..4).map(|_| crate::backend::http()).collect();
    let mirror = |index: usize, part: &str| {
        format!("{{type: RequestMirror, requestMirror: {{backendRef: {{name: copy{index}, port: 8080}}{part}}}}}")
    };
    let filters = [
        mirror(0, ""),
        mirror(1, ", percent: 50"),
        mirror(2, ", percent: 0"),
        mirror(3, ", fraction: {numerator: 2, denominator: 2}"),
    ];
    let services: String = copies
        .iter()
        .enumerate()
        .map(|(index, (at, _))| crate::backend::service(&format!("copy{index}"), *at))
        .collect();
    let manifests = [
        services,
        app("one"),
        gateway("{name: web, port: 80, protocol: HTTP}"),
        route(
            "HTTPRoute",
            "all",
            &format!(
                "parentRefs: [{{name: edge}}], rules: [{{filters: [{}], backendRefs: [{{name: one, port: 8080}}]}}]",
                filters.join(", ")
            ),
        ),
    ];
    let gate = Gate::of(&[("all.yaml", &manifests.concat())]);
    for request in 0..REQUESTS {
        let asked = format!("GET /{request} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert!(crate::bed::raw(gate.at("edge", 80), &asked).starts_with("HTTP/1.1 200"));
    }
    let got = |index: usize| String::from_utf8_lossy(&copies[index].1.lock().unwrap()).matches("GET /").count();
    until("all copies", || got(0) == REQUESTS && got(3) == REQUESTS && got(1) > 60);
    assert!(got(1) < 140, "{} of {REQUESTS}", got(1));
    assert_eq!(got(2), 0);
}
