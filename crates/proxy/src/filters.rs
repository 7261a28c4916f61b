//! Filters of a rule and of the back end that was chosen, put together for one request.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use strait_api::Cors;
use strait_http::{Known, Overlay, RequestHead, split_authority};
use strait_route::{Abort, CorsPolicy, Direct, Fault, Filter, Mirror, PathRewrite, Redirect, RedirectPort, Rule};

use crate::{
    cors,
    local::{self, Answer, Fields},
    record::Reason,
};

/// The filters that a request goes through: those of its rule, then those of the back end that was chosen.
#[derive(Clone, Copy, Default)]
pub(crate) struct Filters<'a> {
    rule: &'a [Filter],
    target: &'a [Filter],
}

impl<'a> Filters<'a> {
    /// Those of a rule; with `choice` also those of that one of its back ends.
    pub(crate) fn of(rule: &'a Rule, choice: Option<usize>) -> Self {
        let target = choice.and_then(|choice| rule.split.share(choice));
        Self { rule: &rule.filters, target: target.map_or(&[], |target| &target.filters) }
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = &'a Filter> {
        self.rule.iter().chain(self.target)
    }

    /// Who gets copies.
    pub(crate) fn mirrors(self) -> impl Iterator<Item = &'a Mirror> {
        self.iter().filter_map(|filter| if let Filter::Mirror(mirror) = filter { Some(mirror) } else { None })
    }

    /// What is done to the fields of the request.
    pub(crate) fn request(self) -> Edits<'a> {
        Edits {
            filters: self,
            of: |filter| if let Filter::RequestHeaders(edits) = filter { Some(edits) } else { None },
        }
    }

    /// What is done to the fields of the response.
    pub(crate) fn response(self) -> Edits<'a> {
        Edits {
            filters: self,
            of: |filter| if let Filter::ResponseHeaders(edits) = filter { Some(edits) } else { None },
        }
    }
}

/// Edits of fields, each laid over those before it.
#[derive(Clone, Copy)]
pub(crate) struct Edits<'a> {
    filters: Filters<'a>,
    of: fn(&Filter) -> Option<&strait_route::Edits>,
}

impl<'a> Edits<'a> {
    fn iter(self) -> impl Iterator<Item = &'a strait_route::Edits> {
        self.filters.iter().filter_map(self.of)
    }

    /// Whether one of them, after the first `skip`, leaves out fields of that name, or writes others in their place.
    fn drops_after(self, skip: usize, name: &[u8]) -> bool {
        let same = |other: &str| other.len() == name.len() && name.eq_ignore_ascii_case(other.as_bytes());
        let drops = |edits: &strait_route::Edits| {
            edits.remove.iter().any(|other| same(other)) || edits.set.iter().any(|(other, _)| same(other))
        };
        self.iter().skip(skip).any(|edits| drops(edits) && is_editable(name))
    }
}

impl Overlay for Edits<'_> {
    fn drops(&self, name: &[u8]) -> bool {
        self.drops_after(0, name)
    }

    fn each(&self, mut put: impl FnMut(&[u8], &[u8])) {
        for (index, edits) in self.iter().enumerate() {
            for (name, value) in edits.set.iter().chain(&edits.add) {
                if is_editable(name.as_bytes()) && !self.drops_after(index + 1, name.as_bytes()) {
                    put(name.as_bytes(), value.as_bytes());
                }
            }
        }
    }
}

/// Whether filters edit a field. Those of the connection and of the body's end are the gate's: a second one would make two messages of
/// one. `Host` is there once, and its edits are those of the host.
fn is_editable(name: &[u8]) -> bool {
    match Known::of(name) {
        Known::Other | Known::Expect | Known::Trailer => true,
        Known::Connection
        | Known::ContentLength
        | Known::Host
        | Known::KeepAlive
        | Known::ProxyConnection
        | Known::Te
        | Known::TransferEncoding
        | Known::Upgrade
        | Known::Http2Settings => false,
    }
}

/// What filters come to, but for edits of fields.
#[derive(Default)]
pub(crate) struct Applied<'a> {
    pub(crate) hostname: Option<&'a str>,
    pub(crate) path: Option<&'a PathRewrite>,
    redirect: Option<&'a Redirect>,
    cors: Option<&'a Cors>,
    policy: Option<&'a CorsPolicy>,
    direct: Option<&'a Direct>,
    pub(crate) fault: Option<&'a Fault>,
    /// A filter that is not known: nothing passes without it.
    unknown: bool,
}

impl<'a> Applied<'a> {
    pub(crate) fn new(filters: Filters<'a>) -> Self {
        let mut applied = Self::default();
        for filter in filters.iter() {
            match filter {
                Filter::RequestHeaders(edits) => {
                    let host = edits.set.iter().find(|(name, _)| &**name == "host");
                    applied.hostname = host.map(|(_, value)| &**value).or(applied.hostname);
                }
                Filter::Redirect(redirect) => applied.redirect = Some(redirect),
                Filter::Rewrite(rewrite) => {
                    applied.hostname = rewrite.hostname.as_deref().or(applied.hostname);
                    applied.path = rewrite.path.as_ref().or(applied.path);
                }
                Filter::Cors(cors) => applied.cors = Some(cors),
                Filter::CorsPolicy(policy) => applied.policy = Some(policy),
                Filter::Direct(direct) => applied.direct = Some(direct),
                Filter::Fault(fault) => applied.fault = Some(fault),
                Filter::Unknown => applied.unknown = true,
                Filter::ResponseHeaders(_) | Filter::Mirror(_) => {}
            }
        }
        applied
    }
}

