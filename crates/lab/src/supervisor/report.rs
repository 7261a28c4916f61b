//! What `strait lab status` shows.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use strait_api::source::Directory;

use super::{
    children::{Child, Owner},
    programs,
    reconcile::Cluster,
};
use crate::{
    names::{LabName, Place, PodName},
    topology::Program,
};

/// How a lab is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// What it is called.
    pub name: LabName,
    /// Files and folders of manifests, as the user named them.
    pub manifests: Vec<PathBuf>,
    /// Process id of the supervisor.
    pub supervisor: u32,
    /// Agents, in order of their nodes.
    pub agents: Vec<AgentStatus>,
    /// Pods, in order of their names.
    pub pods: Vec<PodStatus>,
    /// Addresses outside.
    pub outside: Vec<IpAddr>,
    /// What could not be made as the manifests say, and errors in manifests; what was in force before stays.
    pub problems: Vec<String>,
    /// What is worth knowing of the manifests.
    pub notes: Vec<String>,
}

/// A node and its agent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// The node.
    pub node: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Process id of the agent; `None` where it does not run.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
}

/// A pod.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// Its namespace and name.
    #[serde(flatten)]
    pub name: PodName,
    /// Where it runs.
    pub node: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether policy is enforced and traffic let through; always for a pod of the host network, which is its node.
    pub open: bool,
    /// Its programs.
    pub programs: Vec<ProgramStatus>,
}

/// A program of a pod.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgramStatus {
    /// `echo`, `dns`, or the container's name.
    pub name: String,
    /// Ports, as `80/TCP`.
    pub ports: Vec<String>,
    /// Process id; `None` where it does not run.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
}

impl Cluster {
    /// How everything is.
    pub(super) fn status(&self, directory: &Directory) -> Status {
        let agents = self.topology.nodes.iter().map(|(name, node)| {
            let child = self.children.get(&Owner::Agent(Arc::clone(name)));
            AgentStatus {
                node: name.to_string(),
                addresses: node.addresses.clone(),
                pid: child.filter(|child| child.ended().is_none()).map(Child::pid),
                restarts: child.map_or(0, Child::restarts),
            }
        });
        let pods = self.topology.pods.iter().map(|(name, pod)| {
            let program = |(number, program): (usize, &Program)| {
                let child = self.children.get(&Owner::Program(Place::Pod(name.clone()), number));
                ProgramStatus {
                    name: programs::name(program),
                    ports: program.ports().iter().map(|(protocol, port)| format!("{port}/{protocol}")).collect(),
                    pid: child.filter(|child| child.ended().is_none()).map(Child::pid),
                    restarts: child.map_or(0, Child::restarts),
                }
            };
            PodStatus {
                name: name.clone(),
                node: pod.node.to_string(),
                addresses: pod.addresses.clone(),
                open: pod.host_network || self.open.contains(name),
                programs: pod.programs.iter().enumerate().map(program).collect(),
            }
        });
        let (errors, notes): (Vec<_>, Vec<_>) =
            directory.problems().filter(|problem| problem.is_worth_showing()).partition(|problem| problem.is_error());
        Status {
            name: self.settings.name.clone(),
            manifests: self.settings.manifests.clone(),
            supervisor: std::process::id(),
            agents: agents.collect(),
            pods: pods.collect(),
            outside: self.topology.outside.addresses.iter().copied().collect(),
            problems: errors
                .iter()
                .map(ToString::to_string)
                .chain(self.problems.iter().cloned())
                .chain(self.unready_programs())
                .collect(),
            notes: notes.iter().map(ToString::to_string).chain(self.notes.iter().cloned()).collect(),
        }
    }
}
