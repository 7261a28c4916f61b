//! Processes that run beside this one, and end with it.

use std::{
    collections::BTreeMap,
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::run::{now, succeeds, words};

/// How long a start, or an end, may take.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(10);
/// Files that a gate may have open: one for each of 10,000 connections, those to back ends, its own.
const FILES: u64 = 12_000;

/// A process on a core, with all that it starts. It ends when the value is dropped, or this process ends however it may.
pub(super) struct Process {
    pub(super) child: Child,
}

/// The command that runs `command` on a core.
///
/// It may open as many files as this process could: [`enough_files`] tells whether that is enough.
pub(super) fn on_core(core: u8, command: &Command) -> Command {
    // Each puts the next in its place: the process stays the same.
    let mut on = Command::new("setpriv");
    on.args(["--pdeathsig", "TERM", "taskset", "-c", &core.to_string(), "prlimit"]);
    on.arg(format!("--nofile={}:", files().unwrap_or(FILES))).arg(command.get_program()).args(command.get_args());
    on.process_group(0);
    on
}

/// The hard limit of open files.
fn files() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Fails where 10,000 connections cannot be open.
pub(super) fn enough_files() -> Result<()> {
    let may = files().unwrap_or(FILES);
    ensure!(may >= FILES, "a process may open {may} files here; {FILES} are needed (ulimit -Hn)");
    Ok(())
}

impl Process {
    /// Starts it; its output goes to a file.
    pub(super) fn start(core: u8, command: &Command, log: &Path) -> Result<Self> {
        let file = fs::File::create(log)?;
        let mut on = on_core(core, command);
        on.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = on.spawn().with_context(|| format!("cannot run {}", words(&on)))?;
        Ok(Self { child })
    }

    /// Waits until it accepts connections.
    pub(super) fn until_listening(&mut self, at: SocketAddr, log: &Path) -> Result<()> {
        let start = now();
        while TcpStream::connect_timeout(&at, LOOK).is_err() {
            let said = || fs::read_to_string(log).unwrap_or_default();
            if let Some(status) = self.child.try_wait()? {
                bail!("ended with {status} at its start:\n{}", said());
            }
            ensure!(start.elapsed() < PATIENCE, "does not listen at {at}:\n{}", said());
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// It and what it started.
    pub(super) fn pids(&self) -> Result<Vec<u32>> {
        let group = self.child.id();
        let mut pids = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            // Others come and go meanwhile.
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let Some((_, fields)) = stat.rsplit_once(") ") else { continue };
            let mut fields = fields.split(' ');
            let (state, of) = (fields.next(), fields.nth(1).and_then(|text| text.parse::<u32>().ok()));
            if of == Some(group) && state != Some("Z") {
                pids.push(pid);
            }
        }
        Ok(pids)
    }

    /// KiB that are resident, of all its processes together.
    pub(super) fn resident(&self) -> Result<u64> {
        let mut all = 0;
        for pid in self.pids()? {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
            let kib = line.split_whitespace().next().and_then(|text| text.parse::<u64>().ok());
            all += kib.context("VmRSS is no number")?;
        }
        Ok(all)
    }

    /// Nanoseconds on a CPU, by process.
    pub(super) fn cpu(&self) -> Result<BTreeMap<u32, u64>> {
        let mut all = BTreeMap::new();
        for pid in self.pids()? {
            let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            let mut sum = 0;
            for task in tasks {
                let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
                sum += text.split(' ').next().and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
            }
            all.insert(pid, sum);
        }
        Ok(all)
    }

    pub(super) fn signal(&self, signal: &str) -> Result<()> {
        let pid = self.child.id().to_string();
        ensure!(succeeds(Command::new("kill").args(["-s", signal, &pid])), "cannot send {signal} to {pid}");
        Ok(())
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.has_ended() {
            let _it_ended_just_now = self.signal("TERM");
            let start = now();
            while !self.has_ended() && start.elapsed() < Duration::from_secs(15) {
                thread::sleep(LOOK);
            }
        }
        // Whatever of its group is left.
        if self.pids().is_ok_and(|pids| !pids.is_empty()) {
            let group = format!("-{}", self.child.id());
            let _it_ended_just_now = succeeds(Command::new("kill").args(["-s", "KILL", "--", &group]));
        }
        let _it_was_waited_for = self.child.wait();
    }
}
