//! Datagram ports: each client has a socket of its own to the back end that was chosen for it.
//!
//! ```text
//! another process's clients ─(handed)─▶ Session ◀─ a client's first datagram
//!                                          │  silent for too long, or the port is gone ─▶ told of
//!                                          └─ another process takes over ─(handed)─▶
//! ```

mod handed;

use std::{
    cell::Cell,
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    pin::pin,
    rc::Rc,
    time::Duration,
};

use strait_route::{BackendId, Serve, Split};
use tokio::{
    net::UdpSocket,
    time::{Instant, MissedTickBehavior},
};

pub(crate) use self::handed::Handed;
pub use self::handed::UdpSession;
use crate::{
    live::Snapshot,
    local,
    record::{Client, ConnectionRecord, Sent},
    telemetry::Accepted,
    worker::Worker,
};

/// The largest datagram.
const DATAGRAM: usize = 65_535;
/// How often silent clients are looked for, at least.
const LOOK: Duration = Duration::from_secs(1);

/// A socket of a datagram port: where it is bound, its number among those there, and the listener's address and port.
#[derive(Clone, Copy)]
pub(crate) struct Port {
    pub(crate) at: SocketAddr,
    pub(crate) number: usize,
    pub(crate) place: (IpAddr, u16),
}

/// Serves a datagram port, until the gate ends or another process takes over.
pub(crate) async fn serve(worker: Rc<Worker>, socket: UdpSocket, port: Port) {
    let socket = Rc::new(socket);
    let mut draining = pin!(worker.draining());
    let mut clients: BTreeMap<SocketAddr, Session> = BTreeMap::new();
    // What comes before those clients are known waits at the socket.
    let handed = tokio::select! {
        handed = worker.handed.of(port) => handed,
        () = &mut draining => return,
    };
    for handed in handed.into_iter().take(worker.limits.udp_sessions) {
        let client = handed.client;
        if let Some(session) = Session::resume(&worker, &socket, port.place, handed) {
            clients.insert(client, session);
        }
    }
    let mut datagram = vec![0; DATAGRAM];
    let idle = worker.limits.udp_idle;
    let mut look = tokio::time::interval(idle.min(LOOK));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let received = tokio::select! {
            biased;
            () = &mut draining => break,
            received = socket.recv_from(&mut datagram) => received,
            now = look.tick() => {
                clients.retain(|_, session| now.duration_since(session.since) < idle);
                continue;
            }
        };
        let Ok((length, peer)) = received else {
            // A socket that only fails must not keep the others of the worker waiting.
            tokio::task::yield_now().await;
            continue;
        };
        let now = Instant::now();
        if !clients.contains_key(&peer) {
            clients.retain(|_, session| now.duration_since(session.since) < idle);
            let room = clients.len() < worker.limits.udp_sessions;
            let begun = if room { Session::begin(&worker, &socket, peer, port.place).await } else { None };
            let Some(session) = begun else {
                dropped(&worker, port.place);
                continue;
            };
            clients.insert(peer, session);
        }
        if let Some(session) = clients.get_mut(&peer) {
            session.since = now;
            session.record.up += length as u64;
            // A datagram that cannot be sent is lost, as datagrams are.
            let _ = session.upstream.send(&datagram[..length]).await;
        }
    }
    if worker.is_handed_over() {
        worker.handed.leave(clients.into_values().filter_map(|session| session.leave(port)));
    }
}

/// Counts a datagram that goes nowhere. There is no line for it: whoever makes addresses up would fill the log.
fn dropped(worker: &Worker, (address, port): (IpAddr, u16)) {
    let live = worker.live();
    if let Some(counts) = live.datagram_port(address, port).and_then(|port| live.names.listener(port)) {
        counts.count(worker.reporter.worker(), |counts| &counts.dropped);
    }
}

/// What is between one client and its back end. Dropped it has ended, and is told of as a connection is.
struct Session {
    worker: Rc<Worker>,
    live: Rc<Snapshot>,
    client: Client,
    record: ConnectionRecord,
    upstream: Rc<UdpSocket>,
    /// Bytes of answers.
    down: Rc<Cell<u64>>,
    since: Instant,
    /// Answers end with it: they hold the listener's socket, which would go on taking its share of the datagrams after nobody reads it.
    answers: tokio::task::AbortHandle,
    /// Whether it goes on in another process, which tells of it.
    left: bool,
    #[expect(dead_code, reason = "counts the session as open until it is dropped")]
    counted: Option<Accepted>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.answers.abort();
        if self.left {
            return;
        }
        self.record.ended = Instant::now().into_std();
        self.record.down = self.down.get();
        self.worker.ended(&self.live, &self.client, &self.record);
    }
}

/// The split of a datagram port.
fn split(live: &Snapshot, port: usize) -> Option<&Split> {
    match &live.plan.ports[port].serve {
        Serve::Udp(split) => split.as_ref(),
        Serve::Http(_) | Serve::Tls(_) | Serve::Tcp(_) => None,
    }
}

/// What is known of a session that begins, or goes on.
struct Known {
    backend: BackendId,
    endpoint: SocketAddr,
    upstream: UdpSocket,
    started: Instant,
    since: Instant,
    up: u64,
    down: u64,
}

