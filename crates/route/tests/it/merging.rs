//! Routes that share listeners, hosts and back ends.

use std::fmt::Write as _;

use strait_route::{Serve, TlsThen};

use crate::{
    bed::compiled,
    matching::{Asked, taken},
};

/// Tries requests (to the port that they name first) against objects in short.
#[track_caller]
fn check(short: &str, cases: &[(u16, &str, &str)]) {
    let plan = compiled(short).plan;
    for (port, line, expected) in cases {
        assert_eq!(taken(&plan, *port, &Asked::new(line, &[])), *expected, "{port} {line}");
    }
}

/// Rules of all routes for a host are one list; of alike ones the older route's comes first, then by name, then the earlier rule.
#[test]
fn across_routes() {
    check(
        r"Gateway d/g
spec: {gatewayClassName: strait, listeners: [{name: web, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]}
---
HTTPRoute d/young 5
spec: {parentRefs: [{name: g}], hostnames: [a.com], rules: [{matches: [{path: {value: /tie}}]}, {matches: [{path: {value: /long/path}}]}]}
---
HTTPRoute d/old 4
spec: {parentRefs: [{name: g}], hostnames: [a.com], rules: [{matches: [{path: {value: /tie}}]}, {matches: [{path: {value: /long}}]}, {matches: [{path: {value: /tie}}]}]}
---
HTTPRoute d/ageless
spec: {parentRefs: [{name: g}], hostnames: [a.com], rules: [{matches: [{path: {value: /tie}}]}, {matches: [{path: {value: /name}}]}]}
---
HTTPRoute d/b-ageless
spec: {parentRefs: [{name: g}], hostnames: [a.com], rules: [{matches: [{path: {value: /name}}]}]}
---
HTTPRoute a-b/z
spec: {parentRefs: [{name: g, namespace: d}], hostnames: [n.com]}
---
HTTPRoute a/z
spec: {parentRefs: [{name: g, namespace: d}], hostnames: [n.com]}
",
        &[
            (80, "GET a.com /tie", "d/old/0"),
            (80, "GET a.com /long/path/x", "d/young/1"),
            (80, "GET a.com /long/other", "d/old/1"),
            (80, "GET a.com /name", "d/ageless/1"),
            (80, "GET a.com /none", ""),
            (80, "GET b.com /tie", ""),
            // By `namespace/name`, as the specification says: `-` comes before `/`.
            (80, "GET n.com /", "a-b/z/0"),
        ],
    );
}

/// The most specific host counts, even if its routes do not take the request.
#[test]
fn hosts() {
    check(
        r"Gateway d/g
spec: {gatewayClassName: strait, listeners: [{name: web, port: 80, protocol: HTTP}]}
---
HTTPRoute d/any
spec: {parentRefs: [{name: g}]}
---
HTTPRoute d/wild
spec: {parentRefs: [{name: g}], hostnames: ['*.x.com']}
---
HTTPRoute d/exact
spec: {parentRefs: [{name: g}], hostnames: [a.x.com, x.com], rules: [{matches: [{path: {value: /only}}]}]}
",
        &[
            (80, "GET a.x.com /only", "d/exact/0"),
            (80, "GET a.x.com /", ""),
            (80, "GET b.x.com /", "d/wild/0"),
            (80, "GET c.b.x.com /", "d/wild/0"),
            (80, "GET x.com /", ""),
            (80, "GET y.com /", "d/any/0"),
        ],
    );
}

/// `GatewayHTTPListenerIsolation`: a request belongs to the listener with the most specific host, and to its routes alone.
#[test]
fn isolation() {
    let listeners = "{name: empty, port: 80, protocol: HTTP}, {name: wild, port: 80, hostname: '*.example.com', protocol: HTTP}, {name: foo, port: 80, hostname: '*.foo.example.com', protocol: HTTP}, {name: exact, port: 80, hostname: abc.foo.example.com, protocol: HTTP}";
    let mut short = format!("Gateway d/g\nspec: {{gatewayClassName: strait, listeners: [{listeners}]}}\n");
    for name in ["empty", "wild", "foo", "exact"] {
        write!(
            short,
            "---\nHTTPRoute d/{name}\nspec: {{parentRefs: [{{name: g, sectionName: {name}}}], rules: [{{matches: [{{path: {{value: /{name}}}}}]}}]}}\n"
        )
        .unwrap();
    }
    let hosts = [
        ("bar.com", "empty"),
        ("bar.example.com", "wild"),
        ("bar.foo.example.com", "foo"),
        ("abc.foo.example.com", "exact"),
    ];
    for (host, listener) in hosts {
        for name in ["empty", "wild", "foo", "exact"] {
            let expected = if name == listener { format!("d/{name}/0") } else { String::new() };
            check(&short, &[(80, &format!("GET {host} /{name}"), &expected)]);
        }
    }
}

/// What a listener's and a route's hosts have in common, over all ports of the route's parent.
#[test]
fn intersections() {
    check(
        r"Gateway d/g
spec:
  gatewayClassName: strait
  listeners:
  - {name: a, port: 1, hostname: very.specific.com, protocol: HTTP}
  - {name: b, port: 2, hostname: '*.wildcard.io', protocol: HTTP}
  - {name: c, port: 3, protocol: HTTP}
---
HTTPRoute d/r
spec: {parentRefs: [{name: g}], hostnames: ['*.specific.com', foo.bar.wildcard.io, '*.io', non.matching.org]}
",
        &[
            (1, "GET very.specific.com /", "d/r/0"),
            (1, "GET other.specific.com /", ""),
            (2, "GET foo.bar.wildcard.io /", "d/r/0"),
            (2, "GET x.wildcard.io /", "d/r/0"),
            (2, "GET wildcard.io /", ""),
            (2, "GET non.matching.org /", ""),
            (3, "GET wildcard.io /", "d/r/0"),
            (3, "GET other.specific.com /", "d/r/0"),
            (3, "GET non.matching.org /", "d/r/0"),
            (3, "GET specific.com /", ""),
        ],
    );
}

/// One address serves what another one does; UDP and TCP share a port's number.
#[test]
fn several_addresses() {
    let compiled = compiled(
        r"Gateway d/g
spec: {gatewayClassName: strait, addresses: [{value: 10.0.0.8}, {value: 10.0.0.9}], listeners: [{name: web, port: 80, protocol: HTTP}, {name: udp, port: 80, protocol: UDP}]}
---
HTTPRoute d/r
spec: {parentRefs: [{name: g}]}
",
    );
    let ports = compiled.plan.ports.iter().map(|port| {
        let routes = match &port.serve {
            Serve::Http(listeners) => listeners.find("a.com").map_or(0, |of| of.hosts.iter().count()),
            Serve::Tls(_) | Serve::Tcp(_) | Serve::Udp(_) => 0,
        };
        format!("{}:{} udp={} hosts={routes}", port.address, port.port, port.serve.is_udp())
    });
    assert_eq!(
        ports.collect::<Vec<_>>(),
        [
            "10.0.0.8:80 udp=false hosts=1",
            "10.0.0.8:80 udp=true hosts=0",
            "10.0.0.9:80 udp=false hosts=1",
            "10.0.0.9:80 udp=true hosts=0",
        ]
    );
}

/// Shares of references: those without weight have none, those that lead nowhere keep theirs.
#[test]
fn weights() {
    let cases = [
        ("{name: web, port: 80}", "1:true/1"),
        ("{name: web, port: 80, weight: 3}, {name: nothing, port: 80, weight: 2}", "3:true 2:false/5"),
        ("{name: web, port: 80, weight: 0}, {name: web, port: 80, weight: 9}", "9:true/9"),
        ("{name: web, port: 80, weight: 0}", "/0"),
        (
            "{name: web, port: 80, weight: 1000000}, {name: web, port: 80, weight: 1000000}",
            "1000000:true 1000000:true/2000000",
        ),
        ("", "/0"),
    ];
    for (references, expected) in cases {
        let short = format!(
            "Gateway d/g\nspec: {{gatewayClassName: strait, listeners: [{{name: web, port: 80, protocol: HTTP}}]}}\n---\nService d/web\nspec: {{ports: [{{port: 80}}]}}\n---\nHTTPRoute d/r\nspec: {{parentRefs: [{{name: g}}], rules: [{{backendRefs: [{references}]}}]}}\n"
        );
        let plan = compiled(&short).plan;
        let split = &plan.rules.get(0).unwrap().split;
        let targets: Vec<String> =
            split.targets.iter().map(|target| format!("{}:{}", target.weight, target.backend.is_some())).collect();
        assert_eq!(format!("{}/{}", targets.join(" "), split.total), expected, "{references}");
    }
}

/// `TCPRouteMultipleRoutesAttachment`: both attach, the older one is served. So it is for a server name.
#[test]
fn the_older_connection_route() {
    let compiled = compiled(
        r"Gateway d/g
spec: {gatewayClassName: strait, listeners: [{name: t, port: 90, protocol: TCP}, {name: s, port: 91, protocol: TLS, tls: {mode: Passthrough}}]}
---
Service d/old
spec: {ports: [{port: 80}]}
---
Service d/young
spec: {ports: [{port: 80}]}
---
TCPRoute d/a 9
spec: {parentRefs: [{name: g}], rules: [{backendRefs: [{name: young, port: 80}]}]}
---
TCPRoute d/b 8
spec: {parentRefs: [{name: g}], rules: [{backendRefs: [{name: old, port: 80}]}]}
---
TLSRoute d/a 9
spec: {parentRefs: [{name: g}], hostnames: [both.com, '*.young.com'], rules: [{backendRefs: [{name: young, port: 80}]}]}
---
TLSRoute d/b 8
spec: {parentRefs: [{name: g}], hostnames: [both.com], rules: [{backendRefs: [{name: old, port: 80}]}]}
",
    );
    let plan = &compiled.plan;
    let of = |split: &strait_route::Split| {
        let backend = split.targets[0].backend.unwrap();
        plan.backends.get(usize::try_from(backend).unwrap()).unwrap().service.to_string()
    };
    for port in &plan.ports {
        match &port.serve {
            Serve::Tcp(split) => assert_eq!(of(split.as_ref().unwrap()), "old"),
            Serve::Tls(names) => {
                let TlsThen::Passthrough(routes) = &names.find("both.com").unwrap().then else { unreachable!() };
                let found = ["both.com", "a.young.com", "other.com"].map(|name| routes.find(name).map(&of));
                assert_eq!(found, [Some("old".to_owned()), Some("young".to_owned()), None]);
            }
            Serve::Http(_) | Serve::Udp(_) => unreachable!("{:?}", port.serve),
        }
    }
    let status = compiled.statuses.iter().find(|status| &*status.object.name == "g").unwrap();
    let attached: Vec<u64> = status.status["listeners"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| of["attachedRoutes"].as_u64().unwrap())
        .collect();
    assert_eq!(attached, [2, 2]);
}

/// Calls: the longer service, then the longer method, then more headers; what names no service comes last.
#[test]
fn calls() {
    check(
        r"Gateway d/g
spec: {gatewayClassName: strait, listeners: [{name: web, port: 80, protocol: HTTP}]}
---
GRPCRoute d/r
spec:
  parentRefs: [{name: g}]
  rules:
  - {name: all}
  - {name: method, matches: [{method: {method: Get}}]}
  - {name: service, matches: [{method: {service: a.Books}}]}
  - {name: both, matches: [{method: {service: a.Books, method: Get}}]}
  - {name: pattern, matches: [{method: {type: RegularExpression, service: 'b[.].*', method: 'G.*'}}]}
",
        &[
            (80, "POST x.com /a.Books/Get", "GRPCRoute/d/r/both"),
            (80, "POST x.com /a.Books/List", "GRPCRoute/d/r/service"),
            (80, "POST x.com /c.Shelves/Get", "GRPCRoute/d/r/method"),
            (80, "POST x.com /b.Books/Go", "GRPCRoute/d/r/pattern"),
            (80, "POST x.com /c.Shelves/List", "GRPCRoute/d/r/all"),
        ],
    );
}
