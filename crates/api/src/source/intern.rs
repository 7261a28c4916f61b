//! What many pods have alike is kept once: a cluster has many pods of few workloads.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use strait_base::{Labels, Shared};

use super::detail::Detail;
use crate::types::{Container, Object, Pod};

type Strings = Shared<BTreeMap<Arc<str>, Arc<str>>>;

/// How many values an interner keeps before it looks for those that nobody else has.
const FEW: usize = 1024;

/// The values that are known.
#[derive(Default)]
pub(super) struct Interner {
    detail: Detail,
    strings: BTreeSet<Arc<str>>,
    maps: BTreeSet<Strings>,
    /// By the labels of pods: replicas have the same containers.
    containers: BTreeMap<Strings, Shared<Vec<Container>>>,
    /// How many values there may be until it is looked for.
    room: usize,
}

impl Interner {
    pub(super) fn new(detail: Detail) -> Self {
        Self { detail, ..Self::default() }
    }

    /// Drops what is not kept of an object, and takes what it has like others from what is known.
    pub(super) fn intern(&mut self, object: &mut Object) {
        self.detail.trim(object);
        if let Object::Pod(pod) = object
            && let Some(pod) = Arc::get_mut(pod)
        {
            self.pod(pod);
        }
        let known = self.strings.len() + self.maps.len() + self.containers.len();
        if known > self.room {
            self.containers.retain(|_, containers| containers.owners() > 1);
            self.maps.retain(|map| map.owners() > 1);
            self.strings.retain(|text| Arc::strong_count(text) > 1);
            self.room = FEW.max(2 * (self.strings.len() + self.maps.len() + self.containers.len()));
        }
    }

    fn pod(&mut self, pod: &mut Pod) {
        let Pod { meta, spec, pod_ips, .. } = pod;
        self.text(&mut meta.namespace);
        self.text(&mut spec.service_account_name);
        if let Some(node) = &mut spec.node_name {
            self.text(node);
        }
        let Labels(labels) = &mut meta.labels;
        self.map(labels);
        self.map(&mut meta.annotations);
        self.map(&mut spec.node_selector.0);
        match self.containers.get(labels) {
            Some(known) if *known == spec.containers => spec.containers = known.clone(),
            _ => {
                spec.containers.shrink_to_fit();
                self.containers.insert(labels.clone(), spec.containers.clone());
            }
        }
        pod_ips.shrink_to_fit();
    }

    fn text(&mut self, text: &mut Arc<str>) {
        if let Some(known) = self.strings.get(text) {
            *text = Arc::clone(known);
        } else {
            self.strings.insert(Arc::clone(text));
        }
    }

    fn map(&mut self, map: &mut Strings) {
        if let Some(known) = self.maps.get(map) {
            *map = known.clone();
            return;
        }
        let mut fresh = BTreeMap::new();
        for (key, value) in &*map {
            let (mut key, mut value) = (Arc::clone(key), Arc::clone(value));
            self.text(&mut key);
            self.text(&mut value);
            fresh.insert(key, value);
        }
        *map = fresh.into();
        self.maps.insert(map.clone());
    }
}
