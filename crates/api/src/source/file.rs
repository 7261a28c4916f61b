//! One manifest file: its last good version, and what is wrong with the version on disk.

use std::{
    cmp::Ordering,
    collections::BTreeSet,
    fs::{File, OpenOptions},
    hash::{DefaultHasher, Hasher as _},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
};

use super::{
    intern::Interner,
    problem::{InForce, Problem},
    walk::Stamp,
};
use crate::{
    objects::ObjectKey,
    parse::{MAX_BYTES, Note, ParseError, parse_with},
    types::Object,
};

/// What was found at a path.
pub(super) enum Reading {
    /// Its bytes, and the stamp they were read at.
    Content { stamp: Stamp, bytes: Vec<u8> },
    /// It is there and cannot be read.
    Unreadable(String),
}

/// Reads a file, at most a little more than what is parsed of one. Does not wait for a writer at the other end of a pipe.
pub(super) fn read(path: &Path) -> Reading {
    let attempt = || -> io::Result<Reading> {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file: File = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(Reading::Content { stamp: Stamp::of(&metadata), bytes })
    };
    attempt().unwrap_or_else(|error| Reading::Unreadable(error.to_string()))
}

/// A manifest file.
pub(super) struct SourceFile {
    /// As locations name it.
    pub(super) name: Arc<str>,
    pub(super) number: u32,
    /// The objects of the last good version, in order of their keys.
    objects: Vec<Object>,
    /// What is in it more than once.
    pub(super) twice: BTreeSet<ObjectKey>,
    notes: Vec<Note>,
    fault: Option<Fault>,
    /// Whether there has been a good version.
    ever_good: bool,
    /// The version that was last looked at, good or not.
    pub(super) stamp: Option<Stamp>,
    hash: Option<u64>,
    pub(super) absent: Absent,
}

/// Whether a file has gone. It stays in force for a moment: editors delete a file and create it anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Absent {
    No,
    /// Noticed; the timer that is running was set before.
    Noticed,
    /// To be forgotten when the timer fires.
    Waiting,
}

enum Fault {
    Wrong(Vec<ParseError>),
    Emptied,
    Unreadable(String),
}

impl SourceFile {
    pub(super) fn new(path: &Path, number: u32) -> Self {
        Self {
            name: path.display().to_string().into(),
            number,
            objects: Vec::new(),
            twice: BTreeSet::new(),
            notes: Vec::new(),
            fault: None,
            ever_good: false,
            stamp: None,
            hash: None,
            absent: Absent::No,
        }
    }

    /// The objects of this key: more than one where it is in the file more than once, in their order.
    pub(super) fn objects_of(&self, key: &ObjectKey) -> &[Object] {
        let first = self.objects.partition_point(|object| order(object, key).is_lt());
        let objects = self.objects.get(first..).unwrap_or_default();
        let count = objects.partition_point(|object| order(object, key).is_eq());
        objects.get(..count).unwrap_or_default()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = ObjectKey> {
        self.objects.iter().map(Object::key)
    }

    /// Whether these bytes are the version in force.
    pub(super) fn is_in_force(&self, bytes: &[u8]) -> bool {
        self.fault.is_none() && self.ever_good && self.hash == Some(hash_of(bytes))
    }

    /// Takes the place of the objects that are there, but for those that are the same; `changed` gets the keys of the others.
    fn replace(&mut self, mut objects: Vec<Object>, changed: &mut BTreeSet<ObjectKey>) {
        objects.sort_by(|a, b| order(a, &b.key()));
        objects.shrink_to_fit();
        for object in &mut objects {
            let key = object.key();
            match self.objects_of(&key) {
                [same] if same == object => *object = same.clone(),
                _ => {
                    changed.insert(key);
                }
            }
        }
        let old = std::mem::replace(&mut self.objects, objects);
        changed.extend(old.iter().map(Object::key).filter(|key| self.objects_of(key).is_empty()));
        let pairs = self.objects.windows(2);
        let twice = pairs.filter(|pair| matches!(pair, [a, b] if order(a, &b.key()).is_eq()));
        self.twice = twice.filter_map(|pair| pair.first().map(Object::key)).collect();
        // What is twice in it is chosen anew whatever else is in the file.
        changed.extend(self.twice.iter().cloned());
    }

    /// Takes in what was read, and gives the keys of objects that are others now to `changed`; whether anything about the file is different.
    pub(super) fn take(
        &mut self,
        reading: Reading,
        interner: &mut Interner,
        changed: &mut BTreeSet<ObjectKey>,
    ) -> bool {
        let (stamp, bytes) = match reading {
            Reading::Content { stamp, bytes } => (stamp, bytes),
            Reading::Unreadable(cause) => {
                // To be read again when it is looked at again, whatever its stamp.
                (self.stamp, self.hash) = (None, None);
                let same = matches!(&self.fault, Some(Fault::Unreadable(before)) if *before == cause);
                self.fault = Some(Fault::Unreadable(cause));
                return !same;
            }
        };
        self.stamp = Some(stamp);
        let hash = Some(hash_of(&bytes));
        if self.hash == hash {
            return false;
        }
        self.hash = hash;
        if bytes.is_empty() && !self.objects.is_empty() {
            self.fault = Some(Fault::Emptied);
            return true;
        }
        let parsed = parse_with(&self.name, &bytes, &mut |object| interner.intern(object));
        if parsed.errors.is_empty() {
            (self.notes, self.fault, self.ever_good) = (parsed.notes, None, true);
            self.replace(parsed.objects, changed);
        } else {
            self.fault = Some(Fault::Wrong(parsed.errors));
        }
        true
    }

    /// Whether it has something to say: about itself, or of objects that are in it twice.
    pub(super) fn is_telling(&self) -> bool {
        self.fault.is_some() || !self.notes.is_empty() || !self.twice.is_empty()
    }

    pub(super) fn problems(&self, into: &mut Vec<Problem>) {
        let in_force = if self.ever_good { InForce::LastGood } else { InForce::Nothing };
        let file = || Arc::clone(&self.name);
        match &self.fault {
            None => into.extend(self.notes.iter().cloned().map(Problem::Note)),
            Some(Fault::Wrong(errors)) => {
                into.extend(errors.iter().cloned().map(|error| Problem::Wrong { error, in_force }));
            }
            Some(Fault::Emptied) => into.push(Problem::Emptied { file: file() }),
            Some(Fault::Unreadable(cause)) => {
                into.push(Problem::Unreadable { file: file(), cause: cause.clone(), in_force });
            }
        }
    }
}

/// How an object's key compares to `key`.
fn order(object: &Object, key: &ObjectKey) -> Ordering {
    let meta = object.meta();
    (object.kind(), &meta.namespace, &meta.name).cmp(&(key.kind, &key.namespace, &key.name))
}

fn hash_of(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
