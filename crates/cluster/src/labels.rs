//! The labels and annotations that controllers set, and the hashes in them.

use strait_api::{PodTemplate, Workload, WorkloadKind, write::template_to_json};
use strait_base::Labels;

/// Annotation of a pod that a workload made: `Deployment/web`.
pub const WORKLOAD: &str = "strait.dev/workload";
/// Label of an EndpointSlice: its service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label of an EndpointSlice: who keeps it.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`] of the slices that [`crate::expand`] makes.
pub const SLICES_MANAGED_BY: &str = "cluster.strait.dev";

/// The workload that made `pod`, as `Deployment/web`.
pub fn workload(pod: &strait_api::Pod) -> Option<&str> {
    pod.meta.annotations.get(WORKLOAD).map(|value| &**value)
}

/// How [`WORKLOAD`] names `workload`.
pub(crate) fn workload_name(workload: &Workload) -> String {
    format!("{}/{}", workload.kind.kind(), workload.meta.name)
}

/// Which pod of its workload.
pub(crate) enum Member<'a> {
    Ordinal(u32),
    Node(&'a str),
}

/// The labels of the pod `pod_name`: the template's, and what the controller of its kind adds.
pub(crate) fn of_pod(workload: &Workload, pod_name: &str, member: &Member<'_>) -> Labels {
    let mut labels = workload.template.labels.clone();
    let mut set = |key: &str, value: &str| labels.insert(key, &label_value(value));
    let name = &*workload.meta.name;
    match workload.kind {
        WorkloadKind::Deployment => set("pod-template-hash", &template_hash(&workload.template)),
        WorkloadKind::StatefulSet => {
            set("controller-revision-hash", &format!("{name}-{}", template_hash(&workload.template)));
            set("statefulset.kubernetes.io/pod-name", pod_name);
            if let Member::Ordinal(ordinal) = member {
                set("apps.kubernetes.io/pod-index", &ordinal.to_string());
            }
        }
        WorkloadKind::DaemonSet => {
            set("controller-revision-hash", &template_hash(&workload.template));
            set("pod-template-generation", "1");
        }
        WorkloadKind::Job | WorkloadKind::CronJob => {
            let uid = uid(&["Job", &workload.meta.namespace, name]);
            for (key, value) in [("job-name", name), ("controller-uid", &*uid)] {
                set(key, value);
                set(&format!("batch.kubernetes.io/{key}"), value);
            }
        }
        WorkloadKind::ReplicaSet | WorkloadKind::ReplicationController => {}
    }
    labels
}

/// As the deployment controller: FNV-1a of the template's text, in letters that spell no word
/// (`k8s.io/kubernetes/pkg/controller` `ComputeHash`, `k8s.io/apimachinery/pkg/util/rand` `SafeEncodeString`).
fn template_hash(template: &PodTemplate) -> String {
    let hash = u32::try_from(fnv(template_to_json(template).as_bytes()) & 0xffff_ffff).unwrap_or_default();
    safe_encode(&hash.to_string())
}

/// Five letters that stand for `text`.
pub(crate) fn short_hash(text: &str) -> String {
    safe_encode(&format!("{:05}", fnv(text.as_bytes()) % 100_000))
}

/// A UUID that stays the same for the object these parts name.
fn uid(parts: &[&str]) -> String {
    let high = fnv(parts.join("/").as_bytes());
    let low = fnv(&high.to_be_bytes());
    format!(
        "{:08x}-{:04x}-5{:03x}-a{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}

fn safe_encode(text: &str) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    text.bytes().map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()])).collect()
}

/// FNV-1a, 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// `text` cut to what a label's value may be; names may be longer than that.
fn label_value(text: &str) -> String {
    let cut: String = text.chars().take(63).collect();
    cut.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}
