//! Bytes from one connection to the other.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use strait_http::{BodyReader, Framing};
use tokio::io::AsyncWrite as _;

use crate::{
    deadline::{Deadline, Late},
    io::{Buffer, READ, Stream, poll_write},
    side::{Side, Wire},
};

/// A message on its way: first a head, then a body that is read from one side and passed on to the other.
///
/// Between two connections of HTTP/1 the body goes on as it came, coding included. Where one side is a stream of HTTP/2, the other
/// variants of [`Side`] say how data and trailers are taken and put.
pub(crate) struct Body {
    pub(crate) reader: BodyReader,
    /// Bytes that are to be written before any of the body's that are still where they were read: the head, and what fits behind it.
    pub(crate) out: Buffer,
    /// Bytes at the start of what was read that belong to the body and are to be written.
    pub(crate) ready: usize,
    /// What was taken of the body so far, as long as it is little: so that it can be sent again.
    pub(crate) replay: Option<Buffer>,
    /// Whether what was written must be flushed: TLS keeps some.
    pub(crate) unflushed: bool,
    /// Whether chunks are passed on as their data alone.
    pub(crate) decode: bool,
    /// How often something came.
    pub(crate) reads: u64,
    /// Bytes taken.
    pub(crate) bytes: u64,
    /// What its head says of its end.
    pub(crate) framing: Framing,
    /// Towards a stream of HTTP/2, whether it got the end; from one, whether the end was written.
    pub(crate) ended: bool,
    /// The trailer section, where it is not passed on as it came.
    pub(crate) trailers: Vec<u8>,
}

/// The most of a body that is kept to be sent again.
const REPLAY: usize = READ;
/// The most of a body that is put behind a head to go out with it; more goes out from where it lies.
const BEHIND: usize = 4 << 10;

/// Why a body stopped.
#[derive(Debug)]
pub(crate) enum Broken {
    /// Its sender went away, or sent what is no body.
    From,
    /// Its receiver went away.
    To,
}

impl Default for Body {
    fn default() -> Self {
        Self {
            reader: BodyReader::new(Framing::None),
            out: Buffer::default(),
            ready: 0,
            replay: None,
            unflushed: false,
            decode: false,
            reads: 0,
            bytes: 0,
            framing: Framing::None,
            ended: true,
            trailers: Vec::new(),
        }
    }
}

impl Body {
    pub(crate) fn new(framing: Framing) -> Self {
        // Where nothing follows, the head is the end.
        let ended = matches!(framing, Framing::None | Framing::Length(0));
        Self { reader: BodyReader::new(framing), framing, ended, ..Self::default() }
    }

    /// The same body, kept while it is little so that it can be sent again.
    pub(crate) fn kept(self) -> Self {
        Self { replay: Some(Buffer::default()), ..self }
    }

    /// The same body, but chunks are passed on as their data alone.
    pub(crate) fn decoded(self, decode: bool) -> Self {
        Self { decode, ..self }
    }

    /// Whether all of it was read and passed on.
    pub(crate) fn is_done(&self) -> bool {
        self.is_read() && self.out.is_empty() && !self.unflushed
    }

    /// Whether all of it was read.
    pub(crate) fn is_read(&self) -> bool {
        self.reader.is_done() && self.ready == 0
    }

    /// Whether it waits for more of its source, and not for room at its target; none where all of it was read.
    pub(crate) fn waits(&self, source: &Side) -> Option<bool> {
        if self.is_read() {
            return None;
        }
        let passed = self.out.is_empty() && self.ready == 0 && !self.unflushed;
        let none = match source {
            Side::Http1(_) => true,
            Side::Http2(stream) => !stream.has_more(),
        };
        Some(passed && none)
    }

    /// How many bytes of it were read.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How often something came: changes while the body moves.
    pub(crate) const fn reads(&self) -> u64 {
        self.reads
    }

    /// Whether [`Body::restart`] can do so.
    pub(crate) const fn can_restart(&self) -> bool {
        self.replay.is_some()
    }

