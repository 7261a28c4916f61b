//! Values as a log writes them: numbers, addresses, times, and text that cannot leave its place.

use std::{io::Write as _, net::SocketAddr, time::Duration};

use jiff::Timestamp;

/// Writes a whole number.
pub(crate) fn number(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Writes an address without its port.
pub(crate) fn ip(address: SocketAddr, out: &mut Vec<u8>) {
    let SocketAddr::V4(v4) = address else {
        // Memory takes all that is written.
        let _ = write!(out, "{}", address.ip().to_canonical());
        return;
    };
    for (index, octet) in v4.ip().octets().into_iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        number(octet.into(), out);
    }
}

/// Writes an address with its port.
pub(crate) fn address(address: SocketAddr, out: &mut Vec<u8>) {
    let bracketed = address.ip().to_canonical().is_ipv6();
    if bracketed {
        out.push(b'[');
    }
    ip(address, out);
    out.extend_from_slice(if bracketed { b"]:" } else { b":" });
    number(address.port().into(), out);
}

/// Writes text into a line of text, within quotes or not: what would end the line or the quotes is written as `\xNN`.
pub(crate) fn plain(value: &[u8], out: &mut Vec<u8>) {
    escaped(value, out, |byte, out| {
        out.extend_from_slice(b"\\x");
        out.extend_from_slice(&hex(byte));
    });
}

/// Writes text into a string of JSON. What is no UTF-8 is taken for Latin-1, so that no byte is lost.
pub(crate) fn json(value: &[u8], out: &mut Vec<u8>) {
    if value.is_ascii() {
        return escaped(value, out, json_byte);
    }
    let Ok(text) = std::str::from_utf8(value) else { return escaped(value, out, json_byte) };
    for char in text.chars() {
        match u8::try_from(char) {
            Ok(byte) if byte.is_ascii() && !must_escape(byte) => out.push(byte),
            // Control characters of Latin-1 do as much harm to a terminal as those of ASCII.
            Ok(byte) if byte < 0xa0 => json_byte(byte, out),
            _ => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

fn json_byte(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&hex(byte));
        }
    }
}

const fn must_escape(byte: u8) -> bool {
    !(byte >= b' ' && byte < 0x7f) || byte == b'"' || byte == b'\\'
}

/// Copies what is harmless at once, and has the rest written by `escape`.
fn escaped(value: &[u8], out: &mut Vec<u8>, escape: impl Fn(u8, &mut Vec<u8>)) {
    // Nearly all values; without a way out of the loop many bytes are looked at in one instruction.
    if !value.iter().fold(false, |found, byte| found | must_escape(*byte)) {
        return out.extend_from_slice(value);
    }
    let mut rest = value;
    while let Some(at) = rest.iter().position(|byte| must_escape(*byte)) {
        out.extend_from_slice(&rest[..at]);
        escape(rest[at], out);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

const fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]]
}

/// Writes times as `2026-01-31T23:59:59.123Z`. Keeps the second that it wrote last.
#[derive(Default)]
pub(crate) struct Times {
    second: u64,
    /// That second without a fraction; empty where nothing was written yet.
    text: Vec<u8>,
}

impl Times {
    /// Writes a time since the epoch.
    pub(crate) fn write(&mut self, since_epoch: Duration, out: &mut Vec<u8>) {
        let second = since_epoch.as_secs();
        if second != self.second || self.text.is_empty() {
            self.second = second;
            self.text.clear();
            let _ = write!(self.text, "{}", timestamp(Duration::from_secs(second)));
            // The `Z` comes behind the fraction.
            self.text.pop();
        }
        out.extend_from_slice(&self.text);
        let millis = since_epoch.subsec_millis();
        let digit = |value: u32| b'0' + u8::try_from(value % 10).unwrap_or_default();
        out.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
    }
}

/// A time since the epoch; the epoch where it is beyond what calendars have.
pub(crate) fn timestamp(since_epoch: Duration) -> Timestamp {
    let nanoseconds = i128::try_from(since_epoch.as_nanos()).unwrap_or_default();
    Timestamp::from_nanosecond(nanoseconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_stays_in_its_place() {
        let cases: [(&[u8], &str, &str); 8] = [
            (b"", "", ""),
            (b"/a?b=c d", "/a?b=c d", "/a?b=c d"),
            (b"a\"b\\c", r"a\x22b\x5cc", r#"a\"b\\c"#),
            (b"a\r\n[b]", r"a\x0d\x0a[b]", r"a\u000d\u000a[b]"),
            (b"\x1b[31m\x7f\0", r"\x1b[31m\x7f\x00", r"\u001b[31m\u007f\u0000"),
            ("ö🦀".as_bytes(), r"\xc3\xb6\xf0\x9f\xa6\x80", "ö🦀"),
            ("ö\u{9b}\"".as_bytes(), r"\xc3\xb6\xc2\x9b\x22", r#"ö\u009b\""#),
            (b"\xff\xe4", r"\xff\xe4", r"\u00ff\u00e4"),
        ];
        for (value, text, quoted) in cases {
            assert_eq!(written(|out| plain(value, out)), text);
            let quoted_too = written(|out| json(value, out));
            assert_eq!(quoted_too, quoted);
            let read: String = serde_json::from_str(&format!("\"{quoted_too}\"")).unwrap();
            let latin: String = value.iter().map(|byte| char::from(*byte)).collect();
            assert_eq!(read, std::str::from_utf8(value).map_or(latin, str::to_owned));
        }
    }

    #[test]
    fn addresses_and_times() {
        for (given, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("255.10.0.99:65535", "255.10.0.99:65535"),
            ("[::1]:8080", "[::1]:8080"),
            ("[::ffff:10.0.0.1]:1", "10.0.0.1:1"),
        ] {
            assert_eq!(written(|out| address(given.parse().unwrap(), out)), expected);
        }
        let mut times = Times::default();
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (7, "1970-01-01T00:00:00.007Z"),
            (1_790_000_000_120, "2026-09-21T14:13:20.120Z"),
            (1_790_000_000_999, "2026-09-21T14:13:20.999Z"),
            (1_709_164_800_050, "2024-02-29T00:00:00.050Z"),
        ] {
            assert_eq!(written(|out| times.write(Duration::from_millis(millis), out)), expected);
        }
    }
}
