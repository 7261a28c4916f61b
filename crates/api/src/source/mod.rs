//! Manifests in folders, kept up to date.
//!
//! ```text
//! inotify ─▶ drain ─▶ list (stat) ─▶ read what changed ─▶ nothing changed meanwhile? ─▶ parse ─▶ choose ─▶ Objects
//!               ▲                                            │ it did
//!               └────────────────────────────────────────────┘
//! ```
//!
//! Where nothing but manifests was touched, in folders that are known, only these are looked at: a change costs what it touches. Links, folders
//! and lost events have everything listed again.
//!
//! What is in force never shrinks by accident:
//! - A file takes effect as a whole. One that is wrong, unreadable or emptied to zero bytes keeps its last good version in force and is reported until fixed.
//!   A file that is wrong when it is first seen contributes nothing: what it was meant to hold is not known. It is reported as an error.
//! - A file that a process has written to is not looked at before that process closes it.
//! - A file that has gone stays in force for [`GRACE`] (editors delete and create; `git` replaces): under the same or another name, an object
//!   that is back within it has never been out of force. Then its objects are removed.
//! - A root that has gone keeps what it last held.
//!
//! Change notification needs a local filesystem: inotify sees no change that another machine makes to a network filesystem.

mod detail;
mod file;
mod intern;
mod merge;
mod problem;
mod walk;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use self::{
    detail::Detail,
    problem::{InForce, Problem},
};
use self::{
    file::{Absent, Reading, SourceFile},
    intern::Interner,
    merge::Holders,
    walk::Listing,
    watch::{Signals, Watcher},
};
use crate::objects::{ObjectKey, Objects};

/// How long the objects of a file that has gone stay in force.
pub const GRACE: Duration = Duration::from_millis(50);

/// How often a refresh looks again at files that change while it looks.
const ROUNDS: usize = 8;

/// The directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No roots were given.
    #[error("no files or folders of manifests were named; name at least one (-f DIR)")]
    NoRoots,
    /// A root is not there.
    #[error("{}: {cause}; name a manifest file or a folder of them", path.display())]
    Root {
        /// The root as the user named it.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The system gives no inotify, timer or epoll descriptor.
    #[error("cannot watch for changes: {0}; raise fs.inotify.max_user_instances or the limit on open files")]
    Watch(#[from] io::Error),
}

/// What a refresh has found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Change {
    /// The objects are others than before.
    pub changed: bool,
    /// The number of the state that the objects are in; it counts up with each change.
    pub generation: u64,
    /// What objects are others than before, new or gone.
    pub objects: Vec<ObjectKey>,
    /// Files that are new, different or gone.
    pub files: Vec<Arc<str>>,
    /// Problems that were not there before.
    pub new_problems: Vec<Problem>,
    /// How many problems are there no more.
    pub solved: usize,
    /// How many files were looked at, and how many of them were read.
    pub looked_at: (usize, usize),
    /// There is more to come without anything else changing (a file has gone and its grace runs): the descriptor becomes readable again.
    pub pending: bool,
}

/// A set of roots, each a manifest file or a folder of them (recursive; `*.yaml`, `*.yml`, `*.json`).
///
/// An object of a later root takes the place of one with the same key in an earlier root. Within a root the same key twice is a [`Problem::Conflict`].
/// The directory as a descriptor (`AsFd`, `AsRawFd`) is readable when [`Directory::refresh`] has something to do.
pub struct Directory {
    roots: Vec<Root>,
    watcher: Watcher,
    interner: Interner,
    objects: Objects,
    problems: Vec<Problem>,
    generation: u64,
}

/// What a look at the roots has found to be different.
#[derive(Default)]
struct Touched {
    files: BTreeSet<Arc<str>>,
    /// Objects that may be others now.
    objects: Vec<ObjectKey>,
    /// How many files were looked at, and how many read.
    looked_at: usize,
    read: usize,
}

/// Whether the timer fired, and whether another one is set.
#[derive(Clone, Copy)]
struct Timers {
    fired: bool,
    running: bool,
}

struct Root {
    path: PathBuf,
    files: BTreeMap<PathBuf, SourceFile>,
    holders: Holders,
    listing: Listing,
    /// Files that have gone, and those that have something to say.
    gone: BTreeSet<PathBuf>,
    telling: BTreeSet<PathBuf>,
}

impl Directory {
    /// Reads all roots once and watches them. That files are wrong is no error here: see [`Directory::problems`].
    pub fn open<P: AsRef<Path>>(roots: &[P]) -> Result<Self, SourceError> {
        Self::open_with(roots, Detail::Whole)
    }

