//! What plans hold: identities, ipcache, sharing, and numbers that stay.

use std::{collections::BTreeSet, fmt::Write as _, net::IpAddr};

use expect_test::{Expect, expect};
use strait_api::Objects;
use strait_base::IdentityId;
use strait_model::{AllocatorState, Compiler, Direction, NodePlan, PolicyKey, Snapshot};

use crate::support::{CLUSTER, objects, pod, with_kinds, with_policies};

fn compile(objects: &Objects, node: &str) -> NodePlan {
    Compiler::new(AllocatorState::default()).compile(&Snapshot::new(objects), node)
}

fn identity(plan: &NodePlan, address: &str) -> IdentityId {
    plan.peer(address.parse().expect("an address")).expect("default routes are always there").identity
}

/// The ipcache as text; cluster identities as their labels.
fn ipcache(plan: &NodePlan) -> String {
    let mut out = String::new();
    for (prefix, entry) in &plan.ipcache {
        let info = &plan.identities[&entry.identity];
        let name = match (info.namespace.as_ref(), entry.identity.reserved_name()) {
            (Some(namespace), _) => format!("{namespace} {}", info.pod_labels),
            (None, Some(name)) => name.to_owned(),
            (None, None) => format!("{:#x} {}", entry.identity.0, info.cidrs.join(" & ")),
        };
        let refined = info.refined_from.filter(|_| info.namespace.is_some());
        let refined = refined.map(|_| format!(" refined: {}", info.cidrs.join(" & "))).unwrap_or_default();
        let node = entry.node.map(|node| format!(" via {node}")).unwrap_or_default();
        writeln!(out, "{prefix} {:?} {name}{refined}{node}", entry.kind).unwrap();
    }
    out
}

fn check_ipcache(policies: &[(&str, &str)], expected: &Expect) {
    expected.assert_eq(&ipcache(&compile(&with_policies(policies), "node-1")));
}

