//! Connections of tables that are or were in use beside the current ones.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
};

use strait_packet::abi::{CtEntry, CtKey, layout::Connections, map};

use super::{
    Error,
    inventory::Inventory,
    raw::{self, Sizes},
};
use crate::kernel::MapError;

const NAME: &str = map::CONNTRACK;

/// A conntrack table to take connections from.
#[derive(Debug)]
pub(super) struct Source {
    descriptor: OwnedFd,
    sizes: Sizes,
    layout: Connections,
    /// What its entries were when they were copied last.
    pub(super) copied: BTreeMap<CtKey, CtEntry>,
}

impl Source {
    /// The conntrack table of a set. `None` where there is none, it is the one of `other`, or its entries are none that this
    /// version can make sense of: then connections start over.
    pub(super) fn open(of: Option<&Inventory>, other: Option<&Inventory>) -> Result<Option<Self>, Error> {
        let Some((inventory, shape)) = of.and_then(|of| Some((of, of.shape(NAME)?))) else { return Ok(None) };
        if other.and_then(|other| other.shape(NAME)).is_some_and(|other| other.id == shape.id) {
            return Ok(None);
        }
        let Some(layout) = inventory.fields().and_then(Connections::new) else { return Ok(None) };
        let descriptor = inventory.open(NAME)?.fd().as_fd().try_clone_to_owned();
        let descriptor = descriptor.map_err(|source| Error::io(NAME, "open", source))?;
        Ok(Some(Self { descriptor, sizes: shape.sizes, layout, copied: BTreeMap::new() }))
    }

    /// Every connection that this version can read.
    pub(super) fn connections(&self) -> Result<BTreeMap<CtKey, CtEntry>, MapError> {
        let mut connections = BTreeMap::new();
        let read = raw::each(self.descriptor.as_fd(), self.sizes, |key, value| {
            connections.extend(self.layout.read(key, value));
        });
        let refused = |source| MapError::Refused { map: NAME, operation: "list its entries", source };
        read.map_err(refused).map(|()| connections)
    }
}
