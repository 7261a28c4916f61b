//! One request and its answer.
//!
//! ```text
//! head ─▶ decide ─┬▶ answer
//!                 └▶ attempt: endpoint ─ connection ─ head and body ─ head of the response ─┬▶ respond: relay both bodies
//!                      ▲                                                                   │
//!                      └── again, while the client got nothing and the request is still here ┘
//! ```
//!
//! Neither of the two [`Side`]s is of one protocol: a client's head is in [`Exchange::head`] with the bytes in [`Exchange::text`], a back
//! end's in [`Exchange::response`], whatever they came as. What is known of the request goes into its [`Record`] as it goes along; when the
//! exchange ends, or is dropped, the worker gets it.

mod copy;
mod head;
mod switch;

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use strait_http::{Edits, Framing, HeadError, RequestHead, ResponseHead, Version, h2::Code};
use strait_route::Rule;
use tokio::{io::AsyncWriteExt as _, time::sleep};

use crate::{
    backend::{self, Target},
    deadline::Deadline,
    forwarded,
    io::Buffer,
    limits::Limits,
    live::Snapshot,
    local::{self, Answer},
    pace::{Pace, Slow},
    record::{Client, Reason, Record, Sent},
    relay::{Body, Broken},
    request::{Decision, Forward, decide, goes_no_further},
    retry::{Budget, Outcome, Tries},
    side::{Side, Wire},
    timer::Timer,
    worker::Worker,
    write::{self, REQUEST_ID},
};

const GRPC_STATUS: &str = "grpc-status";

/// What comes after a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    Request,
    Close,
}

/// What serving a request needs. A worker keeps those that are done for the next ones: their lists are allocated once.
pub(crate) struct Exchange {
    pub(crate) head: RequestHead,
    /// What the head points into.
    pub(crate) text: Buffer,
    response: ResponseHead,
    /// What the response points into, where it came on a stream.
    response_text: Vec<u8>,
    /// The request, on its way to the back end.
    body: Body,
    /// The answer, on its way to the client.
    back: Body,
    record: Record,
    open: Option<Open>,
    whole: Timer,
    attempt: Timer,
    tries: Tries,
}

/// A request that has begun.
#[derive(Clone)]
struct Open {
    worker: Rc<Worker>,
    client: Rc<Client>,
    live: Rc<Snapshot>,
}

/// A connection to a back end, or a place on one, for one attempt.
struct Upstream {
    side: Side,
    target: Target,
    local: Option<SocketAddr>,
    /// Whether it served another request before: then its end may have come before this one.
    pub(crate) kept: bool,
}

/// An attempt that came to no answer for the client.
#[derive(Clone, Copy)]
enum Missed {
    /// The request is to be sent to the same target once more: nobody has processed it.
    NotTaken(Target),
    /// The endpoint, what is known of the request, and the client's answer where it is not sent again.
    Failed(Option<SocketAddr>, Option<Outcome>, Reason),
}

/// Why there is no head of a response.
#[derive(Clone, Copy)]
enum Failed {
    /// The back end went away before a byte of it.
    Closed,
    /// The back end says that it did not process the request.
    Refused,
    /// What it sent is no response.
    Protocol,
    Late,
    /// The client sends no more of its body, or too little.
    Idle,
    Slow,
    /// The client went away.
    Client,
}

impl Failed {
    const fn reason(self) -> Reason {
        match self {
            Self::Closed | Self::Refused => local::BACKEND_CLOSED,
            Self::Protocol => local::BACKEND_PROTOCOL,
            Self::Late => local::TIMED_OUT,
            Self::Idle => local::CLIENT_IDLE,
            Self::Slow => local::CLIENT_SLOW,
            Self::Client => local::CLIENT_GONE,
        }
    }

    /// What is known of the request then; none where sending it again would be no use.
    const fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Refused => Some(Outcome::NotSent),
            Self::Closed | Self::Late => Some(Outcome::Lost(self.reason().status)),
            Self::Protocol | Self::Idle | Self::Slow | Self::Client => None,
        }
    }
}

/// That a request was not sent, where another endpoint or another time may do.
fn not_sent(reason: Reason) -> Option<Outcome> {
    matches!(reason, local::CONNECT_FAILED | local::BACKEND_CLOSED).then_some(Outcome::NotSent)
}

