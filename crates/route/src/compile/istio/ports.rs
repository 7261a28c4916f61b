//! Servers of gateways to sockets: those of one port are merged.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use strait_api::{
    Kind,
    istio::{Gateway, Server},
};
use strait_base::Location;

use super::{
    Trouble, TroubleKind,
    bind::{common_hosts, table_name},
    delegates::Expanded,
    groups::{Claim, Claimed, Group, Host, Table},
    http::{Brought, Compiler},
    key_of,
    registry::Touched,
    servers::TlsServer,
    services::{At, Bound, Placed, Routes, UnitKey, Which},
};
use crate::{
    compile::world,
    hosts::HostTable,
    plan::{Filter, HttpListener, PortPlan, Redirect, RedirectPort, Rule, Serve, Split, TlsListener},
};

/// What a port speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Http,
    Tls,
    Tcp,
}

fn spoken(server: &Server) -> Spoken {
    let protocol = server.port.protocol;
    if protocol.is_http() {
        Spoken::Http
    } else if protocol.is_tls() {
        Spoken::Tls
    } else {
        Spoken::Tcp
    }
}

/// A server: its gateway, and its place in it.
pub(super) type Of = (Arc<Gateway>, usize);

fn server((gateway, index): &Of) -> Option<&Server> {
    gateway.servers.get(*index)
}

/// Whether two lists have the same servers.
pub(super) fn are_same(a: &[Of], b: &[Of]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.1 == b.1 && (Arc::ptr_eq(&a.0, &b.0) || a.0 == b.0))
}

/// The servers at one workload by port: all that name it.
pub(super) fn by_port(gateways: &[&Arc<Gateway>]) -> BTreeMap<u16, Vec<Of>> {
    let mut out: BTreeMap<u16, Vec<Of>> = BTreeMap::new();
    for gateway in gateways {
        for (index, server) in gateway.servers.iter().enumerate() {
            out.entry(server.port.number).or_default().push((Arc::clone(gateway), index));
        }
    }
    out
}

pub(super) fn name_of(gateway: &Gateway) -> Arc<str> {
    format!("{}/{}", gateway.meta.namespace, gateway.meta.name).into()
}

/// A socket, and what is served there.
pub(super) struct Port {
    pub(super) at: At,
    /// All servers that name it, also those that speak something else than the first one, and are not served.
    pub(super) named: Vec<Of>,
    /// What is served, and how.
    pub(super) plan: Arc<PortPlan>,
    /// Those that are served, with the group of each.
    servers: Vec<(Of, usize)>,
    groups: Vec<Group>,
    /// With TLS: a server for each group.
    tls: Vec<TlsServer>,
    names: HostTable<TlsListener>,
    /// How many proxies before it are believed about clients, if it is said.
    trusted_proxies: Option<u8>,
    brought: Brought,
}

impl Port {
    pub(super) fn new(at: At, named: Vec<Of>, compiler: &mut Compiler<'_>) -> Self {
        let mut port = Self {
            at,
            named: Vec::new(),
            plan: Arc::new(PortPlan {
                address: at.1,
                port: at.2,
                gateway: "".into(),
                trusted_proxies: None,
                serve: Serve::Tcp(None),
            }),
            servers: Vec::new(),
            groups: Vec::new(),
            tls: Vec::new(),
            names: HostTable::default(),
            trusted_proxies: None,
            brought: Brought::default(),
        };
        let mut same: Vec<&Of> = Vec::new();
        let first = named.first().and_then(|of| Some((of, server(of)?)));
        for of in &named {
            let (Some((first_of, first)), Some(server)) = (first, server(of)) else { continue };
            if spoken(first) == spoken(server) {
                same.push(of);
                continue;
            }
            let first = format!("{} of Gateway {}", first.location, name_of(&first_of.0));
            let message = format!("port {} speaks another protocol at {first}", at.2);
            compiler.troubles.push(claimed(&of.0, &server.location, message));
        }
        match first.map(|(_, server)| spoken(server)) {
            Some(Spoken::Http) => port.requests(&same, compiler),
            Some(Spoken::Tls) => port.tls(&same, compiler),
            Some(Spoken::Tcp) | None => {
                for of in same {
                    port.servers.push((of.clone(), port.groups.len()));
                    port.groups.push(Group::new(Table::Connections(None), at.2));
                }
            }
        }
        port.brought = compiler.brought();
        port.named = named;
        port
    }

