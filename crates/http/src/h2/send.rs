//! A connection: what goes.

use super::{
    connection::{Connection, Leaving, Role},
    frame::{self, Code, MOST, MOST_WINDOW},
    hpack::encode::Encoder,
    stream::{Closed, Key, Stream},
};
use crate::{
    field::Known,
    framing::Framing,
    head::Head,
    request::{RequestHead, Target},
    response::ResponseHead,
    write::Overlay,
};

/// What a `PING` holds that tells when the other side knows that this one goes away.
pub(crate) const DRAIN: &[u8] = b"drain\0\0\0";

/// What a request is sent as, beside its head.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// The target in pieces: path and query, or `*`.
    pub target: &'a [&'a [u8]],
    /// `:authority`.
    pub authority: &'a [u8],
    /// Whether `:scheme` is `https`.
    pub https: bool,
    /// Whether no body follows.
    pub end: bool,
}

impl Connection {
    /// What is to be written.
    pub fn output(&self) -> &[u8] {
        self.out.get(self.written..).unwrap_or_default()
    }

    /// Tells that so many bytes of the output were written.
    pub fn wrote(&mut self, count: usize) {
        self.written += count;
        if self.written >= self.out.len() {
            self.written = 0;
            self.out.clear();
            // What one large body needed is not kept for ever.
            if self.out.capacity() > 4 * MOST {
                self.out.shrink_to(MOST);
            }
        }
    }

    /// Gives memory back that is only needed while something comes and goes.
    pub fn shrink(&mut self) {
        if self.out.is_empty() {
            self.out = Vec::new();
        }
    }

    /// Bytes of data that may be sent before something is written.
    fn room(&self) -> usize {
        self.config.output.saturating_sub(self.out.len() - self.written)
    }

    /// Whether the other side told its settings and knows this side's.
    pub const fn is_acked(&self) -> bool {
        self.acked
    }

    /// Streams that are open.
    pub const fn active(&self) -> u32 {
        self.streams.active
    }

    /// Whether the other side goes away, or this one does.
    pub const fn is_leaving(&self) -> bool {
        self.gone.is_some() || !matches!(self.leaving, Leaving::No)
    }

    /// Whether this side goes away, and all that it had promised is done.
    pub const fn is_done(&self) -> bool {
        let last = match self.role {
            Role::Server => matches!(self.leaving, Leaving::Last(_)),
            Role::Client => self.is_leaving(),
        };
        last && self.streams.active == 0
    }

    /// Whether the other side takes extended `CONNECT`.
    pub const fn takes_connect(&self) -> bool {
        self.peer_connect
    }

    /// How many more requests a client may send now.
    pub const fn free(&self) -> u32 {
        if self.is_leaving() || self.last >= MOST_WINDOW - 2 {
            return 0;
        }
        let most = if self.peer_streams < self.config.streams { self.peer_streams } else { self.config.streams };
        most.saturating_sub(self.streams.active)
    }

    /// The next stream whose data may go on: its window was opened, or what was written made room. Asked after every [`Connection::step`]
    /// and [`Connection::wrote`].
    pub fn next_writable(&mut self) -> Option<Key> {
        if self.send_window <= 0 || self.room() == 0 {
            return None;
        }
        for _ in 0..self.waiting.len() {
            let key = self.waiting.pop_front()?;
            let Some(stream) = self.streams.get(key) else { continue };
            stream.waits = false;
            if stream.sends && stream.send_window > 0 {
                return Some(key);
            }
            // Its own window will put it here again.
        }
        None
    }

