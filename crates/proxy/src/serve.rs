//! A client's connection: one request after the other.

use std::{rc::Rc, task::Poll, time::Duration};

use strait_http::HeadError;
use tokio::io::AsyncWriteExt as _;

use crate::{
    deadline::{Deadline, Late},
    exchange::{Exchange, LINGER, Next},
    gate::Phase,
    http2::{self, PREFACE},
    io::Stream,
    record::Client,
    side::{Side, Wire},
    worker::Worker,
};

/// How long the first request of a new connection is waited for when the worker ends.
const FIRST: Duration = Duration::from_secs(1);

/// Serves a connection until it ends: HTTP/1, and without TLS HTTP/2 where the client begins with it.
pub(crate) async fn serve(worker: Rc<Worker>, stream: Stream, client: Client) {
    let (mut wire, client) = (Wire::new(stream), Rc::new(client));
    let deadline = worker.deadlines.enter();
    if wire.stream.is_plain() {
        if !wire.first(&worker, &deadline, false).await {
            return;
        }
        let prior = deadline.limit(worker.limits.head_time, wire.is_http2()).await;
        match (prior, wire) {
            (Ok(Some(true)), Wire { stream, inbound, .. }) => {
                drop(deadline);
                return Box::pin(http2::server::serve(worker, stream, inbound, client)).await;
            }
            (Ok(Some(false)), plain) => wire = plain,
            _ => return,
        }
    }
    each(worker, wire, client, deadline).await;
}

/// Serves HTTP/1 until the connection ends.
async fn each(worker: Rc<Worker>, wire: Wire, client: Rc<Client>, deadline: Deadline) {
    let mut side = Side::Http1(wire);
    let (mut next, mut used) = (Next::Request, false);
    let old = worker.old();
    while let (Side::Http1(wire), Next::Request) = (&mut side, next) {
        if wire.inbound.is_empty() && !wire.first(&worker, &deadline, used).await {
            return;
        }
        used = true;
        let mut exchange = worker.exchange();
        let read = deadline.limit(worker.limits.head_time, wire.read_head(&worker, &mut exchange)).await;
        match read {
            Ok(Ok(true)) => {
                // The response says that the connection ends with it.
                if old.is_some_and(|old| worker.deadlines.now() >= old) {
                    exchange.head.head.keep_alive = false;
                }
                exchange.begin(&worker, &client);
                next = exchange.run(&mut side, &deadline).await;
            }
            Ok(Err(error)) => {
                exchange.head.clear();
                exchange.begin(&worker, &client);
                exchange.refuse(&worker, &mut side, &deadline, error).await;
                next = Next::Close;
            }
            Ok(Ok(false)) | Err(Late) => return,
        }
        worker.done(exchange);
    }
    let Side::Http1(wire) = &mut side else { return };
    // To close a socket is to end it: only what has an end of its own must say so before.
    if !wire.stream.is_plain() {
        let _ = deadline.limit(LINGER, wire.stream.shutdown()).await;
    }
}

impl Wire {
    /// Waits for the first byte of a request. False where the connection ends before one, or the worker: then one that was not `used` yet
    /// is still waited for a moment, for its request is on its way.
    async fn first(&mut self, worker: &Worker, deadline: &Deadline, used: bool) -> bool {
        deadline.set(worker.limits.idle);
        let mut last = false;
        std::future::poll_fn(|cx| match self.inbound.poll_fill(&mut self.stream, cx) {
            Poll::Ready(read) => Poll::Ready(matches!(read, Ok(count) if count > 0)),
            // A request that is here already is served even while the worker ends.
            Poll::Pending if worker.phase() == Phase::Ending && used => Poll::Ready(false),
            Poll::Pending => {
                if worker.phase() == Phase::Ending && !std::mem::replace(&mut last, true) {
                    deadline.set(FIRST);
                }
                deadline.poll(cx).map(|Late| false)
            }
        })
        .await
    }

    /// Reads a request's head, the first bytes of which are here. False where the connection ends before it does.
    async fn read_head(&mut self, worker: &Worker, exchange: &mut Exchange) -> Result<bool, HeadError> {
        while !exchange.head.read(self.inbound.as_slice(), &worker.limits.head)? {
            if !matches!(self.fill().await, Ok(count) if count > 0) {
                return Ok(false);
            }
        }
        exchange.text = std::mem::take(&mut self.inbound);
        self.inbound.extend(&exchange.text.as_slice()[exchange.head.head.len..]);
        Ok(true)
    }

    /// Whether a connection begins with the preface of HTTP/2. None where it ends before that is known.
    async fn is_http2(&mut self) -> Option<bool> {
        loop {
            let read = self.inbound.as_slice();
            let length = read.len().min(PREFACE.len());
            if read[..length] != PREFACE[..length] {
                return Some(false);
            }
            if length == PREFACE.len() {
                return Some(true);
            }
            if !matches!(self.fill().await, Ok(count) if count > 0) {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<F>(_: impl FnOnce(Rc<Worker>, Stream, Client) -> F) -> usize {
        size_of::<F>()
    }

    /// Each connection holds its future as long as it lives, idle or not.
    #[test]
    fn futures_are_small() {
        let size = size(serve);
        assert!(size <= 2_400, "{size} bytes");
    }
}
