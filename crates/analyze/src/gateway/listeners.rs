//! Gateways, listener sets and their listeners.

use serde_json::Value;
use strait_api::{Kind, Listener, ObjectMeta, TlsMode};

use super::Gateways;
use crate::{Report, codes, finding::ObjectRef, near::nearest, place::At};

pub(super) fn check(gateways: &Gateways<'_>, report: &mut Report<'_>) {
    classes(gateways, report);
    for gateway in gateways.objects.gateways() {
        listeners(gateways, Kind::Gateway, &gateway.meta, &gateway.listeners, report);
        let not_accepted = condition(status(gateways, Kind::Gateway, &gateway.meta), "Accepted");
        if let Some((reason, message)) = not_accepted.filter(|(reason, _)| reason != "ListenersNotValid") {
            let object = ObjectRef::new(Kind::Gateway, &gateway.meta);
            let field = match &*reason {
                "InvalidParameters" => "spec.infrastructure.parametersRef",
                "UnsupportedAddress" => "spec.addresses",
                _ => "spec",
            };
            let at = At::new(&gateway.meta.location).field(field);
            let message = format!("{message}: nothing of the Gateway is served");
            report.add(&codes::GATEWAY_NOT_ACCEPTED, &object, &at, message, "correct or remove it");
        }
    }
    for set in gateways.objects.listener_sets() {
        listeners(gateways, Kind::ListenerSet, &set.meta, &set.listeners, report);
        let object = ObjectRef::new(Kind::ListenerSet, &set.meta);
        let at = At::new(&set.parent.location);
        let namespace = set.parent.namespace.as_ref().unwrap_or(&set.meta.namespace);
        if gateways.object(Kind::Gateway, namespace, &set.parent.name).is_none() && gateways.has_any(Kind::Gateway) {
            let message = format!("there is no Gateway {namespace}/{}: the listeners are nobody's", set.parent.name);
            report.add(&codes::ROUTE_PARENT_MISSING, &object, &at, message, "create it, or correct the name");
        }
        let refused = condition(status(gateways, Kind::ListenerSet, &set.meta), "Accepted");
        if let Some((_, message)) = refused.filter(|(reason, _)| reason == "NotAllowed") {
            let remedy = "allow its namespace in the Gateway's allowedListeners";
            report.add(&codes::LISTENER_SET_NOT_ALLOWED, &object, &at, message, remedy);
        }
    }
}

fn classes(gateways: &Gateways<'_>, report: &mut Report<'_>) {
    let classes = || gateways.objects.gateway_classes().map(|class| &*class.meta.name);
    for gateway in gateways.objects.gateways() {
        let name = &*gateway.class_name;
        if name == strait_route::DEFAULT_CLASS || classes().any(|class| class == name) {
            continue;
        }
        let object = ObjectRef::new(Kind::Gateway, &gateway.meta);
        let at = At::new(&gateway.meta.location).field("spec.gatewayClassName");
        let remedy = match nearest(name, classes().chain([strait_route::DEFAULT_CLASS])) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("declare it, or use the class {}", strait_route::DEFAULT_CLASS),
        };
        let message = format!("there is no GatewayClass {name}: nobody serves the Gateway");
        report.add(&codes::GATEWAY_CLASS_UNKNOWN, &object, &at, message, remedy);
    }
}

/// The status that an object would get.
pub(super) fn status<'s>(gateways: &'s Gateways<'_>, kind: Kind, meta: &ObjectMeta) -> Option<&'s Value> {
    let named = |status: &&strait_route::Status| {
        let object = &status.object;
        object.kind == kind && object.namespace == meta.namespace && object.name == meta.name
    };
    gateways.attached.statuses.iter().find(named).map(|status| &status.status)
}

/// Reason and message of a condition that does not hold as it should.
pub(super) fn condition(of: Option<&Value>, kind: &str) -> Option<(String, String)> {
    let wanted = if kind == "Conflicted" { "False" } else { "True" };
    let conditions = of?.get("conditions")?.as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind && condition["status"] != wanted)?;
    Some((found["reason"].as_str()?.to_owned(), found["message"].as_str()?.to_owned()))
}

fn listeners(gateways: &Gateways<'_>, kind: Kind, meta: &ObjectMeta, all: &[Listener], report: &mut Report<'_>) {
    let object = ObjectRef::new(kind, meta);
    let statuses = status(gateways, kind, meta).and_then(|status| status.get("listeners")).and_then(Value::as_array);
    for listener in all {
        let at = At::new(&listener.location);
        let of = statuses.and_then(|all| all.iter().find(|status| status["name"] == *listener.name));
        if let Some((reason, message)) = condition(of, "Conflicted") {
            let what = if reason == "ProtocolConflict" { "speaks something else" } else { "has the same hostname" };
            let message = format!("{message} and {what}: this one is not served");
            report.add(&codes::LISTENER_CONFLICT, &object, &at, message, "give it another port or hostname");
        } else if let Some((reason, message)) = condition(of, "Accepted").filter(|(reason, _)| reason != "Invalid") {
            let field = match &*reason {
                "UnsupportedProtocol" => "protocol",
                _ => "tls",
            };
            let message = format!("{message}: the listener is not served");
            report.add(
                &codes::LISTENER_INVALID,
                &object,
                &at.field(field),
                message,
                "correct it, or remove the listener",
            );
        }
        if let Some((_, message)) = condition(of, "ResolvedRefs").filter(|(reason, _)| reason == "InvalidRouteKinds") {
            let remedy = "name a kind that the protocol takes";
            report.add(&codes::LISTENER_INVALID, &object, &at.field("allowedRoutes.kinds"), message, remedy);
        }
        let unusual = match (&*listener.protocol, listener.port) {
            ("HTTP", 443) => Some("port 443 is HTTPS's by custom, and this listener speaks HTTP without TLS"),
            ("HTTPS", 80) => Some("port 80 is HTTP's by custom, and this listener speaks TLS"),
            _ => None,
        };
        if let Some(message) = unusual {
            let remedy = "correct the protocol or the port";
            report.add(&codes::LISTENER_PORT_PROTOCOL, &object, &at.field("protocol"), message, remedy);
        }
        let terminates = listener.tls.as_ref().is_none_or(|tls| tls.mode == TlsMode::Terminate);
        if &*listener.protocol == "TLS" && terminates && listener.hostname.is_none() && listener.tls.is_none() {
            let message = "the listener says neither Terminate nor Passthrough";
            report.add(&codes::LISTENER_INVALID, &object, &at.field("tls"), message, "add tls with a mode");
        }
    }
}
