//! Services and endpoint slices as manifests.

use strait_api::{EndpointSlice, PortRef, Service};

use super::{Value, head, labels, list, plain, text};

type Fields = Vec<(&'static str, Value)>;

pub(super) fn service_manifest(service: &Service) -> Fields {
    let mut document = head("v1", "Service", &service.meta);
    let mut spec = Vec::new();
    if !service.selector.0.is_empty() {
        spec.push(("selector", labels(&service.selector)));
    }
    let ports = list(&service.ports, |port| {
        let mut fields = vec![("port", plain(&port.port)), ("protocol", plain(&port.protocol))];
        fields.extend(port.name.as_ref().map(|name| ("name", text(name))));
        fields.push(match &port.target_port {
            PortRef::Number(number) => ("targetPort", plain(number)),
            PortRef::Name(name) => ("targetPort", text(name)),
        });
        Value::Map(fields)
    });
    spec.push(("ports", ports));
    document.push(("spec", Value::Map(spec)));
    document
}

pub(super) fn slice_manifest(slice: &EndpointSlice) -> Fields {
    let mut document = head("discovery.k8s.io/v1", "EndpointSlice", &slice.meta);
    let v6 = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses).any(std::net::IpAddr::is_ipv6);
    document.push(("addressType", plain(if v6 { "IPv6" } else { "IPv4" })));
    let endpoints = list(&slice.endpoints, |endpoint| Value::Map(vec![("addresses", list(&endpoint.addresses, text))]));
    document.push(("endpoints", endpoints));
    document
}
