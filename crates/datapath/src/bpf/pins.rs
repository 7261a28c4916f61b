//! Where maps and links are pinned, so that they outlive the agent.
//!
//! ```text
//! <root>/<instance>/maps/IPCACHE …             the tables the programs use
//!                   maps_next/IPCACHE …        while tables are being replaced: those that will be used, or are by some links
//!                   maps_old/IPCACHE …         for a moment: those that were used before
//!                   links/<ifindex>_<program>  one per program and interface
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use strait_packet::abi::Hook;

use crate::{
    kernel::program_name,
    probe::{self, BPFFS},
};

/// The default of [`Options::pin_root`](crate::Options).
pub const PIN_ROOT: &str = "/sys/fs/bpf/strait";

/// Pins cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The instance's name cannot be a folder in bpffs.
    #[error("instance name {0:?}: allowed are 1 to 64 letters, digits, '-' and '_' (bpffs takes no dots)")]
    Instance(String),
    /// bpffs cannot be mounted.
    #[error(transparent)]
    Mount(#[from] probe::MountError),
    /// The folder is of another file system.
    #[error("{} is not on bpffs, where maps and links are pinned: choose a folder below {BPFFS}", .0.display())]
    NotBpffs(PathBuf),
    /// A file or folder cannot be used.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The folders of one instance.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    folder: PathBuf,
}

impl Pins {
    /// Makes the folders of `instance` below `root`, mounting bpffs where it is missing.
    pub(super) fn open(root: &Path, instance: &str) -> Result<Self, PinError> {
        let pins = Self { folder: folder(root, instance)? };
        if root.starts_with(BPFFS) {
            probe::ensure_bpffs()?;
        }
        if !pins.maps().exists() && pins.next_maps().exists() {
            // An agent ended between the two steps of putting new tables in place: all links use the new ones.
            pins.move_into_place()?;
        }
        remove_tree(&pins.old_maps())?;
        for folder in [pins.maps(), pins.links()] {
            fs::create_dir_all(&folder).map_err(|source| io_error("make folder", &folder, source))?;
        }
        if statfs(&pins.folder).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC) {
            Ok(pins)
        } else {
            Err(PinError::NotBpffs(pins.folder))
        }
    }

    /// The tables in use.
    pub(super) fn maps(&self) -> PathBuf {
        self.folder.join("maps")
    }

    /// Tables that will be.
    pub(super) fn next_maps(&self) -> PathBuf {
        self.folder.join("maps_next")
    }

    fn old_maps(&self) -> PathBuf {
        self.folder.join("maps_old")
    }

    fn links(&self) -> PathBuf {
        self.folder.join("links")
    }

    pub(super) fn link(&self, index: u32, hook: Hook) -> PathBuf {
        self.links().join(format!("{index}_{}", program_name(hook)))
    }

    /// Every pinned link, by name. Names that are none of ours are left alone.
    pub(super) fn all_links(&self) -> Result<Vec<(u32, Hook)>, PinError> {
        let folder = self.links();
        let mut links = Vec::new();
        for entry in fs::read_dir(&folder).map_err(|source| io_error("list", &folder, source))? {
            let name = entry.map_err(|source| io_error("list", &folder, source))?.file_name();
            links.extend(name.to_str().and_then(parse_link));
        }
        links.sort();
        Ok(links)
    }

    /// Takes links away that no program of this version has: of hooks that a newer one made. Nobody would move them to other tables, and they
    /// would go on judging by those of before.
    pub(super) fn remove_foreign_links(&self) -> Result<(), PinError> {
        remove_foreign_links(&self.links())
    }

    /// An empty folder for tables that will be; what a crash left there is removed.
    pub(super) fn fresh_next_maps(&self) -> Result<PathBuf, PinError> {
        let next = self.next_maps();
        remove_tree(&next)?;
        fs::create_dir(&next).map_err(|source| io_error("make folder", &next, source))?;
        Ok(next)
    }

    /// Gives up tables that would have been.
    pub(super) fn remove_next_maps(&self) -> Result<(), PinError> {
        remove_tree(&self.next_maps())
    }

    /// All links use the next tables; first of two steps that make them the tables.
    pub(super) fn move_away(&self) -> Result<(), PinError> {
        let (maps, old) = (self.maps(), self.old_maps());
        remove_tree(&old)?;
        fs::rename(&maps, &old).map_err(|source| io_error("move away", &maps, source))
    }

    /// The second step.
    pub(super) fn move_into_place(&self) -> Result<(), PinError> {
        let next = self.next_maps();
        fs::rename(&next, self.maps()).map_err(|source| io_error("move into place", &next, source))
    }

    /// What the tables were before.
    pub(super) fn remove_old_maps(&self) -> Result<(), PinError> {
        remove_tree(&self.old_maps())
    }
}

