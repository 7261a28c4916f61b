//! `NetworkPolicy`, sentence by sentence of its API reference: what it allows, asked of the rules and of the compiled plans.

use strait_model::{AllocatorState, Compiler, Decision, Reason, Snapshot};

use crate::support::{connection, plans_agree, with_policies};

/// `yes from -> to 80/TCP` or `no …`, a line each.
fn check(policies: &[(&str, &str)], expected: &str) {
    let snapshot = Snapshot::new(&with_policies(policies));
    let plans = ["node-1", "node-2"].map(|node| Compiler::new(AllocatorState::default()).compile(&snapshot, node));
    for line in expected.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (answer, question) = line.split_once(' ').expect("yes or no");
        let asked = connection(&snapshot, question);
        let verdict = snapshot.verdict(&asked);
        assert_eq!(verdict.allowed, answer == "yes", "{line}\n{}", snapshot.explain(&asked).render(false));
        plans_agree(&snapshot, &plans, &asked, &verdict);
    }
}

#[test]
fn nothing_isolates_without_a_policy() {
    check(
        &[],
        "yes a/client -> a/server 80/TCP
         yes a/client -> b/other 1/SCTP v6
         yes a/client -> 203.0.113.7 443/TCP
         yes 203.0.113.7 -> a/client icmp
         yes node/node-2 -> a/client 10/UDP
         yes a/client -> b/other 47",
    );
}

#[test]
fn a_policy_isolates_what_it_selects_in_its_directions() {
    // policyTypes left out: Ingress always, Egress only with egress rules.
    check(
        &[("a/deny", "{podSelector: {}}")],
        "no  b/client -> a/server 80/TCP
         no  b/client -> a/server 80/TCP v6
         no  a/client -> a/server 80/TCP
         yes a/server -> b/client 80/TCP
         yes a/server -> 203.0.113.7 80/TCP
         no  203.0.113.7 -> a/server 80/TCP
         no  2001:db8:113::7 -> a/server 80/TCP
         no  b/client -> a/server icmp
         no  b/client -> a/server 47",
    );
    check(
        &[("a/deny", "{podSelector: {matchLabels: {app: server}}, policyTypes: [Egress]}")],
        "yes b/client -> a/server 80/TCP
         no  a/server -> b/client 80/TCP
         no  a/server -> 203.0.113.7 80/TCP
         yes a/client -> b/client 80/TCP",
    );
    check(
        &[("a/both", "{podSelector: {}, egress: [{}]}")],
        "no  b/client -> a/server 80/TCP
         yes a/server -> b/client 80/TCP
         yes a/server -> b/client icmp",
    );
    // Rules of a direction that policyTypes leaves out have no effect.
    check(
        &[("a/odd", "{podSelector: {}, policyTypes: [Egress], ingress: [{}]}")],
        "yes b/client -> a/server 80/TCP
         no  a/server -> b/client 80/TCP",
    );
}

#[test]
fn a_pod_reaches_itself_and_a_node_its_own_pods() {
    check(
        &[("a/deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}")],
        "yes a/server -> a/server 80/TCP
         yes a/server -> a/server 80/TCP v6
         yes a/server -> 10.244.1.11 80/TCP
         yes node/node-1 -> a/server 80/TCP
         yes node/node-1 -> a/server icmp v6
         yes a/server -> 172.30.0.11 22/TCP
         yes a/server -> node/node-1 22/TCP v6
         no  node/node-2 -> a/server 80/TCP
         no  b/host -> a/server 80/TCP
         no  a/server -> node/node-2 80/TCP",
    );
}

