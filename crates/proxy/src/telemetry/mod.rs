//! What is seen of the gate from outside: access log and metrics.
//!
//! ```text
//! request, connection ─ at its end ─▶ Reporter, one a worker ─┬─ line in the format ─▶ Sink ─▶ file
//!                                                             └─ numbers ◀─ Telemetry ◀─ scrape
//! ```
//!
//! A worker writes to memory that is its own, and never waits for whoever reads it.

mod cells;
mod command;
mod counters;
mod entry;
mod exposition;
mod flags;
mod format;
mod reporter;
mod request_id;
mod series;
mod sink;
mod text;

use std::{path::PathBuf, sync::Arc, time::Duration};

use strait_route::{Backend, Plan, PortPlan};

pub use format::{Encoding, FormatError};

pub(crate) use self::{
    counters::Accepted,
    exposition::{CONTENT_TYPE, family},
    reporter::{Reporter, Unserved},
    request_id::RequestId,
    sink::Sink,
};
use self::{
    counters::{Counters, Listener, Listeners, Place},
    exposition::Exposition,
    format::Format,
    series::{Destination, Series, Service},
};

/// Where requests and connections are logged, and how: Istio's `accessLogFile`, `accessLogEncoding` and `accessLogFormat`.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// The file; `-` is the standard output.
    pub file: PathBuf,
    /// Text or JSON.
    pub encoding: Encoding,
    /// The format, with Envoy's commands; Istio's default where none is given.
    pub format: Option<String>,
}

