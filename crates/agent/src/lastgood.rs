//! Manifests as they were when they were last right, kept across restarts.
//!
//! [`Directory`] keeps the last good version of a file that breaks while it watches. A file that
//! broke, or was emptied, while no agent ran would take its policies out of force; here is the copy that keeps them in.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use strait_api::{
    Object, ObjectKey, Objects,
    parse::parse,
    source::{Directory, InForce, Problem},
};

use crate::state::{StateError, file_name, make_private, read, replace};

/// Copies of good files, and those of them that stand in for broken ones.
pub(crate) struct LastGood {
    folder: PathBuf,
    /// Objects of files that are broken and were not since this agent started, by file.
    standing_in: BTreeMap<Arc<str>, Vec<Object>>,
    /// Files that are zero bytes long since before this agent started, and were not when they were copied. To the directory, which
    /// never saw them otherwise, they are files that declare nothing.
    emptied: BTreeSet<Arc<str>>,
}

const COPY: &str = "its copy from when it was last right stays in force";

/// A copy.
#[derive(Serialize, Deserialize)]
struct Copy {
    file: Arc<str>,
    text: String,
}

impl LastGood {
    /// Copies that an earlier agent made, and of which files; those of files that are gone by now are forgotten.
    pub(crate) fn open(run_dir: &Path) -> Result<(Self, BTreeSet<Arc<str>>), StateError> {
        let folder = run_dir.join("last-good");
        // Manifests may hold secrets.
        make_private(&folder)?;
        let failed = |cause| StateError::new("list", &folder, cause);
        let mut copied = BTreeSet::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            match read::<Copy>(&path) {
                Ok(Some(copy)) if fs::exists(&*copy.file).unwrap_or(true) => drop(copied.insert(copy.file)),
                Ok(_) | Err(_) => fs::remove_file(&path).map_err(|cause| StateError::new("remove", &path, cause))?,
            }
        }
        let emptied = copied.iter().filter(|file| is_empty(file)).cloned().collect();
        Ok((Self { folder, standing_in: BTreeMap::new(), emptied }, copied))
    }

    /// Copies these files, where they are right and still as they are in force; forgets copies of those that are gone. A broken file keeps
    /// its copy.
    pub(crate) fn keep(&self, files: &BTreeSet<Arc<str>>, directory: &Directory) -> Result<(), StateError> {
        for file in files {
            let copy = self.copy_of(file);
            match fs::read(&**file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // It may not exist.
                    let _ = fs::remove_file(&copy);
                }
                Ok(text) if !text.is_empty() && directory.is_in_force(file, &text) => {
                    if let Ok(text) = String::from_utf8(text) {
                        replace(&copy, &Copy { file: Arc::clone(file), text })?;
                    }
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Has copies stand in for the files that contribute nothing because they are broken. True where that changed.
    pub(crate) fn settle<'a>(&mut self, problems: impl Iterator<Item = &'a Problem>) -> bool {
        // One that has content again, or is gone, is for the directory to tell of.
        self.emptied.retain(|file| is_empty(file));
        let broken: BTreeSet<&Arc<str>> = problems
            .filter_map(|problem| match problem {
                Problem::Wrong { error, in_force: InForce::Nothing } => Some(&error.location.file),
                Problem::Unreadable { file, in_force: InForce::Nothing, .. } => Some(file),
                Problem::Wrong { in_force: InForce::LastGood, .. }
                | Problem::Unreadable { in_force: InForce::LastGood, .. }
                | Problem::Emptied { .. }
                | Problem::Conflict { .. }
                | Problem::RootMissing { .. }
                | Problem::TooMany { .. }
                | Problem::NotWatched { .. }
                | Problem::Note(_) => None,
            })
            .chain(&self.emptied)
            .collect();
        let before: Vec<Arc<str>> = self.standing_in.keys().cloned().collect();
        self.standing_in.retain(|file, _| broken.contains(file));
        for file in broken {
            if !self.standing_in.contains_key(file)
                && let Some(objects) = self.objects_of(file).filter(|objects| !objects.is_empty())
            {
                self.standing_in.insert(Arc::clone(file), objects);
            }
        }
        !before.iter().eq(self.standing_in.keys())
    }

    /// The problem as it is with the copies: the folder source knows nothing of them, and says that nothing is in force.
    pub(crate) fn tell(&self, problem: &Problem) -> String {
        if let Problem::Wrong { error, in_force: InForce::Nothing } = problem
            && self.stands_in(&error.location.file)
        {
            return format!("{error} (broken since before this agent started; {COPY})");
        }
        if let Problem::Unreadable { file, cause, in_force: InForce::Nothing } = problem
            && self.stands_in(file)
        {
            return format!("{file}: cannot be read: {cause}; broken since before this agent started; {COPY}");
        }
        problem.to_string()
    }

    /// What the directory does not know of: files that were emptied while no agent ran.
    pub(crate) fn emptied(&self) -> impl Iterator<Item = String> {
        let files = self.emptied.iter().filter(|file| self.stands_in(file));
        files.map(|file| {
            format!("{file}: empty since before this agent started; {COPY}; delete the file to take its objects out of force")
        })
    }

    fn stands_in(&self, file: &Arc<str>) -> bool {
        self.standing_in.contains_key(file)
    }

    /// `objects` with those of broken files as they were; an object that is there now goes before an older one.
    pub(crate) fn complete<'o>(&self, objects: &'o Objects) -> Cow<'o, Objects> {
        if self.standing_in.is_empty() {
            return Cow::Borrowed(objects);
        }
        let mut all = objects.clone();
        for object in self.standing_in.values().flatten() {
            // What stands in its way is newer and stays.
            let _ = all.insert(object.clone());
        }
        Cow::Owned(all)
    }

    /// What copies hold that stand in for broken files.
    pub(crate) fn keys(&self) -> BTreeSet<ObjectKey> {
        self.standing_in.values().flatten().map(Object::key).collect()
    }

    fn objects_of(&self, file: &Arc<str>) -> Option<Vec<Object>> {
        let copy: Copy = read(&self.copy_of(file)).ok()??;
        let parsed = parse(file, copy.text.as_bytes());
        (copy.file == *file && parsed.errors.is_empty()).then_some(parsed.objects)
    }

    /// The name of a file is a path.
    fn copy_of(&self, file: &str) -> PathBuf {
        self.folder.join(format!("{}.json", file_name(file)))
    }
}

fn is_empty(file: &str) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0)
}
