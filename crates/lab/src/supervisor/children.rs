//! Processes of a lab that the supervisor started.

use std::{
    collections::BTreeMap,
    fmt,
    process::Command,
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::{Event, now};
use crate::names::Place;

/// Wait before a process that ended is started again: the first time, and at most. It doubles in between.
pub(super) const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// A process that ran this long ended for a new reason.
const STEADY: Duration = Duration::from_secs(10);
/// Threads only wait; the default of two megabytes each would be address space for nothing.
const STACK: usize = 128 << 10;

/// What a process is for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Owner {
    /// The agent of a node.
    Agent(Arc<str>),
    /// One of the programs of a place.
    Program(Place, usize),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(node) => write!(f, "agent on {node}"),
            Self::Program(place, number) => write!(f, "program {number} of {place}"),
        }
    }
}

/// A process.
pub(super) struct Child {
    number: u64,
    pid: u32,
    started: Instant,
    restarts: u32,
    delay: Duration,
    ended: Arc<OnceLock<String>>,
}

impl Child {
    /// How it ended, if it did.
    pub(super) fn ended(&self) -> Option<&str> {
        self.ended.get().map(String::as_str)
    }

    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) const fn restarts(&self) -> u32 {
        self.restarts
    }
}

/// All of them, by what they are for.
pub(super) struct Children {
    events: mpsc::Sender<Event>,
    by_owner: BTreeMap<Owner, Child>,
    next: u64,
}

impl Children {
    pub(super) const fn new(events: mpsc::Sender<Event>) -> Self {
        Self { events, by_owner: BTreeMap::new(), next: 0 }
    }

    pub(super) fn get(&self, owner: &Owner) -> Option<&Child> {
        self.by_owner.get(owner)
    }

    /// Starts `command`; one that ran for `owner` before is followed no longer, but counts.
    pub(super) fn start(&mut self, owner: Owner, mut command: Command) -> std::io::Result<()> {
        let mut process = command.spawn()?;
        let (number, pid) = (self.next, process.id());
        self.next += 1;
        let ended = Arc::new(OnceLock::new());
        let (said, events) = (Arc::clone(&ended), self.events.clone());
        thread::Builder::new().stack_size(STACK).spawn(move || {
            let how = process.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
            let _ = said.set(how);
            let _ = events.send(Event::Exited(number));
        })?;
        let started = now();
        let (restarts, delay) = match self.by_owner.get(&owner) {
            Some(before) => (before.restarts + 1, before.delay),
            None => (0, FIRST_DELAY),
        };
        self.by_owner.insert(owner, Child { number, pid, started, restarts, delay, ended });
        Ok(())
    }

    /// No longer follows what runs for `owner`.
    pub(super) fn forget(&mut self, owner: &Owner) {
        self.by_owner.remove(owner);
    }

    /// No longer follows any program of `place`.
    pub(super) fn forget_programs(&mut self, place: &Place) {
        self.by_owner.retain(|owner, _| !matches!(owner, Owner::Program(of, _) if of == place));
    }

    /// Whose process `number` was and how long to wait before it is started again. `None` where it is no longer
    /// followed.
    pub(super) fn exited(&mut self, number: u64) -> Option<(Duration, Owner)> {
        let (owner, child) = self.by_owner.iter_mut().find(|(_, child)| child.number == number)?;
        if now().saturating_duration_since(child.started) > STEADY {
            child.delay = FIRST_DELAY;
        }
        let delay = child.delay;
        child.delay = (delay * 2).min(LONGEST_DELAY);
        eprintln!("{owner} (process {}) ended: {}", child.pid, child.ended().unwrap_or_default());
        Some((delay, owner.clone()))
    }
}
