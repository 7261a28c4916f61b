//! Gateway API objects back to manifests.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value, json};

use super::{label_selector, list, object_of, some, strings};
use crate::types::{
    BackendReference, BackendTlsPolicy, BackendTrafficPolicy, FromNamespaces, FrontendValidation,
    FrontendValidationMode, Gateway, GatewayClass, GatewayDefaultScope, HeaderModifier, HttpRouteMatch, L4RouteRule,
    Listener, ListenerSet, NamedMatch, ParametersReference, ParentReference, PathMatch, PathModifier, Reference,
    ReferenceGrant, Route, RouteFilter, RouteRules, SessionPersistence, SessionType, SubjectAltName, TlsMode,
    ValueMatch,
};

pub(super) const API_VERSION: &str = "gateway.networking.k8s.io/v1";
pub(super) const EXPERIMENTAL_VERSION: &str = "gateway.networking.x-k8s.io/v1alpha1";

pub(super) fn class(class: &GatewayClass) -> Map<String, Value> {
    spec([
        ("controllerName", json!(class.controller_name)),
        ("parametersRef", class.parameters.as_ref().map_or(Value::Null, parameters)),
    ])
}

pub(super) fn gateway(gateway: &Gateway) -> Map<String, Value> {
    let address = |address: &crate::types::GatewayAddress| {
        some([("type", json!(address.address_type)), ("value", json!(address.value))])
    };
    let infrastructure = some([
        ("labels", strings(&gateway.infrastructure.labels)),
        ("annotations", strings(&gateway.infrastructure.annotations)),
        ("parametersRef", gateway.infrastructure.parameters.as_ref().map_or(Value::Null, parameters)),
    ]);
    spec([
        ("gatewayClassName", json!(gateway.class_name)),
        ("listeners", list(&gateway.listeners, listener)),
        ("addresses", list(&gateway.addresses, address)),
        ("infrastructure", unless_empty(infrastructure)),
        ("allowedListeners", json!({"namespaces": from_namespaces(&gateway.allowed_listeners)})),
        ("tls", unless_empty(gateway_tls(gateway))),
        ("defaultScope", default_scope(gateway.default_scope)),
    ])
}

fn default_scope(scope: GatewayDefaultScope) -> Value {
    if scope == GatewayDefaultScope::All { json!("All") } else { Value::Null }
}

fn gateway_tls(gateway: &Gateway) -> Value {
    let validation = |validation: &Option<FrontendValidation>| match validation {
        None => json!({}),
        Some(validation) => json!({"validation": {
            "caCertificateRefs": validation.ca_certificates.iter().map(reference).collect::<Vec<_>>(),
            "mode": match validation.mode {
                FrontendValidationMode::AllowValidOnly => "AllowValidOnly",
                FrontendValidationMode::AllowInsecureFallback => "AllowInsecureFallback",
            },
        }}),
    };
    let backend = gateway.backend_client_certificate.as_ref().map(|of| json!({"clientCertificateRef": reference(of)}));
    let frontend = gateway.frontend_default.is_some() || !gateway.frontend_per_port.is_empty();
    let per_port = |(port, of): (&u16, &Option<FrontendValidation>)| json!({"port": port, "tls": validation(of)});
    let frontend = frontend.then(|| {
        some([
            ("default", validation(&gateway.frontend_default)),
            ("perPort", gateway.frontend_per_port.iter().map(per_port).collect()),
        ])
    });
    some([("backend", json!(backend)), ("frontend", json!(frontend))])
}

pub(super) fn listener_set(set: &ListenerSet) -> Map<String, Value> {
    spec([("parentRef", reference(&set.parent)), ("listeners", list(&set.listeners, listener))])
}

