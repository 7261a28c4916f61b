//! Policies of Cilium's own connectivity test, as they are, on the workloads that they select.

use std::{fs, path::Path, process::Command};

use crate::bed::{Bed, possible, strait};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/cilium-connectivity");

/// The clients on both nodes, an echo beside them and one on the other node.
fn workloads() -> String {
    let pods = [
        ("client", "node-1", "kind: client"),
        ("client2", "node-1", "kind: client, other: client"),
        ("client3", "node-2", "kind: client"),
        ("echo-same-node", "node-1", "kind: echo, other: echo"),
        ("echo-other-node", "node-2", "kind: echo, first: echo"),
    ];
    let pod = |(name, node, labels): (&str, &str, &str)| {
        format!(
            "kind: ServiceAccount\napiVersion: v1\nmetadata: {{name: {name}}}\n---\n\
             kind: Pod\napiVersion: v1\nmetadata: {{name: {name}, labels: {{name: {name}, {labels}}}}}\n\
             spec:\n  nodeName: {node}\n  serviceAccountName: {name}\n  \
             containers: [{{name: c, ports: [{{name: http-8080, containerPort: 8080}}]}}]\n---\n"
        )
    };
    pods.map(pod).concat()
}

/// Who reaches whom, a line a cell: by the policies in force, or by packets.
fn matrix(bed: &Bed, live: bool, v6: bool) -> Vec<String> {
    let mut command: Command = strait();
    command.args(["policy", "matrix", "-o", "json", "--lab", &bed.lab.name().to_string()]);
    command.args(["--probe", "8080/TCP", "--probe", "8081/TCP", "--probe", "53/UDP", "--probe", "ICMP"]);
    command.args(live.then_some("--live")).args(v6.then_some("--ipv6"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let cells: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    cells.iter().map(ToString::to_string).collect()
}

#[test]
fn cilium_connectivity_policies_do_with_packets_what_they_say() {
    if !possible("cilium_connectivity_policies_do_with_packets_what_they_say") {
        return;
    }
    if !Path::new(FOLDER).is_dir() {
        eprintln!("SKIPPED: {FOLDER} is not there");
        return;
    }
    let mut files: Vec<_> = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let Some(bed) = Bed::up("upstream", &[("workloads.yaml", &workloads())]) else { return };
    let mut denied = 0;
    for (number, path) in files.iter().enumerate() {
        bed.save("policy.yaml", &fs::read_to_string(path).unwrap());
        bed.lab.sync().unwrap();
        let v6 = number % 2 == 1;
        let (said, seen) = (matrix(&bed, false, v6), matrix(&bed, true, v6));
        assert_eq!(said, seen, "{}", path.display());
        assert_eq!(said.len(), 5 * 5 * 4, "{}", path.display());
        denied += said.iter().filter(|cell| cell.contains("\"allowed\":false")).count();
    }
    assert!(files.len() >= 30 && denied > 500, "{} files deny {denied} connections", files.len());
    bed.down();
}