    /// Plain ports have one table of hosts for all their servers.
    fn requests(&mut self, servers: &[&Of], compiler: &mut Compiler<'_>) {
        let mut group = Group::new(Table::Requests(HostTable::default()), self.at.2);
        for of in servers {
            self.servers.push(((*of).clone(), 0));
            let Some(server) = server(of).filter(|server| redirects(server)) else { continue };
            group.redirect.get_or_insert_with(|| compiler.rule(to_https(&of.0, &server.location)));
            for host in &server.hosts {
                group.redirect(&table_name(&host.host), true);
            }
        }
        self.groups.push(group);
    }

    /// With TLS each server has listeners of its own, by server name.
    fn tls(&mut self, servers: &[&Of], compiler: &mut Compiler<'_>) {
        let mut first: BTreeMap<Arc<str>, Location> = BTreeMap::new();
        for of in servers {
            let (gateway, index) = of;
            let Some(server) = server(of).filter(|server| server.tls.is_some()) else { continue };
            let mut hosts: Vec<Arc<str>> = Vec::new();
            for host in &server.hosts {
                if let Some(first) = first.get(&host.host) {
                    let message =
                        format!("the server name {} of port {} is also claimed at {first}", host.host, self.at.2);
                    compiler.troubles.push(claimed(gateway, &server.location, message));
                } else {
                    first.insert(Arc::clone(&host.host), server.location.clone());
                    hosts.push(Arc::clone(&host.host));
                }
            }
            let Some(tls) = TlsServer::new(gateway, *index, hosts, compiler) else { continue };
            let mut group = Group::new(tls.table(), self.at.2);
            if redirects(server) && matches!(group.table, Table::Requests(_)) {
                group.redirect = Some(compiler.rule(to_https(gateway, &server.location)));
                for host in &server.hosts {
                    group.redirect(&table_name(&host.host), true);
                }
            }
            self.servers.push(((*of).clone(), self.groups.len()));
            self.groups.push(group);
            self.tls.push(tls);
        }
    }

    /// The gateways that have a server here.
    pub(super) fn gateways(&self) -> BTreeSet<Arc<str>> {
        self.servers.iter().map(|((gateway, _), _)| name_of(gateway)).collect()
    }

