//! Connections to back ends that requests share, and WebSocket over HTTP/2.

use std::{
    cell::Cell,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, ext::Protocol, server::SendResponse};
use http::{HeaderMap, Method, Request, Response};

use crate::{
    bed::{Gate, PATIENCE, http},
    h2::{H2C, outside},
    h2_server::{ask, connect, run},
};

type Asked = (Request<RecvStream>, SendResponse<Bytes>);

/// A server of HTTP/2 with prior knowledge; each request goes to `serve`, with a number that counts connections.
fn server<F: Future<Output = ()> + 'static>(
    builder: h2::server::Builder,
    serve: impl Fn(usize, Asked) -> F + Send + Copy + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        run(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let mut count = 0;
            while let Ok((stream, _)) = listener.accept().await {
                count += 1;
                let (builder, number) = (builder.clone(), count);
                tokio::task::spawn_local(async move {
                    let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
                    while let Some(Ok(asked)) = connection.accept().await {
                        tokio::task::spawn_local(serve(number, asked));
                    }
                });
            }
        });
    });
    at
}

/// A gateway whose requests all go to one service.
fn to(service: &str) -> String {
    http(&format!("  - backendRefs: [{{name: {service}, port: 80}}]\n"))
}

fn gate(at: SocketAddr) -> Gate {
    Gate::of(&[("all.yaml", &format!("{}{}", outside("two", at, H2C), to("two")))])
}

/// A request that a back end says it did not process is sent again, whatever its method, with its body.
#[test]
fn refused_streams() {
    thread_local!(static REFUSED: Cell<usize> = const { Cell::new(0) });
    let at = server(h2::server::Builder::new(), |_, (request, mut respond)| async move {
        if REFUSED.get() < 2 {
            REFUSED.set(REFUSED.get() + 1);
            return respond.send_reset(Reason::REFUSED_STREAM);
        }
        let mut body = request.into_body();
        let mut all = Vec::new();
        while let Some(Ok(data)) = body.data().await {
            all.extend_from_slice(&data);
        }
        let mut out = respond.send_response(Response::new(()), false).unwrap();
        out.send_data(Bytes::from(all), true).unwrap();
    });
    let gate = gate(at);
    let answer = run(async {
        let (send, _connection) = connect(gate.at("edge", 80)).await;
        let request = Request::post("http://a.example/").body(()).unwrap();
        ask(&send, request, Bytes::from_static(b"hello"), HeaderMap::new()).await.unwrap()
    });
    assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
}

/// Requests share connections as far as the back end allows, and more are opened where that is not enough.
#[test]
fn concurrent_streams() {
    static OPEN: AtomicUsize = AtomicUsize::new(0);
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(2);
    let at = server(builder, |number, (_, mut respond)| async move {
        OPEN.fetch_add(1, Ordering::Relaxed);
        // All of them are here at once, before any is answered.
        while OPEN.load(Ordering::Relaxed) < 5 {
            tokio::task::yield_now().await;
        }
        let response = Response::builder().header("x-connection", number).body(()).unwrap();
        respond.send_response(response, true).unwrap();
    });
    let gate = gate(at);
    let mut numbers = run(async {
        let (send, _connection) = connect(gate.at("edge", 80)).await;
        let all: Vec<_> = (0..5)
            .map(|_| {
                let (send, request) = (send.clone(), Request::get("http://a.example/").body(()).unwrap());
                tokio::task::spawn_local(async move { ask(&send, request, Bytes::new(), HeaderMap::new()).await })
            })
            .collect();
        let mut numbers = Vec::new();
        for one in all {
            let answer = one.await.unwrap().unwrap();
            numbers.push(answer.headers["x-connection"].to_str().unwrap().to_owned());
        }
        numbers
    });
    numbers.sort();
    for number in &numbers {
        let together = numbers.iter().filter(|other| *other == number).count();
        assert!(together <= 2, "{numbers:?}");
    }
    numbers.dedup();
    assert!(numbers.len() >= 3, "{numbers:?}");
}

