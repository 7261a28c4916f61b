//! Routes and their parents, hosts, and what two of them claim.

use std::collections::BTreeMap;

use strait_api::{
    GATEWAY_GROUP, GatewayDefaultScope, GrpcRouteMatch, HttpRouteMatch, Kind, NamedMatch, ObjectKey, PathMatch, Route,
    RouteRules, ValueMatch,
};
use strait_route::{Attachment, intersection};

use super::{
    Gateways,
    claims::{self, Claim, Says},
    listener_name,
};
use crate::{Report, codes, finding::ObjectRef, near::nearest, place::At};

pub(super) fn check(gateways: &Gateways<'_>, report: &mut Report<'_>) {
    let routes = gateways.routes();
    let mut by_route: BTreeMap<&ObjectKey, Vec<&Attachment>> = BTreeMap::new();
    for attachment in &gateways.attached.at {
        by_route.entry(&attachment.route).or_default().push(attachment);
    }
    let mut claims = Vec::new();
    for (key, route) in &routes {
        let at = by_route.get(key).map_or(&[][..], Vec::as_slice);
        parents(gateways, route, report);
        hostnames(route, at, report);
        for attachment in at {
            claim(route, attachment, &mut claims);
        }
    }
    for refused in &gateways.attached.refused {
        let Some(route) = routes.get(&refused.route) else { continue };
        let at = match route.parents.get(refused.parent) {
            Some(parent) => At::new(&parent.location),
            // A default gateway: it need not be at all of them.
            None if by_route.contains_key(&refused.route) => continue,
            None => At::new(&route.meta.location).field("spec.useDefaultGateways"),
        };
        let object = ObjectRef::new(route.kind(), &route.meta);
        let remedy = match refused.reason {
            "NoMatchingParent" => "correct sectionName and port, or add such a listener",
            "NotAllowedByListeners" => {
                "allow its kind and namespace in the listener's allowedRoutes, or attach it elsewhere"
            }
            "NoMatchingListenerHostname" => "correct the hostnames of the route or of the listener",
            "Conflicted" => "give one of the two other hosts",
            // Said of the filter or match itself.
            "UnsupportedValue" => continue,
            _ => "correct the Gateway first",
        };
        report.add(
            &codes::ROUTE_NOT_ATTACHED,
            &object,
            &at,
            format!("{}: nothing of the route is served there", refused.message),
            remedy,
        );
    }
    claims::check(&claims, &Says { between: &codes::HOST_PATH_CLAIMED_TWICE, within: &codes::MATCH_SHADOWED }, report);
}

fn parents(gateways: &Gateways<'_>, route: &Route, report: &mut Report<'_>) {
    let object = ObjectRef::new(route.kind(), &route.meta);
    let asks_for_default = route.default_gateways == GatewayDefaultScope::All;
    let is_default = |gateway: &std::sync::Arc<strait_api::Gateway>| gateway.default_scope == GatewayDefaultScope::All;
    if route.parents.is_empty() && asks_for_default {
        if !gateways.objects.gateways().any(is_default) && gateways.has_any(Kind::Gateway) {
            let at = At::new(&route.meta.location).field("spec.useDefaultGateways");
            let message = "the route names no parent, and no Gateway is a default one: nothing of it is served";
            let remedy = "give a Gateway the defaultScope All, or name one";
            report.add(&codes::ROUTE_WITHOUT_PARENT, &object, &at, message, remedy);
        }
    } else if route.parents.is_empty() {
        let at = At::new(&route.meta.location).field("spec.parentRefs");
        report.add(
            &codes::ROUTE_WITHOUT_PARENT,
            &object,
            &at,
            "the route names no parent: nothing of it is served",
            "name a Gateway",
        );
    }
    for parent in route.parents.iter().filter(|parent| &*parent.group == GATEWAY_GROUP) {
        let kind = match &*parent.kind {
            "Gateway" => Kind::Gateway,
            "ListenerSet" => Kind::ListenerSet,
            _ => continue,
        };
        let namespace = parent.namespace.as_ref().unwrap_or(&route.meta.namespace);
        if gateways.object(kind, namespace, &parent.name).is_some() || !gateways.has_any(kind) {
            continue;
        }
        let of_kind = || gateways.objects.iter().filter(|object| object.kind() == kind).map(strait_api::Object::meta);
        let near = nearest(&parent.name, of_kind().filter(|meta| meta.namespace == *namespace).map(|meta| &*meta.name));
        let remedy = match (near, of_kind().find(|meta| meta.name == parent.name)) {
            (Some(meant), _) => format!("did you mean {meant}?"),
            (None, Some(meta)) => format!("one of this name is in namespace {}", meta.namespace),
            (None, None) => "create it, or correct the name".to_owned(),
        };
        let message = format!("there is no {kind} {namespace}/{}: nothing of the route is served there", parent.name);
        report.add(&codes::ROUTE_PARENT_MISSING, &object, &At::new(&parent.location), message, remedy);
    }
}

