//! What a request costs in instructions of the gate's own: `callgrind` counts them, on any machine, and nearly the same each time.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};

use super::{Bench, peers::Peer, scenario::Scenario};
use crate::run::{succeeds, words};

/// Of the load: a gate is fifty times slower when it is counted.
const SECONDS: f64 = 3.0;

/// Runs a gate of its own for it. None where the gate cannot be counted.
pub(super) fn count(bench: &Bench, scenario: Scenario, peer: &Peer) -> Result<Option<f64>> {
    if !peer.can_be_counted() {
        return Ok(None);
    }
    let file = bench.folder.0.join(format!("callgrind-{}-{}", scenario.name(), peer.name()));
    let mut under = Command::new("valgrind");
    under.args(["-q", "--tool=callgrind", "--instr-atstart=no"]);
    under.arg(format!("--callgrind-out-file={}", file.display()));
    let running = peer.start_under(bench, scenario, &under)?;
    let asked = || {
        let seen = bench.load.run(scenario, running.wanted.at, None, SECONDS, &[])?;
        seen["answeredInAll"].as_f64().filter(|count| *count > 0.0).context("nothing was answered")
    };
    // What is made once is not a request's.
    asked()?;
    let pid = running.process.child.id();
    switch(pid, true)?;
    let answered = asked()?;
    switch(pid, false)?;
    // It writes what it counted when it ends.
    drop(running);
    let text = fs::read_to_string(&file).with_context(|| format!("callgrind wrote no {}", file.display()))?;
    let counted = total(&text).with_context(|| format!("no total in {}", file.display()))?;
    Ok(Some(counted / answered))
}

fn switch(pid: u32, on: bool) -> Result<()> {
    let mut control = Command::new("callgrind_control");
    control.args(["-i", if on { "on" } else { "off" }, &pid.to_string()]);
    ensure!(succeeds(&mut control), "{} failed", words(&control));
    Ok(())
}

/// The line `totals: 123456`.
fn total(text: &str) -> Option<f64> {
    text.lines().rev().find_map(|line| line.strip_prefix("totals:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_found() {
        assert_eq!(total("events: Ir\nsummary: 5\n\nfn=(1)\n0 5\ntotals: 1234\n"), Some(1234.0));
        assert_eq!(total("events: Ir\n"), None);
    }
}
