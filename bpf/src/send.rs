//! Sends an answer in place of the packet that it answers.

use aya_ebpf::bindings::{BPF_F_INGRESS, BPF_F_RECOMPUTE_CSUM};
use aya_ebpf::helpers::{bpf_redirect, bpf_redirect_peer, bpf_skb_change_tail, bpf_skb_store_bytes};
use aya_ebpf::programs::TcContext;
use strait_packet::abi::action;
use strait_packet::parse::ETHERNET;
use strait_packet::respond::{MARK, Response};

/// To the pod that sent the packet, at the pod's end of the link.
#[inline(always)]
pub fn to_sender(ctx: &TcContext, response: &Response) -> i32 {
    if !become_answer(ctx, response) {
        return action::DROP;
    }
    // SAFETY: a valid context; takes and returns numbers.
    unsafe { bpf_redirect_peer((*ctx.skb.skb).ifindex, 0) as i32 }
}

/// To the node, as if the pod that was to receive the packet had answered it.
#[inline(always)]
pub fn for_pod(ctx: &TcContext, response: &Response) -> i32 {
    if !become_answer(ctx, response) {
        return action::DROP;
    }
    // SAFETY: a valid context, whose mark tc programs may write; takes and returns numbers.
    unsafe {
        (*ctx.skb.skb).mark = MARK;
        bpf_redirect((*ctx.skb.skb).ifindex, u64::from(BPF_F_INGRESS)) as i32
    }
}

/// Makes the packet the answer to itself. False if the kernel would not; the packet is then to be dropped.
#[inline(always)]
fn become_answer(ctx: &TcContext, response: &Response) -> bool {
    let len = response.len;
    if len == 0 || len as usize > size_of_val(&response.packet) {
        return false;
    }
    let skb = ctx.skb.skb;
    // SAFETY: a valid context; `len` bytes of the answer exist, as compared above; the frame was just made long enough.
    unsafe {
        bpf_skb_change_tail(skb, ETHERNET + len, 0) == 0
            && bpf_skb_store_bytes(skb, ETHERNET, response.packet.as_ptr().cast(), len, u64::from(BPF_F_RECOMPUTE_CSUM))
                == 0
            && bpf_skb_store_bytes(skb, 0, response.macs.as_ptr().cast(), 12, 0) == 0
    }
}
