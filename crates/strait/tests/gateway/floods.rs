//! Frames of HTTP/2 that make much work for little: what is over a limit ends its connection, what is below it does not, and others are
//! served meanwhile.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use crate::{
    backend::{self, service},
    bed::{Gate, PATIENCE, curl, http},
    h2::{H2C, outside, to},
    h2_server,
};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// GET / of `a`, with fields and values of HPACK's static table.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];
/// The same of /slow, and POST / with a `Content-Length` of 100.
const SLOW: &[u8] = &[0x82, 0x86, 0x44, 5, b'/', b's', b'l', b'o', b'w', 0x41, 1, b'a'];
pub(crate) const POST: &[u8] = &[0x83, 0x86, 0x84, 0x41, 1, b'a'];

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A connection of HTTP/2, frame by frame.
pub(crate) struct Raw {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Raw {
    pub(crate) fn connect(at: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub(crate) fn send(&mut self, frames: &[u8]) {
        // It may be closed already.
        let _ = self.stream.write_all(frames);
    }

    /// The next frame: kind, stream, payload. None at the end.
    fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        loop {
            if let Some((head, rest)) = self.read.split_first_chunk::<9>() {
                let [_, a, b, kind, _, stream @ ..] = *head;
                let length = usize::from(u16::from_be_bytes([a, b]));
                if rest.len() >= length {
                    let payload = rest[..length].to_vec();
                    self.read.drain(..9 + length);
                    return Some((kind, u32::from_be_bytes(stream), payload));
                }
            }
            let mut piece = [0; 4096];
            let length = self.stream.read(&mut piece).ok().filter(|length| *length > 0)?;
            self.read.extend_from_slice(&piece[..length]);
        }
    }

    /// Waits for a frame of that kind.
    pub(crate) fn until(&mut self, wanted: u8) -> Option<(u32, Vec<u8>)> {
        loop {
            let (kind, stream, payload) = self.next()?;
            if kind == wanted {
                return Some((stream, payload));
            }
        }
    }
}

fn gate(limit: &str) -> Gate {
    let manifests = service("one", backend::http().0) + &http("  - backendRefs: [{name: one, port: 8080}]\n");
    Gate::alone(&[("all.yaml", &manifests)], &["--limit", limit])
}

/// What is sent so often, by its number; and with which limit it is once too often how many times.
struct Flood {
    limit: &'static str,
    what: &'static str,
    frames: fn(u32) -> Vec<u8>,
    most: u32,
}

const FLOODS: &[Flood] = &[
    Flood {
        limit: "control-frames=5",
        what: "SETTINGS",
        frames: |_| frame(SETTINGS, 0, 0, &[]),
        // Those that open the connection count.
        most: 4,
    },
    Flood { limit: "control-frames=5", what: "PING", frames: |_| frame(PING, 0, 0, &[0; 8]), most: 4 },
    Flood {
        limit: "stream-resets=5",
        what: "rapid reset",
        frames: |index| {
            let reset = frame(RST_STREAM, 0, 2 * index + 1, &[0, 0, 0, 8]);
            [frame(HEADERS, END_STREAM | END_HEADERS, 2 * index + 1, SLOW), reset].concat()
        },
        most: 5,
    },
    Flood {
        limit: "provoked-resets=5",
        what: "windows opened by nothing",
        frames: |index| {
            let nothing = frame(WINDOW_UPDATE, 0, 2 * index + 1, &[0; 4]);
            [frame(HEADERS, END_STREAM | END_HEADERS, 2 * index + 1, SLOW), nothing].concat()
        },
        most: 5,
    },
    Flood { limit: "empty-frames=5", what: "PRIORITY", frames: |_| frame(PRIORITY, 0, 101, &[0, 0, 0, 0, 7]), most: 5 },
    Flood {
        limit: "empty-frames=5",
        what: "windows opened a little",
        frames: |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        most: 5,
    },
    Flood { limit: "empty-frames=5", what: "unknown frames", frames: |_| frame(0x42, 0, 0, b"?"), most: 5 },
    Flood {
        limit: "empty-frames=5",
        what: "empty DATA",
        frames: |index| {
            let head = if index == 0 { frame(HEADERS, END_HEADERS, 1, POST) } else { Vec::new() };
            [head, frame(DATA, 0, 1, &[])].concat()
        },
        most: 5,
    },
];

/// So many are taken, and the connection serves on; with one more it ends, and says why.
#[test]
pub(crate) fn floods() {
    for Flood { limit, what, frames, most } in FLOODS {
        let gate = gate(limit);
        let at = gate.at("edge", 80);
        let sent = |count: u32| (0..count).flat_map(frames).collect::<Vec<u8>>();
        let mut fair = Raw::connect(at);
        fair.send(&sent(*most));
        fair.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1001, GET));
        let answered = std::iter::from_fn(|| fair.next()).find(|(kind, stream, _)| {
            assert_ne!(*kind, GOAWAY, "{limit}, {what}");
            (*kind, *stream) == (HEADERS, 1001)
        });
        assert!(answered.is_some(), "{limit}, {what}: {most} are too many");
        let mut unfair = Raw::connect(at);
        unfair.send(&sent(most + 1));
        let (_, said) = unfair.until(GOAWAY).unwrap_or_else(|| panic!("{limit}, {what}: no GOAWAY"));
        assert_eq!(said[4..8], [0, 0, 0, 0xb], "{limit}, {what}: ENHANCE_YOUR_CALM");
        assert_eq!(unfair.next(), None, "{limit}, {what}: it goes on");
        assert_eq!(curl(&[], &format!("http://{at}/")).status, 200, "{limit}, {what}: others are served");
    }
}

