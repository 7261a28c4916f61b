//! HTTP routes of a `VirtualService`.

use std::{sync::Arc, time::Duration};

use super::{
    super::{
        decode::{Decoder, Fields},
        gateway_values::{self as gv, bounded, lower},
        report::{ErrorKind, Topic},
        text::Fault,
        tree::{Node, quoted},
        values as names,
    },
    traffic::number_status,
    values::{
        any_key, choice, count, duration, entries, flag, gateways, header_key, label_strings, maybe, not_enforced,
        percent, percentage, some_duration, string_match, string_matches, unenforced,
    },
    virtual_service::{authority, check_weights, destination, named, source_namespace, weight},
};
use crate::types::istio::{
    AbortStatus, CorsPolicy, Delegate, GRPC_STATUSES, HeaderOperations, Headers, HttpAbort, HttpAction, HttpBody,
    HttpDelay, HttpDirectResponse, HttpFault, HttpMatch, HttpMirror, HttpRedirect, HttpRetry, HttpRewrite, HttpRoute,
    HttpRouteDestination, Percent, RedirectPort, RegexRewrite, RetryOn, StringMatch, Strings, UnmatchedPreflights,
};

/// The largest body of a direct response.
const MAX_BODY: usize = 1 << 20;

/// One of `http`. Of a delegate no other may follow.
pub(super) fn route(d: &mut Decoder<'_>, node: &Node, is_delegate: bool) -> Option<HttpRoute> {
    let location = d.location(node.at);
    let before = d.errors.len();
    let mut fields = d.fields(node)?;
    let name = maybe(d, &mut fields, "name");
    let matches = bounded(d, &mut fields, "match", (0, 256), http_match);
    let destinations = d.optional(&mut fields, "route", |d, node| d.items(node, route_destination));
    let redirect = d.optional(&mut fields, "redirect", redirect);
    let direct = d.optional(&mut fields, "directResponse", direct_response);
    let delegate = d.optional(&mut fields, "delegate", |d, node| {
        let (name, namespace) = named(d, node)?;
        Some(Delegate { name, namespace })
    });
    let rewrite = d.optional(&mut fields, "rewrite", rewrite);
    let timeout = d.optional(&mut fields, "timeout", duration);
    let retries = d.optional(&mut fields, "retries", retries);
    let fault = d.optional(&mut fields, "fault", fault);
    let mirrors = mirrors(d, &mut fields);
    let cors_policy = d.optional(&mut fields, "corsPolicy", cors);
    let headers = d.optional(&mut fields, "headers", headers);
    d.close(&fields, &[]);
    if d.errors.len() > before {
        return None;
    }
    let given = [destinations.is_some(), redirect.is_some(), direct.is_some(), delegate.is_some()];
    if given.iter().filter(|given| **given).count() != 1 {
        let found = if given.contains(&true) { "more than one of them" } else { "none of them" };
        let allowed = "one of route, redirect, directResponse and delegate";
        d.fault(Fault::new(node.at, ErrorKind::Value, found, allowed));
        return None;
    }
    if delegate.is_some() || is_delegate {
        check_delegation(d, node, &matches, delegate.is_some() && is_delegate);
    }
    let action = if let Some(mut all) = destinations {
        check_weights(d, node, &all.iter().map(|of| of.weight).collect::<Vec<_>>());
        if let [only] = all.as_mut_slice() {
            only.weight = only.weight.max(1);
        }
        if all.is_empty() {
            d.missing(node.at, "route", "at least one destination");
        }
        HttpAction::Route(all)
    } else if let Some(redirect) = redirect {
        HttpAction::Redirect(redirect)
    } else if let Some(direct) = direct {
        HttpAction::DirectResponse(direct)
    } else {
        HttpAction::Delegate(delegate?)
    };
    if matches!(action, HttpAction::Redirect(_) | HttpAction::DirectResponse(_)) {
        for (present, what) in [(fault.is_some(), "fault"), (rewrite.is_some(), "rewrite")] {
            if present {
                let found = format!("{what} beside redirect or directResponse");
                d.fault(Fault::new(node.at, ErrorKind::Value, found, "one of the two"));
            }
        }
    }
    check_authority(d, node, rewrite.as_ref(), headers.as_ref());
    Some(HttpRoute { name, matches, action, rewrite, timeout, retries, fault, mirrors, cors_policy, headers, location })
}

