//! `.status` of Gateway API objects.

use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};
use strait_api::{ObjectKey, ParentReference, Route};

use crate::compile::{CONTROLLER, GATEWAY_VERSION};

/// The features of the specification that are kept, by the names that its conformance suite gives them, in order
/// of the alphabet as the API wants it.
pub const SUPPORTED_FEATURES: [&str; 50] = [
    "BackendTLSPolicy",
    "BackendTLSPolicySANValidation",
    "GRPCRoute",
    "GRPCRouteNamedRouteRule",
    "GRPCRouteRequestHeaderModifier",
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayBackendClientCertificate",
    "GatewayFrontendClientCertificateValidation",
    "GatewayFrontendClientCertificateValidationInsecureFallback",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    "GatewayPort8080",
    "GatewayStaticAddresses",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendRequestRedirect",
    "HTTPRouteBackendTimeout",
    "HTTPRouteBackendURLRewrite",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteRetry",
    "HTTPRouteRetryBackendTimeout",
    "HTTPRouteRetryConnectionError",
    "HTTPRouteSchemeRedirect",
    "ListenerSet",
    "ReferenceGrant",
    "TCPRoute",
    "TLSRoute",
    "TLSRouteModeMixed",
    "TLSRouteModeTerminate",
    "UDPRoute",
];

/// The status of one object.
#[derive(Clone, PartialEq, Debug)]
pub struct Status {
    /// Which object.
    pub object: ObjectKey,
    /// The `apiVersion` of its kind.
    pub api_version: &'static str,
    /// The value of `.status`.
    pub status: Value,
}

impl Status {
    /// Takes from the status of before when each condition last changed, where it did not change since.
    pub(crate) fn keep_times(&mut self, before: &Self) {
        keep_times(&mut self.status, &before.status);
    }
}

/// Conditions are compared with those of the same type, listeners, parents and ancestors with those of the same name or reference.
fn keep_times(now: &mut Value, before: &Value) {
    const NAMES: [&str; 4] = ["type", "name", "parentRef", "ancestorRef"];
    match now {
        Value::Object(fields) => {
            let changed = fields.contains_key("lastTransitionTime") && fields.get("status") != before.get("status");
            if !changed && let Some(time) = before.get("lastTransitionTime") {
                fields.insert("lastTransitionTime".into(), time.clone());
            }
            for (name, value) in fields {
                if let Some(before) = before.get(name) {
                    keep_times(value, before);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                let named = |other: &&Value| {
                    NAMES.iter().any(|name| item.get(name).is_some())
                        && NAMES.iter().all(|name| item.get(name) == other.get(name))
                };
                if let Some(before) = before.as_array().into_iter().flatten().find(named) {
                    keep_times(item, before);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether a condition holds, with the reason and what to tell people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Condition {
    pub(crate) holds: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: Arc<str>,
}

static NOTHING: LazyLock<Arc<str>> = LazyLock::new(|| "".into());

impl Condition {
    pub(crate) fn yes(reason: &'static str) -> Self {
        Self { holds: true, reason, message: Arc::clone(&NOTHING) }
    }

    /// Holds, and there is something to tell about it.
    pub(crate) fn because(reason: &'static str, message: impl Into<Arc<str>>) -> Self {
        Self { holds: true, reason, message: message.into() }
    }

    pub(crate) fn no(reason: &'static str, message: impl Into<Arc<str>>) -> Self {
        Self { holds: false, reason, message: message.into() }
    }
}

/// Conditions as the API has them. `now` is RFC 3339.
pub(crate) fn conditions(all: &[(&str, &Condition)], generation: i64, now: &str) -> Value {
    all.iter().map(|(kind, of)| condition(kind, of, generation, now)).collect()
}

fn condition(kind: &str, condition: &Condition, generation: i64, since: &str) -> Value {
    json!({
        "type": kind,
        "status": if condition.holds { "True" } else { "False" },
        "reason": condition.reason,
        "message": &*condition.message,
        "observedGeneration": generation,
        "lastTransitionTime": since,
    })
}

/// The status of a route: as JSON it would take many times as much, and there are many routes.
pub(crate) struct RouteStatus {
    route: Arc<Route>,
    parents: Box<[ParentStatus]>,
}

struct ParentStatus {
    /// Its place among the route's parents.
    place: usize,
    /// Type, condition, and since when it is so.
    conditions: Box<[(&'static str, Condition, Arc<str>)]>,
}

impl RouteStatus {
    /// Parents by their places, with the conditions of the route for them.
    pub(crate) fn new(
        route: &Arc<Route>,
        parents: impl Iterator<Item = (usize, Vec<(&'static str, Condition)>)>,
        now: &Arc<str>,
    ) -> Self {
        let of = |(place, conditions): (usize, Vec<(&'static str, Condition)>)| ParentStatus {
            place,
            conditions: conditions.into_iter().map(|(kind, of)| (kind, of, Arc::clone(now))).collect(),
        };
        Self { route: Arc::clone(route), parents: parents.map(of).collect() }
    }

    /// Whether the route is accepted by the parent at that place.
    pub(crate) fn accepted(&self, place: usize) -> Option<&Condition> {
        let parent = self.parents.iter().find(|parent| parent.place == place)?;
        parent.conditions.iter().find(|(kind, ..)| *kind == "Accepted").map(|(_, condition, _)| condition)
    }

    /// Takes from the status of before when each condition last changed, where it did not change since.
    pub(crate) fn keep_times(&mut self, before: &Self) {
        for parent in &mut self.parents {
            let Some(reference) = self.route.parents.get(parent.place) else { continue };
            let same = |other: &&ParentStatus| {
                before.route.parents.get(other.place).is_some_and(|other| is_same(other, reference))
            };
            let Some(known) = before.parents.iter().find(same) else { continue };
            for (kind, condition, since) in &mut parent.conditions {
                let known = known.conditions.iter().find(|(other, ..)| other == kind);
                if let Some((_, _, before)) = known.filter(|(_, known, _)| known.holds == condition.holds) {
                    *since = Arc::clone(before);
                }
            }
        }
    }

    pub(crate) fn status(&self, object: &ObjectKey) -> Status {
        Status { object: object.clone(), api_version: GATEWAY_VERSION, status: self.value() }
    }

    fn value(&self) -> Value {
        let generation = self.route.meta.generation;
        let parent = |of: &ParentStatus| {
            let conditions = of.conditions.iter();
            let conditions: Vec<_> =
                conditions.map(|(kind, of, since)| condition(kind, of, generation, since)).collect();
            json!({
                "parentRef": self.route.parents.get(of.place).map(parent_ref),
                "controllerName": CONTROLLER,
                "conditions": conditions,
            })
        };
        json!({ "parents": self.parents.iter().map(parent).collect::<Vec<_>>() })
    }
}

/// Where they stand does not matter.
fn is_same(a: &ParentReference, b: &ParentReference) -> bool {
    (&a.group, &a.kind, &a.namespace, &a.name, &a.section_name, a.port)
        == (&b.group, &b.kind, &b.namespace, &b.name, &b.section_name, b.port)
}

fn parent_ref(parent: &ParentReference) -> Value {
    let mut of = json!({"group": &*parent.group, "kind": &*parent.kind, "name": &*parent.name});
    if let Some(namespace) = &parent.namespace {
        of["namespace"] = json!(&**namespace);
    }
    if let Some(section) = &parent.section_name {
        of["sectionName"] = json!(&**section);
    }
    if let Some(port) = parent.port {
        of["port"] = json!(port);
    }
    of
}
