//! Where the CPU time goes while data flows: `perf` over the whole machine.

use std::{net::IpAddr, process::Command};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    lab::Lab,
    run::{printed, target},
};

/// Names of the programs that a packet meets; the kernel shows them as `bpf_prog_<tag>_<name>`.
const PROGRAMS: [&str; 4] = ["_from_pod", "_to_pod", "_from_uplink", "_to_uplink"];
const SECONDS: &str = "2";
/// Functions that are named.
const TOP: usize = 5;

/// One measurement. Percents are of the time of those who carry the streams.
pub(super) struct Profile {
    path: &'static str,
    who: &'static str,
    /// Why there is none, or what there is.
    taken: Result<Taken, String>,
}

struct Taken {
    /// Time in each program, with all it called.
    programs: Vec<(String, f64)>,
    /// The kernel's functions by the time in themselves alone.
    top: Vec<(String, f64)>,
}

impl Profile {
    pub(super) fn row(&self) -> Vec<String> {
        let list = |entries: &[(String, f64)]| {
            entries.iter().map(|(name, percent)| format!("{name} {percent:.1} %")).collect::<Vec<_>>().join(", ")
        };
        let (programs, top) = match &self.taken {
            Ok(taken) if taken.programs.is_empty() => ("none".to_owned(), list(&taken.top)),
            Ok(taken) => (list(&taken.programs), list(&taken.top)),
            Err(why) => (format!("no profile: {why}"), String::new()),
        };
        vec![self.path.to_owned(), self.who.to_owned(), programs, top]
    }

    pub(super) fn json(&self) -> Value {
        let list = |entries: &[(String, f64)]| -> Vec<Value> {
            entries.iter().map(|(name, percent)| json!({ "name": name, "percent": percent })).collect()
        };
        match &self.taken {
            Ok(taken) => json!({
                "path": self.path, "with": self.who, "programs": list(&taken.programs), "top": list(&taken.top),
            }),
            Err(why) => json!({ "path": self.path, "with": self.who, "noProfile": why }),
        }
    }
}

/// Profiles four streams from `client` to `address`.
pub(super) fn take(lab: &Lab, client: &str, address: IpAddr, path: &'static str, who: &'static str) -> Result<Profile> {
    let address = address.to_string();
    let mut streams = lab.spawn(client, &["iperf3", "-c", &address, "-t", "4", "-P", "4"])?;
    let file = target().join("bench/perf.data");
    let name = file.to_str().context("the target folder is no UTF-8")?;
    // The software clock: virtual machines often have no counters of their own.
    let mut record = Command::new("perf");
    record.args(["record", "-q", "-a", "-g", "-e", "cpu-clock", "-F", "1999", "-o", name, "--", "sleep", SECONDS]);
    let recorded = printed(&mut record);
    streams.wait()?;
    let taken = match recorded {
        Ok((_, Some(0))) => read(name).map_err(|error| format!("{error:#}")),
        Ok((_, code)) => Err(format!("perf record ended with {code:?}")),
        Err(error) => Err(format!("{error:#}")),
    };
    Ok(Profile { path, who, taken })
}

fn read(file: &str) -> Result<Taken> {
    let mut report = Command::new("perf");
    report.args(["report", "-i", file, "--stdio", "--children", "-g", "none", "--sort", "symbol"]);
    // The streams' processes, in whose context packets are carried, and the threads that take over when it gets much. What else
    // runs on the machine does not count.
    let cpus = std::thread::available_parallelism()?.get();
    let carriers: Vec<String> =
        ["iperf3".to_owned()].into_iter().chain((0..cpus).map(|cpu| format!("ksoftirqd/{cpu}"))).collect();
    report.args(["--percent-limit", "0.2", "--percentage", "relative", "--comms", &carriers.join(",")]);
    let (text, code) = printed(&mut report)?;
    anyhow::ensure!(code == Some(0), "perf report ended with {code:?}");
    Ok(parse(&text))
}

/// Lines such as `12.34%  1.20%  [k] bpf_prog_0123456789abcdef_from_pod  -  -`.
fn parse(report: &str) -> Taken {
    let percent = |text: &str| text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    let lines: Vec<(f64, f64, &str)> = report
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (inclusive, alone) = (percent(fields.next()?)?, percent(fields.next()?)?);
            (fields.next()? == "[k]").then_some(())?;
            Some((inclusive, alone, fields.next()?))
        })
        .collect();
    let of_program = |name: &str| {
        let program = PROGRAMS.iter().find(|program| name.starts_with("bpf_prog_") && name.ends_with(*program))?;
        program.strip_prefix('_')
    };
    let mut programs: Vec<(String, f64)> = Vec::new();
    for (inclusive, _, name) in &lines {
        let Some(program) = of_program(name) else { continue };
        // Each node has its own copy.
        match programs.iter_mut().find(|(known, _)| known == program) {
            Some((_, sum)) => *sum += inclusive,
            None => programs.push((program.to_owned(), *inclusive)),
        }
    }
    let mut top: Vec<(String, f64)> = lines
        .iter()
        .filter(|(_, alone, _)| *alone > 0.0)
        .map(|(_, alone, name)| (of_program(name).unwrap_or(name).to_owned(), *alone))
        .collect();
    top.sort_by(|a, b| b.1.total_cmp(&a.1));
    top.truncate(TOP);
    Taken { programs, top }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_a_program_are_one_and_people_s_own_functions_are_left_out() {
        let taken = parse(
            "# comment\n\n    90.00%     0.00%  [k] entry_SYSCALL_64   -      -\n    30.00%     5.00%  [k] bpf_prog_1a_from_pod  -  -\n    \
             10.00%     1.00%  [k] bpf_prog_1a_from_pod  -  -\n    20.00%    20.00%  [.] main  -  -\n    \
             16.00%    16.00%  [k] copy_user  -  -\n",
        );
        assert_eq!(taken.programs, [("from_pod".to_owned(), 40.0)]);
        assert_eq!(taken.top[0], ("copy_user".to_owned(), 16.0));
        assert_eq!(taken.top[1], ("from_pod".to_owned(), 5.0));
    }
}