/// A head in so many frames, and in one more.
#[test]
pub(crate) fn continuations() {
    let gate = gate("continuation-frames=3");
    let at = gate.at("edge", 80);
    let head = |pieces: &[&[u8]]| {
        let last = pieces.len() - 1;
        let piece = |(index, piece): (usize, &&[u8])| {
            let kind = if index == 0 { HEADERS } else { CONTINUATION };
            let stream = if index == 0 { END_STREAM } else { 0 };
            frame(kind, stream | if index == last { END_HEADERS } else { 0 }, 1, piece)
        };
        pieces.iter().enumerate().flat_map(piece).collect::<Vec<u8>>()
    };
    let mut fair = Raw::connect(at);
    fair.send(&head(&[&GET[..1], &GET[1..3], &GET[3..]]));
    assert_eq!(fair.until(HEADERS).map(|(stream, _)| stream), Some(1));
    let mut unfair = Raw::connect(at);
    unfair.send(&head(&[&GET[..1], &GET[1..2], &GET[2..3], &GET[3..]]));
    let (_, said) = unfair.until(GOAWAY).expect("a GOAWAY");
    assert_eq!(said[4..8], [0, 0, 0, 0xb]);
    assert_eq!(curl(&[], &format!("http://{at}/")).status, 200);
}

/// One request more than may be at once is refused, in a way that lets it be sent again; the others are answered.
#[test]
pub(crate) fn streams() {
    let gate = gate("streams=2");
    let mut client = Raw::connect(gate.at("edge", 80));
    let (_, settings) = client.until(SETTINGS).unwrap();
    let told = settings.chunks(6).any(|setting| setting == [0, 3, 0, 0, 0, 2]);
    assert!(told, "{settings:?}");
    let requests = [1, 3, 5].map(|stream| frame(HEADERS, END_STREAM | END_HEADERS, stream, SLOW));
    client.send(&requests.concat());
    assert_eq!(client.until(RST_STREAM), Some((5, vec![0, 0, 0, 7])), "REFUSED_STREAM");
    let answered = [client.until(HEADERS), client.until(HEADERS)].map(|head| head.map(|(stream, _)| stream));
    assert!(matches!(answered, [Some(1), Some(3)] | [Some(3), Some(1)]), "{answered:?}");
}

/// Slow bodies on streams: whose body nobody talks about meanwhile is cut off, whether its length is known or not. A call may take its
/// time, and so may what is answered while it comes, where both sides have streams.
#[test]
pub(crate) fn slow_bodies() {
    let limits = ["--limit", "body-rate=100", "--limit", "body-rate-time=500ms"];
    let back_ends = service("one", backend::http().0)
        + &outside("talks", h2_server::http2(None), H2C)
        + &outside("waits", h2_server::patient(), H2C);
    let rules = to("/talks", "talks", 80) + &to("/waits", "waits", 80) + &to("/", "one", 8080);
    let gate = Gate::alone(&[("all.yaml", &(back_ends + &http(&rules)))], &limits);
    let mut client = Raw::connect(gate.at("edge", 80));
    // Literals with indexed names, put into no table.
    let literal = |name: &[u8], value: &str| [name, &[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
    let length = literal(&[0x0f, 0x0d], "1000");
    let call = literal(&[0x0f, 0x10], "application/grpc");
    let cases: [(&str, &[u8], bool); 7] = [
        ("/", &length, true),
        ("/", &[], true),
        // Back ends of HTTP/1 know no calls.
        ("/", &call, true),
        ("/waits", &[], true),
        ("/waits", &length, true),
        ("/waits", &call, false),
        ("/talks", &[], false),
    ];
    let begin = |index: usize| {
        let (path, field, _) = cases[index];
        let head = [&[0x83, 0x86], &literal(&[0x04], path)[..], &literal(&[0x01], "a"), field].concat();
        frame(HEADERS, END_HEADERS, stream_of(index), &head)
    };
    client.send(&(0..cases.len()).flat_map(begin).collect::<Vec<u8>>());
    client.stream.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
    let deadline = jiff::Timestamp::now() + PATIENCE;
    let (mut answered, mut open) = (BTreeSet::new(), cases.len());
    // A byte with each turn, on all of them; and another one of the first kind, so that the others went on for long enough.
    let last = stream_of(cases.len());
    let expected: BTreeSet<u32> =
        (0..cases.len()).filter(|index| cases[*index].2).map(stream_of).chain([last]).collect();
    while !answered.is_superset(&expected) {
        assert!(jiff::Timestamp::now() < deadline, "cut off: {answered:?} of {expected:?}");
        if answered.len() + 1 == expected.len() && open == cases.len() {
            client.send(&frame(HEADERS, END_HEADERS, last, &[POST, &length].concat()));
            open += 1;
        }
        let silent = (0..open).map(stream_of).filter(|of| !answered.contains(of));
        client.send(&silent.flat_map(|of| frame(DATA, 0, of, b"x")).collect::<Vec<u8>>());
        let heads = std::iter::from_fn(|| client.next()).filter(|(kind, ..)| *kind == HEADERS);
        answered.extend(heads.map(|(_, of, _)| of).filter(|of| *of != stream_of(6)));
    }
    assert_eq!(answered, expected);
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // One is answered when all of it is there, the other gets the last of it back.
    for index in [5, 6] {
        client.send(&frame(DATA, END_STREAM, stream_of(index), b"."));
        let mut of = std::iter::from_fn(|| client.next()).filter(|(_, of, _)| *of == stream_of(index));
        let ends = of.any(|(kind, _, payload)| if index == 5 { kind == HEADERS } else { payload.contains(&b'.') });
        assert!(ends, "{}", cases[index].0);
    }
}

/// The number of a client's stream.
fn stream_of(index: usize) -> u32 {
    u32::try_from(index).unwrap() * 2 + 1
}
