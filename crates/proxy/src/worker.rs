//! Workers: each has a thread, a runtime, listeners and connections of its own.

use std::{
    cell::{Cell, RefCell, RefMut},
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{Arc, mpsc},
};

use ipnet::IpNet;
use strait_http::RequestHead;
use strait_route::{Backend, PortPlan, Split};
use tokio::{
    sync::{Notify, Semaphore, oneshot, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    accept::{self, Reserve},
    admission::Admission,
    backend::Target,
    date,
    deadline::{Deadlines, SWEEP},
    exchange::Exchange,
    gate::{GateError, Options, Phase, Serving, TakenUp},
    http2::Shared,
    io::Stream,
    limits::Limits,
    listen::{self, Listening, PortMap, Sockets},
    live::{Live, Snapshot},
    local,
    outbound::{AllOutbound, Outbound, Share},
    overload,
    pool::Pool,
    record::{Client, ConnectionRecord, Observer, Reason, Record},
    retry::Budget,
    session::Seal,
    side::Wire,
    split::Turns,
    telemetry::Reporter,
    udp::{self, Handed, UdpSession},
};

/// What a worker is started with: its part of the gate.
pub(crate) struct Part {
    pub(crate) index: usize,
    pub(crate) workers: usize,
    pub(crate) plans: watch::Receiver<Serving>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) done: mpsc::Sender<TakenUp>,
    pub(crate) options: Options,
    pub(crate) admission: Arc<Admission>,
    pub(crate) reporter: Reporter,
    pub(crate) seal: Arc<Seal>,
    pub(crate) handed: oneshot::Receiver<Vec<UdpSession>>,
    pub(crate) left: mpsc::Sender<Vec<UdpSession>>,
}

/// A listener and a server name.
type L4Key = (IpAddr, u16, Box<str>);

/// What one worker has.
pub(crate) struct Worker {
    pub(crate) limits: Limits,
    pub(crate) reporter: Reporter,
    /// Whether answers say why they are made.
    pub(crate) proxy_status: bool,
    pub(crate) admission: Arc<Admission>,
    pub(crate) reserve: Reserve,
    live: RefCell<Rc<Snapshot>>,
    pub(crate) deadlines: Deadlines,
    /// Exchanges that are done, for the next requests.
    #[expect(clippy::vec_box, reason = "each is lent out as it is, and moving one would cost more than the pointer")]
    exchanges: RefCell<Vec<Box<Exchange>>>,
    observer: Option<Arc<dyn Observer>>,
    pool: RefCell<Pool>,
    shared: RefCell<Shared>,
    outbound: RefCell<AllOutbound>,
    /// What this worker may have of it.
    pub(crate) share: Share,
    /// By listener and server name.
    l4_turns: RefCell<BTreeMap<L4Key, Turns>>,
    mirrors: Arc<Semaphore>,
    /// Refused connections that are told why.
    telling: Arc<Semaphore>,
    phase: watch::Receiver<Phase>,
    /// What `phase` says, without its lock.
    now_in: Cell<Phase>,
    /// Open connections, and word of the end of the last one.
    open: Rc<(Cell<usize>, Notify)>,
    overloaded: Cell<bool>,
    random: Cell<u64>,
    seal: Arc<Seal>,
    /// Clients of datagram ports that came from another process, or go to one.
    pub(crate) handed: Handed,
    /// By back end, of those that have one.
    budgets: RefCell<BTreeMap<Arc<str>, Budget>>,
    /// Who is believed about clients' addresses.
    proxies: Vec<IpNet>,
    /// How many proxies before the gate are believed about what they forward.
    pub(crate) trusted_proxies: usize,
    ports: PortMap,
    index: usize,
    workers: usize,
    /// By the port of its listener: where HTTP/3 is served, as `Alt-Svc` has it.
    #[cfg(feature = "http3")]
    pub(crate) alternatives: RefCell<BTreeMap<(IpAddr, u16), Arc<str>>>,
}

/// A place that is listened on: its address, its port before any mapping, whether for datagrams.
type Place = (IpAddr, u16, bool);

