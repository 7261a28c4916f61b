//! `strait completions`.

use std::{io, process::ExitCode};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Print the completion script of a shell
///
/// Examples:
///   strait completions bash > /etc/bash_completion.d/strait
///   strait completions zsh > ~/.zfunc/_strait
///   strait completions fish > ~/.config/fish/completions/strait.fish
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    // Into memory first: the generator panics where a write fails.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "strait", &mut script);
    io::Write::write_all(&mut io::stdout().lock(), &script)?;
    Ok(ExitCode::SUCCESS)
}
