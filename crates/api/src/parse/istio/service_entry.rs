//! `ServiceEntry` and `WorkloadEntry`.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use super::{
    super::{
        decode::{Decoder, Fields},
        gateway_values::{bounded, lower, twice},
        report::ErrorKind,
        text::Fault,
        tree::Node,
    },
    values::{
        any_key, choice, count, entries, export_to, is_host, is_wildcard_host, labels, maybe, not_enforced, protocol,
        selector, subnet, text, texts,
    },
};
use crate::types::{
    Object, ObjectMeta,
    istio::{
        EntryPort, MeshLocation, PortProtocol, Resolution, ServiceEntry, Workload, WorkloadAddress, WorkloadEntry,
    },
};

const RESOLUTIONS: [(&str, Resolution); 5] = [
    ("NONE", Resolution::None),
    ("STATIC", Resolution::Static),
    ("DNS", Resolution::Dns),
    ("DNS_ROUND_ROBIN", Resolution::DnsRoundRobin),
    ("DYNAMIC_DNS", Resolution::DynamicDns),
];

pub(in super::super) fn service_entry(
    d: &mut Decoder<'_>,
    root: &mut Fields<'_>,
    meta: Option<ObjectMeta>,
) -> Option<Object> {
    const LOCATIONS: [(&str, MeshLocation); 2] =
        [("MESH_EXTERNAL", MeshLocation::MeshExternal), ("MESH_INTERNAL", MeshLocation::MeshInternal)];
    let spec = d.required(root, "spec", "an object with hosts and ports", |d, node| {
        let before = d.errors.len();
        let mut fields = d.fields(node)?;
        let entry = ServiceEntry {
            hosts: bounded(d, &mut fields, "hosts", (1, 256), host),
            addresses: bounded(d, &mut fields, "addresses", (0, 256), subnet),
            ports: ports(d, &mut fields),
            mesh: choice(d, &mut fields, "location", &LOCATIONS).unwrap_or_default(),
            resolution: choice(d, &mut fields, "resolution", &RESOLUTIONS).unwrap_or_default(),
            endpoints: bounded(d, &mut fields, "endpoints", (0, 4096), workload),
            workload_selector: selector(d, &mut fields, "workloadSelector", "labels"),
            export_to: export_to(d, &mut fields),
            subject_alt_names: texts(d, &mut fields, "subjectAltNames"),
            meta: meta?,
        };
        let why = match entry.resolution {
            Resolution::None => Some("the gate knows no address that a client asked for: requests get a 503"),
            Resolution::DynamicDns => Some("names that requests bring are not resolved yet: they get a 503"),
            Resolution::Static | Resolution::Dns | Resolution::DnsRoundRobin => None,
        };
        if let Some(why) = why {
            not_enforced(d, &mut fields, "resolution", why);
        }
        d.close(&fields, &[]);
        if d.errors.len() == before {
            check(d, node, &entry);
        }
        Some(entry)
    });
    Some(Object::ServiceEntry(Arc::new(spec?)))
}

fn host(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    let text = d.string(node)?;
    if !is_wildcard_host(&text) || &*text == "*" {
        d.refuse(node, "a DNS name, perhaps with \"*.\" before it");
        return None;
    }
    Some(lower(text))
}

fn ports(d: &mut Decoder<'_>, fields: &mut Fields<'_>) -> Vec<EntryPort> {
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    bounded(d, fields, "ports", (0, 256), |d, node| {
        let mut fields = d.fields(node)?;
        let number = d.required(&mut fields, "number", "a port, 1-65535", Decoder::port);
        let spoken = d.optional(&mut fields, "protocol", |d, node| {
            if d.string(node)?.is_empty() { Some(PortProtocol::Tcp) } else { protocol(d, node) }
        });
        let unknown = node.get("protocol").is_some_and(|entry| !entry.value.is_null()) && spoken.is_none();
        let name = d.required(&mut fields, "name", "a name", text);
        let target_port = d.optional(&mut fields, "targetPort", Decoder::port);
        d.close(&fields, &[]);
        let (number, name) = (number?, name?);
        if !numbers.insert(number) {
            twice(d, node, &number.to_string(), "each number once");
        }
        if !names.insert(Arc::clone(&name)) {
            twice(d, node, &name, "each name once");
        }
        if unknown {
            None
        } else {
            Some(EntryPort { number, protocol: spoken.unwrap_or(PortProtocol::Tcp), name, target_port })
        }
    })
}