/// Interim responses of a back end go on to clients that know them, in their order and before the one that counts.
#[test]
fn early_hints() {
    let at = server(h2::server::Builder::new(), |_, (_, mut respond)| async move {
        for (status, link) in [(100, "</none>"), (103, "</a>"), (103, "</b>")] {
            let interim = Response::builder().status(status).header("link", link).body(()).unwrap();
            respond.send_informational(interim).unwrap();
        }
        respond.send_response(Response::new(()), false).unwrap().send_data(Bytes::from_static(b"ok"), true).unwrap();
    });
    let gate = gate(at);
    for (version, expected) in [
        ("--http1.1", &["HTTP/1.1 103", "link: </a>", "HTTP/1.1 103", "link: </b>", "HTTP/1.1 200"][..]),
        ("--http2-prior-knowledge", &["HTTP/2 103", "link: </a>", "HTTP/2 103", "link: </b>", "HTTP/2 200"]),
        // HTTP/1.0 has none (RFC 9110, 15.2).
        ("--http1.0", &["HTTP/1.1 200"]),
    ] {
        let asked = std::process::Command::new("curl")
            .args(["-s", "-i", "--max-time", "20", version, &format!("http://{}/", gate.at("edge", 80))])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&asked.stdout).into_owned();
        let said: Vec<_> = text.lines().filter(|line| line.starts_with("HTTP/") || line.starts_with("link")).collect();
        assert_eq!(said.len(), expected.len(), "{version}: {text}");
        for (line, expected) in said.iter().zip(expected) {
            assert!(line.starts_with(expected), "{version}: {text}");
        }
        assert!(text.ends_with("\r\n\r\nok") || text.contains("\r\n2\r\nok\r\n"), "{version}: {text:?}");
    }
}

/// Trailers behind a body whose length was told have no place in HTTP/1 (RFC 9112, 7.1.2), which goes on without them, as with Envoy;
/// clients of HTTP/2 get them.
#[test]
fn trailers_behind_a_length() {
    let at = server(h2::server::Builder::new(), |_, (_, mut respond)| async move {
        let response = Response::builder().header("content-length", 2).body(()).unwrap();
        let mut out = respond.send_response(response, false).unwrap();
        out.send_data(Bytes::from_static(b"ok"), false).unwrap();
        let trailers = [(::http::HeaderName::from_static("x-sum"), ::http::HeaderValue::from_static("42"))];
        out.send_trailers(trailers.into_iter().collect()).unwrap();
    });
    let gate = gate(at);
    let mut stream = TcpStream::connect(gate.at("edge", 80)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The second answer is where it belongs: nothing of the trailers is before it.
    let request = |last: &str| format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {last}\r\n\r\n");
    stream.write_all((request("keep-alive") + &request("close")).as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let answers: Vec<_> = text.split_inclusive("\r\n\r\nok").collect();
    assert_eq!(answers.len(), 2, "{text}");
    for answer in answers {
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("content-length: 2\r\n"), "{text}");
        assert!(!answer.contains("x-sum") && !answer.contains("transfer-encoding"), "{text}");
    }
    let answer = run(async {
        let (send, _connection) = connect(gate.at("edge", 80)).await;
        let request = Request::get("http://a.example/").body(()).unwrap();
        ask(&send, request, Bytes::new(), HeaderMap::new()).await.unwrap()
    });
    assert_eq!((answer.status, &answer.body[..], &answer.headers["content-length"]), (200, &b"ok"[..], &2.into()));
    assert_eq!(answer.trailers["x-sum"], "42");
}

/// A server of HTTP/1 that takes every upgrade, and sends its bytes back.
fn switching() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut text = String::new();
                while !text.ends_with("\r\n\r\n") && reader.read_line(&mut text).is_ok_and(|length| length > 0) {}
                let asked = text.starts_with("GET /one HTTP/1.1\r\n")
                    && text.contains("upgrade: websocket\r\n")
                    && text.lines().any(|line| line.starts_with("sec-websocket-key: ") && line.len() == 19 + 24);
                let answer: &[u8] = if asked {
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
                } else {
                    b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"
                };
                (&stream).write_all(answer).unwrap();
                let _ = std::io::copy(&mut reader, &mut &stream);
            });
        }
    });
    at
}