/// Waits as a rule's fault asks; a worker that is to end does not wait. An error where the client does not.
async fn hold_up(worker: &Worker, side: &mut Side, delay: Duration) -> Result<(), Reason> {
    let waited = pin!(async {
        tokio::select! {
            () = sleep(delay) => {}
            () = worker.draining() => {}
        }
        Ok(())
    });
    side.unless_gone(waited).await
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Exchange {
    pub(crate) fn new() -> Self {
        Self {
            head: RequestHead::default(),
            text: Buffer::default(),
            response: ResponseHead::default(),
            response_text: Vec::new(),
            body: Body::default(),
            back: Body::default(),
            record: Record::new(now()),
            open: None,
            whole: Timer::default(),
            attempt: Timer::default(),
            tries: Tries::default(),
        }
    }

    /// Begins with a head that was read from `text`, or that could not be.
    pub(crate) fn begin(&mut self, worker: &Rc<Worker>, client: &Rc<Client>) {
        self.record = Record::new(now());
        self.record.protocol = write::protocol(self.head.head.version);
        #[cfg(feature = "http3")]
        if client.http3 {
            self.record.protocol = crate::record::Protocol::Http3;
        }
        self.record.request_head = self.head.head.len as u64;
        self.record.forwarded_for = match client.trusted {
            0 => None,
            trusted => forwarded::address(&self.head.head, self.text.as_slice(), trusted),
        };
        // An empty one is as good as none.
        let has_id = self.head.head.get(REQUEST_ID, self.text.as_slice()).is_some_and(|id| !id.is_empty());
        self.record.request_id = (!has_id).then(|| worker.reporter.request_id());
        worker.reporter.counters().requests_active.increment();
        self.body = Body::new(self.head.head.framing).kept();
        self.open = Some(Open { worker: Rc::clone(worker), client: Rc::clone(client), live: worker.live() });
    }

    /// Tells what became of the request, and forgets it.
    pub(crate) fn finish(&mut self) {
        if let Some(Open { worker, client, live }) = self.open.take() {
            let record = &mut self.record;
            record.ended = now();
            record.request_body += self.body.bytes();
            record.response_body += self.back.bytes();
            if record.status == 0 {
                record.reason.get_or_insert(local::CLIENT_GONE);
            }
            worker.reporter.counters().requests_active.decrement();
            worker.finished(&live, &client, record, &self.head, self.text.as_slice());
        }
        self.head.clear();
        self.response.clear();
        self.tries.clear();
        (self.text, self.body, self.back) = Default::default();
    }

    /// Serves the request whose head was read.
    pub(crate) async fn run(&mut self, side: &mut Side, deadline: &Deadline) -> Next {
        let Some(Open { worker, client, live }) = self.open.clone() else { return Next::Close };
        let (took, mut delay) = (&mut self.record.rule, None);
        let decision = if worker.is_overloaded() {
            self.head.head.keep_alive = false;
            Decision::Answer(local::overload())
        } else if let Some(answer) = goes_no_further(&self.head, &mut self.text) {
            Decision::Answer(answer)
        } else {
            decide(&worker, &live, &client, &self.head, self.text.as_slice(), (took, &mut delay))
        };
        if let Some(delay) = delay
            && let Err(reason) = Box::pin(hold_up(&worker, side, delay)).await
        {
            self.record.reason = Some(reason);
            return Next::Close;
        }
        let forward = match decision {
            Decision::Answer(answer) => return self.answer(&worker, side, deadline, answer).await,
            Decision::Forward(forward) => Forward { request_id: self.record.request_id, ..forward },
        };
        let limit = live.plan.rules.get(forward.rule as usize).and_then(|rule| rule.request_timeout);
        let mut whole = std::mem::take(&mut self.whole);
        whole.set(limit);
        let result = {
            let forwarded = pin!(self.forward(&worker, &live, &client, side, deadline, &forward));
            whole.of(forwarded).await.unwrap_or(Err(local::TIMED_OUT))
        };
        self.whole = whole;
        match result {
            Ok(next) => next,
            // Too late for another answer: that this one is cut off is all that can be told.
            Err(reason) if self.record.status != 0 || reason == local::CLIENT_GONE => {
                self.record.reason = Some(reason);
                Next::Close
            }
            Err(reason) => self.answer(&worker, side, deadline, Answer::failed(reason)).await,
        }
    }

    /// Tells why a head is not taken, and ends the connection: where the next request begins is not certain.
    pub(crate) async fn refuse(&mut self, worker: &Worker, side: &mut Side, deadline: &Deadline, error: HeadError) {
        let mut answer = Answer::of(Reason { status: error.status(), ..local::MALFORMED });
        answer.tell(worker.proxy_status);
        self.record.status = answer.reason.status;
        self.record.reason = Some(answer.reason);
        self.record.response_body = answer.body().len() as u64;
        match side {
            Side::Http1(wire) => {
                let mut out = Vec::new();
                answer.write(Version::Http11, false, false, &mut out);
                wire.end(&out, deadline).await;
            }
            Side::Http2(stream) => answer.send(stream, false, false, deadline, LINGER).await,
        }
    }

    /// Answers in place of a back end. What is left of the request's body is read where it is here already; else the connection ends.
    async fn answer(&mut self, worker: &Worker, side: &mut Side, deadline: &Deadline, mut answer: Answer) -> Next {
        answer.tell(worker.proxy_status);
        #[cfg(feature = "http3")]
        if let Some(alternative) = self.open.as_ref().and_then(|open| open.client.alternative.as_deref()) {
            answer.fields.push((write::ALTERNATIVE.into(), alternative.to_owned()));
        }
        let head = &self.head.head;
        let bytes = self.text.as_slice();
        let is_call = is_call(&self.head, bytes);
        let is_head = self.head.method.bytes(bytes) == b"HEAD";
        let code = answer.call_status().filter(|_| is_call);
        // Calls get their own status in a response that is fine.
        self.record.status = if code.is_some() { 200 } else { answer.reason.status };
        self.record.grpc_status = code;
        self.record.reason = Some(answer.reason);
        self.record.response_body = if is_head || code.is_some() { 0 } else { answer.body().len() as u64 };
        let wire = match side {
            Side::Http1(wire) => wire,
            Side::Http2(stream) => {
                answer.send(stream, is_call, is_head, deadline, worker.limits.idle).await;
                return Next::Close;
            }
        };
        self.body.skip(&mut wire.inbound);
        // What follows a refused `CONNECT` may be meant for the tunnel.
        let keep_alive = head.keep_alive && self.body.is_read() && self.head.target != strait_http::Target::Authority;
        let mut out = Vec::new();
        if let Some(code) = code {
            answer.refuse_call(code, keep_alive, &mut out);
        } else {
            answer.write(head.version, keep_alive, is_head, &mut out);
        }
        self.record.response_head = out.len() as u64 - self.record.response_body;
        if !keep_alive {
            wire.end(&out, deadline).await;
            return Next::Close;
        }
        if wire.send(&out, deadline, worker.limits.idle).await { Next::Request } else { Next::Close }
    }

    /// Passes the request on, and the response back.
    async fn forward(
        &mut self,
        worker: &Rc<Worker>,
        live: &Snapshot,
        client: &Client,
        side: &mut Side,
        deadline: &Deadline,
        forward: &Forward,
    ) -> Result<Next, Reason> {
        // The back end's answer is not waited for: most take what they are sent.
        match side {
            Side::Http1(wire) if self.head.head.expects_continue && wire.inbound.is_empty() => {
                if !wire.send(b"HTTP/1.1 100 Continue\r\n\r\n", deadline, worker.limits.idle).await {
                    return Err(local::CLIENT_GONE);
                }
            }
            Side::Http2(stream) if self.head.head.expects_continue && !stream.has_more() => {
                stream.status(100, &[], false);
            }
            Side::Http1(_) | Side::Http2(_) => {}
        }
        if !forward.mirrors.is_empty() {
            Box::pin(self.mirror(worker, live, client, side, deadline, forward)).await;
        }
        let rule = live.plan.rules.get(forward.rule as usize);
        worker.budget(live.backend(forward.backend), Budget::request);
        loop {
            let connected = {
                let connecting = pin!(self.connect(worker, live, forward));
                side.unless_gone(connecting).await
            };
            let missed = match connected {
                Err(reason) => Missed::Failed(self.record.sent.endpoint, not_sent(reason), reason),
                Ok(mut upstream) => {
                    let came = if self.write_request(live, client, side, forward, &mut upstream) {
                        self.attempt(side, &mut upstream, deadline, &worker.limits, rule).await
                    } else {
                        Err(Failed::Refused)
                    };
                    let Some(missed) = self.missed(came, &upstream, rule) else {
                        let next = self.respond(worker, live, forward, side, &mut upstream, deadline).await?;
                        self.keep(worker, upstream);
                        return Ok(next);
                    };
                    missed
                }
            };
            if let Some(wait) = self.again(worker, live, forward, rule, missed)? {
                let pause = Box::pin(async {
                    sleep(wait).await;
                    Ok(())
                });
                side.unless_gone(pin!(pause)).await?;
            }
        }
    }

    /// What an attempt came to; none where its answer is the client's.
    fn missed(&self, came: Result<(), Failed>, upstream: &Upstream, rule: Option<&Rule>) -> Option<Missed> {
        let failed = Some(upstream.target.address);
        match came {
            Ok(()) => {
                let outcome = Some(Outcome::Answered(self.response.status));
                self.wants_another(rule, outcome).then_some(Missed::Failed(failed, outcome, local::RETRY_BUDGET))
            }
            Err(why) if self.may_repeat(why, upstream.kept) => Some(Missed::NotTaken(upstream.target)),
            Err(why) => {
                if let (Failed::Late, Side::Http2(stream)) = (why, &upstream.side) {
                    stream.was_late();
                }
                Some(Missed::Failed(failed, why.outcome(), why.reason()))
            }
        }
    }

    /// Makes ready to send the request again, at once or after a time.
    ///
    /// # Errors
    /// The answer for the client where it is not sent again.
    fn again(
        &mut self,
        worker: &Worker,
        live: &Snapshot,
        forward: &Forward,
        rule: Option<&Rule>,
        missed: Missed,
    ) -> Result<Option<Duration>, Reason> {
        let (failed, outcome, reason) = match missed {
            Missed::NotTaken(target) => {
                self.tries.same = Some(target);
                return Ok(None);
            }
            Missed::Failed(failed, outcome, reason) => (failed, outcome, reason),
        };
        self.tries.failed.extend(failed);
        let wanted = self.wants_another(rule, outcome);
        let retry = rule.and_then(|rule| rule.retry.as_ref()).filter(|_| wanted).ok_or(reason)?;
        if worker.budget(live.backend(forward.backend), Budget::retry) == Some(false) {
            return Err(local::RETRY_BUDGET);
        }
        self.response.clear();
        self.response_text.clear();
        self.record.first_byte = None;
        Ok(Some(self.tries.next(retry, worker.random())))
    }

    /// Whether the route wants the request to be sent again, and that can be done.
    fn wants_another(&self, rule: Option<&Rule>, outcome: Option<Outcome>) -> bool {
        let retry = rule.and_then(|rule| rule.retry.as_ref());
        let (Some(retry), Some(outcome)) = (retry, outcome) else { return false };
        let idempotent = is_idempotent(self.head.method.bytes(self.text.as_slice()));
        self.body.can_restart() && self.tries.wants(retry, outcome, idempotent)
    }

    /// Whether a request that failed is sent again at once, whatever the route says.
    fn may_repeat(&self, failed: Failed, kept: bool) -> bool {
        match failed {
            // A kept connection that the back end closed meanwhile. Whether it had read the request is not certain (RFC 9110, 9.2.2).
            Failed::Closed if kept => {
                let method = self.head.method.bytes(self.text.as_slice());
                let bodiless = matches!(self.head.head.framing, Framing::None | Framing::Length(0));
                is_idempotent(method) && bodiless && self.body.can_restart()
            }
            Failed::Refused => self.record.sent.attempts < MOST_ATTEMPTS && self.body.can_restart(),
            Failed::Closed | Failed::Protocol | Failed::Late | Failed::Idle | Failed::Slow | Failed::Client => false,
        }
    }

    /// Chooses an endpoint, and gets a connection to it: that of the client's session, unless it failed; where the last attempt asks
    /// for the same once more, that one and by a new connection.
    async fn connect(&mut self, worker: &Rc<Worker>, live: &Snapshot, forward: &Forward) -> Result<Upstream, Reason> {
        self.record.sent.backend = Some(forward.backend);
        let Tries { same, failed, .. } = &mut self.tries;
        let again = same.take();
        let kept = || {
            let kept = forward.session.as_ref().filter(|_| failed.is_empty())?.kept.as_ref()?;
            live.endpoint_at(forward.backend, kept.endpoint)
        };
        let target = match again.or_else(kept) {
            Some(target) => target,
            None => live.endpoint(forward.backend, failed)?,
        };
        let attempts = self.record.sent.attempts + 1;
        self.record.sent =
            Sent { backend: Some(forward.backend), endpoint: Some(target.address), local: None, attempts };
        let kept = if again.is_none() { worker.pooled(&target) } else { None };
        let upstream = if let Some((wire, local)) = kept {
            Upstream { side: Side::Http1(wire), target, local, kept: true }
        } else if let Some(stream) = backend::shared(worker, &target, forward.upgrade) {
            Upstream { side: Side::Http2(stream), target, local: None, kept: true }
        } else {
            let opened = Box::pin(backend::open(worker, live, forward.backend, &target, forward.upgrade)).await?;
            Upstream { side: opened.side, target, local: opened.local, kept: opened.kept }
        };
        self.record.sent.local = upstream.local;
        Ok(upstream)
    }

    /// Puts the head where it goes out first, and behind it what was sent of the body before. False where a shared connection takes no
    /// more.
    fn write_request(
        &mut self,
        live: &Snapshot,
        client: &Client,
        side: &mut Side,
        forward: &Forward,
        upstream: &mut Upstream,
    ) -> bool {
        self.body.out.clear();
        match &mut upstream.side {
            Side::Http1(_) => {
                let out = self.body.out.end();
                write::request(&live.plan, forward, None, client, &self.head, self.text.as_slice(), out);
            }
            Side::Http2(stream) => {
                let (head, bytes, target) = (&self.head, self.text.as_slice(), &upstream.target);
                if !write::send_request(&live.plan, forward, client, head, bytes, target, stream) {
                    return false;
                }
            }
        }
        self.body.restart(side, &upstream.side);
        true
    }

    /// Sends the request, and waits for the head of the response while its body goes on.
    async fn attempt(
        &mut self,
        side: &mut Side,
        upstream: &mut Upstream,
        deadline: &Deadline,
        limits: &Limits,
        rule: Option<&Rule>,
    ) -> Result<(), Failed> {
        let mut limit = std::mem::take(&mut self.attempt);
        limit.set(rule.and_then(|rule| rule.backend_request_timeout));
        let result = {
            let head = pin!(self.response_head(side, &mut upstream.side, deadline, limits));
            limit.of(head).await.unwrap_or(Err(Failed::Late))
        };
        self.attempt = limit;
        result
    }

    async fn response_head(
        &mut self,
        side: &mut Side,
        upstream: &mut Side,
        deadline: &Deadline,
        limits: &Limits,
    ) -> Result<(), Failed> {
        let Self { body, response, response_text, head, text, record, .. } = self;
        let method = head.method.bytes(text.as_slice());
        let mut sending = true;
        // Calls of HTTP/2 may take their time on either side; of what else comes on a stream nobody hears before it is answered.
        let talks = matches!((&*side, &*upstream), (Side::Http2(_), Side::Http2(_))) && is_call(head, text.as_slice());
        let mut pace = Pace::new(limits, body.framing, talks, deadline);
        loop {
            poll_fn(|cx| {
                let reads = body.reads();
                if sending {
                    match body.poll(side, upstream, cx) {
                        Poll::Ready(Err(Broken::From)) => return Poll::Ready(Err(Failed::Client)),
                        // What a back end said before it stopped reading may still be there.
                        Poll::Ready(Ok(()) | Err(Broken::To)) => sending = false,
                        Poll::Pending => {}
                    }
                    if body.is_read() && record.received.is_none() {
                        record.received = Some(if body.bytes() == 0 { record.started } else { now() });
                    }
                }
                match &mut *upstream {
                    Side::Http1(back) => match back.inbound.poll_fill(&mut back.stream, cx) {
                        Poll::Ready(Ok(count)) if count > 0 => return Poll::Ready(Ok(())),
                        Poll::Ready(_) if back.inbound.is_empty() => return Poll::Ready(Err(Failed::Closed)),
                        Poll::Ready(_) => return Poll::Ready(Err(Failed::Protocol)),
                        Poll::Pending => {}
                    },
                    Side::Http2(stream) => match stream.poll_response(response, response_text, cx) {
                        Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                        Poll::Ready(Err(Code::REFUSED_STREAM)) => return Poll::Ready(Err(Failed::Refused)),
                        Poll::Ready(Err(Code::PROTOCOL_ERROR)) => return Poll::Ready(Err(Failed::Protocol)),
                        Poll::Ready(Err(_)) => return Poll::Ready(Err(Failed::Closed)),
                        Poll::Pending => {}
                    },
                }
                // As long as its body comes one of HTTP/1 is read anyway.
                if (!sending || matches!(side, Side::Http2(_))) && side.is_gone(cx) {
                    return Poll::Ready(Err(Failed::Client));
                }
                if reads != body.reads() {
                    pace.moved(deadline);
                }
                let waits = if sending { body.waits(side) } else { None };
                pace.poll(body.bytes(), waits, deadline, cx).map(|slow| match slow {
                    Slow::Body => Err(Failed::Slow),
                    Slow::Idle if waits == Some(true) => Err(Failed::Idle),
                    Slow::Idle => Err(Failed::Late),
                })
            })
            .await?;
            record.first_byte.get_or_insert_with(now);
            let Side::Http1(back) = &mut *upstream else {
                if !response.is_interim() {
                    return Ok(());
                }
                if head.head.version != Version::Http10 {
                    if !Box::pin(interim(side, response, response_text, deadline, limits.idle)).await {
                        return Err(Failed::Client);
                    }
                    pace.moved(deadline);
                }
                continue;
            };
            let most = strait_http::Limits::default();
            while response.read(back.inbound.as_slice(), method, &most).map_err(|_| Failed::Protocol)? {
                if !response.is_interim() {
                    return Ok(());
                }
                // `100 Continue` was said already. HTTP/1.0 knows no interim answers (RFC 9110, 15.2).
                if response.status != 100 && head.head.version != Version::Http10 {
                    let text = back.inbound.as_slice();
                    if !Box::pin(interim(side, response, text, deadline, limits.idle)).await {
                        return Err(Failed::Client);
                    }
                    pace.moved(deadline);
                }
                back.inbound.consume(response.head.len);
            }
        }
    }

    /// Passes the response on, whose head was read.
    async fn respond(
        &mut self,
        worker: &Rc<Worker>,
        live: &Snapshot,
        forward: &Forward,
        side: &mut Side,
        upstream: &mut Upstream,
        deadline: &Deadline,
    ) -> Result<Next, Reason> {
        let (asks, status) = (forward.upgrade, self.response.status);
        let switching = match &upstream.side {
            Side::Http1(_) if status == 101 && !asks => return Err(local::BACKEND_PROTOCOL),
            Side::Http1(_) => status == 101,
            // What extended CONNECT gets where it is taken (RFC 8441, 5).
            Side::Http2(stream) => asks && stream.takes_connect() && (200..300).contains(&status),
        };
        // Until the connection ends, or chunks that an old client does not know: its end is the connection's.
        let framing = self.response.head.framing;
        let version = self.head.head.version;
        let old = version == Version::Http10;
        let unknown_end = framing == Framing::UntilClose || (framing == Framing::Chunked && old);
        let keep_alive = self.head.head.keep_alive && !unknown_end && !worker.is_draining();
        self.back = Body::new(framing).decoded(old);
        self.respond_head(worker, live, forward, side, upstream, (keep_alive, switching));
        if let Side::Http1(from) = &mut upstream.side {
            from.inbound.consume(self.response.head.len);
        }
        self.record.status = self.response.status;
        if switching {
            // What it speaks from here on nobody else does.
            self.response.head.keep_alive = false;
            return Ok(Box::pin(self.switch(worker, side, &mut upstream.side, deadline)).await);
        }
        self.relay(worker, side, &mut upstream.side, deadline).await?;
        if let Side::Http2(stream) = &upstream.side {
            stream.trailers(|name, value| {
                if name == GRPC_STATUS.as_bytes() {
                    self.record.grpc_status = std::str::from_utf8(value).ok().and_then(|code| code.parse().ok());
                }
            });
        }
        Ok(if self.body.is_done() && keep_alive { Next::Request } else { Next::Close })
    }

    /// Keeps a connection on which both messages went to their end.
    fn keep(&self, worker: &Worker, upstream: Upstream) {
        if let Side::Http1(wire) = upstream.side
            && self.body.is_done()
            && self.response.head.keep_alive
            && wire.inbound.is_empty()
        {
            worker.keep(&upstream.target, wire, upstream.local);
        }
    }

    /// Moves what is left of both bodies, until the response is over.
    async fn relay(
        &mut self,
        worker: &Worker,
        side: &mut Side,
        upstream: &mut Side,
        deadline: &Deadline,
    ) -> Result<(), Reason> {
        let Self { body, back, record, .. } = self;
        let talks = matches!((&*side, &*upstream), (Side::Http2(_), Side::Http2(_)));
        let mut pace = Pace::new(&worker.limits, body.framing, talks, deadline);
        let mut stopped = body.is_done();
        poll_fn(|cx| {
            let reads = (body.reads(), back.reads());
            if !stopped {
                // A back end that answers early reads no more, perhaps: that is no failure of the response.
                stopped = body.poll(side, upstream, cx).is_ready();
                if body.is_read() && record.received.is_none() {
                    record.received = Some(now());
                }
            }
            match back.poll(upstream, side, cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(Broken::From)) => return Poll::Ready(Err(local::BACKEND_CUT_OFF)),
                Poll::Ready(Err(Broken::To)) => return Poll::Ready(Err(local::CLIENT_GONE)),
                Poll::Pending => {}
            }
            // One of HTTP/2 is looked at where it is written to.
            if stopped && matches!(side, Side::Http1(_)) && side.is_gone(cx) {
                return Poll::Ready(Err(local::CLIENT_GONE));
            }
            if reads != (body.reads(), back.reads()) {
                pace.moved(deadline);
            }
            let waits = if stopped { None } else { body.waits(side) };
            pace.poll(body.bytes(), waits, deadline, cx).map(|slow| match slow {
                Slow::Idle => Err(local::STALLED),
                Slow::Body => Err(local::CLIENT_SLOW),
            })
        })
        .await
    }
}

