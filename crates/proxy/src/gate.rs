//! The gate that workers make up: what they serve, their sockets, their end.

#[cfg(feature = "http3")]
mod quic;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    num::NonZeroUsize,
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use ipnet::IpNet;
use socket2::Socket;
use strait_route::{Plan, PortPlan};
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{oneshot, watch},
    time::timeout,
};

use crate::{
    admin::{self, Admin, Health},
    admission::Admission,
    limits::Limits,
    listen::{self, Listening, Place, PortMap, Sockets},
    live::Live,
    record::Observer,
    session::{Seal, SessionKey},
    telemetry::{self, AccessLog, AccessLogError, Reporter, Sink, Telemetry},
    udp::UdpSession,
    worker::{Part, Worker},
};

/// How a gate runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Ports that are listened on in place of those that listeners name.
    pub ports: PortMap,
    /// Bounds.
    pub limits: Limits,
    /// Workers; as many as the process may use cores where not given.
    pub workers: Option<NonZeroUsize>,
    /// Who tells by the PROXY protocol who the client is. Their connections begin with it, all others are served as they are.
    pub proxies: Vec<IpNet>,
    /// How many proxies before the gate are believed about clients: about the last addresses of `X-Forwarded-For`, and
    /// `X-Forwarded-Proto` (Istio's `numTrustedProxies`).
    pub trusted_proxies: usize,
    /// Where requests and connections are logged.
    pub access_log: Option<AccessLog>,
    /// Series of metrics that a worker keeps.
    pub series: usize,
    /// Whether answers of the gate's own say why in a `Proxy-Status` field.
    pub proxy_status: bool,
    /// Where operators are answered.
    pub admin: Option<SocketAddr>,
    /// Where everybody is answered who asks for readiness and metrics.
    pub status: Option<SocketAddr>,
    /// Who sees all requests and connections that end.
    pub observer: Option<Arc<dyn Observer>>,
    /// Whether HTTPS listeners serve HTTP/3, too.
    #[cfg(feature = "http3")]
    pub http3: bool,
    /// The key that sessions are sealed by; one of the process's own where not given.
    pub session_key: Option<SessionKey>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            #[cfg(feature = "http3")]
            http3: false,
            session_key: None,
            ports: PortMap::new(),
            limits: Limits::default(),
            workers: None,
            proxies: Vec::new(),
            trusted_proxies: 0,
            access_log: None,
            series: 4096,
            proxy_status: false,
            admin: None,
            status: None,
            observer: None,
        }
    }
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
        /// Whether for datagrams: of a UDP listener, or of HTTP/3.
        udp: bool,
        /// Why.
        source: io::Error,
    },
    /// The socket of an admin or status listener.
    #[error("cannot listen on {at} for administration: {source}")]
    Admin {
        /// Where.
        at: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The access log.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    /// A thread or its runtime.
    #[error("cannot start a worker: {0}")]
    Worker(#[from] io::Error),
}

/// Why a gate ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drain {
    /// It is asked to. What waits in the backlog is served, idle connections end at once.
    Ending,
    /// Another process listens on its sockets. An idle connection ends with its next response, so that no request is lost on its way,
    /// or towards the end of the time.
    HandedOver,
}

/// Where a gate is in its life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Phase {
    Serving,
    HandedOver,
    Ending,
}

/// What workers are to serve.
#[derive(Clone)]
pub(crate) struct Serving {
    pub(crate) number: u64,
    pub(crate) live: Arc<Live>,
    pub(crate) sockets: Arc<Sockets>,
}

