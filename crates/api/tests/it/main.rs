//! Parsing and the directory source, as a user meets them.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy.toml does not see as tests")]

mod cilium;
mod istio;
mod malformed;
mod manifests;
mod robust;
mod source;
