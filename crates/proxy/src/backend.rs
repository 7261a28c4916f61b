//! Connections to back ends.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::pki_types::ServerName;
use strait_route::BackendProtocol;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{http2, io::Stream, live::Live, local, record::Reason, tls, worker::Worker};

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

/// A connection, or a stream of a shared one, for one request. What is to be upgraded is HTTP/1.
///
/// # Errors
/// The answer for the client.
pub(crate) async fn open(
    worker: &Worker,
    live: &Live,
    id: u32,
    target: &Target,
    upgrade: bool,
) -> Result<Stream, Reason> {
    let always = target.protocol == BackendProtocol::Http2;
    if !always && (!target.tls || upgrade || target.protocol == BackendProtocol::WebSocket) {
        return connect(live, id, target, &[tls::HTTP1]).await;
    }
    let opened = async {
        if let Some(stream) = shared(worker, target).await {
            return Ok(stream);
        }
        // Of many requests at once one opens the connection for all; where each may get one of its own nobody waits.
        let turn = always.then(|| worker.shared().turn(target));
        let turn = match turn {
            Some(turn) => turn.acquire_owned().await.ok(),
            None => None,
        };
        if let Some(stream) = shared(worker, target).await {
            return Ok(stream);
        }
        let offered: &[&[u8]] = if always { &[http2::ALPN] } else { &[http2::ALPN, tls::HTTP1] };
        let stream = connect(live, id, target, offered).await?;
        if target.tls && !stream.is_http2() {
            return if always { Err(local::BACKEND_PROTOCOL) } else { Ok(stream) };
        }
        let place = http2::client::share(worker, target, stream).await.ok_or(local::BACKEND_PROTOCOL)?;
        drop(turn);
        place.open(target, worker.limits.idle).await.ok_or(local::BACKEND_CLOSED)
    };
    timeout(CONNECT, opened).await.unwrap_or(Err(local::CONNECT_FAILED))
}

/// A stream of a connection that is there already.
async fn shared(worker: &Worker, target: &Target) -> Option<Stream> {
    loop {
        let place = worker.shared().place(target, tokio::time::Instant::now().into_std())?;
        if let Some(stream) = place.open(target, worker.limits.idle).await {
            return Some(stream);
        }
    }
}

/// Connects to an endpoint of a back end. `alpn` is what is offered where TLS is spoken.
///
/// # Errors
/// The answer for the client.
pub(crate) async fn connect(live: &Live, id: u32, target: &Target, alpn: &[&[u8]]) -> Result<Stream, Reason> {
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
    timeout(CONNECT, handshaken).await.unwrap_or(Err(local::CONNECT_FAILED))
}
