//! What is said on one connection: requests out, answers in.

use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use crate::frames::{self, Frame};

/// Requests as bytes, ready to be sent again and again, and what each must be answered with.
pub(crate) struct Requests {
    /// For HTTP/1 whole heads, for HTTP/2 their field blocks.
    pub(crate) blocks: Vec<Vec<u8>>,
    /// Bytes of each answer.
    pub(crate) body: usize,
}

impl Requests {
    /// As a program asks for what one of `routes` routes serves: `r0.example.com/p0/items?page=1` …
    pub(crate) fn new(protocol: Protocol, tls: bool, routes: usize, body: usize) -> Self {
        const AGENT: &str = "load/1.0";
        let block = |route: usize| {
            let (host, path) = (host(route), path(route));
            match protocol {
                Protocol::Http1 => {
                    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: {AGENT}\r\naccept: */*\r\n\r\n").into()
                }
                Protocol::Http2 => {
                    // `:method: GET`, then `:scheme`.
                    let mut block = vec![0x82, if tls { 0x87 } else { 0x86 }];
                    frames::put_literal(&mut block, 4, &path);
                    frames::put_literal(&mut block, 1, &host);
                    frames::put_literal(&mut block, 58, AGENT);
                    frames::put_literal(&mut block, 19, "*/*");
                    block
                }
            }
        };
        Self { blocks: (0..routes.max(1)).map(block).collect(), body }
    }
}

fn host(route: usize) -> String {
    format!("r{route}.example.com")
}

