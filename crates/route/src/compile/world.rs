//! Objects by what refers to them, brought up to date object by object.

use std::{collections::BTreeMap, sync::Arc};

use strait_api::{
    BackendTlsPolicy, BackendTrafficPolicy, ConfigMap, EndpointSlice, Gateway, Kind, ListenerSet, Object, ObjectKey,
    ObjectMeta, Objects, PolicyTarget, Reference, ReferenceGrant, Secret, Service,
};
use strait_base::Labels;

/// Namespace and name.
pub(super) type Name = (Arc<str>, Arc<str>);

pub(super) fn name(meta: &ObjectMeta) -> Name {
    (Arc::clone(&meta.namespace), Arc::clone(&meta.name))
}

/// By namespace, then by name.
pub(super) type ByName<T> = BTreeMap<Arc<str>, BTreeMap<Arc<str>, T>>;

fn get<'m, T>(map: &'m ByName<T>, namespace: &str, name: &str) -> Option<&'m T> {
    map.get(namespace)?.get(name)
}

fn entry<T: Default>(map: &mut ByName<T>, (namespace, name): Name) -> &mut T {
    map.entry(namespace).or_default().entry(name).or_default()
}

/// Takes what is empty out.
fn tidy<T>(map: &mut ByName<T>, (namespace, name): &Name, is_empty: impl FnOnce(&T) -> bool) {
    let Some(of) = map.get_mut(namespace) else { return };
    if of.get(name).is_some_and(is_empty) {
        of.remove(name);
    }
    if of.is_empty() {
        map.remove(namespace);
    }
}

/// Objects by what they are for.
#[derive(Default)]
pub(super) struct Index {
    /// By service, then by their own name.
    slices: ByName<BTreeMap<Arc<str>, Arc<EndpointSlice>>>,
    /// The service of each slice.
    slice_of: BTreeMap<Name, Arc<str>>,
    grants: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Arc<ReferenceGrant>>>,
    /// By the services that they are for; a policy that names one several times is there once.
    tls_of: ByName<Vec<Arc<BackendTlsPolicy>>>,
    traffic_of: ByName<Vec<Arc<BackendTrafficPolicy>>>,
    pub(super) tls_policies: BTreeMap<Name, Arc<BackendTlsPolicy>>,
    pub(super) traffic_policies: BTreeMap<Name, Arc<BackendTrafficPolicy>>,
    pub(super) gateways: BTreeMap<Name, Arc<Gateway>>,
    pub(super) sets: BTreeMap<Name, Arc<ListenerSet>>,
}

/// The services that a policy is for.
pub(super) fn services(targets: &[PolicyTarget]) -> impl Iterator<Item = &Arc<str>> {
    targets.iter().filter(|target| target.group.is_empty() && &*target.kind == "Service").map(|target| &target.name)
}

/// Puts a policy in the place of the one before. Gives the services of both.
fn retarget<T>(
    by_service: &mut ByName<Vec<Arc<T>>>,
    all: &mut BTreeMap<Name, Arc<T>>,
    own: Name,
    now: Option<&Arc<T>>,
    targets: impl Fn(&T) -> &[PolicyTarget],
) -> Vec<Name> {
    let named = |of: &T| services(targets(of)).map(|name| (Arc::clone(&own.0), Arc::clone(name))).collect::<Vec<_>>();
    let mut touched = Vec::new();
    if let Some(before) = all.remove(&own) {
        touched = named(&before);
        for service in &touched {
            entry(by_service, service.clone()).retain(|other| !Arc::ptr_eq(other, &before));
            tidy(by_service, service, Vec::is_empty);
        }
    }
    if let Some(policy) = now {
        for service in named(policy) {
            let of = entry(by_service, service.clone());
            if !of.iter().any(|other| Arc::ptr_eq(other, policy)) {
                of.push(Arc::clone(policy));
            }
            touched.push(service);
        }
        all.insert(own, Arc::clone(policy));
    }
    touched
}