#[test]
fn peers() {
    let server = "podSelector: {matchLabels: {app: server}}";
    let ingress = |from: &str| format!("{{{server}, ingress: [{{from: [{from}]}}]}}");
    let cases = [
        // podSelector alone: the policy's own namespace.
        (
            ingress("{podSelector: {matchLabels: {app: client}}}"),
            "yes a/client -> a/server 1/TCP
             no  b/client -> a/server 1/TCP
             no  203.0.113.7 -> a/server 1/TCP
             no  10.244.2.99 -> a/server 1/TCP",
        ),
        (ingress("{podSelector: {}}"), "yes a/client -> a/server 1/TCP\nno b/other -> a/server 1/TCP"),
        // namespaceSelector alone: all their pods; never nodes, never the world.
        (
            ingress("{namespaceSelector: {}}"),
            "yes a/client -> a/server 1/TCP
             yes b/other -> a/server icmp
             no  203.0.113.7 -> a/server 1/TCP
             no  b/host -> a/server 1/TCP
             no  10.244.2.99 -> a/server 1/TCP",
        ),
        (
            ingress("{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: b}}}"),
            "no a/client -> a/server 1/TCP\nyes b/other -> a/server 1/TCP",
        ),
        // Both in one peer: and. Two peers: or.
        (
            ingress("{namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {app: client}}}"),
            "no a/client -> a/server 1/TCP\nyes b/client -> a/server 1/TCP\nno b/other -> a/server 1/TCP",
        ),
        (
            ingress("{namespaceSelector: {matchLabels: {team: blue}}}, {podSelector: {matchLabels: {app: client}}}"),
            "yes a/client -> a/server 1/TCP\nyes b/client -> a/server 1/TCP\nyes b/other -> a/server 1/TCP",
        ),
        // All four operators.
        (
            ingress("{namespaceSelector: {matchExpressions: [{key: team, operator: In, values: [blue, green]}]}}"),
            "no a/client -> a/server 1/TCP\nyes b/client -> a/server 1/TCP",
        ),
        (
            ingress(
                "{namespaceSelector: {}, podSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [front]}]}}",
            ),
            "no a/client -> a/server 1/TCP\nyes b/client -> a/server 1/TCP",
        ),
        (
            ingress("{namespaceSelector: {}, podSelector: {matchExpressions: [{key: tier, operator: Exists}]}}"),
            "yes a/client -> a/server 1/TCP\nno b/client -> a/server 1/TCP",
        ),
        (
            ingress("{namespaceSelector: {}, podSelector: {matchExpressions: [{key: tier, operator: DoesNotExist}]}}"),
            "no a/client -> a/server 1/TCP\nyes b/client -> a/server 1/TCP",
        ),
        // Missing and empty `from` are everyone.
        (
            format!("{{{server}, ingress: [{{ports: [{{port: 80}}]}}]}}"),
            "yes a/client -> a/server 80/TCP
             yes 203.0.113.7 -> a/server 80/TCP
             yes node/node-2 -> a/server 80/TCP v6
             yes 10.244.2.99 -> a/server 80/TCP
             no  a/client -> a/server 81/TCP",
        ),
        (format!("{{{server}, ingress: [{{from: []}}]}}"), "yes 203.0.113.7 -> a/server 80/TCP"),
        (format!("{{{server}, ingress: []}}"), "no a/client -> a/server 80/TCP"),
    ];
    for (spec, expected) in &cases {
        check(&[("a/p", spec)], expected);
    }
}

#[test]
fn blocks_match_whoever_has_the_address() {
    let ingress = |block: &str| format!("{{podSelector: {{}}, ingress: [{{from: [{{ipBlock: {block}}}]}}]}}");
    let cases = [
        (
            ingress("{cidr: 0.0.0.0/0}"),
            "yes 203.0.113.7 -> a/server 1/TCP
             yes b/client -> a/server 1/TCP
             no  b/client -> a/server 1/TCP v6
             yes node/node-2 -> a/server 1/TCP
             no  node/node-2 -> a/server 1/TCP v6
             yes node/node-1 -> a/server 1/TCP v6
             no  2001:db8:113::7 -> a/server 1/TCP",
        ),
        (
            ingress("{cidr: 10.244.0.0/16, except: [10.244.2.11/32]}"),
            "yes b/client -> a/server 1/TCP
             no  b/other -> a/server 1/TCP
             yes 10.244.2.99 -> a/server 1/TCP
             no  203.0.113.7 -> a/server 1/TCP",
        ),
        (
            ingress("{cidr: '::/0', except: ['fd00::/8']}"),
            "no  b/client -> a/server 1/TCP v6
             yes 2001:db8:113::7 -> a/server 1/TCP
             no  203.0.113.7 -> a/server 1/TCP",
        ),
        (ingress("{cidr: 172.30.0.12/32}"), "yes b/host -> a/server 1/TCP\nno b/client -> a/server 1/TCP"),
    ];
    for (spec, expected) in &cases {
        check(&[("a/p", spec)], expected);
    }
    check(
        &[(
            "a/out",
            "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.128/25]}}],
              ports: [{port: 443}]}]}",
        )],
        "yes a/client -> 203.0.113.7 443/TCP
         no  a/client -> 203.0.113.7 80/TCP
         no  a/client -> 203.0.113.200 443/TCP
         no  a/client -> 198.51.100.1 443/TCP",
    );
}

