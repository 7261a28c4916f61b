//! What one worker reports: every request and connection at its end.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use strait_http::RequestHead;
use strait_route::Plan;

use super::{
    Names, Telemetry,
    counters::Counters,
    entry::{Entry, Request},
    request_id::{RequestId, RequestIds},
    series::{Key, Spoken},
    sink::Lines,
    text::Times,
};
use crate::{
    listen::{self, PortMap},
    local,
    record::{Client, ConnectionRecord, Protocol, Reason, Record},
};

/// A worker's side of [`Telemetry`]. When it goes, the worker serves nothing any more.
pub(crate) struct Reporter {
    worker: usize,
    telemetry: Arc<Telemetry>,
    counters: Arc<Counters>,
    lines: Option<Lines>,
    ids: RequestIds,
    times: RefCell<Times>,
    clock: Clock,
    ports: PortMap,
}

/// Why a connection with TLS was not served.
#[derive(Debug)]
pub(crate) enum Unserved {
    /// No listener, or no route, takes its server name.
    Unmatched,
    /// Its handshake failed.
    Handshake(String),
}

/// Times of day from those of the clock that only goes forward; asks for the former once a second.
struct Clock(Cell<(Instant, Duration)>);

impl Clock {
    fn new(now: Instant) -> Self {
        Self(Cell::new((now, today())))
    }

    fn of(&self, time: Instant, now: Instant) -> Duration {
        const KEPT: Duration = Duration::from_secs(1);
        let (mut instant, mut day) = self.0.get();
        if now.saturating_duration_since(instant) > KEPT {
            (instant, day) = (now, today());
            self.0.set((instant, day));
        }
        match time.checked_duration_since(instant) {
            Some(after) => day + after,
            None => day.saturating_sub(instant.duration_since(time)),
        }
    }
}

/// The time of day, since the epoch.
fn today() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.counters.plan.set(0);
    }
}

impl Reporter {
    pub(crate) fn new(worker: usize, telemetry: Arc<Telemetry>, lines: Option<Lines>, ports: PortMap) -> Self {
        let counters = telemetry.worker(worker);
        let clock = Clock::new(tokio::time::Instant::now().into_std());
        Self { worker, telemetry, counters, lines, ids: RequestIds::new(), times: RefCell::default(), clock, ports }
    }

    /// The worker's numbers.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Which worker it is.
    pub(crate) const fn worker(&self) -> usize {
        self.worker
    }

    /// An id for a request that came without one.
    pub(crate) fn request_id(&self) -> RequestId {
        self.ids.next()
    }

    /// Whether anything is logged.
    pub(crate) const fn has_log(&self) -> bool {
        self.lines.is_some()
    }

    /// Hands lines over before they are old.
    pub(crate) async fn keep_flushed(&self) {
        match &self.lines {
            Some(lines) => lines.keep_flushed().await,
            None => std::future::pending().await,
        }
    }

    /// Hands the last lines over.
    pub(crate) fn flush(&self) {
        if let Some(lines) = &self.lines {
            lines.flush();
        }
    }

    /// A request has ended. `head` points into `bytes`; both are empty where no head could be read.
    pub(crate) fn request(
        &self,
        plan: &Plan,
        names: &Names,
        client: &Client,
        record: &Record,
        head: &RequestHead,
        bytes: &[u8],
    ) {
        let flag = record.reason.map_or("", |reason| reason.flag);
        let is_call = head.method.bytes(bytes) == b"POST"
            && head.head.get("content-type", bytes).is_some_and(|kind| local::is_call(kind.bytes(bytes)));
        let grpc_status = record.grpc_status.filter(|_| is_call);
        let took = record.ended.saturating_duration_since(record.started);
        let series = &self.telemetry.series;
        let destination = names.destination(record.sent.backend).unwrap_or_else(|| series.unknown());
        let spoken = if is_call { Spoken::Grpc(grpc_status) } else { Spoken::Http };
        let key = Key::new(record.status, flag, spoken);
        series.request(self.worker, destination, key, took, record.request_body, record.response_body);
        let (Some(lines), Some(format)) = (&self.lines, self.telemetry.format()) else { return };
        let id = head.head.get("x-request-id", bytes).map(|id| id.bytes(bytes));
        let id = id.or(record.request_id.as_ref().map(|id| &id[..])).unwrap_or_default();
        let request = Request { head, bytes, id, client: &client.shown };
        let from_backend = if record.status == 0 { "" } else { "via_upstream" };
        let answered = record.received.unwrap_or(record.started);
        let entry = Entry {
            start: self.clock.of(record.started, record.ended),
            duration: took,
            request: (!head.method.is_empty()).then_some(request),
            protocol: Some(match record.protocol {
                Protocol::Http10 => "HTTP/1.0",
                Protocol::Http11 => "HTTP/1.1",
                Protocol::Http2 => "HTTP/2",
                Protocol::Http3 => "HTTP/3",
            }),
            status: record.status,
            flags: flag,
            details: record.reason.map_or(from_backend, |reason| reason.details),
            termination: "",
            downstream_failure: "",
            transport_failure: record.reason.filter(|reason| reason.flag == "UF").map_or("", |reason| reason.details),
            received: record.request_body,
            sent: record.response_body,
            service_time: record.first_byte.map(|first| first.saturating_duration_since(answered)),
            upstream_host: record.sent.endpoint,
            upstream_cluster: record.sent.backend.map_or("", |backend| names.cluster(backend)),
            upstream_local: record.sent.local,
            downstream_local: self.local(client),
            downstream_remote: record.forwarded_for.map_or(client.peer, |address| SocketAddr::new(address, 0)),
            downstream_direct: client.peer,
            server_name: client.server_name.as_deref().unwrap_or_default(),
            route: record.rule.and_then(|rule| plan.rules.get(rule as usize)).map_or("", |rule| &rule.name),
            grpc_status,
        };
        self.write(lines, |times, out| format.write(&entry, times, out));
    }

