//! Istio's objects: which requests and connections go where, and what is done with them on the way.

use std::{fmt::Write as _, sync::Arc};

use strait_api::{Objects, parse};
use strait_route::{Assigned, Compiled, Request, Resolved, Serve, Split, TlsThen, assign_istio, compile_with};

use crate::bed::NOW;

/// Services `web` (v1 at .1 and .2, v2 at .3) and `api` of the namespace `shop`, `db` with several ports, and a gateway for all hosts.
const BASE: &str = "
v1 Service shop/web {ports: [{name: http, port: 80, targetPort: 8080}], selector: {app: web}}
v1 Pod shop/web-a {containers: [{name: c}], serviceAccountName: web} {app: web, version: v1}
v1 Pod shop/web-b {containers: [{name: c}], serviceAccountName: web} {app: web, version: v1}
v1 Pod shop/web-c {containers: [{name: c}], serviceAccountName: other} {app: web, version: v2}
v1 Service shop/api {ports: [{name: grpc-api, port: 9000}]}
v1 Service shop/db {ports: [{name: tcp, port: 3306}, {name: admin, port: 3307}]}
slice shop/web http 8080 10.1.0.1=web-a 10.1.0.2=web-b 10.1.0.3=web-c
slice shop/api grpc-api 9000 10.1.0.9=none
slice shop/db tcp 3306 10.1.0.7=none
istio Gateway shop/edge {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
";

/// Reads objects of a line each: group, kind, name, spec and labels.
#[track_caller]
fn objects(lines: &str) -> Objects {
    let mut yaml = String::new();
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let (group, rest) = line.split_once(' ').unwrap();
        if group == "slice" {
            let words: Vec<&str> = rest.split(' ').collect();
            let (namespace, service) = words[0].split_once('/').unwrap();
            let (name, port) = (words[1], words[2]);
            write!(
                yaml,
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {service}-1, namespace: {namespace}, \
                 labels: {{kubernetes.io/service-name: {service}}}}}\naddressType: IPv4\nports: [{{name: {name}, port: {port}}}]\nendpoints:\n"
            )
            .unwrap();
            for endpoint in &words[3..] {
                let (address, pod) = endpoint.split_once('=').unwrap();
                writeln!(yaml, "- {{addresses: [{address}], targetRef: {{kind: Pod, name: {pod}}}}}").unwrap();
            }
            continue;
        }
        let (kind, rest) = rest.split_once(' ').unwrap();
        let (name, rest) = rest.split_once(' ').unwrap();
        let (name, age) = name.split_once('@').unwrap_or((name, "00"));
        let (namespace, name) = name.split_once('/').unwrap();
        let (spec, labels) = match (kind, rest.rsplit_once("} {")) {
            ("Pod", Some((spec, labels))) => (format!("{spec}}}"), format!("{{{labels}")),
            _ => (rest.to_owned(), "{}".to_owned()),
        };
        let version = if group == "istio" { "networking.istio.io/v1" } else { group };
        let content = if kind == "Secret" { "data" } else { "spec" };
        write!(
            yaml,
            "---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}, labels: {labels}, \
             creationTimestamp: '2026-01-01T00:00:{age}Z'}}\n{content}: {spec}\n"
        )
        .unwrap();
    }
    let parsed = parse(&Arc::from("lines.yaml"), yaml.as_bytes());
    assert!(parsed.errors.is_empty(), "{:#?}\n{yaml}", parsed.errors);
    parsed.objects.into_iter().collect()
}

#[track_caller]
pub(crate) fn compiled(lines: &str) -> Compiled {
    compiled_with(lines, &Resolved::new())
}

#[track_caller]
fn compiled_with(lines: &str, resolved: &Resolved) -> Compiled {
    let objects = objects(lines);
    let mut assigned = Assigned::new();
    assign_istio(&objects, "10.0.0.0/24".parse().unwrap(), &Assigned::new(), &mut assigned);
    compile_with(&objects, &assigned, resolved, NOW)
}

/// A virtual service for every host at the gateway, with these routes.
pub(crate) fn routed(http: &str) -> String {
    format!("{BASE}istio VirtualService shop/vs {{hosts: ['*'], gateways: [edge], http: [{http}]}}\n")
}

pub(crate) const WEB: &str = "route: [{destination: {host: web}}]";

/// A request, as `[METHOD] [scheme://]host/path?query [name=value …]`.
pub(crate) struct Asked {
    method: String,
    scheme: String,
    authority: String,
    path: String,
    query: Option<String>,
    headers: Vec<(String, String)>,
}

impl Asked {
    pub(crate) fn new(text: &str) -> Self {
        let mut words = text.split(' ');
        let first = words.next().unwrap();
        let (method, url) = if first.contains('/') { ("GET", first) } else { (first, words.next().unwrap()) };
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let (authority, rest) = rest.split_once('/').unwrap();
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (rest, None),
        };
        let pair = |word: &str| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
        Self {
            method: method.into(),
            scheme: scheme.into(),
            authority: authority.into(),
            path: format!("/{path}"),
            query,
            headers: words.map(pair).collect(),
        }
    }
}

