//! Heads for the other side.

use crate::{
    field::{Field, Known},
    framing::Framing,
    head::{Head, Version},
    request::RequestHead,
    response::ResponseHead,
};

/// What is laid over the fields of a head on its way to the next hop.
pub trait Overlay {
    /// Whether fields of that name, in whatever case, are left out.
    fn drops(&self, name: &[u8]) -> bool;

    /// Gives what is written after the fields that go on.
    fn each(&self, put: impl FnMut(&[u8], &[u8]));
}

/// Edits that are listed. Names are in small letters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Edits<'a> {
    /// Fields left out.
    pub remove: &'a [&'a str],
    /// Fields written after the others, each in place of all with its name.
    pub set: &'a [(&'a str, &'a [u8])],
    /// Fields written after the others, beside those with their name.
    pub add: &'a [(&'a str, &'a [u8])],
}

impl Overlay for Edits<'_> {
    fn drops(&self, name: &[u8]) -> bool {
        let same = |other: &str| other.len() == name.len() && name.eq_ignore_ascii_case(other.as_bytes());
        self.remove.iter().any(|other| same(other)) || self.set.iter().any(|(other, _)| same(other))
    }

    fn each(&self, mut put: impl FnMut(&[u8], &[u8])) {
        for (name, value) in self.set.iter().chain(self.add) {
            put(name.as_bytes(), value);
        }
    }
}

/// Bytes that a head most often grows by.
const EXTRA: usize = 256;

impl RequestHead {
    /// Writes the request for a back end: `target` (of origin-form, `*` or an authority) in place of its own, `host` in place of
    /// `Host`, fields for this hop alone left out, `overlay` laid over the others. It is HTTP/1.1 and keeps the connection open; an upgrade is
    /// asked for again where `upgrade` allows it.
    pub fn write(
        &self,
        buffer: &[u8],
        target: &[&[u8]],
        host: &[u8],
        overlay: &impl Overlay,
        upgrade: bool,
        out: &mut Vec<u8>,
    ) {
        out.reserve(self.head.len + EXTRA);
        out.extend_from_slice(self.method.bytes(buffer));
        out.push(b' ');
        for part in target {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
        out.extend_from_slice(host);
        out.extend_from_slice(b"\r\n");
        self.head.write_fields(buffer, overlay, out);
        self.head.write_hop(buffer, upgrade, true, out);
        if self.head.trailers {
            out.extend_from_slice(b"te: trailers\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}

impl ResponseHead {
    /// Writes the response for a client that speaks `version`: fields for this hop alone left out, `overlay` laid over the others, no
    /// `Transfer-Encoding` for HTTP/1.0,
    /// `Connection: close` where the connection ends with it, `keep-alive` for HTTP/1.0 where it does not.
    pub fn write(&self, buffer: &[u8], version: Version, overlay: &impl Overlay, keep_alive: bool, out: &mut Vec<u8>) {
        out.reserve(self.head.len + EXTRA);
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(&[
            b'0' + digit(self.status / 100),
            b'0' + digit(self.status / 10 % 10),
            b'0' + digit(self.status % 10),
        ]);
        out.push(b' ');
        // HTTP/2 has no words for a status.
        let own = self.head.version == Version::Http2;
        out.extend_from_slice(if own { phrase(self.status).as_bytes() } else { self.reason.bytes(buffer) });
        out.extend_from_slice(b"\r\n");
        self.head.write_fields(buffer, overlay, out);
        let switching = self.status == 101;
        // Whoever speaks HTTP/1.0 knows no chunks: the body goes to it decoded.
        self.head.write_hop(buffer, switching, version == Version::Http11, out);
        if !switching && !self.is_interim() {
            if !keep_alive {
                out.extend_from_slice(b"connection: close\r\n");
            } else if version == Version::Http10 {
                out.extend_from_slice(b"connection: keep-alive\r\n");
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// The words of a status that is common; empty for another.
pub const fn phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

const fn digit(number: u16) -> u8 {
    (number % 10) as u8
}

impl Head {
    /// The fields that go the whole way, then what `overlay` adds: what the next hop gets, however it is written there.
    pub fn onward(&self, buffer: &[u8], overlay: &impl Overlay, mut put: impl FnMut(&[u8], &[u8])) {
        for line in &self.fields {
            let name = line.name.bytes(buffer);
            if !self.is_ours(line, buffer) && !overlay.drops(name) {
                put(name, line.value.bytes(buffer));
            }
        }
        overlay.each(put);
    }

    /// The same as lines. Those that follow one another in the buffer just as they are written are copied in one piece.
    fn write_fields(&self, buffer: &[u8], overlay: &impl Overlay, out: &mut Vec<u8>) {
        let mut run = 0..0;
        for line in &self.fields {
            let name = line.name.bytes(buffer);
            if self.is_ours(line, buffer) || overlay.drops(name) {
                continue;
            }
            match line.line(buffer) {
                Some(next) if next.start == run.end => run.end = next.end,
                Some(next) => {
                    out.extend_from_slice(&buffer[std::mem::replace(&mut run, next)]);
                }
                None => {
                    out.extend_from_slice(&buffer[std::mem::replace(&mut run, 0..0)]);
                    field(out, name, line.value.bytes(buffer));
                }
            }
        }
        out.extend_from_slice(&buffer[run]);
        overlay.each(|name, value| field(out, name, value));
    }

    /// Whether the field is written anew or not at all.
    fn is_ours(&self, field: &Field, buffer: &[u8]) -> bool {
        // A back end's Host field, in a response, is nothing special.
        field.known == Known::Host
            // Of HTTP/2, with trailers: they need chunks, which have no length.
            || (field.known == Known::ContentLength && self.framing == Framing::Chunked)
            || self.is_hop_by_hop(field, buffer)
    }

    /// The fields for the next hop alone: the framing, and an upgrade.
    fn write_hop(&self, buffer: &[u8], upgrade: bool, chunks: bool, out: &mut Vec<u8>) {
        if chunks && self.framing == Framing::Chunked {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        match self.upgrade.filter(|_| upgrade) {
            Some(protocol) if self.trailers => {
                out.extend_from_slice(b"connection: upgrade, te\r\n");
                field(out, b"upgrade", protocol.bytes(buffer));
            }
            Some(protocol) => {
                out.extend_from_slice(b"connection: upgrade\r\n");
                field(out, b"upgrade", protocol.bytes(buffer));
            }
            None if self.trailers => out.extend_from_slice(b"connection: te\r\n"),
            None => {}
        }
    }
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The line before a chunk of `length` bytes, which is more than zero. CR LF follows the data.
pub fn chunk_head(length: usize, out: &mut Vec<u8>) {
    debug_assert!(length > 0, "a chunk without data ends the body");
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[length >> (digit * 4) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}
