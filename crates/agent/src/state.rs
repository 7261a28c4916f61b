//! What outlives the agent's process, in its run directory: endpoints, one file each, and the identity numbers in use. Every
//! file is replaced by rename, so a kill at any time leaves the old one or the new one.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use strait_model::AllocatorState;
use thiserror::Error;

use crate::api::{EndpointSpec, PodName};

/// The run directory.
#[derive(Clone, Debug)]
pub(crate) struct RunDir {
    root: PathBuf,
}

/// A file of the run directory could not be read or written.
#[derive(Debug, Error)]
#[error("cannot {operation} {}: {cause}", path.display())]
pub struct StateError {
    operation: &'static str,
    path: PathBuf,
    cause: io::Error,
}

impl StateError {
    pub(crate) fn new(operation: &'static str, path: &Path, cause: io::Error) -> Self {
        Self { operation, path: path.to_owned(), cause }
    }
}

/// Longest file that is read back, bytes.
const LIMIT: u64 = 256 << 20;

impl RunDir {
    /// Makes the directory, readable by its owner only.
    pub(crate) fn open(root: &Path) -> Result<Self, StateError> {
        use std::os::unix::fs::DirBuilderExt;
        let endpoints = root.join("endpoints");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&endpoints).map_err(|cause| StateError {
            operation: "make",
            path: endpoints,
            cause,
        })?;
        Ok(Self { root: root.to_owned() })
    }

    /// The endpoints, and what was wrong with files that could not be read: such an endpoint stays as its pinned maps have it
    /// until it is added again.
    pub(crate) fn endpoints(&self) -> Result<(BTreeMap<PodName, EndpointSpec>, Vec<StateError>), StateError> {
        let folder = self.root.join("endpoints");
        let failed = |cause| StateError { operation: "list", path: folder.clone(), cause };
        let (mut endpoints, mut errors) = (BTreeMap::new(), Vec::new());
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read::<EndpointSpec>(&path) {
                Ok(Some(spec)) => {
                    endpoints.insert(spec.name.clone(), spec);
                }
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        Ok((endpoints, errors))
    }

    pub(crate) fn save_endpoint(&self, spec: &EndpointSpec) -> Result<(), StateError> {
        replace(&self.endpoint_file(&spec.name), spec)
    }

    pub(crate) fn remove_endpoint(&self, name: &PodName) -> Result<(), StateError> {
        let path = self.endpoint_file(name);
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                Err(StateError { operation: "remove", path, cause })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn allocator(&self) -> Result<Option<AllocatorState>, StateError> {
        read(&self.root.join("identities.json"))
    }

    pub(crate) fn save_allocator(&self, state: &AllocatorState) -> Result<(), StateError> {
        replace(&self.root.join("identities.json"), state)
    }

    /// Names are DNS labels and subdomains (checked before): no `_` and no `/` in them.
    fn endpoint_file(&self, PodName { namespace, pod }: &PodName) -> PathBuf {
        self.root.join("endpoints").join(json_file(&format!("{namespace}_{pod}")))
    }
}

/// Longest name, without its ending, that a file gets as it is. File systems allow 255 bytes; a namespace and a pod may
/// have 317 together.
const LONGEST_NAME: usize = 200;

/// The name of a JSON file for `name`, which is ASCII: what is too long keeps its end and gets a hash of the whole.
pub(crate) fn json_file(name: &str) -> String {
    format!("{}.json", short(name))
}

fn short(name: &str) -> String {
    let cut = name.len().saturating_sub(LONGEST_NAME);
    if cut == 0 {
        return name.to_owned();
    }
    // FNV-1a: the same number in every version, as an agent looks for the files of the one before it.
    format!("{:016x}_{}", fnv1a(name.bytes()), &name[cut..])
}

/// Any text as the name of a file, without an ending: characters outside the usual become `%` and their number.
pub(crate) fn file_name(text: &str) -> String {
    let mut name = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            name.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(name, "%{byte:02x}");
        }
    }
    short(&name)
}

/// FNV-1a of 64 bits.
pub(crate) fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Makes a folder that only its owner can look into.
pub(crate) fn make_private(path: &Path) -> Result<(), StateError> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let make = || {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
    };
    make().map_err(|cause| StateError { operation: "make", path: path.to_owned(), cause })
}

/// A file that `replace` wrote; `None` where there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let failed = |cause| StateError { operation: "read", path: path.to_owned(), cause };
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, LIMIT), &mut text).map_err(failed)?;
    serde_json::from_slice(&text).map(Some).map_err(|error| failed(error.into()))
}

/// Writes beside and renames over, readable by the owner only. Not synced to disk: the run directory is emptied by a reboot, as the pins are.
pub(crate) fn replace(path: &Path, value: &impl Serialize) -> Result<(), StateError> {
    use std::os::unix::fs::OpenOptionsExt;
    let fresh = path.with_extension("new");
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        fs::rename(&fresh, path)
    };
    write().map_err(|cause| StateError { operation: "write", path: path.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Mac;

    #[test]
    fn endpoints_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::open(folder.path()).unwrap();
        let spec = |pod: &str| EndpointSpec {
            name: PodName { namespace: "shop".into(), pod: pod.into() },
            ifname: format!("v-{pod}"),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            addresses: vec!["10.244.1.10".parse().unwrap()],
        };
        run.save_endpoint(&spec("web-0")).unwrap();
        run.save_endpoint(&spec("db-0")).unwrap();
        run.save_endpoint(&EndpointSpec { ifname: "other".to_owned(), ..spec("web-0") }).unwrap();
        run.remove_endpoint(&spec("db-0").name).unwrap();
        run.remove_endpoint(&spec("db-0").name).unwrap();
        fs::write(folder.path().join("endpoints/shop_cut.json"), "{\"namesp").unwrap();
        // A kill between writing and renaming.
        fs::write(folder.path().join("endpoints/shop_half.new"), "{").unwrap();

        let (endpoints, errors) = run.endpoints().unwrap();
        assert_eq!(endpoints.values().map(|spec| spec.ifname.as_str()).collect::<Vec<_>>(), ["other"]);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].to_string().contains("shop_cut.json"), "{}", errors[0]);
        assert!(run.allocator().unwrap().is_none());
    }

    #[test]
    fn names_of_any_length_get_files_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::open(folder.path()).unwrap();
        // As long as the API server lets them be.
        let spec = |namespace: &str, first: &str| EndpointSpec {
            name: PodName { namespace: namespace.repeat(63).into(), pod: format!("{first}{}", "p".repeat(252)).into() },
            ifname: format!("v-{namespace}{first}"),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            addresses: vec!["10.244.1.10".parse().unwrap()],
        };
        let all = [spec("a", "x"), spec("a", "y"), spec("b", "x")];
        for spec in &all {
            run.save_endpoint(spec).unwrap();
        }
        run.remove_endpoint(&all[1].name).unwrap();
        let (endpoints, errors) = run.endpoints().unwrap();
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(endpoints.values().map(|spec| spec.ifname.as_str()).collect::<Vec<_>>(), ["v-ax", "v-bx"]);
    }
}
