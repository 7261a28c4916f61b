//! Servers of gateways to sockets: those of one port are merged.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use strait_api::{
    Kind,
    istio::{ConnectionMatch, Gateway, Server, ServerTls, ServerTlsMode, TlsVersion, VirtualService},
};
use strait_base::Location;

use super::{
    Trouble, TroubleKind,
    bind::{Bound, common_hosts, table_name},
    http::{Compiler, Place},
    key_of, secrets,
};
use crate::{
    hosts::HostTable,
    ordered::{OrderedMatch, OrderedTable, RouteTable, Text},
    plan::{
        ClientValidation, Filter, HttpListener, PortPlan, Redirect, RedirectPort, Rule, Serve, Split, Terminate,
        TlsListener, TlsThen, TlsVersions,
    },
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

/// A server, and the gateway that it is of.
type Of<'g> = (&'g Gateway, &'g Server);

/// What the gateways at one of the gate's workloads come to, port by port.
pub(super) fn ports(
    (workload, address): (&str, IpAddr),
    gateways: &[&Arc<Gateway>],
    bound: &Bound<'_>,
    compiler: &mut Compiler<'_, '_>,
) -> Vec<PortPlan> {
    let mut by_port: BTreeMap<u16, Vec<Of<'_>>> = BTreeMap::new();
    for gateway in gateways {
        for server in &gateway.servers {
            let all = by_port.entry(server.port.number).or_default();
            match all.first() {
                Some((other, first)) if spoken(first) != spoken(server) => {
                    let first = format!("{} of Gateway {}/{}", first.location, other.meta.namespace, other.meta.name);
                    let message = format!("port {} speaks another protocol at {first}", server.port.number);
                    claimed(compiler, Kind::IstioGateway, &gateway.meta, &server.location, message);
                }
                _ => all.push((gateway, server)),
            }
        }
    }
    let mut out = Vec::new();
    for (port, servers) in by_port {
        let Some((_, first)) = servers.first() else { continue };
        let mut at = Port { workload, address, number: port, bound, compiler };
        let serve = match spoken(first) {
            Spoken::Http => Serve::Http(at.http(&servers)),
            Spoken::Tls => Serve::Tls(at.tls(&servers)),
            Spoken::Tcp => Serve::Tcp(at.tcp(&servers)),
        };
        let names: BTreeSet<String> = servers.iter().map(|(gateway, _)| name_of(gateway)).collect();
        let gateway = names.into_iter().collect::<Vec<_>>().join(",").into();
        out.push(PortPlan { address, port, gateway, serve });
    }
    out
}

fn name_of(gateway: &Gateway) -> String {
    format!("{}/{}", gateway.meta.namespace, gateway.meta.name)
}

fn claimed(
    compiler: &mut Compiler<'_, '_>,
    kind: Kind,
    meta: &strait_api::ObjectMeta,
    location: &Location,
    message: String,
) {
    let (object, location) = (key_of(kind, meta), location.clone());
    compiler.troubles.push(Trouble { kind: TroubleKind::Claimed, object, location, message });
}

/// A port that is being put together.
struct Port<'p, 'b, 'c, 'a> {
    workload: &'p str,
    address: IpAddr,
    number: u16,
    bound: &'p Bound<'b>,
    compiler: &'p mut Compiler<'c, 'a>,
}

/// A match, and the virtual service that it is of.
type Routed<'s> = (Arc<OrderedMatch>, &'s Arc<VirtualService>);

/// The routes of one host so far.
#[derive(Default)]
struct Host<'s> {
    /// All is redirected to HTTPS.
    redirect: bool,
    matches: Vec<Routed<'s>>,
}

