//! From a request's head to what is done with it.

use std::{borrow::Cow, net::IpAddr, rc::Rc};

use strait_http::{RequestHead, Target as Form, normalize, split_authority};
use strait_route::{Rule, RuleId};

use crate::{
    filters::{Applied, Asked, answers},
    live::{Found, Live},
    local::{self, Reason},
    serve::Client,
    worker::Worker,
};

/// What is done with a request.
pub(crate) enum Decision {
    /// The gate answers: reason, and lines of fields.
    Answer(Reason, String),
    /// It goes to a back end.
    Forward(Forward),
}

/// A request on its way to a back end.
pub(crate) struct Forward {
    pub(crate) backend: u32,
    pub(crate) rule: RuleId,
    /// Index among the targets of the rule's split.
    pub(crate) choice: usize,
    /// The head for the back end.
    pub(crate) head: Vec<u8>,
    /// The client's origin, where its answers get fields of the CORS protocol.
    pub(crate) origin: Option<String>,
    /// Back ends that get a copy, with the copy's head: its body is the request's.
    pub(crate) mirrors: Vec<(u32, Vec<u8>)>,
    pub(crate) upgrade: bool,
}

/// A request as matches see it.
struct Matched<'a> {
    head: &'a RequestHead,
    bytes: &'a [u8],
    path: &'a str,
}

impl strait_route::Request for Matched<'_> {
    fn method(&self) -> &str {
        self.head.method.text(self.bytes)
    }

    fn path(&self) -> &str {
        self.path
    }

    fn header(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let same = move |field: &&strait_http::Field| {
            field.name.len() == name.len() && field.name.bytes(self.bytes).eq_ignore_ascii_case(name.as_bytes())
        };
        self.head.head.fields.iter().filter(same).map(|field| field.value.bytes(self.bytes))
    }

    fn query(&self) -> Option<&str> {
        self.head.query.map(|query| query.text(self.bytes))
    }
}

/// Decides what is done with the request whose head was read from `bytes`.
pub(crate) fn decide(worker: &Rc<Worker>, live: &Live, client: &Client, head: &RequestHead, bytes: &[u8]) -> Decision {
    let refuse = |reason| Decision::Answer(reason, String::new());
    // What is not for an origin is not for a gate: it is no forward proxy.
    if matches!(head.target, Form::Authority) {
        return refuse(local::NO_ROUTE);
    }
    let mut room = Vec::new();
    let Ok(path) = normal_path(head, bytes, &mut room) else { return refuse(local::BAD_REQUEST) };
    let authority = head.authority.bytes(bytes);
    let host = split_authority(authority).map_or("", |authority| authority.host);
    let lower = lower(host);
    let Some(port) = live.port(client.address, client.port) else { return refuse(local::NO_ROUTE) };
    let listener = match live.listener(port, client.listener.as_deref(), &lower) {
        Found::Listener(listener) => listener,
        Found::Misdirected => return refuse(local::MISDIRECTED),
        Found::Nothing => return refuse(local::NO_ROUTE),
    };
    let matched = Matched { head, bytes, path };
    let Some((id, rule)) = listener
        .hosts
        .find(&lower)
        .and_then(|table| table.find(&matched))
        .and_then(|id| live.plan.rules.get(id as usize).map(|rule| (id, rule)))
    else {
        return refuse(local::NO_ROUTE);
    };
    let asked = Asked { head, bytes, host, path, https: client.https, port: client.port };
    let mut applied = Applied::default();
    applied.push(&rule.filters);
    if let Some((reason, lines)) = answers(&applied, &asked) {
        return Decision::Answer(reason, lines);
    }
    let Some(choice) = worker.choose(id, &rule.split) else { return refuse(local::NO_BACKEND) };
    let target = &rule.split.targets[choice];
    applied.push(&target.filters);
    if let Some((reason, lines)) = answers(&applied, &asked) {
        return Decision::Answer(reason, lines);
    }
    let Some(backend) = target.backend else { return refuse(local::NO_BACKEND) };
    Decision::Forward(forward(worker, client, &asked, (id, rule), &applied, choice, backend))
}

fn forward(
    worker: &Rc<Worker>,
    client: &Client,
    asked: &Asked<'_>,
    (rule, _): (RuleId, &Rule),
    applied: &Applied<'_>,
    choice: usize,
    backend: u32,
) -> Forward {
    let (head, bytes) = (asked.head, asked.bytes);
    let authority = head.authority.bytes(bytes);
    let mut path = String::new();
    let path = match applied.path {
        Some(rewrite) => {
            rewrite.apply(asked.path, &mut path);
            &*path
        }
        None => asked.path,
    };
    let query = head.query.map_or(&b""[..], |query| query.bytes(bytes));
    let mark = if head.query.is_some() { &b"?"[..] } else { b"" };
    let target: [&[u8]; 3] = [if head.target == Form::Asterisk { b"*" } else { path.as_bytes() }, mark, query];
    let host = applied.hostname.map_or(authority, str::as_bytes);
    let forwarded = forwarded_for(head, bytes, client.peer.ip());
    let mut edits = crate::filters::Edits { remove: applied.request.remove.clone(), ..Default::default() };
    edits.set.extend_from_slice(&applied.request.set);
    edits.add.extend_from_slice(&applied.request.add);
    edits.set.push(("x-forwarded-for", forwarded.as_bytes()));
    edits.set.push(("x-forwarded-proto", if client.https { b"https" } else { b"http" }));
    let upgrade = head.head.upgrade.is_some();
    let write = |host: &[u8]| {
        let mut out = Vec::with_capacity(head.head.len + 128);
        head.write(bytes, &target, host, &edits.as_written(), upgrade, &mut out);
        out
    };
    let copies = applied.mirrors.iter().filter(|mirror| worker.draw(mirror.fraction));
    let mirrors = copies.filter_map(|mirror| Some((mirror.backend?, write(host)))).collect();
    let origin = applied.cors.and_then(|_| head.head.get("origin", bytes)).map(|origin| origin.text(bytes).to_owned());
    Forward { backend, rule, choice, head: write(host), origin, mirrors, upgrade }
}

/// The path in its one spelling; `/` where an absolute target has none.
fn normal_path<'a>(
    head: &RequestHead,
    bytes: &'a [u8],
    room: &'a mut Vec<u8>,
) -> Result<&'a str, strait_http::PathError> {
    let path = head.path.bytes(bytes);
    if path.is_empty() {
        return Ok("/");
    }
    let path = if normalize(path, room)? { room.as_slice() } else { path };
    // Targets are ASCII: the codec sees to that.
    Ok(std::str::from_utf8(path).unwrap_or("/"))
}

fn lower(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) { host.to_ascii_lowercase().into() } else { host.into() }
}

/// `X-Forwarded-For` with the client's address behind what it said itself.
fn forwarded_for(head: &RequestHead, bytes: &[u8], peer: IpAddr) -> String {
    let mut out = String::new();
    for value in head.head.all("x-forwarded-for", bytes) {
        out.push_str(value.text(bytes));
        out.push_str(", ");
    }
    out.push_str(&peer.to_canonical().to_string());
    out
}
