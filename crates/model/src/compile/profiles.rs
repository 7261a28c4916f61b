//! Profiles in force: sets of policies that select endpoints of the node, or the node itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Update, in_force};
use crate::{connection::Direction, identity, snapshot::Pod};

/// By the snapshot's numbers.
#[derive(Debug, Default)]
pub(super) struct Profiles {
    known: BTreeMap<u32, Profile>,
    /// How many of the node's endpoints, and the node, have each: of the ones that are known, and of those to be.
    pods: BTreeMap<u32, usize>,
    unsettled: BTreeSet<u32>,
}

/// A set of policies.
#[derive(Debug, Default)]
pub(super) struct Profile {
    /// Serial numbers of its policies.
    pub policies: Arc<[u32]>,
    /// Port names that its ingress rules ask for.
    pub asked: BTreeSet<Arc<str>>,
    /// The selectors of its policies that tell pods of one base identity apart, as text.
    pub refining: Vec<String>,
}

impl Profiles {
    pub(super) fn get(&self, id: u32) -> Option<&Profile> {
        self.known.get(&id)
    }
}

impl Update<'_> {
    /// An endpoint, where it is the node's, has its profile from now on.
    pub(super) fn join_profile(&mut self, pod: &Pod) {
        if self.is_own(pod.node()) {
            let profiles = &mut self.state.profiles;
            *profiles.pods.entry(pod.profile()).or_default() += 1;
            profiles.unsettled.insert(pod.profile());
            self.joining_subjects.push(pod.key.clone());
        }
    }

    /// The node itself has the profile that the snapshot says from now on.
    pub(super) fn join_host(&mut self) {
        let new = self.state.node.as_ref().and_then(|node| self.snapshot.host_profile(node));
        let old = std::mem::replace(&mut self.state.host, new);
        if old == new {
            return;
        }
        let profiles = &mut self.state.profiles;
        profiles.unsettled.extend(old.into_iter().chain(new));
        if let Some(new) = new {
            *profiles.pods.entry(new).or_default() += 1;
        }
        if let Some(count) = old.and_then(|old| profiles.pods.get_mut(&old)) {
            *count -= 1;
        }
    }

    pub(super) fn leave_profile(&mut self, pod: &Pod) {
        let profiles = &mut self.state.profiles;
        if let Some(pods) = profiles.pods.get_mut(&pod.profile()) {
            *pods -= 1;
            profiles.unsettled.insert(pod.profile());
        }
    }

    /// Loads policies that came into force; then unloads those that went, so that what both name stays as it is.
    pub(super) fn settle_profiles(&mut self) {
        let unsettled = std::mem::take(&mut self.state.profiles.unsettled);
        let mut gone = Vec::new();
        for id in unsettled {
            let used = self.state.profiles.pods.get(&id).is_some_and(|pods| *pods > 0);
            if !used {
                self.state.profiles.pods.remove(&id);
                gone.extend(self.state.profiles.known.remove(&id));
            } else if !self.state.profiles.known.contains_key(&id) {
                self.load_profile(id);
            }
        }
        for serial in gone.iter().flat_map(|profile| profile.policies.iter()) {
            self.unload(*serial);
        }
    }

    fn load_profile(&mut self, id: u32) {
        let snapshot = self.snapshot;
        let mut profile = Profile::default();
        let mut refining = BTreeSet::new();
        let mut serials = Vec::new();
        for (serial, policy) in snapshot.profile_policies(id) {
            self.load(serial, policy);
            serials.push(serial);
            let ingress = policy.rules.iter().filter(|rule| rule.direction == Direction::Ingress);
            profile.asked.extend(ingress.flat_map(in_force::names_of).map(Arc::clone));
            let selector = policy.subject.endpoints().map(|selector| &selector.pods);
            let selector = selector.filter(|pods| identity::refines(pods));
            refining.extend(selector.map(|pods| format!("selected as subject by {pods}")));
        }
        profile.policies = serials.into();
        profile.refining = refining.into_iter().collect();
        self.state.profiles.known.insert(id, profile);
    }
}