/// Workers that serve a plan. They stop when it is dropped.
#[derive(Debug)]
pub struct Gate {
    plans: watch::Sender<Serving>,
    phase: watch::Sender<Phase>,
    threads: Vec<thread::JoinHandle<()>>,
    /// The number of the plan that is served.
    served: u64,
    taken_up: mpsc::Receiver<TakenUp>,
    sockets: Arc<Sockets>,
    /// Sockets of another process that no plan has asked for yet.
    inherited: BTreeMap<Place, Vec<Socket>>,
    /// Places of the plan where nothing could be opened.
    missing: Vec<Place>,
    ports: PortMap,
    #[cfg(feature = "http3")]
    http3: bool,
    /// By it, processes that have the same sockets take turns with the halves of those for HTTP/3.
    generation: u32,
    admission: Arc<Admission>,
    telemetry: Arc<Telemetry>,
    health: Arc<Health>,
    sink: Option<Sink>,
    admin: Option<SocketAddr>,
    status: Option<SocketAddr>,
    session_key: SessionKey,
    /// Whom clients of datagram ports are given to, until they are.
    handed: Vec<oneshot::Sender<Vec<UdpSession>>>,
    /// Whether another process is to hand them over.
    awaited: bool,
    /// What workers leave to another process, once each.
    left: mpsc::Receiver<Vec<UdpSession>>,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").field("number", &self.number).finish_non_exhaustive()
    }
}

/// How long a worker may take to take up a plan.
const TAKEN_UP: Duration = Duration::from_secs(10);

/// How long workers may take to let go of clients of datagram ports.
const LET_GO: Duration = Duration::from_secs(5);

/// That a worker serves a plan.
pub(crate) struct TakenUp {
    pub(crate) plan: u64,
    pub(crate) errors: Vec<GateError>,
}

/// Starts the thread of a worker. Its runtime is made there, and is that thread's alone: so a task is queued once, without a lock.
fn worker(index: usize, part: Part) -> io::Result<thread::JoinHandle<()>> {
    let (made, is_made) = mpsc::channel();
    let run = move || match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => {
            let _ = made.send(Ok(()));
            runtime.block_on(Worker::run(part));
        }
        Err(error) => _ = made.send(Err(error)),
    };
    let thread = thread::Builder::new().name(format!("worker-{index}")).spawn(run)?;
    is_made.recv().unwrap_or_else(|gone| Err(io::Error::other(gone)))?;
    Ok(thread)
}

impl Gate {
    /// The key that sessions are sealed by: whoever has it can make tokens of its own.
    pub fn session_key(&self) -> SessionKey {
        self.session_key.clone()
    }

    /// Starts workers that serve nothing yet.
    ///
    /// # Errors
    /// A worker that cannot be started.
    pub fn start(options: &Options) -> Result<Self, GateError> {
        let workers = options.workers.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
        let (telemetry, sink) = Telemetry::start(workers, options.series, options.access_log.as_ref())?;
        let names = telemetry.names(&Plan::default(), None);
        let nothing = Serving {
            number: 0,
            live: Arc::new(Live::new(Plan::default(), names, None)),
            sockets: Arc::new(Sockets::new()),
        };
        let (plans, _) = watch::channel(nothing);
        let (phase, _) = watch::channel(Phase::Serving);
        let (done, taken_up) = mpsc::channel();
        let admission = Arc::new(Admission::new(&options.limits));
        let health = Arc::<Health>::default();
        let asked = Admin {
            telemetry: Arc::clone(&telemetry),
            health: Arc::clone(&health),
            plans: plans.subscribe(),
            phase: phase.subscribe(),
        };
        let (admin, status) = admin::start(asked, options.admin, options.status)
            .map_err(|(at, source)| GateError::Admin { at, source })?;
        let none = |_| io::Error::other("the system has no randomness");
        let session_key = options.session_key.clone().map_or_else(SessionKey::random, Ok).map_err(none)?;
        let seal = Arc::new(Seal::new(&session_key).map_err(none)?);
        let (mut threads, mut handed) = (Vec::new(), Vec::new());
        let (leave, left) = mpsc::channel();
        for index in 0..workers {
            let (hand, sessions) = oneshot::channel();
            handed.push(hand);
            let lines = sink.as_ref().map(Sink::lines);
            let reporter = Reporter::new(index, Arc::clone(&telemetry), lines, options.ports.clone());
            let part = Part {
                index,
                workers,
                plans: plans.subscribe(),
                phase: phase.subscribe(),
                done: done.clone(),
                options: options.clone(),
                admission: Arc::clone(&admission),
                reporter,
                seal: Arc::clone(&seal),
                handed: sessions,
                left: leave.clone(),
            };
            threads.push(worker(index, part)?);
        }
        Ok(Self {
            plans,
            phase,
            threads,
            served: 0,
            taken_up,
            sockets: Arc::default(),
            inherited: BTreeMap::new(),
            missing: Vec::new(),
            ports: options.ports.clone(),
            #[cfg(feature = "http3")]
            http3: options.http3,
            generation: 0,
            admission,
            telemetry,
            health,
            sink,
            admin,
            status,
            session_key,
            handed,
            awaited: false,
            left,
        })
    }

