//! Objects written as manifests.

mod cilium;
mod cluster_network_policy;
mod services;

use std::fmt::Write as _;

use strait_api::{
    Container, ContainerPort, NetworkPolicy, NetworkPolicyPort, NetworkPolicyRule, Node, Object, ObjectMeta, Objects,
    PeerSelector, Pod, PodPhase, PortRef,
};
use strait_base::{LabelSelector, Labels, Operator, Protocol};

use crate::draw::Draw;

/// Namespaces, nodes, service accounts, pods, services, endpoint slices and policies of all kinds as YAML documents; other kinds are left out.
/// `style` chooses among the ways to write the same: a field that has its default may be missing or not, an empty list missing or `[]`.
pub fn manifests(objects: &Objects, style: &mut Draw) -> String {
    let mut out = String::new();
    for object in objects.iter() {
        let document = match object {
            Object::Namespace(namespace) => head("v1", "Namespace", &namespace.meta),
            Object::ServiceAccount(account) => head("v1", "ServiceAccount", &account.meta),
            Object::Node(node) => node_manifest(node),
            Object::Pod(pod) => pod_manifest(pod, style),
            Object::NetworkPolicy(policy) => policy_manifest(policy, style),
            Object::CiliumNetworkPolicy(policy) => cilium::policy_manifest(policy, style),
            Object::CiliumCidrGroup(group) => cilium::group_manifest(group),
            Object::ClusterNetworkPolicy(policy) => cluster_network_policy::manifest(policy, style),
            Object::Service(service) => services::service_manifest(service),
            Object::EndpointSlice(slice) => services::slice_manifest(slice),
            Object::ConfigMap(_)
            | Object::Secret(_)
            | Object::Workload(_)
            | Object::GatewayClass(_)
            | Object::Gateway(_)
            | Object::ListenerSet(_)
            | Object::Route(_)
            | Object::ReferenceGrant(_)
            | Object::BackendTlsPolicy(_)
            | Object::BackendTrafficPolicy(_)
            | Object::IstioGateway(_)
            | Object::VirtualService(_)
            | Object::DestinationRule(_)
            | Object::ServiceEntry(_)
            | Object::WorkloadEntry(_) => continue,
        };
        out.push_str("---\n");
        block(&mut out, &Value::Map(document), 0);
    }
    out
}

