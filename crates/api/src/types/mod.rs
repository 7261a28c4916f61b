//! The typed objects, by API group.

mod cilium;
mod cilium_l7;
mod cluster_network_policy;
mod core;
mod gateway;
pub mod istio;
mod networking;
mod routes;
mod workloads;

use std::{collections::BTreeMap, fmt, sync::Arc};

use strait_base::{Labels, Location, Shared};

pub use self::{
    cilium::*, cilium_l7::*, cluster_network_policy::*, core::*, gateway::*, networking::*, routes::*, workloads::*,
};

/// What every object carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectMeta {
    /// Its name.
    pub name: Arc<str>,
    /// Its namespace; empty for cluster-scoped kinds, `default` where a manifest of a namespaced kind names none.
    pub namespace: Arc<str>,
    /// Its labels.
    pub labels: Labels,
    /// Its annotations.
    pub annotations: Shared<BTreeMap<Arc<str>, Arc<str>>>,
    /// `generation`: how often its spec was changed, as the API server counts; 1 where not given.
    pub generation: i64,
    /// `creationTimestamp` in seconds since 1970; of two objects that claim the same, the older one wins.
    pub created: Option<i64>,
    /// Where the document starts.
    pub location: Location,
}

/// The kinds that are understood.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// `v1`
    Namespace,
    /// `v1`
    Node,
    /// `v1`
    Pod,
    /// `v1`
    Service,
    /// `v1`
    ServiceAccount,
    /// `v1`
    ConfigMap,
    /// `v1`
    Secret,
    /// `discovery.k8s.io/v1`
    EndpointSlice,
    /// `apps/v1`
    Deployment,
    /// `apps/v1`
    ReplicaSet,
    /// `apps/v1`
    StatefulSet,
    /// `apps/v1`
    DaemonSet,
    /// `v1`
    ReplicationController,
    /// `batch/v1`
    Job,
    /// `batch/v1`
    CronJob,
    /// `networking.k8s.io/v1`
    NetworkPolicy,
    /// `cilium.io/v2`
    CiliumNetworkPolicy,
    /// `cilium.io/v2`
    CiliumClusterwideNetworkPolicy,
    /// `cilium.io/v2`: `CiliumCIDRGroup`
    CiliumCidrGroup,
    /// `policy.networking.k8s.io/v1alpha2`
    ClusterNetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha1`
    AdminNetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha1`
    BaselineAdminNetworkPolicy,
    /// `gateway.networking.k8s.io/v1`
    GatewayClass,
    /// `gateway.networking.k8s.io/v1`
    Gateway,
    /// `gateway.networking.k8s.io/v1`
    ListenerSet,
    /// `gateway.networking.k8s.io/v1`
    HttpRoute,
    /// `gateway.networking.k8s.io/v1`
    GrpcRoute,
    /// `gateway.networking.k8s.io/v1`
    TlsRoute,
    /// `gateway.networking.k8s.io/v1`
    TcpRoute,
    /// `gateway.networking.k8s.io/v1`
    UdpRoute,
    /// `gateway.networking.k8s.io/v1`
    ReferenceGrant,
    /// `gateway.networking.k8s.io/v1`
    BackendTlsPolicy,
    /// `gateway.networking.x-k8s.io/v1alpha1`: `XBackendTrafficPolicy`
    BackendTrafficPolicy,
    /// `networking.istio.io/v1`: `Gateway`
    IstioGateway,
    /// `networking.istio.io/v1`
    VirtualService,
    /// `networking.istio.io/v1`
    DestinationRule,
    /// `networking.istio.io/v1`
    ServiceEntry,
    /// `networking.istio.io/v1`
    WorkloadEntry,
}

