//! Lists whose members keep their places from plan to plan.

use std::{fmt, sync::Arc};

/// How many slots a page has.
const PAGE: usize = 64;

/// Values by number. A number that is free has none. A clone shares all pages with what it was cloned from, and a change of one slot
/// copies one page.
pub struct Slots<T> {
    pages: Vec<Arc<Vec<Option<Arc<T>>>>>,
}

impl<T> Slots<T> {
    /// The value at a number, if it is not free.
    pub fn get(&self, index: usize) -> Option<&T> {
        self.shared(index).map(|value| &**value)
    }

    /// The same as it is shared with other plans.
    pub fn shared(&self, index: usize) -> Option<&Arc<T>> {
        self.pages.get(index / PAGE)?.get(index % PAGE)?.as_ref()
    }

    /// One more than the highest number that can be taken: free ones count.
    pub fn len(&self) -> usize {
        self.pages.last().map_or(0, |last| (self.pages.len() - 1) * PAGE + last.len())
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// All values, in order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flat_map(|page| page.iter()).flatten().map(|value| &**value)
    }

    /// Whether another list has the very same values at the same numbers; false also where they are merely equal.
    pub fn is_same(&self, other: &Self) -> bool {
        self.pages.len() == other.pages.len() && self.pages.iter().zip(&other.pages).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    fn set(&mut self, index: usize, value: Option<Arc<T>>) {
        while self.pages.len() <= index / PAGE {
            self.pages.push(Arc::default());
        }
        let page = Arc::make_mut(&mut self.pages[index / PAGE]);
        if page.len() <= index % PAGE {
            page.resize(index % PAGE + 1, None);
        }
        page[index % PAGE] = value;
    }
}

impl<T> Clone for Slots<T> {
    fn clone(&self) -> Self {
        Self { pages: self.pages.clone() }
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T: fmt::Debug> fmt::Debug for Slots<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T> FromIterator<T> for Slots<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut slots = Self::default();
        for (index, value) in values.into_iter().enumerate() {
            slots.set(index, Some(Arc::new(value)));
        }
        slots
    }
}

impl<T> From<Vec<T>> for Slots<T> {
    fn from(values: Vec<T>) -> Self {
        values.into_iter().collect()
    }
}

/// Slots, and which of them are free.
pub(crate) struct Filled<T> {
    slots: Slots<T>,
    free: Vec<u32>,
}

impl<T> Default for Filled<T> {
    fn default() -> Self {
        Self { slots: Slots::default(), free: Vec::new() }
    }
}

impl<T> Filled<T> {
    pub(crate) const fn slots(&self) -> &Slots<T> {
        &self.slots
    }

    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        self.slots.get(id as usize)
    }

    /// Puts a value into a free slot, the one that was freed last or a new one.
    pub(crate) fn add(&mut self, value: T) -> u32 {
        let next = || u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let id = self.free.pop().unwrap_or_else(next);
        self.slots.set(id as usize, Some(Arc::new(value)));
        id
    }

    /// Puts another value in the place of one.
    pub(crate) fn replace(&mut self, id: u32, value: T) {
        self.slots.set(id as usize, Some(Arc::new(value)));
    }

    pub(crate) fn free(&mut self, id: u32) {
        self.slots.set(id as usize, None);
        self.free.push(id);
    }
}
