//! Tables by text that requests are looked up in.

use std::sync::Arc;

/// Values by text. What is asked for comes from outside, what is in it does not: the seed of its hash need not be secret, and a fixed one
/// makes every run alike.
pub(crate) type Table<T> = hashbrown::HashMap<Arc<str>, T, foldhash::fast::FixedState>;

/// All of a table, in order.
pub(crate) fn sorted<T>(table: &Table<T>) -> impl Iterator<Item = (&Arc<str>, &T)> {
    let mut all: Vec<_> = table.iter().collect();
    all.sort_unstable_by_key(|(name, _)| *name);
    all.into_iter()
}
