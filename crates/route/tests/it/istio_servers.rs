//! Servers of Istio's gateways: TLS in each of its modes, connections that are passed on, redirects, and ports that several claim.

use strait_route::{Compiled, Serve, Split, TlsListener, TlsThen};

use crate::istio::{Asked, compiled, rule, split, taken};

const SERVICES: &str = "
v1 Service shop/web {ports: [{name: http, port: 80}, {name: https, port: 443}]}
slice shop/web https 8443 10.1.0.1=a
v1 Service shop/db {ports: [{name: tcp, port: 3306}]}
slice shop/db tcp 3306 10.1.0.7=a
";

/// A certificate that is no more than looks like one: what is shown in handshakes is not looked at here.
const PEM: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCkFBQUEKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=";
const KEY: &str = "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCkFBQUEKLS0tLS1FTkQgUFJJVkFURSBLRVktLS0tLQo=";

fn gateway(servers: &str) -> String {
    format!("{SERVICES}istio Gateway shop/edge {{selector: {{istio: ingressgateway}}, servers: [{servers}]}}\n")
}

fn secret(namespace: &str, fields: &[(&str, &str)]) -> String {
    let data: Vec<String> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    format!("v1 Secret {namespace}/cert {{{}}}\n", data.join(", "))
}

fn listener<'c>(compiled: &'c Compiled, name: &str) -> Option<&'c TlsListener> {
    let Serve::Tls(listeners) = &compiled.plan.ports.iter().find(|port| port.port == 443)?.serve else { return None };
    listeners.find(name)
}

