//! References of gateways, routes and policies: whether what they name is there, can be meant, and may be.

use strait_api::{
    BackendReference, GATEWAY_GROUP, Kind, Object, ObjectMeta, PolicyTarget, Reference, Route, RouteFilter, RouteRules,
    Service, ServiceType,
};
use strait_base::Protocol;

use super::{
    Gateways,
    listeners::{condition, status},
};
use crate::{Report, codes, finding::ObjectRef, near::nearest, place::At};

/// Who refers.
struct Referrer<'a> {
    kind: Kind,
    meta: &'a ObjectMeta,
    object: ObjectRef,
}

impl<'a> Referrer<'a> {
    fn new(kind: Kind, meta: &'a ObjectMeta) -> Self {
        Self { kind, meta, object: ObjectRef::new(kind, meta) }
    }
}

pub(super) fn check(gateways: &Gateways<'_>, report: &mut Report<'_>) {
    for gateway in gateways.objects.gateways() {
        let by = Referrer::new(Kind::Gateway, &gateway.meta);
        let certificates =
            gateway.listeners.iter().flat_map(|listener| &listener.tls).flat_map(|tls| &tls.certificates);
        for of in certificates.chain(&gateway.backend_client_certificate) {
            named(gateways, &by, of, &[Kind::Secret], report);
        }
        let validations = gateway.frontend_per_port.values().chain([&gateway.frontend_default]).flatten();
        for of in validations.flat_map(|validation| &validation.ca_certificates) {
            named(gateways, &by, of, &[Kind::ConfigMap, Kind::Secret], report);
        }
    }
    for set in gateways.objects.listener_sets() {
        let by = Referrer::new(Kind::ListenerSet, &set.meta);
        for of in set.listeners.iter().flat_map(|listener| &listener.tls).flat_map(|tls| &tls.certificates) {
            named(gateways, &by, of, &[Kind::Secret], report);
        }
    }
    for route in gateways.objects.routes() {
        self::route(gateways, route, report);
    }
    policies(gateways, report);
}

/// A reference by name alone.
fn named(gateways: &Gateways<'_>, by: &Referrer<'_>, of: &Reference, kinds: &[Kind], report: &mut Report<'_>) {
    let at = At::new(&of.location);
    let Some(kind) = kinds.iter().find(|kind| of.group.is_empty() && *of.kind == *kind.as_str()) else {
        let allowed: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
        let message = format!("{} {} can be no such reference", of.kind, of.name);
        report.add(
            &codes::REFERENCE_INVALID,
            &by.object,
            &at,
            message,
            format!("refer to a {}", allowed.join(" or a ")),
        );
        return;
    };
    if permitted(gateways, by, of, report) && gateways.object(*kind, namespace(by, of), &of.name).is_none() {
        missing(gateways, by, *kind, of, report);
    }
}

fn namespace<'a>(by: &'a Referrer<'_>, of: &'a Reference) -> &'a str {
    of.namespace.as_deref().unwrap_or(&by.meta.namespace)
}

fn missing(gateways: &Gateways<'_>, by: &Referrer<'_>, kind: Kind, of: &Reference, report: &mut Report<'_>) {
    if !gateways.has_any(kind) {
        return;
    }
    let namespace = namespace(by, of);
    let same = || gateways.objects.iter().filter(|object| object.kind() == kind).map(Object::meta);
    let here = same().filter(|meta| *meta.namespace == *namespace).map(|meta| &*meta.name);
    let remedy = match (nearest(&of.name, here), same().find(|meta| meta.name == of.name)) {
        (Some(meant), _) => format!("did you mean {meant}?"),
        (None, Some(meta)) => format!("one of this name is in namespace {}", meta.namespace),
        (None, None) => "create it, or correct the name".to_owned(),
    };
    let message = format!("there is no {kind} {namespace}/{}", of.name);
    report.add(&codes::REFERENCE_MISSING, &by.object, &At::new(&of.location), message, remedy);
}

