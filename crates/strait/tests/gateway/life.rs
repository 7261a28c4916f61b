//! How a gate ends, and how another process takes over from it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    process::Stdio,
};

use crate::{
    backend::{self, service},
    bed::{Gate, PATIENCE, command, curl, http, parse, raw},
};

/// A gateway that passes connections of port 5432 on to `bytes`.
pub(crate) const TCP: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: tcp}
spec: {gatewayClassName: strait, listeners: [{name: tcp, port: 5432, protocol: TCP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: tcp}
spec: {parentRefs: [{name: tcp}], rules: [{backendRefs: [{name: bytes, port: 8080}]}]}
";

fn manifests() -> String {
    let rules = "  - backendRefs: [{name: one, port: 8080}]\n";
    let services = service("one", backend::http().0) + &service("bytes", backend::bytes());
    format!("{services}{}\n---\n{TCP}", http(rules))
}

fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Asks on a connection that stays open; gives the answer.
fn ask(stream: &mut TcpStream, path: &str) -> String {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    answer(stream)
}

/// Reads an answer with a `Content-Length`.
fn answer(stream: &mut TcpStream) -> String {
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let whole = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = whole.split_once("\r\n\r\n") {
            let length = parse(head).header("content-length").map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return whole;
            }
        }
        let length = stream.read(&mut piece).unwrap();
        assert!(length > 0, "closed after {whole:?}");
        text.extend_from_slice(&piece[..length]);
    }
}

fn end(stream: &mut TcpStream) -> String {
    let mut rest = String::new();
    let _ = stream.read_to_string(&mut rest);
    rest
}

/// What waits in the backlog is served, what is under way ends, idle connections end at once.
#[test]
fn drained() {
    let mut gate = Gate::alone(&[("all.yaml", &manifests())], &["--drain-time", "600"]);
    let at = gate.at("edge", 80);
    let mut idle = connect(at);
    assert!(ask(&mut idle, "/").starts_with("HTTP/1.1 200"));
    let mut busy = connect(at);
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    // They are connected: whether the gate took them before it was asked to end, and when they speak, must not matter.
    let mut waiting: Vec<_> = (0..200).map(|_| connect(at)).collect();
    gate.terminate();
    assert_eq!(end(&mut idle), "");
    for stream in &mut waiting {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    for stream in &mut waiting {
        let answer = end(stream);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close\r\n"), "{answer:?}");
    }
    let answer = end(&mut busy);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close\r\n"), "{answer:?}");
    assert_eq!(gate.exit_code(), Some(0));
    assert!(TcpStream::connect(at).is_err());
}

/// What does not end is cut off after the time that it may take, or by a second signal.
#[test]
fn drained_in_time() {
    for (time, signals, code) in [("1", 1, 0), ("3600", 2, 143)] {
        let mut gate = Gate::alone(&[("all.yaml", &manifests())], &["--drain-time", time]);
        let mut open = connect(gate.at("tcp", 5432));
        open.write_all(b"x").unwrap();
        open.read_exact(&mut [0]).unwrap();
        gate.terminate();
        if signals == 2 {
            // It goes on until then; the first signal was seen when nothing listens any more.
            while TcpStream::connect(gate.at("edge", 80)).is_ok() {
                std::thread::yield_now();
            }
            open.write_all(b"y").unwrap();
            open.read_exact(&mut [0]).unwrap();
            gate.terminate();
        }
        assert_eq!(gate.exit_code(), Some(code), "{time}");
        assert_eq!(end(&mut open), "");
    }
}

/// The second process serves, with other manifests and workers; the first one ends, and takes what was on its connections along.
#[test]
fn taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("restart");
    let path = path.to_str().unwrap();
    for (before, after) in [("2", "2"), ("1", "3"), ("3", "1")] {
        let hot = |workers| ["--hot-restart-path", path, "--workers", workers, "--drain-time", "600"];
        let mut first = Gate::alone(&[("all.yaml", &manifests())], &hot(before));
        let at = first.at("edge", 80);
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o600);
        let mut idle = connect(at);
        assert!(ask(&mut idle, "/").starts_with("HTTP/1.1 200"));
        let mut busy = connect(at);
        busy.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n").unwrap();
        // Another route: whose answers tell the processes apart.
        let changed = manifests().replace("  - backendRefs: [{name: one", "  - filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-new, value: \"yes\"}]}}]\n    backendRefs: [{name: one");
        // The first one must not read it.
        let other = tempfile::tempdir().unwrap();
        std::fs::write(other.path().join("all.yaml"), changed).unwrap();
        let mut second = Gate::over_again(other, &hot(after));
        for _ in 0..20 {
            assert_eq!(curl(&[], &format!("http://{at}/")).header("x-new"), Some("yes"), "{before} to {after}");
        }
        // However long the second one took: the request ends now.
        busy.write_all(b"x").unwrap();
        assert!(end(&mut busy).contains("connection: close\r\n"));
        // Its next request is the last of the old connection.
        idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let answer = end(&mut idle);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close\r\n"), "{answer:?}");
        assert_eq!(first.exit_code(), Some(0));
        assert!(std::path::Path::new(path).exists(), "the path is the second one's");
        second.terminate();
        assert_eq!(second.exit_code(), Some(0));
        assert!(!std::path::Path::new(path).exists());
    }
}

