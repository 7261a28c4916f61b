//! What the model says of whole clusters.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]
#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

mod cilium;
mod compiled;
mod explained;
mod judged;
mod named;
mod support;
mod tiers;
