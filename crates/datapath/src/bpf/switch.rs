//! New tables in place of those in use, while packets flow.
//!
//! ```text
//!  grow     new tables hold what the old ones do ─┐
//!                                                 ├─ links move over one by one ─ maps_next becomes maps
//!  layout   the first apply fills the new tables ─┘
//! ```
//!
//! What is not replaced is shared: one map, pinned in both folders, so connections, fragments, counters and events know nothing
//! of the switch. A conntrack table that is replaced is copied before the links move and once more after.
//!
//! Killed at any step, the next agent starts from `maps`, which is complete until the very end: it moves all links back to it and
//! takes over connections that were made in `maps_next`. Between the two renames at the end all links use `maps_next`, which the
//! next agent moves into place.

use std::collections::BTreeMap;

use strait_packet::abi::map;

use super::{
    Bpf, Error, Maps, chain,
    inventory::{self, Inventory},
    load_set,
    source::Source,
};
use crate::{
    carry::carried,
    kernel::{AttachError, MapError},
    room::GrowError,
    table::{Conntrack, Endpoints, Ipcache, Policy, PortSets, Table},
};

/// Which tables the links use.
#[derive(Debug)]
pub(super) enum Stage {
    /// Those in `maps`.
    Settled,
    /// Those in `maps`, while those in `maps_next` are being filled.
    Filling(Vec<Source>),
    /// Some of either.
    Moving(Vec<Source>),
}

/// A moment in the replacement of tables, for tests that end an agent there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// There is a folder for the new tables.
    Made,
    /// They are filled.
    Filled,
    /// This many links have moved over.
    Moved(usize),
    /// All have, and connections that were made meanwhile too.
    Carried,
    /// The old tables have lost their place, the new ones have not taken it.
    Away,
    /// They have.
    InPlace,
}

impl Bpf {
    /// Fails where a test wants the agent to end.
    pub(super) fn reach(&self, step: Step) -> Result<(), AttachError> {
        if self.stop_at != Some(step) {
            return Ok(());
        }
        let text = format!("stopped at {step:?} as told");
        Err(AttachError { operation: "replace", program: "any", interface: "any".to_owned(), text })
    }

    pub(super) fn grow_to(&mut self, capacities: &BTreeMap<&'static str, u32>) -> Result<(), GrowError> {
        if let Stage::Moving(_) = self.stage {
            self.move_over()?;
        }
        if capacities.is_empty() {
            return Ok(());
        }
        let refused = |error: &dyn std::error::Error| GrowError::Refused {
            maps: capacities.keys().copied().collect(),
            text: chain(error),
        };
        if let Err(error) = self.make_larger(capacities) {
            if self.stop_at.is_none() {
                self.give_up_larger().map_err(|error| refused(&error))?;
            }
            return Err(refused(&error));
        }
        for name in capacities.keys() {
            *self.growths.entry(name).or_default() += 1;
        }
        if let Stage::Moving(_) = self.stage {
            self.move_over()?;
        }
        Ok(())
    }

    /// What larger tables left in `maps_next` goes, and what belongs there is pinned again.
    fn give_up_larger(&self) -> Result<(), Error> {
        if !self.pending() {
            return Ok(self.pins.remove_next_maps()?);
        }
        let folder = self.pins.fresh_next_maps()?;
        map::ALL.into_iter().try_for_each(|name| self.maps.share(name, &folder))?;
        inventory::describe(&folder)
    }

    /// Makes tables that hold what those do that they replace, and programs that use them. On an error, nothing has changed but
    /// what is in `maps_next`.
    fn make_larger(&mut self, capacities: &BTreeMap<&'static str, u32>) -> Result<(), Error> {
        let folder = self.pins.fresh_next_maps()?;
        self.reach(Step::Made)?;
        for name in map::ALL {
            if !capacities.contains_key(name) {
                self.maps.share(name, &folder)?;
            }
        }
        let (object, mut maps) = load_set(&folder, capacities)?;
        for name in capacities.keys() {
            match *name {
                Endpoints::NAME => maps.fill::<Endpoints>(&self.maps)?,
                Ipcache::NAME => maps.fill::<Ipcache>(&self.maps)?,
                Policy::NAME => maps.fill::<Policy>(&self.maps)?,
                PortSets::NAME => maps.fill::<PortSets>(&self.maps)?,
                _ => {}
            }
        }
        if let Stage::Settled = self.stage {
            let [before, after] = [&self.pins.maps(), &folder].map(|folder| Inventory::read(folder));
            let mut sources: Vec<Source> = Source::open(before?.as_ref(), after?.as_ref())?.into_iter().collect();
            carry_most(&mut sources, &mut maps)?;
            self.reach(Step::Filled)?;
            self.stage = Stage::Moving(sources);
        }
        self.object = object;
        self.maps = maps;
        Ok(())
    }

    /// Moves all links to the new programs, what happened to connections meanwhile to the new tables, and those into place. May be
    /// repeated where it failed.
    pub(super) fn move_over(&mut self) -> Result<(), AttachError> {
        self.update_links()?;
        if let Stage::Moving(sources) = &mut self.stage {
            carry(sources, &mut self.maps).map_err(|error| failed("carry connections over", &error))?;
        }
        self.reach(Step::Carried)?;
        let moved = |error| failed("move tables", &error);
        self.pins.remove_foreign_links().map_err(moved)?;
        if self.pins.maps().exists() {
            self.pins.move_away().map_err(moved)?;
        }
        self.reach(Step::Away)?;
        self.pins.move_into_place().map_err(moved)?;
        self.stage = Stage::Settled;
        self.reach(Step::InPlace)?;
        self.pins.remove_old_maps().map_err(moved)
    }

    /// The new tables are filled: moves to them.
    pub(super) fn start_to_move(&mut self) -> Result<(), AttachError> {
        if let Stage::Filling(sources) = &mut self.stage {
            carry_most(sources, &mut self.maps).map_err(|error| failed("carry connections over", &error))?;
            let sources = std::mem::take(sources);
            self.stage = Stage::Moving(sources);
            self.reach(Step::Filled)?;
        }
        if let Stage::Moving(_) = self.stage { self.move_over() } else { Ok(()) }
    }
}

/// Copies connections until little changes from one copy to the next: what opens between the last one and the one after the
/// links moved is, until then, a connection that the new programs join in the middle.
fn carry_most(sources: &mut [Source], maps: &mut Maps) -> Result<(), MapError> {
    const LITTLE: usize = 64;
    const PASSES: usize = 5;
    for _ in 0..PASSES {
        if carry(sources, maps)? <= LITTLE {
            break;
        }
    }
    Ok(())
}

/// Brings connections up to date with their sources; how many were not.
pub(super) fn carry(sources: &mut [Source], maps: &mut Maps) -> Result<usize, MapError> {
    let mut written = 0;
    for source in sources {
        let found = source.connections()?;
        for (key, before) in &found {
            let after = maps.lookup::<Conntrack>(key)?;
            if let Some(entry) = carried(source.copied.get(key), before, after.as_ref()) {
                maps.upsert::<Conntrack>(key, &entry)?;
                written += 1;
            }
        }
        source.copied = found;
    }
    Ok(written)
}

fn failed(operation: &'static str, error: &dyn std::error::Error) -> AttachError {
    AttachError { operation, program: "any", interface: "any".to_owned(), text: chain(error) }
}
