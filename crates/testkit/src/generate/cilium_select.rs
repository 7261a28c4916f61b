//! Random selectors with sources.

use std::sync::Arc;

use strait_api::{CiliumKey, CiliumRequirement, CiliumSelector, CiliumSource};
use strait_base::Operator;

use super::words::{
    ACCOUNTS, GROUP_LABELS, NAMESPACE_LABELS, NAMESPACES, NO_SUCH, NODE_LABELS, POD_LABELS, SERVICE_LABELS,
};
use crate::draw::Draw;

const NAMESPACE: &str = "io.kubernetes.pod.namespace";
const ACCOUNT: &str = "io.cilium.k8s.policy.serviceaccount";
const CLUSTER: &str = "io.cilium.k8s.policy.cluster";

type Choice = (CiliumKey, Vec<&'static str>);

/// Pods that a policy is for. The namespace is the policy's unless it has none.
pub(super) fn subject_selector(draw: &mut Draw, clusterwide: bool) -> CiliumSelector {
    selector(draw, 35, |draw| match draw.below(12) {
        0 if clusterwide => key(draw, NAMESPACE, &NAMESPACES),
        1 => namespace_label(draw),
        2 => key(draw, ACCOUNT, &ACCOUNTS),
        _ => pod_label(draw),
    })
}

/// Peers: pods, of the policy's namespace or elsewhere; now and then somebody by a reserved label, alone or among others.
pub(super) fn peer_selector(draw: &mut Draw) -> CiliumSelector {
    if draw.chance(6) {
        let name = *draw.pick(&["host", "remote-node", "world", "world-ipv4", "unmanaged", "health", "kube-apiserver"]);
        let key = CiliumKey { source: CiliumSource::Reserved, key: name.into() };
        let mut selector = CiliumSelector::default();
        if draw.chance(80) {
            selector.match_labels.insert(key, "".into());
        } else {
            selector.match_expressions.push(CiliumRequirement { key, operator: Operator::Exists });
        }
        return selector;
    }
    selector(draw, 25, |draw| match draw.below(16) {
        0..=2 => key(draw, NAMESPACE, &NAMESPACES),
        3 | 4 => namespace_label(draw),
        5 => key(draw, ACCOUNT, &ACCOUNTS),
        6 => key(draw, CLUSTER, &["default"]),
        7 if draw.chance(50) => {
            let name = *draw.pick(&["host", "remote-node", "world"]);
            (CiliumKey { source: CiliumSource::Reserved, key: name.into() }, vec![""])
        }
        _ => pod_label(draw),
    })
}

/// Nodes by their labels.
pub(super) fn node_selector(draw: &mut Draw) -> CiliumSelector {
    selector(draw, 35, |draw| plain(draw, &NODE_LABELS))
}

/// CIDR groups by their labels.
pub(super) fn group_selector(draw: &mut Draw) -> CiliumSelector {
    selector(draw, 20, |draw| plain(draw, &GROUP_LABELS))
}

/// Services by their labels.
pub(super) fn service_selector(draw: &mut Draw) -> CiliumSelector {
    selector(draw, 20, |draw| plain(draw, &SERVICE_LABELS))
}

fn pod_label(draw: &mut Draw) -> Choice {
    let (name, values) = *draw.pick(&POD_LABELS);
    key(draw, name, values)
}

fn namespace_label(draw: &mut Draw) -> Choice {
    let (name, values) = *draw.pick(&NAMESPACE_LABELS);
    key(draw, &format!("io.cilium.k8s.namespace.labels.{name}"), values)
}

fn plain(draw: &mut Draw, universe: &[(&'static str, &'static [&'static str])]) -> Choice {
    let (name, values) = *draw.pick(universe);
    (CiliumKey { source: CiliumSource::Any, key: name.into() }, values.to_vec())
}

/// A label of Kubernetes, said so or not.
fn key(draw: &mut Draw, name: &str, values: &[&'static str]) -> Choice {
    let source = if draw.chance(60) { CiliumSource::Any } else { CiliumSource::K8s };
    (CiliumKey { source, key: name.into() }, values.to_vec())
}

fn selector(draw: &mut Draw, empty: usize, mut choose: impl FnMut(&mut Draw) -> Choice) -> CiliumSelector {
    let mut selector = CiliumSelector::default();
    if draw.chance(empty) {
        return selector;
    }
    let value = |draw: &mut Draw, values: &[&'static str]| -> Arc<str> {
        if draw.chance(93) { (*draw.pick(values)).into() } else { NO_SUCH.into() }
    };
    for _ in 0..draw.weighted(&[(2, 0), (5, 1), (1, 2)]) {
        let (key, values) = choose(draw);
        let value = value(draw, &values);
        selector.match_labels.insert(key, value);
    }
    for _ in 0..draw.weighted(&[(5, 0), (4, 1), (1, 2)]) {
        let (key, values) = choose(draw);
        let some = |draw: &mut Draw| (0..draw.between(1, 3)).map(|_| value(draw, &values)).collect();
        let operator = match draw.below(4) {
            0 => Operator::In(some(draw)),
            1 => Operator::NotIn(some(draw)),
            2 => Operator::Exists,
            _ => Operator::DoesNotExist,
        };
        selector.match_expressions.push(CiliumRequirement { key, operator });
    }
    selector
}
