//! HTTP/1.1, h2c and gRPC.

use std::net::Ipv4Addr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use strait_echo::Limits;
use tokio::net::TcpStream;

use crate::support::{TCP, curl, curl_json, exchange, with_server};

#[test]
fn http1_answers_with_what_arrived() {
    with_server(TCP, Limits::default(), async |port| {
        let url = format!("http://127.0.0.1:{port}/cart//items?id=7");
        let mut seen = curl_json(&[&url, "-X", "PATCH", "-A", "test", "-H", "x-request-ID: 1", "-d", "body"]).await;
        let source = seen.as_object_mut().unwrap().remove("sourceAddress").unwrap();
        assert!(source.as_str().unwrap().starts_with("127.0.0.1:"), "{source}");
        assert_eq!(
            seen,
            json!({
                "path": "/cart//items?id=7",
                "host": format!("127.0.0.1:{port}"),
                "method": "PATCH",
                "proto": "HTTP/1.1",
                "headers": {
                    "Accept": ["*/*"],
                    "Content-Length": ["4"],
                    "Content-Type": ["application/x-www-form-urlencoded"],
                    "User-Agent": ["test"],
                    "X-Request-Id": ["1"],
                },
                "httpPort": port.to_string(),
                "namespace": "shop",
                "ingress": "strait",
                "service": "web",
                "pod": "web-0",
                "destinationAddress": format!("127.0.0.1:{port}"),
            })
        );
    });
}

#[test]
fn paths_with_a_meaning() {
    with_server(TCP, Limits::default(), async |port| {
        let code = ["-o", "/dev/null", "-w", "%{http_code}"];
        for (path, expected) in [("/status/418", "418"), ("/status/x", "400"), ("/health", "200"), ("/", "200")] {
            let url = format!("http://[::1]:{port}{path}");
            assert_eq!(curl(&[&[url.as_str()], &code[..]].concat()).await, expected, "{path}");
        }
        let url = format!("http://[::1]:{port}/");
        let answer = curl(&["-i", &url, "-H", "X-Echo-Set-Header: X-Hue: blue, x-hue:green"]).await;
        assert!(answer.contains("X-Hue: blue,green\r\n"), "{answer}");
        assert!(answer.contains(&format!("\"destinationAddress\": \"[::1]:{port}\"")), "{answer}");
        let answer = curl(&["-w", "%{http_code}", &format!("{url}?delay=1w")]).await;
        assert!(answer.contains("found delay `1w`") && answer.ends_with("500"), "{answer}");
    });
}

#[test]
fn h2c_with_prior_knowledge() {
    with_server(TCP, Limits::default(), async |port| {
        let url = format!("http://127.0.0.1:{port}/x");
        let seen = curl_json(&["--http2-prior-knowledge", &url, "-H", "Cookie: a=1"]).await;
        assert_eq!((&seen["proto"], &seen["host"]), (&json!("HTTP/2.0"), &json!(format!("127.0.0.1:{port}"))));
        assert_eq!(seen["headers"]["Cookie"], json!(["a=1"]));
    });
}

#[test]
fn what_is_wrong_or_too_large_is_refused() {
    let limits = Limits { body_bytes: 1000, ..Limits::default() };
    with_server(TCP, limits, async |port| {
        let to = (Ipv4Addr::LOCALHOST, port);
        let huge = "a".repeat(70 << 10);
        for (request, status) in [
            ("GET / HTTP/9.9\r\n\r\n".to_owned(), "HTTP/1.1 400 "),
            ("GET / HTTP/1.1\r\nbad header\r\n\r\n".to_owned(), "HTTP/1.1 400 "),
            (format!("GET / HTTP/1.1\r\nHost: x\r\nX: {huge}\r\n\r\n"), "HTTP/1.1 431 "),
            (format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n{}", &huge[..2000]), "HTTP/1.1 413 "),
            ("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(), "HTTP/1.1 200 "),
        ] {
            let answer = exchange(to, request.as_bytes()).await;
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with(status), "{:.60} → {answer:.200}", request.escape_debug());
        }
    });
}

#[test]
fn grpc_echoes_its_assertions() {
    with_server(TCP, Limits::default(), async |port| {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::task::spawn_local(connection);
        for (method, message, status) in
            [("Echo", &[0; 5][..], "0"), ("EchoTwo", &[0; 5], "0"), ("EchoThree", &[0; 5], "12"), ("Echo", &[], "13")]
        {
            let path = format!("/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/{method}");
            let request = Request::post(format!("http://shop.example{path}"))
                .header("content-type", "application/grpc")
                .body(Full::new(Bytes::copy_from_slice(message)))
                .unwrap();
            let response = client.send_request(request).await.unwrap();
            assert_eq!(response.headers()["content-type"], "application/grpc");
            let early = response.headers().get("grpc-status").cloned();
            let body = response.into_body().collect().await.unwrap();
            let late = body.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
            assert_eq!(early.or(late).unwrap(), status, "{method} {message:?}");
            let body = body.to_bytes();
            if status == "0" {
                assert_eq!(body[0], 0);
                assert_eq!(u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize, body.len() - 5);
                for part in [path.as_str(), "shop.example", "web-0", "strait"] {
                    assert!(body.windows(part.len()).any(|window| window == part.as_bytes()), "{part} is missing");
                }
            }
        }
    });
}
