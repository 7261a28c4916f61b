//! Which agents a command speaks to.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use strait_agent::{Client, api};

/// Where labs keep their state.
const LABS: &str = "/run/strait/lab";

/// The agents to ask.
#[derive(Args, Debug, Clone)]
pub(crate) struct AgentsArgs {
    /// Ask the agents of this lab
    #[arg(long, value_name = "NAME", default_value = "lab", env = "STRAIT_LAB", hide_env = true)]
    pub(crate) lab: String,

    /// Ask the agent at this socket instead of a lab's; may be repeated
    #[arg(long = "socket", value_name = "PATH")]
    pub(crate) sockets: Vec<PathBuf>,
}

/// An agent that can be asked.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    /// What to call it before it has said its node's name.
    pub(crate) label: String,
    pub(crate) client: Client,
}

impl AgentsArgs {
    /// The agents; at least one.
    pub(crate) fn resolve(&self) -> anyhow::Result<Vec<Agent>> {
        if !self.sockets.is_empty() {
            let agent = |path: &PathBuf| Agent { label: path.display().to_string(), client: Client::new(path) };
            return Ok(self.sockets.iter().map(agent).collect());
        }
        self.lab_agents(Path::new(LABS))
    }

    fn lab_agents(&self, labs: &Path) -> anyhow::Result<Vec<Agent>> {
        if self.lab.is_empty() || self.lab.contains(['/', '.']) {
            bail!("`{}` cannot be the name of a lab", self.lab);
        }
        let folder = labs.join(&self.lab).join("agents");
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
                "lab `{0}` is not up ({1} does not exist): start it with `strait lab up -f DIR{2}`, or name another with --lab or \
                 an agent's socket with --socket",
                self.lab,
                folder.display(),
                if self.lab == "lab" { String::new() } else { format!(" --name {}", self.lab) },
            ),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
        };
        let mut agents = Vec::new();
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
            agents.push(Agent {
                label: entry.file_name().to_string_lossy().into_owned(),
                client: Client::new(entry.path().join(api::SOCKET)),
            });
        }
        if agents.is_empty() {
            bail!("lab `{}` has no agents ({} is empty)", self.lab, folder.display());
        }
        agents.sort_by(|a, b| a.label.cmp(&b.label));
        Ok(agents)
    }
}

impl Agent {
    /// Asks, and says which agent could not answer.
    pub(crate) fn ask<T>(
        &self,
        question: impl FnOnce(&Client) -> Result<T, strait_agent::ClientError>,
    ) -> anyhow::Result<T> {
        question(&self.client).with_context(|| self.label.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_labs_agents_are_its_run_directories() {
        let labs = tempfile::tempdir().unwrap();
        let args = |lab: &str| AgentsArgs { lab: lab.to_owned(), sockets: Vec::new() };
        let down = args("lab").lab_agents(labs.path()).unwrap_err().to_string();
        assert!(down.starts_with("lab `lab` is not up") && down.contains("`strait lab up -f DIR`"), "{down}");
        assert!(args("../x").lab_agents(labs.path()).is_err());
        for node in ["node-2", "node-1"] {
            std::fs::create_dir_all(labs.path().join("lab/agents").join(node)).unwrap();
        }
        let agents = args("lab").lab_agents(labs.path()).unwrap();
        assert_eq!(agents.iter().map(|agent| agent.label.as_str()).collect::<Vec<_>>(), ["node-1", "node-2"]);
        assert!(agents[0].client.path().ends_with("lab/agents/node-1/agent.sock"));
    }
}
