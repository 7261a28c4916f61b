//! Istio's gateways, virtual services, destination rules and service entries.
//!
//! ```text
//! gate's workloads ─ selector ─▶ Gateways ─ servers, merged by port ─▶ VirtualServices bound to them, the older first
//!                                                                        └▶ destinations ─▶ Registry ─▶ back ends
//! ```
//!
//! What each object brought with it is known, so that a change costs what it touches: a virtual service that is another is taken out of the tables
//! of its hosts and put in again, a destination whose service, rules or endpoints are others keeps its number, and a socket is put together
//! anew where its servers are others.
//!
//! A gate on its own stands for the gateway workloads that upstream's charts install: their labels, and their namespace `istio-system`.

mod bind;
mod delegates;
mod destinations;
mod follow;
mod groups;
mod http;
mod passed;
mod ports;
mod registry;
mod secrets;
mod servers;
mod services;
mod troubles;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use strait_api::{Kind, ObjectKey, ObjectMeta, Objects, istio::Gateway};
use strait_base::Location;

pub(super) use self::follow::{Istio, Parts};

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
    /// Something that is read and not gone by.
    NotEnforced,
}

/// `file:line:col: object: message`.
impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}: {}", self.location, self.object, self.message)
    }
}

fn selects(gateway: &Gateway, labels: &[(&str, &str)]) -> bool {
    let has = |(key, value): (&Arc<str>, &Arc<str>)| labels.contains(&(&**key, &**value));
    gateway.selector.iter().all(has)
}

/// The workloads of the gate that gateways select: those that one names by its labels. One that selects every workload is at all that others
/// select, or at the first. In order of their names.
pub(crate) fn selected(objects: &Objects) -> Vec<&'static str> {
    let named = |labels: &[(&str, &str)]| {
        objects.istio_gateways().any(|gateway| !gateway.selector.is_empty() && selects(gateway, labels))
    };
    let mut out: Vec<&str> = WORKLOADS.iter().filter(|(_, labels)| named(labels)).map(|(name, _)| *name).collect();
    out.sort_unstable();
    let first = WORKLOADS.iter().take(1).map(|(name, _)| *name);
    let wide = || objects.istio_gateways().any(|gateway| gateway.selector.is_empty());
    if out.is_empty() && wide() { first.collect() } else { out }
}

/// These workloads with the gateways that select them, the older first.
fn workloads(objects: &Objects) -> BTreeMap<&'static str, Vec<&Arc<Gateway>>> {
    let mut all: Vec<&Arc<Gateway>> = objects.istio_gateways().collect();
    all.sort_by_cached_key(|gateway| age(&gateway.meta));
    let of = |name| {
        let labels = labels(name);
        (name, all.iter().copied().filter(|gateway| selects(gateway, labels)).collect())
    };
    selected(objects).into_iter().map(of).collect()
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
type Age = (i64, Arc<str>);

fn age(meta: &ObjectMeta) -> Age {
    (meta.created.unwrap_or(i64::MAX), format!("{}.{}", meta.name, meta.namespace).into())
}

fn key_of(kind: Kind, meta: &ObjectMeta) -> ObjectKey {
    ObjectKey { kind, namespace: Arc::clone(&meta.namespace), name: Arc::clone(&meta.name) }
}
