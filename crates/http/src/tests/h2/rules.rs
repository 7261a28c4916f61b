//! What RFC 9113 asks of an endpoint, by its sections: the cases of h2spec, and some more.

use super::*;
use crate::{Edits, Limits, RequestHead, h2::Sent};

struct Case {
    section: &'static str,
    name: &'static str,
    input: Vec<u8>,
    /// What came, and what it was answered; where it begins with `over`, the number in the `GOAWAY` does not matter.
    expected: &'static str,
}

fn case(section: &'static str, name: &'static str, input: &[Vec<u8>], expected: &'static str) -> Case {
    Case { section, name, input: input.concat(), expected }
}

fn check(made: impl Fn() -> Connection, cases: &[Case]) {
    let mut failures = Vec::new();
    for case in cases {
        let mut connection = made();
        let found = answer(&mut connection, &case.input);
        let same = match case.expected.strip_prefix("over: ") {
            Some(code) => {
                let before = found.split("over: ").next().unwrap_or_default().len();
                let last = frames_last(&found);
                found[before..].starts_with(&format!("over: {code}"))
                    && last.ends_with(&format!(" {code}"))
                    && last.starts_with("GOAWAY")
            }
            None => found == case.expected,
        };
        if !same {
            failures.push(format!("{} {}:\n  expected {}\n  found    {found}", case.section, case.name, case.expected));
        }
        // It does not matter in which pieces it comes.
        let (mut pieces, mut rest, mut came) = (made(), Vec::new(), Vec::new());
        for byte in &case.input {
            rest.push(*byte);
            let (found, taken) = play_some(&mut pieces, &rest);
            rest.drain(..taken);
            came.extend(Some(found).filter(|found| !found.is_empty()));
            if came.last().is_some_and(|last| last.contains("over: ")) {
                break;
            }
        }
        let whole = [&[came.join(", ")][..], &frames(&drain(&mut pieces))].concat().join("; ");
        if whole != found {
            failures.push(format!("{} {}:\n  as one    {found}\n  in pieces {whole}", case.section, case.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn frames_last(found: &str) -> &str {
    found.rsplit("; ").next().unwrap_or_default()
}

fn raw(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

fn update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags, stream, &block(fields))
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn server_frames() {
    let whole = END_HEADERS | END_STREAM;
    let split = block(&GET);
    let (first, second) = split.split_at(20);
    let priority = |on: u32| [&on.to_be_bytes()[..], &[15]].concat();
    let cases = [
        case("4.1", "unknown type", &[frame(0x16, 0, 0, &[0; 8]), get(1)], "request 1 GET / end"),
        case("4.1", "undefined flags", &[frame(PING, 0x16, 0, &[7; 8])], "; PING ack [7, 7, 7, 7, 7, 7, 7, 7]"),
        case("4.1", "reserved bit", &[frame(PING, 0, 1 << 31, &[7; 8])], "; PING ack [7, 7, 7, 7, 7, 7, 7, 7]"),
        case(
            "4.2",
            "largest DATA",
            &[post(1), frame(DATA, END_STREAM, 1, &[0; 1 << 14])],
            "request 1 POST /, data 1 16384 end",
        ),
        case(
            "4.2",
            "too large DATA",
            &[post(1), frame(DATA, END_STREAM, 1, &vec![0; (1 << 14) + 1])],
            "over: FRAME_SIZE_ERROR",
        ),
        case(
            "4.2",
            "too large HEADERS",
            &[frame(HEADERS, whole, 1, &vec![0; (1 << 14) + 1])],
            "over: FRAME_SIZE_ERROR",
        ),
        case("4.3", "a block that is none", &[frame(HEADERS, whole, 1, &[0x40])], "over: COMPRESSION_ERROR"),
        case(
            "4.3",
            "PRIORITY within a block",
            &[frame(HEADERS, END_STREAM, 1, first), frame(PRIORITY, 0, 1, &priority(0))],
            "over: PROTOCOL_ERROR",
        ),
        case(
            "4.3",
            "HEADERS of another stream within a block",
            &[frame(HEADERS, END_STREAM, 1, first), get(3)],
            "over: PROTOCOL_ERROR",
        ),
        case("5.1", "idle: DATA", &[frame(DATA, END_STREAM, 1, &[0])], "over: PROTOCOL_ERROR"),
        case("5.1", "idle: RST_STREAM", &[reset(1)], "over: PROTOCOL_ERROR"),
        case("5.1", "idle: WINDOW_UPDATE", &[update(1, 1)], "over: PROTOCOL_ERROR"),
        case("5.1", "idle: CONTINUATION", &[frame(CONTINUATION, END_HEADERS, 1, &split)], "over: PROTOCOL_ERROR"),
        case(
            "5.1",
            "half-closed: DATA",
            &[get(1), frame(DATA, 0, 1, &[0])],
            "request 1 GET / end, reset 1 STREAM_CLOSED; RST_STREAM 1 STREAM_CLOSED",
        ),
        case(
            "5.1",
            "half-closed: HEADERS",
            &[get(1), get(1)],
            "request 1 GET / end, reset 1 STREAM_CLOSED; RST_STREAM 1 STREAM_CLOSED",
        ),
        case(
            "5.1",
            "half-closed: CONTINUATION",
            &[get(1), frame(CONTINUATION, END_HEADERS, 1, &split)],
            "over: PROTOCOL_ERROR",
        ),
        case(
            "5.1",
            "half-closed: what may come",
            &[get(1), update(1, 9), frame(PRIORITY, 0, 1, &priority(0)), reset(1)],
            "request 1 GET / end, reset 1 CANCEL",
        ),
        case(
            "5.1",
            "reset: DATA",
            &[post(1), reset(1), frame(DATA, 0, 1, &[0])],
            "request 1 POST /, reset 1 CANCEL; RST_STREAM 1 STREAM_CLOSED",
        ),
        case(
            "5.1",
            "reset: HEADERS",
            &[post(1), reset(1), headers(1, whole, &GET)],
            "request 1 POST /, reset 1 CANCEL; RST_STREAM 1 STREAM_CLOSED",
        ),
        case(
            "5.1",
            "reset: WINDOW_UPDATE and RST_STREAM",
            &[post(1), reset(1), update(1, 1), reset(1)],
            "request 1 POST /, reset 1 CANCEL",
        ),
        case("5.1.1", "even id", &[get(2)], "over: PROTOCOL_ERROR"),
        case("5.1.1", "smaller id", &[get(5), get(3)], "over: PROTOCOL_ERROR"),
        case(
            "5.3.1",
            "HEADERS that depend on themselves",
            &[frame(HEADERS, whole | PRIORITIZED, 1, &[priority(1), split.clone()].concat())],
            "; RST_STREAM 1 PROTOCOL_ERROR",
        ),
        case(
            "5.3.1",
            "PRIORITY that depends on itself",
            &[post(1), frame(PRIORITY, 0, 1, &priority(1))],
            "request 1 POST /, reset 1 PROTOCOL_ERROR; RST_STREAM 1 PROTOCOL_ERROR",
        ),
        case(
            "5.3",
            "HEADERS with a priority",
            &[frame(HEADERS, whole | PRIORITIZED, 1, &[priority(3), split.clone()].concat())],
            "request 1 GET / end",
        ),
        case(
            "5.5",
            "unknown frame within a block",
            &[frame(HEADERS, END_STREAM, 1, first), frame(0x16, 0, 0, &[])],
            "over: PROTOCOL_ERROR",
        ),
        case("6.1", "DATA on stream 0", &[frame(DATA, 0, 0, &[0])], "over: PROTOCOL_ERROR"),
        case(
            "6.1",
            "DATA with padding",
            &[post(1), frame(DATA, PADDED | END_STREAM, 1, &[2, b'a', 0, 0])],
            "request 1 POST /, data 1 1 end",
        ),
        case(
            "6.1",
            "padding as long as the payload",
            &[post(1), frame(DATA, PADDED | END_STREAM, 1, &[4, b'a', 0, 0])],
            "over: PROTOCOL_ERROR",
        ),
        case("6.1", "padding without its length", &[post(1), frame(DATA, PADDED, 1, &[])], "over: PROTOCOL_ERROR"),
        case("6.2", "HEADERS on stream 0", &[get(0)], "over: PROTOCOL_ERROR"),
        case(
            "6.2",
            "HEADERS with padding",
            &[frame(HEADERS, whole | PADDED, 1, &[raw(&[3]), split.clone(), raw(&[0; 3])].concat())],
            "request 1 GET / end",
        ),
        case(
            "6.2",
            "HEADERS with too much padding",
            &[frame(HEADERS, whole | PADDED, 1, &[raw(&[200]), split.clone()].concat())],
            "over: PROTOCOL_ERROR",
        ),
        case(
            "6.2",
            "HEADERS in pieces",
            &[frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 1, second)],
            "request 1 GET / end",
        ),
        case(
            "6.2",
            "HEADERS with a priority that is too short",
            &[frame(HEADERS, whole | PRIORITIZED, 1, &[0; 4])],
            "over: PROTOCOL_ERROR",
        ),
        case("6.3", "PRIORITY on stream 0", &[frame(PRIORITY, 0, 0, &priority(3))], "over: PROTOCOL_ERROR"),
        case(
            "6.3",
            "PRIORITY of another length",
            &[post(1), frame(PRIORITY, 0, 1, &[0; 4])],
            "request 1 POST /, reset 1 FRAME_SIZE_ERROR; RST_STREAM 1 FRAME_SIZE_ERROR",
        ),
        case(
            "6.3",
            "PRIORITY of an idle stream",
            &[frame(PRIORITY, 0, 7, &priority(1)), get(1)],
            "request 1 GET / end",
        ),
        case("6.4", "RST_STREAM on stream 0", &[reset(0)], "over: PROTOCOL_ERROR"),
        case(
            "6.4",
            "RST_STREAM of another length",
            &[post(1), frame(RST_STREAM, 0, 1, &[0; 3])],
            "over: FRAME_SIZE_ERROR",
        ),
        case("6.5", "SETTINGS ack with a payload", &[frame(SETTINGS, ACK, 0, &[0; 6])], "over: FRAME_SIZE_ERROR"),
        case("6.5", "SETTINGS on a stream", &[frame(SETTINGS, 0, 1, &[])], "over: PROTOCOL_ERROR"),
        case("6.5", "SETTINGS of another length", &[frame(SETTINGS, 0, 0, &[0; 3])], "over: FRAME_SIZE_ERROR"),
        case("6.5.2", "ENABLE_PUSH 2", &[settings(&[(2, 2)])], "over: PROTOCOL_ERROR"),
        case("6.5.2", "window beyond 2^31", &[settings(&[(4, 1 << 31)])], "over: FLOW_CONTROL_ERROR"),
        case("6.5.2", "frame size too small", &[settings(&[(5, (1 << 14) - 1)])], "over: PROTOCOL_ERROR"),
        case("6.5.2", "frame size too large", &[settings(&[(5, 1 << 24)])], "over: PROTOCOL_ERROR"),
        case("6.5.2", "unknown setting", &[settings(&[(0xff, 1), (2, 1), (5, 1 << 20)])], "settings; SETTINGS ack"),
        case("6.5.3", "the last of several values", &[settings(&[(4, 1), (4, 5)])], "settings; SETTINGS ack"),
        case("RFC 8441, 3", "extended CONNECT 2", &[settings(&[(8, 2)])], "over: PROTOCOL_ERROR"),
        case(
            "RFC 8441, 3",
            "extended CONNECT taken back",
            &[settings(&[(8, 1)]), settings(&[(8, 0)])],
            "over: PROTOCOL_ERROR",
        ),
        case(
            "6.6",
            "PUSH_PROMISE of a client",
            &[get(1), frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])],
            "over: PROTOCOL_ERROR",
        ),
        case("6.7", "PING", &[frame(PING, 0, 0, &[1; 8])], "; PING ack [1, 1, 1, 1, 1, 1, 1, 1]"),
        case("6.7", "PING ack", &[frame(PING, ACK, 0, &[1; 8])], "pong"),
        case("6.7", "PING on a stream", &[frame(PING, 0, 1, &[1; 8])], "over: PROTOCOL_ERROR"),
        case("6.7", "PING of another length", &[frame(PING, 0, 0, &[1; 6])], "over: FRAME_SIZE_ERROR"),
        case("6.8", "GOAWAY", &[frame(GOAWAY, 0, 0, &[0; 8]), get(1)], "goaway NO_ERROR, request 1 GET / end"),
        case("6.8", "GOAWAY on a stream", &[frame(GOAWAY, 0, 1, &[0; 8])], "over: PROTOCOL_ERROR"),
        case("6.8", "GOAWAY that is too short", &[frame(GOAWAY, 0, 0, &[0; 7])], "over: FRAME_SIZE_ERROR"),
        case(
            "6.9",
            "WINDOW_UPDATE by 0 of a stream",
            &[post(1), update(1, 0)],
            "request 1 POST /, reset 1 PROTOCOL_ERROR; RST_STREAM 1 PROTOCOL_ERROR",
        ),
        case("6.9", "WINDOW_UPDATE by 0", &[update(0, 0)], "over: PROTOCOL_ERROR"),
        case(
            "6.9",
            "WINDOW_UPDATE of another length",
            &[frame(WINDOW_UPDATE, 0, 0, &[0; 3])],
            "over: FRAME_SIZE_ERROR",
        ),
        case("6.9.1", "window beyond 2^31", &[update(0, (1 << 31) - 1), update(0, 1)], "over: FLOW_CONTROL_ERROR"),
        case(
            "6.9.1",
            "window of a stream beyond 2^31",
            &[post(1), update(1, (1 << 31) - 1)],
            "request 1 POST /, reset 1 FLOW_CONTROL_ERROR; RST_STREAM 1 FLOW_CONTROL_ERROR",
        ),
        case(
            "6.9.2",
            "settings that make a window larger than it may be",
            &[post(1), update(1, (1 << 31) - 1 - 65_535), settings(&[(4, 65_536)])],
            "over: FLOW_CONTROL_ERROR",
        ),
        case(
            "6.10",
            "several CONTINUATIONs",
            &[
                frame(HEADERS, END_STREAM, 1, first),
                frame(CONTINUATION, 0, 1, &[]),
                frame(CONTINUATION, END_HEADERS, 1, second),
            ],
            "request 1 GET / end",
        ),
        case(
            "6.10",
            "CONTINUATION of another stream",
            &[frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 3, second)],
            "over: PROTOCOL_ERROR",
        ),
        case(
            "6.10",
            "CONTINUATION on stream 0",
            &[frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 0, second)],
            "over: PROTOCOL_ERROR",
        ),
        case(
            "6.10",
            "CONTINUATION behind END_HEADERS",
            &[get(1), frame(CONTINUATION, END_HEADERS, 1, second)],
            "over: PROTOCOL_ERROR",
        ),
        case(
            "6.10",
            "CONTINUATION behind a CONTINUATION that ends",
            &[
                frame(HEADERS, END_STREAM, 1, first),
                frame(CONTINUATION, END_HEADERS, 1, second),
                frame(CONTINUATION, END_HEADERS, 1, second),
            ],
            "over: PROTOCOL_ERROR",
        ),
        case(
            "6.10",
            "CONTINUATION behind DATA",
            &[post(1), frame(DATA, 0, 1, &[0]), frame(CONTINUATION, END_HEADERS, 1, second)],
            "over: PROTOCOL_ERROR",
        ),
        case(
            "7",
            "unknown error codes",
            &[post(1), frame(RST_STREAM, 0, 1, &[0xff; 4]), frame(GOAWAY, 0, 0, &[0xff; 8])],
            "request 1 POST /, reset 1 4294967295, goaway 4294967295",
        ),
        case(
            "8.1",
            "trailers",
            &[post(1), frame(DATA, 0, 1, b"abc"), headers(1, whole, &[("x-sum", "1")])],
            "request 1 POST /, data 1 3, trailers 1 1",
        ),
        case(
            "8.1",
            "a second head that ends nothing",
            &[post(1), headers(1, END_HEADERS, &[("x-sum", "1")])],
            "request 1 POST /, reset 1 PROTOCOL_ERROR; RST_STREAM 1 PROTOCOL_ERROR",
        ),
        case(
            "8.1.1",
            "less DATA than announced",
            &[
                headers(1, END_HEADERS, &[&POST[..], &[("content-length", "4")]].concat()),
                frame(DATA, END_STREAM, 1, b"abc"),
            ],
            "request 1 POST /, reset 1 PROTOCOL_ERROR; RST_STREAM 1 PROTOCOL_ERROR",
        ),
        case(
            "8.1.1",
            "more DATA than announced",
            &[headers(1, END_HEADERS, &[&POST[..], &[("content-length", "2")]].concat()), frame(DATA, 0, 1, b"abc")],
            "request 1 POST /, reset 1 PROTOCOL_ERROR; RST_STREAM 1 PROTOCOL_ERROR",
        ),
        case(
            "8.1.1",
            "less DATA, in two frames",
            &[
                headers(1, END_HEADERS, &[&POST[..], &[("content-length", "4")]].concat()),
                frame(DATA, 0, 1, b"ab"),
                frame(DATA, END_STREAM, 1, b"c"),
            ],
            "request 1 POST /, data 1 2, reset 1 PROTOCOL_ERROR; RST_STREAM 1 PROTOCOL_ERROR",
        ),
        case(
            "8.1.1",
            "as much DATA as announced",
            &[
                headers(1, END_HEADERS, &[&POST[..], &[("content-length", "3")]].concat()),
                frame(DATA, 0, 1, b"ab"),
                frame(DATA, END_STREAM, 1, b"c"),
            ],
            "request 1 POST /, data 1 2, data 1 1 end",
        ),
        case(
            "8.1.1",
            "trailers before all that was announced",
            &[
                headers(1, END_HEADERS, &[&POST[..], &[("content-length", "3")]].concat()),
                headers(1, whole, &[("x", "y")]),
            ],
            "request 1 POST /, reset 1 PROTOCOL_ERROR; RST_STREAM 1 PROTOCOL_ERROR",
        ),
    ];
    check(|| server(Config::default()), &cases);
}

