//! Numbers for identities, port sets and origin sets: the same content keeps its number.
//!
//! Content that is no longer used keeps its number for a while: whatever still carries it (a connection, an event on its way) must
//! not be read as something else, and content that comes back gets it again. Only when much more is remembered than used is the
//! longest unused forgotten, and numbers of a sequence come round only after all others.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use strait_base::IdentityId;

use crate::{
    identity::BaseIdentity,
    plan::{OriginId, PortSetId},
};

/// Unused contents a pool remembers at least, before it forgets the oldest.
const REMEMBERED: usize = 4_096;

/// Bytes of unused contents a pool remembers at most; a content may name a thousand blocks.
const REMEMBERED_BYTES: usize = 1 << 20;

/// All numbers in use or remembered, to be kept across restarts.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AllocatorState {
    generation: u64,
    workloads: PoolState,
    cidrs: PoolState,
    nodes: PoolState,
    refined_workloads: PoolState,
    port_sets: PoolState,
    origins: PoolState,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct PoolState {
    /// Where a sequence goes on.
    next: u32,
    slots: BTreeMap<Arc<str>, Slot>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Slot {
    number: u32,
    /// Generation that used it last.
    used: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Numbering {
    /// By a hash of the content: agents that never spoke to each other mostly agree.
    Hashed,
    /// The next free one.
    Sequence,
}

/// Numbers `first..=last` for contents.
#[derive(Debug)]
struct Pool {
    first: u32,
    last: u32,
    numbering: Numbering,
    /// Where a sequence goes on.
    next: u32,
    numbers: BTreeMap<Arc<str>, u32>,
    taken: BTreeMap<u32, Taken>,
    /// What is not in use, the longest unused first.
    unused: BTreeSet<(u64, u32)>,
    unused_bytes: usize,
    /// Counts up with every number that is given or forgotten.
    edits: u64,
}

/// What a number stands for.
#[derive(Debug)]
struct Taken {
    content: Arc<str>,
    /// Generation that used it last; `None` while it is in use.
    used: Option<u64>,
}

impl Pool {
    /// Goes on from `state`, without what cannot be: numbers out of range or given twice. Nothing is in use.
    fn new(first: u32, last: u32, numbering: Numbering, state: PoolState) -> Self {
        let (numbers, taken, unused) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let mut pool =
            Self { first, last, numbering, next: state.next, numbers, taken, unused, unused_bytes: 0, edits: 0 };
        for (content, Slot { number, used }) in state.slots {
            if (first..=last).contains(&number) && !pool.taken.contains_key(&number) {
                pool.unused.insert((used, number));
                pool.unused_bytes += content.len();
                pool.numbers.insert(Arc::clone(&content), number);
                pool.taken.insert(number, Taken { content, used: Some(used) });
            }
        }
        pool
    }

    fn state(&self, generation: u64) -> PoolState {
        let slot = |(number, taken): (&u32, &Taken)| {
            (Arc::clone(&taken.content), Slot { number: *number, used: taken.used.unwrap_or(generation) })
        };
        PoolState { next: self.next, slots: self.taken.iter().map(slot).collect() }
    }

    /// The number of `content`, which is in use from now on; `None` where all are.
    fn number(&mut self, content: &str) -> Option<u32> {
        if let Some(number) = self.numbers.get(content).copied() {
            if let Some(taken) = self.taken.get_mut(&number)
                && let Some(used) = taken.used.take()
            {
                self.unused.remove(&(used, number));
                self.unused_bytes -= content.len();
            }
            return Some(number);
        }
        let span = self.last - self.first + 1;
        if self.taken.len() >= span as usize {
            self.forget_oldest()?;
        }
        let start = match self.numbering {
            Numbering::Hashed => u32::try_from(fnv1a(content.as_bytes()) % u64::from(span)).unwrap_or_default(),
            Numbering::Sequence => self.next % span,
        };
        let (up, down) = (self.first + start..=self.last, self.first..self.first + start);
        let number = up.chain(down).find(|number| !self.taken.contains_key(number))?;
        self.next = number - self.first + 1;
        self.edits += 1;
        let content: Arc<str> = content.into();
        self.numbers.insert(Arc::clone(&content), number);
        self.taken.insert(number, Taken { content, used: None });
        Some(number)
    }

    /// `number` is not in use any more.
    fn release(&mut self, number: u32, generation: u64) {
        if let Some(taken) = self.taken.get_mut(&number)
            && taken.used.is_none()
        {
            taken.used = Some(generation);
            self.unused_bytes += taken.content.len();
            self.unused.insert((generation, number));
        }
    }

    fn release_all(&mut self, generation: u64) {
        let live = self.taken.iter().filter(|(_, taken)| taken.used.is_none()).map(|(number, _)| *number);
        for number in live.collect::<Vec<_>>() {
            self.release(number, generation);
        }
    }

    fn forget_oldest(&mut self) -> Option<()> {
        let (_, number) = self.unused.pop_first()?;
        let taken = self.taken.remove(&number)?;
        self.numbers.remove(&taken.content);
        self.unused_bytes -= taken.content.len();
        self.edits += 1;
        Some(())
    }

    /// Forgets the longest unused contents, down to as many as are in use or [`REMEMBERED`], and to [`REMEMBERED_BYTES`].
    fn retire(&mut self) {
        let live = self.taken.len() - self.unused.len();
        while self.unused.len() > live.max(REMEMBERED) || self.unused_bytes > REMEMBERED_BYTES {
            if self.forget_oldest().is_none() {
                break;
            }
        }
    }
}

/// The pools, and which generation (compilation) is asking.
#[derive(Debug)]
pub(crate) struct Allocator {
    generation: u64,
    workloads: Pool,
    cidrs: Pool,
    nodes: Pool,
    refined_workloads: Pool,
    port_sets: Pool,
    origins: Pool,
}

impl Default for Allocator {
    fn default() -> Self {
        Self::new(AllocatorState::default())
    }
}

impl Allocator {
    pub(crate) fn new(state: AllocatorState) -> Self {
        let local = |first: u32, state| Pool::new(first, first + (1 << 24) - 1, Numbering::Sequence, state);
        let (first, last) = IdentityId::CLUSTER;
        Self {
            generation: state.generation,
            workloads: Pool::new(first, last, Numbering::Hashed, state.workloads),
            cidrs: local(IdentityId::LOCAL_CIDR, state.cidrs),
            nodes: local(IdentityId::LOCAL_NODE, state.nodes),
            refined_workloads: local(IdentityId::LOCAL_WORKLOAD, state.refined_workloads),
            port_sets: Pool::new(1, u32::MAX - 1, Numbering::Sequence, state.port_sets),
            origins: Pool::new(1, u32::MAX - 1, Numbering::Sequence, state.origins),
        }
    }

    pub(crate) fn state(&self) -> AllocatorState {
        let state = |pool: &Pool| pool.state(self.generation);
        AllocatorState {
            generation: self.generation,
            workloads: state(&self.workloads),
            cidrs: state(&self.cidrs),
            nodes: state(&self.nodes),
            refined_workloads: state(&self.refined_workloads),
            port_sets: state(&self.port_sets),
            origins: state(&self.origins),
        }
    }

    /// Counts up with every number that is given or forgotten.
    pub(crate) fn edits(&self) -> u64 {
        let pools =
            [&self.workloads, &self.cidrs, &self.nodes, &self.refined_workloads, &self.port_sets, &self.origins];
        pools.iter().map(|pool| pool.edits).sum()
    }

    fn pools(&mut self) -> [&mut Pool; 6] {
        [
            &mut self.workloads,
            &mut self.cidrs,
            &mut self.nodes,
            &mut self.refined_workloads,
            &mut self.port_sets,
            &mut self.origins,
        ]
    }

    /// Begins a compilation from nothing: what it does not ask for is unused afterwards.
    pub(crate) fn begin(&mut self) {
        let generation = self.generation;
        for pool in self.pools() {
            pool.release_all(generation);
        }
        self.generation += 1;
    }

    /// Begins a compilation that goes on from the last one: what that asked for stays in use until it is released.
    pub(crate) fn go_on(&mut self) {
        self.generation += 1;
    }

    /// Ends it.
    pub(crate) fn finish(&mut self) {
        for pool in self.pools() {
            pool.retire();
        }
    }

    /// The cluster-wide number of a base identity. With more than 65,280 of them the rest get node-local numbers.
    pub(crate) fn workload(&mut self, base: &BaseIdentity) -> IdentityId {
        let content = base.to_string();
        match self.workloads.number(&content) {
            Some(number) => IdentityId(number),
            None => self.refined_workload(&content),
        }
    }

    pub(crate) fn refined_workload(&mut self, content: &str) -> IdentityId {
        identity(self.refined_workloads.number(content))
    }

    pub(crate) fn cidr(&mut self, content: &str) -> IdentityId {
        identity(self.cidrs.number(content))
    }

    pub(crate) fn node(&mut self, content: &str) -> IdentityId {
        identity(self.nodes.number(content))
    }

    pub(crate) fn port_set(&mut self, content: &str) -> PortSetId {
        self.port_sets.number(content).map_or(PortSetId::EMPTY, PortSetId)
    }

    pub(crate) fn origins(&mut self, content: &str) -> OriginId {
        self.origins.number(content).map_or(OriginId::NONE, OriginId)
    }

    /// Nothing has this identity any more.
    pub(crate) fn release_identity(&mut self, IdentityId(number): IdentityId) {
        let generation = self.generation;
        let pool = match number {
            IdentityId::LOCAL_WORKLOAD.. => &mut self.refined_workloads,
            IdentityId::LOCAL_NODE.. => &mut self.nodes,
            IdentityId::LOCAL_CIDR.. => &mut self.cidrs,
            _ => &mut self.workloads,
        };
        pool.release(number, generation);
    }

    pub(crate) fn release_port_set(&mut self, PortSetId(number): PortSetId) {
        self.port_sets.release(number, self.generation);
    }

    pub(crate) fn release_origins(&mut self, OriginId(number): OriginId) {
        self.origins.release(number, self.generation);
    }
}

/// A pool of 16 million that is full of live contents has no better answer than "not known", which no rule allows by name.
fn identity(number: Option<u32>) -> IdentityId {
    number.map_or(IdentityId::UNKNOWN, IdentityId)
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(last: u32, numbering: Numbering) -> Pool {
        Pool::new(10, last, numbering, PoolState::default())
    }

    #[test]
    fn content_keeps_its_number_and_freed_numbers_rest() {
        for numbering in [Numbering::Hashed, Numbering::Sequence] {
            let mut pool = pool(1_000, numbering);
            let a = pool.number("a");
            pool.release_all(1);
            pool.retire();
            let b = pool.number("b");
            pool.release_all(2);
            pool.retire();
            assert_ne!(a, b, "{numbering:?}: what was freed is not given away at once");
            assert_eq!(pool.number("a"), a, "{numbering:?}: what comes back is known");
        }
    }

    #[test]
    fn a_full_pool_gives_the_oldest_unused_number_away_and_never_a_used_one() {
        let mut pool = pool(11, Numbering::Sequence);
        let a = pool.number("a").unwrap();
        let b = pool.number("b");
        pool.release(a, 1);
        assert_eq!(pool.number("c"), Some(a));
        assert_eq!(pool.number("d"), None);
        pool.release_all(2);
        assert_eq!(pool.number("d"), Some(a), "c and b are equally old; the lower number goes first");
        assert_ne!(Some(a), b);
    }

    #[test]
    fn forgets_only_beyond_what_it_should_remember() {
        let mut pool = pool(100_000, Numbering::Sequence);
        let mut generations = |contents: &mut dyn Iterator<Item = (u64, String)>| {
            for (generation, content) in contents {
                pool.release_all(generation - 1);
                pool.number(&content);
            }
            pool.retire();
            assert_eq!(pool.numbers.len(), pool.taken.len());
            let bytes = pool.taken.values().filter(|taken| taken.used.is_some()).map(|taken| taken.content.len());
            assert_eq!(pool.unused_bytes, bytes.sum::<usize>());
            pool.numbers.keys().cloned().collect::<BTreeSet<_>>()
        };
        let known = generations(&mut (1..5_001).map(|generation| (generation, generation.to_string())));
        assert_eq!(known.len(), REMEMBERED + 1);
        assert!(!known.contains("1"));

        let long = |number: u64| format!("{number}{}", "x".repeat(REMEMBERED_BYTES / 4));
        let known = generations(&mut (5_001..5_011).map(|generation| (generation, long(generation))));
        assert!(known.contains(&*long(5_007)));
        assert!(!known.contains(&*long(5_005)), "older ones are beyond the bytes");
    }

    #[test]
    fn a_broken_state_is_cleaned() {
        let slot = |number| Slot { number, used: 1 };
        let slots = [("a", slot(5)), ("b", slot(12)), ("c", slot(12))];
        let state = PoolState { next: u32::MAX, slots: slots.map(|(key, slot)| (key.into(), slot)).into() };
        let mut pool = Pool::new(10, 20, Numbering::Sequence, state);
        assert_eq!(pool.numbers.keys().map(|key| &**key).collect::<Vec<_>>(), ["b"]);
        assert!(pool.number("a").is_some_and(|number| (10..=20).contains(&number) && number != 12));
    }

    #[test]
    fn state_survives_a_restart() {
        let mut allocator = Allocator::default();
        allocator.begin();
        let id = allocator.cidr("10.0.0.0/8");
        let text = serde_json::to_string(&allocator.state()).unwrap();
        let mut again = Allocator::new(serde_json::from_str(&text).unwrap());
        again.begin();
        assert_ne!(again.cidr("192.168.0.0/16"), id);
        assert_eq!(again.cidr("10.0.0.0/8"), id);
    }
}
