//! The base identities in use.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use strait_api::Pod as PodObject;

use crate::{
    connection::PodKey,
    identity::{self, BaseIdentity},
};

/// Base identities, by numbers of which none is given twice.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bases {
    ids: BTreeMap<Arc<BaseIdentity>, u32>,
    all: BTreeMap<u32, Base>,
    next: u32,
}

/// A base identity, and who has it.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub identity: Arc<BaseIdentity>,
    /// All of its pods, also those that are no endpoints.
    pub pods: BTreeSet<PodKey>,
    /// Policies that select all of its pods; indices, in order.
    pub(super) all: Vec<usize>,
    /// Policies that have to look at each.
    pub(super) each: Vec<usize>,
}

impl Bases {
    pub(crate) fn get(&self, id: u32) -> Option<&Base> {
        self.all.get(&id)
    }

    /// All of them, in order of what they are.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (u32, &Base)> {
        self.ids.values().filter_map(|id| Some((*id, self.all.get(id)?)))
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = (u32, &mut Base)> {
        self.all.iter_mut().map(|(id, base)| (*id, base))
    }

    /// How many numbers were given.
    pub(super) fn given(&self) -> u32 {
        self.next
    }

    /// Adds a pod to the base identity that it has. `selection` is asked for policies where that is new.
    pub(super) fn add(
        &mut self,
        key: &PodKey,
        object: &PodObject,
        selection: impl FnOnce(&BaseIdentity) -> (Vec<usize>, Vec<usize>),
    ) -> u32 {
        let identity = BaseIdentity {
            namespace: Arc::clone(&object.meta.namespace),
            service_account: Arc::clone(&object.spec.service_account_name),
            labels: identity::relevant(&object.meta.labels),
        };
        let known = self.ids.get(&identity).copied();
        let id = known.unwrap_or_else(|| {
            let id = self.next;
            self.next += 1;
            let (all, each) = selection(&identity);
            let identity = Arc::new(identity);
            self.ids.insert(Arc::clone(&identity), id);
            self.all.insert(id, Base { identity, pods: BTreeSet::new(), all, each });
            id
        });
        if let Some(base) = self.all.get_mut(&id) {
            base.pods.insert(key.clone());
        }
        id
    }

    /// Takes a pod out; a base identity that no pod has is forgotten.
    pub(super) fn remove(&mut self, id: u32, key: &PodKey) {
        if let Some(base) = self.all.get_mut(&id) {
            base.pods.remove(key);
            if base.pods.is_empty()
                && let Some(base) = self.all.remove(&id)
            {
                self.ids.remove(&base.identity);
            }
        }
    }
}
