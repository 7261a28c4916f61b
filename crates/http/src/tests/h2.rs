//! HTTP/2: tables of frames, and what an endpoint makes of them.

mod hpack;
mod limits;
mod messages;
mod rules;
mod sent;

use crate::h2::{Code, Config, Connection, Event, PREFACE, Role};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITIZED: u8 = 0x20;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block of literals.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            let length = text.len();
            if length < 127 {
                out.push(u8::try_from(length).unwrap());
            } else {
                out.push(127);
                let mut rest = length - 127;
                while rest > 127 {
                    out.push(u8::try_from(rest % 128).unwrap() | 128);
                    rest /= 128;
                }
                out.push(u8::try_from(rest).unwrap());
            }
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.example")];
const POST: [(&str, &str); 4] = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a.example")];

/// A whole request without a body.
fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&GET))
}

/// The head of a request whose body follows.
fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(&POST))
}

fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = settings
        .iter()
        .flat_map(|(setting, value)| [&setting.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// A server whose client has opened the connection; what it said of itself was read.
fn server(config: Config) -> Connection {
    let mut connection = Connection::new(Role::Server, config);
    let opening = [PREFACE.as_slice(), &settings(&[])].concat();
    assert_eq!(play(&mut connection, &opening), "settings");
    drain(&mut connection);
    connection
}

/// A client whose server has answered its opening.
fn client(config: Config) -> Connection {
    let mut connection = Connection::new(Role::Client, config);
    assert_eq!(play(&mut connection, &settings(&[])), "settings");
    drain(&mut connection);
    connection
}

/// What is to be written.
fn drain(connection: &mut Connection) -> Vec<u8> {
    let out = connection.output().to_vec();
    connection.wrote(out.len());
    out
}

fn name(code: Code) -> String {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    NAMES.get(code.0 as usize).map_or_else(|| code.0.to_string(), |name| (*name).to_owned())
}

/// What the frames of an output are.
fn frames(mut out: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    while let Some((head, rest)) = out.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (payload, behind) = rest.split_at(length);
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        let number = || u32::from_be_bytes(payload[..4].try_into().unwrap());
        let end = if head[4] & END_STREAM != 0 { " end" } else { "" };
        all.push(match head[3] {
            DATA => format!("DATA {stream} {length}{end}"),
            HEADERS => format!("HEADERS {stream}{end}"),
            RST_STREAM => format!("RST_STREAM {stream} {}", name(Code(number()))),
            SETTINGS if head[4] & ACK != 0 => "SETTINGS ack".into(),
            SETTINGS => "SETTINGS".into(),
            PING if head[4] & ACK != 0 => format!("PING ack {payload:?}"),
            PING => "PING".into(),
            GOAWAY => {
                let code = Code(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
                format!("GOAWAY {} {}", number(), name(code))
            }
            WINDOW_UPDATE => format!("WINDOW_UPDATE {stream} {}", number()),
            CONTINUATION => format!("CONTINUATION {stream}"),
            other => format!("{other}?"),
        });
        out = behind;
    }
    assert!(out.is_empty(), "half a frame");
    all
}

/// Gives `input` to a connection: what it says came, up to what ends it.
fn play(connection: &mut Connection, input: &[u8]) -> String {
    play_some(connection, input).0
}

/// The same, and how much of the input was taken.
fn play_some(connection: &mut Connection, mut input: &[u8]) -> (String, usize) {
    let (mut all, whole) = (Vec::new(), input.len());
    loop {
        let step = match connection.step(input) {
            Ok(step) => step,
            Err(code) => {
                all.push(format!("over: {}", name(code)));
                break;
            }
        };
        input = &input[step.taken..];
        let end = |end| if end { " end" } else { "" };
        all.push(match step.event {
            None if step.taken == 0 => break,
            None => continue,
            Some(Event::Request { key, end: ends }) => {
                let (head, bytes) = connection.request();
                let text = |span: crate::Span| span.text(bytes).to_owned();
                format!("request {} {} {}{}", key.id(), text(head.method), text(head.whole_target), end(ends))
            }
            Some(Event::Refused { key, error }) => format!("refused {} {}", key.id(), error.status()),
            Some(Event::Response { key, end: ends }) => {
                format!("response {} {}{}", key.id(), connection.response().0.status, end(ends))
            }
            Some(Event::Data { key, data, end: ends }) => {
                let (id, length) = (key.id(), data.len());
                connection.release(key, length);
                format!("data {id} {length}{}", end(ends))
            }
            Some(Event::Trailers { key }) => format!("trailers {} {}", key.id(), connection.trailers().0.fields.len()),
            Some(Event::Reset { key, code }) => format!("reset {} {}", key.id(), name(code)),
            Some(Event::GoAway { code }) => format!("goaway {}", name(code)),
            Some(Event::Settings) => "settings".into(),
            Some(Event::Pong) => "pong".into(),
        });
    }
    (all.join(", "), whole - input.len())
}

/// Gives `input` to a connection: what came, and what it is answered.
fn answer(connection: &mut Connection, input: &[u8]) -> String {
    let came = play(connection, input);
    let out = drain(connection);
    [&[came][..], &frames(&out)].concat().join("; ")
}
