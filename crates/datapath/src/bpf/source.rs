//! Connections of tables that are or were in use beside the current ones.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use aya::maps::MapData;
use strait_packet::abi::{CtEntry, CtKey, map};
use zerocopy::FromBytes;

use super::{
    Error,
    raw::{self, Sizes},
};
use crate::kernel::MapError;

/// A conntrack table to take connections from.
#[derive(Debug)]
pub(super) struct Source {
    descriptor: OwnedFd,
    sizes: Sizes,
    /// What its entries were when they were copied last.
    pub(super) copied: BTreeMap<CtKey, CtEntry>,
}

impl Source {
    /// The conntrack table that is pinned in `folder`; `None` where there is none, or it is the one in `other`.
    pub(super) fn open(folder: &Path, other: &Path) -> Result<Option<Self>, Error> {
        const NAME: &str = map::CONNTRACK;
        if !folder.join(NAME).exists() {
            return Ok(None);
        }
        let refuse = |error| Error::map(NAME, "open", error);
        let data = MapData::from_pin(folder.join(NAME)).map_err(refuse)?;
        let info = data.info().map_err(refuse)?;
        if other.join(NAME).exists() {
            let other = MapData::from_pin(other.join(NAME)).and_then(|data| data.info()).map_err(refuse)?;
            if other.id() == info.id() {
                return Ok(None);
            }
        }
        let sizes = Sizes { key: info.key_size() as usize, value: info.value_size() as usize };
        let descriptor = data.fd().as_fd().try_clone_to_owned().map_err(|source| Error::io(NAME, "open", source))?;
        Ok(Some(Self { descriptor, sizes, copied: BTreeMap::new() }))
    }

    /// Every connection that this version can read.
    pub(super) fn connections(&self) -> Result<BTreeMap<CtKey, CtEntry>, MapError> {
        let mut connections = BTreeMap::new();
        let read = raw::each(self.descriptor.as_fd(), self.sizes, |key, value| {
            connections.extend(CtKey::read_from_bytes(key).ok().zip(CtEntry::read_from_bytes(value).ok()));
        });
        let refused = |source| MapError::Refused { map: map::CONNTRACK, operation: "list its entries", source };
        read.map_err(refused).map(|()| connections)
    }
}
