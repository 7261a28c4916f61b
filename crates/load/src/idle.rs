//! Connections that do nothing after their first request.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustls::{ClientConnection, StreamOwned};

use crate::{codec::Requests, transport::ClientTls};

const PATIENCE: Duration = Duration::from_secs(20);

enum Connection {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// Connections that have each asked once.
pub(crate) struct Idle(Vec<Connection>);

impl Idle {
    pub(crate) fn open(at: SocketAddr, tls: Option<&ClientTls>, count: usize, requests: &Requests) -> Result<Self> {
        let open = |index| one(at, tls, requests).with_context(|| format!("connection {index} of {count}"));
        Ok(Self((0..count).map(open).collect::<Result<_>>()?))
    }

    /// How many are still open.
    pub(crate) fn still_open(&mut self) -> Result<usize> {
        let mut open = 0;
        for connection in &mut self.0 {
            let socket = match connection {
                Connection::Plain(stream) => stream,
                Connection::Tls(tls) => &mut tls.sock,
            };
            socket.set_nonblocking(true)?;
            // Tickets that nobody read yet are no end.
            match socket.peek(&mut [0]) {
                Ok(0) => {}
                Ok(_) => open += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => open += 1,
                Err(_) => {}
            }
        }
        Ok(open)
    }
}

fn one(at: SocketAddr, tls: Option<&ClientTls>, requests: &Requests) -> Result<Connection> {
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let Some(tls) = tls else {
        ask(&mut stream, requests)?;
        return Ok(Connection::Plain(stream));
    };
    let session = ClientConnection::new(Arc::clone(&tls.config), tls.name.clone())?;
    let mut stream = StreamOwned::new(session, stream);
    ask(&mut stream, requests)?;
    Ok(Connection::Tls(Box::new(stream)))
}

/// One request and its answer.
fn ask(stream: &mut (impl io::Read + io::Write), requests: &Requests) -> Result<()> {
    stream.write_all(requests.blocks.first().context("no request")?)?;
    let (mut input, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut piece)?;
        ensure!(length > 0, "closed before it answered");
        input.extend_from_slice(&piece[..length]);
        let Some(end) = memchr::memmem::find(&input, b"\r\n\r\n") else { continue };
        if !input.starts_with(b"HTTP/1.1 200 ") {
            bail!("{}", String::from_utf8_lossy(&input[..end]));
        }
        if input.len() >= end + 4 + requests.body {
            return Ok(());
        }
    }
}