    /// Begins again, with another head to be written into `out` before. False where more was passed on than is still here.
    pub(crate) fn restart(&mut self, source: &mut Side, target: &Side) -> bool {
        if self.replay.is_none() {
            return false;
        }
        let Side::Http1(from) = source else { return self.restart_stream(target) };
        from.inbound.consume(std::mem::take(&mut self.ready));
        self.unflushed = false;
        match (target, &mut self.replay) {
            (Side::Http1(_), Some(replay)) => self.out.extend(replay.as_slice()),
            // It is read again: on this way only what stands between its coding goes on.
            (Side::Http2(_), Some(replay)) => {
                let mut all = std::mem::take(replay);
                all.extend(from.inbound.as_slice());
                from.inbound = all;
                self.bytes = 0;
                self.reader = BodyReader::new(self.framing);
                self.ended = matches!(self.framing, Framing::None | Framing::Length(0));
                self.trailers.clear();
            }
            (_, None) => {}
        }
        true
    }

    /// Keeps what was taken, while it is little.
    pub(crate) fn keep(&mut self, taken: &[u8]) {
        if let Some(replay) = &mut self.replay {
            if replay.len() + taken.len() <= REPLAY {
                replay.extend(taken);
            } else {
                self.replay = None;
            }
        }
    }

    /// Keeps what `from` holds of the body, so that all of it can be copied. Whether more of it is to come, and not too much.
    fn take_whole(&mut self, from: &mut Buffer, most: usize) -> bool {
        while !self.reader.is_done() && !from.is_empty() && self.ready == 0 {
            let Ok(progress) = self.reader.pass(from.as_slice()) else { return false };
            self.bytes += progress.taken as u64;
            if let Some(replay) = &mut self.replay {
                replay.extend(&from.as_slice()[..progress.taken]);
            }
            from.consume(progress.taken);
        }
        !self.reader.is_done() && self.bytes < most as u64
    }

    /// Keeps all that comes of the body, so that it can be copied. Ready when it is all there, or too much.
    pub(crate) fn poll_whole_of(&mut self, from: &mut Wire, most: usize, cx: &mut Context<'_>) -> Poll<()> {
        while self.take_whole(&mut from.inbound, most) {
            let read = std::task::ready!(from.inbound.poll_fill(&mut from.stream, cx));
            if !matches!(read, Ok(count) if count > 0) {
                break;
            }
        }
        Poll::Ready(())
    }

    /// All of the body, if it is here and not larger than that.
    pub(crate) fn whole(&self, most: usize) -> Option<&[u8]> {
        let whole = self.replay.as_ref().filter(|_| self.reader.is_done()).map(Buffer::as_slice);
        whole.filter(|whole| whole.len() <= most)
    }

    /// Passes over what `from` holds of the body.
    pub(crate) fn skip(&mut self, from: &mut Buffer) {
        from.consume(std::mem::take(&mut self.ready));
        if let Ok(progress) = self.reader.pass(from.as_slice()) {
            self.bytes += progress.taken as u64;
            from.consume(progress.taken);
        }
    }

    /// Tells what of `from` belongs to the body.
    fn sort(&mut self, from: &mut Buffer) -> Result<(), Broken> {
        if self.ready > 0 || self.reader.is_done() || from.is_empty() {
            return Ok(());
        }
        if let (BodyReader::Chunked(chunked), true) = (&mut self.reader, self.decode) {
            while !from.is_empty() && !chunked.is_done() {
                let step = chunked.step(from.as_slice()).map_err(|_| Broken::From)?;
                self.out.extend(&from.as_slice()[step.data]);
                self.bytes += step.taken as u64;
                from.consume(step.taken);
            }
            return Ok(());
        }
        let taken = self.reader.pass(from.as_slice()).map_err(|_| Broken::From)?.taken;
        self.bytes += taken as u64;
        self.ready = taken;
        if let Some(replay) = &mut self.replay {
            if replay.len() + taken <= REPLAY {
                replay.extend(&from.as_slice()[..taken]);
            } else {
                self.replay = None;
            }
        }
        if !self.out.is_empty() && taken <= BEHIND {
            self.out.extend(&from.as_slice()[..taken]);
            from.consume(std::mem::take(&mut self.ready));
        }
        Ok(())
    }

