//! Policy, by packets.

use std::process::Command;

use crate::bed::{Bed, strait};

const CLUSTER: &str = "\
kind: Namespace
apiVersion: v1
metadata: {name: shop, labels: {team: shop}}
---
kind: Namespace
apiVersion: v1
metadata: {name: other}
---
kind: Pod
apiVersion: v1
metadata: {name: client, namespace: shop, labels: {app: client}}
spec: {nodeName: node-1, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
kind: Pod
apiVersion: v1
metadata: {name: server, namespace: shop, labels: {app: server}}
spec:
  nodeName: node-2
  containers: [{name: c, ports: [{name: web, containerPort: 8080}, {containerPort: 9000, protocol: UDP}, {containerPort: 8081}]}]
---
kind: Pod
apiVersion: v1
metadata: {name: neighbour, namespace: shop, labels: {app: neighbour}}
spec: {nodeName: node-2, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
kind: Pod
apiVersion: v1
metadata: {name: stranger, namespace: other, labels: {app: client}}
spec: {nodeName: node-2, containers: [{name: c, ports: [{containerPort: 8080}]}]}
";

const POLICIES: &str = "\
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {name: server, namespace: shop}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: client}}}]
    ports: [{port: web}, {port: 9000, protocol: UDP}, {port: 9000, protocol: SCTP}]
  - from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: other}}}]
    ports: [{port: 8081, endPort: 8090}]
---
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {name: neighbour, namespace: shop}
spec:
  podSelector: {matchLabels: {app: neighbour}}
  policyTypes: [Egress]
  egress:
  - to: [{podSelector: {}}]
";

/// `strait policy matrix` on the lab, as a table for people to compare.
fn matrix(bed: &Bed, live: bool, v6: bool) -> String {
    let mut command: Command = strait();
    command.args(["policy", "matrix", "--lab", &bed.lab.name().to_string(), "-f"]).arg(bed.folder());
    for probe in ["8080/TCP", "8081/TCP", "9000/UDP", "9000/SCTP", "ICMP"] {
        command.args(["--probe", probe]);
    }
    command.args(["-o", "json"]);
    if live {
        command.arg("--live");
    }
    if v6 {
        command.arg("--ipv6");
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let cells: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(cells.len(), 4 * 4 * 5);
    cells.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn packets_agree_with_the_matrix() {
    let files = [("cluster.yaml", CLUSTER), ("policies.yaml", POLICIES)];
    let Some(bed) = Bed::up("matrix", &files) else { return };
    for v6 in [false, true] {
        let expected = matrix(&bed, false, v6);
        // A machine that is busy may miss an answer, but hardly the same one thrice.
        let mut seen = (0..3).map(|_| matrix(&bed, true, v6)).skip_while(|seen| *seen != expected);
        assert!(seen.next().is_some(), "IPv6: {v6}\n{expected}\n{}", matrix(&bed, true, v6));
    }
    for (from, to, port, expected) in [
        ("shop/client", "shop/server", 8080, true),
        ("shop/client", "shop/server", 8081, false),
        ("other/stranger", "shop/server", 8080, false),
        ("other/stranger", "shop/server", 8081, true),
        ("outside", "shop/server", 8080, false),
        ("outside", "shop/client", 8080, true),
        ("node/node-2", "shop/server", 8080, true),
        ("node/node-1", "shop/server", 8080, false),
        ("shop/neighbour", "shop/client", 8080, true),
        ("shop/neighbour", "other/stranger", 8080, false),
        ("shop/server", "shop/server", 1, true),
    ] {
        let as_expected = if expected { bed.reaches(from, to, port) } else { bed.denied(from, to, port) };
        assert!(as_expected, "{from} → {to}:{port}");
    }
    bed.down();
}
