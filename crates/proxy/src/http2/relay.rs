//! Bodies between a stream and a pipe.

use std::{future::poll_fn, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use strait_http::{BodyReader, MAX_TRAILER_BYTES, chunk_head};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf},
    time::timeout,
};

use super::message;

/// How much is read of a pipe at once: what goes into a frame.
pub(crate) const READ: usize = 16 << 10;

/// Which side a body stopped at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stopped {
    /// The pipe ended early, or held what is no body.
    Pipe,
    /// The stream was reset, or its connection ended.
    Stream,
}

/// Writes what a stream gets to a pipe, to its end. The window opens as the pipe takes it.
pub(crate) async fn receive(
    stream: &mut RecvStream,
    chunked: bool,
    pipe: &mut WriteHalf<DuplexStream>,
) -> Result<(), Stopped> {
    let mut line = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data.map_err(|_| Stopped::Stream)?;
        if !data.is_empty() {
            line.clear();
            if chunked {
                chunk_head(data.len(), &mut line);
                pipe.write_all(&line).await.map_err(|_| Stopped::Pipe)?;
            }
            pipe.write_all(&data).await.map_err(|_| Stopped::Pipe)?;
            if chunked {
                pipe.write_all(b"\r\n").await.map_err(|_| Stopped::Pipe)?;
            }
        }
        stream.flow_control().release_capacity(data.len()).map_err(|_| Stopped::Stream)?;
    }
    let trailers = stream.trailers().await.map_err(|_| Stopped::Stream)?;
    if chunked {
        line.clear();
        message::last_chunk(trailers.as_ref(), &mut line);
        pipe.write_all(&line).await.map_err(|_| Stopped::Pipe)?;
    }
    Ok(())
}

/// Sends what a pipe holds on a stream, to the end of the body, of which `buffer` has the beginning. `idle` is how long the other side
/// may take no byte.
pub(crate) async fn send(
    pipe: &mut ReadHalf<DuplexStream>,
    buffer: &mut BytesMut,
    mut body: BodyReader,
    stream: &mut SendStream<Bytes>,
    idle: Duration,
) -> Result<(), Stopped> {
    let mut trailers = Vec::new();
    loop {
        let data = take(&mut body, buffer, &mut trailers)?;
        let done = body.is_done();
        let last = done && trailers.is_empty();
        if !data.is_empty() || last {
            timeout(idle, send_all(stream, data, last)).await.map_err(|_| Stopped::Stream)??;
        }
        if last {
            return Ok(());
        }
        if done {
            let trailers = message::trailers(&trailers).map_err(|_| Stopped::Pipe)?;
            return stream.send_trailers(trailers).map_err(|_| Stopped::Stream);
        }
        if !buffer.is_empty() {
            continue;
        }
        buffer.reserve(READ);
        let count = tokio::select! {
            biased;
            _ = poll_fn(|cx| stream.poll_reset(cx)) => return Err(Stopped::Stream),
            count = pipe.read_buf(buffer) => count.map_err(|_| Stopped::Pipe)?,
        };
        match (count, &body) {
            (0, BodyReader::UntilClose) => body = BodyReader::Length(0),
            (0, _) => return Err(Stopped::Pipe),
            _ => {}
        }
    }
}

/// Takes the next data from what was read; adds what there is of trailers.
fn take(body: &mut BodyReader, buffer: &mut BytesMut, trailers: &mut Vec<u8>) -> Result<Bytes, Stopped> {
    let BodyReader::Chunked(chunked) = body else {
        let progress = body.pass(buffer).map_err(|_| Stopped::Pipe)?;
        return Ok(buffer.split_to(progress.taken).freeze());
    };
    let step = chunked.step(buffer).map_err(|_| Stopped::Pipe)?;
    // The line that ends the section alone is no trailer.
    let section = &buffer[step.trailers.clone()];
    if !trailers.is_empty() || section.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
        trailers.extend_from_slice(section);
    }
    if trailers.len() > MAX_TRAILER_BYTES + 4 * 1024 {
        return Err(Stopped::Pipe);
    }
    let mut taken = buffer.split_to(step.taken);
    taken.advance(step.data.start);
    taken.truncate(step.data.len());
    Ok(taken.freeze())
}

async fn send_all(stream: &mut SendStream<Bytes>, mut data: Bytes, last: bool) -> Result<(), Stopped> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return Err(Stopped::Stream) };
        let piece = data.split_to(room.min(data.len()));
        let end = last && data.is_empty();
        if !piece.is_empty() {
            stream.send_data(piece, end).map_err(|_| Stopped::Stream)?;
        }
        if end {
            return Ok(());
        }
    }
    if last { stream.send_data(Bytes::new(), true).map_err(|_| Stopped::Stream) } else { Ok(()) }
}
