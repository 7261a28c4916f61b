//! Loads the gates of a scenario in turns.

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::{
    Bench,
    figures::Samples,
    instructions,
    peers::{Peer, Running},
    profile, report,
    scenario::{EMPTY_MIB, Scenario},
};
use crate::table;

/// What is shown of each gate: figure, title, decimals.
const COLUMNS: [(&str, &str, usize); 10] = [
    ("perSecond", "requests/s", 0),
    ("cpuMicroseconds", "CPU µs", 1),
    ("userMicroseconds", "of it user", 1),
    ("pacedCpuMicroseconds", "CPU µs paced", 1),
    ("p50Microseconds", "p50 µs paced", 0),
    ("p99Microseconds", "p99 µs paced", 0),
    ("residentMiB", "RSS MiB", 1),
    ("systemCalls", "system calls", 2),
    ("instructions", "instructions", 0),
    ("userInstructionsCounted", "instructions of its own", 0),
];

struct Loaded<'a> {
    peer: &'a Peer,
    running: Running,
    samples: Samples,
}

pub(super) fn measure(bench: &Bench, scenario: Scenario) -> Result<Value> {
    let shape = scenario.shape();
    let mut loaded = Vec::new();
    for peer in bench.peers.iter().filter(|peer| peer.can(shape)) {
        let running = peer.start(bench, scenario, shape)?;
        let mut samples = Samples::default();
        samples.add("emptyMiB", mebibytes(running.process.resident()?));
        loaded.push(Loaded { peer, running, samples });
    }
    for turn in 0..bench.options.turns {
        // Each turn begins with another, so that a drift favours none.
        for offset in 0..loaded.len() {
            let index = (turn + offset) % loaded.len();
            let one = &mut loaded[index];
            take(bench, scenario, one).with_context(|| format!("{}, turn {}", one.peer.name(), turn + 1))?;
        }
    }
    for one in &mut loaded {
        count(bench, scenario, one)?;
        if bench.options.instructions
            && let Some(counted) = instructions::count(bench, scenario, one.peer)?
        {
            one.samples.add("userInstructionsCounted", counted);
        }
    }
    let profiles = if bench.options.profile { profiles(bench, scenario, &loaded)? } else { Vec::new() };
    Ok(told(bench, scenario, &loaded, &profiles))
}

/// One turn: as fast as it goes, then at a fixed rate.
fn take(bench: &Bench, scenario: Scenario, one: &mut Loaded<'_>) -> Result<()> {
    let (seconds, at, pids) = (bench.options.seconds, one.running.wanted.at, one.running.process.pids()?);
    let fast = bench.load.run(scenario, at, None, seconds, &pids)?;
    let paced = bench.load.run(scenario, at, Some(bench.options.rate), seconds, &pids)?;
    let value = |seen: &Value, figure: &str| seen[figure].as_f64().with_context(|| format!("no {figure} in {seen}"));
    for figure in ["perSecond", "cpuMicroseconds", "userMicroseconds"] {
        one.samples.add(figure, value(&fast, figure)?);
    }
    for figure in ["p50Microseconds", "p99Microseconds"] {
        one.samples.add(figure, value(&paced, figure)?);
    }
    one.samples.add("pacedCpuMicroseconds", value(&paced, "cpuMicroseconds")?);
    one.samples.add("residentMiB", mebibytes(one.running.process.resident()?));
    Ok(())
}

/// System calls and, where the machine counts them, instructions a request: in a run of their own, as counting costs.
fn count(bench: &Bench, scenario: Scenario, one: &mut Loaded<'_>) -> Result<()> {
    let pids = one.running.process.pids()?;
    let counted = profile::count(&pids, || {
        let seen = bench.load.run(scenario, one.running.wanted.at, None, bench.options.seconds.max(2.0), &[])?;
        seen["perSecond"].as_f64().context("no rate")
    })?;
    for (figure, value) in counted {
        one.samples.add(figure, value);
    }
    Ok(())
}

fn profiles(bench: &Bench, scenario: Scenario, loaded: &[Loaded<'_>]) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for one in loaded {
        let pids = one.running.process.pids()?;
        let file = bench.folder.0.join("perf.data");
        let profile = profile::record(&pids, &file, bench.options.seconds, || {
            bench.load.run(scenario, one.running.wanted.at, None, bench.options.seconds, &[]).map(drop)
        });
        match profile {
            Ok(profile) => {
                println!("{}", profile.table(one.peer.name()));
                all.push(json!({ "of": one.peer.name(), "profile": profile.json() }));
            }
            Err(error) => println!("no profile of {}: {error:#}", one.peer.name()),
        }
    }
    Ok(all)
}

fn told(bench: &Bench, scenario: Scenario, loaded: &[Loaded<'_>], profiles: &[Value]) -> Value {
    let shown: Vec<_> =
        COLUMNS.iter().filter(|(figure, ..)| loaded.iter().any(|one| one.samples.median(figure).is_some())).collect();
    let row = |name: String, of: &dyn Fn(&str, usize) -> Option<String>| {
        let cells = shown.iter().map(|(figure, _, decimals)| of(figure, *decimals).unwrap_or_else(|| "–".to_owned()));
        std::iter::once(name).chain(cells).collect::<Vec<_>>()
    };
    let mut rows: Vec<Vec<String>> = loaded
        .iter()
        .map(|one| {
            row(one.peer.name().to_owned(), &|figure, decimals| {
                one.samples.median(figure).map(|value| format!("{value:.decimals$}"))
            })
        })
        .collect();
    let own = &loaded[0];
    for other in &loaded[1..] {
        let name = format!("strait / {}", other.peer.name());
        rows.push(row(name, &|figure, _| own.samples.ratio(&other.samples, figure).map(|ratio| format!("{ratio:.2}"))));
    }
    let header: Vec<&str> = std::iter::once("").chain(shown.iter().map(|(_, title, _)| *title)).collect();
    println!("{}", table::render(&header, &rows));
    let mut goals = Vec::new();
    for goal in scenario.goals() {
        let Some(other) = loaded.iter().find(|one| one.peer.name() == goal.peer) else { continue };
        goals.extend(super::figures::against(goal, &own.samples, &other.samples));
    }
    if scenario == Scenario::Http1
        && let Some(empty) = own.samples.median("emptyMiB")
    {
        goals.push(super::figures::judged("RSS before the first request", empty, EMPTY_MIB, " MiB"));
    }
    let goals = report::goals(goals);
    let peers: Map<_, _> = loaded.iter().map(|one| (one.peer.name().to_owned(), one.samples.json())).collect();
    let ratios: Map<_, _> = loaded[1..]
        .iter()
        .map(|other| {
            let ratios: Map<_, _> = COLUMNS
                .iter()
                .map(|(figure, ..)| ((*figure).to_owned(), json!(own.samples.ratio(&other.samples, figure))))
                .collect();
            (other.peer.name().to_owned(), Value::Object(ratios))
        })
        .collect();
    json!({
        "scenario": scenario.name(), "what": scenario.what(), "rate": bench.options.rate, "peers": peers,
        "ratios": ratios, "goals": goals, "profiles": profiles,
    })
}

#[expect(clippy::cast_precision_loss, reason = "memory of a process")]
fn mebibytes(kibibytes: u64) -> f64 {
    kibibytes as f64 / 1024.0
}
