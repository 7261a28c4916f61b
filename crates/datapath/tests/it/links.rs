use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use strait_datapath::{
    netlink::{Mac, Netlink, Route, Veth, VethEnd},
    netns::{self, Netns},
    sysctl,
};

use crate::root;

#[test]
fn named_namespaces_come_and_go() {
    if !root("named_namespaces_come_and_go") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("netns");
    assert_eq!(netns::list(&dir).unwrap(), Vec::<String>::new());

    let made = Netns::create(&dir, "a").unwrap();
    assert_ne!(made.inode().unwrap(), Netns::current().unwrap().inode().unwrap());
    let inside = made.run(|| Netns::current().unwrap().inode().unwrap()).unwrap();
    assert_eq!(inside, made.inode().unwrap());
    assert_eq!(Netns::open(&dir.join("a")).unwrap().inode().unwrap(), inside);

    let twice = Netns::create(&dir, "a").unwrap_err().to_string();
    assert!(twice.contains("a: cannot create it") && twice.contains("delete it first"), "{twice}");

    // What a crash between making the file and binding it leaves behind.
    std::fs::write(dir.join("b"), "").unwrap();
    assert_eq!(netns::list(&dir).unwrap(), ["a", "b"]);
    assert_eq!(netns::open_all(&dir).unwrap().len(), 1);
    Netns::create(&dir, "b").unwrap();

    for name in ["a", "b", "b"] {
        netns::delete(&dir, name).unwrap();
    }
    assert_eq!(netns::list(&dir).unwrap(), Vec::<String>::new());
    let gone = Netns::open(&dir.join("a")).unwrap_err().to_string();
    assert!(gone.contains("never made, or is gone"), "{gone}");
}

