//! The generator: what it writes is what it means, and nothing legal is beyond it.

use std::{collections::BTreeSet, sync::Arc};

use proptest::{prop_assert_eq, proptest};
use strait_api::{NetworkPolicyRule, Objects, PeerSelector, PodPhase, PortRef, parse};
use strait_base::{LabelSelector, Operator, Protocol};
use strait_testkit::{Case, case, draw::Draw, generate::cases, generate::mixed_cases, minimize, mixed_case, render};

fn reparsed(case: &Case) -> (String, Objects) {
    let text = case.yaml();
    let parsed = parse(&Arc::from("case.yaml"), text.as_bytes());
    assert!(parsed.errors.is_empty(), "seed {}: {:#?}\n{text}", case.seed, parsed.errors);
    (text, parsed.objects.into_iter().collect())
}

proptest! {
    #[test]
    fn manifests_say_what_is_meant(case in cases()) {
        let (text, objects) = reparsed(&case);
        // Written one way, equal objects are equal texts, wherever they were written before.
        let canonical = |objects: &Objects| render::manifests(objects, &mut Draw::new(0));
        prop_assert_eq!(canonical(&objects), canonical(&case.objects), "{}", text);
    }

    #[test]
    fn manifests_of_all_kinds_say_what_is_meant(case in mixed_cases()) {
        let (text, objects) = reparsed(&case);
        let canonical = |objects: &Objects| render::manifests(objects, &mut Draw::new(0));
        prop_assert_eq!(canonical(&objects), canonical(&case.objects), "{}", text);
    }
}

#[test]
fn a_seed_repeats() {
    assert_eq!(case(7), case(7));
    assert_eq!(case(7).yaml(), case(7).yaml());
    assert_ne!(case(7).objects, case(8).objects);
}

/// Everything that the issue of semantics turns on comes up, and often.
#[test]
fn everything_legal_comes_up() {
    let mut seen = BTreeSet::new();
    for seed in 0..1000 {
        features(&case(seed).objects, &mut seen);
    }
    let expected: BTreeSet<&str> = [
        "In",
        "NotIn",
        "Exists",
        "DoesNotExist",
        "matchLabels",
        "empty selector",
        "both in a selector",
        "several values",
        "pods",
        "namespaces",
        "namespaced pods",
        "block",
        "block with except",
        "block with two",
        "IPv6 block",
        "every address",
        "one address",
        "ingress only",
        "egress only",
        "both types",
        "rule of a type not in force",
        "no rules",
        "no peers",
        "no ports",
        "empty rule",
        "named port",
        "numeric port",
        "range",
        "range to the last",
        "protocol alone",
        "UDP",
        "SCTP",
        "several policies",
        "hostNetwork",
        "completed",
        "IPv4 alone",
        "IPv6 alone",
        "undeclared namespace",
        "replicas with other ports",
        "outside pod CIDRs",
        "name for another number",
        "empty label value",
        "no policy",
    ]
    .into();
    let missing: Vec<_> = expected.difference(&seen).collect();
    assert!(missing.is_empty(), "never generated: {missing:?}");
    let unknown: Vec<_> = seen.difference(&expected).collect();
    assert!(unknown.is_empty(), "list these: {unknown:?}");
}

