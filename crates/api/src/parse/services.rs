//! `v1` `Service` and `discovery.k8s.io/v1` `EndpointSlice`.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use strait_base::Protocol;

use super::{
    decode::{Decoder, Fields, Step},
    identities::{address, first_among, one_per_family},
    meta,
    networking::{port_ref, protocol},
    pods::non_empty,
    report::{ErrorKind, Severity, Topic},
    text::Fault,
    tree::{Node, Value, quoted},
    values,
};
use crate::types::{
    EndpointSlice, Object, ObjectMeta, PortRef, Service, ServicePort, ServiceType, SliceEndpoint, SlicePort,
};

pub(super) fn service(d: &mut Decoder<'_>, root: &mut Fields<'_>, meta: Option<ObjectMeta>) -> Option<Object> {
    let service = d.required(root, "spec", "a spec", |d, node| service_spec(d, node, meta))?;
    Some(Object::Service(Arc::new(service)))
}

fn service_spec(d: &mut Decoder<'_>, node: &Node, meta: Option<ObjectMeta>) -> Option<Service> {
    let mut fields = d.fields(node)?;
    let service_type = d.optional(&mut fields, "type", service_type).unwrap_or_default();
    let many = d.list(&mut fields, "clusterIPs", cluster_ip);
    let one = d.optional(&mut fields, "clusterIP", |d, node| {
        if matches!(&node.value, Value::Scalar(scalar) if scalar.text.is_empty()) { None } else { cluster_ip(d, node) }
    });
    let all = first_among(d, node, "clusterIP", one, many);
    let headless = all.iter().any(|ip| matches!(ip, ClusterIp::None));
    let cluster_ips: Vec<IpAddr> = all
        .into_iter()
        .filter_map(|ip| match ip {
            ClusterIp::Address(address) => Some(address),
            ClusterIp::None => None,
        })
        .collect();
    one_per_family(d, node, "clusterIPs", cluster_ips.iter().copied());
    if headless && !cluster_ips.is_empty() {
        let found = "None beside an address";
        let fault = Fault::new(node.at, ErrorKind::Value, found, "None alone, or addresses");
        d.within(Step::Field("clusterIPs"), |d| d.fault(fault));
    }
    let external_name = d.optional(&mut fields, "externalName", |d, node| non_empty(d, node, host_name));
    if service_type == ServiceType::ExternalName && external_name.is_none() {
        d.missing(node.at, "externalName", "a DNS name: the type is ExternalName");
    }
    let selector = d.optional(&mut fields, "selector", |d, node| Some(meta::labels(d, node))).unwrap_or_default();
    let several =
        matches!(node.get("ports").map(|entry| &entry.value.value), Some(Value::Sequence(items)) if items.len() > 1);
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    let ports = d.list(&mut fields, "ports", |d, node| {
        let port = service_port(d, node, several, &mut names)?;
        if !numbers.insert((port.protocol, port.port)) {
            let found = format!("{}/{} a second time", port.port, port.protocol);
            d.fault(Fault::new(node.at, ErrorKind::Duplicate, found, "each port and protocol once"));
        }
        Some(port)
    });
    if fields.get("ports").is_none_or(|node| matches!(&node.value, Value::Sequence(items) if items.is_empty()))
        && !headless
        && service_type != ServiceType::ExternalName
    {
        d.missing(node.at, "ports", "at least one port (only headless and ExternalName services have none)");
    }
    d.close(&fields, &["externalIPs", "ipFamilies", "ipFamilyPolicy"]);
    let meta = meta?;
    Some(Service { meta, service_type, cluster_ips, headless, external_name, selector, ports })
}

/// An entry of `clusterIPs`.
#[derive(PartialEq)]
enum ClusterIp {
    None,
    Address(IpAddr),
}

impl std::fmt::Display for ClusterIp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

fn cluster_ip(d: &mut Decoder<'_>, node: &Node) -> Option<ClusterIp> {
    if matches!(&node.value, Value::Scalar(scalar) if &*scalar.text == "None") {
        return Some(ClusterIp::None);
    }
    let text = d.string(node)?;
    if let Ok((address, _)) = values::address(&text) {
        return Some(ClusterIp::Address(address));
    }
    d.refuse(node, "an IPv4 or IPv6 address, or None");
    None
}

fn service_type(d: &mut Decoder<'_>, node: &Node) -> Option<ServiceType> {
    Some(match &*d.string(node)? {
        "" | "ClusterIP" => ServiceType::ClusterIp,
        "NodePort" => ServiceType::NodePort,
        "LoadBalancer" => ServiceType::LoadBalancer,
        "ExternalName" => ServiceType::ExternalName,
        _ => {
            d.refuse(node, "ClusterIP, NodePort, LoadBalancer or ExternalName");
            return None;
        }
    })
}

/// A DNS name, perhaps with the dot of the root.
fn host_name(text: &str) -> Result<(), &'static str> {
    values::subdomain_1123(text.strip_suffix('.').unwrap_or(text))
}