#[test]
fn openings() {
    let open = |input: &[u8]| {
        let mut connection = Connection::new(Role::Server, Config::default());
        let said = frames(&drain(&mut connection));
        assert_eq!(said, ["SETTINGS", "WINDOW_UPDATE 0 983041"]);
        answer(&mut connection, input)
    };
    let with = |behind: &[u8]| [PREFACE.as_slice(), behind].concat();
    let cases = [
        (PREFACE.to_vec(), ""),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r".to_vec(), ""),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "over: PROTOCOL_ERROR; GOAWAY 0 PROTOCOL_ERROR"),
        (with(&settings(&[])), "settings; SETTINGS ack"),
        (with(&get(1)), "over: PROTOCOL_ERROR; GOAWAY 0 PROTOCOL_ERROR"),
        (with(&frame(SETTINGS, ACK, 0, &[])), "over: PROTOCOL_ERROR; GOAWAY 0 PROTOCOL_ERROR"),
        (
            with(&[settings(&[]), frame(SETTINGS, ACK, 0, &[]), get(1)].concat()),
            "settings, settings, request 1 GET / end; SETTINGS ack",
        ),
    ];
    for (input, expected) in cases {
        assert_eq!(open(&input), expected, "{input:?}");
    }
    let mut connection = Connection::new(Role::Client, Config::default());
    let out = drain(&mut connection);
    let rest = out.strip_prefix(PREFACE).unwrap();
    assert_eq!(frames(rest), ["SETTINGS", "WINDOW_UPDATE 0 983041"]);
    assert_eq!(answer(&mut connection, &get(1)), "over: PROTOCOL_ERROR; GOAWAY 0 PROTOCOL_ERROR");
}

