//! Copies of a request for other back ends.

use std::{future::poll_fn, rc::Rc};

use super::Exchange;
use crate::{
    deadline::Deadline,
    http2,
    live::Snapshot,
    mirror,
    pace::{Pace, Slow},
    record::Client,
    request::Forward,
    side::Side,
    worker::Worker,
    write,
};

impl Exchange {
    /// Reads a body that is copied as a whole, if it is not too large; sends the copies.
    pub(super) async fn mirror(
        &mut self,
        worker: &Rc<Worker>,
        live: &Snapshot,
        client: &Client,
        side: &mut Side,
        deadline: &Deadline,
        forward: &Forward,
    ) {
        let most = worker.limits.body_buffer;
        // What is copied has one end: nobody answers amid it.
        let mut pace = Pace::new(&worker.limits, self.body.framing, false, deadline);
        poll_fn(|cx| {
            let before = self.body.bytes();
            let polled = match &mut *side {
                Side::Http1(wire) => self.body.poll_whole_of(wire, most, cx),
                Side::Http2(stream) => self.body.poll_whole(stream, most, cx),
            };
            if polled.is_ready() {
                return polled;
            }
            if before != self.body.bytes() {
                pace.moved(deadline);
            }
            pace.poll(self.body.bytes(), Some(true), deadline, cx).map(|_: Slow| ())
        })
        .await;
        let Some(whole) = self.body.whole(most) else { return };
        for (backend, shadow) in &forward.mirrors {
            let host = || {
                let asked = self.head.authority.text(self.text.as_slice());
                shadow_of(forward.host.as_deref().unwrap_or(asked))
            };
            let host = shadow.then(host);
            let mut copy = Vec::new();
            let bytes = self.text.as_slice();
            write::request(&live.plan, forward, host.as_deref(), client, &self.head, bytes, &mut copy);
            match side {
                Side::Http1(_) => copy.extend_from_slice(whole),
                Side::Http2(_) => http2::encode_whole(self.body.framing, whole, &mut copy),
            }
            mirror::send(worker, *backend, copy);
        }
    }
}

/// The host of a copy, as Envoy marks it: `-shadow` behind the name, before a port.
fn shadow_of(host: &str) -> String {
    let port = host.rfind(':').filter(|at| !host[*at..].contains(']')).unwrap_or(host.len());
    format!("{}-shadow{}", &host[..port], &host[port..])
}
