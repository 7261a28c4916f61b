//! Random clusters, judged by the reference evaluator and by packets. `STRAIT_SEED=N` replays one; `STRAIT_CASES=N` tries
//! more or fewer, `STRAIT_SEED_BASE=N` others.

use std::fmt::Write as _;

use strait_lab::{
    Place, PodName,
    probe::{Knock, Outcome, PATIENCE, Probe},
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

/// Puts `case` into the lab.
fn put(bed: &Bed, case: &LiveCase) {
    for (name, text) in case.files() {
        bed.save(name, &text);
    }
    bed.lab.sync().unwrap_or_else(|error| panic!("seed {}: {error}", case.seed));
}

/// Asks all that `live` says. Those that do not agree, with what was seen.
fn disagreements(bed: &Bed, live: &[LiveProbe]) -> Vec<(LiveProbe, Outcome)> {
    let packets: Vec<Probe> = live.iter().map(packet).collect();
    let seen = bed.ask(&packets, PATIENCE);
    let suspects: Vec<&LiveProbe> =
        live.iter().zip(seen).filter(|(live, seen)| *seen != live.expected).map(|(live, _)| live).collect();
    if suspects.is_empty() {
        return Vec::new();
    }
    // A busy machine is slow, but it is not wrong twice.
    let again: Vec<Probe> = suspects.iter().map(|live| packet(live)).collect();
    let outcomes = bed.lab.probe(&again, LONG_PATIENCE).unwrap();
    let wrong = suspects.into_iter().zip(outcomes).filter(|(live, outcome)| outcome.allowed() != live.expected);
    wrong.map(|(live, outcome)| (live.clone(), outcome)).collect()
}

/// The smallest case in which the lab disagrees on the first of `wrong`.
fn minimized(bed: &Bed, case: &LiveCase, wrong: &LiveProbe) -> LiveCase {
    case.minimized(|smaller| {
        let asked = smaller.expected(wrong);
        put(bed, smaller);
        asked.is_some_and(|asked| !disagreements(bed, &[asked]).is_empty())
    })
}

/// What disagrees in `case`, as text; made small where `minimize` says so.
fn report(bed: &Bed, case: &LiveCase, wrong: &[(LiveProbe, Outcome)], minimize: bool) -> String {
    let mut text = format!("seed {} (STRAIT_SEED={} replays it and makes it small):\n", case.seed, case.seed);
    for (live, outcome) in wrong {
        writeln!(text, "{}: expected allowed={}, seen {outcome:?}", packet(live), live.expected).unwrap();
    }
    let case = match wrong {
        [(first, _), ..] if minimize => &minimized(bed, case, first),
        _ => case,
    };
    for (name, content) in case.files() {
        write!(text, "# {name}\n{content}\n").unwrap();
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
    let replays = number("STRAIT_SEED").is_some();
    let seeds = match number("STRAIT_SEED") {
        Some(seed) => seed..seed + 1,
        None => first..first + number("STRAIT_CASES").unwrap_or(CASES),
    };
    let first = live_case(seeds.start);
    let files = first.files();
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, &**text)).collect();
    let Some(bed) = Bed::up("random", &files) else { return };
    let (mut clusters, mut probes, mut allowed) = (0, 0, 0);
    for seed in seeds {
        let case = live_case(seed);
        put(&bed, &case);
        // The client outside, and a host in each block and each hole that the policies of this case name.
        let outside = bed.lab.status().unwrap().outside;
        let live: Vec<LiveProbe> = case.probes(&outside, PROBES).into_values().flatten().collect();
        let wrong = disagreements(&bed, &live);
        assert!(wrong.is_empty(), "{}", report(&bed, &case, &wrong, replays));
        clusters += 1;
        probes += live.len();
        allowed += live.iter().filter(|probe| probe.expected).count();
    }
    println!("{clusters} clusters, {probes} probes, {allowed} of them allowed");
    bed.down();
}
