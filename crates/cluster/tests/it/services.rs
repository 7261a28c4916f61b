//! Cluster addresses and endpoint slices.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use strait_api::Objects;

use crate::{expanded, joined, notes, pod, workload};

/// Services with their addresses, slices with ports and endpoints, notes.
#[track_caller]
fn check(text: &str, expect: &Expect) {
    let expansion = expanded(text);
    expect.assert_eq(&format!("{}{}", shown(&expansion.objects), notes(&expansion)));
}

fn shown(objects: &Objects) -> String {
    let mut out = String::new();
    for service in objects.services() {
        let _ = writeln!(out, "{}: {}", service.meta.name, joined(&service.cluster_ips));
    }
    for slice in objects.endpoint_slices() {
        let _ = writeln!(out, "{} ({})", slice.meta.name, slice.meta.labels);
        for port in &slice.ports {
            let _ = writeln!(out, "  port {:?} {}/{}", port.name, port.port.unwrap(), port.protocol);
        }
        for endpoint in &slice.endpoints {
            let (pod, node) =
                (endpoint.target_pod.as_deref().unwrap_or("-"), endpoint.node_name.as_deref().unwrap_or("-"));
            let _ = writeln!(out, "  {} {pod} on {node}", joined(&endpoint.addresses));
        }
    }
    out
}

fn service(name: &str, spec: &str) -> String {
    format!("---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{{spec}}}}}\n")
}

#[test]
fn slices_of_ready_pods() {
    let text = workload("Deployment", "web", "replicas: 2,")
        + &pod("done", "", "phase: Succeeded").replace("app: done", "app: web")
        + &pod("pending", "nodeSelector: {disk: ssd},", "").replace("app: pending", "app: web")
        + &service(
            "web",
            "selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}, {name: admin, port: 9000}]",
        );
    check(
        &text,
        &expect![[r#"
            web: 10.96.0.11 fd00:10:96::11
            web-ipv4-b4b79 (endpointslice.kubernetes.io/managed-by=cluster.strait.dev,kubernetes.io/service-name=web)
              port "http" 80/TCP
              port "admin" 9000/TCP
              10.244.1.10 web-0 on node-1
              10.244.2.10 web-1 on node-2
            web-ipv6-b4b79 (endpointslice.kubernetes.io/managed-by=cluster.strait.dev,kubernetes.io/service-name=web)
              port "http" 80/TCP
              port "admin" 9000/TCP
              fd00:10:244:1::10 web-0 on node-1
              fd00:10:244:2::10 web-1 on node-2
            in.yaml:6:1: Pod default/pending stays Pending: no node has the labels of its nodeSelector (disk=ssd)
        "#]],
    );
}

#[test]
fn a_name_that_pods_understand_differently() {
    let web = |name: &str, ports: &str| {
        pod(name, "nodeName: node-1,", "")
            .replace(&format!("app: {name}"), "app: web")
            .replace("image: i", &format!("image: i, ports: [{ports}]"))
    };
    let text = web("a", "{containerPort: 80, name: http}")
        + &web("b", "{containerPort: 8080, name: http}")
        + &web("c", "{containerPort: 53, name: http, protocol: UDP}")
        + &web("d", "{containerPort: 80, name: http}")
        + &service("web", "clusterIP: 10.96.7.7, selector: {app: web}, ports: [{port: 80, targetPort: http}]");
    check(
        &text,
        &expect![[r#"
        web: 10.96.7.7
        web-ipv4-4c7ff (endpointslice.kubernetes.io/managed-by=cluster.strait.dev,kubernetes.io/service-name=web)
          port "" 80/TCP
          10.244.1.10 a on node-1
          10.244.1.13 d on node-1
        web-ipv4-7f9df (endpointslice.kubernetes.io/managed-by=cluster.strait.dev,kubernetes.io/service-name=web)
          10.244.1.12 c on node-1
        web-ipv4-bfcff (endpointslice.kubernetes.io/managed-by=cluster.strait.dev,kubernetes.io/service-name=web)
          port "" 8080/TCP
          10.244.1.11 b on node-1
    "#]],
    );
}

#[test]
fn who_gets_addresses() {
    let text = service("headless", "clusterIP: None, selector: {app: x}")
        + &service("external", "type: ExternalName, externalName: example.com")
        + &service("given", "clusterIP: 10.96.0.11, ports: [{port: 80}]")
        + &service("given-too", "clusterIP: 10.96.0.11, ports: [{port: 80}]")
        + &service("node-port", "type: NodePort, ports: [{port: 80, nodePort: 30080}]")
        + &service("plain", "ports: [{port: 80}]")
        + &pod("x", "", "");
    check(
        &text,
        &expect![[r#"
        external: 
        given: 10.96.0.11
        given-too: 10.96.0.12 fd00:10:96::11
        headless: 
        node-port: 10.96.0.13 fd00:10:96::12
        plain: 10.96.0.14 fd00:10:96::13
        headless-ipv4-7f9df (endpointslice.kubernetes.io/managed-by=cluster.strait.dev,kubernetes.io/service-name=headless)
          10.244.1.10 x on node-1
        headless-ipv6-7f9df (endpointslice.kubernetes.io/managed-by=cluster.strait.dev,kubernetes.io/service-name=headless)
          fd00:10:244:1::10 x on node-1
        in.yaml:8:1: Service default/given-too cannot have clusterIP 10.96.0.11: another has it; it gets the next free one
    "#]],
    );
}

#[test]
fn slices_by_hand() {
    let text = "
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: mine, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, endpoints: [{addresses: [10.1.1.1]}], ports: [{port: 80}]}
"
    .to_owned()
        + &workload("Deployment", "web", "")
        + &service("web", "selector: {app: web}, ports: [{port: 80}]");
    check(
        &text,
        &expect![[r#"
        web: 10.96.0.11 fd00:10:96::11
        mine (kubernetes.io/service-name=web)
          port "" 80/TCP
          10.1.1.1 - on -
    "#]],
    );
}
