//! One generation of what the agent knows: objects, what they mean, and what is enforced of it.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::Arc,
};

use strait_api::{CiliumPeers, Kind, Object, ObjectKey, Objects};
use strait_base::IdentityId;
use strait_flow::{PolicyMatch, PolicyRef, Workload};
use strait_model::{Compiler, Direction, LocalNode, NodePlan, Origin, OriginId, PlanDelta, PodKey, Snapshot};

/// Origin ids of this many past plans can still be named: events are read a little after they happened.
const PAST_PLANS: usize = 4;

/// Nodes that are named where another one is not known.
const NODES_NAMED: usize = 5;

/// A generation.
pub(crate) struct View {
    pub(crate) snapshot: Snapshot,
    pub(crate) plan: NodePlan,
    /// The policies as they are written.
    policies: Objects,
    /// Identities of workloads that this node knows by refinements alone, and one of those each.
    refined: BTreeMap<IdentityId, IdentityId>,
    past_origins: VecDeque<BTreeMap<OriginId, Vec<Origin>>>,
}

impl View {
    /// Before anything is known.
    pub(crate) fn empty() -> Self {
        Self {
            snapshot: Snapshot::new(&Objects::default()),
            plan: NodePlan::default(),
            policies: Objects::default(),
            refined: BTreeMap::new(),
            past_origins: VecDeque::new(),
        }
    }

    /// The first generation, of these objects.
    pub(crate) fn begin(&mut self, objects: &Objects, compiler: &mut Compiler, local: &LocalNode) {
        self.snapshot = Snapshot::seen_from(objects, local.clone());
        self.plan = compiler.compile(&self.snapshot, &local.name);
        self.policies = objects.iter().filter(|object| is_policy(object.kind())).cloned().collect();
        self.refined = refined(&self.plan);
    }

    /// The generation after this one, of objects that differ in `keys`, and how its plan differs.
    pub(crate) fn follow(
        &mut self,
        objects: &Objects,
        keys: &[ObjectKey],
        compiler: &mut Compiler,
        local: &LocalNode,
    ) -> PlanDelta {
        for key in keys.iter().filter(|key| is_policy(key.kind)) {
            match objects.get(key) {
                Some(policy) => self.policies.replace(policy.clone()),
                None => drop(self.policies.remove(key)),
            }
        }
        let delta = self.snapshot.update_from(objects, keys, local);
        // Where everything is compiled anew, the origins of before are not told.
        let before = if delta.is_everything() { self.plan.origins.clone() } else { BTreeMap::new() };
        let mut changes = compiler.advance(&self.snapshot, &delta, &local.name, &mut self.plan);
        let past = if changes.everything { before } else { std::mem::take(&mut changes.origins) };
        if past.iter().any(|(id, origins)| self.plan.origins.get(id) != Some(origins)) {
            self.past_origins.push_front(past);
            self.past_origins.truncate(PAST_PLANS);
        }
        if changes.everything || !changes.identities.is_empty() {
            self.refined = refined(&self.plan);
        }
        changes
    }

    /// The pod that has this address.
    pub(crate) fn pod_at(&self, address: IpAddr) -> Option<&PodKey> {
        self.snapshot.pod_at(address)
    }

    /// The workload that a pod belongs to.
    pub(crate) fn workload(&self, pod: &PodKey) -> Option<Workload> {
        let (kind, name) = self.snapshot.pod(pod)?.workload()?.split_once('/')?;
        Some(Workload { name: name.into(), kind: kind.into() })
    }

    /// The number that people know a workload or node by, in place of one of this node's refinements of it.
    pub(crate) fn cluster_wide(&self, identity: IdentityId) -> IdentityId {
        let refined = (identity.0 >= IdentityId::LOCAL_NODE).then(|| self.plan.identities.get(&identity)).flatten();
        refined.and_then(|info| info.refined_from).unwrap_or(identity)
    }

    /// The labels of an identity, shared by all who carry them.
    pub(crate) fn labels(&self, identity: IdentityId) -> Vec<Arc<str>> {
        let identities = &self.plan.identities;
        let known = identities.get(&identity).or_else(|| identities.get(self.refined.get(&identity)?));
        match (known, identity.reserved_name()) {
            (Some(info), _) => info.labels.clone(),
            (None, Some(name)) => vec![format!("reserved:{name}").into()],
            (None, None) => Vec::new(),
        }
    }

    /// What an origin id of a plan stands for.
    pub(crate) fn origins(&self, id: OriginId) -> &[Origin] {
        std::iter::once(&self.plan.origins)
            .chain(&self.past_origins)
            .find_map(|origins| origins.get(&id).filter(|origins| !origins.is_empty()))
            .map_or(&[], Vec::as_slice)
    }

    /// How much the first rule among `origins` looks at.
    pub(crate) fn policy_match(&self, origins: &[Origin]) -> PolicyMatch {
        match origins.iter().find_map(|origin| rule_breadth(&self.policies, origin)) {
            None => PolicyMatch::None,
            Some((true, true)) => PolicyMatch::All,
            Some((false, true)) => PolicyMatch::L3Only,
            Some((true, false)) => PolicyMatch::L4Only,
            Some((false, false)) => PolicyMatch::L3L4,
        }
    }
}

