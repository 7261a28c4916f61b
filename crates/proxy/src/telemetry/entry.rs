//! What is known of a request, or of a connection, when it has ended.

use std::{net::SocketAddr, time::Duration};

use strait_http::RequestHead;

/// A request as its client sent it.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) head: &'a RequestHead,
    /// What the head was read from.
    pub(crate) bytes: &'a [u8],
    /// Its `X-Request-Id`, or the one that was made for want of it.
    pub(crate) id: &'a [u8],
    /// The client's address as back ends are told it.
    pub(crate) client: &'a str,
}

/// One line of the log. Text that is not known is empty.
pub(crate) struct Entry<'a> {
    /// When it began, since the epoch.
    pub(crate) start: Duration,
    pub(crate) duration: Duration,
    /// None of a connection that is only passed on, and where no head could be read.
    pub(crate) request: Option<Request<'a>>,
    pub(crate) protocol: Option<&'static str>,
    /// 0 where the client got no response.
    pub(crate) status: u16,
    /// Envoy's response flags, with commas between.
    pub(crate) flags: &'static str,
    pub(crate) details: &'a str,
    pub(crate) termination: &'a str,
    pub(crate) transport_failure: &'a str,
    /// Why a client's handshake failed.
    pub(crate) downstream_failure: &'a str,
    /// Bytes of bodies; of a connection that is only passed on all of them.
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) service_time: Option<Duration>,
    pub(crate) upstream_host: Option<SocketAddr>,
    pub(crate) upstream_cluster: &'a str,
    pub(crate) upstream_local: Option<SocketAddr>,
    pub(crate) downstream_local: SocketAddr,
    /// The client, by its own address or as trusted proxies tell it: then without a port.
    pub(crate) downstream_remote: SocketAddr,
    /// Whoever is connected.
    pub(crate) downstream_direct: SocketAddr,
    pub(crate) server_name: &'a str,
    pub(crate) route: &'a str,
    pub(crate) grpc_status: Option<u8>,
}
