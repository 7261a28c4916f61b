//! Rules by themselves: what cannot answer, never matches, or leads back to itself.

use strait_api::{
    BackendReference, HttpRouteRule, Kind, PathMatch, PathModifier, RequestRedirect, Route, RouteFilter, RouteRules,
};
use strait_base::Location;

use super::Gateways;
use crate::{Report, codes, finding::ObjectRef, place::At};

pub(super) fn check(gateways: &Gateways<'_>, report: &mut Report<'_>) {
    for route in gateways.objects.routes() {
        let object = ObjectRef::new(route.kind(), &route.meta);
        match &route.rules {
            RouteRules::Http(rules) => {
                for rule in rules {
                    self::rule(&object, &rule.location, &rule.filters, &rule.backends, report);
                    redirects(gateways, route, rule, &object, report);
                }
                hidden(rules, &object, report);
            }
            RouteRules::Grpc(rules) => {
                for rule in rules {
                    self::rule(&object, &rule.location, &rule.filters, &rule.backends, report);
                }
            }
            RouteRules::Tls(rules) | RouteRules::Tcp(rules) | RouteRules::Udp(rules) => {
                for rule in rules {
                    weights(&object, &rule.location, &rule.backends, report);
                }
            }
        }
    }
}

fn rule(
    object: &ObjectRef,
    location: &Location,
    filters: &[RouteFilter],
    backends: &[BackendReference],
    report: &mut Report<'_>,
) {
    let at = At::new(location);
    let unsupported = |filter: &RouteFilter| match filter {
        RouteFilter::ExternalAuth(_) => Some("filters of type ExternalAuth are not known yet".to_owned()),
        RouteFilter::Extension(of) => Some(format!("there is no filter {} {} ({})", of.kind, of.name, of.group)),
        RouteFilter::RequestHeaders(_)
        | RouteFilter::ResponseHeaders(_)
        | RouteFilter::Redirect(_)
        | RouteFilter::Rewrite(_)
        | RouteFilter::Mirror(_)
        | RouteFilter::Cors(_) => None,
    };
    let of_backends =
        backends.iter().map(|backend| (At::new(&backend.target.location).field("filters"), &backend.filters[..]));
    for (at, filters) in [(at.field("filters"), filters)].into_iter().chain(of_backends) {
        for (index, filter) in filters.iter().enumerate() {
            if let Some(why) = unsupported(filter) {
                let message = format!("{why}: what the rule would take is answered with 500");
                report.add(
                    &codes::FILTER_UNSUPPORTED,
                    object,
                    &at.item(index),
                    message,
                    "remove it, or say the same with another filter",
                );
            }
        }
    }
    let answers =
        filters.iter().any(|filter| matches!(filter, RouteFilter::Redirect(_)) || unsupported(filter).is_some());
    if backends.is_empty() && !answers {
        let message = "the rule has neither backendRefs nor a redirect: what it takes is answered with 500";
        report.add(&codes::RULE_WITHOUT_BACKEND, object, &at, message, "add backendRefs");
    }
    weights(object, location, backends, report);
}

fn weights(object: &ObjectRef, location: &Location, backends: &[BackendReference], report: &mut Report<'_>) {
    if !backends.is_empty() && backends.iter().all(|backend| backend.weight == 0) {
        let at = At::new(location).field("backendRefs");
        let message = "all weights are 0: nothing goes to any of them, and all is answered with an error";
        report.add(&codes::WEIGHTS_ALL_ZERO, object, &at, message, "give one of them a weight");
    }
}

/// Redirects to where the request came from.
fn redirects(
    gateways: &Gateways<'_>,
    route: &Route,
    rule: &HttpRouteRule,
    object: &ObjectRef,
    report: &mut Report<'_>,
) {
    for (index, filter) in rule.filters.iter().enumerate() {
        let RouteFilter::Redirect(to) = filter else { continue };
        let at_listeners = gateways.attached.at.iter().filter(|of| {
            of.route.kind == Kind::HttpRoute
                && of.route.name == route.meta.name
                && of.route.namespace == route.meta.namespace
        });
        let mut same = at_listeners.filter(|of| {
            let scheme = if &*of.protocol == "HTTPS" { "https" } else { "http" };
            let known = if scheme == "https" { 443 } else { 80 };
            let port = to.port.unwrap_or(if to.scheme.is_some() { known } else { of.port });
            let host = to.hostname.as_ref().is_none_or(|host| of.hosts.iter().all(|of| of.as_ref() == Some(host)));
            to.scheme.as_deref().is_none_or(|to| to == scheme) && port == of.port && host
        });
        if let Some(of) = same.next().filter(|_| keeps_path(to, rule)) {
            let message = format!(
                "at {} the redirect leads to where the request came from: clients go round in circles",
                super::listener_name(of)
            );
            let remedy = "attach the route to the other listener alone (sectionName), or change what it redirects to";
            report.add(
                &codes::REDIRECT_LOOP,
                object,
                &At::new(&rule.location).field("filters").item(index),
                message,
                remedy,
            );
        }
    }
}

/// Whether what comes of a path that the rule takes is taken by it again, and is the same.
fn keeps_path(to: &RequestRedirect, rule: &HttpRouteRule) -> bool {
    match &to.path {
        None => true,
        Some(PathModifier::Full(path)) => {
            rule.matches.iter().all(|of| matches!(&of.path, PathMatch::Exact(exact) if exact == path))
        }
        Some(PathModifier::Prefix(path)) => {
            let trimmed = |path: &str| path.strip_suffix('/').unwrap_or(path).to_owned();
            rule.matches
                .iter()
                .all(|of| matches!(&of.path, PathMatch::Prefix(prefix) if trimmed(prefix) == trimmed(path)))
        }
    }
}

/// Prefixes behind an expression that takes every path: expressions come first.
fn hidden(rules: &[HttpRouteRule], object: &ObjectRef, report: &mut Report<'_>) {
    let everything = rules.iter().flat_map(|rule| &rule.matches).find(|of| {
        let all = matches!(&of.path, PathMatch::Regex(pattern) if matches!(&**pattern, ".*" | "/.*" | "^.*" | "^/.*" | ".+" | "^.*$" | "^/.*$"));
        all && of.headers.is_empty() && of.query_params.is_empty() && of.method.is_none()
    });
    let Some(everything) = everything else { return };
    for of in rules.iter().flat_map(|rule| &rule.matches).filter(|of| matches!(of.path, PathMatch::Prefix(_))) {
        let (_, location) = report.files.locate(&At::new(&everything.location));
        let message = format!(
            "the pattern at {location} takes every path before prefixes are looked at: nothing is left for this"
        );
        report.add(
            &codes::MATCH_SHADOWED,
            object,
            &At::new(&of.location),
            message,
            "write the pattern as the prefix /",
        );
    }
}
