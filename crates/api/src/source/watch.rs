//! What changes in watched folders, as one file descriptor that is readable when there is something to look at.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    event::epoll,
    fs::inotify::{self, ReadFlags, WatchFlags},
    io::Errno,
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec},
};

use super::walk::{is_hidden, is_manifest};

/// An inotify instance and a timer behind one epoll descriptor.
pub(super) struct Watcher {
    epoll: OwnedFd,
    inotify: OwnedFd,
    timer: OwnedFd,
    watched: BTreeMap<i32, Watched>,
    /// What the current scan watches; takes the place of `watched` at its end.
    next: BTreeMap<i32, Watched>,
    /// What could not be watched.
    pub(super) failures: BTreeMap<PathBuf, String>,
    /// Manifests that a process has written to and not closed since.
    pub(super) writing: BTreeSet<PathBuf>,
}

/// Why an inode is watched. One may be watched for several reasons.
#[derive(Default)]
struct Watched {
    /// It is a folder of manifests, under these paths.
    folders: BTreeSet<PathBuf>,
    /// It is a folder on the way to a root: these entries are.
    names: BTreeSet<OsString>,
    /// It is what these links lead to.
    files: BTreeSet<PathBuf>,
}

/// What has happened since the last look.
#[derive(Default, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each happened or not, by itself")]
pub(super) struct Signals {
    /// Manifests that may have changed even where their stamp has not.
    pub(super) touched: BTreeSet<PathBuf>,
    /// Something is to be looked at.
    pub(super) rescan: bool,
    /// More than the manifests that were touched: a folder, a link, a step on the way to a root.
    pub(super) elsewhere: bool,
    /// Events were lost: everything may have changed.
    pub(super) overflow: bool,
    /// The timer has fired.
    pub(super) timer: bool,
}

const ENTRIES: WatchFlags =
    WatchFlags::CREATE.union(WatchFlags::DELETE).union(WatchFlags::MOVED_FROM).union(WatchFlags::MOVED_TO);
const ITSELF: WatchFlags = WatchFlags::DELETE_SELF.union(WatchFlags::MOVE_SELF).union(WatchFlags::MASK_ADD);
const CONTENT: WatchFlags = WatchFlags::MODIFY.union(WatchFlags::CLOSE_WRITE).union(WatchFlags::ATTRIB);

/// A timer that is not set.
const NEVER: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

