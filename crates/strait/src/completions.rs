//! `strait completions`.

use std::{io, process::ExitCode};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Print the completion script of a shell
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    strait completions bash > /etc/bash_completion.d/strait\n  \
    strait completions zsh > ~/.zfunc/_strait\n  \
    strait completions fish > ~/.config/fish/completions/strait.fish")]
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
