//! `.status` of Gateway API objects.

use std::sync::Arc;

use serde_json::{Value, json};
use strait_api::ObjectKey;

/// The features of the specification that are kept, by the names that its conformance suite gives them, in order
/// of the alphabet as the API wants it.
pub const SUPPORTED_FEATURES: [&str; 42] = [
    "BackendTLSPolicy",
    "BackendTLSPolicySANValidation",
    "GRPCRoute",
    "GRPCRouteNamedRouteRule",
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
    "HTTPRouteBackendTimeout",
    "HTTPRouteCORS",
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
    "HTTPRouteSchemeRedirect",
    "ListenerSet",
    "ReferenceGrant",
    "TCPRoute",
    "TLSRoute",
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
