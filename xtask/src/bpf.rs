//! `cargo xtask bpf`: the BPF object, with whichever toolchain is here.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::run;

const TARGET: &str = "bpfel-unknown-none";
/// CPU v3 is what every supported kernel (5.15) has: 32-bit registers. Unless told not to, the linker turns every clearing of
/// memory into a call of a bytewise loop: 211 ns a packet, 169 without.
const RUSTFLAGS: &str = "-C debuginfo=2 -C target-cpu=v3 -C linker=bpf-linker -C link-arg=--btf \
                         -C link-arg=--disable-expand-memcpy-in-order";
const LLVM: &str = "/usr/lib/llvm-22/bin";
/// Debian's second Rust, installed beside rustup's.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none/lib";

/// No toolchain for BPF; a caller that can do without skips, and says so.
#[derive(Debug)]
pub(crate) struct Missing(Vec<&'static str>);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no BPF toolchain: {}; `cargo xtask setup` installs what is missing", self.0.join("; "))
    }
}

impl std::error::Error for Missing {}

enum Toolchain {
    /// Debian's rustc with a prebuilt `core` for BPF: the pair of compiler and linker that is known to agree on LLVM 22.
    Debian,
    /// A nightly of rustup that builds `core` from source.
    Nightly,
}

/// Builds the object if its sources changed; where it is.
///
/// # Errors
/// [`Missing`] if there is no toolchain; whatever cargo says otherwise.
pub(crate) fn build() -> Result<PathBuf> {
    let toolchain = find()?;
    let folder = run::target().join("bpf/build");
    let mut command = cargo(&toolchain);
    command.args(["build", "--quiet", "--locked", "--release", "--target", TARGET]);
    command.current_dir(run::root().join("bpf"));
    command.env("CARGO_TARGET_DIR", &folder);
    command.env("RUSTFLAGS", RUSTFLAGS);
    command.env("PATH", search_path()?);
    run::shown(&mut command).context("building bpf/")?;
    let built = folder.join(TARGET).join("release/strait");
    let object = run::target().join("bpf/strait.o");
    publish(&built, &object)?;
    Ok(object)
}

fn find() -> Result<Toolchain> {
    let mut missing = Vec::new();
    if !answers(Command::new("bpf-linker").arg("--version")) {
        missing.push("bpf-linker is not on PATH nor in cargo's bin folder");
    }
    let debian =
        Path::new(DEBIAN_RUSTC).exists() && Path::new(DEBIAN_CARGO).exists() && Path::new(DEBIAN_CORE).exists();
    if !debian && !has_nightly_sources() {
        missing.push(
            "neither Debian's rustc-web, cargo-web and libstd-rust-web-dev-bpf nor a rustup nightly with rust-src",
        );
    }
    if !missing.is_empty() {
        bail!(Missing(missing));
    }
    Ok(if debian { Toolchain::Debian } else { Toolchain::Nightly })
}

fn cargo(toolchain: &Toolchain) -> Command {
    let mut command = match toolchain {
        Toolchain::Debian => {
            let mut command = Command::new(DEBIAN_CARGO);
            // The target is not one of stable Rust.
            command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
            command
        }
        Toolchain::Nightly => {
            let mut command = Command::new("rustup");
            command.args(["run", "nightly", "cargo", "-Zbuild-std=core"]);
            command
        }
    };
    // What the cargo that runs this set for itself is not meant for another.
    for name in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        command.env_remove(name);
    }
    command
}

fn has_nightly_sources() -> bool {
    let mut sysroot = Command::new("rustup");
    sysroot.args(["run", "nightly", "rustc", "--print", "sysroot"]).env_remove("RUSTUP_TOOLCHAIN");
    let Ok(output) = sysroot.stdin(Stdio::null()).stderr(Stdio::null()).output() else {
        return false;
    };
    let sysroot = String::from_utf8_lossy(&output.stdout);
    output.status.success() && Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").exists()
}

fn answers(command: &mut Command) -> bool {
    search_path().is_ok_and(|path| run::succeeds(command.env("PATH", path)))
}

/// `PATH` with where LLVM and bpf-linker live.
fn search_path() -> Result<std::ffi::OsString> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let known = std::env::var_os("PATH").unwrap_or_default();
    let folders = home.map(|home| home.join("bin")).into_iter().chain([PathBuf::from(LLVM)]);
    std::env::join_paths(folders.chain(std::env::split_paths(&known))).context("PATH")
}

/// Copies the object to where everyone looks for it, if it changed.
fn publish(built: &Path, object: &Path) -> Result<()> {
    let bytes = std::fs::read(built).with_context(|| format!("cannot read {}", built.display()))?;
    if std::fs::read(object).is_ok_and(|published| published == bytes) {
        return Ok(());
    }
    // By rename: whoever loads it meanwhile reads the old one or the new one, whole.
    let part = object.with_extension("part");
    std::fs::write(&part, bytes).with_context(|| format!("cannot write {}", part.display()))?;
    std::fs::rename(&part, object).with_context(|| format!("cannot write {}", object.display()))
}
