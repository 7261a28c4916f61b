//! Header blocks (RFC 9204, 4.5) that refer to the static table alone, and the messages in them.

use super::{
    frame::{Code, kind, put_head},
    table::{self, STATIC},
};
use crate::{
    error::HeadError,
    field::Known,
    h2::{
        hpack::{
            NotHpack,
            decode::{Line, string},
            huffman, integer,
            table::{Name, is_value},
        },
        may_trail,
        message::Section,
        send::Lower,
    },
    head::{Head, Limits},
    request::RequestHead,
    response::ResponseHead,
    write::Overlay,
};

/// Why a block gives no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The stream ends with [`Code::MESSAGE_ERROR`]: what was sent must not be.
    Malformed,
    /// The request is answered, not served.
    Refused(HeadError),
    /// The connection ends with this code: the block cannot be read.
    Connection(Code),
}

impl From<HeadError> for Fault {
    fn from(error: HeadError) -> Self {
        if error == HeadError::Malformed { Self::Malformed } else { Self::Refused(error) }
    }
}

impl From<NotHpack> for Fault {
    fn from(NotHpack: NotHpack) -> Self {
        Self::Connection(Code::QPACK_DECOMPRESSION_FAILED)
    }
}

/// Reads the block of a request into `head`, with its text in `bytes`; `end` where no body follows. Gives the length that it announces.
/// The head is as HTTP/2 has it: extended `CONNECT` for a WebSocket (RFC 9220) is an upgrade, its version is the one of HTTP/2.
///
/// # Errors
/// What is to be done instead.
pub fn request(
    block: &[u8],
    end: bool,
    limits: &Limits,
    head: &mut RequestHead,
    bytes: &mut Vec<u8>,
) -> Result<Option<u64>, Fault> {
    let mut section = Section::default();
    read(block, limits, bytes, &mut section)?;
    Ok(section.request(bytes, end, limits, true, head)?)
}

/// Reads the block of trailers.
///
/// # Errors
/// What is to be done instead.
pub fn trailers(block: &[u8], limits: &Limits, head: &mut Head, bytes: &mut Vec<u8>) -> Result<(), Fault> {
    let mut section = Section::default();
    read(block, limits, bytes, &mut section)?;
    // There is no answer to trailers.
    section.trailers(head).map_err(|_| Fault::Malformed)
}

fn read(mut block: &[u8], limits: &Limits, bytes: &mut Vec<u8>, section: &mut Section) -> Result<(), NotHpack> {
    let required = integer::take(&mut block, 8)?;
    let before = block.first().is_some_and(|first| first & 0x80 != 0);
    integer::take(&mut block, 7)?;
    // There is no dynamic table to require anything of, and no entry of it before which the base could lie (4.5.1.2).
    if required != 0 || before {
        return Err(NotHpack);
    }
    while let Some(first) = block.first().copied() {
        let start = bytes.len();
        let entry = |index: usize| STATIC.get(index).ok_or(NotHpack);
        let (value, never_indexed) = match first {
            0xc0.. => {
                let (name, text) = entry(integer::take(&mut block, 6)?)?;
                bytes.extend_from_slice(name.as_bytes());
                let value = bytes.len();
                bytes.extend_from_slice(text.as_bytes());
                (value, false)
            }
            0x40..0x80 if first & 0x10 != 0 => {
                let (name, _) = entry(integer::take(&mut block, 4)?)?;
                bytes.extend_from_slice(name.as_bytes());
                let value = bytes.len();
                string(&mut block, 7, bytes)?;
                (value, first & 0x20 != 0)
            }
            0x20..0x40 => {
                string(&mut block, 3, bytes)?;
                let value = bytes.len();
                string(&mut block, 7, bytes)?;
                (value, first & 0x10 != 0)
            }
            // Of the dynamic table.
            _ => return Err(NotHpack),
        };
        let kind = Name::of(&bytes[start..value]);
        let valid = is_value(&bytes[value..]);
        section.take(Line { start, value, end: bytes.len(), kind, valid, never_indexed }, bytes, limits);
    }
    Ok(())
}

/// Writes a response, or an interim one, as a frame: fields for the next hop alone left out, `overlay` laid over the others.
pub fn response(head: &ResponseHead, bytes: &[u8], overlay: &impl Overlay, out: &mut Vec<u8>) {
    let mut block = begin(head.status);
    let mut lower = Lower::default();
    for field in &head.head.fields {
        if matches!(field.known, Known::Host | Known::Expect) || head.head.is_hop_by_hop(field, bytes) {
            continue;
        }
        let name = field.name.bytes(bytes);
        if !overlay.drops(name) {
            put(lower.of(name), field.value.bytes(bytes), field.never_indexed, &mut block);
        }
    }
    overlay.each(|name, value| put(lower.of(name), value, false, &mut block));
    finish(&block, out);
}

/// Writes a response of one's own, of names in small letters and values, as a frame.
pub fn status(status: u16, fields: &[(&str, &[u8])], out: &mut Vec<u8>) {
    let mut block = begin(status);
    for (name, value) in fields {
        put(name.as_bytes(), value, false, &mut block);
    }
    finish(&block, out);
}

/// Writes trailers as a frame, but for those that trailers must not have (RFC 9110, 6.5.1). Whether there are any.
pub fn put_trailers<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>, out: &mut Vec<u8>) -> bool {
    let mut block = vec![0, 0];
    let mut lower = Lower::default();
    for (name, value) in fields.filter(|(name, _)| may_trail(name)) {
        put(lower.of(name), value, false, &mut block);
    }
    if block.len() > 2 {
        finish(&block, out);
    }
    block.len() > 2
}

/// A block with the status of a response.
fn begin(status: u16) -> Vec<u8> {
    let mut block = Vec::with_capacity(256);
    block.extend_from_slice(&[0, 0]);
    let digit = |by: u16| b'0' + u8::try_from(status / by % 10).unwrap_or(0);
    put(b":status", &[digit(100), digit(10), digit(1)], false, &mut block);
    block
}

fn finish(block: &[u8], out: &mut Vec<u8>) {
    put_head(kind::HEADERS, block.len() as u64, out);
    out.extend_from_slice(block);
}

/// Writes a field, whose name is in small letters. A `secret` is put into no table further on.
fn put(name: &[u8], value: &[u8], secret: bool, out: &mut Vec<u8>) {
    let never = u8::from(secret || matches!(name, b"set-cookie" | b"authorization" | b"proxy-authorization"));
    match table::find(name, value) {
        table::Found::Both(index) if never == 0 => integer::put(0xc0, 6, index, out),
        table::Found::Both(index) | table::Found::Name(index) => {
            integer::put(0x50 | never << 5, 4, index, out);
            string_of(0, 7, value, out);
        }
        table::Found::Nothing => {
            string_of(0x20 | never << 4, 3, name, out);
            string_of(0, 7, value, out);
        }
    }
}

/// Writes a string, whose length begins in the last `bits` bits of the first byte; `mark` is in those before.
fn string_of(mark: u8, bits: u32, text: &[u8], out: &mut Vec<u8>) {
    let length = huffman::encoded_len(text);
    if length < text.len() {
        integer::put(mark | 1 << bits, bits, length, out);
        return huffman::encode(text, out);
    }
    integer::put(mark, bits, text.len(), out);
    out.extend_from_slice(text);
}
