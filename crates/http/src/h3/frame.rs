//! Numbers, frames, settings and error codes (RFC 9000, 16; RFC 9114, 7 and 8.1).

/// Takes a number of variable length from the start of `input`. None where more bytes are needed.
pub fn take_number(input: &mut &[u8]) -> Option<u64> {
    let first = *input.first()?;
    let length = 1_usize << (first >> 6);
    let (bytes, rest) = input.split_at_checked(length)?;
    let mut value = u64::from(first & 0x3f);
    for byte in &bytes[1..] {
        value = value << 8 | u64::from(*byte);
    }
    *input = rest;
    Some(value)
}

/// Writes a number; one beyond 2^62 is written as the largest.
pub fn put_number(value: u64, out: &mut Vec<u8>) {
    const MOST: u64 = (1 << 62) - 1;
    let bytes = (value.min(MOST)).to_be_bytes();
    match value {
        0..0x40 => out.push(bytes[7]),
        0x40..0x4000 => out.extend_from_slice(&[0x40 | bytes[6], bytes[7]]),
        0x4000..0x4000_0000 => out.extend_from_slice(&[0x80 | bytes[4], bytes[5], bytes[6], bytes[7]]),
        _ => {
            out.push(0xc0 | bytes[0]);
            out.extend_from_slice(&bytes[1..]);
        }
    }
}

/// What stands before a frame's payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHead {
    /// One of [`kind`], or one that is not known and is skipped.
    pub kind: u64,
    /// Bytes of the payload.
    pub length: u64,
    /// Bytes of the head itself.
    pub taken: usize,
}

impl FrameHead {
    /// Reads a head from the start of `input`. None where more bytes are needed, of which there are 16 at most.
    pub fn read(input: &[u8]) -> Option<Self> {
        let mut rest = input;
        let kind = take_number(&mut rest)?;
        let length = take_number(&mut rest)?;
        Some(Self { kind, length, taken: input.len() - rest.len() })
    }
}

/// Writes a frame's head.
pub fn put_head(kind: u64, length: u64, out: &mut Vec<u8>) {
    put_number(kind, out);
    put_number(length, out);
}

/// Kinds of frames.
#[expect(missing_docs, reason = "the names are RFC 9114's own")]
pub mod kind {
    pub const DATA: u64 = 0;
    pub const HEADERS: u64 = 1;
    pub const CANCEL_PUSH: u64 = 3;
    pub const SETTINGS: u64 = 4;
    pub const PUSH_PROMISE: u64 = 5;
    pub const GOAWAY: u64 = 7;
    pub const MAX_PUSH_ID: u64 = 0xd;
    /// Those of HTTP/2 that must not come (7.2.8).
    pub const OF_HTTP2: [u64; 4] = [2, 6, 8, 9];
}

/// Settings (RFC 9114, 7.2.4.1; RFC 9204, 5; RFC 9220, 3; RFC 9297, 2.1.1).
#[expect(missing_docs, reason = "the names are the RFCs' own")]
pub mod setting {
    pub const MAX_FIELD_SECTION_SIZE: u64 = 6;
    pub const ENABLE_CONNECT_PROTOCOL: u64 = 8;
    pub const H3_DATAGRAM: u64 = 0x33;
    /// Those of HTTP/2 that must not come.
    pub const OF_HTTP2: [u64; 4] = [2, 3, 4, 5];
}

/// What a stream in one direction begins with (RFC 9114, 6.2; RFC 9204, 4.2).
#[expect(missing_docs, reason = "the names are the RFCs' own")]
pub mod stream_type {
    pub const CONTROL: u64 = 0;
    pub const PUSH: u64 = 1;
    pub const QPACK_ENCODER: u64 = 2;
    pub const QPACK_DECODER: u64 = 3;
}

/// An error code (RFC 9114, 8.1; RFC 9204, 6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Code(pub u32);

#[expect(missing_docs, reason = "the names are the RFCs' own")]
impl Code {
    pub const NO_ERROR: Self = Self(0x100);
    pub const GENERAL_PROTOCOL_ERROR: Self = Self(0x101);
    pub const INTERNAL_ERROR: Self = Self(0x102);
    pub const STREAM_CREATION_ERROR: Self = Self(0x103);
    pub const CLOSED_CRITICAL_STREAM: Self = Self(0x104);
    pub const FRAME_UNEXPECTED: Self = Self(0x105);
    pub const FRAME_ERROR: Self = Self(0x106);
    pub const EXCESSIVE_LOAD: Self = Self(0x107);
    pub const ID_ERROR: Self = Self(0x108);
    pub const SETTINGS_ERROR: Self = Self(0x109);
    pub const MISSING_SETTINGS: Self = Self(0x10a);
    pub const REQUEST_REJECTED: Self = Self(0x10b);
    pub const REQUEST_CANCELLED: Self = Self(0x10c);
    pub const REQUEST_INCOMPLETE: Self = Self(0x10d);
    pub const MESSAGE_ERROR: Self = Self(0x10e);
    pub const QPACK_DECOMPRESSION_FAILED: Self = Self(0x200);
    pub const QPACK_ENCODER_STREAM_ERROR: Self = Self(0x201);
    pub const QPACK_DECODER_STREAM_ERROR: Self = Self(0x202);
}
