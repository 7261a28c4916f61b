//! The echo server that stands in for every container of the lab.
//!
//! One TCP port speaks whatever its client speaks first:
//!
//! ```text
//!                 ┌ 0x16 0x03 ──────────→ TLS ─┐ (self-signed, ALPN h2 and http/1.1, then sniffed again)
//! first bytes ────┼ "PRI * HTTP/2.0" ────→ HTTP/2 ┬ application/grpc → GrpcEcho
//!                 ├ "GET ", "POST " … ───→ HTTP/1 ┴ anything else    → JSON of what arrived
//!                 └ anything else ───────→ the same bytes back
//! ```
//!
//! A UDP port sends each datagram back. The JSON has the fields of the Gateway API conformance echo server
//! (kubernetes-sigs/gateway-api, `conformance/echo-basic`) and the two addresses of the connection.
//!
//! It never trusts what it reads: headers, bodies, connections and silences are bounded (see [`Limits`]).

mod authority;
mod grpc;
mod http;
mod listen;
mod prefixed;
mod sniff;
mod tcp;
mod tls;
mod udp;

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

pub use authority::{Authority, Certificate};
pub use listen::{BindError, Server};
use serde::Serialize;
use strait_base::Protocol;

/// What to serve, and as whom.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The ports; port 0 takes a free one.
    pub ports: Vec<Port>,
    /// The addresses to listen on; empty is every address of both families. Named ones answer a datagram from the address it came to,
    /// which matters where a host has several.
    pub listen: Vec<IpAddr>,
    /// Who answers.
    pub context: Context,
    /// What is shown to those who speak TLS; one that is made for the purpose where none is given, or where it cannot be used.
    pub certificate: Option<Certificate>,
    /// Authorities, as PEM, that those who speak TLS must have a certificate of; anyone is let in where none are given, and nobody over TLS where
    /// they cannot be read. Who does not speak TLS is answered either way, as a sidecar in Istio's mode `PERMISSIVE` does.
    pub clients: Option<String>,
    /// Bounds.
    pub limits: Limits,
}

/// Where the server runs, as it says in every answer. Empty where unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Context {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the ingress or gateway implementation under test.
    pub ingress: String,
    /// Name of the service the pod serves.
    pub service: String,
    /// Name of the pod.
    pub pod: String,
}

/// Bounds on what a client can make the server hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections served at once, over all ports; further ones wait in the kernel's accept queue.
    pub connections: usize,
    /// How long a connection may be silent before it is closed.
    pub idle: Duration,
    /// How long a beginning that could become HTTP or TLS ("GE") is waited for before it counts as plain bytes.
    pub sniff: Duration,
    /// How long the rest of a handshake, a header or a body may take.
    pub request: Duration,
    /// Bytes of a request body that are read (and thrown away) before 413.
    pub body_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            idle: Duration::from_mins(10),
            sniff: Duration::from_secs(1),
            request: Duration::from_mins(1),
            body_bytes: 64 << 20,
        }
    }
}

/// A port and its protocol: `8080/TCP`, `53/UDP`, `8080` (TCP).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Port {
    /// The number; 0 asks for a free one.
    pub number: u16,
    /// TCP, UDP, or SCTP (which is reported as unserved where the kernel has none).
    pub protocol: Protocol,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

impl FromStr for Port {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || PortError { found: text.chars().take(40).collect() };
        let (number, protocol) = text.split_once('/').unwrap_or((text, "TCP"));
        Ok(Self { number: number.parse().map_err(|_| error())?, protocol: protocol.parse().map_err(|_| error())? })
    }
}

/// The text is no port.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("found port `{found}`; write NUMBER/PROTOCOL, a number from 0 to 65535 and TCP or UDP, as in 8080/TCP")]
pub struct PortError {
    found: String,
}
