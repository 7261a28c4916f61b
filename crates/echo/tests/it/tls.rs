//! The same port over TLS.

use serde_json::json;
use strait_echo::Limits;

use crate::support::{TCP, curl_json, with_server};

#[test]
fn https_says_what_the_handshake_settled() {
    with_server(TCP, Limits::default(), async |port| {
        let url = format!("https://web.shop.svc:{port}/");
        let resolve = format!("web.shop.svc:{port}:127.0.0.1");
        for (flags, proto, alpn, version) in [
            (&["--http1.1"][..], "HTTP/1.1", json!("http/1.1"), "TLSv1.3"),
            (&["--http2"], "HTTP/2.0", json!("h2"), "TLSv1.3"),
            (&["--no-alpn", "--tls-max", "1.2"], "HTTP/1.1", json!(null), "TLSv1.2"),
        ] {
            let seen = curl_json(&[&[url.as_str(), "--resolve", &resolve], flags].concat()).await;
            assert_eq!(seen["proto"], proto);
            let tls = &seen["tls"];
            assert_eq!((&tls["version"], &tls["serverName"]), (&json!(version), &json!("web.shop.svc")));
            assert_eq!(tls["negotiatedProtocol"], alpn);
            let suite = tls["cipherSuite"].as_str().unwrap();
            assert!(suite.starts_with("TLS_") && suite.contains("SHA"), "{suite}");
            assert_eq!(tls.get("peerCertificates"), None);
        }
    });
}

#[test]
fn a_client_certificate_is_shown() {
    with_server(TCP, Limits::default(), async |port| {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["client".to_owned()]).unwrap().self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(path("certificate.pem"), certificate.pem()).unwrap();
        let url = format!("https://127.0.0.1:{port}/");
        let seen = curl_json(&[&url, "--key", &path("key.pem"), "--cert", &path("certificate.pem")]).await;
        let shown = seen["tls"]["peerCertificates"][0].as_str().unwrap();
        assert_eq!(shown, certificate.pem().replace("\r\n", "\n"));
    });
}
