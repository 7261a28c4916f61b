//! Entry points. Each hands the packet and the maps to `strait_packet::hooks` and returns its verdict; nothing is decided here.
#![no_std]
#![no_main]

mod maps;
mod packet;
mod send;

use aya_ebpf::helpers::bpf_redirect_peer;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use strait_packet::abi::action;
use strait_packet::hooks::{self, Verdict};

use crate::maps::KernelMaps;
use crate::packet::Skb;

/// Without the scratch slot, which always exists, nothing passes.
macro_rules! run {
    ($hook:path, $ctx:expr, $answer:path) => {
        match maps::scratch() {
            Some(scratch) => match $hook(&Skb::new(&$ctx), &mut KernelMaps, scratch) {
                Verdict::Drop(_) => match scratch.response() {
                    Some(response) => $answer(&$ctx, response),
                    None => action::DROP,
                },
                verdict => finish(verdict),
            },
            None => action::DROP,
        }
    };
}

/// What the program returns; for a delivery the kernel is told where to.
#[inline(always)]
fn finish(verdict: Verdict) -> i32 {
    if let Verdict::Deliver { ifindex } = verdict {
        // SAFETY: takes numbers. It notes the interface, and says to drop if it cannot.
        return unsafe { bpf_redirect_peer(ifindex, 0) } as i32;
    }
    verdict.action()
}

/// TCX ingress of a pod's host-side veth.
#[classifier]
pub fn from_pod(ctx: TcContext) -> i32 {
    run!(hooks::from_pod, ctx, send::to_sender)
}

/// TCX egress of a pod's host-side veth.
#[classifier]
pub fn to_pod(ctx: TcContext) -> i32 {
    run!(hooks::to_pod, ctx, send::for_pod)
}

/// TCX ingress of a node's uplink.
#[classifier]
pub fn from_uplink(ctx: TcContext) -> i32 {
    match maps::scratch() {
        Some(scratch) => finish(hooks::from_uplink(&Skb::new(&ctx), &mut KernelMaps, scratch)),
        None => action::DROP,
    }
}

/// TCX egress of a node's uplink.
#[classifier]
pub fn to_uplink(ctx: TcContext) -> i32 {
    match maps::scratch() {
        Some(scratch) => finish(hooks::to_uplink(&Skb::new(&ctx), &mut KernelMaps, scratch)),
        None => action::DROP,
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses the loop: a program that can panic does not load.
    loop {}
}

// Helpers that are open to GPL-compatible programs only are not used, but the kernel asks for a licence string.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
