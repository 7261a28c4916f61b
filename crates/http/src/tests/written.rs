//! Heads as the other side gets them.

use crate::{Edits, Limits, RequestHead, ResponseHead, Version};

fn lines(out: &[u8]) -> String {
    String::from_utf8(out.to_vec()).unwrap().replace("\r\n", "|")
}

#[test]
fn requests() {
    let edits =
        Edits { remove: &["x-old"], set: &[("x-set", b"new"), ("x-request-id", b"1")], add: &[("x-add", b"another")] };
    let none = Edits::default();
    let cases: [(&str, &Edits<'_>, bool, &str); 9] = [
        ("GET /a HTTP/1.1|Host: a|Accept: */*||", &none, false, "GET /x?y HTTP/1.1|host: b|Accept: */*||"),
        ("GET /a HTTP/1.0||", &none, false, "GET /x?y HTTP/1.1|host: b||"),
        (
            "GET /a HTTP/1.1|Host: a|Connection: close, X-Hop|X-Hop: 1|Keep-Alive: 5|Proxy-Connection: x|TE: gzip|Upgrade: h2c|X: y||",
            &none,
            false,
            "GET /x?y HTTP/1.1|host: b|X: y||",
        ),
        (
            "POST /a HTTP/1.1|Host: a|Content-Length: 5||",
            &none,
            false,
            "POST /x?y HTTP/1.1|host: b|Content-Length: 5||",
        ),
        (
            "POST /a HTTP/1.1|Host: a|Transfer-Encoding: chunked|Trailer: X||",
            &none,
            false,
            "POST /x?y HTTP/1.1|host: b|Trailer: X|transfer-encoding: chunked||",
        ),
        (
            "GET /a HTTP/1.1|Host: a|Connection: TE|TE: trailers, deflate||",
            &none,
            false,
            "GET /x?y HTTP/1.1|host: b|connection: te|te: trailers||",
        ),
        (
            "GET /a HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: websocket|Sec-WebSocket-Key: k||",
            &none,
            true,
            "GET /x?y HTTP/1.1|host: b|Sec-WebSocket-Key: k|connection: upgrade|upgrade: websocket||",
        ),
        (
            "GET /a HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: websocket||",
            &none,
            false,
            "GET /x?y HTTP/1.1|host: b||",
        ),
        (
            "GET /a HTTP/1.1|Host: a|X-Old: 1|x-SET: old|X-Set: older|X-Add: one|Connection: x-request-id||",
            &edits,
            false,
            "GET /x?y HTTP/1.1|host: b|X-Add: one|x-set: new|x-request-id: 1|x-add: another||",
        ),
    ];
    for (text, edits, upgrade, expected) in cases {
        let text = text.replace('|', "\r\n");
        let (mut head, mut out) = (RequestHead::default(), Vec::new());
        assert_eq!(head.read(text.as_bytes(), &Limits::default()), Ok(true), "{text:?}");
        head.write(text.as_bytes(), &[b"/x", b"?", b"y"], b"b", edits, upgrade, &mut out);
        assert_eq!(lines(&out), expected);
    }
}

#[test]
fn responses() {
    let edits = Edits { remove: &["server"], set: &[("x-set", b"new")], add: &[] };
    let none = Edits::default();
    let cases: [(&str, Version, &Edits<'_>, bool, &str); 7] = [
        ("HTTP/1.1 200 OK|Content-Length: 0||", Version::Http11, &none, true, "HTTP/1.1 200 OK|Content-Length: 0||"),
        (
            "HTTP/1.0 200 OK|Content-Length: 0||",
            Version::Http11,
            &none,
            false,
            "HTTP/1.1 200 OK|Content-Length: 0|connection: close||",
        ),
        (
            "HTTP/1.1 404 Not Found|Content-Length: 0|Connection: close||",
            Version::Http10,
            &none,
            true,
            "HTTP/1.1 404 Not Found|Content-Length: 0|connection: keep-alive||",
        ),
        (
            "HTTP/1.1 200 |Transfer-Encoding: chunked|Server: x||",
            Version::Http11,
            &edits,
            true,
            "HTTP/1.1 200 |x-set: new|transfer-encoding: chunked||",
        ),
        ("HTTP/1.1 103 Early Hints|Link: x||", Version::Http11, &none, false, "HTTP/1.1 103 Early Hints|Link: x||"),
        (
            "HTTP/1.1 101 Switching Protocols|Connection: Upgrade|Upgrade: websocket|X: y||",
            Version::Http11,
            &none,
            true,
            "HTTP/1.1 101 Switching Protocols|X: y|connection: upgrade|upgrade: websocket||",
        ),
        ("HTTP/1.1 204 No Content|Keep-Alive: 5||", Version::Http11, &none, true, "HTTP/1.1 204 No Content||"),
    ];
    for (text, version, edits, keep_alive, expected) in cases {
        let text = text.replace('|', "\r\n");
        let (mut head, mut out) = (ResponseHead::default(), Vec::new());
        assert_eq!(head.read(text.as_bytes(), b"GET", &Limits::default()), Ok(true), "{text:?}");
        head.write(text.as_bytes(), version, edits, keep_alive, &mut out);
        assert_eq!(lines(&out), expected);
    }
}
