//! Requests that mean nothing, or two things (RFC 9113, 8.1.1), and how others are read.

use super::*;
use crate::{Framing, Known, Target};

fn request(fields: &[(&str, &str)], end: bool) -> (Connection, String) {
    let mut connection = server(Config::default());
    let flags = END_HEADERS | if end { END_STREAM } else { 0 };
    let found = answer(&mut connection, &frame(HEADERS, flags, 1, &block(fields)));
    (connection, found)
}

fn with(
    base: &[(&'static str, &'static str)],
    more: &[(&'static str, &'static str)],
) -> Vec<(&'static str, &'static str)> {
    [base, more].concat()
}

type Fields = Vec<(&'static str, &'static str)>;

const MALFORMED: &str = "; RST_STREAM 1 PROTOCOL_ERROR";

#[test]
fn refused() {
    let without = |name: &str| GET.into_iter().filter(|(other, _)| *other != name).collect::<Vec<_>>();
    let replaced = |name: &'static str, value: &'static str| {
        GET.into_iter().map(|field| if field.0 == name { (name, value) } else { field }).collect::<Vec<_>>()
    };
    let long: &'static str = "/".repeat(9000).leak();
    let many: Vec<(&str, &str)> = std::iter::repeat_n(("a", "b"), 101).collect();
    let cases: Vec<(&str, Fields, &str)> = vec![
        ("a name with a capital", with(&GET, &[("X-Test", "a")]), MALFORMED),
        ("an empty name", with(&GET, &[("", "a")]), MALFORMED),
        ("a name with a space", with(&GET, &[("a b", "a")]), MALFORMED),
        ("a name with a colon", with(&GET, &[("a:b", "a")]), MALFORMED),
        ("a name with DEL", with(&GET, &[("a\x7f", "a")]), MALFORMED),
        ("a name beyond ASCII", with(&GET, &[("ä", "a")]), MALFORMED),
        ("a value with NUL", with(&GET, &[("a", "b\0c")]), MALFORMED),
        ("a value with LF", with(&GET, &[("a", "b\nc")]), MALFORMED),
        ("a value with CR", with(&GET, &[("a", "b\rc")]), MALFORMED),
        ("a value that begins with a space", with(&GET, &[("a", " b")]), MALFORMED),
        ("a value that ends with a tab", with(&GET, &[("a", "b\t")]), MALFORMED),
        ("an unknown pseudo-field", with(&GET, &[(":test", "a")]), MALFORMED),
        ("a response's pseudo-field", with(&GET, &[(":status", "200")]), MALFORMED),
        ("a pseudo-field behind others", with(&[("a", "b")], &GET), MALFORMED),
        ("a pseudo-field behind TE", with(&[("te", "trailers")], &GET), MALFORMED),
        ("connection", with(&GET, &[("connection", "keep-alive")]), MALFORMED),
        ("keep-alive", with(&GET, &[("keep-alive", "5")]), MALFORMED),
        ("proxy-connection", with(&GET, &[("proxy-connection", "keep-alive")]), MALFORMED),
        ("transfer-encoding", with(&GET, &[("transfer-encoding", "chunked")]), MALFORMED),
        ("upgrade", with(&GET, &[("upgrade", "websocket")]), MALFORMED),
        ("http2-settings", with(&GET, &[("http2-settings", "")]), MALFORMED),
        ("TE other than trailers", with(&GET, &[("te", "trailers, deflate;q=0.5")]), MALFORMED),
        ("an empty path", replaced(":path", ""), MALFORMED),
        ("no method", without(":method"), MALFORMED),
        ("no scheme", without(":scheme"), MALFORMED),
        ("no path", without(":path"), MALFORMED),
        ("no authority", without(":authority"), MALFORMED),
        ("two methods", with(&[(":method", "GET")], &GET), MALFORMED),
        ("two schemes", with(&[(":scheme", "http")], &GET), MALFORMED),
        ("two paths", with(&[(":path", "/")], &GET), MALFORMED),
        ("two authorities", with(&[(":authority", "a.example")], &GET), MALFORMED),
        ("a method that is no token", replaced(":method", "G T"), MALFORMED),
        ("an empty method", replaced(":method", ""), MALFORMED),
        ("another scheme", replaced(":scheme", "ftp"), MALFORMED),
        ("a path that begins with something else", replaced(":path", "x"), MALFORMED),
        ("a path in absolute form", replaced(":path", "http://a.example/"), MALFORMED),
        ("a path with a space", replaced(":path", "/a b"), MALFORMED),
        ("a path with a fragment", replaced(":path", "/a#b"), MALFORMED),
        ("* without OPTIONS", replaced(":path", "*"), MALFORMED),
        ("an empty authority", replaced(":authority", ""), MALFORMED),
        ("user information", replaced(":authority", "me@a.example"), MALFORMED),
        ("an authority with a path", replaced(":authority", "a.example/x"), MALFORMED),
        ("another host", with(&GET, &[("host", "b.example")]), MALFORMED),
        ("two hosts", with(&GET, &[("host", "a.example"), ("host", "a.example")]), MALFORMED),
        ("a length, but no body", with(&GET, &[("content-length", "3")]), MALFORMED),
        ("two lengths", with(&GET, &[("content-length", "0"), ("content-length", "0")]), MALFORMED),
        ("a length that is no number", with(&GET, &[("content-length", "+0")]), MALFORMED),
        ("CONNECT with a path", replaced(":method", "CONNECT"), MALFORMED),
        ("CONNECT without a port", vec![(":method", "CONNECT"), (":authority", "a.example")], MALFORMED),
        ("CONNECT without an authority", vec![(":method", "CONNECT")], MALFORMED),
        ("a protocol without CONNECT", with(&GET, &[(":protocol", "websocket")]), MALFORMED),
        (
            "a protocol that is no token",
            with(&replaced(":method", "CONNECT"), &[(":protocol", "web socket")]),
            MALFORMED,
        ),
        ("another protocol", with(&replaced(":method", "CONNECT"), &[(":protocol", "h2c")]), "refused 1 501"),
        ("another expectation", with(&GET, &[("expect", "x")]), "refused 1 417"),
        ("too long a path", replaced(":path", long), "refused 1 414"),
        (
            "too many fields",
            with(&GET, &many.iter().map(|field| (field.0, field.1)).collect::<Vec<_>>()),
            "refused 1 431",
        ),
    ];
    for (what, fields, expected) in cases {
        assert_eq!(request(&fields, true).1, expected, "{what}");
    }
}

