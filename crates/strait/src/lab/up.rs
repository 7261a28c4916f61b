//! `strait lab up`.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use strait_agent::DenyResponse;
use strait_lab::{Lab, LabName, Options};

use crate::{
    agent::DenyResponseArg,
    host_policy,
    ui::{Paint, Ui},
};

/// Start a lab: everything the manifests describe, with the policies enforced and servers that answer
///
/// Returns once it can be used. The lab then follows the manifests: save a file, and the cluster changes. A container's
/// image is not run: each declared port is served by an echo server, unless the pod is annotated `lab.strait.dev/run:
/// host`, when its command and args run from this host's files. Pods without declared ports are there and serve
/// nothing.
///
/// Outside the cluster there is a client at 203.0.113.10, and a host in each ipBlock that policies name and in each of
/// its exceptions. A name server answers SERVICE.NAMESPACE.svc.cluster.local with the addresses of the service's pods
/// (there is no balancing behind a service address yet).
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    strait lab up -f samples/shop\n  \
    strait lab up -f bookinfo.yaml --name books --nodes 3")]
pub(crate) struct UpArgs {
    /// Manifests: a file, or a folder with all below it; may be repeated
    #[arg(short = 'f', long = "filename", required = true, value_name = "DIR")]
    manifests: Vec<PathBuf>,

    /// What to call it
    #[arg(long, alias = "lab", value_name = "NAME", default_value_t)]
    name: LabName,

    /// Nodes, where the manifests declare none
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100), value_name = "N")]
    nodes: u32,

    /// Give everything IPv6 addresses too (the default)
    #[arg(long, overrides_with = "no_ipv6")]
    ipv6: bool,

    /// IPv4 only
    #[arg(long)]
    no_ipv6: bool,

    /// Leave an agent that dies dead, to see that traffic and policy go on without it
    #[arg(long)]
    no_restart_agents: bool,

    /// What a connection that policy denies hears
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    deny_response: DenyResponseArg,

    /// How long changed host policies stay in force without being confirmed, as with `strait agent`; in a lab none has to be unless
    /// you say so, as nobody can be cut off from it
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = host_policy::window)]
    host_policy_confirm: Duration,

    /// An option for every node's agent, as in --agent-option=--map-capacity=policy=1024; may be repeated
    #[arg(long = "agent-option", value_name = "OPTION", allow_hyphen_values = true)]
    agent_options: Vec<String>,
}

pub(crate) fn run(args: UpArgs, ui: Ui) -> anyhow::Result<ExitCode> {
    let mut options = Options::new(args.name, args.manifests)?;
    options.nodes = args.nodes;
    options.ipv6 = args.ipv6 || !args.no_ipv6;
    options.restart_agents = !args.no_restart_agents;
    options.agent_options = args.agent_options;
    if args.deny_response != DenyResponseArg::Silent {
        options.agent_options.insert(0, format!("--deny-response={}", DenyResponse::from(args.deny_response).name()));
    }
    options.host_policy_confirm = args.host_policy_confirm;
    let terminal = io::stderr().is_terminal();
    let lab = Lab::up(options, |line| {
        if terminal {
            eprintln!("  {line}");
        }
    })?;
    let status = lab.status()?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "lab {} is up: {} nodes, {} pods",
        ui.paint(Paint::Bold, &lab.name().to_string()),
        status.agents.len(),
        status.pods.len()
    )?;
    for problem in &status.problems {
        writeln!(out, "{} {problem}", ui.paint(Paint::Red, "error:"))?;
    }
    for note in &status.notes {
        writeln!(out, "{} {note}", ui.paint(Paint::Yellow, "note:"))?;
    }
    Ok(ExitCode::SUCCESS)
}
