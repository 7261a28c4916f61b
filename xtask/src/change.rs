//! `cargo xtask bench change`: from a saved file to enforcement in the kernel, in a lab of 50 pods.
//!
//! ```text
//!  save ──────────── first datagram judged by the new policy ──── last byte of a TCP connection that is now denied
//!       enforcement                                           stop
//! ```
//!
//! A pod sends numbered datagrams every 0.2 ms and keeps a TCP connection busy; a policy that allows both is changed so that
//! it allows neither, and back. Which datagrams arrive tells when each change came into force, to the datagram.

mod manifests;

use std::{
    fs,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::{
    bench::own_executable,
    bpf,
    lab::Lab,
    peer::stream::{ARRIVED, RECEIVED, SENT, clock, read},
    run::{Alone, cargo, shown, step, target},
    table,
};

/// Changes that are measured, half of them allowing and half denying, by turns renamed over the old file and written in place.
const CHANGES: usize = 80;
/// From one change to the next, at least: time enough for it to be in force, and for TCP to connect again.
const WINDOW: Duration = Duration::from_millis(400);
/// Added to it, by turns, so that changes do not fall in step with anything periodic.
const DRIFT: Duration = Duration::from_millis(7);
/// A connection counts as established where a byte arrived so shortly before a change.
const RECENT: Duration = Duration::from_millis(50);

/// Milliseconds from a saved file to enforcement, in the median.
const ENFORCED_GOAL: f64 = 20.0;
/// Milliseconds from enforcement to the last byte of an established connection, at most.
const STOPPED_GOAL: f64 = 100.0;

pub(crate) fn run(profile: &'static str) -> Result<()> {
    let _alone = Alone::at("bench")?;
    step("build the programs", || bpf::build().map(drop))?;
    let release = (profile == "release").then_some("--release");
    step("build strait", || shown(cargo().args(["build", "--package", "strait"]).args(release)))?;
    let manifests = manifests::write()?;
    let executable = target().join(profile).join("strait");
    let lab = step("start a lab", || Lab::up_by(executable, "bench-change", &manifests, &[]))?;
    let saves = step(&format!("change a policy {CHANGES} times"), || measure(&lab, &manifests));
    step("remove the lab", || lab.down())?;
    report(&judge(&saves?, &Seen::read()?), profile)
}

/// A change: what was saved how, and the time just before it was.
struct Save {
    allowed: bool,
    renamed: bool,
    at: u64,
}

fn folder() -> std::path::PathBuf {
    target().join("bench/change")
}

fn measure(lab: &Lab, manifests: &Path) -> Result<Vec<Save>> {
    fs::create_dir_all(folder())?;
    let own = own_executable()?;
    let into = folder().display().to_string();
    let address = format!("{}:{}", lab.address("bench/receiver")?, manifests::PORT);
    let receiver = End::start(lab, "bench/receiver", &[&own, "peer", "receive", &manifests::PORT.to_string(), &into])?;
    let sender = End::start(lab, "bench/sender", &[&own, "peer", "send", &address, &into])?;
    thread::sleep(WINDOW);
    let mut saves = Vec::new();
    for number in 0..CHANGES {
        let (allowed, renamed) = (number % 2 == 1, number % 4 < 2);
        let at = save(&manifests.join(manifests::FILE), &manifests::policy(allowed), renamed)?;
        saves.push(Save { allowed, renamed, at });
        thread::sleep(WINDOW + DRIFT * u32::try_from(number % 8)?);
    }
    sender.end()?;
    receiver.end()?;
    Ok(saves)
}

/// Saves a file, and tells when: just before the system call that makes its new content whole.
fn save(path: &Path, text: &str, renamed: bool) -> Result<u64> {
    let draft = path.with_extension("draft");
    let mut file = fs::File::create(if renamed { &draft } else { path })?;
    file.write_all(text.as_bytes())?;
    if renamed {
        drop(file);
        let at = clock();
        fs::rename(draft, path)?;
        return Ok(at);
    }
    let at = clock();
    drop(file);
    Ok(at)
}

/// A process in a pod that ends when its standard input does.
struct End(Child);

impl End {
    fn start(lab: &Lab, place: &str, command: &[&str]) -> Result<Self> {
        let mut command = lab.command(place, command);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start a peer")?;
        let mut end = Self(child);
        let mut line = String::new();
        BufReader::new(end.0.stdout.take().context("a peer has no output")?).read_line(&mut line)?;
        ensure!(!line.is_empty(), "the peer in {place} ended at its start");
        Ok(end)
    }

    fn end(mut self) -> Result<()> {
        drop(self.0.stdin.take());
        let status = self.0.wait()?;
        ensure!(status.success(), "a peer ended with {status}");
        Ok(())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // After `end` it has ended.
        let _already_ended = self.0.kill();
        let _no_child = self.0.wait();
    }
}

/// What the ends saw.
struct Seen {
    /// When each datagram was sent.
    sent: Vec<u64>,
    /// Whether it arrived.
    arrived: Vec<bool>,
    /// When bytes of TCP arrived, in order.
    bytes: Vec<u64>,
}

impl Seen {
    fn read() -> Result<Self> {
        let sent = read(&folder().join(SENT))?;
        let mut arrived = vec![false; sent.len()];
        for number in read(&folder().join(RECEIVED))? {
            *arrived.get_mut(usize::try_from(number)?).context("a datagram arrived that was never sent")? = true;
        }
        let mut bytes = read(&folder().join(ARRIVED))?;
        bytes.sort_unstable();
        Ok(Self { sent, arrived, bytes })
    }
}

/// Milliseconds of one change. `None`: not before the next change.
struct Change {
    renamed: bool,
    allowed: bool,
    /// From the save to the first datagram that was judged by the new policy.
    enforced: Option<f64>,
    /// Where an established connection was denied: from the save, and from enforcement, to its last byte.
    stopped: Option<(f64, f64)>,
    /// The longest the sender paused while the change was under way: nothing is known more exactly.
    blur: f64,
}

fn judge(saves: &[Save], seen: &Seen) -> Vec<Change> {
    let ends = saves.iter().skip(1).map(|save| save.at).chain([u64::MAX]);
    saves.iter().zip(ends).map(|(save, end)| judge_one(save, end, seen)).collect()
}

fn judge_one(save: &Save, end: u64, seen: &Seen) -> Change {
    let first = seen.sent.partition_point(|sent| *sent < save.at);
    let last = seen.sent.partition_point(|sent| *sent < end);
    // Where it is allowed: the first that arrived. Where it is denied: the one after the last that arrived, as one may be lost
    // for another reason.
    let judged = if save.allowed {
        (first..last).find(|number| seen.arrived[*number])
    } else {
        Some((first..last).rev().find(|number| seen.arrived[*number]).map_or(first, |number| number + 1))
    };
    let judged = judged.filter(|number| *number < last);
    let enforced = judged.map(|number| seen.sent[number]);
    let until = enforced.map_or(last, |_| judged.unwrap_or(last) + 1);
    let gaps = seen.sent[first.saturating_sub(1)..until.min(last)].windows(2).map(|pair| pair[1] - pair[0]);
    let bytes_before = seen.bytes.partition_point(|at| *at < save.at);
    let last_byte = seen.bytes[..seen.bytes.partition_point(|at| *at < end)].last().copied();
    let established = bytes_before > 0 && u128::from(save.at - seen.bytes[bytes_before - 1]) < RECENT.as_nanos();
    let stopped = match (last_byte, enforced) {
        (Some(last), Some(enforced)) if established && !save.allowed => {
            Some((milliseconds(last.saturating_sub(save.at)), milliseconds(last.saturating_sub(enforced))))
        }
        _ => None,
    };
    Change {
        renamed: save.renamed,
        allowed: save.allowed,
        enforced: enforced.map(|at| milliseconds(at - save.at)),
        stopped,
        blur: milliseconds(gaps.max().unwrap_or_default()),
    }
}

fn milliseconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64() * 1e3
}