impl Request for Asked {
    fn method(&self) -> &str {
        &self.method
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn header(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.headers.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_bytes())
    }

    fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    fn authority(&self) -> &str {
        &self.authority
    }

    fn scheme(&self) -> &str {
        &self.scheme
    }
}

/// The rule that takes a request on a port, by the end of its name; `-` where none does.
pub(crate) fn rule(compiled: &Compiled, port: u16, asked: &Asked) -> Option<u32> {
    let plan = compiled.plan.ports.iter().find(|plan| plan.port == port)?;
    let host = asked.authority.split(':').next().unwrap();
    let listener = match &plan.serve {
        Serve::Http(listeners) => listeners.find(host)?,
        Serve::Tls(listeners) => match &listeners.find(host)?.then {
            TlsThen::Http(_, listener) => listener,
            TlsThen::Tcp(..) | TlsThen::Passthrough(_) | TlsThen::Mesh(_) => return None,
        },
        Serve::Tcp(_) | Serve::Udp(_) => return None,
    };
    listener.hosts.find(host)?.find(asked)
}

pub(crate) fn taken(compiled: &Compiled, port: u16, text: &str) -> String {
    match rule(compiled, port, &Asked::new(text)) {
        Some(id) => {
            let name = compiled.plan.rules.get(id as usize).unwrap().name.to_string();
            name.split_once("/shop/").map_or(name.clone(), |(_, rest)| rest.to_owned())
        }
        None => "-".into(),
    }
}

/// The rule of the only route.
#[track_caller]
pub(crate) fn only(http: &str) -> (Compiled, usize) {
    let compiled = compiled(&routed(http));
    assert_eq!(compiled.troubles, [], "{http}");
    let id = rule(&compiled, 80, &Asked::new("a/")).unwrap() as usize;
    (compiled, id)
}

