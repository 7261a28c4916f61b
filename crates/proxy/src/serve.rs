//! A client's connection: one request after the other.

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use strait_http::{BodyReader, Framing, HeadError, RequestHead, ResponseHead, Version};
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::{
    backend::{self, Target},
    cors,
    filters::Edits,
    http2::{self, PREFACE},
    io::{Buffer, Prefixed, Stream},
    live::Live,
    local::{self, Reason, answer},
    mirror,
    relay::{Body, Broken, tunnel},
    request::{Decision, Forward, decide},
    worker::Worker,
};

/// Who is on the other end, and of which listener.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) peer: SocketAddr,
    /// The address of the gateway.
    pub(crate) address: IpAddr,
    /// The port of the listener, before any mapping.
    pub(crate) port: u16,
    pub(crate) https: bool,
    /// The listener that the handshake was for.
    pub(crate) listener: Option<Arc<str>>,
}

/// A connection and what was read of it.
struct Connection {
    stream: Stream,
    inbound: Buffer,
    head: RequestHead,
    response: ResponseHead,
    /// Whether the request is a gRPC call.
    is_call: bool,
    /// Whether a request was served on it.
    used: bool,
}

/// What comes after a request.
#[derive(PartialEq, Eq)]
enum Next {
    Request,
    Close,
}

/// Serves a connection until it ends: HTTP/1, and without TLS HTTP/2 where the client begins with it.
pub(crate) async fn serve(worker: Rc<Worker>, mut stream: Stream, client: Client) {
    let mut inbound = Buffer::default();
    if matches!(stream, Stream::Plain(_)) {
        let first = tokio::select! {
            biased;
            first = timeout(worker.limits.idle, inbound.fill(&mut stream)) => first,
            () = worker.ending(false) => return,
        };
        if !matches!(first, Ok(Ok(count)) if count > 0) {
            return;
        }
        let prior = timeout(worker.limits.head_time, is_http2(&mut stream, &mut inbound)).await;
        match (prior, stream) {
            (Ok(Some(true)), Stream::Plain(stream)) => {
                let stream = Prefixed { first: inbound.as_slice().to_vec(), at: 0, stream };
                return Box::pin(http2::server::serve(worker, stream, client)).await;
            }
            (Ok(Some(false)), plain) => stream = plain,
            _ => return,
        }
    }
    each(worker, stream, inbound, client).await;
}

/// Whether a connection begins with the preface of HTTP/2. None where it ends before that is known.
async fn is_http2(stream: &mut Stream, inbound: &mut Buffer) -> Option<bool> {
    loop {
        let read = inbound.as_slice();
        let length = read.len().min(PREFACE.len());
        if read[..length] != PREFACE[..length] {
            return Some(false);
        }
        if length == PREFACE.len() {
            return Some(true);
        }
        if !matches!(inbound.fill(stream).await, Ok(count) if count > 0) {
            return None;
        }
    }
}

/// Serves the request of a stream of HTTP/2.
pub(crate) async fn requests(worker: Rc<Worker>, stream: Stream, client: Client) {
    each(worker, stream, Buffer::default(), client).await;
}

/// Serves HTTP/1 until the connection ends. `inbound` was read of it already.
async fn each(worker: Rc<Worker>, stream: Stream, inbound: Buffer, client: Client) {
    let mut connection = Connection {
        stream,
        inbound,
        head: RequestHead::default(),
        response: ResponseHead::default(),
        is_call: false,
        used: false,
    };
    loop {
        match connection.read_head(&worker).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return connection.refuse(error).await,
        }
        connection.used = true;
        if connection.exchange(&worker, &client).await == Next::Close {
            let _ = timeout(Duration::from_secs(1), connection.stream.shutdown()).await;
            return;
        }
    }
}

impl Connection {
    /// Waits for a request, and reads its head. False where the connection ends before one.
    async fn read_head(&mut self, worker: &Worker) -> Result<bool, HeadError> {
        let limits = worker.limits;
        if self.inbound.is_empty() {
            self.inbound.release();
            // A request that is here already is served even while the worker ends.
            let first = tokio::select! {
                biased;
                read = timeout(limits.idle, self.inbound.fill(&mut self.stream)) => read,
                () = worker.ending(self.used) => return Ok(false),
            };
            if !matches!(first, Ok(Ok(count)) if count > 0) {
                return Ok(false);
            }
        }
        let whole = async {
            loop {
                if self.head.read(self.inbound.as_slice(), &limits.head)? {
                    return Ok(true);
                }
                if !matches!(self.inbound.fill(&mut self.stream).await, Ok(count) if count > 0) {
                    return Ok(false);
                }
            }
        };
        timeout(limits.head_time, whole).await.unwrap_or(Ok(false))
    }

