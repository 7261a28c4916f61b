//! Listeners to sockets.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{
    attach::{At, terminates},
    gateways::{GatewayState, ListenerState},
};
use crate::{
    hosts::HostTable,
    matching::PathTable,
    ordered::RouteTable,
    plan::{HttpListener, PortPlan, Serve, Split, Terminate, TlsListener, TlsThen, TlsVersions},
};

/// What every gateway's listeners come to, port by port.
pub(super) fn ports(
    gateways: &[GatewayState<'_>],
    mut http: BTreeMap<At, HostTable<PathTable>>,
    mut l4: BTreeMap<At, HostTable<Split>>,
) -> Vec<PortPlan> {
    let mut ports: BTreeMap<(IpAddr, bool, u16), PortPlan> = BTreeMap::new();
    for (index, state) in gateways.iter().enumerate() {
        let addresses = state.addresses.split_last().filter(|_| state.is_accepted());
        let Some((last, others)) = addresses else { continue };
        for (place, listener) in state.listeners.iter().enumerate().filter(|(_, listener)| listener.is_served()) {
            let of = listener.listener;
            let routes = Routes {
                http: http.remove(&(index, place)).unwrap_or_default(),
                l4: l4.remove(&(index, place)).unwrap_or_default(),
            };
            let udp = &*of.protocol == "UDP";
            let meta = &state.gateway.meta;
            let mut serve = |address: IpAddr, routes: Routes| {
                let plan = ports.entry((address, udp, of.port)).or_insert_with(|| PortPlan {
                    address,
                    port: of.port,
                    gateway: format!("{}/{}", meta.namespace, meta.name).into(),
                    serve: empty(&of.protocol),
                });
                add(&mut plan.serve, listener, routes);
            };
            for address in others {
                serve(*address, routes.clone());
            }
            serve(*last, routes);
        }
    }
    ports.into_values().collect()
}

/// The routes of one listener.
#[derive(Clone)]
struct Routes {
    http: HostTable<PathTable>,
    l4: HostTable<Split>,
}

fn empty(protocol: &str) -> Serve {
    match protocol {
        "HTTP" => Serve::Http(HostTable::default()),
        "TCP" => Serve::Tcp(None),
        "UDP" => Serve::Udp(None),
        _ => Serve::Tls(HostTable::default()),
    }
}

fn by_precedence(hosts: HostTable<PathTable>) -> HostTable<RouteTable> {
    hosts.map(RouteTable::Precedence)
}

/// Listeners of one port speak the same: what does not is in conflict, and not served.
fn add(serve: &mut Serve, listener: &ListenerState<'_>, routes: Routes) {
    let of = listener.listener;
    let name = || Arc::clone(&of.name);
    match serve {
        Serve::Http(hosts) => {
            hosts.entry(of.hostname.as_ref(), || HttpListener { name: name(), hosts: by_precedence(routes.http) });
        }
        Serve::Tls(names) => {
            let terminate = || Terminate {
                certificates: listener.certificates.clone(),
                clients: listener.clients.clone(),
                versions: TlsVersions::default(),
            };
            let then = match (&*of.protocol, terminates(of)) {
                ("HTTPS", _) => {
                    TlsThen::Http(terminate(), HttpListener { name: name(), hosts: by_precedence(routes.http) })
                }
                (_, true) => TlsThen::Tcp(terminate(), routes.l4),
                (_, false) => TlsThen::Passthrough(routes.l4),
            };
            names.entry(of.hostname.as_ref(), || TlsListener { name: name(), then });
        }
        Serve::Tcp(split) | Serve::Udp(split) => *split = routes.l4.get(None).cloned(),
    }
}
