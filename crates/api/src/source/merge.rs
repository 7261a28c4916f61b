//! Which file of a root an object is taken from.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{
    file::{Absent, SourceFile},
    problem::Problem,
};
use crate::{objects::ObjectKey, types::Object};

/// The file that each object of a root is taken from, by the files' numbers.
#[derive(Default)]
pub(super) struct Holders {
    chosen: BTreeMap<ObjectKey, u32>,
    /// All files that have an object, where several do.
    contested: BTreeMap<ObjectKey, BTreeSet<u32>>,
    /// Where the files of these numbers are.
    paths: BTreeMap<u32, PathBuf>,
    next: u32,
}

type Files = BTreeMap<PathBuf, SourceFile>;

impl Holders {
    /// A number for a file that is new.
    pub(super) fn number(&mut self, path: &Path) -> u32 {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.paths.insert(number, path.to_owned());
        number
    }

    pub(super) fn forget(&mut self, number: u32) {
        self.paths.remove(&number);
    }

    fn file<'f>(&self, files: &'f Files, number: u32) -> Option<&'f SourceFile> {
        files.get(self.paths.get(&number)?)
    }

    /// The object of this key.
    pub(super) fn object<'f>(&self, files: &'f Files, key: &ObjectKey) -> Option<&'f Object> {
        self.file(files, *self.chosen.get(key)?)?.objects_of(key).first()
    }

    /// Chooses anew which file an object is taken from, which the files `touched` have otherwise now: rather one that is there than
    /// one that has just gone (so that a renamed file's objects stay), rather the one it was taken from before, else the first by path.
    pub(super) fn choose(&mut self, files: &Files, key: &ObjectKey, touched: &[u32]) -> Option<u32> {
        let before = self.chosen.get(key).copied();
        let known = self.contested.remove(key).into_iter().flatten().chain(before);
        let all: BTreeSet<u32> = known.chain(touched.iter().copied()).collect();
        let having = all
            .into_iter()
            .filter(|number| self.file(files, *number).is_some_and(|file| !file.objects_of(key).is_empty()));
        let having: BTreeSet<u32> = having.collect();
        let rank = |number: &u32| {
            let absent = self.file(files, *number).is_some_and(|file| file.absent != Absent::No);
            (absent, before != Some(*number), self.paths.get(number).cloned())
        };
        let chosen = having.iter().copied().min_by_key(rank);
        if having.len() > 1 {
            self.contested.insert(key.clone(), having);
        }
        chosen
    }

    /// What [`choose`](Self::choose) said of these objects holds from now on.
    pub(super) fn take(&mut self, chosen: Vec<(ObjectKey, Option<u32>)>) {
        if self.chosen.is_empty() {
            // Made at once, a map is full; one that grows in order of its keys is half empty.
            self.chosen = chosen.into_iter().filter_map(|(key, number)| Some((key, number?))).collect();
            return;
        }
        for (key, number) in chosen {
            match number {
                Some(number) => self.chosen.insert(key, number),
                None => self.chosen.remove(&key),
            };
        }
    }

    /// Objects that are there beside the one that is taken: of files that are there, and twice in one of `telling`.
    pub(super) fn conflicts(&self, files: &Files, telling: &BTreeSet<PathBuf>, into: &mut Vec<Problem>) {
        let contested = self.contested.iter().flat_map(|(key, having)| {
            let files = having.iter().filter_map(|number| self.file(files, *number));
            files.map(move |file| (key.clone(), file))
        });
        let twice = telling
            .iter()
            .filter_map(|path| files.get(path))
            .flat_map(|file| file.twice.iter().map(move |key| (key.clone(), file)));
        let twice = twice.filter(|(key, _)| !self.contested.contains_key(key));
        let mut conflicts = Vec::new();
        for (key, file) in contested.chain(twice).filter(|(_, file)| file.absent == Absent::No) {
            let Some(kept) = self.object(files, &key).map(|object| &object.meta().location) else { continue };
            for refused in file.objects_of(&key).iter().map(|object| &object.meta().location) {
                if refused != kept {
                    conflicts.push((&file.name, refused, kept, key.clone()));
                }
            }
        }
        conflicts.sort();
        into.extend(conflicts.into_iter().map(|(_, refused, kept, key)| Problem::Conflict {
            key,
            kept: kept.clone(),
            refused: refused.clone(),
        }));
    }
}
