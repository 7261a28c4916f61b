//! Routes of `gateway.networking.k8s.io`, as the CRDs of v1.6 check them. Filters are in `filters`.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    decode::{Decoder, Fields},
    filters,
    gateway_values::{self as gv, Defaults, at_most, bounded, hostname, one_of, section_name, twice},
    report::ErrorKind,
    text::Fault,
    traffic::session_persistence,
    tree::Node,
};
use crate::types::{
    BackendReference, GrpcMethodMatch, GrpcRouteMatch, GrpcRouteRule, HttpRouteMatch, HttpRouteRule, L4RouteRule,
    NamedMatch, Object, ObjectMeta, ParentReference, PathMatch, Route, RouteFilter, RouteRetry, RouteRules, ValueMatch,
};

/// Which kind of route.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RouteKind {
    Http,
    Grpc,
    Tls,
    Tcp,
    Udp,
}

pub(super) fn route(
    d: &mut Decoder<'_>,
    root: &mut Fields<'_>,
    meta: Option<ObjectMeta>,
    kind: RouteKind,
) -> Option<Object> {
    let spec = d.required(root, "spec", "an object", |d, node| {
        let mut fields = d.fields(node)?;
        let parents = parents(d, &mut fields);
        let hostnames = match kind {
            RouteKind::Http | RouteKind::Grpc => bounded(d, &mut fields, "hostnames", (0, 16), hostname),
            RouteKind::Tls => bounded(d, &mut fields, "hostnames", (1, 1024), hostname),
            RouteKind::Tcp | RouteKind::Udp => Vec::new(),
        };
        let rules = rules(d, &mut fields, kind);
        let default_gateways = d.optional(&mut fields, "useDefaultGateways", gv::default_scope).unwrap_or_default();
        d.close(&fields, &[]);
        Some((parents, default_gateways, hostnames, rules))
    });
    let (parents, default_gateways, hostnames, rules) = spec?;
    Some(Object::Route(Arc::new(Route { meta: meta?, parents, default_gateways, hostnames, rules })))
}

fn rules(d: &mut Decoder<'_>, fields: &mut Fields<'_>, kind: RouteKind) -> RouteRules {
    let mut names = BTreeSet::new();
    match kind {
        RouteKind::Http => {
            let mut rules = bounded(d, fields, "rules", (0, 16), |d, node| http_rule(d, node, &mut names));
            let matches: usize = rules.iter().map(|rule| rule.matches.len()).sum();
            at_most(d, fields.node, matches, 128, "matches in all rules");
            if fields.node.get("rules").is_none() {
                // The default of the API.
                rules.push(HttpRouteRule::everything(d.location(fields.node.at)));
            }
            RouteRules::Http(rules)
        }
        RouteKind::Grpc => {
            let rules = bounded(d, fields, "rules", (0, 16), |d, node| grpc_rule(d, node, &mut names));
            let matches: usize = rules.iter().map(|rule| rule.matches.len()).sum();
            at_most(d, fields.node, matches, 128, "matches in all rules");
            RouteRules::Grpc(rules)
        }
        RouteKind::Tls => RouteRules::Tls(bounded(d, fields, "rules", (1, 1), l4_rule)),
        RouteKind::Tcp => RouteRules::Tcp(bounded(d, fields, "rules", (1, 1), l4_rule)),
        RouteKind::Udp => RouteRules::Udp(bounded(d, fields, "rules", (1, 1), l4_rule)),
    }
}

fn parents(d: &mut Decoder<'_>, fields: &mut Fields<'_>) -> Vec<ParentReference> {
    let mut seen: Vec<ParentReference> = Vec::new();
    bounded(d, fields, "parentRefs", (0, 32), |d, node| {
        let mut fields = d.fields(node)?;
        let target = gv::reference_fields(d, &mut fields, Defaults::GATEWAY);
        let section_name = d.optional(&mut fields, "sectionName", section_name);
        let port = d.optional(&mut fields, "port", Decoder::port);
        d.close(&fields, &[]);
        let target = target?;
        let parent = ParentReference {
            group: target.group,
            kind: target.kind,
            namespace: target.namespace,
            name: target.name,
            section_name,
            port,
            location: target.location,
        };
        if seen.iter().any(|other| refuses(other, &parent)) {
            let allowed = "each parent once, and with different sectionNames or ports where more often";
            twice(d, node, &parent.name, allowed);
        }
        seen.push(parent.clone());
        Some(parent)
    })
}

