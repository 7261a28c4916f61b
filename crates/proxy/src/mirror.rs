//! Copies of requests, whose answers nobody waits for.

use std::{rc::Rc, time::Duration};

use strait_http::{BodyReader, Limits, ResponseHead};
use tokio::io::AsyncWriteExt as _;

use crate::{backend, io::Buffer, worker::Worker};

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

async fn exchange(worker: &Worker, id: u32, request: &[u8]) -> Option<()> {
    let live = worker.live();
    let target = live.endpoint(id).ok()?;
    let mut stream = backend::open(worker, &live, id, &target, false).await.ok()?;
    stream.write_all(request).await.ok()?;
    stream.flush().await.ok()?;
    let (mut buffer, mut head) = (Buffer::default(), ResponseHead::default());
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
