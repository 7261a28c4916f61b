//! What lies where in tables that outlive a version of the programs, so that another version, older or newer, can read them.
//!
//! Every version pins the description of its own layout beside its tables. A field is known by its number, whatever its place; a
//! number never gets another meaning or width, and what a version does not know it leaves out. Numbers inside fields
//! ([`CtState`](super::CtState), [`ct_flags`](super::ct_flags)) only ever get more values, and an unknown one closes.
//!
//! Whatever the version, `CONFIG` begins with its layout version and the revision of its policy, four bytes each.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{CtEntry, CtKey, DropKey, DropSeen, Event, FragmentKey, FragmentPorts, Metric, map};

/// Name of the pinned array of [`Field`]s.
pub const LAYOUT: &str = "LAYOUT";

/// [`Field::part`] of a key.
pub const KEY: u8 = 0;
/// [`Field::part`] of a value, or of an event.
pub const VALUE: u8 = 1;

/// [`Field::table`] numbers, and the maps they stand for.
pub const TABLES: [(u8, &str); 5] =
    [(1, map::CONNTRACK), (2, map::FRAGMENTS), (3, map::DROP_SEEN), (4, map::EVENTS), (5, map::METRICS)];

/// One field of a key or value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Field {
    /// Which table; see [`TABLES`].
    pub table: u8,
    /// [`KEY`] or [`VALUE`].
    pub part: u8,
    /// Which field; zero for bytes without meaning.
    pub number: u16,
    /// Bytes before it.
    pub offset: u16,
    /// Its bytes.
    pub width: u16,
}

#[expect(clippy::cast_possible_truncation, reason = "checked; a conversion that says so cannot be constant")]
const fn narrow(bytes: usize) -> u16 {
    assert!(bytes <= u16::MAX as usize);
    bytes as u16
}

const fn width<T, F>(_: fn(&T) -> &F) -> u16 {
    narrow(size_of::<F>())
}

const fn whole(fields: &[Field]) -> usize {
    let (mut sum, mut index) = (0, 0);
    while index < fields.len() {
        sum += fields[index].width as usize;
        index += 1;
    }
    sum
}

macro_rules! described {
    ($($name:ident = $table:literal $part:ident $type:ident { $($number:literal $field:ident)* })*) => {$(
        const $name: &[Field] = &[$(Field {
            table: $table,
            part: $part,
            number: $number,
            offset: narrow(offset_of!($type, $field)),
            width: width(|value: &$type| &value.$field),
        }),*];
        // A new field needs a new number here.
        const _: () = assert!(whole($name) == size_of::<$type>());
    )*};
}

described! {
    CT_KEY = 1 KEY CtKey { 1 local 2 remote 3 local_port 4 remote_port 5 protocol 0 pad }
    CT_ENTRY = 1 VALUE CtEntry {
        1 created_ns 2 last_seen_ns 3 last_report_ns 4 lifetime_ns 5 tx_packets 6 tx_bytes 7 rx_packets 8 rx_bytes
        9 revision 10 origin 11 endpoint 12 subject 13 peer 14 policy_port 15 state 16 direction 17 flags
        18 tx_tcp_flags 19 rx_tcp_flags 20 peer_place 21 ifindex
    }
    FRAGMENT_KEY = 2 KEY FragmentKey { 1 src 2 dst 3 id 4 ifindex 5 protocol 0 pad }
    FRAGMENT_PORTS = 2 VALUE FragmentPorts { 1 seen_ns 2 src_port 3 dst_port 4 header_len 5 protocol 6 icmp_type }
    DROP_KEY = 3 KEY DropKey { 1 local 2 remote 3 ifindex 4 policy_port 5 protocol 6 reason 7 hook 0 pad }
    DROP_SEEN = 3 VALUE DropSeen { 1 last_event_ns 2 packets 3 bytes 4 endpoint 5 subject 6 peer 7 origin }
    EVENT = 4 VALUE Event {
        1 time_ns 2 created_ns 3 tx_packets 4 tx_bytes 5 rx_packets 6 rx_bytes 7 local 8 remote 9 ifindex 10 endpoint
        11 subject 12 peer 13 origin 14 revision 15 local_port 16 remote_port 17 kind 18 reason 19 direction 20 protocol
        21 tcp_flags 22 icmp_type 23 icmp_code 24 hook 25 flags 0 pad
    }
    METRIC = 5 VALUE Metric { 1 packets 2 bytes }
}

/// The layout of this version.
pub fn current() -> impl Iterator<Item = Field> {
    let all = [CT_KEY, CT_ENTRY, FRAGMENT_KEY, FRAGMENT_PORTS, DROP_KEY, DROP_SEEN, EVENT, METRIC];
    all.into_iter().flatten().copied()
}

