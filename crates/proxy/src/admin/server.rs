//! The listeners of [`admin`](super).

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    header::{ALLOW, CONTENT_TYPE, HOST, HeaderValue},
    http::uri::Authority,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, watch},
    time::timeout,
};

use super::{Health, dump};
use crate::{
    gate::{Phase, Serving},
    telemetry::{self, Telemetry},
};

/// Connections at once of each listener; further ones wait.
const CONNECTIONS: usize = 32;
/// How long a head may take.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long a connection may take as a whole: whoever asks again and again connects again.
const CONNECTION_TIME: Duration = Duration::from_mins(2);

/// What is told.
pub(crate) struct Admin {
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) health: Arc<Health>,
    pub(crate) plans: watch::Receiver<Serving>,
    pub(crate) phase: watch::Receiver<Phase>,
}

/// Whom a listener is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    Operators,
    Everybody,
}

/// Listens for operators at the first address and for everybody at the second; gives the addresses, which have ports of their own where
/// port 0 was asked for.
pub(crate) fn start(
    admin: Admin,
    operators: Option<SocketAddr>,
    everybody: Option<SocketAddr>,
) -> Result<(Option<SocketAddr>, Option<SocketAddr>), (SocketAddr, io::Error)> {
    let bind = |at: Option<SocketAddr>| at.map(|at| bind(at).map_err(|error| (at, error))).transpose();
    let (operators, everybody) = (bind(operators)?, bind(everybody)?);
    let address = |listener: &Option<TcpListener>| listener.as_ref().and_then(|listener| listener.local_addr().ok());
    let addresses = (address(&operators), address(&everybody));
    let listeners = [(operators, For::Operators), (everybody, For::Everybody)];
    let listeners: Vec<_> = listeners.into_iter().filter_map(|(listener, whom)| Some((listener?, whom))).collect();
    if let Some(at) = addresses.0.or(addresses.1) {
        run(admin, listeners).map_err(|error| (at, error))?;
    }
    Ok(addresses)
}

/// Listens beside a process that hands over: it stops when this one serves.
fn bind(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&at.into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

fn run(admin: Admin, listeners: Vec<(TcpListener, For)>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let admin = Arc::new(admin);
    for (listener, _) in &listeners {
        listener.set_nonblocking(true)?;
    }
    let serve = move || {
        runtime.block_on(async {
            for (listener, whom) in listeners {
                if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                    tokio::spawn(accept(listener, whom, Arc::clone(&admin)));
                }
            }
            // Until the gate is gone.
            let mut plans = admin.plans.clone();
            while plans.changed().await.is_ok() {}
        });
    };
    thread::Builder::new().name("admin".into()).spawn(serve)?;
    Ok(())
}

async fn accept(listener: tokio::net::TcpListener, whom: For, admin: Arc<Admin>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut phase = admin.phase.clone();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // The next process answers here.
            _ = phase.wait_for(|phase| *phase == Phase::HandedOver) => return,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, most likely: others must end first.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let admin = Arc::clone(&admin);
        tokio::spawn(async move {
            let _permit = permit;
            let _ = timeout(CONNECTION_TIME, connection(stream, whom, admin)).await;
        });
    }
}

async fn connection(stream: TcpStream, whom: For, admin: Arc<Admin>) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let answer = if whom == For::Operators && !is_of_this_machine(request.headers().get(HOST)) {
            text(StatusCode::FORBIDDEN, "the host that is asked must be an address or localhost\n")
        } else {
            answer(&admin, whom, request.method(), request.uri().path())
        };
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(16 << 10);
    // Whoever breaks off has seen enough.
    let _ = server.serve_connection(TokioIo::new(stream), answer).await;
}

/// Whether no name but `localhost` was asked for. A page in an operator's browser may have any other name lead here, and would read what
/// is for the operator alone (DNS rebinding).
fn is_of_this_machine(host: Option<&HeaderValue>) -> bool {
    let Some(host) = host else { return true };
    let Some(host) = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()) else { return false };
    let host = host.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

fn answer(admin: &Admin, whom: For, method: &Method, path: &str) -> Response<Parts> {
    let reads = method == Method::GET || method == Method::HEAD;
    let allowed = if path == "/reopen_logs" { method == Method::POST } else { reads };
    let known = matches!(
        (path, whom),
        ("/healthz/ready" | "/stats/prometheus" | "/metrics", _)
            | ("/" | "/config_dump" | "/reopen_logs", For::Operators)
    );
    if !known {
        return text(StatusCode::NOT_FOUND, "not found\n");
    }
    if !allowed {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
        let allow = if path == "/reopen_logs" { "POST" } else { "GET, HEAD" };
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        return answer;
    }
    match path {
        "/healthz/ready" => match admin.health.ready(&admin.telemetry) {
            Ok(()) => text(StatusCode::OK, "ready\n"),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{why}\n")),
        },
        "/stats/prometheus" | "/metrics" => {
            let parts = admin.telemetry.scrape(admin.health.metrics(&admin.telemetry)).map(Bytes::from);
            response(StatusCode::OK, telemetry::CONTENT_TYPE, Parts { parts: Box::new(parts), length: None })
        }
        "/config_dump" => {
            let (plan, since) = admin.health.plan();
            let live = Arc::clone(&admin.plans.borrow().live);
            let dump = dump::dump(&live.plan, plan, since);
            response(StatusCode::OK, "application/json", Parts::one(format!("{dump:#}\n")))
        }
        "/reopen_logs" if admin.telemetry.reopen_log() => text(StatusCode::OK, "OK\n"),
        "/reopen_logs" => text(StatusCode::CONFLICT, "there is no access log\n"),
        _ => text(StatusCode::OK, INDEX),
    }
}

const INDEX: &str = "/config_dump\n/healthz/ready\n/metrics\n/reopen_logs (POST)\n/stats/prometheus\n";

fn text(status: StatusCode, text: &str) -> Response<Parts> {
    response(status, "text/plain; charset=utf-8", Parts::one(text.to_owned()))
}

fn response(status: StatusCode, kind: &'static str, body: Parts) -> Response<Parts> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    response
}

/// A body that is made while it is sent.
struct Parts {
    parts: Box<dyn Iterator<Item = Bytes> + Send>,
    /// Its length, where that is known before.
    length: Option<usize>,
}

impl Parts {
    fn one(text: String) -> Self {
        Self { length: Some(text.len()), parts: Box::new(std::iter::once(Bytes::from(text))) }
    }
}

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.parts.next().map(|part| Ok(Frame::data(part))))
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, |length| SizeHint::with_exact(length as u64))
    }
}
