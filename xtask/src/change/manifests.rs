//! The cluster that `bench change` changes: 50 pods on two nodes, with policies for each of their apps.

use std::{fmt::Write as _, fs, path::PathBuf};

use anyhow::Result;

use crate::run::target;

/// Apps, and replicas of each; with the two ends that measure, 50 pods.
const APPS: u32 = 6;
const REPLICAS: u32 = 8;
/// The receiver's port.
pub(super) const PORT: u16 = 7100;

/// Writes all of it; returns the folder.
pub(super) fn write() -> Result<PathBuf> {
    let folder = target().join("bench/change-manifests");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("ends.yaml"), ends())?;
    for app in 0..APPS {
        fs::write(folder.join(format!("app-{app}.yaml")), self::app(app))?;
    }
    fs::write(folder.join(FILE), policy(true))?;
    Ok(folder)
}

/// The file that changes.
pub(super) const FILE: &str = "receiver-policy.yaml";

/// Its content: the sender may, or may not.
pub(super) fn policy(allowed: bool) -> String {
    let port = if allowed { PORT } else { PORT + 1 };
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: receiver\n  namespace: bench\nspec:\n  \
         podSelector:\n    matchLabels: {{app: receiver}}\n  ingress:\n    - from:\n        - podSelector:\n            \
         matchLabels: {{app: sender}}\n      ports:\n        - {{port: {port}, protocol: TCP}}\n        \
         - {{port: {port}, protocol: UDP}}\n"
    )
}

fn ends() -> String {
    let pod = |name: &str, node: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: bench\n  labels: {{app: {name}}}\n\
             spec:\n  nodeName: {node}\n  containers:\n    - name: {name}\n      image: example/{name}:1\n"
        )
    };
    [
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: bench\n",
        &pod("sender", "node-1"),
        &pod("receiver", "node-2"),
    ]
    .concat()
}

/// A workload and its policies: from its neighbour, to the next one and to name servers, and a range of addresses.
fn app(number: u32) -> String {
    let (before, next) = ((number + APPS - 1) % APPS, (number + 1) % APPS);
    let mut text = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: app-{number}\n  namespace: bench\nspec:\n  \
         replicas: {REPLICAS}\n  selector:\n    matchLabels: {{app: app-{number}}}\n  template:\n    metadata:\n      \
         labels: {{app: app-{number}}}\n    spec:\n      containers:\n        - name: app\n          image: example/app:1\n          \
         ports: [{{containerPort: 8080}}]\n"
    );
    let policies = [
        ("from-neighbour", format!("ingress: [{{from: [{{podSelector: {{matchLabels: {{app: app-{before}}}}}}}], ports: [{{port: 8080}}]}}]")),
        ("to-next", format!("policyTypes: [Egress]\n  egress: [{{to: [{{podSelector: {{matchLabels: {{app: app-{next}}}}}}}], ports: [{{port: 8080}}]}}]")),
        ("names", "policyTypes: [Egress]\n  egress: [{to: [{namespaceSelector: {}}], ports: [{port: 53, protocol: UDP}, {port: 53}]}]".to_owned()),
        ("office", format!("ingress: [{{from: [{{ipBlock: {{cidr: 198.51.100.0/24, except: [198.51.100.{number}/32]}}}}], ports: [{{port: 8080}}]}}]")),
    ];
    for (name, rules) in policies {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: app-{number}-{name}\n  namespace: bench\n\
             spec:\n  podSelector:\n    matchLabels: {{app: app-{number}}}\n  {rules}\n"
        );
    }
    text
}
