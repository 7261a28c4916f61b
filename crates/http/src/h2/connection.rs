//! A connection: what comes.

use std::collections::VecDeque;

use super::{
    config::{Config, Counts},
    control::depends,
    frame::{self, Code, FrameHead, MOST, MOST_WINDOW, PREFACE, WINDOW},
    hpack::{decode::Decoder, encode::Encoder},
    message::Section,
    stream::{Closed, Event, Key, Stream, Streams},
};
use crate::{error::HeadError, head::Head, request::RequestHead, response::ResponseHead};

/// Which side of a connection this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Takes requests.
    Server,
    /// Sends them.
    Client,
}

/// What was taken of the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step<'i> {
    /// Bytes from its start; 0 where more are needed.
    pub taken: usize,
    /// What they say.
    pub event: Option<Event<'i>>,
}

/// A connection of HTTP/2 without its socket.
///
/// ```text
/// bytes ─▶ step ─▶ Event                              request, response, trailers: the head that came last
///                    │
///          release, send_…, reset ─▶ output ─▶ bytes  next_writable: whose data may go on
/// ```
#[derive(Debug)]
pub struct Connection {
    pub(crate) role: Role,
    pub(crate) config: Config,
    pub(crate) streams: Streams,
    pub(crate) encoder: Encoder,
    decoder: Decoder,
    pub(crate) counts: Counts,
    /// What is to be written, from `written` on.
    pub(crate) out: Vec<u8>,
    pub(crate) written: usize,
    // The other side's settings.
    pub(crate) peer_streams: u32,
    pub(crate) peer_window: i64,
    pub(crate) peer_frame: usize,
    pub(crate) peer_connect: bool,
    pub(crate) send_window: i64,
    receive_window: i64,
    /// What was taken, and not yet given back to the connection's window.
    taken: u32,
    /// Streams that wait for room, in the order in which they asked.
    pub(crate) waiting: VecDeque<Key>,
    /// Streams that the other side will not process.
    pub(crate) unprocessed: VecDeque<Key>,
    pub(crate) state: State,
    /// The last id that the other side opened, or this side if it is the client.
    pub(crate) last: u32,
    /// A header block that is not all there.
    fragments: Vec<u8>,
    block: Option<Block>,
    section: Section,
    bytes: Vec<u8>,
    request: RequestHead,
    response: ResponseHead,
    trailers: Head,
    pub(crate) acked: bool,
    pub(crate) leaving: Leaving,
    /// The last stream that the other side processes, once it goes away.
    pub(crate) gone: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Preface,
    /// The first frame must be settings.
    Settings,
    Open,
    Failed(Code),
}

/// How far this side is with going away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leaving {
    No,
    /// Said so; what comes until the other side knows is still served.
    Said,
    /// Streams beyond this one are not processed.
    Last(u32),
}

/// The block that is being read.
#[derive(Clone, Copy, Debug)]
struct Block {
    stream: u32,
    end: bool,
    frames: u32,
    /// Of a stream that depends on itself (RFC 7540, 5.3.1).
    circular: bool,
}

impl Connection {
    /// A connection whose preface is ready to be written.
    pub fn new(role: Role, config: Config) -> Self {
        let config = Config {
            stream_window: config.stream_window.clamp(WINDOW, MOST_WINDOW),
            connection_window: config.connection_window.clamp(WINDOW, MOST_WINDOW),
            ..config
        };
        let mut connection = Self {
            role,
            config,
            streams: Streams::default(),
            encoder: Encoder::default(),
            decoder: Decoder::default(),
            counts: Counts::default(),
            out: Vec::new(),
            written: 0,
            peer_streams: u32::MAX,
            peer_window: i64::from(WINDOW),
            peer_frame: MOST,
            peer_connect: false,
            send_window: i64::from(WINDOW),
            receive_window: i64::from(config.connection_window),
            taken: 0,
            waiting: VecDeque::new(),
            unprocessed: VecDeque::new(),
            state: if role == Role::Server { State::Preface } else { State::Settings },
            last: 0,
            fragments: Vec::new(),
            block: None,
            section: Section::default(),
            bytes: Vec::new(),
            request: RequestHead::default(),
            response: ResponseHead::default(),
            trailers: Head::default(),
            acked: false,
            leaving: Leaving::No,
            gone: None,
        };
        connection.open();
        connection
    }

