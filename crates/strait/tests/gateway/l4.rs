//! TCP and UDP routes.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::Value;

use crate::{
    bed::{Gate, PATIENCE, app, curl, until},
    prometheus,
};

const ROUTES: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: strait
  listeners:
  - {name: tcp, port: 5432, protocol: TCP}
  - {name: udp, port: 53, protocol: UDP}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: tcp}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: one, port: 8080}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: UDPRoute
metadata: {name: udp}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: dns, port: 53}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: dns}
spec: {selector: {app: one}, ports: [{port: 53, targetPort: 5353, protocol: UDP}]}
";

#[test]
fn bytes_go_through() {
    let gate = Gate::of(&[("all.yaml", &format!("{}{ROUTES}", app("one")))]);
    let mut stream = TcpStream::connect(gate.at("edge", 5432)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"\x01hello").unwrap();
    let mut back = [0; 6];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"\x01hello");
    // Half a connection ends, then the other.
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut back).unwrap(), 0);

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    for datagram in [&b"one"[..], b"two"] {
        socket.send_to(datagram, gate.at("edge", 53)).unwrap();
        let mut back = [0; 16];
        let (length, from) = socket.recv_from(&mut back).unwrap();
        assert_eq!((&back[..length], from), (datagram, gate.at("edge", 53)));
    }
}

/// A server of datagrams at two addresses, which answers with whom it saw and what that one said; told `push`, it says something once more.
fn seen() -> SocketAddr {
    let first = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = first.local_addr().unwrap();
    let second = UdpSocket::bind(("127.0.0.2", at.port())).unwrap();
    for socket in [first, second] {
        std::thread::spawn(move || {
            let mut datagram = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut datagram) {
                let said = String::from_utf8_lossy(&datagram[..length]).into_owned();
                let own = socket.local_addr().unwrap();
                if said == "push" {
                    let later = socket.try_clone().unwrap();
                    std::thread::spawn(move || {
                        // When it is told to, which is long after it heard from the client.
                        let mut go = [0; 8];
                        let control = UdpSocket::bind("127.0.0.1:0").unwrap();
                        control.set_read_timeout(Some(PATIENCE)).unwrap();
                        later.send_to(control.local_addr().unwrap().to_string().as_bytes(), from).unwrap();
                        control.recv(&mut go).unwrap();
                        later.send_to(b"pushed", from).unwrap();
                    });
                    continue;
                }
                socket.send_to(format!("{own} {from} {said}").as_bytes(), from).unwrap();
            }
        });
    }
    at
}

/// Manifests of a UDP port whose back end has these endpoints at that port.
fn datagrams_to(back: SocketAddr, endpoints: &str) -> String {
    let text = ROUTES.replace("  - {name: tcp, port: 5432, protocol: TCP}\n", "");
    let udp: Vec<_> = text.split("---\n").filter(|text| !text.contains("TCPRoute")).collect();
    udp.join("---\n").replace("selector: {app: one}, ", "")
        + &format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: dns-1, labels: {{kubernetes.io/service-name: dns}}}}\n\
             addressType: IPv4\nports: [{{port: {}, protocol: UDP}}]\nendpoints: [{endpoints}]\n",
            back.port()
        )
}

const BOTH: &str = "{addresses: [127.0.0.1]}, {addresses: [127.0.0.2]}";

fn client_of(at: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(at).unwrap();
    socket
}

fn heard(socket: &UdpSocket) -> String {
    let mut back = [0; 256];
    let length = socket.recv(&mut back).expect("no datagram is lost");
    String::from_utf8_lossy(&back[..length]).into_owned()
}

/// A client's back end, and the address that this one sees.
fn way(socket: &UdpSocket, said: &str) -> String {
    socket.send(said.as_bytes()).unwrap();
    let answer = heard(socket);
    let (way, back) = answer.rsplit_once(' ').unwrap();
    assert_eq!(back, said);
    way.to_owned()
}

