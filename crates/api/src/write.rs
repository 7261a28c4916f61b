//! Objects back to manifests: what the lab generates is read by agents like any other file.

mod cilium;
mod cluster_policies;
mod gateway;
mod istio;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use serde_json::{Map, Value, json};
use strait_base::{LabelSelector, Operator};

use crate::types::{
    Container, EndpointSlice, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicyRule, Node, Object,
    ObjectMeta, PeerSelector, Pod, PodPhase, PodSpec, PodTemplate, PortRef, Secret, Service, ServiceType, Workload,
    WorkloadKind,
};

/// The object as a JSON manifest of one line. Reading it gives the object again, locations aside.
///
/// Fields that the typed objects do not carry are not written. An `EndpointSlice` has the `addressType` of its first address.
pub fn to_json(object: &Object) -> String {
    let (api_version, mut fields) = match object {
        Object::Namespace(_) | Object::ServiceAccount(_) => ("v1", Map::new()),
        Object::Node(node) => ("v1", node_fields(node)),
        Object::Pod(pod) => ("v1", pod_fields(pod)),
        Object::Service(service) => ("v1", object_of([("spec", service_spec(service))])),
        Object::ConfigMap(map) => ("v1", object_of([("data", json!(map.data))])),
        Object::Secret(secret) => ("v1", secret_fields(secret)),
        Object::EndpointSlice(slice) => ("discovery.k8s.io/v1", slice_fields(slice)),
        Object::Workload(workload) => (workload_version(workload.kind), object_of([("spec", workload_spec(workload))])),
        Object::NetworkPolicy(policy) => ("networking.k8s.io/v1", object_of([("spec", policy_spec(policy))])),
        Object::CiliumNetworkPolicy(policy) => ("cilium.io/v2", object_of([cilium::policy(policy)])),
        Object::CiliumCidrGroup(group) => {
            let cidrs: Value = group.external_cidrs.iter().map(|net| Value::from(net.to_string())).collect();
            ("cilium.io/v2", object_of([("spec", json!({"externalCIDRs": cidrs}))]))
        }
        Object::ClusterNetworkPolicy(policy) => {
            (cluster_policies::api_version(policy.kind), object_of([("spec", cluster_policies::spec(policy))]))
        }
        Object::GatewayClass(class) => (gateway::API_VERSION, gateway::class(class)),
        Object::Gateway(of) => (gateway::API_VERSION, gateway::gateway(of)),
        Object::ListenerSet(set) => (gateway::API_VERSION, gateway::listener_set(set)),
        Object::Route(route) => (gateway::API_VERSION, gateway::route(route)),
        Object::ReferenceGrant(grant) => (gateway::API_VERSION, gateway::grant(grant)),
        Object::BackendTlsPolicy(policy) => (gateway::API_VERSION, gateway::backend_tls_policy(policy)),
        Object::BackendTrafficPolicy(policy) => {
            (gateway::EXPERIMENTAL_VERSION, gateway::backend_traffic_policy(policy))
        }
        Object::IstioGateway(of) => (istio::API_VERSION, istio::spec(&**of)),
        Object::VirtualService(of) => (istio::API_VERSION, istio::spec(&**of)),
        Object::DestinationRule(of) => (istio::API_VERSION, istio::spec(&**of)),
        Object::ServiceEntry(of) => (istio::API_VERSION, istio::spec(&**of)),
        Object::WorkloadEntry(of) => (istio::API_VERSION, istio::spec(&of.workload)),
    };
    fields.insert("apiVersion".into(), api_version.into());
    fields.insert("kind".into(), object.kind().as_str().into());
    fields.insert("metadata".into(), meta(object.meta()));
    Value::Object(fields).to_string()
}

/// A template of pods as one line of JSON, as in [`to_json`]: what is as it is by default is not written, so that the same template has the same
/// text in every version that reads the same of it.
pub fn template_to_json(template: &PodTemplate) -> String {
    pod_template(template).to_string()
}

/// An object of the fields that are not null.
fn object_of<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn some<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Object(object_of(fields))
}

/// A list, or null where it is empty.
fn list<T>(items: &[T], write: impl Fn(&T) -> Value) -> Value {
    if items.is_empty() { Value::Null } else { items.iter().map(write).collect() }
}

fn strings(map: &BTreeMap<Arc<str>, Arc<str>>) -> Value {
    if map.is_empty() { Value::Null } else { json!(map) }
}

fn addresses(addresses: &[IpAddr]) -> Value {
    list(addresses, |address| address.to_string().into())
}