    /// A connection that is passed on has reached its back end, or a client's datagrams are about to.
    pub(crate) fn opened(&self, names: &Names, client: &Client, backend: u32) {
        let series = &self.telemetry.series;
        let destination = names.destination(Some(backend)).unwrap_or_else(|| series.unknown());
        series.opened(self.worker, destination, Key::connection("", client.datagrams));
    }

    /// A connection that was passed on, or was to be, has ended.
    pub(crate) fn connection(&self, names: &Names, client: &Client, record: &ConnectionRecord) {
        let flag = record.reason.map_or("", |reason| reason.flag);
        let series = &self.telemetry.series;
        let destination = names.destination(record.sent.backend).unwrap_or_else(|| series.unknown());
        if !record.opened {
            // It reached nobody, and was not counted before.
            series.opened(self.worker, destination, Key::connection(flag, client.datagrams));
        }
        let key = Key::connection(flag, client.datagrams);
        series.passed(self.worker, destination, key, record.up, record.down);
        let (Some(lines), Some(format)) = (&self.lines, self.telemetry.format()) else { return };
        let entry = Entry {
            flags: flag,
            termination: record.reason.map_or("", |reason| reason.details),
            transport_failure: record.reason.filter(|reason| reason.flag == "UF").map_or("", |reason| reason.details),
            received: record.up,
            sent: record.down,
            upstream_host: record.sent.endpoint,
            upstream_cluster: record.sent.backend.map_or("", |backend| names.cluster(backend)),
            upstream_local: record.sent.local,
            ..self.nothing(client, record.started, record.ended)
        };
        self.write(lines, |times, out| format.write(&entry, times, out));
    }

    /// A connection with TLS has ended before it was anything else: nobody takes its name, or its handshake failed.
    pub(crate) fn unserved(&self, client: &Client, (started, ended): (Instant, Instant), why: &Unserved) {
        let (Some(lines), Some(format)) = (&self.lines, self.telemetry.format()) else { return };
        let nothing = self.nothing(client, started, ended);
        let entry = match why {
            // Envoy tells both so.
            Unserved::Unmatched => {
                let Reason { flag, details, .. } = local::NO_CHAIN;
                Entry { flags: flag, details, ..nothing }
            }
            Unserved::Handshake(why) => Entry { downstream_failure: why, ..nothing },
        };
        self.write(lines, |times, out| format.write(&entry, times, out));
    }

    /// The line of a connection of which nothing more is known.
    fn nothing<'a>(&self, client: &'a Client, started: Instant, ended: Instant) -> Entry<'a> {
        Entry {
            start: self.clock.of(started, ended),
            duration: ended.saturating_duration_since(started),
            request: None,
            protocol: None,
            status: 0,
            flags: "",
            details: "",
            termination: "",
            transport_failure: "",
            downstream_failure: "",
            received: 0,
            sent: 0,
            service_time: None,
            upstream_host: None,
            upstream_cluster: "",
            upstream_local: None,
            downstream_local: self.local(client),
            downstream_remote: client.peer,
            downstream_direct: client.peer,
            server_name: client.server_name.as_deref().unwrap_or_default(),
            route: "",
            grpc_status: None,
        }
    }

    fn write(&self, lines: &Lines, write: impl FnOnce(&mut Times, &mut Vec<u8>)) {
        if !lines.line(|out| write(&mut self.times.borrow_mut(), out)) {
            self.counters.lines_dropped.increment();
        }
    }

    /// Where the client's connection ended: the mapped port where there is one.
    fn local(&self, client: &Client) -> SocketAddr {
        listen::place(client.address, client.port, &self.ports)
    }
}
