//! What is wrong with, or worth knowing about, the files of a directory.

use std::{fmt, path::PathBuf, sync::Arc};

use strait_base::Location;

use crate::{
    objects::ObjectKey,
    parse::{Note, ParseError, Severity},
};

/// Something wrong or worth knowing. It is there until what it is about has changed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Problem {
    /// A file is wrong. Files take effect as a whole: one wrong document holds up the others of its file.
    Wrong {
        /// What is wrong.
        error: ParseError,
        /// What is in force meanwhile.
        in_force: InForce,
    },
    /// A file that had objects is now zero bytes long, as between the two steps of a careless save.
    Emptied {
        /// The file.
        file: Arc<str>,
    },
    /// A file or folder is there and cannot be read.
    Unreadable {
        /// The file or folder.
        file: Arc<str>,
        /// What the system says.
        cause: String,
        /// What is in force meanwhile.
        in_force: InForce,
    },
    /// Two files of one root have the same object. What was in force first stays.
    Conflict {
        /// The object.
        key: ObjectKey,
        /// Where the one in force is written.
        kept: Location,
        /// Where the other one is.
        refused: Location,
    },
    /// A root is gone. What it last held stays in force.
    RootMissing {
        /// The root as the user named it.
        root: PathBuf,
    },
    /// A root has more files or folders than are read.
    TooMany {
        /// The root as the user named it.
        root: PathBuf,
        /// How many are read.
        limit: usize,
    },
    /// Changes of a file or folder will not be noticed.
    NotWatched {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        cause: String,
    },
    /// Something that is right but worth knowing.
    Note(Note),
}

/// What is in force of a file that cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum InForce {
    /// Its last good version.
    LastGood,
    /// Nothing: it has had no good version since the start. A policy in it is **not enforced**.
    Nothing,
}

impl Problem {
    /// Whether something is wrong, rather than only worth knowing.
    pub fn is_error(&self) -> bool {
        !matches!(self, Self::Note(_))
    }

    /// Whether a person should see it without asking: all but notes of severity Info.
    pub fn is_worth_showing(&self) -> bool {
        !matches!(self, Self::Note(note) if note.severity == Severity::Info)
    }

    /// The place it is about, where it is about one.
    pub fn location(&self) -> Option<&Location> {
        match self {
            Self::Wrong { error, .. } => Some(&error.location),
            Self::Conflict { refused, .. } => Some(refused),
            Self::Note(note) => Some(&note.location),
            Self::Emptied { .. }
            | Self::Unreadable { .. }
            | Self::RootMissing { .. }
            | Self::TooMany { .. }
            | Self::NotWatched { .. } => None,
        }
    }
}

impl fmt::Display for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LastGood => "the last good version of the file stays in force",
            Self::Nothing => "NOTHING of this file is in force",
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong { error, in_force } => write!(f, "{error} ({in_force})"),
            Self::Emptied { file } => write!(
                f,
                "{file}: the file is empty now; {}; delete the file to take its objects out of force",
                InForce::LastGood
            ),
            Self::Unreadable { file, cause, in_force } => write!(f, "{file}: cannot be read: {cause}; {in_force}"),
            Self::Conflict { key, kept, refused } => {
                write!(f, "{refused}: {key} is also at {kept}, which stays in force; remove or rename one of them")
            }
            Self::RootMissing { root } => {
                write!(f, "{}: not there any more; what it last held stays in force until it is back", root.display())
            }
            Self::TooMany { root, limit } => write!(
                f,
                "{}: more than {limit} manifests or folders; the others are not read; name a smaller folder",
                root.display()
            ),
            Self::NotWatched { path, cause } => write!(
                f,
                "{}: changes will not be noticed: {cause}; raise fs.inotify.max_user_watches or max_user_instances",
                path.display()
            ),
            Self::Note(note) => note.fmt(f),
        }
    }
}
