//! How connections end, and what they outlive: drains, age, other addresses, another process.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::json;

use super::{
    client::{Client, get},
    gate,
};
use crate::{
    backend::{self, service},
    bed::{Gate, app},
    h2::{self, route, to},
};

const NO_ERROR: u64 = 0x100;

pub(super) fn one() -> String {
    app("one") + &route("HTTPRoute", "route", &to("/", "one", 8080))
}

/// What is under way when the gate ends is served, and the client hears that it is the last.
#[test]
fn drain() {
    let (slow, _) = backend::http();
    let text = service("one", slow) + &route("HTTPRoute", "route", &to("/", "one", 8080));
    let Some((mut gate, mut client)) = gate(&text, &[]) else { return };
    let at = gate.at("edge", 443);
    client.connect("busy", at, "a.example");
    client.connect("idle", at, "a.example");
    assert_eq!(client.ask("idle", get("/"))["status"], 200);
    client.begin("busy", &get("/slow"));
    gate.terminate();
    assert_eq!(client.finish("busy")["status"], 200);
    assert_eq!((client.closed("busy"), client.closed("idle")), (NO_ERROR, NO_ERROR));
    // Once before it refuses any, and once with the last that it takes.
    assert_eq!(client.goaways("idle"), 2);
    assert_eq!(gate.exit_code(), Some(0));
}

/// Old connections are left one after the other.
#[test]
fn age() {
    let Some((gate, mut client)) = gate(&one(), &["--limit", "connection-age=300ms"]) else { return };
    client.connect("a", gate.at("edge", 443), "a.example");
    assert_eq!(client.ask("a", get("/"))["status"], 200);
    assert_eq!(client.closed("a"), NO_ERROR);
    assert_eq!(client.goaways("a"), 2);
}

/// A router between client and gate, of which the gate sees another port after a while.
struct Router {
    at: SocketAddr,
    port: Arc<AtomicUsize>,
}

impl Router {
    fn new(gate: SocketAddr) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").unwrap();
        let ports: Vec<UdpSocket> = (0..8).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let (at, port) = (front.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let client = Arc::new(std::sync::Mutex::new(None));
        for back in &ports {
            let (back, front, client) = (back.try_clone().unwrap(), front.try_clone().unwrap(), Arc::clone(&client));
            thread::spawn(move || {
                let mut datagram = vec![0; 65_536];
                while let Ok(length) = back.recv(&mut datagram) {
                    let to: Option<SocketAddr> = *client.lock().unwrap();
                    let _ = to.map(|to| front.send_to(&datagram[..length], to));
                }
            });
        }
        let now = Arc::clone(&port);
        thread::spawn(move || {
            let mut datagram = vec![0; 65_536];
            while let Ok((length, from)) = front.recv_from(&mut datagram) {
                *client.lock().unwrap() = Some(from);
                let _ = ports[now.load(Ordering::Relaxed)].send_to(&datagram[..length], gate);
            }
        });
        Self { at, port }
    }
}

/// A connection is known whatever address its client comes from, however many workers there are.
#[test]
fn another_address() {
    let Some((gate, mut client)) = gate(&one(), &["--workers", "4"]) else { return };
    let router = Router::new(gate.at("edge", 443));
    client.connect("a", router.at, "a.example");
    for port in 0..8 {
        router.port.store(port, Ordering::Relaxed);
        assert_eq!(client.ask("a", get("/"))["status"], 200, "{port}");
    }
}

/// Another process takes over: connections end with what they had begun, new ones are the new one's.
#[test]
fn taken_over() {
    let Some(mut client) = Client::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("restart");
    let (back_end, _) = backend::http();
    let text = h2::gateway() + &service("one", back_end) + &route("HTTPRoute", "route", &to("/", "one", 8080));
    let hot = ["--http3", "--hot-restart-path", path.to_str().unwrap(), "--drain-time", "60", "--workers", "3"];
    let mut running = Gate::alone(&[("all.yaml", &text)], &hot);
    let at = running.at("edge", 443);
    // Each has what the one before had, and goes to the other half of the sockets.
    for turn in 0..4 {
        let names: Vec<String> = (0..4).map(|index| format!("{turn}-{index}")).collect();
        for name in &names {
            client.connect(name, at, "a.example");
            assert_eq!(client.ask(name, get("/"))["status"], 200, "{name}");
        }
        let mut next = running.again(&hot);
        // Whoever comes from now on is the new one's, although the old one may still be there.
        for index in 0..4 {
            let name = format!("{turn}-new-{index}");
            client.connect(&name, at, "a.example");
            assert_eq!(client.ask(&name, get("/slow"))["status"], 200, "{name}");
        }
        for name in &names {
            assert_eq!(client.closed(name), NO_ERROR, "{name}");
        }
        assert_eq!(running.exit_code(), Some(0));
        assert_eq!(client.ask(&format!("{turn}-new-0"), get("/"))["status"], 200);
        std::mem::swap(&mut running, &mut next);
    }
    // One that fails before it serves leaves everything as it was.
    let mut failing =
        crate::bed::command("gateway", running.folder.path(), &[&hot[..], &["--status", "/proc/none/status"]].concat());
    assert!(!failing.stderr(std::process::Stdio::null()).status().unwrap().success());
    for index in 0..4 {
        let name = format!("still-{index}");
        client.connect(&name, at, "a.example");
        assert_eq!(client.ask(&name, get("/"))["status"], 200);
    }
}

/// Clients are asked for certificates where a port asks for them.
#[test]
fn client_certificates() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    let Some(mut client) = Client::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::new(Vec::new()).unwrap());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap().pem();
    let (own, issuer) = (KeyPair::generate().unwrap(), Issuer::new(params, key));
    let certificate = CertificateParams::new(vec!["client.example".into()]).unwrap().signed_by(&own, &issuer).unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let shown = json!({ "certificate": file("pem", certificate.pem()), "key": file("key", own.serialize_pem()) });
    let pem = authority.lines().fold(String::new(), |out, line| out + "\n    " + line);
    let validation = "  gatewayClassName: strait\n  tls: {frontend: {default: {validation: {caCertificateRefs: [{group: \"\", kind: ConfigMap, name: ca}]}}}}\n";
    let text = h2::gateway().replace("  gatewayClassName: strait\n", validation)
        + &one()
        + &format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ca}}\ndata:\n  ca.crt: |{pem}\n---\n");
    let gate = Gate::with(&[("all.yaml", &text)], &["--http3"]);
    let at = gate.at("edge", 443);
    assert_eq!(client.try_connect("with", at, "a.example", &shown)["ok"], true);
    assert_eq!(client.ask("with", get("/"))["status"], 200);
    assert!(!client.refused("without", at, "a.example").is_empty());
}