fn path(route: usize) -> String {
    format!("/p{route}/items?page=1")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

pub(crate) enum Codec {
    Http1(Http1),
    Http2(Http2),
}

impl Codec {
    pub(crate) fn new(protocol: Protocol, streams: usize, out: &mut Vec<u8>) -> Self {
        match protocol {
            Protocol::Http1 => Self::Http1(Http1 { pending: None, left: None, last: false }),
            Protocol::Http2 => {
                out.extend_from_slice(frames::PREFACE);
                // No push; windows that a benchmark does not exhaust.
                frames::put_settings(out, &[(2, 0), (frames::INITIAL_WINDOW_SIZE, 1 << 20)]);
                frames::put_window(out, 0, CREDIT);
                Self::Http2(Http2 { pending: Vec::new(), most: streams, next: 1, taken: 0, last: false })
            }
        }
    }

    /// How many requests may begin now.
    pub(crate) fn room(&self) -> usize {
        match self {
            Self::Http1(http) => usize::from(http.pending.is_none() && !http.last),
            Self::Http2(http) => {
                if http.last {
                    0
                } else {
                    http.most.saturating_sub(http.pending.len())
                }
            }
        }
    }

    /// Begins a request that was due at `due`.
    pub(crate) fn begin(&mut self, block: &[u8], due: Instant, out: &mut Vec<u8>) {
        match self {
            Self::Http1(http) => {
                http.pending = Some(due);
                out.extend_from_slice(block);
            }
            Self::Http2(http) => {
                frames::put(out, frames::HEADERS, frames::END_HEADERS | frames::END_STREAM, http.next, block);
                http.pending.push(Pending { stream: http.next, due, ok: false, received: 0 });
                http.next += 2;
            }
        }
    }

    /// Takes what arrived; `done` gets when each answered request was due.
    pub(crate) fn receive(
        &mut self,
        input: &mut Vec<u8>,
        out: &mut Vec<u8>,
        body: usize,
        done: &mut Vec<Instant>,
    ) -> Result<()> {
        let used = match self {
            Self::Http1(http) => http.receive(input, body, done)?,
            Self::Http2(http) => http.receive(input, out, body, done)?,
        };
        if used == input.len() {
            input.clear();
        } else {
            input.drain(..used);
        }
        Ok(())
    }

    /// When requests that were not answered were due.
    pub(crate) fn pending(&self) -> Vec<Instant> {
        match self {
            Self::Http1(http) => http.pending.into_iter().collect(),
            Self::Http2(http) => http.pending.iter().map(|pending| pending.due).collect(),
        }
    }

    /// Whether the other side has said that nothing more may be asked here.
    pub(crate) fn is_last(&self) -> bool {
        match self {
            Self::Http1(http) => http.last,
            Self::Http2(http) => http.last,
        }
    }
}

/// One request at a time.
pub(crate) struct Http1 {
    pending: Option<Instant>,
    /// What is missing of the body, from when the head is there.
    left: Option<usize>,
    /// The answer said `connection: close`.
    last: bool,
}

impl Http1 {
    fn receive(&mut self, input: &[u8], body: usize, done: &mut Vec<Instant>) -> Result<usize> {
        let mut used = 0;
        loop {
            if let Some(left) = &mut self.left {
                let taken = (*left).min(input.len() - used);
                used += taken;
                *left -= taken;
                if *left > 0 {
                    return Ok(used);
                }
                self.left = None;
                done.push(self.pending.take().context("an answer to nothing")?);
            }
            let rest = &input[used..];
            if rest.is_empty() {
                return Ok(used);
            }
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut response = httparse::Response::new(&mut fields);
            let httparse::Status::Complete(head) = response.parse(rest)? else { return Ok(used) };
            let code = response.code.unwrap_or_default();
            ensure!(code == 200, "status {code}: {}", String::from_utf8_lossy(&rest[..rest.len().min(400)]));
            let mut length = None;
            for field in response.headers.iter() {
                if field.name.eq_ignore_ascii_case("content-length") {
                    length = str::from_utf8(field.value)?.parse().ok();
                } else if field.name.eq_ignore_ascii_case("connection") {
                    self.last |= field.value.eq_ignore_ascii_case(b"close");
                }
            }
            ensure!(length == Some(body), "a body of {length:?} bytes where {body} were expected");
            used += head;
            self.left = length;
        }
    }
}

/// Bytes that the other side may send before the window is opened again.
const CREDIT: u32 = 1 << 30;

/// Many requests at a time. Fields are not decoded: the status comes first and is in no table.
pub(crate) struct Http2 {
    pending: Vec<Pending>,
    most: usize,
    next: u32,
    /// Bytes of data since the window was opened.
    taken: u32,
    /// The other side has sent GOAWAY.
    last: bool,
}

struct Pending {
    stream: u32,
    due: Instant,
    ok: bool,
    received: usize,
}

impl Http2 {
    fn receive(&mut self, input: &[u8], out: &mut Vec<u8>, body: usize, done: &mut Vec<Instant>) -> Result<usize> {
        let mut used = 0;
        while let Some((frame, length)) = frames::first(&input[used..]) {
            used += length;
            match frame.kind {
                frames::HEADERS | frames::DATA => self.answered(&frame, body, done)?,
                frames::RST_STREAM => bail!("stream {} was reset: error {}", frame.stream, frame.number()),
                frames::SETTINGS if !frame.has(frames::ACK) => {
                    for (id, value) in frame.settings() {
                        if id == frames::MAX_CONCURRENT_STREAMS {
                            self.most = self.most.min(value as usize);
                        }
                    }
                    frames::put(out, frames::SETTINGS, frames::ACK, 0, &[]);
                }
                frames::PING if !frame.has(frames::ACK) => {
                    frames::put(out, frames::PING, frames::ACK, 0, frame.payload);
                }
                frames::GOAWAY => {
                    let error = frame.payload.get(4..).and_then(|rest| rest.first_chunk()).copied();
                    ensure!(error == Some([0; 4]), "GOAWAY: {}", String::from_utf8_lossy(frame.payload));
                    self.last = true;
                }
                _ => {}
            }
        }
        if self.taken > CREDIT / 2 {
            frames::put_window(out, 0, self.taken);
            self.taken = 0;
        }
        Ok(used)
    }

    fn answered(&mut self, frame: &Frame<'_>, body: usize, done: &mut Vec<Instant>) -> Result<()> {
        let position = self.pending.iter().position(|pending| pending.stream == frame.stream);
        let position = position.with_context(|| format!("an answer on stream {}, which is not open", frame.stream))?;
        let pending = &mut self.pending[position];
        if frame.kind == frames::DATA {
            pending.received += frame.payload.len();
            self.taken += u32::try_from(frame.payload.len())?;
        } else if !pending.ok {
            ensure!(frames::is_ok(frame.block()), "a status other than 200: {:x?}", frame.block());
            pending.ok = true;
        }
        if frame.has(frames::END_STREAM) {
            ensure!(pending.received == body, "a body of {} bytes where {body} were expected", pending.received);
            done.push(self.pending.swap_remove(position).due);
        }
        Ok(())
    }
}