    /// Tells why a head is not taken, and ends the connection: where the next request begins is not certain.
    async fn refuse(&mut self, error: HeadError) {
        let reason = Reason { status: error.status(), flag: "DPE", details: "malformed_request" };
        let mut out = Vec::new();
        answer(reason, "", Version::Http11, false, false, &mut out);
        let _ = timeout(Duration::from_secs(1), self.finish(&out)).await;
    }

    /// Writes the last bytes, and reads what still comes for a moment, so that they are not lost in a reset.
    async fn finish(&mut self, out: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(out).await?;
        self.stream.flush().await?;
        self.stream.shutdown().await?;
        while self.inbound.fill(&mut self.stream).await? > 0 {
            let length = self.inbound.as_slice().len();
            self.inbound.consume(length);
        }
        Ok(())
    }

    /// Serves the request whose head was read.
    async fn exchange(&mut self, worker: &Rc<Worker>, client: &Client) -> Next {
        let live = worker.live();
        let decision = decide(worker, &live, client, &self.head, self.inbound.as_slice());
        let is_head = self.head.method.bytes(self.inbound.as_slice()) == b"HEAD";
        let method = self.head.method.text(self.inbound.as_slice()).to_owned();
        let kind = self.head.head.get("content-type", self.inbound.as_slice());
        self.is_call = kind.is_some_and(|kind| local::is_call(kind.bytes(self.inbound.as_slice())));
        self.inbound.consume(self.head.head.len);
        let mut body = Body::new(BodyReader::new(self.head.head.framing));
        match decision {
            Decision::Answer(reason, lines) => self.answer(worker, reason, &lines, is_head, &mut body.reader).await,
            Decision::Forward(forward) => {
                let limit = live.plan.rules.get(forward.rule as usize).and_then(|rule| rule.request_timeout);
                let mut sent = false;
                let whole = self.forward(worker, &live, forward, &mut body, &method, &mut sent);
                let result = match limit {
                    Some(limit) => timeout(limit, whole).await.unwrap_or(Err(local::TIMED_OUT)),
                    None => whole.await,
                };
                match result {
                    Ok(next) => next,
                    // Too late for another answer: that this one is cut off is all that can be told.
                    Err(_) if sent => Next::Close,
                    Err(reason) => self.answer(worker, reason, "", is_head, &mut body.reader).await,
                }
            }
        }
    }

    /// Answers in place of a back end. What is left of the request's body is read where it is here already; else the connection ends.
    async fn answer(
        &mut self,
        worker: &Worker,
        reason: Reason,
        lines: &str,
        is_head: bool,
        rest: &mut BodyReader,
    ) -> Next {
        if let Ok(progress) = rest.pass(self.inbound.as_slice()) {
            self.inbound.consume(progress.taken);
        }
        let keep_alive = self.head.head.keep_alive && rest.is_done();
        let mut out = Vec::new();
        if self.is_call && !reason.flag.is_empty() {
            local::refuse_call(reason, keep_alive, &mut out);
        } else {
            answer(reason, lines, self.head.head.version, keep_alive, is_head, &mut out);
        }
        if !keep_alive {
            let _ = timeout(Duration::from_secs(1), self.finish(&out)).await;
            return Next::Close;
        }
        if self.write(worker, &out).await { Next::Request } else { Next::Close }
    }

    /// Writes to the client, which may not take as long as it likes. Whether it took all.
    async fn write(&mut self, worker: &Worker, out: &[u8]) -> bool {
        let written = async {
            self.stream.write_all(out).await?;
            self.stream.flush().await
        };
        matches!(timeout(worker.limits.idle, written).await, Ok(Ok(())))
    }

