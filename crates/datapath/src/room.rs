//! How many entries tables hold, and how that grows.
//!
//! ```text
//!  needed > capacity ─→ Kernel::grow ─┬─ a larger table with the same entries, programs switched to it ─→ write the new entries
//!                                     └─ at its limit, or refused ─→ what does not fit closes who depends on it
//! ```

use std::collections::BTreeMap;

use strait_packet::abi::{capacity, map};

use crate::kernel::AttachError;

/// The tables that can be made larger, as operators write their names.
pub const GROWING: [(&str, &str); 5] = [
    ("endpoints", map::ENDPOINTS),
    ("ipcache", map::IPCACHE),
    ("policy", map::POLICY),
    ("port-sets", map::PORT_SETS),
    ("conntrack", map::CONNTRACK),
];

/// The room in one table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Room {
    /// Entries that fit.
    pub capacity: u32,
    /// Entries that will ever fit.
    pub limit: u32,
    /// How often it was made larger since this datapath was opened.
    pub growths: u64,
}

/// A table could not be made larger.
#[derive(Debug, thiserror::Error)]
pub enum GrowError {
    /// Everything is as it was.
    #[error("cannot make {} larger: {text}", .maps.join(", "))]
    Refused {
        /// Which.
        maps: Vec<&'static str>,
        /// Why, and what to do.
        text: String,
    },
    /// Some programs run on the larger tables and some on those before. Both hold the same, and must not be written to until
    /// [`Kernel::grow`](crate::Kernel::grow) succeeds.
    #[error(transparent)]
    Unfinished(#[from] AttachError),
}

/// What the tables that grow with a plan may grow to, by name. Policies take about 90 MB then; tries (`IPCACHE`, `PORT_SETS`) take only
/// what their entries need.
pub fn default_limits() -> BTreeMap<&'static str, u32> {
    BTreeMap::from([
        (map::ENDPOINTS, 16 * capacity::ENDPOINTS),
        (map::IPCACHE, 1 << 21),
        (map::POLICY, 1 << 20),
        (map::PORT_SETS, 1 << 20),
    ])
}

/// The capacity that holds `needed` entries: powers of two, so that growing is rare. `None` where it is large enough or at its
/// limit.
pub(crate) fn grown(room: Room, needed: usize) -> Option<u32> {
    let needed = u32::try_from(needed).unwrap_or(u32::MAX);
    if needed <= room.capacity || room.capacity >= room.limit {
        return None;
    }
    Some(needed.checked_next_power_of_two().unwrap_or(u32::MAX).min(room.limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities_double_up_to_the_limit() {
        for (capacity, limit, needed, expected) in [
            (4, 64, 4, None),
            (4, 64, 5, Some(8)),
            (4, 64, 33, Some(64)),
            (4, 50, 33, Some(50)),
            (4, 50, 1_000, Some(50)),
            (50, 50, 1_000, None),
            (64, 50, 65, None),
            (4, u32::MAX, usize::MAX, Some(u32::MAX)),
        ] {
            let room = Room { capacity, limit, ..Room::default() };
            assert_eq!(grown(room, needed), expected, "{capacity} {limit} {needed}");
        }
    }
}
