//! Each limit bites, and others are served meanwhile.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use ::http::HeaderMap;
use bytes::Bytes;

use crate::{
    backend::{self, service},
    bed::{Gate, PATIENCE, curl, http, parse, raw},
    floods,
    h2_server::{self, run},
    l4, outbound,
};

fn gate(arguments: &[&str]) -> Gate {
    let manifests = service("one", backend::http().0) + &http("  - backendRefs: [{name: one, port: 8080}]\n");
    Gate::alone(&[("all.yaml", &manifests)], arguments)
}

pub(crate) fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Asks on a connection; gives the status, none where it is closed.
fn status(stream: &mut TcpStream) -> Option<u16> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer).ok().filter(|length| *length > 0)?;
    Some(parse(&String::from_utf8_lossy(&answer[..length])).status)
}

fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 4096]), Ok(0) | Err(_))
}

/// Memory of a process that is resident, in KiB.
pub(crate) fn resident(gate: &Gate) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// Tests with their names.
macro_rules! tests {
    ($($test:path),*) => { &[$(($test as fn(), stringify!($test))),*] };
}

/// Every limit has its case here, a test that sets it; what is not named cannot be set.
#[test]
fn every_limit_bites() {
    type Tests = &'static [(fn(), &'static str)];
    let cases: &[(&str, Tests)] = &[
        ("header-bytes", tests!(heads)),
        ("header-count", tests!(heads)),
        ("target-bytes", tests!(heads)),
        ("header-time", tests!(slow)),
        ("idle", tests!(slow)),
        ("body-rate", tests!(slow_bodies, floods::slow_bodies)),
        ("body-rate-time", tests!(slow_bodies, floods::slow_bodies)),
        ("tunnel-idle", tests!(tunnel_idle)),
        ("udp-idle", tests!(l4::datagrams)),
        ("udp-sessions", tests!(l4::datagrams)),
        ("connection-age", tests!(connection_age, connection_age_of_http2, connection_age_of_idle_http2)),
        ("streams", tests!(floods::streams)),
        ("continuation-frames", tests!(floods::continuations)),
        ("stream-resets", tests!(floods::floods)),
        ("provoked-resets", tests!(floods::floods)),
        ("control-frames", tests!(floods::floods)),
        ("empty-frames", tests!(floods::floods)),
        ("connections", tests!(connections)),
        ("listener-connections", tests!(connections)),
        ("client-connections", tests!(connections)),
        ("connection-rate", tests!(connection_rate)),
        ("backend-connections", tests!(outbound::backend_connections, outbound::backend_connections_of_tcp)),
        ("pending-requests", tests!(outbound::pending_requests)),
        ("memory", tests!(memory, memory_on_open_connections)),
        ("body-buffer", tests!(body_buffer)),
        ("mirrors", tests!(mirrors)),
    ];
    let tried: Vec<_> = cases.iter().map(|(name, _)| *name).collect();
    let all: Vec<_> = strait_proxy::LIMITS.iter().map(|limit| limit.name).collect();
    assert_eq!(tried, all);
    for (limit, tests) in cases {
        assert!(!tests.is_empty(), "{limit}");
        for (_, name) in *tests {
            let (text, function) = match name.split_once("::") {
                None => (include_str!("limits.rs"), *name),
                Some(("floods", function)) => (include_str!("floods.rs"), function),
                Some(("l4", function)) => (include_str!("l4.rs"), function),
                Some(("outbound", function)) => (include_str!("outbound.rs"), function),
                Some((file, _)) => panic!("{name}: no text of {file}.rs"),
            };
            let at = text.find(&format!("fn {function}() {{")).unwrap_or_else(|| panic!("{name}: no function"));
            let attributes = text[..at].rsplit("\n\n").next().unwrap_or_default();
            assert!(attributes.contains("#[test]") && !attributes.contains("#[ignore"), "{name} is no test");
            let body = text[at..].split("\n}\n").next().unwrap_or_default();
            // Floods are a table beside their test.
            let set = if body.contains("in FLOODS") { text } else { body };
            assert!(set.contains(&format!("{limit}=")), "{name} does not set {limit}");
        }
    }
}

