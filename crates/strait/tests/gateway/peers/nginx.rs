//! nginx as a back end.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::Command,
};

use super::{Server, noise, place, program, ran};
use crate::{
    bed::{Gate, PATIENCE, http},
    h2::outside,
};

struct Nginx {
    _server: Server,
    folder: tempfile::TempDir,
    at: SocketAddr,
}

/// A server of files that can be put, and one that closes each connection after three requests.
fn nginx() -> Option<Nginx> {
    let program = program("nginx")?;
    let folder = tempfile::tempdir().unwrap();
    let (at, few, root) = (place(18_090), place(18_091), folder.path().display());
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: Vec<_> = temporary.iter().map(|name| format!("{name}_temp_path {root}/{name};")).collect();
    let configuration = format!(
        "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;\nevents {{ worker_connections 512; }}\n\
         http {{\n  access_log off; client_max_body_size 64m; keepalive_timeout 60s; {}\n  \
         server {{\n    listen {at}; root {root}/files;\n    add_header x-connection $connection:$connection_requests always;\n    \
         location / {{ dav_methods PUT; }}\n    \
         location /chunked/ {{ alias {root}/files/; sub_filter_types *; sub_filter nothing-has-this x; }}\n    \
         location = /said {{ return 200 \"$request_method $request_uri $server_protocol\"; }}\n    \
         location = /nothing {{ return 204; }}\n    location = /away {{ return 444; }}\n  }}\n  \
         server {{ listen {few}; keepalive_requests 3; location / {{ return 200 few; }} }}\n}}\n",
        temporary.join(" ")
    );
    fs::create_dir(folder.path().join("files")).unwrap();
    fs::write(folder.path().join("nginx.conf"), configuration).unwrap();
    let mut command = Command::new(program);
    command.arg("-p").arg(folder.path()).arg("-c").arg(folder.path().join("nginx.conf"));
    Some(Nginx { _server: Server::start(command, at), folder, at })
}

impl Nginx {
    fn gate(&self) -> Gate {
        let few = "  - matches: [{path: {value: /few}}]\n    backendRefs: [{name: few, port: 80}]\n";
        let rules = format!("{few}  - backendRefs: [{{name: nginx, port: 80}}]\n");
        let services = outside("nginx", self.at, "") + &outside("few", place(18_091), "");
        Gate::of(&[("all.yaml", &(services + &http(&rules)))])
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("files").join(name)
    }
}

const VERSIONS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

/// Large bodies both ways, of a known length and in chunks, byte for byte.
#[test]
fn large_bodies() {
    let Some(nginx) = nginx() else { return };
    let gate = nginx.gate();
    let origin = format!("http://{}", gate.at("edge", 80));
    let body = noise(5_000_000);
    fs::write(nginx.file("large"), &body).unwrap();
    let got = nginx.folder.path().join("got");
    let curl = || {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-S", "--fail", "--max-time", "20", "-o"]).arg(&got);
        curl
    };
    for version in VERSIONS {
        for path in ["/large", "/chunked/large"] {
            ran(curl().args([version, "-w", "%{http_code}"]).arg(format!("{origin}{path}")));
            assert!(fs::read(&got).unwrap() == body, "{version} {path}");
        }
        for (name, chunked) in [("length", None), ("chunks", Some(["-H", "Transfer-Encoding: chunked"]))] {
            let url = format!("{origin}/{name}{version}");
            let mut put = curl();
            put.args([version, "-w", "%{http_code}"])
                .args(chunked.into_iter().flatten())
                .arg("-T")
                .arg(nginx.file("large"));
            assert_eq!(ran(put.arg(url)), "201", "{version} {name}");
            assert!(fs::read(nginx.file(&format!("{name}{version}"))).unwrap() == body, "{version} {name}");
        }
    }
}

/// A kept connection of a client, on which one answer follows another.
struct Client(TcpStream, Vec<u8>);

impl Client {
    fn new(at: SocketAddr) -> Self {
        let stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream, Vec::new())
    }

    fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    /// The next head.
    fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.1.windows(4).position(|four| four == b"\r\n\r\n") {
                return String::from_utf8(self.1.drain(..end + 4).collect()).unwrap();
            }
            self.more();
        }
    }

    fn body(&mut self, length: usize) -> String {
        while self.1.len() < length {
            self.more();
        }
        String::from_utf8_lossy(&self.1.drain(..length).collect::<Vec<_>>()).into_owned()
    }

    fn more(&mut self) {
        let mut piece = [0; 4096];
        let length = self.0.read(&mut piece).unwrap();
        assert!(length > 0, "closed after {:?}", String::from_utf8_lossy(&self.1));
        self.1.extend_from_slice(&piece[..length]);
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (of, value) = line.split_once(": ")?;
        of.eq_ignore_ascii_case(name).then_some(value)
    })
}

