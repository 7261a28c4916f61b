//! What must not come (RFC 9114, RFC 9204), and what the gate says to it.

use serde_json::{Value, json};

use super::{
    client::{get, post},
    gate,
};
use crate::{
    bed::app,
    h2::{route, to},
};

/// A request's frame: `GET /` of `a.example`, by the static table.
const HEADERS: &[u8] = b"\x01\x10\0\0\xd1\xd7\xc1\x50\x09a.example";

/// How the connection ends, or else the stream.
enum Ends {
    Connection(u64),
    Stream(&'static str),
    Answered(u16),
}
use Ends::{Answered, Connection, Stream};

#[test]
fn bytes() {
    let text = app("one") + &route("HTTPRoute", "route", &to("/", "one", 8080));
    let Some((gate, mut client)) = gate(&text, &[]) else { return };
    let request = |behind: &[u8]| [HEADERS, behind].concat();
    let cases: Vec<(&str, &str, Vec<u8>, bool, Ends)> = vec![
        // The request's stream.
        ("a request", "bidi", request(b""), true, Answered(200)),
        (
            "unknown frames around it",
            "bidi",
            [&b"\x21\x03abc"[..], HEADERS, b"\x40\x21\x01a"].concat(),
            true,
            Answered(200),
        ),
        ("no frame at all", "bidi", vec![], true, Stream("stream 0x10d")),
        ("a head that ends early", "bidi", HEADERS[..9].to_vec(), true, Stream("stream 0x10d")),
        ("data first", "bidi", b"\0\x01a".to_vec(), true, Connection(0x105)),
        ("settings", "bidi", b"\x04\0".to_vec(), true, Connection(0x105)),
        ("a frame of HTTP/2", "bidi", b"\x08\0".to_vec(), true, Connection(0x105)),
        ("a table that is not there", "bidi", b"\x01\x03\x01\0\x80".to_vec(), true, Connection(0x200)),
        ("no path", "bidi", b"\x01\x07\0\0\xd1\xd7\x50\x01a".to_vec(), true, Stream("stream 0x10e")),
        ("a head beyond the limit", "bidi", b"\x01\x80\x10\0\0".to_vec(), false, Answered(431)),
        ("data behind trailers", "bidi", request(b"\0\x01a\x01\x02\0\0\0\x01b"), true, Connection(0x105)),
        ("data that ends early", "bidi", request(b"\0\x05a"), true, Stream("")),
        // Streams in the client's direction. It has its control stream and those of QPACK already.
        ("a second control stream", "uni", b"\0\x04\0".to_vec(), false, Connection(0x103)),
        ("a push", "uni", b"\x01\0".to_vec(), false, Connection(0x103)),
        ("a second encoder", "uni", b"\x02".to_vec(), false, Connection(0x103)),
        ("what nobody knows", "uni", b"\x21abc".to_vec(), false, Stream("stream 0x103")),
    ];
    for (index, (what, kind, bytes, end, expected)) in cases.into_iter().enumerate() {
        let name = index.to_string();
        client.connect(&name, gate.at("edge", 443), "a.example");
        let said = client.raw(&name, kind, &bytes, end);
        let (code, error) = (&said["end"]["code"], &said["answer"]["error"]);
        match expected {
            Connection(expected) => assert_eq!(code, expected, "{what}: {said}"),
            Stream("") => assert!(code.is_null() && error.is_string(), "{what}: {said}"),
            Stream(expected) => assert_eq!((code, error), (&Value::Null, &json!(expected)), "{what}: {said}"),
            Answered(expected) => {
                assert_eq!((code, &said["answer"]["status"]), (&Value::Null, &json!(expected)), "{what}: {said}");
            }
        }
        if code.is_null() {
            assert_eq!(client.ask(&name, get("/"))["status"], 200, "after {what}");
        }
    }
}

/// A body is as long as it was said to be, or its request gets no further: what a back end takes for the next request never comes from here.
#[test]
fn lengths() {
    let text = app("one") + &route("HTTPRoute", "route", &to("/", "one", 8080));
    let Some((gate, mut client)) = gate(&text, &[]) else { return };
    client.connect("a", gate.at("edge", 443), "a.example");
    for (said, body, ok) in
        [("4", "body", true), ("3", "body", false), ("5", "body", false), ("0", "body", false), ("1, 1", "b", false)]
    {
        let answer = client.ask("a", post("/").field("content-length", said).body(body));
        assert_eq!(answer["status"] == 200, ok, "{said}: {answer}");
    }
    for (name, value) in
        [("connection", "close"), ("transfer-encoding", "chunked"), ("upgrade", "websocket"), ("te", "gzip")]
    {
        assert_eq!(client.ask("a", get("/").field(name, value))["error"], "stream 0x10e", "{name}");
    }
    assert_eq!(client.ask("a", get("/"))["status"], 200);
}