/// The host that a request goes on with is said once.
fn check_authority(d: &mut Decoder<'_>, node: &Node, rewrite: Option<&HttpRewrite>, headers: Option<&Headers>) {
    let request = headers.map(|headers| &headers.request);
    let edits =
        request.map_or(0, |of| usize::from(of.set.contains_key("host")) + usize::from(of.add.contains_key("host")));
    if edits + usize::from(rewrite.is_some_and(|rewrite| rewrite.authority.is_some())) > 1 {
        let found = "the authority several times, in rewrite and headers";
        d.fault(Fault::new(node.at, ErrorKind::Value, found, "the authority once"));
    }
}

/// Matches of a route that delegates, or of a delegate's: those of both are put together, which expressions cannot be.
fn check_delegation(d: &mut Decoder<'_>, node: &Node, matches: &[HttpMatch], twice: bool) {
    let is_regex = |of: &Option<StringMatch>| matches!(of, Some(StringMatch::Regex(_)));
    let any = |of: &HttpMatch| {
        [&of.uri, &of.scheme, &of.method, &of.authority].into_iter().any(is_regex)
            || [&of.headers, &of.without_headers, &of.query_params]
                .into_iter()
                .any(|all| all.values().any(|of| matches!(of, StringMatch::Regex(_))))
    };
    if matches.iter().any(any) {
        d.fault(Fault::new(node.at, ErrorKind::Value, "a regex match beside delegation", "exact and prefix matches"));
    }
    if twice {
        let found = "a delegate that delegates";
        d.fault(Fault::new(node.at, ErrorKind::Value, found, "route, redirect or directResponse"));
    }
}

fn http_match(d: &mut Decoder<'_>, node: &Node) -> Option<HttpMatch> {
    let mut fields = d.fields(node)?;
    let mut part = |d: &mut Decoder<'_>, name| d.optional(&mut fields, name, string_match);
    let (uri, scheme, method, authority) = (part(d, "uri"), part(d, "scheme"), part(d, "method"), part(d, "authority"));
    let headers = string_matches(d, &mut fields, "headers", header_key);
    let without_headers = string_matches(d, &mut fields, "withoutHeaders", header_key);
    let is_claim = |name: &Arc<str>| name.starts_with('@');
    for (name, claims) in [("headers", &headers), ("withoutHeaders", &without_headers)] {
        if claims.keys().any(is_claim) {
            let why = "claims of tokens are not known yet: this match takes no request";
            not_enforced(d, &mut fields, name, why);
        }
    }
    let out = HttpMatch {
        name: maybe(d, &mut fields, "name"),
        uri,
        scheme,
        method,
        authority,
        headers,
        without_headers,
        query_params: string_matches(d, &mut fields, "queryParams", any_key),
        port: d.optional(&mut fields, "port", Decoder::port),
        source_labels: label_strings(d, &mut fields, "sourceLabels"),
        source_namespace: source_namespace(d, &mut fields),
        gateways: gateways(d, &mut fields),
        ignore_uri_case: flag(d, &mut fields, "ignoreUriCase"),
        stat_prefix: maybe(d, &mut fields, "statPrefix"),
        location: d.location(node.at),
    };
    not_enforced(d, &mut fields, "statPrefix", "there are no statistics by this name");
    d.close(&fields, &[]);
    Some(out)
}

