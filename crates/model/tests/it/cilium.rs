//! `CiliumNetworkPolicy` and `CiliumClusterwideNetworkPolicy`: what they allow, asked of the rules and of the compiled plans.

use strait_model::{Lack, Snapshot};

use crate::support::{check_kinds, with_kinds};

const SERVER: &str = "endpointSelector: {matchLabels: {app: server}}";

/// Every case is a policy of `a/server`, given without its selector, and what it makes of connections.
fn check(kind: &str, cases: &[(&str, &str)]) {
    for (spec, expected) in cases {
        check_kinds(&[(kind, &format!("{{{SERVER}, {spec}}}"))], expected);
    }
}

#[test]
fn isolation_follows_rules_unless_told_otherwise() {
    check(
        "CNP a/web",
        &[
            ("ingress: [{}]", "no a/client -> a/server 80/TCP\nyes a/server -> b/client 80/TCP"),
            ("egress: [{}]", "yes a/client -> a/server 80/TCP\nno a/server -> b/client 80/TCP"),
            (
                "ingressDeny: [{fromEntities: [world]}]",
                "no a/client -> a/server 80/TCP\nno 203.0.113.7 -> a/server 80/TCP",
            ),
            (
                "enableDefaultDeny: {ingress: false}, ingressDeny: [{fromEntities: [world]}]",
                "yes a/client -> a/server 80/TCP\nno 203.0.113.7 -> a/server 80/TCP",
            ),
            (
                "enableDefaultDeny: {ingress: true}, egress: [{toEntities: [all]}]",
                "no a/client -> a/server 80/TCP\nyes a/server -> b/client 80/TCP",
            ),
            (
                "enableDefaultDeny: {egress: false}, egress: [{toEntities: [world]}]",
                "yes a/server -> b/client 80/TCP\nyes a/server -> 203.0.113.7 80/TCP",
            ),
        ],
    );
}

#[test]
fn missing_empty_and_everything() {
    check(
        "CNP a/web",
        &[
            // Without peers: everybody, on these ports.
            (
                "ingress: [{toPorts: [{ports: [{port: '80', protocol: TCP}]}]}]",
                "yes a/client -> a/server 80/TCP
                 yes b/client -> a/server 80/TCP v6
                 yes 203.0.113.7 -> a/server 80/TCP
                 yes node/node-2 -> a/server 80/TCP
                 no  a/client -> a/server 81/TCP
                 no  a/client -> a/server icmp",
            ),
            // An empty list of peers: nobody.
            (
                "ingress: [{fromEndpoints: [], toPorts: [{ports: [{port: '80', protocol: TCP}]}]}]",
                "no a/client -> a/server 80/TCP\nno 203.0.113.7 -> a/server 80/TCP",
            ),
            // An empty selector: all pods of the namespace, and nothing that is no pod.
            (
                "ingress: [{fromEndpoints: [{}]}]",
                "yes a/client -> a/server 80/TCP
                 yes a/client -> a/server icmp
                 yes a/client -> a/server 47
                 no  b/client -> a/server 80/TCP
                 no  203.0.113.7 -> a/server 80/TCP
                 no  node/node-2 -> a/server 80/TCP",
            ),
        ],
    );
    check(
        "CCNP web",
        &[(
            "ingress: [{fromEndpoints: [{}]}]",
            "yes a/client -> a/server 80/TCP
             yes b/client -> a/server 80/TCP
             no  b/host -> a/server 80/TCP
             no  203.0.113.7 -> a/server 80/TCP",
        )],
    );
}