    fn open(&mut self) {
        let config = self.config;
        let most = u32::try_from(config.limits.head).unwrap_or(u32::MAX);
        let mut settings =
            vec![(frame::INITIAL_WINDOW_SIZE, config.stream_window), (frame::MAX_HEADER_LIST_SIZE, most)];
        match self.role {
            Role::Client => {
                self.out.extend_from_slice(PREFACE);
                settings.push((frame::ENABLE_PUSH, 0));
            }
            Role::Server => {
                settings.push((frame::MAX_CONCURRENT_STREAMS, config.streams));
                if config.extended_connect {
                    settings.push((frame::ENABLE_CONNECT_PROTOCOL, 1));
                }
            }
        }
        frame::head(settings.len() * 6, frame::SETTINGS, 0, 0, &mut self.out);
        for (setting, value) in settings {
            self.out.extend_from_slice(&setting.to_be_bytes());
            self.out.extend_from_slice(&value.to_be_bytes());
        }
        if config.connection_window > WINDOW {
            frame::number(frame::WINDOW_UPDATE, 0, config.connection_window - WINDOW, &mut self.out);
        }
    }

    /// The request that came last, and the bytes of its spans.
    pub const fn request(&self) -> (&RequestHead, &Vec<u8>) {
        (&self.request, &self.bytes)
    }

    /// The response that came last, and the bytes of its spans.
    pub const fn response(&self) -> (&ResponseHead, &Vec<u8>) {
        (&self.response, &self.bytes)
    }

    /// The trailers that came last, and the bytes of their spans.
    pub const fn trailers(&self) -> (&Head, &Vec<u8>) {
        (&self.trailers, &self.bytes)
    }

    /// Gives the request that came last in exchange for room for another.
    pub fn take_request(&mut self, head: &mut RequestHead, bytes: &mut Vec<u8>) {
        std::mem::swap(&mut self.request, head);
        std::mem::swap(&mut self.bytes, bytes);
    }

    /// Gives the response that came last in exchange for room for another.
    pub fn take_response(&mut self, head: &mut ResponseHead, bytes: &mut Vec<u8>) {
        std::mem::swap(&mut self.response, head);
        std::mem::swap(&mut self.bytes, bytes);
    }

    /// Gives the trailers that came last in exchange for room for others.
    pub fn take_trailers(&mut self, head: &mut Head, bytes: &mut Vec<u8>) {
        std::mem::swap(&mut self.trailers, head);
        std::mem::swap(&mut self.bytes, bytes);
    }

    /// Tells which interval of the limits' it is: any number that changes every ten seconds or so.
    pub fn set_interval(&mut self, interval: u64) {
        self.counts.begin(interval);
    }

