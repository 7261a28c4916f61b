//! Rules of HTTP and gRPC routes.

use std::sync::Arc;

use strait_api::{
    BackendReference, GrpcMethodMatch, GrpcRouteRule, HeaderModifier, HttpRouteRule, NamedMatch, PathMatch,
    PathModifier, Route, RouteFilter, RouteRules, SessionPersistence, ValueMatch,
};

use super::{
    backends::{Backends, Referrer},
    sessions,
    world::World,
};
use crate::{
    matching::{Candidate, Path, Value, whole},
    plan::{
        Edits, Filter, Mirror, PathRewrite, Redirect, RedirectPort, Rewrite, Rule, RuleId, Session, Split,
        WeightedBackend,
    },
    status::Condition,
};

/// The rules of a route, and by which matches they are found.
#[derive(Default)]
pub(super) struct Compiled {
    pub(super) matches: Vec<(Path, Candidate)>,
    /// Why some reference leads nowhere, if one does: the last such.
    pub(super) unresolved: Option<Condition>,
    /// Why some part of the rule at hand cannot be accepted, if one cannot.
    unsupported: Option<Condition>,
    /// Rules that cannot be accepted, by what they are called, and why.
    pub(super) dropped: Vec<(String, Condition)>,
    /// By their places, which matches name.
    pub(super) rules: Vec<Rule>,
}

impl Compiled {
    /// Ends a rule: what could not be accepted was of it.
    fn end_rule(&mut self, index: usize, name: Option<&Arc<str>>) {
        if let Some(why) = self.unsupported.take() {
            let name = name.map_or_else(|| (index + 1).to_string(), ToString::to_string);
            self.dropped.push((name, why));
        }
    }

    fn note<T>(&mut self, result: Result<T, Condition>) -> Option<T> {
        result.map_err(|condition| self.unresolved = Some(condition)).ok()
    }
}

/// Compiles the rules of an HTTP or gRPC route for one gateway.
pub(super) fn route(route: &Route, by: Referrer<'_>, world: &World<'_>, backends: &mut Backends) -> Compiled {
    let mut out = Compiled::default();
    let age = route.meta.created.unwrap_or(i64::MAX);
    let key: Arc<str> = format!("{}/{}", route.meta.namespace, route.meta.name).into();
    let mut rank = 0;
    let mut add = |out: &mut Compiled, index: usize, rule: Rule, matches: Vec<(Path, Candidate)>| {
        let id = RuleId::try_from(out.rules.len()).unwrap_or(RuleId::MAX);
        out.rules.push(rule);
        for (path, mut candidate) in matches {
            candidate.rule = id;
            candidate.rank = (age, Arc::clone(&key), u32::try_from(index).unwrap_or(u32::MAX), rank);
            rank += 1;
            out.matches.push((path, candidate));
        }
    };
    match &route.rules {
        RouteRules::Http(of) => {
            for (index, rule) in of.iter().enumerate() {
                let matches = http_matches(rule, &mut out);
                let compiled = http_rule(route, index, rule, by, world, backends, &mut out);
                add(&mut out, index, compiled, matches);
                out.end_rule(index, rule.name.as_ref());
            }
        }
        RouteRules::Grpc(of) => {
            for (index, rule) in of.iter().enumerate() {
                let matches = grpc_matches(rule, &mut out);
                let name = rule_name(route, index, rule.name.as_ref());
                let session = session(rule.session_persistence.as_ref(), &name, Vec::new(), &mut out);
                let mut compiled = Rule {
                    name,
                    location: rule.location.clone(),
                    filters: filters(&rule.filters, None, by, world, backends, &mut out),
                    split: split(&rule.backends, None, by, world, backends, &mut out),
                    request_timeout: None,
                    backend_request_timeout: None,
                    retry: None,
                    session,
                    keeps_sessions: false,
                };
                refuse_dropped(&mut compiled, &out);
                add(&mut out, index, compiled, matches);
                out.end_rule(index, rule.name.as_ref());
            }
        }
        RouteRules::Tls(_) | RouteRules::Tcp(_) | RouteRules::Udp(_) => {}
    }
    out
}

fn rule_name(route: &Route, index: usize, name: Option<&Arc<str>>) -> Arc<str> {
    let meta = &route.meta;
    let rule = name.map_or_else(|| index.to_string(), ToString::to_string);
    format!("{}/{}/{}/{rule}", route.kind(), meta.namespace, meta.name).into()
}