#[test]
fn endpoint_selectors() {
    let from = |selector: &str| format!("ingress: [{{fromEndpoints: [{{{selector}}}]}}]");
    let a_and_b = "yes a/client -> a/server 1/TCP\nyes b/client -> a/server 1/TCP";
    let only_a = "yes a/client -> a/server 1/TCP\nno b/client -> a/server 1/TCP";
    let only_b = "no a/client -> a/server 1/TCP\nyes b/client -> a/server 1/TCP";
    let nobody = "no a/client -> a/server 1/TCP\nno b/client -> a/server 1/TCP\nno node/node-2 -> a/server 1/TCP";
    let cases = [
        ("CNP a/web", "matchLabels: {app: client}", only_a),
        ("CNP a/web", "matchLabels: {'k8s:app': client}", only_a),
        ("CNP a/web", "matchLabels: {'any:app': client}", only_a),
        ("CNP a/web", "matchLabels: {'k8s:io.kubernetes.pod.namespace': b}", only_b),
        ("CNP a/web", "matchLabels: {io.kubernetes.pod.namespace: b, app: other}", nobody),
        (
            "CNP a/web",
            "matchExpressions: [{key: 'k8s:io.kubernetes.pod.namespace', operator: In, values: [a, b]}]",
            a_and_b,
        ),
        ("CNP a/web", "matchLabels: {'k8s:io.cilium.k8s.namespace.labels.team': blue}", only_b),
        ("CNP a/web", "matchLabels: {'k8s:io.cilium.k8s.policy.serviceaccount': default}", only_a),
        ("CNP a/web", "matchLabels: {'k8s:io.cilium.k8s.policy.serviceaccount': other}", nobody),
        ("CNP a/web", "matchLabels: {'k8s:io.cilium.k8s.policy.cluster': default}", only_a),
        ("CNP a/web", "matchLabels: {'k8s:io.cilium.k8s.policy.cluster': elsewhere}", nobody),
        ("CNP a/web", "matchLabels: {'reserved:health': ''}", nobody),
        ("CNP a/web", "matchLabels: {'reserved:remote-node': '', app: client}", nobody),
        (
            "CNP a/web",
            "matchExpressions: [{key: 'reserved:world', operator: DoesNotExist}, {key: tier, operator: DoesNotExist}]",
            only_b,
        ),
        ("CCNP web", "matchLabels: {app: client}", a_and_b),
        ("CCNP web", "matchExpressions: [{key: tier, operator: Exists}]", only_a),
        ("CCNP web", "matchExpressions: [{key: tier, operator: DoesNotExist}]", only_b),
        ("CCNP web", "matchLabels: {'k8s:io.kubernetes.pod.namespace': b}", only_b),
    ];
    for (kind, selector, expected) in cases {
        check(kind, &[(&from(selector), expected)]);
    }
    // Labels that no pod has: no namespace is meant.
    for kind in ["CNP a/web", "CCNP web"] {
        check(
            kind,
            &[(
                &from("matchLabels: {'reserved:remote-node': ''}"),
                "yes node/node-2 -> a/server 1/TCP\nno a/client -> a/server 1/TCP",
            )],
        );
    }
}

#[test]
fn subjects_are_of_the_policys_namespace() {
    let both = "no a/client -> b/client 1/TCP\nno b/client -> a/client 1/TCP\nyes a/client -> a/server 1/TCP";
    let only_b = "no a/client -> b/client 1/TCP\nyes b/client -> a/client 1/TCP";
    let clients = "{endpointSelector: {matchLabels: {app: client}}, ingress: [{}]}";
    check_kinds(&[("CCNP clients", clients)], both);
    check_kinds(&[("CNP b/clients", clients)], only_b);
    let elsewhere =
        "{endpointSelector: {matchLabels: {'k8s:io.cilium.k8s.namespace.labels.team': red}}, ingress: [{}]}";
    check_kinds(&[("CNP b/none", elsewhere)], "yes a/server -> b/client 1/TCP\nyes b/client -> a/client 1/TCP");
    check_kinds(&[("CCNP red", elsewhere)], "no b/client -> a/client 1/TCP\nyes a/client -> b/client 1/TCP");
    let accounts =
        "{endpointSelector: {matchLabels: {'k8s:io.cilium.k8s.policy.serviceaccount': other}}, ingress: [{}]}";
    check_kinds(&[("CCNP none", accounts)], "yes a/client -> b/client 1/TCP");
}

#[test]
fn several_specs() {
    check_kinds(
        &[(
            "CNPS a/web",
            "[{endpointSelector: {matchLabels: {app: server}}, ingress: [{fromEndpoints: [{matchLabels: {app: client}}]}]},
              {endpointSelector: {matchLabels: {app: server}}, ingressDeny: [{fromEntities: [world]}]},
              {endpointSelector: {matchLabels: {app: client}}, ingress: [{}]}]",
        )],
        "yes a/client -> a/server 80/TCP
         no  203.0.113.7 -> a/server 80/TCP
         no  a/server -> a/client 80/TCP",
    );
}

