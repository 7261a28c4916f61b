//! Numbers for identities, port sets and origin sets: the same content keeps its number.
//!
//! Content that is no longer used keeps its number for a while: whatever still carries it (a connection, an event on its way) must
//! not be read as something else, and content that comes back gets it again. Only when much more is remembered than used is the
//! longest unused forgotten, and numbers of a sequence come round only after all others.

use std::collections::{BTreeMap, BTreeSet};

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
    slots: BTreeMap<String, Slot>,
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
    state: PoolState,
    taken: BTreeSet<u32>,
}

impl Pool {
    /// Goes on from `state`, without what cannot be: numbers out of range or given twice.
    fn new(first: u32, last: u32, numbering: Numbering, mut state: PoolState) -> Self {
        let mut taken = BTreeSet::new();
        state.slots.retain(|_, slot| (first..=last).contains(&slot.number) && taken.insert(slot.number));
        Self { first, last, numbering, state, taken }
    }

    /// The number of `content`; `None` where all are in use.
    fn number(&mut self, content: String, generation: u64) -> Option<u32> {
        if let Some(slot) = self.state.slots.get_mut(&content) {
            slot.used = generation;
            return Some(slot.number);
        }
        let span = self.last - self.first + 1;
        if self.taken.len() >= span as usize {
            self.forget_oldest(generation)?;
        }
        let start = match self.numbering {
            Numbering::Hashed => u32::try_from(fnv1a(content.as_bytes()) % u64::from(span)).unwrap_or_default(),
            Numbering::Sequence => self.state.next % span,
        };
        let (up, down) = (self.first + start..=self.last, self.first..self.first + start);
        let number = up.chain(down).find(|number| !self.taken.contains(number))?;
        self.state.next = number - self.first + 1;
        self.taken.insert(number);
        self.state.slots.insert(content, Slot { number, used: generation });
        Some(number)
    }

    fn forget_oldest(&mut self, generation: u64) -> Option<()> {
        let unused = self.state.slots.iter().filter(|(_, slot)| slot.used < generation);
        let oldest = unused.min_by_key(|(_, slot)| (slot.used, slot.number)).map(|(content, _)| content.clone())?;
        let slot = self.state.slots.remove(&oldest)?;
        self.taken.remove(&slot.number);
        Some(())
    }

    /// Forgets the longest unused contents, down to as many as are in use or [`REMEMBERED`], and to [`REMEMBERED_BYTES`].
    fn retire(&mut self, generation: u64) {
        let unused = self.state.slots.iter().filter(|(_, slot)| slot.used < generation);
        let mut unused: Vec<_> = unused.map(|(content, slot)| (slot.used, slot.number, content.len())).collect();
        let live = self.state.slots.len() - unused.len();
        // The latest first.
        unused.sort_unstable_by(|a, b| b.cmp(a));
        let mut bytes = 0;
        let beyond = unused.into_iter().enumerate().filter_map(|(at, (_, number, len))| {
            bytes += len;
            (at >= live.max(REMEMBERED) || bytes > REMEMBERED_BYTES).then_some(number)
        });
        let forgotten: BTreeSet<_> = beyond.collect();
        if forgotten.is_empty() {
            return;
        }
        self.state.slots.retain(|_, slot| !forgotten.contains(&slot.number));
        self.taken.retain(|number| !forgotten.contains(number));
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
        AllocatorState {
            generation: self.generation,
            workloads: self.workloads.state.clone(),
            cidrs: self.cidrs.state.clone(),
            nodes: self.nodes.state.clone(),
            refined_workloads: self.refined_workloads.state.clone(),
            port_sets: self.port_sets.state.clone(),
            origins: self.origins.state.clone(),
        }
    }

    /// Begins a compilation: what it does not ask for is unused afterwards.
    pub(crate) fn begin(&mut self) {
        self.generation += 1;
    }

    /// Ends it.
    pub(crate) fn finish(&mut self) {
        let generation = self.generation;
        for pool in [
            &mut self.workloads,
            &mut self.cidrs,
            &mut self.nodes,
            &mut self.refined_workloads,
            &mut self.port_sets,
            &mut self.origins,
        ] {
            pool.retire(generation);
        }
    }

