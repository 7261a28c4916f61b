//! How long a large cluster takes, from nothing and change by change: `cargo bench -p strait-model`, or `cargo xtask bench policy`,
//! which judges what this prints.
//!
//! 10,000 pods with two addresses each, 1,000 identities in 50 namespaces, 1,000 policies with ports, selectors across namespaces
//! and blocks; once as a node that hosts 100 of the pods sees it, once as a node that hosts them all. Each in a process of its own, for its
//! peak memory to be its own.

use std::{fs, hint::black_box, process::Command, sync::Arc, time::Duration};

use serde_json::{Value, json};
use strait_api::{Kind, Object, ObjectKey, Objects, parse::parse};
use strait_model::{AllocatorState, Compiler, Connection, L4, NodePlan, Party, Snapshot};

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
    files.flat_map(|yaml| objects(&yaml)).collect()
}

fn objects(yaml: &str) -> Vec<Object> {
    let parsed = parse(&Arc::from("bench.yaml"), yaml.as_bytes());
    assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
    parsed.objects
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

/// One change and what it took.
struct Sample {
    took: Duration,
    /// Entries of the plan that differ.
    entries: usize,
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = std::time::Instant::now();
    let result = black_box(work());
    (result, start.elapsed())
}

/// A cluster, and what is compiled of it for one node.
struct Follower {
    objects: Objects,
    snapshot: Snapshot,
    compiler: Compiler,
    plan: NodePlan,
}

const NODE: &str = "node-0";

impl Follower {
    fn new(objects: Objects) -> (Self, Duration) {
        let ((snapshot, compiler, plan), took) = timed(|| {
            let snapshot = Snapshot::new(&objects);
            let mut compiler = Compiler::new(AllocatorState::default());
            let plan = compiler.compile(&snapshot, NODE);
            (snapshot, compiler, plan)
        });
        (Self { objects, snapshot, compiler, plan }, took)
    }

    /// Takes in one object, or that it is gone.
    fn take(&mut self, key: ObjectKey, object: Option<Object>) -> Sample {
        match object {
            Some(object) => self.objects.replace(object),
            None => drop(self.objects.remove(&key)),
        }
        let keys = [key];
        let (changes, took) = timed(|| {
            let delta = self.snapshot.update(&self.objects, &keys);
            self.compiler.advance(&self.snapshot, &delta, NODE, &mut self.plan)
        });
        assert!(!changes.everything, "{keys:?}");
        let entries = changes.ipcache.len() + changes.endpoints.len() + changes.policy.len() + changes.port_sets.len();
        Sample { took, entries }
    }

    fn assert_same_as_from_nothing(&self) {
        let expected = Compiler::new(self.compiler.state()).compile(&Snapshot::new(&self.objects), NODE);
        assert!(self.plan == expected, "what was followed is not what is compiled from nothing");
    }
}

/// Objects of one kind, each changed to something else, taken out, and put back.
fn changes(follower: &mut Follower, what: &str, changed: &[(Object, Object)]) -> Vec<Value> {
    let mut samples: [Vec<Sample>; 3] = Default::default();
    for (original, other) in changed {
        let key = original.key();
        assert!(other.key() == key && other != original);
        samples[0].push(follower.take(key.clone(), Some(other.clone())));
        samples[1].push(follower.take(key.clone(), None));
        samples[2].push(follower.take(key, Some(original.clone())));
    }
    follower.assert_same_as_from_nothing();
    let names = ["changed", "removed", "added"];
    names.into_iter().zip(samples).map(|(change, samples)| figure(&format!("{what} {change}"), samples)).collect()
}

fn figure(name: &str, mut samples: Vec<Sample>) -> Value {
    samples.sort_by_key(|sample| sample.took);
    let at = |percent: usize| samples[(samples.len() - 1) * percent / 100].took.as_secs_f64() * 1e3;
    let entries = samples.iter().map(|sample| sample.entries).sum::<usize>() / samples.len();
    json!({ "figure": name, "count": samples.len(), "medianMs": at(50), "p90Ms": at(90), "maxMs": at(100), "entries": entries })
}

/// Pods that become replicas of another workload of their namespace, every so many.
fn pods(follower: &Follower, wanted: impl Fn(&strait_api::Pod) -> bool) -> Vec<(Object, Object)> {
    let pods: Vec<_> = follower.objects.pods().filter(|pod| wanted(pod)).cloned().collect();
    let step = pods.len().div_ceil(100).max(1);
    let other = |pod: &Arc<strait_api::Pod>| {
        let mut other = strait_api::Pod::clone(pod);
        let mut others = follower.objects.pods().filter(|other| other.meta.namespace == pod.meta.namespace);
        let sibling = others.find(|other| other.meta.labels.get("app") != pod.meta.labels.get("app"));
        other.meta.labels = sibling.map(|sibling| sibling.meta.labels.clone()).unwrap_or_default();
        (Object::Pod(Arc::clone(pod)), Object::Pod(other.into()))
    };
    pods.iter().step_by(step).map(other).collect()
}

/// Policies that select as before and allow what the next one allows; first those that select a pod of the node.
fn policies(follower: &Follower) -> Vec<(Object, Object)> {
    let in_force = |policy: &&Arc<strait_api::NetworkPolicy>| {
        let mut pods = follower.snapshot.pods().filter(|pod| pod.node().is_some_and(|node| **node == *NODE));
        pods.any(|pod| pod.key.namespace == policy.meta.namespace && policy.pod_selector.matches(pod.labels()))
    };
    let policies: Vec<_> = follower.objects.network_policies().filter(in_force).cloned().collect();
    let step = policies.len().div_ceil(50);
    let pairs = policies.iter().zip(policies.iter().cycle().skip(7));
    let other = |(policy, next): (&Arc<strait_api::NetworkPolicy>, &Arc<strait_api::NetworkPolicy>)| {
        let other = strait_api::NetworkPolicy {
            meta: policy.meta.clone(),
            pod_selector: policy.pod_selector.clone(),
            ..strait_api::NetworkPolicy::clone(next)
        };
        (Object::NetworkPolicy(Arc::clone(policy)), Object::NetworkPolicy(other.into()))
    };
    pairs.step_by(step).map(other).collect()
}

/// Namespaces that go to the team of the next one.
fn namespaces(follower: &Follower) -> Vec<(Object, Object)> {
    let all: Vec<_> = follower.objects.namespaces().cloned().collect();
    let other = |(one, next): (&Arc<strait_api::Namespace>, &Arc<strait_api::Namespace>)| {
        let mut other = strait_api::Namespace::clone(one);
        other.meta.labels.insert("team", next.meta.labels.get("team").unwrap_or_default());
        (Object::Namespace(Arc::clone(one)), Object::Namespace(other.into()))
    };
    all.iter().zip(all.iter().skip(1)).map(other).filter(|(one, other)| one != other).take(20).collect()
}

/// Other nodes than the one compiled for, at another address.
fn other_nodes(follower: &Follower) -> Vec<(Object, Object)> {
    let others = follower.objects.nodes().filter(|node| *node.meta.name != *NODE);
    let other = |node: &Arc<strait_api::Node>| {
        let mut other = strait_api::Node::clone(node);
        other.addresses = vec![std::net::IpAddr::from([172, 31, 0, 1])];
        (Object::Node(Arc::clone(node)), Object::Node(other.into()))
    };
    others.take(20).map(other).collect()
}

/// A policy that selects every pod of a namespace, and one that selects every pod there is.
fn wide_policies(follower: &mut Follower) -> Vec<Value> {
    let [one, all] = [
        (
            "NetworkPolicy",
            "networking.k8s.io/v1",
            ", namespace: ns-7",
            "podSelector: {}, ingress: [{ports: [{port: 7}]}]",
        ),
        (
            "CiliumClusterwideNetworkPolicy",
            "cilium.io/v2",
            "",
            "endpointSelector: {}, ingressDeny: [{fromCIDR: [192.0.2.0/24]}], enableDefaultDeny: {ingress: false}",
        ),
    ]
    .map(|(kind, version, namespace, spec)| {
        let yaml =
            format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: wide{namespace}}}\nspec: {{{spec}}}\n");
        objects(&yaml).remove(0)
    });
    let mut figures = Vec::new();
    for (what, policy) in [("policy about a namespace", one), ("policy about all pods", all)] {
        let mut samples: [Vec<Sample>; 2] = Default::default();
        for _ in 0..10 {
            samples[0].push(follower.take(policy.key(), Some(policy.clone())));
            samples[1].push(follower.take(policy.key(), None));
        }
        let names = ["added", "removed"];
        figures.extend(
            names.into_iter().zip(samples).map(|(change, samples)| figure(&format!("{what} {change}"), samples)),
        );
    }
    follower.assert_same_as_from_nothing();
    figures
}

