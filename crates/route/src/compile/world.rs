//! Objects by what refers to them.

use std::{collections::BTreeMap, sync::Arc};

use strait_api::{
    BackendTlsPolicy, BackendTrafficPolicy, ConfigMap, EndpointSlice, Kind, ListenerSet, Object, ObjectKey, Objects,
    Reference, ReferenceGrant, Secret, Service,
};
use strait_base::Labels;

/// By namespace, then by name.
type ByName<'a, T> = BTreeMap<&'a str, BTreeMap<&'a str, Vec<T>>>;

/// The objects, indexed.
pub(super) struct World<'a> {
    pub(super) objects: &'a Objects,
    namespaces: BTreeMap<&'a str, &'a Labels>,
    slices: ByName<'a, &'a EndpointSlice>,
    grants: BTreeMap<&'a str, Vec<&'a ReferenceGrant>>,
    policies: ByName<'a, &'a Arc<BackendTlsPolicy>>,
    traffic_policies: ByName<'a, &'a Arc<BackendTrafficPolicy>>,
}

impl<'a> World<'a> {
    pub(super) fn new(objects: &'a Objects) -> Self {
        let namespaces =
            objects.namespaces().map(|namespace| (&*namespace.meta.name, &namespace.meta.labels)).collect();
        let (mut slices, mut grants, mut policies) = (ByName::new(), BTreeMap::new(), ByName::new());
        for slice in objects.endpoint_slices() {
            if let Some(service) = slice.meta.labels.get("kubernetes.io/service-name") {
                let all = slices.entry(&*slice.meta.namespace).or_default().entry(service).or_default();
                all.push(&**slice);
            }
        }
        for grant in objects.reference_grants() {
            let all: &mut Vec<&ReferenceGrant> = grants.entry(&*grant.meta.namespace).or_default();
            all.push(grant);
        }
        for policy in objects.backend_tls_policies() {
            for target in &policy.targets {
                if target.group.is_empty() && &*target.kind == "Service" {
                    let all: &mut Vec<&Arc<BackendTlsPolicy>> =
                        policies.entry(&*policy.meta.namespace).or_default().entry(&*target.name).or_default();
                    if !all.iter().any(|other| Arc::ptr_eq(other, policy)) {
                        all.push(policy);
                    }
                }
            }
        }
        let mut traffic_policies = ByName::new();
        for policy in objects.backend_traffic_policies() {
            for target in policy.targets.iter().filter(|target| target.group.is_empty() && &*target.kind == "Service") {
                let all: &mut Vec<&Arc<BackendTrafficPolicy>> =
                    traffic_policies.entry(&*policy.meta.namespace).or_default().entry(&*target.name).or_default();
                all.push(policy);
            }
        }
        Self { objects, namespaces, slices, grants, policies, traffic_policies }
    }

    /// The labels of a namespace. One that is used without being declared has the name that the API server would give it.
    pub(super) fn namespace_labels(&self, name: &str) -> Labels {
        match self.namespaces.get(name) {
            Some(labels) => (*labels).clone(),
            None => [("kubernetes.io/metadata.name", name)].into_iter().collect(),
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

    pub(super) fn listener_set(&self, namespace: &str, name: &str) -> Option<&'a Arc<ListenerSet>> {
        match self.get(Kind::ListenerSet, namespace, name) {
            Some(Object::ListenerSet(set)) => Some(set),
            _ => None,
        }
    }

    pub(super) fn slices(&self, namespace: &str, service: &str) -> &[&'a EndpointSlice] {
        self.slices.get(namespace).and_then(|all| all.get(service)).map_or(&[], Vec::as_slice)
    }

    pub(super) fn tls_policies(&self, namespace: &str, service: &str) -> &[&'a Arc<BackendTlsPolicy>] {
        self.policies.get(namespace).and_then(|all| all.get(service)).map_or(&[], Vec::as_slice)
    }

    pub(super) fn traffic_policies(&self, namespace: &str, service: &str) -> &[&'a Arc<BackendTrafficPolicy>] {
        self.traffic_policies.get(namespace).and_then(|all| all.get(service)).map_or(&[], Vec::as_slice)
    }

    /// Whether an object of `from` may refer to `to`, which is in `namespace`: in the same namespace always, else by a grant.
    pub(super) fn permits(&self, from: (&str, &str, &str), to: &Reference, namespace: &str) -> bool {
        let (group, kind, home) = from;
        home == namespace
            || self.grants.get(namespace).into_iter().flatten().any(|grant| {
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