#[test]
fn ipcache_without_policies() {
    check_ipcache(
        &[],
        &expect![[r"
        0.0.0.0/0 World world-ipv4
        10.244.1.0/24 Unmanaged unmanaged via 172.30.0.11
        10.244.1.10/32 LocalPod a app=client,tier=front via 172.30.0.11
        10.244.1.11/32 LocalPod a app=server via 172.30.0.11
        10.244.2.0/24 Unmanaged unmanaged via 172.30.0.12
        10.244.2.10/32 RemotePod b app=client via 172.30.0.12
        10.244.2.11/32 RemotePod b app=other via 172.30.0.12
        172.30.0.11/32 Host host via 172.30.0.11
        172.30.0.12/32 RemoteNode remote-node via 172.30.0.12
        ::/0 World world-ipv6
        fd00:10:244:1::/64 Unmanaged unmanaged via fd00:172:30::11
        fd00:10:244:1::10/128 LocalPod a app=client,tier=front via fd00:172:30::11
        fd00:10:244:1::11/128 LocalPod a app=server via fd00:172:30::11
        fd00:10:244:2::/64 Unmanaged unmanaged via fd00:172:30::12
        fd00:10:244:2::10/128 RemotePod b app=client via fd00:172:30::12
        fd00:10:244:2::11/128 RemotePod b app=other via fd00:172:30::12
        fd00:172:30::11/128 Host host via fd00:172:30::11
        fd00:172:30::12/128 RemoteNode remote-node via fd00:172:30::12
    "]],
    );
}

#[test]
fn ipcache_is_refined_by_blocks_in_force() {
    check_ipcache(
        &[
            (
                "a/blocks",
                "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.244.2.0/28]}},
                  {ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.128/25]}}, {ipBlock: {cidr: 172.30.0.12/31}}]}]}",
            ),
            // In force on node-2 alone: not of this node's business.
            ("b/elsewhere", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 198.51.100.0/24}}]}]}"),
        ],
        &expect![[r#"
            0.0.0.0/0 World world-ipv4
            10.0.0.0/8 Cidr 0x1000000 10.0.0.0/8 except 10.244.2.0/28 & 172.30.0.12/31 & 203.0.113.0/24 except 203.0.113.128/25
            10.244.1.0/24 Unmanaged 0x1000001 10.0.0.0/8 except 10.244.2.0/28 & 172.30.0.12/31 & 203.0.113.0/24 except 203.0.113.128/25 via 172.30.0.11
            10.244.1.10/32 LocalPod a app=client,tier=front refined: 10.0.0.0/8 except 10.244.2.0/28 & 172.30.0.12/31 & 203.0.113.0/24 except 203.0.113.128/25 via 172.30.0.11
            10.244.1.11/32 LocalPod a app=server refined: 10.0.0.0/8 except 10.244.2.0/28 & 172.30.0.12/31 & 203.0.113.0/24 except 203.0.113.128/25 via 172.30.0.11
            10.244.2.0/24 Unmanaged 0x1000001 10.0.0.0/8 except 10.244.2.0/28 & 172.30.0.12/31 & 203.0.113.0/24 except 203.0.113.128/25 via 172.30.0.12
            10.244.2.0/28 Unmanaged unmanaged via 172.30.0.12
            10.244.2.10/32 RemotePod b app=client via 172.30.0.12
            10.244.2.11/32 RemotePod b app=other via 172.30.0.12
            172.30.0.11/32 Host host via 172.30.0.11
            172.30.0.12/31 Cidr 0x1000000 10.0.0.0/8 except 10.244.2.0/28 & 172.30.0.12/31 & 203.0.113.0/24 except 203.0.113.128/25
            172.30.0.12/32 RemoteNode 0x2000000 10.0.0.0/8 except 10.244.2.0/28 & 172.30.0.12/31 & 203.0.113.0/24 except 203.0.113.128/25 via 172.30.0.12
            203.0.113.0/24 Cidr 0x1000000 10.0.0.0/8 except 10.244.2.0/28 & 172.30.0.12/31 & 203.0.113.0/24 except 203.0.113.128/25
            203.0.113.128/25 World world-ipv4
            ::/0 World world-ipv6
            fd00:10:244:1::/64 Unmanaged unmanaged via fd00:172:30::11
            fd00:10:244:1::10/128 LocalPod a app=client,tier=front via fd00:172:30::11
            fd00:10:244:1::11/128 LocalPod a app=server via fd00:172:30::11
            fd00:10:244:2::/64 Unmanaged unmanaged via fd00:172:30::12
            fd00:10:244:2::10/128 RemotePod b app=client via fd00:172:30::12
            fd00:10:244:2::11/128 RemotePod b app=other via fd00:172:30::12
            fd00:172:30::11/128 Host host via fd00:172:30::11
            fd00:172:30::12/128 RemoteNode remote-node via fd00:172:30::12
        "#]],
    );
}

#[test]
fn one_identity_for_each_set_of_selectors_not_for_each_address() {
    let blocks: Vec<_> = (0..200).map(|n| format!("{{ipBlock: {{cidr: 198.51.100.{n}/32}}}}")).collect();
    let policy = format!("{{podSelector: {{}}, ingress: [{{from: [{}]}}]}}", blocks.join(","));
    let plan = compile(&with_policies(&[("a/many", &policy)]), "node-1");
    let cidrs: BTreeSet<_> = plan.identities.keys().filter(|id| id.0 >> 24 == 1).collect();
    assert_eq!(cidrs.len(), 1, "no rule tells apart in which of its blocks an address is");
    assert_eq!(identity(&plan, "198.51.100.0"), identity(&plan, "198.51.100.199"));
    assert_eq!(identity(&plan, "198.51.100.200"), IdentityId::WORLD_IPV4);

    let plan = compile(
        &with_policies(&[(
            "a/nested",
            "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 198.51.100.0/24, except: [198.51.100.64/26]}}]}]}",
        )]),
        "node-1",
    );
    assert_eq!(identity(&plan, "198.51.100.1"), identity(&plan, "198.51.100.250"));
    assert_eq!(identity(&plan, "198.51.100.70"), IdentityId::WORLD_IPV4);
}

