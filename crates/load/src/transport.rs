//! A TCP connection that never blocks, with TLS or without.

use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    sync::Arc,
};

use mio::net::TcpStream;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, pki_types::ServerName};
use socket2::{Domain, Protocol, Socket, Type};

/// How TLS is spoken as a client.
#[derive(Clone)]
pub(crate) struct ClientTls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

/// What is read at once.
const READ: usize = 64 << 10;

pub(crate) struct Transport {
    pub(crate) stream: TcpStream,
    tls: Option<Box<rustls::Connection>>,
}

impl Transport {
    /// Begins to connect. What is written before it is connected waits.
    pub(crate) fn connect(at: SocketAddr, tls: Option<&ClientTls>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&at.into()) {
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                return Err(error);
            }
            _ => {}
        }
        let tls = match tls {
            Some(tls) => {
                let mut connection =
                    ClientConnection::new(Arc::clone(&tls.config), tls.name.clone()).map_err(io::Error::other)?;
                connection.set_buffer_limit(None);
                Some(Box::new(connection.into()))
            }
            None => None,
        };
        Ok(Self { stream: TcpStream::from_std(socket.into()), tls })
    }

    pub(crate) fn accepted(stream: TcpStream, tls: Option<&Arc<ServerConfig>>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let tls = match tls {
            Some(config) => {
                let mut connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                connection.set_buffer_limit(None);
                Some(Box::new(connection.into()))
            }
            None => None,
        };
        Ok(Self { stream, tls })
    }

    /// Reads what is there. Whether the other side may still send.
    pub(crate) fn read(&mut self, scratch: &mut Scratch, into: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            let Some(tls) = &mut self.tls else {
                match self.stream.read(&mut scratch.0) {
                    Ok(0) => return Ok(false),
                    Ok(length) => {
                        into.extend_from_slice(&scratch.0[..length]);
                        // Whatever comes from now on is told of by a new event.
                        if length < scratch.0.len() {
                            return Ok(true);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
                continue;
            };
            match tls.read_tls(&mut self.stream) {
                Ok(0) => return Ok(false),
                Ok(_) => {
                    let state = tls.process_new_packets().map_err(io::Error::other)?;
                    let have = into.len();
                    into.resize(have + state.plaintext_bytes_to_read(), 0);
                    tls.reader().read_exact(&mut into[have..])?;
                    if state.peer_has_closed() {
                        return Ok(false);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes as much as goes without waiting, and takes it from `out`.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            let mut written = 0;
            while written < out.len() {
                match self.stream.write(&out[written..]) {
                    Ok(length) => written += length,
                    Err(error) if waits(&error) => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            out.drain(..written);
            return Ok(());
        };
        if !out.is_empty() {
            tls.writer().write_all(out)?;
            out.clear();
        }
        while tls.wants_write() {
            match tls.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if waits(&error) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Nothing is wrong: the buffer is full, or it is not connected yet.
fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}

/// Room for one read, shared by all connections.
pub(crate) struct Scratch(Vec<u8>);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(vec![0; READ])
    }
}