fn verdicts(snapshot: &Snapshot) -> Duration {
    let pods: Vec<_> = snapshot.pods().map(|pod| pod.key.clone()).collect();
    let l4 = L4::Port { protocol: strait_base::Protocol::Tcp, port: 9090 };
    let ask = |at: usize| Connection {
        from: Party::Pod(pods[at].clone()),
        to: Party::Pod(pods[(at * 7_919 + 13) % pods.len()].clone()),
        l4,
        family: None,
    };
    timed(|| (0..pods.len()).filter(|at| snapshot.verdict(&ask(*at)).allowed).count()).1
}

/// Kilobytes of this process, by a name in `/proc/self/status`.
fn memory(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

fn measure(title: &str, nodes: usize) -> Value {
    let objects = cluster(nodes);
    let before = memory("VmRSS");
    let (mut follower, took) = Follower::new(objects);
    let (after, peak) = (memory("VmRSS"), memory("VmHWM"));
    let mut again: Vec<_> = (0..4).map(|_| Follower::new(follower.objects.clone()).1).chain([took]).collect();
    again.sort_unstable();
    let sample = |took: &Duration| Sample { took: *took, entries: 0 };
    let mut figures = vec![figure("from nothing", again.iter().map(sample).collect())];
    let own = |pod: &strait_api::Pod| pod.spec.node_name.as_deref() == Some(NODE);
    let (mine, others) = (pods(&follower, own), pods(&follower, |pod| !own(pod)));
    figures.extend(changes(&mut follower, "pod of the node", &mine));
    if !others.is_empty() {
        figures.extend(changes(&mut follower, "pod of another node", &others));
    }
    let policies = policies(&follower);
    assert!(policies.iter().all(|(policy, _)| policy.kind() == Kind::NetworkPolicy));
    figures.extend(changes(&mut follower, "policy", &policies));
    figures.extend(wide_policies(&mut follower));
    let (namespaces, others) = (namespaces(&follower), other_nodes(&follower));
    figures.extend(changes(&mut follower, "namespace", &namespaces));
    if !others.is_empty() {
        figures.extend(changes(&mut follower, "node", &others));
    }
    figures.push(figure("10,000 verdicts", vec![sample(&verdicts(&follower.snapshot))]));
    let plan = &follower.plan;
    let entries: usize = plan.port_sets.values().map(|set| set.entries.len()).sum();
    json!({
        "cluster": title,
        "plan": {
            "endpoints": plan.endpoints.len(), "ipcache": plan.ipcache.len(), "policy": plan.policy.len(),
            "portSets": plan.port_sets.len(), "portSetEntries": entries, "identities": plan.identities.len(),
        },
        "memory": { "objectsKb": before, "compiledKb": after, "peakKb": peak },
        "figures": figures,
    })
}

/// One JSON object a line.
fn main() {
    let clusters = [("100 of 10,000 pods on the node", NODES), ("all 10,000 pods on the node", 1)];
    let asked = std::env::args().find_map(|argument| argument.strip_prefix("only=").map(str::to_owned));
    if let Some((title, nodes)) = clusters.iter().find(|(title, _)| asked.as_deref() == Some(title)) {
        println!("{}", measure(title, *nodes));
        return;
    }
    for (title, _) in clusters {
        let status = std::env::current_exe().and_then(|own| Command::new(own).arg(format!("only={title}")).status());
        assert!(status.is_ok_and(|status| status.success()), "{title}");
    }
}