/// A Deployment's worth of pods, of which the last declares another port.
/// What two kinds of policies mean by a block differs; what people read does not.
#[test]
fn a_block_that_kinds_take_differently_is_described_once() {
    let objects = with_kinds(&[
        ("NP a/one", "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 203.0.113.0/24}}]}]}"),
        ("CNP a/two", "{endpointSelector: {}, egress: [{toCIDR: [203.0.113.0/24]}]}"),
    ]);
    let plan = compile(&objects, "node-1");
    let info = &plan.identities[&identity(&plan, "203.0.113.9")];
    assert_eq!(info.cidrs, ["203.0.113.0/24"]);
    assert_eq!(info.labels, ["cidr:203.0.113.0/24", "reserved:world-ipv4"].map(std::sync::Arc::from));
}

fn replicas(count: u8, ports: impl Fn(u8) -> u16) -> String {
    let pod = |number: u8| {
        format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: web-{number}, namespace: shop, labels: {{app: web, pod-template-hash: h{}}}}}
spec: {{nodeName: node-{}, containers: [{{name: c, ports: [{{name: http, containerPort: {}}}]}}]}}
status: {{phase: Running, podIPs: [{{ip: 10.244.1.{number}}}, {{ip: 'fd00::{number}'}}]}}
---",
            number % 2,
            number % 2 + 1,
            ports(number),
        )
    };
    (1..=count).map(pod).collect()
}

const NAMED: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: named, namespace: shop}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  ingress: [{ports: [{port: http}]}]
  egress: [{to: [{podSelector: {}}], ports: [{port: http}]}]
";

#[test]
fn replicas_share_everything() {
    let plan = compile(&objects("r.yaml", &(replicas(40, |_| 80) + NAMED)), "node-1");
    let identities: BTreeSet<_> = plan.endpoints.values().map(|endpoint| endpoint.identity).collect();
    assert_eq!(identities.len(), 1);
    let id = identities.into_iter().next().unwrap();
    assert!((256..=65_535).contains(&id.0), "{id}");
    assert_eq!(identity(&plan, "10.244.1.1"), id);
    assert_eq!(identity(&plan, "fd00::2"), id);
    // Any peer and the host, both ways, and the replicas as destination.
    assert_eq!(plan.policy.len(), 5, "{:#?}", plan.policy);
}

#[test]
fn replicas_are_told_apart_by_named_ports_only_while_they_differ() {
    let mut compiler = Compiler::new(AllocatorState::default());
    let mut compile = |ports: &dyn Fn(u8) -> u16| {
        let snapshot = Snapshot::new(&objects("r.yaml", &(replicas(4, ports) + NAMED)));
        compiler.compile(&snapshot, "node-1")
    };
    let alike = compile(&|_| 80);
    let rolling = compile(&|number| if number < 3 { 80 } else { 8080 });
    let done = compile(&|_| 8080);
    let base = identity(&alike, "10.244.1.1");
    let ids = ["10.244.1.1", "10.244.1.2", "10.244.1.3", "fd00::4"].map(|address| identity(&rolling, address));
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[2], ids[3]);
    assert_ne!(ids[0], ids[2]);
    for id in ids {
        assert!(id.0 >= IdentityId::LOCAL_WORKLOAD);
        assert_eq!(rolling.identities[&id].refined_from, Some(base));
    }
    assert_eq!(identity(&done, "10.244.1.1"), base);
    let judge = |plan: &NodePlan, to: &str, port| {
        plan.judge(plan.endpoints[&pod("shop/web-2")].identity, Direction::Egress, identity(plan, to), 6, port).allowed
    };
    let answers = [
        (&alike, "10.244.1.3", 80),
        (&rolling, "10.244.1.3", 8080),
        (&rolling, "10.244.1.1", 80),
        (&done, "10.244.1.1", 8080),
    ];
    assert!(answers.iter().all(|(plan, to, port)| judge(plan, to, *port)));
    assert!(!judge(&rolling, "10.244.1.3", 80));
}

