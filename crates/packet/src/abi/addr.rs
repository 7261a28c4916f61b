use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An address: 16 bytes in network order, IPv4 as `::ffff:a.b.c.d`.
///
/// Held as four words so that BPF, which has no unaligned loads, compares and copies words and not bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Addr(pub [u32; 4]);

const V4_MARK: u32 = 0xffff_u32.to_be();

impl Addr {
    /// `::`
    pub const UNSPECIFIED: Self = Self([0; 4]);

    /// From the four network-order bytes of an IPv4 address, as a word read from the wire.
    #[inline(always)]
    pub const fn from_v4_word(word: u32) -> Self {
        Self([0, 0, V4_MARK, word])
    }

    /// From 16 network-order bytes.
    #[inline(always)]
    pub const fn from_bytes(b: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([b[0], b[1], b[2], b[3]]),
            u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
            u32::from_ne_bytes([b[8], b[9], b[10], b[11]]),
            u32::from_ne_bytes([b[12], b[13], b[14], b[15]]),
        ])
    }

    /// The 16 bytes in network order.
    pub fn bytes(self) -> [u8; 16] {
        let mut out = [0; 16];
        for (chunk, word) in out.chunks_exact_mut(4).zip(self.0) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        out
    }

    /// True for `::ffff:0:0/96`.
    #[inline(always)]
    pub const fn is_v4_mapped(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == V4_MARK
    }

    /// True for `fe80::/10`.
    #[inline(always)]
    pub const fn is_link_local_v6(self) -> bool {
        u32::from_be(self.0[0]) & 0xffc0_0000 == 0xfe80_0000
    }

    /// True for `ff00::/8`, `224.0.0.0/4` and `255.255.255.255`.
    #[inline(always)]
    pub const fn is_multicast(self) -> bool {
        if self.is_v4_mapped() {
            let v4 = u32::from_be(self.0[3]);
            v4 >> 28 == 0xe || v4 == u32::MAX
        } else {
            u32::from_be(self.0[0]) >> 24 == 0xff
        }
    }

    /// True for `ff02::/16`: multicast that no router forwards.
    #[inline(always)]
    pub const fn is_link_scope_multicast(self) -> bool {
        u32::from_be(self.0[0]) >> 16 == 0xff02
    }

    /// True for `127.0.0.0/8` and `::1`.
    #[inline(always)]
    pub const fn is_loopback(self) -> bool {
        if self.is_v4_mapped() {
            u32::from_be(self.0[3]) >> 24 == 127
        } else {
            self.0[0] | self.0[1] | self.0[2] == 0 && self.0[3] == 1_u32.to_be()
        }
    }

    /// True for `::`.
    #[inline(always)]
    pub const fn is_unspecified(self) -> bool {
        self.0[0] | self.0[1] | self.0[2] | self.0[3] == 0
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::from_bytes(v4.to_ipv6_mapped().octets()),
            IpAddr::V6(v6) => Self::from_bytes(v6.octets()),
        }
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(ip: Ipv4Addr) -> Self {
        IpAddr::V4(ip).into()
    }
}

impl From<Ipv6Addr> for Addr {
    fn from(ip: Ipv6Addr) -> Self {
        IpAddr::V6(ip).into()
    }
}

impl From<Addr> for IpAddr {
    fn from(addr: Addr) -> Self {
        Ipv6Addr::from(addr.bytes()).to_canonical()
    }
}

/// A port, or what stands in its place, in network byte order.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Port(u16);

impl Port {
    /// No port.
    pub const ZERO: Self = Self(0);

    /// From the number.
    #[inline(always)]
    pub const fn new(number: u16) -> Self {
        Self(number.to_be())
    }

    /// From two bytes as they were read from the wire into a word.
    #[inline(always)]
    pub const fn from_wire(word: u16) -> Self {
        Self(word)
    }

    /// The number.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }

    /// The two bytes in network order.
    #[inline(always)]
    pub const fn bytes(self) -> [u8; 2] {
        self.0.to_ne_bytes()
    }
}
