//! `strait lab list`.

use std::{io, process::ExitCode};

use clap::Args;
use strait_lab::Lab;

use super::OutputArgs;
use crate::ui::{Output, Table, print_json};

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let labs = Lab::list();
    match args.output.output {
        Output::Json => print_json(&labs)?,
        Output::Text if labs.is_empty() => eprintln!("there are no labs; start one with `strait lab up -f DIR`"),
        Output::Text => {
            let mut table = Table::new(["LAB", "STATE", "MANIFESTS"]);
            for lab in labs {
                let state = if lab.running { "running" } else { "abandoned" };
                let manifests = lab.settings.map(|settings| settings.manifests).unwrap_or_default();
                let manifests: Vec<_> = manifests.iter().map(|path| path.display().to_string()).collect();
                table.row([lab.name.to_string(), state.to_owned(), manifests.join(" ")]);
            }
            table.print(&mut io::stdout().lock())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
