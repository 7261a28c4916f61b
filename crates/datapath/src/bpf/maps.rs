//! Pinned maps, typed.

use std::{
    collections::BTreeMap,
    fs, io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use aya::{
    Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError as AyaError, PerCpuArray, lpm_trie},
};
use nix::errno::Errno;
use strait_packet::abi::{self, Config, CtEntry, CtKey, EventKind, Metric, MetricKey, map};
use zerocopy::FromBytes as _;

use super::{
    Error,
    raw::{self, Sizes},
};
use crate::{
    kernel::MapError,
    table::{Conntrack, DropsSeen, Endpoints, Fragments, Ipcache, Plain, Policy, PortSets, Table},
};

/// A value as the bytes that aya copies in and out.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Raw<T>(T);

#[expect(unsafe_code, reason = "aya's marker for types that it may copy as bytes has no safe derive")]
// SAFETY: `Plain` types have no padding (`IntoBytes`) and every bit pattern is one of their values (`FromBytes`); `Raw` is
// transparent over them.
unsafe impl<T: Plain> Pod for Raw<T> {}

/// Name, key size and value size of every pinned map; zero where the kernel sets it.
pub(super) fn sizes() -> [(&'static str, usize, usize); 11] {
    const fn of<T: Table>() -> (&'static str, usize, usize) {
        (T::NAME, size_of::<T::Key>(), size_of::<T::Value>())
    }
    [
        of::<Ipcache>(),
        of::<Endpoints>(),
        of::<Policy>(),
        of::<PortSets>(),
        (Conntrack::NAME, size_of::<CtKey>(), size_of::<CtEntry>()),
        of::<Fragments>(),
        of::<DropsSeen>(),
        (map::CONFIG, 4, size_of::<Config>()),
        (map::METRICS, 4, size_of::<Metric>()),
        (map::EVENTS, 0, 0),
        (map::EVENTS_LOST, 4, 8),
    ]
}

/// The maps of one instance.
#[derive(Debug)]
pub(super) struct Maps {
    typed: BTreeMap<&'static str, Map>,
    capacities: BTreeMap<&'static str, u32>,
    /// To ask the kernel about each, whatever its type.
    descriptors: BTreeMap<&'static str, OwnedFd>,
}

impl Maps {
    /// Opens every map that is pinned in `folder`.
    pub(super) fn open(folder: &Path) -> Result<Self, Error> {
        let mut typed = BTreeMap::new();
        let mut capacities = BTreeMap::new();
        let mut descriptors = BTreeMap::new();
        for (name, key_size, value_size) in sizes() {
            let refuse = |error| Error::map(name, "open", error);
            let data = MapData::from_pin(folder.join(name)).map_err(refuse)?;
            let info = data.info().map_err(refuse)?;
            let found = (info.key_size() as usize, info.value_size() as usize);
            if found != (key_size, value_size) {
                return Err(Error::Layout { map: name, found, expected: (key_size, value_size) });
            }
            capacities.insert(name, info.max_entries());
            let descriptor = data.fd().as_fd().try_clone_to_owned();
            descriptors.insert(name, descriptor.map_err(|source| Error::io(name, "open", source))?);
            typed.insert(name, Map::from_map_data(data).map_err(refuse)?);
        }
        Ok(Self { typed, capacities, descriptors })
    }

    /// Pins the map `name` in another folder as well.
    pub(super) fn share(&self, name: &'static str, folder: &Path) -> Result<(), MapError> {
        const OPERATION: &str = "pin it";
        let pinned = self.get(name, OPERATION)?.pin(folder.join(name));
        pinned.map_err(|error| MapError::Refused { map: name, operation: OPERATION, source: io::Error::other(error) })
    }

    /// Writes everything that a table of `from` holds.
    pub(super) fn fill<T: Table>(&mut self, from: &Self) -> Result<(), MapError> {
        let mut written = Ok(());
        from.each::<T>(&mut |key, value| {
            if written.is_ok() {
                written = self.upsert::<T>(&key, &value);
            }
        })?;
        written
    }

    /// Kernel memory that a map takes, bytes.
    pub(super) fn bytes(&self, name: &'static str) -> Option<u64> {
        let descriptor = self.descriptors.get(name)?.as_raw_fd();
        let about = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).ok()?;
        about.lines().find_map(|line| line.strip_prefix("memlock:"))?.trim().parse().ok()
    }

    fn get(&self, name: &'static str, operation: &'static str) -> Result<&Map, MapError> {
        self.typed.get(name).ok_or_else(|| absent(name, operation))
    }

    fn get_mut(&mut self, name: &'static str, operation: &'static str) -> Result<&mut Map, MapError> {
        self.typed.get_mut(name).ok_or_else(|| absent(name, operation))
    }

    pub(super) fn capacity(&self, name: &'static str) -> u32 {
        self.capacities.get(name).copied().unwrap_or(0)
    }

    fn failed(&self, map: &'static str, operation: &'static str, error: AyaError) -> MapError {
        let source = into_io(error);
        let errno = source.raw_os_error().map(Errno::from_raw);
        // A hash says E2BIG, a trie ENOSPC.
        if matches!(errno, Some(Errno::E2BIG | Errno::ENOSPC)) {
            MapError::Full { map, capacity: self.capacity(map) }
        } else {
            MapError::Refused { map, operation, source }
        }
    }

    pub(super) fn each<T: Table>(&self, visit: &mut dyn FnMut(T::Key, T::Value)) -> Result<(), MapError> {
        const OPERATION: &str = "list its entries";
        if T::LONGEST_PREFIX {
            let map = self.get(T::NAME, OPERATION)?;
            let refuse = |error| self.failed(T::NAME, OPERATION, error);
            // A key that is removed while it is being passed starts the listing over; this ends it even so.
            let limit = 2 * self.capacity(T::NAME) as usize;
            let trie: LpmTrie<_, Raw<T::Lookup>, Raw<T::Value>> = LpmTrie::try_from(map).map_err(refuse)?;
            for entry in trie.iter().take(limit) {
                let (key, Raw(value)) = entry.map_err(refuse)?;
                let Raw(lookup) = key.data();
                visit(T::join(key.prefix_len(), lookup), value);
            }
        } else {
            let descriptor = self.descriptors.get(T::NAME).ok_or_else(|| absent(T::NAME, OPERATION))?;
            let sizes = Sizes { key: size_of::<T::Key>(), value: size_of::<T::Value>() };
            let read = raw::each(descriptor.as_fd(), sizes, |key, value| {
                if let (Ok(key), Ok(value)) = (T::Key::read_from_bytes(key), T::Value::read_from_bytes(value)) {
                    visit(key, value);
                }
            });
            read.map_err(|source| MapError::Refused { map: T::NAME, operation: OPERATION, source })?;
        }
        Ok(())
    }

    pub(super) fn lookup<T: Table>(&self, key: &T::Key) -> Result<Option<T::Value>, MapError> {
        const OPERATION: &str = "read an entry";
        let map = self.get(T::NAME, OPERATION)?;
        let refuse = |error| self.failed(T::NAME, OPERATION, error);
        let found = if T::LONGEST_PREFIX {
            let (prefix_len, lookup) = T::split(*key);
            let trie: LpmTrie<_, Raw<T::Lookup>, Raw<T::Value>> = LpmTrie::try_from(map).map_err(refuse)?;
            trie.get(&lpm_trie::Key::new(prefix_len, Raw(lookup)), 0)
        } else {
            let hash: HashMap<_, Raw<T::Key>, Raw<T::Value>> = HashMap::try_from(map).map_err(refuse)?;
            hash.get(&Raw(*key), 0)
        };
        match found {
            Ok(Raw(value)) => Ok(Some(value)),
            Err(AyaError::KeyNotFound) => Ok(None),
            Err(error) => Err(refuse(error)),
        }
    }

    pub(super) fn upsert<T: Table>(&mut self, key: &T::Key, value: &T::Value) -> Result<(), MapError> {
        const OPERATION: &str = "write an entry";
        let map = self.get_mut(T::NAME, OPERATION)?;
        let written = if T::LONGEST_PREFIX {
            let (prefix_len, lookup) = T::split(*key);
            LpmTrie::<_, Raw<T::Lookup>, Raw<T::Value>>::try_from(map)
                .and_then(|mut trie| trie.insert(&lpm_trie::Key::new(prefix_len, Raw(lookup)), Raw(*value), 0))
        } else {
            HashMap::<_, Raw<T::Key>, Raw<T::Value>>::try_from(map)
                .and_then(|mut hash| hash.insert(Raw(*key), Raw(*value), 0))
        };
        written.map_err(|error| self.failed(T::NAME, OPERATION, error))
    }

    pub(super) fn delete<T: Table>(&mut self, key: &T::Key) -> Result<bool, MapError> {
        const OPERATION: &str = "remove an entry";
        let map = self.get_mut(T::NAME, OPERATION)?;
        let removed = if T::LONGEST_PREFIX {
            let (prefix_len, lookup) = T::split(*key);
            LpmTrie::<_, Raw<T::Lookup>, Raw<T::Value>>::try_from(map)
                .and_then(|mut trie| trie.remove(&lpm_trie::Key::new(prefix_len, Raw(lookup))))
        } else {
            HashMap::<_, Raw<T::Key>, Raw<T::Value>>::try_from(map).and_then(|mut hash| hash.remove(&Raw(*key)))
        };
        match removed {
            Ok(()) => Ok(true),
            Err(error) => {
                let source = into_io(error);
                if source.kind() == io::ErrorKind::NotFound {
                    Ok(false)
                } else {
                    Err(MapError::Refused { map: T::NAME, operation: OPERATION, source })
                }
            }
        }
    }

    pub(super) fn config(&self) -> Result<Option<Config>, MapError> {
        const OPERATION: &str = "read it";
        let refuse = |error| self.failed(map::CONFIG, OPERATION, error);
        let array: Array<_, Raw<Config>> = Array::try_from(self.get(map::CONFIG, OPERATION)?).map_err(refuse)?;
        let Raw(config) = array.get(&0, 0).map_err(refuse)?;
        Ok((config.abi_version != 0).then_some(config))
    }

    pub(super) fn set_config(&mut self, config: &Config) -> Result<(), MapError> {
        const OPERATION: &str = "write it";
        let map = self.get_mut(map::CONFIG, OPERATION)?;
        let written = Array::<_, Raw<Config>>::try_from(map).and_then(|mut array| array.set(0, Raw(*config), 0));
        written.map_err(|error| self.failed(map::CONFIG, OPERATION, error))
    }

    pub(super) fn metrics(&self) -> Result<Vec<(MetricKey, Metric)>, MapError> {
        const OPERATION: &str = "read it";
        let refuse = |error| self.failed(map::METRICS, OPERATION, error);
        let array: PerCpuArray<_, Raw<Metric>> =
            PerCpuArray::try_from(self.get(map::METRICS, OPERATION)?).map_err(refuse)?;
        let mut metrics = Vec::new();
        for index in 0..MetricKey::COUNT {
            let mut sum = Metric::default();
            for Raw(metric) in array.get(&index, 0).map_err(refuse)?.iter() {
                sum.packets = sum.packets.saturating_add(metric.packets);
                sum.bytes = sum.bytes.saturating_add(metric.bytes);
            }
            if sum != Metric::default() {
                metrics.push((MetricKey::from_index(index), sum));
            }
        }
        Ok(metrics)
    }

    pub(super) fn events_lost(&self) -> Result<Vec<(EventKind, u64)>, MapError> {
        const OPERATION: &str = "read it";
        let refuse = |error| self.failed(map::EVENTS_LOST, OPERATION, error);
        let array: PerCpuArray<_, u64> =
            PerCpuArray::try_from(self.get(map::EVENTS_LOST, OPERATION)?).map_err(refuse)?;
        let mut lost = Vec::new();
        for index in 0..abi::EventKind::COUNT {
            let sum = array.get(&index, 0).map_err(refuse)?.iter().fold(0, |sum: u64, lost| sum.saturating_add(*lost));
            lost.extend(u8::try_from(index).ok().and_then(EventKind::from_number).map(|kind| (kind, sum)));
        }
        Ok(lost)
    }
}

fn absent(map: &'static str, operation: &'static str) -> MapError {
    MapError::Refused { map, operation, source: io::ErrorKind::NotFound.into() }
}

fn into_io(error: AyaError) -> io::Error {
    if let AyaError::SyscallError(error) = error {
        error.io_error
    } else if let AyaError::IoError(error) = error {
        error
    } else {
        io::Error::other(error)
    }
}
