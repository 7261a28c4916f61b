//! Policies of traffic to back ends: budgets of retries, and sessions.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use strait_api::{BackendTrafficPolicy, GATEWAY_GROUP, Kind, ObjectKey, ObjectMeta, Service};

use super::{
    CONTROLLER, sessions,
    world::{Name, World, name},
};
use crate::{
    plan::Session,
    status::{Condition, Status, conditions},
};

const VERSION: &str = "gateway.networking.x-k8s.io/v1alpha1";
/// So many ancestors the API takes.
const MOST_ANCESTORS: usize = 16;

/// Which of two policies was there first: by age, then by name.
pub(super) fn age(meta: &ObjectMeta) -> (i64, Name) {
    (meta.created.unwrap_or(i64::MAX), name(meta))
}

/// The policy that is in force for a service: the oldest, if it is valid.
pub(super) fn policy<'a>(service: &Service, world: &World<'a>) -> Option<&'a Arc<BackendTrafficPolicy>> {
    let all = world.traffic_policies(&service.meta.namespace, &service.meta.name);
    all.iter().min_by_key(|policy| age(&policy.meta))
}

/// The session that a policy asks for; none where it asks for none or for one that cannot be.
pub(super) fn session(policy: &BackendTrafficPolicy) -> Result<Option<Session>, Condition> {
    let of = policy.session_persistence.as_ref();
    let scope = format!("{}/{}/{}", Kind::BackendTrafficPolicy, policy.meta.namespace, policy.meta.name);
    of.map(|of| sessions::session(of, scope.into(), None)).transpose()
}

/// The statuses of policies that back ends of some gateway go by.
pub(super) fn statuses(world: &World<'_>, ancestors: &BTreeMap<Name, BTreeMap<Name, u32>>, now: &str) -> Vec<Status> {
    let statuses = world.index.traffic_policies.values().filter_map(|policy| {
        let ancestors = ancestors.get(&name(&policy.meta))?;
        let accepted = match (older(policy, world), session(policy)) {
            (Some(other), _) => {
                let message = format!("{} has the same target and was there first", other.meta.name);
                Condition::no("Conflicted", message)
            }
            (None, Err(condition)) => Condition { reason: "Invalid", ..condition },
            (None, Ok(_)) => Condition::yes("Accepted"),
        };
        let conditions = conditions(&[("Accepted", &accepted)], policy.meta.generation, now);
        let (namespace, name) = name(&policy.meta);
        Some(Status {
            object: ObjectKey { kind: Kind::BackendTrafficPolicy, namespace, name },
            api_version: VERSION,
            status: json!({"ancestors": of_gateways(ancestors, &conditions)}),
        })
    });
    statuses.collect()
}

/// The older policy that has the same target.
fn older<'a>(policy: &Arc<BackendTrafficPolicy>, world: &World<'a>) -> Option<&'a Arc<BackendTrafficPolicy>> {
    let of_target = |target: &strait_api::PolicyTarget| {
        let others = world.traffic_policies(&policy.meta.namespace, &target.name).iter();
        others.filter(|other| age(&other.meta) < age(&policy.meta)).min_by_key(|other| age(&other.meta))
    };
    policy.targets.iter().find_map(of_target)
}

/// The same conditions for each gateway.
pub(super) fn of_gateways(gateways: &BTreeMap<Name, u32>, conditions: &Value) -> Value {
    let one = |(namespace, name): &Name| {
        json!({
            "ancestorRef": {"group": GATEWAY_GROUP, "kind": "Gateway", "namespace": &**namespace, "name": &**name},
            "controllerName": CONTROLLER,
            "conditions": conditions,
        })
    };
    gateways.keys().take(MOST_ANCESTORS).map(one).collect()
}
