//! What the gate counts of itself, by worker and by listener.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use super::cells::Cell;

/// Numbers of one worker.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// The number of the plan that the worker serves.
    pub(crate) plan: Cell,
    /// Requests that are being served.
    pub(crate) requests_active: Cell,
    /// Connections to back ends that were opened, and attempts that failed.
    pub(crate) upstream_opened: Cell,
    pub(crate) upstream_failed: Cell,
    /// Connections to back ends that are kept for the next request.
    pub(crate) upstream_idle: Cell,
    /// Lines of the access log that found no room.
    pub(crate) lines_dropped: Cell,
}

/// Numbers of one listener in one worker.
#[derive(Debug, Default)]
pub(crate) struct Accepts {
    pub(crate) accepted: Cell,
    pub(crate) active: Cell,
    /// Connections that a limit closed at once.
    pub(crate) limited: Cell,
    /// Connections with TLS whose name nobody takes, and whose handshake failed.
    pub(crate) unmatched: Cell,
    pub(crate) unshaken: Cell,
    /// Datagrams of clients that could not be remembered, or that there is no back end for.
    pub(crate) dropped: Cell,
}

/// A socket that is listened on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    /// As `namespace/name`.
    pub(crate) gateway: Arc<str>,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) is_udp: bool,
}

/// A listener's numbers.
#[derive(Debug)]
pub(crate) struct Listener {
    place: Place,
    workers: Box<[Accepts]>,
}

impl Listener {
    /// Counts a connection that was taken, as open for as long as the value lives.
    pub(crate) fn accepted(self: &Arc<Self>, worker: usize) -> Accepted {
        if let Some(counts) = self.workers.get(worker) {
            counts.accepted.increment();
            counts.active.increment();
        }
        Accepted { listener: Arc::clone(self), worker }
    }

    /// Counts a connection that a limit closed.
    pub(crate) fn limited(&self, worker: usize) {
        self.count(worker, |counts| &counts.limited);
    }

    /// Counts one that was not served, or a datagram that was dropped.
    pub(crate) fn count(&self, worker: usize, of: impl FnOnce(&Accepts) -> &Cell) {
        if let Some(counts) = self.workers.get(worker) {
            of(counts).increment();
        }
    }
}

/// A connection that is open.
pub(crate) struct Accepted {
    listener: Arc<Listener>,
    worker: usize,
}

impl Drop for Accepted {
    fn drop(&mut self) {
        if let Some(counts) = self.listener.workers.get(self.worker) {
            counts.active.decrement();
        }
    }
}

/// All listeners.
#[derive(Debug, Default)]
pub(crate) struct Listeners(Mutex<BTreeMap<Place, Arc<Listener>>>);

/// A listener's numbers, of all workers.
pub(crate) struct ListenerSum {
    pub(crate) place: Place,
    pub(crate) accepted: u64,
    pub(crate) active: u64,
    pub(crate) limited: u64,
    pub(crate) unmatched: u64,
    pub(crate) unshaken: u64,
    pub(crate) dropped: u64,
}

impl Listeners {
    /// The listeners of a plan, in its order. Those that nobody has any more are forgotten.
    pub(crate) fn listeners(&self, places: impl Iterator<Item = Place>, workers: usize) -> Vec<Arc<Listener>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = places.map(|place| {
            let made = || {
                let mut counts = Vec::new();
                counts.resize_with(workers, Accepts::default);
                Arc::new(Listener { place: place.clone(), workers: counts.into() })
            };
            Arc::clone(known.entry(place.clone()).or_insert_with(made))
        });
        let found = found.collect();
        known.retain(|_, listener| Arc::strong_count(listener) > 1);
        found
    }

    /// All of them.
    pub(crate) fn sums(&self) -> Vec<ListenerSum> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |listener: &Arc<Listener>| {
            let all = |of: fn(&Accepts) -> &Cell| {
                listener.workers.iter().map(|counts| of(counts).get()).fold(0, u64::wrapping_add)
            };
            ListenerSum {
                place: listener.place.clone(),
                accepted: all(|counts| &counts.accepted),
                active: all(|counts| &counts.active),
                limited: all(|counts| &counts.limited),
                unmatched: all(|counts| &counts.unmatched),
                unshaken: all(|counts| &counts.unshaken),
                dropped: all(|counts| &counts.dropped),
            }
        };
        known.values().map(sum).collect()
    }
}
