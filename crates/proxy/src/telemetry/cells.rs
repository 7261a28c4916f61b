//! Numbers that one worker writes and anybody reads.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// A number with one writer, which needs no locked instruction to change it.
#[derive(Debug, Default)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn decrement(&self) {
        self.add(u64::MAX);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Envoy's default buckets, which Istio uses for durations and for sizes alike: upper bounds in thousandths.
pub(crate) const BOUNDS: [u64; 19] = [
    500,
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
];

/// How often values fell into each bucket; the last one is for what is above all bounds.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [Cell; BOUNDS.len() + 1],
    sum: Cell,
}

impl Histogram {
    /// Counts a value, in thousandths.
    pub(crate) fn record(&self, thousandths: u64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < thousandths);
        self.buckets[bucket].increment();
        self.sum.add(thousandths);
    }
}

/// What a histogram held when it was read, or what several did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) buckets: [u64; BOUNDS.len() + 1],
    /// In thousandths.
    pub(crate) sum: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, histogram: &Histogram) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *sum += bucket.get();
        }
        self.sum = self.sum.wrapping_add(histogram.sum.get());
    }

    pub(crate) fn total(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// Values by key that are added and never taken out: one writer, any number of readers, no lock.
#[derive(Debug)]
pub(crate) struct List<T> {
    first: Link<T>,
}

type Link<T> = OnceLock<Box<Node<T>>>;

#[derive(Debug)]
struct Node<T> {
    key: u32,
    value: T,
    next: Link<T>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { first: OnceLock::new() }
    }
}

impl<T: Default> List<T> {
    /// The value of a key. Where it has none, `room` is asked whether one may be made.
    pub(crate) fn entry(&self, key: u32, room: impl FnOnce(usize) -> bool) -> Option<&T> {
        let mut link = &self.first;
        let mut length = 0;
        while let Some(node) = link.get() {
            if node.key == key {
                return Some(&node.value);
            }
            link = &node.next;
            length += 1;
        }
        if !room(length) {
            return None;
        }
        Some(&link.get_or_init(|| Box::new(Node { key, value: T::default(), next: OnceLock::new() })).value)
    }
}

impl<T> List<T> {
    /// All values with their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let mut link = &self.first;
        std::iter::from_fn(move || {
            let node = link.get()?;
            link = &node.next;
            Some((node.key, &node.value))
        })
    }
}

impl<T> Drop for List<T> {
    fn drop(&mut self) {
        // One after the other: a long list must not become a deep recursion.
        let mut next = self.first.take();
        while let Some(mut node) = next {
            next = node.next.take();
        }
    }
}
