//! New connections: taken, counted, told apart by what their port speaks.

use std::{
    cell::RefCell,
    fs::File,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    rc::Rc,
    time::Duration,
};

use strait_http::proxy_header;
use strait_route::Serve;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};

use crate::{
    gate::Phase,
    io::Stream,
    l4,
    listen::{self, Count},
    local,
    record::Client,
    serve::serve,
    worker::Worker,
};

/// How long handshakes that have begun when the gate ends may take to be done.
const LAST: Duration = Duration::from_millis(200);
/// The most connections that are told why they are refused, at once, of a worker. Others just end.
pub(crate) const TOLD: usize = 64;
/// How long they may take to read it.
const TELLING: Duration = Duration::from_secs(1);

/// A listener of a worker.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    /// How many connections came from it and are open.
    pub(crate) connections: Count,
    /// The address of the gateway, and the port of the listener.
    pub(crate) place: (IpAddr, u16),
}

/// Takes connections of a listener until the gate ends or hands it over.
pub(crate) async fn accept(worker: Rc<Worker>, listener: Listener) {
    let mut pace = Pace::new(worker.limits.connection_rate);
    // Waited for once, not anew with each connection: its lock is one of all workers.
    let mut draining = pin!(worker.draining());
    loop {
        pace.wait().await;
        if worker.is_draining() {
            break;
        }
        let accepted = tokio::select! {
            biased;
            accepted = listener.socket.accept() => accepted,
            () = &mut draining => break,
        };
        take(&worker, &listener, accepted).await;
    }
    // Handed over, or the gate is gone without a word: the socket is another process' too, whose door is not to be closed.
    if worker.told() != Phase::Ending {
        return;
    }
    // Whoever's handshake is done or under way believes to be connected, and is served. Without the filter there would be no end.
    let closed = listen::close_door(&listener.socket).is_ok();
    while let Ok(accepted) = timeout(if closed { LAST } else { Duration::ZERO }, listener.socket.accept()).await {
        take(&worker, &listener, accepted).await;
    }
}

async fn take(worker: &Rc<Worker>, listener: &Listener, accepted: io::Result<(TcpStream, SocketAddr)>) {
    match accepted {
        Ok((stream, peer)) => {
            let Some(admitted) = worker.admission.admit(&listener.connections).filter(|_| !worker.is_overloaded())
            else {
                limited(worker, listener.place);
                return refuse(worker, listener.place, stream);
            };
            let (task, place) = (Rc::clone(worker), listener.place);
            let open = worker.open();
            tokio::task::spawn_local(async move {
                connection(task, admitted, stream, peer, place).await;
                drop(open);
            });
        }
        Err(error) if is_exhausted(&error) => {
            if !worker.reserve.shed(&listener.socket, is_http(worker, listener.place)) {
                // Others must end first.
                sleep(Duration::from_millis(10)).await;
            }
        }
        // Of one connection, which went away before it was taken.
        Err(_) => tokio::task::yield_now().await,
    }
}

