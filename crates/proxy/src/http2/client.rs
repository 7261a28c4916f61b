//! Connections to back ends, shared by many requests of a worker.

use std::{
    cell::Cell,
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::client::SendRequest;
use strait_http::{BodyReader, RequestHead};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    sync::Semaphore,
};

use super::{
    PIPE,
    message::{self, OWN},
    relay::{self, READ, Stopped},
};
use crate::{backend::Target, io::Stream};

/// Connections of a worker to one target; more are opened as those that are there have as many streams as they may.
const MOST_EACH: usize = 8;
/// Streams of a connection, if its back end allows as many. Their windows together are the connection's: a slow one stops no other.
const STREAMS: usize = 100;
const WINDOW: u32 = 64 << 10;
/// How long a connection may idle.
const IDLE: Duration = Duration::from_secs(50);

/// Connections of a worker by target.
#[derive(Default)]
pub(crate) struct Shared {
    connections: BTreeMap<Target, Vec<Connection>>,
    connecting: BTreeMap<Target, Arc<Semaphore>>,
}

struct Connection {
    send: SendRequest<Bytes>,
    /// Each stream holds one.
    streams: Rc<()>,
    alive: Rc<Cell<bool>>,
    used: Instant,
}

impl Connection {
    fn count(&self) -> usize {
        Rc::strong_count(&self.streams) - 1
    }

    fn has_room(&self) -> bool {
        self.count() < self.send.current_max_send_streams().min(STREAMS)
    }
}

/// A place on a connection for one request.
pub(crate) struct Place {
    send: SendRequest<Bytes>,
    stream: Rc<()>,
    alive: Rc<Cell<bool>>,
}

impl Shared {
    /// A place on a connection that is there; none where another one is to be opened.
    pub(crate) fn place(&mut self, target: &Target, now: Instant) -> Option<Place> {
        let all = self.connections.get_mut(target)?;
        all.retain(|connection| connection.alive.get());
        let full = all.len() >= MOST_EACH;
        let chosen = all.iter_mut().min_by_key(|connection| connection.count())?;
        if !full && !chosen.has_room() {
            return None;
        }
        chosen.used = now;
        Some(Place { send: chosen.send.clone(), stream: Rc::clone(&chosen.streams), alive: Rc::clone(&chosen.alive) })
    }

    /// Who opens a connection to that target holds its permit: the others wait, and use it.
    pub(crate) fn turn(&mut self, target: &Target) -> Arc<Semaphore> {
        let turn = self.connecting.entry(*target).or_insert_with(|| Arc::new(Semaphore::new(1)));
        Arc::clone(turn)
    }

    fn add(&mut self, target: Target, send: SendRequest<Bytes>, alive: Rc<Cell<bool>>, now: Instant) {
        let connection = Connection { send, streams: Rc::new(()), alive, used: now };
        self.connections.entry(target).or_default().push(connection);
    }

    /// Lets go of what has idled too long. A connection ends when its last stream does.
    pub(crate) fn expire(&mut self, now: Instant) {
        for all in self.connections.values_mut() {
            all.retain(|of| of.alive.get() && (of.count() > 0 || now.duration_since(of.used) < IDLE));
        }
        self.connections.retain(|_, all| !all.is_empty());
        self.connecting.retain(|_, turn| Arc::strong_count(turn) > 1);
    }

    /// Lets go of what leads to none of the targets whose numbers `keep` accepts.
    pub(crate) fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        self.connections.retain(|target, _| keep(target.number));
    }
}

/// Speaks HTTP/2 on a connection from here on. None where the back end does not.
pub(crate) async fn share(worker: &crate::worker::Worker, target: &Target, stream: Stream) -> Option<Place> {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 100)
        .max_header_list_size(60 << 10)
        .max_send_buffer_size(64 << 10)
        .initial_max_send_streams(STREAMS);
    let (send, connection) = builder.handshake::<Stream, Bytes>(stream).await.ok()?;
    let alive = Rc::new(Cell::new(true));
    let watched = Rc::clone(&alive);
    tokio::task::spawn_local(async move {
        let _ = connection.await;
        watched.set(false);
    });
    let now = tokio::time::Instant::now().into_std();
    let mut shared = worker.shared();
    shared.add(*target, send, alive, now);
    shared.place(target, now)
}

impl Place {
    /// A pipe whose other end takes one request, and gives its answer. None where the connection is no longer good.
    pub(crate) async fn open(self, target: &Target, idle: Duration) -> Option<Stream> {
        let Ok(send) = self.send.ready().await else {
            self.alive.set(false);
            return None;
        };
        let (near, far) = tokio::io::duplex(PIPE);
        let (https, fallback, stream) = (target.tls, target.address.to_string(), self.stream);
        tokio::task::spawn_local(async move {
            // Without an answer the pipe ends: what that means is for the other end to say.
            let _ = exchange(far, send, https, &fallback, idle).await;
            drop(stream);
        });
        Some(Stream::Pipe(near))
    }
}

async fn exchange(
    pipe: DuplexStream,
    mut send: SendRequest<Bytes>,
    https: bool,
    fallback: &str,
    idle: Duration,
) -> Result<(), Stopped> {
    let (mut reader, mut writer) = tokio::io::split(pipe);
    let (mut buffer, mut head) = (BytesMut::new(), RequestHead::default());
    while !head.read(&buffer, &OWN).map_err(|_| Stopped::Pipe)? {
        buffer.reserve(READ);
        if reader.read_buf(&mut buffer).await.map_err(|_| Stopped::Pipe)? == 0 {
            return Err(Stopped::Pipe);
        }
    }
    let request = message::request(&head, &buffer, https, fallback).map_err(|_| Stopped::Pipe)?;
    let is_head = request.method() == http::Method::HEAD;
    buffer.advance(head.head.len);
    let end = message::is_end(head.head.framing);
    let (response, mut stream) = send.send_request(request, end).map_err(|_| Stopped::Stream)?;
    drop(send);
    let asking = async {
        if !end {
            let body = BodyReader::new(head.head.framing);
            let relayed = relay::send(&mut reader, &mut buffer, body, &mut stream, idle).await;
            if relayed == Err(Stopped::Pipe) {
                return;
            }
        }
        // A back end may answer and read no more. What ends the exchange from here on is that nobody waits for its answer.
        let mut rest = BytesMut::new();
        while matches!(reader.read_buf(&mut rest).await, Ok(count) if count > 0) {
            rest.clear();
        }
    };
    let answering = async {
        let (head, mut body) = response.await.map_err(|_| Stopped::Stream)?.into_parts();
        let end = body.is_end_stream();
        let mut text = Vec::new();
        let chunked = message::response_text(&head, end, is_head, &mut text);
        writer.write_all(&text).await.map_err(|_| Stopped::Pipe)?;
        if end { Ok(()) } else { relay::receive(&mut body, chunked, &mut writer).await }
    };
    tokio::select! {
        biased;
        result = answering => result,
        () = asking => Err(Stopped::Pipe),
    }
}
