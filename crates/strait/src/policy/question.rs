//! `strait policy verdict` and `explain`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use serde::Serialize;
use strait_model::{Connection, Decision, Explanation, Family, Origin, Reason, Snapshot};

use super::{
    ends::{connections, resolve},
    objects::ObjectsArgs,
    probe::Probe,
};
use crate::ui::{Output, Paint, Ui, print_json};

/// May this connection be opened? Exit code 0 yes, 1 no
///
/// A name of several pods (a service or a workload) asks for all of them: yes means that every one may. The port of a
/// service is translated to that of its pods, as the cluster would.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    strait policy verdict -f shop/ --from shop/web-0 --to shop/db-0 --port 5432/TCP\n  \
    strait policy verdict -f shop/ --from shop/web --to shop/db --port 5432        (service or workload names)\n  \
    strait policy verdict -f shop/ --from 203.0.113.7 --to shop/web-0 --port 80 && echo open\n  \
    strait policy verdict --lab lab --from node/node-1 --to shop/db-0 --port ICMP  (objects of a running lab)")]
pub(crate) struct VerdictArgs {
    #[command(flatten)]
    question: QuestionArgs,
}

/// Why may this connection be opened, or why not? Every step, the deciding rule, the nearest miss
///
/// Shows whose policies apply, who the other side is to them, whether it is isolated, and the rule that decided with
/// file and line; for a deny, the rule that came nearest to allowing it. Exit code 0 allowed, 1 denied.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    strait policy explain -f shop/ --from shop/web-0 --to shop/db-0 --port 8080/TCP\n  \
    strait policy explain -f shop/ --from shop/web-0 --to 203.0.113.7 --port 443 -o json")]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    question: QuestionArgs,
}

#[derive(Args, Debug)]
struct QuestionArgs {
    #[command(flatten)]
    objects: ObjectsArgs,

    /// Who opens it: NAMESPACE/NAME of a pod, workload or service, node/NAME, or an address
    #[arg(long, value_name = "WHO")]
    from: String,

    /// To whom: as --from
    #[arg(long, value_name = "WHO")]
    to: String,

    /// Over what: 80/TCP, 53/UDP, 9/SCTP, 80 (TCP), ICMP or protocol/47
    #[arg(long, value_name = "PORT/PROTOCOL")]
    port: Probe,

    /// Namespace of names without one
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,

    /// Address family [default: the first that both sides have, IPv4 before IPv6]
    #[arg(long, value_enum)]
    family: Option<FamilyArg>,

    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FamilyArg {
    Ipv4,
    Ipv6,
}

/// The answer to a question, of whichever form its parts have.
#[derive(Serialize)]
struct Answer<T> {
    from: String,
    to: String,
    port: u16,
    protocol: String,
    /// Every one of the connections may be opened.
    allowed: bool,
    connections: Vec<T>,
}

/// What is said of one connection.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Judged {
    from: String,
    to: String,
    port: u16,
    protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<Family>,
    allowed: bool,
    egress: Decision,
    ingress: Decision,
}

impl QuestionArgs {
    fn ask(&self) -> anyhow::Result<(Snapshot, Vec<Connection>)> {
        let objects = self.objects.load()?;
        let snapshot = super::objects::snapshot(&objects);
        let from = resolve(&self.from, &self.namespace, &objects, &snapshot)?;
        let to = resolve(&self.to, &self.namespace, &objects, &snapshot)?;
        let family = self.family.map(|family| match family {
            FamilyArg::Ipv4 => Family::V4,
            FamilyArg::Ipv6 => Family::V6,
        });
        let connections = connections(&from, &to, self.port.0, family, &snapshot)?;
        Ok((snapshot, connections))
    }

    fn answer<T: Serialize>(&self, allowed: bool, connections: Vec<T>) -> Answer<T> {
        let (port, protocol) = self.port.fields();
        Answer { from: self.from.clone(), to: self.to.clone(), port, protocol, allowed, connections }
    }
}

