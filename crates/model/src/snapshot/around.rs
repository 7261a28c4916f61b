//! What pods are in and on: namespaces and nodes that are others now.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use strait_api::{Kind, Object, ObjectKey, Objects};
use strait_base::Labels;

use super::{
    Facts, Node, Owner,
    update::{Delta, implies_namespace, unclaimed, with_name},
};
use crate::connection::PodKey;

impl Facts {
    /// Takes in namespaces that are declared, not declared any more, or that something may be in now; and their labels. Who is in
    /// them, [`forget_emptied`](Self::forget_emptied) asks when all else is taken in.
    pub(super) fn put_namespaces(&mut self, objects: &Objects, keys: &[ObjectKey], delta: &mut Delta) {
        for name in concerned(keys) {
            let key = ObjectKey { kind: Kind::Namespace, namespace: "".into(), name: Arc::clone(name) };
            let labels = if let Some(Object::Namespace(declared)) = objects.get(&key) {
                self.implied.remove(name);
                declared.meta.labels.clone()
            } else {
                self.implied.insert(Arc::clone(name));
                Labels::default()
            };
            let labels = with_name(labels, name);
            if self.namespaces.get(name) != Some(&labels) {
                self.namespaces.insert(Arc::clone(name), labels);
                delta.namespaces.insert(Arc::clone(name));
            }
        }
    }

    /// A namespace that nobody declared is one as long as something is in it.
    pub(super) fn forget_emptied(&mut self, keys: &[ObjectKey]) {
        for name in concerned(keys) {
            let first = PodKey { namespace: Arc::clone(name), name: "".into() };
            let any_pod = self.pods.range(first..).next().is_some_and(|(key, _)| key.namespace == *name);
            if self.implied.contains(name) && !any_pod && !self.policies.any_in(name) {
                self.implied.remove(name);
                self.namespaces.remove(name);
            }
        }
    }

    /// Finds which policies select the pods in namespaces that have other labels.
    pub(super) fn select_in_namespaces(&mut self, delta: &mut Delta) {
        let mut touched = Vec::new();
        for (id, base) in self.bases.values_mut() {
            let namespace = &base.identity.namespace;
            let Some(labels) = delta.namespaces.get(namespace).and_then(|name| self.namespaces.get(name)) else {
                continue;
            };
            let (mut all, mut each) = self.policies.selecting(&base.identity, labels);
            all.sort_unstable();
            each.sort_unstable();
            if (&base.all, &base.each) != (&all, &each) {
                (base.all, base.each) = (all, each);
                touched.push(id);
            }
        }
        self.select_for_pods(&touched, delta);
    }

    /// Takes in nodes that are others. What the node that looks has by its interfaces alone depends on what all others claim.
    pub(super) fn put_nodes(&mut self, objects: &Objects, keys: &[ObjectKey], delta: &mut Delta) {
        let of_nodes = keys.iter().filter(|key| key.kind == Kind::Node);
        let mut names: BTreeSet<Arc<str>> = of_nodes.map(|key| Arc::clone(&key.name)).collect();
        if keys.iter().any(|key| self.claims_local(objects, key)) {
            names.insert(Arc::clone(&self.local.name));
        }
        for name in names {
            let key = ObjectKey { kind: Kind::Node, namespace: "".into(), name: Arc::clone(&name) };
            let node = match objects.get(&key) {
                Some(Object::Node(object)) => Some(Node::of(object)),
                _ => None,
            };
            self.put_node(&name, node.map(|node| self.with_interfaces(node, objects)), delta);
        }
    }

    fn with_interfaces(&self, mut node: Node, objects: &Objects) -> Node {
        if node.name == self.local.name {
            node.addresses.extend(unclaimed(objects, &self.local));
        }
        node
    }

    /// Whether an object claims, or did, what an interface of the node that looks has.
    fn claims_local(&self, objects: &Objects, key: &ObjectKey) -> bool {
        if self.local.addresses.is_empty() {
            return false;
        }
        let any = |addresses: &[IpAddr]| addresses.iter().any(|address| self.local.addresses.contains(address));
        if key.kind == Kind::Node {
            let before = self.nodes.get(&key.name).is_some_and(|node| any(&node.addresses));
            return before || matches!(objects.get(key), Some(Object::Node(node)) if any(&node.addresses));
        }
        if key.kind == Kind::Pod {
            let known = PodKey { namespace: Arc::clone(&key.namespace), name: Arc::clone(&key.name) };
            let before = self.pods.get(&known).is_some_and(|pod| any(&pod.object.pod_ips));
            return before || matches!(objects.get(key), Some(Object::Pod(pod)) if any(&pod.pod_ips));
        }
        // Which addresses a service had is not known.
        key.kind == Kind::Service
    }

    fn put_node(&mut self, name: &Arc<str>, new: Option<Node>, delta: &mut Delta) {
        let old = self.nodes.get(name).cloned();
        if old == new {
            return;
        }
        let of = |node: &Option<Node>| node.as_ref().map(|node| node.addresses.clone()).unwrap_or_default();
        let (had, has) = (of(&old), of(&new));
        let profile = new.as_ref().map(|node| self.profiles.take(self.policies.selecting_node(&node.labels)));
        match new {
            Some(node) => self.nodes.insert(Arc::clone(name), node),
            None => self.nodes.remove(name),
        };
        for address in had.iter().filter(|address| !has.contains(address)) {
            if !matches!(self.owners.get(address), Some(Owner::Node(owner)) if owner == name) {
                continue;
            }
            let other = self.nodes.values().find(|node| node.addresses.contains(address));
            match other.map(|node| Owner::Node(Arc::clone(&node.name))) {
                Some(other) => drop(self.owners.insert(*address, other)),
                None => self.pass_on(*address, delta),
            }
        }
        for address in has {
            self.claim_for_node(address, name, delta);
        }
        let before = match profile {
            Some(profile) => self.hosts.insert(Arc::clone(name), profile),
            None => self.hosts.remove(name),
        };
        if let Some(before) = before {
            self.profiles.give_back(before);
        }
        if before != profile {
            delta.hosts.insert(Arc::clone(name));
        }
        delta.nodes.entry(Arc::clone(name)).or_insert(old);
    }

    /// Of several nodes the first by name has the address, and before any pod.
    fn claim_for_node(&mut self, address: IpAddr, name: &Arc<str>, delta: &mut Delta) {
        match self.owners.get(&address) {
            Some(Owner::Node(owner)) if owner <= name => {}
            Some(Owner::Node(_)) | None => {
                self.owners.insert(address, Owner::Node(Arc::clone(name)));
            }
            Some(Owner::Pod(owner)) => {
                let owner = owner.clone();
                self.owners.insert(address, Owner::Node(Arc::clone(name)));
                self.passed_over.entry(address).or_default().insert(owner.clone());
                self.readdress(&owner, delta);
            }
        }
    }
}

/// Namespaces that objects of these keys are, or are in.
fn concerned(keys: &[ObjectKey]) -> BTreeSet<&Arc<str>> {
    let name = |key: &ObjectKey| key.kind == Kind::Namespace;
    let in_one = |key: &ObjectKey| implies_namespace(key.kind) && !key.namespace.is_empty();
    let named = keys.iter().filter(|key| name(key)).map(|key| &key.name);
    named.chain(keys.iter().filter(|key| in_one(key)).map(|key| &key.namespace)).collect()
}
