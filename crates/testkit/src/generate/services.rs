//! Random services: with a selector, and without one, whose endpoints are addresses.

use std::net::IpAddr;

use strait_api::{EndpointSlice, Object, Objects, PortRef, Service, ServicePort, ServiceType, SliceEndpoint};
use strait_base::{Labels, Protocol};

use super::{
    cluster::{labels, meta, namespace},
    words::{POD_LABELS, SERVICE_LABELS, SERVICES, outside},
};
use crate::draw::Draw;

/// Adds up to three services, and perhaps the endpoints of the API server, to `objects`; `hosts` has who can be behind them.
pub(crate) fn services(draw: &mut Draw, hosts: &Objects, objects: &mut Objects) {
    for _ in 0..draw.between(0, 3) {
        let (namespace, name) = (namespace(draw), *draw.pick(&SERVICES));
        let selector = if draw.chance(60) { some_labels(draw) } else { Labels::default() };
        if selector.0.is_empty() {
            let slice = slice(draw, hosts, namespace, name);
            objects.replace(Object::EndpointSlice(slice.into()));
        }
        let service = Service {
            meta: meta(namespace, name, labels(draw, &SERVICE_LABELS, 70)),
            service_type: ServiceType::ClusterIp,
            cluster_ips: Vec::new(),
            headless: false,
            external_name: None,
            selector,
            ports: vec![ServicePort {
                name: None,
                port: 80,
                target_port: PortRef::Number(80),
                node_port: None,
                protocol: Protocol::Tcp,
                app_protocol: None,
            }],
        };
        objects.replace(Object::Service(service.into()));
    }
    if draw.chance(40) {
        let slice = slice(draw, hosts, "default", "kubernetes");
        objects.replace(Object::EndpointSlice(slice.into()));
    }
}

fn some_labels(draw: &mut Draw) -> Labels {
    let (key, values) = *draw.pick(&POD_LABELS);
    [(key, *draw.pick(values))].into_iter().collect()
}

/// Addresses of one family, outside or of pods and nodes.
fn slice(draw: &mut Draw, hosts: &Objects, namespace: &str, name: &str) -> EndpointSlice {
    let v6 = draw.chance(40);
    let mut addresses: Vec<IpAddr> = outside().collect();
    addresses.extend(hosts.pods().flat_map(|pod| pod.pod_ips.clone()));
    addresses.extend(hosts.nodes().flat_map(|node| node.addresses.clone()));
    addresses.retain(|address| address.is_ipv6() == v6);
    let labels = [("kubernetes.io/service-name", name)].into_iter().collect();
    let endpoint = |draw: &mut Draw| SliceEndpoint {
        addresses: vec![*draw.pick(&addresses)],
        ready: true,
        serving: true,
        terminating: false,
        node_name: None,
        target_pod: None,
    };
    EndpointSlice {
        meta: meta(namespace, &format!("{name}-slice"), labels),
        endpoints: (0..draw.between(1, 2)).map(|_| endpoint(draw)).collect(),
        ports: Vec::new(),
    }
}
