//! Configuration, certificates and the process itself are replaced while requests are served: none fails.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    backend::{self, service},
    bed::{Gate, PATIENCE},
    h2_server::{self, run},
};

/// How often the configuration is replaced; certificates are with every fiftieth, the process is after these.
const CHANGES: usize = 1000;
const RESTARTS: [usize; 2] = [350, 700];

const LISTENERS: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: strait
  listeners:
  - {name: http, port: 80, protocol: HTTP}
  - {name: https, port: 443, protocol: HTTPS, hostname: a.example, tls: {certificateRefs: [{name: cert}]}}
  - {name: tcp, port: 5432, protocol: TCP}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: tcp}
spec: {parentRefs: [{name: edge, sectionName: tcp}], rules: [{backendRefs: [{name: bytes, port: 8080}]}]}
---
";

/// Every version adds or takes away a listener, a route and a back end, and says which one it is.
fn version(number: usize) -> String {
    let mut text = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: route}}\nspec:\n  parentRefs: [{{name: edge, sectionName: http}}, {{name: edge, sectionName: https}}]\n  rules:\n  \
         - filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-version, value: \"{number}\"}}]}}}}]\n    backendRefs: [{{name: one, port: 8080, weight: {}}}, {{name: two, port: 8080}}]\n---\n",
        number % 7 + 1
    );
    if number % 2 == 1 {
        text += "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: other}\nspec: {gatewayClassName: strait, listeners: [{name: http, port: 8081, protocol: HTTP}]}\n---\n";
    }
    text
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut own = CertificateParams::new(Vec::new()).unwrap();
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(own, KeyPair::generate().unwrap()).unwrap())
    }

    fn secret(&self) -> String {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["a.example".into()]).unwrap().signed_by(&key, &self.0).unwrap();
        let indent = |pem: &str| pem.lines().fold(String::new(), |out, line| out + "\n    " + line);
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: cert}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |{}\n  tls.key: |{}\n",
            indent(&certificate.pem()),
            indent(&key.serialize_pem()),
        )
    }

    fn client(&self, alpn: &[u8]) -> tokio_rustls::TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        Arc::new(config).into()
    }
}

/// What the clients share.
struct Load {
    http: SocketAddr,
    https: SocketAddr,
    tcp: SocketAddr,
    authority: Authority,
    done: Cell<bool>,
    /// The newest version that an answer told.
    newest: Cell<usize>,
    certificates: RefCell<BTreeSet<Vec<u8>>>,
    /// By kind of client: how many requests were answered.
    answered: RefCell<std::collections::BTreeMap<&'static str, usize>>,
    failed: RefCell<Vec<String>>,
}

impl Load {
    fn answered(&self, who: &'static str) {
        *self.answered.borrow_mut().entry(who).or_default() += 1;
    }

    /// Goes on with one kind of client until the end; what goes wrong is kept.
    async fn go_on<E: std::fmt::Display>(&self, who: &'static str, mut once: impl AsyncFnMut(&Self) -> Result<(), E>) {
        let answers = || self.answered.borrow().get(who).copied();
        while !self.done.get() {
            let mut whole = pin!(once(self));
            let ended = loop {
                let before = answers();
                // A connection may last as long as there are answers on it.
                match timeout(PATIENCE, &mut whole).await {
                    Ok(ended) => break ended.map_err(|error| error.to_string()),
                    Err(_) if answers() == before => break Err("no answer".to_owned()),
                    Err(_) => {}
                }
            };
            if let Err(error) = ended {
                self.failed.borrow_mut().push(format!("{who}: {error}"));
            }
        }
    }