fn route_destination(d: &mut Decoder<'_>, node: &Node) -> Option<HttpRouteDestination> {
    let mut fields = d.fields(node)?;
    let destination = d.required(&mut fields, "destination", "an object with host", destination);
    let weight = weight(d, &mut fields);
    let headers = d.optional(&mut fields, "headers", headers);
    d.close(&fields, &[]);
    Some(HttpRouteDestination { destination: destination?, weight, headers })
}

/// A path that takes the place of another: nothing that ends it.
fn path(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    let path = path_and_query(d, node)?;
    if path.contains('?') {
        d.refuse(node, "a path without '?': the query stays as it is");
        return None;
    }
    Some(path)
}

/// As [`path`], perhaps with a query in place of the request's.
fn path_and_query(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    d.checked(node, |text| {
        let valid = text.len() <= 4096 && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        valid.then_some(()).ok_or("at most 4096 visible ASCII characters without '#'")
    })
    .filter(|text| !text.is_empty())
}

fn redirect(d: &mut Decoder<'_>, node: &Node) -> Option<HttpRedirect> {
    const DERIVED: [(&str, RedirectPort); 2] =
        [("FROM_PROTOCOL_DEFAULT", RedirectPort::ProtocolDefault), ("FROM_REQUEST_PORT", RedirectPort::RequestPort)];
    let before = d.errors.len();
    let mut fields = d.fields(node)?;
    let uri = d.optional(&mut fields, "uri", path_and_query);
    let prefix_rewrite = d.optional(&mut fields, "prefixRewrite", path);
    let authority =
        d.optional(
            &mut fields,
            "authority",
            |d, node| {
                if d.string(node)?.is_empty() { None } else { authority(d, node) }
            },
        );
    let port = d.optional(&mut fields, "port", Decoder::port);
    let derived = choice(d, &mut fields, "derivePort", &DERIVED);
    let scheme = d.optional(&mut fields, "scheme", |d, node| {
        if d.string(node)?.is_empty() { None } else { gv::one_of(d, node, &["http", "https"]).map(Arc::from) }
    });
    let code = d.optional(&mut fields, "redirectCode", |d, node| {
        let code = d.integer(node, 0, 399)?;
        let code = u16::try_from(code).ok().filter(|code| matches!(code, 0 | 301 | 302 | 303 | 307 | 308));
        if code.is_none() {
            d.refuse(node, "301, 302, 303, 307 or 308");
        }
        code.filter(|code| *code > 0)
    });
    d.close(&fields, &[]);
    if d.errors.len() > before {
        return None;
    }
    let mut refuse = |found: &str, allowed: &str| d.fault(Fault::new(node.at, ErrorKind::Value, found, allowed));
    if port.is_some() && derived.is_some() {
        refuse("port beside derivePort", "one of the two");
    }
    if uri.is_some() && prefix_rewrite.is_some() {
        refuse("uri beside prefixRewrite", "one of the two");
    }
    if uri.is_none()
        && prefix_rewrite.is_none()
        && authority.is_none()
        && port.is_none()
        && derived.is_none()
        && scheme.is_none()
    {
        refuse("a redirect to where the request is", "uri, prefixRewrite, authority, scheme or port");
    }
    let port = port.map(RedirectPort::Number).or(derived).unwrap_or(RedirectPort::Unset);
    Some(HttpRedirect { uri, prefix_rewrite, authority, port, scheme, redirect_code: code.unwrap_or(301) })
}