/// How the handshake is done, in short.
fn shook(compiled: &Compiled, name: &str) -> String {
    let (terminate, inside) = match listener(compiled, name).map(|listener| &listener.then) {
        Some(TlsThen::Http(terminate, _)) => (terminate, "http"),
        Some(TlsThen::Tcp(terminate, _)) => (terminate, "tcp"),
        Some(TlsThen::Passthrough(_)) => return "passed".into(),
        Some(TlsThen::Mesh(_)) => return "passed within the mesh".into(),
        None => return "-".into(),
    };
    let names: Vec<&str> =
        terminate.certificates.iter().map(|id| &*compiled.plan.certificates.get(*id as usize).unwrap().name).collect();
    let clients = terminate.clients.as_ref().map_or("none".into(), |of| {
        let whom = if of.authorities.is_empty() { "nobody" } else { "authorities" };
        format!(
            "{whom}{}{} {:?}",
            if of.optional { " optional" } else { "" },
            if of.insecure_fallback { " any" } else { "" },
            of.names
        )
    });
    let versions = (terminate.versions.tls12, terminate.versions.tls13);
    format!("{inside} {} clients {clients} {versions:?}", names.join(" "))
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn tls_modes() {
    let full = [("tls.crt", PEM), ("tls.key", KEY), ("ca.crt", PEM)];
    let both = "(true, true)";
    let cases = [
        (
            "HTTPS",
            "mode: SIMPLE, credentialName: cert",
            secret("istio-system", &full),
            format!("http istio-system/cert clients none {both}"),
            0,
        ),
        // In the gateway's own namespace where the gate's has none; and by the names of before.
        (
            "HTTPS",
            "mode: SIMPLE, credentialName: cert",
            secret("shop", &full),
            format!("http shop/cert clients none {both}"),
            0,
        ),
        (
            "HTTPS",
            "mode: SIMPLE, credentialName: cert",
            secret("istio-system", &[("cert", PEM), ("key", KEY)]),
            format!("http istio-system/cert clients none {both}"),
            0,
        ),
        (
            "HTTPS",
            "mode: SIMPLE, credentialNames: [cert]",
            secret("istio-system", &full),
            format!("http istio-system/cert clients none {both}"),
            0,
        ),
        ("HTTPS", "mode: SIMPLE, credentialName: cert", String::new(), format!("http  clients none {both}"), 1),
        (
            "HTTPS",
            "mode: SIMPLE, credentialName: cert",
            secret("istio-system", &[("tls.crt", PEM)]),
            format!("http  clients none {both}"),
            1,
        ),
        (
            "HTTPS",
            "mode: MUTUAL, credentialName: cert",
            secret("istio-system", &full),
            format!("http istio-system/cert clients authorities [] {both}"),
            0,
        ),
        (
            "HTTPS",
            "mode: MUTUAL, credentialName: cert, subjectAltNames: [a]",
            secret("istio-system", &full),
            format!("http istio-system/cert clients authorities [\"a\"] {both}"),
            0,
        ),
        (
            "HTTPS",
            "mode: MUTUAL, credentialName: cert",
            secret("istio-system", &full[..2]),
            format!("http istio-system/cert clients nobody [] {both}"),
            1,
        ),
        (
            "HTTPS",
            "mode: MUTUAL, credentialName: cert",
            format!("{}v1 Secret istio-system/cert-cacert {{cacert: {PEM}}}\n", secret("istio-system", &full[..2])),
            format!("http istio-system/cert clients authorities [] {both}"),
            0,
        ),
        (
            "HTTPS",
            "mode: MUTUAL, credentialName: cert, caCertCredentialName: ca",
            format!("{}v1 Secret shop/ca {{ca.crt: {PEM}}}\n", secret("istio-system", &full[..2])),
            format!("http istio-system/cert clients authorities [] {both}"),
            0,
        ),
        (
            "HTTPS",
            "mode: OPTIONAL_MUTUAL, credentialName: cert",
            secret("istio-system", &full),
            format!("http istio-system/cert clients authorities optional [] {both}"),
            0,
        ),
        (
            "HTTPS",
            "mode: MUTUAL, credentialName: cert, insecureSkipVerify: true",
            secret("istio-system", &full),
            format!("http istio-system/cert clients authorities any [] {both}"),
            0,
        ),
        // What cannot be checked lets nobody in.
        (
            "HTTPS",
            "mode: MUTUAL, credentialName: cert, verifyCertificateHash: [aa]",
            secret("istio-system", &full),
            format!("http istio-system/cert clients nobody [] {both}"),
            1,
        ),
        (
            "HTTPS",
            "mode: SIMPLE, credentialName: cert, minProtocolVersion: TLSV1_3",
            secret("istio-system", &full),
            "http istio-system/cert clients none (false, true)".into(),
            0,
        ),
        (
            "HTTPS",
            "mode: SIMPLE, credentialName: cert, maxProtocolVersion: TLSV1_2",
            secret("istio-system", &full),
            "http istio-system/cert clients none (true, false)".into(),
            0,
        ),
        (
            "HTTPS",
            "mode: SIMPLE, credentialName: cert, minProtocolVersion: TLSV1_0, maxProtocolVersion: TLSV1_3",
            secret("istio-system", &full),
            format!("http istio-system/cert clients none {both}"),
            0,
        ),
        (
            "HTTPS",
            "mode: SIMPLE, credentialName: cert, maxProtocolVersion: TLSV1_1",
            secret("istio-system", &full),
            "http istio-system/cert clients none (false, false)".into(),
            0,
        ),
        (
            "TLS",
            "mode: SIMPLE, credentialName: cert",
            secret("istio-system", &full),
            format!("tcp istio-system/cert clients none {both}"),
            0,
        ),
        ("TLS", "mode: PASSTHROUGH", String::new(), "passed".into(), 0),
        ("HTTPS", "mode: PASSTHROUGH", String::new(), "passed".into(), 0),
        ("TLS", "mode: AUTO_PASSTHROUGH", String::new(), "passed within the mesh".into(), 0),
        ("HTTPS", "mode: ISTIO_MUTUAL", String::new(), "passed".into(), 0),
    ];
    for (protocol, tls, secrets, expected, troubles) in cases {
        let server =
            format!("{{port: {{number: 443, name: s, protocol: {protocol}}}, hosts: [a.example], tls: {{{tls}}}}}");
        let compiled = compiled(&format!("{}{secrets}", gateway(&server)));
        assert_eq!((shook(&compiled, "a.example"), compiled.troubles.len()), (expected, troubles), "{protocol} {tls}");
        assert_eq!(shook(&compiled, "b.example"), "-");
    }
}

/// Each server of TLS has routes of its own hosts.
#[test]
fn hosts_behind_tls() {
    let server = |name: &str, host: &str| {
        format!(
            "{{port: {{number: 443, name: {name}, protocol: HTTPS}}, hosts: ['{host}'], tls: {{mode: SIMPLE, credentialName: cert}}}}"
        )
    };
    let service = "istio VirtualService shop/vs {hosts: ['*'], gateways: [edge], http: [{match: [{scheme: {exact: https}}], route: [{destination: {host: web, port: {number: 80}}}]}]}\n";
    let lines = [
        gateway(&[server("a", "a.example"), server("b", "*.b.example")].join(", ")),
        service.into(),
        secret("shop", &[("tls.crt", PEM), ("tls.key", KEY)]),
    ]
    .concat();
    let compiled = compiled(&lines);
    for (asked, expected) in
        [("https://a.example/", "vs/0"), ("https://x.b.example/", "vs/0"), ("https://c.example/", "-")]
    {
        assert_eq!(taken(&compiled, 443, asked), expected, "{asked}");
    }
    assert_eq!(listener(&compiled, "a.example").map(|of| &*of.name), Some("https.443.a.edge.shop"));
    // A name that two servers claim is the first's.
    let twice = crate::istio::compiled(&gateway(&[server("a", "a.example"), server("b", "a.example")].join(", ")));
    assert!(
        twice.troubles.iter().any(|of| of.message.contains("server name a.example of port 443 is also claimed")),
        "{:?}",
        twice.troubles
    );
}

fn passed(compiled: &Compiled, name: &str) -> String {
    let Some(TlsThen::Passthrough(names)) = listener(compiled, name).map(|listener| &listener.then) else {
        return "-".into();
    };
    names.find(name).map_or("-".into(), |of| split(compiled, of))
}

#[test]
fn tls_routes() {
    let server = "{port: {number: 443, name: s, protocol: TLS}, hosts: ['*.example'], tls: {mode: PASSTHROUGH}}";
    let web = "outbound|443||web.shop.svc.cluster.local x1 [10.1.0.1:8443]";
    let to = "route: [{destination: {host: web}}]";
    for (routes, asked, expected) in [
        (format!("{{match: [{{sniHosts: [a.example]}}], {to}}}"), "a.example", web),
        (format!("{{match: [{{sniHosts: [a.example]}}], {to}}}"), "b.example", "-"),
        (format!("{{match: [{{sniHosts: ['*.a.example']}}], {to}}}"), "b.a.example", web),
        (format!("{{match: [{{sniHosts: [a.example], port: 443}}], {to}}}"), "a.example", web),
        (format!("{{match: [{{sniHosts: [a.example], port: 444}}], {to}}}"), "a.example", "-"),
        (format!("{{match: [{{sniHosts: [a.example], gateways: [edge]}}], {to}}}"), "a.example", web),
        (format!("{{match: [{{sniHosts: [a.example], gateways: [mesh]}}], {to}}}"), "a.example", "-"),
        (format!("{{match: [{{sniHosts: [a.example], sourceLabels: {{a: b}}}}], {to}}}"), "a.example", "-"),
        (format!("{{match: [{{sniHosts: [a.example], destinationSubnets: [10.0.0.0/24]}}], {to}}}"), "a.example", web),
        (format!("{{match: [{{sniHosts: [a.example], destinationSubnets: [10.9.0.0/24]}}], {to}}}"), "a.example", "-"),
    ] {
        let lines = format!(
            "{}istio VirtualService shop/vs {{hosts: ['*.example'], gateways: [edge], tls: [{routes}]}}\n",
            gateway(server)
        );
        let compiled = compiled(&lines);
        assert_eq!(passed(&compiled, asked), expected, "{routes} {asked}");
    }
    let service = |name: &str| {
        format!(
            "istio VirtualService shop/{name} {{hosts: [a.example], gateways: [edge], tls: [{{match: [{{sniHosts: [a.example]}}], {to}}}]}}\n"
        )
    };
    let twice = compiled(&[gateway(server), service("a"), service("b")].concat());
    assert!(twice.troubles[0].message.contains("server name a.example is also claimed"), "{:?}", twice.troubles);
}

fn tcp(compiled: &Compiled) -> Option<&Split> {
    match &compiled.plan.ports.first()?.serve {
        Serve::Tcp(split) => split.as_ref(),
        Serve::Http(_) | Serve::Tls(_) | Serve::Udp(_) => None,
    }
}

#[test]
fn tcp_routes() {
    let to = "route: [{destination: {host: db}}]";
    let db = "outbound|3306||db.shop.svc.cluster.local x1 [10.1.0.7:3306]";
    for protocol in ["TCP", "MYSQL", "MONGO"] {
        let server = format!("{{port: {{number: 3306, name: s, protocol: {protocol}}}, hosts: ['*']}}");
        for (routes, expected) in [
            (format!("{{{to}}}"), db),
            (format!("{{match: [{{port: 3306}}], {to}}}"), db),
            (format!("{{match: [{{port: 3307}}], {to}}}"), ""),
            (
                format!(
                    "{{match: [{{port: 3307}}], route: [{{destination: {{host: web}}}}]}}, {{match: [{{port: 3306}}], {to}}}"
                ),
                db,
            ),
            (format!("{{match: [{{gateways: [mesh]}}], {to}}}"), ""),
            (format!("{{match: [{{destinationSubnets: [10.0.0.1]}}], {to}}}"), db),
            (format!("{{match: [{{destinationSubnets: [10.0.0.2]}}], {to}}}"), ""),
            // Clients' addresses are not looked at yet: such a match takes nothing.
            (format!("{{match: [{{sourceSubnet: 10.0.0.0/8}}], {to}}}"), ""),
        ] {
            let lines = format!(
                "{}istio VirtualService shop/vs {{hosts: ['*'], gateways: [edge], tcp: [{routes}]}}\n",
                gateway(&server)
            );
            let compiled = compiled(&lines);
            assert_eq!(
                tcp(&compiled).map_or(String::new(), |of| split(&compiled, of)),
                expected,
                "{protocol} {routes}"
            );
        }
    }
}

#[test]
fn redirects_to_https() {
    let server = "{port: {number: 80, name: s, protocol: HTTP}, hosts: ['*.example'], tls: {httpsRedirect: true}}";
    let plain = "{port: {number: 80, name: p, protocol: HTTP}, hosts: ['*']}";
    let service = "istio VirtualService shop/vs {hosts: ['a.example', b.test], gateways: [edge], http: [{route: [{destination: {host: web, port: {number: 80}}}]}]}\n";
    let compiled = compiled(&format!("{}{service}", gateway(&[server, plain].join(", "))));
    for (asked, expected) in
        [("a.example/", "edge/https"), ("z.example/", "edge/https"), ("b.test/", "vs/0"), ("c.test/", "-")]
    {
        assert_eq!(taken(&compiled, 80, asked), expected, "{asked}");
    }
    let id = rule(&compiled, 80, &Asked::new("a.example/")).unwrap() as usize;
    let found = format!("{:?}", compiled.plan.rules.get(id).unwrap().filters);
    assert!(found.contains("scheme: Some(\"https\")") && found.contains("status: 301"), "{found}");
}

/// One port speaks one protocol: the older gateway's.
#[test]
fn ports_that_speak_two_protocols() {
    let lines = format!(
        "{SERVICES}istio Gateway shop/a@02 {{selector: {{istio: ingressgateway}}, servers: [{{port: {{number: 80, name: s, protocol: TCP}}, hosts: ['*']}}]}}\n\
         istio Gateway shop/b@01 {{selector: {{istio: ingressgateway}}, servers: [{{port: {{number: 80, name: s, protocol: HTTP2}}, hosts: ['*']}}]}}\n"
    );
    let compiled = compiled(&lines);
    assert!(matches!(&compiled.plan.ports[0].serve, Serve::Http(_)));
    assert!(
        compiled.troubles[0].message.contains("port 80 speaks another protocol at lines.yaml:"),
        "{:?}",
        compiled.troubles
    );
    assert_eq!(compiled.troubles[0].object.to_string(), "Gateway/shop/a");
}
