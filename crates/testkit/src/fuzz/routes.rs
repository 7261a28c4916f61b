//! Gateways and routes, valid and edited, compiled together: nothing panics, and no route is lost without a word.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use strait_api::{Kind, Object, ObjectKey, Objects, parse};
use strait_route::{
    Assigned, Attachment, Compiled, Compiler, HttpListener, Resolved, Serve, TlsThen, assign, attachments, compile,
};

use super::manifests::{self, Family};
use crate::draw::Draw;

const ROUTED: Family = |kind| {
    matches!(
        kind,
        Kind::GatewayClass
            | Kind::Gateway
            | Kind::ListenerSet
            | Kind::HttpRoute
            | Kind::GrpcRoute
            | Kind::TlsRoute
            | Kind::TcpRoute
            | Kind::UdpRoute
            | Kind::ReferenceGrant
            | Kind::BackendTlsPolicy
            | Kind::BackendTrafficPolicy
            | Kind::Service
            | Kind::Secret
            | Kind::ConfigMap
    )
};

/// Bytes choose objects and edits.
pub(super) fn run(bytes: &[u8]) {
    let mut draw = Draw::of_bytes(bytes);
    let mut objects = manifests::cluster(|object| ROUTED(object.kind()) || object.kind() == Kind::EndpointSlice);
    for index in 0..draw.weighted(&[(4, 1), (4, 2), (2, 4), (1, 8)]) {
        let text = manifests::edited(&mut draw, ROUTED);
        let parsed = parse(&Arc::from(format!("{index}.yaml")), text.as_bytes());
        if parsed.errors.is_empty() {
            for object in parsed.objects {
                objects.replace(here(object));
            }
        }
    }
    check(&objects);
}

/// Gateways are of the class that is served.
fn here(mut object: Object) -> Object {
    if let Object::Gateway(gateway) = &mut object {
        Arc::make_mut(gateway).class_name = strait_route::DEFAULT_CLASS.into();
    }
    object
}

fn check(objects: &Objects) {
    let Ok(pool) = "10.0.0.0/24".parse() else { return };
    let assigned = assign(Compiled::gateways(objects), pool, &Assigned::new());
    let compiled = compile(objects, &assigned, NOW);
    followed(objects, &assigned, &compiled);
    let attached = attachments(objects);
    let mut counted: BTreeMap<(ObjectKey, &str), u64> = BTreeMap::new();
    for of in &attached.at {
        *counted.entry((listener_of(of), &of.listener)).or_default() += 1;
    }
    for status in &compiled.statuses {
        conditions(&status.status);
        for listener in list(&status.status["listeners"]) {
            conditions(listener);
            let name = listener["name"].as_str().unwrap_or_default();
            let expected = counted.get(&(status.object.clone(), name)).copied().unwrap_or_default();
            // A route all of whose rules are dropped has its place, and is not counted.
            let found = listener["attachedRoutes"].as_u64();
            assert!(
                found.is_some_and(|found| found <= expected),
                "{name} of {}: {found:?} of {expected}",
                status.object
            );
        }
        for parent in list(&status.status["parents"]) {
            conditions(parent);
        }
        for ancestor in list(&status.status["ancestors"]) {
            conditions(ancestor);
        }
    }
    routes(objects, &compiled, &attached.at);
}

const NOW: &str = "2026-01-01T00:00:00Z";

/// What comes of one object after the other is what comes of all at once.
fn followed(objects: &Objects, assigned: &Assigned, at_once: &Compiled) {
    let mut compiler = Compiler::new();
    let mut some = Objects::default();
    for object in objects.iter() {
        some.replace(object.clone());
        compiler.update(&some, &[object.key()], assigned, &Resolved::new(), NOW);
    }
    assert_eq!(compiler.statuses(), at_once.statuses, "one meaning");
}

