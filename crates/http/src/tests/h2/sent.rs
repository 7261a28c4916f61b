//! What one endpoint sends, another one understands: heads of HTTP/1 and HTTP/2, there and back.

use proptest::prelude::*;

use super::*;
use crate::{Edits, Limits, RequestHead, ResponseHead, Version, h2::Sent};

fn fields(head: &crate::Head, bytes: &[u8]) -> Vec<(String, String)> {
    head.fields.iter().map(|field| (field.name.text(bytes).to_owned(), field.value.text(bytes).to_owned())).collect()
}

/// A request of HTTP/1 as a server of HTTP/2 gets it: its lines.
fn forwarded(text: &str, edits: &Edits<'_>) -> String {
    let text = text.replace('|', "\r\n");
    let mut head = RequestHead::default();
    assert!(head.read(text.as_bytes(), &Limits::default()).unwrap(), "{text}");
    let mut client = client(Config::default());
    answer(&mut client, &settings(&[(8, 1)]));
    let (path, query) = (head.path.bytes(text.as_bytes()), head.query.map(|query| query.bytes(text.as_bytes())));
    let mark = if query.is_some() { &b"?"[..] } else { b"" };
    let sent = Sent {
        target: &[path, mark, query.unwrap_or_default()],
        authority: head.authority.bytes(text.as_bytes()),
        https: true,
        end: head.head.is_end() && head.head.upgrade.is_none(),
    };
    client.send_request(&head, text.as_bytes(), &sent, edits).unwrap();
    let mut server = server(Config::default());
    let found = answer(&mut server, &drain(&mut client));
    let (head, bytes) = server.request();
    let mut out = Vec::new();
    let upgrade = head.head.upgrade.is_some();
    head.write(
        bytes,
        &[head.whole_target.bytes(bytes)],
        head.authority.bytes(bytes),
        &Edits::default(),
        upgrade,
        &mut out,
    );
    format!("{found}: {}", String::from_utf8(out).unwrap().replace("\r\n", "|"))
}

#[test]
fn requests() {
    let none = Edits::default();
    let edits = Edits { remove: &["b"], set: &[("a", b"9")], add: &[("d", b"4")] };
    let cases = [
        ("GET / HTTP/1.1|Host: a||", &none, "request 1 GET / end: GET / HTTP/1.1|host: a||"),
        (
            "GET /x?y HTTP/1.1|Host: a|A: 1|b: 2||",
            &edits,
            "request 1 GET /x?y end: GET /x?y HTTP/1.1|host: a|a: 9|d: 4||",
        ),
        (
            "PUT /x HTTP/1.1|Host: a|Content-Length: 3|X-Very-Long-Name-Of-A-Field-That-Nobody-Would-Think-Of-In-Earnest-But-Some: 1||",
            &none,
            "request 1 PUT /x: PUT /x HTTP/1.1|host: a|content-length: 3|x-very-long-name-of-a-field-that-nobody-would-think-of-in-earnest-but-some: 1||",
        ),
        (
            "POST /x HTTP/1.1|Host: a|Transfer-Encoding: chunked|Connection: te, x-hop|TE: trailers|X-Hop: 1|Keep-Alive: 5||",
            &none,
            "request 1 POST /x: POST /x HTTP/1.1|host: a|transfer-encoding: chunked|connection: te|te: trailers||",
        ),
        (
            "GET /chat HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: websocket|Sec-WebSocket-Version: 13||",
            &none,
            "request 1 GET /chat: GET /chat HTTP/1.1|host: a|sec-websocket-version: 13|connection: upgrade|upgrade: websocket||",
        ),
    ];
    for (text, edits, expected) in cases {
        assert_eq!(forwarded(text, edits), expected);
    }
}