#[test]
fn every_subject_has_an_entry_for_any_peer() {
    let policies = [("a/deny", "{podSelector: {matchLabels: {app: server}}}")];
    let plan = compile(&with_policies(&policies), "node-1");
    assert_eq!(plan.endpoints.len(), 2);
    for endpoint in plan.endpoints.values() {
        for direction in Direction::BOTH {
            let key = PolicyKey { subject: endpoint.identity, direction, peer: IdentityId::UNKNOWN };
            assert!(plan.policy.contains_key(&key), "{key:?}");
        }
    }
    for entry in plan.policy.values() {
        assert!(entry.port_set.0 == 0 || plan.port_sets.contains_key(&entry.port_set));
        assert!(entry.default_origin.0 == 0 || plan.origins.contains_key(&entry.default_origin));
    }
    let unknown = plan.judge(IdentityId(4_242), Direction::Ingress, IdentityId::WORLD_IPV4, 6, 80);
    assert!(!unknown.allowed, "a subject without entries is closed");
}

#[test]
fn a_node_that_is_not_known_is_closed() {
    let plan = compile(&with_policies(&[]), "node-9");
    assert!(plan.endpoints.is_empty() && plan.policy.is_empty());
    assert_eq!(identity(&plan, "172.30.0.11"), IdentityId::REMOTE_NODE);
}

#[test]
fn the_same_content_keeps_its_numbers() {
    let policy =
        ("a/p", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 198.51.100.0/24}}], ports: [{port: 80}]}]}");
    let one = Snapshot::new(&with_policies(&[policy]));
    let more = Snapshot::new(&with_policies(&[
        policy,
        ("a/q", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24}}], ports: [{port: 81}]}]}"),
    ]));
    let mut compiler = Compiler::new(AllocatorState::default());
    let first = compiler.compile(&one, "node-1");
    let second = compiler.compile(&more, "node-1");
    let third = compiler.compile(&one, "node-1");
    assert_eq!(first, third);
    assert_eq!(identity(&first, "198.51.100.1"), identity(&second, "198.51.100.1"));
    for (id, set) in &first.port_sets {
        assert!(second.port_sets.get(id).is_none_or(|other| other == set), "an id's content never changes");
    }

    // Another agent life, from what the first wrote down.
    let state = serde_json::to_string(&compiler.state()).unwrap();
    let mut again = Compiler::new(serde_json::from_str(&state).unwrap());
    assert_eq!(again.compile(&one, "node-1"), first);
    assert_eq!(again.compile(&more, "node-1"), second);
    // And one that knows nothing numbers workloads alike.
    let anew = Compiler::new(AllocatorState::default()).compile(&more, "node-2");
    assert_eq!(identity(&anew, "10.244.1.10"), identity(&first, "10.244.1.10"));
}

#[test]
fn moving_a_rule_in_its_file_changes_nothing_that_is_loaded() {
    let policy = ("a/p", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}");
    let before = Snapshot::new(&with_policies(&[policy]));
    let after = {
        let yaml = format!(
            "{CLUSTER}---\n# a remark\n\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: a}}\nspec: {}\n",
            policy.1
        );
        Snapshot::new(&objects("cluster.yaml", &yaml))
    };
    let mut compiler = Compiler::new(AllocatorState::default());
    let (before, after) = (compiler.compile(&before, "node-1"), compiler.compile(&after, "node-1"));
    assert_eq!((&before.policy, &before.port_sets, &before.ipcache), (&after.policy, &after.port_sets, &after.ipcache));
    assert_eq!(before.origins.keys().collect::<Vec<_>>(), after.origins.keys().collect::<Vec<_>>());
    assert_ne!(before.origins, after.origins, "but the new place is known");
}

#[test]
fn an_address_has_one_owner() {
    let yaml = r"
apiVersion: v1
kind: Pod
metadata: {name: first, namespace: a}
spec: {nodeName: node-1, containers: [{name: c}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: second, namespace: a, labels: {app: x}}
spec: {nodeName: node-1, containers: [{name: c}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}
";
    let plan = compile(&objects("double.yaml", yaml), "node-1");
    let addresses = |name: &str| plan.endpoints[&pod(name)].addresses.clone();
    assert_eq!(addresses("a/first"), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(addresses("a/second"), ["fd00::1".parse::<IpAddr>().unwrap()]);
}
