//! Which policies select a pod: equal sets are one profile.

use std::collections::{BTreeMap, BTreeSet};

/// Indices of policies, in order.
type Profile = Vec<usize>;

/// Profiles, by numbers of which none is given twice.
#[derive(Clone, Debug, Default)]
pub(super) struct Profiles {
    ids: BTreeMap<Profile, u32>,
    all: BTreeMap<u32, (Profile, usize)>,
    next: u32,
}

impl Profiles {
    pub(super) fn get(&self, id: u32) -> &[usize] {
        self.all.get(&id).map_or(&[], |(profile, _)| profile)
    }

    /// How many numbers were given.
    pub(super) fn given(&self) -> u32 {
        self.next
    }

    /// The number of a profile, which has one user more from now on.
    pub(super) fn take(&mut self, profile: Profile) -> u32 {
        let id = *self.ids.entry(profile).or_insert_with_key(|profile| {
            let id = self.next;
            self.next += 1;
            self.all.insert(id, (profile.clone(), 0));
            id
        });
        if let Some((_, users)) = self.all.get_mut(&id) {
            *users += 1;
        }
        id
    }

    /// A profile has one user less; without any it is forgotten.
    pub(super) fn give_back(&mut self, id: u32) {
        let Some((profile, users)) = self.all.get_mut(&id) else { return };
        *users -= 1;
        if *users == 0 {
            // A profile that lost a policy may have the content of another.
            if self.ids.get(profile) == Some(&id) {
                self.ids.remove(profile);
            }
            self.all.remove(&id);
        }
    }

    /// Indices are others now: `moved` gives the new one, `None` for policies that are gone. Profiles with one of these are given to
    /// nobody any more.
    pub(super) fn renumber(&mut self, moved: impl Fn(usize) -> Option<usize>) {
        self.ids.clear();
        let mut lost = BTreeSet::new();
        for (id, (profile, _)) in &mut self.all {
            let before = profile.len();
            *profile = profile.iter().filter_map(|at| moved(*at)).collect();
            profile.sort_unstable();
            if profile.len() < before {
                lost.insert(*id);
            }
        }
        let whole = self.all.iter().filter(|(id, _)| !lost.contains(id));
        self.ids = whole.map(|(id, (profile, _))| (profile.clone(), *id)).collect();
    }
}