#[test]
fn ports() {
    let ingress = |ports: &str| format!("{{podSelector: {{}}, ingress: [{{ports: [{ports}]}}]}}");
    let cases = [
        (
            ingress("{port: 80}"),
            "yes b/client -> a/server 80/TCP\nno b/client -> a/server 80/UDP\nno b/client -> a/server icmp",
        ),
        (
            ingress("{protocol: UDP}"),
            "yes b/client -> a/server 1/UDP\nyes b/client -> a/server 65535/UDP\nno b/client -> a/server 1/TCP",
        ),
        (ingress("{}"), "yes b/client -> a/server 7/TCP\nno b/client -> a/server 7/SCTP"),
        (
            ingress("{protocol: SCTP, port: 8000, endPort: 8010}"),
            "no b/client -> a/server 7999/SCTP\nyes b/client -> a/server 8000/SCTP\nyes b/client -> a/server 8010/SCTP
             no b/client -> a/server 8011/SCTP",
        ),
        // Names: those of the destination pod, of the same protocol; a pod without the name does not match.
        (
            ingress("{port: web}"),
            "yes b/client -> a/server 80/TCP\nno b/client -> a/server 8080/TCP\nno b/client -> a/client 80/TCP
             yes 203.0.113.7 -> a/server 80/TCP",
        ),
        (ingress("{port: dns, protocol: UDP}"), "yes b/client -> a/server 53/UDP\nno b/client -> a/server 53/TCP"),
        (ingress("{port: dns}"), "no b/client -> a/server 53/UDP\nno b/client -> a/server 53/TCP"),
        (ingress("{port: admin}"), "yes b/client -> a/server 9000/TCP"),
        (ingress(""), "yes b/client -> a/server icmp\nyes b/client -> a/server 1/SCTP"),
    ];
    for (spec, expected) in &cases {
        check(&[("a/p", spec)], expected);
    }
    let egress =
        |to: &str| format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{{to}ports: [{{port: web}}]}}]}}");
    for (to, expected) in [
        (
            "",
            "yes a/client -> a/server 80/TCP
             no  a/client -> a/server 8080/TCP
             yes a/client -> b/client 8080/TCP
             no  a/client -> b/client 80/TCP
             no  a/client -> b/other 80/TCP
             no  a/client -> 203.0.113.7 80/TCP
             no  a/client -> b/host 80/TCP",
        ),
        (
            "to: [{ipBlock: {cidr: 0.0.0.0/0}}], ",
            "yes a/client -> a/server 80/TCP
             yes a/client -> b/client 8080/TCP
             no  a/client -> a/server 80/TCP v6
             no  a/client -> 203.0.113.7 80/TCP",
        ),
        (
            "to: [{namespaceSelector: {matchLabels: {team: blue}}}], ",
            "no a/client -> a/server 80/TCP\nyes a/client -> b/client 8080/TCP\nno a/client -> b/client 80/TCP",
        ),
    ] {
        check(&[("a/p", &egress(to))], expected);
    }
}

