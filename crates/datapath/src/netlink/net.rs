use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope as Scope,
        RouteType, RouteVia,
    },
};

use super::{Error, Mac, Netlink};

/// How far the destinations of a route are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RouteScope {
    /// Behind a gateway, or wherever the kernel takes them to be.
    #[default]
    Universe,
    /// On the link itself.
    Link,
}

/// A route in the main table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route<'a> {
    /// Which destinations it is for; `0.0.0.0/0` and `::/0` for every one.
    pub destination: IpNet,
    /// The next hop; of the other family it needs `device`.
    pub via: Option<IpAddr>,
    /// The interface to leave by.
    pub device: Option<&'a str>,
    /// The source address of what this host sends along it.
    pub source: Option<IpAddr>,
    /// Take the next hop to be on the link whatever the addresses say.
    pub onlink: bool,
    /// How far the destinations are.
    pub scope: RouteScope,
}

impl<'a> Route<'a> {
    /// `destination dev device scope link`.
    pub const fn to_link(destination: IpNet, device: &'a str) -> Self {
        Self { destination, via: None, device: Some(device), source: None, onlink: false, scope: RouteScope::Link }
    }

    /// `destination via via`.
    pub const fn to_gateway(destination: IpNet, via: IpAddr) -> Self {
        Self { destination, via: Some(via), device: None, source: None, onlink: false, scope: RouteScope::Universe }
    }

    /// `… dev device`.
    #[must_use]
    pub const fn on(self, device: &'a str) -> Self {
        Self { device: Some(device), ..self }
    }

    /// `… src source`.
    #[must_use]
    pub const fn from(self, source: IpAddr) -> Self {
        Self { source: Some(source), ..self }
    }

    /// `… onlink`.
    #[must_use]
    pub const fn onlink(self) -> Self {
        Self { onlink: true, ..self }
    }
}

/// As `ip route` writes it.
impl fmt::Display for Route<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.destination)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(device) = self.device {
            write!(f, " dev {device}")?;
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        if self.onlink {
            write!(f, " onlink")?;
        }
        Ok(())
    }
}

impl Netlink {
    /// Gives an interface an address; usable at once, without duplicate address detection.
    pub fn add_address(&mut self, interface: &str, address: IpNet) -> Result<(), Error> {
        let operation = || format!("add address {address} to {interface}");
        let message = self.address_message(interface, address, operation)?;
        self.request(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE, operation)
    }

    /// Takes an address from an interface. False where it did not have it.
    pub fn delete_address(&mut self, interface: &str, address: IpNet) -> Result<bool, Error> {
        let operation = || format!("delete address {address} from {interface}");
        let message = self.address_message(interface, address, operation)?;
        absent_is_false(
            self.request(RouteNetlinkMessage::DelAddress(message), 0, operation),
            nix::errno::Errno::EADDRNOTAVAIL,
        )
    }

    /// Addresses of an interface, or of every one.
    pub fn addresses(&mut self, interface: Option<&str>) -> Result<Vec<IpNet>, Error> {
        let operation = || format!("list the addresses of {}", interface.unwrap_or("every interface"));
        let index = interface.map(|name| self.index_for(name, operation)).transpose()?;
        let listed = self.listed_addresses(operation)?;
        let mut addresses: Vec<_> = listed
            .into_iter()
            .filter(|(at, _)| index.is_none_or(|index| index == *at))
            .map(|(_, address)| address)
            .collect();
        addresses.sort();
        Ok(addresses)
    }

