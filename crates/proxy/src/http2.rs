//! HTTP/2 (RFC 9113) on either side.
//!
//! ```text
//! client ─ connection ─ stream ─▶ message as HTTP/1 text ─▶ pipe ─▶ serve ─▶ pipe ─▶ stream ─ shared connection ─ back end
//! ```
//!
//! Inside, every message is one of HTTP/1.1: a stream is a pipe in memory, at whose end a request is served, or answered, like one of a
//! connection of its own. So there is one way of routing, filtering, and relaying, and each side may speak what it likes. Pipes are
//! small: a stream's window opens only as its other side takes what came.

pub(crate) mod client;
mod message;
mod relay;
pub(crate) mod server;

pub(crate) use client::Shared;

/// What opens a connection whose client knows that HTTP/2 is spoken (RFC 9113, 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes that a pipe holds, each way.
const PIPE: usize = 32 << 10;

/// The name by ALPN.
pub(crate) const ALPN: &[u8] = b"h2";
