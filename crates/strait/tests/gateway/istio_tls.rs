//! TLS as Istio's objects ask for it, seen by clients and back ends.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedKey, IsCa, Issuer, KeyPair, SanType, generate_simple_self_signed,
};

use crate::bed::{Gate, PATIENCE, app, curl};

/// An authority, and certificates that clients show, as files for curl.
struct Clients {
    folder: tempfile::TempDir,
    authority: String,
}

impl Clients {
    /// One of the authority for each name, and `stranger`, who signed itself.
    fn new(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        for name in names {
            let own = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.subject_alt_names = vec![SanType::DnsName((*name).try_into().unwrap())];
            let certificate = params.signed_by(&own, &issuer).unwrap();
            save(folder.path(), name, &certificate.pem(), &own.serialize_pem());
        }
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["stranger".to_owned()]).unwrap();
        save(folder.path(), "stranger", &cert.pem(), &signing_key.serialize_pem());
        Self { folder, authority }
    }

    fn files(&self, name: &str) -> [PathBuf; 2] {
        ["crt", "key"].map(|kind| self.folder.path().join(name).with_extension(kind))
    }
}

fn save(folder: &Path, name: &str, chain: &str, key: &str) {
    std::fs::write(folder.join(name).with_extension("crt"), chain).unwrap();
    std::fs::write(folder.join(name).with_extension("key"), key).unwrap();
}

fn block(pem: &str) -> String {
    pem.lines().fold("|".to_owned(), |out, line| out + "\n    " + line)
}

/// The gate's own certificate for any name, with `authority` for those of clients.
fn secret(authority: &str) -> String {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["*.example".to_owned()]).unwrap();
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: own, namespace: istio-system}}\nstringData:\n  tls.crt: {}\n  tls.key: {}\n  ca.crt: {}\n---\n",
        block(&cert.pem()),
        block(&signing_key.serialize_pem()),
        block(authority)
    )
}

fn gateway(servers: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec:\n  selector: {{istio: ingressgateway}}\n  servers:\n{servers}---\n"
    )
}

fn service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec: {{gateways: [edge], {spec}}}\n---\n"
    )
}

/// curl's answer from a name at an address; status 0 where no handshake came about.
fn ask(at: SocketAddr, name: &str, arguments: &[&str]) -> crate::bed::Answer {
    let to = format!("::{at}");
    curl(&[&["-k", "--connect-to", &to], arguments].concat(), &format!("https://{name}/"))
}

#[test]
fn clients_and_versions() {
    let clients = Clients::new(&["friend.example", "other.example"]);
    let server = |name: &str, tls: &str| {
        format!(
            "  - {{port: {{number: 443, name: {name}, protocol: HTTPS}}, hosts: [{name}.example], tls: {{credentialName: own, {tls}}}}}\n"
        )
    };
    let servers = [
        server("simple", "mode: SIMPLE"),
        server("mutual", "mode: MUTUAL"),
        server("named", "mode: MUTUAL, subjectAltNames: [friend.example]"),
        server("optional", "mode: OPTIONAL_MUTUAL"),
        server("newest", "mode: SIMPLE, minProtocolVersion: TLSV1_3"),
        server("older", "mode: SIMPLE, maxProtocolVersion: TLSV1_2"),
    ];
    let text = [
        app("one"),
        secret(&clients.authority),
        gateway(&servers.concat()),
        service("vs", "hosts: ['*'], http: [{route: [{destination: {host: one}}]}]"),
    ];
    let gate = Gate::of(&[("all.yaml", &text.concat())]);
    let at = gate.at("edge", 443);
    // Server, whose certificate, the newest version that is offered, and whether there is an answer.
    for (name, who, version, is_served) in [
        ("simple", "", "1.3", true),
        ("simple", "", "1.2", true),
        ("mutual", "", "1.3", false),
        ("mutual", "friend.example", "1.3", true),
        ("mutual", "other.example", "1.2", true),
        ("mutual", "stranger", "1.3", false),
        ("named", "friend.example", "1.3", true),
        ("named", "other.example", "1.3", false),
        ("optional", "", "1.3", true),
        ("optional", "", "1.2", true),
        ("optional", "friend.example", "1.3", true),
        ("optional", "stranger", "1.3", false),
        ("optional", "stranger", "1.2", false),
        ("newest", "", "1.3", true),
        ("newest", "", "1.2", false),
        ("older", "", "1.2", true),
        ("older", "", "1.3", true),
    ] {
        let [certificate, key] = clients.files(who);
        let mut arguments = vec!["--tls-max", version];
        if !who.is_empty() {
            arguments.extend(["--cert", certificate.to_str().unwrap(), "--key", key.to_str().unwrap()]);
        }
        let answer = ask(at, &format!("{name}.example"), &arguments);
        assert_eq!(answer.status, if is_served { 200 } else { 0 }, "{name} {who} {version}: {answer:?}");
    }
    // What is no older is not spoken, and the other way round.
    assert_eq!(ask(at, "older.example", &["--tlsv1.3"]).status, 0);
}

