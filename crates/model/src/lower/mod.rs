//! From objects as users write them to the IR, a file for each kind.

mod cilium;
mod cilium_selector;
mod cluster;
mod network_policy;

use std::sync::Arc;

use strait_api::{ObjectMeta, Objects};
use strait_base::LabelSelector;

use crate::{
    problem::{Lack, Problem},
    rule::{EndpointSelector, NamespaceSelector, PeerSelector, Policy},
};

/// On a policy: it reports what it would deny, and enforces nothing.
const AUDIT_ANNOTATION: &str = "strait.dev/audit";

/// All policies, those of a kind together, and what of them is not enforced as it is written.
pub(crate) fn lower(objects: &Objects) -> (Vec<Policy>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut policies: Vec<_> = objects.network_policies().map(|policy| network_policy::lower(policy)).collect();
    let references = cilium::References::new(objects);
    for policy in objects.cilium_policies() {
        policies.extend(cilium::lower(policy, &references, &mut problems));
    }
    policies.extend(cluster::lower(objects, &mut problems));
    problems.sort_unstable();
    problems.dedup();
    (policies, problems)
}

fn audits(meta: &ObjectMeta) -> bool {
    meta.annotations.get(AUDIT_ANNOTATION).is_some_and(|value| **value == *"true")
}

fn pods(namespaces: &LabelSelector, pods: &LabelSelector) -> PeerSelector {
    PeerSelector::Endpoints(EndpointSelector::new(NamespaceSelector::Labelled(namespaces.clone()), pods.clone()))
}

fn problem(lacks: Lack, kind: &Arc<str>, meta: &ObjectMeta, location: &strait_base::Location) -> Problem {
    Problem {
        lacks,
        kind: Arc::clone(kind),
        namespace: Arc::clone(&meta.namespace),
        name: Arc::clone(&meta.name),
        location: location.clone(),
    }
}