/// Sends requests from a client: as many as `methods`.
pub(super) fn ask(connection: &mut Connection, methods: &[&str]) -> Vec<crate::h2::Key> {
    let mut keys = Vec::new();
    for method in methods {
        let text = format!("{method} / HTTP/1.1\r\nhost: a.example\r\n\r\n");
        let mut head = RequestHead::default();
        assert!(head.read(text.as_bytes(), &Limits::default()).unwrap());
        let sent = Sent { target: &[b"/"], authority: b"a.example", https: false, end: true };
        keys.push(connection.send_request(&head, text.as_bytes(), &sent, &Edits::default()).unwrap());
    }
    drain(connection);
    keys
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn client_frames() {
    let whole = END_HEADERS | END_STREAM;
    let ok = [(":status", "200")];
    let with = |more: &[(&'static str, &'static str)]| [&ok[..], more].concat();
    let cases = [
        case("8.1", "a response", &[headers(1, whole, &ok)], "response 1 200 end"),
        case(
            "8.1",
            "with data",
            &[headers(1, END_HEADERS, &ok), frame(DATA, END_STREAM, 1, b"abc")],
            "response 1 200, data 1 3 end",
        ),
        case(
            "8.1",
            "with trailers",
            &[headers(1, END_HEADERS, &ok), headers(1, whole, &[("grpc-status", "0")])],
            "response 1 200, trailers 1 1",
        ),
        case(
            "8.1",
            "interim ones before",
            &[
                headers(1, END_HEADERS, &[(":status", "100")]),
                headers(1, END_HEADERS, &[(":status", "103")]),
                headers(1, whole, &ok),
            ],
            "response 1 100, response 1 103, response 1 200 end",
        ),
        case(
            "8.1",
            "an interim one that ends",
            &[headers(1, whole, &[(":status", "100")])],
            "reset 1 PROTOCOL_ERROR; RST_STREAM 1 PROTOCOL_ERROR",
        ),
        case(
            "8.6",
            "101",
            &[headers(1, END_HEADERS, &[(":status", "101")])],
            "reset 1 PROTOCOL_ERROR; RST_STREAM 1 PROTOCOL_ERROR",
        ),
        case(
            "8.1",
            "data before a head",
            &[frame(DATA, END_STREAM, 1, b"abc")],
            "reset 1 PROTOCOL_ERROR; RST_STREAM 1 PROTOCOL_ERROR",
        ),
        case(
            "8.1",
            "data after an interim head",
            &[headers(1, END_HEADERS, &[(":status", "100")]), frame(DATA, 0, 1, b"abc")],
            "response 1 100, reset 1 PROTOCOL_ERROR; RST_STREAM 1 PROTOCOL_ERROR",
        ),
        case(
            "8.1.1",
            "less than announced",
            &[headers(1, END_HEADERS, &with(&[("content-length", "9")])), frame(DATA, END_STREAM, 1, b"abc")],
            "response 1 200, reset 1 PROTOCOL_ERROR; RST_STREAM 1 PROTOCOL_ERROR",
        ),
        case(
            "8.1.1",
            "nothing, but announced",
            &[headers(1, whole, &with(&[("content-length", "9")]))],
            "reset 1 PROTOCOL_ERROR; RST_STREAM 1 PROTOCOL_ERROR",
        ),
        case(
            "8.1.1",
            "an answer to HEAD, with a length",
            &[headers(3, whole, &with(&[("content-length", "9")]))],
            "response 3 200 end",
        ),
        case(
            "8.1.1",
            "an answer to HEAD, with a body",
            &[headers(3, END_HEADERS, &with(&[("content-length", "3")])), frame(DATA, END_STREAM, 3, b"abc")],
            "response 3 200, reset 3 PROTOCOL_ERROR; RST_STREAM 3 PROTOCOL_ERROR",
        ),
        case(
            "8.1.1",
            "304 with a length",
            &[headers(1, whole, &[(":status", "304"), ("content-length", "9")])],
            "response 1 304 end",
        ),
        case(
            "8.1.1",
            "204 with a body",
            &[headers(1, END_HEADERS, &[(":status", "204")]), frame(DATA, END_STREAM, 1, b"a")],
            "response 1 204, reset 1 PROTOCOL_ERROR; RST_STREAM 1 PROTOCOL_ERROR",
        ),
        case("5.1", "a head for a stream that nobody opened", &[headers(5, whole, &ok)], "over: PROTOCOL_ERROR"),
        case("5.1.1", "a stream of the server's", &[headers(2, whole, &ok)], "over: PROTOCOL_ERROR"),
        case(
            "5.1",
            "data for a stream that ended",
            &[headers(1, whole, &ok), frame(DATA, 0, 1, b"a")],
            "over: STREAM_CLOSED",
        ),
        case(
            "5.1",
            "a head for a stream that ended",
            &[headers(1, whole, &ok), headers(1, whole, &ok)],
            "over: STREAM_CLOSED",
        ),
        case(
            "5.1",
            "WINDOW_UPDATE and RST_STREAM for a stream that ended",
            &[headers(1, whole, &ok), update(1, 9), reset(1)],
            "response 1 200 end",
        ),
        case("6.5.2", "ENABLE_PUSH of a server", &[settings(&[(2, 1)])], "over: PROTOCOL_ERROR"),
        case("6.6", "PUSH_PROMISE", &[frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])], "over: PROTOCOL_ERROR"),
        case(
            "6.8",
            "GOAWAY: what is beyond was not processed",
            &[frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]), headers(1, whole, &ok)],
            "goaway NO_ERROR, reset 3 REFUSED_STREAM, response 1 200 end",
        ),
        case(
            "6.8",
            "GOAWAY twice",
            &[frame(GOAWAY, 0, 0, &[0x7f, 255, 255, 255, 0, 0, 0, 0]), frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])],
            "goaway NO_ERROR, goaway NO_ERROR, reset 3 REFUSED_STREAM",
        ),
        case("8.1", "refused", &[frame(RST_STREAM, 0, 1, &7_u32.to_be_bytes())], "reset 1 REFUSED_STREAM"),
        case(
            "8.3.2",
            "without a status",
            &[headers(1, whole, &[("a", "b")])],
            "reset 1 PROTOCOL_ERROR; RST_STREAM 1 PROTOCOL_ERROR",
        ),
        case(
            "8.3.2",
            "two statuses",
            &[headers(1, whole, &[(":status", "200"), (":status", "200")])],
            "reset 1 PROTOCOL_ERROR; RST_STREAM 1 PROTOCOL_ERROR",
        ),
        case(
            "8.3.2",
            "a status of four digits",
            &[headers(1, whole, &[(":status", "2000")])],
            "reset 1 PROTOCOL_ERROR; RST_STREAM 1 PROTOCOL_ERROR",
        ),
        case(
            "8.3.2",
            "a status that is none",
            &[headers(1, whole, &[(":status", "abc")])],
            "reset 1 PROTOCOL_ERROR; RST_STREAM 1 PROTOCOL_ERROR",
        ),
        case(
            "8.3",
            "a request's pseudo-field",
            &[headers(1, whole, &with(&[(":path", "/")]))],
            "reset 1 PROTOCOL_ERROR; RST_STREAM 1 PROTOCOL_ERROR",
        ),
        case(
            "8.2.2",
            "a field of the connection",
            &[headers(1, whole, &with(&[("connection", "close")]))],
            "reset 1 PROTOCOL_ERROR; RST_STREAM 1 PROTOCOL_ERROR",
        ),
    ];
    let made = || {
        let mut connection = client(Config::default());
        ask(&mut connection, &["GET", "HEAD"]);
        connection
    };
    check(made, &cases);
}

