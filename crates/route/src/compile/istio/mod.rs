//! Istio's gateways, virtual services, destination rules and service entries.
//!
//! ```text
//! gate's workloads ─ selector ─▶ Gateways ─ servers, merged by port ─▶ VirtualServices bound to them, the older first
//!                                                                        └▶ destinations ─▶ Registry ─▶ back ends
//! ```
//!
//! A gate on its own stands for the gateway workloads that upstream's charts install: their labels, and their namespace `istio-system`.

mod bind;
mod delegates;
mod destinations;
mod http;
mod ports;
mod registry;
mod secrets;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use strait_api::{Kind, ObjectKey, ObjectMeta, Objects, istio::Gateway};
use strait_base::Location;

use super::{backends::Backends, world::World};
use crate::{
    addresses::Assigned,
    plan::{PortPlan, Rule},
    slots::Filled,
};

/// The namespace of the gate's workloads, which is the mesh's root namespace as well.
pub(super) const NAMESPACE: &str = "istio-system";

/// The gateway workloads that upstream installs, with their labels.
const WORKLOADS: [(&str, [(&str, &str); 2]); 3] = [
    ("istio-ingressgateway", [("istio", "ingressgateway"), ("app", "istio-ingressgateway")]),
    ("istio-ingress", [("istio", "ingress"), ("app", "istio-ingress")]),
    ("istio-egressgateway", [("istio", "egressgateway"), ("app", "istio-egressgateway")]),
];

/// Addresses by name, as the gate's resolver last got them. A name that was never resolved is not there.
pub type Resolved = BTreeMap<Arc<str>, Vec<IpAddr>>;

/// Something of Istio's objects that is not as their author most likely means it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Trouble {
    /// What sort.
    pub kind: TroubleKind,
    /// The object.
    pub object: ObjectKey,
    /// Where.
    pub location: Location,
    /// What, for people.
    pub message: String,
}

/// Sorts of trouble.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TroubleKind {
    /// A gateway that selects no workload of the gate's.
    NotSelected,
    /// Something that is referred to and not there: what needs it gets a 503, or no handshake.
    Missing,
    /// Two objects that claim the same: the second is never asked.
    Claimed,
    /// A match or an expression that cannot be used: it takes no request.
    Unusable,
}

/// `file:line:col: object: message`.
impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}: {}", self.location, self.object, self.message)
    }
}

/// What came of Istio's objects.
#[derive(Default)]
pub(super) struct Istio {
    pub(super) ports: Vec<PortPlan>,
    pub(super) troubles: Vec<Trouble>,
    pub(super) names: BTreeSet<Arc<str>>,
}

/// The workloads of the gate that gateways select, with these gateways, the older first. One that selects every workload is at all that
/// others select, or at the first.
pub(crate) fn workloads(objects: &Objects) -> BTreeMap<&'static str, Vec<&Arc<Gateway>>> {
    let mut all: Vec<&Arc<Gateway>> = objects.istio_gateways().collect();
    all.sort_by_cached_key(|gateway| age(&gateway.meta));
    let selects = |gateway: &Gateway, labels: &[(&str, &str)]| {
        let has = |(key, value): (&Arc<str>, &Arc<str>)| labels.contains(&(&**key, &**value));
        gateway.selector.iter().all(has)
    };
    let mut out: BTreeMap<&'static str, Vec<&Arc<Gateway>>> = BTreeMap::new();
    for (name, labels) in &WORKLOADS {
        let named = |gateway: &&Arc<Gateway>| !gateway.selector.is_empty() && selects(gateway, labels);
        if all.iter().any(named) {
            out.insert(name, Vec::new());
        }
    }
    if out.is_empty() && !all.is_empty() && all.iter().any(|gateway| gateway.selector.is_empty()) {
        out.insert(WORKLOADS[0].0, Vec::new());
    }
    for (name, labels) in &WORKLOADS {
        if let Some(gateways) = out.get_mut(name) {
            gateways.extend(all.iter().filter(|gateway| selects(gateway, labels)));
        }
    }
    out
}

/// The labels of a workload of the gate's.
fn labels(workload: &str) -> &'static [(&'static str, &'static str)] {
    WORKLOADS.iter().find(|(name, _)| *name == workload).map_or(&[], |(_, labels)| labels)
}

/// What workloads are known by among assigned addresses: no gateway of Kubernetes' has an empty namespace.
pub(crate) fn key(workload: &str) -> (Arc<str>, Arc<str>) {
    ("".into(), workload.into())
}

/// By what one object comes before another of its kind, as istiod sorts them.
fn age(meta: &ObjectMeta) -> (i64, String) {
    (meta.created.unwrap_or(i64::MAX), format!("{}.{}", meta.name, meta.namespace))
}

fn key_of(kind: Kind, meta: &ObjectMeta) -> ObjectKey {
    ObjectKey { kind, namespace: Arc::clone(&meta.namespace), name: Arc::clone(&meta.name) }
}

/// Compiles Istio's objects; adds to `rules` and `backends`.
pub(super) fn compile(
    world: &World<'_>,
    assigned: &Assigned,
    resolved: &Resolved,
    backends: &mut Backends,
    rules: &mut Filled<Rule>,
) -> Istio {
    let objects = world.objects;
    let mut troubles = Vec::new();
    let workloads = workloads(objects);
    let selected: BTreeSet<ObjectKey> =
        workloads.values().flatten().map(|gateway| key_of(Kind::IstioGateway, &gateway.meta)).collect();
    for gateway in objects.istio_gateways() {
        let object = key_of(Kind::IstioGateway, &gateway.meta);
        if !selected.contains(&object) {
            let labels: Vec<String> = gateway.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let known = "istio=ingressgateway, istio=ingress and istio=egressgateway are the gate's";
            let message = format!("the selector {} selects no workload of the gate: {known}", labels.join(","));
            let location = gateway.meta.location.clone();
            troubles.push(Trouble { kind: TroubleKind::NotSelected, object, location, message });
        }
    }
    let registry = registry::Registry::new(world, resolved);
    let mut compiler = http::Compiler::new(registry, backends, rules, troubles);
    let bound = bind::Bound::new(objects, &mut compiler.troubles);
    let mut out = Vec::new();
    for (workload, gateways) in &workloads {
        for address in assigned.get(&key(workload)).into_iter().flatten() {
            out.extend(ports::ports((workload, *address), gateways, &bound, &mut compiler));
        }
    }
    let (mut troubles, names) = compiler.finish();
    troubles.sort();
    troubles.dedup();
    Istio { ports: out, troubles, names }
}
