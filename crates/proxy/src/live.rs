//! A plan with what serving it needs: TLS configurations, made once.

use std::{collections::BTreeMap, sync::Arc};

use rustls::{ClientConfig, ServerConfig};
use strait_route::{Backend, HttpListener, Plan, Serve, TlsThen};

use crate::tls;

/// A plan, ready to be served. Shared by workers; each holds it by one pointer that it swaps.
pub(crate) struct Live {
    pub(crate) plan: Plan,
    /// By port and listener: how its handshake is done.
    servers: BTreeMap<(usize, Arc<str>), Result<Arc<ServerConfig>, tls::Unusable>>,
    /// By back end: how TLS is spoken to it; none where it is not.
    clients: Vec<Option<Result<Arc<ClientConfig>, tls::Unusable>>>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Live {
    pub(crate) fn new(plan: Plan) -> Self {
        let mut servers = BTreeMap::new();
        for (index, port) in plan.ports.iter().enumerate() {
            let Serve::Tls(listeners) = &port.serve else { continue };
            for (_, listener) in listeners.iter() {
                let (terminate, http) = match &listener.then {
                    TlsThen::Http(terminate, _) => (terminate, true),
                    TlsThen::Tcp(terminate, _) => (terminate, false),
                    TlsThen::Passthrough(_) => continue,
                };
                let config = tls::server(terminate, &plan.certificates, http);
                servers.insert((index, Arc::clone(&listener.name)), config);
            }
        }
        let client = |backend: &Backend| backend.tls.as_ref().map(|of| tls::client(of, &plan.certificates));
        let clients = plan.backends.iter().map(client).collect();
        Self { plan, servers, clients }
    }

    /// The index of a stream port.
    pub(crate) fn port(&self, address: std::net::IpAddr, port: u16) -> Option<usize> {
        self.place(address, false, port)
    }

    /// The index of a datagram port.
    pub(crate) fn datagram_port(&self, address: std::net::IpAddr, port: u16) -> Option<usize> {
        self.place(address, true, port)
    }

    fn place(&self, address: std::net::IpAddr, udp: bool, port: u16) -> Option<usize> {
        let key = |plan: &strait_route::PortPlan| (plan.address, plan.serve.is_udp(), plan.port);
        self.plan.ports.binary_search_by_key(&(address, udp, port), key).ok()
    }

    /// How the handshake of a listener is done.
    pub(crate) fn server(&self, port: usize, listener: &Arc<str>) -> Option<&Arc<ServerConfig>> {
        self.servers.get(&(port, Arc::clone(listener)))?.as_ref().ok()
    }

    /// How TLS is spoken to a back end; none where it is plain.
    pub(crate) fn client(&self, backend: u32) -> Option<Result<&Arc<ClientConfig>, &tls::Unusable>> {
        self.clients.get(backend as usize)?.as_ref().map(Result::as_ref)
    }

    pub(crate) fn backend(&self, id: u32) -> Option<&Backend> {
        self.plan.backends.get(id as usize)
    }

    /// The listener of a port that takes a request for `host`. Behind TLS also whether it is the one that the handshake was for:
    /// `named` is that one's name.
    pub(crate) fn listener(&self, port: usize, named: Option<&str>, host: &str) -> Found<'_> {
        match &self.plan.ports.get(port).map(|port| &port.serve) {
            Some(Serve::Http(listeners)) => listeners.find(host).map_or(Found::Nothing, Found::Listener),
            Some(Serve::Tls(listeners)) => match listeners.find(host) {
                Some(found) if named.is_some_and(|named| named != &*found.name) => Found::Misdirected,
                Some(found) => match &found.then {
                    TlsThen::Http(_, listener) => Found::Listener(listener),
                    TlsThen::Tcp(..) | TlsThen::Passthrough(_) => Found::Misdirected,
                },
                None => Found::Nothing,
            },
            _ => Found::Nothing,
        }
    }
}

/// What was found for a host.
pub(crate) enum Found<'a> {
    Listener(&'a HttpListener),
    /// Another listener than the one of the connection would take it: 421.
    Misdirected,
    Nothing,
}
