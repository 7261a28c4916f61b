//! What pods are in and on, where it is another now: labels of namespaces, and nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ipnet::IpNet;

use super::{Update, node_address};
use crate::{
    connection::Family,
    identity::BaseIdentity,
    plan::IpcacheEntry,
    snapshot::{Node, Pod},
};

impl Update<'_> {
    /// Namespaces have other labels: selectors in force may select other bases, and identities are described otherwise. Which policies
    /// select their pods, the snapshot has found already.
    pub(super) fn settle_namespaces(&mut self, namespaces: &BTreeSet<Arc<str>>) {
        for name in namespaces {
            self.match_in_namespace(name);
        }
        if namespaces.is_empty() {
            return;
        }
        let mut others = Vec::new();
        for (id, info) in &self.plan.identities {
            if let (Some(namespace), Some(account)) = (&info.namespace, &info.service_account)
                && namespaces.contains(namespace)
            {
                let (namespace, service_account) = (Arc::clone(namespace), Arc::clone(account));
                let base = BaseIdentity { namespace, service_account, labels: info.pod_labels.clone() };
                others.push((*id, self.labels_of(&base)));
            }
        }
        for (id, labels) in others {
            if let Some(info) = self.plan.identities.get_mut(&id).filter(|info| info.labels != labels) {
                info.labels = labels;
                self.delta.identities.insert(id);
            }
        }
    }

    fn match_in_namespace(&mut self, name: &Arc<str>) {
        let labels = self.snapshot.namespace(name).cloned().unwrap_or_default();
        for (selector, others) in self.state.match_anew(name, &labels) {
            self.dirty.selectors.insert(selector);
            self.touched.extend(others);
        }
    }

    /// Nodes are others: they are worked out anew, and pods on those whose addresses are others are behind those.
    pub(super) fn take_nodes(&mut self, nodes: &BTreeMap<Arc<str>, Option<Node>>) {
        self.nodes_changed |= !nodes.is_empty();
        let address = |node: Option<&Node>, family| node.and_then(|node| node_address(node, family));
        for (name, old) in nodes {
            let new = self.snapshot.node(name);
            let differs = |family| address(old.as_ref(), family) != address(new, family);
            if differs(Family::V4) || differs(Family::V6) {
                self.moved_nodes.insert(Arc::clone(name));
            }
        }
    }

    pub(super) fn settle_nodes(&mut self) {
        if self.moved_nodes.is_empty() {
            return;
        }
        let snapshot = self.snapshot;
        let moved = std::mem::take(&mut self.moved_nodes);
        let on_one = |pod: &&Pod| pod.node().is_some_and(|node| moved.contains(node));
        for (pod, address) in
            snapshot.pods().filter(on_one).flat_map(|pod| pod.addresses().iter().map(move |a| (pod, a)))
        {
            let prefix = IpNet::from(*address);
            if let Some(entry) = self.plan.ipcache.get(&prefix).copied() {
                let node = pod.node().and_then(|name| snapshot.node(name));
                let node = node.and_then(|node| node_address(node, Family::of(*address)));
                self.set_ipcache(prefix, Some(IpcacheEntry { node, ..entry }));
            }
        }
    }
}
