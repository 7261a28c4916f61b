//! Requests that are right, and what is read of them.

use super::request;
use crate::{Framing, HeadError, Limits, RequestHead, Target};

/// What a proxy needs of a request, in one line.
fn summary(text: &str) -> String {
    let head = match request(text.as_bytes()) {
        Ok(Some(head)) => head,
        Ok(None) => return "more".into(),
        Err(error) => return format!("{} {error}", error.status()),
    };
    let b = text.as_bytes();
    let query = head.query.map_or(String::new(), |query| format!("?{}", query.text(b)));
    let framing = match head.head.framing {
        Framing::None => String::new(),
        Framing::Length(length) => format!(" length {length}"),
        Framing::Chunked => " chunked".into(),
        Framing::UntilClose => " until close".into(),
    };
    let flags = [
        (!head.head.keep_alive, " close"),
        (head.head.expects_continue, " continue"),
        (head.head.trailers, " trailers"),
        (head.head.upgrade.is_some(), " upgrade"),
    ];
    let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    let form = match head.target {
        Target::Origin => "",
        Target::Absolute => "absolute ",
        Target::Authority => "authority ",
        Target::Asterisk => "asterisk ",
    };
    format!("{} {form}{} {}{query}{framing}{flags}", head.method.text(b), head.authority.text(b), head.path.text(b))
}

#[test]
fn heads() {
    let cases = [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET a /"),
        ("GET /a/b?c=d&e HTTP/1.1\r\nhOST:  a.example:8080 \t\r\n\r\n", "GET a.example:8080 /a/b?c=d&e"),
        ("GET /? HTTP/1.1\r\nHost: a\r\n\r\n", "GET a /?"),
        ("GET /a?b?c HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n", "GET [2001:db8::1]:80 /a?b?c"),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET a /"),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET a /"),
        ("GET / HTTP/1.0\r\n\r\n", "GET  / close"),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "GET  /"),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET a / close"),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, , CLOSE\r\n\r\n", "GET a / close"),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", "GET a / close"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "POST a / length 0"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n",
            "POST a / length 18446744073709551615",
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", "POST a / chunked"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-Continue\r\n\r\n",
            "POST a / length 1 continue",
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", "POST a /"),
        ("POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", "POST  / length 1 close"),
        ("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n", "GET a / trailers"),
        ("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n", "GET a /"),
        ("GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "GET a /chat upgrade"),
        ("GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", "GET a /chat"),
        ("GET http://b.example/x?y HTTP/1.1\r\nHost: a\r\n\r\n", "GET absolute b.example /x?y"),
        ("GET HTTPS://b:8443 HTTP/1.1\r\nHost: b:8443\r\n\r\n", "GET absolute b:8443 "),
        ("GET http://b?q HTTP/1.1\r\nHost: b\r\n\r\n", "GET absolute b ?q"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS asterisk a "),
        ("CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n", "CONNECT authority b:443 "),
        ("BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", "BREW a /pot"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \u{e9}t\u{e9}\r\n\r\n", "GET a /"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n", "GET a /"),
        ("", "more"),
        ("\r", "more"),
        ("\r\n", "more"),
        ("GE", "more"),
        ("GET / HTTP/1.1\r\nHost: a\r\n", "more"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r", "more"),
    ];
    for (text, expected) in cases {
        assert_eq!(summary(text), expected, "{text:?}");
    }
}

#[test]
fn limits() {
    let limits = Limits { head: 1000, target: 100, fields: 10 };
    let read = |text: String| RequestHead::default().read(text.as_bytes(), &limits).map_err(HeadError::status);
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(count));
    let cases = [
        ("nine fields and a host", fields(9), Ok(true)),
        ("one more", fields(10), Err(431)),
        ("a target of 100", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(99)), Ok(true)),
        ("of 101", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(100)), Err(414)),
        ("of 101, not yet ended", format!("GET /{}", "a".repeat(100)), Err(414)),
        ("a field to the limit", format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}", "a".repeat(1000)), Err(431)),
        ("a method without end", "A".repeat(65), Err(400)),
        ("not HTTP", "\u{16}\u{3}\u{1}".into(), Err(400)),
        ("999 bytes", format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "a".repeat(999 - 32)), Ok(true)),
        ("1000 bytes", format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "a".repeat(1000 - 32)), Ok(true)),
        ("1001 bytes", format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "a".repeat(1001 - 32)), Err(431)),
    ];
    for (name, text, expected) in cases {
        assert_eq!(read(text), expected, "{name}");
    }
}

/// Reading into one value again leaves nothing of what was read before.
#[test]
fn reused() {
    let mut head = RequestHead::default();
    let first = b"POST http://b/x?y HTTP/1.1\r\nHost: b\r\nConnection: te, x-hop\r\nTE: trailers\r\nX-Hop: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(head.read(first, &Limits::default()), Ok(true));
    let second = b"GET / HTTP/1.1\r\nHost: a\r\nX-Hop: 2\r\n\r\n";
    assert_eq!(head.read(second, &Limits::default()), Ok(true));
    let fresh = request(second).unwrap().unwrap();
    assert_eq!(format!("{head:?}"), format!("{fresh:?}"));
}