/// A request as filters see it.
pub(crate) struct Asked<'a> {
    pub(crate) head: &'a RequestHead,
    pub(crate) bytes: &'a [u8],
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) https: bool,
    /// The port of the listener.
    pub(crate) port: u16,
}

impl Asked<'_> {
    fn field(&self, name: &str) -> Option<&str> {
        self.head.head.get(name, self.bytes).map(|value| value.text(self.bytes))
    }
}

/// The answer that a filter gives in place of a back end.
pub(crate) fn answers(filters: Filters<'_>, applied: &Applied<'_>, asked: &Asked<'_>) -> Option<Answer> {
    if applied.unknown {
        return Some(Answer::of(local::NO_BACKEND));
    }
    if let (Some(of), Some(origin)) = (applied.cors, asked.field("origin"))
        && asked.head.method.bytes(asked.bytes) == b"OPTIONS"
        && let Some(method) = asked.field("access-control-request-method")
    {
        let headers = asked.field("access-control-request-headers");
        let fields = cors::preflight(of, origin, method, headers);
        let fields = fields.into_iter().map(|(name, value)| (name.into(), value)).collect();
        return Some(Answer { fields, ..Answer::of(local::PREFLIGHT) });
    }
    if let (Some(of), Some(origin)) = (applied.policy, asked.field("origin"))
        && asked.head.method.bytes(asked.bytes) == b"OPTIONS"
        && asked.field("access-control-request-method").is_some()
        && (of.allows(origin) || !of.forward_unmatched)
    {
        let fields = cors::policy_preflight(of, origin);
        let fields = fields.into_iter().map(|(name, value)| (name.into(), value)).collect();
        return Some(Answer { fields, ..Answer::of(local::PREFLIGHT) });
    }
    if let Some(direct) = applied.direct {
        let reason = Reason { status: direct.status, ..local::DIRECT };
        let mut fields = Fields::new();
        edited(filters, &mut fields);
        return Some(Answer { fields, body: Some(Arc::clone(&direct.body)), ..Answer::of(reason) });
    }
    let redirect = applied.redirect?;
    let reason = Reason { status: redirect.status, ..local::REDIRECTED };
    let mut fields: Fields = vec![("location".into(), location(redirect, asked))];
    edited(filters, &mut fields);
    Some(Answer { fields, ..Answer::of(reason) })
}

/// Adds what filters put into answers.
fn edited(filters: Filters<'_>, fields: &mut Fields) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    filters.response().each(|name, value| fields.push((text(name).into(), text(value))));
}

/// What a fault does to a request: how long it is held up, and the answer that it gets then in place of the back end's.
pub(crate) fn inject(fault: &Fault, mut draw: impl FnMut((u32, u32)) -> bool) -> (Option<Duration>, Option<Answer>) {
    let delay = fault.delay.filter(|(_, part)| draw(*part)).map(|(delay, _)| delay);
    let abort = fault.abort.filter(|(_, part)| draw(*part)).map(|(abort, _)| {
        let body = Some(Arc::from(&b"fault filter abort"[..]));
        let (status, call) = match abort {
            Abort::Http(status) => (status, None),
            Abort::Grpc(code) => (status_of(code), Some(code)),
        };
        Answer { body, call, ..Answer::of(Reason { status, ..local::ABORTED }) }
    });
    (delay, abort)
}

/// The status of HTTP that stands for one of gRPC's (google.rpc.Code).
const fn status_of(code: u8) -> u16 {
    match code {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// Where a redirect leads.
fn location(redirect: &Redirect, asked: &Asked<'_>) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or(if asked.https { "https" } else { "http" });
    let known = if scheme == "https" { 443 } else { 80 };
    let authority = split_authority(asked.head.authority.bytes(asked.bytes));
    let given = authority.and_then(|authority| authority.port);
    let of_scheme = |https: bool| if https { 443 } else { 80 };
    let port = match redirect.port {
        RedirectPort::Number(port) => port,
        RedirectPort::Listener => {
            if redirect.scheme.is_some() {
                known
            } else {
                asked.port
            }
        }
        RedirectPort::Scheme => known,
        RedirectPort::Request => given.unwrap_or(of_scheme(asked.https)),
        // Another host has the port that is written behind it; the default of the scheme before is none of the next one's.
        RedirectPort::Kept if redirect.hostname.is_some() => known,
        RedirectPort::Kept => given.filter(|port| *port != of_scheme(asked.https)).unwrap_or(known),
    };
    let host = redirect.hostname.as_deref().unwrap_or(asked.host);
    let mut path = String::new();
    match &redirect.path {
        Some(rewrite) => rewrite.apply(asked.path, &mut path),
        None => path.push_str(asked.path),
    }
    let mut out = format!("{scheme}://{host}");
    if port != known {
        let _ = write!(out, ":{port}");
    }
    out.push_str(&path);
    // A path that brings a query has that one.
    if let Some(query) = asked.head.query.filter(|_| !path.contains('?')) {
        out.push('?');
        out.push_str(query.text(asked.bytes));
    }
    out
}