/// What was on its way when a stream was reset, or the connection was left, is not the other side's fault.
#[test]
fn late_frames() {
    let mut connection = server(Config::default());
    play(&mut connection, &post(1));
    let key = connection.streams.find(1).unwrap();
    connection.reset(key, Code::CANCEL);
    connection.forget(key);
    assert_eq!(frames(&drain(&mut connection)), ["RST_STREAM 1 CANCEL"]);
    let late = [frame(DATA, 0, 1, b"abc"), headers(1, END_HEADERS | END_STREAM, &[("x", "y")]), update(1, 5), reset(1)];
    assert_eq!(answer(&mut connection, &late.concat()), "");
    assert_eq!(answer(&mut connection, &get(3)), "request 3 GET / end");

    connection.leave();
    assert_eq!(frames(&drain(&mut connection)), ["GOAWAY 2147483647 NO_ERROR", "PING"]);
    assert_eq!(answer(&mut connection, &get(5)), "request 5 GET / end", "it could not know");
    assert_eq!(answer(&mut connection, &frame(PING, ACK, 0, b"drain\0\0\0")), "pong; GOAWAY 5 NO_ERROR");
    assert_eq!(answer(&mut connection, &get(7)), "", "it may try elsewhere");
    assert!(!connection.is_done());
    for id in [3, 5] {
        let key = connection.streams.find(id).unwrap();
        connection.send_status(key, 204, &[], true);
        connection.forget(key);
    }
    assert_eq!(frames(&drain(&mut connection)), ["HEADERS 3 end", "HEADERS 5 end"]);
    assert!(connection.is_done());
}

