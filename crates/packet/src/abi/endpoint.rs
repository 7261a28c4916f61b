use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Addr;

/// Addresses one endpoint may send from.
pub const ENDPOINT_ADDRS: usize = 4;

/// A local pod, found by the index of its host-side veth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Endpoint {
    /// Node-local endpoint id, as in events.
    pub id: u32,
    /// Security identity; the policy subject.
    pub identity: u32,
    /// Hardware address of the pod's end of the veth.
    pub mac: [u8; 6],
    /// How many of `addrs` are set.
    pub addr_count: u8,
    /// Zero.
    pub pad: u8,
    /// The pod's own addresses; the pod sends from no other.
    pub addrs: [Addr; ENDPOINT_ADDRS],
}

impl Endpoint {
    /// True if `addr` is one of the endpoint's own.
    #[inline(always)]
    pub fn owns(&self, addr: Addr) -> bool {
        let mut found = false;
        for (i, own) in self.addrs.iter().enumerate() {
            found |= i < self.addr_count as usize && *own == addr;
        }
        found
    }
}

/// Key of `IPCACHE`: a prefix; IPv4 `/n` is `96 + n` of the mapped address. Look up with 128.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IpcacheKey {
    /// Leading bits of `addr` that count, 0..=128.
    pub prefix_len: u32,
    /// The address; bits behind the prefix are zero.
    pub addr: Addr,
}

impl IpcacheKey {
    /// The key that finds the longest prefix over one address.
    #[inline(always)]
    pub const fn exact(addr: Addr) -> Self {
        Self { prefix_len: 128, addr }
    }
}

/// Who is behind a prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IpcacheValue {
    /// Security identity; the policy peer.
    pub identity: u32,
    /// See [`ipcache_flags`].
    pub flags: u32,
    /// Address of the node that hosts it; [`Addr::UNSPECIFIED`] if none does.
    pub node: Addr,
}

/// Bits of [`IpcacheValue::flags`].
pub mod ipcache_flags {
    /// An endpoint of this node: nothing from an uplink may claim it as source.
    pub const LOCAL_ENDPOINT: u32 = 1;
    /// An address of this node itself: nothing from an uplink may claim it as source.
    pub const HOST: u32 = 1 << 1;
    /// An address of another node.
    pub const REMOTE_NODE: u32 = 1 << 2;
}