    /// Requests on one connection of HTTP/1 until the gate says that it ends.
    async fn http1(
        &self,
        who: &'static str,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        most: usize,
    ) -> Result<(), String> {
        for _ in 0..most {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await.map_err(|error| error.to_string())?;
            let (mut text, mut piece) = (Vec::new(), [0; 2048]);
            let close = loop {
                let whole = String::from_utf8_lossy(&text).into_owned();
                if let Some((head, body)) = whole.split_once("\r\n\r\n") {
                    let field = |name: &str| {
                        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
                        lines.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
                    };
                    let length: usize = field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
                    if body.len() >= length {
                        if !head.starts_with("HTTP/1.1 200") {
                            return Err(format!("{head:?}"));
                        }
                        let version = field("x-version").and_then(|version| version.parse().ok()).unwrap_or(0);
                        self.newest.set(self.newest.get().max(version));
                        break field("connection").as_deref() == Some("close");
                    }
                }
                match stream.read(&mut piece).await {
                    Ok(length) if length > 0 => text.extend_from_slice(&piece[..length]),
                    other => return Err(format!("{other:?} after {whole:?}")),
                }
            };
            self.answered(who);
            if close || self.done.get() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn plain(&self, who: &'static str, most: usize) -> Result<(), String> {
        let mut stream = TcpStream::connect(self.http).await.map_err(|error| error.to_string())?;
        self.http1(who, &mut stream, most).await
    }

    async fn secure(&self, alpn: &[u8]) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
        let stream = TcpStream::connect(self.https).await.map_err(|error| error.to_string())?;
        let _ = stream.set_nodelay(true);
        let name = ServerName::try_from("a.example").unwrap();
        let stream = self.authority.client(alpn).connect(name, stream).await.map_err(|error| error.to_string())?;
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        self.certificates.borrow_mut().insert(shown);
        Ok(stream)
    }

    async fn tls(&self) -> Result<(), String> {
        let mut stream = self.secure(b"http/1.1").await?;
        self.http1("TLS", &mut stream, 20).await
    }

    /// Requests on one connection of HTTP/2 until it goes away. One that provably was not processed is none that failed.
    async fn http2(
        &self,
        who: &'static str,
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
        most: usize,
    ) -> Result<(), String> {
        let (send, connection) = h2::client::handshake(stream).await.map_err(|error| error.to_string())?;
        let connection = tokio::task::spawn_local(connection);
        for _ in 0..most {
            let request = http::Request::get("http://a.example/").body(()).unwrap();
            match h2_server::ask(&send, request, Bytes::new(), HeaderMap::new()).await {
                Ok(answer) if answer.status == 200 => self.answered(who),
                Ok(answer) => return Err(format!("{answer:?}")),
                Err(error) if error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR) => break,
                Err(error) => return Err(error.to_string()),
            }
            if self.done.get() {
                break;
            }
        }
        drop(send);
        connection.abort();
        Ok(())
    }

    async fn tcp(&self) -> Result<(), String> {
        let mut stream = TcpStream::connect(self.tcp).await.map_err(|error| error.to_string())?;
        echo(&mut stream, 5).await?;
        self.answered("TCP");
        Ok(())
    }
}

/// A client of each kind, and two of the plain one.
fn clients(load: &Rc<Load>) -> [tokio::task::JoinHandle<()>; 7] {
    let client = |who: &'static str, kind: usize| {
        let load = Rc::clone(load);
        tokio::task::spawn_local(async move {
            load.go_on(who, async |load| match kind {
                0 => load.plain(who, usize::MAX).await,
                1 => load.plain(who, 1).await,
                2 => load.tls().await,
                3 => {
                    let stream = TcpStream::connect(load.http).await.map_err(|error| error.to_string())?;
                    let _ = stream.set_nodelay(true);
                    load.http2(who, stream, usize::MAX).await
                }
                4 => load.http2(who, load.secure(b"h2").await?, 50).await,
                _ => load.tcp().await,
            })
            .await;
        })
    };
    [
        client("HTTP/1", 0),
        client("HTTP/1", 0),
        client("HTTP/1, a connection each", 1),
        client("TLS", 2),
        client("HTTP/2", 3),
        client("HTTP/2 over TLS", 4),
        client("TCP", 5),
    ]
}

