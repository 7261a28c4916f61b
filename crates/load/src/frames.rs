//! Frames of HTTP/2 (RFC 9113, 4.1), as much as a benchmark needs.

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;

/// The window that each side begins with.
pub(crate) const WINDOW: u32 = 65_535;

#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: &'a [u8],
}

impl Frame<'_> {
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The first 32 bits.
    pub(crate) fn number(&self) -> u32 {
        self.payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    /// Settings, by identifier.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (u16, u32)> + '_ {
        self.payload.chunks_exact(6).filter_map(|setting| {
            let (id, value) = setting.split_first_chunk()?;
            Some((u16::from_be_bytes(*id), u32::from_be_bytes(*value.first_chunk()?)))
        })
    }

    /// The field block of a HEADERS frame.
    pub(crate) fn block(&self) -> &[u8] {
        let mut block = self.payload;
        if self.has(PADDED) {
            let padding = block.first().map_or(0, |length| usize::from(*length));
            block = block.get(1..block.len().saturating_sub(padding)).unwrap_or_default();
        }
        if self.has(PRIORITY) { block.get(5..).unwrap_or_default() } else { block }
    }
}

/// The first frame, and what it takes; none where it is not complete.
pub(crate) fn first(input: &[u8]) -> Option<(Frame<'_>, usize)> {
    let (head, rest) = input.split_first_chunk::<9>()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let payload = rest.get(..length)?;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & (u32::MAX >> 1);
    Some((Frame { kind: head[3], flags: head[4], stream, payload }, 9 + length))
}

pub(crate) fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    // Nothing that is sent here is longer than a frame may be by default.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&[length[1], length[2], length[3], kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

pub(crate) fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let payload: Vec<u8> =
        settings.iter().flat_map(|(id, value)| id.to_be_bytes().into_iter().chain(value.to_be_bytes())).collect();
    put(out, SETTINGS, 0, 0, &payload);
}

pub(crate) fn put_window(out: &mut Vec<u8>, stream: u32, by: u32) {
    put(out, WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
}

/// A field whose name is in the static table, as a literal that no table remembers (RFC 7541, 6.2.2).
pub(crate) fn put_literal(block: &mut Vec<u8>, name: u8, value: &str) {
    match name {
        0..15 => block.push(name),
        _ => block.extend_from_slice(&[15, name - 15]),
    }
    put_text(block, value);
}

/// A field whose name is in no table.
pub(crate) fn put_named(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    put_text(block, name);
    put_text(block, value);
}

fn put_text(block: &mut Vec<u8>, text: &str) {
    // Seven bits of length, and more bytes where it is longer.
    let mut length = text.len();
    if length >= 127 {
        block.push(127);
        length -= 127;
        while length >= 128 {
            block.push(u8::try_from(length % 128 + 128).unwrap_or_default());
            length /= 128;
        }
    }
    block.push(u8::try_from(length).unwrap_or_default());
    block.extend_from_slice(text.as_bytes());
}

/// Whether a response's field block begins with `:status: 200` (RFC 7541: every encoder has one byte for it; updates of
/// the table's size may come before).
pub(crate) fn is_ok(mut block: &[u8]) -> bool {
    while let Some((first, rest)) = block.split_first() {
        if first & 0b1110_0000 != 0b0010_0000 {
            return *first == 0x88;
        }
        let more = if first & 31 == 31 {
            rest.iter().position(|byte| byte & 128 == 0).map_or(rest.len(), |last| last + 1)
        } else {
            0
        };
        block = &rest[more..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_read() {
        let mut out = Vec::new();
        put_settings(&mut out, &[(MAX_CONCURRENT_STREAMS, 7), (INITIAL_WINDOW_SIZE, 1 << 20)]);
        put(&mut out, HEADERS, END_HEADERS | PADDED, 5, &[1, 0x88, 0]);
        let (settings, length) = first(&out).unwrap();
        assert_eq!(settings.settings().collect::<Vec<_>>(), [(3, 7), (4, 1 << 20)]);
        let (headers, rest) = first(&out[length..]).unwrap();
        assert_eq!((headers.stream, headers.block(), headers.has(END_STREAM)), (5, &[0x88][..], false));
        assert_eq!(length + rest, out.len());
        assert!(first(&out[..length - 1]).is_none());
    }

    #[test]
    fn only_200_is_ok() {
        for (block, ok) in [
            (&[0x88][..], true),
            (&[0x20, 0x88], true),
            (&[0x3f, 0xe1, 0x1f, 0x88], true),
            (&[0x8d], false),
            (&[], false),
        ] {
            assert_eq!(is_ok(block), ok, "{block:x?}");
        }
    }

    #[test]
    fn literals_of_every_length() {
        for length in [0, 3, 126, 127, 300] {
            let value = "x".repeat(length);
            let (mut indexed, mut named) = (Vec::new(), Vec::new());
            put_literal(&mut indexed, 58, &value);
            put_named(&mut named, "n", &value);
            assert_eq!(indexed[..2], [15, 43]);
            assert_eq!(named[..3], [0, 1, b'n']);
            assert_eq!(indexed[2..], named[3..], "{length}");
        }
    }
}
