//! The two sides of an exchange.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use crate::{
    io::{Buffer, READ, Stream},
    local,
    outbound::Held,
    record::Reason,
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

impl Side {
    /// Whether a client that awaits its answer went away; if not, the task is woken when it does.
    pub(crate) fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Http1(wire) => wire.is_gone(cx),
            Self::Http2(stream) => stream.is_reset(cx),
        }
    }

    /// Waits for `what`, unless the client goes away before.
    pub(crate) async fn unless_gone<T>(
        &mut self,
        mut what: Pin<&mut impl Future<Output = Result<T, Reason>>>,
    ) -> Result<T, Reason> {
        poll_fn(|cx| match what.as_mut().poll(cx) {
            Poll::Pending if self.is_gone(cx) => Poll::Ready(Err(local::CLIENT_GONE)),
            polled @ (Poll::Ready(_) | Poll::Pending) => polled,
        })
        .await
    }
}

/// A connection of HTTP/1, and what was read of it.
pub(crate) struct Wire {
    pub(crate) stream: Stream,
    pub(crate) inbound: Buffer,
    /// Its place among those of the back end that it leads to.
    pub(crate) held: Option<Held>,
}

impl Wire {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, inbound: Buffer::default(), held: None }
    }

    /// Whether the other side has ended, as far as can be seen: behind more than [`READ`] bytes it is not looked for. What it sends
    /// meanwhile is kept for what reads it next. Costs no system call as long as nothing comes.
    fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        if let Stream::Plain(stream) = &self.stream
            && stream.poll_read_ready(cx).is_pending()
        {
            return false;
        }
        while self.inbound.len() < READ {
            match self.inbound.poll_fill(&mut self.stream, cx) {
                Poll::Pending => return false,
                Poll::Ready(Ok(count)) if count > 0 => {}
                Poll::Ready(_) => return true,
            }
        }
        false
    }

    /// One that leads to a back end.
    pub(crate) fn to_back_end(stream: Stream, held: Held) -> Self {
        Self { held: Some(held), ..Self::new(stream) }
    }
}
