//! Which agents a command speaks to.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use strait_agent::{Client, ClientError, api};
use strait_lab::{Lab, LabName};

/// The agents to ask.
#[derive(Args, Debug, Clone)]
pub(crate) struct AgentsArgs {
    /// Ask the agents of this lab
    #[arg(long, value_name = "NAME", default_value_t, env = "STRAIT_LAB", hide_env = true)]
    lab: LabName,

    /// Ask the agent at this socket instead of a lab's; may be repeated
    #[arg(long = "socket", value_name = "PATH")]
    sockets: Vec<PathBuf>,
}

/// An agent that can be asked.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    /// What to call it: its node, or its socket.
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
        let lab = Lab::attach(&self.lab)?;
        let agent =
            |(node, folder): (String, PathBuf)| Agent { label: node, client: Client::new(folder.join(api::SOCKET)) };
        let agents: Vec<Agent> = lab.agents().into_iter().map(agent).collect();
        if agents.is_empty() {
            bail!("lab `{}` has no agents yet", self.lab);
        }
        Ok(agents)
    }
}

impl Agent {
    /// Asks, and says which agent could not answer.
    pub(crate) fn ask<T>(&self, question: impl FnOnce(&Client) -> Result<T, ClientError>) -> anyhow::Result<T> {
        question(&self.client).with_context(|| self.label.clone())
    }
}