fn listener(listener: &Listener) -> Value {
    let tls = listener.tls.as_ref().map(|tls| {
        some([
            ("mode", (if tls.mode == TlsMode::Terminate { "Terminate" } else { "Passthrough" }).into()),
            ("certificateRefs", list(&tls.certificates, reference)),
            ("options", strings(&tls.options)),
        ])
    });
    some([
        ("name", json!(listener.name)),
        ("hostname", json!(listener.hostname)),
        ("port", json!(listener.port)),
        ("protocol", json!(listener.protocol)),
        ("tls", json!(tls)),
        (
            "allowedRoutes",
            some([
                ("namespaces", from_namespaces(&listener.allowed_namespaces)),
                ("kinds", list(&listener.allowed_kinds, |kind| json!({"group": kind.group, "kind": kind.kind}))),
            ]),
        ),
    ])
}

fn from_namespaces(from: &FromNamespaces) -> Value {
    match from {
        FromNamespaces::All => json!({"from": "All"}),
        FromNamespaces::Same => json!({"from": "Same"}),
        FromNamespaces::None => json!({"from": "None"}),
        FromNamespaces::Selector(selector) => json!({"from": "Selector", "selector": label_selector(selector)}),
    }
}

fn parameters(of: &ParametersReference) -> Value {
    some([
        ("group", json!(of.group)),
        ("kind", json!(of.kind)),
        ("name", json!(of.name)),
        ("namespace", json!(of.namespace)),
    ])
}

fn reference(of: &Reference) -> Value {
    some([
        ("group", json!(of.group)),
        ("kind", json!(of.kind)),
        ("namespace", json!(of.namespace)),
        ("name", json!(of.name)),
    ])
}

pub(super) fn grant(grant: &ReferenceGrant) -> Map<String, Value> {
    spec([
        (
            "from",
            list(&grant.from, |from| json!({"group": from.group, "kind": from.kind, "namespace": from.namespace})),
        ),
        (
            "to",
            list(&grant.to, |to| {
                some([("group", json!(to.group)), ("kind", json!(to.kind)), ("name", json!(to.name))])
            }),
        ),
    ])
}

pub(super) fn backend_tls_policy(policy: &BackendTlsPolicy) -> Map<String, Value> {
    let name = |name: &SubjectAltName| match name {
        SubjectAltName::Hostname(host) => json!({"type": "Hostname", "hostname": host}),
        SubjectAltName::Uri(uri) => json!({"type": "URI", "uri": uri}),
    };
    let target = |target: &crate::types::PolicyTarget| {
        some([
            ("group", json!(target.group)),
            ("kind", json!(target.kind)),
            ("name", json!(target.name)),
            ("sectionName", json!(target.section_name)),
        ])
    };
    spec([
        ("targetRefs", list(&policy.targets, target)),
        (
            "validation",
            some([
                ("caCertificateRefs", list(&policy.ca_certificates, reference)),
                ("wellKnownCACertificates", if policy.system_ca_certificates { "System".into() } else { Value::Null }),
                ("hostname", json!(policy.hostname)),
                ("subjectAltNames", list(&policy.subject_alt_names, name)),
            ]),
        ),
        ("options", strings(&policy.options)),
    ])
}

pub(super) fn backend_traffic_policy(policy: &BackendTrafficPolicy) -> Map<String, Value> {
    let target =
        |target: &crate::types::PolicyTarget| json!({"group": target.group, "kind": target.kind, "name": target.name});
    let constraint = policy.retry_constraint.map(|of| {
        json!({
            "budget": {"percent": of.percent, "interval": duration(Some(of.interval))},
            "minRetryRate": {"count": of.min_retries, "interval": duration(Some(of.min_retries_interval))},
        })
    });
    spec([
        ("targetRefs", list(&policy.targets, target)),
        ("retryConstraint", json!(constraint)),
        ("sessionPersistence", policy.session_persistence.as_ref().map_or(Value::Null, session_persistence)),
    ])
}

pub(super) fn route(route: &Route) -> Map<String, Value> {
    let rules = match &route.rules {
        RouteRules::Http(rules) => rules.iter().map(http_rule).collect(),
        RouteRules::Grpc(rules) => rules.iter().map(grpc_rule).collect(),
        RouteRules::Tls(rules) | RouteRules::Tcp(rules) | RouteRules::Udp(rules) => {
            rules.iter().map(l4_rule).collect::<Value>()
        }
    };
    spec([
        ("parentRefs", list(&route.parents, parent)),
        ("useDefaultGateways", default_scope(route.default_gateways)),
        ("hostnames", list(&route.hostnames, |host| json!(host))),
        ("rules", rules),
    ])
}

