//! Tables by text that requests are looked up in, and that one change copies little of.

use std::{fmt, hash::BuildHasher as _, sync::Arc};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// Up to so many entries are looked at one after the other.
const FEW: usize = 8;
/// So many entries a part has at most, on average.
const OF_PART: usize = 32;

/// Values by text. What is asked for comes from outside, what is in it does not: the seed of its hash need not be secret, and a fixed one
/// makes every run alike.
///
/// A clone shares its parts with what it was cloned from, and a change of one entry copies one part: the table of a plan is the table of
/// the plan before but for what changed.
#[derive(Clone)]
pub(crate) struct Table<T> {
    few: Vec<(Arc<str>, T)>,
    /// By hash; a power of two of them where there are more than a few entries.
    parts: Vec<Arc<Part<T>>>,
    len: usize,
}

type Part<T> = HashTable<(Arc<str>, T)>;

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { few: Vec::new(), parts: Vec::new(), len: 0 }
    }
}

fn hash(text: &str) -> u64 {
    FixedState::default().hash_one(text)
}

impl<T> Table<T> {
    /// The place of a hash's part: other bits than those that the part goes by.
    fn part(&self, hash: u64) -> usize {
        usize::try_from(hash >> 32).unwrap_or_default() & (self.parts.len() - 1)
    }

    pub(crate) fn get(&self, text: &str) -> Option<&T> {
        if self.parts.is_empty() {
            return self.few.iter().find(|(key, _)| **key == *text).map(|(_, value)| value);
        }
        let hash = hash(text);
        self.parts[self.part(hash)].find(hash, |(key, _)| **key == *text).map(|(_, value)| value)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of it, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &T)> {
        let parts = self.parts.iter().flat_map(|part| part.iter());
        self.few.iter().chain(parts).map(|(key, value)| (key, value))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.iter().map(|(_, value)| value)
    }
}

impl<T: Clone> Table<T> {
    pub(crate) fn get_mut(&mut self, text: &str) -> Option<&mut T> {
        if self.parts.is_empty() {
            return self.few.iter_mut().find(|(key, _)| **key == *text).map(|(_, value)| value);
        }
        let hash = hash(text);
        let part = self.part(hash);
        Arc::make_mut(&mut self.parts[part]).find_mut(hash, |(key, _)| **key == *text).map(|(_, value)| value)
    }

    /// The value of a text, made where there is none.
    pub(crate) fn or_insert_with(&mut self, text: &Arc<str>, make: impl FnOnce() -> T) -> &mut T {
        if self.parts.is_empty() {
            if let Some(at) = self.few.iter().position(|(key, _)| key == text) {
                return &mut self.few[at].1;
            }
            if self.len < FEW {
                self.few.reserve_exact(1);
                self.few.push((Arc::clone(text), make()));
                self.len += 1;
                return &mut self.few[self.len - 1].1;
            }
            self.spread(2);
        }
        let hash = hash(text);
        if self.len >= OF_PART * self.parts.len() && self.get(text).is_none() {
            self.spread(2 * self.parts.len());
        }
        let part = self.part(hash);
        let entry =
            Arc::make_mut(&mut self.parts[part]).entry(hash, |(key, _)| **key == **text, |(key, _)| self::hash(key));
        let len = &mut self.len;
        let make = || {
            *len += 1;
            (Arc::clone(text), make())
        };
        &mut entry.or_insert_with(make).into_mut().1
    }

    pub(crate) fn remove(&mut self, text: &str) {
        if self.parts.is_empty() {
            self.few.retain(|(key, _)| **key != *text);
            self.len = self.few.len();
            return;
        }
        let hash = hash(text);
        let part = self.part(hash);
        if let Ok(entry) = Arc::make_mut(&mut self.parts[part]).find_entry(hash, |(key, _)| **key == *text) {
            entry.remove();
            self.len -= 1;
        }
    }

    /// Puts all entries into so many parts.
    fn spread(&mut self, parts: usize) {
        let all: Vec<(Arc<str>, T)> = self.iter().map(|(key, value)| (Arc::clone(key), value.clone())).collect();
        let mut fresh: Vec<Part<T>> = Vec::new();
        fresh.resize_with(parts, HashTable::new);
        for (key, value) in all {
            let hash = hash(&key);
            let place = usize::try_from(hash >> 32).unwrap_or_default() & (parts - 1);
            fresh[place].insert_unique(hash, (key, value), |(key, _)| self::hash(key));
        }
        self.few = Vec::new();
        self.parts = fresh.into_iter().map(Arc::new).collect();
    }
}

impl<T: PartialEq> PartialEq for Table<T> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().all(|(key, value)| other.get(key) == Some(value))
    }
}

impl<T: Eq> Eq for Table<T> {}

impl<T: fmt::Debug> fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(sorted(self)).finish()
    }
}

/// All of a table, in order.
pub(crate) fn sorted<T>(table: &Table<T>) -> impl Iterator<Item = (&Arc<str>, &T)> {
    let mut all: Vec<_> = table.iter().collect();
    all.sort_unstable_by_key(|(name, _)| *name);
    all.into_iter()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// What is in a table after many changes is what is in a map after the same ones, whichever clone is looked at.
    #[test]
    fn like_a_map() {
        let (mut table, mut map) = (Table::default(), BTreeMap::new());
        let mut before = Vec::new();
        let mut state = 7_u64;
        for step in 0..4_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key: Arc<str> = format!("k{}", (state >> 33) % 600).into();
            match (state >> 13) % 4 {
                0 => {
                    table.remove(&key);
                    map.remove(&key);
                }
                1 => {
                    let changed = table.get_mut(&key).map(|value| *value = step);
                    assert_eq!(changed, map.get_mut(&key).map(|value| *value = step));
                }
                _ => {
                    let (a, b) = (table.or_insert_with(&key, || step), map.entry(key).or_insert(step));
                    assert_eq!(*a, *b);
                }
            }
            if step % 500 == 0 {
                before.push((table.clone(), map.clone()));
            }
        }
        before.push((table, map));
        for (table, map) in before {
            assert!(sorted(&table).eq(map.iter()));
            assert_eq!(table.is_empty(), map.is_empty());
            assert!(map.iter().all(|(key, value)| table.get(key) == Some(value)));
            assert_eq!(table.get("none"), None);
        }
    }
}