    /// As [`open`](Self::open), keeping no more of objects than `detail` says.
    pub fn open_with<P: AsRef<Path>>(roots: &[P], detail: Detail) -> Result<Self, SourceError> {
        if roots.is_empty() {
            return Err(SourceError::NoRoots);
        }
        let roots = roots.iter().map(|path| {
            let path = path.as_ref().to_owned();
            match std::fs::metadata(&path) {
                Ok(_) => Ok(Root::new(path)),
                Err(cause) => Err(SourceError::Root { path, cause }),
            }
        });
        let roots = roots.collect::<Result<_, _>>()?;
        let (objects, problems) = (Objects::default(), Vec::new());
        let interner = Interner::new(detail);
        let mut directory = Self { roots, watcher: Watcher::new()?, interner, objects, problems, generation: 0 };
        directory.look(Signals { rescan: true, elsewhere: true, ..Signals::default() });
        Ok(directory)
    }

    /// Takes in what has changed since the last call. Returns at once where nothing has.
    pub fn refresh(&mut self) -> Change {
        let signals = self.watcher.drain();
        if signals.rescan || signals.timer {
            return self.look(signals);
        }
        Change { generation: self.generation, pending: self.is_pending(), ..Change::default() }
    }

    /// What is in force: the last good version of every file.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// What is wrong or worth knowing, errors first.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }

    /// Whether these bytes are what is in force of a file.
    pub fn is_in_force(&self, file: &str, bytes: &[u8]) -> bool {
        let files = self.roots.iter().flat_map(|root| root.files.values());
        files.filter(|known| *known.name == *file).any(|known| known.is_in_force(bytes))
    }

    /// The number of the state that the objects are in; it counts up with each change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// A second descriptor for the same events, for a reactor that owns what it polls while the directory is used.
    pub fn watcher(&self) -> io::Result<OwnedFd> {
        self.watcher.as_fd().try_clone_to_owned()
    }

