//! Requests that are sent again, and those that are not.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::bed::{Gate, app, curl, http};

fn rule(path: &str, rest: &str) -> String {
    format!("  - matches: [{{path: {{value: {path}}}}}]\n    backendRefs: [{{name: one, port: 8080}}]\n{rest}")
}

/// The echo server fails as often as it is asked to, by a name: what the client gets is the last answer.
#[test]
fn by_code_and_within_timeouts() {
    let rules = [
        rule("/retry/500", "    retry: {codes: [500], attempts: 3}\n"),
        rule("/retry/all", "    retry: {codes: [500, 502, 503, 504], attempts: 2, backoff: 1ms}\n"),
        rule("/retry/never", "    retry: {codes: [500], attempts: 0}\n"),
        rule("/retry/late", "    retry: {attempts: 2}\n    timeouts: {backendRequest: 1s}\n"),
        rule(
            "/retry/whole",
            "    retry: {codes: [500], attempts: 5}\n    timeouts: {backendRequest: 1s, request: 3s}\n",
        ),
    ];
    let gate = Gate::of(&[("all.yaml", &(app("one") + &http(&rules.concat())))]);
    // HTTPRouteRetry, HTTPRouteRetryWithTimeouts: path, what the server answers and how often, what the client gets.
    let cases: &[(&str, &str, u16)] = &[
        ("/retry/500", "responseCode=500&succeedAfter=2", 200),
        ("/retry/500", "responseCode=500&succeedAfter=3", 200),
        ("/retry/500", "responseCode=500&succeedAfter=4", 500),
        ("/retry/500", "responseCode=503&succeedAfter=2", 503),
        ("/retry/all", "responseCode=502&succeedAfter=1", 200),
        ("/retry/all", "responseCode=503&succeedAfter=2", 200),
        ("/retry/all", "responseCode=504&succeedAfter=3", 504),
        ("/retry/never", "responseCode=500&succeedAfter=1", 500),
        ("/retry/late", "responseCode=500&succeedAfter=2&delayRetry=5s", 200),
        ("/retry/late", "responseCode=500&succeedAfter=3&delayRetry=5s", 504),
        ("/retry/whole", "responseCode=500&succeedAfter=1", 200),
        ("/retry/whole", "responseCode=500&succeedAfter=9&delayRetry=5s", 504),
    ];
    for (index, (path, asks, status)) in cases.iter().enumerate() {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let url = format!("http://{}{path}?{asks}&uuid={index}{version}", gate.at("edge", 80));
            let answer = curl(&[version], &url);
            assert_eq!(answer.status, *status, "{path} {asks} {version}");
        }
    }
    // A body goes with every attempt, up to a bound.
    let url = format!("http://{}/retry/500?responseCode=500&succeedAfter=2&uuid=body", gate.at("edge", 80));
    assert_eq!(curl(&["-d", "a body"], &url).status, 200);
    let large = tempfile::NamedTempFile::new().unwrap();
    large.as_file().set_len(8 << 20).unwrap();
    let argument = format!("@{}", large.path().display());
    let url = format!("http://{}/retry/500?responseCode=500&succeedAfter=2&uuid=large", gate.at("edge", 80));
    assert_eq!(curl(&["-H", "Expect:", "--data-binary", &argument], &url).status, 500, "it is not kept");
}

/// A server whose connections end before an answer as often as it is told, and which counts requests; it answers `ok` then.
fn flaky(broken: u32) -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let count = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&count);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 4096];
            if matches!(stream.read(&mut request), Ok(length) if length > 0)
                && seen.fetch_add(1, Ordering::SeqCst) >= broken
            {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
            }
        }
    });
    (at, count)
}

