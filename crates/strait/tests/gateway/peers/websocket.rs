//! WebSocket (RFC 6455) through the gate.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
};

use super::noise;
use crate::{
    bed::{Gate, PATIENCE, http},
    h2::outside,
};

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The key and the answer to it that the RFC has as its example.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) last: bool,
    pub(crate) kind: u8,
    pub(crate) data: Vec<u8>,
}

pub(crate) fn write(stream: &mut impl Write, last: bool, kind: u8, data: &[u8], mask: Option<[u8; 4]>) {
    let masked = if mask.is_some() { 128 } else { 0 };
    let mut out = vec![if last { 128 } else { 0 } | kind];
    match data.len() {
        length @ 0..126 => out.push(masked | u8::try_from(length).unwrap()),
        length @ 126..65_536 => {
            out.push(masked + 126);
            out.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            out.push(masked + 127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    let mask = mask.inspect(|mask| out.extend(mask)).unwrap_or_default();
    out.extend(data.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    stream.write_all(&out).unwrap();
}

pub(crate) fn read(stream: &mut impl Read) -> Option<Frame> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let mut number = |bytes: usize| {
        let mut all = [0; 8];
        stream.read_exact(&mut all[8 - bytes..]).unwrap();
        usize::try_from(u64::from_be_bytes(all)).unwrap()
    };
    let length = match head[1] & 127 {
        126 => number(2),
        127 => number(8),
        length => length.into(),
    };
    let mut mask = [0; 4];
    if head[1] & 128 != 0 {
        stream.read_exact(&mut mask).unwrap();
    }
    let mut data = vec![0; length];
    stream.read_exact(&mut data).unwrap();
    data.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Some(Frame { last: head[0] & 128 != 0, kind: head[0] & 15, data })
}

/// The head of a message, to its empty line.
fn head(stream: &mut impl Read) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Sends each frame back, answers pings, and speaks first. Clients have that key, or else one of their own.
pub(crate) fn server(key: Option<&'static str>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let request = head(&mut stream).to_ascii_lowercase();
                for field in ["upgrade: websocket\r\n", "connection: upgrade\r\n", "sec-websocket-version: 13\r\n"] {
                    assert!(request.contains(field), "{request}");
                }
                let asked = request.lines().find_map(|line| line.strip_prefix("sec-websocket-key: "));
                assert!(asked.is_some_and(|asked| asked.len() == 24), "{request}");
                assert!(key.is_none_or(|key| asked == Some(&key.to_ascii_lowercase())), "{request}");
                let answer = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {ACCEPT}\r\n\r\n"
                );
                // The first frame comes together with the head.
                let mut first = answer.into_bytes();
                write(&mut first, true, TEXT, b"welcome", None);
                stream.write_all(&first).unwrap();
                while let Some(frame) = read(&mut stream) {
                    let kind = if frame.kind == PING { PONG } else { frame.kind };
                    write(&mut stream, frame.last, kind, &frame.data, None);
                    if kind == CLOSE {
                        break;
                    }
                }
            });
        }
    });
    at
}

/// Frames of all kinds and sizes go both ways, and the end of one side is that of the other.
#[test]
fn frames() {
    let text = outside("socket", server(Some(KEY)), ", appProtocol: kubernetes.io/ws")
        + &http("  - backendRefs: [{name: socket, port: 80}]\n");
    let gate = Gate::of(&[("all.yaml", &text)]);
    for _ in 0..3 {
        let mut stream = TcpStream::connect(gate.at("edge", 80)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!(
            "GET /chat HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: {KEY}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let answer = head(&mut stream).to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        for field in [
            "upgrade: websocket\r\n",
            "connection: upgrade\r\n",
            &format!("sec-websocket-accept: {}\r\n", ACCEPT.to_ascii_lowercase()),
        ] {
            assert!(answer.contains(field), "{answer}");
        }
        let welcome = Frame { last: true, kind: TEXT, data: b"welcome".to_vec() };
        assert_eq!(read(&mut stream), Some(welcome));
        let frames = [
            (true, TEXT, b"hello".to_vec()),
            (false, TEXT, b"in ".to_vec()),
            (true, PING, b"amid".to_vec()),
            (true, 0, b"parts".to_vec()),
            (true, BINARY, noise(1_000)),
            (true, BINARY, noise(500_000)),
            (true, BINARY, Vec::new()),
        ];
        for (last, kind, data) in frames {
            // A large frame is sent while it comes back.
            let (mut sending, sent) = (stream.try_clone().unwrap(), data.clone());
            let sender = std::thread::spawn(move || write(&mut sending, last, kind, &sent, Some([1, 2, 3, 4])));
            let back = Frame { last, kind: if kind == PING { PONG } else { kind }, data };
            assert!(read(&mut stream).as_ref() == Some(&back), "kind {kind}, {} bytes", back.data.len());
            sender.join().unwrap();
        }
        write(&mut stream, true, CLOSE, &1000_u16.to_be_bytes(), Some([5, 6, 7, 8]));
        assert_eq!(read(&mut stream), Some(Frame { last: true, kind: CLOSE, data: vec![3, 232] }));
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
}
