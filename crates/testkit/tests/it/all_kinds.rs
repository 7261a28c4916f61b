//! What the documentation of Cilium's policies and of the tiers around the namespaced ones says, asked of the reference evaluator.

use crate::truths::check_manifests;

/// A `CiliumNetworkPolicy` of `default` for `db`, or whatever `spec` selects.
fn cnp(spec: &str) -> String {
    format!(
        "---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: cnp, namespace: default}}\nspec: {spec}\n"
    )
}

fn ccnp(spec: &str) -> String {
    format!(
        "---\napiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {{name: ccnp}}\nspec: {spec}\n"
    )
}

fn knp(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: default}}\nspec: {spec}\n"
    )
}

fn tier(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

fn db(sections: &str) -> String {
    cnp(&format!("{{endpointSelector: {{matchLabels: {{role: db}}}}, {sections}}}"))
}

/// "Ingress/Egress Default Deny": a section with an empty rule allows nobody; an empty selector is everybody of the namespace.
#[test]
fn cilium_empty_and_missing() {
    check_manifests(
        &db("ingress: [{}]"),
        "frontend → db 1/TCP no\n 203.0.113.9 → db 1/TCP no\n db → frontend 1/TCP yes",
    );
    check_manifests(&db("ingress: [{fromEndpoints: []}]"), "frontend → db 1/TCP no");
    check_manifests(
        &db("ingress: [{fromEndpoints: [{}]}]"),
        "frontend → db 1/TCP yes\n alice/client → db 1/TCP no\n 203.0.113.9 → db 1/TCP no\n node/node-2 → db 1/TCP no",
    );
    check_manifests(
        &ccnp("{endpointSelector: {matchLabels: {role: db}}, ingress: [{fromEndpoints: [{}]}]}"),
        "frontend → db 1/TCP yes\n alice/client → db 1/TCP yes\n 203.0.113.9 → db 1/TCP no\n node/node-2 → db 1/TCP no",
    );
    check_manifests(
        &db("ingress: [{toPorts: [{ports: [{port: '80'}]}]}]"),
        "frontend → db 80/TCP yes\n 203.0.113.9 → db 80/UDP yes\n node/node-2 → db 80/SCTP yes\n frontend → db 81/TCP no\n frontend → db icmp no",
    );
}

/// Namespaces of peers: by name, by label; one that is not mentioned is the policy's.
#[test]
fn cilium_namespaces() {
    check_manifests(
        &db("ingress: [{fromEndpoints: [{matchLabels: {'k8s:io.kubernetes.pod.namespace': alice, role: client}}]}]"),
        "alice/client → db 1/TCP yes\n alice/other → db 1/TCP no\n client → db 1/TCP no",
    );
    check_manifests(
        &db("ingress: [{fromEndpoints: [{matchLabels: {'k8s:io.cilium.k8s.namespace.labels.user': alice}}]}]"),
        "alice/client → db 1/TCP yes\n client → db 1/TCP no",
    );
    check_manifests(
        &db("ingress: [{fromEndpoints: [{matchLabels: {'reserved:remote-node': ''}}]}]"),
        "node/node-2 → db 1/TCP yes\n on-host → db 1/TCP yes\n frontend → db 1/TCP no",
    );
}

/// The page's table "Set of Ingress Policies Deployed to Server Pod", column by column.
#[test]
fn cilium_deny_table() {
    let client = "fromEndpoints: [{matchLabels: {role: frontend}}]";
    let allow = format!(
        "ingress: [{{toPorts: [{{ports: [{{port: '80', protocol: TCP}}]}}]}}, {{toPorts: [{{ports: [{{port: '81', protocol: TCP}}]}}]}}, {{{client}}}]"
    );
    let port = "{toPorts: [{ports: [{port: '80', protocol: TCP}]}]}";
    let pod = format!("{{{client}}}");
    for (sections, on_81, on_80, ping) in [
        (allow.clone(), "yes", "yes", "yes"),
        (format!("{allow}, ingressDeny: [{port}]"), "yes", "no", "yes"),
        (format!("{allow}, ingressDeny: [{pod}]"), "no", "no", "no"),
        (format!("{allow}, ingressDeny: [{port}, {pod}]"), "no", "no", "no"),
        (format!("ingressDeny: [{port}]"), "no", "no", "no"),
    ] {
        check_manifests(
            &db(&sections),
            &format!("frontend → db 81/TCP {on_81}\n frontend → db 80/TCP {on_80}\n frontend → db icmp {ping}"),
        );
    }
    // "regardless of whether they are a Cilium Network Policy ... or even a Kubernetes Network Policy".
    let both = db(&format!("ingressDeny: [{pod}]")) + &knp("p", "{podSelector: {}, ingress: [{}]}");
    check_manifests(&both, "frontend → db 1/TCP no\n stranger → db 1/TCP yes");
}

#[test]
fn cilium_default_deny_can_be_left_out() {
    check_manifests(
        &db("enableDefaultDeny: {ingress: false}, ingressDeny: [{fromEntities: [world]}]"),
        "203.0.113.9 → db 1/TCP no\n frontend → db 1/TCP yes\n 10.244.1.99 → db 1/TCP yes",
    );
    // It does not apply to L7: the rule still restricts what it is about.
    check_manifests(
        &db(
            "enableDefaultDeny: {ingress: false}, ingress: [{toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{method: GET}]}}]}]",
        ),
        "frontend → db 80/TCP no\n frontend → db 81/TCP yes",
    );
}

/// "CIDR rules do not apply to traffic where both sides of the connection are either managed by Cilium or use an IP belonging to a node".
#[test]
fn cilium_cidrs_and_entities() {
    let group = "---\napiVersion: cilium.io/v2\nkind: CiliumCIDRGroup\nmetadata: {name: g, labels: {of: us}}\nspec: {externalCIDRs: [203.0.113.0/24]}\n";
    for rule in [
        "fromCIDR: [203.0.113.0/24]",
        "fromCIDRSet: [{cidrGroupRef: g}]",
        "fromCIDRSet: [{cidrGroupSelector: {matchLabels: {of: us}}}]",
    ] {
        check_manifests(
            &(db(&format!("ingress: [{{{rule}}}]")) + group),
            "203.0.113.9 → db 1/TCP yes\n 198.51.100.1 → db 1/TCP no\n frontend → db 1/TCP no",
        );
    }
    check_manifests(
        &db("egress: [{toCIDRSet: [{cidr: 0.0.0.0/0, except: [10.0.0.0/8, 172.16.0.0/12]}]}]"),
        "db → 203.0.113.9 1/TCP yes\n db → frontend 1/TCP no\n db → node/node-2 1/TCP no\n db → node/node-1 1/TCP no\n db → 2001:db8::1 1/TCP no",
    );
    check_manifests(
        &db("egress: [{toCIDR: [0.0.0.0/0]}]"),
        "db → frontend 1/TCP no\n db → node/node-2 1/TCP no\n db → 10.244.2.99 1/TCP yes",
    );
    for (entity, truths) in [
        ("all", "db → frontend 1/TCP yes\n db → node/node-1 1/TCP yes\n db → 203.0.113.9 1/TCP yes"),
        (
            "world",
            "db → frontend 1/TCP no\n db → node/node-1 1/TCP no\n db → 203.0.113.9 1/TCP yes\n db → 10.244.2.99 1/TCP no",
        ),
        (
            "cluster",
            "db → alice/other 1/TCP yes\n db → node/node-2 1/TCP yes\n db → 203.0.113.9 1/TCP no\n db → 10.244.2.99 1/TCP yes",
        ),
        ("host", "db → node/node-1 1/TCP yes\n db → node/node-2 1/TCP no\n db → frontend 1/TCP no"),
        ("remote-node", "db → node/node-1 1/TCP no\n db → node/node-2 1/TCP yes\n db → on-host 1/TCP yes"),
        ("none", "db → frontend 1/TCP no\n db → 203.0.113.9 1/TCP no"),
    ] {
        check_manifests(&db(&format!("egress: [{{toEntities: [{entity}]}}]")), truths);
    }
    // "Kubernetes will automatically allow all communication from the local host of all local endpoints."
    check_manifests(&db("ingress: [{}]"), "node/node-1 → db 1/TCP yes\n node/node-2 → db 1/TCP no");
    // A rule as any other: what denies goes before.
    for (denies, own) in [
        ("{fromEntities: [host], toPorts: [{ports: [{port: '80', protocol: TCP}]}]}", "no"),
        ("{toPorts: [{ports: [{port: '80', protocol: TCP}]}]}", "no"),
        ("{fromEntities: [remote-node, world]}", "yes"),
    ] {
        let truths = format!("node/node-1 → db 80/TCP {own}\n node/node-1 → db 81/TCP yes");
        check_manifests(&db(&format!("ingressDeny: [{denies}]")), &truths);
    }
}

/// "Host policies apply to all the nodes selected by their Node Selector. ... This policy type ... applies to the host namespace, including
/// host-networking pods. They don't apply to communications between pods or between pods and the outside of the cluster".
#[test]
fn cilium_host_policies() {
    let host = |sections: &str| {
        ccnp(&format!("{{nodeSelector: {{matchLabels: {{kubernetes.io/hostname: node-1}}}}, {sections}}}"))
    };
    let ssh = "toPorts: [{ports: [{port: '22', protocol: TCP}]}]";
    check_manifests(
        &host(&format!("ingress: [{{fromEntities: [world], {ssh}}}]")),
        "203.0.113.9 → node/node-1 22/TCP yes
         203.0.113.9 → node/node-1 23/TCP no
         2001:db8:113::9 → node/node-1 22/TCP yes
         2001:db8:113::9 → node/node-1 icmp no
         node/node-2 → node/node-1 22/TCP no
         db → node/node-1 22/TCP no
         node/node-1 → 203.0.113.9 443/TCP yes
         node/node-1 → node/node-1 1/TCP yes
         203.0.113.9 → node/node-2 23/TCP yes
         203.0.113.9 → db 23/TCP yes
         frontend → db 23/TCP yes",
    );
    check_manifests(
        &host(
            "egress: [{toEntities: [remote-node]}, {toEndpoints: [{matchLabels: {role: db}}], toPorts: [{ports: [{port: '80', protocol: TCP}]}]}]",
        ),
        "node/node-1 → node/node-2 1/TCP yes
         node/node-1 → db 80/TCP yes
         node/node-1 → db 81/TCP no
         node/node-1 → 203.0.113.9 443/TCP no
         db → node/node-1 1/TCP yes
         db → 203.0.113.9 443/TCP yes",
    );
    check_manifests(
        &host("ingressDeny: [{fromEndpoints: [{matchLabels: {role: frontend}}]}], enableDefaultDeny: {ingress: false}"),
        "frontend → node/node-1 1/TCP no\n db → node/node-1 1/TCP yes\n 203.0.113.9 → node/node-1 1/TCP yes",
    );
}

#[test]
fn cilium_closed_until_enforced() {
    for rule in [
        "toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{path: /}]}}]",
        "toPorts: [{ports: [{port: '80', protocol: TCP}], serverNames: [www.example.com]}]",
        "authentication: {mode: required}, toPorts: [{ports: [{port: '80', protocol: TCP}]}]",
    ] {
        check_manifests(&db(&format!("ingress: [{{{rule}}}]")), "frontend → db 80/TCP no\n frontend → db 81/TCP no");
        // A rule that asks for nothing more allows the same traffic.
        let open = "{toPorts: [{ports: [{port: '80', protocol: TCP}]}]}";
        check_manifests(&db(&format!("ingress: [{{{rule}}}, {open}]")), "frontend → db 80/TCP yes");
    }
    check_manifests(&db("egress: [{toFQDNs: [{matchName: www.example.com}]}]"), "db → 203.0.113.9 443/TCP no");
}

#[test]
fn cilium_icmp_and_specs() {
    check_manifests(
        &db("ingress: [{icmps: [{fields: [{type: 8}]}]}]"),
        "frontend → db icmp yes\n frontend → db icmp v6 no\n frontend → db 80/TCP no",
    );
    let specs = "---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: s, namespace: default}\nspecs:\n\
        - {endpointSelector: {matchLabels: {role: db}}, ingress: [{fromEndpoints: [{matchLabels: {role: frontend}}]}]}\n\
        - {endpointSelector: {matchLabels: {app: web}}, ingress: [{}]}\n";
    check_manifests(
        specs,
        "frontend → db 1/TCP yes\n stranger → db 1/TCP no\n frontend → web-a 1/TCP no\n web-a → frontend 1/TCP yes",
    );
}

/// "Policy tiers are evaluated in the following order: Admin tier, `NetworkPolicy` tier, Baseline tier".
#[test]
fn tiers() {
    let every_pod = "subject: {namespaces: {}}";
    let deny_all = |tier: &str| {
        format!(
            "{{tier: {tier}, priority: 10, {every_pod}, ingress: [{{action: Deny, from: [{{namespaces: {{}}}}]}}]}}"
        )
    };
    let isolate = knp(
        "p",
        "{podSelector: {matchLabels: {role: db}}, ingress: [{from: [{podSelector: {matchLabels: {role: frontend}}}]}]}",
    );
    // Admin goes before, Baseline is for whom no policy isolates.
    check_manifests(
        &(tier("t", &deny_all("Admin")) + &isolate),
        "frontend → db 1/TCP no\n 203.0.113.9 → frontend 1/TCP yes",
    );
    check_manifests(
        &(tier("t", &deny_all("Baseline")) + &isolate),
        "frontend → db 1/TCP yes\n stranger → db 1/TCP no\n stranger → frontend 1/TCP no",
    );
    let accept = format!(
        "{{tier: Admin, priority: 10, {every_pod}, ingress: [{{action: Accept, from: [{{pods: {{namespaceSelector: {{}}, podSelector: {{matchLabels: {{role: client}}}}}}}}]}}]}}"
    );
    check_manifests(
        &(tier("t", &accept) + &isolate),
        "client → db 1/TCP yes\n alice/client → db 1/TCP yes\n stranger → db 1/TCP no",
    );
    // "Pass: skips all further rules in the current tier".
    let pass = format!(
        "{{tier: Admin, priority: 5, {every_pod}, ingress: [{{action: Pass, from: [{{namespaces: {{matchLabels: {{user: alice}}}}}}]}}]}}"
    );
    check_manifests(
        &(tier("a", &pass) + &tier("b", &deny_all("Admin"))),
        "alice/client → db 1/TCP yes\n frontend → db 1/TCP no",
    );
    let late = pass.replace("priority: 5", "priority: 15");
    check_manifests(&(tier("a", &late) + &tier("b", &deny_all("Admin"))), "alice/client → db 1/TCP no");
    // "if you Accept or Deny traffic to "0.0.0.0/0", that will allow or deny all IPv4 pod-to-pod traffic as well".
    let networks = format!(
        "{{tier: Admin, priority: 1, {every_pod}, egress: [{{action: Deny, to: [{{networks: [0.0.0.0/0]}}], protocols: [{{tcp: {{destinationPort: {{number: 80}}}}}}]}}]}}"
    );
    check_manifests(
        &(tier("t", &networks) + &knp("p", "{podSelector: {}, policyTypes: [Egress]}")),
        "db → frontend 80/TCP no\n db → node/node-1 80/TCP no\n db → node/node-1 81/TCP yes",
    );
    check_manifests(
        &tier("t", &networks),
        "db → frontend 80/TCP no\n db → frontend 80/TCP v6 yes\n db → frontend 81/TCP yes",
    );
}

#[test]
fn audit_reports_and_does_not_enforce() {
    let audited =
        |manifest: String| manifest.replace("metadata: {", "metadata: {annotations: {strait.dev/audit: 'true'}, ");
    check_manifests(&audited(db("ingress: [{}]")), "frontend → db 1/TCP yes");
    // Nor does it allow.
    let open = audited(db("ingress: [{fromEntities: [all]}]"));
    check_manifests(&(open + &knp("p", "{podSelector: {}}")), "frontend → db 1/TCP no");
}
