//! The conformance suite's gRPC service, `GrpcEcho`, with its few messages encoded by hand.
//!
//! Messages and field numbers: kubernetes-sigs/gateway-api, `conformance/echo-basic/grpcecho.proto`.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Response, header,
    header::{HeaderName, HeaderValue},
    http::request::Parts,
};

use crate::http::{Answer, Connection, whole};

const SERVICE: &str = "/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/";
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Status codes of the gRPC specification.
const INTERNAL: u32 = 13;
const UNIMPLEMENTED: u32 = 12;

/// Whether a request says it is gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    content_type
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+") || rest.starts_with(b";"))
}

/// Answers one call.
pub(crate) fn respond(head: &Parts, body: &[u8], connection: &Connection) -> Response<Answer> {
    match head.uri.path().strip_prefix(SERVICE) {
        Some("Echo" | "EchoTwo") => {}
        Some(method @ "EchoThree") => return failure(UNIMPLEMENTED, &format!("method {method} not implemented")),
        _ => return failure(UNIMPLEMENTED, "unknown service or method"),
    }
    if let Err(problem) = check_request(body) {
        return failure(INTERNAL, problem);
    }
    let message = echo_response(head, connection);
    let Ok(length) = u32::try_from(message.len()) else {
        return failure(INTERNAL, "the answer is too large");
    };
    let mut framed = vec![0];
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let body = Full::new(Bytes::from(framed)).with_trailers(std::future::ready(Some(Ok::<_, Infallible>(trailers))));
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The call's one message: five bytes of frame, then an `EchoRequest`, which has no fields to read.
fn check_request(body: &[u8]) -> Result<(), &'static str> {
    match body {
        [0, a, b, c, d, message @ ..] if u32::from_be_bytes([*a, *b, *c, *d]) as usize == message.len() => Ok(()),
        [1, ..] => Err("the message is compressed and no encoding was agreed"),
        _ => Err("the body is not one whole message"),
    }
}

/// An answer without a message ("Trailers-Only").
fn failure(code: u32, message: &str) -> Response<Answer> {
    let mut response = Response::new(whole(Bytes::new()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(code));
    if let Ok(message) = HeaderValue::from_str(message) {
        headers.insert(GRPC_MESSAGE, message);
    }
    response
}

/// `EchoResponse { assertions = 1, request = 2 }`.
fn echo_response(head: &Parts, connection: &Connection) -> Vec<u8> {
    let authority = head.uri.authority().map_or("", |authority| authority.as_str());
    let mut assertions = Message::default();
    assertions.text(1, head.uri.path());
    if !authority.is_empty() {
        assertions.message(2, &header_entry(":authority", authority.as_bytes()));
    }
    for (name, value) in &head.headers {
        assertions.message(2, &header_entry(name.as_str(), value.as_bytes()));
    }
    assertions.text(3, authority);

    let context = &connection.shared.context;
    let mut encoded = Message::default();
    encoded.text(1, &context.namespace);
    encoded.text(2, &context.ingress);
    encoded.text(3, &context.service);
    encoded.text(4, &context.pod);
    assertions.message(4, &encoded);

    if let Some(tls) = &connection.tls {
        let mut encoded = Message::default();
        encoded.text(1, &tls.version);
        encoded.text(2, &tls.negotiated_protocol);
        encoded.text(3, &tls.server_name);
        encoded.text(4, &tls.cipher_suite);
        for certificate in &tls.peer_certificates {
            encoded.text(5, certificate);
        }
        assertions.message(5, &encoded);
    }
    let mut response = Message::default();
    response.message(1, &assertions);
    response.message(2, &Message::default());
    response.0
}

/// `Header { key = 1, value = 2 }`; a protobuf string is UTF-8, a header value need not be.
fn header_entry(name: &str, value: &[u8]) -> Message {
    let mut entry = Message::default();
    entry.text(1, name);
    entry.text(2, &String::from_utf8_lossy(value));
    entry
}

/// A protobuf message of length-delimited fields.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// A string field; proto3 leaves an empty one out.
    fn text(&mut self, field: u8, text: &str) {
        if !text.is_empty() {
            self.delimited(field, text.as_bytes());
        }
    }

    fn message(&mut self, field: u8, message: &Self) {
        self.delimited(field, &message.0);
    }

    /// `field` is below 16, so that its key is one byte.
    fn delimited(&mut self, field: u8, bytes: &[u8]) {
        const LENGTH_DELIMITED: u8 = 2;
        self.0.push(field << 3 | LENGTH_DELIMITED);
        let mut length = bytes.len();
        while length >= 0x80 {
            self.0.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
            length >>= 7;
        }
        self.0.push(u8::try_from(length).unwrap_or_default());
        self.0.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_encoded_as_protobuf() {
        let mut message = Message::default();
        message.text(1, "ab");
        message.text(2, "");
        message.message(15, &Message::default());
        message.text(3, &"x".repeat(300));
        assert_eq!(message.0[..8], [0x0a, 2, b'a', b'b', 0x7a, 0, 0x1a, 0xac]);
        assert_eq!((message.0[8], message.0.len()), (0x02, 9 + 300));
    }

    #[test]
    fn requests_are_one_message() {
        for (body, ok) in [
            (&[0, 0, 0, 0, 0][..], true),
            (&[0, 0, 0, 0, 1, 9], true),
            (&[0, 0, 0, 0, 2, 9], false),
            (&[], false),
            (&[1, 0, 0, 0, 0], false),
        ] {
            assert_eq!(check_request(body).is_ok(), ok, "{body:?}");
        }
    }

    #[test]
    fn content_types() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(is_grpc(&headers), expected, "{value}");
        }
    }
}
