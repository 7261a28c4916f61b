//! The back end: answers every request with the same bytes. It speaks HTTP/1 and HTTP/2 on every listener, as it is spoken to.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
};

use anyhow::{Result, bail, ensure};
use memchr::memmem;
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};
use rustls::ServerConfig;

use crate::{
    frames,
    transport::{Scratch, Transport},
};

/// Where it listens.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// What its answers call it.
    pub(crate) name: String,
}

/// What each request is answered with.
struct Answer {
    http1: Vec<u8>,
    /// A field block, and data.
    http2: (Vec<u8>, Vec<u8>),
}

impl Answer {
    fn new(name: &str, body: usize) -> Self {
        let data = vec![b'x'; body];
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\nx-backend: {name}\r\ncontent-length: {body}\r\n\r\n"
        );
        let mut block = vec![0x88];
        frames::put_literal(&mut block, 31, "application/octet-stream");
        frames::put_named(&mut block, "x-backend", name);
        frames::put_literal(&mut block, 28, &body.to_string());
        Self { http1: [head.as_bytes(), &data].concat(), http2: (block, data) }
    }
}

struct Connection {
    transport: Transport,
    listener: usize,
    input: Vec<u8>,
    out: Vec<u8>,
    spoken: Spoken,
}

enum Spoken {
    Unknown,
    Http1,
    Http2(Http2),
}

/// Room in the connection's window, and streams whose answer does not fit into it yet.
struct Http2 {
    window: i64,
    waiting: VecDeque<u32>,
}

/// Serves until it is stopped.
pub(crate) fn serve(mut listeners: Vec<Listener>, body: usize) -> Result<()> {
    ensure!(body < 16 << 10, "a body is one frame: less than 16 KiB");
    let answers: Vec<Answer> = listeners.iter().map(|listener| Answer::new(&listener.name, body)).collect();
    let mut poll = Poll::new()?;
    let first = listeners.len();
    for (index, listener) in listeners.iter_mut().enumerate() {
        poll.registry().register(&mut listener.socket, Token(index), Interest::READABLE)?;
    }
    let mut connections: BTreeMap<usize, Connection> = BTreeMap::new();
    let mut next = first;
    let (mut events, mut scratch) = (Events::with_capacity(1024), Scratch::new());
    loop {
        if let Err(error) = poll.poll(&mut events, None) {
            if error.kind() == std::io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error.into());
        }
        for event in &events {
            let Token(token) = event.token();
            if let Some(listener) = listeners.get(token) {
                while let Some(stream) = accept(&listener.socket)? {
                    let mut transport = Transport::accepted(stream, listener.tls.as_ref())?;
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut transport.stream, Token(next), interest)?;
                    let (input, out) = (Vec::new(), Vec::new());
                    let spoken = Spoken::Unknown;
                    connections.insert(next, Connection { transport, listener: token, input, out, spoken });
                    next += 1;
                }
                continue;
            }
            let Some(connection) = connections.get_mut(&token) else { continue };
            match connection.advance(&answers, &mut scratch) {
                Ok(true) => {}
                Ok(false) => drop(connections.remove(&token)),
                Err(error) => {
                    // Gates reset connections as they like; what is malformed is worth a look.
                    if !error.is::<std::io::Error>() {
                        eprintln!("back end: {error:#}");
                    }
                    drop(connections.remove(&token));
                }
            }
        }
    }
}

fn accept(socket: &TcpListener) -> Result<Option<TcpStream>> {
    match socket.accept() {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::ConnectionAborted) =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

impl Connection {
    /// Whether it goes on.
    fn advance(&mut self, answers: &[Answer], scratch: &mut Scratch) -> Result<bool> {
        let more = self.transport.read(scratch, &mut self.input)?;
        let answer = &answers[self.listener];
        if matches!(self.spoken, Spoken::Unknown) && !self.input.is_empty() {
            let length = self.input.len().min(frames::PREFACE.len());
            if self.input[..length] != frames::PREFACE[..length] {
                self.spoken = Spoken::Http1;
            } else if length == frames::PREFACE.len() {
                self.input.drain(..length);
                frames::put_settings(&mut self.out, &[(frames::MAX_CONCURRENT_STREAMS, 128)]);
                self.spoken = Spoken::Http2(Http2 { window: i64::from(frames::WINDOW), waiting: VecDeque::new() });
            }
        }
        match &mut self.spoken {
            Spoken::Unknown => {}
            Spoken::Http1 => {
                // Requests without bodies: each ends with its head.
                let mut used = 0;
                while let Some(end) = memmem::find(&self.input[used..], b"\r\n\r\n") {
                    used += end + 4;
                    self.out.extend_from_slice(&answer.http1);
                }
                self.input.drain(..used);
            }
            Spoken::Http2(http) => http.receive(&mut self.input, &mut self.out, &answer.http2)?,
        }
        self.transport.write(&mut self.out)?;
        Ok(more)
    }
}

impl Http2 {
    fn receive(&mut self, input: &mut Vec<u8>, out: &mut Vec<u8>, answer: &(Vec<u8>, Vec<u8>)) -> Result<()> {
        let mut used = 0;
        while let Some((frame, length)) = frames::first(&input[used..]) {
            used += length;
            match frame.kind {
                frames::HEADERS => {
                    ensure!(
                        frame.has(frames::END_STREAM) && frame.has(frames::END_HEADERS),
                        "a request with a body, or with a head of many frames"
                    );
                    self.waiting.push_back(frame.stream);
                }
                // A benchmark's gate that sends one has gone wrong; its client sees it as well.
                frames::DATA => bail!("a request with a body"),
                frames::SETTINGS if !frame.has(frames::ACK) => {
                    let least = frame.settings().find(|(id, _)| *id == frames::INITIAL_WINDOW_SIZE);
                    ensure!(
                        least.is_none_or(|(_, window)| window as usize >= answer.1.len()),
                        "a stream's window that takes no answer"
                    );
                    frames::put(out, frames::SETTINGS, frames::ACK, 0, &[]);
                }
                frames::PING if !frame.has(frames::ACK) => {
                    frames::put(out, frames::PING, frames::ACK, 0, frame.payload);
                }
                frames::WINDOW_UPDATE if frame.stream == 0 => self.window += i64::from(frame.number()),
                frames::RST_STREAM => self.waiting.retain(|stream| *stream != frame.stream),
                _ => {}
            }
        }
        input.drain(..used);
        let (block, data) = answer;
        let length = i64::try_from(data.len())?;
        while self.window >= length {
            let Some(stream) = self.waiting.pop_front() else { break };
            self.window -= length;
            frames::put(out, frames::HEADERS, frames::END_HEADERS, stream, block);
            frames::put(out, frames::DATA, frames::END_STREAM, stream, data);
        }
        Ok(())
    }
}

/// Listens on a free port of loopback.
pub(crate) fn listen() -> Result<(TcpListener, SocketAddr)> {
    // The many connections of a gate that starts come at once.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(4096)?;
    let socket = TcpListener::from_std(socket.into());
    let at = socket.local_addr()?;
    Ok((socket, at))
}