#[test]
fn responses() {
    let forwarded = |text: &str, end: bool| {
        let text = text.replace('|', "\r\n");
        let mut head = ResponseHead::default();
        assert!(head.read(text.as_bytes(), b"GET", &Limits::default()).unwrap(), "{text}");
        let mut client = client(Config::default());
        let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let mut asked = RequestHead::default();
        asked.read(request.as_bytes(), &Limits::default()).unwrap();
        let sent = Sent { target: &[b"/"], authority: b"a", https: false, end: true };
        client.send_request(&asked, request.as_bytes(), &sent, &Edits::default()).unwrap();
        let mut server = server(Config::default());
        answer(&mut server, &drain(&mut client));
        let key = server.streams.find(1).unwrap();
        server.send_response(key, &head, text.as_bytes(), &Edits::default(), end);
        let found = answer(&mut client, &drain(&mut server));
        let (head, bytes) = client.response();
        let mut out = Vec::new();
        head.write(bytes, Version::Http11, &Edits::default(), true, &mut out);
        format!("{found}: {}", String::from_utf8(out).unwrap().replace("\r\n", "|"))
    };
    let cases = [
        (
            "HTTP/1.1 200 Fine|Content-Length: 3|Server: x||",
            false,
            "response 1 200: HTTP/1.1 200 OK|content-length: 3|server: x||",
        ),
        (
            "HTTP/1.1 200 OK|Transfer-Encoding: chunked||",
            false,
            "response 1 200: HTTP/1.1 200 OK|transfer-encoding: chunked||",
        ),
        ("HTTP/1.1 418 Pot|Connection: close||", true, "response 1 418 end: HTTP/1.1 418 |content-length: 0||"),
        ("HTTP/1.1 204 No Content||", true, "response 1 204 end: HTTP/1.1 204 No Content||"),
        ("HTTP/1.1 103 Early Hints|Link: x||", false, "response 1 103: HTTP/1.1 103 Early Hints|link: x||"),
        (
            "HTTP/1.1 200 OK|Content-Type: application/grpc|Content-Length: 5||",
            false,
            "response 1 200: HTTP/1.1 200 OK|content-type: application/grpc|transfer-encoding: chunked||",
        ),
    ];
    for (text, end, expected) in cases {
        assert_eq!(forwarded(text, end), expected);
    }
}

/// A head larger than a frame goes out in several.
#[test]
fn large_heads() {
    let mut server = server(Config::default());
    answer(&mut server, &get(1));
    let key = server.streams.find(1).unwrap();
    let long = "v".repeat(15_000);
    server.send_status(key, 200, &[("a", long.as_bytes()), ("b", long.as_bytes()), ("c", long.as_bytes())], true);
    assert_eq!(frames(server.output()), ["HEADERS 1 end", "CONTINUATION 1", "CONTINUATION 1"]);
    let mut client = client(Config::default());
    super::rules::ask(&mut client, &["GET"]);
    assert_eq!(answer(&mut client, &drain(&mut server)), "response 1 200 end");
    assert_eq!(fields(&client.response().0.head, client.response().1).len(), 4);
}

#[test]
fn trailers() {
    let mut server = server(Config::default());
    answer(&mut server, &[get(1), get(3)].concat());
    let keys = [1, 3].map(|id| server.streams.find(id).unwrap());
    for key in keys {
        server.send_status(key, 200, &[], false);
    }
    let all: [(&[u8], &[u8]); 4] =
        [(b"Grpc-Status", b"0"), (b"content-length", b"3"), (b"Host", b"b"), (b"x-sum", b"42")];
    server.send_trailers(keys[0], all.into_iter());
    server.send_trailers(keys[1], all[1..3].iter().copied());
    let out = drain(&mut server);
    assert_eq!(frames(&out)[2..], ["HEADERS 1 end", "DATA 3 0 end"]);
    let mut client = client(Config::default());
    super::rules::ask(&mut client, &["GET", "GET"]);
    assert_eq!(answer(&mut client, &out), "response 1 200, response 3 200, trailers 1 2, data 3 0 end");
}

proptest! {
    /// Bytes that are no HTTP/2, in whatever pieces: nothing but an error comes of them, and no more memory than was allowed.
    #[test]
    fn any_frames(
        frames in prop::collection::vec((0_u8..11, any::<u8>(), 0_u32..8, prop::collection::vec(any::<u8>(), 0..40)), 0..60),
        is_server in any::<bool>(),
    ) {
        let mut connection = if is_server { server(Config::default()) } else { client(Config::default()) };
        for (kind, flags, stream, payload) in frames {
            let found = answer(&mut connection, &frame(kind, flags, stream, &payload));
            if found.contains("over: ") {
                break;
            }
        }
        prop_assert!(connection.streams.len() <= 200);
    }
}