#[test]
fn connections_by_name() {
    let servers = "  - {port: {number: 443, name: pass, protocol: TLS}, hosts: ['*.example'], tls: {mode: PASSTHROUGH}}\n  \
                   - {port: {number: 444, name: term, protocol: TLS}, hosts: ['*.example'], tls: {mode: SIMPLE, credentialName: own}}\n";
    let tls = "hosts: ['*.example'], tls: [{match: [{sniHosts: [a.example]}], route: [{destination: {host: one}}]}, \
               {match: [{sniHosts: ['*.b.example']}], route: [{destination: {host: two}}]}], tcp: [{match: [{port: 444}], route: [{destination: {host: two}}]}]";
    let text = [app("one"), app("two"), secret(""), gateway(servers), service("vs", tls)];
    let gate = Gate::of(&[("all.yaml", &text.concat())]);
    for (name, pod) in [("a.example", "one-0"), ("x.b.example", "two-0")] {
        let answer = ask(gate.at("edge", 443), name, &[]);
        assert_eq!((answer.pod().as_str(), &answer.echo()["tls"]["serverName"]), (pod, &name.into()), "{name}");
    }
    assert_eq!(ask(gate.at("edge", 443), "c.example", &[]).status, 0);
    // What is inside a connection whose handshake is done here goes on in the clear.
    let inside = ask(gate.at("edge", 444), "any.example", &["--http1.1"]);
    assert_eq!((inside.pod().as_str(), &inside.echo()["tls"]), ("two-0", &serde_json::Value::Null), "{inside:?}");
}

/// A service with a pod of this account, and a rule to reach it within the mesh.
fn mesh(name: &str, account: &str, policy: &str) -> String {
    app(name).replace("spec: {containers", &format!("spec: {{serviceAccountName: {account}, containers"))
        + &format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}}}\nspec: {{host: {name}, trafficPolicy: {{tls: {policy}}}}}\n---\n"
        )
}

#[test]
fn within_a_mesh() {
    let routes = ["one", "named", "misnamed", "plain"]
        .map(|name| format!("{{match: [{{uri: {{prefix: /{name}}}}}], route: [{{destination: {{host: {name}}}}}]}}"));
    let text = [
        mesh("one", "first", "{mode: ISTIO_MUTUAL}"),
        mesh(
            "named",
            "second",
            "{mode: ISTIO_MUTUAL, sni: inner.example, subjectAltNames: ['spiffe://cluster.local/ns/default/sa/second']}",
        ),
        mesh(
            "misnamed",
            "third",
            "{mode: ISTIO_MUTUAL, subjectAltNames: ['spiffe://cluster.local/ns/default/sa/first']}",
        ),
        mesh("plain", "fourth", "{mode: DISABLE}"),
        gateway("  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}\n"),
        service("vs", &format!("hosts: ['*'], http: [{}]", routes.join(", "))),
    ];
    let gate = Gate::of(&[("all.yaml", &text.concat())]);
    let ask = |name: &str| curl(&[], &format!("http://{}/{name}", gate.at("edge", 80)));
    for (name, server_name) in [("one", "outbound_.8080_._.one.default.svc.cluster.local"), ("named", "inner.example")]
    {
        let answer = ask(name);
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
        let tls = &answer.echo()["tls"];
        assert_eq!(tls["serverName"], server_name, "{name}");
        let shown = tls["peerCertificates"][0].as_str().unwrap().to_owned();
        let names = openssl(&["x509", "-noout", "-ext", "subjectAltName"], &shown);
        assert!(
            names.contains("URI:spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account"),
            "{name}: {names}"
        );
    }
    assert_eq!(ask("misnamed").status, 503, "a workload has its own identity alone");
    assert_eq!(ask("plain").echo()["tls"], serde_json::Value::Null);
}

fn openssl(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).into_owned()
}

/// Without an authority of the mesh nothing is sent, and it is said where that is asked for.
#[test]
fn without_a_mesh() {
    let text = [
        mesh("one", "first", "{mode: ISTIO_MUTUAL}"),
        gateway("  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}\n"),
        service("vs", "hosts: ['*'], http: [{route: [{destination: {host: one}}]}]"),
    ];
    let gate = Gate::alone(&[("all.yaml", &text.concat())], &[]);
    assert_eq!(curl(&[], &format!("http://{}/", gate.at("edge", 80))).status, 503);
}

