//! What a request costs, counted: what holds on any machine.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    backend::{self, service},
    bed::{Gate, app, http},
    life::TCP,
};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: www.example.com\r\nuser-agent: test\r\naccept: */*\r\n\r\n";

/// Asks so often, each time when the answer before is there.
fn ask(stream: &mut TcpStream, count: usize) {
    for _ in 0..count {
        stream.write_all(REQUEST).unwrap();
        let (mut answer, mut room) = (Vec::new(), [0; 4096]);
        loop {
            let length = stream.read(&mut room).unwrap();
            assert!(length > 0, "the connection ended");
            answer.extend_from_slice(&room[..length]);
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if length.is_some_and(|length: usize| body.len() >= length) {
                break;
            }
        }
    }
}

/// The threads of a process with such names.
fn threads(process: u32, name: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap().map(|entry| entry.unwrap().path());
    let named =
        |task: &std::path::PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.starts_with(name));
    tasks.filter(named).map(|task| task.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

/// The system calls that threads make while `work` is done, by name.
fn calls(threads: &[String], out: &Path, work: impl FnOnce()) -> BTreeMap<String, usize> {
    let mut strace = Command::new("strace")
        .arg("-c")
        .args(["-U", "calls,name", "-o"])
        .arg(out)
        .args(threads.iter().flat_map(|thread| ["-p", thread]))
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace is installed");
    // Held to the end: it stops counting when it has something to say that nobody reads.
    let mut said = BufReader::new(strace.stderr.take().unwrap()).lines().map_while(Result::ok);
    let attached = said.by_ref().filter(|line| line.contains("attached")).take(threads.len());
    assert_eq!(attached.count(), threads.len(), "strace attaches to all of them");
    work();
    let pid = nix::unistd::Pid::from_raw(strace.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    strace.wait().unwrap();
    drop(said);
    let text = fs::read_to_string(out).unwrap();
    let _ = fs::remove_file(out);
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let count = words.next()?.parse().ok()?;
        Some((words.next().filter(|name| *name != "total")?.to_owned(), count))
    };
    text.lines().filter_map(row).collect()
}

/// Those that are made because of connections, and not because time passes: a worker looks at its memory now and then, in files, and is
/// woken for that. To wait is not among them either: it waits for all connections together.
fn of_sockets(calls: &BTreeMap<String, usize>) -> usize {
    const OTHERS: [&str; 6] = ["epoll_wait", "fcntl", "openat", "read", "statx", "write"];
    let files = calls.get("openat").copied().unwrap_or_default();
    calls.iter().filter(|(name, _)| !OTHERS.contains(&name.as_str())).map(|(_, count)| count).sum::<usize>() - files
}

/// Between two sockets nothing is left out: each side is read once and written once.
#[test]
fn a_warm_request_makes_four_system_calls() {
    const COUNT: usize = 200;
    let rules = "  - backendRefs: [{name: one, port: 8080}]\n";
    let gate = Gate::of(&[("all.yaml", &format!("{}{}", app("one"), http(rules)))]);
    let at: SocketAddr = gate.at("edge", 80);
    let mut stream = TcpStream::connect(at).unwrap();
    ask(&mut stream, 20);
    let out = gate.folder.path().with_extension("calls");
    let calls = calls(&threads(gate.process(), "worker-"), &out, || ask(&mut stream, COUNT));
    let made = of_sockets(&calls);
    // An answer may come in two pieces.
    assert!(made <= COUNT * 4 + COUNT / 20, "{made} for {COUNT} requests: {calls:?}");
    assert!(made >= COUNT * 4, "each of them is counted: {calls:?}");
}

/// Taken, and found that there is no other; a socket to the back end, connected, asked whether it is, told not to wait for more; both
/// watched and forgotten; a byte each way; the end each way, of which the second one is the close.
#[test]
fn a_connection_passed_on_makes_nineteen_system_calls() {
    const COUNT: usize = 100;
    let gate = Gate::alone(&[("all.yaml", &format!("{}{TCP}", service("bytes", backend::bytes())))], &[]);
    let at = gate.at("tcp", 5432);
    let exchange = || {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    };
    (0..10).for_each(|_| exchange());
    let out = gate.folder.path().with_extension("calls");
    let calls = calls(&threads(gate.process(), "worker-"), &out, || (0..COUNT).for_each(|_| exchange()));
    let made = of_sockets(&calls);
    assert!(made <= COUNT * 19 + COUNT / 20, "{made} for {COUNT} connections: {calls:?}");
    assert!(made >= COUNT * 18, "each of them is counted: {calls:?}");
}