/// Heads beyond their limits, by what is set: the status of the request.
#[test]
fn heads() {
    let cases = [
        ("header-bytes=1KiB", format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(1024)), 431),
        ("header-count=3", "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n".into(), 431),
        ("target-bytes=16", "GET /0123456789abcdef HTTP/1.1\r\nHost: a\r\n\r\n".into(), 414),
    ];
    for (limit, request, expected) in cases {
        let gate = gate(&["--limit", limit]);
        assert_eq!(parse(&raw(gate.at("edge", 80), &request)).status, expected, "{limit}");
        assert_eq!(curl(&["-A", "", "-H", "Accept:"], &format!("http://{}/", gate.at("edge", 80))).status, 200);
    }
}

/// Who takes too long is let go: between requests, amid a head, amid a body, and while an answer is to be read. Ten times as many as may
/// be open wait meanwhile, and one that does not is served.
#[test]
fn slow() {
    let cases = [
        ("header-time=300ms", &b"GET / HTTP/1.1\r\nHost: a\r\nX: "[..]),
        ("idle=300ms", b""),
        ("idle=300ms", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\npart"),
        ("idle=300ms", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\npa"),
    ];
    for (limit, sent) in cases {
        let gate = gate(&["--limit", limit]);
        let at = gate.at("edge", 80);
        let mut slow: Vec<_> = (0..200).map(|_| connect(at)).collect();
        for stream in &mut slow {
            stream.write_all(sent).unwrap();
        }
        assert_eq!(curl(&[], &format!("http://{at}/")).status, 200, "{limit}");
        for stream in &mut slow {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            let status = parse(&String::from_utf8_lossy(&rest)).status;
            // Whose head is not all there is not answered; whose body is not is told.
            let expected = if sent.starts_with(b"POST") { 408 } else { 0 };
            assert_eq!(status, expected, "{limit}: {}", String::from_utf8_lossy(&rest));
        }
        assert!(resident(&gate) < 100 << 10, "{} KiB", resident(&gate));
    }
}

/// A body that comes all the time, but by too little, is let go as one that stands still; one that is fast enough is not, nor one whose
/// back end is slow.
#[test]
fn slow_bodies() {
    let limits = ["--limit", "body-rate=1000", "--limit", "body-rate-time=500ms"];
    let manifests = service("one", backend::http().0) + &http("  - backendRefs: [{name: one, port: 8080}]\n");
    let gate = Gate::alone(&[("all.yaml", &manifests)], &limits);
    let at = gate.at("edge", 80);
    let heads = ["Content-Length: 100000", "Transfer-Encoding: chunked"];
    for (head, piece) in heads.iter().zip([&b"x"[..], b"1\r\nx\r\n"]) {
        let mut slow = connect(at);
        slow.write_all(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n").as_bytes()).unwrap();
        slow.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
        let deadline = jiff::Timestamp::now() + PATIENCE;
        let mut answer = [0; 4096];
        let length = loop {
            let _ = slow.write_all(piece);
            match slow.read(&mut answer) {
                Ok(length) => break length,
                Err(_) => assert!(jiff::Timestamp::now() < deadline, "{head}: it may take for ever"),
            }
        };
        let text = String::from_utf8_lossy(&answer[..length]).into_owned();
        assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("request_body_too_slow"), "{head}: {text}");
    }
    let mut fair = connect(at);
    fair.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\nConnection: close\r\n\r\n").unwrap();
    fair.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
    for _ in 0..40 {
        // Some 25,000 bytes a second at most, for more than one period.
        fair.write_all(&[b'x'; 500]).unwrap();
        let _ = fair.peek(&mut [0]);
    }
    fair.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    fair.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// A connection that is only passed on may stand still for so long.
#[test]
fn tunnel_idle() {
    let tcp = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge}\n\
               spec: {gatewayClassName: strait, listeners: [{name: tcp, port: 5432, protocol: TCP}]}\n---\n\
               apiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\nmetadata: {name: tcp}\n\
               spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: bytes, port: 8080}]}]}\n";
    let manifests = service("bytes", backend::bytes()) + tcp;
    let gate = Gate::alone(&[("all.yaml", &manifests)], &["--limit", "tunnel-idle=300ms"]);
    let mut stream = connect(gate.at("edge", 5432));
    for _ in 0..3 {
        stream.write_all(b"hello").unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
    }
    assert!(is_closed(&mut stream));
}

