//! `cargo xtask fuzz`: libFuzzer on the targets of `fuzz/`, with the stable compiler.
//!
//! What it learns about a target stays in `target/fuzz/corpus/TARGET` and is gone on with; `fuzz/corpus/TARGET` is in git and is only read.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::run::{cargo, printed, root, shown, step, target};

/// What cargo-fuzz passes without a sanitizer: coverage for libFuzzer needs no nightly.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                         -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                         -Cllvm-args=-sanitizer-coverage-trace-compares";
const SECONDS: u32 = 60;
/// Inputs are as long as it takes to say something; longer ones are slow.
const LONGEST: u32 = 4096;
/// Seconds for one input, on a machine that has other things to do: more is a finding.
const SLOWEST: u32 = 20;
/// Memory: more is a finding.
const MEGABYTES: u32 = 2048;

/// `fuzz [TARGET…] [--seconds N]`, `fuzz TARGET FILE`.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let all = targets()?;
    let known = |name: &str| all.iter().any(|target| target == name);
    let (mut wanted, mut seconds, mut rest) = (Vec::new(), SECONDS, arguments.iter());
    while let Some(argument) = rest.next() {
        match *argument {
            "--seconds" => {
                let value = rest.next().context("--seconds wants a number")?;
                seconds = value.parse().with_context(|| format!("found --seconds {value}, a number is wanted"))?;
            }
            name if known(name) => wanted.push(name.to_owned()),
            file if wanted.len() == 1 && Path::new(file).is_file() => return again(&wanted[0], file),
            other => bail!("found `{other}`; the targets are {}", all.join(", ")),
        }
    }
    if wanted.is_empty() {
        wanted = all;
    }
    let binaries = build()?;
    for name in wanted {
        step(&format!("fuzz {name} for {seconds} s"), || fuzz(&binaries, &name, seconds))?;
    }
    Ok(())
}

/// The targets, by their files.
fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/targets");
    let files = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();
    for file in files {
        let path = file?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Builds all targets; the folder they are in.
pub(crate) fn build() -> Result<PathBuf> {
    let folder = target().join("fuzz/build");
    let host = host()?;
    step("build the fuzz targets", || {
        let mut build = cargo();
        // With a target that is named, the flags are not for build scripts and macros: these would lack libFuzzer.
        build.args(["build", "--quiet", "--locked", "--release", "--target", &host]);
        build.args(["--manifest-path", "fuzz/Cargo.toml"]);
        build.env("CARGO_TARGET_DIR", &folder).env("RUSTFLAGS", RUSTFLAGS).env_remove("CARGO_ENCODED_RUSTFLAGS");
        shown(&mut build)
    })?;
    Ok(folder.join(host).join("release"))
}

fn host() -> Result<String> {
    let (text, _) = printed(std::process::Command::new("rustc").arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}

fn fuzz(binaries: &Path, name: &str, seconds: u32) -> Result<()> {
    let learnt = target().join("fuzz/corpus").join(name);
    let findings = target().join("fuzz/findings");
    for folder in [&learnt, &findings] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let kept = root().join("fuzz/corpus").join(name);
    ensure!(kept.is_dir(), "{} is missing: a target starts from a few inputs", kept.display());
    let mut fuzzer = std::process::Command::new(binaries.join(name));
    fuzzer.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={LONGEST}"));
    fuzzer.arg(format!("-timeout={SLOWEST}")).arg(format!("-rss_limit_mb={MEGABYTES}"));
    fuzzer.arg(format!("-artifact_prefix={}/{name}-", findings.display()));
    fuzzer.args(["-print_final_stats=1", "-verbosity=0"]).arg(&learnt).arg(&kept);
    shown(&mut fuzzer).with_context(|| {
        format!("{name} has a finding; `cargo xtask fuzz {name} FILE` repeats the newest in {}", findings.display())
    })
}

/// One input, with what the target says of it.
fn again(name: &str, file: &str) -> Result<()> {
    let file = fs::canonicalize(file)?;
    let binaries = build()?;
    shown(std::process::Command::new(binaries.join(name)).arg(file))
}
