//! `VirtualService`: what routes have in common, and those of TLS and TCP. Those of HTTP are in `http`.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    super::{
        decode::{Decoder, Fields},
        gateway_values::{bounded, lower, twice},
        report::ErrorKind,
        text::Fault,
        tree::{Node, quoted},
        values as names,
    },
    http,
    values::{
        export_to, gateways, is_wildcard_host, label_strings, maybe, port_selector, subnet, unenforced, wildcard_host,
    },
};
use crate::types::{
    Object, ObjectMeta,
    istio::{ConnectionMatch, Destination, RouteDestination, TcpMatch, TcpRoute, TlsMatch, TlsRoute, VirtualService},
};

/// More than these of a kind of routes are read by nobody.
const ROUTES: usize = 8192;

pub(in super::super) fn virtual_service(
    d: &mut Decoder<'_>,
    root: &mut Fields<'_>,
    meta: Option<ObjectMeta>,
) -> Option<Object> {
    let spec = d.required(root, "spec", "an object with hosts and routes", |d, node| {
        let before = d.errors.len();
        let mut fields = d.fields(node)?;
        let hosts = hosts(d, &mut fields);
        let gateways = gateways(d, &mut fields);
        let is_delegate = hosts.is_empty();
        let http = bounded(d, &mut fields, "http", (0, ROUTES), |d, node| http::route(d, node, is_delegate));
        let tls = bounded(d, &mut fields, "tls", (0, ROUTES), |d, node| tls_route(d, node, &hosts));
        let tcp = bounded(d, &mut fields, "tcp", (0, ROUTES), tcp_route);
        let export_to = export_to(d, &mut fields);
        d.close(&fields, &[]);
        if d.errors.len() > before {
            return None;
        }
        let mut refuse = |found: &str, allowed: &str| {
            d.fault(Fault::new(node.at, ErrorKind::Value, found, allowed));
        };
        if http.is_empty() && tls.is_empty() && tcp.is_empty() {
            refuse("no routes", "http, tls or tcp");
        }
        if is_delegate && !gateways.is_empty() {
            refuse("gateways without hosts", "hosts; a delegate, which has none, has no gateways either");
        }
        if is_delegate && !(tls.is_empty() && tcp.is_empty()) {
            refuse("tls or tcp without hosts", "hosts; a delegate, which has none, has http alone");
        }
        let in_mesh = gateways.is_empty() || gateways.iter().any(|name| &**name == "mesh");
        if in_mesh && hosts.iter().any(|host| &**host == "*") {
            refuse("the host \"*\" for the mesh", "hosts that say more, or gateways without mesh");
        }
        Some(VirtualService { meta: meta?, hosts, gateways, http, tls, tcp, export_to })
    });
    Some(Object::VirtualService(Arc::new(spec?)))
}

fn hosts(d: &mut Decoder<'_>, fields: &mut Fields<'_>) -> Vec<Arc<str>> {
    let mut seen = BTreeSet::new();
    bounded(d, fields, "hosts", (0, 1024), |d, node| {
        let text = d.string(node)?;
        if text.parse::<std::net::IpAddr>().is_err() && !is_wildcard_host(&text) {
            d.refuse(node, "a DNS name, perhaps with \"*.\" before it, \"*\" or an address");
            return None;
        }
        let host = lower(text);
        if !seen.insert(Arc::clone(&host)) {
            twice(d, node, &host, "each host once");
        }
        Some(host)
    })
}

/// A `destination`.
pub(super) fn destination(d: &mut Decoder<'_>, node: &Node) -> Option<Destination> {
    let location = d.location(node.at);
    let mut fields = d.fields(node)?;
    let host = d.required(&mut fields, "host", "the host of a service", |d, node| {
        let text = d.string(node)?;
        if &*text == "*" {
            d.refuse(node, "a host that is not \"*\"");
            return None;
        }
        wildcard_host(d, node)
    });
    let subset = d.optional(&mut fields, "subset", |d, node| {
        if d.string(node)?.is_empty() { None } else { d.checked(node, names::label_1123) }
    });
    let port = port_selector(d, &mut fields);
    d.close(&fields, &[]);
    Some(Destination { host: host?, subset, port, location })
}

/// What weights of several come to: more than nothing.
pub(super) fn check_weights(d: &mut Decoder<'_>, node: &Node, weights: &[u32]) {
    if weights.len() > 1 && weights.iter().all(|weight| *weight == 0) {
        let fault = Fault::new(node.at, ErrorKind::Value, "weights that are all 0", "at least one weight above 0");
        d.fault(fault);
    }
}

/// `weight`; where there is one destination it gets everything.
pub(super) fn weight(d: &mut Decoder<'_>, fields: &mut Fields<'_>) -> u32 {
    d.optional(fields, "weight", Decoder::natural).unwrap_or(0)
}

