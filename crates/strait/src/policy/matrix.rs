//! `strait policy matrix`: who reaches whom.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    process::ExitCode,
};

use anyhow::bail;
use clap::Args;
use serde::Serialize;
use strait_api::Objects;
use strait_lab::topology::SYSTEM;
use strait_model::{Connection, Family, Party, PodKey, Snapshot};

use super::{live, objects::ObjectsArgs, probe::Probe};
use crate::ui::{Output, Paint, Table, Ui, print_json};

/// Who reaches whom: every ordered pair of pods, itself included, for each probe
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

    /// Ask with packets
    #[arg(long)]
    live: bool,

    /// Ask over IPv6
    #[arg(long)]
    ipv6: bool,

    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// One cell.
#[derive(Serialize)]
struct Cell {
    from: String,
    to: String,
    port: u16,
    protocol: String,
    allowed: bool,
}

/// From, to, probe.
pub(crate) type Key = (PodKey, PodKey, Probe);

pub(crate) fn run(args: &MatrixArgs, ui: Ui) -> anyhow::Result<ExitCode> {
    let objects = args.objects.load()?;
    let snapshot = Snapshot::new(&objects);
    let pods = pods(&objects, &snapshot);
    if pods.is_empty() {
        bail!("the manifests have no pod with an address");
    }
    let family = if args.ipv6 { Family::V6 } else { Family::V4 };
    let mut probes = args.probes.clone();
    probes.dedup();
    let verdicts = if args.live {
        live::ask(&args.objects.lab, &pods, &probes, family, &snapshot)?
    } else {
        judge(&pods, &probes, family, &snapshot)
    };
    match args.output {
        Output::Json => print_json(&cells(&pods, &probes, &verdicts))?,
        Output::Text => print(&pods, &probes, &verdicts, ui)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The pods that manifests ask for, in order of their names.
fn pods(objects: &Objects, snapshot: &Snapshot) -> Vec<PodKey> {
    let system = |key: &PodKey| {
        objects.pods().any(|pod| {
            pod.meta.name == key.name
                && pod.meta.namespace == key.namespace
                && pod.meta.annotations.contains_key(SYSTEM)
        })
    };
    let endpoints = snapshot.pods().filter(|pod| pod.is_endpoint());
    endpoints.map(|pod| pod.key.clone()).filter(|key| !system(key)).collect()
}

fn judge(pods: &[PodKey], probes: &[Probe], family: Family, snapshot: &Snapshot) -> BTreeMap<Key, bool> {
    let mut verdicts = BTreeMap::new();
    for from in pods {
        for to in pods {
            for probe in probes {
                let connection = Connection {
                    from: Party::Pod(from.clone()),
                    to: Party::Pod(to.clone()),
                    l4: probe.0,
                    family: Some(family),
                };
                verdicts.insert((from.clone(), to.clone(), *probe), snapshot.verdict(&connection).allowed);
            }
        }
    }
    verdicts
}

fn cells(pods: &[PodKey], probes: &[Probe], verdicts: &BTreeMap<Key, bool>) -> Vec<Cell> {
    let mut cells = Vec::new();
    for probe in probes {
        let (port, protocol) = probe.fields();
        for from in pods {
            for to in pods {
                cells.push(Cell {
                    from: from.to_string(),
                    to: to.to_string(),
                    port,
                    protocol: protocol.clone(),
                    allowed: allowed(verdicts, from, to, *probe),
                });
            }
        }
    }
    cells
}

fn allowed(verdicts: &BTreeMap<Key, bool>, from: &PodKey, to: &PodKey, probe: Probe) -> bool {
    verdicts.get(&(from.clone(), to.clone(), probe)).copied().unwrap_or(false)
}

fn print(pods: &[PodKey], probes: &[Probe], verdicts: &BTreeMap<Key, bool>, ui: Ui) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (index, probe) in probes.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        writeln!(out, "{}  (row: from, column: to)", ui.paint(Paint::Bold, &probe.0.to_string()))?;
        let numbers = (1..=pods.len()).map(|number| number.to_string());
        let mut table = Table::new(["", "FROM"]);
        table.widen_header(numbers);
        for (number, from) in (1_usize..).zip(pods) {
            let mut row = vec![number.to_string(), from.to_string()];
            row.extend(pods.iter().map(|to| {
                if allowed(verdicts, from, to, *probe) {
                    ui.paint(Paint::Green, "✓")
                } else {
                    ui.paint(Paint::Red, "✗")
                }
            }));
            table.row_of(row);
        }
        table.print(&mut out)?;
    }
    Ok(())
}
