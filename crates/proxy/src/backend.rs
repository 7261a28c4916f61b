//! Connections to back ends.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{io::Stream, live::Live, local, local::Reason};

/// Where a connection leads. Those with TLS are told apart by back end: its policy says whom to believe.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<str>>,
}

/// How long a connection, its handshake included, may take to come about: Envoy's and Istio's default.
const CONNECT: Duration = Duration::from_secs(10);

/// The next endpoint of a back end, in turn.
///
/// # Errors
/// The answer for the client where there is none.
pub(crate) fn target(live: &Live, id: u32, turn: &mut usize) -> Result<Target, Reason> {
    let backend = live.backend(id).ok_or(local::NO_BACKEND)?;
    if backend.endpoints.is_empty() {
        return Err(local::NO_ENDPOINT);
    }
    *turn = (*turn + 1) % backend.endpoints.len();
    let endpoint = &backend.endpoints[*turn];
    let tls = backend.tls.is_some().then(|| Arc::clone(&backend.name));
    Ok(Target { address: SocketAddr::new(endpoint.address, endpoint.port), tls })
}

/// Connects to an endpoint of a back end.
///
/// # Errors
/// The answer for the client.
pub(crate) async fn connect(live: &Live, id: u32, target: &Target) -> Result<Stream, Reason> {
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
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
        stream.map(|stream| Stream::Client(Box::new(stream))).map_err(|_| local::CONNECT_FAILED)
    };
    timeout(CONNECT, handshaken).await.unwrap_or(Err(local::CONNECT_FAILED))
}