/// An access log that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// Its format.
    #[error("access log: {0}")]
    Format(#[from] FormatError),
    /// Its file.
    #[error("access log: cannot open {file}: {source}")]
    Open {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// How long the last lines may take to be written when the gate ends.
const LAST_LINES: Duration = Duration::from_secs(2);

/// What all workers of a gate count and log.
#[derive(Debug)]
pub(crate) struct Telemetry {
    series: Series,
    listeners: Listeners,
    workers: Box<[Arc<Counters>]>,
    log: Option<(Format, Arc<sink::State>)>,
}

/// What a plan's parts are called in logs and metrics, by their places in it.
#[derive(Debug)]
pub(crate) struct Names {
    /// None at numbers that are free.
    backends: Arc<[Option<Named>]>,
    listeners: Vec<Arc<Listener>>,
}

/// What a back end is counted at, and the name of its cluster.
type Named = (Arc<Destination>, Arc<str>);

impl Telemetry {
    /// With room for `series` series of requests and connections in each worker.
    pub(crate) fn start(
        workers: usize,
        series: usize,
        log: Option<&AccessLog>,
    ) -> Result<(Arc<Self>, Option<Sink>), AccessLogError> {
        let mut sink = None;
        if let Some(AccessLog { file, encoding, format }) = log {
            let format = Format::new(*encoding, format.as_deref())?;
            let opened =
                Sink::open(file, workers).map_err(|source| AccessLogError::Open { file: file.clone(), source })?;
            sink = Some((format, opened));
        }
        let mut counters = Vec::new();
        counters.resize_with(workers, Arc::<Counters>::default);
        let (log, sink) = match sink {
            Some((format, sink)) => (Some((format, Arc::clone(sink.state()))), Some(sink)),
            None => (None, None),
        };
        let series = Series::new(workers, series);
        Ok((Arc::new(Self { series, listeners: Listeners::default(), workers: counters.into(), log }), sink))
    }

    /// Finds or makes what a plan is counted by. What did not change since the plan before is taken from there.
    pub(crate) fn names(&self, plan: &Plan, before: Option<(&Plan, &Names)>) -> Names {
        let place = |port: &Arc<PortPlan>| Place {
            gateway: Arc::clone(&port.gateway),
            address: port.address,
            port: port.port,
            is_udp: port.serve.is_udp(),
        };
        let listeners = self.listeners.listeners(plan.ports.iter().map(place), self.workers.len());
        let backends = match before.filter(|(before, _)| before.backends.is_same(&plan.backends)) {
            Some((_, names)) => Arc::clone(&names.backends),
            None => self.backends(plan),
        };
        Names { backends, listeners }
    }

    fn backends(&self, plan: &Plan) -> Arc<[Option<Named>]> {
        let (services, clusters): (Vec<_>, Vec<_>) = plan.backends.iter().map(destination).unzip();
        let destinations = self.series.destinations(services.into_iter());
        let mut named = destinations.into_iter().zip(clusters);
        (0..plan.backends.len()).map(|id| plan.backends.get(id).and_then(|_| named.next())).collect()
    }

    /// Numbers of one worker.
    fn worker(&self, index: usize) -> Arc<Counters> {
        self.workers.get(index).map(Arc::clone).unwrap_or_default()
    }

    /// By worker: the number of the plan that it serves; 0 where it serves none, or has ended.
    pub(crate) fn plans(&self) -> impl Iterator<Item = u64> {
        self.workers.iter().map(|of| of.plan.get())
    }

    fn format(&self) -> Option<&Format> {
        self.log.as_ref().map(|(format, _)| format)
    }

    /// Has the log's file opened anew. False where there is none.
    pub(crate) fn reopen_log(&self) -> bool {
        self.log.as_ref().inspect(|(_, state)| state.reopen()).is_some()
    }

    /// All metrics; `more` are written already.
    pub(crate) fn scrape(&self, more: String) -> Exposition {
        let mut rest = more;
        let labels = vec![("component", "proxy".to_owned()), ("tag", env!("CARGO_PKG_VERSION").to_owned())];
        family("istio_build", "gauge", "Version of this proxy.", [(labels, "1".to_owned())], &mut rest);
        self.gate(&mut rest);
        Exposition::new(self.series.requests(), self.series.connections(), rest)
    }

    /// What the gate counts of itself.
    fn gate(&self, out: &mut String) {
        let listeners = self.listeners.sums();
        let by_listener = |of: fn(&counters::ListenerSum) -> u64| {
            let sample = move |sum: &counters::ListenerSum| {
                let Place { gateway, address, port, is_udp } = &sum.place;
                let labels = vec![
                    ("gateway", gateway.to_string()),
                    ("address", address.to_string()),
                    ("port", port.to_string()),
                    ("transport", if *is_udp { "udp" } else { "tcp" }.to_owned()),
                ];
                (labels, of(sum).to_string())
            };
            listeners.iter().map(sample).collect::<Vec<_>>()
        };
        let by_worker = |of: fn(&Counters) -> &cells::Cell| {
            let sample = |(index, counters): (usize, &Arc<Counters>)| {
                (vec![("worker", index.to_string())], of(counters).get().to_string())
            };
            self.workers.iter().enumerate().map(sample).collect::<Vec<_>>()
        };
        let (written, failed) = self.log.as_ref().map_or((0, 0), |(_, state)| (state.written(), state.failed()));
        let metrics = [
            (
                "strait_listener_connections_accepted_total",
                "counter",
                "Connections that a listener accepted.",
                by_listener(|sum| sum.accepted),
            ),
            (
                "strait_listener_connections_limited_total",
                "counter",
                "Connections closed at once because of a limit.",
                by_listener(|sum| sum.limited),
            ),
            (
                "strait_listener_tls_unmatched_total",
                "counter",
                "Connections with TLS whose server name no listener or route takes.",
                by_listener(|sum| sum.unmatched),
            ),
            (
                "strait_listener_tls_handshakes_failed_total",
                "counter",
                "Connections with TLS whose handshake failed.",
                by_listener(|sum| sum.unshaken),
            ),
            (
                "strait_listener_datagrams_dropped_total",
                "counter",
                "Datagrams of clients that there was no room or no back end for.",
                by_listener(|sum| sum.dropped),
            ),
            (
                "strait_listener_connections_active",
                "gauge",
                "Connections that are open.",
                by_listener(|sum| sum.active),
            ),
            ("strait_requests_active", "gauge", "Requests being served.", by_worker(|of| &of.requests_active)),
            (
                "strait_upstream_connections_opened_total",
                "counter",
                "Connections to back ends that were opened.",
                by_worker(|of| &of.upstream_opened),
            ),
            (
                "strait_upstream_connections_failed_total",
                "counter",
                "Connections to back ends that could not be opened.",
                by_worker(|of| &of.upstream_failed),
            ),
            (
                "strait_upstream_connections_idle",
                "gauge",
                "Connections to back ends kept for the next request.",
                by_worker(|of| &of.upstream_idle),
            ),
            ("strait_access_log_lines_written_total", "counter", "Lines of the access log.", one(written)),
            (
                "strait_access_log_lines_failed_total",
                "counter",
                "Lines of the access log that its file did not take.",
                one(failed),
            ),
            (
                "strait_access_log_lines_dropped_total",
                "counter",
                "Lines of the access log that found no room while its file was slow.",
                by_worker(|of| &of.lines_dropped),
            ),
            (
                "strait_metrics_overflow_total",
                "counter",
                "Requests and connections counted without a series of their own, for want of room.",
                one(self.series.overflowed()),
            ),
        ];
        for (name, kind, help, samples) in metrics {
            family(name, kind, help, samples, out);
        }
    }
}

impl Names {
    /// A back end's name as Istio gives it to clusters.
    pub(crate) fn cluster(&self, backend: u32) -> &str {
        self.backends.get(backend as usize).and_then(Option::as_ref).map_or("", |(_, cluster)| cluster)
    }

    fn destination(&self, backend: Option<u32>) -> Option<&Destination> {
        self.backends.get(backend? as usize)?.as_ref().map(|(destination, _)| &**destination)
    }

    /// The numbers of a port of the plan.
    pub(crate) fn listener(&self, port: usize) -> Option<&Arc<Listener>> {
        self.listeners.get(port)
    }
}

/// What a back end is counted as, and its cluster, as Istio names both. Back ends of Istio's rules have their cluster's name.
fn destination(of: &Backend) -> (Service, Arc<str>) {
    let istio = of.name.strip_prefix("outbound|").and_then(|rest| rest.rsplit_once('|'));
    let (host, cluster) = if let Some((_, host)) = istio {
        (host.into(), Arc::clone(&of.name))
    } else {
        let port = of.name.rsplit_once(':').map_or("", |(_, port)| port);
        let host = format!("{}.{}.svc.cluster.local", of.service, of.namespace);
        let cluster = format!("outbound|{port}||{host}").into();
        (host.into(), cluster)
    };
    (Service { host, name: Arc::clone(&of.service), namespace: Arc::clone(&of.namespace) }, cluster)
}

/// A number of the whole gate.
fn one(value: u64) -> Vec<(Vec<(&'static str, String)>, String)> {
    vec![(Vec::new(), value.to_string())]
}

/// Waits until the last lines are written.
pub(crate) fn finish(sink: Option<Sink>) {
    if let Some(sink) = sink
        && !sink.finish(LAST_LINES)
    {
        eprintln!("access log: the last lines could not be written in time");
    }
}
