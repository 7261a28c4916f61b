//! Heads and trailers of HTTP/2 as text of HTTP/1.1, and back.

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, Version,
    header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, TE, TRAILER},
    request, response,
};
use strait_http::{Framing, Head, Known, Limits, RequestHead, ResponseHead};

/// Bounds on text that this gate wrote itself: they are there for the codec, those on what comes from outside are elsewhere.
pub(crate) const OWN: Limits = Limits { head: 256 << 10, target: 64 << 10, fields: 128 };

/// A message that means nothing, or two things.
#[derive(Debug)]
pub(crate) struct Malformed;

/// Fields that mean something on one connection of HTTP/1 alone (RFC 9113, 8.2.2).
fn is_of_connection(name: &str) -> bool {
    matches!(
        name,
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" | "http2-settings"
    )
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Whether trailers are to be expected: gRPC's, or what is announced. They need chunks, which have no length.
fn may_have_trailers(headers: &HeaderMap) -> bool {
    headers.contains_key(TRAILER)
        || headers.get(CONTENT_TYPE).is_some_and(|kind| crate::local::is_call(kind.as_bytes()))
}

/// Writes a request's head; `end` where no body follows. Gives whether the body is to be written in chunks.
pub(crate) fn request_text(head: &request::Parts, end: bool, out: &mut Vec<u8>) -> Result<bool, Malformed> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    let authority = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    if hosts.next().is_some() || host.zip(authority).is_some_and(|(host, of)| !host.eq_ignore_ascii_case(of)) {
        return Err(Malformed);
    }
    let authority = authority.or(host).ok_or(Malformed)?;
    let target = head.uri.path_and_query().map(http::uri::PathAndQuery::as_str);
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    if head.method == http::Method::CONNECT {
        out.extend_from_slice(authority);
    } else {
        out.extend_from_slice(target.unwrap_or("/").as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    line(out, "host", authority);
    let mut length = false;
    let trailers = !end && may_have_trailers(&head.headers);
    for (name, value) in &head.headers {
        match name {
            &CONTENT_LENGTH if trailers => {}
            &HOST | &COOKIE => {}
            &TE if value.as_bytes().eq_ignore_ascii_case(b"trailers") => {
                out.extend_from_slice(b"te: trailers\r\nconnection: te\r\n");
            }
            &TE => return Err(Malformed),
            // Nothing follows, whatever was announced to an application: a HEAD request has no length.
            &CONTENT_LENGTH if end && value.as_bytes() != b"0" => return Err(Malformed),
            name if is_of_connection(name.as_str()) => return Err(Malformed),
            name => {
                length |= name == CONTENT_LENGTH;
                line(out, name.as_str(), value.as_bytes());
            }
        }
    }
    // Clients may send one cookie a field; HTTP/1 knows one field alone (RFC 9113, 8.2.3).
    let cookies: Vec<&[u8]> = head.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if !cookies.is_empty() {
        line(out, "cookie", &cookies.join(&b"; "[..]));
    }
    let chunked = !end && !length;
    if chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(chunked)
}

/// Writes a response's head; `end` where no body follows. It is the last one of its pipe. Gives whether the body is to be written in chunks.
pub(crate) fn response_text(head: &response::Parts, end: bool, is_head: bool, out: &mut Vec<u8>) -> bool {
    let status = head.status.as_u16();
    out.extend_from_slice(format!("HTTP/1.1 {status} {}\r\n", head.status.canonical_reason().unwrap_or("")).as_bytes());
    let mut length = false;
    let trailers = !end && may_have_trailers(&head.headers);
    for (name, value) in head.headers.iter().filter(|(name, _)| !is_of_connection(name.as_str())) {
        if trailers && name == CONTENT_LENGTH {
            continue;
        }
        length |= name == CONTENT_LENGTH;
        line(out, name.as_str(), value.as_bytes());
    }
    let bodiless = is_head || matches!(status, 204 | 304);
    let chunked = !end && !length && !bodiless;
    if chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    } else if end && !length && !bodiless {
        out.extend_from_slice(b"content-length: 0\r\n");
    }
    out.extend_from_slice(b"connection: close\r\n\r\n");
    chunked
}

/// Fields that go the whole way.
fn fields(head: &Head, bytes: &[u8], map: &mut HeaderMap) -> Result<(), Malformed> {
    for field in &head.fields {
        match field.known {
            Known::Other | Known::ContentLength | Known::Trailer => {
                let name = HeaderName::from_bytes(field.name.bytes(bytes)).map_err(|_| Malformed)?;
                let value = HeaderValue::from_bytes(field.value.bytes(bytes)).map_err(|_| Malformed)?;
                map.try_append(name, value).map_err(|_| Malformed)?;
            }
            Known::Connection
            | Known::Expect
            | Known::Host
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::Te
            | Known::TransferEncoding
            | Known::Upgrade
            | Known::Http2Settings => {}
        }
    }
    Ok(())
}

/// The request whose head was read from `bytes`. `fallback` is who is asked where it does not say.
pub(crate) fn request(head: &RequestHead, bytes: &[u8], https: bool, fallback: &str) -> Result<Request<()>, Malformed> {
    let authority = head.authority.text(bytes);
    let authority = if authority.is_empty() { fallback } else { authority };
    let scheme = if https { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(head.whole_target.text(bytes)).build();
    let mut request = Request::new(());
    *request.uri_mut() = uri.map_err(|_| Malformed)?;
    *request.method_mut() = http::Method::from_bytes(head.method.bytes(bytes)).map_err(|_| Malformed)?;
    *request.version_mut() = Version::HTTP_2;
    fields(&head.head, bytes, request.headers_mut())?;
    if head.head.trailers {
        request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(request)
}

/// The response whose head was read from `bytes`.
pub(crate) fn response(head: &ResponseHead, bytes: &[u8]) -> Result<Response<()>, Malformed> {
    let mut response = Response::new(());
    *response.status_mut() = http::StatusCode::from_u16(head.status).map_err(|_| Malformed)?;
    *response.version_mut() = Version::HTTP_2;
    fields(&head.head, bytes, response.headers_mut())?;
    Ok(response)
}

/// Whether no body follows a head.
pub(crate) const fn is_end(framing: Framing) -> bool {
    matches!(framing, Framing::None | Framing::Length(0))
}

/// Writes the end of a body in chunks. Fields that trailers must not have (RFC 9110, 6.5.1) are left out.
pub(crate) fn last_chunk(trailers: Option<&HeaderMap>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten().filter(|(name, _)| may_trail(name)) {
        line(out, name.as_str(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// The fields of a trailer section, which was read as far as its empty line.
pub(crate) fn trailers(text: &[u8]) -> Result<HeaderMap, Malformed> {
    let mut map = HeaderMap::new();
    for field in text.split(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\r")) {
        if field.is_empty() {
            break;
        }
        let colon = field.iter().position(|byte| *byte == b':').ok_or(Malformed)?;
        let name = HeaderName::from_bytes(&field[..colon]).map_err(|_| Malformed)?;
        let value = HeaderValue::from_bytes(field[colon + 1..].trim_ascii()).map_err(|_| Malformed)?;
        if may_trail(&name) {
            map.try_append(name, value).map_err(|_| Malformed)?;
        }
    }
    Ok(map)
}

fn may_trail(name: &HeaderName) -> bool {
    let name = name.as_str();
    !is_of_connection(name)
        && !matches!(name, "host" | "content-length" | "te" | "trailer" | "authorization" | "cookie" | "set-cookie")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str, fields: &[(&'static str, &'static str)]) -> request::Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn requests() {
        const URI: &str = "http://a.example/x?a=b";
        let text = |uri, fields, end| {
            let mut out = Vec::new();
            request_text(&parts(uri, fields), end, &mut out).ok().map(|_| String::from_utf8(out).unwrap())
        };
        let head = "GET /x?a=b HTTP/1.1\r\nhost: a.example\r\n";
        let taken: [(&str, &[_], bool, &str); 8] = [
            (URI, &[], true, ""),
            ("/x?a=b", &[("host", "a.example")], true, ""),
            (URI, &[("host", "A.example")], true, ""),
            (URI, &[], false, "transfer-encoding: chunked\r\n"),
            (URI, &[("content-length", "3")], false, "content-length: 3\r\n"),
            (URI, &[("content-length", "3"), ("trailer", "x")], false, "trailer: x\r\ntransfer-encoding: chunked\r\n"),
            (URI, &[("te", "trailers")], true, "te: trailers\r\nconnection: te\r\n"),
            (URI, &[("cookie", "a=b"), ("x", "y"), ("cookie", "c=d")], true, "x: y\r\ncookie: a=b; c=d\r\n"),
        ];
        for (uri, fields, end, expected) in taken {
            assert_eq!(text(uri, fields, end), Some(format!("{head}{expected}\r\n")), "{fields:?}");
        }
        let refused: [(&str, &[_], bool); 9] = [
            ("/", &[], true),
            (URI, &[("host", "b.example")], true),
            (URI, &[("host", "a.example"), ("host", "a.example")], true),
            (URI, &[("te", "gzip")], true),
            (URI, &[("connection", "close")], true),
            (URI, &[("transfer-encoding", "chunked")], false),
            (URI, &[("upgrade", "websocket")], true),
            (URI, &[("proxy-connection", "keep-alive")], true),
            (URI, &[("content-length", "3")], true),
        ];
        for (uri, fields, end) in refused {
            assert_eq!(text(uri, fields, end), None, "{fields:?}");
        }
    }

    #[test]
    fn trailer_sections() {
        let map = trailers(b"x-a: 1\r\nX-A:2\r\ncontent-length: 9\r\nhost: b\r\n\r\n").unwrap();
        let mut out = Vec::new();
        last_chunk(Some(&map), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "0\r\nx-a: 1\r\nx-a: 2\r\n\r\n");
        assert!(trailers(b"no colon\r\n\r\n").is_err());
    }
}
