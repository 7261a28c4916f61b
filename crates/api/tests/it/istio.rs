//! What Istio's objects read as where that is not as it looks, and which of their fields are named as not enforced.

use std::sync::Arc;

use strait_api::{Object, Topic, istio::*, parse};

fn parsed(kind: &str, spec: &str) -> strait_api::Parsed {
    let text = format!("apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}\n");
    let parsed = parse(&Arc::from("a.yaml"), text.as_bytes());
    assert!(parsed.errors.is_empty(), "{text}{:?}", parsed.errors);
    parsed
}

fn http(route: &str) -> HttpRoute {
    let spec = format!("{{hosts: [a], http: [{{{route}}}]}}");
    let Object::VirtualService(of) = &parsed("VirtualService", &spec).objects[0] else { unreachable!() };
    of.http[0].clone()
}

#[test]
fn each_version_is_the_same() {
    for version in ["v1", "v1beta1", "v1alpha3"] {
        let text = format!(
            "apiVersion: networking.istio.io/{version}\nkind: Gateway\nmetadata: {{name: a}}\n\
             spec: {{servers: [{{port: {{number: 80, protocol: http, name: a}}, hosts: [A.example]}}]}}\n"
        );
        let parsed = parse(&Arc::from("a.yaml"), text.as_bytes());
        let [Object::IstioGateway(gateway)] = parsed.objects.as_slice() else { panic!("{parsed:?}") };
        let server = &gateway.servers[0];
        assert_eq!((server.port.protocol, &*server.hosts[0].host), (PortProtocol::Http, "a.example"), "{version}");
    }
}

/// What protobuf's zeros and fields of before mean.
#[test]
fn defaults() {
    let fault = |text: &str| {
        http(&format!("fault: {{abort: {{httpStatus: 500{text}}}}}, route: [{{destination: {{host: a}}}}]"))
            .fault
            .unwrap()
    };
    for (text, millionths) in [
        ("", 0),
        (", percentage: {}", 0),
        (", percent: 7", 70_000),
        (", percentage: {value: 0.01}", 100),
        (", percentage: {value: 100.0}", 1_000_000),
    ] {
        assert_eq!(fault(text).abort.unwrap().percentage.millionths, millionths, "{text}");
    }
    let mirror =
        |text: &str| http(&format!("{text}, route: [{{destination: {{host: a}}}}]")).mirrors[0].percentage.millionths;
    assert_eq!(mirror("mirror: {host: b}"), 1_000_000);
    assert_eq!(mirror("mirror: {host: b}, mirrorPercent: 5"), 50_000);
    assert_eq!(mirror("mirror: {host: b}, mirrorPercentage: {value: 0}"), 0);
    // A single destination gets everything, whatever its weight.
    let HttpAction::Route(route) = http("route: [{destination: {host: a}, weight: 0}]").action else { unreachable!() };
    assert_eq!(route[0].weight, 1);
    let HttpAction::Redirect(redirect) = http("redirect: {uri: /a}").action else { unreachable!() };
    assert_eq!((redirect.redirect_code, redirect.port), (301, RedirectPort::Unset));
    let retries = http("retries: {attempts: 2, retryOn: ' 5xx , 503,'}, route: [{destination: {host: a}}]").retries;
    assert_eq!(retries.unwrap().retry_on, [RetryOn::ServerError, RetryOn::Status(503)]);
    for (token, read) in RetryOn::NAMED {
        let route = format!("retries: {{attempts: 1, retryOn: '{token}'}}, route: [{{destination: {{host: a}}}}]");
        assert_eq!(http(&route).retries.unwrap().retry_on, [read], "{token}");
    }
    let headers =
        http("headers: {request: {set: {':Authority': a, X-B: '100%%'}}}, route: [{destination: {host: a}}]").headers;
    let set = headers.unwrap().request.set;
    assert_eq!((set.get("host").map(|v| &**v), set.get("x-b").map(|v| &**v)), (Some("a"), Some("100%")));
}

