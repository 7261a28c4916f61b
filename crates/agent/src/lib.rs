//! The node agent.
//!
//! ```text
//! manifests → Directory → Snapshot → Compiler → NodePlan → Datapath::apply        (level-triggered)
//! event ring → names, identities, origins → flow ring → followers                (bounded, losses counted)
//! agent.sock ← endpoints come and go, questions                                  (JSON lines, deadlines)
//! ```
//!
//! What is enforced outlives the agent: a killed or stopped agent leaves the pinned programs and maps in force, and a new one
//! adopts them. Nothing that goes wrong here (a broken manifest, a failed map update, a lost file) takes enforcement away.

mod answers;
pub mod api;
pub mod client;
mod decorate;
mod flows;
mod host_policy;
mod lastgood;
mod log;
mod node;
mod run;
mod server;
mod state;
mod view;

pub use client::{Client, ClientError};
pub use node::{Host, Links, Options, StartError};
pub use run::{Lock, RunError, lock, run};
pub use state::StateError;
pub use strait_packet::abi::DenyResponse;
