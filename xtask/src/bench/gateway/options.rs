//! What is asked for on the command line.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};

use super::{peers::Peer, scenario::Scenario};

pub(crate) const HELP: &str = "\
cargo xtask bench gateway [SCENARIO…] [--turns N] [--seconds S] [--rate N] [--peers NAME,…] [--instructions] [--profile] [--strait FILE] [--before FILE] [--no-build]

  SCENARIO       http1, connect, http2, mtls-http1, mtls-http2, tcp, tcp-connect, routes-50, idle, routes-5000 [default: all]
  --turns N      how often each is loaded, interleaved [3]
  --seconds S    of each load [2]
  --rate N       requests a second where latency is measured [2000]
  --peers NAME,… of envoy, haproxy, nginx [default: all]; `none` measures Strait alone
  --instructions count those of Strait and HAProxy with callgrind, in a run of its own
  --profile      record each gate with perf in each scenario, and tell where its CPU time goes
  --strait FILE  this executable instead of building one
  --before FILE  another executable of Strait, as one more peer
  --no-build     what was built before, as it is
";

#[derive(Debug)]
pub(super) struct Options {
    pub(super) scenarios: Vec<Scenario>,
    pub(super) turns: usize,
    pub(super) seconds: f64,
    pub(super) rate: f64,
    pub(super) profile: bool,
    pub(super) instructions: bool,
    pub(super) strait: Option<PathBuf>,
    pub(super) build: bool,
    before: Option<PathBuf>,
    names: Vec<String>,
}

impl Options {
    pub(super) fn parse(arguments: &[&str]) -> Result<Self> {
        let mut options = Self {
            scenarios: Vec::new(),
            turns: 3,
            seconds: 2.0,
            rate: 2000.0,
            profile: false,
            instructions: false,
            strait: None,
            build: true,
            before: None,
            names: ["envoy", "haproxy", "nginx"].map(str::to_owned).to_vec(),
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} needs a value\n\n{HELP}"));
            match *argument {
                "--turns" => options.turns = value()?.parse().context("--turns: a number")?,
                "--seconds" => options.seconds = value()?.parse().context("--seconds: a number")?,
                "--rate" => options.rate = value()?.parse().context("--rate: a number")?,
                "--peers" => {
                    options.names = value()?.split(',').filter(|name| *name != "none").map(str::to_owned).collect();
                }
                "--no-build" => options.build = false,
                "--instructions" => options.instructions = true,
                "--profile" => options.profile = true,
                "--strait" => options.strait = Some(value()?.into()),
                "--before" => options.before = Some(value()?.into()),
                name => match Scenario::ALL.into_iter().find(|scenario| scenario.name() == name) {
                    Some(scenario) => options.scenarios.push(scenario),
                    None => bail!("found `{name}`\n\n{HELP}"),
                },
            }
        }
        ensure!(options.turns > 0, "--turns: at least 1");
        ensure!(options.seconds >= 0.1 && options.seconds <= 600.0, "--seconds: from 0.1 to 600");
        ensure!(options.rate >= 1.0 && options.rate <= 10_000.0, "--rate: from 1 to 10000");
        if options.scenarios.is_empty() {
            options.scenarios = Scenario::ALL.to_vec();
        }
        Ok(options)
    }

    /// Strait first, then those that it is compared with.
    pub(super) fn peers(&self) -> Result<Vec<Peer>> {
        let mut peers = vec![Peer::strait(self.strait.clone())?];
        if let Some(before) = &self.before {
            peers.push(Peer::before(before)?);
        }
        for name in &self.names {
            peers.push(Peer::named(name)?);
        }
        Ok(peers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_refused() {
        for (arguments, refused) in [
            (&["http1", "idle", "--turns", "1"][..], false),
            (&["--peers", "none"], false),
            (&["http3"], true),
            (&["--turns"], true),
            (&["--turns", "0"], true),
            (&["--rate", "a"], true),
        ] {
            assert_eq!(Options::parse(arguments).is_err(), refused, "{arguments:?}");
        }
        assert_eq!(Options::parse(&[]).unwrap().scenarios, Scenario::ALL);
    }
}
