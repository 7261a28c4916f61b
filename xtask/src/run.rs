//! Commands and steps, with what they are and how long they took.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Where cargo builds to.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The cargo that runs this.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Times that xtask prints; nothing is decided by them.
#[expect(clippy::disallowed_methods, reason = "xtask is a tool for people and measures itself")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Says what it does, does it, says how long it took.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("── {name}");
    let start = now();
    let result = work().with_context(|| format!("{name} failed"))?;
    println!("── {name}: ok, {:.1} s\n", start.elapsed().as_secs_f64());
    Ok(result)
}

/// Runs a command to its end, its output shown.
pub(crate) fn shown(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot run {}", words(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", words(command));
    }
    Ok(())
}

/// Runs a command and gives what it printed, whatever its exit code; its errors are shown.
pub(crate) fn printed(command: &mut Command) -> Result<(String, Option<i32>)> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", words(command)))?;
    let text = String::from_utf8(output.stdout).with_context(|| format!("{} printed no UTF-8", words(command)))?;
    Ok((text, output.status.code()))
}

/// Whether a command runs and succeeds, quietly.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Held while this process does what another may not do at the same time, on this machine.
pub(crate) struct Alone(#[expect(dead_code, reason = "held until it is dropped")] File);

impl Alone {
    /// Fails where another process is at `what` already.
    pub(crate) fn at(what: &str) -> Result<Self> {
        let folder = Path::new("/run/strait");
        std::fs::create_dir_all(folder).context("cannot make /run/strait: run this as root")?;
        let path = folder.join(format!("xtask-{what}.lock"));
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        file.try_lock().with_context(|| format!("another {what} runs on this machine: wait for its end"))?;
        Ok(Self(file))
    }
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.split_whitespace().take(3).eq(["Uid:", "0", "0"])))
}

/// A command as a person would type it.
pub(crate) fn words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
