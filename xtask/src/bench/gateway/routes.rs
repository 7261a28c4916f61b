//! Many routes: what they take, and how soon a change of one is served.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::{
    Bench, config,
    figures::{Samples, judged},
    peers::{Peer, Running},
    report,
    scenario::{CHANGE_MS, Scenario},
};
use crate::{run::now, table};

/// The route that is changed: amid the others.
const ROUTE: usize = 2_500;
/// How often, there and back, a turn.
const CHANGES: usize = 4;
/// A change that is not served by then is not going to be.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often it is asked: nothing is known more exactly.
const EVERY: Duration = Duration::from_micros(500);
/// After a change, for what it still costs.
const SETTLE: Duration = Duration::from_millis(700);

pub(super) fn measure(bench: &Bench) -> Result<Value> {
    let scenario = Scenario::Routes5000;
    let mut loaded = Vec::new();
    for peer in &bench.peers {
        let start = now();
        let running = peer.start(bench, scenario, scenario.shape())?;
        let mut samples = Samples::default();
        answered_by(running.wanted.at, "a", &mut 0)?;
        samples.add("startMs", start.elapsed().as_secs_f64() * 1e3);
        #[expect(clippy::cast_precision_loss, reason = "memory of a process")]
        samples.add("residentMiB", running.process.resident()? as f64 / 1024.0);
        loaded.push((peer, running, samples));
    }
    for turn in 0..bench.options.turns {
        for offset in 0..loaded.len() {
            let index = (turn + offset) % loaded.len();
            let (peer, running, samples) = &mut loaded[index];
            for change in 0..CHANGES {
                let away = change % 2 == 0;
                one(peer, running, samples, away).with_context(|| format!("{}, a changed route", peer.name()))?;
            }
        }
    }
    Ok(told(&loaded))
}

/// Changes the route, and waits until what it leads to answers.
fn one(peer: &Peer, running: &mut Running, samples: &mut Samples, away: bool) -> Result<()> {
    let before = running.process.cpu()?;
    let start = now();
    peer.change(running, ROUTE, away)?;
    let mut asked = 0;
    answered_by(running.wanted.at, if away { "b" } else { "a" }, &mut asked)?;
    let served = start.elapsed();
    thread::sleep(SETTLE);
    samples.add("servedMs", served.as_secs_f64() * 1e3);
    samples.add("cpuMs", milliseconds(&before, &running.process.cpu()?));
    #[expect(clippy::cast_precision_loss, reason = "memory of a process")]
    samples.add("changedMiB", running.process.resident()? as f64 / 1024.0);
    Ok(())
}

/// CPU time between two looks; a process that is new has all of its own, one that has ended nothing.
fn milliseconds(before: &BTreeMap<u32, u64>, after: &BTreeMap<u32, u64>) -> f64 {
    // Threads that have ended take their time with them.
    let spent = after.iter().map(|(pid, now)| now.saturating_sub(before.get(pid).copied().unwrap_or_default()));
    Duration::from_nanos(spent.sum()).as_secs_f64() * 1e3
}

/// Asks for the route, each time on a new connection as a process that ends keeps its own, until this back end answers.
fn answered_by(at: SocketAddr, backend: &str, asked: &mut u32) -> Result<()> {
    let start = now();
    let expected = format!("\r\nx-backend: {backend}\r\n");
    loop {
        *asked += 1;
        let answer = ask(at)?;
        ensure!(answer.starts_with("HTTP/1.1 200 "), "answered {answer}");
        if answer.to_ascii_lowercase().contains(&expected) {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            bail!("not served after {PATIENCE:?}; last answer:\n{answer}");
        }
        thread::sleep(EVERY);
    }
}

fn ask(at: SocketAddr) -> Result<String> {
    let (host, path) = config::route(ROUTE);
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path}/x HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn told(loaded: &[(&Peer, Running, Samples)]) -> Value {
    const COLUMNS: [(&str, &str); 5] = [
        ("startMs", "start ms"),
        ("residentMiB", "RSS MiB"),
        ("servedMs", "change served ms"),
        ("cpuMs", "change CPU ms"),
        ("changedMiB", "RSS MiB after"),
    ];
    let rows: Vec<Vec<String>> = loaded
        .iter()
        .map(|(peer, _, samples)| {
            let cells = COLUMNS.iter().map(|(figure, _)| format!("{:.1}", samples.median(figure).unwrap_or(f64::NAN)));
            std::iter::once(peer.name().to_owned()).chain(cells).collect()
        })
        .collect();
    let header: Vec<&str> = std::iter::once("5,000 routes").chain(COLUMNS.iter().map(|(_, title)| *title)).collect();
    println!("{}", table::render(&header, &rows));
    let own = loaded.first().and_then(|(_, _, samples)| samples.median("servedMs"));
    let goals = own.map(|own| judged("one route changed, until served", own, CHANGE_MS, " ms"));
    let goals = report::goals(goals.into_iter().collect());
    let peers: serde_json::Map<_, _> =
        loaded.iter().map(|(peer, _, samples)| (peer.name().to_owned(), samples.json())).collect();
    json!({
        "scenario": Scenario::Routes5000.name(), "what": Scenario::Routes5000.what(), "peers": peers, "goals": goals,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_of_processes_that_come_and_go() {
        let before = BTreeMap::from([(1, 5_000_000), (2, 9_000_000)]);
        let after = BTreeMap::from([(1, 6_000_000), (3, 2_000_000)]);
        assert!((milliseconds(&before, &after) - 3.0).abs() < 1e-9);
    }
}
