//! `strait identity list`, `ipcache list`, `endpoint list`: what agents hold.

use std::{io, process::ExitCode};

use clap::{Args, Subcommand};
use serde::Serialize;
use strait_model::IpcacheKind;

use crate::{
    agents::AgentsArgs,
    ui::{Output, Paint, Table, Ui, print_json},
};

/// Security identities: which labels (or prefixes) each number stands for
///
/// Numbers below 256 are reserved (host, world, …), up to 65535 they stand for workloads, from 16777216 on they are
/// known to one node only.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    strait identity list\n  \
    strait identity list -o json | jq '.[] | select(.id == 1234)'")]
pub(crate) struct IdentityArgs {
    #[command(subcommand)]
    action: ListAction,
}

/// The ipcache: who is behind an address; the longest prefix decides
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    strait ipcache list\n  \
    strait ipcache list --lab shop -o json")]
pub(crate) struct IpcacheArgs {
    #[command(subcommand)]
    action: ListAction,
}

/// Endpoints: the pods of each node, their identities, and whether policy is enforced on them
///
/// An endpoint is `ready` when its programs are attached and its policy is loaded, else `closed`: nothing passes.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    strait endpoint list\n  \
    strait endpoint list -o json")]
pub(crate) struct EndpointArgs {
    #[command(subcommand)]
    action: ListAction,
}

#[derive(Subcommand, Debug)]
enum ListAction {
    /// List all of them, by node
    List(ListArgs),
}

#[derive(Args, Debug)]
struct ListArgs {
    #[command(flatten)]
    agents: AgentsArgs,

    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// An item with the node it was read from.
#[derive(Serialize)]
struct OnNode<T> {
    node: String,
    #[serde(flatten)]
    item: T,
}

fn collect<T>(
    args: &ListArgs,
    question: impl Fn(&strait_agent::Client) -> Result<Vec<T>, strait_agent::ClientError>,
) -> anyhow::Result<Vec<OnNode<T>>> {
    let mut all = Vec::new();
    for agent in args.agents.resolve()? {
        let items = agent.ask(&question)?;
        all.extend(items.into_iter().map(|item| OnNode { node: agent.label.clone(), item }));
    }
    Ok(all)
}

fn finish<T: Serialize>(args: &ListArgs, items: &[OnNode<T>], table: &Table) -> anyhow::Result<ExitCode> {
    match args.output {
        Output::Json => print_json(&items)?,
        Output::Text => table.print(&mut io::stdout().lock())?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn identities(args: &IdentityArgs) -> anyhow::Result<ExitCode> {
    let ListAction::List(args) = &args.action;
    let items = collect(args, strait_agent::Client::identities)?;
    let mut table = Table::new(["NODE", "ID", "LABELS"]);
    for OnNode { node, item } in &items {
        let apart = item.refined_by.iter().cloned().chain(item.cidrs.iter().map(|cidr| format!("in {cidr}")));
        let part = item.refines.map(|id| format!("(part of {id}: {})", apart.collect::<Vec<_>>().join(", ")));
        let mut lines = item.labels.iter().map(ToString::to_string).chain(part);
        table.row([node.clone(), item.id.0.to_string(), lines.next().unwrap_or_default()]);
        for line in lines {
            table.row([String::new(), String::new(), line]);
        }
    }
    finish(args, &items, &table)
}

pub(crate) fn ipcache(args: &IpcacheArgs) -> anyhow::Result<ExitCode> {
    let ListAction::List(args) = &args.action;
    let items = collect(args, strait_agent::Client::ipcache)?;
    let mut table = Table::new(["NODE", "PREFIX", "IDENTITY", "KIND", "BEHIND"]);
    for OnNode { node, item } in &items {
        let behind = item.node.map(|node| node.to_string()).unwrap_or_default();
        table.row([
            node.clone(),
            item.prefix.to_string(),
            item.identity.to_string(),
            kind_text(item.kind).to_owned(),
            behind,
        ]);
    }
    finish(args, &items, &table)
}

const fn kind_text(kind: IpcacheKind) -> &'static str {
    match kind {
        IpcacheKind::LocalPod => "pod of this node",
        IpcacheKind::RemotePod => "pod of another node",
        IpcacheKind::Host => "this node",
        IpcacheKind::RemoteNode => "another node",
        IpcacheKind::Unmanaged => "no known pod",
        IpcacheKind::World => "outside",
        IpcacheKind::Cidr => "outside, named by policy",
    }
}

pub(crate) fn endpoints(args: &EndpointArgs, ui: Ui) -> anyhow::Result<ExitCode> {
    let ListAction::List(args) = &args.action;
    let items = collect(args, strait_agent::Client::endpoints)?;
    let mut table = Table::new(["NODE", "ID", "POD", "IDENTITY", "ADDRESSES", "ISOLATED", "STATE"]);
    for OnNode { node, item } in &items {
        let addresses: Vec<String> = item.spec.addresses.iter().map(ToString::to_string).collect();
        let isolated = match (item.ingress_isolated, item.egress_isolated) {
            (false, false) => "-",
            (true, false) => "ingress",
            (false, true) => "egress",
            (true, true) => "ingress,egress",
        };
        let state = match &item.closed {
            None => ui.paint(Paint::Green, "ready"),
            Some(reason) => ui.paint(Paint::Red, &format!("closed: {reason}")),
        };
        table.row([
            node.clone(),
            item.id.to_string(),
            item.spec.name.to_string(),
            item.identity.map_or_else(|| "-".to_owned(), |id| id.to_string()),
            addresses.join(","),
            isolated.to_owned(),
            state,
        ]);
    }
    finish(args, &items, &table)
}