/// Hostnames that none of the listeners has, of a route that is attached by others.
fn hostnames(route: &Route, at: &[&Attachment], report: &mut Report<'_>) {
    if at.is_empty() {
        return;
    }
    for (index, host) in route.hostnames.iter().enumerate() {
        let meets = |attachment: &&&Attachment| {
            let both = |of: &Option<std::sync::Arc<str>>| intersection(of.as_ref(), Some(host)).is_some();
            attachment.hosts.iter().any(both)
        };
        if !at.iter().any(|attachment| meets(&attachment)) {
            let object = ObjectRef::new(route.kind(), &route.meta);
            let place = At::new(&route.meta.location).field("spec.hostnames").item(index);
            let message =
                format!("no listener that the route is attached to has hosts in common with {host}: it is ignored");
            report.add(
                &codes::ROUTE_HOSTNAME_UNUSED,
                &object,
                &place,
                message,
                "correct it, or give a listener such a hostname",
            );
        }
    }
}

/// What a route claims at a listener.
fn claim(route: &Route, of: &Attachment, claims: &mut Vec<Claim>) {
    let created = route.meta.created.unwrap_or(i64::MAX);
    let name = format!("{}/{}", route.meta.namespace, route.meta.name);
    let mut add = |at: At, what: String, conditions: String, place: (usize, usize)| {
        for host in &of.hosts {
            claims.push(Claim {
                place: listener_name(of),
                host: host.as_deref().unwrap_or("*").to_owned(),
                what: what.clone(),
                conditions: conditions.clone(),
                object: ObjectRef::new(route.kind(), &route.meta),
                at: at.clone(),
                rank: (created, name.clone(), place.0, place.1),
            });
        }
    };
    match &route.rules {
        RouteRules::Http(rules) => {
            for (index, rule) in rules.iter().enumerate() {
                for (place, of) in rule.matches.iter().enumerate() {
                    add(At::new(&of.location), path(&of.path), conditions(of), (index, place));
                }
            }
        }
        RouteRules::Grpc(rules) => {
            for (index, rule) in rules.iter().enumerate() {
                if rule.matches.is_empty() {
                    add(At::new(&rule.location), "every call".to_owned(), String::new(), (index, 0));
                }
                for (place, of) in rule.matches.iter().enumerate() {
                    add(At::new(&of.location), call(of), fields("header", &of.headers), (index, place));
                }
            }
        }
        RouteRules::Tls(_) | RouteRules::Tcp(_) => {
            add(At::new(&route.meta.location), "every connection".to_owned(), String::new(), (0, 0));
        }
        RouteRules::Udp(_) => add(At::new(&route.meta.location), "every datagram".to_owned(), String::new(), (0, 0)),
    }
}

fn path(of: &PathMatch) -> String {
    match of {
        PathMatch::Exact(path) => format!("path {path}"),
        PathMatch::Prefix(path) if &**path == "/" => "path prefix /".to_owned(),
        PathMatch::Prefix(path) => format!("path prefix {}", path.strip_suffix('/').unwrap_or(path)),
        PathMatch::Regex(pattern) => format!("path pattern {pattern}"),
    }
}

fn conditions(of: &HttpRouteMatch) -> String {
    let method = of.method.iter().map(|method| format!("method {method}"));
    let headers = Some(fields("header", &of.headers)).filter(|text| !text.is_empty());
    let query = Some(fields("query parameter", &of.query_params)).filter(|text| !text.is_empty());
    method.chain(headers).chain(query).collect::<Vec<_>>().join(", ")
}

/// Matches in one order: which is written first says nothing.
fn fields(what: &str, all: &[NamedMatch]) -> String {
    let mut all: Vec<String> = all.iter().map(|of| format!("{what} {}{}", of.name, value(&of.value))).collect();
    all.sort_unstable();
    all.join(", ")
}

fn value(of: &ValueMatch) -> String {
    match of {
        ValueMatch::Exact(text) => format!("={text}"),
        ValueMatch::Regex(pattern) => format!("~{pattern}"),
    }
}

fn call(of: &GrpcRouteMatch) -> String {
    let Some(method) = &of.method else { return "every call".to_owned() };
    let part = |of: &Option<ValueMatch>| match of {
        None => "*".to_owned(),
        Some(ValueMatch::Exact(text)) => text.to_string(),
        Some(ValueMatch::Regex(pattern)) => format!("~{pattern}"),
    };
    format!("call {}/{}", part(&method.service), part(&method.method))
}