/// A body that is too large is not held back for a copy; it goes on all the same.
#[test]
fn body_buffer() {
    let (at, recorded) = backend::http();
    let rules = "  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 8080}}}]\n    backendRefs: [{name: one, port: 8080}]\n";
    let manifests = service("one", backend::http().0) + &service("copy", at) + &http(rules);
    let gate = Gate::alone(&[("all.yaml", &manifests)], &["--limit", "body-buffer=1KiB"]);
    let url = |path: &str| format!("http://{}{path}", gate.at("edge", 80));
    for (path, length) in [("/small", 1000), ("/large", 3000), ("/last", 10)] {
        assert_eq!(curl(&["-d", &"x".repeat(length)], &url(path)).status, 200, "{path}");
    }
    let copied = || String::from_utf8_lossy(&recorded.lock().unwrap()).into_owned();
    crate::bed::until("the last copy", || copied().contains("POST /last "));
    assert!(!copied().contains("POST /large "), "{}", copied());
    crate::bed::until("the first copy", || copied().contains("POST /small "));
}

/// Copies beyond those that may be under way are left out.
#[test]
fn mirrors() {
    let (send, seen) = std::sync::mpsc::channel();
    let send = std::sync::Mutex::new(send);
    let copies = backend::serve(move |mut stream| {
        let send = send.lock().unwrap().clone();
        let mut read = Vec::new();
        while let Some((head, _)) = backend::request(&mut stream, &mut read) {
            // It never answers: the copy is under way as long as the test is.
            send.send(String::from_utf8_lossy(&head).into_owned()).unwrap();
        }
    });
    let rules = "  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 8080}}}]\n    backendRefs: [{name: one, port: 8080}]\n";
    let manifests = service("one", backend::http().0) + &service("copy", copies) + &http(rules);
    let gate = Gate::alone(&[("all.yaml", &manifests)], &["--workers", "1", "--limit", "mirrors=1"]);
    assert_eq!(curl(&[], &format!("http://{}/first", gate.at("edge", 80))).status, 200);
    assert!(seen.recv_timeout(PATIENCE).unwrap().starts_with("GET /first "));
    for _ in 0..5 {
        assert_eq!(curl(&[], &format!("http://{}/more", gate.at("edge", 80))).status, 200);
    }
    assert!(seen.try_recv().is_err());
}