/// Kinds of policies.
const POLICIES: [Kind; 6] = [
    Kind::NetworkPolicy,
    Kind::CiliumNetworkPolicy,
    Kind::CiliumClusterwideNetworkPolicy,
    Kind::ClusterNetworkPolicy,
    Kind::AdminNetworkPolicy,
    Kind::BaselineAdminNetworkPolicy,
];

fn is_policy(kind: Kind) -> bool {
    POLICIES.contains(&kind)
}

/// What is odd about serving `node`: no manifest has it or places a pod on it. A slip of the pen, or too early.
pub(crate) fn unknown_node(objects: &Objects, node: &str) -> Option<String> {
    let named = objects.nodes().any(|known| &*known.meta.name == node);
    if named || objects.pods().any(|pod| pod.spec.node_name.as_deref() == Some(node)) {
        return None;
    }
    let mut known: Vec<&str> = objects.nodes().map(|node| &*node.meta.name).take(NODES_NAMED + 1).collect();
    let more = if known.len() > NODES_NAMED { ", …" } else { "" };
    known.truncate(NODES_NAMED);
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Some(format!(
        "no manifest has the node {node} or places a pod on it: every endpoint here is closed; \
         nodes in manifests: {known}{more} (`--node` names the one that this agent serves)"
    ))
}

/// Whether the rule that `origin` names is for every peer, and whether for every port.
fn rule_breadth(objects: &Objects, origin: &Origin) -> Option<(bool, bool)> {
    let kind = POLICIES.into_iter().find(|kind| kind.as_str() == &*origin.kind)?;
    let key = ObjectKey { kind, namespace: Arc::clone(&origin.namespace), name: Arc::clone(&origin.name) };
    let index = usize::try_from(origin.rule?).ok()?;
    let ingress = origin.direction == Direction::Ingress;
    match objects.get(&key)? {
        Object::NetworkPolicy(policy) => {
            let rule = if ingress { &policy.ingress } else { &policy.egress }.get(index)?;
            Some((rule.peers.is_empty(), rule.ports.is_empty()))
        }
        Object::CiliumNetworkPolicy(policy) => {
            // By its place: there are two sections a direction, in each of any number of specs.
            let sections = policy.rules.iter().flat_map(|spec| {
                if ingress { [&spec.ingress, &spec.ingress_deny] } else { [&spec.egress, &spec.egress_deny] }
            });
            let rule = sections.flatten().find(|rule| rule.location == origin.location)?;
            Some((rule.peers == CiliumPeers::Any, rule.ports.is_empty() && rule.icmps.is_empty()))
        }
        Object::ClusterNetworkPolicy(policy) => {
            let rule = if ingress { &policy.ingress } else { &policy.egress }.get(index)?;
            Some((false, rule.ports.is_empty()))
        }
        Object::Namespace(_)
        | Object::Node(_)
        | Object::Pod(_)
        | Object::Service(_)
        | Object::ServiceAccount(_)
        | Object::ConfigMap(_)
        | Object::Secret(_)
        | Object::EndpointSlice(_)
        | Object::Workload(_)
        | Object::CiliumCidrGroup(_)
        | Object::GatewayClass(_)
        | Object::Gateway(_)
        | Object::ListenerSet(_)
        | Object::Route(_)
        | Object::ReferenceGrant(_)
        | Object::BackendTlsPolicy(_)
        | Object::BackendTrafficPolicy(_)
        | Object::IstioGateway(_)
        | Object::VirtualService(_)
        | Object::DestinationRule(_)
        | Object::ServiceEntry(_)
        | Object::WorkloadEntry(_) => None,
    }
}

/// The first refinement of each workload that the plan has no identity of its own for: a remote one may be known by refinements alone.
fn refined(plan: &NodePlan) -> BTreeMap<IdentityId, IdentityId> {
    let mut refined = BTreeMap::new();
    for (id, info) in plan.identities.range(IdentityId(IdentityId::LOCAL_WORKLOAD)..) {
        if let Some(whole) = info.refined_from.filter(|whole| !plan.identities.contains_key(whole)) {
            refined.entry(whole).or_insert(*id);
        }
    }
    refined
}

/// An origin as flow records carry it.
pub(crate) fn flow_origin(origin: &Origin) -> strait_flow::Origin {
    strait_flow::Origin {
        kind: Arc::clone(&origin.kind),
        namespace: Arc::clone(&origin.namespace),
        name: Arc::clone(&origin.name),
        rule: origin.rule,
        file: Arc::clone(&origin.location.file),
        line: origin.location.line,
        column: origin.location.column,
    }
}

/// The policies behind `origins`, each once.
pub(crate) fn policies(origins: &[Origin], revision: u32) -> Vec<PolicyRef> {
    let mut policies: Vec<PolicyRef> = Vec::new();
    for origin in origins {
        let policy = PolicyRef {
            name: Arc::clone(&origin.name),
            namespace: Arc::clone(&origin.namespace),
            kind: Arc::clone(&origin.kind),
            revision: u64::from(revision),
        };
        if !policies.contains(&policy) {
            policies.push(policy);
        }
    }
    policies
}
