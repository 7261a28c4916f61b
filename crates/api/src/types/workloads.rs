//! The kinds whose controllers make pods.

use std::{collections::BTreeMap, sync::Arc};

use strait_base::{LabelSelector, Labels, Shared};

use super::{Kind, ObjectMeta, PodSpec};

/// A workload: Deployment, `ReplicaSet`, `StatefulSet`, `DaemonSet`, `ReplicationController`, Job or `CronJob`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workload {
    /// What every object carries.
    pub meta: ObjectMeta,
    /// Which of the kinds.
    pub kind: WorkloadKind,
    /// `spec.replicas` (a job's `parallelism`, at most its `completions`); 1 where not given; not used by a `DaemonSet`.
    pub replicas: u32,
    /// `spec.selector`.
    pub selector: LabelSelector,
    /// `spec.serviceName` of a `StatefulSet`.
    pub service_name: Option<Arc<str>>,
    /// `spec.suspend` of a job or `CronJob`.
    pub suspend: bool,
    /// What its pods look like.
    pub template: PodTemplate,
}

/// `spec.template`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodTemplate {
    /// Labels of the pods.
    pub labels: Labels,
    /// Annotations of the pods.
    pub annotations: Shared<BTreeMap<Arc<str>, Arc<str>>>,
    /// What they run.
    pub spec: PodSpec,
}

/// The workload kinds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub enum WorkloadKind {
    Deployment,
    ReplicaSet,
    StatefulSet,
    DaemonSet,
    ReplicationController,
    Job,
    CronJob,
}

impl WorkloadKind {
    /// As a kind of object.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Deployment => Kind::Deployment,
            Self::ReplicaSet => Kind::ReplicaSet,
            Self::StatefulSet => Kind::StatefulSet,
            Self::DaemonSet => Kind::DaemonSet,
            Self::ReplicationController => Kind::ReplicationController,
            Self::Job => Kind::Job,
            Self::CronJob => Kind::CronJob,
        }
    }
}
