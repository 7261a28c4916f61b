//! Whom the gate believes about who its clients are.

use serde_json::Value;

use crate::{
    backend::{self, service},
    bed::{Gate, curl, http, until},
};

/// What a request says, and how many proxies are trusted: the client in the log, what the back end is told, and where a redirect leads
/// that keeps the scheme.
struct Case {
    trusted: &'static str,
    said: &'static [&'static str],
    client: &'static str,
    forwarded_for: &'static str,
    scheme: &'static str,
}

const CASES: &[Case] = &[
    Case { trusted: "0", said: &[], client: "127.0.0.1", forwarded_for: "127.0.0.1", scheme: "http" },
    // Nobody is believed who is not asked to be.
    Case {
        trusted: "0",
        said: &["X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https"],
        client: "127.0.0.1",
        forwarded_for: "192.0.2.7, 127.0.0.1",
        scheme: "http",
    },
    Case {
        trusted: "1",
        said: &["X-Forwarded-For: 198.51.100.6, 192.0.2.7", "X-Forwarded-Proto: https"],
        client: "192.0.2.7",
        forwarded_for: "198.51.100.6, 192.0.2.7, 127.0.0.1",
        scheme: "https",
    },
    // Several fields are one list.
    Case {
        trusted: "2",
        said: &["X-Forwarded-For: 198.51.100.6, 2001:db8::7", "X-Forwarded-For: 10.0.0.1", "X-Forwarded-Proto: HTTP"],
        client: "[2001:db8::7]",
        forwarded_for: "198.51.100.6, 2001:db8::7, 10.0.0.1, 127.0.0.1",
        scheme: "http",
    },
    // A request that did not come by all of them: whoever is connected.
    Case {
        trusted: "2",
        said: &["X-Forwarded-For: 192.0.2.7"],
        client: "127.0.0.1",
        forwarded_for: "192.0.2.7, 127.0.0.1",
        scheme: "http",
    },
    Case {
        trusted: "1",
        said: &["X-Forwarded-For: 192.0.2.7, nobody", "X-Forwarded-Proto: gopher"],
        client: "127.0.0.1",
        forwarded_for: "192.0.2.7, nobody, 127.0.0.1",
        scheme: "http",
    },
];