/// Of the kinds that mixed cases add, by what their manifests say.
#[test]
fn everything_legal_comes_up_mixed() {
    let text: String = (0..1500).map(|seed| mixed_case(seed).yaml()).collect();
    let words = [
        "kind: CiliumNetworkPolicy",
        "kind: CiliumClusterwideNetworkPolicy",
        "kind: CiliumCIDRGroup",
        "kind: ClusterNetworkPolicy",
        "kind: AdminNetworkPolicy",
        "kind: BaselineAdminNetworkPolicy",
        "kind: NetworkPolicy",
        "strait.dev/audit: \"true\"",
        "strait.dev/audit: \"false\"",
        "specs:",
        "endpointSelector:",
        "nodeSelector:",
        "ingressDeny:",
        "egressDeny:",
        "enableDefaultDeny:",
        "fromEndpoints: []",
        "toEndpoints:",
        "fromCIDR:",
        "toCIDR:",
        "fromCIDRSet:",
        "toCIDRSet:",
        "cidrGroupRef:",
        "cidrGroupSelector:",
        "except:",
        "fromEntities:",
        "toEntities:",
        "- all\n",
        "- world\n",
        "- world-ipv4\n",
        "- world-ipv6\n",
        "- cluster\n",
        "- cluster-mesh\n",
        "- host\n",
        "- remote-node\n",
        "- init\n",
        "- ingress\n",
        "- unmanaged\n",
        "- health\n",
        "- none\n",
        "- kube-apiserver\n",
        "toServices:",
        "fromGroups:",
        "toGroups:",
        "k8sService:",
        "k8sServiceSelector:",
        "fromNodes:",
        "toNodes:",
        "toFQDNs:",
        "matchName:",
        "matchPattern:",
        "toPorts: []",
        "port: \"0\"",
        "port: \"http\"",
        "endPort:",
        "protocol: ANY",
        "protocol: SCTP",
        "icmps:",
        "family: IPv6",
        "type: \"EchoRequest\"",
        "type: 128",
        "mode: disabled",
        "mode: required",
        "mode: test-always-fail",
        "http:",
        "dns:",
        "serverNames:",
        "terminatingTLS:",
        "listener:",
        "\"k8s:app\"",
        "io.kubernetes.pod.namespace",
        "io.cilium.k8s.namespace.labels.team",
        "io.cilium.k8s.policy.serviceaccount",
        "io.cilium.k8s.policy.cluster",
        "reserved:host",
        "tier: Admin",
        "tier: Baseline",
        "priority: 0\n",
        "priority: 1000\n",
        "action: Accept",
        "action: Allow",
        "action: Deny",
        "action: Pass",
        "subject:",
        "networks:",
        "nodes:",
        "domainNames:",
        "destinationPort:",
        "range:",
        "destinationNamedPort:",
        "tcp: {}",
        "portNumber:",
        "portRange:",
        "namedPort:",
    ];
    let missing: Vec<_> = words.into_iter().filter(|word| !text.contains(word)).collect();
    assert!(missing.is_empty(), "never generated: {missing:?}");
}

fn features(objects: &Objects, seen: &mut BTreeSet<&'static str>) {
    let mut note = |name, holds: bool| {
        if holds {
            seen.insert(name);
        }
    };
    let policies: Vec<_> = objects.network_policies().collect();
    note("no policy", policies.is_empty());
    note("several policies", policies.len() > 2);
    for policy in &policies {
        note("ingress only", policy.isolates_ingress && !policy.isolates_egress);
        note("egress only", !policy.isolates_ingress && policy.isolates_egress);
        note("both types", policy.isolates_ingress && policy.isolates_egress);
        note("rule of a type not in force", !policy.isolates_egress && !policy.egress.is_empty());
        note("no rules", policy.ingress.is_empty() && policy.isolates_ingress);
        selector(&policy.pod_selector, &mut note);
        policy.ingress.iter().chain(&policy.egress).for_each(|one| rule(one, &mut note));
    }
    let pods: Vec<_> = objects.pods().collect();
    for pod in &pods {
        note("hostNetwork", pod.spec.host_network);
        note("completed", pod.phase == PodPhase::Succeeded);
        note("IPv4 alone", pod.pod_ips.iter().all(std::net::IpAddr::is_ipv4));
        note("IPv6 alone", pod.pod_ips.iter().all(std::net::IpAddr::is_ipv6));
        note("undeclared namespace", &*pod.meta.namespace == "gamma");
        note("outside pod CIDRs", pod.pod_ips.iter().any(|address| address.to_string().starts_with("192.168.")));
        note("empty label value", pod.meta.labels.iter().any(|(_, value)| value.is_empty()));
        for other in &pods {
            let alike = pod.meta.namespace == other.meta.namespace && pod.meta.labels == other.meta.labels;
            let differ = pod.spec.containers != other.spec.containers;
            note("replicas with other ports", alike && differ);
            let numbers = |pod: &strait_api::Pod| -> Vec<u16> {
                let ports = pod.spec.containers.iter().flat_map(|container| &container.ports);
                ports.filter(|port| port.name.as_deref() == Some("http")).map(|port| port.container_port).collect()
            };
            let (mine, theirs) = (numbers(pod), numbers(other));
            note("name for another number", alike && !mine.is_empty() && !theirs.is_empty() && mine != theirs);
        }
    }
}

