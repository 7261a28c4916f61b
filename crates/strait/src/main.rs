//! The `strait` binary: command line and roles.

mod echo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// One Kubernetes network: policy in the kernel, a lab on one Linux host, and the reason for every verdict.
#[derive(Parser, Debug)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Echo(echo::EchoArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Echo(args) => echo::run(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}
