//! A client's connection.
//!
//! ```text
//! serves ── the worker ends, or hands over; the connection is old; the listener is gone ─▶ GOAWAY: none yet is refused
//!        ─ what is on its way arrives ─▶ GOAWAY: up to the last that came; later ones are rejected, and may be tried again
//!        ─ the last answer is taken ─▶ CONNECTION_CLOSE
//! ```

use std::{
    cell::{Cell, RefCell},
    future::{pending, poll_fn},
    pin::pin,
    rc::Rc,
    time::{Duration, Instant},
};

use quinn::{RecvStream, SendStream};
use strait_http::h3::{self, Code, Fault, kind, setting, stream_type};
use tokio::{
    sync::Notify,
    time::{sleep, sleep_until, timeout},
};

use super::{
    code,
    listener::Leave,
    stream::{NoHead, Stream},
    uni,
};
use crate::{
    exchange::Exchange,
    limits::{Floods, Limits},
    record::Client,
    side::Side,
    stream::Stream as Either,
    worker::Worker,
};

/// The intervals that floods are counted in.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long requests that were sent before the first `GOAWAY` arrived are waited for, in round trips, and at least and at most.
const ON_THEIR_WAY: (u32, Duration, Duration) = (2, Duration::from_millis(50), Duration::from_secs(1));
/// How long the last `GOAWAY` takes at least.
const SAID: Duration = Duration::from_millis(20);
/// What refuses no request yet.
const NONE_REFUSED: u64 = (1 << 62) - 4;

/// A connection, as its tasks share it.
pub(super) struct Link {
    quic: quinn::Connection,
    started: Instant,
    /// Requests that are under way, and word of the end of the last one.
    open: Cell<u32>,
    ended: Notify,
    floods: Floods,
    counts: Cell<Counts>,
    /// Which of the client's streams that there must be one of at most were opened.
    pub(super) critical: RefCell<Vec<u64>>,
}

/// What the client did in an interval, as [`Floods`] bounds it.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    interval: u64,
    opened: u32,
    /// Requests that it gave up.
    resets: u32,
    /// Requests that the gate had to give up.
    pub(super) provoked: u32,
    /// Frames that say something.
    pub(super) asks: u32,
    /// Frames without use.
    pub(super) idle_frames: u32,
}

impl Counts {
    const fn are_too_many(&self, floods: &Floods) -> bool {
        let half = self.opened / 2;
        (self.resets > floods.resets && self.resets > half)
            || (self.provoked > floods.provoked && self.provoked > half)
            || self.asks > floods.asks
            // Clients may send something unknown with each request, so that servers stay used to it (RFC 9114, 7.2.8).
            || self.idle_frames > floods.idle_frames.saturating_add(self.opened)
    }
}

/// Serves a connection until it ends.
pub(super) async fn serve(worker: Rc<Worker>, quic: quinn::Connection, client: Rc<Client>, leave: Rc<Leave>) {
    let started = tokio::time::Instant::now().into_std();
    let link = Rc::new(Link {
        quic,
        started,
        open: Cell::new(0),
        ended: Notify::new(),
        floods: worker.limits.floods,
        counts: Cell::default(),
        critical: RefCell::default(),
    });
    let reading = tokio::task::spawn_local(uni::read_all(Rc::clone(&link)));
    if let Ok(Some(mut control)) = timeout(worker.limits.head_time, link.begin(&worker.limits)).await {
        link.requests(&worker, &client, &leave, &mut control).await;
    }
    link.close(Code::NO_ERROR);
    reading.abort();
}

impl Link {
    pub(super) fn quic(&self) -> &quinn::Connection {
        &self.quic
    }

    /// Ends the connection, unless it has ended.
    pub(super) fn close(&self, error: Code) {
        self.quic.close(code(error), b"");
    }

    /// Counts something, and ends a connection on which too much is done.
    pub(super) fn count(&self, what: impl FnOnce(&mut Counts)) {
        let since = tokio::time::Instant::now().into_std().duration_since(self.started);
        let interval = since.as_secs() / INTERVAL.as_secs();
        let mut counts = self.counts.get();
        if counts.interval != interval {
            counts = Counts { interval, ..Counts::default() };
        }
        what(&mut counts);
        self.counts.set(counts);
        if counts.are_too_many(&self.floods) {
            self.close(Code::EXCESSIVE_LOAD);
        }
    }

    /// Opens the control stream, and tells the settings.
    async fn begin(&self, limits: &Limits) -> Option<SendStream> {
        let mut control = self.quic.open_uni().await.ok()?;
        let mut settings = Vec::new();
        for (setting, value) in
            [(setting::MAX_FIELD_SECTION_SIZE, limits.head.head as u64), (setting::ENABLE_CONNECT_PROTOCOL, 1)]
        {
            h3::put_number(setting, &mut settings);
            h3::put_number(value, &mut settings);
        }
        let mut out = Vec::new();
        h3::put_number(stream_type::CONTROL, &mut out);
        h3::put_head(kind::SETTINGS, settings.len() as u64, &mut out);
        out.extend_from_slice(&settings);
        control.write_all(&out).await.ok()?;
        Some(control)
    }

