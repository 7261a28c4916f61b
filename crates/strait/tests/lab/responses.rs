//! What denied connections hear: silence, an ICMP error, a reset.

use std::{fmt::Write as _, process::Command};

use crate::bed::{Bed, place, strait};

const CLUSTER: &str = "\
kind: Pod
apiVersion: v1
metadata: {name: client, labels: {app: client}}
spec: {nodeName: node-1, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
kind: Pod
apiVersion: v1
metadata: {name: closed}
spec: {nodeName: node-1, containers: [{name: c}]}
---
kind: Pod
apiVersion: v1
metadata: {name: near, labels: {app: server}}
spec: {nodeName: node-1, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
kind: Pod
apiVersion: v1
metadata: {name: far, labels: {app: server}}
spec: {nodeName: node-2, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {name: server}
spec:
  podSelector: {matchLabels: {app: server}}
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: 8080}, {port: 8081}]}]
---
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {name: closed}
spec:
  podSelector: {matchExpressions: [{key: app, operator: DoesNotExist}]}
  policyTypes: [Egress]
";

/// How curl and a datagram end that are denied, between the ends that matter: whom ingress denies on the same node and on the
/// other, and whom egress denies.
const WAYS: [(&str, &str, u16); 6] = [
    ("default/client", "default/near", 9999),
    ("default/client", "default/far", 9999),
    ("default/closed", "default/near", 8080),
    ("default/closed", "default/client", 8080),
    ("outside", "default/far", 8080),
    ("node/node-2", "default/near", 8080),
];

/// Says how connecting ends. Linux notes an ICMP error that comes while `connect` still holds the socket, and ends the connection
/// with the one that answers its first retransmission, a second later.
const CONNECT: &str = "\
import socket, sys
host, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
family = socket.AF_INET6 if ':' in host else socket.AF_INET
s = socket.socket(family, socket.SOCK_STREAM if kind == 'tcp' else socket.SOCK_DGRAM)
s.settimeout(4)
try:
    s.connect((host, port))
    if kind == 'udp':
        s.send(b'x'); s.recv(1)
    print('connected')
except socket.timeout: print('silence')
except OSError as e: print(e.strerror)
";

fn ends(bed: &Bed, from: &str, to: &str, port: u16, v4: bool, kind: &str) -> String {
    let address = bed.address(to, v4).to_string();
    bed.prints(from, &["python3", "-c", CONNECT, &address, &port.to_string(), kind]).trim().to_owned()
}

/// `strait policy matrix`, offline or with packets.
fn matrix(bed: &Bed, live: bool, v6: bool) -> Vec<String> {
    let mut command: Command = strait();
    command.args(["policy", "matrix", "-o", "json", "--lab", &bed.lab.name().to_string()]);
    command.args([
        "--probe", "8080/TCP", "--probe", "8081/TCP", "--probe", "9999/TCP", "--probe", "53/UDP", "--probe", "ICMP",
    ]);
    command.args(live.then_some("--live")).args(v6.then_some("--ipv6"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let cells: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    cells.iter().map(ToString::to_string).collect()
}

fn hears(mode: &str, tcp: [&str; 2], udp: [&str; 2]) {
    let files = [("cluster.yaml", CLUSTER)];
    let tweak = |options: &mut strait_lab::Options| options.agent_options = vec![format!("--deny-response={mode}")];
    let Some(bed) = Bed::up_with(&format!("deny-{mode}"), &files, tweak) else { return };
    assert_eq!(&*bed.lab.agent("node-1").status().unwrap().deny_response, mode);
    let mut wrong = String::new();
    for (index, v4) in [true, false].into_iter().enumerate() {
        for (from, to, port) in WAYS {
            for (kind, expected) in [("tcp", tcp[index]), ("udp", udp[index])] {
                let heard = ends(&bed, from, to, port, v4, kind);
                if heard != expected {
                    writeln!(wrong, "{from} → {to}:{port} {kind}, IPv4 {v4}: {heard}, expected {expected}").unwrap();
                }
            }
        }
        // What is allowed is answered as ever, by whoever is there.
        for to in ["default/near", "default/far"] {
            assert_eq!(ends(&bed, "default/client", to, 8080, v4, "tcp"), "connected");
            assert_eq!(ends(&bed, "default/client", to, 8081, v4, "tcp"), "Connection refused");
        }
        // And probes know whose word a refusal is.
        let (said, seen) = (matrix(&bed, false, !v4), matrix(&bed, true, !v4));
        assert_eq!(said, seen, "{mode}, IPv4 {v4}");
        assert!(said.iter().any(|cell| cell.contains("false")) && said.iter().any(|cell| cell.contains("true")));
    }
    assert!(wrong.is_empty(), "{wrong}");
    if mode == "reset" {
        curl_is_refused(&bed);
    }
    bed.down();
}

/// As people see it: at once, where silence would take curl minutes.
fn curl_is_refused(bed: &Bed) {
    for v4 in [true, false] {
        let to = std::net::SocketAddr::new(bed.address("default/far", v4), 9999);
        let output = bed
            .lab
            .exec(&place("default/client"), &["curl", "-sS", "--max-time", "5", &format!("http://{to}/")])
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // 7: could not connect; 28 would be the time.
        assert_eq!(output.status.code(), Some(7), "{said}");
    }
}

#[test]
fn denied_connections_are_reset() {
    hears("reset", ["Connection refused"; 2], ["No route to host", "Permission denied"]);
}

#[test]
fn denied_connections_hear_that_they_are_prohibited() {
    hears("icmp", ["No route to host", "Permission denied"], ["No route to host", "Permission denied"]);
}

#[test]
fn denied_connections_hear_nothing_unless_asked_for() {
    let node = |response: &str| {
        let annotation = format!("annotations: {{strait.dev/deny-response: {response}}}");
        format!(
            "{CLUSTER}---\nkind: Node\napiVersion: v1\nmetadata: {{name: node-1, {annotation}}}\n---\nkind: Node\napiVersion: v1\nmetadata: {{name: node-2, {annotation}}}\n"
        )
    };
    let Some(bed) = Bed::up("deny-silent", &[("cluster.yaml", &node("silent"))]) else { return };
    let hear = |expected: &str| {
        for (from, to, port) in [WAYS[1], WAYS[3]] {
            assert_eq!(ends(&bed, from, to, port, true, "tcp"), expected);
        }
    };
    hear("silence");
    // Asked for while everything runs, and not any more.
    bed.save("cluster.yaml", &node("reset"));
    bed.lab.sync().unwrap();
    hear("Connection refused");
    bed.save("cluster.yaml", &node("silent"));
    bed.lab.sync().unwrap();
    hear("silence");
    bed.down();
}
