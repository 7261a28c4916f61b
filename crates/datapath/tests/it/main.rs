//! Needs root: real namespaces, links and, where the BPF object was built, real programs. Nothing touches the host's own
//! interfaces.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod bed;
mod cost;
mod grow;
mod links;
mod packets;
mod plan;
mod reconcile;
mod restart;
mod trials;
mod upgrade;
mod vectors;

/// True as root and with a BPF object. Elsewhere says so, as [`root`] does.
fn kernel(test: &str) -> bool {
    if !root(test) {
        return false;
    }
    let object = strait_datapath::available();
    if !object {
        assert!(
            std::env::var_os("STRAIT_REQUIRE_BPF").is_none(),
            "{test} needs the BPF object (cargo xtask bpf) and STRAIT_REQUIRE_BPF is set"
        );
        eprintln!("SKIPPED {test}: it needs the BPF object; build it with `cargo xtask bpf`");
    }
    object
}

/// True as root. Elsewhere says loudly that `test` did not run, unless `STRAIT_REQUIRE_ROOT` is set, as it is in CI.
fn root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("STRAIT_REQUIRE_ROOT").is_none(), "{test} needs root and STRAIT_REQUIRE_ROOT is set");
        eprintln!("SKIPPED {test}: it needs root");
    }
    root
}
