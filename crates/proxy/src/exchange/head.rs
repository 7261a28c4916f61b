//! The head of a response, as the client gets it.

use std::rc::Rc;

use strait_http::Framing;

use super::{Exchange, GRPC_STATUS, Upstream};
use crate::{
    live::Snapshot,
    request::Forward,
    session,
    side::Side,
    worker::Worker,
    write::{Accepted, DATE, ForClient, Switched},
};

impl Exchange {
    /// Passes on the head that was read. What it is made of is not kept while the body follows.
    pub(super) fn respond_head(
        &mut self,
        worker: &Rc<Worker>,
        live: &Snapshot,
        forward: &Forward,
        side: &Side,
        upstream: &Upstream,
        (keep_alive, switching): (bool, bool),
    ) {
        let answered = (forward.backend, upstream.target.address);
        let session = forward.session.as_ref().and_then(|asked| {
            let rule = live.plan.rules.get(forward.rule as usize)?;
            session::field(worker.seal(), &live.plan, rule, answered, asked, session::now())
        });
        let text = match &upstream.side {
            Side::Http1(from) => from.inbound.as_slice(),
            Side::Http2(_) => &self.response_text,
        };
        let has_date = switching || self.response.head.get(DATE, text).is_some();
        let overlay = ForClient::new(&live.plan, forward, &self.head, self.text.as_slice(), session).dated(!has_date);
        #[cfg(feature = "http3")]
        let overlay = overlay.beside(self.open.as_ref().and_then(|open| open.client.alternative.as_deref()));
        if let Some(code) = self.response.head.get(GRPC_STATUS, text) {
            self.record.grpc_status = code.text(text).parse().ok();
        }
        let version = self.head.head.version;
        match side {
            Side::Http1(_) if switching => {
                let out = self.back.out.end();
                if self.response.status == 101 {
                    self.response.write(text, version, &overlay, keep_alive, out);
                } else {
                    (self.response.status, self.response.head.framing) = (101, Framing::None);
                    let accepted = Accepted::new(overlay, &self.head, self.text.as_slice());
                    self.response.write(text, version, &accepted, keep_alive, out);
                }
            }
            Side::Http1(_) => {
                let out = self.back.out.end();
                self.response.write(text, version, &overlay, keep_alive, out);
                self.record.response_head = out.len() as u64;
            }
            Side::Http2(stream) if switching => {
                self.response.status = 200;
                stream.respond(&self.response, text, &Switched(overlay), false);
            }
            Side::Http2(stream) => {
                stream.respond(&self.response, text, &overlay, self.response.head.is_end());
                self.record.response_head = self.response.head.len as u64;
            }
        }
    }
}