async fn echo(stream: &mut TcpStream, most: usize) -> Result<(), String> {
    for _ in 0..most {
        stream.write_all(b"hello").await.map_err(|error| error.to_string())?;
        let mut back = [0; 5];
        stream.read_exact(&mut back).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[test]
fn nothing_fails() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("restart");
    let hot = |workers| {
        ["--hot-restart-path", path.to_str().unwrap(), "--workers", workers, "--drain-time", "60"].map(str::to_owned)
    };
    let authority = Authority::new();
    let services =
        service("one", backend::http().0) + &service("two", backend::http().0) + &service("bytes", backend::bytes());
    let text = |number| format!("{services}{LISTENERS}{}", version(number));
    let start = hot("2");
    let start: Vec<&str> = start.iter().map(String::as_str).collect();
    let mut gates = vec![Gate::alone(&[("all.yaml", &text(1)), ("cert.yaml", &authority.secret())], &start)];
    let load = Rc::new(Load {
        http: gates[0].at("edge", 80),
        https: gates[0].at("edge", 443),
        tcp: gates[0].at("edge", 5432),
        authority,
        done: Cell::new(false),
        newest: Cell::new(0),
        certificates: RefCell::default(),
        answered: RefCell::default(),
        failed: RefCell::default(),
    });
    let folder = Arc::clone(&gates[0].folder);
    let save = |name: &str, text: &str| {
        std::fs::write(folder.path().join("new"), text).unwrap();
        std::fs::rename(folder.path().join("new"), folder.path().join(name)).unwrap();
    };
    // Another process is started beside the clients: they must not wait for it.
    let started = Arc::new(Mutex::new(Vec::new()));
    run(async {
        let clients = clients(&load);
        // What a change does not concern goes on: from the first one to the first restart, and beyond.
        let mut kept = TcpStream::connect(load.tcp).await.unwrap();
        for number in 2..=CHANGES + 1 {
            if number % 50 == 0 {
                save("cert.yaml", &load.authority.secret());
            }
            save("all.yaml", &text(number));
            let seen = timeout(PATIENCE, async {
                while load.newest.get() < number {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
            assert!(seen.await.is_ok(), "version {number} is not served; {:?}", load.failed.borrow());
            echo(&mut kept, 1).await.unwrap();
            if RESTARTS.contains(&number) {
                let (before, started) = (gates.last().unwrap().folder.clone(), Arc::clone(&started));
                let arguments = hot(if number == RESTARTS[0] { "3" } else { "1" });
                let starting = std::thread::spawn(move || {
                    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                    started.lock().unwrap().push(Gate::beside(before, &arguments));
                });
                while !starting.is_finished() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                starting.join().unwrap();
                // The connection that is passed on is the first process', which waits for it; a new one is the second's.
                echo(&mut kept, 1).await.unwrap();
                kept = TcpStream::connect(load.tcp).await.unwrap();
            }
        }
        load.done.set(true);
        for client in clients {
            timeout(PATIENCE, client).await.unwrap().unwrap();
        }
    });
    gates.append(&mut started.lock().unwrap());
    let failed = load.failed.borrow();
    println!("answered: {:?}, certificates: {}", load.answered.borrow(), load.certificates.borrow().len());
    assert!(
        failed.is_empty(),
        "{} failed, of {:?}: {:#?}",
        failed.len(),
        load.answered.borrow(),
        &failed[..failed.len().min(10)]
    );
    assert!(load.answered.borrow().len() == 6 && load.answered.borrow().values().all(|count| *count > 50));
    // Each that was rotated in was shown, unless no handshake fell between two.
    assert!(load.certificates.borrow().len() > CHANGES / 50 / 2);
    // The first ones have ended, for they have nothing left to do.
    let last = gates.len() - 1;
    for gate in &mut gates[..last] {
        assert_eq!(gate.exit_code(), Some(0));
    }
}
