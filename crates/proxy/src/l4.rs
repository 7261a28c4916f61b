//! Connections that are passed on as they are: TCP, TLS by its server name, what is inside TLS, datagrams.

use std::{collections::BTreeMap, io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use strait_http::{NotClientHello, client_hello};
use strait_route::{BackendId, Serve, Split, TlsThen};
use tokio::{
    net::{TcpStream, UdpSocket},
    time::{Instant, timeout},
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
        self.worker.reporter.opened(&self.live.names, backend);
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
    let Ok(Ok((stream, first, name))) = hello else { return };
    let live = worker.live();
    let Some(port) = live.port(client.address, client.port) else { return };
    let Serve::Tls(listeners) = &live.plan.ports[port].serve else { return };
    let name = name.unwrap_or_default();
    // Without a listener for the name there is nobody to shake hands with.
    let Some(listener) = listeners.find(&name) else { return };
    client.server_name = Some(name.as_str().into());
    match &listener.then {
        TlsThen::Passthrough(names) => {
            let Some(split) = names.find(&name) else { return };
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
            let Some(stream) = shaken.await else { return };
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
            let Some(stream) = shaken.await else { return };
            let Some(split) = names.find(&name) else { return };
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
) -> Option<Stream> {
    let config = live.server(port, listener)?;
    let accept = TlsAcceptor::from(Arc::clone(config)).accept(Prefixed { first, at: 0, stream });
    let stream = timeout(worker.limits.head_time, accept).await.ok()?.ok()?;
    Some(Stream::Server(Box::new(stream)))
}

/// Reads until the server name is known; gives back what was read.
async fn read_hello(stream: TcpStream) -> Result<(TcpStream, Vec<u8>, Option<String>), NotClientHello> {
    let mut stream = Stream::Plain(stream);
    let mut buffer = Buffer::default();
    loop {
        if let Some(hello) = client_hello(buffer.as_slice())? {
            let Stream::Plain(stream) = stream else { return Err(NotClientHello::NotTls) };
            return Ok((stream, buffer.as_slice().to_vec(), hello.server_name));
        }
        if !matches!(buffer.fill(&mut stream).await, Ok(count) if count > 0) {
            return Err(NotClientHello::NotTls);
        }
    }
}

/// The most clients of a datagram port that are remembered by a worker.
const CLIENTS: usize = 4096;
/// How long a client that sends nothing is remembered.
const SILENT: Duration = Duration::from_mins(1);
/// The largest datagram.
const DATAGRAM: usize = 65_535;

/// Serves a datagram port: each client has a socket of its own to the back end that was chosen for it.
pub(crate) async fn udp(worker: Rc<Worker>, socket: UdpSocket, place: (std::net::IpAddr, u16)) {
    let socket = Rc::new(socket);
    let mut clients: BTreeMap<SocketAddr, Session> = BTreeMap::new();
    let mut datagram = vec![0; DATAGRAM];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut datagram).await else {
            // A socket that only fails must not keep the others of the worker waiting.
            tokio::task::yield_now().await;
            continue;
        };
        let now = Instant::now();
        if !clients.contains_key(&peer) {
            clients.retain(|_, session| now.duration_since(session.since) < SILENT);
            if clients.len() >= CLIENTS {
                continue;
            }
            let Some(upstream) = session(&worker, place).await else { continue };
            let upstream = Rc::new(upstream);
            let answers = tokio::task::spawn_local(answers(Rc::clone(&upstream), Rc::clone(&socket), peer));
            clients.insert(peer, Session { upstream, since: now, answers: answers.abort_handle() });
        }
        if let Some(session) = clients.get_mut(&peer) {
            session.since = now;
            // A datagram that cannot be sent is lost, as datagrams are.
            let _ = session.upstream.send(&datagram[..length]).await;
        }
    }
}

/// What is between one client and its back end. Answers end with it: they hold the listener's socket, which would go on taking its share
/// of the datagrams after nobody reads it.
struct Session {
    upstream: Rc<UdpSocket>,
    since: Instant,
    answers: tokio::task::AbortHandle,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

/// A socket to a back end for one client.
async fn session(worker: &Worker, place: (std::net::IpAddr, u16)) -> Option<UdpSocket> {
    let live = worker.live();
    let port = live.datagram_port(place.0, place.1)?;
    let Serve::Udp(Some(split)) = &live.plan.ports[port].serve else { return None };
    let backend = split.targets[worker.choose_l4(place, "udp", split)?].backend?;
    let target = live.endpoint(backend, &[]).ok()?;
    let any = if target.address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let upstream = UdpSocket::bind(any).await.ok()?;
    upstream.connect(target.address).await.ok()?;
    Some(upstream)
}

/// Passes what a back end answers on to the client.
async fn answers(upstream: Rc<UdpSocket>, socket: Rc<UdpSocket>, peer: SocketAddr) {
    let mut datagram = vec![0; DATAGRAM];
    // An error is an ICMP message about a datagram before.
    loop {
        match upstream.recv(&mut datagram).await {
            Ok(length) => _ = socket.send_to(&datagram[..length], peer).await,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}
