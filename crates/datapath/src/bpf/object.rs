//! The BPF object: from a file that the environment names, or as it was built in.

use std::{borrow::Cow, env, fs, io, path::PathBuf};

/// Names a BPF object to load in place of the one built in.
pub const OBJECT_VARIABLE: &str = "STRAIT_BPF_OBJECT";

const EMBEDDED: Option<&[u8]> = include!(concat!(env!("OUT_DIR"), "/object.rs"));

/// There is no object to load.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The named file cannot be read.
    #[error("cannot read the BPF object {}, which {OBJECT_VARIABLE} names: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// None was built in.
    #[error(
        "this build has no BPF object: run `cargo xtask setup` and `cargo xtask bpf`, then build again; or set {OBJECT_VARIABLE} to a \
         strait.o"
    )]
    NotBuilt,
}

/// Whether there is an object to load.
pub fn available() -> bool {
    env::var_os(OBJECT_VARIABLE).is_some() || EMBEDDED.is_some()
}

/// The object's bytes.
pub(super) fn bytes() -> Result<Cow<'static, [u8]>, ObjectError> {
    if let Some(path) = env::var_os(OBJECT_VARIABLE).map(PathBuf::from) {
        return match fs::read(&path) {
            Ok(bytes) => Ok(Cow::Owned(bytes)),
            Err(source) => Err(ObjectError::Unreadable { path, source }),
        };
    }
    EMBEDDED.map(Cow::Borrowed).ok_or(ObjectError::NotBuilt)
}