/// Where a split leads: `host:port xWEIGHT = endpoints`.
pub(crate) fn split(compiled: &Compiled, split: &Split) -> String {
    let one = |target: &strait_route::WeightedBackend| {
        let backend = compiled.plan.backends.get(target.backend.unwrap() as usize).unwrap();
        let endpoints: Vec<String> =
            backend.endpoints.iter().map(|endpoint| format!("{}:{}", endpoint.address, endpoint.port)).collect();
        format!("{} x{} [{}]", backend.name, target.weight, endpoints.join(" "))
    };
    split.targets.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_kind_of_match() {
    // Match, request that it takes, request that it does not.
    let cases = [
        ("uri: {exact: /a}", "h/a", "h/a/"),
        ("uri: {exact: /a}", "h/a?b=c", "h/A"),
        ("uri: {prefix: /a}", "h/ab", "h/b"),
        ("uri: {prefix: /a}", "h/a/b", "h/"),
        ("uri: {regex: '/a[0-9]+'}", "h/a12", "h/a12/"),
        ("uri: {exact: /Ab}, ignoreUriCase: true", "h/aB", "h/aBc"),
        ("uri: {prefix: /Ab}, ignoreUriCase: true", "h/aBc", "h/a"),
        ("uri: {regex: '/Ab'}, ignoreUriCase: true", "h/Ab", "h/ab"),
        ("scheme: {exact: http}", "http://h/", "https://h/"),
        ("method: {exact: POST}", "POST h/", "GET h/"),
        ("method: {regex: 'P.*'}", "PUT h/", "GET h/"),
        ("authority: {exact: 'h:81'}", "h:81/", "h/"),
        ("authority: {prefix: h.}", "h.b/", "g/"),
        ("headers: {x-a: {exact: b}}", "h/ x-a=b", "h/ x-a=c"),
        ("headers: {X-A: {exact: b}}", "h/ x-a=b", "h/"),
        ("headers: {x-a: {prefix: b}}", "h/ x-a=bc", "h/ x-a=cb"),
        ("headers: {x-a: {regex: '[0-9]+'}}", "h/ x-a=12", "h/ x-a=12b"),
        ("headers: {x-a: {}}", "h/ x-a=", "h/"),
        ("headers: {x-a: {exact: 'b,c'}}", "h/ x-a=b x-a=c", "h/ x-a=c x-a=b"),
        ("headers: {cookie: {regex: '^(.*?;)?(user=jason)(;.*)?$'}}", "h/ cookie=user=jason;b=c", "h/ cookie=user=jan"),
        ("headers: {x-a: {exact: b}, x-c: {exact: d}}", "h/ x-a=b x-c=d", "h/ x-a=b"),
        ("headers: {':method': {exact: PUT}}", "PUT h/", "GET h/"),
        ("headers: {':authority': {exact: h}}", "h/", "h:8/"),
        ("headers: {':path': {prefix: '/a?b'}}", "h/a?b=c", "h/a"),
        ("headers: {uri: {exact: b}}", "h/", "other"),
        ("withoutHeaders: {x-a: {exact: b}}", "h/ x-a=c", "h/ x-a=b"),
        ("withoutHeaders: {x-a: {exact: b}}", "h/", "h/ x-a=b"),
        ("withoutHeaders: {x-a: {}}", "h/", "h/ x-a=c"),
        ("withoutHeaders: {x-a: {prefix: b}, x-c: {}}", "h/ x-a=c", "h/ x-c=d"),
        ("queryParams: {q: {exact: b}}", "h/?a=b&q=b", "h/?q=c"),
        ("queryParams: {q: {exact: 'b c'}}", "h/?q=b%20c", "h/?q=b"),
        ("queryParams: {q: {prefix: b}}", "h/?q=bc", "h/"),
        ("queryParams: {q: {regex: '[0-9]'}}", "h/?q=1", "h/?q=12"),
        ("queryParams: {q: {}}", "h/?q=", "h/?p=q"),
        ("port: 80", "h/", "other"),
        ("gateways: [edge]", "h/", "other"),
        ("gateways: [shop/edge]", "h/", "other"),
        ("gateways: [mesh, edge]", "h/", "other"),
        ("sourceLabels: {istio: ingressgateway}", "h/", "other"),
        ("sourceNamespace: istio-system", "h/", "other"),
        // What names gateways is not asked for what it says of clients.
        ("gateways: [edge], sourceLabels: {app: a}", "h/", "other"),
        ("uri: {prefix: /a}, method: {exact: PUT}, headers: {x-a: {exact: b}}", "PUT h/a x-a=b", "PUT h/a"),
    ];
    let mut wrong = String::new();
    for (of, yes, no) in cases {
        let compiled = compiled(&routed(&format!("{{match: [{{{of}}}], {WEB}}}")));
        let found = (taken(&compiled, 80, yes), if no == "other" { "-".into() } else { taken(&compiled, 80, no) });
        if found != ("vs/0".to_owned(), "-".to_owned()) || !compiled.troubles.is_empty() {
            writeln!(wrong, "{of}: {yes} {}, {no} {} {:?}", found.0, found.1, compiled.troubles).unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// What can never hold at the gate, or is not known yet, takes nothing.
#[test]
fn matches_that_never_hold() {
    for of in [
        "port: 81",
        "gateways: [mesh]",
        "gateways: [other/edge]",
        "sourceLabels: {app: web}",
        "sourceNamespace: shop",
        "headers: {'@request.auth.claims.group': {exact: admin}}",
        "headers: {'@request.auth.claims[group]': {exact: admin}, x-a: {}}",
        "withoutHeaders: {'@request.auth.claims.group': {exact: admin}}",
    ] {
        let compiled = compiled(&routed(&format!("{{match: [{{{of}}}], {WEB}}}")));
        assert_eq!(taken(&compiled, 80, "h/ x-a=b"), "-", "{of}");
    }
}

#[test]
fn the_first_that_matches_wins() {
    let http = format!(
        "{{name: a, match: [{{uri: {{prefix: /a}}, headers: {{x: {{exact: v}}}}}}], {WEB}}}, \
         {{name: b, match: [{{uri: {{prefix: /a/b}}}}, {{uri: {{exact: /z}}}}], {WEB}}}, \
         {{name: c, match: [{{uri: {{prefix: /a}}}}], {WEB}}}, \
         {{name: d, match: [{{uri: {{exact: /a/c}}}}], {WEB}}}, \
         {{name: e, {WEB}}}, \
         {{name: f, match: [{{uri: {{exact: /q}}}}], {WEB}}}"
    );
    let compiled = compiled(&routed(&http));
    for (asked, expected) in [
        ("h/a/b x=v", "vs/a"),
        ("h/a/b", "vs/b"),
        ("h/z", "vs/b"),
        ("h/a/c", "vs/c"),
        ("h/ab", "vs/c"),
        ("h/other", "vs/e"),
        // After a route for everything none is ever asked.
        ("h/q", "vs/e"),
    ] {
        assert_eq!(taken(&compiled, 80, asked), expected, "{asked}");
    }
}

/// Hosts of the gateway, hosts of the virtual service, what is asked, and whether it is served.
#[test]
fn hosts() {
    let cases = [
        ("'*'", "'*'", "a.b", true),
        ("'*'", "a.b", "a.b", true),
        ("'*'", "a.b", "A.B", false),
        ("'*'", "a.b", "c.b", false),
        ("'*'", "'*.b'", "a.b", true),
        ("'*'", "'*.b'", "b", false),
        ("a.b", "'*'", "a.b", true),
        ("a.b", "'*'", "c.b", false),
        ("a.b", "'*.b'", "a.b", true),
        ("a.b", "'*.b'", "c.b", false),
        ("'*.b'", "'*.a.b'", "x.a.b", true),
        ("'*.b'", "c.d", "c.d", false),
        // Short names are of the virtual service's namespace.
        ("'*'", "web", "web.shop.svc.cluster.local", true),
        ("'*'", "web", "web", false),
        // Namespaces that may bind.
        ("./a.b", "a.b", "a.b", true),
        ("shop/a.b", "a.b", "a.b", true),
        ("'*/a.b'", "a.b", "a.b", true),
        ("other/a.b", "a.b", "a.b", false),
    ];
    for (of_gateway, of_service, asked, expected) in cases {
        let lines = BASE.replace("hosts: ['*']", &format!("hosts: [{of_gateway}]"));
        let lines = format!(
            "{lines}istio VirtualService shop/vs {{hosts: [{of_service}], gateways: [edge], http: [{{{WEB}}}]}}\n"
        );
        let found = taken(&compiled(&lines), 80, &format!("{asked}/"));
        assert_eq!(found == "vs/0", expected, "{of_gateway} {of_service} {asked}: {found}");
    }
}

/// How gateways are named, and what is visible at the gate.
#[test]
fn bindings() {
    let cases = [
        ("gateways: [edge]", "vs/0", 0),
        ("gateways: [shop/edge]", "vs/0", 0),
        ("gateways: [./edge, mesh]", "vs/0", 0),
        ("gateways: [mesh]", "-", 0),
        ("", "-", 0),
        ("gateways: [edge, nowhere]", "vs/0", 1),
        ("gateways: [edge], exportTo: ['*']", "vs/0", 0),
        ("gateways: [edge], exportTo: [istio-system]", "vs/0", 0),
        ("gateways: [edge], exportTo: [.]", "-", 1),
    ];
    for (of, expected, troubles) in cases {
        let comma = if of.is_empty() { "" } else { ", " };
        let lines = format!("{BASE}istio VirtualService shop/vs {{hosts: [a.b], http: [{{{WEB}}}]{comma}{of}}}\n");
        let compiled = compiled(&lines);
        assert_eq!((taken(&compiled, 80, "a.b/").as_str(), compiled.troubles.len()), (expected, troubles), "{of}");
    }
}

/// Which gateways are the gate's, and that those of one workload share an address and merge.
#[test]
fn gateways_that_are_selected() {
    let gateway = |name: &str, selector: &str, port: u16| {
        format!(
            "istio Gateway shop/{name} {{selector: {{{selector}}}, servers: [{{port: {{number: {port}, name: p, protocol: HTTP}}, hosts: ['*']}}]}}\n"
        )
    };
    let at = |lines: &str| {
        let compiled = compiled(lines);
        let ports: Vec<String> =
            compiled.plan.ports.iter().map(|port| format!("{}:{} {}", port.address, port.port, port.gateway)).collect();
        (ports.join(", "), compiled.troubles.len())
    };
    for (selector, selected) in [
        ("istio: ingressgateway", true),
        ("app: istio-ingressgateway", true),
        ("istio: ingressgateway, app: istio-ingressgateway", true),
        ("istio: ingress", true),
        ("istio: egressgateway", true),
        ("", true),
        ("istio: other", false),
        ("istio: ingressgateway, app: other", false),
    ] {
        let expected = if selected { ("10.0.0.1:80 shop/a".to_owned(), 0) } else { (String::new(), 1) };
        assert_eq!(at(&gateway("a", selector, 80)), expected, "{selector}");
    }
    let (ingress, egress) = ("istio: ingressgateway", "istio: egressgateway");
    let merged = [gateway("a", ingress, 80), gateway("b", ingress, 80), gateway("c", ingress, 81)].concat();
    assert_eq!(at(&merged).0, "10.0.0.1:80 shop/a,shop/b, 10.0.0.1:81 shop/c");
    let apart = [gateway("a", ingress, 80), gateway("b", egress, 80), gateway("c", "", 81)].concat();
    assert_eq!(at(&apart).0, "10.0.0.1:80 shop/b, 10.0.0.1:81 shop/c, 10.0.0.2:80 shop/a, 10.0.0.2:81 shop/c");
}

#[test]
fn virtual_services_of_one_host() {
    let service = |name: &str, http: &str| {
        format!("istio VirtualService shop/{name} {{hosts: [a.b], gateways: [edge], http: [{http}]}}\n")
    };
    let on = |uri: &str| format!("{{match: [{{uri: {{{uri}}}}}], {WEB}}}");
    // The older one first, whatever its name; what takes everything comes last.
    let lines = [
        BASE.to_owned(),
        service("a@09", &on("prefix: /x")),
        service("z@01", &[on("prefix: /x/y"), format!("{{{WEB}}}")].join(", ")),
        service("m@05", &on("exact: /x/y/z")),
    ]
    .concat();
    let compiled_lines = compiled(&lines);
    for (asked, expected) in [("a.b/x/y/z", "z/0"), ("a.b/x/q", "a/0"), ("a.b/other", "z/1")] {
        assert_eq!(taken(&compiled_lines, 80, asked), expected, "{asked}");
    }
    assert_eq!(compiled_lines.troubles, []);
    // Two that claim the same are both named.
    let cases = [
        (on("prefix: /x"), on("prefix: /x"), 1),
        (on("prefix: /x"), on("exact: /x"), 0),
        (on("exact: /x"), format!("{{match: [{{uri: {{exact: /x}}, method: {{exact: PUT}}}}], {WEB}}}"), 1),
        (format!("{{match: [{{uri: {{exact: /x}}, method: {{exact: PUT}}}}], {WEB}}}"), on("exact: /x"), 0),
        (format!("{{{WEB}}}"), format!("{{{WEB}}}"), 1),
        (
            format!("{{match: [{{headers: {{a: {{exact: b}}}}}}], {WEB}}}"),
            format!("{{match: [{{headers: {{a: {{exact: c}}}}}}], {WEB}}}"),
            0,
        ),
        (on("regex: /x.*"), on("regex: /x.*"), 1),
    ];
    for (first, second, expected) in cases {
        let compiled = compiled(&[BASE.to_owned(), service("a@01", &first), service("b@02", &second)].concat());
        assert_eq!(compiled.troubles.len(), expected, "{first} {second} {:?}", compiled.troubles);
        if let [trouble] = compiled.troubles.as_slice() {
            assert_eq!(trouble.object.to_string(), "VirtualService/shop/b");
            assert!(trouble.message.contains("VirtualService shop/a at lines.yaml:"), "{trouble}");
        }
    }
}

#[test]
fn delegates() {
    let root = |of: &str| format!("{{{of}, delegate: {{name: inner, namespace: team}}}}");
    let inner = |http: &str| {
        format!("v1 Service team/own {{ports: [{{port: 80}}]}}\nistio VirtualService team/inner {{http: [{http}]}}\n")
    };
    let own = "route: [{destination: {host: own}}]";
    let lines = |of: &str, http: &str| [routed(&root(of)), inner(http)].concat();
    let taken = |compiled: &Compiled, asked: &str| {
        let id = rule(compiled, 80, &Asked::new(asked));
        id.map_or("-".to_owned(), |id| {
            let rule = &compiled.plan.rules.get(id as usize).unwrap();
            format!("{} {}", rule.name, split(compiled, &rule.split))
        })
    };
    let served = "VirtualService/team/inner/0 outbound|80||own.team.svc.cluster.local x1 []";
    // Root's match, delegate's match, request, whether it is served.
    for (of, within, asked, expected) in [
        ("match: [{uri: {prefix: /a}}]", "", "h/a/b", true),
        ("match: [{uri: {prefix: /a}}]", "", "h/b", false),
        ("match: [{uri: {prefix: /a}}]", "match: [{uri: {prefix: /a/b}}], ", "h/a/b", true),
        ("match: [{uri: {prefix: /a}}]", "match: [{uri: {prefix: /a/b}}], ", "h/a", false),
        ("match: [{uri: {prefix: /a}}]", "match: [{uri: {exact: /a/b}}], ", "h/a/b", true),
        ("match: [{uri: {prefix: /a}}]", "match: [{uri: {prefix: /b}}], ", "h/b", false),
        ("match: [{uri: {exact: /a}}]", "match: [{uri: {prefix: /a}}], ", "h/a", false),
        ("match: [{uri: {prefix: /a}}]", "match: [{method: {exact: PUT}}], ", "PUT h/a", true),
        ("match: [{uri: {prefix: /a}}]", "match: [{method: {exact: PUT}}], ", "GET h/a", false),
        ("match: [{headers: {a: {exact: b}}}]", "match: [{headers: {c: {exact: d}}}], ", "h/ a=b c=d", true),
        ("match: [{headers: {a: {exact: b}}}]", "match: [{headers: {c: {exact: d}}}], ", "h/ c=d", false),
        ("match: [{headers: {a: {exact: b}}}]", "match: [{headers: {a: {exact: c}}}], ", "h/ a=c", false),
        ("match: [{uri: {prefix: /a}}, {uri: {prefix: /b}}]", "match: [{uri: {prefix: /b/c}}], ", "h/b/c", true),
    ] {
        let compiled = compiled(&lines(of, &format!("{{{within}{own}}}")));
        let found = taken(&compiled, asked);
        assert_eq!(found, if expected { served } else { "-" }, "{of} {within} {asked}");
    }
    // What the delegate does not say is the root's.
    let both = lines(
        "match: [{uri: {prefix: /a}}], timeout: 3s",
        &format!("{{{own}}}, {{match: [{{uri: {{prefix: /a/b}}}}], timeout: 1s, {own}}}"),
    );
    let compiled = compiled(&both);
    let id = rule(&compiled, 80, &Asked::new("h/a")).unwrap() as usize;
    assert_eq!(compiled.plan.rules.get(id).unwrap().request_timeout, Some(std::time::Duration::from_secs(3)));
}

/// Delegates that are not there, or are none.
#[test]
fn delegates_that_are_missing() {
    for (inner, message) in [
        ("", "there is no VirtualService/shop/inner"),
        ("istio VirtualService shop/inner {hosts: [a], http: [{redirect: {uri: /a}}]}\n", "it is no delegate"),
        ("istio VirtualService shop/inner {exportTo: ['~'], http: [{redirect: {uri: /a}}]}\n", "it is no delegate"),
    ] {
        let compiled = compiled(&format!("{}{inner}", routed("{delegate: {name: inner}}")));
        assert_eq!(taken(&compiled, 80, "h/"), "-", "{inner}");
        assert!(compiled.troubles.iter().any(|of| of.message.contains(message)), "{:?}", compiled.troubles);
    }
}

#[test]
fn destinations() {
    let v1 = "istio DestinationRule shop/web {host: web, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}, {name: none, labels: {version: v9}}, {name: all}]}\n";
    let (one, two, three) = ("10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.3:8080");
    let all = format!("{one} {two} {three}");
    let web = |subset: &str, weight: u32, endpoints: &str| {
        format!("outbound|80|{subset}|web.shop.svc.cluster.local x{weight} [{endpoints}]")
    };
    let cases = [
        ("{destination: {host: web}}", web("", 1, &all), ""),
        ("{destination: {host: web.shop.svc.cluster.local}}", web("", 1, &all), ""),
        ("{destination: {host: web, port: {number: 80}}}", web("", 1, &all), ""),
        ("{destination: {host: web, subset: v1}}", web("v1", 1, &format!("{one} {two}")), ""),
        ("{destination: {host: web, subset: v2}, weight: 0}", web("v2", 1, three), ""),
        ("{destination: {host: web, subset: none}}", web("none", 1, ""), ""),
        ("{destination: {host: web, subset: all}}", web("all", 1, &all), ""),
        (
            "{destination: {host: web, subset: v1}, weight: 90}, {destination: {host: web, subset: v2}, weight: 10}",
            format!("{}, {}", web("v1", 90, &format!("{one} {two}")), web("v2", 10, three)),
            "",
        ),
        (
            "{destination: {host: web, subset: v1}, weight: 0}, {destination: {host: web, subset: v2}, weight: 1}",
            web("v2", 1, three),
            "",
        ),
        // The listener's port where a service has several.
        (
            "{destination: {host: db, port: {number: 3306}}}",
            "outbound|3306||db.shop.svc.cluster.local x1 [10.1.0.7:3306]".into(),
            "",
        ),
        ("{destination: {host: db}}", "outbound|80||db.shop.svc.cluster.local x1 []".into(), "has no port 80"),
        (
            "{destination: {host: web, port: {number: 81}}}",
            "outbound|81||web.shop.svc.cluster.local x1 []".into(),
            "has no port 81",
        ),
        (
            "{destination: {host: web, subset: v3}}",
            "outbound|80|v3|web.shop.svc.cluster.local x1 []".into(),
            "has a subset v3",
        ),
        (
            "{destination: {host: nobody}}",
            "outbound|80||nobody.shop.svc.cluster.local x1 []".into(),
            "there is no service",
        ),
        // A name with dots is full already.
        ("{destination: {host: web.shop}}", "outbound|80||web.shop x1 []".into(), "there is no service web.shop"),
    ];
    for (route, expected, trouble) in cases {
        let compiled = compiled(&format!("{}{v1}", routed(&format!("{{route: [{route}]}}"))));
        let id = rule(&compiled, 80, &Asked::new("h/")).unwrap() as usize;
        assert_eq!(split(&compiled, &compiled.plan.rules.get(id).unwrap().split), expected, "{route}");
        let told = compiled.troubles.first().map_or("", |trouble| &trouble.message);
        assert!(told.contains(trouble) && told.is_empty() == trouble.is_empty(), "{route}: {told}");
    }
}

/// Which rule counts for a host, and which of its settings for a port and a subset.
#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn destination_rules() {
    let spoken = |lines: &str, to: &str| {
        let compiled = compiled(&format!("{}{lines}", routed(&format!("{{route: [{{destination: {{{to}}}}}]}}"))));
        let id = rule(&compiled, 80, &Asked::new("h/")).unwrap() as usize;
        let backend = &compiled
            .plan
            .backends
            .get(compiled.plan.rules.get(id).unwrap().split.targets[0].backend.unwrap() as usize)
            .unwrap();
        let tls = backend.tls.as_ref().map_or("plain".into(), |tls| {
            let names: Vec<&str> = tls.host_names.iter().chain(&tls.uris).map(|name| &**name).collect();
            format!("tls {} [{}]", tls.hostname, names.join(" "))
        });
        format!("{:?} {tls}", backend.protocol)
    };
    let rule = |spec: &str| format!("istio DestinationRule shop/web {{host: web, {spec}}}\n");
    let web = "host: web, subset: v1";
    let subset = |policy: &str| format!("subsets: [{{name: v1, labels: {{version: v1}}{policy}}}]");
    let full = "web.shop.svc.cluster.local";
    let cases = [
        (rule(&subset("")), "Http1 plain".to_owned()),
        (rule(&format!("{}, trafficPolicy: {{tls: {{mode: SIMPLE}}}}", subset(""))), format!("Http1 tls {full} []")),
        (
            rule(&format!(
                "{}, trafficPolicy: {{tls: {{mode: SIMPLE, sni: s.example, subjectAltNames: [a.example, 'spiffe://b/c']}}}}",
                subset("")
            )),
            "Http1 tls s.example [a.example spiffe://b/c]".into(),
        ),
        (
            rule(&format!(
                "{}, trafficPolicy: {{tls: {{mode: SIMPLE}}}}",
                subset(", trafficPolicy: {tls: {mode: DISABLE}}")
            )),
            "Http1 plain".into(),
        ),
        (
            rule(&format!(
                "{}, trafficPolicy: {{portLevelSettings: [{{port: {{number: 80}}, tls: {{mode: SIMPLE}}}}]}}",
                subset("")
            )),
            format!("Http1 tls {full} []"),
        ),
        (
            rule(&format!(
                "{}, trafficPolicy: {{portLevelSettings: [{{port: {{number: 81}}, tls: {{mode: SIMPLE}}}}]}}",
                subset("")
            )),
            "Http1 plain".into(),
        ),
        // What a port's settings do not say is the default, not the policy's.
        (
            rule(&format!(
                "{}, trafficPolicy: {{tls: {{mode: SIMPLE}}, portLevelSettings: [{{port: {{number: 80}}, loadBalancer: {{simple: ROUND_ROBIN}}}}]}}",
                subset("")
            )),
            "Http1 plain".into(),
        ),
        (
            rule(&format!("{}, trafficPolicy: {{connectionPool: {{http: {{h2UpgradePolicy: UPGRADE}}}}}}", subset(""))),
            "Http2 plain".into(),
        ),
        (
            rule(&format!(
                "{}, trafficPolicy: {{connectionPool: {{http: {{h2UpgradePolicy: DO_NOT_UPGRADE}}}}}}",
                subset("")
            )),
            "Http1 plain".into(),
        ),
        // The gate's namespace comes before the service's, a name before a wildcard.
        (
            format!(
                "{}istio DestinationRule istio-system/web {{host: {full}, {}, trafficPolicy: {{tls: {{mode: SIMPLE}}}}}}\n",
                rule(&subset("")),
                subset("")
            ),
            format!("Http1 tls {full} []"),
        ),
        (
            format!(
                "{}istio DestinationRule shop/all {{host: '*.shop.svc.cluster.local', {}, trafficPolicy: {{tls: {{mode: SIMPLE}}}}}}\n",
                rule(&subset("")),
                subset("")
            ),
            "Http1 plain".into(),
        ),
        (
            format!(
                "istio DestinationRule shop/all {{host: '*.shop.svc.cluster.local', {}, trafficPolicy: {{tls: {{mode: SIMPLE}}}}}}\n",
                subset("")
            ),
            format!("Http1 tls {full} []"),
        ),
        // Several for one host are one; the older one's policy counts.
        (
            format!(
                "istio DestinationRule shop/b@02 {{host: web, {}, trafficPolicy: {{tls: {{mode: DISABLE}}}}}}\nistio DestinationRule shop/a@01 {{host: web, trafficPolicy: {{tls: {{mode: SIMPLE}}}}}}\n",
                subset("")
            ),
            format!("Http1 tls {full} []"),
        ),
    ];
    for (lines, expected) in cases {
        assert_eq!(spoken(&lines, web), expected, "{lines}");
    }
    // One that is not visible at the gate, or for other workloads, does not count.
    for hidden in ["exportTo: [.]", "workloadSelector: {matchLabels: {a: b}}"] {
        let lines = rule(&format!("{hidden}, trafficPolicy: {{tls: {{mode: SIMPLE}}}}"));
        assert_eq!(spoken(&lines, "host: web"), "Http1 plain", "{hidden}");
    }
    assert_eq!(spoken("", "host: api"), "Http2 plain", "by the name of its port");
}

/// What cannot be spoken to as its rule says is not spoken to at all.
#[test]
fn closed_destinations() {
    for (policy, message) in [
        ("tls: {mode: MUTUAL, credentialName: nothing}", "there is no Secret nothing"),
        ("tls: {mode: SIMPLE, credentialName: nothing}", "there are no authorities in Secret nothing"),
        ("tls: {mode: SIMPLE, caCertificates: /etc/ca.pem}", "which are not read"),
        ("tls: {mode: ISTIO_MUTUAL}", "there is no Secret istio.istio-ingressgateway-service-account"),
        ("tunnel: {targetHost: a, targetPort: 1}", "would need a tunnel"),
        ("proxyProtocol: {version: V2}", "would need a tunnel"),
    ] {
        let rules = format!("istio DestinationRule shop/web {{host: web, trafficPolicy: {{{policy}}}}}\n");
        let compiled = compiled(&format!("{}{rules}", routed(&format!("{{{WEB}}}"))));
        assert!(compiled.plan.backends.iter().all(|backend| backend.endpoints.is_empty()), "{policy}");
        assert!(compiled.troubles.iter().any(|of| of.message.contains(message)), "{policy}: {:?}", compiled.troubles);
    }
}

/// Service entries: endpoints by how they are resolved, with addresses that are known of names.
#[test]
fn service_entries() {
    let known: Resolved = [("one.example", vec!["192.0.2.7", "192.0.2.8"]), ("a.example", vec!["192.0.2.9"])]
        .into_iter()
        .map(|(name, all)| (name.into(), all.into_iter().map(|address| address.parse().unwrap()).collect()))
        .collect();
    let machines = "istio WorkloadEntry shop/m1 {address: 192.0.2.20, labels: {app: vm, version: v1}, ports: {http: 8081}}\n\
                    istio WorkloadEntry shop/m2 {address: 192.0.2.21, labels: {app: vm, version: v2}}\n";
    let ports =
        "ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS, targetPort: 8443}]";
    let cases = [
        (
            "resolution: STATIC, endpoints: [{address: 192.0.2.1}, {address: 192.0.2.2, ports: {http: 8080}}]",
            80,
            "192.0.2.1:80 192.0.2.2:8080",
            "",
        ),
        ("resolution: STATIC, endpoints: [{address: 192.0.2.1}]", 443, "192.0.2.1:8443", ""),
        ("resolution: DNS, endpoints: [{address: one.example}]", 80, "192.0.2.7:80 192.0.2.8:80", "one.example"),
        ("resolution: DNS, endpoints: [{address: unknown.example}]", 80, "", "unknown.example"),
        ("resolution: DNS", 80, "192.0.2.9:80", "a.example"),
        ("resolution: DNS_ROUND_ROBIN, endpoints: [{address: one.example}]", 80, "192.0.2.7:80", "one.example"),
        ("resolution: NONE", 80, "", ""),
        ("resolution: STATIC, workloadSelector: {labels: {app: vm}}", 80, "192.0.2.20:8081 192.0.2.21:80", ""),
        ("resolution: STATIC, workloadSelector: {labels: {app: vm}}", 443, "192.0.2.20:8443 192.0.2.21:8443", ""),
    ];
    for (of, port, expected, names) in cases {
        let lines = format!(
            "{}{machines}istio ServiceEntry shop/out {{hosts: [a.example], {ports}, {of}}}\n",
            routed(&format!("{{route: [{{destination: {{host: a.example, port: {{number: {port}}}}}}}]}}"))
        );
        let compiled = compiled_with(&lines, &known);
        let backend = compiled.plan.backends.get(0).unwrap();
        let endpoints: Vec<String> =
            backend.endpoints.iter().map(|endpoint| format!("{}:{}", endpoint.address, endpoint.port)).collect();
        assert_eq!(endpoints.join(" "), expected, "{of}");
        assert_eq!(compiled.names.iter().map(|name| &**name).collect::<Vec<_>>().join(" "), names, "{of}");
    }
    // A service that selects machines has them beside its pods.
    let lines = format!(
        "{}{machines}v1 Service shop/vm {{ports: [{{name: http, port: 80, targetPort: 8000}}], selector: {{app: vm}}}}\n\
         istio DestinationRule shop/vm {{host: vm, subsets: [{{name: v2, labels: {{version: v2}}}}]}}\n",
        routed("{route: [{destination: {host: vm, subset: v2}}]}")
    );
    let of_service = compiled(&lines);
    let id = rule(&of_service, 80, &Asked::new("h/")).unwrap() as usize;
    let expected = "outbound|80|v2|vm.shop.svc.cluster.local x1 [192.0.2.21:8000]";
    assert_eq!(split(&of_service, &of_service.plan.rules.get(id).unwrap().split), expected);
    let hidden = format!(
        "{}istio ServiceEntry shop/out {{hosts: [a.example], {ports}, resolution: DNS, exportTo: [.]}}\n",
        routed("{route: [{destination: {host: a.example}}]}")
    );
    assert!(compiled(&hidden).troubles[0].message.contains("there is no service a.example"));
}
