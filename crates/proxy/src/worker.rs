//! Workers, and the gate that they make up.

use std::{
    cell::{Cell, RefCell, RefMut},
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    rc::Rc,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use socket2::Type;
use strait_route::{Plan, RuleId, Serve, Split};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::{AbortHandle, LocalSet},
    time::Instant,
};

use crate::{
    backend::Target,
    http2::Shared,
    io::Stream,
    l4,
    listen::{self, PortMap},
    live::Live,
    pool::Pool,
    serve::{Client, serve},
    split::Turns,
};

/// Bounds on what clients can make the gate hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How large heads of requests may be.
    pub head: strait_http::Limits,
    /// How long a head, or a handshake, may take from its first byte on.
    pub head_time: Duration,
    /// How long a connection may idle between requests, and a body stand still.
    pub idle: Duration,
    /// How long a connection that is only passed on may idle.
    pub tunnel_idle: Duration,
    /// Requests at once on a connection of HTTP/2; further ones are refused, and may be tried again.
    pub streams: u32,
    /// Connections of a worker; further ones are closed at once.
    pub connections: usize,
    /// Copies of requests that a worker sends at once; further ones are left out.
    pub mirrors: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: strait_http::Limits::default(),
            head_time: Duration::from_secs(15),
            idle: Duration::from_mins(5),
            tunnel_idle: Duration::from_hours(1),
            streams: 100,
            connections: 32_768,
            mirrors: 1024,
        }
    }
}

/// How a gate runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Ports that are listened on in place of those that listeners name.
    pub ports: PortMap,
    /// Bounds.
    pub limits: Limits,
    /// Workers; as many as the process may use cores where not given.
    pub workers: Option<NonZeroUsize>,
}

