//! Filters of routes, and which of them go together.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    decode::{Decoder, Fields},
    gateway_values::{self as gv, at_most, bounded, one_of, precise_hostname, twice},
    report::ErrorKind,
    routes::{self, RouteKind},
    text::Fault,
    tree::Node,
};
use crate::types::{
    BackendReference, Cors, ExternalAuth, HeaderModifier, HttpRouteMatch, PathMatch, PathModifier, RequestMirror,
    RequestRedirect, RouteFilter, UrlRewrite,
};

/// `filters` of a rule or a back end.
pub(super) fn list(d: &mut Decoder<'_>, fields: &mut Fields<'_>, kind: RouteKind) -> Vec<RouteFilter> {
    let mut once = BTreeSet::new();
    bounded(d, fields, "filters", (0, 16), |d, node| {
        let (name, filter) = filter(d, node, kind)?;
        if !matches!(name, "RequestMirror" | "ExtensionRef") && !once.insert(name) {
            twice(d, node, name, "each kind of filter once (RequestMirror and ExtensionRef more often)");
        }
        Some(filter)
    })
}

fn filter(d: &mut Decoder<'_>, node: &Node, kind: RouteKind) -> Option<(&'static str, RouteFilter)> {
    const HTTP: [&str; 8] = [
        "RequestHeaderModifier",
        "ResponseHeaderModifier",
        "RequestMirror",
        "RequestRedirect",
        "URLRewrite",
        "CORS",
        "ExternalAuth",
        "ExtensionRef",
    ];
    const GRPC: [&str; 4] = ["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "ExtensionRef"];
    let mut fields = d.fields(node)?;
    let allowed: &[&'static str] = if kind == RouteKind::Http { &HTTP } else { &GRPC };
    let name = d.required(&mut fields, "type", "a type of filter", |d, node| one_of(d, node, allowed))?;
    let expected = format!("an object: the type is {name}");
    let filter = match name {
        "RequestHeaderModifier" => d
            .required(&mut fields, "requestHeaderModifier", &expected, header_modifier)
            .map(RouteFilter::RequestHeaders),
        "ResponseHeaderModifier" => d
            .required(&mut fields, "responseHeaderModifier", &expected, header_modifier)
            .map(RouteFilter::ResponseHeaders),
        "RequestMirror" => d.required(&mut fields, "requestMirror", &expected, mirror).map(RouteFilter::Mirror),
        "RequestRedirect" => d.required(&mut fields, "requestRedirect", &expected, redirect).map(RouteFilter::Redirect),
        "URLRewrite" => d.required(&mut fields, "urlRewrite", &expected, rewrite).map(RouteFilter::Rewrite),
        "CORS" => d.required(&mut fields, "cors", &expected, cors).map(RouteFilter::Cors),
        "ExternalAuth" => d.required(&mut fields, "externalAuth", &expected, external_auth),
        _ => d
            .required(&mut fields, "extensionRef", &expected, |d, node| gv::full_reference(d, node, false))
            .map(RouteFilter::Extension),
    };
    d.close(&fields, &[]);
    filter.map(|filter| (name, filter))
}

fn header_modifier(d: &mut Decoder<'_>, node: &Node) -> Option<HeaderModifier> {
    let mut fields = d.fields(node)?;
    let mut pairs = |d: &mut Decoder<'_>, name| {
        let mut seen = BTreeSet::new();
        bounded(d, &mut fields, name, (0, 16), |d, node| {
            let mut fields = d.fields(node)?;
            let name = d.required(&mut fields, "name", "the name of a header", gv::header_name);
            let value = d.required(&mut fields, "value", "the value of a header", gv::header_value);
            d.close(&fields, &[]);
            let pair = (name?, value?);
            // Of names that differ in case the first counts, as documented.
            seen.insert(Arc::clone(&pair.0)).then_some(pair)
        })
    };
    let (set, add) = (pairs(d, "set"), pairs(d, "add"));
    let remove = bounded(d, &mut fields, "remove", (0, 16), gv::header_name);
    d.close(&fields, &[]);
    Some(HeaderModifier { set, add, remove })
}

fn redirect(d: &mut Decoder<'_>, node: &Node) -> Option<RequestRedirect> {
    let mut fields = d.fields(node)?;
    let scheme = d.optional(&mut fields, "scheme", |d, node| one_of(d, node, &["http", "https"]).map(Arc::from));
    let hostname = d.optional(&mut fields, "hostname", precise_hostname);
    let path = d.optional(&mut fields, "path", path_modifier);
    let port = d.optional(&mut fields, "port", Decoder::port);
    let status = d.optional(&mut fields, "statusCode", |d, node| {
        let code = d.integer(node, 300, 399)?;
        let code = u16::try_from(code).ok().filter(|code| matches!(code, 301 | 302 | 303 | 307 | 308));
        if code.is_none() {
            d.refuse(node, "301, 302, 303, 307 or 308");
        }
        code
    });
    d.close(&fields, &[]);
    Some(RequestRedirect { scheme, hostname, path, port, status_code: status.unwrap_or(302) })
}

fn rewrite(d: &mut Decoder<'_>, node: &Node) -> Option<UrlRewrite> {
    let mut fields = d.fields(node)?;
    let hostname = d.optional(&mut fields, "hostname", precise_hostname);
    let path = d.optional(&mut fields, "path", path_modifier);
    d.close(&fields, &[]);
    Some(UrlRewrite { hostname, path })
}

fn path_modifier(d: &mut Decoder<'_>, node: &Node) -> Option<PathModifier> {
    let mut fields = d.fields(node)?;
    let kind = d.required(&mut fields, "type", "ReplaceFullPath or ReplacePrefixMatch", |d, node| {
        one_of(d, node, &["ReplaceFullPath", "ReplacePrefixMatch"])
    });
    let full = d.optional(&mut fields, "replaceFullPath", replacement);
    let prefix = d.optional(&mut fields, "replacePrefixMatch", replacement);
    d.close(&fields, &[]);
    match (kind?, full, prefix) {
        ("ReplaceFullPath", Some(full), None) => Some(PathModifier::Full(full)),
        ("ReplacePrefixMatch", None, Some(prefix)) => Some(PathModifier::Prefix(prefix)),
        (kind, ..) => {
            let field = if kind == "ReplaceFullPath" { "replaceFullPath" } else { "replacePrefixMatch" };
            let fault =
                Fault::new(node.at, ErrorKind::Value, node.found(), format!("{field} alone: the type is {kind}"));
            d.fault(fault.remedy(format!("add {field}, and no other")));
            None
        }
    }
}

/// What a path becomes: empty and relative ones are allowed where a prefix is cut off; nothing that ends the request line.
fn replacement(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    d.checked(node, |text| {
        let valid =
            text.len() <= 1024 && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#' && byte != b'?');
        valid.then_some(()).ok_or("at most 1024 visible ASCII characters without '?' and '#'")
    })
}

fn mirror(d: &mut Decoder<'_>, node: &Node) -> Option<RequestMirror> {
    let mut fields = d.fields(node)?;
    let backend = d.required(&mut fields, "backendRef", "a back end", |d, node| routes::backend(d, node, None));
    let percent = d.optional(&mut fields, "percent", |d, node| d.integer(node, 0, 100));
    let fraction_node = fields.get("fraction");
    let fraction = d.optional(&mut fields, "fraction", |d, node| {
        let mut fields = d.fields(node)?;
        let numerator = d.required(&mut fields, "numerator", "a number from 0", Decoder::natural);
        let denominator = d.optional(&mut fields, "denominator", |d, node| d.integer(node, 1, i64::from(i32::MAX)));
        d.close(&fields, &[]);
        let denominator = denominator.map_or(100, |denominator| u32::try_from(denominator).unwrap_or(100));
        let numerator = numerator?;
        if numerator > denominator {
            d.refuse(node, format!("a numerator of at most {denominator}"));
        }
        Some((numerator, denominator))
    });
    d.close(&fields, &[]);
    if let Some(node) = fraction_node.filter(|_| percent.is_some()) {
        d.refuse(node, "percent or fraction, not both");
    }
    let percent = percent.and_then(|percent| u32::try_from(percent).ok()).map(|percent| (percent, 100));
    Some(RequestMirror { backend: backend?, fraction: fraction.or(percent).unwrap_or((1, 1)) })
}

fn cors(d: &mut Decoder<'_>, node: &Node) -> Option<Cors> {
    let mut fields = d.fields(node)?;
    let allow_origins = bounded(d, &mut fields, "allowOrigins", (0, 64), |d, node| {
        d.checked(node, |text| {
            let origin = text.split_once("://").is_some_and(|(scheme, authority)| {
                let host = authority.split_once(':').map_or(authority, |(host, _)| host);
                scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                    && !host.is_empty()
                    && !authority.contains(['/', '?', '#', ' '])
                    && host.strip_prefix('*').is_none_or(|rest| rest.starts_with('.') || rest.is_empty())
                    && !host.trim_start_matches('*').contains('*')
            });
            (text == "*" || origin)
                .then_some(())
                .ok_or("\"*\", or scheme://host[:port], the host perhaps with \"*.\" before it")
        })
    });
    if allow_origins.len() > 1 && allow_origins.iter().any(|origin| &**origin == "*") {
        d.refuse(node, "\"*\" alone among allowOrigins");
    }
    let allow_credentials = d.optional(&mut fields, "allowCredentials", Decoder::boolean);
    let methods = bounded(d, &mut fields, "allowMethods", (0, 9), |d, node| {
        one_of(d, node, &["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"])
            .map(Arc::from)
    });
    let mut names = |d: &mut Decoder<'_>, name| {
        let names = bounded(d, &mut fields, name, (0, 64), gv::header_name_as_written);
        at_most(
            d,
            node,
            usize::from(names.len() > 1 && names.iter().any(|name| &**name == "*")),
            0,
            "\"*\" beside others",
        );
        names
    };
    let (allow_headers, expose_headers) = (names(d, "allowHeaders"), names(d, "exposeHeaders"));
    let max_age = d.optional(&mut fields, "maxAge", |d, node| d.integer(node, 1, i64::from(i32::MAX)));
    d.close(&fields, &[]);
    Some(Cors {
        allow_origins,
        allow_credentials: allow_credentials.unwrap_or(false),
        allow_methods: methods,
        allow_headers,
        expose_headers,
        max_age: max_age.and_then(|age| u32::try_from(age).ok()).unwrap_or(5),
    })
}

