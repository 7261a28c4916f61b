//! `cargo xtask bench policy`: what compiling policy costs, from nothing and change by change.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    run::{cargo, printed, step, target},
    table,
};

/// The beginning of a figure's name, milliseconds that its median may take.
const GOALS: [(&str, f64); 6] = [
    ("from nothing", 1000.0),
    ("pod of the node", 1.0),
    ("pod of another node", 1.0),
    ("policy changed", 20.0),
    ("policy removed", 20.0),
    ("policy added", 20.0),
];
/// Megabytes of resident memory at most, the cluster's objects included.
const PEAK_GOAL: f64 = 300.0;

pub(crate) fn run() -> Result<()> {
    let (text, code) = step("compile 10,000 pods, 1,000 identities, 1,000 policies, and follow changes", || {
        printed(cargo().args(["bench", "--quiet", "--package", "strait-model", "--bench", "compile"]))
    })?;
    anyhow::ensure!(code == Some(0), "the benchmark compile of strait-model failed");
    let lines = text.lines().filter(|line| line.starts_with('{'));
    let clusters: Vec<Value> = lines.map(serde_json::from_str).collect::<Result<_, _>>().context("no JSON")?;
    let mut goals = Vec::new();
    for cluster in &clusters {
        show(cluster)?;
        judge(cluster, &mut goals)?;
    }
    for (text, _) in &goals {
        println!("{text}");
    }
    let file = target().join("bench/policy.json");
    std::fs::create_dir_all(target().join("bench"))?;
    let goals: Vec<_> = goals.into_iter().map(|(_, goal)| goal).collect();
    std::fs::write(&file, serde_json::to_vec_pretty(&json!({ "clusters": clusters, "goals": goals }))?)?;
    println!("written to {}", file.display());
    Ok(())
}

fn figures(cluster: &Value) -> Result<impl Iterator<Item = (&str, &Value)>> {
    let figures = cluster["figures"].as_array().context("no figures")?;
    Ok(figures.iter().map(|figure| (figure["figure"].as_str().unwrap_or_default(), figure)))
}

fn show(cluster: &Value) -> Result<()> {
    let milliseconds = |figure: &Value, field: &str| format!("{:.3}", figure[field].as_f64().unwrap_or(f64::NAN));
    let row = |(name, figure): (&str, &Value)| {
        let times = ["medianMs", "p90Ms", "maxMs"].map(|field| milliseconds(figure, field));
        [name.to_owned(), figure["count"].to_string()]
            .into_iter()
            .chain(times)
            .chain([figure["entries"].to_string()])
            .collect()
    };
    let rows: Vec<Vec<String>> = figures(cluster)?.map(row).collect();
    println!("{}", cluster["cluster"].as_str().unwrap_or_default());
    println!("{}", table::render(&["milliseconds", "count", "median", "p90", "max", "plan entries"], &rows));
    println!("plan {}\nmemory {}\n", cluster["plan"], cluster["memory"]);
    Ok(())
}

fn judge(cluster: &Value, goals: &mut Vec<(String, Value)>) -> Result<()> {
    let title = &cluster["cluster"];
    let mut add = |name: &str, unit: &str, value: f64, allowed: f64| {
        let hit = value <= allowed;
        let text =
            format!("{}: {title}: {name} {value:.3} {unit}, goal {allowed} {unit}", if hit { "HIT " } else { "MISS" });
        let goal =
            json!({ "cluster": title, "goal": name, "unit": unit, "value": value, "allowed": allowed, "hit": hit });
        goals.push((text, goal));
    };
    for (name, figure) in figures(cluster)? {
        if let Some((_, allowed)) = GOALS.iter().find(|(begins, _)| name.starts_with(begins)) {
            add(name, "ms", figure["medianMs"].as_f64().context("no median")?, *allowed);
        }
    }
    let peak = cluster["memory"]["peakKb"].as_f64().context("no peak")?;
    add("peak memory", "MB", peak / 1024.0, PEAK_GOAL);
    Ok(())
}
