//! Everything CI does, typed. `make` is a thin front for people.
//!
//! It depends on no crate of the workspace: it builds before they do, and drives the `strait` binary as people do.

mod bench;
mod bpf;
mod change;
mod chaos;
mod ci;
mod demo;
mod fuzz;
mod grpc;
mod lab;
#[cfg(test)]
mod layers;
mod peer;
mod policy;
mod run;
mod setup;
mod table;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

const HELP: &str = "\
cargo xtask COMMAND

  setup [demo|test|bench] [--check]   install what that task is missing (Debian, root), or only say what it is
  check                               formatting, lints, documentation, dependencies: no root needed
  bpf                                 the BPF object; prints where it is
  ci                                  check, then every test
  demo [--keep]                       the sample cluster: policy compared with real packets
  chaos [UPDATES]                     policies and agents change under traffic, 1000 times or as said
  bench datapath [--dev] [TURNS]      the datapath against plain routing, in one run of 7 turns or as many as said; --dev measures
                                      the debug build
  bench gateway [SCENARIO…] …         the gate beside Envoy, HAProxy and nginx, in one run; `bench gateway --help` says more
  fuzz [TARGET…] [--seconds N]        every fuzz target or these, each for so long (60)
  fuzz TARGET FILE                    one input again
  bench policy                        what compiling policy costs, from nothing and change by change
  bench change [--dev]                from a saved file to enforcement; --dev measures the debug build
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[&str]) -> Result<()> {
    std::env::set_current_dir(run::root()).context("the workspace is gone")?;
    match arguments {
        ["setup", rest @ ..] => setup::run(rest),
        ["check"] => ci::check(),
        ["ci"] => ci::run(),
        ["bpf"] => {
            println!("{}", bpf::build()?.display());
            Ok(())
        }
        ["demo"] => demo::run(demo::Afterwards::Down),
        ["demo", "--keep"] => demo::run(demo::Afterwards::Keep),
        ["bench", "datapath"] => bench::datapath("release", bench::TURNS),
        ["bench", "datapath", "--dev"] => bench::datapath("debug", bench::TURNS),
        ["bench", "datapath", turns] => bench::datapath("release", turns.parse().context("TURNS")?),
        ["bench", "datapath", "--dev", turns] => bench::datapath("debug", turns.parse().context("TURNS")?),
        ["bench", "gateway", "--help" | "-h"] => {
            print!("{}", bench::gateway::HELP);
            Ok(())
        }
        ["bench", "gateway", rest @ ..] => bench::gateway::run(rest),
        ["bench", "change"] => change::run("release"),
        ["bench", "change", "--dev"] => change::run("debug"),
        ["chaos"] => chaos::run("1000"),
        ["chaos", updates] => chaos::run(updates),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["bench", "policy"] => policy::run(),
        ["peer", rest @ ..] => peer::run(rest),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        unknown => bail!("unknown command `{}`\n\n{HELP}", unknown.join(" ")),
    }
}
