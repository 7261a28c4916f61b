//! TCP and UDP routes.

use std::{
    io::{Read as _, Write as _},
    net::{TcpStream, UdpSocket},
};

use crate::bed::{Gate, PATIENCE, app};

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
