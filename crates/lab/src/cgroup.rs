//! Cgroups (v2) of a lab: one a pod, so that everything a pod started can be named and ended, and programs can be
//! attached to it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::names::LabName;

/// Killed processes are looked for this often…
const LOOK: Duration = Duration::from_millis(2);
/// …and this many times before that is an error: ten seconds.
const LOOKS: u32 = 5_000;

/// Why a cgroup could not be made or ended.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No cgroup v2 anywhere.
    #[error(
        "no cgroup2 file system is mounted (looked in /proc/mounts); mount one: mount -t cgroup2 none /sys/fs/cgroup"
    )]
    NotMounted,
    /// A file operation failed.
    #[error("{doing} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What came of it.
        cause: io::Error,
    },
    /// Processes outlived SIGKILL.
    #[error("processes in {} are still there 10s after they were killed; see its cgroup.procs", path.display())]
    StillAlive {
        /// The cgroup.
        path: PathBuf,
    },
}

/// A cgroup; the value is only its path and may name one that does not exist.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cgroup(PathBuf);

/// Where cgroup v2 is mounted: not always /sys/fs/cgroup, where v1 hierarchies may have been first.
pub fn mount_point() -> Result<PathBuf, CgroupError> {
    let path = Path::new("/proc/mounts");
    let mounts = fs::read_to_string(path).map_err(|cause| io_error("reading", path, cause))?;
    find_mount(&mounts).ok_or(CgroupError::NotMounted)
}

fn find_mount(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let at = fields.next()?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(at.replace("\\040", " ")))
    })
}

fn io_error(doing: &'static str, path: &Path, cause: io::Error) -> CgroupError {
    CgroupError::Io { doing, path: path.to_owned(), cause }
}

impl Cgroup {
    /// The one that holds everything of lab `name`.
    pub fn of_lab(name: &LabName) -> Result<Self, CgroupError> {
        Ok(Self(mount_point()?.join("strait-lab").join(name.to_string())))
    }

    /// The one that processes are in which no other holds.
    pub fn root() -> Result<Self, CgroupError> {
        Ok(Self(mount_point()?))
    }

    /// The one called `name` in it.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self(self.0.join(name))
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes it and what it is in, where missing.
    pub fn create(&self) -> Result<(), CgroupError> {
        fs::create_dir_all(&self.0).map_err(|cause| io_error("making", &self.0, cause))
    }

    /// Moves the calling process into it.
    pub fn join(&self) -> Result<(), CgroupError> {
        let path = self.0.join("cgroup.procs");
        fs::write(&path, std::process::id().to_string()).map_err(|cause| io_error("joining", &path, cause))
    }

    /// Whether the calling process is in it or below.
    pub fn holds_this_process(&self) -> bool {
        let Ok(mount) = mount_point() else { return false };
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let path = own.lines().find_map(|line| line.strip_prefix("0::/"));
        path.is_some_and(|path| mount.join(path).starts_with(&self.0))
    }

    /// Kills everything in it and below, waits until all is gone, and removes it. One that does not exist is no error.
    pub fn end(&self) -> Result<(), CgroupError> {
        if !self.0.exists() {
            return Ok(());
        }
        let kill = self.0.join("cgroup.kill");
        fs::write(&kill, "1").map_err(|cause| io_error("killing everything in", &kill, cause))?;
        let mut looks = 0;
        while self.populated() {
            looks += 1;
            if looks > LOOKS {
                return Err(CgroupError::StillAlive { path: self.0.clone() });
            }
            std::thread::sleep(LOOK);
        }
        remove_tree(&self.0).map_err(|cause| io_error("removing", &self.0, cause))
    }

    fn populated(&self) -> bool {
        fs::read_to_string(self.0.join("cgroup.events"))
            .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
    }
}

/// A cgroup's files cannot be removed, only its folders, the innermost first.
fn remove_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_second_hierarchy() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        assert_eq!(find_mount(mounts), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(find_mount("proc /proc proc rw 0 0\n"), None);
    }
}