#[test]
fn entities() {
    let to = |entity: &str| format!("egress: [{{toEntities: [{entity}]}}]");
    let questions = ["b/client", "node/node-1", "node/node-2", "10.244.2.99", "203.0.113.7", "2001:db8:113::7"];
    let cases = [
        ("all", "yyyyyy"),
        ("cluster", "yyyynn"),
        ("cluster-mesh", "yyyynn"),
        ("host", "nynnnn"),
        ("remote-node", "nnynnn"),
        ("unmanaged", "nnnynn"),
        ("world", "nnnnyy"),
        ("world-ipv4", "nnnnyn"),
        ("world-ipv6", "nnnnny"),
        ("init", "nnnnnn"),
        ("health", "nnnnnn"),
        ("ingress", "nnnnnn"),
        ("none", "nnnnnn"),
        ("kube-apiserver", "nnnnnn"),
        ("host, world-ipv4", "nynnyn"),
    ];
    for (entity, answers) in cases {
        let line = |(peer, answer): (&&str, char)| {
            format!("{} a/server -> {peer} 443/TCP\n", if answer == 'y' { "yes" } else { "no" })
        };
        let expected: String = questions.iter().zip(answers.chars()).map(line).collect();
        check("CNP a/web", &[(&to(entity), &expected)]);
    }
}

#[test]
fn the_own_node() {
    let own = |policies: &[(&str, &str)], ingress: &str, egress: &str| {
        check_kinds(
            policies,
            &format!("{ingress} node/node-1 -> a/server 80/TCP\n{egress} a/server -> node/node-1 80/TCP\n"),
        );
    };
    let cilium = ("CNP a/web", "{endpointSelector: {}, ingress: [{}], egress: [{}]}");
    let kubernetes = ("NP a/web", "{podSelector: {}, policyTypes: [Ingress, Egress]}");
    let everything = ("NP a/all", "{podSelector: {}, egress: [{}], policyTypes: [Egress]}");
    let block =
        ("NP a/block", "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}");
    own(&[kubernetes], "yes", "yes");
    own(&[cilium], "yes", "no");
    own(&[cilium, kubernetes], "yes", "no");
    own(&[cilium, block], "yes", "no");
    own(&[cilium, everything], "yes", "yes");
    own(&[("CNP a/deny", "{endpointSelector: {}, ingressDeny: [{fromEntities: [host]}]}")], "no", "yes");
    own(
        &[
            kubernetes,
            (
                "CNP a/deny",
                "{endpointSelector: {}, enableDefaultDeny: {egress: false}, egressDeny: [{toEntities: [host]}]}",
            ),
        ],
        "yes",
        "no",
    );
    own(&[("CNP a/cidr", "{endpointSelector: {}, egress: [{toCIDR: [172.30.0.0/24]}]}")], "yes", "no");
    own(&[("CNP a/web audit", "{endpointSelector: {}, egress: [{}]}")], "yes", "audit");
    own(&[("CNP a/web audit", "{endpointSelector: {}, egress: [{}]}"), kubernetes], "yes", "audit");
}

#[test]
fn the_api_server_is_where_its_slices_say() {
    let slice = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
        metadata: {name: kubernetes, namespace: default, labels: {kubernetes.io/service-name: kubernetes}},
        endpoints: [{addresses: [172.30.0.11]}, {addresses: [203.0.113.7]}], ports: [{port: 6443}]}";
    for entity in ["kube-apiserver", "cluster"] {
        let policy = format!("{{{SERVER}, egress: [{{toEntities: [{entity}]}}]}}");
        check_kinds(
            &[("YAML", slice), ("CNP a/web", &policy)],
            "yes a/server -> node/node-1 6443/TCP
             yes a/server -> 203.0.113.7 6443/TCP
             no  a/server -> 203.0.113.8 6443/TCP",
        );
    }
}

