//! Connections that are passed on as they are: TCP, TLS by its server name, what is inside TLS, datagrams.

use std::{cell::Cell, collections::BTreeMap, io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use strait_http::{NotClientHello, client_hello};
use strait_route::{BackendId, Serve, Split, TlsThen};
use tokio::{
    net::{TcpStream, UdpSocket},
    time::{Instant, MissedTickBehavior, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    backend,
    deadline::Deadline,
    http2,
    io::{Buffer, Prefixed, Stream},
    live::{Live, Snapshot},
    local,
    record::{Client, ConnectionRecord, Reason, Sent},
    relay::{Passed, tunnel},
    serve::serve,
    telemetry::{Accepted, Unserved},
    tls::HTTP1,
    worker::Worker,
};

/// A connection that is passed on, until it has ended. Dropped midway it has ended too.
struct Pass {
    worker: Rc<Worker>,
    live: Rc<Snapshot>,
    client: Client,
    record: ConnectionRecord,
    passed: Passed,
    deadline: Deadline,
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.record.ended = Instant::now().into_std();
        (self.record.up, self.record.down) = (self.passed.up, self.passed.down);
        self.worker.ended(&self.live, &self.client, &self.record);
    }
}

impl Pass {
    fn new(worker: Rc<Worker>, live: Rc<Snapshot>, client: Client, started: std::time::Instant) -> Self {
        let record = ConnectionRecord {
            started,
            ended: started,
            sent: Sent::default(),
            opened: false,
            reason: Some(local::NO_ROUTE),
            up: 0,
            down: 0,
        };
        let deadline = worker.deadlines.enter();
        Self { worker, live, client, record, passed: Passed::default(), deadline }
    }

    /// Passes the connection on to a back end of a split; `first` was read of it already.
    async fn run(mut self, backend: Option<BackendId>, stream: Stream, first: Buffer) {
        self.record.reason = self.try_run(backend, stream, first).await.err();
    }

    async fn try_run(&mut self, backend: Option<BackendId>, mut stream: Stream, first: Buffer) -> Result<(), Reason> {
        let backend = backend.ok_or(local::NO_BACKEND)?;
        self.record.sent.backend = Some(backend);
        let target = self.live.endpoint(backend, &[])?;
        (self.record.sent.endpoint, self.record.sent.attempts) = (Some(target.address), 1);
        let outbound = self.worker.outbound(&self.live, backend)?;
        let _held = outbound.enter(self.worker.share).ok_or(local::OVERFLOW)?;
        let mut upstream = Box::pin(backend::connect(&self.worker, &self.live, backend, &target, &[HTTP1])).await?;
        (self.record.sent.local, self.record.opened) = (self.worker.local(&upstream), true);
        self.worker.reporter.opened(&self.live.names, &self.client, backend);
        let (front, back) = ((&mut stream, first), (&mut upstream, Buffer::default()));
        let idle = self.worker.limits.tunnel_idle;
        let ended = tunnel(front, back, &mut self.passed, &self.deadline, idle).await;
        let late = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
        ended.map_err(|error| if late(&error) { local::STALLED } else { local::BACKEND_CUT_OFF })
    }
}

/// What a split gives the next connection.
fn backend(worker: &Worker, client: &Client, name: &str, split: &Split) -> Option<BackendId> {
    split.targets[worker.choose_l4((client.address, client.port), name, split)?].backend
}

/// Serves a connection of a TCP listener.
pub(crate) async fn tcp(worker: Rc<Worker>, stream: TcpStream, client: Client) {
    let started = Instant::now().into_std();
    let live = worker.live();
    let split = live.port(client.address, client.port).and_then(|port| match &live.plan.ports[port].serve {
        Serve::Tcp(split) => split.as_ref(),
        Serve::Http(_) | Serve::Tls(_) | Serve::Udp(_) => None,
    });
    let Some(split) = split else { return };
    let backend = backend(&worker, &client, "", split);
    Pass::new(worker, Rc::clone(&live), client, started).run(backend, Stream::Plain(stream), Buffer::default()).await;
}

/// Serves a connection of a port with TLS: looks at the server name, and does what its listener says.
pub(crate) async fn tls(worker: Rc<Worker>, stream: TcpStream, mut client: Client) {
    let started = Instant::now().into_std();
    let hello = timeout(worker.limits.head_time, read_hello(stream)).await;
    let live = worker.live();
    let Some(port) = live.port(client.address, client.port) else { return };
    let unserved = |client: &Client, why: Unserved| unserved(&worker, &live, port, client, started, &why);
    let (stream, first, name) = match hello {
        Ok(Ok(hello)) => hello,
        // Who says nothing and goes only looked whether somebody listens.
        Ok(Err(NoHello::Nothing)) => return,
        Ok(Err(NoHello::Other)) => return unserved(&client, Unserved::Handshake("no ClientHello".to_owned())),
        Err(_) => return unserved(&client, Unserved::Handshake("no ClientHello in time".to_owned())),
    };
    let Serve::Tls(listeners) = &live.plan.ports[port].serve else { return };
    let name = name.unwrap_or_default();
    client.server_name = Some(name.as_str().into());
    // Without a listener for the name there is nobody to shake hands with.
    let Some(listener) = listeners.find(&name) else { return unserved(&client, Unserved::Unmatched) };
    match &listener.then {
        TlsThen::Passthrough(names) => {
            let Some(split) = names.find(&name) else { return unserved(&client, Unserved::Unmatched) };
            let backend = backend(&worker, &client, &name, split);
            let mut buffer = Buffer::default();
            buffer.extend(&first);
            drop(first);
            let pass = Pass::new(worker, Rc::clone(&live), client, started);
            drop(live);
            pass.run(backend, Stream::Plain(stream), buffer).await;
        }
        TlsThen::Http(..) => {
            let shaken = Box::pin(handshake(&worker, &live, port, &listener.name, stream, first));
            let stream = match shaken.await {
                Ok(stream) => stream,
                Err(why) => return unserved(&client, Unserved::Handshake(why)),
            };
            client.listener = Some(Arc::clone(&listener.name));
            #[cfg(feature = "http3")]
            {
                client.alternative = worker.alternative((client.address, client.port));
            }
            drop(live);
            if stream.is_http2() {
                Box::pin(http2::server::serve(worker, stream, Buffer::default(), Rc::new(client))).await;
            } else {
                Box::pin(serve(worker, stream, client)).await;
            }
        }
        TlsThen::Tcp(_, names) => {
            let shaken = Box::pin(handshake(&worker, &live, port, &listener.name, stream, first));
            let stream = match shaken.await {
                Ok(stream) => stream,
                Err(why) => return unserved(&client, Unserved::Handshake(why)),
            };
            let Some(split) = names.find(&name) else { return unserved(&client, Unserved::Unmatched) };
            let backend = backend(&worker, &client, &name, split);
            Pass::new(worker, Rc::clone(&live), client, started).run(backend, stream, Buffer::default()).await;
        }
    }
}

async fn handshake(
    worker: &Worker,
    live: &Live,
    port: usize,
    listener: &Arc<str>,
    stream: TcpStream,
    first: Vec<u8>,
) -> Result<Stream, String> {
    let config = live.server(port, listener).ok_or("no usable certificate")?;
    let accept = TlsAcceptor::from(Arc::clone(config)).accept(Prefixed { first, at: 0, stream });
    let stream = timeout(worker.limits.head_time, accept).await.map_err(|_| "the handshake took too long")?;
    let stream = stream.map_err(|error| {
        // What a certificate says is in it, perhaps: no more than tells what is wrong.
        let mut why = error.to_string();
        why.truncate(why.floor_char_boundary(MOST_OF_WHY));
        why
    })?;
    Ok(Stream::Server(Box::new(stream)))
}

/// Bytes of a line that say why a handshake failed.
const MOST_OF_WHY: usize = 160;

/// Tells of a connection that is not served.
fn unserved(worker: &Worker, live: &Live, port: usize, client: &Client, started: std::time::Instant, why: &Unserved) {
    if let Some(counts) = live.names.listener(port) {
        counts.count(worker.reporter.worker(), |counts| match why {
            Unserved::Unmatched => &counts.unmatched,
            Unserved::Handshake(_) => &counts.unshaken,
        });
    }
    worker.reporter.unserved(client, (started, Instant::now().into_std()), why);
}

/// Why there is no `ClientHello`.
enum NoHello {
    /// The connection ended before a byte.
    Nothing,
    /// Something else came.
    Other,
}

impl From<NotClientHello> for NoHello {
    fn from(_: NotClientHello) -> Self {
        Self::Other
    }
}

/// Reads until the server name is known; gives back what was read.
async fn read_hello(stream: TcpStream) -> Result<(TcpStream, Vec<u8>, Option<String>), NoHello> {
    let mut stream = Stream::Plain(stream);
    let mut buffer = Buffer::default();
    loop {
        if let Some(hello) = client_hello(buffer.as_slice())? {
            let Stream::Plain(stream) = stream else { return Err(NoHello::Other) };
            return Ok((stream, buffer.as_slice().to_vec(), hello.server_name));
        }
        if !matches!(buffer.fill(&mut stream).await, Ok(count) if count > 0) {
            return Err(if buffer.is_empty() { NoHello::Nothing } else { NoHello::Other });
        }
    }
}

/// The largest datagram.
const DATAGRAM: usize = 65_535;
/// How often silent clients are looked for, at least.
const LOOK: Duration = Duration::from_secs(1);

/// Serves a datagram port: each client has a socket of its own to the back end that was chosen for it.
pub(crate) async fn udp(worker: Rc<Worker>, socket: UdpSocket, place: (std::net::IpAddr, u16)) {
    let socket = Rc::new(socket);
    let mut clients: BTreeMap<SocketAddr, Session> = BTreeMap::new();
    let mut datagram = vec![0; DATAGRAM];
    let idle = worker.limits.udp_idle;
    let mut look = tokio::time::interval(idle.min(LOOK));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let received = tokio::select! {
            biased;
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
            let begun = if room { Session::begin(&worker, &socket, peer, place).await } else { None };
            let Some(session) = begun else {
                dropped(&worker, place);
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
}

/// Counts a datagram that goes nowhere. There is no line for it: whoever makes addresses up would fill the log.
fn dropped(worker: &Worker, (address, port): (std::net::IpAddr, u16)) {
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
    #[expect(dead_code, reason = "counts the session as open until it is dropped")]
    counted: Option<Accepted>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.answers.abort();
        self.record.ended = Instant::now().into_std();
        self.record.down = self.down.get();
        self.worker.ended(&self.live, &self.client, &self.record);
    }
}

impl Session {
    /// Chooses a back end for a client, and opens a socket to it.
    async fn begin(
        worker: &Rc<Worker>,
        socket: &Rc<UdpSocket>,
        peer: SocketAddr,
        place: (std::net::IpAddr, u16),
    ) -> Option<Self> {
        let live = worker.live();
        let port = live.datagram_port(place.0, place.1)?;
        let Serve::Udp(Some(split)) = &live.plan.ports[port].serve else { return None };
        let backend = split.targets[worker.choose_l4(place, "udp", split)?].backend?;
        let target = live.endpoint(backend, &[]).ok()?;
        let any = if target.address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let upstream = UdpSocket::bind(any).await.ok()?;
        upstream.connect(target.address).await.ok()?;
        let client = Client { datagrams: true, ..Client::new(peer, place.0, place.1, false) };
        let now = Instant::now();
        let local = upstream.local_addr().ok();
        let record = ConnectionRecord {
            started: now.into_std(),
            ended: now.into_std(),
            sent: Sent { backend: Some(backend), endpoint: Some(target.address), local, attempts: 1 },
            opened: true,
            reason: None,
            up: 0,
            down: 0,
        };
        let (upstream, down) = (Rc::new(upstream), Rc::<Cell<u64>>::default());
        let passed = answers(Rc::clone(&upstream), Rc::clone(socket), peer, Rc::clone(&down));
        let answers = tokio::task::spawn_local(passed).abort_handle();
        worker.reporter.opened(&live.names, &client, backend);
        let counts = live.names.listener(port);
        let counted = counts.map(|counts| counts.accepted(worker.reporter.worker()));
        Some(Self { worker: Rc::clone(worker), client, record, upstream, down, since: now, answers, counted, live })
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