    /// Where operators are answered, if anywhere.
    pub const fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Where everybody is answered, if anywhere.
    pub const fn status(&self) -> Option<SocketAddr> {
        self.status
    }

    /// Listens on sockets of another process, where the next plan asks for what they listen at. Others of them are closed with it.
    /// `generation` is one more than that process had. Datagrams wait at their sockets until [`Gate::resume`].
    pub fn inherit(&mut self, sockets: Vec<OwnedFd>, generation: u32) {
        self.inherited = listen::sorted(sockets);
        self.generation = generation;
        self.awaited = true;
    }

    /// Takes clients of UDP ports over, after another process has let go of them, and serves datagrams from here on. Those whose
    /// port or back end is not served any more are let go.
    pub fn resume(&mut self, sessions: Vec<UdpSession>) {
        self.awaited = false;
        let workers = self.handed.len().max(1);
        let mut parts: Vec<Vec<UdpSession>> = self.handed.iter().map(|_| Vec::new()).collect();
        for session in sessions.into_iter().filter(|session| self.sockets.contains_key(&(session.at, true))) {
            // As sockets are spread over workers.
            if let Some(part) = parts.get_mut(session.socket % workers) {
                part.push(session);
            }
        }
        for (hand, part) in self.handed.drain(..).zip(parts) {
            let _ = hand.send(part);
        }
    }

    /// Takes nothing any more, for another process that does; gives its clients of UDP ports, which are the other one's from here on. To be
    /// followed by [`Gate::drain`].
    pub fn hand_over(&self) -> Vec<UdpSession> {
        self.phase.send_replace(Phase::HandedOver);
        let (mut sessions, began) = (Vec::new(), tokio::time::Instant::now());
        for _ in &self.threads {
            // A worker is never busy for long.
            let Ok(left) = self.left.recv_timeout(LET_GO.saturating_sub(began.elapsed())) else { break };
            sessions.extend(left);
        }
        sessions
    }

    /// How many processes had the sockets before this one.
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Goes on as before, after another process that was to take over did not.
    pub fn stay(&self) {
        #[cfg(feature = "http3")]
        self.steer();
    }

