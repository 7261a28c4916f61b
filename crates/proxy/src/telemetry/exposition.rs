//! Prometheus' text format (version 0.0.4), in parts: thousands of series make many megabytes.

use std::fmt::Write as _;

use super::{
    cells::{BOUNDS, Counts},
    series::{ConnectionSums, Key, RequestSums, Service, Sum},
};

/// The content type of what is written.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How large a part becomes before it is given out.
const PART: usize = 32 << 10;

/// The bound of the last bucket.
const INFINITE: u64 = u64::MAX;

/// What a scrape gives, part by part.
pub(crate) struct Exposition {
    requests: Vec<Sum<RequestSums>>,
    connections: Vec<Sum<ConnectionSums>>,
    /// Metrics that are few, written already.
    rest: String,
    family: usize,
    series: usize,
}

/// A metric of requests or of connections.
enum Family {
    Total(&'static str),
    Histogram(&'static str, fn(&RequestSums) -> &Counts),
    Connections(&'static str, fn(&ConnectionSums) -> u64),
}

const FAMILIES: [Family; 8] = [
    Family::Total("istio_requests_total"),
    Family::Histogram("istio_request_duration_milliseconds", |sums| &sums.duration),
    Family::Histogram("istio_request_bytes", |sums| &sums.received),
    Family::Histogram("istio_response_bytes", |sums| &sums.sent),
    Family::Connections("istio_tcp_connections_opened_total", |sums| sums.opened),
    Family::Connections("istio_tcp_connections_closed_total", |sums| sums.closed),
    Family::Connections("istio_tcp_received_bytes_total", |sums| sums.received),
    Family::Connections("istio_tcp_sent_bytes_total", |sums| sums.sent),
];

impl Exposition {
    pub(crate) fn new(requests: Vec<Sum<RequestSums>>, connections: Vec<Sum<ConnectionSums>>, rest: String) -> Self {
        Self { requests, connections, rest, family: 0, series: 0 }
    }
}

impl Iterator for Exposition {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut out = String::new();
        while out.len() < PART {
            let Some(family) = FAMILIES.get(self.family) else {
                out.push_str(&std::mem::take(&mut self.rest));
                break;
            };
            let at = self.series;
            self.series += 1;
            let written = match family {
                Family::Total(name) => self.requests.get(at).map(|sum| {
                    begin(name, "counter", at, &mut out);
                    sample(name, "", &sum.service, sum.key, "http", None, &mut out);
                    value(sum.values.duration.total(), &mut out);
                }),
                Family::Histogram(name, of) => self.requests.get(at).map(|sum| {
                    begin(name, "histogram", at, &mut out);
                    histogram(name, sum, of(&sum.values), &mut out);
                }),
                Family::Connections(name, of) => self.connections.get(at).map(|sum| {
                    begin(name, "counter", at, &mut out);
                    sample(name, "", &sum.service, sum.key, "tcp", None, &mut out);
                    value(of(&sum.values), &mut out);
                }),
            };
            if written.is_none() {
                self.family += 1;
                self.series = 0;
            }
        }
        (!out.is_empty()).then_some(out)
    }
}

fn begin(name: &str, kind: &str, at: usize, out: &mut String) {
    if at == 0 {
        // Strings take all that is written, here and below.
        let _ = writeln!(out, "# TYPE {name} {kind}");
    }
}

fn histogram(name: &str, sum: &Sum<RequestSums>, counts: &Counts, out: &mut String) {
    let mut below = 0;
    for (bound, bucket) in BOUNDS.iter().zip(&counts.buckets) {
        below += bucket;
        sample(name, "_bucket", &sum.service, sum.key, "http", Some(*bound), out);
        value(below, out);
    }
    sample(name, "_bucket", &sum.service, sum.key, "http", Some(INFINITE), out);
    value(counts.total(), out);
    sample(name, "_sum", &sum.service, sum.key, "http", None, out);
    thousandths(counts.sum, out);
    out.push('\n');
    sample(name, "_count", &sum.service, sum.key, "http", None, out);
    value(counts.total(), out);
}

fn value(value: u64, out: &mut String) {
    let _ = writeln!(out, "{value}");
}

fn thousandths(value: u64, out: &mut String) {
    let (whole, rest) = (value / 1000, value % 1000);
    let _ = write!(out, "{whole}");
    if rest > 0 {
        let digits = format!("{rest:03}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
}

/// The name of a series, as Istio's gateways label it: they report as sources, and know nothing of who is behind either end but the service.
fn sample(name: &str, suffix: &str, service: &Service, key: Key, protocol: &str, bound: Option<u64>, out: &mut String) {
    let or_unknown = |text: &str| if text.is_empty() { "unknown".to_owned() } else { escaped(text) };
    let protocol = match (key.is_grpc(), key.is_datagrams()) {
        (true, _) => "grpc",
        (_, true) => "udp",
        _ => protocol,
    };
    let _ = write!(
        out,
        "{name}{suffix}{{reporter=\"source\",source_workload=\"unknown\",source_canonical_service=\"unknown\",\
         source_canonical_revision=\"latest\",source_workload_namespace=\"unknown\",source_principal=\"unknown\",\
         source_app=\"unknown\",source_version=\"unknown\",source_cluster=\"unknown\",destination_workload=\"unknown\",\
         destination_workload_namespace=\"unknown\",destination_principal=\"unknown\",destination_app=\"unknown\",\
         destination_version=\"unknown\",destination_service=\"{}\",destination_canonical_service=\"unknown\",\
         destination_canonical_revision=\"latest\",destination_service_name=\"{}\",destination_service_namespace=\"{}\",\
         destination_cluster=\"unknown\",request_protocol=\"{protocol}\"",
        or_unknown(&service.host),
        or_unknown(&service.name),
        or_unknown(&service.namespace),
    );
    let status = key.status();
    let _ = match (protocol, key.is_coarse()) {
        ("tcp" | "udp", _) => Ok(()),
        (_, false) => write!(out, ",response_code=\"{status}\""),
        (_, true) => write!(out, ",response_code=\"{status}xx\""),
    };
    if let Some(status) = key.grpc_status() {
        let _ = write!(out, ",grpc_response_status=\"{status}\"");
    }
    let flags = if key.is_coarse() { "other" } else { key.flags() };
    let _ = write!(out, ",response_flags=\"{flags}\",connection_security_policy=\"unknown\"");
    match bound {
        None => {}
        Some(INFINITE) => out.push_str(",le=\"+Inf\""),
        Some(bound) => {
            out.push_str(",le=\"");
            thousandths(bound, out);
            out.push('"');
        }
    }
    out.push_str("} ");
}

/// A label's value.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            _ => out.push(char),
        }
    }
    out
}

/// A metric of the gate's own: its samples are pairs of labels and value.
pub(crate) fn family(
    name: &str,
    kind: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Vec<(&'static str, String)>, String)>,
    out: &mut String,
) {
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    for (labels, value) in samples {
        out.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(out, "{before}{label}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            out.push('}');
        }
        let _ = writeln!(out, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::{
        super::series::{Series, Spoken},
        *,
    };

    #[test]
    fn parts_make_the_whole() {
        let series = Series::new(1, 1000);
        let odd = Service { host: "a\"b\\c\nd".into(), name: Arc::from(""), namespace: "n".into() };
        let many = (0..50).map(|index| Service { host: format!("h{index}").into(), ..odd.clone() });
        for to in series.destinations([odd.clone()].into_iter().chain(many)) {
            series.request(0, &to, Key::new(200, "", Spoken::Grpc(Some(0))), Duration::from_micros(1234), 0, 5_000);
            series.opened(0, &to, Key::connection("", false));
        }
        let parts: Vec<_> = Exposition::new(series.requests(), series.connections(), "last 1\n".to_owned()).collect();
        assert!(parts.len() > 5 && parts.iter().all(|part| part.len() < 2 * PART && part.ends_with('\n')));
        let text = parts.concat();
        assert!(text.ends_with("last 1\n"));
        let labels = r#"destination_service="a\"b\\c\nd",destination_canonical_service="unknown",destination_canonical_revision="latest",destination_service_name="unknown",destination_service_namespace="n",destination_cluster="unknown",request_protocol="grpc",response_code="200",grpc_response_status="0",response_flags="-",connection_security_policy="unknown""#;
        let found: Vec<_> = text
            .lines()
            .filter_map(|line| line.split_once(labels).map(|(name, rest)| (name.split_once('{').unwrap().0, rest)))
            .filter(|(name, _)| name.starts_with("istio_request_duration"))
            .map(|(_, rest)| rest)
            .collect();
        let below = [",le=\"0.5\"} 0", ",le=\"1\"} 0", ",le=\"5\"} 1", ",le=\"10\"} 1", ",le=\"25\"} 1"];
        assert_eq!(found[..5], below);
        assert_eq!(found[18..], [",le=\"3600000\"} 1", ",le=\"+Inf\"} 1", "} 1.234", "} 1"]);
        for family in
            ["istio_requests_total counter", "istio_request_bytes histogram", "istio_tcp_sent_bytes_total counter"]
        {
            assert_eq!(text.matches(&format!("# TYPE {family}\n")).count(), 1, "{family}");
        }
    }
}
