//! Tiers around the namespaced kinds, and policies that only report.

use strait_model::{Reason, Snapshot};

use crate::support::{check_kinds, connection, with_kinds};

const NAMESPACE_A: &str = "subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: a}}}";
const FROM_B: &str = "from: [{namespaces: {matchLabels: {kubernetes.io/metadata.name: b}}}]";
const FROM_ANY: &str = "from: [{namespaces: {}}]";

/// A policy about all pods of namespace `a`.
fn tier(priority: u16, ingress: &[&str]) -> String {
    format!("{{priority: {priority}, {NAMESPACE_A}, ingress: [{}]}}", ingress.join(", "))
}

fn rule(action: &str, from: &str) -> String {
    format!("{{action: {action}, {from}}}")
}

const ISOLATED: (&str, &str) = ("NP a/deny", "{podSelector: {}}");
const ALLOWED: (&str, &str) = ("NP a/allow", "{podSelector: {}, ingress: [{}]}");

#[test]
fn the_admin_tier_goes_first() {
    let deny = tier(10, &[&rule("Deny", FROM_B)]);
    check_kinds(
        &[("ADMIN deny", &deny), ALLOWED],
        "no  b/client -> a/server 80/TCP
         yes a/client -> a/server 80/TCP
         yes 203.0.113.7 -> a/server 80/TCP
         yes node/node-1 -> a/server 80/TCP
         yes a/server -> b/client 80/TCP",
    );
    let accept = tier(10, &[&rule("Accept", FROM_B)]);
    check_kinds(
        &[("ADMIN accept", &accept), ISOLATED],
        "yes b/client -> a/server 80/TCP\nno a/client -> a/server 80/TCP\nno 203.0.113.7 -> a/server 80/TCP",
    );
    // It goes before denies of Cilium's kinds as well.
    check_kinds(
        &[("ADMIN accept", &accept), ("CNP a/deny", "{endpointSelector: {}, ingressDeny: [{fromEntities: [all]}]}")],
        "yes b/client -> a/server 80/TCP\nno a/client -> a/server 80/TCP",
    );
}

#[test]
fn the_first_rule_that_matches_decides() {
    let (accept, deny, pass) = (rule("Accept", FROM_B), rule("Deny", FROM_ANY), rule("Pass", FROM_B));
    let both = "yes b/client -> a/server 80/TCP\nno a/client -> a/server 80/TCP";
    let none = "no b/client -> a/server 80/TCP\nno a/client -> a/server 80/TCP";
    check_kinds(&[("ADMIN one", &tier(10, &[&accept, &deny]))], both);
    check_kinds(&[("ADMIN one", &tier(10, &[&deny, &accept]))], none);
    check_kinds(&[("ADMIN one", &tier(20, &[&deny])), ("ADMIN two", &tier(10, &[&accept]))], both);
    check_kinds(&[("ADMIN one", &tier(10, &[&deny])), ("ADMIN two", &tier(20, &[&accept]))], none);
    // Of equal priority the name that sorts first.
    check_kinds(&[("ADMIN one", &tier(10, &[&deny])), ("ADMIN two", &tier(10, &[&accept]))], none);
    check_kinds(&[("ADMIN two", &tier(10, &[&deny])), ("ADMIN one", &tier(10, &[&accept]))], both);
    // What is passed is left to the namespaced kinds, whatever later rules of the tier say.
    check_kinds(&[("ADMIN one", &tier(10, &[&pass, &deny])), ALLOWED], both);
    check_kinds(&[("ADMIN one", &tier(10, &[&pass])), ("ADMIN two", &tier(20, &[&deny])), ALLOWED], both);
    check_kinds(&[("ADMIN one", &tier(10, &[&pass, &deny])), ISOLATED], none);
    check_kinds(&[("ADMIN one", &tier(10, &[&pass, &deny]))], both);
}