/// Whether an object may refer to what is in another namespace; reports where it may not.
fn permitted(gateways: &Gateways<'_>, by: &Referrer<'_>, of: &Reference, report: &mut Report<'_>) -> bool {
    let (home, namespace) = (&by.meta.namespace, namespace(by, of));
    let granted = || {
        gateways.objects.reference_grants().filter(|grant| *grant.meta.namespace == *namespace).any(|grant| {
            let from = |from: &strait_api::GrantFrom| {
                &*from.group == GATEWAY_GROUP && *from.kind == *by.kind.as_str() && from.namespace == *home
            };
            let to = |to: &strait_api::GrantTo| {
                to.group == of.group && to.kind == of.kind && to.name.as_ref().is_none_or(|name| *name == of.name)
            };
            grant.from.iter().any(from) && grant.to.iter().any(to)
        })
    };
    if **home == *namespace || granted() {
        return true;
    }
    let message =
        format!("no ReferenceGrant in {namespace} lets a {} of {home} refer to {} {}", by.kind, of.kind, of.name);
    let remedy = format!("grant it in {namespace}, or refer to something in {home}");
    report.add(&codes::REFERENCE_NOT_PERMITTED, &by.object, &At::new(&of.location), message, remedy);
    false
}

fn route(gateways: &Gateways<'_>, route: &Route, report: &mut Report<'_>) {
    let by = Referrer::new(route.kind(), &route.meta);
    let mut all: Vec<&BackendReference> = Vec::new();
    let mut filters: Vec<&RouteFilter> = Vec::new();
    match &route.rules {
        RouteRules::Http(rules) => {
            all.extend(rules.iter().flat_map(|rule| &rule.backends));
            filters.extend(rules.iter().flat_map(|rule| &rule.filters));
        }
        RouteRules::Grpc(rules) => {
            all.extend(rules.iter().flat_map(|rule| &rule.backends));
            filters.extend(rules.iter().flat_map(|rule| &rule.filters));
        }
        RouteRules::Tls(rules) | RouteRules::Tcp(rules) | RouteRules::Udp(rules) => {
            all.extend(rules.iter().flat_map(|rule| &rule.backends));
        }
    }
    filters.extend(all.iter().flat_map(|backend| &backend.filters));
    all.extend(
        filters.iter().filter_map(|filter| if let RouteFilter::Mirror(of) = filter { Some(&of.backend) } else { None }),
    );
    for of in all {
        backend(gateways, &by, of, report);
    }
}

fn backend(gateways: &Gateways<'_>, by: &Referrer<'_>, of: &BackendReference, report: &mut Report<'_>) {
    let target = &of.target;
    let at = At::new(&target.location);
    if !target.group.is_empty() || &*target.kind != "Service" {
        let message =
            format!("{} {} is no Service: what goes to it is answered with an error", target.kind, target.name);
        return report.add(&codes::REFERENCE_INVALID, &by.object, &at, message, "refer to a Service");
    }
    if !permitted(gateways, by, target, report) {
        return;
    }
    let namespace = namespace(by, target);
    let Some(Object::Service(service)) = gateways.object(Kind::Service, namespace, &target.name) else {
        return missing(gateways, by, Kind::Service, target, report);
    };
    if service.service_type == ServiceType::ExternalName {
        let message = format!("Service {namespace}/{} is of type ExternalName, which is not followed", target.name);
        return report.add(&codes::REFERENCE_INVALID, &by.object, &at, message, "refer to a Service with endpoints");
    }
    let protocol = if by.kind == Kind::UdpRoute { Protocol::Udp } else { Protocol::Tcp };
    let number = of.port.unwrap_or_default();
    let Some(port) = service.ports.iter().find(|port| port.port == number && port.protocol == protocol) else {
        let remedy = remedy_for_port(service, number, protocol);
        let message = format!("Service {namespace}/{} has no port {number}/{protocol}", target.name);
        return report.add(&codes::REFERENCE_MISSING, &by.object, &at.field("port"), message, remedy);
    };
    let spoken = port.app_protocol.as_deref().unwrap_or_default();
    let requests = matches!(by.kind, Kind::HttpRoute | Kind::GrpcRoute);
    if requests
        && matches!(spoken, "https" | "tls" | "kubernetes.io/wss" | "wss")
        && !has_tls_policy(gateways, service, port.name.as_deref())
    {
        let message = format!(
            "port {number} of Service {namespace}/{} speaks {spoken}, and no BackendTLSPolicy says how: it gets plain HTTP",
            target.name
        );
        let remedy = "add a BackendTLSPolicy for the Service";
        report.add(&codes::BACKEND_PROTOCOL, &by.object, &at, message, remedy);
    }
}

