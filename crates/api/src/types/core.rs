//! `v1` and `discovery.k8s.io/v1`: the fields that a network needs.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use strait_base::{Labels, Protocol, Shared};

use super::ObjectMeta;

/// A namespace. Its labels hold `kubernetes.io/metadata.name` (set by the API server, and by the parser here).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Namespace {
    /// What every object carries.
    pub meta: ObjectMeta,
}

/// A node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// What every object carries.
    pub meta: ObjectMeta,
    /// `spec.podCIDRs` (or `podCIDR`), where given.
    pub pod_cidrs: Vec<IpNet>,
    /// `status.addresses` of type `InternalIP`, where given.
    pub addresses: Vec<IpAddr>,
}

/// A pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pod {
    /// What every object carries.
    pub meta: ObjectMeta,
    /// What it runs.
    pub spec: PodSpec,
    /// `status.phase`; `Pending` where not given.
    pub phase: PodPhase,
    /// `status.podIPs` (or `podIP`): at most one of each family; empty where not assigned yet.
    pub pod_ips: Vec<IpAddr>,
}

/// `status.phase`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub enum PodPhase {
    #[default]
    Pending,
    Running,
    Succeeded,
    Failed,
    Unknown,
}

/// What a pod or a pod template runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodSpec {
    /// `nodeName`.
    pub node_name: Option<Arc<str>>,
    /// `nodeSelector`.
    pub node_selector: Labels,
    /// `serviceAccountName`; `default` where not given.
    pub service_account_name: Arc<str>,
    /// `hostNetwork`: it has the node's addresses and is no endpoint of its own.
    pub host_network: bool,
    /// `hostname`.
    pub hostname: Option<Arc<str>>,
    /// `subdomain`.
    pub subdomain: Option<Arc<str>>,
    /// `containers`, then restartable `initContainers` (sidecars).
    pub containers: Shared<Vec<Container>>,
    /// The secrets that `volumes` are of.
    pub secrets: Vec<Arc<str>>,
}

/// A container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Container {
    /// Its name.
    pub name: Arc<str>,
    /// `image`.
    pub image: Option<Arc<str>>,
    /// `command`.
    pub command: Vec<Arc<str>>,
    /// `args`.
    pub args: Vec<Arc<str>>,
    /// `env` entries with a literal value.
    pub env: BTreeMap<Arc<str>, Arc<str>>,
    /// `ports`.
    pub ports: Vec<ContainerPort>,
}

/// A port that a container declares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContainerPort {
    /// Its name, unique in the pod.
    pub name: Option<Arc<str>>,
    /// 1-65535.
    pub container_port: u16,
    /// `hostPort`, 1-65535.
    pub host_port: Option<u16>,
    /// TCP where not given.
    pub protocol: Protocol,
}

/// A number or a name, as Kubernetes' `IntOrString` for ports.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PortRef {
    /// 1-65535.
    Number(u16),
    /// An `IANA_SVC_NAME`.
    Name(Arc<str>),
}

/// A service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// What every object carries.
    pub meta: ObjectMeta,
    /// `spec.type`; `ClusterIP` where not given.
    pub service_type: ServiceType,
    /// `spec.clusterIPs` (or `clusterIP`) that are addresses.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.clusterIP: None`.
    pub headless: bool,
    /// `spec.externalName`.
    pub external_name: Option<Arc<str>>,
    /// `spec.selector`; empty selects no pod.
    pub selector: Labels,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
}

/// `spec.type` of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub enum ServiceType {
    #[default]
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

/// A port of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServicePort {
    /// Its name.
    pub name: Option<Arc<str>>,
    /// The port clients use.
    pub port: u16,
    /// Where it leads; `port` where not given.
    pub target_port: PortRef,
    /// `nodePort`.
    pub node_port: Option<u16>,
    /// TCP where not given.
    pub protocol: Protocol,
    /// `appProtocol`.
    pub app_protocol: Option<Arc<str>>,
}

/// A service account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceAccount {
    /// What every object carries.
    pub meta: ObjectMeta,
}

/// A config map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigMap {
    /// What every object carries.
    pub meta: ObjectMeta,
    /// `data`.
    pub data: BTreeMap<Arc<str>, Arc<str>>,
}

/// A secret. Its values are never printed: `Debug` shows the keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// What every object carries.
    pub meta: ObjectMeta,
    /// `type`; `Opaque` where not given.
    pub secret_type: Arc<str>,
    /// `data`, decoded, with `stringData` over it.
    pub data: BTreeMap<Arc<str>, Vec<u8>>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret")
            .field("meta", &self.meta)
            .field("secret_type", &self.secret_type)
            .field("data", &self.data.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// A slice of a service's endpoints.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointSlice {
    /// What every object carries; `kubernetes.io/service-name` among the labels names the service.
    pub meta: ObjectMeta,
    /// `endpoints`.
    pub endpoints: Vec<SliceEndpoint>,
    /// `ports`: name, protocol, number.
    pub ports: Vec<SlicePort>,
}

/// One endpoint of a slice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SliceEndpoint {
    /// Its addresses, fungible.
    pub addresses: Vec<IpAddr>,
    /// `conditions.ready`; true where not given.
    pub ready: bool,
    /// `conditions.serving`; as `ready` where not given.
    pub serving: bool,
    /// `conditions.terminating`; false where not given.
    pub terminating: bool,
    /// `nodeName`.
    pub node_name: Option<Arc<str>>,
    /// `targetRef` to a pod: its name.
    pub target_pod: Option<Arc<str>>,
}

/// One port of a slice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlicePort {
    /// Its name; empty where not given.
    pub name: Arc<str>,
    /// The number; `None` means all ports.
    pub port: Option<u16>,
    /// TCP where not given.
    pub protocol: Protocol,
}