/// A second process that cannot serve changes nothing.
#[test]
fn not_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("restart");
    let hot = ["--hot-restart-path", path.to_str().unwrap()];
    let gate = Gate::alone(&[("all.yaml", &manifests())], &hot);
    let at = gate.at("edge", 80);
    let fails = |folder: &std::path::Path, arguments: &[&str]| {
        let output = command("gateway", folder, arguments).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    // Manifests with an error, of which the running gate may know a good version.
    let broken = tempfile::tempdir().unwrap();
    std::fs::write(broken.path().join("all.yaml"), "kind: [").unwrap();
    let said = fails(broken.path(), &hot);
    assert!(said.contains("the running gate goes on"), "{said}");
    // A status that cannot be written.
    let said = fails(gate.folder.path(), &[&hot[..], &["--status", "/proc/none/status"]].concat());
    assert!(said.contains("/proc/none/status"), "{said}");
    assert!(raw(at, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").starts_with("HTTP/1.1 200"));
    // What speaks otherwise, or too late, is sent away.
    for (first, expected) in [
        (&br#"{"is":"hello","version":99}"#[..], "speaks version 1, not 99"),
        (b"nonsense", ""),
        (br#"{"is":"serving"}"#, ""),
    ] {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::SEQPACKET, None).unwrap();
        socket.connect(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send(first).unwrap();
        let mut answer = [0; 4096];
        let length = (&socket).read(&mut answer).unwrap();
        assert!(String::from_utf8_lossy(&answer[..length]).contains(expected));
    }
    // After all that, one that can.
    let mut second = gate.again(&hot);
    assert!(raw(at, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").starts_with("HTTP/1.1 200"));
    second.terminate();
    assert_eq!(second.exit_code(), Some(0));
    // A path that is somebody else's file is not taken.
    let file = folder.path().join("file");
    std::fs::write(&file, "kept").unwrap();
    let said = fails(gate.folder.path(), &["--hot-restart-path", file.to_str().unwrap()]);
    assert!(said.contains("is no socket") || said.contains("cannot connect"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
}

/// Workers are as many as the process may use cores, or as many as asked for.
#[test]
fn workers() {
    let count = |mut command: std::process::Command| {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.by_ref().any(|line| line.unwrap() == "ready"));
        let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
        let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap());
        let count = names.filter(|name| name.starts_with("worker-")).count();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), nix::sys::signal::Signal::SIGTERM)
            .unwrap();
        assert!(child.wait().unwrap().success());
        count
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("all.yaml"), "").unwrap();
    let strait = env!("CARGO_BIN_EXE_strait");
    let of = |program: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new(program);
        command.args(arguments);
        command.args(["-f", folder.path().to_str().unwrap()]);
        count(command)
    };
    assert_eq!(of(strait, &["gateway", "--workers", "3"]), 3);
    assert_eq!(of("taskset", &["-c", "0", strait, "gateway"]), 1);
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(of(strait, &["gateway"]), cores);
}
