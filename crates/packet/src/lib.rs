//! The packet engine: what a packet is, which connection it belongs to, whether it may pass.
//!
//! ```text
//!  bpf/ entry point ──┐                       ┌── kernel maps          (bpf/)
//!                     ├─ hooks::{from_pod,…} ─┤
//!  host tests, judges ┘   over Frame + Maps   └── host::MemoryMaps     (feature `host`)
//! ```
//!
//! `no_std`, no allocation, no clock, no I/O: bytes, map values and the time come in, a [`hooks::Verdict`] and
//! [`abi::Event`]s go out. The same source is compiled into the BPF object and into its tests.
//!
//! | module | holds |
//! |---|---|
//! | [`abi`] | the contract with user space: map keys and values, events, names, numbers |
//! | [`hooks`] | the walk of a packet at each hook, step by step |
//! | [`parse`] | IPv4, IPv6 and transport headers |
//! | [`neighbour`] | what ARP and neighbour discovery a pod may speak |
//! | `node` | the node itself as an endpoint: host policies |
//! | [`conntrack`] | the state of a connection and what one more packet does to it |
//! | [`policy`] | the verdict on a new connection |
//! | [`respond`] | what a denied connection hears |
//!
//! Written for the BPF verifier as much as for people: every loop is bounded by a constant, nothing is indexed by a value
//! from the wire, large values are filled in place.
#![cfg_attr(not(any(test, feature = "host")), no_std)]
#![expect(
    clippy::inline_always,
    reason = "the verifier follows values through inlined code; a call would hide bounds and spend the 512-byte stack"
)]

pub mod abi;
pub mod conntrack;
mod flow;
mod fragment;
mod frame;
pub mod hooks;
#[cfg(any(test, feature = "host"))]
pub mod host;
mod maps;
pub mod neighbour;
mod node;
pub mod parse;
pub mod policy;
mod related;
mod report;
pub mod respond;
mod shortcut;
mod track;

pub use flow::{Flow, Signal};
pub use frame::{Frame, Head};
pub use maps::Maps;
#[cfg(test)]
mod tests;