impl Session {
    /// Chooses a back end for a client, and opens a socket to it.
    async fn begin(
        worker: &Rc<Worker>,
        socket: &Rc<UdpSocket>,
        peer: SocketAddr,
        place: (IpAddr, u16),
    ) -> Option<Self> {
        let live = worker.live();
        let split = split(&live, live.datagram_port(place.0, place.1)?)?;
        let backend = split.targets[worker.choose_l4(place, "udp", split)?].backend?;
        let endpoint = live.endpoint(backend, &[]).ok()?.address;
        let any = if endpoint.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let upstream = UdpSocket::bind(any).await.ok()?;
        upstream.connect(endpoint).await.ok()?;
        let now = Instant::now();
        let known = Known { backend, endpoint, upstream, started: now, since: now, up: 0, down: 0 };
        Some(Self::between(worker, socket, peer, place, known))
    }

    /// Goes on with one of another process. Where its back end is not the client's any more it has ended, and is told of.
    fn resume(worker: &Rc<Worker>, socket: &Rc<UdpSocket>, place: (IpAddr, u16), handed: UdpSession) -> Option<Self> {
        let live = worker.live();
        let now = Instant::now();
        let ago = |time: Duration| now.checked_sub(time).unwrap_or(now);
        let (started, since) = (ago(handed.age), ago(handed.silent));
        let UdpSession { client, endpoint, up, down, .. } = handed;
        let known = Self::backend_of(&live, place, &handed).zip(handed.into_upstream());
        if let Some((backend, upstream)) = known {
            let known = Known { backend, endpoint, upstream, started, since, up, down };
            return Some(Self::between(worker, socket, client, place, known));
        }
        let record = ConnectionRecord {
            started: started.into_std(),
            ended: now.into_std(),
            sent: Sent { endpoint: Some(endpoint), ..Sent::default() },
            opened: false,
            reason: Some(local::NO_BACKEND),
            up,
            down,
        };
        let client = Client { datagrams: true, ..Client::new(client, place.0, place.1, false) };
        worker.ended(&live, &client, &record);
        None
    }

    /// The back end of a session, if its port still leads there.
    fn backend_of(live: &Snapshot, place: (IpAddr, u16), handed: &UdpSession) -> Option<BackendId> {
        let split = split(live, live.datagram_port(place.0, place.1)?)?;
        let named = |id: &BackendId| live.backend(*id).is_some_and(|backend| *backend.name == *handed.backend);
        let backend = split.targets.iter().filter_map(|target| target.backend).find(named)?;
        live.endpoint_at(backend, handed.endpoint).map(|_| backend)
    }

    /// A session, whose answers are passed on from here on.
    fn between(
        worker: &Rc<Worker>,
        socket: &Rc<UdpSocket>,
        peer: SocketAddr,
        place: (IpAddr, u16),
        known: Known,
    ) -> Self {
        let Known { backend, endpoint, upstream, started, since, up, down } = known;
        let live = worker.live();
        let client = Client { datagrams: true, ..Client::new(peer, place.0, place.1, false) };
        let local = upstream.local_addr().ok();
        let record = ConnectionRecord {
            started: started.into_std(),
            ended: started.into_std(),
            sent: Sent { backend: Some(backend), endpoint: Some(endpoint), local, attempts: 1 },
            opened: true,
            reason: None,
            up,
            down,
        };
        let (upstream, down) = (Rc::new(upstream), Rc::new(Cell::new(down)));
        let passed = answers(Rc::clone(&upstream), Rc::clone(socket), peer, Rc::clone(&down));
        let answers = tokio::task::spawn_local(passed).abort_handle();
        worker.reporter.opened(&live.names, &client, backend);
        let counts = live.datagram_port(place.0, place.1).and_then(|port| live.names.listener(port));
        let counted = counts.map(|counts| counts.accepted(worker.reporter.worker()));
        Self { worker: Rc::clone(worker), client, record, upstream, down, since, answers, left: false, counted, live }
    }

    /// Ends here, for another process to go on with. None, and it has ended, where that cannot be.
    fn leave(mut self, port: Port) -> Option<UdpSession> {
        use std::os::fd::AsFd as _;
        self.answers.abort();
        let upstream = self.upstream.as_fd().try_clone_to_owned().ok()?;
        let Sent { backend, endpoint, .. } = self.record.sent;
        let backend = self.live.backend(backend?)?.name.to_string();
        self.left = true;
        let now = Instant::now();
        Some(UdpSession {
            at: port.at,
            socket: port.number,
            client: self.client.peer,
            backend,
            endpoint: endpoint?,
            age: now.into_std().duration_since(self.record.started),
            silent: now.duration_since(self.since),
            up: self.record.up,
            down: self.down.get(),
            upstream,
        })
    }
}

/// Passes what a back end answers on to the client.
async fn answers(upstream: Rc<UdpSocket>, socket: Rc<UdpSocket>, peer: SocketAddr, down: Rc<Cell<u64>>) {
    let mut datagram = vec![0; DATAGRAM];
    // An error is an ICMP message about a datagram before.
    loop {
        match upstream.recv(&mut datagram).await {
            Ok(length) => {
                down.set(down.get() + length as u64);
                let _ = socket.send_to(&datagram[..length], peer).await;
            }
            Err(_) => tokio::task::yield_now().await,
        }
    }
}