impl Index {
    /// Takes an object in that is new, another or gone. Gives the services whose endpoints, and those whose policies may be others.
    pub(super) fn take(&mut self, key: &ObjectKey, objects: &Objects) -> (Vec<Name>, Vec<Name>) {
        let own = (Arc::clone(&key.namespace), Arc::clone(&key.name));
        let now = objects.get(key);
        let (mut endpoints, mut policies) = (Vec::new(), Vec::new());
        #[expect(clippy::wildcard_enum_match_arm, reason = "others are looked at by their keys, or concern no gateway")]
        match key.kind {
            Kind::EndpointSlice => endpoints = self.slice(own, now),
            Kind::ReferenceGrant => {
                let of = self.grants.entry(own.0).or_default();
                match now {
                    Some(Object::ReferenceGrant(grant)) => _ = of.insert(own.1, Arc::clone(grant)),
                    _ => _ = of.remove(&own.1),
                }
            }
            Kind::BackendTlsPolicy => {
                let now = match now {
                    Some(Object::BackendTlsPolicy(policy)) => Some(policy),
                    _ => None,
                };
                policies = retarget(&mut self.tls_of, &mut self.tls_policies, own, now, |policy| &policy.targets);
            }
            Kind::BackendTrafficPolicy => {
                let now = match now {
                    Some(Object::BackendTrafficPolicy(policy)) => Some(policy),
                    _ => None,
                };
                let all = &mut self.traffic_policies;
                policies = retarget(&mut self.traffic_of, all, own, now, |policy| &policy.targets);
            }
            Kind::Gateway => match now {
                Some(Object::Gateway(gateway)) => _ = self.gateways.insert(own, Arc::clone(gateway)),
                _ => _ = self.gateways.remove(&own),
            },
            Kind::ListenerSet => match now {
                Some(Object::ListenerSet(set)) => _ = self.sets.insert(own, Arc::clone(set)),
                _ => _ = self.sets.remove(&own),
            },
            _ => {}
        }
        (endpoints, policies)
    }

    fn slice(&mut self, own: Name, now: Option<&Object>) -> Vec<Name> {
        let mut touched = Vec::new();
        if let Some(service) = self.slice_of.remove(&own) {
            let service = (Arc::clone(&own.0), service);
            entry(&mut self.slices, service.clone()).remove(&own.1);
            tidy(&mut self.slices, &service, BTreeMap::is_empty);
            touched.push(service);
        }
        if let Some(Object::EndpointSlice(slice)) = now
            && let Some(service) = slice.meta.labels.get("kubernetes.io/service-name")
        {
            let service = (Arc::clone(&own.0), Arc::<str>::from(service));
            self.slice_of.insert(own.clone(), Arc::clone(&service.1));
            entry(&mut self.slices, service.clone()).insert(own.1, Arc::clone(slice));
            touched.push(service);
        }
        touched
    }
}

/// The objects, indexed.
#[derive(Clone, Copy)]
pub(super) struct World<'a> {
    pub(super) objects: &'a Objects,
    pub(super) index: &'a Index,
}

impl<'a> World<'a> {
    /// The labels of a namespace. One that is used without being declared has the name that the API server would give it.
    pub(super) fn namespace_labels(&self, name: &str) -> Labels {
        match self.get(Kind::Namespace, "", name) {
            Some(Object::Namespace(namespace)) => namespace.meta.labels.clone(),
            _ => [("kubernetes.io/metadata.name", name)].into_iter().collect(),
        }
    }

    fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&'a Object> {
        self.objects.get(&ObjectKey { kind, namespace: namespace.into(), name: name.into() })
    }

    pub(super) fn service(&self, namespace: &str, name: &str) -> Option<&'a Arc<Service>> {
        match self.get(Kind::Service, namespace, name) {
            Some(Object::Service(service)) => Some(service),
            _ => None,
        }
    }

    pub(super) fn secret(&self, namespace: &str, name: &str) -> Option<&'a Arc<Secret>> {
        match self.get(Kind::Secret, namespace, name) {
            Some(Object::Secret(secret)) => Some(secret),
            _ => None,
        }
    }

    pub(super) fn config_map(&self, namespace: &str, name: &str) -> Option<&'a Arc<ConfigMap>> {
        match self.get(Kind::ConfigMap, namespace, name) {
            Some(Object::ConfigMap(map)) => Some(map),
            _ => None,
        }
    }

    pub(super) fn slices(&self, namespace: &str, service: &str) -> impl Iterator<Item = &'a Arc<EndpointSlice>> {
        get(&self.index.slices, namespace, service).into_iter().flat_map(BTreeMap::values)
    }

    pub(super) fn tls_policies(&self, namespace: &str, service: &str) -> &'a [Arc<BackendTlsPolicy>] {
        get(&self.index.tls_of, namespace, service).map_or(&[], Vec::as_slice)
    }

    pub(super) fn traffic_policies(&self, namespace: &str, service: &str) -> &'a [Arc<BackendTrafficPolicy>] {
        get(&self.index.traffic_of, namespace, service).map_or(&[], Vec::as_slice)
    }

    /// Whether an object of `from` may refer to `to`, which is in `namespace`: in the same namespace always, else by a grant.
    pub(super) fn permits(&self, from: (&str, &str, &str), to: &Reference, namespace: &str) -> bool {
        let (group, kind, home) = from;
        home == namespace
            || self.index.grants.get(namespace).into_iter().flat_map(BTreeMap::values).any(|grant| {
                let by = |from: &strait_api::GrantFrom| {
                    &*from.group == group && &*from.kind == kind && &*from.namespace == home
                };
                let target = |granted: &strait_api::GrantTo| {
                    granted.group == to.group
                        && granted.kind == to.kind
                        && granted.name.as_ref().is_none_or(|name| *name == to.name)
                };
                grant.from.iter().any(by) && grant.to.iter().any(target)
            })
    }
}