/// Data goes as far as all windows let it (6.9), and on when they are opened.
#[test]
fn flow_control() {
    let mut connection = server(Config { output: 1 << 20, ..Config::default() });
    answer(&mut connection, &[settings(&[(4, 10)]), get(1), get(3)].concat());
    let keys = [1, 3].map(|id| connection.streams.find(id).unwrap());
    for key in keys {
        connection.send_status(key, 200, &[], false);
    }
    drain(&mut connection);
    assert_eq!(connection.send_data(keys[0], &[0; 30], true), 10);
    assert_eq!(frames(&drain(&mut connection)), ["DATA 1 10"]);
    assert_eq!(connection.next_writable(), None);
    answer(&mut connection, &update(1, 5));
    assert_eq!(connection.next_writable(), Some(keys[0]));
    assert_eq!(connection.send_data(keys[0], &[0; 20], true), 5);
    // A smaller window may leave less than nothing (6.9.2).
    answer(&mut connection, &settings(&[(4, 0)]));
    answer(&mut connection, &update(1, 10));
    assert_eq!(connection.next_writable(), None);
    answer(&mut connection, &settings(&[(4, 100)]));
    assert_eq!(connection.next_writable(), Some(keys[0]));
    assert_eq!(connection.send_data(keys[0], &[0; 15], true), 15);
    assert_eq!(frames(&drain(&mut connection)), ["DATA 1 15 end"]);
    // The connection's window is for all streams.
    answer(&mut connection, &settings(&[(4, 1 << 20)]));
    while connection.next_writable().is_some() {}
    assert_eq!(connection.send_data(keys[1], &vec![0; 100_000], true), 65_535 - 30);
    assert_eq!(connection.next_writable(), None);
    answer(&mut connection, &update(0, 1 << 20));
    assert_eq!(connection.next_writable(), Some(keys[1]));
    // The output is bounded, whatever windows say.
    let mut connection = server(Config { output: 1000, ..Config::default() });
    answer(&mut connection, &get(1));
    let key = connection.streams.find(1).unwrap();
    connection.send_status(key, 200, &[], false);
    drain(&mut connection);
    assert_eq!(connection.send_data(key, &[0; 5000], true), 1000);
    assert_eq!(connection.next_writable(), None);
    drain(&mut connection);
    assert_eq!(connection.next_writable(), Some(key));
}

