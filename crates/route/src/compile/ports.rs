//! Listeners to sockets.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    attach::{Listening, terminates},
    gateways::{GatewayState, ListenerState},
    world::Name,
};
use crate::{
    hosts::HostTable,
    plan::{HttpListener, PortPlan, Serve, Terminate, TlsListener, TlsThen, TlsVersions},
};

/// Where something listens: address, whether for datagrams, port.
pub(super) type Place = (IpAddr, bool, u16);

pub(super) fn place(plan: &PortPlan) -> Place {
    (plan.address, plan.serve.is_udp(), plan.port)
}

/// Puts the ports of some listeners together again, and of all where `all`: then those that no gateway has are gone. Gives how many.
pub(super) fn update(
    ports: &mut BTreeMap<Place, Arc<PortPlan>>,
    gateways: &BTreeMap<Name, GatewayState>,
    tables: &BTreeMap<Name, Vec<Listening>>,
    touched: &BTreeMap<Name, BTreeSet<usize>>,
    all: bool,
) -> usize {
    let mut wanted: BTreeSet<Place> = BTreeSet::new();
    for (state, listeners) in touched.iter().filter_map(|(name, of)| Some((gateways.get(name)?, of))) {
        let of = places(state).filter(|(_, _, listener)| all || listeners.contains(listener));
        wanted.extend(of.map(|(place, ..)| place));
    }
    if wanted.is_empty() && !all {
        return 0;
    }
    let mut fresh: BTreeMap<Place, PortPlan> = BTreeMap::new();
    for (name, state) in gateways {
        let of = tables.get(name).map_or(&[][..], Vec::as_slice);
        for (place, listener, routes) in places(state) {
            if !wanted.contains(&place) {
                continue;
            }
            let plan = fresh.entry(place).or_insert_with(|| PortPlan {
                address: place.0,
                port: place.2,
                gateway: format!("{}/{}", name.0, name.1).into(),
                trusted_proxies: state.trusted_proxies,
                serve: empty(&listener.listener.protocol),
            });
            if let Some(routes) = of.get(routes) {
                add(&mut plan.serve, listener, routes);
            }
        }
    }
    if all {
        ports.clear();
    }
    let count = fresh.len();
    ports.extend(fresh.into_iter().map(|(place, plan)| (place, Arc::new(plan))));
    count
}

/// Where a gateway listens, with the listener and its place.
fn places(state: &GatewayState) -> impl Iterator<Item = (Place, &ListenerState, usize)> {
    let listeners =
        state.listeners.iter().enumerate().filter(|(_, listener)| state.is_accepted() && listener.is_served());
    listeners.flat_map(|(index, listener)| {
        let of = &listener.listener;
        let place = move |address: &IpAddr| ((*address, &*of.protocol == "UDP", of.port), listener, index);
        state.addresses.iter().map(place)
    })
}

fn empty(protocol: &str) -> Serve {
    match protocol {
        "HTTP" => Serve::Http(HostTable::default()),
        "TCP" => Serve::Tcp(None),
        "UDP" => Serve::Udp(None),
        _ => Serve::Tls(HostTable::default()),
    }
}

/// Listeners of one port speak the same: what does not is in conflict, and not served.
fn add(serve: &mut Serve, listener: &ListenerState, routes: &Listening) {
    let of = &listener.listener;
    let name = || Arc::clone(&of.name);
    match serve {
        Serve::Http(hosts) => {
            hosts.entry(of.hostname.as_ref(), || HttpListener { name: name(), hosts: routes.http.clone() });
        }
        Serve::Tls(names) => {
            let terminate = || Terminate {
                certificates: listener.certificates.clone(),
                clients: listener.clients.clone(),
                versions: TlsVersions::default(),
            };
            let then = match (&*of.protocol, terminates(of)) {
                ("HTTPS", _) => TlsThen::Http(terminate(), HttpListener { name: name(), hosts: routes.http.clone() }),
                (_, true) => TlsThen::Tcp(terminate(), routes.l4.clone()),
                (_, false) => TlsThen::Passthrough(routes.l4.clone()),
            };
            names.entry(of.hostname.as_ref(), || TlsListener { name: name(), then });
        }
        Serve::Tcp(split) | Serve::Udp(split) => *split = routes.l4.get(None).cloned(),
    }
}