    /// Takes requests until the connection ends or is to end, and lets those that are under way come to their end.
    async fn requests(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        leave: &Leave,
        control: &mut SendStream,
    ) {
        let old = worker.old();
        let aged = async {
            match old {
                Some(old) => sleep_until(old.into()).await,
                None => pending().await,
            }
        };
        let mut next = 0;
        {
            let mut aged = pin!(aged);
            let mut draining = pin!(worker.draining());
            loop {
                tokio::select! {
                    biased;
                    accepted = self.quic.accept_bi() => match accepted {
                        Ok(stream) => next = self.take(worker, client, stream),
                        Err(_) => return,
                    },
                    () = &mut draining => break,
                    () = &mut aged => break,
                    () = leave.asked() => break,
                }
            }
        }
        if goaway(control, NONE_REFUSED).await.is_none() {
            return;
        }
        let (trips, least, most) = ON_THEIR_WAY;
        let on_their_way = async {
            while let Ok(stream) = self.quic.accept_bi().await {
                next = self.take(worker, client, stream);
            }
        };
        let _ = timeout((self.quic.rtt() * trips).clamp(least, most), on_their_way).await;
        if goaway(control, next).await.is_none() {
            return;
        }
        // The connection's end would overtake what was just said.
        let over = async {
            self.idle().await;
            sleep(self.quic.rtt().clamp(SAID, most)).await;
        };
        let mut over = pin!(over);
        loop {
            tokio::select! {
                biased;
                () = &mut over => return,
                accepted = self.quic.accept_bi() => match accepted {
                    Ok((mut send, mut recv)) => {
                        let _ = send.reset(code(Code::REQUEST_REJECTED));
                        let _ = recv.stop(code(Code::REQUEST_REJECTED));
                    }
                    Err(_) => return,
                },
            }
        }
    }

    /// Serves a request in a task of its own; gives the first number that a later one can have.
    fn take(self: &Rc<Self>, worker: &Rc<Worker>, client: &Rc<Client>, stream: (SendStream, RecvStream)) -> u64 {
        let next = (stream.0.id().index() + 1) * 4;
        self.open.set(self.open.get() + 1);
        self.count(|counts| counts.opened += 1);
        let open = Open(Rc::clone(self));
        tokio::task::spawn_local(one(Rc::clone(worker), Rc::clone(client), open, stream));
        next
    }

    /// Waits until no request is under way.
    async fn idle(&self) {
        while self.open.get() > 0 {
            self.ended.notified().await;
        }
    }
}

/// A request that is under way.
struct Open(Rc<Link>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        if self.0.open.get() == 0 {
            self.0.ended.notify_one();
        }
    }
}

async fn goaway(control: &mut SendStream, id: u64) -> Option<()> {
    let (mut number, mut out) = (Vec::new(), Vec::new());
    h3::put_number(id, &mut number);
    h3::put_head(kind::GOAWAY, number.len() as u64, &mut out);
    out.extend_from_slice(&number);
    control.write_all(&out).await.ok()
}

/// Serves one request.
async fn one(worker: Rc<Worker>, client: Rc<Client>, open: Open, (send, recv): (SendStream, RecvStream)) {
    let link = &open.0;
    let deadline = worker.deadlines.enter();
    let stream = Stream::new(Rc::clone(link), worker.limits.head, send, recv);
    let mut exchange = worker.exchange();
    let read = {
        let Exchange { head, text, .. } = &mut *exchange;
        let read = poll_fn(|cx| stream.poll_head(head, text.end(), cx));
        deadline.limit(worker.limits.head_time, read).await
    };
    let error = match read {
        Ok(Ok(())) => None,
        Ok(Err(NoHead::Fault(Fault::Refused(error)))) => Some(error),
        Ok(Err(NoHead::Fault(Fault::Connection(error)))) => {
            exchange.head.clear();
            worker.done(exchange);
            return link.close(error);
        }
        Ok(Err(NoHead::Fault(Fault::Malformed) | NoHead::Gone)) | Err(_) => {
            stream.abort(match read {
                Ok(Err(NoHead::Gone)) => Code::REQUEST_INCOMPLETE,
                Ok(_) => Code::MESSAGE_ERROR,
                // Nothing was done with it yet.
                Err(_) => Code::REQUEST_REJECTED,
            });
            exchange.head.clear();
            worker.done(exchange);
            let given_up = stream.is_given_up();
            return link.count(|counts| if given_up { counts.resets += 1 } else { counts.provoked += 1 });
        }
    };
    let mut side = Side::Http2(Either::Http3(Box::new(stream)));
    match error {
        None => {
            exchange.begin(&worker, &client);
            exchange.run(&mut side, &deadline).await;
        }
        Some(error) => {
            exchange.head.clear();
            exchange.begin(&worker, &client);
            exchange.refuse(&worker, &mut side, &deadline, error).await;
        }
    }
    worker.done(exchange);
    let Side::Http2(Either::Http3(stream)) = &side else { return };
    // The connection may end with its last request, and what it did not deliver by then is lost.
    let _ = deadline.limit(worker.limits.idle, poll_fn(|cx| stream.poll_done(cx))).await;
    if stream.is_given_up() {
        link.count(|counts| counts.resets += 1);
    }
}
