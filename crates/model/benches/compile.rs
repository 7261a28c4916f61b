//! How long a large cluster takes: `cargo bench -p strait-model`.
//!
//! 10,000 pods with two addresses each, 1,000 identities in 50 namespaces, 1,000 policies with ports, selectors across namespaces
//! and blocks; once as a node that hosts 100 of the pods sees it, once as a node that hosts them all.

use std::{hint::black_box, net::IpAddr, sync::Arc, time::Duration};

use strait_api::{Objects, parse::parse};
use strait_model::{AllocatorState, Compiler, Connection, L4, Party, Snapshot};

const NAMESPACES: usize = 50;
const APPS: usize = 20;
const REPLICAS: usize = 10;
const NODES: usize = 100;

fn cluster(nodes: usize) -> Objects {
    let namespaces = (0..NAMESPACES).map(|namespace| {
        let apps = (0..APPS).map(|app| {
            let replicas = (0..REPLICAS).map(|replica| pod(namespace, app, replica, nodes));
            policy(namespace, app) + &replicas.collect::<String>()
        });
        apps.fold(namespace_object(namespace), |yaml, app| yaml + &app)
    });
    let files = namespaces.chain([(0..nodes).map(node).collect::<String>()]);
    let parsed = files.flat_map(|yaml| {
        let parsed = parse(&Arc::from("bench.yaml"), yaml.as_bytes());
        assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
        parsed.objects
    });
    parsed.collect()
}

fn namespace_object(namespace: usize) -> String {
    let team = namespace % 10;
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: ns-{namespace}, labels: {{team: team-{team}}}}}\n---\n")
}

fn node(node: usize) -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: node-{node}}}
status: {{addresses: [{{type: InternalIP, address: 172.30.0.{}}}]}}\n---\n",
        node + 1
    )
}

fn pod(namespace: usize, app: usize, replica: usize, nodes: usize) -> String {
    let number = (namespace * APPS + app) * REPLICAS + replica;
    let (high, low, tier, node) = (number / 250, number % 250, app % 3, number % nodes);
    format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: app-{app}-{replica}
  namespace: ns-{namespace}
  labels: {{app: app-{app}, tier: tier-{tier}, pod-template-hash: h{app}}}
spec: {{nodeName: node-{node}, containers: [{{name: c, ports: [{{name: http, containerPort: 8080}}]}}]}}
status: {{phase: Running, podIPs: [{{ip: 10.1.{high}.{low}}}, {{ip: 'fd00::{high}:{low}'}}]}}
---
"
    )
}

/// Who calls an app: two neighbours, whoever is in a namespace of one team, and one app there; it calls one app and the outside.
fn policy(namespace: usize, app: usize) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: app-{app}, namespace: ns-{namespace}}}
spec:
  podSelector: {{matchLabels: {{app: app-{app}}}}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{{podSelector: {{matchLabels: {{app: app-{}}}}}}}, {{podSelector: {{matchExpressions: [{{key: app, operator: In, values: [app-{}, app-0]}}]}}}}]
    ports: [{{port: http}}, {{port: 9000, endPort: 9{:03}}}]
  - from: [{{namespaceSelector: {{matchLabels: {{team: team-{}}}}}, podSelector: {{matchLabels: {{tier: tier-1}}}}}}]
    ports: [{{port: 9090}}]
  egress:
  - to: [{{podSelector: {{matchLabels: {{app: app-{}}}}}}}]
    ports: [{{port: http}}]
  - to: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: ns-0}}}}}}]
    ports: [{{port: 53, protocol: UDP}}]
  - to: [{{ipBlock: {{cidr: 203.0.{}.0/24, except: [203.0.{}.128/25]}}}}]
    ports: [{{port: 443}}]
---
",
        (app + 1) % APPS,
        (app + 2) % APPS,
        app % 50 + 10,
        namespace % 10,
        (app + 5) % APPS,
        app % 10,
        app % 10,
    )
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn timed<T>(what: &str, times: u32, mut work: impl FnMut() -> T) -> T {
    let mut best = Duration::MAX;
    let mut run = || {
        let start = std::time::Instant::now();
        let result = black_box(work());
        best = best.min(start.elapsed());
        result
    };
    for _ in 1..times {
        run();
    }
    let result = run();
    println!("{what:<32} {:>10.3} ms", best.as_secs_f64() * 1e3);
    result
}

fn main() {
    for (nodes, title) in [(NODES, "100 of 10,000 pods on the node"), (1, "all 10,000 pods on the node")] {
        println!("{title}");
        let objects = cluster(nodes);
        let snapshot = timed("  snapshot", 5, || Snapshot::new(&objects));
        let plan = timed("  compile from nothing", 5, || {
            Compiler::new(AllocatorState::default()).compile(&snapshot, "node-0")
        });
        let mut compiler = Compiler::new(AllocatorState::default());
        compiler.compile(&snapshot, "node-0");
        timed("  compile again", 5, || compiler.compile(&snapshot, "node-0"));
        let pods: Vec<_> = snapshot.pods().map(|pod| pod.key.clone()).collect();
        let l4 = L4::Port { protocol: strait_base::Protocol::Tcp, port: 9090 };
        timed("  10,000 verdicts", 5, || {
            let ask = |at: usize| Connection {
                from: Party::Pod(pods[at].clone()),
                to: Party::Pod(pods[(at * 7_919 + 13) % pods.len()].clone()),
                l4,
                family: None,
            };
            (0..pods.len()).filter(|at| snapshot.verdict(&ask(*at)).allowed).count()
        });
        let outside: IpAddr = [203, 0, 3, 1].into();
        assert!(plan.peer(outside).is_some());
        println!(
            "  {} endpoints, {} ipcache, {} policy, {} port sets ({} entries), {} identities",
            plan.endpoints.len(),
            plan.ipcache.len(),
            plan.policy.len(),
            plan.port_sets.len(),
            plan.port_sets.values().map(|set| set.entries.len()).sum::<usize>(),
            plan.identities.len(),
        );
    }
}
