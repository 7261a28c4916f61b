//! A bounded ring of records that any number of readers follow without holding it up.

use std::{collections::VecDeque, sync::Arc};

use crate::record::Flow;

/// The newest flows. A full ring forgets its oldest; a reader that was slower learns how many it missed.
#[derive(Debug)]
pub struct Ring {
    flows: VecDeque<Arc<Flow>>,
    capacity: usize,
    /// Number of the oldest flow held; numbers go up by one a flow.
    first: u64,
}

/// A reader's place in a [`Ring`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor(u64);

impl Default for Ring {
    fn default() -> Self {
        Self::new(Self::DEFAULT_CAPACITY)
    }
}

impl Ring {
    /// Hubble's default.
    pub const DEFAULT_CAPACITY: usize = 4095;

    /// A ring that holds up to `capacity` flows (at least one).
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self { flows: VecDeque::with_capacity(capacity), capacity, first: 0 }
    }

    /// Adds the newest flow.
    pub fn push(&mut self, flow: Flow) {
        if self.flows.len() == self.capacity {
            self.flows.pop_front();
            self.first += 1;
        }
        self.flows.push_back(Arc::new(flow));
    }

    /// As if `count` flows had come and gone again, and with them all that is held: readers learn what they missed. If none did,
    /// nothing changes.
    pub fn pass(&mut self, count: u64) {
        if count > 0 {
            self.first = self.end() + count;
            self.flows.clear();
        }
    }

    /// A reader of everything that is held.
    pub fn oldest(&self) -> Cursor {
        Cursor(self.first)
    }

    /// A reader of what is yet to come.
    pub fn newest(&self) -> Cursor {
        Cursor(self.end())
    }

    /// The next flow for the reader, after how many it missed since its last read.
    pub fn next(&self, cursor: &mut Cursor) -> (u64, Option<&Arc<Flow>>) {
        let lost = self.first.saturating_sub(cursor.0);
        cursor.0 = cursor.0.max(self.first);
        let flow = usize::try_from(cursor.0 - self.first).ok().and_then(|index| self.flows.get(index));
        if flow.is_some() {
            cursor.0 += 1;
        }
        (lost, flow)
    }

    /// What is held, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Flow>> {
        self.flows.iter()
    }

    /// How many flows are held.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// How many may be held.
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many were ever added.
    pub fn seen(&self) -> u64 {
        self.end()
    }

    fn end(&self) -> u64 {
        self.first + self.flows.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::tests::flow;

    #[test]
    fn slow_readers_learn_what_they_missed() {
        let mut ring = Ring::new(3);
        let mut cursor = ring.newest();
        assert_eq!(ring.next(&mut cursor), (0, None));
        for port in 1..=5 {
            ring.push(flow(|f| f.drop_reason = port));
        }
        let mut read = || {
            let (lost, flow) = ring.next(&mut cursor);
            (lost, flow.map(|flow| flow.drop_reason))
        };
        assert_eq!(read(), (2, Some(3)));
        assert_eq!(read(), (0, Some(4)));
        assert_eq!(read(), (0, Some(5)));
        assert_eq!(read(), (0, None));
        assert_eq!((ring.len(), ring.seen()), (3, 5));
        ring.pass(0);
        assert_eq!((ring.len(), ring.seen()), (3, 5));
        ring.pass(4);
        assert_eq!((ring.len(), ring.seen()), (0, 9));
        assert_eq!(ring.next(&mut cursor), (4, None));
    }
}