    /// Sends a request; none where no stream is [free](Connection::free).
    pub fn send_request(
        &mut self,
        head: &RequestHead,
        bytes: &[u8],
        sent: &Sent<'_>,
        overlay: &impl Overlay,
    ) -> Option<Key> {
        if self.free() == 0 || self.role == Role::Server {
            return None;
        }
        let id = if self.last == 0 { 1 } else { self.last + 2 };
        let upgrade = head.head.upgrade.filter(|_| self.peer_connect);
        let method = head.method.bytes(bytes);
        let start = self.begin(id, sent.end);
        let (encoder, out) = (&mut self.encoder, &mut self.out);
        match (upgrade.is_some(), method) {
            (true, _) => encoder.field(b":method", b"CONNECT", false, out),
            (false, b"GET") => Encoder::indexed(2, out),
            (false, b"POST") => Encoder::indexed(3, out),
            (false, method) => encoder.field(b":method", method, false, out),
        }
        if upgrade.is_some() || head.target != Target::Authority {
            Encoder::indexed(if sent.https { 7 } else { 6 }, out);
            match sent.target {
                [b"/"] | [b"/", b"", b""] => Encoder::indexed(4, out),
                [path] => encoder.field(b":path", path, false, out),
                pieces => Encoder::path(pieces, out),
            }
        }
        encoder.field(b":authority", sent.authority, false, out);
        if let Some(protocol) = upgrade {
            encoder.field(b":protocol", protocol.bytes(bytes), false, out);
        }
        self.fields(&head.head, bytes, overlay);
        if head.head.trailers {
            self.encoder.field(b"te", b"trailers", false, &mut self.out);
        }
        self.finish(start, id);
        self.last = id;
        self.counts.opened += 1;
        Some(self.streams.add(Stream {
            id,
            receives: true,
            sends: !sent.end,
            is_head: method == b"HEAD",
            send_window: self.peer_window,
            receive_window: i64::from(self.config.stream_window),
            ..Stream::default()
        }))
    }

    /// Sends a response, or an interim one. Nothing where the stream is closed.
    pub fn send_response(&mut self, key: Key, head: &ResponseHead, bytes: &[u8], overlay: &impl Overlay, end: bool) {
        let Some(start) = self.answer(key, head.status, end) else { return };
        self.fields(&head.head, bytes, overlay);
        self.finish(start, key.id);
        if end {
            self.ended(key);
        }
    }

    /// Sends a response of one's own, of names in small letters and values.
    pub fn send_status(&mut self, key: Key, status: u16, fields: &[(&str, &[u8])], end: bool) {
        let Some(start) = self.answer(key, status, end) else { return };
        for (name, value) in fields {
            self.encoder.field(name.as_bytes(), value, false, &mut self.out);
        }
        self.finish(start, key.id);
        if end {
            self.ended(key);
        }
    }

    fn answer(&mut self, key: Key, status: u16, end: bool) -> Option<usize> {
        self.streams.get(key).filter(|stream| stream.sends)?;
        let start = self.begin(key.id, end);
        let index = match status {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => {
                let digit = |by: u16| b'0' + u8::try_from(status / by % 10).unwrap_or(0);
                let digits = [digit(100), digit(10), digit(1)];
                self.encoder.field(b":status", &digits, false, &mut self.out);
                return Some(start);
            }
        };
        Encoder::indexed(index, &mut self.out);
        Some(start)
    }

    /// Sends as much of `data` as windows and output allow; gives how much. Where that is not all, the stream will be
    /// [writable](Connection::next_writable). `end` where nothing follows: it goes with the last byte.
    pub fn send_data(&mut self, key: Key, data: &[u8], end: bool) -> usize {
        let room = self.room();
        let connection = usize::try_from(self.send_window).unwrap_or(0);
        let Some(stream) = self.streams.get(key).filter(|stream| stream.sends) else { return data.len() };
        let window = usize::try_from(stream.send_window).unwrap_or(0);
        let taken = data.len().min(room).min(connection).min(window);
        let count = i64::try_from(taken).unwrap_or(i64::MAX);
        stream.send_window -= count;
        self.send_window -= count;
        self.counts.idle_frames = self.counts.idle_frames.saturating_sub(u32::from(taken > 0));
        let all = taken == data.len();
        if !all && !stream.waits {
            stream.waits = true;
            self.waiting.push_back(key);
        }
        let mut rest = &data[..taken];
        let end = end && all;
        while rest.len() > self.peer_frame {
            let (piece, behind) = rest.split_at(self.peer_frame);
            frame::head(piece.len(), frame::DATA, 0, key.id, &mut self.out);
            self.out.extend_from_slice(piece);
            rest = behind;
        }
        if !rest.is_empty() || end {
            frame::head(rest.len(), frame::DATA, if end { frame::END_STREAM } else { 0 }, key.id, &mut self.out);
            self.out.extend_from_slice(rest);
        }
        if end {
            self.ended(key);
        }
        taken
    }

