use std::{io, path::PathBuf};

use crate::{cgroup::CgroupError, enter::EnterError, names::LabName};

/// Why something about a lab could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not root.
    #[error("a lab needs root: it makes network namespaces and loads BPF programs (run it with sudo)")]
    NotRoot,
    /// A lab of that name runs.
    #[error(
        "lab `{0}` is running and follows its manifests by itself: change them, or end it with `strait lab down --lab {0}`, or choose another name with --name"
    )]
    Running(LabName),
    /// What is left of a lab of that name.
    #[error("lab `{0}` is there without its supervisor, which died: clear it away with `strait lab down --lab {0}`")]
    Abandoned(LabName),
    /// No such lab.
    #[error(
        "there is no lab `{0}` (`strait lab list` shows those there are; start one with `strait lab up -f DIR --name {0}`)"
    )]
    NoSuchLab(LabName),
    /// Asked from inside of it.
    #[error("this runs inside of lab `{0}`, whose end would be its own: run it outside of the lab")]
    Inside(LabName),
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
    /// The supervisor gave up.
    #[error("{0}")]
    Supervisor(String),
    /// The supervisor ended without a word.
    #[error("the supervisor of lab `{lab}` ended before the lab was up; the end of its log:\n{log}")]
    Crashed {
        /// Which lab.
        lab: LabName,
        /// Last lines.
        log: String,
    },
    /// Manifests cannot be read at all.
    #[error(transparent)]
    Source(#[from] strait_api::source::SourceError),
    /// Cgroups.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Entering a place.
    #[error(transparent)]
    Enter(#[from] EnterError),
    /// Namespaces.
    #[error(transparent)]
    Netns(#[from] strait_datapath::netns::Error),
    /// Links, addresses, routes.
    #[error(transparent)]
    Netlink(#[from] strait_datapath::netlink::Error),
    /// Kernel settings.
    #[error(transparent)]
    Sysctl(#[from] strait_datapath::sysctl::Error),
    /// An agent.
    #[error("agent on {node}: {cause}")]
    Agent {
        /// Its node.
        node: String,
        /// What went wrong.
        cause: strait_agent::ClientError,
    },
    /// A probing process failed.
    #[error("probing from {place}: {detail}")]
    Probe {
        /// Where.
        place: String,
        /// What went wrong.
        detail: String,
    },
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::Io { doing, path, cause }
    }
}
