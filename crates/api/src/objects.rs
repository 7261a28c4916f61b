//! An indexed set of objects.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use crate::types::{
    BackendTlsPolicy, BackendTrafficPolicy, CiliumCidrGroup, CiliumNetworkPolicy, ClusterNetworkPolicy, ConfigMap,
    EndpointSlice, Gateway, GatewayClass, Kind, ListenerSet, Namespace, NetworkPolicy, Node, Object, Pod,
    ReferenceGrant, Route, Secret, Service, ServiceAccount, Workload, istio,
};

/// Names one object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// `kind/namespace/name`, or `kind/name` without a namespace.
impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/", self.kind)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        write!(f, "{}", self.name)
    }
}

/// Objects by key, in order. Cloning is as cheap as cloning the index; objects are shared.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Objects {
    by_key: BTreeMap<ObjectKey, Object>,
}

impl Object {
    /// What names it.
    pub fn key(&self) -> ObjectKey {
        let meta = self.meta();
        ObjectKey { kind: self.kind(), namespace: Arc::clone(&meta.namespace), name: Arc::clone(&meta.name) }
    }
}

macro_rules! of_kind {
    ($($(#[$doc:meta])* $method:ident: $variant:ident($type:ty) $(in $kind:ident)?;)*) => {
        $($(#[$doc])* pub fn $method(&self) -> impl Iterator<Item = &Arc<$type>> {
            of_kind!(self $(, $kind)?).filter_map(|object| match object {
                Object::$variant(inner) => Some(inner),
                _ => None,
            })
        })*
    };
    ($self:ident, $kind:ident) => { $self.of(Kind::$kind) };
    ($self:ident) => { $self.by_key.values() };
}

impl Objects {
    of_kind! {
        /// All namespaces that manifests declare. A namespace may be used without being declared.
        namespaces: Namespace(Namespace) in Namespace;
        /// All nodes.
        nodes: Node(Node);
        /// All pods.
        pods: Pod(Pod) in Pod;
        /// All services.
        services: Service(Service) in Service;
        /// All service accounts.
        service_accounts: ServiceAccount(ServiceAccount);
        /// All config maps.
        config_maps: ConfigMap(ConfigMap);
        /// All secrets.
        secrets: Secret(Secret);
        /// All endpoint slices.
        endpoint_slices: EndpointSlice(EndpointSlice) in EndpointSlice;
        /// All workloads.
        workloads: Workload(Workload);
        /// All network policies.
        network_policies: NetworkPolicy(NetworkPolicy);
        /// All Cilium network policies, namespaced and clusterwide.
        cilium_policies: CiliumNetworkPolicy(CiliumNetworkPolicy);
        /// All Cilium CIDR groups.
        cilium_cidr_groups: CiliumCidrGroup(CiliumCidrGroup);
        /// All cluster network policies, and the admin and baseline admin network policies of before.
        cluster_policies: ClusterNetworkPolicy(ClusterNetworkPolicy);
        /// All gateway classes.
        gateway_classes: GatewayClass(GatewayClass) in GatewayClass;
        /// All gateways.
        gateways: Gateway(Gateway) in Gateway;
        /// All listener sets.
        listener_sets: ListenerSet(ListenerSet) in ListenerSet;
        /// All routes, of every kind.
        routes: Route(Route);
        /// All reference grants.
        reference_grants: ReferenceGrant(ReferenceGrant) in ReferenceGrant;
        /// All policies of TLS to back ends.
        backend_tls_policies: BackendTlsPolicy(BackendTlsPolicy) in BackendTlsPolicy;
        /// All policies of traffic to back ends.
        backend_traffic_policies: BackendTrafficPolicy(BackendTrafficPolicy) in BackendTrafficPolicy;
        /// All gateways of Istio's.
        istio_gateways: IstioGateway(istio::Gateway) in IstioGateway;
        /// All virtual services.
        virtual_services: VirtualService(istio::VirtualService) in VirtualService;
        /// All destination rules.
        destination_rules: DestinationRule(istio::DestinationRule) in DestinationRule;
        /// All service entries.
        service_entries: ServiceEntry(istio::ServiceEntry) in ServiceEntry;
        /// All workload entries.
        workload_entries: WorkloadEntry(istio::WorkloadEntry) in WorkloadEntry;
    }

    /// All objects of a kind.
    fn of(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        let first = ObjectKey { kind, namespace: "".into(), name: "".into() };
        self.by_key.range(first..).take_while(move |(key, _)| key.kind == kind).map(|(_, object)| object)
    }

    /// The keys of all that is new, another or gone since `before`.
    pub fn differing(&self, before: &Self) -> Vec<ObjectKey> {
        let other = |(key, object): &(&ObjectKey, &Object)| before.by_key.get(key) != Some(object);
        let gone = before.by_key.keys().filter(|key| !self.by_key.contains_key(key));
        self.by_key.iter().filter(other).map(|(key, _)| key).chain(gone).cloned().collect()
    }

    /// Adds `object` if nothing has its key yet; gives the object that stands in its way back otherwise.
    pub fn insert(&mut self, object: Object) -> Result<(), Object> {
        match self.by_key.entry(object.key()) {
            Entry::Vacant(slot) => {
                slot.insert(object);
                Ok(())
            }
            Entry::Occupied(slot) => Err(slot.get().clone()),
        }
    }

    /// Adds `object`, in place of one with the same key.
    pub fn replace(&mut self, object: Object) {
        self.by_key.insert(object.key(), object);
    }

    /// Takes the object of this key out.
    pub fn remove(&mut self, key: &ObjectKey) -> Option<Object> {
        self.by_key.remove(key)
    }

    /// The object of this key.
    pub fn get(&self, key: &ObjectKey) -> Option<&Object> {
        self.by_key.get(key)
    }

    /// All objects, in order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = &Object> {
        self.by_key.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

impl FromIterator<Object> for Objects {
    /// Of several with one key the last stays.
    fn from_iter<T: IntoIterator<Item = Object>>(objects: T) -> Self {
        Self { by_key: objects.into_iter().map(|object| (object.key(), object)).collect() }
    }
}
