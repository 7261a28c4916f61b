//! Two or more pods behind one router in namespaces of their own, for tests and benchmarks: with programs or without. Nothing
//! touches the host's interfaces; everything is gone when the value is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    kernel::Interface,
    netlink::{self, Mac, Netlink, Route, Veth, VethEnd},
    netns::{self, Netns},
    sysctl,
};

/// Where every pod sends what is not its own.
const GATEWAYS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1)), IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1))];

/// Pods and their router.
#[derive(Debug)]
pub struct Testbed {
    /// Where packets are routed, programs attached and the datapath opened.
    pub router: Netns,
    /// The pods.
    pub pods: Vec<Pod>,
}

/// One pod.
#[derive(Debug)]
pub struct Pod {
    /// Its namespace; its interface is `eth0`.
    pub netns: Netns,
    /// Its end in the router.
    pub interface: Interface,
    /// Hardware address of `eth0`.
    pub mac: [u8; 6],
    /// Hardware address of its end in the router.
    pub router_mac: [u8; 6],
    /// `10.0.0.<n>`, from 2 on.
    pub v4: IpAddr,
    /// `fd00::<n>`, from 2 on.
    pub v6: IpAddr,
}

/// The testbed cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A namespace.
    #[error(transparent)]
    Netns(#[from] netns::Error),
    /// A link, address or route.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// A setting.
    #[error(transparent)]
    Sysctl(#[from] sysctl::Error),
}

impl Testbed {
    /// Makes `pods` pods, at most 250, that reach each other through the router.
    pub fn new(pods: u8) -> Result<Self, Error> {
        let router = Netns::anonymous("router")?;
        router.run(sysctl::router)??;
        let mut at_router = Netlink::open(&router)?;
        at_router.set_up("lo")?;
        for address in
            [IpAddr::V4(Ipv4Addr::new(172, 30, 0, 1)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, 1))]
        {
            at_router.add_address("lo", address.into())?;
        }
        let pods = (2..)
            .take(pods.min(250).into())
            .map(|number| Pod::new(&mut at_router, number))
            .collect::<Result<_, _>>()?;
        Ok(Self { router, pods })
    }
}

impl Pod {
    fn new(at_router: &mut Netlink, number: u8) -> Result<Self, Error> {
        let name = format!("pod{number}");
        let netns = Netns::anonymous(&name)?;
        netns.run(sysctl::host)??;
        let (host_mac, mac) = (Mac([2, 0, 0, 0, 1, number]), Mac([2, 0, 0, 0, 2, number]));
        let ends = [
            VethEnd { name: &name, mac: Some(host_mac), netns: None },
            VethEnd { name: "eth0", mac: Some(mac), netns: Some(&netns) },
        ];
        at_router.create_veth(&Veth { ends, mtu: None })?;
        let mut at_pod = Netlink::open(&netns)?;
        at_router.set_up(&name)?;
        at_pod.set_up("lo")?;
        at_pod.set_up("eth0")?;
        let v4 = IpAddr::V4(Ipv4Addr::new(10, 0, 0, number));
        let v6 = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into()));
        for (address, gateway) in [v4, v6].into_iter().zip(GATEWAYS) {
            at_pod.add_address("eth0", address.into())?;
            at_pod.add_neighbour("eth0", gateway, host_mac)?;
            let all =
                if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
            let everywhere = ipnet::IpNet::new_assert(all, 0);
            at_pod.add_route(&Route::to_gateway(everywhere, gateway).on("eth0").onlink())?;
            at_router.add_neighbour(&name, address, mac)?;
            at_router.add_route(&Route::to_link(address.into(), &name))?;
        }
        let index = at_router.index(&name)?;
        Ok(Self { netns, interface: Interface { index, name }, mac: mac.0, router_mac: host_mac.0, v4, v6 })
    }
}