    /// Sends trailers, which end the message. Fields that trailers must not have (RFC 9110, 6.5.1) are left out.
    pub fn send_trailers<'a>(&mut self, key: Key, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
        if self.streams.get(key).is_none_or(|stream| !stream.sends) {
            return;
        }
        let start = self.begin(key.id, true);
        let mut lower = Lower::default();
        for (name, value) in fields.filter(|(name, _)| may_trail(name)) {
            self.encoder.field(lower.of(name), value, false, &mut self.out);
        }
        if self.out.len() == start + frame::HEAD {
            // None of them may: the end without.
            self.out.truncate(start);
            frame::head(0, frame::DATA, frame::END_STREAM, key.id, &mut self.out);
        } else {
            self.finish(start, key.id);
        }
        self.ended(key);
    }

    /// The fields of a head that go the whole way, then what `overlay` adds.
    fn fields(&mut self, head: &Head, bytes: &[u8], overlay: &impl Overlay) {
        let (encoder, out) = (&mut self.encoder, &mut self.out);
        let mut lower = Lower::default();
        for field in &head.fields {
            if matches!(field.known, Known::Host | Known::Expect) || head.is_hop_by_hop(field, bytes) {
                continue;
            }
            let name = field.name.bytes(bytes);
            if overlay.drops(name) {
                continue;
            }
            encoder.field(lower.of(name), field.value.bytes(bytes), field.never_indexed, out);
        }
        overlay.each(|name, value| encoder.field(lower.of(name), value, false, out));
    }

    /// Begins a header block; gives where.
    fn begin(&mut self, id: u32, end: bool) -> usize {
        let start = self.out.len();
        let flags = frame::END_HEADERS | if end { frame::END_STREAM } else { 0 };
        frame::head(0, frame::HEADERS, flags, id, &mut self.out);
        self.encoder.begin(&mut self.out);
        start
    }

    /// Ends a header block that began at `start`.
    fn finish(&mut self, start: usize, id: u32) {
        let length = self.out.len() - start - frame::HEAD;
        if length <= MOST {
            self.out[start..start + 3].copy_from_slice(&frame::size(length));
            return;
        }
        // Too large for one frame: the rest goes into others.
        let rest = self.out.split_off(start + frame::HEAD + MOST);
        self.out[start..start + 3].copy_from_slice(&frame::size(MOST));
        self.out[start + 4] &= !frame::END_HEADERS;
        let count = rest.len().div_ceil(MOST);
        for (index, piece) in rest.chunks(MOST).enumerate() {
            let flags = if index + 1 == count { frame::END_HEADERS } else { 0 };
            frame::head(piece.len(), frame::CONTINUATION, flags, id, &mut self.out);
            self.out.extend_from_slice(piece);
        }
    }

    fn ended(&mut self, key: Key) {
        if let Some(stream) = self.streams.get(key) {
            stream.sends = false;
            if stream.is_closed() {
                self.streams.closed(key.id, Closed::Ended);
            }
        }
    }

    /// Ends a stream, unless it is closed.
    pub fn reset(&mut self, key: Key, code: Code) {
        if self.streams.get(key).is_some_and(|stream| !stream.is_closed()) {
            frame::number(frame::RST_STREAM, key.id, code.0, &mut self.out);
            self.streams.close(key, Closed::Ours);
        }
    }

    /// Whether the other side may still send on a stream.
    pub fn receives(&mut self, key: Key) -> bool {
        self.streams.get(key).is_some_and(|stream| stream.receives)
    }

    /// Whether this side may still send on a stream.
    pub fn sends(&mut self, key: Key) -> bool {
        self.streams.get(key).is_some_and(|stream| stream.sends)
    }

    /// Tells that nobody asks for a stream any more. One that is not closed is cancelled.
    pub fn forget(&mut self, key: Key) {
        self.reset(key, Code::CANCEL);
        if self.streams.get(key).is_some_and(|stream| stream.waits) {
            self.waiting.retain(|waiting| *waiting != key);
        }
        self.streams.remove(key);
    }

    /// Begins to go away: says so, and takes requests until the other side knows it, for a server.
    pub fn leave(&mut self) {
        if self.leaving != Leaving::No {
            return;
        }
        if self.role == Role::Client {
            self.leaving = Leaving::Last(0);
            self.write_goaway(0, Code::NO_ERROR);
            return;
        }
        self.leaving = Leaving::Said;
        self.write_goaway(MOST_WINDOW, Code::NO_ERROR);
        self.ping(DRAIN);
    }

    /// Takes no more streams from here on, whether or not the other side knows.
    pub fn leave_now(&mut self) {
        if !matches!(self.leaving, Leaving::Last(_)) {
            let last = if self.role == Role::Server { self.last } else { 0 };
            self.leaving = Leaving::Last(last);
            self.write_goaway(last, Code::NO_ERROR);
        }
    }

    /// Ends the connection for a reason.
    pub fn abort(&mut self, code: Code) {
        let last = if self.role == Role::Server { self.last } else { 0 };
        self.leaving = Leaving::Last(last);
        self.write_goaway(last, code);
    }

    /// Asks whether the other side is there.
    pub fn send_ping(&mut self) {
        self.ping(&[0; 8]);
    }

    fn ping(&mut self, payload: &[u8]) {
        frame::head(payload.len(), frame::PING, 0, 0, &mut self.out);
        self.out.extend_from_slice(payload);
    }

    pub(crate) fn write_goaway(&mut self, last: u32, code: Code) {
        frame::head(8, frame::GOAWAY, 0, 0, &mut self.out);
        self.out.extend_from_slice(&last.to_be_bytes());
        self.out.extend_from_slice(&code.0.to_be_bytes());
    }
}