fn service_port(
    d: &mut Decoder<'_>,
    node: &Node,
    several: bool,
    names: &mut BTreeSet<Arc<str>>,
) -> Option<ServicePort> {
    let mut fields = d.fields(node)?;
    let name = d.optional(&mut fields, "name", |d, node| {
        let name = non_empty(d, node, values::label_1123)?;
        if !names.insert(Arc::clone(&name)) {
            let found = format!("{} a second time", quoted(&name));
            d.fault(Fault::new(node.at, ErrorKind::Duplicate, found, "each port name once in a service"));
        }
        Some(name)
    });
    if several && node.get("name").is_none() {
        d.missing(node.at, "name", "a name, as the service has several ports");
    }
    let port = d.required(&mut fields, "port", "1-65535", Decoder::port);
    let target = d.optional(&mut fields, "targetPort", |d, node| match &node.value {
        // The zero values of Go, which generated manifests carry.
        Value::Scalar(scalar) if matches!(&*scalar.text, "" | "0") => None,
        Value::Scalar(_) | Value::Sequence(_) | Value::Mapping(_) => port_ref(d, node),
    });
    let node_port = d.optional(&mut fields, "nodePort", |d, node| {
        d.integer(node, 0, i64::from(u16::MAX)).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
    });
    let protocol = d.optional(&mut fields, "protocol", protocol).unwrap_or(Protocol::Tcp);
    let app_protocol = d.optional(&mut fields, "appProtocol", |d, node| non_empty(d, node, values::qualified_name));
    d.close(&fields, &[]);
    let port = port?;
    let target_port = target.unwrap_or(PortRef::Number(port));
    Some(ServicePort { name, port, target_port, node_port, protocol, app_protocol })
}

pub(super) fn endpoint_slice(d: &mut Decoder<'_>, root: &mut Fields<'_>, meta: Option<ObjectMeta>) -> Option<Object> {
    let family = d.required(root, "addressType", "IPv4, IPv6 or FQDN", |d, node| {
        let text = d.string(node)?;
        if !matches!(&*text, "IPv4" | "IPv6" | "FQDN") {
            d.refuse(node, "IPv4, IPv6 or FQDN");
            return None;
        }
        Some(text)
    })?;
    if &*family == "FQDN" {
        d.note(
            root.node.at,
            Severity::Warning,
            Topic::Skipped,
            "an EndpointSlice of names (addressType FQDN) is skipped: only addresses are served",
        );
        // Read no further, so that nothing is said about what is not looked at.
        for name in ["endpoints", "ports"] {
            root.get(name);
        }
        return None;
    }
    let v4 = &*family == "IPv4";
    let endpoints = d.list(root, "endpoints", |d, node| slice_endpoint(d, node, v4));
    let ports = d.list(root, "ports", slice_port);
    Some(Object::EndpointSlice(Arc::new(EndpointSlice { meta: meta?, endpoints, ports })))
}

fn slice_endpoint(d: &mut Decoder<'_>, node: &Node, v4: bool) -> Option<SliceEndpoint> {
    let mut fields = d.fields(node)?;
    let addresses = d.required(&mut fields, "addresses", "1-100 addresses", |d, node| {
        if let Value::Sequence(items) = &node.value
            && !(1..=100).contains(&items.len())
        {
            d.refuse(node, "1-100 addresses");
        }
        d.items(node, |d, node| {
            let address = address(d, node)?;
            if address.is_ipv4() != v4 {
                d.refuse(node, if v4 { "an IPv4 address (addressType)" } else { "an IPv6 address (addressType)" });
            }
            Some(address)
        })
    });
    let conditions = d.optional(&mut fields, "conditions", |d, node| {
        let mut fields = d.fields(node)?;
        let mut condition = |name| d.optional(&mut fields, name, Decoder::boolean);
        let found = (condition("ready"), condition("serving"), condition("terminating"));
        d.close(&fields, &[]);
        Some(found)
    });
    let (ready, serving, terminating) = conditions.unwrap_or_default();
    let node_name = d.optional(&mut fields, "nodeName", |d, node| non_empty(d, node, values::subdomain_1123));
    let target_pod = d.optional(&mut fields, "targetRef", |d, node| {
        let mut fields = d.fields(node)?;
        let kind = d.optional(&mut fields, "kind", Decoder::string);
        let name = d.optional(&mut fields, "name", Decoder::string);
        name.filter(|_| kind.is_some_and(|kind| &*kind == "Pod"))
    });
    d.close(&fields, &["hints", "hostname", "zone"]);
    let ready = ready.unwrap_or(true);
    Some(SliceEndpoint {
        addresses: addresses?,
        ready,
        serving: serving.unwrap_or(ready),
        terminating: terminating.unwrap_or(false),
        node_name,
        target_pod,
    })
}

fn slice_port(d: &mut Decoder<'_>, node: &Node) -> Option<SlicePort> {
    let mut fields = d.fields(node)?;
    let name = d.optional(&mut fields, "name", |d, node| non_empty(d, node, values::label_1123));
    let port = d.optional(&mut fields, "port", Decoder::port);
    let protocol = d.optional(&mut fields, "protocol", protocol).unwrap_or(Protocol::Tcp);
    d.close(&fields, &["appProtocol"]);
    Some(SlicePort { name: name.unwrap_or_else(|| "".into()), port, protocol })
}