/// Clients of UDP ports keep back end and socket when another process takes over, and lose no datagram: those that speak all the time, and
/// those that only listen. Each is told of once, when it ends, with all that it said.
#[test]
fn datagrams_go_on() {
    let back = seen();
    let work = tempfile::tempdir().unwrap();
    let (path, log) = (work.path().join("restart"), work.path().join("log"));
    let told = ["--access-log-encoding", "json", "--access-log-file", log.to_str().unwrap()];
    let hot = |workers| [&["--hot-restart-path", path.to_str().unwrap(), "--workers", workers][..], &told[..]].concat();
    let mut running = Gate::alone(&[("all.yaml", &datagrams_to(back, BOTH))], &hot("2"));
    let at = running.at("edge", 53);
    let listens = client_of(at);
    listens.send(b"push").unwrap();
    let control = heard(&listens);
    // One speaks all the time, the next word when the last one came back.
    let (done, talks) = (Arc::new(AtomicBool::new(false)), client_of(at));
    let stop = Arc::clone(&done);
    let speaker = std::thread::spawn(move || {
        let own = way(&talks, "first");
        let mut turns = 0;
        while !stop.load(Ordering::Relaxed) {
            turns += 1;
            assert_eq!(way(&talks, &turns.to_string()), own);
        }
        turns
    });
    let clients: Vec<_> = (0..8).map(|_| client_of(at)).collect();
    let ways: Vec<_> = clients.iter().map(|socket| way(socket, "hello")).collect();
    assert!(["127.0.0.1", "127.0.0.2"].iter().all(|at| ways.iter().any(|way| way.starts_with(at))), "{ways:?}");
    for workers in ["1", "3"] {
        let mut next = running.again(&hot(workers));
        assert_eq!(running.exit_code(), Some(0));
        std::mem::swap(&mut running, &mut next);
        for (socket, before) in clients.iter().zip(&ways) {
            assert_eq!(&way(socket, "again"), before, "with {workers} workers");
        }
    }
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"go", &control).unwrap();
    assert_eq!(heard(&listens), "pushed");
    done.store(true, Ordering::Relaxed);
    assert!(speaker.join().unwrap() > 2);
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "", "none has ended");
    running.terminate();
    assert_eq!(running.exit_code(), Some(0));
    let lines = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 10);
    for socket in &clients {
        let own = socket.local_addr().unwrap().to_string();
        let line = lines.iter().find(|line| line["downstream_remote_address"] == own.as_str()).unwrap();
        assert_eq!(line["bytes_received"], "hello".len() * 3, "{line}");
    }
}

/// Clients whose back end another process does not know begin anew; the others go on.
#[test]
fn datagrams_begin_anew() {
    let back = seen();
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("restart");
    let hot = ["--hot-restart-path", path.to_str().unwrap()];
    let running = Gate::alone(&[("all.yaml", &datagrams_to(back, BOTH))], &hot);
    let clients: Vec<_> = (0..8).map(|_| client_of(running.at("edge", 53))).collect();
    let ways: Vec<_> = clients.iter().map(|socket| way(socket, "hello")).collect();
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("all.yaml"), datagrams_to(back, "{addresses: [127.0.0.2]}")).unwrap();
    let _next = Gate::over_again(other, &hot);
    for (socket, before) in clients.iter().zip(&ways) {
        let now = way(socket, "after");
        let goes_on = before.starts_with("127.0.0.2");
        assert!(now.starts_with("127.0.0.2") && (!goes_on || now == *before), "{before}, then {now}");
    }
}