    /// Takes the next frame from the start of `input`.
    ///
    /// # Errors
    /// That the connection is over: why is in the output, which is to be written before it is closed.
    pub fn step<'i>(&mut self, input: &'i [u8]) -> Result<Step<'i>, Code> {
        if let Some(key) = self.unprocessed.pop_front() {
            return Ok(Step { taken: 0, event: Some(Event::Reset { key, code: Code::REFUSED_STREAM }) });
        }
        let result = self.take(input).and_then(|step| self.counts.check(&self.config).map(|()| step));
        if let Err(code) = result
            && !matches!(self.state, State::Failed(_))
        {
            self.state = State::Failed(code);
            let last = if self.role == Role::Server { self.last } else { 0 };
            self.write_goaway(last, code);
        }
        result
    }

    fn take<'i>(&mut self, input: &'i [u8]) -> Result<Step<'i>, Code> {
        match self.state {
            State::Preface => {
                let length = input.len().min(PREFACE.len());
                if input[..length] != PREFACE[..length] {
                    return Err(Code::PROTOCOL_ERROR);
                }
                if length < PREFACE.len() {
                    return Ok(Step { taken: 0, event: None });
                }
                self.state = State::Settings;
                return Ok(Step { taken: length, event: None });
            }
            State::Settings | State::Open => {}
            State::Failed(code) => return Err(code),
        }
        let Some(head) = FrameHead::read(input) else { return Ok(Step { taken: 0, event: None }) };
        if head.length > MOST {
            return Err(Code::FRAME_SIZE_ERROR);
        }
        if self.state == State::Settings && (head.kind != frame::SETTINGS || head.has(frame::ACK)) {
            return Err(Code::PROTOCOL_ERROR);
        }
        let continues = self.block.is_some();
        if continues != (head.kind == frame::CONTINUATION) {
            return Err(Code::PROTOCOL_ERROR);
        }
        let taken = frame::HEAD + head.length;
        let Some(payload) = input.get(frame::HEAD..taken) else { return Ok(Step { taken: 0, event: None }) };
        let event = match head.kind {
            frame::DATA => self.data(head, payload)?,
            frame::HEADERS => self.headers(head, payload)?,
            frame::CONTINUATION => self.continuation(head, payload)?,
            frame::PRIORITY => self.priority(head, payload)?,
            frame::RST_STREAM => self.rst_stream(head, payload)?,
            frame::SETTINGS => self.settings(head, payload)?,
            frame::PUSH_PROMISE => return Err(Code::PROTOCOL_ERROR),
            frame::PING => self.pinged(head, payload)?,
            frame::GOAWAY => self.goaway(head, payload)?,
            frame::WINDOW_UPDATE => self.window_update(head, payload)?,
            // Of extensions (RFC 9113, 5.5).
            _ => {
                self.counts.idle_frames += 1;
                None
            }
        };
        Ok(Step { taken, event })
    }

    /// Whether nobody has opened that stream yet.
    pub(crate) fn is_idle(&self, id: u32) -> bool {
        // Clients open odd ones; a server opens none here.
        id.is_multiple_of(2) || id > self.last
    }

    fn data<'i>(&mut self, head: FrameHead, payload: &'i [u8]) -> Result<Option<Event<'i>>, Code> {
        if head.stream == 0 || self.is_idle(head.stream) {
            return Err(Code::PROTOCOL_ERROR);
        }
        let data = frame::unpadded(head, payload).ok_or(Code::PROTOCOL_ERROR)?;
        let length = i64::try_from(head.length).unwrap_or(i64::MAX);
        self.receive_window -= length;
        if self.receive_window < 0 {
            return Err(Code::FLOW_CONTROL_ERROR);
        }
        let end = head.has(frame::END_STREAM);
        if !data.is_empty() {
            self.counts.idle_frames = self.counts.idle_frames.saturating_sub(1);
        } else if !end {
            self.counts.idle_frames += 1;
        }
        let Some(key) = self.streams.find(head.stream) else {
            self.give_back(head.length);
            return self.late(head.stream, true);
        };
        // Padding is nothing that anybody takes.
        let padding = head.length - data.len();
        let Some(stream) = self.streams.get(key) else { return Ok(None) };
        if !stream.receives {
            let closed = stream.is_closed();
            self.give_back(head.length);
            return if closed { self.late(head.stream, true) } else { Ok(Some(self.fail(key, Code::STREAM_CLOSED))) };
        }
        stream.receive_window -= length;
        let too_much = match &mut stream.left {
            Some(left) => {
                let more = data.len() as u64 > *left || (end && data.len() as u64 != *left);
                *left = left.saturating_sub(data.len() as u64);
                more
            }
            None => false,
        };
        let code = if stream.receive_window < 0 {
            Some(Code::FLOW_CONTROL_ERROR)
        } else if !stream.has_head || too_much {
            Some(Code::PROTOCOL_ERROR)
        } else {
            None
        };
        if let Some(code) = code {
            self.give_back(head.length);
            return Ok(Some(self.fail(key, code)));
        }
        if end {
            stream.receives = false;
            if stream.is_closed() {
                self.streams.closed(head.stream, Closed::Ended);
            }
        }
        if padding > 0 {
            self.release(key, padding);
        }
        Ok(Some(Event::Data { key, data, end }))
    }

    /// A frame with a message's part for a stream that is closed.
    fn late<'i>(&mut self, id: u32, data: bool) -> Result<Option<Event<'i>>, Code> {
        match self.streams.how(id) {
            // It was on its way.
            Some(Closed::Ours) => {
                self.counts.idle_frames += 1;
                Ok(None)
            }
            Some(Closed::Ended) => Err(Code::STREAM_CLOSED),
            Some(Closed::Theirs) => {
                self.write_reset(id, Code::STREAM_CLOSED);
                Ok(None)
            }
            // Long ago.
            None if data => {
                self.write_reset(id, Code::STREAM_CLOSED);
                Ok(None)
            }
            None => Err(Code::PROTOCOL_ERROR),
        }
    }

    fn write_reset(&mut self, id: u32, code: Code) {
        self.counts.provoked += 1;
        frame::number(frame::RST_STREAM, id, code.0, &mut self.out);
    }

    /// Resets a stream for what came on it.
    pub(crate) fn fail<'i>(&mut self, key: Key, code: Code) -> Event<'i> {
        self.write_reset(key.id, code);
        self.streams.close(key, Closed::Ours);
        Event::Reset { key, code }
    }

    fn headers<'i>(&mut self, head: FrameHead, payload: &[u8]) -> Result<Option<Event<'i>>, Code> {
        if head.stream == 0 {
            return Err(Code::PROTOCOL_ERROR);
        }
        let mut payload = frame::unpadded(head, payload).ok_or(Code::PROTOCOL_ERROR)?;
        let mut circular = false;
        if head.has(frame::PRIORITIZED) {
            let (on, rest) = payload.split_first_chunk::<5>().ok_or(Code::PROTOCOL_ERROR)?;
            circular = depends(*on) == head.stream;
            payload = rest;
        }
        let block = Block { stream: head.stream, end: head.has(frame::END_STREAM), frames: 1, circular };
        self.piece(block, head.has(frame::END_HEADERS), payload)
    }

    fn continuation<'i>(&mut self, head: FrameHead, payload: &[u8]) -> Result<Option<Event<'i>>, Code> {
        let Some(block) = self.block.take() else { return Err(Code::PROTOCOL_ERROR) };
        if head.stream != block.stream {
            return Err(Code::PROTOCOL_ERROR);
        }
        let block = Block { frames: block.frames + 1, ..block };
        self.piece(block, head.has(frame::END_HEADERS), payload)
    }

    /// Takes a piece of a block. What is all there at once is not copied.
    fn piece<'i>(&mut self, block: Block, last: bool, payload: &[u8]) -> Result<Option<Event<'i>>, Code> {
        let length = self.fragments.len() + payload.len();
        // Without it the tables would no longer be the same: nothing less than the end will do.
        if length > self.config.limits.head.max(MOST) || block.frames > self.config.continuations {
            return Err(Code::ENHANCE_YOUR_CALM);
        }
        if last && self.fragments.is_empty() {
            return self.block(block, payload);
        }
        self.fragments.extend_from_slice(payload);
        if !last {
            self.block = Some(block);
            return Ok(None);
        }
        let mut whole = std::mem::take(&mut self.fragments);
        let result = self.block(block, &whole);
        whole.clear();
        // Blocks in pieces are rare: their room is not kept.
        result
    }

    /// Reads a whole block.
    fn block<'i>(&mut self, block: Block, payload: &[u8]) -> Result<Option<Event<'i>>, Code> {
        let Self { decoder, section, bytes, config, .. } = self;
        section.clear();
        bytes.clear();
        let take = |line, bytes: &mut Vec<u8>| section.take(line, bytes, &config.limits);
        decoder.decode(payload, bytes, take).map_err(|_| Code::COMPRESSION_ERROR)?;
        let id = block.stream;
        if let Some(key) = self.streams.find(id) {
            return self.known(key, block);
        }
        if self.role == Role::Client {
            return if self.is_idle(id) { Err(Code::PROTOCOL_ERROR) } else { self.late(id, false) };
        }
        if !self.is_idle(id) {
            return self.late(id, false);
        }
        if id.is_multiple_of(2) {
            return Err(Code::PROTOCOL_ERROR);
        }
        self.last = id;
        self.counts.opened += 1;
        if let Leaving::Last(last) = self.leaving {
            debug_assert!(id > last);
            self.streams.remember(id, Closed::Ours);
            return Ok(None);
        }
        // Those that are closed and not forgotten hold memory too (CVE-2023-44487).
        let most = self.config.streams;
        if self.streams.active >= most || self.streams.len() >= most as usize * 2 {
            self.streams.remember(id, Closed::Ours);
            self.write_reset(id, Code::REFUSED_STREAM);
            return Ok(None);
        }
        Ok(self.opened(block))
    }

    /// A new request.
    fn opened<'i>(&mut self, block: Block) -> Option<Event<'i>> {
        let Block { stream: id, end, circular, .. } = block;
        let Self { section, bytes, config, request, .. } = self;
        let result = section.request(bytes, end, &config.limits, config.extended_connect, request);
        let left = match result {
            _ if circular => Err(HeadError::Malformed),
            Ok(left) => Ok(left),
            Err(error) => Err(error),
        };
        if left.is_err_and(|error| error.status() == 400) {
            self.streams.remember(id, Closed::Ours);
            self.write_reset(id, Code::PROTOCOL_ERROR);
            return None;
        }
        let key = self.streams.add(Stream {
            id,
            receives: !end,
            sends: true,
            has_head: true,
            left: left.unwrap_or(None),
            send_window: self.peer_window,
            receive_window: i64::from(self.config.stream_window),
            ..Stream::default()
        });
        Some(match left {
            Ok(_) => Event::Request { key, end },
            Err(error) => Event::Refused { key, error },
        })
    }

    /// A block on a stream that is there: a response, or trailers.
    fn known<'i>(&mut self, key: Key, block: Block) -> Result<Option<Event<'i>>, Code> {
        let Self { section, bytes, response, trailers, streams, .. } = self;
        let Some(stream) = streams.get(key) else { return Ok(None) };
        if !stream.receives {
            if stream.is_closed() {
                return self.late(key.id, false);
            }
            return Ok(Some(self.fail(key, Code::STREAM_CLOSED)));
        }
        if block.circular {
            return Ok(Some(self.fail(key, Code::PROTOCOL_ERROR)));
        }
        let event = if stream.has_head {
            let complete = block.end && stream.left.is_none_or(|left| left == 0);
            match section.trailers(trailers) {
                Ok(()) if complete => Event::Trailers { key },
                _ => return Ok(Some(self.fail(key, Code::PROTOCOL_ERROR))),
            }
        } else {
            match section.response(bytes, block.end, stream.is_head, response) {
                Ok(left) => {
                    if !response.is_interim() {
                        (stream.has_head, stream.left) = (true, left);
                    }
                    Event::Response { key, end: block.end }
                }
                Err(_) => return Ok(Some(self.fail(key, Code::PROTOCOL_ERROR))),
            }
        };
        if block.end {
            stream.receives = false;
            if stream.is_closed() {
                streams.closed(key.id, Closed::Ended);
            }
        }
        Ok(Some(event))
    }

    /// Gives `count` bytes of data back to the windows: that they were taken.
    pub fn release(&mut self, key: Key, count: usize) {
        self.give_back(count);
        let window = self.config.stream_window;
        let Some(stream) = self.streams.get(key).filter(|stream| stream.receives) else { return };
        stream.taken = stream.taken.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        if stream.taken >= window / 2 {
            stream.receive_window += i64::from(stream.taken);
            frame::number(frame::WINDOW_UPDATE, key.id, stream.taken, &mut self.out);
            stream.taken = 0;
        }
    }

    /// Gives bytes back to the connection's window alone.
    fn give_back(&mut self, count: usize) {
        self.taken = self.taken.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        if self.taken >= self.config.connection_window / 2 {
            self.receive_window += i64::from(self.taken);
            frame::number(frame::WINDOW_UPDATE, 0, self.taken, &mut self.out);
            self.taken = 0;
        }
    }
}

impl Connection {
    /// Whether the rest of a head is to come, where `rest` is what was not taken of the input.
    pub fn awaits_head(&self, rest: &[u8]) -> bool {
        self.block.is_some() || matches!(rest.get(3), Some(&(frame::HEADERS | frame::CONTINUATION)))
    }
}
