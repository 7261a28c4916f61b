//! Network namespaces: named by a bind mount, entered by a thread of their own.
//!
//! Entering changes the network namespace and nothing else. `ip netns exec` also makes a mount namespace and remounts `/sys`,
//! which hides cgroups and bpffs; nothing here does.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::Path,
    thread,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, statfs},
};

const OF_THIS_THREAD: &str = "/proc/thread-self/ns/net";

/// A network namespace, held open. It lives at least as long as this value.
#[derive(Debug)]
pub struct Netns {
    file: File,
    label: String,
}

/// What could not be done to which namespace, and why.
#[derive(Debug, thiserror::Error)]
#[error("network namespace {label}: cannot {operation}: {source}{}", advice(source))]
pub struct Error {
    /// Path or description of the namespace.
    pub label: String,
    /// What was attempted.
    pub operation: &'static str,
    /// What the kernel said.
    pub source: io::Error,
}

const ADVICE: &[(io::ErrorKind, &str)] = &[
    (io::ErrorKind::PermissionDenied, " (needs CAP_SYS_ADMIN: run as root)"),
    (io::ErrorKind::AlreadyExists, " (delete it first, or choose another name)"),
    (io::ErrorKind::NotFound, " (it was never made, or is gone)"),
];

fn advice(error: &io::Error) -> &'static str {
    ADVICE.iter().find(|(kind, _)| *kind == error.kind()).map_or("", |(_, advice)| advice)
}

impl Netns {
    /// Makes a namespace and binds it to `dir/name`, making `dir` where needed. A left-over file that no namespace is bound to
    /// is taken over; a namespace of that name is an error.
    pub fn create(dir: &Path, name: &str) -> Result<Self, Error> {
        let path = dir.join(name);
        let label = path.display().to_string();
        let fail = |operation, source| Error { label: label.clone(), operation, source };
        fs::create_dir_all(dir).map_err(|e| fail("make its directory", e))?;
        if is_bound(&path) {
            return Err(fail("create it", io::ErrorKind::AlreadyExists.into()));
        }
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o444)
            .open(&path)
            .map_err(|e| fail("create its file", e))?;
        let bound = on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|e| fail("unshare it", e.into()))?;
            mount(Some(OF_THIS_THREAD), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .map_err(|e| fail("bind it to its file", e.into()))
        });
        if let Err(error) = bound {
            // The file alone names nothing; if it cannot be removed the next `create` takes it over.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Self::open(&path)
    }

    /// A namespace without a name: it ends with the last process or descriptor that holds it.
    pub fn anonymous(label: &str) -> Result<Self, Error> {
        on_thread(|| {
            let fail = |operation, source| Error { label: label.to_owned(), operation, source };
            unshare(CloneFlags::CLONE_NEWNET).map_err(|e| fail("unshare it", e.into()))?;
            let file = File::open(OF_THIS_THREAD).map_err(|e| fail("open it", e))?;
            Ok(Self { file, label: label.to_owned() })
        })
    }

    /// Opens the namespace bound to `path`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let label = path.display().to_string();
        let file = File::open(path).map_err(|source| Error { label: label.clone(), operation: "open it", source })?;
        Ok(Self { file, label })
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Self, Error> {
        let label = "of this thread".to_owned();
        match File::open(OF_THIS_THREAD) {
            Ok(file) => Ok(Self { file, label }),
            Err(source) => Err(Error { label, operation: "open it", source }),
        }
    }

    /// Runs `work` inside the namespace, on a thread of its own, and waits for it. Sockets and processes that it makes belong to
    /// the namespace for good. A process made with a parent-death signal dies with that thread, so do not ask for one.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        on_thread(|| {
            self.enter()?;
            Ok(work())
        })
    }

    /// Moves the calling thread into the namespace, for the rest of its life.
    pub fn enter(&self) -> Result<(), Error> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|source| Error {
            label: self.label.clone(),
            operation: "enter it",
            source: source.into(),
        })
    }

    /// What names it in errors: its path, or the text given.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The inode number, the same for every handle of one namespace.
    pub fn inode(&self) -> Result<u64, Error> {
        self.file.metadata().map(|metadata| metadata.ino()).map_err(|source| Error {
            label: self.label.clone(),
            operation: "read its inode",
            source,
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Unbinds and removes `dir/name`. Nothing there is success. The kernel tears the namespace and its links down once no process
/// and no descriptor holds it.
pub fn delete(dir: &Path, name: &str) -> Result<(), Error> {
    let path = dir.join(name);
    let fail = |operation, source| Error { label: path.display().to_string(), operation, source };
    while is_bound(&path) {
        umount2(&path, MntFlags::MNT_DETACH).map_err(|e| fail("unmount it", e.into()))?;
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fail("remove its file", error)),
        _ => Ok(()),
    }
}

/// Names of the namespaces bound in `dir`, and left-over files that nothing is bound to; in order. A missing directory has none.
pub fn list(dir: &Path) -> Result<Vec<String>, Error> {
    let fail = |source| Error { label: dir.display().to_string(), operation: "list its directory", source };
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(fail)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(fail)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Every namespace bound in `dir`, opened, with its name.
pub fn open_all(dir: &Path) -> Result<Vec<(String, Netns)>, Error> {
    let bound = |name: &String| is_bound(&dir.join(name));
    list(dir)?.into_iter().filter(bound).map(|name| Ok((name.clone(), Netns::open(&dir.join(&name))?))).collect()
}

fn is_bound(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == NSFS_MAGIC)
}

fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