    /// Passes the request on, and the response back. `sent` tells whether the client got the beginning of a response.
    async fn forward(
        &mut self,
        worker: &Rc<Worker>,
        live: &Arc<Live>,
        forward: Forward,
        body: &mut Body,
        method: &str,
        sent: &mut bool,
    ) -> Result<Next, Reason> {
        if self.head.head.expects_continue && self.inbound.is_empty() {
            // The back end's answer is not waited for: most take what they are sent.
            if !self.write(worker, b"HTTP/1.1 100 Continue\r\n\r\n").await {
                return Ok(Next::Close);
            }
        }
        if !forward.mirrors.is_empty() {
            self.mirror(worker, &forward, body).await;
        }
        let rule = live.plan.rules.get(forward.rule as usize);
        let limit = rule.and_then(|rule| rule.backend_request_timeout);
        let target = backend::target(live, forward.backend, &mut worker.turn(forward.backend))?;
        let replayable = is_idempotent(method) && matches!(self.head.head.framing, Framing::None | Framing::Length(0));
        let mut kept = worker.pooled(&target);
        let first_body = body.out.as_slice().to_vec();
        loop {
            let was_kept = kept.is_some();
            let mut upstream = match kept.take() {
                Some(stream) => stream,
                None => backend::open(worker, live, forward.backend, &target, forward.upgrade).await?,
            };
            body.out = Buffer::default();
            body.out.extend(&forward.head);
            body.out.extend(&first_body);
            let mut outbound = Buffer::default();
            let head = self.response_head(&mut upstream, &mut outbound, body, method, worker.limits.idle);
            let head = match limit {
                Some(limit) => timeout(limit, head).await.unwrap_or(Err(Failed::Late)),
                None => head.await,
            };
            match head {
                Ok(()) => return self.respond(worker, live, &forward, upstream, outbound, target, body, sent).await,
                // A kept connection that the back end closed meanwhile. Whether it had read the request is not certain (RFC 9110, 9.2.2).
                Err(Failed::Closed) if was_kept && replayable => {}
                Err(Failed::Closed) => return Err(local::BACKEND_CLOSED),
                Err(Failed::Protocol) => return Err(local::BACKEND_PROTOCOL),
                Err(Failed::Late) => return Err(local::TIMED_OUT),
                Err(Failed::Client) => return Ok(Next::Close),
            }
        }
    }

    /// Reads a body that is copied as a whole, if it is not too large; sends the copies.
    async fn mirror(&mut self, worker: &Rc<Worker>, forward: &Forward, body: &mut Body) {
        let mut whole = Vec::new();
        while let Ok(progress) = body.reader.pass(self.inbound.as_slice()) {
            whole.extend_from_slice(&self.inbound.as_slice()[..progress.taken]);
            self.inbound.consume(progress.taken);
            if progress.done || whole.len() > worker.limits.body_buffer {
                break;
            }
            let more = timeout(worker.limits.idle, self.inbound.fill(&mut self.stream)).await;
            if !matches!(more, Ok(Ok(count)) if count > 0) {
                break;
            }
        }
        if body.reader.is_done() {
            for (backend, head) in &forward.mirrors {
                mirror::send(worker, *backend, [head.as_slice(), &whole].concat());
            }
        }
        body.out.extend(&whole);
    }

    /// Writes the request, and waits for the head of the response while its body goes on.
    async fn response_head(
        &mut self,
        upstream: &mut Stream,
        outbound: &mut Buffer,
        body: &mut Body,
        method: &str,
        idle: Duration,
    ) -> Result<(), Failed> {
        let Self { stream, inbound, response, .. } = self;
        let mut sending = true;
        loop {
            let reads = body.reads();
            let step = std::future::poll_fn(|cx| {
                if sending {
                    match body.poll(stream, inbound, upstream, cx) {
                        Poll::Ready(Err(Broken::From)) => return Poll::Ready(Err(Failed::Client)),
                        // What a back end said before it stopped reading may still be there.
                        Poll::Ready(Ok(()) | Err(Broken::To)) => sending = false,
                        Poll::Pending => {}
                    }
                }
                match outbound.poll_fill(upstream, cx) {
                    Poll::Ready(Ok(count)) if count > 0 => Poll::Ready(Ok(())),
                    Poll::Ready(_) if outbound.is_empty() => Poll::Ready(Err(Failed::Closed)),
                    Poll::Ready(_) => Poll::Ready(Err(Failed::Protocol)),
                    // Something moved: the clock of idleness starts anew.
                    Poll::Pending if reads != body.reads() => Poll::Ready(Ok(())),
                    Poll::Pending => Poll::Pending,
                }
            });
            timeout(idle, step).await.map_err(|_| Failed::Late)??;
            let limits = strait_http::Limits::default();
            while response.read(outbound.as_slice(), method.as_bytes(), &limits).map_err(|_| Failed::Protocol)? {
                if !response.is_interim() {
                    return Ok(());
                }
                // `100 Continue` was said already; other interim answers are not worth a write of their own.
                outbound.consume(response.head.len);
            }
        }
    }

