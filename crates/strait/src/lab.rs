//! `strait lab`: clusters of network namespaces on this host.

mod list;
mod logs;
mod status;
mod up;

use std::{ffi::OsString, io, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use strait_lab::{Lab, LabName, Place, enter};

use crate::ui::{Output, Ui};

/// Clusters of network namespaces on this host, made from Kubernetes manifests.
///
/// Nodes, pods and the world outside are network namespaces; every node runs the real agent. Needs root. Nothing of it
/// touches the network of the host itself, and labs with different names live side by side.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    strait lab up -f samples/shop\n  \
    strait lab exec shop/web-0 -- curl -s http://catalog:8080/\n  \
    strait lab exec outside -- curl -s http://10.244.1.10:8080/\n  \
    strait lab status\n  \
    strait lab down")]
pub(crate) struct LabArgs {
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Subcommand, Debug)]
enum LabCommand {
    Up(up::UpArgs),
    /// End a lab and remove every trace of it, whatever state it is in
    Down(WhichLab),
    Status(status::StatusArgs),
    Exec(ExecArgs),
    Logs(logs::LogsArgs),
    /// List the labs of this host
    List(list::ListArgs),
    /// Wait until the manifests as they are now are in force everywhere
    ///
    /// A running lab follows its manifests by itself, within milliseconds; this is for scripts that must know when it
    /// has.
    ///
    /// Exit code 1 where something is not as they say: a file is broken, or a program does not listen.
    Sync(WhichLab),
    /// Keep a lab as its manifests say (started by `up`)
    #[command(hide = true)]
    Supervise(WhichLab),
    /// Become a command in a place (started by the supervisor)
    #[command(hide = true)]
    Enter(EnterArgs),
    /// Try connections from this network namespace: an order as JSON on standard input, outcomes on standard output
    #[command(hide = true)]
    Probe,
    /// Answer DNS in this network namespace
    #[command(hide = true)]
    Dns {
        /// The zone, as JSON
        #[arg(long)]
        zone: PathBuf,
    },
}

/// Names a lab.
#[derive(Args, Debug)]
struct WhichLab {
    /// Which lab
    #[arg(long, alias = "name", value_name = "NAME", default_value_t, env = "STRAIT_LAB", hide_env = true)]
    lab: LabName,
}

/// Run a program of this host in a pod, on a node or outside
///
/// The program sees the place's network, and in a pod its resolv.conf, hosts and host name too; files, users and
/// everything else are this host's. Input, output, terminal and exit code are the program's own.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    strait lab exec shop/web-0 -- curl -s http://catalog:8080/\n  \
    strait lab exec node/node-1 -- ip route\n  \
    strait lab exec outside -- curl -s http://10.244.1.10/")]
struct ExecArgs {
    #[command(flatten)]
    which: WhichLab,

    /// NAMESPACE/POD, POD (in namespace `default`), node/NAME or outside
    place: Place,

    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Args, Debug)]
struct EnterArgs {
    #[command(flatten)]
    which: WhichLab,

    #[arg(long)]
    place: Place,

    /// Join the cgroup of the node's agent
    #[arg(long)]
    agent: bool,

    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Does what was asked.
pub(crate) fn run(args: LabArgs, ui: Ui) -> anyhow::Result<ExitCode> {
    match args.command {
        LabCommand::Up(args) => up::run(args, ui),
        LabCommand::Down(which) => down(&which.lab),
        LabCommand::Status(args) => status::run(&args, ui),
        LabCommand::Exec(ExecArgs { which, place, command }) => become_(&which.lab, &place, false, &command),
        LabCommand::Logs(args) => logs::run(&args),
        LabCommand::List(args) => list::run(&args),
        LabCommand::Sync(which) => {
            let lab = Lab::attach(&which.lab)?;
            lab.sync()?;
            // What is broken is in force as it was, and not as it is.
            let problems = lab.status()?.problems;
            for problem in &problems {
                eprintln!("error: {problem}");
            }
            Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
        }
        LabCommand::Supervise(which) => {
            strait_lab::supervise(&which.lab)?;
            Ok(ExitCode::SUCCESS)
        }
        LabCommand::Enter(EnterArgs { which, place, agent, command }) => become_(&which.lab, &place, agent, &command),
        LabCommand::Probe => {
            strait_lab::probe::run(io::stdin().lock(), io::stdout().lock())?;
            Ok(ExitCode::SUCCESS)
        }
        LabCommand::Dns { zone } => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let served = tokio::task::LocalSet::new().block_on(&runtime, strait_lab::dns::serve(&zone));
            served.context("cannot answer DNS on port 53")?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn down(lab: &LabName) -> anyhow::Result<ExitCode> {
    if !strait_lab::down(lab)? {
        eprintln!("there is no lab `{lab}`: nothing to do");
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns only where it could not.
fn become_(lab: &LabName, place: &Place, as_agent: bool, command: &[OsString]) -> anyhow::Result<ExitCode> {
    Err(enter::exec(lab, place, as_agent, command).into())
}

/// `-o`, as all lists of a lab have it.
#[derive(Args, Debug)]
struct OutputArgs {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Output,
}
