//! What CI checks, in the order of how soon it fails.

use anyhow::{Result, ensure};

use crate::{
    bpf, demo, grpc,
    run::{cargo, now, printed, shown, step, words},
};

/// A test that cannot run for want of these says so elsewhere; here it fails.
const REQUIRED: [(&str, &str); 3] =
    [("STRAIT_REQUIRE_ROOT", "1"), ("STRAIT_REQUIRE_BPF", "1"), ("STRAIT_REQUIRE_PEERS", "1")];

/// Formatting, lints, documentation, dependencies.
pub(crate) fn check() -> Result<()> {
    step("cargo fmt --check", || {
        shown(cargo().args(["fmt", "--all", "--check"]))?;
        shown(cargo().args(["fmt", "--manifest-path", "bpf/Cargo.toml", "--check"]))?;
        shown(cargo().args(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]))?;
        shown(cargo().args(["fmt", "--manifest-path", grpc::MANIFEST, "--check"]))
    })?;
    step("Cargo.lock fits the manifests", || {
        for manifest in ["Cargo.toml", "fuzz/Cargo.toml", grpc::MANIFEST] {
            // Quietly, as it prints the whole graph.
            let mut metadata = cargo();
            metadata.args(["metadata", "--locked", "--format-version", "1", "--manifest-path", manifest]);
            let (_, code) = printed(&mut metadata)?;
            ensure!(code == Some(0), "`{}` failed; run it once without --locked, commit Cargo.lock", words(&metadata));
        }
        Ok(())
    })?;
    step("cargo clippy, warnings denied", || {
        shown(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    })?;
    step("cargo doc, warnings denied", || {
        let mut doc = cargo();
        doc.args(["doc", "--workspace", "--no-deps", "--document-private-items"]);
        shown(doc.env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    step("cargo deny: banned crates, licences, sources", || {
        for manifest in ["Cargo.toml", grpc::MANIFEST] {
            let mut deny = cargo();
            deny.args(["deny", "--log-level", "error", "--config", "deny.toml", "--manifest-path", manifest]);
            shown(deny.args(["check", "bans", "licenses", "sources"]))?;
        }
        Ok(())
    })
}

/// [`check`] and every test. The test runner's summary is the last thing printed.
pub(crate) fn run() -> Result<()> {
    let start = now();
    step("build the kernel's programs", || bpf::build().map(drop))?;
    check()?;
    step("build the peer of gRPC", grpc::build)?;
    step("build the tests", || shown(cargo().args(["nextest", "run", "--workspace", "--no-run"])))?;
    step("the demo, with the binary that the tests use", || demo::compare(demo::Afterwards::Down))?;
    step("HTTP/3, which is not built by default: lints, and its tests", || {
        let of = ["--workspace", "--features", "strait/http3"];
        shown(cargo().arg("clippy").args(of).args(["--all-targets", "--quiet", "--", "-D", "warnings"]))?;
        let mut tests = cargo();
        tests.args(["nextest", "run"]).args(of).args(["--cargo-quiet", "--status-level", "slow"]);
        shown(tests.args(["-E", "test(http3)"]).envs(REQUIRED))
    })?;
    println!("── cargo nextest, {:.0} s after the start", start.elapsed().as_secs_f64());
    let mut tests = cargo();
    tests.args(["nextest", "run", "--workspace", "--cargo-quiet", "--status-level", "slow"]);
    shown(tests.envs(REQUIRED))
}