/// Whether two references to one parent are not told apart: by section name or port, which both must have or lack.
fn refuses(a: &ParentReference, b: &ParentReference) -> bool {
    let same = a.group == b.group && a.kind == b.kind && a.name == b.name && a.namespace == b.namespace;
    let given = |name: &Option<Arc<str>>| name.as_deref().is_some_and(|name| !name.is_empty());
    let mixed = given(&a.section_name) != given(&b.section_name) || a.port.is_some() != b.port.is_some();
    same && (mixed || (a.section_name == b.section_name && a.port == b.port))
}

fn rule_name(d: &mut Decoder<'_>, fields: &mut Fields<'_>, names: &mut BTreeSet<Arc<str>>) -> Option<Arc<str>> {
    d.optional(fields, "name", |d, node| {
        let name = section_name(d, node)?;
        if !names.insert(Arc::clone(&name)) {
            twice(d, node, &name, "each rule name once in a route");
        }
        Some(name)
    })
}

fn http_rule(d: &mut Decoder<'_>, node: &Node, names: &mut BTreeSet<Arc<str>>) -> Option<HttpRouteRule> {
    let mut fields = d.fields(node)?;
    let name = rule_name(d, &mut fields, names);
    let mut matches = bounded(d, &mut fields, "matches", (0, 64), http_match);
    let location = d.location(node.at);
    if matches.is_empty() && fields.get("matches").is_none_or(|node| gv::length(node) == 0) {
        matches.push(HttpRouteMatch::everything(location.clone()));
    }
    let filters = filters::list(d, &mut fields, RouteKind::Http);
    let backends = bounded(d, &mut fields, "backendRefs", (0, 16), |d, node| backend(d, node, Some(RouteKind::Http)));
    let timeouts = d.optional(&mut fields, "timeouts", |d, node| {
        let mut fields = d.fields(node)?;
        let request = d.optional(&mut fields, "request", gv::duration);
        let backend = d.optional(&mut fields, "backendRequest", gv::duration);
        d.close(&fields, &[]);
        if let (Some(request), Some(backend)) = (request, backend)
            && !request.is_zero()
            && backend > request
        {
            let fault = Fault::new(node.at, ErrorKind::Value, "backendRequest above request", "at most request");
            d.fault(fault.remedy("lower backendRequest, or raise request"));
        }
        Some((request, backend))
    });
    let retry = d.optional(&mut fields, "retry", retry);
    let session_persistence = d.optional(&mut fields, "sessionPersistence", session_persistence);
    d.close(&fields, &[]);
    filters::check_http_rule(d, node, &filters, &backends, &matches);
    let (request_timeout, backend_request_timeout) = timeouts.unwrap_or_default();
    Some(HttpRouteRule {
        name,
        matches,
        filters,
        backends,
        request_timeout,
        backend_request_timeout,
        retry,
        session_persistence,
        location,
    })
}

fn http_match(d: &mut Decoder<'_>, node: &Node) -> Option<HttpRouteMatch> {
    const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    let mut fields = d.fields(node)?;
    let has_path = fields.get("path").is_some();
    let path = d.optional(&mut fields, "path", path_match);
    let headers = named_matches(d, &mut fields, "headers", true);
    let query_params = named_matches(d, &mut fields, "queryParams", false);
    let method = d.optional(&mut fields, "method", |d, node| one_of(d, node, &METHODS).map(Arc::from));
    d.close(&fields, &[]);
    let path = if has_path { path? } else { PathMatch::Prefix("/".into()) };
    Some(HttpRouteMatch { path, headers, query_params, method, location: d.location(node.at) })
}

