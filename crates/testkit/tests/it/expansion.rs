//! What `strait_cluster::expand` promises, of random manifests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
    sync::Arc,
};

use strait_api::{Objects, Pod, PodPhase, parse};
use strait_cluster::{Options, addresses, expand, workload};
use strait_testkit::draw::Draw;

const KINDS: [&str; 7] =
    ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "ReplicationController", "Job", "CronJob"];

/// A document each, none of which names another's objects.
fn documents(draw: &mut Draw) -> Vec<String> {
    let mut out = Vec::new();
    for number in 0..draw.below(4) {
        let cidr = draw.weighted(&[
            (3, ""),
            (1, "podCIDR: 10.244.1.0/24"),
            (1, "podCIDR: 10.1.0.0/29"),
            (1, "podCIDRs: [10.244.3.0/24, 'fd00:10:244:3::/64']"),
        ]);
        let address = draw.weighted(&[(2, ""), (1, "{type: InternalIP, address: 172.30.0.12}")]);
        out.push(format!("{{apiVersion: v1, kind: Node, metadata: {{name: node-{number}, labels: {{zone: z{}}}}}, spec: {{{cidr}}}, status: {{addresses: [{address}]}}}}", number % 2));
    }
    let spec = |draw: &mut Draw| {
        let mut spec = "containers: [{name: c, image: i, ports: [{containerPort: 80, name: http}]}]".to_owned();
        let place = draw.below(14);
        if place < 2 {
            let _ = write!(spec, ", nodeSelector: {{zone: z{}}}", draw.below(3));
        } else if place < 4 {
            let _ = write!(spec, ", nodeName: node-{}", draw.below(4));
        }
        if draw.chance(10) {
            spec += ", hostNetwork: true";
        }
        spec
    };
    for number in 0..draw.below(6) {
        let ip = draw.weighted(&[
            (4, ""),
            (1, "podIP: 10.244.1.10"),
            (1, "podIP: 10.244.2.11"),
            (1, "podIPs: [{ip: 10.1.0.1}, {ip: 'fd00:10:244:3::10'}]"),
            (1, "podIP: 224.0.0.1"),
        ]);
        let phase = draw.weighted(&[(6, "Running"), (1, "Succeeded"), (1, "Failed"), (1, "Pending"), (1, "Unknown")]);
        let spec = spec(draw);
        out.push(format!("{{apiVersion: v1, kind: Pod, metadata: {{name: bare-{number}, labels: {{app: web}}}}, spec: {{{spec}}}, status: {{phase: {phase}, {ip}}}}}"));
    }
    for number in 0..draw.below(5) {
        let kind = *draw.pick(&KINDS);
        let template = format!("template: {{metadata: {{labels: {{app: web}}}}, spec: {{{}}}}}", spec(draw));
        let count = draw.below(5);
        let (api, spec) = match kind {
            "CronJob" => (
                "batch/v1",
                format!("schedule: '* * * * *', suspend: {}, jobTemplate: {{spec: {{{template}}}}}", draw.chance(20)),
            ),
            "Job" => ("batch/v1", format!("parallelism: {count}, {template}")),
            "DaemonSet" => ("apps/v1", format!("selector: {{matchLabels: {{app: web}}}}, {template}")),
            "ReplicationController" => ("v1", format!("replicas: {count}, selector: {{app: web}}, {template}")),
            _ => ("apps/v1", format!("replicas: {count}, selector: {{matchLabels: {{app: web}}}}, {template}")),
        };
        out.push(format!("{{apiVersion: {api}, kind: {kind}, metadata: {{name: work-{number}}}, spec: {{{spec}}}}}"));
    }
    for number in 0..draw.below(3) {
        let ip = draw.weighted(&[(2, ""), (1, "clusterIP: None, "), (1, "clusterIP: 10.96.0.11, ")]);
        out.push(format!("{{apiVersion: v1, kind: Service, metadata: {{name: service-{number}}}, spec: {{{ip}selector: {{app: web}}, ports: [{{port: 80, targetPort: http}}]}}}}"));
    }
    out
}

fn objects(documents: &[String]) -> Objects {
    let text = documents.join("\n---\n");
    let parsed = parse(&Arc::from("random.yaml"), text.as_bytes());
    assert!(parsed.errors.is_empty(), "{:#?}\n{text}", parsed.errors);
    parsed.objects.into_iter().collect()
}