fn listener_of(of: &Attachment) -> ObjectKey {
    let (kind, (namespace, name)) = match &of.set {
        Some(set) => (Kind::ListenerSet, set.clone()),
        None => (Kind::Gateway, of.gateway.clone()),
    };
    ObjectKey { kind, namespace, name }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// What the API takes.
fn conditions(of: &Value) {
    let all = list(&of["conditions"]);
    assert!(all.len() <= 8);
    let mut seen = std::collections::BTreeSet::new();
    for condition in all {
        let text = |name: &str| condition[name].as_str().unwrap_or_default();
        assert!(seen.insert(text("type")), "{condition} twice");
        assert!(matches!(text("status"), "True" | "False"), "{condition}");
        assert!(text("reason").starts_with(|c: char| c.is_ascii_uppercase()), "{condition}");
        assert!(text("message").len() <= 32_768 && condition["observedGeneration"].is_i64(), "{condition}");
    }
}

/// A route that is accepted is somewhere; what is somewhere serves, or its listener says why not.
fn routes(objects: &Objects, compiled: &Compiled, at: &[Attachment]) {
    for status in &compiled.statuses {
        for parent in list(&status.status["parents"]) {
            let accepted = list(&parent["conditions"]).iter().find(|of| of["type"] == "Accepted");
            let accepted = accepted.is_some_and(|of| of["status"] == "True");
            assert!(!accepted || at.iter().any(|of| of.route == status.object), "{} is nowhere", status.object);
        }
    }
    let addresses = |of: &Attachment| {
        compiled.statuses.iter().find(|status| {
            (status.object.kind, &status.object.namespace, &status.object.name)
                == (Kind::Gateway, &of.gateway.0, &of.gateway.1)
        })
    };
    for of in at.iter().filter(|of| matches!(of.route.kind, Kind::HttpRoute | Kind::GrpcRoute)) {
        let listener = compiled.statuses.iter().find(|status| status.object == listener_of(of)).and_then(|status| {
            list(&status.status["listeners"]).iter().find(|listener| listener["name"] == *of.listener)
        });
        let programmed = |value: &Value| {
            list(&value["conditions"]).iter().any(|of| of["type"] == "Programmed" && of["status"] == "True")
        };
        let serves = listener.is_some_and(programmed)
            && addresses(of).is_some_and(|of| !list(&of.status["addresses"]).is_empty());
        if serves && has_matches(objects, &of.route) {
            let name = format!("{}/{}/{}/", of.route.kind, of.route.namespace, of.route.name);
            assert!(served(compiled, of, &name), "{name} at {} is not served", of.listener);
        }
    }
}

fn has_matches(objects: &Objects, route: &ObjectKey) -> bool {
    let Some(Object::Route(route)) = objects.get(route) else { return false };
    match &route.rules {
        // An expression that is too large matches nothing, and the status says so.
        strait_api::RouteRules::Http(rules) => rules.iter().flat_map(|rule| &rule.matches).any(|of| {
            of.headers.is_empty() && of.query_params.is_empty() && !matches!(of.path, strait_api::PathMatch::Regex(_))
        }),
        strait_api::RouteRules::Grpc(rules) => rules.iter().any(|rule| rule.matches.is_empty()),
        strait_api::RouteRules::Tls(_) | strait_api::RouteRules::Tcp(_) | strait_api::RouteRules::Udp(_) => false,
    }
}

fn served(compiled: &Compiled, of: &Attachment, name: &str) -> bool {
    let plan = &compiled.plan;
    let has = |listener: &HttpListener| {
        listener.hosts.iter().any(|(_, table)| {
            table
                .rules()
                .iter()
                .any(|&rule| plan.rules.get(rule as usize).is_some_and(|rule| rule.name.starts_with(name)))
        })
    };
    let gateway = format!("{}/{}", of.gateway.0, of.gateway.1);
    plan.ports.iter().filter(|port| port.port == of.port && *port.gateway == *gateway).any(|port| match &port.serve {
        Serve::Http(listeners) => listeners.iter().any(|(_, listener)| has(listener)),
        Serve::Tls(listeners) => listeners.iter().any(|(_, listener)| match &listener.then {
            TlsThen::Http(_, listener) => has(listener),
            TlsThen::Tcp(..) | TlsThen::Passthrough(_) | TlsThen::Mesh(_) => false,
        }),
        Serve::Tcp(_) | Serve::Udp(_) => false,
    })
}
