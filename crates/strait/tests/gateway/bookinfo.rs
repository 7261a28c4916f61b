//! Bookinfo's routing manifests do what their names say, asked through a gate. Those for the mesh alone are asked in a variant that binds
//! their virtual services to a gateway; those for services as parents in a variant with the gateway as parent.

use std::{collections::BTreeMap, fs, path::Path};

use crate::bed::{Gate, PATIENCE, curl, raw, shared};

/// A gateway for all hosts, to which the virtual services of the mesh are bound.
const EVERY: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: every}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 9080, name: http, protocol: HTTP}, hosts: ['*']}]
";

/// A gate over these manifests of Bookinfo's, and others beside them. Virtual services without gateways get one where `bound`.
fn gate(root: &Path, files: &[&str], others: &str, bound: bool) -> Gate {
    let folder = tempfile::tempdir().unwrap();
    for (index, file) in files.iter().enumerate() {
        let text = fs::read_to_string(root.join(file)).unwrap();
        let bind = |document: &str| {
            let is_open = document.contains("kind: VirtualService") && !document.contains("gateways:");
            if bound && is_open {
                document.replacen("spec:\n", "spec:\n  gateways: [every]\n", 1)
            } else {
                document.to_owned()
            }
        };
        let text: Vec<String> = text.split("\n---").map(bind).collect();
        fs::write(folder.path().join(format!("{index}.yaml")), text.join("\n---")).unwrap();
    }
    fs::write(folder.path().join("others.yaml"), others).unwrap();
    Gate::over(folder)
}

/// The workloads that routing manifests lead to.
const PLATFORM: [&str; 5] = [
    "platform/kube/bookinfo.yaml",
    "platform/kube/bookinfo-details-v2.yaml",
    "platform/kube/bookinfo-ratings-v2.yaml",
    "platform/kube/bookinfo-ratings-v2-mysql.yaml",
    "platform/kube/bookinfo-ratings-v2-mysql-vm.yaml",
];

/// Who answers a hundred requests for a service on one connection, which one worker serves; a status in place of a pod where none does.
fn answered(gate: &Gate, gateway: &str, service: &str, user: &str) -> BTreeMap<String, usize> {
    let at = gate.at(gateway, 9080);
    let request = |close: &str| {
        format!("GET /0 HTTP/1.1\r\nHost: {service}.default.svc.cluster.local\r\nend-user: {user}\r\n{close}\r\n")
    };
    let text = raw(at, &[request("").repeat(99), request("Connection: close\r\n")].concat());
    let mut found = BTreeMap::new();
    for answer in text.split("HTTP/1.1 ").skip(1) {
        let who = match answer.split_once("\"pod\"") {
            Some((_, rest)) => {
                let pod = rest.split('"').nth(1).unwrap();
                pod.rsplit_once('-').map_or(pod, |(workload, _)| workload).to_owned()
            }
            None => answer[..3].to_owned(),
        };
        *found.entry(who).or_default() += 1;
    }
    found
}

fn shares(all: &[(&str, usize)]) -> BTreeMap<String, usize> {
    all.iter().map(|(who, count)| ((*who).to_owned(), *count)).collect()
}

/// Who answers, and how often.
type Shares = &'static [(&'static str, usize)];

