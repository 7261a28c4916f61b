//! A lab, driven by the `strait` binary as people drive it.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::run::{printed, shown, succeeds, target, words};

/// Where agents pin what outlives them.
const PINS: &str = "/sys/fs/bpf/strait";

/// The binary that `cargo build` makes.
pub(crate) fn strait() -> Command {
    Command::new(target().join("debug/strait"))
}

/// A lab that is up.
pub(crate) struct Lab {
    name: &'static str,
    status: Value,
    executable: PathBuf,
}

impl Lab {
    /// Brings it up; one that is left over from an earlier run goes first.
    pub(crate) fn up(name: &'static str, manifests: &Path, flags: &[&str]) -> Result<Self> {
        Self::up_by(strait().get_program().into(), name, manifests, flags)
    }

    /// The same with another build of `strait`.
    pub(crate) fn up_by(executable: PathBuf, name: &'static str, manifests: &Path, flags: &[&str]) -> Result<Self> {
        // One that does not go is one that the next does not come up beside.
        let _there_was_one = succeeds(&mut down(&executable, name));
        shown(Command::new(&executable).args(["lab", "up", "--name", name, "-f"]).arg(manifests).args(flags))?;
        let mut status = Command::new(&executable);
        status.args(["lab", "status", "--lab", name, "-o", "json"]);
        let (text, code) = printed(&mut status)?;
        ensure!(code == Some(0), "{} ended with {code:?}", words(&status));
        let status = serde_json::from_str(&text).context("`strait lab status` printed no JSON")?;
        Ok(Self { name, status, executable })
    }

    /// Removes it and all its traces.
    pub(crate) fn down(&self) -> Result<()> {
        shown(&mut down(&self.executable, self.name))
    }

    pub(crate) fn name(&self) -> &str {
        self.name
    }

    /// The first IPv4 address of a pod, `NAMESPACE/NAME`.
    pub(crate) fn address(&self, pod: &str) -> Result<IpAddr> {
        let pods = self.status["pods"].as_array().context("the status lists no pods")?;
        let is_it = |one: &&Value| {
            pod.split_once('/').is_some_and(|(namespace, name)| one["namespace"] == namespace && one["name"] == name)
        };
        let found = pods.iter().find(is_it).with_context(|| format!("lab {} has no pod {pod}", self.name))?;
        let addresses = found["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut parsed = addresses.filter_map(|address| address.parse().ok());
        parsed.find(IpAddr::is_ipv4).with_context(|| format!("pod {pod} has no IPv4 address"))
    }

    /// A command that runs in a pod, on `node/NAME`, or `outside`.
    pub(crate) fn command(&self, place: &str, command: &[&str]) -> Command {
        let mut exec = Command::new(&self.executable);
        exec.args(["lab", "exec", "--lab", self.name, place, "--"]).args(command);
        exec
    }

    /// What a command prints that runs in a place.
    pub(crate) fn exec(&self, place: &str, command: &[&str]) -> Result<String> {
        let mut command = self.command(place, command);
        let (text, code) = printed(&mut command)?;
        ensure!(code == Some(0), "{} ended with {code:?}: {text}", words(&command));
        Ok(text)
    }

    /// Starts a server in a place; its output is a pipe.
    pub(crate) fn spawn(&self, place: &str, command: &[&str]) -> Result<Child> {
        let mut command = self.command(place, command);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().with_context(|| format!("cannot run {}", words(&command)))
    }

    /// Leaves the network and takes the programs away: ends the agents, removes their pinned links.
    pub(crate) fn detach(&self) -> Result<()> {
        let agents = self.status["agents"].as_array().context("the status lists no agents")?;
        for agent in agents {
            let pid = agent["pid"].as_u64().with_context(|| format!("an agent of lab {} does not run", self.name))?;
            shown(Command::new("kill").args(["-KILL", &pid.to_string()]))?;
        }
        let own = format!("lab-{}-", self.name);
        let mut removed = 0;
        for instance in fs::read_dir(PINS).context("nothing is pinned")? {
            let instance = instance?;
            if instance.file_name().to_string_lossy().starts_with(&own) {
                removed += remove_files(&instance.path().join("links"))?;
            }
        }
        if removed == 0 {
            bail!("lab {} has no pinned links under {PINS}", self.name);
        }
        Ok(())
    }
}

/// How many files were removed, at any depth.
fn remove_files(folder: &PathBuf) -> Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            removed += remove_files(&path)?;
        } else {
            fs::remove_file(&path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn down(executable: &Path, name: &str) -> Command {
    let mut down = Command::new(executable);
    down.args(["lab", "down", "--lab", name]);
    down
}
