//! Back ends that send back what they get, trailers included, and a client of HTTP/2.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, SendStream, client::SendRequest};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

/// Runs on a thread of its own runtime.
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

/// Sends all of a body, then trailers.
async fn send_body(stream: &mut SendStream<Bytes>, mut body: Bytes, trailers: HeaderMap) -> Result<(), h2::Error> {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap()?;
        stream.send_data(body.split_to(room.min(body.len())), false)?;
    }
    stream.send_trailers(trailers)
}

async fn read_body(stream: &mut RecvStream) -> Result<(Bytes, HeaderMap), h2::Error> {
    let mut all = BytesMut::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        all.extend_from_slice(&data);
        stream.flow_control().release_capacity(data.len())?;
    }
    Ok((all.freeze(), stream.trailers().await?.unwrap_or_default()))
}

/// A server of HTTP/2 with prior knowledge, which answers when all of a body is there.
pub(crate) fn patient() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        run(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        tokio::task::spawn_local(async move {
                            read_body(&mut request.into_body()).await?;
                            respond.send_response(Response::new(()), true)
                        });
                    }
                });
            }
        });
    });
    at
}

/// A server of HTTP/2 with prior knowledge, or over TLS. It sends data back as it comes, and its trailers at last.
pub(crate) fn http2(tls: Option<Arc<rustls::ServerConfig>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        run(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let Some(config) = tls.clone() else {
                    tokio::task::spawn_local(send_back(stream));
                    continue;
                };
                tokio::task::spawn_local(async move {
                    send_back(tokio_rustls::TlsAcceptor::from(config).accept(stream).await.unwrap()).await;
                });
            }
        });
    });
    at
}

async fn send_back(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::task::spawn_local(async move {
            let mut body = request.into_body();
            let response = Response::builder().header("x-spoken", "HTTP/2").body(()).unwrap();
            let mut out = respond.send_response(response, false)?;
            while let Some(data) = body.data().await {
                let mut data = data?;
                body.flow_control().release_capacity(data.len())?;
                while !data.is_empty() {
                    out.reserve_capacity(data.len());
                    let room = std::future::poll_fn(|cx| out.poll_capacity(cx)).await.unwrap()?;
                    out.send_data(data.split_to(room.min(data.len())), false)?;
                }
            }
            let trailers = body.trailers().await?.unwrap_or_default();
            out.send_trailers(trailers)
        });
    }
}

/// A server of HTTP/1 that sends a chunked body back as it came, when all of it is there.
pub(crate) fn http1() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let (mut read, mut piece) = (Vec::new(), vec![0; 64 << 10]);
                let head = loop {
                    let length = stream.read(&mut piece).unwrap_or(0);
                    if length == 0 {
                        return;
                    }
                    read.extend_from_slice(&piece[..length]);
                    let last = &read[read.len().saturating_sub(200)..];
                    if last.ends_with(b"\r\n\r\n") && last.windows(5).any(|part| part == b"\r\n0\r\n") {
                        break read.windows(4).position(|part| part == b"\r\n\r\n").unwrap_or(0) + 4;
                    }
                };
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\nx-spoken: HTTP/1.1\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n",
                );
                let _ = stream.write_all(&read[head..]);
            });
        }
    });
    at
}

/// An answer over HTTP/2.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

/// A connection with prior knowledge; the task gives how it ended.
pub(crate) async fn connect(at: SocketAddr) -> (SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let stream = tokio::net::TcpStream::connect(at).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    (send, tokio::task::spawn_local(connection))
}

/// Asks, and reads the answer while the body is still being sent.
pub(crate) async fn ask(
    send: &SendRequest<Bytes>,
    request: Request<()>,
    body: Bytes,
    trailers: HeaderMap,
) -> Result<Answer, h2::Error> {
    let (response, mut stream) = send.clone().ready().await?.send_request(request, false)?;
    let sending = tokio::task::spawn_local(async move { send_body(&mut stream, body, trailers).await });
    let (head, mut incoming) = response.await?.into_parts();
    let (body, trailers) = read_body(&mut incoming).await?;
    // A server may answer without reading: what became of the body is in the answer.
    let _ = sending.await;
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body, trailers })
}
