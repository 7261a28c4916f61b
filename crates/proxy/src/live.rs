//! A plan with what serving it needs: TLS configurations, made once.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    ops::Deref,
    sync::Arc,
};

use rustls::{ClientConfig, ServerConfig};
use strait_route::{
    Backend, BackendId, BackendProtocol, BackendTls, Certificate, ClientValidation, HttpListener, Plan, RuleId, Serve,
    Split, TlsThen, TlsVersions,
};

use crate::{backend::Target, local, record::Reason, split::Turns, telemetry::Names, tls};

/// A plan, ready to be served. Shared by workers, each of which holds it by the one pointer of its [`Snapshot`].
pub(crate) struct Live {
    pub(crate) plan: Plan,
    /// By what its parts are counted.
    pub(crate) names: Names,
    /// By port and listener: how its handshake is done.
    servers: BTreeMap<(IpAddr, u16, Arc<str>), Server>,
    /// How back ends are reached: the plan's before, where its back ends are these.
    reached: Arc<Reached>,
}

/// How back ends are reached.
#[derive(Default)]
struct Reached {
    /// Ways to speak TLS to back ends, by server name.
    clients: BTreeMap<Arc<str>, Vec<Client>>,
    /// By back end: the way TLS is spoken to it, if it is.
    spoken: Vec<Option<(Arc<str>, usize)>>,
    /// By back end: where its targets begin in `targets`, which has one for each endpoint.
    starts: Vec<usize>,
    targets: Vec<Target>,
    /// The numbers of targets. One keeps its number from plan to plan, and none is given twice.
    numbers: BTreeMap<Key, u32>,
    next: u32,
}

/// What tells targets apart: address, protocol, and the number of the way that TLS is spoken.
type Key = (SocketAddr, BackendProtocol, Option<u32>);

/// How a listener's handshake is done, and what that was made of.
struct Server {
    certificates: Vec<Certificate>,
    clients: Option<ClientValidation>,
    versions: TlsVersions,
    http: bool,
    config: Result<Arc<ServerConfig>, tls::Unusable>,
}