#[test]
fn policies_add_up_and_both_ends_must_agree() {
    check(
        &[
            ("a/deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}"),
            ("a/web", "{podSelector: {matchLabels: {app: server}}, ingress: [{ports: [{port: 80}]}]}"),
            ("a/icmp", "{podSelector: {matchLabels: {app: server}}, ingress: [{from: [{podSelector: {}}]}]}"),
            (
                "a/out",
                "{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]}",
            ),
        ],
        "yes b/client -> a/server 80/TCP
         no  b/client -> a/server 81/TCP
         yes a/client -> a/server 81/TCP
         yes a/client -> a/server icmp
         no  a/client -> b/client 80/TCP
         no  a/server -> a/client 80/TCP
         no  b/client -> a/client 80/TCP",
    );
}

#[test]
fn labels_that_are_no_part_of_an_identity_still_select() {
    let yaml = r"
apiVersion: v1
kind: Pod
metadata: {name: db-NUMBER, labels: {app: db, statefulset.kubernetes.io/pod-name: db-NUMBER}}
spec: {nodeName: node-1, containers: [{name: c}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.NUMBER}]}
";
    let policies = r"
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: only-first-is-open}
spec: {podSelector: {matchExpressions: [{key: statefulset.kubernetes.io/pod-name, operator: NotIn, values: [db-1]}]}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: from-third}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {statefulset.kubernetes.io/pod-name: db-3}}}]}]
";
    let pods: Vec<_> = ["1", "2", "3"].map(|number| yaml.replace("NUMBER", number)).into();
    let text = format!("{}\n{policies}", pods.join("---"));
    let snapshot = Snapshot::new(&crate::support::objects("db.yaml", &text));
    let plan = Compiler::new(AllocatorState::default()).compile(&snapshot, "node-1");
    for (question, expected) in [
        ("db-3 -> db-1 1/TCP", true),
        ("db-3 -> db-2 1/TCP", true),
        ("db-2 -> db-1 1/TCP", false),
        ("db-1 -> db-2 1/TCP", false),
    ] {
        let asked = connection(&snapshot, question);
        let verdict = snapshot.verdict(&asked);
        assert_eq!(verdict.allowed, expected, "{question}");
        plans_agree(&snapshot, std::slice::from_ref(&plan), &asked, &verdict);
    }
    let identities: std::collections::BTreeSet<_> = plan.endpoints.values().map(|endpoint| endpoint.identity).collect();
    assert_eq!(identities.len(), 2, "db-2 and db-3 are selected alike");
}

#[test]
fn reasons_and_origins() {
    let snapshot = Snapshot::new(&with_policies(&[
        ("a/deny", "{podSelector: {}}"),
        (
            "a/web",
            "{podSelector: {}, ingress: [{ports: [{port: 1}]}, {ports: [{port: 80}]}, {from: [{namespaceSelector: {}}]}]}",
        ),
    ]));
    let names = |decision: &Decision| {
        let name = |origin: &strait_model::Origin| format!("{}:{:?}", origin.name, origin.rule);
        decision.origins.iter().map(name).collect::<Vec<_>>()
    };
    for (question, egress, ingress, origins) in [
        ("b/client -> a/server 80/TCP", Reason::NotIsolated, Reason::Rule, vec!["web:Some(1)", "web:Some(2)"]),
        ("203.0.113.7 -> a/server 81/TCP", Reason::NotPolicySubject, Reason::NoRule, vec!["deny:None", "web:None"]),
        ("a/server -> a/server 81/TCP", Reason::OwnPod, Reason::OwnPod, vec![]),
        ("node/node-1 -> a/server 81/TCP", Reason::NotPolicySubject, Reason::OwnNode, vec![]),
        ("a/done -> a/server 81/TCP", Reason::NoAddress, Reason::NoAddress, vec![]),
        ("203.0.113.7 -> a/server 80/TCP v6", Reason::NoAddress, Reason::NoAddress, vec![]),
    ] {
        let verdict = snapshot.verdict(&connection(&snapshot, question));
        assert_eq!((verdict.egress.reason, verdict.ingress.reason), (egress, ingress), "{question}");
        assert_eq!(names(&verdict.ingress), origins, "{question}");
    }
}