    /// The addresses by which others may reach what runs here, in order: without loopback, without those that hold on one link alone, and
    /// without those of the interfaces of these names.
    pub fn own_addresses(&mut self, except: &[&str]) -> Result<Vec<IpAddr>, Error> {
        let mut excepted = Vec::new();
        for name in except {
            excepted.extend(self.link(name)?.map(|link| link.index));
        }
        let listed = self.listed_addresses(|| "list the addresses of every interface".to_owned())?;
        let is_own = |address: &IpAddr| match address {
            IpAddr::V4(address) => !address.is_loopback() && !address.is_unspecified() && !address.is_multicast(),
            IpAddr::V6(address) => {
                !address.is_loopback()
                    && !address.is_unspecified()
                    && !address.is_multicast()
                    && !address.is_unicast_link_local()
            }
        };
        let kept = listed.into_iter().filter(|(at, _)| !excepted.contains(at)).map(|(_, address)| address.addr());
        let mut addresses: Vec<_> = kept.filter(is_own).collect();
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses)
    }

    /// Each address, and the index of its interface.
    fn listed_addresses(&mut self, operation: impl FnOnce() -> String) -> Result<Vec<(u32, IpNet)>, Error> {
        let answer = self.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()), operation)?;
        let mut addresses = Vec::new();
        for message in answer {
            let RouteNetlinkMessage::NewAddress(message) = message else { continue };
            // On a point-to-point link `Address` is the other side's.
            let (mut local, mut plain) = (None, None);
            for attribute in &message.attributes {
                if let AddressAttribute::Local(address) = attribute {
                    local = Some(*address);
                } else if let AddressAttribute::Address(address) = attribute {
                    plain = Some(*address);
                }
            }
            let address = local.or(plain).and_then(|address| IpNet::new(address, message.header.prefix_len).ok());
            addresses.extend(address.map(|address| (message.header.index, address)));
        }
        Ok(addresses)
    }

    fn address_message(
        &mut self,
        interface: &str,
        address: IpNet,
        operation: impl FnOnce() -> String,
    ) -> Result<AddressMessage, Error> {
        let mut message = AddressMessage::default();
        message.header.family = family(address.addr());
        message.header.prefix_len = address.prefix_len();
        message.header.index = self.index_for(interface, operation)?;
        message.attributes = vec![AddressAttribute::Local(address.addr()), AddressAttribute::Address(address.addr())];
        if address.addr().is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        Ok(message)
    }

    /// Adds a route, in place of one for the same destination.
    pub fn add_route(&mut self, route: &Route<'_>) -> Result<(), Error> {
        let operation = || format!("add route {route}");
        let message = self.route_message(route, operation)?;
        self.request(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE, operation)
    }

    /// Deletes a route. False where there was none like it.
    pub fn delete_route(&mut self, route: &Route<'_>) -> Result<bool, Error> {
        let operation = || format!("delete route {route}");
        let mut message = match self.route_message(route, operation) {
            // Routes go with their interface.
            Err(Error::NoInterface { .. }) => return Ok(false),
            message => message?,
        };
        message.header.scope = Scope::NoWhere;
        absent_is_false(self.request(RouteNetlinkMessage::DelRoute(message), 0, operation), nix::errno::Errno::ESRCH)
    }

    fn route_message(&mut self, route: &Route<'_>, operation: impl FnOnce() -> String) -> Result<RouteMessage, Error> {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(route.destination.addr()),
            destination_prefix_length: route.destination.prefix_len(),
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Static,
            scope: match route.scope {
                RouteScope::Universe => Scope::Universe,
                RouteScope::Link => Scope::Link,
            },
            kind: RouteType::Unicast,
            flags: if route.onlink { RouteFlags::Onlink } else { RouteFlags::empty() },
            ..RouteHeader::default()
        };
        let attributes = &mut message.attributes;
        if route.destination.prefix_len() > 0 {
            attributes.push(RouteAttribute::Destination(RouteAddress::from(route.destination.network())));
        }
        match (route.via, route.destination) {
            (None, _) => {}
            (Some(IpAddr::V6(via)), IpNet::V4(_)) => attributes.push(RouteAttribute::Via(RouteVia::Inet6(via))),
            (Some(via), _) => attributes.push(RouteAttribute::Gateway(RouteAddress::from(via))),
        }
        attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(RouteAddress::from(source))));
        if let Some(device) = route.device {
            attributes.push(RouteAttribute::Oif(self.index_for(device, operation)?));
        }
        Ok(message)
    }

    /// Says, for good, which hardware address a neighbour on `interface` has.
    pub fn add_neighbour(&mut self, interface: &str, address: IpAddr, mac: Mac) -> Result<(), Error> {
        let operation = || format!("add neighbour {address} at {mac} on {interface}");
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = self.index_for(interface, operation)?;
        message.header.state = NeighbourState::Permanent;
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![
            NeighbourAttribute::Destination(match address {
                IpAddr::V4(address) => NeighbourAddress::Inet(address),
                IpAddr::V6(address) => NeighbourAddress::Inet6(address),
            }),
            NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
        ];
        self.request(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE, operation)
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn absent_is_false(result: Result<(), Error>, absent: nix::errno::Errno) -> Result<bool, Error> {
    match result {
        Err(Error::Refused { source, .. }) if source.raw_os_error() == Some(absent as i32) => Ok(false),
        other => other.map(|()| true),
    }
}
