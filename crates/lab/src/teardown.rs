//! Taking a lab away, whatever state it is in. Nothing is asked of its processes: what is written on disk, and what is
//! in its cgroup, is enough.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use strait_datapath::netns;

use crate::{
    cgroup::Cgroup,
    error::Error,
    names::{LabName, Paths},
    process::Process,
};

/// Where agents pin.
pub(crate) const PINS: &str = "/sys/fs/bpf/strait";

/// Ends the lab called `name`: its processes, pins, namespaces, links, cgroups and files. Says whether there was
/// anything of it. What a half-made or half-ended lab left is taken away too.
pub fn down(name: &LabName) -> Result<bool, Error> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let paths = Paths::of(name);
    let cgroup = Cgroup::of_lab(name)?;
    if !paths.root().exists() && !cgroup.path().exists() {
        return Ok(false);
    }
    if cgroup.holds_this_process() {
        return Err(Error::Inside(name.clone()));
    }
    let supervisor = paths.supervisor_pid();
    // It would start again what is killed before it.
    if let Some(process) = Process::read(&supervisor).map_err(Error::io("reading", &supervisor))?
        && process.runs()
        && let Ok(pid) = i32::try_from(process.pid)
    {
        // It may have ended in between, which is as good.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    cgroup.end()?;
    take_away(&paths)?;
    // The folder of all labs' cgroups stays while another lab is in it.
    if let Some(all) = cgroup.path().parent() {
        let _ = fs::remove_dir(all);
    }
    Ok(true)
}

/// Everything but processes and cgroups.
pub(crate) fn take_away(paths: &Paths) -> Result<(), Error> {
    for instance in instances(paths)? {
        remove(&Path::new(PINS).join(instance))?;
    }
    for namespace in netns::list(&paths.namespaces())? {
        netns::delete(&paths.namespaces(), &namespace)?;
    }
    remove(paths.root())?;
    for folder in [Path::new(PINS), Paths::all_labs()] {
        // Stays while something of another lab is in it.
        let _ = fs::remove_dir(folder);
    }
    Ok(())
}

/// The instances of the lab's agents: as many as it has run directories for them, which are made before an agent
/// starts.
fn instances(paths: &Paths) -> Result<Vec<String>, Error> {
    let folder = paths.agents();
    match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("listing", folder)(error)),
        Ok(entries) => {
            Ok(entries.flatten().map(|entry| paths.instance(&entry.file_name().to_string_lossy())).collect())
        }
    }
}

/// The pins of the agent on `node`.
pub(crate) fn pins(paths: &Paths, node: &str) -> PathBuf {
    Path::new(PINS).join(paths.instance(node))
}

pub(crate) fn remove(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("removing", folder)(error)),
        _ => Ok(()),
    }
}
