//! The CORS protocol of the Fetch standard, as the `CORS` filter of the Gateway API has it.

use strait_api::Cors;
use strait_route::CorsPolicy;

/// Whether an origin may read answers.
pub(crate) fn allows(cors: &Cors, origin: &str) -> bool {
    cors.allow_origins
        .iter()
        .any(|allowed| &**allowed == "*" || allowed.eq_ignore_ascii_case(origin) || wildcard(allowed, origin))
}

/// `https://*.example.com` covers `https://a.b.example.com`, not `https://example.com`.
fn wildcard(allowed: &str, origin: &str) -> bool {
    let Some((before, after)) = allowed.split_once('*') else { return false };
    let lower = origin.to_ascii_lowercase();
    let middle = lower
        .strip_prefix(&*before.to_ascii_lowercase())
        .and_then(|rest| rest.strip_suffix(&*after.to_ascii_lowercase()));
    middle.is_some_and(|middle| !middle.is_empty() && !middle.contains(['/', '@', ':', '?', '#']))
}

/// The fields that answer a preflight for `method` and `headers`; none where the origin is not allowed.
pub(crate) fn preflight(cors: &Cors, origin: &str, method: &str, headers: Option<&str>) -> Vec<(&'static str, String)> {
    let mut out = fields(cors, origin);
    if out.is_empty() {
        return out;
    }
    let star = |names: &[std::sync::Arc<str>]| names.iter().any(|name| &**name == "*");
    let list = |names: &[std::sync::Arc<str>]| names.iter().map(|name| &**name).collect::<Vec<_>>().join(", ");
    // With credentials a star means itself and nothing else: what was asked for is named instead.
    if star(&cors.allow_methods) {
        out.push(("access-control-allow-methods", if cors.allow_credentials { method } else { "*" }.to_owned()));
    } else if !cors.allow_methods.is_empty() {
        out.push(("access-control-allow-methods", list(&cors.allow_methods)));
    }
    if star(&cors.allow_headers) {
        let asked = headers.filter(|_| cors.allow_credentials);
        out.push(("access-control-allow-headers", asked.unwrap_or("*").to_owned()));
    } else if !cors.allow_headers.is_empty() {
        out.push(("access-control-allow-headers", list(&cors.allow_headers)));
    }
    out.push(("access-control-max-age", cors.max_age.to_string()));
    out
}

/// The fields that go with every answer to an allowed origin.
pub(crate) fn fields(cors: &Cors, origin: &str) -> Vec<(&'static str, String)> {
    if !allows(cors, origin) {
        return Vec::new();
    }
    let any = cors.allow_origins.iter().any(|allowed| &**allowed == "*");
    let mut out = Vec::new();
    if any && !cors.allow_credentials {
        out.push(("access-control-allow-origin", "*".to_owned()));
    } else {
        out.push(("access-control-allow-origin", origin.to_owned()));
        out.push(("vary", "Origin".to_owned()));
    }
    if cors.allow_credentials {
        out.push(("access-control-allow-credentials", "true".to_owned()));
    }
    if !cors.expose_headers.is_empty() {
        let names: Vec<&str> = cors.expose_headers.iter().map(|name| &**name).collect();
        out.push(("access-control-expose-headers", names.join(", ")));
    }
    out
}

/// The fields that answer a preflight by a policy of Istio's; none where the origin is not allowed.
pub(crate) fn policy_preflight(policy: &CorsPolicy, origin: &str) -> Vec<(&'static str, String)> {
    let mut out = policy_fields(policy, origin);
    if !out.is_empty() {
        out.retain(|(name, _)| *name != EXPOSE);
        let lists = [
            ("access-control-allow-methods", &policy.methods),
            ("access-control-allow-headers", &policy.headers),
            ("access-control-max-age", &policy.max_age),
        ];
        out.extend(lists.into_iter().filter_map(|(name, list)| Some((name, list.as_ref()?.to_string()))));
    }
    out
}

const EXPOSE: &str = "access-control-expose-headers";

/// The fields that go with every answer to an origin that a policy of Istio's allows.
pub(crate) fn policy_fields(policy: &CorsPolicy, origin: &str) -> Vec<(&'static str, String)> {
    if !policy.allows(origin) {
        return Vec::new();
    }
    let mut out = vec![("access-control-allow-origin", origin.to_owned())];
    if policy.credentials {
        out.push(("access-control-allow-credentials", "true".to_owned()));
    }
    out.extend(policy.expose.iter().map(|list| (EXPOSE, list.to_string())));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let cors = |origin: &str| Cors {
            allow_origins: vec![origin.into()],
            allow_credentials: false,
            allow_methods: Vec::new(),
            allow_headers: Vec::new(),
            expose_headers: Vec::new(),
            max_age: 5,
        };
        let cases = [
            ("*", "https://a.example", true),
            ("https://a.example", "https://a.example", true),
            ("https://a.example", "https://A.example", true),
            ("https://a.example", "http://a.example", false),
            ("https://a.example", "https://a.example:8443", false),
            ("https://*.example.com", "https://a.b.example.com", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "https://.example.com", false),
            ("https://*.example.com", "https://evil/.example.com", false),
            ("https://*.example.com", "https://a.example.com.evil", false),
            ("https://*.example.com:8443", "https://a.example.com:8443", true),
        ];
        for (allowed, origin, expected) in cases {
            assert_eq!(allows(&cors(allowed), origin), expected, "{allowed} {origin}");
        }
    }
}
