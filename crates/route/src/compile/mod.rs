//! From objects to a plan and statuses.

mod attach;
mod attachments;
mod backends;
mod certificates;
mod compiler;
mod conflicts;
mod gateway_statuses;
mod gateways;
mod http;
pub(crate) mod istio;
mod overlaps;
mod ports;
mod proxies;
mod sessions;
mod tls;
mod traffic;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use strait_api::{Gateway, GatewayClass, Object, ObjectKey, Objects};

pub use self::{
    attachments::{Attachment, Attachments, Refusal, attachments},
    compiler::{Compiler, Recompiled},
    istio::{Resolved, Trouble, TroubleKind},
};
use crate::{addresses::Assigned, plan::Plan, status::Status};

/// The name of the controller in classes and statuses.
pub const CONTROLLER: &str = "strait.dev/gateway-controller";
/// The class that is known without being declared.
pub const DEFAULT_CLASS: &str = "strait";

pub(crate) const GATEWAY_VERSION: &str = "gateway.networking.k8s.io/v1";

/// What came of a set of objects.
#[derive(Debug, Default)]
pub struct Compiled {
    /// What is served.
    pub plan: Plan,
    /// The status of every Gateway API object that concerns this controller, in order of kind, namespace and name.
    pub statuses: Vec<Status>,
    /// What of Istio's objects is most likely not meant, in order.
    pub troubles: Vec<Trouble>,
    /// Names whose addresses back ends need.
    pub names: BTreeSet<Arc<str>>,
}

impl Compiled {
    /// The gateways among `objects` that are this controller's.
    pub fn gateways(objects: &Objects) -> impl Iterator<Item = &Arc<Gateway>> {
        let classes = classes(objects);
        objects.gateways().filter(move |gateway| classes.contains_key(&*gateway.class_name))
    }
}

/// Which classes are this controller's; the one that is known without being declared unless it is declared for another.
fn classes(objects: &Objects) -> BTreeMap<Arc<str>, Option<Arc<GatewayClass>>> {
    let (ours, others): (Vec<_>, Vec<_>) =
        objects.gateway_classes().partition(|class| &*class.controller_name == CONTROLLER);
    let mut classes: BTreeMap<Arc<str>, Option<Arc<GatewayClass>>> =
        ours.into_iter().map(|class| (Arc::clone(&class.meta.name), Some(Arc::clone(class)))).collect();
    if !others.iter().any(|class| &*class.meta.name == DEFAULT_CLASS) {
        classes.entry(DEFAULT_CLASS.into()).or_insert(None);
    }
    classes
}

/// Compiles `objects`, with the gateways at these addresses. `now` (RFC 3339) is written to conditions.
pub fn compile(objects: &Objects, assigned: &Assigned, now: &str) -> Compiled {
    compile_with(objects, assigned, &Resolved::new(), now)
}

/// As [`compile`], with the addresses of [`Compiled::names`] as far as they are known.
pub fn compile_with(objects: &Objects, assigned: &Assigned, resolved: &Resolved, now: &str) -> Compiled {
    let compiler = compiler(objects, assigned, resolved, now);
    Compiled {
        plan: compiler.plan(),
        statuses: compiler.statuses(),
        troubles: compiler.troubles().cloned().collect(),
        names: compiler.names().clone(),
    }
}

fn compiler(objects: &Objects, assigned: &Assigned, resolved: &Resolved, now: &str) -> Compiler {
    let mut compiler = Compiler::new();
    let all: Vec<ObjectKey> = objects.iter().map(Object::key).collect();
    compiler.update(objects, &all, assigned, resolved, now);
    compiler
}

/// What of Istio's objects and of what proxies are told is most likely not meant, for people who ask before anything is served.
pub fn troubles(objects: &Objects) -> Vec<Trouble> {
    let one = vec![std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)];
    let assigned = istio::selected(objects).into_iter().map(|workload| (istio::key(workload), one.clone())).collect();
    let index = world::Index::default();
    let world = world::World { objects, index: &index };
    let said = Compiled::gateways(objects).flat_map(|gateway| proxies::of_gateway(gateway, &world).notes);
    let of_proxies = said.map(|(object, meta, message)| {
        let location = meta.location;
        Trouble { kind: TroubleKind::NotEnforced, object, location, message }
    });
    let mut all: Vec<Trouble> = compile(objects, &assigned, "").troubles.into_iter().chain(of_proxies).collect();
    all.sort();
    all.dedup();
    all
}
