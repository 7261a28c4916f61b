//! Heads as the other side gets them.
//!
//! What is sent is the same on HTTP/1 and HTTP/2: the head's own fields that go the whole way, and an [`Overlay`] on them
//! ([`Head::onward`](strait_http::Head::onward)). This is the writing of HTTP/1.

use std::hash::{BuildHasher as _, RandomState};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use strait_http::{Overlay, RequestHead, Target as Form, Version, h2::Sent};
use strait_route::{Filter, Plan};

use crate::{
    backend::Target,
    cors, date,
    filters::Edits,
    forwarded,
    record::{Client, Protocol},
    request::Forward,
    stream::Stream,
    telemetry::RequestId,
};

/// What a request for a back end has besides its own fields: edits, and who asked.
pub(crate) struct ForBackend<'a> {
    edits: Edits<'a>,
    head: &'a RequestHead,
    bytes: &'a [u8],
    client: &'a Client,
    /// The id of a request that came without one.
    id: Option<RequestId>,
}

impl<'a> ForBackend<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        forward: &Forward,
        client: &'a Client,
        head: &'a RequestHead,
        bytes: &'a [u8],
    ) -> Self {
        Self { edits: forward.filters(plan).request(), head, bytes, client, id: forward.request_id }
    }
}

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";
pub(crate) const DATE: &str = "date";
#[cfg(feature = "http3")]
pub(crate) const ALTERNATIVE: &str = "alt-svc";
pub(crate) const REQUEST_ID: &str = "x-request-id";

fn is(name: &[u8], other: &str) -> bool {
    name.len() == other.len() && name.eq_ignore_ascii_case(other.as_bytes())
}

impl Overlay for ForBackend<'_> {
    fn drops(&self, name: &[u8]) -> bool {
        is(name, FORWARDED_FOR)
            || is(name, FORWARDED_PROTO)
            || (self.id.is_some() && is(name, REQUEST_ID))
            || self.edits.drops(name)
    }

    fn each(&self, mut put: impl FnMut(&[u8], &[u8])) {
        // What filters say of these fields is the last word.
        if !self.edits.drops(FORWARDED_FOR.as_bytes()) {
            let mut said = self.head.head.all(FORWARDED_FOR, self.bytes).peekable();
            if said.peek().is_none() {
                put(FORWARDED_FOR.as_bytes(), self.client.shown.as_bytes());
            } else {
                let mut value = Vec::new();
                for part in said {
                    value.extend_from_slice(part.bytes(self.bytes));
                    value.extend_from_slice(b", ");
                }
                value.extend_from_slice(self.client.shown.as_bytes());
                put(FORWARDED_FOR.as_bytes(), &value);
            }
        }
        if !self.edits.drops(FORWARDED_PROTO.as_bytes()) {
            let https = forwarded::https(&self.head.head, self.bytes, self.client);
            put(FORWARDED_PROTO.as_bytes(), if https { b"https" } else { b"http" });
        }
        if let Some(id) = self.id.filter(|_| !self.edits.drops(REQUEST_ID.as_bytes())) {
            put(REQUEST_ID.as_bytes(), &id);
        }
        self.edits.each(put);
    }
}

/// Writes a request for a back end as HTTP/1; for `host`, where that is not the request's.
pub(crate) fn request(
    plan: &Plan,
    forward: &Forward,
    host: Option<&str>,
    client: &Client,
    head: &RequestHead,
    bytes: &[u8],
    out: &mut Vec<u8>,
) {
    let path = forward.path.as_deref().map_or_else(|| head.path.bytes(bytes), str::as_bytes);
    let path = if head.target == Form::Asterisk { b"*" } else { path };
    let (mark, query) = head.query.map_or((&b""[..], &b""[..]), |query| (b"?", query.bytes(bytes)));
    let host = host.or(forward.host.as_deref()).map_or_else(|| head.authority.bytes(bytes), str::as_bytes);
    let overlay = ForBackend::new(plan, forward, client, head, bytes);
    let target = [path, mark, query];
    // In HTTP/2 an upgrade needs no key (RFC 8441, 5.1); in HTTP/1 there is none without.
    if head.head.version == Version::Http2 && head.head.upgrade.is_some() {
        head.write(bytes, &target, host, &Keyed(overlay), forward.upgrade, out);
    } else {
        head.write(bytes, &target, host, &overlay, forward.upgrade, out);
    }
}

