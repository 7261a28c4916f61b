//! The tables that programs and user space share, as types: key, value and name of each map of [`strait_packet::abi`].

use strait_packet::abi::{
    Addr, CtEntry, CtKey, DropKey, DropSeen, Endpoint, FragmentKey, FragmentPorts, IpcacheKey, IpcacheValue, PolicyKey,
    PolicyValue, PortRule, PortSetKey, map,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bytes that the kernel may copy in and out: no padding, every bit pattern valid.
pub trait Plain: FromBytes + IntoBytes + Immutable + Copy + Eq + Send + Sync + 'static {}

impl<T: FromBytes + IntoBytes + Immutable + Copy + Eq + Send + Sync + 'static> Plain for T {}

/// One table.
pub trait Table: 'static {
    /// Its name in the object and under the pins.
    const NAME: &'static str;
    /// What finds an entry.
    type Key: Plain + Ord;
    /// The entry.
    type Value: Plain;
    /// What is behind the prefix length in the key of a longest-prefix table; the whole key of a hash.
    type Lookup: Plain;
    /// Whether the longest prefix decides.
    const LONGEST_PREFIX: bool;

    /// Prefix length (0 for a hash) and the rest of a key.
    fn split(key: Self::Key) -> (u32, Self::Lookup);

    /// The key that [`split`](Self::split) took apart.
    fn join(prefix_len: u32, lookup: Self::Lookup) -> Self::Key;
}

macro_rules! hashes {
    ($($(#[$doc:meta])* $table:ident = $name:expr, $key:ty => $value:ty;)*) => {
        $($(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $table;

        impl Table for $table {
            const NAME: &'static str = $name;
            type Key = $key;
            type Value = $value;
            type Lookup = $key;
            const LONGEST_PREFIX: bool = false;

            fn split(key: Self::Key) -> (u32, Self::Lookup) {
                (0, key)
            }

            fn join(_prefix_len: u32, lookup: Self::Lookup) -> Self::Key {
                lookup
            }
        })*
    };
}

hashes! {
    /// Interface index of the host-side veth to the pod behind it.
    Endpoints = map::ENDPOINTS, u32 => Endpoint;
    /// Subject, direction and peer to a port set.
    Policy = map::POLICY, PolicyKey => PolicyValue;
    /// Connections.
    Conntrack = map::CONNTRACK, CtKey => CtEntry;
    /// Datagrams whose fragments are on their way.
    Fragments = map::FRAGMENTS, FragmentKey => FragmentPorts;
    /// Drops that are being summed up.
    DropsSeen = map::DROP_SEEN, DropKey => DropSeen;
}

/// Address prefix to identity.
#[derive(Clone, Copy, Debug)]
pub struct Ipcache;

impl Table for Ipcache {
    const NAME: &'static str = map::IPCACHE;
    type Key = IpcacheKey;
    type Value = IpcacheValue;
    type Lookup = Addr;
    const LONGEST_PREFIX: bool = true;

    fn split(key: IpcacheKey) -> (u32, Addr) {
        (key.prefix_len, key.addr)
    }

    fn join(prefix_len: u32, addr: Addr) -> IpcacheKey {
        IpcacheKey { prefix_len, addr }
    }
}

/// Port set, protocol and port prefix to a rule.
#[derive(Clone, Copy, Debug)]
pub struct PortSets;

impl Table for PortSets {
    const NAME: &'static str = map::PORT_SETS;
    type Key = PortSetKey;
    type Value = PortRule;
    /// [`PortSetKey`] without its prefix length: port set, then protocol, port, padding.
    type Lookup = [[u8; 4]; 2];
    const LONGEST_PREFIX: bool = true;

    fn split(key: PortSetKey) -> (u32, [[u8; 4]; 2]) {
        let [high, low] = key.port;
        (key.prefix_len, [key.port_set.to_ne_bytes(), [key.protocol, high, low, key.pad]])
    }

    fn join(prefix_len: u32, [set, [protocol, high, low, pad]]: [[u8; 4]; 2]) -> PortSetKey {
        PortSetKey { prefix_len, port_set: u32::from_ne_bytes(set), protocol, port: [high, low], pad }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_split_into_the_bytes_the_kernel_sees() {
        let key = PortSetKey::port_prefix(7, 6, 0x1f90, 12);
        let (prefix_len, lookup) = PortSets::split(key);
        assert_eq!([prefix_len.as_bytes(), lookup.as_bytes()].concat(), key.as_bytes());
        assert_eq!(PortSets::join(prefix_len, lookup), key);

        let key = IpcacheKey { prefix_len: 104, addr: Addr::from(std::net::Ipv4Addr::new(10, 0, 0, 0)) };
        let (prefix_len, lookup) = Ipcache::split(key);
        assert_eq!([prefix_len.as_bytes(), lookup.as_bytes()].concat(), key.as_bytes());
        assert_eq!(Ipcache::join(prefix_len, lookup), key);
    }
}
