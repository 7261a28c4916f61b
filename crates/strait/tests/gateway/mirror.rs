//! Copies of requests, and protocols that connections go over to.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::bed::{Gate, PATIENCE, app, curl, http, raw};

/// A service with this one endpoint.
fn at(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}\n\
         addressType: IPv4\nports: [{{port: {port}}}]\nendpoints: [{{addresses: [127.0.0.1]}}]\n---\n"
    )
}

/// A server that answers each connection with `answer` once it read a head and `body` bytes, and tells what it read.
fn server(answer: &'static [u8], body: usize) -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (send, received) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut text = String::new();
            while !text.ends_with("\r\n\r\n") && reader.read_line(&mut text).is_ok_and(|length| length > 0) {}
            let mut rest = vec![0; body];
            if reader.read_exact(&mut rest).is_ok() {
                let _ = (&stream).write_all(answer);
                let _ = send.send(text + &String::from_utf8_lossy(&rest));
            }
        }
    });
    (port, received)
}

/// The copy has the body too, and what becomes of it does not matter to the client.
#[test]
fn copies() {
    let (port, received) = server(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", 5);
    let rules = "  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 80}}}]\n    backendRefs: [{name: one, port: 8080}]\n";
    let gate = Gate::of(&[("all.yaml", &format!("{}{}{}", app("one"), at("copy", port), http(rules)))]);
    let answer = curl(&["-d", "hello"], &format!("http://{}/x?y", gate.at("edge", 80)));
    assert_eq!((answer.status, answer.pod().as_str()), (200, "one-0"));
    let copy = received.recv_timeout(PATIENCE).unwrap();
    assert!(copy.starts_with("POST /x?y HTTP/1.1\r\n") && copy.ends_with("\r\n\r\nhello"), "{copy}");
    // A client that waits for its go gets it before the body is read for the copy.
    let mut stream = TcpStream::connect(gate.at("edge", 80)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"POST /x?y HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").unwrap();
    let mut go = [0; 25];
    stream.read_exact(&mut go).unwrap();
    assert_eq!(&go, b"HTTP/1.1 100 Continue\r\n\r\n");
}

/// A back end that closes a kept connection is asked again over another one, but only for what may be asked twice.
#[test]
fn kept_connections_that_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (send, received) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            // Answers the first request of a connection, reads the second, and is gone.
            for answer in [&b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"[..], b""] {
                let mut text = String::new();
                while !text.ends_with("\r\n\r\n") && reader.read_line(&mut text).is_ok_and(|length| length > 0) {}
                if !text.is_empty() {
                    let _ = send.send(text);
                }
                let _ = (&stream).write_all(answer);
            }
        }
    });
    let rules = "  - backendRefs: [{name: brief, port: 80}]\n";
    let gate = Gate::of(&[("all.yaml", &format!("{}{}", at("brief", port), http(rules)))]);
    let mut stream = TcpStream::connect(gate.at("edge", 80)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // One connection of the client, so that one worker serves all of it.
    for (request, status, arrivals) in [("GET", "200", 1), ("GET", "200", 2), ("POST", "502", 1)] {
        stream.write_all(format!("{request} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").as_bytes()).unwrap();
        for _ in 0..arrivals {
            assert!(received.recv_timeout(PATIENCE).unwrap().starts_with(request));
        }
        let mut room = [0; 1024];
        let length = stream.read(&mut room).unwrap();
        let answer = String::from_utf8_lossy(&room[..length]).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
    }
    assert!(received.try_recv().is_err(), "a POST was sent twice");
}

/// After `101 Switching Protocols` bytes go both ways.
#[test]
fn upgrades() {
    let switched = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfirst";
    let (port, received) = server(switched, 0);
    let rules = "  - backendRefs: [{name: chat, port: 80}]\n";
    let gate = Gate::of(&[("all.yaml", &format!("{}{}", at("chat", port), http(rules)))]);
    let place = gate.at("edge", 80);
    let mut stream = TcpStream::connect(place).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").unwrap();
    let mut text = Vec::new();
    let mut room = [0; 1024];
    while !text.ends_with(b"first") {
        let length = stream.read(&mut room).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&room[..length]);
    }
    assert!(text.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"));
    assert!(received.recv_timeout(PATIENCE).unwrap().contains("upgrade: websocket"));
    // Nobody asked for it: what comes back is no answer.
    let answer = raw(place, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
}
