//! HTTP/3 for clients of HTTPS listeners (RFC 9114), over QUIC by quinn.
//!
//! ```text
//! socket, one a worker ── quinn::Endpoint ── Incoming: limits, Retry ── handshake by server name (hello) ── Link
//!   Link ┬ control stream: SETTINGS, GOAWAY                       one task a connection
//!        ├ the client's control and QPACK streams
//!        └ requests ── Stream ── Side ── exchange                 one task a request, the same as everywhere
//! ```
//!
//! Frames and header blocks are [`strait_http::h3`]'s. What a stream may send and hold is bounded by QUIC's windows, which open as bytes
//! are taken; nothing is buffered beside them but one header block.
//!
//! A connection stays with the worker whose socket its ids name ([`steer`]), whatever address its client comes from, and with its process
//! when another one takes over.

mod hello;
mod link;
mod listener;
mod steer;
mod stream;
mod uni;

pub(crate) use listener::Listeners;
pub(crate) use steer::{attach, of_worker};
pub(crate) use stream::Stream;

/// The name by ALPN.
const ALPN: &[u8] = b"h3";

/// A code as quinn has it.
fn code(code: strait_http::h3::Code) -> quinn::VarInt {
    quinn::VarInt::from_u32(code.0)
}
