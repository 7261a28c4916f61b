//! A kernel in memory: for tests, and for judging packets on the host by the very tables that a plan makes.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use strait_packet::{
    abi::{Config, EventKind, Hook, Metric, MetricKey},
    host::MemoryMaps,
};

use crate::{
    kernel::{AttachError, Interface, Kernel, MapError},
    room::{GrowError, Room},
    sockets::Socket,
    table::{Conntrack, Endpoints, Ipcache, Plain, Policy, PortSets, Table},
};

/// A kernel in memory.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    tables: BTreeMap<&'static str, Held>,
    capacities: BTreeMap<&'static str, u32>,
    limits: BTreeMap<&'static str, u32>,
    growths: BTreeMap<&'static str, u64>,
    config: Option<Config>,
    attached: BTreeSet<(u32, Hook)>,
    sockets: Vec<Socket>,
    writes: Vec<Write>,
    unrecorded: bool,
}

/// The entries of one table. Typed: a hundred thousand entries of the ipcache are held beside the agent that is measured over them.
struct Held(Box<dyn Entries>);

trait Entries: Any + Send + Sync {
    fn copy(&self) -> Box<dyn Entries>;
    fn count(&self) -> usize;
    fn typed(&self) -> &dyn Any;
    fn typed_mut(&mut self) -> &mut dyn Any;
}

impl<Key: Plain + Ord, Value: Plain> Entries for BTreeMap<Key, Value> {
    fn copy(&self) -> Box<dyn Entries> {
        Box::new(self.clone())
    }

    fn count(&self) -> usize {
        self.len()
    }

    fn typed(&self) -> &dyn Any {
        self
    }

    fn typed_mut(&mut self) -> &mut dyn Any {
        self
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        Self(self.0.copy())
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} entries", self.0.count())
    }
}

/// One change of a [`Fake`], in the order they were made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Write {
    /// An entry was written to this table.
    Upsert(&'static str),
    /// An entry was removed from this table.
    Delete(&'static str),
    /// This table was made larger.
    Grow(&'static str),
    /// `CONFIG` was written, with this revision.
    Revision(u32),
}

impl Fake {
    /// Empty, with room for any number of entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps no account of what is written: [`take_writes`](Self::take_writes) is empty.
    #[must_use]
    pub const fn unrecorded(mut self) -> Self {
        self.unrecorded = true;
        self
    }

    /// Limits the room of a table for good.
    #[must_use]
    pub fn with_capacity<T: Table>(mut self, entries: u32) -> Self {
        self.set_capacity::<T>(entries);
        self
    }

    /// Changes the room of a table, for good; what is in it stays.
    pub fn set_capacity<T: Table>(&mut self, entries: u32) {
        self.capacities.insert(T::NAME, entries);
        self.limits.insert(T::NAME, entries);
    }

    /// Gives a table room for `entries`, which may grow to `limit`.
    #[must_use]
    pub fn with_room<T: Table>(mut self, entries: u32, limit: u32) -> Self {
        self.set_capacity::<T>(entries);
        self.limits.insert(T::NAME, limit);
        self
    }

    /// Gives the node these sockets.
    pub fn set_sockets(&mut self, sockets: Vec<Socket>) {
        self.sockets = sockets;
    }

    /// The tables as they are, to run packets through ([`MemoryMaps::run`]).
    pub fn maps(&self) -> MemoryMaps {
        MemoryMaps {
            config: self.config,
            endpoints: self.copy::<Endpoints>(),
            ipcache: self.copy::<Ipcache>(),
            policy: self.copy::<Policy>(),
            port_sets: self.copy::<PortSets>(),
            conntrack: self.copy::<Conntrack>(),
            ..MemoryMaps::default()
        }
    }

    fn table<T: Table>(&self) -> Option<&BTreeMap<T::Key, T::Value>> {
        self.tables.get(T::NAME)?.0.typed().downcast_ref()
    }

    fn table_mut<T: Table>(&mut self) -> Option<&mut BTreeMap<T::Key, T::Value>> {
        let empty = || Held(Box::new(BTreeMap::<T::Key, T::Value>::new()));
        self.tables.entry(T::NAME).or_insert_with(empty).0.typed_mut().downcast_mut()
    }

    fn copy<T: Table>(&self) -> BTreeMap<T::Key, T::Value> {
        self.table::<T>().cloned().unwrap_or_default()
    }

    fn note(&mut self, write: Write) {
        if !self.unrecorded {
            self.writes.push(write);
        }
    }

    /// What was written since the last call.
    pub fn take_writes(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.writes)
    }
}

impl Kernel for Fake {
    fn each<T: Table>(&self, visit: &mut dyn FnMut(T::Key, T::Value)) -> Result<(), MapError> {
        self.table::<T>().into_iter().flatten().for_each(|(key, value)| visit(*key, *value));
        Ok(())
    }

    fn get<T: Table>(&self, key: &T::Key) -> Result<Option<T::Value>, MapError> {
        Ok(self.table::<T>().and_then(|table| table.get(key)).copied())
    }

    fn upsert<T: Table>(&mut self, key: &T::Key, value: &T::Value) -> Result<(), MapError> {
        let capacity = self.capacity::<T>();
        let Some(table) =
            self.table_mut::<T>().filter(|table| table.contains_key(key) || table.len() < capacity as usize)
        else {
            return Err(MapError::Full { map: T::NAME, capacity });
        };
        table.insert(*key, *value);
        self.note(Write::Upsert(T::NAME));
        Ok(())
    }

    fn delete<T: Table>(&mut self, key: &T::Key) -> Result<bool, MapError> {
        self.note(Write::Delete(T::NAME));
        Ok(self.table_mut::<T>().is_some_and(|table| table.remove(key).is_some()))
    }

    fn room<T: Table>(&self) -> Room {
        Room {
            capacity: self.capacities.get(T::NAME).copied().unwrap_or(u32::MAX),
            limit: self.limits.get(T::NAME).copied().unwrap_or(u32::MAX),
            growths: self.growths.get(T::NAME).copied().unwrap_or(0),
        }
    }

    fn grow(&mut self, capacities: &BTreeMap<&'static str, u32>) -> Result<(), GrowError> {
        for (name, entries) in capacities {
            self.capacities.insert(name, *entries);
            *self.growths.entry(name).or_default() += 1;
            self.note(Write::Grow(name));
        }
        Ok(())
    }

    fn config(&self) -> Result<Option<Config>, MapError> {
        Ok(self.config)
    }

    fn set_config(&mut self, config: &Config) -> Result<(), MapError> {
        self.config = Some(*config);
        self.note(Write::Revision(config.revision));
        Ok(())
    }

    fn metrics(&self) -> Result<Vec<(MetricKey, Metric)>, MapError> {
        Ok(Vec::new())
    }

    fn events_lost(&self) -> Result<Vec<(EventKind, u64)>, MapError> {
        Ok(Vec::new())
    }

    fn attach(&mut self, hook: Hook, interface: &Interface) -> Result<(), AttachError> {
        self.attached.insert((interface.index, hook));
        Ok(())
    }

    fn detach(&mut self, hook: Hook, index: u32) -> Result<bool, AttachError> {
        Ok(self.attached.remove(&(index, hook)))
    }

    fn attached(&self) -> Result<Vec<(u32, Hook)>, AttachError> {
        Ok(self.attached.iter().copied().collect())
    }

    fn sockets(&self) -> Vec<Socket> {
        self.sockets.clone()
    }

    fn activate(&mut self) -> Result<(), AttachError> {
        Ok(())
    }
}
