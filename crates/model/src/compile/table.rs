//! Things that several name, each under one number as long as somebody does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Things by number; no number is given twice.
#[derive(Debug)]
pub(super) struct Table<T> {
    ids: BTreeMap<Arc<T>, u32>,
    entries: BTreeMap<u32, (Arc<T>, usize)>,
    next: u32,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { ids: BTreeMap::new(), entries: BTreeMap::new(), next: 0 }
    }
}

impl<T: Ord + Clone> Table<T> {
    pub(super) fn get(&self, id: u32) -> Option<&T> {
        self.entries.get(&id).map(|(value, _)| &**value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.entries.iter().map(|(id, (value, _))| (*id, &**value))
    }

    /// How many numbers were given.
    pub(super) const fn given(&self) -> u32 {
        self.next
    }

    /// The number of `value`, which somebody more names; and whether it is new.
    pub(super) fn take(&mut self, value: &T) -> (u32, bool) {
        if let Some(id) = self.ids.get(value) {
            if let Some((_, users)) = self.entries.get_mut(id) {
                *users += 1;
            }
            return (*id, false);
        }
        let (id, value) = (self.next, Arc::new(value.clone()));
        self.next += 1;
        self.ids.insert(Arc::clone(&value), id);
        self.entries.insert(id, (value, 1));
        (id, true)
    }

    /// Somebody less names it. What nobody names is forgotten, and given back.
    pub(super) fn give_back(&mut self, id: u32) -> Option<Arc<T>> {
        let (_, users) = self.entries.get_mut(&id)?;
        *users -= 1;
        if *users > 0 {
            return None;
        }
        let (value, _) = self.entries.remove(&id)?;
        self.ids.remove(&value);
        Some(value)
    }
}

/// How many name each of some numbers, and of which that changed since the last sweep.
#[derive(Debug)]
pub(super) struct Users<I> {
    counts: BTreeMap<I, usize>,
    idle: BTreeSet<I>,
}

impl<I> Default for Users<I> {
    fn default() -> Self {
        Self { counts: BTreeMap::new(), idle: BTreeSet::new() }
    }
}

impl<I: Ord + Copy> Users<I> {
    pub(super) fn add(&mut self, id: I) {
        *self.counts.entry(id).or_default() += 1;
    }

    pub(super) fn remove(&mut self, id: I) {
        if let Some(count) = self.counts.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&id);
                self.idle.insert(id);
            }
        }
    }

    /// It was asked for, whether or not somebody names it in the end.
    pub(super) fn touch(&mut self, id: I) {
        self.idle.insert(id);
    }

    /// What was named or asked for since the last sweep, and is not named.
    pub(super) fn sweep(&mut self) -> Vec<I> {
        let idle = std::mem::take(&mut self.idle);
        idle.into_iter().filter(|id| !self.counts.contains_key(id)).collect()
    }
}
