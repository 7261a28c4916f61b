//! How much memory there is, and whether it is nearly gone.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::limits::Limits;

/// How often it is looked at.
pub(crate) const EACH: Duration = Duration::from_secs(1);

/// The memory of the process, against a bound.
pub(crate) struct Memory {
    most: Option<u64>,
}

impl Memory {
    pub(crate) fn new(limits: &Limits) -> Self {
        let given = Some(limits.memory as u64).filter(|bytes| *bytes > 0);
        let most = given.or_else(|| Some(allowed(Path::new("/"))? / 10 * 9));
        Self { most }
    }

    /// Whether the process has more than it should. Where that cannot be read nothing is refused.
    pub(crate) fn is_short(&mut self) -> bool {
        let resident = || bytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:");
        self.most.is_some_and(|most| resident().is_some_and(|resident| resident > most))
    }
}

/// What the machine has, or what the process' cgroup and those above it allow, if that is less.
fn allowed(root: &Path) -> Option<u64> {
    let info = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    cgroup_limits(root).chain(bytes(&info, "MemTotal:")).min()
}

/// An amount of memory among those that the kernel tells in KiB, each on a line of its own.
fn bytes(text: &str, name: &str) -> Option<u64> {
    let kib: u64 = text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok())?;
    kib.checked_mul(1024)
}

fn cgroup_limits(root: &Path) -> impl Iterator<Item = u64> {
    let own = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    // Version 2 has one hierarchy; version 1 one of memory's own.
    let path = |prefix: &str| own.lines().find_map(|line| line.split_once(prefix)?.1.strip_prefix('/'));
    let mut folders: Vec<(PathBuf, PathBuf, &str)> = Vec::new();
    let mounted = root.join("sys/fs/cgroup");
    if let Some(path) = own.lines().find_map(|line| line.strip_prefix("0::/")) {
        folders.push((mounted.clone(), mounted.join(path), "memory.max"));
    }
    if let Some(path) = path(":memory:") {
        let mounted = mounted.join("memory");
        folders.push((mounted.clone(), mounted.join(path), "memory.limit_in_bytes"));
    }
    let mut limits = Vec::new();
    for (mounted, folder, file) in folders {
        let up = folder.ancestors().take_while(|folder| folder.starts_with(&mounted));
        // `max` is none.
        limits.extend(up.filter_map(|folder| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok()));
    }
    limits.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Files = &'static [(&'static str, &'static str)];

    /// Files below a root, and what they allow.
    #[test]
    fn the_least_of_all_counts() {
        const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:        1000 kB\nMemFree: 10 kB\n");
        const OWN: (&str, &str) = ("proc/self/cgroup", "0::/a/b\n");
        let cases: [(Files, Option<u64>); 7] = [
            (&[], None),
            (&[MEMINFO], Some(1_024_000)),
            (&[MEMINFO, OWN, ("sys/fs/cgroup/a/b/memory.max", "max\n")], Some(1_024_000)),
            (&[MEMINFO, OWN, ("sys/fs/cgroup/a/b/memory.max", "4096\n")], Some(4096)),
            (
                &[MEMINFO, OWN, ("sys/fs/cgroup/a/b/memory.max", "max\n"), ("sys/fs/cgroup/a/memory.max", "8192\n")],
                Some(8192),
            ),
            (&[MEMINFO, OWN, ("sys/fs/cgroup/a/b/memory.max", "99999999\n")], Some(1_024_000)),
            (
                &[
                    MEMINFO,
                    ("proc/self/cgroup", "5:cpu:/\n4:memory:/c\n"),
                    ("sys/fs/cgroup/memory/c/memory.limit_in_bytes", "512\n"),
                ],
                Some(512),
            ),
        ];
        for (files, expected) in cases {
            let root = std::env::temp_dir().join(format!("strait-memory-{}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            for (name, text) in files {
                fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
                fs::write(root.join(name), text).unwrap();
            }
            assert_eq!(allowed(&root), expected, "{files:?}");
            let _ = fs::remove_dir_all(&root);
        }
    }

    #[test]
    fn what_the_process_has_is_read() {
        let short = |memory| Memory::new(&Limits { memory, ..Limits::default() }).is_short();
        assert!(short(4096) && !short(1 << 50));
    }
}