/// What a client of a mesh gets that asks a gateway between networks for a server name.
fn passed(at: SocketAddr, name: &str, protocols: &str) -> String {
    let at = at.to_string();
    let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    openssl(&["s_client", "-quiet", "-connect", &at, "-servername", name, "-alpn", protocols], request)
}

#[test]
fn between_networks() {
    let in_mesh = |name: &str| {
        app(name).replace("labels: {app: ", "labels: {security.istio.io/tlsMode: istio, version: v1, app: ")
    };
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: one}\nspec: {host: one, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}\n---\n";
    let hidden = in_mesh("hidden").replacen(
        "metadata: {name: hidden}",
        "metadata: {name: hidden, annotations: {networking.istio.io/exportTo: .}}",
        1,
    );
    let text = [
        in_mesh("one"),
        hidden,
        app("plain"),
        rule.to_owned(),
        gateway(
            "  - {port: {number: 15443, name: tls, protocol: TLS}, hosts: ['*.local'], tls: {mode: AUTO_PASSTHROUGH}}\n",
        ),
    ];
    let gate = Gate::of(&[("all.yaml", &text.concat())]);
    let at = gate.at("edge", 15443);
    for (name, protocols, is_served) in [
        ("outbound_.8080_._.one.default.svc.cluster.local", "istio,http/1.1", true),
        ("outbound_.8080_.v1_.one.default.svc.cluster.local", "istio-http/1.1,http/1.1", true),
        // Of no endpoint, no subset, no port, another service, one that is not for the gate, one that speaks no TLS of the mesh.
        ("outbound_.8080_.v2_.one.default.svc.cluster.local", "istio,http/1.1", false),
        ("outbound_.8080_.v3_.one.default.svc.cluster.local", "istio,http/1.1", false),
        ("outbound_.8081_._.one.default.svc.cluster.local", "istio,http/1.1", false),
        ("outbound_.8080_._.two.default.svc.cluster.local", "istio,http/1.1", false),
        ("outbound_.8080_._.hidden.default.svc.cluster.local", "istio,http/1.1", false),
        ("outbound_.8080_._.plain.default.svc.cluster.local", "istio,http/1.1", false),
        // Another name, and clients that are of no mesh.
        ("one.default.svc.cluster.local", "istio,http/1.1", false),
        ("outbound_.8080_._.one.default.svc.cluster.local", "http/1.1", false),
    ] {
        let answer = passed(at, name, protocols);
        assert_eq!(
            answer.contains(r#""pod": "one-0""#) || answer.contains(r#""pod":"one-0""#),
            is_served,
            "{name} {protocols}: {answer}"
        );
    }
    // One that comes later.
    gate.save("two.yaml", &in_mesh("two"));
    crate::bed::until("the service is passed on to", || {
        passed(at, "outbound_.8080_._.two.default.svc.cluster.local", "istio,http/1.1").contains("two-0")
    });
}

/// Servers that speak first, behind ports of protocols that are passed on as they come, and outside of the cluster.
#[test]
fn connections_to_the_outside() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut said = [0; 4];
            let _ = stream.write_all(b"\x0a8.4\0");
            if stream.read_exact(&mut said).is_ok() {
                let _ = stream.write_all(&said);
            }
        }
    });
    let protocols = [("MYSQL", 3306), ("MONGO", 27017), ("TCP", 9000), ("REDIS", 6379)];
    let servers = protocols.map(|(protocol, port)| {
        format!("  - {{port: {{number: {port}, name: p{port}, protocol: {protocol}}}, hosts: ['*']}}\n")
    });
    let entry = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: db}}\nspec:\n  hosts: [db.example]\n  \
         ports: [{{number: 3306, name: mysql, protocol: MYSQL, targetPort: {port}}}]\n  resolution: STATIC\n  endpoints: [{{address: 127.0.0.1}}]\n---\n"
    );
    let route = "hosts: ['*'], tcp: [{route: [{destination: {host: db.example, port: {number: 3306}}}]}]";
    let text = [entry, gateway(&servers.concat()).replace("ingressgateway", "egressgateway"), service("vs", route)];
    let gate = Gate::of(&[("all.yaml", &text.concat())]);
    for (protocol, port) in protocols {
        let mut stream = TcpStream::connect(gate.at("edge", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut greeting, mut back) = ([0; 5], [0; 4]);
        stream.read_exact(&mut greeting).unwrap();
        stream.write_all(b"ping").unwrap();
        stream.read_exact(&mut back).unwrap();
        assert_eq!((&greeting, &back), (b"\x0a8.4\0", b"ping"), "{protocol}");
    }
}
