//! What befalls agents: they are killed, and come back as the same or another binary.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::bed::{Bed, eventually, kill};

/// A program in place of `strait`, that is one of several builds of it.
pub(super) struct Builds {
    folder: tempfile::TempDir,
}

impl Builds {
    pub(super) fn new() -> Self {
        // Beside the binary, so that links to it are possible.
        let builds = Self { folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() };
        for name in ["old", "new"] {
            fs::hard_link(env!("CARGO_BIN_EXE_strait"), builds.folder.path().join(name)).unwrap();
        }
        builds.install("old");
        builds
    }

    /// What the lab starts.
    pub(super) fn executable(&self) -> PathBuf {
        self.folder.path().join("strait")
    }

    /// Makes one of the builds what is started from now on.
    pub(super) fn install(&self, build: &str) {
        let path = self.executable();
        let draft = self.folder.path().join("draft");
        fs::write(&draft, format!("#!/bin/sh\nexec {} \"$@\"\n", self.folder.path().join(build).display())).unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(draft, path).unwrap();
    }
}

/// The agent's process, once it answers.
fn pid(bed: &Bed, node: &str) -> Option<u32> {
    bed.lab.agent(node).status().ok().map(|status| status.pid)
}

/// Kills the agent of `node` as a crash does; returns its process id.
pub(super) fn crash(bed: &Bed, node: &str) -> u32 {
    let mut found = None;
    eventually("the agent answers", || {
        found = pid(bed, node);
        found.is_some()
    });
    let found = found.unwrap();
    kill(found);
    found
}

/// Waits until another process serves `node`, as which build it runs.
pub(super) fn back(bed: &Bed, node: &str, old: u32) -> String {
    let mut build = String::new();
    eventually("another agent serves the node", || {
        let Some(new) = pid(bed, node).filter(|new| *new != old) else { return false };
        let Ok(path) = fs::read_link(format!("/proc/{new}/exe")) else { return false };
        build = Path::file_name(&path).unwrap().to_string_lossy().into_owned();
        true
    });
    build
}
