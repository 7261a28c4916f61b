//! A large cluster: whatever it is like, the analysis ends soon.
//!
//! The test takes a tenth of it, which must not take long even without optimization. The whole, with the time:
//! `STRAIT_SCALE=10 cargo test --release -p strait-analyze scale -- --nocapture`.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use strait_analyze::{Manifests, analyze};
use strait_api::{Objects, parse};

/// Namespaces of 20 workloads with 10 pods and a policy each.
const NAMESPACES: usize = 5;
const APPS: usize = 20;
const REPLICAS: usize = 10;

/// A policy of an application; `wide` ones select everything and name everybody.
fn policy(namespace: usize, app: usize, wide: bool) -> String {
    let head = format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: app-{app}, namespace: ns-{namespace}}}\nspec:\n"
    );
    let (next, after, team) = ((app + 1) % APPS, (app + 2) % APPS, namespace % 10);
    if wide {
        return head
            + &format!(
                "  podSelector: {{}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{{namespaceSelector: {{}}, podSelector: {{matchLabels: {{app: app-{next}}}}}}}]
    ports: [{{port: {0}}}]
  egress:
  - to: [{{namespaceSelector: {{}}}}]
    ports: [{{port: {0}, endPort: 65000}}]
---
",
                9000 + app
            );
    }
    head + &format!(
        "  podSelector: {{matchLabels: {{app: app-{app}}}}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{{podSelector: {{matchLabels: {{app: app-{next}}}}}}}, {{podSelector: {{matchExpressions: [{{key: app, operator: In, values: [app-{after}, app-0]}}]}}}}]
    ports: [{{port: http}}]
  - from: [{{namespaceSelector: {{matchLabels: {{team: team-{team}}}}}, podSelector: {{matchLabels: {{tier: tier-1}}}}}}]
    ports: [{{port: 8080}}]
  egress:
  - to: [{{podSelector: {{matchLabels: {{app: app-{after}}}}}}}]
    ports: [{{port: http}}]
  - to: [{{ipBlock: {{cidr: 203.0.113.0/24, except: [203.0.113.128/25]}}}}]
    ports: [{{port: 443}}]
---
"
    )
}

fn cluster(namespaces: usize, wide: bool) -> String {
    let mut text = String::new();
    for namespace in 0..namespaces {
        let team = namespace % 10;
        writeln!(
            text,
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: ns-{namespace}, labels: {{team: team-{team}}}}}\n---"
        )
        .unwrap();
        for app in 0..APPS {
            let tier = app % 3;
            writeln!(
                text,
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: app-{app}, namespace: ns-{namespace}}}
spec: {{replicas: {REPLICAS}, selector: {{matchLabels: {{app: app-{app}}}}}, template: {{metadata: {{labels: {{app: app-{app}, tier: tier-{tier}}}}}, spec: {{containers: [{{name: c, ports: [{{name: http, containerPort: 8080}}]}}]}}}}}}\n---"
            )
            .unwrap();
            text += &policy(namespace, app, wide);
        }
    }
    text
}

#[test]
fn a_large_cluster_is_analyzed_soon() {
    let factor = std::env::var("STRAIT_SCALE").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1);
    for wide in [false, true] {
        let file: Arc<str> = "cluster.yaml".into();
        let text = cluster(NAMESPACES * factor, wide);
        let mut declared = Objects::default();
        // In one file the manifests would be too many.
        for document in text.split_inclusive("---\n").collect::<Vec<_>>().chunks(1000) {
            let parsed = parse(&file, document.concat().as_bytes());
            assert_eq!(parsed.errors, []);
            parsed.objects.into_iter().for_each(|object| declared.replace(object));
        }
        let nodes = (0..100).map(|node| format!("node-{node}")).collect();
        let options = strait_cluster::Options { node_names: nodes, ..strait_cluster::Options::default() };
        let expanded = strait_cluster::expand(&declared, &options, None).objects;
        let texts = BTreeMap::from([(file, text.into_bytes())]);
        #[expect(clippy::disallowed_methods, reason = "shown where the whole is asked for")]
        let start = std::time::Instant::now();
        let findings = analyze(&Manifests {
            declared: &declared,
            expanded: &expanded,
            problems: &[],
            texts: &texts,
            now: crate::NOW,
        });
        let pods = expanded.pods().count();
        println!(
            "{pods} pods, {} policies{}: {} findings in {:?}",
            declared.network_policies().count(),
            if wide { ", all wide" } else { "" },
            findings.len(),
            start.elapsed()
        );
        assert_eq!(pods, NAMESPACES * factor * APPS * REPLICAS);
        assert!(!findings.is_empty());
    }
}