fn parent(parent: &ParentReference) -> Value {
    some([
        ("group", json!(parent.group)),
        ("kind", json!(parent.kind)),
        ("namespace", json!(parent.namespace)),
        ("name", json!(parent.name)),
        ("sectionName", json!(parent.section_name)),
        ("port", json!(parent.port)),
    ])
}

fn http_rule(rule: &crate::types::HttpRouteRule) -> Value {
    let timeouts =
        some([("request", duration(rule.request_timeout)), ("backendRequest", duration(rule.backend_request_timeout))]);
    let retry = rule.retry.as_ref().map(|retry| {
        some([
            ("codes", list(&retry.codes, |code| json!(code))),
            ("attempts", json!(retry.attempts)),
            ("backoff", duration(retry.backoff)),
        ])
    });
    some([
        ("name", json!(rule.name)),
        ("matches", list(&rule.matches, http_match)),
        ("filters", list(&rule.filters, filter)),
        ("backendRefs", list(&rule.backends, backend)),
        ("timeouts", unless_empty(timeouts)),
        ("retry", json!(retry)),
        ("sessionPersistence", rule.session_persistence.as_ref().map_or(Value::Null, session_persistence)),
    ])
}

fn http_match(of: &HttpRouteMatch) -> Value {
    let (kind, value) = match &of.path {
        PathMatch::Exact(value) => ("Exact", value),
        PathMatch::Prefix(value) => ("PathPrefix", value),
        PathMatch::Regex(value) => ("RegularExpression", value),
    };
    some([
        ("path", json!({"type": kind, "value": value})),
        ("headers", list(&of.headers, named)),
        ("queryParams", list(&of.query_params, named)),
        ("method", json!(of.method)),
    ])
}

fn named(of: &NamedMatch) -> Value {
    let (kind, value) = value_match(&of.value);
    json!({"type": kind, "name": of.name, "value": value})
}

fn value_match(of: &ValueMatch) -> (&'static str, &Arc<str>) {
    match of {
        ValueMatch::Exact(value) => ("Exact", value),
        ValueMatch::Regex(value) => ("RegularExpression", value),
    }
}

fn grpc_rule(rule: &crate::types::GrpcRouteRule) -> Value {
    let matches = list(&rule.matches, |of| {
        let method = of.method.as_ref().map(|of| {
            let kind = of.service.as_ref().or(of.method.as_ref()).map(|of| value_match(of).0);
            let part = |of: &Option<ValueMatch>| json!(of.as_ref().map(|of| value_match(of).1));
            some([("type", json!(kind)), ("service", part(&of.service)), ("method", part(&of.method))])
        });
        some([("method", json!(method)), ("headers", list(&of.headers, named))])
    });
    some([
        ("name", json!(rule.name)),
        ("matches", matches),
        ("filters", list(&rule.filters, filter)),
        ("backendRefs", list(&rule.backends, backend)),
        ("sessionPersistence", rule.session_persistence.as_ref().map_or(Value::Null, session_persistence)),
    ])
}

fn l4_rule(rule: &L4RouteRule) -> Value {
    some([("name", json!(rule.name)), ("backendRefs", list(&rule.backends, backend))])
}

fn backend(backend: &BackendReference) -> Value {
    let mut of = object_of([
        ("port", json!(backend.port)),
        ("weight", json!(backend.weight)),
        ("filters", list(&backend.filters, filter)),
    ]);
    if let Value::Object(target) = reference(&backend.target) {
        of.extend(target);
    }
    Value::Object(of)
}

