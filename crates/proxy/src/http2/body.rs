//! Bodies to and from streams. Data goes on as far as windows allow, and what was not taken stays where it is.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use strait_http::{BodyReader, Framing, MAX_TRAILER_BYTES, chunk_head, h2::may_trail};
use tokio::io::AsyncWrite as _;

use super::Came;
use crate::{
    io::{Buffer, poll_write},
    relay::{Body, Broken},
    side::{Side, Wire},
    stream::Stream,
};

/// Bytes behind a head, or another piece, that are waited for no longer before what is there is written.
const ENOUGH: usize = 64 << 10;

impl Body {
    /// Begins again with what came on a stream.
    pub(crate) fn restart_stream(&mut self, target: &Side) -> bool {
        let Some(replay) = &self.replay else { return false };
        let none = matches!(self.framing, Framing::None | Framing::Length(0));
        self.unflushed = false;
        match target {
            Side::Http1(_) => {
                encode(self.framing == Framing::Chunked, replay.as_slice(), self.out.end());
                // All of it had come, then: trailers are behind it still.
                self.ended = none;
            }
            Side::Http2(_) => {
                self.out.extend(replay.as_slice());
                self.ended = none;
            }
        }
        true
    }

    /// From one stream to another.
    pub(crate) fn poll_streams(
        &mut self,
        from: &Stream,
        to: &Stream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        while !self.out.is_empty() {
            match to.send(self.out.as_slice(), false, cx) {
                None => return Poll::Ready(Err(Broken::To)),
                Some(0) => return Poll::Pending,
                Some(count) => self.out.consume(count),
            }
        }
        self.out.release();
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        let mut gone = false;
        let came = from.take(cx, |data, last| {
            let sent = to.send(data, last, cx).unwrap_or_else(|| {
                gone = true;
                0
            });
            self.keep(&data[..sent]);
            sent
        });
        if gone {
            return Poll::Ready(Err(Broken::To));
        }
        match came {
            Came::Reset => Poll::Ready(Err(Broken::From)),
            Came::Data(count) => {
                self.came(count);
                if to.is_reset(cx) { Poll::Ready(Err(Broken::To)) } else { Poll::Pending }
            }
            Came::End(count) => {
                self.came(count);
                to.pass_trailers(from);
                (self.reader, self.ended) = (BodyReader::Length(0), true);
                Poll::Ready(Ok(()))
            }
        }
    }

    fn came(&mut self, count: usize) {
        self.bytes += count as u64;
        self.reads += u64::from(count > 0);
    }