/// YAML, as far as manifests need it.
enum Value {
    Map(Vec<(&'static str, Value)>),
    Texts(Vec<(String, String)>),
    List(Vec<Value>),
    Text(String),
    Plain(String),
}

fn text<T: ToString + ?Sized>(value: &T) -> Value {
    Value::Text(value.to_string())
}

fn plain<T: ToString + ?Sized>(value: &T) -> Value {
    Value::Plain(value.to_string())
}

fn list<T>(items: &[T], item: impl FnMut(&T) -> Value) -> Value {
    Value::List(items.iter().map(item).collect())
}

fn block(out: &mut String, value: &Value, indent: usize) {
    let pad = " ".repeat(indent);
    match value {
        Value::Map(fields) => {
            for (key, value) in fields {
                let _ = write!(out, "{pad}{key}:");
                nested(out, value, indent);
            }
        }
        Value::Texts(pairs) => {
            for (key, value) in pairs {
                let _ = writeln!(out, "{pad}{key}: {value:?}");
            }
        }
        Value::List(items) => {
            for item in items {
                let mut inner = String::new();
                if is_empty(item) {
                    nested(&mut inner, item, indent);
                } else {
                    block(&mut inner, item, indent + 2);
                }
                let _ = writeln!(out, "{pad}- {}", inner.trim());
            }
        }
        Value::Text(_) | Value::Plain(_) => nested(out, value, indent),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Map(fields) => fields.is_empty(),
        Value::Texts(pairs) => pairs.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Text(_) | Value::Plain(_) => false,
    }
}

/// What follows `key:`.
fn nested(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Map(_) | Value::Texts(_) if is_empty(value) => out.push_str(" {}\n"),
        Value::List(_) if is_empty(value) => out.push_str(" []\n"),
        Value::Map(_) | Value::Texts(_) | Value::List(_) => {
            out.push('\n');
            block(out, value, indent + 2);
        }
        Value::Text(text) => {
            let _ = writeln!(out, " {text:?}");
        }
        Value::Plain(text) => {
            let _ = writeln!(out, " {text}");
        }
    }
}

fn head(api_version: &str, kind: &str, meta: &ObjectMeta) -> Vec<(&'static str, Value)> {
    let mut fields = vec![("name", text(&meta.name))];
    if !meta.namespace.is_empty() {
        fields.push(("namespace", text(&meta.namespace)));
    }
    if !meta.labels.0.is_empty() {
        fields.push(("labels", labels(&meta.labels)));
    }
    if !meta.annotations.is_empty() {
        let pairs = meta.annotations.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        fields.push(("annotations", Value::Texts(pairs.collect())));
    }
    vec![("apiVersion", plain(api_version)), ("kind", plain(kind)), ("metadata", Value::Map(fields))]
}

fn labels(labels: &Labels) -> Value {
    Value::Texts(labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

fn node_manifest(node: &Node) -> Vec<(&'static str, Value)> {
    let mut document = head("v1", "Node", &node.meta);
    document.push(("spec", Value::Map(vec![("podCIDRs", list(&node.pod_cidrs, text))])));
    let addresses =
        list(&node.addresses, |address| Value::Map(vec![("type", plain("InternalIP")), ("address", text(address))]));
    document.push(("status", Value::Map(vec![("addresses", addresses)])));
    document
}

fn pod_manifest(pod: &Pod, style: &mut Draw) -> Vec<(&'static str, Value)> {
    let mut document = head("v1", "Pod", &pod.meta);
    let mut spec = Vec::new();
    if let Some(node) = &pod.spec.node_name {
        spec.push(("nodeName", text(node)));
    }
    if !pod.spec.node_selector.0.is_empty() {
        spec.push(("nodeSelector", labels(&pod.spec.node_selector)));
    }
    if &*pod.spec.service_account_name != "default" || style.chance(20) {
        spec.push(("serviceAccountName", text(&pod.spec.service_account_name)));
    }
    if pod.spec.host_network || style.chance(10) {
        spec.push(("hostNetwork", plain(&pod.spec.host_network)));
    }
    spec.push(("containers", list(&pod.spec.containers, |container| container_manifest(container, style))));
    document.push(("spec", Value::Map(spec)));
    let mut status = Vec::new();
    if pod.phase != PodPhase::Pending {
        status.push(("phase", plain(&format!("{:?}", pod.phase))));
    }
    if let Some(first) = pod.pod_ips.first() {
        let both = pod.pod_ips.len() > 1 || style.chance(50);
        if !both || style.chance(50) {
            status.push(("podIP", text(first)));
        }
        if both {
            status.push(("podIPs", list(&pod.pod_ips, |address| Value::Map(vec![("ip", text(address))]))));
        }
    }
    if !status.is_empty() {
        document.push(("status", Value::Map(status)));
    }
    document
}

fn container_manifest(container: &Container, style: &mut Draw) -> Value {
    let mut fields = vec![("name", text(&container.name))];
    fields.push(("image", text(container.image.as_deref().unwrap_or("example.com/echo:1"))));
    if !container.ports.is_empty() {
        fields.push(("ports", list(&container.ports, |port| container_port(port, style))));
    }
    Value::Map(fields)
}

fn container_port(port: &ContainerPort, style: &mut Draw) -> Value {
    let mut fields = vec![("containerPort", plain(&port.container_port))];
    if let Some(name) = &port.name {
        fields.push(("name", text(name)));
    }
    protocol(&mut fields, port.protocol, style);
    Value::Map(fields)
}

/// TCP is the default.
fn protocol(fields: &mut Vec<(&'static str, Value)>, protocol: Protocol, style: &mut Draw) {
    if protocol != Protocol::Tcp || style.chance(50) {
        fields.push(("protocol", plain(&protocol)));
    }
}

fn policy_manifest(policy: &NetworkPolicy, style: &mut Draw) -> Vec<(&'static str, Value)> {
    let mut document = head("networking.k8s.io/v1", "NetworkPolicy", &policy.meta);
    let mut spec = vec![("podSelector", selector(&policy.pod_selector, style))];
    let default_types = (true, !policy.egress.is_empty());
    if (policy.isolates_ingress, policy.isolates_egress) != default_types || style.chance(60) {
        let mut types = Vec::new();
        types.extend(policy.isolates_ingress.then_some("Ingress"));
        types.extend(policy.isolates_egress.then_some("Egress"));
        spec.push(("policyTypes", list(&types, plain)));
    } else if style.chance(20) {
        spec.push(("policyTypes", Value::List(Vec::new())));
    }
    optional(&mut spec, "ingress", &policy.ingress, style, |rule, style| rule_manifest(rule, "from", style));
    optional(&mut spec, "egress", &policy.egress, style, |rule, style| rule_manifest(rule, "to", style));
    document.push(("spec", Value::Map(spec)));
    document
}

/// A list that means the same when missing and when empty.
fn optional<T>(
    fields: &mut Vec<(&'static str, Value)>,
    name: &'static str,
    items: &[T],
    style: &mut Draw,
    mut item: impl FnMut(&T, &mut Draw) -> Value,
) {
    if !items.is_empty() || style.chance(30) {
        fields.push((name, list(items, |one| item(one, style))));
    }
}

fn rule_manifest(rule: &NetworkPolicyRule, peers: &'static str, style: &mut Draw) -> Value {
    let mut fields = Vec::new();
    optional(&mut fields, peers, &rule.peers, style, |peer, style| peer_manifest(&peer.selects, style));
    optional(&mut fields, "ports", &rule.ports, style, port_manifest);
    Value::Map(fields)
}

fn peer_manifest(peer: &PeerSelector, style: &mut Draw) -> Value {
    Value::Map(match peer {
        PeerSelector::Pods(pods) => vec![("podSelector", selector(pods, style))],
        PeerSelector::Namespaces(namespaces) => vec![("namespaceSelector", selector(namespaces, style))],
        PeerSelector::NamespacedPods { namespaces, pods } => {
            vec![("namespaceSelector", selector(namespaces, style)), ("podSelector", selector(pods, style))]
        }
        PeerSelector::IpBlock { cidr, except } => {
            let mut fields = vec![("cidr", text(cidr))];
            optional(&mut fields, "except", except, style, |net, _| text(net));
            vec![("ipBlock", Value::Map(fields))]
        }
    })
}

fn port_manifest(port: &NetworkPolicyPort, style: &mut Draw) -> Value {
    let mut fields = Vec::new();
    match &port.port {
        Some(PortRef::Number(number)) => fields.push(("port", plain(number))),
        Some(PortRef::Name(name)) => fields.push(("port", text(name))),
        None => {}
    }
    if let Some(end) = port.end_port {
        fields.push(("endPort", plain(&end)));
    }
    protocol(&mut fields, port.protocol, style);
    Value::Map(fields)
}

fn selector(selector: &LabelSelector, style: &mut Draw) -> Value {
    let mut fields = Vec::new();
    if !selector.match_labels.0.is_empty() || style.chance(10) {
        fields.push(("matchLabels", labels(&selector.match_labels)));
    }
    optional(&mut fields, "matchExpressions", &selector.match_expressions, style, |requirement, _| {
        let mut fields = vec![("key", text(&requirement.key))];
        let (operator, values) = match &requirement.operator {
            Operator::In(values) => ("In", Some(values)),
            Operator::NotIn(values) => ("NotIn", Some(values)),
            Operator::Exists => ("Exists", None),
            Operator::DoesNotExist => ("DoesNotExist", None),
        };
        fields.push(("operator", plain(operator)));
        if let Some(values) = values {
            fields.push(("values", list(values, text)));
        }
        Value::Map(fields)
    });
    Value::Map(fields)
}
