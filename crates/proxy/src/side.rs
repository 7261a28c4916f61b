//! The two sides of an exchange.

use crate::{
    io::{Buffer, Stream},
    stream,
};

/// What a request comes from, or goes to.
///
/// This is where HTTP/1 and HTTP/2 differ, and nothing else knows: an exchange has two of them, a client's and a back end's. A head is the
/// same on either, spans into bytes, however it was read; how it is written, and how bodies and trailers are taken and put, is a matter
/// of the variant. The places that tell variants apart are [`Body::poll`](crate::relay::Body::poll), the two functions that write heads
/// ([`write`](crate::write)), and those of [`exchange`](crate::exchange) that await a head or end a side.
pub(crate) enum Side {
    /// A connection whose messages follow one another.
    Http1(Wire),
    /// One stream of many on a connection, of HTTP/2 or of HTTP/3.
    Http2(stream::Stream),
}

/// A connection of HTTP/1, and what was read of it.
pub(crate) struct Wire {
    pub(crate) stream: Stream,
    pub(crate) inbound: Buffer,
}

impl Wire {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, inbound: Buffer::default() }
    }
}