    /// Passes the response on, whose head was read.
    #[expect(
        clippy::too_many_arguments,
        reason = "all of them are parts of one exchange that were set up by its caller"
    )]
    async fn respond(
        &mut self,
        worker: &Rc<Worker>,
        live: &Arc<Live>,
        forward: &Forward,
        mut upstream: Stream,
        mut outbound: Buffer,
        target: Target,
        body: &mut Body,
        sent: &mut bool,
    ) -> Result<Next, Reason> {
        let switching = self.response.status == 101;
        if switching && !forward.upgrade {
            return Err(local::BACKEND_PROTOCOL);
        }
        // Until the connection ends, or chunks that an old client does not know: its end is the connection's.
        let framing = self.response.head.framing;
        let old = self.head.head.version == Version::Http10;
        let unknown_end = framing == Framing::UntilClose || (framing == Framing::Chunked && old);
        let keep_alive = self.head.head.keep_alive && !unknown_end && !worker.is_draining();
        let mut back = Body::new(BodyReader::new(framing)).decoded(old);
        let mut head = Vec::with_capacity(self.response.head.len + 64);
        self.write_response(live, forward, outbound.as_slice(), keep_alive, &mut head);
        outbound.consume(self.response.head.len);
        back.out.extend(&head);
        *sent = true;
        if switching {
            return Ok(self.switch(worker, upstream, outbound, &head).await);
        }
        let mut from_client = false;
        let Self { stream, inbound, .. } = self;
        let relayed = loop {
            let reads = (body.reads(), back.reads());
            let step = std::future::poll_fn(|cx| {
                if !body.is_done() && !from_client {
                    // A back end that answers early reads no more, perhaps: that is no failure of the response.
                    from_client = matches!(body.poll(stream, inbound, &mut upstream, cx), Poll::Ready(Err(_)));
                }
                match back.poll(&mut upstream, &mut outbound, stream, cx)? {
                    Poll::Ready(()) => Poll::Ready(Ok::<_, Broken>(true)),
                    // Something moved: the clock of idleness starts anew.
                    Poll::Pending if reads != (body.reads(), back.reads()) => Poll::Ready(Ok(false)),
                    Poll::Pending => Poll::Pending,
                }
            });
            match timeout(worker.limits.idle, step).await {
                Ok(Ok(false)) => {}
                Ok(Ok(true)) => break Ok(()),
                Ok(Err(broken)) => break Err(broken),
                Err(_) => break Err(Broken::From),
            }
        };
        let complete = relayed.is_ok() && body.is_done();
        if complete && self.response.head.keep_alive && outbound.is_empty() {
            worker.keep(target, upstream);
        }
        Ok(if complete && keep_alive { Next::Request } else { Next::Close })
    }

    fn write_response(&self, live: &Live, forward: &Forward, bytes: &[u8], keep_alive: bool, out: &mut Vec<u8>) {
        let mut edits = Edits::default();
        let mut cross = Vec::new();
        if let Some(rule) = live.plan.rules.get(forward.rule as usize) {
            let chosen = rule.split.targets.get(forward.choice).map_or(&[][..], |target| &target.filters);
            for filter in rule.filters.iter().chain(chosen) {
                match filter {
                    strait_route::Filter::ResponseHeaders(of) => edits.push(of),
                    strait_route::Filter::Cors(of) => {
                        cross = forward.origin.as_deref().map_or(Vec::new(), |origin| cors::fields(of, origin));
                    }
                    strait_route::Filter::RequestHeaders(_)
                    | strait_route::Filter::Redirect(_)
                    | strait_route::Filter::Rewrite(_)
                    | strait_route::Filter::Mirror(_)
                    | strait_route::Filter::Unknown => {}
                }
            }
        }
        for (name, value) in &cross {
            edits.set.push((name, value.as_bytes()));
        }
        self.response.write(bytes, self.head.head.version, &edits.as_written(), keep_alive, out);
    }

    /// Both sides go over to another protocol: bytes both ways from here on.
    async fn switch(&mut self, worker: &Worker, mut upstream: Stream, outbound: Buffer, head: &[u8]) -> Next {
        let mut down = Buffer::default();
        down.extend(head);
        down.extend(outbound.as_slice());
        let up = std::mem::take(&mut self.inbound);
        let _ = tunnel(&mut self.stream, up, &mut upstream, down, worker.limits.idle).await;
        Next::Close
    }
}

/// Whether a request may be sent again without harm (RFC 9110, 9.2.2).
fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE" | "TRACE")
}

/// Why there is no head of a response.
enum Failed {
    /// The back end went away before a byte of it.
    Closed,
    /// What it sent is no response.
    Protocol,
    Late,
    /// The client went away.
    Client,
}
