//! Answers that the gate gives itself.

use std::{borrow::Cow, future::poll_fn, sync::Arc, task::Poll, time::Duration};

use strait_http::{Version, phrase};

use crate::{date, deadline::Deadline, record::Reason, stream::Stream};

macro_rules! reasons {
    ($($name:ident: $status:literal $flag:literal $details:literal;)*) => {
        $(pub(crate) const $name: Reason = Reason { status: $status, flag: $flag, details: $details };)*
    };
}

reasons! {
    NO_ROUTE: 404 "NR" "route_not_found";
    MISDIRECTED: 421 "NR" "misdirected_request";
    BAD_REQUEST: 400 "DPE" "bad_request";
    NO_BACKEND: 500 "NC" "no_backend";
    NO_ENDPOINT: 503 "UH" "no_healthy_upstream";
    OVERFLOW: 503 "UO" "upstream_overflow";
    CONNECT_FAILED: 503 "UF" "upstream_connect_failed";
    BACKEND_CLOSED: 502 "UC" "upstream_closed_before_response";
    BACKEND_PROTOCOL: 502 "UPE" "upstream_protocol_error";
    BACKEND_CUT_OFF: 502 "UC" "upstream_closed_within_response";
    NO_CHAIN: 0 "NR" "filter_chain_not_found";
    CLIENT_IDLE: 408 "SI" "stream_idle_timeout";
    CLIENT_SLOW: 408 "SI" "request_body_too_slow";
    STALLED: 0 "SI" "stream_idle_timeout";
    CLIENT_GONE: 0 "DC" "client_disconnected";
    MALFORMED: 400 "DPE" "malformed_request";
    OVERLOADED: 503 "UO" "overload";
    RETRY_BUDGET: 503 "URX" "retry_budget_exhausted";
    NO_FURTHER: 200 "" "max_forwards";
    NO_TRACE: 405 "DPE" "trace_not_allowed";
    TIMED_OUT: 504 "UT" "request_timeout";
    REDIRECTED: 302 "" "redirected";
    PREFLIGHT: 200 "" "cors_preflight";
    DIRECT: 200 "" "direct_response";
    ABORTED: 503 "FI" "fault_filter_abort";
}

