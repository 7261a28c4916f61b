//! `strait status`.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use strait_agent::api::{MapFill, PacketCount, Status};

use crate::{
    agents::AgentsArgs,
    gateway::{self, RenderArgs},
    host_policy,
    ui::{Output, Paint, Ui, print_json},
};

/// How the agents are: objects, problems in manifests, endpoints, maps, losses, missing kernel features
///
/// Exit code 0 when every agent answers and enforces everything it knows, 1 when one does not.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  \
    strait status\n  \
    strait status --lab shop -o json\n  \
    strait status --socket /run/strait/agent.sock\n  \
    strait status render -f manifests/",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct StatusArgs {
    #[command(subcommand)]
    command: Option<StatusCommand>,

    #[command(flatten)]
    agents: AgentsArgs,

    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(clap::Subcommand, Debug)]
enum StatusCommand {
    Render(RenderArgs),
}

/// What one agent answered.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(crate) fn run(args: &StatusArgs, ui: Ui) -> anyhow::Result<ExitCode> {
    if let Some(StatusCommand::Render(args)) = &args.command {
        return gateway::render(args);
    }
    let answers: Vec<Answered> = args
        .agents
        .resolve()?
        .into_iter()
        .map(|agent| match agent.client.status() {
            Ok(status) => Answered { agent: agent.label, status: Some(status), error: None },
            Err(error) => Answered { agent: agent.label, status: None, error: Some(error.to_string()) },
        })
        .collect();
    match args.output {
        Output::Json => print_json(&answers)?,
        Output::Text => {
            let mut out = io::stdout().lock();
            for answer in &answers {
                print(answer, ui, &mut out)?;
            }
        }
    }
    let ok = answers.iter().all(|answer| answer.status.as_ref().is_some_and(|status| status.ok));
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(answer: &Answered, ui: Ui, out: &mut impl Write) -> io::Result<()> {
    let Some(status) = &answer.status else {
        let error = answer.error.as_deref().unwrap_or_default();
        return writeln!(out, "{}  {} {error}", ui.paint(Paint::Bold, &answer.agent), ui.paint(Paint::Red, "down:"));
    };
    let state = if status.ok { ui.paint(Paint::Green, "ok") } else { ui.paint(Paint::Red, "not ok") };
    writeln!(
        out,
        "{}  {state}  (strait {}, pid {}, since {}, kernel {})",
        ui.paint(Paint::Bold, &status.node),
        status.version,
        status.pid,
        status.started.strftime("%F %T UTC"),
        status.kernel
    )?;
    if let Some(error) = &status.enforcement_error {
        writeln!(out, "  {} {error}; what was enforced before stays in force", ui.paint(Paint::Red, "not enforced:"))?;
    }
    let kinds: Vec<String> = status.objects.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    writeln!(out, "  objects    {} (generation {})", kinds.join(", "), status.generation)?;
    for problem in &status.problems {
        writeln!(out, "    {} {problem}", ui.paint(Paint::Red, "error:"))?;
    }
    for note in &status.notes {
        writeln!(out, "    {} {note}", ui.paint(Paint::Yellow, "note:"))?;
    }
    let closed = match status.endpoints.closed {
        0 => String::new(),
        closed => ui.paint(Paint::Red, &format!(", {closed} closed (see `strait endpoint list`)")),
    };
    writeln!(
        out,
        "  endpoints  {} ready{closed} (policy revision {}, denials {})",
        status.endpoints.ready, status.revision, status.deny_response
    )?;
    // Nodes that have none say nothing of it.
    if let Some(policies) = &status.host_policy {
        let line = host_policy::line(policies, ui);
        if line != "none" {
            writeln!(out, "  host policies  {line}")?;
        }
    }
    print_maps(&status.maps, ui, out)?;
    print_packets(&status.packets, out)?;
    let lost = match status.lost_events {
        0 => "none lost".to_owned(),
        lost => ui.paint(Paint::Red, &format!("{lost} kernel events lost")),
    };
    let (held, capacity) = status.flows_held;
    writeln!(out, "  flows      {} seen, {held}/{capacity} held, {lost}", status.flows_seen)?;
    for feature in &status.missing_features {
        writeln!(out, "  {} {feature}", ui.paint(Paint::Yellow, "missing:"))?;
    }
    Ok(())
}

fn print_maps(maps: &[MapFill], ui: Ui, out: &mut impl Write) -> io::Result<()> {
    if maps.is_empty() {
        return Ok(());
    }
    let fill = |map: &MapFill| {
        let grown = match map.growths {
            0 => String::new(),
            times => format!(" (grown {times}×)"),
        };
        let forgotten = match map.forgotten {
            0 => String::new(),
            count => format!(" ({count} forgotten early)"),
        };
        let text = format!("{} {}/{}{grown}{forgotten}", map.name, map.entries, map.capacity);
        if map.is_pressed() { ui.paint(Paint::Yellow, &format!("{text} (nearly full)")) } else { text }
    };
    let fills: Vec<String> = maps.iter().map(fill).collect();
    let bytes: u64 = maps.iter().filter_map(|map| map.bytes).sum();
    writeln!(out, "  maps       {}; {} MiB of kernel memory", fills.join(", "), bytes.div_ceil(1 << 20))
}

/// All hooks together: a packet between two pods of the node is seen at two.
fn print_packets(counts: &[PacketCount], out: &mut impl Write) -> io::Result<()> {
    let (mut forwarded, mut dropped) = (0, BTreeMap::new());
    for count in counts {
        match &count.drop_reason {
            None => forwarded += count.packets,
            Some(reason) => *dropped.entry(&**reason).or_insert(0) += count.packets,
        }
    }
    let reasons: Vec<String> = dropped.iter().map(|(reason, packets)| format!("{packets} {reason}")).collect();
    let dropped =
        if reasons.is_empty() { "none dropped".to_owned() } else { format!("dropped {}", reasons.join(", ")) };
    writeln!(out, "  packets    {forwarded} forwarded, {dropped}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_say_how_full_they_are() {
        let map = |name: &str, entries, capacity, limit, growths| MapFill {
            name: name.into(),
            entries,
            capacity,
            limit,
            growths,
            forgotten: if entries == 95 { 3 } else { 0 },
            bytes: Some(1 << 20),
        };
        let mut out = Vec::new();
        let maps = [map("POLICY", 100, 128, 1_000, 2), map("CONNTRACK", 95, 100, 100, 0), map("IPCACHE", 1, 2, 4, 0)];
        print_maps(&maps, Ui::new(crate::ui::ColorChoice::Never), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "  maps       POLICY 100/128 (grown 2×), CONNTRACK 95/100 (3 forgotten early) (nearly full), IPCACHE 1/2; 3 MiB of kernel memory\n"
        );
    }
}