#[test]
fn blocks_match_neither_pods_nor_nodes() {
    let group = "{apiVersion: cilium.io/v2, kind: CiliumCIDRGroup, metadata: {name: partners, labels: {role: partner}},
        spec: {externalCIDRs: [203.0.113.0/25, 10.0.0.0/8]}}";
    let cases = [
        "toCIDR: [203.0.113.0/25, 10.0.0.0/8, 172.30.0.0/24]",
        "toCIDRSet: [{cidr: 203.0.113.0/24, except: [203.0.113.128/25]}, {cidr: 10.0.0.0/8}]",
        "toCIDRSet: [{cidrGroupRef: partners}]",
        "toCIDRSet: [{cidrGroupSelector: {matchLabels: {role: partner}}}]",
        "toCIDRSet: [{cidrGroupSelector: {matchExpressions: [{key: role, operator: Exists}]}}]",
    ];
    for case in cases {
        let policy = format!("{{{SERVER}, egress: [{{{case}}}]}}");
        check_kinds(
            &[("YAML", group), ("CNP a/web", &policy)],
            "yes a/server -> 203.0.113.7 443/TCP
             no  a/server -> 203.0.113.200 443/TCP
             no  a/server -> b/client 443/TCP
             no  a/server -> node/node-2 443/TCP
             no  a/server -> node/node-1 443/TCP
             yes a/server -> 10.244.2.99 443/TCP",
        );
    }
    check("CNP a/web", &[("egress: [{toCIDRSet: [{cidrGroupRef: nobody}]}]", "no a/server -> 203.0.113.7 443/TCP")]);
    // A block of a NetworkPolicy next to it still means whoever has the address.
    check_kinds(
        &[
            ("CNP a/web", &format!("{{{SERVER}, egress: [{{toCIDR: [10.0.0.0/8]}}]}}")),
            (
                "NP a/web",
                "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.244.2.10/32}}]}]}",
            ),
        ],
        "yes a/server -> b/client 443/TCP\nno a/server -> b/other 443/TCP\nyes a/server -> 10.1.1.1 443/TCP",
    );
}

#[test]
fn ports_and_types() {
    let ports = |ports: &str| format!("ingress: [{{toPorts: [{{ports: [{ports}]}}]}}]");
    check(
        "CNP a/web",
        &[
            (
                &ports("{port: '53'}"),
                "yes a/client -> a/server 53/TCP
                 yes a/client -> a/server 53/UDP
                 yes a/client -> a/server 53/SCTP
                 no  a/client -> a/server 54/TCP",
            ),
            (
                &ports("{port: '8000', endPort: 8010, protocol: TCP}"),
                "yes a/client -> a/server 8005/TCP\nno a/client -> a/server 8005/UDP\nno a/client -> a/server 8011/TCP",
            ),
            (&ports("{port: '0', protocol: UDP}"), "yes a/client -> a/server 9/UDP\nno a/client -> a/server 9/TCP"),
            (&ports("{port: '0', protocol: ANY}"), "yes a/client -> a/server 9/UDP\nno a/client -> a/server icmp"),
            (&ports("{port: web, protocol: TCP}"), "yes a/client -> a/server 80/TCP\nno a/client -> a/server 8080/TCP"),
            (&ports("{port: dns}"), "yes a/client -> a/server 53/UDP\nno a/client -> a/server 53/TCP"),
            (
                "ingress: [{icmps: [{fields: [{type: 8}]}]}]",
                "yes a/client -> a/server icmp\nno a/client -> a/server icmp v6\nno a/client -> a/server 8/TCP",
            ),
            (
                "ingress: [{icmps: [{fields: [{type: EchoRequest, family: IPv6}, {type: 3}]}]}]",
                "no a/client -> a/server icmp\nyes a/client -> a/server icmp v6",
            ),
            (
                "ingress: [{fromEntities: [all]}], ingressDeny: [{icmps: [{fields: [{type: 8}]}]}]",
                "no a/client -> a/server icmp\nyes a/client -> a/server icmp v6\nyes a/client -> a/server 1/TCP",
            ),
        ],
    );
    // A name means what each destination declares.
    check_kinds(
        &[(
            "CCNP names",
            "{endpointSelector: {matchLabels: {app: client}}, egress: [{toPorts: [{ports: [{port: web, protocol: TCP}]}]}]}",
        )],
        "yes a/client -> a/server 80/TCP
         no  a/client -> b/client 80/TCP
         yes a/client -> b/client 8080/TCP",
    );
}

