//! Streams, in a slab.

use super::frame::Code;

/// One stream of a connection. It is good until it is [forgotten](super::Connection::forget).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Key {
    pub(crate) index: u32,
    pub(crate) id: u32,
}

impl Key {
    /// A number below the most streams that were ever there at once: for what belongs to streams beside the connection.
    pub const fn index(self) -> usize {
        self.index as usize
    }

    /// The number of the stream on the wire.
    pub const fn id(self) -> u32 {
        self.id
    }
}

/// ```text
///          request, response           END_STREAM each way        RST_STREAM either way
///  idle ──────────────────────▶ open ─────────────────────▶ closed ◀─────────────────
/// ```
/// Either half closes for itself; what "idle" and "closed" were is told by ids (`Streams::closed`).
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "the halves of a stream are open or closed each for itself")]
pub(crate) struct Stream {
    /// 0 where the place is free.
    pub(crate) id: u32,
    /// Whether more may come.
    pub(crate) receives: bool,
    /// Whether more may be sent.
    pub(crate) sends: bool,
    /// Whether the head of the message came that is not an interim one.
    pub(crate) has_head: bool,
    /// Whether the request was `HEAD`.
    pub(crate) is_head: bool,
    /// Whether it waits until more may be sent.
    pub(crate) waits: bool,
    /// Of the body, what is announced and has not come yet.
    pub(crate) left: Option<u64>,
    pub(crate) send_window: i64,
    pub(crate) receive_window: i64,
    /// What was taken, and not yet given back to the window.
    pub(crate) taken: u32,
}

impl Stream {
    pub(crate) const fn is_closed(&self) -> bool {
        !self.receives && !self.sends
    }
}

/// How a stream ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Closed {
    /// Both sides sent their end.
    Ended,
    /// The other side reset it.
    Theirs,
    /// This side did: what was on the way still comes.
    Ours,
}

/// The streams of a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams {
    slab: Vec<Stream>,
    free: Vec<u32>,
    /// By id: its place, where no other has displaced it.
    places: Vec<u32>,
    /// By id: how it ended. The last ones only.
    closed: Vec<(u32, Closed)>,
    /// Those that are not closed.
    pub(crate) active: u32,
}

/// Places that ids are looked up in: more than streams are open, mostly.
const PLACES: usize = 256;

const fn place(id: u32) -> usize {
    (id >> 1) as usize % PLACES
}

impl Streams {
    /// How many places are taken: streams that are open or not forgotten yet.
    pub(crate) const fn len(&self) -> usize {
        self.slab.len() - self.free.len()
    }

    pub(crate) fn add(&mut self, stream: Stream) -> Key {
        let id = stream.id;
        if self.places.is_empty() {
            self.places.resize(PLACES, 0);
        }
        let index = if let Some(index) = self.free.pop() {
            self.slab[index as usize] = stream;
            index
        } else {
            self.slab.push(stream);
            u32::try_from(self.slab.len() - 1).unwrap_or(u32::MAX)
        };
        self.places[place(id)] = index;
        self.active += 1;
        Key { index, id }
    }

    /// The stream with that id, open or not forgotten.
    pub(crate) fn find(&self, id: u32) -> Option<Key> {
        let index = *self.places.get(place(id))?;
        if self.slab.get(index as usize).is_some_and(|stream| stream.id == id) {
            return Some(Key { index, id });
        }
        // An old stream whose place another one has taken.
        let index = self.slab.iter().position(|stream| stream.id == id)?;
        Some(Key { index: u32::try_from(index).ok()?, id })
    }

    pub(crate) fn get(&mut self, key: Key) -> Option<&mut Stream> {
        self.slab.get_mut(key.index()).filter(|stream| stream.id == key.id)
    }

    pub(crate) fn iter(&mut self) -> impl Iterator<Item = (Key, &mut Stream)> {
        let places = self.slab.iter_mut().zip(0..);
        places.filter(|(stream, _)| stream.id != 0).map(|(stream, index)| (Key { index, id: stream.id }, stream))
    }

    /// Closes both halves.
    pub(crate) fn close(&mut self, key: Key, how: Closed) {
        let Some(stream) = self.get(key) else { return };
        if stream.is_closed() {
            return;
        }
        (stream.receives, stream.sends) = (false, false);
        self.closed(key.id, how);
    }

    /// That both halves are closed.
    pub(crate) fn closed(&mut self, id: u32, how: Closed) {
        self.active -= 1;
        self.remember(id, how);
    }

    pub(crate) fn remember(&mut self, id: u32, how: Closed) {
        if self.closed.is_empty() {
            self.closed.resize(PLACES, (0, Closed::Ended));
        }
        self.closed[place(id)] = (id, how);
    }

    pub(crate) fn how(&self, id: u32) -> Option<Closed> {
        self.closed.get(place(id)).filter(|(known, _)| *known == id).map(|(_, how)| *how)
    }

    /// Frees the place of a closed stream.
    pub(crate) fn remove(&mut self, key: Key) {
        if let Some(stream) = self.get(key) {
            *stream = Stream::default();
            self.free.push(key.index);
        }
    }
}

/// What came, in the order in which it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<'i> {
    /// A request, which is [`Connection::request`](super::Connection::request) until the next step. `end` where no body follows.
    Request {
        /// Its stream.
        key: Key,
        /// Whether no body follows.
        end: bool,
    },
    /// A request that is to be answered with the status of an error.
    Refused {
        /// Its stream.
        key: Key,
        /// Why.
        error: crate::HeadError,
    },
    /// A response, which is [`Connection::response`](super::Connection::response) until the next step; it may be an interim one.
    Response {
        /// Its stream.
        key: Key,
        /// Whether no body follows.
        end: bool,
    },
    /// Data of a body. It is to be [released](super::Connection::release) when it was passed on.
    Data {
        /// Its stream.
        key: Key,
        /// The bytes; may be none at the end.
        data: &'i [u8],
        /// Whether it is the last.
        end: bool,
    },
    /// Trailers, which are [`Connection::trailers`](super::Connection::trailers) until the next step; the message ends with them.
    Trailers {
        /// Its stream.
        key: Key,
    },
    /// The stream ended before its messages did.
    Reset {
        /// Which one.
        key: Key,
        /// Why. A request with [`Code::REFUSED_STREAM`] was certainly not processed.
        code: Code,
    },
    /// The other side goes away: no new streams. Those that it will not process get a [`Event::Reset`] each.
    GoAway {
        /// Why.
        code: Code,
    },
    /// The other side told its settings, or that it knows this side's.
    Settings,
    /// A `PING` came back.
    Pong,
}