/// How TLS is spoken to a back end, and what that was made of.
struct Client {
    tls: BackendTls,
    own: Option<Certificate>,
    number: u32,
    config: Result<Arc<ClientConfig>, tls::Unusable>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Live {
    /// What did not change since `before` is taken from there: TLS configurations with the sessions that they can resume, and targets with
    /// their connections.
    pub(crate) fn new(plan: Plan, names: Names, before: Option<&Self>) -> Self {
        let same = |before: &&Self| {
            before.plan.backends.is_same(&plan.backends) && before.plan.certificates.is_same(&plan.certificates)
        };
        let reached = match before.filter(same) {
            Some(before) => Arc::clone(&before.reached),
            None => Arc::new(Reached::new(&plan, before.map(|before| &*before.reached))),
        };
        let mut live = Self { servers: BTreeMap::new(), reached, plan, names };
        live.make_servers(before);
        live
    }

    fn make_servers(&mut self, before: Option<&Self>) {
        for port in &self.plan.ports {
            let Serve::Tls(listeners) = &port.serve else { continue };
            for (_, listener) in listeners.iter() {
                let (terminate, http) = match &listener.then {
                    TlsThen::Http(terminate, _) => (terminate, true),
                    TlsThen::Tcp(terminate, _) => (terminate, false),
                    TlsThen::Passthrough(_) | TlsThen::Mesh(_) => continue,
                };
                let key = (port.address, port.port, Arc::clone(&listener.name));
                let shown = terminate.certificates.iter().filter_map(|id| self.plan.certificates.get(*id as usize));
                let certificates: Vec<Certificate> = shown.cloned().collect();
                let same = before.and_then(|before| before.servers.get(&key)).filter(|server| {
                    server.http == http
                        && server.clients == terminate.clients
                        && server.versions == terminate.versions
                        && server.certificates == certificates
                });
                let config = match same.and_then(|server| server.config.as_ref().ok()) {
                    Some(config) => Ok(Arc::clone(config)),
                    None => tls::server(terminate, &self.plan.certificates, http),
                };
                let (clients, versions) = (terminate.clients.clone(), terminate.versions);
                self.servers.insert(key, Server { certificates, clients, versions, http, config });
            }
        }
    }

    /// The numbers of all targets; none where they are those of `before`.
    pub(crate) fn other_numbers(&self, before: &Self) -> Option<BTreeSet<u32>> {
        let other = !Arc::ptr_eq(&self.reached, &before.reached);
        other.then(|| self.reached.numbers.values().copied().collect())
    }

    /// The index of a stream port.
    pub(crate) fn port(&self, address: IpAddr, port: u16) -> Option<usize> {
        self.place(address, false, port)
    }

    /// The index of a datagram port.
    pub(crate) fn datagram_port(&self, address: IpAddr, port: u16) -> Option<usize> {
        self.place(address, true, port)
    }

    fn place(&self, address: IpAddr, udp: bool, port: u16) -> Option<usize> {
        let key = |plan: &Arc<strait_route::PortPlan>| (plan.address, plan.serve.is_udp(), plan.port);
        self.plan.ports.binary_search_by_key(&(address, udp, port), key).ok()
    }

    /// How the handshake of a listener is done.
    pub(crate) fn server(&self, port: usize, listener: &Arc<str>) -> Option<&Arc<ServerConfig>> {
        let port = self.plan.ports.get(port)?;
        self.servers.get(&(port.address, port.port, Arc::clone(listener)))?.config.as_ref().ok()
    }

    /// How TLS is spoken to a back end; none where it is plain.
    pub(crate) fn client(&self, backend: u32) -> Option<Result<&Arc<ClientConfig>, &tls::Unusable>> {
        let (name, index) = self.reached.spoken.get(backend as usize)?.as_ref()?;
        Some(self.reached.clients.get(name)?.get(*index)?.config.as_ref())
    }

    /// The numbers of a back end's targets.
    pub(crate) fn numbers_of(&self, backend: u32) -> impl Iterator<Item = u32> + '_ {
        let targets = self.reached.targets(backend as usize).unwrap_or_default();
        targets.iter().map(|target| target.number)
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
                    TlsThen::Tcp(..) | TlsThen::Passthrough(_) | TlsThen::Mesh(_) => Found::Misdirected,
                },
                None => Found::Nothing,
            },
            _ => Found::Nothing,
        }
    }
}

impl Reached {
    fn new(plan: &Plan, before: Option<&Self>) -> Self {
        let mut reached = Self { next: before.map_or(0, |before| before.next), ..Self::default() };
        for id in 0..plan.backends.len() {
            reached.starts.push(reached.targets.len());
            let spoken = plan.backends.get(id).and_then(|backend| reached.reach(backend, plan, before));
            reached.spoken.push(spoken);
        }
        reached
    }

    /// Adds the targets of a back end. Gives the way that TLS is spoken to it, if it is.
    fn reach(&mut self, backend: &Backend, plan: &Plan, before: Option<&Self>) -> Option<(Arc<str>, usize)> {
        let client = |tls: &BackendTls| (Arc::clone(&tls.hostname), self.client_of(tls, plan, before));
        let spoken = backend.tls.as_ref().map(client);
        let tls = spoken.as_ref().and_then(|(name, index)| Some(self.clients.get(name)?.get(*index)?.number));
        for endpoint in &backend.endpoints {
            let key = (SocketAddr::new(endpoint.address, endpoint.port), backend.protocol, tls);
            let known = self.numbers.get(&key).or_else(|| before?.numbers.get(&key)).copied();
            let number = known.unwrap_or_else(|| self.number());
            self.numbers.insert(key, number);
            self.targets.push(Target { number, address: key.0, tls: tls.is_some(), protocol: key.1 });
        }
        spoken
    }

