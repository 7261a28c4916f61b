//! WebSocket over HTTP/3 (RFC 9220).

use std::io::{Read, Write};

use serde_json::json;

use super::{client::Client, gate};
use crate::{
    h2::{H2C, outside, route, to},
    h2_shared::echo_of_websockets,
    peers::{
        noise,
        websocket::{BINARY, CLOSE, Frame, PING, PONG, TEXT, read, server, write},
    },
};

/// The bytes behind an extended `CONNECT`.
struct Tunnel<'a> {
    client: &'a mut Client,
    name: &'a str,
    inbound: Vec<u8>,
}

impl Read for Tunnel<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.inbound.is_empty() {
            let said = self.client.say(&json!({ "do": "receive", "name": self.name }));
            assert!(said["error"].is_null(), "{said}");
            let hex = said["hex"].as_str().unwrap().as_bytes();
            let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap();
            self.inbound = hex.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
        }
        let count = out.len().min(self.inbound.len());
        out[..count].copy_from_slice(&self.inbound[..count]);
        self.inbound.drain(..count);
        Ok(count)
    }
}

impl Tunnel<'_> {
    fn send(&mut self, bytes: &[u8], end: bool) {
        let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        self.client.say(&json!({ "do": "send", "name": self.name, "hex": hex, "end": end }));
    }
}

impl Write for Tunnel<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.send(bytes, false);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn asks(path: &str, protocol: &str) -> serde_json::Value {
    json!([
        [":method", "CONNECT"],
        [":protocol", protocol],
        [":scheme", "https"],
        [":authority", "a.example"],
        [":path", path],
        ["sec-websocket-version", "13"],
    ])
}

/// Frames of all kinds and sizes go both ways, to back ends of either version, and the end of one side is that of the other.
#[test]
fn frames() {
    let text = outside("one", server(None), "") + &outside("two", echo_of_websockets(), H2C);
    let rules = to("/one", "one", 80) + &to("/two", "two", 80);
    let Some((gate, mut client)) = gate(&(text + &route("HTTPRoute", "route", &rules)), &[]) else { return };
    client.connect("a", gate.at("edge", 443), "a.example");
    for turn in 0..3 {
        let said = client.say(&json!({ "do": "tunnel", "name": "a", "headers": asks("/one/chat", "websocket") }));
        assert_eq!(said["status"], 200, "{turn}: {said}");
        // What HTTP/1 needs for it is the gate's own affair.
        let fields = said["headers"].to_string();
        assert!(!fields.contains("sec-websocket-accept") && !fields.contains("upgrade"), "{fields}");
        let mut tunnel = Tunnel { client: &mut client, name: "a", inbound: Vec::new() };
        let frame = |last, kind, data: &[u8]| Frame { last, kind, data: data.to_vec() };
        assert_eq!(read(&mut tunnel), Some(frame(true, TEXT, b"welcome")));
        let cases = [
            (true, TEXT, b"hello".to_vec()),
            (false, TEXT, b"in ".to_vec()),
            (true, PING, b"amid".to_vec()),
            (true, 0, b"parts".to_vec()),
            (true, BINARY, noise(300_000)),
            (true, BINARY, Vec::new()),
        ];
        for (last, kind, data) in cases {
            write(&mut tunnel, last, kind, &data, Some([1, 2, 3, 4]));
            let back = frame(last, if kind == PING { PONG } else { kind }, &data);
            assert!(read(&mut tunnel) == Some(back), "{turn}: kind {kind}, {} bytes", data.len());
        }
        write(&mut tunnel, true, CLOSE, &1000_u16.to_be_bytes(), Some([5, 6, 7, 8]));
        assert_eq!(read(&mut tunnel), Some(frame(true, CLOSE, &[3, 232])));
        assert_eq!(tunnel.read(&mut [0]).unwrap(), 0, "the back end's end is the stream's");
        tunnel.send(b"", true);

        let said = client.say(&json!({ "do": "tunnel", "name": "a", "headers": asks("/two/chat", "websocket") }));
        assert_eq!(said["status"], 200, "{turn}: {said}");
        let mut tunnel = Tunnel { client: &mut client, name: "a", inbound: Vec::new() };
        tunnel.write_all(b"over HTTP/2").unwrap();
        let mut back = [0; 11];
        tunnel.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"over HTTP/2");
        tunnel.send(b"", true);
        assert_eq!(tunnel.read(&mut [0]).unwrap(), 0);
    }
    // What is no WebSocket the gate does not know what to make of.
    let said = client.say(&json!({ "do": "tunnel", "name": "a", "headers": asks("/one/chat", "connect-udp") }));
    assert_eq!(said["status"], 501, "{said}");
}
