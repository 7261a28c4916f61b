//! Filters of a rule and of the back end that was chosen, put together for one request.

use std::fmt::Write as _;

use strait_api::Cors;
use strait_http::RequestHead;
use strait_route::{Filter, Mirror, PathRewrite, Redirect};

use crate::{
    cors,
    local::{self, Reason},
};

/// What is done to a request on its way.
#[derive(Default)]
pub(crate) struct Edits<'a> {
    pub(crate) remove: Vec<&'a str>,
    pub(crate) set: Vec<(&'a str, &'a [u8])>,
    pub(crate) add: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Edits<'a> {
    pub(crate) fn push(&mut self, edits: &'a strait_route::Edits) {
        let pair = |(name, value): &'a (std::sync::Arc<str>, std::sync::Arc<str>)| (&**name, value.as_bytes());
        self.set.extend(edits.set.iter().map(pair).filter(|(name, _)| is_editable(name)));
        self.add.extend(edits.add.iter().map(pair).filter(|(name, _)| is_editable(name)));
        self.remove.extend(edits.remove.iter().map(|name| &**name).filter(|name| is_editable(name)));
    }

    pub(crate) fn as_written(&self) -> strait_http::Edits<'_> {
        strait_http::Edits { remove: &self.remove, set: &self.set, add: &self.add }
    }
}

/// Whether filters edit a field. Those of the connection and of the body's end are the gate's: a second one would make two messages of
/// one. `Host` is there once, and its edits are those of the host.
fn is_editable(name: &str) -> bool {
    use strait_http::Known;
    match Known::of(name.as_bytes()) {
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

/// What the filters of a rule come to.
#[derive(Default)]
pub(crate) struct Applied<'a> {
    pub(crate) request: Edits<'a>,
    pub(crate) response: Edits<'a>,
    pub(crate) hostname: Option<&'a str>,
    pub(crate) path: Option<&'a PathRewrite>,
    pub(crate) redirect: Option<&'a Redirect>,
    pub(crate) mirrors: Vec<&'a Mirror>,
    pub(crate) cors: Option<&'a Cors>,
    /// A filter that is not known: nothing passes without it.
    pub(crate) unknown: bool,
}

impl<'a> Applied<'a> {
    /// Adds the filters of a rule, or of a back end after it.
    pub(crate) fn push(&mut self, filters: &'a [Filter]) {
        for filter in filters {
            match filter {
                Filter::RequestHeaders(edits) => {
                    let host = edits.set.iter().find(|(name, _)| &**name == "host");
                    self.hostname = host.map(|(_, value)| &**value).or(self.hostname);
                    self.request.push(edits);
                }
                Filter::ResponseHeaders(edits) => self.response.push(edits),
                Filter::Redirect(redirect) => self.redirect = Some(redirect),
                Filter::Rewrite(rewrite) => {
                    self.hostname = rewrite.hostname.as_deref().or(self.hostname);
                    self.path = rewrite.path.as_ref().or(self.path);
                }
                Filter::Mirror(mirror) => self.mirrors.push(mirror),
                Filter::Cors(cors) => self.cors = Some(cors),
                Filter::Unknown => self.unknown = true,
            }
        }
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

/// The answer that a filter gives in place of a back end: reason and lines of fields.
pub(crate) fn answers(applied: &Applied<'_>, asked: &Asked<'_>) -> Option<(Reason, String)> {
    if applied.unknown {
        return Some((local::NO_BACKEND, String::new()));
    }
    if let (Some(of), Some(origin)) = (applied.cors, asked.field("origin"))
        && asked.head.method.bytes(asked.bytes) == b"OPTIONS"
        && let Some(method) = asked.field("access-control-request-method")
    {
        let headers = asked.field("access-control-request-headers");
        return Some((local::PREFLIGHT, cors::preflight(of, origin, method, headers)));
    }
    let redirect = applied.redirect?;
    let reason = Reason { status: redirect.status, ..local::REDIRECTED };
    let mut lines = format!("location: {}\r\n", location(redirect, asked));
    for (name, value) in applied.response.set.iter().chain(&applied.response.add) {
        let _ = write!(lines, "{name}: {}\r\n", String::from_utf8_lossy(value));
    }
    Some((reason, lines))
}

/// Where a redirect leads.
fn location(redirect: &Redirect, asked: &Asked<'_>) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or(if asked.https { "https" } else { "http" });
    let known = if scheme == "https" { 443 } else { 80 };
    let port = redirect.port.unwrap_or(if redirect.scheme.is_some() { known } else { asked.port });
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
    if let Some(query) = asked.head.query {
        out.push('?');
        out.push_str(query.text(asked.bytes));
    }
    out
}