/// A service with these endpoints.
fn outside(name: &str, at: &[SocketAddr]) -> String {
    let slices: Vec<String> = at
        .iter()
        .enumerate()
        .map(|(index, at)| {
            format!(
                "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-{index}, labels: {{kubernetes.io/service-name: {name}}}}}\n\
                 addressType: IPv4\nports: [{{port: {}}}]\nendpoints: [{{addresses: [{}]}}]\n---\n",
                at.port(),
                at.ip()
            )
        })
        .collect();
    let service =
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}]}}\n---\n");
    service + &slices.concat()
}

fn to(path: &str, service: &str, rest: &str) -> String {
    format!("  - matches: [{{path: {{value: {path}}}}}]\n    backendRefs: [{{name: {service}, port: 80}}]\n{rest}")
}

/// Connections that fail or break: another endpoint is tried; what may have been done already is not done again unasked.
#[test]
fn by_connection() {
    // Nobody listens here, and the port stays taken.
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (good, _) = flaky(0);
    let (breaks, get) = flaky(1);
    let (breaks_post, post) = flaky(1);
    let (asked, asked_count) = flaky(1);
    let rules = [
        to("/refused", "refused", "    retry: {attempts: 1}\n"),
        to("/breaks", "breaks", "    retry: {attempts: 1}\n"),
        to("/post", "post", "    retry: {attempts: 1}\n"),
        to("/asked", "asked", "    retry: {attempts: 1, codes: [502]}\n"),
        to("/without", "refused", ""),
    ];
    let text = [
        outside("refused", &[nobody, good]),
        outside("breaks", &[breaks]),
        outside("post", &[breaks_post]),
        outside("asked", &[asked]),
        http(&rules.concat()),
    ];
    let gate = Gate::of(&[("all.yaml", &text.concat())]);
    let ask = |path: &str, arguments: &[&str]| curl(arguments, &format!("http://{}{path}", gate.at("edge", 80))).status;
    // HTTPRouteRetryConnectionError
    for _ in 0..10 {
        assert_eq!(ask("/refused", &[]), 200);
        assert_eq!(ask("/refused", &["-d", "x"]), 200, "nothing was sent: whatever the method");
    }
    let without: Vec<u16> = (0..10).map(|_| ask("/without", &[])).collect();
    assert!(without.contains(&503) && without.contains(&200), "{without:?}");
    assert_eq!((ask("/breaks", &[]), get.load(Ordering::SeqCst)), (200, 2));
    assert_eq!((ask("/post", &["-d", "x"]), post.load(Ordering::SeqCst)), (502, 1), "it may have been done");
    assert_eq!((ask("/asked", &["-d", "x"]), asked_count.load(Ordering::SeqCst)), (200, 2), "the route names 502");
}

/// A budget bounds how many of the requests may be retries; beyond it a request gets a 503.
#[test]
fn budget() {
    let policy = "apiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackendTrafficPolicy\nmetadata: {name: one}\n\
                  spec: {targetRefs: [{group: '', kind: Service, name: one}], retryConstraint: {budget: {percent: 0, interval: 1h}, minRetryRate: {count: 2, interval: 1h}}}\n---\n";
    let rules = rule("/retry", "    retry: {codes: [500], attempts: 1}\n");
    let gate = Gate::of(&[("all.yaml", &[&app("one"), policy, &http(&rules)].concat())]);
    // One worker serves a connection: all requests go over one.
    let at = gate.at("edge", 80);
    let requests: Vec<String> = (0..4)
        .map(|number| {
            format!(
                "GET /retry?responseCode=500&succeedAfter=1&uuid=b{number} HTTP/1.1\r\nHost: a\r\n{}\r\n",
                if number == 3 { "Connection: close\r\n" } else { "" }
            )
        })
        .collect();
    let answers = crate::bed::raw(at, &requests.concat());
    let statuses: Vec<&str> = answers.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")).collect();
    let statuses: Vec<&str> = statuses.iter().map(|line| &line[..3]).collect();
    assert_eq!(statuses, ["200", "200", "503", "503"], "{answers}");
    assert!(answers.contains("retry_budget_exhausted"));
}