/// The layout of version 1, which pinned no description. Table, part, and number and width of each field in order; there are no
/// gaps.
pub fn version_1() -> impl Iterator<Item = Field> {
    type Part = (u8, u8, &'static [(u16, u16)]);
    const PARTS: [Part; 8] = [
        (1, KEY, &[(1, 16), (2, 16), (3, 2), (4, 2), (5, 1), (0, 3)]),
        (
            1,
            VALUE,
            &[
                (1, 8),
                (2, 8),
                (3, 8),
                (4, 8),
                (5, 8),
                (6, 8),
                (7, 8),
                (8, 8),
                (9, 4),
                (10, 4),
                (11, 4),
                (12, 4),
                (13, 4),
                (14, 2),
                (15, 1),
                (16, 1),
                (17, 1),
                (18, 1),
                (19, 1),
                (0, 5),
            ],
        ),
        (2, KEY, &[(1, 16), (2, 16), (3, 4), (4, 4), (5, 1), (0, 3)]),
        (2, VALUE, &[(1, 8), (2, 2), (3, 2), (4, 2), (5, 1), (6, 1)]),
        (3, KEY, &[(1, 16), (2, 16), (3, 4), (4, 2), (5, 1), (6, 1), (7, 1), (0, 3)]),
        (3, VALUE, &[(1, 8), (2, 8), (3, 8), (4, 4), (5, 4), (6, 4), (7, 4)]),
        (
            4,
            VALUE,
            &[
                (1, 8),
                (2, 8),
                (3, 8),
                (4, 8),
                (5, 8),
                (6, 8),
                (7, 16),
                (8, 16),
                (9, 4),
                (10, 4),
                (11, 4),
                (12, 4),
                (13, 4),
                (14, 4),
                (15, 2),
                (16, 2),
                (17, 1),
                (18, 1),
                (19, 1),
                (20, 1),
                (21, 1),
                (22, 1),
                (23, 1),
                (24, 1),
                (25, 1),
                (0, 3),
            ],
        ),
        (5, VALUE, &[(1, 8), (2, 8)]),
    ];
    PARTS.into_iter().flat_map(|(table, part, fields)| {
        let mut offset = 0;
        fields.iter().map(move |(number, width)| {
            offset += width;
            Field { table, part, number: *number, offset: offset - width, width: *width }
        })
    })
}

/// Bytes to copy from a part of one layout to that of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// From, to, how many.
    moves: Vec<(usize, usize, usize)>,
    /// Bytes of the result.
    size: usize,
    /// Fields of the result that the other layout does not have.
    missing: Vec<u16>,
}

impl Conversion {
    /// From a part of a table in layout `from` to that in layout `to`. A field of another width counts as another field.
    pub fn new(from: &[Field], to: &[Field], table: u8, part: u8) -> Self {
        let of = |field: &&Field| (field.table, field.part) == (table, part);
        let (mut moves, mut missing, mut size) = (Vec::new(), Vec::new(), 0);
        for field in to.iter().filter(of) {
            size = size.max(usize::from(field.offset) + usize::from(field.width));
            if field.number == 0 {
                continue;
            }
            let same = |known: &&Field| (known.number, known.width) == (field.number, field.width);
            match from.iter().filter(of).find(same) {
                Some(known) => {
                    moves.push((known.offset.into(), field.offset.into(), field.width.into()));
                }
                None => missing.push(field.number),
            }
        }
        Self { moves, size, missing }
    }

    /// Whether the result lacks this field.
    pub fn lacks(&self, number: u16) -> bool {
        self.missing.contains(&number)
    }

    /// The bytes in the other layout, with zero for what is missing; `None` where they are fewer than described.
    pub fn apply(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut result = vec![0; self.size];
        for (from, to, width) in &self.moves {
            result.get_mut(*to..to + width)?.copy_from_slice(bytes.get(*from..from + width)?);
        }
        Some(result)
    }
}

/// Connections of another layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connections {
    key: Conversion,
    value: Conversion,
}

impl Connections {
    const TABLE: u8 = 1;
    const LIFETIME: u16 = 4;
    /// What a connection cannot be without: when it was seen last, its endpoint, port, state and direction.
    const REQUIRED: [u16; 5] = [2, 11, 14, 15, 16];

    /// How to read those of layout `from`. `None` where it lacks what a connection cannot be without.
    pub fn new(from: &[Field]) -> Option<Self> {
        let to: Vec<Field> = current().collect();
        let key = Conversion::new(from, &to, Self::TABLE, KEY);
        let value = Conversion::new(from, &to, Self::TABLE, VALUE);
        let complete = key.missing.is_empty() && !Self::REQUIRED.iter().any(|number| value.lacks(*number));
        complete.then_some(Self { key, value })
    }

    /// One of them.
    pub fn read(&self, key: &[u8], value: &[u8]) -> Option<(CtKey, CtEntry)> {
        let key = CtKey::read_from_bytes(&self.key.apply(key)?).ok()?;
        let mut entry = CtEntry::read_from_bytes(&self.value.apply(value)?).ok()?;
        if self.value.lacks(Self::LIFETIME) {
            let state = super::CtState::from_number(entry.state);
            entry.lifetime_ns = super::Config::default().timeouts.of(key.protocol, state);
        }
        Some((key, entry))
    }
}