fn direct_response(d: &mut Decoder<'_>, node: &Node) -> Option<HttpDirectResponse> {
    let mut fields = d.fields(node)?;
    let status = d.required(&mut fields, "status", "a status, 200-599", http_status);
    let body = d.optional(&mut fields, "body", |d, node| {
        let mut fields = d.fields(node)?;
        let text = d.optional(&mut fields, "string", Decoder::string);
        let bytes = d.optional(&mut fields, "bytes", |d, node| {
            let text = d.string(node)?;
            let decoded = names::base64(&text);
            if decoded.is_none() {
                d.refuse(node, "base64");
            }
            decoded
        });
        d.close(&fields, &[]);
        let length = text.as_ref().map_or(0, |text| text.len()).max(bytes.as_ref().map_or(0, Vec::len));
        gv::at_most(d, node, length, MAX_BODY, "bytes");
        match (text, bytes) {
            (Some(text), None) => Some(HttpBody::Text(text)),
            (None, Some(bytes)) => Some(HttpBody::Bytes(bytes.into())),
            _ => {
                d.fault(Fault::new(node.at, ErrorKind::Value, node.found(), "one of string and bytes"));
                None
            }
        }
    });
    d.close(&fields, &[]);
    Some(HttpDirectResponse { status: status?, body })
}

fn http_status(d: &mut Decoder<'_>, node: &Node) -> Option<u16> {
    d.integer(node, 200, 599).and_then(|status| u16::try_from(status).ok())
}

fn rewrite(d: &mut Decoder<'_>, node: &Node) -> Option<HttpRewrite> {
    let before = d.errors.len();
    let mut fields = d.fields(node)?;
    let uri = d.optional(&mut fields, "uri", path);
    let authority =
        d.optional(
            &mut fields,
            "authority",
            |d, node| {
                if d.string(node)?.is_empty() { None } else { authority(d, node) }
            },
        );
    let uri_regex_rewrite = d.optional(&mut fields, "uriRegexRewrite", |d, node| {
        let mut fields = d.fields(node)?;
        let pattern = d.required(&mut fields, "match", "a regular expression", |d, node| gv::regex(d, node, 4096));
        let rewrite = d.optional(&mut fields, "rewrite", substitution);
        d.close(&fields, &[]);
        let (pattern, rewrite) = (pattern?, rewrite.unwrap_or_else(|| "".into()));
        check_groups(d, node, &pattern, &rewrite);
        Some(RegexRewrite { pattern, rewrite })
    });
    d.close(&fields, &[]);
    if d.errors.len() > before {
        return None;
    }
    if uri.is_some() && uri_regex_rewrite.is_some() {
        d.fault(Fault::new(node.at, ErrorKind::Value, "uri beside uriRegexRewrite", "one of the two"));
    }
    if uri.is_none() && uri_regex_rewrite.is_none() && authority.is_none() {
        d.fault(Fault::new(node.at, ErrorKind::Missing, node.found(), "uri, uriRegexRewrite or authority"));
    }
    Some(HttpRewrite { uri, authority, uri_regex_rewrite })
}

/// What an expression's matches become: `\1` is a group, `\\` a backslash.
fn substitution(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    d.checked(node, |text| {
        let visible =
            text.len() <= 4096 && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#' && byte != b'?');
        let mut after = false;
        let escapes = text.bytes().all(|byte| {
            let fine = !after || byte.is_ascii_digit() || byte == b'\\';
            after = !after && byte == b'\\';
            fine
        });
        (visible && escapes && !after)
            .then_some(())
            .ok_or("visible ASCII characters without '#' and '?', with \\0-\\9 for groups and \\\\ for a backslash")
    })
}

/// A group that an expression does not have would make the whole configuration invalid upstream.
fn check_groups(d: &mut Decoder<'_>, node: &Node, pattern: &str, rewrite: &str) {
    let Ok(parsed) = regex_syntax::parse(pattern) else { return };
    let has = parsed.properties().explicit_captures_len();
    let (mut escaped, mut most) = (false, 0);
    for byte in rewrite.bytes() {
        if escaped && byte.is_ascii_digit() {
            most = most.max(usize::from(byte - b'0'));
        }
        escaped = !escaped && byte == b'\\';
    }
    if most > has {
        let found = format!("\\{most} where {} has {has} groups", quoted(pattern));
        d.fault(Fault::new(node.at, ErrorKind::Value, found, "groups that the expression has"));
    }
}