    /// Waits until [`Directory::refresh`] has something to do; false where `timeout` came first.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let timeout = rustix::time::Timespec::try_from(timeout).map_err(io::Error::other)?;
        let mut fds = [rustix::event::PollFd::new(&self.watcher, rustix::event::PollFlags::IN)];
        loop {
            match rustix::event::poll(&mut fds, Some(&timeout)) {
                Err(rustix::io::Errno::INTR) => {}
                ready => return Ok(ready? > 0),
            }
        }
    }

    fn is_pending(&self) -> bool {
        self.roots.iter().any(|root| !root.gone.is_empty())
    }

    /// Lists and reads until nothing changes meanwhile, then puts in force what was read.
    fn look(&mut self, first: Signals) -> Change {
        let mut timer = first.timer;
        let mut signals = first;
        let mut readings: Vec<BTreeMap<PathBuf, Reading>> = self.roots.iter().map(|_| BTreeMap::new()).collect();
        // What was looked at; none once all was listed.
        let mut only = Some(BTreeSet::new());
        for round in 0..ROUNDS {
            if !self.look_at(&signals, &mut readings, &mut only) {
                only = None;
                self.watcher.begin_scan();
                for (root, readings) in self.roots.iter_mut().zip(&mut readings) {
                    root.scan(&mut self.watcher, &signals, readings);
                }
                self.watcher.end_scan();
            }
            signals = self.watcher.drain();
            timer |= signals.timer;
            let listed = |path: &PathBuf| self.roots.iter().any(|root| root.listing.files.contains_key(path));
            self.watcher.writing.retain(listed);
            for readings in &mut readings {
                // Written to while it was read: what was read may be half of it.
                readings.retain(|path, _| !self.watcher.writing.contains(path));
            }
            if !signals.rescan {
                break;
            }
            if round + 1 == ROUNDS {
                // A folder that does not come to rest. What is known is put in force; the files that were named just now are read next time.
                for path in &signals.touched {
                    self.roots
                        .iter_mut()
                        .filter_map(|root| root.files.get_mut(path))
                        .for_each(|file| file.stamp = None);
                }
                self.wake(Duration::from_millis(1));
            }
        }
        let looked_at = match &only {
            Some(only) => only.len(),
            None => self.roots.iter().map(|root| root.listing.files.len()).sum(),
        };
        let read = readings.iter().map(BTreeMap::len).sum();
        let mut touched = Touched { looked_at, read, ..Touched::default() };
        let timers = Timers { fired: timer, running: self.watcher.is_waking() };
        for (root, readings) in self.roots.iter_mut().zip(readings) {
            root.take(readings, only.as_ref(), timers, &mut self.interner, &mut touched);
        }
        if self.is_pending() {
            self.wake(GRACE);
        }
        self.publish(touched)
    }

    /// Looks at the manifests that were touched, where that does: false where all has to be listed.
    fn look_at(
        &mut self,
        signals: &Signals,
        readings: &mut [BTreeMap<PathBuf, Reading>],
        only: &mut Option<BTreeSet<PathBuf>>,
    ) -> bool {
        let does = !signals.elsewhere && !signals.timer && self.roots.iter().all(|root| root.listing.is_plain());
        let Some(only) = only.as_mut().filter(|_| does) else { return false };
        for (root, readings) in self.roots.iter_mut().zip(readings) {
            if !signals.touched.iter().all(|path| root.listing.look_at(path)) {
                return false;
            }
            root.read(signals.touched.iter(), &self.watcher, signals, readings);
        }
        only.extend(signals.touched.iter().cloned());
        true
    }

    fn wake(&mut self, delay: Duration) {
        if let Err(error) = self.watcher.wake_after(delay) {
            self.watcher.failures.insert("timer".into(), error.to_string());
        }
    }

    fn publish(&mut self, Touched { files, objects: mut keys, looked_at, read }: Touched) -> Change {
        let mut problems = Vec::new();
        for root in &mut self.roots {
            root.problems(&mut problems);
            root.holders.conflicts(&root.files, &root.telling, &mut problems);
        }
        keys.sort_unstable();
        keys.dedup();
        // Of several roots the last one that has it.
        let wanted = |key: &ObjectKey| self.roots.iter().rev().find_map(|root| root.holders.object(&root.files, key));
        keys.retain(|key| wanted(key) != self.objects.get(key));
        let objects = keys;
        if self.objects.is_empty() {
            self.objects = objects.iter().filter_map(wanted).cloned().collect();
        } else {
            for key in &objects {
                match wanted(key) {
                    Some(object) => self.objects.replace(object.clone()),
                    None => drop(self.objects.remove(key)),
                }
            }
        }
        for (path, cause) in &self.watcher.failures {
            problems.push(Problem::NotWatched { path: path.clone(), cause: cause.clone() });
        }
        // Stable: within errors and within notes, the order of roots, files and lines stays.
        problems.sort_by_key(|problem| !problem.is_error());
        let changed = !objects.is_empty();
        if changed {
            self.generation += 1;
        }
        let (before, after) = (BTreeSet::from_iter(&self.problems), BTreeSet::from_iter(&problems));
        let new_problems = after.difference(&before).copied().cloned().collect();
        let solved = before.difference(&after).count();
        self.problems = problems;
        let (generation, pending) = (self.generation, self.is_pending());
        let (files, looked_at) = (files.into_iter().collect(), (looked_at, read));
        Change { changed, generation, objects, files, new_problems, solved, looked_at, pending }
    }
}

