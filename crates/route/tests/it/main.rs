//! What comes of manifests: statuses, and who is served by whom.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy.toml does not see as tests")]

mod bed;
mod gateways;
mod listener_sets;