fn retries(d: &mut Decoder<'_>, node: &Node) -> Option<HttpRetry> {
    let mut fields = d.fields(node)?;
    let attempts = count(d, &mut fields, "attempts");
    let retry = HttpRetry {
        attempts: attempts.unwrap_or(0),
        per_try_timeout: d.optional(&mut fields, "perTryTimeout", some_duration),
        retry_on: d.optional(&mut fields, "retryOn", retry_on).unwrap_or_default(),
        retry_remote_localities: d.optional(&mut fields, "retryRemoteLocalities", Decoder::boolean),
        retry_ignore_previous_hosts: d.optional(&mut fields, "retryIgnorePreviousHosts", Decoder::boolean),
        backoff: d.optional(&mut fields, "backoff", some_duration),
    };
    d.close(&fields, &[]);
    if retry.attempts == 0 && (retry.per_try_timeout.is_some() || !retry.retry_on.is_empty()) {
        let fault = Fault::new(node.at, ErrorKind::Value, "a policy for 0 attempts", "attempts above 0");
        d.fault(fault.remedy("raise attempts, or leave the rest out"));
    }
    if retry.retry_ignore_previous_hosts == Some(false) {
        unenforced(d, node, "a request is sent again to another host where there is one");
    }
    Some(retry)
}

/// `retryOn`: tokens with commas between.
fn retry_on(d: &mut Decoder<'_>, node: &Node) -> Option<Vec<RetryOn>> {
    let text = d.string(node)?;
    let mut all = Vec::new();
    for token in text.split(',').map(str::trim).filter(|token| !token.is_empty()) {
        let named = RetryOn::NAMED.iter().find(|(name, _)| *name == token).map(|(_, token)| *token);
        let status = || token.parse().ok().filter(|status| (100..=599).contains(status)).map(RetryOn::Status);
        if let Some(token) = named.or_else(status) {
            all.push(token);
        } else {
            let known = RetryOn::NAMED.map(|(name, _)| name).join(", ");
            let fault = Fault::new(node.at, ErrorKind::Value, quoted(token), format!("{known}, or a status, 100-599"));
            let meant = super::super::decode::nearest(token, RetryOn::NAMED.iter().map(|(name, _)| *name));
            d.fault(match meant {
                Some(name) => fault.remedy(format!("did you mean \"{name}\"?")),
                None => fault,
            });
        }
    }
    let unseen = |token: &&RetryOn| {
        matches!(
            token,
            RetryOn::EnvoyRatelimited
                | RetryOn::RetriableHeaders
                | RetryOn::Http3PostConnectFailure
                | RetryOn::Cancelled
                | RetryOn::DeadlineExceeded
                | RetryOn::Internal
                | RetryOn::ResourceExhausted
                | RetryOn::Unavailable
        )
    };
    let unseen: Vec<String> = all.iter().filter(unseen).map(ToString::to_string).collect();
    if !unseen.is_empty() {
        unenforced(d, node, &format!("requests are not tried again for {} yet", unseen.join(", ")));
    }
    Some(all)
}

fn fault(d: &mut Decoder<'_>, node: &Node) -> Option<HttpFault> {
    let mut fields = d.fields(node)?;
    let delay = d.optional(&mut fields, "delay", |d, node| {
        let mut fields = d.fields(node)?;
        let fixed_delay = d.required(&mut fields, "fixedDelay", "a duration, as 5s", some_duration);
        let percentage = share(d, &mut fields);
        // Upstream hides it and does nothing with it.
        let exponential = d.optional(&mut fields, "exponentialDelay", duration);
        if exponential.is_some() {
            not_enforced(d, &mut fields, "exponentialDelay", "it has no effect, upstream neither");
        }
        d.close(&fields, &[]);
        Some(HttpDelay { fixed_delay: fixed_delay?, percentage })
    });
    let abort = d.optional(&mut fields, "abort", abort);
    let given = fields.get("delay").is_some() || fields.get("abort").is_some();
    d.close(&fields, &[]);
    if !given {
        d.fault(Fault::new(node.at, ErrorKind::Missing, node.found(), "delay, abort or both"));
    }
    Some(HttpFault { delay, abort })
}

