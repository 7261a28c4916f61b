//! The peer of gRPC under test: tonic's client and server, in a workspace of their own.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::run::{cargo, shown, target};

/// Its manifest.
pub(crate) const MANIFEST: &str = "peers/grpc/Cargo.toml";

/// Where tests look for it.
fn program() -> PathBuf {
    target().join("peers/grpc/strait-grpc-peer")
}

/// Whether it is there; whether it is of these sources only a build tells.
pub(crate) fn is_there() -> bool {
    program().exists()
}

/// Builds it, and puts it where tests look for it.
pub(crate) fn build() -> Result<()> {
    // In the same folder as everything else: most of what it needs is there already.
    let mut build = cargo();
    build.args(["build", "--quiet", "--locked", "--manifest-path", MANIFEST, "--target-dir"]).arg(target());
    shown(&mut build)?;
    let (made, wanted) = (target().join("debug/strait-grpc-peer"), program());
    let folder = wanted.parent().context("it has no folder")?;
    fs::create_dir_all(folder)?;
    let part = wanted.with_extension("new");
    fs::copy(&made, &part).with_context(|| format!("cannot copy {}", made.display()))?;
    fs::rename(part, wanted)?;
    Ok(())
}
