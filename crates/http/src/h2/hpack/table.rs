//! The static and the dynamic table (RFC 7541, 2.3).

use std::collections::VecDeque;

use crate::field::{Known, is_token};

/// The static table (RFC 7541, appendix A), from index 1 on.
pub(crate) const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// The first index in the static table with that name; 0 where none has it.
pub(crate) fn static_index(name: &[u8]) -> u8 {
    let among: &[u8] = match name.len() {
        3 => &[21, 60],
        4 => &[33, 34, 37, 38, 45, 59],
        5 => &[4, 22, 50],
        6 => &[19, 32, 35, 54],
        7 => &[2, 6, 8, 36, 51, 52],
        8 => &[39, 42, 46],
        10 => &[1, 55, 58],
        11 => &[53],
        12 => &[31, 47],
        13 => &[18, 23, 24, 30, 41, 44],
        14 => &[15, 28],
        15 => &[16, 17],
        16 => &[26, 27, 29, 61],
        17 => &[40, 57],
        18 => &[48],
        19 => &[25, 43, 49],
        25 => &[56],
        27 => &[20],
        _ => &[],
    };
    let same = |index: &&u8| STATIC[usize::from(**index) - 1].0.as_bytes() == name;
    among.iter().find(same).copied().unwrap_or(0)
}

/// What a name is, found out once for an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Name {
    Method,
    Scheme,
    Authority,
    Path,
    Status,
    Protocol,
    Cookie,
    Field(Known),
    /// Not one that a field may have.
    Malformed,
}

impl Name {
    /// Which one `name` is. Names are in small letters (RFC 9113, 8.2.1).
    pub(crate) fn of(name: &[u8]) -> Self {
        match name {
            b":method" => Self::Method,
            b":scheme" => Self::Scheme,
            b":authority" => Self::Authority,
            b":path" => Self::Path,
            b":status" => Self::Status,
            b":protocol" => Self::Protocol,
            b"cookie" => Self::Cookie,
            _ if name.is_empty() || !name.iter().all(|byte| is_token(*byte) && !byte.is_ascii_uppercase()) => {
                Self::Malformed
            }
            _ => Self::Field(Known::of(name)),
        }
    }

    /// Which one that of an entry of the static table is.
    const fn of_static(index: usize) -> Self {
        match index {
            1 => Self::Authority,
            2 | 3 => Self::Method,
            4 | 5 => Self::Path,
            6 | 7 => Self::Scheme,
            8..=14 => Self::Status,
            28 => Self::Field(Known::ContentLength),
            32 => Self::Cookie,
            35 => Self::Field(Known::Expect),
            38 => Self::Field(Known::Host),
            57 => Self::Field(Known::TransferEncoding),
            _ => Self::Field(Known::Other),
        }
    }
}

/// Whether a value may be one (RFC 9110, 5.5; RFC 9113, 8.2.1).
pub(crate) fn is_value(value: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !blank(value.first())
        && !blank(value.last())
        && value.iter().all(|byte| (*byte >= b' ' && *byte != 0x7f) || *byte == b'\t')
}

/// What an index stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) kind: Name,
    /// Whether the value may be one.
    pub(crate) valid: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where its name begins, its value behind it, counted over all that was ever inserted.
    start: u64,
    name: u32,
    value: u32,
    kind: Name,
    valid: bool,
}

/// What every entry counts beside its bytes (RFC 7541, 4.1).
pub(crate) const OVERHEAD: usize = 32;

/// A dynamic table. It allocates with its first entries, and no more once it was full.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    bytes: Vec<u8>,
    /// What counts as the start of `bytes`.
    base: u64,
    /// The newest is the last.
    entries: VecDeque<Entry>,
    size: usize,
    most: usize,
    /// How many entries were ever inserted.
    inserted: u64,
}

impl Table {
    pub(crate) const fn new(most: usize) -> Self {
        Self { bytes: Vec::new(), base: 0, entries: VecDeque::new(), size: 0, most, inserted: 0 }
    }

    /// How large it may be.
    pub(crate) const fn most(&self) -> usize {
        self.most
    }

    pub(crate) const fn inserted(&self) -> u64 {
        self.inserted
    }

    /// What `index` stands for, counted as on the wire: the static table first.
    pub(crate) fn get(&self, index: usize) -> Option<Found<'_>> {
        if let Some((name, value)) = STATIC.get(index.checked_sub(1)?) {
            let kind = Name::of_static(index);
            return Some(Found { name: name.as_bytes(), value: value.as_bytes(), kind, valid: true });
        }
        let back = index - STATIC.len();
        let entry = self.entries.get(self.entries.len().checked_sub(back)?)?;
        let (name, value) = self.text(entry);
        Some(Found { name, value, kind: entry.kind, valid: entry.valid })
    }

    /// Name and value of the entry that was the `number`th to be inserted, and its index on the wire; none where it is gone.
    pub(crate) fn by_number(&self, number: u64) -> Option<(&[u8], &[u8], usize)> {
        let back = usize::try_from(self.inserted.checked_sub(number)?).ok()?;
        let entry = self.entries.get(self.entries.len().checked_sub(back + 1)?)?;
        let (name, value) = self.text(entry);
        Some((name, value, STATIC.len() + back + 1))
    }

    fn text(&self, entry: &Entry) -> (&[u8], &[u8]) {
        let start = usize::try_from(entry.start - self.base).unwrap_or(usize::MAX);
        let text = self.bytes.get(start..start + (entry.name + entry.value) as usize).unwrap_or_default();
        text.split_at_checked(entry.name as usize).unwrap_or_default()
    }

    /// Inserts an entry, and drops the oldest ones for it: all of them where it is larger than the table. True where it is in.
    pub(crate) fn insert(&mut self, name: &[u8], value: &[u8], kind: Name, valid: bool) -> bool {
        let size = name.len() + value.len() + OVERHEAD;
        self.shrink(self.most.saturating_sub(size));
        if size > self.most {
            return false;
        }
        if self.bytes.len() + size > self.most * 2 {
            let oldest = self.entries.front().map_or(self.base + self.bytes.len() as u64, |entry| entry.start);
            self.bytes.drain(..usize::try_from(oldest - self.base).unwrap_or(0));
            self.base = oldest;
        }
        let start = self.base + self.bytes.len() as u64;
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.entries.push_back(Entry { start, name: name.len() as u32, value: value.len() as u32, kind, valid });
        self.size += size;
        self.inserted += 1;
        true
    }

    /// Sets how large it may be, and drops what is beyond.
    pub(crate) fn resize(&mut self, most: usize) {
        self.most = most;
        self.shrink(most);
    }

    fn shrink(&mut self, most: usize) {
        while self.size > most {
            let Some(entry) = self.entries.pop_front() else { return };
            self.size -= (entry.name + entry.value) as usize + OVERHEAD;
        }
    }
}
