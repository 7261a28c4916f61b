//! Cluster addresses and endpoint slices of services.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use strait_api::{
    EndpointSlice, Kind, Object, ObjectKey, ObjectMeta, Objects, Pod, PortRef, Service, ServicePort, ServiceType,
    SliceEndpoint, SlicePort,
};
use strait_base::Labels;

use crate::{
    Options,
    addresses::{self, SERVICES_V4, SERVICES_V6},
    labels::{self, MANAGED_BY, SERVICE_NAME, SLICES_MANAGED_BY},
};

/// Gives services their cluster addresses and, where manifests have none, their slices.
pub(crate) fn settle(objects: &mut Objects, options: &Options, previous: &Objects, remarks: &mut Vec<String>) {
    assign(objects, options, previous, remarks);
    remove_own_slices(objects);
    let by_hand: BTreeSet<(Arc<str>, String)> = objects
        .endpoint_slices()
        .filter_map(|slice| Some((Arc::clone(&slice.meta.namespace), slice.meta.labels.get(SERVICE_NAME)?.to_owned())))
        .collect();
    let slices: Vec<EndpointSlice> = objects
        .services()
        .filter(|service| service.service_type != ServiceType::ExternalName && !service.selector.0.is_empty())
        .filter(|service| !by_hand.contains(&(Arc::clone(&service.meta.namespace), service.meta.name.to_string())))
        .flat_map(|service| slices(service, objects))
        .collect();
    for slice in slices {
        if let Err(other) = objects.insert(Object::EndpointSlice(slice.into())) {
            remarks.push(format!(
                "{}: {} has the name of a slice that its service would get; that one is left out",
                other.meta().location,
                other.key()
            ));
        }
    }
}

fn wants_addresses(service: &Service) -> bool {
    !service.headless && service.service_type != ServiceType::ExternalName
}

/// Addresses that manifests give are kept unless two services give one; a service without any gets one of each family.
fn assign(objects: &mut Objects, options: &Options, previous: &Objects, remarks: &mut Vec<String>) {
    let mut services: Vec<Service> =
        objects.services().filter(|service| wants_addresses(service)).map(|service| Service::clone(service)).collect();
    let mut used: BTreeSet<IpAddr> = BTreeSet::new();
    for service in &mut services {
        let meta = &service.meta;
        service.cluster_ips.retain(|address| {
            let free = used.insert(*address);
            if !free {
                remarks.push(format!(
                    "{}: Service {}/{} cannot have clusterIP {address}: another has it; it gets the next free one",
                    meta.location, meta.namespace, meta.name
                ));
            }
            free
        });
    }
    let ranges: Vec<IpNet> =
        if options.ipv6 { vec![SERVICES_V4.into(), SERVICES_V6.into()] } else { vec![SERVICES_V4.into()] };
    let without: Vec<usize> =
        services.iter().enumerate().filter(|(_, service)| service.cluster_ips.is_empty()).map(|(at, _)| at).collect();
    for &at in &without {
        let key = ObjectKey {
            kind: Kind::Service,
            namespace: Arc::clone(&services[at].meta.namespace),
            name: Arc::clone(&services[at].meta.name),
        };
        let Some(Object::Service(before)) = previous.get(&key) else { continue };
        for range in &ranges {
            let had = before.cluster_ips.iter().find(|address| range.contains(*address) && !used.contains(address));
            services[at].cluster_ips.extend(had.inspect(|address| {
                used.insert(**address);
            }));
        }
    }
    for range in ranges {
        let mut free = addresses::services_of(range);
        for &at in &without {
            let service = &mut services[at];
            if service.cluster_ips.iter().any(|own| addresses::same_family(*own, range.addr())) {
                continue;
            }
            if let Some(address) = free.find(|address| !used.contains(address)) {
                used.insert(address);
                service.cluster_ips.push(address);
            } else {
                let ObjectMeta { location, namespace, name, .. } = &service.meta;
                remarks.push(format!("{location}: Service {namespace}/{name} gets no address of {range}: it is full"));
            }
        }
    }
    for mut service in services {
        service.cluster_ips.sort_by_key(IpAddr::is_ipv6);
        objects.replace(Object::Service(service.into()));
    }
}