/// Room for names in small letters.
pub(crate) struct Lower {
    short: [u8; 64],
    long: Vec<u8>,
}

impl Default for Lower {
    fn default() -> Self {
        Self { short: [0; 64], long: Vec::new() }
    }
}

impl Lower {
    pub(crate) fn of<'a>(&'a mut self, name: &'a [u8]) -> &'a [u8] {
        if !name.iter().any(u8::is_ascii_uppercase) {
            return name;
        }
        let Self { short, long } = self;
        if let Some(room) = short.get_mut(..name.len()) {
            room.copy_from_slice(name);
            room.make_ascii_lowercase();
            return room;
        }
        long.clear();
        long.extend(name.iter().map(u8::to_ascii_lowercase));
        long
    }
}

impl Head {
    /// Whether, in HTTP/2, nothing follows a head.
    pub const fn is_end(&self) -> bool {
        matches!(self.framing, Framing::None | Framing::Length(0))
    }
}

/// Whether a field may stand in trailers: none of framing, routing, authentication or state.
pub fn may_trail(name: &[u8]) -> bool {
    const NONE: [&str; 14] = [
        "host",
        "content-length",
        "te",
        "trailer",
        "authorization",
        "cookie",
        "set-cookie",
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
        "expect",
    ];
    !NONE.iter().any(|none| name.eq_ignore_ascii_case(none.as_bytes()))
}
