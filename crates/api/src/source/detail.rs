//! How much of what manifests say is kept.

use std::{collections::BTreeMap, sync::Arc};

use crate::types::{Container, Object};

/// How much of each object a directory keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Detail {
    /// All that is understood.
    #[default]
    Whole,
    /// What traffic is judged by, for who sees the objects of a whole cluster and runs none of them. Of containers their names and ports are
    /// kept, of a pod's annotations those of Strait, and no content of config maps and secrets. A change of the rest is none.
    Traffic,
}

/// Annotations that begin so are Strait's own.
const OWN: &str = "strait.dev/";

impl Detail {
    /// Drops what is not kept of an object that nobody else has yet.
    pub(super) fn trim(self, object: &mut Object) {
        match self {
            Self::Whole => {}
            Self::Traffic => trim(object),
        }
    }
}

fn trim(object: &mut Object) {
    if let Object::Pod(pod) = object
        && let Some(pod) = Arc::get_mut(pod)
    {
        pod.meta.annotations.retain(|key, _| key.starts_with(OWN));
        pod.spec.containers.iter_mut().for_each(trim_container);
        pod.spec.secrets = Vec::new();
    } else if let Object::ConfigMap(map) = object
        && let Some(map) = Arc::get_mut(map)
    {
        map.data = BTreeMap::new();
    } else if let Object::Secret(secret) = object
        && let Some(secret) = Arc::get_mut(secret)
    {
        secret.data = BTreeMap::new();
    }
}

fn trim_container(container: &mut Container) {
    let Container { name: _, image, command, args, env, ports } = container;
    *image = None;
    (*command, *args, *env) = (Vec::new(), Vec::new(), BTreeMap::new());
    ports.shrink_to_fit();
}
