//! What is known of a request, or of a connection that is passed on, when it ends: for logs, metrics and traces.

use std::{
    fmt::Debug,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use strait_http::RequestHead;
use strait_route::{BackendId, Plan, RuleId};

/// Why the gate answered a request itself, or cut it off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reason {
    /// The status of the answer.
    pub status: u16,
    /// Envoy's response flag; empty where nothing went wrong.
    pub flag: &'static str,
    /// What happened, in a word.
    pub details: &'static str,
}

/// Who is on the other end, and of which listener.
#[derive(Clone, Debug)]
pub struct Client {
    /// The client's address.
    pub peer: SocketAddr,
    /// The address of the gateway.
    pub address: IpAddr,
    /// The port of the listener, before any mapping.
    pub port: u16,
    /// Whether it sends datagrams.
    pub datagrams: bool,
    /// Whether the connection came with TLS.
    pub https: bool,
    /// The server name that the client gave in its handshake.
    pub server_name: Option<Box<str>>,
    /// The listener that the handshake was for.
    pub(crate) listener: Option<Arc<str>>,
    /// The client's address as a back end is told it.
    pub(crate) shown: Box<str>,
    /// How many proxies before the gate are believed.
    pub(crate) trusted: usize,
    /// Whether the connection is one of HTTP/3.
    #[cfg(feature = "http3")]
    pub(crate) http3: bool,
    /// Where else the listener serves HTTP/3: the value of `Alt-Svc` (RFC 7838, 3).
    #[cfg(feature = "http3")]
    pub(crate) alternative: Option<Arc<str>>,
}

impl Client {
    pub(crate) fn new(peer: SocketAddr, address: IpAddr, port: u16, https: bool) -> Self {
        let shown = peer.ip().to_canonical().to_string().into();
        Self {
            peer,
            address,
            port,
            datagrams: false,
            https,
            server_name: None,
            listener: None,
            shown,
            trusted: 0,
            #[cfg(feature = "http3")]
            http3: false,
            #[cfg(feature = "http3")]
            alternative: None,
        }
    }
}

/// What a client and the gate speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
    /// HTTP/3.
    Http3,
}

/// Where a request, or a connection, was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sent {
    /// The back end of the plan.
    pub backend: Option<BackendId>,
    /// The endpoint of the last attempt.
    pub endpoint: Option<SocketAddr>,
    /// The gate's own address on the connection to it; none for one that many requests share, and where nobody is told it.
    pub local: Option<SocketAddr>,
    /// How often it was sent; a connection that turned out to be closed counts.
    pub attempts: u32,
}

/// A request that has ended, however it did. Sizes count what was sent on.
#[derive(Clone, Debug)]
pub struct Record {
    /// When the head was there.
    pub started: Instant,
    /// When all of the request had been read.
    pub received: Option<Instant>,
    /// When the first byte of the back end's answer was there.
    pub first_byte: Option<Instant>,
    /// When the last byte of the answer was written, or was given up.
    pub ended: Instant,
    /// What the client speaks.
    pub protocol: Protocol,
    /// The rule that took it.
    pub rule: Option<RuleId>,
    /// Where it went.
    pub sent: Sent,
    /// The status that the client got; 0 where it got none.
    pub status: u16,
    /// The client's address as trusted proxies tell it, where there are any.
    pub forwarded_for: Option<IpAddr>,
    /// Why the gate answered, or cut the answer off; none where a back end's answer went to its end.
    pub reason: Option<Reason>,
    /// The id that was made for it, as it came without one.
    pub request_id: Option<[u8; 36]>,
    /// The status of a gRPC call, where it is known.
    pub grpc_status: Option<u8>,
    /// Bytes of the request's head.
    pub request_head: u64,
    /// Bytes of the request's body, coding included.
    pub request_body: u64,
    /// Bytes of the answer's head.
    pub response_head: u64,
    /// Bytes of the answer's body, coding included.
    pub response_body: u64,
}

impl Record {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            started: now,
            received: None,
            first_byte: None,
            ended: now,
            protocol: Protocol::Http11,
            rule: None,
            sent: Sent::default(),
            status: 0,
            forwarded_for: None,
            reason: None,
            request_id: None,
            grpc_status: None,
            request_head: 0,
            request_body: 0,
            response_head: 0,
            response_body: 0,
        }
    }
}

/// A connection that was passed on, and has ended.
#[derive(Clone, Debug)]
pub struct ConnectionRecord {
    /// When it was accepted.
    pub started: Instant,
    /// When it ended.
    pub ended: Instant,
    /// Where it went.
    pub sent: Sent,
    /// Whether it reached its back end.
    pub opened: bool,
    /// Why it was closed; none where both sides ended it.
    pub reason: Option<Reason>,
    /// Bytes from the client.
    pub up: u64,
    /// Bytes to the client.
    pub down: u64,
}

/// Sees everything that ends, on the worker's own thread: what it does there delays all the worker's connections.
pub trait Observer: Debug + Send + Sync {
    /// A request has ended. `head` points into `bytes`; both are empty where no head could be read.
    fn request(&self, plan: &Plan, client: &Client, record: &Record, head: &RequestHead, bytes: &[u8]);

    /// A connection that was passed on has ended.
    fn connection(&self, plan: &Plan, client: &Client, record: &ConnectionRecord);
}