fn meta(meta: &ObjectMeta) -> Value {
    let namespace = if meta.namespace.is_empty() { Value::Null } else { json!(meta.namespace) };
    some([
        ("name", json!(meta.name)),
        ("namespace", namespace),
        ("labels", strings(&meta.labels.0)),
        ("annotations", strings(&meta.annotations)),
        ("generation", if meta.generation == 1 { Value::Null } else { meta.generation.into() }),
        ("creationTimestamp", meta.created.map_or(Value::Null, timestamp)),
    ])
}

/// The time that is so many seconds after 1970.
fn timestamp(seconds: i64) -> Value {
    jiff::Timestamp::from_second(seconds).map_or(Value::Null, |time| time.to_string().into())
}

fn node_fields(node: &Node) -> Map<String, Value> {
    let address = |address: &IpAddr| json!({"type": "InternalIP", "address": address.to_string()});
    object_of([
        ("spec", some([("podCIDRs", list(&node.pod_cidrs, |net| net.to_string().into()))])),
        ("status", some([("addresses", list(&node.addresses, address))])),
    ])
}

fn pod_fields(pod: &Pod) -> Map<String, Value> {
    let phase = match pod.phase {
        PodPhase::Pending => "Pending",
        PodPhase::Running => "Running",
        PodPhase::Succeeded => "Succeeded",
        PodPhase::Failed => "Failed",
        PodPhase::Unknown => "Unknown",
    };
    let pod_ips = list(&pod.pod_ips, |address| json!({"ip": address.to_string()}));
    object_of([("spec", pod_spec(&pod.spec)), ("status", some([("phase", phase.into()), ("podIPs", pod_ips)]))])
}

fn pod_spec(spec: &PodSpec) -> Value {
    some([
        ("nodeName", json!(spec.node_name)),
        ("nodeSelector", strings(&spec.node_selector.0)),
        ("serviceAccountName", json!(spec.service_account_name)),
        ("hostNetwork", if spec.host_network { true.into() } else { Value::Null }),
        ("hostname", json!(spec.hostname)),
        ("subdomain", json!(spec.subdomain)),
        ("containers", list(&spec.containers, container)),
        ("volumes", list(&spec.secrets, |name| json!({"name": name, "secret": {"secretName": name}}))),
    ])
}

fn container(container: &Container) -> Value {
    let env: Vec<Value> = container.env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    some([
        ("name", json!(container.name)),
        ("image", json!(container.image)),
        ("command", list(&container.command, |part| json!(part))),
        ("args", list(&container.args, |part| json!(part))),
        ("env", list(&env, Value::clone)),
        (
            "ports",
            list(&container.ports, |port| {
                some([
                    ("name", json!(port.name)),
                    ("containerPort", port.container_port.into()),
                    ("hostPort", json!(port.host_port)),
                    ("protocol", json!(port.protocol)),
                ])
            }),
        ),
    ])
}

fn port_ref(port: &PortRef) -> Value {
    match port {
        PortRef::Number(number) => (*number).into(),
        PortRef::Name(name) => json!(name),
    }
}

fn service_spec(service: &Service) -> Value {
    let service_type = match service.service_type {
        ServiceType::ClusterIp => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
        ServiceType::ExternalName => "ExternalName",
    };
    let ports = list(&service.ports, |port| {
        some([
            ("name", json!(port.name)),
            ("port", port.port.into()),
            ("targetPort", port_ref(&port.target_port)),
            ("nodePort", json!(port.node_port)),
            ("protocol", json!(port.protocol)),
            ("appProtocol", json!(port.app_protocol)),
        ])
    });
    some([
        ("type", service_type.into()),
        ("clusterIP", if service.headless { "None".into() } else { Value::Null }),
        ("clusterIPs", addresses(&service.cluster_ips)),
        ("externalName", json!(service.external_name)),
        ("selector", strings(&service.selector.0)),
        ("ports", ports),
    ])
}

fn slice_fields(slice: &EndpointSlice) -> Map<String, Value> {
    let v6 = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses).next().is_some_and(IpAddr::is_ipv6);
    let endpoints = slice.endpoints.iter().map(|endpoint| {
        let target = endpoint.target_pod.as_ref().map(|name| json!({"kind": "Pod", "name": name}));
        let conditions =
            json!({"ready": endpoint.ready, "serving": endpoint.serving, "terminating": endpoint.terminating});
        some([
            ("addresses", addresses(&endpoint.addresses)),
            ("conditions", conditions),
            ("nodeName", json!(endpoint.node_name)),
            ("targetRef", target.into()),
        ])
    });
    let ports = list(&slice.ports, |port| {
        some([("name", json!(port.name)), ("port", json!(port.port)), ("protocol", json!(port.protocol))])
    });
    object_of([
        ("addressType", if v6 { "IPv6" } else { "IPv4" }.into()),
        ("endpoints", endpoints.collect()),
        ("ports", ports),
    ])
}