#[test]
fn links_addresses_routes_and_neighbours_carry_packets() {
    if !root("links_addresses_routes_and_neighbours_carry_packets") {
        return;
    }
    let (node, pod) = (Netns::anonymous("node").unwrap(), Netns::anonymous("pod").unwrap());
    node.run(sysctl::router).unwrap().unwrap();
    pod.run(sysctl::host).unwrap().unwrap();
    let mut at_node = Netlink::open(&node).unwrap();
    let mut at_pod = Netlink::open(&pod).unwrap();
    let (host_mac, pod_mac) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
    let veth = Veth {
        ends: [
            VethEnd { name: "veth0", mac: Some(host_mac), netns: None },
            VethEnd { name: "eth0", mac: Some(pod_mac), netns: Some(&pod) },
        ],
        mtu: Some(1400),
    };
    at_node.create_veth(&veth).unwrap();
    let again = at_node.create_veth(&veth).unwrap_err().to_string();
    assert!(again.contains("make veth pair veth0 - eth0 in pod") && again.contains("delete it first"), "{again}");

    for interface in ["lo", "veth0"] {
        at_node.set_up(interface).unwrap();
    }
    for interface in ["lo", "eth0"] {
        at_pod.set_up(interface).unwrap();
    }
    let link = at_pod.link("eth0").unwrap().unwrap();
    assert_eq!((link.mac, link.mtu, link.up, link.kind.as_str()), (Some(pod_mac), 1400, true, "veth"));
    assert_eq!(at_node.links().unwrap().iter().map(|link| &*link.name).collect::<Vec<_>>(), ["lo", "veth0"]);

    // Twice: everything that sets a state may be repeated.
    for _ in 0..2 {
        for address in ["10.1.0.10/32", "fd00:1::10/128"] {
            at_pod.add_address("eth0", address.parse().unwrap()).unwrap();
            at_node.add_route(&Route::to_link(address.parse().unwrap(), "veth0")).unwrap();
        }
        for address in ["172.30.0.1/32", "fd00:30::1/128"] {
            at_node.add_address("lo", address.parse().unwrap()).unwrap();
        }
        for (all, gateway) in [("0.0.0.0/0", "169.254.1.1"), ("::/0", "fe80::1")] {
            let gateway: IpAddr = gateway.parse().unwrap();
            at_pod.add_neighbour("eth0", gateway, host_mac).unwrap();
            at_pod.add_route(&Route::to_gateway(all.parse().unwrap(), gateway).on("eth0").onlink()).unwrap();
        }
        for (address, source) in [("10.1.0.10", "172.30.0.1"), ("fd00:1::10", "fd00:30::1")] {
            at_node.add_neighbour("veth0", address.parse().unwrap(), pod_mac).unwrap();
            let address: IpAddr = address.parse().unwrap();
            let route = Route::to_link(address.into(), "veth0").from(source.parse().unwrap());
            at_node.add_route(&route).unwrap();
        }
    }
    let addresses: Vec<String> = at_pod
        .addresses(Some("eth0"))
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .filter(|a| !a.starts_with("fe80"))
        .collect();
    assert_eq!(addresses, ["10.1.0.10/32", "fd00:1::10/128"]);

    for (address, source) in [("10.1.0.10", "172.30.0.1"), ("fd00:1::10", "fd00:30::1")] {
        let address: IpAddr = address.parse().unwrap();
        let listener = pod.run(|| TcpListener::bind(SocketAddr::new(address, 80)).unwrap()).unwrap();
        let mut client = node
            .run(|| TcpStream::connect_timeout(&SocketAddr::new(address, 80), Duration::from_secs(5)).unwrap())
            .unwrap();
        let (mut server, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), source.parse::<IpAddr>().unwrap());
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
    }

    let off_link = at_node
        .add_route(&Route::to_gateway("10.9.0.0/16".parse().unwrap(), "10.8.0.1".parse().unwrap()))
        .unwrap_err()
        .to_string();
    assert!(off_link.contains("network namespace node: cannot add route 10.9.0.0/16 via 10.8.0.1"), "{off_link}");
    assert!(at_node.add_route(&Route::to_link("10.9.0.0/16".parse().unwrap(), "gone")).is_err());
    let route = Route::to_link("10.1.0.10/32".parse().unwrap(), "veth0");
    assert!(at_node.delete_route(&route).unwrap());
    assert!(!at_node.delete_route(&route).unwrap());
    assert!(at_pod.delete_address("eth0", "10.1.0.10/32".parse().unwrap()).unwrap());
    assert!(!at_pod.delete_address("eth0", "10.1.0.10/32".parse().unwrap()).unwrap());
    assert!(at_node.delete_link("veth0").unwrap());
    assert!(!at_node.delete_link("veth0").unwrap());
    assert_eq!(at_pod.link("eth0").unwrap(), None);
}

#[test]
fn bridges_join_links() {
    if !root("bridges_join_links") {
        return;
    }
    let (fabric, left, right) =
        (Netns::anonymous("fabric").unwrap(), Netns::anonymous("left").unwrap(), Netns::anonymous("right").unwrap());
    let mut at_fabric = Netlink::open(&fabric).unwrap();
    at_fabric.create_bridge("br0").unwrap();
    at_fabric.set_up("br0").unwrap();
    for (port, netns, address) in [("p1", &left, "172.30.0.11/24"), ("p2", &right, "172.30.0.12/24")] {
        let ends =
            [VethEnd { name: port, mac: None, netns: None }, VethEnd { name: "uplink", mac: None, netns: Some(netns) }];
        at_fabric.create_veth(&Veth { ends, mtu: None }).unwrap();
        at_fabric.set_master(port, "br0").unwrap();
        at_fabric.set_up(port).unwrap();
        let mut netlink = Netlink::open(netns).unwrap();
        netlink.set_up("uplink").unwrap();
        netlink.add_address("uplink", address.parse().unwrap()).unwrap();
    }
    let at = SocketAddr::from(([172, 30, 0, 12], 80));
    let listener = right.run(|| TcpListener::bind(at).unwrap()).unwrap();
    left.run(|| TcpStream::connect_timeout(&at, Duration::from_secs(5)).unwrap()).unwrap();
    listener.accept().unwrap();
}