fn remedy_for_port(service: &Service, number: u16, protocol: Protocol) -> String {
    let by_target = service.ports.iter().find(|port| {
        port.protocol == protocol
            && matches!(&port.target_port, strait_api::PortRef::Number(target) if *target == number)
    });
    if let Some(port) = by_target {
        return format!("that is the pods' port; the Service's is {}", port.port);
    }
    let ports: Vec<String> = service.ports.iter().map(|port| format!("{}/{}", port.port, port.protocol)).collect();
    format!("it has {}", if ports.is_empty() { "none".to_owned() } else { ports.join(", ") })
}

fn has_tls_policy(gateways: &Gateways<'_>, service: &Service, port: Option<&str>) -> bool {
    gateways.objects.backend_tls_policies().filter(|policy| policy.meta.namespace == service.meta.namespace).any(
        |policy| {
            let of = |target: &PolicyTarget| {
                target.name == service.meta.name
                    && target.section_name.as_deref().is_none_or(|section| Some(section) == port)
            };
            policy.targets.iter().any(of)
        },
    )
}

fn policies(gateways: &Gateways<'_>, report: &mut Report<'_>) {
    for policy in gateways.objects.backend_tls_policies() {
        let by = Referrer::new(Kind::BackendTlsPolicy, &policy.meta);
        for target in &policy.targets {
            self::target(gateways, &by, target, report);
        }
        for of in &policy.ca_certificates {
            named(gateways, &by, of, &[Kind::ConfigMap, Kind::Secret], report);
        }
        conflicted(gateways, &by, report);
    }
    for policy in gateways.objects.backend_traffic_policies() {
        let by = Referrer::new(Kind::BackendTrafficPolicy, &policy.meta);
        for target in &policy.targets {
            self::target(gateways, &by, target, report);
        }
        conflicted(gateways, &by, report);
    }
}

fn conflicted(gateways: &Gateways<'_>, by: &Referrer<'_>, report: &mut Report<'_>) {
    let status = status(gateways, by.kind, by.meta).and_then(|status| status["ancestors"].get(0));
    let Some((reason, message)) = condition(status, "Accepted") else { return };
    if matches!(&*reason, "Conflicted" | "Invalid") {
        let at = At::new(&by.meta.location).field("spec.targetRefs");
        let message = format!("{message}: the policy is not in force");
        report.add(&codes::POLICY_NOT_IN_FORCE, &by.object, &at, message, "correct or remove one of them");
    }
}

fn target(gateways: &Gateways<'_>, by: &Referrer<'_>, target: &PolicyTarget, report: &mut Report<'_>) {
    let at = At::new(&target.location);
    if !target.group.is_empty() || &*target.kind != "Service" {
        let message = format!("{} {} is no Service: the policy does nothing to it", target.kind, target.name);
        return report.add(&codes::REFERENCE_INVALID, &by.object, &at, message, "name a Service");
    }
    let of = Reference {
        group: "".into(),
        kind: "Service".into(),
        namespace: None,
        name: target.name.clone(),
        location: target.location.clone(),
    };
    let Some(Object::Service(service)) = gateways.object(Kind::Service, &by.meta.namespace, &target.name) else {
        return missing(gateways, by, Kind::Service, &of, report);
    };
    if let Some(section) = &target.section_name
        && !service.ports.iter().any(|port| port.name.as_ref() == Some(section))
    {
        let names = service.ports.iter().filter_map(|port| port.name.as_deref());
        let remedy = match nearest(section, names) {
            Some(meant) => format!("did you mean {meant}?"),
            None => "name a port of it, or leave sectionName out".to_owned(),
        };
        let message = format!("Service {}/{} has no port named {section}", by.meta.namespace, target.name);
        report.add(&codes::REFERENCE_MISSING, &by.object, &at.field("sectionName"), message, remedy);
    }
}
