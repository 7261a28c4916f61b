//! Random clusters, judged by the reference evaluator and by packets. `STRAIT_SEED=N` replays one; `STRAIT_CASES=N` tries
//! more or fewer, `STRAIT_SEED_BASE=N` others.

use std::fmt::Write as _;

use strait_lab::{
    Place, PodName,
    probe::{Knock, PATIENCE, Probe},
};
use strait_testkit::{End, LiveCase, LiveProbe, Traffic, live_case};

use crate::bed::{Bed, LONG_PATIENCE};

/// Clusters that are drawn unless `STRAIT_CASES` says otherwise.
const CASES: u64 = 100;
/// Connections tried in each, a fair draw of all there are.
const PROBES: usize = 400;

fn packet(probe: &LiveProbe) -> Probe {
    let (from, source) = match &probe.from {
        End::Pod(namespace, name) => (Place::Pod(PodName { namespace: namespace.clone(), name: name.clone() }), None),
        End::Node(name) => (Place::Node(name.clone()), None),
        End::Address(address) => (Place::Outside, Some(*address)),
    };
    let knock = match probe.traffic {
        Traffic::Port(protocol, port) => Knock::Port(protocol, port),
        Traffic::Icmp => Knock::Ping,
    };
    Probe { from, source, to: probe.to, knock }
}

/// Puts `case` into the lab and asks. What does not agree, as text.
fn disagreements(bed: &Bed, case: &LiveCase) -> String {
    for (name, text) in case.files() {
        bed.save(name, &text);
    }
    bed.lab.sync().unwrap_or_else(|error| panic!("seed {}: {error}", case.seed));
    // The client outside, and a host in each block and each hole that the policies of this case name.
    let outside = bed.lab.status().unwrap().outside;
    let live: Vec<LiveProbe> = case.probes(&outside, PROBES).into_values().flatten().collect();
    let packets: Vec<Probe> = live.iter().map(packet).collect();
    let suspects: Vec<usize> = bed
        .ask(&packets, PATIENCE)
        .iter()
        .enumerate()
        .filter(|(index, seen)| **seen != live[*index].expected)
        .map(|(i, _)| i)
        .collect();
    if suspects.is_empty() {
        return String::new();
    }
    // A busy machine is slow, but it is not wrong twice.
    let again: Vec<Probe> = suspects.iter().map(|index| packets[*index].clone()).collect();
    let outcomes = bed.lab.probe(&again, LONG_PATIENCE).unwrap();
    let mut text = String::new();
    for ((index, probe), outcome) in suspects.iter().zip(&again).zip(outcomes) {
        if outcome.allowed() != live[*index].expected {
            writeln!(text, "{probe}: expected allowed={}, seen {outcome:?}", live[*index].expected).unwrap();
        }
    }
    text
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number is wanted")))
}

#[test]
fn random_clusters_agree_with_packets() {
    let first = number("STRAIT_SEED_BASE").unwrap_or(1);
    let seeds = match number("STRAIT_SEED") {
        Some(seed) => seed..seed + 1,
        None => first..first + number("STRAIT_CASES").unwrap_or(CASES),
    };
    let first = live_case(seeds.start);
    let files = first.files();
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, &**text)).collect();
    let Some(bed) = Bed::up("random", &files) else { return };
    for seed in seeds {
        let case = live_case(seed);
        let text = disagreements(&bed, &case);
        if !text.is_empty() {
            let mut manifests = String::new();
            for (name, content) in case.files() {
                write!(manifests, "# {name}\n{content}\n").unwrap();
            }
            panic!("seed {seed} (STRAIT_SEED={seed} replays it):\n{text}\n{manifests}");
        }
    }
    bed.down();
}