    /// Duplicates of all sockets that are listened on, for another process.
    ///
    /// # Errors
    /// None are left to the process.
    pub fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let mut all = Vec::new();
        for listening in self.sockets.values() {
            all.extend(listening.all()?);
        }
        Ok(all)
    }

    /// Serves `plan`: returns when every worker does. Connections that it does not concern go on.
    ///
    /// Gives the listeners that cannot be served, each once; the others are.
    pub fn serve(&mut self, plan: Plan) -> Vec<GateError> {
        self.served += 1;
        if !self.awaited {
            self.resume(Vec::new());
        }
        let began = tokio::time::Instant::now();
        let live = Arc::clone(&self.plans.borrow().live);
        let names = self.telemetry.names(&plan, Some((&live.plan, &live.names)));
        self.health.handed_over(self.served);
        let (mut errors, mut known) = (Vec::new(), BTreeSet::new());
        let sockets = Arc::new(self.open(&plan.ports, &mut errors));
        let before = std::mem::replace(&mut self.sockets, Arc::clone(&sockets));
        // What did not change is taken from the plan before.
        let live = Live::new(plan, names, Some(&live));
        self.plans.send_replace(Serving { number: self.served, live: Arc::new(live), sockets });
        let mut waiting = self.threads.len();
        while waiting > 0 {
            // A worker is never busy for long: it does not compute anything.
            let Ok(taken_up) = self.taken_up.recv_timeout(TAKEN_UP) else { break };
            if taken_up.plan == self.served {
                waiting -= 1;
                errors.extend(taken_up.errors.into_iter().filter(|error| known.insert(error.to_string())));
            }
        }
        // No worker holds those that are gone any more: now the kernel forgets them.
        drop(before);
        self.health.taken_up(began.elapsed(), errors.iter().map(ToString::to_string).collect());
        errors
    }

    /// Whether something that could not be listened on could be now: then a plan is worth being served again.
    pub fn can_listen_on_more(&self) -> bool {
        self.missing.iter().any(|place| listen::can_bind(*place))
    }

    /// The sockets for these ports: those that are there, those that another process left, else new ones.
    fn open(&mut self, ports: &[Arc<PortPlan>], errors: &mut Vec<GateError>) -> Sockets {
        let mut sockets = Sockets::new();
        let mut inherited = std::mem::take(&mut self.inherited);
        self.missing.clear();
        for port in ports {
            let at = listen::place(port.address, port.port, &self.ports);
            let place = (at, port.serve.is_udp());
            let opened = match self.sockets.get(&place) {
                // Two ports mapped to one would take each other's connections.
                _ if sockets.contains_key(&place) => Err(io::ErrorKind::AddrInUse.into()),
                Some(there) => Ok(Arc::clone(there)),
                None => Listening::open(place, self.threads.len(), inherited.remove(&place).unwrap_or_default())
                    .map(Arc::new),
            };
            match opened {
                Ok(listening) => _ = sockets.insert(place, listening),
                Err(source) => {
                    if !sockets.contains_key(&place) {
                        self.missing.push(place);
                    }
                    let (gateway, udp) = (Arc::clone(&port.gateway), place.1);
                    errors.push(GateError::Listen { at, gateway, port: port.port, udp, source });
                }
            }
        }
        #[cfg(feature = "http3")]
        {
            let missing = self.open_quic(ports, &mut sockets, &mut inherited, errors);
            self.missing.extend(missing);
        }
        sockets
    }

    /// How many connections of clients are open.
    pub fn connections(&self) -> usize {
        self.admission.connections()
    }

    /// Takes no new connections, and waits until the others are done, at most so long. Gives how many are not.
    pub async fn drain(self, why: Drain, most: Duration) -> usize {
        let Self { plans, phase, threads, sockets, admission, health, sink, .. } = self;
        health.drain();
        // Workers must not take this for a plan without listeners: they end theirs in their own way.
        plans.send_if_modified(|serving| {
            serving.sockets = Arc::default();
            false
        });
        drop(sockets);
        let (done, mut finished) = oneshot::channel();
        thread::spawn(move || {
            for thread in threads {
                let _ = thread.join();
            }
            let _ = done.send(());
        });
        let mut left = most;
        if why == Drain::HandedOver {
            phase.send_replace(Phase::HandedOver);
            let lazy = most.mul_f32(0.75);
            if timeout(lazy, &mut finished).await.is_ok() {
                telemetry::finish(sink);
                return 0;
            }
            left -= lazy;
        }
        phase.send_replace(Phase::Ending);
        let _ = timeout(left, finished).await;
        drop(plans);
        telemetry::finish(sink);
        admission.connections()
    }
}