/// Processes of before know nothing of these clients, on either side of the conversation, and what is broken off is as good as nothing:
/// then clients begin anew, and are served.
#[test]
fn datagrams_and_processes_of_before() {
    use socket2::{Domain, SockAddr, Socket, Type};
    let back = seen();
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("restart");
    let hot = ["--hot-restart-path", path.to_str().unwrap()];
    let files = datagrams_to(back, BOTH);
    let talk = |socket: &Socket, until: &str| {
        let mut said = Vec::new();
        while !said.last().is_some_and(|last: &String| last.contains(until)) {
            let mut message = vec![0; 64 << 10];
            let length = (&*socket).read(&mut message).unwrap();
            assert!(length > 0, "no {until} after {said:?}");
            said.push(String::from_utf8_lossy(&message[..length]).into_owned());
        }
        said
    };
    // The one that serves hears from an old one what it always said.
    let gate = Gate::alone(&[("all.yaml", &files)], &hot);
    let client = client_of(gate.at("edge", 53));
    way(&client, "hello");
    let old = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    old.set_read_timeout(Some(PATIENCE)).unwrap();
    old.connect(&SockAddr::unix(&path).unwrap()).unwrap();
    old.send(br#"{"is":"hello","version":1}"#).unwrap();
    talk(&old, "\"last\":true");
    old.send(br#"{"is":"serving"}"#).unwrap();
    let said = talk(&old, "draining");
    assert_eq!(said.len(), 1, "{said:?}");
    drop(gate);
    // An old one hands nothing over; another one ends before it does.
    for last in [Some(&br#"{"is":"draining"}"#[..]), None] {
        let old = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        let _ = std::fs::remove_file(&path);
        old.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        old.listen(1).unwrap();
        let running = std::thread::spawn(move || {
            let (peer, _) = old.accept().unwrap();
            peer.set_read_timeout(Some(PATIENCE)).unwrap();
            let first = talk(&peer, "hello");
            assert!(first[0].contains("\"version\":1"), "{first:?}");
            peer.send(br#"{"is":"sockets","last":true}"#).unwrap();
            talk(&peer, "serving");
            drop(old);
            last.map(|last| peer.send(last).unwrap());
        });
        let gate = Gate::alone(&[("all.yaml", &files)], &hot);
        running.join().unwrap();
        way(&client_of(gate.at("edge", 53)), "hello");
    }
}

/// Each client's datagrams are a line and counted when it has been silent; those of more clients than may be are dropped and counted.
#[test]
pub(crate) fn datagrams() {
    let beside = tempfile::tempdir().unwrap();
    let log = beside.path().join("log");
    let arguments = ["--workers", "1", "--limit", "udp-idle=300ms", "--limit", "udp-sessions=2"];
    let told = ["--access-log-encoding", "json", "--status-address", "127.0.0.1:0", "--access-log-file"];
    let all = [&arguments[..], &told[..], &[log.to_str().unwrap()]].concat();
    let gate = Gate::with(&[("all.yaml", &format!("{}{ROUTES}", app("one")))], &all);
    let at = gate.at("edge", 53);
    let client = || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let say = |socket: &UdpSocket, text: &[u8]| {
        socket.send_to(text, at).unwrap();
        let mut back = [0; 64];
        assert_eq!(socket.recv(&mut back).unwrap(), text.len());
    };
    let (one, two, three) = (client(), client(), client());
    say(&one, b"hello");
    say(&two, b"bye");
    say(&one, b"again");
    let status = gate.lines.iter().find_map(|line| line.strip_prefix("status: ")).unwrap().to_owned();
    let sum = |name: &str, labels: &[(&str, &str)]| {
        prometheus::parse(&curl(&[], &format!("{status}/stats/prometheus")).body).sum(name, labels)
    };
    // Both are remembered, or were a moment ago: then the third one has room.
    three.send_to(b"more", at).unwrap();
    until("lines", || std::fs::read_to_string(&log).unwrap().lines().count() >= 2);
    let lines: Vec<Value> =
        std::fs::read_to_string(&log).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = |socket: &UdpSocket| {
        let own = socket.local_addr().unwrap().to_string();
        lines.iter().find(|line| line["downstream_remote_address"] == own.as_str()).unwrap().clone()
    };
    for (socket, bytes) in [(&one, 10), (&two, 3)] {
        let line = line(socket);
        assert_eq!((&line["bytes_received"], &line["bytes_sent"]), (&bytes.into(), &bytes.into()), "{line}");
        assert_eq!(line["upstream_cluster"], "outbound|53||dns.default.svc.cluster.local", "{line}");
        assert_eq!((&line["response_flags"], &line["method"]), (&"-".into(), &Value::Null), "{line}");
        assert_eq!(line["downstream_local_address"], at.to_string(), "{line}");
    }
    let udp = [("request_protocol", "udp"), ("destination_service_name", "dns")];
    until("the end of all", || {
        sum("istio_tcp_connections_opened_total", &udp) == sum("istio_tcp_connections_closed_total", &udp)
    });
    let sessions = sum("istio_tcp_connections_closed_total", &udp);
    let dropped = sum("strait_listener_datagrams_dropped_total", &[("transport", "udp")]);
    assert_eq!(sessions + dropped, 3, "the third client has a session, or its datagram was dropped");
    assert!(sum("istio_tcp_received_bytes_total", &udp) >= 13);
    assert_eq!(sum("strait_listener_connections_active", &[("transport", "udp")]), 0);
    // Once they are forgotten there is room.
    say(&three, b"now");
}
