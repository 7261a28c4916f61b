//! What the programs leave to user space: forgetting connections that fell silent, reporting drops that were summed up.

use strait_packet::abi::ct_flags;

use crate::{
    Datapath,
    event::Event,
    kernel::{Kernel, MapError},
    table::{Conntrack, DropsSeen},
};

/// The monotonic clock, nanoseconds: the programs' clock.
pub fn monotonic_ns() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    // Never fails for this clock; zero would merely let nothing expire.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
    })
}

impl<K: Kernel> Datapath<K> {
    /// Removes connections that were silent for their lifetime at `now_ns` ([`monotonic_ns`]), and reports those whose end nobody
    /// reported. Passes through the whole table.
    pub fn conntrack_gc(&mut self, now_ns: u64) -> Result<Vec<Event>, MapError> {
        let mut missing = std::mem::take(&mut self.crowd);
        let (mut there, mut expired) = (0, Vec::new());
        self.kernel.each::<Conntrack>(&mut |key, entry| {
            missing.remove(&key);
            there += 1;
            if entry.expired(now_ns) {
                expired.push(key);
            }
        })?;
        self.forgotten += missing.len() as u64;
        let mut closed = Vec::new();
        for key in expired {
            // It may have come to life since it was listed.
            let Some(entry) = self.kernel.get::<Conntrack>(&key)?.filter(|entry| entry.expired(now_ns)) else {
                continue;
            };
            there -= 1;
            if self.kernel.delete::<Conntrack>(&key)? && entry.flags & ct_flags::CLOSE_REPORTED == 0 {
                closed.push(Event::timed_out(&key, &entry, now_ns));
            }
        }
        // A table that is far from full evicts nobody.
        if there >= self.kernel.capacity::<Conntrack>() as usize / 4 * 3 {
            let crowd = &mut self.crowd;
            self.kernel.each::<Conntrack>(&mut |key, _| {
                crowd.insert(key);
            })?;
        }
        Ok(closed)
    }

    /// Connections that had to make room for others before their time, since this datapath was opened. Without those that came and
    /// went between two collections.
    pub const fn connections_forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Reports drops that were counted since their last event, once that is older than the report interval, and forgets them.
    /// A drop counted between reading and forgetting is in the metrics only.
    pub fn drop_gc(&mut self, now_ns: u64) -> Result<Vec<Event>, MapError> {
        let interval = self.config().drop_interval_ns;
        let mut drops = Vec::new();
        for (key, seen) in self.kernel.entries::<DropsSeen>()? {
            if now_ns.saturating_sub(seen.last_event_ns) <= interval || !self.kernel.delete::<DropsSeen>(&key)? {
                continue;
            }
            if seen.packets > 0 {
                drops.extend(Event::summed_up(&key, &seen, now_ns));
            }
        }
        Ok(drops)
    }
}