    /// From a stream to a connection of HTTP/1.
    pub(crate) fn poll_from_stream(
        &mut self,
        from: &Stream,
        to: &mut Wire,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        let chunked = self.framing == Framing::Chunked && !self.decode;
        loop {
            let mut more = false;
            if !self.ended && self.out.len() < ENOUGH {
                let mut out = std::mem::take(&mut self.out);
                let came = from.take(cx, |data, _| {
                    encode(chunked, data, out.end());
                    self.keep(data);
                    data.len()
                });
                match came {
                    Came::Reset => return Poll::Ready(Err(Broken::From)),
                    Came::Data(count) => {
                        self.came(count);
                        more = count > 0;
                    }
                    Came::End(count) => {
                        self.came(count);
                        (self.reader, self.ended) = (BodyReader::Length(0), true);
                        if chunked {
                            last_chunk(from, out.end());
                        }
                    }
                }
                self.out = out;
            }
            while !self.out.is_empty() {
                match poll_write(&mut to.stream, self.out.as_slice(), &[], cx) {
                    Poll::Ready(Ok(count)) => self.out.consume(count),
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::To)),
                    Poll::Pending => return Poll::Pending,
                }
                self.unflushed = true;
            }
            self.out.release();
            if self.unflushed {
                match Pin::new(&mut to.stream).poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.unflushed = false,
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::To)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if !more {
                return Poll::Pending;
            }
        }
    }

    /// From a connection of HTTP/1 to a stream.
    pub(crate) fn poll_to_stream(
        &mut self,
        from: &mut Wire,
        to: &Stream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            self.sort_data(&mut from.inbound)?;
            let last = self.reader.is_done() && self.trailers.is_empty();
            if self.ready > 0 || last {
                let Some(sent) = to.send(&from.inbound.as_slice()[..self.ready], last, cx) else {
                    return Poll::Ready(Err(Broken::To));
                };
                from.inbound.consume(sent);
                self.ready -= sent;
                if self.ready > 0 {
                    return Poll::Pending;
                }
                self.ended = last;
                continue;
            }
            if self.reader.is_done() {
                to.send_trailers(lines(&self.trailers));
                self.ended = true;
                continue;
            }
            if !from.inbound.is_empty() {
                continue;
            }
            if to.is_reset(cx) {
                return Poll::Ready(Err(Broken::To));
            }
            match from.inbound.poll_fill(&mut from.stream, cx) {
                Poll::Ready(Ok(0)) if matches!(self.reader, BodyReader::UntilClose) => {
                    self.reader = BodyReader::Length(0);
                }
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Broken::From)),
                Poll::Ready(Ok(_)) => self.reads += 1,
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Tells what of `from` is data of the body, without its coding.
    fn sort_data(&mut self, from: &mut Buffer) -> Result<(), Broken> {
        if self.ready > 0 || self.reader.is_done() || from.is_empty() {
            return Ok(());
        }
        let BodyReader::Chunked(chunked) = &mut self.reader else {
            let taken = self.reader.pass(from.as_slice()).map_err(|_| Broken::From)?.taken;
            self.bytes += taken as u64;
            self.keep(&from.as_slice()[..taken]);
            self.ready = taken;
            return Ok(());
        };
        let step = chunked.step(from.as_slice()).map_err(|_| Broken::From)?;
        let section = &from.as_slice()[step.trailers.clone()];
        // The line that ends the section is no trailer.
        if !self.trailers.is_empty() || section.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
            self.trailers.extend_from_slice(section);
        }
        if self.trailers.len() > 2 * MAX_TRAILER_BYTES {
            return Err(Broken::From);
        }
        self.bytes += step.taken as u64;
        self.keep(&from.as_slice()[..step.taken]);
        self.ready = step.data.len();
        from.consume(step.taken - step.data.len());
        Ok(())
    }

    /// Keeps all that comes on a stream, so that it can be copied. Ready when it is all there, or too much.
    pub(crate) fn poll_whole(&mut self, from: &Stream, most: usize, cx: &Context<'_>) -> Poll<()> {
        if self.reader.is_done() || self.replay.is_none() {
            return Poll::Ready(());
        }
        let came = from.take(cx, |data, _| {
            if let Some(replay) = &mut self.replay {
                replay.extend(data);
            }
            data.len()
        });
        match came {
            Came::Reset => Poll::Ready(()),
            Came::End(count) => {
                self.came(count);
                self.reader = BodyReader::Length(0);
                Poll::Ready(())
            }
            Came::Data(count) => {
                self.came(count);
                if self.bytes >= most as u64 { Poll::Ready(()) } else { Poll::Pending }
            }
        }
    }
}

/// Writes a whole body that came on a stream as HTTP/1 has it.
pub(crate) fn encode_whole(framing: Framing, data: &[u8], out: &mut Vec<u8>) {
    let chunked = framing == Framing::Chunked;
    encode(chunked, data, out);
    if chunked {
        out.extend_from_slice(b"0\r\n\r\n");
    }
}

/// Writes data as HTTP/1 has it.
pub(crate) fn encode(chunked: bool, data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    if chunked {
        chunk_head(data.len(), out);
    }
    out.extend_from_slice(data);
    if chunked {
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes the end of a body in chunks, with the trailers that came on a stream.
fn last_chunk(from: &Stream, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    from.trailers(|name, value| {
        if may_trail(name) {
            for part in [name, b": ", value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    });
    out.extend_from_slice(b"\r\n");
}

/// The fields of a trailer section, which was read.
fn lines(section: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    section.split(|byte| *byte == b'\n').filter_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}
