//! HTTP/1.1 (RFC 9110, RFC 9112) and HTTP/2 ([`h2`]) and HTTP/3 ([`h3`]) without I/O, and what is read of a connection before it: the TLS `ClientHello` and the PROXY protocol.
//!
//! ```text
//! bytes ─▶ RequestHead, ResponseHead   spans into the buffer, framing and connection facts, checked once
//!          ─▶ Head::write              the same head for the other side: hop-by-hop fields left out, an Overlay on it
//! bytes ─▶ BodyReader                  how many of them belong to the body, and when it ends
//! ```
//!
//! Nothing is copied while reading: a head is a list of offsets into the buffer that the caller keeps, and reading another head into the
//! same value allocates nothing. What could be understood in two ways is refused: two lengths, a length beside chunks, a line that does
//! not end with CR LF, a space before a colon, folded lines, a host that is none. A proxy that guesses is how requests are smuggled.

mod body;
mod chunked;
mod client_hello;
mod error;
mod field;
mod framing;
pub mod h2;
pub mod h3;
mod head;
mod host;
mod path;
mod proxy_protocol;
mod request;
mod response;
mod write;

pub use body::{BodyReader, Progress};
pub use chunked::{Chunked, MAX_TRAILER_BYTES};
pub use client_hello::{ClientHello, NotClientHello, client_hello};
pub use error::HeadError;
pub use field::{Field, Known, Span};
pub use framing::Framing;
pub use head::{Head, Limits, Version};
pub use host::{Authority, split_authority};
pub use path::{PathError, normalize};
pub use proxy_protocol::{ProxyHeader, ProxyProtocolError, proxy_header};
pub use request::{RequestHead, Target};
pub use response::ResponseHead;
pub use write::{Edits, Overlay, chunk_head, phrase};

#[cfg(test)]
mod tests;