#[test]
fn denies_go_before_allows() {
    check_kinds(
        &[
            ("NP a/all", "{podSelector: {}, ingress: [{}]}"),
            (
                "CNP a/deny",
                "{endpointSelector: {}, enableDefaultDeny: {ingress: false}, ingressDeny: [{fromEndpoints: [{matchLabels: {app: client}}],
                  toPorts: [{ports: [{port: '22', protocol: TCP}]}]}, {fromCIDR: [203.0.113.0/24]}]}",
            ),
        ],
        "no  a/client -> a/server 22/TCP
         yes a/client -> a/server 23/TCP
         yes b/client -> a/server 22/TCP
         no  203.0.113.7 -> a/server 80/TCP
         yes 198.51.100.7 -> a/server 80/TCP",
    );
}

#[test]
fn services_and_nodes() {
    let services = "{apiVersion: v1, kind: Service, metadata: {name: api, namespace: b, labels: {tier: back}}, spec: {selector: {app: other}, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: outside, namespace: a, labels: {tier: out}}, spec: {ports: [{port: 80}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
 metadata: {name: outside-1, namespace: a, labels: {kubernetes.io/service-name: outside}},
 endpoints: [{addresses: [203.0.113.7]}, {addresses: [10.244.2.10]}], ports: [{port: 80}]}";
    let to = |service: &str, expected: &str| {
        let policy = format!("{{{SERVER}, egress: [{{toServices: [{service}]}}]}}");
        check_kinds(&[("YAML", services), ("CNP a/web", &policy)], expected);
    };
    let pods = "yes a/server -> b/other 80/TCP\nno a/server -> b/client 80/TCP\nno a/server -> 203.0.113.7 80/TCP";
    let addresses = "no a/server -> b/other 80/TCP\nno a/server -> b/client 80/TCP\nyes a/server -> 203.0.113.7 80/TCP";
    to("{k8sService: {serviceName: api, namespace: b}}", pods);
    to("{k8sServiceSelector: {selector: {matchLabels: {tier: back}}, namespace: b}}", pods);
    to("{k8sService: {serviceName: outside, namespace: a}}", addresses);
    to("{k8sService: {serviceName: outside, namespace: b}}", "no a/server -> 203.0.113.7 80/TCP");

    let labelled = "{apiVersion: v1, kind: Node, metadata: {name: node-3, labels: {role: edge}},
        spec: {podCIDRs: [10.244.3.0/24]}, status: {addresses: [{type: InternalIP, address: 172.30.0.13}]}}";
    let policy = format!("{{{SERVER}, egress: [{{toNodes: [{{matchLabels: {{role: edge}}}}]}}]}}");
    check_kinds(
        &[("YAML", labelled), ("CNP a/web", &policy)],
        "yes a/server -> node/node-3 80/TCP
         no  a/server -> node/node-2 80/TCP
         no  a/server -> node/node-1 80/TCP
         no  a/server -> b/client 80/TCP",
    );
}

