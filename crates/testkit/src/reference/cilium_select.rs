//! Labels with sources, and selectors over them, as Cilium reads them.

use strait_api::{CiliumKey, CiliumNetworkPolicy, CiliumSelector, CiliumSource, Node, Objects, Pod};
use strait_base::{Labels, Operator};

use super::{Host, Question, cilium::is_api_server, namespace_labels, select};

const NAMESPACE: &str = "io.kubernetes.pod.namespace";
const NAMESPACE_LABELS: &str = "io.cilium.k8s.namespace.labels.";

/// Source, key and value.
pub(super) type Sourced = Vec<(CiliumSource, String, String)>;

/// The labels of a pod, its namespace, its service account and its cluster.
pub(super) fn of_pod(objects: &Objects, pod: &Pod) -> Sourced {
    let mut out = of_labels(&pod.meta.labels);
    let mut derived = |key: &str, value: &str| out.push((CiliumSource::K8s, key.to_owned(), value.to_owned()));
    derived(NAMESPACE, &pod.meta.namespace);
    derived("io.cilium.k8s.policy.serviceaccount", &pod.spec.service_account_name);
    derived("io.cilium.k8s.policy.cluster", "default");
    for (key, value) in namespace_labels(objects, pod).iter() {
        derived(&format!("{NAMESPACE_LABELS}{key}"), value);
    }
    out
}

/// The labels of a node.
pub(super) fn of_node(node: &Node) -> Sourced {
    of_labels(&node.meta.labels)
}

/// Labels that Kubernetes objects carry.
pub(super) fn of_labels(labels: &Labels) -> Sourced {
    labels.iter().map(|(key, value)| (CiliumSource::K8s, key.to_owned(), value.to_owned())).collect()
}

/// What Cilium calls who is no pod, and whoever is the API server.
fn reserved(question: Question<'_>) -> Sourced {
    let mut names = match question.peer.host {
        Host::Pod(_) => vec![],
        Host::Node(_) if question.peer_is_my_node() => vec!["host"],
        Host::Node(_) => vec!["remote-node"],
        Host::Other if !is_world(question) => vec!["unmanaged"],
        Host::Other if question.peer.address.is_ipv6() => vec!["world-ipv6", "world"],
        Host::Other => vec!["world-ipv4", "world"],
    };
    if is_api_server(question) {
        names.push("kube-apiserver");
    }
    names.iter().map(|name| (CiliumSource::Reserved, (*name).to_owned(), String::new())).collect()
}

/// Whether the peer is outside the cluster: no pod, no node, and no address that pods get theirs from.
pub(super) fn is_world(question: Question<'_>) -> bool {
    let mut pod_cidrs = question.objects.nodes().flat_map(|node| &node.pod_cidrs);
    matches!(question.peer.host, Host::Other) && !pod_cidrs.any(|prefix| select::inside(prefix, question.peer.address))
}

/// Whether a peer selector of `policy` selects the peer.
///
/// One that names a reserved label is taken as it is: no namespace is meant. Others are about endpoints: "This is used to describe the
/// relationship if both endpoints are managed by Cilium and are thus assigned labels". One that names no namespace, by name or by label, is
/// about the policy's.
pub(super) fn selects_peer(question: Question<'_>, policy: &CiliumNetworkPolicy, selector: &CiliumSelector) -> bool {
    if keys(selector).any(|key| key.source == CiliumSource::Reserved) {
        let mut labels = reserved(question);
        if let Host::Pod(pod) = question.peer.host {
            labels.extend(of_pod(question.objects, pod));
        }
        return selects(selector, &labels);
    }
    let Host::Pod(pod) = question.peer.host else { return false };
    let elsewhere = |key: &CiliumKey| {
        matches!(key.source, CiliumSource::Any | CiliumSource::K8s)
            && (*key.key == *NAMESPACE || key.key.starts_with(NAMESPACE_LABELS))
    };
    selects(selector, &of_pod(question.objects, pod))
        && (policy.clusterwide || pod.meta.namespace == policy.meta.namespace || keys(selector).any(elsewhere))
}

fn keys(selector: &CiliumSelector) -> impl Iterator<Item = &CiliumKey> {
    selector.match_labels.keys().chain(selector.match_expressions.iter().map(|requirement| &requirement.key))
}

/// Whether all requirements hold. "any" is every source.
pub(super) fn selects(selector: &CiliumSelector, labels: &[(CiliumSource, String, String)]) -> bool {
    let find = |wanted: &CiliumKey| {
        let fits = |source: &CiliumSource| wanted.source == CiliumSource::Any || wanted.source == *source;
        labels.iter().find(|(source, key, _)| fits(source) && **key == *wanted.key).map(|(_, _, value)| value.as_str())
    };
    for (key, wanted) in &selector.match_labels {
        if find(key) != Some(&**wanted) {
            return false;
        }
    }
    for requirement in &selector.match_expressions {
        let present = find(&requirement.key);
        let holds = match (&requirement.operator, present) {
            (Operator::In(values), Some(value)) => values.iter().any(|one| **one == *value),
            (Operator::In(_), None) => false,
            (Operator::NotIn(values), Some(value)) => !values.iter().any(|one| **one == *value),
            (Operator::NotIn(_), None) => true,
            (Operator::Exists, value) => value.is_some(),
            (Operator::DoesNotExist, value) => value.is_none(),
        };
        if !holds {
            return false;
        }
    }
    true
}