fn path_match(d: &mut Decoder<'_>, node: &Node) -> Option<PathMatch> {
    let mut fields = d.fields(node)?;
    let kind =
        d.optional(&mut fields, "type", |d, node| one_of(d, node, &["Exact", "PathPrefix", "RegularExpression"]));
    let kind = kind.unwrap_or("PathPrefix");
    let value = d.optional(&mut fields, "value", |d, node| match kind {
        "RegularExpression" => gv::regex(d, node, 1024),
        _ => path_value(d, node),
    });
    let missing = node.get("value").is_none_or(|entry| entry.value.is_null());
    d.close(&fields, &[]);
    let value = if missing { "/".into() } else { value? };
    Some(match kind {
        "Exact" => PathMatch::Exact(value),
        "PathPrefix" => PathMatch::Prefix(value),
        _ => PathMatch::Regex(value),
    })
}

/// A path to compare with: absolute, normal, without query and fragment.
fn path_value(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    d.checked(node, |text| {
        if text.len() > 1024 || !text.starts_with('/') {
            return Err("a path from '/', of at most 1024 characters");
        }
        if text.contains("//")
            || text.contains("/./")
            || text.contains("/../")
            || text.ends_with("/..")
            || text.ends_with("/.")
        {
            return Err("a path without empty, '.' and '..' elements");
        }
        let lower = text.to_ascii_lowercase();
        if lower.contains("%2f") || text.contains('#') {
            return Err("a path without %2F and '#'");
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&byte);
        let escapes = text.bytes().enumerate().filter(|(_, byte)| *byte == b'%').all(|(index, _)| {
            text.as_bytes().get(index + 1..index + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
        });
        (text.bytes().all(legal) && escapes)
            .then_some(())
            .ok_or("a path of characters that RFC 3986 allows, others as %XX")
    })
}

fn named_matches(d: &mut Decoder<'_>, fields: &mut Fields<'_>, name: &'static str, header: bool) -> Vec<NamedMatch> {
    let mut seen = BTreeSet::new();
    bounded(d, fields, name, (0, 16), |d, node| {
        let mut fields = d.fields(node)?;
        let kind = d.optional(&mut fields, "type", |d, node| one_of(d, node, &["Exact", "RegularExpression"]));
        let name = d.required(&mut fields, "name", "a name", gv::header_name_as_written);
        let regex = kind == Some("RegularExpression");
        let value = d.required(&mut fields, "value", "what to compare with", |d, node| match regex {
            true => gv::regex(d, node, if header { 4096 } else { 1024 }),
            false if header => gv::header_value(d, node),
            false => d.checked(node, |text| (1..=1024).contains(&text.len()).then_some(()).ok_or("1-1024 characters")),
        });
        d.close(&fields, &[]);
        let (name, value) = (name?, value?);
        let name = if header { gv::lower(name) } else { name };
        let value = if regex { ValueMatch::Regex(value) } else { ValueMatch::Exact(value) };
        // Upstream refuses equal names and says that of names that differ in case the first counts.
        seen.insert(Arc::clone(&name)).then_some(NamedMatch { name, value })
    })
}

fn grpc_rule(d: &mut Decoder<'_>, node: &Node, names: &mut BTreeSet<Arc<str>>) -> Option<GrpcRouteRule> {
    let mut fields = d.fields(node)?;
    let name = rule_name(d, &mut fields, names);
    let matches = bounded(d, &mut fields, "matches", (0, 64), |d, node| {
        let mut fields = d.fields(node)?;
        let method = d.optional(&mut fields, "method", grpc_method);
        let headers = named_matches(d, &mut fields, "headers", true);
        d.close(&fields, &[]);
        Some(GrpcRouteMatch { method, headers, location: d.location(node.at) })
    });
    let filters = filters::list(d, &mut fields, RouteKind::Grpc);
    let backends = bounded(d, &mut fields, "backendRefs", (0, 16), |d, node| backend(d, node, Some(RouteKind::Grpc)));
    let session_persistence = d.optional(&mut fields, "sessionPersistence", session_persistence);
    d.close(&fields, &[]);
    Some(GrpcRouteRule { name, matches, filters, backends, session_persistence, location: d.location(node.at) })
}

fn grpc_method(d: &mut Decoder<'_>, node: &Node) -> Option<GrpcMethodMatch> {
    let before = d.errors.len();
    let mut fields = d.fields(node)?;
    let kind = d.optional(&mut fields, "type", |d, node| one_of(d, node, &["Exact", "RegularExpression"]));
    let regex = kind == Some("RegularExpression");
    let mut part = |d: &mut Decoder<'_>, name| {
        d.optional(&mut fields, name, |d, node| {
            if d.string(node)?.is_empty() {
                return None;
            }
            if regex {
                return gv::regex(d, node, 1024).map(ValueMatch::Regex);
            }
            d.checked(node, |text| {
                let valid = text.len() <= 1024
                    && text.split('.').all(|part| {
                        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                    });
                valid.then_some(()).ok_or("a protobuf name, as package.Service or Method")
            })
            .map(ValueMatch::Exact)
        })
    };
    let (service, method) = (part(d, "service"), part(d, "method"));
    d.close(&fields, &[]);
    if service.is_none() && method.is_none() {
        if d.errors.len() > before {
            return None;
        }
        let fault = Fault::new(node.at, ErrorKind::Missing, node.found(), "service, method or both");
        d.fault(fault.remedy("leave method out to match every call"));
        return None;
    }
    Some(GrpcMethodMatch { service, method })
}

