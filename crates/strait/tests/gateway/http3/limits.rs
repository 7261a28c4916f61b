//! What is too much of HTTP/3, and that others are served meanwhile.

use std::io::Write as _;

use serde_json::json;

use super::{
    client::{get, of, post},
    ends::one,
    gate,
};
use crate::{
    backend::{self, service},
    bed::{PATIENCE, app, until},
    h2::{route, to},
    limits::{connect, resident},
};

const EXCESSIVE_LOAD: u64 = 0x107;

/// What is too much on a connection, and that it goes on.
#[test]
fn streams() {
    let limits = ["streams=5", "header-time=500ms", "idle=900ms"];
    let arguments: Vec<&str> = limits.iter().flat_map(|limit| ["--limit", limit]).collect();
    let Some((gate, mut client)) = gate(&one(), &arguments) else { return };
    let at = gate.at("edge", 443);
    // More requests than may be at once wait for their turn.
    client.connect("many", at, "a.example");
    let many = client.all("many", (0..30).map(|_| get("/")));
    assert!(many.iter().all(|answer| answer["status"] == 200), "{many:?}");
    // A body that stands still ends its request, and nothing else.
    let stands = client.ask("many", post("/").body("some").open());
    assert!(stands["error"].is_string() || stands["status"] == 408 || stands["status"] == 504, "{stands}");
    assert_eq!(client.ask("many", get("/"))["status"], 200);
    // A head that does not come to its end.
    let begun = client.raw("many", "bidi", &[1, 0x40, 0xff, 0, 0], false);
    assert!(begun["end"].is_null() && begun["answer"]["error"] == "stream 0x10b", "{begun}");
}

/// Connections beyond a limit are refused at once, and as one ends another one is taken.
#[test]
fn connections() {
    for limit in ["connections=3", "listener-connections=3", "client-connections=3"] {
        let Some((gate, mut client)) = gate(&one(), &["--limit", limit, "--limit", "idle=900ms"]) else { return };
        let at = gate.at("edge", 443);
        for name in ["first", "second", "third"] {
            client.connect(name, at, "a.example");
        }
        assert!(client.refused("fourth", at, "a.example").contains("ConnectionError"), "{limit}");
        assert_eq!(client.ask("first", get("/"))["status"], 200, "{limit}");
        // Clients count one by one.
        let other = client.try_connect("other", at, "a.example", &json!({ "from": "127.0.0.2" }));
        assert_eq!(other["ok"] == true, limit.starts_with("client"), "{limit}: {other}");
        // Idle ones make room.
        until("room", || client.refused("fifth", at, "a.example").is_empty());
        assert_eq!(client.ask("fifth", get("/"))["status"], 200, "{limit}");
    }
}

/// While many handshakes are under way, who comes must first show that it is where it says; then it is served.
#[test]
fn retry() {
    let Some((gate, mut client)) = gate(&one(), &["--workers", "1", "--limit", "header-time=5s"]) else { return };
    let at = gate.at("edge", 443);
    let said = client.try_connect("before", at, "a.example", &json!({}));
    assert_eq!(said["retried"], false, "{said}");
    let begun = json!({
        "do": "initials", "count": 100, "host": at.ip().to_string(), "port": at.port(), "server_name": "a.example",
    });
    until("show of an address", || {
        client.say(&begun);
        client.try_connect("amid", at, "a.example", &json!({}))["retried"] == true
    });
    for name in ["amid", "before"] {
        assert_eq!(client.ask(name, get("/"))["status"], 200, "{name}");
    }
    // Those that came to nothing are forgotten.
    until("others believed", || client.try_connect("after", at, "a.example", &json!({}))["retried"] == false);
}

/// While memory is short requests on open connections are told to come again, and new connections are refused.
#[test]
fn memory() {
    let Some((idle, mut client)) = gate(&one(), &["--workers", "1"]) else { return };
    client.connect("warm", idle.at("edge", 443), "a.example");
    assert_eq!(client.ask("warm", get("/"))["status"], 200);
    // What such a gate has after its first request, and room for little more.
    let most = format!("memory={}KiB", resident(&idle) + (8 << 10));
    drop(idle);
    let Some((gate, mut client)) = gate(&one(), &["--workers", "1", "--limit", &most]) else { return };
    let (at, plain) = (gate.at("edge", 443), gate.at("edge", 80));
    client.connect("open", at, "a.example");
    assert_eq!(client.ask("open", get("/"))["status"], 200);
    // Heads that do not end hold what was read of them.
    let part = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(40 << 10));
    let mut held = Vec::new();
    let deadline = jiff::Timestamp::now() + PATIENCE;
    let answer = loop {
        let mut stream = connect(plain);
        let _ = stream.write_all(part.as_bytes());
        held.push(stream);
        let answer = client.ask("open", get("/"));
        if answer["status"] != 200 {
            break answer;
        }
        assert!(jiff::Timestamp::now() < deadline, "nothing is refused");
    };
    assert_eq!((answer["status"].as_u64(), of(&answer, "retry-after")), (Some(503), Some("1")), "{answer}");
    assert!(client.refused("new", at, "a.example").contains("ConnectionError"));
}

