//! Clients' connections.

use std::{cell::Cell, future::poll_fn, pin::pin, rc::Rc};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::{
    Reason, RecvStream,
    server::{Builder, SendResponse},
};
use http::{Request, Response, StatusCode};
use strait_http::{BodyReader, ResponseHead};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadHalf},
    time::timeout,
};

use super::{
    PIPE,
    message::{self, OWN},
    relay::{self, READ, Stopped},
};
use crate::{io::Stream, limits::Limits, record::Client, serve::requests, worker::Worker};

/// Requests that a client may reset before their answer, if they are not more than half of all (CVE-2023-44487).
const RESETS: u32 = 100;

fn builder(limits: &Limits) -> Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.head.head).unwrap_or(u32::MAX))
        .initial_window_size(64 << 10)
        .initial_connection_window_size(1 << 20)
        .max_send_buffer_size(64 << 10)
        .max_concurrent_reset_streams(16)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(Some(128));
    builder
}

/// Serves a connection until it ends.
pub(crate) async fn serve<T: AsyncRead + AsyncWrite + Unpin>(worker: Rc<Worker>, io: T, client: Rc<Client>) {
    let limits = worker.limits;
    let handshake = builder(&limits).handshake::<T, Bytes>(io);
    let Ok(Ok(mut connection)) = timeout(limits.head_time, handshake).await else { return };
    // Each stream holds one: so they are counted.
    let open = Rc::new(());
    let resets = Rc::new(Cell::new(0_u32));
    let (mut asked, mut ending) = (0_u32, false);
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { return };
                asked = asked.saturating_add(1);
                if resets.get() > RESETS && resets.get() > asked / 2 {
                    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    continue;
                }
                let (worker, client, open, resets) =
                    (Rc::clone(&worker), Rc::clone(&client), Rc::clone(&open), Rc::clone(&resets));
                tokio::task::spawn_local(async move {
                    if stream(worker, client, request, respond).await == Some(Stopped::Stream) {
                        resets.set(resets.get().saturating_add(1));
                    }
                    drop(open);
                });
            }
            () = worker.draining(), if !ending => {
                ending = true;
                connection.graceful_shutdown();
            }
            () = tokio::time::sleep(limits.idle) => {
                if Rc::strong_count(&open) > 1 {
                    continue;
                }
                if ending {
                    return;
                }
                ending = true;
                connection.graceful_shutdown();
            }
        }
    }
}

/// Serves one request. Gives what stopped it, if something did.
async fn stream(
    worker: Rc<Worker>,
    client: Rc<Client>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Option<Stopped> {
    let (head, mut body) = request.into_parts();
    let end = body.is_end_stream();
    let mut text = Vec::new();
    let Ok(chunked) = message::request_text(&head, end, &mut text) else {
        respond.send_reset(Reason::PROTOCOL_ERROR);
        return None;
    };
    let idle = worker.limits.idle;
    let (near, far) = tokio::io::duplex(PIPE);
    let (mut reader, mut writer) = tokio::io::split(near);
    let mut serving = pin!(requests(worker, Stream::Pipe(far), client));
    let mut asking = pin!(async {
        writer.write_all(&text).await.map_err(|_| Stopped::Pipe)?;
        if end { Ok(()) } else { relay::receive(&mut body, chunked, &mut writer).await }
    });
    let mut answering = pin!(answer(&mut reader, &mut respond, head.method.as_str().as_bytes(), idle));
    let (mut served, mut sent) = (false, false);
    let result = poll_fn(|cx| {
        if !sent && let std::task::Poll::Ready(result) = asking.as_mut().poll(cx) {
            sent = true;
            // That nobody reads a body any more is no failure of the answer.
            if result == Err(Stopped::Stream) {
                return std::task::Poll::Ready(result);
            }
        }
        served = served || serving.as_mut().poll(cx).is_ready();
        answering.as_mut().poll(cx)
    })
    .await;
    result.err()
}

/// Sends the answer that comes out of the pipe.
async fn answer(
    pipe: &mut ReadHalf<DuplexStream>,
    respond: &mut SendResponse<Bytes>,
    method: &[u8],
    idle: std::time::Duration,
) -> Result<(), Stopped> {
    let result = try_answer(pipe, respond, method, idle).await;
    if result == Err(Stopped::Pipe) {
        // The answer is cut off, and the client must not take it for a whole one.
        respond.send_reset(Reason::INTERNAL_ERROR);
    }
    result
}

async fn try_answer(
    pipe: &mut ReadHalf<DuplexStream>,
    respond: &mut SendResponse<Bytes>,
    method: &[u8],
    idle: std::time::Duration,
) -> Result<(), Stopped> {
    let mut buffer = BytesMut::new();
    let mut head = ResponseHead::default();
    loop {
        if head.read(&buffer, method, &OWN).map_err(|_| Stopped::Pipe)? {
            if !head.is_interim() {
                break;
            }
            if head.status == 100 {
                let mut interim = Response::new(());
                *interim.status_mut() = StatusCode::CONTINUE;
                respond.send_informational(interim).map_err(|_| Stopped::Stream)?;
            }
            buffer.advance(head.head.len);
            continue;
        }
        buffer.reserve(READ);
        tokio::select! {
            biased;
            _ = poll_fn(|cx| respond.poll_reset(cx)) => return Err(Stopped::Stream),
            count = pipe.read_buf(&mut buffer) => {
                if count.map_err(|_| Stopped::Pipe)? == 0 {
                    return Err(Stopped::Pipe);
                }
            }
        }
    }
    let response = message::response(&head, &buffer).map_err(|_| Stopped::Pipe)?;
    buffer.advance(head.head.len);
    let end = message::is_end(head.head.framing);
    let mut stream = respond.send_response(response, end).map_err(|_| Stopped::Stream)?;
    if end {
        return Ok(());
    }
    relay::send(pipe, &mut buffer, BodyReader::new(head.head.framing), &mut stream, idle).await
}
