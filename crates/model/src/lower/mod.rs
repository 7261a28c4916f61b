//! From objects as users write them to the IR, a file for each kind.

mod cilium;
pub mod cilium_selector;
mod cluster;
mod network_policy;

use std::sync::Arc;

use strait_api::{CiliumNetworkPolicy, NetworkPolicy, ObjectMeta, Objects};
use strait_base::LabelSelector;

pub(crate) use self::cilium::References;
use crate::{
    problem::{Lack, Problem},
    rule::{EndpointSelector, NamespaceSelector, PeerSelector, Policy},
};

/// On a policy: it reports what it would deny, and enforces nothing.
const AUDIT_ANNOTATION: &str = "strait.dev/audit";

/// What objects are lowered to, and what of them is not enforced as it is written.
#[derive(Default)]
pub(crate) struct Lowered {
    pub policies: Vec<Policy>,
    pub problems: Vec<Problem>,
}

pub(crate) fn network_policy(object: &NetworkPolicy) -> Lowered {
    Lowered { policies: vec![network_policy::lower(object)], problems: Vec::new() }
}

pub(crate) fn cilium(object: &CiliumNetworkPolicy, references: &References<'_>) -> Lowered {
    let mut problems = Vec::new();
    Lowered { policies: cilium::lower(object, references, &mut problems), problems }
}

/// The tiers around: of each policy the rank depends on the others.
pub(crate) fn tiers(objects: &Objects) -> Lowered {
    let mut problems = Vec::new();
    Lowered { policies: cluster::lower(objects, &mut problems), problems }
}

/// Whether a policy reports what it would deny, and enforces nothing.
pub fn audits(meta: &ObjectMeta) -> bool {
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
