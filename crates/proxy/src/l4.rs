//! Connections that are passed on as they are: TCP, TLS by its server name, what is inside TLS.

use std::{io, rc::Rc, sync::Arc};

use strait_http::{ClientHello, NotClientHello, client_hello};
use strait_route::{BackendId, Serve, Split, TlsThen};
use tokio::{
    net::TcpStream,
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
    telemetry::Unserved,
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

/// The protocols of a mesh's own TLS, of which its proxies offer one (istiod's `allIstioMtlsALPNs`).
const MESH: [&[u8]; 5] = [b"istio", b"istio-peer-exchange", b"istio-http/1.0", b"istio-http/1.1", b"istio-h2"];

/// Serves a connection of a port with TLS: looks at the server name, and does what its listener says.
pub(crate) async fn tls(worker: Rc<Worker>, stream: TcpStream, mut client: Client) {
    let started = Instant::now().into_std();
    let hello = timeout(worker.limits.head_time, read_hello(stream)).await;
    let live = worker.live();
    let Some(port) = live.port(client.address, client.port) else { return };
    let unserved = |client: &Client, why: Unserved| unserved(&worker, &live, port, client, started, &why);
    let (stream, first, hello) = match hello {
        Ok(Ok(hello)) => hello,
        // Who says nothing and goes only looked whether somebody listens.
        Ok(Err(NoHello::Nothing)) => return,
        Ok(Err(NoHello::Other)) => return unserved(&client, Unserved::Handshake("no ClientHello".to_owned())),
        Err(_) => return unserved(&client, Unserved::Handshake("no ClientHello in time".to_owned())),
    };
    let Serve::Tls(listeners) = &live.plan.ports[port].serve else { return };
    let is_of_mesh = hello.alpn.iter().any(|protocol| MESH.contains(&protocol.as_slice()));
    let name = hello.server_name.unwrap_or_default();
    client.server_name = Some(name.as_str().into());
    // Without a listener for the name there is nobody to shake hands with.
    let Some(listener) = listeners.find(&name) else { return unserved(&client, Unserved::Unmatched) };
    match &listener.then {
        TlsThen::Mesh(_) if !is_of_mesh => unserved(&client, Unserved::Unmatched),
        TlsThen::Passthrough(names) | TlsThen::Mesh(names) => {
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
async fn read_hello(stream: TcpStream) -> Result<(TcpStream, Vec<u8>, ClientHello), NoHello> {
    let mut stream = Stream::Plain(stream);
    let mut buffer = Buffer::default();
    loop {
        if let Some(hello) = client_hello(buffer.as_slice())? {
            let Stream::Plain(stream) = stream else { return Err(NoHello::Other) };
            return Ok((stream, buffer.as_slice().to_vec(), hello));
        }
        if !matches!(buffer.fill(&mut stream).await, Ok(count) if count > 0) {
            return Err(if buffer.is_empty() { NoHello::Nothing } else { NoHello::Other });
        }
    }
}
