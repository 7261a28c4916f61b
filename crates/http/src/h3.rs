//! HTTP/3 (RFC 9114), the server's side, without I/O: frames, QPACK (RFC 9204), and heads as HTTP/1 and HTTP/2 have them.
//!
//! ```text
//! bytes of a stream ─▶ FrameHead ─▶ block ─▶ one flat buffer, spans into it ─▶ RequestHead      (checked like HTTP/2's)
//! heads, edits ─▶ block ─▶ HEADERS
//! ```
//!
//! Neither side has a dynamic table: this one announces none, so a block is read without any other, no stream waits for another, and what
//! a client can make this side hold is one block of a bounded length. Streams and their windows are QUIC's, which is not here.

mod block;
mod control;
mod frame;
mod table;

pub use block::{Fault, put_trailers, request, response, status, trailers};
pub use control::{Control, decoder, encoder};
pub use frame::{Code, FrameHead, kind, put_head, put_number, setting, stream_type, take_number};