impl Watcher {
    pub(super) fn new() -> io::Result<Self> {
        let inotify = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let timer =
            rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &inotify, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(1), epoll::EventFlags::IN)?;
        Ok(Self {
            epoll,
            inotify,
            timer,
            watched: BTreeMap::new(),
            next: BTreeMap::new(),
            failures: BTreeMap::new(),
            writing: BTreeSet::new(),
        })
    }

    /// Makes the descriptor readable after `delay`, unless it is set to become so already.
    pub(super) fn wake_after(&self, delay: Duration) -> io::Result<()> {
        if self.is_waking() {
            return Ok(());
        }
        let it_value = Timespec::try_from(delay).unwrap_or(NEVER);
        let once = Itimerspec { it_interval: NEVER, it_value };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).map(drop).map_err(Into::into)
    }

    /// Whether the descriptor is set to become readable after a delay that is not over.
    pub(super) fn is_waking(&self) -> bool {
        rustix::time::timerfd_gettime(&self.timer).is_ok_and(|timer| timer.it_value != NEVER)
    }

    /// Starts a scan: what is not watched again until [`Self::end_scan`] is not watched any more.
    pub(super) fn begin_scan(&mut self) {
        self.next.clear();
        self.failures.clear();
    }

    pub(super) fn end_scan(&mut self) {
        let before = std::mem::replace(&mut self.watched, std::mem::take(&mut self.next));
        for wd in before.keys().filter(|wd| !self.watched.contains_key(wd)) {
            // The kernel has dropped the watch itself where the inode is gone.
            let _ = inotify::remove_watch(&self.inotify, *wd);
        }
    }

    pub(super) fn watch_folder(&mut self, path: &Path) {
        if let Some(watched) = self.add(path, ENTRIES | ITSELF | CONTENT | WatchFlags::ONLYDIR) {
            watched.folders.insert(path.to_owned());
        }
    }

    /// Watches what a link leads to (or a root that is a file).
    pub(super) fn watch_file(&mut self, path: &Path) {
        if let Some(watched) = self.add(path, ITSELF | CONTENT) {
            watched.files.insert(path.to_owned());
        }
    }

    /// Watches each folder on the way to `root` for the next step of the way to be replaced.
    pub(super) fn watch_ancestors(&mut self, root: &Path) {
        let absolute = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        for step in absolute.ancestors() {
            if let (Some(parent), Some(name)) = (step.parent(), step.file_name())
                && let Some(watched) = self.add(parent, ENTRIES | ITSELF | WatchFlags::ONLYDIR)
            {
                watched.names.insert(name.to_owned());
            }
        }
    }

    fn add(&mut self, path: &Path, flags: WatchFlags) -> Option<&mut Watched> {
        match inotify::add_watch(&self.inotify, path, flags) {
            Ok(wd) => Some(self.next.entry(wd).or_default()),
            // Gone, or not ours to look into: the walk says so where it matters.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP) => None,
            Err(error) => {
                self.failures.insert(path.to_owned(), error.to_string());
                None
            }
        }
    }

    /// Takes all that has happened since the last call.
    pub(super) fn drain(&mut self) -> Signals {
        let mut signals = Signals::default();
        let mut expirations = [0; 8];
        signals.timer = rustix::io::read(&self.timer, &mut expirations).is_ok();
        let mut buffer = [const { MaybeUninit::uninit() }; 16 << 10];
        let mut reader = inotify::Reader::new(self.inotify.as_fd(), &mut buffer);
        // Ends at EAGAIN; any other error would come again and is no reason not to look.
        while let Ok(event) = reader.next() {
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                (signals.overflow, signals.rescan, signals.elsewhere) = (true, true, true);
                self.writing.clear();
                continue;
            }
            let Some(watched) = self.watched.get(&event.wd()) else { continue };
            let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
            let mut look = flags.bits() & ENTRIES.bits() != 0
                && name.is_some_and(|name| !watched.folders.is_empty() || watched.names.contains(name));
            look |= flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF)
                || flags.contains(ReadFlags::ATTRIB) && name.is_none();
            signals.rescan |= look;
            match name.filter(|name| !watched.names.contains(*name) && !flags.contains(ReadFlags::ISDIR)) {
                // What is hidden matters to links alone, and where there are any all is listed.
                Some(name) if is_manifest(name) || is_hidden(name) => {}
                // What is not named is a root or what a link leads to, and may be a manifest.
                Some(_) => signals.elsewhere |= look,
                None => signals.elsewhere = true,
            }
            let manifests: Vec<PathBuf> = match name {
                Some(name) if is_manifest(name) => watched.folders.iter().map(|folder| folder.join(name)).collect(),
                Some(_) => Vec::new(),
                None => watched.files.iter().cloned().collect(),
            };
            for path in manifests {
                manifest_event(&mut self.writing, &mut signals, path, flags);
            }
        }
        signals
    }
}

/// What an event means for a manifest. One that is being written is not looked at until its writer closes it.
fn manifest_event(writing: &mut BTreeSet<PathBuf>, signals: &mut Signals, path: PathBuf, flags: ReadFlags) {
    if flags.contains(ReadFlags::MODIFY) {
        writing.insert(path);
        return;
    }
    // ATTRIB (permissions, a name more or less) says nothing about whether the writer is done.
    if !flags.contains(ReadFlags::ATTRIB) {
        writing.remove(&path);
    }
    signals.rescan = true;
    signals.touched.insert(path);
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
