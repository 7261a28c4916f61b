//! Where findings are: from the places that objects remember to fields of files.

use std::{collections::BTreeMap, sync::Arc};

use strait_api::{Outline, Place};
use strait_base::Location;

use crate::finding::ObjectRef;

/// A field: somewhere that objects remember, and steps from there.
#[derive(Clone, Debug)]
pub(crate) struct At {
    base: Location,
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Field(&'static str),
    Item(usize),
    Key(Arc<str>),
}

impl At {
    pub(crate) fn new(base: &Location) -> Self {
        Self { base: base.clone(), steps: Vec::new() }
    }

    /// A field of it; dots lead on to fields of fields.
    pub(crate) fn field(&self, names: &'static str) -> Self {
        self.and(names.split('.').map(Step::Field))
    }

    pub(crate) fn item(&self, index: usize) -> Self {
        self.and([Step::Item(index)])
    }

    /// An entry of `matchLabels`.
    pub(crate) fn key(&self, key: &str) -> Self {
        self.and([Step::Key(key.into())])
    }

    fn and(&self, steps: impl IntoIterator<Item = Step>) -> Self {
        Self { base: self.base.clone(), steps: self.steps.iter().cloned().chain(steps).collect() }
    }

    pub(crate) fn base(&self) -> &Location {
        &self.base
    }
}

/// How a label's key may be written: Cilium's keys may have a source before them, and name namespaces by keys of their own.
fn spellings(key: &str) -> Vec<String> {
    let mut keys = vec![key.to_owned(), format!("io.cilium.k8s.namespace.labels.{key}")];
    if key == "kubernetes.io/metadata.name" {
        keys.push("io.kubernetes.pod.namespace".to_owned());
    }
    keys.iter().flat_map(|key| ["", "k8s:", "any:"].map(|source| format!("{source}{key}"))).collect()
}

/// The files that objects are from.
pub(crate) struct Files(BTreeMap<Arc<str>, Outline>);

impl Files {
    pub(crate) fn read(texts: &BTreeMap<Arc<str>, Vec<u8>>) -> Self {
        Self(texts.iter().map(|(file, text)| (Arc::clone(file), Outline::read(file, text))).collect())
    }

    /// What is written at `at` or, where that is not there, at the nearest field above it; and whether it is there.
    fn nearest(&self, at: &At) -> Option<(Place<'_>, bool)> {
        let mut place = self.0.get(&at.base.file)?.at(&at.base)?;
        for step in &at.steps {
            let next = match step {
                Step::Field(name) => place.field(name),
                Step::Item(index) => place.item(*index),
                Step::Key(key) => spellings(key).iter().find_map(|key| place.key(key)),
            };
            match next {
                Some(next) => place = next,
                None => return Some((place, false)),
            }
        }
        Some((place, true))
    }

    /// What is written at exactly `at`.
    pub(crate) fn exactly(&self, at: &At) -> Option<Place<'_>> {
        self.nearest(at).filter(|(_, exact)| *exact).map(|(place, _)| place)
    }

    /// The object that is written around `location`, as far as it says what it is.
    pub(crate) fn object_around(&self, location: &Location) -> Option<ObjectRef> {
        let object = self.0.get(&location.file)?.object_around(location)?;
        let kind = object.field("kind")?.text()?;
        let meta = object.field("metadata")?;
        let name = meta.field("name")?.text()?;
        let namespace = meta.field("namespace").and_then(|namespace| namespace.text()).unwrap_or_default();
        Some(ObjectRef { kind: kind.into(), namespace: namespace.into(), name: name.into() })
    }

    /// Path and location of `at`.
    pub(crate) fn locate(&self, at: &At) -> (String, Location) {
        match self.nearest(at) {
            Some((place, _)) => {
                let location = Location::new(&at.base.file, place.line, place.column);
                (place.path, location)
            }
            None => (String::new(), at.base.clone()),
        }
    }
}
