//! `strait host-policy`: changes of host policies, kept or rolled back.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::bail;
use clap::{Args, Subcommand};
use jiff::SignedDuration;
use serde::Serialize;
use strait_agent::{
    Client, ClientError,
    api::{HostPolicyRevision, HostPolicyStage, HostPolicyStatus},
};

use crate::{
    agents::{Agent, AgentsArgs},
    ui::{Output, Paint, Ui, print_json},
};

/// Host policies: what is in force on nodes, and whether a change of it is kept
///
/// A changed host policy may cut you off from the node. So a node's agent puts a change in force for a while only (`strait agent
/// --host-policy-confirm`), and goes back to the host policies that were confirmed last unless somebody confirms the change. It does
/// so too where it starts anew before that. What was rolled back stays so until manifests say something else, or until `retry`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    strait host-policy status\n  \
    strait host-policy confirm 5c1b7e0d9a4f2e36\n  \
    strait host-policy confirm 5c1b7e0d9a4f2e36 --lab shop --node node-2\n  \
    strait host-policy retry 5c1b7e0d9a4f2e36 --socket /run/strait/agent.sock")]
pub(crate) struct HostPolicyArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Show what is in force, what changed, and until when
    ///
    /// Exit code 0 where everything is confirmed, 1 where something is not or was rolled back.
    Status(StatusArgs),
    /// Keep a change
    ///
    /// Exit code 0 where no agent is left with an unconfirmed change.
    Confirm(RevisionArgs),
    /// Put a change in force again that was rolled back, until another deadline
    Retry(RevisionArgs),
}

#[derive(Args, Debug)]
struct StatusArgs {
    #[command(flatten)]
    which: WhichArgs,

    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Args, Debug)]
struct RevisionArgs {
    /// What `status` names the change by: nothing that came meanwhile is meant. Nodes where policies mean the same have the same
    /// revision; several may be named
    #[arg(required = true, value_name = "REVISION")]
    revisions: Vec<HostPolicyRevision>,

    #[command(flatten)]
    which: WhichArgs,
}

#[derive(Args, Debug)]
struct WhichArgs {
    #[command(flatten)]
    agents: AgentsArgs,

    /// Only the agents of these nodes; may be repeated
    #[arg(long = "node", value_name = "NAME")]
    nodes: Vec<String>,
}

impl WhichArgs {
    fn resolve(&self) -> anyhow::Result<Vec<Agent>> {
        let mut agents = self.agents.resolve()?;
        if !self.nodes.is_empty() {
            let mut kept = Vec::new();
            for agent in agents {
                // A socket has no name of its own.
                let node = agent.ask(Client::status)?.node.to_string();
                kept.extend(self.nodes.contains(&node).then_some(agent));
            }
            agents = kept;
        }
        if agents.is_empty() {
            bail!("no agent serves {}", self.nodes.join(", "));
        }
        Ok(agents)
    }
}

/// How long changed host policies may wait for their confirmation: `0`, or a time of at least a second.
pub(crate) fn window(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let duration = text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    match duration {
        Some(duration) if duration.is_zero() || (1..=86_400).contains(&duration.as_secs()) => Ok(duration),
        _ => Err(format!("found {text:?}, expected 0, or a time from 1s to 24h, as in 60s or 5m")),
    }
}

/// What one agent answered.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    node: String,
    #[serde(flatten)]
    status: Option<HostPolicyStatus>,
}

pub(crate) fn run(args: &HostPolicyArgs, ui: Ui) -> anyhow::Result<ExitCode> {
    match &args.action {
        Action::Status(args) => status(args, ui),
        Action::Confirm(args) => decide(args, HostPolicyStage::Unconfirmed, Client::host_policy_confirm, ui),
        Action::Retry(args) => decide(args, HostPolicyStage::RolledBack, Client::host_policy_retry, ui),
    }
}