fn filter(filter: &RouteFilter) -> Value {
    let (kind, field, value) = match filter {
        RouteFilter::RequestHeaders(edit) => ("RequestHeaderModifier", "requestHeaderModifier", header_modifier(edit)),
        RouteFilter::ResponseHeaders(edit) => {
            ("ResponseHeaderModifier", "responseHeaderModifier", header_modifier(edit))
        }
        RouteFilter::Redirect(redirect) => {
            let fields = [
                ("scheme", json!(redirect.scheme)),
                ("hostname", json!(redirect.hostname)),
                ("path", redirect.path.as_ref().map_or(Value::Null, path_modifier)),
                ("port", json!(redirect.port)),
                ("statusCode", json!(redirect.status_code)),
            ];
            ("RequestRedirect", "requestRedirect", some(fields))
        }
        RouteFilter::Rewrite(rewrite) => {
            let path = rewrite.path.as_ref().map_or(Value::Null, path_modifier);
            ("URLRewrite", "urlRewrite", some([("hostname", json!(rewrite.hostname)), ("path", path)]))
        }
        RouteFilter::Mirror(mirror) => {
            let (numerator, denominator) = mirror.fraction;
            let fraction = json!({"numerator": numerator, "denominator": denominator});
            let fields = [("backendRef", backend(&mirror.backend)), ("fraction", fraction)];
            ("RequestMirror", "requestMirror", some(fields))
        }
        RouteFilter::Cors(cors) => {
            let names = |names: &[Arc<str>]| list(names, |name| json!(name));
            let fields = [
                ("allowOrigins", names(&cors.allow_origins)),
                ("allowCredentials", json!(cors.allow_credentials)),
                ("allowMethods", names(&cors.allow_methods)),
                ("allowHeaders", names(&cors.allow_headers)),
                ("exposeHeaders", names(&cors.expose_headers)),
                ("maxAge", json!(cors.max_age)),
            ];
            ("CORS", "cors", some(fields))
        }
        RouteFilter::ExternalAuth(auth) => {
            let mut target = reference(&auth.backend.target);
            if let Value::Object(target) = &mut target {
                target.insert("port".into(), json!(auth.backend.port));
            }
            let protocol = if auth.grpc { "GRPC" } else { "HTTP" };
            ("ExternalAuth", "externalAuth", json!({"protocol": protocol, "backendRef": target}))
        }
        RouteFilter::Extension(of) => ("ExtensionRef", "extensionRef", reference(of)),
    };
    some([("type", kind.into()), (field, value)])
}

fn header_modifier(edit: &HeaderModifier) -> Value {
    let pairs = |pairs: &[(Arc<str>, Arc<str>)]| list(pairs, |(name, value)| json!({"name": name, "value": value}));
    some([("set", pairs(&edit.set)), ("add", pairs(&edit.add)), ("remove", list(&edit.remove, |name| json!(name)))])
}

fn path_modifier(modifier: &PathModifier) -> Value {
    match modifier {
        PathModifier::Full(path) => json!({"type": "ReplaceFullPath", "replaceFullPath": path}),
        PathModifier::Prefix(path) => json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": path}),
    }
}

fn session_persistence(of: &SessionPersistence) -> Value {
    some([
        ("sessionName", json!(of.name)),
        ("type", (if of.by == SessionType::Cookie { "Cookie" } else { "Header" }).into()),
        ("absoluteTimeout", duration(of.absolute_timeout)),
        ("idleTimeout", duration(of.idle_timeout)),
        ("cookieConfig", if of.permanent_cookie { json!({"lifetimeType": "Permanent"}) } else { Value::Null }),
    ])
}

/// In the units of GEP-2257, whose numbers have five digits at most.
fn duration(of: Option<Duration>) -> Value {
    let Some(of) = of else { return Value::Null };
    let (seconds, millis) = (of.as_secs(), of.subsec_millis());
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s"), (u64::from(millis), "ms")];
    let text: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if text.is_empty() { "0s".into() } else { text.concat().into() }
}

fn spec<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    object_of([("spec", some(fields))])
}

fn unless_empty(value: Value) -> Value {
    if value.as_object().is_some_and(Map::is_empty) { Value::Null } else { value }
}