/// Whether there is no descriptor or memory left.
fn is_exhausted(error: &io::Error) -> bool {
    let exhausted =
        [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE, rustix::io::Errno::NOBUFS, rustix::io::Errno::NOMEM];
    exhausted.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Counts a connection that a limit closes.
pub(crate) fn limited(worker: &Worker, (address, port): (IpAddr, u16)) {
    let live = worker.live();
    if let Some(counts) = live.port(address, port).and_then(|port| live.names.listener(port)) {
        counts.limited(worker.reporter.worker());
    }
}

async fn connection(
    worker: Rc<Worker>,
    mut admitted: crate::admission::Admitted,
    mut stream: TcpStream,
    mut peer: SocketAddr,
    (address, port): (IpAddr, u16),
) {
    if worker.is_proxy(peer.ip()) {
        let read = timeout(worker.limits.head_time, proxied(&mut stream)).await;
        match read {
            Ok(Some(source)) => peer = source.unwrap_or(peer),
            // Whom it speaks for is not known: so it is nobody.
            _ => return,
        }
    }
    if !admitted.is_of(peer.ip()) {
        limited(&worker, (address, port));
        return refuse(&worker, (address, port), stream);
    }
    let live = worker.live();
    let client = Client { trusted: worker.trusted((address, port)), ..Client::new(peer, address, port, false) };
    let counts = live.port(address, port).and_then(|port| live.names.listener(port));
    let _counted = counts.map(|counts| counts.accepted(worker.reporter.worker()));
    let serve_as = live.port(address, port).map(|port| &live.plan.ports[port].serve);
    match serve_as {
        Some(Serve::Http(_)) => {
            drop(live);
            serve(worker, Stream::Plain(stream), client).await;
        }
        Some(Serve::Tls(_)) => {
            drop(live);
            Box::pin(l4::tls(worker, stream, Client { https: true, ..client })).await;
        }
        Some(Serve::Tcp(_)) => {
            drop(live);
            Box::pin(l4::tcp(worker, stream, client)).await;
        }
        Some(Serve::Udp(_)) | None => {}
    }
}

/// Reads a PROXY header, and not a byte more: gives the client, where it names one. None where there is no header.
async fn proxied(stream: &mut TcpStream) -> Option<Option<SocketAddr>> {
    let mut header = Vec::new();
    let mut more = [0; 256];
    loop {
        let before = header.len();
        let seen = stream.peek(&mut more).await.ok().filter(|count| *count > 0)?;
        header.extend_from_slice(&more[..seen]);
        let read = proxy_header(&header).ok()?;
        let belongs = read.map_or(seen, |header| header.len - before);
        stream.read_exact(&mut more[..belongs]).await.ok()?;
        if let Some(read) = read {
            return Some(read.addresses.map(|(source, _)| source));
        }
    }
}

/// Ends a connection that there is no room for. Who speaks HTTP is told so; a handshake would cost what is to be saved.
fn refuse(worker: &Rc<Worker>, place: (IpAddr, u16), stream: TcpStream) {
    if !is_http(worker, place) {
        return;
    }
    let Some(telling) = worker.telling() else { return };
    tokio::task::spawn_local(async move {
        let _ = timeout(TELLING, tell(stream)).await;
        drop(telling);
    });
}

fn is_http(worker: &Worker, (address, port): (IpAddr, u16)) -> bool {
    let live = worker.live();
    live.port(address, port).is_some_and(|port| matches!(live.plan.ports[port].serve, Serve::Http(_)))
}

/// Waits for the request, so that the answer is not lost in a reset, and answers.
async fn tell(mut stream: TcpStream) {
    let mut some = [0; 1024];
    if !matches!(stream.read(&mut some).await, Ok(count) if count > 0) {
        return;
    }
    let _ = stream.try_write(&local::overloaded());
    let _ = rustix::net::shutdown(&stream, rustix::net::Shutdown::Write);
    while matches!(stream.read(&mut some).await, Ok(count) if count > 0) {}
}

/// A descriptor that is kept, so that a connection can be taken, and told to go, when there is none left.
#[derive(Default)]
pub(crate) struct Reserve(RefCell<Option<File>>);

impl Reserve {
    pub(crate) fn new() -> Self {
        let reserve = Self::default();
        reserve.fill();
        reserve
    }

    fn fill(&self) -> bool {
        let file = File::open("/dev/null").ok();
        let is_there = file.is_some();
        *self.0.borrow_mut() = file;
        is_there
    }

    /// Takes one connection and ends it. False where that does not help.
    fn shed(&self, listener: &TcpListener, http: bool) -> bool {
        if self.0.borrow_mut().take().is_none() {
            return self.fill();
        }
        let accepted = rustix::net::accept_with(listener, rustix::net::SocketFlags::NONBLOCK);
        if http && let Ok(stream) = accepted {
            // Its bytes are read first: else the reset that they cause overtakes the answer.
            let _ = rustix::net::recv(&stream, &mut [0_u8; 4096][..], rustix::net::RecvFlags::DONTWAIT);
            let _ = rustix::net::send(&stream, &local::overloaded(), rustix::net::SendFlags::NOSIGNAL);
        }
        self.fill()
    }
}

/// So many in a second, evenly.
pub(crate) struct Pace {
    each: Duration,
    next: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(rate: usize) -> Self {
        let each = match u32::try_from(rate) {
            Ok(0) | Err(_) => Duration::ZERO,
            Ok(rate) => Duration::from_secs(1) / rate,
        };
        Self { each, next: None }
    }

    pub(crate) async fn wait(&mut self) {
        if self.each.is_zero() {
            return;
        }
        let now = Instant::now();
        // What was not used is gone but for a tenth of a second.
        let next = self.next.unwrap_or(now).max(now.checked_sub(Duration::from_millis(100)).unwrap_or(now));
        if next > now {
            tokio::time::sleep_until(next).await;
        }
        self.next = Some(next + self.each);
    }
}
