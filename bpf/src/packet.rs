//! Bytes of a packet.

use core::hint::black_box;

use aya_ebpf::helpers::bpf_csum_update;
use aya_ebpf::programs::TcContext;
use strait_packet::{Frame, Head};

/// Headers end before this; the verifier wants a bound on what is added to a packet pointer.
const REACH: u32 = 1 << 11;

/// An `sk_buff`. Headers are read where they lie if they are in its linear part, as they are but for odd packets; else they are
/// pulled into it first.
pub struct Skb<'a> {
    ctx: &'a TcContext,
}

impl<'a> Skb<'a> {
    /// Wraps the context of a program.
    #[inline(always)]
    pub fn new(ctx: &'a TcContext) -> Self {
        Self { ctx }
    }

    /// Where `len` bytes at `at` lie, inside the packet; `None` past its end or further in than headers reach.
    #[inline(always)]
    fn at(&self, at: u32, len: usize) -> Option<usize> {
        if at >= REACH {
            return None;
        }
        // Opaque, so that the pointer that is compared and the pointer that is read stay one, as the verifier needs it.
        let mut start = black_box(self.ctx.data() + at as usize);
        if start + len > self.ctx.data_end() {
            self.ctx.pull_data(at + len as u32).ok()?;
            start = black_box(self.ctx.data() + at as usize);
            if start + len > self.ctx.data_end() {
                return None;
            }
        }
        Some(start)
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
    fn mark(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.ctx.skb.skb).mark }
    }

    #[inline(always)]
    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]> {
        let start = self.at(at, 4 * N)? as *const [u32; N];
        // SAFETY: `at` has compared the bytes to the packet's end; every bit pattern is a word.
        Some(unsafe { start.read_unaligned() })
    }

    #[inline(always)]
    fn byte(&self, at: u32) -> Option<u8> {
        // By helper: the walks that go byte by byte would make the verifier follow the offset of each.
        self.ctx.load(at as usize).ok()
    }

    #[inline(always)]
    fn is_for_host(&self) -> bool {
        const PACKET_HOST: u32 = 0;
        // SAFETY: as in `ifindex`.
        unsafe { (*self.ctx.skb.skb).pkt_type == PACKET_HOST }
    }

    #[inline(always)]
    fn replace_head(&self, head: &Head, sum_change: u32) -> bool {
        // By helper: programs that write through the pointer have every packet made writable, not those that need it alone.
        if self.ctx.store(0, head, 0).is_err() {
            return false;
        }
        if sum_change != 0 {
            // SAFETY: the context is valid. It refuses where the packet has no sum to change.
            let _ = unsafe { bpf_csum_update(self.ctx.skb.skb, sum_change) };
        }
        true
    }
}