/// Slices of an earlier expansion are made anew.
fn remove_own_slices(objects: &mut Objects) {
    let own: Vec<ObjectKey> = objects
        .endpoint_slices()
        .filter(|slice| slice.meta.labels.get(MANAGED_BY) == Some(SLICES_MANAGED_BY))
        .map(|slice| Object::EndpointSlice(Arc::clone(slice)).key())
        .collect();
    for key in own {
        objects.remove(&key);
    }
}

/// One slice for each family and each set of ports that the service's named ports come to in its pods.
fn slices(service: &Service, objects: &Objects) -> Vec<EndpointSlice> {
    let mut by_ports: BTreeMap<(bool, Vec<ResolvedPort>), Vec<SliceEndpoint>> = BTreeMap::new();
    for pod in objects.pods().filter(|pod| selects(service, pod)) {
        let ports: Vec<ResolvedPort> = service.ports.iter().filter_map(|port| resolve(port, pod)).collect();
        for address in &pod.pod_ips {
            let any = &service.cluster_ips;
            if !any.is_empty() && !any.iter().any(|own| addresses::same_family(*own, *address)) {
                continue;
            }
            by_ports.entry((address.is_ipv6(), ports.clone())).or_default().push(SliceEndpoint {
                addresses: vec![*address],
                ready: true,
                serving: true,
                terminating: false,
                node_name: pod.spec.node_name.clone(),
                target_pod: Some(Arc::clone(&pod.meta.name)),
            });
        }
    }
    by_ports.into_iter().map(|((v6, ports), endpoints)| slice(service, v6, &ports, endpoints)).collect()
}

/// Name, protocol number, port.
type ResolvedPort = (Arc<str>, strait_base::Protocol, u16);

fn slice(service: &Service, v6: bool, ports: &[ResolvedPort], endpoints: Vec<SliceEndpoint>) -> EndpointSlice {
    let family = if v6 { "ipv6" } else { "ipv4" };
    let name = format!("{}-{family}-{}", service.meta.name, labels::short_hash(&format!("{ports:?}")));
    EndpointSlice {
        meta: ObjectMeta {
            name: name.into(),
            namespace: Arc::clone(&service.meta.namespace),
            labels: Labels::from_iter([(SERVICE_NAME, &*service.meta.name), (MANAGED_BY, SLICES_MANAGED_BY)]),
            annotations: BTreeMap::new().into(),
            generation: 1,
            created: None,
            location: service.meta.location.clone(),
        },
        endpoints,
        ports: ports
            .iter()
            .map(|(name, protocol, port)| SlicePort { name: Arc::clone(name), port: Some(*port), protocol: *protocol })
            .collect(),
    }
}

fn selects(service: &Service, pod: &Pod) -> bool {
    pod.meta.namespace == service.meta.namespace
        && service.selector.iter().all(|(key, value)| pod.meta.labels.get(key) == Some(value))
}

/// As the endpoint slice controller: a name stands for the container port of that name and protocol; a pod that has none does not
/// serve the port.
fn resolve(port: &ServicePort, pod: &Pod) -> Option<ResolvedPort> {
    let number = match &port.target_port {
        PortRef::Number(number) => *number,
        PortRef::Name(name) => {
            let ports = pod.spec.containers.iter().flat_map(|container| &container.ports);
            let mut fitting =
                ports.filter(|declared| declared.name.as_ref() == Some(name) && declared.protocol == port.protocol);
            fitting.next()?.container_port
        }
    };
    Some((port.name.clone().unwrap_or_default(), port.protocol, number))
}
