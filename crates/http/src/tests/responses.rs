//! Responses.

use crate::{BodyReader, Framing, Limits, ResponseHead};

fn summary(method: &str, text: &str) -> String {
    let mut head = ResponseHead::default();
    match head.read(text.as_bytes(), method.as_bytes(), &Limits::default()) {
        Ok(true) => {}
        Ok(false) => return "more".into(),
        Err(error) => return error.to_string(),
    }
    let framing = match head.head.framing {
        Framing::None => "nothing".into(),
        Framing::Length(length) => length.to_string(),
        Framing::Chunked => "chunked".into(),
        Framing::UntilClose => "until close".into(),
    };
    let connection = if head.head.keep_alive { "" } else { ", close" };
    let interim = if head.is_interim() { ", interim" } else { "" };
    format!("{} {}: {framing}{connection}{interim}", head.status, head.reason.text(text.as_bytes()))
}

#[test]
fn heads() {
    let cases = [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "200 OK: 5"),
        ("GET", "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\n", "200 : 5"),
        ("GET", "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n", "200 : 5"),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "200 OK: chunked"),
        ("GET", "HTTP/1.1 200 OK\r\n\r\n", "200 OK: until close, close"),
        ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", "200 OK: 5, close"),
        ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", "200 OK: 5"),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "200 OK: nothing"),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "200 OK: nothing"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", "204 No Content: nothing"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "304 Not Modified: nothing"),
        ("POST", "HTTP/1.1 100 Continue\r\n\r\n", "100 Continue: nothing, interim"),
        ("GET", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", "103 Early Hints: nothing, interim"),
        (
            "GET",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            "101 Switching Protocols: nothing",
        ),
        ("CONNECT", "HTTP/1.1 200 OK\r\n\r\n", "200 OK: nothing"),
        ("CONNECT", "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\n", "403 No: 2"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", "200 OK: 5, close"),
        ("GET", "HTTP/1.1 2", "more"),
        ("GET", "SSH-2.0-OpenSSH_9.2p1\r\n", "the head is malformed"),
        ("GET", "\u{15}\u{3}\u{3}\u{0}\u{2}\u{2}F", "the head is malformed"),
        ("GET", "HTTP/1.1 099 No\r\n\r\n", "the head is malformed"),
        ("GET", "HTTP/1.1 600 No\r\n\r\n", "the head is malformed"),
        ("GET", "HTTP/1.1 20 No\r\n\r\n", "the head is malformed"),
        ("GET", "HTTP/2 200 OK\r\n\r\n", "the head is malformed"),
        ("GET", "HTTP/2.0 200 OK\r\n\r\n", "the version is neither HTTP/1.0 nor HTTP/1.1"),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            "Content-Length is repeated or no number",
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "Transfer-Encoding contradicts the rest of the head",
        ),
        ("GET", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", "the head is malformed"),
        ("GET", "HTTP/1.1 200 OK\r\nX : a\r\n\r\n", "the head is malformed"),
        ("GET", "HTTP/1.1 200 OK\nX: a\n\n", "a line does not end with CR LF"),
    ];
    for (method, text, expected) in cases {
        assert_eq!(summary(method, text), expected, "{method} {text:?}");
    }
}

/// What is taken of one stream of bytes, by framing.
#[test]
fn bodies() {
    let stream = b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n";
    let cases = [
        (Framing::None, 0, true),
        (Framing::Length(0), 0, true),
        (Framing::Length(3), 3, true),
        (Framing::Length(1000), stream.len(), false),
        (Framing::Chunked, 15, true),
        (Framing::UntilClose, stream.len(), false),
    ];
    for (framing, taken, done) in cases {
        let mut reader = BodyReader::new(framing);
        let progress = reader.pass(stream).unwrap();
        assert_eq!((progress.taken, progress.done, reader.is_done()), (taken, done, done), "{framing:?}");
    }
}
