//! HTTP routes of virtual services to rules and matches in order.

use std::{collections::BTreeMap, sync::Arc};

use strait_api::{
    Kind, ObjectKey,
    istio::{
        AbortStatus, CorsPolicy, Destination, Headers, HttpAction, HttpBody, HttpFault, HttpMatch, HttpRedirect,
        HttpRetry, HttpRoute, HttpRouteDestination, RedirectPort as WrittenPort, RetryOn, RouteDestination,
        StringMatch, Strings, UnmatchedPreflights,
    },
};

use super::{
    NAMESPACE, Trouble, TroubleKind,
    bind::absolute,
    delegates::Expanded,
    destinations::{Destinations, Use},
    key_of,
    registry::Mesh,
    troubles::Troubles,
};
use crate::{
    compile::{backends::Backends, sessions},
    matching::whole,
    ordered::{OrderedMatch, PathText, Text},
    plan::{
        Abort, BackendId, CorsPolicy as Cors, Direct, Edits, Fault, Filter, Lost, Mirror, PathRewrite, Redirect,
        RedirectPort, RegexRewrite, Retry, Rewrite, Rule, RuleId, Split, WeightedBackend,
    },
    slots::Filled,
};

/// The longest that a request is held up on purpose.
const LONGEST_DELAY: std::time::Duration = std::time::Duration::from_hours(1);

/// Where a virtual service is bound: what its matches may ask about.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    /// As `NAMESPACE/NAME`.
    pub(super) gateway: &'p str,
    /// The gate's workload.
    pub(super) workload: &'p str,
    /// That of the listener.
    pub(super) port: u16,
}

impl Place<'_> {
    /// Whether something with these conditions is for here: gateways that are named come in place of what is said of clients.
    pub(super) fn suits(
        &self,
        port: Option<u16>,
        gateways: &[Arc<str>],
        labels: &Strings,
        namespace: Option<&Arc<str>>,
        home: &str,
    ) -> bool {
        if port.is_some_and(|port| port != self.port) {
            return false;
        }
        if !gateways.is_empty() {
            return gateways.iter().any(|name| *absolute(name, home) == *self.gateway);
        }
        let own = super::labels(self.workload);
        labels.iter().all(|(key, value)| own.contains(&(&**key, &**value)))
            && namespace.is_none_or(|namespace| &**namespace == NAMESPACE)
    }
}

/// What routes are compiled with, and what the one at hand brought with it so far.
pub(super) struct Compiler<'c> {
    pub(super) mesh: Mesh<'c>,
    pub(super) destinations: &'c mut Destinations,
    pub(super) backends: &'c mut Backends,
    pub(super) rules: &'c mut Filled<Rule>,
    /// Of all there is.
    pub(super) told: &'c mut Troubles,
    /// Of the route at hand.
    pub(super) troubles: Vec<Trouble>,
    uses: Vec<Use>,
    added: Vec<RuleId>,
}

/// What something brought with it: to be given back when it is another.
#[derive(Default)]
pub(super) struct Brought {
    rules: Vec<RuleId>,
    uses: Vec<Use>,
    troubles: Vec<Trouble>,
}

impl<'c> Compiler<'c> {
    pub(super) fn new(
        mesh: Mesh<'c>,
        (destinations, told): (&'c mut Destinations, &'c mut Troubles),
        backends: &'c mut Backends,
        rules: &'c mut Filled<Rule>,
    ) -> Self {
        Self { mesh, destinations, backends, rules, told, troubles: Vec::new(), uses: Vec::new(), added: Vec::new() }
    }

    /// What was brought since the last call.
    pub(super) fn brought(&mut self) -> Brought {
        self.told.add(&self.troubles);
        let (rules, uses) = (std::mem::take(&mut self.added), std::mem::take(&mut self.uses));
        Brought { rules, uses, troubles: std::mem::take(&mut self.troubles) }
    }

    /// Gives back what something brought with it.
    pub(super) fn release(&mut self, of: &Brought) {
        self.told.remove(&of.troubles);
        self.destinations.release(&of.uses, self.backends, self.told);
        for id in &of.rules {
            self.rules.free(*id);
        }
    }