    /// The index among those of its server name.
    fn client_of(&mut self, tls: &BackendTls, plan: &Plan, before: Option<&Self>) -> usize {
        let own = tls.client_certificate.and_then(|id| plan.certificates.get(id as usize));
        // Certificates are told apart by what they are: their numbers are the plan's.
        let same = |client: &&Client| {
            client.own.as_ref() == own
                && BackendTls { client_certificate: tls.client_certificate, ..client.tls.clone() } == *tls
        };
        let here = self.clients.get(&tls.hostname).map_or(&[][..], Vec::as_slice);
        if let Some(index) = here.iter().position(|client| same(&client)) {
            return index;
        }
        let there = before.and_then(|before| before.clients.get(&tls.hostname)?.iter().find(same));
        let (number, config) = match there.and_then(|client| Some((client.number, client.config.as_ref().ok()?))) {
            Some((number, config)) => (number, Ok(Arc::clone(config))),
            None => (self.next, tls::client(tls, &plan.certificates)),
        };
        let client = Client { tls: tls.clone(), own: own.cloned(), number, config };
        if number == self.next {
            self.number();
        }
        let all = self.clients.entry(Arc::clone(&tls.hostname)).or_default();
        all.push(client);
        all.len() - 1
    }

    fn number(&mut self) -> u32 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// The targets of a back end.
    fn targets(&self, backend: usize) -> Option<&[Target]> {
        let start = *self.starts.get(backend)?;
        let end = self.starts.get(backend + 1).copied().unwrap_or(self.targets.len());
        self.targets.get(start..end)
    }
}

/// A plan as one worker serves it: beside the plan, where it is in going round what there is to choose from.
pub(crate) struct Snapshot {
    live: Arc<Live>,
    /// By rule: where its split is.
    turns: RefCell<Vec<Turns>>,
    /// By back end: its last endpoint.
    endpoints: RefCell<Vec<usize>>,
}

impl Deref for Snapshot {
    type Target = Live;

    fn deref(&self) -> &Live {
        &self.live
    }
}

impl Snapshot {
    pub(crate) fn new(live: Arc<Live>) -> Self {
        let (rules, backends) = (live.plan.rules.len(), live.plan.backends.len());
        let (turns, endpoints) = (vec![Turns::default(); rules], vec![0; backends]);
        Self { live, turns: RefCell::new(turns), endpoints: RefCell::new(endpoints) }
    }

    /// What all workers share of it.
    #[cfg(feature = "http3")]
    pub(crate) fn shared(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// The target of a rule's split for the next request.
    pub(crate) fn choose(&self, rule: RuleId, split: &Split) -> Option<usize> {
        self.turns.borrow_mut().get_mut(rule as usize)?.next(split)
    }

    /// The next endpoint of a back end, in turn; one of `failed` only where there is no other.
    ///
    /// # Errors
    /// The answer for the client where there is none.
    pub(crate) fn endpoint(&self, backend: BackendId, failed: &[SocketAddr]) -> Result<Target, Reason> {
        let index = backend as usize;
        let (mut turns, targets) = (self.endpoints.borrow_mut(), self.live.reached.targets(index));
        let (Some(turn), Some(targets)) = (turns.get_mut(index), targets) else { return Err(local::NO_BACKEND) };
        if targets.is_empty() {
            return Err(local::NO_ENDPOINT);
        }
        let mut tries = 0;
        loop {
            *turn = if *turn + 1 < targets.len() { *turn + 1 } else { 0 };
            tries += 1;
            if tries >= targets.len() || !failed.contains(&targets[*turn].address) {
                return Ok(targets[*turn]);
            }
        }
    }

    /// The target of a back end at this address, if it is still there.
    pub(crate) fn endpoint_at(&self, backend: BackendId, address: SocketAddr) -> Option<Target> {
        let targets = self.live.reached.targets(backend as usize)?;
        targets.iter().find(|target| target.address == address).copied()
    }
}

/// What was found for a host.
pub(crate) enum Found<'a> {
    Listener(&'a HttpListener),
    /// Another listener than the one of the connection would take it: 421.
    Misdirected,
    Nothing,
}