/// Manifest, service, who asks, and who answers a hundred requests.
type Case = (&'static str, &'static str, &'static str, Shares);

const ROUTED: &[Case] = &[
    ("virtual-service-all-v1", "productpage", "", &[("productpage-v1", 100)]),
    ("virtual-service-all-v1", "reviews", "jason", &[("reviews-v1", 100)]),
    ("virtual-service-all-v1", "ratings", "", &[("ratings-v1", 100)]),
    ("virtual-service-all-v1", "details", "", &[("details-v1", 100)]),
    ("virtual-service-details-v2", "details", "", &[("details-v2", 100)]),
    ("virtual-service-ratings-db", "reviews", "", &[("reviews-v3", 100)]),
    ("virtual-service-ratings-db", "ratings", "", &[("ratings-v2", 100)]),
    ("virtual-service-ratings-mysql", "ratings", "", &[("ratings-v2-mysql", 100)]),
    ("virtual-service-ratings-mysql-vm", "ratings", "", &[("ratings-v2-mysql-vm", 100)]),
    ("virtual-service-ratings-test-abort", "ratings", "jason", &[("500", 100)]),
    ("virtual-service-ratings-test-abort", "ratings", "", &[("ratings-v1", 100)]),
    ("virtual-service-ratings-test-delay", "ratings", "", &[("ratings-v1", 100)]),
    ("virtual-service-reviews-50-v3", "reviews", "", &[("reviews-v1", 50), ("reviews-v3", 50)]),
    ("virtual-service-reviews-80-20", "reviews", "", &[("reviews-v1", 80), ("reviews-v2", 20)]),
    ("virtual-service-reviews-90-10", "reviews", "", &[("reviews-v1", 90), ("reviews-v2", 10)]),
    ("virtual-service-reviews-jason-v2-v3", "reviews", "jason", &[("reviews-v2", 100)]),
    ("virtual-service-reviews-jason-v2-v3", "reviews", "mary", &[("reviews-v3", 100)]),
    ("virtual-service-reviews-test-v2", "reviews", "jason", &[("reviews-v2", 100)]),
    ("virtual-service-reviews-test-v2", "reviews", "", &[("reviews-v1", 100)]),
    ("virtual-service-reviews-v2-v3", "reviews", "", &[("reviews-v2", 50), ("reviews-v3", 50)]),
    ("virtual-service-reviews-v3", "reviews", "", &[("reviews-v3", 100)]),
    ("fault-injection-details-v1", "details", "", &[("555", 100)]),
];

#[test]
fn virtual_services() {
    let Some(root) = shared("bookinfo") else { return };
    let mut wrong = Vec::new();
    let mut running: Option<(&str, Gate)> = None;
    for (manifest, service, user, expected) in ROUTED {
        let same = running.as_ref().is_some_and(|(name, _)| name == manifest);
        if !same {
            // Gates of one test have the same addresses.
            drop(running.take());
            let own = format!("networking/{manifest}.yaml");
            let mut files = PLATFORM.to_vec();
            files.push(&own);
            // The fault comes with a rule of its own for the same host.
            if *manifest != "fault-injection-details-v1" {
                files.push("networking/destination-rule-all.yaml");
            }
            running = Some((manifest, gate(&root, &files, EVERY, true)));
        }
        let Some((_, gate)) = &running else { unreachable!() };
        let found = answered(gate, "every", service, user);
        if found != shares(expected) {
            wrong.push(format!("{manifest}: {service} for {user:?}: {found:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Jason waits for seven seconds, and is served then.
#[test]
fn delay() {
    let Some(root) = shared("bookinfo") else { return };
    let files = [
        &PLATFORM[..],
        &["networking/virtual-service-ratings-test-delay.yaml", "networking/destination-rule-all.yaml"],
    ]
    .concat();
    let gate = gate(&root, &files, EVERY, true);
    let url = format!("http://{}/ratings/0", gate.at("every", 9080));
    let before = jiff::Timestamp::now();
    let answer = curl(&["-H", "Host: ratings.default.svc.cluster.local", "-H", "end-user: jason"], &url);
    let took = jiff::Timestamp::now().duration_since(before);
    assert!(answer.pod().starts_with("ratings-v1") && took.as_secs() >= 7, "{took:?} {answer:?}");
}

/// The gateway and its virtual service, unmodified.
#[test]
fn gateway() {
    let Some(root) = shared("bookinfo") else { return };
    let files =
        ["platform/kube/bookinfo.yaml", "networking/bookinfo-gateway.yaml", "networking/destination-rule-all.yaml"];
    let gate = gate(&root, &files, "", false);
    let at = gate.at("bookinfo-gateway", 8080);
    for (path, served) in [
        ("/productpage", true),
        ("/productpage?u=test", true),
        ("/static/bootstrap/css/bootstrap.min.css", true),
        ("/login", true),
        ("/logout", true),
        ("/api/v1/products/0/reviews", true),
        ("/", false),
        ("/productpage/", false),
        ("/reviews/0", false),
    ] {
        let answer = curl(&[], &format!("http://{at}{path}"));
        let expected = if served { 200 } else { 404 };
        assert_eq!((answer.status, answer.pod().starts_with("productpage-v1")), (expected, served), "{path}");
    }
}

/// The challenges of certificates go to who solves them, whatever the host.
#[test]
fn certificate_manager() {
    let Some(root) = shared("bookinfo") else { return };
    let solver = "apiVersion: v1\nkind: Service\nmetadata: {name: cert-manager-resolver, namespace: istio-system}\nspec: {selector: {app: solver}, ports: [{port: 8089}]}\n---\n\
                  apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: solver, namespace: istio-system}\nspec:\n  selector: {matchLabels: {app: solver}}\n  \
                  template: {metadata: {labels: {app: solver}}, spec: {containers: [{name: c, image: c}]}}\n";
    let gate = gate(&root, &["networking/certmanager-gateway.yaml"], solver, false);
    let at = gate.at("cert-manager-gateway", 80);
    for (path, status) in [("/.well-known/acme-challenge/token", 200), ("/", 404)] {
        assert_eq!(curl(&["-H", "Host: any.example"], &format!("http://{at}{path}")).status, status, "{path}");
    }
}

/// Rules that only say how endpoints are chosen change nothing of who is asked; where they ask for mutual TLS of the mesh, pods of its
/// authority answer.
#[test]
fn destination_rules() {
    let Some(root) = shared("bookinfo") else { return };
    let all_v1 = "networking/virtual-service-all-v1.yaml";
    let files = ["platform/kube/bookinfo.yaml", all_v1, "networking/destination-rule-reviews.yaml"];
    let random = gate(&root, &files, EVERY, true);
    assert_eq!(answered(&random, "every", "reviews", ""), shares(&[("reviews-v1", 100)]));
    // No rule names subsets of the others here.
    assert_eq!(answered(&random, "every", "ratings", ""), shares(&[("503", 100)]));
    drop(random);
    let files = ["platform/kube/bookinfo.yaml", all_v1, "networking/destination-rule-all-mtls.yaml"];
    let mutual = gate(&root, &files, EVERY, true);
    for service in ["productpage", "reviews", "ratings", "details"] {
        let pod = format!("{service}-v1");
        assert_eq!(answered(&mutual, "every", service, ""), shares(&[(&pod, 100)]), "{service}");
    }
}

/// A host outside, bound to the gateway: nothing answers for it here, so that requests get a 503, and at once.
#[test]
fn egress() {
    let Some(root) = shared("bookinfo") else { return };
    let gate = gate(&root, &["networking/egress-rule-google-apis.yaml"], &EVERY.replace("9080", "80"), true);
    let before = jiff::Timestamp::now();
    let answer = curl(&["-H", "Host: www.googleapis.com"], &format!("http://{}/books/v1", gate.at("every", 80)));
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(jiff::Timestamp::now().duration_since(before).as_secs() < PATIENCE.as_secs().cast_signed());
}

/// The class that the manifests name, as this controller's.
const CLASS: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: istio}\nspec: {controllerName: strait.dev/gateway-controller}\n";

/// The Gateway API's manifests: the gateway unmodified, routes with the gateway as parent and their service as host.
#[test]
fn gateway_api() {
    let Some(root) = shared("bookinfo") else { return };
    let files = ["platform/kube/bookinfo.yaml", "gateway-api/bookinfo-gateway.yaml"];
    let ingress = gate(&root, &files, CLASS, false);
    let at = ingress.at("bookinfo-gateway", 80);
    for (path, status) in
        [("/productpage", 200), ("/static/a", 200), ("/api/v1/products", 200), ("/", 404), ("/staticx", 404)]
    {
        assert_eq!(curl(&[], &format!("http://{at}{path}")).status, status, "{path}");
    }
    drop(ingress);
    let cases: [(&str, &[(&str, Shares)]); 5] = [
        ("route-reviews-v1", &[("reviews", &[("reviews-v1", 100)])]),
        ("route-reviews-v3", &[("reviews", &[("reviews-v3", 100)])]),
        ("route-reviews-50-v3", &[("reviews", &[("reviews-v1", 50), ("reviews-v3", 50)])]),
        ("route-reviews-90-10", &[("reviews", &[("reviews-v1", 90), ("reviews-v2", 10)])]),
        (
            "route-all-v1",
            &[
                ("reviews", &[("reviews-v1", 100)]),
                ("productpage", &[("productpage-v1", 100)]),
                ("ratings", &[("ratings-v1", 100)]),
                ("details", &[("details-v1", 100)]),
            ],
        ),
    ];
    for (manifest, expected) in cases {
        let mut text = fs::read_to_string(root.join(format!("gateway-api/{manifest}.yaml"))).unwrap();
        for service in ["reviews", "productpage", "ratings", "details"] {
            let parent = format!("  - group: \"\"\n    kind: Service\n    name: {service}\n    port: 9080\n");
            text = text
                .replace(&parent, &format!("  - name: every\n  hostnames: [{service}.default.svc.cluster.local]\n"));
        }
        let every = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: every}\nspec: {gatewayClassName: istio, listeners: [{name: http, port: 9080, protocol: HTTP}]}\n";
        let files = ["platform/kube/bookinfo.yaml", "platform/kube/bookinfo-versions.yaml"];
        let gate = gate(&root, &files, &format!("{CLASS}{every}---\n{text}"), false);
        for (service, who) in expected {
            assert_eq!(answered(&gate, "every", service, ""), shares(who), "{manifest} {service}");
        }
    }
}

/// Every manifest of the two folders is asked above.
#[test]
fn none_is_left_out() {
    let Some(root) = shared("bookinfo") else { return };
    let source = include_str!("bookinfo.rs");
    for folder in ["networking", "gateway-api"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let stem = name.strip_suffix(".yaml").unwrap();
            assert!(source.contains(&format!("{stem}\"")) || source.contains(&format!("{name}\"")), "{folder}/{name}");
        }
    }
}
