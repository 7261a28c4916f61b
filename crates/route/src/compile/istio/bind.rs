//! Virtual services by the gateways that they bind to.

use std::{collections::BTreeMap, sync::Arc};

use strait_api::{
    Kind, Objects,
    istio::{Gateway, ServerHost, VirtualService},
};

use super::{NAMESPACE, Trouble, TroubleKind, age, delegates::Expanded, key_of};
use crate::hosts::intersection;

/// A virtual service, with its delegates' routes in their places.
pub(super) struct Service<'a> {
    pub(super) of: &'a Arc<VirtualService>,
    pub(super) routes: Vec<Expanded<'a>>,
}

/// Virtual services by gateway, as `NAMESPACE/NAME`, the older first.
pub(super) struct Bound<'a> {
    services: Vec<Service<'a>>,
    by_gateway: BTreeMap<Arc<str>, Vec<usize>>,
}

impl<'a> Bound<'a> {
    pub(super) fn new(objects: &'a Objects, troubles: &mut Vec<Trouble>) -> Self {
        let mut all: Vec<&'a Arc<VirtualService>> = objects.virtual_services().collect();
        all.sort_by_cached_key(|of| age(&of.meta));
        let gateways: Vec<String> =
            objects.istio_gateways().map(|of| format!("{}/{}", of.meta.namespace, of.meta.name)).collect();
        let (mut services, mut by_gateway) = (Vec::new(), BTreeMap::<Arc<str>, Vec<usize>>::new());
        for of in &all {
            // Those for the mesh alone are for proxies at pods.
            let named = of.gateways.iter().filter(|name| &***name != "mesh");
            let named: Vec<Arc<str>> = named.map(|name| absolute(name, &of.meta.namespace)).collect();
            if named.is_empty() || of.hosts.is_empty() {
                continue;
            }
            for missing in named.iter().filter(|name| !gateways.iter().any(|other| **other == ***name)) {
                let message = format!("there is no Gateway {missing}: nothing is served there");
                let object = key_of(Kind::VirtualService, &of.meta);
                let location = of.meta.location.clone();
                troubles.push(Trouble { kind: TroubleKind::Missing, object, location, message });
            }
            if !of.export_to.reaches(&of.meta.namespace, NAMESPACE) {
                let object = key_of(Kind::VirtualService, &of.meta);
                let message = format!("exportTo does not reach {NAMESPACE}, where the gate is: it is not served");
                let location = of.meta.location.clone();
                troubles.push(Trouble { kind: TroubleKind::Missing, object, location, message });
                continue;
            }
            let place = services.len();
            services.push(Service { of, routes: super::delegates::expand(of, objects, troubles) });
            for name in named {
                let at = by_gateway.entry(name).or_default();
                if !at.contains(&place) {
                    at.push(place);
                }
            }
        }
        Self { services, by_gateway }
    }

    /// What binds to a gateway, with its place among all.
    pub(super) fn to(&self, gateway: &str) -> impl Iterator<Item = (usize, &Service<'a>)> {
        let places = self.by_gateway.get(gateway).map_or(&[][..], Vec::as_slice);
        places.iter().filter_map(|place| Some((*place, self.services.get(*place)?)))
    }
}

/// The name of a gateway as `NAMESPACE/NAME`; `.` and none are the namespace of who says it.
pub(super) fn absolute(name: &str, home: &str) -> Arc<str> {
    match name.split_once('/') {
        Some((".", name)) => format!("{home}/{name}").into(),
        Some(_) => name.into(),
        None => format!("{home}/{name}").into(),
    }
}

/// A host as tables have it: none for `*`.
pub(super) fn table_name(host: &Arc<str>) -> Option<Arc<str>> {
    (&**host != "*").then(|| Arc::clone(host))
}

/// The hosts that a server and a virtual service have in common: of each pair that overlaps the one that says more.
pub(super) fn common_hosts(
    (gateway, hosts): (&Gateway, &[ServerHost]),
    of: &VirtualService,
    names: &[Arc<str>],
) -> Vec<Option<Arc<str>>> {
    let home = &of.meta.namespace;
    let allowed = |host: &&ServerHost| match host.namespace.as_deref() {
        None => true,
        Some(".") => gateway.meta.namespace == *home,
        Some(namespace) => namespace == &**home,
    };
    let mut out: Vec<Option<Arc<str>>> = Vec::new();
    for server in hosts.iter().filter(allowed) {
        for name in names {
            let full: Arc<str> = super::registry::full_name(name, home);
            let common = intersection(table_name(&server.host).as_ref(), table_name(&full).as_ref());
            out.extend(common.filter(|common| !out.contains(common)));
        }
    }
    out
}