fn secret_fields(secret: &Secret) -> Map<String, Value> {
    let data: BTreeMap<&str, String> = secret.data.iter().map(|(key, value)| (&**key, base64(value))).collect();
    object_of([("type", json!(secret.secret_type)), ("data", json!(data))])
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let sextet = (bits >> (18 - 6 * index)) & 63;
            out.push(if index <= chunk.len() { char::from(ALPHABET[sextet as usize]) } else { '=' });
        }
    }
    out
}

fn workload_version(kind: WorkloadKind) -> &'static str {
    match kind {
        WorkloadKind::Deployment | WorkloadKind::ReplicaSet | WorkloadKind::StatefulSet | WorkloadKind::DaemonSet => {
            "apps/v1"
        }
        WorkloadKind::ReplicationController => "v1",
        WorkloadKind::Job | WorkloadKind::CronJob => "batch/v1",
    }
}

fn pod_template(template: &PodTemplate) -> Value {
    let meta = some([("labels", strings(&template.labels.0)), ("annotations", strings(&template.annotations))]);
    some([("metadata", meta), ("spec", pod_spec(&template.spec))])
}

fn workload_spec(workload: &Workload) -> Value {
    let template = pod_template(&workload.template);
    let suspend = if workload.suspend { true.into() } else { Value::Null };
    let selector = label_selector(&workload.selector);
    let job = |suspend: Value| {
        some([
            ("parallelism", workload.replicas.into()),
            ("suspend", suspend),
            ("selector", selector.clone()),
            ("template", template.clone()),
        ])
    };
    match workload.kind {
        WorkloadKind::Job => job(suspend),
        WorkloadKind::CronJob => {
            // The schedule is not kept; nothing runs by it here.
            let job = some([("spec", job(Value::Null))]);
            some([("schedule", "@yearly".into()), ("suspend", suspend), ("jobTemplate", job)])
        }
        WorkloadKind::ReplicationController => some([
            ("replicas", workload.replicas.into()),
            ("selector", strings(&workload.selector.match_labels.0)),
            ("template", template),
        ]),
        WorkloadKind::Deployment | WorkloadKind::ReplicaSet | WorkloadKind::StatefulSet | WorkloadKind::DaemonSet => {
            some([
                ("replicas", workload.replicas.into()),
                ("selector", selector),
                ("serviceName", json!(workload.service_name)),
                ("template", template),
            ])
        }
    }
}

fn label_selector(selector: &LabelSelector) -> Value {
    let expressions = list(&selector.match_expressions, |requirement| {
        let (operator, values) = match &requirement.operator {
            Operator::In(values) => ("In", json!(values)),
            Operator::NotIn(values) => ("NotIn", json!(values)),
            Operator::Exists => ("Exists", Value::Null),
            Operator::DoesNotExist => ("DoesNotExist", Value::Null),
        };
        some([("key", json!(requirement.key)), ("operator", operator.into()), ("values", values)])
    });
    some([("matchLabels", strings(&selector.match_labels.0)), ("matchExpressions", expressions)])
}

fn policy_spec(policy: &NetworkPolicy) -> Value {
    let types = [(policy.isolates_ingress, "Ingress"), (policy.isolates_egress, "Egress")];
    let types: Vec<&str> = types.into_iter().filter_map(|(isolates, name)| isolates.then_some(name)).collect();
    some([
        ("podSelector", label_selector(&policy.pod_selector)),
        ("policyTypes", json!(types)),
        ("ingress", list(&policy.ingress, |rule| policy_rule(rule, "from"))),
        ("egress", list(&policy.egress, |rule| policy_rule(rule, "to"))),
    ])
}

fn policy_rule(rule: &NetworkPolicyRule, peers: &str) -> Value {
    some([(peers, list(&rule.peers, policy_peer)), ("ports", list(&rule.ports, policy_port))])
}

fn policy_peer(peer: &NetworkPolicyPeer) -> Value {
    match &peer.selects {
        PeerSelector::Pods(pods) => some([("podSelector", label_selector(pods))]),
        PeerSelector::Namespaces(namespaces) => some([("namespaceSelector", label_selector(namespaces))]),
        PeerSelector::NamespacedPods { namespaces, pods } => {
            some([("namespaceSelector", label_selector(namespaces)), ("podSelector", label_selector(pods))])
        }
        PeerSelector::IpBlock { cidr, except } => {
            let except = list(except, |net| net.to_string().into());
            some([("ipBlock", some([("cidr", cidr.to_string().into()), ("except", except)]))])
        }
    }
}

fn policy_port(port: &NetworkPolicyPort) -> Value {
    some([
        ("protocol", json!(port.protocol)),
        ("port", port.port.as_ref().map_or(Value::Null, port_ref)),
        ("endPort", json!(port.end_port)),
    ])
}