/// A body that comes all the time, but by too little, is let go, whether its length is known or not.
#[test]
fn slow_bodies() {
    let limits = ["--limit", "body-rate=1000", "--limit", "body-rate-time=500ms"];
    let (back_end, _) = backend::http();
    let text = service("one", back_end) + &route("HTTPRoute", "route", &to("/", "one", 8080));
    let Some((gate, mut client)) = gate(&text, &limits) else { return };
    client.connect("a", gate.at("edge", 443), "a.example");
    for request in [post("/"), post("/").field("content-length", "100000")] {
        let answer = client.drip("a", &request);
        let said = answer["body"].as_str().unwrap_or_default();
        assert!(answer["status"] == 408 && said.contains("request_body_too_slow"), "{request:?}: {answer}");
    }
    assert_eq!(client.ask("a", post("/").size(20_000))["status"], 200);
}

/// Requests that are given up as fast as they may be begun (CVE-2023-44487) end the connection, however that is done; others go on.
#[test]
fn given_up() {
    // Answers that have a head, and no end as long as the test is.
    let endless = backend::serve(|mut stream| {
        let mut read = Vec::new();
        while backend::request(&mut stream, &mut read).is_some() {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc");
        }
    });
    let rules = to("/one", "one", 8080) + &to("/endless", "endless", 8080);
    let text = app("one") + &service("endless", endless) + &route("HTTPRoute", "route", &rules);
    let Some((gate, mut client)) = gate(&text, &["--limit", "streams=10"]) else { return };
    let at = gate.at("edge", 443);
    client.connect("other", at, "a.example");
    assert_eq!(client.ask("other", get("/one"))["status"], 200);
    let before = resident(&gate);
    let cases = [
        ("both", "/one"),
        ("both", "/endless"),
        ("both", "/nowhere"),
        ("reset", "/one"),
        ("reset", "/endless"),
        ("stop", "/endless"),
        ("answered", "/endless"),
    ];
    for (how, path) in cases {
        let name = format!("{how} {path}");
        client.connect(&name, at, "a.example");
        let (begun, code) = client.flood(&name, &get(path), how, 1000);
        // Those beyond the limit were begun before the client heard of it.
        assert!(code == Some(EXCESSIVE_LOAD) && (101..1000).contains(&begun), "{name}: {begun} begun, {code:x?}");
        assert_eq!(client.ask("other", get("/one"))["status"], 200, "{name}");
    }
    let held = resident(&gate).saturating_sub(before);
    assert!(held < 32 << 10, "{held} KiB more");
}

/// What makes much work for little (`Floods`): so much is taken, and the connection serves on; with more it ends, and others are served.
#[test]
fn floods() {
    const MAX_PUSH_ID: &[u8] = b"\x0d\x01\x3f";
    const PRIORITY_UPDATE: &[u8] = b"\x80\x0f\x07\x00\x04\x00u=1";
    const HEAD: &[u8] = b"\x01\x10\0\0\xd4\xd7\xc1\x50\x09a.example";
    enum Sent {
        Requests(super::client::Request, &'static str),
        Control(&'static [u8]),
        Request(&'static [u8]),
    }
    // A request without a path, as one of its fields.
    let pathless = get("/").renamed(3, "x-path");
    let cases = [
        ("stream-resets", "resets", Sent::Requests(get("/"), "both")),
        ("stream-resets", "resets alone", Sent::Requests(get("/"), "reset")),
        ("provoked-resets", "malformed requests", Sent::Requests(pathless, "never")),
        ("control-frames", "MAX_PUSH_ID", Sent::Control(MAX_PUSH_ID)),
        ("empty-frames", "PRIORITY_UPDATE", Sent::Control(PRIORITY_UPDATE)),
        ("empty-frames", "unknown frames", Sent::Control(b"\x21\0")),
        ("empty-frames", "unknown frames in a request", Sent::Request(b"\x21\x01a")),
        ("empty-frames", "empty data", Sent::Request(b"\0\0")),
    ];
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let limits = ["stream-resets=5", "provoked-resets=5", "control-frames=9", "empty-frames=5"];
    let arguments: Vec<&str> = limits.iter().flat_map(|limit| ["--limit", limit]).collect();
    let Some((gate, mut client)) = gate(&one(), &arguments) else { return };
    let at = gate.at("edge", 443);
    for (limit, what, sent) in cases {
        for (kind, count) in [("fair", 5_u8), ("unfair", 50)] {
            let name = &format!("{kind}: {what}");
            client.connect(name, at, "a.example");
            match &sent {
                Sent::Requests(request, how) => _ = client.flood(name, request, how, count.into()),
                Sent::Control(frame) => {
                    let hex = hex(&frame.repeat(count.into()));
                    client.say(&json!({ "do": "control", "name": name, "hex": hex }));
                }
                Sent::Request(frame) => {
                    let said = client.raw(name, "bidi", &[HEAD, &frame.repeat(count.into())].concat(), true);
                    assert_eq!(said["answer"]["status"] == 200, kind == "fair", "{limit}, {what}: {said}");
                }
            }
            if kind == "fair" {
                assert_eq!(client.ask(name, get("/"))["status"], 200, "{limit}, {what}");
            } else {
                assert_eq!(client.closed(name), EXCESSIVE_LOAD, "{limit}, {what}");
            }
        }
        let fair = format!("fair: {what}");
        assert_eq!(client.ask(&fair, get("/"))["status"], 200, "{limit}, {what}: others are served");
    }
}
