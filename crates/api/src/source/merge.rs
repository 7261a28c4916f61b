//! Which file of a root an object is taken from.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::{Path, PathBuf},
};

use super::{
    file::{Absent, SourceFile},
    problem::Problem,
};
use crate::{objects::ObjectKey, types::Object};

/// The file that each object of a root is taken from.
pub(super) type Holders = BTreeMap<ObjectKey, PathBuf>;

struct Choice<'a> {
    path: &'a Path,
    object: &'a Object,
    rank: (bool, bool),
}

/// Takes each object from one file: rather from one that is there than from one that has just gone (so that a renamed file's objects stay), rather from
/// the one it was taken from before, else from the first by path. The others are conflicts.
pub(super) fn choose(
    files: &BTreeMap<PathBuf, SourceFile>,
    holders: &mut Holders,
    conflicts: &mut Vec<Problem>,
) -> Vec<Object> {
    let mut chosen: BTreeMap<ObjectKey, Choice<'_>> = BTreeMap::new();
    let mut refused: Vec<(ObjectKey, &Object)> = Vec::new();
    for (path, file) in files {
        for object in &file.objects {
            let key = object.key();
            let absent = file.absent != Absent::No;
            let rank = (absent, holders.get(&key) != Some(path));
            let choice = Choice { path, object, rank };
            match chosen.entry(key.clone()) {
                Entry::Vacant(slot) => {
                    slot.insert(choice);
                }
                Entry::Occupied(mut slot) => {
                    let loser = if rank < slot.get().rank { slot.insert(choice) } else { choice };
                    if !loser.rank.0 {
                        refused.push((key, loser.object));
                    }
                }
            }
        }
    }
    for (key, object) in refused {
        let Some(choice) = chosen.get(&key) else { continue };
        let (kept, refused) = (choice.object.meta().location.clone(), object.meta().location.clone());
        conflicts.push(Problem::Conflict { key, kept, refused });
    }
    *holders = chosen.iter().map(|(key, choice)| (key.clone(), choice.path.to_owned())).collect();
    chosen.into_values().map(|choice| choice.object.clone()).collect()
}
