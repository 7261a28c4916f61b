//! `cargo xtask bench datapath`: the datapath against the same routing without it, in one run. The release build: agents take a part of
//! what a connection costs.
//!
//! Two labs side by side from the same manifests, programs and all; then one of them loses its agents and its pinned
//! links, which leaves plain veth routing. Both are measured in turns, so that a noisy moment hits both.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    net::IpAddr,
    path::PathBuf,
    process::Child,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    bpf,
    lab::Lab,
    run::{Alone, cargo, printed, shown, step, succeeds, target},
};

pub(crate) mod gateway;
mod profile;
mod report;

/// Turns, unless told; medians are taken over them, of ratios too.
pub(crate) const TURNS: usize = 7;
/// Seconds of each throughput measurement.
const SECONDS: &str = "2";
const REQUESTS: &str = "20000";
const CONNECTS: &str = "2000";
/// Where the byte server listens.
const PORT: u16 = 7000;
const DENIED_PORT: u16 = 7001;

/// Who measures.
const CLIENT: &str = "bench/client-0";
/// Where servers run, seen from the client on node-1.
const PATHS: [(&str, &str); 2] = [("same node", "near-0"), ("two nodes", "far-0")];

/// What is measured.
struct Figure {
    name: &'static str,
    unit: &'static str,
    more_is_better: bool,
    /// What the ratio to plain routing should be at least, or at most.
    goal: Option<f64>,
}

const fn figure(name: &'static str, unit: &'static str, more_is_better: bool, goal: Option<f64>) -> Figure {
    Figure { name, unit, more_is_better, goal }
}

const FIGURES: [Figure; 7] = [
    figure("throughput, 1 stream", "Gbit/s", true, Some(0.95)),
    figure("throughput, 4 streams", "Gbit/s", true, Some(0.95)),
    figure("request/response p50", "µs", false, Some(1.05)),
    figure("request/response p99", "µs", false, Some(1.05)),
    figure("request/response, client CPU", "µs", false, None),
    figure("connections", "/s", true, Some(0.9)),
    figure("connection, client CPU", "µs", false, None),
];

/// `profile` is that of the measured build.
pub(crate) fn datapath(profile: &'static str, turns: usize) -> Result<()> {
    ensure!(turns > 0, "without a turn nothing is measured");
    let _alone = Alone::at("bench")?;
    step("build the programs", || bpf::build().map(drop))?;
    let release = (profile == "release").then_some("--release");
    step("build strait", || shown(cargo().args(["build", "--package", "strait"]).args(release)))?;
    let manifests = write_manifests()?;
    let executable = target().join(profile).join("strait");
    // An agent that is started again would attach its programs again.
    let flags = &["--no-restart-agents"];
    let enforced = step("start a lab", || Lab::up_by(executable.clone(), "bench-on", &manifests, flags))?;
    let plain =
        step("start a lab and take the programs away", || Lab::up_by(executable, "bench-off", &manifests, flags))?;
    let measured =
        plain.detach().and_then(|()| step(&format!("measure, {turns} turns"), || measure(&enforced, &plain, turns)));
    step("remove the labs", || enforced.down().and(plain.down()))?;
    let (samples, profiles) = measured?;
    let packets = step("BPF_PROG_TEST_RUN", test_run)?;
    report::print((profile, turns), &samples, &packets, &profiles)
}

/// Figures by (path, figure): those of each turn, enforced and plain.
type Samples = BTreeMap<(usize, usize), [Vec<f64>; 2]>;

