//! The scheduler: which node runs a pod.

use std::{collections::BTreeMap, sync::Arc};

use strait_api::{Kind, Node, Object, ObjectKey, Objects, Pod};

use crate::{labels, pods::allows};

/// Gives every pod that can have one a `node_name`. Pods that have a place are seen first, so that the others spread around them.
pub(crate) fn place(pods: &mut [Pod], nodes: &[Arc<Node>], previous: &Objects, remarks: &mut Vec<String>) {
    let mut load = Load::default();
    for pod in pods.iter_mut() {
        if let Some(node) = fixed(pod, nodes, previous) {
            load.add(pod, &node);
            pod.spec.node_name = Some(node);
        }
    }
    for pod in pods.iter_mut().filter(|pod| pod.spec.node_name.is_none()) {
        let fitting = nodes.iter().filter(|node| allows(&pod.spec, node));
        if let Some(node) = fitting.map(|node| &node.meta.name).min_by_key(|name| load.of(pod, name)) {
            load.add(pod, node);
            pod.spec.node_name = Some(Arc::clone(node));
        } else {
            let selector = &pod.spec.node_selector;
            remarks.push(format!(
                "{}: Pod {}/{} stays Pending: no node has the labels of its nodeSelector ({selector})",
                pod.meta.location, pod.meta.namespace, pod.meta.name
            ));
        }
    }
}

/// `nodeName`, the node whose pod CIDR has the address it asks for, or the node it was on.
fn fixed(pod: &Pod, nodes: &[Arc<Node>], previous: &Objects) -> Option<Arc<str>> {
    if let Some(name) = &pod.spec.node_name {
        return Some(Arc::clone(name));
    }
    let mut fitting = nodes.iter().filter(|node| allows(&pod.spec, node)).map(|node| (&node.meta.name, node));
    let has_address =
        |node: &Node| pod.pod_ips.iter().any(|address| node.pod_cidrs.iter().any(|cidr| cidr.contains(address)));
    if let Some((name, _)) = fitting.clone().find(|(_, node)| has_address(node)) {
        return Some(Arc::clone(name));
    }
    let before = before(pod, previous)?.spec.node_name.as_ref()?;
    fitting.find(|(name, _)| *name == before).map(|(name, _)| Arc::clone(name))
}

/// The pod of this name in the last expansion.
pub(crate) fn before<'a>(pod: &Pod, previous: &'a Objects) -> Option<&'a Pod> {
    let (namespace, name) = (Arc::clone(&pod.meta.namespace), Arc::clone(&pod.meta.name));
    match previous.get(&ObjectKey { kind: Kind::Pod, namespace, name }) {
        Some(Object::Pod(pod)) => Some(pod),
        _ => None,
    }
}

/// How many pods a node has: of a workload, in all.
#[derive(Default)]
struct Load {
    of_workload: BTreeMap<(Arc<str>, String, Arc<str>), usize>,
    of_node: BTreeMap<Arc<str>, usize>,
}

impl Load {
    fn add(&mut self, pod: &Pod, node: &Arc<str>) {
        *self.of_node.entry(Arc::clone(node)).or_default() += 1;
        if let Some(workload) = labels::workload(pod) {
            let key = (Arc::clone(&pod.meta.namespace), workload.to_owned(), Arc::clone(node));
            *self.of_workload.entry(key).or_default() += 1;
        }
    }

    fn of(&self, pod: &Pod, node: &Arc<str>) -> (usize, usize) {
        let key = labels::workload(pod)
            .map(|workload| (Arc::clone(&pod.meta.namespace), workload.to_owned(), Arc::clone(node)));
        let of_workload = key.and_then(|key| self.of_workload.get(&key).copied());
        (of_workload.unwrap_or(0), self.of_node.get(node).copied().unwrap_or(0))
    }
}