    /// The cluster-wide number of a base identity. With more than 65,280 of them the rest get node-local numbers.
    pub(crate) fn workload(&mut self, base: &BaseIdentity) -> IdentityId {
        match self.workloads.number(base.to_string(), self.generation) {
            Some(number) => IdentityId(number),
            None => self.refined_workload(base.to_string()),
        }
    }

    pub(crate) fn refined_workload(&mut self, content: String) -> IdentityId {
        identity(self.refined_workloads.number(content, self.generation))
    }

    pub(crate) fn cidr(&mut self, content: String) -> IdentityId {
        identity(self.cidrs.number(content, self.generation))
    }

    pub(crate) fn node(&mut self, content: String) -> IdentityId {
        identity(self.nodes.number(content, self.generation))
    }

    pub(crate) fn port_set(&mut self, content: String) -> PortSetId {
        self.port_sets.number(content, self.generation).map_or(PortSetId::EMPTY, PortSetId)
    }

    pub(crate) fn origins(&mut self, content: String) -> OriginId {
        self.origins.number(content, self.generation).map_or(OriginId::NONE, OriginId)
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
            let a = pool.number("a".into(), 1);
            pool.retire(1);
            let b = pool.number("b".into(), 2);
            pool.retire(2);
            assert_ne!(a, b, "{numbering:?}: what was freed is not given away at once");
            assert_eq!(pool.number("a".into(), 3), a, "{numbering:?}: what comes back is known");
        }
    }

    #[test]
    fn a_full_pool_gives_the_oldest_unused_number_away_and_never_a_used_one() {
        let mut pool = pool(11, Numbering::Sequence);
        let a = pool.number("a".into(), 1);
        let b = pool.number("b".into(), 2);
        assert_eq!(pool.number("c".into(), 2), a);
        assert_eq!(pool.number("d".into(), 2), None);
        assert_eq!(pool.number("d".into(), 3), a, "c and b are equally old; the lower number goes first");
        assert_ne!(a, b);
    }

    #[test]
    fn forgets_only_beyond_what_it_should_remember() {
        let mut pool = pool(100_000, Numbering::Sequence);
        for generation in 0..5_000 {
            pool.number(format!("{generation}"), generation);
        }
        pool.retire(4_999);
        assert_eq!(pool.state.slots.len(), REMEMBERED + 1);
        assert_eq!(pool.taken.len(), REMEMBERED + 1);
        assert!(!pool.state.slots.contains_key("0"));

        let long = |number: u64| format!("{number}{}", "x".repeat(REMEMBERED_BYTES / 4));
        for generation in 5_000..5_010 {
            pool.number(long(generation), generation);
        }
        pool.retire(5_009);
        assert!(pool.state.slots.contains_key(&long(5_006)));
        assert!(!pool.state.slots.contains_key(&long(5_004)), "older ones are beyond the bytes");
    }

    #[test]
    fn a_broken_state_is_cleaned() {
        let slot = |number| Slot { number, used: 1 };
        let slots = [("a", slot(5)), ("b", slot(12)), ("c", slot(12))];
        let state = PoolState { next: u32::MAX, slots: slots.map(|(key, slot)| (key.to_owned(), slot)).into() };
        let mut pool = Pool::new(10, 20, Numbering::Sequence, state);
        assert_eq!(pool.state.slots.keys().collect::<Vec<_>>(), ["b"]);
        assert!(pool.number("a".into(), 2).is_some_and(|number| (10..=20).contains(&number) && number != 12));
    }

    #[test]
    fn state_survives_a_restart() {
        let mut allocator = Allocator::default();
        allocator.begin();
        let id = allocator.cidr("10.0.0.0/8".into());
        let text = serde_json::to_string(&allocator.state()).unwrap();
        let mut again = Allocator::new(serde_json::from_str(&text).unwrap());
        again.begin();
        assert_ne!(again.cidr("192.168.0.0/16".into()), id);
        assert_eq!(again.cidr("10.0.0.0/8".into()), id);
    }
}
