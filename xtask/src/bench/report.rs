//! The figures against their goals, as tables and as JSON.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};

use super::{FIGURES, PATHS, Samples, profile::Profile};
use crate::{run::target, table};

/// What established flows may cost more under a full policy, and new ones.
const GOALS: [(&str, &str, f64); 2] = [("establishedNs", "established", 1.05), ("newFlowNs", "new flow", 1.5)];

/// Prints the tables, and writes the same as JSON.
pub(super) fn print(
    (build, turns): (&str, usize),
    samples: &Samples,
    packets: &Value,
    profiles: &[Profile],
) -> Result<()> {
    let figures = against_plain(samples);
    let flatness = flatness(packets);
    print_packets(packets);
    print_profiles(profiles);
    let file = target().join("bench/datapath.json");
    let all = json!({
        "build": build, "turns": turns, "figures": figures, "testRun": packets, "flatness": flatness,
        "profiles": profiles.iter().map(Profile::json).collect::<Vec<_>>(),
    });
    fs::write(&file, serde_json::to_vec_pretty(&all)?)?;
    println!("written to {}", file.display());
    Ok(())
}

fn against_plain(samples: &Samples) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut figures = Vec::new();
    for ((path, figure), [enforced, plain]) in samples {
        let (path, figure) = (PATHS[*path].0, &FIGURES[*figure]);
        let ratios: Vec<f64> = enforced.iter().zip(plain).map(|(enforced, plain)| enforced / plain).collect();
        let (enforced, plain, ratio) = (median(enforced), median(plain), median(&ratios));
        let (goal, verdict) = judged(ratio, figure.goal, figure.more_is_better);
        rows.push(vec![
            path.to_owned(),
            format!("{} ({})", figure.name, figure.unit),
            format!("{plain:.1}"),
            format!("{enforced:.1}"),
            format!("{ratio:.2}"),
            goal,
            verdict,
        ]);
        figures.push(json!({
            "path": path, "figure": figure.name, "unit": figure.unit, "moreIsBetter": figure.more_is_better,
            "plain": plain, "enforced": enforced, "ratio": ratio, "goal": figure.goal,
        }));
    }
    let header = ["path", "figure", "plain routing", "with Strait", "ratio", "goal", ""];
    println!("{}", table::render(&header, &rows));
    figures
}

/// Ratios of what a packet costs with full maps to what it costs with hardly anything in them, which is each first row of a way
/// and family.
fn flatness(packets: &Value) -> Vec<Value> {
    let (mut rows, mut ratios) = (Vec::new(), Vec::new());
    let all: &[Value] = packets.as_array().map_or(&[], Vec::as_slice);
    let same = |a: &Value, b: &Value| ["program", "way", "family"].iter().all(|field| a[field] == b[field]);
    for row in all {
        let Some(base) = all.iter().find(|other| same(row, other)) else { continue };
        if std::ptr::eq(base, row) {
            continue;
        }
        for (field, what, goal) in GOALS {
            let (Some(ns), Some(base)) = (row[field].as_f64(), base[field].as_f64()) else { continue };
            if base <= 0.0 {
                continue;
            }
            let ratio = ns / base;
            let (goal_text, verdict) = judged(ratio, Some(goal), false);
            rows.push(vec![
                format!("{}, {}, {}", text(row, "program"), text(row, "way"), text(row, "family")),
                what.to_owned(),
                format!("{} / {}", row["policyEntries"], row["connections"]),
                format!("{base:.0} → {ns:.0}"),
                format!("{ratio:.2}"),
                goal_text,
                verdict,
            ]);
            ratios.push(json!({
                "program": row["program"], "way": row["way"], "family": row["family"], "packet": what,
                "policyEntries": row["policyEntries"], "connections": row["connections"], "ratio": ratio, "goal": goal,
            }));
        }
    }
    let header =
        ["program run (BPF_PROG_TEST_RUN)", "packet", "policy entries / connections", "ns", "ratio", "goal", ""];
    println!("{}", table::render(&header, &rows));
    ratios
}

fn print_packets(packets: &Value) {
    let rows: Vec<Vec<String>> = packets
        .as_array()
        .into_iter()
        .flatten()
        .filter(|row| row["policyEntries"] == 1)
        .map(|row| {
            let ns = |field: &str| {
                row[field].as_f64().filter(|ns| *ns > 0.0).map_or("-".to_owned(), |ns| format!("{ns:.0}"))
            };
            vec![
                text(row, "program").to_owned(),
                format!("{}, {}", text(row, "way"), text(row, "family")),
                ns("establishedNs"),
                ns("newFlowNs"),
                ns("wakingFlowNs"),
            ]
        })
        .collect();
    let header =
        ["program", "packet", "established (ns)", "new flow (ns)", "new flow that wakes the event reader (ns)"];
    println!("{}", table::render(&header, &rows));
}

fn print_profiles(profiles: &[Profile]) {
    let rows: Vec<Vec<String>> = profiles.iter().map(Profile::row).collect();
    println!("{}", table::render(&["path", "4 streams", "CPU in programs, with helpers", "most time, alone"], &rows));
}

/// The goal in words, and whether it is met or by how much not.
fn judged(ratio: f64, goal: Option<f64>, more_is_better: bool) -> (String, String) {
    let Some(goal) = goal else { return (String::new(), String::new()) };
    // As it is printed, so that 1.05 is not missed by nothing.
    let short = if more_is_better { goal - ratio } else { ratio - goal };
    let verdict = if short < 0.005 { "met".to_owned() } else { format!("missed by {short:.2}") };
    (format!("{} {goal}", if more_is_better { "≥" } else { "≤" }), verdict)
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_default()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_met_or_missed_by_so_much() {
        for (ratio, goal, more, expected) in [
            (0.96, Some(0.95), true, ("≥ 0.95", "met")),
            (0.90, Some(0.95), true, ("≥ 0.95", "missed by 0.05")),
            (1.054, Some(1.05), false, ("≤ 1.05", "met")),
            (1.17, Some(1.05), false, ("≤ 1.05", "missed by 0.12")),
            (2.0, None, false, ("", "")),
        ] {
            let (words, verdict) = judged(ratio, goal, more);
            assert_eq!((&*words, &*verdict), expected);
        }
    }
}
