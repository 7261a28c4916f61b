//! TCP and UDP routes.

use std::{
    io::{Read as _, Write as _},
    net::{TcpStream, UdpSocket},
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