fn http_rule(
    route: &Route,
    index: usize,
    rule: &HttpRouteRule,
    by: Referrer<'_>,
    world: &World<'_>,
    backends: &mut Backends,
    out: &mut Compiled,
) -> Rule {
    // Only a rule with a single match by prefix may replace prefixes: the parser sees to that.
    let prefix = match rule.matches.as_slice() {
        [of] => match &of.path {
            PathMatch::Prefix(prefix) => Some(prefix),
            PathMatch::Exact(_) | PathMatch::Regex(_) => None,
        },
        _ => None,
    };
    let finite = |timeout: Option<std::time::Duration>| timeout.filter(|timeout| !timeout.is_zero());
    let name = rule_name(route, index, rule.name.as_ref());
    let paths = sessions::cookie_paths(rule.matches.iter());
    let session = session(rule.session_persistence.as_ref(), &name, paths, out);
    let mut compiled = Rule {
        name,
        location: rule.location.clone(),
        filters: filters(&rule.filters, prefix, by, world, backends, out),
        split: split(&rule.backends, prefix, by, world, backends, out),
        request_timeout: finite(rule.request_timeout),
        backend_request_timeout: finite(rule.backend_request_timeout),
        retry: rule.retry.as_ref().and_then(sessions::retry),
        session,
        keeps_sessions: false,
    };
    refuse_dropped(&mut compiled, out);
    compiled
}

/// What a rule that cannot be accepted would take goes nowhere else: it is answered with 500, in place of some other filter as well.
fn refuse_dropped(rule: &mut Rule, out: &Compiled) {
    if out.unsupported.is_some() && !rule.filters.contains(&Filter::Unknown) {
        rule.filters.insert(0, Filter::Unknown);
    }
}

fn session(
    of: Option<&SessionPersistence>,
    rule: &Arc<str>,
    paths: Vec<Arc<str>>,
    out: &mut Compiled,
) -> Option<Session> {
    let session = sessions::session(of?, Arc::clone(rule), Some(paths));
    session.map_err(|condition| out.unsupported = Some(condition)).ok()
}

/// Back ends by weight. A reference that leads nowhere keeps its share.
pub(super) fn split(
    references: &[BackendReference],
    prefix: Option<&Arc<str>>,
    by: Referrer<'_>,
    world: &World<'_>,
    backends: &mut Backends,
    out: &mut Compiled,
) -> Split {
    let mut split = Split::default();
    for reference in references {
        let backend = backends.resolve(reference, by, world);
        let backend = out.note(backend);
        let filters = filters(&reference.filters, prefix, by, world, backends, out);
        split.total = split.total.saturating_add(reference.weight);
        let share = WeightedBackend { weight: reference.weight, backend, filters };
        if share.weight > 0 { split.targets.push(share) } else { split.retired.push(share) }
    }
    split
}

fn filters(
    filters: &[RouteFilter],
    prefix: Option<&Arc<str>>,
    by: Referrer<'_>,
    world: &World<'_>,
    backends: &mut Backends,
    out: &mut Compiled,
) -> Vec<Filter> {
    let path = |path: &Option<PathModifier>| {
        path.as_ref().map(|modifier| match modifier {
            PathModifier::Full(whole) => PathRewrite::Full(Arc::clone(whole)),
            PathModifier::Prefix(with) => {
                let prefix = prefix.map_or("", |prefix| prefix.strip_suffix('/').unwrap_or(prefix));
                PathRewrite::Prefix { prefix: prefix.into(), with: Arc::clone(with) }
            }
        })
    };
    let compiled = filters.iter().map(|filter| match filter {
        RouteFilter::RequestHeaders(of) => Filter::RequestHeaders(edits(of)),
        RouteFilter::ResponseHeaders(of) => Filter::ResponseHeaders(edits(of)),
        RouteFilter::Redirect(of) => Filter::Redirect(Redirect {
            scheme: of.scheme.clone(),
            hostname: of.hostname.clone(),
            path: path(&of.path),
            port: of.port.map_or(RedirectPort::Listener, RedirectPort::Number),
            status: of.status_code,
        }),
        RouteFilter::Rewrite(of) => Filter::Rewrite(Rewrite { hostname: of.hostname.clone(), path: path(&of.path) }),
        RouteFilter::Mirror(of) => {
            let backend = backends.resolve(&of.backend, by, world);
            Filter::Mirror(Mirror { backend: out.note(backend), fraction: of.fraction, shadow: false })
        }
        RouteFilter::Cors(of) => Filter::Cors(Arc::new(of.clone())),
        RouteFilter::ExternalAuth(_) => {
            let message = "filters of type ExternalAuth are not known yet: requests are answered with 500";
            out.unsupported = Some(Condition::no("UnsupportedValue", message));
            Filter::Unknown
        }
        RouteFilter::Extension(of) => {
            let message =
                format!("there is no filter {} {} ({}): requests are answered with 500", of.kind, of.name, of.group);
            out.unsupported = Some(Condition::no("UnsupportedValue", message));
            Filter::Unknown
        }
    });
    compiled.collect()
}