/// Answers without bodies do not confuse what comes after them, and all come over one connection to nginx.
#[test]
fn answers_without_bodies() {
    let Some(nginx) = nginx() else { return };
    let gate = nginx.gate();
    fs::write(nginx.file("small"), "small").unwrap();
    let mut client = Client::new(gate.at("edge", 80));
    let mut etag = String::new();
    for round in 0..5 {
        for (method, path, more, status, length, body) in [
            ("HEAD", "/small", "", "200", Some("5"), ""),
            ("GET", "/small", "", "200", Some("5"), "small"),
            ("GET", "/small", "if-none-match", "304", None, ""),
            ("HEAD", "/chunked/small", "", "200", None, ""),
            ("GET", "/nothing", "", "204", None, ""),
            ("HEAD", "/none", "", "404", Some("any"), ""),
            ("GET", "/said", "", "200", Some("18"), "GET /said HTTP/1.1"),
        ] {
            let more = if more.is_empty() { String::new() } else { format!("{more}: {etag}\r\n") };
            client.send(&format!("{method} {path} HTTP/1.1\r\nhost: a.example\r\n{more}\r\n"));
            let head = client.head();
            assert_eq!(head.split(' ').nth(1), Some(status), "{method} {path}: {head}");
            let found = field(&head, "content-length");
            assert!(found == length || (found.is_some() && length == Some("any")), "{method} {path}: {head}");
            assert_eq!(client.body(body.len()), body, "{method} {path}");
            if let Some(of) = field(&head, "etag") {
                of.clone_into(&mut etag);
            }
            let at = field(&head, "x-connection").and_then(|of| of.split_once(':')).unwrap();
            // The first few may open connections that are kept.
            assert!(round == 0 || at.1.parse::<u32>().unwrap() > 1, "{method} {path} over a new connection: {head}");
        }
    }
}

/// A connection that the back end ends after three requests costs nobody an answer.
#[test]
fn connections_that_end() {
    let Some(nginx) = nginx() else { return };
    let gate = nginx.gate();
    let origin = format!("http://{}", gate.at("edge", 80));
    let few = |version: &str, numbers: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "--max-time", "20", "-w", "%{http_code}\n", "-o", "/dev/null", version]);
        ran(curl.arg(format!("{origin}/few/{numbers}")))
    };
    let text = few("--http1.1", "[1-60]");
    assert!(text.lines().count() == 60 && text.lines().all(|line| line == "200"), "{text}");
    // curl 7.88 asks only once on a connection with prior knowledge.
    for _ in 0..10 {
        assert_eq!(few("--http2-prior-knowledge", "1"), "200\n");
    }
    // One that is closed in the place of an answer is an error of the gate's own; the client's connection goes on.
    let mut client = Client::new(gate.at("edge", 80));
    for _ in 0..3 {
        client.send("GET /away HTTP/1.1\r\nhost: a.example\r\n\r\n");
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 502 ") || head.starts_with("HTTP/1.1 503 "), "{head}");
        let length = field(&head, "content-length").unwrap().parse().unwrap();
        client.body(length);
        client.send("GET /said HTTP/1.1\r\nhost: a.example\r\n\r\n");
        assert!(client.head().starts_with("HTTP/1.1 200 "));
        assert_eq!(client.body(18), "GET /said HTTP/1.1");
    }
}

/// A client that asks first whether its body is wanted hears it from nginx.
#[test]
fn continue_first() {
    let Some(nginx) = nginx() else { return };
    let gate = nginx.gate();
    let mut client = Client::new(gate.at("edge", 80));
    for name in ["first", "second"] {
        client.send(&format!(
            "PUT /{name} HTTP/1.1\r\nhost: a.example\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n"
        ));
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 100 "), "{head}");
        client.send("continued");
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 201 "), "{head}");
        client.body(field(&head, "content-length").map_or(0, |length| length.parse().unwrap()));
        assert_eq!(fs::read_to_string(nginx.file(name)).unwrap(), "continued");
    }
}
