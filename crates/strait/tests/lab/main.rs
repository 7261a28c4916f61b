//! The lab as its users see it. Needs root and the BPF object; everything happens in network namespaces that the tests
//! make.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod bed;
mod changes;
mod chaos;
mod evasion;
mod host;
mod lifecycle;
mod places;
mod policy;
mod random;
mod responses;
mod survival;
mod upstream;
