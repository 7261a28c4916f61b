//! What the datapath asks of a kernel: tables to read and write, programs to attach, counters to read.
//!
//! [`Bpf`](crate::Bpf) is the real one. [`Fake`](crate::Fake) keeps tables in memory, for tests and for judging packets on the
//! host.

use std::{collections::BTreeMap, io};

use strait_packet::abi::{Config, EventKind, Hook, Metric, MetricKey};

use crate::{
    room::{GrowError, Room},
    sockets::Socket,
    table::Table,
};

/// A kernel.
pub trait Kernel {
    /// Hands every entry of a table to `visit`. While programs write to it, entries may be missed or seen twice, as many as change
    /// meanwhile.
    fn each<T: Table>(&self, visit: &mut dyn FnMut(T::Key, T::Value)) -> Result<(), MapError>;

    /// Everything in a table, as [`each`](Self::each) sees it. A copy: of connections there may be more than memory should hold twice.
    fn entries<T: Table>(&self) -> Result<BTreeMap<T::Key, T::Value>, MapError> {
        let mut entries = Vec::new();
        self.each::<T>(&mut |key, value| entries.push((key, value)))?;
        Ok(entries.into_iter().collect())
    }

    /// The entry of exactly this key.
    fn get<T: Table>(&self, key: &T::Key) -> Result<Option<T::Value>, MapError>;

    /// Writes an entry, over an old one of the same key.
    fn upsert<T: Table>(&mut self, key: &T::Key, value: &T::Value) -> Result<(), MapError>;

    /// Removes an entry. False where there was none.
    fn delete<T: Table>(&mut self, key: &T::Key) -> Result<bool, MapError>;

    /// How many entries a table holds, and may hold once it grew.
    fn room<T: Table>(&self) -> Room;

    /// How many entries a table holds at most as it is.
    fn capacity<T: Table>(&self) -> u32 {
        self.room::<T>().capacity
    }

    /// Kernel memory that a table takes, bytes, where the kernel tells.
    fn bytes<T: Table>(&self) -> Option<u64> {
        None
    }

    /// Makes the tables of these names larger, to these capacities, with what is in them. Programs go on judging by the same
    /// entries, and no connection and no event is lost. With no names: finishes what an earlier call left half done.
    fn grow(&mut self, capacities: &BTreeMap<&'static str, u32>) -> Result<(), GrowError>;

    /// `CONFIG`; `None` while nothing was ever written.
    fn config(&self) -> Result<Option<Config>, MapError>;

    /// Writes `CONFIG`.
    fn set_config(&mut self, config: &Config) -> Result<(), MapError>;

    /// Packets and bytes by hook and outcome, summed over CPUs; without those that are zero.
    fn metrics(&self) -> Result<Vec<(MetricKey, Metric)>, MapError>;

    /// Events that found the ring full, summed over CPUs.
    fn events_lost(&self) -> Result<Vec<(EventKind, u64)>, MapError>;

    /// Makes the programs of `hook` run on an interface of this network namespace, in place of an older copy of themselves
    /// without a gap.
    fn attach(&mut self, hook: Hook, interface: &Interface) -> Result<(), AttachError>;

    /// Stops the programs of `hook` on the interface that had this index. False where none ran.
    fn detach(&mut self, hook: Hook, index: u32) -> Result<bool, AttachError>;

    /// Where programs are attached, as index and hook.
    fn attached(&self) -> Result<Vec<(u32, Hook)>, AttachError>;

    /// Sockets of this network namespace, as far as they can be told.
    fn sockets(&self) -> Vec<Socket>;

    /// The tables hold what is wanted: programs that still run on an older set of tables move over now.
    fn activate(&mut self) -> Result<(), AttachError>;
}

/// An interface of the network namespace that the datapath works in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
}

/// A table could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// There is no room for one more entry.
    #[error("map {map} is full: it holds {capacity} entries")]
    Full {
        /// The map.
        map: &'static str,
        /// How many entries it holds.
        capacity: u32,
    },
    /// The kernel refused.
    #[error("map {map}: cannot {operation}: {source}")]
    Refused {
        /// The map.
        map: &'static str,
        /// What was attempted.
        operation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A program could not be attached or detached.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {program} at interface {interface}: {text}")]
pub struct AttachError {
    /// `attach` or `detach`, or what else was attempted.
    pub operation: &'static str,
    /// Which program.
    pub program: &'static str,
    /// The interface, by name or index.
    pub interface: String,
    /// What went wrong, and what to do.
    pub text: String,
}

/// The program that runs at a hook, by its name in the object.
pub const fn program_name(hook: Hook) -> &'static str {
    use strait_packet::abi::program;
    match hook {
        Hook::FromPod => program::FROM_POD,
        Hook::ToPod => program::TO_POD,
        Hook::FromUplink => program::FROM_UPLINK,
        Hook::ToUplink => program::TO_UPLINK,
    }
}
