//! `.status` of Gateway API objects.

use std::sync::Arc;

use serde_json::{Value, json};
use strait_api::ObjectKey;

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
    pub fn keep_times(&mut self, before: &Self) {
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

impl Condition {
    pub(crate) fn yes(reason: &'static str) -> Self {
        Self { holds: true, reason, message: "".into() }
    }

    pub(crate) fn no(reason: &'static str, message: impl Into<Arc<str>>) -> Self {
        Self { holds: false, reason, message: message.into() }
    }
}

/// Conditions as the API has them. `now` is RFC 3339.
pub(crate) fn conditions(all: &[(&str, &Condition)], generation: i64, now: &str) -> Value {
    let one = |(kind, condition): &(&str, &Condition)| {
        json!({
            "type": kind,
            "status": if condition.holds { "True" } else { "False" },
            "reason": condition.reason,
            "message": &*condition.message,
            "observedGeneration": generation,
            "lastTransitionTime": now,
        })
    };
    all.iter().map(one).collect()
}