fn exit(allowed: bool) -> ExitCode {
    if allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub(crate) fn verdict(args: &VerdictArgs, ui: Ui) -> anyhow::Result<ExitCode> {
    let question = &args.question;
    let (snapshot, connections) = question.ask()?;
    let judged: Vec<Judged> = connections.iter().map(|connection| judge(connection, &snapshot)).collect();
    let allowed = judged.iter().all(|judged| judged.allowed);
    match question.output {
        Output::Json => print_json(&question.answer(allowed, judged))?,
        Output::Text => {
            let mut out = io::stdout().lock();
            for judged in &judged {
                writeln!(out, "{}", line(judged, ui))?;
            }
            if judged.len() > 1 {
                let count = judged.iter().filter(|judged| judged.allowed).count();
                writeln!(out, "{count} of {} connections are allowed", judged.len())?;
            }
        }
    }
    Ok(exit(allowed))
}

pub(crate) fn explain(args: &ExplainArgs, ui: Ui) -> anyhow::Result<ExitCode> {
    let question = &args.question;
    let (snapshot, connections) = question.ask()?;
    let explanations: Vec<Explanation> = connections.iter().map(|connection| snapshot.explain(connection)).collect();
    let allowed = explanations.iter().all(|explanation| explanation.allowed);
    match question.output {
        Output::Json => print_json(&question.answer(allowed, explanations))?,
        Output::Text => {
            let mut out = io::stdout().lock();
            for (index, explanation) in explanations.iter().enumerate() {
                if index > 0 {
                    writeln!(out, "\n{}\n", ui.paint(Paint::Dim, &"─".repeat(60)))?;
                }
                write!(out, "{}", explanation.render(ui.color))?;
            }
        }
    }
    Ok(exit(allowed))
}

/// The verdict, with the nearest miss where it is a deny.
fn judge(connection: &Connection, snapshot: &Snapshot) -> Judged {
    let mut verdict = snapshot.verdict(connection);
    if !verdict.allowed {
        for step in snapshot.explain(connection).steps {
            match step.direction {
                strait_model::Direction::Egress => verdict.egress = step.decision,
                strait_model::Direction::Ingress => verdict.ingress = step.decision,
            }
        }
    }
    let (port, protocol) = Probe(connection.l4).fields();
    Judged {
        from: connection.from.to_string(),
        to: connection.to.to_string(),
        port,
        protocol,
        family: verdict.family,
        allowed: verdict.allowed,
        egress: verdict.egress,
        ingress: verdict.ingress,
    }
}

fn line(judged: &Judged, ui: Ui) -> String {
    let word = if judged.allowed { ui.paint(Paint::Green, "allowed") } else { ui.paint(Paint::Red, "denied ") };
    let port = if judged.port == 0 { judged.protocol.clone() } else { format!("{}/{}", judged.port, judged.protocol) };
    let mut because: Vec<String> = [("egress", &judged.egress), ("ingress", &judged.ingress)]
        .into_iter()
        .filter(|(_, decision)| decision.allowed == judged.allowed)
        .filter_map(|(side, decision)| reason(side, decision))
        .collect();
    because.dedup();
    let because =
        if because.is_empty() { String::new() } else { format!("  {}", ui.paint(Paint::Dim, &because.join("; "))) };
    format!("{word}  {} → {} {port}{because}", judged.from, judged.to)
}

fn reason(side: &str, decision: &Decision) -> Option<String> {
    let origins = || decision.origins.iter().map(Origin::to_string).collect::<Vec<_>>().join(", ");
    match decision.reason {
        Reason::NotPolicySubject | Reason::NotIsolated => None,
        Reason::OwnPod => Some("a pod reaches itself".to_owned()),
        Reason::Loopback => Some("a node reaches itself".to_owned()),
        Reason::OwnNode => Some("a node and its pods reach each other".to_owned()),
        Reason::Rule => Some(format!("{side} by {}", origins())),
        Reason::Closed => Some(format!("{side} closed by {}, of which not everything is enforced yet", origins())),
        Reason::Audited => Some(format!("{side} would be denied by {}, which only reports", origins())),
        Reason::NoAddress => Some("no address of a common family".to_owned()),
        Reason::NoRule => {
            let miss = decision.nearest_miss.as_ref().map(|miss| format!(": {miss}")).unwrap_or_default();
            Some(format!("{side} isolated by {}{miss}", origins()))
        }
    }
}