impl Kind {
    /// The kind as manifests write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::ServiceAccount => "ServiceAccount",
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::EndpointSlice => "EndpointSlice",
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::ReplicationController => "ReplicationController",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::CiliumNetworkPolicy => "CiliumNetworkPolicy",
            Self::CiliumClusterwideNetworkPolicy => "CiliumClusterwideNetworkPolicy",
            Self::CiliumCidrGroup => "CiliumCIDRGroup",
            Self::ClusterNetworkPolicy => "ClusterNetworkPolicy",
            Self::AdminNetworkPolicy => "AdminNetworkPolicy",
            Self::BaselineAdminNetworkPolicy => "BaselineAdminNetworkPolicy",
            Self::GatewayClass => "GatewayClass",
            Self::Gateway | Self::IstioGateway => "Gateway",
            Self::ListenerSet => "ListenerSet",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::TlsRoute => "TLSRoute",
            Self::TcpRoute => "TCPRoute",
            Self::UdpRoute => "UDPRoute",
            Self::ReferenceGrant => "ReferenceGrant",
            Self::BackendTlsPolicy => "BackendTLSPolicy",
            Self::BackendTrafficPolicy => "XBackendTrafficPolicy",
            Self::VirtualService => "VirtualService",
            Self::DestinationRule => "DestinationRule",
            Self::ServiceEntry => "ServiceEntry",
            Self::WorkloadEntry => "WorkloadEntry",
        }
    }

    /// Whether its objects live in no namespace.
    pub const fn cluster_scoped(self) -> bool {
        matches!(
            self,
            Self::Namespace
                | Self::Node
                | Self::CiliumClusterwideNetworkPolicy
                | Self::CiliumCidrGroup
                | Self::ClusterNetworkPolicy
                | Self::AdminNetworkPolicy
                | Self::BaselineAdminNetworkPolicy
                | Self::GatewayClass
        )
    }

    /// Whether an unknown field in it is refused rather than ignored: a misspelt policy must not enforce something else, a misspelt
    /// route not lead elsewhere.
    pub const fn is_strict(self) -> bool {
        self.is_policy()
            || matches!(
                self,
                Self::GatewayClass
                    | Self::Gateway
                    | Self::ListenerSet
                    | Self::HttpRoute
                    | Self::GrpcRoute
                    | Self::TlsRoute
                    | Self::TcpRoute
                    | Self::UdpRoute
                    | Self::ReferenceGrant
                    | Self::BackendTlsPolicy
                    | Self::BackendTrafficPolicy
                    | Self::IstioGateway
                    | Self::VirtualService
                    | Self::DestinationRule
                    | Self::ServiceEntry
                    | Self::WorkloadEntry
            )
    }

    /// Whether it allows or denies traffic in the kernel: in a version that is not served it is an error, as it would silently not
    /// be enforced.
    pub const fn is_policy(self) -> bool {
        matches!(
            self,
            Self::NetworkPolicy
                | Self::CiliumNetworkPolicy
                | Self::CiliumClusterwideNetworkPolicy
                | Self::CiliumCidrGroup
                | Self::ClusterNetworkPolicy
                | Self::AdminNetworkPolicy
                | Self::BaselineAdminNetworkPolicy
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One object of any kind.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "each variant is named after its type")]
pub enum Object {
    Namespace(Arc<Namespace>),
    Node(Arc<Node>),
    Pod(Arc<Pod>),
    Service(Arc<Service>),
    ServiceAccount(Arc<ServiceAccount>),
    ConfigMap(Arc<ConfigMap>),
    Secret(Arc<Secret>),
    EndpointSlice(Arc<EndpointSlice>),
    Workload(Arc<Workload>),
    NetworkPolicy(Arc<NetworkPolicy>),
    CiliumNetworkPolicy(Arc<CiliumNetworkPolicy>),
    CiliumCidrGroup(Arc<CiliumCidrGroup>),
    ClusterNetworkPolicy(Arc<ClusterNetworkPolicy>),
    GatewayClass(Arc<GatewayClass>),
    Gateway(Arc<Gateway>),
    ListenerSet(Arc<ListenerSet>),
    Route(Arc<Route>),
    ReferenceGrant(Arc<ReferenceGrant>),
    BackendTlsPolicy(Arc<BackendTlsPolicy>),
    BackendTrafficPolicy(Arc<BackendTrafficPolicy>),
    IstioGateway(Arc<istio::Gateway>),
    VirtualService(Arc<istio::VirtualService>),
    DestinationRule(Arc<istio::DestinationRule>),
    ServiceEntry(Arc<istio::ServiceEntry>),
    WorkloadEntry(Arc<istio::WorkloadEntry>),
}

impl Object {
    /// What every object carries.
    pub fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Namespace(object) => &object.meta,
            Self::Node(object) => &object.meta,
            Self::Pod(object) => &object.meta,
            Self::Service(object) => &object.meta,
            Self::ServiceAccount(object) => &object.meta,
            Self::ConfigMap(object) => &object.meta,
            Self::Secret(object) => &object.meta,
            Self::EndpointSlice(object) => &object.meta,
            Self::Workload(object) => &object.meta,
            Self::NetworkPolicy(object) => &object.meta,
            Self::CiliumNetworkPolicy(object) => &object.meta,
            Self::CiliumCidrGroup(object) => &object.meta,
            Self::ClusterNetworkPolicy(object) => &object.meta,
            Self::GatewayClass(object) => &object.meta,
            Self::Gateway(object) => &object.meta,
            Self::ListenerSet(object) => &object.meta,
            Self::Route(object) => &object.meta,
            Self::ReferenceGrant(object) => &object.meta,
            Self::BackendTlsPolicy(object) => &object.meta,
            Self::BackendTrafficPolicy(object) => &object.meta,
            Self::IstioGateway(object) => &object.meta,
            Self::VirtualService(object) => &object.meta,
            Self::DestinationRule(object) => &object.meta,
            Self::ServiceEntry(object) => &object.meta,
            Self::WorkloadEntry(object) => &object.meta,
        }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespace,
            Self::Node(_) => Kind::Node,
            Self::Pod(_) => Kind::Pod,
            Self::Service(_) => Kind::Service,
            Self::ServiceAccount(_) => Kind::ServiceAccount,
            Self::ConfigMap(_) => Kind::ConfigMap,
            Self::Secret(_) => Kind::Secret,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Workload(object) => object.kind.kind(),
            Self::NetworkPolicy(_) => Kind::NetworkPolicy,
            Self::CiliumNetworkPolicy(object) if object.clusterwide => Kind::CiliumClusterwideNetworkPolicy,
            Self::CiliumNetworkPolicy(_) => Kind::CiliumNetworkPolicy,
            Self::CiliumCidrGroup(_) => Kind::CiliumCidrGroup,
            Self::ClusterNetworkPolicy(object) => object.kind.kind(),
            Self::GatewayClass(_) => Kind::GatewayClass,
            Self::Gateway(_) => Kind::Gateway,
            Self::ListenerSet(_) => Kind::ListenerSet,
            Self::Route(object) => object.kind(),
            Self::ReferenceGrant(_) => Kind::ReferenceGrant,
            Self::BackendTlsPolicy(_) => Kind::BackendTlsPolicy,
            Self::BackendTrafficPolicy(_) => Kind::BackendTrafficPolicy,
            Self::IstioGateway(_) => Kind::IstioGateway,
            Self::VirtualService(_) => Kind::VirtualService,
            Self::DestinationRule(_) => Kind::DestinationRule,
            Self::ServiceEntry(_) => Kind::ServiceEntry,
            Self::WorkloadEntry(_) => Kind::WorkloadEntry,
        }
    }
}