fn edits(of: &HeaderModifier) -> Edits {
    Edits { set: of.set.clone(), add: of.add.clone(), remove: of.remove.clone() }
}

fn candidate(method: Option<Arc<str>>, headers: Vec<(Arc<str>, Value)>, query: Vec<(Arc<str>, Value)>) -> Candidate {
    Candidate { rule: 0, method, headers, query, rank: (0, "".into(), 0, 0) }
}

fn http_matches(rule: &HttpRouteRule, out: &mut Compiled) -> Vec<(Path, Candidate)> {
    let matches = rule.matches.iter().filter_map(|of| {
        let path = match &of.path {
            PathMatch::Exact(path) => Path::Exact(Arc::clone(path)),
            PathMatch::Prefix(prefix) => Path::Prefix(Arc::clone(prefix)),
            PathMatch::Regex(pattern) => Path::Regex(regex(pattern, out)?),
        };
        Some((path, candidate(of.method.clone(), named(&of.headers, out)?, named(&of.query_params, out)?)))
    });
    matches.collect()
}

/// A call's path is `/SERVICE/METHOD`. Those of a rule without matches are all calls.
fn grpc_matches(rule: &GrpcRouteRule, out: &mut Compiled) -> Vec<(Path, Candidate)> {
    if rule.matches.is_empty() {
        return vec![(Path::Prefix("/".into()), candidate(None, Vec::new(), Vec::new()))];
    }
    let matches = rule.matches.iter().filter_map(|of| {
        let path = grpc_path(of.method.as_ref(), out)?;
        Some((path, candidate(None, named(&of.headers, out)?, Vec::new())))
    });
    matches.collect()
}

fn grpc_path(of: Option<&GrpcMethodMatch>, out: &mut Compiled) -> Option<Path> {
    let (service, method) = of.map_or((None, None), |of| (of.service.as_ref(), of.method.as_ref()));
    let element = |of: Option<&ValueMatch>| match of {
        None => "[^/]+".to_owned(),
        Some(ValueMatch::Exact(text)) => regex::escape(text),
        Some(ValueMatch::Regex(pattern)) => format!("(?:{pattern})"),
    };
    Some(match (service, method) {
        (None, None) => Path::Prefix("/".into()),
        (Some(ValueMatch::Exact(service)), None) => Path::Prefix(format!("/{service}").into()),
        (Some(ValueMatch::Exact(service)), Some(ValueMatch::Exact(method))) => {
            Path::Exact(format!("/{service}/{method}").into())
        }
        _ => Path::Regex(regex(&format!("/{}/{}", element(service), element(method)), out)?),
    })
}

fn named(matches: &[NamedMatch], out: &mut Compiled) -> Option<Vec<(Arc<str>, Value)>> {
    let compiled = matches.iter().map(|of| {
        let value = match &of.value {
            ValueMatch::Exact(text) => Value::Exact(Arc::clone(text)),
            ValueMatch::Regex(pattern) => Value::Regex(regex(pattern, out)?),
        };
        Some((Arc::clone(&of.name), value))
    });
    compiled.collect()
}

/// A match whose expression cannot be used matches nothing, and the route's status says why.
fn regex(pattern: &str, out: &mut Compiled) -> Option<regex::bytes::Regex> {
    let refused = |why| Condition::no("UnsupportedValue", format!("{pattern}: {why}"));
    whole(pattern).map_err(|why| out.unsupported = Some(refused(why))).ok()
}
