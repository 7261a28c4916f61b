//! The packet engine: what a packet is, which connection it belongs to, whether it may pass.
//!
//! ```text
//!  bpf/ entry point ──┐                       ┌── kernel maps          (bpf/)
//!                     ├─ hooks::{from_pod,…} ─┤
//!  host tests, judges ┘   over traits         └── maps in memory       (feature `host`)
//! ```
//!
//! `no_std`, no allocation, no clock, no I/O: bytes, map values and the time come in, a verdict and
//! [`abi::Event`]s go out. The same source is compiled into the BPF object and into its tests.
//!
//! [`abi`] is the contract with user space: layouts of map keys, values and events, names of maps and programs.
#![cfg_attr(not(any(test, feature = "host")), no_std)]

pub mod abi;