#[test]
fn visibility() {
    let cases: [(&str, &[(&str, bool)]); 5] = [
        ("", &[("a", true), ("default", true)]),
        (", exportTo: ['*']", &[("a", true)]),
        (", exportTo: [.]", &[("a", false), ("default", true)]),
        (", exportTo: [b, .]", &[("a", false), ("b", true), ("default", true)]),
        (", exportTo: ['~']", &[("a", false), ("default", false)]),
    ];
    for (text, expected) in cases {
        let spec = format!("{{hosts: [a], http: [{{route: [{{destination: {{host: a}}}}]}}]{text}}}");
        let Object::VirtualService(of) = &parsed("VirtualService", &spec).objects[0] else { unreachable!() };
        for (namespace, reaches) in expected {
            assert_eq!(of.export_to.reaches("default", namespace), *reaches, "{text} {namespace}");
        }
    }
}

/// Every field whose work nobody does yet is named where it stands.
#[test]
fn not_enforced() {
    let policy = |text: &str| format!("{{host: a, trafficPolicy: {{{text}}}}}");
    let route = |text: &str| format!("{{hosts: [a], http: [{{{text}, route: [{{destination: {{host: a}}}}]}}]}}");
    let cases = [
        ("VirtualService", route("retries: {attempts: 2, retryOn: '5xx,unavailable'}"), "spec.http[0].retries.retryOn"),
        ("VirtualService", route("retries: {attempts: 2, retryIgnorePreviousHosts: false}"), "spec.http[0].retries"),
        (
            "VirtualService",
            route("match: [{headers: {'@request.auth.claims.a': {exact: b}}}]"),
            "spec.http[0].match[0].headers",
        ),
        (
            "VirtualService",
            route("match: [{withoutHeaders: {'@request.auth.claims[a][b]': {exact: b}}}]"),
            "spec.http[0].match[0].withoutHeaders",
        ),
        ("VirtualService", route("headers: {request: {set: {a: '%REQ(b)%'}}}"), "spec.http[0].headers.request.set[a]"),
        (
            "DestinationRule",
            policy("outlierDetection: {consecutive5xxErrors: 1}"),
            "spec.trafficPolicy.outlierDetection",
        ),
        (
            "DestinationRule",
            policy("connectionPool: {tcp: {maxConnections: 1}}"),
            "spec.trafficPolicy.connectionPool.tcp",
        ),
        (
            "DestinationRule",
            policy("connectionPool: {http: {maxRetries: 1}}"),
            "spec.trafficPolicy.connectionPool.http.maxRetries",
        ),
        ("DestinationRule", policy("loadBalancer: {simple: LEAST_REQUEST}"), "spec.trafficPolicy.loadBalancer.simple"),
        (
            "DestinationRule",
            policy("loadBalancer: {consistentHash: {useSourceIp: true}}"),
            "spec.trafficPolicy.loadBalancer.consistentHash",
        ),
        (
            "DestinationRule",
            policy("loadBalancer: {localityLbSetting: {enabled: true}}"),
            "spec.trafficPolicy.loadBalancer.localityLbSetting",
        ),
        ("DestinationRule", policy("retryBudget: {percent: 1}"), "spec.trafficPolicy.retryBudget"),
    ];
    for (kind, spec, path) in cases {
        let parsed = parsed(kind, &spec);
        let note = parsed.notes.iter().find(|note| note.topic == Topic::NotEnforced);
        assert_eq!(note.map(|note| (note.path.as_str(), note.location.line)), Some((path, 4)), "{spec}");
    }
    for quiet in ["loadBalancer: {simple: ROUND_ROBIN}", "connectionPool: {http: {h2UpgradePolicy: UPGRADE}}"] {
        assert!(parsed("DestinationRule", &policy(quiet)).notes.is_empty(), "{quiet}");
    }
}