impl Root {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            files: BTreeMap::new(),
            holders: Holders::default(),
            listing: Listing::default(),
            gone: BTreeSet::new(),
            telling: BTreeSet::new(),
        }
    }

    /// Lists the root and reads the files that are not known as they are on disk.
    fn scan(&mut self, watcher: &mut Watcher, signals: &Signals, readings: &mut BTreeMap<PathBuf, Reading>) {
        let files = &self.files;
        self.listing = walk::list(&self.path, watcher, &|path| files.contains_key(path));
        self.read(self.listing.files.keys(), watcher, signals, readings);
    }

    /// Reads those of some files that are not known as they are on disk.
    fn read<'p>(
        &self,
        paths: impl Iterator<Item = &'p PathBuf>,
        watcher: &Watcher,
        signals: &Signals,
        readings: &mut BTreeMap<PathBuf, Reading>,
    ) {
        for path in paths.filter(|path| !watcher.writing.contains(*path)) {
            let stamp = match self.listing.files.get(path) {
                None => continue,
                Some(Ok(stamp)) => stamp,
                Some(Err(error)) => {
                    readings.insert(path.clone(), Reading::Unreadable(error.to_string()));
                    continue;
                }
            };
            let known = match readings.get(path) {
                Some(Reading::Content { stamp, .. }) => Some(*stamp),
                Some(Reading::Unreadable(_)) => None,
                None => self.files.get(path).and_then(|file| file.stamp),
            };
            if signals.overflow || signals.touched.contains(path) || known != Some(*stamp) {
                readings.insert(path.clone(), file::read(path));
            }
        }
        readings.retain(|path, _| self.listing.files.contains_key(path));
    }

    /// Takes in what was read, and notices what has gone, of all files or of `only` some; forgets what was gone when the timer that has fired was set.
    fn take(
        &mut self,
        readings: BTreeMap<PathBuf, Reading>,
        only: Option<&BTreeSet<PathBuf>>,
        timers: Timers,
        interner: &mut Interner,
        touched: &mut Touched,
    ) {
        // Objects of this root to be chosen anew, and the files that are why. In one piece: at the start these are all objects, and a map
        // of them would leave its holes between those that stay.
        let mut keys: Vec<(ObjectKey, Option<u32>)> = Vec::new();
        for (path, reading) in readings {
            let holders = &mut self.holders;
            let file =
                self.files.entry(path.clone()).or_insert_with_key(|path| SourceFile::new(path, holders.number(path)));
            let mut changed = BTreeSet::new();
            if file.take(reading, interner, &mut changed) {
                touched.files.insert(Arc::clone(&file.name));
            }
            keys.extend(changed.into_iter().map(|key| (key, Some(file.number))));
            if file.is_telling() {
                self.telling.insert(path);
            } else {
                self.telling.remove(&path);
            }
        }
        let paths: Vec<PathBuf> = match only {
            Some(only) => only.union(&self.gone).cloned().collect(),
            // Those that are there, and were before, are as they were.
            None => self
                .files
                .keys()
                .filter(|path| !self.listing.files.contains_key(*path))
                .chain(&self.gone)
                .cloned()
                .collect(),
        };
        for path in paths {
            self.settle(&path, timers, touched, &mut keys);
        }
        keys.sort_unstable();
        let groups = keys.chunk_by(|(a, _), (b, _)| a == b);
        let chosen = groups.filter_map(|group| {
            let (key, _) = group.first()?;
            let files: Vec<u32> = group.iter().filter_map(|(_, file)| *file).collect();
            Some((key.clone(), self.holders.choose(&self.files, key, &files)))
        });
        let chosen: Vec<_> = chosen.collect();
        touched.objects.extend(chosen.iter().map(|(key, _)| key.clone()));
        self.holders.take(chosen);
    }

    /// Notices whether a file is there.
    fn settle(
        &mut self,
        path: &PathBuf,
        timers: Timers,
        touched: &mut Touched,
        keys: &mut Vec<(ObjectKey, Option<u32>)>,
    ) {
        let Some(file) = self.files.get_mut(path) else { return };
        let listing = &self.listing;
        let unknown = listing.root_missing || listing.unreadable.keys().any(|folder| path.starts_with(folder));
        let before = file.absent;
        let forgotten = match before {
            _ if unknown || listing.files.contains_key(path) => {
                file.absent = Absent::No;
                false
            }
            Absent::Waiting if timers.fired => true,
            // A timer that runs already fires before the grace of this file is over.
            Absent::No | Absent::Noticed if timers.running => {
                file.absent = Absent::Noticed;
                false
            }
            Absent::No | Absent::Noticed | Absent::Waiting => {
                file.absent = Absent::Waiting;
                false
            }
        };
        if forgotten || (before == Absent::No) != (file.absent == Absent::No) {
            keys.extend(file.keys().map(|key| (key, None)));
        }
        if forgotten {
            touched.files.insert(Arc::clone(&file.name));
            self.holders.forget(file.number);
            self.telling.remove(path);
            self.files.remove(path);
        }
        if self.files.get(path).is_some_and(|file| file.absent != Absent::No) {
            self.gone.insert(path.clone());
        } else {
            self.gone.remove(path);
        }
    }

    fn problems(&self, into: &mut Vec<Problem>) {
        if self.listing.root_missing {
            into.push(Problem::RootMissing { root: self.path.clone() });
        }
        if self.listing.too_many {
            into.push(Problem::TooMany { root: self.path.clone(), limit: walk::MAX_ENTRIES });
        }
        for (folder, cause) in &self.listing.unreadable {
            let (file, cause) = (folder.display().to_string().into(), cause.clone());
            into.push(Problem::Unreadable { file, cause, in_force: InForce::LastGood });
        }
        for file in self.telling.iter().filter_map(|path| self.files.get(path)) {
            file.problems(into);
        }
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watcher.as_fd()
    }
}

impl AsRawFd for Directory {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