/// What holds of every expansion.
fn check(expanded: &Objects, context: &str) {
    let nodes: BTreeMap<_, _> = expanded.nodes().map(|node| (Arc::clone(&node.meta.name), node)).collect();
    let mut owners: BTreeMap<IpAddr, String> = BTreeMap::new();
    for node in nodes.values() {
        for address in &node.addresses {
            assert_eq!(owners.insert(*address, node.meta.name.to_string()), None, "{address} twice\n{context}");
        }
    }
    for pod in expanded.pods() {
        let name = &pod.meta.name;
        match pod.phase {
            PodPhase::Succeeded | PodPhase::Failed => assert!(pod.pod_ips.is_empty(), "{name} has ended\n{context}"),
            PodPhase::Pending => assert!(pod.pod_ips.is_empty(), "{name}: {:?}\n{context}", pod.pod_ips),
            PodPhase::Running | PodPhase::Unknown => {
                let node = nodes[pod.spec.node_name.as_ref().unwrap()];
                assert!(!pod.pod_ips.is_empty() && pod.pod_ips.len() <= 2, "{name}: {:?}\n{context}", pod.pod_ips);
                for address in &pod.pod_ips {
                    if pod.spec.host_network {
                        assert!(node.addresses.contains(address), "{name} {address}\n{context}");
                        continue;
                    }
                    assert_eq!(owners.insert(*address, name.to_string()), None, "{address} of {name} twice\n{context}");
                    let own = node.pod_cidrs.iter().any(|cidr| cidr.contains(address));
                    let any = nodes.values().any(|node| node.pod_cidrs.iter().any(|cidr| cidr.contains(address)));
                    assert!(own || !any, "{name} has {address}, which is another node's\n{context}");
                    assert!(addresses::is_routable(*address), "{name} {address}\n{context}");
                }
            }
        }
    }
    let mut services = BTreeSet::new();
    for service in expanded.services() {
        assert_eq!(service.cluster_ips.is_empty(), service.headless, "{}\n{context}", service.meta.name);
        assert!(service.cluster_ips.iter().all(|address| services.insert(*address)), "{services:?}\n{context}");
    }
    for endpoint in expanded.endpoint_slices().flat_map(|slice| &slice.endpoints) {
        let pod = expanded.pods().find(|pod| Some(&pod.meta.name) == endpoint.target_pod.as_ref()).unwrap();
        assert!(endpoint.addresses.iter().all(|address| pod.pod_ips.contains(address)), "{endpoint:?}\n{context}");
    }
}

/// A node, and addresses there.
type Place = (Option<Arc<str>>, Vec<IpAddr>);

/// Pods that ask for nothing themselves, and where they are.
fn placed(expanded: &Objects, given: &Objects) -> BTreeMap<Arc<str>, Place> {
    let asks = |pod: &Pod| given.pods().any(|given| given.meta.name == pod.meta.name && !given.pod_ips.is_empty());
    let quiet = expanded.pods().filter(|pod| !asks(pod) && (workload(pod).is_some() || pod.phase == PodPhase::Running));
    quiet.map(|pod| (Arc::clone(&pod.meta.name), (pod.spec.node_name.clone(), pod.pod_ips.clone()))).collect()
}

#[test]
fn promises() {
    let options = Options::default();
    for seed in 0..400 {
        let mut draw = Draw::new(seed);
        let all = documents(&mut draw);
        let given = objects(&all);
        let context = format!("seed {seed}:\n{}", all.join("\n---\n"));
        let first = expand(&given, &options, None).objects;
        check(&first, &context);
        assert!(expand(&first, &options, None).objects == first, "expanding an expansion changes it; {context}");
        assert!(
            expand(&given, &options, Some(&first)).objects == first,
            "nothing changed but the expansion; {context}"
        );
        // Something that is no node goes: nobody else moves.
        let mut fewer = all.clone();
        let goes: Vec<usize> = (0..all.len()).filter(|at| !all[*at].contains("kind: Node")).collect();
        if goes.is_empty() {
            continue;
        }
        let gone = fewer.remove(*draw.pick(&goes));
        let given = objects(&fewer);
        let second = expand(&given, &options, Some(&first)).objects;
        check(&second, &context);
        // But for a node that only what goes has named.
        if second.nodes().count() < first.nodes().count() {
            continue;
        }
        let (before, after) = (placed(&first, &given), placed(&second, &given));
        for (name, place) in &after {
            let was = &before[name];
            let moved = was.0 != place.0 || was.1.iter().any(|address| !place.1.contains(address));
            assert!(
                !moved || was.1.is_empty(),
                "{name} moves from {was:?} to {place:?} when this goes: {gone}\n{context}"
            );
        }
        // It comes back: all who stayed stay.
        let third = expand(&objects(&all), &options, Some(&second)).objects;
        check(&third, &context);
    }
}
