//! Connections to back ends.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use rustls::pki_types::ServerName;
use strait_route::BackendProtocol;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{
    http2::{self, Found},
    io::Stream,
    live::Live,
    local,
    outbound::{Held, Outbound},
    record::Reason,
    side::{Side, Wire},
    stream, tls,
    worker::Worker,
};

/// Where a connection leads, and what is spoken on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Target {
    /// Tells targets apart, over all plans: another one means another address, protocol, or idea of whom to believe.
    pub(crate) number: u32,
    pub(crate) address: SocketAddr,
    pub(crate) tls: bool,
    pub(crate) protocol: BackendProtocol,
}

/// How long a connection, its handshake included, may take to come about: Envoy's and Istio's default.
const CONNECT: Duration = Duration::from_secs(10);

/// Whether HTTP/2 may be spoken with a target. What is to be upgraded is HTTP/1, unless nothing else is spoken there.
fn may_share(target: &Target, upgrade: bool) -> bool {
    let always = target.protocol == BackendProtocol::Http2;
    always || (target.tls && !upgrade && target.protocol != BackendProtocol::WebSocket)
}

/// A place on a shared connection that is there already.
pub(crate) fn shared(worker: &Worker, target: &Target, upgrade: bool) -> Option<stream::Stream> {
    if !may_share(target, upgrade) || upgrade {
        return None;
    }
    place(worker, target).ok().flatten()
}

/// The same; an error where there is none, and no connection may be opened either.
fn place(worker: &Worker, target: &Target) -> Result<Option<stream::Stream>, Reason> {
    match worker.shared().place(target, tokio::time::Instant::now().into_std()) {
        Found::Place(stream) => Ok(Some(stream)),
        Found::None => Ok(None),
        Found::Full => Err(local::OVERFLOW),
    }
}

/// What a request is sent on.
pub(crate) struct Opened {
    pub(crate) side: Side,
    /// The gate's own address on a connection that the request has for itself.
    pub(crate) local: Option<SocketAddr>,
    /// Whether it served another request before.
    pub(crate) kept: bool,
}

/// A connection, or a place on a shared one, for one request. Where there are as many as may be it waits for one of them.
///
/// # Errors
/// The answer for the client.
pub(crate) async fn open(
    worker: &Rc<Worker>,
    live: &Live,
    id: u32,
    target: &Target,
    upgrade: bool,
) -> Result<Opened, Reason> {
    let outbound = worker.outbound(live, id)?;
    let _pending = outbound.pend(worker.share).ok_or(local::OVERFLOW)?;
    let to = To { worker, live, id, target, outbound: &outbound };
    let opened =
        async { if may_share(target, upgrade) { to.place(upgrade).await } else { to.own(&[tls::HTTP1]).await } };
    let late = || if outbound.is_full(worker.share) { local::OVERFLOW } else { local::CONNECT_FAILED };
    timeout(CONNECT, opened).await.unwrap_or_else(|_| Err(late()))
}

/// Where a connection is opened to.
struct To<'a> {
    worker: &'a Rc<Worker>,
    live: &'a Live,
    id: u32,
    target: &'a Target,
    outbound: &'a Rc<Outbound>,
}