/// Removes everything that `instance` pinned: its programs stop running and its tables are gone, unless an agent still holds
/// them open. Nothing there is success.
pub fn remove_pins(root: &Path, instance: &str) -> Result<(), PinError> {
    let folder = folder(root, instance)?;
    // Links first: no program runs on without what user space knows of it.
    remove_tree(&folder.join("links"))?;
    remove_tree(&folder)
}

/// Removes what `instance` pinned where no program is attached, as after a start that failed halfway; whether it was so. What is
/// enforced stays.
pub fn remove_idle_pins(root: &Path, instance: &str) -> Result<bool, PinError> {
    let links = folder(root, instance)?.join("links");
    let idle = match fs::read_dir(&links) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(source) => return Err(io_error("list", &links, source)),
    };
    if idle {
        remove_pins(root, instance)?;
    }
    Ok(idle)
}

/// Instances that have pins below `root`, in order.
pub fn instances(root: &Path) -> Result<Vec<String>, PinError> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| io_error("list", root, source))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(|source| io_error("list", root, source))?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn folder(root: &Path, instance: &str) -> Result<PathBuf, PinError> {
    let fits = (1..=64).contains(&instance.len());
    if fits && instance.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        Ok(root.join(instance))
    } else {
        Err(PinError::Instance(instance.to_owned()))
    }
}

fn parse_link(name: &str) -> Option<(u32, Hook)> {
    let (index, program) = name.split_once('_')?;
    let hook = Hook::ALL.into_iter().find(|hook| program_name(*hook) == program)?;
    Some((index.parse().ok()?, hook))
}

fn remove_foreign_links(folder: &Path) -> Result<(), PinError> {
    for entry in fs::read_dir(folder).map_err(|source| io_error("list", folder, source))? {
        let name = entry.map_err(|source| io_error("list", folder, source))?.file_name();
        let Some(name) = name.to_str().filter(|name| parse_link(name).is_none()) else { continue };
        if name.split_once('_').is_some_and(|(index, _)| index.parse::<u32>().is_ok()) {
            remove_file(&folder.join(name))?;
        }
    }
    Ok(())
}

pub(super) fn remove_file(path: &Path) -> Result<bool, PinError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(io_error("remove", path, source)),
    }
}

fn remove_tree(path: &Path) -> Result<(), PinError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path, error)),
        _ => Ok(()),
    }
}

fn io_error(operation: &'static str, path: &Path, source: io::Error) -> PinError {
    PinError::Io { operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_names() {
        for (name, valid) in [("lab-shop-node-1", true), ("a.b", false), ("", false), ("../x", false), ("a/b", false)] {
            assert_eq!(folder(Path::new(PIN_ROOT), name).is_ok(), valid, "{name}");
        }
    }

    #[test]
    fn links_of_unknown_hooks_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["7_to_pod", "7_to_the_moon", "notes", "x_to_pod"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        remove_foreign_links(folder.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["7_to_pod", "notes", "x_to_pod"]);
    }

    #[test]
    fn link_names() {
        for (name, expected) in [
            ("7_from_pod", Some((7, Hook::FromPod))),
            ("7_to_pod", Some((7, Hook::ToPod))),
            ("12_from_uplink", Some((12, Hook::FromUplink))),
            ("12_to_uplink", Some((12, Hook::ToUplink))),
            ("x_from_pod", None),
            ("7_other", None),
            ("7", None),
        ] {
            assert_eq!(parse_link(name), expected, "{name}");
        }
    }
}
