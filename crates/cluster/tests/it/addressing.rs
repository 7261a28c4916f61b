//! Nodes, places and addresses.

use expect_test::{Expect, expect};
use strait_api::Objects;
use strait_cluster::{Options, expand};

use crate::{expanded, lines, nodes, notes, objects, pod, pods, workload};

/// What nodes, pods and notes are.
#[track_caller]
fn check(text: &str, expect: &Expect) {
    let expansion = expanded(text);
    expect.assert_eq(&format!("{}{}{}", nodes(&expansion.objects), pods(&expansion.objects), notes(&expansion)));
}

#[test]
fn nodes_by_default() {
    check(
        "",
        &expect![[r#"
        node-1 172.30.0.11 fd00:172:30::11 | 10.244.1.0/24 fd00:10:244:1::/64
        node-2 172.30.0.12 fd00:172:30::12 | 10.244.2.0/24 fd00:10:244:2::/64
    "#]],
    );
    check(
        &pod("a", "nodeName: elsewhere,", ""),
        &expect![[r#"
        elsewhere 172.30.0.13 fd00:172:30::13 | 10.244.3.0/24 fd00:10:244:3::/64
        node-1 172.30.0.11 fd00:172:30::11 | 10.244.1.0/24 fd00:10:244:1::/64
        node-2 172.30.0.12 fd00:172:30::12 | 10.244.2.0/24 fd00:10:244:2::/64
        default/a elsewhere 10.244.3.10 fd00:10:244:3::10 Running
        in.yaml:2:1: nodeName elsewhere names a node that no manifest declares; it is added
    "#]],
    );
}

#[test]
fn declared_nodes() {
    check(
        "{apiVersion: v1, kind: Node, metadata: {name: only}}",
        &expect![[r#"
        only 172.30.0.11 fd00:172:30::11 | 10.244.1.0/24 fd00:10:244:1::/64
    "#]],
    );
    let given = "
{apiVersion: v1, kind: Node, metadata: {name: a}, spec: {podCIDR: 10.244.1.0/24}, status: {addresses: [{type: InternalIP, address: 192.168.1.5}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: b}, spec: {podCIDR: 10.0.0.0/16}, status: {addresses: [{type: InternalIP, address: 192.168.1.5}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: c}, spec: {podCIDR: 10.0.3.0/24}}
";
    check(
        given,
        &expect![[r#"
        a 192.168.1.5 fd00:172:30::11 | 10.244.1.0/24 fd00:10:244:1::/64
        b 172.30.0.12 fd00:172:30::12 | 10.0.0.0/16 fd00:10:244:2::/64
        c 172.30.0.13 fd00:172:30::13 | 10.244.3.0/24 fd00:10:244:3::/64
        in.yaml:4:1: Node/b: address 192.168.1.5 is in use by a node already; another is taken
        in.yaml:6:1: Node/c: pod CIDR 10.0.3.0/24 is in use by a node already; another is taken
    "#]],
    );
}

#[test]
fn families() {
    let only_v4 = Options { ipv6: false, ..Options::default() };
    let text = pod("a", "", "podIPs: [{ip: 10.244.1.77}, {ip: 'fd00:10:244:1::77'}]") + &pod("b", "", "");
    let expansion = expand(&objects(&text), &only_v4, None);
    expect![[r#"
        node-1 172.30.0.11 | 10.244.1.0/24
        node-2 172.30.0.12 | 10.244.2.0/24
        default/a node-1 10.244.1.77 Running
        default/b node-2 10.244.2.10 Running
        in.yaml:2:1: Pod default/a cannot have status.podIP fd00:10:244:1::77: IPv6 is off; it gets the next free address of node-1
    "#]].assert_eq(&format!("{}{}{}", nodes(&expansion.objects), pods(&expansion.objects), notes(&expansion)));
}

#[test]
fn places() {
    // Spread, but for those that say where they go; an address says it too.
    let text = pod("a", "nodeName: node-1,", "")
        + &pod("b", "nodeName: node-1,", "")
        + &pod("c", "", "podIP: 10.244.1.50")
        + &pod("d", "", "")
        + &workload("Deployment", "web", "replicas: 4,");
    check(
        &text,
        &expect![[r#"
        node-1 172.30.0.11 fd00:172:30::11 | 10.244.1.0/24 fd00:10:244:1::/64
        node-2 172.30.0.12 fd00:172:30::12 | 10.244.2.0/24 fd00:10:244:2::/64
        default/a node-1 10.244.1.10 fd00:10:244:1::10 Running
        default/b node-1 10.244.1.11 fd00:10:244:1::11 Running
        default/c node-1 10.244.1.50 fd00:10:244:1::12 Running
        default/d node-2 10.244.2.10 fd00:10:244:2::10 Running
        default/web-0 node-2 10.244.2.11 fd00:10:244:2::11 Running
        default/web-1 node-1 10.244.1.12 fd00:10:244:1::13 Running
        default/web-2 node-2 10.244.2.12 fd00:10:244:2::12 Running
        default/web-3 node-1 10.244.1.13 fd00:10:244:1::14 Running
    "#]],
    );
    check(
        &pod("nowhere", "nodeSelector: {disk: ssd},", ""),
        &expect![[r#"
        node-1 172.30.0.11 fd00:172:30::11 | 10.244.1.0/24 fd00:10:244:1::/64
        node-2 172.30.0.12 fd00:172:30::12 | 10.244.2.0/24 fd00:10:244:2::/64
        default/nowhere -  Pending
        in.yaml:2:1: Pod default/nowhere stays Pending: no node has the labels of its nodeSelector (disk=ssd)
    "#]],
    );
    check(
        &pod("somewhere", "nodeSelector: {kubernetes.io/hostname: node-2},", ""),
        &expect![[r#"
        node-1 172.30.0.11 fd00:172:30::11 | 10.244.1.0/24 fd00:10:244:1::/64
        node-2 172.30.0.12 fd00:172:30::12 | 10.244.2.0/24 fd00:10:244:2::/64
        default/somewhere node-2 10.244.2.10 fd00:10:244:2::10 Running
    "#]],
    );
}

#[test]
fn addresses_asked_for() {
    let cases = [
        ("free", "podIP: 10.244.1.99"),
        ("v6-alone", "podIP: 'fd00:10:244:1::99'"),
        ("both", "podIPs: [{ip: 10.244.1.88}, {ip: 'fd00:10:244:1::88'}]"),
        ("in-no-pod-cidr", "podIP: 192.168.7.7"),
        ("taken", "podIP: 10.244.1.99"),
        ("of-the-node", "podIP: 172.30.0.11"),
        ("of-a-node-to-come", "podIP: 172.30.0.99"),
        ("of-another-node", "podIP: 10.244.2.99"),
        ("outside", "podIP: 203.0.113.5"),
        ("of-services", "podIP: 10.96.0.9"),
        ("loopback", "podIP: 127.0.0.1"),
        ("multicast", "podIP: 'ff02::1'"),
        ("link-local", "podIP: 169.254.1.1"),
    ];
    let text: String = cases.iter().map(|(name, status)| pod(name, "nodeName: node-1,", status)).collect();
    check(
        &text,
        &expect![[r#"
        node-1 172.30.0.11 fd00:172:30::11 | 10.244.1.0/24 fd00:10:244:1::/64
        node-2 172.30.0.12 fd00:172:30::12 | 10.244.2.0/24 fd00:10:244:2::/64
        default/both node-1 10.244.1.88 fd00:10:244:1::88 Running
        default/free node-1 10.244.1.99 fd00:10:244:1::10 Running
        default/in-no-pod-cidr node-1 192.168.7.7 fd00:10:244:1::11 Running
        default/link-local node-1 10.244.1.10 fd00:10:244:1::12 Running
        default/loopback node-1 10.244.1.11 fd00:10:244:1::13 Running
        default/multicast node-1 10.244.1.12 fd00:10:244:1::14 Running
        default/of-a-node-to-come node-1 10.244.1.13 fd00:10:244:1::15 Running
        default/of-another-node node-1 10.244.1.14 fd00:10:244:1::16 Running
        default/of-services node-1 10.244.1.15 fd00:10:244:1::17 Running
        default/of-the-node node-1 10.244.1.16 fd00:10:244:1::18 Running
        default/outside node-1 10.244.1.17 fd00:10:244:1::19 Running
        default/taken node-1 10.244.1.18 fd00:10:244:1::20 Running
        default/v6-alone node-1 10.244.1.19 fd00:10:244:1::99 Running
        in.yaml:26:1: Pod default/link-local cannot have status.podIP 169.254.1.1: it is no address to reach a pod at; it gets the next free address of node-1
        in.yaml:22:1: Pod default/loopback cannot have status.podIP 127.0.0.1: it is no address to reach a pod at; it gets the next free address of node-1
        in.yaml:24:1: Pod default/multicast cannot have status.podIP ff02::1: it is no address to reach a pod at; it gets the next free address of node-1
        in.yaml:14:1: Pod default/of-a-node-to-come cannot have status.podIP 172.30.0.99: its range is for nodes; it gets the next free address of node-1
        in.yaml:16:1: Pod default/of-another-node cannot have status.podIP 10.244.2.99: it is in the pod CIDR of node-2, but the pod is on node-1; it gets the next free address of node-1
        in.yaml:20:1: Pod default/of-services cannot have status.podIP 10.96.0.9: its range is for services; it gets the next free address of node-1
        in.yaml:12:1: Pod default/of-the-node cannot have status.podIP 172.30.0.11: it is in use; it gets the next free address of node-1
        in.yaml:18:1: Pod default/outside cannot have status.podIP 203.0.113.5: its range is for the outside of the cluster; it gets the next free address of node-1
        in.yaml:10:1: Pod default/taken cannot have status.podIP 10.244.1.99: it is in use; it gets the next free address of node-1
    "#]],
    );
}

#[test]
fn host_network_and_completed_pods() {
    let text = pod("agent", "nodeName: node-2, hostNetwork: true,", "podIP: 1.2.3.4")
        + &pod("done", "nodeName: node-1,", "phase: Succeeded, podIP: 10.244.1.10")
        + &pod("failed", "", "phase: Failed")
        + &pod("lost", "nodeName: node-1,", "phase: Unknown")
        + &pod("next", "nodeName: node-1,", "podIP: 10.244.1.10");
    check(
        &text,
        &expect![[r#"
        node-1 172.30.0.11 fd00:172:30::11 | 10.244.1.0/24 fd00:10:244:1::/64
        node-2 172.30.0.12 fd00:172:30::12 | 10.244.2.0/24 fd00:10:244:2::/64
        default/agent node-2 172.30.0.12 fd00:172:30::12 Running
        default/done node-1  Succeeded
        default/failed -  Failed
        default/lost node-1 10.244.1.11 fd00:10:244:1::10 Unknown
        default/next node-1 10.244.1.10 fd00:10:244:1::11 Running
    "#]],
    );
}

#[test]
fn full() {
    let small =
        "{apiVersion: v1, kind: Node, metadata: {name: small}, spec: {podCIDRs: [10.0.0.0/29, 'fd00:1::/64']}}\n";
    check(
        &(small.to_owned() + &workload("Deployment", "web", "replicas: 8,")),
        &expect![[r#"
        small 172.30.0.11 fd00:172:30::11 | 10.0.0.0/29 fd00:1::/64
        default/web-0 small 10.0.0.1 fd00:1::10 Running
        default/web-1 small 10.0.0.2 fd00:1::11 Running
        default/web-2 small 10.0.0.3 fd00:1::12 Running
        default/web-3 small 10.0.0.4 fd00:1::13 Running
        default/web-4 small 10.0.0.5 fd00:1::14 Running
        default/web-5 small 10.0.0.6 fd00:1::15 Running
        default/web-6 small fd00:1::16 Running
        default/web-7 small fd00:1::17 Running
        pod CIDR 10.0.0.0/29 is full: 2 pods get no address of it; declare the Node with a larger podCIDR, or more nodes
    "#]],
    );
    let big = expanded(&workload("Deployment", "web", "replicas: 600,"));
    expect![[r#"
        pod CIDR 10.244.1.0/24 is full: 55 pods get no address of it; declare the Node with a larger podCIDR, or more nodes
        pod CIDR 10.244.2.0/24 is full: 55 pods get no address of it; declare the Node with a larger podCIDR, or more nodes
    "#]].assert_eq(&notes(&big));
    let without_v4 =
        |objects: &Objects| objects.pods().filter(|pod| pod.pod_ips.iter().all(std::net::IpAddr::is_ipv6)).count();
    assert_eq!(without_v4(&big.objects), 600 - 2 * 245);
}

#[test]
fn more_nodes_than_addresses() {
    let text = lines((0..250).map(|n| format!("---\n{{apiVersion: v1, kind: Node, metadata: {{name: n{n:03}}}}}")));
    let expansion = expanded(&(text + &pod("a", "nodeName: n249,", "")));
    assert_eq!(expansion.objects.nodes().filter(|node| node.addresses.is_empty()).count(), 6);
    assert!(expansion.notes.iter().any(|note| note.contains("Node/n249 gets no addresses")), "{:?}", expansion.notes);
    assert!(pods(&expansion.objects).contains("default/a n249  Pending"));
}

#[test]
fn namespaces_and_accounts() {
    let text = "
{apiVersion: v1, kind: Namespace, metadata: {name: declared, labels: {team: x}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: used}, spec: {serviceAccountName: robot, containers: [{name: c, image: i}]}}
";
    let expansion = expanded(text);
    let (namespaces, accounts) = (expansion.objects.namespaces(), expansion.objects.service_accounts());
    let namespaces = lines(namespaces.map(|namespace| format!("{} {}", namespace.meta.name, namespace.meta.labels)));
    let accounts = lines(accounts.map(|account| format!("{}/{}", account.meta.namespace, account.meta.name)));
    expect![[r#"
        declared kubernetes.io/metadata.name=declared,team=x
        used kubernetes.io/metadata.name=used
        declared/default
        used/default
        used/robot
        in.yaml:4:1: service account used/robot is declared nowhere; it is made, Kubernetes would refuse the pod
    "#]]
    .assert_eq(&format!("{namespaces}{accounts}{}", notes(&expansion)));
}