/// Count, median, 90th percentile and largest of some milliseconds; infinite where a change never came into force.
fn spread(name: &str, mut values: Vec<f64>) -> (Vec<String>, Value) {
    values.sort_by(f64::total_cmp);
    let at = |percent: usize| values.get(values.len().saturating_sub(1) * percent / 100).copied().unwrap_or(f64::NAN);
    let (median, p90, max) = (at(50), at(90), at(100));
    let row =
        [name.to_owned(), values.len().to_string()].into_iter().chain([median, p90, max].map(|ms| format!("{ms:.1}")));
    (row.collect(), json!({ "figure": name, "count": values.len(), "medianMs": median, "p90Ms": p90, "maxMs": max }))
}

fn report(changes: &[Change], profile: &str) -> Result<()> {
    let enforced = |wanted: &dyn Fn(&Change) -> bool| -> Vec<f64> {
        changes.iter().filter(|change| wanted(change)).map(|change| change.enforced.unwrap_or(f64::INFINITY)).collect()
    };
    let stopped: Vec<_> = changes.iter().filter_map(|change| change.stopped).collect();
    let figures = [
        spread("save to enforcement", enforced(&|_| true)),
        spread("  file renamed over the old one", enforced(&|change| change.renamed)),
        spread("  file written in place", enforced(&|change| !change.renamed)),
        spread("  newly allowed", enforced(&|change| change.allowed)),
        spread("  newly denied", enforced(&|change| !change.allowed)),
        spread("save to last byte of an established TCP connection", stopped.iter().map(|(saved, _)| *saved).collect()),
        spread("enforcement to last byte of it", stopped.iter().map(|(_, enforced)| *enforced).collect()),
        spread("longest pause of the sender meanwhile", changes.iter().map(|change| change.blur).collect()),
    ];
    let (rows, figures): (Vec<_>, Vec<_>) = figures.into_iter().unzip();
    println!("{}", table::render(&["milliseconds", "count", "median", "p90", "max"], &rows));
    let denied = changes.iter().filter(|change| !change.allowed).count();
    ensure!(
        stopped.len() * 2 > denied,
        "only {} of {denied} connections were established when they were denied: too little to tell",
        stopped.len()
    );
    let goals = [
        ("save to enforcement, median", &figures[0]["medianMs"], ENFORCED_GOAL),
        ("enforcement to last byte, max", &figures[6]["maxMs"], STOPPED_GOAL),
    ];
    let goals: Vec<_> = goals
        .into_iter()
        .map(|(name, value, goal)| {
            let hit = value.as_f64().is_some_and(|value| value <= goal);
            println!("{}: {name} {value:.1} ms, goal {goal} ms", if hit { "HIT " } else { "MISS" });
            json!({ "goal": name, "ms": value, "allowedMs": goal, "hit": hit })
        })
        .collect();
    let file = target().join("bench/change.json");
    let all = json!({ "build": profile, "changes": changes.len(), "figures": figures, "goals": goals });
    fs::write(&file, serde_json::to_vec_pretty(&all)?)?;
    println!("written to {}", file.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A datagram each millisecond, and bytes in between, for as long as `passes`.
    fn seen(passes: impl Fn(u64) -> bool) -> Seen {
        let sent: Vec<u64> = (1..400).map(|number| number * MS).collect();
        let arrived = sent.iter().map(|at| passes(*at)).collect();
        let bytes = sent.iter().map(|at| at + MS / 2).filter(|at| passes(*at)).collect();
        Seen { sent, arrived, bytes }
    }

    #[test]
    fn changes_are_timed_to_the_datagram() {
        let save = |allowed, ms| Save { allowed, renamed: true, at: ms * MS };
        // Denied at 100, in force at 112; allowed at 200, in force at 230; denied at 300 in vain. One was lost on the way.
        let lost = 105 * MS;
        let seen = seen(|at| at != lost && !(112 * MS..230 * MS).contains(&at));
        let changes = judge(&[save(false, 100), save(true, 200), save(false, 300)], &seen);
        let enforced: Vec<_> = changes.iter().map(|change| change.enforced.map(f64::round)).collect();
        assert_eq!(enforced, [Some(12.0), Some(30.0), None]);
        assert_eq!(changes[0].stopped, Some((11.5, 0.0)));
        assert!(changes[1].stopped.is_none() && changes[2].stopped.is_none());
        assert!((changes[0].blur - 1.0).abs() < f64::EPSILON);
    }
}