/// A string.
fn string(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    d.string(node)
}

/// `percentage`, or `percent` of before: nothing where neither is given, as protobuf's zero.
fn share(d: &mut Decoder<'_>, fields: &mut Fields<'_>) -> Percent {
    let of_before = d.optional(fields, "percent", percent);
    let given = d.optional(fields, "percentage", percentage).or(of_before);
    if given.is_none() {
        let message = "without a percentage no request is concerned";
        d.warn(fields.node.at, Topic::MatchesNothing, message);
    }
    given.unwrap_or(Percent { millionths: 0 })
}

fn abort(d: &mut Decoder<'_>, node: &Node) -> Option<HttpAbort> {
    let before = d.errors.len();
    let mut fields = d.fields(node)?;
    let http = d.optional(&mut fields, "httpStatus", http_status);
    let grpc = d.optional(&mut fields, "grpcStatus", |d, node| {
        let text = d.string(node)?;
        let found = GRPC_STATUSES.iter().position(|name| *name == &*text);
        if found.is_none() {
            d.refuse(node, format!("a status of gRPC: {}", GRPC_STATUSES.join(", ")));
        }
        found.and_then(|code| u8::try_from(code).ok())
    });
    let percentage = share(d, &mut fields);
    d.optional(&mut fields, "http2Error", |d, node| -> Option<()> {
        d.refuse_with(node, "nothing: it is not served, upstream neither", "use httpStatus or grpcStatus");
        None
    });
    d.close(&fields, &[]);
    match (http, grpc) {
        (Some(status), None) => Some(HttpAbort { status: AbortStatus::HttpStatus(status), percentage }),
        (None, Some(status)) => Some(HttpAbort { status: AbortStatus::GrpcStatus(status), percentage }),
        _ => {
            if d.errors.len() == before {
                d.fault(Fault::new(node.at, ErrorKind::Value, node.found(), "one of httpStatus and grpcStatus"));
            }
            None
        }
    }
}

/// `mirror` with `mirrorPercentage` (`mirrorPercent` of before), or `mirrors`.
fn mirrors(d: &mut Decoder<'_>, fields: &mut Fields<'_>) -> Vec<HttpMirror> {
    let single = d.optional(fields, "mirror", destination);
    let of_before = d.optional(fields, "mirrorPercent", percent);
    let share = d.optional(fields, "mirrorPercentage", percentage).or(of_before);
    let mut all = bounded(d, fields, "mirrors", (0, 16), |d, node| {
        let mut fields = d.fields(node)?;
        let destination = d.required(&mut fields, "destination", "an object with host", destination);
        let share = d.optional(&mut fields, "percentage", percentage);
        d.close(&fields, &[]);
        Some(HttpMirror { destination: destination?, percentage: share.unwrap_or(Percent::ALL) })
    });
    if single.is_some() && !all.is_empty() {
        d.fault(Fault::new(fields.node.at, ErrorKind::Value, "mirror beside mirrors", "one of the two"));
    }
    let single = single.map(|destination| HttpMirror { destination, percentage: share.unwrap_or(Percent::ALL) });
    all.extend(single);
    all
}

