//! What is measured, and what is aimed at.

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scenario {
    Http1,
    Connect,
    Http2,
    MtlsHttp1,
    MtlsHttp2,
    Tcp,
    TcpConnect,
    Routes50,
    Idle,
    Routes5000,
}

/// What a gate is configured for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is there or not, by itself")]
pub(super) struct Shape {
    /// TCP is passed on, nothing is read.
    pub(super) tcp: bool,
    /// HTTP/2 on both sides.
    pub(super) http2: bool,
    /// TLS with certificates of both, on both sides.
    pub(super) mtls: bool,
    /// Routes, each of a host and a path prefix.
    pub(super) routes: usize,
    /// A log of every request, as JSON, and metrics that can be asked for.
    pub(super) observed: bool,
}

impl Shape {
    pub(super) const PLAIN: Self = Self { tcp: false, http2: false, mtls: false, routes: 1, observed: false };
}

/// A figure that should be at most so many times a peer's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goal {
    pub(super) figure: &'static str,
    pub(super) peer: &'static str,
    pub(super) at_most: f64,
}

const fn goal(figure: &'static str, peer: &'static str, at_most: f64) -> Goal {
    Goal { figure, peer, at_most }
}

impl Scenario {
    pub(super) const ALL: [Self; 10] = [
        Self::Http1,
        Self::Connect,
        Self::Http2,
        Self::MtlsHttp1,
        Self::MtlsHttp2,
        Self::Tcp,
        Self::TcpConnect,
        Self::Routes50,
        Self::Idle,
        Self::Routes5000,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Connect => "connect",
            Self::Http2 => "http2",
            Self::MtlsHttp1 => "mtls-http1",
            Self::MtlsHttp2 => "mtls-http2",
            Self::Tcp => "tcp",
            Self::TcpConnect => "tcp-connect",
            Self::Routes50 => "routes-50",
            Self::Idle => "idle",
            Self::Routes5000 => "routes-5000",
        }
    }

    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1 on both sides, 64 kept connections, 1 KiB",
            Self::Connect => "HTTP/1.1, a new client connection for each request, 64 at once",
            Self::Http2 => "HTTP/2 without TLS on both sides, 10 connections of 32 streams",
            Self::MtlsHttp1 => "mutual TLS on both sides, HTTP/1.1, 64 kept connections",
            Self::MtlsHttp2 => "mutual TLS on both sides, HTTP/2, 10 connections of 32 streams",
            Self::Tcp => "TCP passed on, exchanges on 64 kept connections",
            Self::TcpConnect => "TCP passed on, a new connection for each exchange, 64 at once",
            Self::Routes50 => "HTTP/1.1, 50 routes, a JSON line for each request, metrics",
            Self::Idle => "memory of 1,000 and 10,000 idle connections",
            Self::Routes5000 => "memory with 5,000 routes, and one of them changed",
        }
    }

    pub(super) fn shape(self) -> Shape {
        let plain = Shape::PLAIN;
        match self {
            Self::Http1 | Self::Connect | Self::Idle => plain,
            Self::Http2 => Shape { http2: true, ..plain },
            Self::MtlsHttp1 => Shape { mtls: true, ..plain },
            Self::MtlsHttp2 => Shape { mtls: true, http2: true, ..plain },
            Self::Tcp | Self::TcpConnect => Shape { tcp: true, ..plain },
            Self::Routes50 => Shape { routes: 50, observed: true, ..plain },
            Self::Routes5000 => Shape { routes: 5000, ..plain },
        }
    }

    /// Connections, and requests at once on each.
    pub(super) fn connections(self) -> (u32, u32) {
        if self.shape().http2 { (10, 32) } else { (64, 1) }
    }

    pub(super) fn new_connections(self) -> bool {
        matches!(self, Self::Connect | Self::TcpConnect)
    }

    pub(super) fn goals(self) -> Vec<Goal> {
        let (haproxy, envoy) = match self {
            Self::Http1 => (Some(0.9), 0.3),
            Self::Connect => (Some(0.9), 0.4),
            Self::Routes50 => (None, 0.3),
            Self::Http2 | Self::MtlsHttp1 | Self::MtlsHttp2 | Self::Tcp | Self::TcpConnect => (Some(1.0), 0.4),
            Self::Idle | Self::Routes5000 => return Vec::new(),
        };
        let mut goals: Vec<Goal> =
            haproxy.into_iter().map(|at_most| goal("cpuMicroseconds", "haproxy", at_most)).collect();
        goals.extend([goal("cpuMicroseconds", "envoy", envoy), goal("p99Microseconds", "envoy", 0.5)]);
        goals
    }
}

/// MiB of a gate that has served nothing yet.
pub(super) const EMPTY_MIB: f64 = 12.0;
/// KiB of an idle connection, plain and with TLS.
pub(super) const IDLE_KIB: [f64; 2] = [4.0, 20.0];
/// Milliseconds from a saved route to its first answer.
pub(super) const CHANGE_MS: f64 = 20.0;