/// What listens at a place.
struct Accepting {
    /// The sockets, by which it is seen that they are still the same.
    of: Arc<Listening>,
    tasks: Vec<JoinHandle<()>>,
}

impl Worker {
    /// Serves until the gate ends and all connections have, or the gate is gone.
    pub(crate) async fn run(part: Part) {
        let Part { index, workers, mut plans, phase, done, options, admission, reporter, seal, handed, left } = part;
        let limits = options.limits;
        let worker = Rc::new(Self {
            limits,
            reporter,
            proxy_status: options.proxy_status,
            admission,
            reserve: Reserve::new(),
            live: RefCell::new(Rc::new(Snapshot::new(Arc::clone(&plans.borrow().live)))),
            deadlines: Deadlines::new(Instant::now().into_std()),
            exchanges: RefCell::default(),
            observer: options.observer,
            pool: RefCell::default(),
            shared: RefCell::default(),
            outbound: RefCell::default(),
            share: Share::of(&limits, workers),
            l4_turns: RefCell::default(),
            mirrors: Arc::new(Semaphore::new(limits.mirrors)),
            telling: Arc::new(Semaphore::new(accept::TOLD)),
            phase,
            now_in: Cell::new(Phase::Serving),
            open: Rc::default(),
            overloaded: Cell::new(false),
            random: Cell::new(0x9e37_79b9_7f4a_7c15),
            seal,
            handed: Handed::default(),
            budgets: RefCell::default(),
            proxies: options.proxies,
            trusted_proxies: options.trusted_proxies,
            ports: options.ports,
            index,
            workers,
            #[cfg(feature = "http3")]
            alternatives: RefCell::default(),
        });
        tokio::task::spawn_local(Rc::clone(&worker).keep_time());
        let flushed = Rc::clone(&worker);
        tokio::task::spawn_local(async move { flushed.reporter.keep_flushed().await });
        let arriving = Rc::clone(&worker);
        tokio::task::spawn_local(async move { arriving.handed.arrive(handed).await });
        let mut listening = BTreeMap::new();
        #[cfg(feature = "http3")]
        let mut quic = crate::http3::Listeners::default();
        let mut tick = tokio::time::interval(overload::EACH);
        let mut memory = overload::Memory::new(&limits);
        loop {
            tokio::select! {
                biased;
                () = worker.draining() => break,
                changed = plans.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let Serving { number, live, sockets } = plans.borrow_and_update().clone();
                    worker.swap(live);
                    #[cfg_attr(not(feature = "http3"), expect(unused_mut, reason = "only HTTP/3 adds to them"))]
                    let mut errors = worker.listen(&sockets, &mut listening).await;
                    #[cfg(feature = "http3")]
                    errors.extend(quic.listen(&worker, &sockets));
                    drop(sockets);
                    worker.reporter.counters().plan.set(number);
                    let _ = done.send(TakenUp { plan: number, errors });
                }
                _ = tick.tick() => {
                    worker.overloaded.set(memory.is_short());
                    let now = worker.deadlines.now();
                    worker.pool.borrow_mut().expire(now);
                    worker.count_idle();
                    worker.shared.borrow_mut().expire(now);
                    worker.outbound.borrow_mut().retain(|_, outbound| Rc::strong_count(outbound) > 1);
                }
            }
        }
        worker.finish_datagrams(&mut listening).await;
        let _ = left.send(worker.handed.left());
        #[cfg(feature = "http3")]
        quic.finish().await;
        worker.finish(listening).await;
        worker.reporter.flush();
    }

    /// Lets datagram ports end, which do so at once.
    async fn finish_datagrams(&self, listening: &mut BTreeMap<Place, Accepting>) {
        for (_, accepting) in listening.extract_if(.., |(_, _, udp), _| *udp) {
            for task in accepting.tasks {
                let _ = task.await;
            }
        }
    }

    /// Lets listeners end in their own way, and connections come to their end.
    async fn finish(self: &Rc<Self>, listening: BTreeMap<Place, Accepting>) {
        for task in listening.into_values().flat_map(|accepting| accepting.tasks) {
            let _ = task.await;
        }
        while self.open.0.get() > 0 {
            self.open.1.notified().await;
        }
    }

    /// Looks at deadlines, and tells connections of the gate's phases, as long as there is a connection.
    async fn keep_time(self: Rc<Self>) {
        let mut phase = self.phase.clone();
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                _ = sweep.tick() => {
                    date::tick();
                    self.deadlines.sweep(Instant::now().into_std());
                }
                changed = phase.changed(), if self.now_in.get() != Phase::Ending => {
                    // Without a sender the gate is gone: that is an end too.
                    self.now_in.set(if changed.is_ok() { *phase.borrow_and_update() } else { Phase::Ending });
                    self.deadlines.wake_all();
                }
            }
        }
    }

    fn swap(&self, live: Arc<Live>) {
        if let Some(numbers) = live.other_numbers(&self.live()) {
            self.pool.borrow_mut().retain(|number| numbers.contains(&number));
            self.shared.borrow_mut().retain(|number| numbers.contains(&number));
        }
        self.l4_turns.borrow_mut().clear();
        if !self.budgets.borrow().is_empty() {
            let budgeted = |name: &Arc<str>| live.plan.backends.iter().any(|backend| backend.name == *name);
            self.budgets.borrow_mut().retain(|name, _| budgeted(name));
        }
        *self.live.borrow_mut() = Rc::new(Snapshot::new(live));
    }

    /// Listens where the plan says, and no longer where it does not. Gives what cannot be listened on.
    async fn listen(self: &Rc<Self>, sockets: &Sockets, listening: &mut BTreeMap<Place, Accepting>) -> Vec<GateError> {
        let live = self.live();
        let at = |port: &PortPlan| (listen::place(port.address, port.port, &self.ports), port.serve.is_udp());
        let mut wanted = BTreeMap::new();
        for port in &live.plan.ports {
            if let Some(of) = sockets.get(&at(port)) {
                wanted.insert((port.address, port.port, port.serve.is_udp()), of);
            }
        }
        let gone = listening.extract_if(.., |place, accepting| {
            let stays = wanted.get(place).is_some_and(|of| Arc::ptr_eq(of, &accepting.of));
            !stays || accepting.tasks.iter().any(JoinHandle::is_finished)
        });
        for task in gone.flat_map(|(_, accepting)| accepting.tasks) {
            task.abort();
            // Its socket is closed when it is gone, and not before.
            let _ = task.await;
        }
        let mut errors = Vec::new();
        for port in &live.plan.ports {
            let place = (port.address, port.port, port.serve.is_udp());
            let Some(of) = wanted.get(&place).filter(|_| !listening.contains_key(&place)) else { continue };
            match self.open_at(place, of) {
                Ok(tasks) => _ = listening.insert(place, Accepting { of: Arc::clone(of), tasks }),
                Err(source) => {
                    let (gateway, (at, udp)) = (Arc::clone(&port.gateway), at(port));
                    errors.push(GateError::Listen { at, gateway, port: port.port, udp, source });
                }
            }
        }
        errors
    }

    fn open_at(
        self: &Rc<Self>,
        (address, port, datagrams): Place,
        of: &Arc<Listening>,
    ) -> io::Result<Vec<JoinHandle<()>>> {
        let mut tasks = Vec::new();
        for (number, socket) in of.of_worker(self.index, self.workers)? {
            let worker = Rc::clone(self);
            if datagrams {
                let socket = listen::datagram(socket)?;
                let port = udp::Port { at: socket.local_addr()?, number, place: (address, port) };
                tasks.push(tokio::task::spawn_local(udp::serve(worker, socket, port)));
            } else {
                let connections = Arc::clone(of.connections());
                let listener =
                    accept::Listener { socket: listen::stream(socket)?, connections, place: (address, port) };
                tasks.push(tokio::task::spawn_local(accept::accept(worker, listener)));
            }
        }
        Ok(tasks)
    }

    /// Where a port of the plan is listened on.
    #[cfg(feature = "http3")]
    pub(crate) fn listens_at(&self, port: &PortPlan) -> std::net::SocketAddr {
        listen::place(port.address, port.port, &self.ports)
    }

    /// Where else clients of a listener's port are served.
    #[cfg(feature = "http3")]
    pub(crate) fn alternative(&self, place: (IpAddr, u16)) -> Option<Arc<str>> {
        self.alternatives.borrow().get(&place).cloned()
    }

    /// Which of how many workers this one is.
    #[cfg(feature = "http3")]
    pub(crate) const fn part(&self) -> (usize, usize) {
        (self.index, self.workers)
    }

    /// How many proxies before a socket are believed about clients.
    pub(crate) fn trusted(&self, (address, port): (IpAddr, u16)) -> usize {
        let live = self.live();
        let own = live.port(address, port).and_then(|port| live.plan.ports[port].trusted_proxies);
        own.map_or(self.trusted_proxies, usize::from)
    }

    /// The plan that is served. Held over one request at most.
    pub(crate) fn live(&self) -> Rc<Snapshot> {
        Rc::clone(&self.live.borrow())
    }

    /// What the next request is served with.
    pub(crate) fn exchange(&self) -> Box<Exchange> {
        self.exchanges.borrow_mut().pop().unwrap_or_else(|| Box::new(Exchange::new()))
    }

    /// Ends an exchange, and keeps it for another request.
    pub(crate) fn done(&self, mut exchange: Box<Exchange>) {
        const MOST: usize = 256;
        exchange.finish();
        let mut exchanges = self.exchanges.borrow_mut();
        if exchanges.len() < MOST {
            exchanges.push(exchange);
        }
    }

    /// A request has ended.
    pub(crate) fn finished(&self, live: &Live, client: &Client, record: &Record, head: &RequestHead, bytes: &[u8]) {
        self.reporter.request(&live.plan, &live.names, client, record, head, bytes);
        if let Some(observer) = &self.observer {
            observer.request(&live.plan, client, record, head, bytes);
        }
    }

    /// A connection that was passed on has ended.
    pub(crate) fn ended(&self, live: &Live, client: &Client, record: &ConnectionRecord) {
        self.reporter.connection(&live.names, client, record);
        if let Some(observer) = &self.observer {
            observer.connection(&live.plan, client, record);
        }
    }

    /// The target of a listener's split for the next connection.
    pub(crate) fn choose_l4(&self, place: (IpAddr, u16), name: &str, split: &Split) -> Option<usize> {
        // By how the split is found: names that one wildcard covers share its turns where they come to the same entry.
        let mut turns = self.l4_turns.borrow_mut();
        if turns.len() > 4096 {
            turns.clear();
        }
        turns.entry((place.0, place.1, name.into())).or_default().next(split)
    }

    /// What there is of connections to a back end.
    ///
    /// # Errors
    /// That there is no such back end.
    pub(crate) fn outbound(&self, live: &Live, backend: u32) -> Result<Rc<Outbound>, Reason> {
        let backend = live.backend(backend).ok_or(local::NO_BACKEND)?;
        let mut outbound = self.outbound.borrow_mut();
        if let Some(known) = outbound.get(&backend.name) {
            return Ok(Rc::clone(known));
        }
        Ok(Rc::clone(outbound.entry(Arc::clone(&backend.name)).or_default()))
    }

    /// Closes an idle connection to a back end, for another one in its place. Whether there was one.
    pub(crate) fn give_up(&self, live: &Live, backend: u32) -> bool {
        let given = self.pool.borrow_mut().give_up(live.numbers_of(backend));
        self.count_idle();
        given
    }

    /// Connections that requests share. Not to be held while waiting for anything.
    pub(crate) fn shared(&self) -> RefMut<'_, Shared> {
        self.shared.borrow_mut()
    }

    /// A kept connection to a target, and the gate's own address on it.
    pub(crate) fn pooled(&self, target: &Target) -> Option<(Wire, Option<SocketAddr>)> {
        let kept = self.pool.borrow_mut().take(target, self.deadlines.now());
        self.count_idle();
        kept
    }

    fn count_idle(&self) {
        self.reporter.counters().upstream_idle.set(self.pool.borrow().len() as u64);
    }

    /// The gate's own address on a connection to a back end, where it is told to anybody: to ask for it is a system call.
    pub(crate) fn local(&self, stream: &Stream) -> Option<SocketAddr> {
        if self.observer.is_some() || self.reporter.has_log() { stream.local() } else { None }
    }

    /// Keeps a connection to a target for later.
    pub(crate) fn keep(&self, target: &Target, wire: Wire, local: Option<SocketAddr>) {
        self.pool.borrow_mut().put(target, wire, local, self.deadlines.now());
        self.count_idle();
    }

    /// Room for one more copy of a request.
    pub(crate) fn mirror_permit(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        Arc::clone(&self.mirrors).try_acquire_owned().ok()
    }

    /// What seals tokens of sessions.
    pub(crate) fn seal(&self) -> &Seal {
        &self.seal
    }

    /// What is left of a back end's budget of retries; none where it has none.
    pub(crate) fn budget<T>(
        &self,
        backend: Option<&Backend>,
        ask: impl FnOnce(&mut Budget, Instant) -> T,
    ) -> Option<T> {
        let backend = backend?;
        let constraint = backend.retry_budget?;
        let now = Instant::now();
        let mut budgets = self.budgets.borrow_mut();
        if !budgets.get(&backend.name).is_some_and(|budget| budget.is_of(&constraint)) {
            budgets.insert(Arc::clone(&backend.name), Budget::new(constraint, now));
        }
        budgets.get_mut(&backend.name).map(|budget| ask(budget, now))
    }

    /// When a new connection is old. They must not all end at once.
    pub(crate) fn old(&self) -> Option<std::time::Instant> {
        let age = Some(self.limits.connection_age).filter(|age| !age.is_zero())?;
        let thousandths = u32::try_from((self.random() >> 33) % 201).unwrap_or(0) + 900;
        Instant::now().into_std().checked_add(age.checked_mul(thousandths)? / 1000)
    }

    /// True for about that part of the calls.
    pub(crate) fn draw(&self, (numerator, denominator): (u32, u32)) -> bool {
        let drawn = self.random() >> 33;
        drawn % u64::from(denominator.max(1)) < u64::from(numerator)
    }

    /// Any number.
    pub(crate) fn random(&self) -> u64 {
        // xorshift64*: which requests are copied is no secret.
        let mut state = self.random.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.random.set(state);
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn phase(&self) -> Phase {
        self.now_in.get()
    }

    /// What the gate said last, by its own word.
    pub(crate) fn told(&self) -> Phase {
        *self.phase.borrow()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.phase() != Phase::Serving
    }

    /// Whether another process has its listeners.
    pub(crate) fn is_handed_over(&self) -> bool {
        *self.phase.borrow() == Phase::HandedOver
    }

    /// Waits until the worker is to end, or has handed its listeners over.
    pub(crate) async fn draining(&self) {
        self.until(Phase::HandedOver).await;
    }

    async fn until(&self, phase: Phase) {
        let mut now = self.phase.clone();
        // Without a sender the gate is gone: that is an end too.
        let _ = now.wait_for(|now| *now >= phase).await;
    }

    /// Whether requests are refused because the process has too little memory left.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.overloaded.get()
    }

    /// Whether that peer tells who the client is.
    pub(crate) fn is_proxy(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.proxies.iter().any(|net| net.contains(&peer))
    }

    /// Room to tell one more connection why it is refused.
    pub(crate) fn telling(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        Arc::clone(&self.telling).try_acquire_owned().ok()
    }

    /// Counts a connection until it is dropped.
    pub(crate) fn open(&self) -> Open {
        self.open.0.set(self.open.0.get() + 1);
        Open(Rc::clone(&self.open))
    }
}

/// An open connection: the worker ends after the last one.
pub(crate) struct Open(Rc<(Cell<usize>, Notify)>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() - 1);
        if self.0.0.get() == 0 {
            self.0.1.notify_one();
        }
    }
}