impl<'b> Port<'_, 'b, '_, '_> {
    fn place<'g>(&'g self, gateway: &'g str) -> Place<'g> {
        Place { gateway, workload: self.workload, port: self.number }
    }

    /// Plain ports have one table of hosts for all their servers.
    fn http(&mut self, servers: &[Of<'_>]) -> HostTable<HttpListener> {
        let hosts = self.hosts(servers);
        let mut table = HostTable::default();
        table.entry(None, || HttpListener { name: format!("http.{}", self.number).into(), hosts });
        table
    }

    /// The routes of virtual services that bind to these servers, by host.
    fn hosts(&mut self, servers: &[Of<'_>]) -> HostTable<RouteTable> {
        let mut all: BTreeMap<Option<Arc<str>>, Host<'b>> = BTreeMap::new();
        // Of several gateways the virtual services come in order of their age.
        let mut routes: Vec<(usize, Option<Arc<str>>, Routed<'b>)> = Vec::new();
        let mut seen = BTreeSet::new();
        for (gateway, server) in servers {
            let redirect = server.tls.as_ref().is_some_and(|tls| tls.https_redirect);
            if redirect {
                for host in &server.hosts {
                    all.entry(table_name(&host.host)).or_default().redirect = true;
                }
            }
            let name = name_of(gateway);
            let bound = self.bound;
            for (age, service) in bound.to(&name) {
                let hosts = common_hosts((gateway, &server.hosts), service.of, &service.of.hosts);
                if service.routes.is_empty() || hosts.is_empty() {
                    continue;
                }
                let place = Place { gateway: &name, workload: self.workload, port: self.number };
                let matches = self.compiler.routes(service, place);
                for host in hosts {
                    all.entry(host.clone()).or_default().redirect |= redirect;
                    if seen.insert((host.clone(), age, name.clone())) {
                        routes.extend(matches.iter().map(|of| (age, host.clone(), (Arc::clone(of), service.of))));
                    }
                }
            }
        }
        routes.sort_by_key(|(age, ..)| *age);
        for (_, host, routed) in routes {
            all.entry(host).or_default().matches.push(routed);
        }
        let mut table = HostTable::default();
        for (host, routes) in all {
            self.tell_claims(host.as_deref(), &routes.matches);
            let matches = if routes.redirect {
                vec![Arc::new(self.https(servers))]
            } else {
                routes.matches.into_iter().map(|(of, _)| of).collect()
            };
            table.entry(host.as_ref(), || RouteTable::Ordered(OrderedTable::new(matches).into()));
        }
        table
    }

    /// Tells of virtual services that claim the same paths of one host.
    fn tell_claims(&mut self, host: Option<&str>, matches: &[Routed<'_>]) {
        let mut by_path: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut told = BTreeSet::new();
        for (index, (of, service)) in matches.iter().enumerate() {
            let same = by_path.entry(path_key(of)).or_default();
            for earlier in same.iter() {
                let (first, other) = &matches[*earlier];
                if Arc::ptr_eq(other, service) || !first.hides(of) {
                    continue;
                }
                let place = |of: &OrderedMatch| self.compiler.rules.get(of.rule).map(|rule| rule.location.clone());
                let (Some(first_at), Some(at)) = (place(first), place(of)) else { continue };
                if told.insert((first_at.clone(), at.clone())) {
                    let path = path_text(of);
                    let host = host.unwrap_or("*");
                    let meta = &other.meta;
                    let first = format!("VirtualService {}/{} at {first_at}", meta.namespace, meta.name);
                    let message = format!("{path} of {host} is also claimed by {first}, which takes these requests");
                    claimed(self.compiler, Kind::VirtualService, &service.meta, &at, message);
                }
            }
            same.push(index);
        }
    }

    /// A match that takes everything, and leads to HTTPS.
    fn https(&mut self, servers: &[Of<'_>]) -> OrderedMatch {
        let redirecting = servers.iter().find(|(_, server)| server.tls.as_ref().is_some_and(|tls| tls.https_redirect));
        let (name, location) = match redirecting {
            Some((gateway, server)) => (format!("Gateway/{}/https", name_of(gateway)), server.location.clone()),
            None => (String::new(), Location::new(&"".into(), 0, 0)),
        };
        let redirect = Redirect {
            scheme: Some("https".into()),
            hostname: None,
            path: None,
            port: RedirectPort::Scheme,
            status: 301,
        };
        let rule = self.compiler.rule(Rule {
            name: name.into(),
            location,
            filters: vec![Filter::Redirect(redirect)],
            split: Split::default(),
            request_timeout: None,
            backend_request_timeout: None,
            retry: None,
            session: None,
            keeps_sessions: false,
        });
        OrderedMatch { rule, path: None, fields: Vec::new(), without: Vec::new(), query: Vec::new() }
    }

    /// With TLS each server has listeners of its own, by server name.
    fn tls(&mut self, servers: &[Of<'_>]) -> HostTable<TlsListener> {
        let mut table: HostTable<TlsListener> = HostTable::default();
        let mut first: BTreeMap<Arc<str>, Location> = BTreeMap::new();
        for of in servers {
            let (gateway, server) = of;
            let Some(tls) = &server.tls else { continue };
            let meta = &gateway.meta;
            let protocol = server.port.protocol.to_string().to_lowercase();
            let name: Arc<str> =
                format!("{protocol}.{}.{}.{}.{}", self.number, server.port.name, meta.name, meta.namespace).into();
            let https = server.port.protocol == strait_api::istio::PortProtocol::Https;
            let mut new: Vec<&Arc<str>> = Vec::new();
            for host in &server.hosts {
                if let Some(first) = first.get(&host.host) {
                    let message =
                        format!("the server name {} of port {} is also claimed at {first}", host.host, self.number);
                    claimed(self.compiler, Kind::IstioGateway, meta, &server.location, message);
                } else {
                    first.insert(Arc::clone(&host.host), server.location.clone());
                    new.push(&host.host);
                }
            }
            match tls.mode {
                ServerTlsMode::Passthrough => {
                    let names = self.names(*of);
                    for host in new {
                        let then = || TlsThen::Passthrough(names.clone());
                        table
                            .entry(table_name(host).as_ref(), || TlsListener { name: Arc::clone(&name), then: then() });
                    }
                }
                // Closed: there is neither a certificate nor a way to go.
                ServerTlsMode::AutoPassthrough | ServerTlsMode::IstioMutual => {
                    for host in new {
                        let then = TlsThen::Passthrough(HostTable::default());
                        table.entry(table_name(host).as_ref(), || TlsListener { name: Arc::clone(&name), then });
                    }
                }
                ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => {
                    let routes = https.then(|| self.hosts(&[*of]));
                    let split = if https { None } else { self.connections(*of) };
                    for host in new {
                        let terminate = self.terminate(gateway, server, tls);
                        let then = if let Some(hosts) = &routes {
                            let hosts = hosts.clone();
                            TlsThen::Http(terminate, HttpListener { name: Arc::clone(&name), hosts })
                        } else {
                            let mut inside = HostTable::default();
                            if let Some(split) = split.clone() {
                                inside.entry(None, || split);
                            }
                            TlsThen::Tcp(terminate, inside)
                        };
                        table.entry(table_name(host).as_ref(), || TlsListener { name: Arc::clone(&name), then });
                    }
                }
            }
        }
        table
    }

    fn terminate(&mut self, gateway: &Gateway, server: &Server, tls: &ServerTls) -> Terminate {
        let (home, world) = (&*gateway.meta.namespace, self.compiler.destinations.registry.world);
        let mut missing = Vec::new();
        let credentials: Vec<&Arc<str>> = tls.credential_name.iter().chain(&tls.credential_names).collect();
        let mut certificates = Vec::new();
        for name in &credentials {
            match secrets::certificate(name, home, world) {
                Ok(certificate) => certificates.push(self.compiler.backends.certificates.add(certificate)),
                Err(why) => missing.push(why),
            }
        }
        let optional = tls.mode == ServerTlsMode::OptionalMutual;
        let clients = matches!(tls.mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual).then(|| {
            let mut names = tls.ca_cert_credential_name.iter().chain(credentials.iter().copied());
            let found = names.find_map(|name| secrets::authorities(name, home, world));
            // What cannot be checked lets nobody in.
            let unchecked = tls.ca_crl.is_some()
                || tls.ca_certificates.is_some()
                || !tls.verify_certificate_spki.is_empty()
                || !tls.verify_certificate_hash.is_empty();
            let authorities = found.filter(|_| !unchecked).unwrap_or_default();
            if authorities.is_empty() && !tls.insecure_skip_verify {
                missing.push("there are no authorities for clients' certificates".to_owned());
            }
            ClientValidation {
                authorities,
                insecure_fallback: tls.insecure_skip_verify && !unchecked,
                optional,
                names: tls.subject_alt_names.clone(),
            }
        });
        for why in missing {
            let (object, location) = (key_of(Kind::IstioGateway, &gateway.meta), server.location.clone());
            let message = format!("{why}: no handshake of this server comes about");
            self.compiler.troubles.push(Trouble { kind: TroubleKind::Missing, object, location, message });
        }
        let (min, max) = (tls.min_protocol_version, tls.max_protocol_version);
        let within = |version| min <= version && (max == TlsVersion::Auto || version <= max);
        let versions = TlsVersions { tls12: within(TlsVersion::V1_2), tls13: within(TlsVersion::V1_3) };
        Terminate { certificates, clients, versions }
    }

    fn suits(&self, of: &ConnectionMatch, gateway: &str, home: &str) -> bool {
        self.place(gateway).suits(of.port, &of.gateways, &of.source_labels, of.source_namespace.as_ref(), home)
            && of.covers(self.address)
    }

    /// Where connections that go on as they are go, by server name: the `tls` routes.
    fn names(&mut self, (gateway, server): Of<'_>) -> HostTable<Split> {
        let mut table: HostTable<Split> = HostTable::default();
        let mut first: BTreeMap<Option<Arc<str>>, Location> = BTreeMap::new();
        let name = name_of(gateway);
        let bound = self.bound;
        for (_, service) in bound.to(&name) {
            let home = &service.of.meta.namespace;
            let object = key_of(Kind::VirtualService, &service.of.meta);
            for route in &service.of.tls {
                let mut hosts: Vec<Option<Arc<str>>> = Vec::new();
                for of in route.matches.iter().filter(|of| self.suits(&of.connection, &name, home)) {
                    hosts.extend(common_hosts((gateway, &server.hosts), service.of, &of.sni_hosts));
                }
                if hosts.is_empty() {
                    continue;
                }
                let split = self.compiler.split(&route.route, (home, self.number), &object);
                for host in hosts {
                    if let Some(first) = first.get(&host) {
                        if *first != route.location {
                            let shown = host.as_deref().unwrap_or("*");
                            let message = format!("the server name {shown} is also claimed at {first}");
                            let meta = &service.of.meta;
                            claimed(self.compiler, Kind::VirtualService, meta, &route.location, message);
                        }
                        continue;
                    }
                    first.insert(host.clone(), route.location.clone());
                    table.entry(host.as_ref(), || split.clone());
                }
            }
        }
        table
    }

    /// Where connections go whatever is in them: the first `tcp` route.
    fn connections(&mut self, (gateway, server): Of<'_>) -> Option<Split> {
        let name = name_of(gateway);
        let bound = self.bound;
        let mut found: Option<(Split, Location)> = None;
        for (_, service) in bound.to(&name) {
            let home = &service.of.meta.namespace;
            if common_hosts((gateway, &server.hosts), service.of, &service.of.hosts).is_empty() {
                continue;
            }
            // A route without matches takes every connection; a client's address is no match that can be made.
            let suits = |of: &&strait_api::istio::TcpRoute| {
                of.matches.is_empty()
                    || of.matches.iter().any(|of| of.source_subnet.is_none() && self.suits(&of.connection, &name, home))
            };
            let Some(route) = service.of.tcp.iter().find(suits) else { continue };
            if let Some((_, first)) = &found {
                let message = format!("connections to port {} are also claimed at {first}", self.number);
                claimed(self.compiler, Kind::VirtualService, &service.of.meta, &route.location, message);
                continue;
            }
            let object = key_of(Kind::VirtualService, &service.of.meta);
            let split = self.compiler.split(&route.route, (home, self.number), &object);
            found = Some((split, route.location.clone()));
        }
        found.map(|(split, _)| split)
    }

    fn tcp(&mut self, servers: &[Of<'_>]) -> Option<Split> {
        servers.iter().find_map(|of| self.connections(*of))
    }
}

fn path_key(of: &OrderedMatch) -> String {
    let case = of.path.as_ref().is_some_and(|path| path.ignore_case);
    format!("{case} {}", path_text(of))
}

fn path_text(of: &OrderedMatch) -> String {
    match of.path.as_ref().map(|path| &path.text) {
        None | Some(Text::Present) => "every path".to_owned(),
        Some(Text::Exact(text)) => format!("the path {text}"),
        Some(Text::Prefix(text)) => format!("the prefix {text}"),
        Some(Text::Regex(regex)) => format!("the expression {}", regex.as_str()),
    }
}