fn route_destinations(d: &mut Decoder<'_>, fields: &mut Fields<'_>) -> Vec<RouteDestination> {
    let node = fields.node;
    let mut all = bounded(d, fields, "route", (1, 256), |d, node| {
        let mut fields = d.fields(node)?;
        let destination = d.required(&mut fields, "destination", "an object with host", destination);
        let weight = weight(d, &mut fields);
        d.close(&fields, &[]);
        Some(RouteDestination { destination: destination?, weight })
    });
    check_weights(d, node, &all.iter().map(|of| of.weight).collect::<Vec<_>>());
    if let [only] = all.as_mut_slice() {
        only.weight = only.weight.max(1);
    }
    all
}

fn tls_route(d: &mut Decoder<'_>, node: &Node, hosts: &[Arc<str>]) -> Option<TlsRoute> {
    let location = d.location(node.at);
    let mut fields = d.fields(node)?;
    let matches = bounded(d, &mut fields, "match", (1, 256), |d, node| {
        let mut fields = d.fields(node)?;
        let sni_hosts = bounded(d, &mut fields, "sniHosts", (1, 1024), |d, node| {
            let name = wildcard_host(d, node)?;
            if !hosts.is_empty() && !hosts.iter().any(|host| is_within(&name, host)) {
                d.refuse(node, "a name within one of the virtual service's hosts");
            }
            Some(name)
        });
        let connection = connection_match(d, &mut fields);
        d.close(&fields, &[]);
        Some(TlsMatch { sni_hosts, connection })
    });
    let route = route_destinations(d, &mut fields);
    d.close(&fields, &[]);
    Some(TlsRoute { matches, route, location })
}

/// Whether all names that `narrow` covers are covered by `wide`.
fn is_within(narrow: &str, wide: &str) -> bool {
    match wide.strip_prefix('*') {
        Some(suffix) => narrow.strip_prefix('*').unwrap_or(narrow).ends_with(suffix),
        None => narrow == wide,
    }
}

fn tcp_route(d: &mut Decoder<'_>, node: &Node) -> Option<TcpRoute> {
    let location = d.location(node.at);
    let mut fields = d.fields(node)?;
    let matches = bounded(d, &mut fields, "match", (0, 256), |d, node| {
        let mut fields = d.fields(node)?;
        let source_subnet = d.optional(&mut fields, "sourceSubnet", |d, node| {
            unenforced(d, node, "what a client's address decides is not known yet: this match takes no connection");
            subnet(d, node)
        });
        let connection = connection_match(d, &mut fields);
        d.close(&fields, &[]);
        Some(TcpMatch { source_subnet, connection })
    });
    let route = route_destinations(d, &mut fields);
    d.close(&fields, &[]);
    Some(TcpRoute { matches, route, location })
}

fn connection_match(d: &mut Decoder<'_>, fields: &mut Fields<'_>) -> ConnectionMatch {
    ConnectionMatch {
        destination_subnets: bounded(d, fields, "destinationSubnets", (0, 256), subnet),
        port: d.optional(fields, "port", Decoder::port),
        source_labels: label_strings(d, fields, "sourceLabels"),
        source_namespace: source_namespace(d, fields),
        gateways: gateways(d, fields),
        location: d.location(fields.node.at),
    }
}

/// `sourceNamespace`.
pub(super) fn source_namespace(d: &mut Decoder<'_>, fields: &mut Fields<'_>) -> Option<Arc<str>> {
    d.optional(fields, "sourceNamespace", |d, node| {
        if d.string(node)?.is_empty() { None } else { d.checked(node, names::label_1123) }
    })
}

/// The `name` of something and its `namespace`.
pub(super) fn named(d: &mut Decoder<'_>, node: &Node) -> Option<(Arc<str>, Option<Arc<str>>)> {
    let mut fields = d.fields(node)?;
    let name = d.required(&mut fields, "name", "the name of a VirtualService", |d, node| {
        d.checked(node, names::subdomain_1123)
    });
    let namespace = maybe(d, &mut fields, "namespace");
    d.close(&fields, &[]);
    Some((name?, namespace))
}

/// An authority: a host, perhaps with a port.
pub(super) fn authority(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    let text = d.string(node)?;
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') && !port.ends_with(']') => (name, Some(port)),
        _ => (&*text, None),
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let known = super::values::is_host(name) || address.is_some_and(|name| name.parse::<std::net::IpAddr>().is_ok());
    if !known || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        d.fault(Fault::new(node.at, ErrorKind::Value, quoted(&text), "a host, perhaps with a port, as a.example:8080"));
        return None;
    }
    Some(text)
}
