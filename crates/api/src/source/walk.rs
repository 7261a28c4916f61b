//! What manifests a root has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::watch::Watcher;

/// The most manifests, and the most folders, of one root.
pub(super) const MAX_ENTRIES: usize = 10_000;

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The manifests of a root.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) root_missing: bool,
    pub(super) files: BTreeMap<PathBuf, io::Result<Stamp>>,
    /// Folders that are there and cannot be listed: what is below them is unknown.
    pub(super) unreadable: BTreeMap<PathBuf, String>,
    pub(super) too_many: bool,
    /// The folders that were listed.
    folders: BTreeSet<PathBuf>,
    /// Whether there are links, which may lead anywhere.
    links: bool,
}

impl Listing {
    /// Whether it can be brought up to date by looking at single files.
    pub(super) fn is_plain(&self) -> bool {
        !self.links && !self.too_many && !self.root_missing && self.unreadable.is_empty()
    }

    /// Looks at one path again. False where that does not do: all has to be listed.
    pub(super) fn look_at(&mut self, path: &Path) -> bool {
        if !path.parent().is_some_and(|folder| self.folders.contains(folder)) {
            return true;
        }
        // Does not follow links.
        let stamp = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_symlink() || metadata.is_dir() => return false,
            Ok(metadata) => stamp(&metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.files.remove(path);
                return true;
            }
            Err(error) => Err(error),
        };
        self.files.insert(path.to_owned(), stamp);
        self.files.len() <= MAX_ENTRIES
    }
}

fn stamp(metadata: &Metadata) -> io::Result<Stamp> {
    if metadata.is_file() { Ok(Stamp::of(metadata)) } else { Err(io::Error::other("not a regular file")) }
}

/// Lists a root and watches what it lists, each folder before it is listed so that no change falls between.
///
/// Hidden entries and editors' temporary files are left out. Symbolic links are followed, each file and folder is taken once: a Kubernetes ConfigMap
/// mount (`x.yaml → ..data/x.yaml`, `..data → ..2026_11_22/`) lists `x.yaml` alone.
pub(super) fn list(root: &Path, watcher: &mut Watcher, known: &dyn Fn(&Path) -> bool) -> Listing {
    watcher.watch_ancestors(root);
    let mut walk = Walk { listing: Listing::default(), folders: BTreeSet::new(), inodes: BTreeSet::new(), known };
    match fs::metadata(root) {
        Ok(metadata) if metadata.is_dir() => walk.tree(root, &metadata, watcher),
        Ok(metadata) => {
            watcher.watch_file(root);
            walk.file(root.to_owned(), Ok(&metadata));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => walk.listing.root_missing = true,
        Err(error) => {
            walk.listing.unreadable.insert(root.to_owned(), error.to_string());
        }
    }
    walk.listing
}

/// Whether a file of this name is a manifest.
pub(super) fn is_manifest(name: &std::ffi::OsStr) -> bool {
    let name = Path::new(name);
    let extension = name.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json")) && !is_hidden(name.as_os_str())
}

/// Hidden, or an editor's (`.x.yaml.swp`, `#x.yaml#`).
pub(super) fn is_hidden(name: &std::ffi::OsStr) -> bool {
    matches!(name.as_encoded_bytes().first(), Some(b'.' | b'#'))
}

struct Walk<'a> {
    listing: Listing,
    folders: BTreeSet<(u64, u64)>,
    inodes: BTreeSet<(u64, u64)>,
    known: &'a dyn Fn(&Path) -> bool,
}

impl Walk<'_> {
    /// Real files and folders first, so that a link to one of them finds it taken.
    fn tree(&mut self, root: &Path, metadata: &Metadata, watcher: &mut Watcher) {
        let mut folders = vec![root.to_owned()];
        let mut links = Vec::new();
        self.folders.insert((metadata.dev(), metadata.ino()));
        loop {
            while let Some(folder) = folders.pop() {
                self.folder(&folder, watcher, &mut folders, &mut links);
            }
            links.sort_unstable_by(|a: &PathBuf, b| b.cmp(a));
            let Some(link) = links.pop() else { break };
            let manifest = link.file_name().is_some_and(is_manifest);
            match fs::metadata(&link) {
                Ok(metadata) if metadata.is_dir() => {
                    if self.enter(&metadata) {
                        folders.push(link);
                    }
                }
                Ok(metadata) if manifest => {
                    if !self.inodes.contains(&(metadata.dev(), metadata.ino())) {
                        watcher.watch_file(&link);
                        self.file(link, Ok(&metadata));
                    }
                }
                Err(error) if manifest => self.file(link, Err(error)),
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn enter(&mut self, metadata: &Metadata) -> bool {
        if self.folders.len() == MAX_ENTRIES {
            self.listing.too_many = true;
            return false;
        }
        self.folders.insert((metadata.dev(), metadata.ino()))
    }

    fn folder(&mut self, folder: &Path, watcher: &mut Watcher, folders: &mut Vec<PathBuf>, links: &mut Vec<PathBuf>) {
        watcher.watch_folder(folder);
        self.listing.folders.insert(folder.to_owned());
        let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<fs::DirEntry>>>);
        let entries = match entries {
            Ok(entries) => entries,
            // Gone since it was listed: its files are missing, not unreadable.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                self.listing.unreadable.insert(folder.to_owned(), error.to_string());
                return;
            }
        };
        for entry in entries {
            let (name, path) = (entry.file_name(), entry.path());
            if is_hidden(&name) {
                continue;
            }
            // Does not follow links.
            match entry.metadata() {
                Ok(metadata) if metadata.is_symlink() => {
                    self.listing.links = true;
                    links.push(path);
                }
                Ok(metadata) if metadata.is_dir() => {
                    if self.enter(&metadata) {
                        folders.push(path);
                    }
                }
                Ok(metadata) if is_manifest(&name) => self.file(path, Ok(&metadata)),
                Err(error) if is_manifest(&name) && error.kind() != io::ErrorKind::NotFound => {
                    self.file(path, Err(error));
                }
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn file(&mut self, path: PathBuf, metadata: io::Result<&Metadata>) {
        if self.listing.files.len() >= MAX_ENTRIES {
            self.listing.too_many = true;
            // What is in force already is not pushed out by what is new, in whatever order the folder lists them.
            if !(self.known)(&path) {
                return;
            }
        }
        let stamp = metadata.and_then(|metadata| {
            self.inodes.insert((metadata.dev(), metadata.ino()));
            self::stamp(metadata)
        });
        self.listing.files.insert(path, stamp);
    }
}