/// A socket that cannot be listened on, or a worker that cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The socket of a listener.
    #[error("cannot listen on {at} (Gateway {gateway}, port {port}): {source}")]
    Listen {
        /// Where.
        at: SocketAddr,
        /// For which gateway.
        gateway: Arc<str>,
        /// The port of its listener.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// A thread or its runtime.
    #[error("cannot start a worker: {0}")]
    Worker(#[from] io::Error),
}

/// Workers that serve a plan. They stop when it is dropped.
#[derive(Debug)]
pub struct Gate {
    plans: watch::Sender<(u64, Arc<Live>)>,
    drain: watch::Sender<bool>,
    threads: Vec<thread::JoinHandle<()>>,
    /// The number of the plan that is served.
    served: u64,
    taken_up: mpsc::Receiver<TakenUp>,
}

/// How long a worker may take to take up a plan.
const TAKEN_UP: Duration = Duration::from_secs(10);

/// That a worker serves a plan.
struct TakenUp {
    plan: u64,
    errors: Vec<GateError>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Gate {
    /// Starts workers that serve nothing yet.
    ///
    /// # Errors
    /// A worker that cannot be started.
    pub fn start(options: &Options) -> Result<Self, GateError> {
        let count = options.workers.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
        let (plans, _) = watch::channel((0, Arc::new(Live::new(Plan::default()))));
        let (drain, _) = watch::channel(false);
        let (done, taken_up) = mpsc::channel();
        let mut threads = Vec::new();
        for index in 0..count {
            let (plans, drain, done, options) = (plans.subscribe(), drain.subscribe(), done.clone(), options.clone());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let run = move || {
                let local = LocalSet::new();
                local.block_on(&runtime, Worker::run(plans, drain, done, options));
            };
            threads.push(thread::Builder::new().name(format!("worker-{index}")).spawn(run)?);
        }
        Ok(Self { plans, drain, threads, served: 0, taken_up })
    }

    /// Serves `plan`: returns when every worker does. Connections that it does not concern go on.
    ///
    /// Gives the listeners that cannot be served, each once; the others are.
    pub fn serve(&mut self, plan: Plan) -> Vec<GateError> {
        self.served += 1;
        self.plans.send_replace((self.served, Arc::new(Live::new(plan))));
        let (mut errors, mut known) = (Vec::new(), BTreeSet::new());
        let mut waiting = self.threads.len();
        while waiting > 0 {
            // A worker is never busy for long: it does not compute anything.
            let Ok(taken_up) = self.taken_up.recv_timeout(TAKEN_UP) else { break };
            if taken_up.plan == self.served {
                waiting -= 1;
                errors.extend(taken_up.errors.into_iter().filter(|error| known.insert(error.to_string())));
            }
        }
        errors
    }

    /// Takes no new connections, ends idle ones, and waits until the others are done, at most so long.
    pub fn drain(self, most: Duration) {
        self.drain.send_replace(true);
        let (done, finished) = mpsc::channel();
        let threads = self.threads;
        thread::spawn(move || {
            for thread in threads {
                let _ = thread.join();
            }
            let _ = done.send(());
        });
        let _ = finished.recv_timeout(most);
    }
}

/// A listener and a server name.
type L4Key = (IpAddr, u16, Box<str>);

/// What one worker has.
pub(crate) struct Worker {
    pub(crate) limits: Limits,
    live: RefCell<Arc<Live>>,
    pool: RefCell<Pool>,
    shared: RefCell<Shared>,
    /// By rule: where its split is.
    turns: RefCell<Vec<Turns>>,
    /// By listener and server name.
    l4_turns: RefCell<BTreeMap<L4Key, Turns>>,
    /// By back end: its last endpoint.
    endpoints: RefCell<Vec<usize>>,
    connections: Arc<Semaphore>,
    mirrors: Arc<Semaphore>,
    drain: watch::Receiver<bool>,
    random: Cell<u64>,
    ports: PortMap,
}

impl Worker {
    async fn run(
        mut plans: watch::Receiver<(u64, Arc<Live>)>,
        drain: watch::Receiver<bool>,
        done: mpsc::Sender<TakenUp>,
        options: Options,
    ) {
        let limits = options.limits;
        let worker = Rc::new(Self {
            limits,
            live: RefCell::new(Arc::clone(&plans.borrow().1)),
            pool: RefCell::default(),
            shared: RefCell::default(),
            turns: RefCell::default(),
            l4_turns: RefCell::default(),
            endpoints: RefCell::default(),
            connections: Arc::new(Semaphore::new(limits.connections)),
            mirrors: Arc::new(Semaphore::new(limits.mirrors)),
            drain: drain.clone(),
            random: Cell::new(0x9e37_79b9_7f4a_7c15),
            ports: options.ports,
        });
        let mut listening = BTreeMap::new();
        let mut tick = tokio::time::interval(Duration::from_secs(10));
        loop {
            tokio::select! {
                changed = plans.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let (plan, live) = plans.borrow_and_update().clone();
                    worker.swap(live);
                    let errors = worker.listen(&mut listening);
                    let _ = done.send(TakenUp { plan, errors });
                }
                () = worker.draining() => break,
                _ = tick.tick() => {
                    let now = Instant::now().into_std();
                    worker.pool.borrow_mut().expire(now);
                    worker.shared.borrow_mut().expire(now);
                }
            }
        }
        for (_, task) in listening {
            task.abort();
        }
        // All permits are back when all connections have ended.
        let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
        let _ = worker.connections.acquire_many(all).await;
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
    fn listen(self: &Rc<Self>, listening: &mut BTreeMap<(IpAddr, u16, bool), AbortHandle>) -> Vec<GateError> {
        let live = self.live();
        let key = |port: &strait_route::PortPlan| (port.address, port.port, port.serve.is_udp());
        let wanted: BTreeSet<_> = live.plan.ports.iter().map(key).collect();
        listening.retain(|place, task| {
            let stays = wanted.contains(place) && !task.is_finished();
            if !stays {
                task.abort();
            }
            stays
        });
        let mut errors = Vec::new();
        for port in &live.plan.ports {
            if listening.contains_key(&key(port)) {
                continue;
            }
            let at = listen::place(port.address, port.port, &self.ports);
            match self.open(port, at) {
                Ok(task) => {
                    listening.insert(key(port), task);
                }
                Err(source) => {
                    let gateway = Arc::clone(&port.gateway);
                    errors.push(GateError::Listen { at, gateway, port: port.port, source });
                }
            }
        }
        errors
    }

    fn open(self: &Rc<Self>, port: &strait_route::PortPlan, at: SocketAddr) -> io::Result<AbortHandle> {
        let (worker, address, number) = (Rc::clone(self), port.address, port.port);
        if port.serve.is_udp() {
            let socket = listen::datagram(listen::open(at, Type::DGRAM)?)?;
            return Ok(tokio::task::spawn_local(l4::udp(worker, socket, (address, number))).abort_handle());
        }
        let listener = listen::stream(listen::open(at, Type::STREAM)?)?;
        Ok(tokio::task::spawn_local(accept(worker, listener, address, number)).abort_handle())
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

    pub(crate) fn is_draining(&self) -> bool {
        *self.drain.borrow()
    }

    /// Waits until the worker is to end.
    pub(crate) async fn draining(&self) {
        let mut drain = self.drain.clone();
        // Without a sender the gate is gone: that is an end too.
        let _ = drain.wait_for(|drain| *drain).await;
    }
}

/// Takes connections of a listener.
async fn accept(worker: Rc<Worker>, listener: TcpListener, address: IpAddr, port: u16) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of descriptors, most likely: others must end first.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&worker.connections).try_acquire_owned() else { continue };
        let _ = stream.set_nodelay(true);
        let worker = Rc::clone(&worker);
        tokio::task::spawn_local(async move {
            let _permit = permit;
            let client = Client { peer, address, port, https: false, listener: None };
            let live = worker.live();
            let serve_as = live.port(address, port).map(|port| &live.plan.ports[port].serve);
            match serve_as {
                Some(Serve::Http(_)) => {
                    drop(live);
                    serve(worker, Stream::Plain(stream), client).await;
                }
                Some(Serve::Tls(_)) => {
                    drop(live);
                    l4::tls(worker, stream, Client { https: true, ..client }).await;
                }
                Some(Serve::Tcp(_)) => {
                    drop(live);
                    l4::tcp(worker, stream, client).await;
                }
                Some(Serve::Udp(_)) | None => {}
            }
        });
    }
}
