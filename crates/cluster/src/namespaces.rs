//! Namespaces that are used without being declared, and service accounts.

use std::{collections::BTreeMap, sync::Arc};

use strait_api::{Kind, Namespace, Object, ObjectKey, ObjectMeta, Objects, ServiceAccount};
use strait_base::{Labels, Location};

const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Declares what namespaced objects imply: their namespaces, a `default` service account in each, and accounts that pods name.
pub(crate) fn settle(objects: &mut Objects, remarks: &mut Vec<String>) {
    let mut used: BTreeMap<Arc<str>, Location> = BTreeMap::new();
    let mut accounts: BTreeMap<(Arc<str>, Arc<str>), Location> = BTreeMap::new();
    for object in objects.iter().filter(|object| !object.kind().cluster_scoped()) {
        let meta = object.meta();
        used.entry(Arc::clone(&meta.namespace)).or_insert_with(|| meta.location.clone());
    }
    for pod in objects.pods() {
        let key = (Arc::clone(&pod.meta.namespace), Arc::clone(&pod.spec.service_account_name));
        accounts.entry(key).or_insert_with(|| pod.meta.location.clone());
    }
    let declared: Vec<_> = objects.namespaces().cloned().collect();
    for mut namespace in declared {
        used.entry(Arc::clone(&namespace.meta.name)).or_insert_with(|| namespace.meta.location.clone());
        if namespace.meta.labels.get(NAME_LABEL).is_none() {
            let inner = Arc::make_mut(&mut namespace);
            let name = Arc::clone(&inner.meta.name);
            inner.meta.labels.insert(NAME_LABEL, &name);
            objects.replace(Object::Namespace(namespace));
        }
    }
    for (name, location) in used {
        let labels = Labels::from_iter([(NAME_LABEL, &*name)]);
        let meta = implied("", &name, labels, location.clone());
        let _declared = objects.insert(Object::Namespace(Namespace { meta }.into()));
        accounts.entry((name, Arc::from("default"))).or_insert(location);
    }
    for ((namespace, name), location) in accounts {
        let key = ObjectKey { kind: Kind::ServiceAccount, namespace: Arc::clone(&namespace), name: Arc::clone(&name) };
        if objects.get(&key).is_some() {
            continue;
        }
        if &*name != "default" {
            remarks.push(format!(
                "{location}: service account {namespace}/{name} is declared nowhere; it is made, Kubernetes would refuse the pod"
            ));
        }
        let meta = implied(&namespace, &name, Labels::default(), location);
        objects.replace(Object::ServiceAccount(ServiceAccount { meta }.into()));
    }
}

/// Metadata of an object that `location` implies.
pub(crate) fn implied(namespace: &str, name: &str, labels: Labels, location: Location) -> ObjectMeta {
    ObjectMeta {
        name: name.into(),
        namespace: namespace.into(),
        labels,
        annotations: BTreeMap::new().into(),
        generation: 1,
        created: None,
        location,
    }
}
