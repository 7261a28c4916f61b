use std::{net::IpAddr, sync::Arc};

use strait_api::{Objects, parse::parse};
use strait_model::{
    AllocatorState, Compiler, Connection, Direction, Family, L4, NodePlan, Party, Reason, Snapshot, Verdict,
};

/// The objects of manifests, which must be without fault.
pub(crate) fn objects(file: &str, yaml: &str) -> Objects {
    let parsed = parse(&Arc::from(file), yaml.as_bytes());
    assert!(parsed.errors.is_empty(), "{:#?}", parsed.errors);
    parsed.objects.into_iter().collect()
}

/// Two nodes and a few pods: `a/client`, `a/server` (label `app=…`) on node-1, `b/client`, `b/other` on node-2, `b/host` with
/// hostNetwork on node-2.
pub(crate) const CLUSTER: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: a, labels: {team: red}}
---
apiVersion: v1
kind: Namespace
metadata: {name: b, labels: {team: blue}}
---
apiVersion: v1
kind: Node
metadata: {name: node-1, labels: {kubernetes.io/hostname: node-1}}
spec: {podCIDRs: [10.244.1.0/24, 'fd00:10:244:1::/64']}
status: {addresses: [{type: InternalIP, address: 172.30.0.11}, {type: InternalIP, address: 'fd00:172:30::11'}]}
---
apiVersion: v1
kind: Node
metadata: {name: node-2}
spec: {podCIDRs: [10.244.2.0/24, 'fd00:10:244:2::/64']}
status: {addresses: [{type: InternalIP, address: 172.30.0.12}, {type: InternalIP, address: 'fd00:172:30::12'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: a, labels: {app: client, tier: front}}
spec: {nodeName: node-1, containers: [{name: c}]}
status: {phase: Running, podIPs: [{ip: 10.244.1.10}, {ip: 'fd00:10:244:1::10'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: a, labels: {app: server}}
spec:
  nodeName: node-1
  containers:
  - name: c
    ports: [{name: web, containerPort: 80}, {name: dns, containerPort: 53, protocol: UDP}]
  - name: d
    ports: [{name: admin, containerPort: 9000}]
status: {phase: Running, podIPs: [{ip: 10.244.1.11}, {ip: 'fd00:10:244:1::11'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: b, labels: {app: client}}
spec: {nodeName: node-2, containers: [{name: c, ports: [{name: web, containerPort: 8080}]}]}
status: {phase: Running, podIPs: [{ip: 10.244.2.10}, {ip: 'fd00:10:244:2::10'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: other, namespace: b, labels: {app: other}}
spec: {nodeName: node-2, containers: [{name: c}]}
status: {phase: Running, podIPs: [{ip: 10.244.2.11}, {ip: 'fd00:10:244:2::11'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: host, namespace: b, labels: {app: client}}
spec: {nodeName: node-2, hostNetwork: true, containers: [{name: c, ports: [{name: web, containerPort: 80}]}]}
status: {phase: Running, podIPs: [{ip: 172.30.0.12}, {ip: 'fd00:172:30::12'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: done, namespace: a, labels: {app: client}}
spec: {nodeName: node-1, containers: [{name: c}]}
status: {phase: Succeeded, podIPs: [{ip: 10.244.1.10}]}
";

/// [`CLUSTER`] with policies, each given as `namespace/name: {spec as one flow mapping}`.
pub(crate) fn with_policies(policies: &[(&str, &str)]) -> Objects {
    let mut yaml = String::from(CLUSTER);
    for (name, spec) in policies {
        let (namespace, name) = name.split_once('/').expect("namespace/name");
        let head = format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
        );
        yaml.extend([&head, "spec: ", spec, "\n"]);
    }
    objects("cluster.yaml", &yaml)
}

/// [`CLUSTER`] with policies of any kind, each given as `KIND [namespace/]name [audit]` (`NP`, `CNP`, `CCNP`, `CNPS` with `specs`,
/// `ADMIN`, `BASELINE`, `ANP`, `BANP`) and its spec as one flow mapping; `YAML` is a manifest as it is.
pub(crate) fn with_kinds(policies: &[(&str, &str)]) -> Objects {
    let mut yaml = String::from(CLUSTER);
    for (head, spec) in policies {
        let words: Vec<_> = head.split_whitespace().collect();
        let (field, tier) = match words[0] {
            "CNPS" => ("specs", ""),
            "ADMIN" => ("spec", "tier: Admin, "),
            "BASELINE" => ("spec", "tier: Baseline, "),
            _ => ("spec", ""),
        };
        let kind = match words[0] {
            "YAML" => {
                yaml.extend(["---\n", spec, "\n"]);
                continue;
            }
            "NP" => "networking.k8s.io/v1\nkind: NetworkPolicy",
            "CNP" | "CNPS" => "cilium.io/v2\nkind: CiliumNetworkPolicy",
            "CCNP" => "cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy",
            "ADMIN" | "BASELINE" => "policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy",
            "ANP" => "policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy",
            "BANP" => "policy.networking.k8s.io/v1alpha1\nkind: BaselineAdminNetworkPolicy",
            other => panic!("not a kind: {other}"),
        };
        let meta = match words[1].split_once('/') {
            Some((namespace, name)) => format!("name: {name}, namespace: {namespace}"),
            None => format!("name: {}", words[1]),
        };
        let audit = if words.contains(&"audit") { ", annotations: {strait.dev/audit: \"true\"}" } else { "" };
        let spec = spec.replacen('{', &format!("{{{tier}"), 1);
        let document = format!("---\napiVersion: {kind}\nmetadata: {{{meta}{audit}}}\n{field}: {spec}\n");
        yaml.push_str(&document);
    }
    objects("cluster.yaml", &yaml)
}

/// Asks policies, as [`with_kinds`] takes them, and the plans compiled from them. A line each: `yes from -> to 80/TCP`, `no …`, or
/// `audit …` for what is allowed because what would deny it only reports.
pub(crate) fn check_kinds(policies: &[(&str, &str)], expected: &str) {
    let snapshot = Snapshot::new(&with_kinds(policies));
    let plans = ["node-1", "node-2"].map(|node| Compiler::new(AllocatorState::default()).compile(&snapshot, node));
    for line in expected.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (answer, question) = line.split_once(' ').expect("yes, no or audit");
        let asked = connection(&snapshot, question);
        let verdict = snapshot.verdict(&asked);
        let audited = [&verdict.egress, &verdict.ingress].iter().any(|decision| decision.reason == Reason::Audited);
        let found = match (verdict.allowed, audited) {
            (true, true) => "audit",
            (true, false) => "yes",
            (false, _) => "no",
        };
        assert_eq!(found, answer, "{policies:#?}\n{line}\n{}", snapshot.explain(&asked).render(false));
        plans_agree(&snapshot, &plans, &asked, &verdict);
    }
}

/// `from -> to 80/TCP [v6]`.
pub(crate) fn connection(snapshot: &Snapshot, text: &str) -> Connection {
    let words: Vec<_> = text.split_whitespace().collect();
    let [from, "->", to, l4, rest @ ..] = words.as_slice() else { panic!("not a connection: {text}") };
    let party = |text: &str| snapshot.party(text, "default").unwrap_or_else(|error| panic!("{error}"));
    let family = match rest {
        [] => None,
        ["v6"] => Some(Family::V6),
        _ => panic!("not a family: {rest:?}"),
    };
    Connection { from: party(from), to: party(to), l4: protocol(l4), family }
}

/// `80/TCP`, `icmp`, or a protocol number.
pub(crate) fn protocol(text: &str) -> L4 {
    match text.split_once('/') {
        Some((port, protocol)) => L4::Port { port: port.parse().unwrap(), protocol: protocol.parse().unwrap() },
        None if text == "icmp" => L4::Icmp,
        None => L4::Other(text.parse().unwrap()),
    }
}

/// The pod of this name.
pub(crate) fn pod(text: &str) -> strait_model::PodKey {
    let (namespace, name) = text.split_once('/').expect("namespace/name");
    strait_model::PodKey::new(namespace, name)
}

/// Asserts that the plans of both ends' nodes judge as `verdict` says.
pub(crate) fn plans_agree(snapshot: &Snapshot, plans: &[NodePlan], asked: &Connection, verdict: &Verdict) {
    let Some(family) = verdict.family else { return };
    let address = |party: &Party| -> Option<IpAddr> {
        match party {
            Party::Pod(key) => {
                let pod = snapshot.pod(key)?;
                let node = pod.node().and_then(|node| snapshot.node(node));
                pod.address(family).or_else(|| node?.address(family))
            }
            Party::Node(name) => snapshot.node(name)?.address(family),
            Party::Address(address) => (Family::of(*address) == family).then_some(*address),
        }
    };
    let (Some(from), Some(to)) = (address(&asked.from), address(&asked.to)) else { panic!("no address: {asked:?}") };
    for (direction, own, peer, decision) in
        [(Direction::Egress, from, to, &verdict.egress), (Direction::Ingress, to, from, &verdict.ingress)]
    {
        let pod = snapshot.pods().find(|pod| pod.addresses().contains(&own));
        for plan in plans {
            let judged = match pod {
                Some(pod) => plan.judge_address(&pod.key, direction, peer, asked.l4),
                None if own == peer => None,
                None => plan.judge_host_address(own, direction, peer, asked.l4),
            };
            let Some(judged) = judged else { continue };
            assert_eq!(judged.allowed, decision.allowed, "{direction} of {asked:?}\n{decision:#?}");
            let mut origins = decision.origins.clone();
            origins.sort_unstable();
            let compiled = plan.origins.get(&judged.origin).cloned().unwrap_or_default();
            assert_eq!(compiled, origins, "{direction} of {asked:?}: the plan blames others");
        }
    }
}
