//! What connections that do nothing keep in a gate's memory.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{
    Bench,
    figures::judged,
    report,
    scenario::{IDLE_KIB, Scenario, Shape},
};
use crate::table;

const COUNTS: [u32; 2] = [1_000, 10_000];
/// For what is done a little after the last request: handshakes' rests, buffers given back.
const SETTLE: Duration = Duration::from_secs(1);

pub(super) fn measure(bench: &Bench) -> Result<Value> {
    let (mut rows, mut all, mut goals) = (Vec::new(), Vec::new(), Vec::new());
    for (kind, mtls) in [("plain", false), ("TLS", true)] {
        for count in COUNTS {
            let mut row = vec![format!("{kind}, {count} connections")];
            for peer in &bench.peers {
                let each = one(bench, peer, mtls, count)?;
                row.push(format!("{each:.1}"));
                all.push(json!({ "peer": peer.name(), "tls": mtls, "connections": count, "kibEach": each }));
                if peer.name() == "strait" && count == COUNTS[1] {
                    let what = format!("memory of an idle connection, {kind}");
                    goals.push(judged(&what, each, IDLE_KIB[usize::from(mtls)], " KiB"));
                }
            }
            rows.push(row);
        }
    }
    let header: Vec<&str> =
        std::iter::once("KiB each").chain(bench.peers.iter().map(super::peers::Peer::name)).collect();
    println!("{}", table::render(&header, &rows));
    let goals = report::goals(goals);
    Ok(json!({ "scenario": Scenario::Idle.name(), "what": Scenario::Idle.what(), "idle": all, "goals": goals }))
}

/// KiB of each, in a gate that was started for them.
fn one(bench: &Bench, peer: &super::peers::Peer, mtls: bool, count: u32) -> Result<f64> {
    let running = peer.start(bench, Scenario::Idle, Shape { mtls, ..Shape::PLAIN })?;
    // The first request makes what is made once.
    bench.load.idle(running.wanted.at, mtls, 1)?.close()?;
    let before = running.process.resident()?;
    let idle = bench.load.idle(running.wanted.at, mtls, count as usize)?;
    thread::sleep(SETTLE);
    let after = running.process.resident()?;
    let open = idle.close()?;
    ensure!(open == u64::from(count), "{} kept {open} of {count} connections", peer.name());
    #[expect(clippy::cast_precision_loss, reason = "memory of a process")]
    Ok(after.saturating_sub(before) as f64 / f64::from(count))
}
