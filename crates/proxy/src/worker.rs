//! Workers: each has a thread, a runtime, listeners and connections of its own.

use std::{
    cell::{Cell, RefCell, RefMut},
    collections::BTreeMap,
    io,
    net::IpAddr,
    rc::Rc,
    sync::{Arc, mpsc},
    time::Duration,
};

use ipnet::IpNet;
use strait_route::{PortPlan, RuleId, Split};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    accept::{self, Reserve},
    admission::Admission,
    backend::Target,
    gate::{GateError, Options, Phase, Serving, TakenUp},
    http2::Shared,
    io::Stream,
    l4,
    limits::Limits,
    listen::{self, Listening, PortMap, Sockets},
    live::Live,
    overload,
    pool::Pool,
    split::Turns,
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
}

/// A listener and a server name.
type L4Key = (IpAddr, u16, Box<str>);

/// How long the first request of a new connection is waited for when the worker ends.
const FIRST: Duration = Duration::from_secs(1);

/// What one worker has.
pub(crate) struct Worker {
    pub(crate) limits: Limits,
    pub(crate) admission: Arc<Admission>,
    pub(crate) reserve: Reserve,
    live: RefCell<Arc<Live>>,
    pool: RefCell<Pool>,
    shared: RefCell<Shared>,
    /// By rule: where its split is.
    turns: RefCell<Vec<Turns>>,
    /// By listener and server name.
    l4_turns: RefCell<BTreeMap<L4Key, Turns>>,
    /// By back end: its last endpoint.
    endpoints: RefCell<Vec<usize>>,
    mirrors: Arc<Semaphore>,
    /// Refused connections that are told why.
    telling: Arc<Semaphore>,
    phase: watch::Receiver<Phase>,
    /// Open connections, and word of the end of the last one.
    open: Rc<(Cell<usize>, Notify)>,
    overloaded: Cell<bool>,
    random: Cell<u64>,
    /// Who is believed about clients' addresses.
    proxies: Vec<IpNet>,
    ports: PortMap,
    index: usize,
    workers: usize,
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
        let Part { index, workers, mut plans, phase, done, options, admission } = part;
        let limits = options.limits;
        let worker = Rc::new(Self {
            limits,
            admission,
            reserve: Reserve::new(),
            live: RefCell::new(Arc::clone(&plans.borrow().live)),
            pool: RefCell::default(),
            shared: RefCell::default(),
            turns: RefCell::default(),
            l4_turns: RefCell::default(),
            endpoints: RefCell::default(),
            mirrors: Arc::new(Semaphore::new(limits.mirrors)),
            telling: Arc::new(Semaphore::new(accept::TOLD)),
            phase,
            open: Rc::default(),
            overloaded: Cell::new(false),
            random: Cell::new(0x9e37_79b9_7f4a_7c15),
            proxies: options.proxies,
            ports: options.ports,
            index,
            workers,
        });
        let mut listening = BTreeMap::new();
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
                    let errors = worker.listen(&sockets, &mut listening).await;
                    drop(sockets);
                    let _ = done.send(TakenUp { plan: number, errors });
                }
                _ = tick.tick() => {
                    worker.overloaded.set(memory.is_short());
                    let now = Instant::now().into_std();
                    worker.pool.borrow_mut().expire(now);
                    worker.shared.borrow_mut().expire(now);
                }
            }
        }
        worker.finish(listening).await;
    }

    /// Lets listeners end in their own way, and connections come to their end.
    async fn finish(self: &Rc<Self>, listening: BTreeMap<Place, Accepting>) {
        for ((_, _, udp), accepting) in listening {
            for task in accepting.tasks {
                if udp {
                    task.abort();
                }
                let _ = task.await;
            }
        }
        while self.open.0.get() > 0 {
            self.open.1.notified().await;
        }
    }

    fn swap(&self, live: Arc<Live>) {
        // TLS to a back end goes by its policy, which may have changed.
        self.pool.borrow_mut().retain(|target| target.tls.is_none());
        self.shared.borrow_mut().retain(|target| target.tls.is_none());
        self.turns.borrow_mut().clear();
        self.endpoints.borrow_mut().clear();
        self.l4_turns.borrow_mut().clear();
        *self.live.borrow_mut() = live;
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
                    let gateway = Arc::clone(&port.gateway);
                    errors.push(GateError::Listen { at: at(port).0, gateway, port: port.port, source });
                }
            }
        }
        errors
    }

    fn open_at(self: &Rc<Self>, (address, port, udp): Place, of: &Arc<Listening>) -> io::Result<Vec<JoinHandle<()>>> {
        let mut tasks = Vec::new();
        for socket in of.of_worker(self.index, self.workers)? {
            let worker = Rc::clone(self);
            if udp {
                let socket = listen::datagram(socket)?;
                tasks.push(tokio::task::spawn_local(l4::udp(worker, socket, (address, port))));
            } else {
                let connections = Arc::clone(of.connections());
                let listener =
                    accept::Listener { socket: listen::stream(socket)?, connections, place: (address, port) };
                tasks.push(tokio::task::spawn_local(accept::accept(worker, listener)));
            }
        }
        Ok(tasks)
    }

    /// The plan that is served. Held over one request at most.
    pub(crate) fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.borrow())
    }

    /// The target of a rule's split for the next request.
    pub(crate) fn choose(&self, rule: RuleId, split: &Split) -> Option<usize> {
        let (mut turns, index) = (self.turns.borrow_mut(), rule as usize);
        if turns.len() <= index {
            turns.resize(index + 1, Turns::default());
        }
        turns[index].next(split)
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

    /// Where the endpoints of a back end are being gone round.
    pub(crate) fn turn(&self, backend: u32) -> RefMut<'_, usize> {
        RefMut::map(self.endpoints.borrow_mut(), |turns| {
            let index = backend as usize;
            if turns.len() <= index {
                turns.resize(index + 1, 0);
            }
            &mut turns[index]
        })
    }

    /// Connections that requests share. Not to be held while waiting for anything.
    pub(crate) fn shared(&self) -> RefMut<'_, Shared> {
        self.shared.borrow_mut()
    }

    /// A kept connection to a target.
    pub(crate) fn pooled(&self, target: &Target) -> Option<Stream> {
        self.pool.borrow_mut().take(target, Instant::now().into_std())
    }

    /// Keeps a connection to a target for later.
    pub(crate) fn keep(&self, target: Target, stream: Stream) {
        self.pool.borrow_mut().put(target, stream, Instant::now().into_std());
    }

    /// Room for one more copy of a request.
    pub(crate) fn mirror_permit(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        Arc::clone(&self.mirrors).try_acquire_owned().ok()
    }

    /// True for about that part of the calls.
    pub(crate) fn draw(&self, (numerator, denominator): (u32, u32)) -> bool {
        // xorshift64*: which requests are copied is no secret.
        let mut state = self.random.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.random.set(state);
        let drawn = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        drawn % u64::from(denominator.max(1)) < u64::from(numerator)
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.phase() != Phase::Serving
    }

    /// Waits until the worker is to end, or has handed its listeners over.
    pub(crate) async fn draining(&self) {
        self.until(Phase::HandedOver).await;
    }

    /// Waits until an idle connection is to end. One that was not `used` yet is waited for: its request is on its way.
    pub(crate) async fn ending(&self, used: bool) {
        self.until(Phase::Ending).await;
        if !used {
            tokio::time::sleep(FIRST).await;
        }
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