    pub(super) fn rule(&mut self, rule: Rule) -> RuleId {
        let id = self.rules.add(rule);
        self.added.push(id);
        id
    }

    fn backend(&mut self, to: &Destination, at: (&str, u16), object: &ObjectKey) -> BackendId {
        let (id, used) = self.destinations.backend(to, at, object, (self.mesh, self.backends, self.told));
        self.uses.push(used);
        id
    }

    /// The back end that connections of a mesh are passed on to.
    pub(super) fn passed_on(&mut self, to: &Destination, object: &ObjectKey) -> BackendId {
        let (id, used) = self.destinations.passed_on(to, object, (self.mesh, self.backends, self.told));
        self.uses.push(used);
        id
    }

    /// The matches of a virtual service at a place, in order. After one that takes everything none is ever asked.
    pub(super) fn routes(&mut self, home: &str, routes: &[Expanded<'_>], place: Place<'_>) -> Vec<Arc<OrderedMatch>> {
        let mut out: Vec<Arc<OrderedMatch>> = Vec::new();
        for expanded in routes {
            let before = out.len();
            self.route(home, expanded, place, &mut out);
            if out[before..].iter().any(|of| of.is_everything()) {
                break;
            }
        }
        out
    }

    fn route(&mut self, home: &str, expanded: &Expanded<'_>, place: Place<'_>, out: &mut Vec<Arc<OrderedMatch>>) {
        let route = &*expanded.route;
        let everything;
        let suits =
            |of: &&HttpMatch| place.suits(of.port, &of.gateways, &of.source_labels, of.source_namespace.as_ref(), home);
        let matches: Vec<&HttpMatch> = if route.matches.is_empty() {
            everything = any_request(route);
            vec![&everything]
        } else {
            route.matches.iter().filter(suits).collect()
        };
        // What takes the place of the part that was matched depends on the match.
        let by_match = route.rewrite.as_ref().is_some_and(|rewrite| rewrite.uri.is_some())
            || matches!(&route.action, HttpAction::Redirect(HttpRedirect { prefix_rewrite: Some(_), .. }));
        let mut common = None;
        for of in matches {
            let object = key_of(Kind::VirtualService, &expanded.from.meta);
            let Some(mut compiled) = self.compiled_match(of, &object) else { continue };
            let id = match common {
                Some(id) if !by_match => id,
                _ => self.compiled_rule(expanded, of.uri.as_ref(), place, &object),
            };
            common = Some(id);
            compiled.rule = id;
            out.push(Arc::new(compiled));
        }
    }

    /// None for a match that takes no request.
    fn compiled_match(&mut self, of: &HttpMatch, object: &ObjectKey) -> Option<OrderedMatch> {
        let mut text = |of: &StringMatch, location| match of {
            StringMatch::Exact(text) => Some(Text::Exact(Arc::clone(text))),
            StringMatch::Prefix(text) => Some(Text::Prefix(Arc::clone(text))),
            StringMatch::Present => Some(Text::Present),
            StringMatch::Regex(pattern) => match whole(pattern) {
                Ok(regex) => Some(Text::Regex(regex)),
                Err(why) => {
                    let message = format!("{pattern}: {why}: this match takes no request");
                    let object = object.clone();
                    self.troubles.push(Trouble { kind: TroubleKind::Unusable, object, location, message });
                    None
                }
            },
        };
        let at = || of.location.clone();
        // Claims are of tokens, and none is known to be good here.
        if of.headers.keys().chain(of.without_headers.keys()).any(|name| name.starts_with('@')) {
            return None;
        }
        let path = match &of.uri {
            Some(uri) => Some(PathText { text: text(uri, at())?, ignore_case: of.ignore_uri_case }),
            None => None,
        };
        let mut fields: Vec<(Arc<str>, Text)> = Vec::new();
        for (name, part) in [(":scheme", &of.scheme), (":method", &of.method), (":authority", &of.authority)] {
            if let Some(part) = part {
                fields.push((name.into(), text(part, at())?));
            }
        }
        // Upstream takes these names for the parts of the first line, and reads them there alone.
        let is_part = |name: &Arc<str>| matches!(&**name, "uri" | "scheme" | "method" | "authority");
        for (name, part) in of.headers.iter().filter(|(name, _)| !is_part(name)) {
            fields.push((Arc::clone(name), text(part, at())?));
        }
        let mut without = Vec::new();
        for (name, part) in of.without_headers.iter().filter(|(name, _)| !is_part(name)) {
            without.push((Arc::clone(name), text(part, at())?));
        }
        let mut query = Vec::new();
        for (name, part) in &of.query_params {
            query.push((Arc::clone(name), text(part, at())?));
        }
        Some(OrderedMatch { rule: 0, path, fields, without, query })
    }

    fn compiled_rule(
        &mut self,
        expanded: &Expanded<'_>,
        uri: Option<&StringMatch>,
        place: Place<'_>,
        object: &ObjectKey,
    ) -> RuleId {
        let route = &*expanded.route;
        let meta = &expanded.from.meta;
        let index = route.name.as_ref().map_or_else(|| expanded.index.to_string(), ToString::to_string);
        let mut filters = Vec::new();
        filters.extend(route.cors_policy.as_ref().map(|policy| self.cors(policy, route, object)));
        filters.extend(route.fault.as_ref().map(|of| Filter::Fault(fault(of))));
        let own = route.headers.as_ref().map(edits).unwrap_or_default();
        let mut split = Split::default();
        match &route.action {
            HttpAction::Route(destinations) => {
                filters.extend(route.rewrite.as_ref().and_then(|_| self.rewrite(route, uri, object)));
                for mirror in &route.mirrors {
                    let to = &mirror.destination;
                    let at = (&*meta.namespace, place.port);
                    let backend = Some(self.backend(to, at, object));
                    let fraction = (mirror.percentage.millionths, 1_000_000);
                    filters.push(Filter::Mirror(Mirror { backend, fraction, shadow: true }));
                }
                split = self.http_split(destinations, &own, (&meta.namespace, place.port), object);
            }
            HttpAction::Redirect(of) => {
                filters.extend(own);
                filters.push(Filter::Redirect(redirect(of, uri)));
            }
            HttpAction::DirectResponse(of) => {
                filters.extend(own);
                let body = match &of.body {
                    Some(HttpBody::Text(text)) => text.as_bytes().into(),
                    Some(HttpBody::Bytes(bytes)) => Arc::clone(bytes),
                    None => Arc::default(),
                };
                filters.push(Filter::Direct(Arc::new(Direct { status: of.status, body })));
            }
            // Delegates are put in place before.
            HttpAction::Delegate(_) => filters.push(Filter::Unknown),
        }
        // Upstream neither limits nor repeats requests that it makes fail.
        let is_faulty = route.fault.is_some();
        self.rule(Rule {
            name: format!("VirtualService/{}/{}/{index}", meta.namespace, meta.name).into(),
            location: route.location.clone(),
            filters,
            split,
            request_timeout: route.timeout.filter(|timeout| !timeout.is_zero() && !is_faulty),
            backend_request_timeout: route
                .retries
                .as_ref()
                .and_then(|retries| retries.per_try_timeout)
                .filter(|_| !is_faulty),
            retry: if is_faulty { None } else { retry(route.retries.as_ref()) },
            session: None,
            keeps_sessions: false,
        })
    }

    fn http_split(
        &mut self,
        destinations: &[HttpRouteDestination],
        own: &[Filter],
        at: (&str, u16),
        object: &ObjectKey,
    ) -> Split {
        let mut split = Split::default();
        for of in destinations.iter().filter(|of| of.weight > 0) {
            let backend = Some(self.backend(&of.destination, at, object));
            // Edits of the route are laid over those of the destination, as Envoy does.
            let mut filters = of.headers.as_ref().map(edits).unwrap_or_default();
            filters.extend_from_slice(own);
            split.total = split.total.saturating_add(of.weight);
            split.targets.push(WeightedBackend { weight: of.weight, backend, filters });
        }
        split
    }

    /// Back ends of a TLS or TCP route.
    pub(super) fn split(&mut self, destinations: &[RouteDestination], at: (&str, u16), object: &ObjectKey) -> Split {
        let mut split = Split::default();
        for of in destinations.iter().filter(|of| of.weight > 0) {
            let backend = Some(self.backend(&of.destination, at, object));
            split.total = split.total.saturating_add(of.weight);
            split.targets.push(WeightedBackend { weight: of.weight, backend, filters: Vec::new() });
        }
        split
    }

    fn rewrite(&mut self, route: &HttpRoute, uri: Option<&StringMatch>, object: &ObjectKey) -> Option<Filter> {
        let of = route.rewrite.as_ref()?;
        let path = match (&of.uri, &of.uri_regex_rewrite) {
            (Some(with), _) => Some(replaced(with, uri)),
            (None, Some(rewrite)) => {
                const PROGRAM: usize = 1 << 20;
                let builder = regex::RegexBuilder::new(&rewrite.pattern).size_limit(PROGRAM).build();
                let Ok(regex) = builder else {
                    let message = format!("{}: too large an expression: requests get a 500", rewrite.pattern);
                    let (object, location) = (object.clone(), route.location.clone());
                    self.troubles.push(Trouble { kind: TroubleKind::Unusable, object, location, message });
                    return Some(Filter::Unknown);
                };
                Some(PathRewrite::Regex(RegexRewrite { regex, with: Arc::clone(&rewrite.rewrite) }))
            }
            (None, None) => None,
        };
        Some(Filter::Rewrite(Rewrite { hostname: of.authority.clone(), path }))
    }

    fn cors(&mut self, of: &CorsPolicy, route: &HttpRoute, object: &ObjectKey) -> Filter {
        let mut origins = Vec::new();
        for origin in &of.allow_origins {
            match origin {
                // Of before: a star in place of an origin is all of them.
                StringMatch::Exact(text) if &**text == "*" => origins.push(Text::Present),
                StringMatch::Exact(text) => origins.push(Text::Exact(Arc::clone(text))),
                StringMatch::Prefix(text) => origins.push(Text::Prefix(Arc::clone(text))),
                StringMatch::Present => {}
                StringMatch::Regex(pattern) => match whole(pattern) {
                    Ok(regex) => origins.push(Text::Regex(regex)),
                    Err(why) => {
                        let message = format!("{pattern}: {why}: it allows no origin");
                        let (object, location) = (object.clone(), route.location.clone());
                        self.troubles.push(Trouble { kind: TroubleKind::Unusable, object, location, message });
                    }
                },
            }
        }
        let list = |names: &[Arc<str>]| {
            (!names.is_empty()).then(|| names.iter().map(|name| &**name).collect::<Vec<_>>().join(",").into())
        };
        Filter::CorsPolicy(Arc::new(Cors {
            origins,
            methods: list(&of.allow_methods),
            headers: list(&of.allow_headers),
            expose: list(&of.expose_headers),
            max_age: of.max_age.map(|age| age.as_secs().to_string().into()),
            credentials: of.allow_credentials.unwrap_or(false),
            forward_unmatched: of.unmatched_preflights == UnmatchedPreflights::Forward,
        }))
    }
}

/// What a route without matches has.
fn any_request(route: &HttpRoute) -> HttpMatch {
    HttpMatch {
        name: None,
        uri: None,
        scheme: None,
        method: None,
        authority: None,
        headers: BTreeMap::new(),
        without_headers: BTreeMap::new(),
        query_params: BTreeMap::new(),
        port: None,
        source_labels: Strings::new(),
        source_namespace: None,
        gateways: Vec::new(),
        ignore_uri_case: false,
        stat_prefix: None,
        location: route.location.clone(),
    }
}

/// What `with` takes the place of: the prefix that was matched, or else the whole path. Nothing matched is the prefix `/`.
fn replaced(with: &Arc<str>, uri: Option<&StringMatch>) -> PathRewrite {
    let with = Arc::clone(with);
    match uri {
        Some(StringMatch::Prefix(prefix)) => PathRewrite::Start { length: prefix.len(), with },
        Some(StringMatch::Exact(_) | StringMatch::Regex(_)) => PathRewrite::Full(with),
        None | Some(StringMatch::Present) => PathRewrite::Start { length: 1, with },
    }
}

fn redirect(of: &HttpRedirect, uri: Option<&StringMatch>) -> Redirect {
    let whole = of.uri.as_ref().map(|uri| PathRewrite::Full(Arc::clone(uri)));
    Redirect {
        scheme: of.scheme.clone(),
        hostname: of.authority.clone(),
        path: whole.or_else(|| of.prefix_rewrite.as_ref().map(|with| replaced(with, uri))),
        port: match of.port {
            WrittenPort::Unset => RedirectPort::Kept,
            WrittenPort::Number(port) => RedirectPort::Number(port),
            WrittenPort::ProtocolDefault => RedirectPort::Scheme,
            WrittenPort::RequestPort => RedirectPort::Request,
        },
        status: of.redirect_code,
    }
}

/// When a request is sent again, as Envoy reads the tokens; without `retries`, or without tokens, as istiod's default has it. Those that
/// ask for a status of gRPC or for a header of the response are not looked at, and `analyze` says so. A stream that a back end refused is sent
/// again whatever they say.
fn retry(of: Option<&HttpRetry>) -> Option<Retry> {
    const DEFAULT: [RetryOn; 2] = [RetryOn::ConnectFailure, RetryOn::RefusedStream];
    let attempts = of.map_or(sessions::ATTEMPTS, |of| of.attempts);
    let on = of.map(|of| of.retry_on.as_slice()).filter(|on| !on.is_empty()).unwrap_or(&DEFAULT);
    let mut codes = Vec::new();
    for token in on {
        match token {
            RetryOn::ServerError => codes.extend(500..600),
            RetryOn::GatewayError => codes.extend(502..=504),
            RetryOn::Retriable4xx => codes.push(409),
            RetryOn::Status(status) => codes.push(*status),
            RetryOn::Reset
            | RetryOn::ResetBeforeRequest
            | RetryOn::ConnectFailure
            | RetryOn::EnvoyRatelimited
            | RetryOn::RefusedStream
            | RetryOn::RetriableStatusCodes
            | RetryOn::RetriableHeaders
            | RetryOn::Http3PostConnectFailure
            | RetryOn::Cancelled
            | RetryOn::DeadlineExceeded
            | RetryOn::Internal
            | RetryOn::ResourceExhausted
            | RetryOn::Unavailable => {}
        }
    }
    codes.sort_unstable();
    codes.dedup();
    let of_resets = [RetryOn::Reset, RetryOn::ServerError, RetryOn::GatewayError];
    let of_connections = [RetryOn::ConnectFailure, RetryOn::ResetBeforeRequest];
    let lost = on.iter().any(|token| of_resets.contains(token));
    (attempts > 0).then(|| Retry {
        codes,
        not_sent: lost || on.iter().any(|token| of_connections.contains(token)),
        lost: if lost { Lost::Always } else { Lost::Never },
        attempts,
        backoff: of.and_then(|of| of.backoff).unwrap_or(sessions::BACKOFF),
    })
}

fn fault(of: &HttpFault) -> Fault {
    Fault {
        delay: of
            .delay
            .as_ref()
            .map(|delay| (delay.fixed_delay.min(LONGEST_DELAY), (delay.percentage.millionths, 1_000_000))),
        abort: of.abort.as_ref().map(|abort| {
            let with = match abort.status {
                AbortStatus::HttpStatus(status) => Abort::Http(status),
                AbortStatus::GrpcStatus(status) => Abort::Grpc(status),
            };
            (with, (abort.percentage.millionths, 1_000_000))
        }),
    }
}

/// Edits of fields, and of the host.
fn edits(of: &Headers) -> Vec<Filter> {
    let pairs = |all: &Strings| {
        let others = all.iter().filter(|(name, _)| &***name != "host");
        others.map(|(name, value)| (Arc::clone(name), Arc::clone(value))).collect::<Vec<_>>()
    };
    let mut out = Vec::new();
    let host = of.request.set.get("host").or_else(|| of.request.add.get("host"));
    out.extend(host.map(|host| Filter::Rewrite(Rewrite { hostname: Some(Arc::clone(host)), path: None })));
    for (operations, request) in [(&of.request, true), (&of.response, false)] {
        let edits =
            Edits { set: pairs(&operations.set), add: pairs(&operations.add), remove: operations.remove.clone() };
        if edits != Edits::default() {
            out.push(if request { Filter::RequestHeaders(edits) } else { Filter::ResponseHeaders(edits) });
        }
    }
    out
}