/// A request with a key of a WebSocket's handshake.
struct Keyed<T>(T);

const KEY: &str = "sec-websocket-key";
const ACCEPT: &str = "sec-websocket-accept";

impl<T: Overlay> Overlay for Keyed<T> {
    fn drops(&self, name: &[u8]) -> bool {
        is(name, KEY) || self.0.drops(name)
    }

    fn each(&self, mut put: impl FnMut(&[u8], &[u8])) {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        // Sixteen random bytes in base64: what is in them proves nothing, but is not to be the same again.
        let random = [(); 2].map(|()| RandomState::new().hash_one(()));
        let mut key = *b"AAAAAAAAAAAAAAAAAAAAAA==";
        for (index, digit) in key[..21].iter_mut().enumerate() {
            *digit = DIGITS[(random[index / 10 % 2] >> (index % 10 * 6) & 63) as usize];
        }
        put(KEY.as_bytes(), &key);
        self.0.each(put);
    }
}

/// A request whose client did a WebSocket's handshake, for a hop that has none (RFC 8441, 5): its key is for the gate.
struct Unkeyed<T>(T);

impl<T: Overlay> Overlay for Unkeyed<T> {
    fn drops(&self, name: &[u8]) -> bool {
        is(name, KEY) || self.0.drops(name)
    }

    fn each(&self, put: impl FnMut(&[u8], &[u8])) {
        self.0.each(put);
    }
}

/// Sends a request for a back end on a stream. False where its connection takes none any more.
pub(crate) fn send_request(
    plan: &Plan,
    forward: &Forward,
    client: &Client,
    head: &RequestHead,
    bytes: &[u8],
    to: &Target,
    stream: &mut Stream,
) -> bool {
    let path = forward.path.as_deref().map_or_else(|| head.path.bytes(bytes), str::as_bytes);
    let path = match head.target {
        Form::Asterisk => b"*",
        Form::Absolute if path.is_empty() => b"/",
        Form::Origin | Form::Absolute | Form::Authority => path,
    };
    let query = head.query.map(|query| query.bytes(bytes));
    let target: &[&[u8]] = match query {
        Some(query) => &[path, b"?", query],
        None => &[path],
    };
    let authority = forward.host.as_deref().map_or_else(|| head.authority.bytes(bytes), str::as_bytes);
    // HTTP/1.0 may ask nobody in particular.
    let address = if authority.is_empty() { to.address.to_string() } else { String::new() };
    let authority = if authority.is_empty() { address.as_bytes() } else { authority };
    let switches = forward.upgrade && stream.takes_connect();
    let sent = Sent { target, authority, https: to.tls, end: head.head.is_end() && !switches };
    let overlay = ForBackend::new(plan, forward, client, head, bytes);
    if switches {
        stream.request(head, bytes, &sent, &Unkeyed(overlay))
    } else {
        stream.request(head, bytes, &sent, &overlay)
    }
}

/// The response to a client of HTTP/2 whose upgrade a back end of HTTP/1 took: what the two hops say to each other is not for others.
pub(crate) struct Switched<T>(pub(crate) T);

impl<T: Overlay> Overlay for Switched<T> {
    fn drops(&self, name: &[u8]) -> bool {
        is(name, ACCEPT) || is(name, "content-length") || self.0.drops(name)
    }

    fn each(&self, put: impl FnMut(&[u8], &[u8])) {
        self.0.each(put);
    }
}

/// The response to a client of HTTP/1 whose WebSocket a back end of HTTP/2 took: that hop has no handshake of its own (RFC 8441, 5.1),
/// this one must answer the client's key (RFC 6455, 4.2.2).
pub(crate) struct Accepted<T> {
    overlay: T,
    accept: Option<String>,
}

impl<T> Accepted<T> {
    pub(crate) fn new(overlay: T, head: &RequestHead, bytes: &[u8]) -> Self {
        let accept = head.head.get(KEY, bytes).map(|key| {
            let proof = [key.bytes(bytes), b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
            STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &proof))
        });
        Self { overlay, accept }
    }
}

