//! Clients that go away while their request is under way: the back end hears of it at once, and the log says so.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    sync::{Mutex, mpsc},
};

use crate::{
    backend::{request, serve, service},
    bed::{Gate, PATIENCE, http, until},
    h2,
};

/// What a back end saw: a request's path when it came, and `gone` when its connection ended without an answer.
fn watching(answers: &'static [u8]) -> (std::net::SocketAddr, mpsc::Receiver<String>) {
    let (send, seen) = mpsc::channel();
    let send = Mutex::new(send);
    let at = serve(move |mut stream| {
        let send = send.lock().unwrap().clone();
        let mut read = Vec::new();
        while let Some((head, _)) = request(&mut stream, &mut read) {
            let line = String::from_utf8_lossy(&head).lines().next().unwrap().to_owned();
            send.send(line.split(' ').nth(1).unwrap().to_owned()).unwrap();
            if line.contains("/now") {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
                continue;
            }
            stream.write_all(answers).unwrap();
            assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
            send.send("gone".to_owned()).unwrap();
            return;
        }
    });
    (at, seen)
}

struct Watched {
    gate: Gate,
    seen: mpsc::Receiver<String>,
    log: std::path::PathBuf,
    _beside: tempfile::TempDir,
}

impl Watched {
    fn start(answers: &'static [u8]) -> Self {
        let (at, seen) = watching(answers);
        let beside = tempfile::tempdir().unwrap();
        let log = beside.path().join("log");
        let route = h2::route("HTTPRoute", "route", "  - backendRefs: [{name: one, port: 8080}]\n");
        let manifests = [service("one", at), h2::gateway(), route].concat();
        // Nothing but the client's going ends it.
        let arguments = ["--limit", "idle=1h", "--access-log-file", log.to_str().unwrap()];
        let gate = Gate::alone(&[("all.yaml", &manifests)], &arguments);
        Self { gate, seen, log, _beside: beside }
    }

    fn sees(&self, what: &str) {
        assert_eq!(self.seen.recv_timeout(PATIENCE).unwrap(), what);
    }

    fn logs(&self, what: &str) {
        until(&format!("{what} in the log"), || std::fs::read_to_string(&self.log).unwrap().contains(what));
    }
}

/// Before an answer, amid one, and with a request behind it that nobody will read: over plain connections.
#[test]
fn plain() {
    let amid = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n";
    for (answers, more, logged) in [
        (&b""[..], &b""[..], "\" 0 DC client_disconnected"),
        (b"", b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n", "\" 0 DC client_disconnected"),
        (amid, b"", "\" 200 DC client_disconnected"),
    ] {
        let watched = Watched::start(answers);
        let mut stream = TcpStream::connect(watched.gate.at("edge", 80)).unwrap();
        stream.write_all(&[b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n", more].concat()).unwrap();
        watched.sees("/wait");
        if !answers.is_empty() {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
        }
        drop(stream);
        watched.sees("gone");
        watched.logs(logged);
        assert!(watched.seen.try_recv().is_err(), "nothing else was asked");
    }
}

/// Behind TLS.
#[test]
fn tls() {
    let watched = Watched::start(b"");
    let to = format!("::{}", watched.gate.at("edge", 443));
    let mut client = Command::new("curl")
        .args(["-s", "-k", "--http1.1", "--connect-to", &to, "https://a.example/wait"])
        .spawn()
        .expect("curl is installed");
    watched.sees("/wait");
    client.kill().unwrap();
    client.wait().unwrap();
    watched.sees("gone");
    watched.logs(" DC client_disconnected");
}

/// What a client sends while it waits is not lost: each request is answered, in its order.
#[test]
fn pipelined() {
    let (at, _) = crate::backend::http();
    let manifests = service("one", at) + &http("  - backendRefs: [{name: one, port: 8080}]\n");
    let gate = Gate::alone(&[("all.yaml", &manifests)], &[]);
    let mut stream = TcpStream::connect(gate.at("edge", 80)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    // More than is kept while the first one waits; the last request ends the connection.
    let pad = "y".repeat(8000);
    for index in 0..10 {
        let close = if index == 9 { "Connection: close\r\n" } else { "" };
        let body = "z".repeat(index);
        let length = body.len();
        let head = format!(
            "POST /{index} HTTP/1.1\r\nHost: a\r\nX-Pad: {pad}\r\nContent-Length: {length}\r\n{close}\r\n{body}"
        );
        stream.write_all(head.as_bytes()).unwrap();
    }
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    let asked: Vec<_> = all.lines().filter_map(|line| line.split_once(" HTTP/1.1").map(|(asked, _)| asked)).collect();
    let expected: Vec<_> =
        std::iter::once("GET /slow".to_owned()).chain((0..10).map(|index| format!("POST /{index}"))).collect();
    assert_eq!(asked, expected);
}
