//! HTTP/2 (RFC 9113, RFC 7541, RFC 8441) without I/O.
//!
//! ```text
//! bytes ─▶ frame ─▶ HPACK ─▶ one flat buffer, spans into it ─▶ RequestHead, ResponseHead       (the heads of HTTP/1, checked alike)
//! heads, edits, data ─▶ HPACK, frames ─▶ one output for all streams
//! ```
//!
//! A [`Connection`] is either side's state: streams in a slab, windows, both dynamic tables, and counts of what the other side does too
//! often. It holds no data: what comes is given on at once, and what the windows do not let go stays with whoever has it. In the steady
//! state it allocates nothing.

mod config;
mod connection;
mod control;
mod frame;
#[expect(clippy::cast_possible_truncation, reason = "bits are cut off where they are written as bytes")]
pub(crate) mod hpack;
pub(crate) mod message;
pub(crate) mod send;
mod stream;

pub use config::Config;
pub use connection::{Connection, Role, Step};
pub use frame::{Code, PREFACE};
pub use send::{Sent, may_trail};
pub use stream::{Event, Key};