#[test]
fn a_hole_in_an_accepting_rule_is_left_to_isolation() {
    let port = "protocols: [{tcp: {destinationPort: {number: 80}}}]";
    let rules = [format!("{{action: Pass, {FROM_B}, {port}}}"), rule("Accept", FROM_B)];
    let admin = tier(10, &[&rules[0], &rules[1]]);
    check_kinds(
        &[("ADMIN one", &admin), ISOLATED],
        "no  b/client -> a/server 80/TCP
         yes b/client -> a/server 81/TCP
         yes b/client -> a/server 80/UDP
         yes b/client -> a/server icmp",
    );
}

#[test]
fn the_baseline_tier_is_for_what_nothing_isolates() {
    let deny = tier(0, &[&rule("Deny", FROM_B)]);
    check_kinds(
        &[("BASELINE base", &deny)],
        "no b/client -> a/server 80/TCP\nyes a/client -> a/server 80/TCP\nyes 203.0.113.7 -> a/server 80/TCP",
    );
    check_kinds(&[("BASELINE base", &deny), ALLOWED], "yes b/client -> a/server 80/TCP");
    let accept = tier(0, &[&rule("Accept", FROM_ANY)]);
    check_kinds(&[("BASELINE base", &accept), ISOLATED], "no b/client -> a/server 80/TCP");
    // Isolation in the other direction does not count.
    let egress = ("NP a/egress", "{podSelector: {}, policyTypes: [Egress]}");
    check_kinds(&[("BASELINE base", &deny), egress], "no b/client -> a/server 80/TCP");
    // An allow that isolates nothing decides what it matches.
    let adds = "{endpointSelector: {}, enableDefaultDeny: {ingress: false},
        ingress: [{fromEntities: [cluster], toPorts: [{ports: [{port: '80'}]}]}]}";
    check_kinds(
        &[("BASELINE base", &deny), ("CNP a/adds", adds)],
        "yes b/client -> a/server 80/TCP\nno b/client -> a/server 81/TCP",
    );
    check_kinds(
        &[("ADMIN pass", &tier(0, &[&rule("Pass", FROM_B)])), ("BASELINE base", &deny)],
        "no b/client -> a/server 80/TCP",
    );
    check_kinds(
        &[("BASELINE base", &tier(0, &[&rule("Pass", FROM_B), &rule("Deny", FROM_ANY)]))],
        "yes b/client -> a/server 80/TCP\nno a/client -> a/server 80/TCP",
    );
}

#[test]
fn networks_and_nodes() {
    let egress = |rules: &str| format!("{{priority: 1, {NAMESPACE_A}, egress: [{rules}]}}");
    check_kinds(
        &[("ADMIN net", &egress("{action: Deny, to: [{networks: [172.30.0.0/24, 10.244.2.10/32]}]}"))],
        "no  a/server -> node/node-1 22/TCP
         no  a/server -> node/node-2 22/TCP
         no  a/server -> b/client 22/TCP
         yes a/server -> b/other 22/TCP
         yes a/server -> node/node-1 22/TCP v6
         yes a/server -> 203.0.113.7 22/TCP",
    );
    let labelled = "{apiVersion: v1, kind: Node, metadata: {name: node-3, labels: {role: edge}},
        spec: {podCIDRs: [10.244.3.0/24]}, status: {addresses: [{type: InternalIP, address: 172.30.0.13}]}}";
    check_kinds(
        &[("YAML", labelled), ("ADMIN net", &egress("{action: Deny, to: [{nodes: {matchLabels: {role: edge}}}]}"))],
        "no a/server -> node/node-3 22/TCP\nyes a/server -> node/node-2 22/TCP\nyes a/server -> node/node-1 22/TCP",
    );
    check_kinds(
        &[("ADMIN net", &egress("{action: Deny, to: [{nodes: {}}]}")), ISOLATED],
        "no a/server -> node/node-1 22/TCP\nno a/server -> node/node-2 22/TCP\nyes a/server -> b/client 22/TCP",
    );
}