/// Gateways that say themselves how many proxies are believed, before or in place of the option.
#[test]
fn trusted_by_gateway() {
    let config =
        |count: u8| format!("{{proxy.istio.io/config: '{{\"gatewayTopology\": {{\"numTrustedProxies\": {count}}}}}'}}");
    let gateway = |name: &str, annotations: &str, infrastructure: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}{annotations}}}\nspec: {{gatewayClassName: strait{infrastructure}, listeners: [{{name: http, port: 80, protocol: HTTP}}]}}\n---\n"
        )
    };
    let mesh = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: 'defaultConfig: {gatewayTopology: {numTrustedProxies: 1}}'}\n---\n";
    let deployment = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: istio-ingressgateway, namespace: istio-system}}\nspec:\n  selector: {{matchLabels: {{istio: ingressgateway}}}}\n  template:\n    metadata: {{labels: {{istio: ingressgateway, app: istio-ingressgateway}}, annotations: {}}}\n    spec: {{containers: [{{name: c, image: c}}]}}\n---\n",
        config(3)
    );
    let istio = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: old}\nspec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}\n---\n\
                 apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: old}\nspec: {hosts: ['*'], gateways: [old], http: [{redirect: {uri: /away, derivePort: FROM_REQUEST_PORT}}]}\n---\n";
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: route}\nspec: {parentRefs: [{name: own}, {name: pods}, {name: none}], rules: [{filters: [{type: RequestRedirect, requestRedirect: {hostname: other.example}}]}]}\n---\n";
    let text = [
        gateway("own", &format!(", annotations: {}", config(2)), ""),
        gateway(
            "pods",
            &format!(", annotations: {}", config(1)),
            &format!(", infrastructure: {{annotations: {}}}", config(0)),
        ),
        gateway("none", "", ""),
        istio.to_owned(),
        route.to_owned(),
    ];
    let check = |manifests: &str, expected: [(&str, &str); 4]| {
        let beside = tempfile::tempdir().unwrap();
        let log = beside.path().join("log");
        let told =
            ["--access-log-encoding", "json", "--access-log-format", r#"{"client": "%DOWNSTREAM_REMOTE_ADDRESS%"}"#];
        let options = ["--trusted-proxies", "4", "--access-log-file", log.to_str().unwrap()];
        let gate = Gate::alone(&[("all.yaml", manifests)], &[&options[..], &told[..]].concat());
        for (index, (name, client)) in expected.into_iter().enumerate() {
            let said = "X-Forwarded-For: 192.0.2.4, 192.0.2.3, 192.0.2.2, 192.0.2.1";
            curl(&["-H", said], &format!("http://{}/", gate.at(name, 80)));
            let mut text = String::new();
            until("a line more", || {
                text = std::fs::read_to_string(&log).unwrap_or_default();
                text.lines().count() == index + 1 && text.ends_with('\n')
            });
            let line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
            let found = line["client"].as_str().unwrap().rsplit_once(':').unwrap().0.to_owned();
            assert_eq!(found, client, "{name}");
        }
    };
    let plain = [("own", "192.0.2.2"), ("pods", "127.0.0.1"), ("none", "192.0.2.4"), ("old", "192.0.2.4")];
    check(&text.concat(), plain);
    let told = [("own", "192.0.2.2"), ("pods", "127.0.0.1"), ("none", "192.0.2.1"), ("old", "192.0.2.3")];
    check(&[&text.concat(), mesh, &deployment].concat(), told);
}

#[test]
fn trusted_proxies() {
    let rules = "  - matches: [{path: {value: /away}}]\n    filters: [{type: RequestRedirect, requestRedirect: {hostname: other.example}}]\n  \
                 - backendRefs: [{name: one, port: 8080}]\n";
    let manifests = service("one", backend::http().0) + &http(rules);
    for Case { trusted, said, client, forwarded_for, scheme } in CASES {
        let beside = tempfile::tempdir().unwrap();
        let log = beside.path().join("log");
        let format = r#"{"client": "%DOWNSTREAM_REMOTE_ADDRESS%", "direct": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%"}"#;
        let told = ["--access-log-encoding", "json", "--access-log-format", format];
        let options = ["--trusted-proxies", trusted, "--access-log-file", log.to_str().unwrap()];
        let gate = Gate::alone(&[("all.yaml", &manifests)], &[&options[..], &told[..]].concat());
        let headers: Vec<_> = said.iter().flat_map(|field| ["-H", field]).collect();
        let ask = |path: &str| curl(&headers, &format!("http://{}{path}", gate.at("edge", 80)));
        let head = ask("/").body.to_ascii_lowercase();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
        assert_eq!(field("x-forwarded-for: ").as_deref(), Some(*forwarded_for), "{trusted} {said:?}");
        assert_eq!(field("x-forwarded-proto: ").as_deref(), Some(*scheme), "{trusted} {said:?}");
        let away = ask("/away");
        let to = away.header("location").unwrap_or_default();
        assert!(to.starts_with(&format!("{scheme}://other.example")), "{trusted} {said:?}: {to}");
        let mut text = String::new();
        until("two lines", || {
            text = std::fs::read_to_string(&log).unwrap();
            text.lines().count() == 2 && text.ends_with('\n')
        });
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let (address, port) = line["client"].as_str().unwrap().rsplit_once(':').unwrap();
            assert_eq!(address, *client, "{trusted} {said:?}");
            // A proxy tells no port.
            assert_eq!(port == "0", *client != "127.0.0.1", "{line}");
            assert!(line["direct"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        }
    }
}