fn rule(rule: &NetworkPolicyRule, note: &mut impl FnMut(&'static str, bool)) {
    note("no peers", rule.peers.is_empty() && !rule.ports.is_empty());
    note("no ports", rule.ports.is_empty() && !rule.peers.is_empty());
    note("empty rule", rule.ports.is_empty() && rule.peers.is_empty());
    for peer in &rule.peers {
        match &peer.selects {
            PeerSelector::Pods(pods) => {
                note("pods", true);
                selector(pods, note);
            }
            PeerSelector::Namespaces(namespaces) => {
                note("namespaces", true);
                selector(namespaces, note);
            }
            PeerSelector::NamespacedPods { namespaces, pods } => {
                note("namespaced pods", true);
                selector(namespaces, note);
                selector(pods, note);
            }
            PeerSelector::IpBlock { cidr, except } => {
                note("block", except.is_empty());
                note("block with except", except.len() == 1);
                note("block with two", except.len() == 2);
                note("IPv6 block", cidr.addr().is_ipv6());
                note("every address", cidr.prefix_len() == 0);
                note("one address", cidr.prefix_len() == cidr.max_prefix_len());
                assert!(except.iter().all(|hole| cidr.contains(hole) && hole != cidr), "{cidr} except {except:?}");
                assert_eq!(*cidr, cidr.trunc());
            }
        }
    }
    for port in &rule.ports {
        note("UDP", port.protocol == Protocol::Udp);
        note("SCTP", port.protocol == Protocol::Sctp);
        match (&port.port, port.end_port) {
            (None, end) => {
                note("protocol alone", true);
                assert_eq!(end, None);
            }
            (Some(PortRef::Name(_)), end) => {
                note("named port", true);
                assert_eq!(end, None);
            }
            (Some(PortRef::Number(first)), end) => {
                note("numeric port", end.is_none());
                note("range", end.is_some());
                note("range to the last", end == Some(u16::MAX));
                assert!(*first > 0 && end.is_none_or(|last| *first <= last));
            }
        }
    }
}

fn selector(selector: &LabelSelector, note: &mut impl FnMut(&'static str, bool)) {
    note("empty selector", selector.is_empty());
    note("matchLabels", !selector.match_labels.0.is_empty());
    note("both in a selector", !selector.match_labels.0.is_empty() && !selector.match_expressions.is_empty());
    for requirement in &selector.match_expressions {
        match &requirement.operator {
            Operator::In(values) => {
                note("In", true);
                note("several values", values.len() > 1);
            }
            Operator::NotIn(_) => note("NotIn", true),
            Operator::Exists => note("Exists", true),
            Operator::DoesNotExist => note("DoesNotExist", true),
        }
    }
}

#[test]
fn minimized_cases_keep_what_matters() {
    // A range to port 8080 out of any case that has one.
    let has_range = |objects: &Objects| {
        let rules = |policy: &Arc<strait_api::NetworkPolicy>| [policy.ingress.clone(), policy.egress.clone()].concat();
        objects.network_policies().flat_map(rules).any(|rule| rule.ports.iter().any(|port| port.end_port == Some(8080)))
    };
    let large =
        (0..1000).map(case).find(|case| has_range(&case.objects) && case.objects.network_policies().count() > 3);
    let small = minimize(&large.unwrap().objects, has_range);
    assert_eq!(small.pods().count(), 0);
    let policies: Vec<_> = small.network_policies().collect();
    let [policy] = &policies[..] else { panic!("{policies:?}") };
    let rules = [&policy.ingress[..], &policy.egress[..]].concat();
    let [rule] = &rules[..] else { panic!("{rules:?}") };
    assert!(rule.peers.is_empty() && rule.ports.len() == 1 && policy.pod_selector.is_empty(), "{policy:?}");
}