/// A server of HTTP/2 that takes `WebSocket`s, and sends their bytes back.
pub(crate) fn echo_of_websockets() -> SocketAddr {
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol();
    server(builder, |_, (request, mut respond)| async move {
        assert_eq!(request.extensions().get::<Protocol>().unwrap().as_str(), "websocket");
        // The handshake of HTTP/1 is between the client and the gate (RFC 8441, 5).
        assert!(!request.headers().contains_key("sec-websocket-key"), "{:?}", request.headers());
        assert_eq!(request.headers()["sec-websocket-version"], "13");
        let mut body = request.into_body();
        let mut out = respond.send_response(Response::new(()), false).unwrap();
        while let Some(Ok(data)) = body.data().await {
            body.flow_control().release_capacity(data.len()).unwrap();
            out.send_data(data, false).unwrap();
        }
        out.send_data(Bytes::new(), true).unwrap();
    })
}

/// What comes after extended CONNECT goes both ways, to back ends of either version, and ends when a side ends it.
#[test]
fn websockets() {
    let two = echo_of_websockets();
    let rules = "  - matches: [{path: {value: /two}}]\n    backendRefs: [{name: two, port: 80}]\n  \
                 - backendRefs: [{name: one, port: 80}]\n";
    let gate = Gate::of(&[(
        "all.yaml",
        &format!("{}{}{}", outside("one", switching(), ""), outside("two", two, H2C), http(rules)),
    )]);
    run(async {
        let (send, _connection) = connect(gate.at("edge", 80)).await;
        for path in ["/one", "/two"] {
            let mut ready = send.clone().ready().await.unwrap();
            // The gate's settings say that it takes this.
            while !ready.is_extended_connect_protocol_enabled() {
                tokio::task::yield_now().await;
            }
            let request = Request::builder()
                .method(Method::CONNECT)
                .uri(format!("http://a.example{path}"))
                .header("sec-websocket-version", "13")
                .extension(Protocol::from_static("websocket"))
                .body(())
                .unwrap();
            let (response, mut out) = ready.send_request(request, false).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200, "{path}: {response:?}");
            assert!(!response.headers().contains_key("sec-websocket-accept"), "{response:?}");
            let mut body = response.into_body();
            for text in ["hello", "again"] {
                let echoed = say(&mut out, &mut body, text).await;
                assert!(echoed.ends_with(text.as_bytes()), "{path}: {echoed:?}");
            }
            out.send_data(close(), true).unwrap();
            while let Some(data) = body.data().await {
                body.flow_control().release_capacity(data.unwrap().len()).unwrap();
            }
        }
    });
}

/// A client of HTTP/1 has its key answered, whichever version the back end speaks.
#[test]
fn websocket_of_http1() {
    let gate = Gate::of(&[("all.yaml", &format!("{}{}", outside("two", echo_of_websockets(), H2C), to("two")))]);
    let mut stream = TcpStream::connect(gate.at("edge", 80)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The example of RFC 6455, 1.3.
    stream
        .write_all(
            b"GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for line in ["connection: upgrade", "upgrade: websocket", "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="] {
        assert!(head.lines().any(|other| other == line), "no {line} in {head}");
    }
    assert!(!head.contains("transfer-encoding") && !head.contains("content-length"), "{head}");
    let frame = [&[0x81, 0x85, 0, 0, 0, 0][..], b"hello"].concat();
    stream.write_all(&frame).unwrap();
    let mut echoed = vec![0; frame.len()];
    reader.read_exact(&mut echoed).unwrap();
    assert_eq!(echoed, frame);
}

/// Sends a text as one frame, which is masked with nothing, and gives what comes back.
async fn say(out: &mut SendStream<Bytes>, body: &mut RecvStream, text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    let frame = [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat();
    out.send_data(Bytes::from(frame), false).unwrap();
    let mut echoed = Vec::new();
    while !echoed.ends_with(text.as_bytes()) {
        let data = body.data().await.unwrap().unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        echoed.extend_from_slice(&data);
    }
    echoed
}

fn close() -> Bytes {
    Bytes::from_static(&[0x88, 0x80, 0, 0, 0, 0])
}
