use std::{
    fmt,
    os::fd::{AsFd, AsRawFd},
    str::FromStr,
};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
};

use super::{Error, Netlink};
use crate::netns::Netns;

/// A hardware address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Mac(pub [u8; 6]);

/// `02:00:00:00:00:01`.
impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if index == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// The text is no hardware address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a hardware address (six bytes in hexadecimal, as in 02:00:00:00:00:01)")]
pub struct NotMac;

impl FromStr for Mac {
    type Err = NotMac;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(NotMac)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| NotMac)?;
        }
        if parts.next().is_some() { Err(NotMac) } else { Ok(Self(bytes)) }
    }
}

/// One end of a veth pair to be made.
#[derive(Clone, Debug)]
pub struct VethEnd<'a> {
    /// Interface name, at most 15 bytes.
    pub name: &'a str,
    /// Hardware address; the kernel draws one where absent.
    pub mac: Option<Mac>,
    /// Where the end goes; where absent, the namespace of the [`Netlink`].
    pub netns: Option<&'a Netns>,
}

/// A veth pair to be made.
#[derive(Clone, Debug)]
pub struct Veth<'a> {
    /// The two ends.
    pub ends: [VethEnd<'a>; 2],
    /// MTU of both ends, bytes; the kernel's default (1500) where absent.
    pub mtu: Option<u32>,
}

/// An interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address, where it has one of six bytes.
    pub mac: Option<Mac>,
    /// MTU, bytes.
    pub mtu: u32,
    /// Set up by an administrator.
    pub up: bool,
    /// `veth`, `bridge` …; empty for loopback and hardware.
    pub kind: String,
}

impl Netlink {
    /// Makes a veth pair, both ends down. Fails where one of the names is taken.
    pub fn create_veth(&mut self, veth: &Veth<'_>) -> Result<(), Error> {
        let [near, far] = &veth.ends;
        let mut peer = LinkMessage::default();
        peer.attributes = end_attributes(far, veth.mtu)?;
        let mut message = LinkMessage::default();
        message.attributes = end_attributes(near, veth.mtu)?;
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL, || {
            format!("make veth pair {} - {}{}", near.name, far.name, place(far))
        })
    }

    /// Makes a bridge, down. Fails where the name is taken.
    pub fn create_bridge(&mut self, name: &str) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(checked(name)?),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ];
        self.request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL, || format!("make bridge {name}"))
    }

    /// Makes `interface` a port of `bridge`.
    pub fn set_master(&mut self, interface: &str, bridge: &str) -> Result<(), Error> {
        let operation = || format!("make {interface} a port of {bridge}");
        let master = self.index_for(bridge, operation)?;
        self.change(interface, LinkAttribute::Controller(master), operation)
    }

    /// Sets an interface up.
    pub fn set_up(&mut self, interface: &str) -> Result<(), Error> {
        let mut message = named(interface)?;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(message), 0, || format!("set {interface} up"))
    }

    /// Sets an interface down.
    pub fn set_down(&mut self, interface: &str) -> Result<(), Error> {
        let mut message = named(interface)?;
        message.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(message), 0, || format!("set {interface} down"))
    }

    /// Sets an interface's MTU, bytes.
    pub fn set_mtu(&mut self, interface: &str, mtu: u32) -> Result<(), Error> {
        self.change(interface, LinkAttribute::Mtu(mtu), || format!("set the MTU of {interface} to {mtu}"))
    }

    /// Sets an interface's hardware address.
    pub fn set_mac(&mut self, interface: &str, mac: Mac) -> Result<(), Error> {
        self.change(interface, LinkAttribute::Address(mac.0.to_vec()), || {
            format!("set the hardware address of {interface} to {mac}")
        })
    }

    fn change(
        &mut self,
        interface: &str,
        attribute: LinkAttribute,
        operation: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        let mut message = named(interface)?;
        message.attributes.push(attribute);
        self.request(RouteNetlinkMessage::SetLink(message), 0, operation)
    }

    /// Deletes an interface; a veth takes its peer with it. False where there was none.
    pub fn delete_link(&mut self, interface: &str) -> Result<bool, Error> {
        let deleted =
            self.request(RouteNetlinkMessage::DelLink(named(interface)?), 0, || format!("delete {interface}"));
        match deleted {
            Err(Error::Refused { source, .. }) if is_no_device(&source) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// The interface of that name, if there is one.
    pub fn link(&mut self, interface: &str) -> Result<Option<Link>, Error> {
        let answer =
            self.exchange(RouteNetlinkMessage::GetLink(named(interface)?), netlink_packet_core::NLM_F_ACK, || {
                format!("look up {interface}")
            });
        match answer {
            Err(Error::Refused { source, .. }) if is_no_device(&source) => Ok(None),
            other => Ok(other?.into_iter().find_map(read_link)),
        }
    }

    /// Every interface, in order of their indices.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let answer =
            self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), || "list the interfaces".to_owned())?;
        let mut links: Vec<Link> = answer.into_iter().filter_map(read_link).collect();
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// The index of an interface.
    pub fn index(&mut self, interface: &str) -> Result<u32, Error> {
        self.index_for(interface, || format!("look up {interface}"))
    }

    pub(super) fn index_for(&mut self, interface: &str, operation: impl FnOnce() -> String) -> Result<u32, Error> {
        match self.link(interface)? {
            Some(link) => Ok(link.index),
            None => Err(Error::NoInterface {
                netns: self.netns.clone(),
                operation: operation(),
                interface: interface.to_owned(),
            }),
        }
    }
}

