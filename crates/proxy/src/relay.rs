//! Bytes from one connection to the other.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use strait_http::BodyReader;
use tokio::io::AsyncWrite;

use crate::io::{Buffer, Stream};

/// A body on its way: read from one side, passed on to the other as it is, coding included.
pub(crate) struct Body {
    pub(crate) reader: BodyReader,
    /// Bytes that are to be written: the head first, then the body.
    pub(crate) out: Buffer,
    /// Whether what was written must be flushed: TLS keeps some.
    unflushed: bool,
    /// Whether chunks are passed on as their data alone.
    decode: bool,
    /// How often something came.
    reads: u64,
}

/// Why a body stopped.
#[derive(Debug)]
pub(crate) enum Broken {
    /// Its sender went away, or sent what is no body.
    From,
    /// Its receiver went away.
    To,
}

impl Body {
    pub(crate) fn new(reader: BodyReader) -> Self {
        Self { reader, out: Buffer::default(), unflushed: false, decode: false, reads: 0 }
    }

    /// The same body, but chunks are passed on as their data alone.
    pub(crate) fn decoded(self, decode: bool) -> Self {
        Self { decode, ..self }
    }

    /// Whether all of it was read and passed on.
    pub(crate) fn is_done(&self) -> bool {
        self.reader.is_done() && self.out.is_empty() && !self.unflushed
    }

    /// Takes from `from`, which holds what was read already, what belongs to the body.
    fn take(&mut self, from: &mut Buffer) -> Result<(), Broken> {
        if self.reader.is_done() || from.is_empty() {
            return Ok(());
        }
        if let (BodyReader::Chunked(chunked), true) = (&mut self.reader, self.decode) {
            while !from.is_empty() && !chunked.is_done() {
                let step = chunked.step(from.as_slice()).map_err(|_| Broken::From)?;
                self.out.extend(&from.as_slice()[step.data]);
                from.consume(step.taken);
            }
            return Ok(());
        }
        let progress = self.reader.pass(from.as_slice()).map_err(|_| Broken::From)?;
        self.out.extend(&from.as_slice()[..progress.taken]);
        from.consume(progress.taken);
        Ok(())
    }

    /// How often something came: changes while the body moves.
    pub(crate) const fn reads(&self) -> u64 {
        self.reads
    }

    /// Moves what can be moved. Ready when the body is over and written.
    pub(crate) fn poll(
        &mut self,
        source: &mut Stream,
        from: &mut Buffer,
        target: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            self.take(from)?;
            if !self.out.is_empty() {
                match self.out.poll_drain(target, cx) {
                    Poll::Ready(Ok(())) => self.unflushed = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::To)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if self.unflushed {
                match Pin::new(&mut *target).poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.unflushed = false,
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::To)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if self.reader.is_done() {
                return Poll::Ready(Ok(()));
            }
            match from.poll_fill(source, cx) {
                Poll::Ready(Ok(0)) if matches!(self.reader, BodyReader::UntilClose) => {
                    self.reader = BodyReader::Length(0);
                }
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Broken::From)),
                Poll::Ready(Ok(_)) => self.reads += 1,
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// One direction of a tunnel.
struct Half {
    ended: bool,
    closed: bool,
    unflushed: bool,
    /// How often something came.
    reads: u64,
}

impl Half {
    const fn new() -> Self {
        Self { ended: false, closed: false, unflushed: false, reads: 0 }
    }

    fn poll(
        &mut self,
        source: &mut Stream,
        buffer: &mut Buffer,
        target: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if !buffer.is_empty() {
                std::task::ready!(buffer.poll_drain(target, cx))?;
                self.unflushed = true;
            }
            if self.unflushed {
                std::task::ready!(Pin::new(&mut *target).poll_flush(cx))?;
                self.unflushed = false;
            }
            if self.closed {
                return Poll::Ready(Ok(()));
            }
            if self.ended {
                std::task::ready!(Pin::new(&mut *target).poll_shutdown(cx))?;
                self.closed = true;
                return Poll::Ready(Ok(()));
            }
            self.ended = std::task::ready!(buffer.poll_fill(source, cx))? == 0;
            self.reads += 1;
        }
    }
}

/// Passes bytes both ways until both sides have ended, starting with what the buffers hold: `up` goes to `back`, `down` to `front`.
pub(crate) async fn tunnel(
    front: &mut Stream,
    mut up: Buffer,
    back: &mut Stream,
    mut down: Buffer,
    idle: std::time::Duration,
) -> io::Result<()> {
    let (mut forth, mut fro) = (Half::new(), Half::new());
    loop {
        let reads = (forth.reads, fro.reads);
        let step = std::future::poll_fn(|cx| {
            let (a, b) = (forth.poll(front, &mut up, back, cx)?, fro.poll(back, &mut down, front, cx)?);
            match (a, b) {
                (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok::<_, io::Error>(true)),
                // Something moved: the clock of idleness starts anew.
                _ if reads != (forth.reads, fro.reads) => Poll::Ready(Ok(false)),
                _ => Poll::Pending,
            }
        });
        match tokio::time::timeout(idle, step).await {
            Ok(Ok(true)) => return Ok(()),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}
