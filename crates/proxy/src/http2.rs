//! HTTP/2 (RFC 9113) on either side.
//!
//! ```text
//!            ┌ driver: the task that reads and writes the socket
//! socket ── Link ── slots ── Stream ─ Side::Http2 ─ exchange
//!            └ strait_http::h2::Connection: frames, windows, tables
//! ```
//!
//! A [`Link`](link::Link) is one connection, shared by its driver and its streams: all on one thread, so nothing is locked. A frame that
//! comes is put where its stream looks for it, and the task of the exchange is woken; what an exchange sends is put into the connection's
//! one output, and the driver is woken, behind all exchanges that the same turn has woken: so it all goes out in one write. A body is never
//! held but for what a window lets come; that is opened again as the other side takes it.

mod body;
pub(crate) mod client;
mod drive;
mod link;
pub(crate) mod server;

pub(crate) use body::encode_whole;
pub(crate) use client::{Found, Shared};
pub(crate) use link::{Came, Stream};
pub(crate) use strait_http::h2::PREFACE;

/// The name by ALPN.
pub(crate) const ALPN: &[u8] = b"h2";
