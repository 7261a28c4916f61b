//! `perf`: where a gate's CPU time goes, and what it costs in system calls and instructions.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::{run::printed, table};

/// Functions that are named.
const TOP: usize = 25;

/// What `perf stat` counts, by the figure that it is told as. Virtual machines often count no instructions.
const EVENTS: [(&str, &str); 3] = [
    ("raw_syscalls:sys_enter", "systemCalls"),
    ("instructions:u", "userInstructions"),
    ("instructions:k", "kernelInstructions"),
];

fn list(pids: &[u32]) -> String {
    pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// Counts while `load` runs, for two seconds or longer, and gives the requests a second; what is told is a request's.
pub(super) fn count(pids: &[u32], load: impl FnOnce() -> Result<f64>) -> Result<Vec<(&'static str, f64)>> {
    let mut stat = Command::new("perf");
    let events: Vec<&str> = EVENTS.iter().map(|(event, _)| *event).collect();
    // One second, from when the load is warm.
    stat.args(["stat", "-x", ";", "--delay", "600", "--timeout", "1000", "-p", &list(pids), "-e", &events.join(",")]);
    let child = stat.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let Ok(child) = child else { return Ok(Vec::new()) };
    let per_second = load();
    let output = child.wait_with_output().context("perf stat")?;
    let per_second = per_second?;
    let text = String::from_utf8_lossy(&output.stderr);
    let mut counted: Vec<(&str, f64)> = Vec::new();
    for (event, figure) in EVENTS {
        // value;unit;event;…
        let of = |line: &str| -> Option<f64> {
            let mut fields = line.split(';');
            let value = fields.next()?.parse().ok()?;
            (fields.nth(1)? == event).then_some(value)
        };
        if let Some(value) = text.lines().find_map(of) {
            counted.push((figure, value / per_second));
        }
    }
    if let [user, kernel] =
        ["userInstructions", "kernelInstructions"].map(|name| counted.iter().find(|(of, _)| *of == name))
        && let (Some((_, user)), Some((_, kernel))) = (user, kernel)
    {
        counted.push(("instructions", user + kernel));
    }
    Ok(counted)
}

/// Where time went.
pub(super) struct Profile {
    /// By function, the time in itself alone, in percent; whether it is the kernel's.
    functions: Vec<(String, bool, f64)>,
    /// By system call, the time in it and all it called, in percent.
    calls: Vec<(String, f64)>,
}

/// Samples these processes while `load` runs.
pub(super) fn record(pids: &[u32], file: &Path, seconds: f64, load: impl FnOnce() -> Result<()>) -> Result<Profile> {
    let mut record = Command::new("perf");
    // The software clock: virtual machines often have no counters of their own.
    record.args(["record", "-q", "-g", "-e", "cpu-clock", "-F", "1999", "-p", &list(pids), "-o"]).arg(file);
    record.args(["--", "sleep", &seconds.to_string()]);
    let mut child = record.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("cannot run perf")?;
    let loaded = load();
    let status = child.wait()?;
    loaded?;
    ensure!(status.success(), "perf record ended with {status}");
    let report = |children: &str| -> Result<String> {
        let mut report = Command::new("perf");
        report.arg("report").arg("-i").arg(file);
        report.args(["--stdio", "-g", "none", children, "--sort", "symbol", "--percent-limit", "0.2"]);
        let (text, code) = printed(&mut report)?;
        ensure!(code == Some(0), "perf report ended with {code:?}");
        Ok(text)
    };
    Ok(Profile { functions: functions(&report("--no-children")?), calls: calls(&report("--children")?) })
}

/// Lines such as `12.34%  [k] tcp_sendmsg`.
fn functions(report: &str) -> Vec<(String, bool, f64)> {
    let named = report.lines().filter_map(|line| {
        let (percent, rest) = line.trim().split_once('%')?;
        let rest = rest.trim();
        let kernel = rest.starts_with("[k]");
        let name = rest.strip_prefix("[k]").or_else(|| rest.strip_prefix("[.]"))?;
        // A trailing column of dashes is what perf puts for an absent caller.
        let name = name.trim().trim_end_matches(['-', ' ']);
        Some((name.to_owned(), kernel, percent.parse().ok()?))
    });
    named.collect()
}

/// Of lines such as `12.34%  0.50%  [k] __x64_sys_sendto`, those of system calls.
fn calls(report: &str) -> Vec<(String, f64)> {
    let named = report.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let percent = fields.next()?.strip_suffix('%')?.parse().ok()?;
        let name = fields.find_map(|field| field.strip_prefix("__x64_sys_"))?;
        Some((name.to_owned(), percent))
    });
    named.collect()
}

impl Profile {
    fn sum(&self, kernel: bool) -> f64 {
        self.functions.iter().filter(|(_, of, _)| *of == kernel).map(|(.., percent)| percent).sum()
    }

    pub(super) fn table(&self, of: &str) -> String {
        let mut rows = Vec::new();
        for (kernel, name) in [(false, "user"), (true, "kernel")] {
            rows.push(vec![format!("{:.1} %", self.sum(kernel)), name.to_owned(), "all named".to_owned()]);
            for (function, _, percent) in self.functions.iter().filter(|(_, of, _)| *of == kernel).take(TOP) {
                rows.push(vec![format!("{percent:.1} %"), name.to_owned(), function.clone()]);
            }
        }
        let calls =
            self.calls.iter().map(|(call, percent)| vec![format!("{percent:.1} %"), "call".to_owned(), call.clone()]);
        rows.extend(calls);
        table::render(&["CPU time", of, "function"], &rows)
    }

    pub(super) fn json(&self) -> Value {
        let functions: Vec<Value> = self
            .functions
            .iter()
            .map(|(name, kernel, percent)| json!({ "function": name, "kernel": kernel, "percent": percent }))
            .collect();
        let calls: Vec<Value> =
            self.calls.iter().map(|(call, percent)| json!({ "call": call, "percent": percent })).collect();
        let (user, kernel) = (self.sum(false), self.sum(true));
        json!({ "userPercent": user, "kernelPercent": kernel, "functions": functions, "calls": calls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_and_whose_they_are() {
        let functions =
            functions("# x\n\n    40.00%  [k] tcp_sendmsg   -      -\n    10.50%  [.] strait_http::head::parse\n");
        let profile = Profile { functions, calls: Vec::new() };
        assert_eq!(
            profile.functions,
            [("tcp_sendmsg".to_owned(), true, 40.0), ("strait_http::head::parse".to_owned(), false, 10.5)]
        );
        assert!((profile.sum(true) - 40.0).abs() < 1e-9);
        assert_eq!(
            calls("    40.00%     1.00%  [k] __x64_sys_sendto   -      -\n    10.50%  2.00%  [k] tcp_sendmsg  -  -\n"),
            [("sendto".to_owned(), 40.0)]
        );
    }
}