fn external_auth(d: &mut Decoder<'_>, node: &Node) -> Option<RouteFilter> {
    let mut fields = d.fields(node)?;
    let protocol = d.required(&mut fields, "protocol", "HTTP or GRPC", |d, node| one_of(d, node, &["HTTP", "GRPC"]));
    let backend =
        d.required(&mut fields, "backendRef", "the service that decides", |d, node| routes::backend(d, node, None));
    d.close(&fields, &["grpc", "http", "forwardBody"]);
    Some(RouteFilter::ExternalAuth(ExternalAuth { backend: backend?, grpc: protocol? == "GRPC" }))
}

/// What the filters of a rule may not do together.
pub(super) fn check_http_rule(
    d: &mut Decoder<'_>,
    node: &Node,
    filters: &[RouteFilter],
    backends: &[BackendReference],
    matches: &[HttpRouteMatch],
) {
    let redirects = routes::redirects(filters);
    let rewrites = filters.iter().any(|filter| matches!(filter, RouteFilter::Rewrite(_)));
    if redirects && rewrites {
        d.fault(Fault::new(node.at, ErrorKind::Value, "RequestRedirect beside URLRewrite", "one of the two"));
    }
    if redirects && !backends.is_empty() {
        let fault = Fault::new(node.at, ErrorKind::Value, "RequestRedirect beside backendRefs", "one of the two");
        d.fault(fault.remedy("remove backendRefs: what is redirected reaches no back end"));
    }
    let all = filters.iter().chain(backends.iter().flat_map(|backend| &backend.filters));
    let replaces_prefix = all.into_iter().any(|filter| {
        let path = match filter {
            RouteFilter::Redirect(redirect) => &redirect.path,
            RouteFilter::Rewrite(rewrite) => &rewrite.path,
            RouteFilter::RequestHeaders(_)
            | RouteFilter::ResponseHeaders(_)
            | RouteFilter::Mirror(_)
            | RouteFilter::Cors(_)
            | RouteFilter::ExternalAuth(_)
            | RouteFilter::Extension(_) => return false,
        };
        matches!(path, Some(PathModifier::Prefix(_)))
    });
    if replaces_prefix && !matches!(matches, [HttpRouteMatch { path: PathMatch::Prefix(_), .. }]) {
        let found = "ReplacePrefixMatch without a single match by PathPrefix";
        d.fault(Fault::new(node.at, ErrorKind::Value, found, "exactly one match, of type PathPrefix"));
    }
}