impl To<'_> {
    /// A place on a connection that `shared` finds, or for a new one; where there may be no more of them, one that a request is done with.
    async fn find(&self, shared: impl Fn() -> Result<Option<stream::Stream>, Reason>) -> Result<Room, Reason> {
        loop {
            if let Some(stream) = shared()? {
                return Ok(Room::Shared(stream));
            }
            if let Some(held) = self.outbound.enter(self.worker.share) {
                return Ok(Room::New(held));
            }
            if self.target.protocol != BackendProtocol::Http2
                && let Some((wire, local)) = self.worker.pooled(self.target)
            {
                return Ok(Room::Kept(Opened { side: Side::Http1(wire), local, kept: true }));
            }
            // What idles at another endpoint makes room.
            if !self.worker.give_up(self.live, self.id) {
                self.outbound.freed().await;
            }
        }
    }

    /// A connection that no other request uses meanwhile.
    async fn own(&self, alpn: &[&[u8]]) -> Result<Opened, Reason> {
        let held = match self.find(|| Ok(None)).await? {
            Room::New(held) => held,
            Room::Kept(opened) => return Ok(opened),
            Room::Shared(stream) => return Ok(Opened::shared(stream)),
        };
        let stream = connect(self.worker, self.live, self.id, self.target, alpn).await?;
        Ok(Opened::own(self.worker, stream, held))
    }

    /// A place on a shared connection, where the back end speaks HTTP/2.
    async fn place(&self, upgrade: bool) -> Result<Opened, Reason> {
        let Self { worker, live, id, target, .. } = *self;
        let always = target.protocol == BackendProtocol::Http2;
        // Of many requests at once one opens the connection for all; where each may get one of its own nobody waits.
        let turn = always.then(|| worker.shared().turn(target));
        let turn = match turn {
            Some(turn) => turn.acquire_owned().await.ok(),
            None => None,
        };
        let stream = match self.find(|| place(worker, target)).await? {
            Room::Shared(stream) => stream,
            Room::Kept(opened) => return Ok(opened),
            Room::New(held) => {
                let offered: &[&[u8]] = if always { &[http2::ALPN] } else { &[http2::ALPN, tls::HTTP1] };
                let stream = connect(worker, live, id, target, offered).await?;
                if target.tls && !stream.is_http2() {
                    return if always { Err(local::BACKEND_PROTOCOL) } else { Ok(Opened::own(worker, stream, held)) };
                }
                http2::client::share(worker, target, stream, held)
            }
        };
        drop(turn);
        // Whether an upgrade can be asked for is in the other side's settings.
        if upgrade && !stream.settle().await {
            return Err(local::BACKEND_CLOSED);
        }
        Ok(Opened::shared(stream))
    }
}

/// Where a request may go.
enum Room {
    /// A stream of a connection that is there.
    Shared(stream::Stream),
    /// A connection that may be opened.
    New(Held),
    /// One that another request is done with.
    Kept(Opened),
}

impl Opened {
    fn shared(stream: stream::Stream) -> Self {
        Self { side: Side::Http2(stream), local: None, kept: false }
    }

    fn own(worker: &Worker, stream: Stream, held: Held) -> Self {
        let local = worker.local(&stream);
        Self { side: Side::Http1(Wire::to_back_end(stream, held)), local, kept: false }
    }
}

/// Connects to an endpoint of a back end. `alpn` is what is offered where TLS is spoken.
///
/// # Errors
/// The answer for the client.
pub(crate) async fn connect(
    worker: &Worker,
    live: &Live,
    id: u32,
    target: &Target,
    alpn: &[&[u8]],
) -> Result<Stream, Reason> {
    let opened = async {
        let stream = TcpStream::connect(target.address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        Some(stream)
    };
    let handshaken = async {
        let stream = opened.await.ok_or(local::CONNECT_FAILED)?;
        let Some(config) = live.client(id) else { return Ok(Stream::Plain(stream)) };
        // What cannot be spoken to safely is not spoken to at all.
        let config = config.map_err(|_| local::NO_BACKEND)?;
        let hostname = live.backend(id).and_then(|backend| backend.tls.as_ref()).map(|tls| tls.hostname.to_string());
        let name = hostname.and_then(|name| ServerName::try_from(name).ok()).ok_or(local::NO_BACKEND)?;
        let stream = TlsConnector::from(Arc::clone(config))
            .with_alpn(alpn.iter().map(|name| name.to_vec()).collect())
            .connect(name, stream)
            .await;
        stream.map(|stream| Stream::Client(Box::new(stream))).map_err(|_| local::CONNECT_FAILED)
    };
    let connected = timeout(CONNECT, handshaken).await.unwrap_or(Err(local::CONNECT_FAILED));
    let counters = worker.reporter.counters();
    if connected.is_ok() {
        counters.upstream_opened.increment();
    } else {
        counters.upstream_failed.increment();
    }
    connected
}
