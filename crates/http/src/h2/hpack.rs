//! HPACK (RFC 7541).

pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod huffman;
pub(crate) mod integer;
pub(crate) mod table;

/// Bytes that are no header block. What follows cannot be read either: the tables are no longer the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NotHpack;

/// The size of a dynamic table where nobody says otherwise, and the most that this side uses.
pub(crate) const TABLE: usize = 4096;
