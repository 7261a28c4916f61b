//! From a request's head to what is done with it.

use std::{borrow::Cow, time::Duration};

use strait_http::{RequestHead, Target as Form, normalize, split_authority};
use strait_route::{BackendId, Plan, RuleId};

use crate::{
    filters::{Applied, Asked, Filters, answers, inject},
    forwarded,
    io::Buffer,
    live::{Found, Snapshot},
    local::{self, Answer},
    record::Client,
    session,
    telemetry::RequestId,
    worker::Worker,
};

/// What is done with a request.
pub(crate) enum Decision {
    /// The gate answers.
    Answer(Answer),
    /// It goes to a back end.
    Forward(Forward),
}

/// A request on its way to a back end: what is sent there, but for the head's own parts. How it is written is not its matter.
pub(crate) struct Forward {
    pub(crate) rule: RuleId,
    /// Index among the shares of the rule's split.
    pub(crate) choice: usize,
    pub(crate) backend: BackendId,
    /// The path, where it is not just as it came.
    pub(crate) path: Option<String>,
    /// The host, where it is not the one that was asked.
    pub(crate) host: Option<String>,
    /// Back ends that get a copy, and whether its host tells that it is one.
    pub(crate) mirrors: Vec<(BackendId, bool)>,
    pub(crate) upgrade: bool,
    /// The id of a request that came without one.
    pub(crate) request_id: Option<RequestId>,
    /// Where sessions are kept: what the answer's token is made of.
    pub(crate) session: Option<Box<session::Asked>>,
}

impl Forward {
    /// The filters that it goes through.
    pub(crate) fn filters<'a>(&self, plan: &'a Plan) -> Filters<'a> {
        let rule = plan.rules.get(self.rule as usize);
        rule.map(|rule| Filters::of(rule, Some(self.choice))).unwrap_or_default()
    }
}

/// A request as matches see it.
struct Matched<'a> {
    head: &'a RequestHead,
    bytes: &'a [u8],
    path: &'a str,
    https: bool,
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

    fn authority(&self) -> &str {
        self.head.authority.text(self.bytes)
    }

    fn scheme(&self) -> &str {
        if self.https { "https" } else { "http" }
    }
}

/// Decides what is done with the request whose head was read from `bytes`. `took` is told the rule that took it, `delay` how long it is to be
/// held up before.
pub(crate) fn decide(
    worker: &Worker,
    live: &Snapshot,
    client: &Client,
    head: &RequestHead,
    bytes: &[u8],
    (took, delay): (&mut Option<RuleId>, &mut Option<Duration>),
) -> Decision {
    let refuse = |reason| Decision::Answer(Answer::of(reason));
    // What is not for an origin is not for a gate: it is no forward proxy.
    if matches!(head.target, Form::Authority) {
        return refuse(local::NO_ROUTE);
    }
    let mut room = Vec::new();
    let Ok(path) = normal_path(head, bytes, &mut room) else { return refuse(local::BAD_REQUEST) };
    let host = split_authority(head.authority.bytes(bytes)).map_or("", |authority| authority.host);
    let lower = lower(host);
    let Some(port) = live.port(client.address, client.port) else { return refuse(local::NO_ROUTE) };
    let listener = match live.listener(port, client.listener.as_deref(), &lower) {
        Found::Listener(listener) => listener,
        Found::Misdirected => return refuse(local::MISDIRECTED),
        Found::Nothing => return refuse(local::NO_ROUTE),
    };
    let https = forwarded::https(&head.head, bytes, client);
    let matched = Matched { head, bytes, path, https };
    let Some((id, rule)) = listener
        .hosts
        .find(&lower)
        .and_then(|table| table.find(&matched))
        .and_then(|id| live.plan.rules.get(id as usize).map(|rule| (id, rule)))
    else {
        return refuse(local::NO_ROUTE);
    };
    *took = Some(id);
    let asked = Asked { head, bytes, host, path, https, port: client.port };
    if !rule.filters.is_empty() {
        let filters = Filters::of(rule, None);
        let applied = Applied::new(filters);
        if let Some(answer) = answers(filters, &applied, &asked) {
            return Decision::Answer(answer);
        }
        if let Some(fault) = applied.fault {
            let (wait, abort) = inject(fault, |part| worker.draw(part));
            *delay = wait;
            if let Some(answer) = abort {
                return Decision::Answer(answer);
            }
        }
    }
    let session = rule.keeps_sessions.then(|| {
        let kept = session::find(worker.seal(), &live.plan, rule, head, bytes, session::now());
        Box::new(session::Asked { kept, path: path.to_owned(), https })
    });
    let kept = session.as_ref().and_then(|asked| asked.kept.as_ref());
    let Some(choice) = kept.map(|kept| kept.share).or_else(|| live.choose(id, &rule.split)) else {
        return refuse(local::NO_BACKEND);
    };
    let filters = Filters::of(rule, Some(choice));
    let applied = Applied::new(filters);
    if let Some(answer) = answers(filters, &applied, &asked) {
        return Decision::Answer(answer);
    }
    let Some(backend) = rule.split.share(choice).and_then(|share| share.backend) else {
        return refuse(local::NO_BACKEND);
    };
    let path = match applied.path {
        Some(rewrite) => {
            let mut out = String::new();
            rewrite.apply(path, &mut out);
            Some(out)
        }
        None => (path.as_bytes() != head.path.bytes(bytes)).then(|| path.to_owned()),
    };
    let copies = filters
        .mirrors()
        .filter(|mirror| worker.draw(mirror.fraction))
        .filter_map(|mirror| Some((mirror.backend?, mirror.shadow)));
    Decision::Forward(Forward {
        rule: id,
        choice,
        backend,
        path: path.filter(|_| head.target != Form::Asterisk),
        host: applied.hostname.map(str::to_owned),
        mirrors: copies.collect(),
        upgrade: head.head.upgrade.is_some(),
        request_id: None,
        session,
    })
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

/// Counts down how far `OPTIONS` and `TRACE` may go; the answer where that is no further (RFC 9110, 7.6.2).
pub(crate) fn goes_no_further(head: &RequestHead, bytes: &mut Buffer) -> Option<Answer> {
    let text = bytes.as_slice();
    let is_trace = match head.method.bytes(text) {
        b"OPTIONS" => false,
        b"TRACE" => true,
        _ => return None,
    };
    let left = head.head.get("max-forwards", text)?;
    let digits = left.bytes(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        // What is no number is passed on as it is.
        return None;
    }
    if digits.iter().all(|digit| *digit == b'0') {
        let reason = if is_trace { local::NO_TRACE } else { local::NO_FURTHER };
        let allow = ("allow".into(), "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".into());
        return Some(Answer { fields: vec![allow], ..Answer::of(reason) });
    }
    // One less has as many digits, with a zero before them.
    for digit in bytes.as_mut_slice().get_mut(left.range())?.iter_mut().rev() {
        if *digit > b'0' {
            *digit -= 1;
            break;
        }
        *digit = b'9';
    }
    None
}