    /// Moves what can be moved. Ready when the message is over and written.
    pub(crate) fn poll(
        &mut self,
        source: &mut Side,
        target: &mut Side,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        let (source, target) = match (source, target) {
            (Side::Http1(source), Side::Http1(target)) => (source, target),
            (Side::Http1(source), Side::Http2(target)) => return self.poll_to_stream(source, target, cx),
            (Side::Http2(source), Side::Http1(target)) => return self.poll_from_stream(source, target, cx),
            (Side::Http2(source), Side::Http2(target)) => return self.poll_streams(source, target, cx),
        };
        let (from, source, target) = (&mut source.inbound, &mut source.stream, &mut target.stream);
        loop {
            self.sort(from)?;
            while !self.out.is_empty() || self.ready > 0 {
                match poll_write(target, self.out.as_slice(), &from.as_slice()[..self.ready], cx) {
                    Poll::Ready(Ok(count)) => {
                        let of_out = count.min(self.out.len());
                        self.out.consume(of_out);
                        from.consume(count - of_out);
                        self.ready -= count - of_out;
                        self.unflushed = true;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::To)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if !self.reader.is_done() && !from.is_empty() {
                continue;
            }
            if self.unflushed {
                match Pin::new(&mut *target).poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.unflushed = false,
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::To)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if self.reader.is_done() {
                self.out.release();
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
    bytes: u64,
}

impl Half {
    const fn new() -> Self {
        Self { ended: false, closed: false, unflushed: false, reads: 0, bytes: 0 }
    }

    /// `last` where the other direction is over, its end passed on: both connections are closed after this.
    fn poll(
        &mut self,
        source: &mut Stream,
        buffer: &mut Buffer,
        target: &mut Stream,
        last: bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            while !buffer.is_empty() {
                let count = std::task::ready!(poll_write(target, buffer.as_slice(), &[], cx))?;
                buffer.consume(count);
                self.bytes += count as u64;
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
                // Of a socket that is read to its end, to be closed is to end.
                if !last || !target.is_plain() {
                    std::task::ready!(Pin::new(&mut *target).poll_shutdown(cx))?;
                }
                self.closed = true;
                return Poll::Ready(Ok(()));
            }
            self.ended = std::task::ready!(buffer.poll_fill(source, cx))? == 0;
            self.reads += 1;
        }
    }
}

/// Bytes that a tunnel took from its front, and from its back.
#[derive(Clone, Copy, Default)]
pub(crate) struct Passed {
    pub(crate) up: u64,
    pub(crate) down: u64,
}

/// Passes bytes both ways until both sides have ended, starting with what the buffers hold: `up` goes to `back`, `down` to `front`.
pub(crate) async fn tunnel(
    (front, mut up): (&mut Stream, Buffer),
    (back, mut down): (&mut Stream, Buffer),
    passed: &mut Passed,
    deadline: &Deadline,
    idle: Duration,
) -> io::Result<()> {
    let (mut forth, mut fro) = (Half::new(), Half::new());
    deadline.set(idle);
    std::future::poll_fn(|cx| {
        let reads = (forth.reads, fro.reads);
        let a = forth.poll(front, &mut up, back, fro.closed, cx)?;
        let b = fro.poll(back, &mut down, front, forth.closed, cx)?;
        *passed = Passed { up: forth.bytes, down: fro.bytes };
        if a.is_ready() && b.is_ready() {
            return Poll::Ready(Ok(()));
        }
        // Something moved: the clock of idleness starts anew.
        if reads != (forth.reads, fro.reads) {
            deadline.set(idle);
        }
        deadline.poll(cx).map(|Late| Err(io::ErrorKind::TimedOut.into()))
    })
    .await
}