/// Fields of an answer, names in small letters.
pub(crate) type Fields = Vec<(Cow<'static, str>, String)>;

/// An answer of the gate's own: a body only where a line is to say what is wrong.
pub(crate) struct Answer {
    pub(crate) reason: Reason,
    pub(crate) fields: Fields,
    /// The body that a rule holds.
    pub(crate) body: Option<Arc<[u8]>>,
    /// What gRPC's clients get, where a rule says that.
    pub(crate) call: Option<u8>,
}

impl Answer {
    pub(crate) const fn of(reason: Reason) -> Self {
        Self { reason, fields: Vec::new(), body: None, call: None }
    }

    /// The answer where a back end did not answer. What is too much now may not be in a moment.
    pub(crate) fn failed(reason: Reason) -> Self {
        let later = (reason == OVERFLOW).then(|| ("retry-after".into(), "1".to_owned()));
        Self { fields: later.into_iter().collect(), ..Self::of(reason) }
    }

    /// Says why it is made in a `Proxy-Status` field (RFC 9209), where that is `wanted`.
    pub(crate) fn tell(&mut self, wanted: bool) {
        if !wanted {
            return;
        }
        let Reason { flag, details, .. } = self.reason;
        let error = match flag {
            "NR" => "; error=destination_not_found",
            "NC" => "; error=proxy_configuration_error",
            "DPE" => "; error=http_request_error",
            "UH" | "UF" => "; error=destination_unavailable",
            "UC" => "; error=connection_terminated",
            "UPE" => "; error=http_protocol_error",
            "UT" => "; error=http_response_timeout",
            "UO" => "; error=connection_limit_reached",
            _ => "",
        };
        let separator = if flag.is_empty() { "" } else { " " };
        let value = format!("strait{error}; details=\"{flag}{separator}{details}\"");
        self.fields.push((Cow::Borrowed("proxy-status"), value));
    }

    /// Its body: the given one, else what is wrong in words. A redirect or preflight needs none.
    pub(crate) fn body(&self) -> Cow<'_, [u8]> {
        let Reason { status, flag, details } = self.reason;
        match &self.body {
            Some(body) => Cow::Borrowed(body),
            None if flag.is_empty() => Cow::Borrowed(&[]),
            None => Cow::Owned(format!("{}: {details}\n", phrase(status)).into_bytes()),
        }
    }

    /// The status of gRPC that calls get in place of it. The codes are those that gRPC's clients would make of it (grpc/grpc,
    /// doc/http-grpc-status-mapping.md).
    pub(crate) fn call_status(&self) -> Option<u8> {
        (!self.reason.flag.is_empty()).then(|| self.call.unwrap_or_else(|| code(self.reason.status)))
    }

    /// Writes it to a gRPC call: that status in its head, and nothing else, where others get one of HTTP.
    pub(crate) fn refuse_call(&self, code: u8, keep_alive: bool, out: &mut Vec<u8>) {
        let details = self.reason.details;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: {code}\r\ngrpc-message: {details}\r\n"
        );
        out.extend_from_slice(head.as_bytes());
        for (name, value) in &self.fields {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        date::write(out);
        out.extend_from_slice(b"content-length: 0\r\n");
        out.extend_from_slice(if keep_alive { b"\r\n" } else { b"connection: close\r\n\r\n" });
    }

    /// Writes it as HTTP/1.
    pub(crate) fn write(&self, version: Version, keep_alive: bool, is_head: bool, out: &mut Vec<u8>) {
        let Self { reason, fields, .. } = self;
        let text = phrase(reason.status);
        let body = self.body();
        out.extend_from_slice(format!("HTTP/1.1 {} {text}\r\n", reason.status).as_bytes());
        for (name, value) in fields {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        out.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        if !body.is_empty() && !fields.iter().any(|(name, _)| name == "content-type") {
            out.extend_from_slice(b"content-type: text/plain\r\n");
        }
        date::write(out);
        if !keep_alive {
            out.extend_from_slice(b"connection: close\r\n");
        } else if version == Version::Http10 {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if !is_head {
            out.extend_from_slice(&body);
        }
    }
}

/// The answer where there is no room for a request.
pub(crate) fn overload() -> Answer {
    Answer { fields: vec![("retry-after".into(), "1".to_owned())], ..Answer::of(OVERLOADED) }
}

/// The whole answer to a connection that there is no room for.
pub(crate) fn overloaded() -> Vec<u8> {
    let mut out = Vec::new();
    overload().write(Version::Http11, false, false, &mut out);
    out
}

impl Answer {
    /// Sends it on a stream; of a gRPC call as gRPC tells it.
    pub(crate) async fn send(
        &self,
        stream: &Stream,
        is_call: bool,
        is_head: bool,
        deadline: &Deadline,
        within: Duration,
    ) {
        let Self { reason, fields, .. } = self;
        let (date, code) = (date::now(), self.call_status().filter(|_| is_call).map(|code| code.to_string()));
        let told = fields.iter().map(|(name, value)| (&**name, value.as_bytes())).chain([("date", &date[..])]);
        if let Some(code) = &code {
            let mut all: Vec<(&str, &[u8])> = vec![
                ("content-type", b"application/grpc"),
                ("grpc-status", code.as_bytes()),
                ("grpc-message", reason.details.as_bytes()),
            ];
            all.extend(told);
            return stream.status(200, &all, true);
        }
        let body = self.body();
        let length = body.len().to_string();
        let mut all: Vec<(&str, &[u8])> = told.collect();
        all.push(("content-length", length.as_bytes()));
        if !body.is_empty() && !fields.iter().any(|(name, _)| name == "content-type") {
            all.push(("content-type", b"text/plain"));
        }
        let end = is_head || body.is_empty();
        stream.status(reason.status, &all, end);
        if end {
            return;
        }
        let mut rest = &*body;
        let sent = poll_fn(|cx| {
            match stream.send(rest, true, cx) {
                Some(count) if count < rest.len() => rest = &rest[count..],
                _ => return Poll::Ready(()),
            }
            Poll::Pending
        });
        let _ = deadline.limit(within, sent).await;
    }
}

/// Whether a content type is gRPC's. That of gRPC-Web is not: its clients see HTTP.
pub(crate) fn is_call(content_type: &[u8]) -> bool {
    content_type.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
}

/// The code of gRPC for a status.
const fn code(status: u16) -> u8 {
    match status {
        400 | 431 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        // A reference that leads nowhere is UNAVAILABLE to calls (GRPCRouteRule's backendRefs).
        429 | 500 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}
