//! What becomes of two sides that go over to another protocol.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use strait_http::Framing;
use tokio::io::AsyncWrite as _;

use super::{Exchange, Next};
use crate::{
    deadline::{Deadline, Late},
    relay::{Body, Broken, Passed, tunnel},
    side::{Side, Wire},
    worker::Worker,
};

impl Exchange {
    /// Both sides go over to another protocol: bytes both ways from here on.
    pub(super) async fn switch(
        &mut self,
        worker: &Worker,
        side: &mut Side,
        upstream: &mut Side,
        deadline: &Deadline,
    ) -> Next {
        let (front, Wire { stream, inbound, .. }) = match (side, upstream) {
            (Side::Http1(front), Side::Http1(back)) => (front, back),
            (front, back) => return self.tunnel(worker, front, back, deadline).await,
        };
        let mut down = std::mem::take(&mut self.back.out);
        down.extend(inbound.as_slice());
        let up = std::mem::take(&mut front.inbound);
        let mut passed = Passed::default();
        let idle = worker.limits.idle;
        let _ = tunnel((&mut front.stream, up), (stream, down), &mut passed, deadline, idle).await;
        self.record.request_body = passed.up;
        self.record.response_body = passed.down.saturating_sub(self.record.response_head);
        Next::Close
    }

    /// The same where a side is a stream: its data is what the connection carries.
    async fn tunnel(&mut self, worker: &Worker, side: &mut Side, upstream: &mut Side, deadline: &Deadline) -> Next {
        let (mut up, mut down) = (Body::new(Framing::UntilClose), Body::new(Framing::UntilClose));
        down.out = std::mem::take(&mut self.back.out);
        let idle = worker.limits.idle;
        let mut closed = (false, false);
        deadline.set(idle);
        let _ = poll_fn(|cx| {
            let reads = (up.reads(), down.reads());
            closed.0 = closed.0 || poll_half(&mut up, side, upstream, cx)?.is_ready();
            closed.1 = closed.1 || poll_half(&mut down, upstream, side, cx)?.is_ready();
            if closed == (true, true) {
                return Poll::Ready(Ok::<(), Broken>(()));
            }
            // Something moved: the clock of idleness starts anew.
            if reads != (up.reads(), down.reads()) {
                deadline.set(idle);
            }
            deadline.poll(cx).map(|Late| Ok(()))
        })
        .await;
        (self.body.bytes, self.back.bytes) = (up.bytes(), down.bytes());
        Next::Close
    }
}

/// One direction of a tunnel: ready when its end was passed on.
fn poll_half(body: &mut Body, from: &mut Side, to: &mut Side, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
    ready!(body.poll(from, to, cx))?;
    match to {
        Side::Http1(wire) => Pin::new(&mut wire.stream).poll_shutdown(cx).map_err(|_| Broken::To),
        Side::Http2(_) => Poll::Ready(Ok(())),
    }
}
