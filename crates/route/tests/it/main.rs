//! What comes of manifests: statuses, and who is served by whom.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy.toml does not see as tests")]

mod addresses;
mod bed;
mod changes;
mod conditions;
mod default_gateways;
mod gateways;
mod istio;
mod istio_routes;
mod istio_servers;
mod listener_sets;
mod matching;
mod merging;
mod policies;
mod reasons;
mod rewrites;
mod routes;
mod scale;
mod times;
