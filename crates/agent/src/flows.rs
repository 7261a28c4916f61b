//! What the kernel reported, as flow records for whoever asks.
//!
//! ```text
//! take ─→ reports ──(somebody asks, or names are about to change)──→ Decorator ─→ Ring ─→ followers
//! ```
//!
//! Most reports are of connections that come and go, and nobody reads most of them: they are kept as they came, and a record is made
//! only of those that are still held when one is asked for. What they mean is what it was when they came: whoever changes what
//! they are named after has them [written up](Flows::write_up) first.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use jiff::Timestamp;
use strait_datapath::{Event, monotonic_ns};
use strait_flow::Ring;
use strait_model::PodKey;

use crate::{
    decorate::{Clock, Decorator},
    view::View,
};

/// The newest flows of a node.
pub(crate) struct Flows {
    /// Those that have a record.
    ring: Ring,
    /// Newer ones, with the time of day: no more than the ring would hold.
    reports: VecDeque<(Timestamp, Event)>,
    /// How many reports had to make room since the last record.
    passed: u64,
    decorator: Decorator,
}

impl Flows {
    pub(crate) fn new(node: Arc<str>) -> Self {
        Self { ring: Ring::default(), reports: VecDeque::new(), passed: 0, decorator: Decorator::new(node) }
    }

    /// Keeps what was reported just now.
    pub(crate) fn take(&mut self, events: &[Event]) {
        let clock = Clock::new(Timestamp::now(), monotonic_ns());
        for event in events {
            if self.reports.len() == self.ring.capacity() {
                self.reports.pop_front();
                self.passed += 1;
            }
            self.reports.push_back((clock.time(event.time_ns), event.clone()));
        }
    }

    /// Makes records of what was kept, in the words of `view`. `pods` are those that endpoint ids stand for.
    pub(crate) fn write_up(&mut self, pods: impl FnOnce() -> BTreeMap<u32, PodKey>, view: &View) {
        if self.reports.is_empty() {
            return;
        }
        let pods = pods();
        self.ring.pass(std::mem::take(&mut self.passed));
        for (time, event) in std::mem::take(&mut self.reports) {
            self.ring.push(self.decorator.flow(&event, time, pods.get(&event.endpoint), view));
        }
    }

    /// The records. Reports that are not written up are not among them.
    pub(crate) const fn ring(&self) -> &Ring {
        &self.ring
    }

    /// How many flows there ever were.
    pub(crate) fn seen(&self) -> u64 {
        self.ring.seen() + self.passed + self.reports.len() as u64
    }

    /// How many flows are held, and how many may be.
    pub(crate) fn held(&self) -> (usize, usize) {
        let capacity = self.ring.capacity();
        ((self.ring.len() + self.reports.len()).min(capacity), capacity)
    }

    /// How many reports wait to be written up.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.reports.len()
    }

    /// Objects changed: what was nearest to allowing something may no longer be.
    pub(crate) fn forget_misses(&mut self) {
        self.decorator.forget_misses();
    }
}
