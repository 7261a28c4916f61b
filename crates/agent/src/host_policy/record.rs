//! What is on disk of host policies: those that were confirmed last, as a manifest, and the revision of those that are tried. Each file
//! is replaced by rename and synced: it has to outlive a crash of the machine, or a reboot would put in force what cut people off.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    set::HostPolicies,
    trial::{Found, Record},
};
use crate::state::{StateError, make_private};

/// Longest file that is read, bytes.
const LIMIT: u64 = 64 << 20;

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// In the agent's state directory, for one node: agents of several may share it.
    pub(crate) fn new(state_dir: &Path, node: &str) -> Self {
        Self { folder: state_dir.join("host-policies").join(crate::state::file_name(node)) }
    }

    /// What is there. A file that is not what was written is an error; the caller goes on without.
    pub(crate) fn read(&self) -> Result<Found, StateError> {
        let tried = self.text("tried")?;
        let tried = tried.and_then(|text| String::from_utf8(text).ok()?.trim().parse().ok());
        let path = self.folder.join("confirmed.yaml");
        let Some(text) = self.text("confirmed.yaml")? else { return Ok(Found { confirmed: None, tried }) };
        match HostPolicies::from_manifest(&self.file(), &text) {
            Some(confirmed) => Ok(Found { confirmed: Some(confirmed), tried }),
            None => Err(StateError::new("read", &path, io::Error::other("it is not what an agent wrote"))),
        }
    }

    /// `set`, written where it is kept.
    pub(crate) fn kept(&self, set: &HostPolicies) -> Option<HostPolicies> {
        HostPolicies::from_manifest(&self.file(), set.to_manifest().as_bytes())
    }

    fn file(&self) -> Arc<str> {
        self.folder.join("confirmed.yaml").to_string_lossy().into()
    }

    fn text(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let path = self.folder.join(name);
        let read = || {
            let mut text = Vec::new();
            fs::File::open(&path)?.take(LIMIT).read_to_end(&mut text)?;
            io::Result::Ok(text)
        };
        match read() {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(StateError::new("read", &path, cause)),
        }
    }

    pub(crate) fn write(&self, record: &Record) -> Result<(), StateError> {
        match record {
            // In this order: killed between the two, a set is both confirmed and tried, which is confirmed.
            Record::Confirmed(set) => {
                self.replace("confirmed.yaml", &set.to_manifest())?;
                self.remove("tried")
            }
            Record::Tried(revision) => self.replace("tried", &format!("{revision}\n")),
            Record::Untried => self.remove("tried"),
        }
    }

    fn replace(&self, name: &str, text: &str) -> Result<(), StateError> {
        make_private(&self.folder)?;
        let path = self.folder.join(name);
        let fresh = self.folder.join(format!("{name}.new"));
        let write = || {
            use std::os::unix::fs::OpenOptionsExt;
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            fs::File::open(&self.folder)?.sync_all()
        };
        write().map_err(|cause| StateError::new("write", &path, cause))
    }

    fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.folder.join(name);
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(StateError::new("remove", &path, cause)),
            _ => Ok(()),
        }
    }
}
