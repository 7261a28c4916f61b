//! Needs root: real namespaces, links and, where the BPF object was built, real programs. Nothing touches the host's own
//! interfaces.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod links;
mod plan;
mod reconcile;

/// True as root. Elsewhere says loudly that `test` did not run, unless `STRAIT_REQUIRE_ROOT` is set, as it is in CI.
fn root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("STRAIT_REQUIRE_ROOT").is_none(), "{test} needs root and STRAIT_REQUIRE_ROOT is set");
        eprintln!("SKIPPED {test}: it needs root");
    }
    root
}
