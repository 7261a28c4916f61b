//! Copies of requests, whose answers nobody waits for.

use std::{future::poll_fn, rc::Rc, task::Poll, time::Duration};

use strait_http::{BodyReader, Edits, Framing, Limits, RequestHead, ResponseHead, h2::Sent};
use tokio::io::AsyncWriteExt as _;

use crate::{
    backend,
    http2::Came,
    side::{Side, Wire},
    stream::Stream,
    worker::Worker,
};

/// How long a copy may take, its answer included.
const MOST: Duration = Duration::from_secs(30);

/// Sends a copy of a request, head and body in one piece, and reads its answer to the end.
pub(crate) fn send(worker: &Rc<Worker>, id: u32, request: Vec<u8>) {
    let Some(permit) = worker.mirror_permit() else { return };
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let _permit = permit;
        // Whether it arrives is not for the client to notice.
        let _ = tokio::time::timeout(MOST, exchange(&worker, id, &request)).await;
    });
}

async fn exchange(worker: &Rc<Worker>, id: u32, request: &[u8]) -> Option<()> {
    let live = worker.live();
    let target = live.endpoint(id, &[]).ok()?;
    match backend::open(worker, &live, id, &target, false).await.ok()?.side {
        Side::Http1(wire) => on_wire(wire, request).await,
        Side::Http2(stream) => on_stream(stream, request, target.tls).await,
    }
}

async fn on_wire(wire: Wire, request: &[u8]) -> Option<()> {
    let Wire { mut stream, inbound: mut buffer, held: _held } = wire;
    stream.write_all(request).await.ok()?;
    stream.flush().await.ok()?;
    let mut head = ResponseHead::default();
    let method = request.split(|byte| *byte == b' ').next().unwrap_or_default();
    while !head.read(buffer.as_slice(), method, &Limits::default()).ok()? {
        if buffer.fill(&mut stream).await.ok()? == 0 {
            return None;
        }
    }
    buffer.consume(head.head.len);
    let mut body = BodyReader::new(head.head.framing);
    loop {
        let progress = body.pass(buffer.as_slice()).ok()?;
        buffer.consume(progress.taken);
        if progress.done || buffer.fill(&mut stream).await.ok()? == 0 {
            return Some(());
        }
    }
}

/// The gate's own text, however large.
const OWN: Limits = Limits { head: 256 << 10, target: 64 << 10, fields: 128 };

async fn on_stream(mut stream: Stream, request: &[u8], https: bool) -> Option<()> {
    let mut head = RequestHead::default();
    if !head.read(request, &OWN).ok()? {
        return None;
    }
    let data = data(head.head.framing, &request[head.head.len..])?;
    let target = [head.whole_target.bytes(request)];
    let end = data.is_empty();
    let sent = Sent { target: &target, authority: head.authority.bytes(request), https, end };
    if !stream.request(&head, request, &sent, &Edits::default()) {
        return None;
    }
    let (mut rest, mut response, mut text) = (data.as_slice(), ResponseHead::default(), Vec::new());
    poll_fn(|cx| {
        if !rest.is_empty() {
            match stream.send(rest, true, cx) {
                Some(count) => rest = &rest[count..],
                None => return Poll::Ready(None),
            }
        }
        loop {
            match stream.poll_response(&mut response, &mut text, cx) {
                Poll::Ready(Ok(())) if response.is_interim() => {}
                polled @ (Poll::Ready(_) | Poll::Pending) => return polled.map(Result::ok),
            }
        }
    })
    .await?;
    poll_fn(|cx| match stream.take(cx, |data, _| data.len()) {
        Came::Data(_) => Poll::Pending,
        Came::End(_) => Poll::Ready(Some(())),
        Came::Reset => Poll::Ready(None),
    })
    .await
}

/// A body's data, without its coding.
fn data(framing: Framing, mut body: &[u8]) -> Option<Vec<u8>> {
    let BodyReader::Chunked(mut chunked) = BodyReader::new(framing) else { return Some(body.to_vec()) };
    let mut data = Vec::new();
    while !chunked.is_done() && !body.is_empty() {
        let step = chunked.step(body).ok()?;
        data.extend_from_slice(&body[step.data]);
        body = &body[step.taken..];
    }
    Some(data)
}
