//! `strait policy`: what policies say, and why.

mod ends;
mod live;
mod matrix;
mod objects;
mod probe;
mod question;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::ui::Ui;

/// What policies say, and why: asked of manifests, without a cluster, root or kernel
///
/// `verdict` answers one question, `explain` shows each step with the deciding rule's file and line, `matrix` asks for
/// every pair of pods.
#[derive(Args, Debug)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Subcommand, Debug)]
enum PolicyCommand {
    Verdict(question::VerdictArgs),
    Explain(question::ExplainArgs),
    Matrix(matrix::MatrixArgs),
}

pub(crate) fn run(args: &PolicyArgs, ui: Ui) -> anyhow::Result<ExitCode> {
    match &args.command {
        PolicyCommand::Verdict(args) => question::verdict(args, ui),
        PolicyCommand::Explain(args) => question::explain(args, ui),
        PolicyCommand::Matrix(args) => matrix::run(args, ui),
    }
}