fn measure(enforced: &Lab, plain: &Lab, turns: usize) -> Result<(Samples, Vec<profile::Profile>)> {
    let labs = [enforced, plain];
    let mut servers = Vec::new();
    let mut addresses = BTreeMap::new();
    for (variant, lab) in labs.into_iter().enumerate() {
        for (path, (_, pod)) in PATHS.into_iter().enumerate() {
            servers.push(serve(lab, pod, PORT)?);
            servers.push(serve(lab, pod, DENIED_PORT)?);
            servers.push(Server(lab.spawn(&format!("bench/{pod}"), &["iperf3", "-s", "--logfile", "/dev/null"])?));
            addresses.insert((variant, path), lab.address(&format!("bench/{pod}"))?);
        }
    }
    // That one enforces and the other does not is what is compared: make sure of it.
    for (variant, expected) in [(0, false), (1, true)] {
        let address = format!("{}:{DENIED_PORT}", addresses[&(variant, 0)]);
        let reached =
            succeeds(&mut labs[variant].command(CLIENT, &[&own_executable()?, "peer", "requests", &address, "10"]));
        ensure!(
            reached == expected,
            "the port that no rule allows was {} in lab {variant}",
            if reached { "reached" } else { "not reached" }
        );
    }
    let mut samples = Samples::new();
    for turn in 0..turns {
        for path in 0..PATHS.len() {
            for (first, measure) in MEASURES {
                // Back to back, and each turn the other way round, so that a drift favours neither.
                for variant in [turn % 2, 1 - turn % 2] {
                    let values = measure(labs[variant], addresses[&(variant, path)])?;
                    for (offset, value) in values.into_iter().enumerate() {
                        samples.entry((path, first + offset)).or_default()[variant].push(value);
                    }
                }
            }
        }
        println!("   turn {} of {turns}", turn + 1);
    }
    let mut profiles = Vec::new();
    for (path, (name, _)) in PATHS.into_iter().enumerate() {
        for (variant, lab) in labs.into_iter().enumerate() {
            let who = if variant == 0 { "with Strait" } else { "plain routing" };
            profiles.push(profile::take(lab, CLIENT, addresses[&(variant, path)], name, who)?);
        }
    }
    drop(servers);
    Ok((samples, profiles))
}

/// Takes values of [`FIGURES`] in a row.
type Measure = fn(&Lab, IpAddr) -> Result<Vec<f64>>;

/// Each with the index of its first figure.
const MEASURES: [(usize, Measure); 4] = [
    (0, |lab, address| Ok(vec![throughput(lab, address, "1")?])),
    (1, |lab, address| Ok(vec![throughput(lab, address, "4")?])),
    (2, |lab, address| {
        let latency = client(lab, "requests", address, PORT, REQUESTS)?;
        ["p50_us", "p99_us", "cpu_us"].into_iter().map(|field| number(&latency, field)).collect()
    }),
    (5, |lab, address| {
        let connects = client(lab, "connects", address, PORT, CONNECTS)?;
        ["per_second", "cpu_us"].into_iter().map(|field| number(&connects, field)).collect()
    }),
];

fn number(value: &Value, field: &str) -> Result<f64> {
    value[field].as_f64().with_context(|| format!("no {field} in {value}"))
}

/// Gbit/s received.
fn throughput(lab: &Lab, address: IpAddr, streams: &str) -> Result<f64> {
    let address = address.to_string();
    let text = lab.exec(CLIENT, &["iperf3", "-J", "-c", &address, "-t", SECONDS, "-P", streams])?;
    let result: Value = serde_json::from_str(&text).context("iperf3 printed no JSON")?;
    let bits = result["end"]["sum_received"]["bits_per_second"].as_f64();
    bits.map(|bits| bits / 1e9).with_context(|| format!("iperf3: {text}"))
}

fn client(lab: &Lab, kind: &str, address: IpAddr, port: u16, count: &str) -> Result<Value> {
    let own = own_executable()?;
    let text = lab.exec(CLIENT, &[&own, "peer", kind, &format!("{address}:{port}"), count])?;
    serde_json::from_str(&text).with_context(|| format!("the client printed `{text}`"))
}

/// A process that ends with its owner.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; the lab's end ends it in any case.
        let _already_ended = self.0.kill();
        let _no_child = self.0.wait();
    }
}

fn serve(lab: &Lab, pod: &str, port: u16) -> Result<Server> {
    let own = own_executable()?;
    let mut server = lab.spawn(&format!("bench/{pod}"), &[&own, "peer", "serve", &port.to_string()])?;
    let output = server.stdout.take().context("the server has no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    ensure!(line.trim() == "listening", "the server in {pod} said `{line}`");
    Ok(Server(server))
}

pub(crate) fn own_executable() -> Result<String> {
    std::env::current_exe()?.into_os_string().into_string().ok().context("the path of xtask is no UTF-8")
}

/// A client and a server on node-1, a server on node-2, and policies on both ends that allow what is measured.
fn write_manifests() -> Result<PathBuf> {
    let folder = target().join("bench/manifests");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("bench.yaml"), include_str!("bench/manifests.yaml"))?;
    Ok(folder)
}

/// Nanoseconds a packet, as the datapath's own bench prints them: a JSON array of rows.
fn test_run() -> Result<Value> {
    let mut bench = cargo();
    bench.args(["run", "--quiet", "--package", "strait-datapath", "--example", "test-run"]);
    let (text, code) = printed(&mut bench)?;
    ensure!(code == Some(0), "the example test-run of strait-datapath failed");
    serde_json::from_str(&text).context("the example test-run printed no JSON")
}
