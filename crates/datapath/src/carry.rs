//! Connections that move from one conntrack table to another while programs write to both.
//!
//! ```text
//!  before ── copy ──→ after        all links run on `before`
//!  before             after        links move over one by one: either table changes
//!  before ── copy ──→ after        all links run on `after`: only what happened in `before` since the first copy matters
//! ```

use strait_packet::abi::{CtEntry, CtState, ct_flags};

/// What shall be written to the new table for a connection that is `before` in the old one; `copied` is what the first copy
/// found there, `after` what the new table holds now.
///
/// A write may undo what a packet does at the same instant, so there is none for counters alone: a connection that spoke through
/// both tables lacks what it counted in the old one meanwhile.
pub(crate) fn carried(copied: Option<&CtEntry>, before: &CtEntry, after: Option<&CtEntry>) -> Option<CtEntry> {
    let Some(after) = after else { return Some(*before) };
    if copied == Some(before) {
        return None;
    }
    if copied == Some(after) {
        return Some(*before);
    }
    if after.flags & !before.flags & ct_flags::PICKED_UP != 0 && before.state != CtState::Denied as u8 {
        // Opened in the old table, and joined in the middle in the new one.
        return Some(CtEntry { last_seen_ns: after.last_seen_ns.max(before.last_seen_ns), ..*before });
    }
    let Some(copied) = copied.filter(|_| before.created_ns == after.created_ns) else {
        // One of them replaced the other, or an earlier switch ended in the middle: the later one is the connection.
        return (before.last_seen_ns > after.last_seen_ns).then_some(*before);
    };
    let state = CtState::from_number(after.state);
    let denied = state == CtState::Denied || CtState::from_number(before.state) == CtState::Denied;
    let ahead = !denied && before.state > after.state;
    let flags = after.flags | if denied { 0 } else { before.flags };
    if !ahead && flags == after.flags {
        return None;
    }
    let mut entry = CtEntry { flags, ..*after };
    if ahead {
        entry.state = before.state;
        entry.lifetime_ns = before.lifetime_ns;
    } else {
        // Whoever is further knows who finished last.
        entry.flags = flags & !ct_flags::FINISHED_LAST_TX | after.flags & ct_flags::FINISHED_LAST_TX;
    }
    entry.tx_packets += before.tx_packets.saturating_sub(copied.tx_packets);
    entry.tx_bytes += before.tx_bytes.saturating_sub(copied.tx_bytes);
    entry.rx_packets += before.rx_packets.saturating_sub(copied.rx_packets);
    entry.rx_bytes += before.rx_bytes.saturating_sub(copied.rx_bytes);
    entry.tx_tcp_flags |= before.tx_tcp_flags;
    entry.rx_tcp_flags |= before.rx_tcp_flags;
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(state: CtState, seen: u64, packets: u64) -> CtEntry {
        CtEntry {
            created_ns: 1,
            state: state as u8,
            last_seen_ns: seen,
            lifetime_ns: 10 * u64::from(state as u8),
            tx_packets: packets,
            ..CtEntry::default()
        }
    }

    #[test]
    fn what_happened_last_and_furthest_wins() {
        use CtState::{Closing, Denied, Established, New};
        let copied = entry(New, 5, 1);
        let other = CtEntry { created_ns: 6, ..entry(New, 8, 1) };
        let joined = CtEntry { created_ns: 9, flags: ct_flags::PICKED_UP, ..entry(Established, 9, 1) };
        let finished = CtEntry { flags: ct_flags::FINISHED_RX, ..entry(Closing, 7, 4) };
        let summed = CtEntry { flags: ct_flags::FINISHED_RX, ..entry(Closing, 9, 5) };
        for (what, copied, before, after, expected) in [
            ("first copy", None, copied, None, Some(copied)),
            ("made in the old table meanwhile", None, other, None, Some(other)),
            ("silent", Some(copied), copied, Some(copied), None),
            ("spoke through the new table only", Some(copied), copied, Some(entry(Established, 9, 2)), None),
            ("spoke through the old table only", Some(copied), finished, Some(copied), Some(finished)),
            ("spoke through both", Some(copied), entry(Established, 7, 4), Some(entry(Established, 9, 2)), None),
            (
                "finished in the old table",
                Some(copied),
                finished,
                Some(entry(Established, 9, 2)),
                Some(CtEntry { lifetime_ns: finished.lifetime_ns, ..summed }),
            ),
            ("opened anew in the old table", Some(copied), other, Some(entry(New, 7, 1)), Some(other)),
            ("opened anew in the new table", Some(copied), entry(New, 7, 1), Some(other), None),
            ("joined in the middle in the new table", None, entry(New, 6, 1), Some(joined), Some(entry(New, 9, 1))),
            ("denied in the new table", Some(copied), finished, Some(entry(Denied, 9, 2)), None),
            ("denied in the old table alone", Some(copied), entry(Denied, 9, 2), Some(entry(New, 8, 2)), None),
            ("left over from an earlier switch, older", None, copied, Some(entry(New, 7, 1)), None),
            ("left over from an earlier switch, newer", None, finished, Some(copied), Some(finished)),
        ] {
            assert_eq!(carried(copied.as_ref(), &before, after.as_ref()), expected, "{what}");
        }
    }
}
