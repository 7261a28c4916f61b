//! Bounds on what the gate has open towards a back end, and requests whose clients are gone.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    backend::{self, request, serve, service},
    bed::{Answer, Gate, PATIENCE, http, parse, until},
};

/// A back end that answers no request before it is told to, and what it has seen.
#[derive(Clone)]
struct Held {
    at: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    open: AtomicUsize,
    most: AtomicUsize,
    requests: AtomicUsize,
    told: Mutex<bool>,
    telling: Condvar,
}

impl Held {
    fn start() -> Self {
        let seen = Arc::<Seen>::default();
        let of = Arc::clone(&seen);
        let at = serve(move |mut stream| {
            let open = of.open.fetch_add(1, Ordering::SeqCst) + 1;
            of.most.fetch_max(open, Ordering::SeqCst);
            let mut read = Vec::new();
            while request(&mut stream, &mut read).is_some() {
                of.requests.fetch_add(1, Ordering::SeqCst);
                if !of.answer(&mut stream) {
                    break;
                }
            }
            of.open.fetch_sub(1, Ordering::SeqCst);
        });
        Self { at, seen }
    }

    fn release(&self) {
        *self.seen.told.lock().unwrap() = true;
        self.seen.telling.notify_all();
    }

    fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }
}

impl Seen {
    /// Waits until it is told to answer, or the client is gone: then false.
    fn answer(&self, stream: &mut TcpStream) -> bool {
        stream.set_read_timeout(Some(std::time::Duration::from_millis(5))).unwrap();
        let mut told = self.told.lock().unwrap();
        while !*told {
            told = self.telling.wait_timeout(told, std::time::Duration::from_millis(5)).unwrap().0;
            match stream.peek(&mut [0]) {
                Ok(0) => return false,
                Err(error) if !matches!(error.kind(), std::io::ErrorKind::WouldBlock) => return false,
                Ok(_) | Err(_) => {}
            }
        }
        drop(told);
        stream.set_read_timeout(None).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
    }
}

fn gate(held: &Held, arguments: &[&str]) -> Gate {
    let manifests = service("one", held.at) + &http("  - backendRefs: [{name: one, port: 8080}]\n");
    Gate::alone(&[("all.yaml", &manifests)], &[&["--workers", "1"], arguments].concat())
}

/// A client that has sent a request.
fn asking(at: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    stream
}

fn answer(stream: &mut TcpStream) -> Answer {
    let mut text = String::new();
    let mut piece = [0; 4096];
    while !text.contains("\r\n\r\n") {
        let length = stream.read(&mut piece).unwrap();
        assert!(length > 0, "closed after {text:?}");
        text += &String::from_utf8_lossy(&piece[..length]);
    }
    parse(&text)
}

/// Requests beyond the connections that may be wait for one, and each is answered.
#[test]
pub(crate) fn backend_connections() {
    let held = Held::start();
    let gate = gate(&held, &["--limit", "backend-connections=2"]);
    let mut clients: Vec<_> = (0..8).map(|_| asking(gate.at("edge", 80))).collect();
    until("two requests at the back end", || held.requests() == 2);
    held.release();
    for client in &mut clients {
        assert_eq!(answer(client).status, 200);
    }
    assert_eq!((held.seen.most.load(Ordering::SeqCst), held.requests()), (2, 8));
}

/// A connection that ends without an answer makes room as well. The back end may see the next one before it sees that end.
#[test]
pub(crate) fn backend_connections_that_end() {
    let held = Held::start();
    let gate = gate(&held, &["--limit", "backend-connections=1"]);
    let first = asking(gate.at("edge", 80));
    until("a request at the back end", || held.requests() == 1);
    let mut second = asking(gate.at("edge", 80));
    drop(first);
    until("the other request at the back end", || held.requests() == 2);
    held.release();
    assert_eq!(answer(&mut second).status, 200);
}

/// Connections that are passed on do not wait: those beyond the limit are closed.
#[test]
pub(crate) fn backend_connections_of_tcp() {
    const TCP: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: strait, listeners: [{name: tcp, port: 5432, protocol: TCP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: tcp}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: bytes, port: 8080}]}]}
";
    let beside = tempfile::tempdir().unwrap();
    let log = beside.path().join("log");
    let manifests = service("bytes", backend::bytes()) + TCP;
    let arguments = ["--workers", "1", "--limit", "backend-connections=1", "--access-log-file", log.to_str().unwrap()];
    let gate = Gate::alone(&[("all.yaml", &manifests)], &arguments);
    let say = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(b"hello");
        let mut back = [0; 5];
        stream.read_exact(&mut back).is_ok()
    };
    let mut first = TcpStream::connect(gate.at("edge", 5432)).unwrap();
    assert!(say(&mut first));
    let mut second = TcpStream::connect(gate.at("edge", 5432)).unwrap();
    assert!(!say(&mut second) && say(&mut first));
    until("a line", || std::fs::read_to_string(&log).unwrap().contains(" UO "));
    drop(first);
    until("room", || say(&mut TcpStream::connect(gate.at("edge", 5432)).unwrap()));
}

/// Requests beyond those that may wait are refused at once, and told to come again; those that wait are answered.
#[test]
pub(crate) fn pending_requests() {
    let held = Held::start();
    let beside = tempfile::tempdir().unwrap();
    let log = beside.path().join("log");
    let limits = ["--limit", "backend-connections=1", "--limit", "pending-requests=2"];
    let gate = gate(&held, &[&limits[..], &["--access-log-file", log.to_str().unwrap()]].concat());
    let at = gate.at("edge", 80);
    let mut first = asking(at);
    until("a request at the back end", || held.requests() == 1);
    let waiting: Vec<_> = (0..2).map(|_| asking(at)).collect();
    // Which of all come first is not certain: two wait, and the others do not.
    let refused = std::thread::scope(|scope| {
        let more: Vec<_> = (0..6).map(|_| asking(at)).collect();
        let all = waiting.into_iter().chain(more);
        let (send, receive) = std::sync::mpsc::channel();
        for mut stream in all {
            let send = send.clone();
            scope.spawn(move || send.send(answer(&mut stream)));
        }
        let refused: Vec<_> = (0..6).map(|_| receive.recv_timeout(PATIENCE).unwrap()).collect();
        held.release();
        let served: Vec<_> = (0..2).map(|_| receive.recv_timeout(PATIENCE).unwrap().status).collect();
        assert_eq!(served, [200, 200]);
        refused
    });
    for answer in refused {
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        assert!(answer.body.is_empty() || answer.body.contains("upstream_overflow"), "{answer:?}");
    }
    assert_eq!(answer(&mut first).status, 200);
    until("lines", || std::fs::read_to_string(&log).unwrap().matches(" UO upstream_overflow").count() == 6);
}
