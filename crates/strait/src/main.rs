//! The `strait` binary: command line and roles.
//!
//! One module a subcommand; what a library can hold is in a library. Exit code 0 says yes (or done), 1 no, 2 that the question
//! could not be answered.

mod agent;
mod agents;
mod analyze;
mod completions;
mod config;
mod echo;
mod flows;
mod gateway;
mod host_policy;
mod lab;
mod list;
mod policy;
mod status;
mod ui;

use std::{io, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::ui::{ColorChoice, Ui};

/// One Kubernetes network: policy in the kernel, a lab on one Linux host, and the reason for every verdict.
#[derive(Parser, Debug)]
#[command(version, max_term_width = 120, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Exit code: 0 yes or done, 1 no, 2 the question could not be answered.\n\
    `strait COMMAND --help` explains each command with examples.")]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Colour in text for people; `NO_COLOR` in the environment means never
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", hide_possible_values = false)]
    color: ColorChoice,
}

#[derive(Subcommand, Debug)]
enum Command {
    Lab(lab::LabArgs),
    Policy(policy::PolicyArgs),
    Analyze(analyze::AnalyzeArgs),
    Agent(agent::AgentArgs),
    Flows(flows::FlowsArgs),
    Status(status::StatusArgs),
    Identity(list::IdentityArgs),
    Ipcache(list::IpcacheArgs),
    Endpoint(list::EndpointArgs),
    HostPolicy(host_policy::HostPolicyArgs),
    Gateway(gateway::GatewayArgs),
    Try(gateway::TryArgs),
    Config(config::ConfigArgs),
    Echo(echo::EchoArgs),
    Completions(completions::CompletionsArgs),
}

fn main() -> ExitCode {
    let Cli { command, color } = Cli::parse();
    let ui = Ui::new(color);
    let result = match command {
        Command::Lab(args) => lab::run(args, ui),
        Command::Policy(args) => policy::run(&args, ui),
        Command::Analyze(args) => analyze::run(&args, ui),
        Command::Agent(args) => agent::run(args),
        Command::Flows(args) => flows::run(args, ui),
        Command::Status(args) => status::run(&args, ui),
        Command::Identity(args) => list::identities(&args),
        Command::Ipcache(args) => list::ipcache(&args),
        Command::Endpoint(args) => list::endpoints(&args, ui),
        Command::HostPolicy(args) => host_policy::run(&args, ui),
        Command::Gateway(args) => gateway::run(args),
        Command::Try(args) => gateway::run_try(args),
        Command::Config(args) => config::run(&args),
        Command::Echo(args) => echo::run(args),
        Command::Completions(args) => completions::run(&args),
    };
    match result {
        Ok(code) => code,
        // The reader of a pipe has seen enough (`strait flows | head`).
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{} {error:#}", ui.red_stderr("error:"));
            ExitCode::from(2)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
