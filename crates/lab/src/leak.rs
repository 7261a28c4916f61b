//! What labs have on the host, to compare before and after: nothing may stay.

use std::{collections::BTreeSet, fmt, fs, path::Path};

use crate::{
    cgroup,
    names::{LabName, Paths},
    process::Process,
    teardown::PINS,
};

/// What of labs is on the host.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Traces(BTreeSet<String>);

impl Traces {
    /// What is there now: mounts, files, pins, cgroups, processes, and the host's own links.
    pub fn now() -> Self {
        let mut found = BTreeSet::new();
        let state = Paths::all_labs();
        for line in fs::read_to_string("/proc/self/mounts").unwrap_or_default().lines() {
            if let Some(at) = line.split(' ').nth(1).filter(|at| Path::new(at).starts_with(state)) {
                found.insert(format!("mount {at}"));
            }
        }
        walk(state, "file", &mut found);
        walk(Path::new(PINS), "pin", &mut found);
        if let Ok(cgroups) = cgroup::mount_point() {
            walk(&cgroups.join("strait-lab"), "cgroup", &mut found);
        }
        for entry in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
            found.insert(format!("link {}", entry.file_name().to_string_lossy()));
        }
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(process) = entry.file_name().to_str().and_then(|id| id.parse().ok()).and_then(Process::with_id)
            else {
                continue;
            };
            let cgroup = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            // A cgroup is only removed once nothing in it can run: who is still shown there is on its way out.
            let lives_in = |line: &&str| line.contains("/strait-lab/") && !line.ends_with(" (deleted)");
            if let Some(line) = cgroup.lines().find(lives_in) {
                found.insert(format!("process {} started at tick {} in {line}", process.pid, process.start));
            }
        }
        Self(found)
    }

    /// What is here and not in `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self(self.0.difference(&before.0).cloned().collect())
    }

    /// Those that name the lab `name`, and those that name nobody: what belongs to other labs, and pins of other agents, come and
    /// go meanwhile.
    #[must_use]
    pub fn of(&self, name: &LabName) -> Self {
        let folders = [format!("/strait-lab/{name}"), format!("/strait/lab/{name}")];
        // With what comes after it, or the name would be the beginning of another's too.
        let ends = |rest: &str| rest.is_empty() || rest.starts_with(['/', ' ']);
        let pins = format!("{PINS}/lab-{name}-");
        let is_own = |trace: &&String| {
            let in_folder = |folder: &String| trace.split(&**folder).skip(1).any(ends);
            trace.contains(&pins) || folders.iter().any(in_folder)
        };
        let is_anyones = |trace: &&String| !["/strait-lab/", "/strait/lab/", PINS].iter().any(|at| trace.contains(at));
        let is_own = |trace: &&String| is_own(trace) || is_anyones(trace);
        Self(self.0.iter().filter(is_own).cloned().collect())
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A line each.
impl fmt::Display for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|trace| writeln!(f, "{trace}"))
    }
}

/// Folders and what is in them, but not a cgroup's own files, which come and go with it.
fn walk(folder: &Path, kind: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder {
            walk(&entry.path(), kind, found);
        }
        if is_folder || kind != "cgroup" {
            found.insert(format!("{kind} {}", entry.path().display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_traces_they_are() {
        for (trace, own) in [
            ("mount /run/strait/lab/shop/netns/outside", true),
            ("file /run/strait/lab/shop", true),
            ("file /run/strait/lab/shop-2", false),
            ("file /run/strait/lab/shop-2/lab.json", false),
            ("pin /sys/fs/bpf/strait/lab-shop-node-1/maps", true),
            ("pin /sys/fs/bpf/strait/lab-other-node-1/maps", false),
            ("pin /sys/fs/bpf/strait/node/maps", false),
            ("pin /sys/fs/bpf/strait/t71-restart", false),
            ("cgroup /sys/fs/cgroup/strait-lab/shop", true),
            ("process 71 started at tick 5 in 0::/strait-lab/shop/agent-node-1", true),
            ("process 71 started at tick 5 in 0::/strait-lab/shop-2/agent-node-1", false),
            ("link veth7", true),
        ] {
            let traces = Traces(BTreeSet::from([trace.to_owned()]));
            assert_eq!(!traces.of(&"shop".parse().unwrap()).is_empty(), own, "{trace}");
        }
    }
}