fn l4_rule(d: &mut Decoder<'_>, node: &Node) -> Option<L4RouteRule> {
    let mut fields = d.fields(node)?;
    let name = d.optional(&mut fields, "name", section_name);
    let backends = bounded(d, &mut fields, "backendRefs", (1, 16), |d, node| backend(d, node, None));
    d.close(&fields, &[]);
    Some(L4RouteRule { name, backends, location: d.location(node.at) })
}

/// One of `backendRefs`; with filters where `filtered` says of which kind of route.
pub(super) fn backend(d: &mut Decoder<'_>, node: &Node, filtered: Option<RouteKind>) -> Option<BackendReference> {
    let mut fields = d.fields(node)?;
    let target = gv::reference_fields(d, &mut fields, Defaults::SERVICE);
    let port = d.optional(&mut fields, "port", Decoder::port);
    let weight = d.optional(&mut fields, "weight", |d, node| d.integer(node, 0, 1_000_000));
    let filters = match filtered {
        Some(kind) => filters::list(d, &mut fields, kind),
        None => Vec::new(),
    };
    d.close(&fields, &[]);
    let target = target?;
    if port.is_none() && target.group.is_empty() && &*target.kind == "Service" && node.get("port").is_none() {
        d.missing(node.at, "port", "a port of the Service, 1-65535");
    }
    let weight = weight.map_or(1, |weight| u32::try_from(weight).unwrap_or(0));
    Some(BackendReference { target, port, weight, filters })
}

fn retry(d: &mut Decoder<'_>, node: &Node) -> Option<RouteRetry> {
    let mut fields = d.fields(node)?;
    let codes =
        d.list(&mut fields, "codes", |d, node| d.integer(node, 400, 599).and_then(|code| u16::try_from(code).ok()));
    let attempts = d.optional(&mut fields, "attempts", Decoder::natural);
    let backoff = d.optional(&mut fields, "backoff", gv::duration);
    d.close(&fields, &[]);
    Some(RouteRetry { codes, attempts, backoff })
}

/// Whether a list of filters redirects.
pub(super) fn redirects(filters: &[RouteFilter]) -> bool {
    filters.iter().any(|filter| matches!(filter, RouteFilter::Redirect(_)))
}
