//! Frames (RFC 9113, 4 and 6).

/// What opens a client's connection (RFC 9113, 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes before every payload.
pub(crate) const HEAD: usize = 9;
/// The largest payload that is taken or sent: what everybody must take.
pub(crate) const MOST: usize = 16 << 10;
/// The largest window.
pub(crate) const MOST_WINDOW: u32 = (1 << 31) - 1;
/// A window before anybody says otherwise.
pub(crate) const WINDOW: u32 = 65_535;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const PRIORITIZED: u8 = 0x20;

/// Settings (RFC 9113, 6.5.2; RFC 8441, 3).
pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
pub(crate) const ENABLE_PUSH: u16 = 2;
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(crate) const MAX_FRAME_SIZE: u16 = 5;
pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
pub(crate) const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// An error code (RFC 9113, 7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Code(pub u32);

#[expect(missing_docs, reason = "the names are RFC 9113's own")]
impl Code {
    pub const NO_ERROR: Self = Self(0);
    pub const PROTOCOL_ERROR: Self = Self(1);
    pub const INTERNAL_ERROR: Self = Self(2);
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    pub const SETTINGS_TIMEOUT: Self = Self(4);
    pub const STREAM_CLOSED: Self = Self(5);
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    pub const REFUSED_STREAM: Self = Self(7);
    pub const CANCEL: Self = Self(8);
    pub const COMPRESSION_ERROR: Self = Self(9);
    pub const CONNECT_ERROR: Self = Self(10);
    pub const ENHANCE_YOUR_CALM: Self = Self(11);
    pub const INADEQUATE_SECURITY: Self = Self(12);
    pub const HTTP_1_1_REQUIRED: Self = Self(13);
}

/// What stands before a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FrameHead {
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl FrameHead {
    /// The head that `input` begins with, if it is all there.
    pub(crate) fn read(input: &[u8]) -> Option<Self> {
        let ([high, middle, low], rest) = input.split_first_chunk::<3>()?;
        let ([kind, flags], rest) = rest.split_first_chunk::<2>()?;
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        let stream = u32::from_be_bytes(*rest.first_chunk::<4>()?) & 0x7fff_ffff;
        Some(Self { length, kind: *kind, flags: *flags, stream })
    }

    pub(crate) const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Writes the head of a frame.
pub(crate) fn head(length: usize, kind: u8, flags: u8, stream: u32, out: &mut Vec<u8>) {
    let mut head = [0; HEAD];
    head[..3].copy_from_slice(&size(length));
    (head[3], head[4]) = (kind, flags);
    head[5..].copy_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(&head);
}

/// A payload's length as a frame's head has it.
#[expect(clippy::cast_possible_truncation, reason = "no frame is larger than `MOST`")]
pub(crate) const fn size(length: usize) -> [u8; 3] {
    debug_assert!(length <= MOST);
    [(length >> 16) as u8, (length >> 8) as u8, length as u8]
}

/// Writes a frame whose payload is one number.
pub(crate) fn number(kind: u8, stream: u32, number: u32, out: &mut Vec<u8>) {
    head(4, kind, 0, stream, out);
    out.extend_from_slice(&number.to_be_bytes());
}

/// The payload without its padding. None where there is more padding than payload.
pub(crate) fn unpadded(head: FrameHead, payload: &[u8]) -> Option<&[u8]> {
    if !head.has(PADDED) {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}
