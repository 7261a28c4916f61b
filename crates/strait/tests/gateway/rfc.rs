//! What RFC 9110 and RFC 9112 demand of a proxy, over raw sockets: what the client gets, and what the back end got.

use std::{
    collections::VecDeque,
    io::Write as _,
    net::TcpStream,
    sync::{Arc, Mutex},
};

use crate::{
    backend::{Recorded, request, serve, service},
    bed::{Gate, http, raw},
};

/// What a back end answers, one request after the other.
type Responses = Arc<Mutex<VecDeque<String>>>;

/// One exchange. `|` stands for CR LF. What begins with `!` must not be there. Names of fields are compared in small letters.
struct Case {
    /// What is demanded, and where.
    rule: &'static str,
    request: &'static str,
    /// `~` parts the responses to one request and the next.
    response: &'static str,
    /// Seen by the client.
    client: &'static [&'static str],
    /// Seen by the back end.
    backend: &'static [&'static str],
}

const OK: &str = "HTTP/1.1 200 OK|content-length: 2||ok";

const CASES: &[Case] = &[
    // RFC 9112, 2 and 3: request lines and targets.
    Case {
        rule: "9112 2.2: an empty line before the request line is ignored",
        request: "|GET /x HTTP/1.1|Host: a|Connection: close||",
        response: OK,
        client: &["http/1.1 200", "|ok"],
        backend: &["get /x http/1.1|"],
    },
    Case {
        rule: "9112 2.2: white space between the request line and the first field is refused",
        request: "GET /x HTTP/1.1| X: y|Host: a||",
        response: OK,
        client: &["http/1.1 400"],
        backend: &["!get"],
    },
    Case {
        rule: "9112 2.2, 3: a bare CR or LF ends no line",
        request: "GET /x HTTP/1.1|Host: a|X: b\nContent-Length: 5||",
        response: OK,
        client: &["http/1.1 400"],
        backend: &["!get"],
    },
    Case {
        rule: "9112 2.3: an intermediary sends its own version",
        request: "GET /x HTTP/1.0|Host: a||",
        response: "HTTP/1.0 200 OK|content-length: 2||ok",
        client: &["http/1.1 200", "|ok"],
        backend: &["get /x http/1.1|"],
    },
    Case {
        rule: "9110 2.5: another major version is not served",
        request: "GET /x HTTP/3.0|Host: a||",
        response: OK,
        client: &["http/1.1 505"],
        backend: &["!get"],
    },
    Case {
        rule: "9112 3: a target that is too long is 414",
        request: "GET /LONG HTTP/1.1|Host: a||",
        response: OK,
        client: &["http/1.1 414"],
        backend: &["!get"],
    },
    Case {
        rule: "9112 3: white space in a target is refused",
        request: "GET /a b HTTP/1.1|Host: a||",
        response: OK,
        client: &["http/1.1 400"],
        backend: &["!get"],
    },
    Case {
        rule: "9112 3.2: a request without Host is 400",
        request: "GET /x HTTP/1.1|X: y||",
        response: OK,
        client: &["http/1.1 400"],
        backend: &["!get"],
    },
    Case {
        rule: "9112 3.2: a request with two Hosts is 400",
        request: "GET /x HTTP/1.1|Host: a|Host: b||",
        response: OK,
        client: &["http/1.1 400"],
        backend: &["!get"],
    },
    Case {
        rule: "9112 3.2.2: of an absolute target the authority replaces Host",
        request: "GET http://b.example:81/x?y HTTP/1.1|Host: a|Connection: close||",
        response: OK,
        client: &["http/1.1 200"],
        backend: &["get /x?y http/1.1|", "host: b.example:81|", "!host: a|"],
    },
    Case {
        rule: "9112 3.2.4: OPTIONS * goes on as it is",
        request: "OPTIONS * HTTP/1.1|Host: a|Connection: close||",
        response: OK,
        client: &["http/1.1 200"],
        backend: &["options * http/1.1|"],
    },
    // RFC 9112, 5: fields.
    Case {
        rule: "9112 5.1: white space before a colon is refused",
        request: "GET /x HTTP/1.1|Host: a|X : y||",
        response: OK,
        client: &["http/1.1 400"],
        backend: &["!get"],
    },
    Case {
        rule: "9112 5.2: a folded line in a request is refused",
        request: "GET /x HTTP/1.1|Host: a|X: y| z||",
        response: OK,
        client: &["http/1.1 400"],
        backend: &["!get"],
    },
    Case {
        rule: "9112 5.2: a folded line in a response is not passed on",
        request: "GET /x HTTP/1.1|Host: a|Connection: close||",
        response: "HTTP/1.1 200 OK|X: y| z|content-length: 2||ok",
        client: &["http/1.1 502", "!| z"],
        backend: &["get /x"],
    },
    Case {
        rule: "9112 5.1: white space before a colon in a response is not passed on",
        request: "GET /x HTTP/1.1|Host: a|Connection: close||",
        response: "HTTP/1.1 200 OK|X : y|content-length: 2||ok",
        client: &["http/1.1 502", "!x :"],
        backend: &["get /x"],
    },
    Case {
        rule: "9110 5.3: the order of fields with one name stays",
        request: "GET /x HTTP/1.1|Host: a|X: 1|Y: 0|X: 2|Connection: close||",
        response: "HTTP/1.1 200 OK|set-cookie: a=1|set-cookie: b=2|content-length: 2||ok",
        client: &["set-cookie: a=1|set-cookie: b=2|"],
        backend: &["x: 1|y: 0|x: 2|"],
    },
    Case {
        rule: "9110 5.5: NUL in a value is refused",
        request: "GET /x HTTP/1.1|Host: a|X: a\0b||",
        response: OK,
        client: &["http/1.1 400"],
        backend: &["!get"],
    },
    Case {
        rule: "9110 5.4: too many fields are refused with a 4xx",
        request: "GET /x HTTP/1.1|Host: a|MANY||",
        response: OK,
        client: &["http/1.1 431"],
        backend: &["!get"],
    },
    Case {
        rule: "9110 5.1: fields that nobody knows go on, both ways",
        request: "GET /x HTTP/1.1|Host: a|X-Unknown: 1|Connection: close||",
        response: "HTTP/1.1 200 OK|x-strange: 2|content-length: 2||ok",
        client: &["x-strange: 2|"],
        backend: &["x-unknown: 1|"],
    },
    // RFC 9112, 6 and 7: bodies.
    Case {
        rule: "9112 6.1: chunks with a length are refused",
        request: "POST /x HTTP/1.1|Host: a|Content-Length: 3|Transfer-Encoding: chunked||0||",
        response: OK,
        client: &["http/1.1 400"],
        backend: &["!post"],
    },
    Case {
        rule: "9112 6.1: a coding that is not known is 501",
        request: "POST /x HTTP/1.1|Host: a|Transfer-Encoding: gzip, chunked||0||",
        response: OK,
        client: &["http/1.1 501"],
        backend: &["!post"],
    },
    Case {
        rule: "9112 6.1: chunks in HTTP/1.0 are refused",
        request: "POST /x HTTP/1.0|Host: a|Transfer-Encoding: chunked||0||",
        response: OK,
        client: &["http/1.1 400"],
        backend: &["!post"],
    },
    Case {
        rule: "9112 6.3: a length that is none is refused",
        request: "POST /x HTTP/1.1|Host: a|Content-Length: 3x||abc",
        response: OK,
        client: &["http/1.1 400"],
        backend: &["!post"],
    },
    Case {
        rule: "9112 6.3: of a response it is 502",
        request: "GET /x HTTP/1.1|Host: a|Connection: close||",
        response: "HTTP/1.1 200 OK|content-length: 2x||ok",
        client: &["http/1.1 502"],
        backend: &["get /x"],
    },
    Case {
        rule: "9112 6.3: two lengths of a response are 502",
        request: "GET /x HTTP/1.1|Host: a|Connection: close||",
        response: "HTTP/1.1 200 OK|content-length: 2|content-length: 3||ok",
        client: &["http/1.1 502"],
        backend: &["get /x"],
    },
    Case {
        rule: "9112 6.1: a response with a length beside chunks is not passed on",
        request: "GET /x HTTP/1.1|Host: a|Connection: close||",
        response: "HTTP/1.1 200 OK|content-length: 2|transfer-encoding: chunked||0||",
        client: &["http/1.1 502"],
        backend: &["get /x"],
    },
    Case {
        rule: "9112 6.3: a response to HEAD has no body, whatever its length says",
        request: "HEAD /x HTTP/1.1|Host: a||GET /y HTTP/1.1|Host: a|Connection: close||",
        response: "HTTP/1.1 200 OK|content-length: 1000||~HTTP/1.1 200 OK|content-length: 2||ok",
        client: &["content-length: 1000|", "||http/1.1 200 ok|", "|ok"],
        backend: &["head /x", "get /y"],
    },
    Case {
        rule: "9112 6.3: 204 has no body",
        request: "GET /x HTTP/1.1|Host: a||GET /y HTTP/1.1|Host: a|Connection: close||",
        response: "HTTP/1.1 204 No Content||~HTTP/1.1 200 OK|content-length: 2||ok",
        client: &["http/1.1 204", "||http/1.1 200 ok|"],
        backend: &["get /x", "get /y"],
    },
    Case {
        rule: "9112 6.3: 304 has no body, whatever its length says",
        request: "GET /x HTTP/1.1|Host: a||GET /y HTTP/1.1|Host: a|Connection: close||",
        response: "HTTP/1.1 304 Not Modified|content-length: 1000||~HTTP/1.1 200 OK|content-length: 2||ok",
        client: &["http/1.1 304", "||http/1.1 200 ok|"],
        backend: &["get /x", "get /y"],
    },
    Case {
        rule: "9112 6.3: without length or chunks a response goes on to the end of the connection",
        request: "GET /x HTTP/1.1|Host: a||",
        response: "HTTP/1.1 200 OK|x: y||all of it",
        client: &["connection: close|", "||all of it"],
        backend: &["get /x"],
    },
    Case {
        rule: "9112 6.3: without length or chunks a request has no body",
        request: "POST /x HTTP/1.1|Host: a||GET /y HTTP/1.1|Host: a|Connection: close||",
        response: "HTTP/1.1 200 OK|content-length: 1||1~HTTP/1.1 200 OK|content-length: 1||2",
        client: &["|1http/1.1 200", "|2"],
        backend: &["post /x", "get /y"],
    },
    Case {
        rule: "9112 7.1: a chunked body goes on",
        request: "POST /x HTTP/1.1|Host: a|Transfer-Encoding: chunked|Connection: close||3|abc|0||",
        response: "HTTP/1.1 200 OK|transfer-encoding: chunked||2|ok|0||",
        client: &["transfer-encoding: chunked|", "|2|ok|0||"],
        backend: &["transfer-encoding: chunked|", "3|abc|0||"],
    },
    Case {
        rule: "9112 7.1: to HTTP/1.0 a chunked body goes as its data",
        request: "GET /x HTTP/1.0|Host: a||",
        response: "HTTP/1.1 200 OK|transfer-encoding: chunked||2|ok|3|yes|0||",
        client: &["!transfer-encoding", "||okyes"],
        backend: &["get /x"],
    },
    Case {
        rule: "9112 7.1.1: extensions of chunks that are not known do not matter",
        request: "POST /x HTTP/1.1|Host: a|Transfer-Encoding: chunked|Connection: close||3;a=\"b;c\"|abc|0;d||",
        response: OK,
        client: &["http/1.1 200"],
        backend: &["|abc|0"],
    },
    Case {
        rule: "9112 7.1: a chunk size that is none ends the connection",
        request: "POST /x HTTP/1.1|Host: a|Transfer-Encoding: chunked||xyz|abc|0||",
        response: OK,
        client: &["!http/1.1 200"],
        backend: &["!|0||"],
    },
    Case {
        rule: "9112 7.1.2: trailers go on as trailers",
        request: "POST /x HTTP/1.1|Host: a|Transfer-Encoding: chunked|Connection: close||3|abc|0|X-Sum: 1||",
        response: "HTTP/1.1 200 OK|transfer-encoding: chunked|trailer: x-end||2|ok|0|x-end: 2||",
        client: &["|0|x-end: 2||", "trailer: x-end|"],
        backend: &["|0|x-sum: 1||"],
    },
    // RFC 9110, 7.6: what is for the next hop alone.
    Case {
        rule: "9110 7.6.1: fields that Connection names do not go on, nor does Connection",
        request: "GET /x HTTP/1.1|Host: a|Connection: close, X-Hop|X-Hop: 1|X-End: 2||",
        response: "HTTP/1.1 200 OK|connection: y-hop|y-hop: 1|y-end: 2|content-length: 2||ok",
        client: &["!y-hop", "y-end: 2|"],
        backend: &["!x-hop", "x-end: 2|", "!connection: close"],
    },
    Case {
        rule: "9110 7.6.1: fields of old proxies do not go on either",
        request: "GET /x HTTP/1.1|Host: a|Keep-Alive: timeout=5|Proxy-Connection: keep-alive|TE: gzip|Connection: close||",
        response: "HTTP/1.1 200 OK|keep-alive: timeout=5|proxy-connection: x|content-length: 2||ok",
        client: &["!keep-alive", "!proxy-connection"],
        backend: &["!keep-alive", "!proxy-connection", "!te: gzip"],
    },
    Case {
        rule: "9110 10.1.4: TE goes on for trailers alone, named by Connection",
        request: "GET /x HTTP/1.1|Host: a|TE: trailers|Connection: close, te||",
        response: OK,
        client: &["http/1.1 200"],
        backend: &["te: trailers|", "connection: te|"],
    },
    Case {
        rule: "9110 7.6.2: OPTIONS that may go no further is answered",
        request: "OPTIONS /x HTTP/1.1|Host: a|Max-Forwards: 0|Connection: close||",
        response: OK,
        client: &["http/1.1 200", "content-length: 0|"],
        backend: &["!options"],
    },
    Case {
        rule: "9110 7.6.2: TRACE that may go no further is answered",
        request: "TRACE /x HTTP/1.1|Host: a|Max-Forwards: 0|Connection: close||",
        response: OK,
        client: &["http/1.1 405", "allow: "],
        backend: &["!trace"],
    },
    Case {
        rule: "9110 7.6.2: OPTIONS that goes on may go one further less",
        request: "OPTIONS /x HTTP/1.1|Host: a|Max-Forwards: 7|Connection: close||",
        response: OK,
        client: &["http/1.1 200"],
        backend: &["max-forwards: 6|", "!max-forwards: 7"],
    },
    Case {
        rule: "9110 7.6.2: of other methods Max-Forwards says nothing",
        request: "GET /x HTTP/1.1|Host: a|Max-Forwards: 0|Connection: close||",
        response: OK,
        client: &["http/1.1 200"],
        backend: &["max-forwards: 0|"],
    },
    // RFC 9110, 7.8, 10.1.1, 15.2: upgrades, expectations, interim responses.
    Case {
        rule: "9110 7.8: an upgrade goes on, and its answer back",
        request: "GET /x HTTP/1.1|Host: a|Connection: upgrade|Upgrade: websocket||",
        response: "HTTP/1.1 101 Switching Protocols|connection: upgrade|upgrade: websocket||\u{1}bytes",
        client: &["http/1.1 101", "upgrade: websocket|", "connection: upgrade|", "||\u{1}bytes"],
        backend: &["upgrade: websocket|", "connection: upgrade|"],
    },
    Case {
        rule: "9110 7.8: an Upgrade that Connection does not name is not one",
        request: "GET /x HTTP/1.1|Host: a|Upgrade: websocket|Connection: close||",
        response: OK,
        client: &["http/1.1 200"],
        backend: &["!upgrade"],
    },
    Case {
        rule: "9110 15.2.2: nobody is switched who did not ask",
        request: "GET /x HTTP/1.1|Host: a|Connection: close||",
        response: "HTTP/1.1 101 Switching Protocols|connection: upgrade|upgrade: x||",
        client: &["http/1.1 502"],
        backend: &["get /x"],
    },
    Case {
        rule: "9110 10.1.1: an expectation is met, and the body goes on",
        request: "POST /x HTTP/1.1|Host: a|Content-Length: 3|Expect: 100-continue|Connection: close||abc",
        response: OK,
        client: &["http/1.1 200"],
        backend: &["||abc"],
    },
    Case {
        rule: "9110 10.1.1: another expectation is 417",
        request: "POST /x HTTP/1.1|Host: a|Content-Length: 3|Expect: more||abc",
        response: OK,
        client: &["http/1.1 417"],
        backend: &["!post"],
    },
    Case {
        rule: "9110 15.2: interim responses go on",
        request: "GET /x HTTP/1.1|Host: a|Connection: close||",
        response: "HTTP/1.1 103 Early Hints|link: </a>||HTTP/1.1 200 OK|content-length: 2||ok",
        client: &["http/1.1 103 early hints|link: </a>||http/1.1 200 ok|"],
        backend: &["get /x"],
    },
    Case {
        rule: "9110 15.2: but not to HTTP/1.0",
        request: "GET /x HTTP/1.0|Host: a||",
        response: "HTTP/1.1 103 Early Hints|link: </a>||HTTP/1.1 200 OK|content-length: 2||ok",
        client: &["!http/1.1 103", "http/1.1 200"],
        backend: &["get /x"],
    },
    // RFC 9110, 6.6.1: dates.
    Case {
        rule: "9110 6.6.1: a response without Date gets one",
        request: "GET /x HTTP/1.1|Host: a|Connection: close||",
        response: OK,
        client: &["|date: "],
        backend: &["get /x"],
    },
    Case {
        rule: "9110 6.6.1: a Date that is there stays",
        request: "GET /x HTTP/1.1|Host: a|Connection: close||",
        response: "HTTP/1.1 200 OK|date: Tue, 15 Nov 1994 08:12:31 GMT|content-length: 2||ok",
        client: &["|date: tue, 15 nov 1994 08:12:31 gmt|"],
        backend: &["get /x"],
    },
    Case {
        rule: "9110 6.6.1: what the gate answers itself has a Date",
        request: "GET /x HTTP/1.1|Host: a b||",
        response: OK,
        client: &["http/1.1 400", "|date: "],
        backend: &["!get"],
    },
    // RFC 9112, 9: connections.
    Case {
        rule: "9112 9.3: a connection of HTTP/1.1 stays open, one of pipelined requests answers in order",
        request: "GET /1 HTTP/1.1|Host: a||POST /2 HTTP/1.1|Host: a|Content-Length: 3||abcGET /3 HTTP/1.1|Host: a|Connection: close||",
        response: "HTTP/1.1 200 OK|content-length: 1||1~HTTP/1.1 200 OK|content-length: 1||2~HTTP/1.1 200 OK|content-length: 1||3",
        client: &["|1http/1.1 200", "|2http/1.1 200", "|3"],
        backend: &["get /1", "||abc", "get /3"],
    },
    Case {
        rule: "9112 9.3: one of HTTP/1.0 does not",
        request: "GET /1 HTTP/1.0|Host: a||GET /2 HTTP/1.0|Host: a||",
        response: OK,
        client: &["http/1.1 200"],
        backend: &["get /1", "!get /2"],
    },
    Case {
        rule: "9112 9.3: unless it asks for it",
        request: "GET /1 HTTP/1.0|Host: a|Connection: keep-alive||GET /2 HTTP/1.0|Host: a||",
        response: "HTTP/1.1 200 OK|content-length: 1||1~HTTP/1.1 200 OK|content-length: 1||2",
        client: &["connection: keep-alive|", "|1http/1.1 200", "|2"],
        backend: &["get /1", "get /2"],
    },
    Case {
        rule: "9112 9.6: after a request with close no other one is served",
        request: "GET /1 HTTP/1.1|Host: a|Connection: close||GET /2 HTTP/1.1|Host: a||",
        response: OK,
        client: &["connection: close|"],
        backend: &["get /1", "!get /2"],
    },
    Case {
        rule: "9112 8: a response that is cut off is not made whole",
        request: "GET /x HTTP/1.1|Host: a|Connection: close||",
        response: "HTTP/1.1 200 OK|transfer-encoding: chunked||2|ok|",
        client: &["||2|ok|", "!|0||"],
        backend: &["get /x"],
    },
    Case {
        rule: "9110 15.6.3: a back end that answers with no HTTP is 502",
        request: "GET /x HTTP/1.1|Host: a|Connection: close||",
        response: "SSH-2.0-x|",
        client: &["http/1.1 502"],
        backend: &["get /x"],
    },
    Case {
        rule: "9110 9.3.6: CONNECT makes no tunnel",
        request: "CONNECT b:443 HTTP/1.1|Host: b:443||GET /hidden HTTP/1.1|Host: a||",
        response: OK,
        // What a client sent into it, without waiting for the answer, is no request.
        client: &["!http/1.1 2", "connection: close|"],
        backend: &["!connect", "!get"],
    },
    Case {
        rule: "9110 7.6.1: fields that are for the end cannot be taken away by Connection",
        request: "GET /x HTTP/1.1|Host: a|Connection: authorization|Authorization: x||",
        response: OK,
        client: &["http/1.1 400"],
        backend: &["!get"],
    },
];