fn status(args: &StatusArgs, ui: Ui) -> anyhow::Result<ExitCode> {
    let mut answers = Vec::new();
    for agent in args.which.resolve()? {
        answers.push(Answered { status: agent.ask(Client::status)?.host_policy, node: agent.label });
    }
    match args.output {
        Output::Json => print_json(&answers)?,
        Output::Text => {
            let mut out = io::stdout().lock();
            for Answered { node, status } in &answers {
                let line =
                    status.as_ref().map_or_else(|| "no manifest knows this node".to_owned(), |status| line(status, ui));
                writeln!(out, "{}  {line}", ui.paint(Paint::Bold, node))?;
                for policy in status.iter().flat_map(|status| &status.in_force) {
                    writeln!(out, "  in force   {}  {}:{}", policy.name, policy.file, policy.line)?;
                }
            }
        }
    }
    let settled = |status: &HostPolicyStatus| status.stage == HostPolicyStage::Confirmed && status.error.is_none();
    let all = answers.iter().filter_map(|answer| answer.status.as_ref()).all(settled);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Speaks to every agent whose host policies stand at `stage`. Those of revisions that were not named are left as they are, and named.
fn decide(
    args: &RevisionArgs,
    stage: HostPolicyStage,
    order: impl Fn(&Client, HostPolicyRevision) -> Result<HostPolicyStatus, ClientError>,
    ui: Ui,
) -> anyhow::Result<ExitCode> {
    let (mut done, mut left) = (0_usize, 0_usize);
    let mut out = io::stdout().lock();
    for agent in args.which.resolve()? {
        let Some(found) = agent.ask(Client::status)?.host_policy else { continue };
        let named = args.revisions.contains(&found.revision);
        let answer = match (found.stage == stage, named) {
            (true, true) => match order(&agent.client, found.revision) {
                Ok(status) => {
                    done += 1;
                    line(&status, ui)
                }
                // It changed between question and order.
                Err(ClientError::Refused(message)) => {
                    left += 1;
                    message
                }
                Err(error) => return Err(error.into()),
            },
            (true, false) => {
                left += 1;
                format!("left as they are: {}", line(&found, ui))
            }
            // Somebody did it before, or it is too late.
            (false, true) => {
                if found.stage == HostPolicyStage::RolledBack {
                    left += 1;
                } else {
                    done += 1;
                }
                line(&found, ui)
            }
            (false, false) => line(&found, ui),
        };
        writeln!(out, "{}  {answer}", ui.paint(Paint::Bold, &agent.label))?;
    }
    if done + left == 0 {
        let names: Vec<String> = args.revisions.iter().map(ToString::to_string).collect();
        bail!("no node has host policies {}", names.join(", "));
    }
    Ok(if left == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How the host policies of a node stand, and what to do about it.
pub(crate) fn line(status: &HostPolicyStatus, ui: Ui) -> String {
    let since = status.since.map_or_else(String::new, |since| since.strftime(" since %F %T UTC").to_string());
    let changes = if status.changes.is_empty() { String::new() } else { format!(" ({})", status.changes.join(" ")) };
    let revision = status.revision;
    let text = match status.stage {
        HostPolicyStage::Confirmed if status.in_force.is_empty() => "none".to_owned(),
        HostPolicyStage::Confirmed => format!("{} {revision}", ui.paint(Paint::Green, "confirmed")),
        HostPolicyStage::Unconfirmed => format!(
            "{} {revision}{changes}{since}: rolled back in {} s unless you run `strait host-policy confirm {revision}`",
            ui.paint(Paint::Yellow, "unconfirmed"),
            status.remaining_ms.unwrap_or_default().div_ceil(1000),
        ),
        HostPolicyStage::RolledBack => format!(
            "{} {revision}{changes}{since}: {}; {} are in force; `strait host-policy retry {revision}` tries it again",
            ui.paint(Paint::Red, "rolled back"),
            status.reason.as_deref().unwrap_or_default(),
            status.confirmed,
        ),
    };
    match &status.error {
        None => text,
        Some(error) => format!("{text}; {} {error}", ui.paint(Paint::Red, "not in force:")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows() {
        for (text, expected) in
            [("0", Some(0)), ("0s", Some(0)), ("60s", Some(60)), ("5m", Some(300)), ("24h", Some(86_400))]
        {
            assert_eq!(window(text).ok().map(|window| window.as_secs()), expected, "{text}");
        }
        for text in ["", "60", "-1s", "10ms", "25h", "soon"] {
            assert!(window(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_to_do_is_said() {
        let ui = Ui::new(crate::ui::ColorChoice::Never);
        let revision: HostPolicyRevision = "00000000000000ff".parse().unwrap();
        let status = HostPolicyStatus {
            revision,
            changes: vec!["~edge".to_owned()],
            since: Some("2026-11-28T21:00:00Z".parse().unwrap()),
            ..HostPolicyStatus::default()
        };
        for (status, expected) in [
            (HostPolicyStatus::default(), "none"),
            (
                HostPolicyStatus { stage: HostPolicyStage::Unconfirmed, remaining_ms: Some(41_001), ..status.clone() },
                "unconfirmed 00000000000000ff (~edge) since 2026-11-28 21:00:00 UTC: rolled back in 42 s unless you run \
                 `strait host-policy confirm 00000000000000ff`",
            ),
            (
                HostPolicyStatus {
                    stage: HostPolicyStage::RolledBack,
                    reason: Some("nobody confirmed them in time".into()),
                    ..status
                },
                "rolled back 00000000000000ff (~edge) since 2026-11-28 21:00:00 UTC: nobody confirmed them in time; \
                 0000000000000000 are in force; `strait host-policy retry 00000000000000ff` tries it again",
            ),
        ] {
            assert_eq!(line(&status, ui), expected);
        }
    }
}
