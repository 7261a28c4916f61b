//! Base identities: namespace, service account and security-relevant labels.

use std::{fmt, sync::Arc};

use strait_base::{LabelSelector, Labels};

/// What a workload's cluster-wide identity stands for. Pods with equal ones share a number.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct BaseIdentity {
    pub namespace: Arc<str>,
    pub service_account: Arc<str>,
    /// Pod labels without those that [`is_relevant`] leaves out.
    pub labels: Labels,
}

/// The key an allocator remembers it by. Injective: label keys and values hold neither `;` nor `=` nor `,`.
impl fmt::Display for BaseIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ns={};sa={};{}", self.namespace, self.service_account, self.labels)
    }
}

/// Beginnings of keys that controllers and kubelets set: they differ by pod, roll-out or node and say nothing about the workload.
const IRRELEVANT: [&str; 14] = [
    "annotation.",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/",
    "controller-revision-hash",
    "controller-uid",
    "etcd_node",
    "io.kubernetes",
    "job-completion-index",
    "job-name",
    "k8s.io",
    "kubernetes.io",
    "pod-template-generation",
    "pod-template-hash",
    "statefulset.kubernetes.io/pod-name",
];

/// Whether a pod label of this key is part of the identity: Cilium's default filter (`pkg/labelsfilter`), and without job names,
/// which are new with every run of a `CronJob`. A policy may still select by the others: they refine the identity then.
pub(crate) fn is_relevant(key: &str) -> bool {
    !key.contains("beta.kubernetes.io") && !IRRELEVANT.iter().any(|prefix| key.starts_with(prefix))
}

/// `labels` as far as they are part of the identity.
pub(crate) fn relevant(labels: &Labels) -> Labels {
    if labels.iter().all(|(key, _)| is_relevant(key)) {
        return labels.clone();
    }
    Labels(
        labels
            .0
            .iter()
            .filter(|(key, _)| is_relevant(key))
            .map(|(key, value)| (Arc::clone(key), Arc::clone(value)))
            .collect::<std::collections::BTreeMap<_, _>>()
            .into(),
    )
}

/// Whether a selector can tell pods of one base identity apart.
pub(crate) fn refines(selector: &LabelSelector) -> bool {
    selector.match_labels.iter().any(|(key, _)| !is_relevant(key))
        || selector.match_expressions.iter().any(|requirement| !is_relevant(&requirement.key))
}
