/// One packet as the kernel hands it over, from its Ethernet header on.
#[expect(clippy::len_without_is_empty, reason = "a frame is never empty")]
pub trait Frame {
    /// Length in bytes, Ethernet header included.
    fn len(&self) -> u32;

    /// Index of the interface it is seen at.
    fn ifindex(&self) -> u32;

    /// True if a VLAN tag was taken off and kept beside the bytes.
    fn has_vlan_tag(&self) -> bool;

    /// The mark that the node gave it.
    fn mark(&self) -> u32;

    /// The `4 * N` bytes at `at`, as words in wire order; `None` past the end.
    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]>;

    /// The byte at `at`; `None` past the end.
    fn byte(&self, at: u32) -> Option<u8>;

    /// True if its hardware address says that it is for the interface it is seen at.
    fn is_for_host(&self) -> bool;

    /// Replaces the frame's first bytes, words in wire order as from [`words`](Self::words). `sum_change` is added to the sum
    /// over what follows the Ethernet header, for who has one. False if that cannot be done; the frame is as before then.
    fn replace_head(&self, head: &Head, sum_change: u32) -> bool;
}

/// The Ethernet header and as much of the IP header as a router changes.
pub type Head = [u32; 7];

/// Half a word as read from the wire: its first or last two bytes, in wire order.
#[inline(always)]
pub(crate) fn halves(word: u32) -> (u16, u16) {
    let [a, b, c, d] = word.to_ne_bytes();
    (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]))
}

/// The four bytes of a word as read from the wire.
#[inline(always)]
pub(crate) fn bytes(word: u32) -> [u8; 4] {
    word.to_ne_bytes()
}

/// A hardware address from its three pairs of bytes.
#[inline(always)]
pub(crate) fn join(first: u16, second: u16, third: u16) -> [u8; 6] {
    let (first, second, third) = (first.to_ne_bytes(), second.to_ne_bytes(), third.to_ne_bytes());
    [first[0], first[1], second[0], second[1], third[0], third[1]]
}