impl<T: Overlay> Overlay for Accepted<T> {
    fn drops(&self, name: &[u8]) -> bool {
        is(name, ACCEPT) || is(name, "content-length") || self.overlay.drops(name)
    }

    fn each(&self, mut put: impl FnMut(&[u8], &[u8])) {
        put(b"connection", b"upgrade");
        put(b"upgrade", b"websocket");
        if let Some(accept) = &self.accept {
            put(ACCEPT.as_bytes(), accept.as_bytes());
        }
        self.overlay.each(put);
    }
}

/// What a response for a client has besides its own fields.
pub(crate) struct ForClient<'a> {
    edits: Edits<'a>,
    cross: Vec<(&'static str, String)>,
    /// The token of the client's session.
    session: Option<(String, String)>,
    /// Where the response has no date: that of its arrival (RFC 9110, 6.6.1).
    date: Option<date::Text>,
    /// Where else the client is served.
    #[cfg(feature = "http3")]
    alternative: Option<&'a str>,
}

impl<'a> ForClient<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        forward: &Forward,
        head: &RequestHead,
        bytes: &[u8],
        session: Option<(String, String)>,
    ) -> Self {
        let filters = forward.filters(plan);
        let mut cross = Vec::new();
        for filter in filters.iter() {
            let origin = || head.head.get("origin", bytes).map(|origin| origin.text(bytes));
            match filter {
                Filter::Cors(of) => cross = origin().map_or(cross, |origin| cors::fields(of, origin)),
                Filter::CorsPolicy(of) => cross = origin().map_or(cross, |origin| cors::policy_fields(of, origin)),
                Filter::RequestHeaders(_)
                | Filter::ResponseHeaders(_)
                | Filter::Redirect(_)
                | Filter::Rewrite(_)
                | Filter::Mirror(_)
                | Filter::Direct(_)
                | Filter::Fault(_)
                | Filter::Unknown => {}
            }
        }
        Self {
            edits: filters.response(),
            cross,
            session,
            date: None,
            #[cfg(feature = "http3")]
            alternative: None,
        }
    }

    /// The same, with where else the client is served. What a back end says of that is true of itself alone.
    #[cfg(feature = "http3")]
    pub(crate) fn beside(self, alternative: Option<&'a str>) -> Self {
        // What filters say of it is the last word.
        let alternative = alternative.filter(|_| !self.edits.drops(ALTERNATIVE.as_bytes()));
        Self { alternative, ..self }
    }

    /// The same of a response that has no date, where that is so.
    pub(crate) fn dated(self, has_none: bool) -> Self {
        // What filters say of it is the last word.
        let date = (has_none && !self.edits.drops(DATE.as_bytes())).then(date::now);
        Self { date, ..self }
    }
}

impl Overlay for ForClient<'_> {
    fn drops(&self, name: &[u8]) -> bool {
        // A cookie goes beside others, a header in place of the back end's.
        let session = self.session.as_ref().is_some_and(|(of, _)| of != "set-cookie" && is(name, of));
        #[cfg(feature = "http3")]
        if self.alternative.is_some() && is(name, ALTERNATIVE) {
            return true;
        }
        session || self.edits.drops(name) || self.cross.iter().any(|(other, _)| is(name, other))
    }

    fn each(&self, mut put: impl FnMut(&[u8], &[u8])) {
        self.edits.each(&mut put);
        for (name, value) in &self.cross {
            put(name.as_bytes(), value.as_bytes());
        }
        if let Some((name, value)) = &self.session {
            put(name.as_bytes(), value.as_bytes());
        }
        if let Some(date) = &self.date {
            put(DATE.as_bytes(), date);
        }
        #[cfg(feature = "http3")]
        if let Some(alternative) = self.alternative {
            put(ALTERNATIVE.as_bytes(), alternative.as_bytes());
        }
    }
}

/// What a version of HTTP/1 is in records.
pub(crate) const fn protocol(version: Version) -> Protocol {
    match version {
        Version::Http10 => Protocol::Http10,
        Version::Http11 => Protocol::Http11,
        Version::Http2 => Protocol::Http2,
    }
}
