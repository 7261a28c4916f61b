//! `strait lab logs`.

use std::{fs, io, io::Write, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::Args;
use strait_lab::{Lab, Place};

use super::WhichLab;

/// Print what agents, servers or the supervisor wrote
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  strait lab logs node-1\n  strait lab logs shop/web-0\n  strait lab logs supervisor"
)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    which: WhichLab,

    /// A node (its agent), NAMESPACE/POD, outside or supervisor [default: all of them]
    of: Option<String>,
}

pub(crate) fn run(args: &LogsArgs) -> anyhow::Result<ExitCode> {
    let lab = Lab::attach(&args.which.lab)?;
    let folder = lab.paths().logs();
    let mut names: Vec<String> = fs::read_dir(&folder)
        .with_context(|| format!("cannot list {}", folder.display()))?
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".log")?.to_owned()))
        .collect();
    names.sort();
    let mut out = io::stdout().lock();
    let Some(of) = &args.of else {
        for name in names {
            writeln!(out, "==> {name}")?;
            out.write_all(&fs::read(lab.paths().log(&name))?)?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let node = of.strip_prefix("node/").unwrap_or(of);
    let mut wanted = vec![format!("_{of}"), format!("_agent_{node}")];
    wanted.extend(of.parse::<Place>().map(|place| place.file_name()));
    let Some(name) = wanted.iter().find(|name| names.contains(name)) else {
        bail!("lab `{}` has no log of `{of}`; there are: {}", lab.name(), names.join(" "));
    };
    out.write_all(&fs::read(lab.paths().log(name))?)?;
    Ok(ExitCode::SUCCESS)
}