#[test]
fn kinds_of_before() {
    let subject = "subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: server}}}}";
    let anp = format!(
        "{{priority: 5, {subject}, ingress: [{{action: Allow, {FROM_B}, ports: [{{namedPort: web}}]}}, {{action: Deny, {FROM_B}, ports: [{{portRange: {{protocol: TCP, start: 1, end: 1000}}}}]}}]}}"
    );
    check_kinds(
        &[("ANP one", &anp)],
        "yes b/client -> a/server 80/TCP\nno b/client -> a/server 81/TCP\nyes b/client -> a/server 1001/TCP",
    );
    let banp = format!("{{{subject}, ingress: [{{action: Deny, {FROM_B}}}]}}");
    check_kinds(&[("BANP default", &banp)], "no b/client -> a/server 80/TCP\nyes a/client -> a/server 80/TCP");
}

#[test]
fn audited_policies_report_and_enforce_nothing() {
    let isolates = ("NP a/deny audit", "{podSelector: {}}");
    check_kinds(&[isolates], "audit b/client -> a/server 80/TCP\nyes a/server -> b/client 80/TCP");
    // What others deny stays denied, what the audited allow is no way out.
    check_kinds(
        &[("NP a/allow audit", "{podSelector: {}, ingress: [{}]}"), ISOLATED],
        "no b/client -> a/server 80/TCP",
    );
    check_kinds(
        &[("NP a/web audit", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}"), ALLOWED],
        "yes b/client -> a/server 80/TCP\nyes b/client -> a/server 81/TCP",
    );
    check_kinds(
        &[("NP a/web audit", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}")],
        "yes b/client -> a/server 80/TCP\naudit b/client -> a/server 81/TCP\naudit b/client -> a/server icmp",
    );
    check_kinds(
        &[("CNP a/deny audit", "{endpointSelector: {}, ingressDeny: [{fromEntities: [world]}]}"), ALLOWED],
        "yes b/client -> a/server 80/TCP\naudit 203.0.113.7 -> a/server 80/TCP",
    );
    check_kinds(
        &[("ADMIN deny audit", &tier(1, &[&rule("Deny", FROM_B)])), ISOLATED],
        "no b/client -> a/server 80/TCP\nno a/client -> a/server 80/TCP",
    );
    check_kinds(
        &[("ADMIN deny audit", &tier(1, &[&rule("Deny", FROM_B)]))],
        "audit b/client -> a/server 80/TCP\nyes a/client -> a/server 80/TCP",
    );
}

#[test]
fn reasons_tell_the_way_through_the_tiers() {
    let pass = tier(1, &[&rule("Pass", FROM_B)]);
    let snapshot = Snapshot::new(&with_kinds(&[
        ("ADMIN pass", &pass),
        (
            "CNP a/web",
            "{endpointSelector: {}, ingress: [{}], ingressDeny: [{fromEntities: [all], toPorts: [{ports: [{port: '22'}]}]}]}",
        ),
    ]));
    let ingress = |question: &str| snapshot.verdict(&connection(&snapshot, question)).ingress;
    let denied = ingress("b/client -> a/server 22/TCP");
    assert_eq!((denied.allowed, denied.isolated, denied.reason), (false, true, Reason::Rule));
    let texts = |origins: &[strait_model::Origin]| {
        origins.iter().map(|origin| origin.to_string().split(" (").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(texts(&denied.origins), ["CiliumNetworkPolicy a/web ingressDeny[0]"]);
    assert_eq!(texts(&denied.passed), ["ClusterNetworkPolicy pass ingress[0]"]);
    let missed = ingress("b/client -> a/server 23/TCP");
    assert_eq!((missed.reason, texts(&missed.origins)), (Reason::NoRule, vec!["CiliumNetworkPolicy a/web".to_owned()]));
    let told = snapshot.explain(&connection(&snapshot, "b/client -> a/server 22/TCP")).render(false);
    assert!(told.contains("passed on by ClusterNetworkPolicy pass ingress[0]"), "{told}");
    assert!(told.contains("CiliumNetworkPolicy a/web ingressDeny[0]"), "{told}");
}
