//! What the gate tells of requests and connections that have ended.

use std::io::{Read as _, Write as _};

use strait_proxy::{Protocol, Record};

use crate::bed::{Bed, HTTP, Seen, TCP};

const BODY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

fn answer(request: &str) -> Option<String> {
    let path = request.split(' ').nth(1).unwrap();
    match path {
        "/gone" => None,
        "/short/never" => {
            std::thread::park();
            None
        }
        "/garbage" => Some("garbage\r\n\r\n".to_owned()),
        "/missing" => Some("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned()),
        "/chunks" => Some("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_owned()),
        _ => Some(BODY.to_owned()),
    }
}

fn request(bed: &Bed) -> (String, Record) {
    match bed.seen() {
        Seen::Request(path, client, record) => {
            assert_eq!((client.port, client.https), (HTTP, false));
            assert!(client.peer.ip().is_loopback());
            (path, record)
        }
        seen @ Seen::Connection(..) => panic!("{seen:?}"),
    }
}

#[test]
fn requests() {
    let bed = Bed::new(answer);
    // Request, rule, attempts, status, flag, bytes of the request's body, bytes of the answer's.
    #[expect(clippy::type_complexity, reason = "a table")]
    let cases: [(&str, Option<u32>, u32, u16, &str, u64, u64); 10] = [
        ("GET /a HTTP/1.1|", Some(0), 1, 200, "", 0, 5),
        ("GET /missing HTTP/1.1|", Some(0), 1, 404, "", 0, 0),
        ("GET /chunks HTTP/1.1|", Some(0), 1, 200, "", 0, 15),
        ("POST /a HTTP/1.1|content-length: 3||abc", Some(0), 1, 200, "", 3, 5),
        ("HEAD /empty HTTP/1.1|", Some(2), 0, 503, "UH", 0, 0),
        // On a kept connection, and then on a new one.
        ("GET /gone HTTP/1.1|", Some(0), 2, 502, "UC", 0, 45),
        ("GET /garbage HTTP/1.1|", Some(0), 1, 502, "UPE", 0, 37),
        ("GET /short/never HTTP/1.1|", Some(1), 1, 504, "UT", 0, 33),
        ("GET /%00 HTTP/1.1|", None, 0, 400, "DPE", 0, 25),
        ("GET /a HTTP/1.1|host: b|", None, 0, 400, "DPE", 0, 31),
    ];
    for (text, rule, attempts, status, flag, up, down) in cases {
        let (head, body) = text.split_once("||").unwrap_or_else(|| (text.strip_suffix('|').unwrap(), ""));
        let text = format!("{}\r\nhost: a\r\nconnection: close\r\n\r\n{body}", head.replace('|', "\r\n"));
        let said = bed.ask(HTTP, &text);
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{text}\n{said}");
        let (path, record) = request(&bed);
        let reason = record.reason.map_or("", |reason| reason.flag);
        let found =
            (record.rule, record.sent.attempts, record.status, reason, record.request_body, record.response_body);
        assert_eq!(found, (rule, attempts, status, flag, up, down), "{text}");
        assert_eq!(record.protocol, Protocol::Http11);
        let was_read = status != 400 || rule.is_some() || path == "/%00";
        assert_eq!(path, if was_read { text.split(' ').nth(1).unwrap() } else { "" });
        assert_eq!(record.request_head, if was_read { text.find("\r\n\r\n").unwrap() as u64 + 4 } else { 0 }, "{text}");
        let sent = attempts > 0;
        assert_eq!(record.sent.endpoint, sent.then_some(bed.backend), "{text}");
        assert_eq!(record.sent.local.is_some(), sent, "{text}");
        assert_eq!(record.first_byte.is_some(), sent && matches!(flag, "" | "UPE"), "{text}");
        assert!(!sent || record.received.unwrap() >= record.started);
        assert!(record.ended >= record.first_byte.unwrap_or(record.started));
    }
}

/// Requests of one connection are told of one by one, and those after the first use the first one's connection to the back end.
#[test]
fn kept_connections() {
    let bed = Bed::new(answer);
    let mut stream = bed.connect(HTTP);
    let mut locals = Vec::new();
    for path in ["/1", "/2", "/3"] {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).unwrap();
        let mut room = [0; BODY.len()];
        stream.read_exact(&mut room).unwrap();
        let (seen, record) = request(&bed);
        assert_eq!(seen, path);
        locals.push(record.sent.local.unwrap());
    }
    assert!(locals.iter().all(|local| *local == locals[0]), "{locals:?}");
}

/// A client that goes away, before the answer or within it.
#[test]
fn clients_that_leave() {
    let bed = Bed::new(answer);
    let mut stream = bed.connect(HTTP);
    stream.write_all(b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nabc").unwrap();
    drop(stream);
    let (_, record) = request(&bed);
    assert_eq!((record.status, record.reason.unwrap().flag, record.request_body), (0, "DC", 3));
}

#[test]
fn connections() {
    let bed = Bed::new(answer);
    let mut stream = bed.connect(TCP);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut room = [0; BODY.len()];
    stream.read_exact(&mut room).unwrap();
    drop(stream);
    let Seen::Connection(client, record) = bed.seen() else { panic!("no request was made") };
    assert_eq!((client.port, record.up, record.down), (TCP, 18, BODY.len() as u64));
    assert_eq!((record.reason, record.sent.endpoint, record.sent.attempts), (None, Some(bed.backend), 1));
    assert!(record.sent.local.is_some() && record.ended >= record.started);
}