#[test]
fn taken() {
    type Check = fn(&crate::RequestHead, &[u8]);
    let cases: [(&str, Fields, bool, Check); 13] = [
        ("a request", with(&GET, &[]), true, |head, bytes| {
            assert_eq!((head.head.framing, head.target), (Framing::None, Target::Origin));
            assert_eq!((head.authority.text(bytes), head.path.text(bytes)), ("a.example", "/"));
        }),
        (
            "a query",
            vec![(":method", "GET"), (":scheme", "https"), (":path", "/a?b=c"), (":authority", "[::1]:80")],
            true,
            |head, bytes| {
                assert_eq!((head.path.text(bytes), head.query.unwrap().text(bytes)), ("/a", "b=c"));
                assert_eq!(head.authority.text(bytes), "[::1]:80");
            },
        ),
        ("a body", with(&POST, &[]), false, |head, _| assert_eq!(head.head.framing, Framing::Chunked)),
        ("a length", with(&POST, &[("content-length", "9")]), false, |head, _| {
            assert_eq!(head.head.framing, Framing::Length(9));
        }),
        ("no length", with(&POST, &[("content-length", "0")]), true, |head, _| {
            assert_eq!(head.head.framing, Framing::Length(0));
        }),
        ("a length, and trailers", with(&POST, &[("content-length", "9"), ("trailer", "x")]), false, |head, _| {
            assert_eq!(head.head.framing, Framing::Chunked);
        }),
        ("a call", with(&POST, &[("content-type", "application/grpc+proto"), ("te", "trailers")]), false, |head, _| {
            assert!(head.head.trailers);
            assert_eq!(head.head.framing, Framing::Chunked);
        }),
        (
            "a host alone",
            vec![(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "b.example")],
            true,
            |head, bytes| {
                assert_eq!(head.authority.text(bytes), "b.example");
            },
        ),
        (
            "cookies",
            with(&GET, &[("cookie", "a=b"), ("x", "y"), ("cookie", "c=d"), ("cookie", "e=f")]),
            true,
            |head, bytes| {
                let all: Vec<_> =
                    head.head.fields.iter().map(|field| (field.name.text(bytes), field.value.text(bytes))).collect();
                assert_eq!(all, [("cookie", "a=b; c=d; e=f"), ("x", "y")]);
            },
        ),
        (
            "OPTIONS *",
            vec![(":method", "OPTIONS"), (":scheme", "http"), (":path", "*"), (":authority", "a.example")],
            true,
            |head, _| {
                assert_eq!(head.target, Target::Asterisk);
            },
        ),
        ("CONNECT", vec![(":method", "CONNECT"), (":authority", "a.example:443")], false, |head, bytes| {
            assert_eq!((head.target, head.authority.text(bytes)), (Target::Authority, "a.example:443"));
        }),
        (
            "a WebSocket",
            vec![
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "https"),
                (":path", "/chat"),
                (":authority", "a.example"),
            ],
            false,
            |head, bytes| {
                assert_eq!((head.method.text(bytes), head.path.text(bytes)), ("GET", "/chat"));
                assert_eq!((head.head.upgrade.unwrap().text(bytes), head.head.framing), ("websocket", Framing::None));
            },
        ),
        (
            "an expectation",
            with(&POST, &[("expect", "100-continue"), ("content-length", "3")]),
            false,
            |head, bytes| {
                assert!(head.head.expects_continue);
                let known: Vec<Known> = head.head.fields.iter().map(|field| field.known).collect();
                assert_eq!(
                    (known, head.head.fields[0].name.text(bytes)),
                    (vec![Known::Expect, Known::ContentLength], "expect")
                );
            },
        ),
    ];
    for (what, fields, end, check) in cases {
        let (connection, found) = request(&fields, end);
        assert!(found.starts_with("request 1 "), "{what}: {found}");
        let (head, bytes) = connection.request();
        check(head, bytes);
    }
}

/// Extended CONNECT is an error where it was not offered (RFC 8441, 4).
#[test]
fn extended_connect_is_offered() {
    let mut connection = server(Config { extended_connect: false, ..Config::default() });
    let fields =
        [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", "/"), (":authority", "a")];
    assert_eq!(answer(&mut connection, &frame(HEADERS, END_HEADERS, 1, &block(&fields))), MALFORMED);
}

#[test]
fn trailers() {
    let trailers = |fields: &[(&str, &str)]| {
        let mut connection = server(Config::default());
        let input = [post(1), frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))].concat();
        answer(&mut connection, &input).split_once(", ").unwrap().1.to_owned()
    };
    assert_eq!(trailers(&[("x-a", "1"), ("x-b", "2")]), "trailers 1 2");
    for fields in [[(":path", "/")], [("X", "1")], [("a", "b\n")], [("connection", "close")]] {
        assert_eq!(trailers(&fields), "reset 1 PROTOCOL_ERROR; RST_STREAM 1 PROTOCOL_ERROR", "{fields:?}");
    }
}
