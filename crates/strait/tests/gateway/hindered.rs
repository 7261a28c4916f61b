//! Ports that cannot be listened on: statuses say so, and what is in the way may go.

use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};

use crate::{
    backend::{self, service},
    bed::{Gate, curl, until},
};

/// A gateway with a port for each protocol, and a route at the first.
fn manifests() -> String {
    service("one", backend::http().0)
        + "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec:\n  gatewayClassName: strait\n  listeners:\n  \
           - {name: web, port: 80, protocol: HTTP}\n  - {name: stream, port: 443, protocol: TCP}\n  - {name: names, port: 53, protocol: UDP}\n---\n\
           apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: route}\nspec:\n  parentRefs: [{name: edge}]\n  rules: [{backendRefs: [{name: one, port: 8080}]}]\n"
}

/// The address that the first gateway of this process gets.
fn address() -> IpAddr {
    let pid = std::process::id();
    let part = |number: u32| u8::try_from(number).unwrap();
    IpAddr::from([127, part(100 + pid / 256 % 64), part(pid % 256), 1])
}

fn count(text: &str, what: &str) -> usize {
    text.matches(what).count()
}

/// Ports that others have: their listeners are not accepted until they are free, and the others are served meanwhile.
#[test]
fn taken_ports() {
    let (stream, names) =
        (TcpListener::bind((address(), 18443)).unwrap(), UdpSocket::bind((address(), 18053)).unwrap());
    let gate = Gate::alone(&[("all.yaml", &manifests())], &[]);
    let told: Vec<u16> = gate.places("edge").map(|(port, _)| port).collect();
    assert_eq!(told, [80], "what it listens on");
    let at = gate.at("edge", 80);
    let status = gate.until_status("taken ports", |text| count(text, "reason: PortUnavailable") == 2);
    assert!(status.contains("listeners that are not valid: stream, names; that are: web"), "{status}");
    assert!(status.contains(&format!("cannot listen on {}:18443: Address already in use", address())), "{status}");
    assert_eq!(count(&status, "reason: Pending"), 2, "{status}");
    assert_eq!(curl(&[], &format!("http://{at}/")).status, 200);
    // A change does not make them forgotten.
    gate.save("all.yaml", &manifests().replace("metadata: {name: route}", "metadata: {name: other}"));
    let status = gate.until_status("the change", |text| text.contains("name: other"));
    assert_eq!(count(&status, "reason: PortUnavailable"), 2, "{status}");
    drop(stream);
    gate.until_status("one port free", |text| count(text, "reason: PortUnavailable") == 1);
    until("connection", || TcpStream::connect((address(), 18443)).is_ok());
    drop(names);
    let status = gate.until_status("both ports free", |text| count(text, "reason: PortUnavailable") == 0);
    assert_eq!((count(&status, "reason: Pending"), count(&status, "reason: ListenersNotValid")), (0, 0), "{status}");
    assert_eq!(curl(&[], &format!("http://{at}/")).status, 200);
}

/// Addresses that this host does not have.
#[test]
fn foreign_addresses() {
    let pool = ["--address-pool", "192.0.2.0/28"];
    let manifests = manifests();
    let asked_for =
        manifests.replace("gatewayClassName: strait", "gatewayClassName: strait\n  addresses: [{value: 192.0.2.9}]");
    for (manifests, reason) in [(&manifests, "AddressNotAssigned"), (&asked_for, "AddressNotUsable")] {
        let gate = Gate::alone(&[("all.yaml", manifests)], &pool);
        assert_eq!(gate.places("edge").count(), 0);
        let status = gate.until_status(reason, |text| text.contains(&format!("reason: {reason}")));
        assert_eq!(count(&status, "reason: Pending"), 3, "{status}");
        assert!(status.contains("Cannot assign requested address"), "{status}");
    }
}