/// Connections beyond a limit are told to come again, and as one ends another one is taken.
#[test]
fn connections() {
    for limit in ["connections=4", "listener-connections=4", "client-connections=4"] {
        let gate = gate(&["--limit", limit]);
        let at = gate.at("edge", 80);
        let mut open: Vec<_> = (0..4).map(|_| connect(at)).collect();
        for stream in &mut open {
            assert_eq!(status(stream), Some(200), "{limit}");
        }
        for _ in 0..20 {
            let answer = parse(&raw(at, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{limit}");
            assert_eq!(answer.header("connection"), Some("close"));
        }
        assert_eq!(status(&mut open[0]), Some(200), "{limit}: others are served meanwhile");
        drop(open.pop());
        let deadline = jiff::Timestamp::now() + PATIENCE;
        loop {
            let mut next = connect(at);
            if status(&mut next) == Some(200) {
                break;
            }
            assert!(jiff::Timestamp::now() < deadline, "{limit}: nobody is taken any more");
        }
        if limit.starts_with("client") {
            // Clients count one by one.
            let other = raw_from("127.0.0.2", at);
            assert!(other.starts_with("HTTP/1.1 200"), "{other}");
        }
    }
}

fn raw_from(source: &str, at: SocketAddr) -> String {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&at.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// A connection that is old ends with a response that says so.
#[test]
fn connection_age() {
    let gate = gate(&["--limit", "connection-age=200ms"]);
    let mut stream = connect(gate.at("edge", 80));
    let deadline = jiff::Timestamp::now() + PATIENCE;
    let last = loop {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut answer = [0; 4096];
        let length = stream.read(&mut answer).unwrap();
        let text = String::from_utf8_lossy(&answer[..length]).into_owned();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        if text.contains("connection: close\r\n") {
            break text;
        }
        assert!(jiff::Timestamp::now() < deadline, "it goes on for ever");
    };
    assert!(is_closed(&mut stream), "{last}");
}

/// One of HTTP/2 goes away, and no request on it is lost.
#[test]
fn connection_age_of_http2() {
    let gate = gate(&["--limit", "connection-age=200ms"]);
    let at = gate.at("edge", 80);
    run(async {
        let stream = tokio::net::TcpStream::connect(at).await.unwrap();
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::task::spawn_local(connection);
        let ended = tokio::time::timeout(PATIENCE, async {
            loop {
                let request = ::http::Request::get("http://a.example/").body(()).unwrap();
                match h2_server::ask(&send, request, Bytes::new(), HeaderMap::new()).await {
                    Ok(answer) => assert_eq!(answer.status, 200),
                    Err(error) => break error,
                }
            }
        });
        let error = ended.await.expect("it goes on for ever");
        assert_eq!((error.is_go_away(), error.reason()), (true, Some(h2::Reason::NO_ERROR)), "{error}");
        drop(send);
        tokio::time::timeout(PATIENCE, connection).await.unwrap().unwrap().unwrap();
    });
}

/// One of HTTP/2 on which nothing happens hears of it too, and so does one with a request that takes its time.
#[test]
fn connection_age_of_idle_http2() {
    use floods::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, POST, Raw, frame};
    let gate = gate(&["--limit", "connection-age=200ms"]);
    let at = gate.at("edge", 80);
    let (mut idle, mut busy) = (Raw::connect(at), Raw::connect(at));
    busy.send(&frame(HEADERS, END_HEADERS, 1, POST));
    for raw in [&mut idle, &mut busy] {
        let (_, said) = raw.until(GOAWAY).expect("a GOAWAY");
        assert_eq!(said, [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0], "requests on their way are still served");
    }
    busy.send(&frame(DATA, END_STREAM, 1, b"x"));
    assert_eq!(busy.until(HEADERS).map(|(stream, _)| stream), Some(1));
}

/// So many connections a second are taken, and the others wait in the backlog.
#[test]
fn connection_rate() {
    let gate = gate(&["--limit", "connection-rate=20", "--workers", "1"]);
    let at = gate.at("edge", 80);
    let start = jiff::Timestamp::now();
    for _ in 0..20 {
        assert!(raw(at, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").starts_with("HTTP/1.1 200"));
    }
    let took = jiff::Timestamp::now().duration_since(start);
    assert!(took.as_millis() > 700, "{took:?}");
}

/// With too little memory left requests are refused, on new connections and on old ones.
#[test]
fn memory() {
    let gate = gate(&["--limit", "memory=1MiB"]);
    let at = gate.at("edge", 80);
    let deadline = jiff::Timestamp::now() + PATIENCE;
    loop {
        let answer = parse(&raw(at, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        if answer.status == 503 {
            assert_eq!(answer.header("retry-after"), Some("1"));
            break;
        }
        assert!(jiff::Timestamp::now() < deadline, "nothing is refused");
    }
}

/// On a connection that was open before memory was short a request is refused, in a way that the next one is not sent there.
#[test]
fn memory_on_open_connections() {
    let idle = gate(&["--workers", "1"]);
    // What such a gate has after its first request, and room for little more.
    let mut warm = connect(idle.at("edge", 80));
    assert_eq!(status(&mut warm), Some(200));
    let most = format!("memory={}KiB", resident(&idle) + (8 << 10));
    drop(idle);
    let gate = gate(&["--workers", "1", "--limit", &most]);
    let at = gate.at("edge", 80);
    let mut open = connect(at);
    assert_eq!(status(&mut open), Some(200));
    let (two, held) = run(async {
        let (send, connection) = h2_server::connect(at).await;
        let request = || ::http::Request::get("http://a.example/").body(()).unwrap();
        let first = h2_server::ask(&send, request(), Bytes::new(), HeaderMap::new()).await.unwrap();
        assert_eq!(first.status, 200);
        // Heads that do not end hold what was read of them.
        let part = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(40 << 10));
        let mut held = Vec::new();
        let deadline = jiff::Timestamp::now() + PATIENCE;
        loop {
            let mut stream = connect(at);
            let _ = stream.write_all(part.as_bytes());
            held.push(stream);
            let answer = h2_server::ask(&send, request(), Bytes::new(), HeaderMap::new()).await.unwrap();
            if answer.status != 200 {
                drop((send, connection));
                break (answer, held);
            }
            assert!(jiff::Timestamp::now() < deadline, "nothing is refused");
        }
    });
    assert_eq!((two.status, &two.headers["retry-after"]), (503, &::http::HeaderValue::from_static("1")));
    open.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    let one = parse(&text);
    assert_eq!((one.status, one.header("retry-after"), one.header("connection")), (503, Some("1"), Some("close")));
    drop(held);
}

/// Without a descriptor left connections are told to come again, the processor does not spin, and later all is well.
#[test]
fn descriptors() {
    let gate = gate(&["--workers", "1", "--limit", "idle=1h"]);
    let at = gate.at("edge", 80);
    let pid = gate.child.id();
    // With it a connection to the back end is there, which the others use in their turn.
    let mut first = connect(at);
    assert_eq!(status(&mut first), Some(200));
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let limit = format!("--nofile={}:{}", open + 10, open + 10);
    let set = std::process::Command::new("prlimit").args([&limit, "--pid", &pid.to_string()]).status().unwrap();
    assert!(set.success());
    let mut held: Vec<_> = (0..40).map(|_| connect(at)).collect();
    let answers: Vec<_> = held.iter_mut().map(status).collect();
    let served = answers.iter().filter(|status| **status == Some(200)).count();
    let refused = answers.iter().filter(|status| matches!(status, Some(503) | None)).count();
    assert!(served > 0 && refused > 10 && served + refused == 40, "{answers:?}");
    // One that was open before goes on.
    assert_eq!(status(&mut first), Some(200));
    held.clear();
    let deadline = jiff::Timestamp::now() + PATIENCE;
    while status(&mut connect(at)) != Some(200) {
        assert!(jiff::Timestamp::now() < deadline, "it does not recover");
    }
}

/// Clients' addresses are believed from those that are named alone, and only as a whole header.
#[test]
fn proxy_protocol() {
    let gate = gate(&["--proxy-protocol-from", "127.0.0.2/32", "--limit", "header-time=300ms"]);
    let at = gate.at("edge", 80);
    let ask = |source: &str, first: &[u8]| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(source.parse().unwrap(), 0).into()).unwrap();
        socket.connect(&at.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // In two pieces, wherever they part.
        let text = [first, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"].concat();
        let (one, two) = text.split_at(first.len() / 2);
        let _ = stream.write_all(one);
        std::thread::yield_now();
        let _ = stream.write_all(two);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x04\xd2\0\x50";
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let cases: [(&str, &[u8], Option<&str>); 7] = [
        ("127.0.0.2", b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 80\r\n", Some("192.0.2.7")),
        ("127.0.0.2", b"PROXY TCP6 2001:db8::7 2001:db8::1 1234 80\r\n", Some("2001:db8::7")),
        ("127.0.0.2", binary, Some("192.0.2.7")),
        ("127.0.0.2", local, Some("127.0.0.2")),
        ("127.0.0.2", b"", None),
        ("127.0.0.2", b"PROXY TCP4 192.0.2.7", None),
        ("127.0.0.1", b"", Some("127.0.0.1")),
    ];
    for (source, first, expected) in cases {
        let answer = ask(source, first);
        let seen = answer
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("x-forwarded-for: ").map(str::to_owned));
        assert_eq!(seen.as_deref(), expected, "{}: {answer}", String::from_utf8_lossy(first));
    }
    // Who is not named sends no request with it.
    let answer = ask("127.0.0.1", b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 80\r\n");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

/// What cannot be a limit is said so, with the names of all.
#[test]
fn wrong() {
    for (limit, expected) in
        [("speed=1", "the limits are header-bytes"), ("idle=5", "a time, as 500ms"), ("idle", "a name and a value")]
    {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_strait"))
            .args(["gateway", "-f", ".", "--limit", limit])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(expected), "{said}");
    }
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_strait")).args(["gateway", "--help"]).output().unwrap();
    assert!(String::from_utf8_lossy(&help.stdout).contains("client-connections=16384"));
}
