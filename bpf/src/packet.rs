//! Bytes of a packet.

use aya_ebpf::programs::TcContext;
use strait_packet::Frame;

/// An `sk_buff`. Bytes are copied by helper, so it does not matter where a segmented or non-linear packet keeps them.
pub struct Skb<'a> {
    ctx: &'a TcContext,
}

impl<'a> Skb<'a> {
    /// Wraps the context of a program.
    #[inline(always)]
    pub fn new(ctx: &'a TcContext) -> Self {
        Self { ctx }
    }
}

impl Frame for Skb<'_> {
    #[inline(always)]
    fn len(&self) -> u32 {
        self.ctx.len()
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the kernel passes a valid context to every program; the field is readable for tc programs.
        unsafe { (*self.ctx.skb.skb).ifindex }
    }

    #[inline(always)]
    fn has_vlan_tag(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.ctx.skb.skb).vlan_present != 0 }
    }

    #[inline(always)]
    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]> {
        self.ctx.load(at as usize).ok()
    }

    #[inline(always)]
    fn byte(&self, at: u32) -> Option<u8> {
        self.ctx.load(at as usize).ok()
    }
}
