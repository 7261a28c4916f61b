//! Clients of datagram ports on their way from one process to the next.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    os::fd::OwnedFd,
    time::Duration,
};

use socket2::{Socket, Type};
use tokio::{
    net::UdpSocket,
    sync::{Notify, oneshot},
};

use super::Port;

/// A client of a UDP port, and the socket between it and its back end, as one process hands them to another.
#[derive(Debug)]
pub struct UdpSession {
    /// Where its datagrams are received.
    pub at: SocketAddr,
    /// By which of the sockets there, from 0 on: the kernel gives all datagrams of a client to one of them.
    pub socket: usize,
    /// The client.
    pub client: SocketAddr,
    /// The back end, by its name in plans.
    pub backend: String,
    /// Its endpoint.
    pub endpoint: SocketAddr,
    /// How long ago the client's first datagram came.
    pub age: Duration,
    /// How long ago its last one came.
    pub silent: Duration,
    /// Bytes that it sent.
    pub up: u64,
    /// Bytes that it was sent.
    pub down: u64,
    /// The socket to the endpoint.
    pub upstream: OwnedFd,
}

impl UdpSession {
    /// The socket in the worker's runtime, if it leads to the endpoint.
    pub(super) fn into_upstream(self) -> Option<UdpSocket> {
        let socket = Socket::from(self.upstream);
        let leads_there = socket.peer_addr().ok()?.as_socket() == Some(self.endpoint);
        if !leads_there || socket.r#type().ok()? != Type::DGRAM {
            return None;
        }
        socket.set_nonblocking(true).ok()?;
        UdpSocket::from_std(socket.into()).ok()
    }
}

/// What a worker was handed, and what it hands on.
#[derive(Default)]
pub(crate) struct Handed {
    /// Whether all that is handed is here.
    is_here: Cell<bool>,
    here: Notify,
    sessions: RefCell<Vec<UdpSession>>,
    left: RefCell<Vec<UdpSession>>,
}

impl Handed {
    /// Waits for what is handed to a worker.
    pub(crate) async fn arrive(&self, sessions: oneshot::Receiver<Vec<UdpSession>>) {
        *self.sessions.borrow_mut() = sessions.await.unwrap_or_default();
        self.is_here.set(true);
        self.here.notify_waiters();
        // Those who read their sockets wait already, and take their own first. The times of what is left would be wrong later on.
        tokio::task::yield_now().await;
        self.sessions.take();
    }

    /// Waits for it, and takes the clients of a socket.
    pub(super) async fn of(&self, port: Port) -> Vec<UdpSession> {
        while !self.is_here.get() {
            self.here.notified().await;
        }
        let of_port = |session: &mut UdpSession| (session.at, session.socket) == (port.at, port.number);
        self.sessions.borrow_mut().extract_if(.., of_port).collect()
    }

    /// Keeps sessions for another process.
    pub(super) fn leave(&self, sessions: impl Iterator<Item = UdpSession>) {
        self.left.borrow_mut().extend(sessions);
    }

    /// Takes those.
    pub(crate) fn left(&self) -> Vec<UdpSession> {
        self.left.take()
    }
}