#[test]
fn what_nothing_enforces_is_closed_and_listed() {
    let http = "toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{method: GET}]}}]";
    let cases = [
        (
            "CNP a/web",
            format!(
                "{{{SERVER}, enableDefaultDeny: {{ingress: false}}, ingress: [{{fromEndpoints: [{{}}], {http}}}]}}"
            ),
            Some(Lack::Proxy),
            "no a/client -> a/server 80/TCP\nyes a/client -> a/server 81/TCP\nyes b/client -> a/server 80/TCP",
        ),
        // Whoever is allowed outright stays so.
        (
            "CNP a/web",
            format!("{{{SERVER}, ingress: [{{{http}}}, {{fromEndpoints: [{{matchLabels: {{app: client}}}}]}}]}}"),
            Some(Lack::Proxy),
            "yes a/client -> a/server 80/TCP\nno b/client -> a/server 80/TCP",
        ),
        (
            "CNP a/web",
            format!("{{{SERVER}, egress: [{{toFQDNs: [{{matchName: example.com}}]}}]}}"),
            Some(Lack::DomainNames),
            "no a/server -> 203.0.113.7 443/TCP",
        ),
        (
            "CNP a/web",
            format!("{{{SERVER}, ingress: [{{fromEndpoints: [{{}}], authentication: {{mode: required}}}}]}}"),
            Some(Lack::Authentication),
            "no a/client -> a/server 80/TCP",
        ),
        (
            "CNP a/web",
            format!("{{{SERVER}, ingress: [{{fromEndpoints: [{{}}], authentication: {{mode: disabled}}}}]}}"),
            None,
            "yes a/client -> a/server 80/TCP",
        ),
        (
            "CNP a/web",
            format!(
                "{{{SERVER}, egress: [{{toEntities: [world], toPorts: [{{ports: [{{port: '443', protocol: TCP}}], serverNames: [example.com]}}]}}]}}"
            ),
            Some(Lack::Proxy),
            "no a/server -> 203.0.113.7 443/TCP",
        ),
    ];
    for (kind, policy, lack, expected) in cases {
        check_kinds(&[(kind, &policy)], expected);
        let snapshot = Snapshot::new(&with_kinds(&[(kind, &policy)]));
        let found: Vec<_> = snapshot.problems().iter().map(|problem| problem.lacks).collect();
        assert_eq!(found, lack.into_iter().collect::<Vec<_>>(), "{policy}");
    }
}

#[test]
fn host_policies_are_about_what_nodes_send_and_receive() {
    let node = "nodeSelector: {matchLabels: {kubernetes.io/hostname: node-1}}";
    let ssh = "toPorts: [{ports: [{port: '22', protocol: TCP}]}]";
    for (spec, expected) in [
        (
            format!("ingress: [{{fromEntities: [world], {ssh}}}]"),
            "yes 203.0.113.7 -> node/node-1 22/TCP
             no  203.0.113.7 -> node/node-1 23/TCP
             no  203.0.113.7 -> node/node-1 icmp
             yes 203.0.113.7 -> node/node-2 23/TCP
             no  node/node-2 -> node/node-1 22/TCP
             no  a/client -> node/node-1 22/TCP
             yes node/node-1 -> node/node-1 23/TCP
             yes node/node-1 -> 203.0.113.7 443/TCP
             yes 203.0.113.7 -> a/server 80/TCP",
        ),
        (
            "egress: [{toEndpoints: [{matchLabels: {app: server}}], toPorts: [{ports: [{port: '80', protocol: TCP}]}]}]"
                .to_owned(),
            "yes node/node-1 -> a/server 80/TCP
             no  node/node-1 -> a/server 81/TCP
             no  node/node-1 -> node/node-2 80/TCP
             no  node/node-1 -> 203.0.113.7 443/TCP
             yes node/node-2 -> a/server 81/TCP
             yes a/client -> node/node-1 22/TCP
             yes a/client -> 203.0.113.7 443/TCP",
        ),
        (
            "enableDefaultDeny: {ingress: false}, ingressDeny: [{fromEntities: [remote-node]}]".to_owned(),
            "no  node/node-2 -> node/node-1 22/TCP
             yes 203.0.113.7 -> node/node-1 22/TCP
             yes a/client -> node/node-1 22/TCP",
        ),
    ] {
        check_kinds(&[("CCNP nodes", &format!("{{{node}, {spec}}}"))], expected);
    }
}

/// Cilium's `allow-localhost`: an allow rule as others, before which denies go.
#[test]
fn the_own_node_is_let_in_but_for_denies() {
    check(
        "CNP a/web",
        &[
            ("ingress: [{}]", "yes node/node-1 -> a/server 80/TCP\nno node/node-2 -> a/server 80/TCP"),
            (
                "ingressDeny: [{fromEntities: [host], toPorts: [{ports: [{port: '80', protocol: TCP}]}]}]",
                "no node/node-1 -> a/server 80/TCP\nyes node/node-1 -> a/server 81/TCP",
            ),
            ("ingressDeny: [{fromEntities: [world]}]", "yes node/node-1 -> a/server 80/TCP"),
        ],
    );
}