    /// Puts a virtual service into the tables, whose routes are compiled where they are not yet. Gives how many lists of them were.
    pub(super) fn put_in(
        &mut self,
        bound: &mut Bound,
        expanded: Option<&[Expanded<'_>]>,
        compiler: &mut Compiler<'_>,
    ) -> usize {
        if !bound.is_served {
            return 0;
        }
        let (of, mut lists, mut placed) = (Arc::clone(&bound.of), 0, Vec::new());
        let name = world::name(&of.meta);
        let mut first: BTreeMap<(usize, Arc<str>), usize> = BTreeMap::new();
        for place in 0..self.servers.len() {
            let ((gateway, index), group) = &self.servers[place];
            let gateway_name = name_of(gateway);
            if !bound.gateways.contains(&gateway_name) {
                continue;
            }
            let (Some(server), Some(table)) = (gateway.servers.get(*index), self.groups.get_mut(*group)) else {
                continue;
            };
            // What several servers of one gateway have in one table is there once.
            let place = *first.entry((*group, Arc::clone(&gateway_name))).or_insert(place);
            let common = |names: &[Arc<str>]| common_hosts((gateway, &server.hosts), &of, names);
            let which = match table.table {
                Table::Requests(_) => Which::Http,
                Table::Names(_) => Which::Tls,
                Table::Connections(_) => Which::Tcp,
            };
            let is_wanted = match which {
                Which::Http => bound.has_routes && !common(&of.hosts).is_empty(),
                Which::Tls => !of.tls.is_empty() && self.tls.get(*group).is_some_and(TlsServer::is_routed),
                Which::Tcp => !of.tcp.is_empty() && !common(&of.hosts).is_empty(),
            };
            if !is_wanted {
                continue;
            }
            let unit: UnitKey = (which, gateway_name, self.at);
            let (routes, is_new) = bound.unit(&unit, expanded, compiler);
            lists += usize::from(is_new);
            let mut here = Placed { group: *group, claims: Vec::new(), redirects: Vec::new(), unit };
            let claims: Vec<(Vec<Host>, usize, Claimed)> = match routes {
                Routes::Http(matches) => vec![(common(&of.hosts), 0, Claimed::Matches(matches))],
                Routes::Tls(routes) => {
                    let of = |(index, names, split, location): &(usize, Vec<Arc<str>>, Split, Location)| {
                        (common(names), *index, Claimed::Split(split.clone(), location.clone()))
                    };
                    routes.iter().map(of).collect()
                }
                Routes::Tcp(found) => {
                    let of = |(split, location)| (vec![None], 0, Claimed::Split(split, location));
                    found.into_iter().map(of).collect()
                }
            };
            for (hosts, route, what) in claims {
                for host in hosts {
                    let spot = (bound.age.clone(), place, route);
                    let claim = Claim { service: name.clone(), what: what.clone() };
                    table.put_in(&host, spot.clone(), claim);
                    if which == Which::Http && redirects(server) {
                        table.redirect(&host, true);
                        here.redirects.push(host.clone());
                    }
                    here.claims.push((host, spot));
                }
            }
            placed.push(here);
        }
        if !placed.is_empty() {
            bound.placed.insert(self.at, placed);
        }
        lists
    }

    /// Takes a virtual service out of the tables.
    pub(super) fn take_out(&mut self, placed: &[Placed]) {
        for of in placed {
            let Some(group) = self.groups.get_mut(of.group) else { continue };
            for (host, spot) in &of.claims {
                group.take_out(host, spot);
            }
            for host in &of.redirects {
                group.redirect(host, false);
            }
        }
    }

    /// Takes in how many proxies before it are believed. Gives whether it is another number.
    pub(super) fn trust(&mut self, proxies: Option<u8>) -> bool {
        std::mem::replace(&mut self.trusted_proxies, proxies) != proxies
    }

    /// Gives back what it brought with it.
    pub(super) fn retire(&self, compiler: &mut Compiler<'_>) {
        self.groups.iter().for_each(|group| group.retire(compiler));
        self.tls.iter().for_each(|tls| tls.retire(compiler));
        compiler.release(&self.brought);
    }

    /// Puts together again what is another, or all of it. Gives how many hosts were, and whether there is another plan.
    pub(super) fn refresh(&mut self, by: &Touched, is_new: bool, compiler: &mut Compiler<'_>) -> (usize, bool) {
        let (mut hosts, mut is_other) = (0, is_new);
        for (index, group) in self.groups.iter_mut().enumerate() {
            let mut is_dirty = group.is_dirty();
            hosts += group.refresh(compiler);
            if let Some(tls) = self.tls.get_mut(index) {
                is_dirty |= tls.refresh((by, is_new), group, compiler);
                if is_dirty || is_new {
                    tls.list(group, &mut self.names);
                }
            }
            is_other |= is_dirty;
        }
        if is_other {
            let gateway = self.gateways().into_iter().collect::<Vec<_>>().join(",").into();
            let ((_, address, port), trusted_proxies) = (self.at, self.trusted_proxies);
            self.plan = Arc::new(PortPlan { address, port, gateway, trusted_proxies, serve: self.serve() });
        }
        (hosts, is_other)
    }

    fn serve(&self) -> Serve {
        if !self.tls.is_empty() {
            return Serve::Tls(self.names.clone());
        }
        match self.groups.first().map(|group| &group.table) {
            Some(Table::Requests(hosts)) => {
                let (name, hosts) = (format!("http.{}", self.at.2).into(), hosts.clone());
                let mut table = HostTable::default();
                table.entry(None, || HttpListener { name, hosts });
                Serve::Http(table)
            }
            Some(Table::Connections(_)) => Serve::Tcp(self.groups.iter().find_map(|group| match &group.table {
                Table::Connections(split) => split.clone(),
                Table::Requests(_) | Table::Names(_) => None,
            })),
            Some(Table::Names(_)) | None => Serve::Tls(HostTable::default()),
        }
    }
}

fn claimed(gateway: &Gateway, location: &Location, message: String) -> Trouble {
    let (object, location) = (key_of(Kind::IstioGateway, &gateway.meta), location.clone());
    Trouble { kind: TroubleKind::Claimed, object, location, message }
}

fn redirects(server: &Server) -> bool {
    server.tls.as_ref().is_some_and(|tls| tls.https_redirect)
}

/// What leads all requests to HTTPS.
fn to_https(gateway: &Gateway, location: &Location) -> Rule {
    let redirect =
        Redirect { scheme: Some("https".into()), hostname: None, path: None, port: RedirectPort::Scheme, status: 301 };
    Rule {
        name: format!("Gateway/{}/https", name_of(gateway)).into(),
        location: location.clone(),
        filters: vec![Filter::Redirect(redirect)],
        split: Split::default(),
        request_timeout: None,
        backend_request_timeout: None,
        retry: None,
        session: None,
        keeps_sessions: false,
    }
}
