//! Manifests of others, where they are at hand, beside the project.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{ROOT, find, yaml_files};

/// Istio's sample without policies; some of its files exclude each other.
#[test]
fn nothing_is_found_in_bookinfo() {
    let folder = format!("{ROOT}/../shared/data/bookinfo/platform/kube");
    if !Path::new(&folder).is_dir() {
        eprintln!("SKIPPED: {folder} is not there");
        return;
    }
    for file in
        ["bookinfo.yaml", "bookinfo-dualstack.yaml", "bookinfo-psa.yaml", "bookinfo-db.yaml", "bookinfo-mysql.yaml"]
    {
        let findings: Vec<String> =
            find(&[PathBuf::from(format!("{folder}/{file}"))]).iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "{file}: {findings:#?}");
    }
}

/// The workloads of Cilium's connectivity test, in its namespace.
fn workloads() -> String {
    let pods = [
        ("client", "kind: client"),
        ("client2", "kind: client, other: client"),
        ("client3", "kind: client"),
        ("echo-same-node", "kind: echo, other: echo"),
        ("echo-other-node", "kind: echo, first: echo"),
    ];
    let pod = |(name, labels): (&str, &str)| {
        format!(
            "kind: ServiceAccount\napiVersion: v1\nmetadata: {{name: {name}, namespace: cilium-test}}\n---\n\
             kind: Pod\napiVersion: v1\nmetadata: {{name: {name}, namespace: cilium-test, labels: {{name: {name}, {labels}}}}}\n\
             spec:\n  serviceAccountName: {name}\n  \
             containers: [{{name: c, ports: [{{name: http-8080, containerPort: 8080}}]}}]\n---\n"
        )
    };
    let others = ["cilium-test-ccnp1", "cilium-test-ccnp2"].map(|namespace| {
        format!(
            "kind: Pod\napiVersion: v1\nmetadata: {{name: client, namespace: {namespace}, labels: {{kind: ccnp}}}}\n\
             spec: {{containers: [{{name: c}}]}}\n---\n"
        )
    });
    pods.map(pod).concat() + &others.concat()
}

/// What is found in each policy of Cilium's connectivity test, alone beside its workloads; nothing in the others. Each is one step of
/// a test that applies others with it, and what is said of it as it stands alone is true:
///
/// - `egress-without-dns`: names are looked up by another policy of that test, or not at all (it uses addresses).
/// - `namespace-without-default-deny`: it isolates the clients or the echo servers alone; those that isolate all pods of `cilium-test`
///   leave the two other namespaces open.
/// - `cilium-key`: Cilium reads its own labels in a `NetworkPolicy`; other implementations, and the API's documentation, do not.
/// - `policy-types-inferred`: without `policyTypes` the clients are closed for ingress; its sibling says so in a comment.
const CONNECTIVITY: &[(&str, &[&str])] = &[
    ("allow-all-ingress.yaml", &["namespace-without-default-deny", "namespace-without-default-deny"]),
    ("allow-host-entity-ingress.yaml", &["namespace-without-default-deny", "namespace-without-default-deny"]),
    ("allow-ingress-specific-ns-ccnp.yaml", &["namespace-without-default-deny", "namespace-without-default-deny"]),
    ("client-egress-l7-http-from-any.yaml", &["egress-without-dns", "l7-not-enforced"]),
    ("client-egress-l7-http-method.yaml", &["egress-without-dns", "l7-not-enforced"]),
    ("client-egress-to-echo-expression-knp-port-range.yaml", &["egress-without-dns", "cilium-key"]),
    ("client-egress-to-echo-expression-port-range.yaml", &["egress-without-dns"]),
    (
        "client-egress-to-echo-knp.yaml",
        &["namespace-without-default-deny", "policy-types-inferred", "cilium-key", "cilium-key"],
    ),
    ("client-egress-to-echo-no-cluster-policy.yaml", &["egress-without-dns"]),
    ("client-egress-to-echo-service-account-port-range.yaml", &["egress-without-dns"]),
    ("client-ingress-from-client2.yaml", &["namespace-without-default-deny"]),
    ("client-with-service-account-egress-to-echo.yaml", &["egress-without-dns"]),
    ("deny-all-ingress.yaml", &["namespace-without-default-deny", "namespace-without-default-deny"]),
    ("deny-world-entity.yaml", &["namespace-without-default-deny", "namespace-without-default-deny"]),
    ("echo-ingress-from-other-client-knp.yaml", &["namespace-without-default-deny", "cilium-key"]),
    ("echo-ingress-icmp-deny.yaml", &["namespace-without-default-deny"]),
    ("echo-ingress-l7-http-from-anywhere-port-range.yaml", &["namespace-without-default-deny", "l7-not-enforced"]),
    ("echo-ingress-l7-http-named-port.yaml", &["namespace-without-default-deny", "l7-not-enforced"]),
    ("echo-ingress-l7-http.yaml", &["namespace-without-default-deny", "l7-not-enforced"]),
    (
        "echo-ingress-mutual-authentication-fail.yaml",
        &["namespace-without-default-deny", "authentication-not-enforced"],
    ),
    ("echo-ingress-mutual-authentication.yaml", &["namespace-without-default-deny", "authentication-not-enforced"]),
];