/// What was taken is given back, in few frames; a body beyond the window ends its stream, or the connection.
#[test]
fn windows_of_ours() {
    let mut connection = server(Config::default());
    answer(&mut connection, &post(1));
    let piece = frame(DATA, 0, 1, &[0; 16_000]);
    let mut updates = Vec::new();
    for _ in 0..100 {
        let answered = answer(&mut connection, &piece);
        updates.extend(answered.split("; ").skip(1).map(str::to_owned).collect::<Vec<_>>());
    }
    let of =
        |stream: u32| updates.iter().filter(|update| update.starts_with(&format!("WINDOW_UPDATE {stream} "))).count();
    assert_eq!((of(1), of(0), updates.len()), (33, 3, 36), "{updates:?}");

    let unread = |config| {
        let mut connection = server(config);
        answer(&mut connection, &[post(1), post(3)].concat());
        let mut last = String::new();
        for index in 0..100 {
            let input = frame(DATA, 0, if index % 2 == 0 { 1 } else { 3 }, &[0; 16_000]);
            match connection.step(&input) {
                Ok(crate::h2::Step { event: Some(Event::Reset { key, code }), .. }) => {
                    last = format!("{} {}", key.id(), name(code));
                    break;
                }
                Ok(_) => {}
                Err(code) => {
                    last = name(code);
                    break;
                }
            }
        }
        last
    };
    assert_eq!(unread(Config::default()), "1 FLOW_CONTROL_ERROR");
    assert_eq!(unread(Config { connection_window: 65_535, ..Config::default() }), "FLOW_CONTROL_ERROR");
}

/// A client keeps to what the server allows, and to its own bound.
#[test]
fn concurrency() {
    let mut connection = client(Config { streams: 5, ..Config::default() });
    assert_eq!(connection.free(), 5);
    answer(&mut connection, &settings(&[(3, 2)]));
    let keys = ask(&mut connection, &["GET", "GET"]);
    assert_eq!(connection.free(), 0);
    answer(&mut connection, &headers(1, END_HEADERS | END_STREAM, &[(":status", "204")]));
    connection.forget(keys[0]);
    assert_eq!(connection.free(), 1);
    answer(&mut connection, &frame(GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0]));
    assert_eq!((connection.free(), connection.is_done()), (0, false));
    answer(&mut connection, &headers(3, END_HEADERS | END_STREAM, &[(":status", "204")]));
    assert!(connection.is_done());
}
