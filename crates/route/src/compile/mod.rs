//! From objects to a plan and statuses.

mod attach;
mod attachments;
mod backends;
mod conflicts;
mod gateways;
mod http;
pub(crate) mod istio;
mod ports;
mod sessions;
mod tls;
mod traffic;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::json;
use strait_api::{Gateway, GatewayClass, Kind, ObjectKey, Objects};

pub use self::attachments::{Attachment, Attachments, Refusal, attachments};
pub use self::istio::{Resolved, Trouble, TroubleKind};
use self::{backends::Backends, gateways::GatewayState, world::World};
use crate::{
    addresses::Assigned,
    plan::{Plan, WeightedBackend},
    status::{Condition, SUPPORTED_FEATURES, Status, conditions},
};

/// The name of the controller in classes and statuses.
pub const CONTROLLER: &str = "strait.dev/gateway-controller";
/// The class that is known without being declared.
pub const DEFAULT_CLASS: &str = "strait";

const GATEWAY_VERSION: &str = "gateway.networking.k8s.io/v1";

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
    /// Takes from the statuses of before when each condition last changed, where it did not change since.
    pub fn keep_times(&mut self, before: &[Status]) {
        // Both are in order.
        for status in &mut self.statuses {
            if let Ok(found) = before.binary_search_by(|other| other.object.cmp(&status.object)) {
                status.keep_times(&before[found]);
            }
        }
    }

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
    compile_and_tell(objects, assigned, resolved, now, None)
}

/// What of Istio's objects is most likely not meant, for people who ask before anything is served.
pub fn troubles(objects: &Objects) -> Vec<Trouble> {
    let one = vec![std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)];
    let assigned = istio::workloads(objects).into_keys().map(|workload| (istio::key(workload), one.clone())).collect();
    compile(objects, &assigned, "").troubles
}

fn compile_and_tell(
    objects: &Objects,
    assigned: &Assigned,
    resolved: &Resolved,
    now: &str,
    tell: Option<&mut Attachments>,
) -> Compiled {
    let world = World::new(objects);
    let mut backends = Backends::default();
    let classes = classes(objects);
    let mut gateways: Vec<GatewayState<'_>> = objects
        .gateways()
        .filter(|gateway| classes.contains_key(&*gateway.class_name))
        .map(|gateway| GatewayState::new(gateway, &world, &mut backends, assigned))
        .collect();
    let mut statuses = class_statuses(&classes, now);
    statuses.extend(gateways::attach_listener_sets(&mut gateways, &world, &mut backends, now));
    for state in &mut gateways {
        state.find_conflicts();
    }
    let attached = attach::routes(&mut gateways, &world, &mut backends, now, tell);
    statuses.extend(attached.statuses);
    statuses.extend(gateways.iter().map(|gateway| gateway.status(now)));
    statuses.extend(gateways::listener_set_statuses(&gateways, now));
    statuses.extend(backends.policy_statuses(&world, now));
    statuses.sort_by(|a, b| a.object.cmp(&b.object));
    let mut ports = ports::ports(&gateways, attached.http, attached.l4);
    let mut rules = attached.rules;
    let istio = istio::compile(&world, assigned, resolved, &mut backends, &mut rules);
    ports.extend(istio.ports);
    ports.sort_by_key(|port| (port.address, port.serve.is_udp(), port.port));
    let (backends, certificates) = backends.into_parts();
    let keeps = |share: &WeightedBackend| share.backend.is_some_and(|id| backends[id as usize].session.is_some());
    for rule in &mut rules {
        rule.keeps_sessions = rule.session.is_some() || rule.split.shares().any(keeps);
    }
    let plan = Plan { ports, rules, backends, certificates };
    Compiled { plan, statuses, troubles: istio.troubles, names: istio.names }
}

fn class_statuses(classes: &BTreeMap<Arc<str>, Option<Arc<GatewayClass>>>, now: &str) -> Vec<Status> {
    let declared = classes.values().flatten();
    declared
        .map(|class| {
            let accepted = match &class.parameters {
                None => Condition::yes("Accepted"),
                Some(_) => {
                    Condition::no("InvalidParameters", "this controller takes no parameters: remove parametersRef")
                }
            };
            let version = Condition::yes("SupportedVersion");
            let features: Vec<_> = SUPPORTED_FEATURES.iter().map(|name| json!({"name": name})).collect();
            Status {
                object: ObjectKey {
                    kind: Kind::GatewayClass,
                    namespace: "".into(),
                    name: Arc::clone(&class.meta.name),
                },
                api_version: GATEWAY_VERSION,
                status: json!({
                    "conditions": conditions(
                        &[("Accepted", &accepted), ("SupportedVersion", &version)],
                        class.meta.generation,
                        now,
                    ),
                    "supportedFeatures": features,
                }),
            }
        })
        .collect()
}
