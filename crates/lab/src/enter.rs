//! Becoming a process of a pod, a node or the outside: its network namespace, its cgroup, its name and its `/etc`
//! files.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};

use crate::{
    cgroup::{Cgroup, CgroupError},
    names::{LabName, Paths, Place, agent_file_name},
};

/// Longest host name that Linux takes.
const LONGEST_HOST_NAME: usize = 63;

/// Why a place could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// No such lab.
    #[error("there is no lab `{0}` (`strait lab list` shows those there are)")]
    NoSuchLab(LabName),
    /// No such place.
    #[error("lab `{lab}` has no {place} (see `strait lab status --lab {lab}`)")]
    NoSuchPlace {
        /// Which lab was asked.
        lab: LabName,
        /// For what.
        place: Place,
    },
    /// A step failed.
    #[error("{doing} for {place}: {cause}")]
    Step {
        /// What was tried.
        doing: &'static str,
        /// Where.
        place: Place,
        /// What came of it.
        cause: io::Error,
    },
    /// The cgroup could not be joined.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The program could not be started.
    #[error("cannot run `{}`: {cause}", program.display())]
    Exec {
        /// The program.
        program: PathBuf,
        /// What came of it.
        cause: io::Error,
    },
}

/// Moves the calling thread into `place` of `lab`; with `as_agent` into the cgroup of that node's agent rather than the
/// node's own.
///
/// Call it while the process has one thread: the others stay where they are.
pub fn enter(lab: &LabName, place: &Place, as_agent: bool) -> Result<(), EnterError> {
    let paths = Paths::of(lab);
    let step = |doing| move |cause: io::Error| EnterError::Step { doing, place: place.clone(), cause };
    let namespace = match File::open(paths.namespace(place)) {
        Err(_) if !paths.root().exists() => return Err(EnterError::NoSuchLab(lab.clone())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(EnterError::NoSuchPlace { lab: lab.clone(), place: place.clone() });
        }
        opened => opened.map_err(step("opening the network namespace"))?,
    };
    let cgroup = match place {
        Place::Node(node) if as_agent => agent_file_name(node),
        Place::Node(_) | Place::Pod(_) | Place::Outside => place.file_name(),
    };
    let cgroup = Cgroup::of_lab(lab)?.child(&cgroup);
    cgroup.create()?;
    cgroup.join()?;
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|e| step("entering the network namespace")(e.into()))?;
    let files = paths.place(place);
    if files.is_dir() {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)
            .map_err(|e| step("making a mount namespace")(e.into()))?;
        // Slave: what is unmounted outside goes away inside too, and nothing mounted inside shows outside.
        let none: Option<&Path> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
            .map_err(|e| step("setting the propagation of mounts")(e.into()))?;
        for (name, target) in [("resolv.conf", "/etc/resolv.conf"), ("hosts", "/etc/hosts")] {
            let file = files.join(name);
            // A bind mount needs something to cover; a host without the file has no use for ours either.
            if file.exists() && Path::new(target).exists() {
                mount(Some(&file), target, none, MsFlags::MS_BIND, none)
                    .map_err(|e| step("mounting resolv.conf and hosts")(e.into()))?;
            }
        }
        if let Place::Pod(pod) = place {
            let name = fs::read_to_string(files.join("hostname")).unwrap_or_else(|_| pod.name.to_string());
            let name = &name[..name.len().min(LONGEST_HOST_NAME)];
            nix::unistd::sethostname(name).map_err(|e| step("setting the host name")(e.into()))?;
        }
    }
    Ok(())
}

/// Becomes `command` in `place`: standard streams, terminal and exit code are the command's own. Returns only where
/// that failed.
pub fn exec(lab: &LabName, place: &Place, as_agent: bool, command: &[OsString]) -> EnterError {
    if let Err(error) = enter(lab, place, as_agent) {
        return error;
    }
    let Some((program, arguments)) = command.split_first() else {
        return EnterError::Exec { program: PathBuf::new(), cause: io::Error::other("no command given") };
    };
    let cause = Command::new(program).args(arguments).exec();
    EnterError::Exec { program: program.into(), cause }
}
