//! The JSON answer, field by field as the conformance echo server's.

use std::{borrow::Cow, collections::BTreeMap, net::SocketAddr};

use hyper::{HeaderMap, header, http::request::Parts};
use serde::Serialize;

use super::Connection;
use crate::{Context, tls::Assertions};

/// What the server saw.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Seen<'a> {
    /// The request target as it came, query included.
    path: Cow<'a, str>,
    host: Cow<'a, str>,
    method: &'a str,
    /// `HTTP/1.1`, `HTTP/2.0`.
    proto: String,
    /// Names in Go's canonical spelling.
    headers: BTreeMap<String, Vec<String>>,
    /// The port that was listened on, as text.
    http_port: String,
    #[serde(flatten)]
    context: &'a Context,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'a Assertions>,
    /// The client, as this host sees it.
    source_address: SocketAddr,
    /// The address the client reached.
    destination_address: SocketAddr,
}

pub(super) fn of<'a>(head: &'a Parts, connection: &'a Connection) -> Seen<'a> {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let host_header = || head.headers.get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()));
    Seen {
        path: target.into(),
        host: head.uri.authority().map(|name| name.as_str().into()).or_else(host_header).unwrap_or_default(),
        method: head.method.as_str(),
        proto: format!("{:?}", head.version),
        headers: headers(&head.headers),
        http_port: connection.destination.port().to_string(),
        context: &connection.shared.context,
        tls: connection.tls.as_ref(),
        source_address: connection.source,
        destination_address: connection.destination,
    }
}

/// As Go's server shows them: `Host` is a field of its own, hop framing is gone, HTTP/2 cookie crumbs are one header.
fn headers(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut shown: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        if [header::HOST, header::TRANSFER_ENCODING].contains(name) {
            continue;
        }
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let values = shown.entry(canonical(name.as_str())).or_default();
        match values.first_mut() {
            Some(crumbs) if name == header::COOKIE => *crumbs = format!("{crumbs}; {value}"),
            _ => values.push(value),
        }
    }
    shown
}

/// Go's `CanonicalMIMEHeaderKey`: the first letter and each after a hyphen in upper case, the others in lower case.
fn canonical(name: &str) -> String {
    let mut upper = true;
    let letters = name.chars().map(|letter| {
        let letter = if upper { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() };
        upper = letter == '-';
        letter
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn names_are_canonical() {
        for (name, expected) in
            [("accept", "Accept"), ("x-FORWARDED-for", "X-Forwarded-For"), ("x--y", "X--Y"), ("te", "Te"), ("", "")]
        {
            assert_eq!(canonical(name), expected);
        }
    }

    #[test]
    fn headers_as_go_shows_them() {
        let mut map = HeaderMap::new();
        for (name, value) in [
            ("host", "h"),
            ("transfer-encoding", "chunked"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("x-many", "1"),
            ("x-many", "2"),
        ] {
            map.append(name, HeaderValue::from_static(value));
        }
        map.append("x-raw", HeaderValue::from_bytes(b"\xff").unwrap());
        let shown = headers(&map);
        assert_eq!(
            serde_json::to_string(&shown).unwrap(),
            "{\"Cookie\":[\"a=1; b=2\"],\"X-Many\":[\"1\",\"2\"],\"X-Raw\":[\"\u{fffd}\"]}"
        );
    }
}
