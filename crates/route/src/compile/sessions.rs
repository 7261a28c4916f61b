//! `sessionPersistence` and `retry` of rules and policies.

use std::{sync::Arc, time::Duration};

use strait_api::{HttpRouteMatch, PathMatch, RouteRetry, SessionPersistence, SessionType};

use crate::{
    plan::{Lost, Retry, Session},
    status::Condition,
};

/// How often and after how long a request is sent again where the route does not say.
pub(super) const ATTEMPTS: u32 = 2;
pub(super) const BACKOFF: Duration = Duration::from_millis(25);

/// When requests are sent again; none where they never are.
pub(super) fn retry(of: &RouteRetry) -> Option<Retry> {
    let attempts = of.attempts.unwrap_or(ATTEMPTS);
    let mut codes = of.codes.clone();
    codes.sort_unstable();
    codes.dedup();
    (attempts > 0).then(|| Retry {
        codes,
        not_sent: true,
        lost: Lost::Harmless,
        attempts,
        backoff: of.backoff.unwrap_or(BACKOFF),
    })
}

/// The session of a rule or a policy, whose name is `scope`.
///
/// # Errors
/// Why its name can be none of a cookie or a header.
pub(super) fn session(
    of: &SessionPersistence,
    scope: Arc<str>,
    paths: Option<Vec<Arc<str>>>,
) -> Result<Session, Condition> {
    let name = match &of.name {
        Some(name) if !name.is_empty() => Arc::clone(name),
        _ => format!("strait-{:08x}", hash(&scope) >> 32).into(),
    };
    let written = Arc::clone(&name);
    let refused = |why| Err(Condition::no("UnsupportedValue", format!("sessionName {written:?}: {why}")));
    if !name.bytes().all(is_token) {
        return refused("names of cookies and headers are of letters, digits and any of !#$%&'*+-.^_`|~");
    }
    let name: Arc<str> = match of.by {
        SessionType::Cookie => name,
        SessionType::Header => name.to_ascii_lowercase().into(),
    };
    if of.by == SessionType::Header && is_of_the_protocol(&name) {
        return refused("a header that the protocol or another session needs cannot carry a session");
    }
    // A timeout of nothing is none, as elsewhere in the API.
    let some = |timeout: Option<Duration>| timeout.filter(|timeout| !timeout.is_zero());
    Ok(Session {
        scope,
        name,
        by: of.by,
        absolute_timeout: some(of.absolute_timeout),
        idle_timeout: some(of.idle_timeout),
        permanent: of.permanent_cookie,
        paths,
    })
}

/// The paths that cookies of a rule are for: those of its matches, of expressions the part before anything special; the longest first.
pub(super) fn cookie_paths<'a>(matches: impl Iterator<Item = &'a HttpRouteMatch>) -> Vec<Arc<str>> {
    let mut paths: Vec<Arc<str>> = matches
        .map(|of| match &of.path {
            PathMatch::Exact(path) => Arc::clone(path),
            PathMatch::Prefix(path) => trimmed(path).into(),
            PathMatch::Regex(pattern) => {
                let literal = pattern.trim_start_matches('^');
                let end = literal.find(|c: char| r"\.+*?()|[]{}^$".contains(c)).unwrap_or(literal.len());
                let whole = literal[..end].rfind('/').unwrap_or_default();
                trimmed(if end == literal.len() { literal } else { &literal[..whole] }).into()
            }
        })
        .filter(|path: &Arc<str>| path.starts_with('/') && path.len() > 1)
        .collect();
    paths.sort_by(|a, b| (b.len(), a).cmp(&(a.len(), b)));
    paths.dedup();
    paths
}

fn trimmed(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// Fields that say how a message is read or to whom it goes.
fn is_of_the_protocol(name: &str) -> bool {
    const FIELDS: [&str; 15] = [
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    ];
    FIELDS.contains(&name) || name.starts_with("x-forwarded-") || name.starts_with("proxy-")
}

/// FNV-1a: the same name for the same rule in every process.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use strait_base::Location;

    use super::*;

    #[test]
    fn paths_of_cookies() {
        let cases: &[(&[PathMatch], &[&str])] = &[
            (&[PathMatch::Prefix("/".into())], &[]),
            (&[PathMatch::Prefix("/a/".into()), PathMatch::Exact("/a/b".into())], &["/a/b", "/a"]),
            (&[PathMatch::Regex("/p1/p2/.*/p3".into())], &["/p1/p2"]),
            (&[PathMatch::Regex("^/p1/x[0-9]+".into())], &["/p1"]),
            (&[PathMatch::Regex("/p1/p2".into())], &["/p1/p2"]),
            (&[PathMatch::Regex(".*/p3".into()), PathMatch::Regex("/x?".into())], &[]),
        ];
        for (matches, expected) in cases {
            let location = Location::new(&"f.yaml".into(), 1, 1);
            let matches: Vec<_> = matches
                .iter()
                .map(|path| HttpRouteMatch { path: path.clone(), ..HttpRouteMatch::everything(location.clone()) })
                .collect();
            let found = cookie_paths(matches.iter());
            assert_eq!(found.iter().map(|path| &**path).collect::<Vec<_>>(), *expected);
        }
    }
}
