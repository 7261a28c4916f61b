//! `strait-load`: clients, and the back end.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    process::on_core,
    scenario::{Scenario, Shape},
};
use crate::run::{shown, target, words};

/// Where load and back end run.
const CORE: u8 = 1;

/// The back end, running.
pub(super) struct Load {
    program: PathBuf,
    pub(super) certificates: PathBuf,
    _serves: Quiet,
    places: Vec<SocketAddr>,
}

/// A process that ends with its owner.
struct Quiet(Child);

impl Drop for Quiet {
    fn drop(&mut self) {
        let _already_ended = self.0.kill();
        let _no_child = self.0.wait();
    }
}

/// What listens, in the order of [`Load::backends`].
const LISTENERS: [&str; 4] = ["plain@a", "plain@b", "tls-http1@a", "tls-http2@a"];

impl Load {
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let program = target().join("release/strait-load");
        let certificates = folder.join("certificates");
        shown(Command::new(&program).arg("certificates").arg(&certificates))?;
        let mut serve = Command::new(&program);
        serve.arg("serve").args(LISTENERS).arg("--certificates").arg(&certificates);
        let mut serve = on_core(CORE, &serve);
        let mut child = serve.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take();
        let serves = Quiet(child);
        let mut line = String::new();
        BufReader::new(output.context("the back end has no output")?).read_line(&mut line)?;
        let places: Vec<String> = serde_json::from_str(&line).context("the back end did not start")?;
        let places = places.iter().map(|place| place.parse()).collect::<Result<_, _>>()?;
        Ok(Self { program, certificates, _serves: serves, places })
    }

    /// The back ends of a gate: where routes lead, and where one leads after a change.
    pub(super) fn backends(&self, shape: Shape) -> [SocketAddr; 2] {
        match (shape.mtls, shape.http2) {
            (false, _) => [self.places[0], self.places[1]],
            (true, false) => [self.places[2]; 2],
            (true, true) => [self.places[3]; 2],
        }
    }

    /// Loads a gate. An error of any request is one of this.
    pub(super) fn run(
        &self,
        scenario: Scenario,
        at: SocketAddr,
        rate: Option<f64>,
        seconds: f64,
        pids: &[u32],
    ) -> Result<Value> {
        let shape = scenario.shape();
        let mut run = Command::new(&self.program);
        let (connections, streams) = scenario.connections();
        run.args(["run", "--at", &at.to_string(), "--connections", &connections.to_string()]);
        run.args(["--streams", &streams.to_string(), "--routes", &shape.routes.to_string()]);
        run.args(["--protocol", if shape.http2 { "http2" } else { "http1" }]);
        if shape.mtls {
            run.arg("--tls").arg(&self.certificates);
        }
        if scenario.new_connections() {
            run.arg("--new-connections");
        }
        if let Some(rate) = rate {
            run.args(["--rate", &rate.to_string()]);
        }
        run.args(["--seconds", &seconds.to_string()]);
        for pid in pids {
            run.args(["--pid", &pid.to_string()]);
        }
        let output = on_core(CORE, &run).stdin(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{} failed: {}", words(&run), String::from_utf8_lossy(&output.stderr));
        let seen: Value = serde_json::from_str(&text).with_context(|| format!("the load printed `{text}`"))?;
        ensure!(seen["errors"] == 0, "{} of the requests failed, the first: {}", seen["errors"], seen["firstError"]);
        ensure!(seen["answered"].as_u64() > Some(0), "nothing was answered");
        Ok(seen)
    }

    /// Opens connections that idle until [`Idle::close`].
    pub(super) fn idle(&self, at: SocketAddr, mtls: bool, connections: usize) -> Result<Idle> {
        let mut idle = Command::new(&self.program);
        idle.args(["idle", "--at", &at.to_string(), "--connections", &connections.to_string()]);
        if mtls {
            idle.arg("--tls").arg(&self.certificates);
        }
        let mut child = on_core(CORE, &idle).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take();
        let process = Quiet(child);
        let mut output = BufReader::new(output.context("the load has no output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        ensure!(line.trim() == "\"open\"", "could not open {connections} connections");
        Ok(Idle { process, output })
    }
}

/// Connections that are open.
pub(super) struct Idle {
    process: Quiet,
    output: BufReader<ChildStdout>,
}

impl Idle {
    /// How many were still open.
    pub(super) fn close(mut self) -> Result<u64> {
        drop(self.process.0.stdin.take());
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        let seen: Value = serde_json::from_str(&text).context("the load printed no JSON")?;
        seen["open"].as_u64().context("the load did not say what is open")
    }
}
