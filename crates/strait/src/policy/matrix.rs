//! `strait policy matrix`: who reaches whom.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
};

use anyhow::bail;
use clap::Args;
use serde::Serialize;
use strait_api::Objects;
use strait_lab::topology::SYSTEM;
use strait_model::{Connection, Family, Party, PodKey, Snapshot};

use super::{live, objects::ObjectsArgs, probe::Probe};
use crate::ui::{Output, Paint, Table, Ui, print_json};

/// Who reaches whom: every ordered pair of pods, itself included, for each probe; with --nodes also of nodes
///
/// With --live the question is put with packets in a running lab: allowed means that the destination itself answered
/// or refused. Pods that the lab adds for its own sake are left out.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    strait policy matrix -f shop/ --probe 80/TCP\n  \
    strait policy matrix -f shop/ --probe 80/TCP --probe 53/UDP -o json\n  \
    strait policy matrix --live --lab lab --probe 80/TCP")]
pub(crate) struct MatrixArgs {
    #[command(flatten)]
    objects: ObjectsArgs,

    /// What to ask for: 80/TCP, 53/UDP, 80 (TCP) or ICMP; may be repeated
    #[arg(long = "probe", value_name = "PORT/PROTOCOL", required = true)]
    probes: Vec<Probe>,

    /// Ask about nodes too: what they send and receive themselves, which host policies judge
    #[arg(long)]
    nodes: bool,

    /// Ask with packets
    #[arg(long)]
    live: bool,

    /// Ask over IPv6 [default: the first family that both sides have, IPv4 before IPv6]
    #[arg(long)]
    ipv6: bool,

    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// One cell.
#[derive(Serialize)]
struct Cell<'a> {
    from: &'a str,
    to: &'a str,
    port: u16,
    protocol: &'a str,
    allowed: bool,
}

/// What is asked: every probe from each to each.
pub(crate) struct Question {
    /// Pods, and nodes where they are asked about.
    pub(crate) ends: Vec<Party>,
    pub(crate) probes: Vec<Probe>,
    pub(crate) family: Option<Family>,
}

impl Question {
    /// Probe, from and to of every cell, in the order of the answers.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (Probe, &Party, &Party)> {
        let pairs = || self.ends.iter().flat_map(|from| self.ends.iter().map(move |to| (from, to)));
        self.probes.iter().flat_map(move |probe| pairs().map(move |(from, to)| (*probe, from, to)))
    }
}

pub(crate) fn run(args: &MatrixArgs, ui: Ui) -> anyhow::Result<ExitCode> {
    let objects = args.objects.load()?;
    let snapshot = super::objects::snapshot(&objects);
    let mut ends: Vec<Party> = pods(&objects, &snapshot).into_iter().map(Party::Pod).collect();
    if args.nodes {
        let with_address = snapshot.nodes().filter(|node| !node.addresses.is_empty());
        ends.extend(with_address.map(|node| Party::Node(Arc::clone(&node.name))));
    }
    if ends.is_empty() {
        bail!("the manifests have no pod with an address");
    }
    let mut probes: Vec<Probe> = Vec::new();
    for probe in &args.probes {
        if !probes.contains(probe) {
            probes.push(*probe);
        }
    }
    let family = args.ipv6.then_some(Family::V6);
    let question = Question { ends, probes, family };
    let allowed = if args.live { live::ask(&args.objects.lab, &question)? } else { judge(&question, &snapshot) };
    match args.output {
        Output::Json => json(&question, &allowed)?,
        Output::Text => print(&question, &allowed, ui)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The pods that manifests ask for, in order of their names.
fn pods(objects: &Objects, snapshot: &Snapshot) -> Vec<PodKey> {
    let system: BTreeSet<PodKey> = objects
        .pods()
        .filter(|pod| pod.meta.annotations.contains_key(SYSTEM))
        .map(|pod| PodKey::new(&pod.meta.namespace, &pod.meta.name))
        .collect();
    let endpoints = snapshot.pods().filter(|pod| pod.is_endpoint());
    endpoints.map(|pod| pod.key.clone()).filter(|key| !system.contains(key)).collect()
}

fn judge(question: &Question, snapshot: &Snapshot) -> Vec<bool> {
    let connection = |(probe, from, to): (Probe, &Party, &Party)| Connection {
        from: from.clone(),
        to: to.clone(),
        l4: probe.0,
        family: question.family,
    };
    question.cells().map(|cell| snapshot.verdict(&connection(cell)).allowed).collect()
}

fn json(question: &Question, allowed: &[bool]) -> anyhow::Result<()> {
    let names: Vec<String> = question.ends.iter().map(ToString::to_string).collect();
    let fields: Vec<(u16, String)> = question.probes.iter().map(|probe| probe.fields()).collect();
    let size = names.len();
    let cell = |(index, allowed): (usize, &bool)| {
        let (port, protocol) = &fields[index / (size * size)];
        let (from, to) = (&names[index / size % size], &names[index % size]);
        Cell { from, to, port: *port, protocol, allowed: *allowed }
    };
    print_json(&allowed.iter().enumerate().map(cell).collect::<Vec<_>>())
}

fn print(question: &Question, allowed: &[bool], ui: Ui) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let size = question.ends.len();
    for (index, (probe, cells)) in question.probes.iter().zip(allowed.chunks(size * size)).enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        writeln!(out, "{}  (row: from, column: to)", ui.paint(Paint::Bold, &probe.0.to_string()))?;
        let mut table = Table::new(["", "FROM"]);
        table.widen_header((1..=size).map(|number| number.to_string()));
        for (number, (from, row)) in (1_usize..).zip(question.ends.iter().zip(cells.chunks(size))) {
            let marks = row.iter().map(|allowed| match allowed {
                true => ui.paint(Paint::Green, "✓"),
                false => ui.paint(Paint::Red, "✗"),
            });
            table.row_of([number.to_string(), from.to_string()].into_iter().chain(marks).collect());
        }
        table.print(&mut out)?;
    }
    out.flush()
}
