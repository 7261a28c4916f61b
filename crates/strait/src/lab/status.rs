//! `strait lab status`.

use std::{
    io::{self, Write},
    net::IpAddr,
    process::ExitCode,
};

use clap::Args;
use strait_lab::{Lab, Status};

use super::{OutputArgs, WhichLab};
use crate::ui::{Output, Paint, Table, Ui, print_json};

/// Show a lab: nodes and their agents, pods and what runs in them, what is wrong
///
/// Exit code 1 where something is wrong.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    which: WhichLab,

    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &StatusArgs, ui: Ui) -> anyhow::Result<ExitCode> {
    let status = Lab::attach(&args.which.lab)?.status()?;
    match args.output.output {
        Output::Json => print_json(&status)?,
        Output::Text => print(&status, ui)?,
    }
    Ok(if status.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn print(status: &Status, ui: Ui) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let manifests: Vec<_> = status.manifests.iter().map(|path| path.display().to_string()).collect();
    writeln!(out, "lab {} of {}\n", ui.paint(Paint::Bold, &status.name.to_string()), manifests.join(" "))?;
    let process = |pid: Option<u32>, restarts: u32| {
        let state = pid.map_or_else(|| ui.paint(Paint::Red, "not running"), |pid| format!("process {pid}"));
        if restarts == 0 { state } else { format!("{state}, started again {restarts}×") }
    };
    let mut nodes = Table::new(["NODE", "ADDRESSES", "AGENT"]);
    for agent in &status.agents {
        nodes.row([agent.node.clone(), addresses(&agent.addresses), process(agent.pid, agent.restarts)]);
    }
    nodes.print(&mut out)?;
    writeln!(out)?;
    let mut pods = Table::new(["POD", "NODE", "ADDRESSES", "STATE", "SERVES"]);
    for pod in &status.pods {
        let serves: Vec<_> = pod
            .programs
            .iter()
            .map(|program| match program.pid {
                Some(_) => format!("{} {}", program.name, program.ports.join(",")).trim_end().to_owned(),
                None => format!("{} {}", program.name, ui.paint(Paint::Red, "not running")),
            })
            .collect();
        let state = if pod.open { ui.paint(Paint::Green, "enforced") } else { ui.paint(Paint::Red, "closed") };
        pods.row([pod.name.to_string(), pod.node.clone(), addresses(&pod.addresses), state, serves.join("; ")]);
    }
    pods.print(&mut out)?;
    writeln!(out, "\noutside: {}", addresses(&status.outside))?;
    for problem in &status.problems {
        writeln!(out, "{} {problem}", ui.paint(Paint::Red, "error:"))?;
    }
    for note in &status.notes {
        writeln!(out, "{} {note}", ui.paint(Paint::Yellow, "note:"))?;
    }
    Ok(())
}

fn addresses(list: &[IpAddr]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
