//! HTTP: answers with what arrived.

mod answer;
mod delay;
mod flaky;

use std::{convert::Infallible, io, net::SocketAddr, rc::Rc};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Version,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
    rt::Executor,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{sleep, timeout},
};

pub(crate) use flaky::Failures;

use crate::{grpc, listen::Shared, tls::Assertions};

/// A body of ours: bytes, and for gRPC trailers.
pub(crate) type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// Bytes of headers a request may have; Go's default for a server is 1 MiB, ours are many on one host.
const HEADER_BYTES: u32 = 64 << 10;

/// Streams one HTTP/2 connection may have open.
const STREAMS: u32 = 100;

/// What a request handler knows of its connection.
pub(crate) struct Connection {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) shared: Rc<Shared>,
    pub(crate) tls: Option<Assertions>,
}

/// Spawns onto the thread it is called on.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// Serves HTTP/1 or HTTP/2 until either side ends the connection.
pub(crate) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    connection: Connection,
) -> io::Result<()> {
    let limits = connection.shared.limits;
    let connection = Rc::new(connection);
    let mut builder = auto::Builder::new(Local);
    builder
        .http1()
        .timer(TokioTimer::new())
        // Also how long a kept-alive connection waits for its next request.
        .header_read_timeout(limits.request)
        .max_buf_size(HEADER_BYTES as usize)
        .title_case_headers(true)
        .half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_BYTES)
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(limits.idle)
        .keep_alive_timeout(limits.request);
    let service = service_fn(move |request| {
        let connection = Rc::clone(&connection);
        async move { Ok::<_, Infallible>(respond(request, &connection).await) }
    });
    builder.serve_connection(TokioIo::new(stream), service).await.map_err(io::Error::other)
}

async fn respond(request: Request<Incoming>, connection: &Connection) -> Response<Answer> {
    let limits = connection.shared.limits;
    let (head, body) = request.into_parts();
    let body = match timeout(limits.request, read(body, limits.body_bytes)).await {
        Ok(Ok(body)) => body,
        Ok(Err(TooLarge)) => return failure(StatusCode::PAYLOAD_TOO_LARGE, "the request's body is too large"),
        Err(_) => return failure(StatusCode::REQUEST_TIMEOUT, "the request's body did not end in time"),
    };
    if head.version == Version::HTTP_2 && grpc::is_grpc(&head.headers) {
        return grpc::respond(&head, &body, connection);
    }
    let path = head.uri.path();
    if path == "/health" {
        return plain(StatusCode::OK, "OK");
    }
    if let Some(code) = path.strip_prefix("/status/") {
        return plain(status(code), "");
    }
    if let Some(failure) = connection.shared.failures.next(path, head.uri.query().unwrap_or_default(), limits.request) {
        sleep(failure.after).await;
        return self::failure(failure.status, "as it was asked");
    }
    match delay::asked(head.uri.query().unwrap_or_default(), limits.request) {
        Ok(pause) => sleep(pause).await,
        Err(error) => return failure(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
    let Ok(mut json) = serde_json::to_vec_pretty(&answer::of(&head, connection)) else {
        return failure(StatusCode::INTERNAL_SERVER_ERROR, "the answer has no JSON form");
    };
    json.push(b'\n');
    let mut response = Response::new(whole(if head.method == Method::HEAD { Bytes::new() } else { json.into() }));
    set_asked_headers(response.headers_mut(), &head.headers);
    as_json(response.headers_mut());
    response
}

/// The body is larger than allowed.
struct TooLarge;

/// What gRPC needs of a body; anything further is counted and thrown away.
const KEPT_BYTES: usize = 16 << 10;

/// Reads the whole body, keeping its first [`KEPT_BYTES`].
async fn read(mut body: Incoming, allowed: usize) -> Result<Vec<u8>, TooLarge> {
    let (mut kept, mut total) = (Vec::new(), 0_usize);
    // A body that breaks off is answered like one that ended: the client is gone or will not mind.
    while let Some(Ok(frame)) = body.frame().await {
        let Some(data) = frame.data_ref() else { continue };
        total = total.saturating_add(data.len());
        if total > allowed {
            return Err(TooLarge);
        }
        kept.extend_from_slice(&data[..data.len().min(KEPT_BYTES - kept.len())]);
    }
    Ok(kept)
}

/// `/status/NNN`: three digits that make a final status; upstream answers 400 to anything else.
fn status(code: &str) -> StatusCode {
    let asked = (code.len() == 3).then(|| StatusCode::from_bytes(code.as_bytes()).ok()).flatten();
    asked.filter(|status| !status.is_informational()).unwrap_or(StatusCode::BAD_REQUEST)
}

/// Each `X-Echo-Set-Header: name:value, name:value` asks for headers in the answer; values of one name are joined.
fn set_asked_headers(answer: &mut HeaderMap, asked: &HeaderMap) {
    let lists = asked.get_all("x-echo-set-header").into_iter().filter_map(|list| list.to_str().ok());
    for pair in lists.flat_map(|list| list.split(',')) {
        let (name, value) = pair.trim().split_once(':').unwrap_or((pair.trim(), ""));
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
        // These frame the answer; the server alone sets them.
        if [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION].contains(&name) {
            continue;
        }
        let value = value.trim();
        let value = match answer.get(&name).and_then(|before| before.to_str().ok()) {
            Some(before) => format!("{before},{value}"),
            None => value.to_owned(),
        };
        if let Ok(value) = HeaderValue::from_str(&value) {
            answer.insert(name, value);
        }
    }
}

fn as_json(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

pub(crate) fn whole(bytes: Bytes) -> Answer {
    Full::new(bytes).boxed_unsync()
}

fn plain(status: StatusCode, text: &'static str) -> Response<Answer> {
    let mut response = Response::new(whole(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}

fn failure(status: StatusCode, message: &str) -> Response<Answer> {
    let mut response = Response::new(whole(serde_json::json!({ "message": message }).to_string().into()));
    *response.status_mut() = status;
    as_json(response.headers_mut());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_paths() {
        for (code, expected) in
            [("200", 200), ("404", 404), ("599", 599), ("999", 999), ("100", 400), ("99", 400), ("20x", 400), ("", 400)]
        {
            assert_eq!(status(code).as_u16(), expected, "{code}");
        }
    }

    #[test]
    fn asked_headers_are_set_and_joined() {
        let mut asked = HeaderMap::new();
        asked.append("x-echo-set-header", HeaderValue::from_static("X-A: 1, x-a:2,X-B:x,bad name:3,Content-Length:9"));
        asked.append("x-echo-set-header", HeaderValue::from_static("X-C"));
        let mut answer = HeaderMap::new();
        set_asked_headers(&mut answer, &asked);
        let shown: Vec<_> = answer.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
        assert_eq!(shown, ["x-a=1,2", "x-b=x", "x-c="]);
    }
}