/// What a way of resolving asks for.
fn check(d: &mut Decoder<'_>, node: &Node, entry: &ServiceEntry) {
    let mut refuse = |found: &str, allowed: &str| d.fault(Fault::new(node.at, ErrorKind::Value, found, allowed));
    let wildcard = entry.hosts.iter().any(|host| host.starts_with('*'));
    if entry.workload_selector.is_some() && !entry.endpoints.is_empty() {
        refuse("endpoints beside workloadSelector", "one of the two");
    }
    match entry.resolution {
        Resolution::None => {
            if !entry.endpoints.is_empty() {
                refuse("endpoints that resolution NONE does not use", "resolution STATIC or DNS");
            }
        }
        Resolution::Static => {
            if entry.endpoints.is_empty() && entry.workload_selector.is_none() {
                refuse("resolution STATIC without endpoints", "endpoints or workloadSelector");
            }
            if entry.endpoints.iter().any(|of| matches!(of.address, Some(WorkloadAddress::Name(_)))) {
                refuse("an endpoint with a name", "addresses, or resolution DNS");
            }
        }
        Resolution::Dns | Resolution::DnsRoundRobin => {
            if entry.endpoints.is_empty() && entry.workload_selector.is_none() && wildcard {
                refuse("a wildcard that cannot be resolved", "hosts without wildcards, or endpoints");
            }
            if entry.resolution == Resolution::DnsRoundRobin && entry.endpoints.len() > 1 {
                refuse("several endpoints with DNS_ROUND_ROBIN", "at most one endpoint");
            }
            if entry.endpoints.iter().any(|of| matches!(of.address, Some(WorkloadAddress::Unix(_)))) {
                refuse("an endpoint with a socket", "addresses and names, or resolution STATIC");
            }
        }
        Resolution::DynamicDns => {
            if !entry.endpoints.is_empty() || entry.workload_selector.is_some() {
                refuse("endpoints beside DYNAMIC_DNS", "no endpoints");
            }
            if !entry.hosts.iter().all(|host| host.starts_with('*')) {
                refuse("a host without a wildcard", "wildcards, or resolution DNS");
            }
        }
    }
    let known = |name: &Arc<str>| entry.ports.iter().any(|port| port.name == *name);
    if let Some(name) = entry.endpoints.iter().flat_map(|of| of.ports.keys()).find(|name| !known(name)) {
        refuse(&format!("an endpoint's port {name}"), "names of ports of the entry");
    }
    if entry.ports.is_empty() {
        d.missing(node.at, "ports", "at least one port");
    }
}

/// A workload: one of `endpoints`, or the `spec` of a `WorkloadEntry`.
fn workload(d: &mut Decoder<'_>, node: &Node) -> Option<Workload> {
    let location = d.location(node.at);
    let before = d.errors.len();
    let mut fields = d.fields(node)?;
    let address = d.optional(&mut fields, "address", address);
    let ports = entries(d, &mut fields, "ports", any_key, port_number);
    let workload = Workload {
        address,
        ports,
        labels: labels(d, &mut fields, "labels"),
        network: maybe(d, &mut fields, "network"),
        locality: maybe(d, &mut fields, "locality"),
        weight: count(d, &mut fields, "weight"),
        service_account: maybe(d, &mut fields, "serviceAccount"),
        location,
    };
    not_enforced(d, &mut fields, "weight", "endpoints get equal shares");
    not_enforced(d, &mut fields, "locality", "endpoints of all localities are taken in turn");
    not_enforced(d, &mut fields, "network", "the address is connected to as it is");
    d.close(&fields, &[]);
    if d.errors.len() > before {
        return None;
    }
    let mut refuse = |found: &str, allowed: &str| d.fault(Fault::new(node.at, ErrorKind::Value, found, allowed));
    match &workload.address {
        None if workload.network.is_none() => refuse("neither address nor network", "an address"),
        Some(WorkloadAddress::Unix(_)) if !workload.ports.is_empty() => refuse("ports beside a socket", "none"),
        _ => {}
    }
    Some(workload)
}

fn port_number(d: &mut Decoder<'_>, node: &Node) -> Option<u16> {
    d.port(node)
}

fn address(d: &mut Decoder<'_>, node: &Node) -> Option<WorkloadAddress> {
    let text = d.string(node)?;
    if text.is_empty() {
        return None;
    }
    if let Some(path) = text.strip_prefix("unix://") {
        if !path.starts_with(['/', '@']) || path.len() < 2 || path.ends_with('/') {
            d.refuse(node, "the absolute path of a socket after unix://");
            return None;
        }
        d.warn(node.at, super::super::report::Topic::NotEnforced, "sockets are not connected to yet");
        return Some(WorkloadAddress::Unix(path.into()));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(WorkloadAddress::Ip(address));
    }
    if !is_host(&text) {
        d.refuse(node, "an address, a DNS name or unix://PATH");
        return None;
    }
    Some(WorkloadAddress::Name(lower(text)))
}

pub(in super::super) fn workload_entry(
    d: &mut Decoder<'_>,
    root: &mut Fields<'_>,
    meta: Option<ObjectMeta>,
) -> Option<Object> {
    let spec = d.required(root, "spec", "an object with address", workload);
    Some(Object::WorkloadEntry(Arc::new(WorkloadEntry { meta: meta?, workload: spec? })))
}
