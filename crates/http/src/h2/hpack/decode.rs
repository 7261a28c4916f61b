//! Header blocks to fields.

use super::{
    NotHpack, TABLE, huffman, integer,
    table::{Name, Table, is_value},
};

/// A field that was read into a buffer: its name begins at `start`, its value at `value`, and ends at `end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    pub(crate) start: usize,
    pub(crate) value: usize,
    pub(crate) end: usize,
    pub(crate) kind: Name,
    /// Whether the value may be one.
    pub(crate) valid: bool,
    /// Whether it must never be put into a table on its way.
    pub(crate) never_indexed: bool,
}

/// One direction's decoder.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    table: Table,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { table: Table::new(TABLE) }
    }
}

impl Decoder {
    /// Reads a whole block: appends names and values to `bytes`, and gives each field to `take`, which may cut `bytes` off at where the field
    /// begins.
    ///
    /// # Errors
    /// What is no block.
    pub(crate) fn decode(
        &mut self,
        mut block: &[u8],
        bytes: &mut Vec<u8>,
        mut take: impl FnMut(Line, &mut Vec<u8>),
    ) -> Result<(), NotHpack> {
        let mut updates = 0;
        while block.first().is_some_and(|first| first & 0xe0 == 0x20) {
            updates += 1;
            let most = integer::take(&mut block, 5)?;
            // The smallest and the last of those that were asked for: more is noise (4.2).
            if most > TABLE || updates > 2 {
                return Err(NotHpack);
            }
            self.table.resize(most);
        }
        while let Some(first) = block.first().copied() {
            let start = bytes.len();
            if first & 0x80 != 0 {
                let found = self.table.get(integer::take(&mut block, 7)?).ok_or(NotHpack)?;
                bytes.extend_from_slice(found.name);
                let value = bytes.len();
                bytes.extend_from_slice(found.value);
                let (kind, valid) = (found.kind, found.valid);
                take(Line { start, value, end: bytes.len(), kind, valid, never_indexed: false }, bytes);
                continue;
            }
            let (index, indexed) = match first >> 4 {
                4..=7 => (integer::take(&mut block, 6)?, true),
                0 | 1 => (integer::take(&mut block, 4)?, false),
                // A size update behind a field.
                _ => return Err(NotHpack),
            };
            let known = if index == 0 {
                string(&mut block, 7, bytes)?;
                None
            } else {
                let found = self.table.get(index).ok_or(NotHpack)?;
                bytes.extend_from_slice(found.name);
                Some(found.kind)
            };
            let value = bytes.len();
            string(&mut block, 7, bytes)?;
            let kind = known.unwrap_or_else(|| Name::of(&bytes[start..value]));
            let valid = is_value(&bytes[value..]);
            if indexed {
                self.table.insert(&bytes[start..value], &bytes[value..], kind, valid);
            }
            let never_indexed = first >> 4 == 1;
            take(Line { start, value, end: bytes.len(), kind, valid, never_indexed }, bytes);
        }
        Ok(())
    }
}

/// Takes a string, whose length begins in the last `bits` bits of the first byte, behind the bit that tells whether it is coded.
pub(crate) fn string(block: &mut &[u8], bits: u32, bytes: &mut Vec<u8>) -> Result<(), NotHpack> {
    let coded = block.first().ok_or(NotHpack)? >> bits & 1 != 0;
    let length = integer::take(block, bits)?;
    let (text, rest) = block.split_at_checked(length).ok_or(NotHpack)?;
    *block = rest;
    if coded {
        return huffman::decode(text, bytes);
    }
    bytes.extend_from_slice(text);
    Ok(())
}
