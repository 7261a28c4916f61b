//! `strait agent`.

use std::{io, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Args;
use strait_agent::{Host, Options};
use strait_datapath::{Datapath, netlink::Netlink, probe};

/// Serve a node: read manifests, keep the kernel's policy equal to them, tell what happens
///
/// Works in the network namespace it is started in, and needs `CAP_BPF`, `CAP_NET_ADMIN` and a kernel with TCX (6.6 or
/// newer). Programs and maps are pinned: what is enforced stays enforced when the agent stops, however it stops, and
/// the next one takes over without a gap.
///
/// A manifest that breaks keeps its last good version in force and is reported by `strait status`. An endpoint whose
/// pod no manifest places on this node is closed.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    strait agent --node node-1 -f /etc/strait/manifests --uplink eth0\n  \
    strait status --socket /run/strait/agent.sock")]
pub(crate) struct AgentArgs {
    /// The node it serves, as manifests name it
    #[arg(long, value_name = "NAME")]
    node: String,

    /// Manifests: a file or a folder (*.yaml, *.yml, *.json, recursive); may be repeated, later ones over earlier ones
    #[arg(short = 'f', long = "filename", value_name = "DIR", required = true)]
    roots: Vec<PathBuf>,

    /// Name of the pinned maps and links, below /sys/fs/bpf/strait
    #[arg(long, value_name = "NAME", default_value = "node")]
    instance: String,

    /// Where its socket and state are
    #[arg(long, value_name = "DIR", default_value = "/run/strait")]
    run_dir: PathBuf,

    /// Interface to the rest of the world; may be repeated
    #[arg(long = "uplink", value_name = "INTERFACE")]
    uplinks: Vec<String>,
}

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(args: AgentArgs) -> anyhow::Result<ExitCode> {
    let report = probe::probe();
    let host =
        Host { kernel: report.kernel.clone(), missing_features: report.missing().map(ToString::to_string).collect() };
    let AgentArgs { node, roots, instance, run_dir, uplinks } = args;
    let options = Options { node: node.into(), roots, run_dir, uplinks, host };
    // Before the pins are touched: two agents would undo each other's work.
    let lock = strait_agent::lock(&options)?;
    probe::ensure_bpffs()?;
    let mut datapath = Datapath::open(&strait_datapath::Options::new(&instance))
        .with_context(|| format!("cannot open the datapath `{instance}`"))?;
    let events = datapath.events()?;
    strait_agent::run(options, lock, datapath, Some(events), interface_index)?;
    Ok(ExitCode::SUCCESS)
}

fn interface_index(name: &str) -> io::Result<u32> {
    let link = Netlink::current().and_then(|mut netlink| netlink.link(name)).map_err(io::Error::other)?;
    link.map(|link| link.index).ok_or_else(|| io::ErrorKind::NotFound.into())
}
