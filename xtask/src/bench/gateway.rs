//! `cargo xtask bench gateway`: the gate beside Envoy, `HAProxy` and nginx, on the same work, in one run.
//!
//! ```text
//! core 1: strait-load run ─▶ core 0: one of the gates, one worker ─▶ core 1: strait-load serve
//! ```
//!
//! All gates of a scenario run at once and are loaded in turns, so that a noisy moment hits each; figures are medians over the
//! turns, ratios medians of each turn's ratio. What counts is the gate's CPU time: it depends little on what else the machine does.

mod config;
mod figures;
mod idle;
mod instructions;
mod load;
mod measure;
mod options;
mod peers;
mod process;
mod profile;
mod report;
mod routes;
mod scenario;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use self::{load::Load, options::Options, peers::Peer, scenario::Scenario};
use crate::run::{cargo, shown, step, target};

pub(crate) use self::options::HELP;
pub(crate) use self::peers::{has_aioquic, has_envoy, install_aioquic, install_envoy};

/// What all scenarios use.
struct Bench {
    options: Options,
    load: Load,
    /// Configurations, certificates, logs; gone at the end.
    folder: Folder,
    peers: Vec<Peer>,
}

/// A folder that is removed when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("strait-bench-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _only_litter = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let options = Options::parse(arguments)?;
    let cores = std::thread::available_parallelism()?.get();
    ensure!(cores >= 2, "a gate and its load need a core each; there is {cores}");
    process::enough_files()?;
    let mut packages = vec!["--package", "strait-load"];
    if options.strait.is_none() {
        packages.extend(["--package", "strait"]);
    }
    if options.build {
        step("build for release", || shown(cargo().args(["build", "--release"]).args(packages)))?;
    }
    let folder = Folder::new()?;
    let load = Load::start(&folder.0)?;
    let peers = options.peers()?;
    let bench = Bench { options, load, folder, peers };
    let mut results = Vec::new();
    for scenario in &bench.options.scenarios {
        let name = format!("{}: {}", scenario.name(), scenario.what());
        let result = step(&name, || match scenario {
            Scenario::Idle => idle::measure(&bench),
            Scenario::Routes5000 => routes::measure(&bench),
            Scenario::Http1
            | Scenario::Connect
            | Scenario::Http2
            | Scenario::MtlsHttp1
            | Scenario::MtlsHttp2
            | Scenario::Tcp
            | Scenario::TcpConnect
            | Scenario::Routes50 => measure::measure(&bench, *scenario),
        })?;
        results.push(result);
    }
    let file = target().join("bench/gateway.json");
    let versions: serde_json::Map<_, _> =
        bench.peers.iter().map(|peer| (peer.name().to_owned(), json!(peer.version()))).collect();
    let all = json!({
        "turns": bench.options.turns, "seconds": bench.options.seconds, "rate": bench.options.rate,
        "versions": versions, "scenarios": results,
    });
    fs::create_dir_all(target().join("bench"))?;
    fs::write(&file, serde_json::to_vec_pretty(&all)?)?;
    println!("written to {}", file.display());
    Ok(())
}
