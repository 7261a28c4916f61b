//! Fields to header blocks.

use super::{
    TABLE, huffman, integer,
    table::{Name, STATIC, Table, static_index},
};

/// One direction's encoder.
///
/// What was sent once is remembered by its hash, and inserted into the table when it is sent again: what never repeats costs no entry, and
/// what does costs a byte or two from then on.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    table: Table,
    /// By hash: the number of the entry that has it, from 1 on. Empty until something is inserted.
    slots: Vec<u64>,
    /// Hashes of what was sent last.
    seen: Vec<u32>,
    /// Sizes that the other side is to be told of before the next field: the smallest since, and the last.
    resized: Option<(usize, usize)>,
}

const SLOTS: usize = 256;
const SEEN: usize = 64;

impl Default for Encoder {
    fn default() -> Self {
        Self { table: Table::new(TABLE), slots: Vec::new(), seen: Vec::new(), resized: None }
    }
}

impl Encoder {
    /// Goes by the size that the other side allows.
    pub(crate) fn resize(&mut self, most: usize) {
        let most = most.min(TABLE);
        let smallest = self.resized.map_or(self.table.most(), |(smallest, _)| smallest).min(most);
        if self.resized.is_some() || most != self.table.most() {
            self.table.resize(smallest);
            self.table.resize(most);
            self.resized = Some((smallest, most));
        }
    }

    /// Begins a block.
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some((smallest, last)) = self.resized.take() {
            if smallest < last {
                integer::put(0x20, 5, smallest, out);
            }
            integer::put(0x20, 5, last, out);
        }
    }

    /// Writes an entry of the static table.
    pub(crate) fn indexed(index: u8, out: &mut Vec<u8>) {
        out.push(0x80 | index);
    }

    /// Writes a field, whose name is in small letters. A `secret` is put into no table, here or further on.
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8], secret: bool, out: &mut Vec<u8>) {
        let index = static_index(name);
        if secret || is_secret(index) {
            return literal(0x10, 4, index, name, value, false, out);
        }
        if !repeats(index) {
            return literal(0, 4, index, name, value, false, out);
        }
        let hash = hash(name, value);
        let slot = hash as usize % SLOTS;
        if let Some(number) = self.slots.get(slot)
            && let Some((held, text, index)) = self.table.by_number(*number)
            && text == value
            && held == name
        {
            return integer::put(0x80, 7, index, out);
        }
        if self.seen.is_empty() {
            self.seen.resize(SEEN, 0);
        }
        let seen = &mut self.seen[hash as usize / SLOTS % SEEN];
        if *seen != hash {
            *seen = hash;
            return literal(0, 4, index, name, value, false, out);
        }
        if name.len() + value.len() > TABLE / 4 {
            return literal(0, 4, index, name, value, false, out);
        }
        literal(0x40, 6, index, name, value, true, out);
        if self.table.insert(name, value, Name::Malformed, true) {
            if self.slots.is_empty() {
                self.slots.resize(SLOTS, 0);
            }
            self.slots[slot] = self.table.inserted();
        }
    }
    /// Writes a path that is in pieces. Paths do not repeat.
    pub(crate) fn path(pieces: &[&[u8]], out: &mut Vec<u8>) {
        const PATH: usize = 4;
        integer::put(0, 4, PATH, out);
        integer::put(0, 7, pieces.iter().map(|piece| piece.len()).sum(), out);
        for piece in pieces {
            out.extend_from_slice(piece);
        }
    }
}

/// Writes a literal. What is sent once is not worth its compression.
fn literal(mark: u8, bits: u32, index: u8, name: &[u8], value: &[u8], compress: bool, out: &mut Vec<u8>) {
    integer::put(mark, bits, usize::from(index), out);
    if index == 0 {
        string(name, compress, out);
    }
    string(value, compress, out);
}

fn string(text: &[u8], compress: bool, out: &mut Vec<u8>) {
    if compress {
        let length = huffman::encoded_len(text);
        if length < text.len() {
            integer::put(0x80, 7, length, out);
            return huffman::encode(text, out);
        }
    }
    integer::put(0, 7, text.len(), out);
    out.extend_from_slice(text);
}

/// Whether the name of an entry of the static table is that of a secret, which a table could betray (RFC 7541, 7.1.3).
const fn is_secret(index: u8) -> bool {
    matches!(index, 23 | 32 | 49 | 55)
}

/// Whether fields of that name tend to have the same value again: not paths, lengths, and what names or dates one resource.
fn repeats(index: u8) -> bool {
    // :path, age, content-length, -location, -range, etag, if-*, last-modified, location, range.
    !matches!(index, 4 | 5 | 21 | 28 | 29 | 30 | 34 | 39..=44 | 46 | 50)
}

fn hash(name: &[u8], value: &[u8]) -> u32 {
    let hash = mix(mix(STATIC.len() as u64, name), value);
    // The low bits of a product are the poorest.
    (hash >> 32) as u32
}

fn mix(mut hash: u64, text: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = text.as_chunks::<8>();
    for word in words {
        hash = (hash.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    (hash.rotate_left(23) ^ u64::from_le_bytes(last) ^ (text.len() as u64) << 56).wrapping_mul(FACTOR)
}