fn cors(d: &mut Decoder<'_>, node: &Node) -> Option<CorsPolicy> {
    const PREFLIGHTS: [(&str, UnmatchedPreflights); 3] = [
        ("UNSPECIFIED", UnmatchedPreflights::Forward),
        ("FORWARD", UnmatchedPreflights::Forward),
        ("IGNORE", UnmatchedPreflights::Ignore),
    ];
    let mut fields = d.fields(node)?;
    let mut allow_origins = bounded(d, &mut fields, "allowOrigins", (0, 256), string_match);
    let of_before = bounded(d, &mut fields, "allowOrigin", (0, 256), string);
    allow_origins.extend(of_before.into_iter().map(|origin| match &*origin {
        "*" => StringMatch::Regex(".*".into()),
        _ => StringMatch::Exact(origin),
    }));
    let methods = bounded(d, &mut fields, "allowMethods", (0, 64), gv::header_name_as_written);
    let mut list = |d: &mut Decoder<'_>, name| bounded(d, &mut fields, name, (0, 256), gv::header_name_as_written);
    let (allow_headers, expose_headers) = (list(d, "allowHeaders"), list(d, "exposeHeaders"));
    let max_age = d.optional(&mut fields, "maxAge", |d, node| {
        let age = duration(d, node)?;
        if age.subsec_nanos() > 0 || age > Duration::from_secs(u32::MAX.into()) {
            d.refuse(node, "whole seconds");
            return None;
        }
        Some(age)
    });
    let allow_credentials = d.optional(&mut fields, "allowCredentials", Decoder::boolean);
    let unmatched = choice(d, &mut fields, "unmatchedPreflights", &PREFLIGHTS);
    d.close(&fields, &[]);
    Some(CorsPolicy {
        allow_origins,
        allow_methods: methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        unmatched_preflights: unmatched.unwrap_or_default(),
    })
}

/// `headers` of a route or a destination.
fn headers(d: &mut Decoder<'_>, node: &Node) -> Option<Headers> {
    let mut fields = d.fields(node)?;
    let request = d.optional(&mut fields, "request", |d, node| operations(d, node, true));
    let response = d.optional(&mut fields, "response", |d, node| operations(d, node, false));
    d.close(&fields, &[]);
    Some(Headers { request: request.unwrap_or_default(), response: response.unwrap_or_default() })
}

fn operations(d: &mut Decoder<'_>, node: &Node, request: bool) -> Option<HeaderOperations> {
    let mut fields = d.fields(node)?;
    let mut pairs = |d: &mut Decoder<'_>, name| {
        let all = entries(d, &mut fields, name, header_key, |d, node| {
            let value = d.checked(node, |text| {
                let valid = text.len() <= 4096 && text.chars().all(|c| c == '\t' || !c.is_control());
                valid.then_some(()).ok_or("at most 4096 characters without control characters")
            })?;
            if value.replace("%%", "").contains('%') {
                unenforced(d, node, "% begins no command here: the value is written as it stands");
            }
            Some(value.replace("%%", "%").into())
        });
        all.into_iter().filter_map(|(name, value)| Some((editable(d, node, &name, request)?, value))).collect()
    };
    let (set, add): (Strings, Strings) = (pairs(d, "set"), pairs(d, "add"));
    let remove = bounded(d, &mut fields, "remove", (0, 256), |d, inner| {
        let name = lower(gv::header_name_as_written(d, inner)?);
        if &*name == "host" {
            d.refuse(inner, "a header that is not the authority");
            return None;
        }
        Some(name)
    });
    d.close(&fields, &[]);
    Some(HeaderOperations { set, add, remove })
}

/// A request's authority may be set; other fields of the message itself may not.
fn editable(d: &mut Decoder<'_>, node: &Node, name: &Arc<str>, request: bool) -> Option<Arc<str>> {
    let authority = matches!(&**name, ":authority" | "host");
    if authority && request {
        return Some("host".into());
    }
    if authority || name.starts_with([':', '@']) {
        let fault =
            Fault::new(node.at, ErrorKind::Value, quoted(name), "a header that is not part of the request line");
        d.fault(fault);
        return None;
    }
    Some(Arc::clone(name))
}

/// Statuses of errors, which outlier detection counts.
pub(super) fn error_status(d: &mut Decoder<'_>, node: &Node) -> Option<u16> {
    number_status(d, node, (100, 599))
}