/// Answers each request of a connection with the next of the responses that the case has, and ends where a response has no other end.
fn answers(responses: &Responses, recorded: &Recorded, mut stream: TcpStream) {
    let mut read = Vec::new();
    while let Some((head, body)) = request(&mut stream, &mut read) {
        let mut all = recorded.lock().unwrap();
        all.extend_from_slice(&head);
        all.extend_from_slice(&body);
        drop(all);
        let Some(next) = responses.lock().unwrap().pop_front() else { return };
        let _ = stream.write_all(next.as_bytes());
        let is_delimited = next.contains("content-length: ") || next.contains(" 204 ") || next.ends_with("0\r\n\r\n");
        if !is_delimited {
            return;
        }
    }
}

#[test]
fn every_rule() {
    let (responses, recorded) = (Responses::default(), Recorded::default());
    let (of, record) = (Arc::clone(&responses), Arc::clone(&recorded));
    let at = serve(move |stream| answers(&of, &record, stream));
    let manifests = service("one", at) + &http("  - backendRefs: [{name: one, port: 8080}]\n");
    let gate = Gate::alone(&[("all.yaml", &manifests)], &["--workers", "1"]);
    let many = (0..120).map(|index| format!("X-{index}: y")).collect::<Vec<_>>().join("\r\n");
    let long = format!("/{}", "x".repeat(9000));
    let mut wrong = Vec::new();
    for case in CASES {
        *responses.lock().unwrap() = case.response.split('~').map(|text| text.replace('|', "\r\n")).collect();
        recorded.lock().unwrap().clear();
        let text = case.request.replace('|', "\r\n").replace("MANY", &many).replace("/LONG", &long);
        let flat = |text: &[u8]| String::from_utf8_lossy(text).to_ascii_lowercase().replace("\r\n", "|");
        let answer = flat(raw(gate.at("edge", 80), &text).as_bytes());
        let got = flat(&recorded.lock().unwrap());
        for (who, seen, expected) in [("client", &answer, case.client), ("back end", &got, case.backend)] {
            for text in expected {
                let holds = match text.strip_prefix('!') {
                    Some(absent) => !seen.contains(absent),
                    None => seen.contains(text),
                };
                if !holds {
                    wrong.push(format!("{}: the {who} should see {text:?}, saw {seen:?}", case.rule));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}

/// What HTTP/2 says of interim responses and dates is the same (RFC 9113, 8.1).
#[test]
fn over_http2() {
    let (responses, recorded) = (Responses::default(), Recorded::default());
    let of = Arc::clone(&responses);
    let at = serve(move |stream| answers(&of, &recorded, stream));
    let manifests = service("one", at) + &http("  - backendRefs: [{name: one, port: 8080}]\n");
    let gate = Gate::alone(&[("all.yaml", &manifests)], &["--workers", "1"]);
    let url = format!("http://{}/x", gate.at("edge", 80));
    let cases = [
        (
            "GET",
            "HTTP/1.1 103 Early Hints|link: </a>||HTTP/1.1 200 OK|content-length: 2||ok",
            "http/2 103 |link: </a>||http/2 200 |",
        ),
        ("GET", OK, "|date: "),
        ("OPTIONS", "", "http/2 200 |"),
    ];
    for (method, response, expected) in cases {
        *responses.lock().unwrap() = std::iter::once(response.replace('|', "\r\n")).collect();
        let output = std::process::Command::new("curl")
            .args(["-si", "--max-time", "20", "--http2-prior-knowledge", "-H", "Max-Forwards: 0", "-X", method, &url])
            .output()
            .unwrap();
        let seen = String::from_utf8_lossy(&output.stdout).to_ascii_lowercase().replace("\r\n", "|");
        assert!(output.status.success() && seen.contains(expected), "{method}: {seen:?}");
        assert_eq!(seen.matches("|date: ").count(), 1, "{seen}");
    }
}
