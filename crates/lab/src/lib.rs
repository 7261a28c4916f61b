//! Clusters of network namespaces on one Linux host.
//!
//! ```text
//!            outside ── 203.0.113.10, hosts of the blocks that policies name
//!               │ eth0
//!   ┌───────────┴───────────┐ fabric (a switch)
//!   │ eth0                  │ eth0
//! node-1 (strait agent)   node-2 (strait agent)
//!   │ lxc…     │ lxc…       │ lxc…
//!   │ eth0     │ eth0       │ eth0
//! pod (echo) pod (echo)   pod (echo)
//! ```
//!
//! manifests → expanded objects → [`topology::Topology`] (pure) → namespaces, links, routes; agents; processes. A
//! supervisor process keeps it so and follows the manifests. The agent and the datapath are the production ones: the
//! lab stands in for the kubelet, the cloud and the container runtime. Nothing of it touches the host's own network
//! namespace.

pub mod cgroup;
pub mod dns;
pub mod enter;
mod error;
pub mod generated;
mod lab;
pub mod leak;
pub mod names;
mod network;
pub mod outside;
pub mod probe;
pub mod process;
mod supervisor;
mod teardown;
pub mod topology;

pub use self::{
    error::Error,
    lab::{Lab, Listed, Options, Settings},
    names::{LabName, Paths, Place, PodName},
    supervisor::{AgentStatus, PodStatus, ProgramStatus, Status, supervise},
    teardown::down,
};
