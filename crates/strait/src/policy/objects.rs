//! Where the objects come from that a question is about.

use std::path::PathBuf;

use anyhow::{anyhow, bail};
use clap::Args;
use strait_api::{
    Objects,
    source::{Directory, Problem},
};
use strait_lab::{Lab, LabName};
use strait_model::Snapshot;

/// Manifests, or a running lab.
#[derive(Args, Debug)]
pub(crate) struct ObjectsArgs {
    /// Manifests: a file or a folder (*.yaml, *.yml, *.json, recursive); may be repeated. Without it: those of the lab
    #[arg(short = 'f', long = "filename", value_name = "DIR")]
    pub(crate) roots: Vec<PathBuf>,

    /// The lab to ask about where no manifests are named
    #[arg(long, value_name = "NAME", default_value_t, env = "STRAIT_LAB", hide_env = true)]
    pub(crate) lab: LabName,
}

impl ObjectsArgs {
    /// The objects with everything that controllers would add: pods of workloads, addresses, nodes.
    pub(crate) fn load(&self) -> anyhow::Result<Objects> {
        if self.roots.is_empty() {
            let lab =
                Lab::attach(&self.lab).map_err(|error| anyhow!("no manifests are named (-f DIR), and {error}"))?;
            // Agents keep the last good version of a file in force, which only they have.
            for problem in lab.status().map(|status| status.problems).unwrap_or_default() {
                eprintln!("note: lab `{}`: {problem}", self.lab);
            }
            return Ok(open(&lab.roots())?.objects().clone());
        }
        read(&self.roots)
    }
}

/// Reads manifests. An answer from manifests that are partly wrong would be wrong: every error is shown, and that is the end
/// of it.
fn open(roots: &[PathBuf]) -> anyhow::Result<Directory> {
    let directory = Directory::open(roots)?;
    let mut errors = 0;
    for problem in directory.problems().filter(|problem| problem.is_worth_showing()) {
        if problem.is_error() {
            errors += 1;
        }
        let word = if problem.is_error() { "error" } else { "note" };
        // That nothing of a wrong file is in force is for agents to say.
        if let Problem::Wrong { error, .. } = problem {
            eprintln!("{word}: {error}");
        } else {
            eprintln!("{word}: {problem}");
        }
    }
    match errors {
        0 => Ok(directory),
        1 => bail!("the manifests have an error; correct it and ask again"),
        _ => bail!("the manifests have {errors} errors; correct them and ask again"),
    }
}

/// Reads and expands manifests.
fn read(roots: &[PathBuf]) -> anyhow::Result<Objects> {
    let directory = open(roots)?;
    if directory.objects().is_empty() {
        let roots: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
        bail!("no objects in {} (manifests are *.yaml, *.yml and *.json)", roots.join(", "));
    }
    let expansion = strait_cluster::expand(directory.objects(), &strait_cluster::Options::default(), None);
    for note in &expansion.notes {
        eprintln!("note: {note}");
    }
    Ok(expansion.objects)
}

/// What `objects` mean; what of their policies nothing enforces as it is written is noted.
pub(crate) fn snapshot(objects: &Objects) -> Snapshot {
    let snapshot = Snapshot::new(objects);
    for problem in snapshot.problems() {
        eprintln!("note: {problem}");
    }
    snapshot
}
