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

/// A connection, or a place on a shared one, for one request; and the gate's own address on the former.
///
/// # Errors
/// The answer for the client.
pub(crate) async fn open(
    worker: &Rc<Worker>,
    live: &Live,
    id: u32,
    target: &Target,
    upgrade: bool,
) -> Result<(Side, Option<SocketAddr>), Reason> {
    let wire = |stream: Stream| {
        let local = worker.local(&stream);
        (Side::Http1(Wire::new(stream)), local)
    };
    if !may_share(target, upgrade) {
        return connect(worker, live, id, target, &[tls::HTTP1]).await.map(wire);
    }
    let always = target.protocol == BackendProtocol::Http2;
    let opened = async {
        // Of many requests at once one opens the connection for all; where each may get one of its own nobody waits.
        let turn = always.then(|| worker.shared().turn(target));
        let turn = match turn {
            Some(turn) => turn.acquire_owned().await.ok(),
            None => None,
        };
        let stream = if let Some(stream) = place(worker, target)? {
            stream
        } else {
            let offered: &[&[u8]] = if always { &[http2::ALPN] } else { &[http2::ALPN, tls::HTTP1] };
            let stream = connect(worker, live, id, target, offered).await?;
            if target.tls && !stream.is_http2() {
                return if always { Err(local::BACKEND_PROTOCOL) } else { Ok(wire(stream)) };
            }
            http2::client::share(worker, target, stream)
        };
        drop(turn);
        // Whether an upgrade can be asked for is in the other side's settings.
        if upgrade && !stream.settle().await {
            return Err(local::BACKEND_CLOSED);
        }
        Ok((Side::Http2(stream), None))
    };
    timeout(CONNECT, opened).await.unwrap_or(Err(local::CONNECT_FAILED))
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
