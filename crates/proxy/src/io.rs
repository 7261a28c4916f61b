//! Connections, whatever they are made of.

use std::{
    cell::RefCell,
    future::Future as _,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A connection: plain, or with TLS on either side.
pub(crate) enum Stream {
    Plain(TcpStream),
    Server(Box<tokio_rustls::server::TlsStream<Prefixed>>),
    Client(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether HTTP/2 was agreed on in the handshake.
    pub(crate) fn is_http2(&self) -> bool {
        let agreed = match self {
            Self::Plain(_) => None,
            Self::Server(stream) => stream.get_ref().1.alpn_protocol(),
            Self::Client(stream) => stream.get_ref().1.alpn_protocol(),
        };
        agreed == Some(crate::http2::ALPN)
    }

    /// Whether to close it tells the other side all that there is to tell.
    pub(crate) const fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// The gate's own address, where the connection is one of its own.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        match self {
            Self::Plain(stream) => stream.local_addr().ok(),
            Self::Server(stream) => stream.get_ref().0.stream.local_addr().ok(),
            Self::Client(stream) => stream.get_ref().0.local_addr().ok(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Server(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Client(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Server(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Client(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Server(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Client(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Server(stream) => Pin::new(stream).poll_flush(cx),
            Self::Client(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Server(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Client(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A connection whose first bytes were read already, to see where it goes.
pub(crate) struct Prefixed {
    pub(crate) first: Vec<u8>,
    pub(crate) at: usize,
    pub(crate) stream: TcpStream,
}

impl AsyncRead for Prefixed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rest = &this.first[this.at..];
        if rest.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let most = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..most]);
        this.at += most;
        if this.at == this.first.len() {
            (this.first, this.at) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Bytes on their way. Memory comes from the worker's own stock, and goes back with [`Buffer::release`] or the last of them: so a connection
/// that idles holds none.
#[derive(Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    /// Those before are gone already.
    start: usize,
    /// Whether the last read filled it: more is coming than it can hold.
    full: bool,
}

/// How much is read at once.
pub(crate) const READ: usize = 16 << 10;
/// How much is read at once of what comes faster than that.
const MOST: usize = 64 << 10;
/// Pieces of memory that a worker keeps for later.
const STOCK: usize = 128;

thread_local! {
    /// Pieces of [`READ`] bytes, the last used first: that one is in the processor's caches.
    static STOCKED: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

fn take() -> Vec<u8> {
    let stocked = STOCKED.try_with(|stock| stock.borrow_mut().pop()).ok().flatten();
    stocked.unwrap_or_else(|| Vec::with_capacity(READ))
}

impl Buffer {
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The same bytes, to be edited in place.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Forgets the first `count` bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.bytes.len());
        if self.is_empty() {
            self.clear();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }

    /// Gives the memory back if nothing is in it.
    pub(crate) fn release(&mut self) {
        if self.is_empty() && self.bytes.capacity() > 0 {
            drop(std::mem::take(self));
        }
    }

    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.end().extend_from_slice(bytes);
        }
    }

    /// Where more is written to; what is there already stays.
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = take();
        }
        &mut self.bytes
    }

    /// Makes room for a read.
    pub(crate) fn make_room(&mut self) {
        if self.bytes.capacity() == 0 {
            self.bytes = take();
        } else if self.is_empty() && self.full && self.bytes.capacity() < MOST {
            *self = Self { bytes: Vec::with_capacity(MOST), ..Self::default() };
        } else if self.bytes.len() == self.bytes.capacity() {
            self.bytes.drain(..std::mem::take(&mut self.start));
            self.bytes.reserve(READ.max(self.bytes.len()));
        }
    }

    /// Reads more. Ready with 0 at the end of the connection.
    pub(crate) fn poll_fill(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.make_room();
        let polled = pin!(stream.read_buf(&mut self.bytes)).poll(cx);
        self.full = self.bytes.len() == self.bytes.capacity();
        if polled.is_pending() {
            self.release();
        }
        polled
    }

    /// Reads more. Gives 0 at the end of the connection.
    pub(crate) async fn fill(&mut self, stream: &mut Stream) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_fill(stream, cx)).await
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.bytes.capacity() == READ {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.clear();
            let _ = STOCKED.try_with(|stock| {
                let mut stock = stock.borrow_mut();
                if stock.len() < STOCK {
                    stock.push(bytes);
                }
            });
        }
    }
}

/// Writes these bytes, one after the other. Ready with how many of them were written, which is more than none.
pub(crate) fn poll_write(
    stream: &mut Stream,
    first: &[u8],
    then: &[u8],
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let stream = Pin::new(stream);
    let written = std::task::ready!(if then.is_empty() {
        stream.poll_write(cx, first)
    } else if first.is_empty() {
        stream.poll_write(cx, then)
    } else {
        stream.poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(then)])
    })?;
    if written == 0 { Poll::Ready(Err(io::ErrorKind::WriteZero.into())) } else { Poll::Ready(Ok(written)) }
}