#[test]
fn what_is_said_of_upstreams_policies_is_true() {
    let folder = format!("{ROOT}/../shared/data/cilium-connectivity");
    if !Path::new(&folder).is_dir() {
        eprintln!("SKIPPED: {folder} is not there");
        return;
    }
    let mut wrong = Vec::new();
    for path in yaml_files(Path::new(&folder)) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let temporary = tempfile::tempdir().unwrap();
        fs::write(temporary.path().join("workloads.yaml"), workloads()).unwrap();
        // As upstream applies it.
        let policy =
            fs::read_to_string(&path).unwrap().replace("\nmetadata:\n", "\nmetadata:\n  namespace: cilium-test\n");
        let clusterwide = policy.contains("Clusterwide");
        let policy = if clusterwide { fs::read_to_string(&path).unwrap() } else { policy };
        fs::write(temporary.path().join("policy.yaml"), policy).unwrap();
        let found: Vec<&str> = find(&[temporary.path().to_owned()]).iter().map(|finding| finding.code.name).collect();
        let expected = CONNECTIVITY.iter().find(|(of, _)| *of == name).map_or(&[][..], |(_, codes)| codes);
        if found != expected {
            wrong.push(format!("(\"{name}\", &{found:?}),"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is found in the manifests of the Gateway API's conformance suite, each test's beside the base: the mistakes that the tests are
/// about, and nothing else.
const CONFORMANCE: &[(&str, &[&str])] = &[
    (
        "httproute-hostname-intersection.yaml",
        &[
            "route-hostname-unused",
            "route-hostname-unused",
            "route-hostname-unused",
            "route-hostname-unused",
            "route-hostname-unused",
            "route-not-attached",
        ],
    ),
    ("httproute-invalid-backendref-unknown-kind.yaml", &["reference-invalid"]),
    ("httproute-invalid-cross-namespace-backend-ref.yaml", &["reference-not-permitted"]),
    ("httproute-invalid-nonexistent-backendref.yaml", &["reference-missing"]),
    ("httproute-invalid-reference-grant.yaml", &["reference-not-permitted"]),
    ("httproute-omitted-backendrefs.yaml", &["rule-without-backend", "rule-without-backend"]),
    ("httproute-partially-invalid-via-invalid-reference-grant.yaml", &["reference-not-permitted"]),
];

#[test]
fn what_is_said_of_conformance_is_meant_there() {
    let root = format!("{ROOT}/../shared/data/gateway-api");
    if !Path::new(&root).is_dir() {
        eprintln!("SKIPPED: {root} is not there");
        return;
    }
    let mut wrong = Vec::new();
    let mut files = yaml_files(Path::new(&format!("{root}/tests")));
    files.push(PathBuf::from(format!("{root}/base/manifests.yaml")));
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let found = find(&[PathBuf::from(format!("{root}/base/manifests.yaml")), path.clone()]);
        let mut found: Vec<&str> = found.iter().map(|finding| finding.code.name).collect();
        found.sort_unstable();
        let expected = CONFORMANCE.iter().find(|(of, _)| *of == name).map_or(&[][..], |(_, codes)| codes);
        if found != expected {
            wrong.push(format!("(\"{name}\", &{found:?}),"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