fn place(end: &VethEnd<'_>) -> String {
    end.netns.map(|netns| format!(" in {}", netns.label())).unwrap_or_default()
}

fn is_no_device(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32)
}

fn named(interface: &str) -> Result<LinkMessage, Error> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(checked(interface)?));
    Ok(message)
}

/// The kernel's `dev_valid_name`.
fn checked(name: &str) -> Result<String, Error> {
    let fits = (1..=15).contains(&name.len()) && name != "." && name != "..";
    if fits && !name.contains(|c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace()) {
        Ok(name.to_owned())
    } else {
        Err(Error::InvalidName(name.to_owned()))
    }
}

fn end_attributes(end: &VethEnd<'_>, mtu: Option<u32>) -> Result<Vec<LinkAttribute>, Error> {
    let mut attributes = vec![LinkAttribute::IfName(checked(end.name)?)];
    attributes.extend(end.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    attributes.extend(mtu.map(LinkAttribute::Mtu));
    attributes.extend(end.netns.map(|netns| LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd())));
    Ok(attributes)
}

fn read_link(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else { return None };
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        kind: String::new(),
    };
    for attribute in message.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            link.name = name;
        } else if let LinkAttribute::Address(bytes) = attribute {
            link.mac = bytes.try_into().ok().map(Mac);
        } else if let LinkAttribute::Mtu(mtu) = attribute {
            link.mtu = mtu;
        } else if let LinkAttribute::LinkInfo(parts) = attribute {
            for part in parts {
                if let LinkInfo::Kind(kind) = part {
                    link.kind = kind.to_string();
                }
            }
        }
    }
    Some(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses() {
        for (text, expected) in [
            ("02:00:5e:10:00:ff", Ok(Mac([2, 0, 0x5e, 0x10, 0, 0xff]))),
            ("02:00:5e:10:00", Err(NotMac)),
            ("02:00:5e:10:00:ff:01", Err(NotMac)),
            ("2:0:5e:10:0:ff", Err(NotMac)),
            ("02:00:5e:10:00:fg", Err(NotMac)),
            ("", Err(NotMac)),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
            if let Ok(mac) = expected {
                assert_eq!(mac.to_string(), text);
            }
        }
    }

    #[test]
    fn names() {
        for (name, valid) in [
            ("eth0", true),
            ("", false),
            ("a/b", false),
            ("a b", false),
            (".", false),
            ("a.b", true),
            ("sixteen-bytes-xx", false),
        ] {
            assert_eq!(checked(name).is_ok(), valid, "{name}");
        }
    }
}