/// Passes an interim response on. Whether the client took it.
async fn interim(side: &mut Side, response: &ResponseHead, text: &[u8], deadline: &Deadline, idle: Duration) -> bool {
    match side {
        Side::Http1(front) => {
            let mut out = Vec::new();
            response.write(text, Version::Http11, &Edits::default(), true, &mut out);
            front.send(&out, deadline, idle).await
        }
        Side::Http2(stream) => {
            stream.respond(response, text, &Edits::default(), false);
            true
        }
    }
}

/// How often a request is sent that back ends refuse unprocessed.
const MOST_ATTEMPTS: u32 = 5;

/// Whether it is a request of gRPC.
fn is_call(head: &RequestHead, bytes: &[u8]) -> bool {
    head.head.get("content-type", bytes).is_some_and(|kind| local::is_call(kind.bytes(bytes)))
}

/// Whether a request may be sent again without harm (RFC 9110, 9.2.2).
fn is_idempotent(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE" | b"TRACE")
}

impl Wire {
    /// Reads more. Gives 0 at the end of the connection.
    pub(crate) async fn fill(&mut self) -> std::io::Result<usize> {
        self.inbound.fill(&mut self.stream).await
    }

    /// Writes to the client, which may not take as long as it likes. Whether it took all.
    async fn send(&mut self, out: &[u8], deadline: &Deadline, idle: Duration) -> bool {
        let written = async {
            self.stream.write_all(out).await?;
            self.stream.flush().await
        };
        matches!(deadline.limit(idle, written).await, Ok(Ok(())))
    }

    /// Writes the last bytes, and reads what still comes for a moment, so that they are not lost in a reset.
    async fn end(&mut self, out: &[u8], deadline: &Deadline) {
        let ended = async {
            self.stream.write_all(out).await?;
            self.stream.flush().await?;
            self.stream.shutdown().await?;
            while self.fill().await? > 0 {
                self.inbound.clear();
            }
            std::io::Result::Ok(())
        };
        let _ = deadline.limit(LINGER, ended).await;
    }
}

/// How long a connection that ends is still read.
pub(crate) const LINGER: Duration = Duration::from_secs(1);
